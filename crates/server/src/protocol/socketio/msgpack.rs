//! The msgpack parser as a layer around a conversation: its packets become those of the standard parser on their way
//! in, and the other way round on their way out. So nothing within knows which parser a server speaks.
//!
//! In: messages of a client, and messages of the conversation for it. Out: the same packets in the other form. All
//! sockets of a server speak one parser, so an event to many is turned once.

use super::MESSAGE;
use super::conversation::{Client, malformed};
use crate::config::Parser;
use crate::protocol::{Actions, Conversation, Encoded, ImmediateAnswer, Message, put_message, several};
use fanfare_hub::{Disconnect, Now, Push, Reply, Seat};
use fanfare_wire::engineio::Packet as EnginePacket;
use fanfare_wire::socketio::{self, DecodeError, msgpack, put_packet};
use std::any::Any;

/// A conversation whose client speaks msgpack.
pub(super) struct Msgpack {
    inner: Box<dyn Conversation>,
    packet_bytes_max: usize,
}

impl Msgpack {
    pub(super) fn new(inner: Box<dyn Conversation>, packet_bytes_max: usize) -> Self {
        Msgpack { inner, packet_bytes_max }
    }

    /// Hands a packet on as the standard parser writes it.
    fn packet(&mut self, message: &[u8], actions: &mut Actions) {
        let limits = socketio::Limits { packet_bytes_max: self.packet_bytes_max, ..socketio::Limits::default() };
        match msgpack::decode(message, &limits) {
            Ok(packet) => {
                let mut text = vec![MESSAGE];
                put_packet(&mut text, &packet);
                self.inner.message(Message::written(&text), actions);
                for attachment in packet.attachments.iter().flatten() {
                    self.inner.message(Message::Binary(attachment), actions);
                }
            }
            Err(error) => malformed(actions, &error),
        }
    }
}

// Every method is handed on: one that is forgotten would silently have its default.
#[warn(clippy::missing_trait_methods)]
impl Conversation for Msgpack {
    fn message(&mut self, message: Message<'_>, actions: &mut Actions) {
        match message {
            Message::Binary(bytes) => self.packet(bytes, actions),
            Message::Text(text) => match EnginePacket::decode(text) {
                Ok(EnginePacket::Binary(bytes)) => self.packet(&bytes, actions),
                Ok(EnginePacket::Text(_)) => malformed(actions, &DecodeError::TextForMsgpack),
                // The packets of the engine are the same for all parsers.
                _ => self.inner.message(message, actions),
            },
        }
        answers(actions);
    }

    fn encode_reply(&mut self, reply: &Reply, now: Now, out: &mut Vec<u8>) -> Encoded {
        let encoded = self.inner.encode_reply(reply, now, out);
        turned(encoded, out)
    }

    fn encode_reply_in(&mut self, seat: Seat, reply: &Reply, now: Now, out: &mut Vec<u8>) -> Encoded {
        let encoded = self.inner.encode_reply_in(seat, reply, now, out);
        turned(encoded, out)
    }

    fn last_words(&mut self, reason: Disconnect, out: &mut Vec<u8>) -> Option<Encoded> {
        self.inner.last_words(reason, out).map(|encoded| turned(encoded, out))
    }

    fn encode_rest(&mut self, push: &Push, out: &mut Vec<u8>) {
        self.inner.encode_rest(push, out);
    }

    fn pushed(&mut self, push: &Push) {
        self.inner.pushed(push);
    }

    fn takes_presence(&mut self, push: &Push) -> bool {
        self.inner.takes_presence(push)
    }

    fn as_any(&mut self) -> Option<&mut dyn Any> {
        self.inner.as_any()
    }
}

impl Client {
    /// Answers that no message of the client has caused do not come through the layer.
    pub(crate) fn pack_answers(&self, actions: &mut Actions) {
        if self.parts.parser == Parser::Msgpack {
            answers(actions);
        }
    }
}

/// Turns what was encoded for a client into messages of msgpack.
pub(super) fn turned(encoded: Encoded, out: &mut Vec<u8>) -> Encoded {
    match encoded {
        Encoded::Text | Encoded::Last(_) if out.first() == Some(&MESSAGE) => {
            let mut packed = Vec::with_capacity(out.len() + 32);
            if !pack(&out[1..], &[], &mut packed) {
                return Encoded::Nothing;
            }
            *out = packed;
            match encoded {
                Encoded::Last(reason) => Encoded::LastBinary(reason),
                _ => Encoded::Binary,
            }
        }
        Encoded::Several => {
            let mut packed = Vec::with_capacity(out.len() + 32);
            for_each_packet(several(out), |message| put_message(&mut packed, message));
            *out = packed;
            Encoded::Several
        }
        other => other,
    }
}

/// Turns the messages that go straight back to a client.
fn answers(actions: &mut Actions) {
    if actions.answers.is_empty() {
        return;
    }
    let bytes = std::mem::take(&mut actions.answer_bytes);
    let answers = std::mem::take(&mut actions.answers);
    let mut began = 0;
    let messages = answers.iter().map(|ImmediateAnswer { end, is_text }| {
        let message = bytes.get(began..*end).unwrap_or_default();
        began = *end;
        (*is_text, message)
    });
    for_each_packet(messages, |message| actions.answer(message));
}

/// Takes messages of the standard parser, and gives each packet with its attachments as one message of msgpack. Other
/// messages stay as they are.
fn for_each_packet<'a>(messages: impl Iterator<Item = (bool, &'a [u8])>, mut give: impl FnMut(Message<'_>)) {
    let mut messages = messages.peekable();
    while let Some((is_text, message)) = messages.next() {
        match (is_text, message.split_first()) {
            (true, Some((&MESSAGE, packet))) => {
                let attachments: Vec<&[u8]> =
                    std::iter::from_fn(|| messages.next_if(|(is_text, _)| !is_text)).map(|(_, bytes)| bytes).collect();
                let mut packed = Vec::with_capacity(packet.len() + 32);
                if pack(packet, &attachments, &mut packed) {
                    give(Message::Binary(&packed));
                }
            }
            (true, _) => give(Message::written(message)),
            (false, _) => give(Message::Binary(message)),
        }
    }
}

/// Appends a packet of the standard parser as one of msgpack. False if it is none, which is a fault of the server.
fn pack(packet: &[u8], attachments: &[&[u8]], out: &mut Vec<u8>) -> bool {
    let is_packet = std::str::from_utf8(packet).is_ok_and(|text| msgpack::encode_text(out, text, attachments));
    if !is_packet {
        tracing::error!(packet = %String::from_utf8_lossy(&packet[..packet.len().min(100)]), "no packet of Socket.IO");
    }
    is_packet
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decoded(message: &[u8]) -> socketio::Packet<'static> {
        msgpack::decode(message, &socketio::Limits::default()).expect("a packet")
    }

    #[test]
    fn what_is_encoded_becomes_one_message_for_each_packet() {
        let mut out = br#"42["a",1]"#.to_vec();
        assert_eq!(turned(Encoded::Text, &mut out), Encoded::Binary);
        assert_eq!(decoded(&out).data.as_deref(), Some(r#"["a",1]"#));
        let mut out = b"41".to_vec();
        assert_eq!(turned(Encoded::Last(Disconnect::Kicked), &mut out), Encoded::LastBinary(Disconnect::Kicked));
        assert_eq!(decoded(&out).kind, socketio::Kind::Disconnect);
        let mut out = b"2".to_vec();
        assert_eq!((turned(Encoded::Text, &mut out), &*out), (Encoded::Text, &b"2"[..]), "a ping stays as it is");

        let mut out = Vec::new();
        let head = r#"452-["a",{"_placeholder":true,"num":1},{"_placeholder":true,"num":0}]"#;
        for message in [Message::Text(head), Message::Binary(b"x"), Message::Binary(b""), Message::Text("42[\"b\"]")] {
            put_message(&mut out, message);
        }
        assert_eq!(turned(Encoded::Several, &mut out), Encoded::Several);
        let messages: Vec<_> = several(&out).collect();
        let [(false, first), (false, second)] = messages[..] else { panic!("{messages:?}") };
        let first = decoded(first);
        let attachments = first.attachments.as_deref().unwrap_or_default();
        assert_eq!(attachments, [&b""[..], &b"x"[..]], "in the order in which the array has them");
        assert_eq!(decoded(second).data.as_deref(), Some("[\"b\"]"));
    }

    #[test]
    fn answers_are_turned_in_their_order() {
        let mut actions = Actions::default();
        for message in [
            Message::Text("3probe"),
            Message::Text(r#"451-["a",{"_placeholder":true,"num":0}]"#),
            Message::Binary(b"x"),
            Message::Text(r#"44/n,{"message":"no"}"#),
        ] {
            actions.answer(message);
        }
        answers(&mut actions);
        let is_text: Vec<bool> = actions.answers.iter().map(|answer| answer.is_text).collect();
        assert_eq!(is_text, [true, false, false]);
        let ends: Vec<usize> = actions.answers.iter().map(|answer| answer.end).collect();
        assert_eq!(&actions.answer_bytes[..ends[0]], b"3probe");
        assert_eq!(decoded(&actions.answer_bytes[ends[0]..ends[1]]).attachments.map(|all| all.len()), Some(1));
        assert_eq!(decoded(&actions.answer_bytes[ends[1]..]).namespace, "/n");
    }
}
