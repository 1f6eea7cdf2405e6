//! The presence of a channel. Every change has the next `seq`, also in a later home of the channel; beyond a size only
//! the count is sent, once a second.
//!
//! Messages of a session from one shard arrive in order; messages from one shard and from the next arrive in any order.
//! So an entry carries its incarnation, and a message of an earlier incarnation does not end, change or restore it.

use super::{Cx, Home, Homes};
use crate::error::{Error, ErrorCode};
use crate::ids::{ClientId, ShardId};
use crate::limits::Limits;
use crate::message::{PresenceEntry, PresenceKind, PresencePush, PresenceSnapshot, SignalPush};
use crate::name::ChannelName;
use crate::peer::{Directed, PendingToken, ToEdge};
use crate::rng::Keyed;
use crate::rules::PresenceMode;
use crate::time::Now;
use crate::timer::Timer;
use bytes::Bytes;
use std::collections::HashMap;
use std::sync::Arc;

/// How long counts are collected before they are sent.
const COUNT_MS: u64 = 1_000;
/// A list of all members takes at most so many pages: else a command of 45 bytes could ask for megabytes.
const PAGES_MAX: usize = 4;

#[derive(Debug)]
pub(super) struct Presence {
    seq: u64,
    entries: HashMap<ClientId, Present, Keyed>,
    /// The bytes of the entries in a message.
    bytes: usize,
    /// The count was sent in place of names; names come back with a whole snapshot.
    counting: bool,
    count_due: bool,
}

#[derive(Debug, Clone)]
struct Present {
    /// The `seq` of its join: snapshots list the longest present first.
    joined: u64,
    /// The incarnation of its session that has said so last.
    incarnation: u32,
    entry: Arc<PresenceEntry>,
}

impl Homes {
    pub(super) fn enter(
        &mut self,
        cx: &mut Cx<'_>,
        index: u32,
        entry: Arc<PresenceEntry>,
        incarnation: u32,
    ) -> Result<(), Error> {
        let (hash, seq) = (self.names.hasher(), self.presence_seq);
        let home = &mut self.homes[index as usize];
        if home.mode(cx) == PresenceMode::Off {
            let rule = cx.rules.of(&home.name).map_or("", |rule| rule.pattern.as_str());
            let message = format!("the rule {rule:?} says presence = false");
            return Err(Error::new(ErrorCode::Denied, message).on(&home.name).by_rule(rule).by_option("presence"));
        }
        if self.left.is_over(&home.name, entry.client, incarnation) {
            return Ok(()); // its session has moved and left since
        }
        let presence = home.presence.get_or_insert_with(|| {
            let entries = HashMap::with_hasher(hash);
            Box::new(Presence { seq, entries, bytes: 0, counting: false, count_due: false })
        });
        let next_seq = presence.seq + 1;
        let kind = match presence.entries.get_mut(&entry.client) {
            Some(old) if old.incarnation > incarnation => return Ok(()), // its session has moved and said so itself
            Some(old) => {
                old.incarnation = incarnation;
                if *old.entry == *entry {
                    return Ok(()); // entered again after a short cut: nobody need hear of it
                }
                presence.bytes -= old.entry.cost();
                old.entry = entry.clone();
                PresenceKind::Update
            }
            None => {
                let present = Present { joined: next_seq, incarnation, entry: entry.clone() };
                presence.entries.insert(entry.client, present);
                PresenceKind::Join
            }
        };
        presence.seq = next_seq;
        presence.bytes += entry.cost();
        self.presence_changed(cx, index, kind, entry);
        Ok(())
    }

    /// A home goes. Its channel gets another one later: if the numbers of that began anew, a client that has followed
    /// both would take a late change of the first for a newer one, and ignore those of the second.
    pub(super) fn presence_ends(&mut self, home: &Home) {
        self.presence_seq = self.presence_seq.max(home.presence.as_ref().map_or(0, |presence| presence.seq));
    }

    /// The trusted facts about a client have changed.
    pub(super) fn inform(
        &mut self,
        cx: &mut Cx<'_>,
        index: u32,
        client: ClientId,
        incarnation: u32,
        info: Option<Bytes>,
    ) {
        let Some(presence) = &mut self.homes[index as usize].presence else { return };
        let Some(present) = presence.entries.get_mut(&client) else { return };
        if present.incarnation > incarnation || present.entry.info == info {
            return;
        }
        present.incarnation = incarnation;
        let entry = &mut present.entry;
        presence.bytes -= entry.cost();
        *entry = Arc::new(PresenceEntry { info, ..(**entry).clone() });
        presence.bytes += entry.cost();
        presence.seq += 1;
        let entry = entry.clone();
        self.presence_changed(cx, index, PresenceKind::Update, entry);
    }

    /// The rules have changed. Where presence is switched off each shard ends that of its sessions as it judges them,
    /// so that a session and its home never differ, however soon the rules change again.
    pub(super) fn presence_reloaded(&mut self, cx: &mut Cx<'_>, index: u32) {
        let home = &mut self.homes[index as usize];
        let (mode, life) = (home.mode(cx), home.life);
        let Some(presence) = &mut home.presence else { return };
        if mode != PresenceMode::Off && presence.counting == (mode == PresenceMode::Full) && !presence.count_due {
            // From names to numbers, or back.
            (presence.counting, presence.count_due) = (true, true);
            cx.wheel.add(cx.now.mono_ms + COUNT_MS, Timer::PresenceCount { home: index, life });
        }
    }

    pub(super) fn leave(&mut self, cx: &mut Cx<'_>, index: u32, client: ClientId, incarnation: u32) {
        let name = self.homes[index as usize].name.clone();
        self.remember_left(cx.now, &name, client, incarnation);
        let home = &mut self.homes[index as usize];
        let Some(presence) = &mut home.presence else { return };
        let is_later = |present: &Present| present.incarnation > incarnation;
        if presence.entries.get(&client).is_none_or(is_later) {
            return;
        }
        let Some(Present { entry, .. }) = presence.entries.remove(&client) else { return };
        presence.bytes -= entry.cost();
        presence.seq += 1;
        self.presence_changed(cx, index, PresenceKind::Leave, entry);
    }

    /// Messages of an earlier shard of this session may still be on their way.
    pub(super) fn remember_left(&mut self, now: Now, channel: &ChannelName, client: ClientId, incarnation: u32) {
        if incarnation > 0 {
            self.counts.leaves_forgotten += self.left.left(now.mono_ms, channel, client, incarnation);
        }
    }

    fn presence_changed(&mut self, cx: &mut Cx<'_>, index: u32, kind: PresenceKind, entry: Arc<PresenceEntry>) {
        self.notice_presence(cx, index, kind, &entry);
        let home = &mut self.homes[index as usize];
        let mode = home.mode(cx);
        let (life, channel) = (home.life, home.name.clone());
        let Some(presence) = &mut home.presence else { return };
        if mode == PresenceMode::Off {
            // Switched off: the last leave makes it empty, and no change is sent.
            if presence.is_empty() {
                let snapshot = Arc::new(home.snapshot(cx, self.presence_seq));
                self.tell_interested(cx, index, |_| ToEdge::PresenceWhole(snapshot.clone()));
            }
            return;
        }
        let names = mode == PresenceMode::Full && presence.is_told_by_names(cx.limits);
        if names && !presence.counting {
            let still_there = kind == PresenceKind::Leave && presence.has(entry.person());
            let (seq, ts_ms) = (presence.seq, cx.now.wall_ms);
            let push = Arc::new(PresencePush { channel, kind, entry, still_there, seq, ts_ms });
            return self.tell_interested(cx, index, |_| ToEdge::PresenceChange(push.clone()));
        }
        if !names && mode == PresenceMode::Full && !presence.counting {
            self.counts.presence_limited += 1;
        }
        presence.counting = true;
        if !presence.count_due {
            presence.count_due = true;
            cx.wheel.add(cx.now.mono_ms + COUNT_MS, Timer::PresenceCount { home: index, life });
        }
    }

    /// A second of changes has been collected: sends the count, or the whole presence where that has become small
    /// enough again.
    pub(crate) fn presence_count(&mut self, cx: &mut Cx<'_>, index: u32, life: u32) {
        let Some(home) = self.homes.get_mut(index as usize).filter(|home| home.life == life) else { return };
        let mode = home.mode(cx);
        let Some(presence) = &mut home.presence else { return };
        presence.count_due = false;
        if mode == PresenceMode::Off {
            return;
        }
        let (count, seq) = (presence.entries.len() as u64, presence.seq);
        if mode == PresenceMode::Full && presence.is_told_by_names(cx.limits) {
            presence.counting = false;
            let snapshot = Arc::new(home.snapshot(cx, self.presence_seq));
            self.tell_interested(cx, index, |_| ToEdge::PresenceWhole(snapshot.clone()));
        } else {
            self.tell_interested(cx, index, |_| ToEdge::PresenceCount { count, seq });
        }
    }

    pub(super) fn signal(
        &mut self,
        cx: &mut Cx<'_>,
        index: u32,
        from: ShardId,
        token: PendingToken,
        signal: Arc<SignalPush>,
    ) {
        let mut signal = Arc::unwrap_or_clone(signal);
        signal.ts_ms = cx.now.wall_ms;
        self.counts.signals += 1;
        let signal = Arc::new(signal);
        if signal.signal.to.is_none() {
            self.answer(cx, index, from, ToEdge::Done { token, result: Ok(()) });
            self.tell_interested(cx, index, |_| ToEdge::Signal { signal: signal.clone(), directed: None });
        } else {
            // Directed: each edge says whether it has the receiver, so that a signal to a client that left is an error.
            let shards: Vec<ShardId> = self.homes[index as usize].interests.iter().map(|i| i.shard).collect();
            self.answer(cx, index, from, ToEdge::SignalSent { token, expected: shards.len() as u32 });
            self.next_signal += 1;
            let directed = Some(Directed { origin: from, token, number: self.next_signal });
            for shard in shards {
                self.answer(cx, index, shard, ToEdge::Signal { signal: signal.clone(), directed });
            }
        }
        self.linger(cx, index);
    }
}

impl Presence {
    /// True where somebody is here by any entry. A walk over all of them, which are few where changes are told by
    /// names: a table would cost every member of every channel, and leaving is rare.
    fn has(&self, person: Option<&str>) -> bool {
        person.is_some() && self.entries.values().any(|present| present.entry.person() == person)
    }

    /// Few enough, and small enough, to send each change.
    fn is_told_by_names(&self, limits: &Limits) -> bool {
        self.entries.len() <= limits.presence_entries_max && self.bytes <= PAGES_MAX * limits.page_bytes_max
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}

impl Home {
    fn mode(&self, cx: &Cx<'_>) -> PresenceMode {
        cx.rules.of(&self.name).map_or(PresenceMode::Off, |rule| rule.presence)
    }

    /// `from` is the number from which a presence begins.
    pub(super) fn snapshot(&self, cx: &Cx<'_>, from: u64) -> PresenceSnapshot {
        let Some(presence) = &self.presence else {
            return PresenceSnapshot { seq: from, count: 0, entries: Some(Vec::new()) };
        };
        let count = presence.entries.len();
        let named = count == 0 || (self.mode(cx) == PresenceMode::Full && presence.is_told_by_names(cx.limits));
        let entries = named.then(|| {
            let mut entries: Vec<_> = presence.entries.values().cloned().collect();
            entries.sort_unstable_by_key(|present| present.joined);
            entries.into_iter().map(|present| present.entry).collect()
        });
        PresenceSnapshot { seq: presence.seq, count: count as u64, entries }
    }
}
