//! Monitoring: metrics for scrapers, answers for probes, and a log that answers "why did my user not get it?".
//!
//! Each shard counts for itself (`counters`); a scrape asks all of them and writes one text (`metrics`). The admin port
//! (`server::admin`) serves it, with `/healthz` and `/readyz`, at the configured address. `request` counts and logs
//! HTTP requests.

pub(crate) mod hooks;
pub(crate) mod inspect;
pub(crate) mod metrics;
pub(crate) mod request;

use crate::config::tls::Tls;
use crate::control::{Control, SignOfLife};
use crate::counters::{Figures, SharedHistogram};
use crate::framing::WireLabel;
use crate::journal::{Audit, Found, Inquiry, Tail};
use crate::limits::{HttpLimit, HttpLimitCounts};
use crate::refusal::HttpRefusal;
use crate::transport::admission::Connections;

use fanfare_hub::{Error, ErrorCode, HookAnswer};
use hooks::HttpHookCounts;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicU8, AtomicU64, AtomicUsize};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};
use tokio::sync::mpsc::{UnboundedSender, WeakUnboundedSender};
use tokio::sync::oneshot;

/// The time that a shard has for a sign of life or its figures. One that takes longer is stuck or overloaded.
pub(crate) const SHARD_PATIENCE: Duration = Duration::from_secs(2);

/// The shared state of monitoring: the queues to the shards, and the counts outside of them.
pub(crate) struct Watch {
    /// Weak: the pages that ask are held by the shards themselves, and must not keep them alive.
    shards: Vec<WeakUnboundedSender<Control>>,
    /// The last figures of each shard. So no total decreases while a shard is silent, or after its end.
    last: Mutex<Vec<Last>>,
    /// By shard, for probes.
    signs: Vec<Arc<SignOfLife>>,
    /// By wire.
    labels: Vec<WireLabel>,
    state: AtomicU8,
    started: SystemTime,
    pub(crate) hooks: HookTimes,
    pub(crate) requests: RequestCounts,
    /// The hooks over HTTP, if there are any.
    pub(crate) http_hooks: HttpHookCounts,
    /// The number of connections, and its limit.
    pub(crate) connections: Arc<Connections>,
    tls: Option<Tls>,
    /// Those who watch what happens.
    pub(crate) tail: Tail,
    /// What was done by the API and the program, for which they are shown rows too.
    pub(crate) audit: Audit,
    /// Connections to the admin port.
    pub(crate) admin_open: Arc<AtomicUsize>,
}

/// The last known state of a shard.
#[derive(Debug, Clone, Default)]
pub(crate) struct Last {
    /// Its last figures; `None` if it has sent none yet.
    pub(crate) figures: Option<Figures>,
    pub(crate) state: ShardState,
}

/// Whether a shard answers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum ShardState {
    /// It has answered the last question in time.
    Answering,
    /// It has not: it is stuck or overloaded.
    #[default]
    Silent,
    /// It has drained.
    Ended,
}

impl Last {
    /// Takes figures over, unless newer ones are known.
    fn take(&mut self, figures: Figures) {
        if self.figures.as_ref().is_none_or(|known| known.number < figures.number) {
            self.figures = Some(figures);
        }
    }
}

/// Whether the server takes connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum State {
    Starting,
    Ready,
    /// The server was asked to stop, and still serves as before while balancers notice.
    Leaving,
    Draining,
}

/// The words for handlers, in the order of [`HookTimes`].
pub(crate) const HOOKS: [&str; 14] = [
    "on_connect",
    "on_subscribe",
    "on_publish",
    "rpc",
    "on_disconnect",
    "socketio_guard",
    "socketio_on_connect",
    "socketio_on",
    "socketio_on_disconnect",
    "on_join",
    "on_leave",
    "on_occupied",
    "on_vacated",
    "on_published",
];
/// The words for how they ended.
pub(crate) const HOOK_RESULTS: [&str; 5] = ["answered", "refused", "timeout", "failed", "dropped"];

/// How long handlers took, and how they ended.
#[derive(Debug, Default)]
pub(crate) struct HookTimes {
    pub(crate) seconds: [SharedHistogram; HOOKS.len()],
    pub(crate) results: [[AtomicU64; HOOK_RESULTS.len()]; HOOKS.len()],
}

/// How a handler ended, in the order of [`HOOK_RESULTS`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum HookResult {
    Answered,
    Refused,
    Timeout,
    Failed,
}

impl HookResult {
    /// The result of a handler that ended with this error.
    pub(crate) fn of(error: &Error) -> Self {
        match error.code {
            ErrorCode::Timeout => HookResult::Timeout,
            ErrorCode::Internal => HookResult::Failed,
            _ => HookResult::Refused,
        }
    }
}

impl HookTimes {
    /// A handler, by its place in [`HOOKS`], has answered.
    pub(crate) fn done(&self, hook: usize, answer: &HookAnswer, took: Duration) {
        let result = match answer {
            HookAnswer::Refused(error) => HookResult::of(error),
            _ => HookResult::Answered,
        };
        self.ended(hook, result, took);
    }

    /// The same for a handler that has ended so.
    pub(crate) fn ended(&self, hook: usize, result: HookResult, took: Duration) {
        self.seconds[hook].observe(took);
        self.results[hook][result as usize].fetch_add(1, Relaxed);
    }

    /// Counts events that a handler is not called for.
    pub(crate) fn dropped(&self, hook: usize, count: usize) {
        self.results[hook][4].fetch_add(count as u64, Relaxed);
    }
}

/// HTTP requests, by the first digit of their status.
#[derive(Debug, Default)]
pub(crate) struct RequestCounts {
    pub(crate) by_class: [AtomicU64; 6],
    pub(crate) seconds: SharedHistogram,
    pub(crate) limits: HttpLimitCounts,
}

impl RequestCounts {
    /// A request is answered; refused at this limit, if it is.
    pub(crate) fn answered(&self, status: u16, limit: Option<HttpLimit>) {
        self.by_class[usize::from(status / 100).min(5)].fetch_add(1, Relaxed);
        if let Some(limit) = limit {
            self.limits.reached(limit);
        }
    }

    /// A request was refused on its way to an answer of its own.
    pub(crate) fn refused(&self, refused: &HttpRefusal) {
        self.answered(refused.status(), refused.reached());
    }
}

impl Watch {
    pub(crate) fn new(
        shards: &[UnboundedSender<Control>],
        labels: Vec<WireLabel>,
        connections: Arc<Connections>,
        tls: Option<Tls>,
        http_hooks: HttpHookCounts,
        audit: Audit,
    ) -> Arc<Self> {
        Arc::new(Watch {
            shards: shards.iter().map(UnboundedSender::downgrade).collect(),
            last: Mutex::new(vec![Last::default(); shards.len()]),
            signs: shards.iter().map(|_| Arc::default()).collect(),
            labels,
            state: AtomicU8::new(State::Starting as u8),
            started: SystemTime::now(),
            hooks: HookTimes::default(),
            requests: RequestCounts::default(),
            http_hooks,
            connections,
            tls,
            tail: audit.tail().clone(),
            audit,
            admin_open: Arc::default(),
        })
    }

    pub(crate) fn set(&self, state: State) {
        self.state.store(state as u8, Relaxed);
        if state == State::Draining {
            self.tail.end();
        }
    }

    pub(crate) fn state(&self) -> State {
        match self.state.load(Relaxed) {
            state if state == State::Starting as u8 => State::Starting,
            state if state == State::Ready as u8 => State::Ready,
            state if state == State::Leaving as u8 => State::Leaving,
            _ => State::Draining,
        }
    }

    /// Asks every shard for a sign of life, all at once. Names those that gave none in time. One that has ended is not
    /// silent: a shard that fails ends the process, so it ended because the server stops.
    pub(crate) async fn silent_shards(&self) -> Vec<usize> {
        let deadline = tokio::time::Instant::now() + SHARD_PATIENCE;
        let asked: Vec<_> = (self.shards.iter().zip(&self.signs).enumerate())
            .filter_map(|(index, (shard, sign))| {
                let shard = shard.upgrade()?;
                let given = sign.given();
                if sign.ask() {
                    shard.send(Control::Alive(sign.clone())).ok()?;
                }
                Some((index, shard.downgrade(), given))
            })
            .collect();
        let mut silent = Vec::new();
        for (index, shard, mut given) in asked {
            let has_ended = || shard.upgrade().is_none_or(|shard| shard.is_closed());
            if tokio::time::timeout_at(deadline, given.changed()).await.is_err() && !has_ended() {
                silent.push(index);
            }
        }
        silent
    }

    /// Asks every shard for its figures, all at once, and returns the last known ones. A shard that does not answer in
    /// time, or has ended, keeps its earlier figures.
    pub(crate) async fn ask_shards(&self) -> Vec<Last> {
        let asked: Vec<_> = self
            .shards
            .iter()
            .map(|shard| {
                let (answer, answered) = oneshot::channel();
                shard.upgrade().is_some_and(|shard| shard.send(Control::Stats(answer)).is_ok()).then_some(answered)
            })
            .collect();
        let deadline = tokio::time::Instant::now() + SHARD_PATIENCE;
        let mut answers = Vec::with_capacity(asked.len());
        for answered in asked {
            answers.push(match answered {
                Some(answered) => tokio::time::timeout_at(deadline, answered).await.ok().and_then(Result::ok),
                None => None,
            });
        }
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        for (last, answer) in last.iter_mut().zip(answers) {
            match answer {
                _ if last.state == ShardState::Ended => {}
                Some(figures) => {
                    last.state = ShardState::Answering;
                    last.take(figures);
                }
                None => last.state = ShardState::Silent,
            }
        }
        last.clone()
    }

    /// Asks every shard an operator's question, all at once. A shard that does not answer in time, or has ended, is
    /// left out of the answer: each has its number.
    pub(crate) async fn inquire(&self, inquiry: Inquiry) -> Vec<(usize, Found)> {
        let inquiry = Arc::new(inquiry);
        let asked = self.shards.iter().enumerate().filter_map(|(index, shard)| {
            let (answer, answered) = oneshot::channel();
            shard.upgrade()?.send(Control::Inspect(inquiry.clone(), answer)).ok()?;
            Some((index, answered))
        });
        let asked: Vec<_> = asked.collect();
        let deadline = tokio::time::Instant::now() + SHARD_PATIENCE;
        let mut answers = Vec::with_capacity(asked.len());
        for (index, answered) in asked {
            if let Ok(Ok(found)) = tokio::time::timeout_at(deadline, answered).await {
                answers.push((index, found));
            }
        }
        answers
    }

    /// A shard has drained: these are its last figures.
    pub(crate) fn ended(&self, shard: usize, figures: Figures) {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(last) = last.get_mut(shard) {
            last.take(figures);
            last.state = ShardState::Ended;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::counters::{Histogram, WireCounts};

    /// A shard that has had so many publications.
    fn figures(number: u64, publications: u64) -> Figures {
        let mut hub = fanfare_hub::Stats::default();
        hub.counts.publications = publications;
        let counts = WireCounts { messages_in: publications, ..WireCounts::default() };
        Figures {
            number,
            hub,
            open: 0,
            accepted: 0,
            http_connections: Default::default(),
            wires: vec![counts],
            ended: Vec::new(),
            ignored: Vec::new(),
            outbox_bytes: 0,
            delivered: Histogram::default(),
            store: Default::default(),
        }
    }

    fn value(text: &str, sample: &str) -> u64 {
        let line = text.lines().find_map(|line| line.strip_prefix(sample)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("no {sample} in {text}")).parse().expect("a whole number")
    }

    #[tokio::test(start_paused = true)]
    async fn totals_stay_while_a_shard_is_silent_and_after_its_end() {
        let (controls, mut inboxes): (Vec<_>, Vec<_>) = (0..2).map(|_| tokio::sync::mpsc::unbounded_channel()).unzip();
        let watch = Watch::new(
            &controls,
            vec![WireLabel { transport: "websocket", protocol: "native" }],
            Connections::new(&crate::Config::default()),
            None,
            HttpHookCounts::default(),
            Audit::default(),
        );
        let total = "fanfare_messages_received_total{protocol=\"native\"}";
        // (The answer of each shard, if any; the total; how many shards answer, are silent, have ended.)
        let table = [
            ("both answer", [Some(figures(1, 5)), Some(figures(1, 7))], 12, [2, 0, 0]),
            ("one is silent", [Some(figures(2, 6)), None], 13, [1, 1, 0]),
            ("both are", [None, None], 13, [0, 2, 0]),
            ("an older answer comes late", [Some(figures(1, 5)), Some(figures(2, 8))], 14, [2, 0, 0]),
        ];
        for (name, answers, sum, states) in table {
            let text = {
                let answering = async {
                    let mut held = Vec::new();
                    for (inbox, answer) in inboxes.iter_mut().zip(answers) {
                        let Some(Control::Stats(asked)) = inbox.recv().await else { panic!("{name}: a question") };
                        match answer {
                            Some(figures) => drop(asked.send(figures)),
                            None => held.push(asked),
                        }
                    }
                    std::future::pending::<()>().await;
                    drop(held);
                };
                tokio::select! {
                    text = watch.metrics() => text,
                    () = answering => unreachable!("it waits without end"),
                }
            };
            assert_eq!(value(&text, total), sum, "{name}");
            for (state, count) in ["answering", "silent", "ended"].iter().zip(states) {
                assert_eq!(value(&text, &format!("fanfare_shards{{state=\"{state}\"}}")), count, "{name}: {state}");
            }
        }
        watch.ended(1, figures(9, 20));
        drop((controls, inboxes));
        let text = watch.metrics().await;
        assert_eq!(value(&text, total), 26, "a shard that has drained keeps its last figures");
        assert_eq!(value(&text, "fanfare_shards{state=\"ended\"}"), 1);
    }
}
