//! Presence, signals and sessions that come back: the entries of a channel, the notices of changes, and the state that
//! a resumed session keeps.

mod common;
use bytes::Bytes;
use common::*;
use fanfare_hub::*;

fn presence(net: &mut Net, peer: usize, name: &str) -> (u64, Option<Vec<ClientId>>) {
    match net.ask(peer, Command::Presence { channel: channel(name) }) {
        ReplyBody::Presence { snapshot, .. } => {
            (snapshot.count, snapshot.entries.map(|entries| entries.iter().map(|e| e.client).collect()))
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn entering_changing_and_leaving_is_told_to_who_wants_it() {
    for shards in shard_counts() {
        let mut net = Net::new(shards);
        let (ada, bob) = (net.connect(0), net.connect(1));
        net.subscribe(ada, "chat:a");
        net.subscribe_with(bob, with_presence("chat:a"));
        for (command, kind) in [
            (enter("chat:a", "1"), PresenceKind::Join),
            (enter("chat:a", "2"), PresenceKind::Update),
            (Command::PresenceClear { channel: channel("chat:a") }, PresenceKind::Leave),
        ] {
            net.take(bob);
            assert_eq!(net.ask(ada, command), ReplyBody::Done);
            assert_eq!(presence_changes(&net.take(bob)), [(kind, net.client(ada))]);
        }
        assert_eq!(presence_changes(&net.take(ada)), [], "ada did not ask for it");
        let outside = net.connect(2);
        assert_eq!(error_code(&net.ask(outside, enter("chat:a", "1"))), ErrorCode::NotSubscribed);
    }
}

fn enter_as(name: &str, person: &str) -> Command {
    Command::PresenceSet { channel: channel(name), data: Bytes::from_static(b"{}"), person: Some(person.into()) }
}

/// Whether this is a leave, and whether the person is still there.
fn leaves(received: &[Received]) -> Vec<(ClientId, bool)> {
    let leave =
        |push: &PresencePush| (push.kind == PresenceKind::Leave).then_some((push.entry.client, push.still_there));
    received
        .iter()
        .filter_map(|received| match received {
            Received::Push(Push::Presence(push)) => leave(push),
            _ => None,
        })
        .collect()
}

/// In each way to leave: by a command, by the end of the subscription, by a cut connection.
#[test]
fn a_person_is_still_there_until_their_last_entry_ends() {
    for shards in shard_counts() {
        let mut net = Net::new(shards);
        let bob = net.connect(0);
        net.subscribe_with(bob, with_presence("chat:a"));
        let ada_is_user = Connect { user: Some(UserId("ada".into())), ..Connect::default() };
        let tabs: Vec<usize> = (0..5)
            .map(|n| {
                let tab = if n == 0 { net.connect_as(n, ada_is_user.clone()) } else { net.connect(n) };
                net.subscribe(tab, "chat:a");
                // A proven user counts as that user, whatever name the client claims. A client that claims the user's
                // name counts as that person among claims.
                let person = ["eve", "ada", "ada", "ada", "bo"][n];
                assert_eq!(net.ask(tab, enter_as("chat:a", person)), ReplyBody::Done);
                tab
            })
            .collect();
        let nobody = net.connect(1);
        net.subscribe(nobody, "chat:a");
        net.ask(nobody, enter("chat:a", "1"));
        net.take(bob);
        net.ask(tabs[0], unsubscribe("chat:a"));
        net.ask(tabs[1], Command::PresenceClear { channel: channel("chat:a") });
        net.cut(tabs[2]);
        net.pass(11_000);
        net.ask(nobody, unsubscribe("chat:a"));
        net.ask(tabs[3], unsubscribe("chat:a"));
        net.ask(tabs[4], unsubscribe("chat:a"));
        let expected =
            [(tabs[0], true), (tabs[1], true), (tabs[2], true), (nobody, false), (tabs[3], false), (tabs[4], false)];
        assert_eq!(leaves(&net.take(bob)), expected.map(|(tab, still)| (net.client(tab), still)), "{shards} shards");
    }
}

#[test]
fn presence_outlives_a_short_cut_and_ends_with_the_grace() {
    for shards in shard_counts() {
        let mut net = Net::new(shards);
        let (ada, bob) = (net.connect(0), net.connect(1));
        net.subscribe(ada, "chat:a");
        net.subscribe_with(bob, with_presence("chat:a"));
        net.ask(ada, enter("chat:a", "1"));
        net.cut(ada);
        net.pass(9_000);
        assert_eq!(presence(&mut net, bob, "chat:a").0, 1);
        net.take(bob);
        net.pass(1_200);
        assert_eq!(presence_changes(&net.take(bob)), [(PresenceKind::Leave, net.client(ada))]);
    }
}

#[test]
fn a_resumed_session_stays_present_where_it_subscribes_again_on_whichever_shard() {
    for shards in shard_counts() {
        for landing in 0..shards {
            let mut net = Net::new(shards);
            let (ada, bob) = (net.connect(0), net.connect(1));
            for name in ["chat:a", "chat:b"] {
                net.subscribe(ada, name);
                net.subscribe_with(bob, with_presence(name));
                net.ask(ada, enter(name, "1"));
            }
            net.cut(ada);
            net.take(bob);
            let again = net.resume(ada, landing, vec![SubOptions::new(channel("chat:a"))]);
            assert_eq!(net.client(again), net.client(ada));
            assert_eq!(presence_changes(&net.take(bob)), [(PresenceKind::Leave, net.client(ada))], "chat:b is left");
            net.pass(15_000);
            assert_eq!(presence(&mut net, bob, "chat:a").1, Some(vec![net.client(ada)]), "the old grace means nothing");
        }
    }
}

#[test]
fn a_session_that_is_taken_up_elsewhere_closes_its_old_connection() {
    for shards in shard_counts() {
        let mut net = Net::new(shards);
        let ada = net.connect(0);
        net.subscribe(ada, "chat:a");
        let again = net.resume(ada, 1, vec![]);
        assert_eq!(net.peers[ada].closed, Some(Disconnect::Moved));
        assert_eq!(net.client(again), net.client(ada));
        let third = net.resume(again, 2, vec![]);
        assert_eq!(net.peers[again].closed, Some(Disconnect::Moved));
        assert_eq!(net.client(third), net.client(ada));
    }
}

/// A duplicated tab has its original's ticket and its own page.
#[test]
fn a_ticket_takes_an_open_session_over_for_the_page_that_opened_it_and_for_no_other() {
    for shards in shard_counts() {
        for landing in 0..shards {
            for other in [PageId::new("another"), None] {
                let mut net = Net::new(shards);
                let ada = net.connect(0);
                net.subscribe(ada, "chat:a");
                let resume = Some(Resume { shard: ShardId(0), client: net.client(ada) });
                let copy = Connect { resume, page: other.clone(), ..Connect::default() };
                let tab = net.connect_exactly(landing, copy.clone());
                assert_eq!(net.peers[ada].closed, None, "{other:?} on shard {landing} of {shards}");
                assert_ne!(net.client(tab), net.client(ada), "it has a session of its own");
                // The connection of the same page may be half open: its session is taken over at once.
                let again = net.resume(ada, landing, vec![]);
                assert_eq!(net.peers[ada].closed, Some(Disconnect::Moved));
                assert_eq!((net.client(again), net.peers[tab].closed), (net.client(ada), None));
                // A session without a connection goes to the first client with its ticket, and belongs to that client's
                // page from then on.
                net.cut(again);
                let resumed = net.connect_exactly(landing, copy);
                assert_eq!(net.client(resumed), net.client(ada));
                let late = net.resume(ada, 0, vec![]);
                assert_eq!(net.peers[resumed].closed, None);
                assert_ne!(net.client(late), net.client(ada));
            }
        }
    }
}

/// If neither client names a page, the server cannot know that they are the same page.
#[test]
fn clients_without_a_page_do_not_push_each_other_out() {
    for shards in shard_counts() {
        let mut net = Net::new(shards);
        let first = net.connect_exactly(0, Connect::default());
        let resume = Some(Resume { shard: ShardId(0), client: net.client(first) });
        let second = net.connect_exactly(1, Connect { resume, ..Connect::default() });
        assert_eq!(net.peers[first].closed, None);
        assert_ne!(net.client(second), net.client(first));
    }
}

/// With the default grace of 10 s the old ticket would be forgotten long before this session ends.
#[test]
fn a_session_is_found_by_an_older_ticket_as_long_as_it_lives() {
    for shards in shard_counts() {
        let limits = Limits { grace_ms: 120_000, ..Limits::default() };
        let mut net = Net::with(shards, limits, open_rules());
        let ada = net.connect(0);
        net.cut(ada);
        let lost = net.resume(ada, 1, vec![]);
        net.cut(lost); // before its client has the new ticket
        net.pass(110_000);
        let back = net.resume(ada, 2, vec![]);
        assert_eq!(net.client(back), net.client(ada), "{shards} shards");
    }
}

/// A client whose connection is cut before its answer arrives comes back with the previous shard's ticket, on any
/// shard.
#[test]
fn a_session_is_found_by_an_older_ticket_too() {
    for shards in shard_counts() {
        let mut net = Net::new(shards);
        let (watcher, first) = (net.connect(0), net.connect(0));
        net.subscribe_with(watcher, with_presence("chat:a"));
        net.subscribe(first, "chat:a");
        assert_eq!(net.ask(first, enter("chat:a", "1")), ReplyBody::Done);
        net.take(watcher);
        // From shard 0 to 1, 2, 0, 1 and 2, always with the ticket of shard 0.
        let mut before = first;
        for shard in [1, 2, 0, 1, 2] {
            net.cut(before);
            before = net.resume(first, shard, vec![SubOptions::new(channel("chat:a"))]);
            assert_eq!(net.client(before), net.client(first), "on shard {shard} of {shards}");
        }
        assert_eq!(presence_changes(&net.take(watcher)), [], "it has never been away");
        assert_eq!(presence(&mut net, before, "chat:a"), (1, Some(vec![net.client(first)])));
    }
}

#[test]
fn answers_to_an_earlier_connection_do_not_reach_the_one_that_resumed_it() {
    let mut net = Net::with_late_store(1, Limits::default());
    let ada = net.connect(0);
    net.send(ada, publish("chat:a", "1"));
    net.cut(ada);
    let again = net.resume(ada, 0, vec![]);
    net.take(again);
    net.answer_all();
    assert_eq!(net.take(again), []);
}

#[test]
fn beyond_a_size_only_the_count_is_told_and_names_come_back() {
    for shards in shard_counts() {
        let limits = Limits { presence_entries_max: 3, ..Limits::default() };
        let mut net = Net::with(shards, limits, open_rules());
        let watcher = net.connect(0);
        net.subscribe_with(watcher, with_presence("chat:a"));
        let crowd: Vec<usize> = (0..5).map(|i| net.connect(i)).collect();
        for peer in &crowd {
            net.subscribe(*peer, "chat:a");
            net.ask(*peer, enter("chat:a", "1"));
        }
        assert_eq!(presence_changes(&net.take(watcher)).len(), 3);
        net.pass(1_200);
        let received = net.take(watcher);
        assert!(
            matches!(received.last(), Some(Received::Push(Push::PresenceCount { count: 5, .. }))),
            "the count once a second: {received:?}"
        );
        assert_eq!(presence(&mut net, watcher, "chat:a"), (5, None));
        for peer in &crowd[..3] {
            net.ask(*peer, Command::PresenceClear { channel: channel("chat:a") });
        }
        net.take(watcher);
        net.pass(1_200);
        let received = net.take(watcher);
        let Some(Received::Push(Push::PresenceSnapshot { snapshot, .. })) = received.last() else {
            panic!("{received:?}")
        };
        assert_eq!((snapshot.count, snapshot.entries.as_ref().map(Vec::len)), (2, Some(2)));
    }
}

#[test]
fn names_are_told_only_while_all_of_them_fit_into_a_few_pages() {
    for shards in shard_counts() {
        let limits = Limits { page_bytes_max: 1_000, presence_bytes_max: 2_000, ..Limits::default() };
        let mut net = Net::with(shards, limits, open_rules());
        let watcher = net.connect(0);
        net.subscribe_with(watcher, with_presence("chat:a"));
        let text: &'static str = Box::leak(format!("{:?}", "x".repeat(1_500)).into_boxed_str());
        let crowd: Vec<usize> = (0..3).map(|i| net.connect(i)).collect();
        for peer in &crowd {
            net.subscribe(*peer, "chat:a");
            net.ask(*peer, enter("chat:a", text));
        }
        assert_eq!(presence_changes(&net.take(watcher)).len(), 2, "the third one is too much");
        assert_eq!(presence(&mut net, watcher, "chat:a"), (3, None));
        net.ask(crowd[0], enter("chat:a", "1"));
        net.pass(1_200);
        let received = net.take(watcher);
        let Some(Received::Push(Push::PresenceSnapshot { snapshot, .. })) = received.last() else {
            panic!("{received:?}")
        };
        assert_eq!((snapshot.count, snapshot.entries.as_ref().map(Vec::len)), (3, Some(3)), "there is room again");
    }
}

#[test]
fn presence_missed_while_full_comes_as_a_whole() {
    for shards in shard_counts() {
        let limits = Limits { outbox_bytes_max: 500, ..Limits::default() };
        let mut net = Net::with(shards, limits, open_rules());
        let (ada, bob) = (net.connect(0), net.connect(1));
        net.subscribe(ada, "chat:a");
        net.subscribe_with(bob, with_presence("chat:a"));
        net.peers[bob].reads = false;
        net.publish_all(ada, "chat:a", 1..=20);
        net.ask(ada, enter("chat:a", "1"));
        net.take(bob);
        net.read_again(bob);
        let received = net.take(bob);
        let whole = received.iter().find_map(|received| match received {
            Received::Push(Push::PresenceSnapshot { snapshot, .. }) => Some(snapshot.count),
            _ => None,
        });
        assert_eq!((whole, presence_changes(&received)), (Some(1), vec![]));
    }
}

#[test]
fn a_signal_reaches_everybody_but_its_sender() {
    for shards in shard_counts() {
        let mut net = Net::new(shards);
        let (ada, bob, eve) = (net.connect(0), net.connect(1), net.connect(2));
        net.subscribe(ada, "chat:a");
        net.subscribe(bob, "chat:a");
        let quiet = SubOptions { signals: false, ..SubOptions::new(channel("chat:a")) };
        net.subscribe_with(eve, quiet);
        assert_eq!(net.ask(ada, signal("chat:a", "typing", "1", None)), ReplyBody::Done);
        assert_eq!(signals(&net.take(bob)), ["1"]);
        assert_eq!(signals(&net.take(ada)), [""; 0]);
        assert_eq!(signals(&net.take(eve)), [""; 0], "she does not want them");
    }
}

/// Two clients. The second one is in these channels and does not read: publications fill its outbox.
fn with_full_outbox(shards: usize, channels: &[&str]) -> (Net, usize, usize) {
    let limits = Limits { outbox_bytes_max: 500, ..Limits::default() };
    let mut net = Net::with(shards, limits, open_rules());
    let (ada, bob) = (net.connect(0), net.connect(1));
    for name in channels {
        net.subscribe(bob, name);
    }
    net.peers[bob].reads = false;
    net.publish_all(ada, "chat:a", 1..=20);
    (net, ada, bob)
}

#[test]
fn under_backlog_the_latest_signal_of_each_client_and_event_wins() {
    for shards in shard_counts() {
        let (mut net, ada, bob) = with_full_outbox(shards, &["chat:a"]);
        net.take(bob);
        for number in 1..=5 {
            net.send(ada, signal("chat:a", "mouse", &number.to_string(), None));
            net.send(ada, signal("chat:a", "offer", &format!("1{number}"), Some(net.client(bob))));
        }
        assert_eq!(signals(&net.take(bob)), [""; 0]);
        net.read_again(bob);
        let mut got = signals(&net.take(bob));
        got.retain(|text| text.len() == 2);
        assert_eq!(got, ["11", "12", "13", "14", "15"], "directed ones are ordered and all there");
    }
}

#[test]
fn waiting_signals_of_the_moment_are_coalesced() {
    for shards in shard_counts() {
        let (mut net, ada, bob) = with_full_outbox(shards, &["chat:a"]);
        for number in 1..=5 {
            net.send(ada, signal("chat:a", "mouse", &number.to_string(), None));
        }
        net.take(bob);
        net.read_again(bob);
        assert_eq!(signals(&net.take(bob)), ["5"]);
    }
}

#[test]
fn a_directed_signal_reaches_its_client_or_is_answered_not_found() {
    for shards in shard_counts() {
        let mut net = Net::new(shards);
        let (ada, bob, eve) = (net.connect(0), net.connect(1), net.connect(2));
        for peer in [ada, bob, eve] {
            net.subscribe(peer, "chat:a");
        }
        let to_bob = signal("chat:a", "offer", "1", Some(net.client(bob)));
        assert_eq!(net.ask(ada, to_bob.clone()), ReplyBody::Done);
        assert_eq!((signals(&net.take(bob)), signals(&net.take(eve))), (vec!["1".to_owned()], vec![]));
        net.send(bob, unsubscribe("chat:a"));
        assert_eq!(error_code(&net.ask(ada, to_bob)), ErrorCode::NotFound);
        assert_eq!(error_code(&net.ask(ada, signal("chat:a", "offer", "1", Some(ClientId(1))))), ErrorCode::NotFound);
    }
}

#[test]
fn a_directed_signal_for_one_who_is_away_waits_until_it_has_subscribed_again() {
    for shards in shard_counts() {
        for landing in 0..shards {
            let mut net = Net::new(shards);
            let (ada, bob) = (net.connect(0), net.connect(1));
            net.subscribe(ada, "chat:a");
            net.subscribe(bob, "chat:a");
            net.ask(bob, enter("chat:a", "1"));
            net.cut(bob);
            assert_eq!(net.ask(ada, signal("chat:a", "offer", "1", Some(net.client(bob)))), ReplyBody::Done);
            let again = net.resume(bob, landing, vec![SubOptions::new(channel("chat:a"))]);
            let received = net.take(again);
            let place = |wanted: fn(&Received) -> bool| received.iter().position(wanted).expect("received");
            let subscribed =
                place(|received| matches!(received, Received::Reply(Reply { body: ReplyBody::Subscribed(_), .. })));
            assert!(subscribed < place(|received| matches!(received, Received::Push(Push::Signal(_)))), "{received:?}");
        }
    }
}

/// The client comes back on every shard in turn. Its channels are live one after the other, and each gets its own
/// signals, in order.
#[test]
fn signals_of_two_channels_wait_for_one_who_is_away_and_follow_it_to_any_shard() {
    for shards in shard_counts() {
        let mut net = Net::new(shards);
        let (ada, mut bob) = (net.connect(0), net.connect(1));
        for name in ["chat:a", "chat:b"] {
            net.subscribe(ada, name);
            net.subscribe(bob, name);
            net.ask(bob, enter(name, "1"));
        }
        for landing in (0..shards).chain(0..shards) {
            net.cut(bob);
            let to = Some(net.client(bob));
            for (name, json) in [("chat:a", "1"), ("chat:b", "2"), ("chat:a", "3"), ("chat:b", "4")] {
                assert_eq!(net.ask(ada, signal(name, "offer", json, to)), ReplyBody::Done);
            }
            bob = net.resume(bob, landing, ["chat:b", "chat:a"].map(|name| SubOptions::new(channel(name))).into());
            let received = net.take(bob);
            let of = |name: &str| -> Vec<String> {
                let is_its =
                    |it: &&Received| matches!(it, Received::Push(Push::Signal(push)) if *push.signal.channel == *name);
                signals(&received.iter().filter(is_its).cloned().collect::<Vec<_>>())
            };
            assert_eq!(of("chat:a"), ["1", "3"], "on shard {landing} of {shards}");
            assert_eq!(of("chat:b"), ["2", "4"], "on shard {landing} of {shards}");
        }
    }
}

/// Signals of the moment from one client, with one event, on two channels of a slow reader.
#[test]
fn a_signal_that_waits_is_replaced_only_by_a_later_one_of_its_channel() {
    for shards in shard_counts() {
        let (mut net, ada, bob) = with_full_outbox(shards, &["chat:a", "chat:b"]);
        for number in 1..=4 {
            let name = if number % 2 == 0 { "chat:a" } else { "chat:b" };
            net.send(ada, signal(name, "mouse", &number.to_string(), None));
        }
        net.take(bob);
        net.read_again(bob);
        let mut got = signals(&net.take(bob));
        got.sort_unstable();
        assert_eq!(got, ["3", "4"]);
    }
}

#[test]
fn presence_is_judged_anew_when_the_rules_change() {
    for shards in shard_counts() {
        let rows = [
            Rule { presence: PresenceMode::Off, ..open_rule("**") },
            Rule { enter: vec![Who::Authenticated], ..open_rule("**") },
        ];
        for rule in rows {
            let mut net = Net::new(shards);
            let (ada, away, bob) = (net.connect(0), net.connect(1), net.connect(2));
            for peer in [ada, away] {
                net.subscribe(peer, "chat:a");
                net.ask(peer, enter("chat:a", "1"));
            }
            net.subscribe_with(bob, with_presence("chat:a"));
            net.cut(away);
            net.take(bob);
            net.reload(Rules::new(vec![rule.clone()]));
            let received = net.take(bob);
            match rule.presence {
                PresenceMode::Off => assert!(
                    matches!(&received[..], [Received::Push(Push::PresenceSnapshot { snapshot, .. })] if snapshot.entries == Some(vec![])),
                    "{received:?}"
                ),
                _ => assert_eq!(presence_changes(&received).len(), 2, "{received:?}"),
            }
            net.reload(open_rules());
            assert_eq!(presence(&mut net, bob, "chat:a").0, 0, "what was ended does not come back by itself");
            let back = net.resume(away, 0, vec![SubOptions::new(channel("chat:a"))]);
            assert_eq!(presence(&mut net, bob, "chat:a").0, 0);
            net.ask(back, enter("chat:a", "1"));
            assert_eq!(presence(&mut net, bob, "chat:a").0, 1);
        }
    }
}

#[test]
fn a_client_without_signals_gets_no_directed_ones_either_and_their_sender_learns_it() {
    for shards in shard_counts() {
        let mut net = Net::new(shards);
        let (ada, bob) = (net.connect(0), net.connect(1));
        net.subscribe(ada, "chat:a");
        net.subscribe_with(bob, SubOptions { signals: false, ..SubOptions::new(channel("chat:a")) });
        net.take(bob);
        let to_bob = signal("chat:a", "offer", "1", Some(net.client(bob)));
        assert_eq!(error_code(&net.ask(ada, to_bob)), ErrorCode::NotFound);
        assert_eq!(net.take(bob), []);
    }
}

/// Connects with a token that allows these channels.
fn connect_with_token(net: &mut Net, shard: usize, connect: Connect, granted: &[&str]) -> usize {
    let peer = net.open(shard);
    let connect = Connect { token: Some("t".into()), page: connect.page.clone().or(the_page()), ..connect };
    let id = net.send(peer, Command::Connect(Box::new(connect)));
    net.answer(HookAnswer::Identity(good_for(granted)));
    let Some(ReplyBody::Connected(connected)) = net.answer_to(peer, id) else { panic!("not connected") };
    net.peers[peer].client = Some(connected.client);
    peer
}

fn good_for(granted: &[&str]) -> Identified {
    let subscribe = granted.iter().map(|name| channel(name)).collect();
    Identified { user: Some(UserId("ada".into())), subscribe, ..Identified::default() }
}

/// The entry ends with its subscription even if the client does not learn of that. The client then enters again, which
/// is no news to others if the entry is still there.
#[test]
fn presence_ends_with_a_subscription_that_a_newer_token_ended_whether_or_not_its_client_hears_of_it() {
    for shards in shard_counts() {
        for landing in 0..shards {
            let subscribe = vec![Pattern::new("chat:*").expect("valid")];
            let hooks = Hooks { connect: true, subscribe, ..Hooks::default() };
            let mut net = Net::with_hooks(shards, Limits::default(), open_rules(), hooks);
            let watcher = connect_with_token(&mut net, 1, Connect::default(), &["chat:a"]);
            let ada = connect_with_token(&mut net, 0, Connect::default(), &["chat:a"]);
            net.ask(ada, enter("chat:a", "1"));
            assert_eq!(presence(&mut net, watcher, "chat:a").0, 1);
            net.send(ada, Command::Refresh { token: "less".into() });
            net.answer(HookAnswer::Identity(good_for(&[])));
            net.cut(ada);
            assert_eq!(presence(&mut net, watcher, "chat:a").0, 0);

            let resume = Some(Resume { shard: ShardId(0), client: net.client(ada) });
            let connect =
                Connect { resume, page: the_page(), subscribe: vec![with_presence("chat:a")], ..Connect::default() };
            let again = connect_with_token(&mut net, landing, connect, &["chat:a"]);
            assert_eq!(net.client(again), net.client(ada), "the session goes on");
            assert_eq!(presence(&mut net, watcher, "chat:a").0, 0);
            net.take(again);
            for _ in 0..2 {
                net.ask(again, enter("chat:a", "1"));
            }
            assert_eq!(presence_changes(&net.take(again)), [(PresenceKind::Join, net.client(ada))], "once");
        }
    }
}

/// The client is refused, and is cut off before the refusal arrives.
#[test]
fn presence_ends_with_a_subscription_that_is_refused_after_a_cut() {
    for shards in shard_counts() {
        let mut net = Net::new(shards);
        let (watcher, ada) = (net.connect(1), net.connect(0));
        net.subscribe(watcher, "chat:a");
        net.subscribe(ada, "chat:a");
        net.ask(ada, enter("chat:a", "1"));
        net.cut(ada);
        net.reload(Rules::new(vec![Rule { subscribe: vec![], enter: vec![Who::Anyone], ..open_rule("**") }]));
        let again = net.resume(ada, 2, vec![SubOptions::new(channel("chat:a"))]);
        net.cut(again);
        net.reload(open_rules());
        let third = net.resume(again, 1, vec![SubOptions::new(channel("chat:a"))]);
        assert_eq!(net.client(third), net.client(ada), "the session goes on");
        assert_eq!(presence(&mut net, third, "chat:a").0, 0);
    }
}

/// The home has newer rules than the edge. An entry that the home refused is not repeated when the session comes back.
#[test]
fn an_entry_that_the_home_refuses_does_not_come_with_the_session() {
    let mut net = Net::new(3);
    let name = net.channel_of(1);
    let ada = net.connect(0);
    net.subscribe(ada, &name);
    let without = Rules::new(vec![Rule { presence: PresenceMode::Off, ..open_rule("**") }]);
    net.input(1, Input::Reload(std::sync::Arc::new(without)));
    assert_eq!(error_code(&net.ask(ada, enter(&name, "1"))), ErrorCode::Denied);
    net.input(1, Input::Reload(std::sync::Arc::new(open_rules())));
    net.cut(ada);
    let again = net.resume(ada, 2, vec![SubOptions::new(channel(&name))]);
    assert_eq!(presence(&mut net, again, &name).0, 0);
}

/// The client's shard has no other subscriber of the channel, and the grace is longer than an edge lingers.
#[test]
fn a_directed_signal_waits_for_one_who_is_away_as_long_as_the_grace() {
    for shards in shard_counts() {
        for landing in 0..shards {
            let mut net = Net::new(shards);
            let (ada, bob) = (net.connect(0), net.connect(1));
            net.subscribe(ada, "chat:a");
            net.subscribe(bob, "chat:a");
            assert_eq!(net.ask(ada, enter("chat:a", "1")), ReplyBody::Done);
            net.cut(ada);
            net.pass(9_000);
            let signal = Signal {
                channel: channel("chat:a"),
                event: "offer".into(),
                data: Bytes::from_static(b"1"),
                to: Some(net.client(ada)),
            };
            assert_eq!(net.ask(bob, Command::Signal(Box::new(signal))), ReplyBody::Done, "{shards} shards");
            let again = net.resume(ada, landing, vec![SubOptions::new(channel("chat:a"))]);
            let received = net.take(again);
            assert!(
                received.iter().any(|received| matches!(received, Received::Push(Push::Signal(_)))),
                "{received:?}"
            );
            // The edge is kept no longer than that.
            net.cut(again);
            net.cut(bob);
            net.pass(23_000);
            assert!(net.shards.iter().all(|shard| shard.stats().edges == 0));
        }
    }
}

/// The same until the grace is over, at whatever time of the clock it began.
#[test]
fn a_directed_signal_waits_for_one_who_is_away_until_the_end_of_the_grace() {
    for shards in shard_counts() {
        for later_ms in [0, 250, 500, 750, 999] {
            let mut net = Net::new(shards);
            let (ada, bob) = (net.connect(0), net.connect(1));
            net.subscribe(ada, "chat:a");
            net.subscribe(bob, "chat:a");
            assert_eq!(net.ask(ada, enter("chat:a", "1")), ReplyBody::Done);
            net.pass(later_ms);
            net.cut(ada);
            net.pass(9_950);
            let to = Some(net.client(ada));
            let answer = net.ask(bob, signal("chat:a", "offer", "1", to));
            assert_eq!(answer, ReplyBody::Done, "{shards} shards, {later_ms} ms later");
        }
    }
}

/// Over HTTP a late change of an earlier subscription may come after the presence of a new one.
#[test]
fn the_numbers_of_presence_go_on_where_nobody_has_used_a_channel_for_a_while() {
    for shards in shard_counts() {
        let mut net = Net::new(shards);
        let ada = net.connect(0);
        let number = |net: &mut Net| match net.ask(ada, Command::Presence { channel: channel("chat:a") }) {
            ReplyBody::Presence { snapshot, .. } => (snapshot.seq, snapshot.count),
            other => panic!("{other:?}"),
        };
        net.subscribe(ada, "chat:a");
        net.ask(ada, enter("chat:a", "1"));
        net.ask(ada, enter("chat:a", "2"));
        net.ask(ada, unsubscribe("chat:a"));
        let (mut last, count) = number(&mut net);
        assert_eq!(count, 0);
        for round in 1..3 {
            net.pass(5_000); // its home is gone
            net.all_alive();
            assert!(
                number(&mut net).0 >= last,
                "in round {round} numbers begin at {:?}, after {last}",
                number(&mut net)
            );
            net.subscribe(ada, "chat:a");
            net.ask(ada, enter("chat:a", "3"));
            assert!(number(&mut net).0 > last, "in round {round}");
            net.ask(ada, unsubscribe("chat:a"));
            last = number(&mut net).0;
        }
    }
}

/// It has left by a command, so its session does not bring it back.
#[test]
fn one_that_has_left_does_not_come_back_with_its_session() {
    for shards in shard_counts() {
        let mut net = Net::new(shards);
        let (ada, bob) = (net.connect(0), net.connect(1));
        net.subscribe(ada, "chat:a");
        net.subscribe(bob, "chat:a");
        net.ask(ada, enter("chat:a", "1"));
        assert_eq!(net.ask(ada, Command::PresenceClear { channel: channel("chat:a") }), ReplyBody::Done);
        net.cut(ada);
        net.resume(ada, 1, vec![SubOptions::new(channel("chat:a"))]);
        assert_eq!(presence(&mut net, bob, "chat:a"), (0, Some(vec![])), "with {shards} shards");
    }
}

/// One that changes its data has been there as long as before.
#[test]
fn those_present_are_listed_in_the_order_in_which_they_came() {
    for shards in shard_counts() {
        let mut net = Net::new(shards);
        let peers: Vec<usize> = (0..5).map(|n| net.connect(n)).collect();
        for &peer in &peers {
            net.subscribe(peer, "chat:a");
            net.ask(peer, enter("chat:a", "1"));
        }
        for peer in [peers[3], peers[0]] {
            net.ask(peer, enter("chat:a", "2"));
        }
        let all = peers.iter().map(|&peer| net.client(peer)).collect();
        assert_eq!(presence(&mut net, peers[0], "chat:a"), (5, Some(all)), "with {shards} shards");
    }
}
