//! The application's handle on a real server: it publishes, asks, and gets answers until the server has ended.

mod support;

use fanfare::hub::{AppAnswer, AppCommand, ChannelName, Data, Disconnect, ErrorCode, Limits, Publish, Whom};
use fanfare::{Builder, Config, Fanfare, Handle, Native, Running};
use fanfare_client::core::{Event, State};
use fanfare_client::{Client, Subscription};
use std::time::Duration;
use support::{config, patient_chat, shards};

/// The limit of every wait: a test that hangs fails. It has no other effect.
const LONG: Duration = Duration::from_secs(60);

fn builder(config: Config) -> Builder {
    Fanfare::builder(()).config(config).protocol("/v1/ws", Native::default()).protocol("/", patient_chat())
}

fn serve() -> (Running, Handle, String) {
    let server = builder(config()).build().expect("a valid server");
    let handle = server.handle();
    let running = server.start(&["127.0.0.1:0".parse().expect("an address")]).expect("a free port");
    let url = format!("ws://{}/v1/ws", running.tcp_address().expect("TCP"));
    (running, handle, url)
}

async fn next_text(subscription: &mut Subscription) -> String {
    loop {
        match tokio::time::timeout(LONG, subscription.next()).await.expect("in time").expect("it goes on") {
            Event::Message { publication, .. } => {
                return String::from_utf8_lossy(publication.data.bytes()).into_owned();
            }
            Event::Gap { .. } | Event::Ended { .. } => panic!("nothing was to be lost"),
            _ => {}
        }
    }
}

/// The event and the payload of the next signal.
async fn next_signal(subscription: &mut Subscription) -> (String, String) {
    loop {
        match tokio::time::timeout(LONG, subscription.next()).await.expect("in time").expect("it goes on") {
            Event::Signal(signal) => {
                return (signal.event.to_string(), String::from_utf8_lossy(&signal.data).into_owned());
            }
            Event::Gap { .. } | Event::Ended { .. } => panic!("nothing was to be lost"),
            _ => {}
        }
    }
}

fn publish(channel: &str, json: String) -> AppCommand {
    let channel = ChannelName::new(channel).expect("a valid name");
    let data = Data::Json(json.into());
    let publish = Box::new(Publish { channel, data, event: None, idempotency_key: None, echo: true });
    AppCommand::Publish { publish, audience: None, by: None }
}

#[tokio::test]
async fn commands_of_the_application_reach_clients_of_every_shard() {
    let (_running, hub, url) = serve();
    let mut readers = Vec::new();
    for _ in 0..8 {
        let client = Client::connect(&url).await.expect("a connection");
        readers.push((client.subscribe("chat:a").await.expect("subscribed"), client));
    }
    let published = hub.publish("chat:a", "one").await.expect("published");
    assert_eq!((published.subscribers, published.duplicate), (8, false));
    hub.publish("chat:a", &[1, 2]).event("goal").await.expect("published");
    for (reader, _) in &mut readers {
        assert_eq!(next_text(reader).await, "\"one\"");
        assert_eq!(next_text(reader).await, "[1,2]");
    }
    assert_eq!(hub.presence("chat:a").await.expect("told").count, 0);
    assert_eq!(hub.history("chat:a", 1).await.expect("told").publications.len(), 1);
    let page = hub.channels(Some("chat:*"), None, 10).await.expect("told");
    assert_eq!((page.channels.len(), page.channels[0].subscribers, page.more), (1, 8, false));
    assert_eq!(hub.info().await.expect("told").connected, 8);
    hub.remove_history("chat:a").await.expect("done");
    assert!(hub.history("chat:a", 1).await.expect("told").publications.is_empty());
    hub.signal("chat:a", "typing", "x").await.expect("sent");
    let client = fanfare::hub::ClientId(1);
    assert_eq!(hub.signal("chat:a", "x", "x").to(client).await.expect_err("nobody").code, ErrorCode::NotFound);
    assert_eq!(hub.disconnect(client.into(), Disconnect::Kicked).await, Ok(0));
    assert_eq!(hub.subscribe(Whom::user("nobody"), "chat:a").await, Ok(0));
    assert_eq!(hub.unsubscribe(Whom::user("nobody"), "chat:a").await, Ok(0));
}

/// The calls between `publish` and `.await` set the publication's event, key and audience.
#[tokio::test]
async fn a_publication_is_sent_when_it_is_awaited_with_all_that_was_said_of_it() {
    let (_running, hub, url) = serve();
    let (ada, bob) = (Client::connect(&url).await.expect("a connection"), Client::connect(&url).await.expect("one"));
    let mut of_ada = ada.subscribe("chat:a").await.expect("subscribed");
    let mut of_bob = bob.subscribe("chat:a").await.expect("subscribed");
    let id = |client: &Client| match client.status().borrow().state.clone() {
        State::Online(connected) => connected.client.parse().expect("an id of the server"),
        _ => panic!("it is online"),
    };
    drop(hub.publish("chat:a", "never sent").into_future());
    let goal = || hub.publish("chat:a", "goal").event("goal").idempotency_key("42-blue-17");
    let first = goal().await.expect("published");
    let second = goal().await.expect("it was");
    assert_eq!((first.duplicate, second.duplicate, first.position == second.position), (false, true, true));
    hub.publish("chat:a", "for ada").only([id(&ada)]).await.expect("published");
    hub.publish("chat:a", "for bob").except([id(&ada)]).await.expect("published");
    hub.publish_data("chat:a", Data::Binary(vec![0, 255].into())).await.expect("published");
    for (client, own) in [(&mut of_ada, "\"for ada\""), (&mut of_bob, "\"for bob\"")] {
        assert_eq!(next_text(client).await, "\"goal\"");
        assert_eq!(next_text(client).await, own);
        assert_eq!(next_text(client).await, String::from_utf8_lossy(&[0, 255]));
    }
    let history = hub.history("chat:a", 10).await.expect("told").publications;
    let events: Vec<_> = history.iter().map(|publication| publication.event.as_deref()).collect();
    assert_eq!(events.iter().filter(|event| **event == Some("goal")).count(), 1, "{events:?}");
    let nobody = hub.publish("chat:a", "x").only([]);
    for wrong in [hub.publish("a b", "x").event("e"), hub.publish("chat:a", "x").event("a\"b"), nobody] {
        assert_eq!(wrong.await.expect_err("no name").code, ErrorCode::BadRequest);
    }
}

/// A broadcast takes the options of a publication, for each of its channels.
#[tokio::test]
async fn a_broadcast_is_sent_when_it_is_awaited_with_all_that_was_said_of_it() {
    let (_running, hub, url) = serve();
    let (ada, bob) = (Client::connect(&url).await.expect("a connection"), Client::connect(&url).await.expect("one"));
    let (mut of_ada, mut of_bob) = (Vec::new(), Vec::new());
    for channel in ["chat:a", "chat:b"] {
        of_ada.push(ada.subscribe(channel).await.expect("subscribed"));
        of_bob.push(bob.subscribe(channel).await.expect("subscribed"));
    }
    let State::Online(connected) = ada.status().borrow().state.clone() else { panic!("it is online") };
    let ada_is = connected.client.parse().expect("an id of the server");
    let channels = ["chat:a", "chat:b"];
    drop(hub.broadcast(&channels, "never sent").into_future());
    let goal = || hub.broadcast(&channels, "goal").event("goal").idempotency_key("42-blue-17");
    for (turn, is_duplicate) in [("first", false), ("second", true)] {
        let results = goal().await.expect("a payload");
        assert_eq!(results.len(), 2, "{turn}");
        for published in results {
            assert_eq!(published.expect("published").duplicate, is_duplicate, "{turn}");
        }
    }
    hub.broadcast(&channels, "for ada").only([ada_is]).await.expect("a payload");
    hub.broadcast(&channels, "for bob").except([ada_is]).await.expect("a payload");
    for (subscriptions, own) in [(&mut of_ada, "\"for ada\""), (&mut of_bob, "\"for bob\"")] {
        for subscription in subscriptions {
            assert_eq!(next_text(subscription).await, "\"goal\"");
            assert_eq!(next_text(subscription).await, own);
        }
    }
    for channel in channels {
        let history = hub.history(channel, 10).await.expect("told").publications;
        let events: Vec<_> = history.iter().map(|publication| publication.event.as_deref()).collect();
        assert_eq!(events.iter().filter(|event| **event == Some("goal")).count(), 1, "{channel}: {events:?}");
    }
    let nobody = hub.broadcast(&channels, "x").only([]).await;
    assert_eq!(nobody.expect_err("for nobody").code, ErrorCode::BadRequest);
    let wrong = hub.broadcast(&channels, "x").event("a\"b").await.expect("the payload is good");
    assert!(wrong.iter().all(|one| one.as_ref().is_err_and(|error| error.code == ErrorCode::BadRequest)), "{wrong:?}");
}

/// `to` directs a signal at one client.
#[tokio::test]
async fn a_signal_is_sent_when_it_is_awaited_to_all_or_to_one() {
    let (_running, hub, url) = serve();
    let (ada, bob) = (Client::connect(&url).await.expect("a connection"), Client::connect(&url).await.expect("one"));
    let mut of_ada = ada.subscribe("chat:a").await.expect("subscribed");
    let mut of_bob = bob.subscribe("chat:a").await.expect("subscribed");
    let State::Online(connected) = ada.status().borrow().state.clone() else { panic!("it is online") };
    let ada_is = connected.client.parse().expect("an id of the server");
    drop(hub.signal("chat:a", "count", "never sent").into_future());
    hub.signal("chat:a", "count", &1).to(ada_is).await.expect("sent");
    assert_eq!(next_signal(&mut of_ada).await, ("count".to_owned(), "1".to_owned()));
    hub.signal("chat:a", "count", &2).await.expect("sent");
    for subscription in [&mut of_ada, &mut of_bob] {
        assert_eq!(next_signal(subscription).await, ("count".to_owned(), "2".to_owned()), "bob got no other");
    }
    for wrong in [hub.signal("a b", "e", "x"), hub.signal("chat:a", "a\"b", "x")] {
        assert_eq!(wrong.await.expect_err("no name").code, ErrorCode::BadRequest);
    }
}

#[tokio::test]
async fn the_application_subscribes_a_client_and_sends_it_away() {
    let (_running, hub, url) = serve();
    let client = Client::connect(&url).await.expect("a connection");
    let State::Online(connected) = client.status().borrow().state.clone() else { panic!("it is online") };
    let whom = || Whom::Client(connected.client.parse().expect("an id of the server"));
    assert_eq!(hub.subscribe(whom(), "news:early").await, Ok(1));
    let mut incoming = client.incoming().expect("it runs");
    let mut early = incoming.next().await.expect("the one of before");
    assert_eq!(early.channel(), "news:early");
    assert_eq!(hub.subscribe(whom(), "news:late").await, Ok(1));
    let mut late = incoming.next().await.expect("another one");
    for (channel, subscription) in [("news:early", &mut early), ("news:late", &mut late)] {
        assert_eq!(hub.publish(channel, channel).await.expect("published").subscribers, 1);
        assert_eq!(next_text(subscription).await, format!("\"{channel}\""));
    }
    assert_eq!(hub.unsubscribe(whom(), "news:late").await, Ok(1));
    loop {
        match tokio::time::timeout(LONG, late.next()).await.expect("in time").expect("it is told the end") {
            Event::Ended { .. } => break,
            Event::Message { .. } => panic!("nothing was published"),
            _ => {}
        }
    }
    let mut status = client.status();
    assert_eq!(hub.disconnect(whom(), Disconnect::Kicked).await, Ok(1));
    let ended = status.wait_for(|status| matches!(status.state, State::Ended(_)));
    tokio::time::timeout(LONG, ended).await.expect("in time").expect("it is told");
    assert_eq!(hub.info().await.expect("told").sessions, 0);
}

#[tokio::test]
async fn a_payload_that_is_no_json_or_a_name_that_is_none_is_refused_before_it_is_sent() {
    let (_running, hub, _) = serve();
    let raw = |json: &str| Data::Json(json.to_owned().into());
    let deep = "[".repeat(65) + &"]".repeat(65);
    for json in ["", "{", "1 2", &deep] {
        let refused = hub.publish_data("chat:a", raw(json)).await.expect_err("no JSON");
        assert_eq!(refused.code, ErrorCode::BadRequest, "{json:.10}: {refused}");
    }
    hub.publish_data("chat:a", raw("[1,\n2]")).await.expect("published");
    let history = hub.history("chat:a", 1).await.expect("told");
    assert_eq!(**history.publications[0].data.bytes(), *b"[1, 2]", "on one line");
    assert_eq!(hub.publish("a b", "x").await.expect_err("no name").code, ErrorCode::BadRequest);
    let results = hub.broadcast(&["chat:a", "a b", "chat:c"], "x").await.expect("JSON");
    let ok: Vec<bool> = results.iter().map(Result::is_ok).collect();
    assert_eq!(ok, [true, false, true]);
}

#[tokio::test]
async fn a_batch_is_answered_in_its_order_and_keeps_the_order_of_each_channel() {
    let (_running, hub, url) = serve();
    let client = Client::connect(&url).await.expect("a connection");
    let mut reader = client.subscribe("chat:3").await.expect("subscribed");
    let commands = (0..3_000).map(|n| publish(&format!("chat:{}", n % 7), n.to_string())).collect();
    let answers = hub.ask_all(commands).await;
    for (n, answer) in answers.iter().enumerate() {
        let AppAnswer::Published { position, subscribers, .. } = answer else { panic!("{n}: {answer:?}") };
        assert_eq!((position.offset, *subscribers), (n as u64 / 7 + 1, u64::from(n % 7 == 3)), "{n}");
    }
    for n in (0..3_000).filter(|n| n % 7 == 3) {
        assert_eq!(next_text(&mut reader).await, n.to_string());
    }
    assert!(hub.ask_all(Vec::new()).await.is_empty());
}

#[tokio::test]
async fn a_command_without_room_is_refused_or_waits() {
    let limits = Limits { app_outstanding_max: 2, ..config().limits };
    let server = builder(Config { shards: 1, limits, ..config() }).build().expect("a valid server");
    let hub = server.handle();
    // A server that does not run yet gives no answers.
    let ask = |n: u32| {
        let hub = hub.clone();
        async move { hub.ask(publish("chat:a", n.to_string())).await }
    };
    let (mut first, mut second) = (Box::pin(ask(1)), Box::pin(ask(2)));
    for asked in [&mut first, &mut second] {
        let waits = std::future::poll_fn(|cx| std::task::Poll::Ready(asked.as_mut().poll(cx).is_pending())).await;
        assert!(waits);
    }
    let AppAnswer::Error(error) = hub.try_ask(publish("chat:a", "3".into())).await else { panic!("there was no room") };
    assert_eq!((error.code, error.retry_after_ms.is_some()), (ErrorCode::Unavailable, true));
    assert!(error.message.contains('2'), "{error}");
    let batch = tokio::spawn({
        let hub = hub.clone();
        async move { hub.ask_all((4..9).map(|n| publish("chat:a", n.to_string())).collect()).await }
    });
    drop(second); // a caller that stops waiting does not free the room of a command that is still to be executed
    assert!(matches!(hub.try_ask(publish("chat:a", "3".into())).await, AppAnswer::Error(_)));
    let _running = server.start(&["127.0.0.1:0".parse().expect("an address")]).expect("a free port");
    assert!(matches!(first.await, AppAnswer::Published { .. }));
    let answers = batch.await.expect("no panic");
    assert!(answers.iter().all(|answer| matches!(answer, AppAnswer::Published { .. })), "{answers:?}");
    assert_eq!(answers.len(), 5);
    assert_eq!(hub.history("chat:a", 10).await.expect("told").top.offset, 7);
}

#[tokio::test]
async fn a_server_that_drains_answers_until_it_has_ended_and_takes_in_nothing_more() {
    let (running, hub, _) = serve();
    let address = running.tcp_address().expect("TCP");
    let mut clients: Vec<_> = (0..4).map(|n| support::Client::join(address, &n.to_string(), "r")).collect();
    let drained = tokio::task::spawn_blocking(move || running.drain_blocking());
    for client in &mut clients {
        assert_eq!(client.closed(), Some(4000));
    }
    // The client has not answered the close: the shards wait for it.
    for n in 0..4 * shards() {
        let refused = hub.publish(&format!("chat:{n}"), "still here").await.expect_err("nobody would hear of it");
        assert_eq!(refused.code, ErrorCode::Unavailable);
    }
    assert_eq!(hub.info().await.expect("told").sessions, 0);
    drop(clients);
    drained.await.expect("no panic").expect("a clean end");
    assert_eq!(hub.publish("chat:a", "too late").await.expect_err("over").code, ErrorCode::Unavailable);
    let answers = hub.ask_all(vec![AppCommand::Info, publish("chat:a", "1".into())]).await;
    assert!(answers.iter().all(|answer| matches!(answer, AppAnswer::Error(_))), "{answers:?}");
}

#[test]
fn a_command_that_is_given_before_the_start_waits_for_it() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let server = builder(config()).build().expect("a valid server");
    let hub = server.handle();
    runtime.block_on(async {
        let early = tokio::spawn(async move { hub.publish("chat:a", "early").await });
        tokio::task::yield_now().await;
        let _running = server.start(&["127.0.0.1:0".parse().expect("an address")]).expect("a free port");
        early.await.expect("no panic").expect("published");
    });
}
