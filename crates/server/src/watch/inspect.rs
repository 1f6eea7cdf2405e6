//! The answers to an operator: what a client, a user or a channel is doing, and what happened lately.
//!
//! In: a question. Out: JSON, put together from the answers of all shards. A shard that does not answer in time is
//! named in `silent`, so that nothing is taken for absent that was not looked at.

use super::Watch;
use crate::journal::{AuditRow, Found, FoundSession, Inquiry, Row};
use fanfare_hub::{ChannelName, ChannelView, Position, SubscriberView, SubscriptionView, Whom};
use serde::Serialize;
use std::cmp::Reverse;
use std::collections::{BTreeSet, HashMap};

/// The most sessions of one user, and subscribers of one channel, in an answer.
pub(crate) const LISTED_MAX: usize = 100;

/// A place in a channel.
#[derive(Debug, Serialize)]
struct Place {
    epoch: String,
    offset: u64,
}

impl From<Position> for Place {
    fn from(Position { epoch, offset }: Position) -> Self {
        Place { epoch: epoch.to_string(), offset }
    }
}

/// What is known of a client or a user.
#[derive(Debug, Serialize)]
struct Sessions<'f> {
    sessions: Vec<Session<'f>>,
    /// Further sessions of the user on some shard are left out.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    more: bool,
    /// The ends of their connections, newest first.
    ends: Vec<&'f Row>,
    /// What else happened to them, newest first.
    events: Vec<&'f Row>,
    /// What was done to them by the API and the program, newest first.
    audit: Vec<AuditRow>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    silent: Vec<usize>,
}

#[derive(Debug, Serialize)]
struct Session<'f> {
    client: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<&'f str>,
    shard: usize,
    connected: bool,
    /// How many it has had.
    connections: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    transport: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    protocol: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    peer: Option<&'f str>,
    /// How long it has had this one.
    #[serde(skip_serializing_if = "Option::is_none")]
    connected_ms: Option<u64>,
    outbox_bytes: usize,
    /// It reads too slowly, and gets publications from the history.
    behind: bool,
    /// The server does not read from it at the moment.
    paused: bool,
    /// The option of the rate for which it does not.
    #[serde(skip_serializing_if = "Option::is_none")]
    throttled_by: Option<&'static str>,
    /// Its commands that are not answered.
    outstanding: u32,
    grants: usize,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    labels: Vec<&'f str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    expires_at: Option<u64>,
    subscriptions: Vec<Subscription<'f>>,
}

#[derive(Debug, Serialize)]
struct Subscription<'f> {
    channel: &'f str,
    #[serde(skip_serializing_if = "Option::is_none")]
    rule: Option<&'f str>,
    /// What let it in.
    by: &'static str,
    state: &'static str,
    /// Up to where its client has been sent the channel.
    #[serde(skip_serializing_if = "Option::is_none")]
    at: Option<Place>,
    /// The channel's newest place.
    #[serde(skip_serializing_if = "Option::is_none")]
    top: Option<Place>,
    entered: bool,
}

impl<'f> Subscription<'f> {
    fn of(view: &'f SubscriptionView, tops: &HashMap<ChannelName, Position>) -> Self {
        let SubscriptionView { channel, rule, by, state, at, has_entered } = view;
        Subscription {
            channel: channel.as_str(),
            rule: rule.as_deref(),
            by,
            state: state.word(),
            at: at.map(Place::from),
            top: tops.get(channel).copied().map(Place::from),
            entered: *has_entered,
        }
    }
}

impl<'f> Session<'f> {
    fn of(shard: usize, found: &'f FoundSession, tops: &HashMap<ChannelName, Position>) -> Self {
        let FoundSession { view, connection } = found;
        let connection = connection.as_ref();
        Session {
            client: view.client.to_string(),
            user: view.user.as_ref().map(|user| &*user.0),
            shard,
            connected: view.conn.is_some(),
            connections: view.connections,
            transport: connection.map(|it| it.transport),
            protocol: connection.map(|it| it.protocol),
            peer: connection.map(|it| &*it.peer),
            connected_ms: connection.map(|it| it.opened_ms_ago),
            outbox_bytes: connection.map_or(0, |it| it.outbox_bytes),
            behind: view.is_behind,
            paused: connection.is_some_and(|it| it.is_paused),
            throttled_by: view.throttled_by,
            outstanding: view.outstanding,
            grants: view.grants,
            labels: view.labels.iter().collect(),
            expires_at: view.expires_ms,
            subscriptions: view.subscriptions.iter().map(|it| Subscription::of(it, tops)).collect(),
        }
    }
}

/// What is known of a channel.
#[derive(Debug, Serialize)]
struct Channel<'f> {
    channel: &'f str,
    #[serde(skip_serializing_if = "Option::is_none")]
    rule: Option<&'f str>,
    /// The shard on which it lives; none while it is not in use.
    #[serde(skip_serializing_if = "Option::is_none")]
    home: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    top: Option<Place>,
    subscribers: u32,
    present: usize,
    shards: Vec<OnShard>,
    /// Some of its subscribers.
    some: Vec<Subscriber<'f>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    silent: Vec<usize>,
}

#[derive(Debug, Serialize)]
struct OnShard {
    shard: usize,
    subscribers: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    at: Option<Place>,
    behind: bool,
}

#[derive(Debug, Serialize)]
struct Subscriber<'f> {
    client: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<&'f str>,
    state: &'static str,
    at: Place,
}

impl<'f> Subscriber<'f> {
    fn of(view: &'f SubscriberView) -> Self {
        Subscriber {
            client: view.client.to_string(),
            user: view.user.as_ref().map(|user| &*user.0),
            state: view.state.word(),
            at: view.at.into(),
        }
    }
}

/// What happened lately.
#[derive(Debug, Serialize)]
struct Lately<'f> {
    /// The ends of connections, newest first.
    ends: Vec<&'f Row>,
    /// What else happened, newest first.
    events: Vec<&'f Row>,
    /// What was done by the API and the program, newest first.
    audit: Vec<AuditRow>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    silent: Vec<usize>,
}

type Answers = [(usize, Found)];

fn newest<'f>(answers: &'f Answers, rows: impl Fn(&'f Found) -> &'f [Row], count_max: usize) -> Vec<&'f Row> {
    let mut all: Vec<&Row> = answers.iter().flat_map(|(_, found)| rows(found)).collect();
    all.sort_by_key(|row| Reverse(row.ts));
    all.truncate(count_max);
    all
}

fn json<T: Serialize>(value: &T) -> String {
    serde_json::to_string(value).unwrap_or_default() // nothing in it can fail
}

impl Watch {
    fn silent(&self, answers: &Answers) -> Vec<usize> {
        (0..self.shards.len()).filter(|shard| answers.iter().all(|(answered, _)| answered != shard)).collect()
    }

    /// A client's session, or those of a user, with at most so many rows of each kind.
    pub(crate) async fn sessions(&self, whom: Whom, rows_max: usize) -> String {
        let audit = self.audit.newest(Some(&whom), rows_max);
        let answers = self.inquire(Inquiry::Sessions(whom, LISTED_MAX)).await;
        let sessions = answers.iter().flat_map(|(_, found)| &found.sessions);
        let channels: BTreeSet<&ChannelName> =
            sessions.flat_map(|it| &it.view.subscriptions).map(|it| &it.channel).collect();
        let channels: Vec<ChannelName> = channels.into_iter().cloned().collect();
        let tops = if channels.is_empty() { HashMap::new() } else { self.tops(channels).await };
        let sessions = answers.iter().flat_map(|(shard, found)| found.sessions.iter().map(|it| (*shard, it)));
        json(&Sessions {
            sessions: sessions.map(|(shard, it)| Session::of(shard, it, &tops)).collect(),
            more: answers.iter().any(|(_, found)| found.sessions.len() >= LISTED_MAX),
            ends: newest(&answers, |found| &found.ends, rows_max),
            events: newest(&answers, |found| &found.events, rows_max),
            audit,
            silent: self.silent(&answers),
        })
    }

    /// The newest places of these channels, of those in use.
    async fn tops(&self, channels: Vec<ChannelName>) -> HashMap<ChannelName, Position> {
        let answers = self.inquire(Inquiry::Homes(channels.clone())).await;
        let by_shard = answers.iter().flat_map(|(_, found)| channels.iter().zip(&found.channels));
        by_shard.filter_map(|(channel, view)| Some((channel.clone(), view.home.as_ref()?.top?))).collect()
    }

    /// A channel.
    pub(crate) async fn channel(&self, name: ChannelName) -> String {
        let answers = self.inquire(Inquiry::Channel(name.clone(), LISTED_MAX)).await;
        let views = || answers.iter().flat_map(|(shard, found)| found.channels.iter().map(|view| (*shard, view)));
        let home = views().find_map(|(shard, view)| Some((shard, view.home.as_ref()?)));
        let on_shard = |(shard, view): (usize, &ChannelView)| OnShard {
            shard,
            subscribers: view.subscribers,
            at: view.at.map(Place::from),
            behind: view.is_behind,
        };
        json(&Channel {
            channel: name.as_str(),
            rule: views().find_map(|(_, view)| view.rule.as_deref()),
            home: home.map(|(shard, _)| shard),
            top: home.and_then(|(_, home)| home.top).map(Place::from),
            subscribers: views().map(|(_, view)| view.subscribers).sum(),
            present: home.map_or(0, |(_, home)| home.present),
            shards: views().filter(|(_, view)| view.subscribers > 0).map(on_shard).collect(),
            some: views().flat_map(|(_, view)| &view.some).take(LISTED_MAX).map(Subscriber::of).collect(),
            silent: self.silent(&answers),
        })
    }

    /// What happened lately, at most so many rows of each kind.
    pub(crate) async fn lately(&self, rows_max: usize) -> String {
        let answers = self.inquire(Inquiry::Rows).await;
        json(&Lately {
            ends: newest(&answers, |found| &found.ends, rows_max),
            events: newest(&answers, |found| &found.events, rows_max),
            audit: self.audit.newest(None, rows_max),
            silent: self.silent(&answers),
        })
    }
}
