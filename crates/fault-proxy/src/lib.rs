//! A TCP proxy that breaks what passes through it, for tests, benches and demos.
//!
//! In: the address of a server, and a plan: the [`Faults`] of each connection, by its number. Out: a [`FaultProxy`],
//! whose [`address`](FaultProxy::address) clients connect to. Bytes pass unchanged and in order up to the byte at
//! which a fault stands; half-closed connections stay half-closed. A plan that draws its faults from a seed gives the
//! same faults each time; when they hit depends on the network, as always.
//!
//! The proxy has a thread of its own, so a blocking test can use it as well as an asynchronous one. It ends when it is
//! dropped, with all its connections.
//!
//! ```no_run
//! use fanfare_fault_proxy::{Break, FaultProxy, Faults, Way};
//!
//! // Every third connection loses the answer to its request.
//! let plan = |number| if number % 3 == 2 { Faults::answer_lost() } else { Faults::default() };
//! let proxy = FaultProxy::start("127.0.0.1:8080".parse()?, plan)?;
//! println!("connect to {}", proxy.address);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod http;
mod pass;

pub use http::{Meddling, Stop};
use pass::{Ended, Joined, join};
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// The faults of one connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Faults {
    /// On the way to the server.
    pub up: Way,
    /// On the way to the client.
    pub down: Way,
    /// The server sees this connection after the next one, or after this time where no other comes: connections that
    /// overtake each other.
    pub behind_the_next: Option<Duration>,
    /// The connection ends when no byte has passed in either direction for so long.
    pub idle_max: Option<Duration>,
    /// The connection is one of a bad HTTP proxy; [`up`](Self::up) and [`down`](Self::down) do not apply to it.
    pub http: Option<Meddling>,
}

/// One direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Way {
    /// Every byte takes so much longer. The order stays.
    pub delay: Duration,
    /// After so many bytes, this happens to the byte that follows.
    pub fault: Option<Fault>,
}

/// A fault at its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fault {
    /// Bytes that pass before it.
    pub after: usize,
    /// The fault that comes then.
    pub then: Break,
}

/// How a connection breaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Break {
    /// Both ends see the end of the stream.
    End,
    /// Both ends get a reset.
    Reset,
    /// A connection that is half open: no byte passes any more in either direction, and neither end learns of it.
    Silence,
    /// No byte passes any more in this direction; the other direction goes on.
    OneWay,
    /// No byte passes in this direction for so long; then it goes on.
    Stall(Duration),
}

impl Way {
    /// A fault after so many bytes.
    pub fn broken(after: usize, then: Break) -> Self {
        Way { fault: Some(Fault { after, then }), ..Way::default() }
    }

    /// A longer way.
    pub fn delayed(delay: Duration) -> Self {
        Way { delay, ..Way::default() }
    }
}

impl Faults {
    /// The same in both directions.
    pub fn both(way: Way) -> Self {
        Faults { up: way, down: way, ..Faults::default() }
    }

    /// The request arrives, and its answer does not: the connection ends instead.
    pub fn answer_lost() -> Self {
        Faults { down: Way::broken(0, Break::End), ..Faults::default() }
    }

    /// A proxy that ends connections which are silent for so long.
    pub fn idle_max(time: Duration) -> Self {
        Faults { idle_max: Some(time), ..Faults::default() }
    }

    /// A bad HTTP proxy.
    pub fn meddling(how: Meddling) -> Self {
        Faults { http: Some(how), ..Faults::default() }
    }
}

/// The proxy, until it is dropped.
#[derive(Debug)]
pub struct FaultProxy {
    /// Where clients connect.
    pub address: SocketAddr,
    shared: Arc<Shared>,
    stop: watch::Sender<()>,
    thread: Option<JoinHandle<()>>,
}

/// The state that the owner and the connections share.
#[derive(Debug)]
struct Shared {
    /// Faults hit no more.
    healed: watch::Sender<bool>,
    /// New connections are closed at once.
    blocked: watch::Sender<bool>,
    /// Counts the cuts of all open connections.
    cuts: watch::Sender<u64>,
    /// Connections that the server has seen the first byte of, or the end.
    seen: watch::Sender<u64>,
    accepted: AtomicU64,
    broken: AtomicU64,
}

impl FaultProxy {
    /// Listens on a free port of this machine and passes connections on to `server`. `plan` gives the faults of each
    /// connection, by its number from 0.
    ///
    /// # Errors
    /// The system gives no port or no thread.
    pub fn start(server: SocketAddr, plan: impl FnMut(u64) -> Faults + Send + 'static) -> io::Result<Self> {
        Self::start_at(Ipv4Addr::LOCALHOST.into(), server, plan)
    }

    /// The same at this address of the machine.
    ///
    /// # Errors
    /// As for [`start`](Self::start); or there is no such address.
    pub fn start_at(
        address: IpAddr,
        server: SocketAddr,
        plan: impl FnMut(u64) -> Faults + Send + 'static,
    ) -> io::Result<Self> {
        let listener = std::net::TcpListener::bind((address, 0))?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared {
            healed: watch::Sender::new(false),
            blocked: watch::Sender::new(false),
            cuts: watch::Sender::new(0),
            seen: watch::Sender::new(0),
            accepted: AtomicU64::new(0),
            broken: AtomicU64::new(0),
        });
        let (stop, mut stopped) = watch::channel(());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let of_thread = shared.clone();
        let body = move || {
            runtime.block_on(async {
                tokio::select! {
                    () = accept(listener, server, plan, of_thread) => {}
                    _ = stopped.changed() => {} // its sender is gone
                }
            });
        };
        let thread = std::thread::Builder::new().name("fault-proxy".to_owned()).spawn(body)?;
        Ok(FaultProxy { address, shared, stop, thread: Some(thread) })
    }

    /// From now on no fault hits. Connections that are silent are cut, because their ends would wait for their
    /// timeouts; stalled ones go on.
    pub fn heal(&self) {
        self.shared.healed.send_replace(true);
    }

    /// Ends every open connection through it. Later ones pass.
    pub fn cut(&self) {
        self.shared.cuts.send_modify(|cuts| *cuts += 1);
    }

    /// With `true`, every new connection is closed at once.
    pub fn block(&self, blocked: bool) {
        self.shared.blocked.send_replace(blocked);
    }

    /// Connections that have come so far.
    pub fn accepted(&self) -> u64 {
        self.shared.accepted.load(SeqCst)
    }

    /// Faults that have hit so far.
    pub fn broken(&self) -> u64 {
        self.shared.broken.load(SeqCst)
    }
}

impl Drop for FaultProxy {
    fn drop(&mut self) {
        self.stop = watch::Sender::new(());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join(); // it ends at once; the panic hook has reported a panic of the plan
        }
    }
}

async fn accept(
    listener: std::net::TcpListener,
    server: SocketAddr,
    mut plan: impl FnMut(u64) -> Faults,
    shared: Arc<Shared>,
) {
    let Ok(listener) = TcpListener::from_std(listener) else { return };
    loop {
        let Ok((near, _)) = listener.accept().await else { continue };
        if *shared.blocked.borrow() {
            continue;
        }
        let number = shared.accepted.fetch_add(1, SeqCst);
        tokio::spawn(serve(near, server, number, plan(number), shared.clone()));
    }
}

async fn serve(near: TcpStream, server: SocketAddr, number: u64, faults: Faults, shared: Arc<Shared>) {
    let mut cuts = shared.cuts.subscribe();
    cuts.mark_unchanged();
    let passing = watch::Sender::new(());
    let mut passed = passing.subscribe();
    let joined = async {
        if let Some(patience) = faults.behind_the_next {
            let mut seen = shared.seen.subscribe();
            let next = seen.wait_for(|seen| *seen > number + 1);
            // Where no other connection comes, this one goes on.
            let _ = tokio::time::timeout(patience, next).await;
        }
        let Ok(far) = TcpStream::connect(server).await else { return };
        if let Some(how) = faults.http {
            return http::meddle(near, far, how, &passing).await;
        }
        match join(Joined { near, far, faults, number }, &shared, &passing).await {
            Ended::Whole | Ended::Broken => {}
            Ended::Silent(sockets) => {
                let _ = shared.healed.subscribe().wait_for(|healed| *healed).await;
                drop(sockets);
            }
        }
    };
    let idle = async {
        match faults.idle_max {
            Some(time) => {
                while tokio::time::timeout(time, passed.changed()).await.is_ok() {}
                shared.broken.fetch_add(1, SeqCst); // before the ends can know of it
            }
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        () = joined => {}
        _ = cuts.changed() => {}
        () = idle => {}
    }
}
