//! The end of a connection: what its client, the log, the figures and the handlers are told of it.
//!
//! In: an [`End`], from the reader, the writer, a request of the client, its conversation or the hub. Out: the last
//! bytes for the client and the hub's `Input::Closed`; and once for each connection a line of the log, a count and the
//! reason for its handlers ([`Shell::ending`]). The first end counts: what happens to a connection that is closing
//! already is its way to be closed. A connection that could not be let in at all has no end here.

use super::effects::form;
use super::{Shell, Sink, application, wake};
use crate::framing::WireLabel;
use crate::logs::{self, EndWeight, EndedLine, Ender};
use crate::protocol::socketio::Reason;
use crate::protocol::{Breach, Encoded};
use fanfare_hub::{ClientId, ConnId, Disconnect, Input, Note, Noted, Now, Push, UserId};
use std::borrow::Cow;
use std::io;

/// How a connection has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum End {
    /// Its client has closed it in good order, by a close frame with this code or in the words of its transport.
    Left(Option<u16>),
    /// No more bytes come or go.
    Gone(Loss),
    /// Its client has broken the rules; this text says which.
    Broken(Breach, Cow<'static, str>),
    /// It was not let in: the request for it is answered by the error with this word.
    Refused(&'static str),
    /// The server has closed it.
    Closed(Disconnect),
}

/// The way in which a connection was lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Loss {
    /// Its bytes have ended, without a word of its client.
    Ended,
    /// The system says this of its socket.
    Failed(io::ErrorKind),
    /// Its socket has taken no bytes for `write_timeout`.
    Stalled,
    /// Its client has given up the request on which it depends.
    GivenUp,
}

impl From<io::Error> for Loss {
    fn from(error: io::Error) -> Self {
        Loss::Failed(error.kind())
    }
}

impl End {
    /// The word for it in the log and the figures.
    fn word(&self) -> &'static str {
        match self {
            End::Left(_) => "left",
            End::Gone(_) => "gone",
            End::Broken(Breach::Transport, _) => "protocol_error",
            End::Broken(Breach::Packet | Breach::Message, _) => Disconnect::BadProtocol.row().word,
            End::Refused(_) => "refused",
            End::Closed(reason) => reason.row().word,
        }
    }

    fn code(&self) -> Option<u16> {
        match self {
            End::Left(code) => *code,
            End::Gone(_) | End::Broken(..) | End::Refused(_) => None,
            End::Closed(reason) => Some(reason.code()),
        }
    }

    /// What more is known.
    fn why(&self) -> Option<Cow<'_, str>> {
        match self {
            End::Left(_) | End::Closed(_) | End::Gone(Loss::Ended) => None,
            End::Gone(Loss::Failed(kind)) => Some(kind.to_string().into()),
            End::Gone(Loss::Stalled) => Some("it took no bytes for limits.write_timeout".into()),
            End::Gone(Loss::GivenUp) => Some("a request was given up".into()),
            End::Broken(_, why) => Some(Cow::Borrowed(why)),
            End::Refused(why) => Some(Cow::Borrowed(why)),
        }
    }

    /// Who has ended it. Over HTTP a client leaves by ending its request, and has no word for it. Its system resets
    /// the connection where bytes were on their way.
    fn by(&self, label: WireLabel) -> Ender {
        match self {
            End::Left(_) => Ender::Client,
            End::Gone(loss) => match loss {
                _ if label.transport == "websocket" => Ender::Network,
                Loss::Ended | Loss::GivenUp => Ender::Client,
                Loss::Failed(io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe) => Ender::Client,
                Loss::Failed(_) | Loss::Stalled => Ender::Network,
            },
            End::Broken(..) | End::Refused(_) => Ender::Server,
            End::Closed(reason) => match reason {
                Disconnect::Left | Disconnect::Moved => Ender::Client,
                Disconnect::HeartbeatTimeout => Ender::Network,
                Disconnect::Kicked | Disconnect::Reconnect => Ender::Application,
                _ => Ender::Server,
            },
        }
    }

    fn weight(&self) -> EndWeight {
        match self {
            End::Left(_) | End::Gone(_) => EndWeight::Everyday,
            End::Broken(..) => EndWeight::of(Disconnect::BadProtocol),
            // The log has a line for an error that a person may ask about.
            End::Refused(_) => EndWeight::Everyday,
            End::Closed(reason) => EndWeight::of(*reason),
        }
    }

    /// The reference's word for it on the server's side.
    fn reason(&self) -> Reason {
        match self {
            End::Left(_) => Reason::TransportClose,
            End::Gone(Loss::GivenUp) => Reason::TransportError,
            End::Gone(_) | End::Refused(_) => Reason::TransportClose,
            End::Broken(Breach::Transport, _) => Reason::TransportError,
            End::Broken(Breach::Packet, _) => Reason::ParseError,
            End::Broken(Breach::Message, _) => Reason::ForcedClose,
            End::Closed(reason) => Reason::of(*reason),
        }
    }
}

impl Shell {
    /// A connection ends: the log, the figures and the handlers are told, unless they know already.
    pub(super) fn ending(&mut self, now: Now, id: ConnId, end: &End) {
        let (client, user) =
            self.hub.client_of(id).map_or((None, None), |(client, user)| (Some(client), user.cloned()));
        self.ending_of(now, id, end, client, user.as_ref());
    }

    /// The same for the connections that the hub ends with its last input.
    pub(super) fn tell_ends(&mut self, now: Now) {
        let is_end = |note: &Note| matches!(note.what, Noted::Closed(_));
        if !self.effects.notes().iter().any(is_end) {
            return;
        }
        let effects = std::mem::take(&mut self.effects);
        for note in effects.notes() {
            if let (Noted::Closed(reason), Some(id)) = (&note.what, note.conn) {
                self.ending_of(now, id, &End::Closed(*reason), note.client, note.user.as_ref());
            }
        }
        self.effects = effects;
    }

    /// The same where the hub has told the client, as it does not know the connection any more.
    fn ending_of(&mut self, now: Now, id: ConnId, end: &End, client: Option<ClientId>, user: Option<&UserId>) {
        let Some(conn) = self.conn(id) else { return };
        if std::mem::replace(&mut conn.has_ended, true) {
            return;
        }
        if let Some(client) = application::client(&mut *conn.conversation) {
            client.ended(end.reason());
        }
        let (peer, wire) = (conn.peer, conn.wire);
        let lived_ms = now.mono_ms.saturating_sub(conn.opened_ms);
        let label = self.wire(wire).label();
        let why = end.why();
        let (by, reason, code, why) = (end.by(label), end.word(), end.code(), why.as_deref());
        let (WireLabel { transport, protocol }, weight) = (label, end.weight());
        let line =
            EndedLine { by, reason, code, why, client, user, peer: &peer, transport, protocol, lived_ms, weight };
        logs::ended(&line);
        self.journal.ended(now, &line);
        self.counters.ended(reason);
    }

    /// Sends the reason for the end of a connection as a message of its protocol, if the protocol has one. The close
    /// code gives the reason too.
    pub(super) fn last_word(&mut self, now: Now, id: ConnId, reason: Disconnect) {
        let Some(wire) = self.conn(id).map(|conn| conn.wire) else { return };
        let mut scratch = std::mem::take(&mut self.scratch);
        scratch.clear();
        let push = Push::Disconnect { reason, delay_ms: 0 };
        let own = self.conn(id).and_then(|conn| conn.conversation.last_words(reason, &mut scratch));
        let encoded = own.unwrap_or_else(|| self.wire(wire).protocol.encode_push(&push, now, &mut scratch));
        match form(encoded) {
            Ok(Some(_)) if encoded == Encoded::Several => self.answer_several(id, &scratch),
            Ok(Some(form)) => self.answer(id, form, &scratch),
            _ => {}
        }
        self.scratch = scratch;
    }

    /// Ends a connection whose protocol has no message for a push that the client must not miss. It ends at once: the
    /// peer must not see later effects of the same input, such as the page after a gap. Otherwise it would miss
    /// something without notice.
    pub(super) fn part(&mut self, now: Now, id: ConnId, reason: Disconnect) {
        self.end_opening(id, reason);
        self.goodbye(now, id, (reason.code(), reason.row().word), &End::Closed(reason));
        self.inputs.push_back(Input::Closed { conn: id, finally: !reason.reconnect() });
    }

    /// The client has broken the rules: the connection ends. Its sessions end too, unless its protocol lets them
    /// outlive such an end.
    pub(super) fn breach(&mut self, now: Now, id: ConnId, breach: Breach, why: impl Into<Cow<'static, str>>) {
        if self.conn(id).is_none_or(|conn| conn.closing) {
            return;
        }
        let end = End::Broken(breach, why.into());
        let reason = Disconnect::BadProtocol;
        if breach == Breach::Packet {
            self.ending(now, id, &end);
            return self.act(now, Input::Close { conn: id, reason });
        }
        self.goodbye(now, id, (reason.code(), reason.row().word), &end);
        let finally = self.is_final(id, true);
        self.act(now, Input::Closed { conn: id, finally });
    }

    /// Writes the end of the connection, with a code and a reason, behind everything else.
    pub(super) fn goodbye(&mut self, now: Now, id: ConnId, (code, reason): (u16, &str), end: &End) {
        if let Some(wire) = self.conn(id).map(|conn| conn.wire) {
            let last = self.wire(wire).framing.end(code, reason);
            self.append(id, last);
        }
        self.begin_closing(now, id, end);
    }

    /// Nothing more is appended. The reader waits for the peer's end for `close_timeout`.
    pub(super) fn begin_closing(&mut self, now: Now, id: ConnId, end: &End) {
        self.ending(now, id, end);
        if let Some(conn) = self.conn(id) {
            conn.closing = true;
            conn.paused = false;
            conn.choked = false;
            conn.busy = false;
            wake(&mut conn.reader);
        }
        self.wake_engine(id);
    }

    /// Removes a connection. Its socket is closed when its reader ends too.
    pub(super) fn remove(&mut self, id: ConnId) {
        if let Some(mut conn) = self
            .conns
            .get_mut(id.index as usize)
            .filter(|slot| slot.generation == id.generation)
            .and_then(|slot| slot.conn.take())
        {
            self.free.push(id.index);
            self.open -= 1;
            self.counters.wire(conn.wire).open -= 1;
            self.counters.outbox_bytes -= conn.outbox.bytes();
            wake(&mut conn.reader);
            if let Sink::Detached(mut detached) = conn.sink {
                wake(&mut detached.fetcher);
                if let Some(state) = &mut detached.engine {
                    state.wake();
                }
                if let Some(state) = detached.polled.take() {
                    self.forget_polls(id, state);
                }
            }
        }
    }

    /// True where the end of a connection ends its sessions too, as its transport says by `finally`.
    pub(super) fn is_final(&self, id: ConnId, finally: bool) -> bool {
        let conn = self.conns.get(id.index as usize).filter(|slot| slot.generation == id.generation);
        let conn = conn.and_then(|slot| slot.conn.as_ref());
        finally && !conn.is_some_and(|conn| self.wire(conn.wire).protocol.leaves_by_command())
    }

    /// A connection is over, and nothing more can be said to its client.
    pub(super) fn lost(&mut self, now: Now, id: ConnId, end: &End, finally: bool) {
        let finally = self.is_final(id, finally);
        if self.conn(id).is_some() {
            self.ending(now, id, end);
            self.remove(id);
            self.act(now, Input::Closed { conn: id, finally });
        }
    }
}
