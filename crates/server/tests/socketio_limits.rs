//! The bounds of Socket.IO handlers and of their sockets, by raw frames over real sockets: a client that is silent, or
//! that opens much, costs others nothing.

#![allow(clippy::unwrap_used)] // helpers stand outside of `#[test]`; a panic in one fails the test

mod support;

use fanfare::hub::Limits;
use fanfare::socketio::{Auth, Data, EventName, Io, Socket};
use fanfare::{Builder, Config, Fanfare, SocketIoConfig, State};
use std::io::Read as _;
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::Duration;
use support::engine::is_silent;
use support::socketio::{enter_in, entered, open, text};
use support::{Client, DEADLINE, Frame, Server, config};
use tokio::runtime::Runtime;
use tokio::sync::Semaphore;

/// Longer than any test.
const LONG: Duration = Duration::from_secs(600);

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime")
}

/// One shard, so that its bounds are those of all clients.
fn builder<S: Clone + Send + Sync + 'static>(state: S, limits: Limits) -> Builder<S> {
    let limits = Limits { connect_timeout_ms: 600_000, hook_timeout_ms: 600_000, ..limits };
    Fanfare::builder(state).config(Config { limits, shards: 1, ..config() })
}

/// A client in the main namespace.
fn enter(server: &Server) -> Client {
    support::socketio::enter(server).0
}

/// Handlers that wait for acks hold no places: neither those of other handlers, nor those of guards.
#[test]
fn clients_that_never_acknowledge_stop_no_handler_and_nobody_who_enters() {
    let runtime = runtime();
    let _entered = runtime.enter();
    let limits = Limits { questions_max: 2, ..config().limits };
    let server = Server::of(builder((), limits).socketio("/", |io| {
        io.guard(async || {})
            .on("ask", async |socket: Socket| socket.emit_with_ack::<u8>("?", ()).timeout(LONG).await.unwrap())
            .on("ask all", async |socket: Socket| {
                let asked = socket.broadcast().emit_with_ack::<u8>("?", ()).timeout(LONG).await;
                asked.unwrap().answers.len()
            })
            .on("echo", async |Data(n): Data<u8>| n)
    }));
    let mut silent: Vec<Client> = (0..5).map(|_| enter(&server)).collect();
    for client in &mut silent {
        client.text(r#"421["ask"]"#);
        assert!(text(client).ends_with(r#"["?"]"#));
    }
    let mut asker = enter(&server);
    asker.text(r#"421["ask all"]"#);
    let mut ada = enter(&server);
    for n in 0..3 {
        ada.text(&format!(r#"42{n}["echo",{n}]"#));
        assert_eq!(text(&mut ada), format!("43{n}[{n}]"));
    }
    // One answers at last, and its handler goes on.
    let question = text(&mut silent[0]);
    assert!(question.ends_with(r#"["?"]"#), "of the one who asks all: {question}");
    silent[0].text(r#"430[7]"#);
    assert_eq!(text(&mut silent[0]), "431[7]");
}

#[test]
fn guards_are_asked_while_all_handlers_are_busy() {
    let runtime = runtime();
    let _entered = runtime.enter();
    let gate = Arc::new(Semaphore::new(0));
    let limits = Limits { questions_max: 1, ..config().limits };
    let server = Server::of(builder(gate.clone(), limits).socketio("/", |io| {
        io.guard(async || {})
            .on("slow", async |State(gate): State<Arc<Semaphore>>| gate.acquire().await.unwrap().forget())
    }));
    let mut busy = enter(&server);
    busy.text(r#"420["slow"]"#);
    let mut waits = enter(&server);
    waits.text(r#"421["slow"]"#);
    enter(&server);
    gate.add_permits(1);
    assert_eq!(text(&mut busy), "430[]");
    gate.add_permits(1);
    assert_eq!(text(&mut waits), "431[]");
}

/// Beyond those that run and as many that wait, a client is disconnected, and comes back by itself.
#[test]
fn guards_that_wait_are_bounded() {
    #[derive(serde::Deserialize)]
    struct Login {
        #[serde(default)]
        slow: bool,
    }
    let runtime = runtime();
    let _entered = runtime.enter();
    let (gate, asked) = (Arc::new(Semaphore::new(0)), Arc::new(Semaphore::new(0)));
    let limits = Limits { questions_max: 1, ..config().limits };
    let server = Server::of(builder((gate.clone(), asked.clone()), limits).socketio("/", |io| {
        io.guard(async |State((gate, asked)): State<(Arc<Semaphore>, Arc<Semaphore>)>, Auth(login): Auth<Login>| {
            asked.add_permits(1);
            if login.slow {
                gate.acquire().await.unwrap().forget();
            }
        })
    }));
    let mut first = open(&server);
    first.text(r#"40{"slow":true}"#);
    runtime.block_on(asked.acquire()).unwrap().forget();
    // One of the others waits for its place, and all further ones are too many.
    let (to, ends) = channel();
    let others: Vec<_> = (0..4)
        .map(|_| {
            let (mut client, to) = (open(&server), to.clone());
            client.text("40");
            std::thread::spawn(move || to.send(client.next()).unwrap())
        })
        .collect();
    for _ in 0..3 {
        assert_eq!(ends.recv_timeout(DEADLINE).unwrap(), Frame::Close(Some(4004), "overloaded".to_owned()));
    }
    gate.add_permits(1);
    assert!(text(&mut first).starts_with("40{"));
    assert!(matches!(ends.recv_timeout(DEADLINE).unwrap(), Frame::Text(entered) if entered.starts_with("40{")));
    others.into_iter().for_each(|other| other.join().unwrap());
    enter(&server);
}

/// A connection with many namespaces has a share of the places. Its other handlers wait for it, and nobody else does.
#[test]
fn one_connection_runs_few_handlers_at_once() {
    let runtime = runtime();
    let _entered = runtime.enter();
    let gate = Arc::new(Semaphore::new(0));
    let limits = Limits { session_questions_max: 2, ..config().limits };
    let server = Server::of(builder(gate.clone(), limits).socketio("/*", |io| {
        io.on("slow", async |socket: Socket, State(gate): State<Arc<Semaphore>>| {
            socket.emit("runs", ());
            gate.acquire().await.unwrap().forget();
        })
    }));
    let mut ada = open(&server);
    for n in 0..3 {
        enter_in(&mut ada, &format!("/{n},"));
    }
    for n in 0..2 {
        ada.text(&format!(r#"42/{n},7["slow"]"#));
        assert_eq!(text(&mut ada), format!(r#"42/{n},["runs"]"#));
    }
    ada.text(r#"42/2,7["slow"]"#);
    let mut bob = open(&server);
    enter_in(&mut bob, "/0,");
    bob.text(r#"42/0,7["slow"]"#);
    assert_eq!(text(&mut bob), r#"42/0,["runs"]"#);
    is_silent(&mut ada);
    gate.add_permits(4);
    let mut rest: Vec<String> = (0..4).map(|_| text(&mut ada)).collect();
    rest.sort();
    assert_eq!(rest, [r#"42/2,["runs"]"#, "43/0,7[]", "43/1,7[]", "43/2,7[]"]);
    assert_eq!(text(&mut bob), "43/0,7[]");
}

/// Each time that a client leaves, a handler is to run: one that comes and goes is not read while they are behind.
#[test]
fn a_client_that_comes_and_goes_waits_for_its_handlers() {
    let runtime = runtime();
    let _entered = runtime.enter();
    let gate = Arc::new(Semaphore::new(0));
    let limits = Limits { outstanding_max: 4, ..config().limits };
    let server = Server::of(builder(gate.clone(), limits).socketio("/", |io| {
        io.on_disconnect(async |State(gate): State<Arc<Semaphore>>| gate.acquire().await.unwrap().forget())
    }));
    let mut ada = open(&server);
    for _ in 0..4 {
        enter_in(&mut ada, "");
        ada.text("41");
    }
    ada.text("40");
    enter(&server);
    ada.socket.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    assert!(ada.socket.read(&mut [0]).is_err(), "it is not read");
    ada.socket.set_read_timeout(Some(DEADLINE)).unwrap();
    gate.add_permits(1);
    entered(&mut ada, "");
}

/// The same with a connection each time: when very many wait, nobody comes in until they have run.
#[test]
fn handlers_of_sockets_that_left_are_bounded() {
    let runtime = runtime();
    let _entered = runtime.enter();
    let gate = Arc::new(Semaphore::new(0));
    let limits = Limits { questions_max: 1, ..config().limits };
    let server = Server::of(builder(gate.clone(), limits).socketio("/", |io| {
        io.on_disconnect(async |State(gate): State<Arc<Semaphore>>| gate.acquire().await.unwrap().forget())
    }));
    let came = |server: &Server| {
        let mut client = open(server);
        client.text("40");
        match client.next() {
            Frame::Text(entered) => {
                assert!(entered.starts_with("40{"));
                client.text("41");
                is_silent(&mut client);
                true
            }
            end => {
                assert_eq!(end, Frame::Close(Some(4004), "overloaded".to_owned()));
                false
            }
        }
    };
    assert_eq!((0..100).filter(|_| came(&server)).count(), 16);
    gate.add_permits(100);
    let deadline = std::time::Instant::now() + DEADLINE;
    while !came(&server) {
        assert!(std::time::Instant::now() < deadline, "they have run");
    }
}

/// An operation on a room costs what its sockets cost, and each socket knows its rooms, in whatever way it came there.
#[test]
fn sockets_are_found_by_their_rooms() {
    let runtime = runtime();
    let _entered = runtime.enter();
    let server = Server::of(builder((), Limits::default()).socketio("/*", |io| {
        io.on("join", async |socket: Socket, Data(room): Data<String>| drop(socket.join(&room)))
            .on("leave", async |socket: Socket, Data(room): Data<String>| drop(socket.leave(&room)))
            .on("to", async |io: Io, name: EventName, Data((of, add, remove)): Data<(Vec<String>, String, String)>| {
                assert_eq!(&*name, "to");
                io.in_(of.clone()).sockets_join(&add).await.unwrap();
                io.in_(of).sockets_leave(&remove).await.unwrap();
            })
            .on("rooms", async |socket: Socket| {
                let mut rooms: Vec<String> = socket.rooms().iter().map(|room| room.as_str().to_owned()).collect();
                let own = rooms.iter().position(|room| room == socket.id());
                own.into_iter().for_each(|own| rooms[own] = "own".to_owned());
                rooms
            })
    }));
    let mut clients: Vec<(Client, String)> = (0..4)
        .map(|n| {
            let mut client = open(&server);
            let id = enter_in(&mut client, if n == 3 { "/other," } else { "/main," });
            (client, id)
        })
        .collect();
    let ask = |(client, _): &mut (Client, String), namespace: &str, event: &str| {
        client.text(&format!("42/{namespace},1{event}"));
        let ack = text(client);
        ack.strip_prefix(&format!("43/{namespace},1")).expect(&ack).to_owned()
    };
    for at in [0, 1] {
        ask(&mut clients[at], "main", r#"["join","a"]"#);
    }
    ask(&mut clients[3], "other", r#"["join","a"]"#);
    ask(&mut clients[0], "main", r#"["to",["a","b"],"c","b"]"#);
    ask(&mut clients[1], "main", r#"["leave","a"]"#);
    ask(&mut clients[0], "main", r#"["to",["a"],"d","c"]"#);
    let second = clients[2].1.clone();
    ask(&mut clients[0], "main", &format!(r#"["to",["{second}"],"e","nowhere"]"#));
    ask(&mut clients[0], "main", r#"["to",["e"],"f","e"]"#);
    ask(&mut clients[0], "main", r#"["to",["e"],"g","f"]"#);
    let rooms: Vec<String> =
        (0..4).map(|at| ask(&mut clients[at], if at == 3 { "other" } else { "main" }, r#"["rooms"]"#)).collect();
    assert_eq!(rooms, [r#"[["own","a","d"]]"#, r#"[["own","c"]]"#, r#"[["own","f"]]"#, r#"[["own","a"]]"#]);
}

/// Neither the rooms of a client nor its open questions grow beyond their bounds.
#[test]
fn rooms_and_open_acks_of_a_client_are_bounded() {
    let runtime = runtime();
    let _entered = runtime.enter();
    let limits = Limits { rooms_max: 4, ..config().limits };
    let server = Server::of(builder((), limits).socketio("/", |io| {
        io.on("join", async |socket: Socket, Data(room): Data<String>| drop(socket.join(&room)))
            .on("list", async |io: Io| io.fetch_sockets().await.unwrap()[0].rooms().len())
            .on("ask", async |socket: Socket| {
                let asks = (0..300).map(|n| socket.emit_with_ack::<u64>("?", n).timeout(LONG).into_future());
                let mut answers = futures_util::future::join_all(asks).await.into_iter().enumerate();
                let first = answers.position(|(_, answer)| answer.is_ok());
                first
                    .into_iter()
                    .chain(answers.filter_map(|(at, answer)| answer.is_err().then_some(at)))
                    .collect::<Vec<usize>>()
            })
    }));
    let mut client = enter(&server);
    for n in 0..10 {
        client.text(&format!(r#"420["join","{n}"]"#));
        assert_eq!(text(&mut client), "430[]");
    }
    client.text(r#"421["list"]"#);
    assert_eq!(text(&mut client), "431[4]");
    client.text(r#"422["ask"]"#);
    // 256 questions may be open: the first ones count as not to be answered.
    for _ in 0..300 {
        let question = text(&mut client);
        let (id, n) = question.strip_prefix("42").and_then(|it| it.split_once(r#"["?","#)).expect(&question);
        client.text(&format!("43{id}[{}]", n.trim_end_matches(']')));
    }
    let answered = text(&mut client);
    assert!(answered.starts_with("432["), "{answered}");
}

/// The built-in events have the same bounds.
#[test]
fn a_client_joins_a_bounded_number_of_rooms() {
    let socketio = SocketIoConfig { enabled: true, ..SocketIoConfig::default() };
    let limits = Limits { rooms_max: 4, ..config().limits };
    let server = Server::of(Fanfare::builder(()).config(Config { limits, socketio, ..config() }));
    let (mut flood, mut other) = (enter(&server), enter(&server));
    for n in 0..10 {
        flood.text(&format!(r#"42["join-room","{n}"]"#));
    }
    flood.text(r#"42["message",{"n":1}]"#);
    assert!(text(&mut flood).contains(r#""n":1"#));
    for n in [3, 7] {
        other.text(&format!(r#"42["join-room","{n}"]"#));
    }
    // It hears of the one who comes to a room that it is in, and of no other.
    assert!(text(&mut flood).starts_with(r#"42["user-joined""#));
    flood.text(r#"42["message",{"n":2}]"#);
    assert!(text(&mut flood).contains(r#""n":2"#));
}
