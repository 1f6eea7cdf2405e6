//! One call does a bounded amount of work for any input, and a connection gets a bounded number of bytes before it has
//! read.

mod common;
use common::*;
use fanfare_hub::*;

/// Steps of a slice in these tests.
const SLICE: usize = 20;
/// Further steps that a call may take: the answer to a command, holding and resuming, and the last step, which is never
/// cut.
const BESIDES: usize = 8;

fn sliced() -> Limits {
    Limits { fanout_slice: SLICE, ..Limits::default() }
}

fn closed_rules() -> Rules {
    Rules::new(vec![Rule { subscribe: vec![Who::Nobody], ..open_rule("**") }])
}

/// Connections with a subscription each; their messages are taken away.
fn members(net: &mut Net, count: usize, name: &str) -> Vec<usize> {
    let members: Vec<usize> = (0..count).map(|shard| net.connect(shard)).collect();
    for member in &members {
        net.subscribe(*member, name);
        net.take(*member);
    }
    net.most = 0;
    members
}

fn received(net: &Net, members: &[usize]) -> usize {
    members.iter().map(|member| net.peers[*member].received.len()).sum()
}

#[test]
fn a_burst_to_a_large_channel_is_one_slice_until_others_have_had_their_turn() {
    let mut net = Net::with(1, sliced(), open_rules());
    let ada = net.connect(0);
    let (many, few) = (members(&mut net, 100, "chat:many"), members(&mut net, 3, "chat:few"));
    net.paused = true;
    for number in 1..=30 {
        net.send(ada, publish("chat:many", &number.to_string()));
    }
    assert!(received(&net, &many) <= SLICE, "{} were received without a pause", received(&net, &many));
    net.publish(ada, "chat:few", "1");
    assert_eq!(received(&net, &few), 3, "another channel does not wait");
    net.paused = false;
    net.settle();
    assert!(net.most <= SLICE + BESIDES, "one call did {}", net.most);
    for member in many {
        assert_eq!(net.take_messages(member), numbers(1..=30));
    }
}

#[test]
fn a_reload_is_done_in_slices_and_its_rules_hold_at_once() {
    for shards in shard_counts() {
        let mut net = Net::with(shards, sliced(), open_rules());
        let members = members(&mut net, 100, "chat:a");
        let late = net.connect(0);
        net.paused = true;
        net.reload(closed_rules());
        let first = received(&net, &members);
        assert!(first <= shards * SLICE, "{first} were received without a pause");
        let refused = net.ask(late, Command::Subscribe { subs: vec![SubOptions::new(channel("chat:a"))], many: false });
        assert_eq!(error_code(&refused), ErrorCode::Denied);
        net.paused = false;
        net.settle();
        assert!(net.most <= SLICE + BESIDES, "one call did {}", net.most);
        for member in members {
            let received = net.take(member);
            assert!(matches!(&received[..], [Received::Push(Push::Unsubscribed { .. })]), "{received:?}");
        }
        assert_eq!(reloaded(&net).iter().sum::<usize>(), 100);
        assert_eq!(reloaded(&net).len(), shards, "each shard says once how many it has ended");
    }
}

fn reloaded(net: &Net) -> Vec<usize> {
    let ended = |note: &Note| if let Noted::Reloaded { ended, .. } = note.what { Some(ended) } else { None };
    net.notes.iter().filter_map(ended).collect()
}

#[test]
fn a_second_reload_ends_the_first_one_and_each_says_what_it_ended() {
    let mut net = Net::with(1, sliced(), open_rules());
    let members = members(&mut net, 100, "chat:a");
    net.paused = true;
    net.reload(closed_rules());
    net.reload(open_rules());
    net.paused = false;
    net.settle();
    let ended = received(&net, &members);
    assert!((1..=SLICE).contains(&ended), "{ended}");
    assert_eq!(reloaded(&net), [ended, 0]);
    net.reload(closed_rules());
    assert_eq!(received(&net, &members), 100, "the others have been judged by the last rules alone");
    assert_eq!(reloaded(&net)[2], 100 - ended);
}

fn present(net: &mut Net, peer: usize) -> u64 {
    match net.ask(peer, Command::Presence { channel: channel("chat:a") }) {
        ReplyBody::Presence { snapshot, .. } => snapshot.count,
        other => panic!("{other:?}"),
    }
}

/// The rules turn presence off, and are taken back before all sessions have been judged. The home and its sessions must
/// agree then: a client that was not judged is still present.
#[test]
fn presence_survives_a_reload_that_is_taken_back() {
    for shards in shard_counts() {
        let mut net = Net::with(shards, sliced(), open_rules());
        let members = members(&mut net, 100, "chat:a");
        for member in &members {
            net.ask(*member, enter("chat:a", "1"));
        }
        net.paused = true;
        net.reload(Rules::new(vec![Rule { presence: PresenceMode::Off, ..open_rule("**") }]));
        net.reload(open_rules());
        net.paused = false;
        net.settle();
        let count = present(&mut net, members[0]);
        assert!(count >= 100 - shards as u64 * SLICE as u64 && count < 100, "{count} are present");
        for member in members {
            net.send(member, unsubscribe("chat:a"));
        }
        let late = net.connect(0);
        assert_eq!(present(&mut net, late), 0, "nobody is left behind");
    }
}

#[test]
fn a_drain_tells_clients_in_slices() {
    let mut net = Net::with(1, sliced(), open_rules());
    let members = members(&mut net, 100, "chat:a");
    net.paused = true;
    net.input(0, Input::Drain { window_ms: 1_000 });
    assert!(received(&net, &members) <= SLICE);
    assert!(!net.shards[0].is_settled());
    net.paused = false;
    net.settle();
    assert!(net.most <= SLICE, "one call did {}", net.most);
    for member in members {
        assert!(matches!(&net.take(member)[..], [Received::Push(Push::Disconnect { .. })]));
    }
    assert!(net.shards[0].is_settled());
}

fn told_to_come_back(net: &mut Net, peer: usize) -> usize {
    net.take(peer).iter().filter(|received| matches!(received, Received::Push(Push::Disconnect { .. }))).count()
}

#[test]
fn connections_that_come_into_a_drain_are_told_once_and_the_others_not_again() {
    let mut net = Net::with(1, sliced(), open_rules());
    let members = members(&mut net, 100, "chat:a");
    net.paused = true;
    net.input(0, Input::Drain { window_ms: 1_000 });
    let mut late: Vec<usize> = (0..50).map(|_| net.open(0)).collect();
    assert_eq!(told_to_come_back(&mut net, members[0]), 1);
    net.most = 0;
    net.reopen(members[0]);
    assert_eq!(net.most, 1, "one that takes a place already received is received alone");
    net.paused = false;
    net.settle();
    assert!(net.most <= SLICE, "one call did {}", net.most);
    assert_eq!(told_to_come_back(&mut net, late[0]), 1);
    net.reopen(late[0]);
    late.push(net.open(0));
    net.input(0, Input::Drain { window_ms: 1_000 });
    net.settle();
    for peer in members.into_iter().chain(late) {
        assert_eq!(told_to_come_back(&mut net, peer), 1, "connection {peer}");
    }
    assert!(net.shards[0].is_settled());
}

#[test]
fn timers_that_fall_due_together_are_done_in_slices() {
    let hooks = Hooks { disconnect: true, ..Hooks::default() };
    let mut net = Net::with_hooks(1, sliced(), open_rules(), hooks);
    let members = members(&mut net, 200, "chat:a");
    let grace_ms = net.limits.grace_ms;
    for member in &members[..100] {
        net.cut(*member);
    }
    net.most = 0;
    net.pass(grace_ms + 1_000);
    assert_eq!(net.notices.len(), 100, "each session ends");
    assert!(net.most <= SLICE + BESIDES, "one call ended {} sessions", net.most);
    let (told_before, heartbeat_ms) = (received(&net, &members[100..]), net.limits.heartbeat_ms);
    net.pass(heartbeat_ms);
    assert_eq!(received(&net, &members[100..]), told_before + 100, "each is asked for a sign of life");
    assert!(net.most <= SLICE + BESIDES, "one call did {}", net.most);
}

#[test]
fn commands_for_many_sessions_share_slices_and_are_answered() {
    for shards in shard_counts() {
        let mut net = Net::with(shards, sliced(), open_rules());
        let user = UserId("ada".into());
        let connect = || Connect { user: Some(user.clone()), ..Connect::default() };
        let members: Vec<usize> = (0..90).map(|shard| net.connect_as(shard, connect())).collect();
        for member in &members {
            net.subscribe(*member, "chat:a");
        }
        net.most = 0;
        let whom = Whom::User(user.clone());
        let end = AppCommand::Unsubscribe { whom: whom.clone(), channel: channel("chat:a") };
        let away = AppCommand::Disconnect { whom, reason: Disconnect::Kicked, ban_ms: None };
        net.paused = true;
        let tokens = [net.app_only(0, end), net.app_only(0, away)];
        net.paused = false;
        net.settle();
        for token in tokens {
            assert_eq!(net.app_answer(token), Some(AppAnswer::Concerned(90)));
        }
        assert!(net.most <= SLICE + BESIDES, "one call did {}", net.most);
    }
}

/// The commands name the same sessions in different ways.
#[test]
fn a_command_for_one_session_comes_behind_an_earlier_one_for_very_many() {
    for shards in shard_counts() {
        let mut net = Net::with(shards, sliced(), open_rules());
        let user = UserId("ada".into());
        let connect = || Connect { user: Some(user.clone()), ..Connect::default() };
        let members: Vec<usize> = (0..90).map(|shard| net.connect_as(shard, connect())).collect();
        for member in &members {
            net.subscribe(*member, "chat:a");
        }
        let last = members[members.len() - 1];
        let end = AppCommand::Unsubscribe { whom: Whom::User(user.clone()), channel: channel("chat:a") };
        let options = Box::new(SubOptions::new(channel("chat:a")));
        let begin = AppCommand::Subscribe { whom: Whom::Client(net.client(last)), options };
        net.paused = true;
        let tokens = [net.app_only(0, end), net.app_only(0, begin)];
        net.paused = false;
        net.settle();
        let answers = tokens.map(|token| net.app_answer(token));
        assert_eq!(answers, [Some(AppAnswer::Concerned(90)), Some(AppAnswer::Concerned(1))]);
        net.take(last);
        net.publish(last, "chat:a", "1");
        assert_eq!(net.take_messages(last), ["1"], "{shards} shards");
    }
}

#[test]
fn homes_are_told_of_many_changes_in_slices() {
    let mut net = Net::with(3, sliced(), open_rules());
    let ada = net.connect(0);
    let others: Vec<usize> = (0..120).map(|_| net.connect(0)).collect();
    for (number, other) in others.iter().enumerate() {
        net.subscribe(ada, &format!("chat:{number}"));
        net.subscribe(*other, &format!("chat:{number}"));
    }
    for other in others {
        net.cut(other);
    }
    net.most = 0;
    net.pass(300);
    assert!(net.most <= SLICE + BESIDES, "one call received {} homes", net.most);
    let all = AppCommand::Channels { pattern: None, after: None, limit: 1_000 };
    let AppAnswer::Channels { channels, .. } = net.app(0, all) else { panic!("a list") };
    assert_eq!(channels.iter().map(|channel| channel.subscribers).sum::<u64>(), 120, "all homes know");
}

#[test]
fn items_behind_a_fan_out_are_bounded_in_bytes() {
    let limits = Limits { fanout_waiting_bytes_max: 10_000, page_bytes_max: 3_000, ..sliced() };
    for shards in shard_counts() {
        let mut net = Net::with(shards, limits.clone(), open_rules());
        let ada = net.connect(0);
        let members = members(&mut net, 100, "chat:a");
        net.paused = true;
        let large = format!("\"{}\"", "x".repeat(1_000));
        let typing = signal("chat:a", "typing", &large, None);
        let commands = (0..20).map(|_| typing.clone()).chain((0..60).map(|_| publish("chat:a", &large)));
        net.publish(ada, "chat:a", &large); // the interrupted fan-out
        for command in commands {
            net.send(ada, command);
            let waiting = net.shards.iter().map(Shard::fanout_waiting_bytes).max().expect("a shard");
            assert!(waiting <= 10_000, "{waiting} bytes wait");
        }
        assert!(net.shards.iter().map(|shard| shard.stats().signals_shed).sum::<u64>() > 0, "signals are shed");
        net.paused = false;
        net.settle();
        for member in members {
            assert_eq!(net.take_messages(member).len(), 61, "what was not pushed is pulled");
        }
    }
}

/// A snapshot of the presence has no room behind waiting bytes: it is requested when there is room.
#[test]
fn a_presence_that_finds_no_room_is_asked_for_later() {
    let limits = Limits { fanout_waiting_bytes_max: 2_000, ..sliced() };
    for shards in shard_counts() {
        let mut net = Net::with(shards, limits.clone(), open_rules());
        let ada = net.connect(0);
        let listeners: Vec<usize> = (0..60).map(|shard| net.connect(shard)).collect();
        for listener in &listeners {
            net.subscribe_with(*listener, with_presence("chat:a"));
        }
        net.subscribe(ada, "chat:a");
        net.paused = true;
        let large = format!("\"{}\"", "x".repeat(900));
        for number in 0..10 {
            net.send(ada, enter("chat:a", &format!("{number}")));
            net.send(ada, publish("chat:a", &large));
        }
        net.paused = false;
        net.settle();
        for listener in listeners {
            let received = net.take(listener);
            let last = received.iter().rev().find_map(|received| match received {
                Received::Push(Push::Presence(push)) => Some(push.entry.data.clone()),
                Received::Push(Push::PresenceSnapshot { snapshot, .. }) => {
                    Some(snapshot.entries.as_ref().expect("names")[0].data.clone())
                }
                _ => None,
            });
            assert_eq!(last.as_deref(), Some(&b"9"[..]), "listener {listener}");
        }
    }
}

#[test]
fn one_who_missed_many_presences_gets_them_one_at_a_time() {
    let limits = Limits { outbox_bytes_max: 4_000, page_bytes_max: 4_000, ..Limits::default() };
    for shards in shard_counts() {
        let mut net = Net::with(shards, limits.clone(), open_rules());
        let (ada, bob) = (net.connect(0), net.connect(1));
        let names: Vec<String> = (0..30).map(|number| format!("chat:{number}")).collect();
        let data = format!("\"{}\"", "x".repeat(2_000));
        for name in &names {
            net.subscribe(ada, name);
            net.subscribe_with(bob, with_presence(name));
        }
        net.read_again(bob);
        net.peers[bob].reads = false;
        for name in &names {
            net.ask(ada, enter(name, &data));
        }
        net.peers[bob].reads = true;
        let mut most = net.waiting_bytes(bob);
        let mut reads = 0;
        while net.drain(bob) {
            reads += 1;
            assert!(reads < 10_000, "there is no end of it");
            net.settle();
            most = most.max(net.waiting_bytes(bob));
        }
        let one = 2_500;
        assert!(most <= 4_000 + 2 * one, "{most} bytes waited");
        let heard = net.take(bob).into_iter().filter(|received| match received {
            Received::Push(Push::Presence(_)) => true,
            Received::Push(Push::PresenceSnapshot { snapshot, .. }) => snapshot.count == 1,
            _ => false,
        });
        assert_eq!(heard.count(), names.len(), "and misses none");
    }
}

#[test]
fn answers_that_are_pages_are_asked_for_one_at_a_time_and_in_order() {
    let limits = Limits { outbox_bytes_max: 4_000, page_bytes_max: 4_000, ..Limits::default() };
    for shards in [1, 3] {
        let mut net = Net::with(shards, limits.clone(), open_rules());
        let (ada, bob) = (net.connect(0), net.connect(1));
        let data = format!("\"{}\"", "x".repeat(1_000));
        for number in 0..10 {
            for _ in 0..5 {
                net.publish(ada, &format!("chat:{number}"), &data);
            }
        }
        net.peers[bob].reads = false;
        // A shell that has read the commands already may pass them in although the connection is held.
        let history = |number: usize| Command::History {
            channel: channel(&format!("chat:{}", number % 10)),
            query: HistoryQuery { from: HistoryFrom::Newest, limit: 100 },
        };
        let mut ids: Vec<u64> = (0..20).map(|number| net.send_only(bob, history(number))).collect();
        ids.push(net.send_only(bob, publish("chat:0", "1")));
        net.settle();
        let waiting = net.waiting_bytes(bob);
        assert!(waiting <= 4_000 + 6_000, "{shards} shards: {waiting} bytes wait");
        net.read_again(bob);
        for (number, id) in ids[..20].iter().enumerate() {
            let Some(ReplyBody::History(answer)) = net.answer_to(bob, *id) else { panic!("{number} is not answered") };
            assert!(answer.publications.iter().all(|p| p.data.bytes().len() > 100), "the later command came first");
        }
        assert!(matches!(net.answer_to(bob, ids[20]), Some(ReplyBody::Published { .. })));
        assert!(!net.peers[bob].paused);
    }
}

#[test]
fn subscriptions_that_are_answered_together_bring_one_page() {
    let limits = Limits { page_bytes_max: 3_000, ..Limits::default() };
    for shards in shard_counts() {
        let mut net = Net::with(shards, limits.clone(), open_rules());
        let (ada, bob) = (net.connect(0), net.connect(1));
        let data = format!("\"{}\"", "x".repeat(1_000));
        let names: Vec<String> = (0..10).map(|number| format!("chat:{number}")).collect();
        for name in &names {
            net.publish(ada, name, &data);
        }
        let subs = names.iter().map(|name| SubOptions { recent: Some(5), ..SubOptions::new(channel(name)) });
        let ReplyBody::Many(bodies) = net.ask(bob, Command::Subscribe { subs: subs.collect(), many: true }) else {
            panic!("a list")
        };
        let pages = bodies.iter().map(|body| match body {
            ReplyBody::Subscribed(subscribed) => subscribed.publications.iter().map(|p| p.cost()).sum::<usize>(),
            other => panic!("{other:?}"),
        });
        let bytes: usize = pages.sum();
        assert!((1..3_000 + 2_000).contains(&bytes), "{bytes} bytes in one answer");
        let first = bodies.iter().filter(|body| matches!(body, ReplyBody::Subscribed(s) if !s.publications.is_empty()));
        assert_eq!(first.count() + net.take_messages(bob).len(), 10, "the others are pulled");
    }
}
