//! The policy: one table of rules, of which the first that matches a channel's name governs it.
//!
//! In: a channel name, an action and a caller. Out: the rule, or a [`Denial`] that names the rule and the option that
//! decided. A rule is chosen by the NAME alone: a capture such as `{user}` matches any segment and is compared with the
//! caller afterwards, so that a difference is a denial and never falls through to a looser rule below.

use crate::error::{Error, ErrorCode};
use crate::ids::UserId;
use crate::name::{ChannelName, is_forbidden};
use std::fmt;

/// A pattern over the segments of a name: `*` is one segment, `**` (last only) one or more, `{user}` the caller's
/// user id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern {
    text: Box<str>,
    parts: Vec<Part>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Part {
    Literal(Box<str>),
    One,
    Rest,
    User,
}

/// Why a text is not a pattern.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PatternError {
    /// `**` matches the rest, so nothing can follow it.
    #[error("`**` must be the last segment of {pattern:?}")]
    RestNotLast {
        /// The whole pattern.
        pattern: Box<str>,
    },
    /// A capture other than `{user}`.
    #[error("the only capture is {{user}}, found {found:?}")]
    UnknownCapture {
        /// The segment.
        found: Box<str>,
    },
    /// A segment that no channel name could have.
    #[error("segment {found:?} cannot occur in a channel name; `*` stands for a whole segment")]
    Segment {
        /// The segment.
        found: Box<str>,
    },
}

impl Pattern {
    /// Reads a pattern.
    ///
    /// # Errors
    /// [`PatternError`] names the segment that is at fault.
    pub fn new(text: &str) -> Result<Self, PatternError> {
        let mut parts = Vec::new();
        for segment in text.split(':') {
            if parts.last() == Some(&Part::Rest) {
                return Err(PatternError::RestNotLast { pattern: text.into() });
            }
            parts.push(match segment {
                "*" => Part::One,
                "**" => Part::Rest,
                "{user}" => Part::User,
                s if s.starts_with('{') && s.ends_with('}') => {
                    return Err(PatternError::UnknownCapture { found: s.into() });
                }
                s if s.is_empty() || s.chars().any(is_forbidden) => {
                    return Err(PatternError::Segment { found: s.into() });
                }
                s => Part::Literal(s.into()),
            });
        }
        Ok(Pattern { text: text.into(), parts })
    }

    /// True when the name has this shape. Captures match any segment. A wildcard at the beginning matches none of the
    /// server's own channels (`$…`): a rule for every channel is a rule for those that clients can name.
    pub fn matches(&self, name: &str) -> bool {
        if name.starts_with('$') && !matches!(self.parts.first(), Some(Part::Literal(_))) {
            return false;
        }
        let mut segments = name.split(':');
        for part in &self.parts {
            let Some(segment) = segments.next() else { return false };
            match part {
                Part::Rest => return true,
                Part::Literal(text) if **text != *segment => return false,
                Part::Literal(_) | Part::One | Part::User => {}
            }
        }
        segments.next().is_none()
    }

    /// The prefix of every matching name.
    pub(crate) fn prefix(&self) -> String {
        let mut prefix = String::new();
        for (place, part) in self.parts.iter().enumerate() {
            let Part::Literal(text) = part else { break };
            prefix.push_str(text);
            if place + 1 < self.parts.len() {
                prefix.push(':');
            }
        }
        prefix
    }

    /// True when each segment of a matching `name` that a `{user}` stands for is this user.
    fn captures_are(&self, name: &str, user: Option<&UserId>) -> bool {
        let mut captured = self.parts.iter().zip(name.split(':')).filter(|(part, _)| **part == Part::User);
        captured.all(|(_, segment)| user.is_some_and(|user| *user.0 == *segment))
    }

    pub(crate) fn parts(&self) -> &[Part] {
        &self.parts
    }

    /// The pattern as it was written.
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Who may do something. A rule holds a list of these and any of them suffices. More words will come (a claim of the
/// token).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Who {
    /// Every client, with or without a user.
    Anyone,
    /// Every caller with a user.
    Authenticated,
    /// Clients that this rule allows to subscribe.
    Subscriber,
    /// Callers whose identity has a [`Grant`] for it.
    Grant,
    /// Callers that the application's handler lets in. The rule alone lets nobody in by it: see [`Verdict`].
    Hook,
    /// Only the application, through its API.
    Server,
    /// No client at all.
    Nobody,
}

impl Who {
    /// The word in the configuration.
    pub fn word(self) -> &'static str {
        match self {
            Who::Anyone => "anyone",
            Who::Authenticated => "authenticated",
            Who::Subscriber => "subscriber",
            Who::Grant => "grant",
            Who::Hook => "hook",
            Who::Server => "server",
            Who::Nobody => "nobody",
        }
    }
}

/// A permission that an identity carries: what its caller may do on some channels, where their rules say `grant`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    /// Which channels. A `{user}` stands for the caller's user.
    pub pattern: Pattern,
    /// What it may do there.
    pub allow: Vec<Action>,
}

impl Grant {
    fn is_for(&self, name: &str, action: Action, user: Option<&UserId>) -> bool {
        self.allow.contains(&action) && self.pattern.matches(name) && self.pattern.captures_are(name, user)
    }
}

/// What the rules know of a caller.
#[derive(Debug, Clone, Copy, Default)]
pub struct Entitlement<'c> {
    /// Its user.
    pub user: Option<&'c UserId>,
    /// Its permissions.
    pub grants: &'c [Grant],
}

impl Entitlement<'_> {
    pub(crate) fn grant(&self, name: &str, action: Action) -> bool {
        self.grants.iter().any(|grant| grant.is_for(name, action, self.user))
    }
}

impl<'c> From<Option<&'c UserId>> for Entitlement<'c> {
    /// A caller without permissions of its own.
    fn from(user: Option<&'c UserId>) -> Self {
        Entitlement { user, grants: &[] }
    }
}

/// How much of the presence is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PresenceMode {
    /// Nothing; entering is refused.
    Off,
    /// The number of members.
    Count,
    /// Every member and every change.
    Full,
}

/// The reaction to a subscriber that reads too slowly. The order is by cost for the server, the highest first: a
/// subscriber may choose the value of its rule or a later one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Slow {
    /// It is behind, and pulls the missed publications as it drains.
    Pull,
    /// It is behind, and as it drains it gets a gap and the newest publication.
    Latest,
    /// It is closed, and comes back.
    Disconnect,
}

impl Slow {
    /// All of them, in order.
    pub const ALL: [Slow; 3] = [Slow::Pull, Slow::Latest, Slow::Disconnect];

    /// The word in the configuration and on the wire.
    pub fn word(self) -> &'static str {
        match self {
            Slow::Pull => "pull",
            Slow::Latest => "latest",
            Slow::Disconnect => "disconnect",
        }
    }
}

/// How much of a channel is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retain {
    /// At most this many publications; 0 keeps none.
    pub count: u32,
    /// At most this many bytes of them.
    pub bytes: usize,
    /// At most for this long, in ms.
    pub ttl_ms: u64,
}

impl Default for Retain {
    /// 100 publications, 1 MB, 60 s: a short cut loses nothing on any transport.
    fn default() -> Self {
        Retain { count: 100, bytes: 1 << 20, ttl_ms: 60_000 }
    }
}

/// A row of the table.
#[derive(Debug, Clone)]
pub struct Rule {
    /// Which channels it governs.
    pub pattern: Pattern,
    /// Who may subscribe and read history and presence.
    pub subscribe: Vec<Who>,
    /// Who may publish.
    pub publish: Vec<Who>,
    /// Who may signal.
    pub signal: Vec<Who>,
    /// Who may enter the presence.
    pub enter: Vec<Who>,
    /// The retention of its channels.
    pub history: Retain,
    /// Whether presence is sent.
    pub presence: PresenceMode,
    /// The reaction to slow subscribers.
    pub slow: Slow,
    /// Publications and signals of one session. `None` is without limit.
    pub rate: Option<RateLimit>,
}

/// So many publications and signals in each window of time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RateLimit {
    /// Publications and signals together.
    pub count_max: u32,
    /// Milliseconds; a window begins with the first one after the last window.
    pub window_ms: u64,
}

impl Rule {
    /// A rule that allows every client everything, as `fanfare dev` has it.
    pub fn open(pattern: Pattern) -> Self {
        Rule {
            pattern,
            subscribe: vec![Who::Anyone],
            publish: vec![Who::Subscriber],
            signal: vec![Who::Subscriber],
            enter: vec![Who::Subscriber],
            history: Retain::default(),
            presence: PresenceMode::Full,
            slow: Slow::Pull,
            rate: None,
        }
    }

    fn who(&self, action: Action) -> &[Who] {
        match action {
            Action::Subscribe => &self.subscribe,
            Action::Publish => &self.publish,
            Action::Signal => &self.signal,
            Action::Enter => &self.enter,
        }
    }
}

/// An action of a caller on a channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Subscribe, or read history and presence.
    Subscribe,
    /// Publish.
    Publish,
    /// Signal.
    Signal,
    /// Enter the presence.
    Enter,
}

impl Action {
    /// All of them.
    pub const ALL: [Action; 4] = [Action::Subscribe, Action::Publish, Action::Signal, Action::Enter];

    /// The option of a rule that decides it.
    pub fn option(self) -> &'static str {
        match self {
            Action::Subscribe => "subscribe",
            Action::Publish => "publish",
            Action::Signal => "signal",
            Action::Enter => "enter",
        }
    }
}

/// Why a caller may not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Denial {
    /// No rule matches the name.
    NoRule,
    /// The option of this rule does not list the caller.
    Option {
        /// The rule's pattern.
        rule: Box<str>,
        /// The wanted action.
        action: Action,
        /// The words of the option.
        allows: String,
        /// Whether the caller has a user.
        authenticated: bool,
    },
    /// The option lists the caller, but the `{user}` of the name is somebody else.
    Capture {
        /// The rule's pattern.
        rule: Box<str>,
        /// The wanted action.
        action: Action,
        /// Whether the caller has a user.
        authenticated: bool,
    },
    /// Only the application could let the caller in, and it was not asked or has no handler for it.
    NoHook {
        /// The rule's pattern.
        rule: Box<str>,
        /// The wanted action.
        action: Action,
    },
}

impl Denial {
    /// The error that the caller gets.
    pub fn into_error(self, channel: &ChannelName) -> Error {
        match self {
            Denial::NoRule => Error::new(ErrorCode::NoRule, format!("no rule matches the channel {channel:?}")),
            Denial::Option { rule, action, allows, authenticated } => {
                let caller = if authenticated { "an authenticated" } else { "an anonymous" };
                let option = action.option();
                let message = format!("the rule {rule:?} says {option} = {allows}; {caller} caller is not among them");
                Error::new(ErrorCode::Denied, message).by_rule(&rule).by_option(option)
            }
            Denial::NoHook { rule, action } => {
                let option = action.option();
                let message =
                    format!("the rule {rule:?} leaves {option} to a handler of the application, and none answers");
                Error::new(ErrorCode::Denied, message).by_rule(&rule).by_option(option)
            }
            Denial::Capture { rule, action, authenticated } => {
                let caller = if authenticated { "another" } else { "anonymous" };
                let message =
                    format!("the rule {rule:?} is for the user in the channel's name, and the caller is {caller}");
                Error::new(ErrorCode::Denied, message).by_rule(&rule).by_option(action.option())
            }
        }
        .on(channel)
    }
}

/// The rules' verdict. The application may have to be asked. A [`Denial`] is final: no handler is asked.
#[derive(Debug, Clone, Copy)]
pub enum Verdict<'r> {
    /// The rule allows the caller.
    Allowed(&'r Rule),
    /// The option lists `hook`, and no other word of it allows the caller: ask the application.
    AskHook(&'r Rule),
    /// The option lists `subscriber` and the rule leaves `subscribe` to the application: allowed for a
    /// caller with a subscription to this channel.
    IfSubscribed(&'r Rule),
}

impl<'r> Verdict<'r> {
    /// The rule that governs the channel.
    pub fn rule(self) -> &'r Rule {
        match self {
            Verdict::Allowed(rule) | Verdict::AskHook(rule) | Verdict::IfSubscribed(rule) => rule,
        }
    }
}

/// The table of rules, in order.
#[derive(Debug, Clone, Default)]
pub struct Rules(Vec<Rule>);

impl Rules {
    /// The rules in the order in which they are tried.
    pub fn new(rules: Vec<Rule>) -> Self {
        Rules(rules)
    }

    /// The rules in the order in which they are tried.
    pub fn iter(&self) -> std::slice::Iter<'_, Rule> {
        self.0.iter()
    }

    /// The rule that governs the channel of this name.
    pub fn of(&self, name: &str) -> Option<&Rule> {
        self.0.iter().find(|rule| rule.pattern.matches(name))
    }

    /// Whether a caller may do this by the rules alone, without asking the application.
    ///
    /// # Errors
    /// [`Denial`] names the rule and the option. Where the application would decide it is [`Denial::NoHook`].
    pub fn judge<'c>(&self, name: &str, action: Action, caller: impl Into<Entitlement<'c>>) -> Result<&Rule, Denial> {
        match self.verdict(name, action, caller)? {
            Verdict::Allowed(rule) => Ok(rule),
            Verdict::AskHook(rule) => Err(Denial::NoHook { rule: rule.pattern.as_str().into(), action }),
            Verdict::IfSubscribed(rule) => {
                Err(Denial::NoHook { rule: rule.pattern.as_str().into(), action: Action::Subscribe })
            }
        }
    }

    /// Whether a caller may do this, or the application has to be asked.
    ///
    /// # Errors
    /// [`Denial`] names the rule and the option.
    pub fn verdict<'c>(
        &self,
        name: &str,
        action: Action,
        caller: impl Into<Entitlement<'c>>,
    ) -> Result<Verdict<'_>, Denial> {
        let caller = caller.into();
        let rule = self.of(name).ok_or(Denial::NoRule)?;
        let words = rule.who(action);
        let authenticated = caller.user.is_some();
        let verdict = if allows(rule, name, action, &caller) {
            Verdict::Allowed(rule)
        } else if words.contains(&Who::Hook) {
            Verdict::AskHook(rule)
        } else if action != Action::Subscribe && words.contains(&Who::Subscriber) && rule.subscribe.contains(&Who::Hook)
        {
            Verdict::IfSubscribed(rule)
        } else {
            // The option is reported before a capture that differs: with the right user the caller would still be
            // refused.
            let allows = in_words(words);
            return Err(Denial::Option { rule: rule.pattern.as_str().into(), action, allows, authenticated });
        };
        // Compared even where the option says `anyone`: the pattern itself says whose channel this is.
        if !rule.pattern.captures_are(name, caller.user) {
            return Err(Denial::Capture { rule: rule.pattern.as_str().into(), action, authenticated });
        }
        Ok(verdict)
    }
}

/// As it is written in a configuration.
fn in_words(who: &[Who]) -> String {
    match who {
        [one] => format!("{:?}", one.word()),
        several => {
            format!("[{}]", several.iter().map(|who| format!("{:?}", who.word())).collect::<Vec<_>>().join(", "))
        }
    }
}

fn allows(rule: &Rule, name: &str, action: Action, caller: &Entitlement<'_>) -> bool {
    rule.who(action).iter().any(|who| match who {
        Who::Anyone => true,
        Who::Authenticated => caller.user.is_some(),
        // `subscribe = "subscriber"` would ask itself; it lets nobody in.
        Who::Subscriber => action != Action::Subscribe && allows(rule, name, Action::Subscribe, caller),
        Who::Grant => caller.grant(name, action),
        Who::Hook | Who::Server | Who::Nobody => false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(name: &str) -> UserId {
        UserId(name.into())
    }

    #[test]
    fn patterns_match_by_whole_segments() {
        let rows: &[(&str, &str, bool)] = &[
            ("chat:*", "chat:general", true),
            ("chat:*", "chat", false),
            ("chat:*", "chat:a:b", false),
            ("chat:**", "chat:a:b", true),
            ("chat:**", "chat", false),
            ("**", "anything:at:all", true),
            ("*", "one", true),
            ("*", "one:two", false),
            ("inbox:{user}", "inbox:ada", true),
            ("a:*:c", "a:b:c", true),
            ("a:*:c", "a:b:d", false),
            ("chat", "chatter", false),
        ];
        for (pattern, name, expected) in rows {
            assert_eq!(Pattern::new(pattern).expect("valid").matches(name), *expected, "{pattern} on {name}");
        }
    }

    #[test]
    fn bad_patterns_name_the_segment() {
        for text in ["**:a", "{id}", "chat-*", "", "a::b", "a b"] {
            assert!(Pattern::new(text).is_err(), "{text:?} was taken as a pattern");
        }
    }

    #[test]
    fn a_capture_that_differs_denies_and_does_not_fall_through() {
        let mut strict = Rule::open(Pattern::new("inbox:{user}").expect("valid"));
        strict.publish = vec![Who::Server];
        let rules = Rules::new(vec![strict, Rule::open(Pattern::new("**").expect("valid"))]);
        assert!(rules.judge("inbox:ada", Action::Subscribe, Some(&user("ada"))).is_ok());
        for other in [None, Some(user("bob")), Some(user("*"))] {
            let denial = rules.judge("inbox:ada", Action::Subscribe, other.as_ref());
            assert!(matches!(denial, Err(Denial::Capture { .. })), "{other:?}: {denial:?}");
        }
        let denial =
            rules.judge("inbox:ada", Action::Publish, Some(&user("ada"))).expect_err("only the server publishes");
        let channel = ChannelName::new("inbox:ada").expect("valid");
        assert_eq!(
            &*denial.into_error(&channel).message,
            "the rule \"inbox:{user}\" says publish = \"server\"; an authenticated caller is not among them"
        );
    }

    /// The denial names the part that must change first.
    #[test]
    fn a_denial_names_the_option_before_the_capture_and_says_who_is_anonymous() {
        let rule = Rule {
            subscribe: vec![Who::Authenticated],
            publish: vec![Who::Server],
            signal: vec![Who::Anyone],
            ..Rule::open(Pattern::new("inbox:{user}").expect("valid"))
        };
        let rules = Rules::new(vec![rule]);
        let bob = user("bob");
        let rows = [
            (Action::Publish, Some(&bob), "says publish = \"server\"; an authenticated caller is not among them"),
            (Action::Publish, None, "says publish = \"server\"; an anonymous caller is not among them"),
            (Action::Subscribe, Some(&bob), "is for the user in the channel's name, and the caller is another"),
            (Action::Subscribe, None, "says subscribe = \"authenticated\"; an anonymous caller is not among them"),
            (Action::Signal, None, "is for the user in the channel's name, and the caller is anonymous"),
        ];
        let channel = ChannelName::new("inbox:ada").expect("valid");
        for (action, caller, expected) in rows {
            let denial = rules.judge("inbox:ada", action, caller).expect_err("it is ada's");
            let message = denial.into_error(&channel).message;
            assert_eq!(&*message, format!("the rule \"inbox:{{user}}\" {expected}"), "{action:?} {caller:?}");
        }
    }

    #[test]
    fn every_capture_of_a_pattern_is_compared() {
        let rules = Rules::new(vec![Rule::open(Pattern::new("{user}:and:{user}").expect("valid"))]);
        let ada = user("ada");
        assert!(rules.judge("ada:and:ada", Action::Subscribe, Some(&ada)).is_ok());
        for name in ["ada:and:bob", "bob:and:ada"] {
            let denial = rules.judge(name, Action::Subscribe, Some(&ada));
            assert!(matches!(denial, Err(Denial::Capture { .. })), "{name}: {denial:?}");
        }
    }

    #[test]
    fn a_hook_is_asked_where_nothing_else_lets_in() {
        let rule = Rule {
            subscribe: vec![Who::Hook],
            publish: vec![Who::Authenticated, Who::Hook],
            signal: vec![Who::Nobody],
            ..Rule::open(Pattern::new("room:*").expect("valid"))
        };
        let rules = Rules::new(vec![rule, Rule::open(Pattern::new("**").expect("valid"))]);
        let verdict = |action, user: Option<&UserId>| rules.verdict("room:a", action, user);
        let ada = user("ada");
        assert!(matches!(verdict(Action::Subscribe, Some(&ada)), Ok(Verdict::AskHook(_))));
        assert!(matches!(verdict(Action::Publish, Some(&ada)), Ok(Verdict::Allowed(_))));
        assert!(matches!(verdict(Action::Publish, None), Ok(Verdict::AskHook(_))));
        assert!(matches!(verdict(Action::Enter, None), Ok(Verdict::IfSubscribed(_))));
        assert!(matches!(verdict(Action::Signal, None), Err(Denial::Option { .. })));
        for (action, decides) in [(Action::Subscribe, Action::Subscribe), (Action::Enter, Action::Subscribe)] {
            let denial = rules.judge("room:a", action, None).expect_err("there is nobody to ask");
            assert_eq!(denial, Denial::NoHook { rule: "room:*".into(), action: decides });
        }
    }
}
