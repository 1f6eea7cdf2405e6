//! `fanfare check`: is this configuration good? Everything that is wrong with it, at once, with the flags and the
//! environment that `serve` would have.

use crate::failure::Failure;
use crate::flags::{FileOrConfig, SettingFlags, refused, warn};
use crate::output::print;
use crate::run::counted;

#[derive(clap::Args)]
#[command(after_help = "Exit status: 0 `fanfare serve` accepts it (perhaps with warnings), 1 it does not.")]
pub(crate) struct Args {
    #[command(flatten)]
    file: FileOrConfig,
    #[command(flatten)]
    flags: SettingFlags,
}

pub(crate) fn run(args: Args) -> Result<(), Failure> {
    let file = args.file.0;
    let settings = args.flags.load(Some(&file)).map_err(|problems| refused(&problems))?;
    warn(&settings);
    let rules = counted(settings.config.rules.iter().count(), "rule");
    let keys = counted(settings.api_keys.len(), "API key");
    let token_keys = counted(settings.token_keys().count(), "token key");
    let warnings = match settings.warnings().len() {
        0 => "no mistakes".to_owned(),
        count => counted(count, "warning"),
    };
    let hooks = match settings.config.hooks.count() {
        0 => String::new(),
        count => format!(", {}", counted(count, "hook")),
    };
    print(&format!("{file}: {rules}, {keys}, {token_keys}{hooks}; {warnings}\n")).map(drop)
}
