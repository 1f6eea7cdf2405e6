//! The people in a room, as a chat client learns of them.
//!
//! In: what the hub says of a room, and whether the client reads it. Out: who stands in the room, by entries: a member
//! who came earlier is in the `room_state`, one who comes later is announced by a `join` behind it, and none by both:
//! the client takes the `room_state` for the whole list. One who was announced leaves once. A person who stands there
//! by several entries leaves with the last of them. In the end these are all that stand there.

use super::Form;
use super::model::id_of;
use crate::wire::ToClient;
use bytes::Bytes;
use fanfare_hub::{ChannelName, ClientId, PresenceEntry, PresenceKind, Push, ReplyBody};
use std::collections::BTreeMap;

#[derive(Debug, Default)]
pub(crate) struct People {
    own: Option<ClientId>,
    channel: Option<ChannelName>,
    /// Those whom it was told of, without itself.
    known: BTreeMap<ClientId, Known>,
    /// The person as whom it stands there itself, once it does.
    own_person: Option<String>,
    /// Everybody is named: it has had the `room_state`, and the room is not too large for names.
    is_whole: bool,
    /// The number of the last change that the hub has sent; the client does not see it.
    seq: Option<u64>,
    /// A change was not sent to it, as it was slow: it is told the whole again.
    is_stale: bool,
}

#[derive(Debug)]
struct Known {
    data: Bytes,
    person: String,
}

impl Known {
    fn of(entry: &PresenceEntry) -> Self {
        Known { data: entry.data.clone(), person: person_of(entry) }
    }
}

/// By whose name chats know an entry.
fn person_of(entry: &PresenceEntry) -> String {
    id_of(entry.user.as_ref(), Some(entry.client), &entry.data)
}

impl People {
    /// In the end it is not told the whole any more.
    pub(crate) fn misses_changes(&self) -> bool {
        self.is_stale && self.is_whole
    }

    /// The room, and everybody in it but the client itself, if it knows them all.
    pub(crate) fn everybody(&self) -> Option<(&ChannelName, BTreeMap<ClientId, Vec<u8>>)> {
        let channel = self.channel.as_ref().filter(|_| self.is_whole && !self.is_stale)?;
        Some((channel, self.known.iter().map(|(client, known)| (*client, known.data.to_vec())).collect()))
    }

    pub(crate) fn own(&self) -> Option<ClientId> {
        self.own
    }

    /// The client follows this channel no more.
    pub(crate) fn left(&mut self, channel: &ChannelName) {
        if self.channel.as_ref() == Some(channel) {
            *self = People { own: self.own, ..People::default() };
        }
    }

    /// The hub says this to the client, which reads it in this form.
    pub(crate) fn hears(&mut self, message: &ToClient, form: &Form) -> Result<(), String> {
        self.counts(message);
        match self.learns(message, form) {
            Err(_) if self.is_stale => Ok(()),
            result => result,
        }
    }

    /// Follows the numbers of the changes.
    fn counts(&mut self, message: &ToClient) {
        let (channel, seq, is_whole) = match message {
            ToClient::Push(Push::Presence(change)) => (&change.channel, change.seq, false),
            ToClient::Push(Push::PresenceSnapshot { channel, snapshot }) => (channel, snapshot.seq, true),
            ToClient::Reply(reply) => match &reply.body {
                ReplyBody::Presence { channel, snapshot } => (channel, snapshot.seq, true),
                _ => return,
            },
            ToClient::Push(_) => return,
        };
        if self.channel.as_ref() != Some(channel) || self.seq.is_some_and(|last| seq <= last) && !is_whole {
            return;
        }
        let is_newest = self.seq.is_none_or(|last| seq >= last);
        let skips = !is_whole && self.seq.is_some_and(|last| seq > last + 1);
        self.is_stale = skips || self.is_stale && !(is_whole && is_newest);
        self.seq = self.seq.max(Some(seq));
    }

    fn learns(&mut self, message: &ToClient, form: &Form) -> Result<(), String> {
        match message {
            ToClient::Reply(reply) => match &reply.body {
                ReplyBody::Connected(connected) => self.own = Some(connected.client),
                // Its last join is done: what it knew of a room before is over.
                ReplyBody::Subscribed(subscribed) if *form != Form::Skipped => {
                    let channel = Some(subscribed.channel.clone());
                    *self = People { own: self.own, channel, ..People::default() };
                }
                ReplyBody::Presence { channel, snapshot } if form.is_sent() => {
                    self.is_of_room(channel, message)?;
                    // It takes the list for the whole: somebody announced before could be lost.
                    if let Some(client) = self.known.keys().next() {
                        return Err(format!("chat: {client} was announced before the list: {message:?}"));
                    }
                    let all = snapshot.entries.as_deref().unwrap_or_default();
                    let others = all.iter().filter(|entry| Some(entry.client) != self.own);
                    self.known = others.map(|entry| (entry.client, Known::of(entry))).collect();
                    self.is_whole = snapshot.entries.is_some();
                    let own = all.iter().find(|entry| Some(entry.client) == self.own);
                    self.own_person = own.map(|entry| person_of(entry)).or(self.own_person.take());
                }
                _ => {}
            },
            ToClient::Push(Push::Presence(change)) if *form != Form::Skipped => {
                if form.is_sent() {
                    self.is_of_room(&change.channel, message)?;
                }
                if self.channel.as_ref() != Some(&change.channel) {
                    return Ok(());
                }
                if Some(change.entry.client) == self.own {
                    // A rule may end its presence and leave it subscribed.
                    let is_there = change.kind != PresenceKind::Leave;
                    self.own_person = is_there.then(|| person_of(&change.entry));
                    return Ok(());
                }
                let client = change.entry.client;
                match change.kind {
                    PresenceKind::Join => {
                        if self.known.insert(client, Known::of(&change.entry)).is_some() {
                            return Err(format!("chat: {client} is announced twice, the second time by {message:?}"));
                        }
                    }
                    // One whom it will be told of, or who has left by now.
                    PresenceKind::Update => {
                        if let Some(known) = self.known.get_mut(&client) {
                            *known = Known::of(&change.entry);
                        }
                    }
                    PresenceKind::Leave => {
                        let was = self.known.remove(&client);
                        let Some(Known { person, .. }) = was.filter(|_| self.is_whole) else {
                            return match self.is_whole {
                                true => Err(format!("chat: one leaves who was not there: {message:?}")),
                                false => Ok(()),
                            };
                        };
                        let mut others = self.known.values().map(|known| &known.person).chain(&self.own_person);
                        let is_there = others.any(|other| *other == person);
                        if is_there == form.is_sent() {
                            return Err(format!("chat: {person} leaves, and is still there ({is_there}): {message:?}"));
                        }
                    }
                }
            }
            ToClient::Push(Push::PresenceSnapshot { channel, snapshot }) if *form != Form::Skipped => {
                self.is_of_room(channel, message)?;
                let entries = snapshot.entries.as_deref().unwrap_or_default().iter();
                let own = entries.clone().find(|entry| Some(entry.client) == self.own);
                self.own_person = own.map(|entry| person_of(entry));
                let others = entries.filter(|entry| Some(entry.client) != self.own);
                self.known = others.map(|entry| (entry.client, Known::of(entry))).collect();
                self.is_whole = snapshot.entries.is_some();
            }
            // From here on the room is too large for names.
            ToClient::Push(Push::PresenceCount { channel, .. }) if self.channel.as_ref() == Some(channel) => {
                self.is_whole = false;
                self.known.clear();
            }
            _ => {}
        }
        Ok(())
    }

    fn is_of_room(&self, channel: &ChannelName, message: &ToClient) -> Result<(), String> {
        match self.channel.as_ref() == Some(channel) {
            true => Ok(()),
            false => Err(format!("chat: in {:?} it is told of the people elsewhere: {message:?}", self.channel)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fanfare_hub::{PresencePush, PresenceSnapshot, Reply};
    use std::sync::Arc;

    const OWN: ClientId = ClientId(1);
    const BOB: ClientId = ClientId(2);
    const EVE: ClientId = ClientId(3);

    fn room() -> ChannelName {
        ChannelName::new("chat:0").expect("a name")
    }

    fn entry(client: ClientId) -> Arc<PresenceEntry> {
        Arc::new(PresenceEntry { client, user: None, info: None, data: "{}".into(), person: None })
    }

    fn change(kind: PresenceKind, client: ClientId) -> ToClient {
        let (entry, still_there, seq, ts_ms) = (entry(client), false, 1, 0);
        ToClient::Push(Push::Presence(Arc::new(PresencePush { channel: room(), kind, entry, still_there, seq, ts_ms })))
    }

    fn state(clients: &[ClientId]) -> ToClient {
        let entries = Some(clients.iter().map(|client| entry(*client)).collect());
        let snapshot = PresenceSnapshot { seq: 1, count: clients.len() as u64, entries };
        ToClient::Reply(Reply { id: None, body: ReplyBody::Presence { channel: room(), snapshot } })
    }

    #[test]
    fn each_member_is_announced_once_and_leaves_once() {
        use PresenceKind::{Join, Leave};
        let text = || Form::Text(String::new());
        type Row = (&'static str, Vec<(ToClient, Form)>, Result<Vec<ClientId>, &'static str>);
        let rows: [Row; 9] = [
            ("earlier", vec![(state(&[BOB, OWN]), text())], Ok(vec![BOB])),
            ("later", vec![(state(&[OWN]), text()), (change(Join, EVE), text())], Ok(vec![EVE])),
            (
                "told before the list",
                vec![(change(Join, EVE), text()), (state(&[OWN, EVE]), text())],
                Err("before the list"),
            ),
            ("between its own entry and the list", vec![(state(&[BOB, OWN, EVE]), text())], Ok(vec![BOB, EVE])),
            ("by both", vec![(state(&[BOB, OWN]), text()), (change(Join, BOB), text())], Err("announced twice")),
            ("of no use", vec![(state(&[BOB, OWN]), text()), (change(Join, BOB), Form::Skipped)], Ok(vec![BOB])),
            (
                "comes and goes",
                vec![(state(&[OWN]), text()), (change(Join, EVE), text()), (change(Leave, EVE), text())],
                Ok(vec![]),
            ),
            ("goes in silence", vec![(state(&[BOB, OWN]), text()), (change(Leave, BOB), Form::Nothing)], Err("leaves")),
            ("not there", vec![(state(&[OWN]), text()), (change(Leave, BOB), text())], Err("not there")),
        ];
        for (name, told, expected) in rows {
            let mut people = People { own: Some(OWN), channel: Some(room()), ..People::default() };
            let wrong = told.iter().find_map(|(message, form)| people.hears(message, form).err());
            match expected {
                Ok(there) => {
                    assert_eq!(wrong, None, "{name}");
                    assert_eq!(people.known.keys().copied().collect::<Vec<_>>(), there, "{name}");
                }
                Err(part) => assert!(wrong.as_ref().is_some_and(|it| it.contains(part)), "{name}: {wrong:?}"),
            }
        }
    }
}
