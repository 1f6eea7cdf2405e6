//! The actions of the application in the world, and their effects.

use super::{Event, Verdict, World};
use crate::chances::pick;
use fanfare_hub::{AppAnswer, AppCommand, AppToken, ChannelName, ClientId, Disconnect, Input, Question, Whom};

impl World {
    pub(super) fn app_tick(&mut self) -> Verdict {
        if self.calm {
            return Ok(());
        }
        let next = 1 + self.app_rng.below(2 * self.plan.pace_ms);
        self.after(next, Event::App);
        let pad = self.plan.payload_max;
        match self.app.draw(&mut self.app_rng, &self.plan.channels, &mut self.app_numbers, pad) {
            Some(command) => self.app_asks(command),
            None => Ok(()),
        }
    }

    /// The application says much to one client.
    pub(super) fn whisper(&mut self) -> Verdict {
        if self.calm {
            return Ok(());
        }
        let next = 10 + self.whisper_rng.below(300);
        self.after(next, Event::Whisper);
        let (rng, numbers) = (&mut self.whisper_rng, &mut self.whisper_numbers);
        let Some(commands) = self.app.whisper(rng, &self.plan.channels, numbers) else { return Ok(()) };
        self.counts.whispers += 1;
        commands.into_iter().try_for_each(|command| self.app_asks(command))
    }

    fn app_asks(&mut self, command: AppCommand) -> Verdict {
        let shards = (0..self.shards.len()).map(|shard| (shard as u64, shard));
        let shard = pick(&mut self.app_rng, shards).unwrap_or(0);
        if self.stands_still(shard).is_some() {
            return Ok(()); // it acts another time
        }
        self.counts.app_commands += 1;
        let pipes = &self.pipes;
        let token = self.app.ask(self.now_ms, command.clone(), |pipe| pipes[pipe].server_open);
        self.trace.note(self.now_ms, || format!("the application asks shard {shard}, {token}: {command:?}"));
        match &command {
            AppCommand::Disconnect { .. } => self.doubt_lives(token),
            AppCommand::Publish { publish, .. } => self.checker.app_publishes(publish.data.bytes()),
            AppCommand::Subscribe { options, .. } => {
                self.application.grants(self.app.sessions_of(token), &options.channel);
                self.checker.app_lets_in(&options.channel);
            }
            // Presence ends with it, even if the client does not receive that.
            AppCommand::Unsubscribe { channel, .. } => {
                self.checker.shut_for(channel, &self.app.sessions_of(token), false);
            }
            _ => {}
        }
        self.handle(shard, Input::App { token: AppToken(token), command })
    }

    /// A handler ends its own caller now and then, before it answers.
    pub(super) fn may_end_caller(&mut self, question: &Question) {
        let (caller, channel) = match question {
            Question::Connect { .. } => return,
            Question::Refresh { caller, .. } | Question::Rpc { caller, .. } => (caller, None),
            Question::Subscribe { caller, options } => (caller, Some(options.channel.clone())),
            Question::Publish { caller, publish } => (caller, Some(publish.channel.clone())),
        };
        let (ends, which) = (self.handler_rng.below(25) == 0, self.handler_rng.below(2));
        if let Some(client) = caller.client.filter(|_| ends && self.plan.app && !self.calm) {
            self.after(0, Event::EndCaller { client, channel: channel.filter(|_| which == 0) });
        }
    }

    pub(super) fn end_caller(&mut self, client: ClientId, channel: Option<ChannelName>) -> Verdict {
        if self.calm || !self.app.is_free() {
            return Ok(());
        }
        self.counts.callers_ended += 1;
        let whom = Whom::Client(client);
        self.app_asks(match channel {
            Some(channel) => AppCommand::Unsubscribe { whom, channel },
            None => AppCommand::Disconnect { whom, reason: Disconnect::Kicked, ban_ms: None },
        })
    }

    /// Answers that arose while effects were executed.
    pub(super) fn app_answers(&mut self) -> Verdict {
        for (AppToken(token), answer) in std::mem::take(&mut self.app_answers) {
            self.trace.note(self.now_ms, || format!("the application is answered {token}: {answer:?}"));
            self.doubt_if_sent_away(token);
            let pipes = &self.pipes;
            let mut concerned = self.app.sessions_of(token);
            concerned.extend(self.app.newcomers_of(token));
            let command =
                self.app.answered((self.now_ms, token), &answer, |pipe| pipes[pipe].server_open, &mut self.counts)?;
            match (&command, &answer) {
                // It took effect at some time between the question and the answer.
                (AppCommand::Unsubscribe { channel, .. }, _) => self.checker.shut_for(channel, &concerned, true),
                (AppCommand::Publish { publish, .. }, answer) => {
                    self.checker.app_published(publish, answer, &self.stores.borrow())?;
                }
                (AppCommand::History { channel, .. }, AppAnswer::History(history)) => {
                    self.checker.history(None, channel, false, history, &self.stores.borrow())?;
                }
                _ => {}
            }
        }
        self.app.verdict()
    }

    /// On the channel to which only the application publishes.
    pub(super) fn last_app_publish(&mut self) -> Verdict {
        match self.app.last_publish(&mut self.app_rng, &mut self.app_numbers) {
            Some(command) => self.app_asks(command),
            None => Ok(()),
        }
    }

    /// For the last judgement.
    pub(super) fn last_app_questions(&mut self) -> Verdict {
        self.app_asks(AppCommand::Channels { pattern: None, after: None, limit: 1_000 })?;
        self.app_asks(AppCommand::Info)
    }
}
