//! What one connection, and one user on all shards, may have and do in a time.

mod common;

use bytes::Bytes;
use common::*;
use fanfare_hub::*;

/// Limits with only these quotas.
fn limits(quotas: Quotas) -> Limits {
    Limits { quotas, ..Limits::default() }
}

fn as_user(name: &str) -> Connect {
    Connect { user: Some(UserId(name.into())), page: the_page(), ..Connect::default() }
}

/// The answer to a `connect` on a new connection.
fn tries(net: &mut Net, shard: usize, connect: Connect) -> ReplyBody {
    let peer = net.open(shard);
    net.ask(peer, Command::Connect(Box::new(connect)))
}

fn refusal(body: &ReplyBody) -> &Error {
    match body {
        ReplyBody::Error(error) => error,
        other => panic!("it was not refused: {other:?}"),
    }
}

/// The limit that a reply names, with the time to wait.
fn limit_of(body: &ReplyBody) -> Option<(&'static str, u64)> {
    let ReplyBody::Error(error) = body else { return None };
    let limit = error.limit?;
    assert!(error.code.row().retryable, "{error:?}");
    assert!(error.message.contains(&format!("(limits.{limit})")), "{}", error.message);
    Some((limit, error.retry_after_ms.expect("it says when to try again")))
}

/// Refusals by this limit, on all shards.
fn counted(net: &Net, limit: &str) -> u64 {
    let of = |shard: &Shard| shard.stats().counts.limits.iter().find(|(name, _)| *name == limit).map_or(0, |it| it.1);
    net.shards.iter().map(of).sum()
}

fn homes_of_users(net: &Net) -> usize {
    net.shards.iter().map(|shard| shard.held().users).sum()
}

#[test]
fn a_user_has_so_many_sessions_on_all_shards_and_one_that_is_cut_off_counts_as_long_as_it_lives() {
    for shards in shard_counts() {
        let mut net = Net::with(shards, limits(Quotas { connections_per_user_max: 3, ..Quotas::NONE }), open_rules());
        let here: Vec<usize> = (0..3).map(|shard| net.connect_as(shard, as_user("ada"))).collect();
        for shard in 0..shards {
            let body = tries(&mut net, shard, as_user("ada"));
            assert_eq!(refusal(&body).code, ErrorCode::TooManyConnections);
            assert_eq!(limit_of(&body), Some(("connections_per_user_max", 5_000)));
            assert!(matches!(tries(&mut net, shard, as_user("bob")), ReplyBody::Connected(_)), "another user");
            assert!(matches!(tries(&mut net, shard, Connect::default()), ReplyBody::Connected(_)), "and nobody");
        }
        assert_eq!(counted(&net, "connections_per_user_max"), shards as u64);
        net.cut(here[0]);
        assert!(limit_of(&tries(&mut net, 1, as_user("ada"))).is_some(), "it may come back");
        // It does, on every shard, and is not counted twice.
        let mut last = here[0];
        for shard in 1..=shards {
            let resume = Some(Resume { shard: ShardId(net.peers[last].shard as u16), client: net.client(last) });
            last = net.connect_as(shard, Connect { resume, ..as_user("ada") });
            assert_eq!(net.client(last), net.client(here[0]));
        }
        net.cut(last);
        net.pass(net.limits.grace_ms + 1_000);
        let again = net.connect_as(2, as_user("ada"));
        assert!(limit_of(&tries(&mut net, 0, as_user("ada"))).is_some());
        net.reopen(again);
        net.settle();
        assert!(matches!(tries(&mut net, 1, as_user("ada")), ReplyBody::Connected(_)), "one that leaves makes room");
    }
}

#[test]
fn a_connection_that_goes_before_its_user_is_counted_takes_no_place() {
    for shards in shard_counts() {
        let mut net = Net::with(shards, limits(Quotas { connections_per_user_max: 1, ..Quotas::NONE }), open_rules());
        for shard in 0..9 {
            let peer = net.open(shard);
            net.send_only(peer, Command::Connect(Box::new(as_user("ada"))));
            let Peer { shard, conn, .. } = net.peers[peer];
            net.input(shard, Input::Closed { conn, finally: true });
            net.settle();
        }
        assert!(matches!(tries(&mut net, 0, as_user("ada")), ReplyBody::Connected(_)));
    }
}

#[test]
fn what_is_known_of_users_is_forgotten_when_they_have_left() {
    for shards in shard_counts() {
        let mut net = Net::with(shards, Limits { grace_ms: 0, ..Limits::default() }, open_rules());
        let peers: Vec<usize> = (0..20).map(|it| net.connect_as(it, as_user(&format!("user{it}")))).collect();
        assert_eq!(homes_of_users(&net), 20);
        for peer in &peers {
            net.send(*peer, Command::Presence { channel: channel("chat:a") });
        }
        for peer in peers {
            net.cut(peer);
        }
        net.pass(1_000);
        assert!(homes_of_users(&net) > 0, "they have done something lately");
        net.pass(12_000);
        assert_eq!(homes_of_users(&net), 0);
    }
}

/// Every kind of command, with its cost in messages.
fn commands() -> Vec<(&'static str, Command, u64)> {
    let name = || channel("chat:a");
    let data = || Bytes::from_static(b"[1]");
    let signal = Signal { channel: name(), event: "typing".into(), data: data(), to: None };
    let subs = || vec![SubOptions::new(channel("chat:b")), SubOptions::new(channel("chat:c"))];
    let query = HistoryQuery { from: HistoryFrom::Newest, limit: 5 };
    vec![
        ("publish", publish("chat:a", "[1]"), 1),
        ("signal", Command::Signal(Box::new(signal)), 1),
        ("presence", Command::Presence { channel: name() }, 1),
        ("presence_set", Command::PresenceSet { channel: name(), data: data(), person: None }, 1),
        ("presence_clear", Command::PresenceClear { channel: name() }, 1),
        ("history", Command::History { channel: name(), query }, 1),
        ("rpc", Command::Rpc { method: "quote".into(), data: data() }, 1),
        ("refresh", Command::Refresh { token: UserToken::from("x") }, 1),
        ("unsubscribe", Command::Unsubscribe { channel: name() }, 1),
        ("subscribe", Command::Subscribe { subs: subs(), many: true }, 2),
        (
            "room",
            Command::Room(Box::new(RoomCommand::Leave { channel: name(), room: Room::new("r").expect("valid") })),
            1,
        ),
    ]
}

#[test]
fn every_command_takes_of_the_rate_of_its_connection_by_either_way() {
    for shards in shard_counts() {
        for (name, command, cost) in commands() {
            for forwarded in [false, true] {
                let rate = Some(Rate::new(2 * cost, 10_000));
                let quotas = Quotas { messages_per_connection: rate, ..Quotas::NONE };
                let mut net = Net::with(shards, limits(quotas), open_rules());
                let peer = net.connect(0);
                let ask = |net: &mut Net| match forwarded {
                    false => net.ask(peer, command.clone()),
                    true => net.forward(1, peer, command.clone()),
                };
                for _ in 0..2 {
                    assert_eq!(limit_of(&ask(&mut net)), None, "{name}");
                }
                let expected = Some(("messages_per_connection", 5_000));
                assert_eq!(limit_of(&ask(&mut net)), expected, "{name}, forwarded: {forwarded}");
                assert_eq!(counted(&net, "messages_per_connection"), 1, "{name}");
                net.pass(5_000);
                net.all_alive();
                assert_eq!(limit_of(&ask(&mut net)), None, "{name}: after what it says");
            }
        }
    }
}

#[test]
fn bytes_of_data_have_a_rate_and_nobody_else_pays() {
    for shards in shard_counts() {
        let quotas = Quotas { bytes_per_connection: Some(Rate::new(100, 1_000)), ..Quotas::NONE };
        let mut net = Net::with(shards, limits(quotas), open_rules());
        let (loud, other) = (net.connect(0), net.connect(0));
        let data = format!("{:?}", "x".repeat(48)); // 50 bytes
        assert_eq!(limit_of(&net.ask(loud, publish("chat:a", &data))), None);
        assert_eq!(limit_of(&net.ask(loud, publish("chat:a", &data))), None);
        assert_eq!(limit_of(&net.ask(loud, publish("chat:a", &data))), Some(("bytes_per_connection", 500)));
        assert_eq!(limit_of(&net.ask(loud, Command::Presence { channel: channel("chat:a") })), None, "it has no bytes");
        assert_eq!(limit_of(&net.ask(other, publish("chat:a", &data))), None);
        assert_eq!(net.peers[loud].closed, None);
    }
}

#[test]
fn an_invalid_message_and_a_command_of_the_program_take_nothing() {
    let quotas = Quotas { messages_per_connection: Some(Rate::new(1, 10_000)), ..Quotas::NONE };
    let mut net = Net::with(1, limits(quotas), open_rules());
    let peer = net.connect(0);
    let Peer { conn, .. } = net.peers[peer];
    for id in 100..110 {
        let request = Request { id: Some(RequestId::Number(id)), command: publish("chat:a", "1") };
        net.input(0, Input::ProgramCommand { conn, seat: Seat::default(), request });
        net.settle();
        assert!(matches!(net.answer_to(peer, id), Some(ReplyBody::Published { .. })));
        net.send(peer, Command::Invalid(Error::new(ErrorCode::BadRequest, "no")));
        net.send(peer, Command::Pong);
    }
    assert_eq!(limit_of(&net.ask(peer, publish("chat:a", "1"))), None);
    assert!(limit_of(&net.ask(peer, publish("chat:a", "1"))).is_some());
    net.send(peer, Command::Disconnect);
    assert_eq!(net.peers[peer].closed, Some(Disconnect::Left), "who leaves needs no room");
}

#[test]
fn a_session_takes_what_it_has_done_to_another_shard() {
    for shards in shard_counts() {
        let quotas = Quotas { messages_per_connection: Some(Rate::new(2, 60_000)), ..Quotas::NONE };
        let mut net = Net::with(shards, limits(quotas), open_rules());
        let mut peer = net.connect(0);
        for shard in 1..3 {
            assert_eq!(limit_of(&net.ask(peer, publish("chat:a", "1"))), None);
            net.cut(peer);
            peer = net.resume(peer, shard, Vec::new());
        }
        assert!(limit_of(&net.ask(peer, publish("chat:a", "1"))).is_some());
    }
}

#[test]
fn a_user_has_one_rate_on_all_shards_within_the_stated_bound() {
    for shards in shard_counts() {
        let quotas = Quotas { messages_per_user: Some(Rate::new(80, 60_000)), ..Quotas::NONE };
        let mut net = Net::with(shards, limits(quotas), open_rules());
        let peers: Vec<usize> = (0..6).map(|shard| net.connect_as(shard, as_user("ada"))).collect();
        let bob = net.connect_as(0, as_user("bob"));
        let mut done = 0;
        for round in 0..40 {
            for peer in &peers {
                match limit_of(&net.ask(*peer, publish("chat:a", "1"))) {
                    None => done += 1,
                    Some((limit, _)) => assert_eq!(limit, "messages_per_user", "round {round}"),
                }
            }
        }
        let bound = 80 + 10 * (shards - 1);
        assert!((80..=bound).contains(&done), "{done} with {shards} shards, at most {bound}");
        assert_eq!(limit_of(&net.ask(bob, publish("chat:a", "1"))), None);
        // Who leaves and comes back has not got everything back.
        for peer in peers {
            net.reopen(peer);
        }
        net.settle();
        let again = net.connect_as(1, as_user("ada"));
        assert!(limit_of(&net.ask(again, publish("chat:a", "1"))).is_some());
    }
}

/// What a shard had not told is charged once where the session goes: whether others of the user stay or not.
#[test]
fn a_user_is_not_charged_twice_where_a_session_moves() {
    for shards in shard_counts() {
        for stays in [false, true] {
            let quotas = Quotas { messages_per_user: Some(Rate::new(80, 60_000)), ..Quotas::NONE };
            let mut net = Net::with(shards, limits(quotas), open_rules());
            let other = stays.then(|| net.connect_as(0, as_user("ada")));
            let mut peer = net.connect_as(0, as_user("ada"));
            let mut done = 0;
            for shard in 1..9 {
                for _ in 0..9 {
                    done += usize::from(limit_of(&net.ask(peer, publish("chat:a", "1"))).is_none());
                }
                net.cut(peer);
                peer = net.resume(peer, shard, Vec::new());
                if let Some(other) = other.filter(|_| shard == 1) {
                    done += usize::from(limit_of(&net.ask(other, publish("chat:a", "1"))).is_none());
                }
            }
            assert_eq!(done, 72 + usize::from(stays), "{shards} shards, stays: {stays}");
            // And it takes along what it has done.
            while limit_of(&net.ask(peer, publish("chat:a", "1"))).is_none() {
                done += 1;
            }
            let bound = 80 + 10 * (shards - 1);
            assert!((80..=bound).contains(&done), "{done} with {shards} shards, at most {bound}");
        }
    }
}

#[test]
fn what_has_drained_is_not_held_against_the_user_on_another_shard() {
    for shards in shard_counts() {
        let quotas = Quotas { messages_per_user: Some(Rate::new(80, 8_000)), ..Quotas::NONE };
        let mut net = Net::with(shards, limits(quotas), open_rules());
        let [here, there] = [0, 1].map(|shard| net.connect_as(shard, as_user("ada")));
        for n in 0..10 {
            net.pass(if n > 0 { 1_000 } else { 0 });
            assert_eq!(limit_of(&net.ask(here, publish("chat:a", "1"))), None);
        }
        for n in 0..79 {
            assert_eq!(limit_of(&net.ask(there, publish("chat:a", "1"))), None, "{n} with {shards} shards");
        }
    }
}

#[test]
fn other_quotas_are_in_force_at_once() {
    for shards in shard_counts() {
        let mut net = Net::with(shards, limits(Quotas::NONE), open_rules());
        let peer = net.connect_as(0, as_user("ada"));
        let quotas =
            Quotas { messages_per_user: Some(Rate::new(1, 1_000)), connections_per_user_max: 1, ..Quotas::NONE };
        for shard in 0..shards {
            net.input(shard, Input::Quotas(quotas));
        }
        assert_eq!(limit_of(&net.ask(peer, publish("chat:a", "1"))), None);
        assert_eq!(limit_of(&net.ask(peer, publish("chat:a", "1"))), Some(("messages_per_user", 1_000)));
        assert!(limit_of(&tries(&mut net, 1, as_user("ada"))).is_some());
        for shard in 0..shards {
            net.input(shard, Input::Quotas(Quotas::NONE));
        }
        assert_eq!(limit_of(&net.ask(peer, publish("chat:a", "1"))), None);
        assert!(matches!(tries(&mut net, 1, as_user("ada")), ReplyBody::Connected(_)));
    }
}

#[test]
fn new_channel_names_have_a_rate_and_known_ones_do_not() {
    type Row = (&'static str, fn(u32) -> Command);
    let rows: [Row; 3] = [
        ("publish", |n| publish(&format!("new:{n}"), "1")),
        ("subscribe", |n| Command::Subscribe {
            subs: vec![SubOptions::new(channel(&format!("new:{n}")))],
            many: false,
        }),
        ("history", |n| {
            let query = HistoryQuery { from: HistoryFrom::Newest, limit: 5 };
            Command::History { channel: channel(&format!("new:{n}")), query }
        }),
    ];
    let who = [("a user", as_user("ada")), ("nobody", Connect::default())];
    for shards in shard_counts() {
        for (name, command) in rows {
            for (whose, connect) in &who {
                let quotas = Quotas { new_channels_per_user: Some(Rate::new(3, 60_000)), ..Quotas::NONE };
                let mut net = Net::with(shards, limits(quotas), open_rules());
                let (peer, other) = (net.connect_as(0, connect.clone()), net.connect_as(0, as_user("bob")));
                let name = format!("{name} by {whose} on {shards} shards");
                for n in 0..3 {
                    assert_eq!(limit_of(&net.ask(peer, command(n))), None, "{name} {n}");
                }
                let expected = Some(("new_channels_per_user", 20_000));
                assert_eq!(limit_of(&net.ask(peer, command(3))), expected, "{name}");
                assert_eq!(limit_of(&net.ask(peer, publish("new:0", "1"))), None, "{name}: it is known");
                assert_eq!(limit_of(&net.ask(other, publish("new:4", "1"))), None, "{name}: others do not pay");
                assert_eq!(limit_of(&net.ask(peer, publish("new:4", "1"))), None, "{name}: another made it known");
                assert!(matches!(
                    net.ask(peer, Command::Presence { channel: channel("new:5") }),
                    ReplyBody::Presence { .. }
                ));
                net.pass(20_000);
                net.all_alive();
                assert_eq!(limit_of(&net.ask(peer, command(0))), None, "{name}: the store knows it still");
                let again = if matches!(command(0), Command::Subscribe { .. }) { 6 } else { 3 };
                assert_eq!(limit_of(&net.ask(peer, command(again))), None, "{name}: after what it says");
                assert!(limit_of(&net.ask(peer, command(7))).is_some(), "{name}: one has drained");
                assert_eq!(counted(&net, "new_channels_per_user"), 2, "{name}");
            }
        }
    }
}

#[test]
fn a_user_makes_so_many_names_on_all_shards_within_the_stated_bound() {
    for shards in shard_counts() {
        let quotas = Quotas { new_channels_per_user: Some(Rate::new(40, 600_000)), ..Quotas::NONE };
        let mut net = Net::with(shards, limits(quotas), open_rules());
        let peers: Vec<usize> = (0..6).map(|shard| net.connect_as(shard, as_user("ada"))).collect();
        let mut made = 0;
        for n in 0..120 {
            let peer = peers[n % peers.len()];
            made += usize::from(limit_of(&net.ask(peer, publish(&format!("new:{n}"), "1"))).is_none());
        }
        let bound = 40 + 5 * (shards - 1);
        assert!((40..=bound).contains(&made), "{made} with {shards} shards, at most {bound}");
        assert_eq!(net.shards.iter().map(|shard| shard.stats().homes).sum::<usize>(), made, "no other channel is kept");
    }
}

/// A client that waits for each answer is never refused: above its rate the answers take their time, and hold more.
#[test]
fn polls_are_slowed_down_before_they_are_refused() {
    let quotas = Quotas { polls_per_connection: Some(Rate::new(10, 1_000)), ..Quotas::NONE };
    let mut net = Net::with(1, limits(quotas), open_rules());
    let shard = &mut net.shards[0];
    let (start, mut spent) = (net.now, Bucket::default());
    let mut now = start;
    // The answer comes after the delay: the next poll not earlier.
    let mut polls = 0;
    while now.mono_ms < start.mono_ms + 10_000 {
        let delay_ms = shard.charge_poll(now, &mut spent).expect("never refused");
        now.mono_ms += delay_ms;
        polls += 1;
        assert!(delay_ms <= 100, "the place of one poll: {delay_ms}");
    }
    assert!((105..=115).contains(&polls), "ten at once and ten a second: {polls}");
    // All at once: a second of them waits, and the next ones are refused.
    let (mut spent, mut taken) = (Bucket::default(), 0);
    let refused = loop {
        match shard.charge_poll(now, &mut spent) {
            Ok(_) => taken += 1,
            Err(error) => break error,
        }
    };
    assert_eq!(taken, 20);
    assert_eq!(limit_of(&ReplyBody::Error(refused)), Some(("polls_per_connection", 1_100)));
    assert!(counted(&net, "polls_per_connection") > 90);
}
