//! Every HTTP request is counted, and logged with its id ([`RequestId`]) when it has been answered.

use super::Watch;
use crate::limits::HttpLimit;
use crate::logs;
use crate::request::{REQUEST_ID, RequestId};
use axum::body::Body;
use axum::extract::ConnectInfo;
use http::{Request, Response};
use std::net::SocketAddr;
use std::time::Instant;
use tracing::Instrument as _;

/// Characters of a path that are logged.
const PATH_CHARS_MAX: usize = 128;

/// Wraps every request: gives it an id, counts it, and logs it when it has been answered. The query is never logged,
/// because it may hold a token.
pub(crate) async fn identified<B>(
    watch: &Watch,
    mut request: Request<B>,
    serve: impl AsyncFnOnce(Request<B>) -> Response<Body>,
) -> Response<Body> {
    let id = RequestId::of(request.headers());
    let begin = Instant::now();
    let method = request.method().clone();
    let peer = request.extensions().get::<ConnectInfo<SocketAddr>>().map(|ConnectInfo(address)| *address);
    let path: String = request.uri().path().chars().take(PATH_CHARS_MAX).collect();
    request.headers_mut().insert(REQUEST_ID, id.value());
    request.extensions_mut().insert(id.clone());
    let span = tracing::info_span!("request", request_id = id.as_str());
    let mut response = serve(request).instrument(span).await;
    let (status, took) = (response.status().as_u16(), begin.elapsed());
    watch.requests.answered(status, response.extensions_mut().remove::<HttpLimit>());
    watch.requests.seconds.observe(took);
    response.headers_mut().insert(REQUEST_ID, id.value());
    logs::request(&id, peer, method.as_str(), &path, status, took);
    response
}
