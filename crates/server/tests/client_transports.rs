//! The Rust client over each transport, against the real server: what an application does with it is the same on all,
//! and stays so where the transport changes under it.
//!
//! The behaviours are those of `contract.rs`, which speaks the transports by hand.

mod support;

use fanfare::{Fanfare, Native};
use fanfare_client::core::{CallError, Event, State};
use fanfare_client::{Batch, Client, Data, HistoryFrom, PresenceKind, Publish, RpcError, Subscribe, Transport};
use fanfare_fault_proxy::{FaultProxy, Faults, Meddling};
use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use support::rust_client::{builder, connect, data, first_presence, next, offline, online, publication, quick, within};
use support::{Server, config};

/// A way to the server.
#[derive(Debug, Clone, Copy)]
struct Way {
    name: &'static str,
    transports: &'static [Transport],
    /// Removed from requests on the way.
    strips: &'static [&'static str],
    /// The transport that the client comes to.
    comes_to: Transport,
}

const WAYS: [Way; 6] = {
    use Transport::{Poll, Sse, Stream, WebSocket};
    const fn way(name: &'static str, transports: &'static [Transport], comes_to: Transport) -> Way {
        Way { name, transports, strips: &[], comes_to }
    }
    [
        way("websocket", &[WebSocket], WebSocket),
        way("sse", &[Sse], Sse),
        way("stream", &[Stream], Stream),
        way("poll", &[Poll], Poll),
        way("auto", Transport::AUTO, WebSocket),
        Way { strips: &["upgrade"], ..way("auto-stripped", Transport::AUTO, Sse) },
    ]
};

/// Two clients in one channel's name: `client` comes by the way under test, `other` by a WebSocket.
struct Pair {
    way: Way,
    channel: String,
    client: Client,
    other: Client,
    /// Between the client and the server.
    proxy: FaultProxy,
    server: Server,
}

impl Pair {
    /// Waits until the server has so many connections: it learns of an end later than the client.
    async fn connections(&self, count: usize) {
        let counted = async {
            loop {
                let stats = self.server.running().stats().await;
                if stats.iter().map(|stats| stats.connections).sum::<usize>() == count {
                    return;
                }
                tokio::task::yield_now().await;
            }
        };
        within(counted).await;
    }
}

/// Runs it over each way, with a server and a channel of its own.
async fn everywhere(work: impl AsyncFn(&Pair)) {
    let echo = async |fanfare::Json(value): fanfare::Json<u64>| fanfare::Json(value);
    for way in WAYS {
        let native = Native::default().heartbeat_ms(600_000).grace_ms(600_000);
        let server = Server::of(Fanfare::builder(()).config(config()).protocol("/v1/ws", native).rpc("echo", echo));
        let faults = match way.strips {
            [] => Faults::default(),
            request_strips => Faults::meddling(Meddling { request_strips, ..Meddling::default() }),
        };
        let proxy = FaultProxy::start(server.address, move |_| faults).expect("a free port");
        let client = within(builder(proxy.address, way.transports).config(quick).connect()).await.expect(way.name);
        assert_eq!(client.status().borrow().transport, way.comes_to, "{}", way.name);
        let other = connect(server.address, Transport::WebSocket).await;
        work(&Pair { way, channel: format!("chat:{}", way.name), client, other, proxy, server }).await;
    }
}

fn publish(channel: &str, data: &str) -> Publish {
    let data = Data::Json(serde_json::to_vec(data).expect("a text").into());
    Publish { channel: channel.into(), data, event: None, idempotency_key: None, echo: true }
}

/// The code of a refusal.
fn code(error: &CallError) -> &str {
    match error {
        CallError::Refused(refusal) => &refusal.code,
        other => panic!("{other}"),
    }
}

fn code_of(error: &RpcError) -> &str {
    match error {
        RpcError::Call(error) => code(error),
        other => panic!("{other}"),
    }
}

#[tokio::test]
async fn publications_come_in_order_to_both_sides() {
    everywhere(async |pair| {
        let Pair { way: Way { name, .. }, channel, client, other, .. } = pair;
        let mut heard = within(client.subscribe(channel)).await.expect("subscribed");
        let mut heard_there = within(other.subscribe(channel)).await.expect("subscribed");
        for number in 0..20_u64 {
            let by = if number % 2 == 0 { &client } else { &other };
            assert_eq!(within(by.publish(channel, &number)).await.expect("stored").offset, number + 1);
        }
        for number in 0..20 {
            assert_eq!(data(&mut heard).await, number.to_string(), "{name}");
            assert_eq!(data(&mut heard_there).await, number.to_string(), "{name}");
        }
    })
    .await;
}

#[tokio::test]
async fn many_calls_at_once_are_all_answered() {
    everywhere(async |pair| {
        let Pair { way: Way { name, .. }, channel, client, .. } = pair;
        let mut heard = within(client.subscribe(channel)).await.expect("subscribed");
        let calls = (0..200_u64).map(|number| {
            let client = client.clone();
            async move {
                client.publish(channel, &number).await.expect("stored");
                client.rpc::<_, u64>("echo", &number).await.expect("answered")
            }
        });
        let answers = within(futures_util::future::join_all(calls)).await;
        assert_eq!(answers, (0..200).collect::<Vec<_>>(), "{name}");
        let mut numbers = Vec::new();
        for _ in 0..200 {
            numbers.push(data(&mut heard).await.parse::<u64>().expect("a number"));
        }
        numbers.sort_unstable();
        assert_eq!(numbers, (0..200).collect::<Vec<_>>(), "{name}");
    })
    .await;
}

#[tokio::test]
async fn presence_signals_and_history_are_the_same() {
    everywhere(async |pair| {
        let Pair { way: Way { name, .. }, channel, client, other, .. } = pair;
        let with_presence = || Subscribe { presence: true, ..Subscribe::new(channel.as_str()) };
        let mut here = within(client.subscribe_with(with_presence())).await.expect("subscribed");
        first_presence(&mut here).await;
        let _there = within(other.subscribe_with(with_presence())).await.expect("subscribed");
        within(other.presence_set(channel, &"there")).await.expect("entered");
        let joined = next(&mut here, |event| match event {
            Event::PresenceChange(change) => Some((change.kind, change.entry.client.clone())),
            _ => None,
        });
        let (kind, member) = joined.await;
        assert_eq!(kind, PresenceKind::Join, "{name}");
        within(client.presence_set(channel, &"here")).await.expect("entered");
        assert_eq!(within(client.presence(channel)).await.expect("answered").count, 2, "{name}");
        within(client.signal_to(channel, &member, "offer", &1)).await.expect("taken");
        within(client.signal(channel, "typing", &true)).await.expect("online");
        within(other.signal(channel, "typing", &true)).await.expect("online");
        let event = next(&mut here, |event| match event {
            Event::Signal(signal) => Some(signal.event.clone()),
            _ => None,
        });
        assert_eq!(&*event.await, "typing", "{name}");
        within(client.publish(channel, "kept")).await.expect("stored");
        let history = within(client.history(channel, HistoryFrom::Newest, Some(1))).await.expect("answered");
        assert_eq!(history.publications.len(), 1, "{name}");
    })
    .await;
}

#[tokio::test]
async fn a_channel_is_left_and_followed_again_from_where_it_was() {
    everywhere(async |pair| {
        let Pair { way: Way { name, .. }, channel, client, other, .. } = pair;
        for round in 0..10_u64 {
            let mut heard = within(client.subscribe(channel)).await.expect("subscribed");
            within(other.publish(channel, &round)).await.expect("stored");
            assert_eq!(data(&mut heard).await, round.to_string(), "{name}");
        }
    })
    .await;
}

#[tokio::test]
async fn publications_name_their_senders() {
    everywhere(async |pair| {
        let Pair { way: Way { name, .. }, channel, client, other, .. } = pair;
        let mut heard = within(client.subscribe(channel)).await.expect("subscribed");
        for by in [client, other] {
            let sender = online(by, Transport::ALL).await.client;
            within(by.publish(channel, "who")).await.expect("stored");
            let from = next(&mut heard, |event| match event {
                Event::Message { publication, .. } => Some(publication.from.clone()),
                _ => None,
            });
            assert_eq!(from.await.and_then(|from| from.client), Some(sender), "{name}");
        }
    })
    .await;
}

#[tokio::test]
async fn ones_own_publication_is_left_out_where_it_is_not_wanted() {
    everywhere(async |pair| {
        let Pair { way: Way { name, .. }, channel, client, other, .. } = pair;
        let mut heard = within(client.subscribe(channel)).await.expect("subscribed");
        let mut heard_there = within(other.subscribe(channel)).await.expect("subscribed");
        within(client.publish_with(Publish { echo: false, ..publish(channel, "own") })).await.expect("stored");
        within(other.publish(channel, "other's")).await.expect("stored");
        assert_eq!(data(&mut heard).await, r#""other's""#, "{name}");
        assert_eq!(data(&mut heard_there).await, r#""own""#, "{name}");
        assert_eq!(data(&mut heard_there).await, r#""other's""#, "{name}");
    })
    .await;
}

#[tokio::test]
async fn a_key_makes_a_publication_once() {
    everywhere(async |pair| {
        let Pair { way: Way { name, .. }, channel, client, other, .. } = pair;
        let mut heard_there = within(other.subscribe(channel)).await.expect("subscribed");
        let keyed = |data| Publish { idempotency_key: Some("k".into()), ..publish(channel, data) };
        let first = within(client.publish_with(keyed("once"))).await.expect("stored");
        assert_eq!(within(client.publish_with(keyed("once"))).await.expect("stored"), first, "{name}");
        let refused = within(client.publish_with(keyed("other"))).await.expect_err("another payload");
        assert_eq!(code(&refused), "key_conflict", "{name}");
        within(client.publish(channel, "next")).await.expect("stored");
        assert_eq!(data(&mut heard_there).await, r#""once""#, "{name}");
        assert_eq!(data(&mut heard_there).await, r#""next""#, "{name}");
    })
    .await;
}

#[tokio::test]
async fn refusals_have_their_codes() {
    everywhere(async |pair| {
        let Pair { way: Way { name, .. }, channel, client, .. } = pair;
        let _heard = within(client.subscribe(channel)).await.expect("subscribed");
        let nobody = "0123456789abcdef";
        assert_eq!(code(&within(client.subscribe("no good")).await.expect_err("a space")), "bad_request", "{name}");
        assert_eq!(
            within(client.subscribe(channel)).await.expect_err("twice"),
            CallError::AlreadySubscribed { channel: channel.as_str().into() },
            "{name}"
        );
        let codes = [
            within(client.rpc::<_, u64>("nothing", &1)).await.map(drop).expect_err("no method"),
            within(client.signal_to(channel, nobody, "e", &1)).await.expect_err("no client"),
            within(client.publish("no good", &1)).await.map(drop).expect_err("a space"),
            within(client.publish(channel, &"x".repeat(66_000))).await.map(drop).expect_err("over the limit"),
        ];
        let codes: Vec<_> = codes.iter().map(code_of).collect();
        assert_eq!(codes, ["not_found", "not_found", "bad_request", "too_large"], "{name}");
        // So long that the request is refused, where a WebSocket would be closed.
        if client.status().borrow().transport != Transport::WebSocket {
            let refused = within(client.publish(channel, &"x".repeat(1 << 20))).await.expect_err("over the limit");
            assert_eq!(code_of(&refused), "too_large", "{name}");
        }
        // The client goes on, and its numbers too.
        within(client.publish(channel, "short")).await.expect("stored");
        assert!(matches!(client.status().borrow().state, State::Online(_)), "{name}");
    })
    .await;
}

#[tokio::test]
async fn a_batch_comes_whole() {
    everywhere(async |pair| {
        let Pair { way: Way { name, .. }, channel, client, other, .. } = pair;
        let batch = Some(Batch { size: 2, delay_ms: 10_000 });
        let gathered = Subscribe { batch, ..Subscribe::new(channel.as_str()) };
        let mut heard = within(client.subscribe_with(gathered)).await.expect("subscribed");
        for number in 0..4 {
            within(other.publish(channel, &number)).await.expect("stored");
        }
        for number in 0..4 {
            assert_eq!(data(&mut heard).await, number.to_string(), "{name}");
        }
    })
    .await;
}

#[tokio::test]
async fn nothing_comes_after_the_end_of_a_subscription() {
    everywhere(async |pair| {
        let Pair { way: Way { name, .. }, channel, client, other, .. } = pair;
        let mut first = within(client.subscribe(channel)).await.expect("subscribed");
        within(other.publish(channel, "before")).await.expect("stored");
        assert_eq!(data(&mut first).await, r#""before""#, "{name}");
        drop(first);
        // A history query on the same connection comes after the end of the subscription.
        within(client.history(channel, HistoryFrom::Newest, Some(1))).await.expect("answered");
        within(other.publish(channel, "meanwhile")).await.expect("stored");
        let mut second = within(client.subscribe(channel)).await.expect("subscribed");
        within(other.publish(channel, "after")).await.expect("stored");
        assert_eq!(data(&mut second).await, r#""after""#, "{name}");
    })
    .await;
}

#[tokio::test]
async fn a_client_that_comes_back_has_missed_nothing_and_has_not_left() {
    everywhere(async |pair| {
        let Pair { way: Way { name, .. }, channel, client, other, proxy, .. } = pair;
        let with_presence = || Subscribe { presence: true, ..Subscribe::new(channel.as_str()) };
        let mut heard = within(client.subscribe_with(with_presence())).await.expect("subscribed");
        let mut heard_there = within(other.subscribe_with(with_presence())).await.expect("subscribed");
        first_presence(&mut heard_there).await;
        let id = online(client, Transport::ALL).await.client;
        within(client.presence_set(channel, "here")).await.expect("entered");
        let joined = next(&mut heard_there, |event| match event {
            Event::PresenceChange(change) => Some((change.kind, change.entry.client.clone())),
            _ => None,
        });
        assert_eq!(joined.await, (PresenceKind::Join, id.clone()), "{name}");
        proxy.block(true);
        proxy.cut();
        if pair.way.comes_to != Transport::Poll {
            offline(client).await; // a session that polls lives on without connections
            pair.connections(1).await; // a signal that is written to a lost connection is lost
        }
        for number in 0..5 {
            within(other.publish(channel, &number)).await.expect("stored");
            within(other.signal_to(channel, &id, "offer", &number)).await.expect("it waits for the client");
        }
        proxy.block(false);
        let back = online(client, pair.way.transports).await;
        assert_eq!(back.client, id, "{name}: the session goes on");
        let (mut publications, mut signals) = (Vec::new(), Vec::new());
        while publications.len() + signals.len() < 10 {
            let (list, value) = next(&mut heard, |event| match event {
                Event::Message { publication, .. } => Some((0, publication.data.bytes().to_vec())),
                Event::Signal(signal) => Some((1, signal.data.to_vec())),
                Event::Gap { .. } | Event::Ended { .. } => panic!("{name}: nothing was to be lost: {event:?}"),
                _ => None,
            })
            .await;
            [&mut publications, &mut signals][list].push(String::from_utf8(value).expect("a number"));
        }
        assert_eq!(publications, ["0", "1", "2", "3", "4"], "{name}");
        assert_eq!(signals, ["0", "1", "2", "3", "4"], "{name}");
        within(client.publish(channel, "live")).await.expect("stored");
        assert_eq!(data(&mut heard).await, r#""live""#, "{name}");
        loop {
            let event = within(heard_there.next()).await.expect("it goes on");
            match event {
                Event::PresenceChange(change) => assert_ne!(change.kind, PresenceKind::Leave, "{name}: it has left"),
                Event::Message { publication, .. } if &publication.data.bytes()[..] == br#""live""# => break,
                _ => {}
            }
        }
    })
    .await;
}

#[tokio::test]
async fn a_client_that_is_closed_has_left_at_once_and_its_last_words_have_arrived() {
    everywhere(async |pair| {
        let Pair { way: Way { name, .. }, channel, client, other, .. } = pair;
        let with_presence = Subscribe { presence: true, ..Subscribe::new(channel.as_str()) };
        let mut heard_there = within(other.subscribe_with(with_presence)).await.expect("subscribed");
        first_presence(&mut heard_there).await;
        let _heard = within(client.subscribe(channel)).await.expect("subscribed");
        let id = online(client, Transport::ALL).await.client;
        within(client.presence_set(channel, "here")).await.expect("entered");
        within(client.signal(channel, "bye", &1)).await.expect("online");
        within(client.close()).await;
        let mut events = Vec::new();
        while events.last() != Some(&"leave") {
            events.extend(match within(heard_there.next()).await.expect("it goes on") {
                Event::PresenceChange(change) if change.entry.client == id => match change.kind {
                    PresenceKind::Join => Some("join"),
                    PresenceKind::Leave => Some("leave"),
                    PresenceKind::Update => None,
                },
                Event::Signal(signal) => Some(if &*signal.event == "bye" { "bye" } else { "another" }),
                _ => None,
            });
        }
        assert_eq!(events, ["join", "bye", "leave"], "{name}");
    })
    .await;
}

/// A session in its grace, and a client that does not come back for it.
#[tokio::test]
async fn a_client_that_is_closed_while_it_is_offline_has_left_too() {
    everywhere(async |pair| {
        let Pair { way: Way { name, transports, .. }, channel, client, other, proxy, .. } = pair;
        if matches!(transports, [Transport::WebSocket] | [Transport::Poll]) {
            return; // a WebSocket alone has no other way, and polls are not offline
        }
        let with_presence = Subscribe { presence: true, ..Subscribe::new(channel.as_str()) };
        let mut heard_there = within(other.subscribe_with(with_presence)).await.expect("subscribed");
        first_presence(&mut heard_there).await;
        let _heard = within(client.subscribe(channel)).await.expect("subscribed");
        within(client.presence_set(channel, "here")).await.expect("entered");
        proxy.block(true);
        proxy.cut();
        offline(client).await;
        proxy.block(false);
        within(client.close()).await;
        let left = next(&mut heard_there, |event| match event {
            Event::PresenceChange(change) => (change.kind == PresenceKind::Leave).then_some(()),
            _ => None,
        });
        left.await;
        assert!(matches!(client.status().borrow().state, State::Ended(_)), "{name}");
    })
    .await;
}

/// Streams that a proxy holds back: the client goes on by polls.
#[tokio::test]
async fn a_stream_that_is_held_back_is_followed_by_polls() {
    let native = Native::default().heartbeat_ms(600_000);
    let server = Server::of(Fanfare::builder(()).config(config()).protocol("/v1/ws", native));
    let how = Meddling { request_strips: &["upgrade"], holds_bytes: 1 << 20, ..Meddling::default() };
    let proxy = FaultProxy::start(server.address, move |_| Faults::meddling(how)).expect("a free port");
    let patience = |config: &mut fanfare_client::core::Config| config.connect_timeout_ms = 2_000;
    let client = builder(proxy.address, Transport::AUTO).config(quick).config(patience).start().expect("a good URL");
    let mut heard = within(client.subscribe("chat")).await.expect("subscribed");
    online(&client, &[Transport::Poll]).await;
    within(client.publish("chat", &1)).await.expect("stored");
    assert_eq!(data(&mut heard).await, "1");
}

/// The client's transport changes at each step, so that each follows each; at every second step the server still has
/// the connection before.
#[tokio::test]
async fn a_client_whose_transport_changes_at_each_step_misses_and_repeats_nothing() {
    let native = Native::default().heartbeat_ms(600_000).grace_ms(600_000);
    let server = Server::of(Fanfare::builder(()).config(config()).protocol("/v1/ws", native));
    let gate = Gate::start(server.address, Transport::WebSocket);
    let client = builder(gate.address, Transport::ALL).config(quick).start().expect("a good URL");
    let id = online(&client, Transport::ALL).await.client;
    let other = connect(server.address, Transport::WebSocket).await;
    let mut heard = within(client.subscribe("chat")).await.expect("subscribed");
    let steps = Transport::ALL.iter().flat_map(|&from| Transport::ALL.iter().flat_map(move |&to| [from, to]));
    let mut published = Vec::new();
    for (step, to) in steps.enumerate() {
        let name = format!("step {step}, {to:?}");
        // Some are on their way, in both directions, when the transport is lost.
        let of_step = [0, 1, 2, 3].map(|at| (step * 4 + at).to_string());
        let sent = futures_util::future::join_all([
            client.publish("chat", &of_step[0]),
            other.publish("chat", &of_step[1]),
            client.publish("chat", &of_step[2]),
        ]);
        let change = async { gate.change(to, step % 2 == 0) };
        let (sent, ()) = within(futures_util::future::join(sent, change)).await;
        let back = online(&client, &[to]).await;
        assert_eq!(back.client, id, "{name}: the session goes on");
        let last = within(client.publish("chat", &of_step[3])).await;
        for (position, data) in sent.into_iter().chain([last]).zip(of_step) {
            published.push((position.expect("stored").offset, serde_json::to_string(&data).expect("a text")));
        }
    }
    published.sort();
    for (offset, data) in published {
        let (heard, position) = publication(&mut heard).await;
        assert_eq!((position.offset, heard), (offset, data));
    }
}

/// A proxy through which one transport passes: others find nothing at their address. Sends always pass.
struct Gate {
    address: SocketAddr,
    state: Arc<Mutex<GateState>>,
}

struct GateState {
    passes: Transport,
    /// The connections: the client's end of each, and the server's.
    open: Vec<(TcpStream, TcpStream)>,
    /// Connections that the server takes for open.
    left: Vec<TcpStream>,
}

impl Gate {
    fn start(server: SocketAddr, passes: Transport) -> Gate {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("bound");
        let state = Arc::new(Mutex::new(GateState { passes, open: Vec::new(), left: Vec::new() }));
        let shared = state.clone();
        std::thread::spawn(move || {
            for near in listener.incoming() {
                let (Ok(near), shared) = (near, shared.clone()) else { return };
                std::thread::spawn(move || GateState::serve(near, server, &shared));
            }
        });
        Gate { address, state }
    }

    /// Ends all connections of the client, and lets another transport pass. `leaves`: the server does not learn of it.
    fn change(&self, to: Transport, leaves: bool) {
        let mut state = self.state.lock().expect("no thread has failed");
        state.passes = to;
        for (near, far) in std::mem::take(&mut state.open) {
            let _ = near.shutdown(Shutdown::Both); // it may be closed
            if leaves {
                state.left.push(far);
            } else {
                let _ = far.shutdown(Shutdown::Both);
            }
        }
    }
}

impl GateState {
    fn serve(mut near: TcpStream, server: SocketAddr, state: &Mutex<GateState>) {
        let mut head = Vec::new();
        let mut byte = [0];
        while !head.ends_with(b"\r\n\r\n") && matches!(near.read(&mut byte), Ok(1)) {
            head.push(byte[0]);
        }
        let text = String::from_utf8_lossy(&head).into_owned();
        let path = text.split(' ').nth(1).unwrap_or_default();
        let passed = {
            let mut state = state.lock().expect("no thread has failed");
            let passes = match state.passes {
                Transport::WebSocket => "/v1/ws",
                Transport::Sse => "/v1/sse",
                Transport::Stream => "/v1/stream",
                _ => "/v1/poll",
            };
            let far = (path == "/v1/send" || path == passes).then(|| TcpStream::connect(server).expect("it listens"));
            if let Some(far) = &far {
                state.open.push((near.try_clone().expect("a socket"), far.try_clone().expect("a socket")));
            }
            far
        };
        let Some(mut far) = passed else {
            let _ = near.write_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
            return;
        };
        // One request on each connection, so that each is judged.
        let text = if path == "/v1/ws" { text } else { text.replacen("\r\n", "\r\nConnection: close\r\n", 1) };
        if far.write_all(text.as_bytes()).is_err() {
            return;
        }
        let (mut back, mut to) = (far.try_clone().expect("a socket"), near.try_clone().expect("a socket"));
        std::thread::spawn(move || {
            let _ = std::io::copy(&mut back, &mut to);
            let _ = to.shutdown(Shutdown::Both);
        });
        let _ = std::io::copy(&mut near, &mut far);
    }
}
