//! Clients that cannot be refused: above a rate they are not read until there is room, and nothing of theirs is lost.

mod common;

use common::rooms::{in_rooms, join, to};
use common::*;
use fanfare_hub::*;

/// Timers fire at these times.
const TICK_MS: u64 = 128;

/// Connections that are opened from now on wait at every rate.
fn waiting(shards: usize, quotas: Quotas, rules: Rules) -> Net {
    let mut net = Net::with(shards, Limits { quotas, ..Limits::default() }, rules);
    net.over_rate = OverRate::Wait;
    net
}

fn as_user(name: &str) -> Connect {
    Connect { user: Some(UserId(name.into())), page: the_page(), ..Connect::default() }
}

fn messages_per_connection(count: u64, window_ms: u64) -> Quotas {
    Quotas { messages_per_connection: Some(Rate::new(count, window_ms)), ..Quotas::NONE }
}

/// How often this limit was reached, on all shards.
fn reached(net: &Net, limit: &str) -> u64 {
    let of = |shard: &Shard| shard.stats().counts.limits.iter().find(|(name, _)| *name == limit).map_or(0, |it| it.1);
    net.shards.iter().map(of).sum()
}

/// What the log says of clients that wait.
fn stalls(net: &Net) -> Vec<&Error> {
    let error = |note| match note {
        &Note { what: Noted::Throttled(ref error), .. } => Some(error),
        _ => None,
    };
    net.notes.iter().filter_map(error).collect()
}

fn throttled_by(net: &Net, peer: usize) -> Option<&'static str> {
    let Peer { shard, conn, .. } = net.peers[peer];
    net.shards[shard].throttled_by(conn)
}

/// Gives the hub what the shell reads of these commands: none while the connection is paused. True: all are read.
fn read(net: &mut Net, peer: usize, commands: &mut impl Iterator<Item = Command>) -> bool {
    let Peer { shard, conn, .. } = net.peers[peer];
    while !net.peers[peer].paused {
        let Some(command) = commands.next() else { return true };
        net.input(shard, Input::Alive(conn));
        net.send(peer, command);
    }
    false
}

/// Lets a tick pass in which all others give a sign of life.
fn tick(net: &mut Net, silent: &[usize]) {
    net.pass(TICK_MS);
    for peer in (0..net.peers.len()).filter(|peer| !silent.contains(peer)) {
        let Peer { shard, conn, .. } = net.peers[peer];
        net.input(shard, Input::Alive(conn));
    }
}

/// Reads all of these commands, however long it takes: how long it took.
fn read_all(net: &mut Net, peer: usize, mut commands: impl Iterator<Item = Command>) -> u64 {
    let begun_ms = net.now.mono_ms;
    while !read(net, peer, &mut commands) {
        tick(net, &[peer]);
        assert_eq!(net.peers[peer].closed, None);
        assert!(net.now.mono_ms - begun_ms < 3_600_000, "it is not read any more");
    }
    net.now.mono_ms - begun_ms
}

fn refusals(net: &Net, peer: usize) -> Vec<&Error> {
    let error = |received| match received {
        &Received::Reply(Reply { body: ReplyBody::Error(ref error), .. }) => Some(error),
        _ => None,
    };
    net.peers[peer].received.iter().filter_map(error).collect()
}

/// Events to a room, numbered. Each has four bytes.
fn events(count: u32) -> impl Iterator<Item = Command> {
    (1_001..=1_000 + count).map(|number| to(&number.to_string(), in_rooms(&["r"])))
}

fn with_rate(count_max: u32, window_ms: u64) -> Rules {
    let rate = Some(RateLimit { count_max, window_ms });
    Rules::new(vec![Rule { rate, ..open_rule("chat:*") }, open_rule("**")])
}

#[test]
fn a_client_above_its_rate_is_not_read_and_everything_arrives_once_in_its_order() {
    // 100 at once, and a hundred a second.
    let per_second = |count| Some(Rate::new(count, 1_000));
    let rows = [
        ("messages_per_connection", Quotas { messages_per_connection: per_second(100), ..Quotas::NONE }, open_rules()),
        ("bytes_per_connection", Quotas { bytes_per_connection: per_second(400), ..Quotas::NONE }, open_rules()),
        ("messages_per_user", Quotas { messages_per_user: per_second(100), ..Quotas::NONE }, open_rules()),
        ("bytes_per_user", Quotas { bytes_per_user: per_second(400), ..Quotas::NONE }, open_rules()),
        ("rate", Quotas::NONE, with_rate(100, 1_000)),
    ];
    for shards in shard_counts() {
        for (limit, quotas, rules) in &rows {
            let mut net = waiting(shards, *quotas, rules.clone());
            let (loud, other) = (net.connect_as(0, as_user("ada")), net.connect_as(0, as_user("bob")));
            let readers = [0, 1, 2].map(|shard| net.connect_as(shard, as_user("eve")));
            for peer in readers.into_iter().chain([loud, other]) {
                net.subscribe(peer, "chat:a");
                net.send(peer, join("r"));
                net.take(peer);
            }
            let name = format!("{limit} on {shards} shards");
            let mut commands = events(3_000);
            assert!(!read(&mut net, loud, &mut commands), "{name}: it is not read all at once");
            assert_eq!(throttled_by(&net, loud), Some(*limit), "{name}");
            let first = net.take_messages(readers[0]).len() as u32;
            assert!(
                (99..=101).contains(&first),
                "{name}: {first}, its rate and one above it, and it has joined before"
            );
            assert!(matches!(net.ask(other, publish("chat:b", "1")), ReplyBody::Published { .. }), "{name}");
            assert!(!net.peers[other].paused && throttled_by(&net, other).is_none(), "{name}: others do not wait");
            let took_ms = read_all(&mut net, loud, commands);
            assert!((27_000..34_000).contains(&took_ms), "{name}: {took_ms} ms for 2,900 at 100 a second");
            assert_eq!(refusals(&net, loud), Vec::<&Error>::new(), "{name}");
            assert_eq!(net.take_messages(readers[0]), numbers(1_001 + first..=4_000), "{name}");
            for reader in &readers[1..] {
                assert_eq!(net.take_messages(*reader), numbers(1_001..=4_000), "{name}");
            }
            assert_eq!(stalls(&net).len(), 1, "{name}: one line");
            let error = stalls(&net)[0];
            if *limit == "rate" {
                assert_eq!((error.option, error.rule.as_deref()), (Some("rate"), Some("chat:*")));
                let denials: u64 = net.shards.iter().flat_map(|it| it.stats().counts.denials).map(|it| it.count).sum();
                assert_eq!(denials, 1, "{name}");
            } else {
                assert_eq!(error.limit, Some(*limit), "{name}");
                assert_eq!(reached(&net, limit), 1, "{name}: once for the whole stall");
            }
            let errors: u64 = net.shards.iter().flat_map(|shard| shard.stats().counts.errors).sum();
            assert_eq!(errors, 0, "{name}: nobody was refused");
            // Another stall counts again.
            net.pass(5_000);
            net.all_alive();
            assert_eq!(throttled_by(&net, loud), None, "{name}");
            assert_eq!(net.shards.iter().map(|shard| shard.held().queued).sum::<usize>(), 0, "{name}: it is forgotten");
            read_all(&mut net, loud, events(300));
            assert_eq!(stalls(&net).len(), 2, "{name}");
        }
    }
}

#[test]
fn new_names_have_a_rate_at_which_a_client_waits_too() {
    let quotas = Quotas { new_channels_per_user: Some(Rate::new(50, 1_000)), ..Quotas::NONE };
    for shards in shard_counts() {
        for connect in [as_user("ada"), Connect::default()] {
            let mut net = waiting(shards, quotas, open_rules());
            let peer = net.connect_as(0, connect);
            let took_ms = read_all(&mut net, peer, (0..500).map(|n| publish(&format!("new:{n}"), "1")));
            assert!((8_000..10_000).contains(&took_ms), "{took_ms} ms for 450 at 50 a second");
            assert_eq!(refusals(&net, peer), Vec::<&Error>::new());
            assert_eq!(reached(&net, "new_channels_per_user"), 1);
            assert_eq!(net.shards.iter().map(|shard| shard.stats().counts.publications).sum::<u64>(), 500);
        }
    }
}

#[test]
fn the_sessions_of_a_user_wait_for_one_rate_on_all_shards() {
    for shards in shard_counts() {
        let quotas = Quotas { messages_per_user: Some(Rate::new(80, 1_000)), ..Quotas::NONE };
        let mut net = waiting(shards, quotas, open_rules());
        let peers: Vec<usize> = (0..6).map(|shard| net.connect_as(shard, as_user("ada"))).collect();
        let mut left: Vec<_> = peers.iter().map(|_| (0..200).map(|n: u32| publish("chat:a", &n.to_string()))).collect();
        let (begun_ms, mut done) = (net.now.mono_ms, vec![false; peers.len()]);
        while done.contains(&false) {
            for (place, peer) in peers.iter().enumerate() {
                done[place] |= read(&mut net, *peer, &mut left[place]);
            }
            assert!(net.now.mono_ms - begun_ms < 60_000, "one of them is not read any more");
            tick(&mut net, &[]);
        }
        let took_ms = net.now.mono_ms - begun_ms;
        // 1,200 of them: 80 at once, and 80 a second. On several shards they may do an eighth more for each.
        assert!((11_000..16_000).contains(&took_ms), "{took_ms} ms on {shards} shards");
        for peer in peers {
            assert_eq!(refusals(&net, peer), Vec::<&Error>::new());
        }
    }
}

/// One above the rate is done at a time, and the windows behind it pay for that.
#[test]
fn a_small_rate_holds_over_a_long_time() {
    let rows = [
        ("messages_per_connection", messages_per_connection(1, 1_000), open_rules()),
        ("rate", Quotas::NONE, with_rate(1, 1_000)),
    ];
    for (name, quotas, rules) in rows {
        let mut net = waiting(1, quotas, rules);
        let peer = net.connect(0);
        let took_ms = read_all(&mut net, peer, (0..50).map(|_| publish("chat:a", "1")));
        assert!((46_000..60_000).contains(&took_ms), "{name}: {took_ms} ms for 50 at one a second");
    }
}

#[test]
fn at_a_rule_that_counts_in_days_nobody_waits() {
    let mut net = waiting(1, Quotas::NONE, with_rate(2, 86_400_000));
    let peer = net.connect(0);
    assert!(read(&mut net, peer, &mut (0..5).map(|_| publish("chat:a", "1"))));
    assert_eq!(refusals(&net, peer).len(), 3);
}

#[test]
fn a_chat_waits_at_the_limits_and_is_refused_by_a_rule() {
    let mut net = waiting(1, messages_per_connection(4, 1_000), with_rate(2, 60_000));
    net.over_rate = OverRate::WaitAtLimits;
    let peer = net.connect(0);
    let took_ms = read_all(&mut net, peer, (0..6).map(|_| publish("chat:a", "1")));
    assert!(took_ms > 0, "it waits for two of them");
    assert_eq!(refusals(&net, peer).len(), 4);
    assert!(refusals(&net, peer).iter().all(|error| error.rule.as_deref() == Some("chat:*")));
}

#[test]
fn a_message_that_is_larger_than_the_rate_is_taken_and_paid_for() {
    let quotas = Quotas { bytes_per_connection: Some(Rate::new(100, 1_000)), ..Quotas::NONE };
    let mut net = waiting(1, quotas, open_rules());
    let peer = net.connect(0);
    let large = || publish("chat:a", &format!("{:?}", "x".repeat(998)));
    assert!(matches!(net.ask(peer, large()), ReplyBody::Published { .. }), "nothing was sent before");
    assert!(!net.peers[peer].paused);
    assert!(matches!(net.ask(peer, large()), ReplyBody::Published { .. }));
    assert!(net.peers[peer].paused);
    net.pass(18_900);
    assert!(net.peers[peer].paused, "2,000 bytes at 100 a second, but for the first hundred");
    net.pass(300);
    assert!(!net.peers[peer].paused);
}

#[test]
fn a_client_that_is_not_read_gives_no_sign_of_life_and_stays() {
    for heartbeat in [HeartbeatKind::Asks, HeartbeatKind::Waits] {
        let mut net = waiting(1, messages_per_connection(1, 600_000), open_rules());
        net.heartbeat = heartbeat;
        let peer = net.connect(0);
        read(&mut net, peer, &mut (0..3).map(|_| publish("chat:a", "1")));
        assert!(net.peers[peer].paused);
        net.pass(1_100_000);
        assert_eq!((net.peers[peer].closed, net.peers[peer].paused), (None, true), "{heartbeat:?}");
        net.pass(100_500);
        assert!(!net.peers[peer].paused, "{heartbeat:?}");
        let left_ms = net.limits.heartbeat_ms - 1_000;
        net.pass(left_ms);
        assert_eq!(net.peers[peer].closed, None, "{heartbeat:?}: its pong may come now");
        net.pass(200_000);
        assert_eq!(net.peers[peer].closed, Some(Disconnect::HeartbeatTimeout), "{heartbeat:?}: it is silent");
    }
}

/// Small pauses, between which a part of the backlog is read: the pong stands at its end.
#[test]
fn a_client_whose_pong_waits_behind_its_backlog_stays() {
    for heartbeat in [HeartbeatKind::Asks, HeartbeatKind::Waits] {
        let mut net = waiting(1, messages_per_connection(10, 1_000), open_rules());
        net.heartbeat = heartbeat;
        let peer = net.connect(0);
        let took_ms = read_all(&mut net, peer, (0..3_000).map(|_| publish("chat:a", "1")));
        assert!(took_ms > 250_000);
    }
}

/// A client that polls: its packets wait with the server, where they say nothing of it. Its GETs do.
#[test]
fn a_client_without_a_socket_lives_by_its_requests_while_its_packets_wait() {
    // (the time between two pauses, in ms; it polls; it goes on over a WebSocket)
    let rows = [(100, false, false), (100, true, false), (100, false, true), (600_000, false, false)];
    for (window_ms, polls, moves) in rows {
        let name = format!("a pause of {window_ms} ms, polls: {polls}, moves: {moves}");
        let mut net = waiting(1, messages_per_connection(1, window_ms), open_rules());
        net.heartbeat = HeartbeatKind::WaitsDetached;
        let peer = net.connect(0);
        let Peer { shard, conn, .. } = net.peers[peer];
        let end_ms = net.limits.heartbeat_ms + net.limits.pong_timeout_ms + 2 * TICK_MS;
        let mut backlog = (0..100_000).map(|_| publish("chat:a", "1"));
        for tick in 0..4 * end_ms / TICK_MS {
            while !net.peers[peer].paused && net.peers[peer].closed.is_none() {
                net.send(peer, backlog.next().expect("more"));
            }
            if tick == 0 && moves {
                net.rewire(peer, WireId(1));
            }
            if net.take(peer).contains(&Received::Push(Push::Ping)) && polls {
                net.input(shard, Input::Alive(conn));
            }
            net.pass(TICK_MS);
            let silent_ms = (tick + 1) * TICK_MS;
            assert!(net.peers[peer].closed.is_some() || polls || moves || silent_ms < end_ms, "{name}: it stays");
        }
        let closed = net.peers[peer].closed;
        assert_eq!(closed, (!polls && !moves).then_some(Disconnect::HeartbeatTimeout), "{name}");
    }
}

#[test]
fn a_client_that_takes_nothing_of_its_full_outbox_is_not_waiting_for_us() {
    let mut net = waiting(1, messages_per_connection(1, 600_000), open_rules());
    let (peer, other) = (net.connect(0), net.connect(0));
    net.over_rate = OverRate::Refuse;
    net.subscribe(peer, "chat:a");
    read(&mut net, peer, &mut (0..3).map(|_| publish("chat:b", "1")));
    assert!(net.peers[peer].paused);
    net.peers[peer].reads = false;
    for shard in 0..net.shards.len() {
        net.input(shard, Input::Quotas(Quotas::NONE));
    }
    let data = format!("{:?}", "x".repeat(30_000));
    for _ in 0..20 {
        net.publish(other, "chat:a", &data);
    }
    net.pass(1_200);
    assert!(net.peers[peer].paused, "there is no room for answers");
    net.read_again(peer);
    assert!(!net.peers[peer].paused);
}

#[test]
fn it_may_end_or_come_back_while_it_is_not_read() {
    type Ending = fn(&mut Net, usize);
    let rows: [(&str, Ending); 3] = [
        ("cut", |net, peer| net.cut(peer)),
        ("kicked", |net, peer| {
            let whom = Whom::Client(net.client(peer));
            net.app(1, AppCommand::Disconnect { whom, reason: Disconnect::Kicked, ban_ms: Some(60_000) });
            assert_eq!(net.peers[peer].closed, Some(Disconnect::Kicked));
        }),
        ("closed by its client", |net, peer| {
            let Peer { shard, conn, .. } = net.peers[peer];
            net.input(shard, Input::Closed { conn, finally: true });
            net.settle();
        }),
    ];
    for shards in shard_counts() {
        for (name, end) in rows {
            let mut net = waiting(shards, messages_per_connection(2, 60_000), open_rules());
            let peer = net.connect(0);
            assert!(!read(&mut net, peer, &mut (0..9).map(|_| publish("chat:a", "1"))), "{name}");
            end(&mut net, peer);
            assert_eq!(throttled_by(&net, peer), None, "{name}");
            // Another connection takes its place in the table; the timer of the first one means nothing to it.
            let Peer { conn, .. } = net.peers[peer];
            net.reopen(peer);
            net.settle();
            net.ask(peer, Command::Connect(Box::default()));
            assert_ne!(net.peers[peer].conn, conn);
            assert!(!read(&mut net, peer, &mut (0..9).map(|_| publish("chat:a", "1"))), "{name}");
            net.pass(20_000);
            net.all_alive();
            assert!(net.peers[peer].paused, "{name}: three were done, at 2 a minute");
        }
    }
}

#[test]
fn a_session_takes_its_debt_to_another_connection() {
    for shards in shard_counts() {
        let mut net = waiting(shards, messages_per_connection(2, 10_000), open_rules());
        let peer = net.connect(0);
        assert!(!read(&mut net, peer, &mut (0..9).map(|_| publish("chat:a", "1"))));
        net.cut(peer);
        let again = net.resume(peer, 1, Vec::new());
        assert!(!net.peers[again].paused, "it is read, until it does something");
        assert!(!read(&mut net, again, &mut [publish("chat:a", "2")].into_iter().chain([publish("chat:a", "3")])));
        assert_eq!(throttled_by(&net, again), Some("messages_per_connection"));
    }
}

#[test]
fn under_other_limits_and_rules_it_is_read_again_soon() {
    for shards in shard_counts() {
        for by_rules in [false, true] {
            let (quotas, rules) = match by_rules {
                false => (messages_per_connection(1, 3_600_000), open_rules()),
                true => (Quotas::NONE, with_rate(1, 60_000)),
            };
            let mut net = waiting(shards, quotas, rules);
            let peer = net.connect(0);
            assert!(!read(&mut net, peer, &mut (0..9).map(|_| publish("chat:a", "1"))));
            net.pass(10_000);
            net.all_alive();
            assert!(net.peers[peer].paused);
            match by_rules {
                true => net.reload(open_rules()),
                false => (0..shards).for_each(|shard| net.input(shard, Input::Quotas(Quotas::NONE))),
            }
            net.pass(1_000 + 2 * TICK_MS);
            assert!(!net.peers[peer].paused, "by rules: {by_rules}");
            assert!(read(&mut net, peer, &mut (0..9).map(|_| publish("chat:a", "1"))));
        }
    }
}

#[test]
fn the_program_does_not_wait_for_a_client_that_is_not_read() {
    let mut net = waiting(1, messages_per_connection(1, 60_000), open_rules());
    let peer = net.connect(0);
    assert!(!read(&mut net, peer, &mut (0..9).map(|_| publish("chat:a", "1"))));
    let Peer { conn, .. } = net.peers[peer];
    for id in 100..110 {
        let request = Request { id: Some(RequestId::Number(id)), command: publish("chat:a", "1") };
        net.input(0, Input::ProgramCommand { conn, seat: Seat::default(), request });
        net.settle();
        assert!(matches!(net.answer_to(peer, id), Some(ReplyBody::Published { .. })));
    }
    assert!(net.peers[peer].paused);
    net.pass(120_200);
    assert!(!net.peers[peer].paused, "and that costs the client nothing: two were done, at one a minute");
}

#[test]
fn the_program_is_refused_above_the_rate_of_a_rule_and_its_client_goes_on() {
    let mut net = waiting(1, Quotas::NONE, with_rate(2, 60_000));
    let peer = net.connect(0);
    let Peer { conn, .. } = net.peers[peer];
    let mut refused = 0;
    for id in 100..110 {
        let request = Request { id: Some(RequestId::Number(id)), command: publish("chat:a", "1") };
        net.input(0, Input::ProgramCommand { conn, seat: Seat::default(), request });
        net.settle();
        refused += u32::from(matches!(net.answer_to(peer, id), Some(ReplyBody::Error(_))));
        assert!(!net.peers[peer].paused, "the client has done nothing");
    }
    assert_eq!(refused, 8);
}

/// Debts at an old rate are no debts at a new one.
#[test]
fn under_a_higher_limit_nobody_waits_for_the_former_one() {
    for shards in shard_counts() {
        let by_user = |count, window_ms| Quotas {
            messages_per_user: Some(Rate::new(count, window_ms)),
            new_channels_per_user: Some(Rate::new(count, window_ms)),
            ..Quotas::NONE
        };
        type Limit = fn(u64, u64) -> Quotas;
        let rows: [(Limit, OverRate); 4] = [
            (messages_per_connection, OverRate::Wait),
            (by_user, OverRate::Wait),
            (messages_per_connection, OverRate::Refuse),
            (by_user, OverRate::Refuse),
        ];
        for (limit, over_rate) in rows {
            let mut net = waiting(shards, limit(4, 3_600_000), open_rules());
            net.over_rate = over_rate;
            let peer = net.connect_as(0, as_user("ada"));
            read(&mut net, peer, &mut (0..9).map(|n| publish(&format!("chat:{n}"), "1")));
            let raised = limit(400, 2_000);
            (0..shards).for_each(|shard| net.input(shard, Input::Quotas(raised)));
            net.pass(3_000);
            let before = refusals(&net, peer).len();
            assert!(read(&mut net, peer, &mut (0..300).map(|n| publish(&format!("chat:b{n}"), "1"))), "{over_rate:?}");
            assert_eq!(refusals(&net, peer).len(), before, "{over_rate:?}");
            // Another session of the user, which begins elsewhere, does not bring the old debt back.
            let other = net.connect_as(1, as_user("ada"));
            assert!(read(&mut net, other, &mut (0..50).map(|n| publish(&format!("chat:b{n}"), "1"))), "{over_rate:?}");
            assert_eq!(refusals(&net, other).len(), 0, "{over_rate:?}");
        }
    }
}

/// What was on its way when the limits changed is judged by the new ones, and so is the pause that it brings.
#[test]
fn a_pause_of_the_former_limits_is_not_one_of_the_new() {
    let mut net = waiting(1, messages_per_connection(1, 3_600_000), open_rules());
    let peer = net.connect(0);
    assert!(!read(&mut net, peer, &mut (0..9).map(|_| publish("chat:a", "1"))));
    net.input(0, Input::Quotas(messages_per_connection(10, 1_000)));
    for _ in 0..20 {
        net.send(peer, publish("chat:a", "1"));
    }
    net.settle();
    assert!(net.peers[peer].paused);
    net.pass(5_000);
    assert!(!net.peers[peer].paused);
}

/// One connection may carry a session after another.
#[test]
fn who_leaves_and_enters_again_has_what_was_left_of_his_rates() {
    let names = Quotas { new_channels_per_user: Some(Rate::new(5, 3_600_000)), ..Quotas::NONE };
    let rows = [
        ("messages_per_connection", messages_per_connection(5, 3_600_000), open_rules()),
        ("rate", Quotas::NONE, with_rate(5, 60_000)),
        ("new_channels_per_user", names, open_rules()),
    ];
    for (name, quotas, rules) in rows {
        let mut net = waiting(1, quotas, rules);
        net.over_rate = OverRate::Refuse;
        let peer = net.open(0);
        let mut taken = 0;
        for round in 0..20 {
            for seat in [Seat(0), Seat(1)] {
                net.send_in(peer, seat, Command::Connect(Box::default()));
                for n in 0..3 {
                    let id = net.send_in(peer, seat, publish(&format!("chat:{round}-{}-{n}", seat.0), "1"));
                    net.settle();
                    taken += u32::from(matches!(net.answer_to(peer, id), Some(ReplyBody::Published { .. })));
                }
                net.send_in(peer, seat, Command::Leave);
                net.settle();
            }
        }
        assert!((5..=10).contains(&taken), "{name}: {taken} of two sessions, at five each");
    }
}
