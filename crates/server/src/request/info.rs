//! The request that a connection began with, as handlers and protocols see it.
//!
//! It is made from the head and kept as long as its connection lives, but only if a handler or the protocol needs it.
//! Its texts are copies: it holds no buffer of the reader. Its size is bounded by `limits.head_bytes_max`. `Debug`
//! shows neither headers nor the query: both may hold secrets.

use fanfare_hub::UserToken;
use http::header::{AUTHORIZATION, COOKIE, PROXY_AUTHORIZATION};
use http::uri::Scheme;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri, Version};
use std::fmt;
use std::net::SocketAddr;

/// The request that a connection began with.
#[derive(Clone)]
#[non_exhaustive]
pub struct RequestInfo {
    /// `GET`, where a WebSocket began over HTTP/1.1.
    pub method: Method,
    /// As the client sent it, with its query.
    pub uri: Uri,
    /// All of them, in their order for each name.
    pub headers: HeaderMap,
    /// The client's end of the connection. Behind a proxy it is the proxy's, unless `Config::trusted_proxies` lists
    /// that: then it is the client's as the proxy tells it, with port 0 where the port is not told.
    pub peer: Peer,
    /// Where it came in; `None` for a Unix socket, and where another server does not tell it.
    pub local: Option<SocketAddr>,
    /// `https` over TLS, else `http`. A trusted proxy tells it of its client. Within another server it is the scheme of
    /// the request's target, where that has one.
    pub scheme: Scheme,
    /// The version of HTTP.
    pub version: Version,
    /// The token that it carries, for the `connect` of its connection.
    pub(crate) token: Option<CarriedToken>,
    pub(crate) cookies_count: bool,
}

/// What the head of a request carries for its connection.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Carried {
    pub(crate) token: Option<CarriedToken>,
    /// Its page is the server's own, or `origins` names it: no other page can have made the browser send its cookies.
    pub(crate) cookies_count: bool,
}

/// A token that came with a request, and not in a `connect`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CarriedToken {
    pub(crate) token: UserToken,
    /// The browser has added it: any other token counts before it.
    pub(crate) is_cookie: bool,
}

/// The other end of a connection.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Peer {
    /// Over TCP, from this address.
    Tcp(SocketAddr),
    /// Over a Unix socket, by this process where the system tells it.
    Unix(Option<Credentials>),
    /// Another server has the socket, and does not tell. axum does where it serves
    /// `into_make_service_with_connect_info::<SocketAddr>()`.
    #[default]
    Unknown,
}

/// The process that has opened a Unix socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Credentials {
    /// The user's number.
    pub uid: u32,
    /// The group's number.
    pub gid: u32,
    /// The process, where the system tells it.
    pub pid: Option<i32>,
}

impl Peer {
    /// The address, where it has one.
    pub fn address(&self) -> Option<SocketAddr> {
        match self {
            Peer::Tcp(address) => Some(*address),
            Peer::Unix(_) | Peer::Unknown => None,
        }
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Peer::Tcp(address) => address.fmt(f),
            Peer::Unix(Some(Credentials { uid, .. })) => write!(f, "unix uid {uid}"),
            Peer::Unix(None) => f.write_str("unix"),
            Peer::Unknown => f.write_str("unknown"),
        }
    }
}

impl RequestInfo {
    pub(crate) fn of<'h>(
        method: &str,
        uri: &Uri,
        version: Version,
        headers: impl Iterator<Item = (&'h str, &'h [u8])>,
        peer: Peer,
    ) -> Self {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            // The parser accepts them; no handler could ask for a header that the map refuses.
            if let (Ok(name), Ok(mut value)) = (HeaderName::from_bytes(name.as_bytes()), HeaderValue::from_bytes(value))
            {
                value.set_sensitive([AUTHORIZATION, COOKIE, PROXY_AUTHORIZATION].contains(&name));
                map.append(name, value);
            }
        }
        RequestInfo {
            method: method.parse().unwrap_or_default(),
            uri: uri.to_string().parse().unwrap_or_default(), // a part of the reader's buffer would keep all of it
            headers: map,
            peer,
            local: None,
            scheme: uri.scheme().cloned().unwrap_or(Scheme::HTTP),
            version,
            token: None,
            cookies_count: false,
        }
    }

    /// With what was found in it.
    pub(crate) fn carrying(self, Carried { token, cookies_count }: Carried) -> Self {
        RequestInfo { token, cookies_count, ..self }
    }

    /// Whether its cookies mean what the user wants. A browser sends them with the requests of every page, so those of
    /// a page that is neither the server's own nor named in `Config::origins` prove nothing: the page may be an
    /// attacker's (cross-site WebSocket hijacking). `auth.cookie` and `hooks.forward_cookies` count only where this is
    /// true. It is false where no page is known, as of programs, which can send a token in another way.
    pub fn cookies_count(&self) -> bool {
        self.cookies_count
    }

    /// A request for a test: `GET` of this target over HTTP/1.1, without headers, with an unknown peer.
    ///
    /// # Panics
    /// `target` is no path with or without a query.
    pub fn get(target: &str) -> Self {
        let uri: Uri = target.parse().expect("a path, with or without a query");
        RequestInfo::of("GET", &uri, Version::HTTP_11, std::iter::empty(), Peer::Unknown)
    }

    /// With one more header.
    ///
    /// # Panics
    /// The name or the value is none.
    #[must_use]
    pub fn with_header(mut self, name: &str, value: &str) -> Self {
        let name: HeaderName = name.parse().expect("a header's name");
        self.headers.append(name, value.parse().expect("a header's value"));
        self
    }

    /// Bytes that it takes, with an estimate of the overhead.
    pub(crate) fn cost(&self) -> usize {
        const OF_HEADER: usize = 128;
        let headers = self.headers.iter().map(|(name, value)| OF_HEADER + name.as_str().len() + value.len());
        size_of::<Self>()
            + self.uri.path().len()
            + self.uri.query().map_or(0, str::len)
            + headers.sum::<usize>()
            + self.token.as_ref().map_or(0, |it| it.token.len())
    }

    /// A header's value, where it is there and visible ASCII; of several the first.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// A cookie's value, as the client sent it; of several the first.
    pub fn cookie(&self, name: &str) -> Option<&str> {
        self.cookies().find(|(other, _)| *other == name).map(|(_, value)| value)
    }

    /// The cookies' names and values (RFC 6265 §5.4). Quotes around a value are taken off; nothing is decoded.
    pub fn cookies(&self) -> impl Iterator<Item = (&str, &str)> {
        let lines = self.headers.get_all(COOKIE).iter().filter_map(|line| std::str::from_utf8(line.as_bytes()).ok());
        lines.flat_map(|line| line.split(';')).filter_map(|pair| {
            let (name, value) = pair.split_once('=')?;
            let value = value.trim();
            let bare = value.strip_prefix('"').and_then(|value| value.strip_suffix('"'));
            Some((name.trim(), bare.unwrap_or(value)))
        })
    }
}

impl fmt::Debug for RequestInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RequestInfo")
            .field("method", &self.method)
            .field("path", &self.uri.path())
            .field("peer", &self.peer)
            .field("version", &self.version)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cookies_are_found_in_any_line_and_nothing_else_is() {
        let request = RequestInfo::get("/v1/ws?token=s3cret")
            .with_header("Cookie", "a=1; session=\"x y\";b = 2;nothing; =empty")
            .with_header("Cookie", "c=3=4; a=again");
        let found: Vec<_> = request.cookies().collect();
        assert_eq!(found, [("a", "1"), ("session", "x y"), ("b", "2"), ("", "empty"), ("c", "3=4"), ("a", "again")]);
        assert_eq!(
            (request.cookie("a"), request.cookie("A"), request.header("COOKIE").is_some()),
            (Some("1"), None, true)
        );
        let shown = format!("{request:?}");
        assert!(shown.contains("/v1/ws") && !shown.contains("s3cret") && !shown.contains("session"), "{shown}");
    }
}
