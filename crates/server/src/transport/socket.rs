//! A connection's socket, TCP, TLS or Unix: the shard reads and writes both by the same calls.
//!
//! All bytes of a connection leave through its [`Socket`] or, once that is split, through its [`WriteHalf`]; a
//! connection that is refused before it is one gets its [`last_words`]. Nothing else writes to the descriptor. So a
//! socket that encrypts is a variant here, and no writer has to know of it.

use crate::request::{Credentials, Peer, RequestInfo};
use crate::transport::admission::{Admitted, Guest, Over};
use crate::transport::pace;
use crate::transport::places::Place;
use crate::transport::tls::{HandshakeError, TlsSocket};
use fanfare_hub::Outbox;
use fanfare_wire::proxy_protocol::{self, Header, ProxyError};
use http::uri::Scheme;
use rustls::{ServerConfig, ServerConnection};
use socket2::SockRef;
use std::io::{self, IoSlice, Read as _};
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::{TcpStream, UnixStream, tcp, unix};

/// Frames in one vectored write.
const FRAMES: usize = 32;
/// The most bytes that are read of a request that is refused unread.
const FORGET_BYTES: usize = 4 << 10;

/// A whole socket, before it is a connection, with its place among all connections.
#[derive(Debug)]
pub(crate) struct Socket {
    io: Io,
    admitted: Option<Admitted>,
    /// The ends that a proxy told before the first byte, in place of the kernel's.
    told: Option<Told>,
}

/// The ends of a connection, as a header of the PROXY protocol tells them.
#[derive(Debug, Clone, Copy)]
struct Told {
    peer: Peer,
    local: Option<SocketAddr>,
}

/// Why a connection has no header of the PROXY protocol.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ProxyFault {
    #[error(transparent)]
    Header(#[from] ProxyError),
    /// The peer has gone before it was whole.
    #[error(transparent)]
    Gone(#[from] io::Error),
}

/// The two ends of a connection.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ends {
    pub(crate) peer: Peer,
    /// The address of this end over TCP.
    pub(crate) local: Option<SocketAddr>,
    /// This server encrypts what goes between them.
    pub(crate) is_tls: bool,
}

impl Ends {
    /// The request that came over this connection, with what only the connection tells.
    pub(crate) fn complete(&self, request: RequestInfo) -> RequestInfo {
        let scheme = if self.is_tls { Scheme::HTTPS } else { Scheme::HTTP };
        RequestInfo { local: self.local, scheme, ..request }
    }
}

#[derive(Debug)]
enum Io {
    Tcp(TcpStream),
    Unix(UnixStream),
    Tls(Box<TlsSocket>),
}

/// A socket on its way to the runtime of another thread, with its place among all connections.
#[derive(Debug)]
pub(crate) struct LooseSocket {
    io: LooseIo,
    admitted: Option<Admitted>,
    told: Option<Told>,
}

#[derive(Debug)]
enum LooseIo {
    Tcp(std::net::TcpStream),
    Unix(std::os::unix::net::UnixStream),
    Tls(std::net::TcpStream, Box<ServerConnection>),
}

impl From<std::os::unix::net::UnixStream> for LooseSocket {
    fn from(socket: std::os::unix::net::UnixStream) -> Self {
        LooseSocket { io: LooseIo::Unix(socket), admitted: None, told: None }
    }
}

/// The half that a connection's reader has. It is there as long as the connection takes a descriptor.
#[derive(Debug)]
pub(crate) struct ReadHalf {
    io: ReadIo,
    _admitted: Option<Admitted>,
}

#[derive(Debug)]
enum ReadIo {
    Tcp(tcp::OwnedReadHalf),
    Unix(unix::OwnedReadHalf),
    Tls(Rc<TlsSocket>),
}

/// The half that the shard writes to.
#[derive(Debug)]
pub(crate) enum WriteHalf {
    Tcp(tcp::OwnedWriteHalf),
    Unix(unix::OwnedWriteHalf),
    Tls(TlsWriteHalf),
}

/// Says goodbye when it is dropped, as the others close their side.
#[derive(Debug)]
pub(crate) struct TlsWriteHalf(Rc<TlsSocket>);

impl Drop for TlsWriteHalf {
    fn drop(&mut self) {
        self.0.shutdown_now();
    }
}

/// Answers a connection that is not served: once, without waiting. The caller closes it.
///
/// A fresh socket is non-blocking and its buffer empty: the answer is written whole or, where the peer has gone, not at
/// all. First the beginning of the request is read, so that the peer sees the answer and not a reset.
pub(crate) fn last_words(socket: &impl AsFd, words: &[u8]) {
    let socket = SockRef::from(socket);
    let _ = (&*socket).read(&mut [0; FORGET_BYTES]);
    let _ = socket.send(words);
    let _ = socket.shutdown(std::net::Shutdown::Write);
}

impl From<TcpStream> for Socket {
    fn from(socket: TcpStream) -> Self {
        Socket { io: Io::Tcp(socket), admitted: None, told: None }
    }
}

impl From<UnixStream> for Socket {
    fn from(socket: UnixStream) -> Self {
        Socket { io: Io::Unix(socket), admitted: None, told: None }
    }
}

impl From<TlsSocket> for Socket {
    fn from(socket: TlsSocket) -> Self {
        Socket { io: Io::Tls(Box::new(socket)), admitted: None, told: None }
    }
}

/// Why there is no connection after a TLS handshake.
#[derive(Debug)]
pub(crate) enum Unsecured {
    /// The peer does not speak TLS: the socket takes a plain answer.
    Plain(Box<Socket>),
    /// It was an ACME authority that proves a domain. It has seen what it wanted to see.
    Proof,
    Failed(io::Error),
}

impl Socket {
    /// Does the TLS handshake, after which it is used like any other. The caller bounds its time.
    ///
    /// # Errors
    /// The peer speaks no TLS, shares nothing with this server, has gone, or has seen the proof of a domain.
    pub(crate) async fn secured(self, config: Arc<ServerConfig>) -> Result<Self, Unsecured> {
        let Socket { io, admitted, told } = self;
        let Io::Tcp(socket) = io else { return Ok(Socket { io, admitted, told }) };
        match TlsSocket::accept(socket, config).await {
            Ok(socket) if socket.is_proof() => {
                socket.shutdown_now();
                Err(Unsecured::Proof)
            }
            Ok(socket) => Ok(Socket { admitted, told, ..socket.into() }),
            Err(HandshakeError::Plain(socket)) => {
                Err(Unsecured::Plain(Box::new(Socket { admitted, told, ..socket.into() })))
            }
            Err(HandshakeError::Failed(error)) => Err(Unsecured::Failed(error)),
        }
    }

    /// The TCP connection, or the one below TLS.
    fn tcp(&self) -> Option<&TcpStream> {
        match &self.io {
            Io::Tcp(socket) => Some(socket),
            Io::Tls(socket) => Some(socket.tcp()),
            Io::Unix(_) => None,
        }
    }

    /// The same, counted.
    pub(crate) fn admitted(self, admitted: Admitted) -> Self {
        Socket { admitted: Some(admitted), ..self }
    }

    /// The limit that it exceeds, if any.
    pub(crate) fn over(&self) -> Option<Over> {
        self.admitted.as_ref().and_then(Admitted::over)
    }

    /// The same, for a request on it.
    pub(crate) fn guest(&self) -> Option<Guest> {
        self.admitted.as_ref().and_then(Admitted::guest)
    }

    /// Its place of the reserve, if it is over a limit.
    pub(crate) fn place(&self) -> Option<&Arc<Place>> {
        self.admitted.as_ref().and_then(Admitted::place)
    }

    /// Returns when its place of the reserve has gone to another connection; for others never.
    pub(crate) fn displaced(&self) -> impl Future<Output = ()> + use<> {
        let displaced = self.place().map(|place| place.displaced());
        async move {
            match displaced {
                Some(displaced) => displaced.await,
                None => std::future::pending().await,
            }
        }
    }

    /// Counts it for the address of its client, if it came over a proxy. False if it must be closed.
    pub(crate) fn count_for(&mut self, client: &Peer) -> bool {
        let address = client.address().map(|address| address.ip());
        self.admitted.as_mut().is_none_or(|admitted| admitted.count_for(address))
    }

    /// True for the connection of a proxy that may carry requests of many clients.
    pub(crate) fn is_shared(&self) -> bool {
        self.admitted.as_ref().is_some_and(Admitted::is_shared)
    }

    /// Takes the header of the PROXY protocol off the beginning, and not a byte of what follows. The caller bounds the
    /// time.
    pub(crate) async fn take_proxy_header(&mut self) -> Result<Header, ProxyFault> {
        let mut bytes = Vec::new();
        let mut ahead = [0; 512];
        loop {
            self.readable().await?;
            let count = match self.peek(&mut ahead) {
                Ok(0) => return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()),
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
                Err(error) => return Err(error.into()),
            };
            let before = bytes.len();
            bytes.extend_from_slice(&ahead[..count]);
            let decoded = proxy_protocol::decode(&bytes)?;
            // They were seen, so they are there. All bytes of a header that is not whole belong to it.
            let taken = decoded.map_or(count, |(_, len)| len - before);
            let read = self.try_read(&mut ahead[..taken])?;
            if read != taken {
                return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
            }
            if let Some((header, _)) = decoded {
                return Ok(header);
            }
        }
    }

    /// Reads without taking the bytes off.
    fn peek(&self, into: &mut [u8]) -> io::Result<usize> {
        let peek = |socket: BorrowedFd<'_>, into: &mut [u8]| {
            rustix::net::recv(socket, into, rustix::net::RecvFlags::PEEK).map(|(_, count)| count).map_err(Into::into)
        };
        match &self.io {
            Io::Tcp(socket) => socket.try_io(Interest::READABLE, || peek(socket.as_fd(), into)),
            Io::Unix(socket) => socket.try_io(Interest::READABLE, || peek(socket.as_fd(), into)),
            Io::Tls(_) => Err(io::ErrorKind::Unsupported.into()), // the header stands before the handshake
        }
    }

    /// Takes the ends that a proxy tells for its own. A client whose address the proxy does not know is unknown here
    /// too: counted as the proxy, its own headers would be believed.
    pub(crate) fn introduce(&mut self, header: Header) {
        self.told = match header {
            Header::Local => None,
            Header::Unknown => Some(Told { peer: Peer::Unknown, local: None }),
            Header::Client { source, destination } => {
                let canonical = |address: SocketAddr| SocketAddr::new(address.ip().to_canonical(), address.port());
                Some(Told { peer: Peer::Tcp(canonical(source)), local: Some(canonical(destination)) })
            }
        };
    }

    /// Its two ends, as its proxy or the kernel tells them.
    pub(crate) fn ends(&self) -> Ends {
        let is_tls = matches!(self.io, Io::Tls(_));
        let local = match self.told {
            Some(Told { local, .. }) => local,
            None => self.tcp().and_then(|socket| socket.local_addr().ok()),
        };
        Ends { peer: self.peer(), local, is_tls }
    }

    /// Its other end, as its proxy or the kernel tells it.
    pub(crate) fn peer(&self) -> Peer {
        if let Some(Told { peer, .. }) = self.told {
            return peer;
        }
        let tcp = |socket: &TcpStream| socket.peer_addr().map_or(Peer::Unknown, Peer::Tcp);
        match &self.io {
            Io::Tcp(socket) => tcp(socket),
            Io::Tls(socket) => tcp(socket.tcp()),
            Io::Unix(socket) => {
                let credentials = socket.peer_cred().ok();
                Peer::Unix(credentials.map(|of| Credentials { uid: of.uid(), gid: of.gid(), pid: of.pid() }))
            }
        }
    }

    /// Sets the options that a listener's sockets inherit on a socket from elsewhere.
    pub(crate) fn shallow(&self) {
        if let Some(socket) = self.tcp() {
            pace::shallow(SockRef::from(socket));
        }
    }

    /// Ends the connection when its peer has acknowledged nothing of the sent bytes for so long.
    pub(crate) fn give_up_after(&self, time: Duration) {
        #[cfg(target_os = "linux")]
        if let Some(socket) = self.tcp() {
            let _ = SockRef::from(socket).set_tcp_user_timeout(Some(time)); // else the system's own time holds
        }
        #[cfg(not(target_os = "linux"))]
        let _ = time;
    }

    pub(crate) fn set_nodelay(&self) {
        if let Some(socket) = self.tcp() {
            let _ = socket.set_nodelay(true); // a socket that does not take the option works all the same
        }
    }

    pub(crate) async fn readable(&self) -> io::Result<()> {
        match &self.io {
            Io::Tcp(socket) => socket.readable().await,
            Io::Unix(socket) => socket.readable().await,
            Io::Tls(socket) => socket.readable().await,
        }
    }

    pub(crate) fn try_read(&self, into: &mut [u8]) -> io::Result<usize> {
        match &self.io {
            Io::Tcp(socket) => socket.try_read(into),
            Io::Unix(socket) => socket.try_read(into),
            Io::Tls(socket) => socket.try_read(into),
        }
    }

    pub(crate) fn into_split(self) -> (ReadHalf, WriteHalf) {
        let (io, write) = match self.io {
            Io::Tcp(socket) => {
                let (read, write) = socket.into_split();
                (ReadIo::Tcp(read), WriteHalf::Tcp(write))
            }
            Io::Unix(socket) => {
                let (read, write) = socket.into_split();
                (ReadIo::Unix(read), WriteHalf::Unix(write))
            }
            Io::Tls(socket) => {
                let socket: Rc<TlsSocket> = Rc::from(socket);
                (ReadIo::Tls(socket.clone()), WriteHalf::Tls(TlsWriteHalf(socket)))
            }
        };
        (ReadHalf { io, _admitted: self.admitted }, write)
    }

    /// Takes the socket off its runtime.
    ///
    /// # Errors
    /// The runtime cannot let go of it.
    pub(crate) fn loosen(self) -> io::Result<LooseSocket> {
        let Socket { io, admitted, told } = self;
        let io = match io {
            Io::Tcp(socket) => LooseIo::Tcp(socket.into_std()?),
            Io::Unix(socket) => LooseIo::Unix(socket.into_std()?),
            Io::Tls(socket) => {
                let (socket, session) = socket.into_std()?;
                LooseIo::Tls(socket, session)
            }
        };
        Ok(LooseSocket { io, admitted, told })
    }
}

impl LooseSocket {
    /// Puts the socket on the runtime that this is called on.
    ///
    /// # Errors
    /// The runtime cannot take it.
    pub(crate) fn settle(self) -> io::Result<Socket> {
        let LooseSocket { io, admitted, told } = self;
        let socket: Socket = match io {
            LooseIo::Tcp(socket) => TcpStream::from_std(socket)?.into(),
            LooseIo::Unix(socket) => UnixStream::from_std(socket)?.into(),
            LooseIo::Tls(socket, session) => TlsSocket::from_std(socket, *session)?.into(),
        };
        Ok(Socket { admitted, told, ..socket })
    }
}

impl ReadHalf {
    /// On closing the kernel drops the bytes that the peer has not accepted.
    pub(crate) fn forget_unsent(&self) {
        let socket = match &self.io {
            ReadIo::Tcp(half) => SockRef::from(half.as_ref()),
            ReadIo::Unix(half) => SockRef::from(half.as_ref()),
            ReadIo::Tls(socket) => SockRef::from(socket.tcp()),
        };
        let _ = socket.set_linger(Some(Duration::ZERO)); // if that fails, closing is enough
    }
}

impl AsyncRead for ReadHalf {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().io {
            ReadIo::Tcp(half) => Pin::new(half).poll_read(cx, into),
            ReadIo::Unix(half) => Pin::new(half).poll_read(cx, into),
            ReadIo::Tls(socket) => socket.poll_read(cx, into),
        }
    }
}

impl WriteHalf {
    /// Writes the next frames of an outbox, as many bytes as the socket takes at once, and returns their number.
    ///
    /// This goes past the runtime's bookkeeping: readiness is asked for only after a refusal. (Bench `fanout`, window
    /// 1: that bookkeeping is a cache miss and 4 % of the CPU of a delivery.)
    ///
    /// # Errors
    /// `WouldBlock`: the socket is full, and [`poll_write_ready`](Self::poll_write_ready) tells when it is not.
    pub(crate) fn write(&mut self, outbox: &Outbox) -> io::Result<usize> {
        let mut slices = [IoSlice::new(&[]); FRAMES];
        if let WriteHalf::Tls(TlsWriteHalf(socket)) = self {
            let used = outbox.slices(&mut slices);
            return socket.write(&slices[..used]);
        }
        let socket = self.descriptor();
        let written = match outbox.single() {
            Some(frame) => socket.send(frame), // cheaper than a vector of one
            None => {
                let used = outbox.slices(&mut slices);
                socket.send_vectored(&slices[..used])
            }
        };
        match written {
            // Asked again through the runtime, which so learns that the socket is full and wakes us when it is not.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                let used = outbox.slices(&mut slices);
                match self {
                    WriteHalf::Tcp(half) => half.try_write_vectored(&slices[..used]),
                    WriteHalf::Unix(half) => half.try_write_vectored(&slices[..used]),
                    WriteHalf::Tls(TlsWriteHalf(socket)) => socket.write(&slices[..used]),
                }
            }
            written => written,
        }
    }

    /// The shortcut for frames that many connections share, if nothing waits for this one: a write directly to the
    /// descriptor. Returns the number of bytes that the socket took; the others go to the outbox. It is 0 if the socket
    /// is full or gone, or must encrypt its bytes first.
    pub(crate) fn write_through(&mut self, frames: &[u8]) -> usize {
        if matches!(self, WriteHalf::Tls(_)) {
            return 0;
        }
        self.descriptor().send(frames).unwrap_or(0) // full, or gone: `write` finds out which
    }

    /// True while bytes that [`write`](Self::write) has taken still wait for the socket: it is to be called again,
    /// also with an empty outbox.
    pub(crate) fn is_pending(&self) -> bool {
        matches!(self, WriteHalf::Tls(TlsWriteHalf(socket)) if socket.is_pending())
    }

    /// Ends the connection at once: the kernel drops the bytes that wait.
    pub(crate) fn abort(&mut self) {
        let socket = self.descriptor();
        // If these fail, the peer is gone already.
        let _ = socket.set_linger(Some(Duration::ZERO));
        let _ = socket.shutdown(std::net::Shutdown::Both);
    }

    fn descriptor(&self) -> SockRef<'_> {
        match self {
            WriteHalf::Tcp(half) => SockRef::from(half.as_ref()),
            WriteHalf::Unix(half) => SockRef::from(half.as_ref()),
            WriteHalf::Tls(TlsWriteHalf(socket)) => SockRef::from(socket.tcp()),
        }
    }

    pub(crate) fn poll_write_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            WriteHalf::Tcp(half) => half.as_ref().poll_write_ready(cx),
            WriteHalf::Unix(half) => half.as_ref().poll_write_ready(cx),
            WriteHalf::Tls(TlsWriteHalf(socket)) => socket.poll_write_ready(cx),
        }
    }
}

impl AsFd for WriteHalf {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            WriteHalf::Tcp(half) => half.as_ref().as_fd(),
            WriteHalf::Unix(half) => half.as_ref().as_fd(),
            WriteHalf::Tls(TlsWriteHalf(socket)) => socket.as_fd(),
        }
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match &self.io {
            Io::Tcp(socket) => socket.as_fd(),
            Io::Unix(socket) => socket.as_fd(),
            Io::Tls(socket) => socket.as_fd(),
        }
    }
}

impl AsyncRead for Socket {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().io {
            Io::Tcp(socket) => Pin::new(socket).poll_read(cx, into),
            Io::Unix(socket) => Pin::new(socket).poll_read(cx, into),
            Io::Tls(socket) => socket.poll_read(cx, into),
        }
    }
}

impl AsyncWrite for Socket {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match &mut self.get_mut().io {
            Io::Tcp(socket) => Pin::new(socket).poll_write(cx, bytes),
            Io::Unix(socket) => Pin::new(socket).poll_write(cx, bytes),
            Io::Tls(socket) => socket.poll_write(cx, &[IoSlice::new(bytes)]),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match &mut self.get_mut().io {
            Io::Tcp(socket) => Pin::new(socket).poll_write_vectored(cx, bytes),
            Io::Unix(socket) => Pin::new(socket).poll_write_vectored(cx, bytes),
            Io::Tls(socket) => socket.poll_write(cx, bytes),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().io {
            Io::Tcp(socket) => Pin::new(socket).poll_flush(cx),
            Io::Unix(socket) => Pin::new(socket).poll_flush(cx),
            Io::Tls(socket) => socket.poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().io {
            Io::Tcp(socket) => Pin::new(socket).poll_shutdown(cx),
            Io::Unix(socket) => Pin::new(socket).poll_shutdown(cx),
            Io::Tls(socket) => socket.poll_shutdown(cx),
        }
    }
}
