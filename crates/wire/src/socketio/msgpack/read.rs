//! MessagePack to JSON and binary values: a cursor over one message.

use super::{BINARY_VALUES_MAX, MsgpackError};
use crate::json::{DEPTH_MAX, TooDeep};
use crate::socketio::{DecodeError, put_text};
use bytes::Bytes;
use std::borrow::Cow;
use std::io::Write as _;

/// The head of a value, or all of it where it is small. Lengths are within the message; counts are claims.
pub(super) enum Value<'a> {
    Nil,
    Undefined,
    Bool(bool),
    Unsigned(u64),
    /// Below zero.
    Negative(i64),
    Float(f64),
    Text(&'a [u8]),
    Binary(&'a [u8]),
    /// Milliseconds since 1970.
    Date(i64),
    Extension(i8, &'a [u8]),
    Array(u32),
    Map(u32),
}

/// One message, and the payload that was read so far.
pub(super) struct Reader<'a> {
    message: &'a [u8],
    at: usize,
    json: Vec<u8>,
    binary: Vec<Bytes>,
    binary_bytes: usize,
    max: usize,
}

impl<'a> Reader<'a> {
    /// `max`: the most bytes of the payload.
    pub(super) fn new(message: &'a [u8], max: usize) -> Self {
        Reader { message, at: 0, json: Vec::new(), binary: Vec::new(), binary_bytes: 0, max }
    }

    /// The bytes that were not read.
    pub(super) fn left(&self) -> usize {
        self.message.len() - self.at
    }

    /// The payload as JSON, and what its placeholders stand for.
    pub(super) fn into_parts(self) -> (String, Vec<Bytes>) {
        (String::from_utf8(self.json).unwrap_or_default(), self.binary)
    }

    fn take(&mut self, len: usize, began: usize) -> Result<&'a [u8], DecodeError> {
        let rest = self.message.get(self.at..).unwrap_or_default();
        let taken = rest.get(..len).ok_or(MsgpackError::Truncated { at: began })?;
        self.at += len;
        Ok(taken)
    }

    /// A number of `len` bytes, at most 8, without its sign.
    fn number(&mut self, len: usize, began: usize) -> Result<u64, DecodeError> {
        Ok(self.take(len, began)?.iter().fold(0, |number, byte| number << 8 | u64::from(*byte)))
    }

    fn sized(&mut self, len: usize, began: usize) -> Result<&'a [u8], DecodeError> {
        let len = self.number(len, began)?;
        self.take(usize::try_from(len).unwrap_or(usize::MAX), began)
    }

    fn count(&mut self, len: usize, began: usize) -> Result<u32, DecodeError> {
        Ok(u32::try_from(self.number(len, began)?).unwrap_or(u32::MAX))
    }

    fn signed(&mut self, len: usize, began: usize) -> Result<Value<'a>, DecodeError> {
        let unused = 64 - 8 * u32::try_from(len).unwrap_or(8);
        let number = (self.number(len, began)? << unused).cast_signed() >> unused;
        Ok(u64::try_from(number).map_or(Value::Negative(number), Value::Unsigned))
    }

    /// An extension of `len` bytes, whose form is fixed where `is_fixed`.
    fn extension(&mut self, len: usize, is_fixed: bool, began: usize) -> Result<Value<'a>, DecodeError> {
        let kind = self.take(1, began)?[0].cast_signed();
        let data = self.take(len, began)?;
        Ok(match (kind, data) {
            (0, [_]) if is_fixed => Value::Undefined,
            (0, data) if is_fixed && len == 8 => {
                Value::Date(data.iter().fold(0_u64, |number, byte| number << 8 | u64::from(*byte)).cast_signed())
            }
            (0, data) if !is_fixed => Value::Binary(data),
            (kind, data) => Value::Extension(kind, data),
        })
    }

    pub(super) fn value(&mut self) -> Result<Value<'a>, DecodeError> {
        let began = self.at;
        let first = self.take(1, began)?[0];
        let extension_of = |reader: &mut Self, bytes| {
            let len = usize::try_from(reader.number(bytes, began)?).unwrap_or(usize::MAX);
            reader.extension(len, false, began)
        };
        Ok(match first {
            0x00..=0x7f => Value::Unsigned(first.into()),
            0x80..=0x8f => Value::Map((first & 0x0f).into()),
            0x90..=0x9f => Value::Array((first & 0x0f).into()),
            0xa0..=0xbf => Value::Text(self.take((first & 0x1f).into(), began)?),
            0xc0 => Value::Nil,
            0xc1 => return Err(MsgpackError::NoType { at: began }.into()),
            0xc2 => Value::Bool(false),
            0xc3 => Value::Bool(true),
            0xc4 => Value::Binary(self.sized(1, began)?),
            0xc5 => Value::Binary(self.sized(2, began)?),
            0xc6 => Value::Binary(self.sized(4, began)?),
            0xc7 => extension_of(self, 1)?,
            0xc8 => extension_of(self, 2)?,
            0xc9 => extension_of(self, 4)?,
            0xca => Value::Float(f32::from_bits(self.count(4, began)?).into()),
            0xcb => Value::Float(f64::from_bits(self.number(8, began)?)),
            0xcc => Value::Unsigned(self.number(1, began)?),
            0xcd => Value::Unsigned(self.number(2, began)?),
            0xce => Value::Unsigned(self.number(4, began)?),
            0xcf => Value::Unsigned(self.number(8, began)?),
            0xd0 => self.signed(1, began)?,
            0xd1 => self.signed(2, began)?,
            0xd2 => self.signed(4, began)?,
            0xd3 => self.signed(8, began)?,
            0xd4..=0xd8 => self.extension(1 << (first - 0xd4), true, began)?,
            0xd9 => Value::Text(self.sized(1, began)?),
            0xda => Value::Text(self.sized(2, began)?),
            0xdb => Value::Text(self.sized(4, began)?),
            0xdc => Value::Array(self.count(2, began)?),
            0xdd => Value::Array(self.count(4, began)?),
            0xde => Value::Map(self.count(2, began)?),
            0xdf => Value::Map(self.count(4, began)?),
            0xe0..=0xff => Value::Negative(first.cast_signed().into()),
        })
    }

    /// The key of a map, as JavaScript has it: a text.
    pub(super) fn key(&mut self) -> Result<Cow<'a, str>, DecodeError> {
        let at = self.at;
        match self.value()? {
            Value::Text(text) => Ok(String::from_utf8_lossy(text)),
            Value::Unsigned(number) => Ok(number.to_string().into()),
            Value::Negative(number) => Ok(number.to_string().into()),
            _ => Err(MsgpackError::Key { at }.into()),
        }
    }

    /// An integer; `None` for any other small value.
    pub(super) fn integer(&mut self) -> Result<Option<u64>, DecodeError> {
        Ok(if let Value::Unsigned(number) = self.value()? { Some(number) } else { None })
    }

    pub(super) fn text(&mut self) -> Result<Option<Cow<'a, str>>, DecodeError> {
        Ok(if let Value::Text(text) = self.value()? { Some(String::from_utf8_lossy(text)) } else { None })
    }

    /// Reads the payload as JSON. False if it is undefined.
    pub(super) fn data(&mut self) -> Result<bool, DecodeError> {
        // Of two fields with one name the last one counts.
        self.json.clear();
        self.binary.clear();
        self.binary_bytes = 0;
        let value = self.value()?;
        let is_there = !matches!(value, Value::Undefined);
        self.put(value, 0)?;
        Ok(is_there)
    }

    /// Reads a value that means nothing here.
    pub(super) fn skip(&mut self) -> Result<(), DecodeError> {
        let (json, binary, binary_bytes) = (self.json.len(), self.binary.len(), self.binary_bytes);
        let value = self.value()?;
        self.put(value, 0)?;
        self.json.truncate(json);
        self.binary.truncate(binary);
        self.binary_bytes = binary_bytes;
        Ok(())
    }

    /// Appends a value as JSON, `depth` levels deep.
    fn put(&mut self, value: Value<'a>, depth: usize) -> Result<(), DecodeError> {
        match value {
            Value::Nil | Value::Undefined => self.json.extend_from_slice(b"null"),
            Value::Bool(value) => self.json.extend_from_slice(if value { b"true" } else { b"false" }),
            Value::Unsigned(number) => write(&mut self.json, format_args!("{number}")),
            Value::Negative(number) => write(&mut self.json, format_args!("{number}")),
            Value::Float(number) if number.is_finite() => {
                serde_json::to_writer(&mut self.json, &number).expect("a number is written to memory");
            }
            Value::Float(_) => self.json.extend_from_slice(b"null"),
            Value::Text(text) => put_text(&mut self.json, &String::from_utf8_lossy(text)),
            Value::Binary(bytes) => self.put_binary(bytes)?,
            Value::Date(ms) => put_date(&mut self.json, ms),
            Value::Extension(kind, bytes) => {
                write(&mut self.json, format_args!("[{kind},"));
                self.put_binary(bytes)?;
                self.json.push(b']');
            }
            Value::Array(count) => {
                let depth = deeper(depth)?;
                self.json.push(b'[');
                for index in 0..count {
                    if index > 0 {
                        self.json.push(b',');
                    }
                    let value = self.value()?;
                    self.put(value, depth)?;
                }
                self.json.push(b']');
            }
            Value::Map(count) => {
                let depth = deeper(depth)?;
                self.json.push(b'{');
                let mut is_first = true;
                for _ in 0..count {
                    let key = self.key()?;
                    let value = self.value()?;
                    if matches!(value, Value::Undefined) {
                        continue;
                    }
                    if !std::mem::take(&mut is_first) {
                        self.json.push(b',');
                    }
                    put_text(&mut self.json, &key);
                    self.json.push(b':');
                    self.put(value, depth)?;
                }
                self.json.push(b'}');
            }
        }
        let len = self.json.len() + self.binary_bytes;
        if len > self.max {
            return Err(DecodeError::TooLarge { len, max: self.max });
        }
        Ok(())
    }

    fn put_binary(&mut self, bytes: &[u8]) -> Result<(), DecodeError> {
        let num = self.binary.len();
        if num >= BINARY_VALUES_MAX {
            return Err(DecodeError::TooManyAttachments { count: num as u64 + 1, max: BINARY_VALUES_MAX });
        }
        write(&mut self.json, format_args!("{{\"_placeholder\":true,\"num\":{num}}}"));
        self.binary.push(Bytes::copy_from_slice(bytes));
        self.binary_bytes += bytes.len();
        Ok(())
    }
}

fn deeper(depth: usize) -> Result<usize, DecodeError> {
    let depth = depth + 1;
    if depth > DEPTH_MAX { Err(TooDeep { depth }.into()) } else { Ok(depth) }
}

fn write(out: &mut Vec<u8>, text: std::fmt::Arguments<'_>) {
    out.write_fmt(text).expect("a text is written to memory");
}

/// The latest time of a `Date`, in ms before and after 1970.
const DATE_MS_MAX: u64 = 8_640_000_000_000_000;

/// Appends a time in the form of `Date.prototype.toJSON`.
fn put_date(out: &mut Vec<u8>, ms: i64) {
    if ms.unsigned_abs() > DATE_MS_MAX {
        return out.extend_from_slice(b"null");
    }
    let (days, ms) = (ms.div_euclid(86_400_000), ms.rem_euclid(86_400_000));
    // Howard Hinnant, "chrono-compatible low-level date algorithms": a year begins in March, an era has 400 years.
    let days = days + 719_468;
    let (era, day_of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    let (hour, minute, second, ms) = (ms / 3_600_000, ms / 60_000 % 60, ms / 1_000 % 60, ms % 1_000);
    match year {
        0..=9_999 => write(out, format_args!("\"{year:04}")),
        year => write(out, format_args!("\"{}{:06}", if year < 0 { '-' } else { '+' }, year.unsigned_abs())),
    }
    write(out, format_args!("-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{ms:03}Z\""));
}
