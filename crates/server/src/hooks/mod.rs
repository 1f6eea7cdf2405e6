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
use fanfare_hub::{HookAnswer, Limits, Pattern};
use line::{Connections, Line, Sender};
use question::Forward;
use std::sync::Arc;
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
        let HooksConfig { forward_headers: headers, forward_cookies: cookies, .. } = config.clone();
        let asking = Arc::new(Asking { forward: Forward { headers, cookies }, limits: limits.clone() });
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
            by_pattern(&mut handlers.subscribe, &config.subscribe_channels, &handler(line))?;
        }
        if let Some(line) = line("publish", |config| config.publish.as_ref()) {
            by_pattern(&mut handlers.publish, &config.publish_channels, &handler(line))?;
        }
        if let Some(line) = line("rpc", |config| config.rpc.as_ref()) {
            handlers.other_rpc = Some(handler(line));
        }
        let notifier = config.notices.url.clone().map(|url| {
            let connections = Connections::new(url, sender.clone());
            Arc::new(Notifier::new(config.notices.clone(), connections, sender.clone()))
        });
        counts.notices = notifier.as_ref().map(|notifier| notifier.counts.clone());
        Ok(Some(Arc::new(HttpHooks { counts, notifier, sender, lines })))
    }

    /// Later requests go to these addresses, within these times, and are signed with these secrets. What is asked and
    /// notified stays as it is, and so does a hook that has no address any more.
    pub(crate) fn reload(&self, config: &HooksConfig) {
        self.sender.sign_with(&config.secrets);
        for (address, line) in &self.lines {
            if let Some(url) = address(config) {
                line.reload(url, config);
            }
        }
        if let (Some(notifier), Some(url)) = (&self.notifier, &config.notices.url) {
            notifier.reload(url, &config.notices);
        }
    }
}

/// The hook is called for channels of these patterns, and for every other one whose rule says `hook`.
fn by_pattern(handlers: &mut Vec<ChannelHandler>, patterns: &[Pattern], handler: &Erased) -> Result<(), ServeError> {
    let of = |pattern, is_by_rule| ChannelHandler { pattern, handler: handler.clone(), is_by_rule };
    handlers.extend(patterns.iter().map(|pattern| of(pattern.clone(), false)));
    let all = "**";
    let every = Pattern::new(all).map_err(|source| ServeError::Pattern { pattern: all.to_owned(), source })?;
    handlers.push(of(every, true));
    Ok(())
}

/// What answers need besides the call.
struct Asking {
    forward: Forward,
    limits: Limits,
}

impl Asking {
    async fn answer(self: Arc<Self>, line: Arc<Line>, call: Arc<Call>) -> HookAnswer {
        let begin = Instant::now();
        let Some(body) = question::body(&call, &self.forward) else {
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
