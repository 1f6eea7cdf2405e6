//! Hooks: what the application is asked, what follows from its answers, and what does not wait for them.

mod common;
use bytes::Bytes;
use common::*;
use fanfare_hub::*;

fn hooks(connect: bool, subscribe: &[&str], publish: &[&str]) -> Hooks {
    let patterns = |all: &[&str]| all.iter().map(|text| Pattern::new(text).unwrap()).collect();
    Hooks { connect, subscribe: patterns(subscribe), publish: patterns(publish), rpc: true, disconnect: true }
}

fn net(shards: usize, hooks: Hooks) -> Net {
    Net::with_hooks(shards, Limits::default(), open_rules(), hooks)
}

fn with_token(token: &str) -> Connect {
    Connect { token: Some(token.into()), ..Connect::default() }
}

fn ada() -> Identified {
    Identified { user: Some(UserId("ada".into())), ..Identified::default() }
}

fn denied() -> HookAnswer {
    HookAnswer::Refused(Error::new(ErrorCode::Denied, "no"))
}

/// Connects with a token, which the application finds to be `identified`'s.
fn connect_as(net: &mut Net, shard: usize, connect: Connect, identified: Identified) -> (usize, Connected) {
    let peer = net.open(shard);
    let id = net.send(peer, Command::Connect(Box::new(connect)));
    assert_eq!(net.answer_to(peer, id), None, "the application is asked");
    net.answer(HookAnswer::Identity(identified));
    match net.answer_to(peer, id) {
        Some(ReplyBody::Connected(connected)) => {
            net.peers[peer].client = Some(connected.client);
            (peer, *connected)
        }
        other => panic!("not connected but {other:?}"),
    }
}

/// The publication as the application lets it through, changed.
fn edited(question: &Question, json: &str) -> HookAnswer {
    let Question::Publish { publish, .. } = question else { panic!("{question:?}") };
    HookAnswer::Publish(Box::new(Publish { data: Data::Json(Bytes::from(json.to_owned())), ..(**publish).clone() }))
}

/// The application lets the publication through that it was asked about first, changed to this.
fn let_through(net: &mut Net, json: &str) {
    let (shard, token, question) = net.asked();
    net.answer_as(shard, token, edited(&question, json));
}

fn subscribe(name: &str) -> Command {
    Command::Subscribe { subs: vec![SubOptions::new(channel(name))], many: false }
}

fn rpc(json: &'static str) -> Command {
    Command::Rpc { method: "quote".into(), data: Bytes::from_static(json.as_bytes()) }
}

#[test]
fn a_token_is_asked_about_and_what_follows_waits() {
    for shards in shard_counts() {
        let mut net = net(shards, hooks(true, &[], &[]));
        let peer = net.open(0);
        let id = net.send(peer, Command::Connect(Box::new(with_token("t"))));
        let published = net.send(peer, publish("chat:a", "1"));
        assert_eq!((net.answer_to(peer, id), net.answer_to(peer, published)), (None, None));
        let info = Some(Bytes::from_static(b"{\"n\":1}"));
        let question = net.answer(HookAnswer::Identity(Identified { info: info.clone(), ..ada() }));
        assert_eq!(question, Question::Connect { token: Some("t".into()) });
        let Some(ReplyBody::Connected(connected)) = net.answer_to(peer, id) else { panic!() };
        assert_eq!((connected.user, connected.proof.info), (Some(UserId("ada".into())), info));
        assert!(matches!(net.answer_to(peer, published), Some(ReplyBody::Published { .. })));
    }
}

#[test]
fn without_the_hook_a_token_is_refused() {
    let mut net = net(1, Hooks::default());
    let peer = net.open(0);
    assert_eq!(error_code(&net.ask(peer, Command::Connect(Box::new(with_token("t"))))), ErrorCode::Unauthorized);
    assert!(matches!(net.ask(peer, Command::Connect(Box::default())), ReplyBody::Connected(_)));
    assert_eq!(error_code(&net.ask(peer, Command::Refresh { token: "t".into() })), ErrorCode::Unauthorized);
    assert_eq!(error_code(&net.ask(peer, rpc("1"))), ErrorCode::NotFound);
}

#[test]
fn a_refused_connect_may_be_tried_again_and_what_followed_it_is_answered() {
    let mut net = net(1, hooks(true, &[], &[]));
    let peer = net.open(0);
    let first = net.send(peer, Command::Connect(Box::new(with_token("wrong"))));
    let published = net.send(peer, publish("chat:a", "1"));
    let second = net.send(peer, Command::Connect(Box::new(with_token("right"))));
    let again = net.send(peer, publish("chat:a", "2"));
    net.answer(HookAnswer::Refused(Error::new(ErrorCode::Unauthorized, "no")));
    assert_eq!(error_code(&net.answer_to(peer, first).unwrap()), ErrorCode::Unauthorized);
    assert_eq!(error_code(&net.answer_to(peer, published).unwrap()), ErrorCode::NotConnected);
    assert_eq!(net.answer_to(peer, again), None);
    net.answer(HookAnswer::Identity(ada()));
    assert!(matches!(net.answer_to(peer, second), Some(ReplyBody::Connected(_))));
    assert!(matches!(net.answer_to(peer, again), Some(ReplyBody::Published { .. })));
}

#[test]
fn publications_are_changed_refused_and_kept_in_order() {
    for shards in shard_counts() {
        let mut net = net(shards, hooks(false, &[], &["chat:*"]));
        let (writer, reader) = (net.connect(0), net.connect(1));
        net.subscribe(reader, "chat:a");
        net.take(reader);
        let first = net.send(writer, publish("chat:a", "1"));
        let second = net.send(writer, publish("chat:a", "2"));
        let third = net.send(writer, publish("chat:a", "3"));
        net.publish(writer, "other", "0");
        assert_eq!(net.questions.len(), 1, "the next is asked about when the first is decided");
        let_through(&mut net, "\"one\"");
        assert!(matches!(net.answer_to(writer, first), Some(ReplyBody::Published { .. })));
        assert_eq!(net.answer_to(writer, second), None);
        net.answer(denied());
        assert_eq!(error_code(&net.answer_to(writer, second).unwrap()), ErrorCode::Denied);
        let_through(&mut net, "3");
        assert!(matches!(net.answer_to(writer, third), Some(ReplyBody::Published { .. })));
        assert_eq!(net.take_messages(reader), ["\"one\"", "3"]);
    }
}

#[test]
fn calls_are_answered_in_any_order_and_counted_as_outstanding() {
    for shards in shard_counts() {
        let mut net = net(shards, hooks(false, &[], &[]));
        let peer = net.connect(0);
        let ids: Vec<u64> = (0..32).map(|_| net.send(peer, rpc("[1]"))).collect();
        assert!(net.peers[peer].held, "32 are outstanding");
        let mut asked: Vec<_> = net.questions.drain(..).collect();
        let Question::Rpc { caller, method, data } = &asked[0].2 else { panic!() };
        assert_eq!((caller.client, &**method, &data[..]), (net.peers[peer].client, "quote", &b"[1]"[..]));
        asked.reverse();
        for (number, (shard, token, _)) in asked.into_iter().enumerate() {
            let answer = match number {
                0 => denied(),
                1 => HookAnswer::Allowed,
                2 => HookAnswer::Result(Bytes::from(vec![b'1'; 300 << 10])),
                _ => HookAnswer::Result(Bytes::from(number.to_string())),
            };
            net.answer_as(shard, token, answer);
        }
        let code = |net: &Net, at: usize| error_code(&net.answer_to(peer, ids[at]).unwrap());
        assert_eq!((code(&net, 31), code(&net, 30)), (ErrorCode::Denied, ErrorCode::Internal));
        assert_eq!(code(&net, 29), ErrorCode::TooLarge);
        assert_eq!(net.answer_to(peer, ids[0]), Some(ReplyBody::Result(Bytes::from_static(b"31"))));
        assert!(!net.peers[peer].held);
    }
}
