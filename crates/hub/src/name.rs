//! Channel names: the allowed names, and the reason when one is not allowed.
//!
//! A name is 1–255 bytes of UTF-8; segments split on `:`. Control and format characters, white space and the characters
//! that patterns and brokers give a meaning (`* ? , + # { }`) are refused, a leading `@` or `$` is reserved.
//! Wire: docs/protocol.md, "Channels".

use std::borrow::Borrow;
use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

/// The longest channel name, in bytes.
pub const CHANNEL_NAME_BYTES_MAX: usize = 255;

/// The checked name of a channel. Clones share the text.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ChannelName(Arc<str>);

/// Why a text is not a channel name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidName {
    /// The empty text.
    #[error("a channel name cannot be empty")]
    Empty,
    /// Over [`CHANNEL_NAME_BYTES_MAX`].
    #[error("a channel name of {len} bytes exceeds the limit of {CHANNEL_NAME_BYTES_MAX}")]
    TooLong {
        /// Its length in bytes.
        len: usize,
    },
    /// A character that patterns, brokers or logs could misread.
    #[error("a channel name cannot hold {found:?} (at byte {at})")]
    Character {
        /// The character.
        found: char,
        /// Its place in bytes.
        at: usize,
    },
    /// The first character is kept for the server's own channels.
    #[error("channel names that begin with {first:?} are reserved")]
    Reserved {
        /// `@` or `$`.
        first: char,
    },
    /// Two colons in a row, or one at an end: patterns could not distinguish such segments.
    #[error("a channel name cannot have an empty segment (at byte {at})")]
    EmptySegment {
        /// Where the empty segment stands, in bytes.
        at: usize,
    },
}

impl ChannelName {
    /// Checks a text that a client or the application gave as a name.
    ///
    /// # Errors
    /// [`InvalidName`] says which character or length is at fault.
    pub fn new(text: &str) -> Result<Self, InvalidName> {
        check(text)?;
        Ok(ChannelName(Arc::from(text)))
    }

    /// Checks the name of one of the server's own channels: it begins with `$`, and no client and no request of the
    /// application can name it.
    ///
    /// # Errors
    /// [`InvalidName`], as for any other name.
    pub fn reserved(text: &str) -> Result<Self, InvalidName> {
        match text.strip_prefix('$') {
            Some(rest) => check(rest).and_then(|()| match text.len() {
                len if len > CHANNEL_NAME_BYTES_MAX => Err(InvalidName::TooLong { len }),
                _ => Ok(ChannelName(Arc::from(text))),
            }),
            None => Err(InvalidName::Character { found: text.chars().next().unwrap_or('$'), at: 0 }),
        }
    }

    /// True for a name of the server's own.
    pub fn is_reserved(&self) -> bool {
        self.0.starts_with('$')
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// True for characters that a name may not hold anywhere.
pub(crate) fn is_forbidden(c: char) -> bool {
    matches!(c, '*' | '?' | ',' | '+' | '#' | '{' | '}') || c.is_control() || c.is_whitespace() || is_format(c)
}

/// Unicode's general category Cf, by range (Unicode 16, UnicodeData.txt): invisible characters that make two names
/// look alike.
pub fn is_format(c: char) -> bool {
    matches!(c as u32,
        0xAD | 0x600..=0x605 | 0x61C | 0x6DD | 0x70F | 0x890..=0x891 | 0x8E2 | 0x180E | 0x200B..=0x200F | 0x202A..=0x202E
        | 0x2060..=0x206F | 0xFEFF | 0xFFF9..=0xFFFB | 0x110BD | 0x110CD | 0x13430..=0x1343F | 0x1BCA0..=0x1BCA3
        | 0x1D173..=0x1D17A | 0xE0001 | 0xE0020..=0xE007F)
}

fn check(text: &str) -> Result<(), InvalidName> {
    let Some(first) = text.chars().next() else { return Err(InvalidName::Empty) };
    if text.len() > CHANNEL_NAME_BYTES_MAX {
        return Err(InvalidName::TooLong { len: text.len() });
    }
    if matches!(first, '@' | '$') {
        return Err(InvalidName::Reserved { first });
    }
    if let Some((at, found)) = text.char_indices().find(|&(_, c)| is_forbidden(c)) {
        return Err(InvalidName::Character { found, at });
    }
    let mut start = 0;
    for segment in text.split(':') {
        if segment.is_empty() {
            return Err(InvalidName::EmptySegment { at: start });
        }
        start += segment.len() + 1;
    }
    Ok(())
}

impl Deref for ChannelName {
    type Target = str;
    fn deref(&self) -> &str {
        &self.0
    }
}

impl Borrow<str> for ChannelName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ChannelName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for ChannelName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", &*self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_accepted_or_refused_with_the_reason() {
        let long = "a".repeat(CHANNEL_NAME_BYTES_MAX);
        let too_long = "a".repeat(CHANNEL_NAME_BYTES_MAX + 1);
        for name in ["chat:general", "a", "聊天:大厅", "a@b", "ü.x-y_z/1", long.as_str()] {
            assert_eq!(ChannelName::new(name).map(|n| n.to_string()), Ok(name.to_owned()));
        }
        let refused: &[(&str, InvalidName)] = &[
            ("", InvalidName::Empty),
            (&too_long, InvalidName::TooLong { len: CHANNEL_NAME_BYTES_MAX + 1 }),
            ("$sio", InvalidName::Reserved { first: '$' }),
            ("@me", InvalidName::Reserved { first: '@' }),
            ("chat:*", InvalidName::Character { found: '*', at: 5 }),
            ("a b", InvalidName::Character { found: ' ', at: 1 }),
            ("a\u{200B}b", InvalidName::Character { found: '\u{200B}', at: 1 }),
            ("a\n", InvalidName::Character { found: '\n', at: 1 }),
            ("a\u{3000}", InvalidName::Character { found: '\u{3000}', at: 1 }),
            (":a", InvalidName::EmptySegment { at: 0 }),
            ("a::b", InvalidName::EmptySegment { at: 2 }),
            ("a:", InvalidName::EmptySegment { at: 2 }),
        ];
        for (name, why) in refused {
            assert_eq!(ChannelName::new(name).as_ref(), Err(why), "{name:?}");
        }
    }
}
