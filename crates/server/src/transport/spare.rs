//! A file descriptor that is kept for the moment when there is no other: with it a connection can be refused.
//!
//! In: an error of `accept`. Out: one waiting connection, accepted by the descriptor that [`Spare`] gave up for it,
//! told 503 and closed. Without that, clients wait in the backlog with no word, and the listener stays readable, so a
//! loop over it spins. Another thread may take the descriptor first; then the caller pauses for [`PAUSE`], as after
//! any other error of `accept`.

use crate::refusal::Refused;
use futures_util::FutureExt as _;
use rustix::io::Errno;
use socket2::{SockRef, Socket};
use std::fs::File;
use std::future::Future;
use std::io::{self, Read as _, Write as _};
use std::net::Shutdown;
use std::os::fd::AsFd;
use std::time::Duration;

/// How long accepting pauses when an error of the system's will not be over at once.
pub(crate) const PAUSE: Duration = Duration::from_millis(50);
/// The most bytes that are read from a refused request, so that the peer sees the answer and not a reset.
const FORGET_BYTES: usize = 4 << 10;

/// See the module's description. One for each listener.
#[derive(Debug)]
pub(crate) struct Spare(Option<File>);

/// The outcome for a connection without a descriptor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// One was told 503 and closed.
    Refused,
    /// None was waiting any more.
    NoneWaits,
    /// There is no spare descriptor either, or the error is another: nothing can be done now.
    Pause,
}

impl Spare {
    pub(crate) fn new() -> Self {
        Spare(open())
    }

    /// Deals with an error of `accept`; `again` accepts once more, and is not waited for.
    pub(crate) fn refuse_one<S: AsFd>(
        &mut self,
        error: &io::Error,
        again: impl Future<Output = io::Result<S>>,
    ) -> Outcome {
        if !is_exhausted(error) || self.0.take().is_none() {
            self.refill();
            return Outcome::Pause;
        }
        let outcome = match again.now_or_never() {
            Some(Ok(socket)) => {
                tell(&SockRef::from(&socket));
                Outcome::Refused
            }
            Some(Err(_)) => Outcome::Pause,
            None => Outcome::NoneWaits,
        };
        self.refill();
        outcome
    }

    /// Opens it anew, where it is not there.
    fn refill(&mut self) {
        if self.0.is_none() {
            self.0 = open();
        }
    }
}

fn open() -> Option<File> {
    File::open("/dev/null").ok()
}

/// True where the process or the system has no descriptor left.
fn is_exhausted(error: &io::Error) -> bool {
    matches!(Errno::from_io_error(error), Some(Errno::MFILE | Errno::NFILE))
}

/// The socket is non-blocking and its buffer empty: the answer is written whole or, where the peer has gone, not at
/// all.
fn tell(mut socket: &Socket) {
    let words = "the server has no file descriptor left (ulimit -n); come back later";
    let _ = socket.read(&mut [0; FORGET_BYTES]);
    let _ = socket.write(&Refused::because(503, words).retry_after_ms(5_000).bytes());
    let _ = socket.shutdown(Shutdown::Write);
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::{pending, ready};
    use std::os::unix::net::UnixStream;

    #[test]
    fn one_is_told_and_the_spare_is_there_again() {
        let mut spare = Spare::new();
        for errno in [Errno::MFILE, Errno::NFILE] {
            let (mut near, far) = UnixStream::pair().unwrap();
            far.set_nonblocking(true).unwrap();
            near.write_all(b"GET / HTTP/1.1\r\n").unwrap();
            assert_eq!(spare.refuse_one(&errno.into(), ready(Ok(far))), Outcome::Refused);
            let mut told = String::new();
            near.read_to_string(&mut told).unwrap();
            assert!(told.starts_with("HTTP/1.1 503 ") && told.contains("\r\nretry-after: 5\r\n"), "{told}");
            assert!(spare.0.is_some());
        }
    }

    #[test]
    fn nothing_is_waited_for_and_other_errors_pause() {
        let mut spare = Spare::new();
        let none = || pending::<io::Result<UnixStream>>();
        assert_eq!(spare.refuse_one(&Errno::MFILE.into(), none()), Outcome::NoneWaits);
        assert_eq!(spare.refuse_one(&Errno::NOMEM.into(), none()), Outcome::Pause);
        let taken = ready(Err::<UnixStream, io::Error>(Errno::MFILE.into()));
        assert_eq!(spare.refuse_one(&Errno::MFILE.into(), taken), Outcome::Pause, "another thread was faster");
        let mut gone = Spare(None);
        assert_eq!(gone.refuse_one(&Errno::MFILE.into(), none()), Outcome::Pause);
        assert!(gone.0.is_some(), "it is opened as soon as that can be");
    }
}
