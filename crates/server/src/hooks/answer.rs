//! The answer of the application, read strictly: what is not understood is no permission.
//!
//! In: the body of a 200. Out: the answer for the hub, or [`AnswerError`] with what is wrong and where. An answer is
//! `{"result": {…}}` or `{"error": {…}}`. A field that does not belong there is an error, so that a misspelt one never
//! passes for its default.

use crate::auth::{TokenError, claims};
use crate::embed::Subject;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use fanfare_hub::{Data, ERRORS, Error, ErrorCode, HookAnswer, Identified, Limits};
use fanfare_wire::json;
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

/// The longest message of an error, in bytes.
const MESSAGE_BYTES_MAX: usize = 1024;

/// Why an answer is none.
#[derive(Debug, thiserror::Error)]
pub(super) enum AnswerError {
    #[error("the answer is not what docs/hooks.md says: {0}")]
    Form(#[from] serde_json::Error),
    #[error("the answer has both a `result` and an `error`, or none of them")]
    NotOne,
    #[error("the answer's `error.code` {0:?} is not an error code of docs/protocol.md")]
    Code(String),
    #[error("the answer's `{field}` is not valid: {problem}")]
    Field { field: String, problem: String },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written<'t> {
    #[serde(borrow)]
    result: Option<&'t RawValue>,
    error: Option<WrittenError>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenError {
    code: String,
    message: Option<String>,
    retry_after: Option<u64>,
}

/// A field that may be `null`, which differs from one that is missing.
fn present<'de: 't, 't, D: Deserializer<'de>>(deserializer: D) -> Result<Option<&'t RawValue>, D::Error> {
    <&RawValue>::deserialize(deserializer).map(Some)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenIdentity<'t> {
    #[serde(borrow)]
    user: Option<&'t RawValue>,
    #[serde(borrow)]
    info: Option<&'t RawValue>,
    #[serde(borrow)]
    channels: Option<&'t RawValue>,
    #[serde(borrow)]
    subscribe: Option<&'t RawValue>,
    #[serde(borrow)]
    claims: Option<&'t RawValue>,
    #[serde(borrow)]
    labels: Option<&'t RawValue>,
    expires_in: Option<u64>,
    expires_at: Option<u64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenPublish<'t> {
    #[serde(borrow, default, deserialize_with = "present")]
    data: Option<&'t RawValue>,
    data64: Option<String>,
    #[serde(borrow, default, deserialize_with = "present")]
    event: Option<&'t RawValue>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenCall<'t> {
    #[serde(borrow, default, deserialize_with = "present")]
    data: Option<&'t RawValue>,
}

/// Nothing is told.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Nothing {}

/// Reads the answer to a call of this subject.
pub(super) fn read(body: &[u8], subject: &Subject, now_ms: u64, limits: &Limits) -> Result<HookAnswer, AnswerError> {
    let Written { result, error } = serde_json::from_slice(body)?;
    match (result, error) {
        (Some(result), None) => allowed(result.get(), subject, now_ms, limits),
        (None, Some(error)) => refusal(error).map(HookAnswer::Refused),
        _ => Err(AnswerError::NotOne),
    }
}

fn refusal(written: WrittenError) -> Result<Error, AnswerError> {
    let WrittenError { code, message, retry_after } = written;
    let wrong = |field: &str, problem: String| Err(AnswerError::Field { field: field.to_owned(), problem });
    let Some(row) = ERRORS.iter().find(|row| row.word == code) else {
        return Err(AnswerError::Code(code.chars().take(64).collect()));
    };
    let message = message.unwrap_or_else(|| "the application refuses this".to_owned());
    if message.len() > MESSAGE_BYTES_MAX {
        let problem = format!("it has {} bytes, the limit is {MESSAGE_BYTES_MAX}", message.len());
        return wrong("error.message", problem);
    }
    if retry_after.is_some() && !row.retryable {
        return wrong("error.retry_after", format!("`{code}` is not retried"));
    }
    let mut error = Error::new(row.code, message);
    error.retry_after_ms = retry_after;
    Ok(error)
}

fn allowed(result: &str, subject: &Subject, now_ms: u64, limits: &Limits) -> Result<HookAnswer, AnswerError> {
    match subject {
        Subject::Connect { .. } => identity(result, now_ms, limits).map(HookAnswer::Identity),
        Subject::Subscribe(_) => {
            let Nothing {} = serde_json::from_str(result)?;
            Ok(HookAnswer::Allowed)
        }
        Subject::Publish(asked) => {
            let WrittenPublish { data, data64, event } = serde_json::from_str(result)?;
            let mut publish = asked.clone();
            let wrong = |field: &str, problem: &str| AnswerError::Field {
                field: format!("result.{field}"),
                problem: problem.to_owned(),
            };
            match (data, data64) {
                (Some(_), Some(_)) => return Err(wrong("data64", "`data` is there too")),
                (Some(data), None) => publish.data = Data::Json(Bytes::copy_from_slice(data.get().as_bytes())),
                (None, Some(text)) => {
                    let bytes = STANDARD.decode(text).map_err(|_| wrong("data64", "it is not base64"))?;
                    publish.data = Data::Binary(bytes.into());
                }
                (None, None) => {}
            }
            if let Some(event) = event {
                publish.event = serde_json::from_str::<Option<String>>(event.get())?.map(Into::into);
            }
            Ok(HookAnswer::Publish(publish))
        }
        Subject::Rpc { .. } => {
            let WrittenCall { data } = serde_json::from_str(result)?;
            let data = data.map_or(&b"null"[..], |data| data.get().as_bytes());
            Ok(HookAnswer::Result(Bytes::copy_from_slice(data)))
        }
        _ => Err(AnswerError::NotOne), // of no such call is asked
    }
}

/// The fields are those of a token's claims, and are judged as these are.
fn identity(result: &str, now_ms: u64, limits: &Limits) -> Result<Identified, AnswerError> {
    let WrittenIdentity { user, info, channels, subscribe, claims, labels, expires_in, expires_at } =
        serde_json::from_str(result)?;
    let of_claim = |error: TokenError| match error {
        TokenError::Claim { claim, problem } => {
            let field = if claim == "sub" { "user" } else { &claim };
            AnswerError::Field { field: format!("result.{field}"), problem }
        }
        other => AnswerError::Field { field: "result".to_owned(), problem: other.to_string() },
    };
    let expires_ms = match (expires_in, expires_at) {
        (Some(_), Some(_)) => {
            let problem = "`expires_in` is there too".to_owned();
            return Err(AnswerError::Field { field: "result.expires_at".to_owned(), problem });
        }
        (Some(ms), None) => Some(now_ms.saturating_add(ms)),
        (None, at) => at,
    };
    if let Some(claims) = claims {
        let wrong = |problem| Err(AnswerError::Field { field: "result.claims".to_owned(), problem });
        if !claims.get().starts_with('{') {
            return wrong("it is not an object".to_owned());
        }
        if let Err(error) = json::payload(claims.get().as_bytes()) {
            return wrong(error.to_string());
        }
    }
    Ok(Identified {
        user: user.map(claims::user).transpose().map_err(of_claim)?,
        info: info.map(claims::on_one_line),
        expires_ms,
        subscribe: subscribe
            .map_or(Ok(Vec::new()), |it| claims::channels(it, limits.subscriptions_max))
            .map_err(of_claim)?,
        grants: channels.map_or(Ok(Vec::new()), |it| claims::grants(it, limits.grants_max)).map_err(of_claim)?,
        claims: claims.map(claims::on_one_line),
        labels: labels.map(claims::labels).transpose().map_err(of_claim)?.unwrap_or_default(),
    })
}

/// The error of a hook that gives no answer.
pub(super) fn unavailable(retry_after_ms: Option<u64>, message: impl Into<Box<str>>) -> HookAnswer {
    let mut error = Error::new(ErrorCode::HookUnavailable, message);
    error.retry_after_ms = retry_after_ms;
    HookAnswer::Refused(error)
}

/// A part of the fuzz target `application_answers`: what is accepted keeps the bounds, and the words about the rest are
/// bounded too.
pub(crate) fn fuzz(data: &[u8]) {
    let limits = Limits { subscriptions_max: 4, grants_max: 4, ..Limits::default() };
    let channel = fanfare_hub::ChannelName::new("room").expect("a name");
    let publish = fanfare_hub::Publish {
        channel: channel.clone(),
        data: Data::Json(Bytes::from_static(b"1")),
        event: None,
        idempotency_key: None,
        echo: true,
    };
    let subjects = [
        Subject::Connect { token: None },
        Subject::Subscribe(Box::new(fanfare_hub::SubOptions::new(channel))),
        Subject::Publish(Box::new(publish)),
        Subject::Rpc { method: "call".into(), data: Bytes::from_static(b"null") },
    ];
    for subject in &subjects {
        match read(data, subject, 1, &limits) {
            Ok(HookAnswer::Identity(identified)) => {
                assert!(identified.subscribe.len() <= limits.subscriptions_max, "{identified:?}");
                assert!(identified.grants.len() <= limits.grants_max, "{identified:?}");
                let lines = [&identified.info, &identified.claims];
                assert!(lines.into_iter().flatten().all(|json| !json.contains(&b'\n') && !json.contains(&b'\r')));
            }
            Ok(HookAnswer::Refused(error)) => assert!(error.message.len() <= MESSAGE_BYTES_MAX, "{error:?}"),
            Ok(_) | Err(_) => {}
        }
    }
}
