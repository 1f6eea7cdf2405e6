//! Answers to sends that overtake the messages of a stream or of polls.

use super::*;

/// Of `connect`, or of the server's own.
fn subscribed(offset: u64) -> String {
    format!(r#"{{"type":"subscribed","channel":"c","epoch":"e","offset":{offset},"publications":[]}}"#)
}

/// The `subscribed` that a `connect` has asked for is on its way while the application leaves the channel, and the
/// answer to that comes first.
#[test]
fn a_subscribed_of_connect_that_comes_after_the_answer_to_unsubscribe_follows_nothing() {
    for (kind, transport) in [(HttpKind::Poll, Poll), (HttpKind::Sse, Sse)] {
        for comes_first in [true, false] {
            let (mut world, outputs) = World::over(&[transport]);
            world.call(subscribe("c"));
            world.lose(of(kind, &outputs).exchange);
            let connect = world.wait_for(kind);
            let connect = if kind == HttpKind::Poll {
                // It is repeated as it was, so it names no channel. The next connection does.
                world.answer(connect.exchange, 400, r#"{"code":"unavailable","message":"later","retryable":true}"#);
                world.wait_for(kind)
            } else {
                connect
            };
            assert!(connect.body.contains(r#""subscribe":[{"channel":"c"}]"#), "{}", connect.body);
            let connected = CONNECTED.replace("ID", &id_in(&connect.body).to_string());
            let outputs = match kind {
                HttpKind::Poll => {
                    world.answer(connect.exchange, 200, &format!(r#"{{"n":1,"messages":[{connected}]}}"#))
                }
                _ => world.message(connect.exchange, &connected),
            };
            let down = requests(&outputs).pop().unwrap_or(connect);
            let said = |world: &mut World, text: &str| match kind {
                HttpKind::Poll => world.answer(down.exchange, 200, &format!(r#"{{"n":2,"messages":[{text}]}}"#)),
                _ => world.message(down.exchange, text),
            };
            let send = of(HttpKind::Send, &world.call(Call::Unsubscribe("c".into())).1);
            let answered = format!(
                r#"{{"n":1,"replies":[{{"type":"unsubscribed","id":{},"channel":"c","code":"requested"}}]}}"#,
                id_in(&send.body)
            );
            if comes_first {
                assert_eq!(events(&said(&mut world, &subscribed(5))), []);
                world.answer(send.exchange, 200, &answered);
            } else {
                world.answer(send.exchange, 200, &answered);
                assert_eq!(events(&said(&mut world, &subscribed(5))), [], "{kind:?}");
            }
            // The next one is of the server's own.
            if kind == HttpKind::Sse {
                assert_eq!(events(&said(&mut world, &subscribed(6))).len(), 1, "{kind:?}");
            }
        }
    }
}
