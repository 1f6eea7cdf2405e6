//! JSON and attachments to MessagePack.

use crate::json::string_end;
use crate::socketio::array::text;

/// Walks JSON whose grammar and depth were checked. It writes nil for what is none.
pub(super) struct Writer<'a> {
    json: &'a [u8],
    at: usize,
    /// The bytes that placeholders stand for; without the form of attachments there are none.
    attachments: Option<&'a [&'a [u8]]>,
}

impl<'a> Writer<'a> {
    pub(super) fn new(json: &'a str, attachments: Option<&'a [&'a [u8]]>) -> Self {
        Writer { json: json.as_bytes(), at: 0, attachments }
    }

    /// The next byte that is no white space.
    fn peek(&mut self) -> Option<u8> {
        while matches!(self.json.get(self.at), Some(b' ' | b'\t' | b'\r' | b'\n')) {
            self.at += 1;
        }
        self.json.get(self.at).copied()
    }

    /// A string with its quotes.
    fn string(&mut self) -> &[u8] {
        let began = self.at;
        self.at = string_end(self.json, began + 1);
        self.json.get(began..self.at).unwrap_or_default()
    }

    pub(super) fn value(&mut self, out: &mut Vec<u8>) {
        match self.peek() {
            Some(b'"') => put_json_string(out, self.string()),
            Some(b'[') => {
                let head = out.len();
                let mut count = 0;
                self.at += 1;
                while !matches!(self.peek(), None | Some(b']')) {
                    if self.peek() == Some(b',') {
                        self.at += 1;
                    }
                    self.value(out);
                    count += 1;
                }
                self.at += 1;
                put_head(out, head, count, 0x90, 0xdc);
            }
            Some(b'{') => self.object(out),
            _ => {
                let rest = self.json.get(self.at..).unwrap_or_default();
                let is_end = |byte: &u8| matches!(byte, b',' | b']' | b'}' | b' ' | b'\t' | b'\r' | b'\n');
                // At least one byte, so that the walk ends on any input.
                let len = rest.iter().position(is_end).unwrap_or(rest.len());
                put_token(out, &rest[..len]);
                self.at += len.max(1);
            }
        }
    }

    fn object(&mut self, out: &mut Vec<u8>) {
        let head = out.len();
        let (mut count, mut is_placeholder, mut num) = (0, false, None);
        self.at += 1;
        while !matches!(self.peek(), None | Some(b'}')) {
            if self.peek() == Some(b',') {
                self.at += 1;
                self.peek();
            }
            let key = out.len();
            put_json_string(out, self.string());
            let (is_flag, is_num) = (out[key..] == *b"\xac_placeholder", out[key..] == *b"\xa3num");
            if self.peek() == Some(b':') {
                self.at += 1;
            }
            let value = out.len();
            self.value(out);
            if is_flag {
                is_placeholder = out[value..] == [0xc3];
            } else if is_num {
                num = integer(&out[value..]);
            }
            count += 1;
        }
        self.at += 1;
        let attachment = num.filter(|_| is_placeholder).and_then(|num| self.attachments?.get(num));
        match attachment {
            Some(bytes) => {
                out.truncate(head);
                put_binary(out, bytes);
            }
            None => put_head(out, head, count, 0x80, 0xde),
        }
    }
}

/// The number that [`put_unsigned`] has written.
fn integer(value: &[u8]) -> Option<usize> {
    let bytes = match value {
        [byte @ 0..=0x7f] => std::slice::from_ref(byte),
        [0xcc..=0xcf, bytes @ ..] => bytes,
        _ => return None,
    };
    usize::try_from(bytes.iter().fold(0_u64, |number, byte| number << 8 | u64::from(*byte))).ok()
}

/// Puts the head of an array or a map before the `count` elements that were written at `at`.
fn put_head(out: &mut Vec<u8>, at: usize, count: u32, small: u8, large: u8) {
    match (u8::try_from(count), u16::try_from(count)) {
        (Ok(count @ 0..16), _) => out.insert(at, small | count),
        (_, Ok(count)) => {
            let [a, b] = count.to_be_bytes();
            out.splice(at..at, [large, a, b]);
        }
        _ => {
            let [a, b, c, d] = count.to_be_bytes();
            out.splice(at..at, [large + 1, a, b, c, d]);
        }
    }
}

/// A JSON string with its quotes. Half a character (a lone surrogate) becomes a replacement character.
fn put_json_string(out: &mut Vec<u8>, string: &[u8]) {
    let string = std::str::from_utf8(string).unwrap_or_default();
    match text(string) {
        Some(text) => put_text(out, text.as_bytes()),
        None => put_text(out, without_halves(string).as_bytes()),
    }
}

/// The text of a JSON string that has halves of characters.
fn without_halves(json: &str) -> String {
    let mut units: Vec<u16> = Vec::with_capacity(json.len());
    let mut chars = json.trim_matches('"').chars();
    while let Some(char) = chars.next() {
        if char != '\\' {
            units.extend_from_slice(char.encode_utf16(&mut [0; 2]));
            continue;
        }
        units.push(match chars.next() {
            Some('u') => {
                let digits: String = chars.by_ref().take(4).collect();
                u16::from_str_radix(&digits, 16).unwrap_or(0xfffd)
            }
            Some('n') => 0x0a,
            Some('r') => 0x0d,
            Some('t') => 0x09,
            Some('b') => 0x08,
            Some('f') => 0x0c,
            Some(other) => u16::try_from(u32::from(other)).unwrap_or(0xfffd),
            None => 0xfffd,
        });
    }
    String::from_utf16_lossy(&units)
}

/// A literal or a number.
fn put_token(out: &mut Vec<u8>, token: &[u8]) {
    let text = std::str::from_utf8(token).unwrap_or_default();
    match text {
        "true" => out.push(0xc3),
        "false" => out.push(0xc2),
        "null" => out.push(0xc0),
        _ => match (text.parse::<u64>(), text.parse::<i64>(), text.parse::<f64>()) {
            (Ok(number), ..) => put_unsigned(out, number),
            (_, Ok(number), _) => put_negative(out, number),
            (.., Ok(number)) => {
                out.push(0xcb);
                out.extend_from_slice(&number.to_be_bytes());
            }
            _ => out.push(0xc0),
        },
    }
}

pub(super) fn put_unsigned(out: &mut Vec<u8>, number: u64) {
    let bytes = number.to_be_bytes();
    match number {
        0..=0x7f => out.push(bytes[7]),
        0x80..=0xff => out.extend_from_slice(&[0xcc, bytes[7]]),
        0x100..=0xffff => put_tagged(out, 0xcd, &bytes[6..]),
        0x1_0000..=0xffff_ffff => put_tagged(out, 0xce, &bytes[4..]),
        _ => put_tagged(out, 0xcf, &bytes),
    }
}

fn put_negative(out: &mut Vec<u8>, number: i64) {
    let bytes = number.to_be_bytes();
    match number {
        0.. => put_unsigned(out, number.unsigned_abs()),
        -0x20..=-1 => out.push(bytes[7]),
        -0x80..=-0x21 => out.extend_from_slice(&[0xd0, bytes[7]]),
        -0x8000..=-0x81 => put_tagged(out, 0xd1, &bytes[6..]),
        -0x8000_0000..=-0x8001 => put_tagged(out, 0xd2, &bytes[4..]),
        _ => put_tagged(out, 0xd3, &bytes),
    }
}

fn put_tagged(out: &mut Vec<u8>, tag: u8, bytes: &[u8]) {
    out.push(tag);
    out.extend_from_slice(bytes);
}

pub(super) fn put_text(out: &mut Vec<u8>, text: &[u8]) {
    match text.len() {
        len @ 0..32 => out.push(0xa0 | len as u8),
        len => put_length(out, len, [0xd9, 0xda, 0xdb]),
    }
    out.extend_from_slice(text);
}

fn put_binary(out: &mut Vec<u8>, bytes: &[u8]) {
    put_length(out, bytes.len(), [0xc4, 0xc5, 0xc6]);
    out.extend_from_slice(bytes);
}

/// A length in as few bytes as it needs. A message of the server is shorter than 4 GiB.
fn put_length(out: &mut Vec<u8>, len: usize, tags: [u8; 3]) {
    let bytes = u32::try_from(len).unwrap_or(u32::MAX).to_be_bytes();
    match len {
        0..=0xff => put_tagged(out, tags[0], &bytes[3..]),
        0x100..=0xffff => put_tagged(out, tags[1], &bytes[2..]),
        _ => put_tagged(out, tags[2], &bytes),
    }
}
