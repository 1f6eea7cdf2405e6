//! A shard's thread, and the messages between shards: one batch a turn, over a queue to each other shard.

use super::drain::{DrainBarrier, DrainReport, drain};
use super::polls::{self, Errand};
use super::{Fatal, Shared, Shell, TURN_WORK, accept, app, application, flush, shard_id, streams};
use crate::config::expiry;
use crate::control::Control;
use crate::http::routes::Routes;
use crate::http::routes::admitted;
use crate::transport::listen::ShardListener;
use crate::transport::overload;
use crate::watch::Watch;
use fanfare_hub::{Input, PeerMessage, ShardId};
use std::cell::RefCell;
use std::convert::Infallible;
use std::future::poll_fn;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::mpsc::SyncSender;
use std::task::Poll;
use std::time::{Duration, Instant};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender};
use tokio::sync::oneshot;

/// The messages of one shard to another in one turn. Without a message it is a mark: a shard that has received it has
/// received all earlier messages.
pub(crate) struct Batch {
    pub(crate) from: ShardId,
    pub(crate) messages: Vec<PeerMessage>,
    /// Requests of clients, to be done behind them.
    pub(crate) errands: Vec<Errand>,
    /// When the input arrived that led to the first of them.
    pub(crate) since: Instant,
}

/// The queues into a shard. They are bounded by the hub: it sends no more than the receiver has acknowledged room for.
pub(crate) struct Inbox {
    /// Permits to accept connections, once the whole server is ready. If it is dropped instead, the start has failed.
    pub(crate) begin: oneshot::Receiver<()>,
    pub(crate) batches: UnboundedReceiver<Batch>,
    pub(crate) control: UnboundedReceiver<Control>,
    /// Where the shards of the node wait for each other when they end.
    pub(crate) barrier: DrainBarrier,
    /// Every shard of the node that has not drained yet holds a clone.
    pub(crate) alive: Arc<()>,
}

/// The queues to the other shards, and the messages that wait for the end of the turn.
pub(crate) struct Links {
    me: ShardId,
    peers: Vec<UnboundedSender<Batch>>,
    waiting: Vec<(Vec<PeerMessage>, Vec<Errand>)>,
    /// Since when messages wait.
    since: Option<Instant>,
}

impl Links {
    pub(crate) fn new(me: ShardId, peers: Vec<UnboundedSender<Batch>>) -> Self {
        let waiting = peers.iter().map(|_| Default::default()).collect();
        Links { me, peers, waiting, since: None }
    }

    /// `since` is the arrival time of the input that led to it.
    pub(super) fn tell(&mut self, shard: ShardId, message: PeerMessage, since: Instant) {
        self.waiting[usize::from(shard.0)].0.push(message);
        self.since.get_or_insert(since);
    }

    /// The same for a request of a client.
    pub(super) fn errand(&mut self, shard: ShardId, errand: Errand, since: Instant) {
        self.waiting[usize::from(shard.0)].1.push(errand);
        self.since.get_or_insert(since);
    }

    /// How many shards there are.
    pub(super) fn count(&self) -> usize {
        self.peers.len()
    }

    /// Sends the waiting messages, and a mark behind them, to each other shard.
    pub(super) fn mark(&mut self) {
        self.send();
        for peer in self.peers.iter().enumerate().filter(|(index, _)| *index != usize::from(self.me.0)).map(|(_, p)| p)
        {
            let since = Instant::now();
            let _ = peer.send(Batch { from: self.me, messages: Vec::new(), errands: Vec::new(), since }); // as in `send`
        }
    }

    pub(super) fn me(&self) -> ShardId {
        self.me
    }

    pub(super) fn waiting(&self) -> bool {
        self.since.is_some()
    }

    pub(super) fn send(&mut self) {
        let Some(since) = self.since.take() else { return };
        let is_waiting = |(messages, errands): &(Vec<_>, Vec<_>)| !messages.is_empty() || !errands.is_empty();
        for (peer, waiting) in self.peers.iter().zip(&mut self.waiting).filter(|(_, waiting)| is_waiting(waiting)) {
            let (messages, errands) = std::mem::take(waiting);
            // a shard that has ended hears nothing, and need not
            let _ = peer.send(Batch { from: self.me, messages, errands, since });
        }
    }
}

/// Runs a shard until it has been drained, and reports how that went. `ready` gets a message when it accepts
/// connections, or the error, for example that no descriptor is left for its runtime.
pub(crate) fn run(
    shell: Shell,
    listeners: Vec<ShardListener>,
    routes: Routes,
    inbox: Inbox,
    ready: SyncSender<io::Result<()>>,
) -> DrainReport {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build_local(tokio::runtime::LocalOptions::default());
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => {
            let _ = ready.send(Err(error)); // as below
            return DrainReport::default();
        }
    };
    let _fatal = Fatal;
    let shell: Shared = Rc::new(RefCell::new(shell));
    runtime.block_on(async move {
        let Inbox { begin, batches, mut control, barrier, alive } = inbox;
        tokio::task::spawn_local(flush::run(shell.clone()));
        if !shell.borrow().clock.is_manual() {
            tokio::task::spawn_local(timer(shell.clone()));
        }
        let is_first = shell.borrow().links.me() == shard_id(0);
        tokio::task::spawn_local(overload::watch(routes.watch.connections.clone(), is_first));
        tokio::task::spawn_local(hear(shell.clone(), batches));
        // One shard does it for all.
        let tls = shell.borrow().config.tls.clone().filter(|_| shell.borrow().links.me() == shard_id(0));
        if let Some(tls) = tls {
            tokio::task::spawn_local(expiry::watch(tls));
        }
        let accepting = listeners.into_iter().map(|ShardListener { listener, expects_proxy }| {
            accept::Accepting::new(listener).map(|listener| (listener, expects_proxy))
        });
        let accepting: io::Result<Vec<_>> = accepting.collect();
        let listeners = match accepting {
            Ok(listeners) => listeners,
            Err(error) => {
                let _ = ready.send(Err(error));
                return DrainReport::default();
            }
        };
        let _ = ready.send(Ok(())); // the starter may have given up
        if begin.await.is_err() {
            return DrainReport::default();
        }
        let accepting: Vec<_> = listeners
            .into_iter()
            .map(|(listener, expects_proxy)| {
                tokio::task::spawn_local(accept::run(shell.clone(), listener, expects_proxy, routes.clone()))
            })
            .collect();
        obey(&shell, &routes.watch, &mut control).await;
        accepting.iter().for_each(|task| task.abort());
        // Until the end the application is answered; later requests find the queue closed.
        let report = tokio::select! {
            report = drain(&shell, &barrier, alive) => report,
            never = answer_meanwhile(&shell, &routes.watch, &mut control) => match never {},
        };
        let me = shell.borrow().links.me();
        routes.watch.ended(usize::from(me.0), shell.borrow_mut().figures());
        report
    })
}

/// The work of a task that always has input under load: after [`TURN_WORK`] it lets other tasks run.
#[derive(Default)]
pub(super) struct Pace {
    /// The work since its last pause.
    done: usize,
    begin: usize,
}

impl Pace {
    pub(super) fn begin(&mut self, shell: &Shell) {
        self.begin = shell.work;
    }

    pub(super) fn is_spent(&self, shell: &Shell) -> bool {
        self.done + (shell.work - self.begin) >= TURN_WORK
    }

    pub(super) fn end(&mut self, shell: &Shell) {
        self.done += shell.work - self.begin;
        self.begin = shell.work;
    }

    /// Lets other tasks run if it has done its share.
    pub(super) async fn rest(&mut self) {
        if self.done >= TURN_WORK {
            self.done = 0;
            tokio::task::yield_now().await;
        }
    }
}

/// Handles the messages of other shards.
async fn hear(shell: Shared, mut batches: UnboundedReceiver<Batch>) {
    let _fatal = Fatal;
    let mut pace = Pace::default();
    while let Some(Batch { from, messages, errands, since }) = batches.recv().await {
        shell.borrow_mut().marks += usize::from(messages.is_empty() && errands.is_empty());
        let mut messages = messages.into_iter();
        while messages.len() > 0 {
            {
                let mut shell = shell.borrow_mut();
                let now = shell.now();
                shell.counters.stamp(since);
                pace.begin(&shell);
                for message in messages.by_ref() {
                    shell.act(now, Input::Peer { from, message });
                    if pace.is_spent(&shell) {
                        break;
                    }
                }
                pace.end(&shell);
            }
            pace.rest().await;
        }
        errands.into_iter().for_each(|errand| polls::run(&shell, errand));
    }
}

/// Wakes the hub when it has asked for it.
async fn timer(shell: Shared) {
    let _fatal = Fatal;
    loop {
        let wake_ms = shell.borrow().wake_ms;
        let now_ms = shell.borrow().now().mono_ms;
        let sleep = tokio::time::sleep(Duration::from_millis(
            wake_ms.map_or(u64::from(u32::MAX), |at| at.saturating_sub(now_ms)),
        ));
        tokio::pin!(sleep);
        let due = poll_fn(|cx| {
            if sleep.as_mut().poll(cx).is_ready() {
                return Poll::Ready(true);
            }
            let mut shell = shell.borrow_mut();
            if shell.wake_ms < wake_ms || wake_ms.is_none() && shell.wake_ms.is_some() {
                return Poll::Ready(false); // something earlier has come up
            }
            shell.timer = Some(cx.waker().clone());
            Poll::Pending
        })
        .await;
        if due {
            let mut shell = shell.borrow_mut();
            let now = shell.now();
            shell.journal.tick(now);
            shell.act(now, Input::Wake);
        }
    }
}

/// Handles the server's requests until the request to drain.
async fn obey(shell: &Shared, watch: &Watch, control: &mut UnboundedReceiver<Control>) {
    let mut pace = Pace::default();
    while let Some(control) = control.recv().await {
        pace.begin(&shell.borrow());
        match control {
            Control::Stats(answer) => {
                let _ = answer.send(shell.borrow_mut().figures()); // the caller may not wait for it
            }
            Control::Inspect(inquiry, answer) => {
                let _ = answer.send(shell.borrow().inspect(&inquiry)); // the caller may not wait for it
            }
            Control::Alive(sign) => sign.give(),
            Control::App(asking) => app::take(shell, asking).await,
            Control::HookAnswer(token, answer) => {
                let mut shell = shell.borrow_mut();
                let now = shell.now();
                shell.act(now, Input::HookAnswer { token, answer });
            }
            Control::Reload(judging) => {
                let mut shell = shell.borrow_mut();
                let now = shell.now();
                shell.reload(now, judging);
            }
            Control::Quotas(quotas) => {
                let mut shell = shell.borrow_mut();
                let now = shell.now();
                shell.act(now, Input::Quotas(quotas));
            }
            Control::Hooks(hooks) => {
                let mut shell = shell.borrow_mut();
                let now = shell.now();
                shell.act(now, Input::Hooks(hooks));
            }
            Control::SocketIo(from, on_its_way) => application::operate(shell, from, *on_its_way),
            Control::SocketIoDecision(id, decision) => application::decided(shell, id, *decision),
            Control::SocketIoReady(id) => application::ready(shell, id),
            Control::Adopt(upgraded) => accept::adopt_loose(shell, watch, *upgraded),
            // Its socket is another server's, which may have many streams on one.
            Control::Stream(request, to) => match admitted(&watch.connections, &request.start.peer) {
                Ok(admitted) => streams::bridge(shell, *request, to, admitted),
                Err(_) => streams::turn_away(shell, *request, to),
            },
            Control::Exchange(exchange, answer) => polls::take(shell, exchange, None, answer),
            Control::Advance(ms, done) => {
                let mut shell = shell.borrow_mut();
                let target_ms = shell.now().mono_ms.saturating_add(ms);
                while let Some(due_ms) = shell.wake_ms.filter(|&due_ms| due_ms <= target_ms) {
                    shell.clock.set(due_ms);
                    let now = shell.now();
                    shell.act(now, Input::Wake);
                }
                shell.clock.set(target_ms);
                let _ = done.send(()); // a test that does not wait for it
            }
            Control::Drain => return,
        }
        pace.end(&shell.borrow());
        pace.rest().await;
    }
}

/// Continues with the server's requests while the shard drains, without end: the queue stays open.
async fn answer_meanwhile(shell: &Shared, watch: &Watch, control: &mut UnboundedReceiver<Control>) -> Infallible {
    loop {
        obey(shell, watch, control).await;
        if control.is_closed() && control.is_empty() {
            std::future::pending::<Infallible>().await;
        }
    }
}
