//! The address of a server as people write it: `http://host[:port][/path]`, or `unix:PATH` for a socket.

use http::Uri;
use std::fmt;
use std::str::FromStr;

/// Where to connect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Place {
    /// The host is for the resolver, without the brackets of an IPv6 address.
    Tcp { host: String, port: u16 },
    /// The path of a socket.
    Unix(String),
}

/// The path, where there is one, is what a proxy puts before everything of Fanfare's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Base {
    pub(super) place: Place,
    /// For the `Host` header.
    pub(super) authority: String,
    /// Without a slash at its end.
    path: String,
}

impl Base {
    /// The path of an API command.
    pub(super) fn api(&self, command: &str) -> String {
        format!("{}/api/v1/{command}", self.path)
    }

    /// Where the native protocol is spoken.
    pub(super) fn native(&self) -> String {
        match &self.place {
            Place::Tcp { .. } => format!("ws://{}{}/v1/ws", self.authority, self.path),
            Place::Unix(socket) => format!("unix:{socket}"),
        }
    }
}

impl fmt::Display for Base {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.place {
            Place::Tcp { .. } => write!(f, "http://{}{}", self.authority, self.path),
            Place::Unix(socket) => write!(f, "unix:{socket}"),
        }
    }
}

impl FromStr for Base {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(socket) = text.strip_prefix("unix:") {
            if socket.is_empty() {
                return Err("it names no socket".to_owned());
            }
            let place = Place::Unix(socket.to_owned());
            return Ok(Base { place, authority: "localhost".to_owned(), path: String::new() });
        }
        let (scheme, rest) = text.split_once("://").ok_or("it must begin with http:// or unix:")?;
        match scheme.to_ascii_lowercase().as_str() {
            "http" | "ws" => {}
            "https" | "wss" => {
                return Err(format!("{scheme}:// is not built in yet: let a proxy on this machine speak TLS"));
            }
            _ => return Err(format!("it must begin with http:// or unix:, not {scheme}://")),
        }
        let uri: Uri = format!("http://{rest}").parse().map_err(|error: http::uri::InvalidUri| error.to_string())?;
        let authority = uri.authority().ok_or("it names no host")?;
        if authority.as_str().contains('@') {
            return Err("it must not hold a user or password: give --api-key or --token".to_owned());
        }
        if uri.query().is_some() {
            return Err("it must not hold a query (?…)".to_owned());
        }
        let host = authority.host().trim_start_matches('[').trim_end_matches(']');
        if host.is_empty() {
            return Err("it names no host".to_owned());
        }
        // `Uri` passes over a port that is none.
        let port = match authority.as_str().strip_prefix(authority.host()).unwrap_or_default() {
            "" | ":" => 80,
            port => match port.trim_start_matches(':').parse() {
                Ok(port) if port > 0 => port,
                _ => return Err(format!("{port} is no port (:1 to :65535)")),
            },
        };
        let path = uri.path().trim_end_matches('/').to_owned();
        let place = Place::Tcp { host: host.to_owned(), port };
        Ok(Base { place, authority: authority.as_str().to_owned(), path })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_says_where_both_ways_in_are() {
        let rows = [
            ("http://localhost:8080", "localhost", 8080, "/api/v1/publish", "ws://localhost:8080/v1/ws"),
            ("HTTP://example.com/", "example.com", 80, "/api/v1/publish", "ws://example.com/v1/ws"),
            ("ws://[::1]:9", "::1", 9, "/api/v1/publish", "ws://[::1]:9/v1/ws"),
            ("http://x/live/", "x", 80, "/live/api/v1/publish", "ws://x/live/v1/ws"),
        ];
        for (text, host, port, api, native) in rows {
            let base: Base = text.parse().expect(text);
            assert_eq!(base.place, Place::Tcp { host: host.to_owned(), port }, "{text}");
            assert_eq!((base.api("publish").as_str(), base.native().as_str()), (api, native), "{text}");
        }
    }

    #[test]
    fn a_socket_is_an_address_too() {
        let base: Base = "unix:/run/fanfare.sock".parse().expect("an address");
        assert_eq!(base.place, Place::Unix("/run/fanfare.sock".to_owned()));
        assert_eq!((base.api("info").as_str(), base.native().as_str()), ("/api/v1/info", "unix:/run/fanfare.sock"));
        assert_eq!(base.to_string(), "unix:/run/fanfare.sock");
    }

    #[test]
    fn what_is_wrong_with_an_address_is_said() {
        let rows = [
            ("localhost:8080", "begin with http://"),
            ("unix:", "no socket"),
            ("ftp://x", "not ftp://"),
            ("https://x", "TLS"),
            ("http://", ""),
            ("http://:80", ""),
            ("http://me:secret@x", "--api-key"),
            ("http://x:0", "port"),
            ("http://x:65536", "port"),
            ("http://x/?a", "query"),
            ("http://a b", ""),
        ];
        for (text, part) in rows {
            let error = text.parse::<Base>().expect_err(text);
            assert!(error.contains(part) && !error.contains("secret"), "{text}: {error}");
        }
    }
}
