//! `check`, `why`, `config`, `init` and `man`: all of their output, on stdout and stderr.

mod support;

use support::{Folder, Said, Server};

const FILE: &str = r#"[[channels]]
match = "inbox:{user}"
subscribe = "authenticated"
publish = "server"
signal = "anyone"

[[channels]]
match = "room:*"
subscribe = "hook"
publish = "subscriber"

[[channels]]
match = "chat:*"
subscribe = "anyone"
publish = ["subscriber", "authenticated"]
history = { size = 5, ttl = "1h" }
presence = "count"
rate = "20/s"
"#;

#[test]
fn the_file_of_init_is_valid_and_is_never_replaced() {
    let folder = Folder::new();
    let said = folder.run(&["init"]);
    assert_eq!((said.status, said.stdout.as_str()), (Some(0), "fanfare.toml\nfanfare.key\n"), "{}", said.stderr);
    assert!(
        said.stderr.starts_with("fanfare.key is your application's API key: only you can read it\n"),
        "{}",
        said.stderr
    );
    assert!(!said.stderr.contains(folder.read("fanfare.key").trim()), "{}", said.stderr);
    let said = folder.run(&["check"]);
    assert_eq!(said.stdout, "fanfare.toml: 2 rules, 1 API key, 0 token keys; no mistakes\n");
    assert_eq!((said.status, said.stderr.as_str()), (Some(0), ""));
    // The output is the same with a key in the file.
    let without_key = |text: &str| -> String { text.lines().filter(|line| !line.starts_with("backend = ")).collect() };
    let printed = folder.run(&["init", "-"]);
    assert_eq!(without_key(&printed.stdout), without_key(&folder.read("fanfare.toml")));
    folder.write("printed.toml", &printed.stdout);
    let said = folder.run(&["check", "printed.toml"]);
    assert_eq!(said.stdout, "printed.toml: 2 rules, 1 API key, 0 token keys; no mistakes\n", "{}", said.stderr);
    folder.write("fanfare.toml", "# mine\n");
    let said = folder.run(&["init"]);
    assert_eq!(
        (said.status, said.stderr.as_str()),
        (
            Some(1),
            "error: cannot write fanfare.toml: File exists (os error 17)\n\nhint: name another file, or print it: fanfare init -\n"
        )
    );
    assert_eq!(folder.read("fanfare.toml"), "# mine\n");
}

#[test]
fn the_key_that_init_writes_is_its_owners_alone_and_stays() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = Folder::new();
    folder.run(&["init", "a.toml"]);
    let mode = std::fs::metadata(folder.path("a.key")).expect("it is there").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let key = folder.read("a.key");
    std::fs::remove_file(folder.path("a.toml")).expect("removed");
    let said = folder.run(&["init", "a.toml"]);
    assert_eq!((said.status, said.stdout.as_str()), (Some(0), "a.toml\n"));
    assert!(
        said.stderr.starts_with("a.key is your application's API key: it existed already and is unchanged\n"),
        "{}",
        said.stderr
    );
    assert_eq!(folder.read("a.key"), key);
    assert_eq!(folder.run(&["check", "a.toml"]).status, Some(0));
}

/// The two lines that `init` prints suffice to start and to publish.
#[test]
fn the_lines_that_init_prints_work_as_they_stand() {
    let folder = Folder::new();
    let said = folder.run(&["init", "my server.toml"]);
    let mut lines = said.stderr.lines().filter_map(|line| line.strip_prefix("  "));
    let mut shell = |before: &str, after: &str| {
        let mut command = std::process::Command::new("/bin/sh");
        let line = lines.next().expect("a line");
        command.current_dir(folder.path("")).env_clear().env("PATH", "/usr/bin:/bin");
        command.arg("-c").arg(format!("{before}{line}{after}"));
        command
    };
    let server =
        Server::start(&mut shell("exec ", " --listen 127.0.0.1:0 --admin-listen off --session-drain-window 0s"));
    let said = Said::of(&mut shell("", &format!(" --url http://{}", server.address)));
    assert_eq!(said.status, Some(0), "{}", said.stderr);
    assert!(said.stdout.contains("\"offset\":1"), "{}", said.stdout);
    assert_eq!(server.stop(), Some(0));
}

/// The output of `config` is a configuration with the same values.
#[test]
fn the_output_of_config_reads_back_as_the_same() {
    let folder = Folder::with(&format!("shards = 3\norigins = [\"https://a.example\"]\n{FILE}"));
    let first = folder.run(&["config"]);
    assert_eq!(first.status, Some(0), "{}", first.stderr);
    folder.write("fanfare.toml", &first.stdout);
    let again = folder.run(&["config"]);
    let values = |said: &Said| -> Vec<String> {
        said.stdout.lines().map(|line| line.split(" # ").next().unwrap_or_default().trim_end().to_owned()).collect()
    };
    assert_eq!(values(&again), values(&first));
    assert!(values(&first).contains(&"shards = 3".to_owned()), "{}", first.stdout);
}

/// A caller has a user by a token or by the hook `connect`; where there is neither, only a program can tell.
#[test]
fn why_notes_that_nobody_has_a_user_where_nothing_identifies_callers() {
    let rule = "[[channels]]\nmatch = \"a\"\nsubscribe = \"authenticated\"\n";
    let hook = |ask| format!("[hooks]\nurl = \"http://127.0.0.1:9/\"\nask = [{ask:?}]\n");
    let rows = [
        ("nothing", String::new(), true),
        ("a key", "[auth.keys.main]\nsecret = \"0123456789abcdef0123456789abcdef\"\n".to_owned(), false),
        ("the hook `connect`", hook("connect"), false),
        ("another hook", hook("publish"), true),
    ];
    for (name, section, is_noted) in rows {
        let folder = Folder::with(&format!("{section}{rule}"));
        let said = folder.run(&["why", "subscribe", "a", "--user", "ada"]);
        assert!(said.stdout.starts_with("allowed"), "{name}: {}{}", said.stdout, said.stderr);
        assert_eq!(said.stdout.contains("\n  note "), is_noted, "{name}: {}", said.stdout);
    }
}

#[test]
fn why_tells_rule_option_and_place() {
    let folder = Folder::with(FILE);
    let rows: &[(&[&str], &str)] = &[
        (
            &["publish", "chat:general", "--user", "ada"],
            "allowed: the user \"ada\" wants to publish to \"chat:general\"
  rule      match = \"chat:*\"                                 fanfare.toml:13
  option    publish = [\"subscriber\", \"authenticated\"]        fanfare.toml:15
            subscribe = \"anyone\"                             fanfare.toml:14
  history   { size = 5, bytes = \"1MiB\", ttl = \"1h\" }         fanfare.toml:16
  presence  \"count\"                                          fanfare.toml:17
  slow      \"pull\"                                           default
  rate      \"20/s\"                                           fanfare.toml:18
",
        ),
        (
            &["subscribe", "inbox:ada", "--user", "ada"],
            "allowed: the user \"ada\" wants to subscribe to \"inbox:ada\"
  rule      match = \"inbox:{user}\"                           fanfare.toml:2
  option    subscribe = \"authenticated\"                      fanfare.toml:3
  note      in a program that embeds Fanfare; without a key in [auth.keys] every caller of `fanfare serve` is anonymous
  history   { size = 100, bytes = \"1MiB\", ttl = \"1m\" }       default
  presence  false                                            default
  slow      \"pull\"                                           default
  rate      no limit                                         default
",
        ),
        (
            &["publish", "inbox:ada", "--user", "bob"],
            "denied: the user \"bob\" wants to publish to \"inbox:ada\"
  rule      match = \"inbox:{user}\"                           fanfare.toml:2
  option    publish = \"server\"                               fanfare.toml:4
  because   only the application may, by its API
  history   { size = 100, bytes = \"1MiB\", ttl = \"1m\" }       default
  presence  false                                            default
  slow      \"pull\"                                           default
  rate      no limit                                         default
",
        ),
        (
            &["subscribe", "inbox:ada"],
            "denied: an anonymous caller wants to subscribe to \"inbox:ada\"
  rule      match = \"inbox:{user}\"                           fanfare.toml:2
  option    subscribe = \"authenticated\"                      fanfare.toml:3
  because   the option does not let an anonymous caller in
  history   { size = 100, bytes = \"1MiB\", ttl = \"1m\" }       default
  presence  false                                            default
  slow      \"pull\"                                           default
  rate      no limit                                         default
",
        ),
        (
            &["signal", "inbox:ada"],
            "denied: an anonymous caller wants to signal to \"inbox:ada\"
  rule      match = \"inbox:{user}\"                           fanfare.toml:2
  option    signal = \"anyone\"                                fanfare.toml:5
  because   the channel belongs to a user, and the caller is anonymous
  history   { size = 100, bytes = \"1MiB\", ttl = \"1m\" }       default
  presence  false                                            default
  slow      \"pull\"                                           default
  rate      no limit                                         default
",
        ),
        (
            &["subscribe", "inbox:ada", "--user", "bob"],
            "denied: the user \"bob\" wants to subscribe to \"inbox:ada\"
  rule      match = \"inbox:{user}\"                           fanfare.toml:2
  option    subscribe = \"authenticated\"                      fanfare.toml:3
  because   the channel belongs to another user
  history   { size = 100, bytes = \"1MiB\", ttl = \"1m\" }       default
  presence  false                                            default
  slow      \"pull\"                                           default
  rate      no limit                                         default
",
        ),
        (
            &["publish", "room:a"],
            "up to the application: an anonymous caller wants to publish to \"room:a\"
  rule      match = \"room:*\"                                 fanfare.toml:8
  option    publish = \"subscriber\"                           fanfare.toml:10
            subscribe = \"hook\"                               fanfare.toml:9
  because   allowed for clients that the application's handler has let subscribe; `fanfare serve` has none: denied
  history   { size = 100, bytes = \"1MiB\", ttl = \"1m\" }       default
  presence  false                                            default
  slow      \"pull\"                                           default
  rate      no limit                                         default
",
        ),
        (
            &["history", "nowhere"],
            "denied: an anonymous caller wants to read the history of \"nowhere\"
  because   no rule matches this name
  hint      add a rule with a pattern that matches it, or match = \"**\" as the last
",
        ),
    ];
    for (words, expected) in rows {
        let said = folder.run(&[&["why"], *words].concat());
        let status = if expected.starts_with("allowed: ") { 0 } else { 1 };
        let found = (said.status, said.stdout.as_str(), said.stderr.as_str());
        assert_eq!(found, (Some(status), *expected, ""), "{words:?}");
    }
    let said = folder.run(&["why", "publish", "chat:*"]);
    assert_eq!(
        (said.status, said.stderr.as_str()),
        (
            Some(1),
            "error: \"chat:*\" is not a channel: a channel name cannot hold '*' (at byte 5)\n\n\
             hint: name a channel, not a pattern, like chat:general\n"
        )
    );
}

#[test]
fn why_decides_for_claims_and_for_tokens() {
    let rules = "[[channels]]\nmatch = \"team:{claims.team}:*\"\nsubscribe = \"authenticated\"\n\
                 publish = { claim = \"role\", in = [\"editor\"] }\nhistory_read = \"grant\"\n";
    let keys = "[auth.keys]\nmain = \"an-example-of-a-secret-of-enough-bytes!\"\n";
    let folder = Folder::with(&format!("{keys}{rules}"));
    let decision = |words: &[&str]| {
        let said = folder.run(&[&["why"], words].concat());
        let words = said.stdout.lines().map(str::trim_start).filter(|line| line.starts_with("because"));
        let because = words.map(|line| line["because".len()..].trim().to_owned()).next().unwrap_or_default();
        (said.status, said.stdout.split(':').next().unwrap_or_default().to_owned(), because, said.stderr)
    };
    let allowed = || (Some(0), "allowed".to_owned(), String::new(), String::new());
    let denied = |because: &str| (Some(1), "denied".to_owned(), because.to_owned(), String::new());
    let editor = r#"{"sub":"ada","team":["red","blue"],"role":"editor"}"#;
    let guest = r#"{"sub":"bob","team":"green","role":"guest"}"#;
    assert_eq!(decision(&["--claims", editor, "publish", "team:red:news"]), allowed());
    let of_claim = "the caller's claim `team` is \"green\", and not that in the channel's name";
    assert_eq!(decision(&["--claims", guest, "subscribe", "team:red:news"]), denied(of_claim));
    assert_eq!(
        decision(&["--claims", guest, "publish", "team:green:a"]),
        denied("the option does not let this user in: its claim `role` is \"guest\"")
    );
    let nobody = r#"{"role":"guest"}"#;
    let of_none = "the channel's name holds the claim `team`, and the caller has none";
    assert_eq!(
        decision(&["--claims", nobody, "subscribe", "team:green:a"]),
        denied("the option does not let a caller without a user in")
    );
    let editor_of_none = r#"{"role":"editor"}"#;
    assert_eq!(decision(&["--claims", editor_of_none, "publish", "team:green:a"]), denied(of_none));
    let of_grant = "only a client may whose token grants it (claim `channels`)";
    assert_eq!(decision(&["--claims", editor, "history", "team:red:a"]), denied(of_grant));
    let made = folder.run(&[
        "token",
        "--user",
        "ada",
        "--claim",
        "team=red",
        "--channel",
        "team:{claims.team}:*=history_read",
    ]);
    let token = made.stdout.trim();
    assert_eq!(decision(&["--token", token, "history", "team:red:a"]), allowed(), "{}", made.stderr);
    assert_eq!(decision(&["--token", token, "history", "team:blue:a"]), denied(of_grant));
    let made = folder.run(&["token", "--user", "ada", "--subscribe", "team:red:a"]);
    let (status, word, because, _) = decision(&["--token", made.stdout.trim(), "subscribe", "team:red:a"]);
    assert_eq!((status, &*word), (Some(0), "allowed"), "{because}");
    assert!(because.contains("claim `subscribe`"), "{because}");
    let wrong = |words: &[&str]| folder.run(&[&["why"], words].concat()).stderr;
    assert!(wrong(&["--token", "a.b.c", "publish", "a"]).contains("the token is not valid"));
    assert!(wrong(&["--claims", "[]", "publish", "a"]).contains("not a JSON object"));
    let keyless = Folder::with(rules);
    let said = keyless.run(&["why", "--token", token, "publish", "a"]);
    assert!(said.stderr.contains("no key in [auth.keys]") && said.stderr.contains("--claims JSON"), "{}", said.stderr);
}

#[test]
fn why_names_how_far_back_clients_read() {
    let file = "[[channels]]\nmatch = \"a\"\nsubscribe = \"anyone\"\nread = \"none\"\n\
                [[channels]]\nmatch = \"b\"\nsubscribe = \"anyone\"\nread = \"since_join\"\n";
    let folder = Folder::with(file);
    let rows = [
        ("a", Some(1), "denied", "option    read = \"none\"", "fanfare.toml:4"),
        ("b", Some(0), "allowed", "read      \"since_join\"", "fanfare.toml:8"),
    ];
    for (channel, status, word, shown, place) in rows {
        let said = folder.run(&["why", "history", channel]);
        assert_eq!((said.status, said.stdout.split(':').next()), (status, Some(word)), "{}", said.stderr);
        let line = said.stdout.lines().find(|line| line.trim_start().starts_with(shown));
        assert!(line.is_some_and(|line| line.ends_with(place)), "{}", said.stdout);
    }
}

/// The TOML blocks with rules, from this heading on.
fn configurations<'t>(text: &'t str, heading: &str) -> Vec<&'t str> {
    let text = &text[text.find(heading).expect("the heading")..];
    let blocks = text.split("```toml\n").skip(1).map(|block| block.split("```").next().unwrap_or_default());
    blocks.filter(|block| block.contains("[[channels]]")).collect()
}

#[test]
fn the_configurations_in_the_documents_are_good() {
    let documents = [
        (include_str!("../../../README.md"), "## Rules"),
        (include_str!("../../../README.zh-CN.md"), "## 规则"),
        (include_str!("../../../docs/config.md"), "## `[[channels]]`"),
    ];
    for (text, heading) in documents {
        let found = configurations(text, heading);
        assert!(!found.is_empty(), "{heading}");
        for (index, file) in found.into_iter().enumerate() {
            let folder = Folder::with(file);
            let said = Said::of(folder.command(&["check"]).env("BACKEND_API_KEY", "0123456789abcdef0123456789abcdef"));
            assert_eq!(said.status, Some(0), "{file}\n{}", said.stderr);
            // `why` needs no key. The first block is for `serve` as it is: nothing in it needs users or handlers.
            if index == 0 {
                assert!(!said.stderr.contains("later"), "{}", said.stderr);
                let may = |words: &[&str]| folder.run(&[&["why"], words].concat()).status == Some(0);
                assert!(may(&["subscribe", "news:today"]) && !may(&["publish", "news:today"]), "{file}");
                assert!(may(&["subscribe", "chat:a"]) && may(&["publish", "chat:a"]), "{file}");
            } else {
                let said = folder.run(&["why", "--user", "ada", "publish", "inbox:bob"]);
                assert!(said.stdout.starts_with("denied: "), "{said:?}");
            }
        }
    }
}

/// A file with mistakes in every part: each command reads only the part that it needs.
#[test]
fn errors_in_unused_settings_do_not_stop_a_command() {
    let folder = Folder::with(
        "shards = 3\nlisten = [\"127.0.0.1:${PORT}\"]\n[api_keys]\nbackend = \"${KEY}\"\n\
                               [[channels]]\nmatch = \"a\"\nsubscribe = \"anyone\"\n",
    );
    let said = folder.run(&["why", "subscribe", "a"]);
    assert_eq!((said.status, said.stderr.as_str()), (Some(0), ""), "{said:?}");
    let said = folder.run(&["config"]);
    assert_eq!(said.status, Some(1));
    for line in [
        "shards = 3                                                   # fanfare.toml:1",
        "# listen is not accepted: the variable PORT is not set, or empty # fanfare.toml:2",
        "# api_keys.backend is not accepted: the variable KEY is not set, or empty # fanfare.toml:4",
        "match     = \"a\"                                              # fanfare.toml:6",
    ] {
        assert!(said.stdout.lines().any(|found| found == line), "no {line:?} in {}", said.stdout);
    }
    assert!(
        said.stderr.contains("hint: ") && said.stderr.ends_with("error: 2 settings are not accepted\n"),
        "{}",
        said.stderr
    );
    for command in ["check", "serve"] {
        let said = folder.run(&[command]);
        assert_eq!(said.status, Some(1));
        assert!(said.stderr.contains("PORT is not set") && said.stderr.contains("KEY is not set"), "{}", said.stderr);
    }
    folder.write("fanfare.toml", "[[channels]]\nmatch = \"${NAME}\"\n");
    let said = folder.run(&["why", "subscribe", "a"]);
    assert_eq!(
        (said.status, said.stdout.as_str()),
        (Some(1), ""),
        "a rule that is not known may be the one that decides"
    );
    assert!(said.stderr.starts_with("error: fanfare.toml:2: channels.match"), "{}", said.stderr);
}

/// `check` and `serve` print warnings; `why` and `config` do not.
#[test]
fn why_and_config_warn_of_nothing() {
    let folder = Folder::with(FILE);
    for words in [&["why", "publish", "chat:a"][..], &["config"]] {
        let said = folder.run(words);
        assert_eq!((said.status, said.stderr.as_str()), (Some(0), ""), "{words:?}");
    }
    assert_eq!(folder.run(&["check"]).stderr.matches("warning: ").count(), 3);
}

#[test]
fn every_command_takes_the_file_in_the_same_ways() {
    let folder = Folder::with("broken");
    folder.write("good.toml", FILE);
    let ways: &[&[&str]] = &[
        &["check", "good.toml"],
        &["check", "--config", "good.toml"],
        &["config", "good.toml"],
        &["config", "--config=good.toml"],
        &["why", "publish", "chat:a", "--config", "good.toml"],
    ];
    for words in ways {
        assert_eq!(folder.run(words).status, Some(0), "{words:?}");
        // A flag overrides the variable.
        let said = Said::of(folder.command(words).env("FANFARE_CONFIG", "fanfare.toml"));
        assert_eq!(said.status, Some(0), "{words:?}: {}", said.stderr);
    }
    for words in [&["check"][..], &["config"], &["why", "publish", "chat:a"]] {
        assert_eq!(folder.run(words).status, Some(1), "{words:?}");
        assert_eq!(Said::of(folder.command(words).env("FANFARE_CONFIG", "good.toml")).status, Some(0), "{words:?}");
    }
    let said = folder.run(&["check", "good.toml", "--config", "good.toml"]);
    assert_eq!(said.status, Some(1));
    assert!(said.stderr.contains("named twice"), "{}", said.stderr);
    // With the flags that `serve` would get.
    assert_eq!(folder.run(&["check", "good.toml", "--shards", "2", "--listen", "127.0.0.1:0"]).status, Some(0));
    assert_eq!(folder.run(&["check", "good.toml", "--shards", "0"]).status, Some(1));
}

#[test]
fn the_manual_has_every_command_and_every_setting() {
    let page = Folder::new().run(&["man"]).stdout;
    for word in ["dev", "serve", "check", "why", "config", "init"] {
        assert!(page.contains(&format!("\n.B fanfare {word}\n")), "{word}");
    }
    for setting in fanfare::settings::SETTINGS {
        assert!(page.contains(&format!("\n.B {}\n", setting.key)), "{}", setting.key);
    }
    // A line that begins with a dot would be a command to the formatter.
    let known = [".TH", ".SH", ".SS", ".TP", ".B", ".I", ".br", ".RS", ".RE"];
    for line in page.lines().filter(|line| line.starts_with(['.', '\''])) {
        assert!(known.iter().any(|word| line.split(' ').next() == Some(word)), "{line}");
    }
}

#[test]
fn help_names_every_setting_once() {
    let help = Folder::new().run(&["serve", "--help"]).stdout;
    for setting in fanfare::settings::SETTINGS {
        let flag = format!("--{} <", setting.flag());
        assert_eq!(help.matches(&flag).count(), 1, "{flag}");
        assert!(help.contains(&setting.variable()), "{}", setting.key);
    }
}
