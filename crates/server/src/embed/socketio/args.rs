//! The arguments of events and acks: values in Rust, and a JSON array with attachments on the wire.
//!
//! Out: a tuple is several arguments, `()` is none, and any other value is one. In: a tuple takes the arguments one by
//! one, and any other type takes the first. An argument that is missing is `null`, so an `Option` takes it; further
//! arguments are ignored, as in JavaScript. A [`Binary`] anywhere in a value is an attachment. (For serde a fixed array
//! `[T; N]` is a tuple. A slice or a `Vec` is one argument.)

use crate::protocol::socketio::Payload;
use bytes::Bytes;
use fanfare_wire::json;
use fanfare_wire::socketio::{Elements, RESERVED_EVENTS, put_text};
use serde::de::{self, DeserializeOwned, DeserializeSeed, Deserializer, Visitor};
use serde::ser::{self, Serialize, Serializer};
use std::cell::RefCell;
use std::fmt::{self, Display};

/// Bytes as a value of an event: an attachment on the wire, a `Buffer`, `ArrayBuffer` or `Blob` in JavaScript.
///
/// ```no_run
/// # fn run(socket: fanfare::socketio::Socket) {
/// use fanfare::socketio::Binary;
///
/// socket.emit("image", ("cat.png", Binary(vec![0x89, 0x50].into())));
/// # }
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Binary(pub Bytes);

/// A packet has at most so many attachments, as the decoders of clients demand.
const ATTACHMENTS_MAX: usize = 10;

impl Payload {
    /// `["event",…]`.
    ///
    /// # Errors
    /// The name is one that no packet may carry; the value is no JSON, or nested too deeply, or has too many
    /// attachments.
    pub(crate) fn event<T: Serialize + ?Sized>(event: &str, args: &T) -> Result<Self, NotArgs> {
        if RESERVED_EVENTS.contains(&event) {
            return Err(NotArgs::Reserved(event.to_owned()));
        }
        let mut json = b"[".to_vec();
        put_text(&mut json, event);
        Self::with(json, args, b",")
    }

    /// `[…]`.
    ///
    /// # Errors
    /// As [`event`](Self::event).
    pub(crate) fn ack<T: Serialize + ?Sized>(args: &T) -> Result<Self, NotArgs> {
        Self::with(b"[".to_vec(), args, b"")
    }

    fn with<T: Serialize + ?Sized>(mut json: Vec<u8>, args: &T, before: &[u8]) -> Result<Self, NotArgs> {
        let shape = args.serialize(Probe).unwrap_or_else(|shape| shape);
        let (written, attachments) = collecting(|| serde_json::to_vec(args));
        let written = written?;
        if attachments.len() > ATTACHMENTS_MAX {
            return Err(NotArgs::Attachments { count: attachments.len() });
        }
        let args = shape.args(&written);
        if !args.is_empty() {
            json.extend_from_slice(before);
            shape.put(args, &mut json);
        }
        json.push(b']');
        let json = json::payload(&json)?.into_owned();
        Ok(Payload { json, attachments })
    }

    pub(crate) fn bytes(&self) -> usize {
        self.json.len() + self.attachments.iter().map(Bytes::len).sum::<usize>()
    }
}

/// Why a value cannot be the arguments of an event.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NotArgs {
    #[error("it cannot be written as JSON: {0}")]
    NotJson(#[from] serde_json::Error),
    #[error("{0}")]
    TooDeep(#[from] json::TooDeep),
    #[error("{count} attachments exceed the limit of {ATTACHMENTS_MAX}")]
    Attachments { count: usize },
    #[error("the event name {0:?} is reserved: clients raise it themselves")]
    Reserved(String),
}

/// The shape of a value, which says how many arguments it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shape {
    One,
    Unit,
    Tuple,
    /// serde writes a `Result` as `{"Ok":…}`.
    Ok,
    Err,
}

impl Shape {
    /// The part of the written value that holds the arguments.
    fn args(self, written: &[u8]) -> &[u8] {
        let within = |start: usize| written.get(start..written.len().saturating_sub(1)).unwrap_or_default();
        match self {
            Shape::One => written,
            Shape::Unit => b"",
            Shape::Tuple => within(1),
            Shape::Ok => within(br#"{"Ok":"#.len()),
            Shape::Err => within(br#"{"Err":"#.len()),
        }
    }

    fn put(self, args: &[u8], out: &mut Vec<u8>) {
        match self {
            Shape::Err => {
                out.extend_from_slice(b"{\"error\":");
                out.extend_from_slice(args);
                out.push(b'}');
            }
            _ => out.extend_from_slice(args),
        }
    }
}

impl Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the shape of a value")
    }
}

impl std::error::Error for Shape {}

impl ser::Error for Shape {
    fn custom<T: Display>(_: T) -> Self {
        Shape::One // a failure shows when the value is written
    }
}

/// Learns the shape of a value from the first thing that it says, and stops it there.
struct Probe;

macro_rules! of_shape {
    ($($method:ident($($T:ty),*) -> $Out:ty = $shape:ident;)*) => {
        $(fn $method(self, $(_: $T),*) -> Result<$Out, Shape> {
            Err(Shape::$shape)
        })*
    };
}

type Never = ser::Impossible<Shape, Shape>;

impl Serializer for Probe {
    type Ok = Shape;
    type Error = Shape;
    type SerializeSeq = Never;
    type SerializeTuple = Never;
    type SerializeTupleStruct = Never;
    type SerializeTupleVariant = Never;
    type SerializeMap = Never;
    type SerializeStruct = Never;
    type SerializeStructVariant = Never;

    of_shape! {
        serialize_bool(bool) -> Shape = One;
        serialize_i8(i8) -> Shape = One;
        serialize_i16(i16) -> Shape = One;
        serialize_i32(i32) -> Shape = One;
        serialize_i64(i64) -> Shape = One;
        serialize_u8(u8) -> Shape = One;
        serialize_u16(u16) -> Shape = One;
        serialize_u32(u32) -> Shape = One;
        serialize_u64(u64) -> Shape = One;
        serialize_f32(f32) -> Shape = One;
        serialize_f64(f64) -> Shape = One;
        serialize_char(char) -> Shape = One;
        serialize_str(&str) -> Shape = One;
        serialize_bytes(&[u8]) -> Shape = One;
        serialize_none() -> Shape = One;
        serialize_unit() -> Shape = Unit;
        serialize_unit_struct(&'static str) -> Shape = One;
        serialize_unit_variant(&'static str, u32, &'static str) -> Shape = One;
        serialize_seq(Option<usize>) -> Never = One;
        serialize_tuple(usize) -> Never = Tuple;
        serialize_tuple_struct(&'static str, usize) -> Never = One;
        serialize_tuple_variant(&'static str, u32, &'static str, usize) -> Never = One;
        serialize_map(Option<usize>) -> Never = One;
        serialize_struct(&'static str, usize) -> Never = One;
        serialize_struct_variant(&'static str, u32, &'static str, usize) -> Never = One;
    }

    fn serialize_some<T: Serialize + ?Sized>(self, _: &T) -> Result<Shape, Shape> {
        Err(Shape::One)
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(self, _: &'static str, _: &T) -> Result<Shape, Shape> {
        Err(Shape::One)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        name: &'static str,
        _: u32,
        variant: &'static str,
        _: &T,
    ) -> Result<Shape, Shape> {
        Err(match (name, variant) {
            ("Result", "Ok") => Shape::Ok,
            ("Result", "Err") => Shape::Err,
            _ => Shape::One,
        })
    }
}

/// Reads the arguments of an event: `args` is a valid JSON array.
///
/// # Errors
/// Says which argument is wrong, and how.
pub(crate) fn read<T: DeserializeOwned>(args: &str, attachments: &[Bytes]) -> Result<T, serde_json::Error> {
    let first = Elements::of(args).next().unwrap_or("null");
    having(attachments, || T::deserialize(ArgsReader { args, first }))
}

struct ArgsReader<'a> {
    args: &'a str,
    first: &'a str,
}

macro_rules! of_first {
    ($($method:ident($($name:ident: $T:ty),*);)*) => {
        $(fn $method<V: Visitor<'de>>(self, $($name: $T,)* visitor: V) -> Result<V::Value, serde_json::Error> {
            let mut reader = serde_json::Deserializer::from_str(self.first);
            Deserializer::$method(&mut reader, $($name,)* visitor)
        })*
    };
}

impl<'de> Deserializer<'de> for ArgsReader<'de> {
    type Error = serde_json::Error;

    of_first! {
        deserialize_any();
        deserialize_bool();
        deserialize_i8();
        deserialize_i16();
        deserialize_i32();
        deserialize_i64();
        deserialize_i128();
        deserialize_u8();
        deserialize_u16();
        deserialize_u32();
        deserialize_u64();
        deserialize_u128();
        deserialize_f32();
        deserialize_f64();
        deserialize_char();
        deserialize_str();
        deserialize_string();
        deserialize_bytes();
        deserialize_byte_buf();
        deserialize_option();
        deserialize_unit_struct(name: &'static str);
        deserialize_newtype_struct(name: &'static str);
        deserialize_seq();
        deserialize_tuple_struct(name: &'static str, len: usize);
        deserialize_map();
        deserialize_struct(name: &'static str, fields: &'static [&'static str]);
        deserialize_enum(name: &'static str, variants: &'static [&'static str]);
        deserialize_identifier();
        deserialize_ignored_any();
    }

    fn deserialize_unit<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, serde_json::Error> {
        visitor.visit_unit() // no argument is wanted
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, len: usize, visitor: V) -> Result<V::Value, serde_json::Error> {
        visitor.visit_seq(OneByOne { args: Elements::of(self.args), place: 0, len })
    }
}

/// The arguments for a tuple.
struct OneByOne<'a> {
    args: Elements<'a>,
    place: usize,
    len: usize,
}

impl<'de> de::SeqAccess<'de> for OneByOne<'de> {
    type Error = serde_json::Error;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, serde_json::Error> {
        if self.place == self.len {
            return Ok(None);
        }
        self.place += 1;
        let mut reader = serde_json::Deserializer::from_str(self.args.next().unwrap_or("null"));
        let value = seed.deserialize(&mut reader);
        value.map(Some).map_err(|error| de::Error::custom(format_args!("argument {}: {error}", self.place)))
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.len - self.place)
    }
}

thread_local! {
    /// The attachments of the value that is being written or read on this thread.
    static ATTACHMENTS: RefCell<Option<Vec<Bytes>>> = const { RefCell::new(None) };
}

/// Takes the attachments away again, also after a panic of the value's own code.
struct Restore(Option<Option<Vec<Bytes>>>);

impl Restore {
    fn with(attachments: Vec<Bytes>) -> Self {
        Restore(Some(ATTACHMENTS.replace(Some(attachments))))
    }

    fn end(mut self) -> Vec<Bytes> {
        let before = self.0.take().unwrap_or_default();
        ATTACHMENTS.replace(before).unwrap_or_default()
    }
}

impl Drop for Restore {
    fn drop(&mut self) {
        if let Some(before) = self.0.take() {
            ATTACHMENTS.replace(before);
        }
    }
}

fn collecting<T>(write: impl FnOnce() -> T) -> (T, Vec<Bytes>) {
    let restore = Restore::with(Vec::new());
    (write(), restore.end())
}

fn having<T>(attachments: &[Bytes], read: impl FnOnce() -> T) -> T {
    let _restore = Restore::with(attachments.to_vec());
    read()
}

#[derive(serde::Serialize, serde::Deserialize)]
struct Placeholder {
    _placeholder: bool,
    num: usize,
}

/// In an event it is an attachment; elsewhere it is an array of numbers.
impl Serialize for Binary {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let num = ATTACHMENTS.with_borrow_mut(|attachments| {
            let attachments = attachments.as_mut()?;
            attachments.push(self.0.clone());
            Some(attachments.len() - 1)
        });
        match num {
            Some(num) => Placeholder { _placeholder: true, num }.serialize(serializer),
            None => self.0[..].serialize(serializer),
        }
    }
}

impl<'de> serde::Deserialize<'de> for Binary {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Placeholder { _placeholder, num } = Placeholder::deserialize(deserializer)?;
        let attachment = ATTACHMENTS.with_borrow(|attachments| attachments.as_ref()?.get(num).cloned());
        attachment.filter(|_| _placeholder).map(Binary).ok_or_else(|| de::Error::custom("this is no attachment"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn event<T: Serialize>(args: T) -> String {
        String::from_utf8(Payload::event("e", &args).expect("arguments").json).expect("text")
    }

    #[test]
    fn a_tuple_is_several_arguments_and_any_other_value_is_one() {
        assert_eq!(event(()), r#"["e"]"#);
        assert_eq!(event((1,)), r#"["e",1]"#);
        assert_eq!(event((1, "two", json!({"three": 3}))), r#"["e",1,"two",{"three":3}]"#);
        assert_eq!(event(vec![1, 2]), r#"["e",[1,2]]"#);
        assert_eq!(event(&[1, 2][..]), r#"["e",[1,2]]"#);
        assert_eq!(event("text \""), r#"["e","text \""]"#);
        assert_eq!(event(None::<u8>), r#"["e",null]"#);
        assert_eq!(event(Some((1, 2))), r#"["e",[1,2]]"#);
        let ack = |json: Payload| String::from_utf8(json.json).expect("text");
        assert_eq!(ack(Payload::ack(&()).expect("arguments")), "[]");
        assert_eq!(ack(Payload::ack(&Ok::<_, &str>(1)).expect("arguments")), "[1]");
        assert_eq!(ack(Payload::ack(&Err::<u8, _>("no")).expect("arguments")), r#"[{"error":"no"}]"#);
    }

    #[test]
    fn values_that_are_no_payload_are_refused() {
        let deep = (0..80).fold(json!(1), |inner, _| json!([inner]));
        assert!(Payload::event("e", &deep).is_err());
        let keys = std::collections::BTreeMap::from([((1, 2), 3)]);
        assert!(Payload::event("e", &keys).is_err(), "a map whose keys are no texts");
        let many: Vec<Binary> = vec![Binary::default(); 11];
        assert!(Payload::event("e", &many).is_err());
        assert!(Payload::event("e", &many[..10]).is_ok());
    }

    #[test]
    fn binary_is_an_attachment_both_ways() {
        let sent = Payload::event("e", &("a", vec![Binary(Bytes::from_static(b"\0x")), Binary::default()]));
        let sent = sent.expect("arguments");
        let json = r#"["e","a",[{"_placeholder":true,"num":0},{"_placeholder":true,"num":1}]]"#;
        assert_eq!(std::str::from_utf8(&sent.json), Ok(json));
        assert_eq!(sent.attachments, [Bytes::from_static(b"\0x"), Bytes::new()]);
        let args = r#"[{"_placeholder":true,"num":1},{"b":{"_placeholder":true,"num":0}}]"#;
        #[derive(serde::Deserialize)]
        struct Nested {
            b: Binary,
        }
        let (first, second): (Binary, Nested) = read(args, &sent.attachments).expect("both");
        assert_eq!((&first.0[..], &second.b.0[..]), (&b""[..], &b"\0x"[..]));
        assert!(read::<Binary>(r#"[{"_placeholder":true,"num":2}]"#, &sent.attachments).is_err());
        assert!(serde_json::from_str::<Binary>(r#"{"_placeholder":true,"num":0}"#).is_err(), "outside of an event");
        assert_eq!(serde_json::to_string(&Binary(Bytes::from_static(b"\x01\x02"))).expect("JSON"), "[1,2]");
    }

    #[test]
    fn arguments_are_read_one_by_one_or_the_first_alone() {
        let none: &[Bytes] = &[];
        assert_eq!(read::<String>(r#"["a",2]"#, none).expect("a text"), "a");
        assert_eq!(read::<(String, u8)>(r#"["a",2,3]"#, none).expect("two"), ("a".to_owned(), 2));
        assert_eq!(read::<(u8, Option<u8>)>("[1]", none).expect("one"), (1, None));
        assert_eq!(read::<Option<u8>>("[]", none).expect("none"), None);
        assert_eq!(read::<Value>("[]", none).expect("none"), Value::Null);
        assert_eq!(read::<Vec<u8>>("[[1,2]]", none).expect("a list"), [1, 2]);
        read::<()>(r#"["anything"]"#, none).expect("no argument is wanted");
        let wrong = read::<(u8, u8)>(r#"[1,"x"]"#, none).expect_err("a text").to_string();
        assert!(wrong.starts_with("argument 2: invalid type: string"), "{wrong}");
        assert!(read::<u8>("[]", none).is_err());
    }

    /// A panic within a value's own code must not leave its attachments to the next value.
    #[test]
    fn a_panic_leaves_no_attachments_behind() {
        struct Panics;
        impl Serialize for Panics {
            fn serialize<S: Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
                panic!("on purpose")
            }
        }
        let result = std::panic::catch_unwind(|| having(&[Bytes::new()], || Payload::ack(&Panics).is_ok()));
        assert!(result.is_err());
        assert!(ATTACHMENTS.with_borrow(Option::is_none));
    }
}
