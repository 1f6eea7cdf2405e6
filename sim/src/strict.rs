//! The judge of what rules keep out: data that is too long or breaks a schema, what senders do not show, what lies
//! before a client joined, and subscribers beyond those that a channel takes.
//!
//! In: what shards are given and what they answer, in the order in which it happens, and what the stores have accepted.
//! The judge knows each rule's words (`Policy`). It keeps the place where each session joined a channel, and the
//! connections that hold a place in it, by the shards' answers alone. It errs on one side: a join that is older than
//! the shard's lets a client read more, and a place that may have been given back is counted where one is refused.
//!
//! [`Sieve`] is the check that rules have in these worlds. The number in a payload decides: some are refused, and some
//! get a word more.

use crate::application::{number_of, plain};
use crate::client::Numbers;
use crate::desk::{Open, Sent};
use crate::ledger::Kept;
use crate::model::Row;
use bytes::Bytes;
use fanfare_hub::{
    ChannelName, ClientId, DataCheck, Error, ErrorCode, Given, History, Past, PayloadOf, Position, ReplyBody,
    SenderShown, Subscribed,
};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// What the check puts into a payload.
const SIEVED: &[u8] = b"\"sieved\":true,";
/// So long a place in a channel may be on its way back: its session stays for its grace, and the word of its shard for
/// as long as a link is stuck or a shard stands still.
const PLACE_BACK_MS: u64 = 6_000;

/// A rule's check.
#[derive(Debug)]
pub(crate) struct Sieve;

impl DataCheck for Sieve {
    fn check(&self, given: Given<'_>) -> Result<Option<Bytes>, Error> {
        if is_sieved_out(given.data) {
            return Err(Error::new(ErrorCode::InvalidData, "the sieve keeps it back"));
        }
        let sieved = (given.of == PayloadOf::Publication).then(|| sieved(given.data));
        Ok(sieved.filter(|sieved| *sieved != given.data).map(Bytes::from))
    }
}

/// A check refuses this payload. None that comes after all faults is refused.
fn is_sieved_out(data: &[u8]) -> bool {
    let number = number_of(data);
    number < Numbers::CALM_FROM && number.is_multiple_of(13) && data.starts_with(b"{")
}

/// The form that a check gives a publication.
fn sieved(data: &[u8]) -> Vec<u8> {
    let is_due = number_of(data) % 7 == 1 && data.starts_with(b"{");
    match is_due && unsieved(data).len() == data.len() {
        true => [b"{", SIEVED, &data[1..]].concat(),
        false => data.to_vec(),
    }
}

/// A payload without what a check has put into it.
pub(crate) fn unsieved(data: &[u8]) -> Vec<u8> {
    match data.windows(SIEVED.len()).position(|part| part == SIEVED) {
        Some(at) => [&data[..at], &data[at + SIEVED.len()..]].concat(),
        None => data.to_vec(),
    }
}

#[derive(Debug, Default)]
pub(crate) struct Strict {
    joins: BTreeMap<(ClientId, ChannelName), Join>,
    places: BTreeMap<ChannelName, Places>,
    /// Sessions that have sent commands by requests of their own, whose answers are not seen here.
    apart: BTreeSet<ClientId>,
    /// Subscriptions that may have begun before they were told: a connection ended before it had the answer.
    untold: BTreeSet<(ClientId, ChannelName)>,
    pub(crate) seen: Seen,
}

/// What was judged.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    pub(crate) too_long: u64,
    pub(crate) sieved_out: u64,
    pub(crate) sieved: u64,
    pub(crate) senders_hidden: u64,
    pub(crate) past_read: u64,
    pub(crate) past_hidden: u64,
    pub(crate) places_full: u64,
    pub(crate) places_refused: u64,
}

/// The subscription of a session to a channel whose rule shows what was published since it began.
#[derive(Debug)]
struct Join {
    at: Position,
    since_ms: u64,
    /// An earlier one began here: a question from before may be answered by it.
    before: Option<Position>,
    is_over: bool,
}

/// The places of a channel whose rule bounds its subscribers.
#[derive(Debug, Default)]
struct Places {
    /// The connections that have one. True if it is surely among those that the rule bounds.
    held: BTreeMap<usize, bool>,
    /// When others gave theirs back.
    back_ms: VecDeque<u64>,
}

/// How a connection came to a subscription.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum By {
    /// Its client asked for it.
    Client,
    /// The same, on a connection of which not all is seen here: it may have ended meanwhile.
    ClientApart,
    /// The server made it: the rule does not bound those.
    Server,
}

impl Strict {
    /// A shard tells a connection of a subscription.
    pub(crate) fn subscribed(
        &mut self,
        now_ms: u64,
        (client, pipe): (ClientId, usize),
        subscribed: &Subscribed,
        (row, by): (&Row, By),
        is_open: impl Fn(usize) -> bool,
    ) -> Result<(), String> {
        let Subscribed { channel, position, recovered, publications, .. } = subscribed;
        if by != By::Client {
            self.apart.insert(client);
        }
        let known = self.joins.get(&(client, channel.clone())).filter(|join| !join.is_over).map(|join| join.at);
        let is_seen = !self.apart.contains(&client) && !self.untold.contains(&(client, channel.clone()));
        if row.read != Past::All && by == By::Client && is_seen {
            let floor = known.filter(|_| row.read == Past::SinceJoin).unwrap_or(*position);
            let first =
                publications.first().filter(|first| floor.epoch == position.epoch && first.offset <= floor.offset);
            if let Some(first) = first {
                return Err(format!(
                    "past: {client} may read {channel} after {floor:?}, and `subscribed` shows {}",
                    first.offset
                ));
            }
            self.seen.past_hidden += u64::from(*recovered == Some(false));
        }
        if row.read == Past::SinceJoin && known.is_none() {
            let key = (client, channel.clone());
            let before = self.joins.get(&key).map(|join| join.at);
            self.joins.insert(key, Join { at: *position, since_ms: now_ms, before, is_over: false });
        }
        let places = self.places.entry(channel.clone()).or_default();
        let was_servers = places.held.get(&pipe) == Some(&false);
        places.held.insert(pipe, by == By::Client && !was_servers);
        let Some(max) = row.max_subscribers.filter(|_| by == By::Client) else { return Ok(()) };
        let held = places.held.iter().filter(|(pipe, is_bounded)| **is_bounded && is_open(**pipe)).count();
        self.seen.places_full += u64::from(held == max as usize);
        match held > max as usize {
            true => Err(format!("places: {channel} has {held} subscribers, its rule allows {max}")),
            false => Ok(()),
        }
    }

    /// Not all that is answered to this session is seen here.
    pub(crate) fn is_apart(&mut self, client: ClientId) {
        self.apart.insert(client);
    }

    pub(crate) fn hears_apart(&self, client: ClientId) -> bool {
        self.apart.contains(&client)
    }

    /// A shard tells a connection that a subscription is over.
    pub(crate) fn unsubscribed(&mut self, now_ms: u64, client: Option<ClientId>, pipe: usize, channel: &ChannelName) {
        if let Some(client) = client {
            self.untold.remove(&(client, channel.clone()));
            self.joins.entry((client, channel.clone())).and_modify(|join| join.is_over = true);
        }
        if let Some(places) = self.places.get_mut(channel) {
            places.give_back(now_ms, pipe);
        }
    }

    /// A shard has no such connection any more.
    pub(crate) fn over(&mut self, now_ms: u64, pipe: usize) {
        self.places.values_mut().for_each(|places| places.give_back(now_ms, pipe));
    }

    /// The connection ends before it has the answer to a `subscribe`.
    pub(crate) fn asked_in_vain(&mut self, client: Option<ClientId>, channel: &ChannelName) {
        self.untold.extend(client.map(|client| (client, channel.clone())));
    }

    /// A place may be on its way back from one that was not told that it had it.
    pub(crate) fn may_give_back(&mut self, now_ms: u64, channel: &ChannelName) {
        self.places.entry(channel.clone()).or_default().back_ms.push_back(now_ms);
    }

    /// The server has gone, and all that it knew.
    pub(crate) fn server_gone(&mut self) {
        (self.joins, self.places, self.apart, self.untold) = Default::default();
    }

    /// A shard answers a command about a channel.
    pub(crate) fn answered(&mut self, open: &Open, row: &Row, body: &ReplyBody) -> Result<(), String> {
        let Some(Sent { channel, data, of }) = &open.sent else { return Ok(()) };
        let is_too_long = *of != PayloadOf::Presence && row.max_size.is_some_and(|max| data.len() > max);
        let is_sieved_out = row.is_sieved && is_sieved_out(data);
        let text = || String::from_utf8_lossy(data).into_owned();
        match body {
            ReplyBody::Error(error) if error.option == Some("max_size") => {
                self.seen.too_long += 1;
                // A check may have made it longer.
                let most = data.len() + if row.is_sieved { SIEVED.len() } else { 0 };
                match row.max_size.is_some_and(|max| most > max) {
                    true => Ok(()),
                    false => Err(format!("sizes: {} is refused, {:?} bytes may be: {error:?}", text(), row.max_size)),
                }
            }
            ReplyBody::Error(error) if error.code == ErrorCode::InvalidData => {
                self.seen.sieved_out += 1;
                match is_sieved_out {
                    true => Ok(()),
                    false => Err(format!("checks: {} is refused, and the rule lets it: {error:?}", text())),
                }
            }
            ReplyBody::Published { .. } | ReplyBody::Done if is_too_long => {
                Err(format!("sizes: {} is taken in {channel}, and {:?} bytes may be", text(), row.max_size))
            }
            ReplyBody::Published { .. } | ReplyBody::Done if is_sieved_out => {
                Err(format!("checks: {} is taken in {channel}, and the rule refuses it", text()))
            }
            _ => Ok(()),
        }
    }

    /// A shard answers with a page of history.
    pub(crate) fn read(&mut self, client: ClientId, given_ms: u64, row: &Row, history: &History) -> Result<(), String> {
        let History { channel, top, publications, .. } = history;
        let Some(first) = publications.first() else { return Ok(()) };
        match row.read {
            Past::All => return Ok(()),
            Past::Nothing => {
                return Err(format!("past: {client} may read nothing of {channel}, and {history:?} is told"));
            }
            Past::SinceJoin => {}
        }
        if self.apart.contains(&client) || self.untold.contains(&(client, channel.clone())) {
            return Ok(());
        }
        let Some(Join { at, since_ms, before, .. }) = self.joins.get(&(client, channel.clone())) else {
            return Err(format!("past: {client} has not joined {channel}, and {history:?} is told"));
        };
        let floor = before.filter(|_| given_ms <= *since_ms).unwrap_or(*at);
        if floor.epoch == top.epoch && first.offset <= floor.offset {
            return Err(format!("past: {client} has joined {channel} at {floor:?}, and {} is told", first.offset));
        }
        self.seen.past_read += 1;
        Ok(())
    }

    /// A shard refuses a place in a channel. `asking`: how many others are asking for one.
    pub(crate) fn place_refused(
        &mut self,
        now_ms: u64,
        channel: &ChannelName,
        max: Option<u32>,
        asking: usize,
    ) -> Result<(), String> {
        self.seen.places_refused += 1;
        let places = self.places.entry(channel.clone()).or_default();
        places.back_ms.retain(|ms| ms + PLACE_BACK_MS >= now_ms);
        let most = places.held.len() + places.back_ms.len() + asking;
        // No rule bounds it any more: it was decided before.
        match max.is_none_or(|max| most >= max as usize) {
            true => Ok(()),
            false => Err(format!("places: one in {channel} is refused, {max:?} may be, and at most {most} are taken")),
        }
    }

    /// What stands in a channel is what its rule lets in.
    pub(crate) fn stands(&mut self, channel: &ChannelName, row: &Row, kept: &Kept) -> Result<(), String> {
        let data = kept.publication.data.bytes();
        let text = || String::from_utf8_lossy(data).into_owned();
        if row.is_sieved && is_sieved_out(data) {
            return Err(format!("checks: {} stands in {channel}, and its rule refuses it", text()));
        }
        let (is_due, is_sieved) = (row.is_sieved && number_of(data) % 7 == 1, unsieved(data).len() < data.len());
        if is_due != is_sieved {
            return Err(format!("checks: {} stands in {channel}, and not as its rule has it", text()));
        }
        self.seen.sieved += u64::from(is_sieved);
        if kept.client().is_none() {
            return Ok(()); // the application's
        }
        // As a client sent it, and as its rule has it: the application may make it longer.
        let sent = if row.is_sieved { sieved(&plain(data)) } else { plain(data) };
        if let Some(max) = row.max_size.filter(|max| sent.len() > *max) {
            return Err(format!("sizes: {} stands in {channel}, and {max} bytes may be", text()));
        }
        let author = kept.author.clone();
        let shown = match row.from {
            SenderShown::Client => author,
            SenderShown::User => author
                .filter(|author| author.user.is_some())
                .map(|author| fanfare_hub::Sender { client: None, ..author }),
            SenderShown::Nothing => None,
        };
        self.seen.senders_hidden += u64::from(row.from != SenderShown::Client);
        match kept.publication.from == shown {
            true => Ok(()),
            false => Err(format!("senders: {:?} is shown in {channel}, and {shown:?} is to be", kept.publication.from)),
        }
    }

    /// A signal of a client is told.
    pub(crate) fn signalled(row: &Row, data: &[u8]) -> Result<(), String> {
        let is_out = row.is_sieved && is_sieved_out(data) || row.max_size.is_some_and(|max| data.len() > max);
        match is_out {
            true => {
                Err(format!("checks: the signal {} is told, and its rule refuses it", String::from_utf8_lossy(data)))
            }
            false => Ok(()),
        }
    }
}

impl Places {
    fn give_back(&mut self, now_ms: u64, pipe: usize) {
        if self.held.remove(&pipe).is_some() {
            self.back_ms.push_back(now_ms);
        }
    }
}
