//! Notices to the application over HTTP: what has happened, after it has happened.
//!
//! In: the hub's notices, from all shards. Out: batches, each one signed POST, one after the other, so that the order
//! of a channel holds. A batch that is not taken is sent again, with the same ids, until it is taken or too old: so a
//! notice arrives at least once. Nothing waits for the application: what waits for it is bounded in bytes, and what
//! finds no room is dropped, counted and logged once; a notice of the type `dropped` stands in its place. A server
//! that stops sends what waits, as long as it has time.

use super::line::{Connections, Sender};
use crate::config::hooks::{NoticesConfig, PAUSE_MAX, PAUSE_MIN};
use crate::random::random;
use crate::watch::hooks::NoticeCounts;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use fanfare_hub::{Caller, ChannelEvent, ChannelNotices, Data, Ended, Notice};
use serde::Serialize;
use serde_json::value::RawValue;
use std::collections::VecDeque;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard};
use std::time::{Duration, Instant};
use tokio::sync::Notify;

/// The most notices of one batch.
const BATCH_MAX: usize = 256;
/// A batch with more bytes takes no further notice: a single one may be longer.
const BATCH_BYTES_MAX: usize = 256 << 10;
/// The memory of a waiting notice besides its texts.
const OVERHEAD: usize = 200;

/// What waits for the application, and what became of the rest.
#[derive(Debug)]
pub(crate) struct Notifier {
    config: RwLock<NoticesConfig>,
    connections: Connections,
    sender: Arc<Sender>,
    queue: Mutex<Queue>,
    /// Something waits, or the server stops.
    changed: Notify,
    /// Nothing waits any more.
    is_empty: Condvar,
    pub(super) counts: Arc<NoticeCounts>,
}

#[derive(Debug, Default)]
struct Queue {
    waiting: VecDeque<Waiting>,
    bytes: usize,
    next: u64,
    /// The batch that is being sent.
    on_its_way: usize,
    is_stopping: bool,
    /// The log has said that there is no room, and there has been none since.
    is_full: bool,
}

/// A notice with its number.
#[derive(Debug)]
struct Waiting {
    number: u64,
    ts_ms: u64,
    what: What,
    cost: usize,
}

#[derive(Debug)]
enum What {
    Notice(Notice),
    /// So many found no room.
    Dropped(u64),
}

impl Notifier {
    pub(super) fn new(config: NoticesConfig, connections: Connections, sender: Arc<Sender>) -> Self {
        Notifier {
            config: RwLock::new(config),
            connections,
            sender,
            queue: Mutex::default(),
            changed: Notify::new(),
            is_empty: Condvar::new(),
            counts: Arc::default(),
        }
    }

    /// Later notices are those of this configuration, and later batches go to its address, within its times. Without
    /// an address there are no further notices, and those that wait go to the old one.
    pub(super) fn reload(&self, config: &NoticesConfig) {
        let mut config = config.clone();
        if config.url.is_none() {
            config.channels.clear();
            config.disconnect = false;
        }
        let url = config.url.clone();
        *self.config.write().unwrap_or_else(PoisonError::into_inner) = config;
        if url.is_some_and(|url| self.connections.go_to(&url)) {
            self.changed.notify_one(); // a batch that is not taken need not wait
        }
    }

    fn config(&self) -> RwLockReadGuard<'_, NoticesConfig> {
        self.config.read().unwrap_or_else(PoisonError::into_inner) // nothing in here panics between two changes
    }

    /// What the hub must notify of.
    pub(crate) fn of_channels(&self) -> ChannelNotices {
        let NoticesConfig { channels, occupied, vacated, join, leave, published, .. } = &*self.config();
        let if_ = |is_on| if is_on { channels.clone() } else { Vec::new() };
        ChannelNotices {
            occupancy: if_(*occupied || *vacated),
            join: if_(*join),
            leave: if_(*leave),
            published: if_(*published),
        }
    }

    /// Whether the ends of sessions are notified.
    pub(crate) fn of_sessions(&self) -> bool {
        self.config().disconnect
    }

    /// Counts what waits.
    fn count(&self, queue: &Queue) {
        self.counts.waiting.store((queue.waiting.len() + queue.on_its_way) as u64, Relaxed);
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner) // nothing in here panics between two changes
    }

    /// Takes a notice in, or drops it. Called by shards: it never waits for the application.
    pub(crate) fn put(&self, now_ms: u64, notice: &Notice) {
        let bytes_max = {
            let config = self.config();
            if !is_wanted(&config, notice) {
                return;
            }
            config.bytes_max
        };
        let (ts_ms, cost) = match notice {
            Notice::Channel { channel, ts_ms, event } => (*ts_ms, channel.len() + event.cost()),
            Notice::SessionEnded { caller, .. } => (now_ms, caller.info.as_ref().map_or(0, Bytes::len)),
        };
        let cost = OVERHEAD + cost;
        let mut queue = self.queue();
        if queue.bytes + cost > bytes_max {
            self.counts.dropped.fetch_add(1, Relaxed);
            let says = !std::mem::replace(&mut queue.is_full, true);
            match queue.waiting.back_mut() {
                Some(Waiting { what: What::Dropped(count), .. }) => *count += 1,
                _ => queue.add(ts_ms, What::Dropped(1), OVERHEAD),
            }
            drop(queue);
            if says {
                let limit = bytes_max;
                tracing::error!(
                    limit,
                    "notices are dropped: the application does not take them (hooks.notices_bytes_max)"
                );
            }
            return;
        }
        let notice = match notice {
            // The request of its connection would be kept with it.
            Notice::SessionEnded { caller, why, .. } => {
                Notice::SessionEnded { caller: caller.clone(), why: *why, attachment: None }
            }
            other => other.clone(),
        };
        queue.add(ts_ms, What::Notice(notice), cost);
        self.count(&queue);
        drop(queue);
        self.changed.notify_one();
    }

    /// Sends what comes, for the life of the server.
    pub(crate) async fn run(self: Arc<Self>) {
        loop {
            let Some(batch) = self.next() else {
                self.changed.notified().await;
                continue;
            };
            let taken = self.deliver(&batch).await;
            let count = batch.len() as u64;
            if taken {
                self.counts.sent.fetch_add(count, Relaxed);
            } else {
                self.counts.dropped.fetch_add(count, Relaxed);
            }
            let mut queue = self.queue();
            queue.on_its_way = 0;
            queue.bytes -= batch.iter().map(|waiting| waiting.cost).sum::<usize>();
            queue.is_full &= !taken;
            if !taken {
                queue.add_first(What::Dropped(count));
            }
            self.count(&queue);
            if queue.waiting.is_empty() {
                self.is_empty.notify_all();
            }
        }
    }

    /// The next batch: it is on its way from here on. Its bytes count until it is taken.
    fn next(&self) -> Option<Vec<Waiting>> {
        let mut queue = self.queue();
        let (mut batch, mut bytes) = (Vec::new(), 0);
        while batch.len() < BATCH_MAX && bytes < BATCH_BYTES_MAX {
            let Some(waiting) = queue.waiting.pop_front() else { break };
            bytes += waiting.cost;
            batch.push(waiting);
        }
        queue.on_its_way = batch.len();
        (!batch.is_empty()).then_some(batch)
    }

    /// Sends one batch until it is taken. False: it is too old.
    async fn deliver(&self, batch: &[Waiting]) -> bool {
        let (id, body) = (self.sender.id(), Bytes::from(self.body(batch)));
        let begin = Instant::now();
        let mut pause = PAUSE_MIN;
        let mut failed = false;
        loop {
            let sent = Instant::now();
            let (timeout, age_max) = {
                let config = self.config();
                (config.timeout, config.age_max)
            };
            let posted = tokio::time::timeout(timeout, self.connections.post(&id, &body, BATCH_BYTES_MAX));
            let why = match posted.await {
                Ok(Ok(answer)) if answer.status.is_success() => {
                    self.counts.seconds.observe(sent.elapsed());
                    if failed {
                        tracing::info!(url = self.connections.shown(), "notices are taken again");
                    }
                    return true;
                }
                Ok(Ok(answer)) => format!("the status is {}", answer.status),
                Ok(Err(error)) => error.to_string(),
                Err(_) => format!("no answer within {} ms (hooks.notice_timeout)", timeout.as_millis()),
            };
            self.counts.seconds.observe(sent.elapsed());
            self.counts.failures.fetch_add(1, Relaxed);
            let (url, notices) = (self.connections.shown(), batch.len());
            if begin.elapsed() >= age_max {
                tracing::error!(
                    url,
                    notices,
                    why,
                    "notices are dropped: they were not taken in time (hooks.notice_age_max)"
                );
                return false;
            }
            if !std::mem::replace(&mut failed, true) {
                tracing::warn!(url, notices, why, "notices are not taken: they wait and are sent again");
            }
            // Half of it at random, so that several servers do not come back together.
            let part = random().map_or(0.5, |random| (random % 1024) as f64 / 1024.0);
            let is_stopping = self.queue().is_stopping;
            let wait = if is_stopping { PAUSE_MIN / 5 } else { pause.mul_f64(0.5 + part / 2.0) };
            tokio::select! {
                () = tokio::time::sleep(wait) => pause = (pause * 2).min(PAUSE_MAX),
                () = self.stopping(is_stopping) => {}
            }
        }
    }

    /// Comes when the server stops, if it did not before.
    async fn stopping(&self, was_before: bool) {
        loop {
            self.changed.notified().await;
            if self.queue().is_stopping && !was_before {
                return;
            }
        }
    }

    /// The server stops: waits until everything is sent, or the time is over. Returns the number that is left.
    pub(crate) fn flush(&self, time: Duration) -> usize {
        let end = Instant::now() + time;
        let mut queue = self.queue();
        queue.is_stopping = true;
        self.changed.notify_one();
        loop {
            let left = queue.waiting.len() + queue.on_its_way;
            let now = Instant::now();
            if left == 0 || now >= end {
                return left;
            }
            let waited = self.is_empty.wait_timeout(queue, end - now);
            queue = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn body(&self, batch: &[Waiting]) -> Vec<u8> {
        let notices = batch.iter().map(|waiting| written(self.sender.node, waiting)).collect();
        serde_json::to_vec(&Batch { r#type: "notices", notices }).unwrap_or_default() // nothing in it can fail
    }
}

/// The hub notifies of more: what the program's handlers want, and both ends of an occupancy.
fn is_wanted(config: &NoticesConfig, notice: &Notice) -> bool {
    let Notice::Channel { channel, event, .. } = notice else { return config.disconnect };
    let is_on = match event {
        ChannelEvent::Occupied => config.occupied,
        ChannelEvent::Vacated => config.vacated,
        ChannelEvent::Joined(_) => config.join,
        ChannelEvent::Left(_) => config.leave,
        ChannelEvent::Published { .. } => config.published,
    };
    is_on && config.channels.iter().any(|pattern| pattern.matches(channel))
}

impl Queue {
    fn add(&mut self, ts_ms: u64, what: What, cost: usize) {
        let number = self.number();
        self.bytes += cost;
        self.waiting.push_back(Waiting { number, ts_ms, what, cost });
    }

    fn add_first(&mut self, what: What) {
        let number = self.number();
        let ts_ms = self.waiting.front().map_or(0, |first| first.ts_ms);
        self.bytes += OVERHEAD;
        self.waiting.push_front(Waiting { number, ts_ms, what, cost: OVERHEAD });
    }

    fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }
}

#[derive(Serialize)]
struct Batch<'b> {
    r#type: &'static str,
    notices: Vec<Written<'b>>,
}

#[derive(Serialize, Default)]
struct Written<'b> {
    id: String,
    r#type: &'static str,
    ts: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    channel: Option<&'b str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    client: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<&'b str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    info: Option<&'b RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    epoch: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    offset: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    event: Option<&'b str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<&'b RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    data64: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    idempotency_key: Option<&'b str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    count: Option<u64>,
}

/// A payload as it came; `None` for one that no codec lets through.
fn raw(json: &[u8]) -> Option<&RawValue> {
    serde_json::from_slice(json).ok()
}

fn written(node: u64, waiting: &Waiting) -> Written<'_> {
    let base = Written { id: format!("ntc_{node:016x}_{:x}", waiting.number), ts: waiting.ts_ms, ..Written::default() };
    match &waiting.what {
        What::Dropped(count) => Written { r#type: "dropped", count: Some(*count), ..base },
        What::Notice(Notice::SessionEnded { caller: Caller { client, user, info, .. }, why, .. }) => Written {
            r#type: "disconnect",
            client: client.map(|client| client.to_string()),
            user: user.as_ref().map(|user| &*user.0),
            info: info.as_ref().and_then(|info| raw(info)),
            reason: Some(match why {
                Ended::Left => "left",
                Ended::Lost => "lost",
                Ended::Closed(reason) => reason.row().word,
            }),
            ..base
        },
        What::Notice(Notice::Channel { channel, event, .. }) => {
            let base = Written { channel: Some(channel.as_str()), ..base };
            let (entry, r#type) = match event {
                ChannelEvent::Occupied => return Written { r#type: "occupied", ..base },
                ChannelEvent::Vacated => return Written { r#type: "vacated", ..base },
                ChannelEvent::Published { epoch, publication } => {
                    let (data, data64) = match &publication.data {
                        Data::Json(json) => (raw(json), None),
                        Data::Binary(bytes) => (None, Some(STANDARD.encode(bytes))),
                    };
                    let from = publication.from.as_ref();
                    return Written {
                        r#type: "published",
                        epoch: Some(epoch.to_string()),
                        offset: Some(publication.offset),
                        event: publication.event.as_deref(),
                        data,
                        data64,
                        idempotency_key: publication.idempotency_key.as_deref(),
                        client: from.and_then(|from| from.client).map(|client| client.to_string()),
                        user: from.and_then(|from| from.user.as_ref()).map(|user| &*user.0),
                        ..base
                    };
                }
                ChannelEvent::Joined(entry) => (entry, "join"),
                ChannelEvent::Left(entry) => (entry, "leave"),
            };
            Written {
                r#type,
                client: Some(entry.client.to_string()),
                user: entry.user.as_ref().map(|user| &*user.0),
                info: entry.info.as_ref().and_then(|info| raw(info)),
                data: raw(&entry.data),
                ..base
            }
        }
    }
}
