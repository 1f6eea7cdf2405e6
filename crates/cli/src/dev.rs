//! `fanfare dev`: a server to try things with. Permissive rules, pages of any local port, loopback addresses, the demos.

use crate::demos;
use crate::failure::Failure;
use crate::flags::{SettingFlags, refused, warn};
use crate::run::{self, Plan};
use fanfare::Running;
use fanfare::settings::Settings;
use std::fmt::Write as _;

/// An older name than `FANFARE__API_KEYS__DEV`, and shorter.
const KEY_VARIABLE: &str = "FANFARE__API_KEY";

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Rules and settings of this file, in place of those that let everybody do everything
    #[arg(long, value_name = "FILE")]
    config: Option<String>,
    /// The key for the application's API [default: a new one at each start]
    #[arg(long, env = KEY_VARIABLE, value_name = "KEY", hide_env_values = true)]
    api_key: Option<String>,
    #[command(flatten)]
    flags: SettingFlags<true>,
}

/// Runs until SIGTERM or SIGINT; a second one ends it at once.
pub(crate) fn run(args: Args) -> Result<(), Failure> {
    let load = || args.flags.load(args.config.as_deref(), &[KEY_VARIABLE]);
    let settings = load().map_err(|problems| refused(&problems))?;
    warn(&settings);
    let api_key = args.api_key.clone().unwrap_or_else(random_key);
    run::run(Plan {
        settings,
        pages: Some(demos::router()),
        greeting: &|running, settings| greeting(running, settings, args.config.as_deref(), &api_key),
        again: args.config.as_ref().map(|_| &load as _),
    })
}

fn greeting(running: &Running, settings: &Settings, file: Option<&str>, api_key: &str) -> String {
    let (version, shards) = (env!("CARGO_PKG_VERSION"), run::counted(settings.config.shards, "shard"));
    let rules = match file {
        None => "every channel is open to everybody who reaches this port".to_owned(),
        Some(file) => format!("{} of {file}", run::counted(settings.config.rules.iter().count(), "rule")),
    };
    let mut text = format!("fanfare {version}, dev mode: {rules}; {shards}\n{}", run::addresses(running));
    let _ = writeln!(text, "API key: {api_key}"); // writing to a String cannot fail
    if let Some(address) = running.tcp_address() {
        let _ = writeln!(text, "open http://localhost:{} in two windows: a chat", address.port());
    }
    text
}

fn random_key() -> String {
    let mut bytes = [0; 16];
    match getrandom::fill(&mut bytes) {
        Ok(()) => bytes.iter().map(|byte| format!("{byte:02x}")).collect(),
        Err(_) => String::new(), // no randomness, no key: an empty one is never accepted
    }
}
