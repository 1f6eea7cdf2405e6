//! The body of a question, as the application gets it: one JSON object.
//!
//! Payloads are put in as they came. The body is bounded by what a client may send: `limits.message_bytes_max` for a
//! command, `limits.head_bytes_max` for what is passed on of its request. The query of the request's address is left
//! out, because it may hold a token.

use crate::config::hooks::HooksConfig;
use crate::embed::{Call, Subject};
use crate::request::RequestInfo;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use fanfare_hub::{Data, SubOptions};
use serde::Serialize;
use serde_json::value::RawValue;
use std::collections::BTreeMap;
use std::net::IpAddr;

/// What is passed on of the client's request.
#[derive(Debug, Clone, Default)]
pub(super) struct Forward {
    /// In lower case.
    pub(super) headers: Vec<String>,
    pub(super) cookies: Vec<String>,
}

impl Forward {
    pub(super) fn of(config: &HooksConfig) -> Self {
        Forward { headers: config.forward_headers.clone(), cookies: config.forward_cookies.clone() }
    }
}

#[derive(Serialize)]
struct Body<'c> {
    r#type: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    client: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<&'c str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    info: Option<&'c RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    token: Option<&'c str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    channel: Option<&'c str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    options: Option<Options>,
    #[serde(skip_serializing_if = "Option::is_none")]
    method: Option<&'c str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    event: Option<&'c str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<&'c RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    data64: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    idempotency_key: Option<&'c str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    request: Option<Request<'c>>,
}

#[derive(Serialize)]
struct Options {
    presence: bool,
    signals: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    recent: Option<u32>,
}

#[derive(Serialize)]
struct Request<'c> {
    path: &'c str,
    scheme: &'c str,
    #[serde(skip_serializing_if = "Option::is_none")]
    address: Option<IpAddr>,
    headers: BTreeMap<&'c str, String>,
    cookies: BTreeMap<&'c str, &'c str>,
}

/// The body for this call. `None`: it is of a kind that no hook is asked about, or it holds JSON that is none, which no
/// codec lets through.
pub(super) fn body(call: &Call, forward: &Forward) -> Option<Vec<u8>> {
    let caller = &call.caller;
    let info = match &caller.info {
        Some(info) => Some(serde_json::from_slice(info).ok()?),
        None => None,
    };
    let mut body = Body {
        r#type: "",
        client: caller.client.map(|client| client.to_string()),
        user: caller.user.as_ref().map(|user| &*user.0),
        info,
        token: None,
        channel: None,
        options: None,
        method: None,
        event: None,
        data: None,
        data64: None,
        idempotency_key: None,
        request: None,
    };
    match &call.subject {
        Subject::Connect { token } => {
            body.r#type = if caller.client.is_some() { "refresh" } else { "connect" };
            body.token = token.as_ref().map(|token| token.as_str());
            body.request = call.request().map(|request| passed_on(request, forward));
        }
        Subject::Subscribe(options) => {
            let SubOptions { channel, presence, signals, recent, .. } = &**options;
            body.r#type = "subscribe";
            body.channel = Some(channel.as_str());
            body.options = Some(Options { presence: *presence, signals: *signals, recent: *recent });
        }
        Subject::Publish(publish) => {
            body.r#type = "publish";
            body.channel = Some(publish.channel.as_str());
            body.event = publish.event.as_deref();
            body.idempotency_key = publish.idempotency_key.as_deref();
            match &publish.data {
                Data::Json(json) => body.data = Some(serde_json::from_slice(json).ok()?),
                Data::Binary(bytes) => body.data64 = Some(STANDARD.encode(bytes)),
            }
        }
        Subject::Rpc { method, data } => {
            body.r#type = "rpc";
            body.method = Some(method);
            body.data = Some(serde_json::from_slice(data).ok()?);
        }
        _ => return None,
    }
    serde_json::to_vec(&body).ok()
}

fn passed_on<'c>(request: &'c RequestInfo, forward: &'c Forward) -> Request<'c> {
    let value = |name: &'c String| {
        let lines = request.headers.get_all(name.as_str()).iter();
        let lines: Vec<_> = lines.map(|line| String::from_utf8_lossy(line.as_bytes())).collect();
        (!lines.is_empty()).then(|| (name.as_str(), lines.join(", ")))
    };
    // Those of a stranger's page are its visitor's, and would identify the page as the visitor.
    let cookies = forward.cookies.iter().filter(|_| request.cookies_count());
    Request {
        path: request.uri.path(),
        scheme: request.scheme.as_str(),
        address: request.peer.address().map(|address| address.ip()),
        headers: forward.headers.iter().filter_map(value).collect(),
        cookies: cookies.filter_map(|name| Some((name.as_str(), request.cookie(name)?))).collect(),
    }
}
