//! Sends that are refused because the server has ended the connection, while its last messages are on their way.

use super::*;

const OVER: &str = r#"{"code":"not_connected","message":"over","retryable":false}"#;

/// A client that follows `c` from offset 5 on, over a connection whose page is still to come, and its send of a
/// publication.
fn before_its_page(transport: Transport) -> (World, HttpRequest, HttpRequest) {
    let (mut world, outputs) = World::over(&[transport]);
    let kind = if transport == Poll { HttpKind::Poll } else { HttpKind::Sse };
    let connect = of(kind, &outputs);
    let options = Subscribe { since: Some(at(5)), ..Subscribe::new("c") };
    world.call(Call::Subscribe(Box::new(options)));
    world.lose(connect.exchange);
    let mut connect = world.wait_for(kind);
    if kind == HttpKind::Poll {
        // It is repeated as it was, so it names no channel. The next connection does.
        world.answer(connect.exchange, 400, r#"{"code":"unavailable","message":"later","retryable":true}"#);
        connect = world.wait_for(kind);
    }
    assert!(connect.body.contains(r#""offset":5"#), "{}", connect.body);
    let connected = CONNECTED.replace("ID", &id_in(&connect.body).to_string());
    let down = match kind {
        HttpKind::Poll => {
            let outputs = world.answer(connect.exchange, 200, &format!(r#"{{"n":1,"messages":[{connected}]}}"#));
            of(kind, &outputs)
        }
        _ => {
            world.message(connect.exchange, &connected);
            connect
        }
    };
    let send = of(HttpKind::Send, &world.call(publish("c", None)).1);
    (world, down, send)
}

fn page() -> String {
    let page = r#""recovered":true,"publications":[{"offset":6,"data":6,"ts":1}]"#;
    format!(r#"{{"type":"subscribed","channel":"c","epoch":"e","offset":6,{page}}}"#)
}

fn setbacks(outputs: &[Output]) -> Vec<Setback> {
    let setback = |output: &Output| match output {
        Output::State(State::Waiting { why, .. }) => Some(why.clone()),
        _ => None,
    };
    outputs.iter().filter_map(setback).collect()
}

fn is_over(setbacks: &[Setback]) -> bool {
    matches!(setbacks, [Setback::Refused(error)] if &*error.code == "not_connected")
}

/// The server closes a connection that its own pages overfill. If the client gave it up with them, it would ask for the
/// same pages on each new connection, for ever.
#[test]
fn the_rest_of_a_connection_that_the_server_has_ended_is_read() {
    for transport in [Sse, Poll] {
        let (mut world, down, send) = before_its_page(transport);
        let outputs = world.answer(send.exchange, 401, OVER);
        assert_eq!(outputs, [], "{transport:?}: nothing is given up, and nothing goes up");
        assert!(!world.core.is_online());
        assert_eq!(requests(&world.call(publish("c", None)).1), [], "{transport:?}: it waits");
        let outputs = match transport {
            Poll => world.answer(down.exchange, 200, &format!(r#"{{"n":2,"messages":[{}]}}"#, page())),
            _ => world.message(down.exchange, &page()),
        };
        assert_eq!(offsets(&outputs), [6], "{transport:?}");
        let outputs = match transport {
            Poll => {
                let next = of(HttpKind::Poll, &outputs);
                world.answer(next.exchange, 401, OVER)
            }
            _ => world.lose(down.exchange),
        };
        assert!(is_over(&setbacks(&outputs)), "{transport:?}: {outputs:?}");
        let connect = world.wait_for(down.kind);
        assert!(connect.body.contains(r#""since":{"epoch":"e","offset":6}"#), "{}", connect.body);
        assert!(connect.body.contains(r#""ticket":"t1""#), "its session may be alive: {}", connect.body);
    }
}

/// A client must not depend on an end that may never come.
#[test]
fn an_ended_connection_whose_end_does_not_come_is_given_up() {
    for transport in [Sse, Poll] {
        let (mut world, down, send) = before_its_page(transport);
        world.now_ms += 1_000;
        let refused_ms = world.now_ms;
        world.answer(send.exchange, 401, OVER);
        world.now_ms += 4_000; // messages prolong nothing
        match transport {
            Poll => drop(world.answer(down.exchange, 200, r#"{"n":2,"messages":[{"type":"ping"}]}"#)),
            _ => drop(world.message(down.exchange, r#"{"type":"ping"}"#)),
        }
        let outputs = world.wake_until(|outputs| !setbacks(outputs).is_empty());
        assert_eq!(world.now_ms, refused_ms + 5_000, "{transport:?}");
        assert!(is_over(&setbacks(&outputs)), "{transport:?}: {outputs:?}");
        assert!(outputs.iter().any(|it| matches!(it, Output::Abort(_))), "{transport:?}: {outputs:?}");
    }
}

/// It is half open: to wait for its end would only keep the client away.
#[test]
fn a_connection_that_is_silent_is_given_up_with_its_refused_send() {
    let (mut world, down, send) = before_its_page(Sse);
    world.now_ms += 25_000;
    let outputs = world.answer(send.exchange, 401, OVER);
    assert!(is_over(&setbacks(&outputs)), "{outputs:?}");
    assert!(outputs.contains(&Output::Abort(down.exchange)), "{outputs:?}");
}

/// The last message of the server says more than the refusal.
#[test]
fn the_reason_of_an_end_counts_where_it_comes() {
    let (mut world, down, send) = before_its_page(Sse);
    world.answer(send.exchange, 401, OVER);
    let moved = r#"{"type":"disconnect","code":4006,"reason":"moved","retry":true,"delay":0}"#;
    let outputs = world.message(down.exchange, moved);
    assert!(matches!(setbacks(&outputs)[..], [Setback::Disconnected { code: 4006, .. }]), "{outputs:?}");
    let connect = world.wait_for(HttpKind::Sse);
    assert!(!connect.body.contains("ticket"), "another client has it: {}", connect.body);
}

/// Sends that arrived before the end have their answers; the others are asked again on the next connection.
#[test]
fn answers_to_earlier_sends_count_after_the_end_and_no_send_is_repeated() {
    let (mut world, down, first) = before_its_page(Sse);
    let (rpc, outputs) = world.call(Call::Rpc { method: "m".into(), data: json("1") });
    let second = of(HttpKind::Send, &outputs);
    let third = of(HttpKind::Send, &world.call(publish("c", Some("third"))).1);
    world.answer(first.exchange, 401, OVER);
    assert_eq!(world.answer(third.exchange, 401, OVER), []);
    let done = format!(r#"{{"type":"result","id":{},"data":7}}"#, id_in(&second.body));
    assert_eq!(answers(&world.reply(&second, &done)), [(rpc, Ok(Answer::Data(json("7"))))]);
    let outputs = world.wake();
    assert!(requests(&outputs).is_empty() && is_over(&setbacks(&outputs)), "{outputs:?}");
    assert!(outputs.contains(&Output::Abort(down.exchange)));
    let outputs = world.back(HttpKind::Sse, true);
    let bodies: Vec<_> = requests(&outputs).into_iter().map(|request| request.body).collect();
    assert!(bodies.iter().any(|body| body.contains(r#""idempotency_key":"third""#)), "{bodies:?}");
}
