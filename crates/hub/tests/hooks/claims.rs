//! Claims: what rules ask of an identity, on every way on which it may change.

use super::*;

fn with_claims(claims: &str) -> Identified {
    Identified { claims: Some(Bytes::from(claims.to_owned())), ..ada() }
}

/// `team:{claims.team}:*` is for the team; editors publish.
fn by_claim(shards: usize) -> Net {
    let rule = Rule {
        subscribe: vec![Who::Authenticated],
        publish: vec![Who::claim("role", ["editor"])],
        enter: vec![Who::claim("role", ["editor"])],
        ..open_rule("team:{claims.team}:*")
    };
    Net::with_hooks(shards, Limits::default(), Rules::new(vec![rule, open_rule("**")]), hooks(true, &[], &[]))
}

fn refused(body: &ReplyBody) -> (ErrorCode, Option<&str>, Option<&str>) {
    let ReplyBody::Error(error) = body else { panic!("{body:?}") };
    (error.code, error.rule.as_deref(), error.option)
}

#[test]
fn a_claim_decides_and_a_difference_is_a_denial_and_not_the_next_rule() {
    for shards in shard_counts() {
        let mut net = by_claim(shards);
        let editor = with_claims(r#"{"team":["red","blue"],"role":"editor"}"#);
        let (peer, _) = connect_as(&mut net, 0, with_token("t"), editor);
        for name in ["team:red:a", "team:blue:a"] {
            net.subscribe(peer, name);
            net.publish(peer, name, "1");
            assert!(matches!(net.ask(peer, enter(name, "1")), ReplyBody::Done), "{name}");
        }
        let rule = Some("team:{claims.team}:*");
        for name in
            ["team:green:a", "team:Red:a", "team:red,blue:a"].into_iter().filter_map(|it| ChannelName::new(it).ok())
        {
            let denied = net.ask(peer, subscribe(&name));
            assert_eq!(refused(&denied), (ErrorCode::Denied, rule, Some("subscribe")), "{name}");
        }
        let (guest, _) = connect_as(&mut net, 1, with_token("u"), with_claims(r#"{"team":"red","role":["guest"]}"#));
        net.subscribe(guest, "team:red:a");
        let denied = net.ask(guest, publish("team:red:a", "1"));
        assert_eq!(refused(&denied), (ErrorCode::Denied, rule, Some("publish")));
        let (nobody, _) = connect_as(&mut net, 1, with_token("v"), ada());
        assert_eq!(refused(&net.ask(nobody, subscribe("team:red:a"))).0, ErrorCode::Denied, "it has no claims");
    }
}

/// Claims go with their session to another shard, and a newer token may have others: live subscriptions and presence
/// are judged again.
#[test]
fn claims_hold_on_later_connections_and_until_a_newer_token() {
    for shards in shard_counts() {
        let mut net = by_claim(shards);
        let editor = r#"{"team":"red","role":"editor"}"#;
        let (peer, _) = connect_as(&mut net, 0, with_token("t"), with_claims(editor));
        net.subscribe(peer, "team:red:a");
        net.cut(peer);
        let back = net.resume(peer, 1, vec![SubOptions::new(channel("team:red:a"))]);
        net.publish(back, "team:red:a", "1");
        net.ask(back, enter("team:red:a", "1"));
        net.take(back);
        let refresh = |net: &mut Net, claims: &str| {
            let id = net.send(back, Command::Refresh { token: "t2".into() });
            net.answer(HookAnswer::Identity(with_claims(claims)));
            assert!(matches!(net.answer_to(back, id), Some(ReplyBody::Refreshed { .. })));
            let ended = net.take(back).into_iter().filter_map(|received| match received {
                Received::Push(Push::Unsubscribed { channel, .. }) => Some(channel.to_string()),
                _ => None,
            });
            ended.collect::<Vec<_>>()
        };
        assert_eq!(refresh(&mut net, r#"{"team":"red"}"#), [""; 0]);
        let ReplyBody::Presence { snapshot, .. } = net.ask(back, Command::Presence { channel: channel("team:red:a") })
        else {
            panic!("a subscriber may read it")
        };
        assert_eq!(snapshot.count, 0, "who is no editor does not stand in it");
        assert_eq!(refresh(&mut net, r#"{"team":"blue"}"#), ["team:red:a"]);
    }
}

/// A reload judges sessions by the claims that they have.
#[test]
fn a_reload_judges_by_claims() {
    for shards in shard_counts() {
        let mut net = by_claim(shards);
        let (peer, _) = connect_as(&mut net, 0, with_token("t"), with_claims(r#"{"team":"red","role":"editor"}"#));
        net.subscribe(peer, "team:red:a");
        let stricter = |role: &str| {
            let rule = Rule { subscribe: vec![Who::claim("role", [role])], ..open_rule("team:{claims.team}:*") };
            Rules::new(vec![rule, open_rule("**")])
        };
        net.take(peer);
        net.reload(stricter("editor"));
        assert!(net.take(peer).is_empty(), "it is an editor");
        net.reload(stricter("admin"));
        let ended = net.take(peer);
        let [Received::Push(Push::Unsubscribed { error, .. })] = &ended[..] else { panic!("{ended:?}") };
        assert_eq!((error.code, error.option), (ErrorCode::Denied, Some("subscribe")));
    }
}
