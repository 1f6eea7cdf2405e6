//! The two ends of a conversation by polls, as the world keeps them for one connection.
//!
//! At the server's end: the numbers of the answers (`Polls`, the server's own machine), the poll that waits, and the
//! `connect` that waits for its verdict. At the client's end: the answer that it has had last, and the requests that
//! it has not given up. Each judges the other: answers come in the order of their numbers, none is left out, and one
//! that is given again is the same byte for byte.

use fanfare_hub::{Attempt, ClientId, Error, Polls};
use std::collections::BTreeMap;

/// How long a client waits for an answer beyond the time that it allows, in ms.
const PATIENCE_MS: u64 = 1_200;

/// The state of one polled connection.
#[derive(Debug)]
pub(crate) struct Polling {
    /// The attempt of its `connect`, if that has a name.
    pub(crate) attempt: Option<Attempt>,
    /// The body of its `connect`: it is repeated as it is.
    pub(crate) connect: String,
    pub(crate) server: ServerEnd,
    pub(crate) client: ClientEnd,
}

/// What the server's shell keeps.
#[derive(Debug, Default)]
pub(crate) struct ServerEnd {
    pub(crate) polls: Polls,
    pub(crate) waiting: Option<Waiting>,
    /// The request that is answered when the client is let in, or is not.
    pub(crate) connect: Option<u64>,
    pub(crate) verdict: Option<IsLetIn>,
    /// Why it is not.
    pub(crate) refusal: Option<Error>,
    /// The session that it has been given.
    pub(crate) session: Option<ClientId>,
    /// It had a connection, and has none any more.
    pub(crate) is_removed: bool,
    /// The bytes of the answers that were given.
    given: BTreeMap<u64, Vec<u8>>,
}

/// Whether a client was let in.
pub(crate) type IsLetIn = bool;

/// A poll that waits for messages.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Waiting {
    pub(crate) request: u64,
    pub(crate) turn: u64,
    pub(crate) ack: u64,
}

/// What the client keeps.
#[derive(Debug, Default)]
pub(crate) struct ClientEnd {
    /// The last answer that it has had.
    pub(crate) ack: u64,
    /// It has had the answer to its `connect`.
    pub(crate) is_connected: bool,
    /// Requests without an answer, and the time at which the client gives each up.
    asked: BTreeMap<u64, u64>,
}

/// An answer on its way to a client.
#[derive(Debug, Clone)]
pub(crate) enum PollAnswer {
    /// A body.
    Given(String),
    /// The session is over, or not there.
    Gone,
    /// It is refused for another reason: an earlier request, or a client that is not let in.
    Refused,
}

impl Polling {
    pub(crate) fn new(attempt: Option<Attempt>) -> Self {
        let (server, client) = (ServerEnd::default(), ClientEnd::default());
        Polling { attempt, connect: String::new(), server, client }
    }
}

impl ServerEnd {
    /// An answer is given, for the first time or again.
    pub(crate) fn gives(&mut self, n: u64, bytes: &[u8]) -> Result<(), String> {
        let last = self.given.keys().next_back().copied().unwrap_or(self.polls.start());
        match self.given.get(&n) {
            Some(first) if *first != bytes => Err(format!("polls: answer {n} is given again with other bytes")),
            Some(_) if n < last => Err(format!("polls: answer {n} is given again after {last}")),
            Some(_) => Ok(()),
            None if n != last + 1 => Err(format!("polls: answer {n} is given after {last}")),
            None => {
                self.given.insert(n, bytes.to_vec());
                Ok(())
            }
        }
    }
}

impl ClientEnd {
    /// A request is sent, whose answer may take so long.
    pub(crate) fn asks(&mut self, request: u64, now_ms: u64, wait_ms: u64) {
        self.asked.insert(request, now_ms + wait_ms + PATIENCE_MS);
    }

    /// True if it waits for an answer.
    pub(crate) fn is_asking(&mut self, now_ms: u64) -> bool {
        self.asked.retain(|_, until_ms| *until_ms > now_ms);
        !self.asked.is_empty()
    }

    /// An answer comes. True if its client still waits for it.
    pub(crate) fn hears(&mut self, request: u64) -> bool {
        self.asked.remove(&request).is_some()
    }

    /// All requests are lost.
    pub(crate) fn is_cut_off(&mut self) {
        self.asked.clear();
    }

    /// An answer with this number and so many messages. True if they are new.
    pub(crate) fn takes(&mut self, n: u64, is_empty: bool) -> Result<bool, String> {
        if !self.is_connected {
            self.ack = n;
            return Ok(!is_empty);
        }
        match (n.checked_sub(self.ack), is_empty) {
            (Some(0) | None, _) => Ok(false),
            (Some(1), false) => {
                self.ack = n;
                Ok(true)
            }
            _ => Err(format!("polls: the client has had answer {}, and now comes {n}, empty: {is_empty}", self.ack)),
        }
    }
}
