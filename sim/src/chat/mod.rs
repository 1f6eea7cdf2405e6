//! Chat clients: plain WebSockets and JSON beside the clients of the native protocol.
//!
//! `model.rs` is the simulation's own idea of the protocol, `people.rs` judges what a client knows of the others in its
//! room, `client.rs` acts, and [`ChatEnd`] is what the world keeps of one connection: both ends of the conversation.

mod client;
mod model;
mod people;

pub(crate) use client::{ChatAct, ChatClient};
pub(crate) use model::{Mirror, Say, Told, is_counted, pushed};
pub(crate) use people::People;

use crate::wire::ToClient;
use fanfare_hub::{ChannelName, WireId};
use fanfare_wire::chat::Chat;
use std::collections::VecDeque;
use std::rc::Rc;

/// The wire of chat clients. The native clients have the others.
pub(crate) const CHAT_WIRE: WireId = WireId(2);

/// One chat connection.
#[derive(Debug, Default)]
pub(crate) struct ChatEnd {
    /// The server's end, as it is and as it must be.
    pub(crate) server: Chat,
    pub(crate) mirror: Mirror,
    /// Messages on their way to the server.
    pub(crate) sent: VecDeque<Say>,
    /// What the hub has said and the client has not read.
    pub(crate) said: VecDeque<Said>,
    /// Rooms that the shard was told to leave, and may not have left: each with the number of the join before.
    pub(crate) leaves: Vec<(ChannelName, u64)>,
    pub(crate) people: People,
}

/// What the hub has said to a chat client, in the hub's own types.
#[derive(Debug)]
pub(crate) enum Said {
    Message {
        message: Rc<ToClient>,
        form: Form,
    },
    /// The next text of what was said before: the judges know all of it since the first.
    More(String),
    /// From here on the client follows this channel no more.
    Left(ChannelName),
}

/// How the client reads it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Form {
    Text(String),
    Ping,
    /// Not at all: there is no word for it.
    Nothing,
    /// Not at all: this client has heard of it, or will.
    Skipped,
}

impl Said {
    pub(crate) fn is_text(&self) -> bool {
        matches!(self, Said::Message { form: Form::Text(_), .. } | Said::More(_))
    }
}

impl Form {
    /// True if bytes stand for it.
    pub(crate) fn is_sent(&self) -> bool {
        matches!(self, Form::Text(_) | Form::Ping)
    }
}

impl ChatEnd {
    /// The next of what was said for which there are no bytes. It is known as soon as all before it was read.
    pub(crate) fn next_silent(&mut self) -> Option<Said> {
        let is_silent = |said: &Said| match said {
            Said::Message { form, .. } => !form.is_sent(),
            Said::More(_) => false,
            Said::Left(_) => true,
        };
        self.said.pop_front_if(|said| is_silent(said))
    }
}
