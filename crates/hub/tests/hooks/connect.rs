//! The question of a `connect`: what waits for its answer, and how long a client that is refused may try again.

use super::*;

#[test]
fn a_token_is_asked_about_and_what_follows_waits() {
    for shards in shard_counts() {
        let mut net = net(shards, hooks(true, &[], &[]));
        let peer = net.open(0);
        let id = net.send(peer, Command::Connect(Box::new(with_token("t"))));
        let published = net.send(peer, publish("chat:a", "1"));
        assert_eq!((net.answer_to(peer, id), net.answer_to(peer, published)), (None, None));
        let info = Some(Bytes::from_static(b"{\"n\":1}"));
        let question = net.answer(HookAnswer::Identity(Identified { info: info.clone(), ..ada() }));
        assert_eq!(question, Question::Connect { token: Some("t".into()) });
        let Some(ReplyBody::Connected(connected)) = net.answer_to(peer, id) else { panic!() };
        assert_eq!((connected.user, connected.proof.info), (Some(UserId("ada".into())), info));
        assert!(matches!(net.answer_to(peer, published), Some(ReplyBody::Published { .. })));
    }
}

/// A server that stops closes no connection whose `connect` it has taken.
#[test]
fn a_client_about_which_the_application_is_asked_is_waited_for() {
    let mut net = net(1, hooks(true, &[], &[]));
    let is_settled = |net: &Net| net.shards[0].is_settled();
    assert!(is_settled(&net));
    let peer = net.open(0);
    let id = net.send(peer, Command::Connect(Box::new(with_token("t"))));
    assert!(!is_settled(&net));
    net.answer(HookAnswer::Identity(ada()));
    assert!(matches!(net.answer_to(peer, id), Some(ReplyBody::Connected(_))));
    assert!(is_settled(&net));
}

#[test]
fn without_the_hook_a_token_is_refused() {
    let mut net = net(1, Hooks::default());
    let peer = net.open(0);
    assert_eq!(error_code(&net.ask(peer, Command::Connect(Box::new(with_token("t"))))), ErrorCode::Unauthorized);
    assert!(matches!(net.ask(peer, Command::Connect(Box::default())), ReplyBody::Connected(_)));
    assert_eq!(error_code(&net.ask(peer, Command::Refresh { token: "t".into() })), ErrorCode::Unauthorized);
    assert_eq!(error_code(&net.ask(peer, rpc("1"))), ErrorCode::NotFound);
}

#[test]
fn a_refused_connect_may_be_tried_again_and_what_followed_it_is_answered() {
    let mut net = net(1, hooks(true, &[], &[]));
    let peer = net.open(0);
    let first = net.send(peer, Command::Connect(Box::new(with_token("wrong"))));
    let published = net.send(peer, publish("chat:a", "1"));
    let second = net.send(peer, Command::Connect(Box::new(with_token("right"))));
    let again = net.send(peer, publish("chat:a", "2"));
    net.answer(HookAnswer::Refused(Error::new(ErrorCode::Unauthorized, "no")));
    assert_eq!(error_code(&net.answer_to(peer, first).unwrap()), ErrorCode::Unauthorized);
    assert_eq!(error_code(&net.answer_to(peer, published).unwrap()), ErrorCode::NotConnected);
    assert_eq!(net.answer_to(peer, again), None);
    net.answer(HookAnswer::Identity(ada()));
    assert!(matches!(net.answer_to(peer, second), Some(ReplyBody::Connected(_))));
    assert!(matches!(net.answer_to(peer, again), Some(ReplyBody::Published { .. })));
}

#[test]
fn one_who_is_told_to_try_again_has_the_rest_of_its_time_and_may_come_back() {
    let limits = Limits { questions_max: 1, hook_timeout_ms: 60_000, ..Limits::default() };
    let mut net = Net::with_hooks(1, limits, open_rules(), hooks(true, &[], &[]));
    let (other, late) = (net.open(0), net.open(0));
    net.send(other, Command::Connect(Box::default()));
    net.pass(4_900);
    let ReplyBody::Error(error) = net.ask(late, Command::Connect(Box::default())) else { panic!() };
    assert_eq!(error.code, ErrorCode::Unavailable);
    assert_eq!(net.peers[late].closed, None);
    net.pass(228);
    assert_eq!(net.peers[late].closed, Some(Disconnect::Overloaded));
}

#[test]
fn a_refused_client_is_closed_in_time_and_at_once_where_its_protocol_has_no_error() {
    let mut net = net(1, hooks(true, &[], &[]));
    let (native, silent) = (net.open(0), net.open(0));
    net.send(native, Command::Connect(Box::new(with_token("t"))));
    let conn = net.peers[silent].conn;
    net.input(
        0,
        Input::Command {
            conn,
            seat: Seat::default(),
            request: Request { id: None, command: Command::Connect(Box::default()) },
        },
    );
    net.pass(4_000);
    net.answer(HookAnswer::Refused(Error::new(ErrorCode::Unauthorized, "no")));
    net.answer(HookAnswer::Refused(Error::new(ErrorCode::Unauthorized, "no")));
    assert_eq!((net.peers[native].closed, net.peers[silent].closed), (None, Some(Disconnect::Unauthorized)));
    net.pass(1_200);
    assert_eq!(net.peers[native].closed, Some(Disconnect::NotConnected), "in the time that it had from the beginning");
}

/// A temporary refusal invites another try, but all tries share the time of the first.
#[test]
fn one_who_is_refused_again_and_again_has_the_time_of_the_first_try() {
    let limits = Limits { connect_timeout_ms: 5_000, hook_timeout_ms: 4_000, heartbeat_ms: 0, ..Limits::default() };
    let busy = || HookAnswer::Refused(Error::new(ErrorCode::Unavailable, "not now"));
    let mut net = Net::with_hooks(1, limits, open_rules(), hooks(true, &[], &[]));
    let (patient, eager) = (net.open(0), net.open(0));
    net.send(patient, Command::Connect(Box::new(with_token("t"))));
    net.answer(busy());
    let opened_ms = net.now.mono_ms;
    let mut tries = 0;
    while net.peers[eager].closed.is_none() {
        net.send(eager, Command::Connect(Box::new(with_token("t"))));
        net.pass(1_000);
        net.answer(busy());
        tries += 1;
        assert!(tries < 10, "it stays for ever");
    }
    assert_eq!(tries, 5);
    net.pass(128);
    assert!(net.now.mono_ms - opened_ms <= 5_256);
    for peer in [patient, eager] {
        assert_eq!(net.peers[peer].closed, Some(Disconnect::Overloaded), "it may come back");
    }
}

/// The application answers after the time: an accepted client is connected, a refused one is closed.
#[test]
fn a_question_that_outlasts_the_time_to_connect_is_the_last() {
    let limits = Limits { connect_timeout_ms: 2_000, hook_timeout_ms: 4_000, ..Limits::default() };
    let mut net = Net::with_hooks(1, limits, open_rules(), hooks(true, &[], &[]));
    let (let_in, refused, left_alone) = (net.open(0), net.open(0), net.open(0));
    let asked = [let_in, refused, left_alone].map(|peer| {
        let id = net.send(peer, Command::Connect(Box::new(with_token("t"))));
        (peer, id)
    });
    net.pass(3_000);
    net.answer(HookAnswer::Identity(ada()));
    net.answer(HookAnswer::Refused(Error::new(ErrorCode::Unauthorized, "no")));
    net.pass(1_256);
    let closed = [let_in, refused, left_alone].map(|peer| net.peers[peer].closed);
    assert_eq!(closed, [None, Some(Disconnect::NotConnected), Some(Disconnect::Overloaded)]);
    assert!(matches!(net.answer_to(let_in, asked[0].1), Some(ReplyBody::Connected(_))));
    for (peer, id) in &asked[1..] {
        assert!(
            net.answer_to(*peer, *id).is_some_and(|body| matches!(body, ReplyBody::Error(_))),
            "it is received why"
        );
    }
}

/// Every question about a connection carries the shell's attachment: after a move that of the new connection, and none
/// during the grace.
#[test]
fn a_question_brings_what_is_attached_to_the_connection_that_asks() {
    for shards in shard_counts() {
        let mut net = net(shards, hooks(true, &["**"], &["**"]));
        let (peer, _) = connect_as(&mut net, 0, with_token("t"), ada());
        net.send(peer, subscribe("chat:a"));
        net.answer(HookAnswer::Allowed);
        net.send(peer, publish("chat:a", "1"));
        let_through(&mut net, "1");
        net.send(peer, rpc("1"));
        net.answer(HookAnswer::Result(Bytes::from_static(b"1")));
        net.send(peer, Command::Refresh { token: "t2".into() });
        net.answer(HookAnswer::Identity(ada()));
        assert_eq!(net.asked_of, [net.peers[peer].conn; 5]);
        net.asked_of.clear();
        net.cut(peer);
        let back = net.resume(peer, 1, vec![]);
        net.send(back, rpc("1"));
        net.answer(HookAnswer::Result(Bytes::from_static(b"1")));
        assert_eq!(net.asked_of, [net.peers[back].conn], "a ticket alone is not asked about");
    }
}
