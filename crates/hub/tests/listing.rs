//! Lists of connections and users, labels, the status of users, and reconnects that the application asks for.

mod common;

use common::*;
use fanfare_hub::*;
use std::collections::BTreeSet;

fn as_user(user: &str, labels: &[&str]) -> Connect {
    let proof = Proof { labels: Labels::new(labels.iter().copied()).expect("valid labels"), ..Proof::default() };
    Connect { user: Some(UserId(user.into())), page: the_page(), proof, ..Connect::default() }
}

/// All pages of a list, of so many entries, asked of different shards.
fn listed(net: &mut Net, among: &Among, limit: u32) -> Vec<ConnectionInfo> {
    let (mut all, mut after) = (Vec::new(), None);
    for page in 0.. {
        assert!(page < 1_000, "the list has no end");
        let command = AppCommand::Connections { among: among.clone(), after, limit };
        let AppAnswer::Connections { connections, next } = net.app(page, command) else { panic!("a list") };
        assert!(connections.len() <= limit as usize);
        all.extend(connections);
        after = next;
        if after.is_none() {
            break;
        }
    }
    all
}

fn clients(list: &[ConnectionInfo]) -> BTreeSet<ClientId> {
    let clients: BTreeSet<ClientId> = list.iter().map(|it| it.client).collect();
    assert_eq!(clients.len(), list.len(), "one was listed twice");
    clients
}

fn users(net: &mut Net, channel: Option<&str>, limit: u32) -> Vec<(String, u64)> {
    let (mut all, mut after) = (Vec::new(), None);
    for page in 0.. {
        assert!(page < 1_000, "the list has no end");
        let command = AppCommand::Users { channel: channel.map(self::channel), after, limit };
        let AppAnswer::Users { users, next } = net.app(page, command) else { panic!("a list") };
        assert!(users.len() <= limit as usize);
        all.extend(users.into_iter().map(|it| (it.user.0.to_string(), it.clients)));
        after = next;
        if after.is_none() {
            break;
        }
    }
    all
}

fn status(net: &mut Net, users: &[&str]) -> Vec<(u64, Option<u64>)> {
    let users = users.iter().map(|user| UserId((*user).into())).collect();
    let AppAnswer::UserStatus(all) = net.app(0, AppCommand::UserStatus { users }) else { panic!("a status") };
    all.into_iter().map(|it| (it.clients, it.last_seen_ms)).collect()
}

#[test]
fn connections_are_listed_by_client_user_label_and_channel_in_pages() {
    for shards in shard_counts() {
        let mut net = Net::new(shards);
        let names = ["ada", "bob", "cleo"];
        let peers: Vec<usize> = (0..17)
            .map(|n| {
                let labels: &[&str] = if n % 2 == 0 { &["even", "all"] } else { &["all"] };
                let peer = net.connect_as(n % 3, as_user(names[n % 3], labels));
                if n % 4 == 0 {
                    net.subscribe(peer, "chat:a");
                    net.subscribe(peer, "chat:b");
                }
                peer
            })
            .collect();
        let anonymous = net.connect(0);
        let away = net.connect_as(1, as_user("ada", &["all"]));
        net.cut(away);
        let ids: Vec<ClientId> = peers.iter().map(|&peer| net.client(peer)).collect();
        let every = |step: usize| ids.iter().copied().step_by(step).collect::<BTreeSet<_>>();
        for limit in [1, 2, 5, 100] {
            let mut of = |among| listed(&mut net, &among, limit);
            let all = of(Among::All);
            assert_eq!(all.len(), ids.len() + 1, "those that are away are not in it");
            let ada = of(Among::User(UserId("ada".into())));
            assert_eq!(clients(&ada), every(3));
            assert!(ada.iter().all(|it| it.user == Some(UserId("ada".into())) && it.labels.contains("all")));
            assert_eq!(clients(&of(Among::Label("even".into()))), every(2));
            assert_eq!(of(Among::Label("all".into())).len(), ids.len());
            assert!(of(Among::Label("none".into())).is_empty());
            let subscribers = of(Among::Channel(channel("chat:a")));
            assert_eq!(clients(&subscribers), every(4));
            assert!(subscribers.iter().all(|it| it.channels == 2));
            assert!(of(Among::Channel(channel("chat:z"))).is_empty());
            assert_eq!(clients(&of(Among::Client(ids[7]))), BTreeSet::from([ids[7]]));
        }
        assert!(clients(&listed(&mut net, &Among::All, 3)).contains(&net.client(anonymous)));
    }
}

/// A list of which the sessions are too many to be sorted walks over the table, and says so by a cursor.
#[test]
fn a_list_of_very_many_goes_on_from_its_cursor() {
    let limits = Limits { list_looks_max: 64, quotas: Quotas::NONE, ..Limits::default() };
    let mut net = Net::with(1, limits, open_rules());
    let count = 4 * 64 + 10;
    for n in 0..count {
        let peer = net.connect_as(0, as_user("ada", if n % 50 == 49 { &["all", "rare"] } else { &["all"] }));
        if n % 20 == 7 {
            net.cut(peer);
        } else if n % 2 == 1 {
            net.subscribe(peer, "chat:a");
        }
    }
    let there = count - 13;
    let subscribers = listed(&mut net, &Among::Channel(channel("chat:a")), 1_000);
    assert_eq!(clients(&subscribers).len(), count / 2 - 13);
    for among in [Among::All, Among::User(UserId("ada".into())), Among::Label("all".into())] {
        assert_eq!(clients(&listed(&mut net, &among, 1_000)).len(), there, "{among:?}");
    }
    assert_eq!(listed(&mut net, &Among::Label("rare".into()), 1_000).len(), 5);
    let first = AppCommand::Connections { among: Among::Client(ClientId(1)), after: None, limit: 1 };
    assert_eq!(net.app(0, first), AppAnswer::Connections { connections: Vec::new(), next: None });
    assert_eq!(users(&mut net, None, 10), [("ada".to_owned(), there as u64)]);
    assert_eq!(users(&mut net, Some("chat:a"), 10), [("ada".to_owned(), subscribers.len() as u64)]);
}

#[test]
fn users_are_listed_once_in_their_order_with_their_clients_on_all_shards() {
    for shards in shard_counts() {
        let mut net = Net::new(shards);
        for n in 0..12 {
            let peer = net.connect_as(n, as_user(&format!("u{:02}", n / 2), &[]));
            if n < 5 {
                net.subscribe(peer, "chat:a");
            }
        }
        net.connect(0);
        let away = net.connect_as(2, as_user("away", &[]));
        net.cut(away);
        for limit in [1, 2, 4, 1_000] {
            let all: Vec<(String, u64)> = (0..6).map(|n| (format!("u{n:02}"), 2)).collect();
            assert_eq!(users(&mut net, None, limit), all);
            let some = [("u00".to_owned(), 2), ("u01".to_owned(), 2), ("u02".to_owned(), 1)];
            assert_eq!(users(&mut net, Some("chat:a"), limit), some);
            assert!(users(&mut net, Some("chat:z"), limit).is_empty());
        }
    }
}

#[test]
fn commands_by_label_concern_its_sessions_and_no_others() {
    for shards in shard_counts() {
        let mut net = Net::new(shards);
        let beta: Vec<usize> = (0..3).map(|n| net.connect_as(n, as_user("ada", &["beta"]))).collect();
        let other = net.connect_as(1, as_user("ada", &["ios"]));
        let label = || Whom::Label("beta".into());
        let subscribe = AppCommand::Subscribe { whom: label(), options: Box::new(SubOptions::new(channel("chat:a"))) };
        assert_eq!(net.app(1, subscribe), AppAnswer::Concerned(3));
        // One has gone to another shard.
        let moved = net.resume(beta[0], 2, Vec::new());
        net.settle();
        let kick = AppCommand::Disconnect { whom: label(), reason: Disconnect::Kicked, ban_ms: None };
        assert_eq!(net.app(0, kick), AppAnswer::Concerned(3));
        for peer in [moved, beta[1], beta[2]] {
            assert_eq!(net.peers[peer].closed, Some(Disconnect::Kicked));
        }
        assert_eq!(net.peers[other].closed, None);
        let refused = [
            AppCommand::Disconnect { whom: label(), reason: Disconnect::Kicked, ban_ms: Some(1) },
            AppCommand::Unban { whom: label() },
            AppCommand::Bans { whom: Some(label()), limit: 1 },
        ];
        for command in refused {
            let AppAnswer::Error(error) = net.app(0, command) else { panic!("a ban of a label") };
            assert!(error.code == ErrorCode::BadRequest && error.message.contains("label"), "{error}");
        }
    }
}

/// The command overtakes the session on its way to another shard.
#[test]
fn a_session_that_changes_shards_meanwhile_is_found_by_its_label() {
    let mut net = Net::new(2);
    let old = net.connect_as(0, as_user("ada", &["beta"]));
    net.cut(old);
    let resume = Some(Resume { shard: ShardId(0), client: net.client(old) });
    let back = net.open(1);
    net.send_only(back, Command::Connect(Box::new(Connect { resume, page: the_page(), ..Connect::default() })));
    let kick = AppCommand::Disconnect { whom: Whom::Label("beta".into()), reason: Disconnect::Kicked, ban_ms: None };
    let token = net.app_only(1, kick);
    net.settle();
    assert_eq!(net.app_answer(token), Some(AppAnswer::Concerned(1)));
    assert_eq!(net.peers[back].closed, Some(Disconnect::Kicked));
}

#[test]
fn a_newer_identity_replaces_the_labels() {
    let hooks = Hooks { connect: true, ..Hooks::default() };
    let mut net = Net::with_hooks(1, Limits::default(), open_rules(), hooks);
    let identity = |labels: &[&str]| {
        let labels = Labels::new(labels.iter().copied()).unwrap();
        HookAnswer::Identity(Identified { user: Some(UserId("ada".into())), labels, ..Identified::default() })
    };
    let peer = net.open(0);
    net.send_only(peer, Command::Connect(Box::default()));
    net.settle();
    net.answer(identity(&["free"]));
    net.settle();
    let count = |net: &mut Net, label: &str| listed(net, &Among::Label(label.into()), 10).len();
    assert_eq!((count(&mut net, "free"), count(&mut net, "paid")), (1, 0));
    net.send_only(peer, Command::Refresh { token: UserToken::from("t") });
    net.settle();
    net.answer(identity(&["paid"]));
    net.settle();
    assert_eq!((count(&mut net, "free"), count(&mut net, "paid")), (0, 1));
}

#[test]
fn a_user_is_online_with_a_connection_and_was_seen_last_when_it_lost_it() {
    for shards in shard_counts() {
        let mut net = Net::new(shards);
        let ask = ["ada", "nobody"];
        let (first, second) = (net.connect_as(0, as_user("ada", &[])), net.connect_as(1, as_user("ada", &[])));
        assert_eq!(status(&mut net, &ask), [(2, None), (0, None)]);
        net.cut(first);
        assert_eq!(status(&mut net, &ask), [(1, None), (0, None)]);
        net.pass(500);
        let at_ms = net.now.wall_ms;
        net.cut(second);
        net.pass(1_500);
        assert_eq!(status(&mut net, &ask), [(0, Some(at_ms)), (0, None)], "within its grace too");
        net.resume(second, 0, Vec::new());
        assert_eq!(status(&mut net, &ask), [(1, None), (0, None)]);
        let users = vec![UserId("ada".into()); STATUS_USERS_MAX + 1].into();
        let AppAnswer::Error(error) = net.app(0, AppCommand::UserStatus { users }) else { panic!("too many") };
        assert_eq!(error.code, ErrorCode::TooLarge);
    }
}

#[test]
fn clients_that_are_to_reconnect_are_closed_within_the_spread_and_keep_their_sessions() {
    for shards in shard_counts() {
        let mut net = Net::new(shards);
        let ada: Vec<usize> = (0..12).map(|n| net.connect_as(n, as_user("ada", &[]))).collect();
        let bob = net.connect_as(0, as_user("bob", &[]));
        let again = |spread_ms| AppCommand::Reconnect { whom: Whom::user("ada"), spread_ms };
        assert_eq!(net.app(0, again(4_000)), AppAnswer::Concerned(12));
        assert_eq!(net.app(1, again(4_000)), AppAnswer::Concerned(12), "and none of them twice");
        let closed = |net: &Net| ada.iter().filter(|&&peer| net.peers[peer].closed.is_some()).count();
        net.pass(2_000);
        let half = closed(&net);
        assert!((1..12).contains(&half), "{half} of 12 at half time");
        net.pass(2_200);
        assert_eq!(closed(&net), 12);
        assert!(ada.iter().all(|&peer| net.peers[peer].closed == Some(Disconnect::Reconnect)));
        assert_eq!(net.peers[bob].closed, None);
        let client = net.client(ada[3]);
        let back = net.resume(ada[3], 1, Vec::new());
        assert_eq!(net.client(back), client, "the session goes on");
        assert_eq!(net.app(0, again(0)), AppAnswer::Concerned(1), "those that are away are not counted");
        assert_eq!(net.peers[back].closed, Some(Disconnect::Reconnect));
        let AppAnswer::Error(error) = net.app(0, again(RECONNECT_SPREAD_MS_MAX + 1)) else { panic!("too long") };
        assert_eq!(error.code, ErrorCode::BadRequest);
    }
}
