//! Where a server is, as people write it: one parser for the client and for the command `fanfare`.
//!
//! `http[s]://host[:port][/prefix]` names a Fanfare: the native protocol is spoken below it, at `/v1/ws`. `ws[s]://…`
//! names that very place, and means `/v1/ws` where it has no path. `unix:PATH` is a socket on this machine. What
//! cannot stand in the head of a request is refused here, so that everything behind can write an address down as it
//! is.

use std::fmt;
use std::str::FromStr;

/// The path of the native protocol.
pub const NATIVE_PATH: &str = "/v1/ws";

/// The target of a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Place {
    /// The host is for the resolver, without the brackets of an IPv6 address.
    Tcp { host: String, port: u16 },
    /// The path of a socket.
    #[cfg(unix)]
    Unix(String),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::Tcp { host, port } if host.contains(':') => write!(f, "[{host}]:{port}"),
            Place::Tcp { host, port } => write!(f, "{host}:{port}"),
            #[cfg(unix)]
            Place::Unix(path) => f.write_str(path),
        }
    }
}

/// The address of a server, taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Url {
    pub(super) place: Place,
    scheme: Scheme,
    authority: String,
    /// Without a slash at its end where it is a prefix.
    path: String,
    query: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Scheme {
    Http,
    Https,
    Ws,
    Wss,
    #[cfg(unix)]
    Unix,
}

/// Why a text is not the address of a server.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum UrlError {
    /// It begins with nothing that we know.
    #[error("{url:?} does not begin with http://, https://, ws://, wss:// or unix:")]
    Scheme {
        /// As given.
        url: String,
    },
    /// It wants TLS, which was left out.
    #[error("{url:?} needs TLS, and this program was built without it (feature `tls`)")]
    NoTls {
        /// As given.
        url: String,
    },
    /// No host.
    #[error("{url:?} names no host")]
    Host {
        /// As given.
        url: String,
    },
    /// No path behind `unix:`.
    #[error("{url:?} names no socket")]
    Socket {
        /// As given.
        url: String,
    },
    /// A user or a password: they belong into a token or an API key. (The address is not shown: it holds a secret.)
    #[error("the address must not hold a user or password: give a token or an API key by itself")]
    User,
    /// Not a number from 1 to 65535.
    #[error("{port:?} is not a port (1 to 65535)")]
    Port {
        /// As given.
        port: String,
    },
    /// A space, a control character, or one beyond ASCII, which is to be written in its encoded form.
    #[error(
        "{url:?} holds {character:?}, which is not allowed in an address: write it percent-encoded, in a host's name as xn--…"
    )]
    Character {
        /// As given.
        url: String,
        /// The first one.
        character: char,
    },
}

impl Scheme {
    fn find(word: &str) -> Option<Self> {
        let all = [("http", Scheme::Http), ("https", Scheme::Https), ("ws", Scheme::Ws), ("wss", Scheme::Wss)];
        all.into_iter().find(|(name, _)| word.eq_ignore_ascii_case(name)).map(|(_, scheme)| scheme)
    }

    fn is_tls(self) -> bool {
        matches!(self, Scheme::Https | Scheme::Wss)
    }

    /// It names a Fanfare and not the very place.
    fn is_base(self) -> bool {
        matches!(self, Scheme::Http | Scheme::Https)
    }

    fn word(self) -> &'static str {
        match self {
            Scheme::Http => "http",
            Scheme::Https => "https",
            Scheme::Ws => "ws",
            Scheme::Wss => "wss",
            #[cfg(unix)]
            Scheme::Unix => "unix",
        }
    }
}

impl FromStr for Url {
    type Err = UrlError;

    fn from_str(url: &str) -> Result<Self, UrlError> {
        let given = || url.to_owned();
        #[cfg(unix)]
        if let Some(path) = url.strip_prefix("unix:") {
            if path.is_empty() {
                return Err(UrlError::Socket { url: given() });
            }
            let (place, authority) = (Place::Unix(path.to_owned()), "localhost".to_owned());
            return Ok(Url { place, scheme: Scheme::Unix, authority, path: String::new(), query: None });
        }
        let (word, rest) = url.split_once("://").ok_or_else(|| UrlError::Scheme { url: given() })?;
        let scheme = Scheme::find(word).ok_or_else(|| UrlError::Scheme { url: given() })?;
        // A fragment is the reader's own (RFC 6455 §3).
        let rest = rest.split('#').next().unwrap_or_default();
        let (authority, path) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
        if authority.contains('@') {
            return Err(UrlError::User);
        }
        if let Some(character) = rest.chars().find(|c| !c.is_ascii_graphic()) {
            return Err(UrlError::Character { url: given(), character });
        }
        if cfg!(not(feature = "tls")) && scheme.is_tls() {
            return Err(UrlError::NoTls { url: given() });
        }
        let (host, port) = match authority.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            Some((host, port)) => (host, port),
            None => authority.split_at(authority.find(':').unwrap_or(authority.len())),
        };
        let port_default = if scheme.is_tls() { 443 } else { 80 };
        let port = match (port, port.strip_prefix(':')) {
            ("" | ":", _) => port_default,
            (_, Some(digits)) if digits.bytes().all(|byte| byte.is_ascii_digit()) => match digits.parse() {
                Ok(port) if port > 0 => port,
                _ => return Err(UrlError::Port { port: digits.to_owned() }),
            },
            (port, digits) => return Err(UrlError::Port { port: digits.unwrap_or(port).to_owned() }),
        };
        if host.is_empty() {
            return Err(UrlError::Host { url: given() });
        }
        let (path, query) = match path.split_once('?') {
            Some((path, query)) => (path, Some(query.to_owned())),
            None => (path, None),
        };
        let path = match path {
            path if scheme.is_base() => path.trim_end_matches('/'),
            "" | "/" => NATIVE_PATH,
            path => path,
        };
        let bracketed = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
        let authority = if port == port_default { bracketed } else { format!("{bracketed}:{port}") };
        let place = Place::Tcp { host: host.to_owned(), port };
        Ok(Url { place, scheme, authority, path: path.to_owned(), query })
    }
}

impl Url {
    /// Whether TLS is spoken there.
    pub fn is_tls(&self) -> bool {
        self.scheme.is_tls()
    }

    /// The host for the resolver, without the brackets of an IPv6 address, and the port. `None` for a socket of this
    /// machine.
    pub fn host_and_port(&self) -> Option<(&str, u16)> {
        match &self.place {
            Place::Tcp { host, port } => Some((host, *port)),
            #[cfg(unix)]
            Place::Unix(_) => None,
        }
    }

    /// The path of a socket of this machine, if the address is one.
    #[cfg(unix)]
    pub fn socket(&self) -> Option<&str> {
        match &self.place {
            Place::Tcp { .. } => None,
            Place::Unix(path) => Some(path),
        }
    }

    /// For the `Host` header: with the port where it is not the scheme's own.
    pub fn authority(&self) -> &str {
        &self.authority
    }

    /// The path, without a slash at its end where it is a prefix. Empty where there is none.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The query behind `?`, where there is one.
    pub fn query(&self) -> Option<&str> {
        self.query.as_deref()
    }

    /// The server that speaks the native protocol at this place: `wss://host/live/v1/ws` is of `https://host/live`.
    /// Itself where it names a server already.
    #[must_use]
    pub fn base(mut self) -> Self {
        self.scheme = match self.scheme {
            Scheme::Ws => Scheme::Http,
            Scheme::Wss => Scheme::Https,
            _ => return self,
        };
        let path = self.path.strip_suffix(NATIVE_PATH).unwrap_or(&self.path).trim_end_matches('/').to_owned();
        Url { path, ..self }
    }

    /// The target of a request to this address of the server, such as `/v1/poll`.
    pub(super) fn target_of(&self, path: &str) -> String {
        let base = match self.scheme {
            Scheme::Ws | Scheme::Wss => self.path.strip_suffix(NATIVE_PATH).unwrap_or(&self.path).trim_end_matches('/'),
            _ => &self.path,
        };
        match &self.query {
            Some(query) => format!("{base}{path}?{query}"),
            None => format!("{base}{path}"),
        }
    }

    /// The target of the native protocol's upgrade request.
    pub(super) fn native_target(&self) -> String {
        let path = match self.scheme {
            Scheme::Ws | Scheme::Wss => self.path.clone(),
            _ => format!("{}{NATIVE_PATH}", self.path),
        };
        match &self.query {
            Some(query) => format!("{path}?{query}"),
            None => path,
        }
    }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        #[cfg(unix)]
        if let Place::Unix(path) = &self.place {
            return write!(f, "unix:{path}");
        }
        write!(f, "{}://{}{}", self.scheme.word(), self.authority, self.path)?;
        match &self.query {
            Some(query) => write!(f, "?{query}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// (as written, host, port, `Host` header, path of the upgrade)
    const GOOD: &[(&str, &str, u16, &str, &str)] = &[
        ("ws://localhost", "localhost", 80, "localhost", "/v1/ws"),
        ("WS://localhost:8080/", "localhost", 8080, "localhost:8080", "/v1/ws"),
        ("ws://example.com/app/ws?a=b#c", "example.com", 80, "example.com", "/app/ws?a=b"),
        ("ws://[::1]:8080?x", "::1", 8080, "[::1]:8080", "/v1/ws?x"),
        ("ws://127.0.0.1:", "127.0.0.1", 80, "127.0.0.1", "/v1/ws"),
        ("http://localhost:8080", "localhost", 8080, "localhost:8080", "/v1/ws"),
        ("HTTP://example.com/", "example.com", 80, "example.com", "/v1/ws"),
        ("http://x:80/live/", "x", 80, "x", "/live/v1/ws"),
        ("http://[::1]:9", "::1", 9, "[::1]:9", "/v1/ws"),
    ];
    #[cfg(feature = "tls")]
    const GOOD_TLS: &[(&str, &str, u16, &str, &str)] = &[
        ("wss://example.com", "example.com", 443, "example.com", "/v1/ws"),
        ("https://example.com:443/live", "example.com", 443, "example.com", "/live/v1/ws"),
        ("wss://example.com:80/x", "example.com", 80, "example.com:80", "/x"),
    ];

    fn all() -> Vec<(&'static str, &'static str, u16, &'static str, &'static str)> {
        #[cfg(feature = "tls")]
        return [GOOD, GOOD_TLS].concat();
        #[cfg(not(feature = "tls"))]
        GOOD.to_vec()
    }

    #[test]
    fn addresses_are_taken_apart() {
        for (text, host, port, authority, target) in all() {
            let url: Url = text.parse().expect(text);
            assert_eq!(url.host_and_port(), Some((host, port)), "{text}");
            assert_eq!((url.authority(), url.native_target().as_str()), (authority, target), "{text}");
            assert_eq!(url.is_tls(), text.starts_with("wss:") || text.starts_with("https:"), "{text}");
            assert_eq!(url.to_string().parse(), Ok(url), "{text}: written down, it is the same");
        }
    }

    #[test]
    fn requests_go_below_the_same_server_as_the_websocket() {
        let rows = [
            ("ws://x", "/v1/poll"),
            ("http://x", "/v1/poll"),
            ("http://x/live/", "/live/v1/poll"),
            ("ws://x/live/v1/ws?a=b", "/live/v1/poll?a=b"),
            ("ws://x/live/", "/live/v1/poll"),
        ];
        for (text, target) in rows {
            assert_eq!(text.parse::<Url>().expect(text).target_of("/v1/poll"), target, "{text}");
        }
    }

    #[cfg(unix)]
    #[test]
    fn a_socket_is_an_address_too() {
        let url: Url = "unix:/run/fanfare.sock".parse().expect("an address");
        assert_eq!((url.socket(), url.host_and_port()), (Some("/run/fanfare.sock"), None));
        assert_eq!((url.native_target().as_str(), url.path()), ("/v1/ws", ""));
        assert_eq!(url.to_string(), "unix:/run/fanfare.sock");
        assert_eq!("unix:".parse::<Url>(), Err(UrlError::Socket { url: "unix:".to_owned() }));
    }

    #[test]
    fn the_place_of_the_native_protocol_says_whose_it_is() {
        let rows = [
            ("ws://x", "http://x"),
            ("ws://x/v1/ws", "http://x"),
            ("ws://x:8/live/v1/ws", "http://x:8/live"),
            ("ws://x/live/", "http://x/live"),
            ("http://x/live", "http://x/live"),
        ];
        for (text, base) in rows {
            assert_eq!(text.parse::<Url>().expect(text).base(), base.parse().expect(base), "{text}");
        }
    }

    #[test]
    fn a_wrong_url_is_refused_with_the_reason() {
        let url = |text: &str| text.to_owned();
        for text in ["", "localhost", "localhost:8080", "ftp://x", "https//x"] {
            assert_eq!(text.parse::<Url>(), Err(UrlError::Scheme { url: url(text) }));
        }
        for text in ["ws://", "http://:80", "http:///x", "ws://[]:1"] {
            assert_eq!(text.parse::<Url>(), Err(UrlError::Host { url: url(text) }));
        }
        let error = "ws://me:secret@x".parse::<Url>().expect_err("a user");
        assert!(error == UrlError::User && !error.to_string().contains("secret"));
        for port in ["0", "65536", "x", "-1", "+1", "8080x"] {
            let text = format!("ws://x:{port}/");
            assert_eq!(text.parse::<Url>(), Err(UrlError::Port { port: url(port) }));
        }
        assert_eq!("ws://[::1]8".parse::<Url>(), Err(UrlError::Port { port: url("8") }));
        for (text, character) in [("http://a b", ' '), ("ws://x/\r\nHost: y", '\r'), ("ws://bücher.example", 'ü')] {
            assert_eq!(text.parse::<Url>(), Err(UrlError::Character { url: url(text), character }));
        }
        #[cfg(not(feature = "tls"))]
        assert_eq!("wss://x".parse::<Url>(), Err(UrlError::NoTls { url: url("wss://x") }));
    }
}
