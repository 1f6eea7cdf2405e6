//! Compression of messages on their way out: which ones, and by what.
//!
//! A message is compressed once for all its receivers in one window. A shard has one compressor for each of the two
//! windows, made when the first message needs it. A message is sent as it is where it is short, where compression does
//! not make it shorter, and above [`MESSAGE_BYTES_MAX`]. Pings and pongs are never compressed (RFC 7692 §5.1).

use super::{Form, Payload};
use fanfare_wire::websocket::deflate::{Deflater, Window};

/// Longer messages are sent as they are: everybody on the shard waits while one of this length is compressed (2 ms).
const MESSAGE_BYTES_MAX: usize = 1 << 20;

/// How the messages to a connection are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Deflate {
    pub(crate) window: Window,
    /// Shorter messages are sent as they are.
    pub(crate) message_bytes_min: usize,
}

impl Deflate {
    /// Whether a message is to be compressed.
    pub(crate) fn takes(self, form: Form, len: usize) -> bool {
        matches!(form, Form::Text | Form::Binary) && (self.message_bytes_min..=MESSAGE_BYTES_MAX).contains(&len)
    }
}

/// The compressors of a shard.
#[derive(Debug)]
pub(crate) struct Deflaters {
    full: Deflater,
    small: Deflater,
}

impl Default for Deflaters {
    fn default() -> Self {
        Deflaters { full: Deflater::new(Window::Full), small: Deflater::new(Window::Small) }
    }
}

impl Deflaters {
    /// Compresses a message, if that makes it shorter.
    pub(crate) fn deflate<'a>(&'a mut self, deflate: Deflate, message: &'a [u8]) -> Payload<'a> {
        let deflater = match deflate.window {
            Window::Full => &mut self.full,
            Window::Small => &mut self.small,
        };
        deflater.deflate(message).map_or(Payload::Plain(message), Payload::Deflated)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn which_messages_are_compressed() {
        let deflate = Deflate { window: Window::Full, message_bytes_min: 100 };
        let rows = [
            ("text", Form::Text, 100, true),
            ("binary", Form::Binary, 100, true),
            ("short", Form::Text, 99, false),
            ("the longest", Form::Text, MESSAGE_BYTES_MAX, true),
            ("too long", Form::Text, MESSAGE_BYTES_MAX + 1, false),
            ("a ping", Form::Ping, 100, false),
            ("a pong", Form::Pong, 100, false),
        ];
        for (name, form, len, expected) in rows {
            assert_eq!(deflate.takes(form, len), expected, "{name}");
        }
    }

    #[test]
    fn a_message_that_compression_makes_longer_is_sent_as_it_is() {
        let mut deflaters = Deflaters::default();
        for window in [Window::Full, Window::Small] {
            let deflate = Deflate { window, message_bytes_min: 0 };
            assert!(matches!(deflaters.deflate(deflate, b"x"), Payload::Plain(b"x")));
            let repeated = [b'x'; 1000];
            assert!(matches!(deflaters.deflate(deflate, &repeated), Payload::Deflated(bytes) if bytes.len() < 50));
        }
    }
}
