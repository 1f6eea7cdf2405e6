//! The seam of the wire: what the server says becomes bytes, and the bytes that arrive become what was said.
//!
//! A frame is its length and a number that stands for the message, padded to about the size that the message has on a real
//! wire, so that outboxes fill and partial writes happen as they do there.

use bytes::{Bytes, BytesMut};
use fanfare_hub::{Push, Reply, ReplyBody};
use std::rc::Rc;

/// One message of the server.
#[derive(Debug)]
pub(crate) enum ToClient {
    Push(Push),
    Reply(Reply),
}

/// Everything that was ever said in this world, by its number.
#[derive(Debug, Default)]
pub(crate) struct Frames {
    said: Vec<Rc<ToClient>>,
}

const HEAD: usize = 8;

impl Frames {
    pub(crate) fn encode(&mut self, message: ToClient) -> Bytes {
        let len = HEAD + size_of(&message);
        let mut frame = BytesMut::zeroed(len);
        frame[..4].copy_from_slice(&(len as u32).to_le_bytes());
        frame[4..HEAD].copy_from_slice(&(self.said.len() as u32).to_le_bytes());
        self.said.push(Rc::new(message));
        frame.freeze()
    }

    /// Takes the next whole message off the front of what has arrived.
    pub(crate) fn decode(&self, arrived: &mut BytesMut) -> Option<Rc<ToClient>> {
        let head: [u8; HEAD] = arrived.get(..HEAD)?.try_into().ok()?;
        let number = |at: usize| u32::from_le_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]) as usize;
        if arrived.len() < number(0) {
            return None;
        }
        let _ = arrived.split_to(number(0));
        self.said.get(number(4)).cloned()
    }
}

fn size_of(message: &ToClient) -> usize {
    match message {
        ToClient::Push(Push::Message { publication, .. }) => 60 + publication.data.bytes().len(),
        ToClient::Push(Push::PresenceSnapshot { snapshot, .. }) => {
            40 + snapshot.entries.as_ref().map_or(0, |entries| entries.len() * 60)
        }
        ToClient::Push(Push::Ping) => 8,
        ToClient::Push(_) => 70,
        ToClient::Reply(reply) => 30 + size_of_body(&reply.body),
    }
}

fn size_of_body(body: &ReplyBody) -> usize {
    let pages = |publications: &[_]| -> usize {
        publications.iter().map(|p: &std::sync::Arc<fanfare_hub::Publication>| 50 + p.data.bytes().len()).sum()
    };
    match body {
        ReplyBody::Subscribed(subscribed) => 60 + pages(&subscribed.publications),
        ReplyBody::History(history) => 60 + pages(&history.publications),
        ReplyBody::Presence { snapshot, .. } => 40 + snapshot.entries.as_ref().map_or(0, |e| e.len() * 60),
        ReplyBody::Many(bodies) => bodies.iter().map(size_of_body).sum(),
        _ => 40,
    }
}
