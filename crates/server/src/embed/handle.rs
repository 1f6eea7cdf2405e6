//! The application's interface to a running server: publish, read, signal, subscribe and disconnect clients.
//!
//! A [`Handle`] is cheap to clone, and works from any thread and runtime. A command about a channel goes to the shard
//! that the channel lives on, in one queue, and its answer goes to the caller. A shard holds at most
//! `Limits::app_outstanding_max` commands without an answer: then [`ask`](Handle::ask) waits for room and
//! [`try_ask`](Handle::try_ask) is refused. No rule restricts the application, but a rule must match the channel
//! (otherwise `no_rule`). While a shard takes no turns its commands have no answer: a caller that must
//! go on awaits them under a timeout of its own, as the HTTP API does.

use crate::control::{AppRequest, Control};
use crate::embed::payload;
use crate::embed::publishing::{Broadcasting, Publishing};
use crate::embed::signaling::Signaling;
use crate::embed::socketio::Io;
use crate::embed::socketio::sequence::Sequence;
use crate::embed::socketio::sockets::Sockets;
use crate::journal::{Act, Audit, By};
use crate::protocol::socketio::channel_of;
use bytes::Bytes;
use fanfare_hub::{
    Among, AppAnswer, AppCommand, ChannelInfo, ChannelName, ConnectionCursor, ConnectionInfo, Data, Disconnect, Error,
    ErrorCode, History, HistoryFrom, HistoryQuery, NodeInfo, Pattern, Placement, Position, PresenceSnapshot,
    SubOptions, UserId, UserInfo, UserStatus, Whom,
};
use serde::Serialize;
use std::collections::VecDeque;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::time::Duration;
use tokio::sync::mpsc::UnboundedSender;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, TryAcquireError, oneshot};

/// Commands that are sent to a shard at once; larger batches are cut, so that the first answers come before the last
/// command.
const BATCH_MAX: usize = 256;
/// The time after which a command that found no room may be tried again.
const RETRY_AFTER_MS: u64 = 100;
/// The same for a shard that does not answer.
const SILENT_RETRY_AFTER_MS: u64 = 1000;

/// See the module's description.
///
/// ```no_run
/// # async fn run() -> Result<(), Box<dyn std::error::Error>> {
/// use fanfare::hub::{Disconnect, Whom};
/// use fanfare::Fanfare;
///
/// let server = Fanfare::builder(()).channel("chat:*", |c| c.open()).build()?;
/// let hub = server.handle();
/// tokio::spawn(async move {
///     let published = hub.publish("chat:general", "hello").await?;
///     println!("{} are listening", published.subscribers);
///     hub.disconnect(Whom::user("mallory"), Disconnect::Kicked).await?;
///     Ok::<_, fanfare::hub::Error>(())
/// });
/// server.serve("127.0.0.1:8080").await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Handle {
    controls: Arc<[UnboundedSender<Control>]>,
    /// Each shard's room for commands without an answer.
    rooms: Arc<[Arc<Semaphore>]>,
    room_max: usize,
    placement: Placement,
    placement_key: u64,
    /// The number of shards in use: all, except in a test.
    shards: Arc<AtomicUsize>,
    /// The sockets of namespaces with handlers.
    sockets: Sockets,
    /// What was done by it, and by the API.
    audit: Audit,
    /// Notices of channels for which no handler was called.
    notices_dropped: Arc<AtomicU64>,
}

/// A stored publication of the application.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Published {
    /// Where.
    pub position: Position,
    /// True if the key had been used: the position is that of the first publication.
    pub duplicate: bool,
    /// How many sessions are subscribed on this node.
    pub subscribers: u64,
}

/// A page of the channels of this node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChannelPage {
    /// In the order of their names.
    pub channels: Vec<ChannelInfo>,
    /// More channels follow the last one.
    pub more: bool,
}

/// A page of the connections of this node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConnectionPage {
    /// In the order of their places.
    pub connections: Vec<ConnectionInfo>,
    /// Where the list goes on.
    pub next: Option<ConnectionCursor>,
}

/// A page of the users of this node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserPage {
    /// In the order of their ids.
    pub users: Vec<UserInfo>,
    /// Where the list goes on.
    pub next: Option<UserId>,
}

impl Handle {
    pub(crate) fn new(controls: Vec<UnboundedSender<Control>>, placement_key: u64, outstanding_max: usize) -> Self {
        let room_max = outstanding_max.clamp(1, Semaphore::MAX_PERMITS.min(u32::MAX as usize));
        let rooms = controls.iter().map(|_| Arc::new(Semaphore::new(room_max))).collect();
        let placement = Placement::new(placement_key, controls.len());
        let shards = Arc::new(AtomicUsize::new(controls.len()));
        Handle {
            controls: controls.into(),
            rooms,
            room_max,
            placement,
            placement_key,
            shards,
            sockets: Sockets::default(),
            audit: Audit::default(),
            notices_dropped: Arc::default(),
        }
    }

    pub(crate) fn audit(&self) -> &Audit {
        &self.audit
    }

    pub(crate) fn notices_dropped_count(&self) -> &Arc<AtomicU64> {
        &self.notices_dropped
    }

    /// The number of notices of channels (`on_join`, `on_published`, …) for which no handler was called, since the
    /// start: they found no room, or waited too long. When it rises, a picture that a program makes of notices alone is
    /// not complete any more: read it anew ([`presence`](Self::presence), [`channels`](Self::channels)).
    pub fn notices_dropped(&self) -> u64 {
        self.notices_dropped.load(Relaxed)
    }

    /// Does something for the program, and notes it where it acts on sessions or removes data.
    async fn noted(&self, act: Option<Act>, answer: impl Future<Output = AppAnswer>) -> AppAnswer {
        let answer = answer.await;
        if let Some(act) = act {
            self.audit.answered(By::Program, act, &answer);
        }
        answer
    }

    pub(crate) fn sockets(&self) -> &Sockets {
        &self.sockets
    }

    /// From here on only the first shard of the server is used; this applies to every clone.
    pub(crate) fn restrict_to_one_shard(&self) {
        self.shards.store(1, Relaxed);
    }

    pub(crate) fn controls(&self) -> &[UnboundedSender<Control>] {
        &self.controls[..self.shards.load(Relaxed)]
    }

    pub(crate) fn placement_key(&self) -> u64 {
        self.placement_key
    }

    /// Sends one command of the hub. Waits while its shard has no room for more. Dropping the future does not cancel
    /// the command. A JSON payload is checked, and put on one line.
    pub async fn ask(&self, mut command: AppCommand) -> AppAnswer {
        match payload::of_command(&mut command) {
            Ok(()) => self.noted(Act::of_action(&command), self.put(command)).await,
            Err(error) => AppAnswer::Error(error),
        }
    }

    /// The same for a command whose payload has been checked.
    pub(crate) async fn put(&self, command: AppCommand) -> AppAnswer {
        let shard = self.shard_of(&command);
        match self.rooms[shard].clone().acquire_owned().await {
            Ok(room) => self.ask_with(shard, command, room).await,
            Err(_) => stopped(),
        }
    }

    /// The same until `over` ends: without an answer then, the command is refused, as [`silent`] says.
    pub(crate) async fn put_until(&self, command: AppCommand, over: impl Future<Output = ()>) -> AppAnswer {
        let changes = command.changes();
        let mut is_sent = false;
        let asking = async {
            let shard = self.shard_of(&command);
            match self.rooms[shard].clone().acquire_owned().await {
                Ok(room) => {
                    is_sent = true;
                    self.ask_with(shard, command, room).await
                }
                Err(_) => stopped(),
            }
        };
        let answer = tokio::select! {
            biased;
            answer = asking => Some(answer),
            () = over => None,
        };
        answer.unwrap_or_else(|| silent(is_sent && changes))
    }

    /// The same, refused as `unavailable` if its shard has no room.
    pub async fn try_ask(&self, mut command: AppCommand) -> AppAnswer {
        if let Err(error) = payload::of_command(&mut command) {
            return AppAnswer::Error(error);
        }
        let shard = self.shard_of(&command);
        match self.rooms[shard].clone().try_acquire_owned() {
            Ok(room) => self.noted(Act::of_action(&command), self.ask_with(shard, command, room)).await,
            Err(TryAcquireError::NoPermits) => {
                let max = self.room_max;
                let message = format!("{max} commands wait for an answer, the limit of a shard (app_outstanding_max)");
                let mut error = Error::new(ErrorCode::Unavailable, message);
                error.retry_after_ms = Some(RETRY_AFTER_MS);
                AppAnswer::Error(error)
            }
            Err(TryAcquireError::Closed) => stopped(),
        }
    }

    async fn ask_with(&self, shard: usize, command: AppCommand, room: OwnedSemaphorePermit) -> AppAnswer {
        let (reply, answered) = oneshot::channel();
        if self.controls[shard].send(Control::App(AppRequest::One(Box::new(command), reply, room))).is_err() {
            return stopped();
        }
        answered.await.unwrap_or_else(|_| stopped())
    }

    /// Waits for room on the shard that orders a channel, for one command.
    pub(crate) async fn room_for(&self, channel: &ChannelName) -> Result<OwnedSemaphorePermit, Error> {
        self.rooms[self.home_of(channel)].clone().acquire_owned().await.map_err(|_| stopped_error())
    }

    /// Sends something to the shard that orders a channel.
    pub(crate) fn send_to_home(&self, channel: &ChannelName, control: Control) -> Result<(), Error> {
        self.controls[self.home_of(channel)].send(control).map_err(|_| stopped_error())
    }

    fn home_of(&self, channel: &ChannelName) -> usize {
        if self.controls().len() > 1 { usize::from(self.placement.home_of(channel).0) } else { 0 }
    }

    /// Sends many commands, with one message to each shard for a few hundred of them. Commands about one channel take
    /// effect in their order; the answers are in the order of the commands. Waits while a shard has no room. JSON
    /// payloads are checked, and put on one line.
    pub async fn ask_all(&self, commands: Vec<AppCommand>) -> Vec<AppAnswer> {
        let acts: Vec<Option<Act>> = commands.iter().map(Act::of_action).collect();
        let judged = |mut command| payload::of_command(&mut command).map(|()| command);
        let answers = self.put_all(commands.into_iter().map(judged).collect()).await;
        for (act, answer) in acts.into_iter().zip(&answers) {
            if let Some(act) = act {
                self.audit.answered(By::Program, act, answer);
            }
        }
        answers
    }

    /// The same for commands whose payloads have been checked; a problem that was found is the command's answer.
    pub(crate) async fn put_all(&self, commands: Vec<Result<AppCommand, Error>>) -> Vec<AppAnswer> {
        self.put_all_until(commands, std::future::pending()).await
    }

    /// The same until `over` ends: a command without an answer then is refused, as [`silent`] says.
    pub(crate) async fn put_all_until(
        &self,
        commands: Vec<Result<AppCommand, Error>>,
        over: impl Future<Output = ()>,
    ) -> Vec<AppAnswer> {
        let mut by_shard: Vec<Vec<(usize, AppCommand)>> = self.controls.iter().map(|_| Vec::new()).collect();
        let mut batches = Batches {
            answers: commands.iter().map(|_| None).collect(),
            may_stand: vec![false; commands.len()],
            asked: VecDeque::new(),
        };
        for (place, command) in commands.into_iter().enumerate() {
            match command {
                Ok(command) => by_shard[self.shard_of(&command)].push((place, command)),
                Err(error) => batches.answers[place] = Some(AppAnswer::Error(error)),
            }
        }
        let is_over = tokio::select! {
            biased;
            () = self.ask_batches(by_shard, &mut batches) => false,
            () = over => true,
        };
        if is_over {
            // Answers of other shards may have come meanwhile.
            for (places, mut answered) in std::mem::take(&mut batches.asked) {
                batches.take(&places, answered.try_recv().unwrap_or_default());
            }
        }
        let missing = |may_stand| if is_over { silent(may_stand) } else { stopped() };
        let answers = batches.answers.into_iter().zip(batches.may_stand);
        answers.map(|(answer, may_stand)| answer.unwrap_or_else(|| missing(may_stand))).collect()
    }

    async fn ask_batches(&self, by_shard: Vec<Vec<(usize, AppCommand)>>, batches: &mut Batches) {
        let batch_max = BATCH_MAX.min(self.room_max);
        for (shard, of_shard) in by_shard.into_iter().enumerate() {
            let mut of_shard = of_shard.into_iter();
            while of_shard.len() > 0 {
                let (places, batch): (Vec<usize>, Vec<AppCommand>) = of_shard.by_ref().take(batch_max).unzip();
                let Ok(room) = self.rooms[shard].clone().acquire_many_owned(batch.len() as u32).await else { break };
                for (place, command) in places.iter().zip(&batch) {
                    batches.may_stand[*place] = command.changes();
                }
                let (reply, answered) = oneshot::channel();
                if self.controls[shard].send(Control::App(AppRequest::All(batch, reply, room))).is_err() {
                    break;
                }
                batches.asked.push_back((places, answered));
            }
        }
        while let Some((_, answered)) = batches.asked.front_mut() {
            let got = answered.await.unwrap_or_default();
            if let Some((places, _)) = batches.asked.pop_front() {
                batches.take(&places, got);
            }
        }
    }

    /// The shard that takes a command: the home of its channel, so that the command takes no detour.
    fn shard_of(&self, command: &AppCommand) -> usize {
        command.channel().map_or(0, |channel| self.home_of(channel))
    }
}

/// Commands on their way to several shards.
struct Batches {
    answers: Vec<Option<AppAnswer>>,
    /// For each command, whether it was sent and changes something.
    may_stand: Vec<bool>,
    /// The sent batches: the places of their answers, and the receivers.
    asked: VecDeque<(Vec<usize>, oneshot::Receiver<Vec<AppAnswer>>)>,
}

impl Batches {
    fn take(&mut self, places: &[usize], answers: Vec<AppAnswer>) {
        for (place, answer) in places.iter().zip(answers) {
            self.answers[*place] = Some(answer);
        }
    }
}

/// The answer for a shard that takes no turns or has no room: `unknown` if the command may have taken effect, otherwise
/// `unavailable`.
fn silent(may_stand: bool) -> AppAnswer {
    let (code, message) = match may_stand {
        true => (ErrorCode::Unknown, "a shard of the server does not answer: it is not known whether this was done"),
        false => (ErrorCode::Unavailable, "a shard of the server does not answer; nothing was done"),
    };
    AppAnswer::Error(Error { retry_after_ms: Some(SILENT_RETRY_AFTER_MS), ..Error::new(code, message) })
}

/// The commands as methods, with payloads of any type that can be written as JSON.
///
/// # Errors
/// Each gives the hub's [`Error`]: `bad_request` for an invalid name, event or payload, `no_rule`, `too_large`, and
/// `unavailable` once the server has stopped. From the beginning of the stop, commands that change something are
/// `unavailable` too.
impl Handle {
    /// Publishes `data` as JSON, once it is awaited. Options are set before the `await`.
    ///
    /// ```no_run
    /// # async fn run(hub: fanfare::Handle, client: fanfare::hub::ClientId) -> Result<(), fanfare::hub::Error> {
    /// #[derive(serde::Serialize)]
    /// struct Goal { team: &'static str, minute: u32 }
    ///
    /// let goal = Goal { team: "blue", minute: 17 };
    /// let published = hub.publish("match:42", &goal).event("goal").idempotency_key("42-blue-17").await?;
    /// println!("{} are watching", published.subscribers);
    ///
    /// hub.publish("game:7", &["ace", "ten"]).event("hand").only([client]).await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn publish<T: Serialize + ?Sized>(&self, channel: &str, data: &T) -> Publishing<'_> {
        Publishing::json(self, channel, data)
    }

    /// The same for binary data, or for JSON text, which is checked and put on one line.
    ///
    /// ```no_run
    /// # async fn run(hub: fanfare::Handle) -> Result<(), fanfare::hub::Error> {
    /// use fanfare::Data;
    ///
    /// hub.publish_data("camera:1", Data::Binary(vec![0xff, 0xd8].into())).await?;
    /// hub.publish_data("camera:1", Data::Json(r#"{"frames": 1}"#.into())).event("status").await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn publish_data(&self, channel: &str, data: Data) -> Publishing<'_> {
        Publishing::data(self, channel, data)
    }

    /// Publishes the same to several channels, once it is awaited, and returns the result for each, in their order.
    /// Options are set before the `await`, as for [`publish`](Self::publish).
    ///
    /// ```no_run
    /// # async fn run(hub: fanfare::Handle) -> Result<(), fanfare::hub::Error> {
    /// let channels = ["match:42", "league:1"];
    /// let results = hub.broadcast(&channels, "kick-off").event("start").idempotency_key("42-start").await?;
    /// for (channel, result) in channels.iter().zip(results) {
    ///     match result {
    ///         Ok(published) => println!("{channel}: {} are listening", published.subscribers),
    ///         Err(error) => eprintln!("{channel}: {error}"),
    ///     }
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// A payload or an option that is invalid for every channel. A problem of one channel is its result.
    pub fn broadcast<T: Serialize + ?Sized>(&self, channels: &[&str], data: &T) -> Broadcasting<'_> {
        Broadcasting::json(self, channels, data)
    }

    /// Sends a signal to all subscribers, or to one of them, once it is awaited.
    ///
    /// ```no_run
    /// # async fn run(hub: fanfare::Handle, client: fanfare::hub::ClientId) -> Result<(), fanfare::hub::Error> {
    /// hub.signal("game:7", "countdown", &3).await?;
    /// hub.signal("game:7", "your-turn", &()).to(client).await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn signal<T: Serialize + ?Sized>(&self, channel: &str, event: &str, data: &T) -> Signaling<'_> {
        Signaling::json(self, channel, event, data)
    }

    /// The newest publications that are kept, oldest of them first.
    pub async fn history(&self, channel: &str, limit: u32) -> Result<History, Error> {
        self.history_of(name(channel)?, HistoryQuery { from: HistoryFrom::Newest, limit }).await
    }

    /// The kept publications after a position, or before one. With [`HistoryFrom::Since`] the page says by `gap` that
    /// publications after the position are not kept any more.
    pub async fn history_of(&self, channel: ChannelName, query: HistoryQuery) -> Result<History, Error> {
        match self.ask(AppCommand::History { channel, query }).await {
            AppAnswer::History(history) => Ok(*history),
            other => Err(refused(other)),
        }
    }

    /// Removes the history. Subscribers continue; a client that comes back with an older position gets a gap.
    pub async fn remove_history(&self, channel: &str) -> Result<(), Error> {
        done(self.ask(AppCommand::HistoryRemove { channel: name(channel)? }).await)
    }

    /// The clients that are present.
    pub async fn presence(&self, channel: &str) -> Result<PresenceSnapshot, Error> {
        match self.ask(AppCommand::Presence { channel: name(channel)? }).await {
            AppAnswer::Presence(snapshot) => Ok(snapshot),
            other => Err(refused(other)),
        }
    }

    /// A page of the channels that live here now: those that match a pattern (`chat:*`), after a name.
    ///
    /// ```no_run
    /// # async fn run(hub: fanfare::Handle) -> Result<(), fanfare::hub::Error> {
    /// let mut after = None;
    /// loop {
    ///     let page = hub.channels(Some("chat:*"), after.as_ref(), 100).await?;
    ///     page.channels.iter().for_each(|info| println!("{}: {}", info.channel, info.subscribers));
    ///     after = page.channels.last().map(|info| info.channel.clone());
    ///     if !page.more {
    ///         return Ok(());
    ///     }
    /// }
    /// # }
    /// ```
    pub async fn channels(
        &self,
        pattern: Option<&str>,
        after: Option<&ChannelName>,
        limit: u32,
    ) -> Result<ChannelPage, Error> {
        let pattern = pattern.map(Pattern::new).transpose();
        let pattern = pattern.map_err(|error| Error::new(ErrorCode::BadRequest, error.to_string()))?;
        match self.ask(AppCommand::Channels { pattern, after: after.cloned(), limit }).await {
            AppAnswer::Channels { channels, more } => Ok(ChannelPage { channels, more }),
            other => Err(refused(other)),
        }
    }

    /// Subscribes connected sessions, independent of the rules, and returns how many are subscribed now. Their clients
    /// get a push, and later publications reach them. It waits for an undecided subscription to the same channel:
    /// within `on_subscribe` do not await it for the same caller and channel.
    ///
    /// ```no_run
    /// # async fn run(hub: fanfare::Handle) -> Result<(), fanfare::hub::Error> {
    /// use fanfare::hub::Whom;
    ///
    /// if hub.subscribe(Whom::user("ada"), "order:1815").await? == 0 {
    ///     println!("ada is not here");
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub async fn subscribe(&self, whom: Whom, channel: &str) -> Result<u64, Error> {
        self.subscribe_with(whom, SubOptions::new(name(channel)?)).await
    }

    /// The same with presence, the newest publications, and so on.
    pub async fn subscribe_with(&self, whom: Whom, options: SubOptions) -> Result<u64, Error> {
        concerned(self.ask(AppCommand::Subscribe { whom, options: Box::new(options) }).await)
    }

    /// Ends subscriptions, and grants of the channel by a command or a token, and returns how many. It waits for no
    /// decision, so a handler may call it for its own caller: an undecided subscription is refused, and an undecided
    /// publication continues as its handler decides.
    pub async fn unsubscribe(&self, whom: Whom, channel: &str) -> Result<u64, Error> {
        concerned(self.ask(AppCommand::Unsubscribe { whom, channel: name(channel)? }).await)
    }

    /// Ends connections, and their sessions too unless the reason lets their clients come back. Returns how many
    /// sessions were affected.
    pub async fn disconnect(&self, whom: Whom, reason: Disconnect) -> Result<u64, Error> {
        concerned(self.ask(AppCommand::Disconnect { whom, reason, ban_ms: None }).await)
    }

    /// Does the same with [`Disconnect::Kicked`], and refuses each `connect` as this user, or with a ticket of this
    /// client, for so long: as long as the process lives, and rounded down to ms. A later ban replaces an earlier one.
    /// Returns how many sessions were affected.
    ///
    /// ```no_run
    /// # async fn run(hub: fanfare::Handle) -> Result<(), fanfare::hub::Error> {
    /// use fanfare::hub::Whom;
    /// use std::time::Duration;
    ///
    /// hub.ban(Whom::user("mallory"), Duration::from_secs(3600)).await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// `limit_exceeded` if [`BANS_MAX`](fanfare_hub::BANS_MAX) others are banned, and as all commands.
    pub async fn ban(&self, whom: Whom, time: Duration) -> Result<u64, Error> {
        let ban_ms = Some(u64::try_from(time.as_millis()).unwrap_or(u64::MAX));
        match self.ask(AppCommand::Disconnect { whom, reason: Disconnect::Kicked, ban_ms }).await {
            AppAnswer::Banned { sessions, .. } => Ok(sessions),
            other => Err(refused(other)),
        }
    }

    /// Has clients connect again, each at a random moment of `spread` (at most an hour; zero: at once), and returns how
    /// many sessions have a connection. Their sessions go on.
    ///
    /// ```no_run
    /// # async fn run(hub: fanfare::Handle) -> Result<(), fanfare::hub::Error> {
    /// use fanfare::hub::Whom;
    /// use std::time::Duration;
    ///
    /// hub.reconnect(Whom::Label("beta".into()), Duration::from_secs(30)).await?;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn reconnect(&self, whom: Whom, spread: Duration) -> Result<u64, Error> {
        let spread_ms = u64::try_from(spread.as_millis()).unwrap_or(u64::MAX);
        concerned(self.ask(AppCommand::Reconnect { whom, spread_ms }).await)
    }

    /// A page of the connections of this node. A page may be short, or empty: the list ends where `next` is `None`.
    ///
    /// ```no_run
    /// # async fn run(hub: fanfare::Handle) -> Result<(), fanfare::hub::Error> {
    /// use fanfare::hub::Among;
    ///
    /// let mut after = None;
    /// loop {
    ///     let page = hub.connections(Among::Label("beta".into()), after, 100).await?;
    ///     page.connections.iter().for_each(|it| println!("{}: {:?}", it.client, it.user));
    ///     after = page.next;
    ///     if after.is_none() {
    ///         return Ok(());
    ///     }
    /// }
    /// # }
    /// ```
    pub async fn connections(
        &self,
        among: Among,
        after: Option<ConnectionCursor>,
        limit: u32,
    ) -> Result<ConnectionPage, Error> {
        match self.ask(AppCommand::Connections { among, after, limit }).await {
            AppAnswer::Connections { connections, next } => Ok(ConnectionPage { connections, next }),
            other => Err(refused(other)),
        }
    }

    /// A page of the users that have a connection, or of those that are subscribed to a channel, after a user.
    pub async fn users(&self, channel: Option<&str>, after: Option<UserId>, limit: u32) -> Result<UserPage, Error> {
        let channel = channel.map(name).transpose()?;
        match self.ask(AppCommand::Users { channel, after, limit }).await {
            AppAnswer::Users { users, next } => Ok(UserPage { users, next }),
            other => Err(refused(other)),
        }
    }

    /// Whether these users are connected, in their order; at most
    /// [`STATUS_USERS_MAX`](fanfare_hub::STATUS_USERS_MAX).
    pub async fn user_status(&self, users: impl IntoIterator<Item = UserId>) -> Result<Vec<UserStatus>, Error> {
        match self.ask(AppCommand::UserStatus { users: users.into_iter().collect() }).await {
            AppAnswer::UserStatus(users) => Ok(users),
            other => Err(refused(other)),
        }
    }

    /// Ends a ban, and returns whether there was one.
    pub async fn unban(&self, whom: Whom) -> Result<bool, Error> {
        match self.ask(AppCommand::Unban { whom }).await {
            AppAnswer::Unbanned { was_banned } => Ok(was_banned),
            other => Err(refused(other)),
        }
    }

    /// A namespace of Socket.IO: `/`, or another. The program's operations on it take effect in program order.
    ///
    /// ```no_run
    /// # async fn run(hub: fanfare::Handle) {
    /// let io = hub.socketio("/");
    /// io.to("match:42").emit("goal", ("blue", 17));
    /// # }
    /// ```
    pub fn socketio(&self, namespace: &str) -> Io {
        let slash = if namespace.starts_with('/') { "" } else { "/" };
        let namespace = format!("{slash}{namespace}");
        let home = channel_of(&namespace).filter(|_| self.controls().len() > 1);
        let shard = home.map_or(0, |channel| usize::from(self.placement.home_of(&channel).0));
        Io::new(Sequence::new(self.controls[shard].clone(), None, namespace.into()), self.sockets.clone())
    }

    /// Figures of the node.
    pub async fn info(&self) -> Result<NodeInfo, Error> {
        match self.ask(AppCommand::Info).await {
            AppAnswer::Info(info) => Ok(*info),
            other => Err(refused(other)),
        }
    }
}

pub(super) fn name(channel: &str) -> Result<ChannelName, Error> {
    ChannelName::new(channel).map_err(|error| Error::new(ErrorCode::BadRequest, error.to_string()))
}

pub(super) fn to_json<T: Serialize + ?Sized>(channel: &ChannelName, data: &T) -> Result<Data, Error> {
    let json = serde_json::to_vec(data).map_err(|error| payload::refused(&error).on(channel))?;
    payload::checked(&Bytes::from(json)).map(Data::Json).map_err(|problem| payload::refused(&problem).on(channel))
}

pub(super) fn published(answer: AppAnswer) -> Result<Published, Error> {
    match answer {
        AppAnswer::Published { position, duplicate, subscribers } => Ok(Published { position, duplicate, subscribers }),
        other => Err(refused(other)),
    }
}

fn concerned(answer: AppAnswer) -> Result<u64, Error> {
    match answer {
        AppAnswer::Concerned(count) => Ok(count),
        other => Err(refused(other)),
    }
}

pub(super) fn done(answer: AppAnswer) -> Result<(), Error> {
    match answer {
        AppAnswer::Done => Ok(()),
        other => Err(refused(other)),
    }
}

pub(super) fn refused(answer: AppAnswer) -> Error {
    match answer {
        AppAnswer::Error(error) => error,
        other => Error::new(ErrorCode::Internal, format!("the hub answered something else: {other:?}")),
    }
}

fn stopped() -> AppAnswer {
    AppAnswer::Error(stopped_error())
}

pub(super) fn stopped_error() -> Error {
    Error::new(ErrorCode::Unavailable, "the server has stopped")
}

impl std::fmt::Debug for Handle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Handle").field("shards", &self.controls.len()).finish_non_exhaustive()
    }
}
