//! The parser `socket.io-msgpack-parser`: each packet is one binary message, a MessagePack map of `type`, `nsp`, and
//! where they are there `data` and `id`.
//!
//! In: one message of a client. Out: the same [`Packet`] that the standard parser gives, so nothing behind it knows the
//! difference: binary values are its attachments, and its payload is JSON. And the way back. A reader allocates for
//! bytes that have come, never for a count that a message claims, and recurses
//! [`DEPTH_MAX`](crate::json::DEPTH_MAX) levels.
//!
//! MessagePack has values without a counterpart in JSON. They become what `JSON.stringify` makes of them: `undefined`
//! is left out of maps and `null` elsewhere, numbers that are not finite are `null`, and a `Date` (extension type 0 of
//! 8 bytes) is a text. An `ArrayBuffer` (extension type 0 with a length) is binary. Any other extension is the array
//! `[type, bytes]`, as in the reference. A text that is not UTF-8 gets replacement characters, as in the reference.
//! Spec: MessagePack, and the encodings of notepack.io, which the reference uses.

mod read;
#[cfg(test)]
mod tests;
mod write;

use super::decode::{head, payload};
use super::{DecodeError, Kind, Limits, Packet};
use read::{Reader, Value};
use std::borrow::Cow;
use write::{Writer, put_text, put_unsigned};

/// The most binary values of one packet. The reference has no limit; each one costs more memory than bytes on the wire.
pub const BINARY_VALUES_MAX: usize = 10_000;

/// Why a message is no packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MsgpackError {
    /// The message ends within a value, or a length leads beyond its end.
    #[error("it ends within the value at byte {at}")]
    Truncated {
        /// Where the value begins.
        at: usize,
    },
    /// The byte that MessagePack never uses.
    #[error("the byte 0xc1 at {at} stands for no type")]
    NoType {
        /// Where it stands.
        at: usize,
    },
    /// A key of a map that is neither a text nor an integer.
    #[error("the key at byte {at} is neither a text nor an integer")]
    Key {
        /// Where it stands.
        at: usize,
    },
    /// Bytes behind the map.
    #[error("{count} bytes follow the packet")]
    Trailing {
        /// How many.
        count: usize,
    },
    /// The message is another value.
    #[error("it is not a map")]
    NoMap,
    /// A field is missing, or has a value of another form.
    #[error("its {name:?} is not {expected}")]
    Field {
        /// The name of the field.
        name: &'static str,
        /// The form that it should have.
        expected: &'static str,
    },
}

/// Reads a packet.
///
/// # Errors
/// The message is no MessagePack, or the packet is malformed. Its JSON form with its binary values counts against
/// `packet_bytes_max` too.
pub fn decode(message: &[u8], limits: &Limits) -> Result<Packet<'static>, DecodeError> {
    let max = limits.packet_bytes_max;
    if message.len() > max {
        return Err(DecodeError::TooLarge { len: message.len(), max });
    }
    let mut reader = Reader::new(message, max);
    let Value::Map(count) = reader.value()? else { return Err(MsgpackError::NoMap.into()) };
    let (mut kind, mut namespace, mut id, mut has_data) = (None, None, None, false);
    for _ in 0..count {
        let key = reader.key()?;
        match &*key {
            "type" => kind = reader.integer()?,
            "nsp" => namespace = reader.text()?,
            "id" => {
                id = match reader.value()? {
                    Value::Undefined => None,
                    Value::Unsigned(id) => Some(id),
                    _ => return field("id", "an integer from 0 to 2^64-1"),
                }
            }
            "data" => has_data = reader.data()?,
            _ => reader.skip()?,
        }
    }
    let left = reader.left();
    if left > 0 {
        return Err(MsgpackError::Trailing { count: left }.into());
    }
    let kind = match kind {
        Some(0) => Kind::Connect,
        Some(1) => Kind::Disconnect,
        Some(2) => Kind::Event,
        Some(3) => Kind::Ack,
        Some(4) => Kind::ConnectError,
        _ => return Err(DecodeError::Kind),
    };
    // A comma ends a namespace in texts, so no server has one with it.
    let is_namespace = |text: &Cow<'_, str>| text.starts_with('/') && !text.contains(',');
    let Some(namespace) = namespace.filter(is_namespace) else {
        return field("nsp", "a text that begins with / and has no comma");
    };
    let (len, namespace_max) = (namespace.len(), limits.namespace_bytes_max);
    if len > namespace_max {
        return Err(DecodeError::NamespaceLength { len, max: namespace_max });
    }
    if kind == Kind::Ack && id.is_none() {
        return Err(DecodeError::NoAckId);
    }
    let (json, binary) = reader.into_parts();
    let json = if has_data { json } else { String::new() };
    let attachments = (!binary.is_empty()).then_some(binary);
    // A map of the client that looks like a placeholder is one, as with the standard parser.
    let data = payload(kind, &json, attachments.as_ref().map(Vec::len))?.map(|data| Cow::Owned(data.into_owned()));
    Ok(Packet { kind, namespace: Cow::Owned(namespace.into_owned()), id, data, attachments })
}

fn field<T>(name: &'static str, expected: &'static str) -> Result<T, DecodeError> {
    Err(MsgpackError::Field { name, expected }.into())
}

/// Appends a packet.
pub fn encode(out: &mut Vec<u8>, packet: &Packet<'_>) {
    let attachments: Option<Vec<&[u8]>> =
        packet.attachments.as_ref().map(|all| all.iter().map(|one| &one[..]).collect());
    put(
        out,
        packet.kind,
        &packet.namespace,
        packet.id,
        packet.data.as_deref().unwrap_or_default(),
        attachments.as_deref(),
    );
}

/// Appends a packet that the server has written as text, with its attachments. False if the text is none.
pub fn encode_text(out: &mut Vec<u8>, text: &str, attachments: &[&[u8]]) -> bool {
    let limits = Limits { attachments_max: usize::MAX, packet_bytes_max: usize::MAX, namespace_bytes_max: usize::MAX };
    let Ok(head) = head(text, &limits) else { return false };
    put(out, head.kind, head.namespace, head.id, head.json, head.attachments.is_some().then_some(attachments));
    true
}

fn put(out: &mut Vec<u8>, kind: Kind, namespace: &str, id: Option<u64>, json: &str, attachments: Option<&[&[u8]]>) {
    let fields = 2 + u8::from(!json.is_empty()) + u8::from(id.is_some());
    out.push(0x80 | fields);
    put_text(out, b"type");
    out.push(match kind {
        Kind::Connect => 0,
        Kind::Disconnect => 1,
        Kind::Event => 2,
        Kind::Ack => 3,
        Kind::ConnectError => 4,
    });
    put_text(out, b"nsp");
    put_text(out, namespace.as_bytes());
    if !json.is_empty() {
        put_text(out, b"data");
        Writer::new(json, attachments).value(out);
    }
    if let Some(id) = id {
        put_text(out, b"id");
        put_unsigned(out, id);
    }
}
