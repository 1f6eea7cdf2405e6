//! The body of the fuzz target `request_head`: from bytes to a judged request, by the steps that the server takes.

use super::gate::{Gate, RequestLine};
use super::streams;
use crate::auth::{AuthConfig, TokenKey};
use crate::config::Config;
use crate::config::hosts::Via;
use crate::refusal::HttpRefusal;
use crate::request::Peer;
use crate::transport::head::{self, HeadEnd};
use crate::transport::socket::Ends;
use fanfare_wire::websocket::HeadProgress;
use http::{Uri, Version};
use std::sync::LazyLock;

const BYTES_MAX: usize = 16 * 1024;
const HEADERS_MAX: usize = 64;

/// With everything on that reads a part of a head.
static GATE: LazyLock<Gate> = LazyLock::new(|| {
    let key = TokenKey::new("main", None, "a-secret-that-no-fuzzer-knows-of-32-bytes").expect("a key");
    let auth = AuthConfig { keys: vec![key], cookie: "session".to_owned(), ..AuthConfig::default() };
    let trusted_proxies = ["10.0.0.0/8"].map(|proxy| proxy.parse().expect("a network")).into();
    Gate::of(&Config { auth, trusted_proxies, ..Config::default() })
});

/// Whatever comes: no step panics, both parsers see the head end at one place, the words of a refusal are one line, and
/// nobody but a proxy changes the client's address.
pub(crate) fn head(data: &[u8]) {
    if data.len() > BYTES_MAX {
        return;
    }
    // Byte by byte it is due for a look at the latest when it is whole.
    let whole = head::judge_lines(data);
    if let Ok(Some(HeadEnd { at, .. })) = whole {
        let mut progress = HeadProgress::default();
        assert!((1..=at).any(|len| progress.is_due(&data[..len])), "it is looked at");
        assert!(
            matches!(head::judge_lines(&data[..at]), Ok(Some(end)) if end.at == at),
            "what follows changes nothing"
        );
    }
    let mut room = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut request = httparse::Request::new(&mut room);
    let parsed = request.parse(data);
    if let Some(refused) = head::refuse_parsed(parsed, data.len(), BYTES_MAX) {
        return is_fit(&refused);
    }
    let end = match whole {
        Err(refused) => return is_fit(&refused),
        Ok(end) => end.map(|end| end.at),
    };
    let Ok(httparse::Status::Complete(len)) = parsed else { return };
    assert_eq!(end, Some(len), "both see one head");
    if let Some(refused) = head::refuse_whole(&request) {
        is_fit(&refused);
    }
    let (method, http_minor) = (request.method.unwrap_or(""), request.version.unwrap_or(0));
    let headers: Vec<(&str, &[u8])> = request.headers.iter().map(|header| (header.name, header.value)).collect();
    let Ok(uri) = request.path.unwrap_or("/").parse::<Uri>() else { return };
    let headers = || headers.iter().copied();

    let at = |peer: &str| Ends { peer: Peer::Tcp(peer.parse().expect("an address")), local: None, is_tls: false };
    let (stranger, proxy) = (at("192.0.2.1:9"), at("10.0.0.1:9"));
    assert_eq!(GATE.ends_of_client(stranger, headers()).peer, stranger.peer, "a stranger claims no address");
    let _ = GATE.ends_of_client(proxy, headers());

    let version = if http_minor == 0 { Version::HTTP_10 } else { Version::HTTP_11 };
    for version in [version, Version::HTTP_2] {
        let asked = RequestLine { method, version, uri: &uri };
        match GATE.admit_with_page(Via::Loopback, asked, headers) {
            Ok(page) => match GATE.token(&page, &uri, headers) {
                Ok(carried) => assert!(carried.token.is_none_or(|it| !it.is_cookie || carried.cookies_count)),
                Err(refused) => is_fit(&refused),
            },
            Err(refused) => is_fit(&refused),
        }
    }
    if let Err(refused) = streams::fuzz(&uri, headers()) {
        is_fit(&refused);
    }
}

/// A refusal with a status of one, whose words are safe to log.
fn is_fit(refused: &HttpRefusal) {
    assert!((400..600).contains(&refused.status()), "{}", refused.status());
    assert!(!refused.reason().bytes().any(|byte| byte.is_ascii_control()), "{:?}", refused.reason());
}
