//! Socket.IO 5 as far as a load generator needs it: CONNECT with recovery, and events of which one argument matters.
//!
//! In: the texts of a socket. Out: what they say, as slices; nothing is parsed that is not looked at. Wire:
//! <https://socket.io/docs/v4/socket-io-protocol/> and, for `pid` and `offset`, "connection state recovery" there.

use std::fmt::Write as _;

use memchr::memmem;

use super::native::text_after;

/// Where sessions begin by polling.
pub const POLLING: &str = "/socket.io/?EIO=4&transport=polling";

/// A packet from the server.
#[derive(Debug, PartialEq, Eq)]
pub enum Packet<'a> {
    /// The namespace is entered. The private id is there where the server recovers.
    Connected {
        /// By which a socket is recovered.
        pid: Option<&'a str>,
    },
    /// `message`.
    Message {
        /// Its `text`.
        content: &'a [u8],
        /// Its place, where the server recovers.
        offset: Option<&'a str>,
    },
    /// Any other.
    Other,
}

/// Reads a packet of the namespace `/`.
pub fn read(payload: &[u8]) -> Packet<'_> {
    if payload.starts_with(b"40{") {
        return Packet::Connected { pid: text_after(payload, br#""pid":""#) };
    }
    match text_after(payload, br#""text":""#) {
        Some(content) if payload.starts_with(br#"42["message","#) => {
            Packet::Message { content: content.as_bytes(), offset: last_text(payload) }
        }
        _ => Packet::Other,
    }
}

/// Appends CONNECT: of a new socket, or of the one with this private id, whose last event had this place.
pub fn connect(pid: &str, offset: &str, out: &mut String) {
    // Writing to a String cannot fail.
    let _ = match (pid, offset) {
        ("", _) => write!(out, "40"),
        (pid, "") => write!(out, r#"40{{"pid":"{pid}"}}"#),
        (pid, offset) => write!(out, r#"40{{"pid":"{pid}","offset":"{offset}"}}"#),
    };
}

/// Appends the body of an event to all sockets, by the HTTP API.
pub fn api_emit(content: &str, out: &mut String) {
    let _ = write!(out, r#"{{"event":"message","args":[{{"text":"{content}"}}]}}"#);
}

/// The id of the session that an open packet names.
pub fn sid(payload: &[u8]) -> Option<&str> {
    payload.starts_with(b"0{").then(|| text_after(payload, br#""sid":""#)).flatten()
}

/// The last argument of an event, if it is a text.
fn last_text(payload: &[u8]) -> Option<&str> {
    let inner = payload.strip_suffix(br#""]"#)?;
    let begin = memmem::rfind(inner, br#",""#)? + 2;
    std::str::from_utf8(&inner[begin..]).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets() {
        let message = |content: &'static str, offset| Packet::Message { content: content.as_bytes(), offset };
        let table = [
            (r#"40{"sid":"a","pid":"b"}"#, Packet::Connected { pid: Some("b") }),
            (r#"40{"sid":"a"}"#, Packet::Connected { pid: None }),
            (r#"42["message",{"text":"x"},"0-7"]"#, message("x", Some("0-7"))),
            (r#"42["message",{"text":"x"}]"#, message("x", None)),
            (r#"42["message",{"content":"x"}]"#, Packet::Other),
            (r#"42["else",{"text":"x"}]"#, Packet::Other),
            (r#"44{"message":"no"}"#, Packet::Other),
            ("2", Packet::Other),
        ];
        for (payload, packet) in table {
            assert_eq!(read(payload.as_bytes()), packet, "{payload}");
        }
    }

    #[test]
    fn connects() {
        for (pid, offset, text) in
            [("", "", "40"), ("p", "", r#"40{"pid":"p"}"#), ("p", "o", r#"40{"pid":"p","offset":"o"}"#)]
        {
            let mut out = String::new();
            connect(pid, offset, &mut out);
            assert_eq!(out, text);
        }
    }

    #[test]
    fn a_session_is_named_by_its_open_packet() {
        assert_eq!(sid(br#"0{"sid":"lv_VI97HAXpY6yYWAAAC","upgrades":["websocket"]}"#), Some("lv_VI97HAXpY6yYWAAAC"));
        assert_eq!(sid(b"40"), None);
    }
}
