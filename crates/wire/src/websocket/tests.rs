//! Frames: vectors, round trip, cuts, and the fuzz body.

use proptest::prelude::*;

use super::fuzz::{self, Said, decode_in_pieces};
use super::*;

const LIMITS: Limits = Limits { message_bytes_max: 1 << 20 };
const KEY: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

fn decode_all(role: Role, bytes: &[u8]) -> (Vec<Said>, Option<ProtocolError>) {
    let whole = decode_in_pieces(role, LIMITS, bytes, || 0);
    assert_eq!(whole, decode_in_pieces(role, LIMITS, bytes, || 1), "one byte at a time gives what the whole gives");
    whole
}

fn text(text: &str) -> Said {
    Said::Text(text.to_owned())
}

/// RFC 6455 §5.7, "Examples", both ways.
#[test]
fn the_rfcs_examples() {
    let (b256, b64k) = (vec![0xab; 256], vec![0xcd; 65536]);
    let with = |header: &[u8], payload: &[u8]| [header, payload].concat();
    let rows: Vec<(&str, Role, Vec<u8>, Said)> = vec![
        ("unmasked text", Role::Client, b"\x81\x05Hello".to_vec(), text("Hello")),
        ("masked text", Role::Server, b"\x81\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58".to_vec(), text("Hello")),
        ("unmasked ping", Role::Client, b"\x89\x05Hello".to_vec(), Said::Ping(b"Hello".to_vec())),
        (
            "masked pong",
            Role::Server,
            b"\x8a\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58".to_vec(),
            Said::Pong(b"Hello".to_vec()),
        ),
        ("256 bytes", Role::Client, with(b"\x82\x7e\x01\x00", &b256), Said::Binary(b256.clone())),
        ("64 KiB", Role::Client, with(b"\x82\x7f\0\0\0\0\0\x01\0\0", &b64k), Said::Binary(b64k.clone())),
        ("close 1000", Role::Client, b"\x88\x02\x03\xe8".to_vec(), Said::Close(Some((1000, String::new())))),
        ("empty close", Role::Client, b"\x88\x00".to_vec(), Said::Close(None)),
        ("empty text", Role::Client, b"\x81\x00".to_vec(), text("")),
    ];
    for (name, role, bytes, said) in rows {
        assert_eq!(decode_all(role, &bytes), (vec![said.clone()], None), "{name}");
        let mut out = Vec::new();
        said.put(&mut out, (role == Role::Server).then_some(KEY));
        assert_eq!(out, bytes, "{name}, encoded");
    }
    assert_eq!(decode_all(Role::Client, b"\x01\x03Hel\x80\x02lo"), (vec![text("Hello")], None), "fragmented text");
    assert_eq!(frame(Opcode::Text, b"Hello"), &b"\x81\x05Hello"[..]);
}

/// Frames that a peer may not send, the messages before them, and the close code. They are a server's, so readable.
#[test]
fn refusals() {
    use ProtocolError::*;
    let rows: &[(&str, &[u8], ProtocolError, u16)] = &[
        ("RSV1", b"\xc1\x00", ReservedBits { bits: 4 }, 1002),
        ("RSV2 on a ping", b"\xa9\x00", ReservedBits { bits: 2 }, 1002),
        ("RSV3", b"\x91\x00", ReservedBits { bits: 1 }, 1002),
        ("opcode 3", b"\x83\x00", ReservedOpcode { opcode: 3 }, 1002),
        ("opcode 7, not final", b"\x07\x00", ReservedOpcode { opcode: 7 }, 1002),
        ("opcode 11", b"\x8b\x00", ReservedOpcode { opcode: 11 }, 1002),
        ("opcode 15", b"\x8f\x00", ReservedOpcode { opcode: 15 }, 1002),
        ("masked by a server", b"\x81\x80", Masked, 1002),
        ("fragmented ping", b"\x09\x00", ControlFragmented { opcode: Opcode::Ping }, 1002),
        ("fragmented close", b"\x08\x00", ControlFragmented { opcode: Opcode::Close }, 1002),
        ("ping of 126", b"\x89\x7e", ControlTooLong { opcode: Opcode::Ping }, 1002),
        ("close with a 64-bit length", b"\x88\x7f", ControlTooLong { opcode: Opcode::Close }, 1002),
        ("continuation of nothing", b"\x80\x00", UnexpectedContinuation, 1002),
        ("text in a message", b"\x01\x01a\x81\x01b", MessageInterrupted { opcode: Opcode::Text }, 1002),
        ("binary in a message", b"\x01\x01a\x02\x01b", MessageInterrupted { opcode: Opcode::Binary }, 1002),
        ("16-bit 125", b"\x81\x7e\x00\x7d", NonMinimalLength { len: 125 }, 1002),
        ("64-bit 65535", b"\x81\x7f\0\0\0\0\0\0\xff\xff", NonMinimalLength { len: 65535 }, 1002),
        ("2^63", b"\x81\x7f\x80\0\0\0\0\0\0\0", LengthTopBit { len: 1 << 63 }, 1002),
        (
            "2^63 - 1",
            b"\x82\x7f\x7f\xff\xff\xff\xff\xff\xff\xff",
            MessageTooLarge { len: (1 << 63) - 1, max: 1 << 20 },
            1009,
        ),
        (
            "one over the limit",
            b"\x82\x7f\0\0\0\0\0\x10\0\x01",
            MessageTooLarge { len: (1 << 20) + 1, max: 1 << 20 },
            1009,
        ),
        (
            "over the limit together",
            b"\x02\x02ab\x80\x7f\0\0\0\0\0\x0f\xff\xff",
            MessageTooLarge { len: (1 << 20) + 1, max: 1 << 20 },
            1009,
        ),
        ("not UTF-8", b"\x81\x03ab\xff", TextNotUtf8 { offset: 2 }, 1007),
        ("unfinished character", b"\x81\x03a\xe2\x82", TextNotUtf8 { offset: 1 }, 1007),
        ("character broken by a fragment", b"\x01\x02a\xe2\x80\x01b", TextNotUtf8 { offset: 1 }, 1007),
        ("unfinished at an empty last fragment", b"\x01\x01\xe2\x80\x00", TextNotUtf8 { offset: 0 }, 1007),
        ("close of 1 byte", b"\x88\x01\x03", CloseTooShort, 1002),
        ("close 999", b"\x88\x02\x03\xe7", CloseCodeInvalid { code: 999 }, 1002),
        ("close 1005", b"\x88\x02\x03\xed", CloseCodeInvalid { code: 1005 }, 1002),
        ("close 5000", b"\x88\x02\x13\x88", CloseCodeInvalid { code: 5000 }, 1002),
        ("close reason", b"\x88\x05\x03\xe8ok\xff", CloseReasonNotUtf8 { offset: 2 }, 1007),
    ];
    for (name, bytes, error, code) in rows {
        // Something good before it, something good after it: the first is said, the second is not.
        let stream = [b"\x8a\x01!", *bytes, b"\x81\x02no"].concat();
        let said = vec![Said::Pong(b"!".to_vec())];
        assert_eq!(decode_all(Role::Client, &stream), (said, Some(error.clone())), "{name}");
        assert_eq!(error.close_code(), *code, "{name}");
        assert!(!error.to_string().contains('{'), "{error}");
    }
    assert_eq!(decode_all(Role::Server, b"\x81\x00"), (vec![], Some(Unmasked)));
}

/// Autobahn 6.4.*: `κόσμε`, then F4 90 (past 10FFFF), then more: refused with what has come, before the frame is whole.
#[test]
fn invalid_utf8_is_refused_inside_an_incomplete_frame() {
    for header in [&b"\x81\x14"[..], b"\x01\x14"] {
        let mut decoder = Decoder::new(Role::Client, LIMITS);
        let mut good = [header, "κόσμε".as_bytes(), b"\xf4"].concat();
        assert_eq!(decoder.decode(&mut &mut good[..]), Ok(None));
        assert_eq!(decoder.decode(&mut &mut [0x90][..]), Err(ProtocolError::TextNotUtf8 { offset: 10 }));
        assert_eq!(decoder.buffered_bytes(), 0);
    }
}

#[test]
fn control_frames_come_between_fragments_and_in_pieces() {
    let sent = b"\x01\x02ab\x89\x01p\x00\x00\x8a\x00\x80\x01c\x88\x00";
    let said = vec![Said::Ping(b"p".to_vec()), Said::Pong(vec![]), text("abc"), Said::Close(None)];
    assert_eq!(decode_all(Role::Client, sent), (said, None));
}

#[test]
fn bytes_after_a_close_are_ignored() {
    for rest in [&b"\x81\x02hi"[..], b"\xff\xff", b"\x81\x7f\xff\xff\xff\xff\xff\xff\xff\xff"] {
        let sent = [b"\x01\x02ab\x88\x04\x0f\xa0by", rest].concat();
        assert_eq!(decode_all(Role::Client, &sent), (vec![Said::Close(Some((4000, "by".to_owned())))], None));
    }
}

/// An idle connection costs its 24 bytes; a declared length costs nothing until its bytes come.
#[test]
fn memory_is_held_only_while_something_is_partial() {
    assert!(size_of::<Decoder>() <= 24);
    let limits = Limits { message_bytes_max: 100 << 20 };
    let mut decoder = Decoder::new(Role::Client, limits);
    assert_eq!(decoder.decode(&mut &mut b"\x82\x7f\0\0\0\0\x06\0\0\0abc".to_vec()[..]), Ok(None));
    assert!(decoder.buffered_bytes() < 1000, "{} bytes for 3", decoder.buffered_bytes());

    let mut decoder = Decoder::new(Role::Client, limits);
    for (bytes, said) in [(&b"\x02\x02ab\x80"[..], None), (b"\x02c", None), (b"d", Some(Event::Binary(b"abcd")))] {
        let mut bytes = bytes.to_vec();
        let mut input = &mut bytes[..];
        assert_eq!(decoder.decode(&mut input), Ok(said));
        assert!(decoder.buffered_bytes() > 0);
    }
    assert_eq!(decoder.decode(&mut &mut [][..]), Ok(None));
    assert_eq!(decoder.buffered_bytes(), 0);
}

/// A message that lies whole in the input is lent out of it.
#[test]
fn whole_frames_are_not_copied() {
    let mut bytes = b"\x81\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58".to_vec();
    let payload = bytes[6..].as_ptr();
    let mut decoder = Decoder::new(Role::Server, LIMITS);
    let event = decoder.decode(&mut &mut bytes[..]).expect("valid");
    assert!(matches!(event, Some(Event::Text("Hello"))));
    assert!(matches!(event, Some(Event::Text(text)) if text.as_ptr() == payload));
    assert_eq!(decoder.buffered_bytes(), 0);
}

/// Autobahn 9.3.1 and 9.4.1: 4 MiB in fragments of 64 bytes. No limit on their number, none on empty ones either.
#[test]
fn any_number_of_fragments() {
    let limits = Limits { message_bytes_max: 4 << 20 };
    for opcode in [Opcode::Text, Opcode::Binary] {
        let mut sent = Vec::new();
        // 1 + 3 * 1398101 bytes: most fragments cut a character.
        let payload = "*".to_owned() + &"é*".repeat((4 << 20) / 3);
        let mut opcode_now = opcode;
        for fragment in payload.as_bytes().chunks(64) {
            put_frame_parts(&mut sent, false, false, opcode_now, fragment, Some(KEY));
            opcode_now = Opcode::Continuation;
            put_frame_parts(&mut sent, false, false, opcode_now, b"", Some(KEY));
        }
        put_frame_parts(&mut sent, true, false, Opcode::Continuation, b"", Some(KEY));
        let mut cut = 0;
        let (said, failure) = decode_in_pieces(Role::Server, limits, &sent, || {
            cut = (cut + 997) % 4001;
            cut + 1
        });
        assert_eq!(failure, None);
        match &said[..] {
            [Said::Text(text)] => assert!(opcode == Opcode::Text && *text == payload),
            [Said::Binary(bytes)] => assert!(opcode == Opcode::Binary && *bytes == payload.as_bytes()),
            _ => panic!("{} events", said.len()),
        }
    }
}

/// The limit is broken by one byte at each place where it is checked, and kept by one byte less.
#[test]
fn the_message_limit_holds_exactly() {
    for (max, len, ok) in [(0, 0, true), (0, 1, false), (5, 5, true), (5, 6, false), (70_000, 70_000, true)] {
        let limits = Limits { message_bytes_max: max };
        for fragments in [1, 2, 3] {
            let mut sent = Vec::new();
            for index in 0..fragments {
                let opcode = if index == 0 { Opcode::Binary } else { Opcode::Continuation };
                let part = if index == 0 { len - len / fragments * (fragments - 1) } else { len / fragments };
                put_frame_parts(&mut sent, index == fragments - 1, false, opcode, &vec![7; part], None);
            }
            let (said, failure) = decode_in_pieces(Role::Client, limits, &sent, || 3);
            let name = format!("{len} bytes in {fragments} fragments, at most {max}");
            assert_eq!(said, if ok { vec![Said::Binary(vec![7; len])] } else { vec![] }, "{name}");
            assert_eq!(failure.is_none(), ok, "{name}: {failure:?}");
        }
    }
}

#[test]
fn header_lengths_and_frames_have_their_exact_size() {
    for (len, header) in [(0, 2), (125, 2), (126, 4), (65_535, 4), (65_536, 10)] {
        let payload = vec![1; len];
        assert_eq!(frame(Opcode::Binary, &payload).len(), header + len);
        assert_eq!(frame_header_len(len, false), header);
        let mut out = Vec::new();
        put_frame(&mut out, Opcode::Binary, &payload, Some(KEY));
        assert_eq!(out.len(), frame_header_len(len, true) + len);
    }
}

#[test]
fn a_long_close_reason_is_cut_between_characters() {
    for (reason, expected) in [("x".repeat(200), 123), ("é".repeat(100), 122), ("😀".repeat(40), 120)] {
        let mut out = Vec::new();
        put_close(&mut out, 1001, &reason, None);
        let (said, _) = decode_all(Role::Client, &out);
        assert_eq!(said, vec![Said::Close(Some((1001, reason[..expected].to_owned())))]);
    }
}

/// The fuzz body on every test run: noise, and frames with single bytes changed, which get much further.
#[test]
fn the_fuzz_body_holds_for_pseudo_random_input() {
    let mut random = MaskSource::new(6455);
    let mut next = move |bound: usize| u32::from_ne_bytes(random.next_mask()) as usize % bound;
    for round in 0..3000 {
        let mut data: Vec<u8> = (0..4).map(|_| next(256) as u8).collect();
        let mask = |flags: u8| (flags & 1 == 0).then_some(KEY);
        if round % 3 == 0 {
            data.extend((0..next(40)).map(|_| next(256) as u8));
        } else {
            for _ in 0..next(6) {
                let opcode = Opcode::from_bits([0, 0, 1, 2, 1, 9, 10][next(7)]).unwrap_or(Opcode::Text);
                let payload = &"aé€😀 and 126 bytes or more of this, to reach a longer header. ".repeat(4).into_bytes();
                let payload = &payload[next(8)..][..next(if opcode.is_control() { 126 } else { 200 })];
                let (fin, mask) = (opcode.is_control() || next(2) == 0, mask(data[0]));
                put_frame_parts(&mut data, fin, false, opcode, payload, mask);
            }
            if round % 3 == 1 && data.len() > 4 {
                let at = 4 + next(data.len() - 4);
                data[at] ^= 1 << next(8);
            }
        }
        fuzz::decode(&data);
    }
}

/// The handshake's fuzz body on every test run: a good request, its lines shuffled, repeated, and with bytes changed.
#[test]
fn the_handshakes_fuzz_body_holds_for_pseudo_random_input() {
    let mut random = MaskSource::new(101);
    let mut next = move |bound: usize| u32::from_ne_bytes(random.next_mask()) as usize % bound;
    let good = [
        "Upgrade: websocket",
        "Connection: keep-alive, Upgrade",
        "Sec-WebSocket-Version: 13",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
        "Sec-WebSocket-Protocol: chat, fanfare.v1",
        "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits=\"1,5\"",
        "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=",
        "X: a\r",
    ];
    for round in 0..2000 {
        let mut lines = good.to_vec();
        for _ in 0..next(3) {
            lines[next(8)] = good[next(8)];
        }
        let mut data = format!("GET\n{}", lines.join("\n")).into_bytes();
        for _ in 0..round % 3 {
            let at = next(data.len());
            data[at] = next(256) as u8;
        }
        fuzz::handshake(&data);
    }
}

fn said() -> impl Strategy<Value = Said> {
    let bytes = |len| proptest::collection::vec(any::<u8>(), len);
    prop_oneof![
        any::<String>().prop_map(Said::Text),
        bytes(0..300).prop_map(Said::Binary),
        bytes(65_500..65_600).prop_map(Said::Binary),
        bytes(0..126).prop_map(Said::Ping),
        bytes(0..126).prop_map(Said::Pong),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(64) })]

    /// `decode(encode(x)) == x`, for both roles, any fragmentation with pings in between, and any cuts.
    #[test]
    fn round_trip(
        messages in proptest::collection::vec((said(), proptest::collection::vec(any::<prop::sample::Index>(), 0..4)), 0..6),
        keys in any::<u64>(),
        client in any::<bool>(),
        cuts in proptest::collection::vec(1usize..5000, 1..8),
    ) {
        let mut keys = MaskSource::new(keys);
        let mut key = || client.then(|| keys.next_mask());
        let (mut sent, mut expected) = (Vec::new(), Vec::new());
        for (said, at) in messages {
            match &said {
                Said::Text(_) | Said::Binary(_) => {
                    let (mut opcode, payload) = match &said {
                        Said::Text(text) => (Opcode::Text, text.as_bytes()),
                        Said::Binary(bytes) => (Opcode::Binary, &bytes[..]),
                        _ => unreachable!("matched above"),
                    };
                    let mut at: Vec<usize> = at.iter().map(|at| at.index(payload.len() + 1)).collect();
                    at.sort_unstable();
                    let mut start = 0;
                    for end in at {
                        put_frame_parts(&mut sent, false, false, opcode, &payload[start..end], key());
                        put_frame(&mut sent, Opcode::Ping, &[end as u8], key());
                        expected.push(Said::Ping(vec![end as u8]));
                        (start, opcode) = (end, Opcode::Continuation);
                    }
                    put_frame_parts(&mut sent, true, false, opcode, &payload[start..], key());
                }
                control => control.put(&mut sent, key()),
            }
            expected.push(said);
        }
        let role = if client { Role::Server } else { Role::Client };
        let mut cuts = cuts.into_iter().cycle();
        prop_assert_eq!(decode_in_pieces(role, LIMITS, &sent, || 0), (expected.clone(), None));
        prop_assert_eq!(decode_in_pieces(role, LIMITS, &sent, || cuts.next().unwrap_or(0)), (expected, None));
    }
}
