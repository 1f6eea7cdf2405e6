//! The core over streams, polls and sends, against a server whose answers the test writes.

mod ended;
mod late;
mod overtaken;
mod sends;

use super::*;
use Transport::{Poll, Sse, WebSocket};

const CONNECTED: &str =
    r#"{"type":"connected","id":ID,"client":"me","session_resumed":false,"ticket":"t1","ping":25000}"#;

/// The requests among these outputs.
fn requests(outputs: &[Output]) -> Vec<HttpRequest> {
    let request = |output: &Output| match output {
        Output::Http(request) => Some(request.clone()),
        _ => None,
    };
    outputs.iter().filter_map(request).collect()
}

fn of(kind: HttpKind, outputs: &[Output]) -> HttpRequest {
    let found: Vec<_> = requests(outputs).into_iter().filter(|request| request.kind == kind).collect();
    let [request] = &found[..] else { panic!("one {kind:?} was expected: {outputs:?}") };
    request.clone()
}

fn id_in(body: &str) -> u64 {
    let digits = body.split("\"id\":").nth(1).expect("an id").split(|c: char| !c.is_ascii_digit()).next();
    digits.expect("a number").parse().expect("a number")
}

impl World {
    fn over(transports: &[Transport]) -> (Self, Vec<Output>) {
        let config = Config { transports: transports.to_vec(), ..Config::default() };
        let mut world = World { core: Core::new(config, 1), now_ms: 1_000, next_call: 0 };
        let outputs = world.tell(Input::Start);
        (world, outputs)
    }

    fn answer(&mut self, exchange: ExchangeId, status: u16, body: &str) -> Vec<Output> {
        self.tell(Input::Http(exchange, HttpInput::Answer(HttpAnswer { status, retry_after_ms: None, body })))
    }

    fn lose(&mut self, exchange: ExchangeId) -> Vec<Output> {
        self.tell(Input::Http(exchange, HttpInput::Lost))
    }

    fn message(&mut self, exchange: ExchangeId, text: &str) -> Vec<Output> {
        self.tell(Input::Http(exchange, HttpInput::Message(text)))
    }

    /// A client that polls, and its poll that waits.
    fn polling() -> (Self, HttpRequest) {
        let (mut world, outputs) = World::over(&[Poll]);
        let connect = of(HttpKind::Poll, &outputs);
        let connected = CONNECTED.replace("ID", &id_in(&connect.body).to_string());
        let outputs = world.answer(connect.exchange, 200, &format!(r#"{{"n":1,"messages":[{connected}]}}"#));
        assert!(world.core.is_online());
        (world, of(HttpKind::Poll, &outputs))
    }

    /// A client of an event stream.
    fn streaming() -> (Self, ExchangeId) {
        let (mut world, outputs) = World::over(&[Sse]);
        let stream = of(HttpKind::Sse, &outputs);
        world.message(stream.exchange, &CONNECTED.replace("ID", &id_in(&stream.body).to_string()));
        assert!(world.core.is_online());
        (world, stream.exchange)
    }

    /// The lost connection comes back over `kind`, as the same session or another: the outputs after `connected`.
    fn back(&mut self, kind: HttpKind, resumed: bool) -> Vec<Output> {
        let connect = self.wait_for(kind);
        let connected = CONNECTED.replace("ID", &id_in(&connect.body).to_string()).replace("t1", "t2");
        let connected = connected.replace("resumed\":false", &format!("resumed\":{resumed}"));
        let connected = if resumed { connected } else { connected.replace("\"me\"", "\"other\"") };
        match kind {
            HttpKind::Poll => self.answer(connect.exchange, 200, &format!(r#"{{"n":1,"messages":[{connected}]}}"#)),
            _ => self.message(connect.exchange, &connected),
        }
    }

    /// The next request of this kind.
    fn wait_for(&mut self, kind: HttpKind) -> HttpRequest {
        let outputs = self.wake_until(|outputs| requests(outputs).iter().any(|request| request.kind == kind));
        of(kind, &outputs)
    }
}

#[test]
fn a_lost_answer_to_a_poll_is_asked_for_with_the_same_acknowledgement() {
    let (mut world, poll) = World::polling();
    assert_eq!(poll.body, r#"{"ticket":"t1","ack":1,"wait":25000}"#);
    world.lose(poll.exchange);
    let again = world.wait_for(HttpKind::Poll);
    assert_eq!(again.body, r#"{"ticket":"t1","ack":1,"wait":0}"#);
    assert!(requests(&world.answer(poll.exchange, 200, r#"{"n":9,"messages":[]}"#)).is_empty(), "it was given up");
    let outputs = world.answer(again.exchange, 200, r#"{"n":2,"messages":[{"type":"ping"}]}"#);
    assert_eq!(of(HttpKind::Poll, &outputs).body, r#"{"ticket":"t1","ack":2,"wait":25000}"#);
}

#[test]
fn a_poll_that_is_cut_while_it_waits_waits_for_half_of_it_from_then_on() {
    let (mut world, poll) = World::polling();
    world.now_ms += 20_000;
    world.lose(poll.exchange);
    let again = world.wait_for(HttpKind::Poll);
    let outputs = world.answer(again.exchange, 200, r#"{"n":1,"messages":[]}"#);
    assert!(of(HttpKind::Poll, &outputs).body.ends_with(r#""wait":12500}"#), "{outputs:?}");
}

#[test]
fn a_lost_answer_to_connect_is_asked_for_with_the_same_attempt() {
    let (mut world, outputs) = World::over(&[Poll]);
    let first = of(HttpKind::Poll, &outputs);
    world.lose(first.exchange);
    assert_eq!(world.wait_for(HttpKind::Poll).body, first.body);
}

#[test]
fn a_poll_session_that_is_over_is_connected_anew_with_its_ticket() {
    for (code, has_ticket) in [("not_connected", true), ("unauthorized", false)] {
        let (mut world, poll) = World::polling();
        world.answer(poll.exchange, 401, &format!(r#"{{"code":"{code}","message":"over","retryable":false}}"#));
        assert!(!world.core.is_online());
        let connect = world.wait_for(HttpKind::Poll);
        assert!(connect.body.starts_with(r#"{"type":"connect""#), "{}", connect.body);
        assert_eq!(connect.body.contains(r#""ticket":"t1""#), has_ticket, "{code}: {}", connect.body);
    }
}

#[test]
fn silence_on_polls_and_streams_is_found() {
    let (mut world, _poll) = World::polling();
    world.wake_until(|outputs| {
        outputs.iter().any(|it| matches!(it, Output::State(State::Waiting { why: Setback::Silence { .. }, .. })))
    });
    let (mut world, stream) = World::streaming();
    let outputs = world.wake();
    assert_eq!(world.now_ms, 1_000 + 50_000, "two heartbeats");
    assert!(outputs.contains(&Output::Abort(stream)), "{outputs:?}");
}

/// The server ends a stream whose client sends nothing between two pings.
#[test]
fn a_ping_of_a_stream_is_answered_by_a_send_without_a_number() {
    let (mut world, stream) = World::streaming();
    let ping = r#"{"type":"ping"}"#;
    // Sends that wait for their answers hold up none.
    for _ in 0..5 {
        world.call(publish("c", None));
    }
    let pong = of(HttpKind::Send, &world.message(stream, ping));
    assert_eq!(pong.body, r#"{"ticket":"t1","commands":[{"type":"pong"}]}"#);
    assert_eq!(requests(&world.answer(pong.exchange, 200, r#"{"replies":[],"ticket":"t2"}"#)), []);
    let stuck = of(HttpKind::Send, &world.message(stream, ping));
    assert_eq!(stuck.body, r#"{"ticket":"t2","commands":[{"type":"pong"}]}"#, "by the newest ticket");
    let outputs = world.message(stream, ping);
    assert!(outputs.contains(&Output::Abort(stuck.exchange)), "at most one is on its way: {outputs:?}");
    let open = of(HttpKind::Send, &outputs);
    assert!(world.lose(stream).contains(&Output::Abort(open.exchange)));
}

/// Without an answer to its ping the server would end the stream.
#[test]
fn an_answer_to_a_ping_that_is_lost_is_sent_again_later_and_later() {
    let pong = r#"{"ticket":"t1","commands":[{"type":"pong"}]}"#;
    let (mut world, stream) = World::streaming();
    let first = of(HttpKind::Send, &world.message(stream, r#"{"type":"ping"}"#));
    let second = of(HttpKind::Send, &world.lose(first.exchange));
    assert_eq!(second.body, pong);
    let outputs = world.tell(Input::Http(second.exchange, HttpInput::Unreachable));
    assert!(requests(&outputs).len() <= 1, "{outputs:?}");
    // No answer at all, then one that asks for patience.
    let third = if let [it] = &requests(&outputs)[..] { it.clone() } else { world.wait_for(HttpKind::Send) };
    let asked_ms = world.now_ms;
    let outputs = world.wake_until(|outputs| outputs.contains(&Output::Abort(third.exchange)));
    assert_eq!(world.now_ms, asked_ms + 10_000, "{outputs:?}");
    let fourth = match &requests(&outputs)[..] {
        [it] => it.clone(),
        _ => world.wait_for(HttpKind::Send),
    };
    let asked_ms = world.now_ms;
    let body = r#"{"code":"unavailable","message":"busy","retryable":true,"retry_after":3000}"#;
    assert_eq!(requests(&world.answer(fourth.exchange, 503, body)), []);
    let fifth = world.wait_for(HttpKind::Send);
    assert!(world.now_ms >= asked_ms + 3_000);
    assert_eq!(fifth.body, pong);
    world.answer(fifth.exchange, 200, r#"{"replies":[]}"#);
    // It has arrived: nothing is due but the end of the silence.
    assert!(requests(&world.wake()).is_empty() && !world.core.is_online());
}

/// Answers that ask for patience and name no time: a server that is down must not be asked four times a second.
#[test]
fn a_poll_and_a_send_that_are_refused_for_now_come_later_and_later() {
    let count = |mut world: World, first: HttpRequest, until_ms: u64| {
        let (mut next, mut count) = (first, 0);
        while world.now_ms < until_ms {
            world.answer(next.exchange, 503, "busy");
            next = world.wait_for(next.kind);
            count += 1;
        }
        assert!(world.core.is_online());
        count
    };
    let (world, poll) = World::polling();
    assert!((4..16).contains(&count(world, poll, 25_000)));
    let (mut world, _stream) = World::streaming();
    let send = of(HttpKind::Send, &world.call(publish("c", None)).1);
    assert!((4..16).contains(&count(world, send, 25_000)));
}

/// While an answer over HTTP has asked for patience, what waits is there once, and is sent once.
#[test]
fn what_waits_for_a_long_delay_is_sent_once_and_what_has_ended_is_not_sent() {
    let (mut world, _stream) = World::polling();
    let first = of(HttpKind::Send, &world.call(publish("c", Some("first"))).1);
    let answer = HttpAnswer { status: 503, retry_after_ms: Some(25_000), body: "" };
    world.tell(Input::Http(first.exchange, HttpInput::Answer(answer)));
    let (publication, _) = world.call(publish("c", Some("k")));
    let (rpc, _) = world.call(Call::Rpc { method: "m".into(), data: json("1") });
    let mut ended = Vec::new();
    let mut bodies = Vec::new();
    while world.now_ms < 29_000 {
        let outputs = world.wake();
        ended.extend(answers(&outputs));
        for request in requests(&outputs) {
            match request.kind {
                HttpKind::Poll => drop(world.answer(request.exchange, 200, r#"{"n":1,"messages":[]}"#)),
                _ => bodies.push(request.body),
            }
        }
    }
    assert!(ended.contains(&(rpc, Err(CallError::TimedOut { after_ms: 10_000 }))), "{ended:?}");
    let all = bodies.concat();
    assert_eq!(all.matches(r#""idempotency_key":"k""#).count(), 1, "{publication:?}: {bodies:?}");
    assert!(!all.contains(r#""type":"rpc""#), "its caller has gone on without it: {bodies:?}");
}

/// An SSE client whose session goes on over a WebSocket. Its last send has no answer, and never gets one.
fn moved_to_a_websocket() -> (World, HttpRequest) {
    let (mut world, outputs) = World::over(&[Sse, WebSocket]);
    let stream = of(HttpKind::Sse, &outputs);
    world.message(stream.exchange, &CONNECTED.replace("ID", &id_in(&stream.body).to_string()));
    world.call(publish("c", None));
    world.lose(stream.exchange);
    let stream = world.wait_for(HttpKind::Sse);
    world.answer(stream.exchange, 404, "gone");
    let connect = sent(&world.tell(Input::Opened)).remove(0);
    let connected = CONNECTED.replace("ID", &id_in(&connect).to_string()).replace("resumed\":false", "resumed\":true");
    let connected = connected.replace("25000", "0"); // no heartbeat, so no silence is too long
    let leftover = of(HttpKind::Send, &world.hear(&connected));
    assert_eq!((&*leftover.body, world.core.transport()), (r#"{"ticket":"t1","n":1,"commands":[]}"#, WebSocket));
    (world, leftover)
}

#[test]
fn what_is_left_of_sends_ends_no_websocket() {
    // Requests do not get through where the WebSocket does.
    let (mut world, leftover) = moved_to_a_websocket();
    let (mut next, mut count) = (leftover, 1);
    while world.now_ms < 600_000 {
        let mut outputs = world.tell(Input::Http(next.exchange, HttpInput::Unreachable));
        while requests(&outputs).is_empty() {
            outputs = world.wake();
            assert!(world.core.is_online(), "after {} ms: {outputs:?}", world.now_ms);
        }
        next = of(HttpKind::Send, &outputs);
        count += 1;
    }
    assert!((15..60).contains(&count), "{count} in ten minutes");
    // A refusal is of the leftover alone.
    for (status, code) in [(401, "unauthorized"), (401, "not_connected"), (409, "out_of_order")] {
        let (mut world, leftover) = moved_to_a_websocket();
        let body = format!(r#"{{"code":"{code}","message":"no","retryable":false}}"#);
        assert_eq!(world.answer(leftover.exchange, status, &body), []);
        assert!(world.core.is_online());
        let connect = world.comes_back(r#""client":"me","session_resumed":true"#).0;
        assert!(connect.contains(r#""ticket":"t1""#), "{connect}");
    }
}

/// A server that is down, or restarts behind a proxy, is not a transport that does not get through.
#[test]
fn answers_that_ask_for_patience_are_waited_for_and_leave_the_transport_as_it_is() {
    let (mut world, _) = World::over(Transport::AUTO);
    let mut trials = 0;
    for _ in 0..12 {
        let is_trial = world.core.transport() == Sse;
        let outputs = match is_trial {
            true => {
                trials += 1;
                let stream = world.wait_for(HttpKind::Sse);
                let answer = HttpAnswer { status: 503, retry_after_ms: Some(5_000), body: "" };
                world.tell(Input::Http(stream.exchange, HttpInput::Answer(answer)))
            }
            false => {
                if !matches!(world.core.link, Link::Opening { .. }) {
                    world.wait_for_connect();
                }
                world.tell(Input::Unavailable { retry_after_ms: 5_000 })
            }
        };
        let [.., Output::State(State::Waiting { until_ms, .. })] = &outputs[..] else { panic!("{outputs:?}") };
        assert!(*until_ms >= world.now_ms + 5_000, "the next attempt keeps the delay, by whatever transport");
    }
    assert!((3..=4).contains(&trials), "{trials}");
    // The proxy refuses nothing but the upgrade: the trial gets through, and its transport is kept.
    let (mut world, _) = World::over(Transport::AUTO);
    for _ in 0..2 {
        if !matches!(world.core.link, Link::Opening { .. }) {
            world.wait_for_connect();
        }
        world.tell(Input::Unavailable { retry_after_ms: 1_000 });
    }
    let stream = world.wait_for(HttpKind::Sse);
    world.message(stream.exchange, &CONNECTED.replace("ID", &id_in(&stream.body).to_string()));
    assert!(world.core.is_online() && world.core.transport() == Sse);
}

#[test]
fn messages_that_overtake_the_answer_to_their_subscribe_are_not_lost() {
    let (mut world, stream) = World::streaming();
    let (_, outputs) = world.call(subscribe("c"));
    let send = of(HttpKind::Send, &outputs);
    let message = r#"{"type":"message","channel":"c","offset":5,"data":1,"ts":1}"#;
    assert!(world.message(stream, message).is_empty(), "not before it is live");
    let id = id_in(&send.body);
    let replies = format!(
        r#"{{"n":1,"replies":[{{"type":"subscribed","id":{id},"channel":"c","epoch":"e","offset":4,"publications":[]}}]}}"#
    );
    let outputs = world.answer(send.exchange, 200, &replies);
    let events: Vec<_> = outputs.iter().filter(|output| matches!(output, Output::Channel { .. })).collect();
    let [
        Output::Channel { event: Event::Live { .. }, .. },
        Output::Channel { event: Event::Message { position, .. }, .. },
    ] = &events[..]
    else {
        panic!("{events:?}")
    };
    assert_eq!(*position, at(5));
}

#[test]
fn the_next_transport_is_tried_at_once_where_one_does_not_get_through() {
    let (mut world, outputs) = World::over(Transport::AUTO);
    assert!(outputs.contains(&Output::Connect));
    let outputs = world.tell(Input::NoTransport("the upgrade is stripped".into()));
    let stream = of(HttpKind::Sse, &outputs);
    world.tell(Input::Reached);
    // A proxy holds the stream back: nothing comes.
    let poll = world.wait_for(HttpKind::Poll);
    let connected = CONNECTED.replace("ID", &id_in(&poll.body).to_string());
    world.answer(poll.exchange, 200, &format!(r#"{{"n":1,"messages":[{connected}]}}"#));
    assert!(world.core.is_online() && world.core.transport() == Poll && stream.exchange != poll.exchange);
}

/// Cuts do not prolong it.
#[test]
fn the_first_transport_is_tried_again_after_five_minutes_however_often_the_connection_is_lost() {
    let (mut world, _) = World::over(&[WebSocket, Sse]);
    let stream = of(HttpKind::Sse, &world.tell(Input::NoTransport("the upgrade is stripped".into())));
    world.message(stream.exchange, &CONNECTED.replace("ID", &id_in(&stream.body).to_string()));
    let (since_ms, mut stream) = (world.now_ms, stream.exchange);
    for minute in 1..5 {
        world.now_ms = since_ms + minute * 60_000;
        world.lose(stream);
        let connect = world.wait_for(HttpKind::Sse);
        world.message(connect.exchange, &CONNECTED.replace("ID", &id_in(&connect.body).to_string()));
        assert!(world.core.is_online() && world.core.transport() == Sse, "{minute} min");
        stream = connect.exchange;
    }
    world.now_ms = since_ms + 5 * 60_000;
    world.lose(stream);
    let outputs = world.wake_until(|outputs| outputs.contains(&Output::Connect) || !requests(outputs).is_empty());
    assert!(outputs.contains(&Output::Connect), "{outputs:?}");
}

#[test]
fn a_socket_that_opens_and_never_answers_is_left_for_the_next_transport() {
    let (mut world, _) = World::over(&[WebSocket, Poll]);
    world.tell(Input::Opened);
    let outputs = world.wake();
    assert!(outputs.contains(&Output::Close(1000)), "{outputs:?}");
    of(HttpKind::Poll, &outputs);
}

#[test]
fn a_server_that_cannot_be_reached_changes_no_transport() {
    let (mut world, _) = World::over(Transport::AUTO);
    for _ in 0..5 {
        world.tell(Input::Closed(None));
        world.wait_for_connect();
        assert_eq!(world.core.transport(), WebSocket);
    }
}

#[test]
fn a_refusal_by_the_server_is_the_same_as_over_a_websocket() {
    for transport in [Sse, Poll] {
        let (mut world, outputs) = World::over(&[transport]);
        let request = &requests(&outputs)[0];
        let refused = r#"{"code":"unauthorized","message":"no","retryable":false}"#;
        let outputs = world.answer(request.exchange, 401, refused);
        let is_end = |it: &Output| matches!(it, Output::State(State::Ended(EndReason::Refused(error))) if &*error.code == "unauthorized");
        assert!(outputs.iter().any(is_end), "{transport:?}: {outputs:?}");
    }
}

const PATIENCE: [(u16, Option<u64>, &str); 3] = [
    (503, Some(20_000), ""),
    (429, Some(20_000), "slow down"),
    (503, None, r#"{"code":"overloaded","message":"busy","retryable":true,"retry_after":20000}"#),
];

#[test]
fn a_delay_that_an_answer_over_http_asks_for_is_kept() {
    for (status, retry_after_ms, body) in PATIENCE {
        let refuse = |world: &mut World, exchange, retry_after_ms| {
            let asked_ms = world.now_ms;
            let answer = HttpAnswer { status, retry_after_ms, body };
            assert_eq!(requests(&world.tell(Input::Http(exchange, HttpInput::Answer(answer)))), []);
            asked_ms
        };
        let next = |world: &mut World| {
            let outputs = world.wake_until(|outputs| !requests(outputs).is_empty());
            (world.now_ms, requests(&outputs).remove(0))
        };
        for transport in [Sse, Poll] {
            let (mut world, outputs) = World::over(&[transport]);
            let asked_ms = refuse(&mut world, requests(&outputs)[0].exchange, retry_after_ms);
            let (at_ms, _) = next(&mut world);
            assert!(at_ms >= asked_ms + 20_000, "connect by {transport:?}, {status}: after {} ms", at_ms - asked_ms);
        }
        let (mut world, poll) = World::polling();
        let asked_ms = refuse(&mut world, poll.exchange, retry_after_ms);
        let (at_ms, again) = next(&mut world);
        assert!(world.core.is_online() && again.body.contains(r#""ack":1"#), "{}", again.body);
        assert!((20_000..21_000).contains(&(at_ms - asked_ms)), "poll, {status}: after {} ms", at_ms - asked_ms);

        // The session does not last for so long. The next `connect` keeps the delay too.
        let (mut world, poll) = World::polling();
        let asked_ms = refuse(&mut world, poll.exchange, Some(120_000));
        let (at_ms, again) = next(&mut world);
        assert!(again.body.starts_with(r#"{"type":"connect""#), "{}", again.body);
        assert!(at_ms >= asked_ms + 120_000, "{status}: after {} ms", at_ms - asked_ms);

        let (mut world, stream) = World::streaming();
        let first = of(HttpKind::Send, &world.call(publish("c", None)).1);
        let asked_ms = refuse(&mut world, first.exchange, retry_after_ms);
        assert_eq!(requests(&world.call(publish("c", None)).1), [], "another send would not be welcome either");
        let outputs = world.wake_until(|outputs| !requests(outputs).is_empty());
        let waited_ms = world.now_ms - asked_ms;
        assert!((20_000..21_000).contains(&waited_ms), "send, {status}: after {waited_ms} ms");
        assert!(requests(&outputs).iter().any(|it| it.body == first.body), "{outputs:?}");
        assert!(world.core.is_online(), "{stream:?}");
    }
}

fn subscribed(command: &str, offset: u64, page: &[u64]) -> String {
    let id = id_in(command);
    let page: Vec<_> = page.iter().map(|n| format!(r#"{{"offset":{n},"data":{n},"ts":1}}"#)).collect();
    format!(
        r#"{{"type":"subscribed","id":{id},"channel":"c","epoch":"e","offset":{offset},"recovered":true,"publications":[{}]}}"#,
        page.join(",")
    )
}

/// The number of a send, to name it in its answer.
fn number_in(send: &HttpRequest) -> u64 {
    let rest = send.body.split("\"n\":").nth(1).expect("a number");
    rest.split(',').next().and_then(|digits| digits.parse().ok()).expect("a number")
}

/// The last command in a send's body.
fn last_command(send: &HttpRequest) -> String {
    format!("{{\"type\":{}", send.body.rsplit("{\"type\":").next().expect("a command"))
}

impl World {
    fn reply(&mut self, send: &HttpRequest, reply: &str) -> Vec<Output> {
        self.answer(send.exchange, 200, &format!(r#"{{"n":{},"replies":[{reply}]}}"#, number_in(send)))
    }
}

/// The answer to `subscribe` comes by a send; what follows it comes by the stream.
#[test]
fn held_messages_are_given_once_and_in_order() {
    let (mut world, stream) = World::streaming();
    let send = of(HttpKind::Send, &world.call(subscribe("c")).1);
    let gap = |offset| format!(r#"{{"type":"gap","channel":"c","epoch":"e","offset":{offset}}}"#);
    // A gap of an earlier subscription, messages that the page has too, and newer ones.
    for text in [gap(3), message("c", 4), message("c", 5), message("c", 6), message("c", 6), message("c", 7)] {
        assert_eq!(world.message(stream, &text), []);
    }
    let outputs = world.reply(&send, &subscribed(&send.body, 5, &[3, 4, 5]));
    assert_eq!(offsets(&outputs), [3, 4, 5, 6, 7]);
    assert!(!events(&outputs).iter().any(|event| matches!(event, Event::Gap { .. })), "{outputs:?}");
    assert_eq!(offsets(&world.message(stream, &message("c", 8))), [8], "nothing is held any more");

    // A gap that is newer than the answer is told before the messages after it.
    let (mut world, stream) = World::streaming();
    let send = of(HttpKind::Send, &world.call(subscribe("c")).1);
    for text in [message("c", 6), gap(9), message("c", 10)] {
        world.message(stream, &text);
    }
    let told: Vec<_> = events(&world.reply(&send, &subscribed(&send.body, 5, &[])))
        .into_iter()
        .map(|event| match event {
            Event::Live { .. } => "live",
            Event::Gap { .. } => "gap",
            _ => "message",
        })
        .collect();
    assert_eq!(told, ["live", "message", "gap", "message"]);
}

#[test]
fn a_channel_with_more_held_messages_than_fit_is_subscribed_to_again_from_its_place() {
    let (mut world, stream) = World::streaming();
    let send = of(HttpKind::Send, &world.call(subscribe("c")).1);
    let data = "x".repeat(100 << 10);
    for offset in 6..30 {
        let text = format!(r#"{{"type":"message","channel":"c","offset":{offset},"data":"{data}","ts":1}}"#);
        assert_eq!(world.message(stream, &text), []);
        let held = world.core.subscriptions.held_bytes();
        assert!(held <= 1 << 20, "{held} bytes");
    }
    let outputs = world.reply(&send, &subscribed(&send.body, 5, &[]));
    assert_eq!(offsets(&outputs), [0_u64; 0], "some of them would be missing");
    let again = of(HttpKind::Send, &outputs);
    assert!(again.body.contains(r#"{"type":"unsubscribe""#), "{}", again.body);
    assert!(again.body.ends_with(r#""channel":"c","since":{"epoch":"e","offset":5}}]}"#), "{}", again.body);
    let page: Vec<u64> = (6..30).collect();
    let outputs = world.reply(&again, &subscribed(&last_command(&again), 29, &page));
    assert_eq!(offsets(&outputs), page);
    assert!(!events(&outputs).iter().any(|event| matches!(event, Event::Gap { .. })), "{outputs:?}");
    assert_eq!(offsets(&world.message(stream, &message("c", 30))), [30]);
}

/// Snapshots come by sends, and changes by the stream.
#[test]
fn a_presence_that_lacks_an_earlier_change_is_asked_for_again() {
    let (mut world, stream) = World::streaming();
    let options = Subscribe { presence: true, ..Subscribe::new("c") };
    let send = of(HttpKind::Send, &world.call(Call::Subscribe(Box::new(options))).1);
    let outputs = world.reply(&send, &subscribed(&send.body, 5, &[]));
    let join = |seq: u64| format!(r#"{{"type":"join","channel":"c","seq":{seq},"client":"c{seq}"}}"#);
    let snapshot = |send: &HttpRequest, seq: u64| {
        let id = id_in(&send.body);
        format!(r#"{{"type":"presence","id":{id},"channel":"c","seq":{seq},"count":0,"entries":[]}}"#)
    };
    let asked = of(HttpKind::Send, &outputs);
    assert_eq!(events(&world.message(stream, &join(7))), [], "it may be in the snapshot");
    let outputs = world.reply(&asked, &snapshot(&asked, 5));
    assert!(matches!(events(&outputs)[..], [Event::Presence(_)]), "{outputs:?}");
    let asked = of(HttpKind::Send, &outputs);
    assert!(asked.body.contains(r#""type":"presence""#), "the join is not in it: {}", asked.body);
    // This one has it, and is overtaken by another change: it would take that back.
    assert!(matches!(events(&world.message(stream, &join(8)))[..], [Event::PresenceChange(_)]));
    let outputs = world.reply(&asked, &snapshot(&asked, 7));
    assert_eq!(events(&outputs), []);
    let asked = world.wait_for(HttpKind::Send);
    let outputs = world.reply(&asked, &snapshot(&asked, 8));
    assert!(matches!(events(&outputs)[..], [Event::Presence(_)]), "{outputs:?}");
    assert_eq!(requests(&outputs), [], "it is whole");
    assert!(matches!(events(&world.message(stream, &join(9)))[..], [Event::PresenceChange(_)]));
}

/// Each answer of a poll is acknowledged once it was had: on the next connection too, by whatever transport.
#[test]
fn what_was_polled_is_acknowledged_by_the_connect_over_another_transport() {
    let (mut world, outputs) = World::over(&[Poll, WebSocket]);
    let connect = of(HttpKind::Poll, &outputs);
    let connected = CONNECTED.replace("ID", &id_in(&connect.body).to_string());
    let outputs = world.answer(connect.exchange, 200, &format!(r#"{{"n":1,"messages":[{connected}]}}"#));
    let poll = of(HttpKind::Poll, &outputs);
    let send = of(HttpKind::Send, &world.call(subscribe("c")).1);
    world.reply(&send, &subscribed(&send.body, 5, &[]));
    let outputs = world.answer(poll.exchange, 200, &format!(r#"{{"n":2,"messages":[{}]}}"#, message("c", 6)));
    assert_eq!(offsets(&outputs), [6]);
    let poll = of(HttpKind::Poll, &outputs);
    world.answer(poll.exchange, 401, r#"{"code":"not_connected","message":"over","retryable":false}"#);

    // Polls are gone: a proxy answers instead. The first WebSocket is lost before `connected`.
    let connect = world.wait_for(HttpKind::Poll);
    assert!(connect.body.contains(r#""ack":2"#), "{}", connect.body);
    assert!(world.answer(connect.exchange, 404, "not here").contains(&Output::Connect));
    let resumed = r#""client":"me","session_resumed":true,"ticket":"t2""#;
    for is_last in [false, true] {
        let connect = sent(&world.tell(Input::Opened)).remove(0);
        assert!(connect.contains(r#""ack":2"#) && connect.contains(r#""offset":6}"#), "{connect}");
        if !is_last {
            world.tell(Input::Closed(Some(1001)));
            world.wait_for_connect();
            continue;
        }
        let id = id_in(&connect);
        world.hear(&format!(r#"{{"type":"connected","id":{id},{resumed},"ping":25000}}"#));
    }
    let page = r#""recovered":true,"publications":[{"offset":7,"data":7,"ts":1}]"#;
    let outputs = world.hear(&format!(r#"{{"type":"subscribed","channel":"c","epoch":"e","offset":7,{page}}}"#));
    assert_eq!(offsets(&outputs), [7]);
    assert_eq!(offsets(&world.hear(&message("c", 8))), [8]);
    world.answer(poll.exchange, 200, &format!(r#"{{"n":3,"messages":[{}]}}"#, message("c", 9)));
    assert_eq!(offsets(&world.hear(&message("c", 9))), [9], "a late answer to a poll is none of this connection");

    // And back: there is nothing to acknowledge, and the numbers go on above the earlier ones.
    world.tell(Input::Closed(None));
    world.wait_for_connect();
    let connect = of(HttpKind::Poll, &world.tell(Input::NoTransport("the upgrade is stripped".into())));
    assert!(!connect.body.contains("\"ack\"") && connect.body.contains(r#""offset":9}"#), "{}", connect.body);
    let connected = CONNECTED.replace("ID", &id_in(&connect.body).to_string()).replace("false", "true");
    let page = r#""recovered":true,"publications":[{"offset":10,"data":10,"ts":1}]"#;
    let subscribed = format!(r#"{{"type":"subscribed","channel":"c","epoch":"e","offset":10,{page}}}"#);
    let outputs = world.answer(connect.exchange, 200, &format!(r#"{{"n":7,"messages":[{connected},{subscribed}]}}"#));
    assert_eq!(offsets(&outputs), [10]);
    let poll = of(HttpKind::Poll, &outputs);
    assert!(poll.body.contains(r#""ack":7"#), "{}", poll.body);
    world.lose(poll.exchange);
    let again = world.wait_for(HttpKind::Poll);
    assert!(again.body.contains(r#""ack":7"#), "{}", again.body);
    let outputs = world.answer(again.exchange, 200, &format!(r#"{{"n":8,"messages":[{}]}}"#, message("c", 11)));
    assert_eq!(offsets(&outputs), [11]);
}

/// An `unsubscribe` had no answer when the connection was lost, and the channel is followed again. The command may have
/// arrived before or after the new subscription: its number, sent without it, tells only that it cannot come later.
#[test]
fn a_skipped_unsubscribe_leaves_no_new_subscription_deaf() {
    for is_in_connect in [true, false] {
        let (mut world, stream) = World::streaming();
        let send = of(HttpKind::Send, &world.call(subscribe("c")).1);
        world.reply(&send, &subscribed(&send.body, 5, &[]));
        of(HttpKind::Send, &world.call(Call::Unsubscribe("c".into())).1);
        world.lose(stream);
        let mut called = is_in_connect.then(|| world.call(subscribe("c")).0);
        let connect = world.wait_for(HttpKind::Sse);
        assert_eq!(connect.body.contains(r#""channel":"c""#), is_in_connect, "{}", connect.body);
        let connected = CONNECTED.replace("ID", &id_in(&connect.body).to_string()).replace("false", "true");
        let outputs = world.message(connect.exchange, &connected);
        let filler = of(HttpKind::Send, &outputs);
        assert!(filler.body.ends_with(r#""n":2,"commands":[]}"#), "{}", filler.body);
        let mut answered = Vec::new();
        let early = if is_in_connect {
            let bare = r#"{"type":"subscribed","channel":"c","epoch":"e","offset":5,"publications":[]}"#;
            answered.extend(answers(&world.message(connect.exchange, bare)));
            None
        } else {
            let (call, outputs) = world.call(subscribe("c"));
            called = Some(call);
            Some(of(HttpKind::Send, &outputs))
        };
        let outputs = world.answer(filler.exchange, 200, r#"{"n":2,"replies":[]}"#);
        let again = of(HttpKind::Send, &outputs);
        assert!(again.body.contains(r#"{"type":"unsubscribe""#), "{}", again.body);
        if let Some(early) = early {
            let outputs = world.reply(&early, &subscribed(&early.body, 5, &[]));
            assert_eq!(outputs, [], "this one may be ended already");
        }
        let outputs = world.reply(&again, &subscribed(&last_command(&again), 6, &[6]));
        answered.extend(answers(&outputs));
        assert!(matches!(answered[..], [(call, Ok(_))] if Some(call) == called), "{answered:?}");
        assert_eq!(offsets(&outputs), [6]);
        assert_eq!(offsets(&world.message(connect.exchange, &message("c", 7))), [7]);
    }
}

/// The last command ends the session. Commands that the application gave before, such as an `unsubscribe`, may still
/// arrive, and the server ends the stream or the poll.
#[test]
fn a_client_that_stops_says_so_behind_its_other_commands_and_aborts_nothing() {
    for is_polling in [true, false] {
        let mut world = if is_polling { World::polling().0 } else { World::streaming().0 };
        let send = of(HttpKind::Send, &world.call(subscribe("c")).1);
        world.reply(&send, &subscribed(&send.body, 5, &[]));
        world.call(Call::Unsubscribe("c".into()));
        let outputs = world.tell(Input::Stop);
        let [Output::Http(last), Output::State(State::Ended(EndReason::Stopped))] = &outputs[..] else {
            panic!("{outputs:?}")
        };
        assert_eq!(last.body, r#"{"ticket":"t1","n":3,"commands":[{"type":"disconnect"}]}"#);
        assert_eq!(world.core.wake_ms(), None);
    }
}

/// The session is in its grace. Its numbers are of no use: nobody knows which of them have arrived.
#[test]
fn a_client_that_stops_while_it_is_offline_says_so_without_a_number() {
    let (mut world, stream) = World::streaming();
    world.call(publish("c", None));
    world.lose(stream);
    let outputs = world.tell(Input::Stop);
    let last = of(HttpKind::Send, &outputs);
    assert_eq!(last.body, r#"{"ticket":"t1","commands":[{"type":"disconnect"}]}"#);
    assert!(!outputs.contains(&Output::Abort(last.exchange)), "{outputs:?}");
    let mut never = World::over(&[Sse]).0;
    assert!(requests(&never.tell(Input::Stop)).is_empty(), "there is no session");
}
