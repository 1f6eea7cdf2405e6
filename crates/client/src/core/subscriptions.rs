//! The subscribed channels: each goes on, over every connection, from the last place that the application got.
//!
//! Within one subscription offsets rise; a publication at or below the place is not delivered again. Where the server
//! cannot give everything since the place, or its answer cannot be read, the application gets a [`Event::Gap`]
//! before anything newer. Presence is asked for anew whenever the subscription becomes live, until that is answered,
//! and changes at or below its number are skipped.
//!
//! The server may subscribe us to a channel by itself: then it is followed like those that were asked for, over cuts
//! too. A `subscribe` of ours begins it anew. Until that is answered, its messages are held: if ours is refused, the
//! server's own subscription goes on.
//!
//! Over HTTP the answer to a `subscribe` comes by another request than the messages of the channel, which may overtake
//! it: they are held until the answer is there (`held.rs`). The answers to two `subscribe`s may change places too: the
//! later one waits for the earlier one, which names the epoch of what is held.
//! A presence that is older than a change before it is asked for again.
//!
//! What the server has pushed for a subscription that the application has left may come when the next one is live. Of
//! its publications and gaps the positions say so (`leaving.rs`), of its changes of presence the numbers, which rise as
//! long as the connection lasts: they are in the list that the next subscription asks for, and its own lists do not
//! take the place of that one. Of an end the answer to `unsubscribe` says so. A signal says nothing, and is told: it
//! was sent a moment ago.

use super::leaving::{Known, Leaving};
use super::out::Out;
use super::publishes::rest_ms;
use super::requests::{Purpose, Requests, refused};
use super::subscription::{Entered, State, Subscription, before_page, is_behind, made, tell};
use super::types::{Answer, CallError, CallId, Config, Event, Output};
use bytes::Bytes;
use fanfare_hub::{ERRORS, ErrorCode, Rng};
use fanfare_wire::native::client::{
    ClientCommand, ErrorReply, Position, Publication, ServerMessage, Subscribe, Subscribed, Unsubscribed,
};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Subscriptions that a server takes in one `connect`, until it has said how many.
const CONNECT_MAX: usize = 128;

/// All of them, by channel.
#[derive(Debug)]
pub(super) struct Subscriptions {
    pub(super) all: BTreeMap<Arc<str>, Subscription>,
    /// Channels of `connect` that the application left before their answer: that is not the server's own. Over HTTP it
    /// may come after the answer to `unsubscribe`.
    owed: BTreeSet<Arc<str>>,
    /// Messages about this channel may be of a subscription that ended on this connection.
    ambiguous: Option<Arc<str>>,
    /// A `subscribed` of the server's own that comes before the answer to an `unsubscribe` is ended by it.
    pub(super) leaving: Leaving,
    last_life: u64,
    /// One more in `connect` and the server refuses it as a whole.
    connect_max: usize,
}

impl Default for Subscriptions {
    fn default() -> Self {
        let (all, leaving) = (BTreeMap::new(), Leaving::default());
        Subscriptions { all, owed: BTreeSet::new(), ambiguous: None, leaving, last_life: 0, connect_max: CONNECT_MAX }
    }
}

/// The facts about the connection that subscriptions use while it is online.
#[derive(Debug, Clone, Copy)]
pub(super) struct Online<'a> {
    pub(super) now_ms: u64,
    pub(super) config: &'a Config,
}

impl Online<'_> {
    pub(super) fn deadline_ms(self) -> u64 {
        self.now_ms + self.config.request_timeout_ms
    }
}

impl Subscriptions {
    pub(super) fn add(&mut self, call: CallId, mut options: Subscribe, out: &mut Out) {
        let channel = options.channel.clone();
        if let Some(subscription) = self.all.get_mut(&channel) {
            if !std::mem::take(&mut subscription.by_server) {
                return out.answer(call, Err(CallError::AlreadySubscribed { channel }));
            }
            return self.claim(call, options, out);
        }
        self.last_life += 1;
        let position = options.since.take();
        let mut subscription = Subscription::new(self.last_life, options, position);
        subscription.call = Some(call);
        self.all.insert(channel, subscription);
    }

    /// A subscription that the server made becomes the application's: unchanged, or begun anew with its options.
    fn claim(&mut self, call: CallId, mut options: Subscribe, out: &mut Out) {
        let channel = options.channel.clone();
        let Some(subscription) = self.all.get_mut(&channel) else { return };
        let as_it_is = options == Subscribe::new(channel.clone());
        match (subscription.state, subscription.position.clone()) {
            (State::Live, Some(position)) if as_it_is => {
                out.answer(call, Ok(Answer::Subscribed { position: position.clone(), recovered: None }));
                out.event(&channel, Event::Live { position: position.clone(), recovered: None }, Some(position));
            }
            _ => {
                subscription.call = Some(call);
                if !as_it_is {
                    self.last_life += 1;
                    subscription.life = self.last_life; // an answer that is on its way is of the earlier one
                    let known = subscription.known();
                    if let Known::At(position) = &known {
                        subscription.cross(made(&channel, position));
                    }
                    subscription.state = State::Detached;
                    subscription.position = options.since.take();
                    subscription.options = options;
                    self.leaving.begins_anew(&channel, known);
                }
            }
        }
    }

    /// Forgets the channel, and unsubscribes where the server may know of it.
    pub(super) fn remove(&mut self, channel: &Arc<str>, connected: bool, out: &mut Out) {
        let Some(subscription) = self.all.remove(channel) else { return };
        let error = CallError::NotSubscribed { channel: channel.clone() };
        subscription.fail(out, &error);
        self.owed.extend(subscription.is_bare().then(|| channel.clone()));
        if connected && (subscription.is_known_there() || self.leaving.may_be_there(channel)) {
            self.leaving.ask(channel, subscription.known(), out);
        }
    }

    /// Something with this id was answered.
    pub(super) fn left(&mut self, now_ms: u64, rng: &mut Rng, id: u64, message: &ServerMessage) {
        let ended = self.leaving.answered(now_ms, rng, id, message);
        let Some(subscription) = ended.and_then(|channel| self.all.get_mut(&channel)) else { return };
        // It is held, if the channel is followed again.
        let is_end = |held: &ServerMessage| matches!(held, ServerMessage::Unsubscribed(_));
        if let Some(at) = subscription.held.iter().position(is_end) {
            subscription.held.remove(at);
        }
    }

    pub(super) fn pause(&mut self, channel: &Arc<str>, before: Option<Position>, connected: bool, out: &mut Out) {
        let Some(subscription) = self.all.get(channel) else { return };
        self.owed.extend(subscription.is_bare().then(|| channel.clone()));
        if connected && (subscription.is_known_there() || self.leaving.may_be_there(channel)) {
            self.leaving.ask(channel, subscription.known(), out);
        }
        let Some(subscription) = self.all.get_mut(channel) else { return };
        self.last_life += 1;
        subscription.life = self.last_life;
        subscription.uncross();
        subscription.state = State::Paused;
        subscription.position = before;
        subscription.forget_presence();
    }

    pub(super) fn resume(&mut self, channel: &Arc<str>) {
        if let Some(subscription) = self.all.get_mut(channel)
            && subscription.state == State::Paused
        {
            subscription.state = State::Detached;
        }
    }

    /// The subscriptions that `connect` makes in the same step: as many as the server accepts. The others are sent one
    /// by one when it is answered, so that a refusal for too many affects only itself.
    pub(super) fn connect(&mut self, deadline_ms: u64) -> Vec<Subscribe> {
        let wanted = self.all.values_mut().filter(|subscription| subscription.state != State::Paused);
        wanted
            .take(self.connect_max)
            .map(|subscription| {
                subscription.state = State::Bare { deadline_ms };
                subscription.ask()
            })
            .collect()
    }

    /// The connection is there; the server takes so many subscriptions, where it says so.
    pub(super) fn online(&mut self, max: Option<u64>) {
        if let Some(max) = max {
            self.connect_max = usize::try_from(max).unwrap_or(usize::MAX);
        }
    }

    /// A channel may have been unsubscribed from without our knowing: it is subscribed to again, from its place.
    pub(super) fn again(&mut self, channel: &Arc<str>, out: &mut Out) {
        if let Some(subscription) = self.all.get_mut(channel).filter(|it| it.is_known_there()) {
            self.last_life += 1;
            subscription.life = self.last_life;
            let known = subscription.known();
            subscription.uncross();
            subscription.state = State::Detached;
            subscription.forget_presence();
            self.leaving.ask(channel, known, out);
        }
        self.leaving.owes_no_end(channel);
    }

    /// A channel whose messages on this connection are ambiguous: only another one tells them apart.
    pub(super) fn take_ambiguous(&mut self) -> Option<Arc<str>> {
        self.ambiguous.take()
    }

    /// `connect` was refused for its contents: true where it held subscriptions. The next one holds none.
    pub(super) fn too_many(&mut self) -> bool {
        let asked = self.all.values().any(Subscription::is_bare);
        self.connect_max = 0;
        asked
    }

    /// The server sends an undecodable page for the second time: its history is not asked for again. If a position is
    /// known, that becomes a gap.
    pub(super) fn pass_over(&mut self) {
        self.all.values_mut().for_each(|subscription| subscription.passes_over = true);
    }

    /// The presence was not answered in time, or refused for now.
    pub(super) fn presence_later(&mut self, channel: &str, life: u64, at_ms: u64) {
        if let Some(subscription) = self.find(channel, life) {
            subscription.presence_at_ms = Some(at_ms);
            subscription.presence_retries += 1;
        }
    }

    /// An entry of which the application has heard that it stands may not stand now.
    pub(super) fn enter_later(&mut self, channel: &str, life: u64, at_ms: u64) {
        let entered = self.find(channel, life).and_then(|subscription| subscription.entered.as_mut());
        // Else a newer one waits to be sent.
        if let Some(entered) = entered.filter(|entered| entered.call.is_none()) {
            entered.again_ms = Some(at_ms);
            entered.retries += 1;
        }
    }

    /// An entry that the application has given up may still stand.
    pub(super) fn clear_later(&mut self, channel: &str, life: u64, at_ms: u64) {
        if let Some(subscription) = self.find(channel, life) {
            subscription.clear_later(at_ms);
        }
    }

    /// Sends the subscriptions and presence entries that are due.
    pub(super) fn pump(&mut self, at: Online<'_>, requests: &mut Requests, out: &mut Out) {
        for channel in self.leaving.due(at.now_ms) {
            match self.all.get(&channel).map(|subscription| subscription.state) {
                None | Some(State::Paused) => self.leaving.ask(&channel, Known::Nothing, out),
                Some(state) => self.leaving.stays(&channel, state == State::Live),
            }
        }
        for (channel, subscription) in &mut self.all {
            if subscription.state == State::Live
                && let Some(entered) = &mut subscription.entered
                && entered.again_ms.is_some_and(|due_ms| due_ms <= at.now_ms)
            {
                entered.enter(at, channel, subscription.life, requests, out);
            }
            if subscription.is_clear_due(at.now_ms) {
                subscription.ask_clear(at, channel, requests, out);
            }
            match subscription.state {
                State::Detached => {}
                State::Resting { until_ms } if until_ms <= at.now_ms => {}
                State::Live if subscription.presence_at_ms.is_some_and(|due_ms| due_ms <= at.now_ms) => {
                    subscription.ask_presence(at, channel, requests, out);
                    continue;
                }
                _ => continue,
            }
            subscription.state = State::Requested;
            let purpose = Purpose::Subscribe { channel: channel.clone(), life: subscription.life };
            let command = ClientCommand::Subscribe(Box::new(subscription.ask()));
            requests.ask(out, true, at.deadline_ms(), purpose, command);
        }
    }

    /// The connection is gone; the requests in `asked` will not be answered.
    pub(super) fn offline(&mut self, asked: Vec<Purpose>, out: &mut Out) {
        for purpose in asked {
            let Purpose::Enter { channel, life, call: Some(call) } = purpose else { continue };
            match self.find(&channel, life).map(|subscription| subscription.entered.as_mut()) {
                Some(Some(entered)) => {
                    // They come in the order of asking, so an earlier one was overtaken.
                    if let Some(earlier) = entered.call.replace(call) {
                        out.answer(earlier, Ok(Answer::Done));
                    }
                }
                Some(None) => out.answer(call, Ok(Answer::Done)),
                None => out.answer(call, Err(CallError::NotSubscribed { channel })),
            }
        }
        self.leaving.offline();
        self.owed.clear();
        for subscription in self.all.values_mut() {
            (subscription.held, subscription.overflowed, subscription.early) = (Vec::new(), false, None);
        }
        for subscription in self.all.values_mut().filter(|subscription| subscription.state != State::Paused) {
            subscription.state = State::Detached;
            subscription.forget_presence();
        }
    }

    fn find(&mut self, channel: &str, life: u64) -> Option<&mut Subscription> {
        self.all.get_mut(channel).filter(|subscription| subscription.life == life)
    }

    /// An answer to `subscribe`, [`Purpose::PresenceSync`] or [`Purpose::Enter`].
    pub(super) fn answered(
        &mut self,
        at: Online<'_>,
        rng: &mut Rng,
        purpose: Purpose,
        message: ServerMessage,
        requests: &mut Requests,
        out: &mut Out,
    ) {
        match (purpose, message) {
            (Purpose::Subscribe { channel, life }, message) => {
                self.leaving.began(&channel, &message);
                let waits = out.over_http && requests.subscribes(&channel);
                let asking = |subscription: &&mut Subscription| subscription.state == State::Requested;
                let Some(subscription) = self.all.get_mut(&channel).filter(asking) else { return };
                if subscription.life == life {
                    subscription.early = Some((life, message));
                }
                let is_of = |(of, _): &mut (u64, ServerMessage)| *of == subscription.life;
                if !waits && let Some((_, message)) = subscription.early.take_if(is_of) {
                    self.begun(at, rng, channel, message, requests, out);
                }
            }
            (Purpose::PresenceSync { channel, life }, ServerMessage::Error(error)) if error.retryable => {
                let Some(subscription) = self.find(&channel, life) else { return };
                let at_ms = at.now_ms + rest_ms(subscription.presence_retries, &error, rng);
                self.presence_later(&channel, life, at_ms);
            }
            (Purpose::PresenceSync { .. }, ServerMessage::Error(error)) => out.put(Output::Error(error)),
            (Purpose::PresenceSync { channel, life }, message) if self.find(&channel, life).is_some() => {
                self.presence(at.now_ms, message, out);
            }
            (Purpose::Clear { channel, life }, message) => {
                let Some(subscription) = self.find(&channel, life) else { return };
                match message {
                    ServerMessage::Error(error) if error.retryable => {
                        let at_ms = at.now_ms + rest_ms(subscription.clear_retries, &error, rng);
                        subscription.clear_later(at_ms);
                    }
                    _ => (subscription.clear, subscription.clear_retries) = (false, 0),
                }
            }
            (Purpose::Enter { channel, life, call: None }, ServerMessage::Error(error)) if error.retryable => {
                let Some(subscription) = self.find(&channel, life) else { return };
                let retries = subscription.entered.as_ref().map_or(0, |entered| entered.retries);
                self.enter_later(&channel, life, at.now_ms + rest_ms(retries, &error, rng));
            }
            (Purpose::Enter { channel, life, call }, message) => {
                if let (ServerMessage::Result { .. }, Some(entered)) =
                    (&message, self.find(&channel, life).and_then(|subscription| subscription.entered.as_mut()))
                {
                    entered.retries = 0;
                }
                let result = match message {
                    ServerMessage::Result { .. } => Ok(Answer::Done),
                    ServerMessage::Error(error) => Err(CallError::Refused(error)),
                    _ => Err(CallError::WrongAnswer),
                };
                if result.is_err()
                    && let Some(subscription) = self.find(&channel, life)
                    && subscription.entered.as_ref().is_some_and(|entered| entered.call.is_none())
                {
                    subscription.entered = None;
                }
                if let Some(call) = call {
                    out.answer(call, result);
                }
            }
            _ => {}
        }
    }

    /// The answer to the `subscribe` of this channel. All earlier ones are answered.
    fn begun(
        &mut self,
        at: Online<'_>,
        rng: &mut Rng,
        channel: Arc<str>,
        message: ServerMessage,
        requests: &mut Requests,
        out: &mut Out,
    ) {
        let Some(subscription) = self.all.get_mut(&channel) else { return };
        if !out.over_http && matches!(message, ServerMessage::Subscribed(_)) {
            subscription.uncross(); // all that is held came before ours began
        }
        let has_ended = subscription.held.iter().any(|held| matches!(held, ServerMessage::Unsubscribed(_)));
        match message {
            ServerMessage::Subscribed(subscribed)
                if out.over_http
                    && (self.leaving.is_ambiguous(&channel, &subscribed)
                        || has_ended && self.leaving.was_left(&channel)) =>
            {
                self.ambiguous = Some(channel);
            }
            ServerMessage::Subscribed(subscribed) => self.live(at, *subscribed, false, requests, out),
            ServerMessage::Error(error) => self.failed(at, rng, &channel, error, requests, out),
            _ => {}
        }
    }

    /// `subscribed` or `error` without an id: for a subscription of `connect`, or made by the server. Gives back an
    /// error that is for nobody here.
    pub(super) fn answered_bare(
        &mut self,
        at: Online<'_>,
        rng: &mut Rng,
        message: ServerMessage,
        requests: &mut Requests,
        out: &mut Out,
    ) -> Option<Box<ErrorReply>> {
        let is_bare =
            |all: &BTreeMap<Arc<str>, Subscription>, channel: &str| all.get(channel).is_some_and(Subscription::is_bare);
        match message {
            ServerMessage::Subscribed(subscribed) if self.owed.remove(&subscribed.channel) => {
                if out.over_http {
                    self.overtaken(&subscribed.channel, subscribed.position.clone());
                }
            }
            ServerMessage::Error(error) if error.channel.as_ref().is_some_and(|of| self.owed.remove(of)) => {}
            ServerMessage::Subscribed(subscribed) if is_bare(&self.all, &subscribed.channel) => {
                self.live(at, *subscribed, true, requests, out);
            }
            ServerMessage::Subscribed(subscribed) => self.subscribed_by_server(at, *subscribed, requests, out),
            ServerMessage::Error(error) => match error.channel.clone() {
                Some(channel) if is_bare(&self.all, &channel) => self.failed(at, rng, &channel, error, requests, out),
                _ => return Some(error),
            },
            _ => {}
        }
        None
    }

    /// The server has subscribed us by itself.
    fn subscribed_by_server(&mut self, at: Online<'_>, subscribed: Subscribed, requests: &mut Requests, out: &mut Out) {
        let channel = subscribed.channel.clone();
        if self.leaving.is_asked(&channel) {
            if out.over_http && !self.all.contains_key(&channel) {
                self.leaving.crosses(&channel);
            }
            return; // ended already by our command
        }
        if out.over_http {
            self.overtaken(&channel, subscribed.position.clone());
        }
        match self.all.get(&channel).map(|subscription| subscription.state) {
            // Our own request has other options, and the subscription begins anew with them.
            Some(state @ (State::Requested | State::Detached | State::Resting { .. })) => {
                if let Some(subscription) = self.all.get_mut(&channel) {
                    subscription.cross(subscribed);
                    subscription.state = if state == State::Requested { state } else { State::Detached };
                }
            }
            Some(State::Bare { .. } | State::Live) => {}
            Some(State::Paused) => self.leaving.ask(&channel, Known::Nothing, out),
            // Ours began it anew, and has ended.
            None if out.over_http && self.leaving.is_behind(&channel, &subscribed.position) => {}
            None => self.made_by_server(at, subscribed, (Vec::new(), false), requests, out),
        }
    }

    /// A subscription of the server's own. `held`: the messages about it that have come, and true where others were
    /// too many to be held.
    fn made_by_server(
        &mut self,
        at: Online<'_>,
        subscribed: Subscribed,
        (held, overflowed): (Vec<ServerMessage>, bool),
        requests: &mut Requests,
        out: &mut Out,
    ) {
        self.last_life += 1;
        let channel = subscribed.channel.clone();
        let subscription = Subscription::new(self.last_life, Subscribe::new(channel.clone()), None);
        self.all.insert(channel, Subscription { by_server: true, held, overflowed, ..subscription });
        self.live(at, subscribed, false, requests, out);
    }

    /// The server had subscribed us, by itself or for a `connect`, before our own subscription began. The answer to
    /// that comes by another way, and may have come already.
    fn overtaken(&mut self, channel: &Arc<str>, position: Position) {
        let Some(subscription) = self.all.get(channel) else { return };
        let is_in = |known: &Position| known.epoch == position.epoch;
        let is_ambiguous = subscription.has_pages || !subscription.position.as_ref().is_some_and(is_in);
        if subscription.state == State::Live && is_ambiguous {
            self.ambiguous = Some(channel.clone());
        }
        self.leaving.begins_anew(channel, Known::At(position));
    }

    fn live(&mut self, at: Online<'_>, subscribed: Subscribed, bare: bool, requests: &mut Requests, out: &mut Out) {
        let Subscribed { id: _, channel, position, recovered, publications, more } = subscribed;
        let Some(subscription) = self.all.get_mut(&channel) else { return };
        subscription.state = State::Live;
        subscription.retries = 0;
        subscription.presence_retries = 0;
        subscription.passes_over = false;
        subscription.has_pages = more;
        let before = subscription.position.take();
        if let Some(call) = subscription.call.take() {
            out.answer(call, Ok(Answer::Subscribed { position: position.clone(), recovered }));
        }
        // A recovery that the server does not confirm is a gap, even if the server sent none.
        let whole = match &before {
            None => true,
            Some(before) => recovered == Some(true) && before.epoch == position.epoch,
        };
        out.event(&channel, Event::Live { position: position.clone(), recovered }, before.clone());
        // Without an earlier position, the position is the one before the page: all later publications are above it.
        let mut place = before.clone().filter(|_| whole).or_else(|| Some(before_page(&position, &publications)));
        if let Some(place) = place.clone().filter(|_| !whole) {
            let reset = before.as_ref().is_some_and(|before| before.epoch != place.epoch);
            out.event(&channel, Event::Gap { position: place, reset }, before);
        }
        for publication in publications {
            tell(&channel, &position.epoch, &mut place, publication, out);
        }
        subscription.position = Some(position);
        if std::mem::take(&mut subscription.overflowed) {
            return self.again(&channel, out);
        }
        let life = subscription.life;
        if subscription.options.presence {
            subscription.ask_presence(at, &channel, requests, out);
        }
        subscription.clear &= bare;
        if subscription.clear {
            subscription.ask_clear(at, &channel, requests, out);
        }
        // Also where the session goes on: the subscription may have ended in between without our having heard of it,
        // and the presence with it. An entry that stands there already makes no change for others.
        if let Some(entered) = &mut subscription.entered {
            entered.enter(at, &channel, life, requests, out);
        }
    }

    fn failed(
        &mut self,
        at: Online<'_>,
        rng: &mut Rng,
        channel: &Arc<str>,
        error: Box<ErrorReply>,
        requests: &mut Requests,
        out: &mut Out,
    ) {
        let Some(subscription) = self.all.get_mut(channel) else { return };
        if error.retryable {
            subscription.state = State::Resting { until_ms: at.now_ms + rest_ms(subscription.retries, &error, rng) };
            subscription.retries += 1;
            return;
        }
        // An earlier life of ours, as far as the server knows.
        if *error.code == *ErrorCode::AlreadySubscribed.row().word {
            let known = subscription.known();
            subscription.uncross();
            subscription.state = State::Detached;
            self.leaving.ask(channel, known, out);
            return self.leaving.is_there(channel);
        }
        let crossed = subscription.take_crossed();
        let overflowed = subscription.overflowed;
        self.end_one(channel, error.code.clone(), error.message.clone(), &CallError::Refused(error), out);
        if let Some((subscribed, held)) = crossed {
            self.made_by_server(at, subscribed, (held, overflowed), requests, out);
        }
    }

    fn end_one(&mut self, channel: &Arc<str>, code: Box<str>, message: Box<str>, error: &CallError, out: &mut Out) {
        let Some(subscription) = self.all.remove(channel) else { return };
        if subscription.call.is_none() {
            out.event(channel, Event::Ended { code, message }, subscription.position.clone());
        }
        subscription.fail(out, error);
    }

    /// The server ended a subscription. Where that is only for now, it is asked for again.
    pub(super) fn unsubscribed(&mut self, now_ms: u64, rng: &mut Rng, push: Unsubscribed, out: &mut Out) {
        let Unsubscribed { channel, code, message, .. } = push;
        let Some(subscription) = self.all.get_mut(&channel).filter(|s| s.state == State::Live) else { return };
        if out.over_http && self.leaving.may_have_ended(&channel) {
            return self.ambiguous = Some(channel);
        }
        let message = message.unwrap_or_default();
        if ERRORS.iter().any(|row| row.word == &*code && row.retryable) {
            subscription.state = State::Resting { until_ms: now_ms + 500 + rng.below(1500) };
            subscription.forget_presence();
            return;
        }
        let error = refused(code.clone(), message.clone(), &channel);
        self.end_one(&channel, code, message, &error, out);
    }

    /// A publication. Where it names its epoch, that is the channel's from here on: the server knows how it follows the
    /// one before.
    pub(super) fn message(
        &mut self,
        channel: &Arc<str>,
        epoch: Option<Arc<str>>,
        publication: Publication,
        out: &mut Out,
    ) {
        let Some(subscription) = self.live_one(channel) else { return };
        let Some(known) = subscription.position.as_ref().map(|position| position.epoch.clone()) else { return };
        let epoch = epoch.unwrap_or(known);
        tell(channel, &epoch, &mut subscription.position, publication, out);
    }

    pub(super) fn gap(&mut self, channel: &Arc<str>, position: Position, reset: bool, out: &mut Out) {
        let Some(subscription) = self.live_one(channel) else { return };
        if is_behind(&position, subscription.position.as_ref()) {
            return;
        }
        let before = subscription.position.replace(position.clone());
        out.event(channel, Event::Gap { position, reset }, before);
    }

    /// Signals and presence.
    pub(super) fn presence(&mut self, now_ms: u64, message: ServerMessage, out: &mut Out) {
        let (ServerMessage::Presence(_)
        | ServerMessage::PresenceChange(_)
        | ServerMessage::PresenceCount { .. }
        | ServerMessage::Signal(_)) = &message
        else {
            return;
        };
        let (channel, seq) = match &message {
            ServerMessage::Presence(presence) => (presence.channel.clone(), Some(presence.seq)),
            ServerMessage::PresenceChange(change) => (change.channel.clone(), Some(change.seq)),
            ServerMessage::PresenceCount { channel, seq, .. } => (channel.clone(), Some(*seq)),
            ServerMessage::Signal(signal) => (signal.channel.clone(), None),
            _ => return,
        };
        // A list of the subscription before may be late. What has changed between the two is told by neither, so the
        // first list is the one that this subscription has asked for.
        let may_be_late = out.over_http && self.leaving.was_left(&channel);
        let Some(subscription) = self.live_one(&channel) else { return };
        // An earlier subscription to the channel may have wanted more, and its messages may be late.
        let Subscribe { presence, signals, .. } = subscription.options;
        if !(if seq.is_some() { presence } else { signals }) {
            return;
        }
        let known = subscription.presence_seq;
        let is_snapshot = match &message {
            ServerMessage::Presence(list) => known.is_some() || list.id.is_some() || !may_be_late,
            _ => false,
        };
        let news = match &message {
            ServerMessage::Signal(_) => true,
            _ if is_snapshot => known.is_none_or(|known| seq >= Some(known)),
            // Before the first snapshot, a change is contained in it: they come in one order.
            _ => known.is_some() && seq > known,
        };
        if is_snapshot {
            // It came by another way than the changes. One that is older than a change that was told is no news, and
            // may have been to bring one that was not.
            match subscription.presence_early {
                Some(early) if !news || seq < Some(early) => subscription.presence_again(now_ms),
                Some(_) => (subscription.presence_early, subscription.presence_retries) = (None, 0),
                None => {}
            }
        } else if !news && known.is_none() {
            subscription.presence_early = subscription.presence_early.max(seq);
        }
        if !news {
            return;
        }
        subscription.presence_seq = seq.or(known);
        let event = match message {
            ServerMessage::Presence(presence) => Event::Presence(presence),
            ServerMessage::PresenceChange(change) => Event::PresenceChange(change),
            ServerMessage::PresenceCount { count, .. } => Event::PresenceCount { count },
            ServerMessage::Signal(signal) => Event::Signal(signal),
            _ => return,
        };
        let before = subscription.position.clone();
        out.event(&channel, event, before);
    }

    fn live_one(&mut self, channel: &str) -> Option<&mut Subscription> {
        self.all.get_mut(channel).filter(|subscription| subscription.state == State::Live)
    }

    /// The application enters a channel. `at` while online.
    pub(super) fn presence_set(
        &mut self,
        at: Option<Online<'_>>,
        call: CallId,
        channel: Arc<str>,
        data: Bytes,
        requests: &mut Requests,
        out: &mut Out,
    ) {
        let Some(subscription) = self.all.get_mut(&channel) else {
            return out.answer(call, Err(CallError::NotSubscribed { channel }));
        };
        // An earlier entry that still waits is overtaken: it would have stood for no time at all.
        if let Some(earlier) = subscription.entered.take().and_then(|entered| entered.call) {
            out.answer(earlier, Ok(Answer::Done));
        }
        subscription.clear = false; // what is asked for again is the newer entry
        let mut entered = Entered::new(data, call);
        if let (State::Live, Some(at)) = (subscription.state, at) {
            entered.enter(at, &channel, subscription.life, requests, out);
        }
        subscription.entered = Some(entered);
    }

    /// The application leaves it. True when the server must get an `unsubscribe`.
    pub(super) fn presence_clear(&mut self, channel: &str, out: &mut Out) -> bool {
        let Some(subscription) = self.all.get_mut(channel) else { return false };
        if let Some(earlier) = subscription.entered.take().and_then(|entered| entered.call) {
            out.answer(earlier, Ok(Answer::Done));
        }
        subscription.clear = subscription.state != State::Live;
        !subscription.clear
    }

    /// True when something that `connect` asked was not answered in time.
    pub(super) fn is_overdue(&self, now_ms: u64) -> bool {
        self.all.values().any(|s| matches!(s.state, State::Bare { deadline_ms } if deadline_ms <= now_ms))
    }

    pub(super) fn wake_ms(&self) -> Option<u64> {
        let due = |subscription: &Subscription| match subscription.state {
            State::Bare { deadline_ms } => Some(deadline_ms),
            State::Resting { until_ms } => Some(until_ms),
            State::Live => {
                let again_ms = subscription.entered.as_ref().and_then(|entered| entered.again_ms);
                let clear_ms = subscription.clear_at_ms.filter(|_| subscription.clear);
                [subscription.presence_at_ms, again_ms, clear_ms].into_iter().flatten().min()
            }
            _ => None,
        };
        self.all.values().filter_map(due).chain(self.leaving.wake_ms()).min()
    }

    /// The client has ended.
    pub(super) fn end(&mut self, out: &mut Out, error: &CallError) {
        for subscription in std::mem::take(&mut self.all).into_values() {
            subscription.fail(out, error);
        }
    }
}
