//! Hooks over HTTP: an application in any language decides, as handlers in Rust do.
//!
//! In: the calls that handlers get, and the hub's notices (`notices`). Out: their answers, each by one signed POST
//! to an address of the configuration ([`HooksConfig`]). What is not a valid answer is a refusal (`hook_unavailable`),
//! never a permission. `line` has the bounds of one hook, `breaker` stops requests to one that fails, `question`
//! writes what is asked, `answer` reads what comes back, `sign` signs. The hub's own bounds on questions hold
//! besides: `limits.questions_max`, `limits.session_questions_max`.
//!
//! docs/hooks.md has the bodies, and what a receiver must do.

mod answer;
mod breaker;
mod line;
mod notices;
mod question;
mod sign;

pub use crate::config::hooks::{BreakerConfig, HookSecret, HookSecretError, HooksConfig, NoticesConfig};
pub use crate::config::url::{HttpUrl, UrlError};

pub(crate) use answer::fuzz;
pub(crate) use notices::Notifier;

use crate::embed::{Call, ChannelHandler, Erased, Handlers};
use crate::error::ServeError;
use crate::logs;
use crate::random::random;
use crate::watch::hooks::{HttpHookCounts, Outcome};
use bytes::Bytes;
use fanfare_hub::{ChannelNotices, HookAnswer, Hooks, Limits, Pattern};
use line::{Connections, Line, Sender};
use question::Forward;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Instant;

/// The hooks of a server. The same on every shard.
#[derive(Debug)]
pub(crate) struct HttpHooks {
    /// For monitoring.
    pub(crate) counts: HttpHookCounts,
    /// Who is notified.
    pub(crate) notifier: Option<Arc<Notifier>>,
    sender: Arc<Sender>,
    /// Each kind of question that is asked, with the place of its address.
    lines: Vec<(AddressOf, Arc<Line>)>,
    asking: Arc<Asking>,
}

/// The address of a kind of question.
type AddressOf = fn(&HooksConfig) -> Option<&HttpUrl>;

impl HttpHooks {
    /// Adds the hooks of the configuration to the handlers of the program, which are asked first. `None` where there is
    /// none.
    ///
    /// # Errors
    /// Both would identify clients.
    pub(crate) fn add_to(
        handlers: &mut Handlers,
        config: &HooksConfig,
        limits: &Limits,
    ) -> Result<Option<Arc<Self>>, ServeError> {
        if !config.is_on() {
            return Ok(None);
        }
        let sender = Arc::new(Sender::new(config.secrets.clone(), random()?));
        let asking = Arc::new(Asking { forward: RwLock::new(Forward::of(config)), limits: limits.clone() });
        let mut counts = HttpHookCounts::default();
        let mut lines: Vec<(AddressOf, Arc<Line>)> = Vec::new();
        let mut line = |kind, address: AddressOf| {
            let line = Arc::new(Line::new(kind, address(config)?.clone(), config, sender.clone()));
            counts.questions.push(line.counts.clone());
            lines.push((address, line.clone()));
            Some(line)
        };
        if let Some(connect) = line("connect", |config| config.connect.as_ref()) {
            if handlers.connect.is_some() {
                return Err(ServeError::TwoIdentities { first: "`on_connect`", second: "the hook `connect`" });
            }
            let refresh = line("refresh", |config| config.refresh.as_ref().or(config.connect.as_ref()));
            let refresh = refresh.unwrap_or_else(|| connect.clone());
            let asking = asking.clone();
            handlers.connect = Some(Erased::new(true, move |call| {
                let line = if call.caller.client.is_some() { &refresh } else { &connect };
                Box::pin(asking.clone().answer(line.clone(), call))
            }));
        }
        let handler = |line: Arc<Line>| {
            let asking = asking.clone();
            Erased::new(false, move |call| Box::pin(asking.clone().answer(line.clone(), call)))
        };
        if let Some(line) = line("subscribe", |config| config.subscribe.as_ref()) {
            handlers.subscribe.push(for_the_rest(handler(line))?);
        }
        if let Some(line) = line("publish", |config| config.publish.as_ref()) {
            handlers.publish.push(for_the_rest(handler(line))?);
        }
        if let Some(line) = line("rpc", |config| config.rpc.as_ref()) {
            handlers.other_rpc = Some(handler(line));
        }
        let notifier = config.notices.url.clone().map(|url| {
            let connections = Connections::new(url, sender.clone());
            Arc::new(Notifier::new(config.notices.clone(), connections, sender.clone()))
        });
        counts.notices = notifier.as_ref().map(|notifier| notifier.counts.clone());
        Ok(Some(Arc::new(HttpHooks { counts, notifier, sender, lines, asking })))
    }

    /// Adds what the hub must ask and notify of for them, by this configuration.
    pub(crate) fn add_to_hub(&self, hooks: &mut Hooks, config: &HooksConfig) {
        let asks = |kind| self.lines.iter().any(|(_, line)| line.counts.hook == kind);
        if asks("subscribe") {
            hooks.subscribe.extend_from_slice(&config.subscribe_channels);
        }
        if asks("publish") {
            hooks.publish.extend_from_slice(&config.publish_channels);
        }
        if let Some(notifier) = &self.notifier {
            hooks.disconnect |= notifier.of_sessions();
            let ChannelNotices { occupancy, join, leave, published } = notifier.of_channels();
            hooks.channels.occupancy.extend(occupancy);
            hooks.channels.join.extend(join);
            hooks.channels.leave.extend(leave);
            hooks.channels.published.extend(published);
        }
    }

    /// Later requests are those of this configuration. Which kinds of questions are asked stays as it is, and so does a
    /// hook that has no address any more. What the hub asks is a matter of [`add_to_hub`](Self::add_to_hub).
    pub(crate) fn reload(&self, config: &HooksConfig) {
        self.sender.sign_with(&config.secrets);
        *self.asking.forward.write().unwrap_or_else(PoisonError::into_inner) = Forward::of(config);
        for (address, line) in &self.lines {
            if let Some(url) = address(config) {
                line.reload(url, config);
            }
        }
        if let Some(notifier) = &self.notifier {
            notifier.reload(&config.notices);
        }
    }
}

/// The handler of every channel that no earlier one is for. Whether it is called, the hub decides.
fn for_the_rest(handler: Erased) -> Result<ChannelHandler, ServeError> {
    let all = "**";
    let pattern = Pattern::new(all).map_err(|source| ServeError::Pattern { pattern: all.to_owned(), source })?;
    Ok(ChannelHandler { pattern, handler, is_by_rule: true })
}

/// What answers need besides the call.
#[derive(Debug)]
struct Asking {
    forward: RwLock<Forward>,
    limits: Limits,
}

impl Asking {
    async fn answer(self: Arc<Self>, line: Arc<Line>, call: Arc<Call>) -> HookAnswer {
        let begin = Instant::now();
        let body = question::body(&call, &self.forward.read().unwrap_or_else(PoisonError::into_inner));
        let Some(body) = body else {
            return answer::unavailable(None, "the question cannot be written");
        };
        let result = line.ask(Bytes::from(body)).await;
        let failed = |why: &dyn std::fmt::Display| {
            let (hook, url, why) = (line.counts.hook, line.shown(), why.to_string());
            let (channel, client) = (call.subject.channel().map(|it| it.as_str()), call.caller.client);
            let client = client.map(tracing::field::display);
            logs::limited!(Hook, WARN, hook, url, channel, client, why, "a hook gave no valid answer");
        };
        const WORDS: &str = "the application does not answer; the server's log has the reason";
        let (outcome, answer) = match result {
            Ok(body) => match answer::read(&body, &call.subject, call.clock.now().wall_ms, &self.limits) {
                Ok(answer) => (outcome_of(&answer), answer),
                Err(error) => {
                    failed(&error);
                    (Outcome::Invalid, answer::unavailable(None, WORDS))
                }
            },
            Err(failure) => {
                let retry_after = failure.retry_after().map(|time| u64::try_from(time.as_millis()).unwrap_or(u64::MAX));
                // The log has said once that a breaker is open.
                if !matches!(failure, line::Failure::Open { .. }) {
                    failed(&failure);
                }
                (failure.outcome(), answer::unavailable(retry_after, WORDS))
            }
        };
        line.counts.done(outcome, begin.elapsed());
        answer
    }
}

fn outcome_of(answer: &HookAnswer) -> Outcome {
    match answer {
        HookAnswer::Refused(_) => Outcome::Refused,
        _ => Outcome::Answered,
    }
}
