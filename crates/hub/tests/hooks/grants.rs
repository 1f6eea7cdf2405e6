//! Grants: what an identity may do where rules say `grant`, and for how long. And the reminder before it expires.

use super::*;

fn grant(pattern: &str, allow: &[Action]) -> Grant {
    Grant { pattern: Pattern::new(pattern).unwrap(), allow: allow.to_vec() }
}

fn may(grants: Vec<Grant>) -> Identified {
    Identified { grants, ..ada() }
}

/// `room:*` is for those with a grant; others may publish who may subscribe.
fn by_grant(shards: usize) -> Net {
    let rule = Rule { subscribe: vec![Who::Grant], enter: vec![Who::Grant], ..open_rule("room:*") };
    let strict = Rule { publish: vec![Who::Grant], signal: vec![Who::Grant], ..rule.clone() };
    let rules = vec![Rule { pattern: Pattern::new("room:strict").unwrap(), ..strict }, rule, open_rule("chat:*")];
    Net::with_hooks(shards, Limits::default(), Rules::new(rules), hooks(true, &[], &[]))
}

#[test]
fn a_grant_lets_its_caller_do_what_it_names_and_no_more() {
    for shards in shard_counts() {
        let mut net = by_grant(shards);
        let grants = vec![grant("room:{user}", &[Action::Subscribe]), grant("room:strict", &[Action::Subscribe])];
        let (peer, _) = connect_as(&mut net, 0, with_token("t"), may(grants));
        net.subscribe(peer, "room:ada");
        net.subscribe(peer, "room:strict");
        assert!(matches!(net.ask(peer, publish("room:ada", "1")), ReplyBody::Published { .. }), "as a subscriber");
        let ReplyBody::Error(error) = net.ask(peer, publish("room:strict", "1")) else { panic!("it may not publish") };
        assert_eq!(
            (error.code, error.rule.as_deref(), error.option),
            (ErrorCode::Denied, Some("room:strict"), Some("publish"))
        );
        assert_eq!(
            &*error.message,
            "the rule \"room:strict\" says publish = \"grant\"; an authenticated caller is not among them"
        );
        assert_eq!(error_code(&net.ask(peer, subscribe("room:bob"))), ErrorCode::Denied, "it is not ada's");
        assert_eq!(error_code(&net.ask(peer, enter("room:ada", "1"))), ErrorCode::Denied);
        let (other, _) = connect_as(&mut net, 1, with_token("u"), ada());
        assert_eq!(error_code(&net.ask(other, subscribe("room:strict"))), ErrorCode::Denied, "it has no grant");
    }
}

/// A newer token may allow less. The session keeps its grants on its way to another shard.
#[test]
fn grants_hold_on_later_connections_and_until_a_newer_token() {
    for shards in shard_counts() {
        let mut net = by_grant(shards);
        let both = [Action::Subscribe, Action::Enter];
        let (peer, _) = connect_as(&mut net, 0, with_token("t"), may(vec![grant("room:*", &both)]));
        net.subscribe(peer, "room:a");
        net.cut(peer);
        let back =
            net.resume(peer, 1, ["room:a", "room:b", "chat:a"].map(|name| SubOptions::new(channel(name))).into());
        net.ask(back, enter("room:a", "1"));
        net.ask(back, enter("room:b", "1"));
        net.take(back);
        let refresh = |net: &mut Net, grants| {
            let id = net.send(back, Command::Refresh { token: "t2".into() });
            net.answer(HookAnswer::Identity(may(grants)));
            assert!(matches!(net.answer_to(back, id), Some(ReplyBody::Refreshed { .. })));
            let ended = net.take(back).into_iter().filter_map(|received| match received {
                Received::Push(Push::Unsubscribed { channel, .. }) => Some(channel.to_string()),
                _ => None,
            });
            ended.collect::<Vec<_>>()
        };
        assert_eq!(refresh(&mut net, vec![grant("room:a", &[Action::Subscribe])]), ["room:b"]);
        let ReplyBody::Presence { snapshot, .. } = net.ask(back, Command::Presence { channel: channel("room:a") })
        else {
            panic!("it may still read the presence")
        };
        assert_eq!(snapshot.count, 0, "and does not stand in it any more");
        assert_eq!(refresh(&mut net, Vec::new()), ["room:a"]);
    }
}

/// The last subscription of a session takes the place of one that has ended: it has its turn too.
#[test]
fn a_newer_token_ends_every_subscription_that_it_does_not_grant() {
    for shards in shard_counts() {
        let mut net = by_grant(shards);
        let (peer, _) = connect_as(&mut net, 0, with_token("t"), may(vec![grant("room:*", &[Action::Subscribe])]));
        for name in ["room:a", "room:b", "room:c", "room:d"] {
            net.subscribe(peer, name);
        }
        net.take(peer);
        net.send(peer, Command::Refresh { token: "t2".into() });
        net.answer(HookAnswer::Identity(may(vec![grant("room:b", &[Action::Subscribe])])));
        let ended = net.take(peer).into_iter().filter_map(|received| match received {
            Received::Push(Push::Unsubscribed { channel, .. }) => Some(channel.to_string()),
            _ => None,
        });
        let mut ended: Vec<String> = ended.collect();
        ended.sort_unstable();
        assert_eq!(ended, ["room:a", "room:c", "room:d"], "with {shards} shards");
    }
}

#[test]
fn an_identity_with_too_many_grants_is_refused() {
    let max = Limits::default().grants_max;
    for (len, expected) in [(max, None), (max + 1, Some(ErrorCode::LimitExceeded))] {
        let mut net = by_grant(1);
        let peer = net.open(0);
        let id = net.send(peer, Command::Connect(Box::new(with_token("t"))));
        net.answer(HookAnswer::Identity(may(vec![grant("room:*", &[Action::Signal]); len])));
        let answer = net.answer_to(peer, id).unwrap();
        let code = matches!(answer, ReplyBody::Error(_)).then(|| error_code(&answer));
        assert_eq!(code, expected, "{len} grants");
    }
}

/// The reminders that a client has got, as ms.
fn reminders(net: &mut Net, peer: usize) -> Vec<u64> {
    let received = net.take(peer).into_iter().filter_map(|received| match received {
        Received::Reply(Reply { id: None, body: ReplyBody::Expiring { expires_in_ms } }) => Some(expires_in_ms),
        _ => None,
    });
    received.collect()
}

#[test]
fn a_client_is_reminded_once_half_a_minute_before_its_token_expires() {
    for shards in shard_counts() {
        let mut net = net(shards, hooks(true, &[], &[]));
        let until = |net: &Net, ms| Identified { expires_ms: Some(net.now.wall_ms + ms), ..ada() };
        let lives = until(&net, 100_000);
        let (peer, _) = connect_as(&mut net, 0, with_token("t"), lives);
        let pass = |net: &mut Net, ms: u64| {
            for _ in 0..ms / 500 {
                net.pass(500);
                net.all_alive();
            }
            reminders(net, peer)
        };
        assert_eq!(pass(&mut net, 69_500), [0_u64; 0]);
        let [left_ms] = pass(&mut net, 1_000)[..] else { panic!("one reminder") };
        assert!((29_000..=30_000).contains(&left_ms), "{left_ms}");
        // A newer token has a reminder of its own. One that is told to be short has none.
        for (ms, expected) in [(40_000, 1), (20_000, 0)] {
            let newer = until(&net, ms);
            net.send(peer, Command::Refresh { token: "newer".into() });
            net.answer(HookAnswer::Identity(newer));
            assert_eq!(pass(&mut net, 15_000).len(), expected, "{ms}");
        }
        assert_eq!(net.peers[peer].closed, None);
        pass(&mut net, 6_000);
        assert_eq!(net.peers[peer].closed, Some(Disconnect::Expired));
        let short = until(&net, 20_000);
        let (peer, _) = connect_as(&mut net, 0, with_token("s"), short);
        net.pass(10_000);
        assert_eq!(reminders(&mut net, peer), [0_u64; 0], "it was told at the beginning");
    }
}
