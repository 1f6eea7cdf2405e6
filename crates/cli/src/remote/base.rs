//! The address of a server as people give it to a command, and all that is known of the way there.

use super::Server;
use crate::failure::Failure;
#[cfg(feature = "tls")]
use fanfare_client::Trust;
use fanfare_client::{Builder, Client, ConnectError, Endpoint, Url, UrlError};
use std::fmt;
use std::str::FromStr;

/// The address of a Fanfare. The path, where there is one, is the prefix that a proxy puts before all of Fanfare's
/// paths. The address of its native protocol, as a browser's program has it, means the server that it is of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Base(Url);

impl Base {
    /// For the `Host` header.
    pub(super) fn authority(&self) -> &str {
        self.0.authority()
    }

    /// The prefix of all paths, without a slash at its end.
    pub(super) fn path(&self) -> &str {
        self.0.path()
    }

    /// The path of an API command.
    pub(super) fn api(&self, command: &str) -> String {
        format!("{}/api/v1/{command}", self.0.path())
    }
}

/// A text as the value of a query: every byte but letters, digits and `-._~:` (RFC 3986 §3.4) as `%` and its number.
pub(super) fn encoded(text: &str) -> String {
    let byte = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b':' => char::from(byte).to_string(),
        byte => format!("%{byte:02X}"),
    };
    text.bytes().map(byte).collect()
}

impl fmt::Display for Base {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for Base {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let url: Url = text.parse().map_err(|error: UrlError| error.to_string())?;
        if url.query().is_some() {
            return Err("it must not hold a query (?…)".to_owned());
        }
        Ok(Base(url.base()))
    }
}

impl Server {
    /// The endpoint for connections to it.
    pub(super) fn endpoint(&self) -> Result<Endpoint, Failure> {
        #[cfg(feature = "tls")]
        if let Some(trust) = self.trust()? {
            return Ok(Endpoint::trusting(self.url.0.clone(), trust));
        }
        Endpoint::new(self.url.0.clone()).map_err(|error| unready(&error))
    }

    /// The builder of a client of its native protocol.
    pub(super) fn client(&self) -> Result<Builder, Failure> {
        let builder = Client::builder(self.url.to_string());
        #[cfg(feature = "tls")]
        if let Some(trust) = self.trust()? {
            return Ok(builder.trust(trust));
        }
        Ok(builder)
    }

    /// The authorities that the user trusts, in place of the system's.
    #[cfg(feature = "tls")]
    pub(super) fn trust(&self) -> Result<Option<Trust>, Failure> {
        let Some(file) = self.cacert.as_deref().filter(|file| !file.is_empty()) else { return Ok(None) };
        Trust::only_file(file).map(Some).map_err(|error| {
            Failure::users(error.to_string())
                .hint("--cacert (or FANFARE_CACERT) needs a PEM file with the certificate of the authority")
        })
    }
}

/// Nothing was tried yet.
pub(super) fn unready(error: &ConnectError) -> Failure {
    match error {
        ConnectError::Randomness { .. } => Failure::ours(error.to_string()),
        #[cfg(feature = "tls")]
        ConnectError::Trust(_) => Failure::users(error.to_string()).hint(
            "install the system's certificates (on Debian: ca-certificates), or name a file of them with --cacert FILE",
        ),
        _ => Failure::users(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_says_where_both_ways_in_are() {
        let rows = [
            ("http://localhost:8080", "/api/v1/publish", "http://localhost:8080"),
            ("HTTP://example.com/", "/api/v1/publish", "http://example.com"),
            ("ws://[::1]:9", "/api/v1/publish", "http://[::1]:9"),
            ("ws://x/v1/ws", "/api/v1/publish", "http://x"),
            ("http://x/live/", "/live/api/v1/publish", "http://x/live"),
            #[cfg(feature = "tls")]
            ("wss://x:443/live/v1/ws", "/live/api/v1/publish", "https://x/live"),
            ("unix:/run/fanfare.sock", "/api/v1/publish", "unix:/run/fanfare.sock"),
        ];
        for (text, api, shown) in rows {
            let base: Base = text.parse().expect(text);
            assert_eq!((base.api("publish").as_str(), base.to_string().as_str()), (api, shown), "{text}");
        }
    }

    #[test]
    fn a_wrong_address_is_refused_with_the_reason() {
        let rows = [
            ("localhost:8080", "begin with http://"),
            ("unix:", "no socket"),
            ("ftp://x", "begin with http://"),
            ("http://", "no host"),
            ("http://me:secret@x", "by itself"),
            ("http://x:0", "port"),
            ("http://x/?a", "query"),
            ("http://a b", "' '"),
        ];
        for (text, part) in rows {
            let error = text.parse::<Base>().expect_err(text);
            assert!(error.contains(part) && !error.contains("secret"), "{text}: {error}");
        }
    }
}
