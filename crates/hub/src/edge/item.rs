//! An item: a thing that a channel tells to its members on this shard, and which of them take it.

use super::batch::Gathered;
use super::{Member, MemberSessions, MemberState};
use crate::act::Act;
use crate::effects::Effects;
use crate::ids::{Epoch, Position, WireId};
use crate::message::{PresencePush, PresenceSnapshot, Publication, Push, SignalPush};
use crate::name::ChannelName;
use crate::watch::{Note, Noted};
use std::sync::Arc;

#[derive(Debug)]
pub(super) enum Item {
    Publication(Epoch, Arc<Publication>),
    Batch(Gathered),
    /// The publications before this place are lost; `reset` where it is of a new epoch.
    Skip {
        to: Position,
        reset: bool,
    },
    Signal(Arc<SignalPush>),
    /// For the members as they are now; it has no place in the log.
    Unlogged(Epoch, Arc<Publication>),
    Presence(Arc<PresencePush>),
    PresenceCount {
        count: u64,
        seq: u64,
    },
    PresenceWhole(Arc<PresenceSnapshot>),
}

impl Item {
    pub(super) fn bytes(&self) -> usize {
        const OTHER: usize = 128;
        match self {
            Item::Publication(_, publication) | Item::Unlogged(_, publication) => publication.cost(),
            Item::Batch(gathered) => gathered.bytes(),
            Item::Signal(signal) => OTHER + signal.signal.data.len(),
            Item::Presence(push) => OTHER + push.entry.cost(),
            Item::PresenceWhole(snapshot) => OTHER + snapshot.cost(),
            Item::Skip { .. } | Item::PresenceCount { .. } => OTHER,
        }
    }

    /// The place in the channel that this item brings.
    pub(super) fn ends_at(&self) -> Option<Position> {
        match self {
            Item::Publication(epoch, publication) => Some(Position { epoch: *epoch, offset: publication.offset }),
            Item::Skip { to, .. } => Some(*to),
            _ => None,
        }
    }

    /// An entry with an act.
    pub(super) fn act(&self) -> Option<(Epoch, &Arc<Publication>)> {
        match self {
            Item::Publication(epoch, publication) | Item::Unlogged(epoch, publication) => {
                publication.act.is_some().then_some((*epoch, publication))
            }
            _ => None,
        }
    }

    /// For the watchers: the first members are told of this. (A batch has waited because its members wanted that.)
    pub(super) fn begins(&self, channel: &ChannelName, out: &mut Effects) {
        match self {
            Item::Publication(_, publication) => out.begun(publication.ts_ms),
            Item::Skip { reset, .. } => {
                let what = Noted::Gap { channel: channel.clone(), reset: *reset };
                out.note(Note { conn: None, client: None, user: None, what }); // it concerns all of them
            }
            _ => {}
        }
    }

    /// The group with which its fan-out begins.
    pub(super) fn first_group(&self) -> u32 {
        if let Item::Batch(gathered) = self { gathered.group } else { 0 }
    }

    /// Tells it to those of `members` that want it.
    pub(super) fn tell(
        &self,
        members: &mut [Member],
        sessions: &mut impl MemberSessions,
        out: &mut Effects,
        (channel, wire): (&ChannelName, WireId),
    ) {
        if let Item::Batch(gathered) = self {
            return gathered.tell(members, sessions, out, (channel, wire));
        }
        let start = out.mark();
        self.add_recipients(members, sessions, out);
        out.push_from(start, self.push(channel), wire);
    }

    fn add_recipients(&self, members: &mut [Member], sessions: &mut impl MemberSessions, out: &mut Effects) {
        match self {
            Item::Publication(..) | Item::Unlogged(..) => {
                for member in members {
                    if self.is_taken(member, sessions) {
                        out.recipient(member.conn);
                    }
                }
            }
            Item::Batch(_) => {} // sends itself
            Item::Skip { to, reset } => {
                // A member that is behind finds the loss itself when it pulls; a member that has just come may be past
                // it.
                for member in members.iter_mut().filter(|m| !m.is_behind() && (m.epoch != to.epoch || m.at < to.offset))
                {
                    if *reset == (member.epoch == to.epoch) {
                        // It is in the new epoch already, where nothing that it still wants need be lost: it sees for
                        // itself.
                        member.state = MemberState::Behind;
                        sessions.must_pull(member.session);
                        continue;
                    }
                    (member.at, member.epoch) = (to.offset, to.epoch);
                    out.recipient(member.conn);
                }
            }
            Item::Signal(signal) => {
                let sender = signal.from.client.and_then(|client| sessions.session_of(client));
                for member in members {
                    if !member.signals || Some(member.session) == sender {
                        continue;
                    }
                    match member.state {
                        MemberState::Live | MemberState::Behind => out.recipient(member.conn),
                        MemberState::Blocked => sessions.keep(member.session, signal),
                    }
                }
            }
            Item::Presence(_) | Item::PresenceCount { .. } | Item::PresenceWhole(_) => {
                for member in members.iter().filter(|m| m.presence) {
                    match member.state {
                        MemberState::Live | MemberState::Behind => out.recipient(member.conn),
                        MemberState::Blocked => sessions.presence_missed(member.session, member.slot),
                    }
                }
            }
        }
    }

    /// Whether a member gets this publication now. It moves on to its place, and the act is noted where it is for this
    /// member.
    pub(super) fn is_taken(&self, member: &mut Member, sessions: &mut impl MemberSessions) -> bool {
        match self {
            Item::Publication(epoch, publication) => {
                let is_live = !member.is_behind();
                // A member that is behind reads the others' acts in its own time; of a question it must be known now
                // that it will be asked.
                let asks = matches!(publication.act.as_deref(), Some(Act::Ask(_)));
                if member.at >= publication.offset || member.epoch != *epoch || !(is_live || asks) {
                    return false;
                }
                if is_live {
                    member.at = publication.offset;
                }
                if publication.is_narrow() && !sessions.wants(member, publication) {
                    return false;
                }
                if publication.act.is_some() {
                    sessions.acts(member);
                }
                is_live && publication.is_shown()
            }
            Item::Unlogged(epoch, publication) => {
                if member.epoch != *epoch || !sessions.wants(member, publication) {
                    return false;
                }
                if publication.act.is_some() {
                    sessions.acts(member);
                }
                member.state == MemberState::Live && publication.is_shown()
            }
            _ => false,
        }
    }

    pub(super) fn push(&self, channel: &ChannelName) -> Push {
        let channel = channel.clone();
        match self {
            Item::Publication(epoch, publication) => {
                Push::Message { channel, epoch: *epoch, publication: publication.clone() }
            }
            Item::Unlogged(_, publication) => Push::Volatile { channel, publication: publication.clone() },
            Item::Batch(gathered) => Push::Messages { channel, publications: gathered.publications.clone() },
            Item::Skip { to, reset } => Push::Gap { channel, position: *to, reset: *reset },
            Item::Signal(signal) => Push::Signal(signal.clone()),
            Item::Presence(push) => Push::Presence(push.clone()),
            Item::PresenceCount { count, seq } => Push::PresenceCount { channel, count: *count, seq: *seq },
            Item::PresenceWhole(snapshot) => Push::PresenceSnapshot { channel, snapshot: snapshot.clone() },
        }
    }
}
