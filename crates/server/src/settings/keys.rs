//! `[api_keys]`: the named keys with which an application uses the HTTP API.
//!
//! `name = "key"` may do everything; a table says less: `name = { key_file = "…", commands = ["publish"], channels = ["chat:*"]
//! }`. A key is never printed, neither in a problem nor by `Debug`.

use super::channels::read_pattern;
use super::kind::{kind_of, texts};
use super::nearest;
use super::problem::{Problem, Severity, Source};
use super::units::Wrong;
use super::written::{Field, Raw, Written};
use fanfare_hub::Pattern;
use std::fmt;
use std::path::Path;

/// The shortest key: shorter ones are guessed.
const KEY_CHARS_MIN: usize = 16;
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
    /// The key itself.
    pub key: Secret,
    /// The commands it may give; `None` for all.
    pub commands: Option<Vec<String>>,
    /// The channels it may name; `None` for all.
    pub channels: Option<Vec<Pattern>>,
    /// Where it was written.
    pub at: Source,
}

/// The commands of the HTTP API.
pub const COMMANDS: [&str; 11] = [
    "publish",
    "signal",
    "history",
    "history_remove",
    "presence",
    "channels",
    "subscribe",
    "unsubscribe",
    "disconnect",
    "info",
    "batch",
];

/// Reads one entry; `folder` is what a `key_file` is relative to.
pub(super) fn read(name: &str, value: &Written, folder: &Path) -> Result<NamedKey, Problem> {
    let refuse = |option: Option<&str>, at: &Source, shown: Option<String>, wrong: Wrong| Problem {
        severity: Severity::Error,
        at: at.clone(),
        key: option.map_or_else(|| format!("api_keys.{name}"), |option| format!("api_keys.{name}.{option}")),
        value: shown,
        problem: wrong.problem,
        allowed: match option {
            Some("commands") => COMMANDS.join(", "),
            Some("channels") => "a list of patterns, like [\"chat:*\"]".to_owned(),
            Some("key_file") => "the path of a file that holds the key alone".to_owned(),
            Some("key") | None => format!(
                "a key of at least {KEY_CHARS_MIN} visible ASCII characters, or a table with key or key_file, commands, channels"
            ),
            Some(_) => OPTIONS.join(", "),
        },
        hint: wrong.hint,
    };
    let is_name = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '_' | '-');
    if name.is_empty() || name.len() > 64 || !name.chars().all(is_name) {
        let wrong = Wrong {
            problem: format!("{name:?} is no name for a key"),
            hint: "write small letters, digits, - and _ only, at most 64".to_owned(),
        };
        return Err(refuse(None, &value.at, None, wrong));
    }
    let mut named = NamedKey {
        name: name.to_owned(),
        key: Secret("".into()),
        commands: None,
        channels: None,
        at: value.at.clone(),
    };
    let fields = match &value.raw {
        Raw::Text(text) => {
            named.key = secret(text).map_err(|wrong| refuse(None, &value.at, None, wrong))?;
            return Ok(named);
        }
        Raw::Table(fields) => fields,
        _ => return Err(refuse(None, &value.at, None, kind_of(value, "write the key in quotes"))),
    };
    let mut sources = 0;
    for Field { key, at, value } in fields {
        let (shown, result) = match key.as_str() {
            "key" => match &value.raw {
                Raw::Text(text) => (None, secret(text).map(|key| named.key = key)),
                _ => (None, Err(kind_of(value, "write the key in quotes"))),
            },
            "key_file" => match &value.raw {
                Raw::Text(path) => {
                    (Some(value.shown.clone()), from_file(&folder.join(path)).map(|key| named.key = key))
                }
                _ => (Some(value.shown.clone()), Err(kind_of(value, "write the path in quotes"))),
            },
            "commands" => (Some(value.shown.clone()), commands(value).map(|list| named.commands = Some(list))),
            "channels" => (Some(value.shown.clone()), patterns(value).map(|list| named.channels = Some(list))),
            unknown => {
                let hint = nearest::hint(unknown, OPTIONS);
                (None, Err(Wrong { problem: "an API key has no such option".to_owned(), hint }))
            }
        };
        sources += usize::from(key.starts_with("key"));
        result.map_err(|wrong| refuse(Some(key), at, shown, wrong))?;
    }
    let wrong = match sources {
        0 => "it has no key",
        1 => return Ok(named),
        _ => "it has both a key and a key_file",
    };
    let hint = "give it `key` or `key_file`, one of them".to_owned();
    Err(refuse(None, &value.at, None, Wrong { problem: wrong.to_owned(), hint }))
}

fn secret(text: &str) -> Result<Secret, Wrong> {
    let hint = || "make one with: openssl rand -hex 16".to_owned();
    if let Some(at) = text.chars().position(|c| !c.is_ascii_graphic()) {
        return Err(Wrong { problem: format!("its character {} is not visible ASCII", at + 1), hint: hint() });
    }
    let len = text.chars().count();
    if len < KEY_CHARS_MIN {
        return Err(Wrong { problem: format!("a key of {len} characters is too short"), hint: hint() });
    }
    Ok(Secret(text.into()))
}

fn from_file(path: &Path) -> Result<Secret, Wrong> {
    let text = std::fs::read_to_string(path).map_err(|error| Wrong {
        problem: format!("{} cannot be read: {error}", path.display()),
        hint: "a relative path begins at the configuration's own folder; the server's user must be able to read it"
            .to_owned(),
    })?;
    secret(text.trim_end_matches(['\n', '\r']))
        .map_err(|wrong| Wrong { problem: format!("of the file: {}", wrong.problem), ..wrong })
}

fn commands(value: &Written) -> Result<Vec<String>, Wrong> {
    let list = texts(value)?;
    match list.iter().find(|command| !COMMANDS.contains(&command.as_str())) {
        Some(unknown) => Err(Wrong {
            problem: format!("{unknown:?} is no command of the API"),
            hint: if unknown == "broadcast" {
                "`publish` includes broadcast".to_owned()
            } else {
                nearest::hint(unknown, COMMANDS)
            },
        }),
        None if list.is_empty() => Err(Wrong {
            problem: "the key could do nothing".to_owned(),
            hint: "leave it out for every command".to_owned(),
        }),
        None => Ok(list),
    }
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
