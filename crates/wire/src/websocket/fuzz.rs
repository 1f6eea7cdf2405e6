//! The bodies of the fuzz targets `websocket_decode`, `websocket_deflate` and `websocket_handshake`, and of the tests
//! that feed them on every run.
//!
//! [`decode`]: for any cut of the bytes the decoder gives the same events, never panics, and never holds more than the
//! limit and its small fixed part. Its events are the same after they are encoded and decoded again. [`handshake`]: no
//! head panics us, and no value that we are given breaks out of a head that we write. [`deflate`]: the same as for
//! [`decode`] with compressed messages, whose decompressed form is held within the limit too.

use super::decode::PARTIAL_BYTES;
use super::deflate::{Deflater, Inflater, KEPT_BYTES, Window, compressed_bytes_max, negotiate};
use super::{
    CloseFrame, Decoder, Event, Limits, Opcode, ProtocolError, Role, accept, is_upgrade, put_close, put_frame,
    put_frame_parts, request, verify,
};

/// An [`Event`] that owns its contents.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Said {
    /// See [`Event::Text`].
    Text(String),
    /// See [`Event::Binary`].
    Binary(Vec<u8>),
    /// See [`Event::Ping`].
    Ping(Vec<u8>),
    /// See [`Event::Pong`].
    Pong(Vec<u8>),
    /// See [`Event::Close`].
    Close(Option<(u16, String)>),
}

impl From<Event<'_>> for Said {
    fn from(event: Event<'_>) -> Self {
        match event {
            Event::Text(text) => Self::Text(text.to_owned()),
            Event::Binary(bytes) => Self::Binary(bytes.to_vec()),
            Event::Ping(bytes) => Self::Ping(bytes.to_vec()),
            Event::Pong(bytes) => Self::Pong(bytes.to_vec()),
            Event::Close(frame) => Self::Close(frame.map(|CloseFrame { code, reason }| (code, reason.to_owned()))),
        }
    }
}

impl Said {
    /// Appends it as one frame.
    pub fn put(&self, out: &mut Vec<u8>, mask: Option<[u8; 4]>) {
        match self {
            Self::Text(text) => put_frame(out, Opcode::Text, text.as_bytes(), mask),
            Self::Binary(bytes) => put_frame(out, Opcode::Binary, bytes, mask),
            Self::Ping(bytes) => put_frame(out, Opcode::Ping, bytes, mask),
            Self::Pong(bytes) => put_frame(out, Opcode::Pong, bytes, mask),
            Self::Close(Some((code, reason))) => put_close(out, *code, reason, mask),
            Self::Close(None) => put_frame(out, Opcode::Close, b"", mask),
        }
    }
}

/// All that a decoder says to `bytes`, read in pieces of the lengths that `cuts` gives (0: all the rest).
pub fn decode_in_pieces(
    role: Role,
    limits: Limits,
    bytes: &[u8],
    cuts: impl FnMut() -> usize,
) -> (Vec<Said>, Option<ProtocolError>) {
    decode_in_pieces_by(role, limits, None, bytes, cuts)
}

/// The same with permessage-deflate, if an inflater is given.
pub fn decode_in_pieces_by(
    role: Role,
    limits: Limits,
    mut inflater: Option<&mut Inflater>,
    bytes: &[u8],
    mut cuts: impl FnMut() -> usize,
) -> (Vec<Said>, Option<ProtocolError>) {
    let bytes_max = match inflater {
        Some(_) => compressed_bytes_max(limits.message_bytes_max),
        None => limits.message_bytes_max,
    };
    let mut bytes = bytes.to_vec();
    let mut rest = &mut bytes[..];
    let decoder = Decoder::new(role, limits);
    let mut decoder = if inflater.is_some() { decoder.with_deflate() } else { decoder };
    let (mut said, mut failure) = (Vec::new(), None);
    while !rest.is_empty() {
        let len = match cuts() {
            0 => rest.len(),
            len => len.min(rest.len()),
        };
        let (mut input, tail) = rest.split_at_mut(len);
        rest = tail;
        loop {
            let ended = failure.is_some() || matches!(said.last(), Some(Said::Close(_)));
            let decoded = match &mut inflater {
                Some(inflater) => decoder.decode_with(&mut input, inflater),
                None => decoder.decode(&mut input),
            };
            match decoded {
                Ok(Some(event)) => said.push(event.into()),
                Ok(None) => break,
                Err(error) => assert!(failure.replace(error).is_none(), "one error is the last word"),
            }
            assert!(!ended, "nothing is said after a close or an error");
            assert!(decoder.buffered_bytes() <= bytes_max + PARTIAL_BYTES);
            let inflated = inflater.as_ref().map_or(0, |inflater| inflater.buffered_bytes());
            assert!(inflated <= KEPT_BYTES.max(limits.message_bytes_max + 1), "{inflated} bytes of output");
        }
        assert!(input.is_empty(), "`Ok(None)` has consumed everything");
        assert!(decoder.buffered_bytes() <= bytes_max + PARTIAL_BYTES);
        if failure.is_some() {
            assert_eq!(decoder.buffered_bytes(), 0, "a failed decoder holds nothing");
        }
    }
    (said, failure)
}

/// One round. The first four bytes choose role, limit and cuts; the peer sends the rest.
pub fn decode(data: &[u8]) {
    let Some((&[flags, limit, cut_a, cut_b], sent)) = data.split_first_chunk() else { return };
    let role = if flags & 1 == 0 { Role::Server } else { Role::Client };
    let limits = Limits { message_bytes_max: usize::from(limit) << (flags >> 1 & 0x7) };

    let whole = decode_in_pieces(role, limits, sent, || 0);
    let mut turn = false;
    let cuts = decode_in_pieces(role, limits, sent, || {
        turn = !turn;
        usize::from(if turn { cut_a } else { cut_b })
    });
    assert_eq!(whole, cuts, "cut by {cut_a} and {cut_b}");
    assert_eq!(whole, decode_in_pieces(role, limits, sent, || 1), "byte by byte");

    let (said, _) = whole;
    let mut again = Vec::new();
    for said in &said {
        said.put(&mut again, (role == Role::Server).then_some([cut_a, cut_b, flags, limit]));
    }
    assert_eq!(decode_in_pieces(role, limits, &again, || 0), (said, None), "encoded and decoded again");
}

/// One round of frames, of a compressed message, and of a message to compress.
pub fn deflate(data: &[u8]) {
    let Some((&[flags, limit, cut_a, cut_b], sent)) = data.split_first_chunk() else { return };
    let role = if flags & 1 == 0 { Role::Server } else { Role::Client };
    let limits = Limits { message_bytes_max: usize::from(limit) << (flags >> 1 & 0x7) };
    let mask = (role == Role::Server).then_some([cut_a, cut_b, flags, limit]);
    let mut inflater = Inflater::default();

    // As frames, and as the payload of one.
    let mut framed = Vec::new();
    put_frame_parts(&mut framed, true, true, Opcode::Binary, sent, mask);
    for frames in [sent, &framed] {
        let whole = decode_in_pieces_by(role, limits, Some(&mut inflater), frames, || 0);
        let mut turn = false;
        let cuts = decode_in_pieces_by(role, limits, Some(&mut inflater), frames, || {
            turn = !turn;
            usize::from(if turn { cut_a } else { cut_b })
        });
        assert_eq!(whole, cuts, "cut by {cut_a} and {cut_b}");
        for said in &whole.0 {
            if let Said::Binary(bytes) = said {
                assert!(bytes.len() <= limits.message_bytes_max, "the limit holds for what comes out");
            }
        }
    }

    for window in [Window::Full, Window::Small] {
        let mut deflater = Deflater::new(window);
        for _ in 0..2 {
            let Some(compressed) = deflater.deflate(sent) else { continue };
            assert!(compressed.len() < sent.len());
            assert_eq!(inflater.inflate(compressed, sent.len()), Ok(sent), "{window:?}");
        }
    }
    let offers = String::from_utf8_lossy(sent);
    let offers: Vec<&str> = offers.split(',').collect();
    let _ = negotiate(&offers); // it declines or accepts, and does not panic
}

/// One round: lines `name:value`, after a first one that is the method. Both sides judge them, and write heads with
/// them.
pub fn handshake(data: &[u8]) {
    let mut lines = data.split(|&byte| byte == b'\n');
    let method = String::from_utf8_lossy(lines.next().unwrap_or_default()).into_owned();
    let headers: Vec<(String, &[u8])> = lines
        .filter_map(|line| {
            let colon = line.iter().position(|&byte| byte == b':')?;
            Some((String::from_utf8_lossy(&line[..colon]).into_owned(), &line[colon + 1..]))
        })
        .collect();
    let pairs = || headers.iter().map(|(name, value)| (name.as_str(), *value));
    let texts: Vec<String> = pairs().map(|(_, value)| String::from_utf8_lossy(value).into_owned()).collect();
    let extra: Vec<(&str, &str)> = texts.iter().take(40).map(|text| ("X-Extra", text.as_str())).collect();
    let mut room = [httparse::EMPTY_HEADER; 64];

    let key = "dGhlIHNhbXBsZSBub25jZQ==";
    match accept(&method, 1, pairs()) {
        Ok(accepted) => {
            assert!(is_upgrade(pairs()), "what is accepted was asked for");
            let mut head = Vec::new();
            accepted.respond(&mut head, accepted.protocols.first().copied(), &extra);
            let mut response = httparse::Response::new(&mut room);
            assert_eq!(response.parse(&head), Ok(httparse::Status::Complete(head.len())), "one whole head");
            let fixed = 3 + usize::from(!accepted.protocols.is_empty());
            assert_eq!(response.headers.len(), fixed + extra.len(), "no header was smuggled in");
            let answered = response.headers.iter().map(|header| (header.name, header.value));
            let sent = pairs().find(|(name, _)| name.eq_ignore_ascii_case("sec-websocket-key"));
            let sent = String::from_utf8_lossy(sent.map(|(_, value)| value).unwrap_or_default()).into_owned();
            let established = verify(101, answered, sent.trim_matches([' ', '\t']), &accepted.protocols);
            assert_eq!(established.map(|it| it.protocol), Ok(accepted.protocols.first().copied()));
        }
        Err(refusal) => {
            assert!(matches!(refusal.status(), 400 | 405 | 426));
            assert!(refusal.to_string().bytes().all(|byte| !byte.is_ascii_control()), "safe to log");
        }
    }
    if let Err(refusal) = verify(101, pairs(), key, &["chat"]) {
        assert!(refusal.to_string().bytes().all(|byte| !byte.is_ascii_control()), "safe to log");
    }

    let mut head = Vec::new();
    let path = format!("/{method}");
    request(&mut head, texts.first().map_or("localhost", String::as_str), &path, key, &["chat"], &extra);
    let mut room = [httparse::EMPTY_HEADER; 64];
    let mut parsed = httparse::Request::new(&mut room);
    assert_eq!(parsed.parse(&head), Ok(httparse::Status::Complete(head.len())), "one whole head");
    assert_eq!(parsed.headers.len(), 6 + extra.len(), "no header was smuggled in");
    let sent = parsed.headers.iter().map(|header| (header.name, header.value)).filter(|(name, _)| *name != "X-Extra");
    assert!(accept("GET", 1, sent).is_ok(), "our server accepts what our client asks");
}
