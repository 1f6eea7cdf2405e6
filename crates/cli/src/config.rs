//! `fanfare config`: every setting as it would be in force, each with where it comes from. What is printed is TOML.
//!
//! API keys are listed by name; the keys themselves are not printed.

use crate::failure::Failure;
use crate::flags::{ConfigFile, SettingFlags, refused, warn};
use fanfare::settings::{SECTIONS, SETTINGS, Settings, show_rule};
use std::fmt::Write as _;
use std::io::Write as _;

#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    file: ConfigFile,
    #[command(flatten)]
    flags: SettingFlags,
}

pub(crate) fn run(args: Args) -> Result<(), Failure> {
    let loaded = args.flags.load(Some(&args.file.config), &[]);
    let settings = loaded.map_err(|problems| refused(&problems))?;
    warn(&settings);
    // A closed pipe (`| head`) is no failure of ours.
    let _ = std::io::stdout().write_all(shown(&settings).as_bytes());
    Ok(())
}

fn shown(settings: &Settings) -> String {
    let mut text = String::new();
    let mut line = |key: &str, value: &str, from: &str| {
        let _ = writeln!(text, "{:<60} # {from}", format!("{key} = {value}")); // writing to a String cannot fail
    };
    for (section, _) in SECTIONS {
        for setting in SETTINGS.iter().filter(|setting| setting.section() == *section) {
            line(setting.key, &settings.shown(setting), &settings.source(setting).to_string());
        }
    }
    for key in &settings.api_keys {
        line(&format!("# api_keys.{}", key.name), "(hidden)", &key.at.to_string());
    }
    for (rule, place) in settings.rules() {
        text.push_str("\n[[channels]]\n");
        for (option, value) in show_rule(rule) {
            let from = place.and_then(|place| place.of(option)).map_or("default".to_owned(), ToString::to_string);
            let _ = writeln!(text, "{:<60} # {from}", format!("{option:<9} = {value}"));
        }
    }
    text
}
