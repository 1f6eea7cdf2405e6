//! The bodies of polls and sends, from the client's side: requests to text, and the text of answers.
//!
//! An answer is taken apart into the texts of its messages; [`decode`](super::decode) reads each.

use super::decode::{DecodeError, error};
use super::{ClientRequest, ErrorReply, encode};
use crate::json;
use crate::native::object::{Fault, Field, Items, Object};
use crate::native::write::ObjectWriter;
use fanfare_hub::NUMBER_MAX;

/// An answer to a poll.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PollAnswer<'a> {
    /// Its number, to be acknowledged.
    pub n: u64,
    /// Each is one message, or an array of them.
    pub messages: Vec<&'a str>,
}

/// An answer to a send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SendAnswer<'a> {
    /// The number of the send.
    pub n: Option<u64>,
    /// The replies to its commands.
    pub replies: Vec<&'a str>,
    /// A new ticket, where the shown one will expire soon.
    pub ticket: Option<Box<str>>,
}

/// Appends the body of a poll. `wait_ms` is how long its answer may take.
pub fn encode_poll(out: &mut Vec<u8>, ticket: &str, ack: u64, wait_ms: Option<u64>) {
    ObjectWriter::plain(out).text("ticket", ticket).number("ack", ack).number_if("wait", wait_ms).end();
}

/// Appends the body of a send; without `n` it has no number. Each of `commands` is a command's text.
pub fn encode_send<'c>(out: &mut Vec<u8>, ticket: &str, n: Option<u64>, commands: impl IntoIterator<Item = &'c str>) {
    let mut object = ObjectWriter::plain(out);
    let list = object.text("ticket", ticket).number_if("n", n).field("commands");
    list.push(b'[');
    for (place, command) in commands.into_iter().enumerate() {
        if place > 0 {
            list.push(b',');
        }
        list.extend_from_slice(command.as_bytes());
    }
    list.push(b']');
    object.end();
}

/// Appends the body of the first poll, a `connect`. The same `attempt` (1 to 64 bytes) leads to the same session.
pub fn encode_attempt(out: &mut Vec<u8>, connect: &ClientRequest, attempt: &str) {
    encode(out, connect);
    // Before the brace that ends the command.
    out.pop();
    out.extend_from_slice(b",\"attempt\":");
    serde_json::to_writer(&mut *out, attempt).expect("a Vec takes every text");
    out.push(b'}');
}

/// Reads the answer to a poll.
///
/// # Errors
/// It is not one.
pub fn decode_poll_answer(text: &str) -> Result<PollAnswer<'_>, DecodeError> {
    let object = whole(text)?;
    Ok(PollAnswer { n: object.needed_number(Field::N, NUMBER_MAX)?, messages: list(&object, Field::Messages)? })
}

/// Reads the answer to a send.
///
/// # Errors
/// It is not one.
pub fn decode_send_answer(text: &str) -> Result<SendAnswer<'_>, DecodeError> {
    let object = whole(text)?;
    let ticket = object.text(Field::Ticket, usize::MAX)?.map(Into::into);
    Ok(SendAnswer { n: object.number(Field::N, 0, NUMBER_MAX)?, replies: list(&object, Field::Replies)?, ticket })
}

/// Reads the body of a refused request. `None` where it is none of Fanfare's.
pub fn decode_refusal(text: &str) -> Option<ErrorReply> {
    error(&whole(text).ok()?).ok()
}

fn whole(text: &str) -> Result<Object<'_>, Fault> {
    let object = Object::read(json::unmarked(text))?;
    object.no_duplicate()?;
    Ok(object)
}

fn list<'a>(object: &Object<'a>, field: Field) -> Result<Vec<&'a str>, Fault> {
    let list = object.get(field).ok_or_else(|| Fault::missing(field))?;
    if !list.starts_with('[') {
        return Err(Fault::must_be(field, "an array", list));
    }
    let items = Items::read(list, usize::MAX).map_err(|error| Fault::bad(field, error.to_string()))?;
    Ok(items.list)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::native::client::ClientCommand;
    use crate::native::requests::{PollBody, decode_poll, decode_send, encode_poll_answer, encode_send_answer};
    use crate::native::{Limits, client};
    use fanfare_hub::{Reply, ReplyBody, RequestId};

    fn text(put: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        put(&mut out);
        String::from_utf8(out).expect("text")
    }

    #[test]
    fn the_server_reads_the_polls_and_sends_of_a_client() {
        let poll = text(|out| encode_poll(out, "t", 7, Some(100)));
        assert_eq!(decode_poll(&poll), Ok(PollBody::Poll { ticket: "t".into(), ack: 7, wait_ms: Some(100) }));
        let (page, subscribe) = (Some("p".into()), Vec::new());
        let connect = ClientCommand::Connect { token: None, ticket: None, page, ack: None, subscribe };
        let connect = ClientRequest { id: Some(RequestId::Number(1)), command: connect };
        let connect = text(|out| encode_attempt(out, &connect, "a1"));
        assert_eq!(connect, r#"{"type":"connect","id":1,"page":"p","attempt":"a1"}"#);
        assert_eq!(decode_poll(&connect), Ok(PollBody::Connect { is_named: true }));
        for commands in [&[][..], &[client::PONG], &[client::PONG; 32]] {
            let send = text(|out| encode_send(out, "t", Some(3), commands.iter().copied()));
            let read = decode_send(&send, &Limits::default()).expect("valid");
            assert_eq!((&*read.ticket, read.n, read.requests.len()), ("t", Some(3), commands.len()), "{send}");
        }
    }

    #[test]
    fn a_client_reads_the_answers_of_the_server() {
        let answer = text(|out| encode_poll_answer(out, 4, br#"{"a":1},[{},{}],"#));
        assert_eq!(decode_poll_answer(&answer), Ok(PollAnswer { n: 4, messages: vec![r#"{"a":1}"#, "[{},{}]"] }));
        let replies = [Reply { id: None, body: ReplyBody::Done }];
        let answer = text(|out| encode_send_answer(out, Some(2), &replies, Some("new")));
        let expected = SendAnswer { n: Some(2), replies: vec![r#"{"type":"result"}"#], ticket: Some("new".into()) };
        assert_eq!(decode_send_answer(&answer), Ok(expected));
        let refused = decode_refusal(r#"{"code":"unavailable","message":"later","retryable":true,"retry_after":5}"#);
        let refused = refused.expect("a refusal");
        assert_eq!((&*refused.code, refused.retryable, refused.retry_after_ms), ("unavailable", true, Some(5)));
    }

    #[test]
    fn an_answer_that_is_none_is_told() {
        for text in ["", "[]", "<html>", r#"{"n":1}"#, r#"{"messages":[]}"#, r#"{"n":1,"messages":7}"#] {
            assert!(decode_poll_answer(text).is_err(), "{text}");
            assert!(decode_send_answer(text).is_err(), "{text}");
            assert_eq!(decode_refusal(text), None, "{text}");
        }
    }
}
