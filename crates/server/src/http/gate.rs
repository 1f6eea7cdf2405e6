//! The gate: checks the target and host of a request's head before any code answers it.
//!
//! In: method, version, target and headers, from either parser, so that the first request of a connection and a later
//! one, upgrades and pages, the API and the admin port are checked alike. Out: the authority that the request is for,
//! or a refusal: 400 if RFC 9112 (§3.2) requires a refusal, 421 for a host that is not served here (see [`Hosts`]), 501
//! for a tunnel.
//!
//! A target in absolute form (`http://host/path`) is understood, and its authority stands in place of `Host`
//! (§3.2.2). A request of HTTP/1.0 need not have a `Host`: no browser sends such a one, so no rebound name can hide
//! behind it.

use super::cors::Page;
use super::forwarded::{ends_of_client, trusts};
use super::token::Carriers;
use crate::config::Config;
use crate::config::authority::{Authority, shown};
use crate::config::base_path::BasePath;
use crate::config::hosts::{Hosts, Via};
use crate::config::origin::Origins;
use crate::config::proxies::TrustedProxy;
use crate::refusal::{Asker, HttpRefusal};
use crate::request::{Peer, pairs};
use crate::transport::head::{self, SEVERAL_CODINGS};
use crate::transport::socket::Ends;
use axum::body::Body;
use axum::middleware::{Next, from_fn};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri, Version, header};
use std::sync::Arc;

/// The answer to `OPTIONS *`: the methods that the server as a whole takes.
const ALLOWED: &str = "GET, HEAD, POST, OPTIONS";

/// The hosts that are served, the origins whose pages may connect, the proxies that are believed, and the path below
/// which everything is.
#[derive(Debug, Clone)]
pub(crate) struct Gate {
    hosts: Hosts,
    origins: Origins,
    proxies: Vec<TrustedProxy>,
    pub(crate) base_path: BasePath,
    /// Where requests may carry tokens; `None` where the configuration has no keys to check them.
    pub(super) carriers: Option<Carriers>,
}

/// The part of a head that is judged here.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RequestLine<'a> {
    pub(crate) method: &'a str,
    pub(crate) version: Version,
    pub(crate) uri: &'a Uri,
}

impl<'a> RequestLine<'a> {
    pub(crate) fn of<B>(request: &'a Request<B>) -> Self {
        RequestLine { method: request.method().as_str(), version: request.version(), uri: request.uri() }
    }
}

/// The target of an accepted request.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Target {
    /// A resource, and its authority, if the request names one.
    Resource(Option<Authority>),
    /// The server as a whole: `OPTIONS *`.
    Server,
}

impl Gate {
    pub(crate) fn of(config: &Config) -> Self {
        Gate {
            hosts: config.hosts.clone(),
            origins: config.origins.clone(),
            proxies: config.trusted_proxies.clone(),
            base_path: config.base_path.clone(),
            carriers: config.auth.is_on().then(|| Carriers { cookie: config.auth.cookie.clone() }),
        }
    }

    /// Whether this peer is a proxy that is believed.
    pub(crate) fn trusts(&self, peer: &Peer) -> bool {
        trusts(&self.proxies, peer)
    }

    /// The ends of the client whose request came over a connection with these ends.
    pub(crate) fn ends_of_client<'h>(&self, ends: Ends, headers: impl Iterator<Item = (&'h str, &'h [u8])>) -> Ends {
        if self.proxies.is_empty() { ends } else { ends_of_client(ends, &self.proxies, headers) }
    }

    /// Judges a head. Behind one that breaks RFC 9112 the connection ends: a proxy may have read it in another way, and
    /// take the answer to what follows for another client's.
    pub(crate) fn admit<'h>(
        &self,
        via: Via,
        asked: RequestLine<'_>,
        headers: impl Iterator<Item = (&'h str, &'h [u8])>,
    ) -> Result<Target, HttpRefusal> {
        self.judge(via, asked, headers)
            .map_err(|refused| if refused.status() == 400 { refused.and_last() } else { refused })
    }

    fn judge<'h>(
        &self,
        via: Via,
        asked: RequestLine<'_>,
        headers: impl Iterator<Item = (&'h str, &'h [u8])>,
    ) -> Result<Target, HttpRefusal> {
        let (mut codings, mut problem) = (0, None);
        let host = host_of(
            asked.version,
            headers.inspect(|(name, value)| {
                if name.eq_ignore_ascii_case("transfer-encoding") {
                    codings += 1;
                    problem = (!head::is_chunked(value)).then(|| head::not_chunked(value)).or(problem.take());
                }
            }),
        )?;
        // Of a head that `head` has not judged.
        match problem {
            Some(problem) => return Err(HttpRefusal::because(400, problem)),
            None if codings > 1 => return Err(HttpRefusal::because(400, SEVERAL_CODINGS)),
            None => {}
        }
        let (target, authority) = form_of(asked)?;
        let authority = match (authority, host) {
            // RFC 9113 §8.3.1: both may stand there, and say the same.
            (Some(target), Host::Named(text, host)) if asked.version == Version::HTTP_2 => {
                let port = usual_port(asked.uri);
                if target.host != host.host || target.port.or(port) != host.port.or(port) {
                    let reason = format!("`Host` is {text}, and `:authority` names another host");
                    return Err(HttpRefusal::because(400, reason));
                }
                Some(target)
            }
            (Some(target), _) => Some(target),
            (None, Host::Named(_, host)) => Some(host),
            (None, Host::None) if asked.version == Version::HTTP_2 => {
                return Err(HttpRefusal::because(400, "the request names no host".to_owned()));
            }
            (None, Host::Empty) if asked.version == Version::HTTP_11 && target == Form::Resource => {
                return Err(HttpRefusal::because(400, "the request's `Host` is empty".to_owned()));
            }
            (None, Host::None | Host::Empty) => None,
        };
        if let Some(authority) = &authority
            && !self.hosts.allow(&authority.host, via, &self.origins)
        {
            let host = shown(authority.host.to_string().as_bytes());
            let reason = format!("the host {host} is not served here: the option `hosts` does not list it");
            return Err(HttpRefusal::because(421, reason).by("hosts"));
        }
        match target {
            Form::Resource => Ok(Target::Resource(authority)),
            Form::Server => Ok(Target::Server),
            Form::Tunnel => {
                Err(HttpRefusal::because(501, "this server is not a proxy and opens no tunnels".to_owned()))
            }
        }
    }

    /// Judges the page that a request comes from, by every origin that it names: a browser sends one. `Ok`: who may
    /// read the answer. A request that names several origins is no browser's.
    pub(crate) fn admit_page<'h>(
        &self,
        authority: Option<&Authority>,
        headers: impl Iterator<Item = (&'h str, &'h [u8])>,
    ) -> Result<Page, HttpRefusal> {
        let mut page = Page::None;
        for (_, origin) in headers.filter(|(name, _)| name.eq_ignore_ascii_case("origin")) {
            let Some(trust) = self.origins.judge(origin, authority) else {
                let origin = shown(origin);
                let reason = format!("pages of {origin} may not connect: the option `origins` does not list them");
                return Err(HttpRefusal::because(403, reason).by("origins"));
            };
            page = if page == Page::None { Page::of(origin, trust) } else { Page::Stranger };
        }
        Ok(page)
    }

    /// Both at once: a request, and the page that it comes from.
    pub(crate) fn admit_with_page<'h, H>(
        &self,
        via: Via,
        asked: RequestLine<'_>,
        headers: impl Fn() -> H,
    ) -> Result<Page, HttpRefusal>
    where
        H: Iterator<Item = (&'h str, &'h [u8])>,
    {
        let authority = match self.admit(via, asked, headers())? {
            Target::Resource(authority) => authority,
            Target::Server => None,
        };
        self.admit_page(authority.as_ref(), headers())
    }

    /// The page that an accepted request comes from, for an address that serves every page. One that may not connect
    /// may not read the answer either.
    pub(crate) fn reader(&self, headers: &HeaderMap) -> Page {
        if !headers.contains_key(header::ORIGIN) {
            return Page::None;
        }
        let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
        let authority = host.and_then(|host| Authority::parse(host).ok());
        self.admit_page(authority.as_ref(), pairs(headers)).unwrap_or(Page::Stranger)
    }

    /// The proxies that are believed.
    pub(super) fn proxies(&self) -> &[TrustedProxy] {
        &self.proxies
    }

    /// Checks a request and normalises it: afterwards `Host` has the authority, and the target of HTTP/1 is a path.
    /// `Some`: the answer, if the request needs no other.
    pub(crate) fn take<B>(&self, via: Via, request: &mut Request<B>) -> Result<Option<Response<Body>>, HttpRefusal> {
        if self.admit(via, RequestLine::of(request), pairs(request.headers()))? == Target::Server {
            let mut response = Response::new(Body::empty());
            *response.status_mut() = StatusCode::NO_CONTENT;
            response.headers_mut().insert(header::ALLOW, HeaderValue::from_static(ALLOWED));
            return Ok(Some(response));
        }
        if let Some(authority) = request.uri().authority() {
            // It has been parsed, so it is a header's value.
            if let Ok(host) = HeaderValue::from_str(authority.as_str()) {
                request.headers_mut().insert(header::HOST, host);
            }
            if request.version() != Version::HTTP_2 {
                let path = request.uri().path_and_query().cloned();
                *request.uri_mut() = path.map_or_else(|| Uri::from_static("/"), Uri::from);
            }
        }
        Ok(None)
    }

    /// A router that gets only accepted requests.
    pub(crate) fn around(self: Arc<Self>, via: Via, router: axum::Router) -> axum::Router {
        router.layer(from_fn(move |mut request: Request<Body>, next: Next| {
            let gate = self.clone();
            async move {
                match gate.take(via, &mut request) {
                    Ok(None) => next.run(request).await,
                    Ok(Some(answered)) => answered,
                    Err(refused) => refused.to(Asker::of_request(&request)).into_response(),
                }
            }
        }))
    }
}

/// The value of `Host`.
enum Host<'h> {
    /// There is none: HTTP/1.0, or HTTP/2 with its `:authority`.
    None,
    /// It is present and empty, because the client's target has no authority (RFC 9112 §3.2).
    Empty,
    /// As it was sent, for a person, and parsed.
    Named(Shown<'h>, Authority),
}

/// Bytes that a peer sent, to be shown.
struct Shown<'h>(&'h [u8]);

impl std::fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&shown(self.0))
    }
}

/// RFC 9112 §3.2: 400 for a request of HTTP/1.1 without `Host`, and for any with several or an invalid one.
fn host_of<'h>(version: Version, headers: impl Iterator<Item = (&'h str, &'h [u8])>) -> Result<Host<'h>, HttpRefusal> {
    let mut hosts = headers.filter(|(name, _)| name.eq_ignore_ascii_case("host")).map(|(_, value)| value.trim_ascii());
    let Some(host) = hosts.next() else {
        if version == Version::HTTP_11 {
            let reason = "the request has no `Host`, which HTTP/1.1 requires (RFC 9112, 3.2)";
            return Err(HttpRefusal::because(400, reason.to_owned()));
        }
        return Ok(Host::None);
    };
    if let Some(second) = hosts.next() {
        let reason = format!("the request has more than one `Host`: {} and {}", Shown(host), Shown(second));
        return Err(HttpRefusal::because(400, reason));
    }
    if host.is_empty() {
        return Ok(Host::Empty);
    }
    let parsed = std::str::from_utf8(host).map_err(|_| "it is not text".to_owned());
    let parsed = parsed.and_then(|text| Authority::parse(text).map_err(|error| error.to_string()));
    match parsed {
        Ok(authority) => Ok(Host::Named(Shown(host), authority)),
        Err(problem) => Err(HttpRefusal::because(400, format!("the `Host` {} is not valid: {problem}", Shown(host)))),
    }
}

/// The target by its form (RFC 9112 §3.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    /// Origin form or absolute form.
    Resource,
    /// Asterisk form.
    Server,
    /// Authority form.
    Tunnel,
}

fn form_of(asked: RequestLine<'_>) -> Result<(Form, Option<Authority>), HttpRefusal> {
    let RequestLine { method, uri, .. } = asked;
    let bad = |what: &str| {
        HttpRefusal::because(400, format!("the request's target {} {what}", shown(uri.to_string().as_bytes())))
    };
    let authority = match uri.authority() {
        Some(authority) => match Authority::parse(authority.as_str()) {
            Ok(authority) => Some(authority),
            Err(error) => return Err(bad(&format!("has no valid host: {error}"))),
        },
        None => None,
    };
    let form = match (uri.scheme_str(), &authority) {
        _ if method == Method::CONNECT.as_str() => match (&authority, uri.scheme_str(), uri.path()) {
            (Some(Authority { port: Some(_), .. }), None, "" | "/") => Form::Tunnel,
            _ => return Err(bad("is not host:port, which CONNECT requires")),
        },
        _ if uri.path() == "*" => match method {
            "OPTIONS" => Form::Server,
            _ => return Err(bad("is for OPTIONS only")),
        },
        (None, Some(_)) => return Err(bad("is neither a path nor a complete address")),
        (Some("http" | "https" | "ws" | "wss"), _) | (None, None) if uri.path().starts_with('/') => Form::Resource,
        (Some(_), _) => return Err(bad("has a scheme that is not HTTP's")),
        (None, None) => return Err(bad("is not a path")),
    };
    Ok((form, authority))
}

fn usual_port(uri: &Uri) -> Option<u16> {
    match uri.scheme_str() {
        Some("https" | "wss") => Some(443),
        _ => Some(80),
    }
}

/// True if a head announces a body. The bytes after an upgrade's head belong to the new protocol, so an upgrade with a
/// body would be ambiguous.
pub(crate) fn has_body<'h>(mut headers: impl Iterator<Item = (&'h str, &'h [u8])>) -> bool {
    headers.any(|(name, value)| {
        let is_length = name.eq_ignore_ascii_case("content-length");
        let is_zero = !value.is_empty() && value.iter().all(|&byte| byte == b'0');
        name.eq_ignore_ascii_case("transfer-encoding") || (is_length && !is_zero)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gate(hosts: Hosts) -> Gate {
        Gate::of(&Config { hosts, ..Config::default() })
    }

    fn admit(version: Version, method: &str, target: &str, hosts: &[&str]) -> Result<String, u16> {
        let uri: Uri = target.parse().map_err(|_| 400_u16)?; // hyper answers so too
        let headers: Vec<(&str, &[u8])> = hosts.iter().map(|host| ("hOsT", host.as_bytes())).collect();
        let asked = RequestLine { method, version, uri: &uri };
        match gate(Hosts::ByListener).admit(Via::Loopback, asked, headers.into_iter()) {
            Ok(Target::Resource(Some(Authority { host, port: Some(port) }))) => Ok(format!("{host}:{port}")),
            Ok(Target::Resource(Some(Authority { host, port: None }))) => Ok(host.to_string()),
            Ok(Target::Resource(None)) => Ok("nobody".to_owned()),
            Ok(Target::Server) => Ok("*".to_owned()),
            Err(refused) => Err(refused.status()),
        }
    }

    #[test]
    fn heads_are_judged_by_rfc_9112() {
        let (one, two, zero) = (Version::HTTP_11, Version::HTTP_2, Version::HTTP_10);
        type Row<'a> = (Version, &'a str, &'a str, &'a [&'a str], Result<&'a str, u16>);
        #[rustfmt::skip]
        let rows: &[Row<'_>] = &[
            // Host.
            (one, "GET", "/", &["localhost:8080"], Ok("localhost:8080")),
            (one, "GET", "/", &["  localhost\t"], Ok("localhost")),
            (one, "GET", "/", &[], Err(400)),
            (one, "GET", "/", &[""], Err(400)),
            (one, "GET", "/", &["localhost", "localhost"], Err(400)),
            (one, "GET", "/", &["localhost", ""], Err(400)),
            (one, "GET", "/", &["a b"], Err(400)),
            (one, "GET", "/", &["localhost, localhost"], Err(400)),
            (one, "GET", "/", &["localhost/x"], Err(400)),
            (one, "GET", "/", &["http://localhost"], Err(400)),
            (one, "GET", "/", &["me@localhost"], Err(400)),
            (one, "GET", "/", &["localhost:http"], Err(400)),
            (one, "GET", "/", &["[::1"], Err(400)),
            (one, "GET", "/", &["evil.example"], Err(421)),
            (zero, "GET", "/", &[], Ok("nobody")),
            (zero, "GET", "/", &[""], Ok("nobody")),
            (zero, "GET", "/", &["localhost"], Ok("localhost")),
            (zero, "GET", "/", &["evil.example"], Err(421)),
            (zero, "GET", "/", &["localhost", "localhost"], Err(400)),
            (zero, "GET", "/", &["a b"], Err(400)),
            // Absolute form.
            (one, "GET", "http://localhost/x", &["evil.example"], Ok("localhost")),
            (one, "GET", "HTTPS://localhost:1", &["evil.example"], Ok("localhost:1")),
            (one, "GET", "ws://localhost?x", &["localhost"], Ok("localhost")),
            (one, "GET", "http://localhost/", &[""], Ok("localhost")),
            (one, "GET", "http://evil.example/", &["localhost"], Err(421)),
            (one, "GET", "http://localhost/", &[], Err(400)),
            (one, "GET", "http://localhost/", &["a b"], Err(400)),
            (one, "GET", "http://localhost/", &["localhost", "localhost"], Err(400)),
            (one, "GET", "http://me@localhost/", &["localhost"], Err(400)),
            (one, "GET", "http:///x", &["localhost"], Err(400)),
            (one, "GET", "http://:80/x", &["localhost"], Err(400)),
            (one, "GET", "ftp://localhost/x", &["localhost"], Err(400)),
            (zero, "GET", "http://localhost/x", &[], Ok("localhost")),
            // The other forms.
            (one, "OPTIONS", "*", &["localhost"], Ok("*")),
            (one, "OPTIONS", "*", &[""], Ok("*")),
            (one, "OPTIONS", "*", &["evil.example"], Err(421)),
            (one, "OPTIONS", "*", &[], Err(400)),
            (one, "GET", "*", &["localhost"], Err(400)),
            (one, "CONNECT", "localhost:80", &["localhost:80"], Err(501)),
            (one, "CONNECT", "localhost:80", &[], Err(400)),
            (one, "CONNECT", "localhost", &["localhost"], Err(400)),
            (one, "CONNECT", "/", &["localhost"], Err(400)),
            (one, "CONNECT", "http://localhost:80/", &["localhost"], Err(400)),
            (one, "GET", "localhost:80", &["localhost"], Err(400)),
            (one, "GET", "localhost", &["localhost"], Err(400)),
            (one, "GET", "//evil.example/x", &["localhost"], Ok("localhost")),
            // HTTP/2: `:authority` is the target's.
            (two, "GET", "http://localhost:1/x", &[], Ok("localhost:1")),
            (two, "GET", "http://evil.example/x", &[], Err(421)),
            (two, "GET", "https://localhost/x", &["LOCALHOST.:443"], Ok("localhost")),
            (two, "GET", "http://localhost/x", &["localhost:80"], Ok("localhost")),
            (two, "GET", "http://localhost/x", &["127.0.0.1"], Err(400)),
            (two, "GET", "http://localhost/x", &["localhost:81"], Err(400)),
            (two, "GET", "/x", &["localhost"], Ok("localhost")),
            (two, "GET", "/x", &[], Err(400)),
            (two, "CONNECT", "localhost:80", &[], Err(501)),
        ];
        for (version, method, target, hosts, expected) in rows {
            let found = admit(*version, method, target, hosts);
            assert_eq!(
                found.as_deref().map_err(|status| *status),
                *expected,
                "{version:?} {method} {target} {hosts:?}"
            );
        }
    }

    #[test]
    fn a_request_is_handed_on_in_one_form() {
        let gate = gate(Hosts::Any);
        let mut request = Request::builder().uri("http://app.example:81/a?b").header("Host", "other").body(()).unwrap();
        assert!(gate.take(Via::Network, &mut request).unwrap().is_none());
        assert_eq!(
            (request.uri(), &request.headers()[header::HOST]),
            (&Uri::from_static("/a?b"), &HeaderValue::from_static("app.example:81"))
        );
        let mut request = Request::builder().method("OPTIONS").uri("*").header("Host", "").body(()).unwrap();
        let response = gate.take(Via::Network, &mut request).unwrap().expect("an answer");
        assert_eq!(
            (response.status().as_u16(), &response.headers()[header::ALLOW]),
            (204, &HeaderValue::from_static(ALLOWED))
        );
    }

    #[test]
    fn a_body_is_announced_by_its_length_or_its_coding() {
        let rows: &[(&str, &[u8], bool)] = &[
            ("Content-Length", b"0", false),
            ("content-length", b"000", false),
            ("Content-Length", b"1", true),
            ("Content-Length", b"", true),
            ("Content-Length", b"x", true),
            ("Content-Length", b"0, 0", true),
            ("Transfer-Encoding", b"chunked", true),
            ("X-Length", b"1", false),
        ];
        for (name, value, expected) in rows {
            assert_eq!(has_body([(*name, *value)].into_iter()), *expected, "{name}: {value:?}");
        }
    }
}
