//! Labels: a few words by which the application finds sessions again, like `beta`, `ios` or `tenant:7`.
//!
//! In: the words of a token's claim `labels`, of a hook's answer or of the embedding program. Out: [`Labels`], sorted
//! and each once, or what is wrong with them. They are part of the identity: a newer token replaces them, and clients
//! are never shown them. Both their number and their bytes are bounded.

use crate::name::is_format;
use std::fmt;
use std::sync::Arc;

/// The most labels of one session.
pub const LABELS_MAX: usize = 16;
/// The longest label, in bytes.
pub const LABEL_BYTES_MAX: usize = 64;

/// The labels of a session.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Labels(Option<Arc<[Box<str>]>>);

/// Why words are no labels.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum InvalidLabels {
    /// Too many.
    TooMany {
        /// How many.
        count: usize,
    },
    /// One is empty.
    Empty,
    /// One is too long.
    TooLong {
        /// Its length in bytes.
        len: usize,
    },
    /// One has a control or format character: two labels could look alike.
    Character {
        /// The character.
        found: char,
    },
}

impl fmt::Display for InvalidLabels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            InvalidLabels::TooMany { count } => write!(f, "it has {count} labels, the limit is {LABELS_MAX}"),
            InvalidLabels::Empty => f.write_str("a label is empty"),
            InvalidLabels::TooLong { len } => {
                write!(f, "a label has {len} bytes, the limit is {LABEL_BYTES_MAX}")
            }
            InvalidLabels::Character { found } => {
                write!(f, "U+{:04X} in a label is a control or format character", u32::from(*found))
            }
        }
    }
}

impl std::error::Error for InvalidLabels {}

/// Whether this may be a label.
///
/// # Errors
/// It is empty, too long, or has a character that nobody sees.
pub fn check_label(label: &str) -> Result<(), InvalidLabels> {
    match label.len() {
        0 => return Err(InvalidLabels::Empty),
        len if len > LABEL_BYTES_MAX => return Err(InvalidLabels::TooLong { len }),
        _ => {}
    }
    match label.chars().find(|c| c.is_control() || is_format(*c)) {
        Some(found) => Err(InvalidLabels::Character { found }),
        None => Ok(()),
    }
}

impl Labels {
    /// These labels, in any order; one that occurs twice counts once.
    ///
    /// # Errors
    /// There are too many, or one of them is none.
    pub fn new(labels: impl IntoIterator<Item = impl Into<Box<str>>>) -> Result<Self, InvalidLabels> {
        let mut all: Vec<Box<str>> = Vec::new();
        for label in labels {
            let label = label.into();
            check_label(&label)?;
            if let Err(place) = all.binary_search(&label) {
                all.insert(place, label);
            }
            if all.len() > LABELS_MAX {
                return Err(InvalidLabels::TooMany { count: all.len() });
            }
        }
        Ok(Labels(Some(all).filter(|all| !all.is_empty()).map(Into::into)))
    }

    /// In the order of their bytes.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        self.0.iter().flat_map(|all| all.iter()).map(|label| &**label)
    }

    /// Whether this is one of them.
    pub fn contains(&self, label: &str) -> bool {
        self.0.as_ref().is_some_and(|all| all.binary_search_by(|one| (**one).cmp(label)).is_ok())
    }

    /// True where there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// Their bytes, as far as they are texts.
    pub(crate) fn bytes(&self) -> usize {
        self.iter().map(str::len).sum()
    }
}

impl fmt::Debug for Labels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_sorted_each_once_and_bounded() {
        let labels = Labels::new(["ios", "beta", "ios"]).unwrap();
        assert_eq!(labels.iter().collect::<Vec<_>>(), ["beta", "ios"]);
        assert!(labels.contains("ios") && !labels.contains("io") && labels.bytes() == 7);
        assert!(Labels::new([""; 0]).unwrap().is_empty());
        let numbers = |count: usize| Labels::new((0..count).map(|number| number.to_string()));
        assert_eq!(numbers(LABELS_MAX).unwrap().iter().count(), LABELS_MAX);
        assert_eq!(numbers(LABELS_MAX + 1), Err(InvalidLabels::TooMany { count: LABELS_MAX + 1 }));
        let rows = [
            ("", InvalidLabels::Empty),
            (&"x".repeat(65), InvalidLabels::TooLong { len: 65 }),
            ("a\nb", InvalidLabels::Character { found: '\n' }),
            ("a\u{200b}b", InvalidLabels::Character { found: '\u{200b}' }),
        ];
        for (label, expected) in rows {
            assert_eq!(Labels::new([label]), Err(expected), "{label:?}");
        }
        assert!(Labels::new(["x".repeat(64), "tenant:7 * ä".to_owned()]).is_ok());
    }
}
