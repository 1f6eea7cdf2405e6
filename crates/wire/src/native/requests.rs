//! The bodies of `/v1/poll` and `/v1/send`, and of the answers to them.
//!
//! Each body is one JSON object. A `connect` for a poll session is decoded as everywhere ([`super::decode`]); this
//! reads its `attempt`. The commands of a send are decoded as an array on a WebSocket is: a bad command spoils only
//! itself.

use super::decode::decode;
use super::object::{Fault, Field, Items, Object};
use super::write::ObjectWriter;
use super::{COMMANDS_MAX, Decoded, Limits, encode_reply};
use crate::json;
use fanfare_hub::{Command, Error, ErrorCode, NUMBER_MAX, Reply, Request};

/// The longest time that a poll may wait, in ms.
pub const WAIT_MS_MAX: u64 = 30_000;
/// Bytes of an `attempt`.
pub const ATTEMPT_BYTES_MAX: usize = 64;

/// The body of `/v1/poll`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PollBody {
    /// The first one: a `connect` command.
    Connect {
        /// The client has named this attempt: the same body again is the same attempt.
        is_named: bool,
    },
    /// Another one.
    Poll {
        /// The session, unchecked.
        ticket: Box<str>,
        /// The last answer that the client has.
        ack: u64,
        /// How long the answer may take, in ms.
        wait_ms: Option<u64>,
    },
}

/// The body of `/v1/send`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SendBody {
    /// The session, unchecked.
    pub ticket: Box<str>,
    /// The number of the send.
    pub n: Option<u64>,
    /// Its commands. A `connect` is one that no session takes.
    pub requests: Vec<Request>,
}

/// Reads the body of `/v1/poll`. A `connect` may be the one entry of an array, as everywhere.
///
/// # Errors
/// It is not JSON, or a field is missing, of another type or out of range.
pub fn decode_poll(text: &str) -> Result<PollBody, Error> {
    poll(text).map_err(Fault::into_error)
}

fn poll(text: &str) -> Result<PollBody, Fault> {
    let text = json::unmarked(text);
    let items = if text.trim_ascii_start().starts_with('[') { Items::read(text, 1).ok() } else { None };
    let (text, is_item) = match items.as_ref().map(|items| (&*items.list, items.count)) {
        Some(([one], 1)) => (*one, true),
        Some((_, count)) => {
            let problem = format!("an array holds one `connect` here, not {count} entries; commands go to /v1/send");
            return Err(Fault::whole(ErrorCode::BadRequest, problem));
        }
        None => (text, false),
    };
    let object = Object::read(text)?;
    object.no_duplicate()?;
    match object.text(Field::Type, usize::MAX)?.as_deref() {
        Some("connect") => {
            let attempt = object.text(Field::Attempt, ATTEMPT_BYTES_MAX)?;
            match attempt.as_deref() {
                Some("") => Err(Fault::bad(Field::Attempt, format!("must have 1 to {ATTEMPT_BYTES_MAX} bytes"))),
                attempt => Ok(PollBody::Connect { is_named: attempt.is_some() }),
            }
        }
        Some(_) => Err(Fault::bad(Field::Type, "must be \"connect\" here, or absent; other commands go to /v1/send")),
        None if is_item => {
            let problem = "an array holds one `connect` here; a poll with its `ticket` is one object";
            Err(Fault::whole(ErrorCode::BadRequest, problem))
        }
        None => Ok(PollBody::Poll {
            ticket: object.needed_text(Field::Ticket, usize::MAX)?.into(),
            ack: object.needed_number(Field::Ack, NUMBER_MAX)?,
            wait_ms: object.number(Field::Wait, 0, WAIT_MS_MAX)?,
        }),
    }
}

/// Reads the body of `/v1/send`.
///
/// # Errors
/// It is not JSON, a field is missing, of another type or out of range, or there are too many commands.
pub fn decode_send(text: &str, limits: &Limits) -> Result<SendBody, Error> {
    send(text, limits).map_err(Fault::into_error)
}

fn send(text: &str, limits: &Limits) -> Result<SendBody, Fault> {
    let object = Object::read(json::unmarked(text))?;
    object.no_duplicate()?;
    let ticket = object.needed_text(Field::Ticket, usize::MAX)?.into();
    let n = object.number(Field::N, 1, NUMBER_MAX)?;
    let commands = object.get(Field::Commands).ok_or_else(|| Fault::missing(Field::Commands))?;
    if !commands.starts_with(['[', '{']) {
        return Err(Fault::must_be(Field::Commands, "an array or one command", commands));
    }
    if commands.starts_with('[') {
        let count = Items::read(commands, 0).map_err(|error| Fault::bad(Field::Commands, error.to_string()))?.count;
        if count > COMMANDS_MAX {
            let problem = format!("of {count} entries exceeds the limit of {COMMANDS_MAX}");
            return Err(Fault::too_large(Field::Commands, problem));
        }
    }
    let mut decoded = Vec::new();
    decode(commands, limits, &mut decoded);
    let request = |decoded| match decoded {
        Decoded::Request(request) => request,
        Decoded::Connect { id, .. } => {
            let message = "a `connect` goes to /v1/poll, /v1/sse or /v1/stream, never to /v1/send";
            Request { id, command: Command::Invalid(Error::new(ErrorCode::AlreadyConnected, message)) }
        }
    };
    Ok(SendBody { ticket, n, requests: decoded.into_iter().map(request).collect() })
}

/// Appends the answer to a poll: its number, and messages that each end with a comma.
pub fn encode_poll_answer(out: &mut Vec<u8>, n: u64, messages: &[u8]) {
    let mut object = ObjectWriter::plain(out);
    let list = object.number("n", n).field("messages");
    list.push(b'[');
    list.extend_from_slice(messages.strip_suffix(b",").unwrap_or(messages));
    list.push(b']');
    object.end();
    out.push(b'\n'); // in a terminal the prompt then stands on a line of its own
}

/// Appends the answer to a send, with a new ticket where the old one is about to expire.
pub fn encode_send_answer(out: &mut Vec<u8>, n: Option<u64>, replies: &[Reply], ticket: Option<&str>) {
    let mut object = ObjectWriter::plain(out);
    object.number_if("n", n).list("replies", replies, |out, reply| encode_reply(out, reply, None));
    object.text_if("ticket", ticket).end();
    out.push(b'\n'); // as above
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_poll_is_a_connect_or_names_its_session_and_the_last_answer() {
        let rows = [
            (r#"{"type":"connect","id":1}"#, PollBody::Connect { is_named: false }),
            (r#"{"type":"connect","id":1,"attempt":"a"}"#, PollBody::Connect { is_named: true }),
            (r#" [{"type":"connect","id":1,"attempt":"a"}]"#, PollBody::Connect { is_named: true }),
            (r#"{"ticket":"t","ack":0}"#, PollBody::Poll { ticket: "t".into(), ack: 0, wait_ms: None }),
            (r#"{"ticket":"t","ack":7,"wait":0}"#, PollBody::Poll { ticket: "t".into(), ack: 7, wait_ms: Some(0) }),
        ];
        for (text, expected) in rows {
            assert_eq!(decode_poll(text), Ok(expected), "{text}");
        }
    }

    #[test]
    fn what_a_poll_may_not_hold_is_named() {
        let long = format!(r#"{{"type":"connect","id":1,"attempt":"{}"}}"#, "a".repeat(65));
        let rows = [
            ("", "is not JSON"),
            ("[]", "an array holds one `connect` here, not 0 entries"),
            (r#"[{"type":"connect","id":1},{"type":"pong"}]"#, "not 2 entries; commands go to /v1/send"),
            (r#"[{"ticket":"t","ack":1}]"#, "a poll with its `ticket` is one object"),
            ("[7]", "is not an object"),
            ("[", "is not"),
            ("[{}] x", "is not"),
            (r#"{"ack":1}"#, "`ticket` is missing"),
            (r#"{"ticket":"t"}"#, "`ack` is missing"),
            (r#"{"ticket":7,"ack":1}"#, "`ticket` must be"),
            (r#"{"ticket":"t","ack":-1}"#, "`ack` must be an integer from 0"),
            (r#"{"ticket":"t","ack":1,"ack":2}"#, "`ack` occurs twice"),
            (r#"{"ticket":"t","ack":1,"wait":-1}"#, "`wait` must be an integer from 0 to 30000, not -1"),
            (r#"{"ticket":"t","ack":1,"wait":30001}"#, "`wait` must be an integer from 0 to 30000, not 30001"),
            (r#"{"type":"publish"}"#, "`type` must be \"connect\""),
            (r#"{"type":"connect","attempt":""}"#, "`attempt` must have 1 to 64"),
            (&long, "`attempt` of 65 bytes exceeds the limit of 64"),
        ];
        for (text, expected) in rows {
            let error = decode_poll(text).expect_err(text);
            assert!(error.message.contains(expected), "{text}: {error}");
        }
    }

    #[test]
    fn a_send_has_one_command_or_several_and_a_bad_one_spoils_only_itself() {
        let send = |commands: &str| {
            decode_send(&format!(r#"{{"ticket":"t","n":3,"commands":{commands}}}"#), &Limits::default())
        };
        let count = |commands: &str| send(commands).map(|body| body.requests.len());
        assert_eq!(count(r#"{"type":"pong"}"#), Ok(1));
        assert_eq!(count("[]"), Ok(0));
        let body = send(r#"[{"type":"pong"},{"type":"nonsense","id":1},{"type":"connect","id":2},7]"#).expect("valid");
        assert_eq!((&*body.ticket, body.n, body.requests.len()), ("t", Some(3), 4));
        assert_eq!(body.requests[0].command, Command::Pong);
        assert!(body.requests[1..].iter().all(|request| matches!(request.command, Command::Invalid(_))));
    }

    #[test]
    fn what_a_send_may_not_hold_is_named() {
        let many = format!(r#"{{"ticket":"t","n":1,"commands":[{}1]}}"#, "1,".repeat(9_999));
        let rows = [
            ("{", ErrorCode::BadRequest, "is not JSON"),
            (r#"{"n":1,"commands":[]}"#, ErrorCode::BadRequest, "`ticket` is missing"),
            (r#"{"ticket":"t","n":1}"#, ErrorCode::BadRequest, "`commands` is missing"),
            (r#"{"ticket":"t","n":0,"commands":[]}"#, ErrorCode::BadRequest, "`n` must be an integer from 1"),
            (r#"{"ticket":"t","n":1e99,"commands":[]}"#, ErrorCode::BadRequest, "`n` must be an integer from 1"),
            (r#"{"ticket":"t","n":"1","commands":[]}"#, ErrorCode::BadRequest, "`n` must be an integer from 1"),
            (r#"{"ticket":"t","n":1,"commands":"x"}"#, ErrorCode::BadRequest, "`commands` must be an array"),
            (&many, ErrorCode::TooLarge, "`commands` of 10000 entries exceeds the limit of 32"),
        ];
        for (text, code, expected) in rows {
            let error = decode_send(text, &Limits::default()).expect_err(text);
            assert!(error.code == code && error.message.contains(expected), "{text}: {error}");
        }
    }

    #[test]
    fn answers_are_one_object() {
        let answer = |messages: &str| {
            let mut out = Vec::new();
            encode_poll_answer(&mut out, 4, messages.as_bytes());
            String::from_utf8(out).expect("text")
        };
        assert_eq!(answer(""), "{\"n\":4,\"messages\":[]}\n");
        assert_eq!(answer(r#"{"a":1},[{},{}],"#), "{\"n\":4,\"messages\":[{\"a\":1},[{},{}]]}\n");
        let mut out = Vec::new();
        let reply = Reply { id: None, body: fanfare_hub::ReplyBody::Done };
        encode_send_answer(&mut out, Some(2), &[reply], Some("t"));
        let expected = "{\"n\":2,\"replies\":[{\"type\":\"result\"}],\"ticket\":\"t\"}\n";
        assert_eq!(String::from_utf8(out).expect("text"), expected);
    }
}
