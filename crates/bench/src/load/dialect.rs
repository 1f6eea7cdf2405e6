//! The messages of the load generator to a server, and the answers that it recognises.
//!
//! The chat in plain JSON over WebSocket (Fanfare, Bun, `ws`, the floor), the same chat as Socket.IO events, and the
//! part of the native protocol that is comparable with a chat: a room is a channel there. Answers are recognised, not
//! parsed: the generator shares the machine with the server, so it searches each frame for one needle only. The content
//! matters, and is then checked byte by byte.

use std::fmt::Write as _;

use memchr::memmem;

use super::centrifugo::{self, Reply};
use super::check::CONTENT_LEN;
use super::native::{self, Heard};

/// The protocol of a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    /// JSON messages with a `type`, one per WebSocket message.
    Chat,
    /// Socket.IO 5 in Engine.IO 4, websocket transport only.
    SocketIo,
    /// The same with the events that Fanfare has built in.
    Rooms,
    /// Engine.IO 4; the suite speaks Socket.IO by itself.
    Engine,
    /// Fanfare's native protocol, version 1.
    Native,
    /// Centrifugo's client protocol in JSON.
    Centrifugo,
}

/// The kinds of messages from a server that the benchmark distinguishes.
#[derive(Debug, PartialEq, Eq)]
pub enum Said<'a> {
    /// A chat message with exactly our length of content.
    Message(&'a [u8]),
    /// A join of another client.
    Join,
    /// The newcomer's welcome: its join is complete. In the native protocol: it is subscribed.
    RoomState,
    /// Anything else.
    Other,
}

impl Dialect {
    /// The request target of the upgrade.
    pub fn target(self) -> &'static str {
        match self {
            Self::Chat => "/",
            Self::SocketIo | Self::Rooms | Self::Engine => "/socket.io/?EIO=4&transport=websocket",
            Self::Native => native::TARGET,
            Self::Centrifugo => centrifugo::TARGET,
        }
    }

    /// Whether Engine.IO is below it.
    pub fn is_socketio(self) -> bool {
        matches!(self, Self::SocketIo | Self::Rooms | Self::Engine)
    }

    /// The subprotocol to ask for.
    pub fn subprotocol(self) -> Option<&'static str> {
        (self == Self::Native).then_some(native::SUBPROTOCOL)
    }

    /// Appends a client's join.
    pub fn join(self, user: &str, room: &str, out: &mut String) {
        let head = match self {
            Self::Chat => r#"{"type":"join","#,
            Self::SocketIo => r#"42["join",{"#,
            Self::Rooms | Self::Engine => {
                let _ = write!(out, r#"42["join-room","{room}"]"#);
                return;
            }
            Self::Native => return native::connect(None, Some((room, None)), out),
            Self::Centrifugo => return centrifugo::connect(room, None, out),
        };
        let tail = self.tail();
        // Writing to a String cannot fail.
        let _ = write!(out, r#"{head}"userId":"{user}","username":"{user}","roomId":"{room}","timestamp":0}}{tail}"#);
    }

    /// Appends a client's message number `seq`. In a chat it is as long as the server's message, so that the floor,
    /// which passes on these bytes, sends frames of the same size as the servers. For the native protocol see
    /// [`native::message`].
    pub fn message(self, user: &str, room: &str, seq: u64, content: &str, out: &mut String) {
        let head = match self {
            Self::Chat => r#"{"type":"message","#,
            Self::SocketIo => r#"42["message",{"#,
            Self::Rooms | Self::Engine => {
                let _ = write!(out, r#"42["message",{{"content":"{content}"}}]"#);
                return;
            }
            Self::Native => return native::publish(seq, room, content, out),
            Self::Centrifugo => return centrifugo::publish(seq, room, content, out),
        };
        let tail = self.tail();
        let _ = write!(
            out,
            r#"{head}"userId":"{user}","username":"{user}","content":"{content}","timestamp":1700000000000}}{tail}"#
        );
    }

    /// Appends a message for an echo server.
    pub fn echo(self, content: &str, out: &mut String) {
        match self {
            Self::Chat | Self::Native | Self::Centrifugo => out.push_str(content),
            Self::SocketIo | Self::Rooms | Self::Engine => {
                let _ = write!(out, r#"42["echo","{content}"]"#);
            }
        }
    }

    /// Recognises a message from a server.
    pub fn read(self, payload: &[u8]) -> Said<'_> {
        const CONTENT: &[u8] = br#""content":""#;
        match self {
            Self::Native => {
                return match native::read(payload) {
                    Heard::Message(entry) => Said::Message(entry.content),
                    Heard::Subscribed { .. } => Said::RoomState,
                    _ => Said::Other,
                };
            }
            Self::Centrifugo => {
                return match centrifugo::read(payload) {
                    Reply::Publication(entry) => Said::Message(entry.content),
                    Reply::Subscribed { .. } => Said::RoomState,
                    _ => Said::Other,
                };
            }
            Self::Chat if memmem::find(payload, br#""type":"message""#).is_some() => {}
            Self::Chat if memmem::find(payload, br#""type":"join""#).is_some() => return Said::Join,
            Self::Chat if memmem::find(payload, br#""type":"room_state""#).is_some() => return Said::RoomState,
            Self::SocketIo | Self::Rooms | Self::Engine if payload.starts_with(br#"42["message","#) => {}
            Self::Rooms | Self::Engine if payload.starts_with(br#"42["user-joined","#) => return Said::Join,
            Self::SocketIo if payload.starts_with(br#"42["join","#) => return Said::Join,
            Self::SocketIo if payload.starts_with(br#"42["room_state","#) => return Said::RoomState,
            _ => return Said::Other,
        }
        let Some(start) = memmem::find(payload, CONTENT).map(|at| at + CONTENT.len()) else { return Said::Other };
        let end = start + CONTENT_LEN;
        if payload.get(end) != Some(&b'"') {
            return Said::Message(&payload[start..]); // of another length: the check will report damage
        }
        Said::Message(&payload[start..end])
    }

    fn tail(self) -> &'static str {
        match self {
            Self::SocketIo => "]",
            Self::Rooms | Self::Engine | Self::Chat | Self::Native | Self::Centrifugo => "",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::check;
    use super::*;

    #[test]
    fn its_own_messages_are_recognised() {
        for dialect in [Dialect::Chat, Dialect::SocketIo] {
            let content = check::content(7);
            let mut message = String::new();
            dialect.message("u0", "general", 7, &content, &mut message);
            assert_eq!(dialect.read(message.as_bytes()), Said::Message(content.as_bytes()), "{dialect:?}");
            let mut join = String::new();
            dialect.join("u0", "general", &mut join);
            assert_eq!(dialect.read(join.as_bytes()), Said::Join, "{dialect:?}");
        }
    }

    #[test]
    fn answers_of_servers() {
        let table = [
            (Dialect::Chat, r#"{"type":"room_state","users":[],"timestamp":1}"#, Said::RoomState),
            (Dialect::Chat, r#"{"type":"leave","userId":"a","username":"a","timestamp":1}"#, Said::Other),
            (
                Dialect::Chat,
                r#"{"type":"message","content":"short","timestamp":1}"#,
                Said::Message(b"short\",\"timestamp\":1}"),
            ),
            (Dialect::Chat, r#"{"type":"message","timestamp":1}"#, Said::Other),
            (Dialect::SocketIo, r#"42["room_state",{"users":[],"timestamp":1}]"#, Said::RoomState),
            (Dialect::SocketIo, "2", Said::Other),
            (Dialect::Rooms, r#"42["user-joined",{"userId":"a","timestamp":1}]"#, Said::Join),
            (Dialect::Rooms, r#"42["user-typing",{"userId":"a","isTyping":true}]"#, Said::Other),
        ];
        for (dialect, payload, said) in table {
            assert_eq!(dialect.read(payload.as_bytes()), said, "{payload}");
        }
    }

    #[test]
    fn a_publication_is_as_long_as_what_a_server_makes_of_it() {
        let mut message = String::new();
        Dialect::Chat.message("u0", "general", 0, &check::content(0), &mut message);
        let stamped = format!(
            r#"{{"type":"message","userId":"u0","username":"u0","content":"{}","timestamp":1790000000000}}"#,
            check::content(0)
        );
        assert_eq!(message.len(), stamped.len());
    }
}
