//! The application's handlers of a namespace, on the side of the protocol: what a client does goes to them, and what
//! they do comes back.
//!
//! In: a client that enters a namespace with handlers, its events, its end. Out: a question for the guards, and the
//! events for its [`HandledSocket`]. Back: the guards' [`Decision`], and [`Operation`]s in the order in which handlers
//! made them. A namespace with handlers has no built-in events.

use super::Reason;
use super::bridge::take_bridged;
use super::builtin::Asked;
use super::conversation::{Client, Socket, Stage, of_room, refuse};
use super::seam::{
    AckArgs, AckSender, Admission, Decision, Entering, HandledSocket, MembersQuestion, Opaque, Operation, SocketKey,
    Unwanted,
};
use crate::protocol::Actions;
use fanfare_hub::{
    Answers, AppCommand, Audience, ChannelName, ClientId, Connect, Data, Disconnect, Error, Identified, MembersCommand,
    MembersOp, Proof, RoomCommand, Seat,
};
use fanfare_wire::socketio::{Event, Packet};

impl Client {
    /// Asks the guards about the client in this seat.
    pub(super) fn ask_guards(&self, seat: Seat, handlers: Opaque, auth: Option<&str>, actions: &mut Actions) {
        let socket = &self.sockets[usize::from(seat.0)];
        actions.entering = Some(Box::new(Entering {
            seat,
            namespace: (*socket.namespace.name).into(),
            handlers,
            goes_on: socket.is_unasked(),
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
                let program = socket.parts.recovers().then(|| handled.program());
                let mut connect = Connect { program, ..Connect::default() };
                if let Some(identified) = identity.map(|identity| *identity) {
                    let Identified { user, info, expires_ms, subscribe, grants, claims, labels } = identified;
                    connect.user = user;
                    connect.proof =
                        Proof { info, expires_ms, granted: subscribe, grants: grants.into(), claims, labels };
                }
                socket.stage = Stage::Asking;
                actions.requests.push(socket.enter(Some(handled.auth_json()), connect));
                self.of_connection.get_or_insert_with(|| handled.of_connection());
                socket.handled = Some(handled);
            }
            Err(Unwanted::Overloaded) => {
                socket.stage = Stage::Outside;
                actions.close(Disconnect::Overloaded); // a client that gets `connect_error` does not come back by itself
            }
            Err(Unwanted::Refused { message, data }) => {
                socket.stage = Stage::Outside;
                refuse(actions, &socket.namespace.name, &message, data.as_deref());
            }
        }
    }

    /// The connection has ended.
    pub(crate) fn ended(&mut self, reason: Reason) {
        for socket in &mut self.sockets {
            socket.tell_left(reason); // nothing more is read anyway
        }
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

    fn operate(&mut self, operation: Operation, actions: &mut Actions) -> Option<Operation> {
        let Stage::Inside(client) = self.stage else { return Some(operation) };
        let channel = self.namespace.channel.clone();
        match operation {
            Operation::Join(rooms) => {
                for room in rooms {
                    if self.enters_channel(client, &room, actions) {
                        continue;
                    }
                    actions.requests.push(of_room(RoomCommand::Join { channel: channel.clone(), room }));
                }
            }
            Operation::Leave(room) => {
                if self.leaves_channel(&room, actions) {
                    return None;
                }
                actions.requests.push(of_room(RoomCommand::Leave { channel, room }));
            }
            // Repeats come from any socket, so a key is unique in the namespace: the application publishes it.
            Operation::Emit { key: Some(_), .. } => return Some(operation),
            Operation::Emit { payload, audience, key: None } => {
                let publish = |command| actions.operations.push(command);
                let rest = take_bridged(&self.parts.bridge, &self.namespace.name, (&payload, None), audience, publish);
                if let Some(audience) = rest {
                    self.publish(payload.json, &payload.attachments, audience, &Asked::default(), actions);
                }
            }
            Operation::Ask(key, payload, timeout_ms, to) => {
                let (data, key, room) = (payload.into_data(), Some(key), None);
                let audience = Audience { only: vec![client], ..Audience::default() };
                let on_answers = Box::new(move |result| give_ack(result, to));
                actions.questions.push(MembersQuestion { key, channel, audience, data, timeout_ms, on_answers, room });
            }
            // These take their places behind all that the handlers have done before.
            Operation::Ack(id, payload) => {
                let data = payload.into_data();
                actions.operations.push(to_one(channel, client, MembersOp::Answer { id, data }));
            }
            Operation::Disconnect { close } => {
                actions.operations.push(to_one(channel, client, MembersOp::Disconnect { whole: close }));
            }
            Operation::Members(..) | Operation::AskAll(..) | Operation::AskUntil(..) => return Some(operation),
        }
        None
    }
}

/// An operation on one socket.
fn to_one(channel: ChannelName, client: ClientId, op: MembersOp) -> AppCommand {
    let audience = Audience { only: vec![client], ..Audience::default() };
    AppCommand::Members(Box::new(MembersCommand { channel, audience, op }))
}

/// Gives the answer of a client to the handler that waits for it. Without one it sees that the sender is gone.
fn give_ack(result: Result<Answers, Error>, to: AckSender) {
    let answer = result.ok().and_then(|answers| answers.answers.into_iter().next());
    if let Some((_, data)) = answer {
        let _ = to.send(AckArgs::of(&data)); // nobody may wait for it any more
    }
}

impl AckArgs {
    /// The arguments of an answer.
    pub(crate) fn of(data: &Data) -> Self {
        let (json, attachments) = match data {
            Data::Json(json) => (String::from_utf8_lossy(json).into(), Vec::new()),
            Data::Binary(bundle) => {
                let mut parts = fanfare_wire::socketio::parts(bundle);
                let json = String::from_utf8_lossy(parts.next().unwrap_or_default()).into();
                (json, parts.map(|part| bundle.slice_ref(part)).collect())
            }
        };
        AckArgs { json, attachments }
    }
}
