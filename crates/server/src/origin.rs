//! Which web pages may open connections: the WebSocket Origin check (RFC 6455 §10.2).
//!
//! A browser names the page's origin in every handshake; other clients send none and are not concerned.

/// The origins that are let in.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Origins {
    /// Only pages that this same host served.
    #[default]
    SameHost,
    /// The same host, and pages of any port of this machine: for development.
    Localhost,
    /// The same host, and these origins, written like `https://app.example`.
    List(Vec<String>),
    /// Any page.
    Any,
}

impl Origins {
    /// Whether a page of `origin` may connect, given the `Host` that it asked for.
    pub(crate) fn allow(&self, origin: &str, host: Option<&str>) -> bool {
        let authority = origin.split_once("://").map_or(origin, |(_, authority)| authority);
        if *self == Origins::Any || host.is_some_and(|host| host.eq_ignore_ascii_case(authority)) {
            return true;
        }
        match self {
            Origins::Localhost => matches!(host_of(authority), "localhost" | "127.0.0.1" | "[::1]"),
            Origins::List(list) => list.iter().any(|allowed| allowed.eq_ignore_ascii_case(origin)),
            Origins::SameHost | Origins::Any => false,
        }
    }
}

/// `host` of `host:port`; an IPv6 address keeps its brackets.
fn host_of(authority: &str) -> &str {
    match authority.rfind(':') {
        Some(colon) if !authority[colon..].contains(']') => &authority[..colon],
        _ => authority,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_are_let_in_by_host_by_list_or_in_development_from_this_machine() {
        let list = Origins::List(vec!["https://app.example".into()]);
        let rows = [
            (&Origins::SameHost, "http://a.example:8080", Some("a.example:8080"), true),
            (&Origins::SameHost, "http://a.example", Some("b.example"), false),
            (&Origins::SameHost, "null", Some("a.example"), false),
            (&Origins::SameHost, "http://localhost:3000", Some("localhost:8080"), false),
            (&Origins::Localhost, "http://localhost:3000", Some("127.0.0.1:8080"), true),
            (&Origins::Localhost, "http://[::1]:3000", Some("localhost:8080"), true),
            (&Origins::Localhost, "http://localhost.evil.example", Some("localhost:8080"), false),
            (&list, "https://app.example", Some("rt.example"), true),
            (&list, "http://app.example", Some("rt.example"), false),
            (&Origins::Any, "null", None, true),
        ];
        for (origins, origin, host, expected) in rows {
            assert_eq!(origins.allow(origin, host), expected, "{origins:?} {origin} {host:?}");
        }
    }
}
