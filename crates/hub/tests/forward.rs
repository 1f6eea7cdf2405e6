//! Commands for a session that come in requests of their own: they are executed where the session is, and answered
//! where they came from. Also the session of a client that has no open request at the moment.

mod common;
use common::*;
use fanfare_hub::*;

fn published(body: &ReplyBody) -> u64 {
    match body {
        ReplyBody::Published { position, .. } => position.offset,
        other => panic!("not published but {other:?}"),
    }
}

fn rpc() -> Command {
    Command::Rpc { method: "quote".into(), data: "1".into() }
}

#[test]
fn a_command_is_done_as_the_session_and_answered_where_it_came_to() {
    for shards in shard_counts() {
        let mut net = Net::new(shards);
        let (away, reader) = away_and_reader(&mut net);
        for to in 0..shards {
            let offset = published(&net.forward(to, away, publish("chat:a", &to.to_string())));
            assert_eq!(offset, to as u64 + 1);
        }
        let received = net.take(reader);
        assert_eq!(messages(&received), (0..shards).map(|n| n.to_string()).collect::<Vec<_>>());
        for received in &received {
            let Received::Push(Push::Message { publication, .. }) = received else { panic!("{received:?}") };
            assert_eq!(publication.from.as_ref().and_then(|from| from.client), Some(net.client(away)));
        }
        let replies = net.peers[away].received.iter().filter(|received| matches!(received, Received::Reply(_)));
        assert_eq!(replies.count(), 0, "nothing of the answers goes to the connection");
        assert_eq!(net.take_messages(away).len(), shards, "but deliveries do");
    }
}

#[test]
fn subscriptions_and_pages_are_answered_there_too() {
    for shards in shard_counts() {
        let mut net = Net::new(shards);
        let (away, reader) = away_and_reader(&mut net);
        let subs = ["chat:b", "chat:c"].map(|name| SubOptions::new(channel(name))).to_vec();
        let body = net.forward(2, away, Command::Subscribe { subs, many: true });
        let ReplyBody::Many(bodies) = &body else { panic!("{body:?}") };
        assert!(bodies.iter().all(|body| matches!(body, ReplyBody::Subscribed(_))), "{bodies:?}");
        net.publish(reader, "chat:c", "1");
        assert_eq!(net.take_messages(away), ["1"]);
        let query = HistoryQuery { from: HistoryFrom::Newest, limit: 10 };
        let body = net.forward(1, away, Command::History { channel: channel("chat:c"), query });
        let ReplyBody::History(history) = &body else { panic!("{body:?}") };
        assert_eq!(texts(&history.publications), ["1"]);
    }
}

#[test]
fn a_session_that_nobody_writes_to_stays_and_catches_up_within_its_bound() {
    for shards in shard_counts() {
        let limits = Limits { outbox_bytes_max: 1_000, ..Limits::default() };
        let mut net = Net::with(shards, limits, open_rules());
        let (away, reader) = away_and_reader(&mut net);
        net.forward(1, away, enter("chat:a", "{}"));
        net.publish_all(reader, "chat:a", 1..=100);
        assert!(net.waiting_bytes(away) < 1_100, "{} bytes wait", net.waiting_bytes(away));
        // Its outbox is over the mark: the session is behind, and its requests are answered all the same.
        let query = HistoryQuery { from: HistoryFrom::Newest, limit: 1 };
        let page = net.forward(2, away, Command::History { channel: channel("chat:a"), query });
        assert!(matches!(page, ReplyBody::History(_)), "{page:?}");
        assert_eq!(published(&net.forward(2, away, publish("chat:a", "101"))), 101);
        let here = net.ask(reader, Command::Presence { channel: channel("chat:a") });
        assert!(matches!(&here, ReplyBody::Presence { snapshot, .. } if snapshot.count == 1), "{here:?}");
        net.read_again(away);
        assert_eq!(net.take_messages(away), numbers(1..=101));
    }
}

#[test]
fn a_request_is_a_sign_of_life_and_without_any_the_session_is_away() {
    for shards in shard_counts() {
        let mut net = Net::new(shards);
        let (away, _) = away_and_reader(&mut net);
        for _ in 0..8 {
            net.pass(net.limits.heartbeat_ms / 2);
            let token = net.forward_only(1, away, Command::Pong);
            net.settle();
            assert_eq!(net.forwarded(token), Some(None), "a pong is not answered, but its request is");
        }
        assert_eq!(net.peers[away].closed, None);
        net.pass(3 * net.limits.heartbeat_ms);
        assert_eq!(net.peers[away].closed, Some(Disconnect::HeartbeatTimeout));
        let refused = net.forward(1, away, publish("chat:a", "1"));
        assert_eq!(error_code(&refused), ErrorCode::NotConnected);
    }
}

#[test]
fn a_command_follows_a_session_that_is_changing_shards() {
    let mut net = Net::new(3);
    let (away, _) = away_and_reader(&mut net);
    // It comes back on shard 2. While shard 0 hands it over, a request with the old ticket comes to shard 1.
    let new = net.open(2);
    let resume = Some(Resume { shard: ShardId(0), client: net.client(away) });
    net.send_only(new, Command::Connect(Box::new(Connect { resume, page: the_page(), ..Connect::default() })));
    net.carry_from(2, 0);
    let token = net.forward_only(1, away, publish("chat:a", "1"));
    net.carry_from(1, 0);
    assert_eq!(net.forwarded(token), None);
    net.settle();
    let body = net.forwarded(token).flatten().expect("an answer");
    assert_eq!(published(&body), 1);
}

#[test]
fn a_command_without_an_id_is_told_its_error_only() {
    for shards in shard_counts() {
        let mut net = Net::new(shards);
        let (away, _) = away_and_reader(&mut net);
        let silent = |command| Request { id: None, command };
        let done = net.forward_request(1, away, silent(publish("chat:a", "1")));
        let refused = net.forward_request(1, away, silent(enter("chat:other", "{}")));
        net.settle();
        assert_eq!(net.forwarded(done), Some(None));
        let body = net.forwarded(refused).flatten().expect("an error");
        assert_eq!(error_code(&body), ErrorCode::NotSubscribed);
    }
}

#[test]
fn every_command_is_answered_once_whatever_becomes_of_its_session() {
    for shards in shard_counts() {
        let hooks = Hooks { rpc: true, ..Hooks::default() };
        let mut net = Net::with_hooks(shards, Limits::default(), open_rules(), hooks);
        let away = net.connect(0);
        let waits = net.forward_only(1, away, rpc());
        net.settle();
        let (shard, question, _) = net.asked();
        let conn = net.peers[away].conn;
        net.input(shard, Input::Closed { conn, finally: true });
        assert_eq!(net.forwarded(waits), None);
        net.answer_as(shard, question, HookAnswer::Result("2".into()));
        assert!(matches!(net.forwarded(waits), Some(Some(ReplyBody::Result(_)))), "{:?}", net.forwarded);
        let gone = net.forward(1, away, rpc());
        assert_eq!(error_code(&gone), ErrorCode::NotConnected);
        assert_eq!(net.shards.iter().map(Shard::outstanding).sum::<usize>(), 0);
    }
}

#[test]
fn an_answer_that_does_not_come_is_a_timeout() {
    let mut net = Net::new(2);
    let away = net.connect(0);
    let lost = net.forward_only(1, away, publish("chat:a", "1"));
    let limit_ms = net.limits.forward_timeout_ms + 200;
    // The session's shard is stopped: no message is carried to it.
    net.now.mono_ms += limit_ms;
    net.input(1, Input::Wake);
    let body = net.forwarded(lost).flatten().expect("an answer");
    assert_eq!(error_code(&body), ErrorCode::Timeout);
    net.settle();
    assert_eq!(net.forwarded.len(), 1, "the late one finds nobody");
}

#[test]
fn waiting_commands_are_bounded_on_the_first_shard_and_for_each_session() {
    let limits = Limits { forwarded_max: 3, outstanding_max: 2, ..Limits::default() };
    let hooks = Hooks { rpc: true, ..Hooks::default() };
    for shards in shard_counts() {
        let mut net = Net::with_hooks(shards, limits.clone(), open_rules(), hooks.clone());
        let away = net.connect(0);
        let tokens: Vec<ForwardToken> = (0..3).map(|_| net.forward_only(1, away, rpc())).collect();
        net.settle();
        let code = |net: &Net, token| net.forwarded(token).flatten().map(|body| error_code(&body));
        let codes: Vec<_> = tokens.iter().map(|&token| code(&net, token)).collect();
        assert_eq!(codes, [None, None, Some(ErrorCode::Unavailable)], "two of a session may wait");
        let other = net.connect(0);
        let tokens: Vec<ForwardToken> = (0..2).map(|_| net.forward_only(1, other, rpc())).collect();
        net.settle();
        let codes: Vec<_> = tokens.iter().map(|&token| code(&net, token)).collect();
        assert_eq!(codes, [None, Some(ErrorCode::Unavailable)], "three of a shard may wait");
        let nowhere = Resume { shard: ShardId(77), client: net.client(other) };
        net.answer(HookAnswer::Result("2".into()));
        let request = Request { id: None, command: rpc() };
        net.input(0, Input::Forward { token: ForwardToken(1_000_000), to: nowhere, send: request.into() });
        net.settle();
        assert_eq!(code(&net, ForwardToken(1_000_000)), Some(ErrorCode::NotConnected), "a shard that there is not");
    }
}
