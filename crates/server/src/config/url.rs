//! Addresses of `http` and `https` that the server itself asks: where keys of tokens are published, where hooks are
//! answered.
//!
//! In: a text of the configuration. Out: its parts, as a connection and a request need them. A user and a password in
//! an address are refused: they would stand in logs.

use std::fmt;

/// An address of `http` or `https`.
#[derive(Debug, Clone, PartialEq, Eq)]
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

#[cfg(test)]
mod tests {
    use super::*;

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
