//! A client against a server that breaks the protocol: it goes on, and reports its losses.

use super::*;

fn connect_of(outputs: &[Output]) -> String {
    sent(outputs).into_iter().find(|text| text.contains("\"connect\"")).expect("a connect")
}

/// Comes back on a new connection, and gives the `connect` that was sent.
fn back(world: &mut World) -> String {
    world.wait_for_connect();
    let connect = connect_of(&world.tell(Input::Opened));
    let connected = r#""client":"me","session_resumed":true,"ping":25000"#;
    world.hear(&format!(r#"{{"type":"connected","id":{},{connected}}}"#, id_in(&connect)));
    connect
}

#[test]
fn a_publication_that_cannot_be_read_is_passed_over_with_a_gap_and_not_asked_for_for_ever() {
    let mut world = World::online();
    let mut options = Subscribe::new("c");
    options.recent = Some(5);
    let (_, outputs) = world.call(Call::Subscribe(Box::new(options)));
    world.hear(&subscribed("c", 5).replacen("{", &format!("{{\"id\":{},", id_in(&sent(&outputs)[0])), 1));
    assert_eq!(offsets(&world.hear(&message("c", 6))), [6]);
    let broken = r#"{"type":"message","channel":"c","offset":7,"data":{"text": "he said "hi""},"ts":1}"#;
    assert!(world.hear(broken).contains(&Output::Close(1002)));
    // Once may be the network's fault: nothing is given up yet.
    let connect = back(&mut world);
    assert!(connect.contains(r#""since":{"epoch":"e","offset":6}"#), "{connect}");
    let page = r#"{"type":"subscribed","channel":"c","epoch":"e","offset":7,"recovered":true,"publications":[{"offset":7,"data":{"text": "he said "hi""},"ts":1}]}"#;
    assert!(world.hear(page).contains(&Output::Close(1002)));
    let connect = back(&mut world);
    assert!(!connect.contains("since") && !connect.contains("recent"), "{connect}");
    let outputs = world.hear(&subscribed("c", 8));
    let live = Event::Live { position: at(8), recovered: None };
    assert_eq!(events(&outputs), [live, Event::Gap { position: at(8), reset: false }]);
    assert_eq!(offsets(&world.hear(&message("c", 9))), [9]);
    // And from here on nothing is missed again.
    let (connect, _) = world.comes_back(r#""client":"me","session_resumed":true"#);
    assert!(connect.contains(r#""since":{"epoch":"e","offset":9}"#), "{connect}");
}

#[test]
fn two_unreadable_messages_far_apart_cost_no_history() {
    let mut world = World::online();
    world.hear(&subscribed("c", 5));
    world.hear("nonsense");
    back(&mut world);
    world.hear(&subscribed("c", 5).replace("\"publ", "\"recovered\":true,\"publ"));
    world.comes_back(r#""client":"me","session_resumed":true"#); // a connection that ended otherwise
    world.hear(&subscribed("c", 5).replace("\"publ", "\"recovered\":true,\"publ"));
    world.hear("nonsense");
    let connect = back(&mut world);
    assert!(connect.contains(r#""since":{"epoch":"e","offset":5}"#), "{connect}");
}

#[test]
fn subscriptions_beyond_what_a_connect_may_hold_are_asked_for_one_by_one() {
    let mut world = World::new();
    for n in 0..130 {
        world.call(subscribe(&format!("c{n:03}")));
    }
    world.tell(Input::Start);
    let connect = connect_of(&world.tell(Input::Opened));
    assert_eq!(connect.matches("\"channel\"").count(), 128);
    let connected = r#"{"type":"connected","id":1,"client":"me","session_resumed":false,"ping":25000,"limits":{"subscriptions":129}}"#;
    let asked = sent(&world.hear(connected));
    assert_eq!(asked.len(), 2, "{asked:?}");
    let refused = |text: &str| {
        let id = id_in(text);
        format!(
            r#"{{"type":"error","id":{id},"code":"limit_exceeded","message":"129 of 129","retryable":false,"channel":"c129"}}"#
        )
    };
    let outputs = world.hear(&refused(&asked[1]));
    assert!(matches!(answers(&outputs)[..], [(CallId(130), Err(CallError::Refused(_)))]), "{outputs:?}");
    assert!(world.core.is_online(), "one too many costs no more than itself");
    let (connect, _) = world.comes_back(r#""client":"me","session_resumed":true"#);
    assert_eq!(connect.matches("\"channel\"").count(), 129, "as many as this server takes");
}

#[test]
fn a_server_that_takes_fewer_subscriptions_than_most_is_asked_one_by_one() {
    let mut world = World::new();
    for n in 0..100 {
        world.call(subscribe(&format!("c{n:03}")));
    }
    world.tell(Input::Start);
    world.tell(Input::Opened);
    let refused = r#"{"type":"error","id":1,"code":"limit_exceeded","message":"the limit is 64","retryable":false}"#;
    assert!(matches!(world.hear(refused)[..], [Output::Close(1000), Output::State(State::Waiting { .. })]));
    let connect = back(&mut world);
    assert_eq!(connect.matches("\"channel\"").count(), 0, "{connect}");
}

#[test]
fn presence_is_asked_for_until_it_is_answered() {
    let mut world = World::online();
    let mut options = Subscribe::new("c");
    options.presence = true;
    let (_, outputs) = world.call(Call::Subscribe(Box::new(options)));
    let outputs = world.hear(&subscribed("c", 5).replacen("{", &format!("{{\"id\":{},", id_in(&sent(&outputs)[0])), 1));
    let first = sent(&outputs).remove(0);
    assert!(first.contains("\"presence\""), "{first}");
    let joined = r#"{"type":"join","channel":"c","client":"bob","seq":3}"#;
    assert_eq!(events(&world.hear(joined)), [], "what there is besides bob is not known");
    world.now_ms += 10_000;
    world.hear(r#"{"type":"ping"}"#);
    let second = sent(&world.tell(Input::Wake)).remove(0);
    assert!(second.contains("\"presence\""), "the first was not answered in time: {second}");
    let busy = r#""code":"unavailable","message":"not now","retryable":true"#;
    assert_eq!(sent(&world.hear(&format!(r#"{{"type":"error","id":{},{busy}}}"#, id_in(&second)))), [""; 0]);
    let third = sent(&world.wake()).remove(0);
    let snapshot = r#""channel":"c","seq":4,"count":1,"entries":[{"client":"bob"}]"#;
    let outputs = world.hear(&format!(r#"{{"type":"presence","id":{},{snapshot}}}"#, id_in(&third)));
    assert!(matches!(events(&outputs)[..], [Event::Presence(_)]), "{outputs:?}");
    let left = r#"{"type":"leave","channel":"c","client":"bob","seq":5}"#;
    assert!(matches!(events(&world.hear(left))[..], [Event::PresenceChange(_)]));
}

#[test]
fn a_server_that_cannot_be_understood_is_left() {
    let outputs = World::online().hear("nonsense");
    assert!(matches!(outputs[..], [Output::Close(1002), Output::State(State::Waiting { .. })]));
    assert_eq!(World::online().hear(r#"{"type":"from the future","id":1}"#), []);
}
