//! Every command if its output cannot be written, or its arguments are not UTF-8: a sentence and status 1, never a
//! panic, and never status 0 for output that was lost. A pipe whose reader has gone ends the command quietly.
#![cfg(target_os = "linux")]

mod support;

use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::os::unix::ffi::OsStringExt as _;
use std::process::{Command, Stdio};
use support::{Folder, Said};

/// An idle channel stays listed for as long as the tests take.
const FILE: &str = "listen = \"127.0.0.1:0\"\n[limits]\nlinger = \"1h\"\n[admin]\nlisten = \"main\"\n[api_keys]\nbackend = \"0123456789abcdef\"\n\
                    [[channels]]\nmatch = \"news:*\"\nsubscribe = \"anyone\"\npublish = \"server\"\n";
const KEY: &str = "0123456789abcdef";
const SUBCOMMANDS: [&str; 14] = [
    "dev",
    "serve",
    "check",
    "why",
    "config",
    "init",
    "publish",
    "subscribe",
    "channels",
    "disconnect",
    "unban",
    "bans",
    "completions",
    "man",
];

/// Every command that prints and ends, with its exit status. `URL` is the address of a server.
const PRINTING: &[(&[&str], i32)] = &[
    (&["--help"], 0),
    (&["--version"], 0),
    (&["help"], 0),
    (&["help", "serve"], 0),
    (&["check"], 0),
    (&["why", "subscribe", "news:a"], 0),
    (&["why", "publish", "news:a"], 1),
    (&["config"], 0),
    (&["init", "-"], 0),
    (&["init", "new/a.toml"], 0),
    (&["completions", "bash"], 0),
    (&["completions", "zsh"], 0),
    (&["completions", "fish"], 0),
    (&["man"], 0),
    (&["publish", "news:a", "1", "--url", "URL", "--api-key", KEY], 0),
    (&["channels", "--url", "URL", "--api-key", KEY], 0),
    (&["disconnect", "--user", "ada", "--url", "URL", "--api-key", KEY], 0),
    (&["unban", "--user", "ada", "--url", "URL", "--api-key", KEY], 0),
    (&["subscribe", "news:a", "--recent", "1", "--url", "URL"], 0),
];

/// A command in its own folder with a configuration: `init` writes files.
fn command(words: &[&str], url: &str) -> (Folder, Command) {
    let folder = Folder::with(FILE);
    std::fs::create_dir(folder.path("new")).expect("a folder");
    let words: Vec<&str> = words.iter().map(|word| if *word == "URL" { url } else { *word }).collect();
    let mut command = folder.command(&words);
    command.stdin(Stdio::null());
    (folder, command)
}

fn full() -> File {
    OpenOptions::new().write(true).open("/dev/full").expect("Linux has it")
}

/// Output that cannot be written at all.
fn unwritable() -> File {
    File::open("/dev/null").expect("it is there")
}

fn gone() -> Stdio {
    let (reader, writer) = std::io::pipe().expect("a pipe");
    drop(reader);
    writer.into()
}

fn of(command: &mut Command) -> (Option<i32>, String) {
    let child = command.stderr(Stdio::piped()).spawn().expect("it starts");
    let output = child.wait_with_output().expect("it ends");
    (output.status.code(), String::from_utf8(output.stderr).expect("UTF-8"))
}

#[test]
fn every_command_says_that_it_cannot_write_and_ends_quietly_where_nobody_reads() {
    let server_folder = Folder::with(FILE);
    let server = server_folder.start(&["serve"]);
    let url = format!("http://{}", server.address);
    let said = Said::of(&mut command(&["publish", "news:a", "1", "--url", "URL", "--api-key", KEY], &url).1);
    assert_eq!(said.status, Some(0), "{said:?}"); // so that `channels` and `subscribe` have something to print
    let printing = PRINTING.iter().map(|(words, status)| (words.to_vec(), *status));
    let helps = SUBCOMMANDS.iter().flat_map(|name| [(vec![*name, "--help"], 0), (vec![*name, "-h"], 0)]);
    for (words, status) in printing.chain(helps) {
        for (name, file) in [("full", full()), ("unwritable", unwritable())] {
            let (_folder, mut command) = command(&words, &url);
            let (found, stderr) = of(command.stdout(file));
            assert_eq!(found, Some(1), "{words:?}, {name}: {stderr}");
            assert!(stderr.contains("error: cannot write to stdout: "), "{words:?}, {name}: {stderr}");
            assert!(!stderr.contains("panicked"), "{words:?}, {name}: {stderr}");
        }
        let (_folder, mut quiet) = command(&words, &url);
        let (found, stderr) = of(quiet.stdout(gone()));
        assert_eq!(found, Some(status), "{words:?}: {stderr}");
        assert!(!stderr.contains("error") && !stderr.contains("panicked"), "{words:?}: {stderr}");
        if words[0] == "subscribe" {
            continue; // it runs until it is stopped
        }
        // A broken stderr changes nothing either.
        for stderr in [full().into(), unwritable().into(), gone()] {
            let (_folder, mut command) = command(&words, &url);
            let found = command.stdout(Stdio::null()).stderr(stderr).status().expect("it runs");
            assert_eq!(found.code(), Some(status), "{words:?}");
        }
    }
}

#[test]
fn an_error_ends_with_status_1_though_stderr_cannot_be_written() {
    for words in [&["nonsense"][..], &["check", "missing.toml"], &["serve", "--listen", "nowhere"], &["publish"]] {
        for stderr in [full().into(), unwritable().into(), gone()] {
            let (_folder, mut command) = command(words, "");
            assert_eq!(command.stderr(stderr).status().expect("it runs").code(), Some(1), "{words:?}");
        }
    }
}

#[test]
fn an_argument_that_is_not_utf8_is_named() {
    let bad = || OsString::from_vec(b"a\xff\n".to_vec());
    let bad_flag = OsString::from_vec(b"--\xff".to_vec());
    for name in SUBCOMMANDS.iter().map(|name| vec![*name]).chain([vec![], vec!["help"], vec!["serve", "--listen"]]) {
        for word in [bad(), bad_flag.clone()] {
            let (_folder, mut command) = command(&name, "");
            let (status, stderr) = of(command.arg(&word).stdout(Stdio::null()));
            assert_eq!(status, Some(1), "{name:?} {word:?}: {stderr}");
            assert!(stderr.starts_with("error: "), "{name:?} {word:?}: {stderr}");
            assert!(!stderr.contains("panicked"), "{name:?} {word:?}: {stderr}");
        }
    }
    let (_folder, mut command) = command(&["why", "subscribe"], "");
    let (_, stderr) = of(command.arg(bad()));
    assert!(stderr.contains(r#"not UTF-8: argument 3, "a\xff\n""#), "{stderr}");
    // Together with another mistake it changes nothing either.
    let (_folder, mut command) = self::command(&["serve", "--port"], "");
    let (status, stderr) = of(command.arg(bad()));
    assert_eq!(status, Some(1), "{stderr}");
    assert!(!stderr.contains("panicked"), "{stderr}");
}

#[test]
fn the_name_of_the_program_need_not_be_utf8() {
    let folder = Folder::new();
    let name = folder.path("").join(OsString::from_vec(b"f\xff".to_vec()));
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_fanfare"), &name).expect("a link");
    let mut command = Command::new(&name);
    let said = Said::of(command.current_dir(folder.path("")).env_clear().arg("init"));
    assert_eq!(said.status, Some(0), "{said:?}");
    assert!(said.stderr.contains(" serve\n"), "{}", said.stderr);
}

#[test]
fn a_variable_that_is_not_utf8_is_named_and_its_value_is_not() {
    let bad = || OsString::from_vec(b"http://secret\xff".to_vec());
    let rows: &[(&str, &[&str])] = &[
        ("FANFARE_CONFIG", &["serve"]),
        ("FANFARE_CONFIG", &["check"]),
        ("FANFARE_API_KEY", &["publish", "news:a", "1"]),
        ("FANFARE_API_KEY", &["dev"]),
        ("FANFARE_URL", &["channels"]),
        ("FANFARE_TOKEN", &["subscribe", "news:a"]),
        // Also if the command would not use the variable, because a flag or an argument replaces it.
        ("FANFARE_CONFIG", &["check", "fanfare.toml"]),
        ("FANFARE_CONFIG", &["serve", "--config", "fanfare.toml"]),
        ("FANFARE_URL", &["channels", "--url", "http://127.0.0.1:1"]),
        ("FANFARE_API_KEY", &["publish", "news:a", "1", "--api-key", KEY]),
        ("FANFARE_TOKEN", &["subscribe", "news:a", "--token", "t"]),
        ("FANFARE__LISTEN", &["check", "--listen", "127.0.0.1:0"]),
        ("FANFARE__LISTEN", &["check"]),
        ("FANFARE__LOG__LEVEL", &["serve"]),
        ("FANFARE__API_KEYS__BACKEND", &["check"]),
    ];
    for (variable, words) in rows {
        let (_folder, mut command) = command(words, "");
        let (status, stderr) = of(command.env(variable, bad()).stdout(Stdio::null()));
        assert_eq!(status, Some(1), "{variable}: {stderr}");
        assert!(stderr.contains(variable) && stderr.contains("not UTF-8"), "{variable}: {stderr}");
        assert!(!stderr.contains("secret") && !stderr.contains("panicked"), "{variable}: {stderr}");
    }
    let folder = Folder::with("[log]\nlevel = \"${LEVEL}\"\n");
    let (status, stderr) = of(folder.command(&["check"]).env("LEVEL", bad()));
    assert_eq!(status, Some(1), "{stderr}");
    assert!(stderr.contains("the variable LEVEL is not UTF-8"), "{stderr}");
    // The command does not read these variables.
    for other in ["OTHER", "FANFARE_URL", "FANFARE_OTHER"] {
        let folder = Folder::with(FILE);
        let (status, stderr) = of(folder.command(&["check"]).env(other, bad()));
        assert_eq!(status, Some(0), "{other}: {stderr}");
    }
}

#[cfg(feature = "tls")]
#[test]
fn the_name_of_a_file_of_certificates_is_utf8() {
    let bad = OsString::from_vec(b"secret\xff".to_vec());
    for words in [&["channels"][..], &["channels", "--cacert", "ca.pem"]] {
        let (_folder, mut command) = command(words, "");
        let (status, stderr) = of(command.env("FANFARE_CACERT", &bad).stdout(Stdio::null()));
        assert_eq!(status, Some(1), "{stderr}");
        assert!(stderr.starts_with("error: not UTF-8: the variable FANFARE_CACERT\n"), "{stderr}");
    }
    let (_folder, mut command) = command(&["channels", "--cacert"], "");
    let (status, stderr) = of(command.arg(&bad).stdout(Stdio::null()));
    assert_eq!(status, Some(1), "{stderr}");
    assert!(stderr.starts_with("error: not UTF-8: argument 3, "), "{stderr}");
}

/// One rule for every variable: an empty one counts as not set.
#[test]
fn an_empty_variable_is_not_set() {
    let names =
        ["FANFARE_CONFIG", "FANFARE_URL", "FANFARE_TOKEN", "FANFARE_API_KEY", "FANFARE_CACERT", "FANFARE__LISTEN"];
    for words in [&["check"][..], &["config"], &["why", "subscribe", "news:a"], &["channels"], &["subscribe", "news:a"]]
    {
        let (_folder, mut plain) = command(words, "");
        let (_folder, mut empty) = command(words, "");
        let said = Said::of(empty.envs(names.map(|name| (name, ""))));
        let without = Said::of(&mut plain);
        assert_eq!(
            (said.status, said.stdout, said.stderr),
            (without.status, without.stdout, without.stderr),
            "{words:?}"
        );
    }
}
