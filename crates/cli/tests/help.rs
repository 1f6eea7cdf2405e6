//! The whole `--help` of the program and of each command, as users see it: help/NAME.txt, and fanfare.txt for the
//! program.
//!
//! A changed text shows in the diff of a commit, and a new command cannot be forgotten. `UPDATE_SNAPSHOTS=1` (or
//! `UPDATE_DOCS=1`) `cargo test -p fanfare-cli --test help` writes the files anew: review each of them.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

/// A hidden command, for people who make packages.
const HIDDEN: &str = "man";

fn help_of(command: Option<&str>) -> String {
    let mut process = Command::new(env!("CARGO_BIN_EXE_fanfare"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("FANFARE_") {
            process.env_remove(name);
        }
    }
    // Values of the test's environment must not show.
    for name in ["FANFARE_API_KEY", "FANFARE_TOKEN", "FANFARE__API_KEY"] {
        process.env(name, "hush-hush");
    }
    process.env("FANFARE_URL", "http://hush-hush").env("FANFARE_CACERT", "/hush-hush");
    let output = process.args(command).arg("--help").output().expect("the binary");
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    assert!(output.status.success() && output.stderr.is_empty() && !text.contains("hush-hush"), "{command:?}: {text}");
    text
}

/// The commands that the program's help lists, except `help`.
fn commands(help: &str) -> Vec<&str> {
    let lines = help.lines().skip_while(|line| *line != "Commands:").skip(1).take_while(|line| !line.is_empty());
    lines.filter_map(|line| line.split_whitespace().next()).filter(|name| *name != "help").collect()
}

#[test]
fn help_says_what_it_said() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/help");
    let update = ["UPDATE_SNAPSHOTS", "UPDATE_DOCS"].iter().any(|name| std::env::var_os(name).is_some());
    let first = help_of(None);
    let commands = commands(&first);
    assert!(commands.contains(&"dev") && commands.contains(&"completions"), "{first}");
    let mut files = BTreeSet::new();
    for command in [None, Some(HIDDEN)].into_iter().chain(commands.into_iter().map(Some)) {
        let file = format!("{}.txt", command.unwrap_or("fanfare"));
        let text = help_of(command);
        if update {
            std::fs::write(folder.join(&file), &text).expect("written");
        }
        let known = std::fs::read_to_string(folder.join(&file)).unwrap_or_default();
        assert!(text == known, "tests/help/{file} is old: UPDATE_SNAPSHOTS=1 writes what it is now:\n{text}");
        files.insert(file);
    }
    let there = std::fs::read_dir(folder).expect("the folder");
    let there: BTreeSet<String> =
        there.map(|file| file.expect("a file").file_name().to_string_lossy().into_owned()).collect();
    assert_eq!(there, files, "a file for each command, and no other");
}
