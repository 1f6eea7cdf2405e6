//! The application's way into a running server: publish, ask, signal, subscribe others, disconnect.
//!
//! A [`Handle`] is cheap to clone, and works from any thread and runtime. What it asks runs on a shard, which takes the
//! command to the channel's home; the answer comes back to whoever awaits it.

use crate::shard::Control;
use fanfare_hub::{AppAnswer, AppCommand, Error, ErrorCode};
use std::sync::Arc;
use tokio::sync::mpsc::UnboundedSender;
use tokio::sync::oneshot;

/// See the module's description.
#[derive(Clone)]
pub struct Handle {
    controls: Arc<[UnboundedSender<Control>]>,
}

impl Handle {
    pub(crate) fn new(controls: Vec<UnboundedSender<Control>>) -> Self {
        Handle { controls: controls.into() }
    }

    pub(crate) fn controls(&self) -> &[UnboundedSender<Control>] {
        &self.controls
    }

    /// Asks one thing, in the vocabulary of the hub.
    pub async fn ask(&self, command: AppCommand) -> AppAnswer {
        let gone = |_| AppAnswer::Error(Error::new(ErrorCode::Unavailable, "the server has stopped"));
        self.begin(command).await.unwrap_or_else(gone)
    }

    /// Asks one thing; where nobody is left to answer, what comes is the end.
    pub(crate) fn begin(&self, command: AppCommand) -> oneshot::Receiver<AppAnswer> {
        let (answer, answered) = oneshot::channel();
        let _ = self.controls[0].send(Control::App(command, answer)); // a shard that has ended drops it
        answered
    }
}

impl std::fmt::Debug for Handle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Handle").field("shards", &self.controls.len()).finish()
    }
}
