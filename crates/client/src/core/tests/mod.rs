//! The core in virtual time, against a server whose messages the test writes.

mod any_order;
mod calls;
mod http;
mod link;
mod presence;
mod retries;
mod subscriptions;
mod tokens;
mod trouble;

use super::*;
use bytes::Bytes;
use fanfare_wire::native::client::{ErrorReply, Position, Publish, Subscribe};

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
