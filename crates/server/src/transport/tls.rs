//! TLS over a TCP socket: the same calls as for a plain one, on both of its halves.
//!
//! In: a socket and the server's configuration. Out: [`TlsSocket`], after its handshake. Plaintext is read into the
//! caller's buffer, and is written as records: what is written by one call is one record where it fits (16 KiB). At
//! most [`PENDING_BYTES`] of records wait in here for the socket; the callers hold the rest, and are told when the
//! socket is full. An idle connection holds no buffer of ours.

use rustls::{ServerConfig, ServerConnection};
use socket2::SockRef;
use std::cell::RefCell;
use std::io::{self, IoSlice, Read as _, Write as _};
use std::net::Shutdown;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use tokio::io::ReadBuf;
use tokio::net::TcpStream;

/// Records that wait for the socket, in bytes.
const PENDING_BYTES: usize = 64 << 10;
/// The protocol of an ACME authority that proves a domain; the handshake is all of it (RFC 8737 §3).
const PROOF: &[u8] = b"acme-tls/1";
/// The first byte of a TLS handshake (RFC 8446 §5.1).
const HANDSHAKE: u8 = 22;

/// A TCP connection that speaks TLS. Both halves of a connection use it, on one thread.
#[derive(Debug)]
pub(crate) struct TlsSocket {
    socket: TcpStream,
    session: RefCell<ServerConnection>,
}

/// Why a handshake ended without a connection.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HandshakeError {
    /// It began with something else, probably HTTP: the socket is plain and takes a plain answer.
    #[error("the connection does not begin with a TLS handshake")]
    Plain(TcpStream),
    #[error(transparent)]
    Failed(#[from] io::Error),
}

impl TlsSocket {
    /// Does the handshake. The caller bounds its time.
    ///
    /// # Errors
    /// The peer speaks no TLS, shares no version or cipher, does not trust the certificate, or has gone.
    pub(crate) async fn accept(socket: TcpStream, config: Arc<ServerConfig>) -> Result<Self, HandshakeError> {
        let mut first = [0];
        if socket.peek(&mut first).await? == 1 && first[0] != HANDSHAKE {
            return Err(HandshakeError::Plain(socket));
        }
        let mut session = ServerConnection::new(config).map_err(io::Error::other)?;
        session.set_buffer_limit(Some(PENDING_BYTES));
        let this = TlsSocket { socket, session: RefCell::new(session) };
        std::future::poll_fn(|cx| this.poll_handshake(cx)).await?;
        Ok(this)
    }

    /// True where the peer is an authority that has seen now what it wanted to see.
    pub(crate) fn is_proof(&self) -> bool {
        self.session.borrow().alpn_protocol() == Some(PROOF)
    }

    fn poll_handshake(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut session = self.session.borrow_mut();
        loop {
            ready!(self.poll_send(cx, &mut session))?;
            if !session.is_handshaking() {
                return Poll::Ready(Ok(()));
            }
            if ready!(self.poll_receive(cx, &mut session))? == 0 {
                return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
            }
        }
    }

    /// Takes bytes of the socket into the session. 0: its end.
    fn poll_receive(&self, cx: &mut Context<'_>, session: &mut ServerConnection) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.socket.poll_read_ready(cx))?;
            match session.read_tls(&mut Raw(&self.socket)) {
                Ok(count) => {
                    if let Err(error) = session.process_new_packets() {
                        let _ = self.send(session); // the alert, which tells the peer why
                        return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, error)));
                    }
                    return Poll::Ready(Ok(count));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }

    /// Gives the session's records to the socket, as far as that takes them at once.
    fn send(&self, session: &mut ServerConnection) -> io::Result<()> {
        while session.wants_write() {
            session.write_tls(&mut Raw(&self.socket))?;
        }
        Ok(())
    }

    fn poll_send(&self, cx: &mut Context<'_>, session: &mut ServerConnection) -> Poll<io::Result<()>> {
        loop {
            match self.send(session) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => ready!(self.socket.poll_write_ready(cx))?,
                sent => return Poll::Ready(sent),
            }
        }
    }

    /// Plaintext that is there already.
    fn take(session: &mut ServerConnection, into: &mut [u8]) -> io::Result<usize> {
        match session.reader().read(into) {
            // The peer closed TCP without a word of TLS, as many do. Messages have ends of their own.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(0),
            taken => taken,
        }
    }

    /// Reads plaintext. No bytes: the end.
    pub(crate) fn poll_read(&self, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let mut session = self.session.borrow_mut();
        loop {
            match Self::take(&mut session, into.initialize_unfilled()) {
                Ok(count) => {
                    into.advance(count);
                    return Poll::Ready(Ok(()));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
            ready!(self.poll_receive(cx, &mut session))?;
            // If the socket is full, records of the session itself go with the next write.
            match self.send(&mut session) {
                Err(error) if error.kind() != io::ErrorKind::WouldBlock => return Poll::Ready(Err(error)),
                _ => {}
            }
        }
    }

    /// Writes plaintext as far as there is room for it, without waiting, and tells how many bytes were taken. They are
    /// on their way: where [`is_pending`](Self::is_pending), a later call has to follow, also with nothing new.
    ///
    /// # Errors
    /// `WouldBlock`: the socket is full, and nothing was taken.
    pub(crate) fn write(&self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        let mut session = self.session.borrow_mut();
        self.send(&mut session)?;
        let taken = session.writer().write_vectored(slices)?;
        match self.send(&mut session) {
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => Err(error),
            _ => Ok(taken),
        }
    }

    /// True while records wait for the socket.
    pub(crate) fn is_pending(&self) -> bool {
        self.session.borrow().wants_write()
    }

    pub(crate) fn poll_write(&self, cx: &mut Context<'_>, slices: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        ready!(self.poll_flush(cx))?;
        Poll::Ready(self.write(slices))
    }

    pub(crate) fn poll_flush(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_send(cx, &mut self.session.borrow_mut())
    }

    /// Says that no more comes, and closes the sending side.
    pub(crate) fn poll_shutdown(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut session = self.session.borrow_mut();
        session.send_close_notify(); // once, however often it is called
        ready!(self.poll_send(cx, &mut session))?;
        drop(session);
        match SockRef::from(&self.socket).shutdown(Shutdown::Write) {
            Err(error) if error.kind() != io::ErrorKind::NotConnected => Poll::Ready(Err(error)),
            _ => Poll::Ready(Ok(())),
        }
    }

    /// The same without waiting: bytes that the socket does not take at once are lost.
    pub(crate) fn shutdown_now(&self) {
        let mut session = self.session.borrow_mut();
        session.send_close_notify();
        let _ = self.send(&mut session); // where it fails the peer has gone, or reads no more
        let _ = SockRef::from(&self.socket).shutdown(Shutdown::Write);
    }

    pub(crate) async fn readable(&self) -> io::Result<()> {
        // The handshake may have brought the beginning of what follows it.
        if self.has_plaintext() { Ok(()) } else { self.socket.readable().await }
    }

    fn has_plaintext(&self) -> bool {
        self.session.borrow_mut().process_new_packets().is_ok_and(|state| state.plaintext_bytes_to_read() > 0)
    }

    /// Reads plaintext without waiting.
    ///
    /// # Errors
    /// `WouldBlock`: there is none.
    pub(crate) fn try_read(&self, into: &mut [u8]) -> io::Result<usize> {
        let mut context = Context::from_waker(std::task::Waker::noop());
        let mut into = ReadBuf::new(into);
        match self.poll_read(&mut context, &mut into) {
            Poll::Pending => Err(io::ErrorKind::WouldBlock.into()),
            Poll::Ready(read) => read.map(|()| into.filled().len()),
        }
    }

    pub(crate) fn poll_write_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.socket.poll_write_ready(cx)
    }

    /// The socket below, for options and addresses. Do not read from it or write to it.
    pub(crate) fn tcp(&self) -> &TcpStream {
        &self.socket
    }

    /// For the runtime of another thread.
    ///
    /// # Errors
    /// The runtime cannot let go of it.
    pub(crate) fn into_std(self) -> io::Result<(std::net::TcpStream, Box<ServerConnection>)> {
        Ok((self.socket.into_std()?, Box::new(self.session.into_inner())))
    }

    /// On the runtime that this is called on.
    ///
    /// # Errors
    /// The runtime cannot take it.
    pub(crate) fn from_std(socket: std::net::TcpStream, session: ServerConnection) -> io::Result<Self> {
        Ok(TlsSocket { socket: TcpStream::from_std(socket)?, session: RefCell::new(session) })
    }
}

impl AsFd for TlsSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// The socket below, for the session's records.
struct Raw<'s>(&'s TcpStream);

impl io::Read for Raw<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.0.try_read(into)
    }
}

impl io::Write for Raw<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.try_write(bytes)
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        self.0.try_write_vectored(slices)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
