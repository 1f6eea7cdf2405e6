//! Packets to messages: the text of a packet. Its attachments follow as binary messages of their own.

use super::{Kind, MAIN_NAMESPACE, Packet};
use std::io::Write as _;

/// Appends the text of a packet up to its payload: `52-/admin,7` for an event of two attachments with an ack id.
pub fn put_head(out: &mut Vec<u8>, kind: Kind, attachments: Option<usize>, namespace: &str, id: Option<u64>) {
    out.push(match (kind, attachments) {
        (Kind::Connect, _) => b'0',
        (Kind::Disconnect, _) => b'1',
        (Kind::Event, None) => b'2',
        (Kind::Ack, None) => b'3',
        (Kind::ConnectError, _) => b'4',
        (Kind::Event, Some(_)) => b'5',
        (Kind::Ack, Some(_)) => b'6',
    });
    if let (Kind::Event | Kind::Ack, Some(count)) = (kind, attachments) {
        put_number(out, count as u64);
        out.push(b'-');
    }
    if namespace != MAIN_NAMESPACE {
        out.extend_from_slice(namespace.as_bytes());
        out.push(b',');
    }
    if let Some(id) = id {
        put_number(out, id);
    }
}

/// Appends the text of a whole packet.
pub fn put_packet(out: &mut Vec<u8>, packet: &Packet<'_>) {
    put_head(out, packet.kind, packet.attachments.as_ref().map(Vec::len), &packet.namespace, packet.id);
    out.extend_from_slice(packet.data.as_deref().unwrap_or_default().as_bytes());
}

/// Appends the answer to a CONNECT: the id of the socket, and with recovery its private id. Both are as a JSON string
/// holds them, without escapes.
pub fn put_connected(out: &mut Vec<u8>, namespace: &str, sid: &str, pid: Option<&str>) {
    put_head(out, Kind::Connect, None, namespace, None);
    out.extend_from_slice(b"{\"sid\":\"");
    out.extend_from_slice(sid.as_bytes());
    if let Some(pid) = pid {
        out.extend_from_slice(b"\",\"pid\":\"");
        out.extend_from_slice(pid.as_bytes());
    }
    out.extend_from_slice(b"\"}");
}

/// Appends the refusal of a CONNECT. `data` is JSON.
pub fn put_connect_error(out: &mut Vec<u8>, namespace: &str, message: &str, data: Option<&[u8]>) {
    put_head(out, Kind::ConnectError, None, namespace, None);
    out.extend_from_slice(b"{\"message\":");
    put_text(out, message);
    if let Some(data) = data {
        out.extend_from_slice(b",\"data\":");
        out.extend_from_slice(data);
    }
    out.push(b'}');
}

/// Appends a JSON string.
pub fn put_text(out: &mut Vec<u8>, text: &str) {
    serde_json::to_writer(&mut *out, text).expect("a text is written to memory");
}

fn put_number(out: &mut Vec<u8>, number: u64) {
    write!(out, "{number}").expect("a number is written to memory");
}
