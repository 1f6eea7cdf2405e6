//! The body of the fuzz target `chat_decode`, and of the tests that feed it on every run.
//!
//! No input panics. An ignored message makes no request. An understood message makes requests only about chat channels,
//! with valid JSON. For any publication, signal or presence entry, the output is valid JSON.

use super::{CHANNEL_PREFIX, Chat, ChatTexts, NAME_BYTES_MAX, ROOM_BYTES_MAX, Written, encode_push};
use bytes::Bytes;
use fanfare_hub::{
    ChannelName, ClientId, Command, Data, Epoch, PresenceEntry, PresenceKind, PresencePush, Publication, Push, Request,
    Sender, Signal, SignalPush,
};
use serde::de::IgnoredAny;
use std::sync::Arc;

/// One round: `data` as a message before and after a join, and as the data of everything that is pushed. With and
/// without bounds of texts.
pub fn decode(data: &[u8]) {
    decode_by(Chat::default(), data);
    decode_by(Chat::with_texts(ChatTexts { username_chars_max: 4, content_chars_max: 8 }), data);
}

fn decode_by(mut chat: Chat, data: &[u8]) {
    let mut requests = Vec::new();
    check(&mut chat, data, &mut requests);
    let joined = chat.decode(br#"{"type":"join","userId":"u","username":"U"}"#, &mut requests);
    assert_eq!(joined, Ok(()), "a good join is understood whatever came before it");
    requests.clear();
    check(&mut chat, data, &mut requests);
    for data in [Data::Json(Bytes::copy_from_slice(data)), Data::Binary(Bytes::copy_from_slice(data))] {
        for push in pushes(&data) {
            assert_json(&push);
        }
    }
}

fn check(chat: &mut Chat, message: &[u8], requests: &mut Vec<Request>) {
    let result = chat.decode(message, requests);
    match result {
        Err(why) => {
            assert!(requests.is_empty(), "ignored ({why}), but it asked for {requests:?}");
            assert!(why.to_string().len() < 1_000, "a line of the log is short");
        }
        Ok(()) => assert!(!requests.is_empty(), "understood, but it asked for nothing"),
    }
    for request in requests.drain(..) {
        match request.command {
            Command::Publish(publish) => {
                assert_is_chat(&publish.channel);
                assert_json(&message_of(publish.data, None));
            }
            Command::Signal(signal) => {
                assert_is_chat(&signal.channel);
                valid(&signal.data).expect("what a chat says is JSON");
            }
            Command::PresenceSet { channel, data, person } => {
                assert!(person.is_some_and(|person| person.len() <= NAME_BYTES_MAX), "a chat says who it is");
                assert_is_chat(&channel);
                valid(&data).expect("what a chat says is JSON");
            }
            Command::Subscribe { subs, .. } => subs.iter().for_each(|options| assert_is_chat(&options.channel)),
            Command::Unsubscribe { channel } | Command::Presence { channel } => assert_is_chat(&channel),
            other => panic!("a chat asked for {other:?}"),
        }
    }
}

fn assert_is_chat(channel: &ChannelName) {
    let room = channel.strip_prefix(CHANNEL_PREFIX).expect("a chat's channel");
    assert!((1..=ROOM_BYTES_MAX).contains(&room.len()) && !room.contains(':'), "{channel:?}");
}

/// Writes it, and checks that this is one line of valid JSON.
pub fn assert_json(push: &Push) {
    let mut out = Vec::new();
    assert_eq!(encode_push(push, u64::MAX, &mut out), Written::Message);
    if let Err(error) = valid(&out) {
        panic!("{error}: {}", String::from_utf8_lossy(&out));
    }
    assert!(!out.contains(&b'\n') && !out.contains(&b'\r'), "a message is one line");
}

fn valid(json: &[u8]) -> Result<(), String> {
    std::str::from_utf8(json).map_err(|e| e.to_string())?;
    serde_json::from_slice::<IgnoredAny>(json).map(drop).map_err(|e| e.to_string())
}

/// A publication of this data.
pub fn message_of(data: Data, from: Option<Sender>) -> Push {
    let publication = Publication {
        offset: 1,
        prev: 0,
        ts_ms: 7,
        data,
        event: None,
        idempotency_key: None,
        from,
        audience: None,
        hidden: None,
        echo: true,
        begins: None,
        act: None,
    };
    Push::Message { channel: channel(), epoch: Epoch(1), publication: Arc::new(publication) }
}

fn channel() -> ChannelName {
    ChannelName::new("chat:general").expect("a valid name")
}

/// Everything that can be pushed with this data in it.
fn pushes(data: &Data) -> Vec<Push> {
    let client = ClientId(1);
    let from = Sender { client: Some(client), user: None };
    let bytes = data.bytes().clone();
    let signal = Signal { channel: channel(), event: "typing".into(), data: bytes.clone(), to: None };
    let entry = Arc::new(PresenceEntry { client, user: None, info: None, data: bytes, person: None });
    let kind = PresenceKind::Join;
    vec![
        message_of(data.clone(), None),
        message_of(data.clone(), Some(from.clone())),
        Push::Signal(Arc::new(SignalPush { signal, from, ts_ms: 7 })),
        Push::Presence(Arc::new(PresencePush {
            channel: channel(),
            kind,
            entry,
            still_there: false,
            seq: 1,
            ts_ms: 7,
        })),
    ]
}
