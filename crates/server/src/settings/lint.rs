//! Checks the rules together: a rule that no name reaches, a loose rule that takes names from a stricter one below,
//! words that allow no client, and channels to which no one can publish.
//!
//! In: the rules in order, with their places. Out: problems, each at the rule that should be looked at.

use super::problem::{Problem, Severity, Source};
use super::{RulePlace, units};
use fanfare_hub::{Action, Pattern, Rule, Who, example_name, show_who};

const ACTIONS: [Action; 6] = Action::ALL;

/// The other settings that matter for the rules.
pub(super) struct Beside {
    /// The history of all channels together; `None` if it is not known.
    pub(super) history_bytes_max: Option<usize>,
    /// Whether the application has a key for the API, or is meant to.
    pub(super) has_keys: bool,
    /// Whether handlers in Rust can answer.
    pub(super) has_handlers: bool,
    /// Whether callers can have users and grants.
    pub(super) has_users: bool,
    /// The actions that a hook over HTTP decides.
    pub(super) hooked: Vec<Action>,
}

/// A rule, and where the file has it.
#[derive(Clone, Copy)]
pub(super) struct RuleAt<'s> {
    pub(super) rule: &'s Rule,
    pub(super) place: &'s RulePlace,
}

pub(super) fn rules(rules: &[RuleAt<'_>], beside: &Beside) -> Vec<Problem> {
    let mut problems = Vec::new();
    let mut reported = Reported::default();
    let shapes: Vec<Shape<'_>> = rules.iter().map(|at| Shape::of(&at.rule.pattern)).collect();
    for (index, RuleAt { rule, place }) in rules.iter().enumerate() {
        // Most rules share no name. A search through all of them for each pair would take minutes.
        let meets = |(earlier, _): &(usize, _)| shapes[*earlier].meets(&shapes[index]);
        let (met, earlier): (Vec<_>, Vec<_>) = rules[..index].iter().copied().enumerate().filter(meets).unzip();
        if let Some(problem) = unreachable(rule, place, &earlier) {
            problems.push(problem);
            continue;
        }
        let is_met = |other: usize, before: usize| shapes[met[before]].meets(&shapes[met[other]]);
        problems.extend(loose_before_strict(rule, place, &earlier, is_met));
        if let Some(history_bytes_max) = beside.history_bytes_max
            && rule.history.bytes > history_bytes_max
            && rule.history.count > 0
        {
            problems.push(Problem {
                severity: Severity::Warning,
                at: place.of("history").unwrap_or(&place.at).clone(),
                key: key(rule, "history.bytes"),
                value: Some(format!("{:?}", units::show_bytes(rule.history.bytes as u64))),
                problem: format!(
                    "all channels together may keep only {}, so this is never reached",
                    units::show_bytes(history_bytes_max as u64)
                ),
                allowed: "at most limits.history_bytes_max".to_owned(),
                hint: "raise limits.history_bytes_max, or lower this".to_owned(),
            });
        }
        if !beside.has_handlers {
            problems.extend(nobody_known(rule, place, beside, &mut reported));
            if !beside.has_keys {
                problems.extend(nobody_publishes(rule, place, &mut reported));
            }
        }
    }
    problems
}

/// A file without a rule.
pub(super) fn no_rules(path: &str) -> Problem {
    Problem {
        severity: Severity::Warning,
        at: Source::File { path: path.into(), line: 0 },
        key: "channels".to_owned(),
        value: None,
        problem: "there is no rule, so no channel can be used".to_owned(),
        allowed: "it is accepted".to_owned(),
        hint: "add [[channels]] and below it: match = \"chat:*\", subscribe = \"anyone\", publish = \"subscriber\""
            .to_owned(),
    }
}

fn key(rule: &Rule, option: &str) -> String {
    format!("channels[{:?}].{option}", rule.pattern.as_str())
}

/// `earlier` are those rules above it that share a name with it.
fn unreachable(rule: &Rule, place: &RulePlace, earlier: &[RuleAt<'_>]) -> Option<Problem> {
    let before: Vec<&Pattern> = earlier.iter().map(|other| &other.rule.pattern).collect();
    if example_name(&[&rule.pattern], &before).is_some() {
        return None;
    }
    let covers = |pattern: &Pattern| example_name(&[&rule.pattern], &[pattern]).is_none();
    let by: Vec<String> = match earlier.iter().find(|other| covers(&other.rule.pattern)) {
        Some(one) => vec![named(one)],
        None => earlier.iter().map(named).collect(),
    };
    let take = if by.len() == 1 { "takes" } else { "take" };
    let hint = match earlier.first() {
        Some(other) if other.rule.pattern == rule.pattern => "remove one of the two".to_owned(),
        Some(other) => format!("move it above {}, or remove it", named(other)),
        None => "remove it".to_owned(),
    };
    Some(Problem {
        severity: Severity::Error,
        at: place.at.clone(),
        key: key(rule, "match"),
        value: Some(format!("{:?}", rule.pattern.as_str())),
        problem: format!("no name reaches this rule: {} {take} all of them", by.join(" and ")),
        allowed: "a pattern with a name that no rule above it matches".to_owned(),
        hint,
    })
}

fn named(RuleAt { rule, place }: &RuleAt<'_>) -> String {
    format!("{:?} ({})", rule.pattern.as_str(), place.at)
}

/// A special case above the general one is an ordinary exception. Two patterns that cross are not: the upper rule
/// governs the names of both, which deserves a warning if it is looser.
///
/// `earlier` are those above it that share a name with it, and `is_met` tells by their places whether two of them do.
fn loose_before_strict(
    rule: &Rule,
    place: &RulePlace,
    earlier: &[RuleAt<'_>],
    is_met: impl Fn(usize, usize) -> bool,
) -> Option<Problem> {
    earlier.iter().enumerate().find_map(|(index, other)| {
        let action = ACTIONS.into_iter().find(|action| is_looser(other.rule, rule, *action))?;
        example_name(&[&other.rule.pattern], &[&rule.pattern])?; // else it is a special case of this one
        let before = (0..index).filter(|before| is_met(index, *before)).map(|before| &earlier[before].rule.pattern);
        let both = example_name(&[&other.rule.pattern, &rule.pattern], &before.collect::<Vec<_>>())?;
        let option = action.option();
        let (loose, strict) = (show_who(other.rule.who(action)), show_who(rule.who(action)));
        Some(Problem {
            severity: Severity::Warning,
            at: place.of(option).unwrap_or(&place.at).clone(),
            key: key(rule, option),
            value: Some(strict.clone()),
            problem: format!(
                "{both:?} matches this rule too, but is governed by {}, which is above it and looser: {option} = {loose}",
                named(other)
            ),
            allowed: "any order; it is safe to put the stricter rule first".to_owned(),
            hint: format!("move this rule above {:?}, if {both:?} should be as strict", other.rule.pattern.as_str()),
        })
    })
}

/// A wildcard or a capture.
fn is_any(segment: &str) -> bool {
    segment == "*" || segment.starts_with('{')
}

/// A pattern by its segments.
struct Shape<'r>(Vec<&'r str>);

impl<'r> Shape<'r> {
    fn of(pattern: &'r Pattern) -> Self {
        Shape(pattern.as_str().split(':').collect())
    }

    /// Whether some name has both shapes, as [`example_name`] finds it for two patterns, without a search.
    fn meets(&self, other: &Shape<'_>) -> bool {
        let (long, short) = if self.0.len() < other.0.len() { (&other.0, &self.0) } else { (&self.0, &other.0) };
        for (at, one) in long.iter().enumerate() {
            let Some(two) = short.get(at) else { return false };
            match (*one, *two) {
                ("**", _) | (_, "**") => return true, // the rest is one segment or more
                (one, two) if is_any(one) || is_any(two) || one == two => {}
                _ => return false,
            }
        }
        true
    }
}

/// How far a rule lets a kind of caller: 2 in, 1 if the application says so, 0 not.
fn level(rule: &Rule, action: Action, is_known: bool) -> u8 {
    let one = |who: &Who| match who {
        Who::Anyone => 2,
        Who::Authenticated if is_known => 2,
        Who::Grant | Who::Hook => 1,
        Who::Claim(_) if is_known => 1,
        Who::Subscriber if action != Action::Subscribe => level(rule, Action::Subscribe, is_known),
        _ => 0,
    };
    rule.who(action).iter().map(one).max().unwrap_or(0)
}

fn is_looser(rule: &Rule, than: &Rule, action: Action) -> bool {
    let captures = |rule: &Rule| rule.pattern.captures().next().is_some();
    // For a caller that is not the user in the name.
    let other = |rule: &Rule, is_known| if captures(rule) { 0 } else { level(rule, action, is_known) };
    [false, true].into_iter().any(|is_known| other(rule, is_known) > other(than, is_known))
        || level(rule, action, true) > level(than, action, true)
}

/// The warnings that were given already: each is given once.
#[derive(Default)]
struct Reported {
    users: bool,
    hook: bool,
    publishers: bool,
}

/// The binary knows no users without tokens or a hook, and asks nobody without one. Each kind is reported once.
fn nobody_known(rule: &Rule, place: &RulePlace, beside: &Beside, reported: &mut Reported) -> Vec<Problem> {
    let warn = |at: &Source, option: &str, value: String, problem: &str, hint: &str| Problem {
        severity: Severity::Warning,
        at: at.clone(),
        key: key(rule, option),
        value: Some(value),
        problem: problem.to_owned(),
        allowed: "it is accepted, for a program that embeds Fanfare".to_owned(),
        hint: hint.to_owned(),
    };
    let mut problems = Vec::new();
    let option_with =
        |who: Who| ACTIONS.into_iter().find(|action| rule.who(*action).contains(&who)).map(Action::option);
    let with_claim = |action: &Action| rule.who(*action).iter().any(|who| matches!(who, Who::Claim(_)));
    let claimed = ACTIONS.into_iter().find(with_claim).map(Action::option);
    let captured = rule.pattern.captures().next().map(|_| "match");
    let users = option_with(Who::Authenticated).or(option_with(Who::Grant)).or(claimed).or(captured);
    if let Some(option) = users.filter(|_| !beside.has_users && !std::mem::replace(&mut reported.users, true)) {
        let value = match option {
            "match" => format!("{:?}", rule.pattern.as_str()),
            _ if option_with(Who::Authenticated).is_some() => "\"authenticated\"".to_owned(),
            _ if option_with(Who::Grant).is_some() => "\"grant\"".to_owned(),
            _ => ACTIONS.into_iter().find(with_claim).map_or_else(String::new, |action| show_who(rule.who(action))),
        };
        let problem = "without a key no token can be checked, so nobody has a user, a grant or a claim, and this allows no client";
        let hint = "add [auth.keys] and below it: main = { secret_file = \"…\" }; the application's API always may";
        problems.push(warn(place.of(option).unwrap_or(&place.at), option, value, problem, hint));
    }
    let is_unanswered = |action: &Action| rule.who(*action).contains(&Who::Hook) && !beside.hooked.contains(action);
    let hook = ACTIONS.into_iter().find(is_unanswered).map(Action::option);
    if let Some(option) = hook.filter(|_| !std::mem::replace(&mut reported.hook, true)) {
        let problem = "nobody is asked about this, so it allows no client";
        let hint = "add [hooks] and below it url = \"https://…\" and ask = [\"subscribe\", \"publish\"]: only these two are asked about";
        problems.push(warn(place.of(option).unwrap_or(&place.at), option, "\"hook\"".to_owned(), problem, hint));
    }
    problems
}

/// Only the application may publish, and it has no key to do it with.
fn nobody_publishes(rule: &Rule, place: &RulePlace, reported: &mut Reported) -> Option<Problem> {
    let is_server_only = rule.publish.contains(&Who::Server) && level(rule, Action::Publish, true) == 0;
    if !is_server_only || std::mem::replace(&mut reported.publishers, true) {
        return None;
    }
    Some(Problem {
        severity: Severity::Warning,
        at: place.of("publish").unwrap_or(&place.at).clone(),
        key: key(rule, "publish"),
        value: Some(show_who(&rule.publish)),
        problem: "nobody can publish here: only the application may, by its API, and it has no API key".to_owned(),
        allowed: "it is accepted".to_owned(),
        hint: "add [api_keys] and below it: backend = \"KEY\"; make a key with: openssl rand -hex 16".to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn pattern() -> impl Strategy<Value = String> {
        let segment = prop::sample::select(vec!["a", "b", "*", "{user}", "{claims.team}"]);
        (prop::collection::vec(segment, 0..4), any::<bool>()).prop_map(|(mut segments, has_rest)| {
            if has_rest || segments.is_empty() {
                segments.push("**");
            }
            segments.join(":")
        })
    }

    proptest! {
        #[test]
        fn patterns_meet_where_a_name_is_found_for_both(a in pattern(), b in pattern()) {
            let (a, b) = (Pattern::new(&a).expect("valid"), Pattern::new(&b).expect("valid"));
            let is_found = example_name(&[&a, &b], &[]).is_some();
            prop_assert_eq!(Shape::of(&a).meets(&Shape::of(&b)), is_found, "{} and {}", a, b);
        }
    }
}
