//! What the judge of signals that wait (`kept.rs`) must know of the world: what shards are given, what they answer, and
//! which clients have room.

use super::{Verdict, World};
use fanfare_hub::{AppCommand, ChannelName, ClientId, Command, Input, Reply, ReplyBody, RequestId};
use std::collections::BTreeSet;

impl World {
    /// A shard is given an input.
    pub(super) fn signals_given(&mut self, shard: usize, input: &Input) {
        match input {
            Input::Command { conn, request, .. } => {
                let Some(pipe) = self.pipe_of(shard, *conn) else { return };
                if let (Command::PresenceSet { channel, .. }, Some(RequestId::Number(id))) =
                    (&request.command, &request.id)
                {
                    self.pipes[pipe].entering.insert(*id, channel.clone());
                }
                // The end of a subscription undoes an entry whose answer is still under way, as a clear does.
                if let Command::PresenceClear { channel } | Command::Unsubscribe { channel } = &request.command {
                    self.pipes[pipe].entering.retain(|_, of| of != channel);
                }
                if let Command::Connect(connect) = &request.command {
                    self.pipes[pipe].subscribes =
                        connect.subscribe.iter().map(|options| options.channel.clone()).collect();
                }
                self.signals_of(self.pipes[pipe].session, &request.command);
            }
            Input::Forward { to, send, .. } => {
                send.requests.iter().for_each(|request| self.signals_of(Some(to.client), &request.command));
            }
            Input::App { command: AppCommand::Signal(signal), .. } => self.kept.given(self.now_ms, signal),
            Input::App { command: AppCommand::Unsubscribe { .. } | AppCommand::Disconnect { .. }, .. } => {
                self.doubt_entries(None);
            }
            Input::Reload(_) | Input::Drain { .. } => self.doubt_entries(None),
            _ => {}
        }
    }

    fn signals_of(&mut self, client: Option<ClientId>, command: &Command) {
        match (command, client) {
            (Command::Signal(signal), _) => self.kept.given(self.now_ms, signal),
            (Command::PresenceSet { channel, .. } | Command::PresenceClear { channel }, Some(client)) => {
                self.kept.entered(client, channel, false);
            }
            (Command::Unsubscribe { channel }, Some(client)) => self.kept.left(client, channel),
            (Command::Refresh { .. }, Some(client)) => self.doubt_entries(Some(client)),
            _ => {}
        }
    }

    /// Subscriptions of this client, or of all, may have ended: an entry whose answer is under way may be over too.
    fn doubt_entries(&mut self, client: Option<ClientId>) {
        self.kept.doubt(client);
        let concerned = self.pipes.iter_mut().filter(|pipe| client.is_none() || pipe.session == client);
        concerned.for_each(|pipe| pipe.entering.clear());
    }

    /// A shard answers.
    pub(super) fn signals_answered(&mut self, pipe: usize, reply: &Reply) {
        let session = self.pipes[pipe].session;
        match (&reply.body, &reply.id, session) {
            (ReplyBody::Connected(connected), ..) => {
                let subscribes: BTreeSet<ChannelName> = std::mem::take(&mut self.pipes[pipe].subscribes);
                self.kept.resumed(connected.client, &subscribes);
            }
            (ReplyBody::Unsubscribed { channel }, _, Some(client)) => self.kept.left(client, channel),
            (ReplyBody::Done, Some(RequestId::Number(id)), Some(client)) => {
                // Only the last command about a channel's presence says whether the client stands there.
                if let Some(channel) = self.pipes[pipe].entering.remove(id)
                    && !self.pipes[pipe].entering.values().any(|other| *other == channel)
                {
                    self.kept.entered(client, &channel, true);
                }
            }
            (ReplyBody::Error(error), id, Some(client)) => {
                if let Some(RequestId::Number(id)) = id {
                    self.pipes[pipe].entering.remove(id);
                }
                if let Some(channel) = &error.channel {
                    self.kept.left(client, channel);
                }
            }
            (ReplyBody::Many(bodies), _, Some(client)) => {
                for body in bodies {
                    if let ReplyBody::Error(error) = body
                        && let Some(channel) = &error.channel
                    {
                        self.kept.left(client, channel);
                    }
                }
            }
            _ => {}
        }
    }

    /// A shard hears of the end of a connection, or ends it.
    pub(super) fn signals_away(&mut self, pipe: usize, finally: bool) {
        let Some(client) = self.pipes[pipe].session else { return };
        if self.lives.pipe_of(client).is_some_and(|now_on| now_on != pipe) {
            return;
        }
        if finally { self.doubt_entries(Some(client)) } else { self.kept.away(client) }
    }

    /// Signals that waited for room have been told where there is room.
    pub(super) fn signals_told(&mut self) -> Verdict {
        for client in self.kept.clients() {
            let Some(index) = self.lives.pipe_of(client) else { continue };
            let pipe = &self.pipes[index];
            if !pipe.server_open || pipe.full.is_some() || pipe.session != Some(client) {
                continue;
            }
            let follows = |channel: &ChannelName| {
                let wants = pipe.watch.follows(channel).is_some_and(|(_, wants)| wants);
                wants && pipe.desk.decides_at_once(channel) && !self.send_judge.may_end(client, channel)
            };
            self.kept.has_room(client, follows)?;
        }
        Ok(())
    }
}
