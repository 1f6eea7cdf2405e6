//! The real wire: encodes the messages of both ends to WebSocket frames of the native protocol, and decodes them.
//!
//! A world keeps the hub's messages beside the bytes, so that the judge can compare in the hub's own types. Each text
//! that a client decodes must agree with its message ([`agrees`]), and the server must decode each command as it was
//! meant.

mod engineio;

pub(crate) use engineio::{encode_packet, read_payload, reframed, write_post};

use crate::application::{WITH_INFO, user_of};
use fanfare_hub::{
    ChannelName, ClientId, Command, Connect, Epoch, HistoryFrom, Position, Proof, Publication, Push, Reply, ReplyBody,
    Request, Resume, ShardId, SubOptions, UserId,
};
use fanfare_wire::native::client::{self as native_client, ClientCommand, ClientRequest, ServerMessage};
use fanfare_wire::native::requests::{self, PollBody, SendBody};
use fanfare_wire::native::{self, ConnectedExtras, ConnectedLimits, Decoded};
use fanfare_wire::stream::StreamForm;
use fanfare_wire::ticket;
use fanfare_wire::websocket::{self, Opcode};
use std::sync::Arc;

/// One message of the server.
#[derive(Debug, Clone)]
pub(crate) enum ToClient {
    Push(Push),
    Reply(Reply),
}

/// True for what is as large as a page of publications or a whole presence.
pub(crate) fn is_page(message: &ToClient) -> bool {
    match message {
        ToClient::Push(push) => {
            matches!(push, Push::Message { .. } | Push::Messages { .. } | Push::PresenceSnapshot { .. })
        }
        ToClient::Reply(reply) => matches!(
            reply.body,
            ReplyBody::Subscribed(_) | ReplyBody::Many(_) | ReplyBody::History(_) | ReplyBody::Presence { .. }
        ),
    }
}

/// The channel that a message is about.
pub(crate) fn channel_of(push: &Push) -> Option<&ChannelName> {
    match push {
        Push::Message { channel, .. }
        | Push::Messages { channel, .. }
        | Push::PresenceCount { channel, .. }
        | Push::PresenceSnapshot { channel, .. }
        | Push::Gap { channel, .. }
        | Push::Volatile { channel, .. }
        | Push::Unsubscribed { channel, .. } => Some(channel),
        Push::Signal(signal) => Some(&signal.signal.channel),
        Push::Presence(change) => Some(&change.channel),
        Push::Subscribed(subscribed) => Some(&subscribed.channel),
        Push::Mark { .. } | Push::Ping | Push::Disconnect { .. } => None,
    }
}

/// The key with which the server of this world seals its tickets.
const KEY: &[u8] = b"the key of a simulated server, 32";
/// The validity of a ticket.
const TICKET_MS: u64 = 3_600_000;

/// A message of the server as one frame.
pub(crate) fn encode(message: &ToClient, shard: usize, wall_ms: u64, limits: &fanfare_hub::Limits) -> bytes::Bytes {
    websocket::frame(Opcode::Text, &encode_text(message, shard, wall_ms, limits))
}

/// A message of the server as an entry of the answer to a poll.
pub(crate) fn encode_entry(
    message: &ToClient,
    shard: usize,
    wall_ms: u64,
    limits: &fanfare_hub::Limits,
) -> bytes::Bytes {
    let mut text = encode_text(message, shard, wall_ms, limits);
    text.push(b',');
    text.into()
}

/// A message of the server in the body of a stream.
pub(crate) fn encode_streamed(
    message: &ToClient,
    form: StreamForm,
    shard: usize,
    wall_ms: u64,
    limits: &fanfare_hub::Limits,
) -> bytes::Bytes {
    let mut framed = Vec::new();
    form.put(&mut framed, &encode_text(message, shard, wall_ms, limits));
    framed.into()
}

fn encode_text(message: &ToClient, shard: usize, wall_ms: u64, limits: &fanfare_hub::Limits) -> Vec<u8> {
    let mut text = Vec::new();
    match message {
        ToClient::Push(push) => native::encode_push(&mut text, push),
        ToClient::Reply(reply) => {
            let sealed = match &reply.body {
                ReplyBody::Connected(connected) => {
                    let claims = ticket::Claims {
                        node: 1,
                        shard: ShardId(shard as u16),
                        client: connected.client,
                        expires_ms: wall_ms + TICKET_MS,
                    };
                    ticket::seal(&claims, KEY)
                }
                _ => String::new(),
            };
            let limits = ConnectedLimits::from(limits);
            native::encode_reply(&mut text, reply, Some(&ConnectedExtras { ticket: &sealed, features: &[], limits }));
        }
    }
    text
}

/// A close frame of the server.
pub(crate) fn encode_close(reason: fanfare_hub::Disconnect) -> bytes::Bytes {
    let mut frame = Vec::new();
    websocket::put_close(&mut frame, reason.code(), reason.row().word, None);
    frame.into()
}

/// A text of a client as one masked frame.
pub(crate) fn frame_up(text: &str, mask: u64) -> Vec<u8> {
    let mut frame = Vec::new();
    websocket::put_frame(&mut frame, Opcode::Text, text.as_bytes(), Some((mask as u32).to_le_bytes()));
    frame
}

/// The answer to a ping of WebSocket.
pub(crate) fn pong_up(mask: u64) -> Vec<u8> {
    let mut frame = Vec::new();
    websocket::put_frame(&mut frame, Opcode::Pong, &[], Some((mask as u32).to_le_bytes()));
    frame
}

/// The token of a user of this world. The server believes it.
pub(crate) fn token_of(user: Option<&UserId>, info: bool) -> Option<Box<str>> {
    user.map(|user| format!("{user}{}", if info { WITH_INFO } else { "" }).into())
}

/// The options with which the server decodes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reading<'a> {
    pub(crate) wall_ms: u64,
    pub(crate) limits: &'a fanfare_hub::Limits,
    /// The application is asked about tokens; otherwise the shell accepts them.
    pub(crate) asks: bool,
    /// Commands that no text of the native protocol can say.
    pub(crate) unspoken: &'a [Request],
    /// Channels whose subscriptions the server keeps for this client. The native protocol cannot ask for that.
    pub(crate) keeps: &'a [ChannelName],
}

/// A command about rooms in a client's form. The native protocol has no rooms, and another protocol's text would only
/// say the same: the text names one of the commands that are kept aside.
pub(crate) fn write_unspoken(index: usize) -> String {
    format!("#{index}")
}

/// The server's view of a text: commands for the hub, with the ticket opened.
pub(crate) fn read_commands(text: &str, reading: Reading<'_>) -> Result<Vec<Request>, String> {
    if let Some(index) = text.strip_prefix('#') {
        let unspoken = index.parse().ok().and_then(|index: usize| reading.unspoken.get(index));
        return unspoken.cloned().map(|request| vec![request]).ok_or_else(|| format!("the server cannot read {text}"));
    }
    let mut decoded = Vec::new();
    native::decode(text, &reading.limits.into(), &mut decoded);
    let mut requests: Vec<Request> =
        decoded.into_iter().map(|one| request_of(one, reading)).collect::<Result<_, _>>()?;
    requests.iter_mut().for_each(|request| reading.keep(&mut request.command));
    Ok(requests)
}

impl Reading<'_> {
    /// The server's protocol asks for what the native one cannot say.
    fn keep(&self, command: &mut Command) {
        let subs = match command {
            Command::Connect(connect) => &mut connect.subscribe,
            Command::Subscribe { subs, .. } => subs,
            _ => return,
        };
        subs.iter_mut().for_each(|options| options.keep = self.keeps.contains(&options.channel));
    }
}

fn request_of(decoded: Decoded, reading: Reading<'_>) -> Result<Request, String> {
    match decoded {
        Decoded::Request(request) => Ok(request),
        Decoded::Connect { id, token, ticket, page, ack, subscribe } => {
            let claims = ticket.and_then(|text| ticket::open(&text, KEY, reading.wall_ms).ok());
            let resume = claims.map(ticket::Claims::resume);
            if reading.asks {
                let connect = Connect { token, resume, page, ack, subscribe, ..Connect::default() };
                return Ok(Request { id, command: Command::Connect(Box::new(connect)) });
            }
            let user = token.as_deref().map(user_of);
            let info = token.filter(|token| token.ends_with(WITH_INFO)).map(|_| br#"{"name":"n"}"#.as_slice().into());
            let proof = Proof { info, ..Proof::default() };
            let connect = Connect { user, proof, resume, page, ack, subscribe, ..Connect::default() };
            Ok(Request { id, command: Command::Connect(Box::new(connect)) })
        }
    }
}

/// A command of the hub in a client's form.
pub(crate) fn write_command(request: &Request, token: Option<Box<str>>, ticket: Option<Box<str>>) -> String {
    let channel = |name: &ChannelName| -> Arc<str> { name.as_str().into() };
    let command = match &request.command {
        Command::Connect(connect) => {
            let subscribe = connect.subscribe.iter().map(subscribe_of).collect();
            let page = connect.page.as_ref().map(|page| page.as_str().into());
            ClientCommand::Connect { token, ticket, page, ack: connect.ack, subscribe }
        }
        Command::Subscribe { subs, many: true } => {
            ClientCommand::SubscribeMany(subs.iter().map(subscribe_of).collect())
        }
        Command::Subscribe { subs, many: false } => ClientCommand::Subscribe(Box::new(subscribe_of(&subs[0]))),
        Command::Unsubscribe { channel: name } => ClientCommand::Unsubscribe { channel: channel(name) },
        Command::Publish(publish) => ClientCommand::Publish(Box::new(native_client::Publish {
            channel: channel(&publish.channel),
            data: publish.data.clone(),
            event: publish.event.clone(),
            idempotency_key: publish.idempotency_key.clone(),
            echo: publish.echo,
        })),
        Command::History { channel: name, query } => ClientCommand::History {
            channel: channel(name),
            from: match query.from {
                HistoryFrom::Newest => native_client::HistoryFrom::Newest,
                HistoryFrom::Since(at) => native_client::HistoryFrom::Since(position_of(at)),
                HistoryFrom::Before(at) => native_client::HistoryFrom::Before(position_of(at)),
            },
            limit: Some(query.limit),
        },
        Command::Presence { channel: name } => ClientCommand::Presence { channel: channel(name) },
        Command::Signal(signal) => ClientCommand::Signal {
            channel: channel(&signal.channel),
            event: signal.event.clone(),
            data: signal.data.clone(),
            to: signal.to.map(|to| to.to_string().into()),
        },
        Command::PresenceSet { channel: name, data, .. } => {
            ClientCommand::PresenceSet { channel: channel(name), data: data.clone() }
        }
        Command::PresenceClear { channel: name } => ClientCommand::PresenceClear { channel: channel(name) },
        Command::Rpc { method, data } => ClientCommand::Rpc { method: method.clone(), data: data.clone() },
        Command::Refresh { token } => ClientCommand::Refresh { token: token.clone().into() },
        Command::Disconnect => ClientCommand::Disconnect,
        Command::Pong | Command::Invalid(_) | Command::Room(_) | Command::Leave => ClientCommand::Pong,
    };
    let mut text = Vec::new();
    native_client::encode(&mut text, &ClientRequest { id: request.id.clone(), command });
    String::from_utf8_lossy(&text).into_owned()
}

fn position_of(at: Position) -> native_client::Position {
    native_client::Position { epoch: at.epoch.to_string().into(), offset: at.offset }
}

/// The body of a send.
pub(crate) fn write_send(ticket: &str, n: Option<u64>, requests: &[Request]) -> String {
    let n = n.map(|n| format!("\"n\":{n},")).unwrap_or_default();
    let commands: Vec<String> = requests.iter().map(|request| write_command(request, None, None)).collect();
    format!("{{\"ticket\":\"{ticket}\",{n}\"commands\":[{}]}}", commands.join(","))
}

/// A send as the server reads it.
#[derive(Debug)]
pub(crate) struct SendRead {
    pub(crate) ticket: Box<str>,
    /// The content of its ticket, if that is valid.
    pub(crate) to: Option<Resume>,
    pub(crate) n: Option<u64>,
    pub(crate) requests: Vec<Request>,
}

/// The server's view of the body of a send.
pub(crate) fn read_send(body: &str, reading: Reading<'_>) -> Result<SendRead, String> {
    let read = requests::decode_send(body, &reading.limits.into());
    let SendBody { ticket, n, mut requests } =
        read.map_err(|error| format!("the server cannot read {body}: {error}"))?;
    let is_bad = |request: &&Request| matches!(request.command, Command::Invalid(_));
    if let Some(bad) = requests.iter().find(is_bad) {
        return Err(format!("the server does not understand a command of {body}: {bad:?}"));
    }
    requests.iter_mut().for_each(|request| reading.keep(&mut request.command));
    Ok(SendRead { to: open_ticket(&ticket, reading.wall_ms), ticket, n, requests })
}

/// The body of the answer to a send.
pub(crate) fn write_send_answer(n: Option<u64>, replies: &[Reply]) -> String {
    let mut body = Vec::new();
    requests::encode_send_answer(&mut body, n, replies, None);
    String::from_utf8_lossy(&body).into_owned()
}

/// The body of a poll.
pub(crate) fn write_poll(ticket: &str, ack: u64, wait_ms: u64) -> String {
    format!("{{\"ticket\":\"{ticket}\",\"ack\":{ack},\"wait\":{wait_ms}}}")
}

/// The server's view of a poll: its session, the last answer that the client has, and how long it may wait.
pub(crate) fn read_poll(body: &str, wall_ms: u64) -> Result<(Resume, u64, u64), String> {
    match requests::decode_poll(body) {
        Ok(PollBody::Poll { ticket, ack, wait_ms }) => {
            let to = open_ticket(&ticket, wall_ms).ok_or_else(|| format!("the ticket of {body} does not open"))?;
            Ok((to, ack, wait_ms.unwrap_or(requests::WAIT_MS_MAX)))
        }
        read => Err(format!("the server reads {body} as {read:?}")),
    }
}

fn open_ticket(text: &str, wall_ms: u64) -> Option<Resume> {
    ticket::open(text, KEY, wall_ms).ok().map(ticket::Claims::resume)
}

/// The body of the answer to a poll, with messages that each end with a comma.
pub(crate) fn write_poll_answer(n: u64, messages: &[u8]) -> String {
    let mut body = Vec::new();
    requests::encode_poll_answer(&mut body, n, messages);
    String::from_utf8_lossy(&body).into_owned()
}

/// The number of an answer to a poll, and its messages.
pub(crate) fn read_poll_answer(body: &str) -> Result<(u64, Vec<String>), String> {
    let digits = body.strip_prefix("{\"n\":").and_then(|rest| rest.split_once(','));
    let n =
        digits.and_then(|(n, _)| n.parse().ok()).ok_or_else(|| format!("wire: an answer without number: {body}"))?;
    Ok((n, entries(body, "messages")?))
}

/// The entries of an array in a JSON object, each as it is written.
pub(crate) fn entries(body: &str, field: &str) -> Result<Vec<String>, String> {
    let no_list = || format!("wire: no list `{field}` in {body}");
    let (_, list) = body.split_once(&format!("\"{field}\":[")).ok_or_else(no_list)?;
    let (mut depth, mut from, mut in_text, mut escaped) = (0, 0, false, false);
    let mut all = Vec::new();
    for (at, byte) in list.bytes().enumerate() {
        match byte {
            _ if std::mem::take(&mut escaped) => {}
            b'\\' if in_text => escaped = true,
            b'"' => in_text = !in_text,
            _ if in_text => {}
            b'[' | b'{' => depth += 1,
            b']' | b',' if depth == 0 => {
                all.extend(Some(&list[from..at]).filter(|entry| !entry.is_empty()).map(str::to_owned));
                from = at + 1;
                if byte == b']' {
                    return Ok(all);
                }
            }
            b']' | b'}' => depth -= 1,
            _ => {}
        }
    }
    Err(no_list())
}

fn subscribe_of(options: &SubOptions) -> native_client::Subscribe {
    native_client::Subscribe {
        channel: options.channel.as_str().into(),
        since: options.since.map(position_of),
        recent: options.recent,
        presence: options.presence,
        signals: options.signals,
        batch: options.batch,
        slow: options.slow,
    }
}

/// The client's view of a text of the server.
pub(crate) fn read_messages(text: &str) -> Result<Vec<ServerMessage>, String> {
    let mut messages = Vec::new();
    native_client::decode(text, &mut messages).map_err(|error| format!("the client cannot read {text}: {error}"))?;
    Ok(messages)
}

/// The ticket in `connected`.
pub(crate) fn ticket_in(message: &ServerMessage) -> Option<Box<str>> {
    match message {
        ServerMessage::Connected(connected) => connected.ticket.clone(),
        _ => None,
    }
}

/// True if the client decoded the hub's message: one, or as many as were gathered.
pub(crate) fn agree(read: &[ServerMessage], said: &ToClient) -> bool {
    match said {
        ToClient::Push(Push::Messages { channel, publications }) => {
            let message = |publication: &Arc<Publication>| {
                let (channel, epoch, publication) = (channel.clone(), Epoch(0), publication.clone()); // it is not compared
                ToClient::Push(Push::Message { channel, epoch, publication })
            };
            read.len() == publications.len() && read.iter().zip(&publications[..]).all(|(r, p)| agrees(r, &message(p)))
        }
        said => read.len() == 1 && agrees(&read[0], said),
    }
}

fn agrees(read: &ServerMessage, said: &ToClient) -> bool {
    match (read, said) {
        (
            ServerMessage::Message { channel, epoch, publication },
            ToClient::Push(Push::Message { channel: of, publication: p, .. }),
        ) => {
            let begins = p.begins.as_ref().map(ToString::to_string);
            same(channel, of) && epoch.as_deref() == begins.as_deref() && same_publication(publication, p)
        }
        (
            ServerMessage::Gap { channel, position, reset },
            ToClient::Push(Push::Gap { channel: of, position: at, reset: r }),
        ) => same(channel, of) && *position == position_of(*at) && reset == r,
        (ServerMessage::Signal(signal), ToClient::Push(Push::Signal(push))) => {
            same(&signal.channel, &push.signal.channel)
                && signal.event == push.signal.event
                && signal.data == push.signal.data
                && same_client(signal.from.client.as_deref(), push.from.client)
        }
        (ServerMessage::PresenceChange(change), ToClient::Push(Push::Presence(push))) => {
            (change.kind, change.seq) == (push.kind, push.seq)
                && same_client(Some(&change.entry.client), Some(push.entry.client))
                && change.entry.info == push.entry.info
        }
        (
            ServerMessage::PresenceCount { channel, count, seq },
            ToClient::Push(Push::PresenceCount { channel: of, count: c, seq: s }),
        ) => same(channel, of) && (count, seq) == (c, s),
        (ServerMessage::Presence(presence), ToClient::Push(Push::PresenceSnapshot { snapshot, .. })) => {
            presence.id.is_none() && (presence.seq, presence.count) == (snapshot.seq, snapshot.count)
        }
        (ServerMessage::Subscribed(read), ToClient::Push(Push::Subscribed(said))) => {
            read.id.is_none()
                && same(&read.channel, &said.channel)
                && read.position == position_of(said.position)
                && (read.recovered, read.more) == (said.recovered, said.more)
                && same_publications(&read.publications, &said.publications)
        }
        (ServerMessage::Unsubscribed(ended), ToClient::Push(Push::Unsubscribed { channel, error })) => {
            ended.id.is_none() && same(&ended.channel, channel) && *ended.code == *error.code.row().word
        }
        (ServerMessage::Ping, ToClient::Push(Push::Ping)) => true,
        (ServerMessage::Disconnect { code, .. }, ToClient::Push(Push::Disconnect { reason, .. })) => {
            *code == reason.code()
        }
        (read, ToClient::Reply(reply)) => agrees_reply(read, reply),
        _ => false,
    }
}

fn agrees_reply(read: &ServerMessage, reply: &Reply) -> bool {
    match (read, &reply.body) {
        (ServerMessage::Connected(read), ReplyBody::Connected(said)) => {
            read.id == reply.id
                && same_client(Some(&read.client), Some(said.client))
                && read.session_resumed == said.resumed
                && read.user.as_deref() == said.user.as_ref().map(|user| &*user.0)
        }
        (ServerMessage::Subscribed(read), ReplyBody::Subscribed(said)) => {
            read.id == reply.id
                && same(&read.channel, &said.channel)
                && read.position == position_of(said.position)
                && (read.recovered, read.more) == (said.recovered, said.more)
                && same_publications(&read.publications, &said.publications)
        }
        (ServerMessage::Unsubscribed(read), ReplyBody::Unsubscribed { channel }) => {
            read.id == reply.id && same(&read.channel, channel)
        }
        (ServerMessage::Published { id, position, duplicate }, ReplyBody::Published { position: at, duplicate: d }) => {
            *id == reply.id && *position == position_of(*at) && duplicate == d
        }
        (ServerMessage::History(read), ReplyBody::History(said)) => {
            read.id == reply.id
                && read.top == position_of(said.top)
                && (read.more, read.gap, read.reset) == (said.more, said.gap, said.reset)
                && same_publications(&read.publications, &said.publications)
        }
        (ServerMessage::Presence(read), ReplyBody::Presence { snapshot, .. }) => {
            read.id == reply.id
                && (read.seq, read.count) == (snapshot.seq, snapshot.count)
                && read.entries.as_ref().map(Vec::len) == snapshot.entries.as_ref().map(Vec::len)
        }
        (ServerMessage::Result { id, data: None, .. }, ReplyBody::Done) => *id == reply.id,
        (ServerMessage::Result { id, data: Some(data), .. }, ReplyBody::Many(bodies)) => {
            let parts = native_client::decode_many(data).unwrap_or_default();
            let part = |body: &ReplyBody| Reply { id: None, body: body.clone() };
            *id == reply.id
                && parts.len() == bodies.len()
                && parts.iter().zip(bodies).all(|(read, body)| agrees_reply(read, &part(body)))
        }
        (ServerMessage::Result { id, data: Some(data), .. }, ReplyBody::Result(said)) => {
            *id == reply.id && data == said
        }
        (ServerMessage::Result { id, data: None, expires_ms }, ReplyBody::Refreshed { expires_in_ms, .. }) => {
            *id == reply.id && expires_ms == expires_in_ms
        }
        (ServerMessage::TokenExpiring { expires_ms }, ReplyBody::Expiring { expires_in_ms }) => {
            reply.id.is_none() && expires_ms == expires_in_ms
        }
        (ServerMessage::Error(read), ReplyBody::Error(said)) => {
            read.id == reply.id
                && *read.code == *said.code.row().word
                && read.channel.as_deref() == said.channel.as_deref()
        }
        _ => false,
    }
}

fn same(read: &str, said: &ChannelName) -> bool {
    *read == **said
}

fn same_client(read: Option<&str>, said: Option<ClientId>) -> bool {
    read.map(str::parse) == said.map(Ok)
}

fn same_publication(read: &native_client::Publication, said: &Publication) -> bool {
    read.offset == said.offset
        && read.data == said.data
        && (read.event.as_deref(), read.idempotency_key.as_deref())
            == (said.event.as_deref(), said.idempotency_key.as_deref())
        && read.ts_ms == said.ts_ms
        && same_client(
            read.from.as_ref().and_then(|from| from.client.as_deref()),
            said.from.as_ref().and_then(|from| from.client),
        )
}

fn same_publications(read: &[native_client::Publication], said: &[Arc<Publication>]) -> bool {
    read.len() == said.len() && read.iter().zip(said).all(|(read, said)| same_publication(read, said))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_messages_of_an_answer_are_those_that_were_put_in() {
        let messages = [r#"{"type":"ping"}"#, r#"[{"a":[1,"]},"]},{"b":"\""}]"#, r#"{"data":"[\\"}"#];
        let put: String = messages.iter().map(|message| format!("{message},")).collect();
        let body = write_poll_answer(7, put.as_bytes());
        assert_eq!(read_poll_answer(&body), Ok((7, messages.map(str::to_owned).to_vec())));
        assert_eq!(read_poll_answer(&write_poll_answer(3, b"")), Ok((3, Vec::new())));
        assert!(read_poll_answer("{\"n\":1,\"messages\":[{").is_err());
    }
}
