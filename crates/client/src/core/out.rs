//! The queue of outputs that the machines write to, and the ids of requests and exchanges.
//!
//! Commands are outputs where the connection is a WebSocket. Over HTTP they wait here until [`Sends`](super::sends::Sends)
//! takes them.

use super::types::{Answer, CallError, CallId, Event, ExchangeId, HttpKind, HttpRequest, Output, State};
use fanfare_hub::RequestId;
use fanfare_wire::native::client::{self, ClientCommand, ClientRequest, Position};
use std::collections::VecDeque;
use std::sync::Arc;

#[derive(Debug, Default)]
pub(super) struct Out {
    queue: VecDeque<Output>,
    last_id: u64,
    last_exchange: u64,
    /// Commands go up by requests of their own.
    pub(super) over_http: bool,
    /// A ping of a stream is to be answered.
    pub(super) pong_is_due: bool,
    /// Commands that go up by requests of their own.
    pub(super) commands: VecDeque<QueuedCommand>,
}

/// A command that waits to be sent over HTTP.
#[derive(Debug)]
pub(super) struct QueuedCommand {
    pub(super) text: String,
    pub(super) id: Option<u64>,
    /// The channel, where it is an `unsubscribe`.
    pub(super) unsubscribes: Option<Arc<str>>,
}

impl Out {
    pub(super) fn pop(&mut self) -> Option<Output> {
        self.queue.pop_front()
    }

    /// A request id. Never used twice, so that a late answer of an earlier connection cannot be taken for a newer one.
    pub(super) fn next_id(&mut self) -> u64 {
        self.last_id += 1;
        self.last_id
    }

    pub(super) fn put(&mut self, output: Output) {
        self.queue.push_back(output);
    }

    pub(super) fn send(&mut self, id: Option<u64>, command: ClientCommand) {
        if !self.over_http {
            return self.put(Output::Send(text_of(id, command)));
        }
        let unsubscribes = match &command {
            ClientCommand::Unsubscribe { channel } => Some(channel.clone()),
            // Numbered sends may wait; the answer to a ping may not.
            ClientCommand::Pong => return self.pong_is_due = true,
            _ => None,
        };
        self.commands.push_back(QueuedCommand { text: text_of(id, command), id, unsubscribes });
    }

    /// Asks for a request, and names its exchange.
    pub(super) fn http(&mut self, kind: HttpKind, body: String) -> ExchangeId {
        self.last_exchange += 1;
        let exchange = ExchangeId(self.last_exchange);
        self.put(Output::Http(HttpRequest { exchange, kind, body }));
        exchange
    }

    pub(super) fn abort(&mut self, exchange: ExchangeId) {
        self.put(Output::Abort(exchange));
    }

    pub(super) fn answer(&mut self, call: CallId, result: Result<Answer, CallError>) {
        self.put(Output::Answer(call, result));
    }

    pub(super) fn event(&mut self, channel: &Arc<str>, event: Event, before: Option<Position>) {
        self.put(Output::Channel { channel: channel.clone(), event, before });
    }

    pub(super) fn state(&mut self, state: State) {
        self.put(Output::State(state));
    }
}

/// A command as JSON.
pub(super) fn text_of(id: Option<u64>, command: ClientCommand) -> String {
    let mut text = Vec::with_capacity(128);
    client::encode(&mut text, &ClientRequest { id: id.map(RequestId::Number), command });
    json_of(text)
}

/// The output of the encoder. The application's payloads are texts, so it is one too.
pub(super) fn json_of(encoded: Vec<u8>) -> String {
    String::from_utf8(encoded).expect("the encoder writes JSON, and payloads are texts")
}
