//! Checks payloads that the embedding program gives as JSON text.
//!
//! In: any bytes. Out: one valid JSON value on one line, nested at most [`json::DEPTH_MAX`] deep. A payload is inserted
//! into messages as it is, so an invalid one would break the JSON around it, or change its meaning: every receiver
//! would get an unreadable or different message. The codec checks payloads of clients.

use bytes::Bytes;
use fanfare_hub::{AppCommand, Data, Error, ErrorCode, HookAnswer, MembersOp};
use fanfare_wire::json;
use std::borrow::Cow;
use std::fmt::Display;

/// The reason why bytes are no payload.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NotPayload {
    #[error("it is no JSON: {0}")]
    NotJson(#[from] serde_json::Error),
    #[error("{0}")]
    TooDeep(#[from] json::TooDeep),
}

/// A payload as it can be sent.
///
/// # Errors
/// [`NotPayload`] says what is wrong and where.
pub(crate) fn checked(bytes: &Bytes) -> Result<Bytes, NotPayload> {
    let bytes = &bytes.slice(bytes.len() - json::unmarked_bytes(bytes).len()..);
    serde_json::from_slice::<&serde_json::value::RawValue>(bytes)?;
    Ok(match json::payload(bytes)? {
        Cow::Borrowed(_) => bytes.clone(),
        Cow::Owned(on_one_line) => on_one_line.into(),
    })
}

/// Checks the payload of the application's command.
///
/// # Errors
/// `bad_request` names the channel and what is wrong.
pub(crate) fn of_command(command: &mut AppCommand) -> Result<(), Error> {
    let (payload, channel) = match command {
        AppCommand::Publish { publish, .. } => match &mut publish.data {
            Data::Json(json) => (json, &publish.channel),
            Data::Binary(_) => return Ok(()),
        },
        AppCommand::Signal(signal) => (&mut signal.data, &signal.channel),
        AppCommand::Members(command) => match &mut command.op {
            MembersOp::Ask { data: Data::Json(json), .. }
            | MembersOp::Answer { data: Data::Json(json), .. }
            | MembersOp::Volatile { data: Data::Json(json) } => (json, &command.channel),
            _ => return Ok(()),
        },
        _ => return Ok(()),
    };
    *payload = checked(payload).map_err(|problem| refused(&problem).on(channel))?;
    Ok(())
}

/// The error for a caller with an invalid payload.
pub(crate) fn refused(problem: &dyn Display) -> Error {
    Error::new(ErrorCode::BadRequest, format!("the payload cannot be written as JSON: {problem}"))
}

/// Checks a handler's answer. A payload that the handler returns unchanged was checked already.
///
/// # Errors
/// Names the part of the answer that is no payload, and why.
pub(crate) fn of_answer(asked: Option<&Data>, answer: &mut HookAnswer) -> Result<(), (&'static str, NotPayload)> {
    let (part, payload) = match answer {
        HookAnswer::Publish(publish) => match &mut publish.data {
            Data::Json(json) if asked.is_none_or(|asked| !is_same(asked.bytes(), json)) => ("data", json),
            Data::Json(_) | Data::Binary(_) => return Ok(()),
        },
        HookAnswer::Result(result) => ("result", result),
        HookAnswer::Identity(identified) => match &mut identified.info {
            Some(info) => ("info", info),
            None => return Ok(()),
        },
        HookAnswer::Allowed | HookAnswer::Refused(_) => return Ok(()),
    };
    *payload = checked(payload).map_err(|problem| (part, problem))?;
    Ok(())
}

/// The very same bytes: no need to read them again.
fn is_same(one: &Bytes, other: &Bytes) -> bool {
    one.as_ptr() == other.as_ptr() && one.len() == other.len()
}

#[cfg(test)]
mod tests {
    use super::*;
    use fanfare_hub::{ChannelName, Identified, Publish};

    #[test]
    fn invalid_json_is_reported_with_its_place_and_valid_json_is_put_on_one_line() {
        let rows: &[(&str, Result<&str, &str>)] = &[
            ("{\"a\":1}", Ok("{\"a\":1}")),
            ("{\n\"a\":\r\n1}", Ok("{ \"a\":  1}")),
            ("{\"text\": \"he said \"hi\"\"}", Err("it is no JSON: expected `,` or `}` at line 1 column 20")),
            ("1},{\"type\":\"disconnect\"", Err("it is no JSON: trailing characters at line 1 column 2")),
            ("", Err("it is no JSON: EOF while parsing a value at line 1 column 0")),
            (
                "\"\u{1}\"",
                Err(
                    "it is no JSON: control character (\\u0000-\\u001F) found while parsing a string at line 1 column 1",
                ),
            ),
        ];
        for (given, expected) in rows {
            let got = checked(&Bytes::from_static(given.as_bytes())).map_err(|problem| problem.to_string());
            let expected = expected.map(|json| Bytes::from_static(json.as_bytes())).map_err(str::to_owned);
            assert_eq!(got, expected, "{given:?}");
        }
        let deep = Bytes::from("[".repeat(65) + &"]".repeat(65));
        let message = checked(&deep).expect_err("too deep").to_string();
        assert_eq!(message, "nested 65 levels deep exceeds the limit of 64");
        assert!(checked(&Bytes::from_static(b"\"\xff\"")).is_err(), "not even text");
    }

    #[test]
    fn every_part_of_an_answer_that_is_spliced_is_judged() {
        let bad = || Bytes::from_static(b"{\"a\": }");
        let publish = |data| {
            let channel = ChannelName::new("a").expect("a name");
            HookAnswer::Publish(Box::new(Publish { channel, data, event: None, idempotency_key: None, echo: true }))
        };
        let info = |info| HookAnswer::Identity(Identified { info: Some(info), ..Identified::default() });
        for (answer, part) in
            [(publish(Data::Json(bad())), "data"), (HookAnswer::Result(bad()), "result"), (info(bad()), "info")]
        {
            let mut answer = answer;
            assert_eq!(of_answer(None, &mut answer).expect_err(part).0, part);
        }
        assert!(of_answer(None, &mut publish(Data::Binary(bad()))).is_ok(), "any bytes are binary");
        let asked = Data::Json(bad());
        assert!(of_answer(Some(&asked), &mut publish(asked.clone())).is_ok(), "untouched: the codec has judged it");
    }
}
