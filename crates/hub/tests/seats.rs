//! A connection that carries several sessions: each has its own identity, id and subscriptions, and comes and goes by
//! itself; the connection ends them all.

mod common;

use common::*;
use fanfare_hub::*;

const SEATS: [Seat; 3] = [Seat(0), Seat(1), Seat(2)];

fn ask(net: &mut Net, peer: usize, seat: Seat, command: Command) -> ReplyBody {
    let id = net.send_in(peer, seat, command);
    net.settle();
    assert_eq!(net.peers[peer].reply_seats.last(), Some(&seat));
    net.answer_to(peer, id).expect("an answer")
}

/// Begins a session that follows a channel.
fn enter(net: &mut Net, peer: usize, seat: Seat, name: &str) -> ClientId {
    let connect = Connect { subscribe: vec![SubOptions::new(channel(name))], ..Connect::default() };
    match ask(net, peer, seat, Command::Connect(Box::new(connect))) {
        ReplyBody::Connected(connected) => connected.client,
        // With one shard the answer about the subscription is the last one.
        other => panic!("not connected but {other:?}"),
    }
}

fn publish(net: &mut Net, peer: usize, seat: Seat, name: &str, json: &'static str) -> ReplyBody {
    let data = Data::Json(json.into());
    let publish = Publish { channel: channel(name), data, event: None, idempotency_key: None, echo: true };
    ask(net, peer, seat, Command::Publish(Box::new(publish)))
}

#[test]
fn each_seat_has_a_session_of_its_own() {
    for shards in shard_counts() {
        let mut net = Net::new(shards);
        let peer = net.open(0);
        let clients = SEATS.map(|seat| enter(&mut net, peer, seat, &format!("chat:{}", seat.0)));
        assert!(clients[0] != clients[1] && clients[1] != clients[2] && clients[0] != clients[2]);
        assert_eq!(net.shards[0].stats().sessions, 3);
        net.take(peer);
        publish(&mut net, peer, Seat(1), "chat:2", "1");
        let from = net.peers[peer].received.iter().find_map(|received| match received {
            Received::Push(Push::Message { publication, .. }) => publication.from.clone(),
            _ => None,
        });
        assert_eq!(from.and_then(|from| from.client), Some(clients[1]));
        assert_eq!(net.take_messages(peer), ["1"]);
        let again = ask(&mut net, peer, Seat(2), Command::Connect(Box::default()));
        assert!(matches!(again, ReplyBody::Error(error) if error.code == ErrorCode::AlreadyConnected));
    }
}

#[test]
fn a_session_leaves_its_seat_and_another_takes_it() {
    for shards in shard_counts() {
        let mut net = Net::new(shards);
        let peer = net.open(0);
        let [first, second, _] = SEATS.map(|seat| enter(&mut net, peer, seat, "chat:a"));
        assert_eq!(ask(&mut net, peer, Seat(0), Command::Leave), ReplyBody::Done);
        net.take(peer);
        publish(&mut net, peer, Seat(1), "chat:a", "1");
        assert_eq!(net.take_messages(peer), ["1", "1"], "two are left");
        let refused = publish(&mut net, peer, Seat(0), "chat:a", "2");
        assert!(matches!(refused, ReplyBody::Error(error) if error.code == ErrorCode::NotConnected));
        let third = enter(&mut net, peer, Seat(0), "chat:b");
        assert!(third != first && third != second);
        assert_eq!(net.shards[0].stats().sessions, 3);
        assert_eq!(net.peers[peer].closed, None);
        // Nobody asks a connection that has had a session for another one.
        for seat in SEATS {
            ask(&mut net, peer, seat, Command::Leave);
        }
        net.pass(net.limits.connect_timeout_ms + 1);
        assert_eq!((net.peers[peer].closed, net.shards[0].stats().sessions), (None, 0));
    }
}

#[test]
fn the_end_of_the_connection_ends_all_its_sessions() {
    for finally in [true, false] {
        let mut net = Net::new(1);
        let peer = net.open(0);
        for seat in SEATS {
            enter(&mut net, peer, seat, "chat:a");
        }
        let conn = net.peers[peer].conn;
        net.input(0, Input::Closed { conn, finally });
        net.settle();
        let (sessions, subscriptions) = (net.shards[0].stats().sessions, net.shards[0].stats().subscriptions);
        assert_eq!((sessions, subscriptions), (if finally { 0 } else { 3 }, 0));
        net.pass(net.limits.grace_ms + 1_000);
        assert_eq!(net.shards[0].stats().sessions, 0, "the grace is over");
    }
}

/// One of its sessions is taken up on another connection, which closes the one that carried them all.
#[test]
fn the_others_are_away_where_one_session_goes_elsewhere() {
    for shards in shard_counts() {
        let mut net = Net::new(shards);
        let peer = net.open(0);
        let connect = || {
            let subscribe = vec![SubOptions::new(channel("chat:a"))];
            Connect { page: the_page(), subscribe, ..Connect::default() }
        };
        let mut clients = Vec::new();
        for seat in SEATS {
            let id = net.send_in(peer, seat, Command::Connect(Box::new(connect())));
            net.settle();
            let Some(ReplyBody::Connected(connected)) = net.answer_to(peer, id) else { panic!("not connected") };
            clients.push(connected.client);
        }
        let sessions = |net: &Net| net.shards.iter().map(|shard| shard.stats().sessions).sum::<usize>();
        let back = |net: &mut Net, shard: usize, client: ClientId| {
            let resume = Some(Resume { shard: ShardId(0), client });
            let new = net.connect_as(shard, Connect { resume, ..connect() });
            net.client(new) == client
        };
        assert!(back(&mut net, 1, clients[1]));
        assert_eq!((net.peers[peer].closed, sessions(&net)), (Some(Disconnect::Moved), 3));
        assert!(back(&mut net, 1, clients[0]), "its client comes a little later");
        assert_eq!(sessions(&net), 3);
        for _ in 0..4 {
            net.pass(net.limits.heartbeat_ms / 2);
            net.all_alive();
        }
        assert_eq!(sessions(&net), 2, "the grace of the third one is over");
    }
}

#[test]
fn a_connection_is_read_while_none_of_its_sessions_has_too_much_outstanding() {
    let hooks = Hooks { rpc: true, ..Hooks::default() };
    let limits = Limits { outstanding_max: 3, session_questions_max: 8, ..Limits::default() };
    let mut net = Net::with_hooks(1, limits, open_rules(), hooks);
    let peer = net.open(0);
    enter(&mut net, peer, Seat(0), "chat:a");
    enter(&mut net, peer, Seat(1), "chat:a");
    let call = || Command::Rpc { method: "slow".into(), data: "1".into() };
    for (seat, paused) in [(0, false), (1, false), (0, false), (1, false), (1, true), (0, true)] {
        net.send_in(peer, Seat(seat), call());
        assert_eq!(net.peers[peer].paused, paused);
    }
    let mut left = 6;
    while let Some((shard, token, _)) = net.questions.pop_front() {
        net.input(shard, Input::HookAnswer { token, answer: Box::new(HookAnswer::Result("2".into())) });
        left -= 1;
        assert_eq!(net.peers[peer].paused, left > 4, "{left} are left");
    }
}

#[test]
fn a_full_connection_is_behind_in_every_seat_and_misses_nothing() {
    let limits = Limits { outbox_bytes_max: 500, ..Limits::default() };
    let mut net = Net::with(1, limits, open_rules());
    let peer = net.open(0);
    enter(&mut net, peer, Seat(0), "chat:a");
    enter(&mut net, peer, Seat(1), "chat:b");
    let speaker = net.connect(0);
    net.take(peer);
    net.peers[peer].reads = false;
    for number in 0..100 {
        let name = if number % 2 == 0 { "chat:a" } else { "chat:b" };
        let data = Data::Json(format!("\"{number:03}{}\"", "x".repeat(40)).into());
        let publish = Publish { channel: channel(name), data, event: None, idempotency_key: None, echo: true };
        net.ask(speaker, Command::Publish(Box::new(publish)));
    }
    assert_eq!(net.shards[0].stats().behind, 1, "connections are counted, not sessions");
    net.read_again(peer);
    assert_eq!((net.take_messages(peer).len(), net.shards[0].stats().behind), (100, 0));
}
