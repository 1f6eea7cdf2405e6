//! Answers to bodies. Each function appends one JSON object, without line breaks.

use crate::native::encode::{encode_publication, put_entry, put_position};
use crate::native::write::{ObjectWriter, put};
use crate::socketio::CHANNEL_PREFIX;
use fanfare_hub::{
    AppAnswer, Ban, ChannelInfo, ConnectionInfo, Error, History, MemberInfo, NodeInfo, PresenceSnapshot, UserStatus,
    Whom,
};

/// Appends the answer to one command; a refusal is written as [`encode_error`] does.
pub fn encode_answer(out: &mut Vec<u8>, answer: &AppAnswer) {
    match answer {
        AppAnswer::Published { position, duplicate, subscribers } => {
            let mut object = ObjectWriter::plain(out);
            put_position(&mut object, position);
            object.number("subscribers", *subscribers).flag_if("duplicate", *duplicate).end();
        }
        AppAnswer::History(history) => put_history(out, history),
        AppAnswer::Presence(snapshot) => put_presence(out, snapshot),
        AppAnswer::Channels { channels, more } => {
            ObjectWriter::plain(out).list("channels", channels, put_channel).flag_if("more", *more).end();
        }
        AppAnswer::Concerned(count) => ObjectWriter::plain(out).number("sessions", *count).end(),
        AppAnswer::Banned { sessions, until_ms } => {
            let mut object = ObjectWriter::plain(out);
            object.number("sessions", *sessions).number("banned_until", *until_ms).flag("durable", false).end();
        }
        AppAnswer::Unbanned { was_banned } => ObjectWriter::plain(out).flag("was_banned", *was_banned).end(),
        AppAnswer::Bans { bans, more } => {
            ObjectWriter::plain(out).list("bans", bans, put_ban).flag_if("more", *more).end();
        }
        AppAnswer::Members(members) => ObjectWriter::plain(out).list("members", members, put_member).end(),
        AppAnswer::Connections { connections, next } => {
            let mut object = ObjectWriter::plain(out);
            object.list("connections", connections, put_connection);
            object.text_if("cursor", next.map(|next| next.to_string()).as_deref()).end();
        }
        AppAnswer::Users { users, next } => {
            let mut object = ObjectWriter::plain(out);
            object.list("users", users, |out, it| {
                ObjectWriter::plain(out).text("user", &it.user.0).number("clients", it.clients).end();
            });
            object.text_if("cursor", next.as_ref().map(|next| &*next.0)).end();
        }
        AppAnswer::UserStatus(users) => ObjectWriter::plain(out).list("users", users, put_status).end(),
        AppAnswer::Info(info) => put_info(out, info),
        AppAnswer::Done => ObjectWriter::plain(out).end(),
        AppAnswer::Error(error) => encode_error(out, error),
    }
}

/// Appends the answers to several commands, in the order given: `{"results":[{"result":…} or {"error":…}, …]}`.
pub fn encode_results<'a>(out: &mut Vec<u8>, answers: impl IntoIterator<Item = &'a AppAnswer>) {
    let put = |out: &mut Vec<u8>, answer: &AppAnswer| {
        let name = if matches!(answer, AppAnswer::Error(_)) { "error" } else { "result" };
        let mut object = ObjectWriter::plain(out);
        encode_answer(object.field(name), answer);
        object.end();
    };
    ObjectWriter::plain(out).list("results", answers, put).end();
}

/// Appends a refusal: `{code, message, retryable, retry_after?, channel?, rule?}`.
pub fn encode_error(out: &mut Vec<u8>, error: &Error) {
    encode_refusal(out, error, error.code.row().retryable, None, None);
}

/// The same, with `retryable` as given, `option?`, the option of the configuration that decided, and `limit?`, the
/// limit that it sets.
pub fn encode_refusal(out: &mut Vec<u8>, error: &Error, retryable: bool, option: Option<&str>, limit: Option<u64>) {
    let row = error.code.row();
    let mut object = ObjectWriter::plain(out);
    object.text("code", row.word).text("message", &error.message).flag("retryable", retryable);
    if let Some(retry_after_ms) = error.retry_after_ms {
        object.number("retry_after", retry_after_ms);
    }
    // A reserved channel is a namespace of Socket.IO, which the request has named.
    let channel = error.channel.as_deref().filter(|name| !name.starts_with(CHANNEL_PREFIX));
    object.text_if("channel", channel).text_if("rule", error.rule.as_deref());
    object.text_if("option", option).number_if("limit", limit).end();
}

fn put_history(out: &mut Vec<u8>, history: &History) {
    let mut object = ObjectWriter::plain(out);
    object.text("channel", &history.channel);
    put_position(&mut object, &history.top);
    object.list("publications", &history.publications, |out, it| encode_publication(out, it));
    object.flag_if("more", history.more).flag_if("gap", history.gap).flag_if("reset", history.reset).end();
}

fn put_presence(out: &mut Vec<u8>, snapshot: &PresenceSnapshot) {
    let mut object = ObjectWriter::plain(out);
    object.number("seq", snapshot.seq).number("count", snapshot.count);
    if let Some(entries) = &snapshot.entries {
        object.list("entries", entries, |out, entry| {
            let mut object = ObjectWriter::plain(out);
            put_entry(&mut object, entry);
            object.end();
        });
    }
    object.end();
}

fn put_member(out: &mut Vec<u8>, member: &MemberInfo) {
    let mut object = ObjectWriter::plain(out);
    object.shown("client", member.client).text_if("user", member.user.as_ref().map(|user| &*user.0));
    object.list("rooms", &member.rooms, |out, room| put(out, room.as_str())).end();
}

fn put_connection(out: &mut Vec<u8>, info: &ConnectionInfo) {
    let mut object = ObjectWriter::plain(out);
    object.shown("client", info.client).text_if("user", info.user.as_ref().map(|user| &*user.0));
    if let Some(facts) = &info.facts {
        object.text("transport", &facts.transport).text("protocol", &facts.protocol).text("peer", &facts.peer);
        object.number("connected_at", facts.connected_ms);
    }
    if !info.labels.is_empty() {
        object.list("labels", info.labels.iter(), put);
    }
    object.number("channels", u64::from(info.channels)).end();
}

fn put_status(out: &mut Vec<u8>, status: &UserStatus) {
    let mut object = ObjectWriter::plain(out);
    object.text("user", &status.user.0).flag("online", status.clients > 0).number("clients", status.clients);
    if let Some(last_seen_ms) = status.last_seen_ms {
        object.number("last_seen", last_seen_ms);
    }
    object.end();
}

fn put_ban(out: &mut Vec<u8>, ban: &Ban) {
    let mut object = ObjectWriter::plain(out);
    match &ban.whom {
        Whom::User(user) => object.text("user", &user.0),
        Whom::Client(client) => object.shown("client", *client),
        Whom::Label(label) => object.text("label", label),
    };
    object.number("until", ban.until_ms).end();
}

fn put_channel(out: &mut Vec<u8>, info: &ChannelInfo) {
    let mut object = ObjectWriter::plain(out);
    object.text("channel", &info.channel).number("subscribers", info.subscribers).number("present", info.present);
    if let Some(top) = &info.top {
        put_position(&mut object, top);
    }
    object.end();
}

fn put_info(out: &mut Vec<u8>, info: &NodeInfo) {
    let NodeInfo { sessions, connected, subscriptions, channels, history_bytes } = *info;
    let mut object = ObjectWriter::plain(out);
    object.text("version", env!("CARGO_PKG_VERSION")).number("sessions", sessions).number("connected", connected);
    object.number("subscriptions", subscriptions).number("channels", channels);
    object.number("history_bytes", history_bytes).end();
}
