//! The namespaces that exist: `/`, those of the configuration, and those that the application has handlers for.
//!
//! In: the name in a CONNECT packet. Out: the namespace with its channel, or nothing: then the client is told
//! `Invalid namespace`. A name that no setting matches does not exist, and neither does one that cannot be part of a
//! channel's name.

use super::seam::{Opaque, SocketHandlers};
use crate::config::namespace::{CHANNEL_PREFIX, NamespacePattern};
use fanfare_hub::ChannelName;
use fanfare_wire::socketio::MAIN_NAMESPACE;
use std::fmt;
use std::sync::Arc;

/// One namespace.
pub(crate) struct Namespace {
    /// With the leading slash.
    pub(crate) name: Box<str>,
    /// The channel of its sockets.
    pub(crate) channel: ChannelName,
    /// The application's handlers of its sockets. Without them it has the events that are built in.
    pub(crate) handlers: Option<Opaque>,
}

impl Namespace {
    fn new(name: &str, handlers: &dyn SocketHandlers) -> Option<Arc<Self>> {
        let handlers = handlers.of(name);
        Some(Arc::new(Namespace { name: name.into(), channel: channel_of(name)?, handlers }))
    }
}

/// The channel of the namespace with this name, where one can have it.
pub(crate) fn channel_of(name: &str) -> Option<ChannelName> {
    ChannelName::reserved(&format!("{CHANNEL_PREFIX}{name}")).ok().filter(|_| name.starts_with('/'))
}

/// The name of the namespace whose channel this is.
pub(super) fn name_of(channel: &ChannelName) -> Option<&str> {
    channel.as_str().strip_prefix(CHANNEL_PREFIX)
}

impl fmt::Debug for Namespace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Namespace").field("name", &self.name).finish_non_exhaustive()
    }
}

/// All of them. One for all shards.
#[derive(Debug)]
pub(crate) struct Namespaces {
    /// Those with a name of their own, `/` among them.
    named: Vec<Arc<Namespace>>,
    /// The others, in the order in which they are looked at.
    patterns: Vec<NamespacePattern>,
    handlers: Arc<dyn SocketHandlers>,
}

impl Namespaces {
    /// Those of the configuration, and those that have handlers; `/` always exists.
    pub(crate) fn new(configured: &[NamespacePattern], handlers: Arc<dyn SocketHandlers>) -> Self {
        let all = configured.iter().cloned().chain(handlers.patterns());
        let (names, patterns): (Vec<_>, Vec<_>) = all.partition(NamespacePattern::is_name);
        let names = std::iter::once(MAIN_NAMESPACE).chain(names.iter().map(NamespacePattern::as_str));
        Namespaces { named: names.filter_map(|name| Namespace::new(name, &*handlers)).collect(), patterns, handlers }
    }

    /// True if a handler looks at the request that a connection began with.
    pub(crate) fn need_request(&self) -> bool {
        self.handlers.need_request()
    }

    /// The namespace of this name, if it exists.
    pub(crate) fn find(&self, name: &str) -> Option<Arc<Namespace>> {
        if let Some(named) = self.named.iter().find(|namespace| *namespace.name == *name) {
            return Some(named.clone());
        }
        self.patterns.iter().any(|pattern| pattern.matches(name)).then(|| Namespace::new(name, &*self.handlers))?
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug)]
    struct NoHandlers;

    impl SocketHandlers for NoHandlers {
        fn patterns(&self) -> Vec<NamespacePattern> {
            Vec::new()
        }

        fn of(&self, _: &str) -> Option<Opaque> {
            None
        }

        fn need_request(&self) -> bool {
            false
        }
    }

    #[test]
    fn the_main_namespace_always_exists_and_a_name_that_no_channel_can_have_does_not() {
        let all = || "/*".parse::<NamespacePattern>().expect("valid");
        let namespaces = Namespaces::new(&[all()], Arc::new(NoHandlers));
        assert_eq!(namespaces.find("/").map(|found| found.channel.to_string()), Some("$sio:/".to_owned()));
        assert_eq!(namespaces.find("/b").map(|found| found.channel.to_string()), Some("$sio:/b".to_owned()));
        assert!(namespaces.find("/a b").is_none() && namespaces.find("/a?b=c").is_none());
        assert!(Namespaces::new(&[], Arc::new(NoHandlers)).find("/b").is_none());
    }
}
