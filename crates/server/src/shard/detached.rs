//! A connection without a socket: messages for its client wait in the outbox until a request fetches them. Commands of
//! its client come by other requests, on any shard.
//!
//! Down: [`Shell::poll_fetch`] waits for messages, [`Shell::fetch`] returns them, and [`Shell::fetched`] removes them
//! once the client has them. Until then they count into the outbox's bound. So a lost answer can be sent again, and a
//! client that never fetches is *behind* as any client that does not read. Up: [`Shell::forward`] gives a command to
//! the shard of the session. For the hub it is a connection like the others. When it ends, its last messages wait for
//! `close_timeout`, or until the shard ends: a shard that stops does not wait for them to be fetched.

use super::engine::EngineState;
use super::polls::PollState;
use super::{Fatal, Shared, Shell, Sink};
use crate::protocol::exchange::SessionPlace;
use bytes::Bytes;
use fanfare_hub::{Bucket, ConnId, Error, ErrorCode, ForwardToken, Forwarded, Input, Now, Reply, Resume, SendRequest};
use fanfare_wire::admission::Opening;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use tokio::sync::oneshot;

/// A detached connection's sink.
#[derive(Default)]
pub(super) struct Detached {
    /// The request that waits until there is something for its client.
    pub(super) fetcher: Option<Waker>,
    /// The state of a stream or a poll session that is not answered yet.
    pub(super) opening: Option<Opening>,
    /// The state of a poll session.
    pub(super) polled: Option<PollState>,
    /// The state of a session of Engine.IO.
    pub(super) engine: Option<EngineState>,
    /// How much its client has polled lately, in either protocol.
    pub(super) polls_spent: Bucket,
    /// Its place among the sessions without a socket, where it is one: until it ends or has a socket.
    pub(super) _place: Option<SessionPlace>,
}

/// Receives the answers to forwarded commands.
pub(super) type Answer = oneshot::Sender<Result<Arc<[Reply]>, Error>>;

/// Replaces the reader: runs as long as the connection, and ends it if its last messages are not fetched in time. From
/// its end on it does not count as a reader. A client that fetches nothing at the moment has no connection to end in
/// good order, and a request that waits counts by itself.
pub(super) async fn keep(shared: Shared, id: ConnId) {
    let _fatal = Fatal;
    let until = async |is_over: fn(&super::Connection) -> bool| {
        poll_fn(|cx| match shared.borrow_mut().conn(id) {
            Some(conn) if !is_over(conn) => {
                conn.reader = Some(cx.waker().clone());
                Poll::Pending
            }
            _ => Poll::Ready(()),
        })
        .await;
    };
    until(|conn| conn.closing).await;
    let timeout = {
        let mut shell = shared.borrow_mut();
        shell.readers -= 1;
        shell.config.close_timeout
    };
    let _ = tokio::time::timeout(timeout, until(|_| false)).await; // it is removed in both cases
    shared.borrow_mut().remove(id);
}

impl Shell {
    /// Ready when a message waits for a detached connection, or when the connection has ended or has a socket now.
    pub(super) fn poll_fetch(&mut self, cx: &mut Context<'_>, id: ConnId) -> Poll<()> {
        match self.conn(id) {
            Some(conn) if conn.outbox.is_empty() && !conn.closing => match &mut conn.sink {
                Sink::Detached(detached) => {
                    detached.fetcher = Some(cx.waker().clone());
                    Poll::Pending
                }
                Sink::Socket(_) => Poll::Ready(()),
            },
            _ => Poll::Ready(()),
        }
    }

    /// The frames that wait for a detached connection, oldest first: as many as fit into `bytes_max`, but at least one.
    /// They stay until they are [`fetched`](Self::fetched).
    pub(super) fn fetch(&mut self, id: ConnId, bytes_max: usize) -> Vec<Bytes> {
        let Some(conn) = self.conn(id) else { return Vec::new() };
        let mut bytes = 0;
        let within = |frame: &&Bytes| {
            let is_first = bytes == 0;
            bytes += frame.len();
            is_first || bytes <= bytes_max
        };
        conn.outbox.frames().take_while(within).cloned().collect()
    }

    /// The first `bytes` bytes have gone: the client has acknowledged them, or hyper has taken them.
    pub(super) fn fetched(&mut self, now: Now, id: ConnId, bytes: usize) {
        let mark = self.config.limits.outbox_bytes_max;
        let Some(conn) = self.conn(id) else { return };
        let bytes = bytes.min(conn.outbox.bytes());
        let drained = conn.outbox.advance(bytes, mark);
        let is_alive = conn.reading_is_life() && bytes > 0;
        conn.choked &= conn.outbox.memory_bytes() > mark;
        let (wire, closing, is_empty) = (conn.wire, conn.closing, conn.outbox.is_empty());
        self.counters.outbox_bytes -= bytes;
        self.counters.wire(wire).bytes_out += bytes as u64;
        if is_alive {
            self.act(now, Input::Alive(id));
        }
        if drained && !closing {
            self.act(now, Input::Drained(id));
        }
        if closing && is_empty {
            self.remove(id);
        }
    }

    /// Gives commands to the session of a valid ticket, on any shard, and returns the receiver of their answers.
    pub(super) fn forward(
        &mut self,
        now: Now,
        to: Resume,
        send: SendRequest,
    ) -> oneshot::Receiver<Result<Arc<[Reply]>, Error>> {
        let (answer, receiver) = oneshot::channel();
        if self.closing {
            let error = Error::new(ErrorCode::Unavailable, "the server is stopping and takes in nothing more");
            // its receiver is returned
            let _ = answer.send(Err(error));
            return receiver;
        }
        let token = ForwardToken(self.forwards.insert(answer) as u64);
        self.act(now, Input::Forward { token, to, send });
        receiver
    }
}

impl Shell {
    /// The hub answers a command that was forwarded.
    pub(super) fn forwarded(&mut self, forwarded: Forwarded) {
        if let Some(answer) = self.forwards.try_remove(forwarded.token.0 as usize) {
            let _ = answer.send(forwarded.answer); // the request may have gone away
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::flush::Slice;
    use super::super::tests::shell_of;
    use super::super::{Batch, Links, shard_id};
    use super::*;
    use crate::config::Config;
    use crate::protocol::Message;
    use crate::protocol::native::Native;
    use crate::request::Peer;
    use fanfare_hub::{
        ChannelName, Command, Data, Disconnect, Limits, Pattern, Publish, ReplyBody, Request, Rule, Rules, SubOptions,
        WireId,
    };
    use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

    /// Adds a connection without a socket to a shard.
    fn attach(shared: &Shared) -> ConnId {
        let mut shell = shared.borrow_mut();
        let now = shell.now();
        let id = shell.open(now, Sink::Detached(Box::default()), Peer::Unknown, WireId(0), None);
        shell.readers += 1;
        tokio::task::spawn_local(keep(shared.clone(), id));
        id
    }

    /// Two shards on one thread, and a detached client of the native protocol on the first.
    struct Pair {
        shells: [Shared; 2],
        batches: [UnboundedReceiver<Batch>; 2],
        id: ConnId,
        client: Resume,
    }

    /// Runs a test on a shard's kind of runtime; time passes as soon as nothing else happens.
    fn run(test: impl AsyncFnOnce(Pair)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build();
        tokio::task::LocalSet::new().block_on(&runtime.expect("a runtime"), async { test(Pair::new()).await });
    }

    impl Pair {
        fn new() -> Pair {
            let (senders, batches): (Vec<_>, Vec<_>) = (0..2).map(|_| unbounded_channel()).unzip();
            let rules = Arc::new(Rules::new(vec![Rule::open(Pattern::new("**").expect("a pattern"))]));
            let limits = Limits { outbox_bytes_max: 2_000, ..Limits::default() };
            let shells: Vec<Shared> = (0..2)
                .map(|index| {
                    let config = Config { rules: rules.clone(), limits: limits.clone(), ..Config::default() };
                    let links = Links::new(shard_id(index), senders.clone());
                    shell_of(config, Arc::new(Native::default()), 2, links)
                })
                .collect();
            let Ok(shells) = <[Shared; 2]>::try_from(shells) else { panic!("two were made") };
            let Ok(batches) = <[UnboundedReceiver<Batch>; 2]>::try_from(batches) else { panic!("two were made") };
            let id = attach(&shells[0]);
            let mut pair =
                Pair { shells, batches, id, client: Resume { shard: shard_id(0), client: fanfare_hub::ClientId(0) } };
            {
                let mut shell = pair.shells[0].borrow_mut();
                let now = shell.now();
                shell.message(now, id, Message::Text(r#"{"type":"connect","id":1}"#));
            }
            let connected = pair.take();
            let (_, rest) = connected.split_once(r#""client":""#).expect("an id");
            pair.client.client = rest[..16].parse().expect("an id");
            pair
        }

        /// Carries the shards' messages to each other until there are none.
        fn settle(&mut self) {
            loop {
                for shell in &self.shells {
                    shell.borrow_mut().links.send();
                    shell.borrow_mut().write_corked(&mut Slice::new());
                }
                let mut said = false;
                for (shell, batches) in self.shells.iter().zip(&mut self.batches) {
                    while let Ok(Batch { from, messages, .. }) = batches.try_recv() {
                        let mut shell = shell.borrow_mut();
                        let now = shell.now();
                        messages.into_iter().for_each(|message| shell.act(now, Input::Peer { from, message }));
                        said = true;
                    }
                }
                let now = self.shells[0].borrow().now();
                self.shells.iter().for_each(|shell| shell.borrow_mut().act(now, Input::Continue));
                if !said {
                    return;
                }
            }
        }

        /// A command for the client comes to the second shard.
        fn forward(&mut self, command: Command) -> ReplyBody {
            let (to, request) = (self.client, Request { id: Some(fanfare_hub::RequestId::Number(7)), command });
            let mut answer = {
                let mut shell = self.shells[1].borrow_mut();
                let now = shell.now();
                shell.forward(now, to, request.into())
            };
            self.settle();
            match answer.try_recv().expect("it is answered") {
                Ok(replies) => replies.first().expect("with something").body.clone(),
                Err(error) => ReplyBody::Error(error),
            }
        }

        fn publish(&mut self, json: &str) {
            let (channel, data) = (channel(), Data::Json(json.to_owned().into()));
            let publish = Publish { channel, data, event: None, idempotency_key: None, echo: true };
            let body = self.forward(Command::Publish(Box::new(publish)));
            assert!(matches!(body, ReplyBody::Published { .. }), "{body:?}");
        }

        fn fetch(&self) -> Vec<Bytes> {
            self.shells[0].borrow_mut().fetch(self.id, usize::MAX)
        }

        fn fetched(&mut self, bytes: usize) {
            {
                let mut shell = self.shells[0].borrow_mut();
                let now = shell.now();
                shell.fetched(now, self.id, bytes);
            }
            self.settle();
        }

        /// Fetches all that waits, as a client that receives it.
        fn take(&mut self) -> String {
            let bytes = self.fetch().concat();
            self.fetched(bytes.len());
            String::from_utf8_lossy(&bytes).into_owned()
        }

        fn waiting_bytes(&self) -> usize {
            self.shells[0].borrow_mut().conn(self.id).map_or(0, |conn| conn.outbox.bytes())
        }

        fn is_waiting(&self) -> bool {
            let mut cx = Context::from_waker(Waker::noop());
            self.shells[0].borrow_mut().poll_fetch(&mut cx, self.id).is_ready()
        }
    }

    fn channel() -> ChannelName {
        ChannelName::new("chat:a").expect("a name")
    }

    fn subscribe() -> Command {
        Command::Subscribe { subs: vec![SubOptions::new(channel())], many: false }
    }

    #[test]
    fn messages_wait_until_the_client_has_them_and_commands_are_answered_elsewhere() {
        run(async |mut pair| {
            assert!(matches!(pair.forward(subscribe()), ReplyBody::Subscribed(_)));
            assert!(!pair.is_waiting(), "the answer went to the request");
            let shell = pair.shells[0].clone();
            let id = pair.id;
            let woken = tokio::task::spawn_local(poll_fn(move |cx| shell.borrow_mut().poll_fetch(cx, id)));
            tokio::task::yield_now().await;
            assert!(!woken.is_finished());
            pair.publish("\"one\"");
            pair.publish("\"two\"");
            woken.await.expect("something waits");
            let frames = pair.fetch();
            assert_eq!(frames, pair.fetch(), "what was lost on its way is given again");
            let texts = String::from_utf8_lossy(&frames.concat()).into_owned();
            assert!(texts.contains("one") && texts.contains("two"), "{texts}");
            let first = frames[0].len();
            assert_eq!(pair.shells[0].borrow_mut().fetch(id, 1), frames[..1], "one frame at least");
            pair.fetched(first);
            assert_eq!(pair.fetch(), frames[1..]);
            pair.take();
            assert!(!pair.is_waiting());
            assert_eq!(pair.shells[0].borrow().counters.outbox_bytes, 0);
        });
    }

    #[test]
    fn a_client_that_does_not_come_is_behind_within_its_bound_and_misses_nothing() {
        run(async |mut pair| {
            pair.forward(subscribe());
            for number in 0..100 {
                pair.publish(&format!("\"number {number};\""));
                assert!(pair.waiting_bytes() < 2_300, "{} bytes wait", pair.waiting_bytes());
            }
            let mut heard = String::new();
            while pair.is_waiting() {
                heard += &pair.take();
            }
            for number in 0..100 {
                assert_eq!(heard.matches(&format!("number {number};")).count(), 1, "number {number}");
            }
        });
    }

    #[test]
    fn its_last_words_wait_for_a_while_and_then_it_is_over() {
        for comes in [true, false] {
            run(async |mut pair| {
                tokio::task::yield_now().await;
                {
                    let mut shell = pair.shells[0].borrow_mut();
                    let now = shell.now();
                    shell.act(now, Input::Close { conn: pair.id, reason: Disconnect::Kicked });
                }
                assert!(pair.is_waiting());
                assert!(matches!(pair.forward(subscribe()), ReplyBody::Error(_)), "the session is over");
                if comes {
                    let words = pair.take();
                    assert!(words.contains("kicked"), "{words}");
                    assert_eq!(pair.shells[0].borrow().open, 0);
                }
                let close_timeout = pair.shells[0].borrow().config.close_timeout;
                tokio::time::sleep(close_timeout * 2).await;
                let shell = pair.shells[0].borrow();
                assert_eq!((shell.open, shell.readers, shell.counters.outbox_bytes), (0, 0, 0));
            });
        }
    }
}
