//! Numbered sends: lost answers, numbers that overtake others, and commands that never left.

use super::*;

#[test]
fn a_send_without_an_answer_is_sent_again_as_it_was() {
    let (mut world, _stream) = World::streaming();
    let (call, outputs) = world.call(publish("c", Some("k")));
    let send = of(HttpKind::Send, &outputs);
    assert!(send.body.starts_with(r#"{"ticket":"t1","n":1,"commands":[{"type":"publish""#), "{}", send.body);
    let again = of(HttpKind::Send, &world.lose(send.exchange));
    assert_eq!(again.body, send.body);
    let id = id_in(&send.body);
    let replies = format!(r#"{{"n":1,"replies":[{{"type":"published","id":{id},"epoch":"e","offset":1}}]}}"#);
    let outputs = world.answer(again.exchange, 200, &replies);
    assert!(outputs.contains(&Output::Answer(call, Ok(Answer::Published(at(1))))), "{outputs:?}");
}

/// The number is done. A publication goes up again under the next one, because its key makes that harmless; a call does
/// not.
#[test]
fn a_send_whose_answer_is_not_kept_is_never_repeated() {
    let refused =
        r#"{"code":"unknown","message":"send 1 has taken effect, and its answer is not kept","retryable":false}"#;
    let (mut world, _stream) = World::streaming();
    let (_, outputs) = world.call(publish("c", Some("k")));
    let send = of(HttpKind::Send, &outputs);
    assert!(send.body.contains(r#""n":1,"#), "{}", send.body);
    let outputs = world.answer(send.exchange, 503, refused);
    assert!(answers(&outputs).is_empty(), "{outputs:?}");
    let again = world.wait_for(HttpKind::Send);
    assert!(again.body.contains(r#""n":2,"#) && again.body.contains(r#""idempotency_key":"k""#), "{}", again.body);

    let (mut world, _stream) = World::streaming();
    let (call, outputs) = world.call(Call::Rpc { method: "m".into(), data: json("1") });
    let send = of(HttpKind::Send, &outputs);
    let outputs = world.answer(send.exchange, 503, refused);
    let found = answers(&outputs);
    assert!(
        matches!(&found[..], [(of, Err(CallError::Refused(error)))] if *of == call && &*error.code == "unknown"),
        "{found:?}"
    );
    assert!(world.core.is_online());
    let (_, outputs) = world.call(publish("c", None));
    assert!(of(HttpKind::Send, &outputs).body.contains(r#""n":2,"#), "{outputs:?}");
}

#[test]
fn a_send_that_overtook_another_waits_and_the_missing_one_is_sent_again() {
    let (mut world, _stream) = World::streaming();
    let first = of(HttpKind::Send, &world.call(publish("c", None)).1);
    let second = of(HttpKind::Send, &world.call(publish("c", None)).1);
    assert!(second.body.contains(r#""n":2"#));
    let refused = r#"{"code":"out_of_order","message":"send 2 came before send 1","retryable":true}"#;
    let outputs = world.answer(second.exchange, 409, refused);
    assert!(outputs.contains(&Output::Abort(first.exchange)), "its request is stuck: {outputs:?}");
    assert_eq!(of(HttpKind::Send, &outputs).body, first.body);
    assert_eq!(world.wait_for(HttpKind::Send).body, second.body);
}

/// The server keeps the answers to the last eight sends: the first of nine would be asked for in vain.
#[test]
fn no_send_begins_beyond_the_answers_that_the_server_keeps() {
    let (mut world, _poll) = World::polling();
    let say = |world: &mut World| requests(&world.call(publish("c", None)).1);
    let stuck = say(&mut world).remove(0);
    for n in 2..=8 {
        let send = say(&mut world).remove(0);
        assert_eq!(number_in(&send), n);
        world.answer(send.exchange, 200, &format!(r#"{{"n":{n},"replies":[]}}"#));
    }
    assert_eq!(say(&mut world), [], "the first one has no answer");
    let next = of(HttpKind::Send, &world.answer(stuck.exchange, 200, r#"{"n":1,"replies":[]}"#));
    assert_eq!(number_in(&next), 9);
}

#[test]
fn numbers_without_an_answer_go_up_without_their_commands_where_the_session_goes_on() {
    for (resumed, expected) in [(true, vec![r#"{"ticket":"t2","n":1,"commands":[]}"#]), (false, vec![])] {
        let (mut world, stream) = World::streaming();
        let (call, outputs) = world.call(Call::Rpc { method: "m".into(), data: json("1") });
        let send = of(HttpKind::Send, &outputs);
        let outputs = world.lose(stream);
        assert!(outputs.contains(&Output::Abort(send.exchange)));
        assert!(outputs.contains(&Output::Answer(call, Err(CallError::Unknown))));
        let stream = world.wait_for(HttpKind::Sse);
        let connected = CONNECTED.replace("ID", &id_in(&stream.body).to_string()).replace("t1", "t2");
        let connected = connected.replace("resumed\":false", &format!("resumed\":{resumed}"));
        let outputs = world.message(stream.exchange, &connected);
        let bodies: Vec<_> = requests(&outputs).into_iter().map(|request| request.body).collect();
        assert_eq!(bodies, expected, "resumed: {resumed}");
        let next = of(HttpKind::Send, &world.call(publish("c", None)).1);
        assert!(next.body.contains(if resumed { r#""n":2"# } else { r#""n":1"# }), "{}", next.body);
    }
}

/// The connection is lost while commands wait for their turn, or were never taken to the server.
#[test]
fn a_command_that_never_left_is_reported_as_not_sent() {
    let rpc = || Call::Rpc { method: "m".into(), data: json("1") };
    let (mut world, stream) = World::streaming();
    let flying: Vec<_> = (0..4).map(|_| world.call(rpc()).0).collect();
    let (queued, outputs) = world.call(rpc());
    assert!(requests(&outputs).is_empty(), "four sends are on their way, and a fifth waits");
    let result = |outputs: &[Output], call| answers(outputs).into_iter().find(|(it, _)| *it == call).map(|it| it.1);
    let outputs = world.lose(stream);
    assert_eq!(result(&outputs, queued), Some(Err(CallError::NotSent)));
    for call in flying {
        assert_eq!(result(&outputs, call), Some(Err(CallError::Unknown)));
    }

    for (ends, expected) in [
        (&["unreachable", "unreachable"][..], CallError::NotSent),
        (&["unreachable", "lost"], CallError::Unknown),
        (&["lost", "unreachable"], CallError::Unknown),
    ] {
        let (mut world, stream) = World::streaming();
        let (call, outputs) = world.call(rpc());
        let mut send = of(HttpKind::Send, &outputs);
        for (place, end) in ends.iter().enumerate() {
            let input = if *end == "lost" { HttpInput::Lost } else { HttpInput::Unreachable };
            let outputs = world.tell(Input::Http(send.exchange, input));
            if place == 0 {
                send = of(HttpKind::Send, &outputs);
            }
        }
        assert_eq!(result(&world.lose(stream), call), Some(Err(expected)), "{ends:?}");
    }
}

/// Its key has never been shown, so another session cannot store it twice.
#[test]
fn a_publication_that_never_left_is_sent_by_another_session() {
    let (mut world, stream) = World::streaming();
    let flying: Vec<_> = (0..4).map(|_| world.call(publish("c", None)).0).collect();
    let (queued, _) = world.call(publish("c", Some("k")));
    world.lose(stream);
    let outputs = world.back(HttpKind::Sse, false);
    let unknown: Vec<_> = flying.into_iter().map(|call| (call, Err(CallError::Unknown))).collect();
    assert_eq!(answers(&outputs), unknown);
    let send = of(HttpKind::Send, &outputs);
    assert!(send.body.contains(r#""idempotency_key":"k""#), "{}", send.body);
    let outputs = world.tell(Input::Stop);
    assert_eq!(answers(&outputs), [(queued, Err(CallError::Unknown))], "now it was sent");

    let (mut world, _stream) = World::streaming();
    for _ in 0..4 {
        world.call(publish("c", None));
    }
    let (queued, _) = world.call(publish("c", None));
    let ended = CallError::Ended(EndReason::Stopped);
    assert!(answers(&world.tell(Input::Stop)).contains(&(queued, Err(ended))), "it took no effect");
}
