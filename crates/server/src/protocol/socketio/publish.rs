//! Events as publications: how one becomes a publication with an audience, and how a publication becomes packets.
//!
//! Without attachments a publication is the event's JSON array. With attachments it is a bundle of the array and them
//! (`fanfare_wire::socketio::bundle`).

use super::conversation::{Socket, silent};
use super::namespaces::channel_of;
use super::seam::Payload;
use super::{MESSAGE, SocketIo};
use crate::protocol::{Actions, Encoded, Message, put_message};
use bytes::Bytes;
use fanfare_hub::{Audience, Command, Data, Publish, RoomCommand};
use fanfare_wire::json;
use fanfare_wire::socketio::{self, Kind, put_head};

impl Socket {
    pub(super) fn publish(&self, data: Vec<u8>, attachments: &[Bytes], audience: Audience, actions: &mut Actions) {
        // What was put together of valid JSON is valid, and may be one level deeper.
        if json::payload(&data).is_err() {
            return actions.ignored("too_deep");
        }
        let Some(data) = data_of(data, attachments) else { return actions.ignored("packet_size") };
        let channel = self.namespace.channel.clone();
        let publish = Publish { channel, data, event: None, idempotency_key: None, echo: true };
        actions.requests.push(silent(Command::Room(Box::new(RoomCommand::Publish { publish, audience }))));
    }
}

/// The payload of a publication. `None` if it is too long.
fn data_of(json: Vec<u8>, attachments: &[Bytes]) -> Option<Data> {
    match attachments {
        [] => Some(Data::Json(json.into())),
        attachments => socketio::bundle(std::str::from_utf8(&json).ok()?, attachments).map(Data::Binary),
    }
}

impl SocketIo {
    /// An event of the application to a namespace.
    pub(crate) fn publication(namespace: &str, Payload { json, attachments }: Payload) -> Option<Publish> {
        let channel = channel_of(namespace)?;
        let data = data_of(json, &attachments)?;
        Some(Publish { channel, data, event: None, idempotency_key: None, echo: true })
    }
}

/// The messages of an event that was published.
pub(super) fn put_event(data: &Data, namespace: &str, out: &mut Vec<u8>) -> Encoded {
    match data {
        Data::Json(json) => {
            out.push(MESSAGE);
            put_head(out, Kind::Event, None, namespace, None);
            out.extend_from_slice(json);
            Encoded::Text
        }
        Data::Binary(bundle) => {
            let mut parts = socketio::parts(bundle);
            let json = parts.next().unwrap_or_default();
            let mut text = vec![MESSAGE];
            put_head(&mut text, Kind::Event, Some(parts.clone().count()), namespace, None);
            text.extend_from_slice(json);
            put_message(out, Message::Text(std::str::from_utf8(&text).unwrap_or_default()));
            parts.for_each(|attachment| put_message(out, Message::Binary(attachment)));
            Encoded::Several
        }
    }
}
