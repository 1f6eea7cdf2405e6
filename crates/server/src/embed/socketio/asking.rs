//! Events that ask for an ack: `emitWithAck` in JavaScript.

use super::args;
use super::sequence::Sending;
use crate::protocol::socketio::AckArgs;
use fanfare_hub::Error;
use serde::de::DeserializeOwned;
use std::future::IntoFuture;
use std::marker::PhantomData;
use std::pin::Pin;
use std::time::Duration;
use tokio::sync::oneshot;

/// The time for an ack, unless the program sets another: less than a handler has.
const TIMEOUT: Duration = Duration::from_secs(4);

/// Why there is no ack.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AckError {
    /// None came in time.
    #[error("no ack came within {0:?}")]
    Timeout(Duration),
    /// The socket has left, or too many acks are open for it.
    #[error("the socket has left before it sent an ack")]
    Disconnected,
    /// An ack came, and its arguments are not of the type.
    #[error("the ack has other arguments: {0}")]
    Arguments(String),
    /// The event was not sent.
    #[error("the event was not sent: {0}")]
    NotSent(Error),
}

/// An event that was sent and asks for an ack. Awaiting it waits for the ack, at most for 4 s or for
/// [`timeout`](Self::timeout) from then on. The event is sent at once, whether it is awaited or not.
#[must_use = "without an await the ack is not looked at"]
pub struct Asking<R> {
    sending: Sending,
    answered: oneshot::Receiver<AckArgs>,
    timeout: Duration,
    answer: PhantomData<fn() -> R>,
}

impl<R> Asking<R> {
    pub(super) fn new(sending: Sending, answered: oneshot::Receiver<AckArgs>) -> Self {
        Asking { sending, answered, timeout: TIMEOUT, answer: PhantomData }
    }

    /// Waits so long for the ack.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }
}

impl<R: DeserializeOwned + Send + 'static> IntoFuture for Asking<R> {
    type Output = Result<R, AckError>;
    type IntoFuture = Pin<Box<dyn Future<Output = Result<R, AckError>> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move {
            self.sending.result().map_err(AckError::NotSent)?;
            match tokio::time::timeout(self.timeout, self.answered).await {
                Ok(Ok(AckArgs { json, attachments })) => {
                    args::read(&json, &attachments).map_err(|error| AckError::Arguments(error.to_string()))
                }
                Ok(Err(_)) => Err(AckError::Disconnected),
                Err(_) => Err(AckError::Timeout(self.timeout)),
            }
        })
    }
}
