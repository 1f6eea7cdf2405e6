//! What the application is notified of about a channel: it is occupied or vacated, a client has entered or left its
//! presence, something was published.
//!
//! In: what the home sees. Out: [`Notice`]s, in the order in which it saw them; the shard adds them to the effects of
//! the input. A channel is occupied from its first subscription to its last: an edge tells the home of both a little
//! later, so a subscription that ends and comes back at once is no change. Entries come in the order of their offsets,
//! each once. Without [`Hooks::channels`](crate::Hooks::channels) nothing is kept.

use super::{Cx, Homes};
use crate::hook::{ChannelEvent, Notice, NoticeKinds};
use crate::ids::Epoch;
use crate::message::{PresenceEntry, PresenceKind, Publication};
use std::sync::Arc;

impl Homes {
    /// The notices since the last call.
    pub(crate) fn take_notices(&mut self) -> std::vec::Drain<'_, Notice> {
        self.notices.drain(..)
    }

    /// The number of subscriptions may have changed.
    pub(super) fn notice_occupancy(&mut self, cx: &Cx<'_>, index: u32) {
        let home = &mut self.homes[index as usize];
        let is_occupied = home.subscribers() > 0;
        if !home.notify.occupancy || is_occupied == home.occupied {
            return;
        }
        home.occupied = is_occupied;
        self.notice(cx, index, if is_occupied { ChannelEvent::Occupied } else { ChannelEvent::Vacated });
    }

    pub(super) fn notice_presence(&mut self, cx: &Cx<'_>, index: u32, kind: PresenceKind, entry: &Arc<PresenceEntry>) {
        let NoticeKinds { join, leave, .. } = self.homes[index as usize].notify;
        match kind {
            PresenceKind::Join if join => self.notice(cx, index, ChannelEvent::Joined(entry.clone())),
            PresenceKind::Leave if leave => self.notice(cx, index, ChannelEvent::Left(entry.clone())),
            _ => {}
        }
    }

    pub(super) fn notice_published(&mut self, cx: &Cx<'_>, index: u32, epoch: Epoch, publication: &Arc<Publication>) {
        if self.homes[index as usize].notify.published {
            self.notice(cx, index, ChannelEvent::Published { epoch, publication: publication.clone() });
        }
    }

    fn notice(&mut self, cx: &Cx<'_>, index: u32, event: ChannelEvent) {
        let channel = self.homes[index as usize].name.clone();
        self.notices.push(Notice::Channel { channel, ts_ms: cx.now.wall_ms, event });
    }
}
