//! Framing: how the messages of a protocol are carried.
//!
//! A protocol defines messages, and a framing defines their bytes on a connection. A [`Wire`] is both together, and the
//! hub knows it by its `WireId`: a push is encoded and framed once for each. A framing that has variants (with and
//! without compression) holds its variant in its value, so two variants are two wires.
//!
//! In: the bytes that the shard has read; [`Deframer`] finds the messages in them. Out: [`Framing`] makes the bytes of
//! a message, of a ping and of an end. It is a small value that is matched on: a delivery costs no dynamic call for it.
//! One file a framing; only `websocket` knows frames of WebSocket. `deflate` says which messages are compressed.

pub(crate) mod deflate;
pub(crate) mod stream;
mod websocket;

use crate::protocol::{Message, Protocol};
use bytes::Bytes;
use deflate::Deflate;
use fanfare_wire::websocket::deflate::Inflater;
use std::sync::Arc;
use stream::Stream;

/// A protocol in one framing; a `WireId` stands for it. Wires are numbered by their place in the server's table.
#[derive(Clone)]
pub(crate) struct Wire {
    pub(crate) protocol: Arc<dyn Protocol>,
    pub(crate) framing: Framing,
}

impl Wire {
    /// How its figures are labelled.
    pub(crate) fn label(&self) -> WireLabel {
        WireLabel { transport: self.framing.transport(), protocol: self.protocol.name() }
    }
}

/// The labels of a wire in metrics. Several wires may have one label; their figures are added up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct WireLabel {
    pub(crate) transport: &'static str,
    pub(crate) protocol: &'static str,
}

/// How messages are carried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Framing {
    /// RFC 6455, one message a frame, not compressed.
    WebSocket,
    /// The same with permessage-deflate (RFC 7692): some messages are compressed.
    DeflatedWebSocket(Deflate),
    /// The body of an HTTP answer. Messages go down only.
    Stream(Stream),
}

/// The form of a message to a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// A message of UTF-8 text.
    Text,
    /// A message of any bytes.
    Binary,
    /// Asks for a sign of life.
    Ping,
    /// Answers [`Received::Ping`].
    Pong,
}

/// The bytes of a message.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Payload<'a> {
    /// As its protocol made them.
    Plain(&'a [u8]),
    /// Compressed, for [`Framing::DeflatedWebSocket`].
    Deflated(&'a [u8]),
}

impl<'a> Payload<'a> {
    /// As they are carried.
    fn bytes(self) -> &'a [u8] {
        let (Payload::Plain(bytes) | Payload::Deflated(bytes)) = self;
        bytes
    }

    /// The number of bytes as they are carried.
    pub(crate) fn len(self) -> usize {
        self.bytes().len()
    }
}

impl<'a, T: AsRef<[u8]> + ?Sized> From<&'a T> for Payload<'a> {
    fn from(bytes: &'a T) -> Self {
        Payload::Plain(bytes.as_ref())
    }
}

impl Framing {
    /// The transport's name in figures.
    pub(crate) fn transport(self) -> &'static str {
        match self {
            Framing::WebSocket | Framing::DeflatedWebSocket(_) => "websocket",
            Framing::Stream(stream) => stream.transport(),
        }
    }

    /// How a message of this form and length is compressed, if it is.
    #[inline]
    pub(crate) fn deflates(self, form: Form, len: usize) -> Option<Deflate> {
        match self {
            Framing::WebSocket => None,
            Framing::DeflatedWebSocket(deflate) => Some(deflate).filter(|deflate| deflate.takes(form, len)),
            Framing::Stream(_) => None,
        }
    }

    /// Appends the bytes that carry `payload`.
    #[inline]
    pub(crate) fn put<'a>(self, out: &mut Vec<u8>, form: Form, payload: impl Into<Payload<'a>>) {
        match self {
            Framing::WebSocket | Framing::DeflatedWebSocket(_) => websocket::put(out, form, payload.into()),
            Framing::Stream(stream) => stream.put(out, form, payload.into().bytes()),
        }
    }

    /// The bytes that carry `payload`, in no more memory than they need.
    #[inline]
    pub(crate) fn frame<'a>(self, form: Form, payload: impl Into<Payload<'a>>) -> Bytes {
        match self {
            Framing::WebSocket | Framing::DeflatedWebSocket(_) => websocket::frame(form, payload.into()),
            Framing::Stream(stream) => stream.frame(form, payload.into().bytes()),
        }
    }

    /// The last bytes of a connection. `code` is one of the close codes, and `reason` is its word.
    pub(crate) fn end(self, code: u16, reason: &str) -> Bytes {
        match self {
            Framing::WebSocket | Framing::DeflatedWebSocket(_) => websocket::end(code, reason),
            Framing::Stream(stream) => stream.end(),
        }
    }

    /// Reads a new connection.
    pub(crate) fn deframer(self, message_bytes_max: usize) -> Deframer {
        match self {
            Framing::WebSocket => Deframer::WebSocket(websocket::deframer(message_bytes_max)),
            Framing::DeflatedWebSocket(_) => Deframer::WebSocket(websocket::deframer(message_bytes_max).with_deflate()),
            Framing::Stream(_) => Deframer::Stream(stream::Deframer::default()),
        }
    }
}

/// Finds messages in the bytes of one connection. It holds memory only while a message is incomplete.
#[derive(Debug)]
pub(crate) enum Deframer {
    WebSocket(websocket::Deframer),
    Stream(stream::Deframer),
}

/// One item of a connection's input.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Received<'a> {
    /// A whole message.
    Message(Message<'a>),
    /// Asks for a [`Form::Pong`] with the same payload.
    Ping(&'a [u8]),
    /// Only a sign of life.
    Pong,
    /// The peer ends the connection.
    End {
        /// The bytes to write before the connection ends.
        answer: Bytes,
        /// Its code, if it has given one.
        code: Option<u16>,
        /// True if the peer is not expected to come back.
        finally: bool,
    },
}

/// The peer broke the rules of its framing: the connection ends.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Broken {
    /// The close code.
    pub(crate) code: u16,
    pub(crate) reason: String,
}

impl Deframer {
    /// Whether messages may come compressed: then an inflater is needed.
    #[inline]
    pub(crate) fn is_deflated(&self) -> bool {
        match self {
            Deframer::WebSocket(deframer) => deframer.is_deflated(),
            Deframer::Stream(_) => false,
        }
    }

    /// Takes the next one off the front of `input`. `Ok(None)`: all of `input` was taken; more bytes are needed. Bytes
    /// of `input` are changed in place. `inflater` is that of the shard, if [`is_deflated`](Self::is_deflated).
    ///
    /// # Errors
    /// The peer broke the rules; the bytes that follow are ignored.
    #[inline]
    pub(crate) fn next<'s, 'b: 's>(
        &'s mut self,
        input: &mut &'b mut [u8],
        inflater: Option<&'s mut Inflater>,
    ) -> Result<Option<Received<'s>>, Broken> {
        match self {
            Deframer::WebSocket(deframer) => websocket::next(deframer, input, inflater),
            Deframer::Stream(deframer) => deframer.next(input),
        }
    }

    /// Bytes of heap memory that are held now.
    #[cfg(test)]
    pub(crate) fn buffered_bytes(&self) -> usize {
        match self {
            Deframer::WebSocket(deframer) => deframer.buffered_bytes(),
            Deframer::Stream(_) => 0,
        }
    }
}
