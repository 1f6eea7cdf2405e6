//! Bytes to events: the machine that reads one connection.
//!
//! In: bytes as they were read, in any cuts. Out: one [`Event`] a call, in order. A frame that lies whole in the
//! input is unmasked there and lent out without a copy: the usual case. Only what is cut or fragmented is gathered,
//! in memory that is given back with the message. A peer cannot make it hold more than the message limit and
//! [`PARTIAL_BYTES`]. A compressed message is gathered as it came ([`compressed_bytes_max`] bytes at most) and
//! decompressed when it is whole, into an [`Inflater`] that any number of connections share.

use super::deflate::{Inflater, compressed_bytes_max};
use super::header::{Expected, HEADER_BYTES_MAX, Header};
use super::text::{NotUtf8, Text, push_bytes};
use super::{CONTROL_BYTES_MAX, CloseFrame, Event, Limits, Opcode, ProtocolError, Role, close, mask};

/// The memory of an incomplete frame or message beside its bytes.
pub(super) const PARTIAL_BYTES: usize = size_of::<Partial>();

/// Reads one connection. 24 bytes, and no heap memory between messages: idle connections cost nothing.
#[derive(Debug)]
pub struct Decoder {
    /// Exists only while something is incomplete, and until the call after it was lent out.
    partial: Option<Box<Partial>>,
    message_bytes_max: usize,
    role: Role,
    /// permessage-deflate was negotiated.
    deflate: bool,
    /// A close or an error was reported: §1.4 and §7.1.7, nothing after it is looked at.
    ended: bool,
}

/// The part of an incomplete frame or message that has come.
#[derive(Debug)]
struct Partial {
    /// The data message under way. Control frames may come between its fragments (§5.4).
    message: Option<Message>,
    reading: Reading,
}

#[derive(Debug)]
enum Message {
    Text(Text),
    Binary(Vec<u8>),
    /// As it came.
    Deflated {
        bytes: Vec<u8>,
        is_text: bool,
    },
}

/// The frame at the front of the input.
enum Whole<'b> {
    /// A whole frame that is an event.
    Event(Event<'b>),
    /// A whole compressed message.
    Deflated { payload: &'b [u8], is_text: bool },
    /// Something else.
    None,
}

/// Where in a frame we are.
#[derive(Debug)]
enum Reading {
    Header {
        bytes: [u8; HEADER_BYTES_MAX],
        len: usize,
    },
    /// Payload of the message; `left` is still to come. With `fin` and nothing left the message is whole, and lent out.
    Data {
        fin: bool,
        left: usize,
        mask: Option<[u8; 4]>,
    },
    /// Payload of a control frame; whole, and lent out, when nothing is left.
    Control {
        opcode: Opcode,
        left: usize,
        mask: Option<[u8; 4]>,
        bytes: [u8; CONTROL_BYTES_MAX],
        len: usize,
    },
}

impl Decoder {
    /// A decoder for a connection whose handshake is done.
    pub fn new(role: Role, limits: Limits) -> Self {
        Self { partial: None, message_bytes_max: limits.message_bytes_max, role, deflate: false, ended: false }
    }

    /// The same for a connection for which permessage-deflate was negotiated (RFC 7692), so that each message that the
    /// peer compresses is compressed by itself. Such a connection is read by [`decode_with`](Self::decode_with).
    #[must_use]
    pub fn with_deflate(self) -> Self {
        Self { deflate: true, ..self }
    }

    /// Whether permessage-deflate was negotiated.
    pub fn is_deflated(&self) -> bool {
        self.deflate
    }

    /// Takes the next event off the front of `input`. `Ok(None)`: all of `input` was consumed, give more bytes.
    ///
    /// Call it until it gives `Ok(None)`: only then is the memory of the last event given back. Bytes of `input` are
    /// unmasked in place. After [`Event::Close`] or an error everything that follows is consumed and ignored.
    ///
    /// # Errors
    /// Whatever [`ProtocolError`] lists; the connection is to be closed with its code.
    #[inline]
    pub fn decode<'s, 'b: 's>(&'s mut self, input: &mut &'b mut [u8]) -> Result<Option<Event<'s>>, ProtocolError> {
        self.read(input, None)
    }

    /// The same where messages may be compressed: see [`with_deflate`](Self::with_deflate). These are lent out of
    /// `inflater`, whose memory is given back at the next call.
    ///
    /// # Errors
    /// See [`decode`](Self::decode). Limits and UTF-8 are those of the decompressed message.
    #[inline]
    pub fn decode_with<'s, 'b: 's>(
        &'s mut self,
        input: &mut &'b mut [u8],
        inflater: &'s mut Inflater,
    ) -> Result<Option<Event<'s>>, ProtocolError> {
        inflater.give_back();
        self.read(input, Some(inflater))
    }

    #[inline]
    fn read<'s, 'b: 's>(
        &'s mut self,
        input: &mut &'b mut [u8],
        mut inflater: Option<&'s mut Inflater>,
    ) -> Result<Option<Event<'s>>, ProtocolError> {
        if self.partial.is_some() || self.ended {
            self.take_back();
        }
        if self.partial.is_none() {
            match self.decode_whole(input) {
                Ok(Whole::None) if input.is_empty() => return Ok(None),
                Ok(Whole::None) => {}
                Ok(Whole::Event(event)) => return Ok(Some(event)),
                Ok(Whole::Deflated { payload, is_text }) => {
                    let message_bytes_max = self.message_bytes_max;
                    let event = inflate(inflater.take(), payload, is_text, message_bytes_max);
                    return event.map(Some).map_err(|error| self.fail(input, error));
                }
                Err(error) => return Err(self.fail(input, error)),
            }
        }
        self.decode_partial(input, inflater)
    }

    /// Bytes of heap memory held now: 0 between messages, never more than the message limit and a few hundred. (For a
    /// compressed message the limit is [`compressed_bytes_max`].)
    pub fn buffered_bytes(&self) -> usize {
        self.partial.as_ref().map_or(0, |partial| {
            PARTIAL_BYTES
                + match &partial.message {
                    Some(Message::Text(text)) => text.capacity(),
                    Some(Message::Binary(bytes) | Message::Deflated { bytes, .. }) => bytes.capacity(),
                    None => 0,
                }
        })
    }

    /// The fast path: a whole, unfragmented frame at the front of `input`, and nothing under way.
    #[inline]
    fn decode_whole<'b>(&mut self, input: &mut &'b mut [u8]) -> Result<Whole<'b>, ProtocolError> {
        if self.ended {
            *input = &mut [];
            return Ok(Whole::None);
        }
        let Some((header, header_len)) = Header::parse(input, self.expected())? else { return Ok(Whole::None) };
        if !header.fin || header.len > input.len() - header_len {
            return Ok(Whole::None);
        }
        let payload = &mut take(input, header_len + header.len)[header_len..];
        if let Some(key) = header.mask {
            mask::apply(payload, key);
        }
        if header.deflated {
            return Ok(Whole::Deflated { payload, is_text: header.opcode == Opcode::Text });
        }
        match header.opcode {
            Opcode::Text => text_event(payload).map(Whole::Event),
            Opcode::Binary => Ok(Whole::Event(Event::Binary(payload))),
            opcode => {
                self.ended = opcode == Opcode::Close;
                control_event(opcode, payload).map(Whole::Event)
            }
        }
    }

    fn decode_partial<'s, 'b: 's>(
        &'s mut self,
        input: &mut &'b mut [u8],
        inflater: Option<&'s mut Inflater>,
    ) -> Result<Option<Event<'s>>, ProtocolError> {
        match self.advance(input) {
            Ok(Some(event)) => return Ok(Some(event)),
            Ok(None) => {}
            Err(error) => return Err(self.fail(input, error)),
        }
        if let Some((compressed, is_text)) = self.partial.as_ref().and_then(|partial| partial.deflated()) {
            let event = inflate(inflater, compressed, is_text, self.message_bytes_max);
            return event.map(Some).map_err(|error| self.fail(input, error));
        }
        match &self.partial {
            Some(partial) => partial.lend(),
            None => Ok(None),
        }
    }

    /// Reads on until there is an event or `input` is empty. An event that lies whole in `input` is given; one that was
    /// gathered is left for [`Partial::lend`].
    fn advance<'b>(&mut self, input: &mut &'b mut [u8]) -> Result<Option<Event<'b>>, ProtocolError> {
        let mut expected = self.expected();
        let partial = self.partial.get_or_insert_with(|| Box::new(Partial { message: None, reading: Reading::START }));
        loop {
            match &mut partial.reading {
                Reading::Header { bytes, len } => {
                    expected.message_len = partial.message.as_ref().map(Message::len);
                    expected.message_bytes_max = Message::bytes_max(partial.message.as_ref(), self.message_bytes_max);
                    let Some(header) = gather_header(bytes, len, input, expected)? else { return Ok(None) };
                    partial.reading = match header.opcode {
                        Opcode::Text | Opcode::Binary | Opcode::Continuation => {
                            match header.opcode {
                                Opcode::Text | Opcode::Binary if header.deflated => {
                                    let is_text = header.opcode == Opcode::Text;
                                    partial.message = Some(Message::Deflated { bytes: Vec::new(), is_text });
                                }
                                Opcode::Text => partial.message = Some(Message::Text(Text::default())),
                                Opcode::Binary => partial.message = Some(Message::Binary(Vec::new())),
                                _ => {}
                            }
                            Reading::Data { fin: header.fin, left: header.len, mask: header.mask }
                        }
                        opcode if header.len <= input.len() => {
                            partial.reading = Reading::START;
                            let payload = take(input, header.len);
                            let mut key = header.mask;
                            unmask(payload, &mut key);
                            self.ended = opcode == Opcode::Close;
                            return control_event(opcode, payload).map(Some);
                        }
                        opcode => Reading::Control {
                            opcode,
                            left: header.len,
                            mask: header.mask,
                            bytes: [0; CONTROL_BYTES_MAX],
                            len: 0,
                        },
                    };
                }
                Reading::Data { fin, left, mask } => {
                    let Some(message) = &mut partial.message else { return Ok(None) };
                    // Nothing longer than this can come of it, so nothing larger need be allocated.
                    let bytes_max = Message::bytes_max(Some(message), self.message_bytes_max);
                    let len_max = if *fin { message.len() + *left } else { bytes_max };
                    let piece = take_at_most(input, *left);
                    *left -= piece.len();
                    unmask(piece, mask);
                    message.push(piece, len_max)?;
                    match (*left, *fin) {
                        (0, false) => partial.reading = Reading::START,
                        (0, true) => return message.finish().map(|()| None),
                        _ => return Ok(None),
                    }
                }
                Reading::Control { opcode, left, mask, bytes, len } => {
                    let piece = take_at_most(input, *left);
                    *left -= piece.len();
                    unmask(piece, mask);
                    bytes[*len..*len + piece.len()].copy_from_slice(piece);
                    *len += piece.len();
                    if *left == 0 && *opcode == Opcode::Close {
                        control_event(*opcode, &bytes[..*len])?;
                        self.ended = true;
                        partial.message = None;
                    }
                    return Ok(None);
                }
            }
        }
    }

    /// The bytes lent out at the last call are no longer needed.
    fn take_back(&mut self) {
        let Some(partial) = &mut self.partial else { return };
        match partial.reading {
            Reading::Data { fin: true, left: 0, .. } => self.partial = None,
            Reading::Control { left: 0, .. } => partial.reading = Reading::START,
            _ => {}
        }
        if self.ended
            || matches!(&self.partial, Some(partial)
                if partial.message.is_none() && matches!(partial.reading, Reading::Header { len: 0, .. }))
        {
            self.partial = None;
        }
    }

    /// The allowed frames while no message is under way.
    #[inline]
    fn expected(&self) -> Expected {
        let Self { role, message_bytes_max, deflate, .. } = *self;
        Expected { role, message_len: None, message_bytes_max, deflate }
    }

    #[cold]
    fn fail(&mut self, input: &mut &mut [u8], error: ProtocolError) -> ProtocolError {
        self.ended = true;
        self.partial = None;
        *input = &mut [];
        error
    }
}

impl Partial {
    /// A compressed message that is whole: its bytes, and whether it is text.
    fn deflated(&self) -> Option<(&[u8], bool)> {
        match (&self.reading, &self.message) {
            (Reading::Data { fin: true, left: 0, .. }, Some(Message::Deflated { bytes, is_text })) => {
                Some((bytes, *is_text))
            }
            _ => None,
        }
    }

    /// The event that is complete, if one is.
    fn lend(&self) -> Result<Option<Event<'_>>, ProtocolError> {
        match (&self.reading, &self.message) {
            (Reading::Control { opcode, left: 0, bytes, len, .. }, _) => {
                control_event(*opcode, &bytes[..*len]).map(Some)
            }
            (Reading::Data { fin: true, left: 0, .. }, Some(Message::Text(text))) => {
                Ok(Some(Event::Text(text.as_str())))
            }
            (Reading::Data { fin: true, left: 0, .. }, Some(Message::Binary(bytes))) => Ok(Some(Event::Binary(bytes))),
            _ => Ok(None),
        }
    }
}

impl Message {
    fn len(&self) -> usize {
        match self {
            Self::Text(text) => text.len(),
            Self::Binary(bytes) | Self::Deflated { bytes, .. } => bytes.len(),
        }
    }

    /// How long it may become as it is on the wire.
    fn bytes_max(message: Option<&Self>, message_bytes_max: usize) -> usize {
        match message {
            Some(Self::Deflated { .. }) => compressed_bytes_max(message_bytes_max),
            Some(Self::Text(_) | Self::Binary(_)) | None => message_bytes_max,
        }
    }

    fn push(&mut self, piece: &[u8], len_max: usize) -> Result<(), ProtocolError> {
        match self {
            Self::Text(text) => text.push(piece, len_max)?,
            Self::Binary(bytes) | Self::Deflated { bytes, .. } => push_bytes(bytes, piece, len_max),
        }
        Ok(())
    }

    fn finish(&self) -> Result<(), ProtocolError> {
        match self {
            Self::Text(text) => Ok(text.finish()?),
            Self::Binary(_) | Self::Deflated { .. } => Ok(()),
        }
    }
}

impl Reading {
    const START: Self = Self::Header { bytes: [0; HEADER_BYTES_MAX], len: 0 };
}

impl From<NotUtf8> for ProtocolError {
    fn from(NotUtf8 { offset }: NotUtf8) -> Self {
        Self::TextNotUtf8 { offset }
    }
}

/// A header from `input`, by way of `bytes` where it is cut. `None`: `input` is used up.
fn gather_header(
    bytes: &mut [u8; HEADER_BYTES_MAX],
    len: &mut usize,
    input: &mut &mut [u8],
    expected: Expected,
) -> Result<Option<Header>, ProtocolError> {
    if *len == 0
        && let Some((header, header_len)) = Header::parse(input, expected)?
    {
        take(input, header_len);
        return Ok(Some(header));
    }
    // Byte by byte, at most 14 times: the bytes after the header must stay in `input`, to be unmasked there.
    loop {
        let &mut [next, ..] = *input else { return Ok(None) };
        take(input, 1);
        bytes[*len] = next;
        *len += 1;
        if let Some((header, _)) = Header::parse(&bytes[..*len], expected)? {
            return Ok(Some(header));
        }
    }
}

/// Decompresses a whole message. Without an inflater the caller reads no compressed messages.
fn inflate<'i>(
    inflater: Option<&'i mut Inflater>,
    compressed: &[u8],
    is_text: bool,
    message_bytes_max: usize,
) -> Result<Event<'i>, ProtocolError> {
    let Some(inflater) = inflater else { return Err(ProtocolError::ReservedBits { bits: 0b100 }) };
    let payload = inflater.inflate(compressed, message_bytes_max)?;
    if is_text { text_event(payload) } else { Ok(Event::Binary(payload)) }
}

/// The event of a whole text message.
#[inline]
fn text_event(payload: &[u8]) -> Result<Event<'_>, ProtocolError> {
    match simdutf8::basic::from_utf8(payload) {
        Ok(text) => Ok(Event::Text(text)),
        Err(_) => Err(ProtocolError::TextNotUtf8 { offset: valid_up_to(payload) }),
    }
}

/// The event of a whole control frame.
fn control_event(opcode: Opcode, payload: &[u8]) -> Result<Event<'_>, ProtocolError> {
    Ok(match opcode {
        Opcode::Ping => Event::Ping(payload),
        Opcode::Pong => Event::Pong(payload),
        _ => Event::Close(close_frame(payload)?),
    })
}

/// §5.5.1: empty, or a code and a reason.
fn close_frame(payload: &[u8]) -> Result<Option<CloseFrame<'_>>, ProtocolError> {
    match payload {
        [] => Ok(None),
        [_] => Err(ProtocolError::CloseTooShort),
        [high, low, reason @ ..] => {
            let code = u16::from_be_bytes([*high, *low]);
            if !close::may_receive(code) {
                return Err(ProtocolError::CloseCodeInvalid { code });
            }
            let reason = std::str::from_utf8(reason)
                .map_err(|error| ProtocolError::CloseReasonNotUtf8 { offset: error.valid_up_to() })?;
            Ok(Some(CloseFrame { code, reason }))
        }
    }
}

/// Unmasks the next piece of a payload, if it is masked, and turns the key to the piece after it.
fn unmask(piece: &mut [u8], key: &mut Option<[u8; 4]>) {
    if let Some(key) = key {
        mask::apply(piece, *key);
        *key = mask::rotated(*key, piece.len());
    }
}

#[inline]
fn take<'b>(input: &mut &'b mut [u8], len: usize) -> &'b mut [u8] {
    let (front, rest) = std::mem::take(input).split_at_mut(len);
    *input = rest;
    front
}

fn take_at_most<'b>(input: &mut &'b mut [u8], len: usize) -> &'b mut [u8] {
    let len = len.min(input.len());
    take(input, len)
}

#[cold]
fn valid_up_to(bytes: &[u8]) -> usize {
    std::str::from_utf8(bytes).map_or_else(|error| error.valid_up_to(), str::len)
}
