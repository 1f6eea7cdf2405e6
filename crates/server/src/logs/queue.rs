//! Lines on their way to stderr: a queue that is bounded in lines and bytes, and a thread that writes.
//!
//! In: whole lines, from any thread, which never waits for the reader of the log. Out: the lines in their order, and in
//! the place of lost lines one with their number. A line is lost if the queue is full (a pipe that is not read, a
//! stopped terminal), or if it cannot be written (a full disk, a closed pipe). [`lines_lost`] counts them. Holds at
//! most [`WAITING_BYTES_MAX`] and [`WAITING_LINES_MAX`], and one chunk that is being written.

use super::LogFormat;
use std::collections::VecDeque;
use std::io::{self, ErrorKind, Write};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Bytes that wait to be written.
const WAITING_BYTES_MAX: usize = 1 << 20;
/// Lines that wait to be written.
const WAITING_LINES_MAX: usize = 4096;
/// Written at once.
const CHUNK_BYTES: usize = 16 << 10;

static LOST: AtomicU64 = AtomicU64::new(0);

/// Lines that found no room, or could not be written.
pub(crate) fn lines_lost() -> u64 {
    LOST.load(Relaxed)
}

#[derive(Debug)]
pub(super) struct Queue {
    format: LogFormat,
    waiting: Mutex<Waiting>,
    /// Notified when a line comes, and when the queue is empty again.
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Waiting {
    entries: VecDeque<Entry>,
    bytes: usize,
    /// Since the last entry.
    lost: u64,
    is_writing: bool,
}

#[derive(Debug)]
enum Entry {
    Lines(Box<[u8]>),
    /// So many lines were lost here.
    Lost(u64),
}

impl Queue {
    pub(super) fn new(format: LogFormat) -> Arc<Self> {
        Arc::new(Queue { format, waiting: Mutex::default(), changed: Condvar::new() })
    }

    /// Takes whole lines, all of them or none. Never waits for the reader.
    pub(super) fn push(&self, lines: &[u8]) {
        let mut waiting = self.lock();
        if waiting.entries.len() >= WAITING_LINES_MAX || waiting.bytes + lines.len() > WAITING_BYTES_MAX {
            let lost = count(lines);
            waiting.lost += lost;
            LOST.fetch_add(lost, Relaxed);
            return;
        }
        if waiting.lost > 0 {
            let lost = std::mem::take(&mut waiting.lost);
            waiting.entries.push_back(Entry::Lost(lost));
        }
        waiting.bytes += lines.len();
        waiting.entries.push_back(Entry::Lines(lines.into()));
        self.changed.notify_all();
    }

    /// Waits until all lines are written, and returns whether they are. For the end of a process.
    pub(super) fn flush(&self, within: Duration) -> bool {
        let is_busy = |waiting: &mut Waiting| waiting.is_writing || !waiting.entries.is_empty() || waiting.lost > 0;
        let (waiting, _) =
            self.changed.wait_timeout_while(self.lock(), within, is_busy).unwrap_or_else(PoisonError::into_inner);
        !waiting.is_writing && waiting.entries.is_empty()
    }

    /// Writes lines as they come, without end.
    pub(super) fn write_to(&self, out: impl Write) -> ! {
        let mut written = Written { out, format: self.format, lost: 0, is_torn: false };
        let mut chunk = Vec::new();
        loop {
            let mut waiting = self.lock();
            waiting.is_writing = false;
            while waiting.entries.is_empty() && waiting.lost == 0 {
                self.changed.notify_all();
                waiting = self.changed.wait(waiting).unwrap_or_else(PoisonError::into_inner);
            }
            waiting.is_writing = true;
            let LostAround { before, after } = waiting.take(&mut chunk);
            drop(waiting);
            written.lost += before;
            written.put(&chunk);
            written.lost += after;
            chunk.clear();
            if after > 0 {
                written.put(&[]);
            }
        }
    }

    /// Takes the waiting lines, for tests.
    #[cfg(test)]
    pub(super) fn taken(&self) -> String {
        let mut chunk = Vec::new();
        while let waiting = &mut self.lock()
            && !waiting.entries.is_empty()
        {
            let mut next = Vec::new();
            waiting.take(&mut next);
            chunk.append(&mut next);
        }
        String::from_utf8(chunk).expect("text")
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How many lines were lost before those of a chunk, and after them.
struct LostAround {
    before: u64,
    after: u64,
}

impl Waiting {
    /// Moves the next lines into `chunk`.
    fn take(&mut self, chunk: &mut Vec<u8>) -> LostAround {
        let mut before = 0;
        loop {
            match self.entries.front() {
                Some(Entry::Lost(lost)) if chunk.is_empty() => before += lost,
                Some(Entry::Lines(lines)) if chunk.is_empty() || chunk.len() + lines.len() <= CHUNK_BYTES => {
                    self.bytes -= lines.len();
                    chunk.extend_from_slice(lines);
                }
                Some(_) => return LostAround { before, after: 0 },
                None => return LostAround { before, after: std::mem::take(&mut self.lost) },
            }
            self.entries.pop_front();
        }
    }
}

/// The output, and the lines that it did not take.
struct Written<W> {
    out: W,
    format: LogFormat,
    /// Lost lines that no line reports yet.
    lost: u64,
    /// The last line was not written to its end.
    is_torn: bool,
}

impl<W: Write> Written<W> {
    /// Reports lost lines, then writes these. Lines that cannot be written are lost too.
    fn put(&mut self, lines: &[u8]) {
        if self.lost > 0 && self.write(notice(self.format, self.lost).as_bytes()).is_ok() {
            self.lost = 0;
        }
        if let Err(rest) = self.write(lines) {
            let lost = count(&lines[rest..]);
            self.lost += lost;
            LOST.fetch_add(lost, Relaxed);
        }
    }

    /// Writes all of it, or returns how many bytes were written.
    fn write(&mut self, lines: &[u8]) -> Result<(), usize> {
        if self.is_torn && !lines.is_empty() {
            self.out.write_all(b"\n").map_err(|_| 0_usize)?;
            self.is_torn = false;
        }
        let mut at = 0;
        while at < lines.len() {
            match self.out.write(&lines[at..]) {
                Ok(len) if len > 0 => at += len,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Ok(_) | Err(_) => {
                    self.is_torn = at > 0 && lines[at - 1] != b'\n';
                    return Err(at);
                }
            }
        }
        Ok(())
    }
}

fn count(lines: &[u8]) -> u64 {
    memchr::memchr_iter(b'\n', lines).count() as u64
}

fn notice(format: LogFormat, lost: u64) -> String {
    match format {
        LogFormat::Text => format!("{lost} lines were lost here: the log was not read, or could not be written\n"),
        LogFormat::Json => format!(
            "{{\"level\":\"WARN\",\"message\":\"lines were lost here: the log was not read, or could not be written\",\"lost\":{lost}}}\n"
        ),
    }
}

/// Standard error without the lock and the panics of `std`'s: a thread that waits here does not keep other threads from
/// reporting why the process ends.
#[derive(Debug)]
pub(super) struct Stderr;

impl Write for Stderr {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        use rustix::event::{PollFd, PollFlags, poll};
        let stderr = rustix::stdio::stderr();
        loop {
            match rustix::io::write(stderr, bytes) {
                // Another program that shares it has made it non-blocking.
                Err(rustix::io::Errno::AGAIN) => {
                    let _ = poll(&mut [PollFd::new(&stderr, PollFlags::OUT)], None); // then the next write reports it
                }
                result => return Ok(result?),
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::{Receiver, Sender, channel};

    /// A reader that takes one write at a time, when the test wants it.
    struct Slow {
        wrote: Sender<Vec<u8>>,
        allowed: Receiver<io::Result<usize>>,
    }

    impl Write for Slow {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let len = match self.allowed.recv() {
                Ok(allowed) => allowed?.min(bytes.len()),
                Err(_) => loop {
                    std::thread::park(); // the test is over
                },
            };
            let _ = self.wrote.send(bytes[..len].to_vec()); // the test may be over
            Ok(len)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    struct Reading {
        queue: Arc<Queue>,
        wrote: Receiver<Vec<u8>>,
        allow: Sender<io::Result<usize>>,
    }

    impl Reading {
        fn start() -> Self {
            let queue = Queue::new(LogFormat::Text);
            let ((wrote, written), (allow, allowed)) = (channel(), channel());
            let writing = queue.clone();
            std::thread::spawn(move || writing.write_to(Slow { wrote, allowed }));
            Reading { queue, wrote: written, allow }
        }

        fn next(&self, allowed: io::Result<usize>) {
            self.allow.send(allowed).expect("the writer waits");
        }

        fn read(&self) -> String {
            self.next(Ok(usize::MAX));
            let bytes = self.wrote.recv_timeout(Duration::from_secs(60)).expect("something is written");
            String::from_utf8(bytes).expect("text")
        }
    }

    fn is_flushed(queue: &Queue) -> bool {
        queue.flush(Duration::from_secs(60))
    }

    /// Without a reader a thread that logs continues, memory has a bound, and a later reader sees the number of lost
    /// lines.
    #[test]
    fn lines_without_room_are_lost_counted_and_reported_in_their_place() {
        for (line, most) in
            [("x\n".to_owned(), WAITING_LINES_MAX), ("x".repeat(9_999) + "\n", WAITING_BYTES_MAX / 10_000)]
        {
            let reading = Reading::start();
            let before = lines_lost();
            reading.queue.push(line.as_bytes());
            while !reading.queue.lock().entries.is_empty() {
                std::thread::yield_now(); // until the writer holds it
            }
            let pushed = 3 * most;
            (0..pushed).for_each(|_| reading.queue.push(line.as_bytes()));
            {
                let waiting = reading.queue.lock();
                assert!(waiting.bytes <= WAITING_BYTES_MAX && waiting.entries.len() <= WAITING_LINES_MAX);
            }
            assert!(!reading.queue.flush(Duration::ZERO), "it waits for no reader");
            let mut text = String::new();
            while !text.ends_with("could not be written\n") {
                text += &reading.read();
            }
            let first_word = text.lines().last().and_then(|line| line.split(' ').next());
            let lost: usize = first_word.and_then(|lost| lost.parse().ok()).expect("a number");
            assert_eq!(text.lines().count() - 1 + lost, 1 + pushed, "every line is written or counted");
            assert!(lost >= pushed - most && lines_lost() - before >= lost as u64, "{lost}");
            reading.queue.push(b"again\n");
            assert_eq!(reading.read(), "again\n");
            assert!(is_flushed(&reading.queue));
        }
    }

    #[test]
    fn lines_that_cannot_be_written_are_lost_and_reported_later() {
        let reading = Reading::start();
        let before = lines_lost();
        let full = || Err(io::Error::from(ErrorKind::StorageFull));
        reading.next(full());
        reading.queue.push(b"no room\n");
        assert!(is_flushed(&reading.queue));
        // The first is torn, of the second there is nothing: the notice failed, then the line.
        reading.next(full());
        reading.next(Ok(3));
        reading.next(full());
        reading.queue.push(b"torn line\n");
        assert_eq!(reading.wrote.recv_timeout(Duration::from_secs(60)).expect("a part"), b"tor");
        assert!(is_flushed(&reading.queue));
        assert!(lines_lost() >= before + 2);
        reading.queue.push(b"whole\n");
        assert_eq!(reading.read(), "\n");
        assert_eq!(reading.read(), "2 lines were lost here: the log was not read, or could not be written\n");
        assert_eq!(reading.read(), "whole\n");
        assert!(is_flushed(&reading.queue));
    }

    #[test]
    fn lines_stay_in_order_and_a_flush_waits_for_them() {
        let queue = Queue::new(LogFormat::Json);
        let ((wrote, written), (allow, allowed)) = (channel(), channel());
        let writing = queue.clone();
        (0..1_000).for_each(|number| queue.push(format!("{number}\n").as_bytes()));
        std::thread::spawn(move || writing.write_to(Slow { wrote, allowed }));
        (0..2_000).for_each(|_| allow.send(Ok(7)).expect("a queue"));
        assert!(is_flushed(&queue));
        let text: Vec<u8> = written.try_iter().flatten().collect();
        let expected: String = (0..1_000).map(|number| format!("{number}\n")).collect();
        assert_eq!(String::from_utf8(text).expect("text"), expected);
    }
}
