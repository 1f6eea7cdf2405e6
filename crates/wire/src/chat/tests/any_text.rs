//! Any text: what looks like a chat, round trips, and the names of rooms.

use super::*;
use proptest::prelude::*;

#[test]
fn the_fuzz_body_holds_for_what_looks_like_a_chat() {
    let seeds = [
        r#"{"type":"message","content":"\ud83d\ude00","userId":"u","username":"U","roomId":"r","timestamp":1}"#,
        r#"{"type":"join","userId":"u","username":"U","roomId":"a:b *"}"#,
        r#"{"content":"\u00e9","userId":"u","username":"\n"}"#,
        " \"text\" ",
    ];
    for seed in seeds {
        for cut in 0..=seed.len() {
            fuzz::decode(&seed.as_bytes()[..cut]);
            fuzz::decode(&seed.as_bytes()[cut..]);
        }
        for at in 0..seed.len() {
            for byte in [0, b'"', b'\\', b'{', b'}', b'\n', b'u', b'd', 0xFF] {
                let mut bytes = seed.as_bytes().to_vec();
                bytes[at] = byte;
                fuzz::decode(&bytes);
            }
        }
    }
}

/// Texts that meet escapes, surrogates, quotes and brackets far more often than random ones.
fn jsonish() -> impl Strategy<Value = String> {
    let pieces = prop::sample::select(vec![
        "{",
        "}",
        "[",
        "]",
        "\"",
        "\\",
        ",",
        ":",
        "\\u",
        "\\ud800",
        "\\n",
        "\n",
        "\0",
        "1e9999",
        "null",
        "true",
        " ",
        "é",
        "😀",
        "\"content\":",
        "\"userId\":",
        "\"username\":",
        "\"type\":",
        "\"message\"",
        "\"join\"",
        "\"roomId\":",
        "\"a\"",
    ]);
    prop::collection::vec(pieces, 0..14).prop_map(|pieces| pieces.concat())
}

proptest! {
    /// For any payload and any sender of a publication, a chat gets valid JSON.
    #[test]
    fn whatever_is_published_is_written_as_valid_json(
        text in jsonish(), bytes in prop::collection::vec(any::<u8>(), 0..40), client in any::<Option<u64>>(), name in any::<Option<String>>(),
    ) {
        for data in [Data::Json(text.clone().into()), Data::Json(bytes.clone().into()), Data::Binary(bytes.clone().into())] {
            assert_json(&message_of(data.clone(), None));
            assert_json(&message_of(data, from(client, name.as_deref())));
        }
        fuzz::decode(text.as_bytes());
        fuzz::decode(format!("{{{text}}}").as_bytes());
        fuzz::decode(&bytes);
    }

    /// A message of one chat client is read by the others.
    #[test]
    fn a_message_is_read_as_it_was_said(content in any::<String>(), user_id in "\\PC{1,60}", username in ".{1,60}", room in any::<String>()) {
        let mut chat = Chat::default();
        let join = serde_json::json!({"type": "join", "userId": user_id, "username": username, "roomId": room});
        let asked = asks(&mut chat, &join.to_string());
        if let Err(why) = asked {
            prop_assert!(matches!(why, Ignored::RoomLength { len } if len == 0 || len > ROOM_BYTES_MAX), "{why}");
            return Ok(());
        }
        let said = serde_json::json!({"type": "message", "content": content, "userId": "eve"});
        let mut requests = asks(&mut chat, &said.to_string()).unwrap();
        let Command::Publish(publish) = requests.remove(0).command else { panic!("a message is a publication") };
        let read: serde_json::Value = serde_json::from_str(&written(&message_of(publish.data, from(Some(1), None)))).unwrap();
        let expected = serde_json::json!({"type": "message", "userId": user_id, "username": username, "content": content, "timestamp": 7});
        prop_assert_eq!(read, expected);
    }

    /// Two rooms are one channel only where they are one room, and a channel's name tells its room.
    #[test]
    fn a_channel_names_its_room(room in any::<String>()) {
        let Ok(channel) = channel_of(&room) else { return Ok(()) };
        let encoded = channel.strip_prefix("chat:").unwrap();
        let (mut bytes, mut rest) = (Vec::new(), encoded.as_bytes());
        while let Some((&first, after)) = rest.split_first() {
            rest = after;
            if first == b'%' {
                bytes.push(u8::from_str_radix(std::str::from_utf8(&rest[..2]).unwrap(), 16).unwrap());
                rest = &rest[2..];
            } else {
                bytes.push(first);
            }
        }
        prop_assert_eq!(String::from_utf8(bytes).unwrap(), room);
    }
}
