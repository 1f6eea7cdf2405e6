//! Connection state recovery of Socket.IO, by raw frames: a client that was cut off goes on as the same socket in its
//! rooms, with the events that it missed, again and again, by WebSocket and by polling, on any shard.

#![allow(clippy::unwrap_used)] // helpers stand outside of `#[test]`; a panic in one fails the test

mod support;

use fanfare::hub::Limits;
use fanfare::socketio::{Auth, Data, Io, Reason, Socket, SocketExtensions};
use fanfare::{Config, Fanfare, Identity, Refusal, SocketIoConfig, State, Token};
use fanfare_wire::websocket::Opcode;
use serde_json::{Value, json};
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;
use support::engine::Poller;
use support::socketio::{open, text};
use support::{Client, Frame, Server, config};
use tokio::sync::Semaphore;

fn recovering() -> Config {
    let socketio = SocketIoConfig {
        enabled: true,
        max_disconnection_duration: Duration::from_secs(120),
        namespaces: vec!["/admin".parse().expect("a name")],
        ..SocketIoConfig::default()
    };
    Config { socketio, ..config() }
}

fn server() -> Server {
    Server::of(Fanfare::builder(()).config(recovering()))
}

/// A connection of a client, by either transport. Dropped, it is cut without a word.
enum Link {
    Socket(Client),
    Polls { poller: Poller, packets: VecDeque<String> },
}

impl Link {
    fn open(server: &Server, polls: bool) -> Link {
        if polls {
            return Link::Polls { poller: Poller::open(server), packets: VecDeque::new() };
        }
        Link::Socket(open(server))
    }

    fn send(&mut self, packet: &str) {
        match self {
            Link::Socket(client) => client.text(packet),
            Link::Polls { poller, .. } => poller.post(packet),
        }
    }

    /// The next packet, but for pings.
    fn next(&mut self) -> String {
        loop {
            let packet = match self {
                Link::Socket(client) => text(client),
                Link::Polls { poller, packets } => match packets.pop_front() {
                    Some(packet) => packet,
                    None => {
                        packets.extend(poller.poll().split('\u{1e}').map(str::to_owned));
                        continue;
                    }
                },
            };
            if packet != "2" {
                return packet;
            }
        }
    }

    /// The next event: its arguments, and the offset behind them.
    fn event(&mut self, namespace: &str) -> (Value, String) {
        let text = self.next();
        event_of(&text, namespace).unwrap_or_else(|| panic!("an event was to come, not {text}"))
    }
}

fn event_of(text: &str, namespace: &str) -> Option<(Value, String)> {
    let mut event: Value = serde_json::from_str(text.strip_prefix(&format!("42{namespace}"))?).ok()?;
    let offset = event.as_array_mut()?.pop()?;
    if let Some(data) = event[1].as_object_mut() {
        data.remove("timestamp");
    }
    Some((event, offset.as_str()?.to_owned()))
}

/// What a client keeps of its socket.
#[derive(Debug, Clone, PartialEq)]
struct Known {
    sid: String,
    pid: String,
}

/// Enters a namespace with this payload. Returns the events that come before the answer, and the answer.
fn enter(link: &mut Link, namespace: &str, payload: &Value) -> (Vec<(Value, String)>, Known) {
    let payload = if payload.is_null() { String::new() } else { payload.to_string() };
    link.send(&format!("40{namespace}{payload}"));
    let mut missed = Vec::new();
    loop {
        let text = link.next();
        if text.starts_with(&format!("43{namespace}")) {
            continue; // an ack that it may not have had
        }
        let Some(connected) = text.strip_prefix(&format!("40{namespace}")) else {
            missed.push(event_of(&text, namespace).unwrap_or_else(|| panic!("neither event nor answer: {text}")));
            continue;
        };
        let connected: Value = serde_json::from_str(connected).unwrap();
        let part = |name: &str| connected[name].as_str().expect(name).to_owned();
        return (missed, Known { sid: part("sid"), pid: part("pid") });
    }
}

/// A client in a namespace and a room, which has had its own joining.
fn begin(server: &Server, polls: bool) -> (Link, Known) {
    let mut link = Link::open(server, polls);
    let (missed, known) = enter(&mut link, "", &Value::Null);
    assert!(missed.is_empty());
    (link, known)
}

/// Joins a room, and returns when that has taken effect: joins of two clients are in no order.
fn join(link: &mut Link) {
    link.send(r#"42["join-room","lobby"]"#);
    say(link, "joined");
}

/// Ada, by a WebSocket, and Bob, by either transport, of whose joining she has heard.
fn two_in_the_lobby(server: &Server, polls: bool) -> (Link, (Link, Known)) {
    let (mut ada, _) = begin(server, false);
    join(&mut ada);
    let (mut bob, known) = begin(server, polls);
    bob.send(r#"42["join-room","lobby"]"#);
    assert_eq!(ada.event("").0, json!(["user-joined", {"userId": known.sid}]));
    (ada, (bob, known))
}

fn say(speaker: &mut Link, text: &str) -> String {
    speaker.send(&format!(r#"42["message",{{"text":"{text}"}}]"#));
    let (event, offset) = speaker.event("");
    assert_eq!(event[1]["text"], text);
    offset
}

fn texts(missed: &[(Value, String)]) -> Vec<&str> {
    missed.iter().map(|(event, _)| event[1]["text"].as_str().unwrap_or("?")).collect()
}

#[test]
fn a_client_goes_on_again_and_again_with_what_it_missed() {
    for polls in [false, true] {
        let server = server();
        let (mut ada, (mut bob, known)) = two_in_the_lobby(&server, polls);
        let mut offset: Option<String> = None;
        for round in 0..4 {
            drop(bob);
            let missed: Vec<String> = (0..round).map(|number| format!("missed {round}.{number}")).collect();
            for text in &missed {
                say(&mut ada, text);
            }
            bob = Link::open(&server, polls);
            let (again, same) = enter(&mut bob, "", &json!({"pid": known.pid, "offset": offset}));
            assert_eq!((texts(&again), &same), (missed.iter().map(String::as_str).collect(), &known), "round {round}");
            // It is still in its room, and its first room is the one to which it speaks.
            let live = format!("live {round}");
            say(&mut ada, &live);
            let (event, at) = bob.event("");
            assert_eq!(event[1]["text"], live);
            bob.send(r#"42["typing",true]"#);
            assert_eq!(ada.event("").0, json!(["user-typing", {"userId": known.sid, "isTyping": true}]));
            offset = Some(at);
        }
    }
}

/// The answer to its return, or an event, was sent and did not arrive.
#[test]
fn what_was_lost_on_its_way_comes_again_once() {
    for polls in [false, true] {
        let server = server();
        let (mut ada, (mut bob, known)) = two_in_the_lobby(&server, polls);
        say(&mut ada, "1");
        let (_, offset) = bob.event("");
        say(&mut ada, "2"); // it is on its way, or in no answer to a poll yet
        drop(bob);
        for round in 0..3 {
            let mut bob = Link::open(&server, polls);
            let (missed, same) = enter(&mut bob, "", &json!({"pid": known.pid, "offset": offset, "token": "x"}));
            assert_eq!((texts(&missed), same), (vec!["2"], known.clone()), "round {round}");
        }
    }
}

#[test]
fn no_event_is_needed_before_a_cut() {
    for polls in [false, true] {
        let server = server();
        let (_, known) = begin(&server, polls);
        for _ in 0..3 {
            let (missed, same) = enter(&mut Link::open(&server, polls), "", &json!({"pid": known.pid}));
            assert_eq!((missed.len(), same), (0, known.clone()));
        }
    }
}

/// Each namespace of a connection is a socket of its own, also after a cut.
#[test]
fn all_namespaces_of_a_connection_go_on() {
    let server = server();
    let (mut ada, _) = begin(&server, false);
    enter(&mut ada, "/admin,", &Value::Null);
    ada.send(r#"42/admin,["join-room","lobby"]"#);
    ada.send(r#"42/admin,["message",{}]"#);
    ada.event("/admin,");
    let (mut bob, main) = begin(&server, false);
    let (_, admin) = enter(&mut bob, "/admin,", &Value::Null);
    bob.send(r#"42/admin,["join-room","lobby"]"#);
    ada.event("/admin,");
    drop(bob);
    ada.send(r#"42/admin,["message",{"text":"1"}]"#);
    ada.event("/admin,");
    let mut bob = Link::open(&server, false);
    let (missed, same) = enter(&mut bob, "/admin,", &json!({"pid": admin.pid}));
    assert_eq!((texts(&missed), same), (vec!["1"], admin.clone()));
    assert_eq!(enter(&mut bob, "", &json!({"pid": main.pid})).1, main);
    // A socket that has said goodbye does not go on. A `pid` opens no other namespace either.
    bob.send("41/admin,");
    let (_, other) = enter(&mut bob, "/admin,", &json!({"pid": admin.pid}));
    assert!(other.sid != admin.sid && other.pid != admin.pid);
    let mut cem = Link::open(&server, false);
    let (_, stranger) = enter(&mut cem, "/admin,", &json!({"pid": main.pid}));
    assert!(stranger.sid != main.sid && stranger.pid != main.pid);
}

#[test]
fn other_ends_and_other_names_begin_anew() {
    let server = server();
    let (mut ada, known) = begin(&server, false);
    let begins_anew = |payload: Value| {
        let mut link = Link::open(&server, false);
        let (missed, new) = enter(&mut link, "", &payload);
        assert!(missed.is_empty() && new.sid != known.sid && new.pid != known.pid, "{payload}");
    };
    begins_anew(json!({"pid": "none", "offset": "1-1"}));
    begins_anew(json!({"pid": 7, "offset": {}}));
    begins_anew(json!({"pid": known.pid, "offset": "the last argument of an event without an offset"}));
    ada.send("41");
    begins_anew(json!({"pid": known.pid}));
}

/// A client comes back before the server knows that its connection is cut.
#[test]
fn a_socket_moves_to_the_connection_of_its_client() {
    let server = server();
    let (mut old, known) = begin(&server, false);
    old.send(r#"42["join-room","lobby"]"#);
    old.send(r#"42["message",{"text":"1"}]"#);
    let (_, offset) = old.event("");
    let mut new = Link::open(&server, false);
    let (missed, same) = enter(&mut new, "", &json!({"pid": known.pid, "offset": offset}));
    assert_eq!((missed.len(), same), (0, known));
    say(&mut new, "2");
    let Link::Socket(mut old) = old else { panic!("a WebSocket") };
    old.closed();
}

#[test]
fn attachments_come_with_an_offset_and_come_again() {
    let server = server();
    let (mut ada, (bob, known)) = two_in_the_lobby(&server, false);
    drop(bob);
    ada.send(r#"451-["message",{"file":{"_placeholder":true,"num":0}}]"#);
    let Link::Socket(client) = &mut ada else { panic!("a WebSocket") };
    client.send(Opcode::Binary, &[1, 2, 3]);
    let live = client.next();
    assert_eq!(client.next(), Frame::Binary(vec![1, 2, 3]));
    let mut bob = Link::open(&server, false);
    bob.send(&format!("40{}", json!({"pid": known.pid})));
    let Link::Socket(client) = &mut bob else { panic!("a WebSocket") };
    assert_eq!(client.next(), live, "with the same offset");
    assert_eq!(client.next(), Frame::Binary(vec![1, 2, 3]));
    assert!(matches!(client.next(), Frame::Text(text) if text.starts_with("40") && text.contains(&known.pid)));
}

/// As [`recovering`], with guards that are asked each time.
fn asking() -> Config {
    let config = recovering();
    Config { socketio: SocketIoConfig { skip_middlewares: false, ..config.socketio }, ..config }
}

/// A client that comes with this payload, and the answer to its CONNECT.
fn enter_as(server: &Server, payload: Value) -> (Link, String) {
    let mut link = Link::open(server, false);
    link.send(&format!("40{payload}"));
    let text = link.next();
    (link, text)
}

/// The guard is asked again, and a socket goes on with its own user alone.
#[test]
fn a_guard_may_be_asked_again() {
    let guard = async |token: Token| match token.as_str() {
        "nobody" => Err(Refusal::denied("no")),
        user => Ok(Identity::user(user)),
    };
    let runtime = support::runtime();
    let _entered = runtime.enter();
    let server = Server::of(Fanfare::builder(()).config(asking()).on_connect(guard));
    let enter_as = |payload| enter_as(&server, payload);
    let (link, connected) = enter_as(json!({"token": "ada"}));
    let known: Value = serde_json::from_str(&connected[2..]).unwrap();
    drop(link);
    let pid = &known["pid"];
    assert_eq!(enter_as(json!({"token": "nobody", "pid": pid})).1, r#"44{"message":"认证错误"}"#);
    assert_ne!(enter_as(json!({"token": "bob", "pid": pid})).1, connected);
    assert_eq!(enter_as(json!({"token": "ada", "pid": pid})).1, connected);
}

/// How often the guards were asked, by the token.
type Asked = Arc<Mutex<Vec<String>>>;

/// Guards in both ways of the application: the handler of tokens, or the guard of a namespace with handlers.
fn guarded(config: Config, asked: Asked, has_handlers: bool) -> Server {
    #[derive(serde::Deserialize)]
    struct Login {
        token: String,
    }
    fn judge(asked: &Asked, token: &str) -> Result<Identity, Refusal> {
        asked.lock().unwrap().push(token.to_owned());
        if token == "nobody" { Err(Refusal::denied("no")) } else { Ok(Identity::user(token)) }
    }
    let builder = Fanfare::builder(asked).config(config);
    Server::of(match has_handlers {
        false => builder.on_connect(async |State(asked): State<Asked>, token: Token| judge(&asked, token.as_str())),
        true => builder.socketio("/", |io| {
            io.guard(async |State(asked): State<Asked>, Auth(Login { token }): Auth<Login>| judge(&asked, &token))
                .on_connect(async |socket: Socket| {
                    let user = socket.user().map(|user| user.to_string());
                    socket.emit("here", (socket.recovered(), user));
                })
                .on("message", async |socket: Socket, Data(text): Data<Value>| {
                    socket.emit("message", text);
                })
        }),
    })
}

/// As in the reference, whose `skipMiddlewares` is true by default: guards have let the socket in before. They are
/// asked where the client begins anew after all.
#[test]
fn guards_are_not_asked_about_a_socket_that_goes_on() {
    for has_handlers in [false, true] {
        let runtime = support::runtime();
        let _entered = runtime.enter();
        let asked = Asked::default();
        let server = guarded(recovering(), asked.clone(), has_handlers);
        let enter_as = |payload| enter_as(&server, payload);
        let were_asked = || std::mem::take(&mut *asked.lock().unwrap());
        // What the socket itself says, with its offset.
        let says = |link: &mut Link, recovered: bool| {
            if has_handlers {
                let (event, offset) = link.event("");
                assert_eq!(event, json!(["here", recovered, "ada"]));
                return offset;
            }
            link.send(r#"42["join-room","lobby"]"#);
            say(link, "hello")
        };
        let (mut link, connected) = enter_as(json!({"token": "ada"}));
        let mut offset = says(&mut link, false);
        assert_eq!(were_asked(), ["ada"]);
        let known: Value = serde_json::from_str(&connected[2..]).unwrap();
        let pid = &known["pid"];
        drop(link);
        for token in ["ada", "nobody", "bob"] {
            let (mut link, again) = enter_as(json!({"token": token, "pid": pid, "offset": offset}));
            assert_eq!(again, connected, "its user is the one of before");
            offset = says(&mut link, true);
            assert_eq!(were_asked(), [""; 0]);
        }
        // The socket is there, and the client has had an event of later: it begins anew, and the guard may refuse it.
        let (epoch, _) = offset.split_once('-').unwrap();
        let later = format!("{epoch}-ffffff");
        let refusal = if has_handlers { r#"44{"message":"no"}"# } else { r#"44{"message":"认证错误"}"# };
        let (mut link, refused) = enter_as(json!({"token": "nobody", "pid": pid, "offset": later}));
        assert_eq!((&*refused, were_asked()), (refusal, vec!["nobody".to_owned()]));
        // On this connection it tries again. The socket of before has ended.
        for wrong in [pid, &json!("no pid")] {
            link.send(&format!("40{}", json!({"token": "nobody", "pid": wrong, "offset": offset})));
            assert_eq!((&*link.next(), were_asked()), (refusal, vec!["nobody".to_owned()]));
        }
        link.send(&format!("40{}", json!({"token": "ada", "pid": pid, "offset": offset})));
        let connected = link.next();
        let new: Value = serde_json::from_str(connected.strip_prefix("40").expect(&connected)).unwrap();
        assert!(new["sid"] != known["sid"] && new["pid"] != known["pid"]);
        says(&mut link, false);
        assert_eq!(were_asked(), ["ada"]);
        // A user whom the application lets in begins anew at once.
        drop(link);
        let (mut link, anew) = enter_as(json!({"token": "ada", "pid": new["pid"], "offset": later}));
        let newer: Value = serde_json::from_str(&anew[2..]).unwrap();
        assert!(newer["sid"] != new["sid"] && newer["pid"] != new["pid"]);
        says(&mut link, false);
        assert_eq!(were_asked(), ["ada"]);
    }
}

#[test]
fn without_the_setting_there_are_neither_pids_nor_offsets() {
    let socketio = SocketIoConfig { enabled: true, ..SocketIoConfig::default() };
    let server = Server::of(Fanfare::builder(()).config(Config { socketio, ..config() }));
    let mut ada = Link::open(&server, false);
    ada.send("40");
    assert!(!ada.next().contains("pid"));
    ada.send(r#"42["join-room","lobby"]"#);
    ada.send(r#"42["message",1]"#);
    let said: Value = serde_json::from_str(ada.next().strip_prefix("42").unwrap()).unwrap();
    assert_eq!(said.as_array().map(Vec::len), Some(2));
}

/// What handlers tell the test, and what a slow one waits for.
#[derive(Clone)]
struct Stage(mpsc::Sender<String>, Arc<Semaphore>);

impl Stage {
    fn say(&self, text: impl Into<String>) {
        let _ = self.0.send(text.into()); // a test that has failed
    }
}

/// The rooms of a socket, in order, with its id as `own`.
fn rooms(socket: &Socket) -> Vec<String> {
    let all = socket.rooms();
    all.iter().map(|room| if room.as_str() == socket.id() { "own" } else { room.as_str() }.to_owned()).collect()
}

/// Handlers see what those of the reference see: `disconnect` at the cut, then `connection` with `recovered`, the rooms
/// and the values. A value that a guard has put there since counts.
#[test]
fn handlers_know_a_socket_that_goes_on() {
    #[derive(serde::Deserialize)]
    struct Visit {
        visit: Option<u32>,
    }
    #[derive(Clone)]
    struct Seen(u32);
    for polls in [false, true] {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let _entered = runtime.enter();
        let (told, tells) = mpsc::channel::<String>();
        let gate = Arc::new(Semaphore::new(0));
        let limits = Limits { hook_timeout_ms: 600_000, ..config().limits };
        let config = Config { limits, ..asking() };
        let builder = Fanfare::builder(Stage(told, gate.clone())).config(config).socketio("/", |io| {
            io.guard(async |Auth(Visit { visit }): Auth<Visit>, data: SocketExtensions| {
                if let Some(visit) = visit {
                    data.insert(Seen(visit));
                }
            })
            .on_connect(async |State(stage): State<Stage>, socket: Socket, data: SocketExtensions| {
                let seen = data.get::<Seen>().map(|Seen(visit)| visit);
                let name = socket.data().get::<String>();
                stage.say(format!("connect {} {:?} {seen:?} {name:?}", socket.recovered(), rooms(&socket)));
                data.insert("Ada".to_owned());
            })
            .on("join", async |socket: Socket, Data(room): Data<String>| drop(socket.join(&room)))
            .on("slow", async |State(stage): State<Stage>| {
                stage.say("slow");
                stage.1.acquire().await.unwrap().forget();
                stage.say("slow is done");
            })
            .on("say", async |io: Io, Data(room): Data<String>| {
                drop(io.to(&room).emit("said", json!({"text": "missed"})))
            })
            .on("find", async |io: Io, Data(room): Data<String>| {
                io.in_(&room).sockets_join("found").await.unwrap();
                io.in_("found").fetch_sockets().await.unwrap().len()
            })
            .on_disconnect(async |State(stage): State<Stage>, socket: Socket, reason: Reason| {
                stage.say(format!("disconnect {:?} {}", rooms(&socket), socket.connected()));
                assert!(matches!(
                    reason.as_str(),
                    "transport close" | "forced server close" | "client namespace disconnect"
                ));
            })
        });
        let server = Server::of(builder);
        let next = || tells.recv_timeout(support::DEADLINE).expect("a handler says something");
        let (mut bob, _) = begin(&server, false);
        assert_eq!(next(), r#"connect false ["own"] None None"#);
        let mut link = Link::open(&server, polls);
        let (_, known) = enter(&mut link, "", &json!({"visit": 1}));
        assert_eq!(next(), r#"connect false ["own"] Some(1) None"#);
        for room in ["a", "b"] {
            link.send(&format!(r#"421["join","{room}"]"#));
            assert_eq!(link.next(), "431[]");
        }
        for round in 2..5 {
            link.send(r#"42["slow"]"#);
            assert_eq!(next(), "slow");
            drop(link);
            bob.send(r#"421["say","a"]"#);
            assert_eq!(bob.next(), "431[]");
            link = Link::open(&server, polls);
            let visit = if round == 3 { json!({"pid": known.pid}) } else { json!({"pid": known.pid, "visit": round}) };
            let (missed, same) = enter(&mut link, "", &visit);
            assert_eq!(same, known);
            // All that came before the cut is handled first.
            gate.add_permits(1);
            assert_eq!(next(), "slow is done");
            let in_rooms = if round == 2 { r#"["own", "a", "b"]"# } else { r#"["own", "a", "b", "found"]"# };
            assert_eq!(next(), format!("disconnect {in_rooms} false"));
            let visit = if round == 3 { 2 } else { round };
            assert_eq!(next(), format!(r#"connect true {in_rooms} Some({visit}) Some("Ada")"#));
            // It never said how much it had, and has answered no ping. Behind a join by another handler, what it missed
            // comes behind its return.
            assert!(round > 2 || texts(&missed) == ["missed"], "{missed:?}");
            // It is found by its rooms, as what it is now.
            link.send(&format!(r#"42{round}7["find","b"]"#));
            let mut said = texts(&missed).len();
            loop {
                match link.next() {
                    ack if ack.starts_with(&format!("43{round}7")) => break assert!(ack.ends_with("[1]"), "{ack}"),
                    packet => said += usize::from(packet.contains("missed")),
                }
            }
            assert_eq!(said, round - 1);
        }
        link.send("41");
        assert_eq!(next(), r#"disconnect ["own", "a", "b", "found"] false"#);
        let (_, new) = enter(&mut link, "", &json!({"pid": known.pid}));
        assert_ne!(new, known);
        assert_eq!(next(), r#"connect false ["own"] None None"#, "it has left for good");
    }
}

/// All of them are cut at once, and messages go on.
#[test]
fn two_thousand_clients_go_on_each_with_all_that_it_missed() {
    const GROUPS: usize = 20;
    const CLIENTS: usize = 2_000;
    let runtime = support::runtime();
    let _entered = runtime.enter();
    let server = Server::of(Fanfare::builder(()).config(recovering()).socketio("/", |io| {
        io.on("join", async |socket: Socket, Data(room): Data<String>| drop(socket.join(&room)))
            .on("say", async |io: Io, Data(n): Data<u64>| drop(io.to("all").emit("said", json!({"text": n}))))
    }));
    let server = &server;
    let joined = || {
        let (mut link, known) = begin(server, false);
        link.send(r#"421["join","all"]"#);
        assert_eq!(link.next(), "431[]");
        (link, known)
    };
    let (mut ada, _) = joined();
    let mut say = |n: usize| {
        ada.send(&format!(r#"42["say",{n}]"#));
        assert_eq!(ada.event("").0, json!(["said", {"text": n}]));
    };
    // The groups come at the same time: one after the other their ways to the server and back would add up.
    let groups: Vec<Vec<(Link, Known)>> = std::thread::scope(|scope| {
        let come = || (0..CLIENTS / GROUPS).map(|_| joined()).collect();
        let groups: Vec<_> = (0..GROUPS).map(|_| scope.spawn(come)).collect();
        groups.into_iter().map(|group| group.join().unwrap()).collect()
    });
    say(0);
    // All are cut without a word.
    let groups: Vec<Vec<Known>> =
        groups.into_iter().map(|group| group.into_iter().map(|(_, known)| known).collect()).collect();
    (1..=20).for_each(&mut say);
    std::thread::scope(|scope| {
        let (is_back, returns) = mpsc::channel::<()>();
        let back = |group: Vec<Known>, is_back: mpsc::Sender<()>| {
            let mut links = Vec::new();
            for known in group {
                let mut link = Link::open(server, false);
                let (missed, same) = enter(&mut link, "", &json!({"pid": known.pid}));
                assert_eq!(same, known);
                assert!(missed.len() > 20, "they come before the answer: {missed:?}");
                let heard: Vec<Value> = missed.into_iter().map(|(event, _)| event).collect();
                links.push((link, heard));
                is_back.send(()).unwrap();
            }
            links
        };
        let groups: Vec<_> = groups
            .into_iter()
            .map(|group| (group, is_back.clone()))
            .map(|(group, is_back)| scope.spawn(move || back(group, is_back)))
            .collect();
        drop(is_back);
        // Ada goes on between their returns.
        let mut last = 20;
        for (n, ()) in returns.iter().enumerate() {
            if n % 50 == 49 {
                last += 1;
                say(last);
            }
        }
        let all: Vec<Value> = (0..=last).map(|n| json!(["said", {"text": n}])).collect();
        for group in groups {
            for (mut link, mut heard) in group.join().unwrap() {
                heard.extend((heard.len()..all.len()).map(|_| link.event("").0).collect::<Vec<Value>>());
                assert_eq!(heard, all, "each once, and in order");
            }
        }
    });
}
