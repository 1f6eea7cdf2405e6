//! The policy as a whole: for any rules in any order, the first that matches a name decides, and no other.
//!
//! The model shares no code with the hub: it expands patterns to segments by hand and reads the words one by one.

use fanfare_hub::{Action, Denial, Entitlement, Grant, Pattern, Rule, Rules, UserId, Verdict, Who, example_name};
use proptest::prelude::*;

const SEGMENTS: [&str; 4] = ["a", "b", "ada", "bob"];
const ACTIONS: [Action; 6] = Action::ALL;

/// A caller, as the model sees it.
#[derive(Debug, Clone)]
struct Caller {
    user: Option<String>,
    /// Its claim `team`: a text, or a list of texts.
    team: Result<String, Vec<String>>,
}

impl Caller {
    /// The claim as a token has it.
    fn claims(&self) -> String {
        match &self.team {
            Ok(one) => format!("{{\"x\":{{\"team\":\"b\"}},\"team\":{one:?}}}"),
            Err(list) => format!("{{\"team\":{list:?},\"Team\":\"a\"}}"),
        }
    }

    fn is_in(&self, team: &str) -> bool {
        match &self.team {
            Ok(one) => one == team,
            Err(list) => list.iter().any(|one| one == team),
        }
    }

    /// Whether a capture stands for this segment.
    fn has(&self, (capture, segment): &(&str, &str)) -> bool {
        if *capture == "{user}" { self.user.as_deref() == Some(segment) } else { self.is_in(segment) }
    }
}

fn caller() -> impl Strategy<Value = Caller> {
    let team = || prop::sample::select(&["a", "b", "*", "{claims.team}"][..]).prop_map(str::to_owned);
    let teams = prop_oneof![team().prop_map(Ok), prop::collection::vec(team(), 0..3).prop_map(Err)];
    (user(), teams).prop_map(|(user, team)| Caller { user, team })
}

/// The outcome for a caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Gets {
    Refused,
    Asked,
    In,
}

fn pattern() -> impl Strategy<Value = String> {
    let segment = prop_oneof![4 => prop::sample::select(&SEGMENTS[..]), 2 => Just("*"), 2 => Just("{user}"), 2 => Just("{claims.team}")];
    (prop::collection::vec(segment, 0..4), any::<bool>()).prop_map(|(mut segments, rest)| {
        if rest || segments.is_empty() {
            segments.push("**");
        }
        segments.join(":")
    })
}

fn words() -> impl Strategy<Value = Vec<Who>> {
    let all = vec![
        Who::Anyone,
        Who::Authenticated,
        Who::Subscriber,
        Who::Grant,
        Who::Hook,
        Who::Server,
        Who::Nobody,
        Who::claim("team", ["a", "b"]),
        Who::claim("sub", ["ada"]),
        Who::claim("team", [true]),
    ];
    prop::collection::vec(prop::sample::select(all), 1..3)
}

fn rule() -> impl Strategy<Value = Rule> {
    let reads = || prop_oneof![Just(vec![Who::Subscriber]), words()];
    (pattern(), [words(), words(), words(), words()], reads(), reads()).prop_map(
        |(pattern, [subscribe, publish, signal, enter], history_read, presence_read)| Rule {
            subscribe,
            publish,
            signal,
            enter,
            history_read,
            presence_read,
            ..Rule::open(Pattern::new(&pattern).expect("valid"))
        },
    )
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

/// Whether a name matches the pattern, and its captures, each with its segment.
fn model_match<'n>(pattern: &'n str, name: &'n str) -> Option<Vec<(&'n str, &'n str)>> {
    let (pattern, name): (Vec<&str>, Vec<&str>) = (pattern.split(':').collect(), name.split(':').collect());
    let rest = pattern.last() == Some(&"**");
    let fixed = if rest { &pattern[..pattern.len() - 1] } else { &pattern[..] };
    if name.len() < fixed.len() + usize::from(rest) || (!rest && name.len() != fixed.len()) {
        return None;
    }
    let is_capture = |part: &str| part.starts_with('{');
    let fits = fixed.iter().zip(&name).all(|(part, segment)| *part == "*" || is_capture(part) || part == segment);
    fits.then(|| fixed.iter().copied().zip(name).filter(|(part, _)| is_capture(part)).collect())
}

fn option(rule: &Rule, action: Action) -> &[Who] {
    match action {
        Action::Subscribe => &rule.subscribe,
        Action::Publish => &rule.publish,
        Action::Signal => &rule.signal,
        Action::Enter => &rule.enter,
        Action::ReadHistory => &rule.history_read,
        Action::ReadPresence => &rule.presence_read,
    }
}

fn model_words(rule: &Rule, action: Action, caller: &Caller) -> Gets {
    let one = |word: &Who| match (word.word(), word.to_string().as_str()) {
        ("anyone", _) => Gets::In,
        ("authenticated", _) if caller.user.is_some() => Gets::In,
        ("subscriber", _) if action != Action::Subscribe => model_words(rule, Action::Subscribe, caller),
        ("hook", _) => Gets::Asked,
        (_, r#"{ claim = "team", in = ["a", "b"] }"#) if caller.is_in("a") || caller.is_in("b") => Gets::In,
        (_, r#"{ claim = "sub", in = ["ada"] }"#) if caller.user.as_deref() == Some("ada") => Gets::In,
        _ => Gets::Refused,
    };
    option(rule, action).iter().map(one).max().expect("at least one")
}

/// The verdict of a single rule.
fn model(rule: &Rule, captured: &[(&str, &str)], action: Action, caller: &Caller) -> Gets {
    if captured.iter().all(|captured| caller.has(captured)) { model_words(rule, action, caller) } else { Gets::Refused }
}

fn gets(rules: &Rules, name: &str, action: Action, caller: &Caller) -> Gets {
    let (user, claims) = (caller.user.as_deref().map(|user| UserId(user.into())), caller.claims());
    let caller = Entitlement { user: user.as_ref(), grants: &[], claims: Some(claims.as_bytes()) };
    let verdict = rules.verdict(name, action, caller);
    // A judge that cannot ask the application allows exactly the callers that the rules themselves allow.
    let judged = rules.judge(name, action, caller);
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
        rules in prop::collection::vec(rule(), 0..7).prop_shuffle(), name in name(), caller in caller(),
    ) {
        let first = rules.iter().find_map(|rule| {
            model_match(rule.pattern.as_str(), &name).map(|captured| (rule, captured))
        });
        let table = Rules::new(rules.clone());
        for action in ACTIONS {
            let found = gets(&table, &name, action, &caller);
            let Some((rule, captured)) = &first else {
                prop_assert_eq!(found, Gets::Refused);
                prop_assert_eq!(table.verdict(&name, action, None).expect_err("no rule"), Denial::NoRule);
                continue;
            };
            prop_assert_eq!(found, model(rule, captured, action, &caller), "{:?} of {}", action, rule.pattern);
            let alone = Rules::new(vec![(*rule).clone()]);
            prop_assert_eq!(found, gets(&alone, &name, action, &caller));
        }
    }

    /// A grant lets in whom its pattern and its actions name, where the rule has the word, and nobody else.
    #[test]
    fn a_grant_counts_where_a_rule_asks_for_it(
        rule in rule(), name in name(), caller in caller(), grants in grants(),
    ) {
        let granted = |action| {
            grants.iter().any(|(pattern, allow)| {
                let captured = model_match(pattern, &name);
                allow.contains(&action)
                    && captured.is_some_and(|captured| captured.iter().all(|it| caller.has(it)))
            })
        };
        let of_rule = model_match(rule.pattern.as_str(), &name);
        let claims = caller.claims();
        let id = caller.user.as_deref().map(|user| UserId(user.into()));
        let kept: Vec<Grant> = grants
            .iter()
            .map(|(pattern, allow)| Grant { pattern: Pattern::new(pattern).expect("valid"), allow: allow.clone() })
            .collect();
        for action in ACTIONS {
            let entitled = Entitlement { user: id.as_ref(), grants: &kept, claims: Some(claims.as_bytes()) };
            let found = Rules::new(vec![rule.clone()]).judge(&name, action, entitled).is_ok();
            let by_grant = option(&rule, action).contains(&Who::Grant) && granted(action);
            let as_subscriber = action != Action::Subscribe
                && option(&rule, action).contains(&Who::Subscriber)
                && option(&rule, Action::Subscribe).contains(&Who::Grant)
                && granted(Action::Subscribe);
            let expected = of_rule.as_ref().is_some_and(|captured| {
                let without = model(&rule, captured, action, &caller) == Gets::In;
                let is_theirs = captured.iter().all(|it| caller.has(it));
                without || is_theirs && (by_grant || as_subscriber)
            });
            prop_assert_eq!(found, expected, "{:?}", action);
        }
    }

    /// Rules that are added below never change the verdict for a name that a rule above matches.
    #[test]
    fn a_rule_below_lets_nobody_in(
        above in prop::collection::vec(rule(), 1..4), below in prop::collection::vec(rule(), 0..4), name in name(), caller in caller(),
    ) {
        let alone = Rules::new(above.clone());
        let both = Rules::new(above.into_iter().chain(below).collect());
        if alone.of(&name).is_some() {
            for action in ACTIONS {
                let (alone, both) = (gets(&alone, &name, action, &caller), gets(&both, &name, action, &caller));
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
