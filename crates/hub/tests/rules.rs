//! The policy as a whole: for any rules in any order, the first that matches a name decides, and no other.
//!
//! The model shares no code with the hub: it expands patterns to segments by hand and reads the words one by one.

use fanfare_hub::{Action, Denial, Entitlement, Grant, Pattern, Rule, Rules, UserId, Verdict, Who, example_name};
use proptest::prelude::*;

const SEGMENTS: [&str; 4] = ["a", "b", "ada", "bob"];
const WORDS: [Who; 7] =
    [Who::Anyone, Who::Authenticated, Who::Subscriber, Who::Grant, Who::Hook, Who::Server, Who::Nobody];
const ACTIONS: [Action; 4] = [Action::Subscribe, Action::Publish, Action::Signal, Action::Enter];

/// The outcome for a caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Gets {
    Refused,
    Asked,
    In,
}

fn pattern() -> impl Strategy<Value = String> {
    let segment = prop_oneof![4 => prop::sample::select(&SEGMENTS[..]), 2 => Just("*"), 2 => Just("{user}")];
    (prop::collection::vec(segment, 0..4), any::<bool>()).prop_map(|(mut segments, rest)| {
        if rest || segments.is_empty() {
            segments.push("**");
        }
        segments.join(":")
    })
}

fn words() -> impl Strategy<Value = Vec<Who>> {
    prop::collection::vec(prop::sample::select(&WORDS[..]), 1..3)
}

fn rule() -> impl Strategy<Value = Rule> {
    (pattern(), words(), words(), words(), words()).prop_map(|(pattern, subscribe, publish, signal, enter)| Rule {
        subscribe,
        publish,
        signal,
        enter,
        ..Rule::open(Pattern::new(&pattern).expect("valid"))
    })
}

fn name() -> impl Strategy<Value = String> {
    prop::collection::vec(prop::sample::select(&SEGMENTS[..]), 1..5).prop_map(|segments| segments.join(":"))
}

fn user() -> impl Strategy<Value = Option<String>> {
    prop::option::of(prop::sample::select(&["ada", "bob", "a", "*", "{user}", "a:b"][..]).prop_map(str::to_owned))
}

/// Patterns with the actions that they allow.
fn grants() -> impl Strategy<Value = Vec<(String, Vec<Action>)>> {
    let allow = prop::collection::vec(prop::sample::select(&ACTIONS[..]), 0..3);
    prop::collection::vec((pattern(), allow), 0..3)
}

/// Whether a name matches the pattern, and the user ids that its captures demand.
fn model_match<'n>(pattern: &str, name: &'n str) -> Option<Vec<&'n str>> {
    let (pattern, name): (Vec<&str>, Vec<&str>) = (pattern.split(':').collect(), name.split(':').collect());
    let rest = pattern.last() == Some(&"**");
    let fixed = if rest { &pattern[..pattern.len() - 1] } else { &pattern[..] };
    if name.len() < fixed.len() + usize::from(rest) || (!rest && name.len() != fixed.len()) {
        return None;
    }
    let fits = fixed.iter().zip(&name).all(|(part, segment)| matches!(*part, "*" | "{user}") || part == segment);
    fits.then(|| fixed.iter().zip(&name).filter(|(part, _)| **part == "{user}").map(|(_, segment)| *segment).collect())
}

fn model_words(rule: &Rule, action: Action, user: Option<&str>) -> Gets {
    let words = match action {
        Action::Subscribe => &rule.subscribe,
        Action::Publish => &rule.publish,
        Action::Signal => &rule.signal,
        Action::Enter => &rule.enter,
    };
    let one = |word: &Who| match word.word() {
        "anyone" => Gets::In,
        "authenticated" if user.is_some() => Gets::In,
        "subscriber" if action != Action::Subscribe => model_words(rule, Action::Subscribe, user),
        "hook" => Gets::Asked,
        _ => Gets::Refused,
    };
    words.iter().map(one).max().expect("at least one")
}

/// The verdict of a single rule.
fn model(rule: &Rule, captured: &[&str], action: Action, user: Option<&str>) -> Gets {
    if captured.iter().any(|captured| user != Some(captured)) { Gets::Refused } else { model_words(rule, action, user) }
}

fn gets(rules: &Rules, name: &str, action: Action, user: Option<&str>) -> Gets {
    let user = user.map(|user| UserId(user.into()));
    let verdict = rules.verdict(name, action, user.as_ref());
    // A judge that cannot ask the application allows exactly the callers that the rules themselves allow.
    let judged = rules.judge(name, action, user.as_ref());
    assert_eq!(judged.is_ok(), matches!(verdict, Ok(Verdict::Allowed(_))), "{verdict:?} against {judged:?}");
    match verdict {
        Ok(Verdict::Allowed(_)) => Gets::In,
        Ok(Verdict::AskHook(_) | Verdict::IfSubscribed(_)) => Gets::Asked,
        Err(_) => Gets::Refused,
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(500) })]

    /// No rule below the first match can allow a caller that the first match denies: in every order only the first rule
    /// that matches the name is judged.
    #[test]
    fn the_first_match_decides_in_every_order(
        rules in prop::collection::vec(rule(), 0..7).prop_shuffle(), name in name(), user in user(),
    ) {
        let first = rules.iter().find_map(|rule| {
            model_match(rule.pattern.as_str(), &name).map(|captured| (rule, captured))
        });
        let table = Rules::new(rules.clone());
        for action in ACTIONS {
            let found = gets(&table, &name, action, user.as_deref());
            let Some((rule, captured)) = &first else {
                prop_assert_eq!(found, Gets::Refused);
                prop_assert_eq!(table.verdict(&name, action, None).expect_err("no rule"), Denial::NoRule);
                continue;
            };
            prop_assert_eq!(found, model(rule, captured, action, user.as_deref()), "{:?} of {}", action, rule.pattern);
            let alone = Rules::new(vec![(*rule).clone()]);
            prop_assert_eq!(found, gets(&alone, &name, action, user.as_deref()));
        }
    }

    /// A grant lets in whom its pattern and its actions name, where the rule has the word, and nobody else.
    #[test]
    fn a_grant_counts_where_a_rule_asks_for_it(
        rule in rule(), name in name(), user in user(), grants in grants(),
    ) {
        let granted = |action| {
            grants.iter().any(|(pattern, allow)| {
                let captured = model_match(pattern, &name);
                allow.contains(&action)
                    && captured.is_some_and(|captured| captured.iter().all(|it| user.as_deref() == Some(it)))
            })
        };
        let of_rule = model_match(rule.pattern.as_str(), &name);
        let id = user.as_deref().map(|user| UserId(user.into()));
        let kept: Vec<Grant> = grants
            .iter()
            .map(|(pattern, allow)| Grant { pattern: Pattern::new(pattern).expect("valid"), allow: allow.clone() })
            .collect();
        for action in ACTIONS {
            let caller = Entitlement { user: id.as_ref(), grants: &kept };
            let found = Rules::new(vec![rule.clone()]).judge(&name, action, caller).is_ok();
            let words = |action| match action {
                Action::Subscribe => &rule.subscribe,
                Action::Publish => &rule.publish,
                Action::Signal => &rule.signal,
                Action::Enter => &rule.enter,
            };
            let by_grant = words(action).contains(&Who::Grant) && granted(action);
            let as_subscriber = action != Action::Subscribe
                && words(action).contains(&Who::Subscriber)
                && words(Action::Subscribe).contains(&Who::Grant)
                && granted(Action::Subscribe);
            let expected = of_rule.as_ref().is_some_and(|captured| {
                let without = model(&rule, captured, action, user.as_deref()) == Gets::In;
                let is_theirs = captured.iter().all(|it| user.as_deref() == Some(it));
                without || is_theirs && (by_grant || as_subscriber)
            });
            prop_assert_eq!(found, expected, "{:?}", action);
        }
    }

    /// Rules that are added below never change the verdict for a name that a rule above matches.
    #[test]
    fn a_rule_below_lets_nobody_in(
        above in prop::collection::vec(rule(), 1..4), below in prop::collection::vec(rule(), 0..4), name in name(), user in user(),
    ) {
        let alone = Rules::new(above.clone());
        let both = Rules::new(above.into_iter().chain(below).collect());
        if alone.of(&name).is_some() {
            for action in ACTIONS {
                let (alone, both) = (gets(&alone, &name, action, user.as_deref()), gets(&both, &name, action, user.as_deref()));
                prop_assert_eq!(alone, both);
            }
        }
    }

    /// No name of a small alphabet reaches a rule that is reported as unreachable, and every example of a name that
    /// reaches a rule does reach it.
    #[test]
    fn an_example_is_one_and_where_there_is_none_nothing_matches(
        patterns in prop::collection::vec(pattern(), 1..6), names in prop::collection::vec(name(), 200),
    ) {
        let patterns: Vec<Pattern> = patterns.iter().map(|text| Pattern::new(text).expect("valid")).collect();
        let (last, before) = patterns.split_last().expect("at least one");
        let reaches = |name: &str| last.matches(name) && !before.iter().any(|pattern| pattern.matches(name));
        match example_name(&[last], &before.iter().collect::<Vec<_>>()) {
            Some(example) => prop_assert!(reaches(&example), "{} of {:?}", example, patterns),
            None => prop_assert!(!names.iter().any(|name| reaches(name)), "{:?}", patterns),
        }
    }
}
