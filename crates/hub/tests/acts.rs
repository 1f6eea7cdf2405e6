//! The application's operations on the members of a channel: joins, leaves and ends in one order with publications,
//! questions with answers, volatile publications and lists; over all shards, and for members that read late.

mod common;

use common::rooms::{CHANNEL, in_rooms, room, subscribed};
use common::*;
use fanfare_hub::*;

fn only(clients: &[ClientId]) -> Audience {
    Audience { only: clients.to_vec(), ..Audience::default() }
}

fn op(audience: Audience, op: MembersOp) -> AppCommand {
    AppCommand::Members(Box::new(MembersCommand { channel: channel(CHANNEL), audience, op }))
}

fn join(audience: Audience, name: &str) -> AppCommand {
    op(audience, MembersOp::Join { rooms: vec![room(name)] })
}

fn leave(audience: Audience, name: &str) -> AppCommand {
    op(audience, MembersOp::Leave { rooms: vec![room(name)] })
}

fn json(text: &str) -> Data {
    Data::Json(text.to_owned().into())
}

fn emit(audience: Audience, text: &str) -> AppCommand {
    let publish =
        Publish { channel: channel(CHANNEL), data: json(text), event: None, idempotency_key: None, echo: true };
    AppCommand::Publish { publish: Box::new(publish), audience: Some(Box::new(audience)), by: None }
}

fn ask(audience: Audience, token: u64) -> AppCommand {
    op(audience, MembersOp::Ask { data: json("\"?\""), token: AskToken(token), timeout_ms: 5_000 })
}

fn answer(id: u64, text: &str) -> Command {
    Command::Room(Box::new(RoomCommand::Answer { channel: channel(CHANNEL), id, data: json(text) }))
}

/// Commands on one shard, without waiting between them.
fn all(net: &mut Net, shard: usize, commands: Vec<AppCommand>) {
    let tokens: Vec<AppToken> = commands.into_iter().map(|command| net.app_only(shard, command)).collect();
    net.settle();
    for token in tokens {
        let answer = net.app_answer(token).expect("an answer");
        assert!(matches!(answer, AppAnswer::Published { .. } | AppAnswer::Done), "{answer:?}");
    }
}

/// The number of the question that a client was asked last.
fn question(net: &Net, peer: usize) -> Option<u64> {
    net.peers[peer].received.iter().rev().find_map(|received| match received {
        Received::Push(Push::Message { publication, .. }) => match publication.act.as_deref() {
            Some(Act::Ask(ask)) => Some(ask.id),
            _ => None,
        },
        _ => None,
    })
}

fn answers(net: &Net, token: u64) -> Option<(Vec<String>, u64, u64, bool)> {
    let (_, answers) = net.asked.iter().find(|(of, _)| *of == AskToken(token))?;
    let mut texts: Vec<String> =
        answers.answers.iter().map(|(_, data)| String::from_utf8_lossy(data.bytes()).into_owned()).collect();
    texts.sort();
    Some((texts, answers.asked, answers.left, answers.timed_out))
}

fn list(net: &mut Net, shard: usize, audience: Audience) -> Vec<(ClientId, Vec<String>)> {
    let AppAnswer::Members(members) = net.app(shard, op(audience, MembersOp::List)) else { panic!("no list") };
    let rooms = |info: &MemberInfo| info.rooms.iter().map(|room| room.as_str().to_owned()).collect();
    let mut list: Vec<_> = members.iter().map(|info| (info.client, rooms(info))).collect();
    list.sort();
    list
}

#[test]
fn joins_and_leaves_take_effect_in_program_order() {
    for shards in shard_counts() {
        for shard in 0..shards {
            let mut net = Net::new(shards);
            let [ada, bob, cem] = subscribed(&mut net);
            let ada_and_bob = only(&[net.client(ada), net.client(bob)]);
            let program = vec![
                emit(in_rooms(&["red"]), "0"),
                join(ada_and_bob.clone(), "red"),
                emit(in_rooms(&["red"]), "1"),
                join(in_rooms(&["red"]), "blue"),
                leave(only(&[net.client(bob)]), "red"),
                emit(in_rooms(&["red"]), "2"),
                emit(in_rooms(&["blue"]), "3"),
                leave(in_rooms(&["blue"]), "blue"),
                emit(in_rooms(&["blue"]), "4"),
                join(Audience::default(), "all"),
                emit(in_rooms(&["all"]), "5"),
                leave(Audience { except: vec![net.client(cem)], ..Audience::default() }, "all"),
                emit(in_rooms(&["all"]), "6"),
                emit(Audience { except_rooms: vec![room("all")], ..Audience::default() }, "7"),
            ];
            all(&mut net, shard, program);
            let got = [ada, bob, cem].map(|peer| net.take_messages(peer).join(" "));
            assert_eq!(got, ["1 2 3 5 7", "1 3 5 7", "5 6"], "shard {shard} of {shards}");
        }
    }
}

#[test]
fn the_end_of_members_is_in_order_and_the_last_that_they_see() {
    for shards in shard_counts() {
        let mut net = Net::new(shards);
        let [ada, bob, cem] = subscribed(&mut net);
        let (bob_alone, ada_and_bob) = (only(&[net.client(bob)]), only(&[net.client(ada), net.client(bob)]));
        all(
            &mut net,
            0,
            vec![
                join(ada_and_bob, "red"),
                emit(in_rooms(&["red"]), "1"),
                op(bob_alone, MembersOp::Disconnect { whole: false }),
                emit(Audience::default(), "2"),
                op(in_rooms(&["red"]), MembersOp::Disconnect { whole: true }),
                emit(Audience::default(), "3"),
            ],
        );
        let shown = |net: &Net, peer: usize| {
            let ends = net.peers[peer].received.iter().filter(|received| match received {
                Received::Push(Push::Message { publication, .. }) => {
                    publication.act.as_deref() == Some(&Act::Disconnect { whole: false })
                }
                _ => false,
            });
            ends.count()
        };
        assert_eq!([ada, bob, cem].map(|peer| shown(&net, peer)), [0, 1, 0]);
        assert_eq!([ada, bob, cem].map(|peer| net.peers[peer].closed), [Some(Disconnect::Kicked), None, None]);
        let got = [ada, bob, cem].map(|peer| net.take_messages(peer).join(" "));
        assert_eq!(got, ["1 2", "1 null", "2 3"], "with {shards} shards");
        let sessions: usize = net.shards.iter().map(|shard| shard.stats().sessions).sum();
        assert_eq!(sessions, 1);
        // The connection of one that was only sent away can begin anew.
        assert!(matches!(net.ask(bob, Command::Connect(Box::default())), ReplyBody::Connected(_)));
    }
}

#[test]
fn a_question_is_over_when_all_have_answered_or_left() {
    for shards in shard_counts() {
        let mut net = Net::new(shards);
        let [ada, bob, cem, dan] = subscribed(&mut net);
        let three = only(&[ada, bob, cem].map(|peer| net.client(peer)));
        all(&mut net, 0, vec![join(three, "red"), ask(in_rooms(&["red"]), 1)]);
        let ids = [ada, bob, cem, dan].map(|peer| question(&net, peer));
        let id = ids[0].expect("it is asked");
        assert_eq!(ids, [Some(id), Some(id), Some(id), None]);
        net.ask(ada, answer(id, "\"a\""));
        net.ask(ada, answer(id, "\"twice\""));
        net.ask(bob, answer(id + 1_000, "\"another question\""));
        net.ask(dan, answer(id, "\"was not asked\""));
        assert_eq!(answers(&net, 1), None, "two are missing");
        net.ask(bob, answer(id, "\"b\""));
        net.cut(cem);
        assert_eq!(answers(&net, 1), Some((vec!["\"a\"".into(), "\"b\"".into()], 3, 1, false)));
        // Nobody is asked, so nobody is waited for.
        all(&mut net, shards - 1, vec![ask(in_rooms(&["nobody"]), 2)]);
        assert_eq!(answers(&net, 2), Some((vec![], 0, 0, false)));
        // The numbers of two shards and of two questions differ.
        for shard in 0..shards {
            let dan_alone = only(&[net.client(dan)]);
            all(&mut net, shard, vec![ask(dan_alone, 10 + shard as u64)]);
            assert_ne!(question(&net, dan), Some(id));
            let id = question(&net, dan).expect("it is asked");
            net.ask(dan, answer(id, "1"));
            assert!(answers(&net, 10 + shard as u64).is_some());
        }
        let held: usize = net.shards.iter().map(|shard| shard.held().pending).sum();
        assert_eq!(held, 0);
    }
}

#[test]
fn the_time_of_a_question_ends_and_its_answers_so_far_are_given() {
    let mut net = Net::new(2);
    let [ada, bob] = subscribed(&mut net);
    all(&mut net, 0, vec![ask(Audience::default(), 1)]);
    let id = question(&net, ada).expect("it is asked");
    net.ask(bob, answer(id, "1"));
    net.pass(4_000);
    assert_eq!(answers(&net, 1), None);
    net.pass(2_000);
    assert_eq!(answers(&net, 1), Some((vec!["1".into()], 2, 0, true)));
    net.ask(ada, answer(id, "2")); // too late for anybody
    net.cut(ada);
    assert_eq!(net.asked.len(), 1);
}

/// The asker waits for longer than it said first, for less, or not at all.
#[test]
fn the_time_of_a_question_can_be_changed() {
    for shards in shard_counts() {
        let mut net = Net::new(shards);
        let [ada] = subscribed(&mut net);
        all(&mut net, 0, vec![ask(Audience::default(), 1), ask(Audience::default(), 2), ask(Audience::default(), 3)]);
        let until = |net: &mut Net, token, timeout_ms| {
            net.input(0, Input::AskUntil { token: AskToken(token), timeout_ms });
            net.settle();
        };
        let id = question(&net, ada).expect("it is asked");
        until(&mut net, 1, 0);
        assert_eq!(answers(&net, 1), Some((vec![], 1, 0, true)));
        until(&mut net, 2, 1_000);
        until(&mut net, 3, 60_000);
        net.pass(2_000);
        assert_eq!((answers(&net, 2), answers(&net, 3)), (Some((vec![], 1, 0, true)), None));
        net.pass(20_000);
        assert_eq!(answers(&net, 3), None, "its first time is over, and it got more");
        net.ask(ada, answer(id, "3"));
        assert_eq!(answers(&net, 3), Some((vec!["3".into()], 1, 0, false)));
        until(&mut net, 3, 0);
        assert_eq!(net.asked.len(), 3, "it finds nothing");
        assert_eq!(net.shards[0].held().pending, 0, "nothing is kept for any of them");
    }
}

#[test]
fn questions_are_bounded() {
    let limits = Limits { asked_max: 3, ..Limits::default() };
    let mut net = Net::with(1, limits, open_rules());
    let [ada] = subscribed(&mut net);
    all(&mut net, 0, (0..3).map(|token| ask(Audience::default(), token)).collect());
    let refused = net.app(0, ask(Audience::default(), 9));
    assert!(matches!(refused, AppAnswer::Error(error) if error.code == ErrorCode::Unavailable));
    let id = question(&net, ada).expect("it is asked");
    net.ask(ada, answer(id, "1"));
    all(&mut net, 0, vec![ask(Audience::default(), 10)]);
    // A client that never answers holds a bounded number of them.
    let limits = Limits { asked_max: 1_000, ..Limits::default() };
    let mut net = Net::with(1, limits, open_rules());
    subscribed::<1>(&mut net);
    all(&mut net, 0, (0..300).map(|token| ask(Audience::default(), token)).collect());
    assert_eq!(net.asked.len(), 300 - 256, "the oldest count as not to be answered");
}

/// A member that reads too slowly has joins, questions and its end in the order of its reading.
#[test]
fn a_slow_member_comes_to_the_acts_in_its_pages() {
    let limits = Limits { outbox_bytes_max: 500, page_bytes_max: 2_000, ..Limits::default() };
    for shards in [1, 2] {
        let mut net = Net::with(shards, limits.clone(), open_rules());
        let [ada, bob] = subscribed(&mut net);
        let (ada_alone, long) = (only(&[net.client(ada)]), format!("\"{}\"", "x".repeat(200)));
        net.peers[ada].reads = false;
        let mut program: Vec<AppCommand> = (0..20).map(|_| emit(Audience::default(), &long)).collect();
        program.extend([
            emit(in_rooms(&["red"]), "\"before\""),
            join(ada_alone.clone(), "red"),
            emit(in_rooms(&["red"]), "\"in\""),
            leave(in_rooms(&["red"]), "red"),
            emit(in_rooms(&["red"]), "\"after\""),
            join(ada_alone.clone(), "blue"),
            ask(in_rooms(&["blue"]), 1),
            ask(ada_alone.clone(), 2),
            emit(in_rooms(&["blue"]), "\"last\""),
            op(ada_alone, MembersOp::Disconnect { whole: false }),
            emit(Audience::default(), "\"never\""),
        ]);
        all(&mut net, 0, program);
        assert_eq!(net.take_messages(bob).len(), 21);
        assert!(net.peers[ada].received.len() < 10);
        net.read_again(ada);
        let got: Vec<String> = net.take_messages(ada).into_iter().filter(|text| *text != long).collect();
        assert_eq!(got, ["\"in\"", "\"?\"", "\"?\"", "\"last\"", "null"], "with {shards} shards");
        assert_eq!(answers(&net, 2), Some((vec![], 1, 1, false)));
    }
}

#[test]
fn volatile_publications_are_in_order_for_those_that_read_and_in_no_history() {
    for shards in shard_counts() {
        let mut net = Net::new(shards);
        let [ada, bob, cem] = subscribed(&mut net);
        net.peers[cem].reads = false;
        let volatile = |audience, text: &str| op(audience, MembersOp::Volatile { data: json(text) });
        let [ada_alone, cem_alone] = [ada, cem].map(|peer| only(&[net.client(peer)]));
        let ada_and_cem = only(&[net.client(ada), net.client(cem)]);
        all(&mut net, 0, vec![emit(cem_alone, &format!("\"{}\"", "y".repeat(60 << 10))); 6]);
        all(
            &mut net,
            0,
            vec![
                join(ada_and_cem, "red"),
                join(ada_alone, "blue"),
                emit(Audience::default(), "1"),
                volatile(in_rooms(&["red", "blue"]), "2"),
                emit(Audience::default(), "3"),
                leave(in_rooms(&["red"]), "red"),
                volatile(in_rooms(&["red"]), "4"),
                volatile(Audience::default(), "5"),
            ],
        );
        let texts = |net: &Net, peer: usize| -> Vec<String> {
            let text = |publication: &Publication| String::from_utf8_lossy(publication.data.bytes()).into_owned();
            let received = net.peers[peer].received.iter();
            received
                .filter_map(|received| match received {
                    Received::Push(Push::Message { publication, .. } | Push::Volatile { publication, .. }) => {
                        Some(text(publication)).filter(|text| text.len() < 10)
                    }
                    _ => None,
                })
                .collect()
        };
        assert_eq!(texts(&net, ada), ["1", "2", "3", "5"]);
        assert_eq!(texts(&net, bob), ["1", "3", "5"]);
        net.read_again(cem);
        assert_eq!(texts(&net, cem), ["1", "3"], "what was volatile is lost for a slow one");
        let AppAnswer::History(history) = net.app(
            0,
            AppCommand::History {
                channel: channel(CHANNEL),
                query: HistoryQuery { from: HistoryFrom::Newest, limit: 2 },
            },
        ) else {
            panic!("no history")
        };
        assert_eq!(history.publications.iter().filter(|entry| entry.is_shown()).count(), 1);
    }
}

#[test]
fn a_list_has_the_members_of_all_shards_with_their_rooms_in_order() {
    for shards in shard_counts() {
        let mut net = Net::new(shards);
        assert_eq!(list(&mut net, 0, Audience::default()), []);
        let [ada, bob, cem] = subscribed(&mut net);
        let [ada_id, bob_id, cem_id] = [ada, bob, cem].map(|peer| net.client(peer));
        for name in ["z", "a", "m"] {
            net.app_only(0, join(only(&[ada_id, bob_id]), name));
        }
        net.app_only(0, leave(only(&[bob_id]), "a"));
        net.app_only(0, join(only(&[bob_id]), "a"));
        let names = |names: &[&str]| names.iter().map(|name| name.to_string()).collect::<Vec<_>>();
        let mut expected = vec![(ada_id, names(&["z", "a", "m"])), (bob_id, names(&["z", "m", "a"])), (cem_id, vec![])];
        expected.sort();
        assert_eq!(list(&mut net, 0, Audience::default()), expected, "with {shards} shards");
        assert_eq!(list(&mut net, 0, only(&[cem_id])), [(cem_id, vec![])]);
        expected.retain(|(client, _)| *client != cem_id);
        assert_eq!(list(&mut net, shards - 1, in_rooms(&["z"])), expected);
        assert_eq!(
            list(&mut net, 0, in_rooms(&["z", "a", "m"])),
            expected,
            "one in several of the rooms is in it once"
        );
        assert_eq!(list(&mut net, 0, in_rooms(&["nobody"])), []);
    }
}

/// A client's own join waits behind an act that waits for its turn.
#[test]
fn a_clients_join_does_not_overtake_an_act_before_it() {
    let limits = Limits { fanout_slice: 1, ..Limits::default() };
    let mut net = Net::with(1, limits, open_rules());
    let [ada, _bob, _cem] = subscribed(&mut net);
    let ada_alone = only(&[net.client(ada)]);
    all(&mut net, 0, vec![join(ada_alone, "red")]);
    net.paused = true;
    for _ in 0..5 {
        net.app_only(0, emit(Audience::default(), "0"));
    }
    net.app_only(0, leave(Audience::default(), "red"));
    let join = RoomCommand::Join { channel: channel(CHANNEL), room: room("red") };
    let id = net.send_only(ada, Command::Room(Box::new(join)));
    net.paused = false;
    net.settle();
    assert_eq!(net.answer_to(ada, id), Some(ReplyBody::Done));
    net.take(ada);
    all(&mut net, 0, vec![emit(in_rooms(&["red"]), "1")]);
    assert_eq!(net.take_messages(ada), ["1"]);
}

#[test]
fn operations_are_in_order_also_where_the_store_answers_late() {
    let mut net = Net::with_late_store(2, Limits::default());
    let peer = net.connect(0);
    net.subscribe_late(peer, CHANNEL);
    net.take(peer);
    let me = only(&[net.client(peer)]);
    for command in [
        join(me.clone(), "red"),
        emit(in_rooms(&["red"]), "1"),
        leave(me.clone(), "red"),
        emit(in_rooms(&["red"]), "2"),
        ask(me.clone(), 1),
        op(me, MembersOp::Disconnect { whole: false }),
        emit(Audience::default(), "3"),
    ] {
        net.app_only(1, command);
    }
    for _ in 0..30 {
        net.settle();
        net.answer_all();
    }
    net.settle();
    assert_eq!(net.take_messages(peer), ["1", "\"?\"", "null"]);
    assert_eq!(answers(&net, 1), Some((vec![], 1, 1, false)));
}

/// A recovery reads from before a join that was done already, and after which the member has left.
#[test]
fn a_recovery_does_not_do_again_what_was_done() {
    for shards in shard_counts() {
        let mut net = Net::new(shards);
        let [bob] = subscribed(&mut net);
        let ada = net.connect(0);
        let kept = || vec![SubOptions { keep: true, ..SubOptions::new(channel(CHANNEL)) }];
        net.subscribe_with(ada, kept().remove(0));
        let (ada_alone, id) = (only(&[net.client(ada)]), net.client(ada));
        all(&mut net, 0, vec![join(ada_alone.clone(), "red"), join(ada_alone.clone(), "blue")]);
        net.ask(ada, common::rooms::leave("red"));
        net.cut(ada);
        all(&mut net, 0, vec![leave(ada_alone, "blue"), emit(in_rooms(&["red", "blue"]), "1")]);
        let again = net.resume(ada, 1, kept());
        assert_eq!(net.client(again), id);
        all(&mut net, shards - 1, vec![emit(in_rooms(&["red", "blue"]), "2"), emit(only(&[id]), "3")]);
        assert_eq!(net.take_messages(again), ["3"], "with {shards} shards");
        assert_eq!(net.take_messages(bob).len(), 0);
    }
}
