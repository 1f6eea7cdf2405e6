//! permessage-deflate: the RFC's vectors, hostile input, round trips, cuts, and the fuzz body.

use super::*;
use crate::websocket::fuzz::{self, Said, decode_in_pieces, decode_in_pieces_by};
use crate::websocket::{Decoder, Event, Limits, MaskSource, Opcode, ProtocolError, Role, put_frame, put_frame_parts};
use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};
use proptest::prelude::*;

const LIMITS: Limits = Limits { message_bytes_max: 1 << 20 };

fn decode_all(bytes: &[u8]) -> (Vec<Said>, Option<ProtocolError>) {
    decode_within(LIMITS, bytes)
}

fn decode_within(limits: Limits, bytes: &[u8]) -> (Vec<Said>, Option<ProtocolError>) {
    let mut inflater = Inflater::default();
    let whole = decode_in_pieces_by(Role::Client, limits, Some(&mut inflater), bytes, || 0);
    let pieces = decode_in_pieces_by(Role::Client, limits, Some(&mut inflater), bytes, || 1);
    assert_eq!(whole, pieces, "one byte at a time gives what the whole gives");
    whole
}

fn text(text: &str) -> Said {
    Said::Text(text.to_owned())
}

/// A frame of a server with RSV1.
fn compressed(opcode: Opcode, payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    put_frame_parts(&mut out, true, true, opcode, payload, None);
    out
}

/// So many zeros, compressed as well as zlib can.
fn bomb(bytes: usize) -> Vec<u8> {
    let mut deflate = Compress::new(Compression::best(), false);
    let (zeros, mut out) = (vec![0; 1 << 20], Vec::new());
    let mut left = bytes;
    while left > 0 || out.is_empty() {
        let count = left.min(zeros.len());
        out.reserve(count / 500 + 1024);
        let flush = if left == count { FlushCompress::Sync } else { FlushCompress::None };
        deflate.compress_vec(&zeros[..count], &mut out, flush).expect("zeros can be compressed");
        left -= count;
    }
    out.truncate(out.len() - TAIL.len());
    out
}

/// RFC 7692 §7.2.3.
#[test]
fn the_rfcs_examples() {
    let rows: &[(&str, &[u8], &str)] = &[
        ("§7.2.3.1, one block", b"\xc1\x07\xf2\x48\xcd\xc9\xc9\x07\x00", "Hello"),
        ("§7.2.3.1, two fragments", b"\x41\x03\xf2\x48\xcd\x80\x04\xc9\xc9\x07\x00", "Hello"),
        ("§7.2.3.3, not compressed", b"\xc1\x0b\x00\x05\x00\xfa\xff\x48\x65\x6c\x6c\x6f\x00", "Hello"),
        ("§7.2.3.4, a final block", b"\xc1\x08\xf3\x48\xcd\xc9\xc9\x07\x00\x00", "Hello"),
        ("a final block and nothing behind it", b"\xc1\x07\xf3\x48\xcd\xc9\xc9\x07\x00", "Hello"),
        ("§7.2.3.5, two blocks", b"\xc1\x0d\xf2\x48\x05\x00\x00\x00\xff\xff\xca\xc9\xc9\x07\x00", "Hello"),
        ("§7.2.3.6, an empty message", b"\xc1\x01\x00", ""),
        ("empty fragments around it", b"\x41\x00\x00\x07\xf2\x48\xcd\xc9\xc9\x07\x00\x80\x00", "Hello"),
        ("not compressed at all", b"\x81\x05Hello", "Hello"),
    ];
    for (name, bytes, said) in rows {
        assert_eq!(decode_all(bytes), (vec![text(said)], None), "{name}");
        // Another one behind it is not disturbed.
        let twice = [*bytes, *bytes].concat();
        assert_eq!(decode_all(&twice), (vec![text(said), text(said)], None), "{name}, twice");
    }
    let compressed = Deflater::default().deflate(b"HelloHelloHelloHello").map(<[u8]>::to_vec);
    let inflated =
        compressed.and_then(|compressed| Inflater::default().inflate(&compressed, 20).map(<[u8]>::to_vec).ok());
    assert_eq!(inflated.as_deref(), Some(&b"HelloHelloHelloHello"[..]));
}

#[test]
fn refusals() {
    use ProtocolError::*;
    let many_final = [&b"\x03\x00".repeat(FINAL_BLOCKS_MAX + 1)[..], b"\x00"].concat();
    let rows: Vec<(&str, Vec<u8>, ProtocolError, u16)> = vec![
        ("RSV1 on a ping", b"\xc9\x00".to_vec(), ReservedBits { bits: 4 }, 1002),
        ("RSV1 on a close", b"\xc8\x00".to_vec(), ReservedBits { bits: 4 }, 1002),
        (
            "RSV1 on a continuation",
            b"\x41\x03\xf2\x48\xcd\xc0\x04\xc9\xc9\x07\x00".to_vec(),
            ReservedBits { bits: 4 },
            1002,
        ),
        ("RSV1 on a continuation only", b"\x01\x01a\xc0\x00".to_vec(), ReservedBits { bits: 4 }, 1002),
        ("RSV1 and RSV2", b"\xe1\x00".to_vec(), ReservedBits { bits: 6 }, 1002),
        ("RSV2", b"\xa1\x00".to_vec(), ReservedBits { bits: 2 }, 1002),
        ("RSV1 on opcode 3", b"\xc3\x00".to_vec(), ReservedBits { bits: 4 }, 1002),
        (
            "text inside a compressed message",
            b"\x41\x00\xc1\x00".to_vec(),
            MessageInterrupted { opcode: Opcode::Text },
            1002,
        ),
        ("the window of an earlier message", b"\xc1\x05\xf2\x00\x11\x00\x00".to_vec(), NotDeflate { offset: 0 }, 1007),
        ("an empty payload, which is not an empty message", b"\xc1\x00".to_vec(), NotDeflate { offset: 0 }, 1007),
        ("a reserved kind of block", b"\xc1\x01\x06".to_vec(), NotDeflate { offset: 0 }, 1007),
        ("a stored block cut short", b"\xc1\x06\x00\x50\x00\xaf\xffa".to_vec(), DeflateUnfinished, 1007),
        ("a block cut short", b"\xc1\x05\xf2\x48\xcd\xc9\xc9".to_vec(), NotDeflate { offset: 0 }, 1007),
        ("many final blocks", compressed(Opcode::Binary, &many_final), FinalBlocks { max: FINAL_BLOCKS_MAX }, 1007),
        ("not UTF-8", b"\xc1\x07\x00\x01\x00\xfe\xff\xff\x00".to_vec(), TextNotUtf8 { offset: 0 }, 1007),
        ("half a character", b"\xc1\x07\x00\x01\x00\xfe\xff\xe2\x00".to_vec(), TextNotUtf8 { offset: 0 }, 1007),
    ];
    for (name, bytes, error, code) in rows {
        let stream = [b"\x8a\x01!", &bytes[..], b"\x81\x02no"].concat();
        let (said, failure) = decode_all(&stream);
        assert_eq!(said, vec![Said::Pong(b"!".to_vec())], "{name}");
        let failure = failure.map(|failure| match failure {
            NotDeflate { .. } => NotDeflate { offset: 0 }, // where exactly is zlib's business
            other => other,
        });
        assert_eq!(failure, Some(error.clone()), "{name}");
        assert_eq!(error.close_code(), code, "{name}");
    }
}

#[test]
fn rsv1_is_refused_where_nothing_was_negotiated() {
    let refused = (vec![], Some(ProtocolError::ReservedBits { bits: 4 }));
    assert_eq!(decode_in_pieces(Role::Client, LIMITS, b"\xc1\x07\xf2\x48\xcd\xc9\xc9\x07\x00", || 0), refused);
}

/// A caller that reads no compressed messages gets none.
#[test]
fn a_compressed_message_without_an_inflater_is_refused() {
    for mut bytes in [&b"\xc1\x07\xf2\x48\xcd\xc9\xc9\x07\x00"[..], b"\x41\x00\x80\x01\x00"].map(<[u8]>::to_vec) {
        let mut decoder = Decoder::new(Role::Client, LIMITS).with_deflate();
        assert_eq!(decoder.decode(&mut &mut bytes[..]), Err(ProtocolError::ReservedBits { bits: 4 }));
        assert_eq!(decoder.decode(&mut &mut b"\x81\x00".to_vec()[..]), Ok(None), "it has ended");
    }
}

#[test]
fn control_frames_come_between_the_fragments_of_a_compressed_message() {
    let sent = b"\x41\x03\xf2\x48\xcd\x89\x01p\x80\x04\xc9\xc9\x07\x00\x88\x00";
    assert_eq!(decode_all(sent), (vec![Said::Ping(b"p".to_vec()), text("Hello"), Said::Close(None)], None));
}

/// The limit holds for the message that comes out, and a bomb is refused with no more memory than the limit.
#[test]
fn a_bomb_costs_no_more_memory_than_the_limit() {
    let sent = bomb(16 << 20);
    assert!(sent.len() < (16 << 20) / 900, "{} bytes: about a thousandth", sent.len());
    for message_bytes_max in [0, 1, 100, 64 << 10, 100_000, 1 << 20] {
        let mut inflater = Inflater::default();
        let refused = inflater.inflate(&sent, message_bytes_max).map(<[u8]>::len);
        assert!(matches!(refused, Err(ProtocolError::MessageTooLarge { max, .. }) if max == message_bytes_max));
        let held = inflater.buffered_bytes();
        assert!(held <= message_bytes_max + 1, "{held} bytes for a limit of {message_bytes_max}");
    }
    // By frames, whole and in pieces (which the helper checks), it is a close with 1009.
    let (said, failure) = decode_within(LIMITS, &compressed(Opcode::Binary, &sent));
    assert_eq!((said, failure.map(|failure| failure.close_code())), (vec![], Some(1009)));
}

#[test]
fn the_limit_of_a_compressed_message_holds_exactly() {
    for max in [0, 1, 5, 4095, 4096, 4097, 70_000] {
        for (len, ok) in [(max, true), (max + 1, false)] {
            let sent = bomb(len);
            let inflated = Inflater::default().inflate(&sent, max).map(<[u8]>::len);
            let name = format!("{len} bytes, at most {max}");
            match ok {
                true => assert_eq!(inflated, Ok(len), "{name}"),
                false => assert_eq!(inflated, Err(ProtocolError::MessageTooLarge { len: len as u64, max }), "{name}"),
            }
        }
    }
}

/// Compressed bytes are bounded before they are decompressed, at the length that a frame declares.
#[test]
fn compressed_bytes_have_a_limit_of_their_own() {
    let limits = Limits { message_bytes_max: 8000 };
    let max = compressed_bytes_max(8000);
    let fragments = |last: usize| {
        let mut sent = Vec::new();
        put_frame_parts(&mut sent, false, true, Opcode::Binary, &[0, 0, 0, 0xff, 0xff].repeat(1800), None);
        put_frame_parts(&mut sent, true, false, Opcode::Continuation, &vec![0; last], None);
        sent
    };
    let too_large = |len: usize| Some(ProtocolError::MessageTooLarge { len: len as u64, max });
    assert_eq!(max, 9064);
    assert_eq!(decode_within(limits, &fragments(65)), (vec![], too_large(9065)));
    assert_ne!(decode_within(limits, &fragments(64)).1, too_large(9064));
    let declared = [b"\xc2\x7f", &(max as u64 + 1 + 65_536).to_be_bytes()[..]].concat();
    assert_eq!(decode_within(limits, &declared), (vec![], too_large(max + 1 + 65_536)));
    // A message of the whole limit that cannot be compressed is taken.
    let mut noise = MaskSource::new(7692);
    let noise: Vec<u8> = (0..2000).flat_map(|_| noise.next_mask()).collect();
    let mut stored = Vec::with_capacity(max);
    let mut deflate = Compress::new(Compression::none(), false);
    deflate.compress_vec(&noise, &mut stored, FlushCompress::Sync).expect("anything can be stored");
    let sent = compressed(Opcode::Binary, &stored[..stored.len() - TAIL.len()]);
    assert!(decode_within(limits, &sent) == (vec![Said::Binary(noise)], None));
}

#[test]
fn a_large_message_is_given_back_with_the_next_call() {
    let sent = compressed(Opcode::Binary, &bomb(500_000));
    let (mut decoder, mut inflater) = (Decoder::new(Role::Client, LIMITS).with_deflate(), Inflater::default());
    let mut bytes = sent.clone();
    let mut input = &mut bytes[..];
    let event = decoder.decode_with(&mut input, &mut inflater);
    assert!(matches!(event, Ok(Some(Event::Binary(bytes))) if bytes.len() == 500_000));
    assert!(inflater.buffered_bytes() >= 500_000);
    assert_eq!(decoder.decode_with(&mut input, &mut inflater), Ok(None));
    assert!(inflater.buffered_bytes() <= KEPT_BYTES);
    assert_eq!(decoder.buffered_bytes(), 0);
}

/// A final block may be followed by one that repeats what came before it (§7.2.3.5 with BFINAL).
#[test]
fn the_window_lasts_beyond_a_final_block() {
    let block = |payload: &[u8], before: &[u8]| {
        let mut deflate = Compress::new(Compression::best(), false);
        if !before.is_empty() {
            deflate.set_dictionary(before).expect("a dictionary");
        }
        let mut out = Vec::with_capacity(payload.len() + 64);
        let status = deflate.compress_vec(payload, &mut out, FlushCompress::Finish).expect("it fits");
        assert_eq!(status, Status::StreamEnd);
        out
    };
    let said = b"a phrase that is long enough to be repeated";
    let (first, second) = (block(said, b""), block(said, said));
    assert!(second.len() < said.len() / 2, "it refers to the first");
    let sent = [&first[..], &second, b"\x00"].concat();
    assert_eq!(Inflater::default().inflate(&sent, 1000), Ok(&said.repeat(2)[..]));
}

#[test]
fn nothing_is_compressed_that_does_not_become_shorter() {
    let mut noise = MaskSource::new(1);
    let noise: Vec<u8> = (0..500).flat_map(|_| noise.next_mask()).collect();
    for window in [Window::Full, Window::Small] {
        let mut deflater = Deflater::new(window);
        assert_eq!(deflater.deflate(b""), None);
        assert_eq!(deflater.deflate(b"x"), None);
        assert_eq!(deflater.deflate(&noise), None);
        let payload = br#"{"key":"value","other":"value"}"#.repeat(100);
        let len = deflater.deflate(&payload).map(<[u8]>::len);
        assert!(len.is_some_and(|len| len < 200), "{len:?} bytes after one that did not fit");
    }
}

/// A client that was promised a window of 512 bytes holds no more.
#[test]
fn a_small_window_is_enough_for_what_was_made_with_it() {
    let mut payload = Vec::new();
    let mut random = MaskSource::new(9);
    let words: Vec<[u8; 4]> = (0..40).map(|_| random.next_mask()).collect();
    for index in 0..20_000u32 {
        payload.extend_from_slice(&words[(index.wrapping_mul(2_654_435_761) >> 16) as usize % words.len()]);
    }
    let compressed = Deflater::new(Window::Small).deflate(&payload).expect("words repeat").to_vec();
    let mut small = Decompress::new_with_window_bits(false, Window::Small.bits());
    // In pieces: a decoder that gets all at once finds repetitions in its output, however far back they are.
    let (mut out, mut at) = (Vec::new(), 0);
    let sent = [&compressed[..], &TAIL].concat();
    while out.len() < payload.len() {
        let mut piece = [0; 97];
        let (taken, made) = (small.total_in(), small.total_out());
        small.decompress(&sent[at..], &mut piece, FlushDecompress::Sync).expect("nothing is too far back");
        at += (small.total_in() - taken) as usize;
        out.extend_from_slice(&piece[..(small.total_out() - made) as usize]);
    }
    assert!(out == payload);
}

/// The fuzz body on every test run: noise, and compressed messages with single bits changed, which get much further.
#[test]
fn the_fuzz_body_holds_for_pseudo_random_input() {
    let mut random = MaskSource::new(7692);
    let mut next = move |bound: usize| u32::from_ne_bytes(random.next_mask()) as usize % bound;
    let mut deflater = Deflater::default();
    for round in 0..2000 {
        let mut data: Vec<u8> = (0..4).map(|_| next(256) as u8).collect();
        let mask = (data[0] & 1 == 0).then_some([1, 2, 3, 4]);
        let payload = "aé€😀 and more of this, again and again. ".repeat(1 + next(8)).into_bytes();
        let packed = deflater.deflate(&payload).unwrap_or_default().to_vec();
        match round % 4 {
            0 => data.extend((0..next(60)).map(|_| next(256) as u8)),
            1 => data.extend_from_slice(&packed),
            _ => {
                let cut = next(packed.len() + 1);
                put_frame_parts(&mut data, false, true, Opcode::Text, &packed[..cut], mask);
                put_frame(&mut data, Opcode::Ping, b"p", mask);
                put_frame_parts(&mut data, true, false, Opcode::Continuation, &packed[cut..], mask);
            }
        }
        if next(3) > 0 && data.len() > 4 {
            let at = 4 + next(data.len() - 4);
            data[at] ^= 1 << next(8);
        }
        fuzz::deflate(&data);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(64) })]

    /// Compressed messages come out as they were: for both windows, every level of any other sender, any fragments with
    /// pings in between, and any cuts.
    #[test]
    fn round_trip(
        words in proptest::collection::vec("[a-zé€😀]{1,9}", 1..12),
        places in proptest::collection::vec(any::<prop::sample::Index>(), 0..400),
        is_text in any::<bool>(),
        by in 0u32..12,
        at in proptest::collection::vec(any::<prop::sample::Index>(), 0..4),
        cuts in proptest::collection::vec(1usize..700, 1..8),
    ) {
        let payload: String = places.iter().map(|place| place.get(&words[..]).as_str()).collect();
        let packed = match by {
            0 | 1 => {
                let window = if by == 0 { Window::Full } else { Window::Small };
                Deflater::new(window).deflate(payload.as_bytes()).map(<[u8]>::to_vec)
            }
            level => {
                let mut deflate = Compress::new(Compression::new(level - 2), false);
                let mut out = Vec::with_capacity(payload.len() + 100);
                deflate.compress_vec(payload.as_bytes(), &mut out, FlushCompress::Sync).expect("anything can be");
                Some(out.strip_suffix(&TAIL).expect("it is flushed").to_vec())
            }
        };
        let Some(packed) = packed else { return Ok(()) };
        let (mut opcode, said) = match is_text {
            true => (Opcode::Text, Said::Text(payload.clone())),
            false => (Opcode::Binary, Said::Binary(payload.clone().into_bytes())),
        };
        let mut at: Vec<usize> = at.iter().map(|at| at.index(packed.len() + 1)).collect();
        at.sort_unstable();
        let (mut sent, mut expected, mut start) = (Vec::new(), Vec::new(), 0);
        for end in at {
            put_frame_parts(&mut sent, false, opcode != Opcode::Continuation, opcode, &packed[start..end], None);
            put_frame(&mut sent, Opcode::Ping, b"", None);
            expected.push(Said::Ping(Vec::new()));
            (start, opcode) = (end, Opcode::Continuation);
        }
        put_frame_parts(&mut sent, true, opcode != Opcode::Continuation, opcode, &packed[start..], None);
        expected.push(said);
        let mut inflater = Inflater::default();
        let mut cuts = cuts.into_iter().cycle();
        let mut decode = |cuts: &mut dyn FnMut() -> usize| {
            decode_in_pieces_by(Role::Client, LIMITS, Some(&mut inflater), &sent, cuts)
        };
        prop_assert_eq!(decode(&mut || 0), (expected.clone(), None));
        prop_assert_eq!(decode(&mut || cuts.next().unwrap_or(0)), (expected, None));
    }
}
