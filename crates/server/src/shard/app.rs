//! The application's commands on a shard: given to the hub one by one or by the batch, and answered where they came
//! from.
//!
//! Each holds a part of its shard's room until it is answered ([`Handle`](crate::Handle) gives it out), so the commands
//! in the queue and in the hub together are bounded. After a slice of a batch the runtime looks for other work, and
//! writes.
//!
//! A shard that ends still answers questions and accepted commands. It refuses later changes (`drain`), because
//! connected clients might not hear of them.

use super::application::NOBODY;
use super::{Shared, Shell, TURN_WORK};
use crate::control::AppRequest;
use crate::logs;
use crate::protocol::socketio::{AskKey, MembersQuestion, OnAnswers};
use fanfare_hub::{
    Answers, AppAnswer, AppCommand, AppToken, AskToken, Error, ErrorCode, Input, MembersCommand, MembersOp, Now,
};
use tokio::sync::{OwnedSemaphorePermit, oneshot};

/// Commands of a batch before other tasks run.
const SLICE: usize = 32;

/// The callers that wait for answers of the hub. Dropping one gives back its capacity.
pub(super) enum PendingAnswers {
    One(oneshot::Sender<AppAnswer>, Option<OwnedSemaphorePermit>),
    All {
        answers: Vec<Option<AppAnswer>>,
        left: usize,
        reply: oneshot::Sender<Vec<AppAnswer>>,
        _room: OwnedSemaphorePermit,
    },
    /// A question to members is published, or refused: this is its place among those.
    Asked(usize, Option<OwnedSemaphorePermit>),
}

/// A question to members that is not answered: who takes the answers, and the name by which its time can be changed.
pub(super) struct PendingQuestion {
    on_answers: OnAnswers,
    key: Option<AskKey>,
}

/// Handles a request of the application.
pub(super) async fn take(shared: &Shared, asking: AppRequest) {
    match asking {
        AppRequest::One(command, reply, room) => {
            let mut shell = shared.borrow_mut();
            let now = shell.now();
            let slot = shell.asked.insert(PendingAnswers::One(reply, Some(room)));
            shell.ask(now, token(slot, 0), *command);
        }
        AppRequest::Members(question) => {
            let mut shell = shared.borrow_mut();
            let now = shell.now();
            shell.ask_members(now, *question);
        }
        AppRequest::All(commands, reply, room) => {
            let left = commands.len();
            if left == 0 {
                let _ = reply.send(Vec::new()); // the caller may have stopped waiting
                return;
            }
            let answers = (0..left).map(|_| None).collect();
            let slot = shared.borrow_mut().asked.insert(PendingAnswers::All { answers, left, reply, _room: room });
            let mut commands = commands.into_iter().enumerate();
            loop {
                shared.borrow_mut().ask_slice(slot, &mut commands);
                if commands.len() == 0 {
                    return;
                }
                tokio::task::yield_now().await;
            }
        }
    }
}

/// A place in a batch. The hub gives it back as it was.
fn token(slot: usize, place: usize) -> AppToken {
    AppToken((slot as u64) << 32 | place as u64)
}

impl Shell {
    fn ask_slice(&mut self, slot: usize, commands: &mut impl Iterator<Item = (usize, AppCommand)>) {
        let now = self.now();
        let begin = self.work;
        for (place, command) in commands.take(SLICE) {
            self.ask(now, token(slot, place), command);
            if self.work - begin >= TURN_WORK {
                break;
            }
        }
    }

    fn ask(&mut self, now: Now, token: AppToken, command: AppCommand) {
        if self.closing && command.changes() {
            let error = Error::new(
                ErrorCode::Unavailable,
                "the server is stopping and accepts no more commands; nothing was done",
            );
            return self.answered(token, AppAnswer::Error(error));
        }
        self.act(now, Input::App { token, command });
    }

    /// The hub answers a command.
    pub(super) fn answered(&mut self, token: AppToken, answer: AppAnswer) {
        if token == NOBODY {
            if let AppAnswer::Error(error) = answer {
                let (code, why) = (error.code.row().word, &*error.message);
                logs::limited!(Handler, ERROR, code, why, "an event of the application was not sent");
            }
            return;
        }
        let (slot, place) = ((token.0 >> 32) as usize, token.0 as u32 as usize);
        if let Some(PendingAnswers::All { answers, left, .. }) = self.asked.get_mut(slot) {
            if answers[place].replace(answer).is_none() {
                *left -= 1;
            }
            if *left == 0
                && let PendingAnswers::All { answers, reply, .. } = self.asked.remove(slot)
            {
                let missing = || AppAnswer::Error(Error::new(ErrorCode::Internal, "a command was not answered"));
                let _ = reply.send(answers.into_iter().map(|answer| answer.unwrap_or_else(missing)).collect());
            }
        } else {
            match self.asked.try_remove(slot) {
                Some(PendingAnswers::One(reply, _room)) => {
                    let _ = reply.send(answer); // the caller may have stopped waiting
                }
                Some(PendingAnswers::Asked(asking, _room)) => {
                    if let AppAnswer::Error(error) = answer {
                        self.give_answers(asking, Err(error));
                    }
                }
                _ => {}
            }
        }
    }

    /// Gives a command of a handler to the hub. Its sender bounds those that are on their way.
    pub(super) fn ask_for(&mut self, now: Now, reply: oneshot::Sender<AppAnswer>, command: AppCommand) {
        let slot = self.asked.insert(PendingAnswers::One(reply, None));
        self.ask(now, token(slot, 0), command);
    }

    /// Asks the members of a channel. `on_answers` gets the answers once, or the reason why nobody was asked.
    pub(super) fn ask_members(&mut self, now: Now, question: MembersQuestion) {
        let MembersQuestion { key, channel, audience, data, timeout_ms, on_answers, room } = question;
        let asking = self.asking.insert(PendingQuestion { on_answers, key });
        if let Some(key) = key {
            self.asking_by_key.insert(key, asking);
        }
        let slot = self.asked.insert(PendingAnswers::Asked(asking, room));
        let op = MembersOp::Ask { data, token: AskToken(asking as u64), timeout_ms };
        let command = MembersCommand { channel, audience, op };
        self.ask(now, token(slot, 0), AppCommand::Members(Box::new(command)));
    }

    /// The answers of members are here.
    pub(super) fn members_answered(&mut self, token: AskToken, answers: Answers) {
        self.give_answers(token.0 as usize, Ok(answers));
    }

    fn give_answers(&mut self, asking: usize, answers: Result<Answers, Error>) {
        if let Some(PendingQuestion { on_answers, key }) = self.asking.try_remove(asking) {
            if let Some(key) = key {
                self.asking_by_key.remove(&key);
            }
            on_answers(answers);
        }
    }

    /// An asker waits so long from now on, unless it has its answers.
    pub(super) fn ask_until(&mut self, now: Now, key: AskKey, timeout_ms: u64) {
        if let Some(&asking) = self.asking_by_key.get(&key) {
            self.act(now, Input::AskUntil { token: AskToken(asking as u64), timeout_ms });
        }
    }
}
