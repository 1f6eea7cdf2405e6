//! Narrow fan-outs: a publication to rooms or clients costs what its receivers cost, whatever else waits, and each
//! client gets what was said in a room between its join and its leave, in every order of events.

mod common;

use common::rooms::*;
use common::*;
use fanfare_hub::*;
use std::collections::BTreeSet;

/// A limit by which a fan-out to everybody does not come to its end at once.
fn short_slices(fanout_slice: usize) -> Limits {
    Limits { fanout_slice, ..Limits::default() }
}

#[test]
fn a_publication_to_few_is_done_at_once_among_very_many() {
    for shards in shard_counts() {
        let mut net = Net::with(shards, short_slices(20), open_rules());
        let all = subscribed_many(&mut net, 600);
        let few = [17, 300, 599].map(|at| all[at]);
        few.iter().for_each(|&peer| drop(net.ask(peer, join("red"))));
        let only = few.map(|peer| net.client(peer)).to_vec();
        let narrow = [
            in_rooms(&["red"]),
            in_rooms(&["red", "blue"]),
            Audience { only: only.clone(), ..Audience::default() },
            Audience { only, ..in_rooms(&["red"]) },
        ];
        net.paused = true;
        for (number, audience) in narrow.into_iter().enumerate() {
            net.send(all[0], to(&number.to_string(), audience));
        }
        for peer in few {
            assert_eq!(net.take_messages(peer), ["0", "1", "2", "3"], "without another slice, {shards} shards");
        }
        // One to all does not fit in a slice: else nothing was shown here.
        net.send(all[0], to("4", Audience::default()));
        let got = all.iter().filter(|&&peer| net.take_messages(peer).contains(&"4".to_owned())).count();
        assert!(got < all.len(), "{got} of {}", all.len());
    }
}

#[test]
fn a_publication_to_many_is_told_in_slices_to_those_who_were_there() {
    for shards in shard_counts() {
        let mut net = Net::with(shards, short_slices(10), open_rules());
        let all = subscribed_many(&mut net, 100);
        all[..90].iter().for_each(|&peer| drop(net.ask(peer, join("red"))));
        net.paused = true;
        net.send(all[99], to("1", in_rooms(&["red"])));
        // While it is being told some leave, some come and some are gone. Nobody's part in it changes.
        for &peer in &all[80..85] {
            net.send(peer, leave("red"));
        }
        for &peer in &all[90..95] {
            net.send(peer, join("red"));
        }
        all[85..88].iter().for_each(|&peer| net.cut(peer));
        net.go_on_once();
        for &peer in &all[88..90] {
            net.send(peer, unsubscribe(CHANNEL));
        }
        net.send(all[99], to("2", in_rooms(&["red"])));
        net.paused = false;
        net.settle();
        for (at, &peer) in all.iter().enumerate() {
            let got = net.take_messages(peer);
            match at {
                0..80 => assert_eq!(got, ["1", "2"], "{at}"),
                80..85 => assert_eq!(got, ["1"], "{at} left after the first"),
                85..90 => assert!(got.is_empty() || got == ["1"], "{at} is gone: {got:?}"),
                90..95 => assert_eq!(got, ["2"], "{at} came after the first"),
                _ => assert!(got.is_empty(), "{at} was never there: {got:?}"),
            }
        }
    }
}

/// A member that was passed over by narrow fan-outs stands where the channel stands: its pages begin there, and so do
/// the positions that it is told.
#[test]
fn who_was_passed_over_is_not_behind() {
    for shards in shard_counts() {
        let limits = Limits { outbox_bytes_max: 2_000, ..Limits::default() };
        let mut net = Net::with(shards, limits, open_rules());
        net.heartbeat = HeartbeatKind::Marks;
        let reader = net.connect(0);
        net.subscribe(reader, CHANNEL);
        net.heartbeat = HeartbeatKind::Asks;
        let ada = net.connect(1);
        net.subscribe(ada, CHANNEL);
        for number in 0..50 {
            net.ask(ada, to(&number.to_string(), in_rooms(&["red"])));
        }
        net.take(reader);
        net.pass(net.limits.heartbeat_ms + 1_000);
        let marks = net.take(reader).into_iter().filter_map(|received| match received {
            Received::Push(Push::Mark { positions }) => positions.first().map(|(_, position)| position.offset),
            _ => None,
        });
        assert_eq!(marks.last(), Some(50));
        // It falls behind by publications to all. The page that it pulls begins behind the fifty.
        net.all_alive();
        net.peers[reader].reads = false;
        for number in 50..100 {
            net.all_alive();
            net.ask(ada, to(&number.to_string(), Audience::default()));
        }
        net.read_again(reader);
        assert_eq!(net.take_messages(reader), numbers(50..=99));
        net.ask(ada, to("100", Audience::default()));
        assert_eq!(net.take_messages(reader), ["100"]);
    }
}

/// The history is shorter than the narrow publications that passed: a reader that did not want them lost nothing when
/// it falls behind, also while other publications wait to be told.
#[test]
fn what_was_not_for_a_reader_is_no_gap() {
    for (shards, waits) in shard_counts().into_iter().flat_map(|shards| [(shards, false), (shards, true)]) {
        let limits = Limits { outbox_bytes_max: 2_000, fanout_slice: 5, ..Limits::default() };
        let rule = Rule { history: Retain { count: 40, bytes: 1 << 20, ttl_ms: 60_000 }, ..open_rule("**") };
        let mut net = Net::with(shards, limits, Rules::new(vec![rule]));
        let all = subscribed_many(&mut net, 40);
        let (reader, ada) = (all[39], all[0]);
        net.subscribe(reader, "chat:b");
        for number in 0..100 {
            net.ask(ada, to(&number.to_string(), in_rooms(&["red"])));
        }
        net.take(reader);
        net.paused = waits;
        if waits {
            net.ask(ada, to("100", Audience { except: vec![net.client(reader)], ..Audience::default() }));
        }
        // Another channel fills its outbox.
        net.peers[reader].reads = false;
        for _ in 0..35 {
            net.publish(ada, "chat:b", "\"b\"");
        }
        net.paused = false;
        net.settle();
        for number in 101..120 {
            net.ask(ada, to(&number.to_string(), Audience::default()));
        }
        net.read_again(reader);
        let received = net.take(reader);
        let of_a: Vec<String> = messages(&received).into_iter().filter(|text| text != "\"b\"").collect();
        assert_eq!((of_a, gaps(&received)), (numbers(101..=119), vec![]), "{shards} shards, {waits}");
    }
}

/// A stay that is over is forgotten when the last publication that it could see has been told, live or by a page.
#[test]
fn stays_that_are_over_and_read_hold_nothing() {
    for shards in shard_counts() {
        let limits = Limits { outbox_bytes_max: 2_000, fanout_slice: 5, ..Limits::default() };
        let mut net = Net::with(shards, limits, open_rules());
        let all = subscribed_many(&mut net, 40);
        let places = |net: &Net| net.shards.iter().map(|shard| shard.held().room_places).sum::<usize>();
        for &peer in &all {
            net.ask(peer, join("red"));
            net.ask(peer, join("blue"));
        }
        assert_eq!(places(&net), 80);
        net.ask(all[0], leave("blue"));
        assert_eq!(places(&net), 79, "nothing waits");
        net.paused = true;
        net.peers[all[39]].reads = false;
        for _ in 0..35 {
            net.send(all[0], to("1", in_rooms(&["red"])));
        }
        for &peer in &all[20..] {
            net.send(peer, leave("red"));
        }
        assert!(places(&net) >= 79, "publications wait for them");
        net.paused = false;
        net.settle();
        assert_eq!(places(&net), 60, "but for the one that does not read");
        net.read_again(all[39]);
        assert_eq!(places(&net), 59);
        assert_eq!(net.take_messages(all[39]).len(), 35);
        all.iter().for_each(|&peer| net.cut(peer));
        assert_eq!(places(&net), 0);
    }
}

/// Places in the lists of rooms follow their sessions when others end.
#[test]
fn ends_of_others_leave_the_rest_of_a_room() {
    for shards in shard_counts() {
        let mut net = Net::new(shards);
        let all = subscribed_many(&mut net, 30);
        for (at, &peer) in all.iter().enumerate() {
            net.ask(peer, join("red"));
            net.ask(peer, join(if at % 2 == 0 { "even" } else { "odd" }));
        }
        let mut left: BTreeSet<usize> = (0..30).collect();
        for round in 0..9 {
            let gone = *left.iter().nth(round * 7 % left.len()).expect("some are left");
            left.remove(&gone);
            match round % 3 {
                0 => net.cut(all[gone]),
                1 => drop(net.send(all[gone], unsubscribe(CHANNEL))),
                _ => ["red", "even", "odd"].iter().for_each(|name| drop(net.ask(all[gone], leave(name)))),
            }
            let speaker = all[*left.iter().next().expect("some are left")];
            for (name, is_there) in [("red", (|_| true) as fn(usize) -> bool), ("even", |at| at % 2 == 0)] {
                net.ask(speaker, to(&format!("\"{name}\""), in_rooms(&[name])));
                for (at, &peer) in all.iter().enumerate() {
                    let expected = left.contains(&at) && is_there(at);
                    assert_eq!(net.take_messages(peer).len(), usize::from(expected), "{at} after {round}: {name}");
                }
            }
        }
    }
}

/// In any history, each client gets every publication that is for it, once and in order. The order of the operations is
/// that of their channel, as all messages between shards are carried after each; fan-outs and readers lag at random.
#[test]
fn each_gets_what_was_said_between_its_joins_and_leaves() {
    let mut seen = [0_usize; 4];
    for seed in 0..300 {
        let shards = [1, 3][seed as usize % 2];
        let mut rng = Rng::new(seed);
        let limits = Limits {
            outbox_bytes_max: 700,
            page_bytes_max: 2_000,
            fanout_slice: 1 + rng.below(6) as usize,
            fanout_waiting_max: 6,
            linger_ms: 100,
            ..Limits::default()
        };
        let mut net = Net::with(shards, limits, open_rules());
        let peers = subscribed_many(&mut net, 6);
        let names = ["red", "green", "blue"];
        let mut rooms = vec![BTreeSet::new(); peers.len()];
        let mut expected = vec![Vec::new(); peers.len()];
        let mut got = vec![Vec::new(); peers.len()];
        for step in 0..120 {
            let who = rng.below(peers.len() as u64) as usize;
            let name = names[rng.below(3) as usize];
            match rng.below(12) {
                0 | 1 => {
                    rooms[who].insert(name);
                    net.send(peers[who], join(name));
                }
                2 => {
                    rooms[who].remove(name);
                    net.send(peers[who], leave(name));
                }
                3 => net.paused = !net.paused,
                4 => net.go_on_once(),
                5 => net.peers[peers[who]].reads = false,
                6 => {
                    net.peers[peers[who]].reads = true;
                    net.drain(peers[who]);
                }
                7 if net.peers[peers[who]].reads => {
                    // It begins anew, from here on and outside of all rooms.
                    net.paused = false;
                    net.settle();
                    net.read_again(peers[who]);
                    got[who].extend(net.take_messages(peers[who]));
                    net.send(peers[who], unsubscribe(CHANNEL));
                    net.send(
                        peers[who],
                        Command::Subscribe { subs: vec![SubOptions::new(channel(CHANNEL))], many: false },
                    );
                    rooms[who].clear();
                    seen[0] += 1;
                }
                _ => {
                    let pick = |rng: &mut Rng| names[rng.below(3) as usize];
                    let mut audience = Audience::default();
                    match rng.below(5) {
                        0 => audience.rooms = vec![room(name)],
                        1 => audience.rooms = vec![room(name), room(pick(&mut rng))],
                        2 => audience.only = vec![net.client(peers[who]), net.client(peers[0])],
                        3 => (audience.rooms, audience.except) = (vec![room(name)], vec![net.client(peers[who])]),
                        _ => {}
                    }
                    if rng.below(3) == 0 {
                        audience.except_rooms = vec![room(pick(&mut rng))];
                    }
                    for at in 0..peers.len() {
                        let is_in = |room: &Room| rooms[at].contains(room.as_str());
                        let in_rooms = audience.rooms.is_empty() || audience.rooms.iter().any(is_in);
                        let is_meant = audience.includes(net.client(peers[at]));
                        if in_rooms && is_meant && !audience.except_rooms.iter().any(is_in) {
                            expected[at].push(step.to_string());
                        }
                    }
                    net.send(peers[who], to(&step.to_string(), audience));
                }
            }
            net.settle();
            for (at, &peer) in peers.iter().enumerate() {
                got[at].extend(net.take_messages(peer));
            }
        }
        net.paused = false;
        net.settle();
        for (at, &peer) in peers.iter().enumerate() {
            net.read_again(peer);
            got[at].extend(net.take_messages(peer));
            assert_eq!(got[at], expected[at], "client {at} of seed {seed}, in {:?}", rooms[at]);
        }
        for shard in &net.shards {
            let counts = shard.stats().counts;
            seen[1] += counts.pulls as usize;
            seen[2] += counts.edge_behind as usize;
        }
        seen[3] += expected.iter().map(Vec::len).sum::<usize>();
    }
    assert!(seen.iter().all(|&count| count > 30), "it must have come to all: {seen:?}");
}
