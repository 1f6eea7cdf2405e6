//! Tokens that the application gives: asked for first, renewed in time, replaced once where refused.

use super::*;

/// A client whose application gives tokens, which has asked for the first one.
fn with_provider() -> World {
    let config = Config { token_provider: true, ..Config::default() };
    let mut world = World { core: Core::new(config, 1), now_ms: 1_000, next_call: 0 };
    assert_eq!(world.tell(Input::Start), [Output::State(State::Connecting), Output::Token]);
    world
}

#[test]
fn a_token_is_asked_for_first_and_renewed_before_its_end() {
    let mut world = with_provider();
    assert_eq!(world.tell(Input::Token(Some("t1".into()))), [Output::Connect]);
    assert_eq!(sent(&world.tell(Input::Opened)), [r#"{"type":"connect","id":1,"token":"t1"}"#]);
    let online = world.now_ms;
    world.hear(r#"{"type":"connected","id":1,"client":"me","session_resumed":false,"expires":100000,"ping":0}"#);
    assert_eq!(world.wake(), [Output::Token]);
    assert_eq!(world.now_ms, online + 75_000, "a quarter of its time before its end");
    assert_eq!(world.tell(Input::Token(None)), [], "not now");
    assert_eq!(world.wake(), [Output::Token]);
    assert_eq!(world.now_ms, online + 80_000);
    let outputs = world.tell(Input::Token(Some("t2".into())));
    let id = id_in(&sent(&outputs)[0]);
    assert_eq!(sent(&outputs), [format!(r#"{{"type":"refresh","id":{id},"token":"t2"}}"#)]);
    let refreshed = world.now_ms;
    world.hear(&format!(r#"{{"type":"result","id":{id},"expires":600000}}"#));
    assert_eq!(world.core.wake_ms(), Some(refreshed + 540_000), "a minute before its end");
    // Away when its time is up: another one is asked for before it comes back.
    world.tell(Input::Closed(None));
    world.now_ms += 600_000;
    assert_eq!(world.tell(Input::Wake), [Output::State(State::Connecting), Output::Token]);
}

/// The token would expire with nobody asking for another one.
#[test]
fn a_token_that_the_server_could_not_look_at_is_asked_for_again() {
    for is_answered in [true, false] {
        let mut world = with_provider();
        world.tell(Input::Token(Some("t1".into())));
        world.tell(Input::Opened);
        world.hear(r#"{"type":"connected","id":1,"client":"me","session_resumed":false,"expires":100000,"ping":0}"#);
        assert_eq!(world.wake(), [Output::Token]);
        let id = id_in(&sent(&world.tell(Input::Token(Some("t2".into()))))[0]);
        let asked_ms = world.now_ms;
        if is_answered {
            let busy = format!(r#"{{"type":"error","id":{id},"code":"unavailable","message":"m","retryable":true}}"#);
            world.hear(&busy);
        }
        world.wake_until(|outputs| outputs.contains(&Output::Token));
        let after_ms = if is_answered { 5_000 } else { 15_000 };
        assert_eq!(world.now_ms - asked_ms, after_ms, "answered: {is_answered}");
    }
}

#[test]
fn a_refused_token_is_replaced_once() {
    let refused = |world: &mut World| {
        let id = id_in(&sent(&world.tell(Input::Opened))[0]);
        world.hear(&format!(r#"{{"type":"error","id":{id},"code":"unauthorized","message":"m","retryable":false}}"#))
    };
    let mut world = with_provider();
    world.tell(Input::Token(Some("given".into())));
    let outputs = refused(&mut world);
    assert!(matches!(outputs.last(), Some(Output::State(State::Ended(EndReason::Refused(_))))), "{outputs:?}");

    // One that had been good: it has been revoked since, or its time was up while we were away.
    for close in [4007, 4502] {
        let mut world = with_provider();
        world.tell(Input::Token(Some("given".into())));
        world.tell(Input::Opened);
        world.hear(r#"{"type":"connected","id":1,"client":"me","session_resumed":false,"ping":25000}"#);
        world.tell(Input::Closed(Some(close)));
        assert_eq!(world.wake(), [Output::State(State::Connecting), Output::Token], "{close}");
        assert_eq!(world.tell(Input::Token(None)).len(), 1, "it waits");
        assert_eq!(world.wake(), [Output::State(State::Connecting), Output::Token]);
        world.now_ms += 10_000;
        assert!(matches!(world.tell(Input::Wake)[..], [Output::State(State::Waiting { .. })]), "nobody answers");
        assert_eq!(world.wake(), [Output::State(State::Connecting)], "it has been asked");
        assert_eq!(world.tell(Input::Token(Some("new".into()))), [Output::Connect]);
    }
}
