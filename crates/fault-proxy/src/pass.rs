//! One connection: bytes pass in both directions, up to the byte at which a fault stands.

use crate::{Break, Faults, Shared, Way};
use socket2::SockRef;
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::sync::watch;
use tokio::time::Instant;

/// Bytes that are read at once.
const CHUNK: usize = 16 << 10;
/// Chunks that are under way in one direction.
const CHUNKS: usize = 64;

/// A connection of a client, and its own to the server.
pub(crate) struct Joined {
    pub(crate) near: TcpStream,
    pub(crate) far: TcpStream,
    pub(crate) faults: Faults,
    pub(crate) number: u64,
}

/// The end of a connection.
pub(crate) enum Ended {
    /// Both ends closed it, or one has gone.
    Whole,
    /// A fault ended it.
    Broken,
    /// A fault silenced it; dropping these ends it.
    Silent([Halves; 2]),
}

/// Both sockets of a direction.
pub(crate) struct Halves {
    from: OwnedReadHalf,
    to: OwnedWriteHalf,
}

/// The end of one direction.
enum Passed {
    /// Its sender ended its side, and the receiver knows.
    All,
    /// One of the ends has gone.
    Gone,
    Broken(Break),
}

/// Passes bytes on in both directions until the connection is over.
pub(crate) async fn join(joined: Joined, shared: &Shared, passing: &watch::Sender<()>) -> Ended {
    let Joined { near, far, faults, number } = joined;
    for socket in [&near, &far] {
        let _ = socket.set_nodelay(true); // without it the bytes still pass
    }
    let ((near_from, near_to), (far_from, far_to)) = (near.into_split(), far.into_split());
    let mut up = Halves { from: near_from, to: far_to };
    let mut down = Halves { from: far_from, to: near_to };
    let broken = {
        let seen = || {
            shared.seen.send_if_modified(|seen| {
                let is_new = *seen <= number;
                *seen = (*seen).max(number + 1);
                is_new
            });
        };
        let mut upward = std::pin::pin!(pass(&mut up, faults.up, shared, passing, seen));
        let mut downward = std::pin::pin!(pass(&mut down, faults.down, shared, passing, || {}));
        let (mut is_up, mut is_down) = (true, true);
        loop {
            let passed = tokio::select! {
                passed = &mut upward, if is_up => { is_up = false; passed }
                passed = &mut downward, if is_down => { is_down = false; passed }
                else => return Ended::Whole,
            };
            match passed {
                Passed::All => {}
                Passed::Gone => return Ended::Whole,
                Passed::Broken(Break::OneWay) => {
                    shared.broken.fetch_add(1, SeqCst);
                    let mut healed = shared.healed.subscribe();
                    let other = async { if is_up { (&mut upward).await } else { (&mut downward).await } };
                    tokio::select! {
                        _ = other, if is_up || is_down => {}
                        _ = healed.wait_for(|healed| *healed) => {}
                    }
                    return Ended::Whole;
                }
                Passed::Broken(how) => break how,
            }
        }
    };
    shared.broken.fetch_add(1, SeqCst); // before the ends can know of it
    match broken {
        Break::Silence => Ended::Silent([up, down]),
        Break::Reset => {
            for Halves { from, to } in [up, down] {
                let _ = SockRef::from(from.as_ref()).set_linger(Some(Duration::ZERO)); // where it fails, it is an end
                to.forget(); // dropped, it would end its side first
            }
            Ended::Broken
        }
        Break::End | Break::OneWay | Break::Stall(_) => Ended::Broken,
    }
}

/// Passes bytes on in one direction.
async fn pass(halves: &mut Halves, way: Way, shared: &Shared, passing: &watch::Sender<()>, seen: impl Fn()) -> Passed {
    let Halves { from, to } = halves;
    let (sender, receiver) = channel(CHUNKS);
    let reading = read(from, way, shared, passing, sender);
    let writing = write(&mut *to, way.delay, receiver, seen);
    // The reader's end closes the channel; bytes under way are written first.
    let (read, written) = tokio::join!(reading, writing);
    if !written || (matches!(read, Passed::All) && to.shutdown().await.is_err()) {
        return Passed::Gone;
    }
    read
}

type Chunk = (Instant, Vec<u8>);

async fn read(
    from: &mut OwnedReadHalf,
    way: Way,
    shared: &Shared,
    passing: &watch::Sender<()>,
    sender: Sender<Chunk>,
) -> Passed {
    let mut fault = way.fault;
    let mut healed = shared.healed.subscribe();
    let mut buffer = vec![0; CHUNK];
    loop {
        let count = match from.read(&mut buffer).await {
            Ok(0) => return Passed::All,
            Ok(count) => count,
            Err(_) => return Passed::Gone,
        };
        passing.send_replace(());
        let mut rest = &buffer[..count];
        if let Some(at) = fault.filter(|_| !*healed.borrow()) {
            let passed = rest.len().min(at.after);
            if passed > 0 && sender.send((Instant::now(), rest[..passed].to_vec())).await.is_err() {
                return Passed::Gone;
            }
            rest = &rest[passed..];
            fault = Some(crate::Fault { after: at.after - passed, ..at });
            if !rest.is_empty() {
                match at.then {
                    Break::Stall(time) => {
                        shared.broken.fetch_add(1, SeqCst);
                        let _ = tokio::time::timeout(time, healed.wait_for(|healed| *healed)).await;
                        fault = None;
                    }
                    how => return Passed::Broken(how),
                }
            }
        }
        if !rest.is_empty() && sender.send((Instant::now(), rest.to_vec())).await.is_err() {
            return Passed::Gone;
        }
    }
}

/// False where the receiver has gone.
async fn write(to: &mut OwnedWriteHalf, delay: Duration, mut receiver: Receiver<Chunk>, seen: impl Fn()) -> bool {
    while let Some((at, bytes)) = receiver.recv().await {
        tokio::time::sleep_until(at + delay).await;
        if to.write_all(&bytes).await.is_err() {
            return false;
        }
        seen();
    }
    seen();
    true
}
