//! The operations of a namespace, as clients see them in the packets of Engine.IO.

use super::Namespace;
use crate::config::{Config, SocketIoConfig};
use crate::protocol::socketio::data_of;
use crate::server::{Fanfare, Running};
use bytes::Bytes;
use fanfare_hub::{Audience, ClientId, Data, ErrorCode, Limits, MemberInfo, Pattern, Room, Rule, Rules};
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::Runtime;

const LONG: Duration = Duration::from_secs(600);

/// A server, and its namespace `/admin`.
struct World {
    running: Option<Running>,
    runtime: Runtime,
    namespace: Namespace,
    address: SocketAddr,
}

impl World {
    fn new(limits: Limits) -> World {
        let namespaces = vec!["/admin".parse().expect("a name")];
        let socketio = SocketIoConfig { enabled: true, namespaces, connect_timeout: LONG, ..SocketIoConfig::default() };
        let rules = Arc::new(Rules::new(vec![Rule::open(Pattern::new("**").expect("a pattern"))]));
        let config = Config { socketio, rules, limits, shards: 2, ..Config::default() };
        let server = Fanfare::builder(()).config(config).build().expect("good settings");
        let namespace = Namespace::new(server.handle(), "/admin").expect("a name");
        let address: SocketAddr = "127.0.0.1:0".parse().expect("an address");
        let running = server.start(&[address.into()]).expect("a free port");
        let address = running.tcp_address().expect("TCP");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        World { running: Some(running), runtime, namespace, address }
    }

    fn emit(&self, audience: Audience, json: &str) {
        self.runtime.block_on(self.namespace.emit(audience, event(json))).expect("it is published");
    }

    fn join(&self, audience: Audience, name: &str) {
        self.runtime.block_on(self.namespace.join(audience, vec![room(name)])).expect("it has its place");
    }

    fn list(&self, audience: Audience) -> Vec<MemberInfo> {
        self.runtime.block_on(self.namespace.list(audience)).expect("a list")
    }

    fn enter(&self) -> Client {
        let opened = ask(self.address, "GET", "", "");
        let sid = opened.split('"').nth(3).expect(&opened).to_owned();
        let mut client = Client { address: self.address, sid, waiting: Vec::new(), id: ClientId(0) };
        client.say("40/admin,");
        let entered = client.next();
        client.id = entered.split('"').nth(3).expect(&entered).parse().expect("an id");
        client
    }
}

impl Drop for World {
    fn drop(&mut self) {
        drop(self.running.take());
    }
}

/// A client that polls.
struct Client {
    address: SocketAddr,
    sid: String,
    waiting: Vec<String>,
    id: ClientId,
}

impl Client {
    fn say(&self, packets: &str) {
        assert_eq!(ask(self.address, "POST", &self.sid, packets), "ok");
    }

    /// The next packet.
    fn next(&mut self) -> String {
        while self.waiting.is_empty() {
            let body = ask(self.address, "GET", &self.sid, "");
            self.waiting = body.split('\u{1e}').rev().map(str::to_owned).collect();
        }
        self.waiting.pop().expect("one waits")
    }
}

/// The body of the answer to a request on a connection of its own.
fn ask(address: SocketAddr, method: &str, sid: &str, body: &str) -> String {
    let mut socket = TcpStream::connect(address).expect("a server");
    socket.set_read_timeout(Some(Duration::from_secs(60))).expect("a socket");
    let sid = if sid.is_empty() { String::new() } else { format!("&sid={sid}") };
    let len = body.len();
    let head = format!(
        "{method} /socket.io/?EIO=4&transport=polling{sid} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\
         Content-Length: {len}\r\n\r\n{body}"
    );
    socket.write_all(head.as_bytes()).expect("it reads");
    let mut answer = String::new();
    socket.read_to_string(&mut answer).expect("an answer");
    answer.split_once("\r\n\r\n").expect("a head").1.to_owned()
}

fn room(name: &str) -> Room {
    Room::new(name).expect("a short name")
}

fn event(json: &str) -> Data {
    data_of(json.into(), &[]).expect("short enough")
}

fn only(clients: &[&Client]) -> Audience {
    Audience { only: clients.iter().map(|client| client.id).collect(), ..Audience::default() }
}

fn to(name: &str) -> Audience {
    Audience { rooms: vec![room(name)], ..Audience::default() }
}

#[test]
fn emits_joins_and_leaves_are_in_program_order() {
    let world = World::new(Limits::default());
    let (mut ada, mut bob) = (world.enter(), world.enter());
    world.emit(to("red"), r#"["no","one"]"#);
    world.join(only(&[&ada]), "red");
    world.emit(to("red"), r#"["a",1]"#);
    world.emit(Audience { except: vec![ada.id], ..Audience::default() }, r#"["b"]"#);
    let leave = world.namespace.leave(to("red"), vec![room("red")]);
    world.runtime.block_on(leave).expect("it has its place");
    world.emit(to("red"), r#"["no","one"]"#);
    world.emit(Audience::default(), r#"["c",null]"#);
    assert_eq!([ada.next(), ada.next()], [r#"42/admin,["a",1]"#, r#"42/admin,["c",null]"#]);
    assert_eq!([bob.next(), bob.next()], [r#"42/admin,["b"]"#, r#"42/admin,["c",null]"#]);
}

#[test]
fn attachments_go_both_ways() {
    let world = World::new(Limits::default());
    let (mut ada, bob) = (world.enter(), world.enter());
    let json = r#"["image",{"_placeholder":true,"num":0}]"#;
    let image = data_of(json.into(), &[Bytes::from_static(&[1, 2, 3])]).expect("short enough");
    let asking = world.namespace.ask(only(&[&ada]), image, LONG);
    let client = std::thread::spawn(move || {
        let (head, attachment) = (ada.next(), ada.next());
        let id = head.strip_prefix("451-/admin,").and_then(|rest| rest.split_once('[')).expect(&head).0.to_owned();
        assert_eq!((head.ends_with(json.trim_start_matches('[')), &*attachment), (true, "bAQID"));
        ada.say(&format!("461-/admin,{id}[{{\"_placeholder\":true,\"num\":0}}]\u{1e}bBAU="));
        ada
    });
    let answers = world.runtime.block_on(asking).expect("answers");
    let ada = client.join().expect("no panic");
    let Some((client, Data::Binary(bundle))) = answers.answers.first() else { panic!("{answers:?}") };
    let parts: Vec<&[u8]> = fanfare_wire::socketio::parts(bundle).collect();
    assert_eq!((*client, parts), (ada.id, vec![&br#"[{"_placeholder":true,"num":0}]"#[..], &[4, 5]]));
    drop(bob);
}

#[test]
fn a_question_to_many_is_over_when_all_have_answered_or_left_or_the_time_is() {
    let world = World::new(Limits::default());
    let mut clients: Vec<Client> = (0..4).map(|_| world.enter()).collect();
    let answer = |client: &mut Client, text: &str| {
        let asked = client.next();
        let id = asked.strip_prefix("42/admin,").and_then(|rest| rest.strip_suffix(r#"["?",1]"#)).expect(&asked);
        let id: u64 = id.parse().expect("a number");
        client.say(&format!("43/admin,{}[9]\u{1e}43/admin,{id}[{text}]\u{1e}43/admin,{id}[0]", id + 1));
    };
    let asking = world.namespace.ask(Audience::default(), event(r#"["?",1]"#), LONG);
    let speaking = std::thread::spawn(move || {
        for (at, client) in clients.iter_mut().enumerate() {
            match at {
                0 => client.say("41/admin,"),
                1 => client.say("1"),
                _ => answer(client, &at.to_string()),
            }
        }
        clients
    });
    let answers = world.runtime.block_on(asking).expect("answers");
    let clients = speaking.join().expect("no panic");
    let mut texts: Vec<_> = answers.answers.iter().map(|(client, data)| (*client, data.bytes().clone())).collect();
    texts.sort();
    let mut expected = vec![(clients[2].id, Bytes::from("[2]")), (clients[3].id, Bytes::from("[3]"))];
    expected.sort();
    // Two may have left before they were asked.
    assert_eq!((texts, answers.timed_out), (expected, false));
    assert_eq!(answers.asked, 2 + answers.left);
    let asking = world.namespace.ask(Audience::default(), event(r#"["?",1]"#), Duration::from_millis(50));
    let answers = world.runtime.block_on(asking).expect("answers");
    assert_eq!((answers.answers.len(), answers.asked, answers.timed_out), (0, 2, true));
    let asking = world.namespace.ask(to("nobody"), event(r#"["?",1]"#), LONG);
    let answers = world.runtime.block_on(asking).expect("answers");
    assert_eq!((answers.asked, answers.timed_out), (0, false));
}

#[test]
fn sockets_are_disconnected_from_the_namespace_or_altogether() {
    let world = World::new(Limits::default());
    let (mut ada, mut bob, mut cem) = (world.enter(), world.enter(), world.enter());
    for client in [&ada, &bob] {
        client.say("40");
    }
    assert!([ada.next(), bob.next()].iter().all(|packet| packet.starts_with("40{")));
    world.join(only(&[&ada]), "red");
    world.emit(to("red"), r#"["bye"]"#);
    let disconnect = world.namespace.disconnect(to("red"), false);
    world.runtime.block_on(disconnect).expect("it has its place");
    world.emit(Audience::default(), r#"["after"]"#);
    assert_eq!([ada.next(), ada.next()], [r#"42/admin,["bye"]"#, "41/admin,"]);
    // It may come back, and its other namespace goes on.
    ada.say("40/admin,");
    let entered = ada.next();
    assert!(entered.starts_with("40/admin,{") && !entered.contains(&ada.id.to_string()), "{entered}");
    let disconnect = world.namespace.disconnect(only(&[&bob]), true);
    world.runtime.block_on(disconnect).expect("it has its place");
    assert_eq!([bob.next(), bob.next(), bob.next()], [r#"42/admin,["after"]"#, "41/admin,", "41"]);
    assert_eq!(bob.next(), "1");
    assert_eq!(cem.next(), r#"42/admin,["after"]"#);
    assert_eq!(world.list(Audience::default()).len(), 2);
}

#[test]
fn sockets_are_listed_with_their_rooms() {
    let world = World::new(Limits::default());
    assert_eq!(world.list(Audience::default()), []);
    let (ada, bob) = (world.enter(), world.enter());
    ada.say(r#"42/admin,["join-room","lobby"]"#);
    while world.list(to("lobby")).is_empty() {}
    world.join(only(&[&ada]), "a");
    let mut list = world.list(Audience::default());
    list.sort_by_key(|info| info.client != ada.id);
    let rooms: Vec<Vec<&str>> = list.iter().map(|info| info.rooms.iter().map(Room::as_str).collect()).collect();
    assert_eq!((list[1].client, rooms), (bob.id, vec![vec!["lobby", "a"], vec![]]));
}

#[test]
fn what_is_volatile_goes_to_those_that_wait_for_it() {
    let world = World::new(Limits::default());
    let mut ada = world.enter();
    // No poll waits at this moment, so the first is lost.
    let lost = world.namespace.emit_volatile(Audience::default(), event(r#"["lost"]"#));
    world.runtime.block_on(lost).expect("it is sent");
    world.emit(Audience::default(), r#"["kept"]"#);
    world.list(Audience::default()); // all shards have had both
    assert_eq!(ada.next(), r#"42/admin,["kept"]"#);
    let polling = std::thread::spawn(move || ada.next());
    // It comes as soon as the poll waits.
    while !polling.is_finished() {
        let sent = world.namespace.emit_volatile(Audience::default(), event(r#"["now"]"#));
        world.runtime.block_on(sent).expect("it is sent");
    }
    assert_eq!(polling.join().expect("no panic"), r#"42/admin,["now"]"#);
}

#[test]
fn a_payload_that_is_too_large_and_a_question_too_many_are_refused() {
    let limits = Limits { room_message_bytes_max: 2_000, asked_max: 1, ..Limits::default() };
    let world = World::new(limits);
    let _ada = world.enter();
    let long = event(&format!(r#"["{}"]"#, "x".repeat(20_000)));
    let too_large = world.runtime.block_on(world.namespace.emit(Audience::default(), long.clone()));
    assert_eq!(too_large.map_err(|error| error.code), Err(ErrorCode::TooLarge));
    let too_large = world.runtime.block_on(world.namespace.ask(Audience::default(), long, LONG));
    assert_eq!(too_large.map_err(|error| error.code), Err(ErrorCode::TooLarge));
    let refused = world.runtime.block_on(async {
        let first = world.namespace.ask(Audience::default(), event(r#"["?"]"#), LONG);
        let second = world.namespace.ask(Audience::default(), event(r#"["?"]"#), LONG);
        tokio::select! {
            biased;
            first = first => first,
            second = second => second,
        }
    });
    assert_eq!(refused.map_err(|error| error.code), Err(ErrorCode::Unavailable));
    assert!(Namespace::new(world.namespace.handle.clone(), "no slash").is_none());
}
