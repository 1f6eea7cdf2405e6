//! The people of a room: each is named once, however many tabs and clients it has.

use super::*;

/// A chat whose client id is 9, and that joined `chat:general` as u1, Ada.
fn joined_as_nine() -> Chat {
    let mut chat = connected(9, None);
    assert!(asks(&mut chat, r#"{"type":"join","userId":"u1","username":"Ada"}"#).is_ok());
    chat
}

/// By the userId that is shown, however it came about; under the name that the room has heard last.
#[test]
fn a_room_state_names_each_person_once() {
    let rows: &[(&str, Vec<Arc<PresenceEntry>>, &str)] = &[
        (
            "two tabs, one in escapes and with another name",
            vec![
                entry(1, None, r#"{"userId":"u2","username":"Bo"}"#),
                entry(2, None, r#"{"userId":"u3","username":"Cy"}"#),
                entry(3, None, r#"{"username":"Bob","userId":"\u0075\u0032"}"#),
            ],
            r#"{"userId":"\u0075\u0032","username":"Bob"},{"userId":"u3","username":"Cy"}"#,
        ),
        (
            "a proven user and one that claims to be it",
            vec![
                entry(1, Some("ada"), r#"{"username":"Ada"}"#),
                entry(2, None, r#"{"userId":"ada","username":"Eve"}"#),
            ],
            r#"{"userId":"ada","username":"Eve"}"#,
        ),
        (
            "clients without a userId are each their own",
            vec![entry(1, None, "{}"), entry(2, None, "null"), entry(3, None, r#"{"userId":7}"#)],
            r#"{"userId":"0000000000000001","username":"0000000000000001"},{"userId":"0000000000000002","username":"0000000000000002"},{"userId":"0000000000000003","username":"0000000000000003"}"#,
        ),
        (
            "half an emoji is compared as what it is",
            vec![
                entry(1, None, r#"{"userId":"\ud83d","username":"a"}"#),
                entry(2, None, r#"{"userId":"\uD83D","username":"b"}"#),
                entry(3, None, r#"{"userId":"\ud83e","username":"c"}"#),
            ],
            r#"{"userId":"\uD83D","username":"b"},{"userId":"\ud83e","username":"c"}"#,
        ),
        ("oneself in another tab", vec![entry(1, None, r#"{"userId":"u1","username":"Ada"}"#)], ""),
    ];
    for (name, entries, users) in rows {
        let mut out = Vec::new();
        room_state(b"u1", entries, 5, &mut out);
        let expected = format!(r#"{{"type":"room_state","users":[{users}],"timestamp":5}}"#);
        assert_eq!(String::from_utf8(out).unwrap(), expected, "{name}");
    }
}

#[test]
fn a_person_is_known_by_the_user_id_of_its_data() {
    let long = format!(r#"{{"userId":"{}"}}"#, "x".repeat(NAME_BYTES_MAX + 1));
    for (data, expected) in [
        (r#"{"userId":"u1","username":"Ada"}"#, Some("u1")),
        (r#"{"\ud83d":1,"userId":"\u0075\u0031"}"#, Some("u1")),
        (r#"{"userId":""}"#, None),
        (r#"{"userId":7}"#, None),
        (r#"{"userId":"\ud83d"}"#, None),
        (&long, None),
        ("null", None),
        ("", None),
    ] {
        assert_eq!(person_of(data.as_bytes()).as_deref(), expected, "{data:.40}");
    }
}

fn change(room: &str, kind: PresenceKind, client: u64, seq: u64) -> Push {
    let (channel, entry) = (channel(room), entry(client, None, "{}"));
    Push::Presence(Arc::new(PresencePush { channel, kind, entry, still_there: false, seq, ts_ms: 1 }))
}

fn comes(client: u64, seq: u64) -> Push {
    change("chat:general", PresenceKind::Join, client, seq)
}

fn leaves(client: u64, seq: u64) -> Push {
    change("chat:general", PresenceKind::Leave, client, seq)
}

fn snapshot(seq: u64, clients: &[u64]) -> PresenceSnapshot {
    let entries: Vec<_> = clients.iter().map(|&client| entry(client, None, "{}")).collect();
    PresenceSnapshot { seq, count: clients.len() as u64, entries: Some(entries) }
}

/// The whole in the place of changes that were missed.
fn whole(seq: u64) -> Push {
    Push::PresenceSnapshot { channel: channel("chat:general"), snapshot: Arc::new(snapshot(seq, &[])) }
}

fn answers(chat: &mut Chat, asked: TrackedCommand, body: ReplyBody) -> Vec<u8> {
    let mut out = Vec::new();
    let reply = Reply { id: Some(asked.id()), body };
    let _ = chat.encode_reply(&reply, 5, &mut out); // a refusal is for the log
    out
}

/// The join of this number is done.
fn lets_in(chat: &mut Chat, join: u64) {
    let position = Position { epoch: Epoch(1), offset: 0 };
    let (publications, rooms) = (Vec::new(), Vec::new());
    let channel = channel("chat:general");
    let subscribed = Subscribed { channel, position, recovered: None, publications, more: false, rooms };
    answers(chat, TrackedCommand::Subscribe(join), ReplyBody::Subscribed(Box::new(subscribed)));
}

/// Whom the `room_state` of this join names, and whom joins behind it announce.
fn states(chat: &mut Chat, join: u64, snapshot: PresenceSnapshot) -> (Vec<u64>, Vec<u64>) {
    let channel = channel("chat:general");
    let out = answers(chat, TrackedCommand::RoomState(join), ReplyBody::Presence { channel, snapshot });
    let lines = std::str::from_utf8(&out).unwrap().lines();
    let lines: Vec<serde_json::Value> = lines.map(|line| serde_json::from_str(line).unwrap()).collect();
    let named = |user: &serde_json::Value| u64::from_str_radix(user["userId"].as_str().unwrap(), 16).unwrap();
    let (state, joins) = lines.split_first().unwrap();
    assert!(state["type"] == "room_state" && joins.iter().all(|join| join["type"] == "join" && join["timestamp"] == 5));
    (state["users"].as_array().unwrap().iter().map(named).collect(), joins.iter().map(named).collect())
}

/// A client may take the `room_state` for the whole list: the others' joins and leaves may reach a newcomer before its
/// own join, after it, or after its `room_state`.
#[test]
fn no_join_of_others_is_told_before_the_room_state_or_twice() {
    let mut chat = joined_as_nine();
    lets_in(&mut chat, 1);
    assert!(!chat.takes(&comes(1, 4)), "the room_state will name it");
    assert!(!chat.takes(&leaves(2, 5)), "the room_state will not");
    assert!(chat.takes(&comes(9, 6)), "one's own");
    assert!(!chat.takes(&comes(3, 7)), "between one's own and the question: it is told behind the room_state");
    assert!(!chat.takes(&whole(7)), "the room_state is as new");
    assert_eq!(states(&mut chat, 1, snapshot(8, &[1, 9, 3, 4])), (vec![1], vec![3, 4]));
    assert!(!chat.takes(&comes(4, 8)) && !chat.takes(&comes(1, 4)), "late, and told");
    assert!(chat.takes(&leaves(1, 9)) && chat.takes(&comes(1, 10)));
    assert!(!chat.takes(&change("chat:other", PresenceKind::Join, 1, 11)), "of no room of ours");
    assert!(!chat.takes(&whole(7)), "late: it names people whose leave is not told any more");
    assert!(!chat.takes(&comes(4, 8)), "still told");
    assert!(chat.takes(&whole(15)), "changes were missed: the whole in their place");
    assert!(!chat.takes(&comes(3, 15)) && chat.takes(&comes(3, 16)));

    let mut chat = joined_as_nine();
    lets_in(&mut chat, 1);
    assert_eq!(states(&mut chat, 1, snapshot(6, &[1, 9])), (vec![1], vec![]));
    assert!(chat.takes(&comes(9, 6)), "one's own, late");

    let mut refused = joined_as_nine();
    lets_in(&mut refused, 1);
    assert_eq!(states(&mut refused, 1, snapshot(6, &[1, 2])), (vec![1, 2], vec![]), "we were not let in: all of them");
    assert!(!refused.takes(&comes(2, 6)) && refused.takes(&comes(3, 7)));

    assert!(!Chat::default().takes(&comes(1, 1)), "who has not joined");
    assert!(asks(&mut chat, r#"{"type":"join","userId":"u1","username":"Ada","roomId":"b"}"#).is_ok());
    assert!(!chat.takes(&comes(4, 7)), "of the room that was left");
}

/// A `leave` may wait behind other commands, and the next `join` comes.
#[test]
fn of_an_earlier_stay_in_the_same_room_nothing_is_told() {
    let mut chat = joined_as_nine();
    assert!(asks(&mut chat, r#"{"type":"join","userId":"u1","username":"Ada"}"#).is_ok());
    lets_in(&mut chat, 1);
    for push in [comes(9, 1), comes(3, 2), whole(3)] {
        assert!(!chat.takes(&push), "{push:?}");
    }
    lets_in(&mut chat, 2);
    assert!(chat.takes(&comes(9, 5)), "one's own, of this stay");
}

#[test]
fn a_chat_that_gets_no_room_state_hears_of_those_who_come_after_it() {
    let mut chat = joined_as_nine();
    lets_in(&mut chat, 1);
    assert!(chat.takes(&comes(9, 6)));
    answers(&mut chat, TrackedCommand::RoomState(1), ReplyBody::Error(Error::new(ErrorCode::Unavailable, "no")));
    assert!(!chat.takes(&comes(3, 5)) && chat.takes(&comes(3, 7)) && chat.takes(&leaves(3, 8)));
    // The application had subscribed it, and it stays.
    let mut chat = joined_as_nine();
    let already = ReplyBody::Error(Error::new(ErrorCode::AlreadySubscribed, "no"));
    answers(&mut chat, TrackedCommand::Subscribe(1), already);
    assert!(chat.takes(&comes(9, 6)) && !chat.takes(&comes(3, 7)));
}
