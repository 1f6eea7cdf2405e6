//! The native protocol: vectors both ways, round trips, malformed texts, and the fuzz body. (There
//! are no cuts: a message comes whole.) [`commands`] has the messages of clients, [`messages`] those of servers.

mod commands;
mod messages;

use super::client::{self, ServerMessage};
use super::*;
use bytes::Bytes;
use commands::{all_of, commands};
use fanfare_hub::{ChannelName, Command, Data, Epoch, Position, Publication, Push, Sender, UserId};
use messages::{heard, publication, pushes};
use proptest::prelude::*;
use std::sync::Arc;

const EPOCH: Epoch = Epoch(0xe);

fn name(text: &str) -> ChannelName {
    ChannelName::new(text).unwrap()
}

fn at(offset: u64) -> Position {
    Position { epoch: EPOCH, offset }
}

fn json(text: &'static str) -> Bytes {
    Bytes::from_static(text.as_bytes())
}

fn id(number: u64) -> Option<RequestId> {
    Some(RequestId::Number(number))
}

#[test]
fn the_fuzz_body_holds_on_what_we_know() {
    for (text, _) in commands() {
        fuzz::decode(text.as_bytes());
        for cut in 0..text.len() {
            fuzz::decode(&text.as_bytes()[..cut]);
        }
    }
    for (_, text) in pushes() {
        fuzz::decode(text.as_bytes());
    }
}

proptest! {
    #[test]
    fn the_fuzz_body_holds_on_noise(text in r#"\PC{0,60}|[\[\]{}",:\\ 0-9a-z]{0,80}"#) {
        fuzz::decode(text.as_bytes());
    }

    /// A known command with one field replaced by something else.
    #[test]
    fn the_fuzz_body_holds_on_near_misses(which in 0..20_usize, at in 0..40_usize, value in r#"null|-?[0-9]{1,20}|"[a-z\\u0d8]{0,70}"|\{\}|\[\]|true"#) {
        let rows = commands();
        let (text, _) = &rows[which % rows.len()];
        let colons: Vec<_> = text.match_indices(':').collect();
        let (start, _) = colons[at % colons.len()];
        let end = text[start..].find([',', '}']).map_or(text.len(), |end| start + end);
        fuzz::decode(format!("{}:{value}{}", &text[..start], &text[end..]).as_bytes());
    }

    #[test]
    fn whatever_is_published_comes_out_as_it_went_in(
        data in proptest::collection::vec(any::<u8>(), 0..100),
        key in r#"\PC{1,16}"#,
        event in r#"[^\p{Cc}"\\]{1,16}"#,
        user in proptest::option::of(r#"(?s).{0,10}"#),
    ) {
        let command = client::ClientCommand::Publish(Box::new(client::Publish {
            channel: "c".into(), data: Data::Binary(data.clone().into()), event: Some(event.clone().into()), idempotency_key: Some(key.clone().into()), echo: true,
        }));
        let mut text = Vec::new();
        client::encode(&mut text, &client::ClientRequest { id: id(1), command });
        let Decoded::Request(Request { command: Command::Publish(publish), .. }) = all_of(std::str::from_utf8(&text).unwrap()).remove(0) else { panic!() };
        let from = user.clone().map(|user| Sender { client: None, user: Some(UserId(user.as_str().into())) });
        let stored = Publication { data: publish.data, event: publish.event, idempotency_key: publish.idempotency_key, from, ..publication(1) };
        let mut text = Vec::new();
        encode_push(&mut text, &Push::Message { channel: name("c"), epoch: Epoch(1), publication: Arc::new(stored) });
        let ServerMessage::Message { publication, .. } = heard(std::str::from_utf8(&text).unwrap()) else { panic!() };
        prop_assert_eq!(publication.data.bytes(), &data);
        prop_assert_eq!(publication.idempotency_key.as_deref(), Some(&*key));
        prop_assert_eq!(publication.event.as_deref(), Some(&*event));
        let published_by = publication.from.and_then(|from| from.user);
        prop_assert_eq!(published_by.as_deref(), user.as_deref());
    }
}
