//! The application's side of a Socket.IO namespace: emits, joins, leaves, ends, questions with answers, and lists of
//! sockets, over all shards.
//!
//! A [`Namespace`] is cheap to clone and works from any thread. It promises:
//!
//! - **One order.** Everything that one caller asks here takes effect in the order of its calls, on every shard and for
//!   every socket, also for one that reads late: `emit` to a room and then `leave` for its sockets delivers. An
//!   operation is put into that order when its future is first polled; a caller that awaits one before the next has
//!   program order.
//! - **Results.** An operation is answered when it has its place in the order; the sockets come to it a little later.
//!   `list` and `ask` are answered by the sockets as they are at that place.
//! - **Nothing is lost in silence.** A socket that reads slowly gets everything in pages, in order, or is disconnected.
//!   Only volatile events are lost for a socket that does not take more at the moment.
//! - **Bounds.** An operation waits while its shard has no room for more (`app_outstanding_max`). At most `asked_max`
//!   questions of a shard wait for answers, and 256 of one socket: the oldest then counts as left. The answers to one
//!   question are at most 64 MiB. A socket is in at most `rooms_max` rooms; joining another one has no effect.
//!
//! A socket is named by its [`ClientId`]: its id as clients see it is the text of that. Events and answers are JSON
//! arrays, with attachments bundled ([`data_of`]).

use crate::control::{AppRequest, Control};
use crate::embed::handle::{Handle, published, refused, stopped_error};
use crate::protocol::socketio::MembersQuestion;
use crate::protocol::socketio::channel_of;
use fanfare_hub::{
    Answers, AppAnswer, AppCommand, Audience, ChannelName, Data, Error, MemberInfo, MembersCommand, MembersOp,
    Position, Publish, Room,
};
use std::time::Duration;
use tokio::sync::oneshot;

/// See the module's description.
#[derive(Debug, Clone)]
pub(crate) struct Namespace {
    handle: Handle,
    channel: ChannelName,
}

impl Namespace {
    /// The namespace of this name: `/admin`. `None` for a name that no namespace can have. One that no client can enter
    /// has no sockets.
    pub(crate) fn new(handle: Handle, name: &str) -> Option<Self> {
        Some(Namespace { handle, channel: channel_of(name)? })
    }

    /// Sends an event to sockets.
    pub(crate) async fn emit(&self, audience: Audience, event: Data) -> Result<Position, Error> {
        let (channel, data) = (self.channel.clone(), event);
        let publish = Box::new(Publish { channel, data, event: None, idempotency_key: None, echo: true });
        let audience = (audience != Audience::default()).then(|| Box::new(audience));
        let answer = self.handle.put(AppCommand::Publish { publish, audience, by: None }).await;
        published(answer).map(|published| published.position)
    }

    /// Sends an event to those sockets that take more now.
    pub(crate) async fn emit_volatile(&self, audience: Audience, event: Data) -> Result<(), Error> {
        match self.put(audience, MembersOp::Volatile { data: event }).await {
            AppAnswer::Done => Ok(()),
            other => Err(refused(other)),
        }
    }

    /// Sends an event to sockets and gives their answers: when all have answered or left, or when the time is over.
    /// Then the answers so far are given, with `timed_out`.
    pub(crate) async fn ask(&self, audience: Audience, event: Data, timeout: Duration) -> Result<Answers, Error> {
        let (to, answers) = oneshot::channel();
        let room = Some(self.handle.room_for(&self.channel).await?);
        let timeout_ms = u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX);
        let channel = self.channel.clone();
        let on_answers = Box::new(move |result| drop(to.send(result))); // the caller may have stopped waiting
        let question = MembersQuestion { key: None, channel, audience, data: event, timeout_ms, on_answers, room };
        self.handle.send_to_home(&self.channel, Control::App(AppRequest::Members(Box::new(question))))?;
        answers.await.unwrap_or_else(|_| Err(stopped_error()))
    }

    /// Lets sockets enter rooms.
    pub(crate) async fn join(&self, audience: Audience, rooms: Vec<Room>) -> Result<Position, Error> {
        published(self.put(audience, MembersOp::Join { rooms }).await).map(|published| published.position)
    }

    /// Takes sockets out of rooms.
    pub(crate) async fn leave(&self, audience: Audience, rooms: Vec<Room>) -> Result<Position, Error> {
        published(self.put(audience, MembersOp::Leave { rooms }).await).map(|published| published.position)
    }

    /// Disconnects sockets from the namespace; `whole` ends their connections, with all namespaces.
    pub(crate) async fn disconnect(&self, audience: Audience, whole: bool) -> Result<Position, Error> {
        published(self.put(audience, MembersOp::Disconnect { whole }).await).map(|published| published.position)
    }

    /// The sockets, in no order.
    pub(crate) async fn list(&self, audience: Audience) -> Result<Vec<MemberInfo>, Error> {
        match self.put(audience, MembersOp::List).await {
            AppAnswer::Members(members) => Ok(members),
            other => Err(refused(other)),
        }
    }

    async fn put(&self, audience: Audience, op: MembersOp) -> AppAnswer {
        let command = MembersCommand { channel: self.channel.clone(), audience, op };
        self.handle.put(AppCommand::Members(Box::new(command))).await
    }
}

#[cfg(test)]
mod tests;
