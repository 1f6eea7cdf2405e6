//! Accepts connections, reads the head of the first request, and routes the connection by it.
//!
//! The head is read with `httparse`. A WebSocket upgrade stays on the raw socket and becomes a reader of this shard. So
//! does a stream (`streams`) whose client is let in, if its request came whole. Everything else goes to HTTP (`http`)
//! with the bytes as they came. A head that is too large, too slow or no HTTP is answered and closed.

use super::read::{Reader, is_of_one_connection};
use super::{Fatal, HttpConnection, Shared, Shell, engine};
use crate::config::hosts::Via;
use crate::config::tls::Tls;
use crate::control::Upgraded;
use crate::framing::Wire;
use crate::harden;
use crate::http::gate::has_body;
use crate::http::routes::{Routes, UpgradeRequest};
use crate::logs;
use crate::protocol::stream::StreamRequest;
use crate::refusal::HttpRefusal;
use crate::request::{Peer, RequestId, RequestInfo};
use crate::transport::admission::{Counts, Handshake, ProxyHeader, Reason, hasten};
use crate::transport::head::{self, HEADERS_MAX};
use crate::transport::listen::{Listener, SocketFile};
use crate::transport::pace::{self, FORGET_BYTES};
use crate::transport::socket::{ProxyFault, Socket, Unsecured};
use crate::transport::spare::{Answer, Outcome, PAUSE, Spare};
use crate::watch::Watch;
use ::http::{Uri, Version};
use bytes::{Bytes, BytesMut};
use fanfare_hub::{Disconnect, Push, WireId};
use fanfare_wire::websocket::{HeadProgress, is_upgrade};
use rustls::ServerConfig;
use std::fmt::Display;
use std::hash::{BuildHasher as _, RandomState};
use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::task::{Context, Poll};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, UnixListener};
use tokio::time::Instant;

/// A client over a limit is asked to come back after at least so many ms.
const TURNED_AWAY_MIN_MS: u64 = 1_000;
/// A random time below this is added, so that such clients do not come back at once.
const TURNED_AWAY_SPREAD_MS: u64 = 9_000;
/// The beginning of HTTP/2 with prior knowledge (RFC 9113 §3.4), whole.
pub(crate) const HTTP2_PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// A listener on this shard's runtime.
pub(super) enum Accepting {
    Tcp(TcpListener),
    /// With its file, which is removed before the listener is closed.
    Unix(#[allow(dead_code)] Option<Arc<SocketFile>>, UnixListener),
}

impl Accepting {
    /// Puts a listener on the runtime that this is called on.
    pub(super) fn new(listener: Listener) -> io::Result<Self> {
        Ok(match listener {
            Listener::Tcp(listener) => Accepting::Tcp(TcpListener::from_std(listener)?),
            Listener::Unix(listener, file) => Accepting::Unix(file, UnixListener::from_std(listener)?),
        })
    }

    /// Connections that are accepted inherit it.
    fn shallow(&self) {
        if let Accepting::Tcp(listener) = self {
            pace::shallow(socket2::SockRef::from(listener));
        }
    }

    fn via(&self) -> Via {
        match self {
            // A listener without a known address counts as one of this machine, where fewer hosts are served.
            Accepting::Tcp(listener) => listener.local_addr().map_or(Via::Loopback, Via::tcp),
            Accepting::Unix(..) => Via::Unix,
        }
    }

    fn poll_accept(&self, cx: &mut Context<'_>) -> Poll<io::Result<Accepted>> {
        match self {
            Accepting::Tcp(listener) => listener
                .poll_accept(cx)
                .map_ok(|(socket, peer)| Accepted { socket: socket.into(), address: Some(peer.ip()) }),
            Accepting::Unix(_, listener) => {
                listener.poll_accept(cx).map_ok(|(socket, _)| Accepted { socket: socket.into(), address: None })
            }
        }
    }
}

/// An accepted connection, with its peer's address if it has one.
struct Accepted {
    socket: Socket,
    address: Option<IpAddr>,
}

impl AsFd for Accepted {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// Accepts for the life of the shard.
pub(super) async fn run(shell: Shared, listener: Accepting, expects_proxy: bool, routes: Routes) {
    let _fatal = Fatal;
    listener.shallow();
    let tls = match listener {
        Accepting::Tcp(_) => shell.borrow().config.tls.as_ref().map(Tls::server),
        Accepting::Unix(..) => None,
    };
    let hsts = tls.as_ref().and_then(|_| harden::hsts(shell.borrow().config.hsts));
    let routes = Routes { via: listener.via(), hsts, ..routes };
    let begins = Begins { expects_proxy, tls };
    let mut spare = Spare::new(if begins.tls.is_some() { Answer::None } else { Answer::Http });
    loop {
        match spare.accept(|cx| listener.poll_accept(cx)).await {
            Ok(Accepted { socket, address }) => {
                let peer = address.map(|address| Peer::Tcp((address, 0).into())).unwrap_or_default();
                let counts = if expects_proxy || routes.gate.trusts(&peer) { Counts::Later } else { Counts::Now };
                let Some(admitted) = routes.watch.connections.admit(address, counts) else { continue };
                let is_over = admitted.place().is_some();
                let connection = HttpConnection::accepted(&shell);
                tokio::task::spawn_local(begin(
                    shell.clone(),
                    socket.admitted(admitted),
                    begins.clone(),
                    routes.clone(),
                    connection,
                ));
                if is_over {
                    // The next one may displace it: first it is read, and one that it has displaced is closed.
                    tokio::task::yield_now().await;
                }
            }
            Err((_, error)) if is_of_one_connection(&error) => {}
            Err((Outcome::NoneWaits, _)) => {}
            Err((Outcome::Refused, error)) => {
                routes.watch.connections.refuse(Reason::NoDescriptor);
                logs::limited!(Accept, WARN, %error, "a connection was refused: raise the limit of open files");
            }
            Err((Outcome::Pause, error)) => {
                routes.watch.connections.refuse(Reason::AcceptFailed);
                logs::limited!(Accept, WARN, %error, "cannot accept a connection; trying again");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

/// How the connections of a listener begin, before HTTP.
#[derive(Clone)]
struct Begins {
    /// With a header of the PROXY protocol.
    expects_proxy: bool,
    /// With a TLS handshake, behind that.
    tls: Option<Arc<ServerConfig>>,
}

/// The result of reading the head.
enum Head {
    Upgraded {
        /// The client, which may be behind a proxy.
        peer: Peer,
        wire: WireId,
        /// The bytes that came after the head.
        rest: Vec<u8>,
        /// The head, if the protocol or a handler needs it.
        request: Option<Arc<RequestInfo>>,
        /// The id of the session of Engine.IO that it is for, if it begins none.
        sid: Option<Box<str>>,
    },
    /// A stream.
    Stream {
        request: Box<StreamRequest>,
        /// The bytes that came after the head.
        rest: Vec<u8>,
    },
    /// For HTTP: all bytes that were read.
    Http(Vec<u8>),
    /// The connection gets this answer and ends.
    Refused(HttpRefusal),
    /// The peer is gone.
    Gone,
}

async fn begin(
    shell: Shared,
    socket: Socket,
    Begins { expects_proxy, tls }: Begins,
    routes: Routes,
    connection: HttpConnection,
) {
    let _fatal = Fatal;
    socket.set_nodelay();
    let head_timeout = {
        let time = shell.borrow().config.head_timeout;
        if socket.place().is_some() { hasten(time) } else { time }
    };
    let until = Instant::now() + head_timeout;
    let socket = match expects_proxy {
        false => socket,
        true => match Box::pin(introduced(socket, until, &routes)).await {
            Some(socket) => socket,
            None => return,
        },
    };
    let mut socket = match tls {
        None => socket,
        // Boxed: large, and over before anything else begins.
        Some(tls) => match Box::pin(secure(&shell, socket, tls, until, &routes)).await {
            Some(socket) => socket,
            None => return,
        },
    };
    let mut read = Vec::new();
    let displaced = socket.displaced();
    let reading = tokio::time::timeout_at(until, read_head(&shell, &mut socket, &routes, &mut read));
    let head = tokio::select! {
        biased;
        head = reading => head,
        () = displaced => Ok(Head::Gone), // for the server the peer is gone
    };
    let head = match head {
        Ok(head) => head,
        Err(_) => Head::Refused(head::too_slow(head_timeout)),
    };
    match head {
        Head::Gone => {}
        Head::Upgraded { peer, wire, rest, request, sid } => {
            adopt(&shell, socket, peer, wire, rest, Adopted { request, sid });
        }
        Head::Stream { request, rest } => {
            if !socket.count_for(&request.start.peer) {
                return;
            }
            // It lives until the stream is answered, and is large.
            Box::pin(super::streams::serve(shell, socket, routes.watch, *request, rest)).await;
        }
        Head::Http(read) => {
            tokio::task::spawn_local(super::http::serve(shell, socket, Bytes::from(read), routes, connection));
        }
        // One that has an id was counted where it was judged.
        Head::Refused(refused) if refused.id().is_none() => {
            let id = RequestId::new();
            routes.watch.requests.refused(&refused);
            let (status, why) = (refused.status(), refused.reason());
            tracing::debug!(request_id = %id, status, why, "a request was refused before it was read");
            Box::pin(refuse(&shell, socket, refused.identified(id))).await
        }
        Head::Refused(refused) => Box::pin(refuse(&shell, socket, refused)).await, // rare and large
    }
}

/// Reads the header of the PROXY protocol, and gives the socket the ends that it tells. `None`: there is no connection.
async fn introduced(mut socket: Socket, until: Instant, routes: &Routes) -> Option<Socket> {
    let proxy = socket.peer();
    let displaced = socket.displaced();
    let refused = |outcome, why: &dyn std::fmt::Display| {
        routes.watch.connections.proxy_header(outcome);
        let why = &*why.to_string();
        logs::limited!(Accept, WARN, peer = %proxy, why, "a connection to a listener for proxies was closed");
    };
    if !routes.gate.trusts(&proxy) {
        refused(ProxyHeader::Untrusted, &"the option `trusted_proxies` does not list this peer");
        return None;
    }
    let header = tokio::select! {
        biased;
        header = tokio::time::timeout_at(until, socket.take_proxy_header()) => header,
        () = displaced => return None,
    };
    match header {
        Ok(Ok(header)) => {
            routes.watch.connections.proxy_header(ProxyHeader::Done);
            socket.introduce(header);
            let peer = socket.peer();
            // One proxy may stand behind another: the next one's headers tell the client.
            (routes.gate.trusts(&peer) || socket.count_for(&peer)).then_some(socket)
        }
        Ok(Err(ProxyFault::Gone(error))) => {
            routes.watch.connections.proxy_header(ProxyHeader::Failed);
            // Balancers probe a port by opening it.
            tracing::debug!(peer = %proxy, %error, "a connection ended before its PROXY header was whole");
            None
        }
        Ok(Err(error)) => {
            refused(ProxyHeader::Failed, &error);
            None
        }
        Err(late) => {
            refused(ProxyHeader::Failed, &late);
            None
        }
    }
}

/// Does the TLS handshake. `None`: there is no connection; a peer that spoke HTTP instead got an answer that says so.
async fn secure(
    shell: &Shared,
    socket: Socket,
    tls: Arc<ServerConfig>,
    until: Instant,
    routes: &Routes,
) -> Option<Socket> {
    let peer = socket.ends().peer;
    let displaced = socket.displaced();
    let handshake = tokio::select! {
        biased;
        handshake = tokio::time::timeout_at(until, socket.secured(tls)) => handshake,
        () = displaced => return None,
    };
    let failed = |error: &dyn Display| {
        routes.watch.connections.handshake(Handshake::Failed);
        tracing::debug!(%peer, %error, "a TLS handshake failed");
    };
    match handshake {
        Ok(Ok(socket)) => {
            routes.watch.connections.handshake(Handshake::Done);
            return Some(socket);
        }
        Ok(Err(Unsecured::Proof)) => {
            routes.watch.connections.handshake(Handshake::Proof);
            tracing::debug!(%peer, "an ACME authority has proven a domain");
        }
        Ok(Err(Unsecured::Plain(socket))) => {
            failed(&"it does not begin with a TLS handshake");
            let words = "this port speaks TLS: use https:// or wss://";
            refuse(shell, *socket, HttpRefusal::because(400, words).identified(RequestId::new())).await;
        }
        Ok(Err(Unsecured::Failed(error))) => failed(&error),
        Err(late) => failed(&late),
    }
    None
}

/// Reads until the head is whole. `read` collects the bytes until the head is judged.
async fn read_head(shell: &Shared, socket: &mut Socket, routes: &Routes, read: &mut Vec<u8>) -> Head {
    let mut progress = HeadProgress::default();
    loop {
        if socket.readable().await.is_err() {
            return Head::Gone;
        }
        let judged = {
            let mut guard = shell.borrow_mut();
            let shell = &mut *guard;
            let room = if read.is_empty() { shell.buffer.len() } else { shell.buffer.len().min(4096) };
            match socket.try_read(&mut shell.buffer[..room]) {
                Ok(0) => return Head::Gone,
                Ok(count) if read.is_empty() => {
                    // Almost always the head comes whole: then it is judged in the shared buffer.
                    let buffer = std::mem::take(&mut shell.buffer);
                    let judged = judge(shell, &mut progress, &buffer[..count], routes, socket);
                    if judged.is_none() || matches!(judged, Some(Judged::Http)) {
                        read.extend_from_slice(&buffer[..count]);
                    }
                    let rest = match &judged {
                        Some(
                            Judged::Upgrade(Granted { head_bytes: end, .. })
                            | Judged::Stream { request_bytes: end, .. },
                        ) => buffer[*end..count].to_vec(),
                        _ => Vec::new(),
                    };
                    shell.buffer = buffer;
                    judged.map(|judged| (judged, rest))
                }
                Ok(count) => {
                    read.extend_from_slice(&shell.buffer[..count]);
                    judge(shell, &mut progress, read, routes, socket).map(|judged| {
                        let rest = match &judged {
                            Judged::Upgrade(Granted { head_bytes: end, .. })
                            | Judged::Stream { request_bytes: end, .. } => read[*end..].to_vec(),
                            _ => Vec::new(),
                        };
                        (judged, rest)
                    })
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => None,
                Err(_) => return Head::Gone,
            }
        };
        match judged {
            None => {}
            Some((Judged::Http, _)) => return Head::Http(std::mem::take(read)),
            Some((Judged::Stream { request, .. }, rest)) => return Head::Stream { request, rest },
            Some((Judged::Refuse(refused), _)) => return Head::Refused(refused),
            Some((Judged::Upgrade(Granted { peer, wire, answer, request, sid, .. }), rest)) => {
                if let Some(sid) = &sid
                    && let Err(refused) = engine::find(shell, routes, &peer, sid).await
                {
                    return Head::Refused(refused);
                }
                return match socket.write_all(&answer).await {
                    Ok(()) => Head::Upgraded { peer, wire, rest, request: request.map(Arc::from), sid },
                    Err(_) => Head::Gone,
                };
            }
        }
    }
}

enum Judged {
    Http,
    Refuse(HttpRefusal),
    Upgrade(Granted),
    Stream {
        request: Box<StreamRequest>,
        /// The length of the request: its head, and its body where it has one.
        request_bytes: usize,
    },
}

/// An upgrade that is granted and not answered yet.
struct Granted {
    /// The client, which may be behind a proxy.
    peer: Peer,
    wire: WireId,
    /// The bytes of the answer.
    answer: Vec<u8>,
    /// The length of the request's head.
    head_bytes: usize,
    /// The head, if the protocol or a handler needs it.
    request: Option<Box<RequestInfo>>,
    /// The id of the session of Engine.IO that it is for, if it begins none.
    sid: Option<Box<str>>,
}

/// Judges the bytes of a head. `None`: it is not whole yet.
fn judge(shell: &Shell, progress: &mut HeadProgress, read: &[u8], routes: &Routes, socket: &Socket) -> Option<Judged> {
    if read.starts_with(HTTP2_PREFACE) {
        return Some(Judged::Http);
    }
    if HTTP2_PREFACE.starts_with(read) {
        return None; // hyper gets it whole; only here is the wait for the rest bounded
    }
    let max = shell.config.head_bytes_max;
    if !progress.is_due(read) && read.len() < max {
        return None; // judged again when it has ended or doubled
    }
    if let Err(refused) = head::judge_lines(read) {
        return Some(Judged::Refuse(refused));
    }
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut request = httparse::Request::new(&mut headers);
    let parsed = request.parse(read);
    if let Some(refused) = head::refuse_parsed(parsed, read.len(), max) {
        return Some(Judged::Refuse(refused));
    }
    let Ok(httparse::Status::Complete(len)) = parsed else { return None };
    let headers: Vec<(&str, &[u8])> = request.headers.iter().map(|h| (h.name, h.value)).collect();
    let (method, http_minor) = (request.method.unwrap_or(""), request.version.unwrap_or(0));
    let target = request.path.unwrap_or("/");
    let path = target.split('?').next().unwrap_or(target);
    // A POST is one if its `connect` came with the head, as from almost any client.
    let (stream, connect) = match (routes.stream_at(path), method) {
        (Some(kind), "GET") if !has_body(headers.iter().copied()) => (Some(kind), None),
        (Some(kind), "POST") if kind.takes_connect() && http_minor == 1 => {
            let connect = routes.connect_behind(headers.iter().copied(), &read[len..]);
            (connect.map(|_| kind), connect)
        }
        _ => (None, None),
    };
    if stream.is_none() && (http_minor == 0 || !is_upgrade(headers.iter().copied())) {
        return Some(Judged::Http); // the target of almost any page is parsed there, and only there
    }
    // As hyper parses it, so that a later request is judged alike. hyper refuses a bad one.
    let Ok(uri) = target.parse::<Uri>() else { return Some(Judged::Http) };
    let is_upgrade = routes.is_upgrade((http_minor == 1, method), uri.path(), headers.iter().copied());
    if (stream.is_none() && !is_upgrade) || head::refuse_whole(&request).is_some() {
        return Some(Judged::Http);
    }
    let ends = routes.ends_of_client(socket.ends(), headers.iter().copied());
    let request = UpgradeRequest { method, http_minor, uri: &uri, headers: &headers, peer: ends.peer };
    if let Some(kind) = stream.filter(|_| !is_upgrade) {
        let chunked = http_minor == 1;
        let version = if chunked { Version::HTTP_11 } else { Version::HTTP_10 };
        let (connect, body_bytes) = connect.unzip();
        return Some(match routes.stream(kind, (&request, version, ends), connect, chunked) {
            Ok(request) => {
                Judged::Stream { request: Box::new(request), request_bytes: len + body_bytes.unwrap_or_default() }
            }
            Err(refused) => {
                routes.watch.requests.refused(&refused);
                Judged::Refuse(refused)
            }
        });
    }
    Some(match routes.upgrade(&request) {
        Ok(granted) => {
            let mut answer = Vec::with_capacity(256);
            granted.put_head(&mut answer);
            let request = granted.request.map(|request| Box::new(ends.complete(request)));
            let (wire, sid) = (granted.wire, granted.sid);
            Judged::Upgrade(Granted { peer: ends.peer, wire, answer, head_bytes: len, request, sid })
        }
        Err(refused) => Judged::Refuse(refused),
    })
}

/// The circumstances of an upgraded socket.
pub(super) struct Adopted {
    /// The head, if the protocol or a handler needs it.
    pub(super) request: Option<Arc<RequestInfo>>,
    /// The id of the session of Engine.IO that it is for, if it begins none.
    pub(super) sid: Option<Box<str>>,
}

/// Makes a socket that has been upgraded a connection of this shard, or gives it to the session that it is for.
pub(super) fn adopt(
    shared: &Shared,
    mut socket: Socket,
    peer: Peer,
    wire: WireId,
    rest: Vec<u8>,
    Adopted { request, sid }: Adopted,
) {
    let _fatal = Fatal;
    if !socket.count_for(&peer) {
        return; // it is over the limit of its address, and the reserve is used up
    }
    if socket.place().is_some() {
        tokio::task::spawn_local(turn_away(shared.clone(), socket, wire));
        return;
    }
    if let Some(sid) = sid {
        return engine::upgrade::take(shared, socket, (peer, wire), rest, &sid);
    }
    let (half, writer) = socket.into_split();
    let mut shell = shared.borrow_mut();
    let now = shell.now();
    let Wire { protocol, framing } = shell.wire(wire);
    let deframer = framing.deframer(protocol.message_bytes_max(&shell.config.limits));
    let id = shell.open(now, writer, peer, wire, request);
    shell.counters.wire(wire).bytes_in += rest.len() as u64; // bytes after the request's head
    shell.readers += 1;
    drop(shell);
    tokio::task::spawn_local(Reader {
        shell: shared.clone(),
        half: Some(half),
        id,
        deframer,
        stash: BytesMut::from(&rest[..]),
    });
}

/// Makes a socket that another server upgraded a connection of this shard.
pub(super) fn adopt_loose(shared: &Shared, watch: &Watch, upgraded: Upgraded) {
    let Upgraded { socket, peer, wire, rest, request, sid } = upgraded;
    match socket.settle() {
        Ok(socket) => {
            // A connection whose address is not known counts for no address.
            let address = peer.address().map(|address| address.ip());
            let Some(admitted) = watch.connections.admit(address, Counts::Now) else { return };
            let socket = socket.admitted(admitted);
            socket.set_nodelay();
            socket.shallow();
            adopt(shared, socket, peer, wire, rest, Adopted { request, sid });
        }
        Err(error) => tracing::warn!(%error, "a connection could not be taken over"),
    }
}

/// Answers a refused request, and closes when the peer has had the time to read it.
pub(super) async fn refuse(shell: &Shared, socket: Socket, refused: HttpRefusal) {
    last_words(shell, socket, &refused.bytes()).await;
}

/// Asks a WebSocket over a limit to come back: by a message, if its protocol has one, and by the close code. The
/// connection never reaches its protocol's conversation or the hub.
async fn turn_away(shared: Shared, socket: Socket, wire: WireId) {
    let _fatal = Fatal;
    let mut bytes = Vec::new();
    {
        let mut shell = shared.borrow_mut();
        let now = shell.now();
        let reason = Disconnect::Overloaded;
        let push = Push::Disconnect {
            reason,
            delay_ms: TURNED_AWAY_MIN_MS + RandomState::new().hash_one(()) % TURNED_AWAY_SPREAD_MS,
        };
        let mut said = Vec::new();
        let Wire { protocol, framing } = shell.wire(wire);
        if let Ok(Some(form)) = super::form(protocol.encode_push(&push, now, &mut said)) {
            framing.put(&mut bytes, form, &said);
        }
        bytes.extend_from_slice(&framing.end(reason.code(), reason.row().word));
        shell.counters.ended(reason.row().word);
        logs::limited!(
            Accept,
            WARN,
            why = socket.over().map(|over| over.words),
            "a WebSocket was asked to come back later"
        );
    }
    last_words(&shared, socket, &bytes).await;
}

/// Writes the last bytes for a peer, and gives it the time to read them.
pub(super) async fn last_words(shell: &Shared, mut socket: Socket, bytes: &[u8]) {
    let timeout = shell.borrow().config.close_timeout;
    let timeout = if socket.place().is_some() { hasten(timeout) } else { timeout };
    let displaced = socket.displaced();
    let parting = tokio::time::timeout(timeout, async {
        socket.write_all(bytes).await?;
        socket.shutdown().await?;
        let mut forgotten = 0;
        let mut buffer = [0; 1024];
        while forgotten < FORGET_BYTES {
            match socket.read(&mut buffer).await? {
                0 => break,
                count => forgotten += count,
            }
        }
        Ok::<(), io::Error>(())
    });
    tokio::select! {
        biased; // the bytes are written first
        _ = parting => {} // whether or not they were read: the connection is over
        () = displaced => {}
    }
}
