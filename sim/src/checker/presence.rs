//! Promise 5: the presence, by the clients' commands and their answers; *maybe* if an answer is missing.

use super::Verdict;
use fanfare_hub::{ChannelName, ClientId, PresenceKind, PresencePush, PresenceSnapshot};
use std::collections::{BTreeMap, BTreeSet};

#[derive(Debug, Default)]
pub(super) struct Presences {
    /// By session and channel, with the place of the command that decided it among all commands.
    truth: BTreeMap<(ClientId, ChannelName), (u64, State)>,
    /// What requests may do at any time that clients have left behind.
    strays: BTreeSet<(ClientId, ChannelName)>,
    /// The current connection of a session.
    online: BTreeMap<ClientId, usize>,
    /// The connection that resumed a session last, and its place among all commands: commands of other connections
    /// count up to there.
    holders: BTreeMap<ClientId, (usize, u64)>,
    /// The presence that connections have received, by connection and channel.
    observed: BTreeMap<(usize, ChannelName), Observed>,
    /// Ends of subscriptions that shards have told to connections without commands, and their clients have not heard
    /// yet: answers come by another way, and may describe the time after.
    unheard_ends: BTreeMap<(usize, ChannelName), usize>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum State {
    Out,
    In(Vec<u8>),
    Maybe,
}

impl std::fmt::Display for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            State::Out => f.write_str("out"),
            State::In(data) => write!(f, "in as {}", String::from_utf8_lossy(data)),
            State::Maybe => f.write_str("maybe"),
        }
    }
}

/// A connection's view of a channel's presence.
#[derive(Debug, Default)]
struct Observed {
    seq: u64,
    count: u64,
    /// Names, after a snapshot.
    names: Option<BTreeMap<ClientId, Vec<u8>>>,
    /// Whether each of these names is present, if that is known.
    persons: BTreeMap<ClientId, String>,
    /// No change has been missed since the snapshot.
    whole: bool,
    /// It is subscribed: its channel's home stays, and with it the numbers of the changes.
    is_subscribed: bool,
    /// The place of the `subscribe` among all commands.
    since: u64,
    /// The last that it was told is how many there are.
    is_counted: bool,
    /// The subscription asked for changes.
    follows: bool,
    /// A `presence` of the last judgement was answered.
    asked: bool,
}

impl Presences {
    /// `place` is the place of the deciding command among all commands of all clients: several tabs may have spoken for
    /// one session. Answers may overtake each other, their effects may not: an earlier command changes nothing after a
    /// later one.
    fn set(&mut self, client: Option<ClientId>, channel: &ChannelName, place: u64, state: State) {
        let Some(client) = client else { return };
        let entry = self.truth.entry((client, channel.clone())).or_insert((0, State::Out));
        if place >= entry.0 {
            *entry = (place, state);
        }
    }

    /// A command is on its way that may change it, or a refused command may have changed it.
    pub(super) fn doubt(&mut self, client: Option<ClientId>, channel: &ChannelName, place: u64) {
        self.set(client, channel, place, State::Maybe);
    }

    /// A request that its client has left behind may change it at any time.
    pub(super) fn stray(&mut self, client: ClientId, channel: &ChannelName) {
        self.strays.insert((client, channel.clone()));
    }

    pub(super) fn left(&mut self, client: Option<ClientId>, channel: &ChannelName, place: u64) {
        self.set(client, channel, place, State::Out);
    }

    pub(super) fn entered(&mut self, client: Option<ClientId>, channel: &ChannelName, place: u64, data: Vec<u8>) {
        self.set(client, channel, place, State::In(data));
    }

    /// A session's subscription to a channel ends; a client that is cut off before it receives that cannot know. The
    /// first `sent` commands decide nothing any more.
    pub(super) fn shut(&mut self, client: ClientId, channel: &ChannelName, sent: u64) {
        self.truth.insert((client, channel.clone()), (sent + 1, State::Maybe));
    }

    /// A shard resumes a session on a connection, at this place among all commands. Its presence ends if it is not
    /// subscribed again, even if the client does not receive that. Answers to its earlier connections may still be on
    /// their way to them, and describe the time before.
    pub(super) fn taken_up(&mut self, pipe: usize, client: ClientId, place: u64, subscribes: &BTreeSet<ChannelName>) {
        self.holders.insert(client, (pipe, place));
        for ((of, channel), entry) in &mut self.truth {
            if *of == client && !subscribes.contains(channel) && place >= entry.0 {
                *entry = (place, State::Out);
            }
        }
    }

    /// The connection speaks for the session, as far as shards have said. Commands for which it does not speak have no
    /// effect, or take effect when the session is resumed.
    pub(super) fn speaks(&self, pipe: usize, client: Option<ClientId>) -> bool {
        client.and_then(|client| self.holders.get(&client)).is_none_or(|(holder, _)| *holder == pipe)
    }

    /// The place that a connection has reached with `place`: before that of a connection that has resumed its session
    /// since.
    pub(super) fn up_to(&self, pipe: usize, client: Option<ClientId>, place: u64) -> u64 {
        match client.and_then(|client| self.holders.get(&client)) {
            Some((holder, taken)) if *holder != pipe => place.min(taken - 1),
            _ => place,
        }
    }

    /// A client has received the message that its connection has a session. The message may come late, when another
    /// connection has the session.
    pub(super) fn connected(&mut self, pipe: usize, client: ClientId) {
        if self.speaks(pipe, Some(client)) {
            self.online.insert(client, pipe);
        }
    }

    pub(super) fn closed(&mut self, pipe: usize, client: Option<ClientId>, finally: bool) {
        let Some(client) = client else { return };
        if self.online.get(&client) == Some(&pipe) {
            self.online.remove(&client);
        }
        if finally && self.speaks(pipe, Some(client)) {
            // The close may not arrive; either way no client comes back under this name unless the session is resumed.
            self.truth
                .iter_mut()
                .filter(|((of, _), _)| *of == client)
                .for_each(|(_, (_, state))| *state = State::Maybe);
        }
    }

    pub(super) fn subscribed(&mut self, pipe: usize, channel: &ChannelName, follows: bool, since: u64) {
        let observed = Observed { follows, is_subscribed: true, since, ..Observed::default() };
        self.observed.insert((pipe, channel.clone()), observed);
    }

    /// The command at this place was sent before the subscription.
    pub(super) fn is_subscribed_after(&self, pipe: usize, channel: &ChannelName, place: u64) -> bool {
        self.observed.get(&(pipe, channel.clone())).is_some_and(|observed| place < observed.since)
    }

    pub(super) fn unsubscribed(&mut self, pipe: usize, channel: &ChannelName) {
        self.observed.remove(&(pipe, channel.clone()));
    }

    /// A shard tells a connection without commands that a subscription has ended.
    pub(super) fn end_told(&mut self, pipe: usize, channel: &ChannelName) {
        *self.unheard_ends.entry((pipe, channel.clone())).or_default() += 1;
    }

    /// The client hears of it.
    pub(super) fn end_heard(&mut self, pipe: usize, channel: &ChannelName) {
        if let Some(unheard) = self.unheard_ends.get_mut(&(pipe, channel.clone())) {
            *unheard = unheard.saturating_sub(1);
        }
    }

    /// The subscription may have ended: the channel's home may be another one, with numbers of its own.
    pub(super) fn may_have_ended(&mut self, pipe: usize, channel: &ChannelName) {
        if let Some(observed) = self.observed.get_mut(&(pipe, channel.clone())) {
            observed.is_subscribed = false;
        }
    }

    pub(super) fn snapshot(&mut self, pipe: usize, channel: &ChannelName, snapshot: &PresenceSnapshot) -> Verdict {
        let listed = snapshot.entries.as_ref().map_or(snapshot.count, |entries| entries.len() as u64);
        if listed != snapshot.count {
            return Err(format!("promise 5: {channel}: {} are present, and {listed} are listed", snapshot.count));
        }
        // It may be the answer of a later home, with numbers of its own, and messages of the earlier one still come.
        if self.unheard_ends.get(&(pipe, channel.clone())).is_some_and(|unheard| *unheard > 0) {
            return Ok(());
        }
        let observed = self.observed.entry((pipe, channel.clone())).or_default();
        observed.asked = true;
        if snapshot.seq < observed.seq {
            return Ok(());
        }
        // Two statements of one number are the same.
        if let (Some(names), true) = (&observed.names, observed.whole && observed.seq == snapshot.seq)
            && observed.is_subscribed
        {
            let entries = snapshot.entries.iter().flatten();
            let told: BTreeMap<ClientId, Vec<u8>> = entries.map(|e| (e.client, e.data.to_vec())).collect();
            if snapshot.count != names.len() as u64 || snapshot.entries.is_some() && told != *names {
                let seq = snapshot.seq;
                return Err(format!("promise 5: {channel}: {seq} was {names:?}, and is {told:?}, {}", snapshot.count));
            }
        }
        observed.seq = snapshot.seq;
        observed.count = snapshot.count;
        observed.names =
            snapshot.entries.as_ref().map(|entries| entries.iter().map(|e| (e.client, e.data.to_vec())).collect());
        let entries = snapshot.entries.iter().flatten();
        observed.persons = entries.filter_map(|e| Some((e.client, e.person()?.to_owned()))).collect();
        observed.whole = snapshot.entries.is_some();
        observed.is_counted = !observed.whole;
        Ok(())
    }

    /// A change of presence is sent. True if it says that a client is still there.
    pub(super) fn changed(&mut self, pipe: usize, push: &PresencePush) -> Result<bool, String> {
        let observed = self.observed.entry((pipe, push.channel.clone())).or_default();
        if push.seq <= observed.seq {
            return Ok(false);
        }
        let Some(names) = &mut observed.names else {
            observed.seq = push.seq; // an older snapshot may come by another way
            return Ok(false);
        };
        observed.whole &= push.seq == observed.seq + 1;
        observed.seq = push.seq;
        let client = push.entry.client;
        let was_there = names.contains_key(&client);
        if observed.whole && was_there != (push.kind != PresenceKind::Join) {
            let (channel, kind, seq) = (&push.channel, push.kind, push.seq);
            return Err(format!("promise 5: {channel}: {seq} is a {kind:?} of {client}, who was there: {was_there}"));
        }
        observed.persons.remove(&client);
        let person = push.entry.person();
        if push.kind != PresenceKind::Leave {
            observed.persons.extend(person.map(|person| (client, person.to_owned())));
        } else if observed.whole {
            let is_there = observed.persons.values().any(|other| Some(&**other) == person);
            if is_there != push.still_there {
                return Err(format!(
                    "{}: {client} leaves as {person:?}, still there: {}, and there are {:?}",
                    push.channel, push.still_there, observed.persons
                ));
            }
        }
        match push.kind {
            PresenceKind::Join | PresenceKind::Update => names.insert(push.entry.client, push.entry.data.to_vec()),
            PresenceKind::Leave => names.remove(&push.entry.client),
        };
        observed.count = names.len() as u64;
        Ok(push.still_there)
    }

    pub(super) fn counted(&mut self, pipe: usize, channel: &ChannelName, count: u64, seq: u64) {
        let observed = self.observed.entry((pipe, channel.clone())).or_default();
        if seq > observed.seq {
            observed.seq = seq;
            observed.count = count;
            observed.names = None;
            observed.is_counted = true;
        }
    }

    /// Only connections that follow the changes and have received a snapshot or a count are judged.
    pub(super) fn only_followers(&mut self) {
        let knows = |observed: &Observed| observed.names.is_some() || observed.is_counted;
        self.observed.values_mut().for_each(|observed| observed.asked = observed.follows && knows(observed));
    }

    /// From here on every client asks for `presence` once more; earlier messages are kept beside the answers.
    pub(super) fn forget_answers(&mut self) {
        self.observed.values_mut().for_each(|observed| observed.asked = false);
    }

    /// Every message about a channel's presence must be right.
    pub(super) fn finish(&self, channels: &[ChannelName]) -> Verdict {
        for ((pipe, channel), observed) in &self.observed {
            if !channels.contains(channel) || !observed.asked || !self.online.values().any(|online| online == pipe) {
                continue;
            }
            self.agrees(channel, observed.count, observed.names.as_ref())?;
        }
        Ok(())
    }

    /// A client must know the truth about a channel's presence: how many are present, and which.
    pub(super) fn agrees(
        &self,
        channel: &ChannelName,
        count: u64,
        names: Option<&BTreeMap<ClientId, Vec<u8>>>,
    ) -> Verdict {
        let state = |client: ClientId| match self.online.contains_key(&client) {
            true if self.strays.contains(&(client, channel.clone())) => State::Maybe,
            true => self.truth.get(&(client, channel.clone())).map_or(State::Out, |(_, state)| state.clone()),
            false => State::Out,
        };
        let ins = self.online.keys().filter(|client| matches!(state(**client), State::In(_))).count() as u64;
        let maybes = self.online.keys().filter(|client| state(**client) == State::Maybe).count() as u64;
        if count < ins || count > ins + maybes {
            let expected: Vec<(ClientId, String)> =
                self.online.keys().map(|client| (*client, state(*client).to_string())).collect();
            let names = names.map(|names| names.keys().collect::<Vec<_>>());
            return Err(format!(
                "promise 5: {channel}: {} present ({names:?}), while {ins} to {} have entered: {expected:?}",
                count,
                ins + maybes,
            ));
        }
        let Some(names) = names else { return Ok(()) };
        for (client, data) in names {
            match state(*client) {
                State::Out => return Err(format!("promise 5: {channel}: {client} is present and should not be")),
                State::In(entered) if entered != *data => {
                    let (found, meant) = (String::from_utf8_lossy(data), String::from_utf8_lossy(&entered));
                    return Err(format!("promise 5: {channel}: {client} is present as {found}, entered as {meant}"));
                }
                _ => {}
            }
        }
        if let Some(missing) = self.online.keys().find(|c| matches!(state(**c), State::In(_)) && !names.contains_key(c))
        {
            return Err(format!("promise 5: {channel}: {missing} has entered and is not present"));
        }
        Ok(())
    }
}
