//! The token that a client shows: kept, compared and handed to the application, and never printed.

use std::borrow::Cow;
use std::fmt;
use std::ops::Deref;

/// A token as a client sent it, unchecked. `Debug` says that there is one and nothing of it, wherever it stands.
#[derive(Clone, PartialEq, Eq)]
pub struct UserToken(Box<str>);

impl fmt::Debug for UserToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(hidden)")
    }
}

impl Deref for UserToken {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl From<Box<str>> for UserToken {
    fn from(token: Box<str>) -> Self {
        UserToken(token)
    }
}

impl From<&str> for UserToken {
    fn from(token: &str) -> Self {
        UserToken(token.into())
    }
}

impl From<String> for UserToken {
    fn from(token: String) -> Self {
        UserToken(token.into())
    }
}

impl From<Cow<'_, str>> for UserToken {
    fn from(token: Cow<'_, str>) -> Self {
        UserToken(token.into())
    }
}

impl From<UserToken> for Box<str> {
    fn from(token: UserToken) -> Self {
        token.0
    }
}

#[cfg(test)]
mod tests {
    use crate::{Caller, Command, Connect, Question, Request, UserToken};

    #[test]
    fn nothing_that_holds_a_token_prints_it() {
        let token = || UserToken::from("s3cret");
        let connect = Connect { token: Some(token()), ..Connect::default() };
        let caller = Caller { client: None, user: None, info: None, claims: None };
        let shown = [
            format!("{connect:?}"),
            format!("{:?}", Command::Connect(Box::new(connect))),
            format!("{:#?}", Request { id: None, command: Command::Refresh { token: token() } }),
            format!("{:?}", Question::Connect { token: Some(token()) }),
            format!("{:?}", Question::Refresh { caller, token: token() }),
        ];
        for shown in shown {
            assert!(shown.contains("(hidden)") && !shown.contains("s3cret"), "{shown}");
        }
    }
}
