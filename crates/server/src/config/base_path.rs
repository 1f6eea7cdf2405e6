//! The path below which a server serves.
//!
//! In: `/realtime`. Out: the rest of a request's path, where it is below. `""` and `/` are the root. The server
//! compares paths as they are sent, so only characters that need no encoding may stand in it.

use std::fmt;
use std::str::FromStr;

/// The path below which a server serves: `/realtime`. The default is the root. Made by [`parse`](str::parse).
///
/// ```
/// let path: fanfare::BasePath = "/realtime/".parse()?;
/// assert_eq!(path.to_string(), "/realtime");
/// # Ok::<(), fanfare::BasePathError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct BasePath(Box<str>);

/// The error for a text that is no [`BasePath`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{found:?} is not a path to serve below: {problem}")]
pub struct BasePathError {
    /// As it was given.
    pub found: String,
    /// The problem, and the correct form.
    pub problem: &'static str,
}

impl BasePath {
    /// True where everything is below.
    pub(crate) fn is_root(&self) -> bool {
        self.0.is_empty()
    }

    /// The part of a path that the server's own paths are compared with; `None` for a path elsewhere.
    pub(crate) fn below<'p>(&self, path: &'p str) -> Option<&'p str> {
        match path.strip_prefix(&*self.0)? {
            "" if !self.is_root() => Some("/"),
            rest if rest.starts_with('/') || self.is_root() => Some(rest),
            _ => None,
        }
    }
}

impl FromStr for BasePath {
    type Err = BasePathError;

    fn from_str(text: &str) -> Result<Self, BasePathError> {
        let wrong = |problem| Err(BasePathError { found: text.to_owned(), problem });
        let path = text.strip_suffix('/').unwrap_or(text);
        if path.is_empty() {
            return Ok(BasePath::default());
        }
        let Some(segments) = path.strip_prefix('/') else {
            return wrong("it begins with a slash: \"/realtime\"");
        };
        if segments.split('/').any(|segment| matches!(segment, "" | "." | "..")) {
            return wrong("no part of it may be empty, \".\" or \"..\"");
        }
        if !path.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"/-._~".contains(&byte)) {
            return wrong("it may have letters, digits, \"-\", \".\", \"_\", \"~\" and \"/\"");
        }
        Ok(BasePath(path.into()))
    }
}

impl fmt::Display for BasePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_root() { "/" } else { &self.0 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_below_by_whole_parts() {
        #[rustfmt::skip]
        let rows = [
            ("", "/v1/ws", Some("/v1/ws")),
            ("/", "/", Some("/")),
            ("/", "*", Some("*")),
            ("/realtime", "/realtime/v1/ws", Some("/v1/ws")),
            ("/realtime/", "/realtime/v1/ws", Some("/v1/ws")),
            ("/realtime", "/realtime", Some("/")),
            ("/realtime", "/realtime/", Some("/")),
            ("/realtime", "/realtime//v1/ws", Some("//v1/ws")),
            ("/realtime", "/realtimes/v1/ws", None),
            ("/realtime", "/Realtime/v1/ws", None),
            ("/realtime", "/v1/ws", None),
            ("/realtime", "/", None),
            ("/realtime", "/%72ealtime/v1/ws", None),
            ("/a/b", "/a/b/c", Some("/c")),
            ("/a/b", "/a", None),
        ];
        for (base, path, expected) in rows {
            let base: BasePath = base.parse().expect(base);
            assert_eq!(base.below(path), expected, "{base} {path}");
        }
    }

    #[test]
    fn what_could_not_be_compared_is_refused() {
        for text in
            ["realtime", "//", "/a//b", "/a/../b", "/./a", "/a b", "/ä", "/%61", "/a?b", "/a#b", "http://a/b", " /a"]
        {
            assert!(text.parse::<BasePath>().is_err(), "{text:?}");
        }
    }
}
