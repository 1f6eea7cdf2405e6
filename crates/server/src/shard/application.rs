//! The handlers of Socket.IO and a shard: what they ask it to do, and what it tells them of connections.
//!
//! In: operations, decisions of guards and the sign that handlers have caught up, in the order in which they were sent.
//! Out: the actions of the connection's conversation. An operation whose socket has left is still done where it is for
//! others: the hub takes it as one of the application.

use super::{Shared, Shell, wake};
use crate::protocol::socketio::bridge::take_bridged;
use crate::protocol::socketio::{
    Client, Decision, MembersQuestion, OnItsWay, Operation, SocketIo, SocketKey, channel_of,
};
use crate::protocol::{Actions, Conversation};
use crate::request::Peer;
use fanfare_hub::{AppCommand, AppToken, ConnId, Input, MembersCommand, Now, Publish, Request, Seat};

/// The answers to commands without a caller.
pub(super) const NOBODY: AppToken = AppToken(u64::MAX);

/// Does an operation of a handler.
pub(super) fn operate(shared: &Shared, from: Option<SocketKey>, on_its_way: OnItsWay) {
    let mut shell = shared.borrow_mut();
    let now = shell.now();
    let OnItsWay { namespace, operation, hold } = on_its_way;
    drop(hold); // there is room for another one
    let mut left = Some(operation);
    if let Some(key) = from {
        shell.converse(now, key.conn, key.seat, |client, actions| {
            left = left.take().and_then(|operation| client.operate(key, operation, actions));
        });
    }
    match left {
        Some(Operation::Emit { payload, audience, key }) => {
            let config = shell.config.clone();
            let publish = |command| shell.act(now, Input::App { token: NOBODY, command });
            let keyed = (&payload, key.as_deref());
            let rest = take_bridged(&config.socketio.bridge, &namespace, keyed, audience, publish);
            let Some(audience) = rest else { return };
            let Some(publish) = SocketIo::publication(&namespace, payload) else { return };
            let publish = Publish { idempotency_key: key, ..publish };
            let (publish, audience) = (Box::new(publish), Some(Box::new(audience)));
            shell.act(now, Input::App { token: NOBODY, command: AppCommand::Publish { publish, audience, by: None } });
        }
        Some(Operation::Members(audience, op, reply)) => {
            let Some(channel) = channel_of(&namespace) else { return };
            let command = AppCommand::Members(Box::new(MembersCommand { channel, audience, op }));
            match reply {
                Some(reply) => shell.ask_for(now, reply, command),
                None => shell.act(now, Input::App { token: NOBODY, command }),
            }
        }
        Some(Operation::AskAll(key, payload, audience, timeout_ms, on_answers)) => {
            let Some(Publish { channel, data, .. }) = SocketIo::publication(&namespace, payload) else { return };
            let (key, room) = (Some(key), None);
            shell.ask_members(now, MembersQuestion { key, channel, audience, data, timeout_ms, on_answers, room });
        }
        Some(Operation::AskUntil(key, timeout_ms)) => shell.ask_until(now, key, timeout_ms),
        _ => {} // for the socket alone, and it has left
    }
}

/// The guards have decided.
pub(super) fn decided(shared: &Shared, id: ConnId, decision: Decision) {
    let mut shell = shared.borrow_mut();
    let now = shell.now();
    shell.converse(now, id, decision.seat, |client, actions| client.decided(decision, actions));
}

/// The handlers have caught up with the events of a connection.
pub(super) fn ready(shared: &Shared, id: ConnId) {
    let mut shell = shared.borrow_mut();
    if let Some(conn) = shell.conn(id) {
        conn.busy = false;
        wake(&mut conn.reader);
    }
    shell.wake_engine(id);
}

impl Shell {
    /// Lets the conversation of a connection act that no message of its client has caused.
    fn converse(&mut self, now: Now, id: ConnId, seat: Seat, act: impl FnOnce(&mut Client, &mut Actions)) {
        let mut actions = std::mem::take(&mut self.actions);
        actions.begin(now, Peer::Unknown);
        if let Some(conn) = self.conn(id).filter(|conn| !conn.closing) {
            actions.peer = conn.peer;
            actions.seat = seat;
            if let Some(client) = client(&mut *conn.conversation) {
                act(client, &mut actions);
                client.pack_answers(&mut actions);
            }
        }
        self.tell_handlers(id, &mut actions);
        // Commands of handlers do not wait for room as those of a client do: their sender waits for the shard.
        let mut requests: Vec<Request> = actions.requests.drain(..).collect();
        self.show_token(id, &mut requests);
        self.carry_out(now, id, &mut actions);
        for request in requests {
            self.act(now, Input::ProgramCommand { conn: id, seat, request });
        }
        for command in actions.operations.drain(..) {
            self.act(now, Input::App { token: NOBODY, command });
        }
        for question in actions.questions.drain(..) {
            self.ask_members(now, question);
        }
        self.actions = actions;
    }

    /// A reply of the hub has shown that a client does not go on as the socket that it was.
    pub(super) fn begin_anew(&mut self, now: Now, id: ConnId, seat: Seat) {
        self.converse(now, id, seat, |client, actions| client.begin_anew(seat, actions));
    }

    /// Tells the handlers what a message has led to.
    pub(super) fn tell_handlers(&mut self, id: ConnId, actions: &mut Actions) {
        if actions.busy
            && let Some(conn) = self.conn(id)
        {
            conn.busy = true;
        }
        if let Some(entering) = actions.entering.take()
            && let Some(dispatcher) = &self.dispatcher
        {
            dispatcher.desk.enter(id, actions.peer, *entering);
        }
    }
}

/// The conversation as that of Socket.IO, if it is one.
pub(super) fn client(conversation: &mut dyn Conversation) -> Option<&mut Client> {
    conversation.as_any()?.downcast_mut()
}
