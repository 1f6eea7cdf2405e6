//! Messages to packets.
//!
//! In: text and binary messages in order. Out: a [`Packet`] when it is whole. A packet without attachments borrows from
//! its message; one with attachments is copied once and waits for them.

use super::array::{Event, are_placeholders_valid, check, text};
use super::{DecodeError, Kind, MAIN_NAMESPACE, Packet, RESERVED_EVENTS};
use crate::json;
use bytes::Bytes;
use std::borrow::Cow;

/// The bounds of one packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// The most attachments of a packet. The reference's default is 10.
    pub attachments_max: usize,
    /// The most bytes of a packet with its attachments.
    pub packet_bytes_max: usize,
    /// The longest namespace, in bytes.
    pub namespace_bytes_max: usize,
}

impl Default for Limits {
    /// 10 attachments, 1 MB, and namespaces of 255 bytes.
    fn default() -> Self {
        Limits { attachments_max: 10, packet_bytes_max: 1_000_000, namespace_bytes_max: 255 }
    }
}

/// Reads the messages of one connection. It holds memory only while attachments are missing.
#[derive(Debug, Default)]
pub struct Decoder {
    pub(super) partial: Option<Box<Partial>>,
}

/// A packet whose attachments are on their way.
#[derive(Debug)]
pub(super) struct Partial {
    packet: Packet<'static>,
    pub(super) attachments: Vec<Bytes>,
    missing: usize,
    /// The bytes of all that has come.
    bytes: usize,
}

impl Decoder {
    /// Takes a text message: a packet, or the head of one.
    ///
    /// # Errors
    /// The packet is malformed, or the packet before it is not whole.
    pub fn text<'a>(&mut self, message: &'a str, limits: &Limits) -> Result<Option<Packet<'a>>, DecodeError> {
        if let Some(partial) = &self.partial {
            return Err(DecodeError::TextWithinPacket { missing: partial.missing });
        }
        if message.len() > limits.packet_bytes_max {
            return Err(DecodeError::TooLarge { len: message.len(), max: limits.packet_bytes_max });
        }
        let (packet, missing) = packet(message, limits)?;
        if missing == 0 {
            return Ok(Some(packet));
        }
        let packet = packet.into_owned();
        self.partial = Some(Box::new(Partial { packet, attachments: Vec::new(), missing, bytes: message.len() }));
        Ok(None)
    }

    /// Takes a binary message: the next attachment.
    ///
    /// # Errors
    /// No attachment is missing, or the packet becomes too large.
    pub fn binary(&mut self, message: &[u8], limits: &Limits) -> Result<Option<Packet<'static>>, DecodeError> {
        let Some(mut partial) = self.partial.take() else { return Err(DecodeError::UnexpectedBinary) };
        partial.bytes = partial.bytes.saturating_add(message.len());
        if partial.bytes > limits.packet_bytes_max {
            return Err(DecodeError::TooLarge { len: partial.bytes, max: limits.packet_bytes_max });
        }
        partial.attachments.push(Bytes::copy_from_slice(message));
        partial.missing -= 1;
        if partial.missing > 0 {
            self.partial = Some(partial);
            return Ok(None);
        }
        let Partial { packet, attachments, .. } = *partial;
        Ok(Some(Packet { attachments: Some(attachments), ..packet }))
    }

    /// True while attachments are missing.
    pub fn is_within_packet(&self) -> bool {
        self.partial.is_some()
    }

    /// The bytes that wait for the rest of their packet.
    pub fn buffered_bytes(&self) -> usize {
        self.partial.as_ref().map_or(0, |partial| partial.bytes)
    }
}

impl Packet<'_> {
    /// The same, with copies of what it borrows.
    pub fn into_owned(self) -> Packet<'static> {
        Packet {
            kind: self.kind,
            namespace: Cow::Owned(self.namespace.into_owned()),
            id: self.id,
            data: self.data.map(|data| Cow::Owned(data.into_owned())),
            attachments: self.attachments,
        }
    }
}

/// A packet up to its payload.
pub(super) struct Head<'a> {
    pub(super) kind: Kind,
    /// How many attachments follow; `None` for a packet without the form of attachments.
    pub(super) attachments: Option<usize>,
    pub(super) namespace: &'a str,
    pub(super) id: Option<u64>,
    /// The payload, which was not looked at.
    pub(super) json: &'a str,
}

/// Reads what stands before the payload.
pub(super) fn head<'a>(message: &'a str, limits: &Limits) -> Result<Head<'a>, DecodeError> {
    let (kind, is_binary) = match message.as_bytes().first() {
        Some(b'0') => (Kind::Connect, false),
        Some(b'1') => (Kind::Disconnect, false),
        Some(b'2') => (Kind::Event, false),
        Some(b'3') => (Kind::Ack, false),
        Some(b'4') => (Kind::ConnectError, false),
        Some(b'5') => (Kind::Event, true),
        Some(b'6') => (Kind::Ack, true),
        _ => return Err(DecodeError::Kind),
    };
    let mut rest = &message[1..];
    let attachments = if is_binary { Some(attachment_count(&mut rest, limits)?) } else { None };
    let namespace = namespace(&mut rest, limits)?;
    let id = ack_id(&mut rest)?;
    Ok(Head { kind, attachments, namespace, id, json: rest })
}

/// Reads one packet, and how many attachments follow.
fn packet<'a>(message: &'a str, limits: &Limits) -> Result<(Packet<'a>, usize), DecodeError> {
    let Head { kind, attachments: count, namespace, id, json } = head(message, limits)?;
    if kind == Kind::Ack && id.is_none() {
        return Err(DecodeError::NoAckId);
    }
    let data = payload(kind, json, count)?;
    // Without attachments the packet is whole as it is.
    let attachments = count.map(|_| Vec::new());
    let packet = Packet { kind, namespace: Cow::Borrowed(namespace), id, data, attachments };
    Ok((packet, count.unwrap_or(0)))
}

/// The payload of a packet with so many attachments.
pub(super) fn payload(kind: Kind, json: &str, attachments: Option<usize>) -> Result<Option<Cow<'_, str>>, DecodeError> {
    let data = data(kind, json)?;
    let has_bad_placeholder = |count| data.as_deref().is_some_and(|data| !are_placeholders_valid(data, count));
    if attachments.is_some_and(has_bad_placeholder) {
        return Err(DecodeError::Placeholder);
    }
    Ok(data)
}

/// `3-`: digits and a hyphen.
fn attachment_count(rest: &mut &str, limits: &Limits) -> Result<usize, DecodeError> {
    let (digits, after) = rest.split_once('-').ok_or(DecodeError::AttachmentCount)?;
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(DecodeError::AttachmentCount);
    }
    let max = limits.attachments_max;
    let count: u64 = digits.parse().map_err(|_| DecodeError::TooManyAttachments { count: u64::MAX, max })?;
    *rest = after;
    usize::try_from(count).ok().filter(|count| *count <= max).ok_or(DecodeError::TooManyAttachments { count, max })
}

/// `/admin,`: up to a comma, or to the end.
fn namespace<'a>(rest: &mut &'a str, limits: &Limits) -> Result<&'a str, DecodeError> {
    if !rest.starts_with('/') {
        return Ok(MAIN_NAMESPACE);
    }
    let (namespace, after) = rest.split_once(',').unwrap_or((rest, ""));
    let (len, max) = (namespace.len(), limits.namespace_bytes_max);
    if len > max {
        return Err(DecodeError::NamespaceLength { len, max });
    }
    *rest = after;
    Ok(namespace)
}

/// Digits before the payload.
fn ack_id(rest: &mut &str) -> Result<Option<u64>, DecodeError> {
    let len = rest.bytes().take_while(u8::is_ascii_digit).count();
    let (digits, after) = rest.split_at(len);
    if digits.is_empty() {
        return Ok(None);
    }
    *rest = after;
    digits.parse().map(Some).map_err(|_| DecodeError::AckId)
}

/// The payload, in the form that its kind demands.
fn data(kind: Kind, json: &str) -> Result<Option<Cow<'_, str>>, DecodeError> {
    if json.is_empty() {
        return match kind {
            Kind::Connect | Kind::Disconnect => Ok(None),
            Kind::Event | Kind::Ack | Kind::ConnectError => Err(not_of(kind)),
        };
    }
    check(json).map_err(|error| DecodeError::Json(error.to_string()))?;
    match (kind, json.trim_start().as_bytes().first()) {
        (Kind::Connect, Some(b'{')) | (Kind::Ack, Some(b'[')) | (Kind::ConnectError, Some(b'{' | b'"')) => {}
        (Kind::Event, Some(b'[')) => check_event(json)?,
        _ => return Err(not_of(kind)),
    }
    let data = match json::payload(json.as_bytes())? {
        Cow::Borrowed(_) => Cow::Borrowed(json),
        // Only line breaks became spaces, so it is text still.
        Cow::Owned(bytes) => {
            Cow::Owned(String::from_utf8(bytes).map_err(|error| DecodeError::Json(error.to_string()))?)
        }
    };
    Ok(Some(data))
}

/// The payload has not the form that this kind demands.
fn not_of(kind: Kind) -> DecodeError {
    DecodeError::Payload {
        expected: match kind {
            Kind::Connect => "an object",
            Kind::Disconnect => "absent",
            Kind::Event => "an array that begins with a name",
            Kind::Ack => "an array",
            Kind::ConnectError => "an object or a text",
        },
    }
}

/// The name of an event is a text or a number, and no reserved one.
fn check_event(json: &str) -> Result<(), DecodeError> {
    let name = Event::of(json).ok_or_else(|| not_of(Kind::Event))?.name;
    match name.as_bytes().first() {
        Some(b'"') => {
            let name = text(name);
            let reserved = RESERVED_EVENTS.into_iter().find(|reserved| name.as_deref() == Some(*reserved));
            reserved.map_or(Ok(()), |reserved| Err(DecodeError::ReservedEvent(reserved)))
        }
        Some(b'-' | b'0'..=b'9') => Ok(()),
        _ => Err(not_of(Kind::Event)),
    }
}
