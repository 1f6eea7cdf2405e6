//! The Rust client over each transport, against the real server: what an application does with it is the same on all.

mod support;

use fanfare::{Fanfare, Native};
use fanfare_client::core::{Event, State};
use fanfare_client::{Client, HistoryFrom, PresenceKind, Subscribe, Subscription, Transport};
use fanfare_fault_proxy::{Break, FaultProxy, Faults, Way};
use std::net::SocketAddr;
use support::{DEADLINE, Random, Server, config, rules};

async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(DEADLINE, future).await.expect("it takes no minute")
}

fn builder(address: SocketAddr, transport: Transport) -> fanfare_client::Builder {
    Client::builder(format!("http://{address}")).transport(transport)
}

async fn connect(address: SocketAddr, transport: Transport) -> Client {
    let client = within(builder(address, transport).connect()).await.expect("the server is there");
    assert_eq!(client.status().borrow().transport, transport);
    client
}

/// The next event that is wanted.
async fn next<T>(subscription: &mut Subscription, mut wanted: impl FnMut(&Event) -> Option<T>) -> T {
    loop {
        let event = within(subscription.next()).await.expect("it goes on");
        if let Some(found) = wanted(&event) {
            return found;
        }
    }
}

async fn data(subscription: &mut Subscription) -> String {
    next(subscription, |event| match event {
        Event::Message { publication, .. } => Some(String::from_utf8_lossy(publication.data.bytes()).into_owned()),
        Event::Gap { .. } | Event::Ended { .. } => panic!("nothing was to be lost: {event:?}"),
        _ => None,
    })
    .await
}

/// Runs it over each transport, with a channel of its own; the second client has a WebSocket.
async fn everywhere(work: impl AsyncFn(Transport, &str, Client, Client)) {
    let echo = async |fanfare::Json(value): fanfare::Json<u64>| fanfare::Json(value);
    let native = Native::default().heartbeat_ms(600_000);
    let server = Server::of(Fanfare::builder(()).config(config()).protocol("/v1/ws", native).rpc("echo", echo));
    for &transport in Transport::ALL {
        let client = connect(server.address, transport).await;
        let other = connect(server.address, Transport::WebSocket).await;
        work(transport, &format!("chat:{}", transport.name()), client, other).await;
    }
}

#[tokio::test]
async fn publications_come_in_order_to_both_sides() {
    everywhere(async |transport, channel, client, other| {
        let mut heard = within(client.subscribe(channel)).await.expect("subscribed");
        let mut heard_there = within(other.subscribe(channel)).await.expect("subscribed");
        for number in 0..20_u64 {
            let by = if number % 2 == 0 { &client } else { &other };
            assert_eq!(within(by.publish(channel, &number)).await.expect("stored").offset, number + 1);
        }
        for number in 0..20 {
            assert_eq!(data(&mut heard).await, number.to_string(), "{transport:?}");
            assert_eq!(data(&mut heard_there).await, number.to_string(), "{transport:?}");
        }
    })
    .await;
}

#[tokio::test]
async fn many_calls_at_once_are_all_answered() {
    everywhere(async |transport, channel, client, _other| {
        let mut heard = within(client.subscribe(channel)).await.expect("subscribed");
        let calls = (0..200_u64).map(|number| {
            let client = client.clone();
            async move {
                client.publish(channel, &number).await.expect("stored");
                client.rpc::<_, u64>("echo", &number).await.expect("answered")
            }
        });
        let answers = within(futures_util::future::join_all(calls)).await;
        assert_eq!(answers, (0..200).collect::<Vec<_>>(), "{transport:?}");
        let mut numbers = Vec::new();
        for _ in 0..200 {
            numbers.push(data(&mut heard).await.parse::<u64>().expect("a number"));
        }
        numbers.sort_unstable();
        assert_eq!(numbers, (0..200).collect::<Vec<_>>(), "{transport:?}");
    })
    .await;
}

#[tokio::test]
async fn presence_signals_and_history_are_the_same() {
    everywhere(async |transport, channel, client, other| {
        let with_presence = || Subscribe { presence: true, ..Subscribe::new(channel) };
        let mut here = within(client.subscribe_with(with_presence())).await.expect("subscribed");
        next(&mut here, |event| matches!(event, Event::Presence(_)).then_some(())).await;
        let _there = within(other.subscribe_with(with_presence())).await.expect("subscribed");
        within(other.presence_set(channel, &"there")).await.expect("entered");
        let joined = next(&mut here, |event| match event {
            Event::PresenceChange(change) => Some((change.kind, change.entry.client.clone())),
            _ => None,
        });
        let (kind, member) = joined.await;
        assert_eq!(kind, PresenceKind::Join, "{transport:?}");
        within(client.presence_set(channel, &"here")).await.expect("entered");
        assert_eq!(within(client.presence(channel)).await.expect("answered").count, 2, "{transport:?}");
        within(client.signal_to(channel, &member, "offer", &1)).await.expect("taken");
        within(client.signal(channel, "typing", &true)).await.expect("online");
        within(other.signal(channel, "typing", &true)).await.expect("online");
        let event = next(&mut here, |event| match event {
            Event::Signal(signal) => Some(signal.event.clone()),
            _ => None,
        });
        assert_eq!(&*event.await, "typing", "{transport:?}");
        within(client.publish(channel, "kept")).await.expect("stored");
        let history = within(client.history(channel, HistoryFrom::Newest, Some(1))).await.expect("answered");
        assert_eq!(history.publications.len(), 1, "{transport:?}");
    })
    .await;
}

#[tokio::test]
async fn a_channel_is_left_and_followed_again_from_where_it_was() {
    everywhere(async |transport, channel, client, other| {
        for round in 0..10_u64 {
            let mut heard = within(client.subscribe(channel)).await.expect("subscribed");
            within(other.publish(channel, &round)).await.expect("stored");
            assert_eq!(data(&mut heard).await, round.to_string(), "{transport:?}");
        }
    })
    .await;
}

#[tokio::test]
async fn a_refused_command_names_its_reason() {
    everywhere(async |transport, channel, client, _other| {
        let refused = within(client.rpc::<_, u64>("nothing", &1)).await.expect_err("there is no such method");
        assert!(refused.to_string().starts_with("not_found"), "{transport:?}: {refused}");
        // Over the limit of a payload; and so long that the request is refused, where a WebSocket would be closed.
        let lens: &[usize] = if transport == Transport::WebSocket { &[66_000] } else { &[66_000, 1 << 20] };
        for &len in lens {
            let refused = within(client.publish(channel, &"x".repeat(len))).await.expect_err("over the limit");
            assert!(refused.to_string().starts_with("too_large"), "{transport:?}: {refused}");
        }
        // The client goes on, and its numbers too.
        within(client.publish(channel, "short")).await.expect("stored");
        assert!(matches!(client.status().borrow().state, State::Online(_)), "{transport:?}");
    })
    .await;
}

/// Every connection breaks after some bytes, in either direction: requests get lost, and so do their answers.
#[tokio::test]
async fn over_a_wire_that_breaks_nothing_is_lost_and_nothing_comes_twice() {
    for &transport in Transport::ALL {
        let native = Native::default().heartbeat_ms(600_000).grace_ms(600_000);
        let config = fanfare::Config { rules: rules(100_000), ..config() };
        let server = Server::of(Fanfare::builder(()).config(config).protocol("/v1/ws", native));
        let mut random = Random::new(7);
        let plan = move |number: u64| {
            let times = if number % 4 == 3 { 16 } else { 1 };
            let (up, down) = (times * random.below(3_000), times * random.below(3_000));
            Faults { up: Way::broken(up, Break::End), down: Way::broken(down, Break::End), ..Faults::default() }
        };
        let proxy = FaultProxy::start(server.address, plan).expect("a free port");
        let quick = |config: &mut fanfare_client::core::Config| {
            (config.backoff_min_ms, config.backoff_max_ms) = (2, 20);
            (config.connect_timeout_ms, config.request_timeout_ms) = (2_000, 5_000);
        };
        let client = builder(proxy.address, transport).config(quick).start().expect("a good URL");
        let writer = connect(server.address, Transport::WebSocket).await;
        let mut heard = within(client.subscribe("c")).await.expect("subscribed");
        let mut heard_there = within(writer.subscribe("c")).await.expect("subscribed");
        for number in 0..100_u64 {
            let by = if number % 2 == 0 { &client } else { &writer };
            within(by.publish("c", &number)).await.expect("stored");
            assert_eq!(data(&mut heard_there).await, number.to_string(), "{transport:?}: each once, in order");
            assert_eq!(data(&mut heard).await, number.to_string(), "{transport:?}: each once, in order");
        }
        assert!(proxy.broken() > 3, "{transport:?}: nothing was tested");
    }
}

/// A proxy that answers an upgrade as if it were any request: the client goes on by an event stream.
#[tokio::test]
async fn a_stripped_upgrade_is_followed_by_an_event_stream() {
    let native = Native::default().heartbeat_ms(600_000);
    let server = Server::of(Fanfare::builder(()).config(config()).protocol("/v1/ws", native));
    let front = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let (address, behind) = (front.local_addr().expect("bound"), server.address);
    std::thread::spawn(move || strip(&front, behind));
    let client = within(Client::builder(format!("http://{address}")).connect()).await.expect("it gets through");
    assert_eq!(client.status().borrow().transport, Transport::Sse);
    let mut heard = within(client.subscribe("chat")).await.expect("subscribed");
    within(client.publish("chat", &1)).await.expect("stored");
    assert_eq!(data(&mut heard).await, "1");
}

/// Passes connections on, and removes `Upgrade` from their first head.
fn strip(front: &std::net::TcpListener, behind: SocketAddr) {
    use std::io::{Read as _, Write as _};
    for near in front.incoming() {
        let (Ok(mut near), Ok(mut far)) = (near, std::net::TcpStream::connect(behind)) else { return };
        std::thread::spawn(move || {
            let mut head = Vec::new();
            let mut byte = [0];
            while !head.ends_with(b"\r\n\r\n") && matches!(near.read(&mut byte), Ok(1)) {
                head.push(byte[0]);
            }
            let text = String::from_utf8_lossy(&head).replace("Upgrade: websocket\r\n", "");
            let text = text.replace("Connection: Upgrade\r\n", "");
            if far.write_all(text.as_bytes()).is_err() {
                return;
            }
            let (mut back, mut to) = (far.try_clone().expect("a socket"), near.try_clone().expect("a socket"));
            std::thread::spawn(move || std::io::copy(&mut back, &mut to));
            let _ = std::io::copy(&mut near, &mut far);
        });
    }
}
