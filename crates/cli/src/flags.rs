//! A flag for every setting, made from the table of settings, and what is read with them: the file, the environment.

use crate::failure::Failure;
use clap::builder::ArgAction;
use clap::error::Error;
use clap::{Arg, ArgMatches, Args, Command, FromArgMatches};
use fanfare::settings::{self, Problems, SECTIONS, SETTINGS, Setting, Settings, Sources};

/// The file that is read where none is named.
pub(crate) const FILE: &str = "fanfare.toml";

/// Settings that were given as flags, of `dev` or of `serve`: they differ in their defaults.
#[derive(Clone, Default)]
pub(crate) struct SettingFlags<const DEV: bool = false>(Vec<(&'static Setting, String)>);

/// Which file.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct ConfigFile {
    /// The configuration
    #[arg(long, env = "FANFARE_CONFIG", value_name = "FILE", default_value = FILE)]
    pub(crate) config: String,
}

impl<const DEV: bool> Args for SettingFlags<DEV> {
    fn augment_args(command: Command) -> Command {
        let defaults = Self::defaults();
        SETTINGS.iter().fold(command, |command, setting| {
            let section = setting.section();
            let help = setting.help(&defaults);
            let arg = Arg::new(setting.key)
                .long(setting.flag())
                .value_name(setting.placeholder())
                .help(help.clone())
                .long_help(format!(
                    "{}\n\nAllowed: {}. In the environment: {}",
                    help,
                    setting.allowed(),
                    setting.variable()
                ))
                .action(if setting.is_list() { ArgAction::Append } else { ArgAction::Set })
                .allow_hyphen_values(true) // `-5` is told to be too little, not to be no flag
                .hide_short_help(!section.is_empty());
            command.arg(match SECTIONS.iter().find(|(name, _)| *name == section && !name.is_empty()) {
                Some((name, _)) => arg.help_heading(format!("Settings of [{name}]")),
                None => arg,
            })
        })
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl<const DEV: bool> FromArgMatches for SettingFlags<DEV> {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, Error> {
        let given = |setting: &'static Setting| {
            let texts = matches.get_many::<String>(setting.key).into_iter().flatten();
            texts.map(move |text| (setting, text.clone()))
        };
        Ok(SettingFlags(SETTINGS.iter().flat_map(given).collect()))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

impl<const DEV: bool> SettingFlags<DEV> {
    fn defaults() -> Settings {
        if DEV { Settings::dev() } else { Settings::default() }
    }

    /// Reads everything: the file, if one is named, the environment, and these flags. A variable of `not_ours` is another
    /// part's to read.
    pub(crate) fn load(&self, file: Option<&str>, not_ours: &[&str]) -> Result<Settings, Problems> {
        let file = file.map(|path| Ok((path.to_owned(), settings::read_file(path)?))).transpose()?;
        let mut environment = settings::process_environment();
        environment.retain(|(name, _)| !not_ours.contains(&name.as_str()));
        let defaults = Self::defaults();
        Settings::load(Sources { defaults, file, environment, flags: self.0.clone(), has_handlers: false })
    }
}

/// Tells of all that is wrong. What ends the command is how many there are.
pub(crate) fn refused(problems: &Problems) -> Failure {
    eprintln!("{problems}\n");
    let errors = problems.0.iter().filter(|problem| problem.severity == settings::Severity::Error).count();
    let sentence =
        if errors == 1 { "1 setting is not taken".to_owned() } else { format!("{errors} settings are not taken") };
    Failure { sentence, hint: None, status: 1 }
}

/// Tells of what is taken, and is probably not what was meant.
pub(crate) fn warn(settings: &Settings) {
    for warning in settings.warnings() {
        eprintln!("{warning}\n");
    }
}
