//! Users and clients that the application has banned: no `connect` of theirs is accepted until the ban is over.

mod common;

use common::*;
use fanfare_hub::*;

fn ban(whom: Whom, ban_ms: u64) -> AppCommand {
    AppCommand::Disconnect { whom, reason: Disconnect::Kicked, ban_ms: Some(ban_ms) }
}

fn ada() -> Connect {
    Connect { user: Some(UserId("ada".into())), page: the_page(), ..Connect::default() }
}

/// The answer to a `connect` on a new connection.
fn tries(net: &mut Net, shard: usize, connect: Connect) -> ReplyBody {
    let peer = net.open(shard);
    net.ask(peer, Command::Connect(Box::new(connect)))
}

fn refusal(body: &ReplyBody) -> &Error {
    match body {
        ReplyBody::Error(error) => error,
        other => panic!("it was let in: {other:?}"),
    }
}

#[test]
fn a_banned_user_is_closed_and_refused_on_every_shard_until_the_ban_is_over() {
    for shards in shard_counts() {
        let mut net = Net::new(shards);
        let here: Vec<usize> = (0..3).map(|shard| net.connect_as(shard, ada())).collect();
        let bob = net.connect_as(0, Connect { user: Some(UserId("bob".into())), ..Connect::default() });
        net.cut(here[2]); // away, within its grace
        let until_ms = net.now.wall_ms + 60_000;
        assert_eq!(net.app(1, ban(Whom::user("ada"), 60_000)), AppAnswer::Banned { sessions: 3, until_ms });
        assert_eq!(net.peers[here[0]].closed, Some(Disconnect::Kicked));
        assert_eq!(net.peers[bob].closed, None);
        for shard in 0..shards {
            net.notes.clear();
            let body = tries(&mut net, shard, ada());
            let noted: Vec<_> = net.notes.iter().map(|note| note.user.as_ref().map(|user| &*user.0)).collect();
            assert_eq!(noted, [Some("ada")], "the log says who it would have been");
            let error = refusal(&body);
            assert_eq!((error.code, error.retry_after_ms), (ErrorCode::Denied, Some(60_000)));
            assert_eq!(&*error.message, "the application has banned this user for 60 more seconds");
            // Its session is over, so the ticket names none.
            let resume = Some(Resume { shard: ShardId(0), client: net.client(here[2]) });
            assert_eq!(error_code(&tries(&mut net, shard, Connect { resume, ..ada() })), ErrorCode::Denied);
        }
        net.pass(60_000);
        for shard in 0..shards {
            assert!(matches!(tries(&mut net, shard, ada()), ReplyBody::Connected(_)));
        }
    }
}

#[test]
fn the_ticket_of_a_banned_client_brings_nothing_and_its_user_may_connect() {
    for shards in shard_counts() {
        let mut net = Net::new(shards);
        let (first, second) = (net.connect_as(0, ada()), net.connect_as(1, ada()));
        let client = net.client(first);
        let until_ms = net.now.wall_ms + 5_000;
        assert_eq!(net.app(0, ban(client.into(), 5_000)), AppAnswer::Banned { sessions: 1, until_ms });
        assert_eq!(net.peers[second].closed, None);
        for shard in 0..shards {
            let resume = Some(Resume { shard: ShardId(0), client });
            for connect in [Connect { resume, ..ada() }, Connect { resume, ..Connect::default() }] {
                let body = tries(&mut net, shard, connect);
                assert!(refusal(&body).message.contains("banned this client for 5 more seconds"), "{body:?}");
            }
            assert!(matches!(tries(&mut net, shard, ada()), ReplyBody::Connected(_)));
        }
    }
}

#[test]
fn bans_are_listed_replaced_and_ended() {
    for shards in shard_counts() {
        let mut net = Net::new(shards);
        let client = ClientId(7);
        let list = |net: &mut Net, whom: Option<Whom>, limit: u32| match net.app(1, AppCommand::Bans { whom, limit }) {
            AppAnswer::Bans { bans, more } => (bans, more),
            other => panic!("no list but {other:?}"),
        };
        for (whom, ms) in [(Whom::Client(client), 9_000), (Whom::user("bob"), 100), (Whom::user("ada"), 9_000)] {
            net.app(0, ban(whom, ms));
        }
        net.app(2, ban(Whom::user("ada"), 4_000)); // shorter, and later: it holds
        net.pass(100);
        let now = net.now.wall_ms;
        let of_ada = Ban { whom: Whom::user("ada"), until_ms: now + 3_900 };
        let of_client = Ban { whom: Whom::Client(client), until_ms: now + 8_900 };
        assert_eq!(list(&mut net, None, 10), (vec![of_ada.clone(), of_client.clone()], false));
        assert_eq!(list(&mut net, None, 0), (vec![of_ada], true));
        assert_eq!(list(&mut net, Some(client.into()), 10), (vec![of_client], false));
        assert_eq!(list(&mut net, Some(Whom::user("bob")), 10), (vec![], false));
        for was_banned in [true, false] {
            assert_eq!(net.app(1, AppCommand::Unban { whom: Whom::user("ada") }), AppAnswer::Unbanned { was_banned });
        }
        for shard in 0..shards {
            assert!(matches!(tries(&mut net, shard, ada()), ReplyBody::Connected(_)));
        }
    }
}

#[test]
fn a_ban_does_not_let_come_back() {
    let mut net = Net::new(2);
    let reason = Disconnect::Overloaded;
    let command = AppCommand::Disconnect { whom: Whom::user("ada"), reason, ban_ms: Some(1) };
    let AppAnswer::Error(error) = net.app(0, command) else { panic!("it was taken") };
    assert_eq!(error.code, ErrorCode::BadRequest);
    assert!(matches!(tries(&mut net, 0, ada()), ReplyBody::Connected(_)), "nobody is banned");
}

/// The ban comes to the shard of the new connection while that looks for the session elsewhere: what it finds, or does
/// not find, brings the user in no more.
#[test]
fn a_ban_that_comes_while_a_session_is_looked_for_is_not_missed() {
    for of_session in [true, false] {
        for ban_is_first in [true, false] {
            let mut net = Net::new(3);
            let old = net.connect_as(2, ada());
            let client = if of_session { net.client(old) } else { ClientId(42) };
            let back = net.open(1);
            let resume = Some(Resume { shard: ShardId(2), client });
            net.send_only(back, Command::Connect(Box::new(Connect { resume, ..ada() })));
            let token = net.app_only(0, ban(Whom::user("ada"), 1_000));
            if ban_is_first {
                net.carry_from(0, 1);
                net.carry_from(0, 2);
            } else {
                net.carry_from(1, 2);
            }
            net.settle();
            let answer = net.app_answer(token);
            assert!(matches!(answer, Some(AppAnswer::Banned { .. })), "{answer:?}");
            let received = net.take(back);
            let is_refused = received.iter().any(
                |received| matches!(received, Received::Reply(reply) if matches!(reply.body, ReplyBody::Error(_))),
            );
            assert!(is_refused || net.peers[back].closed == Some(Disconnect::Kicked), "{received:?}");
            assert!(net.peers[old].closed.is_some());
        }
    }
}

/// The application decides about a client while its user is banned.
#[test]
fn a_ban_that_comes_while_the_application_is_asked_is_not_missed() {
    for shards in shard_counts() {
        let hooks = Hooks { connect: true, ..Hooks::default() };
        let mut net = Net::with_hooks(shards, Limits::default(), open_rules(), hooks);
        let peer = net.open(0);
        let token = Some(UserToken::from("t"));
        let id = net.send_only(peer, Command::Connect(Box::new(Connect { token, ..Connect::default() })));
        net.settle();
        net.app(1, ban(Whom::user("ada"), 1_000));
        let user = Some(UserId("ada".into()));
        net.answer(HookAnswer::Identity(Identified { user, ..Identified::default() }));
        net.settle();
        let body = net.answer_to(peer, id).expect("answered");
        assert_eq!(refusal(&body).code, ErrorCode::Denied);
    }
}
