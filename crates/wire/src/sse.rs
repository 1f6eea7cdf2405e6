//! Event streams (HTML, 9.2 *Server-sent events*): blocks of an event stream, and the text cursor that stands in `id:`.
//!
//! Out: [`put_event`], [`put_data`], [`put_comment`] and the others append whole lines; a line feed ends each line and
//! an empty line ends a block, which the client dispatches. No payload can end a block or begin another field:
//! [`put_data`] writes each of its lines as a `data:` of its own.
//!
//! A [`Cursor`] says in one word which positions a client has reached, so that `Last-Event-ID` brings the
//! publications after them. In: any text that a client sends as an id. Invalid entries are skipped: the client then has
//! no position in their channels, and gets a loss there. Entries are found by a hash of the channel's name. Two
//! channels with the same hash have different epochs, so the worst result is a loss that is reported.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use fanfare_hub::{Epoch, Position};
use memchr::memchr2;
use std::fmt::{self, Write as _};

/// The media type.
pub const MEDIA_TYPE: &str = "text/event-stream";
/// Entries of a cursor that are read; and as many channels may one stream have.
pub const CHANNELS_MAX: usize = 32;

/// Begins a block: the name of the event, where it has one. The name has no line break
/// ([`is_event`](fanfare_hub::is_event)).
#[inline]
pub fn put_event(out: &mut Vec<u8>, event: &str) {
    put_field(out, b"event: ", event.as_bytes());
}

/// The payload, a `data:` for each of its lines.
#[inline]
pub fn put_data(out: &mut Vec<u8>, data: &[u8]) {
    let mut rest = data;
    while let Some(end) = memchr2(b'\n', b'\r', rest) {
        put_field(out, b"data: ", &rest[..end]);
        let is_pair = rest[end] == b'\r' && rest.get(end + 1) == Some(&b'\n');
        rest = &rest[end + 1 + usize::from(is_pair)..];
    }
    put_field(out, b"data: ", rest);
}

/// A binary payload, as base64 in one line.
pub fn put_data64(out: &mut Vec<u8>, bytes: &[u8]) {
    put_field(out, b"data: ", STANDARD.encode(bytes).as_bytes());
}

/// The client's cursor from this block on.
#[inline]
pub fn put_id(out: &mut Vec<u8>, cursor: &Cursor) {
    out.extend_from_slice(b"id: ");
    cursor.put(out);
    out.push(b'\n');
}

/// For how many ms the client waits before it comes back, from now on.
pub fn put_retry(out: &mut Vec<u8>, ms: u64) {
    out.extend_from_slice(b"retry: ");
    let _ = write!(Text(out), "{ms}"); // writing to a Vec cannot fail
    out.push(b'\n');
}

/// A line that clients ignore: it shows that the connection lives, and keeps proxies from closing it.
#[inline]
pub fn put_comment(out: &mut Vec<u8>) {
    out.extend_from_slice(b":\n");
}

/// Ends the block.
#[inline]
pub fn put_end(out: &mut Vec<u8>) {
    out.push(b'\n');
}

#[inline]
fn put_field(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    out.extend_from_slice(name);
    out.extend_from_slice(value);
    out.push(b'\n');
}

struct Text<'a>(&'a mut Vec<u8>);

impl fmt::Write for Text<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0.extend_from_slice(text.as_bytes());
        Ok(())
    }
}

/// The positions that a client has reached in its channels.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Cursor(Vec<CursorEntry>);

/// One channel's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct CursorEntry {
    channel: u64,
    position: Position,
}

/// A cursor that names no channel. (An empty id would mean that there is none: HTML, 9.2.6.)
const NOTHING: &[u8] = b"0";

impl Cursor {
    /// Reads the text that a client sent. One with an invalid entry, or with more entries than a stream has channels,
    /// was not written by a server: it names no channel, so that everything counts as lost.
    pub fn decode(text: &str) -> Cursor {
        let entry = |text: &str| {
            let mut parts = text.split('.');
            let (channel, epoch, offset) = (parts.next()?, parts.next()?, parts.next()?);
            let digits = |text: &str, radix| (!text.starts_with('+')).then(|| u64::from_str_radix(text, radix).ok())?;
            let (channel, offset) = (digits(channel, 16)?, digits(offset, 10)?);
            let position = Position { epoch: Epoch::from_wire(epoch), offset };
            parts.next().is_none().then_some(CursorEntry { channel, position })
        };
        let entries: Option<Vec<_>> = text.split('_').take(CHANNELS_MAX + 1).map(entry).collect();
        Cursor(entries.filter(|entries| entries.len() <= CHANNELS_MAX).unwrap_or_default())
    }

    /// The position in a channel, where the cursor names one.
    pub fn position(&self, channel: &str) -> Option<Position> {
        let hash = hash(channel);
        self.0.iter().find(|entry| entry.channel == hash).map(|entry| entry.position)
    }

    /// The client has reached this position.
    pub fn reach(&mut self, channel: &str, position: Position) {
        let hash = hash(channel);
        match self.0.iter_mut().find(|entry| entry.channel == hash) {
            Some(entry) => entry.position = position,
            None => self.0.push(CursorEntry { channel: hash, position }),
        }
    }

    /// Appends it, in visible ASCII without spaces.
    pub fn put(&self, out: &mut Vec<u8>) {
        if self.0.is_empty() {
            return out.extend_from_slice(NOTHING);
        }
        for (place, CursorEntry { channel, position }) in self.0.iter().enumerate() {
            let between = if place == 0 { "" } else { "_" };
            // Writing to a Vec cannot fail.
            let _ = write!(Text(out), "{between}{channel:x}.{}.{}", position.epoch, position.offset);
        }
    }

    /// Gives spare memory back.
    pub fn shrink(&mut self) {
        self.0.shrink_to_fit();
    }
}

/// Appends the id of a block whose client has one channel.
#[inline]
pub fn put_id_of(out: &mut Vec<u8>, channel: &str, position: Position) {
    // Writing to a Vec cannot fail.
    let _ = writeln!(Text(out), "id: {:x}.{}.{}", hash(channel), position.epoch, position.offset);
}

/// FNV-1a, 64 bits: the same on every node and in every version. It protects nothing: see the module's description.
fn hash(channel: &str) -> u64 {
    channel.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

/// The body of the fuzz target `sse_cursor`, and of the tests that feed it on every run. No text panics, a cursor that
/// was read survives the way back, and no payload breaks out of its block.
#[doc(hidden)]
pub fn fuzz(data: &[u8]) {
    if let Ok(text) = std::str::from_utf8(data) {
        let cursor = Cursor::decode(text);
        let mut written = Vec::new();
        cursor.put(&mut written);
        assert!(written.iter().all(|byte| byte.is_ascii_graphic()), "an id is one word");
        let written = String::from_utf8(written).expect("an id is text");
        assert_eq!(Cursor::decode(&written), cursor, "written and read again");
    }
    let mut block = Vec::new();
    put_data(&mut block, data);
    put_end(&mut block);
    let lines: Vec<&[u8]> = block.split(|&byte| byte == b'\n').collect();
    let [data_lines @ .., b"", b""] = &lines[..] else { panic!("it ends with an empty line") };
    assert!(data_lines.iter().all(|line| line.starts_with(b"data: ") && !line.contains(&b'\r')));
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(epoch: u64, offset: u64) -> Position {
        Position { epoch: Epoch(epoch), offset }
    }

    fn written(put: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        put(&mut out);
        String::from_utf8(out).expect("text")
    }

    #[test]
    fn a_channel_that_begins_a_new_epoch_is_at_its_new_position() {
        let mut cursor = Cursor::default();
        cursor.reach("chat:a", at(1, 9));
        cursor.reach("chat:b", at(1, 5));
        cursor.reach("chat:a", at(2, 1));
        assert_eq!(["chat:a", "chat:b"].map(|name| cursor.position(name)), [Some(at(2, 1)), Some(at(1, 5))]);
    }

    #[test]
    fn a_block_has_its_lines_in_the_order_of_the_calls() {
        let block = written(|out| {
            put_retry(out, 2500);
            put_event(out, "photo");
            put_id_of(out, "events", at(0xab, 7));
            put_data(out, br#"{"a":1}"#);
            put_comment(out);
            put_end(out);
        });
        let expected = "retry: 2500\nevent: photo\nid: dd63d0cec6bb7d04.00000000000000ab.7\ndata: {\"a\":1}\n:\n\n";
        assert_eq!(block, expected);
    }

    #[test]
    fn a_payload_stays_in_its_block_whatever_its_line_breaks() {
        let rows = [
            ("", "data: \n"),
            ("a", "data: a\n"),
            ("a\nb", "data: a\ndata: b\n"),
            ("a\rb", "data: a\ndata: b\n"),
            ("a\r\nb", "data: a\ndata: b\n"),
            ("a\n\nid: 1", "data: a\ndata: \ndata: id: 1\n"),
            ("a\n", "data: a\ndata: \n"),
        ];
        for (payload, expected) in rows {
            assert_eq!(written(|out| put_data(out, payload.as_bytes())), expected, "{payload:?}");
        }
    }

    #[test]
    fn an_id_names_the_channels_that_it_was_written_with_and_no_other() {
        let mut cursor = Cursor::default();
        assert_eq!(written(|out| cursor.put(out)), "0");
        cursor.reach("chat:a", at(1, 5));
        cursor.reach("chat:b", at(2, 6));
        cursor.reach("chat:a", at(1, 9));
        let text = written(|out| cursor.put(out));
        let read = Cursor::decode(&text);
        assert_eq!(read, cursor);
        let found = ["chat:a", "chat:b", "chat:c"].map(|channel| read.position(channel));
        assert_eq!(found, [Some(at(1, 9)), Some(at(2, 6)), None]);
        assert_eq!(written(|out| put_id_of(out, "chat:x", at(3, 4))), {
            let mut one = Cursor::default();
            one.reach("chat:x", at(3, 4));
            written(|out| put_id(out, &one))
        });
    }

    #[test]
    fn an_invalid_cursor_names_no_channel() {
        let rows =
            ["", "0", "42", "a.b", "x.1.1", "1.e.-1", "1.e.+1", "+1.e.1", "1.e.1.1", "..", "_", "\u{fffd}", "1.e."];
        for text in rows {
            assert_eq!(Cursor::decode(text), Cursor::default(), "{text:?}");
        }
        let good = "af63bd4c8601b7be.0000000000000001.7";
        for text in [format!("garbage_{good}"), format!("{good}_garbage"), format!("{good}_"), format!("_{good}")] {
            assert_eq!(Cursor::decode(&text), Cursor::default(), "{text:?}");
        }
        let many = |count| vec![good; count].join("_");
        assert_ne!(Cursor::decode(&many(CHANNELS_MAX)), Cursor::default());
        for count in [CHANNELS_MAX + 1, 1_000] {
            assert_eq!(Cursor::decode(&many(count)), Cursor::default(), "{count} entries");
        }
        let foreign = Cursor::decode("af63bd4c8601b7be.not-ours.7");
        assert_eq!(foreign.0.iter().map(|entry| entry.position).collect::<Vec<_>>(), [at(0, 7)]);
    }

    proptest! {
        #[test]
        fn whatever_comes_is_read_without_harm(data in proptest::collection::vec(any::<u8>(), 0..200)) {
            fuzz(&data);
        }

        #[test]
        fn near_cursors_are_read_without_harm(text in "[0-9a-f._+]{0,80}") {
            fuzz(text.as_bytes());
        }
    }
}
