//! The settings as a whole: the precedence of the sources, the origin of each value, and that the table agrees with
//! itself.

mod identity;
mod rules;
mod schemas;

use super::kind::{Millis, Number, ValueKind};
use super::*;
use crate::config::Parser;
use fanfare_hub::{Pattern, Rate};
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

/// A person who thinks of another value must know why this one was chosen.
#[test]
fn every_limit_has_a_reason_for_its_default() {
    for setting in SETTINGS.iter().filter(|setting| setting.section() == "limits") {
        let reason = setting.doc.split(". ").any(|sentence| sentence.starts_with("The default"));
        assert!(reason, "{}: why its default?", setting.key);
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
    let parts = ["quotas", "count", "window_ms", "each"]; // limits within it, and what a rate is made of
    for field in fields.filter(|field| !parts.contains(field)) {
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

/// Gives a setting another value. Whether it is a sensible one does not matter.
fn change(kind: &ValueKind, s: &mut Settings) {
    match kind {
        ValueKind::Addresses(at) | ValueKind::AnyAddresses(at) => at(s).push("127.0.0.1:9".parse().expect("valid")),
        ValueKind::Count { at: Number::Usize(at), .. } => *at(s) += 1,
        ValueKind::Count { at: Number::U32(at), .. } => *at(s) += 1,
        ValueKind::Bytes { at, .. } => *at(s) += 1,
        ValueKind::Time { at: Millis::U64(at), .. } => *at(s) += 1,
        ValueKind::Time { at: Millis::Duration(at), .. } => *at(s) += Duration::from_millis(1),
        ValueKind::Rate { at, .. } => *at(s) = Some(Rate::new(7, 7_000)),
        ValueKind::Switch(at) => *at(s) ^= true,
        ValueKind::Word { words, at } => {
            let other = words.iter().find(|word| ***word != **at(s)).expect("a second one");
            *at(s) = (*other).to_owned();
        }
        ValueKind::Words { at, .. } | ValueKind::Texts(at) => at(s).push("more".to_owned()),
        ValueKind::Origins(at) => *at(s) = Origins::Any,
        ValueKind::Hosts(at) => *at(s) = Hosts::Any,
        ValueKind::Proxies(at) => at(s).push("10.0.0.7".parse().expect("valid")),
        ValueKind::Namespaces(at) => at(s).push("/more".parse().expect("valid")),
        ValueKind::Patterns(at) => at(s).push(Pattern::new("more:*").expect("valid")),
        ValueKind::BasePath(at) => *at(s) = "/more".parse().expect("valid"),
        ValueKind::Parser(at) => *at(s) = if *at(s) == Parser::Msgpack { Parser::Standard } else { Parser::Msgpack },
        ValueKind::Cookie(at) => *at(s) = Some("more".parse().expect("valid")),
        ValueKind::Admin(at) => *at(s) = AdminOn::Off,
        ValueKind::Text(at) => at(s).push_str("more"),
        ValueKind::Url(at) => "http://127.0.0.1:9/more".clone_into(at(s)),
        ValueKind::File(at) => *at(s) = Some("more".into()),
    }
}

/// A server with hooks and keys of tokens takes these from a file that is read again. Each other setting is named.
#[test]
fn each_setting_that_has_changed_is_in_force_after_a_reload_or_named() {
    let of_limits = RELOADED.iter().copied();
    let of_tokens = ["auth.anonymous", "auth.issuer", "auth.audience", "auth.leeway", "auth.token_bytes_max"];
    let of_hooks = SETTINGS.iter().map(|setting| setting.key).filter(|key| key.starts_with("hooks."));
    let of_hooks: Vec<&str> = of_hooks.filter(|key| *key != "hooks.ask").collect();
    let everything = "[auth.keys.main]\nsecret = \"0123456789abcdef0123456789abcdef\"\n[hooks]\n\
                      url = \"http://127.0.0.1:1/\"\nask = [\"publish\"]\nnotify = [\"published\"]\n";
    let all: Vec<&str> = of_limits.clone().chain(of_tokens).chain(of_hooks).chain(["allow_insecure"]).collect();
    let little: Vec<&str> = of_limits.chain(["allow_insecure"]).collect();
    for (file, reloaded) in [(everything, all), ("", little)] {
        let running = load(file);
        for setting in SETTINGS {
            let mut changed = running.clone();
            change(&setting.kind, &mut changed);
            let named = changed.differing(&running);
            let expected: &[&str] = if reloaded.contains(&setting.key) { &[] } else { &[setting.key] };
            assert_eq!(named, expected, "{} with {file:?}", setting.key);
        }
    }
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
