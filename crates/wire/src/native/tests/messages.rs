//! Messages of servers: written, and read by the client.

use super::*;
use crate::native::fuzz::position_of;
use fanfare_hub::{
    ClientId, Connected, Disconnect, Epoch, Error, ErrorCode, History, PresenceEntry, PresenceKind, PresencePush,
    PresenceSnapshot, Proof, Rate, Reply, ReplyBody, Signal, SignalPush, Subscribed,
};

/// The one with which epoch e begins.
fn first() -> Publication {
    Publication { begins: Some(Box::new(Epoch(14))), ..publication(1) }
}

pub(super) fn publication(offset: u64) -> Publication {
    Publication {
        offset,
        prev: offset - 1,
        ts_ms: 1_700_000_000_000,
        data: Data::Json(json(r#"{"text":"hi"}"#)),
        event: None,
        idempotency_key: None,
        from: None,
        audience: None,
        hidden: None,
        echo: true,
        begins: None,
        act: None,
    }
}

fn entry(info: Option<Bytes>) -> Arc<PresenceEntry> {
    Arc::new(PresenceEntry {
        client: ClientId(1),
        user: Some(UserId("ada".into())),
        info,
        data: json("{}"),
        person: None,
    })
}

/// Every reply and push as text. The next test shows how the client reads it.
#[test]
fn replies_are_written_as_documented() {
    let extras = ConnectedExtras {
        ticket: "tick\"et",
        features: &["rpc"],
        limits: ConnectedLimits {
            message_bytes: 65536,
            subscriptions: 128,
            presence_bytes: 4096,
            idempotency_keys_bytes: 4 << 20,
            idempotency_keys_ttl_ms: 120_000,
        },
    };
    let connected = |user: Option<&str>, resumed: bool| {
        let user = user.map(|user| UserId(user.into()));
        let (proof, expires_in_ms) = (Proof::default(), resumed.then_some(60_000));
        let client = ClientId(255);
        let (incarnation, ping_ms) = (u32::from(resumed), 25_000);
        ReplyBody::Connected(Box::new(Connected {
            client,
            user,
            resumed,
            incarnation,
            ping_ms,
            proof,
            expires_in_ms,
            message_rate: Some(Rate::new(100, 10_000)),
            byte_rate: None,
            before: None,
        }))
    };
    let mut refused = Error::new(ErrorCode::RateLimited, "slowly, \"Ada\"\n").on(&name("c")).by_rule("c:*");
    refused.retry_after_ms = Some(1500);
    let subscribed = |recovered, publications, more| {
        ReplyBody::Subscribed(Box::new(Subscribed {
            channel: name("c"),
            position: at(2),
            recovered,
            publications,
            more,
            rooms: vec![],
        }))
    };
    let snapshot = |entries| PresenceSnapshot { seq: 4, count: 1, entries };
    let full = Publication {
        data: Data::Binary(Bytes::from_static(&[0, 255])),
        event: Some("e".into()),
        idempotency_key: Some("k".into()),
        from: Some(Sender { client: Some(ClientId(1)), user: Some(UserId("ada".into())) }),
        ..publication(2)
    };
    let rows: Vec<(Option<RequestId>, ReplyBody, &str)> = vec![
        (
            id(1),
            connected(Some("ada"), true),
            r#"{"type":"connected","id":1,"client":"00000000000000ff","user":"ada","session_resumed":true,"ticket":"tick\"et","expires":60000,"ping":25000,"protocol":"fanfare.v1","features":["rpc"],"limits":{"message_bytes":65536,"subscriptions":128,"presence_bytes":4096,"idempotency_keys_bytes":4194304,"idempotency_keys_ttl":120000,"commands":32,"history":1000,"message_rate":{"count":100,"time":10000}}}"#,
        ),
        (
            None,
            subscribed(None, vec![], false),
            r#"{"type":"subscribed","channel":"c","epoch":"000000000000000e","offset":2,"publications":[]}"#,
        ),
        (
            id(2),
            subscribed(Some(true), vec![Arc::new(publication(1)), Arc::new(full)], true),
            r#"{"type":"subscribed","id":2,"channel":"c","epoch":"000000000000000e","offset":2,"recovered":true,"publications":[{"offset":1,"data":{"text":"hi"},"ts":1700000000000},{"offset":2,"data64":"AP8=","event":"e","idempotency_key":"k","from":{"client":"0000000000000001","user":"ada"},"ts":1700000000000}],"more":true}"#,
        ),
        (
            Some(RequestId::Text("a\"b".into())),
            ReplyBody::Unsubscribed { channel: name("c") },
            r#"{"type":"unsubscribed","id":"a\"b","channel":"c","code":"requested"}"#,
        ),
        (
            id(3),
            ReplyBody::Published { position: at(9), duplicate: false },
            r#"{"type":"published","id":3,"epoch":"000000000000000e","offset":9}"#,
        ),
        (
            id(3),
            ReplyBody::Published { position: at(9), duplicate: true },
            r#"{"type":"published","id":3,"epoch":"000000000000000e","offset":9,"duplicate":true}"#,
        ),
        (
            id(4),
            ReplyBody::History(Box::new(History {
                channel: name("c"),
                top: at(3),
                publications: vec![Arc::new(publication(3))],
                more: true,
                gap: false,
                reset: false,
            })),
            r#"{"type":"history","id":4,"channel":"c","epoch":"000000000000000e","offset":3,"publications":[{"offset":3,"data":{"text":"hi"},"ts":1700000000000}],"more":true}"#,
        ),
        (
            id(4),
            ReplyBody::History(Box::new(History {
                channel: name("c"),
                top: at(3),
                publications: vec![],
                more: false,
                gap: true,
                reset: false,
            })),
            r#"{"type":"history","id":4,"channel":"c","epoch":"000000000000000e","offset":3,"publications":[],"gap":true}"#,
        ),
        (
            id(4),
            ReplyBody::History(Box::new(History {
                channel: name("c"),
                top: at(3),
                publications: vec![],
                more: false,
                gap: false,
                reset: true,
            })),
            r#"{"type":"history","id":4,"channel":"c","epoch":"000000000000000e","offset":3,"publications":[],"reset":true}"#,
        ),
        (
            id(5),
            ReplyBody::Presence { channel: name("c"), snapshot: snapshot(Some(vec![entry(Some(json("[1]")))])) },
            r#"{"type":"presence","id":5,"channel":"c","seq":4,"count":1,"entries":[{"client":"0000000000000001","user":"ada","info":[1],"data":{}}]}"#,
        ),
        (
            id(5),
            ReplyBody::Presence { channel: name("c"), snapshot: snapshot(None) },
            r#"{"type":"presence","id":5,"channel":"c","seq":4,"count":1}"#,
        ),
        (id(6), ReplyBody::Done, r#"{"type":"result","id":6}"#),
        (id(6), ReplyBody::Result(json(r#"{"a": 1}"#)), r#"{"type":"result","id":6,"data":{"a": 1}}"#),
        (id(6), ReplyBody::Refreshed { expires_in_ms: Some(9) }, r#"{"type":"result","id":6,"expires":9}"#),
        (None, ReplyBody::Expiring { expires_in_ms: 30_000 }, r#"{"type":"token_expiring","expires":30000}"#),
        (
            id(7),
            ReplyBody::Many(vec![
                subscribed(None, vec![], false),
                ReplyBody::Error(Error::new(ErrorCode::NoRule, "no")),
            ]),
            r#"{"type":"result","id":7,"data":[{"type":"subscribed","channel":"c","epoch":"000000000000000e","offset":2,"publications":[]},{"type":"error","code":"no_rule","message":"no","retryable":false}]}"#,
        ),
        (
            id(8),
            ReplyBody::Error(refused),
            r#"{"type":"error","id":8,"code":"rate_limited","message":"slowly, \"Ada\"\n","retryable":true,"retry_after":1500,"channel":"c","rule":"c:*"}"#,
        ),
    ];
    for (id, body, text) in rows {
        let mut out = Vec::new();
        encode_reply(&mut out, &Reply { id, body }, Some(&extras));
        assert_eq!(String::from_utf8(out).unwrap(), text);
    }
    let mut out = Vec::new();
    encode_reply(&mut out, &Reply { id: None, body: connected(None, false) }, None);
    let text = r#"{"type":"connected","client":"00000000000000ff","session_resumed":false,"ping":25000,"protocol":"fanfare.v1"}"#;
    assert_eq!(String::from_utf8(out).unwrap(), text);
}

pub(super) fn pushes() -> Vec<(Push, &'static str)> {
    let (channel, position) = (name("c"), at(5));
    let from = Sender { client: Some(ClientId(1)), user: None };
    let signal = Signal { channel: name("c"), event: "typing".into(), data: json("true"), to: Some(ClientId(2)) };
    let presence = |kind, info| {
        Push::Presence(Arc::new(PresencePush {
            channel: name("c"),
            kind,
            entry: entry(info),
            still_there: false,
            seq: 3,
            ts_ms: 1,
        }))
    };
    let snapshot = Arc::new(PresenceSnapshot { seq: 4, count: 1, entries: Some(vec![entry(None)]) });
    let denied = Error::new(ErrorCode::Denied, "no longer").by_rule("c");
    vec![
        (
            Push::Message { channel: channel.clone(), epoch: Epoch(1), publication: Arc::new(publication(5)) },
            r#"{"type":"message","channel":"c","offset":5,"data":{"text":"hi"},"ts":1700000000000}"#,
        ),
        (
            Push::Message { channel: channel.clone(), epoch: Epoch(1), publication: Arc::new(first()) },
            r#"{"type":"message","channel":"c","epoch":"000000000000000e","offset":1,"data":{"text":"hi"},"ts":1700000000000}"#,
        ),
        (
            Push::Messages {
                channel: channel.clone(),
                publications: [5, 6].map(|offset| Arc::new(publication(offset))).into(),
            },
            concat!(
                r#"[{"type":"message","channel":"c","offset":5,"data":{"text":"hi"},"ts":1700000000000},"#,
                r#"{"type":"message","channel":"c","offset":6,"data":{"text":"hi"},"ts":1700000000000}]"#
            ),
        ),
        (
            Push::Signal(Arc::new(SignalPush { signal, from, ts_ms: 1 })),
            r#"{"type":"signal","channel":"c","event":"typing","data":true,"from":{"client":"0000000000000001"}}"#,
        ),
        (
            presence(PresenceKind::Join, Some(json("7"))),
            r#"{"type":"join","channel":"c","client":"0000000000000001","user":"ada","info":7,"data":{},"seq":3}"#,
        ),
        (
            presence(PresenceKind::Leave, None),
            r#"{"type":"leave","channel":"c","client":"0000000000000001","user":"ada","data":{},"seq":3}"#,
        ),
        (
            presence(PresenceKind::Update, None),
            r#"{"type":"presence_update","channel":"c","client":"0000000000000001","user":"ada","data":{},"seq":3}"#,
        ),
        (
            Push::PresenceCount { channel: channel.clone(), count: 2000, seq: 9 },
            r#"{"type":"presence_update","channel":"c","count":2000,"seq":9}"#,
        ),
        (
            Push::PresenceSnapshot { channel: channel.clone(), snapshot },
            r#"{"type":"presence","channel":"c","seq":4,"count":1,"entries":[{"client":"0000000000000001","user":"ada","data":{}}]}"#,
        ),
        (
            Push::Gap { channel: channel.clone(), position, reset: false },
            r#"{"type":"gap","channel":"c","epoch":"000000000000000e","offset":5}"#,
        ),
        (
            Push::Gap { channel: channel.clone(), position, reset: true },
            r#"{"type":"gap","channel":"c","epoch":"000000000000000e","offset":5,"reset":true}"#,
        ),
        (
            Push::Subscribed(Box::new(Subscribed {
                channel: channel.clone(),
                position,
                recovered: None,
                publications: vec![],
                more: false,
                rooms: vec![],
            })),
            r#"{"type":"subscribed","channel":"c","epoch":"000000000000000e","offset":5,"publications":[]}"#,
        ),
        (
            Push::Unsubscribed { channel, error: denied },
            r#"{"type":"unsubscribed","channel":"c","code":"denied","message":"no longer","rule":"c"}"#,
        ),
        (Push::Ping, r#"{"type":"ping"}"#),
        (
            Push::Disconnect { reason: Disconnect::Shutdown, delay_ms: 1234 },
            r#"{"type":"disconnect","code":4000,"reason":"shutdown","retry":true,"delay":1234}"#,
        ),
        (
            Push::Disconnect { reason: Disconnect::Kicked, delay_ms: 0 },
            r#"{"type":"disconnect","code":4503,"reason":"kicked","retry":false,"delay":0}"#,
        ),
    ]
}

#[test]
fn pushes_are_written_as_documented() {
    for (push, text) in pushes() {
        let mut out = Vec::new();
        encode_push(&mut out, &push);
        assert_eq!(String::from_utf8(out).unwrap(), text);
    }
    let mut out = Vec::new();
    encode_ticket(&mut out, "new");
    assert_eq!(String::from_utf8(out).unwrap(), r#"{"type":"ticket","ticket":"new"}"#);
}

pub(super) fn heard(text: &str) -> ServerMessage {
    let mut out = Vec::new();
    client::decode(text, &mut out).unwrap();
    assert_eq!(out.len(), 1, "{text}");
    out.remove(0)
}

/// The client's reading of the server's messages, field by field, so that both ends are held to the same words.
#[test]
fn the_client_reads_what_the_server_writes() {
    let mut all = Vec::new();
    for (_, text) in pushes() {
        client::decode(text, &mut all).unwrap();
    }
    let who = |info| client::PresenceEntry {
        client: "0000000000000001".into(),
        user: Some("ada".into()),
        info,
        data: Some(json("{}")),
    };
    let change = |kind, info| {
        ServerMessage::PresenceChange(Box::new(client::PresenceChange {
            channel: "c".into(),
            kind,
            entry: who(info),
            seq: 3,
        }))
    };
    let disconnect = |code, reason: &str, retry, delay_ms| ServerMessage::Disconnect {
        code,
        reason: reason.into(),
        retry,
        delay_ms,
    };
    let gap = |reset| ServerMessage::Gap { channel: "c".into(), position: position_of(at(5)), reset };
    let message = |offset, epoch: Option<&str>| {
        let data = Data::Json(json(r#"{"text":"hi"}"#));
        let (event, idempotency_key, from, ts_ms) = (None, None, None, 1_700_000_000_000);
        let publication = Box::new(client::Publication { offset, data, event, idempotency_key, from, ts_ms });
        ServerMessage::Message { channel: "c".into(), epoch: epoch.map(Arc::from), publication }
    };
    assert_eq!(
        all,
        [
            message(5, None),
            message(1, Some("000000000000000e")),
            message(5, None),
            message(6, None),
            ServerMessage::Signal(Box::new(client::Signal {
                channel: "c".into(),
                event: "typing".into(),
                data: json("true"),
                from: client::From { client: Some("0000000000000001".into()), user: None },
            })),
            change(PresenceKind::Join, Some(json("7"))),
            change(PresenceKind::Leave, None),
            change(PresenceKind::Update, None),
            ServerMessage::PresenceCount { channel: "c".into(), count: 2000, seq: 9 },
            ServerMessage::Presence(Box::new(client::Presence {
                id: None,
                channel: "c".into(),
                seq: 4,
                count: 1,
                entries: Some(vec![who(None)]),
            })),
            gap(false),
            gap(true),
            ServerMessage::Subscribed(Box::new(client::Subscribed {
                id: None,
                channel: "c".into(),
                position: client::Position { epoch: "000000000000000e".into(), offset: 5 },
                recovered: None,
                publications: vec![],
                more: false,
            })),
            ServerMessage::Unsubscribed(Box::new(client::Unsubscribed {
                id: None,
                channel: "c".into(),
                code: "denied".into(),
                message: Some("no longer".into()),
                rule: Some("c".into()),
            })),
            ServerMessage::Ping,
            disconnect(4000, "shutdown", true, 1234),
            disconnect(4503, "kicked", false, 0),
        ]
    );

    let text = r#"{"type":"connected","id":1,"client":"me","session_resumed":true,"ticket":"t","expires":60000,"ping":9,"protocol":"fanfare.v1","features":["rpc",7],"limits":{"message_bytes":5,"new":{}}}"#;
    let ServerMessage::Connected(connected) = heard(text) else { panic!() };
    assert_eq!((&*connected.client, connected.session_resumed, connected.ping_ms), ("me", true, 9));
    assert_eq!(connected.expires_ms, Some(60_000));
    assert_eq!((connected.features.as_slice(), connected.limits.message_bytes), (&["rpc".into()][..], Some(5)));

    let text = r#"{"type":"subscribed","id":"x","channel":"c","epoch":"?","offset":2,"recovered":false,"publications":[{"offset":2,"data64":"AP8=","idempotency_key":"k","from":{"user":"u"},"ts":3}],"more":true}"#;
    let ServerMessage::Subscribed(subscribed) = heard(text) else { panic!() };
    assert_eq!((subscribed.recovered, subscribed.more, &*subscribed.position.epoch), (Some(false), true, "?"));
    assert_eq!(subscribed.publications[0].data, Data::Binary(Bytes::from_static(&[0, 255])));
    assert_eq!(subscribed.publications[0].from.as_ref().unwrap().user.as_deref(), Some("u"));

    let text = r#"{"type":"error","id":8,"code":"new_word","message":"m","retryable":true,"retry_after":5}"#;
    let ServerMessage::Error(error) = heard(text) else { panic!() };
    assert_eq!((&*error.code, error.retryable, error.retry_after_ms), ("new_word", true, Some(5)));

    let ServerMessage::Result { data: Some(data), .. } =
        heard(r#"{"type":"result","id":1,"data":[{"type":"ping"},{"type":"ticket","ticket":"t"}]}"#)
    else {
        panic!()
    };
    assert_eq!(client::decode_many(&data).unwrap().len(), 2);
    assert_eq!(
        heard(r#"{"type":"result","data":null}"#),
        ServerMessage::Result { id: None, data: Some(json("null")), expires_ms: None }
    );
    assert_eq!(heard(r#"{"type":"weather","sun":true}"#), ServerMessage::Unknown { kind: "weather".into() });
}

#[test]
fn a_server_that_breaks_the_protocol_is_told_apart() {
    for text in [
        "",
        "[",
        "7",
        "{}",
        r#"{"type":"message","channel":"c","offset":1}"#,
        r#"{"type":"published","epoch":"e","offset":-1}"#,
    ] {
        assert!(client::decode(text, &mut Vec::new()).is_err(), "{text}");
    }
}

/// A list is in the epoch that stands beside it.
#[test]
fn only_a_message_names_the_epoch_that_it_begins() {
    let mut alone = Vec::new();
    encode_publication(&mut alone, &first());
    let mut listed = Vec::new();
    encode_publication(&mut listed, &publication(1));
    assert_eq!(alone, listed);
}

/// Half an emoji is JSON: in data it passes, and a key that holds one is unknown like others.
#[test]
fn the_client_takes_a_lone_surrogate_in_data_and_refuses_it_in_a_name() {
    let text = r#"{"\ud83d":0,"type":"message","channel":"c","offset":1,"ts":1,"data":{"\udc00":"cut \ud83d"}}"#;
    let ServerMessage::Message { publication, .. } = heard(text) else { panic!("{text}") };
    assert_eq!(publication.data, Data::Json(json(r#"{"\udc00":"cut \ud83d"}"#)));
    let text = r#"{"type":"message","channel":"c\ud83d","offset":1,"ts":1,"data":1}"#;
    let problem = client::decode(text, &mut Vec::new()).unwrap_err().problem;
    assert!(problem.starts_with("`channel` is not Unicode text"), "{problem}");
}
