//! An API key and its rights.
//!
//! `Debug` hides its secret. The key that a caller shows is found by `api::keys`.

use fanfare_hub::{Among, AppCommand, ChannelName, Error, ErrorCode, MembersOp, Pattern};
use fanfare_wire::native::app::ApiCommand;
use std::fmt;
use std::sync::Arc;

/// The longest key, in bytes: a request's head has to hold it beside everything else.
const SECRET_BYTES_MAX: usize = 1024;
/// The shortest key, in bytes: shorter ones are guessed.
pub(crate) const SECRET_BYTES_MIN: usize = 16;
/// The longest name of a key, in bytes.
const NAME_BYTES_MAX: usize = 64;

/// A named key for the application's HTTP API. Without restrictions it may do everything.
#[derive(Clone)]
pub struct ApiKey {
    name: Arc<str>,
    secret: Box<str>,
    commands: Option<Box<[ApiCommand]>>,
    channels: Option<Box<[Pattern]>>,
}

/// The error for a text that is no API key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ApiKeyError {
    /// Not a name for a key.
    #[error(
        "{name:?} is not a valid name for an API key: use lower-case letters, digits, - and _ only, at most {NAME_BYTES_MAX}"
    )]
    Name {
        /// As it was given.
        name: String,
    },
    /// It would be guessed.
    #[error("an API key of {len} bytes is too short: at least {SECRET_BYTES_MIN}, e.g. of openssl rand -hex 16")]
    TooShort {
        /// Its length in bytes.
        len: usize,
    },
    /// Longer than a header should be.
    #[error("an API key of {len} bytes exceeds the limit of {SECRET_BYTES_MAX}")]
    TooLong {
        /// Its length in bytes.
        len: usize,
    },
    /// It could not stand in a header as it is.
    #[error("an API key holds only visible ASCII characters; byte {at} is not one")]
    Character {
        /// Its place in bytes. The character itself is a part of a secret.
        at: usize,
    },
}

impl ApiKey {
    /// The key itself, for a filter that keeps it out of a log.
    pub fn secret(&self) -> &str {
        &self.secret
    }

    /// A key that may do everything. Idempotency keys are unique within `name`: two keys with the same name are one
    /// caller. So an old key can be replaced by a new one while both work. The rules are those of `[api_keys]` in a
    /// file: a name of small letters, digits, `-` and `_`, and a secret of 16 to 1,024 visible ASCII characters.
    ///
    /// # Errors
    /// [`ApiKeyError`] when the name is none, when the secret would be guessed, or when no header could carry it.
    pub fn new(name: &str, secret: &str) -> Result<Self, ApiKeyError> {
        check_name(name)?;
        check_secret(secret)?;
        Ok(ApiKey { name: name.into(), secret: secret.into(), commands: None, channels: None })
    }

    /// The same for these commands only. `publish` includes `broadcast`; a `batch` may hold the permitted commands.
    #[must_use]
    pub fn only_commands(self, commands: impl IntoIterator<Item = ApiCommand>) -> Self {
        ApiKey { commands: Some(commands.into_iter().collect()), ..self }
    }

    /// The same for channels that one of these patterns matches. `channels` then needs one of the very patterns as
    /// `match`; `disconnect`, `reconnect`, `unban`, `bans`, `connections`, `users`, `user_status` and `info` are
    /// denied unless [`ApiKey::only_commands`] lists them.
    #[must_use]
    pub fn only_channels(self, channels: impl IntoIterator<Item = Pattern>) -> Self {
        ApiKey { channels: Some(channels.into_iter().collect()), ..self }
    }

    /// Its name, for logs and errors.
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// Whether the key is for this kind of command at all.
    pub(crate) fn may_ask(&self, kind: ApiCommand) -> Result<(), Error> {
        let needed = match kind {
            ApiCommand::Broadcast | ApiCommand::Emit => ApiCommand::Publish,
            kind => kind,
        };
        match &self.commands {
            None if self.channels.is_some() && concerns_every_channel(kind) => {
                let problem = "that affects every channel, and the key is limited to some; list it in the option `commands` to allow it";
                Err(self.denied(format!("may not {}: {problem}", kind.word())))
            }
            // Each command of a batch is checked by itself.
            Some(commands) if kind != ApiCommand::Batch && !commands.contains(&needed) => {
                Err(self.denied(format!("may not {}: its option `commands` does not list it", needed.word())))
            }
            _ => Ok(()),
        }
    }

    /// Whether it may do this.
    pub(crate) fn may(&self, command: &AppCommand) -> Result<(), Error> {
        self.may_ask(kind_of(command))?;
        let Some(channels) = &self.channels else { return Ok(()) };
        match command {
            AppCommand::Channels { pattern, .. } => {
                let within = pattern.as_ref().is_some_and(|pattern| channels.contains(pattern));
                let problem = "may list only the channels of its own patterns: set `match` to one of them";
                if within { Ok(()) } else { Err(self.denied(problem)) }
            }
            _ => match channel_of(command) {
                Some(channel) if !channels.iter().any(|pattern| pattern.matches(channel)) => {
                    let problem = "is not for this channel: no pattern of its option `channels` matches";
                    Err(self.denied(problem).on(channel))
                }
                _ => Ok(()),
            },
        }
    }

    fn denied(&self, problem: impl fmt::Display) -> Error {
        Error::new(ErrorCode::Denied, format!("the API key {:?} {problem}", self.name))
    }
}

/// The commands that name no channel, so that a key for some channels would reach all of them.
fn concerns_every_channel(kind: ApiCommand) -> bool {
    matches!(
        kind,
        ApiCommand::Disconnect
            | ApiCommand::Reconnect
            | ApiCommand::Unban
            | ApiCommand::Bans
            | ApiCommand::Connections
            | ApiCommand::Users
            | ApiCommand::UserStatus
            | ApiCommand::Info
    )
}

/// The kind of a command of the hub.
pub(crate) fn kind_of(command: &AppCommand) -> ApiCommand {
    match command {
        AppCommand::Publish { .. } => ApiCommand::Publish,
        AppCommand::Signal(_) => ApiCommand::Signal,
        AppCommand::History { .. } => ApiCommand::History,
        AppCommand::HistoryRemove { .. } => ApiCommand::HistoryRemove,
        AppCommand::Presence { .. } => ApiCommand::Presence,
        AppCommand::Channels { .. } => ApiCommand::Channels,
        AppCommand::Subscribe { .. } => ApiCommand::Subscribe,
        AppCommand::Unsubscribe { .. } => ApiCommand::Unsubscribe,
        AppCommand::Disconnect { .. } => ApiCommand::Disconnect,
        AppCommand::Unban { .. } => ApiCommand::Unban,
        AppCommand::Bans { .. } => ApiCommand::Bans,
        AppCommand::Reconnect { .. } => ApiCommand::Reconnect,
        AppCommand::Connections { .. } => ApiCommand::Connections,
        AppCommand::Users { .. } => ApiCommand::Users,
        AppCommand::UserStatus { .. } => ApiCommand::UserStatus,
        AppCommand::Members(command) => match command.op {
            MembersOp::Ask { .. } | MembersOp::Answer { .. } | MembersOp::Volatile { .. } => ApiCommand::Publish,
            MembersOp::Join { .. } => ApiCommand::Subscribe,
            MembersOp::Leave { .. } => ApiCommand::Unsubscribe,
            MembersOp::Disconnect { .. } => ApiCommand::Disconnect,
            MembersOp::List => ApiCommand::Presence,
        },
        AppCommand::Info => ApiCommand::Info,
    }
}

fn channel_of(command: &AppCommand) -> Option<&ChannelName> {
    match command {
        AppCommand::Publish { publish, .. } => Some(&publish.channel),
        AppCommand::Signal(signal) => Some(&signal.channel),
        AppCommand::Members(command) => Some(&command.channel),
        AppCommand::Subscribe { options, .. } => Some(&options.channel),
        AppCommand::History { channel, .. }
        | AppCommand::HistoryRemove { channel }
        | AppCommand::Presence { channel }
        | AppCommand::Unsubscribe { channel, .. }
        | AppCommand::Connections { among: Among::Channel(channel), .. }
        | AppCommand::Users { channel: Some(channel), .. } => Some(channel),
        AppCommand::Channels { .. }
        | AppCommand::Connections { .. }
        | AppCommand::Users { .. }
        | AppCommand::UserStatus { .. }
        | AppCommand::Reconnect { .. }
        | AppCommand::Disconnect { .. }
        | AppCommand::Unban { .. }
        | AppCommand::Bans { .. }
        | AppCommand::Info => None,
    }
}

pub(crate) fn check_name(name: &str) -> Result<(), ApiKeyError> {
    let is_of_name = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'_' | b'-');
    let is_name = (1..=NAME_BYTES_MAX).contains(&name.len()) && name.bytes().all(is_of_name);
    if is_name { Ok(()) } else { Err(ApiKeyError::Name { name: name.to_owned() }) }
}

pub(crate) fn check_secret(secret: &str) -> Result<(), ApiKeyError> {
    if let Some(at) = secret.bytes().position(|byte| !byte.is_ascii_graphic()) {
        return Err(ApiKeyError::Character { at });
    }
    match secret.len() {
        len if len < SECRET_BYTES_MIN => Err(ApiKeyError::TooShort { len }),
        len if len > SECRET_BYTES_MAX => Err(ApiKeyError::TooLong { len }),
        _ => Ok(()),
    }
}

impl fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ApiKey { name, secret: _, commands, channels } = self;
        let mut shown = f.debug_struct("ApiKey");
        shown.field("name", name).field("commands", commands).field("channels", channels).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn channel(name: &str) -> AppCommand {
        AppCommand::Presence { channel: ChannelName::new(name).unwrap() }
    }

    #[test]
    fn a_key_is_valid_in_a_header_and_not_easy_to_guess() {
        let rows: &[(&str, ApiKeyError)] = &[
            ("", ApiKeyError::TooShort { len: 0 }),
            ("x", ApiKeyError::TooShort { len: 1 }),
            (&"x".repeat(15), ApiKeyError::TooShort { len: 15 }),
            ("a b", ApiKeyError::Character { at: 1 }),
            ("a\n", ApiKeyError::Character { at: 1 }),
            ("schlüssel", ApiKeyError::Character { at: 4 }),
            (&"x".repeat(1025), ApiKeyError::TooLong { len: 1025 }),
        ];
        for (secret, expected) in rows {
            assert_eq!(ApiKey::new("a", secret).unwrap_err(), *expected, "{secret:?}");
        }
        assert!(ApiKey::new("a", &"x".repeat(16)).is_ok() && ApiKey::new("a", &"x".repeat(1024)).is_ok());
        let long = "n".repeat(65);
        for name in ["", "A", "a b", "a\n", "ä", &long] {
            let refused = ApiKey::new(name, &"x".repeat(16)).unwrap_err();
            assert_eq!(refused, ApiKeyError::Name { name: name.to_owned() });
        }
        assert!(ApiKey::new(&long[1..], &"x".repeat(16)).is_ok());
    }

    #[test]
    fn debug_shows_no_secret() {
        let shown = format!("{:?}", ApiKey::new("backend", "hunter2-hunter2-").unwrap());
        assert!(shown.contains("backend") && !shown.contains("hunter2"), "{shown}");
    }

    #[test]
    fn restrictions() {
        let pattern = Pattern::new("chat:*").unwrap();
        let key = ApiKey::new("a", "0123456789abcdef").unwrap();
        let reader =
            key.clone().only_commands([ApiCommand::Presence, ApiCommand::Channels]).only_channels([pattern.clone()]);
        let list = |pattern| AppCommand::Channels { pattern, after: None, limit: 1 };
        assert!(key.may(&channel("x")).is_ok() && key.may(&list(None)).is_ok() && key.may(&AppCommand::Info).is_ok());
        assert!(reader.may(&channel("chat:a")).is_ok());
        assert_eq!(reader.may(&channel("chat:a:b")).unwrap_err().channel, ChannelName::new("chat:a:b").ok());
        assert!(reader.may(&list(Some(pattern))).is_ok());
        assert!(reader.may(&list(None)).is_err());
        assert!(reader.may(&AppCommand::Info).is_err());
        let news = key.clone().only_channels([Pattern::new("news:**").unwrap()]);
        for kind in ApiCommand::ALL {
            let needs_word =
                ["disconnect", "reconnect", "unban", "bans", "connections", "users", "user_status", "info"]
                    .contains(&kind.word());
            assert_eq!(news.may_ask(*kind).is_err(), needs_word, "{}", kind.word());
            let is_included = kind.is_many() || *kind == ApiCommand::Emit;
            assert!(news.clone().only_commands([*kind]).may_ask(*kind).is_ok() || is_included, "{}", kind.word());
        }
        assert!(news.may(&AppCommand::Info).unwrap_err().to_string().contains("may not info"));
        let lists = news.clone().only_commands([ApiCommand::Connections]);
        let of = |name| AppCommand::Connections {
            among: Among::Channel(ChannelName::new(name).unwrap()),
            after: None,
            limit: 1,
        };
        assert!(lists.may(&of("news:a")).is_ok() && lists.may(&of("chat:a")).is_err());
        assert!(reader.may_ask(ApiCommand::Batch).is_ok() && reader.may_ask(ApiCommand::Broadcast).is_err());
    }
}
