//! Events that ask for an ack: `emitWithAck` in JavaScript.
//!
//! The server forgets a question when its asker does: at the end of its time, which [`Asking::timeout`] may still
//! change, or when the asker is dropped. So handlers that give up leave nothing behind.

use super::args::{self, NotArgs};
use super::places::while_clients_answer;
use super::sequence::{Sending, Sequence};
use crate::protocol::socketio::{AckArgs, AskKey, Operation, Payload};
use fanfare_hub::{Answers, Audience, Error};
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
    open: Open,
    timeout: Duration,
    answer: PhantomData<fn() -> R>,
}

impl<R> Asking<R> {
    pub(super) fn new(sequence: &Sequence, payload: Result<Payload, NotArgs>) -> Self {
        let (to, answered) = oneshot::channel();
        let key = AskKey::new();
        let sending = sequence.put_made(payload.map(|payload| Operation::Ask(key, payload, millis(TIMEOUT), to)));
        let open = Open { sequence: sequence.clone(), key, is_answered: false };
        Asking { sending, answered, open, timeout: TIMEOUT, answer: PhantomData }
    }

    /// Waits so long for the ack.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        if self.timeout != timeout {
            self.open.wait(millis(timeout));
        }
        self.timeout = timeout;
        self
    }
}

/// A question that the server knows. Dropped without its answers, it is forgotten there too.
struct Open {
    sequence: Sequence,
    key: AskKey,
    is_answered: bool,
}

impl Open {
    /// The server waits for acks so many ms from now on.
    fn wait(&self, timeout_ms: u64) {
        drop(self.sequence.put(Operation::AskUntil(self.key, timeout_ms)));
    }

    /// Nobody waits any more.
    fn end(mut self, is_answered: bool) {
        self.is_answered = is_answered;
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        if !self.is_answered {
            self.wait(0);
        }
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// The acks of several sockets, as far as they came in time.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Acks<R> {
    /// In the order in which they came.
    pub answers: Vec<R>,
    /// How many sockets were asked.
    pub asked: u64,
    /// How many of them have left without an ack.
    pub left: u64,
    /// How many acks had arguments of another type.
    pub invalid: u64,
}

/// An event to several sockets that asks for acks. It is sent when it is awaited, which waits until every socket has
/// answered or left, at most for 4 s or for [`timeout`](Self::timeout).
#[must_use = "the event is sent when this is awaited"]
pub struct AskingAll<R> {
    sequence: Sequence,
    made: Result<(Payload, Audience), Sending>,
    timeout: Duration,
    answer: PhantomData<fn() -> R>,
}

impl<R> AskingAll<R> {
    pub(super) fn new(sequence: Sequence, payload: Result<Payload, NotArgs>, audience: Audience) -> Self {
        let made = payload.map(|payload| (payload, audience)).map_err(|problem| sequence.put_made(Err(problem)));
        AskingAll { sequence, made, timeout: TIMEOUT, answer: PhantomData }
    }

    pub(super) fn failed(sequence: Sequence, error: Error) -> Self {
        let made = Err(sequence.refused(error));
        AskingAll { sequence, made, timeout: TIMEOUT, answer: PhantomData }
    }

    /// Waits so long for the acks.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }
}

impl<R: DeserializeOwned + Send + 'static> IntoFuture for AskingAll<R> {
    type Output = Result<Acks<R>, AckError>;
    type IntoFuture = Pin<Box<dyn Future<Output = Result<Acks<R>, AckError>> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        let (to, answers) = oneshot::channel();
        let (key, timeout_ms) = (AskKey::new(), millis(self.timeout));
        let on_answers = Box::new(move |answers| drop(to.send(answers))); // nobody may wait any more
        let sending = match self.made {
            Ok((payload, audience)) => {
                self.sequence.put(Operation::AskAll(key, payload, audience, timeout_ms, on_answers))
            }
            Err(sending) => sending,
        };
        let open = Open { sequence: self.sequence, key, is_answered: false };
        Box::pin(async move {
            sending.result().map_err(AckError::NotSent)?;
            let answers = while_clients_answer(answers).await.map_err(|_| AckError::Disconnected)?; // the server has stopped
            open.end(true);
            let Answers { answers, asked, left, .. } = answers.map_err(AckError::NotSent)?;
            let mut acks = Acks { answers: Vec::with_capacity(answers.len()), asked, left, invalid: 0 };
            for (_, data) in &answers {
                let AckArgs { json, attachments } = AckArgs::of(data);
                match args::read(&json, &attachments) {
                    Ok(answer) => acks.answers.push(answer),
                    Err(_) => acks.invalid += 1,
                }
            }
            Ok(acks)
        })
    }
}

impl<R: DeserializeOwned + Send + 'static> IntoFuture for Asking<R> {
    type Output = Result<R, AckError>;
    type IntoFuture = Pin<Box<dyn Future<Output = Result<R, AckError>> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        let Asking { sending, answered, open, timeout, .. } = self;
        Box::pin(async move {
            sending.result().map_err(AckError::NotSent)?;
            let answered = while_clients_answer(tokio::time::timeout(timeout, answered)).await;
            open.end(answered.is_ok());
            match answered {
                Ok(Ok(AckArgs { json, attachments })) => {
                    args::read(&json, &attachments).map_err(|error| AckError::Arguments(error.to_string()))
                }
                Ok(Err(_)) => Err(AckError::Disconnected),
                Err(_) => Err(AckError::Timeout(timeout)),
            }
        })
    }
}
