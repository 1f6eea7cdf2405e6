//! The output of a command on stderr. A reader that does not read, or a stderr that cannot be written, stops no
//! command.
//!
//! In: texts, from any thread. Out: the texts in their order, written by a thread of their own. [`tell`] waits
//! [`PATIENCE`] for that, so that on a terminal a text stands before the next line of stdout. After a wait in vain it
//! only queues, until the writer has caught up. A text that finds no room is lost; a line in its place says how many
//! lines were lost. [`finish`] gives the writer [`LAST_WORDS`] at the end of the process. Holds at most
//! [`WAITING_BYTES_MAX`], or one longer text.
//!
//! (A server has the queue of its log for this from the moment that its settings are read: see `words`.)

use crate::output;
use std::collections::VecDeque;
use std::fmt::{Display, Write as _};
use std::sync::mpsc::channel;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// How long a text is waited for.
const PATIENCE: Duration = Duration::from_millis(100);
/// How long the end of the process waits for the last texts.
const LAST_WORDS: Duration = Duration::from_secs(1);
/// Bytes that wait to be written.
const WAITING_BYTES_MAX: usize = 256 << 10;

static QUEUE: Queue = Queue::new();

/// Says a line, without the control characters with which somebody else's words could rule a terminal.
pub(crate) fn tell(line: impl Display) {
    let mut line: String =
        line.to_string().chars().map(|c| if c.is_control() && c != '\n' { ' ' } else { c }).collect();
    line.push('\n');
    if QUEUE.push(line) {
        let writing = || QUEUE.write_to(|text| drop(output::write_to(rustix::stdio::stderr(), text.as_bytes())));
        if std::thread::Builder::new().name("stderr".to_owned()).spawn(writing).is_err() {
            QUEUE.lock().has_writer = false; // the next text tries again; until then it waits here
        }
    }
    QUEUE.settle(PATIENCE);
}

/// Waits for the texts that are not written yet, for [`LAST_WORDS`] at most. For the end of the process.
pub(crate) fn finish() {
    QUEUE.lock().is_stuck = false;
    QUEUE.settle(LAST_WORDS);
}

/// Says the last text of the process by a way of its own, such as one that knows the colours of terminals.
pub(crate) fn last(say: impl FnOnce() + Send + 'static) {
    let (said, end) = channel();
    let saying = move || {
        say();
        let _ = said.send(()); // it may have taken too long
    };
    if std::thread::Builder::new().name("stderr".to_owned()).spawn(saying).is_ok() {
        let _ = end.recv_timeout(LAST_WORDS); // an end without a word is an end too
    }
}

struct Queue {
    waiting: Mutex<Waiting>,
    changed: Condvar,
}

struct Waiting {
    texts: VecDeque<String>,
    bytes: usize,
    /// Lines that found no room, behind all that waits.
    lost: usize,
    has_writer: bool,
    is_writing: bool,
    /// A wait for the writer was in vain, and the writer has not caught up since.
    is_stuck: bool,
}

impl Queue {
    const fn new() -> Self {
        let waiting = Waiting {
            texts: VecDeque::new(),
            bytes: 0,
            lost: 0,
            has_writer: false,
            is_writing: false,
            is_stuck: false,
        };
        Queue { waiting: Mutex::new(waiting), changed: Condvar::new() }
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a text. True where the caller is to start the writer.
    fn push(&self, text: String) -> bool {
        let mut waiting = self.lock();
        if waiting.lost > 0 || waiting.bytes > 0 && waiting.bytes + text.len() > WAITING_BYTES_MAX {
            waiting.lost += text.lines().count();
        } else {
            waiting.bytes += text.len();
            waiting.texts.push_back(text);
        }
        self.changed.notify_all();
        !std::mem::replace(&mut waiting.has_writer, true)
    }

    /// Waits until all is written, for so long at most, and not at all while the writer is stuck.
    fn settle(&self, within: Duration) {
        let is_busy = |waiting: &mut Waiting| waiting.has_writer && !waiting.is_stuck && !waiting.is_idle();
        let (mut waiting, timeout) =
            self.changed.wait_timeout_while(self.lock(), within, is_busy).unwrap_or_else(PoisonError::into_inner);
        waiting.is_stuck |= timeout.timed_out();
    }

    /// Writes all that comes, in its order.
    fn write_to(&self, mut write: impl FnMut(&str)) -> ! {
        loop {
            let mut waiting = self.lock();
            waiting.is_writing = false;
            while waiting.is_idle() {
                waiting.is_stuck = false;
                self.changed.notify_all();
                waiting = self.changed.wait(waiting).unwrap_or_else(PoisonError::into_inner);
            }
            waiting.is_writing = true;
            let text = waiting.take();
            drop(waiting);
            write(&text);
        }
    }
}

impl Waiting {
    fn is_idle(&self) -> bool {
        !self.is_writing && self.texts.is_empty() && self.lost == 0
    }

    /// The next text: behind the last one it is the word of those that were lost.
    fn take(&mut self) -> String {
        if let Some(text) = self.texts.pop_front() {
            self.bytes -= text.len();
            return text;
        }
        let mut notice = String::new();
        let _ = writeln!(notice, "{} lines were lost here: stderr was not read", std::mem::take(&mut self.lost)); // a String takes it
        notice
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_without_room_is_lost_and_counted_in_its_place() {
        static QUEUE: Queue = Queue::new();
        assert!(QUEUE.push("x".repeat(2 * WAITING_BYTES_MAX)), "the first one wants a writer");
        (0..3).for_each(|_| assert!(!QUEUE.push("two\nlines\n".to_owned())));
        QUEUE.settle(Duration::ZERO);
        assert!(QUEUE.lock().is_stuck, "nobody writes");
        let (wrote, written) = channel();
        let (allow, allowed) = channel::<()>();
        std::thread::spawn(move || {
            QUEUE.write_to(|text| {
                let _ = wrote.send(text.to_owned()); // the test may be over
                let _ = allowed.recv();
            })
        });
        let next = || written.recv_timeout(Duration::from_secs(60)).expect("a text");
        assert_eq!(next().len(), 2 * WAITING_BYTES_MAX);
        allow.send(()).expect("the writer waits");
        assert_eq!(next(), "6 lines were lost here: stderr was not read\n");
        QUEUE.push("again\n".to_owned());
        drop(allow);
        assert_eq!(next(), "again\n");
        QUEUE.lock().is_stuck = false;
        QUEUE.settle(Duration::from_secs(60));
        let waiting = QUEUE.lock();
        assert!(waiting.is_idle() && waiting.bytes == 0 && !waiting.is_stuck);
    }
}
