//! Lines on stdout, one by one or from a thread that writes them.

use crate::failure::Failure;
use crate::output::{self, Reader, written};
use std::io;
use tokio::sync::{mpsc, oneshot};

/// Lines that wait to be written, beyond those in the pipe. Then the sender waits, and in the end the server keeps
/// them.
const WAITING_MAX: usize = 256;
/// Written at once.
const CHUNK_BYTES: usize = 64 << 10;

/// Writes a line, and waits until it is written.
pub(super) fn print(line: &str) -> Result<Reader, Failure> {
    output::print(&format!("{line}\n"))
}

/// Lines for a thread that writes them: a reader that is slow must not keep the connection from answering the server's
/// pings.
#[derive(Debug, Clone)]
pub(super) struct Lines {
    waiting: mpsc::Sender<String>,
}

/// How the writing goes.
#[derive(Debug)]
pub(super) struct Writing {
    /// `None` once it has been reported.
    end: Option<oneshot::Receiver<io::Result<()>>>,
    /// `None` once it has been reported, or cannot be known.
    gone: Option<oneshot::Receiver<()>>,
}

impl Lines {
    pub(super) fn open() -> (Lines, Writing) {
        let (waiting, lines) = mpsc::channel(WAITING_MAX);
        let (ended, end) = oneshot::channel();
        let (went, gone) = oneshot::channel();
        // Neither thread is waited for: the one may hang in a full pipe, the other waits for the reader's end.
        std::thread::spawn(move || drop(ended.send(write_all(lines))));
        std::thread::spawn(move || {
            if reader_goes() {
                let _ = went.send(()); // it may be over already
            }
        });
        (Lines { waiting }, Writing { end: Some(end), gone: Some(gone) })
    }

    pub(super) async fn print(&self, line: String) -> Reader {
        if self.waiting.send(line).await.is_ok() { Reader::Reads } else { Reader::Gone }
    }
}

impl Writing {
    /// Returns when every line of every [`Lines`] that was dropped is written, when writing failed, or when nobody
    /// reads any more. Cancelling it loses nothing; after its end it returns at once.
    pub(super) async fn ends(&mut self) -> Result<(), Failure> {
        let result = loop {
            let Some(end) = &mut self.end else { return Ok(()) };
            let Some(gone) = &mut self.gone else { break end.await };
            tokio::select! {
                result = end => break result,
                closed = gone => {
                    self.gone = None;
                    if closed.is_ok() {
                        break Ok(Ok(()));
                    }
                }
            }
        };
        self.end = None;
        written(result.unwrap_or(Ok(()))).map(drop)
    }
}

fn write_all(mut lines: mpsc::Receiver<String>) -> io::Result<()> {
    let mut chunk = String::new();
    while let Some(line) = lines.blocking_recv() {
        chunk.push_str(&line);
        chunk.push('\n');
        while chunk.len() < CHUNK_BYTES
            && let Ok(line) = lines.try_recv()
        {
            chunk.push_str(&line);
            chunk.push('\n');
        }
        output::write(chunk.as_bytes())?; // no lock is held while this waits in a full pipe: the process can end
        chunk.clear();
    }
    Ok(())
}

/// Waits for the reader's end, which no write shows while there is nothing to write. False where that cannot be known.
fn reader_goes() -> bool {
    use rustix::event::{PollFd, PollFlags, poll};
    let stdout = rustix::stdio::stdout();
    let mut watched = [PollFd::new(&stdout, PollFlags::empty())];
    loop {
        match poll(&mut watched, None) {
            Ok(_) => return watched[0].revents().intersects(PollFlags::ERR | PollFlags::HUP),
            Err(rustix::io::Errno::INTR) => {}
            Err(_) => return false,
        }
    }
}
