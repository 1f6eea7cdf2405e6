//! The application's commands: asked of the homes like a client's, with no session and no rule in between.

use super::ask::Ask;
use super::{Cx, Front};
use crate::app::{AppAnswer, AppCommand, AppToken};
use crate::effects::Effect;
use crate::error::{Error, ErrorCode};
use crate::peer::ToHome;
use crate::rules::Denial;
use crate::store::Entry;
use crate::vocabulary::ReplyBody;

impl Front {
    /// The application asks something.
    pub(crate) fn app(&mut self, cx: &mut Cx<'_>, token: AppToken, command: AppCommand) {
        match command {
            AppCommand::Publish { publish, audience, by: _ } => {
                let channel = publish.channel.clone();
                if cx.rules.of(&channel).is_none() {
                    return answer_app(cx, token, Err(Denial::NoRule.into_error(&channel)));
                }
                let token = self.asks.insert(Ask::App(token));
                let entry = Box::new(Entry { publish: *publish, from: None, audience, ts_ms: 0 });
                self.tell_home(cx, &channel, ToHome::Publish { token, entry });
            }
            _ => answer_app(cx, token, Err(Error::new(ErrorCode::UnknownCommand, "not there yet"))),
        }
    }
}

/// Tells the application what became of its command.
pub(super) fn answer_app(cx: &mut Cx<'_>, token: AppToken, result: Result<ReplyBody, Error>) {
    let answer = match result {
        Ok(ReplyBody::Published { position, duplicate }) => {
            AppAnswer::Published { position, duplicate, subscribers: 0 }
        }
        Ok(ReplyBody::History(history)) => AppAnswer::History(history),
        Ok(ReplyBody::Presence { snapshot, .. }) => AppAnswer::Presence(snapshot),
        Ok(_) => AppAnswer::Done,
        Err(error) => AppAnswer::Error(error),
    };
    cx.effects.add(Effect::Answer { token, answer });
}
