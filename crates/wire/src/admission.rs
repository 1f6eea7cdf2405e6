//! Whether the client of a stream or of polls is let in: its request is answered when that is decided.
//!
//! In: the replies of the hub to the connection, and its end. Out: one [`Admission`]. A refusal that lasts becomes the
//! status of the answer. One that will pass must not: `EventSource` gives up for good at any status but 200.

use fanfare_hub::{Disconnect, Error, ErrorCode, ReplyBody};

/// The reply of the hub that tells whether a client is let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AdmissionReply {
    /// To its `connect`.
    Connected,
    /// To its subscriptions too.
    Subscribed,
}

/// A connection whose client is not let in yet.
#[derive(Debug)]
pub struct Opening {
    admitted_by: AdmissionReply,
    verdict: Option<Admission>,
}

/// Whether a client is let in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Admission {
    /// It is.
    Admitted,
    /// It is not.
    Refused(Error),
    /// Its connection was ended before it was let in.
    Ended(Disconnect),
}

impl Opening {
    /// One that waits for this reply.
    pub fn new(admitted_by: AdmissionReply) -> Self {
        Opening { admitted_by, verdict: None }
    }

    /// The hub replies.
    pub fn judge(&mut self, reply: &ReplyBody) {
        let verdict = match (self.admitted_by, reply) {
            _ if self.verdict.is_some() => return,
            (_, ReplyBody::Error(error)) => Admission::Refused(error.clone()),
            (AdmissionReply::Connected, ReplyBody::Connected(_)) => Admission::Admitted,
            (AdmissionReply::Subscribed, ReplyBody::Many(bodies)) => {
                let refused = bodies.iter().find_map(|body| match body {
                    ReplyBody::Error(error) => Some(error.clone()),
                    _ => None,
                });
                refused.map_or(Admission::Admitted, Admission::Refused)
            }
            _ => return,
        };
        self.verdict = Some(verdict);
    }

    /// The connection ends.
    pub fn end(&mut self, reason: Disconnect) {
        self.verdict.get_or_insert(Admission::Ended(reason));
    }

    /// The verdict, once it is there.
    pub fn take(&mut self) -> Option<Admission> {
        self.verdict.take()
    }
}

impl Admission {
    /// The refusal of a client that is not let in. A connection that has ended otherwise says so itself, in its
    /// protocol's words.
    pub fn refusal(self) -> Option<Error> {
        match self {
            Admission::Refused(error) => Some(error),
            Admission::Ended(Disconnect::Unauthorized) => {
                Some(Error::new(ErrorCode::Unauthorized, "the token is missing, wrong, expired or revoked"))
            }
            Admission::Ended(Disconnect::Kicked) => {
                Some(Error::new(ErrorCode::Denied, "the application disconnected this client"))
            }
            Admission::Admitted | Admission::Ended(_) => None,
        }
    }
}
