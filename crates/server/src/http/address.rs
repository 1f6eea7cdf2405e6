//! `/v1/address`: the address by which the server knows the client that asks, and nobody else's.
//!
//! In: a request, with the client's end as [`forwarded`](super::forwarded) has found it. Out: JSON with `address` (null
//! where there is none, as of a Unix socket) and `trusted_proxy`: whether that address is one of `trusted_proxies`, so
//! that it is a proxy's and not a client's, or a client's on a trusted machine. `fanfare doctor` asks with and without
//! headers of its own.

use super::routes::Routes;
use crate::config::proxies::TrustedProxy;
use crate::harden;
use axum::body::Body;
use axum::extract::ConnectInfo;
use http::{HeaderMap, HeaderValue, Method, Request, Response, header};
use serde_json::json;
use std::net::{IpAddr, SocketAddr};

const PATH: &str = "/v1/address";
const ALLOWED: &str = "GET, HEAD, OPTIONS";

impl Routes {
    /// True for this address, where the native protocol is served.
    pub(crate) fn is_address(&self, path: &str) -> bool {
        self.streams.is_some() && path == PATH
    }

    /// The answer.
    pub(crate) fn about_address(&self, request: &Request<impl Sized>) -> Response<Body> {
        let of_json = |mut headers: HeaderMap| {
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
            headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
            harden::shown(&mut headers);
            headers
        };
        if request.method() != Method::GET {
            return self.about(ALLOWED, request, |refused| refused, of_json);
        }
        let address = request.extensions().get().map(|ConnectInfo::<SocketAddr>(address)| address.ip().to_canonical());
        let body = answer(address, self.gate.proxies());
        let mut response = Response::new(Body::from(body));
        *response.headers_mut() = of_json(self.gate.reader(request.headers()).headers());
        response
    }
}

fn answer(address: Option<IpAddr>, proxies: &[TrustedProxy]) -> String {
    let trusted = address.is_some_and(|address| proxies.iter().any(|proxy| proxy.is_at(address)));
    json!({"address": address, "trusted_proxy": trusted}).to_string()
}
