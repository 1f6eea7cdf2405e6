//! The native protocol on the protocol seam: `fanfare_wire::native` over WebSocket, one conversation a connection.
//!
//! Here is what the hub cannot do, having no keys: tickets are sealed and opened, and pushed anew at half their life.

use crate::protocol::{Conversation, Encoded, Message, Place, Protocol, Turn};
use fanfare_hub::{
    ClientId, Command, Connect, Error, ErrorCode, Limits, Now, Proof, Push, Reply, ReplyBody, Request, RequestId,
    Resume, SubOptions, UserId, UserToken,
};
use fanfare_wire::native::{self, ConnectedExtras, ConnectedLimits, Decoded};
use fanfare_wire::ticket::{self, Claims};

/// How long a ticket is good for.
const TICKET_MS: u64 = 3_600_000;
/// What surrounds a payload in a message.
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

    fn open(&self, place: &Place, _turn: &mut Turn) -> Box<dyn Conversation> {
        Box::new(Talk { place: place.clone(), session: None })
    }

    fn encode_push(&self, push: &Push, _now: Now, out: &mut Vec<u8>) -> Encoded {
        native::encode_push(out, push);
        match push {
            Push::Disconnect { reason, .. } => Encoded::Last(*reason),
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
struct Talk {
    place: Place,
    session: Option<Box<Ticketed>>,
}

/// What a ticket is made of, and when the last one was.
struct Ticketed {
    client: ClientId,
    user: Option<UserId>,
    proof: Proof,
    issued_ms: u64,
    expires_ms: u64,
}

impl Conversation for Talk {
    fn message(&mut self, message: Message<'_>, turn: &mut Turn) {
        let Message::Text(text) = message else {
            let problem = "this protocol is spoken in text frames; payloads that are binary go as data64";
            return turn.requests.push(invalid(None, Error::new(ErrorCode::BadRequest, problem)));
        };
        let mut decoded = Vec::new();
        native::decode(text, &native::Limits::from(self.place.limits()), &mut decoded);
        for command in decoded {
            turn.requests.push(match command {
                Decoded::Request(request) => request,
                Decoded::Connect { id, token, ticket, subscribe } => {
                    self.connect(turn.now, id, token, ticket, subscribe)
                }
            });
        }
        let place = &self.place;
        if let Some(session) = self.session.as_mut().filter(|session| session.is_due(turn.now)) {
            let mut out = Vec::new();
            native::encode_ticket(&mut out, &session.seal(place, turn.now));
            turn.answer(Message::Text(std::str::from_utf8(&out).unwrap_or_default()));
        }
    }

    fn encode_reply(&mut self, reply: &Reply, now: Now, out: &mut Vec<u8>) -> Encoded {
        match (&reply.body, &mut self.session) {
            (ReplyBody::Connected(connected), _) => {
                let (client, user, proof) = (connected.client, connected.user.clone(), connected.proof.clone());
                let mut session = Ticketed { client, user, proof, issued_ms: 0, expires_ms: 0 };
                let ticket = session.seal(&self.place, now);
                let limits = ConnectedLimits::from(self.place.limits());
                let extras = ConnectedExtras { ticket: &ticket, features: &[], limits };
                native::encode_reply(out, reply, Some(&extras));
                self.session = Some(Box::new(session));
                return Encoded::Text;
            }
            (ReplyBody::Refreshed { proof, .. }, Some(session)) => {
                session.proof = (**proof).clone();
                session.expires_ms = 0; // the ticket that is out ends with the older token: the next turn brings another
            }
            _ => {}
        }
        native::encode_reply(out, reply, None);
        Encoded::Text
    }
}

impl Talk {
    fn connect(
        &self,
        now: Now,
        id: Option<RequestId>,
        token: Option<UserToken>,
        ticket: Option<Box<str>>,
        subscribe: Vec<SubOptions>,
    ) -> Request {
        // A ticket that is not honoured costs its client no more than a new session.
        let claims = ticket.and_then(|text| {
            let opened = ticket::open(&text, self.place.secret(), now.wall_ms);
            opened.inspect_err(|error| tracing::debug!(error = error.to_string(), "a ticket was not honoured")).ok()
        });
        let claims = claims.filter(|claims| claims.node == self.place.node());
        // It names a session, and proves nothing that the session does not know better.
        let resume: Option<Resume> = claims.as_ref().map(Claims::resume);
        let connect = Connect { token, resume, subscribe, ..Connect::default() };
        Request { id, command: Command::Connect(Box::new(connect)) }
    }
}

impl Ticketed {
    /// Half its life is over, and a new one would live longer.
    fn is_due(&self, now: Now) -> bool {
        let half_ms = self.issued_ms + self.expires_ms.saturating_sub(self.issued_ms) / 2;
        now.wall_ms >= half_ms && self.end(now) > self.expires_ms
    }

    /// Until when a ticket of now is good: never for longer than the token behind it.
    fn end(&self, now: Now) -> u64 {
        self.proof.expires_ms.unwrap_or(u64::MAX).min(now.wall_ms + TICKET_MS)
    }

    fn seal(&mut self, place: &Place, now: Now) -> String {
        self.issued_ms = now.wall_ms;
        self.expires_ms = self.end(now);
        let claims = Claims {
            node: place.node(),
            shard: place.shard(),
            client: self.client,
            user: self.user.clone(),
            issued_ms: now.wall_ms,
            expires_ms: self.expires_ms,
            proof: self.proof.clone(),
        };
        ticket::seal(&claims, place.secret())
    }
}

fn invalid(id: Option<RequestId>, error: Error) -> Request {
    Request { id, command: Command::Invalid(error) }
}

impl std::fmt::Debug for Talk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Talk").finish_non_exhaustive()
    }
}
