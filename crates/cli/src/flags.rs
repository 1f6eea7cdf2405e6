//! A flag for every setting, made from the table of settings, and the other sources: the file, the environment.

use crate::failure::Failure;
use crate::stderr::tell;
use clap::builder::ArgAction;
use clap::error::{ContextKind, ContextValue, Error, ErrorKind};
use clap::parser::ValueSource;
use clap::{Arg, ArgMatches, Args, Command, FromArgMatches};
use fanfare::settings::{self, DevKey, Partial, Problems, SECTIONS, SETTINGS, Setting, Settings, SourceFile, Sources};

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

/// Which file, for commands that are about one: by its name alone too. It is named once.
#[derive(Debug, Clone)]
pub(crate) struct FileOrConfig(pub(crate) String);

impl Args for FileOrConfig {
    fn augment_args(command: Command) -> Command {
        let file = Arg::new("file").value_name("FILE").help("The configuration, as --config names it");
        ConfigFile::augment_args(command.arg(file))
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for FileOrConfig {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, Error> {
        let named = ConfigFile::from_arg_matches(matches)?.config;
        // Not clap's own conflicts: a variable that is set would be one, and what stands on the line goes before it.
        match matches.get_one::<String>("file") {
            Some(_) if matches.value_source("config") == Some(ValueSource::CommandLine) => {
                let message = "the configuration is named twice, as an argument and by --config\n";
                Err(Error::raw(ErrorKind::ArgumentConflict, message))
            }
            Some(file) => Ok(FileOrConfig(file.clone())),
            None => Ok(FileOrConfig(named)),
        }
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
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
                .allow_hyphen_values(true) // `-5` is reported as too little, not as an unknown flag
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

    /// Reads everything: the file, if one is named, the environment, and these flags.
    pub(crate) fn load(&self, file: Option<&str>) -> Result<Settings, Problems> {
        Settings::load(self.sources(file, None)?)
    }

    /// The same with a key of the API that is `dev`'s own.
    pub(crate) fn load_with_key(&self, file: Option<&str>, key: DevKey) -> Result<Settings, Problems> {
        Settings::load(self.sources(file, Some(key))?)
    }

    /// The values that could be read, and the problems of the others.
    pub(crate) fn load_partial(&self, file: &str) -> Result<Partial, Problems> {
        Settings::load_partial(self.sources(Some(file), None)?)
    }

    fn sources(&self, file: Option<&str>, dev_key: Option<DevKey>) -> Result<Sources, Problems> {
        let file =
            file.map(|path| Ok(SourceFile { path: path.to_owned(), text: settings::read_file(path)? })).transpose()?;
        let environment = settings::process_environment();
        let mut defaults = Self::defaults();
        if file.is_some() {
            // A file without rules opens nothing, for `dev` as for `serve`.
            defaults.config.rules = Settings::default().config.rules;
        }
        Ok(Sources { defaults, file, environment, flags: self.0.clone(), dev_key, has_handlers: false })
    }
}

/// A new key of the API: 128 random bits.
pub(crate) fn random_key() -> Result<String, Failure> {
    let mut bytes = [0; 16];
    let failed = |error| Failure::ours(format!("no API key could be made, as the system gives no randomness: {error}"));
    getrandom::fill(&mut bytes).map_err(failed)?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// Flags of other servers, and the flags that they mean here. `VALUE` is the value on the line.
const MEANT: [(&[&str], &str); 4] = [
    (&["--port", "-p"], "--listen 127.0.0.1:VALUE (this machine only), or 0.0.0.0:VALUE (everybody)"),
    (&["--host", "--bind", "--address", "--addr", "--interface"], "--listen ADDRESS:PORT"),
    (&["--verbose", "-v", "--debug"], "--log-level debug"),
    (&["--workers", "--threads"], "--shards VALUE"),
];

/// Names our flag where somebody writes a flag of another server; clap alone finds only similar spellings.
pub(crate) fn point_to_the_right_one(error: &mut Error, line: impl Iterator<Item = String>) {
    let line: Vec<String> = line.collect();
    let Some(ContextValue::String(found)) = error.get(ContextKind::InvalidArg) else { return };
    let is_servers = line.get(1).is_some_and(|command| ["dev", "serve", "check", "config"].contains(&command.as_str()));
    let flag = found.split('=').next().unwrap_or_default();
    let meant = MEANT.iter().find(|(flags, _)| flags.contains(&flag));
    if error.kind() != ErrorKind::UnknownArgument || !is_servers {
        return;
    }
    if let Some((_, meant)) = meant {
        let at = line.iter().position(|word| word.split('=').next() == Some(flag));
        let value = at.and_then(|at| match line[at].split_once('=') {
            Some((_, value)) => Some(value),
            None => line.get(at + 1).map(String::as_str).filter(|next| !next.starts_with('-')),
        });
        let tip = meant.replace("VALUE", value.unwrap_or("N"));
        error.insert(ContextKind::Suggested, ContextValue::StyledStrs(vec![format!("write {tip}").into()]));
        error.remove(ContextKind::SuggestedArg);
    }
}

/// Prints all problems. The command fails with their number.
pub(crate) fn refused(problems: &Problems) -> Failure {
    tell(format_args!("{problems}\n"));
    let errors = problems.errors().count();
    let sentence = if errors == 1 {
        "1 setting is not accepted".to_owned()
    } else {
        format!("{errors} settings are not accepted")
    };
    Failure { sentence, hint: None, status: 1 }
}

/// Prints warnings about settings that are valid and probably a mistake.
pub(crate) fn warn(settings: &Settings) {
    for warning in settings.warnings() {
        tell(format_args!("{warning}\n"));
    }
}
