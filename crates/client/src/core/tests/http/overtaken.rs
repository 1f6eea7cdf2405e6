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

/// Messages of the subscription before may still wait for a poll. Their offsets tell them from newer ones, unless the
/// channel has begun a new epoch.
#[test]
fn a_channel_that_is_followed_again_in_a_new_epoch_is_followed_on_a_new_connection() {
    for (epoch, is_clear) in [("e", true), ("f", false)] {
        let (mut world, poll) = World::polling();
        let answer = |world: &mut World, n: u64, outputs: &[Output], reply: &str| {
            let send = of(HttpKind::Send, outputs);
            let reply = reply.replace("ID", &id_in(&send.body).to_string());
            world.answer(send.exchange, 200, &format!(r#"{{"n":{n},"replies":[{reply}]}}"#))
        };
        let subscribed = r#"{"type":"subscribed","id":ID,"channel":"c","epoch":"EPOCH","offset":5,"publications":[]}"#;
        let outputs = world.call(subscribe("c")).1;
        answer(&mut world, 1, &outputs, &subscribed.replace("EPOCH", "e"));
        let outputs = world.call(Call::Unsubscribe("c".into())).1;
        answer(&mut world, 2, &outputs, r#"{"type":"unsubscribed","id":ID,"channel":"c","code":"requested"}"#);
        let outputs = world.call(subscribe("c")).1;
        let outputs = answer(&mut world, 3, &outputs, &subscribed.replace("EPOCH", epoch));
        assert_eq!(events(&outputs).len(), usize::from(is_clear), "{epoch}: {outputs:?}");
        let is_left = |it: &Output| matches!(it, Output::State(State::Waiting { why: Setback::Ambiguous { .. }, .. }));
        assert_eq!(outputs.iter().any(is_left), !is_clear, "{epoch}: {outputs:?}");
        if is_clear {
            let late = r#"{"n":2,"messages":[
                {"type":"gap","channel":"c","epoch":"e","offset":3},
                {"type":"message","channel":"c","offset":4,"data":4,"ts":1},
                {"type":"presence","channel":"c","seq":9,"count":1,"entries":[{"client":"x"}]},
                {"type":"message","channel":"c","offset":6,"data":6,"ts":1}]}"#;
            let told = events(&world.answer(poll.exchange, 200, late));
            assert!(matches!(&told[..], [Event::Message { position, .. }] if *position == at(6)), "{told:?}");
        }
        if !is_clear {
            let connect = world.wait_for(HttpKind::Poll);
            assert!(connect.body.contains(r#""subscribe":[{"channel":"c"}]"#), "{}", connect.body);
        }
    }
}

/// The application leaves a channel before its `subscribe` is answered, and follows it again. What comes meanwhile is
/// of the epoch that the earlier answer names.
#[test]
fn messages_of_a_subscription_that_was_left_unanswered_are_not_taken_for_those_of_another_epoch() {
    for (epoch, is_clear) in [("e", true), ("f", false)] {
        for first_comes in ["before the messages", "last", "never", "unknown", "refused"] {
            let (mut world, poll) = World::polling();
            let first = of(HttpKind::Send, &world.call(subscribe("c")).1);
            world.call(Call::Unsubscribe("c".into()));
            let second = of(HttpKind::Send, &world.call(subscribe("c")).1);
            let subscribed = |send: &HttpRequest, epoch: &str, offset: u64| {
                let id = id_in(&send.body);
                format!(r#"{{"type":"subscribed","id":{id},"channel":"c","epoch":"{epoch}","offset":{offset}}}"#)
            };
            let earlier = match first_comes {
                "unknown" | "refused" => {
                    let code = if first_comes == "unknown" { "unknown" } else { "unavailable" };
                    let id = id_in(&first.body);
                    format!(r#"{{"type":"error","id":{id},"code":"{code}","message":"later","retryable":true}}"#)
                }
                _ => subscribed(&first, "e", 1),
            };
            let is_first = !matches!(first_comes, "last" | "never");
            let mut outputs = if is_first { world.reply(&first, &earlier) } else { Vec::new() };
            let offset = if is_clear { 3 } else { 1 };
            let late = format!(r#"{{"n":2,"messages":[{},{}]}}"#, message("c", 2), message("c", 3));
            outputs.extend(world.answer(poll.exchange, 200, &late));
            outputs.extend(world.reply(&second, &subscribed(&second, epoch, offset)));
            if !is_first {
                assert_eq!(events(&outputs), [], "it waits for the earlier answer");
            }
            if first_comes == "last" {
                outputs.extend(world.reply(&first, &earlier));
            } else if first_comes == "never" {
                outputs.extend(world.wake_until(|it| it.iter().any(|it| matches!(it, Output::State(_)))));
            }
            // After a refusal there was nothing before it.
            let goes_on = first_comes == "refused" || is_clear && !matches!(first_comes, "never" | "unknown");
            let is_left = |it: &Output| matches!(it, Output::State(State::Waiting { .. }));
            assert_eq!(outputs.iter().any(is_left), !goes_on, "{epoch}, {first_comes}: {outputs:?}");
            if first_comes != "refused" {
                assert_eq!(offsets(&outputs), [0_u64; 0], "{epoch}, {first_comes}: {outputs:?}");
            }
            let is_live = |it: &Event| matches!(it, Event::Live { .. });
            assert_eq!(events(&outputs).iter().any(is_live), goes_on, "{epoch}, {first_comes}: {outputs:?}");
        }
    }
}

/// Two subscriptions are left unanswered, in two epochs, and the later one is answered first.
#[test]
fn a_channel_that_was_left_in_two_epochs_is_followed_on_a_new_connection() {
    for order in [[0, 1, 2], [1, 0, 2], [1, 2, 0], [2, 1, 0], [2, 0, 1]] {
        let (mut world, _poll) = World::polling();
        let mut sends = vec![world.call(subscribe("c")).1];
        for _ in 0..2 {
            sends.push(world.call(Call::Unsubscribe("c".into())).1);
            sends.push(world.call(subscribe("c")).1);
        }
        // Four sends fly at once: the fifth goes up when the second is answered.
        let reply = |world: &mut World, outputs: &[Output], what: &str| {
            let send = of(HttpKind::Send, outputs);
            world.reply(&send, &what.replace("ID", &id_in(&send.body).to_string()))
        };
        let ended = r#"{"type":"unsubscribed","id":ID,"channel":"c","code":"requested"}"#;
        let outputs = reply(&mut world, &sends[1], ended);
        sends[4].extend(outputs);
        let mut outputs = Vec::new();
        for which in order {
            let epoch = ["e", "f", "f"][which];
            let what = format!(r#"{{"type":"subscribed","id":ID,"channel":"c","epoch":"{epoch}","offset":1}}"#);
            outputs.extend(reply(&mut world, &sends[which * 2], &what));
        }
        let is_left = |it: &Output| matches!(it, Output::State(State::Waiting { why: Setback::Ambiguous { .. }, .. }));
        assert!(outputs.iter().any(is_left), "{order:?}: {outputs:?}");
        assert_eq!(events(&outputs), [], "{order:?}");
    }
}

/// A `connect` subscribes, the application leaves the channel and follows it again, and that is answered before the
/// messages of the first subscription have come.
#[test]
fn messages_of_a_subscription_of_connect_that_was_left_are_not_taken_for_those_of_another_epoch() {
    for (epoch, is_clear) in [("e", true), ("f", false)] {
        let (mut world, outputs) = World::over(&[Sse]);
        world.call(subscribe("c"));
        world.lose(of(HttpKind::Sse, &outputs).exchange);
        let connect = world.wait_for(HttpKind::Sse);
        assert!(connect.body.contains(r#""subscribe":[{"channel":"c"}]"#), "{}", connect.body);
        world.message(connect.exchange, &CONNECTED.replace("ID", &id_in(&connect.body).to_string()));
        world.call(Call::Unsubscribe("c".into()));
        let send = of(HttpKind::Send, &world.call(subscribe("c")).1);
        let id = id_in(&send.body);
        let reply = format!(r#"{{"type":"subscribed","id":{id},"channel":"c","epoch":"{epoch}","offset":6}}"#);
        world.reply(&send, &reply);
        let mut outputs = world.message(connect.exchange, &subscribed(5));
        outputs.extend(world.message(connect.exchange, &message("c", if is_clear { 6 } else { 7 })));
        let is_left = |it: &Output| matches!(it, Output::State(State::Waiting { why: Setback::Ambiguous { .. }, .. }));
        assert_eq!(outputs.iter().any(is_left), !is_clear, "{epoch}: {outputs:?}");
        assert_eq!(offsets(&outputs), [0_u64; 0], "{epoch}: {outputs:?}");
    }
}

/// The answer to a `subscribe` is lost, and the server has the subscription.
#[test]
fn a_subscription_of_which_only_the_server_knows_is_begun_anew_on_a_new_connection() {
    let (mut world, _poll) = World::polling();
    let send = of(HttpKind::Send, &world.call(subscribe("c")).1);
    let id = id_in(&send.body);
    let there = format!(
        r#"{{"type":"error","id":{id},"code":"already_subscribed","message":"it is there","retryable":false}}"#
    );
    let outputs = world.reply(&send, &there);
    let again = of(HttpKind::Send, &outputs);
    assert!(again.body.contains(r#"{"type":"unsubscribe""#), "{}", again.body);
    let id = id_in(&last_command(&again));
    let reply = format!(r#"{{"type":"subscribed","id":{id},"channel":"c","epoch":"f","offset":1}}"#);
    let outputs = world.reply(&again, &reply);
    let is_left = |it: &Output| matches!(it, Output::State(State::Waiting { why: Setback::Ambiguous { .. }, .. }));
    assert!(outputs.iter().any(is_left), "{outputs:?}");
}

/// The first page ends before the newest publication, so a late message of the subscription before may lie above the
/// place: it would hide the pages that follow.
#[test]
fn a_channel_that_is_followed_again_and_has_pages_to_come_is_followed_on_a_new_connection() {
    let (mut world, poll) = World::polling();
    let answer = |world: &mut World, outputs: &[Output], reply: &str| {
        let send = of(HttpKind::Send, outputs);
        world.reply(&send, &reply.replace("ID", &id_in(&send.body).to_string()))
    };
    let outputs = world.call(subscribe("c")).1;
    answer(
        &mut world,
        &outputs,
        r#"{"type":"subscribed","id":ID,"channel":"c","epoch":"e","offset":2,"publications":[]}"#,
    );
    let outputs = world.call(Call::Unsubscribe("c".into())).1;
    answer(&mut world, &outputs, r#"{"type":"unsubscribed","id":ID,"channel":"c","code":"requested"}"#);
    let again = Subscribe { since: Some(at(2)), ..Subscribe::new("c") };
    let outputs = world.call(Call::Subscribe(Box::new(again))).1;
    let page = r#"{"type":"subscribed","id":ID,"channel":"c","epoch":"e","offset":3,"recovered":true,"more":true,
        "publications":[{"offset":3,"data":3,"ts":1}]}"#;
    let outputs = answer(&mut world, &outputs, page);
    let is_left = |it: &Output| matches!(it, Output::State(State::Waiting { why: Setback::Ambiguous { .. }, .. }));
    assert!(outputs.iter().any(is_left), "{outputs:?}");
    let late = r#"{"n":2,"messages":[{"type":"message","channel":"c","offset":5,"data":5,"ts":1}]}"#;
    assert_eq!(events(&world.answer(poll.exchange, 200, late)), [], "of the earlier subscription");
    let connect = world.wait_for(HttpKind::Poll);
    assert!(connect.body.contains(r#""since":{"epoch":"e","offset":2}"#), "{}", connect.body);
}

/// The server subscribes us by itself, and our own `subscribe` begins that anew. Late messages of the server's
/// subscription would hide the pages of ours, wherever its `subscribed` comes between ours.
#[test]
fn pages_of_a_subscription_that_the_server_had_made_are_asked_for_on_a_new_connection() {
    for (order, is_more) in [("before", true), ("between", true), ("after", true), ("between", false), ("after", false)]
    {
        let (mut world, poll) = World::polling();
        let polled = |world: &mut World, at: &HttpRequest, n: u64| {
            let late = r#"{"type":"message","channel":"c","offset":6,"data":6,"ts":1}"#;
            let body = format!(r#"{{"n":{n},"messages":[{},{late}]}}"#, subscribed(5));
            world.answer(at.exchange, 200, &body)
        };
        if order == "before" {
            polled(&mut world, &poll, 2);
        }
        let options = Subscribe { since: Some(at(2)), ..Subscribe::new("c") };
        let mut send = of(HttpKind::Send, &world.call(Call::Subscribe(Box::new(options))).1);
        let mut outputs = Vec::new();
        if order == "resting" {
            let later = r#"{"type":"error","id":ID,"code":"unavailable","message":"later","retryable":true}"#;
            world.reply(&send, &later.replace("ID", &id_in(&send.body).to_string()));
            send = of(HttpKind::Send, &polled(&mut world, &poll, 2));
        }
        if order == "between" {
            outputs.extend(polled(&mut world, &poll, 2));
        }
        let page = format!(
            r#"{{"type":"subscribed","id":{},"channel":"c","epoch":"e","offset":{},"recovered":true,"more":{is_more},
            "publications":[{{"offset":3,"data":3,"ts":1}}]}}"#,
            id_in(&send.body),
            if is_more { 3 } else { 5 },
        );
        outputs.extend(world.reply(&send, &page));
        if order == "after" {
            outputs.extend(polled(&mut world, &poll, 2));
        }
        let is_left = |it: &Output| matches!(it, Output::State(State::Waiting { why: Setback::Ambiguous { .. }, .. }));
        assert_eq!(outputs.iter().any(is_left), is_more, "{order}: {outputs:?}");
        let told = offsets(&outputs);
        assert!(!is_more && told == [3, 6] || is_more && !told.contains(&6), "{order}: {told:?}");
    }
}

/// The server subscribes us, our own `subscribe` begins that anew, and we leave. What the server said first comes last.
#[test]
fn a_subscribed_from_before_a_subscription_that_was_left_is_passed_over() {
    for (offset, is_news) in [(5, false), (7, true)] {
        let (mut world, poll) = World::polling();
        let send = of(HttpKind::Send, &world.call(subscribe("c")).1);
        let id = id_in(&send.body);
        world.reply(&send, &format!(r#"{{"type":"subscribed","id":{id},"channel":"c","epoch":"e","offset":6}}"#));
        let send = of(HttpKind::Send, &world.call(Call::Unsubscribe("c".into())).1);
        let id = id_in(&send.body);
        world.reply(&send, &format!(r#"{{"type":"unsubscribed","id":{id},"channel":"c","code":"requested"}}"#));
        let late = format!(r#"{{"n":2,"messages":[{}]}}"#, subscribed(offset));
        let told = events(&world.answer(poll.exchange, 200, &late));
        assert_eq!(told.len(), usize::from(is_news), "{offset}: {told:?}");
    }
}

/// The server subscribes us while our `unsubscribe` is on its way: nobody knows which of them came last.
#[test]
fn a_subscribed_that_crosses_an_unsubscribe_is_ended_by_another_one() {
    let (mut world, poll) = World::polling();
    let send = of(HttpKind::Send, &world.call(subscribe("c")).1);
    let reply = format!(r#"{{"type":"subscribed","id":{},"channel":"c","epoch":"e","offset":2}}"#, id_in(&send.body));
    world.reply(&send, &reply);
    let send = of(HttpKind::Send, &world.call(Call::Unsubscribe("c".into())).1);
    let crossing = format!(r#"{{"n":2,"messages":[{}]}}"#, subscribed(5));
    assert_eq!(events(&world.answer(poll.exchange, 200, &crossing)), []);
    let ended = |send: &HttpRequest| {
        format!(r#"{{"type":"unsubscribed","id":{},"channel":"c","code":"requested"}}"#, id_in(&send.body))
    };
    let again = of(HttpKind::Send, &world.reply(&send, &ended(&send)));
    assert!(again.body.contains(r#"{"type":"unsubscribe""#), "{}", again.body);
    assert_eq!(requests(&world.reply(&again, &ended(&again))), [], "once");
}

/// While our `subscribe` has no answer the server ends a subscription and makes one: which of the three is the last?
#[test]
fn an_end_and_a_subscribed_that_come_before_our_answer_are_settled_by_a_new_connection() {
    let (mut world, poll) = World::polling();
    let send = of(HttpKind::Send, &world.call(subscribe("c")).1);
    let end = r#"{"type":"unsubscribed","channel":"c","code":"denied"}"#;
    let outputs = world.answer(poll.exchange, 200, &format!(r#"{{"n":2,"messages":[{end},{}]}}"#, subscribed(5)));
    assert_eq!(events(&outputs), []);
    let reply = format!(r#"{{"type":"subscribed","id":{},"channel":"c","epoch":"e","offset":2}}"#, id_in(&send.body));
    let outputs = world.reply(&send, &reply);
    let is_left = |it: &Output| matches!(it, Output::State(State::Waiting { why: Setback::Ambiguous { .. }, .. }));
    assert!(outputs.iter().any(is_left), "{outputs:?}");
    let connect = world.wait_for(HttpKind::Poll);
    assert!(connect.body.contains(r#""subscribe":[{"channel":"c"}]"#), "{}", connect.body);
}

/// A send of the connection before arrives late, with the commands that it had. They end the subscription of this
/// connection and begin another one, before which a publication is missing.
fn messages_wait_until_it_is_settled(status: u16, answer: impl Fn(u64) -> String) {
    let (mut world, stream) = World::streaming();
    let send = of(HttpKind::Send, &world.call(subscribe("c")).1);
    let id = id_in(&send.body);
    world.reply(&send, &format!(r#"{{"type":"subscribed","id":{id},"channel":"c","epoch":"e","offset":5}}"#));
    world.call(Call::Unsubscribe("c".into()));
    world.call(Call::Subscribe(Box::new(Subscribe { since: Some(at(5)), ..Subscribe::new("c") })));
    world.lose(stream);
    let connect = world.wait_for(HttpKind::Sse);
    let connected = CONNECTED.replace("ID", &id_in(&connect.body).to_string()).replace("false", "true");
    let outputs = world.message(connect.exchange, &connected);
    let fillers = requests(&outputs);
    assert!(fillers.iter().all(|filler| filler.body.ends_with(r#""commands":[]}"#)), "{fillers:?}");
    let page = r#""recovered":true,"publications":[]"#;
    let subscribed = format!(r#"{{"type":"subscribed","channel":"c","epoch":"e","offset":5,{page}}}"#);
    assert_eq!(events(&world.message(connect.exchange, &subscribed)).len(), 1, "it is live");
    assert_eq!(offsets(&world.message(connect.exchange, &message("c", 7))), [0_u64; 0], "6 may be missing before it");
    let mut outputs = Vec::new();
    for filler in &fillers {
        outputs.extend(world.answer(filler.exchange, status, &answer(number_in(filler))));
    }
    assert_eq!(offsets(&outputs), [0_u64; 0]);
    let again = of(HttpKind::Send, &outputs);
    assert!(again.body.contains(r#""since":{"epoch":"e","offset":5}"#), "{}", again.body);
    let id = id_in(&last_command(&again));
    let page = r#""recovered":true,"publications":[{"offset":6,"data":6,"ts":1},{"offset":7,"data":7,"ts":1}]"#;
    let reply = format!(r#"{{"type":"subscribed","id":{id},"channel":"c","epoch":"e","offset":7,{page}}}"#);
    assert_eq!(offsets(&world.reply(&again, &reply)), [6, 7]);
    assert_eq!(offsets(&world.message(connect.exchange, &message("c", 8))), [8]);
}

#[test]
fn messages_of_a_channel_that_an_earlier_connection_has_left_wait_until_that_is_settled() {
    messages_wait_until_it_is_settled(200, |n| format!(r#"{{"n":{n},"replies":[]}}"#));
}

/// That send has taken effect, but nobody knows how.
#[test]
fn messages_of_a_channel_wait_also_where_the_answer_to_that_send_is_not_kept() {
    let answer = |n| format!(r#"{{"code":"unknown","message":"send {n} has taken effect","retryable":false}}"#);
    messages_wait_until_it_is_settled(503, answer);
}
