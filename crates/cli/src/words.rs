//! The output of a running server on stderr: for people a few lines and then the log, for machines only the log.
//!
//! Where `log.format` is `json`, every line from here on is one JSON object: the greeting, warnings about the
//! settings, the reason why it did not start, and a panic are events of the log. (Mistakes of the settings
//! themselves are in plain text, because the format is one of the settings.) If it is `text`, the greeting is for the
//! person who has just typed the command and is printed at every level; everything after it is the log.
//!
//! All of it goes by the queue of the log, so that nobody waits for the reader of stderr: not at the start, not in a
//! panic, not at the end.

use crate::failure::Failure;
use fanfare::hooks::HookSecret;
use fanfare::settings::Settings;
use fanfare::{Address, ApiKey, LogError, LogFormat, LogGuard, LogSecrets, Logs, Running};
use std::path::PathBuf;

/// How this process speaks.
pub(crate) struct Words {
    format: LogFormat,
    secrets: LogSecrets,
    log: LogGuard,
}

/// The lines that are printed when connections are accepted.
pub(crate) struct Greeting {
    /// The summary: "dev mode: 2 rules of fanfare.toml; 1 shard".
    pub(crate) what: String,
    /// For people, after the addresses: whole lines.
    pub(crate) more: String,
    /// The file of a certificate that was made for this start. In JSON, where `more` is not printed.
    pub(crate) certificate: Option<PathBuf>,
}

impl Words {
    /// Sets up the log, in which no API key appears, except for a new one that is printed once.
    pub(crate) fn of(settings: &Settings, new_key: Option<&str>) -> Result<Self, Failure> {
        let failed = |error: LogError| Failure::users(error.to_string());
        let format: LogFormat = settings.log.format.parse().map_err(failed)?;
        let logs = Logs::default().format(format).filter(&settings.log.filter()).panics();
        let secrets = logs.secrets();
        let known = secrets_of(settings).filter(|key| Some(*key) != new_key);
        known.for_each(|key| secrets.add(key));
        let log = logs.init().map_err(failed)?;
        Ok(Words { format, secrets, log })
    }

    /// For code that ends the process without coming back here.
    pub(crate) fn log(&self) -> LogGuard {
        self.log.clone()
    }

    fn is_json(&self) -> bool {
        self.format == LogFormat::Json
    }

    /// From now on these keys are blotted out: one that a client puts where it does not belong must not be found in
    /// the log.
    pub(crate) fn keep_secret(&self, settings: &Settings) {
        secrets_of(settings).for_each(|key| self.secrets.add(key));
    }

    /// Prints warnings about settings that are valid and probably a mistake.
    pub(crate) fn warn(&self, settings: &Settings) {
        if self.is_json() {
            settings.warnings().iter().for_each(|warning| tracing::warn!("{}", warning.in_one_line()));
        } else {
            settings.warnings().iter().for_each(|warning| self.log.say(&format!("{warning}\n\n")));
        }
    }

    /// Says that it runs, and where. A new key is said first, and blotted out from then on: before anybody knows
    /// where the server is, and could put the key where the log sees it.
    pub(crate) fn greet(&self, running: &Running, greeting: &Greeting, settings: &Settings, new_key: Option<&str>) {
        let version = env!("CARGO_PKG_VERSION");
        let watched = running.admin_address();
        let scheme = if settings.config.tls.is_some() { "https" } else { "http" };
        if self.is_json() {
            tracing::info!(version, "fanfare {version}{}", greeting.what);
            if let Some(api_key) = new_key {
                tracing::info!(api_key, "an API key was made for this start");
            }
            self.keep_secret(settings);
            if let Some(path) = &greeting.certificate {
                let certificate = path.display();
                tracing::info!(%certificate, "a certificate was made until this server ends, for --cacert");
            }
            for address in running.addresses() {
                tracing::info!(%address, "listening on {}", place(address, scheme));
            }
            if let Some(address) = watched {
                tracing::info!(%address, "monitoring at {}", place(address, "http"));
            }
            return;
        }
        self.keep_secret(settings); // the greeting is not an event, so its key stays readable
        let mut text = format!("fanfare {version}{}\n", greeting.what);
        running.addresses().iter().for_each(|address| text += &format!("listening on {}\n", place(address, scheme)));
        watched.iter().for_each(|address| {
            text += &format!("monitoring at {} (/metrics, /readyz, /healthz)\n", place(address, "http"))
        });
        self.log.say(&(text + &greeting.more));
    }

    /// Tells why it ends badly, also where nobody wants a log. Only its status is left.
    pub(crate) fn tell(&self, failure: Failure) -> Failure {
        match self.is_json() && tracing::enabled!(tracing::Level::ERROR) {
            true => tracing::error!(hint = failure.hint, "{}", failure.sentence),
            false => self.log.say(&failure.to_string()),
        }
        Failure::reported(failure.status)
    }
}

/// Where a client finds it.
fn place(address: &Address, scheme: &str) -> String {
    match address {
        Address::Tcp(address) => format!("{scheme}://{address}"),
        Address::Unix(_) => address.to_string(),
    }
}

/// The texts that must not be found in a log.
fn secrets_of(settings: &Settings) -> impl Iterator<Item = &str> {
    let of_tokens = settings.config.auth.keys.iter().filter_map(|key| std::str::from_utf8(key.expose_secret()?).ok());
    let of_hooks = settings.config.hooks.secrets.iter().map(HookSecret::expose);
    settings.config.api_keys.iter().map(ApiKey::secret).chain(of_tokens).chain(of_hooks)
}
