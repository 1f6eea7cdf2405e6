//! Messages of different shards overtake each other: whatever arrives first, presence ends in the state of the
//! sessions.
//!
//! In each test a session moves from shard 0 to shard 2, and the channel lives on shard 1. Shard 0's messages about the
//! session arrive after later ones of shard 2.

mod common;
use common::*;
use fanfare_hub::*;

/// Three shards: a client on shard 0 that is subscribed to a channel of shard 1, and a client on shard 1 that watches
/// it.
fn world(limits: Limits) -> (Net, String, usize, usize) {
    let mut net = Net::with(3, limits, open_rules());
    let name = net.channel_of(1);
    let (mover, watcher) = (net.connect(0), net.connect(1));
    net.subscribe(mover, &name);
    net.subscribe_with(watcher, with_presence(&name));
    net.take(watcher);
    (net, name, mover, watcher)
}

/// Shard 2 takes over the session of `peer`. Shard 0's messages to shard 1 stay on their way.
fn move_to_two(net: &mut Net, peer: usize, subscribe: Vec<SubOptions>) -> usize {
    let resume = Some(Resume { shard: ShardId(0), client: net.client(peer) });
    let again = net.open(2);
    let connect = Connect { resume, page: the_page(), subscribe, ..Connect::default() };
    let id = net.send_only(again, Command::Connect(Box::new(connect)));
    net.carry_from(2, 0);
    net.carry_from(0, 2);
    let Some(ReplyBody::Connected(connected)) = net.answer_to(again, id) else { panic!("no answer to `connect`") };
    assert!(connected.resumed);
    net.peers[again].client = Some(connected.client);
    again
}

fn present(net: &mut Net, watcher: usize, name: &str) -> Vec<(ClientId, String)> {
    match net.ask(watcher, Command::Presence { channel: channel(name) }) {
        ReplyBody::Presence { snapshot, .. } => {
            let entries = snapshot.entries.unwrap_or_default();
            entries.iter().map(|e| (e.client, String::from_utf8_lossy(&e.data).into_owned())).collect()
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_session_that_left_after_moving_is_not_brought_back_by_what_it_said_before() {
    let (mut net, name, mover, watcher) = world(Limits::default());
    net.send_only(mover, enter(&name, "1"));
    // It does not subscribe again: its new shard reports that it has left.
    move_to_two(&mut net, mover, vec![]);
    net.carry_from(2, 1);
    net.carry_from(0, 1);
    net.settle();
    assert_eq!(present(&mut net, watcher, &name), []);
    assert_eq!(presence_changes(&net.take(watcher)), [], "it neither came nor went");
}

#[test]
fn a_leave_for_a_channel_that_nobody_uses_is_remembered_too() {
    let mut net = Net::with(3, Limits::default(), open_rules());
    let name = net.channel_of(1);
    let mover = net.connect(0);
    net.pass(5_000); // the home is gone
    let sub = Command::Subscribe { subs: vec![SubOptions::new(channel(&name))], many: false };
    net.send(mover, sub);
    net.send_only(mover, enter(&name, "1"));
    let again = move_to_two(&mut net, mover, vec![SubOptions::new(channel(&name))]);
    net.carry_from(2, 1);
    net.send_only(again, unsubscribe(&name));
    net.carry_from(2, 1);
    net.settle();
    assert_eq!(present(&mut net, again, &name), []);
}

#[test]
fn commands_before_a_move_do_not_end_those_after_it() {
    let (mut net, name, mover, watcher) = world(Limits::default());
    net.ask(mover, enter(&name, "1"));
    net.take(watcher);
    net.send_only(mover, Command::PresenceClear { channel: channel(&name) });
    let again = move_to_two(&mut net, mover, vec![SubOptions::new(channel(&name))]);
    net.carry_from(2, 1);
    net.carry_from(1, 2);
    net.send_only(again, enter(&name, "2"));
    net.carry_from(2, 1);
    net.carry_from(0, 1);
    net.settle();
    assert_eq!(present(&mut net, watcher, &name), [(net.client(mover), "2".to_owned())]);
    assert_eq!(presence_changes(&net.take(watcher)), [(PresenceKind::Update, net.client(mover))]);
}

#[test]
fn an_older_entry_does_not_replace_a_newer_one() {
    let (mut net, name, mover, watcher) = world(Limits::default());
    net.ask(mover, enter(&name, "1"));
    net.send_only(mover, enter(&name, "2"));
    let again = move_to_two(&mut net, mover, vec![SubOptions::new(channel(&name))]);
    net.carry_from(2, 1);
    net.carry_from(1, 2);
    net.send_only(again, enter(&name, "3"));
    net.carry_from(2, 1);
    net.carry_from(0, 1);
    net.settle();
    assert_eq!(present(&mut net, watcher, &name), [(net.client(mover), "3".to_owned())]);
}

#[test]
fn an_entry_that_was_never_heard_of_comes_along_with_its_session() {
    let (mut net, name, mover, watcher) = world(Limits::default());
    net.send_only(mover, enter(&name, "1"));
    move_to_two(&mut net, mover, vec![SubOptions::new(channel(&name))]);
    net.carry_from(2, 1);
    assert_eq!(presence_changes(&net.take(watcher)), [(PresenceKind::Join, net.client(mover))]);
    net.carry_from(0, 1);
    net.settle();
    assert_eq!(present(&mut net, watcher, &name), [(net.client(mover), "1".to_owned())]);
    assert_eq!(presence_changes(&net.take(watcher)), [], "it is the same entry");
}

#[test]
fn leaves_are_remembered_up_to_a_bound() {
    let limits = Limits { presence_left_max: 2, ..Limits::default() };
    let (mut net, name, mover, watcher) = world(limits);
    let others = [net.connect(1), net.connect(1)];
    for other in others {
        net.subscribe(other, &name);
        net.ask(other, enter(&name, "2"));
    }
    net.send_only(mover, enter(&name, "1"));
    move_to_two(&mut net, mover, vec![]);
    net.carry_from(2, 1);
    // The others come back and leave: the home remembers them, and no longer remembers the first one.
    for other in others {
        let resume = Some(Resume { shard: ShardId(1), client: net.client(other) });
        let again = net.open(1);
        let connect = Connect { resume, page: the_page(), ..Connect::default() };
        net.send_only(again, Command::Connect(Box::new(connect)));
    }
    net.carry_from(0, 1);
    net.settle();
    assert_eq!(present(&mut net, watcher, &name).len(), 1, "the bound is what it is");
}

/// Shard 2 has the new rules and shard 0 still has the old ones when the session moves from shard 0 to shard 2.
#[test]
fn a_session_that_comes_from_a_shard_with_older_rules_is_judged_by_the_newer_ones() {
    let (mut net, name, mover, watcher) = world(Limits::default());
    net.ask(mover, enter(&name, "1"));
    let closed = Rules::new(vec![Rule { enter: vec![Who::Authenticated], ..open_rule("**") }]);
    net.input(2, Input::Reload(std::sync::Arc::new(closed)));
    move_to_two(&mut net, mover, vec![SubOptions::new(channel(&name))]);
    net.settle();
    assert_eq!(present(&mut net, watcher, &name), []);
}

/// The same where the client is gone again when its session arrives: it does not stay present for the grace.
#[test]
fn a_session_whose_client_went_away_while_it_moved_is_judged_by_the_newer_rules() {
    let (mut net, name, mover, watcher) = world(Limits::default());
    let client = net.client(mover);
    assert_eq!(net.ask(mover, enter(&name, "1")), ReplyBody::Done);
    assert_eq!(present(&mut net, watcher, &name), [(client, "1".to_owned())]);
    let closed = Rules::new(vec![Rule { enter: vec![Who::Authenticated], ..open_rule("**") }]);
    net.input(2, Input::Reload(std::sync::Arc::new(closed)));
    let resume = Some(Resume { shard: ShardId(0), client });
    let brief = net.open(2);
    net.send_only(brief, Command::Connect(Box::new(Connect { resume, page: the_page(), ..Connect::default() })));
    net.cut(brief);
    net.settle();
    assert_eq!(present(&mut net, watcher, &name), []);
}

/// Every edge is asked for the receiver. The second edge gets its copy when the receiver has moved there with the
/// first.
#[test]
fn a_signal_for_a_client_that_moves_comes_once_and_never_after_a_later_one() {
    let (mut net, name, mover, _) = world(Limits::default());
    let (sender, stranger) = (net.connect(1), net.connect(2));
    for peer in [sender, stranger] {
        net.subscribe(peer, &name);
    }
    let to = Some(net.client(mover));
    // Both edges are asked; shard 0 answers for the first signal, and gets the second one too late.
    net.send_only(sender, signal(&name, "offer", "1", to));
    net.carry_from(1, 0);
    net.carry_from(0, 1);
    net.send_only(sender, signal(&name, "offer", "2", to));
    assert_eq!(signals(&net.take(mover)), ["1"]);
    let again = move_to_two(&mut net, mover, vec![SubOptions::new(channel(&name))]);
    net.settle();
    net.send(sender, signal(&name, "offer", "3", to));
    assert_eq!(signals(&net.take(again)), ["3"]);
}

/// A signal for a client that has entered reaches the shard that the client has just left, before the home knows the
/// new one.
#[test]
fn a_signal_for_a_client_that_has_just_moved_follows_it() {
    for stranger_is_there in [false, true] {
        let (mut net, name, mover, _) = world(Limits::default());
        let sender = net.connect(1);
        if stranger_is_there {
            let stranger = net.connect(2);
            net.subscribe(stranger, &name); // shard 2 is asked too, before the session arrives
        }
        assert_eq!(net.ask(mover, enter(&name, "1")), ReplyBody::Done);
        let id = net.send_only(sender, signal(&name, "offer", "1", Some(net.client(mover))));
        net.carry_from(1, 2);
        let again = move_to_two(&mut net, mover, vec![SubOptions::new(channel(&name))]);
        net.settle();
        assert_eq!(net.answer_to(sender, id), Some(ReplyBody::Done));
        assert_eq!(signals(&net.take(again)), ["1"]);
        // A later signal finds the client on its new shard.
        let id = net.send(sender, signal(&name, "offer", "2", Some(net.client(mover))));
        assert_eq!(net.answer_to(sender, id), Some(ReplyBody::Done));
        assert_eq!(signals(&net.take(again)), ["2"]);
    }
}

/// The client is gone again when its session arrives on the new shard, which has no other subscriber of the channel.
#[test]
fn a_signal_follows_a_session_whose_client_went_away_while_it_moved() {
    let (mut net, name, mover, _) = world(Limits::default());
    let sender = net.connect(1);
    assert_eq!(net.ask(mover, enter(&name, "1")), ReplyBody::Done);
    net.cut(mover);
    assert_eq!(net.ask(sender, signal(&name, "offer", "0", Some(net.client(mover)))), ReplyBody::Done);
    net.pass(5_000); // half of the grace
    let resume = Some(Resume { shard: ShardId(0), client: net.client(mover) });
    let brief = net.open(2);
    net.send_only(brief, Command::Connect(Box::new(Connect { resume, page: the_page(), ..Connect::default() })));
    net.cut(brief);
    net.pass(7_000);
    assert_eq!(net.ask(sender, signal(&name, "offer", "1", Some(net.client(mover)))), ReplyBody::Done);
    let again = net.resume(mover, 0, vec![SubOptions::new(channel(&name))]);
    assert_eq!(signals(&net.take(again)), ["0", "1"]);
}

/// The client is gone again when its session arrives on the new shard: the session has its grace there, and no longer.
#[test]
fn a_session_whose_client_went_away_while_it_moved_ends_with_its_grace() {
    let (mut net, name, mover, watcher) = world(Limits::default());
    let client = net.client(mover);
    assert_eq!(net.ask(mover, enter(&name, "1")), ReplyBody::Done);
    let resume = Some(Resume { shard: ShardId(0), client });
    let brief = net.open(2);
    net.send_only(brief, Command::Connect(Box::new(Connect { resume, page: the_page(), ..Connect::default() })));
    net.cut(brief);
    let sessions = |net: &Net| net.shards.iter().map(|shard| shard.stats().sessions).sum::<usize>();
    let with_it = sessions(&net);
    net.take(watcher);
    net.pass(9_500);
    net.all_alive();
    assert_eq!(present(&mut net, watcher, &name), [(client, "1".to_owned())]);
    assert_eq!(sessions(&net), with_it);
    net.pass(1_000);
    assert_eq!(presence_changes(&net.take(watcher)), [(PresenceKind::Leave, client)]);
    assert_eq!(sessions(&net), with_it - 1);
}

/// The client is gone again when its session arrives on the new shard. Its kept subscription waits for it there.
#[test]
fn a_kept_subscription_follows_a_session_whose_client_went_away_while_it_moved() {
    let mut net = Net::new(3);
    let (ada, bob) = kept::begin(&mut net);
    net.cut(ada);
    let resume = Some(Resume { shard: ShardId(0), client: net.client(ada) });
    let brief = net.open(2);
    net.send_only(brief, Command::Connect(Box::new(Connect { resume, page: the_page(), ..Connect::default() })));
    net.cut(brief);
    kept::say(&mut net, bob, "1", "red");
    let (_, missed, recovered) = kept::back(&mut net, ada, 0, None);
    assert_eq!((missed, recovered), (vec!["1".to_owned()], Some(true)));
}

/// The same for the leave to follow a channel that the application has subscribed it to.
#[test]
fn a_grant_follows_a_session_whose_client_went_away_while_it_moved() {
    let closed = Rule { subscribe: vec![Who::Nobody], ..open_rule("**") };
    let mut net = Net::with(3, Limits::default(), Rules::new(vec![closed]));
    let ada = net.connect(0);
    let client = net.client(ada);
    let options = || SubOptions::new(channel("chat:a"));
    let subscribe = AppCommand::Subscribe { whom: Whom::Client(client), options: Box::new(options()) };
    assert_eq!(net.app(1, subscribe), AppAnswer::Concerned(1));
    net.cut(ada);
    let brief = net.open(2);
    let resume = Some(Resume { shard: ShardId(0), client });
    net.send_only(brief, Command::Connect(Box::new(Connect { resume, page: the_page(), ..Connect::default() })));
    net.cut(brief);
    let back = net.resume(ada, 0, vec![options()]);
    let is_subscribed =
        |received: &Received| matches!(received, Received::Reply(Reply { body: ReplyBody::Subscribed(_), .. }));
    let received = net.take(back);
    assert!(received.iter().any(is_subscribed), "{received:?}");
}

/// The first connection's question is stuck between shards; the page gives up and comes back elsewhere.
#[test]
fn an_earlier_connection_of_a_page_does_not_take_the_session_from_a_later_one() {
    let mut net = Net::new(3);
    let peer = net.connect(0);
    let resume = Some(Resume { shard: ShardId(0), client: net.client(peer) });
    let connect = || Command::Connect(Box::new(Connect { resume, page: the_page(), ..Connect::default() }));
    let (early, late) = (net.open(1), {
        net.now.mono_ms += 100;
        net.open(2)
    });
    let stuck = net.send_only(early, connect());
    let asked = net.send_only(late, connect());
    net.carry_from(2, 0);
    net.carry_from(0, 2);
    assert!(matches!(net.answer_to(late, asked), Some(ReplyBody::Connected(connected)) if connected.resumed));
    net.settle();
    assert_eq!(net.peers[late].closed, None);
    let Some(ReplyBody::Connected(connected)) = net.answer_to(early, stuck) else { panic!("not connected") };
    assert!(!connected.resumed && connected.client != net.client(peer), "it has a session of its own");
    // A later connection does take the session over.
    net.now.mono_ms += 100;
    let again = net.open(1);
    let ReplyBody::Connected(connected) = net.ask(again, connect()) else { panic!("not connected") };
    assert!(connected.resumed);
    assert_eq!(net.peers[late].closed, Some(Disconnect::Moved));
}
