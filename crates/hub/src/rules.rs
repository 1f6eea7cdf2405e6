//! The policy: one table of rules, of which the first that matches a channel's name governs it.
//!
//! In: a channel name, an action and a caller. Out: the rule, or a [`Denial`] that names the rule and the option that
//! decided. A rule is chosen by the NAME alone: a capture such as `{user}` or `{claims.team}` matches any segment and
//! is compared with the caller afterwards, so that a difference is a denial and never falls through to a looser rule
//! below.

mod denial;

use crate::check::DataCheck;
use crate::claims::{self, ClaimValue, Found};
use crate::ids::UserId;
use crate::pattern::{Capture, Pattern};
use std::fmt;
use std::sync::Arc;

pub use denial::{CallerKind, Denial, DeniedCaller, DeniedClaim};

/// Who may do something. A rule holds a list of these and any of them suffices.
#[derive(Debug, Clone, PartialEq, Eq)]
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
    /// Callers with a claim of one of these values.
    Claim(Arc<ClaimIs>),
    /// Callers that the application's handler lets in. The rule alone lets nobody in by it: see [`Verdict`].
    Hook,
    /// Only the application, through its API.
    Server,
    /// No client at all.
    Nobody,
}

impl Who {
    /// Callers whose claim of this name is one of the values, or a list with one of them. `sub` is the user. Values of
    /// different kinds differ: `"1"` is not `1`. An inner field is named by its path: `realm_access.roles`.
    ///
    /// ```
    /// # use fanfare_hub::Who;
    /// let editors = Who::claim("role", ["admin", "editor"]);
    /// assert_eq!(editors.to_string(), r#"{ claim = "role", in = ["admin", "editor"] }"#);
    /// ```
    pub fn claim(name: &str, one_of: impl IntoIterator<Item = impl Into<ClaimValue>>) -> Who {
        Who::claim_of(name, one_of.into_iter().map(Into::into).collect())
    }

    /// The same for values of several kinds.
    pub fn claim_of(name: &str, one_of: Vec<ClaimValue>) -> Who {
        Who::Claim(Arc::new(ClaimIs { name: name.into(), one_of }))
    }

    /// The claim that it asks about.
    fn claim_asked(&self) -> Option<&str> {
        match self {
            Who::Claim(claim) => Some(&claim.name),
            _ => None,
        }
    }

    /// The word in the configuration; `claim` for a condition that is a table there.
    pub fn word(&self) -> &'static str {
        match self {
            Who::Claim(_) => "claim",
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

impl fmt::Display for Who {
    /// As it is written in a configuration.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Who::Claim(claim) = self else { return write!(f, "{:?}", self.word()) };
        write!(f, "{{ claim = {:?}, in = [", claim.name)?;
        for (place, value) in claim.one_of.iter().enumerate() {
            write!(f, "{}{value}", if place > 0 { ", " } else { "" })?;
        }
        f.write_str("] }")
    }
}

/// A condition on a claim.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClaimIs {
    /// Its name, or a path.
    pub name: Box<str>,
    /// Any of these.
    pub one_of: Vec<ClaimValue>,
}

/// A permission that an identity carries: what its caller may do on some channels, where their rules say `grant`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    /// Which channels. A `{user}` stands for the caller's user, a `{claims.NAME}` for its claim.
    pub pattern: Pattern,
    /// What it may do there.
    pub allow: Vec<Action>,
}

impl Grant {
    fn is_for(&self, name: &str, action: Action, caller: &Entitlement<'_>) -> bool {
        self.allow.contains(&action)
            && self.pattern.matches(name)
            && self.pattern.differing(name, |capture, segment| caller.has(capture, segment)).is_none()
    }
}

/// What the rules know of a caller.
#[derive(Debug, Clone, Copy, Default)]
pub struct Entitlement<'c> {
    /// Its user.
    pub user: Option<&'c UserId>,
    /// Its permissions.
    pub grants: &'c [Grant],
    /// Its other claims: a JSON object.
    pub claims: Option<&'c [u8]>,
}

impl Entitlement<'_> {
    fn grant(&self, name: &str, action: Action) -> bool {
        self.grants.iter().any(|grant| grant.is_for(name, action, self))
    }

    /// Whether a capture stands for this segment.
    fn has(&self, capture: &Capture, segment: &str) -> bool {
        match capture {
            Capture::User => self.user.is_some_and(|user| *user.0 == *segment),
            Capture::Claim(name) => self.has_claim(name, |value| value.is_segment(segment)),
        }
    }

    /// Whether a value of this claim is the sought one. `sub` is the user, and no claim beside it.
    pub(crate) fn has_claim(&self, name: &str, mut is: impl FnMut(Found<'_>) -> bool) -> bool {
        match name {
            "sub" => self.user.is_some_and(|user| is(Found::Text(&user.0))),
            _ => self.claims.is_some_and(|claims| claims::any(claims, name, is)),
        }
    }
}

impl<'c> From<Option<&'c UserId>> for Entitlement<'c> {
    /// A caller without permissions of its own.
    fn from(user: Option<&'c UserId>) -> Self {
        Entitlement { user, grants: &[], claims: None }
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

/// What a publication says about its sender.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SenderShown {
    /// Its session, and its user if it has one.
    #[default]
    Client,
    /// Its user alone; of an anonymous sender nothing.
    User,
    /// Nothing.
    Nothing,
}

impl SenderShown {
    /// All of them.
    pub const ALL: [SenderShown; 3] = [SenderShown::Client, SenderShown::User, SenderShown::Nothing];

    /// The word in the configuration.
    pub fn word(self) -> &'static str {
        match self {
            SenderShown::Client => "client",
            SenderShown::User => "user",
            SenderShown::Nothing => "none",
        }
    }
}

/// The past publications that a client may be given by a channel: by `history`, and by `since` and `recent` of a
/// subscription.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Past {
    /// All that the history holds.
    #[default]
    All,
    /// Those that were published since its subscription began.
    SinceJoin,
    /// None.
    Nothing,
}

impl Past {
    /// All of them.
    pub const ALL: [Past; 3] = [Past::All, Past::SinceJoin, Past::Nothing];

    /// The word in the configuration.
    pub fn word(self) -> &'static str {
        match self {
            Past::All => "all",
            Past::SinceJoin => "since_join",
            Past::Nothing => "none",
        }
    }
}

/// A row of the table.
#[derive(Debug, Clone)]
pub struct Rule {
    /// Which channels it governs.
    pub pattern: Pattern,
    /// Who may subscribe.
    pub subscribe: Vec<Who>,
    /// Who may publish.
    pub publish: Vec<Who>,
    /// Who may signal.
    pub signal: Vec<Who>,
    /// Who may enter the presence.
    pub enter: Vec<Who>,
    /// Who may read the history: by `history`, and by `since` and `recent` of a subscription.
    pub history_read: Vec<Who>,
    /// Who may read the presence: by `presence`, and with a subscription.
    pub presence_read: Vec<Who>,
    /// How far back those may read who may read the history.
    pub read: Past,
    /// What publications of clients say about their senders.
    pub from: SenderShown,
    /// The longest `data` of a client's publication or signal, in bytes. `None` is the limit of all messages.
    pub max_size: Option<usize>,
    /// The most subscriptions that clients make to one channel, on all shards. `None` is without limit.
    pub max_subscribers: Option<u32>,
    /// The retention of its channels.
    pub history: Retain,
    /// Whether presence is sent.
    pub presence: PresenceMode,
    /// The reaction to slow subscribers.
    pub slow: Slow,
    /// Publications and signals of one session. `None` is without limit.
    pub rate: Option<RateLimit>,
    /// What its publications and signals may hold. `None`: anything.
    pub check: Option<Arc<dyn DataCheck>>,
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
            history_read: vec![Who::Subscriber],
            presence_read: vec![Who::Subscriber],
            read: Past::All,
            from: SenderShown::Client,
            max_size: None,
            max_subscribers: None,
            history: Retain::default(),
            presence: PresenceMode::Full,
            slow: Slow::Pull,
            rate: None,
            check: None,
        }
    }

    /// Whether it lets a caller do this, and not only because that one may subscribe.
    pub(crate) fn allows_itself(&self, name: &str, action: Action, caller: &Entitlement<'_>) -> bool {
        self.who(action).iter().any(|who| match who {
            Who::Anyone => true,
            Who::Authenticated => caller.user.is_some(),
            Who::Grant => caller.grant(name, action),
            Who::Claim(claim) => {
                caller.has_claim(&claim.name, |found| claim.one_of.iter().any(|value| found.is(value)))
            }
            Who::Subscriber | Who::Hook | Who::Server | Who::Nobody => false,
        })
    }

    /// The option for an action.
    pub fn who(&self, action: Action) -> &[Who] {
        match action {
            Action::Subscribe => &self.subscribe,
            Action::Publish => &self.publish,
            Action::Signal => &self.signal,
            Action::Enter => &self.enter,
            Action::ReadHistory => &self.history_read,
            Action::ReadPresence => &self.presence_read,
        }
    }

    /// The action whose option decides: reading that is for subscribers alone is decided as a subscription is, also by
    /// the application.
    pub fn decided_by(&self, action: Action) -> Action {
        let as_subscriber = action.is_reading() && self.who(action) == [Who::Subscriber];
        if as_subscriber && !self.hides_past(action) { Action::Subscribe } else { action }
    }

    /// Whether it shows no client what this action would read.
    pub(crate) fn hides_past(&self, action: Action) -> bool {
        action == Action::ReadHistory && self.read == Past::Nothing
    }
}

/// An action of a caller on a channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Subscribe.
    Subscribe,
    /// Publish.
    Publish,
    /// Signal.
    Signal,
    /// Enter the presence.
    Enter,
    /// Read the history.
    ReadHistory,
    /// Read the presence.
    ReadPresence,
}

impl Action {
    /// All of them.
    pub const ALL: [Action; 6] =
        [Action::Subscribe, Action::Publish, Action::Signal, Action::Enter, Action::ReadHistory, Action::ReadPresence];

    /// True where nothing is done, but read.
    pub(crate) fn is_reading(self) -> bool {
        matches!(self, Action::ReadHistory | Action::ReadPresence)
    }

    /// The option of a rule that decides it.
    pub fn option(self) -> &'static str {
        match self {
            Action::Subscribe => "subscribe",
            Action::Publish => "publish",
            Action::Signal => "signal",
            Action::Enter => "enter",
            Action::ReadHistory => "history_read",
            Action::ReadPresence => "presence_read",
        }
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
pub struct Rules {
    rules: Vec<Rule>,
    /// Some rule has `max_subscribers`. Most tables have none, and are not searched for it when a client leaves.
    any_limits_subscribers: bool,
}

impl Rules {
    /// The rules in the order in which they are tried.
    pub fn new(rules: Vec<Rule>) -> Self {
        let any_limits_subscribers = rules.iter().any(|rule| rule.max_subscribers.is_some());
        Rules { rules, any_limits_subscribers }
    }

    /// Whether the subscribers of this channel are bounded.
    pub(crate) fn limit_subscribers(&self, name: &str) -> bool {
        self.any_limits_subscribers && self.of(name).is_some_and(|rule| rule.max_subscribers.is_some())
    }

    /// The rules in the order in which they are tried.
    pub fn iter(&self) -> std::slice::Iter<'_, Rule> {
        self.rules.iter()
    }

    /// The rule that governs the channel of this name.
    pub fn of(&self, name: &str) -> Option<&Rule> {
        self.rules.iter().find(|rule| rule.pattern.matches(name))
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
        if rule.hides_past(action) {
            return Err(Denial::Past { rule: rule.pattern.as_str().into() });
        }
        let action = rule.decided_by(action);
        let words = rule.who(action);
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
            let (allows, asked) = (show_who(words), words.iter().filter_map(Who::claim_asked));
            let caller = DeniedCaller::of(&caller, asked);
            return Err(Denial::Option { rule: rule.pattern.as_str().into(), action, allows, caller });
        };
        // Compared even where the option says `anyone`: the pattern itself says whose channel this is.
        if let Some(capture) = rule.pattern.differing(name, |capture, segment| caller.has(capture, segment)) {
            let asked = match capture {
                Capture::User => None,
                Capture::Claim(name) => Some(&**name),
            };
            let (rule, capture) = (rule.pattern.as_str().into(), capture.clone());
            return Err(Denial::Capture {
                rule,
                capture,
                action,
                caller: DeniedCaller::of(&caller, asked.into_iter()),
            });
        }
        Ok(verdict)
    }
}

/// As it is written in a configuration.
pub fn show_who(who: &[Who]) -> String {
    match who {
        [one] => one.to_string(),
        several => format!("[{}]", several.iter().map(Who::to_string).collect::<Vec<_>>().join(", ")),
    }
}

fn allows(rule: &Rule, name: &str, action: Action, caller: &Entitlement<'_>) -> bool {
    // `subscribe = "subscriber"` would ask itself; it lets nobody in.
    let by_subscribing = || {
        action != Action::Subscribe
            && rule.who(action).contains(&Who::Subscriber)
            && rule.allows_itself(name, Action::Subscribe, caller)
    };
    rule.allows_itself(name, action, caller) || by_subscribing()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::name::ChannelName;

    fn user(name: &str) -> UserId {
        UserId(name.into())
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

    #[test]
    fn a_claim_lets_in_and_a_denial_names_the_claim_that_differs() {
        let rule = Rule {
            subscribe: vec![Who::claim("role", ["admin"]), Who::claim("level", [7])],
            publish: vec![Who::Anyone],
            ..Rule::open(Pattern::new("team:{claims.org.team}:*").expect("valid"))
        };
        let rules = Rules::new(vec![rule, Rule::open(Pattern::new("**").expect("valid"))]);
        let ada = user("ada");
        let judge = |action, claims: &str| {
            let caller = Entitlement { user: Some(&ada), grants: &[], claims: Some(claims.as_bytes()) };
            let channel = ChannelName::new("team:red:x").expect("valid");
            rules.judge(&channel, action, caller).map(|_| ()).map_err(|denial| denial.into_error(&channel).message)
        };
        let team = r#""org":{"team":["red"]}"#;
        assert_eq!(judge(Action::Subscribe, &format!("{{\"role\":\"admin\",{team}}}")), Ok(()));
        assert_eq!(judge(Action::Subscribe, &format!("{{\"level\":7,{team}}}")), Ok(()));
        let words = "the rule \"team:{claims.org.team}:*\"";
        let option = r#"[{ claim = "role", in = ["admin"] }, { claim = "level", in = [7] }]"#;
        let of_option = format!(
            "{words} says subscribe = {option}; an authenticated caller is not among them: it has no claim `role`, and \
             its claim `level` is \"7\""
        );
        assert_eq!(judge(Action::Subscribe, &format!("{{\"level\":\"7\",{team}}}")), Err(of_option.into()));
        let of_capture = |caller: &str| {
            format!("{words} is for the claim `org.team` in the channel's name, and {caller}").into_boxed_str()
        };
        for (claims, caller) in [
            (r#"{"role":"admin","org":{"team":"blue"}}"#, "the caller's is \"blue\""),
            (r#"{"role":"admin"}"#, "the caller has none"),
            (r#"{"role":"admin","org":{"team":"*"}}"#, "the caller's is \"*\""),
        ] {
            assert_eq!(judge(Action::Subscribe, claims), Err(of_capture(caller)), "{claims}");
            assert_eq!(judge(Action::Publish, claims), Err(of_capture(caller)), "{claims}");
        }
    }

    #[test]
    fn reading_is_for_subscribers_unless_an_option_says_otherwise() {
        let rule = Rule {
            subscribe: vec![Who::Anyone],
            history_read: vec![Who::Authenticated],
            ..Rule::open(Pattern::new("*").expect("valid"))
        };
        let hooked = Rule { subscribe: vec![Who::Hook], ..Rule::open(Pattern::new("*:*").expect("valid")) };
        let rules = Rules::new(vec![rule, hooked]);
        let ada = user("ada");
        assert!(rules.judge("a", Action::ReadPresence, None).is_ok());
        assert!(rules.judge("a", Action::ReadHistory, Some(&ada)).is_ok());
        let denial = rules.judge("a", Action::ReadHistory, None).expect_err("an anonymous caller");
        assert!(matches!(denial, Denial::Option { action: Action::ReadHistory, .. }), "{denial:?}");
        assert!(
            matches!(rules.verdict("a:b", Action::ReadHistory, None), Ok(Verdict::AskHook(_))),
            "as a subscription"
        );
    }
}
