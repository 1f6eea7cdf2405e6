//! Numbered sends: each takes effect once, in the order of its number, in whichever order the requests arrive and on
//! whichever shards.

mod common;
use common::*;
use fanfare_hub::*;

fn publishes(texts: &[u64]) -> Vec<Command> {
    texts.iter().map(|text| publish("chat:a", &text.to_string())).collect()
}

/// The offsets of an answer.
fn offsets(answer: Option<Result<Vec<ReplyBody>, Error>>) -> Vec<u64> {
    let bodies = answer.expect("an answer").expect("no error");
    let offset = |body: &ReplyBody| match body {
        ReplyBody::Published { position, .. } => position.offset,
        other => panic!("not published but {other:?}"),
    };
    bodies.iter().map(offset).collect()
}

fn refused(answer: Option<Result<Vec<ReplyBody>, Error>>) -> Error {
    answer.expect("an answer").expect_err("an error")
}

fn texts_of(net: &mut Net, reader: usize) -> Vec<String> {
    messages(&net.take(reader))
}

#[test]
fn sends_take_effect_in_the_order_of_their_numbers_wherever_they_arrive() {
    for shards in shard_counts() {
        let mut net = Net::new(shards);
        let (away, reader) = away_and_reader(&mut net);
        let third = net.send_numbered(2, away, 3, publishes(&[5]));
        net.settle();
        let second = net.send_numbered(1, away, 2, publishes(&[3, 4]));
        net.settle();
        assert_eq!((net.sent(second), net.sent(third)), (None, None), "the first has not come");
        let first = net.send_numbered(0, away, 1, publishes(&[1, 2]));
        net.settle();
        assert_eq!(offsets(net.sent(first)), [1, 2]);
        assert_eq!(offsets(net.sent(second)), [3, 4]);
        assert_eq!(offsets(net.sent(third)), [5]);
        assert_eq!(texts_of(&mut net, reader), numbers(1..=5));
    }
}

#[test]
fn a_repeat_has_no_effect_and_gets_the_answer_of_the_first() {
    for shards in shard_counts() {
        let mut net = Net::new(shards);
        let (away, reader) = away_and_reader(&mut net);
        for n in 1..=9 {
            let sent = net.send_numbered(1, away, n, publishes(&[n]));
            net.settle();
            assert_eq!(offsets(net.sent(sent)), [n]);
        }
        for n in [9, 2] {
            let again = net.send_numbered(2, away, n, publishes(&[n]));
            net.settle();
            assert_eq!(offsets(net.sent(again)), [n]);
        }
        let forgotten = net.send_numbered(2, away, 1, publishes(&[1]));
        net.settle();
        assert_eq!(refused(net.sent(forgotten)).code, ErrorCode::Unknown, "to send it again is of no use");
        assert_eq!(texts_of(&mut net, reader), numbers(1..=9), "each has taken effect once");
    }
}

#[test]
fn a_repeat_of_a_send_that_is_not_answered_yet_waits_for_the_same_answer() {
    for shards in shard_counts() {
        let hooks = Hooks { rpc: true, ..Hooks::default() };
        let mut net = Net::with_hooks(shards, Limits::default(), open_rules(), hooks);
        let away = net.connect(0);
        let call = || vec![Command::Rpc { method: "quote".into(), data: "1".into() }];
        let first = net.send_numbered(1, away, 1, call());
        net.settle();
        let again = net.send_numbered(2, away, 1, call());
        net.settle();
        assert_eq!((net.sent(first), net.sent(again)), (None, None));
        net.answer(HookAnswer::Result("2".into()));
        assert!(net.questions.is_empty(), "the application is asked once");
        for sent in [first, again] {
            assert_eq!(net.sent(sent), Some(Ok(vec![ReplyBody::Result("2".into())])));
        }
    }
}

#[test]
fn a_repeat_of_a_send_that_waits_for_another_gets_the_same_answer() {
    for shards in shard_counts() {
        let mut net = Net::new(shards);
        let (away, reader) = away_and_reader(&mut net);
        let second = [0, 1, 2].map(|shard| net.send_numbered(shard, away, 2, publishes(&[2])));
        net.settle();
        assert_eq!(second.map(|sent| net.sent(sent)), [None, None, None], "the first has not come");
        let first = net.send_numbered(1, away, 1, publishes(&[1]));
        net.settle();
        assert_eq!(offsets(net.sent(first)), [1]);
        assert_eq!(second.map(|sent| offsets(net.sent(sent))), [[2]; 3]);
        assert_eq!(texts_of(&mut net, reader), numbers(1..=2));
        let fourth = [1, 2].map(|shard| net.send_numbered(shard, away, 4, publishes(&[4])));
        net.pass(5_200);
        for sent in fourth {
            let error = refused(net.sent(sent));
            assert_eq!(error.code, ErrorCode::OutOfOrder);
            assert!(error.message.contains("from 3 on"), "{}", error.message);
        }
    }
}

#[test]
fn a_gap_is_an_error_after_five_seconds_and_the_missing_number_is_still_expected() {
    for shards in shard_counts() {
        let mut net = Net::new(shards);
        let (away, reader) = away_and_reader(&mut net);
        let early = [3, 2].map(|n| net.send_numbered(1, away, n, publishes(&[n])));
        net.pass(4_800);
        assert_eq!(early.map(|sent| net.sent(sent)), [None, None]);
        net.pass(400);
        for sent in early {
            let error = refused(net.sent(sent));
            assert_eq!(error.code, ErrorCode::OutOfOrder);
            assert!(error.message.contains("from 1 on"), "{}", error.message);
        }
        let sent: Vec<_> = (1..=3).map(|n| net.send_numbered(1, away, n, publishes(&[n]))).collect();
        net.settle();
        assert_eq!(sent.into_iter().flat_map(|sent| offsets(net.sent(sent))).collect::<Vec<_>>(), [1, 2, 3]);
        assert_eq!(texts_of(&mut net, reader), numbers(1..=3));
    }
}

#[test]
fn a_gap_behind_another_one_is_an_error_too() {
    let mut net = Net::new(2);
    let (away, _) = away_and_reader(&mut net);
    let early = net.send_numbered(1, away, 3, publishes(&[3]));
    net.pass(3_000);
    let first = net.send_numbered(1, away, 1, publishes(&[1]));
    net.pass(4_900);
    assert_eq!(
        (offsets(net.sent(first)), net.sent(early)),
        (vec![1], None),
        "the first has come: its time begins anew"
    );
    net.pass(300);
    assert_eq!(refused(net.sent(early)).code, ErrorCode::OutOfOrder);
}

#[test]
fn a_number_far_ahead_is_refused_at_once() {
    let mut net = Net::new(1);
    let (away, _) = away_and_reader(&mut net);
    for n in [10, 1 << 52, u64::MAX] {
        let sent = net.send_numbered(0, away, n, publishes(&[n]));
        assert_eq!(refused(net.sent(sent)).code, ErrorCode::OutOfOrder, "{n}");
    }
}

#[test]
fn the_numbers_go_on_when_the_session_comes_back_on_another_shard() {
    let mut net = Net::new(3);
    let (away, reader) = away_and_reader(&mut net);
    let first = net.send_numbered(1, away, 1, publishes(&[1]));
    net.settle();
    assert_eq!(offsets(net.sent(first)), [1]);
    let waits = net.send_numbered(1, away, 3, publishes(&[3]));
    net.settle();
    let new = net.open(2);
    let resume = Some(Resume { shard: ShardId(0), client: net.client(away) });
    net.send_only(new, Command::Connect(Box::new(Connect { resume, page: the_page(), ..Connect::default() })));
    net.settle();
    assert_eq!(refused(net.sent(waits)).code, ErrorCode::NotConnected, "its connection is over");
    let again = net.send_numbered(1, away, 1, publishes(&[1]));
    net.settle();
    assert_eq!(offsets(net.sent(again)), [1], "the answer has come along");
    let second = net.send_numbered(1, away, 2, publishes(&[2]));
    net.settle();
    assert_eq!(offsets(net.sent(second)), [2]);
    assert_eq!(texts_of(&mut net, reader), numbers(1..=2));
}

/// A send is of its session, whatever connection it was sent beside: a request that was under way while the client came
/// back takes effect, with the old ticket too. A client that does not want that sends the number without the commands,
/// and the one that arrives first counts.
#[test]
fn a_send_that_was_under_way_while_the_client_came_back_takes_effect_unless_its_number_has() {
    for shards in shard_counts() {
        let mut net = Net::new(shards);
        let (away, reader) = away_and_reader(&mut net);
        let first = net.send_numbered(1, away, 1, publishes(&[1]));
        net.settle();
        assert_eq!(offsets(net.sent(first)), [1]);
        let back = net.resume(away, 2, vec![SubOptions::new(channel("chat:a"))]);
        net.take(back);
        let late = net.send_numbered(1, away, 2, publishes(&[2]));
        net.settle();
        assert_eq!(offsets(net.sent(late)), [2]);
        assert_eq!(net.take_messages(back), ["2"], "its new connection sees the effect");
        for shard in 0..2 {
            let n = 3 + shard as u64;
            let filler = net.send_numbered(2, back, n, vec![]);
            net.settle();
            assert_eq!(net.sent(filler), Some(Ok(vec![])));
            let late = net.send_numbered(shard, away, n, publishes(&[99]));
            net.settle();
            assert_eq!(net.sent(late), Some(Ok(vec![])), "the answer of the first");
        }
        assert_eq!(texts_of(&mut net, reader), ["1", "2"]);
    }
}

#[test]
fn a_client_that_polls_is_closed_after_two_silent_intervals() {
    let mut net = Net::new(1);
    net.heartbeat = HeartbeatKind::Polls;
    let peer = net.connect(0);
    net.take(peer);
    for _ in 0..5 {
        net.pass(net.limits.heartbeat_ms);
        let conn = net.peers[peer].conn;
        net.input(0, Input::Alive(conn));
    }
    net.pass(2 * net.limits.heartbeat_ms - 100);
    assert_eq!(net.peers[peer].closed, None, "twice the interval is its right");
    net.pass(net.limits.heartbeat_ms + 200);
    assert_eq!(net.peers[peer].closed, Some(Disconnect::HeartbeatTimeout));
    assert_eq!(net.take(peer), [], "nobody pings it");
}

/// The bytes that sends hold on each shard. The count that is kept equals the sum over the sessions.
fn sends_bytes(net: &Net) -> Vec<usize> {
    let each = net.shards.iter().map(|shard| {
        let (counted, held) = (shard.stats().sends_bytes, shard.held().sends_bytes);
        assert_eq!(counted, held, "the count");
        counted
    });
    each.collect()
}

#[test]
fn bytes_that_sends_hold_are_counted_until_the_session_ends() {
    let mut net = Net::new(3);
    let (away, _) = away_and_reader(&mut net);
    assert_eq!(sends_bytes(&net), [0, 0, 0]);
    (1..=20).for_each(|n| {
        net.send_numbered(1, away, n, publishes(&[n]));
    });
    net.settle();
    let [kept, 0, 0] = sends_bytes(&net)[..] else { panic!("on the session's shard: {:?}", sends_bytes(&net)) };
    assert!(kept > 0);
    net.send_numbered(1, away, 23, publishes(&[23]));
    net.settle();
    assert!(sends_bytes(&net)[0] > kept, "and one that waits");
    net.pass(5_200);
    assert_eq!(sends_bytes(&net), [kept, 0, 0], "it was refused");
    // The session goes to another shard, with its answers.
    let new = net.open(2);
    let resume = Some(Resume { shard: ShardId(0), client: net.client(away) });
    net.send_only(new, Command::Connect(Box::new(Connect { resume, page: the_page(), ..Connect::default() })));
    net.settle();
    assert_eq!(sends_bytes(&net), [0, 0, kept]);
    let conn = net.peers[new].conn;
    net.input(2, Input::Closed { conn, finally: true });
    net.settle();
    assert_eq!(sends_bytes(&net), [0, 0, 0]);
}

/// The connection carries messages down only: its client's sends are the signs of life.
#[test]
fn a_numbered_send_is_a_sign_of_life() {
    for shards in shard_counts() {
        let mut net = Net::new(shards);
        let peer = net.connect(0);
        for n in 1..=6 {
            net.pass(net.limits.heartbeat_ms * 9 / 10);
            let sent = net.send_numbered(1, peer, n, vec![Command::Pong]);
            net.settle();
            assert!(matches!(net.sent(sent), Some(Ok(_))), "{n}");
            assert_eq!(net.peers[peer].closed, None, "{n}");
        }
        net.pass(3 * net.limits.heartbeat_ms);
        assert_eq!(net.peers[peer].closed, Some(Disconnect::HeartbeatTimeout));
    }
}
