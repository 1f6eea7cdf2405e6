//! The values as they were written, before they are interpreted: the values of a file with their lines, and texts of
//! the environment and of flags.
//!
//! In: the text of a TOML file. Out: its fields in order, or what is wrong with its syntax. `${NAME}` in a string is
//! the environment's variable of that name, `$${` is a plain `${`; a string with a variable in it may stand for a
//! number or a switch too, as every text of the environment may. A variable that is not set is reported here, and
//! its value is [`Raw::Unknown`] from then on: the rest of the file is read as usual.

use super::channels::is_rule_option;
use super::problem::{Problem, Severity, Source};
use super::table::{SECTIONS, Setting};
use super::units::Wrong;
use fanfare_wire::json;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// A value and where it stands.
#[derive(Debug, Clone)]
pub(super) struct Written {
    pub(super) raw: Raw,
    pub(super) at: Source,
    /// As it was written, in one line; variables are not put in.
    pub(super) shown: String,
    /// A text that may stand for any kind of value.
    pub(super) loose: bool,
}

#[derive(Debug, Clone)]
pub(super) enum Raw {
    Text(String),
    Number(i128),
    Switch(bool),
    /// No setting is one; schemas may have some.
    Fraction(f64),
    List(Vec<Written>),
    Table(Vec<Field>),
    /// A date: no setting is one.
    Other(&'static str),
    /// A text whose variable is not set. That has been reported; its value is unknown.
    Unknown,
}

/// A key with its value.
#[derive(Debug, Clone)]
pub(super) struct Field {
    pub(super) key: String,
    /// Where the key stands.
    pub(super) at: Source,
    pub(super) value: Written,
}

/// The text of a file that holds one secret, without the line's end. `make` says how one is made.
pub(super) fn secret_of_file(path: &Path, make: &str) -> Result<String, Wrong> {
    let text = std::fs::read_to_string(path).map_err(|error| {
        let hint = match error.kind() {
            std::io::ErrorKind::NotFound => format!("{make}; a relative path begins at the configuration's own folder"),
            std::io::ErrorKind::InvalidData => "it must be text in UTF-8".to_owned(),
            _ => "the server's user must be able to read it".to_owned(),
        };
        Wrong { problem: format!("{} cannot be read: {error}", path.display()), hint }
    })?;
    Ok(json::unmarked(&text).trim_end_matches(['\n', '\r']).to_owned())
}

impl Written {
    /// A text of the environment or of a flag.
    pub(super) fn text(text: &str, at: Source) -> Self {
        Written { raw: Raw::Text(text.to_owned()), at, shown: format!("{text:?}"), loose: true }
    }

    /// Its kind, in words.
    pub(super) fn kind(&self) -> &'static str {
        match &self.raw {
            Raw::Text(_) => "a string",
            Raw::Number(_) => "a number",
            Raw::Switch(_) => "true or false",
            Raw::Fraction(_) => "a number with a fraction",
            Raw::List(_) => "a list",
            Raw::Table(_) => "a table",
            Raw::Other(kind) => kind,
            Raw::Unknown => "not known",
        }
    }

    /// True if a part of it is unknown and has been reported. (A table is as good as its fields.)
    pub(super) fn is_unknown(&self) -> bool {
        match &self.raw {
            Raw::Unknown => true,
            Raw::List(list) => list.iter().any(Written::is_unknown),
            _ => false,
        }
    }
}

/// Variables of the environment, by name.
pub(super) type Variables<'v> = &'v dyn Fn(&str) -> Option<String>;

/// Reads a file's text: its fields, and what is wrong with their variables.
///
/// # Errors
/// Its syntax is broken. Then this is the only problem reported, because others could follow from it.
pub(super) fn parse(
    path: &str,
    text: &str,
    variables: Variables<'_>,
) -> Result<(Vec<Field>, Vec<Problem>), Vec<Problem>> {
    let text = json::unmarked(text);
    let (table, errors) = DeTable::parse_recoverable(text);
    let mut file = File { path: path.into(), text, variables, problems: Vec::new() };
    if errors.is_empty() {
        let fields = file.fields("", table.get_ref());
        Ok((fields, file.problems))
    } else {
        Err(errors.iter().map(|error| file.syntax(error)).collect())
    }
}

struct File<'t> {
    path: Arc<str>,
    text: &'t str,
    variables: Variables<'t>,
    problems: Vec<Problem>,
}

impl File<'_> {
    fn at(&self, offset: usize) -> Source {
        let before = self.text.get(..offset).unwrap_or(self.text);
        Source::File { path: self.path.clone(), line: before.matches('\n').count() + 1 }
    }

    /// The fields of the table that `outer` names; empty for the whole file.
    fn fields(&mut self, outer: &str, table: &DeTable<'_>) -> Vec<Field> {
        let mut entries: Vec<_> = table.iter().collect();
        entries.sort_by_key(|(key, _)| key.span().start); // the table itself is sorted by name
        let mut fields = Vec::new();
        for (key, value) in entries {
            let at = self.at(key.span().start);
            let whole = if outer.is_empty() { key.get_ref().to_string() } else { format!("{outer}.{}", key.get_ref()) };
            let value = self.value(&whole, value);
            fields.push(Field { key: key.get_ref().to_string(), at, value });
        }
        fields
    }

    fn value(&mut self, key: &str, value: &Spanned<DeValue<'_>>) -> Written {
        let at = self.at(value.span().start);
        let shown = self.shown(value.span());
        let mut loose = false;
        let raw = match value.get_ref() {
            DeValue::String(text) => match self.expand(key, text) {
                Ok(expanded) => {
                    loose = expanded != **text;
                    Raw::Text(expanded)
                }
                Err(Wrong { problem, hint }) => {
                    let allowed = "${NAME} of a variable that is set".to_owned();
                    let is_shown =
                        Setting::of(key).map_or(!looks_secret(key), Setting::is_shown) || is_one_variable(text);
                    let (at, key, value) = (at.clone(), key.to_owned(), is_shown.then(|| shown.clone()));
                    self.problems.push(Problem { severity: Severity::Error, at, key, value, problem, allowed, hint });
                    Raw::Unknown
                }
            },
            DeValue::Integer(number) => {
                Raw::Number(i128::from_str_radix(number.as_str(), number.radix()).unwrap_or(i128::MAX))
            }
            DeValue::Boolean(on) => Raw::Switch(*on),
            DeValue::Array(list) => Raw::List(list.iter().map(|value| self.value(key, value)).collect()),
            DeValue::Table(table) => Raw::Table(self.fields(key, table)),
            DeValue::Float(number) => Raw::Fraction(number.as_str().replace('_', "").parse().unwrap_or(f64::NAN)),
            DeValue::Datetime(_) => Raw::Other("a date"),
        };
        Written { raw, at, shown, loose }
    }

    fn shown(&self, span: Range<usize>) -> String {
        const CHARS_MAX: usize = 60;
        let text = self.text.get(span).unwrap_or_default();
        if text.starts_with('[') && !text.ends_with(']') || text.starts_with("[[") {
            return "{…}".to_owned(); // a table by its header
        }
        let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
        match line.char_indices().nth(CHARS_MAX) {
            Some((end, _)) => format!("{}…", &line[..end]),
            None => line,
        }
    }

    /// Puts the variables in. `key` is whose value it is: how to make one depends on it.
    fn expand(&self, key: &str, text: &str) -> Result<String, Wrong> {
        let plain = |problem: String| Wrong { problem, hint: "a plain \"${\" is written \"$${\"".to_owned() };
        let (mut expanded, mut rest, mut unset) = (String::new(), text, Vec::new());
        while let Some(start) = rest.find("${") {
            let before = &rest[..start];
            if let Some(plain) = before.strip_suffix('$') {
                expanded.push_str(plain);
                expanded.push_str("${");
                rest = &rest[start + 2..];
                continue;
            }
            expanded.push_str(before);
            let name_on = &rest[start + 2..];
            let end = name_on.find('}').ok_or_else(|| plain("`${` is not closed by a `}`".to_owned()))?;
            let name = &name_on[..end];
            if !is_name(name) {
                let what = if looks_secret(key) { "the text in `${…}`".to_owned() } else { format!("{name:?}") };
                let problem = format!("{what} is not the name of a variable: letters, digits and _ only, no defaults");
                return Err(plain(problem));
            }
            match (self.variables)(name) {
                Some(value) if is_no_text(&value) => {
                    let problem = format!("the variable {name} is not UTF-8");
                    return Err(Wrong { problem, hint: "write its value in UTF-8".to_owned() });
                }
                Some(value) => expanded.push_str(&value),
                None if unset.contains(&name) => {}
                None => unset.push(name),
            }
            rest = &name_on[end + 1..];
        }
        expanded.push_str(rest);
        if unset.is_empty() {
            return Ok(expanded);
        }
        let names = unset.join(" and ");
        let problem = match unset.len() {
            1 => format!("the variable {names} is not set, or empty"),
            _ => format!("the variables {names} are not set, or empty"),
        };
        let value = if key.starts_with("api_keys.") { "\"$(openssl rand -hex 16)\"" } else { "…" };
        let exports: Vec<String> = unset.iter().map(|name| format!("export {name}={value}")).collect();
        Err(Wrong { problem, hint: format!("set it for this command and for the server: {}", exports.join("; ")) })
    }

    /// The parser's word on a line that it cannot read.
    fn syntax(&self, error: &toml::de::Error) -> Problem {
        let offset = error.span().map_or(0, |span| span.start).min(self.text.len());
        let start = self.text[..offset].rfind('\n').map_or(0, |at| at + 1);
        let line = self.text[start..].lines().next().unwrap_or_default().trim();
        let section = self.text[..offset].lines().rev().find(|line| line.trim_start().starts_with('['));
        let section = section.map_or("", |line| {
            let name = line.trim_start().trim_start_matches('[');
            name.split(']').next().unwrap_or_default().trim()
        });
        let (key, value) = match line.split_once('=') {
            Some((key, value)) => (key.trim(), value.trim()),
            None => (line, ""),
        };
        let whole = if section.is_empty() { key.to_owned() } else { format!("{section}.{key}") };
        // Of any other line nobody knows whether it is, or has, a part of a secret.
        let is_shown = Setting::of(&whole).is_some_and(Setting::is_shown) || is_rule_option(&whole);
        let is_header = SECTIONS.iter().any(|(name, _)| !name.is_empty() && line == format!("[{name}]"));
        let message = error.message();
        let is_key = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
        let is_bare = value.starts_with(|c: char| c.is_alphabetic()) && key.chars().all(is_key);
        let hint = if message.contains("duplicate") {
            "write every key once; write a list of rules as several [[channels]]".to_owned()
        } else if is_bare && is_shown {
            format!("write {key} = {:?}", value.split('#').next().unwrap_or_default().trim())
        } else if is_bare {
            "write the text in quotes: name = \"…\"".to_owned()
        } else if line.contains('\'') || line.contains('"') {
            "look for a quote or a bracket that is not closed, on this line or the one before".to_owned()
        } else {
            "texts are in quotes: key = \"value\"; lists in brackets: key = [\"a\", \"b\"]".to_owned()
        };
        let is_in_keys = whole.strip_prefix("api_keys").is_some_and(|rest| rest.is_empty() || rest.starts_with('.'));
        Problem {
            severity: Severity::Error,
            at: self.at(offset),
            key: if is_shown || is_header {
                key.to_owned()
            } else if is_in_keys {
                "api_keys".to_owned()
            } else {
                "the file's syntax".to_owned()
            },
            value: (is_shown && !value.is_empty()).then(|| value.chars().take(60).collect()),
            problem: if is_bare {
                "a text is not in quotes".to_owned()
            } else {
                message.lines().collect::<Vec<_>>().join("; ")
            },
            allowed: "TOML: key = value, [section], [[channels]], # comment".to_owned(),
            hint,
        }
    }
}

/// Whether a variable's value was not UTF-8: U+FFFD stands where it was not, and nowhere in a value that means
/// something.
pub(super) fn is_no_text(value: &str) -> bool {
    value.contains(char::REPLACEMENT_CHARACTER)
}

fn is_name(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

/// Whether it is the name of a variable, and nothing of a value beside it.
fn is_one_variable(text: &str) -> bool {
    text.strip_prefix("${").and_then(|text| text.strip_suffix('}')).is_some_and(is_name)
}

/// Whether the value of this key, with all that is around it, might be one that nobody should read over a shoulder.
pub(super) fn looks_secret(key: &str) -> bool {
    let key = key.to_lowercase();
    ["key", "secret", "token", "password"].iter().any(|word| key.contains(word)) && !key.ends_with("_file")
}
