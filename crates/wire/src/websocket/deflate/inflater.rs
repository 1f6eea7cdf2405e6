//! Decompression (RFC 7692 §7.2.2): one whole compressed message to its payload, within a limit.
//!
//! The output grows as it is made and never holds more than one byte beyond the limit, so a message that inflates a
//! thousandfold costs no more memory than one that does not. The state of the decompressor and the last output are
//! reused for the next message, of any connection.

use super::{KEPT_BYTES, TAIL};
use crate::websocket::ProtocolError;
use flate2::{Decompress, FlushDecompress, Status};

/// The most blocks of one message that may be marked as final (§7.2.3.5). A sender needs one for a message, or one for
/// a fragment. Each costs the receiver a new beginning, for two bytes.
pub const FINAL_BLOCKS_MAX: usize = 64;

/// The longest compressed form of a message of this length that is accepted: stored blocks, and fragments that are
/// flushed one by one, are longer than the message itself.
pub const fn compressed_bytes_max(message_bytes_max: usize) -> usize {
    message_bytes_max.saturating_add(message_bytes_max / 8).saturating_add(64)
}

/// Decompresses messages, one after the other, of any number of connections. It holds nothing until it is used.
#[derive(Debug, Default)]
pub struct Inflater {
    /// Made for the first message: about 40 KiB.
    state: Option<Box<Decompress>>,
    out: Vec<u8>,
    totals: Totals,
}

/// The bytes that went in and came out.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Totals {
    /// Bytes of compressed messages.
    pub compressed: u64,
    /// Bytes of the messages that they were.
    pub plain: u64,
}

/// After the tail: a final block without content. It is read as one where the message has ended with a block.
const END: [u8; 2] = [0x03, 0x00];

/// The first slice of output.
const SLICE_BYTES: usize = 4 << 10;
/// A repetition reaches back so far at most.
const WINDOW_BYTES: usize = 32 << 10;

impl Inflater {
    /// Decompresses the payload of a message: all its fragments together, as they came.
    ///
    /// # Errors
    /// The bytes are not DEFLATE, or more than `message_bytes_max` come out.
    pub fn inflate(&mut self, compressed: &[u8], message_bytes_max: usize) -> Result<&[u8], ProtocolError> {
        let state = self.state.get_or_insert_with(|| Box::new(Decompress::new(false)));
        state.reset(false);
        self.out.clear();
        let mut run = Run { state, out: &mut self.out, bytes_max: message_bytes_max, final_blocks: 0 };
        // A sender whose last block is final owes an empty block behind it (§7.2.3.4). Without it nothing is missing.
        let is_whole = run.feed(compressed, 0)? == Fed::AtEnd
            || run.feed(&TAIL, compressed.len())? == Fed::Open && run.feed(&END, compressed.len())? == Fed::AtEnd;
        if !is_whole {
            return Err(ProtocolError::DeflateUnfinished);
        }
        self.totals.compressed += compressed.len() as u64;
        self.totals.plain += self.out.len() as u64;
        Ok(&self.out)
    }

    /// Gives the memory of a large message back.
    #[inline]
    pub(crate) fn give_back(&mut self) {
        if self.out.capacity() > KEPT_BYTES {
            self.out = Vec::new();
        }
    }

    /// The messages that were decompressed since the last call.
    pub fn take_totals(&mut self) -> Totals {
        std::mem::take(&mut self.totals)
    }

    /// Bytes held for output.
    pub fn buffered_bytes(&self) -> usize {
        self.out.capacity()
    }
}

/// The decompression of one message.
struct Run<'a> {
    state: &'a mut Decompress,
    out: &'a mut Vec<u8>,
    bytes_max: usize,
    final_blocks: usize,
}

/// Where the stream is when all input was taken.
#[derive(Debug, PartialEq, Eq)]
enum Fed {
    /// A final block has just ended.
    AtEnd,
    /// Somewhere else.
    Open,
}

impl Run<'_> {
    /// Takes all of `input`, which begins at `offset` of the message.
    fn feed(&mut self, mut input: &[u8], offset: usize) -> Result<Fed, ProtocolError> {
        let whole = input.len();
        let mut fed = Fed::Open;
        loop {
            if fed == Fed::AtEnd {
                if input.is_empty() {
                    return Ok(fed);
                }
                self.begin_anew()?;
            }
            if self.out.len() == self.out.capacity() {
                self.grow();
            }
            let (taken, made) = (self.state.total_in(), self.out.len());
            let wrong = ProtocolError::NotDeflate { offset: offset + whole - input.len() };
            let status =
                self.state.decompress_vec(input, self.out, FlushDecompress::Sync).map_err(|_| wrong.clone())?;
            let taken = (self.state.total_in() - taken) as usize;
            input = &input[taken..];
            if self.out.len() > self.bytes_max {
                let len = self.out.len() as u64;
                return Err(ProtocolError::MessageTooLarge { len, max: self.bytes_max });
            }
            fed = if status == Status::StreamEnd { Fed::AtEnd } else { Fed::Open };
            let is_full = self.out.len() == self.out.capacity();
            match fed {
                // All that is in the input so far is in the output.
                Fed::Open if input.is_empty() && !is_full => return Ok(fed),
                Fed::Open if taken == 0 && self.out.len() == made && !is_full => return Err(wrong),
                Fed::Open | Fed::AtEnd => {}
            }
        }
    }

    /// Goes on behind a final block: what came before it may still be repeated (§7.2.3.5).
    fn begin_anew(&mut self) -> Result<(), ProtocolError> {
        self.final_blocks += 1;
        if self.final_blocks > FINAL_BLOCKS_MAX {
            return Err(ProtocolError::FinalBlocks { max: FINAL_BLOCKS_MAX });
        }
        self.state.reset(false);
        let window = &self.out[self.out.len().saturating_sub(WINDOW_BYTES)..];
        if !window.is_empty() {
            let set = self.state.set_dictionary(window);
            set.map_err(|_| ProtocolError::NotDeflate { offset: 0 })?; // a raw stream takes any
        }
        Ok(())
    }

    /// Makes room for more output: twice as much, but never for more than one byte beyond the limit.
    fn grow(&mut self) {
        let len = self.out.len();
        let wanted = len.saturating_mul(2).max(SLICE_BYTES).min(self.bytes_max.saturating_add(1));
        self.out.reserve_exact(wanted.saturating_sub(len).max(1));
    }
}
