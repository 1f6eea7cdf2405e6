//! The last events of a run, printed when it fails. A failed run is repeated with the trace on, so that a successful
//! one costs nothing. A digest of all events shows whether two programs run a seed in the same way.

use std::collections::VecDeque;
use std::hash::{DefaultHasher, Hasher};

#[derive(Debug, Default)]
pub(crate) struct Trace {
    /// The number of events that are kept; 0 for none.
    kept: usize,
    lines: VecDeque<String>,
    /// Of all events so far, if it is wanted.
    digest: Option<DefaultHasher>,
}

impl Trace {
    pub(crate) fn new(kept: usize) -> Self {
        Trace { kept, ..Trace::default() }
    }

    /// Keeps no events, but a digest of them all.
    pub(crate) fn of_digest() -> Self {
        Trace { digest: Some(DefaultHasher::new()), ..Trace::default() }
    }

    /// A step of the world, which may have no event to note.
    pub(crate) fn step(&mut self, now_ms: u64) {
        if let Some(digest) = &mut self.digest {
            digest.write_u64(now_ms);
        }
    }

    /// Notes an event. `text` is only made if the trace is on.
    pub(crate) fn note(&mut self, now_ms: u64, text: impl FnOnce() -> String) {
        if let Some(digest) = &mut self.digest {
            digest.write_u64(now_ms);
            digest.write(text().as_bytes());
            return;
        }
        if self.kept == 0 {
            return;
        }
        if self.lines.len() == self.kept {
            self.lines.pop_front();
        }
        let mut line = format!("{now_ms:>7} ms  {}", without_padding(&text()));
        if line.len() > 400 {
            let end = (0..=400).rev().find(|&i| line.is_char_boundary(i)).unwrap_or(0);
            line.truncate(end);
            line.push('…');
        }
        self.lines.push_back(line);
    }

    /// The digest of the events, if it was wanted, with what the caller adds to it.
    pub(crate) fn digest_with(&self, end: &str) -> Option<u64> {
        let mut digest = self.digest.clone()?;
        digest.write(end.as_bytes());
        Some(digest.finish())
    }

    pub(crate) fn into_lines(self) -> Vec<String> {
        self.lines.into()
    }
}

/// The padding of payloads says nothing.
fn without_padding(text: &str) -> String {
    const PADDING: &str = "xxxxxxxx";
    let mut parts = text.split(PADDING);
    let mut line = parts.next().unwrap_or_default().to_owned();
    for part in parts.filter(|part| !part.is_empty()) {
        line.push('~');
        line.push_str(part.trim_start_matches('x'));
    }
    line
}
