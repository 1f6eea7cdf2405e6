//! permessage-deflate: RFC 7692, sans-IO, without context takeover in either direction.
//!
//! Every message is compressed by itself. So one compressed message can be shared by any number of receivers, and an
//! idle connection holds no window: an [`Inflater`] and a [`Deflater`] serve all connections of a thread, and hold
//! memory of their own only after their first use. [`negotiate`] picks the first acceptable offer of a client.
//! Incoming messages are decompressed by [`Decoder::decode_with`](super::Decoder::decode_with), within the limit of
//! the message that comes out; outgoing ones are written by [`put_frame_parts`](super::put_frame_parts) with RSV1.
//!
//! Left to the caller: which messages are worth compressing. Control frames are never compressed (§5.1).

mod deflater;
mod inflater;
mod offer;

#[cfg(test)]
mod tests;

pub use deflater::Deflater;
pub use inflater::{FINAL_BLOCKS_MAX, Inflater, Totals, compressed_bytes_max};
pub use offer::{Agreed, negotiate};

/// The window of the messages that we send: how far back a repetition is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Window {
    /// 32 KiB, for every client that does not ask for less.
    #[default]
    Full,
    /// 512 bytes, for every client that asks for less: one variant for all of them, because a message is compressed
    /// once for each.
    Small,
}

impl Window {
    /// Its base-2 logarithm, the value of `server_max_window_bits` (§7.1.2.1).
    pub fn bits(self) -> u8 {
        match self {
            Window::Full => 15,
            Window::Small => 9,
        }
    }
}

/// The end of a flushed stream: an empty stored block without its first byte or bits. It is left out of each message,
/// and put back before decompressing (§7.2.1, §7.2.2).
const TAIL: [u8; 4] = [0x00, 0x00, 0xff, 0xff];

/// Output buffers up to this size are kept for the next message.
pub(crate) const KEPT_BYTES: usize = 64 << 10;
