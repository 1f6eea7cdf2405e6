//! A small server in the test's process: one shard of the real hub, and the real codecs, over real sockets. It has none
//! of the parts that make a server fast or safe. It can cut its connections, and counts them.

// Clippy allows unwrap in tests, but does not recognise helpers of tests; and not every test uses every helper.
#![allow(clippy::unwrap_used, dead_code)]

#[cfg(feature = "tls")]
pub(crate) mod tls;
pub(crate) mod transcript;

use fanfare_hub::{
    Command, ConnId, Connect, Disconnect, Effect, Effects, Error, ErrorCode, HeartbeatKind, HookAnswer, Hooks,
    Identified, Input, Limits, MemoryStore, Now, Opened, OverRate, Pattern, Push, Question, Reply, ReplyBody, Request,
    Rule, Rules, Seat, Shard, ShardConfig, ShardId, UserId, WireId,
};
use fanfare_wire::native::{self, ConnectedExtras, ConnectedLimits, Decoded, PROTOCOL};
use fanfare_wire::ticket::{self, Claims};
use fanfare_wire::websocket::{self, Decoder, Event, Opcode, Role};
use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::time::Instant;

const KEY: &[u8] = b"the test's";

/// The server. It ends with the test's runtime.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    /// Connections accepted so far.
    pub(crate) accepted: Arc<AtomicUsize>,
    events: mpsc::UnboundedSender<FromSocket>,
    _deadline: Deadline,
}

/// The time of a test that has not ended by itself: it is longer than the deadline of any wait in it. A test that goes
/// round in circles reaches no wait, and no timer of its runtime fires.
const TEST_MAX: Duration = Duration::from_secs(120);

/// Ends the program, with the name of the test, if it is not dropped in time.
pub(crate) struct Deadline(#[allow(unused)] std::sync::mpsc::Sender<()>);

impl Deadline {
    pub(crate) fn of_this_test() -> Self {
        let (sender, dropped) = std::sync::mpsc::channel::<()>();
        let name = std::thread::current().name().unwrap_or("a test").to_owned();
        std::thread::spawn(move || {
            if dropped.recv_timeout(TEST_MAX) == Err(std::sync::mpsc::RecvTimeoutError::Timeout) {
                eprintln!("{name} has not ended after {} s", TEST_MAX.as_secs());
                std::process::exit(1);
            }
        });
        Deadline(sender)
    }
}

enum FromSocket {
    Opened(u64, mpsc::UnboundedSender<Vec<u8>>),
    Text(u64, String),
    Closed(u64),
    /// From the test: drop all connections without a close.
    CutAll,
    /// From the test: the application disconnects all clients.
    KickAll,
}

impl Server {
    /// All clients may do everything in every channel of the form `x` or `x:y`.
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let accepted = Arc::new(AtomicUsize::new(0));
        let (events, received) = mpsc::unbounded_channel();
        // A shard stays on its thread; it ends when the last sender to it is dropped.
        std::thread::spawn(|| {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
            runtime.block_on(Hub::new().run(received));
        });
        let (count, to_hub) = (accepted.clone(), events.clone());
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                stream.set_nodelay(true).unwrap();
                let number = count.fetch_add(1, Ordering::SeqCst) as u64;
                tokio::spawn(serve(stream, number, to_hub.clone()));
            }
        });
        Server { address, accepted, events, _deadline: Deadline::of_this_test() }
    }

    pub(crate) fn url(&self) -> String {
        format!("ws://{}", self.address)
    }

    pub(crate) fn cut_all(&self) {
        self.events.send(FromSocket::CutAll).ok().unwrap();
    }

    pub(crate) fn kick_all(&self) {
        self.events.send(FromSocket::KickAll).ok().unwrap();
    }
}

/// Shakes hands, then carries messages until either side has gone.
async fn serve(mut stream: TcpStream, number: u64, hub: mpsc::UnboundedSender<FromSocket>) {
    let mut buffer = vec![0; 64 << 10];
    let mut len = 0;
    loop {
        let read = stream.read(&mut buffer[len..]).await.unwrap_or(0);
        if read == 0 {
            return;
        }
        len += read;
        let mut headers = [httparse::EMPTY_HEADER; 32];
        let mut head = httparse::Request::new(&mut headers);
        if !head.parse(&buffer[..len]).unwrap().is_complete() {
            continue;
        }
        assert_eq!(head.path, Some("/v1/ws"));
        let pairs = head.headers.iter().map(|header| (header.name, header.value));
        let accepted = websocket::accept(head.method.unwrap(), head.version.unwrap(), pairs).unwrap();
        let mut response = Vec::new();
        accepted.respond(&mut response, Some(PROTOCOL), &[]);
        stream.write_all(&response).await.unwrap();
        break;
    }
    let (frames, mut to_write) = mpsc::unbounded_channel::<Vec<u8>>();
    hub.send(FromSocket::Opened(number, frames)).ok().unwrap();
    let mut decoder = Decoder::new(Role::Server, websocket::Limits { message_bytes_max: 1 << 20 });
    loop {
        tokio::select! {
            frame = to_write.recv() => match frame {
                Some(frame) => {
                    if stream.write_all(&frame).await.is_err() {
                        break;
                    }
                }
                None => break,
            },
            read = stream.read(&mut buffer) => {
                let len = read.unwrap_or(0);
                let mut input = &mut buffer[..len];
                while let Ok(Some(event)) = decoder.decode(&mut input) {
                    if let Event::Text(text) = event {
                        let _ = hub.send(FromSocket::Text(number, text.to_owned()));
                    }
                }
                if len == 0 {
                    break;
                }
            }
        }
    }
    let _ = hub.send(FromSocket::Closed(number));
}

struct Hub {
    shard: Shard,
    start: Instant,
    conns: HashMap<u64, (ConnId, mpsc::UnboundedSender<Vec<u8>>)>,
    wake_ms: Option<u64>,
    /// Inputs that arose while effects were executed.
    inputs: VecDeque<Input>,
}

impl Hub {
    fn new() -> Self {
        let limits = Limits::default();
        // The history is longer than any test needs: a gap is then a fault. One channel keeps a single publication.
        let rules = [("doc:short", 1), ("*", 10_000), ("*:*", 10_000)].map(|(pattern, count)| {
            let mut rule = Rule::open(Pattern::new(pattern).unwrap());
            (rule.history.count, rule.history.bytes) = (count, 64 << 20);
            rule
        });
        let store = Box::new(MemoryStore::new(&limits, 1));
        let config = ShardConfig {
            me: ShardId(0),
            shards: 1,
            rules: Arc::new(Rules::new(rules.into())),
            hooks: Arc::new(Hooks {
                connect: true,
                subscribe: vec![Pattern::new("doc:closed").unwrap()],
                publish: vec![Pattern::new("doc:*").unwrap()],
                rpc: true,
                disconnect: false,
                ..Hooks::default()
            }),
            limits: Arc::new(limits),
            seed: 1,
            placement_key: 1,
        };
        let shard = Shard::new(config, store, Now::default());
        Hub { shard, start: Instant::now(), conns: HashMap::new(), wake_ms: None, inputs: VecDeque::new() }
    }

    async fn run(mut self, mut received: mpsc::UnboundedReceiver<FromSocket>) {
        loop {
            let wake_at = self.start + Duration::from_millis(self.wake_ms.unwrap_or(3_600_000));
            tokio::select! {
                event = received.recv() => match event {
                    Some(event) => self.event(event),
                    None => return,
                },
                () = tokio::time::sleep_until(wake_at) => self.tell(Input::Wake),
            }
        }
    }

    fn event(&mut self, event: FromSocket) {
        match event {
            FromSocket::Opened(number, frames) => {
                let conn = ConnId { index: number as u32, generation: 0 };
                self.conns.insert(number, (conn, frames));
                let opened = Opened {
                    wire: WireId(0),
                    grace_ms: 10_000,
                    heartbeat_ms: 25_000,
                    heartbeat: HeartbeatKind::Asks,
                    connect_timeout_ms: None,
                    over_rate: OverRate::Refuse,
                    attachment: None,
                };
                self.tell(Input::Opened { conn, opened });
            }
            FromSocket::Text(number, text) => {
                let Some(&(conn, _)) = self.conns.get(&number) else { return };
                let mut commands = Vec::new();
                native::decode(&text, &native::Limits::default(), &mut commands);
                for decoded in commands {
                    self.decoded(conn, decoded);
                }
            }
            FromSocket::Closed(number) => {
                if let Some((conn, _)) = self.conns.remove(&number) {
                    self.tell(Input::Closed { conn, finally: false });
                }
            }
            FromSocket::CutAll => {
                for (conn, _) in std::mem::take(&mut self.conns).into_values() {
                    self.tell(Input::Closed { conn, finally: false });
                }
            }
            FromSocket::KickAll => {
                let all: Vec<ConnId> = self.conns.values().map(|(conn, _)| *conn).collect();
                for conn in all {
                    self.tell(Input::Close { conn, reason: Disconnect::Kicked });
                }
            }
        }
    }

    fn decoded(&mut self, conn: ConnId, decoded: Decoded) {
        let request = match decoded {
            Decoded::Request(request) => request,
            Decoded::Connect { id, token, ticket, page, ack, subscribe } => {
                let claims = ticket.and_then(|ticket| ticket::open(&ticket, KEY, 1).ok());
                let resume = claims.map(Claims::resume);
                let connect = Connect { token, resume, page, ack, subscribe, ..Connect::default() };
                Request { id, command: Command::Connect(Box::new(connect)) }
            }
        };
        self.tell(Input::Command { conn, seat: Seat::default(), request });
    }

    fn tell(&mut self, input: Input) {
        let elapsed = self.start.elapsed().as_millis() as u64;
        let now = Now { mono_ms: elapsed, wall_ms: 1_700_000_000_000 + elapsed };
        let mut effects = Effects::new();
        self.inputs.push_back(input);
        while let Some(input) = self.inputs.pop_front() {
            effects.clear();
            self.shard.handle(now, input, &mut effects);
            for effect in effects.take_list() {
                self.act(now, effect, &effects);
            }
            if effects.again() && self.inputs.is_empty() {
                self.inputs.push_back(Input::Continue);
            }
        }
        self.wake_ms = effects.wake_ms();
    }

    fn act(&mut self, now: Now, effect: Effect, effects: &Effects) {
        let mut out = Vec::new();
        match effect {
            Effect::Push { push, to, .. } => {
                native::encode_push(&mut out, &push);
                for conn in effects.recipients(to) {
                    self.write(u64::from(conn.index), &out);
                }
            }
            Effect::Reply { conn, reply, .. } => {
                let ticket = ticket_of(&reply);
                let limits = ConnectedLimits::from(&Limits::default());
                let extras = ConnectedExtras { ticket: &ticket, features: &["rpc"], limits };
                native::encode_reply(&mut out, &reply, Some(&extras));
                self.write(u64::from(conn.index), &out);
            }
            Effect::Close { conn, reason } => {
                native::encode_push(&mut out, &Push::Disconnect { reason, delay_ms: 0 });
                self.write(u64::from(conn.index), &out);
                self.conns.remove(&u64::from(conn.index));
            }
            Effect::Ask { token, question, .. } => {
                let answer = Box::new(application(now, &question));
                self.inputs.push_back(Input::HookAnswer { token, answer });
            }
            Effect::Pause(_)
            | Effect::Resume(_)
            | Effect::Tell { .. }
            | Effect::Answer { .. }
            | Effect::Answers { .. }
            | Effect::Describe(_)
            | Effect::Forwarded(_)
            | Effect::Notice(_) => {}
        }
    }

    fn write(&self, number: u64, text: &[u8]) {
        if let Some((_, frames)) = self.conns.get(&number) {
            let mut frame = Vec::new();
            websocket::put_frame(&mut frame, Opcode::Text, text, None);
            let _ = frames.send(frame);
        }
    }
}

/// The application. A token is the user's name, and `for` gives its lifetime in ms; `wrong` is invalid. No client may
/// publish `null` or enter the channel `doc:closed`. The only method, `echo`, answers with its payload.
fn application(now: Now, question: &Question) -> HookAnswer {
    let refused = |code, message: &str| HookAnswer::Refused(Error::new(code, message));
    match question {
        Question::Connect { token: None } => HookAnswer::Identity(Identified::default()),
        Question::Connect { token: Some(token) } | Question::Refresh { token, .. } => {
            let (user, ms) = token.split_once(" for ").unwrap_or((token, ""));
            if user == "wrong" {
                return refused(ErrorCode::Unauthorized, "the token is not one of ours");
            }
            let user = Some(UserId(Arc::from(user)));
            let expires_ms = ms.parse::<u64>().ok().map(|ms| now.wall_ms + ms);
            HookAnswer::Identity(Identified { user, expires_ms, ..Identified::default() })
        }
        Question::Subscribe { .. } => refused(ErrorCode::Denied, "members only"),
        Question::Publish { publish, .. } if &publish.data.bytes()[..] == b"null" => {
            refused(ErrorCode::Denied, "say something")
        }
        Question::Publish { publish, .. } => HookAnswer::Publish(publish.clone()),
        Question::Rpc { data, method, .. } if &**method == "echo" => HookAnswer::Result(data.clone()),
        Question::Rpc { method, .. } => refused(ErrorCode::NotFound, &format!("there is no method {method:?}")),
    }
}

fn ticket_of(reply: &Reply) -> String {
    let ReplyBody::Connected(connected) = &reply.body else { return String::new() };
    let claims = Claims { node: 0, shard: ShardId(0), client: connected.client, expires_ms: 1 << 50 };
    ticket::seal(&claims, KEY)
}

/// A client without logic: it sends and receives texts.
pub(crate) struct Peer {
    stream: TcpStream,
    decoder: Decoder,
    texts: VecDeque<String>,
}

impl Peer {
    pub(crate) async fn connect(server: &Server, protocol: &str) -> Self {
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        let key = websocket::client_key([7; 16]);
        let mut head = Vec::new();
        websocket::request(&mut head, "localhost", "/v1/ws", &key, &[protocol], &[]);
        stream.write_all(&head).await.unwrap();
        let mut answer = Vec::new();
        while !answer.ends_with(b"\r\n\r\n") {
            answer.push(stream.read_u8().await.unwrap());
        }
        assert!(answer.starts_with(b"HTTP/1.1 101 "), "{}", String::from_utf8_lossy(&answer));
        let decoder = Decoder::new(Role::Client, websocket::Limits { message_bytes_max: 1 << 20 });
        Peer { stream, decoder, texts: Default::default() }
    }

    pub(crate) async fn send(&mut self, text: &str) {
        let mut frame = Vec::new();
        websocket::put_frame(&mut frame, Opcode::Text, text.as_bytes(), Some([1, 2, 3, 4]));
        // A connection that was closed meanwhile shows that at the next read.
        let _ = self.stream.write_all(&frame).await;
    }

    /// The next message, within a limit.
    pub(crate) async fn next(&mut self) -> String {
        let mut buffer = vec![0; 16 << 10];
        while self.texts.is_empty() {
            let read = tokio::time::timeout(Duration::from_secs(30), self.stream.read(&mut buffer)).await;
            let len = read.expect("a message comes").unwrap();
            assert!(len > 0, "the server hung up");
            let mut input = &mut buffer[..len];
            while let Some(event) = self.decoder.decode(&mut input).unwrap() {
                if let Event::Text(text) = event {
                    self.texts.push_back(text.to_owned());
                }
            }
        }
        self.texts.pop_front().unwrap()
    }
}
