//! The notice to the application that a session has ended.

use super::*;

#[test]
fn the_application_is_told_of_the_end_of_a_session_and_not_of_each_cut() {
    for shards in shard_counts() {
        let mut net = net(shards, hooks(false, &[], &[]));
        let peers: Vec<usize> = (0..4).map(|shard| net.connect(shard)).collect();
        let clients: Vec<_> = peers.iter().map(|peer| net.client(*peer)).collect();
        net.cut(peers[0]);
        let back = net.resume(peers[0], 2, vec![]);
        net.cut(peers[1]);
        assert_eq!(net.notices, []);
        for (peer, reason) in [(peers[2], Disconnect::Kicked), (peers[3], Disconnect::Internal)] {
            let Peer { shard, conn, .. } = net.peers[peer];
            net.input(shard, Input::Close { conn, reason });
        }
        let Peer { shard, conn, .. } = net.peers[back];
        net.input(shard, Input::Closed { conn, finally: true });
        net.pass(11_000);
        let of_notice = |notice: &Notice| {
            let Notice::SessionEnded { caller, why, attachment } = notice else { panic!("{notice:?}") };
            (caller.client, *why, attachment.as_ref().and_then(Attachment::get::<ConnId>).copied())
        };
        let ended: Vec<_> = net.notices.iter().map(of_notice).collect();
        let expected = [
            (clients[2], Ended::Closed(Disconnect::Kicked), peers[2]),
            (clients[0], Ended::Left, back),
            (clients[1], Ended::Lost, peers[1]),
            (clients[3], Ended::Lost, peers[3]),
        ];
        for (client, why, last) in expected {
            let last = Some(net.peers[last].conn);
            assert!(ended.contains(&(Some(client), why, last)), "{why:?} of {client} at {last:?} in {ended:?}");
        }
        assert_eq!(ended.len(), 4);
    }
}

/// The session is moving to another shard when the connection that asked for it is cut.
#[test]
fn the_end_of_a_session_that_moved_without_a_connection_brings_what_its_last_one_had() {
    for is_away in [false, true] {
        let mut net = net(3, hooks(false, &[], &[]));
        let mover = net.connect(0);
        let (client, had) = (net.client(mover), net.peers[mover].conn);
        if is_away {
            net.cut(mover);
        }
        let brief = net.open(2);
        let resume = Some(Resume { shard: ShardId(0), client });
        net.send_only(brief, Command::Connect(Box::new(Connect { resume, page: the_page(), ..Connect::default() })));
        net.cut(brief);
        net.pass(11_000);
        let [Notice::SessionEnded { caller, attachment, .. }] = &net.notices[..] else { panic!("{:?}", net.notices) };
        assert_eq!(caller.client, Some(client));
        assert_eq!(attachment.as_ref().and_then(Attachment::get::<ConnId>), Some(&had), "away: {is_away}");
    }
}
