//! `fanfare serve`: the server of a configuration file. Without one it does not start: what strangers may do is not guessed.

use crate::failure::Failure;
use crate::flags::{ConfigFile, SettingFlags, refused, warn};
use crate::run::{self, Plan};

#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    file: ConfigFile,
    #[command(flatten)]
    flags: SettingFlags,
}

/// Runs until SIGTERM or SIGINT; SIGHUP reads the file again.
pub(crate) fn run(args: Args) -> Result<(), Failure> {
    let file = args.file.config.as_str();
    let load = || args.flags.load(Some(file));
    let settings = load().map_err(|problems| refused(&problems))?;
    warn(&settings);
    run::run(Plan {
        settings,
        pages: None,
        greeting: &|running, settings| {
            let (version, shards) = (env!("CARGO_PKG_VERSION"), run::counted(settings.config.shards, "shard"));
            let rules = run::counted(settings.config.rules.iter().count(), "rule");
            format!("fanfare {version}: {rules} of {file}; {shards}\n{}", run::addresses(running))
        },
        again: Some(&load),
    })
}
