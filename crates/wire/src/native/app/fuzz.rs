//! The body of the fuzz target `app_decode`, and of the tests that feed it on every run.
//!
//! No body panics. A refusal is one line of JSON. An accepted body keeps the limits, and its payload is a piece of the
//! body, byte for byte; that of an `emit` is a list of such pieces behind the name of its event.

use super::{ApiCommand, ApiRequest, BATCH_COMMANDS_MAX, Caller, decode as decode_body, encode_results};
use crate::native::Limits;
use crate::socketio::CHANNEL_PREFIX;
use fanfare_hub::{AppAnswer, AppCommand, Data};
use serde_json::value::RawValue;

/// One round: the first byte says which command, the second how long the idempotency key beside the body is; the rest
/// is the body.
pub fn decode(data: &[u8]) {
    let Some((&[kind, key], body)) = data.split_first_chunk() else { return };
    let kind = ApiCommand::ALL[usize::from(kind) % ApiCommand::ALL.len()];
    let key = "k".repeat(usize::from(key) % 70);
    let caller = Caller { name: &"fuzz".into(), idempotency_key: Some(key.as_str()).filter(|key| !key.is_empty()) };
    let limits = Limits { message_bytes_max: 1 << 12, subscriptions_max: 8, ..Limits::default() };
    let results = match decode_body(kind, body, &caller, &limits) {
        Ok(ApiRequest::One(command)) => {
            assert!(!kind.is_many());
            vec![Ok(command)]
        }
        Ok(ApiRequest::Many(results)) => {
            assert!(kind.is_many() && (1..=BATCH_COMMANDS_MAX).contains(&results.len()));
            results
        }
        Err(error) => vec![Err(error)],
    };
    let mut answers = Vec::new();
    for result in results {
        match result {
            Ok(command) => check(&command, body, &limits),
            Err(error) => answers.push(AppAnswer::Error(error)),
        }
    }
    let mut line = Vec::new();
    encode_results(&mut line, &answers);
    assert!(!line.contains(&b'\n') && !line.contains(&b'\r'), "an answer is one line");
    serde_json::from_slice::<&RawValue>(&line).expect("an answer is JSON");
}

fn check(command: &AppCommand, body: &[u8], limits: &Limits) {
    let json = match command {
        AppCommand::Publish { publish, .. } => match &publish.data {
            Data::Json(json) => json,
            Data::Binary(bytes) => return assert!(bytes.len() <= limits.message_bytes_max),
        },
        AppCommand::Signal(signal) => &signal.data,
        _ => return,
    };
    assert!(json.len() <= limits.message_bytes_max);
    serde_json::from_slice::<&RawValue>(json).expect("a payload is JSON");
    // Line breaks between tokens have become spaces.
    let spaced: Vec<u8> = body.iter().map(|&byte| if matches!(byte, b'\r' | b'\n') { b' ' } else { byte }).collect();
    let is_kept = |json: &[u8]| memchr::memmem::find(&spaced, json).is_some();
    if matches!(command, AppCommand::Publish { publish, .. } if publish.channel.starts_with(CHANNEL_PREFIX)) {
        let event: Vec<&RawValue> = serde_json::from_slice(json).expect("an event is a list");
        let args = event.get(1..).expect("an event has a name");
        return assert!(args.iter().all(|arg| is_kept(arg.get().as_bytes())), "arguments are kept as they came");
    }
    // A signal may come without one.
    assert!(&json[..] == b"null" || is_kept(json), "a payload is kept as it came");
}
