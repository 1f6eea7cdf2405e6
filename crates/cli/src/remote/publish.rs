//! `fanfare publish`: one publication, or one for each line of stdin, by the HTTP API.
//!
//! A line is sent when the one before it is answered, so the order of the lines is the order in the channel; each is
//! repeated under its key until it is answered, so it stands once. The first one that is refused ends it.

use super::api::Api;
use super::lines;
use super::{Key, Server};
use crate::failure::Failure;
use crate::output::Reader;
use crate::stderr::tell;
use serde::Serialize;
use serde_json::value::RawValue;
use std::io::{BufRead as _, IsTerminal as _, Read as _};

/// No line is longer; the server's own limit is lower unless it was raised.
const LINE_BYTES_MAX: usize = 1 << 20;
/// The longest key that a server takes.
const IDEMPOTENCY_KEY_BYTES_MAX: usize = 64;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// The channel
    channel: String,
    /// The payload: JSON, or text with --text; without it each line of stdin is one
    #[arg(allow_negative_numbers = true)]
    data: Option<String>,
    /// Take the payload as text, not as JSON
    #[arg(long)]
    text: bool,
    /// A name for its kind
    #[arg(long, value_name = "NAME")]
    event: Option<String>,
    /// Publish once only, however often this is repeated within 2 minutes; line n of stdin has KEY-n
    #[arg(long, value_name = "KEY")]
    idempotency_key: Option<String>,
    #[command(flatten)]
    server: Server,
    #[command(flatten)]
    api_key: Key,
}

#[derive(Serialize)]
struct Publication<'p> {
    channel: &'p str,
    data: &'p RawValue,
    #[serde(skip_serializing_if = "Option::is_none")]
    event: Option<&'p str>,
    idempotency_key: &'p str,
}

pub(crate) fn run(args: Args) -> Result<(), Failure> {
    super::block_on(async {
        let api = Api::new(args.server, args.api_key)?;
        let mut publisher = Publisher { api, channel: args.channel, event: args.event, text: args.text, published: 0 };
        match args.data {
            Some(data) => {
                let data = publisher.payload(unmarked(data), "the payload")?;
                let key = match args.idempotency_key {
                    Some(key) => key,
                    None => random_key()?,
                };
                publisher.publish(&data, &key).await.map(drop)
            }
            None => publisher.publish_stdin(args.idempotency_key).await,
        }
    })
}

struct Publisher {
    api: Api,
    channel: String,
    event: Option<String>,
    text: bool,
    published: u64,
}

impl Publisher {
    async fn publish_stdin(&mut self, key: Option<String>) -> Result<(), Failure> {
        let key = match key {
            Some(key) => key,
            None => random_key()?,
        };
        let stdin = std::io::stdin();
        if stdin.is_terminal() {
            let what = if self.text { "a text" } else { "a JSON value" };
            tell(format_args!("publishing to {}: {what} a line; Ctrl-D ends it", self.channel));
        }
        for number in 1_u64.. {
            match self.publish_line(number, &key).await {
                Ok(Some(Reader::Reads)) => {}
                Ok(Some(Reader::Gone)) | Ok(None) => break,
                Err(failure) if self.published == 0 => return Err(failure),
                Err(failure) => {
                    let before = if self.published == 1 {
                        "the line before it is published"
                    } else {
                        "the lines before it are published"
                    };
                    return Err(Failure { sentence: format!("{} ({before})", failure.sentence), ..failure });
                }
            }
        }
        Ok(())
    }

    /// Publishes the next line; `None` when there is none.
    async fn publish_line(&mut self, number: u64, key: &str) -> Result<Option<Reader>, Failure> {
        // Nothing else waits on this thread: reading may block it.
        let Some(line) = read_line(number)? else { return Ok(None) };
        if line.trim().is_empty() && !self.text {
            return Ok(Some(Reader::Reads));
        }
        let data = self.payload(line, &format!("line {number}"))?;
        let key = format!("{key}-{number}");
        if key.len() > IDEMPOTENCY_KEY_BYTES_MAX {
            let len = key.len();
            return Err(Failure::users(format!(
                "line {number} has a key of {len} bytes, the limit is {IDEMPOTENCY_KEY_BYTES_MAX}: {key}"
            )));
        }
        let published = self.publish(&data, &key).await;
        published
            .map(Some)
            .map_err(|failure| Failure { sentence: format!("line {number}: {}", failure.sentence), ..failure })
    }

    /// `what` begins the sentence that says why it is not one.
    fn payload(&self, data: String, what: &str) -> Result<Box<RawValue>, Failure> {
        if self.text {
            return serde_json::value::to_raw_value(&data)
                .map_err(|error| Failure::ours(format!("{what} cannot be written as JSON: {error}")));
        }
        RawValue::from_string(data).map_err(|error| {
            Failure::users(format!("{what} is not JSON: {error}")).hint("--text publishes it as text, a JSON string")
        })
    }

    async fn publish(&mut self, data: &RawValue, key: &str) -> Result<Reader, Failure> {
        let publication =
            Publication { channel: &self.channel, data, event: self.event.as_deref(), idempotency_key: key };
        let body = serde_json::to_vec(&publication)
            .map_err(|error| Failure::ours(format!("the request cannot be written as JSON: {error}")))?;
        match self.api.call("publish", body, "offset").await {
            Ok(answer) => {
                self.published += 1;
                lines::print(&answer)
            }
            // It is not known whether it stands.
            Err(failure) if failure.status == 2 && failure.hint.is_none() => {
                Err(failure
                    .hint(format!("publish again with --idempotency-key {key} within 2 minutes: it is stored once")))
            }
            Err(failure) => Err(failure),
        }
    }
}

/// The next line of stdin without its end; `None` when there is none.
fn read_line(number: u64) -> Result<Option<String>, Failure> {
    let mut line = Vec::new();
    let mut stdin = std::io::stdin().lock().take(LINE_BYTES_MAX as u64 + 1);
    let len = stdin
        .read_until(b'\n', &mut line)
        .map_err(|error| Failure::users(format!("cannot read line {number} of stdin: {error}")))?;
    if len == 0 {
        return Ok(None);
    }
    if line.len() > LINE_BYTES_MAX {
        return Err(Failure::users(format!("line {number} has more than {LINE_BYTES_MAX} bytes")));
    }
    if line.last() == Some(&b'\n') {
        line.pop();
        if line.last() == Some(&b'\r') {
            line.pop();
        }
    }
    let line = String::from_utf8(line).map_err(|error| {
        Failure::users(format!("line {number} is not UTF-8, from its byte {}", error.utf8_error().valid_up_to() + 1))
    })?;
    // The mark stands at the beginning of a file.
    Ok(Some(if number == 1 { unmarked(line) } else { line }))
}

/// Without the byte order mark that it may begin with, as the server takes every text.
fn unmarked(text: String) -> String {
    match text.strip_prefix('\u{feff}') {
        Some(rest) => rest.to_owned(),
        None => text,
    }
}

/// No two runs have the same.
fn random_key() -> Result<String, Failure> {
    let random = getrandom::u64().map_err(|error| Failure::ours(format!("no random numbers: {error}")))?;
    Ok(format!("{random:016x}"))
}
