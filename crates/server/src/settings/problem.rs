//! The problems of settings: each with place, key, value, allowed values and a hint.
//!
//! A problem always has all of these, so that an operator need not ask a second question. It never has the value of a
//! secret.

use std::fmt;
use std::sync::Arc;

/// Where a value comes from.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Source {
    /// The default.
    Default,
    /// A line of a file.
    File {
        /// As it was given.
        path: Arc<str>,
        /// From 1; 0 is the file as a whole.
        line: usize,
    },
    /// An environment variable, by its name.
    Environment(Arc<str>),
    /// A flag of the command line, as it is written: `--listen`.
    Flag(Arc<str>),
}

impl Source {
    /// The line, where it is one of a file.
    pub fn line(&self) -> Option<usize> {
        match self {
            Source::File { line, .. } => Some(*line),
            Source::Default | Source::Environment(_) | Source::Flag(_) => None,
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Source::Default => f.write_str("default"),
            Source::File { path, line: 0 } => f.write_str(path),
            Source::File { path, line } => write!(f, "{path}:{line}"),
            Source::Environment(name) => write!(f, "environment variable {name}"),
            Source::Flag(flag) => f.write_str(flag),
        }
    }
}

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// It works, and is probably not intended.
    Warning,
    /// The value is invalid and not used.
    Error,
}

/// One problem.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// How bad.
    pub severity: Severity,
    /// Where it was written.
    pub at: Source,
    /// The whole key, like `limits.message_bytes_max`.
    pub key: String,
    /// The value as it was written. `None` where there is none, or it is a secret.
    pub value: Option<String>,
    /// The problem in words.
    pub problem: String,
    /// The allowed values.
    pub allowed: String,
    /// A remedy.
    pub hint: String,
}

impl Problem {
    /// True if it is about the rules: a caller that needs only the rules ignores the other problems.
    pub fn is_about_rules(&self) -> bool {
        self.key.strip_prefix("channels").is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
    }

    /// All of it in one line, for a log.
    pub fn in_one_line(&self) -> String {
        format!("{}; allowed: {}; hint: {}", self.sentence(), self.allowed, self.hint)
    }

    fn sentence(&self) -> String {
        match &self.value {
            Some(value) => format!("{}: {} = {value}: {}", self.at, self.key, self.problem),
            None => format!("{}: {}: {}", self.at, self.key, self.problem),
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = match self.severity {
            Severity::Warning => "warning",
            Severity::Error => "error",
        };
        write!(f, "{word}: {}\nallowed: {}\n\nhint: {}", self.sentence(), self.allowed, self.hint)
    }
}

/// All problems, in the order of the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problems(pub Vec<Problem>);

impl Problems {
    /// The errors.
    pub fn errors(&self) -> impl Iterator<Item = &Problem> {
        self.0.iter().filter(|problem| problem.severity == Severity::Error)
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all: Vec<String> = self.0.iter().map(Problem::to_string).collect();
        f.write_str(&all.join("\n\n"))
    }
}

impl std::error::Error for Problems {}
