//! `fanfare config`: every setting as it would be in force, each with where it comes from. The output is TOML.
//!
//! A value that is not accepted, or unknown because its variable is not set, is printed as a comment and reported on
//! stderr. The other values are printed. Values that are dangerous together are reported too, and printed: each of them
//! is good, and `fanfare serve` refuses the whole. API keys are listed by name; the keys themselves are not printed.

use crate::failure::Failure;
use crate::flags::{FileOrConfig, SettingFlags, refused};
use crate::output::print;
use crate::run::counted;
use fanfare::settings::{Partial, PlacedRule, Problem, Problems, SECTIONS, SETTINGS, show_rule};
use std::fmt::Write as _;

#[derive(clap::Args)]
#[command(after_help = "Exit status: 0 `fanfare serve` takes these values, 1 it does not (stderr says why).")]
pub(crate) struct Args {
    #[command(flatten)]
    file: FileOrConfig,
    #[command(flatten)]
    flags: SettingFlags,
}

pub(crate) fn run(args: Args) -> Result<(), Failure> {
    let partial = args.flags.load_partial(&args.file.0).map_err(|problems| refused(&problems))?;
    print(&shown(&partial))?;
    // Warnings are `check`'s and `serve`'s to tell.
    let errors: Vec<Problem> = partial.problems_of_the_whole().errors().cloned().collect();
    if errors.is_empty() { Ok(()) } else { Err(refused(&Problems(errors))) }
}

fn shown(partial: &Partial) -> String {
    let Partial { settings, problems } = partial;
    let mut text = String::new();
    let mut line = |left: &str, from: &str| {
        let _ = writeln!(text, "{left:<60} # {from}"); // writing to a String cannot fail
    };
    let not_taken = |problem: &Problem| format!("# {} is not accepted: {}", problem.key, problem.problem);
    for (section, _) in SECTIONS {
        for setting in SETTINGS.iter().filter(|setting| setting.section() == *section) {
            let mut wrong = problems.errors().filter(|problem| problem.key == setting.key).peekable();
            if wrong.peek().is_none() {
                let value = format!("{} = {}", setting.key, settings.shown(setting));
                line(&value, &settings.source(setting).to_string());
            }
            wrong.for_each(|problem| line(&not_taken(problem), &problem.at.to_string()));
        }
    }
    for (key, at) in settings.token_keys() {
        line(&format!("# auth.keys.{} = (hidden, {})", key.name(), key.algorithm()), &at.to_string());
    }
    for problem in problems.errors().filter(|problem| problem.key.starts_with("auth.keys")) {
        line(&not_taken(problem), &problem.at.to_string());
    }
    if let Some((count, at)) = settings.hook_secrets() {
        line(&format!("# hooks.secret = (hidden, {})", counted(count, "secret")), &at.to_string());
    }
    for problem in problems.errors().filter(|problem| problem.key.starts_with("hooks.secret")) {
        line(&not_taken(problem), &problem.at.to_string());
    }
    for key in &settings.api_keys {
        line(&format!("# api_keys.{} = (hidden)", key.name), &key.at.to_string());
    }
    for problem in problems.errors().filter(|problem| problem.key.starts_with("api_keys")) {
        line(&not_taken(problem), &problem.at.to_string());
    }
    for PlacedRule { rule, place } in settings.rules() {
        text.push_str("\n[[channels]]\n");
        for (option, value) in show_rule(rule) {
            let from = place.and_then(|place| place.of(option)).map_or("default".to_owned(), ToString::to_string);
            let _ = writeln!(text, "{:<60} # {from}", format!("{option:<9} = {value}"));
        }
    }
    for problem in problems.errors().filter(|problem| problem.is_about_rules()) {
        let _ = writeln!(text, "\n{:<60} # {}", not_taken(problem), problem.at);
    }
    text
}
