//! Events as publications: how one becomes a publication with an audience, and how a publication becomes packets.
//!
//! Without attachments a publication is the event's JSON array. With attachments it is a bundle of the array and them
//! (`fanfare_wire::socketio::bundle`).

use super::builtin::Asked;
use super::conversation::Socket;
use super::namespaces::channel_of;
use super::recovery::put_offset;
use super::seam::Payload;
use super::{MESSAGE, SocketIo};
use crate::protocol::{Actions, Encoded, Message, put_message};
use bytes::Bytes;
use fanfare_hub::{Act, Audience, Command, Data, Position, Publication, Publish, RoomCommand};
use fanfare_wire::json;
use fanfare_wire::socketio::{self, Kind, put_head};

impl Socket {
    pub(super) fn publish(
        &self,
        data: Vec<u8>,
        attachments: &[Bytes],
        audience: Audience,
        asked: &Asked,
        actions: &mut Actions,
    ) {
        // The parts are valid JSON, so the whole is too; it may be one level deeper.
        if json::payload(&data).is_err() {
            return actions.ignored("too_deep");
        }
        let Some(data) = data_of(data, attachments) else { return actions.ignored("packet_size") };
        let channel = self.namespace.channel.clone();
        let publish = Publish { channel, data, event: None, idempotency_key: asked.key.clone(), echo: true };
        actions.requests.push(asked.request(Command::Room(Box::new(RoomCommand::Publish { publish, audience }))));
    }
}

/// The payload of a publication. `None` if it is too long.
pub(crate) fn data_of(json: Vec<u8>, attachments: &[Bytes]) -> Option<Data> {
    match attachments {
        [] => Some(Data::Json(json.into())),
        attachments => socketio::bundle(std::str::from_utf8(&json).ok()?, attachments).map(Data::Binary),
    }
}

impl Payload {
    /// As it is published. Parts of more than 4 GiB do not exist here: so much may not wait for a shard.
    pub(crate) fn into_data(self) -> Data {
        data_of(self.json, &self.attachments).unwrap_or(Data::Json(Bytes::from_static(b"[]")))
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

/// The messages of a publication. An event that asks for no ack has its place in the log as its last argument, where
/// clients can recover.
pub(super) fn put_publication(
    publication: &Publication,
    namespace: &str,
    at: Option<Position>,
    out: &mut Vec<u8>,
) -> Encoded {
    let id = match publication.act.as_deref() {
        None => None,
        Some(Act::Ask(ask)) => Some(ask.id),
        Some(&Act::Answer { id }) => return put_data(Kind::Ack, &publication.data, namespace, Some(id), out),
        Some(Act::Disconnect { whole: false }) => {
            out.push(MESSAGE);
            put_head(out, Kind::Disconnect, None, namespace, None);
            return Encoded::Text;
        }
        Some(_) => return Encoded::Nothing,
    };
    put_packet_at(Kind::Event, &publication.data, namespace, (id, at.filter(|_| id.is_none())), out)
}

/// The messages of a packet with this payload.
pub(super) fn put_data(kind: Kind, data: &Data, namespace: &str, id: Option<u64>, out: &mut Vec<u8>) -> Encoded {
    put_packet_at(kind, data, namespace, (id, None), out)
}

fn put_packet_at(
    kind: Kind,
    data: &Data,
    namespace: &str,
    (id, at): (Option<u64>, Option<Position>),
    out: &mut Vec<u8>,
) -> Encoded {
    match data {
        Data::Json(json) => {
            out.push(MESSAGE);
            put_head(out, kind, None, namespace, id);
            put_args(json, at, out);
            Encoded::Text
        }
        Data::Binary(bundle) => {
            let mut parts = socketio::parts(bundle);
            let json = parts.next().unwrap_or_default();
            let mut text = vec![MESSAGE];
            put_head(&mut text, kind, Some(parts.clone().count()), namespace, id);
            put_args(json, at, &mut text);
            put_message(out, Message::written(&text));
            parts.for_each(|attachment| put_message(out, Message::Binary(attachment)));
            Encoded::Several
        }
    }
}

/// Appends the JSON array of an event.
fn put_args(json: &[u8], at: Option<Position>, out: &mut Vec<u8>) {
    let end = memchr::memrchr(b']', json);
    let (Some(at), Some(end)) = (at, end) else { return out.extend_from_slice(json) };
    out.extend_from_slice(&json[..end]);
    out.extend_from_slice(b",\"");
    put_offset(at, out);
    out.extend_from_slice(b"\"]");
}
