//! One connection's life: heartbeats, waits, ends, and how they are reported.

use super::*;

#[test]
fn it_connects_greets_and_answers_heartbeats() {
    let mut world = World::new();
    assert_eq!(world.core.wake_ms(), None);
    assert_eq!(world.tell(Input::Start), [Output::State(State::Connecting), Output::Connect]);
    assert_eq!(sent(&world.tell(Input::Opened)), [r#"{"type":"connect","id":1}"#]);
    let outputs = world.hear(r#"{"type":"connected","id":1,"client":"me","session_resumed":false,"ping":25000}"#);
    assert!(matches!(&outputs[..], [Output::State(State::Online(connected))] if &*connected.client == "me"));
    assert_eq!(sent(&world.hear(r#"{"type":"ping"}"#)), [r#"{"type":"pong"}"#]);
}

#[test]
fn two_silent_heartbeats_end_a_connection() {
    let mut world = World::online();
    world.now_ms += 40_000;
    world.hear(r#"{"type":"ping"}"#);
    assert_eq!(world.core.wake_ms(), Some(world.now_ms + 50_000));
    world.now_ms += 49_999;
    assert_eq!(world.tell(Input::Wake), []);
    let outputs = world.wake();
    assert!(matches!(&outputs[..], [Output::Close(1000), Output::State(State::Waiting { failures: 1, .. })]));
}

#[test]
fn failures_are_waited_for_longer_and_longer_within_the_limit() {
    let mut world = World::new();
    world.tell(Input::Start);
    let mut longest = 0;
    for failures in 1..40 {
        let outputs = world.tell(Input::Closed(None));
        let [Output::State(State::Waiting { until_ms, failures: reported, .. })] = outputs[..] else {
            panic!("{outputs:?}")
        };
        assert_eq!(reported, failures);
        let ceiling = (500_u64 << (failures - 1).min(20)).min(30_000);
        assert!(until_ms - world.now_ms <= ceiling);
        longest = longest.max(until_ms - world.now_ms);
        assert_eq!(world.wake(), [Output::State(State::Connecting), Output::Connect]);
    }
    assert!(longest > 20_000);
}

#[test]
fn neither_a_transport_nor_a_greeting_is_waited_for_for_ever() {
    let mut world = World::new();
    world.tell(Input::Start);
    assert!(matches!(world.wake()[..], [Output::Close(1000), Output::State(State::Waiting { .. })]));
    assert_eq!(world.now_ms, 11_000);
    world.wake();
    world.tell(Input::Opened);
    let opened_ms = world.now_ms;
    assert!(matches!(world.wake()[..], [Output::Close(1000), Output::State(State::Waiting { .. })]));
    assert_eq!(world.now_ms, opened_ms + 10_000);
}

#[test]
fn the_servers_word_on_coming_back_is_kept() {
    let ended = |code, reason: &str| State::Ended(EndReason::Disconnected { code, reason: reason.into() });
    let mut world = World::online();
    let outputs = world.hear(r#"{"type":"disconnect","code":4000,"reason":"shutdown","retry":true,"delay":7777}"#);
    let why = Setback::Disconnected { code: 4000, reason: "shutdown".into() };
    let waiting = State::Waiting { until_ms: world.now_ms + 7777, failures: 1, why };
    assert_eq!(outputs, [Output::Close(1000), Output::State(waiting)]);

    let mut world = World::online();
    let outputs = world.hear(r#"{"type":"disconnect","code":4503,"reason":"kicked","retry":false,"delay":0}"#);
    assert_eq!(outputs, [Output::Close(1000), Output::State(ended(4503, "kicked"))]);
    assert_eq!(world.core.wake_ms(), None);

    for (code, comes_back) in [(1000, true), (1001, true), (1006, true), (1008, false), (4321, true), (4777, false)] {
        let outputs = World::online().tell(Input::Closed(Some(code)));
        assert_eq!(matches!(outputs[..], [Output::State(State::Waiting { .. })]), comes_back, "{code}");
    }

    let mut world = World::new();
    world.tell(Input::Start);
    world.tell(Input::Opened);
    let outputs = world.hear(r#"{"type":"error","id":1,"code":"unauthorized","message":"no","retryable":false}"#);
    assert!(matches!(&outputs[..], [Output::Close(1000), Output::State(State::Ended(EndReason::Refused(_)))]));
    let (call, outputs) = world.call(Call::Presence("c".into()));
    assert!(matches!(&answers(&outputs)[..], [(answered, Err(CallError::Ended(_)))] if *answered == call));
    world.call(Call::Refresh("new".into()));
    world.tell(Input::Start);
    assert_eq!(sent(&world.tell(Input::Opened)), [r#"{"type":"connect","id":2,"token":"new"}"#]);
}

/// A place where no Fanfare is ends the client, unless one was there before: then that is a proxy's word for a restart.
#[test]
fn a_refusal_is_believed_once_and_a_busy_proxy_is_left_alone_for_as_long_as_it_says() {
    let mut world = World::new();
    world.tell(Input::Start);
    let outputs = world.tell(Input::NoTransport("the answer is 404".into()));
    assert!(matches!(outputs[..], [Output::State(State::Ended(EndReason::NoTransport(_)))]), "{outputs:?}");

    let mut world = World::online();
    world.tell(Input::Closed(None));
    world.wake();
    let outputs = world.tell(Input::NoTransport("the answer is 404".into()));
    assert!(matches!(outputs[..], [Output::State(State::Waiting { why: Setback::Transport, .. })]), "{outputs:?}");
    world.wake();
    for (asked_ms, least_ms) in [(30_000, 30_000), (u64::MAX, 600_000)] {
        let outputs = world.tell(Input::Unavailable { retry_after_ms: asked_ms });
        let [Output::State(State::Waiting { until_ms, .. })] = outputs[..] else { panic!("{outputs:?}") };
        assert!((least_ms..=least_ms + 30_000).contains(&(until_ms - world.now_ms)), "{asked_ms}: {until_ms}");
        world.wake();
    }
}

#[test]
fn why_it_is_not_online_is_told() {
    let why = |outputs: &[Output]| match outputs.last() {
        Some(Output::State(State::Waiting { why, .. })) => why.to_string(),
        other => panic!("{other:?}"),
    };
    assert_eq!(why(&World::online().tell(Input::Closed(None))), "the connection was lost");
    assert_eq!(why(&World::online().tell(Input::Closed(Some(1001)))), "the connection was closed with code 1001");
    assert_eq!(why(&World::online().hear("{")), "the server sent an invalid message");
    assert_eq!(why(&World::online().wake()), "the server sent nothing for 50000 ms");
    let mut world = World::new();
    world.tell(Input::Start);
    world.tell(Input::Opened);
    let busy = r#"{"type":"error","id":1,"code":"overloaded","message":"not now","retryable":true,"retry_after":5}"#;
    assert_eq!(why(&world.hear(busy)), "the server refused to connect: overloaded: not now");
    world.wake();
    world.tell(Input::Opened);
    assert_eq!(why(&world.wake()), "the server did not answer within 10000 ms");
}

fn connect_of(outputs: &[Output]) -> (Option<String>, String) {
    let text = outputs.iter().find_map(|output| match output {
        Output::Send(text) => Some(text),
        _ => None,
    });
    page_and_rest(text.expect("`connect` is sent"))
}

#[test]
fn a_client_shows_one_page_on_all_its_connections_and_no_two_clients_the_same() {
    let mut pages = Vec::new();
    for seed in [1, 2] {
        let mut world = World { core: Core::new(Config::default(), seed), now_ms: 1_000, next_call: 0 };
        world.tell(Input::Start);
        let (page, _) = connect_of(&world.tell(Input::Opened));
        world.tell(Input::Closed(None));
        world.wait_for_connect();
        assert_eq!(connect_of(&world.tell(Input::Opened)).0, page);
        assert!(page.as_ref().is_some_and(|page| page.len() == 16), "{page:?}");
        pages.push(page);
    }
    assert_ne!(pages[0], pages[1]);
}

/// Else two clients with one ticket would push each other out for ever.
#[test]
fn a_client_that_was_moved_comes_back_without_the_ticket() {
    let push = r#"{"type":"disconnect","code":4006,"reason":"moved","retry":true,"delay":0}"#;
    for is_push in [false, true] {
        let mut world = World::online();
        world.tell(if is_push { Input::Text(push) } else { Input::Closed(Some(4006)) });
        world.wait_for_connect();
        assert_eq!(sent(&world.tell(Input::Opened)), [r#"{"type":"connect","id":2}"#]);
        world.hear(r#"{"type":"connected","id":2,"client":"new","session_resumed":false,"ticket":"t2","ping":25000}"#);
        let (connect, _) = world.comes_back(r#""client":"new","session_resumed":true"#);
        assert_eq!(connect, r#"{"type":"connect","id":3,"ticket":"t2"}"#, "the new session's it shows again");
    }
}
