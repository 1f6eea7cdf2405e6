//! A chat client: it joins rooms, says something, types, leaves, and joins again when it is cut off or not answered.
//!
//! It knows what its socket tells it, and which of its joins a `room_state` answers: the world tells it that.

use super::Say;
use crate::chances::pick_of;
use crate::client::Numbers;
use crate::plan::Plan;
use fanfare_hub::{Rng, UserId};

/// So long a client waits for the `room_state` before it joins again.
const STATE_MS: u64 = 2_500;
/// So often it does before it connects anew.
const JOINS_MAX: u32 = 3;

/// An action of a chat client.
#[derive(Debug)]
pub(crate) enum ChatAct {
    Say(Say),
    Close { finally: bool },
}

#[derive(Debug)]
pub(crate) struct ChatClient {
    pub(crate) pipe: Option<usize>,
    /// The user that the server knows it to be, whatever name it gives.
    pub(crate) user: Option<UserId>,
    user_id: String,
    username: String,
    /// The room that it has joined last; the outer `None`: none.
    room: Option<Option<String>>,
    /// It has had the `room_state` that answers its last join.
    pub(crate) is_in: bool,
    joined_ms: u64,
    /// Joins in a row without an answer.
    joins: u32,
    /// All joins that it has sent on this connection.
    sent: u64,
    pub(crate) retry_ms: u64,
    pub(crate) heard_ms: u64,
}

impl ChatClient {
    pub(crate) fn new(rng: &mut Rng) -> Self {
        let user = (rng.below(3) == 0).then(|| UserId(format!("userc{}", rng.below(2)).into()));
        let mut client = ChatClient {
            pipe: None,
            user,
            user_id: String::new(),
            username: String::new(),
            room: None,
            is_in: false,
            joined_ms: 0,
            joins: 0,
            sent: 0,
            retry_ms: 0,
            heard_ms: 0,
        };
        client.choose_name(rng);
        client
    }

    /// Several clients are one person, and some claim to be a user.
    fn choose_name(&mut self, rng: &mut Rng) {
        let long = "w".repeat(200);
        let ids = ["ann", "ann", "bob", "userc0", &long];
        let names = ["Ann", "Bob", "Zoë", "\\ud83d", &long];
        self.user_id = pick_of(rng, &ids).map_or_else(String::new, |id| (*id).to_owned());
        self.username = pick_of(rng, &names).map_or_else(String::new, |name| (*name).to_owned());
    }

    /// It has opened a connection.
    pub(crate) fn opened(&mut self, pipe: usize, now_ms: u64) {
        (self.pipe, self.heard_ms, self.is_in, self.joins) = (Some(pipe), now_ms, false, 0);
        (self.room, self.joined_ms, self.sent) = (None, now_ms, 0);
    }

    /// The connection is gone.
    pub(crate) fn closed(&mut self, now_ms: u64, rng: &mut Rng) {
        (self.pipe, self.is_in, self.room) = (None, false, None);
        self.retry_ms = now_ms + 20 + rng.below(400);
    }

    /// It reads a text, which may be the `room_state` that answers one of its joins, by its number. A `room_state` that
    /// answers none is of the room of an earlier join: its client was slow.
    pub(crate) fn reads(&mut self, now_ms: u64, answers: Option<u64>) {
        self.heard_ms = now_ms;
        if answers == Some(self.sent) {
            (self.is_in, self.joins) = (self.room.is_some(), 0);
        }
    }

    fn join(&mut self, now_ms: u64, rng: &mut Rng, plan: &Plan, is_calm: bool) -> ChatAct {
        let rooms: Vec<&str> = plan.channels.iter().filter_map(|channel| channel.strip_prefix("chat:")).collect();
        let room = pick_of(rng, &rooms).map(|room| (*room).to_owned());
        let room = room.filter(|_| rng.below(8) > 0);
        if rng.below(4) == 0 {
            self.choose_name(rng);
        }
        // It tries the same room again, and with patience: the one before may be answered late.
        let room = match self.room.take() {
            Some(same) if is_calm => same,
            _ => room,
        };
        (self.room, self.is_in, self.joined_ms) = (Some(room.clone()), false, now_ms);
        (self.joins, self.sent) = (self.joins + 1, self.sent + 1);
        ChatAct::Say(Say::Join { user_id: self.user_id.clone(), username: self.username.clone(), room })
    }

    /// It joins as soon as its socket is open, and does not wait until the server knows who it is; or later.
    pub(crate) fn greets(&mut self, now_ms: u64, rng: &mut Rng, plan: &Plan, is_calm: bool) -> Option<ChatAct> {
        (rng.below(2) == 0).then(|| self.join(now_ms, rng, plan, is_calm))
    }

    /// What it does now.
    pub(crate) fn acts(
        &mut self,
        now_ms: u64,
        rng: &mut Rng,
        numbers: &mut Numbers,
        plan: &Plan,
        is_calm: bool,
    ) -> Vec<ChatAct> {
        let silence_max_ms = 2 * plan.limits.heartbeat_ms + 500;
        if now_ms > self.heard_ms + silence_max_ms {
            return vec![ChatAct::Close { finally: false }];
        }
        if self.room.is_some() && !self.is_in && now_ms > self.joined_ms + STATE_MS {
            return match self.joins {
                JOINS_MAX.. => vec![ChatAct::Close { finally: rng.below(2) == 0 }],
                _ => vec![self.join(now_ms, rng, plan, is_calm)],
            };
        }
        match self.room {
            None if is_calm || rng.below(3) == 0 => vec![self.join(now_ms, rng, plan, is_calm)],
            // Its messages before its first join, and after it has left, are for nobody.
            _ if is_calm || self.room.is_none() && rng.below(6) > 0 => Vec::new(),
            _ => {
                let many = if rng.below(40) == 0 { rng.below(20) } else { 1 };
                (0..many).map_while(|_| self.act(now_ms, rng, numbers, plan)).collect()
            }
        }
    }

    fn act(&mut self, now_ms: u64, rng: &mut Rng, numbers: &mut Numbers, plan: &Plan) -> Option<ChatAct> {
        Some(match rng.below(40) {
            0..=15 => ChatAct::Say(Say::Message { content: content(rng, numbers, plan.payload_max) }),
            16..=22 => {
                let content = content(rng, numbers, 10);
                ChatAct::Say(Say::Typing { content: (rng.below(6) > 0).then_some(content) })
            }
            23 => {
                (self.room, self.is_in) = (None, false);
                ChatAct::Say(Say::Leave)
            }
            24 | 25 => self.join(now_ms, rng, plan, false),
            26 if plan.rude => bad(rng),
            27 if rng.below(12) == 0 => {
                // With the names it is more than a message may have, or not.
                let bytes = plan.limits.message_bytes_max - rng.below(600) as usize;
                ChatAct::Say(Say::Message { content: format!("\"{} {}\"", numbers.take(), "z".repeat(bytes)) })
            }
            28 if plan.rude && rng.below(6) == 0 => {
                ChatAct::Say(Say::TooLarge { bytes: plan.limits.message_bytes_max })
            }
            29 if rng.below(8) == 0 => ChatAct::Close { finally: rng.below(3) == 0 },
            _ => return None,
        })
    }
}

/// A JSON string that begins with a number of its own.
fn content(rng: &mut Rng, numbers: &mut Numbers, pad_max: u64) -> String {
    let ends = ["", "", "", "\\ud83d", "\\\"q\\\"", "é😀", "\\\\"];
    let end = pick_of(rng, &ends).copied().unwrap_or_default();
    format!("\"{} {}{end}\"", numbers.take(), "x".repeat(rng.below(pad_max) as usize))
}

/// What no chat client sends, and why it is ignored.
fn bad(rng: &mut Rng) -> ChatAct {
    let long = "n".repeat(257);
    let join = |fields: &str| format!("{{\"type\":\"join\",{fields}}}");
    let texts = [
        ("hello".to_owned(), "not_json"),
        ("[1]".to_owned(), "not_json"),
        ("{\"type\":\"message\",\"content\":\"\\x\"}".to_owned(), "not_json"),
        ("{\"type\":5}".to_owned(), "unknown_type"),
        ("{\"content\":\"x\"}".to_owned(), "unknown_type"),
        ("{\"type\":\"shout\"}".to_owned(), "unknown_type"),
        ("{\"type\":\"message\"}".to_owned(), "missing_field"),
        (join("\"userId\":\"a\""), "missing_field"),
        (join("\"userId\":7,\"username\":\"n\""), "missing_field"),
        (join("\"userId\":\"a\",\"userId\":\"b\",\"username\":\"n\""), "duplicate_field"),
        (join("\"userId\":\"\\ud83d\",\"username\":\"n\""), "not_unicode"),
        (join("\"userId\":\"\",\"username\":\"n\""), "name_length"),
        (join(&format!("\"userId\":\"a\",\"username\":\"{long}\"")), "name_length"),
        (join("\"userId\":\"a\",\"username\":\"n\",\"roomId\":\"\""), "room_name"),
        (join(&format!("\"userId\":\"a\",\"username\":\"n\",\"roomId\":\"{long}\"")), "room_name"),
    ];
    let (text, cause) = pick_of(rng, &texts).cloned().unwrap_or_default();
    ChatAct::Say(Say::Bad { text, cause })
}
