//! The rules of channels as a file has them: options, conditions, and warnings about several rules together.

use super::*;
use fanfare_hub::{Past, Rule, Who};

#[test]
fn a_rule_begins_closed_and_presence_opens_entering() {
    let settings = load("[[channels]]\nmatch = \"a\"\n[[channels]]\nmatch = \"b\"\npresence = true\n");
    let rules: Vec<&Rule> = settings.config.rules.iter().collect();
    for who in [&rules[0].subscribe, &rules[0].publish, &rules[0].signal, &rules[0].enter, &rules[1].publish] {
        assert_eq!(**who, [Who::Nobody]);
    }
    assert_eq!(rules[1].enter, [Who::Subscriber]);
}

#[test]
fn conditions_on_claims_are_read_and_shown_as_they_are_written() {
    let file = "[[channels]]\nmatch = \"team:{claims.org.team}:*\"\npublish = [{ claim = \"role\", in = [\"a\", 7, true] }, \
                \"grant\"]\nhistory_read = { claim = \"sub\", in = \"ada\" }\npresence_read = \"anyone\"\n";
    let settings = load(file);
    let rule = settings.config.rules.iter().next().expect("one");
    let role = Who::claim_of("role", vec!["a".into(), 7.into(), true.into()]);
    assert_eq!(rule.publish, [role, Who::Grant]);
    assert_eq!(rule.history_read, [Who::claim("sub", ["ada"])]);
    let shown = show_rule(rule);
    let of = |option: &str| shown.iter().find(|(name, _)| *name == option).map(|(_, value)| value.as_str());
    assert_eq!(of("match"), Some("\"team:{claims.org.team}:*\""));
    assert_eq!(of("publish"), Some("[{ claim = \"role\", in = [\"a\", 7, true] }, \"grant\"]"));
    assert_eq!(
        (of("history_read"), of("presence_read")),
        (Some("{ claim = \"sub\", in = [\"ada\"] }"), Some("\"anyone\""))
    );
    // As it was shown it reads back as the same.
    let again: String = shown.iter().map(|(option, value)| format!("{option} = {value}\n")).collect();
    let again = load(&format!("[[channels]]\n{again}"));
    assert_eq!(show_rule(again.config.rules.iter().next().expect("one")), shown);
    let problems = refused("[[channels]]\nmatch = \"a\"\npublish = { claim = \"role\", in = [\"${UNSET}\"] }\n");
    assert_eq!(problems.len(), 1, "an unset variable is told once: {problems:?}");
}

#[test]
fn how_far_back_clients_read_is_one_of_three_words() {
    let file = |read: &str| format!("[[channels]]\nmatch = \"a\"\nread = \"{read}\"\n");
    for past in Past::ALL {
        let settings = load(&file(past.word()));
        let rule = settings.config.rules.iter().next().expect("one");
        assert_eq!(rule.read, past);
        let shown = show_rule(rule).into_iter().find(|(name, _)| *name == "read").map(|(_, value)| value);
        let expected = Some(format!("{:?}", past.word())).filter(|_| past != Past::All);
        assert_eq!(shown, expected, "only where it is not the default");
    }
    assert_eq!(load("[[channels]]\nmatch = \"a\"\n").config.rules.iter().next().expect("one").read, Past::All);
    assert_eq!(refused(&file("since-join"))[0].hint, "did you mean \"since_join\"?");
}

#[test]
fn presence_may_stand_in_a_variable() {
    use fanfare_hub::PresenceMode;
    let file = "[[channels]]\nmatch = \"a\"\npresence = \"${ON}\"\n";
    for (value, expected) in [
        ("true", Some(PresenceMode::Full)),
        ("false", Some(PresenceMode::Off)),
        ("count", Some(PresenceMode::Count)),
        ("yes", None),
    ] {
        let settings = Settings::load(Sources { environment: variables(&[("ON", value)]), ..sources(file) });
        let found = settings.ok().map(|settings| settings.config.rules.iter().next().expect("one").presence);
        assert_eq!(found, expected, "{value}");
    }
    assert_eq!(refused("[[channels]]\nmatch = \"a\"\npresence = \"true\"\n")[0].hint, "write true without quotes");
}

#[test]
fn the_time_of_a_rate_has_a_bound() {
    let file = |rate: &str| format!("[[channels]]\nmatch = \"a\"\nrate = {rate:?}\n");
    let rate = |text: &str| load(&file(text)).config.rules.iter().next().expect("one").rate;
    assert_eq!(rate("1/365d").map(|rate| (rate.count_max, rate.window_ms)), Some((1, 31_536_000_000)));
    for text in ["1/366d", "1/213503982334d"] {
        let problems = refused(&file(text));
        assert_eq!((problems.len(), problems[0].hint.as_str()), (1, "the maximum is 365d"), "{text}");
    }
}

#[test]
fn rules_remember_the_lines_of_their_options() {
    let settings =
        load("# first\n\n[[channels]]\nmatch = \"a:*\"\n# why\npublish = [\n  \"authenticated\",\n  \"hook\",\n]\n");
    let PlacedRule { rule, place } = settings.rules().next().expect("one");
    assert_eq!(rule.publish, [Who::Authenticated, Who::Hook]);
    let place = place.expect("from a file");
    assert_eq!((place.at.line(), place.of("publish").and_then(Source::line)), (Some(4), Some(6)));
    assert_eq!(place.of("subscribe"), None);
}

#[test]
fn channels_that_nobody_publishes_to_are_told_once() {
    let rules = |publish: &[&str]| -> String {
        let rule =
            |(index, publish): (usize, &&str)| format!("[[channels]]\nmatch = \"a{index}\"\npublish = {publish}\n");
        publish.iter().enumerate().map(rule).collect()
    };
    let warnings = |file: String| {
        let settings = Settings::load(Sources { has_handlers: false, ..sources(&file) });
        let settings = settings.unwrap_or_else(|problems| panic!("{problems}"));
        settings
            .warnings()
            .iter()
            .map(|one| (one.at.line(), one.problem.starts_with("nobody can publish")))
            .collect::<Vec<_>>()
    };
    assert_eq!(warnings(rules(&["\"anyone\"", "\"server\"", "\"server\""])), [(Some(6), true)]);
    assert_eq!(warnings(rules(&["[\"server\", \"authenticated\"]"])), [(Some(3), false)], "some users may, later");
    assert_eq!(warnings(format!("[api_keys]\na = \"0123456789abcdef\"\n{}", rules(&["\"server\""]))), []);
    assert_eq!(warnings(String::new()), [(Some(0), false)], "a file without rules");
}

#[test]
fn a_loose_rule_above_a_stricter_one_that_it_crosses_is_told() {
    let rows = [
        // (the rules' patterns with `subscribe`, how many warnings)
        ([("chat:*", "anyone"), ("*:private", "nobody")], 1),
        ([("*:private", "nobody"), ("chat:*", "anyone")], 0),
        ([("chat:lobby", "anyone"), ("chat:*", "authenticated")], 0), // an exception, as one writes it
        ([("a:*", "anyone"), ("b:*", "nobody")], 0),
        ([("a:*", "authenticated"), ("{user}:b", "authenticated")], 1),
        ([("*:a", "hook"), ("b:*", "nobody")], 1),
        ([("*:a", "hook"), ("b:*", "anyone")], 0),
        ([("a:*", "authenticated"), ("{claims.team}:b", "authenticated")], 1),
    ];
    for (rules, expected) in rows {
        let file: String = rules
            .iter()
            .map(|(pattern, who)| format!("[[channels]]\nmatch = \"{pattern}\"\nsubscribe = \"{who}\"\n"))
            .collect();
        let settings = load(&file);
        assert_eq!(settings.warnings().len(), expected, "{rules:?}: {:?}", settings.warnings());
    }
}
