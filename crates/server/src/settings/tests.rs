//! The settings as a whole: the precedence of the sources, the origin of each value, and that the table agrees with
//! itself.

use super::*;
use fanfare_hub::{Rule, Who};
use proptest::prelude::*;

fn of_file(path: &str, text: &str) -> Option<SourceFile> {
    Some(SourceFile { path: path.to_owned(), text: text.to_owned() })
}

fn sources(file: &str) -> Sources {
    Sources {
        defaults: Settings::default(),
        file: of_file("f.toml", file),
        environment: Vec::new(),
        flags: Vec::new(),
        dev_key: None,
        has_handlers: true,
    }
}

fn load(file: &str) -> Settings {
    Settings::load(sources(file)).unwrap_or_else(|problems| panic!("{problems}"))
}

fn refused(file: &str) -> Vec<Problem> {
    Settings::load(sources(file)).expect_err("it is wrong").0
}

fn variables(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

fn setting(key: &str) -> &'static Setting {
    Setting::of(key).expect("a known key")
}

#[test]
fn a_flag_stands_before_the_environment_before_the_file_before_the_default() {
    let file = "[limits]\nmessage_bytes_max = \"8KiB\"\nsignals_waiting_max = 8\nsubscriptions_max = 8\n";
    let environment = variables(&[
        ("FANFARE__LIMITS__SIGNALS_WAITING_MAX", "9"),
        ("FANFARE__LIMITS__SUBSCRIPTIONS_MAX", "9"),
        ("HOME", "/"),
    ]);
    let flags = vec![(setting("limits.subscriptions_max"), "10".to_owned())];
    let settings = Settings::load(Sources { environment, flags, ..sources(file) }).expect("good");
    let limits = &settings.config.limits;
    assert_eq!(limits.message_bytes_max, 8 << 10);
    assert_eq!((limits.signals_waiting_max, limits.subscriptions_max, limits.outstanding_max), (9, 10, 32));
    let from = |key| settings.source(setting(key)).to_string();
    assert_eq!(from("limits.message_bytes_max"), "f.toml:2");
    assert_eq!(from("limits.signals_waiting_max"), "environment variable FANFARE__LIMITS__SIGNALS_WAITING_MAX");
    assert_eq!(from("limits.subscriptions_max"), "--limits-subscriptions-max");
    assert_eq!(from("limits.outstanding_max"), "default");
}

#[test]
fn a_wrong_value_is_told_even_where_another_source_stands_before_it() {
    let environment = variables(&[("FANFARE__SHARDS", "2")]);
    let problems = Settings::load(Sources { environment, ..sources("shards = 0") }).expect_err("wrong in the file").0;
    assert_eq!((problems.len(), problems[0].at.line()), (1, Some(1)));
}

/// The printed value of a setting reads back as the same value, in the file and in a flag.
#[test]
fn every_default_reads_back_from_the_file_and_from_a_flag() {
    let defaults = Settings::dev();
    for setting in SETTINGS {
        let shown = defaults.shown(setting);
        let again = load(&format!("{} = {shown}\n", setting.key));
        assert_eq!(again.shown(setting), shown, "{}", setting.key);
        let flag = shown.trim_matches(['[', ']', '"']).replace("\", \"", ",");
        let flags = vec![(setting, flag)];
        let again = Settings::load(Sources { flags, ..sources("") }).unwrap_or_else(|problems| panic!("{problems}"));
        assert_eq!(again.shown(setting), shown, "{}", setting.key);
    }
}

#[test]
fn every_setting_has_a_section_a_doc_and_names_of_its_own() {
    let mut names = std::collections::BTreeSet::new();
    for setting in SETTINGS {
        assert!(is_section(setting.section()) || setting.section().is_empty(), "{}", setting.key);
        assert!(setting.doc.ends_with('.'), "{}: a doc is a sentence", setting.key);
        assert!(names.insert(setting.flag()) && names.insert(setting.variable()), "{}", setting.key);
    }
}

/// A bound that nobody can set is one that the table has forgotten.
#[test]
fn every_limit_of_the_hub_is_a_setting() {
    let elsewhere = [
        ("grace", "session.grace"),
        ("connect_timeout", "session.connect_timeout"),
        ("heartbeat", "heartbeat.interval"),
        ("pong_timeout", "socketio.ping_timeout"),
        ("room_message_bytes_max", "socketio.max_payload"),
    ];
    let shown = format!("{:?}", fanfare_hub::Limits::default());
    let fields = shown.split(['{', ',']).skip(1).filter_map(|field| field.split_once(':')).map(|(name, _)| name.trim());
    for field in fields {
        let name = &field.replace("_ms", "");
        let other = elsewhere.iter().find(|(of, _)| of == name).map(|(_, key)| (*key).to_owned());
        let key = other.unwrap_or_else(|| format!("limits.{name}"));
        assert!(Setting::of(&key).is_some(), "{field} of Limits, and the setting {key}");
    }
}

#[test]
fn variables_of_the_environment_stand_in_strings() {
    let environment = variables(&[("PORT", "9000"), ("COUNT", "7")]);
    let file = "listen = \"127.0.0.1:${PORT}\"\nshards = \"${COUNT}\"\norigins = [\"https://a.example\"]\n";
    let settings = Settings::load(Sources { environment, ..sources(file) }).expect("good");
    assert_eq!(settings.shown(setting("listen")), "[\"127.0.0.1:9000\"]");
    assert_eq!(settings.config.shards, 7);
    let problems = refused("listen = \"127.0.0.1:${PORT}\"");
    assert!(problems[0].problem.contains("PORT is not set"), "{}", problems[0]);
    let plain = load("listen = \"unix:/tmp/$${PORT}\"");
    assert_eq!(plain.shown(setting("listen")), "[\"unix:/tmp/${PORT}\"]");
}

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
fn api_keys_come_from_text_file_and_environment_and_are_never_printed() {
    let folder = std::env::temp_dir().join(format!("fanfare-keys-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a folder");
    std::fs::write(folder.join("key"), "of-the-file-0123456789\n").expect("written");
    let path = folder.join("f.toml").to_str().expect("UTF-8").to_owned();
    let file = "[api_keys]\na = \"of-the-text-0123456789\"\nb = { key_file = \"key\", commands = [\"publish\"], channels = [\"a:*\"] }\n";
    let environment = variables(&[("FANFARE__API_KEYS__C", "of-the-environment-01")]);
    let settings = Settings::load(Sources { environment, file: of_file(&path, file), ..sources("") });
    std::fs::remove_dir_all(&folder).expect("removed");
    let settings = settings.unwrap_or_else(|problems| panic!("{problems}"));
    let keys: Vec<(&str, &str)> =
        settings.api_keys.iter().map(|key| (key.name.as_str(), key.keys[0].expose())).collect();
    assert_eq!(
        keys,
        [("a", "of-the-text-0123456789"), ("b", "of-the-file-0123456789"), ("c", "of-the-environment-01")]
    );
    assert!(!format!("{settings:?}").contains("0123456789"), "Debug hides keys");
}

#[test]
fn certificate_and_key_are_read_beside_the_file_and_must_fit() {
    let folder = std::env::temp_dir().join(format!("fanfare-tls-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a folder");
    let made = || rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
    let (ours, other) = (made(), made());
    std::fs::write(folder.join("chain.pem"), ours.cert.pem()).expect("written");
    std::fs::write(folder.join("key.pem"), ours.signing_key.serialize_pem()).expect("written");
    std::fs::write(folder.join("other.pem"), other.signing_key.serialize_pem()).expect("written");
    let path = folder.join("f.toml").to_str().expect("UTF-8").to_owned();
    let load = |tls: &str| Settings::load(Sources { file: of_file(&path, &format!("[tls]\n{tls}")), ..sources("") });
    let loaded = load("certificate = \"chain.pem\"\nkey = \"key.pem\"\n").unwrap_or_else(|error| panic!("{error}"));
    assert!(loaded.config.tls.is_some() && load("").expect("no TLS").config.tls.is_none());
    // (what is written, the line that is blamed, the words)
    let rows = [
        ("certificate = \"chain.pem\"", 2, "tls.certificate is set, and tls.key is not"),
        ("key = \"key.pem\"", 2, "tls.key is set, and tls.certificate is not"),
        ("certificate = \"chain.pem\"\nkey = \"other.pem\"", 2, "do not fit"),
        ("certificate = \"chain.pem\"\nkey = \"none.pem\"", 3, "cannot read"),
        ("certificate = \"none.pem\"\nkey = \"key.pem\"", 2, "cannot read"),
        ("certificate = \"key.pem\"\nkey = \"key.pem\"", 2, "no certificate"),
        ("certificate = \"chain.pem\"\nkey = \"chain.pem\"", 3, "no private key"),
        ("acme_domains = [\"a.example\"]\ncertificate = \"chain.pem\"\nkey = \"key.pem\"", 2, "both ordered and read"),
        ("certificate = 1\nkey = \"key.pem\"", 2, "it is a number"),
    ];
    let found: Vec<_> = rows.iter().map(|(tls, ..)| load(tls).expect_err(tls)).collect();
    std::fs::remove_dir_all(&folder).expect("removed");
    for ((tls, line, words), Problems(problems)) in rows.iter().zip(found) {
        let [problem] = &problems[..] else { panic!("{tls}: {problems:?}") };
        assert_eq!(problem.at.line(), Some(*line), "{tls}: {problem}");
        assert!(problem.problem.contains(words), "{tls}: {problem}");
    }
}

/// Editors of Windows write one.
#[test]
fn a_byte_order_mark_before_the_file_or_a_key_is_ignored() {
    let folder = std::env::temp_dir().join(format!("fanfare-marks-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a folder");
    std::fs::write(folder.join("key"), "\u{feff}of-the-file-0123456789\r\n").expect("written");
    let path = folder.join("f.toml").to_str().expect("UTF-8").to_owned();
    let file = "\u{feff}shards = 3\n[api_keys]\na = { key_file = \"key\" }\n";
    let settings = Settings::load(Sources { file: of_file(&path, file), ..sources("") });
    std::fs::remove_dir_all(&folder).expect("removed");
    let settings = settings.unwrap_or_else(|problems| panic!("{problems}"));
    assert_eq!((settings.config.shards, settings.api_keys[0].keys[0].expose()), (3, "of-the-file-0123456789"));
    let problems = refused("\u{feff}shards = 3\nshards = 4\n");
    assert_eq!(problems[0].at.line(), Some(2), "{}", problems[0]);
}

#[test]
fn a_variable_that_is_empty_is_not_set() {
    let every: Vec<(String, String)> = SETTINGS.iter().map(|setting| (setting.variable(), String::new())).collect();
    let others = variables(&[("FANFARE__API_KEYS__A", ""), ("FANFARE__NO_SUCH_THING", ""), ("FANFARE__CHANNELS", "")]);
    let environment = every.into_iter().chain(others).collect();
    let settings = Settings::load(Sources { environment, ..sources("shards = 3\n") }).expect("good");
    assert_eq!(settings.config.shards, 3);
    assert_eq!(settings.differing(&load("shards = 3\n")), [""; 0]);
    let environment = variables(&[("EMPTY", "")]);
    let Err(problems) = Settings::load(Sources { environment, ..sources("log.level = \"${EMPTY}info\"\n") }) else {
        panic!("it is not set")
    };
    assert_eq!(problems.0[0].problem, "the variable EMPTY is not set, or empty");
}

/// A rotated key may do what the old one might, no more.
#[test]
fn a_variable_for_a_key_of_the_file_keeps_its_restrictions() {
    let file = "[api_keys]\nnews = { key = \"of-the-file-0123456789\", commands = [\"publish\"], channels = [\"news:**\"] }\n\
                dev = { key = \"dev-of-the-file-01234\", commands = [\"info\"] }\n";
    let environment = variables(&[("FANFARE__API_KEYS__NEWS", "of-the-environment-01")]);
    let dev_key = Some(DevKey { at: Source::Flag("--api-key".into()), key: "of-the-flag-0123456789".to_owned() });
    let settings = Settings::load(Sources { environment, dev_key, ..sources(file) });
    let settings = settings.unwrap_or_else(|problems| panic!("{problems}"));
    let of = |name: &str| settings.api_keys.iter().find(|key| key.name == name).expect("it is there");
    let (news, dev) = (of("news"), of("dev"));
    assert_eq!((news.keys.len(), news.keys[0].expose()), (1, "of-the-environment-01"));
    assert_eq!(news.commands, Some(vec![fanfare_wire::native::app::ApiCommand::Publish]));
    assert_eq!(news.channels, Some(vec![fanfare_hub::Pattern::new("news:**").expect("a pattern")]));
    assert_eq!(news.at, Source::Environment("FANFARE__API_KEYS__NEWS".into()));
    assert_eq!((dev.keys[0].expose(), dev.commands.as_deref().map(<[_]>::len)), ("of-the-flag-0123456789", Some(1)));
    assert_eq!(settings.config.api_keys.len(), 2);
}

/// No problem of a key repeats the key's text.
#[test]
fn no_problem_repeats_a_key() {
    const SECRET: &str = "hunter2";
    let files = [
        "[api_keys]\na = \"hunter2\"\n",
        "[api_keys]\na = { key = \"hunter2\" }\n",
        "[api_keys]\na = { kee = \"hunter2hunter2hunter2\" }\n",
        "[api_keys]\na = [[\"hunter2hunter2hunter2\"]]\n",
        "[api_keys]\na = \"hunter2 with spaces 123\"\n",
        "[api_keys]\na = \"hunter2\n",
        "[api_keys]\nA = \"hunter2hunter2hunter2\"\n",
        "[api_keys]\na = \"hunter2hunter2hunter2\"\nb = \"hunter2hunter2hunter2\"\n",
        "api_key = \"hunter2hunter2hunter2\"\n",
        "api_keys = \"hunter2hunter2hunter2\"\n",
        "secret = \"hunter2hunter2hunter2\"\n",
        "[auth]\njwt_secret = \"hunter2hunter2hunter2\"\n",
        "[auth]\njwt_secret = [\"hunter2hunter2hunter2\"]\n",
        "api_keys.backend = \"hunter2hunter2hunter2\n",
        "api_keys = { backend = \"hunter2hunter2hunter2 }\n",
        "api_keys = { backend = hunter2hunter2hunter2 }\n",
        "[api_keys]\nbackend = [\n  \"aaaaaaaaaaaaaaaaaa\",\n  \"hunter2hunter2hunter2\n]\n",
        "[api_keys]\nbackend = [\n  hunter2hunter2hunter2==,\n]\n",
        "[api_keys]\nbackend = hunter2hunter2hunter2\n",
        "[api_keys]\nbackend: hunter2hunter2hunter2\n",
        "[api_keys]\nshards = \"hunter2hunter2hunter2\n",
        "[ api_keys ]\nbackend = { key = 'hunter2hunter2hunter2 }\n",
        "[api_keys]\nbackend = \"hunter2hunter2${hunter2 3}\"\n",
        "[api_keys]\nbackend = \"hunter2hunter2${UNSET\"\n",
        "[api_keys]\nbackend = \"hunter2hunter2${UNSET}\"\n",
        "[apikeys]\nbackend = [\"hunter2hunter2hunter2\"]\n",
        "APIKEYS.backend = \"hunter2hunter2hunter2\"\n",
        "[[apikeys]]\nbackend = \"hunter2hunter2hunter2\"\n",
        "hunter2hunter2hunter2\n",
    ];
    for file in files {
        let problems = Problems(refused(file)).to_string();
        assert!(!problems.contains(SECRET), "{file}\n{problems}");
    }
    let names = [
        "FANFARE__API_KEY",
        "FANFARE__API_KEYS",
        "FANFARE__API_KEYS__A",
        "FANFARE__API_KEYS_BACKEND",
        "FANFARE__APIKEYS__BACKEND",
        "FANFARE__BACKEND",
        "FANFARE__LIMITS",
        "FANFARE__HOOKS__AUTH",
    ];
    for name in names {
        let environment = variables(&[(name, "hunter2")]);
        let problems = Settings::load(Sources { environment, ..sources("") }).expect_err("wrong").to_string();
        assert!(!problems.contains(SECRET) && problems.contains(name), "{problems}");
    }
}

#[test]
fn differences_from_a_running_server_are_named() {
    let running = load("shards = 2\n[api_keys]\na = \"0123456789abcdef\"\n");
    let again =
        load("[limits]\nsignals_waiting_max = 5\n[api_keys]\na = \"0123456789abcdeF\"\n[[channels]]\nmatch = \"a\"\n");
    let shards = (again.config.shards != 2).then_some("shards");
    let expected: Vec<&str> = shards.into_iter().chain(["limits.signals_waiting_max"]).collect();
    assert_eq!(again.differing(&running), expected);
    assert!(running.differing(&running.clone()).is_empty());
}

#[test]
fn the_file_to_begin_with_is_good_and_says_nothing() {
    let file = commented_file("\"0123456789abcdef\"");
    let settings = Settings::load(Sources { has_handlers: false, ..sources(&file) });
    let settings = settings.unwrap_or_else(|problems| panic!("{problems}"));
    assert_eq!(settings.warnings(), []);
    assert!(settings.config.rules.iter().count() > 0);
    assert_eq!(settings.api_keys.len(), 1);
    assert!(settings.differing(&Settings::default()).is_empty(), "it changes no other setting");
}

/// Every setting in it reads back when its `#` is taken away, as it says.
#[test]
fn the_file_to_begin_with_is_good_with_everything_switched_on() {
    let file: Vec<String> = commented_file("\"0123456789abcdef\"")
        .lines()
        .map(|line| match line.strip_prefix('#') {
            Some(rest) if !rest.is_empty() && !rest.starts_with(' ') => rest.to_owned(),
            _ => line.to_owned(),
        })
        .collect();
    let settings = load(&file.join("\n"));
    let from_file = |setting: &&Setting| settings.source(setting).line().is_some();
    let depends_on_the_machine = SETTINGS.iter().filter(|setting| setting.default.is_some()).count();
    assert_eq!(SETTINGS.iter().filter(from_file).count(), SETTINGS.len() - depends_on_the_machine);
    assert!(settings.differing(&Settings::default()).is_empty(), "each is the default, as the file says");
}

/// An unset variable is one mistake among others: it hides none, and nothing follows from it.
#[test]
fn an_unset_variable_hides_no_other_mistake_and_makes_none() {
    let file = "shards = 0\nlisten = [\"127.0.0.1:${PORT}\"]\n[limits]\noutbox_bytes_max = \"${SIZE}\"\nmessage_bytes_max = \"1MB\"\n\
                page_bytes_max = \"2MB\"\nkesy_max = \"${SIZE}\"\n[api_keys]\na = { key = \"${A}\", commands = [\"fly\"], channels = [] }\n\
                [[channels]]\nmatch = \"${A}:${B}\"\npublish = \"server\"\nenter = \"anyone\"\npresence = \"${A}\"\nslow = \"no\"\n\
                [[channels]]\nmatch = \"b\"\npublish = \"server\"\nhistory = { size = \"${A}\", ttl = 5 }\n";
    let sources = Sources { has_handlers: false, ..sources(file) };
    let Err(problems) = Settings::load(sources) else { panic!("much is wrong") };
    let found: Vec<(usize, &str)> =
        problems.0.iter().map(|one| (one.at.line().unwrap_or_default(), one.problem.as_str())).collect();
    let expected = [
        (1, "it is too small"),
        (2, "the variable PORT is not set, or empty"),
        (4, "the variable SIZE is not set, or empty"),
        (7, "the variable SIZE is not set, or empty"),
        (7, "there is no such setting"),
        (9, "the variable A is not set, or empty"),
        (9, "\"fly\" is not a command of the API"),
        (9, "the key could name no channel"),
        (11, "the variables A and B are not set, or empty"),
        (14, "the variable A is not set, or empty"),
        (15, "\"no\" is not one of the words"),
        (19, "the variable A is not set, or empty"),
        (19, "it has no unit"),
    ];
    assert_eq!(found, expected, "{problems}");
    for (index, export) in
        [(1, "export PORT=…"), (5, "export A=\"$(openssl rand -hex 16)\""), (8, "export A=…; export B=…")]
    {
        assert!(problems.0[index].hint.ends_with(export), "{}", problems.0[index]);
    }
}

#[test]
fn valid_settings_are_loaded_beside_invalid_ones() {
    let file = "shards = 3\nlisten = \"127.0.0.1:${PORT}\"\n[api_keys]\na = \"${A}\"\nb = \"0123456789abcdef\"\n\
                [[channels]]\nmatch = \"a\"\npublish = \"servr\"\n[[channels]]\nmatch = \"b\"\n";
    let partial = Settings::load_partial(sources(file)).unwrap_or_else(|problems| panic!("{problems}"));
    assert_eq!(partial.settings.config.shards, 3);
    assert_eq!(partial.settings.api_keys.iter().map(|key| key.name.as_str()).collect::<Vec<_>>(), ["b"]);
    assert_eq!(partial.settings.rules().map(|found| found.rule.pattern.as_str()).collect::<Vec<_>>(), ["b"]);
    let about_rules: Vec<bool> = partial.problems.errors().map(Problem::is_about_rules).collect();
    assert_eq!(about_rules, [false, false, true]);
    assert!(Settings::load_partial(sources("shards = \n")).is_err(), "of what is no TOML nothing is known");
}

#[test]
fn a_key_of_dev_is_one_more_and_may_be_one_of_the_files() {
    let load = |file: &str, key: &str| {
        let dev_key = Some(DevKey { at: Source::Flag("--api-key".into()), key: key.to_owned() });
        Settings::load(Sources { dev_key, has_handlers: false, ..sources(file) })
    };
    let names = |settings: Settings| settings.api_keys.into_iter().map(|key| key.name).collect::<Vec<_>>();
    let file = "[api_keys]\na = \"0123456789abcdef\"\n[[channels]]\nmatch = \"a\"\n";
    assert_eq!(names(load(file, "0123456789abcdeF").expect("good")), ["a", "dev"]);
    assert_eq!(names(load(file, "0123456789abcdef").expect("good")), ["a"]);
    let problems = load("", "abc").expect_err("it is too short");
    let said = problems.to_string();
    assert!(said.starts_with("error: --api-key: api_keys.dev: a key of 3 characters is too short\n"), "{said}");
    // And so there is somebody who publishes.
    let rule = "[[channels]]\nmatch = \"a\"\npublish = \"server\"\n";
    assert_eq!(load(rule, "0123456789abcdef").expect("good").warnings(), []);
    assert_eq!(Settings::load(sources(rule)).expect("good").warnings(), [], "handlers publish without a key");
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

/// A file as somebody would write it, with a few characters changed.
fn mangled() -> impl Strategy<Value = String> {
    let file = "listen = [\"127.0.0.1:80\"]\n[limits]\nsignals_waiting_max = 5\nidempotency_keys_ttl = \"1.5h\"\n[api_keys]\na = { key = \"${X}\" }\n\
                [[channels]]\nmatch = \"a:*:{user}\"\nhistory = { size = 1, ttl = \"5s\" }\nrate = \"5/s\"\npublish = [\"hook\"]\n";
    let change = (0..file.len(), prop::sample::select(&b"\"'[]{}=#$\n.:,*0z \\"[..]));
    prop::collection::vec(change, 0..6).prop_map(move |changes| {
        let mut bytes = file.as_bytes().to_vec();
        for (at, byte) in changes {
            bytes[at] = byte;
        }
        String::from_utf8(bytes).expect("ASCII")
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(400) })]

    /// For any file, each problem names a line of that file.
    #[test]
    fn any_text_is_taken_or_told_what_is_wrong_with_a_line(file in prop_oneof![mangled(), any::<String>()]) {
        if let Err(problems) = Settings::load(sources(&file)) {
            for problem in &problems.0 {
                let line = problem.at.line().expect("all of it is from the file");
                prop_assert!((1..=file.matches('\n').count() + 1).contains(&line), "line {} of {:?}", line, file);
                prop_assert!(!problem.hint.is_empty() && !problem.allowed.is_empty(), "{}", problem);
            }
        }
    }
}

/// A file with a rule for each tenant is read while somebody waits.
#[test]
fn a_thousand_rules_are_checked_and_what_is_wrong_among_them_is_found() {
    let rule =
        |pattern: &str, subscribe: &str| format!("[[channels]]\nmatch = {pattern:?}\nsubscribe = {subscribe:?}\n");
    let mut file: String = (0..1000).map(|at| rule(&format!("tenant{at}:*"), "anyone")).collect();
    file.push_str(&rule("**", "nobody"));
    assert_eq!(load(&file).warnings(), []);
    file.push_str(&rule("tenant7:*", "anyone"));
    let problems = refused(&file);
    assert_eq!(problems.len(), 1, "{}", Problems(problems));
    assert!(problems[0].problem.contains("\"tenant7:*\" (f.toml:23)"), "{}", problems[0]);
}

/// A configuration that is made in code is not read by the table; with a zero that a file may not have it would serve
/// nobody.
#[test]
fn a_zero_in_code_is_refused_where_a_file_may_not_have_it() {
    let none = std::time::Duration::ZERO;
    let limits = |change: fn(&mut fanfare_hub::Limits)| {
        let mut config = Config::default();
        change(&mut config.limits);
        config
    };
    let rows = [
        ("limits.head_timeout", Config { head_timeout: none, ..Config::default() }),
        ("limits.head_bytes_max", Config { head_bytes_max: 0, ..Config::default() }),
        ("limits.pages_outstanding_max", Config { pages_outstanding_max: 0, ..Config::default() }),
        ("limits.write_timeout", Config { write_timeout: none, ..Config::default() }),
        ("limits.message_bytes_max", limits(|limits| limits.message_bytes_max = 0)),
        ("limits.hook_timeout", limits(|limits| limits.hook_timeout_ms = 0)),
    ];
    for (option, config) in rows {
        let error = crate::Fanfare::builder(()).config(config).build().err().expect(option).to_string();
        let allowed = Setting::of(option).expect("in the table").allowed();
        assert!(error.starts_with(option) && error.ends_with(&allowed), "{option}: {error}");
    }
    let zeros = Config { connections_max: 0, shutdown_delay: none, ..Config::default() };
    assert!(crate::Fanfare::builder(()).config(zeros).build().is_ok(), "these say: no limit, no delay");
}

#[test]
fn listeners_for_proxies_are_listened_on_and_have_a_trusted_proxy() {
    let listen = "listen = [\"127.0.0.1:1\", \"unix:/run/a.sock\"]\n";
    let rows = [
        (
            "proxy_protocol = \"127.0.0.1:2\"\ntrusted_proxies = \"loopback\"",
            "proxy_protocol",
            "not an address of listen",
        ),
        ("proxy_protocol = [\"127.0.0.1:1\"]", "proxy_protocol", "trusted_proxies is empty"),
        ("trusted_proxies = [\"proxy.example\"]", "trusted_proxies", "is not a proxy"),
        ("trusted_proxies = [\"10.0.0.1/8\"]", "trusted_proxies", "is not a proxy"),
        ("trusted_proxies = [8]", "trusted_proxies", "the list holds"),
        ("base_path = \"realtime\"", "base_path", "is not a path"),
        ("base_path = 1", "base_path", "it is a number"),
    ];
    for (text, key, expected) in rows {
        let problems = refused(&format!("{listen}{text}\n"));
        assert_eq!(problems.len(), 1, "{text}: {problems:?}");
        assert!(problems[0].key == key && problems[0].problem.contains(expected), "{text}: {problems:?}");
    }
    let good = load(&format!(
        "{listen}proxy_protocol = \"unix:/run/a.sock\"\ntrusted_proxies = [\"unix\", \"10.0.0.0/8\"]\nbase_path = \"/a/\"\n"
    ));
    assert_eq!((good.config.trusted_proxies.len(), good.config.base_path.to_string()), (2, "/a".to_owned()));
    assert_eq!(good.config.proxy_protocol, [good.listen[1].clone()]);
    let everybody = load("trusted_proxies = \"0.0.0.0/0\"\n");
    let warned = everybody.warnings().iter().find(|problem| problem.key == "trusted_proxies");
    assert!(warned.is_some_and(|problem| problem.problem.contains("every peer is believed")));
    let by_variable = variables(&[("FANFARE__TRUSTED_PROXIES", "loopback, unix"), ("FANFARE__BASE_PATH", "/b")]);
    let settings = Settings::load(Sources { environment: by_variable, ..sources("") }).expect("good");
    assert_eq!((settings.config.trusted_proxies.len(), settings.config.base_path.to_string()), (2, "/b".to_owned()));
}

fn loaded(file: &str) -> Result<Settings, Problems> {
    Settings::load(Sources { has_handlers: false, ..sources(file) })
}

const TOKEN_SECRET: &str = "an-example-of-a-secret-of-enough-bytes!";

#[test]
fn keys_of_tokens_come_from_the_file_and_the_environment() {
    let file = format!(
        "[auth]\nissuer = \"https://id.example\"\naudience = [\"chat\", \"news\"]\n[auth.keys]\nmain = \"{TOKEN_SECRET}\"\nold = {{ \
         algorithm = \"HS384\", kid = \"2025\", secret = \"{TOKEN_SECRET}-and-some-more-of-it\" }}\n"
    );
    let settings = load(&file);
    let auth = &settings.config.auth;
    let keys: Vec<_> = auth.keys.iter().map(|key| (key.name(), key.kid(), key.algorithm().name())).collect();
    assert_eq!(keys, [("main", None, "HS256"), ("old", Some("2025"), "HS384")]);
    assert_eq!((&auth.issuers[..], auth.audiences.len()), (&["https://id.example".to_owned()][..], 2));
    assert!(!auth.anonymous, "with a key everybody has to be somebody");
    assert!(load("").config.auth.anonymous, "without one nobody could connect");
    let open = load(&format!("[auth]\nanonymous = true\nkeys.main = \"{TOKEN_SECRET}\"\n"));
    assert!(open.config.auth.anonymous);
    let in_dev = Sources { defaults: Settings::dev(), ..sources(&file) };
    assert!(Settings::load(in_dev).expect("valid").config.auth.anonymous, "`fanfare dev` lets everybody in");
    assert!(!format!("{settings:?}").contains("an-example"), "no secret is printed");

    let other = "another-example-of-a-secret-of-enough-bytes";
    let environment = [("FANFARE__AUTH__KEYS__MAIN", other), ("FANFARE__AUTH__ANONYMOUS", "true")];
    let environment = environment.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
    let settings = Settings::load(Sources { environment, ..sources(&file) }).expect("valid");
    let secrets: Vec<_> = settings.config.auth.keys.iter().map(|key| key.expose_secret().map(<[u8]>::len)).collect();
    assert_eq!((secrets, settings.config.auth.anonymous), (vec![Some(other.len()), Some(59)], true));
    let places: Vec<_> = settings.token_keys().map(|(key, at)| format!("{} {at}", key.name())).collect();
    assert_eq!(places, ["main environment variable FANFARE__AUTH__KEYS__MAIN", "old f.toml:6"]);
}

#[test]
fn a_key_of_tokens_that_is_none_is_reported_and_not_printed() {
    let rows = [
        ("main = \"hunter2\"", "auth.keys.main", "a secret of 7 bytes is too short for HS256"),
        ("main = { secret = \"hunter2\" }", "auth.keys.main.secret", "a secret of 7 bytes is too short"),
        ("main = { kid = \"1\" }", "auth.keys.main", "it has no key"),
        ("main = 7", "auth.keys.main", "it is a number"),
        ("main = { secret = \"S\", public_key = \"P\" }", "auth.keys.main", "it has two keys"),
        ("main = { secret = \"S\", algorithm = \"none\" }", "auth.keys.main.algorithm", "\"none\" is not an algorithm"),
        (
            "main = { secret = \"S\", algorithm = \"hs256\" }",
            "auth.keys.main.algorithm",
            "\"hs256\" is not an algorithm",
        ),
        (
            "main = { secret = \"S\", algorithm = \"RS256\" }",
            "auth.keys.main.secret",
            "RS256 is not an algorithm for a secret",
        ),
        ("main = { secrte = \"S\" }", "auth.keys.main.secrte", "a key has no such option"),
        ("Main = \"S\"", "auth.keys.Main", "\"Main\" is not a valid name for a key"),
        ("main = { secret = \"S\", kid = \"\" }", "auth.keys.main.kid", "a `kid` has 1 to 256 bytes"),
        ("main = { secret_file = \"nowhere\" }", "auth.keys.main.secret_file", "cannot be read"),
        ("main = { public_key = \"S\" }", "auth.keys.main.public_key", "it is no key in PEM"),
        ("main = { secret = \"-----BEGIN PUBLIC KEY-----\" }", "auth.keys.main.secret", "a key in PEM is no secret"),
        ("main = \"-----BEGIN PUBLIC KEY-----\\nAAAA\"", "auth.keys.main", "it is no public key in PEM"),
        ("main = \"-----BEGIN PRIVATE KEY-----\\nAAAA\"", "auth.keys.main", "it is a private key"),
    ];
    for (line, key, expected) in rows {
        let line = line.replace("\"S\"", &format!("\"{TOKEN_SECRET}\""));
        let problems = loaded(&format!("[auth.keys]\n{line}\n")).expect_err(&line);
        let problem = problems.errors().next().expect("an error");
        assert_eq!(problem.key, key, "{line}");
        assert!(problem.problem.contains(expected), "{line}: {}", problem.problem);
        let shown = problems.to_string();
        assert!(!shown.contains("hunter2") && !shown.contains("an-example"), "{line}: {shown}");
        assert_eq!(problems.errors().count(), 1, "{line}: {shown}");
    }
}

/// `keys` is a table of names and no setting, and is named where the settings of `[auth]` are.
#[test]
fn a_slip_beside_the_table_of_token_keys_is_told_what_there_is() {
    let one = |file: &str, environment: &[(&str, &str)]| {
        let found = Settings::load(Sources { environment: variables(environment), ..sources(file) });
        let Problems(problems) = found.expect_err("a slip");
        let [problem] = &problems[..] else { panic!("{problems:?}") };
        problem.clone()
    };
    let problem = one("[auth.key]\nmain = \"x\"\n", &[]);
    assert_eq!((&*problem.key, &*problem.hint), ("auth.key", "did you mean \"auth.keys\"?"));
    assert!(problem.allowed.ends_with(", keys"), "{}", problem.allowed);
    let problem = one("", &[("FANFARE__AUTH__KEY", "x")]);
    assert_eq!(problem.hint, "did you mean \"FANFARE__AUTH__KEYS__NAME\"?");
    let problem = one("[auth]\nkeys = \"x\"\n", &[]);
    let allowed = "a table: name = \"key\", or name = { … } with algorithm, kid, secret, secret_file, public_key, \
                   public_key_file";
    assert_eq!(problem.allowed, allowed);
}

#[test]
fn a_list_of_the_file_in_a_variable_is_told_how_lists_are_written_there() {
    for (name, value) in [
        ("FANFARE__SOCKETIO__BRIDGE", "[\"chat:*\"]"),
        ("FANFARE__ORIGINS", " ['https://app.example'] "),
        ("FANFARE__TRUSTED_PROXIES", "[]"),
    ] {
        let environment = variables(&[(name, value)]);
        let Problems(problems) = Settings::load(Sources { environment, ..sources("") }).expect_err(name);
        let [problem] = &problems[..] else { panic!("{problems:?}") };
        assert_eq!(problem.problem, "it is a list as the file has it", "{name}");
        assert!(problem.hint.contains("a,b (without brackets and quotes)"), "{}", problem.hint);
    }
    let environment = variables(&[("FANFARE__SOCKETIO__BRIDGE", "chat:*, room:*"), ("FANFARE__LISTEN", "[::1]:80")]);
    let settings = Settings::load(Sources { environment, ..sources("") }).expect("good");
    assert_eq!(settings.shown(setting("socketio.bridge")), "[\"chat:*\", \"room:*\"]");
}

const HOOK_SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

#[test]
fn hooks_are_asked_at_one_address_or_each_at_its_own() {
    let file = format!(
        "[hooks]\nurl = \"https://app.example/hook\"\nask = [\"connect\", \"publish\"]\nrpc_url = \"http://10.0.0.7:3000/rpc\"\n\
         secret = \"{HOOK_SECRET}\"\nforward_headers = [\"User-Agent\"]\n[[channels]]\nmatch = \"inbox:{{user}}\"\n\
         subscribe = \"authenticated\"\npublish = \"hook\"\n"
    );
    let settings = load(&file);
    assert_eq!(settings.warnings().len(), 0, "{:?}", settings.warnings());
    let hooks = &settings.config.hooks;
    let url = |url: &Option<crate::hooks::HttpUrl>| url.as_ref().map(ToString::to_string);
    let urls = [&hooks.connect, &hooks.refresh, &hooks.subscribe, &hooks.publish, &hooks.rpc].map(url);
    let main = Some("https://app.example/hook".to_owned());
    assert_eq!(urls, [main.clone(), None, None, main, Some("http://10.0.0.7:3000/rpc".to_owned())]);
    assert_eq!((hooks.count(), &hooks.forward_headers[..]), (3, &["user-agent".to_owned()][..]));
    assert!(!format!("{settings:?}").contains("MfKQ9r8"), "no secret is printed");
    assert_eq!(settings.hook_secrets().map(|(count, at)| format!("{count} {at}")), Some("1 f.toml:5".to_owned()));
    let other = "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYX";
    let environment = vec![("FANFARE__HOOKS__SECRET".to_owned(), format!("{HOOK_SECRET},{other}"))];
    let settings = Settings::load(Sources { environment, ..sources(&file) }).expect("valid");
    assert_eq!(settings.config.hooks.secrets.len(), 2);
    assert!(!load("").config.hooks.is_on());
}

#[test]
fn a_hook_that_cannot_work_is_reported_and_its_secret_is_not_printed() {
    let rows = [
        ("ask = [\"conect\"]", "hooks.ask", "\"conect\" is not one of the words"),
        ("ask = [\"connect\"]", "hooks.ask", "\"connect\" has no address"),
        ("url = \"app.example\"\nask = [\"connect\"]", "hooks.url", "it does not begin with"),
        ("url = \"https://ada:hunter2@app.example\"\nask = [\"connect\"]", "hooks.url", "a user or a password"),
        ("url = \"https://a.example\"\nask = [\"refresh\"]", "hooks.ask", "`refresh` is asked only with `connect`"),
        ("secret = \"hunter2\"", "hooks.secret", "it does not begin with whsec_"),
        ("secret = \"whsec_AAAA\"", "hooks.secret", "it holds 3 bytes"),
        ("secret = []", "hooks.secret", "it holds no secret"),
        ("secret = 7", "hooks.secret", "it is a number"),
        ("secret_file = \"nowhere\"", "hooks.secret_file", "cannot be read"),
        ("publish_channels = [\"chat:*\"]", "hooks.publish_channels", "nobody is asked about `publish`"),
        ("forward_headers = [\"Cookie\"]", "hooks.forward_headers", "it would pass every cookie on"),
        ("forward_headers = [\"a b\"]", "hooks.forward_headers", "it is not the name of a header"),
        ("rpc_url = \"http://a/\"\ntimeout = \"5s\"", "hooks.timeout", "not less than limits.hook_timeout (5000 ms)"),
        ("tiemout = \"5s\"", "hooks.tiemout", "there is no such setting"),
    ];
    for (lines, key, expected) in rows {
        let problems = loaded(&format!("[hooks]\n{lines}\n")).expect_err(lines);
        let problem = problems.errors().next().expect("an error");
        assert_eq!(problem.key, key, "{lines}: {problems}");
        assert!(problem.problem.contains(expected), "{lines}: {}", problem.problem);
        assert!(!problems.to_string().contains("hunter2"), "{lines}: {problems}");
    }
    let both = format!("[auth.keys]\nmain = \"{TOKEN_SECRET}\"\n[hooks]\nconnect_url = \"http://a/\"\n");
    let problems = loaded(&both).expect_err("both");
    assert_eq!(problems.errors().next().map(|it| &*it.key), Some("hooks.connect_url"), "{problems}");
    let unsigned = load("[hooks]\nrpc_url = \"http://a/\"\n");
    assert!(unsigned.warnings().iter().any(|it| it.key == "hooks.secret"), "{:?}", unsigned.warnings());
}

#[test]
fn what_tokens_need_is_checked_as_a_whole() {
    let first = |text: &str| {
        let problems = match loaded(text) {
            Ok(settings) => settings.warnings().to_vec(),
            Err(problems) => problems.0,
        };
        problems.into_iter().find(|problem| problem.key != "channels").map(|it| (it.key, it.severity, it.problem))
    };
    let rows = [
        ("anonymous = false", "auth.anonymous", Severity::Error, "nobody could connect"),
        ("jwks_url = \"id.example\"", "auth.jwks_url", Severity::Error, "it does not begin with https://"),
        ("jwks_url = \"http://id.example/\"", "auth.jwks_url", Severity::Error, "anybody on the way"),
        ("jwks_url = \"https://10.0.0.1/\"", "auth.jwks_url", Severity::Error, "a private network"),
        ("jwks_url = \"https://id.example/\"", "auth.audience", Severity::Warning, "any other service"),
        ("jwks_allow = [\"https\"]", "auth.jwks_allow", Severity::Error, "\"https\" is not one of the words"),
        ("cookie = \"a b\"", "auth.cookie", Severity::Error, "not the name of a cookie"),
        ("keys = 7", "auth.keys", Severity::Error, "it is no table of keys"),
        ("token_bytes_max = \"1MB\"", "auth.token_bytes_max", Severity::Error, "it is too large"),
    ];
    for (line, key, severity, expected) in rows {
        let found = first(&format!("[auth]\n{line}\n")).unwrap_or_else(|| panic!("{line}: nothing"));
        assert_eq!((&*found.0, found.1), (key, severity), "{line}: {found:?}");
        assert!(found.2.contains(expected), "{line}: {}", found.2);
    }
    let lax = "[auth]\njwks_url = \"http://127.0.0.1/\"\njwks_allow = [\"http\", \"private\"]\naudience = \"chat\"\n";
    assert_eq!(first(lax), None);
    let jwks = load(lax).config.auth.jwks.expect("an address");
    assert_eq!((jwks.http, jwks.private, jwks.redirects), (true, true, false));
    // A rule for users needs a way to be one.
    let rule = "[[channels]]\nmatch = \"inbox:{user}\"\nsubscribe = \"grant\"\npublish = \"anyone\"\n";
    assert!(first(rule).is_some_and(|(_, _, problem)| problem.contains("without a key")));
    assert_eq!(first(&format!("auth.keys.main = \"{TOKEN_SECRET}\"\n{rule}")), None);
}
