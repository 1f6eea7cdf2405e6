//! The judge of one stream, at its reader's end: it sees the blocks that a browser would, and the id that was shown.
//!
//! - The first block is `connected`. Its id is where the reader is before anything else comes.
//! - Publications come once, in order, as they were accepted, and with an id that says so. None that is for the reader
//!   is left out between two ids, whatever the blocks between them are.
//! - A loss is told by a `fanfare.gap` of its channel, and only if something is lost. Until then the id does not pass
//!   it. A channel that the shown id does not name is lost so too.
//! - An id moves on by blocks without data, also over publications for others.
//! - Nothing comes after `fanfare.unsubscribed` or `fanfare.disconnect`.

use super::place::{Places, places_of};
use super::{Asked, Block, Reader, Shown};
use crate::checker::Verdict;
use crate::counts::Counts;
use crate::ledger::Kept;
use crate::model::{Policy, cost_max, epoch_of, is_for_outsider};
use crate::store::Stores;
use crate::wire::read_messages;
use fanfare_hub::{ChannelName, ClientId, Data, Now, Position, Slow};
use fanfare_wire::native::client::{self as native_client, ServerMessage};

/// Event names of the server.
const RESERVED: &str = "fanfare.";
/// A mark comes within an interval and this.
const MARK_SLACK_MS: u64 = 1_500;

#[derive(Debug)]
pub(crate) struct StreamJudge {
    asked: Asked,
    shown: Shown,
    /// The places of the id that was shown.
    from: Places,
    state: State,
    client: Option<ClientId>,
    /// Where the reader is, by the last id.
    at: Places,
    /// Channels of which nothing but a loss may come: the shown id does not name them.
    lost: Vec<ChannelName>,
    /// Publications since the beginning, by channel.
    told: Vec<(ChannelName, u32)>,
    /// How many entries had been accepted anywhere when it was opened.
    order: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Opening,
    Live,
    Over,
}

/// What the judge may look at.
pub(crate) struct Reading<'a> {
    pub(crate) now: Now,
    pub(crate) stores: &'a Stores,
    pub(crate) policy: &'a Policy,
    pub(crate) counts: &'a mut Counts,
    pub(crate) page_bytes_max: usize,
    /// The block is of the answer to the subscriptions.
    pub(crate) is_first_page: bool,
}

impl StreamJudge {
    pub(crate) fn new(asked: Asked, shown: Shown, order: u64) -> Self {
        let from = shown.text().map(|id| places_of(id, &asked.channels).0).unwrap_or_default();
        let told = asked.channels.iter().map(|channel| (channel.clone(), 0)).collect();
        let (at, lost) = (Places::new(), Vec::new());
        StreamJudge { asked, shown, from, state: State::Opening, client: None, at, lost, told, order }
    }

    pub(crate) fn channels(&self) -> &[ChannelName] {
        &self.asked.channels
    }

    pub(crate) fn is_live(&self) -> bool {
        self.state == State::Live
    }

    fn is_first(&self) -> bool {
        self.shown == Shown::None
    }

    /// The reader reads a block.
    pub(crate) fn reads(&mut self, block: &Block, reader: &mut Reader, of: &mut Reading<'_>) -> Verdict {
        if self.state == State::Over {
            return Err(format!("events: {block:?} comes after the end"));
        }
        match (block.event.as_deref(), &block.data, &block.id) {
            (None, None, None) if block.comments > 0 && block.retry_ms.is_none() => Ok(()),
            (Some("fanfare.disconnect"), Some(data), None) => self.disconnected(data, block, of),
            _ if self.state == State::Opening => self.connected(block, of),
            (Some("fanfare.unsubscribed"), Some(data), None) => self.unsubscribed(data, of),
            (None, None, Some(id)) if block.comments > 0 => self.marked(id, of),
            (Some("fanfare.gap"), Some(data), Some(id)) => self.gap(data, id, of),
            (event, Some(data), Some(id)) => self.message(event, data, id, reader, of),
            _ => Err(format!("events: {block:?} is none of the protocol")),
        }
    }

    fn connected(&mut self, block: &Block, of: &mut Reading<'_>) -> Verdict {
        let Block { event: None, data: Some(data), id: Some(id), retry_ms: Some(_), comments: 0 } = block else {
            return Err(format!("events: the stream begins with {block:?}"));
        };
        let client = data.strip_prefix(r#"{"type":"connected","clientId":""#).and_then(|rest| rest.split_once('"'));
        let client = client.and_then(|(client, _)| client.parse().ok());
        self.client = Some(client.ok_or_else(|| format!("events: {data} names no client"))?);
        let places = self.read_id(id)?;
        for channel in self.asked.channels.clone() {
            match (self.from.get(&channel).copied(), places.get(&channel).copied()) {
                (None, Some(place)) if self.is_first() => {
                    is_place(of.stores, &channel, place)?;
                    self.begins_early_enough(&channel, place, of)?;
                }
                (None, None) if !self.is_first() => self.lost.push(channel),
                (Some(from), Some(place)) => self.moves_on(&channel, from, place, of.stores)?,
                (from, place) => return Err(format!("events: {channel}: from {from:?} a stream begins at {place:?}")),
            }
        }
        of.counts.readers_opened += 1;
        of.counts.readers_resumed += u64::from(matches!(self.shown, Shown::Last(_)));
        of.counts.readers_earlier += u64::from(matches!(self.shown, Shown::Earlier(_)));
        of.counts.readers_forged += u64::from(matches!(self.shown, Shown::Forged(_)));
        of.counts.readers_several += u64::from(self.asked.channels.len() > 1);
        of.counts.readers_envelope += u64::from(self.asked.channels.len() == 1 && self.asked.envelope);
        (self.at, self.state) = (places, State::Live);
        Ok(())
    }

    /// With `recent` the newest that was there when the reader asked is still to come, or as many newer ones.
    fn begins_early_enough(&self, channel: &ChannelName, place: Position, of: &Reading<'_>) -> Verdict {
        let Stores { losses, silences, unknowns, answers_late, ledger, .. } = of.stores;
        let wanted = self.asked.recent.unwrap_or(0) as usize;
        if losses + silences + unknowns > 0 || *answers_late {
            return Ok(());
        }
        let Some((floor, top)) = of.stores.kept(of.now, channel, of.policy.history(channel)) else { return Ok(()) };
        let to_come = ledger.between(channel, place.epoch, place.offset, u64::MAX).iter();
        let costs = to_come.filter(|kept| self.is_for_it(kept)).map(|kept| cost_max(&kept.publication));
        let (count, bytes) = costs.fold((0, 0), |(count, bytes), cost| (count + 1, bytes + cost));
        if top.epoch != place.epoch || count >= wanted {
            return Ok(());
        }
        let kept = ledger.between(channel, top.epoch, floor, place.offset + 1).iter();
        match kept.rev().find(|kept| kept.order <= self.order && self.is_for_it(kept)) {
            // They are one page at most.
            Some(kept) if bytes + cost_max(&kept.publication) > of.page_bytes_max => Ok(()),
            Some(kept) => Err(format!(
                "events: {channel}: {wanted} recent ones are wanted, {} is there, and the stream begins at {place:?}",
                kept.publication.offset
            )),
            None => Ok(()),
        }
    }

    fn is_for_it(&self, kept: &Kept) -> bool {
        self.client.is_some_and(|client| is_for_outsider(&kept.publication, client))
    }

    /// The places that an id of the server names.
    fn read_id(&self, id: &str) -> Result<Places, String> {
        let (places, is_all) = places_of(id, &self.asked.channels);
        match is_all && (id == "0") == places.is_empty() {
            true => Ok(places),
            false => Err(format!("events: {id:?} is no id of {:?}", self.asked.channels)),
        }
    }

    /// From one id to the next: nothing for the reader is between them.
    fn moves_on(&self, channel: &ChannelName, from: Position, to: Position, stores: &Stores) -> Verdict {
        if from == to {
            return Ok(()); // also where it is no place: the loss is told next
        }
        if from.epoch != to.epoch || from.offset > to.offset {
            return Err(format!("events: {channel}: an id goes from {from:?} to {to:?}"));
        }
        let between = stores.ledger.between(channel, from.epoch, from.offset, to.offset + 1);
        match between.iter().find(|kept| self.is_for_it(kept)) {
            Some(kept) => Err(format!(
                "events: {channel}: an id goes from {from:?} to {to:?}, and {} was left out",
                kept.publication.offset
            )),
            None => Ok(()),
        }
    }

    /// The id of a block about one channel. The others may move on too, over publications for others.
    fn read_id_of(&self, id: &str, channel: &ChannelName, stores: &Stores) -> Result<Position, String> {
        let places = self.read_id(id)?;
        self.others_move_on(&places, Some(channel), stores)?;
        places.get(channel).copied().ok_or_else(|| format!("events: a block of {channel} has the id {id:?}"))
    }

    /// From the places of one id to those of the next, for all channels but one.
    fn others_move_on(&self, places: &Places, but: Option<&ChannelName>, stores: &Stores) -> Verdict {
        for channel in self.asked.channels.iter().filter(|channel| Some(*channel) != but) {
            match (self.at.get(channel), places.get(channel)) {
                (Some(from), Some(to)) => self.moves_on(channel, *from, *to, stores)?,
                (None, None) => {}
                (from, to) => return Err(format!("events: {channel}: an id goes from {from:?} to {to:?}")),
            }
        }
        Ok(())
    }

    fn marked(&mut self, id: &str, of: &mut Reading<'_>) -> Verdict {
        let places = self.read_id(id)?;
        self.others_move_on(&places, None, of.stores)?;
        of.counts.reader_marks += 1;
        of.counts.reader_marks_on += u64::from(places != self.at);
        self.at = places;
        Ok(())
    }

    fn gap(&mut self, data: &str, id: &str, of: &mut Reading<'_>) -> Verdict {
        let Some(ServerMessage::Gap { channel, position, reset }) = read_messages(data)?.into_iter().next() else {
            return Err(format!("events: {data} is no gap"));
        };
        let channel = self.channel(&channel)?;
        let to = Position { epoch: fanfare_hub::Epoch(epoch_of(&position.epoch)), offset: position.offset };
        if self.read_id_of(id, &channel, of.stores)? != to {
            return Err(format!("events: {channel}: a gap to {to:?} has the id {id:?}"));
        }
        is_place(of.stores, &channel, to)?;
        let from = self.at.get(&channel).copied();
        if reset != from.is_some_and(|from| from.epoch != to.epoch) {
            return Err(format!("events: {channel}: a gap from {from:?} to {to:?} says reset = {reset}"));
        }
        match from {
            Some(from) => {
                of.counts.reader_resets += u64::from(reset);
                of.counts.reader_gaps += u64::from(!reset);
                self.is_a_loss(&channel, from, to, of)?;
            }
            None if self.lost.contains(&channel) => {
                of.counts.reader_unnamed += 1;
                self.lost.retain(|lost| *lost != channel);
            }
            None => return Err(format!("events: {channel}: a gap to {to:?} from nowhere")),
        }
        if of.is_first_page {
            self.begins_early_enough(&channel, to, of)?;
        }
        self.at.insert(channel, to);
        Ok(())
    }

    /// What is told as lost is not there any more.
    fn is_a_loss(&self, channel: &ChannelName, from: Position, to: Position, of: &Reading<'_>) -> Verdict {
        if of.is_first_page && self.is_first() {
            return Err(format!("events: {channel}: a loss at the beginning of the first stream, from {from:?}"));
        }
        if !of.is_first_page && from.epoch == to.epoch && from.offset >= to.offset {
            return Err(format!("events: {channel}: a gap back from {from:?} to {to:?}"));
        }
        let is_latest = of.policy.slow(channel) == Slow::Latest && !of.is_first_page;
        let is_unsure = of.stores.losses + of.stores.silences + of.stores.unknowns > 0;
        if is_latest || is_unsure || matches!(self.shown, Shown::Forged(_)) || from.epoch != to.epoch {
            return Ok(());
        }
        match of.stores.kept(of.now, channel, of.policy.history(channel)) {
            // Beyond the newest there is nothing: a stream that began at a forged id names that to its reader, who may
            // show it again.
            Some((floor, top)) if top.epoch == to.epoch && (floor..=top.offset).contains(&from.offset) => {
                Err(format!("events: {channel}: a gap from {from:?} to {to:?}, and all after {floor} is there"))
            }
            _ => Ok(()),
        }
    }

    fn channel(&self, name: &str) -> Result<ChannelName, String> {
        let found = self.asked.channels.iter().find(|channel| ***channel == *name);
        found.cloned().ok_or_else(|| format!("events: a block about {name}, which nobody asked for"))
    }

    fn message(
        &mut self,
        event: Option<&str>,
        data: &str,
        id: &str,
        reader: &mut Reader,
        of: &mut Reading<'_>,
    ) -> Verdict {
        let plain = self.asked.channels.len() == 1 && !self.asked.envelope;
        let read = match plain {
            true => None,
            false => match read_messages(data)?.into_iter().next() {
                Some(ServerMessage::Message { channel, epoch, publication }) => Some((channel, epoch, publication)),
                _ => return Err(format!("events: {data} is no message")),
            },
        };
        let channel = match &read {
            Some((channel, ..)) => self.channel(channel)?,
            None => self.asked.channels[0].clone(),
        };
        let to = self.read_id_of(id, &channel, of.stores)?;
        let Some(from) = self.at.get(&channel).copied() else {
            return Err(format!("events: {channel}: {to:?} comes, and the loss before it is not told"));
        };
        if from.epoch != to.epoch || from.offset >= to.offset {
            return Err(format!("events: {channel}: after {from:?} comes {to:?}"));
        }
        let Some(kept) = of.stores.ledger.at(&channel, to) else {
            return Err(format!("events: {channel}: {data} comes from {to:?}, where nothing stands"));
        };
        let publication = &kept.publication;
        if !self.is_for_it(kept) {
            return Err(format!("events: {channel}: {:?} is told what is not for it: {publication:?}", self.client));
        }
        self.moves_on(&channel, from, Position { offset: to.offset - 1, ..to }, of.stores)?;
        let named = publication.event.as_deref();
        of.counts.reader_reserved += u64::from(named.is_some_and(|name| name.starts_with(RESERVED)));
        let same_event = named.filter(|name| !name.starts_with(RESERVED)) == event;
        let same_data = match &read {
            None => publication.data == Data::Json(data.to_owned().into()),
            Some((_, epoch, message)) => {
                let begins = publication.begins.as_deref().map(|epoch| epoch.0);
                is_same(message, publication) && epoch.as_deref().map(epoch_of) == begins
            }
        };
        if !same_event || !same_data {
            return Err(format!("events: {channel}: {publication:?} is read as {event:?}: {data}"));
        }
        if !reader.had.insert((channel.clone(), to.epoch.0, to.offset)) {
            return Err(format!("events: {channel}: {to:?} comes twice"));
        }
        of.counts.reader_messages += 1;
        of.counts.reader_audiences += u64::from(publication.audience.is_some());
        if of.is_first_page {
            let count = if self.is_first() { &mut of.counts.reader_recent } else { &mut of.counts.reader_missed };
            *count += 1;
            self.is_recent_enough(&channel)?;
        }
        self.at.insert(channel, to);
        Ok(())
    }

    /// No more come first than were wanted.
    fn is_recent_enough(&mut self, channel: &ChannelName) -> Verdict {
        let is_first = self.is_first();
        let Some((_, told)) = self.told.iter_mut().find(|(of, _)| of == channel) else { return Ok(()) };
        *told += 1;
        match is_first && *told > self.asked.recent.unwrap_or(0) {
            true => Err(format!("events: {channel}: {told} come first, and {:?} are wanted", self.asked.recent)),
            false => Ok(()),
        }
    }

    fn unsubscribed(&mut self, data: &str, of: &mut Reading<'_>) -> Verdict {
        match read_messages(data)?.into_iter().next() {
            Some(ServerMessage::Unsubscribed(ended)) => drop(self.channel(&ended.channel)?),
            _ => return Err(format!("events: {data} ends no subscription")),
        }
        of.counts.reader_unsubscribed += 1;
        self.state = State::Over;
        Ok(())
    }

    fn disconnected(&mut self, data: &str, block: &Block, of: &mut Reading<'_>) -> Verdict {
        let Some(ServerMessage::Disconnect { delay_ms, .. }) = read_messages(data)?.into_iter().next() else {
            return Err(format!("events: {data} is no disconnect"));
        };
        if block.retry_ms != (delay_ms > 0).then_some(delay_ms) {
            return Err(format!("events: {data} comes with retry {:?}", block.retry_ms));
        }
        of.counts.reader_parted += 1;
        self.state = State::Over;
        Ok(())
    }

    /// All has been calm for long: the reader has everything, and its id is not old.
    pub(crate) fn finish(&self, now_ms: u64, heartbeat_ms: u64, stores: &Stores) -> Verdict {
        if self.state != State::Live || !self.lost.is_empty() {
            return Err(format!("events: in the end a stream is {self:?}"));
        }
        for channel in &self.asked.channels {
            let Some(top) = stores.top(channel) else { continue };
            let at = self.at.get(channel).copied().ok_or_else(|| format!("events: {channel}: in the end nowhere"))?;
            if at.epoch != top.epoch {
                return Err(format!("events: {channel}: in the end at {at:?}, the top is {top:?}"));
            }
            let later = stores.ledger.between(channel, at.epoch, at.offset, u64::MAX);
            let is_old = |kept: &&Kept| self.is_for_it(kept) || kept.at_ms + heartbeat_ms + MARK_SLACK_MS < now_ms;
            if let Some(kept) = later.iter().find(is_old) {
                let (offset, age_ms) = (kept.publication.offset, now_ms - kept.at_ms);
                return Err(format!("events: {channel}: in the end at {at:?}, and {offset} is {age_ms} ms old"));
            }
        }
        Ok(())
    }
}

fn is_place(stores: &Stores, channel: &ChannelName, place: Position) -> Verdict {
    match stores.ledger.is_place(channel, place) {
        true => Ok(()),
        false => Err(format!("events: {channel}: {place:?} is named, where no entry stands")),
    }
}

fn is_same(read: &native_client::Publication, kept: &fanfare_hub::Publication) -> bool {
    let from = kept.from.as_ref().and_then(|from| from.client).map(|client| client.to_string());
    read.offset == kept.offset
        && read.data == kept.data
        && read.event == kept.event
        && read.idempotency_key == kept.idempotency_key
        && read.ts_ms == kept.ts_ms
        && read.from.as_ref().and_then(|from| from.client.as_deref()) == from.as_deref()
}
