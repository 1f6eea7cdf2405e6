//! The kinds of notices of channels, each with its handlers.

use super::dispatch::ChannelHandler;
use super::handler::Erased;
use fanfare_hub::{ChannelEvent, ChannelName, ChannelNotices, Pattern};

/// What has happened in a channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NoticeKind {
    Join,
    Leave,
    Occupied,
    Vacated,
    Published,
}

impl NoticeKind {
    pub(crate) const ALL: [NoticeKind; 5] =
        [NoticeKind::Join, NoticeKind::Leave, NoticeKind::Occupied, NoticeKind::Vacated, NoticeKind::Published];

    pub(crate) fn of(event: &ChannelEvent) -> Self {
        match event {
            ChannelEvent::Joined(_) => NoticeKind::Join,
            ChannelEvent::Left(_) => NoticeKind::Leave,
            ChannelEvent::Occupied => NoticeKind::Occupied,
            ChannelEvent::Vacated => NoticeKind::Vacated,
            ChannelEvent::Published { .. } => NoticeKind::Published,
        }
    }

    /// The method of the builder.
    pub(crate) fn word(self) -> &'static str {
        match self {
            NoticeKind::Join => "on_join",
            NoticeKind::Leave => "on_leave",
            NoticeKind::Occupied => "on_occupied",
            NoticeKind::Vacated => "on_vacated",
            NoticeKind::Published => "on_published",
        }
    }
}

/// The handlers of all kinds. Of several whose patterns match a channel the first is called.
#[derive(Default)]
pub(crate) struct NoticeHandlers([Vec<ChannelHandler>; NoticeKind::ALL.len()]);

impl NoticeHandlers {
    pub(crate) fn of_kind(&self, kind: NoticeKind) -> &Vec<ChannelHandler> {
        &self.0[kind as usize]
    }

    pub(crate) fn add(&mut self, kind: NoticeKind, handler: ChannelHandler) {
        self.0[kind as usize].push(handler);
    }

    pub(crate) fn all(&self) -> impl Iterator<Item = &ChannelHandler> {
        self.0.iter().flatten()
    }

    /// The handler of such an event.
    pub(crate) fn find(&self, channel: &ChannelName, event: &ChannelEvent) -> Option<&Erased> {
        let handlers = self.of_kind(NoticeKind::of(event));
        handlers.iter().find(|handler| handler.pattern.matches(channel)).map(|handler| &handler.handler)
    }

    /// Adds what the hub must notify of for them.
    pub(crate) fn add_to(&self, notices: &mut ChannelNotices) {
        let patterns = |kind| self.of_kind(kind).iter().map(|handler| handler.pattern.clone());
        let add = |to: &mut Vec<Pattern>, kind| to.extend(patterns(kind));
        add(&mut notices.join, NoticeKind::Join);
        add(&mut notices.leave, NoticeKind::Leave);
        add(&mut notices.occupancy, NoticeKind::Occupied);
        add(&mut notices.occupancy, NoticeKind::Vacated);
        add(&mut notices.published, NoticeKind::Published);
    }
}
