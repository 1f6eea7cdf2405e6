//! Every request of a session is answered, whatever it waits for and however the session ends.

use super::*;
use std::net::TcpStream;

/// Requests that wait, with their session.
struct Waiting {
    bob: Poller,
    /// Its socket in the namespace.
    id: String,
    requests: Vec<TcpStream>,
    _websocket: Option<Client>,
}

impl Waiting {
    fn of(server: &Server) -> Waiting {
        let (bob, id) = Poller::enter(server);
        bob.post(r#"42["join-room","all"]"#);
        Waiting { bob, id, requests: Vec::new(), _websocket: None }
    }

    fn polls(mut self) -> Waiting {
        self.requests.push(self.bob.wait());
        self
    }

    fn posts(mut self, packets: &[String]) -> Waiting {
        self.requests.push(posting(&self.bob, packets));
        self
    }
}

/// Its GET waits for packets.
fn a_get(server: &Server) -> Waiting {
    Waiting::of(server).polls()
}

/// Its POST waits until there is room in the outbox.
fn a_post_for_room(server: &Server) -> Waiting {
    Waiting::of(server).posts(&filling(300))
}

/// The same on the way to a WebSocket, with a POST behind it.
fn posts_with_an_upgrade(server: &Server) -> Waiting {
    let mut waiting = Waiting::of(server).posts(&filling(300));
    waiting._websocket = Some(waiting.bob.probed());
    assert_eq!(&*response(&mut waiting.requests.remove(0)).body, "ok");
    waiting.posts(&filling(100))
}

/// Its POST waits for handlers.
fn a_post_for_handlers(server: &Server) -> Waiting {
    let waiting = Waiting::of(server);
    waiting.bob.post("40/held,");
    waiting.bob.until("40/held,");
    waiting.posts(&(0..100).map(|n| format!(r#"42/held,{n}["say",{n}]"#)).collect::<Vec<_>>())
}

fn a_get_and_a_post(server: &Server) -> Waiting {
    a_post_for_handlers(server).polls()
}

const HALF: &str = r#"42["mess"]"#;

/// The body of its POST is on its way.
fn half_a_post(server: &Server) -> Waiting {
    let mut waiting = Waiting::of(server);
    waiting.requests.push(begins_to_post(&waiting.bob, HALF));
    waiting
}

/// A server whose handlers in the namespace `/held` wait until the gate is opened.
struct Held {
    server: Server,
    gate: Arc<Semaphore>,
    _runtime: tokio::runtime::Runtime,
}

impl Held {
    fn server(socketio: SocketIoConfig, pong_timeout_ms: u64) -> Held {
        let runtime = support::runtime();
        let _entered = runtime.enter();
        let gate = Arc::new(Semaphore::new(0));
        let held = gate.clone();
        let limits =
            Limits { outbox_bytes_max: 4_096, connect_timeout_ms: 600_000, pong_timeout_ms, ..config().limits };
        let builder = Fanfare::builder(()).config(Config { socketio, limits, ..config() });
        let server = Server::of(builder.socketio("/held", move |io| {
            io.on("say", move |Data(n): Data<u64>| {
                let held = held.clone();
                async move {
                    held.acquire().await.unwrap().forget();
                    n
                }
            })
        }));
        drop(_entered);
        Held { server, gate, _runtime: runtime }
    }
}

type Waits = (&'static str, fn(&Server) -> Waiting);

const WAITS: [Waits; 6] = [
    ("a GET", a_get),
    ("a POST for room", a_post_for_room),
    ("POSTs on the way to a WebSocket", posts_with_an_upgrade),
    ("a POST for handlers", a_post_for_handlers),
    ("a GET and a POST", a_get_and_a_post),
    ("half a POST", half_a_post),
];

fn are_answered(name: &str, waiting: Waiting) {
    println!("{name}"); // shown where an answer does not come
    for mut request in waiting.requests {
        let answer = response(&mut request);
        assert!(matches!(answer.status(), 200 | 400), "{name}: {} {}", answer.status(), answer.body);
    }
}

#[test]
fn requests_of_a_session_that_its_client_ends_are_answered() {
    let Held { server, .. } = &Held::server(socketio(), 600_000);
    type Ends = fn(Waiting) -> Waiting;
    let ends: [(&str, Ends); 5] = [
        ("more GETs", |waiting| waiting.polls().polls()),
        ("another POST", |waiting| waiting.posts(&["3".to_owned()])),
        ("nothing else", |waiting| waiting),
        ("a packet to close", |waiting| waiting.posts(&["1".to_owned()])),
        ("the upgrade", |mut waiting| {
            let mut websocket = waiting._websocket.take().unwrap_or_else(|| waiting.bob.probed());
            websocket.text("5");
            // The body that it still waits for comes.
            for request in &mut waiting.requests {
                let _ = request.write_all(HALF.as_bytes().get(1..).unwrap_or_default());
            }
            waiting
        }),
    ];
    for (name, begins) in WAITS {
        for (end, ends) in ends {
            let waiting = ends(begins(server));
            // Requests overtake each other, so the session may go on. A POST of bytes ends it, without a WebSocket.
            ask(server.address, "POST", &waiting.bob.query(), "application/octet-stream", "4");
            are_answered(&format!("{name}, {end}"), waiting);
        }
    }
}

#[test]
fn requests_of_a_session_that_the_application_ends_are_answered() {
    let Held { server, .. } = &Held::server(socketio(), 600_000);
    let hub = server.running().handle();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    for (name, begins) in WAITS {
        for _ in 0..ROUNDS {
            let waiting = begins(server);
            let whom = Whom::Client(waiting.id.parse().unwrap());
            assert_eq!(runtime.block_on(hub.disconnect(whom, Disconnect::Kicked)), Ok(1));
            are_answered(name, waiting);
        }
    }
}

#[test]
fn requests_of_a_session_that_falls_silent_are_answered() {
    // They must begin before the first ping.
    let socketio = SocketIoConfig { ping_interval: Duration::from_secs(3), ..socketio() };
    let Held { server, .. } = &Held::server(socketio, 1_000);
    for (name, waiting) in WAITS.map(|(name, begins)| (name, begins(server))) {
        are_answered(name, waiting);
    }
}

#[test]
fn requests_are_answered_when_the_server_stops() {
    for (name, begins) in WAITS {
        let Held { server, gate, _runtime } = Held::server(socketio(), 600_000);
        let mut waiting = begins(&server);
        let stops = std::thread::spawn(move || server.drain());
        gate.add_permits(1_000);
        for request in &mut waiting.requests {
            let mut answer = Vec::new();
            match request.read_to_end(&mut answer) {
                Ok(_) => {}
                // It has come too late: nobody has accepted its connection.
                Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset, "{name}"),
            }
        }
        stops.join().unwrap();
    }
}
