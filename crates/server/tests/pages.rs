//! The embedder's pages run on the embedder's runtime: a slow or failing page affects only its own callers.

mod support;

use axum::body::{Body, Bytes};
use axum::routing::{any, get, post};
use axum::{Router, extract};
use fanfare::{Address, Config, Echo, Fanfare};
use hyper_util::rt::TokioIo;
use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::pin::Pin;
use std::sync::{Arc, Mutex, mpsc};
use std::task::{Context, Poll};
use std::time::Duration;
use support::{Client, DEADLINE, Frame, Response, Server, config, connect, response};

fn ask(address: SocketAddr, path: &str) -> TcpStream {
    let mut socket = connect(address);
    write!(socket, "GET {path} HTTP/1.1\r\nHost: a\r\n\r\n").expect("the server reads");
    socket
}

fn fetch(address: SocketAddr, path: &str) -> Response {
    response(&mut ask(address, path))
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime")
}

fn server(config: Config, pages: Router) -> Server {
    Server::of(
        Fanfare::builder(()).config(Config { shards: 1, ..config }).protocol("/echo", Echo::default()).fallback(pages),
    )
}

/// A page that blocks its thread until it is released, and reports that it has begun.
fn blocking() -> (Router, mpsc::Receiver<()>, mpsc::Sender<()>) {
    let ((begun, has_begun), (go, may_go)) = (mpsc::channel(), mpsc::channel::<()>());
    let may_go = Arc::new(Mutex::new(may_go));
    let page = move || {
        let (begun, may_go) = (begun.clone(), may_go.clone());
        async move {
            let _ = begun.send(()); // the test has failed then
            let _ = may_go.lock().map(|may_go| may_go.recv_timeout(DEADLINE));
            "at last\n"
        }
    };
    (Router::new().route("/slow", get(page)), has_begun, go)
}

#[test]
fn a_page_that_blocks_its_thread_holds_no_socket_up() {
    let runtime = runtime();
    for within in [true, false] {
        let _entered = within.then(|| runtime.enter());
        let (pages, has_begun, go) = blocking();
        let server = server(config(), pages);
        let mut echo = Client::open(server.address, "/echo");
        let mut slow = ask(server.address, "/slow");
        has_begun.recv_timeout(DEADLINE).expect("the page begins");
        // Both are on the only shard.
        echo.text("hello");
        assert_eq!(echo.next(), Frame::Text("hello".to_owned()), "within a runtime: {within}");
        assert_eq!(fetch(server.address, "/healthz").status(), 200);
        go.send(()).expect("the page waits");
        assert_eq!(response(&mut slow).body, "at last\n");
    }
}

#[test]
fn pages_run_on_the_runtime_that_the_server_was_started_on() {
    let runtime = runtime();
    let here = async || format!("{:?}", tokio::runtime::Handle::current().id());
    let server = {
        let _entered = runtime.enter();
        server(config(), Router::new().route("/", get(here)))
    };
    assert_eq!(fetch(server.address, "/").body, format!("{:?}", runtime.handle().id()));
    drop(runtime);
    let answer = fetch(server.address, "/");
    assert_eq!(answer.status(), 503, "the runtime has ended: {}", answer.body);
    assert_eq!(fetch(server.address, "/healthz").status(), 200, "the server has not");
}

/// Frames one after the other, each perhaps after a wait; then an end, or a panic.
struct Frames {
    left: usize,
    waits: bool,
    panics: bool,
    exact: bool,
}

impl axum::body::HttpBody for Frames {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<http_body::Frame<Bytes>, Self::Error>>> {
        self.waits = !self.waits;
        if self.waits {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        if self.left == 0 {
            assert!(!self.panics, "the body of a page fails, on purpose");
            return Poll::Ready(None);
        }
        self.left -= 1;
        Poll::Ready(Some(Ok(http_body::Frame::data(Bytes::from(vec![self.left as u8; 1000])))))
    }

    fn size_hint(&self) -> http_body::SizeHint {
        if self.exact {
            http_body::SizeHint::with_exact(1000 * self.left as u64)
        } else {
            http_body::SizeHint::default()
        }
    }
}

#[test]
fn bodies_come_frame_by_frame_with_their_length_where_it_is_known() {
    let page = |exact| move || async move { Body::new(Frames { left: 200, waits: false, panics: false, exact }) };
    let pages = Router::new()
        .route("/exact", get(page(true)))
        .route("/open", get(page(false)))
        .route("/broken", get(async || Body::new(Frames { left: 200, waits: false, panics: true, exact: false })));
    let server = server(config(), pages);
    let expected: Vec<u8> = (0..200_u8).rev().flat_map(|byte| [byte; 1000]).collect();
    let whole = |path: &str| {
        let mut socket = connect(server.address);
        write!(socket, "GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").expect("the server reads");
        let mut answer = Vec::new();
        socket.read_to_end(&mut answer).expect("an end");
        let head = answer.windows(4).position(|end| end == b"\r\n\r\n").expect("a head") + 4;
        (String::from_utf8_lossy(&answer[..head]).to_lowercase(), answer[head..].to_vec())
    };
    let (head, body) = whole("/exact");
    assert!(head.contains("content-length: 200000\r\n"), "{head}");
    assert!(body == expected);
    let (head, body) = whole("/open");
    assert!(head.contains("transfer-encoding: chunked\r\n"), "{head}");
    assert!(body.ends_with(b"\r\n0\r\n\r\n") && body.len() > expected.len());
    let (_, body) = whole("/broken");
    assert!(!body.ends_with(b"0\r\n\r\n"), "a body that failed does not look whole");
    assert_eq!(fetch(server.address, "/healthz").status(), 200, "and nobody else notices");
}

#[test]
fn a_page_that_panics_is_a_500_for_its_caller_alone() {
    async fn broken() -> &'static str {
        panic!("a page fails, on purpose")
    }
    let server = server(config(), Router::new().route("/", get(broken)).route("/good", get(async || "good\n")));
    let mut echo = Client::open(server.address, "/echo");
    let mut socket = connect(server.address);
    for _ in 0..2 {
        socket.write_all(b"GET / HTTP/1.1\r\nHost: a\r\nX-Request-Id: mine\r\n\r\n").expect("the connection is kept");
        let answer = response(&mut socket);
        assert_eq!((answer.status(), answer.header("x-request-id")), (500, Some("mine")), "{}", answer.body);
    }
    assert_eq!(fetch(server.address, "/good").body, "good\n");
    echo.text("hello");
    assert_eq!(echo.next(), Frame::Text("hello".to_owned()));
}

#[test]
fn more_pages_than_may_be_under_way_are_refused_by_name() {
    let (pages, has_begun, go) = blocking();
    let server = server(Config { pages_outstanding_max: 1, ..config() }, pages);
    let mut slow = ask(server.address, "/slow");
    has_begun.recv_timeout(DEADLINE).expect("the page begins");
    let refused = fetch(server.address, "/slow");
    assert_eq!((refused.status(), refused.header("retry-after")), (503, Some("1")), "{}", refused.head);
    assert!(
        refused.body.contains("limits.pages_outstanding_max") && refused.body.contains("1 requests"),
        "{}",
        refused.body
    );
    go.send(()).expect("the page waits");
    assert_eq!(response(&mut slow).status(), 200);
    go.send(()).expect("the page waits");
    assert_eq!(fetch(server.address, "/slow").status(), 200, "there is room again");
}

/// Reports its drop.
struct Guard(mpsc::Sender<()>);

impl Drop for Guard {
    fn drop(&mut self) {
        let _ = self.0.send(()); // the test has failed then
    }
}

/// A body that has begun and waits for an event.
struct Events {
    has_begun: bool,
    _guard: Guard,
}

impl axum::body::HttpBody for Events {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<http_body::Frame<Bytes>, Self::Error>>> {
        if std::mem::replace(&mut self.has_begun, true) {
            return Poll::Pending;
        }
        Poll::Ready(Some(Ok(http_body::Frame::data(Bytes::from_static(b"begun")))))
    }
}

/// A page that never answers at `/`, and one whose answer never ends at `/events`. Both report when they begin and when
/// they are dropped.
fn waiting() -> (Router, mpsc::Receiver<()>, mpsc::Receiver<()>) {
    let ((begun, has_begun), (dropped, is_dropped)) = (mpsc::channel(), mpsc::channel());
    let has_dropped = dropped.clone();
    let page = move || {
        let (begun, guard) = (begun.clone(), Guard(dropped.clone()));
        async move {
            let _guard = guard;
            let _ = begun.send(()); // the test has failed then
            std::future::pending::<&'static str>().await
        }
    };
    let events = move || {
        let body = Body::new(Events { has_begun: false, _guard: Guard(has_dropped.clone()) });
        async move { body }
    };
    (Router::new().route("/", get(page)).route("/events", get(events)), has_begun, is_dropped)
}

#[test]
fn a_page_whose_caller_has_gone_is_dropped() {
    let (pages, has_begun, is_dropped) = waiting();
    let path = std::env::temp_dir().join(format!("fanfare-pages-{}.sock", std::process::id()));
    let addresses = ["127.0.0.1:0".parse().expect("an address"), Address::Unix(path.clone())];
    let config = Config { shards: 1, streams: false, close_timeout: Duration::from_millis(200), ..config() };
    let server = Fanfare::builder(()).config(config).fallback(pages).build().expect("good settings");
    let running = server.start(&addresses).expect("it starts");
    let address = running.tcp_address().expect("TCP");
    let tcp = |request: &str| {
        let mut socket = connect(address);
        socket.write_all(request.as_bytes()).expect("the server reads");
        socket
    };
    let wait = |name: &str| is_dropped.recv_timeout(DEADLINE).unwrap_or_else(|_| panic!("{name}: it is not dropped"));
    let rows = [
        ("an end", "GET / HTTP/1.1\r\nHost: a\r\n\r\n"),
        ("an end behind a part of the next request", "GET / HTTP/1.1\r\nHost: a\r\n\r\nGET / HTTP/1.1\r\nHo"),
        ("an end behind a body that nobody reads", "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nbody"),
    ];
    for (name, request) in rows {
        let socket = tcp(request);
        has_begun.recv_timeout(DEADLINE).expect("the page begins");
        drop(socket);
        wait(name);
    }
    let mut socket = tcp("GET /events HTTP/1.1\r\nHost: a\r\n\r\n");
    let mut said = Vec::new();
    while !said.windows(5).any(|five| five == b"begun") {
        let mut byte = [0];
        socket.read_exact(&mut byte).expect("more comes");
        said.extend(byte);
    }
    socket.shutdown(Shutdown::Write).expect("open");
    wait("an end while the answer goes on");
    let mut unix = UnixStream::connect(&path).expect("it listens");
    unix.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").expect("the server reads");
    has_begun.recv_timeout(DEADLINE).expect("the page begins");
    drop(unix);
    wait("an end of a Unix socket");
    // HTTP/2: a stream that is reset (CANCEL), and an end of the connection.
    for is_reset in [true, false] {
        let mut socket = tcp("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
        socket.write_all(&[0, 0, 0, 4, 0, 0, 0, 0, 0]).expect("the server reads"); // SETTINGS
        let head = [0x82, 0x86, 0x84, 0x01, 1, b'a']; // GET http /, and an authority
        socket.write_all(&[0, 0, 6, 1, 5, 0, 0, 0, 1]).and_then(|()| socket.write_all(&head)).expect("it reads");
        has_begun.recv_timeout(DEADLINE).expect("the page begins");
        if is_reset {
            socket.write_all(&[0, 0, 4, 3, 0, 0, 0, 0, 1, 0, 0, 0, 8]).expect("the server reads");
        } else {
            socket.shutdown(Shutdown::Write).expect("open");
        }
        wait(if is_reset { "RST_STREAM" } else { "an end of HTTP/2" });
    }
    running.drain_blocking().expect("no shard failed");
}

#[test]
fn a_page_whose_caller_resets_the_connection_is_dropped_at_once() {
    let (pages, has_begun, is_dropped) = waiting();
    let server = server(Config { close_timeout: Duration::from_secs(600), ..config() }, pages);
    let socket = ask(server.address, "/");
    has_begun.recv_timeout(DEADLINE).expect("the page begins");
    socket2::SockRef::from(&socket).set_linger(Some(Duration::ZERO)).expect("a socket");
    drop(socket);
    is_dropped.recv_timeout(DEADLINE).expect("the page is dropped");
}

/// The caller ends only its own half: some clients do that with their request, and then read.
#[test]
fn a_caller_that_has_ended_its_side_reads_the_answers() {
    let (pages, has_begun, go) = blocking();
    let server = server(config(), pages);
    let mut socket = connect(server.address);
    socket.write_all(b"GET /slow HTTP/1.1\r\nHost: a\r\n\r\nGET /slow HTTP/1.1\r\nHost: a\r\n\r\n").expect("open");
    socket.shutdown(Shutdown::Write).expect("open");
    for _ in 0..2 {
        has_begun.recv_timeout(DEADLINE).expect("the page begins");
        go.send(()).expect("the page waits");
        assert_eq!(response(&mut socket).body, "at last\n");
    }
    assert_eq!(socket.read(&mut [0]).expect("an end"), 0);
}

/// The body of the answer on a stream of HTTP/2. Pings are answered.
fn body_of_stream(socket: &mut TcpStream, stream: u8) -> String {
    let mut body = Vec::new();
    loop {
        let mut head = [0; 9];
        socket.read_exact(&mut head).expect("a frame");
        let mut payload = vec![0; u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize];
        socket.read_exact(&mut payload).expect("a whole frame");
        let (kind, flags, of) = (head[3], head[4], head[8]);
        if kind == 6 && flags & 1 == 0 {
            socket.write_all(&[0, 0, 8, 6, 1, 0, 0, 0, 0]).and_then(|()| socket.write_all(&payload)).expect("it reads");
        }
        if kind == 0 && of == stream {
            body.extend(payload);
            if flags & 1 == 1 {
                return String::from_utf8(body).expect("text");
            }
        }
        assert_ne!((kind, of), (3, stream), "a reset stream");
    }
}

#[test]
fn a_page_waits_for_a_body_no_longer_than_for_a_head() {
    let whole = |body: Bytes| async move { body };
    let echo = |body: Body| async move { body };
    let pages = Router::new().route("/whole", post(whole)).route("/echo", post(echo));
    let server = server(Config { head_timeout: Duration::from_millis(200), ..config() }, pages);
    let rows = [
        ("none of it", "/whole", "Content-Length: 3\r\n\r\n"),
        ("a part of it", "/whole", "Content-Length: 3\r\n\r\nab"),
        ("no chunk", "/whole", "Transfer-Encoding: chunked\r\n\r\n"),
        ("a part of a chunk", "/whole", "Transfer-Encoding: chunked\r\n\r\n3\r\nab"),
        ("no last chunk", "/whole", "Transfer-Encoding: chunked\r\n\r\n2\r\nab\r\n"),
        ("none of it, and the page has answered", "/echo", "Content-Length: 3\r\n\r\n"),
        ("a part of it, and the page has answered", "/echo", "Transfer-Encoding: chunked\r\n\r\n2\r\nab\r\n"),
    ];
    for (name, path, rest) in rows {
        let mut socket = connect(server.address);
        write!(socket, "POST {path} HTTP/1.1\r\nHost: a\r\n{rest}").expect("the server reads");
        let mut said = String::new();
        socket.read_to_string(&mut said).unwrap_or_else(|error| panic!("{name}: the connection ends: {error}"));
        let said = said.to_lowercase();
        if path == "/whole" {
            assert!(said.starts_with("http/1.1 408 ") && said.contains("connection: close\r\n"), "{name}: {said}");
            assert!(said.ends_with("no more of the body came within 0.2 s\n"), "{name}: {said}");
        } else {
            assert!(!said.ends_with("0\r\n\r\n"), "{name}: it does not look whole: {said}");
        }
    }
    // HTTP/2: the stream ends, the connection stays.
    let mut socket = connect(server.address);
    socket.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").expect("the server reads");
    socket.write_all(&[0, 0, 0, 4, 0, 0, 0, 0, 0]).expect("the server reads"); // SETTINGS
    let post = [0x83, 0x86, 0x04, 6, b'/', b'w', b'h', b'o', b'l', b'e', 0x01, 1, b'a']; // POST http /whole
    for stream in [1, 3] {
        socket.write_all(&[0, 0, 13, 1, 4, 0, 0, 0, stream]).and_then(|()| socket.write_all(&post)).expect("it reads");
        assert_eq!(body_of_stream(&mut socket, stream), "no more of the body came within 0.2 s\n");
    }
}

/// A page that does not read its body is never timed out, and neither is its caller.
#[test]
fn a_page_that_does_not_read_its_body_may_take_its_time() {
    let ((begun, has_begun), go) = (mpsc::channel(), Arc::new(tokio::sync::Notify::new()));
    let may_go = go.clone();
    let slow = async move || {
        let _ = begun.send(()); // the test has failed then
        may_go.notified().await;
        "at last\n"
    };
    let whole = |body: Bytes| async move { body };
    let pages = Router::new().route("/slow", get(slow)).route("/whole", post(whole));
    let server = server(Config { head_timeout: Duration::from_millis(100), ..config() }, pages);
    let mut socket = connect(server.address);
    socket.write_all(b"GET /slow HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\n").expect("the server reads");
    has_begun.recv_timeout(DEADLINE).expect("the page begins");
    // Waits for the time of another request's body to pass.
    let mut other = connect(server.address);
    other.write_all(b"POST /whole HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\n").expect("the server reads");
    assert_eq!(response(&mut other).status(), 408);
    go.notify_one();
    assert_eq!(response(&mut socket).body, "at last\n");
    let mut rest = Vec::new();
    socket.read_to_end(&mut rest).expect("the connection ends behind an answer whose request has not ended");
}

/// The embedder's own upgrade, within its router: the bytes come back unchanged.
#[test]
fn an_upgrade_within_the_embedders_router_works() {
    async fn own(mut request: extract::Request) -> axum::response::Response {
        let upgrade = hyper::upgrade::on(&mut request);
        tokio::spawn(async move {
            let (mut from, mut to) = tokio::io::split(TokioIo::new(upgrade.await.expect("an upgrade")));
            let _ = tokio::io::copy(&mut from, &mut to).await; // until the peer goes
        });
        let answer = axum::response::Response::builder().status(101);
        answer.header("connection", "upgrade").header("upgrade", "own").body(Body::empty()).expect("a response")
    }
    let runtime = runtime();
    let _entered = runtime.enter();
    let server = server(config(), Router::new().route("/own", any(own)));
    let mut socket = connect(server.address);
    socket
        .write_all(b"GET /own HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: own\r\n\r\n")
        .expect("the server reads");
    assert_eq!(response(&mut socket).status(), 101);
    for text in [&b"hello"[..], &[b'x'; 100_000]] {
        socket.write_all(text).expect("the server reads");
        let mut back = vec![0; text.len()];
        socket.read_exact(&mut back).expect("it comes back");
        assert!(back == text);
    }
}

/// Text that one user has stored for others to read.
#[test]
fn a_page_may_end_with_the_words_of_a_refusal() {
    const REFUSAL: &str = "HTTP/1.1 400 Bad Request\r\nconnection: close\r\ncontent-length: 0\r\ndate: Sat, 01 Jan 2028 00:00:00 GMT\r\n\r\n";
    let runtime = runtime();
    let _entered = runtime.enter();
    for before in [0, 100, 16 << 10, 100_000] {
        let text = "x".repeat(before) + REFUSAL;
        let page = text.clone();
        let server = server(config(), Router::new().route("/text", get(move || async move { page })));
        let mut socket = connect(server.address);
        for _ in 0..2 {
            write!(socket, "GET /text HTTP/1.1\r\nHost: a\r\n\r\n").expect("the connection goes on");
            let answer = response(&mut socket);
            assert_eq!((answer.status(), answer.body.len()), (200, text.len()), "{before} bytes before");
            assert!(answer.body == text, "{before} bytes before");
        }
    }
}
