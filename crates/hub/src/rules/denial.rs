//! Denials: why a caller may not do something, in words for the person who asks.
//!
//! In: the rule that decided, and what it asked about the caller. Out: an error that names the rule, the option, and
//! the claims that differ with their values. Only claims that a rule asks about are shown, a few values of each, and
//! cut short: a token may hold anything.

use super::{Action, Entitlement, Past};
use crate::claims::Found;
use crate::error::{Error, ErrorCode};
use crate::name::ChannelName;
use crate::pattern::Capture;
use std::fmt::Write as _;

/// The claims that a denial shows, and the values of each.
const CLAIMS_SHOWN_MAX: usize = 4;
const VALUES_SHOWN_MAX: usize = 4;
/// The characters of a value that it shows.
const VALUE_CHARS_MAX: usize = 64;

/// What a rule asked about the caller that it denied.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct DeniedCaller {
    /// What is known of the caller.
    pub kind: CallerKind,
    /// The claims that the rule asked about.
    pub claims: Vec<DeniedClaim>,
}

/// What is known of a caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CallerKind {
    /// Nothing.
    Anonymous,
    /// Claims or grants, and no user.
    WithoutUser,
    /// It has a user.
    User,
}

/// A claim that did not let a caller in.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct DeniedClaim {
    /// Its name.
    pub name: Box<str>,
    /// The caller's value, or several, as JSON has them; shortened. `None` where it has none that a rule compares.
    pub value: Option<String>,
}

impl DeniedCaller {
    pub(crate) fn of<'n>(caller: &Entitlement<'_>, asked: impl Iterator<Item = &'n str>) -> Self {
        let kind = match caller.user {
            Some(_) => CallerKind::User,
            None if caller.claims.is_some() || !caller.grants.is_empty() => CallerKind::WithoutUser,
            None => CallerKind::Anonymous,
        };
        let shown = |name: &str| DeniedClaim { name: name.into(), value: values(caller, name) };
        let asked = asked.filter(|_| kind != CallerKind::Anonymous).take(CLAIMS_SHOWN_MAX);
        DeniedCaller { kind, claims: asked.map(shown).collect() }
    }

    /// The claims as the end of a sentence: empty where none was asked about.
    pub fn shown(&self) -> String {
        let mut shown = String::new();
        for (place, DeniedClaim { name, value }) in self.claims.iter().enumerate() {
            let before = if place == 0 { ": " } else { ", and " };
            // Writing to a String cannot fail.
            let _ = match value {
                Some(value) => write!(shown, "{before}its claim `{name}` is {value}"),
                None => write!(shown, "{before}it has no claim `{name}`"),
            };
        }
        shown
    }
}

/// The caller's values of a claim.
fn values(caller: &Entitlement<'_>, name: &str) -> Option<String> {
    let (mut shown, mut count) = (String::new(), 0);
    caller.has_claim(name, |found| {
        count += 1;
        if count > VALUES_SHOWN_MAX {
            shown.push_str(", …");
            return true; // it is enough
        }
        if count > 1 {
            shown.push_str(", ");
        }
        // Writing to a String cannot fail.
        let _ = match found {
            Found::Text(text) => match text.char_indices().nth(VALUE_CHARS_MAX) {
                Some((end, _)) => write!(shown, "{:?}…", &text[..end]),
                None => write!(shown, "{text:?}"),
            },
            Found::Number(number) => write!(shown, "{number}"),
            Found::Switch(on) => write!(shown, "{on}"),
        };
        false
    });
    (count > 0).then_some(shown)
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
        /// What the rule asked about the caller.
        caller: DeniedCaller,
    },
    /// The option lists the caller, but a capture such as `{user}` is another's segment of the name.
    Capture {
        /// The rule's pattern.
        rule: Box<str>,
        /// Which.
        capture: Capture,
        /// The wanted action.
        action: Action,
        /// What the rule asked about the caller.
        caller: DeniedCaller,
    },
    /// The rule shows no past publications to any client.
    Past {
        /// The rule's pattern.
        rule: Box<str>,
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
            Denial::Option { rule, action, allows, caller } => {
                let option = action.option();
                let who = match caller.kind {
                    CallerKind::Anonymous => "an anonymous caller",
                    CallerKind::WithoutUser => "a caller without a user",
                    CallerKind::User => "an authenticated caller",
                };
                let message =
                    format!("the rule {rule:?} says {option} = {allows}; {who} is not among them{}", caller.shown());
                Error::new(ErrorCode::Denied, message).by_rule(&rule).by_option(option)
            }
            Denial::Past { rule } => {
                let none = Past::Nothing.word();
                let message = format!("the rule {rule:?} says read = {none:?}: no client reads past publications");
                Error::new(ErrorCode::Denied, message).by_rule(&rule).by_option("read")
            }
            Denial::NoHook { rule, action } => {
                let option = action.option();
                let message =
                    format!("the rule {rule:?} leaves {option} to a handler of the application, and none answers");
                Error::new(ErrorCode::Denied, message).by_rule(&rule).by_option(option)
            }
            Denial::Capture { rule, capture, action, caller } => {
                let who = match (&capture, caller.kind) {
                    (_, CallerKind::Anonymous) => "the caller is anonymous".to_owned(),
                    (Capture::User, CallerKind::User) => "the caller is another".to_owned(),
                    (Capture::User, CallerKind::WithoutUser) => "the caller has none".to_owned(),
                    (Capture::Claim(_), _) => match caller.claims.first().and_then(|claim| claim.value.as_ref()) {
                        Some(value) => format!("the caller's is {value}"),
                        None => "the caller has none".to_owned(),
                    },
                };
                let message = format!("the rule {rule:?} is for the {capture} in the channel's name, and {who}");
                Error::new(ErrorCode::Denied, message).by_rule(&rule).by_option(action.option())
            }
        }
        .on(channel)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::UserId;
    use crate::pattern::Pattern;
    use crate::rules::{Rule, Rules, Who};

    /// Why a caller with these claims may not subscribe to `of:red`, behind the words that name the rule.
    fn why(rule: Rule, user: Option<&str>, claims: Option<&str>) -> String {
        let user = user.map(|user| UserId(user.into()));
        let caller = Entitlement { user: user.as_ref(), grants: &[], claims: claims.map(str::as_bytes) };
        let channel = ChannelName::new("of:red").expect("valid");
        let denial = Rules::new(vec![rule]).judge(&channel, Action::Subscribe, caller).map(|_| ()).expect_err("denied");
        let message = denial.into_error(&channel).message;
        message
            .split_once("is not among them")
            .or(message.split_once("and the "))
            .map_or_else(String::new, |(before, after)| {
                format!("{}|{after}", before.rsplit("; ").next().unwrap_or_default().trim())
            })
    }

    #[test]
    fn a_denial_names_the_claim_that_was_asked_about_and_its_value() {
        let role = || Rule {
            subscribe: vec![Who::claim("role", ["admin"]), Who::claim("level", [7])],
            ..Rule::open(Pattern::new("of:*").expect("valid"))
        };
        let long = format!(r#"{{"role":"{}"}}"#, "é".repeat(100));
        let cut = format!(
            "a caller without a user|: its claim `role` is \"{}\"…, and it has no claim `level`",
            "é".repeat(64)
        );
        let rows = [
            ("nothing is known", None, None, "an anonymous caller|"),
            (
                "claims without a user",
                None,
                Some(r#"{"role":"guest","secret":"s3cret"}"#),
                "a caller without a user|: its claim `role` is \"guest\", and it has no claim `level`",
            ),
            (
                "a user",
                Some("ada"),
                Some(r#"{"role":"guest","level":8}"#),
                "an authenticated caller|: its claim `role` is \"guest\", and its claim `level` is 8",
            ),
            (
                "a list",
                Some("ada"),
                Some(r#"{"role":["a","b",true,1,"e","f"]}"#),
                "an authenticated caller|: its claim `role` is \"a\", \"b\", true, 1, …, and it has no claim `level`",
            ),
            (
                "what no rule compares",
                Some("ada"),
                Some(r#"{"role":{"inner":"s3cret"},"level":7.5}"#),
                "an authenticated caller|: it has no claim `role`, and it has no claim `level`",
            ),
            ("a long text", None, Some(&*long), &*cut),
        ];
        for (name, user, claims, expected) in rows {
            assert_eq!(why(role(), user, claims), expected, "{name}");
        }
    }

    #[test]
    fn a_denial_by_a_capture_names_what_the_caller_has() {
        let rule = |pattern: &str| Rule::open(Pattern::new(pattern).expect("valid"));
        let team = Some(r#"{"team":["blue","green"]}"#);
        let rows = [
            ("of:{claims.team}", None, None, "caller is anonymous"),
            ("of:{claims.team}", None, team, "caller's is \"blue\", \"green\""),
            ("of:{claims.team}", Some("ada"), Some("{}"), "caller has none"),
            ("of:{user}", Some("ada"), team, "caller is another"),
            ("of:{user}", None, team, "caller has none"),
            ("of:{user}", None, None, "caller is anonymous"),
        ];
        for (pattern, user, claims, expected) in rows {
            let found = why(rule(pattern), user, claims);
            assert_eq!(found.rsplit('|').next(), Some(expected), "{pattern} {user:?} {claims:?}");
        }
    }
}
