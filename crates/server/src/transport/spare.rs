//! A file descriptor that is kept for the moment when there is no other: with it a connection can be refused.
//!
//! In: the `accept` of a listener. Out: a connection to serve, or an error and its [`Outcome`]. Where no descriptor is
//! left, [`Spare`] gives up its own, accepts one waiting connection by it, answers it 503 and closes it. Otherwise
//! clients wait in the backlog without an answer, and the listener stays readable, so a loop over it spins.
//!
//! No listener of the process accepts while another one uses its spare descriptor (`ACCEPTING`), because it would get
//! that descriptor. Other code may still open a file in that moment. The next connection that is accepted pays it back:
//! it is refused too, and its descriptor becomes the spare one.

use crate::refusal::HttpRefusal;
use crate::transport::socket;
use rustix::io::Errno;
use std::fs::File;
use std::future::poll_fn;
use std::io;
use std::os::fd::AsFd;
use std::sync::{PoisonError, RwLock};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

/// How long accepting pauses when an error of the system's will not be over at once.
pub(crate) const PAUSE: Duration = Duration::from_millis(50);

/// Shared by those that accept, exclusive for the one that uses its spare descriptor. All listeners of the process
/// share it, as they share its descriptors. It is held for a few system calls that do not wait.
static ACCEPTING: RwLock<()> = RwLock::new(());

/// See the module's description. One for each listener.
#[derive(Debug)]
pub(crate) struct Spare {
    file: Option<File>,
    answer: Answer,
}

/// The answer to a refused connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Answer {
    /// 503 of HTTP/1.1.
    Http,
    /// Nothing: it would have to be encrypted.
    None,
}

/// The outcome where `accept` gave no connection to serve.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// One was answered 503 and closed.
    Refused,
    /// None was waiting any more.
    NoneWaits,
    /// There is no spare descriptor either, or the error is another: nothing can be done now.
    Pause,
}

impl Spare {
    pub(crate) fn new(answer: Answer) -> Self {
        Spare { file: open(), answer }
    }

    /// Waits for the next connection to serve. `poll_accept` is a listener's.
    ///
    /// # Errors
    /// The error of `accept`, and its outcome for a connection without a descriptor.
    pub(crate) async fn accept<S: AsFd>(
        &mut self,
        mut poll_accept: impl FnMut(&mut Context<'_>) -> Poll<io::Result<S>>,
    ) -> Result<S, (Outcome, io::Error)> {
        let accepted = poll_fn(|cx| {
            let _shared = ACCEPTING.read().unwrap_or_else(PoisonError::into_inner);
            poll_accept(cx)
        });
        match accepted.await {
            Ok(socket) => self.repaid_by(socket),
            Err(error) => Err((self.refuse_one(&error, poll_accept), error)),
        }
    }

    /// Where the spare descriptor was lost and cannot be opened anew, this connection's takes its place.
    fn repaid_by<S: AsFd>(&mut self, socket: S) -> Result<S, (Outcome, io::Error)> {
        if self.file.is_some() {
            return Ok(socket);
        }
        let _exclusive = ACCEPTING.write().unwrap_or_else(PoisonError::into_inner);
        self.refill();
        if self.file.is_some() {
            return Ok(socket);
        }
        self.answer.tell(socket);
        self.refill();
        Err((Outcome::Refused, Errno::MFILE.into()))
    }

    /// Deals with an error of `accept`.
    fn refuse_one<S: AsFd>(
        &mut self,
        error: &io::Error,
        mut poll_accept: impl FnMut(&mut Context<'_>) -> Poll<io::Result<S>>,
    ) -> Outcome {
        let _exclusive = ACCEPTING.write().unwrap_or_else(PoisonError::into_inner);
        if !is_exhausted(error) || self.file.take().is_none() {
            self.refill();
            return Outcome::Pause;
        }
        let outcome = match poll_accept(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(Ok(socket)) => {
                self.answer.tell(socket);
                Outcome::Refused
            }
            Poll::Ready(Err(_)) => Outcome::Pause,
            Poll::Pending => Outcome::NoneWaits,
        };
        self.refill();
        outcome
    }

    /// Opens it anew, where it is not there.
    fn refill(&mut self) {
        if self.file.is_none() {
            self.file = open();
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

impl Answer {
    /// Refuses a connection, and closes it.
    fn tell(self, socket: impl AsFd) {
        let words = "the server has no file descriptor left (ulimit -n); come back later";
        let answer = match self {
            Answer::Http => HttpRefusal::because(503, words).retry_after_ms(5_000).bytes(),
            Answer::None => Vec::new(),
        };
        socket::last_words(&socket, &answer);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read as _, Write as _};
    use std::os::unix::net::UnixStream;

    /// A listener that answers `accept` once.
    fn once<S>(answer: Poll<io::Result<S>>) -> impl FnMut(&mut Context<'_>) -> Poll<io::Result<S>> {
        let mut answer = Some(answer);
        move |_| answer.take().expect("it is asked once")
    }

    fn asked() -> (UnixStream, UnixStream) {
        let (mut near, far) = UnixStream::pair().unwrap();
        far.set_nonblocking(true).unwrap();
        near.write_all(b"GET / HTTP/1.1\r\n").unwrap();
        (near, far)
    }

    fn assert_told(mut near: UnixStream) {
        let mut answer = String::new();
        near.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 503 ") && answer.contains("\r\nretry-after: 5\r\n"), "{answer}");
    }

    #[test]
    fn one_is_told_and_the_spare_is_there_again() {
        let mut spare = Spare::new(Answer::Http);
        for errno in [Errno::MFILE, Errno::NFILE] {
            let (near, far) = asked();
            assert_eq!(spare.refuse_one(&errno.into(), once(Poll::Ready(Ok(far)))), Outcome::Refused);
            assert_told(near);
            assert!(spare.file.is_some());
        }
    }

    #[test]
    fn nothing_is_waited_for_and_other_errors_pause() {
        let mut spare = Spare::new(Answer::Http);
        let none = || once(Poll::<io::Result<UnixStream>>::Pending);
        assert_eq!(spare.refuse_one(&Errno::MFILE.into(), none()), Outcome::NoneWaits);
        assert_eq!(spare.refuse_one(&Errno::NOMEM.into(), none()), Outcome::Pause);
        let taken = once(Poll::Ready(Err::<UnixStream, io::Error>(Errno::MFILE.into())));
        assert_eq!(spare.refuse_one(&Errno::MFILE.into(), taken), Outcome::Pause, "other code was faster");
        let mut gone = Spare { file: None, answer: Answer::Http };
        assert_eq!(gone.refuse_one(&Errno::MFILE.into(), none()), Outcome::Pause);
        assert!(gone.file.is_some(), "it is opened as soon as that can be");
    }

    /// The lock is what keeps the descriptor for the listener that gave it up.
    #[test]
    fn no_listener_accepts_while_another_uses_its_spare() {
        let (near, far) = asked();
        let mut far = Some(far);
        let outcome = Spare::new(Answer::Http).refuse_one(&Errno::MFILE.into(), |_| {
            assert!(ACCEPTING.try_read().is_err(), "another listener could accept now");
            Poll::Ready(Ok(far.take().expect("it is asked once")))
        });
        assert_eq!(outcome, Outcome::Refused);
        assert_told(near);
    }
}
