//! The hosts that a request may name: the defence against DNS rebinding.
//!
//! An attacker can point the name `evil.example` to 127.0.0.1 after a page of it is loaded. For the browser the server
//! on this machine is then the page's own host, and every check of origins passes. Only `Host` still has the name.
//!
//! Addresses, `localhost` and the names below it cannot be pointed elsewhere, so they are always served. The hosts in
//! `origins` are served too.

use crate::config::authority::{Authority, Host};
use crate::config::origin::Origins;
use std::fmt;
use std::net::SocketAddr;
use std::str::FromStr;

/// The hosts that requests may name.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Hosts {
    /// By listener. On a loopback address: addresses, `localhost` and the hosts of [`Origins`]. Elsewhere any host,
    /// also in a service within another server, which knows its hosts.
    #[default]
    ByListener,
    /// Addresses, `localhost`, the hosts of [`Origins`], and these; on every listener that is not a Unix socket, and
    /// in a service within another server.
    List(Vec<HostPattern>),
    /// Any host.
    Any,
}

/// A host, `app.example`, or all below one, `*.app.example`. Made by [`parse`](str::parse).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostPattern {
    host: Host,
    below: bool,
}

/// The error for a text that is no host.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{found:?} is not a host: {problem}")]
pub struct HostError {
    /// As it was given.
    pub found: String,
    /// The problem, and the correct form.
    pub problem: String,
}

/// The way by which a request came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Via {
    /// A listener that only this machine reaches.
    Loopback,
    /// A listener on any other address.
    Network,
    /// A socket file, which browsers cannot open.
    Unix,
    /// Another server, which took it first.
    Mounted,
}

impl Via {
    /// That of a listener on this address.
    pub(crate) fn tcp(address: SocketAddr) -> Self {
        if address.ip().to_canonical().is_loopback() { Via::Loopback } else { Via::Network }
    }
}

impl Hosts {
    /// Whether a request that came so may name this host.
    pub(crate) fn allow(&self, host: &Host, via: Via, origins: &Origins) -> bool {
        let list = match (self, via) {
            (Hosts::Any, _) | (_, Via::Unix) | (Hosts::ByListener, Via::Network | Via::Mounted) => return true,
            (Hosts::ByListener, Via::Loopback) => &[][..],
            (Hosts::List(list), _) => list,
        };
        matches!(host, Host::Ip(_))
            || host.is_localhost()
            || list.iter().any(|pattern| pattern.matches(host))
            || origins.hosts().any(|named| named == host)
    }
}

impl HostPattern {
    /// `localhost`, which is always served: a list with only this entry serves no other name.
    pub(crate) fn localhost() -> Self {
        HostPattern { host: Host::Name("localhost".into()), below: false }
    }

    fn matches(&self, host: &Host) -> bool {
        match (&self.host, host) {
            (Host::Name(name), Host::Name(host)) if self.below => {
                host.strip_suffix(&**name).is_some_and(|rest| rest.len() > 1 && rest.ends_with('.'))
            }
            (own, host) => !self.below && own == host,
        }
    }
}

impl FromStr for HostPattern {
    type Err = HostError;

    fn from_str(text: &str) -> Result<Self, HostError> {
        let wrong = |problem: String| HostError { found: text.to_owned(), problem };
        if let Some((_, rest)) = text.split_once("://") {
            let end = rest.find([':', '/', '?', '#']).unwrap_or(rest.len());
            return Err(wrong(format!("write the host alone: \"{}\"", &rest[..end])));
        }
        let (below, name) = match text.strip_prefix("*.") {
            Some(name) => (true, name),
            None => (false, text),
        };
        if name.contains('*') {
            return Err(wrong("\"*.app.example\" is every host below app.example, \"*\" alone is any host".to_owned()));
        }
        if !name.is_ascii() {
            return Err(wrong("write it as browsers send it, in ASCII (\"xn--…\")".to_owned()));
        }
        // An IPv6 address may be written as it is.
        let bare = name.parse::<std::net::Ipv6Addr>().map(|ip| Authority { host: Host::Ip(ip.into()), port: None });
        let host = match bare.or_else(|_| Authority::parse(name)) {
            Ok(Authority { host, port: None }) if !name.ends_with(':') => host,
            Ok(Authority { host, .. }) => return Err(wrong(format!("ports do not matter: write \"{host}\""))),
            Err(error) => return Err(wrong(format!("{error}; write it like \"app.example\""))),
        };
        if below && matches!(host, Host::Ip(_)) {
            return Err(wrong("there are no hosts below an address".to_owned()));
        }
        Ok(HostPattern { host, below })
    }
}

impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.below {
            f.write_str("*.")?;
        }
        write!(f, "{}", self.host)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(hosts: &[&str]) -> Hosts {
        Hosts::List(hosts.iter().map(|host| host.parse().expect("a host")).collect())
    }

    #[test]
    fn a_host_is_served_by_what_it_is_and_where_it_came() {
        let by_listener = Hosts::ByListener;
        let named = list(&["app.example", "*.wild.example"]);
        let origins = Origins::List(vec!["https://page.example:8443".parse().expect("an origin")]);
        let all = [Via::Loopback, Via::Network, Via::Unix, Via::Mounted];
        // For each: on loopback, on other addresses, on a Unix socket, in another server.
        #[rustfmt::skip]
        let rows = [
            (&by_listener, "evil.example", [false, true, true, true]),
            (&by_listener, "page.example", [true; 4]),
            (&by_listener, "PAGE.example.", [true; 4]),
            (&by_listener, "localhost", [true; 4]),
            (&by_listener, "a.b.localhost", [true; 4]),
            (&by_listener, "127.0.0.1", [true; 4]),
            (&by_listener, "192.0.2.1", [true; 4]),
            (&by_listener, "[2001:db8::1]", [true; 4]),
            (&by_listener, "localhost.evil.example", [false, true, true, true]),
            (&by_listener, "127.0.0.1.evil.example", [false, true, true, true]),
            (&by_listener, "2130706433", [false, true, true, true]),
            (&named, "evil.example", [false, false, true, false]),
            (&named, "app.example", [true; 4]),
            (&named, "App.Example.", [true; 4]),
            (&named, "below.app.example", [false, false, true, false]),
            (&named, "a.wild.example", [true; 4]),
            (&named, "a.b.wild.example", [true; 4]),
            (&named, "wild.example", [false, false, true, false]),
            (&named, ".wild.example", [false, false, true, false]),
            (&named, "evilwild.example", [false, false, true, false]),
            (&named, "page.example", [true; 4]),
            (&named, "localhost", [true; 4]),
            (&named, "10.0.0.1", [true; 4]),
            (&Hosts::Any, "evil.example", [true; 4]),
        ];
        for (hosts, host, expected) in rows {
            let parsed = Host::parse(host).expect("a host");
            let found = all.map(|via| hosts.allow(&parsed, via, &origins));
            assert_eq!(found, expected, "{hosts:?} {host}");
        }
        let any = Host::parse("evil.example").expect("a host");
        assert!(!by_listener.allow(&any, Via::Loopback, &Origins::Any), "any origin is not a host");
    }

    #[test]
    fn a_host_is_written_without_scheme_and_port() {
        let rows: &[(&str, Result<&str, &str>)] = &[
            ("app.example", Ok("app.example")),
            ("App.Example.", Ok("app.example")),
            ("*.app.example", Ok("*.app.example")),
            ("::1", Ok("[::1]")),
            ("[::1]", Ok("[::1]")),
            ("10.0.0.1", Ok("10.0.0.1")),
            ("https://app.example:443/", Err("\"app.example\"")),
            ("app.example:443", Err("write \"app.example\"")),
            ("app.example:", Err("write \"app.example\"")),
            ("a.*.example", Err("below")),
            ("*app.example", Err("below")),
            ("*.10.0.0.1", Err("below an address")),
            ("", Err("names no host")),
            ("*.", Err("names no host")),
            ("a b", Err("is not allowed in a host")),
            ("bücher.example", Err("xn--")),
        ];
        for (text, expected) in rows {
            match (text.parse::<HostPattern>(), expected) {
                (Ok(host), Ok(shown)) => {
                    assert_eq!(host.to_string(), *shown, "{text}");
                    assert_eq!(shown.parse::<HostPattern>().as_ref(), Ok(&host), "{text}: what is shown reads back");
                }
                (Err(error), Err(words)) => {
                    let message = error.to_string();
                    assert!(message.contains(words) && message.contains(&format!("{text:?}")), "{text}: {message}");
                }
                (found, _) => panic!("{text:?} is {found:?}"),
            }
        }
    }

    #[test]
    fn a_listener_is_of_this_machine_by_its_address() {
        let rows = [
            ("127.0.0.1:1", Via::Loopback),
            ("127.1.2.3:1", Via::Loopback),
            ("[::1]:1", Via::Loopback),
            ("[::ffff:127.0.0.1]:1", Via::Loopback),
            ("0.0.0.0:1", Via::Network),
            ("[::]:1", Via::Network),
            ("192.168.0.1:1", Via::Network),
        ];
        for (address, via) in rows {
            assert_eq!(Via::tcp(address.parse().expect("an address")), via, "{address}");
        }
    }
}
