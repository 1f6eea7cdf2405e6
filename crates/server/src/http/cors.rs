//! CORS: the headers by which a page of another origin may read an answer, and the answers to preflights.
//!
//! In: the page that [`Gate::admit_page`] has let in. Out: the headers of the answer, and the answer to OPTIONS. The
//! one list `origins` decides, for WebSockets and for everything else that pages use. The HTTP API has no CORS: its
//! keys belong to the application, and no page may have one. The embedder's pages set their own headers.
//!
//! Credentials (cookies) are for pages that `origins` names. They are not for `null`, which every sandboxed frame is,
//! and not for pages that only `*` lets in: such a page could read answers for somebody else. A page of the same host
//! needs no header, because its requests are no cross-origin requests; one of the other scheme gets no credentials.
//!
//! [`Gate::admit_page`]: super::gate::Gate::admit_page

use crate::config::origin::PageTrust;
use axum::body::Body;
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, header};

/// The headers that a page may send where it does not ask for them by name.
const HEADERS_USUAL: &str = "authorization, cache-control, content-type, last-event-id";
/// The headers of an answer that a page may read, besides those that need no permission.
const HEADERS_EXPOSED: &str = "retry-after, x-request-id";
/// For how many seconds a browser need not ask again.
const PREFLIGHT_S: &str = "600";

/// Private Network Access: a page of the Internet asks for a server of a private network.
const ASKS_PRIVATE: HeaderName = HeaderName::from_static("access-control-request-private-network");
const ALLOWS_PRIVATE: HeaderName = HeaderName::from_static("access-control-allow-private-network");

/// The page that a request comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Page {
    /// No browser sent the request, or a page of the server itself did.
    None,
    /// It may read nothing.
    Stranger,
    /// It has been let in.
    Reader {
        /// As it was sent.
        origin: HeaderValue,
        trust: PageTrust,
    },
}

impl Page {
    /// A page of this origin, as it was sent.
    pub(crate) fn of(origin: &[u8], trust: PageTrust) -> Self {
        HeaderValue::from_bytes(origin).map_or(Page::Stranger, |origin| Page::Reader { origin, trust })
    }

    /// Adds the headers to an answer. `Vary` is among them where a page asks: a cache must not give its answer to
    /// another one. The answer to a request without an origin is not stored: `Cache-Control` says so.
    pub(crate) fn onto(&self, headers: &mut HeaderMap) {
        if *self != Page::None {
            headers.append(header::VARY, HeaderValue::from_static("origin"));
        }
        let Page::Reader { origin, trust } = self else { return };
        let shown = if *trust == PageTrust::Any { HeaderValue::from_static("*") } else { origin.clone() };
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, shown);
        headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static(HEADERS_EXPOSED));
        if *trust == PageTrust::Named {
            headers.insert(header::ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
        }
    }

    /// The headers alone.
    pub(crate) fn headers(&self) -> HeaderMap {
        let mut headers = HeaderMap::new();
        self.onto(&mut headers);
        headers
    }

    /// The answer to OPTIONS at an address with these methods: to a preflight, or to anybody else.
    pub(crate) fn options(&self, methods: &'static str, asked: &HeaderMap) -> Response<Body> {
        let methods = HeaderValue::from_static(methods);
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::NO_CONTENT;
        let headers = response.headers_mut();
        headers.insert(header::ALLOW, methods.clone());
        self.onto(headers);
        let Page::Reader { trust, .. } = self else { return response };
        if !asked.contains_key(header::ACCESS_CONTROL_REQUEST_METHOD) {
            return response;
        }
        let vary =
            "access-control-request-method, access-control-request-headers, access-control-request-private-network";
        headers.append(header::VARY, HeaderValue::from_static(vary));
        headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, methods);
        headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, allowed_headers(asked));
        headers.insert(header::ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static(PREFLIGHT_S));
        let asks_private = asked.get(ASKS_PRIVATE).is_some_and(|value| value == "true");
        if asks_private && *trust == PageTrust::Named {
            headers.insert(ALLOWS_PRIVATE, HeaderValue::from_static("true"));
        }
        response
    }
}

/// The headers that a page asks for. Handlers may want any, so none is refused.
fn allowed_headers(asked: &HeaderMap) -> HeaderValue {
    let is_of_names = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_., ".contains(byte);
    let mut lines = asked.get_all(header::ACCESS_CONTROL_REQUEST_HEADERS).iter();
    match (lines.next(), lines.next()) {
        (Some(names), None) if !names.is_empty() && names.as_bytes().iter().all(is_of_names) => names.clone(),
        _ => HeaderValue::from_static(HEADERS_USUAL),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const METHODS: &str = "GET, HEAD, OPTIONS";

    fn asked(headers: &[(&str, &str)]) -> HeaderMap {
        let parse = |(name, value): &(&str, &str)| {
            (name.parse::<HeaderName>().expect("a name"), value.parse().expect("a value"))
        };
        headers.iter().map(parse).collect()
    }

    fn shown<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
        headers.get(name).map(|value| value.to_str().expect("text"))
    }

    #[test]
    fn a_page_reads_answers_by_its_trust() {
        let rows = [
            (PageTrust::SameHost, "https://app.example", None),
            (PageTrust::Named, "https://app.example", Some("true")),
            (PageTrust::Null, "https://app.example", None),
            (PageTrust::Any, "*", None),
        ];
        for (trust, origin, credentials) in rows {
            let headers = Page::of(b"https://app.example", trust).headers();
            assert_eq!(shown(&headers, "access-control-allow-origin"), Some(origin), "{trust:?}");
            assert_eq!(shown(&headers, "access-control-allow-credentials"), credentials, "{trust:?}");
            assert_eq!(shown(&headers, "vary"), Some("origin"), "{trust:?}");
        }
        let headers = Page::Stranger.headers();
        assert_eq!((headers.len(), shown(&headers, "vary")), (1, Some("origin")), "{headers:?}");
        assert!(Page::None.headers().is_empty());
    }

    #[test]
    fn a_preflight_is_told_methods_headers_and_networks() {
        let of_page = Page::of(b"https://app.example", PageTrust::Named);
        let of_any = Page::of(b"https://app.example", PageTrust::Any);
        let method = ("access-control-request-method", "POST");
        let names = "access-control-request-headers";
        let private = ("access-control-request-private-network", "true");
        type Row<'a> = (&'a str, &'a Page, &'a [(&'a str, &'a str)], Option<&'a str>, Option<&'a str>);
        #[rustfmt::skip]
        let rows: &[Row<'_>] = &[
            ("no preflight", &of_page, &[(names, "x-a")], None, None),
            ("no page", &Page::None, &[method, (names, "x-a")], None, None),
            ("no names", &of_page, &[method], Some(HEADERS_USUAL), None),
            ("its own names", &of_page, &[method, (names, "x-a,content-type")], Some("x-a,content-type"), None),
            ("no names at all", &of_page, &[method, (names, "")], Some(HEADERS_USUAL), None),
            ("what is no name", &of_page, &[method, (names, "x-a;b")], Some(HEADERS_USUAL), None),
            ("two lines", &of_page, &[method, (names, "x-a"), (names, "x-b")], Some(HEADERS_USUAL), None),
            ("a private network", &of_page, &[method, private], Some(HEADERS_USUAL), Some("true")),
            ("any page asks for it", &of_any, &[method, private], Some(HEADERS_USUAL), None),
        ];
        for (name, page, headers, allowed, network) in rows {
            let mut all = HeaderMap::new();
            for (name, value) in *headers {
                all.append(name.parse::<HeaderName>().expect("a name"), value.parse().expect("a value"));
            }
            let response = page.options(METHODS, &all);
            let headers = response.headers();
            assert_eq!(response.status(), 204, "{name}");
            assert_eq!(shown(headers, "allow"), Some(METHODS), "{name}");
            assert_eq!(shown(headers, "access-control-allow-headers"), *allowed, "{name}");
            assert_eq!(shown(headers, "access-control-allow-methods"), allowed.map(|_| METHODS), "{name}");
            assert_eq!(shown(headers, "access-control-allow-private-network"), *network, "{name}");
        }
        let plain = of_page.options(METHODS, &asked(&[("origin", "https://app.example")]));
        assert_eq!(shown(plain.headers(), "access-control-allow-origin"), Some("https://app.example"));
    }
}
