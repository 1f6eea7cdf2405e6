//! The attachment that the shell gives a connection for the application: the hub carries it to the questions and
//! notices about that connection, and never looks into it.
//!
//! A connection without one holds a null pointer. A session whose connection is gone keeps it for the notice of its
//! end, where one is to be given.

use std::any::Any;
use std::fmt;
use std::sync::Arc;

/// A value of the shell, shared by all that speaks of its connection. Two are equal where they are the same one.
#[derive(Clone)]
pub struct Attachment(Arc<Box<dyn Any + Send + Sync>>); // one word, where `Arc<dyn Any>` is two

impl Attachment {
    /// Attaches `value`.
    pub fn new(value: impl Any + Send + Sync) -> Self {
        Attachment(Arc::new(Box::new(value)))
    }

    /// The value, where it is of this type.
    pub fn get<T: Any>(&self) -> Option<&T> {
        (**self.0).downcast_ref()
    }
}

impl PartialEq for Attachment {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for Attachment {}

impl fmt::Debug for Attachment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Attachment(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_one_word_and_gives_back_what_was_put_in() {
        assert_eq!(size_of::<Option<Attachment>>(), size_of::<usize>());
        let attachment = Attachment::new("from 192.0.2.1");
        assert_eq!((attachment.get::<&str>(), attachment.get::<u32>()), (Some(&"from 192.0.2.1"), None));
        assert_eq!(attachment, attachment.clone());
        assert_ne!(attachment, Attachment::new("from 192.0.2.1"));
    }
}
