//! The views of sessions and channels for an operator: they say what clients have had, and change nothing.

mod common;

use common::*;
use fanfare_hub::*;

const ALL: usize = 100;

/// The views of a session on all shards.
fn views(net: &Net, whom: &Whom) -> Vec<SessionView> {
    net.shards.iter().flat_map(|shard| shard.sessions_of(whom, ALL)).collect()
}

fn the_view(net: &Net, peer: usize) -> SessionView {
    let mut views = views(net, &Whom::Client(net.client(peer)));
    assert_eq!(views.len(), 1, "a session is on one shard");
    views.remove(0)
}

fn channel_views(net: &Net, name: &str) -> Vec<ChannelView> {
    net.shards.iter().map(|shard| shard.channel_at(&channel(name), ALL)).collect()
}

fn ada() -> Connect {
    Connect { user: Some(UserId("ada".into())), page: the_page(), ..Connect::default() }
}

#[test]
fn a_session_shows_where_each_subscription_is_while_it_keeps_up_is_slow_and_is_away() {
    for shards in shard_counts() {
        let limits = Limits { outbox_bytes_max: 2_000, page_bytes_max: 1_500, ..Limits::default() };
        let mut net = Net::with(shards, limits, open_rules());
        let (bob, reader) = (net.connect(0), net.connect_as(1, ada()));
        net.subscribe(reader, "chat:a");
        net.ask(reader, enter("chat:a", "{}"));
        let top = net.publish(bob, "chat:a", "1");
        let view = the_view(&net, reader);
        assert_eq!((view.user.as_ref(), view.conn), (Some(&UserId("ada".into())), Some(net.peers[reader].conn)));
        assert_eq!((view.connections, view.outstanding, view.is_behind), (1, 0, false));
        let expected = SubscriptionView {
            channel: channel("chat:a"),
            rule: Some("**".into()),
            by: "rule",
            state: SubscriptionState::Live,
            at: Some(top),
            has_entered: true,
        };
        assert_eq!(view.subscriptions, [expected]);

        net.peers[reader].reads = false;
        net.publish_all(bob, "chat:a", 2..=90);
        let (slow, home) = (the_view(&net, reader), channel_views(&net, "chat:a"));
        let top = home.iter().find_map(|view| view.home.as_ref()?.top).expect("it has a home");
        let at = slow.subscriptions[0].at.expect("it was answered");
        assert!(slow.is_behind && at.epoch == top.epoch && at.offset < top.offset, "{slow:?} of {top:?}");
        assert_eq!(slow.subscriptions[0].state, SubscriptionState::CatchingUp);
        net.read_again(reader);
        assert_eq!(the_view(&net, reader).subscriptions[0].at, Some(top));
        assert_eq!(messages(&net.take(reader)), numbers(1..=90), "looking has changed nothing");

        net.cut(reader);
        let away = the_view(&net, reader);
        assert_eq!((away.conn, away.subscriptions), (None, vec![]));
        let again = net.resume(reader, 2, vec![since("chat:a", top)]);
        assert_eq!((the_view(&net, again).connections, views(&net, &Whom::user("ada")).len()), (2, 1));
        assert_eq!(views(&net, &Whom::user("nobody")), []);
    }
}

#[test]
fn a_channel_shows_its_home_and_its_subscribers_on_each_shard() {
    for shards in shard_counts() {
        let mut net = Net::new(shards);
        let peers: Vec<usize> = (0..4).map(|shard| net.connect_as(shard, ada())).collect();
        peers.iter().for_each(|&peer| drop(net.subscribe(peer, "chat:a")));
        net.ask(peers[0], enter("chat:a", "{}"));
        let top = net.publish(peers[0], "chat:a", "1");
        let views = channel_views(&net, "chat:a");
        let homes: Vec<&HomeView> = views.iter().filter_map(|view| view.home.as_ref()).collect();
        assert_eq!(homes.len(), 1);
        assert_eq!((homes[0].top, homes[0].present), (Some(top), 1));
        let of_home: u32 = homes[0].shards.iter().map(|shard| shard.subscribers).sum();
        let of_shards: u32 = views.iter().map(|view| view.subscribers).sum();
        assert_eq!((of_home, of_shards), (4, 4));
        let mut clients: Vec<ClientId> = views.iter().flat_map(|view| &view.some).map(|it| it.client).collect();
        clients.sort_unstable();
        let mut expected: Vec<ClientId> = peers.iter().map(|&peer| net.client(peer)).collect();
        expected.sort_unstable();
        assert_eq!(clients, expected);
        for view in views.iter().filter(|view| view.subscribers > 0) {
            assert_eq!((view.at, view.is_behind, view.rule.as_deref()), (Some(top), false, Some("**")));
            assert!(view.some.iter().all(|it| it.at == top && it.state == SubscriptionState::Live));
        }
        let least = net.shards.iter().map(|shard| shard.channel_at(&channel("chat:a"), 1).some.len()).max();
        assert_eq!(least, Some(1), "no more than was asked for");
        let unknown = channel_views(&net, "chat:unknown");
        assert!(unknown.iter().all(|view| view.home.is_none() && view.subscribers == 0 && view.some.is_empty()));
    }
}
