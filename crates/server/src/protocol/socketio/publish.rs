//! Events as publications: how one becomes a publication with an audience, and how a publication becomes packets.
//!
//! Without attachments a publication is the event's JSON array. With attachments it is a bundle of the array and them
//! (`fanfare_wire::socketio::bundle`).

use super::MESSAGE;
use super::conversation::{Socket, silent};
use crate::protocol::{Actions, Encoded, Message, put_message};
use bytes::Bytes;
use fanfare_hub::{Audience, Command, Data, Publish, RoomCommand};
use fanfare_wire::json;
use fanfare_wire::socketio::{self, Kind, put_head};

impl Socket {
    pub(super) fn publish(&self, data: Vec<u8>, attachments: &[Bytes], audience: Audience, actions: &mut Actions) {
        // What was put together of valid JSON is valid, and may be one level deeper.
        let Ok(text) = std::str::from_utf8(&data) else { return };
        if json::payload(&data).is_err() {
            return actions.ignored("too_deep");
        }
        let data = match attachments {
            [] => Data::Json(data.into()),
            attachments => match socketio::bundle(text, attachments) {
                Some(bundle) => Data::Binary(bundle),
                None => return actions.ignored("packet_size"),
            },
        };
        let channel = self.namespace.channel.clone();
        let publish = Publish { channel, data, event: None, idempotency_key: None, echo: true };
        actions.requests.push(silent(Command::Room(Box::new(RoomCommand::Publish { publish, audience }))));
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
