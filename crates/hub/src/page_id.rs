//! The page that a client connects from: a random value that it draws when it is loaded and keeps in memory only.
//!
//! Two connections with one page are of one client, of which the later one counts. A duplicated tab has its original's
//! ticket and another page. It is compared and never printed: with a ticket it takes a session over.

use std::fmt;

/// Bytes of a page's value.
pub const PAGE_ID_BYTES_MAX: usize = 64;

/// One load of a client. `Debug` says that there is one and nothing of it, wherever it stands.
#[derive(Clone, PartialEq, Eq)]
pub struct PageId(Box<str>);

impl PageId {
    /// A value of 1 to [`PAGE_ID_BYTES_MAX`] bytes; `None` for another one.
    pub fn new(value: &str) -> Option<PageId> {
        (1..=PAGE_ID_BYTES_MAX).contains(&value.len()).then(|| PageId(value.into()))
    }

    /// The value as the client sent it.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for PageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(hidden)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_has_its_bounds_and_is_not_printed() {
        let rows = [("", false), ("p", true), (&*"p".repeat(PAGE_ID_BYTES_MAX), true), (&*"p".repeat(65), false)];
        for (value, is_page) in rows {
            assert_eq!(PageId::new(value).map(|page| page.as_str() == value), is_page.then_some(true), "{value:?}");
        }
        assert_eq!(format!("{:?}", PageId::new("s3cret")), "Some((hidden))");
    }
}
