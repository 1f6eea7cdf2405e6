//! The output of a command on stdout: the command prints all of it, or reports why it could not.
//!
//! The reader may go (`| head -1`): that ends a command quietly, as it is what was wanted. Everything else that keeps
//! a byte from being written (a full disk, a descriptor that cannot be written) is a failure with status 1. Written
//! with the system call: `std`'s stdout keeps the end of a text in a buffer that is thrown away at the end, and takes
//! EBADF for success. (A stdout that was closed before the start is /dev/null by the time that this runs: Rust's
//! runtime opens it in its place, so that no socket gets its number.)

use crate::failure::Failure;
use std::io::{self, ErrorKind};
use std::os::fd::BorrowedFd;

/// Whether somebody reads on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reader {
    Reads,
    Gone,
}

/// Writes it all.
pub(crate) fn print(text: &str) -> Result<Reader, Failure> {
    written(write(text.as_bytes()))
}

/// The meaning of the end of the writing for the command.
pub(crate) fn written(result: io::Result<()>) -> Result<Reader, Failure> {
    match result {
        Ok(()) => Ok(Reader::Reads),
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(Reader::Gone),
        Err(error) => Err(Failure::users(format!("cannot write to stdout: {error}"))),
    }
}

/// Writes these bytes, and waits for the reader where the pipe is full.
pub(crate) fn write(bytes: &[u8]) -> io::Result<()> {
    write_to(rustix::stdio::stdout(), bytes)
}

/// The same for any descriptor.
pub(crate) fn write_to(out: BorrowedFd<'_>, mut bytes: &[u8]) -> io::Result<()> {
    use rustix::event::{PollFd, PollFlags, poll};
    while !bytes.is_empty() {
        match rustix::io::write(out, bytes) {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Ok(len) => bytes = &bytes[len..],
            Err(rustix::io::Errno::INTR) => {}
            // Another program that shares it has made it non-blocking. The next write shows the fault, if
            // anything is.
            Err(rustix::io::Errno::AGAIN) => drop(poll(&mut [PollFd::new(&out, PollFlags::OUT)], None)),
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}
