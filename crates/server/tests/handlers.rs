//! Handlers in a whole server, with its in-memory clients and a clock that stands still.

use fanfare::hub::{AppAnswer, AppCommand, Disconnect, Ended, ErrorCode, Signal, Whom};
use fanfare::{
    Caller, ChannelName, Closed, Data, Fanfare, Handle, Identity, Json, Publish, Refusal, State, Token, User, Who::*,
    secs,
};
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};

/// The limit of every wait: a test that hangs fails. It has no other effect.
const LONG: Duration = Duration::from_secs(60);

async fn within<T>(wait: impl IntoFuture<Output = T>) -> T {
    tokio::time::timeout(LONG, wait.into_future()).await.expect("it takes no minute")
}

#[derive(Clone)]
struct App {
    ends: UnboundedSender<String>,
}

async fn who(token: Option<Token>) -> Result<Identity, Refusal> {
    match token.as_ref().map(AsRef::as_ref) {
        None => Ok(Identity::anonymous()),
        Some("brief") => Ok(Identity::user("brief").expires_in(secs(60))),
        Some(name) if name.len() < 10 => Ok(Identity::user(name).info(&json!({"name": name}))),
        Some(_) => Err(Refusal::unauthorized("a name is shorter")),
    }
}

#[tokio::test]
async fn a_token_becomes_a_user_and_a_refusal_is_told() {
    let server = Fanfare::builder(()).channel("inbox:{user}", |c| c.subscribe(Authenticated)).on_connect(who);
    let server = server.build().expect("valid").test().expect("it starts");
    let mut ada = server.client_with_token("ada").await;
    assert_eq!(ada.connected()["user"], "ada");
    ada.subscribe("inbox:ada").await;
    let denied = ada.request(json!({"type": "subscribe", "channel": "inbox:bob"})).await;
    assert_eq!((&denied["code"], &denied["rule"]), (&json!("denied"), &json!("inbox:{user}")));
    let stranger = server.client_with_token("somebody else").await;
    assert_eq!(stranger.connected()["code"], "unauthorized");
    assert_eq!(stranger.connected()["message"], "a name is shorter");
    let anonymous = server.client().await;
    assert_eq!((&anonymous.connected()["type"], &anonymous.connected()["user"]), (&json!("connected"), &Value::Null));
}

#[tokio::test]
async fn a_session_ends_with_its_token_unless_a_newer_one_came() {
    let server = Fanfare::builder(()).channel("a", |c| c.open()).on_connect(who);
    let server = server.build().expect("valid").test().expect("it starts");
    let (mut late, mut early) = (server.client_with_token("brief").await, server.client_with_token("brief").await);
    server.advance(secs(50)).await;
    late.next_of("ping").await;
    early.next_of("ping").await;
    late.send(json!({"type": "pong"})).await;
    let refreshed = early.request(json!({"type": "refresh", "token": "brief"})).await;
    assert_eq!(refreshed["type"], "result", "{refreshed}");
    late.publish("a", &1).await; // the session is alive, and the message is handled
    server.advance(secs(11)).await;
    assert_eq!(late.closed().await, Closed { code: 4007, reason: "expired".to_owned() });
    early.publish("a", &2).await;
}

#[tokio::test]
async fn the_end_of_a_session_is_told_once_its_client_has_not_come_back() {
    let (ends, mut tells) = unbounded_channel();
    let server = Fanfare::builder(App { ends }).channel("a", |c| c.open()).on_connect(who);
    let server = server.on_disconnect(async |State(app): State<App>, caller: Caller, why: Ended| {
        let _ = app.ends.send(format!("{} {why:?}", caller.user.map_or("nobody".into(), |user| user.0.to_string())));
    });
    let server = server.build().expect("valid").test().expect("it starts");
    server.client_with_token("ada").await.cut();
    let mut bob = server.client_with_token("bob").await;
    bob.publish("a", &1).await;
    server.advance(secs(9)).await;
    assert!(tells.try_recv().is_err(), "ada may still come back");
    server.advance(secs(2)).await;
    assert_eq!(within(tells.recv()).await.as_deref(), Some("ada Lost"));
}

#[tokio::test]
async fn one_connections_commands_on_a_channel_keep_their_order_while_a_handler_takes_its_time() {
    let gate = Arc::new(tokio::sync::Semaphore::new(0));
    let server = Fanfare::builder(gate.clone()).channel("**", |c| c.open());
    let server = server.on_publish("slow:*", async |State(gate): State<Arc<tokio::sync::Semaphore>>, p: Publish| {
        gate.acquire().await?.forget();
        Ok(p)
    });
    let server = server.build().expect("valid").test().expect("it starts");
    let (mut ada, mut bob) = (server.client().await, server.client().await);
    bob.subscribe("slow:a").await;
    bob.subscribe("other").await;
    for n in 0..5 {
        ada.send(json!({"type": "publish", "channel": "slow:a", "data": n})).await;
    }
    ada.publish("other", &"overtakes").await;
    assert_eq!(bob.message().await["data"], "overtakes");
    gate.add_permits(5);
    for n in 0..5 {
        assert_eq!(bob.message().await["data"], json!(n));
    }
}

#[tokio::test]
async fn a_method_that_panics_is_internal_and_the_next_call_is_answered() {
    let server = Fanfare::builder(()).channel("inbox:{user}", |c| c.subscribe(Authenticated)).on_connect(who);
    let server = server.rpc("panic", async || -> Result<Json<()>, Refusal> { panic!("on purpose") }).rpc(
        "greet",
        async |user: User, hub: Handle| {
            hub.publish(&format!("inbox:{}", &*user), "hello").await?;
            Ok(Json(format!("hello {}", &*user)))
        },
    );
    let server = server.build().expect("valid").test().expect("it starts");
    let mut ada = server.client_with_token("ada").await;
    ada.subscribe("inbox:ada").await;
    assert_eq!(ada.rpc("panic", &()).await["code"], "internal");
    assert_eq!(ada.rpc("greet", &()).await["data"], "hello ada");
    assert_eq!(ada.message().await["data"], "hello");
    assert_eq!(server.client().await.rpc("greet", &()).await["code"], "denied");
}

/// Without this check, a client whose session the application ended would come back at once by its ticket.
#[tokio::test]
async fn a_ticket_alone_does_not_bring_back_whom_the_application_has_sent_away() {
    let server = Fanfare::builder(()).channel("a", |c| c.open()).on_connect(async |token: Option<Token>| match token {
        Some(_) => Ok(Identity::user("mallory")),
        None => Err(Refusal::unauthorized("a token, please")),
    });
    let server = server.build().expect("valid").test().expect("it starts");
    let mallory = server.client_with_token("any").await;
    let ticket = mallory.connected()["ticket"].clone();
    mallory.cut();
    let mut mallory = server.connect(json!({"type": "connect", "ticket": ticket})).await;
    assert_eq!(mallory.connected()["session_resumed"], true, "as long as the session lives: {}", mallory.connected());
    let ticket = mallory.connected()["ticket"].clone();
    let sent_away = server.handle().disconnect(Whom::user("mallory"), Disconnect::Kicked).await;
    assert_eq!(sent_away.expect("it answers"), 1);
    assert_eq!(mallory.closed().await, Closed { code: 4503, reason: "kicked".to_owned() });
    let back = server.connect(json!({"type": "connect", "ticket": ticket})).await;
    assert_eq!(back.connected()["code"], "unauthorized", "{}", back.connected());
}

/// The clock stands still: a handler that waits for itself would never end.
#[tokio::test]
async fn a_handler_can_end_the_subscription_of_its_own_caller() {
    let server = Fanfare::builder(()).channel("a", |c| c.open()).on_publish(
        "a",
        async |hub: Handle, caller: Caller, publish: Publish| {
            let client = caller.client.ok_or_else(|| Refusal::denied("nobody"))?;
            let ended = hub.unsubscribe(Whom::Client(client), "a").await;
            assert_eq!(ended.expect("it answers"), 1);
            Ok::<_, Refusal>(publish)
        },
    );
    let server = server.build().expect("valid").test().expect("it starts");
    let mut client = server.client().await;
    client.subscribe("a").await;
    client.publish("a", &"goodbye").await;
    assert_eq!(client.next_of("unsubscribed").await["code"], "denied");
}

#[tokio::test]
async fn json_that_a_handler_made_up_and_is_none_reaches_nobody() {
    let server = Fanfare::builder(()).channel("**", |c| c.open().history(10, secs(60)));
    let server = server
        .on_publish("quoting:*", async |mut p: Publish| {
            p.data = Data::Json("{\"text\": \"he said \"hi\"\"}".into());
            Ok(p)
        })
        .on_publish("injecting:*", async |mut p: Publish| {
            p.data = Data::Json("1},{\"type\":\"disconnect\",\"code\":4500,\"retry\":false".into());
            Ok(p)
        })
        .on_publish("deep:*", async |mut p: Publish| {
            p.data = Data::Json(("[".repeat(65) + &"]".repeat(65)).into());
            Ok(p)
        })
        .on_publish("broken:*", async |mut p: Publish| {
            p.data = Data::Json("{\r\n\"lines\": 2}".into());
            Ok(p)
        });
    let server = server.build().expect("valid").test().expect("it starts");
    let (mut ada, mut bob) = (server.client().await, server.client().await);
    for channel in ["quoting:a", "injecting:a", "deep:a"] {
        bob.subscribe(channel).await;
        let refused = ada.request(json!({"type": "publish", "channel": channel, "data": 1})).await;
        assert_eq!(refused["code"], "internal", "{refused}");
        assert_eq!(within(server.handle().history(channel, 10)).await.expect("a rule").publications, []);
    }
    bob.nothing_more().await;
    bob.subscribe("broken:a").await;
    ada.publish("broken:a", &1).await;
    assert_eq!(bob.message().await["data"], json!({"lines": 2}));
    let kept = within(server.handle().history("broken:a", 10)).await.expect("a rule");
    assert_eq!(&**kept.publications[0].data.bytes(), b"{  \"lines\": 2}", "on one line, for transports that need it");
}

#[tokio::test]
async fn commands_in_the_types_of_the_hub_are_checked_too() {
    let server = Fanfare::builder(()).channel("**", |c| c.open()).build().expect("valid").test().expect("it starts");
    let hub = server.handle();
    let mut bob = server.client().await;
    bob.subscribe("a").await;
    let channel = || ChannelName::new("a").expect("a name");
    let publish = |data: &'static str| {
        let data = Data::Json(data.into());
        let publish = Box::new(Publish { channel: channel(), data, event: None, idempotency_key: None, echo: true });
        AppCommand::Publish { publish, audience: None, by: None }
    };
    let signal = Signal { channel: channel(), event: "typing".into(), data: "{".into(), to: None };
    for answer in [
        within(hub.ask(publish("{\"a\":}"))).await,
        within(hub.try_ask(publish(""))).await,
        within(hub.ask(AppCommand::Signal(Box::new(signal)))).await,
    ] {
        assert!(matches!(&answer, AppAnswer::Error(error) if error.code == ErrorCode::BadRequest), "{answer:?}");
    }
    let answers = within(hub.ask_all(vec![publish("1"), publish("nothing"), publish("2")])).await;
    assert!(matches!(&answers[1], AppAnswer::Error(error) if error.code == ErrorCode::BadRequest), "{answers:?}");
    assert_eq!((&bob.message().await["data"], &bob.message().await["data"]), (&json!(1), &json!(2)));
    bob.nothing_more().await;
}

/// On a runtime of one thread: while the drain waits, handlers still run, and an open command gets its answer.
#[tokio::test]
async fn handlers_answer_while_the_server_drains() {
    let go = Arc::new(tokio::sync::Semaphore::new(0));
    let (asked, mut is_asked) = unbounded_channel();
    let server = Fanfare::builder((go.clone(), asked)).channel("a", |c| c.open()).rpc(
        "slow",
        async |State((go, asked)): State<(Arc<tokio::sync::Semaphore>, UnboundedSender<()>)>| {
            asked.send(())?;
            go.acquire().await?.forget();
            Ok(Json("done"))
        },
    );
    let address = fanfare::Address::Tcp("127.0.0.1:0".parse().expect("an address"));
    let running = server.build().expect("valid").start(&[address]).expect("it starts");
    let url = format!("ws://{}", running.tcp_address().expect("a port"));
    let client = within(fanfare_client::Client::builder(&url).connect()).await.expect("it connects");
    let calling = tokio::spawn(async move { client.rpc::<_, String>("slow", &()).await });
    within(is_asked.recv()).await.expect("the handler runs");
    let draining = tokio::spawn(running.drain());
    go.add_permits(1);
    assert_eq!(within(calling).await.expect("no panic").expect("an answer"), "done");
    within(draining).await.expect("no panic").expect("no shard failed");
}

#[tokio::test]
async fn a_handle_that_was_taken_before_the_test_is_of_the_same_server() {
    let config = fanfare::Config { shards: 4, ..fanfare::Config::default() };
    let server = Fanfare::builder(()).config(config).channel("**", |c| c.open()).build().expect("valid");
    let hub = server.handle();
    let asking = hub.clone();
    let early = tokio::spawn(async move { asking.publish("early:1", &1).await });
    tokio::task::yield_now().await; // the command is sent, and waits for the start
    let server = server.test().expect("it starts");
    within(early).await.expect("no panic").expect("what was asked before the start is done");
    let mut ada = server.client().await;
    for n in 0..20 {
        let channel = format!("c:{n}");
        ada.subscribe(&channel).await;
        let published = within(hub.publish(&channel, &n)).await.expect("every channel is reached");
        assert_eq!(published.subscribers, 1);
        assert_eq!(ada.message().await["data"], json!(n));
    }
    assert_eq!(within(hub.channels(None, None, 100)).await.expect("a list").channels.len(), 21);
}
