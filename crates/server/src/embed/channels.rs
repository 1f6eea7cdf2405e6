//! Rules in code: one builder for each pattern, with the options of a `[[channels]]` table.

use crate::validation::{EventSchemas, Schema, Texts, Validation};
use fanfare_hub::{Past, Pattern, PatternError, PresenceMode, RateLimit, Retain, Rule, SenderShown, Slow, Who};
use std::time::Duration;

/// Builds a rule. It begins closed: no client may subscribe until [`subscribe`](Self::subscribe) allows some.
#[derive(Debug, Clone)]
pub struct ChannelRule(Rule, Validation);

impl ChannelRule {
    pub(crate) fn new(pattern: &str) -> Result<Self, PatternError> {
        let nobody = || vec![Who::Nobody];
        let rule = Rule {
            subscribe: nobody(),
            publish: nobody(),
            signal: nobody(),
            enter: nobody(),
            presence: PresenceMode::Off,
            ..Rule::open(Pattern::new(pattern)?)
        };
        Ok(ChannelRule(rule, Validation::default()))
    }

    pub(crate) fn into_rule(self) -> Rule {
        Rule { check: self.1.into_check(), ..self.0 }
    }

    /// Every client may do everything and see who is present: for trials.
    #[must_use]
    pub fn open(self) -> Self {
        let rule = Rule { rate: self.0.rate, slow: self.0.slow, history: self.0.history, ..Rule::open(self.0.pattern) };
        ChannelRule(rule, self.1)
    }

    /// Who may subscribe, and by default read history and presence. Any of a list suffices.
    #[must_use]
    pub fn subscribe(mut self, who: impl IntoWho) -> Self {
        self.0.subscribe = who.into_who();
        self
    }

    /// Who may publish. The application always may.
    #[must_use]
    pub fn publish(mut self, who: impl IntoWho) -> Self {
        self.0.publish = who.into_who();
        self
    }

    /// Who may signal.
    #[must_use]
    pub fn signal(mut self, who: impl IntoWho) -> Self {
        self.0.signal = who.into_who();
        self
    }

    /// Who may enter the presence; needs [`presence`](Self::presence).
    #[must_use]
    pub fn enter(mut self, who: impl IntoWho) -> Self {
        self.0.enter = who.into_who();
        self
    }

    /// Who may read the history: by `history`, and by `recent` and `since` of a subscription. Default: subscribers.
    #[must_use]
    pub fn history_read(mut self, who: impl IntoWho) -> Self {
        self.0.history_read = who.into_who();
        self
    }

    /// How far back those read who may read the history. Default: all that it holds.
    #[must_use]
    pub fn read(mut self, past: Past) -> Self {
        self.0.read = past;
        self
    }

    /// Who may see who is present. Default: subscribers.
    #[must_use]
    pub fn presence_read(mut self, who: impl IntoWho) -> Self {
        self.0.presence_read = who.into_who();
        self
    }

    /// What publications of clients say about their senders. Default: their client and their user.
    #[must_use]
    pub fn from(mut self, shown: SenderShown) -> Self {
        self.0.from = shown;
        self
    }

    /// The longest `data` of a client's publication or signal. Default: `Limits::message_bytes_max`.
    #[must_use]
    pub fn max_size(mut self, bytes: usize) -> Self {
        self.0.max_size = Some(bytes);
        self
    }

    /// The most subscriptions that clients make to one channel. Default: without limit.
    #[must_use]
    pub fn max_subscribers(mut self, count: u32) -> Self {
        self.0.max_subscribers = Some(count);
        self
    }

    /// Keeps at most `size` publications, each for `ttl`. Default: 100, for 60 s. Zero keeps none.
    #[must_use]
    pub fn history(mut self, count: u32, ttl: Duration) -> Self {
        self.0.history.count = count;
        self.0.history.ttl_ms = u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX);
        self
    }

    /// Keeps at most so many bytes of publications. Default 1 MiB.
    #[must_use]
    pub fn history_bytes(mut self, bytes: usize) -> Self {
        self.0.history = Retain { bytes, ..self.0.history };
        self
    }

    /// Sets the presence: `true`, `false`, or [`PresenceMode::Count`] for the number only. By default subscribers may
    /// enter.
    #[must_use]
    pub fn presence(mut self, presence: impl IntoPresence) -> Self {
        self.0.presence = presence.into_presence();
        if self.0.presence != PresenceMode::Off && self.0.enter == [Who::Nobody] {
            self.0.enter = vec![Who::Subscriber];
        }
        self
    }

    /// The treatment of subscribers that read too slowly. Default: they pull.
    #[must_use]
    pub fn slow(mut self, slow: Slow) -> Self {
        self.0.slow = slow;
        self
    }

    /// At most so many publications and signals of one session in this time.
    #[must_use]
    pub fn rate(mut self, count: u32, per: Duration) -> Self {
        let window_ms = u64::try_from(per.as_millis()).unwrap_or(u64::MAX).max(1);
        self.0.rate = Some(RateLimit { count_max: count, window_ms });
        self
    }

    /// The schema of publications' data, the application's too. Default: any data.
    #[must_use]
    pub fn schema(mut self, schema: impl Into<EventSchemas>) -> Self {
        self.1.schema = Some(schema.into());
        self
    }

    /// The schema of signals' data. Default: any data.
    #[must_use]
    pub fn signal_schema(mut self, schema: impl Into<EventSchemas>) -> Self {
        self.1.signal_schema = Some(schema.into());
        self
    }

    /// The schema of what clients show of themselves in the presence. Default: any data.
    #[must_use]
    pub fn presence_schema(mut self, schema: Schema) -> Self {
        self.1.presence_schema = Some(schema);
        self
    }

    /// The texts in the data of publications, signals and presence. Default: none are looked at.
    #[must_use]
    pub fn texts(mut self, texts: Texts) -> Self {
        self.1.texts = texts;
        self
    }
}

/// One [`Who`], or several of which any suffices.
pub trait IntoWho {
    /// The list.
    fn into_who(self) -> Vec<Who>;
}

impl IntoWho for Who {
    fn into_who(self) -> Vec<Who> {
        vec![self]
    }
}

impl<const N: usize> IntoWho for [Who; N] {
    fn into_who(self) -> Vec<Who> {
        self.to_vec()
    }
}

impl IntoWho for Vec<Who> {
    fn into_who(self) -> Vec<Who> {
        self
    }
}

/// `true`, `false` or a [`PresenceMode`].
pub trait IntoPresence {
    /// The mode.
    fn into_presence(self) -> PresenceMode;
}

impl IntoPresence for bool {
    fn into_presence(self) -> PresenceMode {
        if self { PresenceMode::Full } else { PresenceMode::Off }
    }
}

impl IntoPresence for PresenceMode {
    fn into_presence(self) -> PresenceMode {
        self
    }
}

/// So many seconds.
pub const fn secs(count: u64) -> Duration {
    Duration::from_secs(count)
}

/// So many minutes.
pub const fn mins(count: u64) -> Duration {
    Duration::from_secs(count.saturating_mul(60))
}

/// So many hours.
pub const fn hours(count: u64) -> Duration {
    Duration::from_secs(count.saturating_mul(3_600))
}
