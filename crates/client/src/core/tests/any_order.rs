//! The promises of the core in any order of events.

use super::*;
use proptest::prelude::*;

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
    /// For any messages of the server and any cuts of the connection: no panic, one answer a call, offsets rise
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
