//! Presence: its numbers, and what the client itself has entered.

use super::*;

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

/// The client entered, and is back on a new connection. Nobody waits for the answer there, and the entry is to stand.
#[test]
fn an_entry_that_is_refused_for_now_after_a_return_is_entered_later() {
    let subscribed = r#"{"type":"subscribed","channel":"c","epoch":"e","offset":5,"recovered":true,"publications":[]}"#;
    for trouble in ["rate_limited", "unavailable", "silence", "denied"] {
        let mut world = live();
        let (call, outputs) = world.call(Call::PresenceSet { channel: "c".into(), data: json("1") });
        let id = id_in(&sent(&outputs)[0]);
        let outputs = world.hear(&format!(r#"{{"type":"result","id":{id}}}"#));
        assert_eq!(answers(&outputs), [(call, Ok(Answer::Done))]);
        world.comes_back(r#""client":"other","session_resumed":false"#);
        let mut again = sent(&world.hear(subscribed)).remove(0);
        for attempt in 0..3 {
            assert!(again.contains(r#""type":"presence_set""#), "{trouble}, {attempt}: {again}");
            let id = id_in(&again);
            let is_final = trouble == "denied";
            if trouble != "silence" {
                world.hear(&format!(
                    r#"{{"type":"error","id":{id},"code":"{trouble}","message":"no","retryable":{}}}"#,
                    !is_final
                ));
            }
            if is_final {
                world.comes_back(r#""client":"other","session_resumed":true"#);
                assert_eq!(sent(&world.hear(subscribed)), [""; 0], "it is not asked for again");
                break;
            }
            let is_set = |it: &[Output]| sent(it).iter().any(|text| text.contains("presence_set"));
            let until_ms = world.now_ms + 60_000;
            let outputs = loop {
                assert!(world.now_ms < until_ms, "{trouble}, {attempt}");
                let mut outputs = world.wake();
                if is_set(&outputs) {
                    break outputs;
                }
                outputs.extend(world.hear(r#"{"type":"ping"}"#));
            };
            again = sent(&outputs).into_iter().find(|text| text.contains("presence_set")).expect("just found");
        }
    }
}

/// The application left while there was no connection, and has heard that it is done. The session that is taken up
/// again still has the entry.
#[test]
fn an_entry_that_was_left_while_away_is_cleared_whatever_comes_between() {
    let subscribed = r#"{"type":"subscribed","channel":"c","epoch":"e","offset":5,"recovered":true,"publications":[]}"#;
    for trouble in ["refused", "silence", "a cut", "entered anew", "refused for good"] {
        let mut world = live();
        world.call(Call::PresenceSet { channel: "c".into(), data: json("1") });
        world.tell(Input::Closed(None));
        let (call, outputs) = world.call(Call::PresenceClear("c".into()));
        assert_eq!(answers(&outputs).pop(), Some((call, Ok(Answer::Done))));
        world.comes_back(r#""client":"me","session_resumed":true"#);
        let mut clear = sent(&world.hear(subscribed)).remove(0);
        for attempt in 0..3 {
            assert!(clear.contains(r#""type":"presence_clear""#), "{trouble}, {attempt}: {clear}");
            if trouble == "a cut" {
                world.comes_back(r#""client":"me","session_resumed":true"#);
                clear = sent(&world.hear(subscribed)).remove(0);
                continue;
            }
            if trouble == "entered anew" {
                world.call(Call::PresenceSet { channel: "c".into(), data: json("2") });
            }
            if trouble != "silence" {
                let (id, retryable) = (id_in(&clear), trouble != "refused for good");
                let error = r#""code":"rate_limited","message":"no""#;
                world.hear(&format!(r#"{{"type":"error","id":{id},{error},"retryable":{retryable}}}"#));
            }
            let until_ms = world.now_ms + 60_000;
            let mut found = None;
            while found.is_none() && world.now_ms < until_ms {
                let outputs = world.wake();
                found = sent(&outputs).into_iter().find(|text| text.contains("presence_clear"));
                world.hear(r#"{"type":"ping"}"#);
            }
            match found {
                Some(again) => clear = again,
                None => {
                    assert!(["entered anew", "refused for good"].contains(&trouble), "{trouble}, {attempt}");
                    break;
                }
            }
        }
    }
}
