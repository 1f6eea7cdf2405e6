//! `check`, `why`, `config`, `init` and `man`: everything that they print, and where.

mod support;

use support::{Folder, Said};

const FILE: &str = r#"[[channels]]
match = "inbox:{user}"
subscribe = "authenticated"
publish = "server"

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
fn what_init_writes_is_good_and_stays() {
    let folder = Folder::new();
    let said = folder.run(&["init"]);
    assert_eq!((said.status, said.stdout.as_str()), (Some(0), "fanfare.toml\n"));
    let said = folder.run(&["check"]);
    assert_eq!(said.stdout, "fanfare.toml: 2 rules, 0 API keys; nothing to complain about\n");
    assert_eq!((said.status, said.stderr.as_str()), (Some(0), ""));
    assert_eq!(folder.run(&["init", "-"]).stdout, folder.read("fanfare.toml"));
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

/// What `config` prints is a configuration that says the same.
#[test]
fn what_config_prints_reads_back_as_the_same() {
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

#[test]
fn why_tells_rule_option_and_place() {
    let folder = Folder::with(FILE);
    let rows: &[(&[&str], &str)] = &[
        (
            &["publish", "chat:general", "--user", "ada"],
            "allowed: the user \"ada\" wants to publish to \"chat:general\"
  rule      match = \"chat:*\"                                 fanfare.toml:12
  option    publish = [\"subscriber\", \"authenticated\"]        fanfare.toml:14
            subscribe = \"anyone\"                             fanfare.toml:13
  history   { size = 5, bytes = \"1MiB\", ttl = \"1h\" }         fanfare.toml:15
  presence  \"count\"                                          fanfare.toml:16
  slow      \"pull\"                                           default
  rate      \"20/s\"                                           fanfare.toml:17
",
        ),
        (
            &["subscribe", "inbox:ada", "--user", "bob"],
            "denied: the user \"bob\" wants to subscribe to \"inbox:ada\"
  rule      match = \"inbox:{user}\"                           fanfare.toml:2
  option    subscribe = \"authenticated\"                      fanfare.toml:3
  because   the name says whose channel it is, and the caller is another
  history   { size = 100, bytes = \"1MiB\", ttl = \"1m\" }       default
  presence  false                                            default
  slow      \"pull\"                                           default
  rate      no limit                                         default
",
        ),
        (
            &["publish", "room:a"],
            "up to the application: an anonymous caller wants to publish to \"room:a\"
  rule      match = \"room:*\"                                 fanfare.toml:7
  option    publish = \"subscriber\"                           fanfare.toml:9
            subscribe = \"hook\"                               fanfare.toml:8
  because   allowed for whom the application's handler has let subscribe; where it has none, denied
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
        assert_eq!((said.status, said.stdout.as_str()), (Some(0), *expected), "{words:?}: {}", said.stderr);
    }
    let said = folder.run(&["why", "publish", "chat:*"]);
    assert_eq!(
        (said.status, said.stderr.as_str()),
        (
            Some(1),
            "error: \"chat:*\" is no channel: a channel name cannot hold '*' (at byte 5)\n\n\
             hint: a channel is named without a pattern, like chat:general\n"
        )
    );
}

/// The blocks of TOML with rules, from this heading on.
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
        for file in found {
            let folder = Folder::with(file);
            let said = Said::of(folder.command(&["check"]).env("BACKEND_API_KEY", "0123456789abcdef"));
            assert_eq!(said.status, Some(0), "{file}\n{}", said.stderr);
            let said = Said::of(
                folder
                    .command(&["why", "--user", "ada", "publish", "inbox:bob"])
                    .env("BACKEND_API_KEY", "0123456789abcdef"),
            );
            assert!(said.stdout.starts_with("denied: "), "{said:?}");
        }
    }
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
    // A line that begins with a dot is a command to the formatter.
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
