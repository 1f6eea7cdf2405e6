//! Kept subscriptions: a session that lost its connection goes on where its client was, in its rooms, on any shard.

mod common;

use common::kept::*;
use common::rooms::*;
use common::*;
use fanfare_hub::*;

#[test]
fn a_client_goes_on_again_and_again_on_any_shard_in_its_rooms() {
    for shards in shard_counts() {
        let mut net = Net::new(shards);
        let (mut ada, bob) = begin(&mut net);
        let mut at = None;
        for round in 0..7 {
            net.cut(ada);
            say(&mut net, bob, &format!("\"missed {round}\""), "red");
            say(&mut net, bob, "\"for others\"", "blue");
            let (peer, missed, recovered) = back(&mut net, ada, round, at);
            assert_eq!((&missed[..], recovered), (&[format!("\"missed {round}\"")][..], Some(true)), "{shards} shards");
            ada = peer;
            // Every other time it gets nothing before the next cut.
            if round % 2 == 0 {
                say(&mut net, bob, "\"live\"", "red");
                at = last(&mut net, ada);
                assert!(at.is_some());
            } else {
                net.take(ada);
                at = None;
                // It has answered a ping, so that all up to here has arrived.
                net.send_only(ada, Command::Pong);
            }
            if round % 2 == 1 {
                break;
            }
        }
    }
}

/// No event came before the first cut, or since the last one.
#[test]
fn a_client_that_got_nothing_goes_on_too() {
    for shards in shard_counts() {
        let mut net = Net::new(shards);
        let (mut ada, bob) = begin(&mut net);
        for round in 0..3 {
            net.cut(ada);
            let (peer, missed, recovered) = back(&mut net, ada, round, None);
            assert_eq!((missed.len(), recovered), (0, Some(true)));
            ada = peer;
        }
        say(&mut net, bob, "1", "red");
        assert_eq!(net.take_messages(ada), ["1"], "it is still in its room");
    }
}

/// Messages that were sent and did not arrive come again; also where the answer to the return was lost.
#[test]
fn what_was_lost_on_its_way_comes_again() {
    for shards in shard_counts() {
        let mut net = Net::new(shards);
        let (ada, bob) = begin(&mut net);
        say(&mut net, bob, "1", "red");
        let at = last(&mut net, ada);
        say(&mut net, bob, "2", "red"); // sent, and lost
        net.ask(ada, leave("red"));
        say(&mut net, bob, "3", "red");
        net.ask(ada, join("blue"));
        net.cut(ada);
        say(&mut net, bob, "4", "blue");
        let (again, missed, recovered) = back(&mut net, ada, 1, at);
        assert_eq!((missed, recovered), (numbers(2..=2).into_iter().chain(numbers(4..=4)).collect(), Some(true)));
        net.cut(again); // it never had that answer
        say(&mut net, bob, "5", "blue");
        let (again, missed, recovered) = back(&mut net, again, 2, at);
        assert_eq!((missed, recovered), (["2", "4", "5"].map(str::to_owned).to_vec(), Some(true)));
        say(&mut net, bob, "6", "blue");
        say(&mut net, bob, "7", "red");
        assert_eq!(net.take_messages(again), ["6"]);
    }
}

/// The last publication that it had is long gone from the log. It has answered pings since.
#[test]
fn a_quiet_client_goes_on_however_old_its_last_publication_is() {
    for shards in shard_counts() {
        let rule = Rule { history: Retain { count: 1_000, bytes: 1 << 20, ttl_ms: 150_000 }, ..open_rule("**") };
        let limits = Limits { grace_ms: 60_000, heartbeat_ms: 25_000, ..Limits::default() };
        let mut net = Net::with(shards, limits, Rules::new(vec![rule]));
        net.heartbeat = HeartbeatKind::Waits;
        let (mut ada, bob) = begin(&mut net);
        say(&mut net, bob, "1", "red");
        let at = last(&mut net, ada);
        for answers in [true, false] {
            for _ in 0..30 {
                say(&mut net, bob, "0", "blue");
                net.pass(20_000);
                net.all_alive();
                for peer in [ada, bob].into_iter().filter(|_| answers) {
                    net.send_only(peer, Command::Pong);
                }
            }
            net.cut(ada);
            say(&mut net, bob, "2", "red");
            let (again, missed, recovered) = back(&mut net, ada, 1, at);
            // Without an answer to a ping nobody knows what has arrived.
            let expected = if answers { (vec!["2".to_owned()], Some(true)) } else { (vec![], Some(false)) };
            assert_eq!((missed, recovered), expected);
            ada = again;
            say(&mut net, bob, "3", "red");
            let expected = if answers { vec!["3"] } else { vec![] };
            assert_eq!(net.take_messages(ada), expected, "who begins anew is in no room");
        }
    }
}

/// Each of its connections is cut before it can answer a ping. What it missed was for others, and is read once: the log
/// need not hold it until the next return.
#[test]
fn a_client_for_which_there_was_nothing_goes_on_from_its_last_return() {
    for shards in shard_counts() {
        let rule = Rule { history: Retain { count: 4, ..Retain::default() }, ..open_rule("**") };
        let mut net = Net::with(shards, Limits::default(), Rules::new(vec![rule]));
        net.heartbeat = HeartbeatKind::Waits;
        let (mut ada, bob) = begin(&mut net);
        say(&mut net, bob, "1", "red");
        let at = last(&mut net, ada);
        for round in 0..4 {
            net.cut(ada);
            for _ in 0..3 {
                say(&mut net, bob, "0", "blue");
            }
            let (again, missed, recovered) = back(&mut net, ada, round, at);
            assert_eq!((missed.len(), recovered), (0, Some(true)), "return {round}, {shards} shards");
            ada = again;
        }
        say(&mut net, bob, "2", "red");
        net.cut(ada); // it was sent, and may be lost
        let (again, missed, recovered) = back(&mut net, ada, 0, at);
        assert_eq!((missed, recovered), (numbers(2..=2), Some(true)), "{shards} shards");
        net.cut(again); // it never had that answer
        let (_, missed, recovered) = back(&mut net, again, 1, at);
        assert_eq!((missed, recovered), (numbers(2..=2), Some(true)), "{shards} shards");
    }
}

/// The answer that a subscription begins anew was lost. A client that comes back once more learns of it then.
#[test]
fn a_new_beginning_that_was_never_heard_is_told_again() {
    for shards in shard_counts() {
        let rule = Rule { history: Retain { count: 3, ..Retain::default() }, ..open_rule("**") };
        let mut net = Net::with(shards, Limits::default(), Rules::new(vec![rule]));
        net.heartbeat = HeartbeatKind::Waits;
        let (ada, bob) = begin(&mut net);
        say(&mut net, bob, "1", "red");
        let at = last(&mut net, ada);
        net.cut(ada);
        for _ in 0..5 {
            say(&mut net, bob, "2", "red");
        }
        let (again, _, recovered) = back(&mut net, ada, 1, at);
        assert_eq!(recovered, Some(false));
        net.cut(again); // it never had that answer
        let (again, _, recovered) = back(&mut net, again, 0, at);
        assert_ne!(recovered, Some(true), "{shards} shards");
        // It has had this one.
        net.ask(again, join("blue"));
        say(&mut net, bob, "3", "blue");
        let at = last(&mut net, again);
        net.cut(again);
        let (again, _, recovered) = back(&mut net, again, 1, at);
        assert_eq!(recovered, Some(true));
        say(&mut net, bob, "4", "blue");
        assert_eq!(net.take_messages(again), ["4"]);
    }
}

/// A slow client joins a room, and is cut before it was told what others had said there before.
#[test]
fn a_join_that_is_under_way_at_the_cut_shows_nothing_older() {
    for shards in shard_counts() {
        let mut net = Net::with(shards, Limits { outbox_bytes_max: 400, ..Limits::default() }, open_rules());
        let (ada, bob) = begin(&mut net);
        net.take(ada);
        net.peers[ada].reads = false;
        for number in 0..20 {
            say(&mut net, bob, &number.to_string(), "red");
        }
        say(&mut net, bob, "\"older\"", "blue");
        net.send_only(ada, join("blue"));
        let Peer { shard, conn, .. } = net.peers[ada];
        net.input(shard, Input::Closed { conn, finally: false });
        net.settle();
        say(&mut net, bob, "\"newer\"", "blue");
        let (again, mut missed, recovered) = back(&mut net, ada, 0, None);
        missed.extend(net.take_messages(again));
        missed.retain(|text| text.contains("er"));
        assert_eq!((missed, recovered), (vec!["\"newer\"".to_owned()], Some(true)), "{shards} shards");
    }
}

/// A client answers a ping from before its return, or none at all. That says nothing about what it is told again.
#[test]
fn an_answer_to_an_earlier_ping_confirms_nothing() {
    for shards in shard_counts() {
        let mut net = Net::new(shards);
        net.heartbeat = HeartbeatKind::Waits;
        let (ada, bob) = begin(&mut net);
        say(&mut net, bob, "1", "red");
        say(&mut net, bob, "2", "red"); // sent, and lost
        net.cut(ada);
        let (again, missed, _) = back(&mut net, ada, 1, None);
        assert_eq!(missed, numbers(1..=2));
        net.send_only(again, Command::Pong);
        net.settle();
        net.cut(again); // it never had that answer
        let (_, missed, recovered) = back(&mut net, again, 0, None);
        assert_eq!((missed, recovered), (numbers(1..=2), Some(true)), "{shards} shards");
    }
}

/// The ping had been sent before the publication, so its answer says nothing about that.
#[test]
fn an_answer_confirms_what_came_before_its_ping_and_nothing_newer() {
    for shards in shard_counts() {
        let limits = Limits { grace_ms: 60_000, heartbeat_ms: 25_000, ..Limits::default() };
        let mut net = Net::with(shards, limits, open_rules());
        net.heartbeat = HeartbeatKind::Waits;
        let (ada, bob) = begin(&mut net);
        say(&mut net, bob, "1", "red");
        for _ in 0..2 {
            net.pass(20_000); // a ping comes after 25 s of silence at the earliest
            net.all_alive();
        }
        say(&mut net, bob, "2", "red"); // sent, and lost
        net.send_only(ada, Command::Pong);
        net.settle();
        net.cut(ada);
        let (_, missed, recovered) = back(&mut net, ada, 1, None);
        assert_eq!((missed, recovered), (numbers(2..=2), Some(true)), "{shards} shards");
    }
}

/// A client that sends and does not read leaves pings unanswered, and stays connected. Each answer is for the oldest
/// of them. The steps are publications by number, pings (p) and answers (a).
#[test]
fn an_answer_is_for_the_oldest_ping_that_waits() {
    for shards in shard_counts() {
        let table = [("1p2p3", 1..=3), ("1p2p3a", 2..=3), ("1p2p3apa", 2..=3), ("1p2p3apaa4", 4..=4)];
        for (steps, expected) in table {
            let limits = Limits { grace_ms: 60_000, heartbeat_ms: 25_000, ..Limits::default() };
            let mut net = Net::with(shards, limits, open_rules());
            net.heartbeat = HeartbeatKind::Waits;
            let (ada, bob) = begin(&mut net);
            for step in steps.chars() {
                match step {
                    'a' => {
                        net.send_only(ada, Command::Pong);
                        net.settle();
                    }
                    'p' => {
                        net.take(ada);
                        let is_ping = |received: &Received| matches!(received, Received::Push(Push::Ping));
                        let is_pinged = (0..12).any(|_| {
                            net.pass(5_000);
                            net.all_alive();
                            net.take(ada).iter().any(is_ping)
                        });
                        assert!(is_pinged, "{steps}");
                    }
                    number => say(&mut net, bob, &number.to_string(), "red"), // sent, and lost
                }
            }
            net.cut(ada);
            let (_, missed, recovered) = back(&mut net, ada, 1, None);
            assert_eq!((missed, recovered), (numbers(expected), Some(true)), "{shards} shards, {steps}");
        }
    }
}

#[test]
fn a_place_that_cannot_be_is_a_new_beginning() {
    for shards in shard_counts() {
        let mut net = Net::new(shards);
        let (ada, bob) = begin(&mut net);
        say(&mut net, bob, "1", "red");
        let at = last(&mut net, ada).expect("it came");
        net.cut(ada);
        let ahead = Position { offset: at.offset + 7, ..at };
        let (again, missed, recovered) = back(&mut net, ada, 1, Some(ahead));
        assert_ne!(recovered, Some(true));
        say(&mut net, bob, "2", "red");
        assert!(missed.is_empty() && net.take_messages(again).is_empty());
        // A place of another log is that of an earlier life of the client: it has had nothing in this one.
        let other = Position { epoch: Epoch(at.epoch.0 ^ 1), offset: 3 };
        let (cem, bob) = begin(&mut net);
        net.cut(cem);
        say(&mut net, bob, "3", "red");
        let (_, missed, recovered) = back(&mut net, cem, 0, Some(other));
        assert_eq!((missed, recovered), (vec!["3".to_owned()], Some(true)));
        // It is of an earlier life that had got further: the same as before says that the client has had nothing since.
        for (said, goes_on) in [(ahead, true), (Position { offset: ahead.offset + 1, ..ahead }, false)] {
            let (dora, bob) = (net.connect(0), net.connect(1));
            net.subscribe_with(dora, kept(Some(ahead)));
            net.ask(dora, join("red"));
            net.cut(dora);
            net.subscribe(bob, CHANNEL);
            say(&mut net, bob, "4", "red");
            let (_, missed, recovered) = back(&mut net, dora, 0, Some(said));
            let expected = if goes_on { (numbers(4..=4), true) } else { (vec![], false) };
            assert_eq!((missed, recovered == Some(true)), expected, "{shards} shards");
        }
    }
}

/// Rooms that it leaves are kept for a recovery within the bound of all of its rooms; the oldest gives way.
#[test]
fn stays_for_a_recovery_give_way_to_new_rooms() {
    for (rooms_max, recovers) in [(3, true), (2, false)] {
        let mut net = Net::with(1, Limits { rooms_max, ..Limits::default() }, open_rules());
        let (ada, bob) = begin(&mut net);
        say(&mut net, bob, "1", "red"); // lost
        net.ask(ada, leave("red"));
        assert_eq!(net.ask(ada, join("blue")), ReplyBody::Done);
        assert_eq!(net.ask(ada, join("green")), ReplyBody::Done);
        assert_eq!(net.shards[0].held().room_places, 2);
        net.cut(ada);
        assert_eq!(net.shards[0].held().room_places, 0);
        let (_, missed, recovered) = back(&mut net, ada, 0, None);
        assert_eq!((missed.len(), recovered == Some(true)), (usize::from(recovers), recovers), "{rooms_max} rooms");
        assert_eq!(net.shards[0].held().room_places, if recovers { 2 } else { 0 });
    }
}

/// A session that has ended for good, or whose time is over, is none to go on with.
#[test]
fn what_has_ended_is_not_kept() {
    for shards in shard_counts() {
        let mut net = Net::new(shards);
        let (ada, bob) = begin(&mut net);
        net.cut(ada);
        net.pass(net.limits.grace_ms + 2_000);
        say(&mut net, bob, "1", "red");
        let (again, missed, recovered) = back(&mut net, ada, 0, None);
        assert!(missed.is_empty() && recovered != Some(true) && net.client(again) != net.client(ada));
        // The same session without the wish to be kept.
        net.ask(again, join("red"));
        net.cut(again);
        let plain = net.resume(again, 0, vec![SubOptions::new(channel(CHANNEL))]);
        say(&mut net, bob, "2", "red");
        assert!(net.take_messages(plain).is_empty());
    }
}

/// The name of a session keeps the shard on which it began. Long after it has moved on, it is found all the same.
#[test]
fn a_session_is_found_wherever_it_has_moved_long_ago() {
    for shards in [1, 2, 3, 5] {
        let mut net = Net::new(shards);
        net.heartbeat = HeartbeatKind::Waits;
        let (ada, bob) = begin(&mut net);
        let resume = Some(Resume { shard: ShardId(0), client: net.client(ada) });
        let mut peer = ada;
        for shard in [1, 4, 2, 2, 0, 3] {
            // The shard that it left remembers where it went for some minutes only.
            for _ in 0..40 {
                net.pass(10_000);
                net.all_alive();
                net.send_only(peer, Command::Pong);
            }
            net.cut(peer);
            say(&mut net, bob, &shard.to_string(), "red");
            peer = net.connect_as(shard, Connect { resume, subscribe: vec![kept(None)], ..Connect::default() });
            assert_eq!(net.client(peer), net.client(ada), "{shards} shards, on {shard}");
            let received = net.take(peer);
            let missed = received.iter().find_map(|received| match received {
                Received::Reply(Reply { body: ReplyBody::Subscribed(subscribed), .. }) => {
                    Some((texts(&subscribed.publications), subscribed.recovered, subscribed.rooms.clone()))
                }
                _ => None,
            });
            assert_eq!(missed, Some((vec![shard.to_string()], Some(true), vec![room("red")])));
        }
        let gone = Some(Resume { shard: ShardId(0), client: ClientId(7) });
        let peer = net.connect_as(1, Connect { resume: gone, subscribe: vec![kept(None)], ..Connect::default() });
        assert_ne!(net.client(peer), ClientId(7));
    }
}

/// The connection is cut while a join, and a leave, are on their way to the home of the channel.
#[test]
fn changes_of_rooms_that_are_under_way_at_the_cut_take_effect() {
    for shards in shard_counts() {
        for back_on in 0..shards {
            let mut net = Net::new(shards);
            let (ada, bob) = begin(&mut net);
            net.send_only(ada, join("blue"));
            net.send_only(ada, leave("red"));
            let Peer { shard, conn, .. } = net.peers[ada];
            net.input(shard, Input::Closed { conn, finally: false });
            net.settle();
            say(&mut net, bob, "1", "blue");
            say(&mut net, bob, "2", "red");
            let (again, missed, recovered) = back(&mut net, ada, back_on, None);
            assert_eq!((missed, recovered), (numbers(1..=1), Some(true)), "{shards} shards");
            say(&mut net, bob, "3", "red");
            say(&mut net, bob, "4", "blue");
            assert_eq!(net.take_messages(again), ["4"]);
        }
    }
}

/// Joins that are under way at the cut take effect within the bound of all rooms, however often that happens.
#[test]
fn joins_under_way_at_the_cut_are_bounded() {
    for shards in shard_counts() {
        let mut net = Net::with(shards, Limits { rooms_max: 3, ..Limits::default() }, open_rules());
        let (mut ada, bob) = begin(&mut net);
        for round in 0..3 {
            for name in ["blue", "green", "grey", "red", "black"] {
                net.send_only(ada, join(name));
            }
            let Peer { shard, conn, .. } = net.peers[ada];
            net.input(shard, Input::Closed { conn, finally: false });
            net.settle();
            ada = net.resume(ada, round, vec![kept(None)]);
            let told = subscription(&mut net, ada);
            assert_eq!((told.recovered, told.rooms.len()), (Some(true), 3), "{shards} shards, {round}");
            say(&mut net, bob, "1", "green");
            say(&mut net, bob, "2", "black");
            assert_eq!(net.take_messages(ada), ["1"], "{shards} shards, {round}");
            net.take(ada);
        }
    }
}

/// Sessions whose clients may come back take a bounded room. The one that has been away for longest goes first, and
/// what the program keeps of a session goes where that goes.
#[test]
fn sessions_that_are_away_take_a_bounded_room() {
    for shards in shard_counts() {
        let limits = Limits { away_bytes_max: 40_000 * shards, grace_ms: 60_000, ..Limits::default() };
        let mut net = Net::with(shards, limits.for_one_of(shards), open_rules());
        let enter = |net: &mut Net, shard, resume, value: usize| {
            let program = Some(Attachment::new(value));
            let connect = Connect { resume, subscribe: vec![kept(None)], program, ..Connect::default() };
            let peer = net.connect_as(shard, connect);
            let connected = net.take(peer).into_iter().find_map(|received| match received {
                Received::Reply(Reply { body: ReplyBody::Connected(connected), .. }) => Some(connected),
                _ => None,
            });
            (peer, connected.expect("connected"))
        };
        let mut clients = Vec::new();
        for value in 0..100 {
            let (peer, connected) = enter(&mut net, 0, None, value);
            assert_eq!(connected.before, None);
            for name in 0..(value % 7) {
                net.ask(peer, join(&format!("{name}{}", "x".repeat(100))));
            }
            net.cut(peer);
            clients.push(connected.client);
            let stats = net.shards[0].stats();
            assert!(stats.away_bytes <= 40_000, "{} bytes", stats.away_bytes);
            assert_eq!(stats.sessions as u64 + stats.away_shed, value as u64 + 1);
        }
        let shed = net.shards[0].stats().away_shed as usize;
        assert!((50..90).contains(&shed), "{shed}");
        let resume = |client| Some(Resume { shard: ShardId(0), client });
        for (value, &client) in clients.iter().enumerate().skip(shed - 2).take(6) {
            let (peer, connected) = enter(&mut net, shards - 1, resume(client), 1_000 + value);
            assert_eq!(connected.resumed, value >= shed, "{value} of {shed}");
            let before = connected.before.as_ref().and_then(Attachment::get::<usize>);
            assert_eq!(before, (value >= shed).then_some(&value));
            if value >= shed {
                net.cut(peer);
                let shard = ShardId(shards as u16 - 1);
                let again = enter(&mut net, 0, Some(Resume { shard, client }), 0).1.before;
                assert_eq!(again.as_ref().and_then(Attachment::get::<usize>), Some(&(1_000 + value)));
            }
        }
        assert!(net.shards.iter().all(|shard| shard.stats().away_bytes <= 40_000));
        net.pass(120_000);
        assert!(net.shards.iter().all(|shard| shard.stats().away_bytes == 0), "their grace is over");
    }
}

/// The store did not say whether it took a publication, so the home has told nothing since, and a leave stands beyond
/// that. The client comes back before the home has found out.
#[test]
fn a_stay_that_ends_beyond_what_the_home_has_told_goes_on_until_then() {
    let mut net = Net::with_late_store(1, Limits::default());
    let (ada, bob) = (net.connect(0), net.connect(0));
    net.send_only(ada, Command::Subscribe { subs: vec![kept(None)], many: false });
    net.subscribe_late(bob, CHANNEL);
    net.send_only(ada, join("red"));
    net.send_only(bob, to_rooms("1", &["red"]));
    net.settle();
    let (shard, token, _) = net.late.borrow_mut().pop_front().expect("an append");
    net.input(shard, Input::Answer { token, answer: StoreAnswer::Unknown });
    let read = net.late.borrow_mut().pop_front().expect("the home reads whether it was taken");
    net.send_only(bob, to_rooms("2", &["red"]));
    net.answer_all();
    let asked = net.send(ada, leave("red"));
    net.settle();
    assert_eq!(net.answer_to(ada, asked), Some(ReplyBody::Done));
    net.cut(ada);
    let (ada, missed, recovered) = back(&mut net, ada, 0, None);
    assert_eq!((missed.len(), recovered), (0, Some(true)));
    net.late.borrow_mut().push_back(read);
    net.answer_all();
    net.send_only(bob, to_rooms("3", &["red"]));
    net.answer_all();
    assert_eq!(net.take_messages(ada), ["1", "2"]);
    // It is in no list any more.
    net.send_only(bob, publish(CHANNEL, "4"));
    net.answer_all();
    assert_eq!(net.take_messages(ada), ["4"]);
    assert_eq!(net.shards[0].held().room_places, 0);
}

/// A client's connection is held up, so that it opens another one, which has its session, and is cut. Then the first
/// one has its turn: it does not take the session, which goes on with the client's next connection.
#[test]
fn an_earlier_connection_takes_nothing_from_a_later_one_that_was_cut() {
    for shards in shard_counts() {
        for later_on in 0..shards {
            let hooks = Hooks { connect: true, ..Hooks::default() };
            let rule = Rule { history: Retain { count: 3, ..Retain::default() }, ..open_rule("**") };
            let mut net = Net::with_hooks(shards, Limits::default(), Rules::new(vec![rule]), hooks);
            let token = |net: &mut Net, question: Option<HookToken>| {
                let last = |(_, token, _): &(usize, HookToken, Question)| question.is_none_or(|of| of == *token);
                let place = net.questions.iter().rposition(last).expect("the application is asked");
                let (shard, token, _) = net.questions.remove(place).expect("it is there");
                net.answer_as(shard, token, HookAnswer::Identity(Identified::default()));
            };
            let open = |net: &mut Net, shard, resume, last| {
                net.now.mono_ms += 100;
                let peer = net.open(shard);
                let token = Some("a token".into());
                let connect =
                    Connect { token, resume, page: the_page(), subscribe: vec![kept(last)], ..Connect::default() };
                let id = net.send(peer, Command::Connect(Box::new(connect)));
                (peer, id)
            };
            let connected = |net: &Net, (peer, id)| match net.answer_to(peer, id) {
                Some(ReplyBody::Connected(connected)) => *connected,
                other => panic!("not connected but {other:?}"),
            };
            let ada = open(&mut net, 0, None, None);
            token(&mut net, None);
            let client = connected(&net, ada).client;
            let resume = |shard: usize| Some(Resume { shard: ShardId(shard as u16), client });
            let bob = open(&mut net, 1, None, None);
            token(&mut net, None);
            net.ask(ada.0, join("red"));
            say(&mut net, bob.0, "1", "red");
            let at = last(&mut net, ada.0);
            net.cut(ada.0);
            let early = open(&mut net, shards - 1, resume(0), at);
            let held_up = net.questions.back().expect("the application is asked").1;
            let late = open(&mut net, later_on, resume(0), at);
            token(&mut net, None);
            assert!(connected(&net, late).resumed);
            say(&mut net, bob.0, "2", "red");
            let at = last(&mut net, late.0);
            net.cut(late.0);
            for _ in 0..3 {
                say(&mut net, bob.0, "3", "red");
            }
            token(&mut net, Some(held_up));
            let stranger = connected(&net, early);
            assert!(!stranger.resumed && stranger.client != client, "it has a session of its own");
            let again = open(&mut net, 0, resume(later_on), at);
            token(&mut net, None);
            assert!(connected(&net, again).resumed);
            let told = subscription(&mut net, again.0);
            assert_eq!((told.recovered, told.rooms), (Some(true), vec![room("red")]), "{shards} shards, {later_on}");
            assert_eq!(told.missed, ["3", "3", "3"]);
        }
    }
}

/// The later connection is gone when the session arrives on its shard. It waits there for the client's next one.
#[test]
fn an_earlier_connection_takes_nothing_that_a_later_one_has_fetched_in_vain() {
    let mut net = Net::new(3);
    let (ada, bob) = begin(&mut net);
    say(&mut net, bob, "1", "red");
    let at = last(&mut net, ada);
    net.cut(ada);
    let resume = Some(Resume { shard: ShardId(0), client: net.client(ada) });
    let open = |net: &mut Net, shard| {
        net.now.mono_ms += 100;
        let peer = net.open(shard);
        let connect = Connect { resume, page: the_page(), subscribe: vec![kept(at)], ..Connect::default() };
        (peer, net.send_only(peer, Command::Connect(Box::new(connect))))
    };
    let (early, asked) = open(&mut net, 1);
    let (late, _) = open(&mut net, 2);
    let Peer { shard, conn, .. } = net.peers[late];
    net.input(shard, Input::Closed { conn, finally: false });
    net.carry_from(2, 0);
    net.carry_from(0, 2);
    net.settle();
    let Some(ReplyBody::Connected(connected)) = net.answer_to(early, asked) else { panic!("not connected") };
    assert!(!connected.resumed && connected.client != net.client(ada), "it has a session of its own");
    say(&mut net, bob, "2", "red");
    net.now.mono_ms += 100;
    let (again, missed, recovered) = back(&mut net, ada, 0, at);
    assert_eq!((missed, recovered), (numbers(2..=2), Some(true)));
    say(&mut net, bob, "3", "red");
    assert_eq!(net.take_messages(again), ["3"]);
}

/// Two pages show the same ticket. The second one takes the session while the first one is away, and begins anew. What
/// the first one had is no place to go on from in what the second one began: it would miss what came in between, and is
/// in no room.
#[test]
fn a_subscription_is_kept_for_the_page_that_had_it() {
    for shards in shard_counts() {
        for (other, goes_on) in [("the page", true), ("another page", false)] {
            let mut net = Net::new(shards);
            let (ada, bob) = begin(&mut net);
            say(&mut net, bob, "1", "red");
            say(&mut net, bob, "2", "red");
            let received = last(&mut net, ada).expect("it came");
            let before = Position { offset: received.offset - 1, ..received };
            net.cut(ada);
            say(&mut net, bob, "3", "red");
            let resume = |shard| Some(Resume { shard: ShardId(shard), client: ClientId(0) });
            let come = |net: &mut Net, shard: usize, page: &str, last| {
                let resume = resume(0).map(|resume| Resume { client: net.client(ada), ..resume });
                let connect =
                    Connect { resume, page: PageId::new(page), subscribe: vec![kept(last)], ..Connect::default() };
                net.connect_as(shard, connect)
            };
            let second = come(&mut net, shards - 1, other, Some(before));
            assert_eq!(net.client(second), net.client(ada));
            let told = subscription(&mut net, second);
            let rooms = if goes_on { vec![room("red")] } else { vec![] };
            assert_eq!(
                (told.recovered == Some(true), told.rooms),
                (goes_on, rooms.clone()),
                "{shards} shards, {other}"
            );
            net.cut(second);
            say(&mut net, bob, "4", "red");
            let first = come(&mut net, 0, "the page", Some(received));
            assert_eq!(net.client(first), net.client(ada));
            let told = subscription(&mut net, first);
            let missed = if goes_on { numbers(3..=4) } else { vec![] };
            assert_eq!((told.recovered == Some(true), told.rooms, told.missed), (goes_on, rooms, missed));
        }
    }
}

/// A client that shows nothing but its ticket gets its own session or none.
#[test]
fn a_client_that_only_resumes_begins_no_session() {
    for shards in shard_counts() {
        for shard in 0..shards {
            let mut net = Net::new(shards);
            let (ada, _) = begin(&mut net);
            let was = net.client(ada);
            let resume = Some(Resume { shard: ShardId(0), client: was });
            let connect = |resume| {
                let subscribe = vec![kept(None)];
                let connect = Connect { resume, only_resume: true, page: the_page(), subscribe, ..Connect::default() };
                Command::Connect(Box::new(connect))
            };
            net.cut(ada);
            let stranger = net.open(shard);
            let none = Some(Resume { shard: ShardId(0), client: ClientId(7) });
            for _ in 0..100 {
                let refused = net.ask(stranger, connect(none));
                assert_eq!(error_code(&refused), ErrorCode::NotConnected, "and it is no bad request");
            }
            let ReplyBody::Connected(connected) = net.ask(stranger, connect(resume)) else { panic!("connected") };
            assert_eq!((connected.client, connected.resumed), (was, true));
            net.send(stranger, Command::Leave);
            assert_eq!(error_code(&net.ask(stranger, connect(resume))), ErrorCode::NotConnected, "it has left");
            let begins = net.ask(stranger, Command::Connect(Box::default()));
            assert!(matches!(begins, ReplyBody::Connected(connected) if connected.client != was));
        }
    }
}

/// Where another subscription ends with the connection, the client is to learn that it has not all of them.
#[test]
fn a_subscription_may_be_kept_only_with_all_others() {
    for shards in shard_counts() {
        for (whole, has_other, leaves, goes_on) in [
            (true, false, false, true),
            (true, true, false, false),
            (true, true, true, true),
            (false, true, false, true),
        ] {
            let mut net = Net::new(shards);
            let options = || SubOptions { whole, ..kept(None) };
            let ada = net.connect(0);
            net.subscribe_with(ada, options());
            net.ask(ada, join("red"));
            if has_other {
                net.subscribe(ada, "another");
            }
            if leaves {
                net.ask(ada, unsubscribe("another"));
            }
            // It stays so over a return.
            let mut peer = ada;
            for _ in 0..2 {
                net.cut(peer);
                peer = net.resume(peer, shards - 1, vec![options()]);
                let received = net.take(peer);
                let recovered = received.iter().find_map(|received| match received {
                    Received::Reply(Reply { body: ReplyBody::Subscribed(subscribed), .. }) => {
                        Some(subscribed.recovered)
                    }
                    _ => None,
                });
                let expected = if goes_on { Some(true) } else { None };
                assert_eq!(recovered, Some(expected), "{shards} shards, {whole} {has_other} {leaves}");
                if has_other && !leaves && goes_on {
                    break;
                }
                if has_other && !leaves {
                    net.subscribe(peer, "another");
                }
            }
        }
    }
}

/// What a client missed comes with the answer, and not behind it, however much there was for others in between.
#[test]
fn what_was_missed_among_much_for_others_comes_with_the_answer() {
    for shards in shard_counts() {
        for scan_slice in [1, 7, 1024] {
            let mut net = Net::with(shards, Limits { scan_slice, ..Limits::default() }, open_rules());
            let (ada, bob) = begin(&mut net);
            let others = || Audience { only: vec![ClientId(7)], ..Audience::default() };
            net.cut(ada);
            for round in 0..3 {
                for _ in 0..20 {
                    net.ask(bob, to("\"for others\"", others()));
                }
                say(&mut net, bob, &format!("\"missed {round}\""), "red");
            }
            let peer = net.resume(ada, shards - 1, vec![kept(None)]);
            let received = net.take(peer);
            let subscribed = received.iter().find_map(|received| match received {
                Received::Reply(Reply { body: ReplyBody::Subscribed(subscribed), .. }) => Some(subscribed),
                _ => None,
            });
            let subscribed = subscribed.expect("subscribed");
            assert_eq!(texts(&subscribed.publications), ["\"missed 0\"", "\"missed 1\"", "\"missed 2\""]);
            assert_eq!((subscribed.recovered, subscribed.more), (Some(true), false), "{shards} shards, {scan_slice}");
        }
    }
}

/// Nothing in its first page is for the client. It is cut before it has the next one, which has something.
#[test]
fn a_page_without_anything_for_the_client_confirms_nothing_behind_it() {
    for shards in shard_counts() {
        let mut net = Net::with(shards, Limits { page_bytes_max: 2_000, ..Limits::default() }, open_rules());
        let (ada, bob) = begin(&mut net);
        net.cut(ada);
        for _ in 0..20 {
            say(&mut net, bob, "\"for others\"", "blue");
        }
        say(&mut net, bob, "1", "red");
        let again = net.resume(ada, shards - 1, vec![kept(None)]);
        let received = net.take(again);
        let subscribed = received.iter().find_map(|received| match received {
            Received::Reply(Reply { body: ReplyBody::Subscribed(subscribed), .. }) => Some(subscribed),
            _ => None,
        });
        let subscribed = subscribed.expect("subscribed");
        assert_eq!((subscribed.publications.len(), subscribed.more), (0, true), "{shards} shards");
        net.cut(again); // what came behind the answer is lost
        let (_, missed, recovered) = back(&mut net, again, 0, None);
        assert_eq!((missed, recovered), (numbers(1..=1), Some(true)), "{shards} shards");
    }
}

/// The newest messages are for a client that has had none. One that has had some goes on, or begins at the newest
/// position: else nobody could tell at its next return whether it has had them before or after its beginning.
#[test]
fn the_newest_messages_are_for_a_client_that_has_had_none() {
    for shards in shard_counts() {
        for has_had in [false, true] {
            let mut net = Net::new(shards);
            let (ada, bob) = (net.connect(0), net.connect(1));
            let mut at = None;
            if has_had {
                net.subscribe_with(ada, kept(None));
            } else {
                net.subscribe(ada, "another");
            }
            for text in ["1", "2", "3"] {
                net.ask(bob, publish(CHANNEL, text));
            }
            if has_had {
                at = last(&mut net, ada);
                net.ask(ada, unsubscribe(CHANNEL));
            }
            let recent = |since| SubOptions { recent: Some(2), ..kept(since) };
            let first = net.subscribe_with(ada, recent(at));
            let pages = if has_had { vec![] } else { numbers(2..=3) };
            assert_eq!((texts(&first.publications), first.recovered), (pages, None), "{shards} shards, {has_had}");
            net.cut(ada);
            let at = Position { epoch: first.position.epoch, offset: 3 };
            let peer = net.resume(ada, shards - 1, vec![recent(Some(at))]);
            let Subscription { missed, recovered, .. } = subscription(&mut net, peer);
            assert_eq!((missed.len(), recovered), (0, Some(true)), "{shards} shards, {has_had}: {missed:?}");
        }
    }
}
