//! Readers of plain event streams (`/events`), beside the clients of the native protocol.
//!
//! `blocks.rs` reads an event stream as browsers do, `place.rs` is the simulation's own idea of an id, `client.rs` is
//! what a page or a script does, `judge.rs` holds the promises of docs/protocol.md, and [`ReaderEnd`] is what the world
//! keeps of one stream: both of its ends.

mod blocks;
mod client;
mod judge;
mod place;

pub(crate) use blocks::{Block, BlockReader};
pub(crate) use client::{Asked, Reader, Shown};
pub(crate) use judge::{Reading, StreamJudge};

use crate::wire::ToClient;
use fanfare_hub::{ChannelName, WireId};
use fanfare_wire::admission::Opening;
use fanfare_wire::events::{EventStream, Events};
use std::collections::{BTreeSet, VecDeque};
use std::rc::Rc;

/// The first wire of readers, behind those of chats and of requests as Engine.IO has them.
const FIRST_WIRE: u8 = 5;

/// The wire of a variant of the protocol.
pub(crate) fn wire_of(events: Events) -> WireId {
    WireId(FIRST_WIRE + Events::ALL.iter().position(|other| *other == events).unwrap_or_default() as u8)
}

/// The variant of a wire, if it is one of readers.
pub(crate) fn variant_of(wire: WireId) -> Option<Events> {
    Events::ALL.get(usize::from(wire.0.checked_sub(FIRST_WIRE)?)).copied()
}

/// One stream.
#[derive(Debug)]
pub(crate) struct ReaderEnd {
    pub(crate) events: Events,
    /// The server's end.
    pub(crate) stream: EventStream,
    /// Until it is decided whether the reader is let in.
    pub(crate) opening: Option<Opening>,
    /// What the hub has said and the reader has not read, each with the length of its text.
    pub(crate) said: VecDeque<(Rc<ToClient>, usize)>,
    /// Bytes of the first of those that the reader has read.
    pub(crate) read: usize,
    pub(crate) blocks: BlockReader,
    pub(crate) judge: StreamJudge,
    /// Channels that the rules have shut since the reader asked.
    pub(crate) shut: BTreeSet<ChannelName>,
    /// They have been shut since before that.
    pub(crate) is_shut_out: bool,
    /// It has begun although the rules have shut a channel since the reader asked: it ends in the same turn.
    pub(crate) must_end: bool,
}

impl ReaderEnd {
    /// The next of what was said that has been read.
    pub(crate) fn next_read(&mut self) -> Option<Rc<ToClient>> {
        let (_, len) = self.said.front()?;
        // What has no text is known with the next that has one.
        let len = if *len == 0 { self.said.iter().map(|(_, len)| *len).find(|len| *len > 0)? } else { *len };
        if len > self.read {
            return None;
        }
        let (said, len) = self.said.pop_front()?;
        self.read -= len;
        Some(said)
    }
}
