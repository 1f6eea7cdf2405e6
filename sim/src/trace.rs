//! The last events of a run, told when it fails. A run is repeated with the trace on, so that a good one costs nothing.

use std::collections::VecDeque;

/// How many events are told.
const KEPT: usize = 50;

#[derive(Debug, Default)]
pub(crate) struct Trace {
    on: bool,
    lines: VecDeque<String>,
}

impl Trace {
    pub(crate) fn new(on: bool) -> Self {
        Trace { on, lines: VecDeque::new() }
    }

    /// Notes an event. `text` is only made where the trace is on.
    pub(crate) fn note(&mut self, now_ms: u64, text: impl FnOnce() -> String) {
        if !self.on {
            return;
        }
        if self.lines.len() == KEPT {
            self.lines.pop_front();
        }
        let mut line = format!("{now_ms:>7} ms  {}", text());
        if line.len() > 400 {
            let end = (0..=400).rev().find(|&i| line.is_char_boundary(i)).unwrap_or(0);
            line.truncate(end);
            line.push('…');
        }
        self.lines.push_back(line);
    }

    pub(crate) fn into_lines(self) -> Vec<String> {
        self.lines.into()
    }
}
