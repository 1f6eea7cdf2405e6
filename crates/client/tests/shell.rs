//! The shell over real sockets against the real hub, as a program sees it.

// Clippy allows unwrap in tests, but does not recognise helpers of tests.
#![allow(clippy::unwrap_used)]

mod support;

use fanfare_client::core::{CallError, EndReason, Event, State};
use fanfare_client::{
    Client, ConnectError, Data, HistoryFrom, PresenceKind, Problem, Publish, RpcError, Subscribe, Subscription,
    Transport,
};
use std::sync::atomic::Ordering;
use support::{Deadline, Server};

/// The limit of every wait: a test that hangs fails. It has no other effect.
const LONG: std::time::Duration = std::time::Duration::from_secs(30);

async fn event(subscription: &mut Subscription) -> Event {
    tokio::time::timeout(LONG, subscription.next()).await.expect("an event").expect("the subscription goes on")
}

/// The payload of the next publication; events before it must not be gaps.
async fn data(subscription: &mut Subscription) -> String {
    loop {
        match event(subscription).await {
            Event::Message { publication, .. } => return String::from_utf8(publication.data.bytes().to_vec()).unwrap(),
            end @ (Event::Gap { .. } | Event::Ended { .. }) => panic!("nothing was lost: {end:?}"),
            _ => {}
        }
    }
}

async fn fast(server: &Server, token: Option<&str>) -> Client {
    let mut builder = Client::builder(server.url()).config(|config| config.backoff_min_ms = 10);
    if let Some(token) = token {
        builder = builder.token(token);
    }
    builder.connect().await.unwrap()
}

async fn reaches(client: &Client, wanted: impl FnMut(&fanfare_client::Status) -> bool) {
    tokio::time::timeout(LONG, client.status().wait_for(wanted)).await.expect("the state is reached").unwrap();
}

#[tokio::test]
async fn two_clients_talk() {
    let server = Server::start().await;
    let (ada, bob) = (fast(&server, Some("ada")).await, fast(&server, None).await);
    let mut chat = bob.subscribe("chat:general").await.unwrap();
    assert_eq!(chat.channel(), "chat:general");
    let position = ada.publish("chat:general", "hello").await.unwrap();
    let Event::Live { .. } = event(&mut chat).await else { panic!("first it is live") };
    let Event::Message { publication, position: reported } = event(&mut chat).await else { panic!("then it tells") };
    assert_eq!((publication.data, reported), (Data::Json(b"\"hello\""[..].into()), position));
    assert_eq!(publication.from.unwrap().user.as_deref(), Some("ada"));

    ada.signal("chat:general", "typing", &true).await.unwrap();
    let Event::Signal(signal) = event(&mut chat).await else { panic!("a signal") };
    assert_eq!((&*signal.event, &signal.data[..]), ("typing", &b"true"[..]));

    let history = ada.history("chat:general", HistoryFrom::Newest, None).await.unwrap();
    assert_eq!(history.publications.len(), 1);
    let answer: Vec<u32> = ada.rpc("echo", &[1, 2]).await.unwrap();
    assert_eq!(answer, [1, 2]);
    ada.refresh("ada").await.unwrap();

    let Err(CallError::AlreadySubscribed { .. }) = bob.subscribe("chat:general").await else { panic!() };
    let Err(CallError::Refused(error)) = bob.subscribe("no:rule:here").await else { panic!() };
    assert_eq!(&*error.code, "no_rule");
    let Err(CallError::Refused(error)) = bob.subscribe("a b").await else { panic!() };
    assert_eq!(&*error.code, "bad_request");
}

#[tokio::test]
async fn presence_comes_and_goes() {
    let server = Server::start().await;
    let (ada, bob) = (fast(&server, None).await, fast(&server, None).await);
    let mut room = bob.subscribe_with(Subscribe { presence: true, ..Subscribe::new("room") }).await.unwrap();
    let Event::Live { .. } = event(&mut room).await else { panic!() };
    let Event::Presence(presence) = event(&mut room).await else { panic!("nobody is there yet") };
    assert_eq!(presence.count, 0);
    let adas = ada.subscribe("room").await.unwrap();
    ada.presence_set("room", "Ada").await.unwrap();
    assert_eq!(ada.presence("room").await.unwrap().count, 1);
    drop(adas);
    for wanted in [PresenceKind::Join, PresenceKind::Leave] {
        let Event::PresenceChange(change) = event(&mut room).await else { panic!() };
        assert_eq!(change.kind, wanted);
    }
    let Err(RpcError::Call(CallError::NotSubscribed { .. })) = ada.presence_set("room", "Ada").await else { panic!() };
}

/// A client that is cut off while others publish gets every message once, in order, and keeps its session.
#[tokio::test]
async fn a_cut_loses_and_repeats_nothing() {
    let server = Server::start().await;
    let (ada, bob) = (fast(&server, Some("ada")).await, fast(&server, None).await);
    let mut chat = bob.subscribe("chat").await.unwrap();
    let publisher = {
        let ada = ada.clone();
        tokio::spawn(async move {
            for n in 0..300 {
                ada.publish("chat", &n).await.unwrap();
            }
        })
    };
    for n in 0..300 {
        assert_eq!(data(&mut chat).await, n.to_string());
        if n % 50 == 25 {
            server.cut_all();
        }
    }
    publisher.await.unwrap();
    assert!(server.accepted.load(Ordering::SeqCst) > 2, "there were cuts, and returns");
}

/// A program that does not read pauses its subscription, delays no other, and in the end gets everything that history
/// still holds.
#[tokio::test]
async fn a_slow_reader_catches_up() {
    let server = Server::start().await;
    let client = fast(&server, None).await;
    let mut slow = client.subscribe("chat").await.unwrap();
    let published = fanfare_client::QUEUE_MAX + 50;
    for n in 0..published {
        client.publish("chat", &n).await.unwrap();
    }
    for n in 0..published {
        assert_eq!(data(&mut slow).await, n.to_string());
    }
}

#[tokio::test]
async fn dropping_a_subscription_unsubscribes_and_a_new_one_begins() {
    let server = Server::start().await;
    let client = fast(&server, None).await;
    let first = client.subscribe("chat").await.unwrap();
    drop(first);
    let mut second = client.subscribe("chat").await.unwrap();
    client.publish("chat", &1).await.unwrap();
    assert_eq!(data(&mut second).await, "1");
}

#[tokio::test]
async fn keys_hold_over_connections_and_echo_can_be_refused() {
    let server = Server::start().await;
    let client = fast(&server, Some("ada")).await;
    let mut chat = client.subscribe("chat").await.unwrap();
    let publish = |data: &'static str, echo| Publish {
        channel: "chat".into(),
        data: Data::Json(data.into()),
        event: None,
        idempotency_key: Some(data.into()),
        echo,
    };
    let first = client.publish_with(publish("1", true)).await.unwrap();
    server.cut_all();
    assert_eq!(client.publish_with(publish("1", true)).await.unwrap(), first, "the key was used");
    client.publish_with(publish("2", false)).await.unwrap();
    client.publish_with(publish("3", true)).await.unwrap();
    assert_eq!((data(&mut chat).await, data(&mut chat).await), ("1".to_owned(), "3".to_owned()));
}

#[tokio::test]
async fn a_kick_is_the_end_until_restarted() {
    let server = Server::start().await;
    let client = fast(&server, None).await;
    let mut chat = client.subscribe("chat").await.unwrap();
    server.kick_all();
    reaches(&client, |status| matches!(status.state, State::Ended(EndReason::Disconnected { code: 4503, .. }))).await;
    let mut last = None;
    while let Some(event) = tokio::time::timeout(LONG, chat.next()).await.expect("it goes on to its end") {
        last = Some(event);
    }
    assert!(matches!(last, Some(Event::Ended { .. })));
    let Err(RpcError::Call(CallError::Ended(_))) = client.publish("chat", &1).await else { panic!() };
    client.restart();
    reaches(&client, |status| matches!(status.state, State::Online(_))).await;
    client.publish("other", &1).await.map(drop).unwrap();
}

#[tokio::test]
async fn closing_is_for_all_handles() {
    let server = Server::start().await;
    let client = fast(&server, None).await;
    client.clone().close().await;
    assert!(matches!(client.status().borrow().state, State::Ended(EndReason::Stopped)));
    let Err(CallError::Ended(EndReason::Stopped)) = client.subscribe("chat").await else { panic!() };
}

#[tokio::test]
async fn a_first_attempt_that_fails_says_why() {
    let _deadline = Deadline::of_this_test();
    // A port that was free a moment ago.
    let address = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let error = Client::connect(format!("ws://{address}")).await.unwrap_err();
    let ConnectError::Failed { problem } = &error else { panic!("{error:?}") };
    assert_eq!(problem.to_string(), format!("{address}: Connection refused"));
    assert!(matches!(Client::connect("ftp://localhost").await, Err(ConnectError::Url(_))));
    // RFC 6761: `.invalid` never leads anywhere.
    let error = Client::connect("ws://fanfare.invalid").await.unwrap_err();
    let ConnectError::Failed { problem: Problem::Name { host, .. } } = &error else { panic!("{error:?}") };
    assert_eq!(&**host, "fanfare.invalid");
}

/// Each answer that is not a WebSocket's is described in one line; a server that does not know WebSockets is not tried
/// again.
#[tokio::test]
async fn a_server_that_speaks_something_else_is_left_alone() {
    let _deadline = Deadline::of_this_test();
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let long = format!("HTTP/1.1 200 {}\r\nX: {}", "y".repeat(500), "z".repeat(20_000));
    let rows = [
        ("HTTP/1.1 404 Not Found\r\n\r\n", true, "the answer is 404 Not Found"),
        (
            "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 13\r\n\r\n<html></html>",
            true,
            "the answer is 200 OK",
        ),
        (
            "HTTP/1.1 301 Moved Permanently\r\nLocation: https://x/v1/ws\r\n\r\n",
            true,
            "the answer is 301 Moved Permanently, to https://x/v1/ws; redirects are not followed",
        ),
        (
            "HTTP/1.1 403 Forbidden\r\nContent-Length: 37\r\n\r\n{\"code\":\"denied\",\"message\":\"by \\nus\"}",
            true,
            "the answer is 403 Forbidden: by  us",
        ),
        ("SSH-2.0-OpenSSH\r\n", true, "it does not speak HTTP: it answered \"SSH-2.0-OpenSSH\""),
        (&long, true, "it does not speak HTTP: the head of its answer has more than 16384 bytes"),
        (
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
            true,
            "it does not speak fanfare.v1: Sec-WebSocket-Accept is \"\"",
        ),
        ("HTTP/1.1 503 Service Unavailable\r\nRetry-After: 7\r\n\r\n", false, "the answer is 503 Service Unavailable"),
        ("", false, "lost while asking for a WebSocket: it hung up before it answered"),
        ("HTTP/1.1 101 Swi", false, "lost while asking for a WebSocket: it hung up within its answer"),
    ];
    for (answer, ends, said) in rows {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("ws://{}", listener.local_addr().unwrap());
        let answer = answer.to_owned();
        let server = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            stream.read_buf(&mut Vec::new()).await.unwrap();
            let _ = stream.write_all(answer.as_bytes()).await; // it may have closed already
            let _ = stream.shutdown().await;
            stream
        });
        let error = Client::builder(url).transport(Transport::WebSocket).connect().await.unwrap_err();
        assert_eq!(matches!(error, ConnectError::Ended(EndReason::NoTransport(_))), ends, "{said}: {error}");
        assert!(error.to_string().contains(said), "{said:?} is not in {error}");
        drop(server.await.unwrap());
    }
}

/// A port with a listener that never answers.
#[tokio::test]
async fn silence_is_told_as_silence() {
    let _deadline = Deadline::of_this_test();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("ws://{}", listener.local_addr().unwrap());
    let builder = Client::builder(url).transport(Transport::WebSocket);
    let error = builder.config(|config| config.connect_timeout_ms = 100).connect().await.unwrap_err();
    let ConnectError::Failed { problem } = &error else { panic!("{error:?}") };
    assert_eq!(problem.to_string(), "neither a connection nor an answer within 0.1 s");
}

/// A `Retry-After` is respected before the next attempt.
#[tokio::test]
async fn retry_after_is_heeded() {
    let _deadline = Deadline::of_this_test();
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let client = Client::builder(format!("ws://{}", listener.local_addr().unwrap())).start().unwrap();
    let (mut stream, _) = tokio::time::timeout(LONG, listener.accept()).await.expect("it comes").unwrap();
    stream.read_buf(&mut Vec::new()).await.unwrap();
    stream.write_all(b"HTTP/1.1 429 Too Many Requests\r\nRetry-After: 300\r\n\r\n").await.unwrap();
    reaches(&client, |status| matches!(status.state, State::Waiting { .. })).await;
    let status = client.status().borrow().clone();
    let wait = status.retry_at.unwrap().saturating_duration_since(tokio::time::Instant::now());
    assert!((290..=301).contains(&wait.as_secs()), "{wait:?}");
    assert!(matches!(&status.problem, Some(Problem::Answer { passes: true, .. })), "{status:?}");
}

#[tokio::test]
async fn tokens_come_from_the_application_and_are_renewed() {
    let server = Server::start().await;
    let (asked, mut questions) = tokio::sync::mpsc::unbounded_channel();
    let given = std::sync::Mutex::new(vec!["ada", "ada for 1000", "wrong"]);
    let provider = move || {
        asked.send(()).unwrap();
        let token = given.lock().unwrap().pop();
        async move { token }
    };
    let builder = || Client::builder(server.url()).config(|config| config.backoff_min_ms = 10);
    let Err(ConnectError::Ended(EndReason::Refused(error))) = builder().token("wrong").connect().await else {
        panic!()
    };
    assert_eq!(&*error.code, "unauthorized");
    let client = builder().token_provider(provider).start().unwrap();
    reaches(&client, |status| matches!(status.state, State::Ended(_))).await; // a port that was just given out is refused
    client.restart();
    reaches(&client, |status| matches!(status.state, State::Online(_))).await;
    for _ in 0..3 {
        tokio::time::timeout(LONG, questions.recv()).await.expect("it is asked again before the end").unwrap();
    }
    reaches(&client, |status| matches!(status.state, State::Online(_))).await;
    let answer: u32 = client.rpc("echo", &7).await.unwrap();
    assert_eq!(answer, 7);
    assert!(questions.try_recv().is_err(), "a token without end is not renewed");
    let Err(RpcError::Call(CallError::Refused(error))) = client.rpc::<_, u32>("shout", &7).await else { panic!() };
    assert_eq!(&*error.code, "not_found");
}
