//! The native protocol on the protocol seam: `fanfare_wire::native` over WebSocket, one conversation a connection.
//!
//! Here is what the hub cannot do, having no keys: tickets are sealed and opened, and pushed anew at half their life.

use crate::protocol::{Actions, Conversation, Encoded, Message, Place, Protocol};
use crate::request::RequestInfo;
use fanfare_hub::{
    ClientId, Command, Connect, Error, ErrorCode, Limits, Now, Push, Reply, ReplyBody, Request, RequestId, Resume,
};
use fanfare_wire::native::{self, ConnectedExtras, ConnectedLimits, Decoded};
use fanfare_wire::ticket::{self, Claims};
use std::sync::Arc;

/// How long a ticket is good for.
const TICKET_MS: u64 = 3_600_000;
/// Room for the other fields of a message with a payload.
const ENVELOPE_BYTES: usize = 8 << 10;

/// The native protocol: channels with history, recovery, presence and signals.
#[derive(Debug, Clone, Copy)]
pub struct Native {
    heartbeat_ms: u32,
    grace_ms: u32,
}

impl Default for Native {
    /// Heartbeats every 25 s; a session outlives its connection by 10 s.
    fn default() -> Self {
        Native { heartbeat_ms: 25_000, grace_ms: 10_000 }
    }
}

impl Native {
    /// Pings so often; a client that gives no sign of life until the next one is closed.
    #[must_use]
    pub fn heartbeat_ms(self, heartbeat_ms: u32) -> Self {
        Native { heartbeat_ms, ..self }
    }

    /// How long a session outlives its connection.
    #[must_use]
    pub fn grace_ms(self, grace_ms: u32) -> Self {
        Native { grace_ms, ..self }
    }
}

impl Protocol for Native {
    fn name(&self) -> &'static str {
        "native"
    }

    fn open(
        &self,
        place: &Place,
        _request: Option<&Arc<RequestInfo>>,
        _actions: &mut Actions,
    ) -> Box<dyn Conversation> {
        Box::new(NativeConversation { place: place.clone(), session: None })
    }

    fn encode_push(&self, push: &Push, _now: Now, out: &mut Vec<u8>) -> Encoded {
        native::encode_push(out, push);
        match push {
            Push::Disconnect { reason, .. } => Encoded::Last(*reason),
            Push::Mark { .. } | Push::Volatile { .. } => Encoded::Nothing,
            _ => Encoded::Text,
        }
    }

    fn subprotocol(&self) -> Option<&'static str> {
        Some(native::PROTOCOL)
    }

    fn message_bytes_max(&self, limits: &Limits) -> usize {
        limits.message_bytes_max.div_ceil(3) * 4 + ENVELOPE_BYTES // a payload may come as base64
    }

    fn grace_ms(&self) -> u32 {
        self.grace_ms
    }

    fn heartbeat_ms(&self) -> u32 {
        self.heartbeat_ms
    }
}

/// One connection.
struct NativeConversation {
    place: Place,
    session: Option<Ticketed>,
}

/// The client of its tickets, and the end of the last one.
struct Ticketed {
    client: ClientId,
    expires_ms: u64,
}

impl Conversation for NativeConversation {
    fn message(&mut self, message: Message<'_>, actions: &mut Actions) {
        let Message::Text(text) = message else {
            let problem = "this protocol uses text frames; send binary payloads as data64";
            return actions.requests.push(invalid(None, Error::new(ErrorCode::BadRequest, problem)));
        };
        let mut decoded = Vec::new();
        native::decode(text, &native::Limits::from(self.place.limits()), &mut decoded);
        for command in decoded {
            actions.requests.push(match command {
                Decoded::Request(request) => request,
                Decoded::Connect { id, token, ticket, page, ack, subscribe } => {
                    let resume = ticket.and_then(|ticket| self.resume(actions.now, &ticket));
                    let connect = Connect { token, resume, page, ack, subscribe, ..Connect::default() };
                    Request { id, command: Command::Connect(Box::new(connect)) }
                }
            });
        }
        let place = &self.place;
        if let Some(session) = self.session.as_mut().filter(|session| session.is_due(actions.now)) {
            let mut out = Vec::new();
            native::encode_ticket(&mut out, &session.seal(place, actions.now));
            actions.answer(Message::written(&out));
        }
    }

    fn encode_reply(&mut self, reply: &Reply, now: Now, out: &mut Vec<u8>) -> Encoded {
        if let ReplyBody::Connected(connected) = &reply.body {
            let mut session = Ticketed { client: connected.client, expires_ms: 0 };
            let ticket = session.seal(&self.place, now);
            let limits = ConnectedLimits::from(self.place.limits());
            let extras = ConnectedExtras { ticket: &ticket, features: &[], limits };
            native::encode_reply(out, reply, Some(&extras));
            self.session = Some(session);
            return Encoded::Text;
        }
        native::encode_reply(out, reply, None);
        Encoded::Text
    }
}

impl NativeConversation {
    /// The session of a ticket. With an invalid ticket the client gets a new session.
    fn resume(&self, now: Now, ticket: &str) -> Option<Resume> {
        open_ticket(&self.place, now, ticket).map(Claims::resume)
    }
}

/// Opens a ticket. `None`: it is not one of this run of the node, or expired.
pub(crate) fn open_ticket(place: &Place, now: Now, ticket: &str) -> Option<Claims> {
    let opened = ticket::open(ticket, place.secret(), now.wall_ms);
    let claims =
        opened.inspect_err(|error| tracing::debug!(error = error.to_string(), "a ticket was not honoured")).ok()?;
    (claims.node == place.node()).then_some(claims)
}

/// Seals a ticket anew if half its life is over. Its session must be alive.
pub(crate) fn renew_ticket(place: &Place, now: Now, claims: Claims) -> Option<String> {
    let Claims { client, expires_ms, .. } = claims;
    let renewed = Claims { expires_ms: now.wall_ms + TICKET_MS, ..claims };
    Ticketed { client, expires_ms }.is_due(now).then(|| ticket::seal(&renewed, place.secret()))
}

impl Ticketed {
    /// Half its life is over. The wall clock may jump: one that seems to live longer than it can is due too.
    fn is_due(&self, now: Now) -> bool {
        let left_ms = self.expires_ms.saturating_sub(now.wall_ms);
        left_ms <= TICKET_MS / 2 || left_ms > TICKET_MS
    }

    fn seal(&mut self, place: &Place, now: Now) -> String {
        self.expires_ms = now.wall_ms + TICKET_MS;
        let claims =
            Claims { node: place.node(), shard: place.shard(), client: self.client, expires_ms: self.expires_ms };
        ticket::seal(&claims, place.secret())
    }
}

fn invalid(id: Option<RequestId>, error: Error) -> Request {
    Request { id, command: Command::Invalid(error) }
}

impl std::fmt::Debug for NativeConversation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NativeConversation").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::Node;
    use fanfare_hub::ShardId;

    fn place(id: u64) -> Place {
        Place::new(Arc::new(Node { id, secret: [7; 32], limits: Limits::default() }), ShardId(0))
    }

    fn at(wall_ms: u64) -> Now {
        Now { mono_ms: 0, wall_ms }
    }

    #[test]
    fn a_ticket_is_renewed_from_half_its_life_on_and_opened_by_the_node_that_sealed_it() {
        let mut session = Ticketed { client: ClientId(5), expires_ms: 0 };
        let ticket = session.seal(&place(1), at(1_000));
        let claims = open_ticket(&place(1), at(2_000), &ticket).expect("a valid ticket");
        assert_eq!(open_ticket(&place(2), at(2_000), &ticket), None, "it is of another run");
        assert_eq!(open_ticket(&place(1), at(1_000 + TICKET_MS), &ticket), None, "it is over");
        let half = 1_000 + TICKET_MS / 2;
        assert_eq!(renew_ticket(&place(1), at(half - 1), claims), None);
        let renewed = renew_ticket(&place(1), at(half), claims).expect("a new one");
        let again = open_ticket(&place(1), at(1_000 + TICKET_MS), &renewed).expect("it lives longer");
        assert_eq!((again.resume(), again.expires_ms), (claims.resume(), half + TICKET_MS));
    }
}
