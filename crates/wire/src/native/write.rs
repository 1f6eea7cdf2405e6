//! Writing one JSON object field by field, in the order of the documentation. Payloads are spliced in as they are.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use fanfare_hub::{Data, RequestId};
use serde::Serialize;
use std::fmt::Display;
use std::io::Write as _;

/// An object that is open; [`end`](Self::end) closes it.
pub(super) struct ObjectWriter<'a> {
    out: &'a mut Vec<u8>,
    /// Nothing stands in it yet.
    empty: bool,
}

impl<'a> ObjectWriter<'a> {
    /// Opens an object without fields.
    pub(super) fn plain(out: &'a mut Vec<u8>) -> Self {
        out.push(b'{');
        ObjectWriter { out, empty: true }
    }

    /// Opens a message of this type.
    pub(super) fn message(out: &'a mut Vec<u8>, kind: &'static str) -> Self {
        out.extend_from_slice(b"{\"type\":\"");
        out.extend_from_slice(kind.as_bytes());
        out.push(b'"');
        ObjectWriter { out, empty: false }
    }

    /// Writes the name of a field; the caller writes its value to the returned buffer.
    pub(super) fn field(&mut self, name: &'static str) -> &mut Vec<u8> {
        if !std::mem::take(&mut self.empty) {
            self.out.push(b',');
        }
        self.out.push(b'"');
        self.out.extend_from_slice(name.as_bytes());
        self.out.extend_from_slice(b"\":");
        self.out
    }

    pub(super) fn id(&mut self, id: Option<&RequestId>) -> &mut Self {
        match id {
            Some(RequestId::Number(number)) => self.number("id", *number),
            Some(RequestId::Text(text)) => self.text("id", text),
            None => self,
        }
    }

    pub(super) fn text(&mut self, name: &'static str, text: &str) -> &mut Self {
        put(self.field(name), text);
        self
    }

    pub(super) fn text_if(&mut self, name: &'static str, text: Option<&str>) -> &mut Self {
        match text {
            Some(text) => self.text(name, text),
            None => self,
        }
    }

    /// A value whose `Display` needs no escaping: hexadecimal ids and epochs.
    pub(super) fn shown(&mut self, name: &'static str, value: impl Display) -> &mut Self {
        write!(self.field(name), "\"{value}\"").expect("a Vec takes whatever is written");
        self
    }

    pub(super) fn number(&mut self, name: &'static str, number: u64) -> &mut Self {
        put(self.field(name), &number);
        self
    }

    pub(super) fn number_if(&mut self, name: &'static str, number: Option<u64>) -> &mut Self {
        match number {
            Some(number) => self.number(name, number),
            None => self,
        }
    }

    pub(super) fn flag(&mut self, name: &'static str, value: bool) -> &mut Self {
        self.field(name).extend_from_slice(if value { b"true" } else { b"false" });
        self
    }

    /// The flag where it is true; readers take its absence for false.
    pub(super) fn flag_if(&mut self, name: &'static str, value: bool) -> &mut Self {
        if value { self.flag(name, true) } else { self }
    }

    /// JSON as it is.
    pub(super) fn raw(&mut self, name: &'static str, json: &[u8]) -> &mut Self {
        self.field(name).extend_from_slice(json);
        self
    }

    pub(super) fn raw_if(&mut self, name: &'static str, json: Option<&[u8]>) -> &mut Self {
        match json {
            Some(json) => self.raw(name, json),
            None => self,
        }
    }

    /// `data` or `data64`.
    pub(super) fn data(&mut self, data: &Data) -> &mut Self {
        match data {
            Data::Json(json) => self.raw("data", json),
            Data::Binary(bytes) => {
                let out = self.field("data64");
                out.push(b'"');
                let start = out.len();
                let len = base64::encoded_len(bytes.len(), true).expect("a payload is far from the end of memory");
                out.resize(start + len, 0);
                STANDARD.encode_slice(bytes, &mut out[start..]).expect("the room is of exactly its length");
                out.push(b'"');
                self
            }
        }
    }

    /// A list whose items `item` writes.
    pub(super) fn list<T>(
        &mut self,
        name: &'static str,
        items: impl IntoIterator<Item = T>,
        mut item: impl FnMut(&mut Vec<u8>, T),
    ) -> &mut Self {
        let out = self.field(name);
        out.push(b'[');
        for (place, it) in items.into_iter().enumerate() {
            if place > 0 {
                out.push(b',');
            }
            item(out, it);
        }
        out.push(b']');
        self
    }

    pub(super) fn end(&mut self) {
        self.out.push(b'}');
    }
}

/// Appends a value whose serialisation cannot fail: texts, numbers.
pub(super) fn put<T: Serialize + ?Sized>(out: &mut Vec<u8>, value: &T) {
    serde_json::to_writer(out, value).expect("texts and numbers have a JSON form, and a Vec takes whatever is written");
}
