//! `fanfare check`: is this configuration good? Everything that is wrong with it, at once.

use crate::failure::Failure;
use crate::flags::{ConfigFile, FILE, SettingFlags, refused, warn};
use crate::run::counted;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// The configuration
    #[arg(env = "FANFARE_CONFIG", value_name = "FILE", default_value = FILE)]
    config: String,
}

pub(crate) fn run(args: Args) -> Result<(), Failure> {
    let file = ConfigFile { config: args.config };
    let loaded = SettingFlags::<false>::default().load(Some(&file.config), &[]);
    let settings = loaded.map_err(|problems| refused(&problems))?;
    warn(&settings);
    let rules = counted(settings.config.rules.iter().count(), "rule");
    let keys = counted(settings.api_keys.len(), "API key");
    let warnings = match settings.warnings().len() {
        0 => "nothing to complain about".to_owned(),
        count => counted(count, "warning"),
    };
    println!("{}: {rules}, {keys}; {warnings}", file.config);
    Ok(())
}
