//! Tokens and tickets: whose session a ticket takes up, when a token ends it, and the channels that a token grants.

use super::*;

/// A ticket resumes a session, but proves nothing once that session's token has expired.
#[test]
fn a_ticket_alone_does_not_take_up_a_session_whose_token_has_expired() {
    for shards in shard_counts() {
        let limits = Limits { grace_ms: 60_000, ..Limits::default() };
        let mut net = Net::with_hooks(shards, limits, open_rules(), hooks(true, &[], &[]));
        let expires = Identified { expires_ms: Some(net.now.wall_ms + 8_000), ..ada() };
        let (ada_at, _) = connect_as(&mut net, 0, with_token("t"), expires);
        let resume = Some(Resume { shard: ShardId(0), client: net.client(ada_at) });
        net.cut(ada_at);
        net.pass(9_000);
        let nobody = Identified::default();
        let (_, connected) = connect_as(&mut net, 1, Connect { resume, ..Connect::default() }, nobody);
        assert!(!connected.resumed && connected.user.is_none(), "the application is asked");
        let (_, connected) = connect_as(&mut net, 1, Connect { resume, ..with_token("t") }, ada());
        assert!(connected.resumed, "with a newer token it goes on");
    }
}

#[test]
fn a_ticket_stands_for_the_token_and_a_token_of_another_user_begins_anew() {
    for shards in shard_counts() {
        let mut net = net(shards, hooks(true, &[], &[]));
        let info = Some(Bytes::from_static(b"7"));
        let (peer, _) = connect_as(&mut net, 0, with_token("t"), Identified { info: info.clone(), ..ada() });
        let resume = Some(Resume { shard: ShardId(0), client: net.client(peer) });
        let by_ticket = |token: Option<&str>| Connect { token: token.map(Into::into), resume, ..Connect::default() };
        net.cut(peer);
        let second = net.connect_as(1, by_ticket(None));
        assert!(net.questions.is_empty(), "nobody is asked");
        let Received::Reply(Reply { body: ReplyBody::Connected(connected), .. }) = &net.peers[second].received[0]
        else {
            panic!()
        };
        assert_eq!((connected.client, connected.resumed), (net.client(peer), true));
        assert_eq!((&connected.user, &connected.proof.info), (&ada().user, &info));
        let by_ticket = |token: &str| Connect {
            resume: Some(Resume { shard: ShardId(net.peers[second].shard as u16), client: net.client(peer) }),
            ..with_token(token)
        };
        let (again, other) = (by_ticket("t"), by_ticket("u"));
        let (_, connected) = connect_as(&mut net, 2, again, ada());
        assert_eq!((connected.client, connected.resumed, connected.proof.info), (net.client(peer), true, None));
        let bob = Identified { user: Some(UserId("bob".into())), ..Identified::default() };
        let (_, connected) = connect_as(&mut net, 2, other, bob);
        assert!(!connected.resumed && connected.client != net.client(peer));
    }
}

/// Otherwise a client that was disconnected for good could come back at once.
#[test]
fn a_ticket_whose_session_is_gone_is_worth_nothing_and_the_application_is_asked() {
    for shards in shard_counts() {
        for (is_kicked, ticket_of) in [(true, 0), (true, 1), (false, 0)] {
            let mut net = net(shards, hooks(true, &["room:*"], &[]));
            let granted = Identified { subscribe: vec![channel("room:a")], ..ada() };
            let (peer, _) = connect_as(&mut net, 0, with_token("t"), granted);
            if is_kicked {
                let whom = Whom::user("ada");
                let kick = AppCommand::Disconnect { whom, reason: Disconnect::Kicked, ban_ms: None };
                assert_eq!(net.app(1, kick), AppAnswer::Concerned(1));
            } else {
                net.cut(peer);
                net.pass(11_000);
            }
            let resume = Some(Resume { shard: ShardId(ticket_of % shards as u16), client: net.client(peer) });
            let proof = Proof { granted: vec![channel("room:a")], ..Proof::default() };
            let connect = Connect { resume, user: ada().user, proof, ..Connect::default() };
            let back = net.open(0);
            let refused = net.send(back, Command::Connect(Box::new(connect.clone())));
            assert!(matches!(net.questions.front(), Some((.., Question::Connect { token: None }))));
            net.answer(HookAnswer::Refused(Error::new(ErrorCode::Unauthorized, "banned")));
            assert_eq!(error_code(&net.answer_to(back, refused).unwrap()), ErrorCode::Unauthorized);
            let taken = net.send(back, Command::Connect(Box::new(connect)));
            net.answer(HookAnswer::Identity(Identified::default()));
            let Some(ReplyBody::Connected(connected)) = net.answer_to(back, taken) else { panic!("not connected") };
            assert_eq!((connected.resumed, &connected.user, &connected.proof), (false, &None, &Proof::default()));
            assert_ne!(connected.client, net.client(peer));
        }
    }
}

#[test]
fn a_token_ends_its_session_unless_it_is_refreshed_by_the_same_user() {
    for shards in shard_counts() {
        let mut net = net(shards, hooks(true, &[], &[]));
        let until = |net: &Net, ms| Identified { expires_ms: Some(net.now.wall_ms + ms), ..ada() };
        let first = until(&net, 8_000);
        let (peer, connected) = connect_as(&mut net, 0, with_token("t"), first);
        assert_eq!(connected.expires_in_ms, Some(8_000));
        let refresh = |token: &str| Command::Refresh { token: token.into() };
        let id = net.send(peer, refresh("b"));
        net.answer(HookAnswer::Identity(Identified { user: Some(UserId("bob".into())), ..Identified::default() }));
        assert_eq!(error_code(&net.answer_to(peer, id).unwrap()), ErrorCode::Denied);
        let past = Identified { expires_ms: Some(net.now.wall_ms), ..ada() };
        let id = net.send(peer, refresh("old"));
        net.answer(HookAnswer::Identity(past));
        assert_eq!(error_code(&net.answer_to(peer, id).unwrap()), ErrorCode::TokenExpired);
        // Two refreshes are open, and their answers arrive in the other order: the token that was sent last holds.
        let ids = [net.send(peer, refresh("1")), net.send(peer, refresh("2"))];
        let answers = [until(&net, 60_000), until(&net, 20_000)];
        let asked: Vec<_> = net.questions.drain(..).collect();
        for at in [1, 0] {
            let (shard, token, _) = asked[at].clone();
            net.answer_as(shard, token, HookAnswer::Identity(answers[at].clone()));
            let Some(ReplyBody::Refreshed { expires_in_ms, .. }) = net.answer_to(peer, ids[at]) else { panic!() };
            assert_eq!(expires_in_ms, Some(20_000));
        }
        net.pass(19_500);
        assert_eq!(net.peers[peer].closed, None);
        assert_eq!(net.notices, []);
        net.pass(1_000);
        assert_eq!(net.peers[peer].closed, Some(Disconnect::Expired));
        let expected = Caller { client: Some(net.client(peer)), user: ada().user, info: None, claims: None };
        let [Notice::SessionEnded { caller, why, .. }] = &net.notices[..] else { panic!("{:?}", net.notices) };
        assert_eq!((caller, *why), (&expected, Ended::Closed(Disconnect::Expired)));
    }
}

/// Time passes for clients that answer heartbeats.
fn stay(net: &mut Net, ms: u64) {
    for _ in 0..ms / 10_000 {
        net.pass(10_000);
        net.all_alive();
    }
}

/// The clock of a token is looked at several times before such a token ends.
#[test]
fn a_token_that_lives_for_minutes_ends_its_session_when_it_expires() {
    for shards in shard_counts() {
        let mut net = net(shards, hooks(true, &[], &[]));
        let lives = Identified { expires_ms: Some(net.now.wall_ms + 200_000), ..ada() };
        let (peer, _) = connect_as(&mut net, 0, with_token("t"), lives);
        stay(&mut net, 190_000);
        net.pass(9_500);
        assert_eq!(net.peers[peer].closed, None);
        net.pass(1_000);
        assert_eq!(net.peers[peer].closed, Some(Disconnect::Expired));
    }
}

/// The expiry of a token is an instant of the wall clock, which may be set while the session lives.
#[test]
fn a_token_that_a_step_of_the_wall_clock_ends_is_over_within_a_minute() {
    for shards in shard_counts() {
        let mut net = net(shards, hooks(true, &[], &[]));
        let lives = Identified { expires_ms: Some(net.now.wall_ms + 3_600_000), ..ada() };
        let (peer, _) = connect_as(&mut net, 0, with_token("t"), lives);
        stay(&mut net, 90_000);
        assert_eq!(net.peers[peer].closed, None);
        net.now.wall_ms += 3_600_000;
        stay(&mut net, 60_000);
        net.pass(500);
        assert_eq!(net.peers[peer].closed, Some(Disconnect::Expired));
    }
}

#[test]
fn the_application_subscribes_at_connect_and_its_grants_hold_until_a_newer_token() {
    for shards in shard_counts() {
        let rule = Rule { subscribe: vec![Who::Server], ..open_rule("inbox:*") };
        let rules = Rules::new(vec![rule, open_rule("chat:*")]);
        let mut net = Net::with_hooks(shards, Limits::default(), rules, hooks(true, &[], &[]));
        let granted = ["inbox:ada", "chat:a", "none"].map(channel);
        let grants = Identified { subscribe: granted.into(), ..ada() };
        let peer = net.open(0);
        let asked = vec![SubOptions { recent: Some(1), ..SubOptions::new(channel("chat:a")) }];
        let connect = Connect { subscribe: asked, ..with_token("t") };
        net.send(peer, Command::Connect(Box::new(connect)));
        net.answer(HookAnswer::Identity(grants));
        let mut received: Vec<String> = Vec::new();
        for it in net.take(peer) {
            let Received::Reply(reply) = it else { panic!("{it:?}") };
            match reply.body {
                ReplyBody::Connected(connected) => net.peers[peer].client = Some(connected.client),
                ReplyBody::Subscribed(subscribed) => received.push(subscribed.channel.to_string()),
                ReplyBody::Error(error) => received.push(format!("{} {}", error.code, error.channel.unwrap())),
                other => panic!("{other:?}"),
            }
        }
        received.sort_unstable();
        assert_eq!(received, ["chat:a", "inbox:ada", "no_rule none"]);
        // The client comes back by its ticket, and may subscribe again.
        net.cut(peer);
        let back = net.resume(peer, 1, vec![SubOptions::new(channel("inbox:ada"))]);
        assert!(matches!(&net.take(back)[1], Received::Reply(Reply { body: ReplyBody::Subscribed(_), .. })));
        net.reload(Rules::new(vec![
            Rule { subscribe: vec![Who::Nobody], ..open_rule("inbox:*") },
            open_rule("chat:*"),
        ]));
        assert_eq!(net.take(back), [], "what the application granted no rule takes away");
        let id = net.send(back, Command::Refresh { token: "t2".into() });
        net.answer(HookAnswer::Identity(Identified { subscribe: vec![channel("chat:c")], ..ada() }));
        assert!(matches!(net.answer_to(back, id), Some(ReplyBody::Refreshed { .. })));
        let received = net.take(back);
        assert!(
            matches!(&received[1], Received::Push(Push::Unsubscribed { channel, .. }) if **channel == *"inbox:ada")
        );
        assert!(
            matches!(&received[2], Received::Reply(Reply { id: None, body: ReplyBody::Subscribed(it) }) if *it.channel == *"chat:c")
        );
    }
}

#[test]
fn a_token_can_grant_what_was_subscribed_already_and_the_application_can_end_what_it_granted() {
    for shards in shard_counts() {
        let closed = || Rules::new(vec![Rule { subscribe: vec![Who::Nobody], ..open_rule("**") }]);
        let mut net = net(shards, hooks(true, &[], &[]));
        let (peer, _) = connect_as(&mut net, 0, with_token("t"), ada());
        net.subscribe(peer, "chat:a");
        let refresh = |net: &mut Net| {
            net.send(peer, Command::Refresh { token: "t2".into() });
            net.answer(HookAnswer::Identity(Identified { subscribe: vec![channel("chat:a")], ..ada() }));
        };
        refresh(&mut net);
        net.take(peer);
        net.reload(closed());
        assert_eq!(net.take(peer), [], "granted by the newer token");
        let end = AppCommand::Unsubscribe { whom: Whom::user("ada"), channel: channel("chat:a") };
        assert_eq!(net.app(1, end.clone()), AppAnswer::Concerned(1));
        assert_eq!(error_code(&net.ask(peer, subscribe("chat:a"))), ErrorCode::Denied, "what it ended is ended");
        refresh(&mut net);
        let received = net.take(peer);
        assert!(
            received
                .iter()
                .any(|received| matches!(received, Received::Reply(Reply { body: ReplyBody::Subscribed(_), .. })))
        );
        // Also for a client that is away.
        net.cut(peer);
        net.app(1, end);
        let back = net.resume(peer, 1, vec![SubOptions::new(channel("chat:a"))]);
        let Some(Received::Reply(Reply { body: ReplyBody::Error(error), .. })) = net.take(back).pop() else { panic!() };
        assert_eq!(error.code, ErrorCode::Denied);
    }
}

/// A client has another user's ticket and its own token.
#[test]
fn a_ticket_with_another_users_token_leaves_its_session_alone_on_whichever_shard() {
    for shards in shard_counts() {
        for landing in 0..shards {
            let mut net = net(shards, hooks(true, &[], &[]));
            let (peer, _) = connect_as(&mut net, 0, with_token("t"), ada());
            net.subscribe(peer, "chat:a");
            let resume = Some(Resume { shard: ShardId(0), client: net.client(peer) });
            let bob = Identified { user: Some(UserId("bob".into())), ..Identified::default() };
            let (other, connected) = connect_as(&mut net, landing, Connect { resume, ..with_token("u") }, bob);
            assert!(!connected.resumed && connected.client != net.client(peer));
            assert_eq!((net.peers[peer].closed, &net.notices[..]), (None, &[][..]));
            net.publish(other, "chat:a", "1");
            assert_eq!(net.take_messages(peer), ["1"], "it goes on");
        }
    }
}

#[test]
fn presence_shows_what_the_newest_token_says_of_a_client() {
    for shards in shard_counts() {
        let mut net = net(shards, hooks(true, &[], &[]));
        let with_info = |info: &'static str| Identified { info: Some(Bytes::from(info)), ..ada() };
        let (watcher, _) = connect_as(&mut net, 1, with_token("w"), ada());
        net.subscribe_with(watcher, with_presence("chat:a"));
        let (peer, _) = connect_as(&mut net, 0, with_token("t"), with_info("1"));
        net.subscribe(peer, "chat:a");
        net.ask(peer, enter("chat:a", "\"here\""));
        let received = |net: &mut Net| -> Vec<(PresenceKind, Option<Bytes>, Bytes)> {
            let pushes = net.take(watcher).into_iter().filter_map(|received| match received {
                Received::Push(Push::Presence(push)) => Some(push),
                _ => None,
            });
            pushes.map(|push| (push.kind, push.entry.info.clone(), push.entry.data.clone())).collect()
        };
        let entry = |kind, info: &'static str| (kind, Some(Bytes::from(info)), Bytes::from("\"here\""));
        assert_eq!(received(&mut net), [entry(PresenceKind::Join, "1")]);
        for info in ["2", "2"] {
            net.send(peer, Command::Refresh { token: "t".into() });
            net.answer(HookAnswer::Identity(with_info(info)));
        }
        assert_eq!(received(&mut net), [entry(PresenceKind::Update, "2")], "once");
        let resume = Some(Resume { shard: ShardId(0), client: net.client(peer) });
        let subscribe = vec![SubOptions::new(channel("chat:a"))];
        connect_as(&mut net, 2, Connect { resume, subscribe, ..with_token("t") }, with_info("3"));
        assert_eq!(received(&mut net), [entry(PresenceKind::Update, "3")]);
    }
}

#[test]
fn a_granted_channel_is_asked_about_when_the_grant_ends() {
    for shards in shard_counts() {
        let mut net = net(shards, hooks(true, &["chat:*"], &[]));
        let granted = Identified { subscribe: vec![channel("chat:a")], ..ada() };
        let (peer, _) = connect_as(&mut net, 0, with_token("t"), granted);
        let received = net.take(peer);
        assert!(
            matches!(&received[1..], [Received::Reply(Reply { id: None, body: ReplyBody::Subscribed(_) })]),
            "{received:?}"
        );
        // The rule would allow it, but the application has a handler for the channel that was never asked.
        let id = net.send(peer, Command::Refresh { token: "t2".into() });
        net.answer(HookAnswer::Identity(ada()));
        assert!(matches!(net.answer_to(peer, id), Some(ReplyBody::Refreshed { .. })));
        let received = net.take(peer);
        assert!(received.iter().any(|it| matches!(it, Received::Push(Push::Unsubscribed { .. }))), "{received:?}");
        let id = net.send(peer, subscribe("chat:a"));
        assert!(matches!(net.answer(HookAnswer::Allowed), Question::Subscribe { .. }));
        assert!(matches!(net.answer_to(peer, id), Some(ReplyBody::Subscribed(_))));
    }
}
