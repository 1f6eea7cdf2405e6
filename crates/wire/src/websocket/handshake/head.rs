//! When to parse a head that comes in pieces, so that the work grows with its length and not with the square of it.
//!
//! In: the bytes read so far, more each time. Out: whether parsing them can give a new result. That is so when the
//! empty line that ends a head has come, and whenever the length has doubled, so that a peer that does not speak HTTP
//! is found out early. Each byte is searched once, and all parses together look at less than four times the head's
//! length.

/// Follows one head. Make a new one for the next head.
#[derive(Debug, Clone, Default)]
pub struct HeadProgress {
    /// Bytes that were searched for the end.
    searched: usize,
    /// The length at the last parse.
    parsed: usize,
    /// The line under way has a byte besides its line end.
    line: bool,
    /// A line that is not empty has come: empty ones before the first line are skipped (RFC 9112 §2.2).
    begun: bool,
}

impl HeadProgress {
    /// Whether to parse `read`, which is what it was at the last call and more.
    pub fn is_due(&mut self, read: &[u8]) -> bool {
        let mut ended = false;
        for &byte in read.get(self.searched..).unwrap_or_default() {
            match byte {
                b'\n' => {
                    ended |= self.begun && !self.line;
                    self.line = false;
                }
                b'\r' => {}
                _ => {
                    self.line = true;
                    self.begun = true;
                }
            }
        }
        self.searched = self.searched.max(read.len());
        let due = ended || read.len() >= self.parsed.saturating_mul(2).max(1);
        if due {
            self.parsed = read.len();
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(len: usize) -> Vec<u8> {
        let mut head = b"GET / HTTP/1.1\r\nHost: localhost\r\n".to_vec();
        while head.len() + 64 < len {
            head.extend_from_slice(format!("X-{}: {}\r\n", head.len(), "x".repeat(180)).as_bytes());
        }
        head.extend_from_slice(b"\r\n");
        head
    }

    /// Parses and bytes parsed until the head is whole, read in pieces of this size.
    fn work(head: &[u8], piece: usize) -> (usize, usize) {
        let (mut progress, mut parses, mut bytes) = (HeadProgress::default(), 0, 0);
        let mut len = 0;
        loop {
            len = (len + piece).min(head.len());
            if progress.is_due(&head[..len]) {
                (parses, bytes) = (parses + 1, bytes + len);
                let mut headers = [httparse::EMPTY_HEADER; 128];
                if httparse::Request::new(&mut headers).parse(&head[..len]).expect("a head").is_complete() {
                    assert_eq!(len, head.len(), "it is not whole earlier");
                    return (parses, bytes);
                }
            }
            assert!(len < head.len(), "it is whole, and nobody was told");
        }
    }

    #[test]
    fn a_head_in_any_pieces_is_parsed_a_few_times() {
        let long = head(16 << 10);
        let newlines = [&b"\r\n".repeat(4 << 10)[..], b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"].concat();
        let bare = b"\n\nGET / HTTP/1.1\nHost: localhost\n\n".to_vec();
        for (name, head) in [("16 KiB", &long), ("empty lines before it", &newlines), ("bare line feeds", &bare)] {
            for piece in [1, 2, 3, 7, 1000, head.len()] {
                let (parses, bytes) = work(head, piece);
                assert!(parses <= 17, "{name} in pieces of {piece}: {parses} parses");
                assert!(bytes <= 4 * head.len(), "{name} in pieces of {piece}: {bytes} bytes for {}", head.len());
            }
        }
    }

    /// Input that is not HTTP is examined at its first byte, before it ends.
    #[test]
    fn an_endless_head_is_looked_at_all_the_same() {
        let mut progress = HeadProgress::default();
        let noise = [0x16; 1024];
        let looked: Vec<usize> = (1..=noise.len()).filter(|&len| progress.is_due(&noise[..len])).collect();
        assert_eq!(looked, [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024]);
    }
}
