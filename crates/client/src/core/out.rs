//! The queue of outputs that the machines write to, and the ids of requests.

use super::types::{Answer, CallError, CallId, Event, Output, State};
use fanfare_hub::RequestId;
use fanfare_wire::native::client::{self, ClientCommand, ClientRequest, Position};
use std::collections::VecDeque;
use std::sync::Arc;

#[derive(Debug, Default)]
pub(super) struct Out {
    queue: VecDeque<Output>,
    last_id: u64,
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
        let mut text = Vec::with_capacity(128);
        client::encode(&mut text, &ClientRequest { id: id.map(RequestId::Number), command });
        self.put(Output::Send(String::from_utf8(text).expect("the encoder writes JSON, and payloads are texts")));
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
