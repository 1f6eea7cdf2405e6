//! The namespaces that exist: `/`, and those of the configuration.
//!
//! In: the name in a CONNECT packet. Out: the namespace with its channel, or nothing: then the client is told
//! `Invalid namespace`. A name that no setting matches does not exist, and neither does one that cannot be part of a
//! channel's name.

use crate::config::namespace::{CHANNEL_PREFIX, NamespacePattern};
use fanfare_hub::ChannelName;
use fanfare_wire::socketio::MAIN_NAMESPACE;
use std::sync::Arc;

/// One namespace.
#[derive(Debug)]
pub(crate) struct Namespace {
    /// With the leading slash.
    pub(crate) name: Box<str>,
    /// The channel of its sockets.
    pub(crate) channel: ChannelName,
}

impl Namespace {
    fn new(name: &str) -> Option<Arc<Self>> {
        let channel = ChannelName::reserved(&format!("{CHANNEL_PREFIX}{name}")).ok()?;
        Some(Arc::new(Namespace { name: name.into(), channel }))
    }
}

/// The name of the namespace whose channel this is.
pub(super) fn name_of(channel: &ChannelName) -> Option<&str> {
    channel.as_str().strip_prefix(CHANNEL_PREFIX)
}

/// All of them. One for all shards.
#[derive(Debug)]
pub(crate) struct Namespaces {
    /// Those with a name of their own, `/` among them.
    named: Vec<Arc<Namespace>>,
    /// The others, in the order in which they are looked at.
    patterns: Vec<NamespacePattern>,
}

impl Namespaces {
    /// Those of the configuration; `/` always exists.
    pub(crate) fn new(configured: &[NamespacePattern]) -> Self {
        let (names, patterns): (Vec<_>, Vec<_>) = configured.iter().cloned().partition(NamespacePattern::is_name);
        let names = std::iter::once(MAIN_NAMESPACE).chain(names.iter().map(NamespacePattern::as_str));
        Namespaces { named: names.filter_map(Namespace::new).collect(), patterns }
    }

    /// The namespace of this name, if it exists.
    pub(crate) fn find(&self, name: &str) -> Option<Arc<Namespace>> {
        if let Some(named) = self.named.iter().find(|namespace| *namespace.name == *name) {
            return Some(named.clone());
        }
        self.patterns.iter().any(|pattern| pattern.matches(name)).then(|| Namespace::new(name))?
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_main_namespace_always_exists_and_a_name_that_no_channel_can_have_does_not() {
        let all = || "/*".parse::<NamespacePattern>().expect("valid");
        let namespaces = Namespaces::new(&[all()]);
        assert_eq!(namespaces.find("/").map(|found| found.channel.to_string()), Some("$sio:/".to_owned()));
        assert_eq!(namespaces.find("/b").map(|found| found.channel.to_string()), Some("$sio:/b".to_owned()));
        assert!(namespaces.find("/a b").is_none() && namespaces.find("/a?b=c").is_none());
        assert!(Namespaces::new(&[]).find("/b").is_none());
    }
}
