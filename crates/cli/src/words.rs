//! What a server that runs says on stderr: for people a few lines and then the log, for machines the log and nothing else.
//!
//! Where `log.format` is `json`, every line from here on is one JSON object: the greeting, warnings about the settings, the
//! reason why it did not start, and a panic are events of the log. (What is wrong with the settings themselves is told in
//! plain text: the format is one of them.) Where it is `text`, the greeting is for whoever has just typed the command, is
//! there at every level, and everything after it is the log.

use crate::failure::Failure;
use crate::flags;
use fanfare::settings::Settings;
use fanfare::{Address, ApiKey, LogError, LogFormat, LogSecrets, Logs, Running};
use std::io::Write as _;

/// How this process speaks.
pub(crate) struct Words {
    format: LogFormat,
    secrets: LogSecrets,
}

/// What is said when connections are accepted.
pub(crate) struct Greeting {
    /// What runs: "dev mode: 2 rules of fanfare.toml; 1 shard".
    pub(crate) what: String,
    /// For people, after the addresses: whole lines.
    pub(crate) more: String,
}

impl Words {
    /// Sets up the log, in which no API key appears, but for one that is still to be told.
    pub(crate) fn of(settings: &Settings, new_key: Option<&str>) -> Result<Self, Failure> {
        let failed = |error: LogError| Failure::users(error.to_string());
        let format: LogFormat = settings.log.format.parse().map_err(failed)?;
        let logs = Logs::default().format(format).filter(&settings.log.level);
        let words = Words { format, secrets: logs.secrets() };
        let known = settings.config.api_keys.iter().map(ApiKey::secret).filter(|key| Some(*key) != new_key);
        known.for_each(|key| words.secrets.add(key));
        logs.init().map_err(failed)?;
        if words.is_json() {
            let plain = std::panic::take_hook();
            std::panic::set_hook(Box::new(move |panic| match tracing::enabled!(tracing::Level::ERROR) {
                true => tracing::error!("{panic}"),
                false => plain(panic),
            }));
        }
        Ok(words)
    }

    fn is_json(&self) -> bool {
        self.format == LogFormat::Json
    }

    /// From now on these keys are blotted out: one that a client puts where it does not belong must not be found in the log.
    pub(crate) fn keep_secret(&self, settings: &Settings) {
        settings.config.api_keys.iter().for_each(|key| self.secrets.add(key.secret()));
    }

    /// Tells of settings that are taken, and are probably not what was meant.
    pub(crate) fn warn(&self, settings: &Settings) {
        if self.is_json() {
            settings.warnings().iter().for_each(|warning| tracing::warn!("{}", warning.in_one_line()));
        } else {
            flags::warn(settings);
        }
    }

    /// Says that it runs, and where.
    pub(crate) fn greet(&self, running: &Running, greeting: &Greeting, new_key: Option<&str>) {
        let version = env!("CARGO_PKG_VERSION");
        let watched = running.admin_address();
        if self.is_json() {
            tracing::info!(version, "fanfare {version}{}", greeting.what);
            for address in running.addresses() {
                tracing::info!(%address, "listening on {}", place(address));
            }
            if let Some(address) = watched {
                tracing::info!(%address, "watched at {}", place(address));
            }
            if let Some(api_key) = new_key {
                tracing::info!(api_key, "an API key was made for this start");
            }
            return;
        }
        let mut text = format!("fanfare {version}{}\n", greeting.what);
        running.addresses().iter().for_each(|address| text += &format!("listening on {}\n", place(address)));
        watched
            .iter()
            .for_each(|address| text += &format!("watched at {} (/metrics, /readyz, /healthz)\n", place(address)));
        put(&(text + &greeting.more));
    }

    /// Tells why it ends badly, where that is not for the end of the process to print. Who wants no log at all is told too.
    pub(crate) fn tell(&self, failure: Failure) -> Failure {
        if !self.is_json() || !tracing::enabled!(tracing::Level::ERROR) {
            return failure;
        }
        tracing::error!(hint = failure.hint, "{}", failure.sentence);
        Failure::told(failure.status)
    }
}

/// Where a client finds it.
fn place(address: &Address) -> String {
    match address {
        Address::Tcp(address) => format!("http://{address}"),
        Address::Unix(_) => address.to_string(),
    }
}

/// In one piece: stderr has no buffer, and whoever waits for the address would see half of it. It may be closed: so be it.
fn put(text: &str) {
    let _ = std::io::stderr().write_all(text.as_bytes());
}
