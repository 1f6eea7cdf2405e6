//! Slow readers and large channels: other clients do not wait for a slow one, it loses nothing that history keeps, and
//! it is told of a loss.

mod common;
use common::*;
use fanfare_hub::*;

fn small() -> Limits {
    Limits { outbox_bytes_max: 2_000, page_bytes_max: 1_500, ..Limits::default() }
}

#[test]
fn a_slow_reader_is_behind_pulls_and_misses_nothing() {
    for shards in shard_counts() {
        let mut net = Net::with(shards, small(), open_rules());
        let (ada, bob) = (net.connect(0), net.connect(1));
        net.subscribe(bob, "chat:a");
        net.peers[bob].reads = false;
        net.publish_all(ada, "chat:a", 1..=90);
        let waiting = net.waiting_bytes(bob);
        assert!(waiting < 2_000 + 1_500, "{waiting} bytes wait for one who does not read");
        net.read_again(bob);
        net.publish(ada, "chat:a", "91");
        let received = net.take(bob);
        assert_eq!((messages(&received), gaps(&received)), (numbers(1..=91), vec![]));
    }
}

#[test]
fn a_loss_of_the_history_is_a_gap_before_anything_newer() {
    for shards in shard_counts() {
        let mut rule = open_rule("**");
        rule.history.count = 5;
        let mut net = Net::with(shards, small(), Rules::new(vec![rule]));
        let (ada, bob) = (net.connect(0), net.connect(1));
        net.subscribe(bob, "chat:a");
        net.peers[bob].reads = false;
        net.publish_all(ada, "chat:a", 1..=100);
        net.read_again(bob);
        let received = net.take(bob);
        assert_eq!(gaps(&received), [(95, false)]);
        let gap =
            received.iter().position(|received| matches!(received, Received::Push(Push::Gap { .. }))).expect("a gap");
        let before = messages(&received[..gap]);
        assert_eq!(before, numbers(1..=before.len() as u32));
        assert_eq!(messages(&received[gap..]), numbers(96..=100));
    }
}

#[test]
fn a_rule_can_end_slow_connections_instead() {
    for shards in shard_counts() {
        let mut rule = open_rule("**");
        rule.slow = Slow::Disconnect;
        let mut net = Net::with(shards, small(), Rules::new(vec![rule]));
        let (ada, bob) = (net.connect(0), net.connect(1));
        net.subscribe(bob, "chat:a");
        net.peers[bob].reads = false;
        net.publish_all(ada, "chat:a", 1..=60);
        assert_eq!(net.peers[bob].closed, Some(Disconnect::Slow));
    }
}

fn with_slow(slow: Slow) -> SubOptions {
    SubOptions { slow: Some(slow), ..SubOptions::new(channel("chat:a")) }
}

#[test]
fn slow_latest_gives_a_gap_and_the_newest_when_the_client_reads_again() {
    for (shards, by_rule) in shard_counts().into_iter().flat_map(|shards| [(shards, false), (shards, true)]) {
        let mut rule = open_rule("**");
        rule.slow = if by_rule { Slow::Latest } else { Slow::Pull };
        let mut net = Net::with(shards, small(), Rules::new(vec![rule]));
        let (ada, bob) = (net.connect(0), net.connect(1));
        let options = if by_rule { SubOptions::new(channel("chat:a")) } else { with_slow(Slow::Latest) };
        net.subscribe_with(bob, options);
        net.peers[bob].reads = false;
        net.publish_all(ada, "chat:a", 1..=90);
        net.read_again(bob);
        net.publish(ada, "chat:a", "91");
        let received = net.take(bob);
        assert_eq!(gaps(&received), [(89, false)]);
        let gap =
            received.iter().position(|received| matches!(received, Received::Push(Push::Gap { .. }))).expect("a gap");
        let before = messages(&received[..gap]);
        assert!(before.len() < 50, "all of it was received first");
        assert_eq!(before, numbers(1..=before.len() as u32));
        assert_eq!(messages(&received[gap..]), numbers(90..=91));
    }
}

/// Publications for others, and the client's own that it does not want, are never the newest one and never a loss.
#[test]
fn the_latest_is_the_newest_that_is_for_the_reader() {
    for (shards, scan_slice) in shard_counts().into_iter().flat_map(|shards| [(shards, 1024), (shards, 3)]) {
        let mut net = Net::with(shards, Limits { scan_slice, ..small() }, open_rules());
        let (ada, bob) = (net.connect(0), net.connect(1));
        net.subscribe_with(bob, with_slow(Slow::Latest));
        let for_others = |net: &mut Net| {
            let except = vec![net.client(bob)];
            let Command::Publish(publish) = publish("chat:a", "\"not bob's\"") else { panic!() };
            let audience = Some(Box::new(Audience { except, ..Audience::default() }));
            net.app(0, AppCommand::Publish { publish, audience, by: None });
        };
        net.peers[bob].reads = false;
        net.publish_all(ada, "chat:a", 1..=60);
        for _ in 0..10 {
            for_others(&mut net);
        }
        let Command::Publish(own) = publish("chat:a", "\"bob's own\"") else { panic!() };
        net.send(bob, Command::Publish(Box::new(Publish { echo: false, ..*own })));
        net.read_again(bob);
        let received = net.take(bob);
        assert_eq!(gaps(&received), [(59, false)]);
        assert_eq!(messages(&received).last().map(String::as_str), Some("60"));
        // Only publications for others follow: there is no gap.
        net.peers[bob].reads = false;
        let first = net.publish(ada, "chat:a", "61").offset;
        for _ in 0..1_000 {
            if net.waiting_bytes(bob) >= 2_000 {
                break;
            }
            net.publish(ada, "chat:a", "62");
        }
        assert!(net.waiting_bytes(bob) >= 2_000);
        for _ in 0..10 {
            for_others(&mut net);
        }
        net.read_again(bob);
        let received = net.take(bob);
        assert_eq!(gaps(&received), [], "all of {first} and after was in the outbox");
        net.publish(ada, "chat:a", "63");
        assert_eq!(net.take_messages(bob), ["63"]);
    }
}

fn publish_for_others(net: &mut Net, peer: usize) {
    let except = vec![net.client(peer)];
    let Command::Publish(publish) = publish("chat:a", "\"for others\"") else { panic!() };
    let audience = Some(Box::new(Audience { except, ..Audience::default() }));
    net.app(0, AppCommand::Publish { publish, audience, by: None });
}

/// Two clients. The second one wants the latest alone and does not read: the search for it takes several steps.
fn with_a_search_ahead(shards: usize, options: SubOptions) -> (Net, usize, usize) {
    let mut net = Net::with(shards, Limits { scan_slice: 3, ..small() }, open_rules());
    let (ada, bob) = (net.connect(0), net.connect(1));
    net.subscribe_with(bob, options);
    net.peers[bob].reads = false;
    net.publish_all(ada, "chat:a", 1..=60);
    for _ in 0..10 {
        publish_for_others(&mut net, bob);
    }
    (net, ada, bob)
}

#[test]
fn the_latest_is_what_is_newest_when_the_search_for_it_ends() {
    let mut under_way = Vec::new();
    for (shards, steps) in shard_counts().into_iter().flat_map(|shards| (0..8).map(move |steps| (shards, steps))) {
        let (mut net, ada, bob) = with_a_search_ahead(shards, with_slow(Slow::Latest));
        // It reads again, and the search takes some of its steps before a newer publication.
        net.paused = true;
        net.read_again(bob);
        for _ in 0..steps {
            net.go_on_once();
            net.settle();
        }
        let has_ended = net.take_messages(bob).last().is_some_and(|last| last == "60");
        under_way.extend((!has_ended).then_some(steps));
        net.publish(ada, "chat:a", "61");
        net.paused = false;
        net.settle();
        assert_eq!(net.take_messages(bob), ["61"], "61 was published after {steps} steps");
    }
    assert!(under_way.contains(&1) && !under_way.contains(&7), "{under_way:?}");
}

#[test]
fn a_removal_during_the_search_for_the_latest_is_a_gap() {
    for (shards, steps) in shard_counts().into_iter().flat_map(|shards| (0..10).map(move |steps| (shards, steps))) {
        let (mut net, ada, bob) = with_a_search_ahead(shards, with_slow(Slow::Latest));
        net.paused = true;
        net.read_again(bob);
        let last = net.publish(ada, "chat:a", "61").offset;
        for _ in 0..steps {
            net.go_on_once();
            net.settle();
        }
        net.app(0, AppCommand::HistoryRemove { channel: channel("chat:a") });
        net.paused = false;
        net.settle();
        net.publish(ada, "chat:a", "62");
        let received = net.take(bob);
        let (messages, gaps) = (messages(&received), gaps(&received));
        assert_eq!(messages.last().map(String::as_str), Some("62"), "after {steps} steps");
        let has_61 = messages.iter().any(|message| message == "61");
        assert!(has_61 || gaps.last() == Some(&(last, false)), "after {steps} steps: {messages:?}, {gaps:?}");
    }
}

/// The home searches for a reader that is in no room.
#[test]
fn one_who_enters_a_room_during_the_search_for_the_latest_gets_what_is_for_the_room() {
    let mut under_way = Vec::new();
    for (shards, steps) in shard_counts().into_iter().flat_map(|shards| (0..8).map(move |steps| (shards, steps))) {
        for (batch, leaves) in [(None, false), (Some(Batch { size: 50, delay_ms: 100 }), false), (None, true)] {
            let options = SubOptions { batch, ..with_slow(Slow::Latest) };
            let (mut net, ada, bob) = with_a_search_ahead(shards, options);
            net.paused = true;
            net.read_again(bob);
            for _ in 0..steps {
                net.go_on_once();
                net.settle();
            }
            let has_ended = messages(&net.peers[bob].received).last().is_some_and(|last| last == "60");
            under_way.extend((!has_ended).then_some(steps));
            assert_eq!(net.ask(bob, rooms::join("a")), ReplyBody::Done);
            net.send(ada, rooms::to_rooms("61", &["a"]));
            if leaves {
                assert_eq!(net.ask(bob, rooms::leave("a")), ReplyBody::Done);
            }
            net.send(ada, rooms::to_rooms("\"after the leave\"", if leaves { &["a"] } else { &["b"] }));
            net.paused = false;
            net.settle();
            net.publish(ada, "chat:a", "62");
            net.pass(200); // the time of a batch
            let received = net.take_messages(bob);
            assert!(received.ends_with(&numbers(60..=62)), "joined after {steps} steps: {received:?}");
        }
    }
    assert!(under_way.contains(&1) && !under_way.contains(&7), "{under_way:?}");
}

#[test]
fn slow_latest_recovers_all_the_same() {
    for shards in shard_counts() {
        let mut net = Net::with(shards, small(), open_rules());
        let (ada, bob) = (net.connect(0), net.connect(1));
        net.publish_all(ada, "chat:a", 1..=90);
        let start = Position { offset: 0, ..net.publish(ada, "chat:a", "91") };
        net.subscribe_with(bob, SubOptions { since: Some(start), ..with_slow(Slow::Latest) });
        net.settle();
        let received = net.take(bob);
        let first = received.iter().find_map(|received| match received {
            Received::Reply(Reply { body: ReplyBody::Subscribed(subscribed), .. }) => {
                Some(texts(&subscribed.publications))
            }
            _ => None,
        });
        let all = [first.expect("subscribed"), messages(&received)].concat();
        assert_eq!((all, gaps(&received)), (numbers(1..=91), vec![]));
    }
}

#[test]
fn nothing_of_a_channel_without_history_is_left_for_who_wants_the_latest() {
    for shards in shard_counts() {
        let mut rule = open_rule("**");
        rule.history.count = 0;
        let mut net = Net::with(shards, small(), Rules::new(vec![rule]));
        let (ada, bob) = (net.connect(0), net.connect(1));
        net.subscribe_with(bob, with_slow(Slow::Latest));
        net.peers[bob].reads = false;
        net.publish_all(ada, "chat:a", 1..=60);
        net.read_again(bob);
        assert_eq!(gaps(&net.take(bob)), [(60, false)]);
        net.publish(ada, "chat:a", "61");
        assert_eq!(net.take_messages(bob), ["61"]);
    }
}

#[test]
fn a_subscriber_chooses_what_asks_no_more_of_the_server_than_its_rule() {
    use Slow::*;
    for (of_rule, choice) in Slow::ALL.into_iter().flat_map(|rule| Slow::ALL.map(|choice| (rule, choice))) {
        let mut rule = open_rule("chat:*");
        rule.slow = of_rule;
        let mut net = Net::with(1, small(), Rules::new(vec![rule]));
        let (ada, bob) = (net.connect(0), net.connect(0));
        let body = net.ask(bob, Command::Subscribe { subs: vec![with_slow(choice)], many: false });
        if choice < of_rule {
            let ReplyBody::Error(error) = body else {
                panic!("{choice:?} was allowed where the rule says {of_rule:?}")
            };
            assert_eq!((error.code, error.rule.as_deref()), (ErrorCode::BadRequest, Some("chat:*")));
            assert!(error.message.contains(of_rule.word()) && error.message.contains(choice.word()), "{error}");
            continue;
        }
        net.peers[bob].reads = false;
        for number in 0..60 {
            net.send(ada, publish("chat:a", &number.to_string()));
        }
        let closed = (choice == Disconnect).then_some(fanfare_hub::Disconnect::Slow);
        assert_eq!(net.peers[bob].closed, closed, "{choice:?} where the rule says {of_rule:?}");
    }
}

/// The client recovers more than its outbox holds, so its own pages fill it. If that ended the client as slow, it could
/// never catch up.
#[test]
fn a_client_that_catches_up_is_not_ended_as_slow() {
    for shards in shard_counts() {
        let mut rule = open_rule("**");
        rule.slow = Slow::Disconnect;
        let mut net = Net::with(shards, small(), Rules::new(vec![rule]));
        let (ada, bob) = (net.connect(0), net.connect(1));
        let start = net.subscribe(bob, "chat:a").position;
        net.cut(bob);
        net.publish_all(ada, "chat:a", 1..=80);
        let bob = net.connect(1);
        net.peers[bob].reads = false;
        let first = net.subscribe_with(bob, since("chat:a", start));
        let mut received = texts(&first.publications);
        net.read_again(bob);
        received.extend(net.take_messages(bob));
        assert_eq!((received, net.peers[bob].closed), (numbers(1..=80), None));
        net.peers[bob].reads = false;
        net.publish_all(ada, "chat:a", 81..=140);
        assert_eq!(net.peers[bob].closed, Some(Disconnect::Slow), "live, it has to keep up");
    }
}

#[test]
fn a_client_that_reads_no_answers_is_not_read() {
    for shards in shard_counts() {
        let mut net = Net::with(shards, small(), open_rules());
        let ada = net.connect(0);
        net.peers[ada].reads = false;
        for _ in 0..30 {
            if !net.peers[ada].paused {
                net.send(ada, Command::Presence { channel: channel("chat:a") });
            }
        }
        assert!(net.peers[ada].paused, "answers pile up: {} bytes", net.waiting_bytes(ada));
        net.read_again(ada);
        assert!(!net.peers[ada].paused);
    }
}

#[test]
fn a_pull_passes_on_when_its_subscription_ends() {
    let mut net = Net::with_late_store(1, Limits { page_bytes_max: 500, ..Limits::default() });
    let ada = net.connect(0);
    let names = ["chat:a", "chat:b"];
    let starts = names.map(|name| {
        let id = net.send(ada, publish(name, "1"));
        net.answer_all();
        let Some(ReplyBody::Published { position, .. }) = net.answer_to(ada, id) else { panic!() };
        for number in 2..=20 {
            net.send(ada, publish(name, &number.to_string()));
            net.answer_all();
        }
        Position { offset: 0, ..position }
    });
    let bob = net.connect(0);
    for (name, start) in names.into_iter().zip(starts) {
        net.send(bob, Command::Subscribe { subs: vec![since(name, start)], many: false });
    }
    // Both first pages arrive, and the first pull is on its way when its subscription ends.
    let mut pages: Vec<_> = net.late.borrow_mut().drain(..).collect();
    for (shard, token, answer) in pages.drain(..) {
        net.input(shard, Input::Answer { token, answer });
    }
    net.settle();
    assert_eq!(net.late.borrow().len(), 1, "one page at a time");
    net.take(bob);
    net.send(bob, unsubscribe("chat:a"));
    net.answer_all();
    assert_eq!(net.take_messages(bob).last().map(String::as_str), Some("20"), "the other channel catches up");
}

#[test]
fn a_fan_out_in_slices_misses_and_doubles_nobody_while_members_come_and_go() {
    for shards in shard_counts() {
        let limits = Limits { fanout_slice: 7, ..Limits::default() };
        let mut net = Net::with(shards, limits, open_rules());
        let ada = net.connect(0);
        let mut members: Vec<usize> = (0..100).map(|i| net.connect(i)).collect();
        for member in &members {
            net.subscribe(*member, "chat:a");
        }
        let mut left = Vec::new();
        for number in 1..=10u32 {
            net.paused = true;
            net.send(ada, publish("chat:a", &number.to_string()));
            for step in 0..6 {
                net.go_on_once();
                // Meanwhile three members leave (from the front, the middle and the end), and a new one comes.
                let leaver = members.swap_remove((step * 37 + number as usize * 11) % members.len());
                net.send(leaver, unsubscribe("chat:a"));
                left.push(leaver);
                let newcomer = net.connect(step);
                net.subscribe(newcomer, "chat:a");
                members.push(newcomer);
            }
            net.paused = false;
            net.settle();
        }
        for member in members {
            let received = net.take(member);
            let got: Vec<u32> = messages(&received).iter().map(|text| text.parse().expect("a number")).collect();
            let subscribed = received.iter().find_map(|received| match received {
                Received::Reply(Reply { body: ReplyBody::Subscribed(subscribed), .. }) => {
                    Some(subscribed.position.offset)
                }
                _ => None,
            });
            let first = subscribed.expect("subscribed") as u32 + 1;
            assert_eq!(got, (first..=10).collect::<Vec<_>>(), "member {member}");
        }
        for leaver in left {
            let got = net.take_messages(leaver);
            assert!(got.windows(2).all(|w| w[0].parse::<u32>().ok() < w[1].parse().ok()), "{leaver}: {got:?}");
        }
    }
}

#[test]
fn a_narrow_link_between_shards_delays_and_loses_nothing() {
    let limits = Limits { link_bytes_max: 900, ..Limits::default() };
    let mut net = Net::with(3, limits, open_rules());
    let ada = net.connect(0);
    let members: Vec<usize> = (0..6).map(|i| net.connect(i)).collect();
    for member in &members {
        net.subscribe(*member, "chat:a");
    }
    for number in 1..=50 {
        net.send_only(ada, publish("chat:a", &number.to_string()));
    }
    net.settle();
    for member in members {
        assert_eq!(net.take_messages(member), numbers(1..=50), "member {member}");
    }
}

/// One member reads to the top by itself. The others of its edge still miss what their link had no room for.
#[test]
fn an_edge_is_nudged_also_where_one_of_its_members_has_caught_up() {
    let mut net =
        Net::with(2, Limits { link_bytes_max: 1, outbox_bytes_max: 2_000, ..Limits::default() }, open_rules());
    let name = net.channel_of(1);
    let (ada, bob, eve) = (net.connect(1), net.connect(0), net.connect(0));
    net.subscribe(bob, &name);
    net.subscribe(eve, &name);
    net.peers[bob].reads = false;
    net.publish_all(ada, &name, 1..=60);
    assert_eq!(net.take_messages(eve), numbers(1..=60));
    net.paused = true;
    while net.drain(bob) {}
    net.go_on_once(); // bob's question is on its way
    net.send_only(ada, publish(&name, "61"));
    net.send_only(ada, publish(&name, "62"));
    net.carry_from(0, 1);
    net.paused = false;
    net.peers[bob].reads = true;
    net.settle();
    assert_eq!(net.take_messages(bob), numbers(1..=62));
    assert_eq!(net.take_messages(eve), numbers(61..=62));
}

/// History does not hold signals: after a full link the latest of each client and event is delivered.
#[test]
fn the_latest_signal_of_each_event_comes_through_a_narrow_link() {
    let limits = Limits { link_bytes_max: 900, ..Limits::default() };
    let mut net = Net::with(3, limits, open_rules());
    let ada = net.connect(0);
    let members: Vec<usize> = (0..6).map(|i| net.connect(i)).collect();
    for member in [ada].iter().chain(&members) {
        net.subscribe(*member, "chat:a");
        net.take(*member);
    }
    for number in 1..=50 {
        for event in ["typing", "cursor"] {
            net.send_only(ada, signal("chat:a", event, &format!("\"{event} {number}\""), None));
        }
    }
    net.settle();
    let (mut shed, last) = (0, |event: &str| format!("\"{event} 50\""));
    for member in members {
        let got = signals(&net.take(member));
        for event in ["typing", "cursor"] {
            let of_event: Vec<u32> =
                got.iter().filter_map(|text| text.trim_matches('"').strip_prefix(event)?.trim().parse().ok()).collect();
            assert!(of_event.windows(2).all(|pair| pair[0] < pair[1]), "member {member}: {of_event:?}");
            assert!(got.contains(&last(event)), "member {member}: the latest is missing: {got:?}");
            shed += 50 - of_event.len();
        }
    }
    assert!(shed > 0, "the link was never full, so this shows nothing");
}
