//! Which namespaces of Socket.IO exist: names, and patterns of names.

use fanfare_hub::ChannelName;
use std::fmt;
use std::str::FromStr;

pub(crate) use fanfare_wire::socketio::CHANNEL_PREFIX;

/// The name of a namespace, or a pattern of such names: `*` stands for any text, also for none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamespacePattern(Box<str>);

/// Why a text is no [`NamespacePattern`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{text:?} is no name or pattern of namespaces: `/`, then 0 to 240 bytes without white space, control characters and \
     `?`, `,`, `+`, `#`, `{{`, `}}`"
)]
pub struct InvalidNamespace {
    text: String,
}

impl NamespacePattern {
    /// As it was written.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// True for the name of one namespace.
    pub fn is_name(&self) -> bool {
        !self.0.contains('*')
    }

    /// True for the names that it stands for.
    pub fn matches(&self, name: &str) -> bool {
        let mut parts = self.0.split('*');
        let first = parts.next().unwrap_or_default();
        let Some(mut rest) = name.strip_prefix(first) else { return false };
        let Some(last) = parts.next_back() else { return rest.is_empty() };
        // Each part at its first place leaves the most for those behind it.
        for part in parts {
            let Some(at) = rest.find(part) else { return false };
            rest = &rest[at + part.len()..];
        }
        rest.ends_with(last)
    }
}

impl FromStr for NamespacePattern {
    type Err = InvalidNamespace;

    fn from_str(text: &str) -> Result<Self, InvalidNamespace> {
        let is_valid = text.starts_with('/')
            && text.len() <= 241
            && ChannelName::reserved(&format!("{CHANNEL_PREFIX}{}", text.replace('*', "x"))).is_ok();
        if is_valid { Ok(NamespacePattern(text.into())) } else { Err(InvalidNamespace { text: text.to_owned() }) }
    }
}

impl fmt::Display for NamespacePattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_is_any_text() {
        let rows = [
            ("/admin", "/admin", true),
            ("/admin", "/admin2", false),
            ("/room-*", "/room-", true),
            ("/room-*", "/room-a/b", true),
            ("/room-*", "/roo", false),
            ("/*", "/", true),
            ("/a*b*c", "/abc", true),
            ("/a*b*c", "/axbxbxc", true),
            ("/a*b*c", "/acb", false),
            ("/*aa", "/a", false),
            ("/x*x", "/x", false),
        ];
        for (pattern, name, matches) in rows {
            let parsed: NamespacePattern = pattern.parse().expect(pattern);
            assert_eq!(parsed.matches(name), matches, "{pattern} and {name}");
        }
    }

    #[test]
    fn a_pattern_begins_with_a_slash_and_has_no_character_that_a_channel_forbids() {
        for text in ["", "admin", "/a b", "/a,b", "/{user}", "/\u{7}"] {
            assert!(text.parse::<NamespacePattern>().is_err(), "{text:?}");
        }
    }
}
