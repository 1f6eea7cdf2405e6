//! A store that does not answer: every command is answered in time, waiting commands are bounded, and operations that
//! the store has executed all the same are delivered once.

mod common;
use common::*;
use fanfare_hub::*;

const OUT_OF_TIME_MS: u64 = 5_000 + 256;

fn history(name: &str) -> Command {
    Command::History { channel: channel(name), query: HistoryQuery { from: HistoryFrom::Newest, limit: 9 } }
}

fn subscribe(name: &str) -> Command {
    Command::Subscribe { subs: vec![SubOptions::new(channel(name))], many: false }
}

/// A net whose store answers in time until `net.late` is no longer emptied.
fn attached(limits: Limits) -> (Net, usize, usize) {
    let mut net = Net::with_late_store(1, limits);
    let (ada, bob) = (net.connect(0), net.connect(0));
    let asked = net.send(bob, subscribe("chat:a"));
    net.answer_all();
    assert!(matches!(net.answer_to(bob, asked), Some(ReplyBody::Subscribed(_))));
    (net, ada, bob)
}

#[test]
fn every_command_on_a_channel_that_cannot_be_attached_is_answered_in_time() {
    let mut net = Net::with_late_store(1, Limits::default());
    let (ada, bob, eve) = (net.connect(0), net.connect(0), net.connect(0));
    let asked: Vec<_> = [subscribe("chat:a"), publish("chat:a", "1"), history("chat:a")]
        .into_iter()
        .enumerate()
        .map(|(n, command)| (if n == 0 { ada } else { bob }, command))
        .map(|(peer, command)| (peer, net.send(peer, command)))
        .collect();
    let purge = net.app_only(0, AppCommand::HistoryRemove { channel: channel("chat:a") });
    // Presence needs no store and does not wait for it. (One connection waits for one page at a time.)
    let present = net.ask(eve, Command::Presence { channel: channel("chat:a") });
    assert!(matches!(present, ReplyBody::Presence { .. }), "{present:?}");
    net.pass(4_000);
    net.all_alive();
    let first = (asked[0].0, asked[0].1);
    assert_eq!(net.answer_to(first.0, first.1), None, "not before its time");
    net.pass(1_256);
    for (peer, id) in &asked {
        let answer = net.answer_to(*peer, *id).expect("an answer in time");
        assert_eq!(error_code(&answer), ErrorCode::Unavailable);
    }
    assert!(matches!(net.app_answer(purge), Some(AppAnswer::Error(error)) if error.code == ErrorCode::Unavailable));
    // None of the commands was executed, and the next one finds the channel when the store answers again.
    net.late.borrow_mut().clear();
    net.all_alive();
    let again = net.send(ada, subscribe("chat:a"));
    net.pass(1_500);
    net.answer_all();
    let Some(ReplyBody::Subscribed(subscribed)) = net.answer_to(ada, again) else { panic!("not attached again") };
    assert_eq!(subscribed.position.offset, 0);
    let published = net.send(bob, publish("chat:a", "2"));
    net.answer_all();
    assert!(matches!(net.answer_to(bob, published), Some(ReplyBody::Published { .. })));
    assert_eq!(net.take_messages(ada), ["2"]);
}

#[test]
fn every_command_that_the_store_does_not_answer_is_answered_in_time() {
    let (mut net, ada, _) = attached(Limits::default());
    let since = SubOptions { recent: Some(3), ..SubOptions::new(channel("chat:a")) };
    let table = [
        ("publish", publish("chat:a", "1"), ErrorCode::Unknown),
        ("history", history("chat:a"), ErrorCode::Unavailable),
        ("subscribe", Command::Subscribe { subs: vec![since], many: false }, ErrorCode::Unavailable),
    ];
    let asked = table.map(|(name, command, code)| (name, net.send(ada, command), code));
    let purge = net.app_only(0, AppCommand::HistoryRemove { channel: channel("chat:a") });
    net.pass(OUT_OF_TIME_MS);
    for (name, id, code) in asked {
        let answer = net.answer_to(ada, id).unwrap_or_else(|| panic!("no answer to {name}"));
        assert_eq!(error_code(&answer), code, "{name}");
    }
    assert!(matches!(net.app_answer(purge), Some(AppAnswer::Error(error)) if error.code == ErrorCode::Unknown));
}

#[test]
fn an_append_whose_answer_comes_too_late_is_delivered_once_and_answered_once() {
    let (mut net, ada, bob) = attached(Limits::default());
    let asked = net.send(ada, publish("chat:a", "1"));
    net.pass(OUT_OF_TIME_MS);
    assert_eq!(error_code(&net.answer_to(ada, asked).expect("an answer in time")), ErrorCode::Unknown);
    assert_eq!(net.take_messages(bob), [""; 0]);
    net.all_alive();
    net.take(ada);
    net.answer_all();
    assert_eq!(net.take_messages(bob), ["1"]);
    assert_eq!(net.take(ada), [], "it has its answer");
    net.pass(2_000);
    net.answer_all();
    assert_eq!(net.take_messages(bob), [""; 0]);
}

#[test]
fn an_append_whose_answer_never_comes_is_delivered_when_the_store_answers_again() {
    let (mut net, ada, bob) = attached(Limits::default());
    net.send(ada, publish("chat:a", "1"));
    net.late.borrow_mut().clear();
    net.pass(OUT_OF_TIME_MS);
    net.all_alive();
    for _ in 0..3 {
        net.late.borrow_mut().clear(); // the next request is not answered either
        net.pass(OUT_OF_TIME_MS);
        net.all_alive();
    }
    assert_eq!(net.take_messages(bob), [""; 0]);
    net.pass(1_500);
    net.answer_all();
    assert_eq!(net.take_messages(bob), ["1"]);
}

#[test]
fn messages_that_wait_for_the_store_are_bounded_in_bytes_and_others_are_refused() {
    let limits = Limits { store_waiting_bytes_max: 64 << 10, ..Limits::default() };
    let max = limits.store_waiting_bytes_max;
    for is_attached in [false, true] {
        let mut net = Net::with_late_store(1, limits.clone());
        let peers: Vec<usize> = (0..20).map(|_| net.connect(0)).collect();
        if is_attached {
            net.send(peers[0], subscribe("chat:a"));
            net.answer_all();
        }
        let json: &'static str = format!("{:?}", "x".repeat(2_000)).leak();
        let mut asked = Vec::new();
        for &peer in peers.iter().cycle().take(200) {
            asked.push((peer, net.send(peer, publish("chat:a", json))));
            let waiting = net.shards[0].stats().store_waiting_bytes;
            assert!(waiting <= max + 3_000, "{waiting} bytes wait");
        }
        let refused = asked.iter().filter(|(peer, id)| net.answer_to(*peer, *id).is_some()).count();
        assert!((150..200).contains(&refused), "{refused} of 200 turned away");
        // Invented channel names do not get around the bound.
        for n in 0..1_000 {
            net.send(peers[0], history(&format!("chat:{n}")));
        }
        assert!(net.shards[0].stats().homes < 300, "{:?}", net.shards[0].stats().homes);
        net.late.borrow_mut().clear();
        net.pass(OUT_OF_TIME_MS);
        net.all_alive();
        assert!(asked.iter().all(|(peer, id)| net.answer_to(*peer, *id).is_some()));
        // Unused channels are removed, although the store has never answered for them.
        net.pass(8_000);
        net.all_alive();
        net.pass(OUT_OF_TIME_MS);
        let stats = net.shards[0].stats();
        assert!(stats.homes <= usize::from(is_attached), "{} homes", stats.homes);
    }
}

/// A store goes silent while very many commands wait for it: all reach their deadline together, and other clients have
/// their turn between the answers.
#[test]
fn commands_that_are_out_of_time_together_are_answered_in_slices() {
    const SLICE: usize = 20;
    let mut net = Net::with_late_store(1, Limits { fanout_slice: SLICE, ..Limits::default() });
    let peers: Vec<usize> = (0..100).map(|_| net.connect(0)).collect();
    let asked: Vec<(usize, u64)> = peers.iter().map(|peer| (*peer, net.send(*peer, publish("chat:a", "1")))).collect();
    net.most = 0;
    net.pass(OUT_OF_TIME_MS);
    for (peer, id) in asked {
        let answer = net.answer_to(peer, id).unwrap_or_else(|| panic!("no answer to {peer}"));
        assert_eq!(error_code(&answer), ErrorCode::Unavailable);
    }
    assert!(net.most <= SLICE, "one call answered {}", net.most);
    // A later command has its deadline too.
    let late = net.send(peers[0], publish("chat:a", "2"));
    net.pass(OUT_OF_TIME_MS);
    assert!(net.answer_to(peers[0], late).is_some());
}
