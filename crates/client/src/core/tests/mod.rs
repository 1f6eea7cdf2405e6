//! The core in virtual time, against a server whose messages the test writes.

mod http;
mod link;
mod retries;
mod trouble;

use super::*;
use bytes::Bytes;
use fanfare_wire::native::client::{ErrorReply, Position, Publish, Subscribe};
use proptest::prelude::*;

struct World {
    core: Core,
    now_ms: u64,
    next_call: u64,
}

fn json(text: &'static str) -> Bytes {
    Bytes::from_static(text.as_bytes())
}

fn at(offset: u64) -> Position {
    Position { epoch: "e".into(), offset }
}

fn publish(channel: &str, idempotency_key: Option<&str>) -> Call {
    let (channel, data, idempotency_key) = (channel.into(), Data::Json(json("1")), idempotency_key.map(Into::into));
    Call::Publish(Box::new(Publish { channel, data, event: None, idempotency_key, echo: true }))
}

fn subscribe(channel: &str) -> Call {
    Call::Subscribe(Box::new(Subscribe::new(channel)))
}

impl World {
    fn new() -> Self {
        World { core: Core::new(Config::default(), 1), now_ms: 1_000, next_call: 0 }
    }

    /// A client that is online as `me`, without a user.
    fn online() -> Self {
        let mut world = World::new();
        world.tell(Input::Start);
        world.tell(Input::Opened);
        world.hear(r#"{"type":"connected","id":1,"client":"me","session_resumed":false,"ticket":"t1","ping":25000}"#);
        world
    }

    fn tell(&mut self, input: Input<'_>) -> Vec<Output> {
        self.core.handle(self.now_ms, input);
        std::iter::from_fn(|| self.core.poll_output()).collect()
    }

    fn hear(&mut self, text: &str) -> Vec<Output> {
        self.tell(Input::Text(text))
    }

    fn call(&mut self, call: Call) -> (CallId, Vec<Output>) {
        self.next_call += 1;
        let id = CallId(self.next_call);
        (id, self.tell(Input::Call(id, call)))
    }

    /// Goes to the next instant that the core asked for.
    fn wake(&mut self) -> Vec<Output> {
        self.now_ms = self.core.wake_ms().expect("something is due").max(self.now_ms);
        self.tell(Input::Wake)
    }

    /// Goes from instant to instant until the core wants what `is_it` knows. It wakes a bounded number of times: a core
    /// that never comes to it fails its test at once.
    fn wake_until(&mut self, is_it: impl Fn(&[Output]) -> bool) -> Vec<Output> {
        const WAKES_MAX: usize = 10_000;
        (0..WAKES_MAX).map(|_| self.wake()).find(|outputs| is_it(outputs)).expect("it comes within so many wakes")
    }

    /// Goes on until the core opens a connection.
    fn wait_for_connect(&mut self) {
        self.wake_until(|outputs| outputs.contains(&Output::Connect));
    }

    /// The connection is lost, and comes back: what is sent first, and what follows the answer.
    fn comes_back(&mut self, connected: &str) -> (String, Vec<Output>) {
        self.tell(Input::Closed(None));
        self.wait_for_connect();
        let connect = sent(&self.tell(Input::Opened)).remove(0);
        let id = id_in(&connect);
        let outputs = self.hear(&format!(r#"{{"type":"connected","id":{id},{connected},"ping":25000}}"#));
        (connect, outputs)
    }
}

/// The messages that are sent, without the page of `connect`, which differs between clients.
fn sent(outputs: &[Output]) -> Vec<String> {
    let text = |output: &Output| match output {
        Output::Send(text) => Some(page_and_rest(text).1),
        _ => None,
    };
    outputs.iter().filter_map(text).collect()
}

/// The page in a `connect`, and the message without it.
fn page_and_rest(text: &str) -> (Option<String>, String) {
    let Some((before, after)) = text.split_once(r#","page":""#) else { return (None, text.to_owned()) };
    let (page, after) = after.split_once('"').expect("a page ends");
    (Some(page.to_owned()), format!("{before}{after}"))
}

fn events(outputs: &[Output]) -> Vec<Event> {
    let event = |output: &Output| match output {
        Output::Channel { event, .. } => Some(event.clone()),
        _ => None,
    };
    outputs.iter().filter_map(event).collect()
}

fn offsets(outputs: &[Output]) -> Vec<u64> {
    let offset = |event: Event| match event {
        Event::Message { publication, .. } => Some(publication.offset),
        _ => None,
    };
    events(outputs).into_iter().filter_map(offset).collect()
}

fn answers(outputs: &[Output]) -> Vec<(CallId, Result<Answer, CallError>)> {
    let answer = |output: &Output| match output {
        Output::Answer(call, result) => Some((*call, result.clone())),
        _ => None,
    };
    outputs.iter().filter_map(answer).collect()
}

fn id_in(text: &str) -> u64 {
    let rest = &text[text.find("\"id\":").expect("a command with an id") + 5..];
    rest[..rest.find([',', '}']).unwrap()].parse().unwrap()
}

fn message(channel: &str, offset: u64) -> String {
    format!(r#"{{"type":"message","channel":"{channel}","offset":{offset},"data":{offset},"ts":1}}"#)
}

fn subscribed(channel: &str, offset: u64) -> String {
    format!(r#"{{"type":"subscribed","channel":"{channel}","epoch":"e","offset":{offset},"publications":[]}}"#)
}

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

/// Subscribes to `c`, live at offset 5 of epoch e.
fn live() -> World {
    let mut world = World::online();
    let (call, outputs) = world.call(subscribe("c"));
    let id = id_in(&sent(&outputs)[0]);
    let outputs = world
        .hear(&format!(r#"{{"type":"subscribed","id":{id},"channel":"c","epoch":"e","offset":5,"publications":[]}}"#));
    assert_eq!(answers(&outputs), [(call, Ok(Answer::Subscribed { position: at(5), recovered: None }))]);
    assert_eq!(events(&outputs), [Event::Live { position: at(5), recovered: None }]);
    world
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
fn presence_is_told_by_its_number() {
    let mut world = World::online();
    let options = Subscribe { presence: true, ..Subscribe::new("c") };
    let (_, outputs) = world.call(Call::Subscribe(Box::new(options)));
    let id = id_in(&sent(&outputs)[0]);
    let outputs = world
        .hear(&format!(r#"{{"type":"subscribed","id":{id},"channel":"c","epoch":"e","offset":5,"publications":[]}}"#));
    let ask = sent(&outputs).remove(0);
    assert!(ask.contains(r#""type":"presence""#));
    let join = |seq| format!(r#"{{"type":"join","channel":"c","client":"you","data":{{}},"seq":{seq}}}"#);
    assert_eq!(world.hear(&join(3)), [], "contained in the snapshot that is to come");
    let snapshot =
        |id: &str, seq| format!(r#"{{"type":"presence",{id}"channel":"c","seq":{seq},"count":1,"entries":[]}}"#);
    let outputs = world.hear(&snapshot(&format!("\"id\":{},", id_in(&ask)), 4));
    assert!(matches!(&events(&outputs)[..], [Event::Presence(presence)] if presence.seq == 4));
    assert_eq!(world.hear(&join(4)), []);
    assert!(matches!(&events(&world.hear(&join(5)))[..], [Event::PresenceChange(change)] if change.seq == 5));
    assert!(matches!(&events(&world.hear(&snapshot("", 9)))[..], [Event::Presence(_)]), "the server's own snapshot");
    assert_eq!(world.hear(&join(9)), []);
    // Signals have no number, and do not change what is known.
    let signal = r#"{"type":"signal","channel":"c","event":"typing","data":1,"from":{"client":"you"},"ts":1}"#;
    assert!(matches!(events(&world.hear(signal))[..], [Event::Signal(_)]));
    assert_eq!(world.hear(&join(9)), []);
    let count = r#"{"type":"presence_update","channel":"c","count":2000,"seq":10}"#;
    assert_eq!(events(&world.hear(count)), [Event::PresenceCount { count: 2000 }]);
    assert_eq!(world.hear(count), []);
}

/// The server may have started again, or a channel that nobody used may have been given up: the numbers of presence
/// begin anew with each subscription.
#[test]
fn presence_is_numbered_anew_with_each_subscription() {
    let joined = r#"{"type":"join","channel":"c","client":"you","data":{},"seq":2}"#;
    let snapshot = |asked: &[String], seq: u64| {
        let ask = asked.iter().find(|text| text.contains(r#""type":"presence""#)).expect("it is asked for");
        let id = id_in(ask);
        format!(r#"{{"type":"presence","id":{id},"channel":"c","seq":{seq},"count":1,"entries":[]}}"#)
    };
    let heard = |world: &mut World, id: &str| {
        let recovered = if id.is_empty() { r#""recovered":true,"# } else { "" };
        world.hear(&format!(
            r#"{{"type":"subscribed",{id}"channel":"c","epoch":"e","offset":5,{recovered}"publications":[]}}"#
        ))
    };
    let begin = || {
        let mut world = World::online();
        let options = Subscribe { presence: true, ..Subscribe::new("c") };
        let (_, outputs) = world.call(Call::Subscribe(Box::new(options)));
        let asked = sent(&heard(&mut world, &format!(r#""id":{},"#, id_in(&sent(&outputs)[0]))));
        assert_eq!(events(&world.hear(&snapshot(&asked, 900))).len(), 1);
        assert_eq!(world.hear(joined), [], "an old number");
        world
    };
    let is_told = |world: &mut World, asked: &[String], case: &str| {
        assert_eq!(world.hear(joined), [], "{case}: contained in the snapshot that is to come");
        let outputs = world.hear(&snapshot(asked, 1));
        assert!(matches!(events(&outputs)[..], [Event::Presence(_)]), "{case}: {outputs:?}");
        let outputs = world.hear(joined);
        assert!(matches!(events(&outputs)[..], [Event::PresenceChange(_)]), "{case}: {outputs:?}");
    };

    let mut world = begin();
    world.comes_back(r#""client":"me","session_resumed":false"#);
    let asked = sent(&heard(&mut world, ""));
    is_told(&mut world, &asked, "on a new connection");

    let mut world = begin();
    world.hear(r#"{"type":"unsubscribed","channel":"c","code":"unavailable"}"#);
    let again = sent(&world.wake()).remove(0);
    let asked = sent(&heard(&mut world, &format!(r#""id":{},"#, id_in(&again))));
    is_told(&mut world, &asked, "after an interruption");

    let mut world = begin();
    world.tell(Input::Pause { channel: "c".into(), before: Some(at(5)) });
    let again = sent(&world.tell(Input::Resume("c".into()))).remove(0);
    let asked = sent(&heard(&mut world, &format!(r#""id":{},"#, id_in(&again))));
    is_told(&mut world, &asked, "after a pause");
}

#[test]
fn a_client_that_entered_stays_entered() {
    let subscribed = r#"{"type":"subscribed","channel":"c","epoch":"e","offset":5,"recovered":true,"publications":[]}"#;
    let enter = |data| Call::PresenceSet { channel: "c".into(), data: json(data) };
    let mut world = live();
    let (call, outputs) = world.call(enter(r#"{"a":1}"#));
    let id = id_in(&sent(&outputs)[0]);
    assert_eq!(answers(&world.hear(&format!(r#"{{"type":"result","id":{id}}}"#))), [(call, Ok(Answer::Done))]);

    world.comes_back(r#""client":"me","session_resumed":true"#);
    // Also where the session goes on: that its subscription had ended in between may not have been heard.
    for connected in [r#""client":"me","session_resumed":true"#, r#""client":"other","session_resumed":false"#] {
        world.comes_back(connected);
        let again = sent(&world.hear(subscribed)).remove(0);
        assert!(again.ends_with(r#""channel":"c","data":{"a":1}}"#));
    }

    // Unanswered when the connection is lost: the newest is told on the next one, the earlier was overtaken.
    let (first, _) = world.call(enter("1"));
    let (second, _) = world.call(enter("2"));
    let outputs = world.tell(Input::Closed(None));
    assert_eq!(answers(&outputs), [(first, Ok(Answer::Done))]);
    let (_, _) = world.comes_back(r#""client":"other","session_resumed":true"#);
    let again = sent(&world.hear(subscribed)).remove(0);
    assert!(again.ends_with(r#""data":2}"#));
    let outputs = world.hear(&format!(r#"{{"type":"result","id":{}}}"#, id_in(&again)));
    assert_eq!(answers(&outputs), [(second, Ok(Answer::Done))]);

    // Left while away: the session that is taken up again still has the entry.
    world.tell(Input::Closed(None));
    let (call, outputs) = world.call(Call::PresenceClear("c".into()));
    assert_eq!(answers(&outputs), [(call, Ok(Answer::Done))]);
    world.comes_back(r#""client":"other","session_resumed":true"#);
    assert!(sent(&world.hear(subscribed))[0].contains(r#""type":"presence_clear""#));
    let (call, outputs) = world.call(Call::PresenceSet { channel: "d".into(), data: json("1") });
    assert_eq!(answers(&outputs), [(call, Err(CallError::NotSubscribed { channel: "d".into() }))]);
}

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

#[test]
fn a_payload_that_is_no_json_does_not_leave() {
    for data in [&b"{"[..], b"", b"1,\"type\":\"x\"", b"\xff"] {
        let (call, outputs) =
            World::online().call(Call::Rpc { method: "m".into(), data: Bytes::copy_from_slice(data) });
        assert!(matches!(&answers(&outputs)[..], [(reported, Err(CallError::NotJson { .. }))] if *reported == call));
    }
}

#[test]
fn a_server_that_cannot_be_understood_is_left() {
    let outputs = World::online().hear("nonsense");
    assert!(matches!(outputs[..], [Output::Close(1002), Output::State(State::Waiting { .. })]));
    assert_eq!(World::online().hear(r#"{"type":"from the future","id":1}"#), []);
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

/// The events that may happen to a client.
#[derive(Debug, Clone)]
enum Step {
    Call(u8),
    Server(u8, u64),
    Lost,
    Later(u64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => any::<u8>().prop_map(Step::Call),
        4 => (any::<u8>(), 0..30_u64).prop_map(|(what, n)| Step::Server(what, n)),
        1 => Just(Step::Lost),
        3 => (0..20_000_u64).prop_map(Step::Later),
    ]
}

proptest! {
    /// Whatever the server says and whenever the connection is lost: no panic, one answer a call, offsets rise
    /// between gaps.
    #[test]
    fn promises_hold_in_any_order(steps in proptest::collection::vec(step(), 1..120), seed in any::<u64>()) {
        let mut world = World::new();
        world.core = Core::new(Config { waiting_max: 20, ..Config::default() }, seed);
        let mut open = std::collections::HashSet::new();
        let mut place: std::collections::HashMap<Arc<str>, Option<Position>> = std::collections::HashMap::new();
        let mut outputs = world.tell(Input::Start);
        for step in steps.into_iter().map(Some).chain([None]) {
            // The epoch that a `message` has just named.
            let mut named = None;
            outputs.extend(match step {
                Some(Step::Call(which)) => {
                    let channel = ["a", "b"][usize::from(which / 16 % 2)];
                    let (id, outputs) = world.call(match which % 8 {
                        0 | 1 => subscribe(channel),
                        2 => Call::Unsubscribe(channel.into()),
                        3 => publish(channel, None),
                        4 => Call::PresenceSet { channel: channel.into(), data: json("1") },
                        5 => Call::PresenceClear(channel.into()),
                        6 => Call::Presence(channel.into()),
                        _ => Call::Rpc { method: "m".into(), data: json("1") },
                    });
                    open.insert(id);
                    if which % 8 == 2 {
                        place.remove(channel);
                    }
                    outputs
                }
                Some(Step::Server(what, n)) => {
                    let channel = ["a", "b"][usize::from(what / 16 % 2)];
                    let id = if what & 64 == 0 { format!("\"id\":{n},") } else { String::new() };
                    let epoch = ["e", "f"][usize::from(what / 128)];
                    world.hear(&match what % 12 {
                        0 | 1 => format!(r#"{{"type":"connected","id":{n},"client":"{epoch}","session_resumed":true,"ping":25000}}"#),
                        2 | 3 => format!(r#"{{"type":"subscribed",{id}"channel":"{channel}","epoch":"{epoch}","offset":{n},"recovered":{},"publications":[{{"offset":{n},"data":1,"ts":1}}]}}"#, n % 2 == 0),
                        4 if n % 3 == 0 => {
                            named = Some(epoch);
                            message(channel, n).replacen(r#""offset""#, &format!(r#""epoch":"{epoch}","offset""#), 1)
                        }
                        4 => message(channel, n),
                        5 => format!(r#"{{"type":"published",{id}"epoch":"{epoch}","offset":{n}}}"#),
                        6 => format!(r#"{{"type":"error",{id}"code":"unknown","message":"","retryable":{},"channel":"{channel}"}}"#, n % 2 == 0),
                        7 => format!(r#"{{"type":"result",{id}"data":1}}"#),
                        8 => format!(r#"{{"type":"gap","channel":"{channel}","epoch":"{epoch}","offset":{n}}}"#),
                        9 => format!(r#"{{"type":"unsubscribed","channel":"{channel}","code":"{}"}}"#, ["denied", "unavailable"][n as usize % 2]),
                        10 => r#"{"type":"ping"}"#.to_owned(),
                        _ => format!(r#"{{"type":"presence",{id}"channel":"{channel}","seq":{n},"count":1}}"#),
                    })
                }
                Some(Step::Lost) => world.tell(Input::Closed(None)),
                Some(Step::Later(ms)) => {
                    world.now_ms += ms;
                    let mut outputs = world.tell(Input::Wake);
                    outputs.extend(world.tell(Input::Opened));
                    outputs
                }
                None => world.tell(Input::Stop),
            });
            for output in std::mem::take(&mut outputs) {
                match output {
                    Output::Answer(call, _) => prop_assert!(open.remove(&call), "{call:?} was answered twice"),
                    Output::Channel { channel, event: Event::Gap { .. }, .. } => {
                        place.insert(channel, None);
                    }
                    Output::Channel { channel, event: Event::Message { position, .. }, .. } => {
                        if let Some(Some(last)) = place.insert(channel, Some(position.clone())) {
                            let rises = last.epoch == position.epoch && last.offset < position.offset
                                || last.epoch != position.epoch && named == Some(&*position.epoch);
                            prop_assert!(rises, "{last:?} then {position:?}");
                        }
                    }
                    Output::Channel { channel, event: Event::Ended { .. }, .. } => {
                        place.remove(&channel);
                    }
                    _ => {}
                }
            }
        }
        prop_assert!(open.is_empty(), "{open:?} were never answered");
    }
}
