//! The requests of a client core over HTTP, as its shell keeps them, and the judge of what the core asks for.
//!
//! Each request has a name that none before it had, and one end. Few sends with a number are on their way at once. A
//! client core has one stream, or one poll on its way. [`Outgoing`](crate::sends) judges the content of the sends.

use crate::checker::Verdict;
use fanfare_client::core::{ExchangeId, HttpRequest, Transport};
use fanfare_hub::{Error, Rng};
use fanfare_wire::stream::{StreamDecoder, StreamForm};
use std::collections::BTreeMap;

/// So many sends may be on their way, as the core's documentation says.
const SENDS_MAX: usize = 4;
/// Longer than any message of a simulated world.
const MESSAGE_BYTES_MAX: usize = 1 << 20;

/// The requests of one client core.
#[derive(Debug)]
pub(crate) struct CoreRequests {
    /// The chances of its requests.
    pub(crate) rng: Rng,
    open: BTreeMap<ExchangeId, Exchange>,
    last: Option<ExchangeId>,
    /// The last connection that it had over HTTP.
    pub(crate) pipe: Option<usize>,
    /// The transport over which it was last given a session.
    pub(crate) was_over: Option<Transport>,
}

/// The purpose of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exchange {
    /// Its answer goes on.
    Stream,
    /// With the number by which the world knows the poll.
    Poll(u64),
    /// With or without a number.
    Send { is_numbered: bool },
}

impl CoreRequests {
    pub(crate) fn new(rng: Rng) -> Self {
        CoreRequests { rng, open: BTreeMap::new(), last: None, pipe: None, was_over: None }
    }

    /// The core asks for a request.
    pub(crate) fn begins(&mut self, request: &HttpRequest, exchange: Exchange) -> Verdict {
        let id = request.exchange;
        if self.last >= Some(id) {
            return Err(format!("core: {id:?} comes after {:?}", self.last));
        }
        self.last = Some(id);
        let is_down = |exchange: &Exchange| !matches!(exchange, Exchange::Send { .. });
        if is_down(&exchange)
            && let Some(earlier) = self.open.values().find(|open| is_down(open))
        {
            return Err(format!("core: {exchange:?} is asked for beside {earlier:?}"));
        }
        self.open.insert(id, exchange);
        let sends = self.open.values().filter(|open| **open == Exchange::Send { is_numbered: true }).count();
        match sends > SENDS_MAX {
            true => Err(format!("core: {sends} sends are on their way, {SENDS_MAX} may be")),
            false => Ok(()),
        }
    }

    /// True if the core waits for what comes of it.
    pub(crate) fn is_open(&self, id: ExchangeId) -> bool {
        self.open.contains_key(&id)
    }

    /// It has come to its end. False if it had before.
    pub(crate) fn ends(&mut self, id: ExchangeId) -> bool {
        self.open.remove(&id).is_some()
    }

    /// The core gives one up, which it must have asked for. Nothing is returned if it has just ended.
    pub(crate) fn aborted(&mut self, id: ExchangeId) -> Result<Option<Exchange>, String> {
        match self.last >= Some(id) {
            true => Ok(self.open.remove(&id)),
            false => Err(format!("core: {id:?} is given up, and was never asked for")),
        }
    }

    /// The stream that it has.
    pub(crate) fn stream(&self) -> Option<ExchangeId> {
        self.find(Exchange::Stream)
    }

    /// The request of a poll, if the core waits for its answer.
    pub(crate) fn poll(&self, request: u64) -> Option<ExchangeId> {
        self.find(Exchange::Poll(request))
    }

    fn find(&self, wanted: Exchange) -> Option<ExchangeId> {
        self.open.iter().find(|(_, exchange)| **exchange == wanted).map(|(id, _)| *id)
    }

    /// All that are on their way, but for a stream.
    pub(crate) fn on_their_way(&self) -> Vec<ExchangeId> {
        self.open.iter().filter(|(_, exchange)| **exchange != Exchange::Stream).map(|(id, _)| *id).collect()
    }
}

/// A connection whose messages come in the body of an answer that goes on.
#[derive(Debug)]
pub(crate) struct Streamed {
    pub(crate) form: StreamForm,
    pub(crate) decoder: StreamDecoder,
    /// The body of its request, a `connect`.
    pub(crate) connect: String,
    /// What the hub says of its client.
    pub(crate) verdict: Option<Result<(), Error>>,
    /// The answer has begun.
    pub(crate) is_answered: bool,
}

impl Streamed {
    pub(crate) fn new(form: StreamForm, connect: String) -> Self {
        let decoder = StreamDecoder::new(form, MESSAGE_BYTES_MAX);
        Streamed { form, decoder, connect, verdict: None, is_answered: false }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fanfare_client::core::HttpKind;

    fn request(id: u64) -> HttpRequest {
        HttpRequest { exchange: ExchangeId(id), kind: HttpKind::Send, body: String::new() }
    }

    #[test]
    fn a_core_uses_a_name_once_and_has_one_way_down_and_few_sends() {
        let mut requests = CoreRequests::new(Rng::new(1));
        let send = Exchange::Send { is_numbered: true };
        for id in 1..=4 {
            requests.begins(&request(id), send).expect("few");
        }
        requests.begins(&request(5), Exchange::Send { is_numbered: false }).expect("it is not counted");
        assert!(requests.begins(&request(6), send).is_err(), "too many");
        assert!(requests.ends(ExchangeId(6)) && !requests.ends(ExchangeId(6)));
        assert!(requests.begins(&request(5), send).is_err(), "not twice");
        requests.begins(&request(7), Exchange::Poll(1)).expect("one");
        assert!(requests.begins(&request(8), Exchange::Stream).is_err(), "two ways down");
        assert_eq!(requests.aborted(ExchangeId(7)), Ok(Some(Exchange::Poll(1))));
        assert_eq!(requests.aborted(ExchangeId(7)), Ok(None));
        assert!(requests.aborted(ExchangeId(9)).is_err(), "it was never asked for");
    }
}
