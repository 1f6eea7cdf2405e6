//! `[api_keys]`: the named keys with which an application uses the HTTP API.
//!
//! `name = "key"` may do everything; a table says less:
//! `name = { key_file = "…", commands = ["publish"], channels = ["chat:*"] }`. Several keys in a list are one caller:
//! so a key is replaced by a new one while both work. A key is never printed, neither in a problem nor by `Debug`.

use super::channels::read_pattern;
use super::kind::{kind_of, texts};
use super::nearest;
use super::problem::{Problem, Severity, Source};
use super::units::Wrong;
use super::written::{Field, Raw, Written, secret_of_file};
use crate::config::api_key::{ApiKey, ApiKeyError, SECRET_BYTES_MIN, check_name, check_secret};
use fanfare_hub::Pattern;
use fanfare_wire::native::app::ApiCommand;
use std::fmt;
use std::path::Path;

const OPTIONS: [&str; 4] = ["key", "key_file", "commands", "channels"];

/// A text that is never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Box<str>);

impl Secret {
    /// The text itself.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(hidden)")
    }
}

/// A named key.
#[derive(Debug, Clone)]
pub struct NamedKey {
    /// Its name, for logs and errors.
    pub name: String,
    /// The key itself, or several that are all valid.
    pub keys: Vec<Secret>,
    /// The commands it may give; `None` for all.
    pub commands: Option<Vec<ApiCommand>>,
    /// The channels it may name; `None` for all.
    pub channels: Option<Vec<Pattern>>,
    /// Where it was written.
    pub at: Source,
}

impl NamedKey {
    /// As the server takes them.
    pub(super) fn api_keys(&self) -> impl Iterator<Item = ApiKey> {
        self.keys.iter().filter_map(|key| {
            let mut key = ApiKey::new(&self.name, key.expose()).ok()?; // its refusals have been reported already
            if let Some(commands) = &self.commands {
                key = key.only_commands(commands.iter().copied());
            }
            if let Some(channels) = &self.channels {
                key = key.only_channels(channels.iter().cloned());
            }
            Some(key)
        })
    }
}

/// The words for commands that a key can be restricted to. `broadcast` goes by `publish`, a `batch` by what is in it.
pub(super) fn command_words() -> impl Iterator<Item = &'static str> + Clone {
    ApiCommand::ALL.iter().filter(|kind| !kind.is_many()).map(|kind| kind.word())
}

/// Reads one entry and reports all its problems. A `key_file` is relative to `folder`.
pub(super) fn read(name: &str, value: &Written, folder: &Path, problems: &mut Vec<Problem>) -> Option<NamedKey> {
    let before = problems.len();
    let mut refuse = |option: Option<&str>, at: &Source, shown: Option<String>, wrong: Wrong| {
        problems.push(Problem {
            severity: Severity::Error,
            at: at.clone(),
            key: option.map_or_else(|| format!("api_keys.{name}"), |option| format!("api_keys.{name}.{option}")),
            value: shown,
            problem: wrong.problem,
            allowed: match option {
                Some("commands") => command_words().collect::<Vec<_>>().join(", "),
                Some("channels") => "a list of patterns, like [\"chat:*\"]".to_owned(),
                Some("key_file") => "the path of a file that holds the key alone".to_owned(),
                Some("key") | None => format!(
                    "a key of at least {SECRET_BYTES_MIN} visible ASCII characters, or a table with key or key_file, commands, channels"
                ),
                Some(_) => OPTIONS.join(", "),
            },
            hint: wrong.hint,
        });
    };
    if check_name(name).is_err() {
        let wrong = Wrong {
            problem: format!("{name:?} is not a valid name for a key"),
            hint: "use lower-case letters, digits, - and _ only, at most 64".to_owned(),
        };
        refuse(None, &value.at, None, wrong);
    }
    let at = value.at.clone();
    let mut named = NamedKey { name: name.to_owned(), keys: Vec::new(), commands: None, channels: None, at };
    let mut is_known = !value.is_unknown();
    match &value.raw {
        Raw::Table(fields) => {
            let sources = fields.iter().filter(|field| matches!(field.key.as_str(), "key" | "key_file")).count();
            if sources != 1 {
                let problem = if sources == 0 { "it has no key" } else { "it has both a key and a key_file" };
                let hint = "give it either `key` or `key_file`".to_owned();
                refuse(None, &value.at, None, Wrong { problem: problem.to_owned(), hint });
            }
            for Field { key, at, value } in fields {
                let (shown, result) = match key.as_str() {
                    known if value.is_unknown() && OPTIONS.contains(&known) => {
                        is_known = false;
                        continue;
                    }
                    "key" => (None, secrets(value).map(|keys| named.keys = keys)),
                    "key_file" => {
                        let read = match &value.raw {
                            Raw::Text(path) => from_file(&folder.join(path)),
                            _ => Err(kind_of(value, "write the path in quotes")),
                        };
                        (Some(value.shown.clone()), read.map(|key| named.keys = vec![key]))
                    }
                    "commands" => (Some(value.shown.clone()), commands(value).map(|list| named.commands = Some(list))),
                    "channels" => (Some(value.shown.clone()), patterns(value).map(|list| named.channels = Some(list))),
                    unknown => {
                        let hint = nearest::hint(unknown, OPTIONS);
                        (None, Err(Wrong { problem: "an API key has no such option".to_owned(), hint }))
                    }
                };
                if let Err(wrong) = result {
                    refuse(Some(key), at, shown, wrong);
                }
            }
        }
        _ if !is_known => {}
        _ => match secrets(value) {
            Ok(keys) => named.keys = keys,
            Err(wrong) => refuse(None, &value.at, None, wrong),
        },
    }
    (is_known && problems.len() == before).then_some(named)
}

/// One key, or a list of them.
fn secrets(value: &Written) -> Result<Vec<Secret>, Wrong> {
    let one = |value: &Written| match &value.raw {
        Raw::Text(text) => secret(text),
        _ => Err(kind_of(value, "write the key in quotes")),
    };
    match &value.raw {
        Raw::List(list) if list.is_empty() => {
            Err(Wrong { problem: "the list is empty".to_owned(), hint: "remove the name, or give it a key".to_owned() })
        }
        Raw::List(list) => list.iter().map(one).collect(),
        _ => Ok(vec![one(value)?]),
    }
}

fn secret(text: &str) -> Result<Secret, Wrong> {
    check_secret(text).map(|()| Secret(text.into())).map_err(|error| Wrong {
        problem: match error {
            // The first: all before are single bytes.
            ApiKeyError::Character { at } => format!("its character {} is not visible ASCII", at + 1),
            ApiKeyError::TooShort { len } => format!("a key of {len} characters is too short"),
            error => error.to_string(),
        },
        hint: "make one with: openssl rand -hex 16".to_owned(),
    })
}

fn from_file(path: &Path) -> Result<Secret, Wrong> {
    let text = secret_of_file(path, "make one with: (umask 077; openssl rand -hex 16 > FILE)")?;
    secret(&text).map_err(|wrong| Wrong { problem: format!("of the file: {}", wrong.problem), ..wrong })
}

fn commands(value: &Written) -> Result<Vec<ApiCommand>, Wrong> {
    let list = texts(value)?;
    if list.is_empty() {
        return Err(Wrong {
            problem: "the key could do nothing".to_owned(),
            hint: "leave it out for every command".to_owned(),
        });
    }
    let one = |text: &String| match ApiCommand::find(text) {
        Some(kind @ (ApiCommand::Broadcast | ApiCommand::Emit)) => Err(Wrong {
            problem: format!("{:?} is not a word of this list", kind.word()),
            hint: "`publish` includes it".to_owned(),
        }),
        Some(ApiCommand::Batch) => Err(Wrong {
            problem: "\"batch\" is not a word of this list".to_owned(),
            hint: "a key may send its commands in a batch anyway; remove it".to_owned(),
        }),
        Some(kind) => Ok(kind),
        None => Err(Wrong {
            problem: format!("{text:?} is not a command of the API"),
            hint: nearest::hint(text, command_words()),
        }),
    };
    list.iter().map(one).collect()
}

fn patterns(value: &Written) -> Result<Vec<Pattern>, Wrong> {
    let one = std::slice::from_ref(value);
    let list = if let Raw::List(list) = &value.raw { list.as_slice() } else { one };
    if list.is_empty() {
        return Err(Wrong {
            problem: "the key could name no channel".to_owned(),
            hint: "leave it out for every channel".to_owned(),
        });
    }
    list.iter().map(read_pattern).collect()
}
