//! The framing of WebSocket (RFC 6455): a message is one frame, an end is a close frame.
//!
//! The codec is `fanfare_wire::websocket`; this maps its frames to the input of a connection. No frame is masked: a
//! server's never are (§5.1).

use super::{Broken, Form, Payload, Received};
use crate::protocol::Message;
use bytes::Bytes;
use fanfare_wire::websocket::deflate::Inflater;
use fanfare_wire::websocket::{self, Decoder, Event, Limits, Opcode, Role};

pub(crate) type Deframer = Decoder;

pub(super) fn deframer(message_bytes_max: usize) -> Deframer {
    Decoder::new(Role::Server, Limits { message_bytes_max })
}

#[inline]
pub(super) fn put(out: &mut Vec<u8>, form: Form, payload: Payload<'_>) {
    match payload {
        Payload::Plain(payload) => websocket::put_frame(out, opcode(form), payload, None),
        Payload::Deflated(payload) => websocket::put_frame_parts(out, true, true, opcode(form), payload, None),
    }
}

#[inline]
pub(super) fn frame(form: Form, payload: Payload<'_>) -> Bytes {
    let mut out = Vec::with_capacity(websocket::frame_header_len(payload.len(), false) + payload.len());
    put(&mut out, form, payload);
    Bytes::from(out)
}

pub(super) fn end(code: u16, reason: &str) -> Bytes {
    let mut bytes = Vec::new();
    websocket::put_close(&mut bytes, code, reason, None);
    bytes.into()
}

fn opcode(form: Form) -> Opcode {
    match form {
        Form::Text => Opcode::Text,
        Form::Binary => Opcode::Binary,
        Form::Ping => Opcode::Ping,
        Form::Pong => Opcode::Pong,
    }
}

#[inline]
pub(super) fn next<'s, 'b: 's>(
    deframer: &'s mut Deframer,
    input: &mut &'b mut [u8],
    inflater: Option<&'s mut Inflater>,
) -> Result<Option<Received<'s>>, Broken> {
    let decoded = match inflater {
        Some(inflater) => deframer.decode_with(input, inflater),
        None => deframer.decode(input),
    };
    match decoded {
        Ok(event) => Ok(event.map(received)),
        Err(error) => Err(Broken { code: error.close_code(), reason: error.to_string() }),
    }
}

#[inline]
fn received(event: Event<'_>) -> Received<'_> {
    match event {
        Event::Text(text) => Received::Message(Message::Text(text)),
        Event::Binary(bytes) => Received::Message(Message::Binary(bytes)),
        Event::Ping(payload) => Received::Ping(payload),
        Event::Pong(_) => Received::Pong,
        // §5.5.1: a close is answered by a close, typically with the same code. 1001: the page was left, which a reload
        // does too; it may come back at once.
        Event::Close(Some(frame)) => {
            Received::End { answer: end(frame.code, ""), code: Some(frame.code), finally: frame.code == 1000 }
        }
        Event::Close(None) => {
            Received::End { answer: websocket::frame(Opcode::Close, b""), code: None, finally: false }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Framing;
    use super::*;

    #[test]
    fn frames_become_the_input_of_a_connection() {
        let close = |code: Option<u16>| {
            let mut payload = code.map(|code| code.to_be_bytes().to_vec()).unwrap_or_default();
            payload.extend_from_slice(if code.is_some() { b"bye" } else { b"" });
            payload
        };
        let end =
            |answer: &'static [u8], code, finally| Received::End { answer: Bytes::from_static(answer), code, finally };
        let rows = [
            ("text", Opcode::Text, b"hi".to_vec(), Received::Message(Message::Text("hi"))),
            ("binary", Opcode::Binary, b"\xff".to_vec(), Received::Message(Message::Binary(b"\xff"))),
            ("a ping", Opcode::Ping, b"p".to_vec(), Received::Ping(b"p")),
            ("a pong", Opcode::Pong, b"p".to_vec(), Received::Pong),
            ("an end", Opcode::Close, close(Some(1000)), end(b"\x88\x02\x03\xe8", Some(1000), true)),
            ("a page that was left", Opcode::Close, close(Some(1001)), end(b"\x88\x02\x03\xe9", Some(1001), false)),
            ("an end without a code", Opcode::Close, close(None), end(b"\x88\x00", None, false)),
        ];
        for (name, opcode, payload, expected) in rows {
            let mut bytes = Vec::new();
            websocket::put_frame(&mut bytes, opcode, &payload, Some([1, 2, 3, 4]));
            let mut deframer = Framing::WebSocket.deframer(64);
            let mut input = &mut bytes[..];
            assert_eq!(deframer.next(&mut input, None), Ok(Some(expected)), "{name}");
        }
    }

    #[test]
    fn a_peer_that_breaks_the_rules_gets_a_close_code() {
        let mut bytes = Vec::new();
        websocket::put_frame(&mut bytes, Opcode::Text, &[b'x'; 65], Some([1, 2, 3, 4]));
        let broken = Framing::WebSocket.deframer(64).next(&mut &mut bytes[..], None).expect_err("it is over the limit");
        assert_eq!(broken.code, 1009);
        let end = Framing::WebSocket.end(broken.code, "too long");
        assert_eq!(&end[..], b"\x88\x0a\x03\xf1too long");
    }

    #[test]
    fn a_message_stands_alone_as_it_stands_among_others() {
        for form in [Form::Text, Form::Binary, Form::Ping, Form::Pong] {
            let mut among = b"before".to_vec();
            Framing::WebSocket.put(&mut among, form, b"payload");
            assert_eq!(&among[6..], &Framing::WebSocket.frame(form, b"payload")[..], "{form:?}");
        }
    }
}
