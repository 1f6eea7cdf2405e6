//! Patterns of channel names.
//!
//! In: a text such as `chat:*`. Out: a [`Pattern`], and whether a name has its shape. A capture such as `{user}` has
//! the shape of any segment; whose segment it is, is compared afterwards, literally: what stands in a user's id or in
//! a claim is never read as a pattern.

use crate::claims::CLAIM_NAME_BYTES_MAX;
use crate::name::is_forbidden;
use std::fmt;

/// A pattern over the segments of a name: `*` is one segment, `**` (last only) one or more, `{user}` the caller's
/// user id, `{claims.team}` a claim of the caller.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern {
    text: Box<str>,
    parts: Vec<Part>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Part {
    Literal(Box<str>),
    One,
    Rest,
    Capture(Capture),
}

/// The fact about a caller that a segment stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Capture {
    /// `{user}`: its user id.
    User,
    /// `{claims.team}`: its claim of this name, or an entry of it where that is a list.
    Claim(Box<str>),
}

impl Capture {
    /// A whole segment of a pattern, in braces. `None`: it is no capture.
    fn read(segment: &str) -> Option<Capture> {
        match segment.strip_prefix('{')?.strip_suffix('}')? {
            "user" => Some(Capture::User),
            inner => {
                let is_odd = |c: char| matches!(c, '{' | '}') || c.is_control();
                let name = inner.strip_prefix("claims.").filter(|name| !name.is_empty() && !name.contains(is_odd))?;
                (name.len() <= CLAIM_NAME_BYTES_MAX).then(|| Capture::Claim(name.into()))
            }
        }
    }
}

impl fmt::Display for Capture {
    /// In words.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Capture::User => f.write_str("user"),
            Capture::Claim(name) => write!(f, "claim `{name}`"),
        }
    }
}

/// Why a text is not a pattern.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PatternError {
    /// `**` matches the rest, so nothing can follow it.
    #[error("`**` must be the last segment of {pattern:?}")]
    RestNotLast {
        /// The whole pattern.
        pattern: Box<str>,
    },
    /// A capture other than `{user}` and `{claims.NAME}`.
    #[error("the captures are {{user}} and {{claims.NAME}}, found {found:?}")]
    UnknownCapture {
        /// The segment.
        found: Box<str>,
    },
    /// A segment that no channel name could have.
    #[error("segment {found:?} cannot occur in a channel name; `*` stands for a whole segment")]
    Segment {
        /// The segment.
        found: Box<str>,
    },
}

impl Pattern {
    /// Reads a pattern.
    ///
    /// # Errors
    /// [`PatternError`] names the segment that is at fault.
    pub fn new(text: &str) -> Result<Self, PatternError> {
        let mut parts = Vec::new();
        for segment in text.split(':') {
            if parts.last() == Some(&Part::Rest) {
                return Err(PatternError::RestNotLast { pattern: text.into() });
            }
            parts.push(match segment {
                "*" => Part::One,
                "**" => Part::Rest,
                s if s.starts_with('{') && s.ends_with('}') => match Capture::read(s) {
                    Some(capture) => Part::Capture(capture),
                    None => return Err(PatternError::UnknownCapture { found: s.into() }),
                },
                s if s.is_empty() || s.chars().any(is_forbidden) => {
                    return Err(PatternError::Segment { found: s.into() });
                }
                s => Part::Literal(s.into()),
            });
        }
        Ok(Pattern { text: text.into(), parts })
    }

    /// True when the name has this shape. Captures match any segment. A wildcard at the beginning matches none of the
    /// server's own channels (`$…`): a rule for every channel is a rule for those that clients can name.
    pub fn matches(&self, name: &str) -> bool {
        if name.starts_with('$') && !matches!(self.parts.first(), Some(Part::Literal(_))) {
            return false;
        }
        let mut segments = name.split(':');
        for part in &self.parts {
            let Some(segment) = segments.next() else { return false };
            match part {
                Part::Rest => return true,
                Part::Literal(text) if **text != *segment => return false,
                Part::Literal(_) | Part::One | Part::Capture(_) => {}
            }
        }
        segments.next().is_none()
    }

    /// The prefix of every matching name.
    pub(crate) fn prefix(&self) -> String {
        let mut prefix = String::new();
        for (place, part) in self.parts.iter().enumerate() {
            let Part::Literal(text) = part else { break };
            prefix.push_str(text);
            if place + 1 < self.parts.len() {
                prefix.push(':');
            }
        }
        prefix
    }

    /// The first capture whose segment of a matching `name` is not the sought one.
    pub(crate) fn differing(&self, name: &str, is: impl Fn(&Capture, &str) -> bool) -> Option<&Capture> {
        self.parts.iter().zip(name.split(':')).find_map(|(part, segment)| match part {
            Part::Capture(capture) if !is(capture, segment) => Some(capture),
            _ => None,
        })
    }

    /// Its captures, from left to right.
    pub fn captures(&self) -> impl Iterator<Item = &Capture> {
        self.parts.iter().filter_map(|part| match part {
            Part::Capture(capture) => Some(capture),
            _ => None,
        })
    }

    pub(crate) fn parts(&self) -> &[Part] {
        &self.parts
    }

    /// The pattern as it was written.
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_by_whole_segments() {
        let rows: &[(&str, &str, bool)] = &[
            ("chat:*", "chat:general", true),
            ("chat:*", "chat", false),
            ("chat:*", "chat:a:b", false),
            ("chat:**", "chat:a:b", true),
            ("chat:**", "chat", false),
            ("**", "anything:at:all", true),
            ("*", "one", true),
            ("*", "one:two", false),
            ("inbox:{user}", "inbox:ada", true),
            ("team:{claims.team}:*", "team:a:b", true),
            ("{claims.team}", "$sio:/", false),
            ("a:*:c", "a:b:c", true),
            ("a:*:c", "a:b:d", false),
            ("chat", "chatter", false),
        ];
        for (pattern, name, expected) in rows {
            assert_eq!(Pattern::new(pattern).expect("valid").matches(name), *expected, "{pattern} on {name}");
        }
    }

    #[test]
    fn bad_patterns_name_the_segment() {
        for text in
            ["**:a", "{id}", "{claims}", "{claims.}", "{claims.a{}", "{user", "a{user}", "chat-*", "", "a::b", "a b"]
        {
            assert!(Pattern::new(text).is_err(), "{text:?} was taken as a pattern");
        }
    }
}
