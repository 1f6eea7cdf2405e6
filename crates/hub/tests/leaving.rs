//! A client that says that it leaves: its session ends at once, wherever the word arrives, and its ticket is void.

mod common;
use common::*;
use fanfare_hub::*;

/// How the word comes.
#[derive(Debug, Clone, Copy)]
enum Word {
    OnItsConnection,
    /// By a request of its own that came to this shard.
    Forwarded(usize),
    /// The same, with a number.
    Numbered(usize),
    /// The same, and the connection has been cut.
    AfterACut(usize),
}

const WORDS: [Word; 7] = [
    Word::OnItsConnection,
    Word::Forwarded(0),
    Word::Forwarded(1),
    Word::Numbered(0),
    Word::Numbered(1),
    Word::AfterACut(0),
    Word::AfterACut(1),
];

fn leave(net: &mut Net, peer: usize, word: Word) -> ReplyBody {
    match word {
        Word::OnItsConnection => net.ask(peer, Command::Disconnect),
        Word::AfterACut(shard) => {
            net.cut(peer);
            net.forward(shard, peer, Command::Disconnect)
        }
        Word::Forwarded(shard) => net.forward(shard, peer, Command::Disconnect),
        Word::Numbered(shard) => {
            let token = net.send_numbered(shard, peer, 1, vec![Command::Disconnect]);
            net.settle();
            let replies = net.sent(token).expect("an answer").expect("no error");
            replies.into_iter().next().expect("a reply")
        }
    }
}

#[test]
fn the_session_ends_at_once_and_others_see_it_leave() {
    for shards in shard_counts() {
        for word in WORDS {
            let name = format!("{shards} shards, {word:?}");
            let hooks = Hooks { disconnect: true, ..Hooks::default() };
            let mut net = Net::with_hooks(shards, Limits::default(), open_rules(), hooks);
            let (peer, other) = (net.connect(0), net.connect(1));
            net.subscribe(peer, "chat:a");
            net.subscribe_with(other, with_presence("chat:a"));
            net.ask(peer, enter("chat:a", "{}"));
            net.take(other);
            let client = net.client(peer);
            assert_eq!(leave(&mut net, peer, word), ReplyBody::Done, "{name}");
            assert_eq!(presence_changes(&net.take(other)), [(PresenceKind::Leave, client)], "{name}");
            if !matches!(word, Word::AfterACut(_)) {
                assert_eq!(net.peers[peer].closed, Some(Disconnect::Left), "{name}");
            }
            let ended = |notice: &Notice| match notice {
                Notice::SessionEnded { caller, why, .. } => (caller.client, *why),
                other => panic!("{other:?}"),
            };
            assert_eq!(net.notices.iter().map(ended).collect::<Vec<_>>(), [(Some(client), Ended::Left)], "{name}");
            let late = net.forward(1, peer, Command::Disconnect);
            assert_eq!(error_code(&late), ErrorCode::NotConnected, "{name}");
            let back = net.resume(peer, 1, vec![]);
            assert_ne!(net.client(back), client, "{name}: its ticket is void");
        }
    }
}

#[test]
fn commands_before_it_in_a_send_take_effect_and_those_behind_it_do_not() {
    for shards in shard_counts() {
        let mut net = Net::new(shards);
        let (peer, reader) = (net.connect(0), net.connect(1));
        net.subscribe(reader, "chat:a");
        net.take(reader);
        let commands = vec![publish("chat:a", "1"), Command::Disconnect, publish("chat:a", "2")];
        let token = net.send_numbered(1, peer, 1, commands);
        net.settle();
        let replies = net.sent(token).expect("an answer").expect("no error");
        assert!(matches!(&replies[0], ReplyBody::Published { position, .. } if position.offset == 1), "{replies:?}");
        assert_eq!(replies[1], ReplyBody::Done);
        assert_eq!(error_code(&replies[2]), ErrorCode::NotConnected);
        assert_eq!(messages(&net.take(reader)), ["1"]);
    }
}

#[test]
fn it_waits_for_its_turn_among_numbered_sends() {
    for shards in shard_counts() {
        let mut net = Net::new(shards);
        let peer = net.connect(0);
        let second = net.send_numbered(1, peer, 2, vec![Command::Disconnect]);
        net.settle();
        assert_eq!((net.sent(second), net.peers[peer].closed), (None, None));
        let first = net.send_numbered(1, peer, 1, vec![publish("chat:a", "1")]);
        net.settle();
        assert!(matches!(net.sent(first), Some(Ok(_))));
        assert_eq!(net.sent(second), Some(Ok(vec![ReplyBody::Done])));
        assert_eq!(net.peers[peer].closed, Some(Disconnect::Left));
    }
}

#[test]
fn before_connect_there_is_nothing_to_leave() {
    let mut net = Net::new(1);
    let peer = net.open(0);
    assert_eq!(error_code(&net.ask(peer, Command::Disconnect)), ErrorCode::NotConnected);
    assert_eq!(net.peers[peer].closed, None);
}
