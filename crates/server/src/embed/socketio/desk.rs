//! Runs the handlers of Socket.IO: off the shards, one at a time for each socket, with bounds and deadlines.
//!
//! In: clients that ask to enter a namespace ([`Entering`]), and what sockets do ([`HandledSocket`]), told by a shard.
//! Out: the decision of the guards ([`Decision`]), and the operations of the handlers. A socket's queue has a task only
//! while there is something in it. A connection that fills its queues is not read until its handlers have caught up,
//! and the number of handlers that run at once is bounded (`places`). A socket that goes on after a cut begins when the
//! handlers of the one before are done. A handler that panics or is too
//! slow is logged and counted, and only its event is lost.

use super::args::NotArgs;
use super::data::SocketExtensions;
use super::extract::{AckState, EventCall, SocketCall};
use super::handler::{NamespaceHandlers, OutcomeFuture};
use super::handshake::{Handshake, HandshakeParts};
use super::io::Io;
use super::kept::Kept;
use super::kinds::{Done, Outcome};
use super::places::{ConnectionPlaces, Places};
use super::sequence::Sequence;
use super::socket::{Socket, SocketParts};
use crate::clock::Clock;
use crate::control::Control;
use crate::embed::answer::{Identity, Refusal};
use crate::embed::dispatch;
use crate::embed::extract::{Call, Subject};
use crate::embed::handle::Handle;
use crate::logs;
use crate::protocol::socketio::{
    Admission, Decision, Entering, HandledSocket, Opaque, Payload, Reason, SocketKey, Unwanted,
};
use crate::request::Peer;
use crate::watch::{HookResult, Watch};
use bytes::Bytes;
use fanfare_hub::{Attachment, Caller, ConnId, Connected, ErrorCode, Identified, Room};
use futures_util::FutureExt as _;
use std::collections::VecDeque;
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};
use tokio::runtime;
use tokio::sync::mpsc::UnboundedSender;

/// The memory of an event besides its payload.
const EVENT_BYTES: usize = 256;

/// The surroundings of handlers, for the sockets of one shard.
pub(crate) struct Desk {
    /// Where handlers run.
    pub(crate) runtime: runtime::Handle,
    pub(crate) handle: Handle,
    pub(crate) clock: Clock,
    pub(crate) deadline: Duration,
    pub(crate) watch: Arc<Watch>,
    /// To the shard.
    pub(crate) back: UnboundedSender<Control>,
    /// Those of the handlers and guards that may run.
    pub(crate) places: Places,
    /// Events of one connection that wait; at this many it is not read.
    pub(crate) events_max: usize,
    /// Their bytes; above this number it is not read.
    pub(crate) bytes_max: usize,
}

impl Desk {
    /// Asks the guards. The decision comes back to the shard.
    pub(crate) fn enter(self: &Arc<Self>, conn: ConnId, peer: Peer, entering: Entering) {
        let Entering { seat, namespace, handlers, goes_on, auth, request, of_connection } = entering;
        let Ok(handlers) = handlers.downcast() else { return }; // they are of our registry
        let key = SocketKey::new(conn, seat);
        let gate = of_connection.and_then(|gate| gate.downcast().ok());
        let gate = gate.unwrap_or_else(|| Arc::new(Gate::new(self, conn)));
        let time_ms = self.clock.now().wall_ms;
        let handshake = HandshakeParts { namespace: namespace.clone(), auth, peer, request, time_ms };
        let handled = Queued(Arc::new(QueuedParts {
            desk: self.clone(),
            handlers,
            gate,
            handshake: Handshake(Arc::new(handshake)),
            data: SocketExtensions::default(),
            io: Io::new(Sequence::new(self.back.clone(), Some(key), namespace), self.handle.sockets().clone()),
            key,
            kept: Kept::new(),
            known: OnceLock::new(),
            socket: OnceLock::new(),
            queue: Mutex::default(),
        }));
        let back = self.back.clone();
        let decide = async move {
            let result = handled.ask_guards(goes_on).await;
            let result = result.map(|identity| Admission { handled: Box::new(handled), identity });
            let decision = Control::SocketIoDecision(conn, Box::new(Decision { seat, result }));
            let _ = back.send(decision); // a shard that has ended needs no answer
        };
        self.runtime.spawn(decide);
    }

    /// Runs one handler to its end, or to its deadline.
    async fn run(&self, hook: usize, name: &str, future: OutcomeFuture) -> Done {
        let begin = Instant::now();
        let done = match tokio::time::timeout(self.deadline, AssertUnwindSafe(future).catch_unwind()).await {
            Ok(Ok(Outcome(done))) => done,
            Ok(Err(panic)) => {
                logs::limited!(Handler, ERROR, handler = name, panic = dispatch::text(&*panic), "a handler panicked");
                Done::Refused(Refusal::failed())
            }
            Err(_) => {
                let deadline_ms = self.deadline.as_millis() as u64;
                logs::limited!(Handler, ERROR, handler = name, deadline_ms, "a handler was too slow and was dropped");
                let message = format!("the handler did not answer within {deadline_ms} ms");
                Done::Refused(Refusal::new(ErrorCode::Timeout, message))
            }
        };
        let result = match &done {
            Done::Refused(refusal) => HookResult::of(refusal.error()),
            _ => HookResult::Answered,
        };
        self.watch.hooks.ended(hook, result, begin.elapsed());
        done
    }
}

/// A client's place in a namespace, on the side of the program: it is asked about, then it is a socket with a queue of
/// events. A clone is the same place.
#[derive(Clone)]
struct Queued(Arc<QueuedParts>);

struct QueuedParts {
    desk: Arc<Desk>,
    handlers: Arc<NamespaceHandlers>,
    gate: Arc<Gate>,
    key: SocketKey,
    handshake: Handshake,
    /// The values that its guards see.
    data: SocketExtensions,
    io: Io,
    /// For the socket that its client is after a cut.
    kept: Kept,
    /// Set when the hub knows it.
    known: OnceLock<Caller>,
    /// Set when it has entered.
    socket: OnceLock<Socket>,
    queue: Mutex<Queue>,
}

impl Drop for QueuedParts {
    fn drop(&mut self) {
        self.kept.is_over();
    }
}

#[derive(Default)]
struct Queue {
    waiting: VecDeque<Item>,
    /// A task takes them out.
    is_running: bool,
}

enum Item {
    /// The handlers of the socket that it was before a cut are to be done first.
    After(Kept),
    Entered,
    Event {
        name: Box<str>,
        args: Arc<str>,
        attachments: Vec<Bytes>,
        ack: Option<u64>,
        bytes: usize,
    },
    Left(Reason),
}

impl HandledSocket for Queued {
    fn program(&self) -> Attachment {
        self.0.kept.attachment()
    }

    /// The hub knows the client.
    fn known(&self, connected: &Connected) {
        let Connected { client, user, proof, before, .. } = connected;
        if let Some(before) = before {
            self.0.kept.follows(before);
        }
        let (user, info, claims) = (user.clone(), proof.info.clone(), proof.claims.clone());
        let _ = self.0.known.set(Caller { client: Some(*client), user, info, claims }); // it is known once
    }

    /// The client has entered: its socket begins, or goes on in these rooms.
    fn entered(&self, recovered: Option<&[Room]>) {
        let Some(caller @ Caller { client: Some(client), .. }) = self.0.known.get() else { return };
        let (data, before) = self.0.kept.entered(&self.0.data, recovered.is_some());
        let parts = SocketParts {
            id: client.to_string().into(),
            client: *client,
            caller: caller.clone(),
            handshake: self.0.handshake.clone(),
            data,
            io: self.0.io.clone(),
            rooms: Mutex::default(),
            recovered: recovered.is_some(),
            has_left: AtomicBool::new(false),
        };
        let socket = Socket(Arc::new(parts));
        if self.0.socket.set(socket.clone()).is_err() {
            return; // it enters once
        }
        self.0.desk.handle.sockets().insert(&socket);
        match recovered {
            Some(rooms) => socket.note_join(rooms),
            None => drop(socket.join(socket.id())), // its own room, before anything that a handler does
        }
        if let Some(before) = before {
            self.put(Item::After(before));
        }
        self.put(Item::Entered);
    }

    fn key(&self) -> SocketKey {
        self.0.key
    }

    /// The client has sent an event. `args` is a JSON array. False if the connection must not be read now: the shard
    /// gets a [`Control::SocketIoReady`] when it may.
    fn event(&self, name: &str, args: String, attachments: Vec<Bytes>, ack: Option<u64>) -> bool {
        let bytes = EVENT_BYTES + name.len() + args.len() + attachments.iter().map(Bytes::len).sum::<usize>();
        let Desk { events_max, bytes_max, .. } = *self.0.desk;
        let goes_on = self.0.gate.add(bytes, events_max, bytes_max);
        self.put(Item::Event { name: name.into(), args: args.into(), attachments, ack, bytes });
        goes_on
    }

    /// The socket has left, or its connection has ended. Only the first reason counts. It counts as an event: a client
    /// that enters and leaves all the time is not read while its handlers are behind.
    fn left(&self, reason: Reason) -> bool {
        let Some(socket) = self.0.socket.get() else { return true };
        if !socket.leaves() {
            return true;
        }
        let Desk { events_max, bytes_max, .. } = *self.0.desk;
        self.0.desk.places.end_begins();
        let goes_on = self.0.gate.add(self.end_bytes(), events_max, bytes_max);
        self.put(Item::Left(reason));
        goes_on
    }

    fn auth_json(&self) -> &str {
        self.0.handshake.auth_json()
    }

    fn of_connection(&self) -> Opaque {
        self.0.gate.clone()
    }
}

impl Queued {
    /// The memory of a socket that has left.
    fn end_bytes(&self) -> usize {
        EVENT_BYTES + self.0.handshake.auth_json().len()
    }

    fn put(&self, item: Item) {
        let mut queue = self.queue();
        queue.waiting.push_back(item);
        if !std::mem::replace(&mut queue.is_running, true) {
            let handled = self.clone();
            self.0.desk.runtime.spawn(async move { handled.work().await });
        }
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.0.queue.lock().unwrap_or_else(PoisonError::into_inner) // nothing in here panics between two changes
    }

    fn next(&self) -> Option<Item> {
        let mut queue = self.queue();
        let item = queue.waiting.pop_front();
        if item.is_none() {
            *queue = Queue::default(); // an idle socket holds no memory for it
        }
        item
    }

    async fn work(self) {
        while let Some(item) = self.next() {
            if let Item::After(before) = item {
                before.over().await;
                continue;
            }
            let Some(socket) = self.0.socket.get() else { continue };
            let held = self.0.desk.places.handler(&self.0.gate.places).await;
            held.run(self.handle(socket, item)).await;
        }
    }

    async fn handle(&self, socket: &Socket, item: Item) {
        match item {
            Item::After(_) => {}
            Item::Entered => {
                if let Some(handler) = &self.0.handlers.connect {
                    let call = self.call(Some(socket), None, None);
                    let done = self.0.desk.run(SOCKET_CONNECT, "on_connect", handler.run(call.clone())).await;
                    log_refusal(&call, done);
                }
            }
            Item::Event { name, args, attachments, ack, bytes } => {
                self.handle_event(socket, EventCall { name, args, attachments, ack: AckState::new(ack) }).await;
                self.0.gate.done(bytes, &self.0.desk);
            }
            Item::Left(reason) => {
                if let Some(handler) = &self.0.handlers.disconnect {
                    let call = self.call(Some(socket), None, Some(reason));
                    let done = self.0.desk.run(SOCKET_DISCONNECT, "on_disconnect", handler.run(call.clone())).await;
                    log_refusal(&call, done);
                }
                self.0.kept.is_over();
                self.0.gate.done(self.end_bytes(), &self.0.desk);
                self.0.desk.places.end_is_done();
            }
        }
    }

    async fn handle_event(&self, socket: &Socket, event: EventCall) {
        let QueuedParts { desk, handlers, .. } = &*self.0;
        let ack = event.ack.clone();
        let call = self.call(Some(socket), Some(event), None);
        let name = call.subject.handler();
        for handler in &handlers.uses {
            if let Done::Refused(refusal) = desk.run(SOCKET_EVENT, name, handler.run(call.clone())).await {
                return acknowledge(socket, &ack, refused(&call, refusal));
            }
        }
        for handler in &handlers.any {
            let done = desk.run(SOCKET_EVENT, name, handler.run(call.clone())).await;
            log_refusal(&call, done);
        }
        let Some(handler) = handlers.events.get(name) else { return };
        let payload = match desk.run(SOCKET_EVENT, name, handler.run(call.clone())).await {
            Done::Refused(refusal) => refused(&call, refusal),
            Done::Ack(payload) if !ack.is_taken.load(SeqCst) => payload,
            Done::Ack(_) | Done::Quietly | Done::Admitted(_) => return,
        };
        acknowledge(socket, &ack, payload);
    }

    /// `goes_on`: the client was let in before, as the socket that it is again, and no guard is asked.
    async fn ask_guards(&self, goes_on: bool) -> Result<Option<Box<Identified>>, Unwanted> {
        let QueuedParts { desk, handlers, gate, .. } = &*self.0;
        if !desk.places.may_enter() {
            return Err(Unwanted::Overloaded);
        }
        if goes_on || handlers.guards.is_empty() {
            return Ok(None);
        }
        let held = desk.places.guard(&gate.places).await.ok_or(Unwanted::Overloaded)?;
        let ask = async {
            let mut identity = None;
            for guard in &handlers.guards {
                let call = self.call(None, None, None);
                match desk.run(SOCKET_GUARD, "guard", guard.run(call.clone())).await {
                    Done::Refused(refusal) => {
                        refusal.log(&call);
                        let (message, data) = refusal.into_message();
                        return Err(Unwanted::Refused { message, data });
                    }
                    Done::Admitted(Some(user)) => identity = Some(user),
                    _ => {}
                }
            }
            Ok(identity.map(|identity| Box::new(Identity::identified(*identity, &desk.clock))))
        };
        held.run(ask).await
    }

    fn call(&self, socket: Option<&Socket>, event: Option<EventCall>, reason: Option<Reason>) -> Arc<Call> {
        let QueuedParts { desk, handshake, data, io, .. } = &*self.0;
        let nobody = Caller { client: None, user: None, info: None, claims: None };
        let caller = socket.map_or(nobody, |socket| socket.caller().clone());
        let name = event.as_ref().map(|event| event.name.clone());
        Arc::new(Call {
            caller,
            subject: Subject::Socket { namespace: handshake.namespace().into(), event: name },
            request: handshake.request().cloned(),
            handle: desk.handle.clone(),
            clock: desk.clock.clone(),
            socket: Some(SocketCall {
                socket: socket.cloned(),
                io: io.clone(),
                handshake: handshake.clone(),
                data: socket.map_or(data, Socket::data).clone(),
                event,
                reason,
            }),
        })
    }
}

/// The error for a client that asked for an ack.
fn refused(call: &Call, refusal: Refusal) -> Result<Payload, NotArgs> {
    refusal.log(call);
    Payload::ack(&refusal.for_ack())
}

/// A refusal that no client hears of.
fn log_refusal(call: &Call, done: Done) {
    if let Done::Refused(refusal) = done {
        refusal.log(call);
    }
}

fn acknowledge(socket: &Socket, ack: &AckState, payload: Result<Payload, NotArgs>) {
    match payload {
        Ok(payload) => drop(ack.send(socket, payload)),
        Err(problem) => {
            logs::limited!(Handler, ERROR, %problem, "a handler returned a value that cannot be an ack");
            if let Ok(payload) = Payload::ack(&Refusal::failed().for_ack()) {
                drop(ack.send(socket, payload));
            }
        }
    }
}

/// The places of these handlers in [`HOOKS`](crate::watch::HOOKS).
const SOCKET_GUARD: usize = 5;
const SOCKET_CONNECT: usize = 6;
pub(crate) const SOCKET_EVENT: usize = 7;
const SOCKET_DISCONNECT: usize = 8;

/// Counts the events of one connection that wait for their handlers, and its handlers that run.
struct Gate {
    back: UnboundedSender<Control>,
    conn: ConnId,
    places: ConnectionPlaces,
    events: AtomicUsize,
    bytes: AtomicUsize,
    /// The connection is not read.
    is_closed: AtomicBool,
}

impl Gate {
    fn new(desk: &Desk, conn: ConnId) -> Self {
        let (events, bytes, is_closed) = (AtomicUsize::new(0), AtomicUsize::new(0), AtomicBool::new(false));
        let (back, places) = (desk.back.clone(), desk.places.of_connection());
        Gate { back, conn, places, events, bytes, is_closed }
    }

    /// One more event waits. False if the connection must not be read now.
    fn add(&self, bytes: usize, events_max: usize, bytes_max: usize) -> bool {
        self.events.fetch_add(1, SeqCst);
        self.bytes.fetch_add(bytes, SeqCst);
        if self.is_open(events_max, bytes_max) {
            return true;
        }
        self.is_closed.store(true, SeqCst);
        // The handlers may have caught up before that was stored; then they did not see it.
        self.is_open(events_max, bytes_max) && self.is_closed.swap(false, SeqCst)
    }

    fn is_open(&self, events_max: usize, bytes_max: usize) -> bool {
        self.events.load(SeqCst) < events_max && self.bytes.load(SeqCst) <= bytes_max
    }

    /// An event has been handled.
    fn done(&self, bytes: usize, desk: &Desk) {
        self.events.fetch_sub(1, SeqCst);
        self.bytes.fetch_sub(bytes, SeqCst);
        if self.is_open(desk.events_max, desk.bytes_max) && self.is_closed.swap(false, SeqCst) {
            let _ = self.back.send(Control::SocketIoReady(self.conn)); // a shard that has ended reads nothing
        }
    }
}
