//! Subscriptions: their place, losses, refusals, ends, and applications that do not keep up.

use super::*;

#[test]
fn a_channel_that_the_server_subscribed_us_to_is_followed_like_any_other() {
    let mut world = World::online();
    let outputs = world.hear(&subscribed("s", 5));
    assert_eq!(events(&outputs), [Event::Live { position: at(5), recovered: None }]);
    assert_eq!(offsets(&world.hear(&message("s", 6))), [6]);
    assert_eq!(events(&world.hear(&subscribed("s", 6))), [], "said twice");
    let (connect, _) = world.comes_back(r#""client":"me","session_resumed":true"#);
    assert!(connect.contains(r#""channel":"s","since":{"epoch":"e","offset":6}"#), "{connect}");
    let ended = r#"{"type":"unsubscribed","channel":"s","code":"denied","message":"no more"}"#;
    world.hear(&subscribed("s", 6).replace("\"publ", "\"recovered\":true,\"publ"));
    assert!(matches!(events(&world.hear(ended))[..], [Event::Ended { .. }]));
    assert_eq!(events(&world.hear(&subscribed("s", 9))).len(), 1, "and anew");
    let (_, outputs) = world.call(Call::Unsubscribe("s".into()));
    assert!(sent(&outputs)[0].contains("unsubscribe"), "{outputs:?}");
}

#[test]
fn the_server_subscribes_us_while_we_ask_for_the_same() {
    let mut world = World::online();
    let options = Subscribe { presence: true, ..Subscribe::new("s") };
    let (call, outputs) = world.call(Call::Subscribe(Box::new(options)));
    let id = id_in(&sent(&outputs)[0]);
    assert_eq!(world.hear(&subscribed("s", 5)), [], "ours begins it anew, with our options");
    assert_eq!(world.hear(&message("s", 6)), []);
    let own = subscribed("s", 6).replace("\"channel\"", &format!("\"id\":{id},\"channel\""));
    let outputs = world.hear(&own);
    assert!(matches!(answers(&outputs)[..], [(it, Ok(Answer::Subscribed { .. }))] if it == call));
    assert_eq!(events(&outputs), [Event::Live { position: at(6), recovered: None }]);
    assert!(sent(&outputs)[0].contains(r#""type":"presence""#), "{outputs:?}");
    assert_eq!(offsets(&world.hear(&message("s", 7))), [7]);

    // Refused for now, and then the server subscribes us: we ask at once for our options.
    let mut world = World::online();
    let (_, outputs) = world.call(subscribe("s"));
    let id = id_in(&sent(&outputs)[0]);
    let later = r#""code":"unavailable","message":"","retryable":true,"channel":"s""#;
    assert_eq!(world.hear(&format!(r#"{{"type":"error","id":{id},{later}}}"#)), []);
    let outputs = world.hear(&subscribed("s", 5));
    assert!(sent(&outputs)[0].contains(r#""type":"subscribe""#), "{outputs:?}");
}

/// What came between the server's `subscribed` and the refusal is told. It is the same whether the server subscribes us
/// while our request is on its way, after it was refused for now, or before it, where the application wants other
/// options.
#[test]
fn the_servers_subscription_goes_on_where_our_own_request_is_refused() {
    for order in ["crosses", "rests", "claims"] {
        let mut world = World::online();
        if order == "claims" {
            world.hear(&subscribed("s", 5));
        }
        let options = Subscribe { presence: true, ..Subscribe::new("s") };
        let (call, outputs) = world.call(Call::Subscribe(Box::new(options)));
        let mut asked = sent(&outputs).remove(0);
        if order == "rests" {
            world.hear(&not_now(&asked));
        }
        if order != "claims" {
            asked = sent(&world.hear(&subscribed("s", 5))).pop().unwrap_or(asked);
        }
        assert_eq!(world.hear(&message("s", 6)), [], "{order}");
        world.hear(&not_now(&asked));
        let texts = sent(&world.wake());
        assert!(texts[0].contains(r#""type":"subscribe""#), "{order}: {texts:?}");
        assert_eq!(world.hear(&message("s", 7)), [], "{order}");
        let outputs = world.hear(&denied(&texts[0]));
        assert!(matches!(answers(&outputs)[..], [(it, Err(CallError::Refused(_)))] if it == call), "{outputs:?}");
        assert_eq!(events(&outputs)[0], Event::Live { position: at(5), recovered: None }, "{order}");
        assert_eq!(offsets(&outputs), [6, 7], "{order}");
        assert_eq!(offsets(&world.hear(&message("s", 8))), [8], "{order}");
        let (call, outputs) = world.call(subscribe("s"));
        assert!(matches!(answers(&outputs)[..], [(it, Ok(_))] if it == call), "{order}: it is the server's own");
    }
}

#[test]
fn the_servers_subscription_has_ended_before_our_own_request_is_refused() {
    let mut world = World::online();
    let asked = sent(&world.call(subscribe("s")).1).remove(0);
    world.hear(&subscribed("s", 5));
    world.hear(&message("s", 6));
    world.hear(r#"{"type":"unsubscribed","channel":"s","code":"denied","message":"no more"}"#);
    assert_eq!(events(&world.hear(&denied(&asked))), []);
    assert_eq!(world.call(Call::Unsubscribe("s".into())).1.len(), 1, "it is followed no more");
}

/// The application gives its request up: the server's own subscription must not go on for nobody.
#[test]
fn the_servers_subscription_is_left_with_a_request_that_was_refused_for_now() {
    for claims in [true, false] {
        let mut world = World::online();
        if claims {
            world.hear(&subscribed("s", 5));
        }
        let options = Subscribe { presence: true, ..Subscribe::new("s") };
        let mut asked = sent(&world.call(Call::Subscribe(Box::new(options))).1).remove(0);
        if !claims {
            world.hear(&not_now(&asked));
            asked = sent(&world.hear(&subscribed("s", 5))).remove(0);
        }
        world.hear(&not_now(&asked));
        let texts = sent(&world.call(Call::Unsubscribe("s".into())).1);
        assert!(texts.len() == 1 && texts[0].contains(r#""type":"unsubscribe""#), "{texts:?}");
    }
}

#[test]
fn a_subscription_left_before_its_answer_stays_left() {
    let mut world = World::online();
    world.hear(&subscribed("s", 5));
    let (_, outputs) = world.call(Call::Unsubscribe("s".into()));
    let id = id_in(&sent(&outputs)[0]);
    // The server has said so before it heard of our leaving, which ends it.
    assert_eq!(world.hear(&subscribed("s", 6)), []);
    world.hear(&format!(r#"{{"type":"unsubscribed","id":{id},"channel":"s","code":"requested"}}"#));
    assert_eq!(events(&world.hear(&subscribed("s", 7))).len(), 1, "this one comes after it");
    // If the application does not keep up, the subscription is left too. Messages of the server then change nothing.
    world.tell(Input::Pause { channel: "s".into(), before: Some(at(7)) });
    assert_eq!(world.hear(&subscribed("s", 8)), []);
}

/// The connection is lost before the server has answered `unsubscribe`. No answer will come any more.
#[test]
fn a_channel_left_on_an_earlier_connection_can_be_subscribed_to_by_the_server() {
    let mut world = World::online();
    world.hear(&subscribed("s", 5));
    world.call(Call::Unsubscribe("s".into()));
    let (connect, _) = world.comes_back(r#""client":"me","session_resumed":true"#);
    assert!(!connect.contains("subscribe"), "it is left: {connect}");
    let outputs = world.hear(&subscribed("s", 7));
    assert_eq!(events(&outputs), [Event::Live { position: at(7), recovered: None }]);
    assert_eq!(offsets(&world.hear(&message("s", 8))), [8]);
}

#[test]
fn a_subscription_goes_on_from_its_place() {
    let mut world = live();
    assert_eq!(offsets(&world.hear(&message("c", 6))), [6]);
    assert_eq!(offsets(&world.hear(&message("c", 6))), [0_u64; 0], "nothing is told twice");
    assert_eq!(offsets(&world.hear(&message("c", 9))), [9], "offsets need not be dense");
    assert_eq!(offsets(&world.hear(&message("d", 1))), [0_u64; 0], "nobody asked for d");
    world.hear(r#"{"type":"ticket","ticket":"t2"}"#);

    let (connect, _) = world.comes_back(r#""client":"me","session_resumed":true"#);
    let expected = r#""ticket":"t2","subscribe":[{"channel":"c","since":{"epoch":"e","offset":9}}]}"#;
    assert!(connect.ends_with(expected), "{connect}");
    assert_eq!(offsets(&world.hear(&message("c", 10))), [0_u64; 0], "nothing before `subscribed`");
    let outputs = world.hear(
        r#"{"type":"subscribed","channel":"c","epoch":"e","offset":11,"recovered":true,"publications":[{"offset":9,"data":9,"ts":1},{"offset":10,"data":10,"ts":1},{"offset":11,"data":11,"ts":1}],"more":true}"#,
    );
    assert_eq!(offsets(&outputs), [10, 11]);
    assert!(!events(&outputs).iter().any(|event| matches!(event, Event::Gap { .. })));
    assert_eq!(offsets(&world.hear(&message("c", 12))), [12]);
}

#[test]
fn a_loss_is_a_gap_before_anything_newer() {
    for (recovered, epoch, reset) in [
        (r#""recovered":false,"#, "e", false),
        (r#""recovered":false,"#, "f", true),
        (r#""recovered":true,"#, "f", true),
        ("", "e", false),
    ] {
        let mut world = live();
        world.hear(&message("c", 9));
        world.comes_back(r#""client":"other","session_resumed":false"#);
        // Its offsets may be below the old place: they are other messages.
        let outputs = world.hear(&format!(
            r#"{{"type":"subscribed","channel":"c","epoch":"{epoch}","offset":3,{recovered}"publications":[{{"offset":3,"data":1,"ts":1}}]}}"#
        ));
        let position = Position { epoch: epoch.into(), offset: 3 };
        let reported = events(&outputs);
        assert!(matches!(&reported[0], Event::Live { .. }));
        // The page lies above the gap, like all that follows.
        assert_eq!(reported[1], Event::Gap { position: Position { offset: 2, ..position.clone() }, reset });
        assert!(matches!(&reported[2], Event::Message { position: reported, .. } if *reported == position));
    }
    let mut world = live();
    let outputs = world.hear(r#"{"type":"gap","channel":"c","epoch":"f","offset":2,"reset":true}"#);
    let position = Position { epoch: "f".into(), offset: 2 };
    assert_eq!(events(&outputs), [Event::Gap { position, reset: true }]);
    assert_eq!(offsets(&world.hear(&message("c", 3))), [3]);
}

/// Only the server knows how places of two epochs follow each other.
#[test]
fn a_message_that_names_its_epoch_moves_the_channel_there() {
    let named = |epoch: &str, offset: u64| {
        message("c", offset).replacen(r#""offset""#, &format!(r#""epoch":"{epoch}","offset""#), 1)
    };
    let places = |outputs: &[Output]| -> Vec<Position> {
        let place = |event: &Event| match event {
            Event::Message { position, .. } => position.clone(),
            other => panic!("{other:?}"),
        };
        events(outputs).iter().map(place).collect()
    };
    let mut world = live();
    assert_eq!(places(&world.hear(&named("e", 6))), [at(6)], "the epoch that it is in");
    assert_eq!(world.hear(&named("e", 6)), [], "told already");
    let begun = |offset| Position { epoch: "f".into(), offset };
    assert_eq!(places(&world.hear(&named("f", 3))), [begun(3)], "an equal or lower offset is another message");
    assert_eq!(world.hear(&message("c", 3)), [], "told already");
    assert_eq!(places(&world.hear(&message("c", 4))), [begun(4)]);
    world.tell(Input::Closed(None));
    world.wake();
    let connect = sent(&world.tell(Input::Opened)).remove(0);
    assert!(connect.contains(r#""since":{"epoch":"f","offset":4}"#), "{connect}");
}

#[test]
fn a_subscription_that_fails_for_now_is_asked_for_again() {
    let mut world = World::online();
    let (_, outputs) = world.call(subscribe("c"));
    let id = id_in(&sent(&outputs)[0]);
    let unavailable = r#""code":"unavailable","message":"m","retryable":true,"retry_after":3000,"channel":"c"}"#;
    assert_eq!(world.hear(&format!(r#"{{"type":"error","id":{id},{unavailable}"#)), []);
    let before_ms = world.now_ms;
    let again = sent(&world.wake());
    assert!(world.now_ms >= before_ms + 3000 && again[0].contains(r#""type":"subscribe""#));
    let id = id_in(&again[0]);
    let outputs = world
        .hear(&format!(r#"{{"type":"subscribed","id":{id},"channel":"c","epoch":"e","offset":0,"publications":[]}}"#));
    assert_eq!(answers(&outputs).len(), 1);
    let outputs = world.hear(r#"{"type":"unsubscribed","channel":"c","code":"unavailable"}"#);
    assert_eq!(outputs, [], "the server could not go on: that is no end");
    assert!(sent(&world.wake())[0].contains(r#""since":{"epoch":"e","offset":0}"#));
}

#[test]
fn a_denial_ends_a_subscription() {
    let mut world = World::online();
    let (call, outputs) = world.call(subscribe("c"));
    let id = id_in(&sent(&outputs)[0]);
    let outputs =
        world.hear(&format!(r#"{{"type":"error","id":{id},"code":"denied","message":"m","retryable":false}}"#));
    assert!(
        matches!(&answers(&outputs)[..], [(reported, Err(CallError::Refused(error)))] if *reported == call && &*error.code == "denied")
    );
    assert_eq!(events(&outputs), []);

    let mut world = live();
    let outputs = world.hear(r#"{"type":"unsubscribed","channel":"c","code":"denied","message":"no longer"}"#);
    assert_eq!(events(&outputs), [Event::Ended { code: "denied".into(), message: "no longer".into() }]);
    let (connect, _) = world.comes_back(r#""client":"me","session_resumed":true"#);
    assert!(!connect.contains("subscribe"));
}

#[test]
fn after_unsubscribe_nothing_comes_and_a_new_subscription_is_another_one() {
    let mut world = live();
    let (_, outputs) = world.call(Call::Unsubscribe("c".into()));
    let unsubscribe = id_in(&sent(&outputs)[0]);
    assert_eq!(offsets(&world.hear(&message("c", 6))), [0_u64; 0]);
    let (call, outputs) = world.call(subscribe("c"));
    let id = id_in(&sent(&outputs)[0]);
    assert_eq!(offsets(&world.hear(&message("c", 7))), [0_u64; 0], "the old one's");
    assert_eq!(
        world.hear(&format!(r#"{{"type":"unsubscribed","id":{unsubscribe},"channel":"c","code":"requested"}}"#)),
        []
    );
    let outputs = world
        .hear(&format!(r#"{{"type":"subscribed","id":{id},"channel":"c","epoch":"e","offset":7,"publications":[]}}"#));
    assert_eq!(answers(&outputs)[0].0, call);
    let (second, outputs) = world.call(subscribe("c"));
    assert_eq!(answers(&outputs), [(second, Err(CallError::AlreadySubscribed { channel: "c".into() }))]);

    // While `connect` is not answered yet, too: else the server would follow a channel for nobody.
    let mut world = live();
    world.tell(Input::Closed(None));
    world.wake();
    world.tell(Input::Opened);
    let (_, outputs) = world.call(Call::Unsubscribe("c".into()));
    assert!(sent(&outputs)[0].contains(r#""type":"unsubscribe""#));
}

#[test]
fn a_subscription_without_an_answer_costs_the_connection() {
    let mut world = World::online();
    world.call(subscribe("c"));
    assert!(matches!(world.wake()[..], [Output::Close(1000), Output::State(State::Waiting { .. })]));
    assert_eq!(world.now_ms, 11_000);
    world.wake();
    world.tell(Input::Opened);
    world.hear(r#"{"type":"connected","id":3,"client":"me","session_resumed":true,"ping":25000}"#);
    assert!(matches!(world.wake()[..], [Output::Close(1000), Output::State(State::Waiting { .. })]), "a bare one too");
}

#[test]
fn a_slow_application_is_paused_and_goes_on_from_there() {
    let mut world = live();
    let outputs = world.hear(&message("c", 6));
    let Output::Channel { before, .. } = outputs[0].clone() else { panic!() };
    assert_eq!(before, Some(at(5)));
    let outputs = world.tell(Input::Pause { channel: "c".into(), before });
    assert!(sent(&outputs)[0].contains(r#""type":"unsubscribe""#));
    assert_eq!(world.hear(&message("c", 7)), []);
    let (connect, _) = world.comes_back(r#""client":"me","session_resumed":true"#);
    assert!(!connect.contains("subscribe"), "it stays paused");
    let outputs = world.tell(Input::Resume("c".into()));
    assert!(sent(&outputs)[0].ends_with(r#""channel":"c","since":{"epoch":"e","offset":5}}"#));
}

/// The first page has a place before it: a client without room for it goes on from there, not from the newest again.
#[test]
fn a_page_that_finds_no_room_is_asked_for_from_the_place_before_it() {
    let mut world = World::online();
    let (_, outputs) = world.call(Call::Subscribe(Box::new(Subscribe { recent: Some(2), ..Subscribe::new("c") })));
    let id = id_in(&sent(&outputs)[0]);
    let outputs = world.hear(&format!(
        r#"{{"type":"subscribed","id":{id},"channel":"c","epoch":"e","offset":9,"publications":[{{"offset":7,"data":1,"ts":1}},{{"offset":9,"data":1,"ts":1}}]}}"#
    ));
    assert_eq!(offsets(&outputs), [7, 9]);
    let befores: Vec<_> = outputs
        .iter()
        .filter_map(|output| match output {
            Output::Channel { event: Event::Message { .. }, before, .. } => Some(before.clone()),
            _ => None,
        })
        .collect();
    assert_eq!(befores, [Some(at(6)), Some(at(7))]);
}

#[test]
fn a_subscription_made_by_the_server_is_the_applications_when_it_asks() {
    let mut world = World::online();
    let made = r#"{"type":"subscribed","channel":"c","epoch":"e","offset":5,"publications":[]}"#;
    world.hear(made);
    world.hear(&message("c", 6));
    let (call, outputs) = world.call(subscribe("c"));
    let answer = Answer::Subscribed { position: at(6), recovered: None };
    assert_eq!((answers(&outputs), sent(&outputs).len()), (vec![(call, Ok(answer))], 0), "as it is");
    let (again, outputs) = world.call(subscribe("c"));
    assert_eq!(answers(&outputs), [(again, Err(CallError::AlreadySubscribed { channel: "c".into() }))]);

    // With other options it is asked for anew.
    let mut world = World::online();
    world.hear(made);
    let options = Subscribe { presence: true, ..Subscribe::new("c") };
    let (call, outputs) = world.call(Call::Subscribe(Box::new(options)));
    let texts = sent(&outputs);
    let [text] = &texts[..] else { panic!("one `subscribe`, which begins it anew: {texts:?}") };
    assert!(text.contains(r#""type":"subscribe""#) && text.contains(r#""presence":true"#), "{text}");
    let id = id_in(text);
    let outputs = world
        .hear(&format!(r#"{{"type":"subscribed","id":{id},"channel":"c","epoch":"e","offset":6,"publications":[]}}"#));
    assert!(matches!(&answers(&outputs)[..], [(reported, Ok(Answer::Subscribed { .. }))] if *reported == call));
}

fn denied(command: &str) -> String {
    refused(command, "denied", false)
}

fn not_now(command: &str) -> String {
    refused(command, "unavailable", true)
}

fn refused(command: &str, code: &str, retryable: bool) -> String {
    let id = id_in(command);
    format!(r#"{{"type":"error","id":{id},"code":"{code}","message":"","retryable":{retryable},"channel":"s"}}"#)
}
