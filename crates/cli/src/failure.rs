//! How a command ends badly: one sentence, a blank line, a hint where we know the remedy, and whose fault it was.

use crate::stderr::tell;
use fanfare::ServeError;
use std::fmt::{self, Display};
use std::process::ExitCode;

/// An end that the user sees.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) sentence: String,
    pub(crate) hint: Option<String>,
    /// 1 the user can fix it, 2 we failed.
    pub(crate) status: u8,
}

impl Failure {
    /// The user can fix it.
    pub(crate) fn users(sentence: String) -> Self {
        Failure { sentence, hint: None, status: 1 }
    }

    /// We failed, or the server did.
    pub(crate) fn ours(sentence: String) -> Self {
        Failure { sentence, hint: None, status: 2 }
    }

    /// The remedy, where we know it.
    pub(crate) fn hint(self, hint: impl Into<String>) -> Self {
        Failure { hint: Some(hint.into()), ..self }
    }

    /// The reason is printed already: only the exit status is left.
    pub(crate) fn reported(status: u8) -> Self {
        Failure { sentence: String::new(), hint: None, status }
    }

    pub(crate) fn report(&self) -> ExitCode {
        if !self.sentence.is_empty() {
            tell(self);
        }
        ExitCode::from(self.status)
    }
}

impl Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "error: {}", self.sentence)?;
        self.hint.as_ref().map_or(Ok(()), |hint| write!(f, "\n\nhint: {hint}"))
    }
}

impl From<ServeError> for Failure {
    fn from(error: ServeError) -> Self {
        let ours = matches!(error, ServeError::Shard | ServeError::Silent { .. } | ServeError::System { .. });
        Failure { sentence: error.to_string(), hint: None, status: if ours { 2 } else { 1 } }
    }
}
