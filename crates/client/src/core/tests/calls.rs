//! Calls: publications until they are answered or given up, questions, signals, and the answers to all of them.

use super::*;

#[test]
fn a_publication_is_sent_with_its_key_until_it_is_answered() {
    let mut world = World::new();
    let (call, outputs) = world.call(publish("c", None));
    assert_eq!(outputs, [], "it waits for a connection");
    world.tell(Input::Start);
    world.tell(Input::Opened);
    let outputs =
        world.hear(r#"{"type":"connected","id":1,"client":"me","user":"ada","session_resumed":false,"ping":0}"#);
    let first = sent(&outputs).remove(0);
    let key = first.split("\"idempotency_key\":").nth(1).unwrap().to_owned();
    assert_eq!(key.len(), r#""0123456789abcdef0123456789abcdef"}"#.len());

    let error = r#""code":"unknown","message":"m","retryable":true}"#;
    world.hear(&format!(r#"{{"type":"error","id":{},{error}"#, id_in(&first)));
    let second = sent(&world.wake()).remove(0);
    assert!(second.ends_with(&key), "the same key");

    // Another session, but the same user: keys still hold.
    let (_, outputs) = world.comes_back(r#""client":"other","user":"ada","session_resumed":false"#);
    let third = sent(&outputs).remove(0);
    assert!(third.ends_with(&key));
    let published = format!(r#"{{"type":"published","id":{},"epoch":"e","offset":4}}"#, id_in(&third));
    assert_eq!(answers(&world.hear(&published)), [(call, Ok(Answer::Published(at(4))))]);
    assert_eq!(world.hear(&published), []);
}

#[test]
fn a_publication_that_could_stand_twice_is_not_sent_again() {
    let mut world = World::online();
    let (sent_before, _) = world.call(publish("c", None));
    world.tell(Input::Closed(None));
    let (never_sent, _) = world.call(publish("c", Some("k")));
    let (_, outputs) = world.comes_back(r#""client":"other","session_resumed":false"#);
    assert_eq!(answers(&outputs), [(sent_before, Err(CallError::Unknown))]);
    assert_eq!(sent(&outputs).len(), 1);
    assert!(sent(&outputs)[0].ends_with(r#""idempotency_key":"k"}"#));

    let (_, outputs) = world.comes_back(r#""client":"other","session_resumed":true"#);
    assert_eq!(sent(&outputs).len(), 1, "the same session: the key holds");
    world.now_ms += 90_000;
    assert!(answers(&world.tell(Input::Wake)).contains(&(never_sent, Err(CallError::Unknown))));
}

/// A server remembers keys for 8 s: a publication sent 6 s ago without an answer is not sent again.
#[test]
fn a_publication_is_not_sent_again_when_its_key_may_be_forgotten() {
    const LIMITS: &str = r#""limits":{"idempotency_keys_ttl":8000}"#;
    let begin = || {
        let mut world = World::new();
        world.tell(Input::Start);
        world.tell(Input::Opened);
        world
            .hear(&format!(r#"{{"type":"connected","id":1,"client":"me","session_resumed":false,"ping":0,{LIMITS}}}"#));
        world
    };
    let back = format!(r#""client":"me","session_resumed":true,{LIMITS}"#);
    let refused = |text: &str, code: &str| {
        format!(r#"{{"type":"error","id":{},"code":"{code}","message":"m","retryable":true}}"#, id_in(text))
    };

    // In time it is sent again; later its end is not known. It is told at once, not when the connection is there.
    let mut world = begin();
    let (call, _) = world.call(publish("c", None));
    world.now_ms += 3_000;
    world.tell(Input::Closed(None));
    assert_eq!(sent(&world.comes_back(&back).1).len(), 1);
    world.tell(Input::Closed(None));
    world.now_ms += 3_000;
    assert_eq!(answers(&world.tell(Input::Wake)), [(call, Err(CallError::Unknown))]);
    assert_eq!(sent(&world.comes_back(&back).1), [""; 0]);

    // While its answer may still come on a live connection it is waited for.
    let mut world = begin();
    let (call, outputs) = world.call(publish("c", None));
    world.now_ms += 7_000;
    assert_eq!(answers(&world.tell(Input::Wake)), []);
    let id = id_in(&sent(&outputs)[0]);
    let published = format!(r#"{{"type":"published","id":{id},"epoch":"e","offset":4}}"#);
    assert_eq!(answers(&world.hear(&published)), [(call, Ok(Answer::Published(at(4))))]);

    // A refused publication can be sent again as often as needed; one with an unknown outcome cannot.
    for (code, is_sent) in [("unavailable", true), ("rate_limited", true), ("unknown", false), ("timeout", false)] {
        let mut world = begin();
        let (call, outputs) = world.call(publish("c", None));
        world.hear(&refused(&sent(&outputs)[0], code));
        world.now_ms += 6_000;
        let outputs = world.tell(Input::Wake);
        assert_eq!(sent(&outputs).len() == 1, is_sent, "{code}");
        let expected = if is_sent { vec![] } else { vec![(call, Err(CallError::Unknown))] };
        assert_eq!(answers(&outputs), expected, "{code}");
    }
}

/// It was sent twice, and only the second time is known to have done nothing.
#[test]
fn a_refusal_of_a_repetition_says_nothing_about_the_first_time() {
    const LIMITS: &str = r#""limits":{"idempotency_keys_ttl":8000}"#;
    let back = format!(r#""client":"me","session_resumed":true,{LIMITS}"#);
    let mut world = World::online();
    world.comes_back(&back);
    let (call, _) = world.call(publish("c", None));
    world.now_ms += 3_000;
    let again = sent(&world.comes_back(&back).1).remove(0);
    let refused = r#""code":"unavailable","message":"m","retryable":true,"retry_after":3000}"#;
    world.hear(&format!(r#"{{"type":"error","id":{},{refused}"#, id_in(&again)));
    world.now_ms += 3_000;
    assert_eq!(answers(&world.tell(Input::Wake)), [(call, Err(CallError::Unknown))]);
}

#[test]
fn a_publication_that_could_not_be_sent_is_given_up() {
    let mut world = World::new();
    world.tell(Input::Start);
    let (call, _) = world.call(publish("c", None));
    let outputs = world.wake_until(|outputs| !answers(outputs).is_empty());
    assert_eq!(answers(&outputs), [(call, Err(CallError::TimedOut { after_ms: 90_000 }))]);
    assert_eq!(world.now_ms, 91_000);
}

/// The connection is lost again and again, and the publication is sent again each time.
#[test]
fn a_publication_is_given_up_in_time_however_often_it_was_sent() {
    const BACK: &str = r#""client":"me","session_resumed":true,"limits":{"idempotency_keys_ttl":600000}"#;
    let mut world = World::online();
    world.comes_back(BACK);
    let asked_ms = world.now_ms;
    let (call, _) = world.call(publish("c", None));
    for _ in 0..4 {
        world.now_ms += 15_000;
        let (_, outputs) = world.comes_back(BACK);
        assert_eq!(sent(&outputs).len(), 1);
    }
    let outputs = world.wake_until(|outputs| !answers(outputs).is_empty());
    assert_eq!(answers(&outputs), [(call, Err(CallError::Unknown))]);
    assert_eq!(world.now_ms, asked_ms + 90_000);
}

#[test]
fn so_many_fly_and_so_many_wait() {
    let mut world = World::online();
    let mut flying = Vec::new();
    for _ in 0..1024 {
        flying.extend(sent(&world.call(publish("c", None)).1));
    }
    assert_eq!(flying.len(), 16);
    let (call, outputs) = world.call(publish("c", None));
    assert_eq!(outputs, [Output::Answer(call, Err(CallError::TooMany { max: 1024 }))]);
    let outputs = world.hear(&format!(r#"{{"type":"published","id":{},"epoch":"e","offset":4}}"#, id_in(&flying[0])));
    assert_eq!((answers(&outputs).len(), sent(&outputs).len()), (1, 1), "one lands, one takes off");
}

#[test]
fn questions_are_repeated_and_calls_are_not() {
    let mut world = World::online();
    let (history, _) =
        world.call(Call::History { channel: "c".into(), from: client::HistoryFrom::Since(at(1)), limit: Some(2) });
    let (rpc, _) = world.call(Call::Rpc { method: "buy".into(), data: json("1") });
    let outputs = world.tell(Input::Closed(None));
    assert_eq!(answers(&outputs), [(rpc, Err(CallError::Unknown))]);
    world.wake();
    world.tell(Input::Opened);
    let outputs = world.hear(r#"{"type":"connected","id":4,"client":"me","session_resumed":true,"ping":25000}"#);
    let again = sent(&outputs).remove(0);
    assert!(again.ends_with(r#""channel":"c","since":{"epoch":"e","offset":1},"limit":2}"#));
    let reply = format!(
        r#"{{"type":"history","id":{},"channel":"c","epoch":"e","offset":4,"publications":[{{"offset":2,"data":2,"ts":1}}]}}"#,
        id_in(&again)
    );
    let outputs = world.hear(&reply);
    assert!(
        matches!(&answers(&outputs)[..], [(reported, Ok(Answer::History(it)))] if *reported == history && it.publications.len() == 1)
    );
    let (presence, _) = world.call(Call::Presence("c".into()));
    world.now_ms += 10_000;
    assert_eq!(answers(&world.tell(Input::Wake)), [(presence, Err(CallError::TimedOut { after_ms: 10_000 }))]);
}

#[test]
fn signals_go_now_or_never() {
    let signal = |to: Option<&str>| Call::Signal {
        channel: "c".into(),
        event: "typing".into(),
        data: json("true"),
        to: to.map(Into::into),
    };
    let mut world = World::online();
    let (call, outputs) = world.call(signal(None));
    assert_eq!(sent(&outputs), [r#"{"type":"signal","channel":"c","event":"typing","data":true}"#]);
    assert_eq!(answers(&outputs), [(call, Ok(Answer::Done))]);
    let (call, outputs) = world.call(signal(Some("you")));
    assert_eq!(answers(&outputs), []);
    let id = id_in(&sent(&outputs)[0]);
    let outputs =
        world.hear(&format!(r#"{{"type":"error","id":{id},"code":"not_found","message":"m","retryable":false}}"#));
    assert!(matches!(&answers(&outputs)[..], [(reported, Err(CallError::Refused(_)))] if *reported == call));
    world.tell(Input::Closed(None));
    let (call, outputs) = world.call(signal(None));
    assert_eq!(answers(&outputs), [(call, Err(CallError::Offline))]);
}

#[test]
fn an_error_that_nobody_waits_for_is_told() {
    let outputs = live().hear(r#"{"type":"error","code":"rate_limited","message":"m","retryable":true,"channel":"c"}"#);
    let error = ErrorReply {
        id: None,
        code: "rate_limited".into(),
        message: "m".into(),
        retryable: true,
        retry_after_ms: None,
        channel: Some("c".into()),
        rule: None,
    };
    assert_eq!(outputs, [Output::Error(Box::new(error))]);
}

#[test]
fn a_payload_that_is_no_json_does_not_leave() {
    for data in [&b"{"[..], b"", b"1,\"type\":\"x\"", b"\xff"] {
        let (call, outputs) =
            World::online().call(Call::Rpc { method: "m".into(), data: Bytes::copy_from_slice(data) });
        assert!(matches!(&answers(&outputs)[..], [(reported, Err(CallError::NotJson { .. }))] if *reported == call));
    }
}

#[test]
fn stop_answers_everybody_and_is_the_end() {
    let mut world = live();
    let calls = [
        world.call(publish("c", None)).0,
        world.call(Call::Presence("c".into())).0,
        world.call(subscribe("d")).0,
        world.call(Call::PresenceSet { channel: "c".into(), data: json("1") }).0,
    ];
    let outputs = world.tell(Input::Stop);
    assert_eq!(outputs[0], Output::Close(1000));
    assert_eq!(outputs.last(), Some(&Output::State(State::Ended(EndReason::Stopped))));
    let reported: Vec<_> = answers(&outputs).into_iter().map(|(call, _)| call).collect();
    for call in calls {
        assert_eq!(reported.iter().filter(|reported| **reported == call).count(), 1, "{call:?} in {reported:?}");
    }
    assert_eq!(world.core.wake_ms(), None);
}
