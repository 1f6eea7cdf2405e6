//! Each fault, as both ends see it. Nothing here sleeps: ends wait for bytes, and fail after a generous deadline.

use fanfare_fault_proxy::{Break, FaultProxy, Faults, Way};
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
