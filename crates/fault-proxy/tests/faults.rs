//! Each fault, as both ends see it. Nothing here sleeps: ends wait for bytes, and fail after a generous deadline.

use fanfare_fault_proxy::{Break, FaultProxy, Faults, Meddling, Way};
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

const DEADLINE: Duration = Duration::from_secs(30);

/// A server that hands its connections over, in the order in which it sees their first byte.
fn server() -> (SocketAddr, Receiver<(u8, TcpStream)>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("bound");
    let (sender, connections) = channel();
    std::thread::spawn(move || {
        for socket in listener.incoming() {
            let Ok(mut socket) = socket else { return };
            socket.set_read_timeout(Some(DEADLINE)).expect("an option");
            let mut first = [0];
            if socket.read_exact(&mut first).is_ok() && sender.send((first[0], socket)).is_err() {
                return;
            }
        }
    });
    (address, connections)
}

fn through(proxy: &FaultProxy, first: u8) -> TcpStream {
    let mut socket = TcpStream::connect(proxy.address).expect("the proxy listens");
    socket.set_read_timeout(Some(DEADLINE)).expect("an option");
    socket.write_all(&[first]).expect("the proxy reads");
    socket
}

fn always(faults: Faults) -> (FaultProxy, Receiver<(u8, TcpStream)>) {
    let (address, connections) = server();
    (FaultProxy::start(address, move |_| faults).expect("a port"), connections)
}

fn read(socket: &mut TcpStream, count: usize) -> Vec<u8> {
    let mut bytes = vec![0; count];
    socket.read_exact(&mut bytes).expect("so many bytes");
    bytes
}

/// The way in which a connection ends, after the bytes that came before.
fn end(socket: &mut TcpStream) -> Result<Vec<u8>, ErrorKind> {
    let mut bytes = Vec::new();
    socket.read_to_end(&mut bytes).map(|_| bytes).map_err(|error| error.kind())
}

#[test]
fn without_faults_everything_passes_and_a_half_close_stays_one() {
    let (proxy, connections) = always(Faults::default());
    let mut near = through(&proxy, b'a');
    let (_, mut far) = connections.recv_timeout(DEADLINE).expect("a connection");
    let large = vec![b'x'; 1 << 20];
    let writing = {
        let (mut near, large) = (near.try_clone().expect("a socket"), large.clone());
        std::thread::spawn(move || {
            near.write_all(&large).expect("the proxy reads");
            near.shutdown(Shutdown::Write).expect("ours to end");
        })
    };
    assert_eq!(end(&mut far), Ok(large));
    writing.join().expect("written");
    far.write_all(b"still open").expect("the proxy reads");
    drop(far);
    assert_eq!(end(&mut near), Ok(b"still open".to_vec()));
    assert_eq!((proxy.accepted(), proxy.broken()), (1, 0));
}

#[test]
fn a_fault_stands_at_its_byte() {
    for (then, expected) in [(Break::End, Ok(b"1234".to_vec())), (Break::Reset, Err(ErrorKind::ConnectionReset))] {
        let (proxy, connections) = always(Faults { down: Way::broken(4, then), ..Faults::default() });
        let mut near = through(&proxy, b'a');
        let (_, mut far) = connections.recv_timeout(DEADLINE).expect("a connection");
        far.write_all(b"1234").expect("the proxy reads");
        assert_eq!(read(&mut near, 4), b"1234", "the bytes before it pass");
        far.write_all(b"5").expect("the proxy reads");
        assert_eq!(end(&mut near), expected.map(|_| Vec::new()), "{then:?}");
        assert!(matches!(far.read(&mut [0]), Ok(0) | Err(_)), "the server sees an end too");
        assert_eq!(proxy.broken(), 1);
    }
}

#[test]
fn an_answer_is_lost_after_its_request_has_arrived() {
    let (proxy, connections) = always(Faults::answer_lost());
    let mut near = through(&proxy, b'a');
    let (first, mut far) = connections.recv_timeout(DEADLINE).expect("the request arrives");
    assert_eq!(first, b'a');
    far.write_all(b"an answer").expect("the proxy reads");
    assert_eq!(end(&mut near), Ok(Vec::new()));
}

#[test]
fn silence_is_noticed_by_neither_end_until_it_is_healed() {
    let (proxy, connections) = always(Faults { up: Way::broken(1, Break::Silence), ..Faults::default() });
    let mut near = through(&proxy, b'a');
    let (_, mut far) = connections.recv_timeout(DEADLINE).expect("the first byte passes");
    near.write_all(b"lost").expect("the proxy reads");
    while proxy.broken() == 0 {
        std::thread::yield_now();
    }
    far.write_all(b"lost too").expect("the kernel takes it");
    for end in [&mut near, &mut far] {
        end.set_nonblocking(true).expect("an option");
        assert_eq!(end.read(&mut [0]).expect_err("no end").kind(), ErrorKind::WouldBlock);
        end.set_nonblocking(false).expect("an option");
    }
    proxy.heal();
    assert!(!matches!(end(&mut near), Ok(bytes) if !bytes.is_empty()), "nothing has passed");
    assert!(!matches!(end(&mut far), Ok(bytes) if !bytes.is_empty()), "nothing has passed");
    let mut later = through(&proxy, b'b');
    let (_, mut far) = connections.recv_timeout(DEADLINE).expect("a connection");
    later.write_all(b"whole").expect("the proxy reads");
    assert_eq!(read(&mut far, 5), b"whole");
}

#[test]
fn one_way_breaks_one_direction_alone() {
    let (proxy, connections) = always(Faults { down: Way::broken(0, Break::OneWay), ..Faults::default() });
    let mut near = through(&proxy, b'a');
    let (_, mut far) = connections.recv_timeout(DEADLINE).expect("a connection");
    far.write_all(b"lost").expect("the proxy reads");
    while proxy.broken() == 0 {
        std::thread::yield_now();
    }
    near.write_all(b"heard").expect("the proxy reads");
    assert_eq!(read(&mut far, 5), b"heard");
    proxy.heal();
    assert!(!matches!(end(&mut near), Ok(bytes) if !bytes.is_empty()), "nothing has passed");
}

#[test]
fn stalls_and_delays_lose_nothing() {
    let pause = Duration::from_millis(50);
    let rows =
        [Faults::both(Way::broken(1, Break::Stall(pause))), Faults::both(Way::delayed(pause)), Faults::default()];
    for faults in rows {
        let begin = Instant::now();
        let (proxy, connections) = always(faults);
        let mut near = through(&proxy, b'a');
        near.write_all(b"bcd").expect("the proxy reads");
        let (_, mut far) = connections.recv_timeout(DEADLINE).expect("a connection");
        assert_eq!(read(&mut far, 3), b"bcd");
        far.write_all(b"an answer").expect("the proxy reads");
        assert_eq!(read(&mut near, 9), b"an answer");
        assert!(faults == Faults::default() || begin.elapsed() >= pause, "{faults:?}: it was not held up");
    }
}

#[test]
fn a_connection_arrives_after_the_one_that_follows_it() {
    let (address, connections) = server();
    let behind = Faults { behind_the_next: Some(DEADLINE), ..Faults::default() };
    let proxy = FaultProxy::start(address, move |number| if number == 0 { behind } else { Faults::default() });
    let proxy = proxy.expect("a port");
    let _first = through(&proxy, b'1');
    while proxy.accepted() == 0 {
        std::thread::yield_now();
    }
    let _second = through(&proxy, b'2');
    let order: Vec<u8> =
        (0..2).map(|_| connections.recv_timeout(DEADLINE).expect("a connection")).map(|(first, _)| first).collect();
    assert_eq!(order, b"21");
}

#[test]
fn connections_are_cut_and_new_ones_kept_out() {
    let (proxy, connections) = always(Faults::default());
    let mut near = through(&proxy, b'a');
    let (_, _far) = connections.recv_timeout(DEADLINE).expect("a connection");
    proxy.cut();
    assert!(matches!(end(&mut near), Ok(_) | Err(ErrorKind::ConnectionReset)));
    proxy.block(true);
    let mut refused = TcpStream::connect(proxy.address).expect("the proxy listens");
    refused.set_read_timeout(Some(DEADLINE)).expect("an option");
    assert!(matches!(end(&mut refused), Ok(_) | Err(ErrorKind::ConnectionReset)));
    proxy.block(false);
    let _later = through(&proxy, b'b');
    assert_eq!(connections.recv_timeout(DEADLINE).expect("a connection").0, b'b');
    let address = proxy.address;
    drop(proxy);
    assert!(TcpStream::connect(address).is_err(), "its port is closed with it");
}

#[test]
fn a_connection_that_is_silent_for_too_long_ends() {
    let (proxy, connections) = always(Faults::idle_max(Duration::from_millis(50)));
    let mut near = through(&proxy, b'a');
    let (_, mut far) = connections.recv_timeout(DEADLINE).expect("a connection");
    assert_eq!(end(&mut near), Ok(Vec::new()));
    assert_eq!((end(&mut far), proxy.broken()), (Ok(Vec::new()), 1));
}

/// One request through a bad HTTP proxy: the request as the server gets it, and the answer as the client gets it. The
/// server ends the answer when `goes_on` says so, which sees the client's end.
fn exchange(how: Meddling, request: &str, answer: &[u8], goes_on: impl FnOnce(&mut TcpStream)) -> (String, Vec<u8>) {
    let (proxy, connections) = always(Faults::meddling(how));
    let mut near = through(&proxy, request.as_bytes()[0]);
    near.write_all(&request.as_bytes()[1..]).expect("the proxy reads");
    let (first, mut far) = connections.recv_timeout(DEADLINE).expect("a connection");
    let mut head = vec![first];
    while !head.ends_with(b"\r\n\r\n") {
        head.extend(read(&mut far, 1));
    }
    far.write_all(answer).expect("the proxy reads");
    goes_on(&mut near);
    drop(far);
    (String::from_utf8(head).expect("text"), end(&mut near).expect("a good end"))
}

const ASKED: &str =
    "GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nLast-Event-ID: 1\r\n\r\n";
const STREAM: &[u8] =
    b"HTTP/1.1 200 OK\r\nCache-Control: no-cache\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n";

#[test]
fn a_bad_http_proxy_removes_headers_and_adds_others() {
    let how = Meddling {
        request_strips: &["upgrade", "last-event-id"],
        answer_strips: &["cache-control"],
        answer_adds: &[("Via", "1.1 bad")],
        ..Meddling::default()
    };
    let (request, answer) = exchange(how, ASKED, STREAM, |_| {});
    assert_eq!(request, "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nVia: 1.1 bad\r\nConnection: close\r\n\r\n";
    assert_eq!(String::from_utf8(answer).expect("text"), format!("{head}5\r\nhello\r\n0\r\n\r\n"));
}

#[test]
fn an_upgrade_passes_unless_the_proxy_speaks_http_1_0() {
    let granted = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\nhello";
    let (request, answer) = exchange(Meddling::default(), ASKED, granted, |_| {});
    assert_eq!((request.as_str(), answer), (ASKED, granted.to_vec()));
    let how = Meddling { is_http_1_0: true, ..Meddling::default() };
    let (request, answer) = exchange(how, ASKED, b"HTTP/1.0 426 Upgrade Required\r\n\r\nno", |_| {});
    assert_eq!(request, "GET / HTTP/1.0\r\nHost: x\r\nLast-Event-ID: 1\r\nConnection: close\r\n\r\n");
    assert_eq!(answer, b"HTTP/1.0 426 Upgrade Required\r\nConnection: close\r\n\r\nno");
}

#[test]
fn a_bad_http_proxy_holds_answers_back_until_they_are_over() {
    let how = Meddling { holds_bytes: usize::MAX, ..Meddling::default() };
    let head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n";
    let held = |near: &mut TcpStream| {
        assert_eq!(read(near, 4), b"HTTP");
        near.set_nonblocking(true).expect("an option");
        let mut rest = Vec::new();
        // The head was passed on in one piece before the body was read.
        assert_eq!(near.read_to_end(&mut rest).expect_err("not over").kind(), ErrorKind::WouldBlock);
        assert_eq!(rest, &head[4..]);
        near.set_nonblocking(false).expect("an option");
    };
    let answer = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n";
    let (_, rest) = exchange(how, ASKED, answer, held);
    assert_eq!(rest, b"5\r\nhello\r\n0\r\n\r\n");
}

#[test]
fn a_bad_http_proxy_compresses_streams() {
    let how = Meddling { gzips: true, ..Meddling::default() };
    let (_, answer) = exchange(how, ASKED, STREAM, |_| {});
    let end = answer.windows(4).position(|four| four == b"\r\n\r\n").expect("a head") + 4;
    let head = "HTTP/1.1 200 OK\r\nCache-Control: no-cache\r\nContent-Encoding: gzip\r\nConnection: close\r\n\r\n";
    assert_eq!(std::str::from_utf8(&answer[..end]), Ok(head));
    let mut plain = String::new();
    flate2::read::GzDecoder::new(&answer[end..]).read_to_string(&mut plain).expect("gzip");
    assert_eq!(plain, "hello");
}
