//! Detects whether a peer accepts the bytes that wait for it in the kernel.
//!
//! In: a socket whose next write would block, and the time in which its peer must take something. Out: whether that
//! time is over. A socket reports that it can be written to only when a good part of its buffer is free, which a slow
//! reader may need minutes for. So this asks the kernel how many bytes the peer has not acknowledged: each decrease is
//! progress. On systems without that number a blocked socket counts as one whose peer accepts no byte.

use std::os::fd::BorrowedFd;
use std::time::Duration;
use tokio::time::Instant;

/// How often the kernel is asked within the time that a peer has.
const LOOKS: u32 = 4;

/// A socket that is blocked.
#[derive(Debug)]
pub(crate) struct Taking {
    time: Duration,
    /// When the peer was last seen to have taken something.
    taken: Instant,
    /// Bytes that it has not acknowledged, where the system tells.
    waiting: Option<u32>,
}

impl Taking {
    /// Begins when a write blocks.
    pub(crate) fn new(socket: BorrowedFd<'_>, time: Duration) -> Self {
        Taking { time, taken: Instant::now(), waiting: unacknowledged(socket) }
    }

    /// When to ask the next time: after a part of the time, and when it ends.
    pub(crate) fn look_at(&self, now: Instant) -> Instant {
        (now + self.time / LOOKS).min(self.taken + self.time)
    }

    /// When the peer was last seen to have taken something.
    pub(crate) fn taken(&self) -> Instant {
        self.taken
    }

    /// True when the peer has taken nothing for the whole time. Nothing may be written between two calls.
    pub(crate) fn is_over(&mut self, socket: BorrowedFd<'_>) -> bool {
        self.judge(Instant::now(), unacknowledged(socket))
    }

    fn judge(&mut self, now: Instant, waiting: Option<u32>) -> bool {
        if waiting < self.waiting {
            self.taken = now;
        }
        self.waiting = waiting;
        now >= self.taken + self.time
    }
}

/// Bytes written to the socket that its peer has not acknowledged (TCP) or read (Unix).
#[cfg(target_os = "linux")]
fn unacknowledged(socket: BorrowedFd<'_>) -> Option<u32> {
    const TIOCOUTQ: rustix::ioctl::Opcode = libc::TIOCOUTQ as rustix::ioctl::Opcode;
    // SAFETY: TIOCOUTQ, which is SIOCOUTQ for a socket (tcp(7), unix(7)), writes one int.
    #[allow(unsafe_code, reason = "no crate has a safe function for this request")]
    let request = unsafe { rustix::ioctl::Getter::<TIOCOUTQ, std::ffi::c_int>::new() };
    // SAFETY: the request reads a number and changes nothing.
    #[allow(unsafe_code, reason = "as above")]
    let bytes = unsafe { rustix::ioctl::ioctl(socket, request) };
    bytes.ok().and_then(|bytes| u32::try_from(bytes).ok())
}

#[cfg(not(target_os = "linux"))]
fn unacknowledged(_: BorrowedFd<'_>) -> Option<u32> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};
    use std::os::fd::AsFd;
    use std::os::unix::net::UnixStream;

    const TIME: Duration = Duration::from_secs(60);

    fn taking(waiting: Option<u32>) -> (Instant, Taking) {
        let began = Instant::now();
        (began, Taking { time: TIME, taken: began, waiting })
    }

    #[test]
    fn a_peer_that_takes_a_byte_in_each_time_stays() {
        let (began, mut taking) = taking(Some(100));
        let mut now = began;
        for left in (0..100).rev() {
            now += TIME - Duration::from_millis(1);
            assert!(!taking.judge(now, Some(left)), "{left} bytes are left");
        }
        assert!(!taking.judge(now + TIME - Duration::from_millis(1), Some(0)));
        assert!(taking.judge(now + TIME, Some(0)), "and then it took nothing");
    }

    #[test]
    fn a_peer_that_takes_nothing_is_gone_when_the_time_ends() {
        for waiting in [Some(100), None] {
            let (began, mut taking) = taking(waiting);
            let mut now = began;
            for _ in 1..LOOKS {
                now = taking.look_at(now);
                assert!(!taking.judge(now, waiting), "{waiting:?}");
            }
            now = taking.look_at(now);
            assert_eq!(now, began + TIME);
            assert!(taking.judge(now, waiting), "{waiting:?}");
        }
    }

    /// Fills a socket, then reads from its peer until the kernel reports progress. A kernel that never does hangs here.
    fn is_seen(mut near: impl Write + AsFd, mut far: impl Read) {
        let bytes = [0; 64 << 10];
        while near.write(&bytes).is_ok() {}
        let mut taking = Taking::new(near.as_fd(), TIME);
        assert!(taking.waiting > Some(0), "{:?}", taking.waiting);
        assert!(!taking.judge(taking.taken + TIME / 2, taking.waiting));
        let before = taking.taken;
        while taking.taken == before {
            let mut some = [0; 4096];
            let _ = far.read(&mut some).expect("there are bytes");
            assert!(!taking.is_over(near.as_fd()));
        }
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn the_kernel_tells_that_a_peer_takes_something() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let near = TcpStream::connect(listener.local_addr().expect("bound")).expect("a listener");
        let (far, _) = listener.accept().expect("a connection");
        near.set_nonblocking(true).expect("a socket");
        is_seen(near, far);

        let (near, far) = UnixStream::pair().expect("sockets");
        near.set_nonblocking(true).expect("a socket");
        is_seen(near, far);
    }
}
