//! Commands to text. A value that equals the server's default is not written.

use super::{Batch, ClientCommand, ClientRequest, HistoryFrom, Position, Publish, Subscribe};
use crate::native::write::ObjectWriter;
use fanfare_hub::RequestId;

/// The answer to a heartbeat.
pub const PONG: &str = r#"{"type":"pong"}"#;

/// Appends one command as a JSON object.
pub fn encode(out: &mut Vec<u8>, request: &ClientRequest) {
    let id = request.id.as_ref();
    match &request.command {
        ClientCommand::Connect { token, ticket, page, ack, subscribe } => {
            let mut message = open(out, "connect", id);
            message.text_if("token", token.as_deref()).text_if("ticket", ticket.as_deref());
            message.text_if("page", page.as_deref()).number_if("ack", *ack);
            if !subscribe.is_empty() {
                message.list("subscribe", subscribe, put_subscribe);
            }
            message.end();
        }
        ClientCommand::Subscribe(subscribe) => {
            let mut message = open(out, "subscribe", id);
            put_options(&mut message, subscribe);
            message.end();
        }
        ClientCommand::SubscribeMany(all) => open(out, "subscribe", id).list("channels", all, put_subscribe).end(),
        ClientCommand::Unsubscribe { channel } => open(out, "unsubscribe", id).text("channel", channel).end(),
        ClientCommand::Publish(publish) => {
            let Publish { channel, data, event, idempotency_key, echo } = &**publish;
            let mut message = open(out, "publish", id);
            message.text("channel", channel).data(data);
            message.text_if("event", event.as_deref()).text_if("idempotency_key", idempotency_key.as_deref());
            if !echo {
                message.flag("echo", false);
            }
            message.end();
        }
        ClientCommand::History { channel, from, limit } => {
            let mut message = open(out, "history", id);
            message.text("channel", channel);
            match from {
                HistoryFrom::Newest => {}
                HistoryFrom::Since(position) => put_position(&mut message, "since", position),
                HistoryFrom::Before(position) => put_position(&mut message, "before", position),
            }
            if let Some(limit) = limit {
                message.number("limit", u64::from(*limit));
            }
            message.end();
        }
        ClientCommand::Presence { channel } => open(out, "presence", id).text("channel", channel).end(),
        ClientCommand::Signal { channel, event, data, to } => {
            let mut message = open(out, "signal", id);
            message.text("channel", channel).text("event", event).raw("data", data);
            message.text_if("to", to.as_deref()).end();
        }
        ClientCommand::PresenceSet { channel, data } => {
            open(out, "presence_set", id).text("channel", channel).raw("data", data).end();
        }
        ClientCommand::PresenceClear { channel } => open(out, "presence_clear", id).text("channel", channel).end(),
        ClientCommand::Refresh { token } => open(out, "refresh", id).text("token", token).end(),
        ClientCommand::Rpc { method, data } => open(out, "rpc", id).text("method", method).raw("data", data).end(),
        ClientCommand::Disconnect => open(out, "disconnect", id).end(),
        ClientCommand::Pong => open(out, "pong", id).end(),
    }
}

fn open<'a>(out: &'a mut Vec<u8>, kind: &'static str, id: Option<&RequestId>) -> ObjectWriter<'a> {
    let mut message = ObjectWriter::message(out, kind);
    message.id(id);
    message
}

fn put_subscribe(out: &mut Vec<u8>, subscribe: &Subscribe) {
    let mut object = ObjectWriter::plain(out);
    put_options(&mut object, subscribe);
    object.end();
}

fn put_options(object: &mut ObjectWriter<'_>, options: &Subscribe) {
    object.text("channel", &options.channel);
    if let Some(since) = &options.since {
        put_position(object, "since", since);
    }
    if let Some(recent) = options.recent {
        object.number("recent", u64::from(recent));
    }
    object.flag_if("presence", options.presence);
    if !options.signals {
        object.flag("signals", false);
    }
    if let Some(Batch { size, delay_ms }) = options.batch {
        let mut inner = ObjectWriter::plain(object.field("batch"));
        inner.number("size", size.into()).number("delay", delay_ms.into()).end();
    }
    object.text_if("slow", options.slow.map(|slow| slow.word()));
}

fn put_position(object: &mut ObjectWriter<'_>, name: &'static str, position: &Position) {
    let mut inner = ObjectWriter::plain(object.field(name));
    inner.text("epoch", &position.epoch).number("offset", position.offset).end();
}
