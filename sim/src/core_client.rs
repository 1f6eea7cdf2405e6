//! The real client core in a simulated world, with a small application that checks the core's reports.
//!
//! The application checks the core's promises: every call is answered once; within a subscription offsets rise; a loss
//! is reported as a gap before anything newer; and in the end everything has arrived.

use crate::application::{WITH_INFO, plain};
use crate::chances::pick_of;
use crate::client::Numbers;
use crate::core_requests::CoreRequests;
use crate::ledger::Kept;
use crate::model::{epoch_of, is_for_outsider};
use crate::plan::{CORES, Plan};
use crate::store::Stores;
use bytes::Bytes;
use fanfare_client::core::{Answer, Call, CallError, CallId, Config, Core, Event, Input, Output, State, Transport};
use fanfare_client::{HistoryFrom, Position, PresenceEntry, PresenceKind, Publish, Subscribe};
use fanfare_hub::{ChannelName, ClientId, Data, Epoch, Rng};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

#[derive(Debug)]
pub(crate) struct CoreClient {
    number: usize,
    pub(crate) core: Core,
    /// Its user's.
    pub(crate) token: Option<Box<str>>,
    pub(crate) pipe: Option<usize>,
    pub(crate) is_started: bool,
    pub(crate) requests: CoreRequests,
    pub(crate) wake_ms: Option<u64>,
    /// The ids that this client has had: its own publications are under them.
    ids: Vec<ClientId>,
    channels: BTreeMap<Arc<str>, Followed>,
    calls: BTreeMap<CallId, PendingCall>,
    next_call: u64,
    pub(crate) gaps: u64,
    pub(crate) messages: u64,
}

/// A channel that the application follows.
#[derive(Debug, Default)]
struct Followed {
    is_live: bool,
    at: Option<Position>,
    /// The clients that are present, once the whole was told.
    present: Option<BTreeMap<ClientId, Vec<u8>>>,
    /// It has just begun: the newest publications, if the server sent some along, lie before the reported position.
    is_new: bool,
}

#[derive(Debug)]
enum PendingCall {
    Subscribe(Arc<str>),
    Publish(Arc<str>, Bytes),
    Rpc(Bytes),
    Other,
}

impl CoreClient {
    /// The session that it had last, whose ticket it shows.
    pub(crate) fn session(&self) -> Option<ClientId> {
        self.ids.last().copied()
    }

    /// `asks`: the application is asked about tokens, and gives them. `grants`: some are good for a subscription.
    pub(crate) fn new(
        number: usize,
        rng: &mut Rng,
        (asks, grants): (bool, bool),
        transports: Vec<Transport>,
        requests: CoreRequests,
    ) -> Self {
        let with_info = if grants && number.is_multiple_of(2) { WITH_INFO } else { "" };
        let token: Option<Box<str>> = (rng.below(3) > 0).then(|| format!("core{number}{with_info}").into());
        let token_provider = asks && token.is_some();
        let config = Config {
            transports,
            token: token.clone().filter(|_| !token_provider),
            token_provider,
            backoff_min_ms: 100,
            backoff_max_ms: 2_000,
            connect_timeout_ms: 3_000,
            request_timeout_ms: 4_000,
            publish_give_up_ms: 20_000,
            in_flight_max: 4,
            waiting_max: 64,
        };
        CoreClient {
            number,
            core: Core::new(config, rng.next_u64()),
            token,
            pipe: None,
            is_started: false,
            requests,
            wake_ms: None,
            ids: Vec::new(),
            channels: BTreeMap::new(),
            calls: BTreeMap::new(),
            next_call: 0,
            gaps: 0,
            messages: 0,
        }
    }

    fn call(&mut self, now_ms: u64, asked: PendingCall, call: Call) {
        self.next_call += 1;
        let id = CallId(self.next_call);
        self.calls.insert(id, asked);
        self.core.handle(now_ms, Input::Call(id, call));
    }

    /// One free act of the application.
    pub(crate) fn act(&mut self, now_ms: u64, rng: &mut Rng, plan: &Plan, numbers: &mut Numbers) {
        let (channels, pad) = (&plan.channels[..], plan.payload_max);
        let Some(channel) = pick_of(rng, channels) else { return };
        let channel: Arc<str> = channel.as_str().into();
        let is_known = self.channels.contains_key(&channel);
        match rng.below(32) {
            0..=5 if !is_known => {
                self.channels.insert(channel.clone(), Followed::default());
                let habit = name(&channel).map(|name| plan.habit(CORES + self.number, &name)).unwrap_or_default();
                let mut options = Subscribe::new(channel.clone());
                options.presence = rng.below(2) == 0;
                (options.batch, options.slow, options.signals) = (habit.batch, habit.slow, !habit.no_signals);
                self.call(now_ms, PendingCall::Subscribe(channel), Call::Subscribe(Box::new(options)));
            }
            6 if is_known => {
                self.channels.remove(&channel);
                self.call(now_ms, PendingCall::Other, Call::Unsubscribe(channel));
            }
            7..=16 => {
                let data = numbers.payload(rng, pad);
                let echo = rng.below(4) > 0;
                let publish = Publish {
                    channel: channel.clone(),
                    data: Data::Json(data.clone()),
                    event: None,
                    idempotency_key: None,
                    echo,
                };
                self.call(now_ms, PendingCall::Publish(channel, data), Call::Publish(Box::new(publish)));
            }
            17 | 18 if is_known => {
                let data = numbers.payload(rng, 10);
                self.call(now_ms, PendingCall::Other, Call::PresenceSet { channel, data });
            }
            19 => self.call(now_ms, PendingCall::Other, Call::PresenceClear(channel)),
            20 => self.call(now_ms, PendingCall::Other, Call::Presence(channel)),
            21 => {
                let call = Call::History { channel, from: HistoryFrom::Newest, limit: Some(1 + rng.below(20) as u32) };
                self.call(now_ms, PendingCall::Other, call);
            }
            22 | 23 => {
                let data = numbers.payload(rng, 30);
                let call = Call::Signal { channel, event: "move".into(), data, to: None };
                self.call(now_ms, PendingCall::Other, call);
            }
            _ => {}
        }
    }

    /// Calls a method.
    pub(crate) fn ask_method(&mut self, now_ms: u64, numbers: &mut Numbers, rng: &mut Rng) {
        let data = numbers.payload(rng, 20);
        self.call(now_ms, PendingCall::Rpc(data.clone()), Call::Rpc { method: "echo".into(), data });
    }

    /// A server's `client` in `connected`.
    pub(crate) fn known_as(&mut self, client: ClientId) {
        self.ids.push(client);
    }

    /// The core's reports to its application.
    pub(crate) fn told(&mut self, output: Output, stores: &Stores) -> Result<(), String> {
        match output {
            Output::Answer(id, answer) => {
                let asked =
                    self.calls.remove(&id).ok_or_else(|| format!("core: {id:?} was answered twice: {answer:?}"))?;
                self.answered(asked, answer, stores)
            }
            Output::Channel { channel, event, .. } => self.happened(&channel, event, stores),
            Output::State(State::Ended(_)) => {
                self.channels.clear();
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn answered(
        &mut self,
        asked: PendingCall,
        answer: Result<Answer, CallError>,
        stores: &Stores,
    ) -> Result<(), String> {
        match (asked, answer) {
            (PendingCall::Subscribe(channel), Err(error)) => {
                if !matches!(error, CallError::AlreadySubscribed { .. }) {
                    self.channels.remove(&channel);
                }
            }
            (PendingCall::Publish(channel, data), Ok(Answer::Published(at))) => {
                let stands = name(&channel).and_then(|name| stores.ledger.at(&name, hub_position(&at)).cloned());
                if stands.is_none_or(|kept| plain(kept.publication.data.bytes()) != data) {
                    return Err(format!("core: published to {channel} at {at:?}, where something else stands"));
                }
            }
            (PendingCall::Rpc(data), Ok(answer)) if answer != Answer::Data(data.clone()) => {
                return Err(format!("core: a call with {data:?} was answered with {answer:?}"));
            }
            _ => {}
        }
        Ok(())
    }

    fn happened(&mut self, channel: &Arc<str>, event: Event, stores: &Stores) -> Result<(), String> {
        let CoreClient { channels, ids, messages, gaps, .. } = self;
        // The server subscribes it by itself now and then.
        if matches!(event, Event::Live { .. }) {
            channels.entry(channel.clone()).or_default();
        }
        let Some(followed) = channels.get_mut(channel) else {
            return Err(format!("core: {channel} is not followed, and yet: {event:?}"));
        };
        match event {
            Event::Live { position, recovered } => {
                followed.is_live = true;
                followed.present = None;
                followed.is_new = recovered != Some(true);
                followed.at.get_or_insert(position);
            }
            Event::Presence(presence) => {
                let entry = |entry: &PresenceEntry| Some((entry.client.parse().ok()?, data_of(entry)));
                followed.present = presence.entries.as_ref().map(|entries| entries.iter().filter_map(entry).collect());
            }
            Event::PresenceChange(change) => {
                if let (Some(present), Ok(client)) = (&mut followed.present, change.entry.client.parse()) {
                    match change.kind {
                        PresenceKind::Leave => drop(present.remove(&client)),
                        PresenceKind::Join | PresenceKind::Update => {
                            present.insert(client, data_of(&change.entry));
                        }
                    }
                }
            }
            Event::PresenceCount { .. } => followed.present = None,
            Event::Gap { position, .. } => {
                *gaps += 1;
                // Publications after it are above it, those of the `recent` page too.
                followed.is_new = false;
                followed.at = Some(position);
            }
            Event::Message { publication, position } => {
                *messages += 1;
                let at = followed.at.as_mut().ok_or_else(|| format!("core: {channel}: a message before `Live`"))?;
                if std::mem::take(&mut followed.is_new) && at.epoch == position.epoch {
                    at.offset = at.offset.min(publication.offset - 1);
                }
                if at.epoch != position.epoch || at.offset >= publication.offset {
                    return Err(format!("core: {channel}: {position:?} told after {at:?}"));
                }
                nothing_missed(channel, ids, at, publication.offset, stores)?;
                followed.at = Some(position);
            }
            Event::Ended { .. } => {
                channels.remove(channel);
            }
            _ => {}
        }
        Ok(())
    }

    /// The presence of each channel, as far as the application was told the whole.
    pub(crate) fn presences(&self) -> impl Iterator<Item = (ChannelName, &BTreeMap<ClientId, Vec<u8>>)> {
        self.channels.iter().filter_map(|(channel, followed)| Some((name(channel)?, followed.present.as_ref()?)))
    }

    /// The channels of which its application was told that they are live.
    pub(crate) fn live(&self) -> BTreeSet<ChannelName> {
        self.channels.iter().filter(|(_, followed)| followed.is_live).filter_map(|(channel, _)| name(channel)).collect()
    }

    /// The world has been calm for long.
    pub(crate) fn finish(&self, stores: &Stores) -> Result<(), String> {
        if !self.core.is_online() {
            return Err("promise 3: a core client is not online".to_owned());
        }
        if let Some((id, asked)) = self.calls.iter().next() {
            return Err(format!("core: {id:?} was never answered: {asked:?}"));
        }
        for (channel, followed) in &self.channels {
            let Some(name) = name(channel) else { continue };
            let (true, Some(at)) = (followed.is_live, &followed.at) else {
                return Err(format!("promise 3: core: {channel} never became live"));
            };
            if let Some(top) = stores.top(&name) {
                if top.epoch != hub_position(at).epoch {
                    return Err(format!("promise 3: core: {channel} is at {at:?}, the top is {top:?}"));
                }
                nothing_missed(channel, &self.ids, at, u64::MAX, stores)?;
            }
        }
        Ok(())
    }
}

/// The data that a client gives of itself.
fn data_of(entry: &PresenceEntry) -> Vec<u8> {
    entry.data.as_deref().unwrap_or_default().to_vec()
}

fn name(channel: &str) -> Option<ChannelName> {
    ChannelName::new(channel).ok()
}

fn hub_position(at: &Position) -> fanfare_hub::Position {
    fanfare_hub::Position { epoch: Epoch(epoch_of(&at.epoch)), offset: at.offset }
}

/// Between `at` and `before` there are only the client's own publications that it does not want.
fn nothing_missed(channel: &str, ids: &[ClientId], at: &Position, before: u64, stores: &Stores) -> Result<(), String> {
    let Some(name) = name(channel) else { return Ok(()) };
    // Passed by under an earlier name, it is not missed under a later one.
    let is_for_all = |kept: &Kept| ids.iter().all(|client| is_for_outsider(&kept.publication, *client));
    let is_own = |client: Option<ClientId>| client.is_some_and(|client| ids.contains(&client));
    let missed = stores
        .ledger
        .between(&name, hub_position(at).epoch, at.offset, before)
        .iter()
        .find(|kept| is_for_all(kept) && (kept.publication.echo || !is_own(kept.client())));
    match missed {
        None => Ok(()),
        Some(kept) => Err(format!(
            "promise 2: core: {channel}: from {at:?} to {before}, and {} was left out",
            kept.publication.offset
        )),
    }
}
