//! The effects of the hub, performed: a push is encoded once for its wire and appended, shared, to the outbox of every
//! receiver; a reply is encoded for its connection; the others go to readers, handlers and other shards.

use super::ends::End;
use super::{CHOKED_MARKS, Shell, Sink, application, wake};
use crate::framing::{Form, Framing};
use crate::logs;
use crate::protocol::{self, Encoded};
use bytes::Bytes;
use fanfare_hub::{
    Act, Appended, ConnId, Disconnect, Effect, Error, ErrorCode, HookAnswer, Input, Now, Push, ReplyBody,
};

impl Shell {
    pub(super) fn perform(&mut self, now: Now, effect: Effect) {
        match effect {
            Effect::Push { push, wire, to } => {
                let mut scratch = std::mem::take(&mut self.scratch);
                scratch.clear();
                let encoded = self.wire(wire).protocol.encode_push(&push, now, &mut scratch);
                let effects = std::mem::take(&mut self.effects);
                let mut recipients = effects.recipients(to);
                let takers;
                if matches!(push, Push::Presence(_) | Push::PresenceSnapshot { .. }) {
                    takers = self.takers(recipients, &push);
                    recipients = &takers;
                } else if let Push::Volatile { .. } = push {
                    takers = recipients.iter().copied().filter(|&id| self.is_writable(id)).collect();
                    recipients = &takers;
                }
                if matches!(push, Push::Disconnect { reason: Disconnect::Shutdown, .. }) {
                    self.notified += recipients.len();
                }
                match form(encoded) {
                    _ if recipients.is_empty() => {}
                    Ok(Some(form)) if encoded == Encoded::Begun => {
                        self.counters.pushed(wire, &push, recipients.len());
                        self.push_begun(recipients, self.wire(wire).framing, (form, &scratch), &push);
                    }
                    Ok(Some(_)) if encoded == Encoded::Several => {
                        self.counters.pushed(wire, &push, recipients.len());
                        let frames = together(self.wire(wire).framing, &scratch);
                        recipients.iter().for_each(|&id| self.append(id, frames.clone()));
                    }
                    Ok(Some(form)) => {
                        self.counters.pushed(wire, &push, recipients.len());
                        self.push(recipients, wire, form, &scratch);
                        if let Push::Message { publication, .. } = &push
                            && let Some(Act::Disconnect { .. }) = publication.act.as_deref()
                        {
                            recipients.iter().for_each(|&id| self.pushed(id, &push));
                        }
                        if matches!(&push, Push::Signal(signal) if signal.signal.to.is_some()) {
                            recipients.iter().for_each(|&id| self.poll_directed(id));
                        }
                        if let Encoded::Last(reason) | Encoded::LastBinary(reason) = encoded {
                            recipients.iter().for_each(|&id| self.part(now, id, reason));
                        }
                    }
                    Ok(None) => {}
                    Err(reason) => recipients.iter().for_each(|&id| self.part(now, id, reason)),
                }
                self.effects = effects;
                self.scratch = scratch;
            }
            Effect::Reply { conn: id, seat, reply } => {
                let mut scratch = std::mem::take(&mut self.scratch);
                scratch.clear();
                self.judge_opening(id, &reply);
                if let ReplyBody::Connected(connected) = &reply.body {
                    self.tell_connected(now, id, connected);
                }
                if let Some(conn) = self.conn(id) {
                    let encoded = conn.conversation.encode_reply_in(seat, &reply, now, &mut scratch);
                    if let (Encoded::Ignored, ReplyBody::Error(error)) = (encoded, &reply.body) {
                        logs::ignored(error, &conn.peer);
                    }
                    if encoded == Encoded::Nothing
                        && application::client(&mut *conn.conversation).is_some_and(|client| client.begins_anew(seat))
                    {
                        self.anew.push_back((id, seat));
                    }
                    match form(encoded) {
                        Ok(Some(_)) if encoded == Encoded::Several => self.answer_several(id, &scratch),
                        Ok(Some(form)) => self.answer(id, form, &scratch),
                        Ok(None) => {}
                        Err(reason) => self.part(now, id, reason),
                    }
                }
                self.scratch = scratch;
            }
            Effect::Pause(id) => {
                if let Some(conn) = self.conn(id) {
                    conn.paused = true;
                }
            }
            Effect::Resume(id) => {
                if let Some(conn) = self.conn(id) {
                    conn.paused = false;
                    wake(&mut conn.reader);
                }
                self.wake_engine(id);
            }
            Effect::Close { conn: id, reason } => {
                self.last_word(now, id, reason);
                self.end_opening(id, reason);
                self.goodbye(now, id, (reason.code(), reason.row().word), &End::Closed(reason));
                if reason == Disconnect::HeartbeatTimeout {
                    self.end_silent(id);
                }
            }
            Effect::Answer { token, answer } => self.answered(token, answer),
            Effect::Answers { token, answers } => self.members_answered(token, *answers),
            Effect::Describe(mut part) => {
                self.describe(now, &mut part);
                self.inputs.push_back(Input::Described(part));
            }
            Effect::Forwarded(forwarded) => self.forwarded(*forwarded),
            Effect::Ask { token, question, attachment } => match &self.dispatcher {
                Some(dispatcher) => dispatcher.ask(token, *question, attachment.as_ref()),
                None => {
                    let error = Error::new(ErrorCode::Denied, "the rule says `hook`, and this server has no handlers");
                    let answer = Box::new(HookAnswer::Refused(error));
                    self.inputs.push_back(Input::HookAnswer { token, answer });
                }
            },
            Effect::Notice(notice) => {
                if let Some(dispatcher) = &self.dispatcher {
                    dispatcher.tell(*notice);
                }
            }
            Effect::Tell { shard, message } => {
                self.links.tell(shard, message, self.counters.stamped());
                wake(&mut self.flusher);
            }
        }
    }

    /// Sends a message of which every receiver gets the beginning, and an end of its own.
    fn push_begun(&mut self, recipients: &[ConnId], framing: Framing, (form, begun): (Form, &[u8]), push: &Push) {
        let begun = framing.frame(form, begun);
        let mut rest = Vec::new();
        for &id in recipients {
            let Some(conn) = self.conn(id) else { continue };
            rest.clear();
            conn.conversation.encode_rest(push, &mut rest);
            self.append(id, begun.clone());
            self.append(id, framing.frame(form, &rest));
        }
    }

    /// Appends a message that is for this connection alone.
    pub(super) fn answer(&mut self, id: ConnId, form: Form, payload: &[u8]) {
        let Some(wire) = self.conn(id).map(|conn| conn.wire) else { return };
        self.counters.wire(wire).messages_out += 1;
        let framing = self.wire(wire).framing;
        let frame = match framing.deflates(form, payload.len()) {
            None => framing.frame(form, payload),
            Some(deflate) => {
                let deflated = self.deflaters.deflate(deflate, payload);
                self.counters.deflated(wire, payload.len(), deflated.len());
                framing.frame(form, deflated)
            }
        };
        self.append(id, frame);
    }

    /// The same for several messages that stay together.
    pub(super) fn answer_several(&mut self, id: ConnId, several: &[u8]) {
        let Some(wire) = self.conn(id).map(|conn| conn.wire) else { return };
        self.counters.wire(wire).messages_out += 1;
        let frames = together(self.wire(wire).framing, several);
        self.append(id, frames);
    }

    pub(super) fn pushed(&mut self, id: ConnId, push: &Push) {
        if let Some(conn) = self.conn(id) {
            conn.conversation.pushed(push);
        }
    }

    /// Whether the peer takes more at once: its socket does, or it polls at this moment.
    fn is_writable(&mut self, id: ConnId) -> bool {
        self.conn(id).is_some_and(|conn| match &conn.sink {
            Sink::Socket(_) => !conn.blocked,
            Sink::Detached(detached) => detached.fetcher.is_some(),
        })
    }

    /// Those of `all` whose conversation takes a push of presence.
    fn takers(&mut self, all: &[ConnId], push: &Push) -> Vec<ConnId> {
        let mut takes = |id| self.conn(id).is_some_and(|conn| conn.conversation.takes_presence(push));
        all.iter().copied().filter(|&id| takes(id)).collect()
    }

    /// As [`Self::append`], for a connection without corked frames.
    pub(super) fn append_uncorked(&mut self, id: ConnId, frame: Bytes) {
        let mark = self.config.limits.outbox_bytes_max;
        let Some(slot) = self.conns.get_mut(id.index as usize).filter(|slot| slot.generation == id.generation) else {
            return;
        };
        let Some(conn) = slot.conn.as_mut().filter(|conn| !conn.closing) else { return };
        self.counters.outbox_bytes += frame.len();
        if conn.outbox.push(frame, mark) == Appended::Full {
            self.inputs.push_back(Input::Full(id));
        }
        conn.choked |= conn.outbox.memory_bytes() > mark.saturating_mul(CHOKED_MARKS);
        self.is_dirty(id);
    }

    /// Answers a ping. It goes past the cork: a pong may stand between any two frames.
    pub(super) fn pong(&mut self, id: ConnId, payload: &[u8]) {
        let Some(wire) = self.conn(id).filter(|conn| !conn.closing).map(|conn| conn.wire) else { return };
        let frame = self.wire(wire).framing.frame(Form::Pong, payload);
        let Some(conn) = self.conn(id) else { return };
        let before = conn.outbox.bytes();
        conn.outbox.pong(frame);
        let after = conn.outbox.bytes();
        self.counters.outbox_bytes = self.counters.outbox_bytes + after - before;
        self.is_dirty(id);
    }

    /// The connection has something to write.
    pub(super) fn is_dirty(&mut self, id: ConnId) {
        let Some(conn) = self.conn(id) else { return };
        if let Sink::Detached(detached) = &mut conn.sink {
            return wake(&mut detached.fetcher);
        }
        if !conn.dirty && !conn.blocked {
            conn.dirty = true;
            self.dirty.push(id.index);
            wake(&mut self.flusher);
        }
    }
}

/// The frames of several messages, as one piece of the outbox. They are not compressed.
fn together(framing: Framing, several: &[u8]) -> Bytes {
    let mut frames = Vec::with_capacity(several.len() + 16);
    for (is_text, message) in protocol::several(several) {
        framing.put(&mut frames, if is_text { Form::Text } else { Form::Binary }, message);
    }
    frames.into()
}

/// The form of the message, if one was encoded.
pub(super) fn form(encoded: Encoded) -> Result<Option<Form>, Disconnect> {
    match encoded {
        Encoded::Text | Encoded::Begun | Encoded::Several | Encoded::Last(_) => Ok(Some(Form::Text)),
        Encoded::Binary | Encoded::LastBinary(_) => Ok(Some(Form::Binary)),
        Encoded::Ping => Ok(Some(Form::Ping)),
        Encoded::Nothing | Encoded::Ignored => Ok(None),
        Encoded::Close(reason) => Err(reason),
    }
}
