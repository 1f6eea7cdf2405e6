//! Where a server is: `ws://host[:port][/path][?query]`, or `unix:PATH`.

/// The path of the native protocol, where the URL names none.
const PATH: &str = "/v1/ws";

/// Where to connect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Place {
    /// The host is for the resolver, without the brackets of an IPv6 address.
    Tcp { host: String, port: u16 },
    /// The path of a socket.
    #[cfg(unix)]
    Unix(String),
}

/// A URL, taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Url {
    pub(super) place: Place,
    /// For the `Host` header: with the port where it is not the default.
    pub(super) authority: String,
    pub(super) path_and_query: String,
}

/// Why a text is not the URL of a server.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum UrlError {
    /// Not `ws://` and not `unix:`. TLS is not built in yet: let a proxy on this machine speak it.
    #[error("{url:?} does not begin with ws:// (wss:// is not supported yet)")]
    Scheme {
        /// As given.
        url: String,
    },
    /// No host.
    #[error("{url:?} names no host")]
    Host {
        /// As given.
        url: String,
    },
    /// A user or a password: they belong into a token.
    #[error("a URL with a user in it is not supported: give a token")]
    User,
    /// Not a number from 1 to 65535.
    #[error("{port:?} is not a port")]
    Port {
        /// As given.
        port: String,
    },
}

impl Url {
    pub(super) fn parse(url: &str) -> Result<Self, UrlError> {
        #[cfg(unix)]
        if let Some(path) = url.strip_prefix("unix:").filter(|path| !path.is_empty()) {
            let place = Place::Unix(path.to_owned());
            return Ok(Url { place, authority: "localhost".to_owned(), path_and_query: PATH.to_owned() });
        }
        let scheme = || UrlError::Scheme { url: url.to_owned() };
        let (scheme_found, rest) = url.split_once("://").ok_or_else(scheme)?;
        if !scheme_found.eq_ignore_ascii_case("ws") {
            return Err(scheme());
        }
        // A fragment is the client's own (RFC 6455 §3).
        let rest = rest.split('#').next().unwrap_or_default();
        let (authority, path) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
        if authority.contains('@') {
            return Err(UrlError::User);
        }
        let (host, port) = match authority.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            Some((host, port)) => (host, port),
            None => authority.split_at(authority.find(':').unwrap_or(authority.len())),
        };
        let port = match port.strip_prefix(':') {
            None | Some("") => 80,
            Some(digits) => match digits.parse() {
                Ok(port) if port > 0 => port,
                _ => return Err(UrlError::Port { port: digits.to_owned() }),
            },
        };
        if host.is_empty() {
            return Err(UrlError::Host { url: url.to_owned() });
        }
        let path_and_query = match path {
            "" | "/" => PATH.to_owned(),
            path if path.starts_with('?') => format!("{PATH}{path}"),
            path => path.to_owned(),
        };
        let bracketed = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
        let authority = if port == 80 { bracketed } else { format!("{bracketed}:{port}") };
        Ok(Url { place: Place::Tcp { host: host.to_owned(), port }, authority, path_and_query })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_taken_apart() {
        let rows = [
            ("ws://localhost", "localhost", 80, "localhost", "/v1/ws"),
            ("WS://localhost:8080/", "localhost", 8080, "localhost:8080", "/v1/ws"),
            ("ws://example.com/app/ws?a=b#c", "example.com", 80, "example.com", "/app/ws?a=b"),
            ("ws://[::1]:8080?x", "::1", 8080, "[::1]:8080", "/v1/ws?x"),
            ("ws://127.0.0.1:", "127.0.0.1", 80, "127.0.0.1", "/v1/ws"),
        ];
        for (url, host, port, authority, path) in rows {
            let (authority, path_and_query) = (authority.to_owned(), path.to_owned());
            let place = Place::Tcp { host: host.to_owned(), port };
            assert_eq!(Url::parse(url), Ok(Url { place, authority, path_and_query }), "{url}");
        }
        let unix = Url::parse("unix:/run/fanfare.sock").map(|url| (url.place, url.path_and_query));
        assert_eq!(unix, Ok((Place::Unix("/run/fanfare.sock".to_owned()), "/v1/ws".to_owned())));
    }

    #[test]
    fn what_is_wrong_is_said() {
        for url in ["", "localhost", "wss://x", "http://x", "unix:"] {
            assert_eq!(Url::parse(url), Err(UrlError::Scheme { url: url.to_owned() }));
        }
        assert_eq!(Url::parse("ws://"), Err(UrlError::Host { url: "ws://".to_owned() }));
        assert_eq!(Url::parse("ws://me:secret@x"), Err(UrlError::User));
        for port in ["0", "65536", "x", "-1"] {
            assert_eq!(Url::parse(&format!("ws://x:{port}/")), Err(UrlError::Port { port: port.to_owned() }));
        }
    }
}
