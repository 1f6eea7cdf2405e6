//! One subscribed channel: its state, the presence entry that the application wants there, and its place.
//!
//! In: answers and messages of this channel, as `subscriptions.rs` gives them. Out: events, and the options for the
//! server, from the last place that the application got.

use super::leaving::Known;
use super::out::Out;
use super::requests::{Purpose, Requests};
use super::subscriptions::Online;
use super::types::{CallError, CallId, Event};
use bytes::Bytes;
use fanfare_wire::native::client::{ClientCommand, Position, Publication, ServerMessage, Subscribe, Subscribed};
use std::sync::Arc;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    /// Not on the server, and to be asked for.
    Detached,
    /// Asked for by `connect`, whose subscriptions are answered without an id.
    Bare { deadline_ms: u64 },
    /// Asked for by a command.
    Requested,
    /// The server could not do it now.
    Resting { until_ms: u64 },
    /// Events come.
    Live,
    /// The receiver of the events could not keep up.
    Paused,
}

/// An entry in the channel's presence, which the application wants to stand there.
#[derive(Debug)]
pub(super) struct Entered {
    pub(super) data: Bytes,
    /// Waits to hear that it stands.
    pub(super) call: Option<CallId>,
    /// When to enter again: the last time was not answered, or refused for now.
    pub(super) again_ms: Option<u64>,
    pub(super) retries: u32,
}

#[derive(Debug)]
pub(super) struct Subscription {
    /// Tells this subscription from earlier ones to the same channel.
    pub(super) life: u64,
    pub(super) options: Subscribe,
    pub(super) state: State,
    pub(super) position: Option<Position>,
    /// The server made it, and the application has not asked for it.
    pub(super) by_server: bool,
    /// The first answer is waited for.
    pub(super) call: Option<CallId>,
    pub(super) entered: Option<Entered>,
    /// The entry was given up while there was no connection; a session that is taken up again still has it.
    pub(super) clear: bool,
    /// When to say so again: the last time was not answered, or refused for now.
    pub(super) clear_at_ms: Option<u64>,
    pub(super) clear_retries: u32,
    pub(super) presence_seq: Option<u64>,
    /// The newest change that came before the presence was known. A presence that is older lacks it.
    pub(super) presence_early: Option<u64>,
    /// Messages that came before the answer to `subscribe`. A `subscribed` among them: the server has a subscription of
    /// its own making, which goes on with the messages behind it if ours is refused.
    pub(super) held: Vec<ServerMessage>,
    /// The answer to the `subscribe` of this life, which waits for the answer to an earlier one.
    pub(super) early: Option<(u64, ServerMessage)>,
    /// There were more.
    pub(super) overflowed: bool,
    /// When to ask again who is present: the last time was not answered.
    pub(super) presence_at_ms: Option<u64>,
    /// A page of its history could not be decoded: the next time it continues from the server's newest position.
    pub(super) passes_over: bool,
    /// More pages were to follow the first one of its last beginning.
    pub(super) has_pages: bool,
    pub(super) retries: u32,
    pub(super) presence_retries: u32,
}

impl Subscription {
    pub(super) fn new(life: u64, options: Subscribe, position: Option<Position>) -> Self {
        Subscription {
            life,
            options,
            state: State::Detached,
            position,
            by_server: false,
            call: None,
            entered: None,
            clear: false,
            clear_at_ms: None,
            clear_retries: 0,
            presence_seq: None,
            presence_early: None,
            held: Vec::new(),
            early: None,
            overflowed: false,
            presence_at_ms: None,
            passes_over: false,
            has_pages: false,
            retries: 0,
            presence_retries: 0,
        }
    }

    /// Where it is, when it ends or begins anew.
    pub(super) fn known(&self) -> Known {
        if let Some(ServerMessage::Subscribed(crossed)) = self.crossed().map(|at| &self.held[at]) {
            return Known::At(crossed.position.clone());
        }
        match (&self.position, self.state) {
            (None, _) => Known::Nothing,
            (Some(position), State::Live) => Known::At(position.clone()),
            (Some(position), _) => Known::Since(position.clone()),
        }
    }

    /// Numbers of another life are not compared with those of this one.
    pub(super) fn forget_presence(&mut self) {
        (self.presence_seq, self.presence_early) = (None, None);
    }

    /// The presence lacks a change that came before it: it is asked for again, each time later than the last.
    pub(super) fn presence_again(&mut self, now_ms: u64) {
        let rest_ms = if self.presence_retries == 0 { 0 } else { 250 << self.presence_retries.min(5) };
        self.presence_at_ms = Some(now_ms + rest_ms);
        self.presence_retries += 1;
    }

    pub(super) fn ask_presence(&mut self, at: Online<'_>, channel: &Arc<str>, requests: &mut Requests, out: &mut Out) {
        self.presence_at_ms = None;
        let purpose = Purpose::PresenceSync { channel: channel.clone(), life: self.life };
        requests.ask(out, true, at.deadline_ms(), purpose, ClientCommand::Presence { channel: channel.clone() });
    }

    /// It is asked for at this time, unless the application enters before.
    pub(super) fn clear_later(&mut self, at_ms: u64) {
        self.clear_at_ms = Some(at_ms);
        self.clear_retries += 1;
    }

    pub(super) fn is_clear_due(&self, now_ms: u64) -> bool {
        self.state == State::Live && self.clear && self.clear_at_ms.is_some_and(|due_ms| due_ms <= now_ms)
    }

    /// Takes an entry back that the application has given up.
    pub(super) fn ask_clear(&mut self, at: Online<'_>, channel: &Arc<str>, requests: &mut Requests, out: &mut Out) {
        self.clear_at_ms = None;
        let purpose = Purpose::Clear { channel: channel.clone(), life: self.life };
        requests.ask(out, true, at.deadline_ms(), purpose, ClientCommand::PresenceClear { channel: channel.clone() });
    }

    /// The options for the server, from the last place that the application got.
    pub(super) fn ask(&self) -> Subscribe {
        if self.passes_over {
            return Subscribe { since: None, recent: None, ..self.options.clone() };
        }
        Subscribe { since: self.position.clone(), ..self.options.clone() }
    }

    pub(super) fn is_bare(&self) -> bool {
        matches!(self.state, State::Bare { .. })
    }

    pub(super) fn is_known_there(&self) -> bool {
        matches!(self.state, State::Bare { .. } | State::Requested | State::Live) || self.crossed().is_some()
    }

    /// Where in `held` the server says that it has subscribed us by itself.
    fn crossed(&self) -> Option<usize> {
        self.held.iter().position(|held| matches!(held, ServerMessage::Subscribed(_)))
    }

    /// True where the server has a subscription of its own making, and ours is not answered or is to be asked for.
    pub(super) fn is_crossed(&self) -> bool {
        self.crossed().is_some()
    }

    /// The server has a subscription of its own making, which ours begins anew.
    pub(super) fn cross(&mut self, subscribed: Subscribed) {
        self.held.retain(|held| !matches!(held, ServerMessage::Subscribed(_)));
        self.held.push(ServerMessage::Subscribed(Box::new(subscribed)));
    }

    /// What the server has subscribed us to is over.
    pub(super) fn uncross(&mut self) {
        if self.crossed().is_some() {
            (self.held, self.overflowed) = (Vec::new(), false);
        }
    }

    /// The subscription of the server's own making, unless it has ended, and the messages about it.
    pub(super) fn take_crossed(&mut self) -> Option<(Subscribed, Vec<ServerMessage>)> {
        let mut held = self.held.split_off(self.crossed()?);
        let ServerMessage::Subscribed(subscribed) = held.remove(0) else { return None };
        let has_ended = held.iter().any(|held| matches!(held, ServerMessage::Unsubscribed(_)));
        (!has_ended).then_some((*subscribed, held))
    }

    /// Answers the calls that wait for it.
    pub(super) fn fail(&self, out: &mut Out, error: &CallError) {
        let entering = self.entered.as_ref().and_then(|entered| entered.call);
        for call in self.call.into_iter().chain(entering) {
            out.answer(call, Err(error.clone()));
        }
    }
}

impl Entered {
    pub(super) fn new(data: Bytes, call: CallId) -> Self {
        Entered { data, call: Some(call), again_ms: None, retries: 0 }
    }

    pub(super) fn enter(
        &mut self,
        at: Online<'_>,
        channel: &Arc<str>,
        life: u64,
        requests: &mut Requests,
        out: &mut Out,
    ) {
        self.again_ms = None;
        let purpose = Purpose::Enter { channel: channel.clone(), life, call: self.call.take() };
        let command = ClientCommand::PresenceSet { channel: channel.clone(), data: self.data.clone() };
        requests.ask(out, true, at.deadline_ms(), purpose, command);
    }
}

/// A subscription that the server has made, from where it is now.
pub(super) fn made(channel: &Arc<str>, position: &Position) -> Subscribed {
    let (channel, position) = (channel.clone(), position.clone());
    Subscribed { id: None, channel, position, recovered: None, publications: Vec::new(), more: false }
}

/// The bytes of a message that is held, about.
pub(super) fn weight(message: &ServerMessage) -> usize {
    const OVERHEAD: usize = 256;
    let json = |bytes: &Option<Bytes>| bytes.as_ref().map_or(0, Bytes::len);
    let payload = match message {
        ServerMessage::Message { publication, .. } => publication.data.bytes().len(),
        ServerMessage::Subscribed(subscribed) => {
            subscribed.publications.iter().map(|publication| OVERHEAD + publication.data.bytes().len()).sum()
        }
        ServerMessage::Signal(signal) => signal.data.len(),
        ServerMessage::PresenceChange(change) => json(&change.entry.data) + json(&change.entry.info),
        ServerMessage::Presence(presence) => {
            let entries = presence.entries.iter().flatten();
            entries.map(|entry| OVERHEAD + json(&entry.data) + json(&entry.info)).sum()
        }
        _ => 0,
    };
    OVERHEAD + payload
}

/// True for the place of a gap of an earlier subscription to the channel. It would lead back to what is told already.
pub(super) fn is_behind(gap: &Position, known: Option<&Position>) -> bool {
    known.is_some_and(|known| known.epoch == gap.epoch && gap.offset <= known.offset)
}

/// The place before the first page of a subscription; `after` is the one behind it. That offsets are not dense does
/// not matter: nothing stands between this one and the first of the page.
pub(super) fn before_page(after: &Position, page: &[Publication]) -> Position {
    let offset = page.first().map_or(after.offset, |first| first.offset.saturating_sub(1).min(after.offset));
    Position { epoch: after.epoch.clone(), offset }
}

/// Tells a publication that is newer than `place`, and moves it there. Places of two epochs are not compared.
pub(super) fn tell(
    channel: &Arc<str>,
    epoch: &Arc<str>,
    place: &mut Option<Position>,
    publication: Publication,
    out: &mut Out,
) {
    if place.as_ref().is_some_and(|place| place.epoch == *epoch && publication.offset <= place.offset) {
        return;
    }
    let position = Position { epoch: epoch.clone(), offset: publication.offset };
    let before = place.replace(position.clone());
    out.event(channel, Event::Message { publication: Box::new(publication), position }, before);
}
