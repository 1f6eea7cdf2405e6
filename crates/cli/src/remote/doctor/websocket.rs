//! The WebSocket: upgrade, `connect`, and an idle time.

use super::http::read_head;
use super::kinds::kind;
use super::refusal::Refusal;
use super::report::{Finding, State, Transport, ms, seconds};
use super::watch::{Life, Watch};
use super::way::{Link, Offer};
use super::{Doctor, Outcome, connect_command};
use fanfare_client::NATIVE_PATH;
use fanfare_wire::native::PROTOCOL;
use fanfare_wire::websocket::deflate::Inflater;
use fanfare_wire::websocket::{Decoder, Event, Limits, Opcode, Role, client_key, put_frame, request, verify};
use serde_json::Value;
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::{Instant, timeout};

pub(super) const NAME: &str = "websocket";
const EXTENSIONS: &str = "sec-websocket-extensions";
const DEFLATE: &str = "permessage-deflate";
const MESSAGE_BYTES_MAX: usize = 1 << 20;
const READ_BYTES: usize = 16 << 10;
/// The bytes behind a refusal's head are read for so long.
const BODY_PATIENCE: Duration = Duration::from_secs(1);
/// Masks hide bytes from proxies that guess; these are no secret.
const MASK: [u8; 4] = [0x5A, 0x0F, 0xC3, 0x96];

/// An open WebSocket.
struct Socket {
    link: Link,
    decoder: Decoder,
    inflater: Inflater,
    read: Vec<u8>,
}

impl Doctor {
    pub(super) async fn websocket(&self) -> Outcome {
        let mut outcome = Outcome::new(Transport::new(NAME, self.way.path(NATIVE_PATH)));
        let tried = format!("GET {} with `Upgrade: websocket`", outcome.transport.path);
        let start = Instant::now();
        let opened = timeout(self.way.patience, self.upgrade(&tried, &mut outcome)).await;
        let mut socket = match opened {
            Ok(Some(socket)) => socket,
            Ok(None) => return outcome,
            Err(_) => {
                return outcome.fails(
                    &kind::no_answer,
                    tried,
                    format!("no answer within {}", seconds(self.way.patience)),
                );
            }
        };
        let first = async {
            socket.send(&connect_command(self.token.as_deref())).await?;
            socket.message().await
        };
        let tried = "a `connect` over the WebSocket".to_owned();
        let message = match timeout(self.way.patience, first).await {
            Ok(Ok(Some(message))) => message,
            Ok(Ok(None)) => return outcome.fails(&kind::websocket_silent, tried, "the connection ended"),
            Ok(Err(error)) => return outcome.fails(&kind::websocket_silent, tried, error),
            Err(_) => {
                let seen = format!("no message within {}", seconds(self.way.patience));
                return outcome.fails(&kind::websocket_silent, tried, seen);
            }
        };
        outcome.transport.first_message_ms = Some(ms(start.elapsed()));
        if !outcome.take_connected(NAME, tried, &message, self.token.is_some()) {
            return outcome;
        }
        let watch = Watch { asked: self.idle, interval: outcome.interval() };
        if self.watches() {
            let next = async || {
                let Some(message) = socket.message().await? else { return Ok(None) };
                Ok(Some(match message["type"].as_str() {
                    Some("ping") => {
                        socket.send("{\"type\":\"pong\"}").await?;
                        Life::Heartbeat
                    }
                    Some("disconnect") => Life::Farewell,
                    _ => Life::Message,
                }))
            };
            outcome.watched(watch.run(NAME, next).await);
        }
        outcome
    }

    /// Opens it; `None`: it does not open, and the outcome says why.
    async fn upgrade(&self, tried: &str, outcome: &mut Outcome) -> Option<Socket> {
        let fails = |outcome: &mut Outcome, kind, seen: String| {
            outcome.transport.state = State::Fails;
            outcome.findings.push(Finding::new(kind, NAME, tried, seen));
        };
        let mut link = match self.way.open(Offer::Http1).await {
            Ok(link) => link,
            Err(error) => {
                fails(outcome, &kind::unreachable, error);
                return None;
            }
        };
        let mut random = [0; 16];
        let _ = getrandom::fill(&mut random); // only a cache could profit from a guess
        let key = client_key(random);
        let id = super::http::request_id();
        let mut headers = vec![("Sec-WebSocket-Extensions", DEFLATE), ("X-Request-Id", &id)];
        headers.extend(self.origin.as_deref().map(|origin| ("Origin", origin)));
        let mut head = Vec::new();
        request(&mut head, self.way.base.authority(), &self.way.path(NATIVE_PATH), &key, &[PROTOCOL], &headers);
        let exchange = async {
            link.io.write_all(&head).await.map_err(|error| error.to_string())?;
            link.io.flush().await.map_err(|error| error.to_string())?;
            read_head(&mut link).await
        };
        let (head, mut rest) = match exchange.await {
            Ok(answer) => answer,
            Err(error) => {
                fails(outcome, &kind::websocket_refused, error);
                return None;
            }
        };
        // `verify` takes no extension; the one that was offered is read here.
        let plain = head.pairs().filter(|(name, _)| !name.eq_ignore_ascii_case(EXTENSIONS));
        let deflates = head.all(EXTENSIONS).any(|value| value.starts_with(DEFLATE));
        match verify(head.status, plain, &key, &[PROTOCOL]) {
            Ok(established) if established.protocol.is_some() => {}
            Ok(_) => {
                fails(
                    outcome,
                    &kind::websocket_broken,
                    format!("the answer names no subprotocol; {PROTOCOL} was offered"),
                );
                return None;
            }
            Err(error) if head.status == 101 => {
                fails(outcome, &kind::websocket_broken, error.to_string());
                return None;
            }
            Err(_) => {
                let length = head.get("content-length").and_then(|length| length.parse().ok()).unwrap_or(READ_BYTES);
                let reading = async {
                    while rest.len() < length.min(READ_BYTES) && matches!(link.io.read_buf(&mut rest).await, Ok(1..)) {}
                };
                let _ = timeout(BODY_PATIENCE, reading).await; // half of it is enough
                let is_named = head.get("x-request-id") == Some(&id);
                let refusal = Refusal { head: &head, body: &rest, is_named, has_token: self.token.is_some() };
                let is_stripped = matches!(head.status, 400 | 405 | 426) && refusal.is_fanfares();
                let other = if is_stripped { &kind::upgrade_stripped } else { &kind::websocket_refused };
                let (state, finding) = refusal.judge(NAME, tried.to_owned(), other);
                outcome.transport.state = state;
                outcome.findings.push(finding);
                return None;
            }
        }
        let decoder = Decoder::new(Role::Client, Limits { message_bytes_max: MESSAGE_BYTES_MAX });
        let decoder = if deflates { decoder.with_deflate() } else { decoder };
        if deflates {
            outcome.transport.compression = Some(DEFLATE.to_owned());
        } else {
            let tried = format!("an upgrade with `Sec-WebSocket-Extensions: {DEFLATE}`");
            outcome.findings.push(Finding::new(&kind::no_compression, NAME, tried, "an upgrade without it"));
        }
        Some(Socket { link, decoder, inflater: Inflater::default(), read: rest })
    }
}

impl Socket {
    async fn send(&mut self, text: &str) -> Result<(), String> {
        let mut frame = Vec::new();
        put_frame(&mut frame, Opcode::Text, text.as_bytes(), Some(MASK));
        self.link.io.write_all(&frame).await.map_err(|error| error.to_string())?;
        self.link.io.flush().await.map_err(|error| error.to_string())
    }

    /// The next message; of an array its first element, as the server sends arrays of messages only to subscribers.
    async fn message(&mut self) -> Result<Option<Value>, String> {
        loop {
            let mut bytes = std::mem::take(&mut self.read);
            let mut input = &mut bytes[..];
            let event = self.decoder.decode_with(&mut input, &mut self.inflater).map_err(|error| error.to_string())?;
            let found = match event {
                Some(Event::Text(text)) => {
                    Some(serde_json::from_str(text).map_err(|error| format!("a message that is not JSON: {error}"))?)
                }
                Some(Event::Close(_)) => return Ok(None),
                Some(_) => Some(Value::Null),
                None => None,
            };
            self.read = input.to_vec();
            match found {
                Some(Value::Null) => continue,
                Some(Value::Array(mut all)) => {
                    return Ok(Some(if all.is_empty() { Value::Null } else { all.swap_remove(0) }));
                }
                Some(message) => return Ok(Some(message)),
                None => {}
            }
            self.read.reserve(READ_BYTES);
            match self.link.io.read_buf(&mut self.read).await {
                Ok(0) => return Ok(None),
                Ok(_) => {}
                Err(error) => return Err(error.to_string()),
            }
        }
    }
}
