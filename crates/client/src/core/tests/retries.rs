//! Requests that are sent again: the time between attempts, the time after which they end, and answers to earlier
//! attempts.

use super::*;

/// The server cannot do the command of `text` now.
fn unavailable(text: &str) -> String {
    let id = id_in(text);
    format!(r#"{{"type":"error","id":{id},"code":"unavailable","message":"not now","retryable":true,"channel":"c"}}"#)
}

/// `subscribed` as the answer to `text`, with a recovered page of these offsets.
fn recovered(text: &str, offsets: &[u64]) -> String {
    let page: Vec<String> = offsets.iter().map(|n| format!(r#"{{"offset":{n},"data":{n},"ts":1}}"#)).collect();
    let (id, top, page) = (id_in(text), offsets.last().copied().unwrap_or(5), page.join(","));
    format!(
        r#"{{"type":"subscribed","id":{id},"channel":"c","epoch":"e","offset":{top},"recovered":true,"publications":[{page}]}}"#
    )
}

/// The server refuses `text` for now. The command that is sent again, which has to be the next thing that the core
/// does; it comes after a time of half of `ceiling_ms` to all of it.
fn again(world: &mut World, text: &str, ceiling_ms: u64) -> String {
    assert_eq!(sent(&world.hear(&unavailable(text))), [""; 0], "not at once");
    let refused_ms = world.now_ms;
    let texts = sent(&world.wake());
    let waited_ms = world.now_ms - refused_ms;
    assert!((ceiling_ms / 2..=ceiling_ms).contains(&waited_ms), "{waited_ms} ms of {ceiling_ms} ms");
    assert_eq!(texts.len(), 1, "{texts:?}");
    texts[0].clone()
}

/// Refuses a command again and again: the times between attempts double up to a limit.
fn ever_later(world: &mut World, text: String) -> String {
    [500, 1_000, 2_000, 4_000, 8_000, 8_000].into_iter().fold(text, |text, ceiling_ms| again(world, &text, ceiling_ms))
}

/// The server interrupts the subscription to `c`; the `subscribe` that follows.
fn interrupted(world: &mut World) -> String {
    assert_eq!(sent(&world.hear(r#"{"type":"unsubscribed","channel":"c","code":"unavailable"}"#)), [""; 0]);
    sent(&world.wake()).remove(0)
}

#[test]
fn a_publication_that_is_refused_for_now_is_sent_later_and_later() {
    let mut world = World::online();
    let first = sent(&world.call(publish("c", Some("k"))).1).remove(0);
    let last = ever_later(&mut world, first);
    assert!(last.contains(r#""idempotency_key":"k""#), "{last}");
}

#[test]
fn an_unsubscribe_that_is_refused_for_now_is_sent_later_unless_the_channel_is_followed_again() {
    let leaving = || {
        let mut world = World::online();
        let first = sent(&world.call(subscribe("c")).1).remove(0);
        world.hear(&recovered(&first, &[]));
        let leave = sent(&world.call(Call::Unsubscribe("c".into())).1).remove(0);
        assert!(leave.contains("unsubscribe"), "{leave}");
        (world, leave)
    };
    let (mut world, leave) = leaving();
    let last = ever_later(&mut world, leave);
    assert!(last.contains(r#""type":"unsubscribe""#) && last.contains(r#""channel":"c""#), "{last}");
    let (mut world, leave) = leaving();
    world.hear(&unavailable(&leave));
    let texts = sent(&world.call(subscribe("c")).1);
    assert!(texts.len() == 1 && texts[0].contains(r#""type":"subscribe""#), "{texts:?}");
    world.hear(&recovered(&texts[0], &[]));
    assert_eq!(sent(&world.wake()), [""; 0], "the time has come, and the channel is followed");
    assert_eq!(world.core.subscriptions.wake_ms(), None, "nothing is left of the earlier one");
}

/// The `unsubscribe` was refused for now, and so was the `subscribe` behind it; then the application gives that up too.
#[test]
fn a_channel_that_is_given_up_before_it_is_followed_again_is_left_at_the_server() {
    for is_removed in [true, false] {
        let mut world = World::online();
        let first = sent(&world.call(subscribe("c")).1).remove(0);
        world.hear(&recovered(&first, &[]));
        let leave = sent(&world.call(Call::Unsubscribe("c".into())).1).remove(0);
        let again = sent(&world.call(subscribe("c")).1).remove(0);
        world.hear(&unavailable(&leave));
        assert_eq!(sent(&world.wake()), [""; 0], "the channel is followed again");
        world.hear(&unavailable(&again));
        if is_removed {
            let texts = sent(&world.call(Call::Unsubscribe("c".into())).1);
            assert!(texts.len() == 1 && texts[0].contains(r#""type":"unsubscribe""#), "{texts:?}");
            let id = id_in(&texts[0]);
            world.hear(&format!(r#"{{"type":"unsubscribed","id":{id},"channel":"c","code":"requested"}}"#));
            assert_eq!(world.core.subscriptions.wake_ms(), None, "nothing is left of it");
        } else {
            let texts = sent(&world.wake());
            assert!(texts.len() == 1 && texts[0].contains(r#""type":"subscribe""#), "{texts:?}");
            world.hear(&recovered(&texts[0], &[]));
            let texts = sent(&world.call(Call::Unsubscribe("c".into())).1);
            assert!(texts.len() == 1 && texts[0].contains(r#""type":"unsubscribe""#), "{texts:?}");
        }
    }
}

#[test]
fn a_subscription_is_asked_for_later_and_later_until_it_is_there() {
    let mut world = World::online();
    let first = sent(&world.call(subscribe("c")).1).remove(0);
    let last = ever_later(&mut world, first);
    world.hear(&recovered(&last, &[]));
    let text = interrupted(&mut world);
    again(&mut world, &text, 500);
}

#[test]
fn presence_is_asked_for_later_and_later_until_the_next_subscription() {
    let mut world = World::online();
    let options = Subscribe { presence: true, ..Subscribe::new("c") };
    let first = sent(&world.call(Call::Subscribe(Box::new(options))).1).remove(0);
    let asked = sent(&world.hear(&recovered(&first, &[]))).remove(0);
    ever_later(&mut world, asked);
    let text = interrupted(&mut world);
    let asked = sent(&world.hear(&recovered(&text, &[]))).remove(0);
    again(&mut world, &asked, 500);
}

#[test]
fn a_question_ends_in_time_also_while_the_client_is_not_online() {
    let timed_out = |call| [(call, Err(CallError::TimedOut { after_ms: 10_000 }))];
    // It was never sent.
    let mut world = World::new();
    world.tell(Input::Start);
    let (call, _) = world.call(Call::Presence("c".into()));
    let outputs = world.wake_until(|outputs| !answers(outputs).is_empty());
    assert_eq!((&answers(&outputs)[..], world.now_ms), (&timed_out(call)[..], 11_000));

    // It is sent again on another connection: that is no new question.
    let mut world = World::online();
    let (call, _) = world.call(Call::Presence("c".into()));
    let asked_ms = world.now_ms;
    world.now_ms += 6_000;
    let (_, outputs) = world.comes_back(r#""client":"me","session_resumed":true"#);
    assert_eq!(sent(&outputs).len(), 1);
    let outputs = world.wake_until(|outputs| !answers(outputs).is_empty());
    assert_eq!((&answers(&outputs)[..], world.now_ms), (&timed_out(call)[..], asked_ms + 10_000));
}

/// The application is paused while a `subscribe` is unanswered. That one ends with the `unsubscribe` behind it.
#[test]
fn an_answer_to_a_subscription_before_a_pause_is_not_the_answer_to_the_one_after_it() {
    let mut world = live();
    let before = interrupted(&mut world);
    world.tell(Input::Pause { channel: "c".into(), before: Some(at(5)) });
    let after = sent(&world.tell(Input::Resume("c".into()))).remove(0);
    assert!(after.contains(r#""since":{"epoch":"e","offset":5}"#), "{after}");
    assert_eq!(events(&world.hear(&recovered(&before, &[6]))), []);
    assert_eq!(offsets(&world.hear(&recovered(&after, &[6, 7]))), [6, 7]);
}

/// The server ends a subscription that we have left for a pause: the pause goes on, and so does the subscription.
#[test]
fn an_end_that_crosses_a_pause_is_not_the_end_of_what_follows() {
    let mut world = live();
    world.tell(Input::Pause { channel: "c".into(), before: Some(at(5)) });
    assert_eq!(world.hear(r#"{"type":"unsubscribed","channel":"c","code":"denied","message":"no"}"#), []);
    let after = sent(&world.tell(Input::Resume("c".into()))).remove(0);
    assert!(after.contains(r#""since":{"epoch":"e","offset":5}"#), "{after}");
    assert_eq!(world.hear(r#"{"type":"unsubscribed","channel":"c","code":"denied","message":"no"}"#), []);
    assert_eq!(offsets(&world.hear(&recovered(&after, &[6]))), [6]);
}

/// The application asks for a channel with options of its own while a subscription of the server is being renewed.
#[test]
fn an_answer_to_the_servers_subscription_is_not_the_answer_to_the_applications() {
    let mut world = World::online();
    world.hear(&subscribed("c", 5));
    let of_server = interrupted(&mut world);
    let options = Subscribe { recent: Some(3), ..Subscribe::new("c") };
    let (call, outputs) = world.call(Call::Subscribe(Box::new(options)));
    let text = sent(&outputs).remove(0);
    assert!(text.contains(r#""recent":3"#), "{text}");
    assert_eq!(world.hear(&recovered(&of_server, &[6])), []);
    let outputs = world.hear(&recovered(&text, &[4, 5, 6]).replace(r#""recovered":true,"#, ""));
    assert!(matches!(&answers(&outputs)[..], [(reported, Ok(Answer::Subscribed { .. }))] if *reported == call));
    assert_eq!(offsets(&outputs), [4, 5, 6]);
}
