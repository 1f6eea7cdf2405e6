//! Addresses of `http` and `https` that the server itself asks: where keys of tokens are published, where hooks are
//! answered.
//!
//! In: a text of the configuration. Out: its parts, as a connection and a request need them. A user and a password in
//! an address are refused: they would stand in logs. Its query may be a secret: neither `Debug` nor the log shows it.

use std::fmt;

/// An address of `http` or `https`.
#[derive(Clone, PartialEq, Eq)]
pub struct HttpUrl {
    pub(crate) is_https: bool,
    /// An address of version 6 has its brackets.
    pub(crate) host: String,
    pub(crate) port: u16,
    /// With its query.
    pub(crate) target: String,
}

/// Why a text is no address that the server can ask.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{problem}")]
pub struct UrlError {
    /// The problem.
    pub problem: &'static str,
}

impl HttpUrl {
    /// The address of this text.
    ///
    /// # Errors
    /// [`UrlError`] says why it is none.
    pub fn new(text: &str) -> Result<Self, UrlError> {
        let wrong = |problem| Err(UrlError { problem });
        let Ok(uri) = text.parse::<http::Uri>() else { return wrong("it is not a URL") };
        let is_https = match uri.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            _ => return wrong("it does not begin with https://"),
        };
        let Some(authority) = uri.authority() else { return wrong("it names no host") };
        if authority.as_str().contains('@') {
            return wrong("it holds a user or a password");
        }
        let port = authority.port_u16().unwrap_or(if is_https { 443 } else { 80 });
        let target = uri.path_and_query().map_or("", |target| target.as_str());
        // RFC 9112 §3.2.1: a request for an address without a path has `/`, also before a query.
        let target = if target.starts_with('/') { target.to_owned() } else { format!("/{target}") };
        Ok(HttpUrl { is_https, host: authority.host().to_owned(), port, target })
    }

    /// For a log: without the query.
    pub(crate) fn shown(&self) -> String {
        without_secrets(&self.to_string())
    }

    /// The host as `Host` has it.
    pub(crate) fn authority(&self) -> String {
        let usual = if self.is_https { 443 } else { 80 };
        if self.port == usual { self.host.clone() } else { format!("{}:{}", self.host, self.port) }
    }
}

impl fmt::Display for HttpUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.is_https { "https" } else { "http" };
        write!(f, "{scheme}://{}{}", self.authority(), self.target)
    }
}

impl fmt::Debug for HttpUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("HttpUrl").field(&self.shown()).finish()
    }
}

/// The text of an address, without the parts that may be secrets: its query, and the user before the host. It may be
/// no address at all.
pub(crate) fn without_secrets(text: &str) -> String {
    let (head, query) = match text.split_once('?') {
        Some((head, _)) => (head, "?(hidden)"),
        None => (text, ""),
    };
    let (scheme, rest) = match head.split_once("://") {
        Some((scheme, rest)) => (&head[..scheme.len() + 3], rest),
        None => ("", head),
    };
    match rest.rsplit_once('@') {
        Some((_, host)) => format!("{scheme}(hidden)@{host}{query}"),
        None => format!("{head}{query}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_be_secret_is_not_shown() {
        let rows = [
            ("https://id.example/keys", "https://id.example/keys"),
            ("https://id.example/keys?key=hunter2#x", "https://id.example/keys?(hidden)"),
            ("https://me:hunter2@id.example/keys", "https://(hidden)@id.example/keys"),
            ("https://me:hunter2/@id.example?a=b", "https://(hidden)@id.example?(hidden)"),
            ("me:hunter2@id.example", "(hidden)@id.example"),
            ("", ""),
        ];
        for (text, expected) in rows {
            assert_eq!(without_secrets(text), expected);
        }
        let url = HttpUrl::new("https://id.example/keys?key=hunter2").unwrap();
        assert_eq!(format!("{url:?}"), "HttpUrl(\"https://id.example/keys?(hidden)\")");
        assert_eq!(url.to_string(), "https://id.example/keys?key=hunter2");
    }

    #[test]
    fn the_target_of_an_address_is_a_path() {
        let rows = [
            ("https://id.example", "/"),
            ("https://id.example/", "/"),
            ("https://id.example?set=1", "/?set=1"),
            ("https://id.example:8443?set=1", "/?set=1"),
            ("https://id.example/keys?set=1#part", "/keys?set=1"),
        ];
        for (text, target) in rows {
            let url = HttpUrl::new(text).unwrap();
            assert_eq!(url.target, target, "{text}");
            assert!(http::Request::get(&url.target).body(()).is_ok(), "{text}");
        }
    }
}
