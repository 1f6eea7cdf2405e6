//! The requests of the server, the application and monitoring to a shard, and the channels for its answers.
//!
//! Each shard has one queue of [`Control`]. It has no bound of its own: commands of the application hold a part of the
//! room that a [`Handle`](crate::Handle) gives out, and there are few of the others.

use crate::counters::Figures;
use crate::journal::{Found, Inquiry};
use crate::protocol::exchange::{Exchange, ExchangeAnswer};
use crate::protocol::socketio::{Decision, MembersQuestion, OnItsWay, SocketKey};
use crate::protocol::stream::{Bridged, StreamRequest};
use crate::refusal::HttpRefusal;
use crate::request::{Peer, RequestInfo};
use crate::transport::socket::LooseSocket;
use fanfare_hub::{AppAnswer, AppCommand, ConnId, HookAnswer, HookToken, Hooks, Quotas, Rules, WireId};
use std::sync::Arc;
use std::sync::atomic::Ordering::{AcqRel, Release};
use std::sync::atomic::{AtomicBool, AtomicUsize};
use tokio::sync::{OwnedSemaphorePermit, oneshot, watch};

/// A request of the server to a shard.
pub(crate) enum Control {
    /// Stop accepting, ask all clients to come back elsewhere, and end when they have left.
    Drain,
    /// Commands of the application, and where their answers go.
    App(AppRequest),
    /// The answer to a question of the hub.
    HookAnswer(HookToken, Box<HookAnswer>),
    /// A socket that was upgraded elsewhere.
    Adopt(Box<Upgraded>),
    /// A stream of another server's client, and where its answer goes.
    Stream(Box<StreamRequest>, oneshot::Sender<Result<Bridged, HttpRefusal>>),
    /// A poll or a send of another server's client.
    Exchange(Exchange, ExchangeAnswer),
    /// Advance the manual clock by so many ms, and answer when the due timers have fired.
    Advance(u64, oneshot::Sender<()>),
    /// The rules have changed.
    Reload(Arc<Judging>),
    /// What clients and users may do in a time has changed.
    Quotas(Quotas),
    /// The application is asked and notified of this.
    Hooks(Arc<Hooks>),
    /// Send the figures.
    Stats(oneshot::Sender<Figures>),
    /// An operator asks.
    Inspect(Arc<Inquiry>, oneshot::Sender<Found>),
    /// Give a sign of life.
    Alive(Arc<SignOfLife>),
    /// An operation of a Socket.IO handler: of a socket, or for a namespace as a whole.
    SocketIo(Option<SocketKey>, Box<OnItsWay>),
    /// The guards have decided about a client of this connection.
    SocketIoDecision(ConnId, Box<Decision>),
    /// The handlers have caught up with the events of this connection: it may be read again.
    SocketIoReady(ConnId),
}

/// A socket that another server has upgraded.
pub(crate) struct Upgraded {
    pub(crate) socket: LooseSocket,
    /// The client's end. `Unknown` if the other server does not tell and the socket is a bridge to it.
    pub(crate) peer: Peer,
    pub(crate) wire: WireId,
    /// The bytes after the head.
    pub(crate) rest: Vec<u8>,
    /// The head, if the protocol or a handler needs it.
    pub(crate) request: Option<Arc<RequestInfo>>,
    /// The id of the session of Engine.IO that it is for, if it begins none.
    pub(crate) sid: Option<Box<str>>,
}

/// Commands of the application, and the channels for their answers.
pub(crate) enum AppRequest {
    One(Box<AppCommand>, oneshot::Sender<AppAnswer>, OwnedSemaphorePermit),
    /// The answers stand in the order of the commands.
    All(Vec<AppCommand>, oneshot::Sender<Vec<AppAnswer>>, OwnedSemaphorePermit),
    /// A question to members of a channel.
    Members(Box<MembersQuestion>),
}

/// Rules on their way to every shard.
pub(crate) struct Judging {
    pub(crate) rules: Arc<Rules>,
    shards_left: AtomicUsize,
    ended: AtomicUsize,
}

impl Judging {
    pub(crate) fn new(rules: Rules, shards: usize) -> Self {
        let (shards_left, ended) = (AtomicUsize::new(shards), AtomicUsize::new(0));
        Judging { rules: Arc::new(rules), shards_left, ended }
    }

    /// One shard has checked its subscriptions and ended so many of them. The last shard logs the sum.
    pub(crate) fn done(&self, ended: usize) {
        let subscriptions_ended = self.ended.fetch_add(ended, AcqRel) + ended;
        if self.shards_left.fetch_sub(1, AcqRel) == 1 {
            tracing::info!(
                rules = self.rules.iter().len(),
                subscriptions_ended,
                "subscriptions were checked against the rules"
            );
        }
    }
}

/// Whether a shard takes its turns. All probes share one question: at most one is on its way to a shard at a time.
#[derive(Debug)]
pub(crate) struct SignOfLife {
    is_asked: AtomicBool,
    /// How often the shard has answered.
    given: watch::Sender<u64>,
}

impl Default for SignOfLife {
    fn default() -> Self {
        SignOfLife { is_asked: AtomicBool::new(false), given: watch::Sender::new(0) }
    }
}

impl SignOfLife {
    /// True if the question must be sent: none is on its way.
    pub(crate) fn ask(&self) -> bool {
        !self.is_asked.swap(true, AcqRel)
    }

    /// Changes when the shard answers the next time.
    pub(crate) fn given(&self) -> watch::Receiver<u64> {
        self.given.subscribe()
    }

    /// Called by the shard.
    pub(crate) fn give(&self) {
        // First this: a later caller asks again, and no caller waits for an answer that was given before.
        self.is_asked.store(false, Release);
        self.given.send_modify(|times| *times += 1);
    }
}
