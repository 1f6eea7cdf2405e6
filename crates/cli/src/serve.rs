//! `fanfare serve`: the server of a configuration file. Without one it does not start, because it does not guess the
//! rights of unknown clients.

use crate::failure::Failure;
use crate::flags::{ConfigFile, SettingFlags, refused};
use crate::run::{self, Plan, counted};
use crate::words::Greeting;

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
    run::run(Plan {
        settings,
        new_key: None,
        feed: false,
        pages: None,
        greeting: &|_, settings| Greeting {
            what: format!(
                ": {} of {file}; {}",
                counted(settings.config.rules.iter().count(), "rule"),
                counted(settings.config.shards, "shard")
            ),
            more: String::new(),
            certificate: None,
        },
        again: Some(&load),
    })
}
