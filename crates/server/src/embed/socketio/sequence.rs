//! The way of a handler's operations to the shards: one queue, so that they take effect in program order.
//!
//! In: an [`Operation`] of a socket, or of a namespace as a whole. It goes to the shard of the socket, or else to the
//! home of the namespace's channel, and is done there behind all earlier ones. Sending never waits. Operations that the
//! shard has not taken yet are counted in bytes: awaiting a [`Sending`] waits until there is room, and beyond
//! [`WAITING_BYTES_MAX`] an operation is refused and logged.

use super::args::NotArgs;
use crate::control::Control;
use crate::logs;
use crate::protocol::socketio::{OnItsWay, Operation, SocketKey};
use fanfare_hub::{Audience, Error, ErrorCode, MembersOp, Room};
use std::future::IntoFuture;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use tokio::sync::Notify;
use tokio::sync::mpsc::UnboundedSender;

/// Above this number of bytes an awaited operation waits.
const WAITING_BYTES_ROOM: usize = 1 << 20;
/// Above this number an operation is refused. A program reaches it if it sends in a loop without awaiting.
const WAITING_BYTES_MAX: usize = 64 << 20;
/// The cost of an operation besides its payload.
const OPERATION_BYTES: usize = 256;

/// The queue for the operations of one socket, or of one user of a namespace.
#[derive(Clone)]
pub(crate) struct Sequence(Arc<Parts>);

struct Parts {
    control: UnboundedSender<Control>,
    from: Option<SocketKey>,
    namespace: Arc<str>,
    waiting: Arc<Waiting>,
}

#[derive(Default)]
struct Waiting {
    bytes: AtomicUsize,
    room: Notify,
}

/// Bytes of an operation that waits. Dropping it gives their room back.
struct Hold(Arc<Waiting>, usize);

impl Drop for Hold {
    fn drop(&mut self) {
        let before = self.0.bytes.fetch_sub(self.1, SeqCst);
        if before > WAITING_BYTES_ROOM && before - self.1 <= WAITING_BYTES_ROOM {
            self.0.room.notify_waiters();
        }
    }
}

impl Sequence {
    pub(crate) fn new(control: UnboundedSender<Control>, from: Option<SocketKey>, namespace: Arc<str>) -> Self {
        Sequence(Arc::new(Parts { control, from, namespace, waiting: Arc::default() }))
    }

    pub(crate) fn namespace(&self) -> &Arc<str> {
        &self.0.namespace
    }

    /// Sends an operation.
    pub(crate) fn put(&self, operation: Operation) -> Sending {
        let Parts { control, from, namespace, waiting } = &*self.0;
        let bytes = OPERATION_BYTES + operation.bytes();
        let before = waiting.bytes.fetch_add(bytes, SeqCst);
        let hold = Hold(waiting.clone(), bytes);
        if before + bytes > WAITING_BYTES_MAX {
            let message = format!(
                "{before} bytes of operations wait for the server, the limit is {WAITING_BYTES_MAX}: await some of them"
            );
            return self.refused(Error::new(ErrorCode::Unavailable, message));
        }
        let on_its_way = OnItsWay { namespace: namespace.clone(), operation, hold: Box::new(hold) };
        if control.send(Control::SocketIo(*from, Box::new(on_its_way))).is_err() {
            return self.failed(Error::new(ErrorCode::Unavailable, "the server has stopped"));
        }
        self.nothing()
    }

    /// The same for an operation that is made of values of the program.
    pub(crate) fn put_made(&self, operation: Result<Operation, NotArgs>) -> Sending {
        match operation {
            Ok(operation) => self.put(operation),
            Err(problem) => {
                let message = format!("the arguments of an event cannot be sent: {problem}");
                self.refused(Error::new(ErrorCode::BadRequest, message))
            }
        }
    }

    /// Nothing is to be done.
    pub(super) fn nothing(&self) -> Sending {
        Sending { result: Ok(()), waiting: self.0.waiting.clone() }
    }

    /// An operation that cannot be done, which is the program's mistake.
    pub(crate) fn refused(&self, error: Error) -> Sending {
        let (namespace, error_text) = (&**self.namespace(), &*error.message);
        logs::limited!(Handler, ERROR, namespace, error = error_text, "an operation of a Socket.IO handler failed");
        self.failed(error)
    }

    fn failed(&self, error: Error) -> Sending {
        Sending { result: Err(error), waiting: self.0.waiting.clone() }
    }
}

impl Operation {
    fn bytes(&self) -> usize {
        let room = |room: &Room| size_of::<Room>() + room.as_str().len();
        let of = |audience: &Audience| audience.rooms.iter().chain(&audience.except_rooms).map(room).sum::<usize>();
        match self {
            Operation::Join(rooms) => rooms.iter().map(room).sum(),
            Operation::Emit { payload, audience, key } => {
                payload.bytes() + of(audience) + key.as_deref().map_or(0, str::len)
            }
            Operation::Ack(_, payload) | Operation::Ask(_, payload, ..) => payload.bytes(),
            Operation::AskAll(_, payload, audience, ..) => payload.bytes() + of(audience),
            Operation::Members(audience, op, _) => {
                of(audience)
                    + match op {
                        MembersOp::Join { rooms } | MembersOp::Leave { rooms } => rooms.iter().map(room).sum(),
                        MembersOp::Volatile { data } => data.bytes().len(),
                        _ => 0,
                    }
            }
            Operation::Leave(_) | Operation::Disconnect { .. } | Operation::AskUntil(..) => 0,
        }
    }
}

/// An operation that has been sent. It needs no `await`: the operations of a handler take effect in program order
/// anyway. Awaiting it waits while many operations of the same socket are on their way, so a loop that sends much
/// should do that; and it tells an error.
///
/// # Errors
/// `bad_request` for arguments that cannot be written as JSON, are nested too deeply or have too many attachments, and
/// for the name of a room that is too long; `unavailable` if the server has stopped, or if 64 MiB of operations wait.
/// Such an operation is not done, and the log says so.
pub struct Sending {
    result: Result<(), Error>,
    waiting: Arc<Waiting>,
}

impl Sending {
    /// The error, without waiting.
    pub fn result(self) -> Result<(), Error> {
        self.result
    }
}

impl IntoFuture for Sending {
    type Output = Result<(), Error>;
    type IntoFuture = Pin<Box<dyn Future<Output = Result<(), Error>> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move {
            self.result?;
            loop {
                let room = self.waiting.room.notified();
                tokio::pin!(room);
                room.as_mut().enable(); // before the look, so that no notification is missed
                if self.waiting.bytes.load(SeqCst) <= WAITING_BYTES_ROOM {
                    return Ok(());
                }
                room.await;
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::socketio::Payload;
    use tokio::sync::mpsc::unbounded_channel;

    fn big() -> Operation {
        Operation::Ack(1, Payload { json: vec![b'1'; 1 << 20], attachments: Vec::new() })
    }

    #[test]
    fn waiting_operations_are_bounded_and_an_await_waits_for_room() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        runtime.block_on(async {
            let (control, mut shard) = unbounded_channel();
            let sequence = Sequence::new(control, None, "/".into());
            sequence.put(Operation::Leave(Room::new("a").expect("a name"))).await.expect("there is room");
            let mut sent = 0;
            let refused = loop {
                match sequence.put(big()).result() {
                    Ok(()) => sent += 1,
                    Err(error) => break error,
                }
            };
            assert_eq!((sent, refused.code), (63, ErrorCode::Unavailable));
            let waits = tokio::spawn(sequence.put(Operation::Disconnect { close: false }).into_future());
            for _ in 0..=sent {
                tokio::task::yield_now().await;
                assert!(!waits.is_finished());
                drop(shard.recv().await.expect("an operation"));
            }
            waits.await.expect("no panic").expect("there is room");
            drop(shard);
            let stopped = sequence.put(big()).await.expect_err("it has stopped");
            assert_eq!(stopped.code, ErrorCode::Unavailable);
        });
    }
}
