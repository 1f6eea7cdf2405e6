//! The refusals that only the API has.

use crate::refusal::HttpRefusal;
use fanfare_hub::{Error, ErrorCode};
use fanfare_wire::native::app::ApiCommand;
use http::header::{ALLOW, WWW_AUTHENTICATE};
use http::{HeaderValue, Method, StatusCode};

pub(super) fn no_command(path: &str) -> HttpRefusal {
    let path = &path[..path.floor_char_boundary(80)];
    let words: Vec<&str> = ApiCommand::ALL.iter().map(|kind| kind.word()).collect();
    let message = format!("there is nothing at {path:?}; the commands are POST /api/v1/ with {}", words.join(", "));
    HttpRefusal::of(StatusCode::NOT_FOUND, ErrorCode::UnknownCommand, message)
}

pub(super) fn no_keys() -> HttpRefusal {
    let message = "this server has no API keys, so it has no API: add a key to the section [api_keys] of its configuration and \
                   reload it by SIGHUP, or start it with the variable FANFARE__API_KEYS__NAME (a program that embeds Fanfare: \
                   by `Builder::api_key`)";
    HttpRefusal::of(StatusCode::NOT_FOUND, ErrorCode::UnknownCommand, message)
}

pub(super) fn method(found: &Method, path: &str, allowed: &'static str) -> HttpRefusal {
    let found = found.as_str();
    let message = format!("{path} takes {allowed}, not {}", &found[..found.len().min(20)]);
    let refused = HttpRefusal::of(StatusCode::METHOD_NOT_ALLOWED, ErrorCode::BadRequest, message);
    refused.with(ALLOW, HeaderValue::from_static(allowed))
}

/// RFC 6750 §3: without a key no error is named, with a wrong one it is.
pub(super) fn unauthorized(error: Option<&'static str>) -> HttpRefusal {
    let (message, challenge) = match error {
        None => ("send one API key: `Authorization: Bearer KEY`", "Bearer realm=\"fanfare\""),
        Some(_) => ("the API key is unknown", "Bearer realm=\"fanfare\", error=\"invalid_token\""),
    };
    let refused = HttpRefusal::from(Error::new(ErrorCode::Unauthorized, message));
    refused.with(WWW_AUTHENTICATE, HeaderValue::from_static(challenge))
}
