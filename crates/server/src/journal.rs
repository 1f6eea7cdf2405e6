//! What happened to clients lately, and what an operator may ask a shard.
//!
//! In: the ends of connections, and the hub's notes (denials, gaps, slow readers, …), as the log gets them, but each of
//! them: a log leaves lines out when there are many; and, for those who watch alone, sessions that begin. Out: the last
//! [`ROWS_MAX`] of each kind on this shard, and a live stream for those who watch ([`Tail`]). Both are bounded: nothing
//! here grows with the number of clients. `audit`: who has done what to them.

mod audit;

pub(crate) use audit::{Act, Audit, AuditRow, By};

use crate::logs::EndedLine;
use crate::request::Peer;
use fanfare_hub::{ChannelName, ChannelView, ClientId, Note, Noted, Now, SessionView, UserId, Whom};
use serde::Serialize;
use std::collections::VecDeque;
use std::sync::Arc;
use tokio::sync::broadcast;

/// Ends of connections, and other events, that a shard keeps.
pub(crate) const ROWS_MAX: usize = 1_000;
/// Longer texts are cut.
const TEXT_BYTES_MAX: usize = 256;
/// Rows that wait for somebody who watches. Further ones are left out, and counted.
const TAIL_MAX: usize = 1_024;

/// A row: what happened, to whom.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Row {
    /// ms since 1970.
    pub(crate) ts: u64,
    #[serde(rename = "type")]
    pub(crate) what: &'static str,
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "as_text")]
    pub(crate) client: Option<ClientId>,
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "as_text")]
    pub(crate) user: Option<UserId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    peer: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "as_text")]
    pub(crate) channel: Option<ChannelName>,
    #[serde(skip_serializing_if = "Option::is_none")]
    by: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<Code>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rule: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    option: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    why: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reset: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    transport: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    protocol: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    lived_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    resumed: Option<bool>,
}

/// A close code, or the word of an error.
#[derive(Debug, Clone, Copy, Serialize)]
#[serde(untagged)]
enum Code {
    Close(u16),
    Error(&'static str),
}

#[allow(clippy::ref_option)] // serde gives it so
fn as_text<T: ToString, S: serde::Serializer>(value: &Option<T>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&value.as_ref().map(ToString::to_string).unwrap_or_default())
}

impl Row {
    fn new(now: Now, what: &'static str, client: Option<ClientId>, user: Option<&UserId>, peer: Option<&Peer>) -> Self {
        Row {
            ts: now.wall_ms,
            what,
            client,
            user: user.cloned(),
            peer: peer.map(ToString::to_string),
            channel: None,
            by: None,
            reason: None,
            code: None,
            rule: None,
            option: None,
            why: None,
            reset: None,
            transport: None,
            protocol: None,
            lived_ms: None,
            resumed: None,
        }
    }

    /// The end of a connection.
    fn ended(now: Now, line: &EndedLine<'_>) -> Self {
        Row {
            by: Some(line.by.word()),
            reason: Some(line.reason),
            code: line.code.map(Code::Close),
            why: line.why.map(cut),
            transport: Some(line.transport),
            protocol: Some(line.protocol),
            lived_ms: Some(line.lived_ms),
            ..Row::new(now, "disconnected", line.client, line.user, Some(line.peer))
        }
    }

    /// A session has begun, or goes on.
    fn connected(now: Now, line: &ConnectedLine<'_>) -> Self {
        Row {
            transport: Some(line.transport),
            protocol: Some(line.protocol),
            resumed: Some(line.resumed),
            ..Row::new(now, "connected", Some(line.client), line.user, Some(line.peer))
        }
    }

    /// `None` for a note that has its row otherwise, or is about no client.
    fn noted(now: Now, note: &Note, peer: Option<&Peer>) -> Option<Self> {
        let row = |what| Row::new(now, what, note.client, note.user.as_ref(), peer);
        let about = |what, channel: &ChannelName| Row { channel: Some(channel.clone()), ..row(what) };
        Some(match &note.what {
            Noted::Denied(error) | Noted::Unsubscribed(error) | Noted::Throttled(error) => {
                let what = match note.what {
                    Noted::Denied(_) => "denied",
                    Noted::Throttled(_) => "throttled",
                    _ => "unsubscribed",
                };
                Row {
                    channel: error.channel.clone(),
                    code: Some(Code::Error(error.code.row().word)),
                    rule: error.rule.as_deref().map(cut),
                    option: error.option.or(error.limit),
                    why: Some(cut(&error.message)),
                    ..row(what)
                }
            }
            Noted::NotRecovered { channel } => about("not_recovered", channel),
            Noted::Gap { channel, reset } => Row { reset: Some(*reset), ..about("gap", channel) },
            Noted::Behind => row("behind"),
            _ => return None,
        })
    }

    /// Whether it is about this client or user.
    pub(crate) fn is_of(&self, whom: &Whom) -> bool {
        match whom {
            Whom::Client(client) => self.client == Some(*client),
            Whom::User(user) => self.user.as_ref() == Some(user),
            Whom::Label(_) => false, // rows have no labels
        }
    }
}

/// A session that has begun, or goes on, on a connection.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ConnectedLine<'a> {
    pub(crate) client: ClientId,
    pub(crate) user: Option<&'a UserId>,
    pub(crate) peer: &'a Peer,
    /// The labels of its wire.
    pub(crate) transport: &'static str,
    pub(crate) protocol: &'static str,
    pub(crate) resumed: bool,
}

/// Rows of sessions that begin, in one second of one shard. Beyond them they are counted.
const CONNECTED_PER_SECOND: u32 = 100;

/// How many such rows were shown in this second, and how many were left out.
#[derive(Debug, Default)]
struct Begun {
    second: u64,
    shown: u32,
    left_out: u64,
}

/// The row for those that were left out.
#[derive(Serialize)]
struct LeftOut {
    #[serde(rename = "type")]
    what: &'static str,
    of: &'static str,
    count: u64,
}

fn cut(text: &str) -> String {
    text[..text.floor_char_boundary(TEXT_BYTES_MAX)].to_owned()
}

/// Those who watch, on any thread.
#[derive(Debug, Clone)]
pub(crate) struct Tail(broadcast::Sender<Arc<str>>);

impl Default for Tail {
    fn default() -> Self {
        Tail(broadcast::Sender::new(TAIL_MAX))
    }
}

impl Tail {
    /// The rows from now on, each as a line of JSON. An empty one is the last.
    pub(crate) fn watch(&self) -> broadcast::Receiver<Arc<str>> {
        self.0.subscribe()
    }

    /// The server stops: those who watch need not wait for more.
    pub(crate) fn end(&self) {
        let _ = self.0.send("".into()); // nobody watches
    }

    /// Whether somebody watches.
    fn is_watched(&self) -> bool {
        self.0.receiver_count() > 0
    }

    fn show(&self, row: &impl Serialize) {
        if self.is_watched()
            && let Ok(line) = serde_json::to_string(row)
        {
            let _ = self.0.send(line.into()); // nobody watches any more
        }
    }
}

/// The last rows of one shard.
#[derive(Debug, Default)]
pub(crate) struct Journal {
    ends: VecDeque<Row>,
    events: VecDeque<Row>,
    begun: Begun,
    tail: Tail,
}

impl Journal {
    pub(crate) fn new(tail: Tail) -> Self {
        Journal { tail, ..Journal::default() }
    }

    /// A session has begun, or goes on. It has a row for those who watch, and is not kept: there are too many.
    pub(crate) fn connected(&mut self, now: Now, line: &ConnectedLine<'_>) {
        if !self.tail.is_watched() {
            return;
        }
        self.tick(now);
        if self.begun.shown >= CONNECTED_PER_SECOND {
            self.begun.left_out += 1;
            return;
        }
        self.begun.shown += 1;
        self.tail.show(&Row::connected(now, line));
    }

    /// Says how many were left out, once their second is over. Called at least once a second.
    pub(crate) fn tick(&mut self, now: Now) {
        let second = now.mono_ms / 1_000;
        if second == self.begun.second {
            return;
        }
        let Begun { left_out, .. } = std::mem::replace(&mut self.begun, Begun { second, ..Begun::default() });
        if left_out > 0 {
            self.tail.show(&LeftOut { what: "left_out", of: "connected", count: left_out });
        }
    }

    /// A connection has ended.
    pub(crate) fn ended(&mut self, now: Now, line: &EndedLine<'_>) {
        let row = Row::ended(now, line);
        self.tail.show(&row);
        keep(&mut self.ends, row);
    }

    /// The hub has noted something.
    pub(crate) fn noted(&mut self, now: Now, note: &Note, peer: Option<&Peer>) {
        let Some(row) = Row::noted(now, note, peer) else { return };
        self.tail.show(&row);
        keep(&mut self.events, row);
    }

    /// The ends of connections, oldest first: of one client or user, or all.
    pub(crate) fn ends(&self, whom: Option<&Whom>) -> Vec<Row> {
        of(&self.ends, whom)
    }

    /// The other events.
    pub(crate) fn events(&self, whom: Option<&Whom>) -> Vec<Row> {
        of(&self.events, whom)
    }
}

fn keep(rows: &mut VecDeque<Row>, row: Row) {
    if rows.len() >= ROWS_MAX {
        rows.pop_front();
    }
    rows.push_back(row);
}

fn of(rows: &VecDeque<Row>, whom: Option<&Whom>) -> Vec<Row> {
    rows.iter().filter(|row| whom.is_none_or(|whom| row.is_of(whom))).cloned().collect()
}

/// A question of an operator to a shard.
#[derive(Debug, Clone)]
pub(crate) enum Inquiry {
    /// The sessions of a client or a user, at most so many, and what happened to them lately.
    Sessions(Whom, usize),
    /// A channel, with at most so many of its subscribers.
    Channel(ChannelName, usize),
    /// Which of these channels have their home here.
    Homes(Vec<ChannelName>),
    /// What happened lately.
    Rows,
}

/// The answer of one shard.
#[derive(Debug, Default)]
pub(crate) struct Found {
    pub(crate) sessions: Vec<FoundSession>,
    /// By channel, in the order of the question.
    pub(crate) channels: Vec<ChannelView>,
    pub(crate) ends: Vec<Row>,
    pub(crate) events: Vec<Row>,
}

/// A session, with its connection.
#[derive(Debug)]
pub(crate) struct FoundSession {
    pub(crate) view: SessionView,
    pub(crate) connection: Option<FoundConnection>,
}

/// The shell's part of a connection.
#[derive(Debug)]
pub(crate) struct FoundConnection {
    pub(crate) peer: String,
    pub(crate) transport: &'static str,
    pub(crate) protocol: &'static str,
    pub(crate) opened_ms_ago: u64,
    /// Waiting for its client.
    pub(crate) outbox_bytes: usize,
    /// The server does not read from it at the moment.
    pub(crate) is_paused: bool,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::logs::{EndWeight, Ender};
    use fanfare_hub::{Error, ErrorCode};

    const NOW: Now = Now { mono_ms: 5, wall_ms: 1_000 };

    fn end<'a>(client: ClientId, user: &'a UserId, why: &'a str) -> EndedLine<'a> {
        EndedLine {
            by: Ender::Server,
            reason: "slow",
            code: Some(4003),
            why: Some(why),
            client: Some(client),
            user: Some(user),
            peer: &Peer::Unknown,
            transport: "websocket",
            protocol: "native",
            lived_ms: 7,
            weight: EndWeight::Notable,
        }
    }

    #[test]
    fn the_last_rows_are_kept_and_found_by_client_and_user() {
        let (ada, bob) = (UserId("ada".into()), UserId("bob".into()));
        let mut journal = Journal::default();
        (0..ROWS_MAX as u64).for_each(|n| journal.ended(NOW, &end(ClientId(n), &ada, "x")));
        assert_eq!(journal.ends(None).len(), ROWS_MAX);
        journal.ended(NOW, &end(ClientId(7_000), &bob, &"ä".repeat(TEXT_BYTES_MAX)));
        assert_eq!(journal.ends(None).len(), ROWS_MAX, "the oldest has gone");
        assert_eq!(journal.ends(Some(&Whom::Client(ClientId(0)))).len(), 0);
        assert_eq!(journal.ends(Some(&Whom::User(ada))).len(), ROWS_MAX - 1);
        let found = journal.ends(Some(&Whom::User(bob)));
        let why = found[0].why.as_ref().map(String::len);
        assert_eq!((found.len(), found[0].client, why), (1, Some(ClientId(7_000)), Some(TEXT_BYTES_MAX)));
    }

    #[test]
    fn beyond_so_many_in_a_second_sessions_that_begin_are_counted() {
        let tail = Tail::default();
        let mut journal = Journal::new(tail.clone());
        let at = |mono_ms| Now { mono_ms, wall_ms: 1_000 };
        let line = ConnectedLine {
            client: ClientId(7),
            user: None,
            peer: &Peer::Unknown,
            transport: "websocket",
            protocol: "native",
            resumed: false,
        };
        journal.connected(at(0), &line);
        assert_eq!(journal.begun.shown, 0, "nobody watches");
        let mut watching = tail.watch();
        (0..CONNECTED_PER_SECOND as u64 + 30).for_each(|n| journal.connected(at(1_000 + n), &line));
        journal.tick(at(1_999));
        let mut lines = || -> Vec<Arc<str>> { std::iter::from_fn(|| watching.try_recv().ok()).collect() };
        let shown = lines();
        assert_eq!(shown.len(), CONNECTED_PER_SECOND as usize);
        let expected = r#"{"ts":1000,"type":"connected","client":"0000000000000007","peer":"unknown","transport":"websocket","protocol":"native","resumed":false}"#;
        assert_eq!(&*shown[0], expected);
        journal.tick(at(2_000));
        journal.tick(at(2_001));
        let told = lines();
        assert_eq!(told.len(), 1);
        assert_eq!(&*told[0], r#"{"type":"left_out","of":"connected","count":30}"#);
    }

    #[test]
    fn rows_have_the_words_of_the_log_and_only_the_fields_that_they_have() {
        let tail = Tail::default();
        let mut journal = Journal::new(tail.clone());
        let mut watching = tail.watch();
        journal.ended(NOW, &end(ClientId(0xab), &UserId("ada".into()), "it took no bytes"));
        let channel = ChannelName::new("news:a").expect("a name");
        let error = Error::new(ErrorCode::Denied, "no").on(&channel).by_rule("news:*").by_option("publish");
        let note = |what| Note { conn: None, client: Some(ClientId(1)), user: None, what };
        journal.noted(NOW, &note(Noted::Denied(error)), None);
        journal.noted(NOW, &note(Noted::Gap { channel, reset: true }), None);
        let error = Error::new(ErrorCode::RateLimited, "slow").by_limit("messages_per_user");
        journal.noted(NOW, &note(Noted::Throttled(error)), None);
        journal.noted(NOW, &note(Noted::Reloaded { rules: 1, ended: 0 }), None);
        let lines: Vec<Arc<str>> = std::iter::from_fn(|| watching.try_recv().ok()).collect();
        let expected = [
            r#"{"ts":1000,"type":"disconnected","client":"00000000000000ab","user":"ada","peer":"unknown","by":"server","reason":"slow","code":4003,"why":"it took no bytes","transport":"websocket","protocol":"native","lived_ms":7}"#,
            r#"{"ts":1000,"type":"denied","client":"0000000000000001","channel":"news:a","code":"denied","rule":"news:*","option":"publish","why":"no"}"#,
            r#"{"ts":1000,"type":"gap","client":"0000000000000001","channel":"news:a","reset":true}"#,
            r#"{"ts":1000,"type":"throttled","client":"0000000000000001","code":"rate_limited","option":"messages_per_user","why":"slow"}"#,
        ];
        assert_eq!(lines.iter().map(|line| &**line).collect::<Vec<_>>(), expected);
        assert_eq!((journal.ends(None).len(), journal.events(None).len()), (1, 3));
    }
}
