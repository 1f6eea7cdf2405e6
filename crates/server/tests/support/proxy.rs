//! A wire that breaks: TCP connections to a server, each of which is cut or falls silent after a number of bytes, at
//! any place: in the handshake, between two frames, within one.

use super::Random;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};

/// How connections end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Break {
    /// Both ends get a reset, or an end of the stream.
    Cut,
    /// No bytes pass any more, and neither end learns of it.
    Silence,
}

/// The wire. It ends with the test's runtime.
pub struct Proxy {
    pub address: SocketAddr,
    whole: Arc<AtomicBool>,
    /// Connections that were broken.
    broken: Arc<AtomicUsize>,
}

impl Proxy {
    /// Breaks each connection after up to `up_max` bytes to the server, or up to `down_max` from it. Every fourth
    /// connection lasts sixteen times as long, so that answers that are longer than that still arrive.
    pub async fn start(server: SocketAddr, seed: u64, how: Break, up_max: usize, down_max: usize) -> Proxy {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        let (whole, broken) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let random = Mutex::new(Random::new(seed));
        let (is_whole, count) = (whole.clone(), broken.clone());
        tokio::spawn(async move {
            let mut number = 0;
            while let Ok((near, _)) = listener.accept().await {
                number += 1;
                let times = if number % 4 == 0 { 16 } else { 1 };
                let Ok(far) = TcpStream::connect(server).await else { continue };
                let mut random = random.lock().expect("no panic");
                let (up, down) = (times * random.below(up_max), times * random.below(down_max));
                tokio::spawn(join(near, far, (up, down), how, is_whole.clone(), count.clone()));
            }
        });
        Proxy { address, whole, broken }
    }

    pub fn url(&self) -> String {
        format!("ws://{}/v1/ws", self.address)
    }

    /// Breaks no connection from now on. Cuts those that are silent already, because their ends would take a timeout.
    pub fn heal(&self) {
        self.whole.store(true, Ordering::SeqCst);
    }

    pub fn broken(&self) -> usize {
        self.broken.load(Ordering::SeqCst)
    }
}

async fn join(
    near: TcpStream,
    far: TcpStream,
    (up, down): (usize, usize),
    how: Break,
    whole: Arc<AtomicBool>,
    broken: Arc<AtomicUsize>,
) {
    for socket in [&near, &far] {
        socket.set_nodelay(true).expect("a socket takes the option");
    }
    let ((near_read, near_write), (far_read, far_write)) = (near.into_split(), far.into_split());
    let ended = tokio::select! {
        ended = pass(near_read, far_write, up, &whole) => ended,
        ended = pass(far_read, near_write, down, &whole) => ended,
    };
    let Some(halves) = ended else { return };
    broken.fetch_add(1, Ordering::SeqCst);
    if how == Break::Silence {
        while !whole.load(Ordering::SeqCst) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
    drop(halves);
}

/// Passes bytes on, at most `left` of them until all connections are healed. Returns both halves when that limit is
/// reached.
async fn pass(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut left: usize,
    whole: &AtomicBool,
) -> Option<(OwnedReadHalf, OwnedWriteHalf)> {
    let mut buffer = vec![0; 4096];
    loop {
        let count = from.read(&mut buffer).await.ok().filter(|count| *count > 0)?;
        let passed = if whole.load(Ordering::SeqCst) { count } else { count.min(left) };
        to.write_all(&buffer[..passed]).await.ok()?;
        left = left.saturating_sub(passed);
        if passed < count {
            return Some((from, to));
        }
    }
}
