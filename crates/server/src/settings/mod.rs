//! The settings: the values of a file, of the environment and of the command line, then a checked whole.
//!
//! In: [`Sources`]. Out: [`Settings`], where each value knows its [`Source`], or [`Problems`]: all problems at once,
//! each with place, key, value, allowed values and a hint. A flag overrides the environment, the environment overrides
//! the file, and the file overrides the default. [`SETTINGS`] is the one definition of all settings.

mod auth;
mod channels;
mod exposure;
mod hooks;
mod keys;
mod kind;
mod lint;
pub(crate) mod nearest;
mod problem;
mod reference;
mod schemas;
mod table;
#[cfg(test)]
mod tests;
mod tls;
mod units;
mod written;

pub use auth::AuthSettings;
pub use channels::{PlacedRule, RULE_OPTIONS, RuleOption, RulePlace, show_rule};
pub use hooks::HookSettings;
pub use keys::{NamedKey, Secret};
pub use problem::{Problem, Problems, Severity, Source};
pub use reference::{commented_file, manual, reference_page};
pub use table::{SECTIONS, SETTINGS, Setting};

use crate::config::AdminOn;
use crate::config::Config;
use crate::config::address::Address;
use crate::config::auth::TokenKey;
use crate::config::hosts::{HostPattern, Hosts};
use crate::config::origin::Origins;
use channels::WrittenRule;
use fanfare_hub::Rules;
use std::collections::BTreeMap;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use table::LATER;
use units::Wrong;
use written::{Field, Raw, Written, looks_secret};

/// How the variables of the environment begin. The second underscore keeps clear of what Kubernetes injects for a
/// service that is named fanfare.
pub const PREFIX: &str = "FANFARE__";
/// The directory of the ACME authority by default.
const LETS_ENCRYPT: &str = "https://acme-v02.api.letsencrypt.org/directory";
/// The default port of the binary.
const PORT: u16 = 8080;

/// All settings of a server.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Where it listens.
    pub listen: Vec<Address>,
    /// The settings of the library: limits, origins, and the rules.
    pub config: Config,
    /// The chat protocol.
    pub chat: ChatSettings,
    /// The files for TLS; their contents are in `config.tls`.
    pub tls: TlsFiles,
    /// The address of keys of tokens; what was made of it is in `config.auth`.
    pub auth: AuthSettings,
    /// The hooks as they were written; what was made of them is in `config.hooks`.
    pub hooks: HookSettings,
    /// The log.
    pub log: LogSettings,
    /// The keys of the HTTP API.
    pub api_keys: Vec<NamedKey>,
    /// The dangers that the operator accepts, by their words.
    pub allow_insecure: Vec<String>,
    /// Dangerous combinations are refused: `fanfare serve`.
    is_guarded: bool,
    places: Vec<RulePlace>,
    sources: BTreeMap<&'static str, Source>,
    warnings: Vec<Problem>,
}

/// The chat protocol, as it is served.
#[derive(Debug, Clone)]
pub struct ChatSettings {
    /// Whether it is served.
    pub enabled: bool,
    /// Time between pings, in ms.
    pub heartbeat_ms: u64,
    /// The most characters of a `username`.
    pub username_chars_max: u32,
    /// The most characters of a `content`.
    pub content_chars_max: u32,
}

/// The files for TLS, or the order of a certificate.
#[derive(Debug, Clone)]
pub struct TlsFiles {
    /// The certificate chain, in PEM.
    pub certificate: Option<PathBuf>,
    /// The private key, in PEM.
    pub key: Option<PathBuf>,
    /// Names to order a certificate for by ACME, in place of the files.
    pub acme_domains: Vec<String>,
    /// The folder of the ACME account and the certificate.
    pub acme_cache: Option<PathBuf>,
    /// Mail addresses for the authority.
    pub acme_contact: Vec<String>,
    /// The directory of the authority.
    pub acme_directory: String,
    /// Authorities of the directory's own certificate, in PEM.
    pub acme_authority: Option<PathBuf>,
}

impl Default for TlsFiles {
    fn default() -> Self {
        TlsFiles {
            certificate: None,
            key: None,
            acme_domains: Vec::new(),
            acme_cache: None,
            acme_contact: Vec::new(),
            acme_directory: LETS_ENCRYPT.to_owned(),
            acme_authority: None,
        }
    }
}

/// The log.
#[derive(Debug, Clone)]
pub struct LogSettings {
    /// The least severe: `off`, `error`, `warn`, `info`, `debug` or `trace`.
    pub level: String,
    /// `text` or `json`.
    pub format: String,
    /// `on` or `off`: whether the rows of the audit log are lines of the log.
    pub audit: String,
}

impl LogSettings {
    /// Which lines are logged: [`Logs::filter`](crate::Logs::filter).
    pub fn filter(&self) -> String {
        match (self.level.as_str(), self.audit.as_str()) {
            ("off", _) => "off".to_owned(),
            (level, "off") => format!("{level},audit=off"),
            (level, _) => format!("{level},audit=info"),
        }
    }
}

/// The sources of settings. The caller gives all of them: this module does not read the environment by itself.
pub struct Sources {
    /// The values that no other source sets.
    pub defaults: Settings,
    /// The file, if there is one.
    pub file: Option<SourceFile>,
    /// The variables of the environment; only those that begin with [`PREFIX`], and those the file names, count.
    pub environment: Vec<(String, String)>,
    /// Flags, each with its text; a list as several of them.
    pub flags: Vec<(&'static Setting, String)>,
    /// A key of the API besides those that are configured, named `dev`.
    pub dev_key: Option<DevKey>,
    /// Whether handlers in Rust can answer: an embedding program has some, the binary has none.
    pub has_handlers: bool,
}

/// The file of some settings.
#[derive(Debug, Clone)]
pub struct SourceFile {
    /// Its path, as problems name it.
    pub path: String,
    /// Its content.
    pub text: String,
}

/// The API key of `fanfare dev`.
#[derive(Clone)]
pub struct DevKey {
    /// Where it comes from.
    pub at: Source,
    /// The key itself.
    pub key: String,
}

/// The valid part of the sources, for a caller that does not need all of them.
pub struct Partial {
    /// The settings without the invalid ones: an invalid value gives way to the next source, and an invalid rule is
    /// left out.
    pub settings: Settings,
    /// The errors, and the warnings: values that work and are probably not intended.
    pub problems: Problems,
}

impl Partial {
    /// The problems, with those that only the whole has: combinations that endanger clients. A server does not start
    /// with them, however good each value is.
    pub fn problems_of_the_whole(&self) -> Problems {
        exposure::added(&self.settings, self.problems.clone())
    }
}

impl Default for Settings {
    /// The defaults of `fanfare serve`: no rule, this machine only.
    fn default() -> Self {
        let loopback = |ip: std::net::IpAddr| Address::Tcp(SocketAddr::new(ip, PORT));
        Settings {
            listen: vec![loopback(Ipv4Addr::LOCALHOST.into()), loopback(Ipv6Addr::LOCALHOST.into())],
            config: Config { admin: AdminOn::default_address(), ..Config::default() },
            chat: ChatSettings {
                enabled: false,
                heartbeat_ms: 30_000,
                username_chars_max: 64,
                content_chars_max: 4_000,
            },
            tls: TlsFiles::default(),
            auth: AuthSettings::default(),
            hooks: HookSettings::default(),
            log: LogSettings { level: "info".to_owned(), format: "text".to_owned(), audit: "on".to_owned() },
            api_keys: Vec::new(),
            allow_insecure: Vec::new(),
            is_guarded: true,
            places: Vec::new(),
            sources: BTreeMap::new(),
            warnings: Vec::new(),
        }
    }
}

impl Settings {
    /// The defaults of `fanfare dev`: every channel is open, so are pages of any port of this machine, and there is a
    /// chat.
    pub fn dev() -> Self {
        let mut settings = Settings::default();
        settings.config.rules = Config::open().rules;
        settings.config.origins = Origins::Localhost;
        settings.config.hosts = Hosts::List(vec![HostPattern::localhost()]); // whatever address it listens on
        settings.config.admin = AdminOn::MainPort;
        settings.auth.stays_open = true;
        settings.is_guarded = false;
        settings.chat.enabled = true;
        settings.config.socketio.enabled = true;
        settings.config.socketio.max_disconnection_duration = Duration::from_secs(120);
        settings
    }

    /// Puts the sources together and checks the whole. Combinations that endanger clients are problems too, unless the
    /// program has handlers: then it listens by itself.
    ///
    /// # Errors
    /// All problems, in the order of the file, then of the environment and the flags.
    pub fn load(sources: Sources) -> Result<Settings, Problems> {
        let has_handlers = sources.has_handlers;
        let Partial { mut settings, mut problems } = Settings::load_partial(sources)?;
        if !has_handlers {
            problems = exposure::added(&settings, problems);
        }
        if problems.errors().next().is_some() {
            return Err(problems);
        }
        settings.warnings = problems.0;
        Ok(settings)
    }

    /// The same for a caller that needs only a part: an error in one setting does not hide the others.
    ///
    /// # Errors
    /// The file is no TOML, so that nothing of it is known.
    pub fn load_partial(sources: Sources) -> Result<Partial, Problems> {
        let Sources { defaults, file, environment, flags, dev_key, has_handlers } = sources;
        let mut loading = Loading { settings: defaults, problems: Vec::new() };
        // One rule for every variable: one that is empty is not set.
        let is_set = |(_, value): &&(String, String)| !value.is_empty();
        let variable =
            |name: &str| environment.iter().filter(is_set).find(|(key, _)| key == name).map(|(_, value)| value.clone());
        let mut is_readable = true;
        if let Some(SourceFile { path, text }) = &file {
            match written::parse(path, text, &variable) {
                Ok((fields, problems)) => {
                    loading.problems.extend(problems);
                    loading.take_file(&fields, Path::new(path).parent().unwrap_or(Path::new("")));
                }
                Err(problems) => {
                    loading.problems.extend(problems);
                    is_readable = false;
                }
            }
        }
        for (name, value) in environment.iter().filter(is_set).filter(|(name, _)| name.starts_with(PREFIX)) {
            loading.take_variable(name, value);
        }
        loading.take_flags(&flags);
        if let Some(DevKey { at, key }) = dev_key {
            loading.take_dev_key(at, &key);
        }
        loading.load_tls();
        loading.load_auth();
        loading.load_hooks();
        loading.check_proxies();
        loading.check(file.as_ref().map(|file| file.path.as_str()), has_handlers);
        let Loading { mut settings, mut problems } = loading;
        // Problems with variables of the file are reported before the rest of it is read.
        problems.sort_by_key(|problem| problem.at.line().unwrap_or(usize::MAX));
        if !is_readable {
            return Err(Problems(problems));
        }
        settings.config.api_keys = settings.api_keys.iter().flat_map(NamedKey::api_keys).collect();
        Ok(Partial { settings, problems: Problems(problems) })
    }

    /// The warnings: values that work and are probably not intended.
    pub fn warnings(&self) -> &[Problem] {
        &self.warnings
    }

    /// Where a setting's value comes from.
    pub fn source(&self, setting: &Setting) -> &Source {
        self.sources.get(setting.key).unwrap_or(&Source::Default)
    }

    /// A setting's value as it would be written in the file.
    pub fn shown(&self, setting: &Setting) -> String {
        setting.kind.show(&mut self.clone())
    }

    /// The keys of tokens, each with the place where it was written.
    pub fn token_keys(&self) -> impl Iterator<Item = (&TokenKey, &Source)> {
        self.config.auth.keys.iter().zip(&self.auth.places)
    }

    /// How many secrets sign the requests of hooks, and where they were written; `None` without one.
    pub fn hook_secrets(&self) -> Option<(usize, &Source)> {
        let at = self.hooks.secrets_at.as_ref()?;
        Some((self.config.hooks.secrets.len(), at))
    }

    /// The rules in their order.
    pub fn rules(&self) -> impl Iterator<Item = PlacedRule<'_>> {
        self.config.rules.iter().enumerate().map(|(at, rule)| PlacedRule { rule, place: self.places.get(at) })
    }

    /// The dangers if the part of these settings that needs no restart came in force in a server that runs with the
    /// rest of `running`.
    ///
    /// # Errors
    /// All dangers that these settings do not accept.
    pub fn check_reload(&self, running: &Settings) -> Result<(), Problems> {
        let dangers = exposure::added(&exposure::reloaded(self, running), Problems(Vec::new()));
        if dangers.errors().next().is_some() { Err(dangers) } else { Ok(()) }
    }

    /// Keys of the settings whose values differ from those of `running`: they need a restart. Rules and API keys do
    /// not, nor does another certificate where there was one, nor what a token must say where tokens were checked.
    pub fn differing(&self, running: &Settings) -> Vec<&'static str> {
        let is_renewed = self.config.tls.is_some() && running.config.tls.is_some();
        let were_checked = running.config.auth.is_on();
        let had_hooks = running.config.hooks.is_on();
        let had_notices = running.config.hooks.notices.url.is_some();
        let needs_restart = |setting: &Setting| match setting.key {
            "tls.certificate" | "tls.key" => !is_renewed,
            "allow_insecure" => false,
            key if RELOADED.contains(&key) => false,
            "hooks.ask" => true,
            "hooks.notify" | "hooks.notify_channels" | "hooks.notices_bytes_max" => !had_notices,
            key if key.starts_with("hooks.") => !had_hooks,
            "auth.anonymous" | "auth.issuer" | "auth.audience" | "auth.leeway" | "auth.token_bytes_max" => {
                !were_checked
            }
            _ => true,
        };
        let is_same = |setting: &Setting| setting.kind.is_same(&mut self.clone(), &mut running.clone());
        let differ = |setting: &&Setting| needs_restart(setting) && !is_same(setting);
        let secrets = self.config.hooks.secrets != running.config.hooks.secrets;
        let secrets = (secrets && !had_hooks).then_some("hooks.secret");
        SETTINGS.iter().filter(differ).map(|setting| setting.key).chain(secrets).collect()
    }
}

/// Limits that a reload puts in force.
const RELOADED: [&str; 11] = [
    "limits.connections_per_user_max",
    "limits.new_connections",
    "limits.overload_lag",
    "limits.memory_max",
    "limits.new_connections_per_address",
    "limits.messages_per_connection",
    "limits.bytes_per_connection",
    "limits.messages_per_user",
    "limits.bytes_per_user",
    "limits.new_channels_per_user",
    "limits.polls_per_connection",
];

/// Reads a file.
///
/// # Errors
/// The problem that prevents it.
pub fn read_file(path: &str) -> Result<String, Problems> {
    std::fs::read_to_string(path).map_err(|error| {
        Problems(vec![Problem {
            severity: Severity::Error,
            at: Source::File { path: path.into(), line: 0 },
            key: "the file".to_owned(),
            value: None,
            problem: match error.kind() {
                std::io::ErrorKind::InvalidData => "it is no text: UTF-8 is expected".to_owned(),
                _ => format!("it cannot be read: {error}"),
            },
            allowed: "a TOML file".to_owned(),
            hint: match error.kind() {
                std::io::ErrorKind::NotFound => {
                    "`fanfare init` writes one to begin with; --config names another".to_owned()
                }
                _ => "look at the path, and at who may read it".to_owned(),
            },
        }])
    })
}

/// Reads a time as settings have it: `10s`, `5m`, `24h`.
///
/// # Errors
/// What is wrong with it, and how it is written.
pub fn parse_time(text: &str) -> Result<Duration, String> {
    units::millis(text).map(Duration::from_millis).map_err(|Wrong { problem, hint }| format!("{problem}: {hint}"))
}

/// The variables of the process. Bytes that are not UTF-8 become U+FFFD, and a setting that uses such a value is
/// refused.
pub fn process_environment() -> Vec<(String, String)> {
    let text = |text: std::ffi::OsString| text.to_string_lossy().into_owned();
    std::env::vars_os().map(|(name, value)| (text(name), text(value))).collect()
}

/// The configuration that an embedding program takes from a file and the environment.
pub(crate) fn of_embedder(path: &str, must_exist: bool) -> Result<Config, Problems> {
    let file = match must_exist || Path::new(path).exists() {
        true => Some(SourceFile { path: path.to_owned(), text: read_file(path)? }),
        false => None,
    };
    let (mut defaults, environment) = (Settings::default(), process_environment());
    defaults.config.admin = AdminOn::Off; // within a program only the named ports are opened
    let settings =
        Settings::load(Sources { defaults, file, environment, flags: Vec::new(), dev_key: None, has_handlers: true })?;
    for warning in settings.warnings() {
        tracing::warn!("{}", warning.in_one_line());
    }
    Ok(settings.config)
}

struct Loading {
    settings: Settings,
    problems: Vec<Problem>,
}

impl Loading {
    fn take_file(&mut self, fields: &[Field], folder: &Path) {
        for field in fields {
            match (field.key.as_str(), &field.value.raw) {
                ("channels", _) => {
                    let rules = channels::read(field, folder, &mut self.problems).into_iter();
                    let (rules, places) = rules.map(|WrittenRule { rule, place }| (rule, place)).unzip();
                    self.settings.config.rules = Arc::new(Rules::new(rules));
                    self.settings.places = places;
                }
                ("api_keys", Raw::Table(keys)) => {
                    for key in keys {
                        self.take_key(&key.key, &key.value, folder);
                    }
                }
                (section, Raw::Table(inner)) if is_section(section) => {
                    for field in inner {
                        if let ("auth", "keys", Raw::Table(keys)) = (section, &*field.key, &field.value.raw) {
                            for key in keys {
                                self.take_token_key(&key.key, &key.value, folder);
                            }
                            continue;
                        }
                        if section == "hooks" && self.take_hook_secret(&field.key, &field.value, folder) {
                            continue;
                        }
                        self.take(&format!("{section}.{}", field.key), &field.at, &field.value);
                    }
                }
                // One problem for a missing part is enough.
                (later, Raw::Table(inner)) if is_later(later) && !inner.is_empty() => {
                    self.take(&format!("{later}.{}", inner[0].key), &inner[0].at, &inner[0].value);
                }
                (key, _) => self.take(key, &field.at, &field.value),
            }
        }
    }

    fn take_key(&mut self, name: &str, value: &Written, folder: &Path) {
        let Some(mut key) = keys::read(name, value, folder, &mut self.problems) else { return };
        let keys = &mut self.settings.api_keys;
        let place = keys.iter().position(|other| other.name == key.name);
        if let Some(replaced) = place.map(|place| keys.remove(place)) {
            // The environment and flags have no words for restrictions: without these, a key that is replaced by them
            // would be one that may do everything.
            key.commands = key.commands.or(replaced.commands);
            key.channels = key.channels.or(replaced.channels);
        }
        let is_same = |other: &&NamedKey| other.keys.iter().any(|other| key.keys.contains(other));
        if let Some(other) = keys.iter().find(is_same) {
            self.problems.push(Problem {
                severity: Severity::Error,
                at: key.at.clone(),
                key: format!("api_keys.{name}"),
                value: None,
                problem: format!("it is the same text as {:?} ({})", other.name, other.at),
                allowed: "a text of its own for every name".to_owned(),
                hint: "make another with: openssl rand -hex 16".to_owned(),
            });
            return;
        }
        keys.push(key);
    }

    /// It may be one of the file's keys too: then there is nothing to add.
    fn take_dev_key(&mut self, at: Source, key: &str) {
        let mut known = self.settings.api_keys.iter().flat_map(|named| &named.keys);
        if !known.any(|known| known.expose() == key) {
            self.take_key("dev", &Written::text(key, at), Path::new(""));
        }
    }

    fn take_variable(&mut self, name: &str, value: &str) {
        let at = Source::Environment(name.into());
        let written = Written::text(value, at.clone());
        let key = name[PREFIX.len()..].to_lowercase().replace("__", ".");
        if written::is_no_text(value) {
            let (problem, hint) = ("the variable is not UTF-8", "write it in UTF-8, or unset it");
            let allowed = Setting::of(&key).map_or_else(|| "text in UTF-8".to_owned(), Setting::allowed);
            return self.refuse(&key, &at, None, problem, &allowed, hint);
        }
        if let Some(key) = key.strip_prefix("api_keys.") {
            return self.take_key(key, &written, Path::new(""));
        }
        if let Some(key) = key.strip_prefix("auth.keys.") {
            return self.take_token_key(key, &written, Path::new(""));
        }
        if let Some(name) = key.strip_prefix("hooks.")
            && self.take_hook_secret(name, &written, Path::new(""))
        {
            return;
        }
        if key == "channels" || key.starts_with("channels.") {
            let (problem, hint) = ("rules stand in the file only", "write [[channels]] into the file");
            return self.refuse(&key, &at, None, problem, "no variable sets rules", hint);
        }
        self.take(&key, &at, &written);
    }

    fn take_flags(&mut self, flags: &[(&'static Setting, String)]) {
        for setting in SETTINGS {
            let texts: Vec<&str> =
                flags.iter().filter(|(of, _)| of.key == setting.key).map(|(_, text)| text.as_str()).collect();
            if let [.., last] = texts.as_slice() {
                let at = Source::Flag(format!("--{}", setting.flag()).into());
                let text = if setting.is_list() { texts.join(",") } else { (*last).to_owned() };
                self.take(setting.key, &at, &Written::text(&text, at.clone()));
            }
        }
    }

    /// One value of one key, wherever it comes from.
    fn take(&mut self, key: &str, at: &Source, written: &Written) {
        let Some(setting) = Setting::of(key) else { return self.unknown(key, at, written) };
        if written.is_unknown() {
            return; // reported already
        }
        match setting.kind.set(written, &mut self.settings) {
            Ok(()) => {
                self.settings.sources.insert(setting.key, at.clone());
            }
            Err(Wrong { problem, hint }) => {
                let shown = setting.is_shown().then(|| written.shown.clone());
                self.refuse(key, at, shown, &problem, &setting.allowed(), &hint);
            }
        }
    }

    fn refuse(&mut self, key: &str, at: &Source, value: Option<String>, problem: &str, allowed: &str, hint: &str) {
        let severity = Severity::Error;
        let (key, problem, allowed, hint) = (key.to_owned(), problem.to_owned(), allowed.to_owned(), hint.to_owned());
        self.problems.push(Problem { severity, at: at.clone(), key, value, problem, allowed, hint });
    }

    fn unknown(&mut self, key: &str, at: &Source, written: &Written) {
        let shown = match &written.raw {
            Raw::Table(_) => None,
            // It may be a misplaced secret, because secrets often come from the environment.
            _ if looks_secret(key) || matches!(at, Source::Environment(_)) => None,
            _ => Some(written.shown.clone()),
        };
        let (section, name) = key.split_once('.').unwrap_or(("", key));
        let first = if section.is_empty() { name } else { section };
        let bare = first.strip_suffix("_file").unwrap_or(first);
        if let Some((_, what)) = LATER.iter().find(|(later, _)| *later == bare) {
            let problem = format!("this version does not have it; it comes later ({what})");
            let hint = "remove it; CHANGELOG.md tells when it comes";
            return self.refuse(key, at, shown, &problem, "nothing, in this version", hint);
        }
        if key == "api_key" {
            let problem = "there is no such setting: keys have names";
            let hint = match at {
                Source::Environment(_) => format!(
                    "the key of `fanfare dev` and of `fanfare publish` is FANFARE_API_KEY, with one underscore; a server's keys stand in \
                     [api_keys], or in {PREFIX}API_KEYS__NAME; unset this one"
                ),
                _ => "write [api_keys] and below it: backend = \"key\"".to_owned(),
            };
            return self.refuse(key, at, None, problem, "[api_keys] with a key for each name", &hint);
        }
        if key == "auth.keys" {
            let hint = "write [auth.keys] and below it: main = { secret_file = \"…\" }";
            let allowed = format!("a table: name = \"key\", or name = {{ … }} with {}", auth::OPTIONS.join(", "));
            return self.refuse(key, at, None, "it is no table of keys", &allowed, hint);
        }
        if first == "api_keys" {
            let hint = "write [api_keys] and below it: name = \"key\"";
            return self.refuse(key, at, None, "it is no table of keys", "a table: name = \"key\"", hint);
        }
        let variable = matches!(at, Source::Environment(_));
        if is_section(first) && section.is_empty() {
            let hint = if variable {
                let all = SETTINGS.iter().filter(|setting| setting.section() == first).map(Setting::variable);
                format!("its variables are: {}", all.collect::<Vec<_>>().join(", "))
            } else {
                format!("write [{first}] and its settings below it")
            };
            return self.refuse(key, at, shown, "it is a section", "its settings, each by itself", &hint);
        }
        let sections = || SECTIONS.iter().map(|(name, _)| *name).filter(|name| !name.is_empty());
        let top = || SETTINGS.iter().filter(|s| s.section().is_empty()).map(|s| s.key).chain(sections());
        let table = (section == "auth").then_some("keys"); // a table of names, and so no setting
        let here = || SETTINGS.iter().filter(|s| s.section() == section).map(Setting::name).chain(table);
        let elsewhere = SETTINGS.iter().find(|setting| setting.name() == name.replace('-', "_"));
        let written_as = |key: &str| match Setting::of(key) {
            Some(setting) if variable => setting.variable(),
            None if variable && key == "api_keys" => format!("{PREFIX}API_KEYS__NAME"),
            None if variable && key == "auth.keys" => format!("{PREFIX}AUTH__KEYS__NAME"),
            _ => key.to_owned(),
        };
        let near_table = table.filter(|table| nearest::nearest(name, [*table]).is_some());
        let hint = if let Some(table) = near_table {
            format!("did you mean {:?}?", written_as(&format!("{section}.{table}")))
        } else if let Some(setting) = elsewhere {
            match setting.section() {
                "" => format!("did you mean {:?}? It stands at the top, before every section", written_as(setting.key)),
                section if !variable => format!("did you mean {:?} in the section [{section}]?", setting.name()),
                _ => format!("did you mean {:?}?", written_as(setting.key)),
            }
        } else if !section.is_empty() && is_section(section) {
            match nearest::nearest(name, here()) {
                Some(near) => format!("did you mean {:?}?", written_as(&format!("{section}.{near}"))),
                None => "docs/config.md tells what each does".to_owned(),
            }
        } else {
            let all = top().chain(["channels", "api_keys"]);
            let whole = SETTINGS.iter().map(|setting| setting.key);
            match nearest::nearest(first, all.clone()).or_else(|| nearest::nearest(key, whole)) {
                Some(near) if !section.is_empty() && is_section(near) => {
                    format!("did you mean {:?}?", written_as(&format!("{near}.{name}")))
                }
                Some(near) => format!("did you mean {:?}?", written_as(near)),
                None => "docs/config.md tells what each does".to_owned(),
            }
        };
        let allowed = if is_section(section) && !section.is_empty() {
            format!("in [{section}]: {}", here().collect::<Vec<_>>().join(", "))
        } else {
            top().chain(["channels", "api_keys"]).collect::<Vec<_>>().join(", ")
        };
        self.refuse(key, at, shown, "there is no such setting", &allowed, &hint);
    }

    /// Checks that the addresses of `proxy_protocol` are listened on, and that somebody may speak there.
    fn check_proxies(&mut self) {
        const KEYS: [&str; 3] = ["listen", "trusted_proxies", "proxy_protocol"];
        if KEYS.iter().any(|key| self.is_wrong(key)) {
            return;
        }
        let [_, trusted, proxied] = KEYS;
        let source = |this: &Self, key| this.settings.sources.get(key).cloned().unwrap_or(Source::Default);
        let shown = |this: &Self, key| Setting::of(key).map(|setting| this.settings.shown(setting));
        let Config { trusted_proxies, proxy_protocol, .. } = &self.settings.config;
        let everybody = trusted_proxies.iter().find(|proxy| proxy.is_everybody()).cloned();
        let nobody = trusted_proxies.is_empty() && !proxy_protocol.is_empty();
        let elsewhere = proxy_protocol.iter().find(|address| !self.settings.listen.contains(address)).cloned();
        if let Some(address) = elsewhere {
            let problem = format!("\"{address}\" is not an address of listen");
            let hint = "list it in `listen` too";
            self.refuse(proxied, &source(self, proxied), shown(self, proxied), &problem, "addresses of listen", hint);
        } else if nobody {
            let problem = "trusted_proxies is empty, so every connection there would be closed";
            let hint = "list the proxy in `trusted_proxies`: its address, its network, \"loopback\" or \"unix\"";
            let allowed = "[] (none) as long as no proxy is trusted";
            self.refuse(proxied, &source(self, proxied), shown(self, proxied), problem, allowed, hint);
        }
        if let Some(everybody) = everybody {
            self.problems.push(Problem {
                severity: Severity::Warning,
                at: source(self, trusted),
                key: trusted.to_owned(),
                value: Some(format!("\"{everybody}\"")),
                problem: "every peer is believed, so every client may claim any address".to_owned(),
                allowed: "the addresses of your proxies".to_owned(),
                hint: "list the network that your proxies are in".to_owned(),
            });
        }
    }

    /// Checks that need all settings. A problem that follows from a reported one is not reported.
    fn check(&mut self, file: Option<&str>, has_handlers: bool) {
        let limits = &self.settings.config.limits;
        let pairs =
            [("limits.outbox_bytes_max", limits.outbox_bytes_max), ("limits.page_bytes_max", limits.page_bytes_max)];
        let message_bytes_max = limits.message_bytes_max;
        for (key, found) in pairs {
            let other = "limits.message_bytes_max";
            if found < message_bytes_max && !self.is_wrong(key) && !self.is_wrong(other) {
                // The problem is reported at a value that was written.
                let blamed = if self.settings.sources.contains_key(key) { key } else { other };
                let at = self.settings.sources.get(blamed).cloned().unwrap_or(Source::Default);
                let shown = Setting::of(blamed).map(|setting| self.settings.shown(setting));
                let problem = format!(
                    "{key} ({}) is less than {other} ({}): one message would not fit",
                    units::show_bytes(found as u64),
                    units::show_bytes(message_bytes_max as u64)
                );
                let hint = format!("raise {key} or lower {other}");
                self.refuse(blamed, &at, shown, &problem, &format!("{key} of at least {other}"), &hint);
            }
        }
        let rules = self.settings.config.rules.iter().zip(&self.settings.places);
        let rules: Vec<_> = rules.map(|(rule, place)| lint::RuleAt { rule, place }).collect();
        let history_bytes_max = "limits.history_bytes_max";
        let beside = lint::Beside {
            history_bytes_max: (!self.is_wrong(history_bytes_max))
                .then_some(self.settings.config.limits.history_bytes_max),
            has_keys: !self.settings.api_keys.is_empty() || self.is_wrong("api_keys"),
            has_handlers,
            has_users: has_handlers
                || self.settings.config.auth.has_keys()
                || self.settings.config.hooks.connect.is_some()
                || self.is_wrong("auth")
                || self.is_wrong("hooks"),
            hooked: self.hooked_actions(),
        };
        let mut found = lint::rules(&rules, &beside);
        if let Some(path) = file
            && self.settings.config.rules.iter().next().is_none()
            && self.problems.is_empty()
            && !has_handlers
        {
            found.push(lint::no_rules(path));
        }
        self.problems.append(&mut found);
    }

    /// Whether a problem was found with this setting, or with one below it.
    fn is_wrong(&self, key: &str) -> bool {
        let is_it = |found: &str| found.strip_prefix(key).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'));
        self.problems.iter().any(|problem| problem.severity == Severity::Error && is_it(&problem.key))
    }
}

fn is_later(name: &str) -> bool {
    LATER.iter().any(|(later, _)| *later == name)
}

fn is_section(name: &str) -> bool {
    SECTIONS.iter().any(|(section, _)| *section == name)
}
