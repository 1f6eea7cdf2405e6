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

/// The others' joins and leaves may reach a newcomer before its own join, after it, or after its `room_state`.
#[test]
fn nobody_is_told_by_the_room_state_and_by_a_join() {
    let push_in = |room: &str, kind, client, seq| {
        let entry = entry(client, None, "{}");
        Push::Presence(Arc::new(PresencePush {
            channel: channel(room),
            kind,
            entry,
            still_there: false,
            seq,
            ts_ms: 1,
        }))
    };
    let push = |kind, client, seq| push_in("chat:general", kind, client, seq);
    let (join, leave) = (PresenceKind::Join, PresenceKind::Leave);
    let snapshot = |seq, clients: &[u64]| PresenceSnapshot {
        seq,
        count: clients.len() as u64,
        entries: Some(clients.iter().map(|&client| entry(client, None, "{}")).collect()),
    };
    let listed = |chat: &mut Chat, snapshot| {
        let (id, channel, mut out) = (Some(TrackedCommand::RoomState(1).id()), channel("chat:general"), Vec::new());
        let reply = Reply { id, body: ReplyBody::Presence { channel, snapshot } };
        assert_eq!(chat.encode_reply(&reply, 5, &mut out), Ok(Written::Message));
        let state: serde_json::Value = serde_json::from_slice(&out).unwrap();
        let users = state["users"].as_array().unwrap();
        users.iter().map(|user| u64::from_str_radix(user["userId"].as_str().unwrap(), 16).unwrap()).collect::<Vec<_>>()
    };

    let mut chat = joined_as_nine();
    assert!(!chat.takes(&push(join, 1, 4)), "the room_state will list it");
    assert!(!chat.takes(&push(leave, 2, 5)), "the room_state will not");
    assert!(chat.takes(&push(join, 9, 6)), "one's own");
    assert!(chat.takes(&push(join, 3, 7)), "after one's own");
    assert_eq!(listed(&mut chat, snapshot(8, &[1, 9, 3, 4])), [1], "3 was told, 4 will be");
    assert!(chat.takes(&push(join, 4, 8)));
    assert!(!chat.takes(&push(join, 1, 4)), "late, and listed");
    assert!(!chat.takes(&push_in("chat:other", join, 1, 9)), "of no room of ours");

    let mut chat = joined_as_nine();
    assert_eq!(listed(&mut chat, snapshot(6, &[1, 2])), [1, 2], "we were not let in: all of them");
    assert!(!chat.takes(&push(join, 2, 6)) && chat.takes(&push(join, 3, 7)));

    let mut chat = joined_as_nine();
    let whole =
        |seq| Push::PresenceSnapshot { channel: channel("chat:general"), snapshot: Arc::new(snapshot(seq, &[])) };
    assert!(chat.takes(&push(join, 9, 1)) && chat.takes(&whole(5)), "changes were missed: the whole in their place");
    assert!(!chat.takes(&push(join, 3, 5)) && chat.takes(&push(join, 3, 6)));

    assert!(!Chat::default().takes(&push(join, 1, 1)), "who has not joined");
    assert!(asks(&mut chat, r#"{"type":"join","userId":"u1","username":"Ada","roomId":"b"}"#).is_ok());
    assert!(!chat.takes(&push(join, 4, 7)), "of the room that was left");
}
