//! Replies and pushes to text: the server's voice. Each function appends one JSON object (or, for a batch, an array
//! of them), without line breaks.

use super::write::{ObjectWriter, put};
use super::{COMMANDS_MAX, HISTORY_LIMIT_MAX, PROTOCOL};
use fanfare_hub::{
    ChannelName, Connected, Error, History, Position, PresenceEntry, PresenceKind, PresenceSnapshot, Publication, Push,
    Reply, ReplyBody, RequestId, Sender, Subscribed,
};

/// The heartbeat, byte for byte, so that a client may compare texts.
pub const PING: &str = r#"{"type":"ping"}"#;

/// The server's additions to `connected`.
#[derive(Debug, Clone, Copy)]
pub struct ConnectedExtras<'a> {
    /// The sealed name of the session.
    pub ticket: &'a str,
    /// The features of this server, as words.
    pub features: &'a [&'a str],
    /// Its limits.
    pub limits: ConnectedLimits,
}

/// The limits for a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConnectedLimits {
    /// Bytes of one payload.
    pub message_bytes: usize,
    /// Subscriptions of one connection.
    pub subscriptions: usize,
    /// Bytes of presence data.
    pub presence_bytes: usize,
    /// Bytes of the idempotency keys that a channel remembers.
    pub idempotency_keys_bytes: usize,
    /// For how many ms it remembers one.
    pub idempotency_keys_ttl_ms: u64,
}

impl From<&fanfare_hub::Limits> for ConnectedLimits {
    fn from(limits: &fanfare_hub::Limits) -> Self {
        ConnectedLimits {
            message_bytes: limits.message_bytes_max,
            subscriptions: limits.subscriptions_max,
            presence_bytes: limits.presence_bytes_max,
            idempotency_keys_bytes: limits.idempotency_keys_bytes_max,
            idempotency_keys_ttl_ms: limits.idempotency_keys_ttl_ms,
        }
    }
}

/// Appends a reply. Only `connected` needs the extras; without them it has no ticket, features and limits.
pub fn encode_reply(out: &mut Vec<u8>, reply: &Reply, extras: Option<&ConnectedExtras<'_>>) {
    put_body(out, reply.id.as_ref(), &reply.body, extras);
}

/// Appends `ticket`: the session's new name, before the old one expires.
pub fn encode_ticket(out: &mut Vec<u8>, ticket: &str) {
    ObjectWriter::message(out, "ticket").text("ticket", ticket).end();
}

/// Appends a push: one object, or an array of them for a batch.
pub fn encode_push(out: &mut Vec<u8>, push: &Push) {
    match push {
        Push::Message { channel, publication, .. } => {
            put_message(out, channel, publication);
        }
        Push::Messages { channel, publications } => {
            for (place, publication) in publications.iter().enumerate() {
                out.push(if place == 0 { b'[' } else { b',' });
                put_message(out, channel, publication);
            }
            out.push(b']');
        }
        Push::Signal(push) => {
            let mut message = ObjectWriter::message(out, "signal");
            message.text("channel", &push.signal.channel).text("event", &push.signal.event);
            message.raw("data", &push.signal.data);
            put_from(&mut message, &push.from);
            message.end();
        }
        Push::Presence(push) => {
            let kind = match push.kind {
                PresenceKind::Join => "join",
                PresenceKind::Leave => "leave",
                PresenceKind::Update => "presence_update",
            };
            let mut message = ObjectWriter::message(out, kind);
            message.text("channel", &push.channel);
            put_entry(&mut message, &push.entry);
            message.number("seq", push.seq).end();
        }
        Push::PresenceCount { channel, count, seq } => {
            let mut message = ObjectWriter::message(out, "presence_update");
            message.text("channel", channel).number("count", *count).number("seq", *seq).end();
        }
        Push::PresenceSnapshot { channel, snapshot } => put_presence(out, None, channel, snapshot),
        Push::Gap { channel, position, reset } => {
            let mut message = ObjectWriter::message(out, "gap");
            message.text("channel", channel);
            put_position(&mut message, position);
            message.flag_if("reset", *reset).end();
        }
        Push::Subscribed(subscribed) => put_subscribed(out, None, subscribed),
        Push::Unsubscribed { channel, error } => {
            let mut message = ObjectWriter::message(out, "unsubscribed");
            message.text("channel", channel).text("code", error.code.row().word).text("message", &error.message);
            message.text_if("rule", error.rule.as_deref()).end();
        }
        Push::Volatile { .. } => {} // for protocols of the server's own
        Push::Mark { .. } => {}     // this protocol has no message for it, and its connections do not ask for one
        Push::Ping => out.extend_from_slice(PING.as_bytes()),
        Push::Disconnect { reason, delay_ms } => {
            let mut message = ObjectWriter::message(out, "disconnect");
            message.number("code", u64::from(reason.code())).text("reason", reason.row().word);
            message.flag("retry", reason.reconnect()).number("delay", *delay_ms).end();
        }
    }
}

/// Appends a publication as it stands in lists: `{offset, data, event?, idempotency_key?, from?, ts}`.
pub fn encode_publication(out: &mut Vec<u8>, publication: &Publication) {
    put_publication(&mut ObjectWriter::plain(out), publication);
}

fn put_body(out: &mut Vec<u8>, id: Option<&RequestId>, body: &ReplyBody, extras: Option<&ConnectedExtras<'_>>) {
    match body {
        ReplyBody::Connected(connected) => put_connected(out, id, connected, extras),
        ReplyBody::Subscribed(subscribed) => put_subscribed(out, id, subscribed),
        ReplyBody::Unsubscribed { channel } => {
            let mut message = ObjectWriter::message(out, "unsubscribed");
            message.id(id).text("channel", channel).text("code", "requested").end();
        }
        ReplyBody::Published { position, duplicate } => {
            let mut message = ObjectWriter::message(out, "published");
            message.id(id);
            put_position(&mut message, position);
            message.flag_if("duplicate", *duplicate).end();
        }
        ReplyBody::History(history) => put_history(out, id, history),
        ReplyBody::Presence { channel, snapshot } => put_presence(out, id, channel, snapshot),
        ReplyBody::Done => ObjectWriter::message(out, "result").id(id).end(),
        ReplyBody::Result(data) => ObjectWriter::message(out, "result").id(id).raw("data", data).end(),
        ReplyBody::Refreshed { expires_in_ms } => {
            ObjectWriter::message(out, "result").id(id).number_if("expires", *expires_in_ms).end();
        }
        ReplyBody::Expiring { expires_in_ms } => {
            ObjectWriter::message(out, "token_expiring").number("expires", *expires_in_ms).end();
        }
        ReplyBody::Many(bodies) => {
            let mut message = ObjectWriter::message(out, "result");
            message.id(id).list("data", bodies, |out, body| put_body(out, None, body, None)).end();
        }
        ReplyBody::Error(error) => put_error(out, id, error),
    }
}

fn put_connected(
    out: &mut Vec<u8>,
    id: Option<&RequestId>,
    connected: &Connected,
    extras: Option<&ConnectedExtras<'_>>,
) {
    let mut message = ObjectWriter::message(out, "connected");
    message.id(id).shown("client", connected.client);
    message.text_if("user", connected.user.as_ref().map(|user| &*user.0));
    message.flag("session_resumed", connected.resumed);
    message.text_if("ticket", extras.map(|extras| extras.ticket));
    message.number_if("expires", connected.expires_in_ms);
    message.number("ping", connected.ping_ms).text("protocol", PROTOCOL);
    if let Some(ConnectedExtras { ticket: _, features, limits }) = extras {
        message.list("features", *features, put);
        let mut object = ObjectWriter::plain(message.field("limits"));
        object.number("message_bytes", limits.message_bytes as u64);
        object.number("subscriptions", limits.subscriptions as u64);
        object.number("presence_bytes", limits.presence_bytes as u64);
        object.number("idempotency_keys_bytes", limits.idempotency_keys_bytes as u64);
        object.number("idempotency_keys_ttl", limits.idempotency_keys_ttl_ms);
        object.number("commands", COMMANDS_MAX as u64).number("history", u64::from(HISTORY_LIMIT_MAX));
        for (name, rate) in [("message_rate", connected.message_rate), ("byte_rate", connected.byte_rate)] {
            if let Some(rate) = rate {
                ObjectWriter::plain(object.field(name))
                    .number("count", rate.count())
                    .number("time", rate.window_ms())
                    .end();
            }
        }
        object.end();
    }
    message.end();
}

fn put_subscribed(out: &mut Vec<u8>, id: Option<&RequestId>, subscribed: &Subscribed) {
    let mut message = ObjectWriter::message(out, "subscribed");
    message.id(id).text("channel", &subscribed.channel);
    put_position(&mut message, &subscribed.position);
    if let Some(recovered) = subscribed.recovered {
        message.flag("recovered", recovered);
    }
    message.list("publications", &subscribed.publications, |out, it| encode_publication(out, it));
    message.flag_if("more", subscribed.more).end();
}

fn put_history(out: &mut Vec<u8>, id: Option<&RequestId>, history: &History) {
    let mut message = ObjectWriter::message(out, "history");
    message.id(id).text("channel", &history.channel);
    put_position(&mut message, &history.top);
    message.list("publications", &history.publications, |out, it| encode_publication(out, it));
    message.flag_if("more", history.more).flag_if("gap", history.gap).flag_if("reset", history.reset).end();
}

fn put_presence(out: &mut Vec<u8>, id: Option<&RequestId>, channel: &ChannelName, snapshot: &PresenceSnapshot) {
    let mut message = ObjectWriter::message(out, "presence");
    message.id(id).text("channel", channel).number("seq", snapshot.seq).number("count", snapshot.count);
    if let Some(entries) = &snapshot.entries {
        message.list("entries", entries, |out, entry| {
            let mut object = ObjectWriter::plain(out);
            put_entry(&mut object, entry);
            object.end();
        });
    }
    message.end();
}

fn put_error(out: &mut Vec<u8>, id: Option<&RequestId>, error: &Error) {
    let row = error.code.row();
    let mut message = ObjectWriter::message(out, "error");
    message.id(id).text("code", row.word).text("message", &error.message).flag("retryable", row.retryable);
    message.number_if("retry_after", error.retry_after_ms);
    message.text_if("channel", error.channel.as_deref()).text_if("rule", error.rule.as_deref()).end();
}

/// The first publication of an epoch names it. A list names the epoch once for all its entries, but a message must name
/// it itself.
fn put_message(out: &mut Vec<u8>, channel: &ChannelName, publication: &Publication) {
    let mut message = ObjectWriter::message(out, "message");
    message.text("channel", channel);
    if let Some(epoch) = &publication.begins {
        message.shown("epoch", epoch);
    }
    put_publication(&mut message, publication);
}

/// The fields of a publication, and the end of the object.
fn put_publication(object: &mut ObjectWriter<'_>, publication: &Publication) {
    object.number("offset", publication.offset).data(&publication.data);
    object
        .text_if("event", publication.event.as_deref())
        .text_if("idempotency_key", publication.idempotency_key.as_deref());
    if let Some(from) = &publication.from {
        put_from(object, from);
    }
    object.number("ts", publication.ts_ms).end();
}

fn put_from(object: &mut ObjectWriter<'_>, from: &Sender) {
    let mut inner = ObjectWriter::plain(object.field("from"));
    if let Some(client) = from.client {
        inner.shown("client", client);
    }
    inner.text_if("user", from.user.as_ref().map(|user| &*user.0)).end();
}

pub(super) fn put_entry(object: &mut ObjectWriter<'_>, entry: &PresenceEntry) {
    object.shown("client", entry.client).text_if("user", entry.user.as_ref().map(|user| &*user.0));
    object.raw_if("info", entry.info.as_deref()).raw("data", &entry.data);
}

pub(super) fn put_position(object: &mut ObjectWriter<'_>, position: &Position) {
    object.shown("epoch", position.epoch).number("offset", position.offset);
}
