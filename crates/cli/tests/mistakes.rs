//! Configurations with one mistake each, and the program's whole output for each: `mistakes.txt`.
//!
//! Every message must name the file and line (or the variable, or the flag), the key, the allowed values and a hint. A
//! block of the file is a title (`=== …`), a command (`$ …`, with variables in front), the configuration, a line `---`
//! and the text on stderr. `UPDATE_SNAPSHOTS=1` writes the messages anew: review each of them.

use fanfare::settings::{SETTINGS, Setting};
use std::path::Path;
use std::process::Command;

const PATH: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/mistakes.txt");

struct Mistake {
    title: String,
    command: String,
    file: String,
    answer: String,
}

fn mistakes(text: &str) -> Vec<Mistake> {
    let blocks = text.split("=== ").skip(1);
    let parse = |block: &str| {
        let (title, rest) = block.split_once("\n$ ").expect("a title and a command");
        let (command, rest) = rest.split_once('\n').expect("a configuration");
        let (file, answer) = rest.split_once("---\n").unwrap_or((rest, ""));
        let [title, command, file, answer] = [title, command, file, answer].map(str::to_owned);
        Mistake { title, command, file, answer: answer.trim_end().to_owned() }
    };
    blocks.map(parse).collect()
}

/// The program's message about it, and its exit status.
fn answer(mistake: &Mistake, folder: &Path) -> (String, Option<i32>) {
    std::fs::write(folder.join("fanfare.toml"), &mistake.file).expect("written");
    let mut words = mistake.command.split_whitespace();
    let mut command = Command::new(env!("CARGO_BIN_EXE_fanfare"));
    command.current_dir(folder).env_clear();
    for word in words.by_ref().take_while(|word| *word != "fanfare") {
        let (name, value) = word.split_once('=').expect("a variable");
        command.env(name, value);
    }
    let output = command.args(words).output().expect("it runs");
    let said = String::from_utf8(output.stderr).expect("UTF-8");
    // The list of a section's settings is taken from the table, so a new limit does not change a snapshot.
    let limits: Vec<&str> =
        SETTINGS.iter().filter(|setting| setting.section() == "limits").map(Setting::name).collect();
    let said = said.replace(&limits.join(", "), "(every limit)");
    (said.trim_end().to_owned(), output.status.code())
}

#[test]
fn every_mistake_is_told_with_its_place_and_a_way_out() {
    let text = std::fs::read_to_string(PATH).expect("the mistakes");
    let head = text.split("=== ").next().unwrap_or_default().to_owned();
    let folder = std::env::temp_dir().join(format!("fanfare-mistakes-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a folder");
    let update = std::env::var_os("UPDATE_SNAPSHOTS").is_some();
    let mistakes = mistakes(&text);
    assert!(mistakes.len() >= 50, "{} mistakes", mistakes.len());
    let (mut written, mut wrong) = (head, Vec::new());
    for mistake in &mistakes {
        let (said, status) = answer(mistake, &folder);
        written.push_str(&format!("=== {}\n$ {}\n{}---\n{said}\n\n", mistake.title, mistake.command, mistake.file));
        let expected = if mistake.title.starts_with("warning: ") { 0 } else { 1 };
        let has_place = ["fanfare.toml:", "fanfare.toml: ", "environment variable FANFARE_", ": --"]
            .iter()
            .any(|place| said.contains(place));
        if status != Some(expected) || !has_place || !said.contains("\nallowed: ") || !said.contains("\nhint: ") {
            wrong.push(format!("{}: status {status:?}, or a part is missing:\n{said}", mistake.title));
        } else if !update && said != mistake.answer {
            wrong.push(format!("{}: it says\n{said}\nand not\n{}", mistake.title, mistake.answer));
        }
    }
    std::fs::remove_dir_all(&folder).expect("removed");
    if update {
        std::fs::write(PATH, written.trim_end().to_owned() + "\n").expect("written");
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}
