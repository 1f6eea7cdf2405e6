//! The application of a simulated world: it publishes, reads, subscribes and disconnects clients, and watches the
//! shards.
//!
//! It sees the messages from shards to connections at the moment in which they are sent, and checks: every command is
//! answered once; a channel that the rules open to nobody reaches the clients that were subscribed to it, and no
//! others; a disconnected client gets nothing more and is never resumed; and in the end the figures are right. It sends
//! commands about sessions one after the other, because commands that cross have no order.

use crate::chances::{pick, pick_of};
use crate::client::Numbers;
use crate::counts::Counts;
use crate::model::comes_back;
use crate::wire::ToClient;
use fanfare_hub::{
    AppAnswer, AppCommand, Audience, ChannelInfo, ChannelName, ClientId, Data, Disconnect, HistoryFrom, HistoryQuery,
    NodeInfo, Pattern, Publish, Push, ReplyBody, Rng, Signal, SubOptions, UserId, Whom,
};
use std::collections::{BTreeMap, BTreeSet};

/// A channel to which only the application can subscribe clients.
pub(crate) const CLOSED: &str = "app:0";

#[derive(Debug, Default)]
pub(crate) struct App {
    /// The store answers every operation, though it may refuse it for longer than the command waits.
    store_answers: bool,
    store_timeout_ms: u64,
    next_token: u64,
    asked: BTreeMap<u64, PendingCommand>,
    /// The command about sessions that has no answer yet.
    about_sessions: Option<u64>,
    /// Every session that a shard ever named, with its user.
    sessions: BTreeMap<ClientId, Option<UserId>>,
    /// The session of each connection that was told its session.
    by_pipe: BTreeMap<usize, ClientId>,
    /// The client of each connection, by a number that stays the same in smaller worlds.
    owners: BTreeMap<usize, u64>,
    /// Connections on which it makes no subscriptions.
    closed_to_it: BTreeSet<usize>,
    /// Sessions that may follow the closed channel.
    granted: BTreeSet<ClientId>,
    /// Connections that follow the closed channel.
    following: BTreeSet<usize>,
    /// Connections whose clients subscribe to the closed channel, or leave it, by requests of their own: nobody sees
    /// when that takes effect.
    by_requests: BTreeSet<usize>,
    /// Sessions that were ended.
    ended: BTreeSet<ClientId>,
    /// The users that it banned.
    bans: BTreeMap<UserId, Banned>,
    /// The first fault found.
    broken: Option<String>,
    /// The last list and figures.
    pub(crate) list: Option<Vec<ChannelInfo>>,
    pub(crate) info: Option<NodeInfo>,
}

#[derive(Debug)]
struct PendingCommand {
    command: AppCommand,
    at_ms: u64,
    /// The sessions that it is about, as far as they were known, and their connections.
    sessions: BTreeSet<ClientId>,
    pipes: Vec<usize>,
    /// Sessions that began since: each may be concerned or not.
    newcomers: BTreeSet<ClientId>,
}

/// A ban of a user. Times are of the monotonic clock.
#[derive(Debug)]
struct Banned {
    /// Every shard knows of it from then on, once the command was answered.
    since_ms: Option<u64>,
    /// It ends on no shard before this.
    least_ms: u64,
    /// It has ended on every shard then.
    most_ms: u64,
}

impl App {
    /// `store_answers`: it answers every operation, and at once unless it refuses it.
    pub(crate) fn new(store_answers: bool, store_timeout_ms: u64) -> Self {
        App { store_answers, store_timeout_ms, ..App::default() }
    }

    /// One free act.
    pub(crate) fn draw(
        &mut self,
        rng: &mut Rng,
        channels: &[ChannelName],
        numbers: &mut Numbers,
        pad: u64,
    ) -> Option<AppCommand> {
        let closed = rng.below(3) == 0;
        let any = pick_of(rng, channels)?.clone();
        let channel = if closed { ChannelName::new(CLOSED).ok()? } else { any };
        Some(match rng.below(16) {
            0..=5 => {
                let idempotency_key = (rng.below(4) == 0).then(|| format!("a{}", numbers.last()).into());
                let by = (rng.below(2) == 0).then(|| "key".into());
                // A name of the server's own is for others than readers of event streams.
                let name = if numbers.last().is_multiple_of(4) { "fanfare." } else { "happened" };
                let event = (rng.below(3) == 0).then(|| name.into());
                let publish = Publish {
                    channel,
                    data: Data::Json(numbers.payload(rng, pad)),
                    event,
                    idempotency_key,
                    echo: true,
                };
                AppCommand::Publish { publish: Box::new(publish), audience: self.audience(rng), by }
            }
            6 => {
                let to = if rng.below(2) == 0 { self.any_client(rng) } else { None };
                let signal = Signal { channel, event: "move".into(), data: numbers.payload(rng, 20), to };
                AppCommand::Signal(Box::new(signal))
            }
            7 => {
                let query = HistoryQuery { from: HistoryFrom::Newest, limit: 1 + rng.below(20) as u32 };
                AppCommand::History { channel, query }
            }
            8 => AppCommand::Presence { channel },
            9 if rng.below(3) == 0 => AppCommand::HistoryRemove { channel },
            10 => {
                let pattern = (rng.below(2) == 0).then(|| Pattern::new("chat:*").ok()).flatten();
                let after = (rng.below(2) == 0).then(|| channels[0].clone());
                AppCommand::Channels { pattern, after, limit: 1 + rng.below(4) as u32 }
            }
            11 => AppCommand::Info,
            _ if self.about_sessions.is_some() => return None,
            12 | 13 => {
                let recent = (rng.below(4) == 0).then(|| 1 + rng.below(5) as u32);
                let options = Box::new(SubOptions { recent, ..SubOptions::new(channel) });
                AppCommand::Subscribe { whom: self.any_whom(rng)?, options }
            }
            14 => AppCommand::Unsubscribe { whom: self.any_whom(rng)?, channel },
            15 if rng.below(2) == 0 => {
                let reason = if rng.below(4) == 0 { Disconnect::Overloaded } else { Disconnect::Kicked };
                let whom = self.any_whom(rng)?;
                // The client core and the chat's clients end for good when they are refused; these come again.
                let ban_ms = match &whom {
                    Whom::User(user) if user.0.starts_with("user") && !comes_back(reason) => {
                        (!self.next_token.is_multiple_of(3)).then(|| 200 + 100 * (self.next_token % 20))
                    }
                    _ => None,
                };
                AppCommand::Disconnect { whom, reason, ban_ms }
            }
            _ => return None,
        })
    }

    /// Publications for one client, in a row, and possibly the end of what was before them.
    pub(crate) fn whisper(
        &self,
        rng: &mut Rng,
        channels: &[ChannelName],
        numbers: &mut Numbers,
    ) -> Option<Vec<AppCommand>> {
        let channel = pick_of(rng, channels)?.clone();
        let audience = Box::new(Audience { only: vec![self.any_client(rng)?], ..Audience::default() });
        let commands = (0..2 + rng.below(8)).map(|n| {
            let (channel, data) = (channel.clone(), Data::Json(numbers.payload(rng, 10)));
            let publish = Box::new(Publish { channel, data, event: None, idempotency_key: None, echo: true });
            let audience = (n > 0 || rng.below(3) > 0).then(|| audience.clone());
            AppCommand::Publish { publish, audience, by: None }
        });
        let mut commands: Vec<AppCommand> = commands.collect();
        if rng.below(4) == 0 {
            commands.push(AppCommand::HistoryRemove { channel });
        }
        Some(commands)
    }

    pub(crate) fn last_publish(&self, rng: &mut Rng, numbers: &mut Numbers) -> Option<AppCommand> {
        let (channel, data) = (ChannelName::new(CLOSED).ok()?, Data::Json(numbers.payload(rng, 10)));
        let publish = Box::new(Publish { channel, data, event: None, idempotency_key: None, echo: true });
        Some(AppCommand::Publish { publish, audience: None, by: None })
    }

    fn any_client(&self, rng: &mut Rng) -> Option<ClientId> {
        // Later ones are more likely to exist.
        let latest = self.by_pipe.iter().rev().take(8);
        pick(rng, latest.map(|(pipe, client)| (self.owners.get(pipe).copied().unwrap_or(0), *client)))
    }

    fn any_whom(&self, rng: &mut Rng) -> Option<Whom> {
        let client = self.any_client(rng)?;
        match self.sessions.get(&client) {
            Some(Some(user)) if rng.below(2) == 0 => Some(Whom::User(user.clone())),
            _ => Some(Whom::Client(client)),
        }
    }

    fn audience(&self, rng: &mut Rng) -> Option<Box<Audience>> {
        let client = self.any_client(rng).filter(|_| rng.below(3) == 0)?;
        let (only, except) = if rng.below(2) == 0 { (vec![client], vec![]) } else { (vec![], vec![client]) };
        Some(Box::new(Audience { only, except, ..Audience::default() }))
    }

    fn of(&self, whom: &Whom) -> BTreeSet<ClientId> {
        match whom {
            Whom::Client(client) => BTreeSet::from([*client]),
            Whom::Label(_) => BTreeSet::new(), // nobody has one
            Whom::User(user) => {
                let of_user = self.sessions.iter().filter(|(_, of)| of.as_ref() == Some(user));
                of_user.map(|(client, _)| *client).collect()
            }
        }
    }

    /// A shard gets a command: its token, and the sessions whose subscription it ends.
    pub(crate) fn ask(&mut self, now_ms: u64, command: AppCommand, is_open: impl Fn(usize) -> bool) -> u64 {
        self.next_token += 1;
        let (at_ms, sessions, newcomers) = (now_ms, BTreeSet::new(), BTreeSet::new());
        let mut asked = PendingCommand { command, at_ms, sessions, pipes: Vec::new(), newcomers };
        if let AppCommand::Subscribe { whom, .. }
        | AppCommand::Unsubscribe { whom, .. }
        | AppCommand::Disconnect { whom, .. } = &asked.command
        {
            self.about_sessions = Some(self.next_token);
            asked.sessions = self.of(whom);
            let subscribes = matches!(asked.command, AppCommand::Subscribe { .. });
            let is_concerned = |pipe: &usize| is_open(*pipe) && !(subscribes && self.closed_to_it.contains(pipe));
            let of_them = |client: &ClientId| asked.sessions.contains(client);
            let pipes = self.by_pipe.iter().filter(|(pipe, client)| of_them(client) && is_concerned(pipe));
            asked.pipes = pipes.map(|(pipe, _)| *pipe).collect();
        }
        if let AppCommand::Subscribe { options, .. } = &asked.command
            && *options.channel == *CLOSED
        {
            self.granted.extend(&asked.sessions);
        }
        if let AppCommand::Disconnect { whom: Whom::User(user), ban_ms: Some(ban_ms), .. } = &asked.command {
            let banned = Banned { since_ms: None, least_ms: now_ms + ban_ms, most_ms: u64::MAX };
            self.bans.insert(user.clone(), banned);
        }
        self.asked.insert(self.next_token, asked);
        self.next_token
    }

    /// A connection of a plain event stream: its ids are about the channels that its reader named.
    pub(crate) fn takes_no_subscriptions(&mut self, pipe: usize) {
        self.closed_to_it.insert(pipe);
    }

    /// The server has gone, and another one comes: nobody answers what was asked, and no session goes on.
    pub(crate) fn server_gone(&mut self) {
        self.asked.clear();
        self.about_sessions = None;
        self.following.clear();
        self.granted.clear();
        self.by_pipe.clear();
        self.bans.clear();
    }

    /// True if nothing is asked.
    pub(crate) fn is_answered(&self) -> bool {
        self.asked.is_empty()
    }

    /// True while it subscribes somebody to this channel, or ends a subscription to it.
    pub(crate) fn is_deciding(&self, of: &ChannelName) -> bool {
        self.asked.values().any(|asked| match &asked.command {
            AppCommand::Subscribe { options, .. } => options.channel == *of,
            AppCommand::Unsubscribe { channel, .. } => channel == of,
            _ => false,
        })
    }

    /// True if it may give a command about sessions now.
    pub(crate) fn is_free(&self) -> bool {
        self.about_sessions.is_none()
    }

    /// True while sessions are being sent away.
    pub(crate) fn is_disconnecting_any(&self) -> bool {
        self.asked.values().any(|asked| matches!(asked.command, AppCommand::Disconnect { .. }))
    }

    /// True for a command that sends sessions away.
    pub(crate) fn is_disconnecting(&self, token: u64) -> bool {
        self.asked.get(&token).is_some_and(|asked| matches!(asked.command, AppCommand::Disconnect { .. }))
    }

    /// Sessions that a command is about.
    pub(crate) fn sessions_of(&self, token: u64) -> BTreeSet<ClientId> {
        self.asked.get(&token).map(|asked| asked.sessions.clone()).unwrap_or_default()
    }

    /// Sessions that began while a command about them was on its way.
    pub(crate) fn newcomers_of(&self, token: u64) -> BTreeSet<ClientId> {
        self.asked.get(&token).map(|asked| asked.newcomers.clone()).unwrap_or_default()
    }

    /// A shard answers. Returns the command.
    pub(crate) fn answered(
        &mut self,
        (now_ms, token): (u64, u64),
        answer: &AppAnswer,
        is_open: impl Fn(usize) -> bool,
        counts: &mut Counts,
    ) -> Result<AppCommand, String> {
        let Some(asked) = self.asked.remove(&token) else {
            return Err(format!("app: command {token} was answered twice, or never asked: {answer:?}"));
        };
        if self.about_sessions == Some(token) {
            self.about_sessions = None;
        }
        let PendingCommand { command, at_ms, sessions, pipes, .. } = asked;
        // A channel whose store never answers is given up at the deadline.
        let in_time = now_ms - at_ms < self.store_timeout_ms;
        let open: Vec<usize> = pipes.iter().copied().filter(|pipe| is_open(*pipe)).collect();
        let seen = open.iter().filter(|pipe| !self.by_requests.contains(pipe));
        if let (AppCommand::Disconnect { whom: Whom::User(user), ban_ms: Some(ban_ms), .. }, answer) =
            (&command, answer)
        {
            match self.bans.get_mut(user) {
                Some(banned) if matches!(answer, AppAnswer::Banned { .. }) => {
                    (banned.since_ms, banned.most_ms) = (Some(now_ms), now_ms + ban_ms);
                    counts.app_banned += 1;
                }
                _ => drop(self.bans.remove(user)),
            }
        }
        match (&command, answer) {
            (AppCommand::Subscribe { options, .. }, AppAnswer::Concerned(count)) => {
                counts.app_subscribed += count;
                // The store can refuse a command that reads, and any command if the store may not answer.
                if *options.channel == *CLOSED && options.recent.is_none() && self.store_answers && in_time {
                    if let Some(pipe) = seen.clone().find(|pipe| !self.following.contains(pipe)) {
                        return Err(format!("app: {command:?} was answered, and pipe {pipe} does not follow"));
                    }
                    if (*count as usize) < open.len() {
                        return Err(format!("app: {command:?} concerned {count} of the {} that follow", open.len()));
                    }
                }
            }
            (AppCommand::Unsubscribe { channel, .. }, AppAnswer::Concerned(count)) => {
                counts.app_unsubscribed += count;
                if **channel == *CLOSED {
                    self.granted.retain(|client| !sessions.contains(client));
                    if let Some(pipe) = seen.clone().find(|pipe| self.following.contains(pipe)) {
                        return Err(format!("app: {command:?} was answered, and pipe {pipe} still follows"));
                    }
                }
            }
            (
                AppCommand::Disconnect { reason, .. },
                AppAnswer::Concerned(count) | AppAnswer::Banned { sessions: count, .. },
            ) => {
                counts.app_disconnected += count;
                if let Some(pipe) = open.first() {
                    return Err(format!("app: {command:?} was answered, and pipe {pipe} is still open"));
                }
                if !comes_back(*reason) {
                    let still = |(pipe, client): &(&usize, &ClientId)| sessions.contains(client) && is_open(**pipe);
                    if let Some((pipe, client)) = self.by_pipe.iter().find(still) {
                        return Err(format!("app: {command:?} was answered, and {client} goes on over pipe {pipe}"));
                    }
                    self.ended.extend(&sessions);
                }
            }
            (AppCommand::Channels { limit, .. }, AppAnswer::Channels { channels, more }) => {
                let sorted = channels.is_sorted_by(|a, b| a.channel < b.channel);
                if !sorted || channels.len() > *limit as usize || (*more && channels.len() < *limit as usize) {
                    return Err(format!("app: {command:?} gave {channels:?}, more {more}"));
                }
                self.list = Some(channels.clone());
            }
            (AppCommand::Info, AppAnswer::Info(info)) => self.info = Some(**info),
            (AppCommand::HistoryRemove { .. }, AppAnswer::Done) => counts.app_purged += 1,
            (AppCommand::Publish { .. }, AppAnswer::Published { .. })
            | (AppCommand::Signal(_), AppAnswer::Done)
            | (AppCommand::History { .. }, AppAnswer::History(_))
            | (AppCommand::Presence { .. }, AppAnswer::Presence(_))
            | (_, AppAnswer::Error(_)) => {}
            (command, answer) => return Err(format!("app: {command:?} was answered with {answer:?}")),
        }
        Ok(command)
    }

    /// A shard sends a message to a connection. Returns the channel to which the application may have subscribed the
    /// session that begins with it.
    pub(crate) fn overhears(
        &mut self,
        now_ms: u64,
        (pipe, owner): (usize, u64),
        said: &ToClient,
        counts: &mut Counts,
    ) -> Option<(ClientId, ChannelName)> {
        match said {
            ToClient::Reply(reply) => match &reply.body {
                ReplyBody::Error(error) if error.message.starts_with("the application has banned") => {
                    counts.app_bans_refused += 1;
                    if self.bans.values().all(|banned| banned.most_ms <= now_ms) {
                        self.wrong(format!("app: on pipe {pipe} {error:?}, and nobody is banned"));
                    }
                }
                ReplyBody::Connected(connected) if self.is_banned(now_ms, connected.user.as_ref()) => {
                    self.wrong(format!("app: {connected:?} on pipe {pipe}, and the user is banned"));
                }
                ReplyBody::Connected(connected) => {
                    let client = connected.client;
                    if self.ended.contains(&client) {
                        self.wrong(format!("app: {client} was sent away for good, and is taken up on pipe {pipe}"));
                    }
                    self.sessions.insert(client, connected.user.clone());
                    self.by_pipe.insert(pipe, client);
                    self.owners.insert(pipe, owner);
                    // A session that began while a command for its user was on its way may be concerned or not.
                    let of = self.about_sessions.and_then(|token| self.asked.get(&token)).and_then(|asked| {
                        let (AppCommand::Subscribe { whom, .. } | AppCommand::Unsubscribe { whom, .. }) =
                            &asked.command
                        else {
                            return None;
                        };
                        Some(self.of(whom))
                    });
                    if of.is_some_and(|of| of.contains(&client)) {
                        let asked = self.about_sessions.and_then(|token| self.asked.get_mut(&token))?;
                        asked.newcomers.insert(client);
                        let AppCommand::Subscribe { options, .. } = &asked.command else { return None };
                        if *options.channel == *CLOSED {
                            self.granted.insert(client);
                        }
                        return Some((client, options.channel.clone()));
                    }
                }
                ReplyBody::Subscribed(subscribed) => self.follows(pipe, &subscribed.channel, true),
                ReplyBody::Unsubscribed { channel } => self.follows(pipe, channel, false),
                _ => {}
            },
            ToClient::Push(push) => match push {
                Push::Subscribed(subscribed) => self.follows(pipe, &subscribed.channel, true),
                Push::Unsubscribed { channel, .. } => self.follows(pipe, channel, false),
                Push::Message { channel, .. } if **channel == *CLOSED => self.may_hear(pipe),
                _ => {}
            },
        }
        None
    }

    fn is_banned(&self, now_ms: u64, user: Option<&UserId>) -> bool {
        let banned = user.and_then(|user| self.bans.get(user));
        banned.is_some_and(|banned| banned.since_ms.is_some() && now_ms < banned.least_ms)
    }

    fn follows(&mut self, pipe: usize, channel: &ChannelName, follows: bool) {
        if **channel != *CLOSED {
            return;
        }
        if follows {
            self.may_hear(pipe);
            self.following.insert(pipe);
        } else {
            self.following.remove(&pipe);
        }
    }

    /// The client of this connection subscribes to a channel, or leaves it, by a request of its own.
    pub(crate) fn changes_by_request(&mut self, pipe: usize, channel: &ChannelName) {
        if **channel == *CLOSED {
            self.by_requests.insert(pipe);
        }
    }

    fn may_hear(&mut self, pipe: usize) {
        let client = self.by_pipe.get(&pipe).copied();
        if !client.is_some_and(|client| self.granted.contains(&client)) {
            self.wrong(format!("app: {client:?} on pipe {pipe} hears of {CLOSED}, to which nobody has subscribed it"));
        }
    }

    fn wrong(&mut self, what: String) {
        self.broken.get_or_insert(what);
    }

    pub(crate) fn verdict(&mut self) -> Result<(), String> {
        self.broken.take().map_or(Ok(()), Err)
    }

    /// The world has been calm for long: every command is answered, and the last figures agree with the clients' state.
    pub(crate) fn finish(&self, subscribers: &BTreeMap<ChannelName, (u64, u64)>, connected: u64) -> Result<(), String> {
        if let Some((token, asked)) = self.asked.first_key_value() {
            return Err(format!("app: command {token} was never answered: {asked:?}"));
        }
        let list = self.list.as_deref().unwrap_or_default();
        for (channel, &(least, most)) in subscribers {
            let told = list.iter().find(|info| info.channel == *channel).map_or(0, |info| info.subscribers);
            if !(least..=most).contains(&told) {
                return Err(format!("app: {channel}: {told} are said to be subscribed, {least} to {most} are"));
            }
        }
        if let Some(info) = list.iter().find(|info| !subscribers.contains_key(&info.channel) && info.subscribers > 0) {
            return Err(format!("app: nobody is subscribed to {info:?}"));
        }
        let Some(info) = &self.info else { return Err("app: no figures".to_owned()) };
        let told: u64 = list.iter().map(|info| info.subscribers).sum();
        if (info.sessions, info.connected, info.subscriptions) != (connected, connected, told) {
            return Err(format!("app: {info:?}, while {connected} are connected, with {told} subscriptions"));
        }
        Ok(())
    }
}
