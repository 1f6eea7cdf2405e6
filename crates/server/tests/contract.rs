//! One contract for every transport: the behaviours of the native protocol hold over a WebSocket, over streams with
//! sends, and over polls with sends; and a client that changes its transport at each step misses and repeats nothing.
//!
//! A reply and the copy of one's own publication have no order where they come by different requests, so no behaviour
//! here depends on it.

mod support;

use serde_json::{Value, json};
use std::collections::VecDeque;
use std::net::SocketAddr;
use support::native::command;
use support::polls::{Poller, json_of, post, replies};
use support::stream::Stream;
use support::{Client, Server};

/// A way to speak the native protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Transport {
    WebSocket,
    Sse,
    NdJson,
    Polls,
}

const TRANSPORTS: [Transport; 4] = [Transport::WebSocket, Transport::Sse, Transport::NdJson, Transport::Polls];

/// A connected client.
struct Peer {
    address: SocketAddr,
    link: Link,
    connected: Value,
    /// The number of its last send. It goes on with the session.
    sent: u64,
    /// Messages that it has had and not looked at.
    inbox: VecDeque<Value>,
    next_id: u64,
}

enum Link {
    WebSocket(Client),
    Sse(Stream),
    NdJson(Stream),
    Polls(Poller),
}

impl Peer {
    fn connect(transport: Transport, address: SocketAddr, fields: Value) -> Peer {
        let connect = command("connect", fields.clone(), &json!(1));
        let (mut link, polled) = match transport {
            Transport::WebSocket => {
                let mut client = Client::native(address);
                client.text(&connect.to_string());
                (Link::WebSocket(client), None)
            }
            Transport::Sse => (Link::Sse(Stream::post(address, "/v1/sse", &connect.to_string())), None),
            Transport::NdJson => (Link::NdJson(Stream::post(address, "/v1/stream", &connect.to_string())), None),
            Transport::Polls => {
                let poller = Poller::connect(address, fields);
                let connected = poller.connected.clone();
                (Link::Polls(poller), Some(connected))
            }
        };
        let connected = polled.unwrap_or_else(|| link.message());
        assert_eq!(connected["type"], "connected", "{transport:?}: {connected}");
        Peer { address, link, connected, sent: 0, inbox: VecDeque::new(), next_id: 1 }
    }

    fn client(&self) -> Value {
        self.connected["client"].clone()
    }

    /// Sends a command and returns its reply.
    fn ask(&mut self, kind: &str, fields: Value) -> Value {
        self.next_id += 1;
        let id = json!(self.next_id);
        let command = command(kind, fields, &id);
        if let Link::WebSocket(client) = &mut self.link {
            client.text(&command.to_string());
            loop {
                let message = client.message();
                if message["id"] == id {
                    return message;
                }
                self.inbox.push_back(message);
            }
        }
        self.sent += 1;
        let send = json!({"ticket": self.connected["ticket"], "n": self.sent, "commands": command});
        let replies = replies(&json_of(post(self.address, "/v1/send", &send)));
        let [reply] = &replies[..] else { panic!("{replies:?}") };
        assert_eq!(reply["id"], id, "{reply}");
        reply.clone()
    }

    /// The code of the error that a command gets.
    fn refused(&mut self, kind: &str, fields: Value) -> Value {
        let reply = self.ask(kind, fields);
        assert_eq!(reply["type"], "error", "{reply}");
        reply["code"].clone()
    }

    fn publish(&mut self, channel: &str, data: impl Into<Value>) -> Value {
        let reply = self.ask("publish", json!({"channel": channel, "data": data.into()}));
        assert_eq!(reply["type"], "published", "{reply}");
        reply
    }

    /// The next message of this type that is no reply; the others before it are skipped.
    fn push(&mut self, kind: &str) -> Value {
        loop {
            let message = self.inbox.pop_front().unwrap_or_else(|| self.link.message());
            if message["type"] == kind {
                return message;
            }
        }
    }

    /// Data of the next publications.
    fn data(&mut self, count: usize) -> Vec<Value> {
        (0..count).map(|_| self.push("message")["data"].clone()).collect()
    }
}

impl Link {
    fn message(&mut self) -> Value {
        match self {
            Link::WebSocket(client) => client.message(),
            Link::Sse(stream) => stream.message().json(),
            Link::NdJson(stream) => stream.line().expect("the stream goes on"),
            Link::Polls(poller) => poller.message(),
        }
    }
}

fn subscribe_to(channel: &str) -> Value {
    json!({"subscribe": [{"channel": channel, "presence": true}]})
}

/// Two clients in a channel: one by this transport, and one by a WebSocket.
fn pair(server: &Server, transport: Transport, channel: &str) -> (Peer, Peer) {
    let mut peers = [transport, Transport::WebSocket].map(|transport| {
        let mut peer = Peer::connect(transport, server.address, subscribe_to(channel));
        assert_eq!(peer.push("subscribed")["channel"], channel);
        peer
    });
    peers[0].inbox.clear();
    let [peer, other] = peers;
    (peer, other)
}

/// Runs a behaviour over every transport, each in a channel of its own.
fn everywhere(behaviour: impl Fn(Transport, &str, Peer, Peer)) {
    let server = Server::native(support::config());
    for transport in TRANSPORTS {
        let channel = format!("chat:{transport:?}");
        let (peer, other) = pair(&server, transport, &channel);
        behaviour(transport, &channel, peer, other);
    }
}

#[test]
fn publications_are_heard_in_order_with_their_senders() {
    everywhere(|transport, channel, mut peer, mut other| {
        for number in 0..6 {
            let by = if number % 2 == 0 { &mut peer } else { &mut other };
            assert_eq!(by.publish(channel, number)["offset"], number + 1, "{transport:?}");
        }
        let clients = [peer.client(), other.client()];
        for hearer in [&mut peer, &mut other] {
            for number in 0..6 {
                let message = hearer.push("message");
                assert_eq!(
                    (&message["data"], &message["offset"]),
                    (&json!(number), &json!(number + 1)),
                    "{transport:?}"
                );
                assert_eq!(message["from"]["client"], clients[number % 2], "{transport:?}");
            }
        }
    });
}

#[test]
fn ones_own_publication_is_left_out_where_it_is_not_wanted() {
    everywhere(|transport, channel, mut peer, mut other| {
        peer.ask("publish", json!({"channel": channel, "data": "own", "echo": false}));
        other.publish(channel, "other's");
        assert_eq!(peer.data(1), ["other's"], "{transport:?}");
        assert_eq!(other.data(2), ["own", "other's"], "{transport:?}");
    });
}

#[test]
fn a_key_makes_a_publication_once() {
    everywhere(|transport, channel, mut peer, mut other| {
        let publish = |data: &str| json!({"channel": channel, "data": data, "idempotency_key": "k"});
        let first = peer.ask("publish", publish("once"));
        let again = peer.ask("publish", publish("once"));
        assert_eq!((&again["offset"], &again["duplicate"]), (&first["offset"], &json!(true)), "{transport:?}");
        assert_eq!(peer.refused("publish", publish("other")), "key_conflict", "{transport:?}");
        peer.publish(channel, "next");
        assert_eq!(other.data(2), ["once", "next"], "{transport:?}");
    });
}

#[test]
fn refusals_have_their_codes() {
    everywhere(|transport, channel, mut peer, _other| {
        #[rustfmt::skip]
        let rows = [
            ("shout", json!({}), "unknown_command"),
            ("connect", json!({}), "already_connected"),
            ("subscribe", json!({"channel": channel}), "already_subscribed"),
            ("subscribe", json!({"channel": "no good"}), "bad_request"),
            ("publish", json!({"channel": channel}), "bad_request"),
            ("presence_set", json!({"channel": "chat:elsewhere", "data": 1}), "not_subscribed"),
            ("unsubscribe", json!({"channel": "chat:elsewhere"}), "not_subscribed"),
            ("signal", json!({"channel": channel, "event": "e", "to": "0123456789abcdef"}), "not_found"),
            ("publish", json!({"channel": channel, "data": "x".repeat(70_000)}), "too_large"),
        ];
        for (kind, fields, code) in rows {
            let shown = fields.to_string();
            assert_eq!(peer.refused(kind, fields), code, "{transport:?}: {kind} {}", &shown[..shown.len().min(60)]);
        }
    });
}

#[test]
fn history_and_presence_are_answered() {
    everywhere(|transport, channel, mut peer, mut other| {
        for number in 0..3 {
            other.publish(channel, number);
        }
        let history = peer.ask("history", json!({"channel": channel, "limit": 2}));
        let data: Vec<_> = history["publications"].as_array().expect("a list").iter().map(|it| &it["data"]).collect();
        assert_eq!(data, [1, 2], "{transport:?}");
        peer.ask("presence_set", json!({"channel": channel, "data": {"name": "Ada"}}));
        let join = other.push("join");
        assert_eq!((&join["client"], &join["data"]["name"]), (&peer.client(), &json!("Ada")), "{transport:?}");
        other.ask("presence_set", json!({"channel": channel, "data": {"name": "Bob"}}));
        assert_eq!(peer.ask("presence", json!({"channel": channel}))["count"], 2, "{transport:?}");
        peer.ask("presence_clear", json!({"channel": channel}));
        assert_eq!(other.push("leave")["client"], peer.client(), "{transport:?}");
        other.ask("presence_clear", json!({"channel": channel}));
        while peer.push("leave")["client"] != other.client() {}
    });
}

#[test]
fn signals_reach_those_that_they_are_for() {
    everywhere(|transport, channel, mut peer, mut other| {
        let signal = |event: &str, to: Option<Value>| json!({"channel": channel, "event": event, "data": 1, "to": to});
        assert_eq!(peer.ask("signal", signal("typing", None))["type"], "result", "{transport:?}");
        let heard = other.push("signal");
        assert_eq!((&heard["event"], &heard["from"]["client"]), (&json!("typing"), &peer.client()), "{transport:?}");
        other.ask("signal", signal("offer", Some(peer.client())));
        assert_eq!(peer.push("signal")["event"], "offer", "{transport:?}");
        peer.ask("signal", signal("answer", Some(other.client())));
        assert_eq!(other.push("signal")["event"], "answer", "{transport:?}");
    });
}

#[test]
fn nothing_comes_after_the_end_of_a_subscription() {
    everywhere(|transport, channel, mut peer, mut other| {
        let second = format!("{channel}:second");
        assert_eq!(peer.ask("subscribe", json!({"channel": second}))["type"], "subscribed", "{transport:?}");
        assert_eq!(peer.ask("unsubscribe", json!({"channel": channel}))["code"], "requested", "{transport:?}");
        other.publish(channel, "not for it");
        other.publish(&second, "for it");
        assert_eq!(peer.data(1), ["for it"], "{transport:?}");
    });
}

#[test]
fn a_batch_is_one_message() {
    everywhere(|transport, channel, mut peer, mut other| {
        let gathered = format!("{channel}:gathered");
        let options = json!({"channel": gathered, "batch": {"size": 2, "delay": 10_000}});
        assert_eq!(peer.ask("subscribe", options)["type"], "subscribed", "{transport:?}");
        for number in 0..2 {
            other.publish(&gathered, number);
        }
        // The helper for polls takes arrays apart.
        let mut heard = Vec::new();
        while heard.len() < 2 {
            let message = peer.inbox.pop_front().unwrap_or_else(|| peer.link.message());
            match message {
                Value::Array(messages) => heard.extend(messages.into_iter().map(|message| message["data"].clone())),
                message => heard.extend(Some(&message["data"]).filter(|data| data.is_number()).cloned()),
            }
        }
        assert_eq!(heard, [0, 1], "{transport:?}");
    });
}

#[test]
fn a_client_that_comes_back_gets_exactly_the_missed() {
    everywhere(|transport, channel, peer, mut other| {
        let address = peer.address;
        let ticket = peer.connected["ticket"].clone();
        drop(peer);
        let first = other.publish(channel, 0);
        for number in 1..5 {
            other.publish(channel, number);
        }
        let since = json!({"epoch": first["epoch"], "offset": first["offset"]});
        let fields = json!({"ticket": ticket, "subscribe": [{"channel": channel, "since": since}]});
        let mut back = Peer::connect(transport, address, fields);
        let subscribed = back.push("subscribed");
        assert_eq!(subscribed["recovered"], true, "{transport:?}");
        let missed = subscribed["publications"].as_array().expect("a list").iter().map(|it| &it["data"]);
        assert_eq!(missed.collect::<Vec<_>>(), [1, 2, 3, 4], "{transport:?}");
        other.publish(channel, 5);
        assert_eq!(back.data(1), [5], "{transport:?}");
    });
}

#[test]
fn a_client_that_leaves_is_gone_at_once() {
    everywhere(|transport, channel, mut peer, mut other| {
        peer.ask("presence_set", json!({"channel": channel, "data": 1}));
        assert_eq!(other.push("join")["client"], peer.client(), "{transport:?}");
        assert_eq!(peer.ask("disconnect", json!({}))["type"], "result", "{transport:?}");
        assert_eq!(other.push("leave")["client"], peer.client(), "{transport:?}");
        let end = peer.push("disconnect");
        assert_eq!(
            (&end["code"], &end["reason"], &end["retry"]),
            (&json!(4505), &json!("left"), &json!(false)),
            "{transport:?}"
        );
        let send = json!({"ticket": peer.connected["ticket"], "commands": {"type": "disconnect"}});
        assert_eq!(post(peer.address, "/v1/send", &send).status(), 401, "{transport:?}: there is no session");
        let back = Peer::connect(transport, peer.address, json!({"ticket": peer.connected["ticket"]}));
        assert_eq!(back.connected["session_resumed"], false, "{transport:?}");
        assert_ne!(back.client(), peer.client(), "{transport:?}");
    });
}

#[test]
fn a_client_that_was_cut_off_can_leave_without_coming_back() {
    everywhere(|transport, channel, mut peer, mut other| {
        peer.ask("presence_set", json!({"channel": channel, "data": 1}));
        assert_eq!(other.push("join")["client"], peer.client(), "{transport:?}");
        let (ticket, client, address) = (peer.connected["ticket"].clone(), peer.client(), peer.address);
        drop(peer);
        let leave = json!({"ticket": ticket, "commands": {"type": "disconnect", "id": 9}});
        assert_eq!(replies(&json_of(post(address, "/v1/send", &leave))), [json!({"type": "result", "id": 9})]);
        assert_eq!(other.push("leave")["client"], client, "{transport:?}");
    });
}

#[test]
fn a_client_that_changes_its_transport_at_each_step_misses_and_repeats_nothing() {
    let server = Server::native(support::config());
    let channel = "chat:changes";
    let mut other = Peer::connect(Transport::WebSocket, server.address, json!({}));
    let begin = other.publish(channel, 0);
    let mut position = json!({"epoch": begin["epoch"], "offset": begin["offset"]});
    let mut heard = vec![json!(0)];
    let (mut ticket, mut client, mut sent) = (Value::Null, Value::Null, 0);
    let mut published = 0;
    // Every pair of transports follow each other.
    let steps = TRANSPORTS.into_iter().flat_map(|from| TRANSPORTS.into_iter().flat_map(move |to| [from, to]));
    for (step, transport) in steps.enumerate() {
        let subscribe = json!([{"channel": channel, "since": position}]);
        let mut fields = json!({"page": "the page", "subscribe": subscribe});
        if step > 0 {
            fields["ticket"] = ticket.clone();
        }
        let mut peer = Peer::connect(transport, server.address, fields);
        if step > 0 {
            assert_eq!(peer.connected["session_resumed"], true, "step {step}, {transport:?}: {}", peer.connected);
            assert_eq!(peer.client(), client, "step {step}, {transport:?}");
        }
        (ticket, client) = (peer.connected["ticket"].clone(), peer.client());
        peer.sent = sent;
        let subscribed = peer.push("subscribed");
        assert_eq!(subscribed["recovered"], true, "step {step}, {transport:?}: {subscribed}");
        let mut take = |message: &Value, heard: &mut Vec<Value>| {
            heard.push(message["data"].clone());
            position["offset"] = message["offset"].clone();
        };
        subscribed["publications"].as_array().expect("a list").iter().for_each(|it| take(it, &mut heard));
        // Some are heard now, its own among them, and some are on their way when it goes.
        for _ in 0..2 {
            published += 1;
            peer.publish(channel, published);
            published += 1;
            other.publish(channel, published);
        }
        for _ in 0..3 {
            take(&peer.push("message"), &mut heard);
        }
        sent = peer.sent;
        if step % 2 == 0 {
            drop(peer); // else its old connection is still open when it comes back
        } else {
            std::mem::forget(peer);
        }
        published += 1;
        other.publish(channel, published);
    }
    let mut last = Peer::connect(
        Transport::WebSocket,
        server.address,
        json!({"ticket": ticket, "page": "the page", "subscribe": [{"channel": channel, "since": position}]}),
    );
    let rest = last.push("subscribed");
    heard.extend(rest["publications"].as_array().expect("a list").iter().map(|it| it["data"].clone()));
    assert_eq!(heard, (0..=published).collect::<Vec<_>>());
}

/// An answer to a poll may be lost, and the client come back by another transport instead of polling again.
#[test]
fn signals_for_one_client_follow_it_from_a_poll_to_any_transport_once() {
    let server = Server::native(support::config());
    for transport in TRANSPORTS {
        for arrives in [false, true] {
            let name = format!("{transport:?}, the answer arrives: {arrives}");
            let channel = format!("chat:{transport:?}:{arrives}");
            let mut other = Peer::connect(Transport::WebSocket, server.address, subscribe_to(&channel));
            let mut poller = Poller::connect(server.address, json!({"page": "p", "subscribe": [{"channel": channel}]}));
            assert_eq!(poller.message()["type"], "subscribed", "{name}");
            let to = poller.connected["client"].clone();
            let signal = |number: u64| json!({"channel": channel, "event": "offer", "data": number, "to": to});
            for number in [1, 2] {
                assert_eq!(other.ask("signal", signal(number))["type"], "result", "{name}");
            }
            let answer = json_of(post(poller.address, "/v1/poll", &poller.poll_body(20_000)));
            assert_eq!(answer["messages"].as_array().map(Vec::len), Some(2), "{name}: {answer}");
            if arrives {
                poller.take(&answer);
            }
            assert_eq!(other.ask("signal", signal(3))["type"], "result", "{name}");
            let fields = json!({
                "ticket": poller.ticket, "page": "p", "ack": poller.ack, "subscribe": [{"channel": channel}],
            });
            let mut back = Peer::connect(transport, server.address, fields);
            assert_eq!(back.connected["session_resumed"], true, "{name}: {}", back.connected);
            assert_eq!(back.push("subscribed")["channel"], channel, "{name}");
            assert_eq!(other.ask("signal", signal(4))["type"], "result", "{name}");
            let expected: &[u64] = if arrives { &[3, 4] } else { &[1, 2, 3, 4] };
            let heard: Vec<Value> = expected.iter().map(|_| back.push("signal")["data"].clone()).collect();
            assert_eq!(heard, expected, "{name}");
        }
    }
}
