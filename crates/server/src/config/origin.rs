//! The web pages that may open connections and read answers: the WebSocket Origin check (RFC 6455 §10.2), and CORS.
//!
//! A browser names the page's origin in every handshake; other clients send none and are not concerned. Origins are
//! equal where scheme, host and port are (RFC 6454 §5): a port that is not written is the scheme's usual one, hosts
//! have no case and no trailing dot, addresses compare by value. Apps have schemes of their own
//! (`capacitor://localhost`).
//!
//! A page is of the same host where `Host` names its host and its port. `Host` has no scheme, and a proxy may have
//! ended TLS before the request came here, so a port that `Host` leaves out is the usual one of the page's scheme,
//! http or https. A page of any other scheme was not served by a web server, and is never of the same host.

use crate::config::authority::{Authority, BadAuthority, Host};
use std::fmt;
use std::str::FromStr;

/// The origins whose pages may connect.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Origins {
    /// Only pages that this same host served.
    #[default]
    SameHost,
    /// The same host, and pages of any port of this machine: for development.
    Localhost,
    /// The same host, and these origins.
    List(Vec<Origin>),
    /// Any page.
    Any,
}

/// The origin of a page: `https://app.example`, `capacitor://localhost`, or `null` for pages without one of their own
/// (files, sandboxed frames). Made by [`parse`](str::parse).
///
/// ```
/// use fanfare::{Origin, Origins};
///
/// let app: Origin = "https://app.example".parse()?;
/// assert_eq!(app, "HTTPS://app.example.:443".parse()?);
/// let origins = Origins::List(vec![app, "capacitor://localhost".parse()?]);
/// # Ok::<(), fanfare::OriginError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin(Of);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Of {
    Null,
    /// A scheme in lower case, and what is behind it. `host: None` is `file://`, as Android's WebView has it.
    Page {
        scheme: Box<str>,
        host: Option<Host>,
        port: Option<u16>,
    },
}

/// The error for a text that is no origin.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{found:?} is not an origin: {problem}")]
pub struct OriginError {
    /// As it was given.
    pub found: String,
    /// The problem, and the correct form.
    pub problem: String,
}

/// The default port of a scheme.
fn usual_port(scheme: &str) -> Option<u16> {
    match scheme {
        "http" | "ws" => Some(80),
        "https" | "wss" => Some(443),
        _ => None,
    }
}

impl FromStr for Origin {
    type Err = OriginError;

    fn from_str(text: &str) -> Result<Self, OriginError> {
        let wrong = |problem: String| OriginError { found: text.to_owned(), problem };
        if text.eq_ignore_ascii_case("null") {
            return Ok(Origin(Of::Null));
        }
        let Some((scheme, authority)) = text.split_once("://") else {
            return Err(wrong(format!("write it with its scheme: \"https://{text}\"")));
        };
        let mut chars = scheme.bytes();
        let begins_well = chars.next().is_some_and(|byte| byte.is_ascii_alphabetic());
        if !begins_well || !chars.all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.')) {
            return Err(wrong(format!("{scheme:?} is not a scheme: write \"https://app.example\"")));
        }
        let scheme: Box<str> = scheme.to_ascii_lowercase().into();
        if authority.contains('*') {
            return Err(wrong("name each origin; \"*\" alone allows every page".to_owned()));
        }
        if let Some(end) = authority.find(['/', '?', '#']) {
            return Err(wrong(format!("an origin ends with host and port: \"{scheme}://{}\"", &authority[..end])));
        }
        let usual = usual_port(&scheme);
        if authority.is_empty() && usual.is_none() {
            return Ok(Origin(Of::Page { scheme, host: None, port: None }));
        }
        match Authority::parse(authority) {
            Ok(Authority { host, port }) => Ok(Origin(Of::Page { scheme, host: Some(host), port: port.or(usual) })),
            Err(BadAuthority::Character) if !authority.is_ascii() => {
                Err(wrong("write its host as browsers send it, in ASCII (\"https://xn--…\")".to_owned()))
            }
            Err(error) => Err(wrong(format!(
                "{error}; write scheme, host and, if it is not the usual one, port: \"https://app.example:8443\""
            ))),
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Of::Page { scheme, host, port } = &self.0 else { return f.write_str("null") };
        write!(f, "{scheme}://")?;
        if let Some(host) = host {
            write!(f, "{host}")?;
        }
        match port.filter(|port| Some(*port) != usual_port(scheme)) {
            Some(port) => write!(f, ":{port}"),
            None => Ok(()),
        }
    }
}

impl Origin {
    /// The host of a page that a web server served.
    pub(crate) fn web_host(&self) -> Option<&Host> {
        match &self.0 {
            Of::Page { scheme, host, .. } if usual_port(scheme).is_some() => host.as_ref(),
            _ => None,
        }
    }

    /// Whether the server at this authority served the page, as far as that can be seen: see the module's description.
    fn is_of(&self, authority: &Authority) -> bool {
        match &self.0 {
            Of::Page { scheme, host: Some(host), port } if usual_port(scheme).is_some() => {
                *host == authority.host && *port == authority.port.or(usual_port(scheme))
            }
            _ => false,
        }
    }
}

/// Why a page may connect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PageTrust {
    /// The server at the same host and port served it, as far as that can be seen.
    SameHost,
    /// The origins name it.
    Named,
    /// The origins name `null`, which is no page in particular.
    Null,
    /// Any page may.
    Any,
}

impl Origins {
    /// Whether a page of `origin`, as it was sent, may connect to this authority, and why.
    pub(crate) fn judge(&self, origin: &[u8], authority: Option<&Authority>) -> Option<PageTrust> {
        if *self == Origins::Any {
            return Some(PageTrust::Any);
        }
        let origin = std::str::from_utf8(origin).ok()?.parse::<Origin>().ok()?;
        let is_named = match self {
            Origins::Localhost => origin.web_host().is_some_and(Host::is_this_machine),
            Origins::List(list) => list.contains(&origin),
            Origins::SameHost | Origins::Any => false,
        };
        match origin {
            Origin(Of::Null) => is_named.then_some(PageTrust::Null),
            _ if is_named => Some(PageTrust::Named),
            origin => authority.is_some_and(|authority| origin.is_of(authority)).then_some(PageTrust::SameHost),
        }
    }

    /// The hosts that are named here.
    pub(crate) fn hosts(&self) -> impl Iterator<Item = &Host> {
        let list = match self {
            Origins::List(list) => list.as_slice(),
            Origins::SameHost | Origins::Localhost | Origins::Any => &[],
        };
        list.iter().filter_map(Origin::web_host)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(origins: &[&str]) -> Origins {
        Origins::List(origins.iter().map(|origin| origin.parse().expect("an origin")).collect())
    }

    #[test]
    fn pages_are_let_in_by_host_by_list_or_in_development_from_this_machine() {
        let (same, local) = (Origins::SameHost, Origins::Localhost);
        let web = list(&["https://app.example", "http://[::1]:3000", "https://other.example:8443"]);
        let apps =
            list(&["capacitor://localhost", "tauri://localhost", "chrome-extension://abcdef", "file://", "null"]);
        #[rustfmt::skip]
        let rows = [
            // The same host, also behind a proxy that ends TLS.
            (&same, "http://a.example:8080", Some("a.example:8080"), true),
            (&same, "https://a.example", Some("a.example:443"), true),
            (&same, "https://a.example:443", Some("a.example"), true),
            (&same, "http://a.example", Some("a.example:80"), true),
            (&same, "https://a.example", Some("a.example"), true),
            (&same, "http://a.example", Some("a.example"), true),
            (&same, "https://A.Example", Some("a.example."), true),
            (&same, "https://a.example.", Some("A.EXAMPLE:443"), true),
            (&same, "http://[::1]:80", Some("[0:0:0:0:0:0:0:1]"), true),
            (&same, "http://a.example", Some("a.example:443"), false),
            (&same, "https://a.example", Some("a.example:80"), false),
            (&same, "https://a.example:8443", Some("a.example"), false),
            (&same, "https://a.example", Some("a.example:8443"), false),
            (&same, "http://a.example", Some("b.example"), false),
            (&same, "http://a.example", None, false),
            (&same, "null", Some("a.example"), false),
            (&same, "null", Some("null"), false),
            (&same, "capacitor://localhost", Some("localhost"), false),
            (&same, "a.example", Some("a.example"), false),
            (&same, "http://localhost:3000", Some("localhost:8080"), false),
            (&same, "http://x@a.example", Some("a.example"), false),
            (&same, "http://a.example/", Some("a.example"), false),
            (&same, "http://a.example http://a.example", Some("a.example"), false),
            // Development.
            (&local, "http://localhost:3000", Some("127.0.0.1:8080"), true),
            (&local, "https://app.localhost", Some("localhost:8080"), true),
            (&local, "http://[::1]:3000", Some("localhost:8080"), true),
            (&local, "http://127.0.0.1:3000", Some("localhost:8080"), true),
            (&local, "http://localhost.evil.example", Some("localhost:8080"), false),
            (&local, "null", Some("localhost:8080"), false),
            // Lists.
            (&web, "https://app.example", Some("rt.example"), true),
            (&web, "https://app.example:443", Some("rt.example"), true),
            (&web, "HTTPS://APP.example.", Some("rt.example"), true),
            (&web, "http://[0::1]:3000", None, true),
            (&web, "https://other.example:8443", Some("rt.example"), true),
            (&web, "https://other.example", Some("rt.example"), false),
            (&web, "http://app.example", Some("rt.example"), false),
            (&web, "wss://app.example", Some("rt.example"), false),
            (&web, "https://app.example.evil.example", Some("rt.example"), false),
            (&web, "null", Some("rt.example"), false),
            (&apps, "capacitor://localhost", Some("rt.example"), true),
            (&apps, "tauri://localhost", Some("rt.example"), true),
            (&apps, "chrome-extension://abcdef", Some("rt.example"), true),
            (&apps, "chrome-extension://other", Some("rt.example"), false),
            (&apps, "ionic://localhost", Some("rt.example"), false),
            (&apps, "http://localhost", Some("rt.example"), false),
            (&apps, "file://", Some("rt.example"), true),
            (&apps, "null", Some("rt.example"), true),
            (&Origins::Any, "null", None, true),
            (&Origins::Any, "\u{1}", None, true),
        ];
        for (origins, origin, host, expected) in rows {
            let authority = host.map(|host| Authority::parse(host).expect("an authority"));
            let judged = origins.judge(origin.as_bytes(), authority.as_ref());
            assert_eq!(judged.is_some(), expected, "{origins:?} {origin} {host:?}");
        }
        assert_eq!(web.judge(b"http://\xFF", None), None);
    }

    #[test]
    fn an_origin_is_written_as_browsers_send_it() {
        let rows: &[(&str, Result<&str, &str>)] = &[
            ("https://app.example", Ok("https://app.example")),
            ("HTTPS://App.Example.:443", Ok("https://app.example")),
            ("http://app.example:443", Ok("http://app.example:443")),
            ("http://[0:0::1]:80", Ok("http://[::1]")),
            ("tauri://localhost", Ok("tauri://localhost")),
            ("chrome-extension://abcdef", Ok("chrome-extension://abcdef")),
            ("app+x-1.0://a:80", Ok("app+x-1.0://a:80")),
            ("file://", Ok("file://")),
            ("null", Ok("null")),
            ("app.example", Err("with its scheme: \"https://app.example\"")),
            ("", Err("with its scheme")),
            ("https://", Err("names no host")),
            ("https://:80", Err("names no host")),
            ("https://app.example/", Err("\"https://app.example\"")),
            ("https://app.example?x", Err("\"https://app.example\"")),
            ("https://*.app.example", Err("name each origin")),
            ("https://a b", Err("is not allowed in a host")),
            ("https://bücher.example", Err("xn--")),
            ("https://me@app.example", Err("a user name")),
            ("https://app.example:x", Err("65535")),
            ("1http://a", Err("is not a scheme")),
            ("://a", Err("is not a scheme")),
        ];
        for (text, expected) in rows {
            match (text.parse::<Origin>(), expected) {
                (Ok(origin), Ok(shown)) => {
                    assert_eq!(origin.to_string(), *shown, "{text}");
                    assert_eq!(shown.parse::<Origin>().as_ref(), Ok(&origin), "{text}: what is shown reads back");
                }
                (Err(error), Err(words)) => {
                    let message = error.to_string();
                    assert!(message.contains(words) && message.contains(&format!("{text:?}")), "{text}: {message}");
                }
                (found, _) => panic!("{text:?} is {found:?}"),
            }
        }
    }
}
