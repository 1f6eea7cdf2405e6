//! The body of the fuzz target `native_decode`, and of the tests that feed it on every run.
//!
//! No text panics on either side. A command that the server understood is the same after the client has encoded it and
//! the server has decoded it again. The server's answer to an invalid message is one line of JSON that the client can
//! read.

use super::client::{self, ClientCommand, ClientRequest};
use super::requests::{self, PollBody, SendBody};
use super::{Decoded, Limits, decode as decode_commands, encode_reply};
use fanfare_hub::{Command, HistoryFrom, NUMBER_MAX, Position, Reply, ReplyBody, Request, SubOptions};
use std::sync::Arc;

/// One round.
pub fn decode(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let limits = Limits { message_bytes_max: 1 << 12, subscriptions_max: 8, ..Limits::default() };
    let mut commands = Vec::new();
    decode_commands(text, &limits, &mut commands);
    assert!(commands.len() <= super::COMMANDS_MAX);
    for decoded in commands {
        if let Decoded::Request(Request { id, command: Command::Invalid(error) }) = decoded {
            let mut line = Vec::new();
            encode_reply(&mut line, &Reply { id, body: ReplyBody::Error(error) }, None);
            assert!(!line.contains(&b'\n') && !line.contains(&b'\r'), "a message is one line");
            let line = String::from_utf8(line).expect("a message is text");
            client::decode(&line, &mut Vec::new()).expect("the client reads what the server writes");
            continue;
        }
        let mut line = Vec::new();
        client::encode(&mut line, &request_of(&decoded));
        assert!(!line.contains(&b'\n') && !line.contains(&b'\r'), "a message is one line");
        let mut again = Vec::new();
        decode_commands(&String::from_utf8(line).expect("a message is text"), &limits, &mut again);
        assert_eq!(again, [decoded], "encoded and decoded again");
    }
    let _ = client::decode(text, &mut Vec::new());
    let _ = client::decode_many(data);
    if let Ok(PollBody::Poll { ack, wait_ms, .. }) = requests::decode_poll(text) {
        assert!(ack <= NUMBER_MAX && wait_ms.is_none_or(|ms| ms <= requests::WAIT_MS_MAX));
    }
    for body in [text, &format!(r#"{{"ticket":"t","n":1,"commands":{text}}}"#)] {
        if let Ok(SendBody { n, requests, .. }) = requests::decode_send(body, &limits) {
            assert!(n.is_none_or(|n| (1..=NUMBER_MAX).contains(&n)) && requests.len() <= super::COMMANDS_MAX);
        }
    }
}

/// The request that a client must have sent for this.
pub fn request_of(decoded: &Decoded) -> ClientRequest {
    let (id, command) = match decoded.clone() {
        Decoded::Request(Request { id, command }) => (id, command_of(command)),
        Decoded::Connect { id, token, ticket, page, ack, subscribe } => {
            let subscribe = subscribe.into_iter().map(subscribe_of).collect();
            let page = page.map(|page| page.as_str().into());
            (id, ClientCommand::Connect { token: token.map(Into::into), ticket, page, ack, subscribe })
        }
    };
    ClientRequest { id, command }
}

fn command_of(command: Command) -> ClientCommand {
    match command {
        Command::Subscribe { subs, many: true } => {
            ClientCommand::SubscribeMany(subs.into_iter().map(subscribe_of).collect())
        }
        Command::Subscribe { mut subs, many: false } => {
            let options = subs.pop().expect("a subscribe of the short form has one channel");
            assert!(subs.is_empty(), "and no other");
            ClientCommand::Subscribe(Box::new(subscribe_of(options)))
        }
        Command::Unsubscribe { channel } => ClientCommand::Unsubscribe { channel: shared(&channel) },
        Command::Publish(publish) => ClientCommand::Publish(Box::new(client::Publish {
            channel: shared(&publish.channel),
            data: publish.data,
            event: publish.event,
            idempotency_key: publish.idempotency_key,
            echo: publish.echo,
        })),
        Command::History { channel, query } => ClientCommand::History {
            channel: shared(&channel),
            from: match query.from {
                HistoryFrom::Newest => client::HistoryFrom::Newest,
                HistoryFrom::Since(position) => client::HistoryFrom::Since(position_of(position)),
                HistoryFrom::Before(position) => client::HistoryFrom::Before(position_of(position)),
            },
            limit: Some(query.limit),
        },
        Command::Presence { channel } => ClientCommand::Presence { channel: shared(&channel) },
        Command::Signal(signal) => ClientCommand::Signal {
            channel: shared(&signal.channel),
            event: signal.event,
            data: signal.data,
            to: signal.to.map(|to| to.to_string().into()),
        },
        Command::PresenceSet { channel, data, person: _ } => {
            ClientCommand::PresenceSet { channel: shared(&channel), data }
        }
        Command::PresenceClear { channel } => ClientCommand::PresenceClear { channel: shared(&channel) },
        Command::Refresh { token } => ClientCommand::Refresh { token: token.into() },
        Command::Rpc { method, data } => ClientCommand::Rpc { method, data },
        Command::Disconnect => ClientCommand::Disconnect,
        Command::Pong => ClientCommand::Pong,
        Command::Connect(_) | Command::Invalid(_) | Command::Room(_) | Command::Leave => {
            unreachable!("no client's request decodes to these")
        }
    }
}

fn subscribe_of(options: SubOptions) -> client::Subscribe {
    let SubOptions { channel, since, recent, presence, signals, batch, slow, keep: _, whole: _ } = options;
    let (channel, since) = (shared(&channel), since.map(position_of));
    client::Subscribe { channel, since, recent, presence, signals, batch, slow }
}

/// How a position looks to a client.
pub fn position_of(position: Position) -> client::Position {
    client::Position { epoch: position.epoch.to_string().into(), offset: position.offset }
}

fn shared(text: &str) -> Arc<str> {
    Arc::from(text)
}
