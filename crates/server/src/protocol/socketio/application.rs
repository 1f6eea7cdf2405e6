//! The application's handlers of a namespace, on the side of the protocol: what a client does goes to them, and what
//! they do comes back.
//!
//! In: a client that enters a namespace with handlers, its events, its end. Out: a question for the guards, and the
//! events for its [`HandledSocket`]. Back: the guards' [`Decision`], and [`Operation`]s in the order in which handlers
//! made them. A namespace with handlers has no built-in events.

use super::MESSAGE;
use super::Reason;
use super::conversation::{Client, Socket, Stage, silent};
use super::namespaces::Namespace;
use super::seam::{
    AckArgs, AckSender, Admission, Decision, Entering, HandledSocket, Opaque, Operation, Payload, SocketKey, Unwanted,
};
use crate::protocol::{Actions, Message};
use fanfare_hub::{Command, Connect, Disconnect, Identified, Proof, RoomCommand, Seat};
use fanfare_wire::socketio::{Event, Kind, Packet, put_connect_error, put_head};
use std::collections::HashMap;

impl Client {
    /// Asks the guards about a client.
    pub(super) fn ask_guards(
        &self,
        seat: Seat,
        namespace: &Namespace,
        handlers: Opaque,
        auth: Option<&str>,
        actions: &mut Actions,
    ) {
        actions.entering = Some(Box::new(Entering {
            seat,
            namespace: (*namespace.name).into(),
            handlers,
            auth: auth.map(Into::into),
            request: self.request.clone(),
            of_connection: self.of_connection.clone(),
        }));
    }

    /// The guards have decided.
    pub(crate) fn decided(&mut self, decision: Decision, actions: &mut Actions) {
        let Decision { seat, result } = decision;
        let Some(socket) = self.sockets.get_mut(usize::from(seat.0)) else { return };
        if socket.stage != Stage::Guarded {
            return;
        }
        match result {
            Ok(Admission { handled, identity }) => {
                let mut connect = Connect::default();
                if let Some(Identified { user, info, expires_ms, subscribe }) = identity.map(|identity| *identity) {
                    connect.user = user;
                    connect.proof = Proof { info, expires_ms, granted: subscribe };
                }
                socket.stage = Stage::Asking;
                actions.requests.push(socket.enter(Some(handled.auth_json()), connect));
                self.of_connection.get_or_insert_with(|| handled.of_connection());
                socket.handled = Some(handled);
            }
            Err(Unwanted { message, data }) => {
                socket.stage = Stage::Outside;
                let mut out = vec![MESSAGE];
                put_connect_error(&mut out, &socket.namespace.name, &message, data.as_deref());
                actions.answer(Message::Text(std::str::from_utf8(&out).unwrap_or_default()));
            }
        }
    }

    /// The connection has ended.
    pub(crate) fn ended(&mut self, reason: Reason) {
        self.sockets.iter_mut().filter_map(|socket| socket.handled.take()).for_each(|handled| handled.left(reason));
    }

    /// Does an operation of a handler. It comes back if its socket has left: others may still be meant.
    pub(crate) fn operate(&mut self, key: SocketKey, operation: Operation, actions: &mut Actions) -> Option<Operation> {
        let socket = self.sockets.get_mut(usize::from(key.seat.0));
        match socket.filter(|socket| socket.handled.as_ref().is_some_and(|handled| handled.key() == key)) {
            Some(socket) => socket.operate(operation, actions),
            None => Some(operation),
        }
    }
}

/// The events of handlers that a client has not acknowledged yet.
#[derive(Default)]
pub(super) struct Acks {
    next: u64,
    open: HashMap<u64, AckSender>,
}

impl Acks {
    /// The number of the next one. Beyond [`ACKS_MAX`] that are waited for, nobody gets its ack.
    fn expect_one(&mut self, to: AckSender) -> u64 {
        let id = self.next;
        self.next += 1;
        if self.open.len() >= ACKS_MAX {
            self.open.retain(|_, to| !to.is_closed());
        }
        if self.open.len() < ACKS_MAX {
            self.open.insert(id, to);
        }
        id
    }
}

/// The most acks that one socket may owe.
const ACKS_MAX: usize = 1024;

impl Socket {
    /// Gives an event to the handlers.
    pub(super) fn hand_over(handled: &dyn HandledSocket, packet: &Packet<'_>, actions: &mut Actions) {
        let data = packet.data.as_deref().unwrap_or_default();
        let Some(event) = Event::of(data) else { return };
        let Some(name) = event.text() else { return actions.ignored("event_name") };
        let args = format!("[{}]", event.args.rest());
        let attachments = packet.attachments.clone().unwrap_or_default();
        if !handled.event(&name, args, attachments, packet.id) {
            actions.busy = true;
        }
    }

    /// The client has answered an event.
    pub(super) fn acked(&mut self, packet: &Packet<'_>, actions: &mut Actions) {
        let to = self.acks.as_mut().and_then(|acks| acks.open.remove(&packet.id?));
        let Some(to) = to else { return actions.ignored("ack") };
        let json = packet.data.as_deref().unwrap_or("[]").into();
        let attachments = packet.attachments.clone().unwrap_or_default();
        let _ = to.send(AckArgs { json, attachments }); // nobody may wait for it any more
    }

    fn operate(&mut self, operation: Operation, actions: &mut Actions) -> Option<Operation> {
        let Stage::Inside(_) = self.stage else { return Some(operation) };
        let channel = self.namespace.channel.clone();
        match operation {
            Operation::Join(rooms) => {
                for room in rooms {
                    let join = RoomCommand::Join { channel: channel.clone(), room };
                    actions.requests.push(silent(Command::Room(Box::new(join))));
                }
            }
            Operation::Leave(room) => {
                let leave = RoomCommand::Leave { channel, room };
                actions.requests.push(silent(Command::Room(Box::new(leave))));
            }
            Operation::Emit(Payload { json, attachments }, audience) => {
                self.publish(json, &attachments, audience, actions);
            }
            Operation::Ask(payload, to) => {
                let id = self.acks.get_or_insert_default().expect_one(to);
                self.put(Kind::Event, Some(id), &payload, actions);
            }
            Operation::Ack(id, payload) => self.put(Kind::Ack, Some(id), &payload, actions),
            Operation::Disconnect { close: true } => {
                if let Some(handled) = &self.handled {
                    handled.left(Reason::ServerDisconnected);
                }
                actions.close(Disconnect::Kicked);
            }
            Operation::Disconnect { close: false } => {
                let mut out = vec![MESSAGE];
                put_head(&mut out, Kind::Disconnect, None, &self.namespace.name, None);
                actions.answer(Message::Text(std::str::from_utf8(&out).unwrap_or_default()));
                self.leave(Reason::ServerDisconnected);
                actions.requests.push(silent(Command::Leave));
            }
        }
        None
    }

    /// Sends a packet of this socket alone.
    fn put(&self, kind: Kind, id: Option<u64>, Payload { json, attachments }: &Payload, actions: &mut Actions) {
        let mut out = vec![MESSAGE];
        let count = (!attachments.is_empty()).then_some(attachments.len());
        put_head(&mut out, kind, count, &self.namespace.name, id);
        out.extend_from_slice(json);
        actions.answer(Message::Text(std::str::from_utf8(&out).unwrap_or_default()));
        attachments.iter().for_each(|attachment| actions.answer(Message::Binary(attachment)));
    }
}
