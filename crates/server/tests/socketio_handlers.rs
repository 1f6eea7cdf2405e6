//! Handlers of Socket.IO in Rust, by raw frames over real sockets: order, acks, guards, middlewares, rooms, ends, and
//! what a slow or broken handler costs others.

#![allow(clippy::unwrap_used)] // helpers stand outside of `#[test]`; a panic in one fails the test

mod support;

use bytes::Bytes;
use fanfare::hub::Limits;
use fanfare::socketio::{
    Ack, AckError, Args, Attachments, Auth, Binary, Data, EventName, Handshake, Io, Reason, Socket, SocketData,
    SocketExtensions,
};
use fanfare::{Builder, Caller, Config, Fanfare, Headers, Identity, Refusal, State, User};
use fanfare_wire::websocket::Opcode;
use serde_json::{Value, json};
use std::io::Write as _;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;
use support::engine::asked_with;
use support::socketio::{enter, enter_in, entered, open, opened, text};
use support::{Client, DEADLINE, Frame, Server, config, frame};
use tokio::runtime::Runtime;
use tokio::sync::Semaphore;

/// What handlers tell the test.
#[derive(Clone)]
struct Told(Sender<String>);

impl Told {
    fn say(&self, text: impl Into<String>) {
        let _ = self.0.send(text.into()); // a test that has failed
    }
}

fn told() -> (Told, Receiver<String>) {
    let (to, from) = channel();
    (Told(to), from)
}

fn next(told: &Receiver<String>) -> String {
    told.recv_timeout(DEADLINE).expect("a handler says something")
}

/// Handlers run on this runtime.
fn runtime() -> Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime")
}

fn builder<S: Clone + Send + Sync + 'static>(state: S) -> Builder<S> {
    // A client has all the time that it needs, and so has a handler.
    let limits = Limits { connect_timeout_ms: 600_000, hook_timeout_ms: 600_000, ..config().limits };
    Fanfare::builder(state).config(Config { limits, ..config() })
}

#[test]
fn a_return_value_is_the_ack_if_one_was_asked_for() {
    let runtime = runtime();
    let _entered = runtime.enter();
    #[derive(serde::Serialize)]
    struct Sum {
        sum: i64,
    }
    let server = Server::of(builder(()).socketio("/", |io| {
        io.on("one", async |Data(n): Data<i64>| Sum { sum: n })
            .on("two", async |Data((a, b)): Data<(i64, i64)>| (a + b, "both"))
            .on("none", async || {})
            .on("list", async |Data(all): Data<Vec<u8>>| all)
            .on("fails", async |Data(text): Data<String>| {
                let number: i64 = text.parse().map_err(|_| Refusal::bad_request("no number").with_data(&[1, 2]))?;
                Ok::<_, Refusal>(number)
            })
            .on("breaks", async |Data(text): Data<String>| -> Result<i64, Refusal> { Ok(text.parse()?) })
            .on("denied", async |user: User| user.to_string())
            .on("later", async |ack: Ack, Data(wanted): Data<bool>| {
                assert_eq!(ack.is_wanted(), wanted);
                tokio::spawn(async move { ack.send(("later", 1)) });
                "not this"
            })
            .on("never", async |ack: Ack| drop(ack))
    }));
    let (mut client, _) = enter(&server);
    let rows = [
        (r#"421["one",7]"#, r#"431[{"sum":7}]"#),
        (r#"422["two",1,2,"more"]"#, r#"432[3,"both"]"#),
        (r#"423["none"]"#, "433[]"),
        (r#"424["list",[1,2]]"#, "434[[1,2]]"),
        (r#"425["fails","5"]"#, "435[5]"),
        (r#"426["fails","x"]"#, r#"436[{"error":{"code":"bad_request","message":"no number","data":[1,2]}}]"#),
        (
            r#"427["breaks","x"]"#,
            r#"437[{"error":{"code":"internal","message":"the server failed; its log has the reason"}}]"#,
        ),
        (
            r#"428["denied"]"#,
            r#"438[{"error":{"code":"denied","message":"this needs a user, and the caller has none"}}]"#,
        ),
        (
            r#"429["one","x"]"#,
            r#"439[{"error":{"code":"bad_request","message":"the arguments: invalid type: string \"x\", expected i64 at line 1 column 3"}}]"#,
        ),
        (r#"4218446744073709551615["later",true]"#, r#"4318446744073709551615["later",1]"#),
    ];
    for (event, ack) in rows {
        client.text(event);
        assert_eq!(text(&mut client), ack, "{event}");
    }
    for event in
        [r#"42["one",7]"#, r#"42["fails","x"]"#, r#"42["later",false]"#, r#"421["never"]"#, r#"421["unknown"]"#]
    {
        client.text(event);
    }
    client.text(r#"421["none"]"#);
    assert_eq!(text(&mut client), "431[]", "nothing came for those before");
}

#[test]
fn events_of_a_socket_are_handled_in_order_and_a_slow_one_delays_no_other_socket() {
    let runtime = runtime();
    let _entered = runtime.enter();
    let gate = Arc::new(Semaphore::new(0));
    let server = Server::of(builder(gate.clone()).socketio("/", |io| {
        io.on("slow", async |State(gate): State<Arc<Semaphore>>| gate.acquire().await.map(drop).is_ok())
            .on("echo", async |Data(value): Data<Value>| value)
    }));
    let ((mut ada, _), (mut bob, _)) = (enter(&server), enter(&server));
    ada.text(r#"420["slow"]"#);
    for n in 1..=20 {
        ada.text(&format!(r#"42{n}["echo",{n}]"#));
    }
    for n in 0..50 {
        bob.text(&format!(r#"42{n}["echo","bob"]"#));
        assert_eq!(text(&mut bob), format!(r#"43{n}["bob"]"#));
    }
    gate.add_permits(1);
    assert_eq!(text(&mut ada), "430[true]");
    for n in 1..=20 {
        assert_eq!(text(&mut ada), format!("43{n}[{n}]"));
    }
}

#[test]
fn guards_decide_in_order_and_a_refusal_has_a_message_and_data() {
    let runtime = runtime();
    let _entered = runtime.enter();
    #[derive(serde::Deserialize)]
    struct Login {
        name: Option<String>,
    }
    #[derive(Clone)]
    struct Visits(u32);
    let server = Server::of(builder(()).socketio("/", |io| {
        io.guard(async |Auth(login): Auth<Login>, data: SocketExtensions| match login.name {
            Some(name) => {
                data.insert(Visits(1));
                let claims = json!({"team": "red"});
                Ok(Identity::user(name).info(&json!({"age": 36})).claims(&claims))
            }
            None => Err(Refusal::unauthorized("认证错误").with_data(&json!({"try": "again"}))),
        })
        .guard(async |handshake: Handshake, SocketData(Visits(visits)): SocketData<Visits>| {
            assert_eq!(handshake.request().unwrap().uri.query(), Some("EIO=4&transport=websocket"));
            match (handshake.auth_json().contains("mallory"), visits) {
                (false, 1) => Ok(()),
                _ => Err(Refusal::denied("you may not")),
            }
        })
        .guard(async |handshake: Handshake| assert!(!handshake.auth_json().contains("panic"), "on purpose"))
        .on(
            "who",
            async |socket: Socket,
                   user: User,
                   caller: Caller,
                   SocketData(Visits(visits)): SocketData<Visits>,
                   headers: Headers| {
                assert_eq!(socket.user().map(|user| &*user.0), Some(&*user));
                assert!(headers.contains_key("sec-websocket-key"));
                let info = String::from_utf8(caller.info.clone().unwrap().to_vec()).unwrap();
                (user.to_string(), visits, info, caller.claim::<String>("team"))
            },
        )
    }));
    let mut client = open(&server);
    for _ in 0..2 {
        client.text("40");
        assert_eq!(text(&mut client), r#"44{"message":"认证错误","data":{"try":"again"}}"#);
    }
    client.text(r#"40{"name":"mallory"}"#);
    assert_eq!(text(&mut client), r#"44{"message":"you may not"}"#);
    client.text(r#"40{"name":7}"#);
    let wrong = text(&mut client);
    assert!(wrong.starts_with(r#"44{"message":"`auth`: invalid type: integer `7`"#), "{wrong}");
    client.text(r#"40{"name":"panic"}"#);
    let failed = text(&mut client);
    let failed: Value = serde_json::from_str(failed.strip_prefix("44").expect(&failed)).unwrap();
    let again = json!({"code": "internal", "retryable": true});
    assert_eq!(failed, json!({"message": "the server failed; its log has the reason", "data": again}));
    client.text(r#"40{"name":"ada"}"#);
    entered(&mut client, "");
    client.text(r#"420["who"]"#);
    assert_eq!(text(&mut client), r#"430["ada",1,"{\"age\":36}","red"]"#);
}

#[test]
fn middlewares_and_listeners_see_each_event_before_its_handler() {
    let runtime = runtime();
    let _entered = runtime.enter();
    let (told, tells) = told();
    let server = Server::of(builder(told).socketio("/", |io| {
        io.use_(async |EventName(name): EventName, args: Args| match &*name {
            "secret" => Err(Refusal::denied(format!("{} is not for you", args.as_json()))),
            _ => Ok(()),
        })
        .use_(async |State(told): State<Told>, name: EventName| told.say(format!("second {}", &*name)))
        .on_any(async |State(told): State<Told>, name: EventName, args: Args| {
            told.say(format!("any {} {}", &*name, args.as_json()));
        })
        .on("secret", async |State(told): State<Told>| told.say("never"))
        .on("open", async |State(told): State<Told>| told.say("open"))
    }));
    let (mut client, _) = enter(&server);
    client.text(r#"421["secret",1,2]"#);
    let refused = text(&mut client);
    assert_eq!(refused, r#"431[{"error":{"code":"denied","message":"[1,2] is not for you"}}]"#);
    client.text(r#"42["secret"]"#);
    client.text(r#"42["nobody's"]"#);
    client.text(r#"421["open"]"#);
    assert_eq!(text(&mut client), "431[]");
    let said: Vec<String> = tells.try_iter().collect();
    assert_eq!(said, ["second nobody's", "any nobody's []", "second open", "any open []", "open"]);
}

#[test]
fn what_a_handler_does_is_one_sequence() {
    let runtime = runtime();
    let _entered = runtime.enter();
    let server = Server::of(builder(()).socketio("/", |io| {
        io.on("join", async |s: Socket, Data(room): Data<String>| drop(s.join(&room)))
            .on("rooms", async |s: Socket| {
                s.rooms().iter().map(|room| room.as_str().to_owned()).collect::<Vec<String>>()
            })
            .on("program", async |s: Socket, io: Io| {
                io.to("a").emit("before", 1); // not in the room yet
                s.join(["a", "b"]);
                io.to("a").emit("within", 2);
                s.to("a").emit("others", 3);
                s.broadcast().emit("all others", 4);
                io.to("a").except("b").emit("not b", 5);
                s.leave("a");
                io.to("a").emit("after", 6);
                io.to(["a", "b"]).emit("once", 7);
                io.emit("all", ("eight", 8));
                s.emit("own", 9);
                io.to(s.id()).emit("by id", 10);
            })
    }));
    let ((mut ada, ada_id), (mut bob, bob_id)) = (enter(&server), enter(&server));
    bob.text(r#"421["join","a"]"#);
    assert_eq!(text(&mut bob), "431[]");
    bob.text(r#"422["rooms"]"#);
    assert_eq!(text(&mut bob), format!(r#"432[["{bob_id}","a"]]"#));
    ada.text(r#"420["program"]"#);
    let until = |client: &mut Client, last: &str| {
        let mut events = Vec::new();
        while events.last().is_none_or(|event: &String| !event.contains(last)) {
            let event = text(client);
            if event.starts_with("42") {
                events.push(event);
            }
        }
        events
    };
    let own = [r#"42["within",2]"#, r#"42["once",7]"#, r#"42["all","eight",8]"#, r#"42["own",9]"#, r#"42["by id",10]"#];
    assert_eq!(until(&mut ada, "by id"), own);
    let others = [
        r#"42["before",1]"#,
        r#"42["within",2]"#,
        r#"42["others",3]"#,
        r#"42["all others",4]"#,
        r#"42["not b",5]"#,
        r#"42["after",6]"#,
        r#"42["once",7]"#,
        r#"42["all","eight",8]"#,
    ];
    assert_eq!(until(&mut bob, "all\""), others);
    ada.text(r#"421["rooms"]"#);
    let rooms = std::iter::repeat_with(|| text(&mut ada)).find(|text| text.starts_with("431")).unwrap();
    assert_eq!(rooms, format!(r#"431[["{ada_id}","b"]]"#));
}

#[test]
fn the_program_itself_sends_to_a_namespace() {
    let runtime = runtime();
    let _entered = runtime.enter();
    let builder =
        builder(()).socketio("/", |io| io.on("join", async |s: Socket, Data(room): Data<String>| drop(s.join(&room))));
    let server = builder.build().expect("valid");
    let io = server.handle().socketio("/");
    let running = server.start(&["127.0.0.1:0".parse().unwrap()]).expect("a free port");
    let (mut client, _) = opened(running.tcp_address().unwrap());
    let id = enter_in(&mut client, "");
    io.emit("all", "x".repeat(100_000));
    assert_eq!(text(&mut client).len(), 100_000 + r#"42["all",""]"#.len());
    client.text(r#"420["join","a"]"#);
    assert_eq!(text(&mut client), "430[]");
    for n in 0..3_000 {
        runtime.block_on(async { io.to("a").emit("n", n).await }).expect("it is sent");
    }
    for n in 0..3_000 {
        assert_eq!(text(&mut client), format!(r#"42["n",{n}]"#));
    }
    io.to(&id).emit("file", Binary(Bytes::from_static(b"\x01\x02")));
    assert_eq!(text(&mut client), r#"451-["file",{"_placeholder":true,"num":0}]"#);
    assert_eq!(client.next(), Frame::Binary(vec![1, 2]));
    let wrong = io.emit("wrong", std::collections::BTreeMap::from([((1, 2), 3)])).result();
    assert!(wrong.unwrap_err().message.contains("key must be a string"));
    assert!(io.to("x".repeat(300)).emit("wrong", ()).result().is_err());
}

#[test]
fn attachments_come_and_go() {
    let runtime = runtime();
    let _entered = runtime.enter();
    let server = Server::of(builder(()).socketio("/", |io| {
        io.on("reverse", async |s: Socket, Data((name, Binary(bytes))): Data<(String, Binary)>, first: Bytes| {
            assert_eq!(first, bytes);
            let reversed: Vec<u8> = bytes.iter().rev().copied().collect();
            s.emit("reversed", (name, Binary(reversed.clone().into())));
            [Binary(reversed.into())]
        })
        .on("count", async |Attachments(all): Attachments| all.len())
        .on("one", async |_: Bytes| {})
    }));
    let (mut client, _) = enter(&server);
    client.text(r#"451-7["reverse","x",{"_placeholder":true,"num":0}]"#);
    client.send(Opcode::Binary, b"abc");
    let frames: Vec<Frame> = (0..4).map(|_| client.next()).collect();
    assert_eq!(frames[0], Frame::Text(r#"451-["reversed","x",{"_placeholder":true,"num":0}]"#.to_owned()));
    assert_eq!(frames[2], Frame::Text(r#"461-7[{"_placeholder":true,"num":0}]"#.to_owned()));
    assert_eq!((&frames[1], &frames[3]), (&Frame::Binary(b"cba".to_vec()), &Frame::Binary(b"cba".to_vec())));
    client.text(r#"421["count"]"#);
    assert_eq!(text(&mut client), "431[0]");
    client.text(r#"421["one"]"#);
    assert!(text(&mut client).contains("the event has no attachment"));
}

#[test]
fn a_handler_that_panics_or_hangs_costs_only_its_event() {
    let runtime = runtime();
    let _entered = runtime.enter();
    let limits = Limits { hook_timeout_ms: 50, ..config().limits };
    let server = Fanfare::builder(()).config(Config { limits, ..config() }).socketio("/", |io| {
        io.on_connect(async || -> () { panic!("on purpose") })
            .on("panic", async || -> u8 { panic!("on purpose") })
            .on("hang", async || std::future::pending::<()>().await)
            .on("fine", async || "fine")
    });
    let server = Server::of(server);
    let (mut client, _) = enter(&server);
    client.text(r#"421["panic"]"#);
    client.text(r#"422["hang"]"#);
    client.text(r#"423["fine"]"#);
    assert_eq!(
        text(&mut client),
        r#"431[{"error":{"code":"internal","message":"the server failed; its log has the reason"}}]"#
    );
    assert_eq!(
        text(&mut client),
        r#"432[{"error":{"code":"timeout","message":"the handler did not answer within 50 ms"}}]"#
    );
    assert_eq!(text(&mut client), r#"433["fine"]"#);
}

#[test]
fn a_handler_asks_for_acks() {
    let runtime = runtime();
    let _entered = runtime.enter();
    let (told, tells) = told();
    let server = Server::of(builder(told).socketio("/", |io| {
        io.on("ask", async |socket: Socket, State(told): State<Told>| {
            let second = socket.clone();
            tokio::spawn(async move {
                let answer = second.emit_with_ack::<(String, Binary)>("two", ()).await;
                told.say(format!("{:?}", answer.unwrap()));
                let none = second.emit_with_ack::<u8>("none", ()).timeout(Duration::from_millis(20)).await;
                told.say(none.unwrap_err().to_string());
                let other = second.emit_with_ack::<u8>("other", ()).await;
                told.say(other.unwrap_err().to_string());
                let gone = second.emit_with_ack::<u8>("gone", ()).await;
                told.say(format!("{:?}", gone.unwrap_err()));
                let after = second.emit_with_ack::<u8>("after", ()).await;
                told.say(format!("{:?}", after.unwrap_err()));
                let wrong = second.emit_with_ack::<u8>("wrong", std::collections::BTreeMap::from([((1, 2), 3)])).await;
                assert!(matches!(wrong, Err(AckError::NotSent(_))));
            });
            let one: u8 = socket.emit_with_ack("one", "?").await.unwrap();
            one
        })
    }));
    let (mut client, _) = enter(&server);
    client.text(r#"427["ask"]"#);
    let mut asked = [text(&mut client), text(&mut client)];
    asked.sort_by_key(|text| text.contains("two"));
    let id = |text: &str, event: &str| {
        let (id, rest) = text.strip_prefix("42").unwrap().split_once('[').unwrap();
        assert_eq!(rest, format!("{event}]"), "{text}");
        id.to_owned()
    };
    client.text(&format!("43{}[5]", id(&asked[0], r#""one","?""#)));
    assert_eq!(text(&mut client), "437[5]");
    client.text("4399[1]"); // nobody asked this
    client.text(&format!(r#"461-{}["b",{{"_placeholder":true,"num":0}},"more"]"#, id(&asked[1], r#""two""#)));
    client.send(Opcode::Binary, b"\x01");
    assert_eq!(next(&tells), r#"("b", Binary(b"\x01"))"#);
    let none = text(&mut client);
    assert_eq!(next(&tells), "no ack came within 20ms");
    client.text(&format!("43{}[1]", id(&none, r#""none""#))); // too late
    let other = text(&mut client);
    client.text(&format!(r#"43{}["x"]"#, id(&other, r#""other""#)));
    assert!(next(&tells).starts_with("the ack has other arguments: invalid type: string"));
    assert!(text(&mut client).contains("gone"));
    client.text("41");
    assert_eq!((next(&tells), next(&tells)), ("Disconnected".to_owned(), "Disconnected".to_owned()));
}

/// Wherever the home of the namespace is.
#[test]
fn acks_questions_and_the_end_come_behind_the_events_before_them() {
    let runtime = runtime();
    let _entered = runtime.enter();
    let handle = |io: fanfare::socketio::Namespace<()>| {
        io.on("mixed", async |socket: Socket| {
            for n in 0..20 {
                socket.emit("n", n);
            }
            "done"
        })
        .on("ask", async |socket: Socket, io: Io| {
            io.emit("before", ());
            let answer: u8 = socket.emit_with_ack("question", ()).await.unwrap();
            socket.emit("after", answer);
        })
        .on("leave", async |socket: Socket, Data(close): Data<bool>| {
            socket.emit("bye", ());
            socket.disconnect(close);
        })
    };
    let server = Server::of(builder(()).socketio("/", handle).socketio("/b", handle).socketio("/room-*", handle));
    for namespace in ["", "/b,", "/room-1,", "/room-2,"] {
        let mut client = open(&server);
        let enter = |client: &mut Client| {
            client.text(&format!("40{namespace}"));
            assert!(text(client).starts_with(&format!("40{namespace}{{")));
        };
        enter(&mut client);
        client.text(&format!(r#"42{namespace}7["mixed"]"#));
        for n in 0..20 {
            assert_eq!(text(&mut client), format!(r#"42{namespace}["n",{n}]"#));
        }
        assert_eq!(text(&mut client), format!(r#"43{namespace}7["done"]"#));
        client.text(&format!(r#"42{namespace}8["ask"]"#));
        assert_eq!(text(&mut client), format!(r#"42{namespace}["before"]"#));
        let question = text(&mut client);
        let id = question.strip_prefix(&format!("42{namespace}")).unwrap().strip_suffix(r#"["question"]"#).unwrap();
        client.text(&format!("43{namespace}{id}[9]"));
        assert_eq!(text(&mut client), format!(r#"42{namespace}["after",9]"#));
        assert_eq!(text(&mut client), format!("43{namespace}8[]"));
        for close in [false, true] {
            client.text(&format!(r#"42{namespace}["leave",{close}]"#));
            assert_eq!(text(&mut client), format!(r#"42{namespace}["bye"]"#));
            assert_eq!(text(&mut client), format!("41{namespace}"));
            if !close {
                enter(&mut client);
            }
        }
        client.closed();
    }
}

#[test]
fn a_handler_finds_and_changes_the_sockets_of_others() {
    let runtime = runtime();
    let _entered = runtime.enter();
    let (told, tells) = told();
    let server = Server::of(builder(told).socketio("/", |io| {
        io.on_connect(async |socket: Socket| assert_eq!(socket.data().insert(socket.id().len()), None))
            .on("join", async |socket: Socket, Data(room): Data<String>| drop(socket.join(&room)))
            .on("rooms", async |socket: Socket| {
                socket.rooms().iter().skip(1).map(|room| room.as_str().to_owned()).collect::<Vec<String>>()
            })
            .on("list", async |io: Io| {
                let all = io.fetch_sockets().await.unwrap();
                assert!(all.iter().all(|socket| socket.data().get::<usize>() == Some(16)));
                assert!(all.iter().all(|socket| socket.rooms()[0].as_str() == socket.id()), "{all:?}");
                let mut sizes = vec![all.len()];
                let audiences =
                    [io.to("a"), io.to(["a", "b"]), io.to("a").except("b"), io.to("nowhere"), io.except("a")];
                for audience in audiences {
                    sizes.push(audience.fetch_sockets().await.unwrap().len());
                }
                sizes
            })
            .on("change", async |io: Io| {
                io.in_("a").sockets_join("c"); // it needs no await
                io.to("c").emit("c", ());
                io.to("a").emit("last of a", ());
                io.in_("a").sockets_leave("a").await.unwrap();
                io.to("a").emit("nobody", ());
                io.emit("end", ());
            })
            .on("kick", async |io: Io| {
                io.to("c").emit("bye", ());
                io.in_("c").disconnect_sockets(false).await.unwrap();
                io.to("c").fetch_sockets().await.unwrap().len()
            })
            .on_disconnect(async |State(told): State<Told>, reason: Reason| told.say(reason.as_str()))
    }));
    let mut clients: Vec<Client> = (0..5).map(|_| enter(&server).0).collect();
    let joins: [&[&str]; 5] = [&[], &["a"], &["a", "b"], &["b"], &["a"]];
    for (client, rooms) in clients.iter_mut().zip(joins) {
        for room in rooms {
            client.text(&format!(r#"420["join","{room}"]"#));
            assert_eq!(text(client), "430[]");
        }
    }
    clients[0].text(r#"421["list"]"#);
    assert_eq!(text(&mut clients[0]), "431[[5,3,4,2,0,2]]");
    clients[0].text(r#"42["change"]"#);
    for (client, rooms) in clients.iter_mut().zip(joins) {
        if rooms.contains(&"a") {
            assert_eq!(text(client), r#"42["c"]"#);
            assert_eq!(text(client), r#"42["last of a"]"#);
        }
        assert_eq!(text(client), r#"42["end"]"#);
    }
    clients[2].text(r#"421["rooms"]"#);
    assert_eq!(text(&mut clients[2]), r#"431[["b","c"]]"#);
    clients[0].text(r#"422["kick"]"#);
    assert_eq!(text(&mut clients[0]), "432[0]");
    for place in [1, 2, 4] {
        assert_eq!(text(&mut clients[place]), r#"42["bye"]"#);
        assert_eq!(text(&mut clients[place]), "41");
        assert_eq!(next(&tells), "server namespace disconnect");
    }
}

#[test]
fn many_sockets_are_asked_and_who_leaves_or_is_silent_is_not_waited_for_without_end() {
    let runtime = runtime();
    let _entered = runtime.enter();
    let server = Server::of(builder(()).socketio("/", |io| {
        io.on("ask", async |socket: Socket, Data((event, ms)): Data<(String, u64)>| {
            let asked = socket.broadcast().emit_with_ack::<u8>(&event, ()).timeout(Duration::from_millis(ms)).await;
            let asked = asked.unwrap();
            (asked.answers, asked.asked, asked.left, asked.invalid)
        })
        .on("volatile", async |io: Io| drop(io.volatile().emit("volatile", 1)))
    }));
    let mut clients: Vec<Client> = (0..4).map(|_| enter(&server).0).collect();
    let question = |client: &mut Client, event: &str| {
        let text = text(client);
        let id = text.strip_prefix("42").and_then(|text| text.strip_suffix(&format!(r#"["{event}"]"#)));
        id.expect(&text).to_owned()
    };
    clients[0].text(r#"421["ask","all",600000]"#);
    for (n, client) in clients.iter_mut().enumerate().skip(1) {
        let id = question(client, "all");
        client.text(&format!("43{id}[{n}]"));
    }
    let answer = text(&mut clients[0]);
    let mut answer: Value = serde_json::from_str(answer.strip_prefix("431").expect(&answer)).unwrap();
    answer[0].as_array_mut().unwrap().sort_by_key(Value::as_u64);
    assert_eq!(answer, json!([[1, 2, 3], 3, 0, 0]));
    // One answers wrongly, one leaves, one answers.
    clients[0].text(r#"422["ask","some",600000]"#);
    let id = question(&mut clients[1], "some");
    clients[1].text(&format!(r#"43{id}["x"]"#));
    question(&mut clients[2], "some");
    drop(clients.remove(2));
    let id = question(&mut clients[2], "some");
    clients[2].text(&format!("43{id}[3]"));
    assert_eq!(text(&mut clients[0]), "432[[3],3,1,1]");
    // One is silent.
    clients[0].text(r#"423["ask","few",50]"#);
    let id = question(&mut clients[1], "few");
    question(&mut clients[2], "few");
    clients[1].text(&format!("43{id}[1]"));
    let few = text(&mut clients[0]);
    assert!(matches!(&*few, "433[[1],2,0,0]" | "433[[],2,0,0]"), "{few}");
    clients[0].text(r#"42["volatile"]"#);
    for client in &mut clients {
        assert_eq!(text(client), r#"42["volatile",1]"#);
    }
}

/// The server does not read a client whose handlers do not keep up, so the client's writes end at full buffers.
#[test]
fn a_client_that_sends_faster_than_its_handlers_work_is_not_read() {
    let runtime = runtime();
    let _entered = runtime.enter();
    let gate = Arc::new(Semaphore::new(0));
    let server = Server::of(builder(gate.clone()).socketio("/", |io| {
        io.on("slow", async |State(gate): State<Arc<Semaphore>>, Data((n, _)): Data<(usize, String)>| {
            gate.acquire().await.unwrap().forget();
            n
        })
    }));
    let ((mut ada, _), (mut bob, _)) = (enter(&server), enter(&server));
    ada.socket.set_write_timeout(Some(Duration::from_millis(100))).unwrap();
    let filler = "x".repeat(64 << 10);
    let (mut sent, mut rest) = (0, Vec::new());
    loop {
        let bytes = frame(Opcode::Text, format!(r#"42{sent}["slow",{sent},"{filler}"]"#).as_bytes());
        let mut written = 0;
        while written < bytes.len() {
            match ada.socket.write(&bytes[written..]) {
                Ok(count) => written += count,
                Err(_) => break,
            }
        }
        sent += 1;
        assert!(sent < 10_000, "all of it was read");
        if written < bytes.len() {
            rest.extend_from_slice(&bytes[written..]);
            break;
        }
    }
    // Others are served meanwhile.
    gate.add_permits(1);
    assert_eq!(text(&mut ada), "430[0]");
    bob.text(r#"427["slow",7,""]"#);
    gate.add_permits(sent + 1);
    assert_eq!(text(&mut bob), "437[7]");
    ada.socket.set_write_timeout(Some(DEADLINE)).unwrap();
    ada.socket.write_all(&rest).unwrap();
    for n in 1..sent {
        assert_eq!(text(&mut ada), format!("43{n}[{n}]"));
    }
}

#[test]
fn each_end_has_its_reason_behind_all_events() {
    let runtime = runtime();
    let _entered = runtime.enter();
    let (told, tells) = told();
    let server = Server::of(builder(told).socketio("/", |io| {
        io.on("say", async |State(told): State<Told>, Data(text): Data<String>| told.say(text))
            .on("kick", async |socket: Socket, Data(close): Data<bool>| drop(socket.disconnect(close)))
            .on("join", async |socket: Socket| drop(socket.join("a")))
            .on_disconnect(async |State(told): State<Told>, socket: Socket, reason: Reason| {
                assert!(!socket.connected());
                socket.to("a").emit("left", reason.as_str());
                told.say(format!("{reason} {}", socket.rooms().len()));
            })
    }));
    let (mut witness, _) = enter(&server);
    witness.text(r#"421["join"]"#);
    assert_eq!(text(&mut witness), "431[]");
    let mut heard = |reason: &str| assert_eq!(text(&mut witness), format!(r#"42["left","{reason}"]"#));

    let (mut client, _) = enter(&server);
    client.text(r#"421["join"]"#);
    client.text(r#"42["say","first"]"#);
    client.text("41");
    assert_eq!((next(&tells), next(&tells)), ("first".to_owned(), "client namespace disconnect 2".to_owned()));
    heard("client namespace disconnect");

    let (mut client, _) = enter(&server);
    client.text(r#"42["kick",false]"#);
    assert_eq!(text(&mut client), "41");
    assert_eq!(next(&tells), "server namespace disconnect 1");
    heard("server namespace disconnect");
    client.text("40");
    entered(&mut client, "");
    client.text(r#"42["kick",true]"#);
    client.closed();
    assert_eq!(next(&tells), "server namespace disconnect 1");
    heard("server namespace disconnect");

    let (client, _) = enter(&server);
    client.close();
    assert_eq!(next(&tells), "transport close 1");
    heard("transport close");
    let (client, _) = enter(&server);
    drop(client);
    assert_eq!(next(&tells), "transport close 1");
    heard("transport close");
    for (packet, reason) in
        [("2", "transport error"), ("x", "parse error"), ("4x", "forced close"), ("40", "forced close")]
    {
        let (mut client, _) = enter(&server);
        client.text(packet);
        client.closed();
        assert_eq!(next(&tells), format!("{reason} 1"));
        heard(reason);
    }
    drop(server);
    assert_eq!(next(&tells), "server shutting down 2");
}

#[test]
fn handlers_serve_clients_that_poll() {
    let runtime = runtime();
    let _entered = runtime.enter();
    let (told, tells) = told();
    let server = Server::of(builder(told).socketio("/", |io| {
        io.guard(async |headers: Headers| assert!(headers.contains_key("x-by")))
            .on("n", async |s: Socket, Data(n): Data<u32>| drop(s.emit("n", n)))
            .on_disconnect(async |State(told): State<Told>, reason: Reason| told.say(reason.as_str()))
    }));
    let ask = |method: &str, sid: &str, body: &str| {
        let answer = asked_with(server.address, method, &format!("EIO=4&transport=polling{sid}"), "X-By: me\r\n", body);
        assert_eq!(answer.status(), 200, "{}", answer.body);
        answer.body
    };
    let opened = ask("GET", "", "");
    let opened: Value = serde_json::from_str(opened.strip_prefix('0').unwrap()).unwrap();
    let sid = format!("&sid={}", opened["sid"].as_str().unwrap());
    ask("POST", &sid, "40");
    assert!(ask("GET", &sid, "").starts_with("40{"));
    let packets: Vec<String> = (0..500).map(|n| format!(r#"42["n",{n}]"#)).collect();
    ask("POST", &sid, &packets.join("\u{1e}"));
    let mut heard = Vec::new();
    while heard.len() < packets.len() {
        heard.extend(ask("GET", &sid, "").split('\u{1e}').map(str::to_owned));
    }
    assert_eq!(heard, packets);
    ask("POST", &sid, "1");
    assert_eq!(next(&tells), "transport close");
}
