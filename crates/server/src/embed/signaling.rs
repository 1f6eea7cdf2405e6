//! Builds one signal of the application: `hub.signal(channel, "typing", &data).to(client).await`.
//!
//! In: a channel, an event and a payload, checked at once; then its options. Out: the hub's command when it is
//! awaited.

use super::handle::{Handle, done, name, to_json};
use fanfare_hub::{AppCommand, ClientId, Error, Signal};
use serde::Serialize;
use std::pin::Pin;

/// A signal that is sent when it is awaited; see [`Handle::signal`].
#[must_use = "a signal is sent when it is awaited"]
#[derive(Debug)]
pub struct Signaling<'a> {
    handle: &'a Handle,
    /// A problem with the channel or the payload is returned when it is awaited.
    signal: Result<Signal, Error>,
}

impl<'a> Signaling<'a> {
    pub(super) fn json<T: Serialize + ?Sized>(handle: &'a Handle, channel: &str, event: &str, data: &T) -> Self {
        let signal = name(channel).and_then(|channel| {
            let data = to_json(&channel, data)?.bytes().clone();
            Ok(Signal { channel, event: event.into(), data, to: None })
        });
        Signaling { handle, signal }
    }

    /// For this client alone, which must be subscribed: otherwise the result is `not_found`. Such signals arrive in
    /// their order, and a newer one does not replace an older one.
    pub fn to(mut self, client: ClientId) -> Self {
        if let Ok(signal) = &mut self.signal {
            signal.to = Some(client);
        }
        self
    }
}

impl<'a> IntoFuture for Signaling<'a> {
    type Output = Result<(), Error>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send + 'a>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move { done(self.handle.put(AppCommand::Signal(Box::new(self.signal?))).await) })
    }
}
