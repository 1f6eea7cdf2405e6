//! Fanfare within other servers and behind other sockets: a Unix path, and an axum application that shares its port.

mod support;

use fanfare::{Address, Echo, Fanfare, ListenOn};
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::{UnixListener, UnixStream};
use std::time::Instant;
use support::{DEADLINE, config};

const UPGRADE: &str = "GET /echo HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                       Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
/// A masked text frame with "Hello" (RFC 6455 §5.7), and its echo.
const HELLO: &[u8] = &[0x81, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58];
const HELLO_BACK: &[u8] = &[0x81, 0x05, b'H', b'e', b'l', b'l', b'o'];

/// Waits until nobody listens at a path any more.
fn until_gone(path: &std::path::Path) {
    let deadline = Instant::now() + DEADLINE;
    while path.exists() {
        assert!(Instant::now() < deadline, "{} is still there", path.display());
        std::thread::yield_now();
    }
}

/// Upgrades, checks the echo of one frame, and returns the socket.
fn echo_over<S: std::io::Read + std::io::Write>(mut socket: S) -> S {
    socket.write_all(UPGRADE.as_bytes()).expect("written");
    let head = support::head(&mut socket);
    assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
    assert!(head.to_ascii_lowercase().contains("sec-websocket-accept: s3pplmbitxaq9kygzzhzrbk+xoo="), "{head}");
    for _ in 0..3 {
        socket.write_all(HELLO).expect("written");
        let mut back = [0; HELLO_BACK.len()];
        socket.read_exact(&mut back).expect("an echo");
        assert_eq!(back, HELLO_BACK);
    }
    socket
}

fn get(address: std::net::SocketAddr, path: &str) -> String {
    let mut socket = TcpStream::connect(address).expect("it accepts");
    write!(socket, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").expect("written");
    let mut answer = String::new();
    socket.read_to_string(&mut answer).expect("an answer");
    answer
}

#[test]
fn a_unix_socket_serves_what_a_port_does() {
    let folder = std::env::temp_dir().join(format!("fanfare-embed-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a temporary folder");
    let path = folder.join("fanfare.sock");
    let server = Fanfare::builder(()).config(config()).protocol("/echo", Echo::default()).build().expect("valid");
    let running = server.start(&[Address::Unix(path.clone())]).expect("it starts");
    drop(echo_over(UnixStream::connect(&path).expect("it accepts")));
    let mut http = UnixStream::connect(&path).expect("it accepts");
    write!(http, "GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").expect("written");
    let mut answer = String::new();
    http.read_to_string(&mut answer).expect("an answer");
    assert!(answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("ok\n"), "{answer}");
    running.drain_blocking().expect("no shard failed");
    assert!(!path.exists(), "the file goes with its server");
    std::fs::remove_dir_all(&folder).expect("removed");
}

/// Many programs do this at first: `select!` between the server and Ctrl-C, then leave `main`.
#[test]
fn a_server_whose_future_is_dropped_stops_and_its_runtime_ends() {
    let server = Fanfare::builder(()).config(config()).protocol("/echo", Echo::default()).build().expect("valid");
    let hub = server.handle();
    let path = std::env::temp_dir().join(format!("fanfare-dropped-{}.sock", std::process::id()));
    let address = format!("unix:{}", path.display());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        tokio::select! {
            ended = server.serve(&address) => panic!("it serves until it is dropped: {ended:?}"),
            info = hub.info() => drop(info.expect("it runs")), // a command before the start waits for it
        }
    });
    drop(runtime); // returns
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let gone = async { while hub.info().await.is_ok() {} };
    runtime.block_on(async { tokio::time::timeout(DEADLINE, gone).await.expect("the server ends") });
    until_gone(&path);
    assert!(UnixStream::connect(&path).is_err(), "nobody listens");
}

/// The socket's file is removed with the listeners when the server is dropped, even while a handle is held.
#[test]
fn a_server_that_is_dropped_takes_its_socket_file_along() {
    let server = Fanfare::builder(()).config(config()).protocol("/echo", Echo::default()).build().expect("valid");
    let _hub = server.handle();
    let path = std::env::temp_dir().join(format!("fanfare-kept-{}.sock", std::process::id()));
    let running = server.start(&[Address::Unix(path.clone())]).expect("it starts");
    drop(echo_over(UnixStream::connect(&path).expect("it is there and accepts")));
    drop(running);
    until_gone(&path);
}

/// A listener that the program has opened: all shards accept from it, and it is closed with the server.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_serves_a_listener_that_is_open_already_and_closes_it_at_its_end() {
    let path = |name: &str| std::env::temp_dir().join(format!("fanfare-opened-{name}-{}.sock", std::process::id()));
    let (std_path, tokio_path) = (path("std"), path("tokio"));
    let std_tcp = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let tokio_tcp = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let ports = [std_tcp.local_addr().expect("bound"), tokio_tcp.local_addr().expect("bound")];
    let all: [ListenOn; 4] = [
        std_tcp.into(),
        tokio_tcp.into(),
        UnixListener::bind(&std_path).expect("a free path").into(),
        tokio::net::UnixListener::bind(&tokio_path).expect("a free path").into(),
    ];
    let server = || Fanfare::builder(()).config(config()).protocol("/echo", Echo::default()).build().expect("valid");
    let running = server().start_on(all).expect("it starts");
    let expected = [
        Address::Tcp(ports[0]),
        Address::Tcp(ports[1]),
        Address::Unix(std_path.clone()),
        Address::Unix(tokio_path.clone()),
    ];
    assert_eq!(running.addresses(), expected);
    let paths = [std_path, tokio_path];
    let clients = tokio::task::spawn_blocking(move || {
        for _ in 0..8 {
            ports.iter().for_each(|port| drop(echo_over(TcpStream::connect(port).expect("it accepts"))));
            paths.iter().for_each(|path| drop(echo_over(UnixStream::connect(path).expect("it accepts"))));
        }
        paths
    });
    let paths = clients.await.expect("the clients are content");
    running.drain().await.expect("no shard failed");
    for port in ports {
        drop(TcpListener::bind(port).expect("nobody listens any more"));
    }
    for path in paths {
        assert!(UnixStream::connect(&path).is_err(), "nobody listens any more");
        std::fs::remove_file(&path).expect("the file is its owner's");
    }
    // The same with `serve`, until its future is dropped.
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let port = listener.local_addr().expect("bound");
    let server = server();
    let hub = server.handle();
    let serving = tokio::spawn(server.serve(listener));
    tokio::task::spawn_blocking(move || drop(echo_over(TcpStream::connect(port).expect("it accepts"))))
        .await
        .expect("the client is content");
    serving.abort();
    let gone = async {
        while hub.info().await.is_ok() {}
        while TcpListener::bind(port).is_err() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(DEADLINE, gone).await.expect("the port is free");
}

/// An axum application with Fanfare as its fallback; `wrap` chooses the listener.
async fn axum_app() -> (axum::Router, fanfare::Running) {
    let server = Fanfare::builder(()).config(config()).protocol("/echo", Echo::default()).build().expect("valid");
    let (service, running) = server.into_service().expect("it starts");
    let hello = axum::routing::get(|| async { "hello from axum\n" });
    (axum::Router::new().route("/hello", hello).fallback_service(service), running)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_axum_application_shares_its_port() {
    let (app, running) = axum_app().await;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("bound");
    let serving = tokio::spawn(axum::serve(listener, app).into_future());
    let clients = tokio::task::spawn_blocking(move || {
        assert!(get(address, "/hello").ends_with("hello from axum\n"));
        assert!(get(address, "/healthz").ends_with("ok\n"), "Fanfare's own pages are there");
        assert!(get(address, "/nothing").starts_with("HTTP/1.1 404 "));
        echo_over(TcpStream::connect(address).expect("it accepts"))
    });
    let mut socket = clients.await.expect("the clients are content");
    let drained = tokio::spawn(running.drain());
    let mut goodbye = [0; 2];
    socket.read_exact(&mut goodbye).expect("a close frame");
    assert_eq!(goodbye[0], 0x88, "the shard says goodbye itself");
    drop(socket);
    drained.await.expect("drained").expect("no shard failed");
    serving.abort();
}

/// A listener whose sockets axum cannot reach, as with TLS.
struct Wrapped(tokio::net::TcpListener);

impl axum::serve::Listener for Wrapped {
    type Io = tokio::io::Join<tokio::net::tcp::OwnedReadHalf, tokio::net::tcp::OwnedWriteHalf>;
    type Addr = std::net::SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        let (socket, address) = self.0.accept().await.expect("it accepts");
        let (read, write) = socket.into_split();
        (tokio::io::join(read, write), address)
    }

    fn local_addr(&self) -> std::io::Result<Self::Addr> {
        self.0.local_addr()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn below_a_wrapped_socket_the_bytes_are_carried() {
    let (app, running) = axum_app().await;
    let listener = Wrapped(tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port"));
    let address = axum::serve::Listener::local_addr(&listener).expect("bound");
    let serving = tokio::spawn(axum::serve(listener, app).into_future());
    let client = move || drop(echo_over(TcpStream::connect(address).expect("it accepts")));
    tokio::task::spawn_blocking(client).await.expect("the client is content");
    running.drain().await.expect("no shard failed");
    serving.abort();
}
