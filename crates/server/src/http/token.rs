//! Where a request carries a token: `Authorization: Bearer`, a WebSocket subprotocol, the parameter `token`, a cookie.
//!
//! In: a head whose page has been let in. Out: the token for the `connect` of its connection, and whether its cookies
//! count; or a refusal of a request that shows two different tokens (RFC 6750 §2: no more than one). A cookie is sent
//! by the browser and not by the page's program: it counts only where no other token is shown, and only for pages that
//! `origins` names and those of the server itself. `/v1/send` never comes here: its commands go by a ticket.

use super::cors::Page;
use super::gate::Gate;
use crate::config::origin::PageTrust;
use crate::refusal::HttpRefusal;
use crate::request::{Carried, CarriedToken};
use axum::extract::Query;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use fanfare_hub::UserToken;
use http::Uri;

/// A subprotocol that holds a token begins so. The rest is the token in base64url, or a JWT as it is, whose characters
/// are those of a subprotocol too.
const SUBPROTOCOL: &str = "fanfare.token.";

/// Which tokens of requests count.
#[derive(Debug, Clone)]
pub(super) struct Carriers {
    /// The name of the cookie; empty for none.
    pub(super) cookie: String,
}

impl Gate {
    /// What a request carries. No token is looked for where the configuration has no keys: what a header means there is
    /// the program's business.
    pub(crate) fn token<'h, H>(&self, page: &Page, uri: &Uri, headers: impl Fn() -> H) -> Result<Carried, HttpRefusal>
    where
        H: Iterator<Item = (&'h str, &'h [u8])>,
    {
        let cookies_count = has_cookies(page, fetch_site(headers()));
        let carried = |token| Ok(Carried { token, cookies_count });
        let Some(carriers) = &self.carriers else { return carried(None) };
        let mut found: Option<(&'static str, String)> = None;
        let shown = bearer(headers())?.map(|token| ("the header `Authorization`", token));
        let offered = subprotocol(headers())?.map(|token| ("a subprotocol", token));
        let asked = parameter(uri)?.map(|token| ("the parameter `token`", token));
        for (place, token) in [shown, offered, asked].into_iter().flatten() {
            match &found {
                Some((other, earlier)) if *earlier != token => {
                    return Err(invalid(format!("{other} and {place} hold two different tokens: show one")));
                }
                Some(_) => {}
                None => found = Some((place, token)),
            }
        }
        if let Some((_, token)) = found {
            return carried(Some(CarriedToken { token: UserToken::from(token), is_cookie: false }));
        }
        if carriers.cookie.is_empty() || !cookies_count {
            return carried(None);
        }
        let token = cookie(headers(), &carriers.cookie);
        carried(token.map(|token| CarriedToken { token: UserToken::from(token), is_cookie: true }))
    }
}

fn invalid(words: impl Into<Box<str>>) -> HttpRefusal {
    HttpRefusal::because(400, words).challenged("invalid_request")
}

fn named<'h>(headers: impl Iterator<Item = (&'h str, &'h [u8])>, name: &str) -> impl Iterator<Item = &'h str> {
    let values = headers.filter(move |(other, _)| other.eq_ignore_ascii_case(name)).map(|(_, value)| value);
    values.filter_map(|value| std::str::from_utf8(value).ok())
}

/// Another scheme than `Bearer` is a proxy's business.
fn bearer<'h>(headers: impl Iterator<Item = (&'h str, &'h [u8])>) -> Result<Option<String>, HttpRefusal> {
    let mut tokens = named(headers, "authorization").filter_map(|value| {
        let (scheme, token) = value.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then(|| token.trim().to_owned())
    });
    let first = tokens.next();
    match (first, tokens.next()) {
        (Some(_), Some(_)) => Err(invalid("the header `Authorization` is there twice: show one token")),
        (first, _) => Ok(first.filter(|token| !token.is_empty())),
    }
}

fn subprotocol<'h>(headers: impl Iterator<Item = (&'h str, &'h [u8])>) -> Result<Option<String>, HttpRefusal> {
    let names = named(headers, "sec-websocket-protocol").flat_map(|value| value.split(',')).map(str::trim);
    let mut tokens = names.filter_map(|name| name.strip_prefix(SUBPROTOCOL));
    match (tokens.next(), tokens.next()) {
        (None, _) => Ok(None),
        (Some(_), Some(_)) => Err(invalid(format!("two subprotocols begin with {SUBPROTOCOL}: show one token"))),
        (Some(token), None) if token.contains('.') => Ok(Some(token.to_owned())),
        (Some(encoded), None) => {
            let decoded = URL_SAFE_NO_PAD.decode(encoded).ok().and_then(|bytes| String::from_utf8(bytes).ok());
            let text = decoded.filter(|token| !token.is_empty());
            let wrong = || invalid(format!("what follows {SUBPROTOCOL} is neither a JWT nor a token in base64url"));
            text.map(Some).ok_or_else(wrong)
        }
    }
}

fn parameter(uri: &Uri) -> Result<Option<String>, HttpRefusal> {
    // Almost no request has one.
    if !uri.query().is_some_and(|query| query.contains("token")) {
        return Ok(None);
    }
    let Ok(Query(all)) = Query::<Vec<(String, String)>>::try_from_uri(uri) else { return Ok(None) };
    let mut tokens = all.into_iter().filter(|(name, _)| name == "token").map(|(_, token)| token);
    match (tokens.next(), tokens.next()) {
        (Some(_), Some(_)) => Err(invalid("the parameter `token` is there twice")),
        (first, _) => Ok(first.filter(|token| !token.is_empty())),
    }
}

fn fetch_site<'h>(headers: impl Iterator<Item = (&'h str, &'h [u8])>) -> Option<&'h str> {
    named(headers, "sec-fetch-site").next()
}

/// Whether the cookies of a request mean what the user wants. A browser tells where a request comes from by `Origin`,
/// and leaves that out for some requests of the server's own pages; `Sec-Fetch-Site` is there then.
fn has_cookies(page: &Page, site: Option<&str>) -> bool {
    match page {
        Page::Reader { trust: PageTrust::Named, .. } => true,
        // A page of the same host without TLS may be anybody's.
        Page::Reader { trust: PageTrust::SameHost, .. } => site.is_none_or(|site| site == "same-origin"),
        Page::None => site == Some("same-origin"),
        Page::Reader { .. } | Page::Stranger => false,
    }
}

/// RFC 6265 §5.4.
fn cookie<'h>(headers: impl Iterator<Item = (&'h str, &'h [u8])>, wanted: &str) -> Option<String> {
    let mut pairs = named(headers, "cookie").flat_map(|line| line.split(';')).filter_map(|pair| pair.split_once('='));
    let (_, value) = pairs.find(|(name, value)| name.trim() == wanted && !value.trim().is_empty())?;
    let value = value.trim();
    let bare = value.strip_prefix('"').and_then(|value| value.strip_suffix('"')).unwrap_or(value);
    Some(bare.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::config::auth::AuthConfig;
    use http::HeaderValue;

    fn token_of(page: &Page, target: &str, headers: &[(&str, &str)]) -> Result<Option<(String, bool)>, String> {
        let auth = AuthConfig { anonymous: false, cookie: "session".to_owned(), ..AuthConfig::default() };
        let config = Config { auth, ..Config::default() };
        let gate = Gate::of(&config);
        let headers: Vec<(&str, &[u8])> = headers.iter().map(|(name, value)| (*name, value.as_bytes())).collect();
        let found = gate.token(page, &target.parse().expect("a target"), || headers.iter().copied());
        found
            .map(|carried| carried.token.map(|CarriedToken { token, is_cookie }| (token.to_string(), is_cookie)))
            .map_err(|refused| format!("{} {}", refused.status(), refused.reason()))
    }

    #[test]
    fn a_token_is_found_wherever_it_may_be_and_two_different_ones_are_refused() {
        type Row<'a> = (&'a str, &'a [(&'a str, &'a str)], Result<Option<&'a str>, &'a str>);
        let rows: &[Row<'_>] = &[
            ("/v1/ws", &[], Ok(None)),
            ("/v1/ws", &[("Authorization", "Bearer a.b.c")], Ok(Some("a.b.c"))),
            ("/v1/ws", &[("authorization", "bearer  x ")], Ok(Some("x"))),
            ("/v1/ws", &[("authorization", "Basic x")], Ok(None)),
            ("/v1/ws", &[("authorization", "Bearer ")], Ok(None)),
            ("/v1/ws", &[("authorization", "Bearer a"), ("authorization", "Bearer a")], Err("is there twice")),
            ("/v1/ws", &[("sec-websocket-protocol", "fanfare.v1, fanfare.token.a.b.c")], Ok(Some("a.b.c"))),
            ("/v1/ws", &[("sec-websocket-protocol", "fanfare.v1,fanfare.token.c2VjcmV0")], Ok(Some("secret"))),
            ("/v1/ws", &[("sec-websocket-protocol", "fanfare.v1, fanfare.token.")], Err("neither a JWT nor")),
            (
                "/v1/ws",
                &[("sec-websocket-protocol", "fanfare.token.a.b"), ("sec-websocket-protocol", "fanfare.token.c.d")],
                Err("two subprotocols"),
            ),
            ("/events?token=a%2Eb+c", &[], Ok(Some("a.b c"))),
            ("/events?tokens=a&token=", &[], Ok(None)),
            ("/events?token=a&token=b", &[], Err("`token` is there twice")),
            ("/events?token=a", &[("authorization", "Bearer a")], Ok(Some("a"))),
            (
                "/events?token=a",
                &[("authorization", "Bearer b")],
                Err("`Authorization` and the parameter `token` hold two different tokens"),
            ),
            (
                "/v1/ws?token=a",
                &[("sec-websocket-protocol", "fanfare.token.Yg")],
                Err("a subprotocol and the parameter `token`"),
            ),
        ];
        for (target, headers, expected) in rows {
            let found = token_of(&Page::None, target, headers);
            match (found, expected) {
                (Ok(found), Ok(expected)) => {
                    let expected = expected.map(|token| (token.to_owned(), false));
                    assert_eq!(found, expected, "{target} {headers:?}");
                }
                (Err(error), Err(words)) => {
                    assert!(error.starts_with("400 ") && error.contains(words), "{target} {headers:?}: {error}");
                }
                (found, _) => panic!("{target} {headers:?}: {found:?}"),
            }
        }
    }

    #[test]
    fn a_cookie_counts_for_pages_that_may_send_it_and_after_every_other_token() {
        let reader = |trust| Page::Reader { origin: HeaderValue::from_static("https://app.example"), trust };
        let cookie = ("cookie", "a=b; session=\"c.d.e\"");
        let rows = [
            (reader(PageTrust::Named), None, true),
            (reader(PageTrust::Named), Some("cross-site"), true),
            (reader(PageTrust::SameHost), None, true),
            (reader(PageTrust::SameHost), Some("same-origin"), true),
            (reader(PageTrust::SameHost), Some("cross-site"), false),
            (reader(PageTrust::Null), None, false),
            (reader(PageTrust::Any), None, false),
            (Page::Stranger, None, false),
            (Page::None, None, false),
            (Page::None, Some("same-origin"), true),
            (Page::None, Some("none"), false),
            (Page::None, Some("cross-site"), false),
        ];
        for (page, site, counts) in &rows {
            let mut headers = vec![cookie];
            headers.extend(site.map(|site| ("sec-fetch-site", site)));
            let expected = counts.then(|| ("c.d.e".to_owned(), true));
            assert_eq!(token_of(page, "/v1/ws", &headers), Ok(expected), "{page:?} {site:?}");
        }
        let both = [cookie, ("authorization", "Bearer other")];
        let found = token_of(&reader(PageTrust::Named), "/v1/ws", &both);
        assert_eq!(found, Ok(Some(("other".to_owned(), false))));
        let gate = Gate::of(&Config::default());
        let headers: [(&str, &[u8]); 1] = [("authorization", b"Bearer a")];
        let uri = "/v1/ws?token=b".parse().expect("a target");
        let found = gate.token(&Page::None, &uri, || headers.iter().copied()).expect("nobody looks");
        assert!(found.token.is_none(), "nobody could check it");
    }
}
