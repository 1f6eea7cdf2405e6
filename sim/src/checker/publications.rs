//! The fate of publications: acknowledged ones are at their position, refused ones are nowhere, and keyed ones are
//! stored once (promise 4). The same holds for every entry of a history.

use super::view::{PendingCommand, View};
use super::{Checker, Verdict};
use crate::application::plain;
use crate::ledger::Kept;
use crate::model::{Policy, is_for_outsider};
use crate::store::Stores;
use crate::strict::unsieved;
use fanfare_hub::{AppAnswer, ChannelName, ClientId, ErrorCode, History, Now, Past, Position, Publish, ReplyBody};
use std::collections::BTreeMap;

#[derive(Debug, Default)]
pub(super) struct Attempt {
    pub(super) tries: u32,
    pub(super) acknowledged: Vec<(ChannelName, Position)>,
    /// Attempts with an unknown outcome.
    pub(super) unknown: u32,
    pub(super) refused: u32,
    pub(super) keyed: bool,
}

impl Checker {
    /// The application publishes.
    pub(crate) fn app_publishes(&mut self, data: &[u8]) {
        let attempt = self.attempts.entry(data.to_vec()).or_default();
        attempt.tries += 1;
        attempt.unknown += 1;
    }

    /// The application got the outcome of a publication.
    pub(crate) fn app_published(&mut self, publish: &Publish, answer: &AppAnswer, stores: &Stores) -> Verdict {
        let Publish { channel, data, .. } = publish;
        let attempt = self.attempts.entry(data.bytes().to_vec()).or_default();
        attempt.unknown -= 1;
        match answer {
            AppAnswer::Published { position, .. } => {
                attempt.acknowledged.push((channel.clone(), *position));
                let stands = stores.ledger.at(channel, *position);
                if stands.is_none_or(|kept| unsieved(kept.publication.data.bytes()) != **data.bytes()) {
                    return Err(format!("promise 4: acknowledged at {channel} {position:?}, where it does not stand"));
                }
            }
            AppAnswer::Error(error) => match error.code {
                ErrorCode::Unknown | ErrorCode::Timeout | ErrorCode::Internal => attempt.unknown += 1,
                _ => attempt.refused += 1,
            },
            other => return Err(format!("app: a publication was answered with {other:?}")),
        }
        Ok(())
    }

    pub(super) fn published(
        &mut self,
        view: &mut View,
        id: u64,
        channel: &ChannelName,
        data: Vec<u8>,
        body: &ReplyBody,
        stores: &Stores,
    ) -> Verdict {
        if view.publishes.get(&data) == Some(&id) {
            view.publishes.remove(&data);
        }
        let attempt = self.attempts.entry(data.clone()).or_default();
        attempt.unknown -= 1;
        match body {
            ReplyBody::Published { position, duplicate } => {
                self.counts.published += 1;
                attempt.acknowledged.push((channel.clone(), *position));
                let kept = stores.ledger.at(channel, *position).ok_or_else(|| {
                    format!("promise 4: a publication was acknowledged at {channel} {position:?}, where there is none")
                })?;
                if plain(kept.publication.data.bytes()) != data {
                    return Err(format!("promise 4: acknowledged at {channel} {position:?}, where another one stands"));
                }
                if *duplicate {
                    return Ok(());
                }
                let sent = view.published.entry(channel.clone()).or_default();
                let before = sent.range(..id).next_back().map(|(_, at)| *at);
                let after = sent.range(id..).next().map(|(_, at)| *at);
                let pairs = [(before, Some(*position)), (Some(*position), after)];
                for (earlier, later) in pairs.into_iter().filter_map(|(a, b)| Some((a?, b?))) {
                    if earlier.epoch == later.epoch && earlier.offset >= later.offset {
                        return Err(format!("promise 9: {channel}: sent first, {earlier:?} stands after {later:?}"));
                    }
                }
                sent.insert(id, *position);
            }
            ReplyBody::Error(error) => match error.code {
                ErrorCode::Unknown | ErrorCode::Timeout | ErrorCode::Internal => {
                    self.counts.unknown += 1;
                    attempt.unknown += 1;
                }
                _ => {
                    self.counts.refused += 1;
                    attempt.refused += 1;
                }
            },
            body => return Err(format!("`publish` was answered with {body:?}")),
        }
        Ok(())
    }

    /// A page of history, for a client or (`None`) the application: the entries there, as far as they are for the
    /// reader.
    pub(crate) fn history(
        &self,
        client: Option<ClientId>,
        channel: &ChannelName,
        forwards: bool,
        history: &History,
        stores: &Stores,
    ) -> Verdict {
        if history.more && history.publications.is_empty() {
            return Err(format!("{channel}: a page of history is empty and says that there is more: {history:?}"));
        }
        // Backwards, because the application may remove entries meanwhile, and a forward page may then leave some out.
        if let ([first, .., last], Some(client), false) = (&history.publications[..], client, forwards) {
            let between = stores.ledger.between(channel, history.top.epoch, first.offset, last.offset);
            let is_listed = |offset| history.publications.iter().any(|listed| listed.offset == offset);
            let missed =
                |kept: &&Kept| is_for_outsider(&kept.publication, client) && !is_listed(kept.publication.offset);
            if let Some(kept) = between.iter().find(missed) {
                return Err(format!("{channel}: history of {client:?} leaves out {:?}", kept.publication));
            }
        }
        for publication in &history.publications {
            let at = Position { epoch: history.top.epoch, offset: publication.offset };
            if stores.ledger.at(channel, at).is_none_or(|kept| kept.publication != *publication) {
                return Err(format!("{channel}: history tells {publication:?} at {at:?}, where it does not stand"));
            }
            if client.is_some_and(|client| !is_for_outsider(publication, client)) {
                return Err(format!("{channel}: history tells {client:?} what is not for it: {publication:?}"));
            }
        }
        Ok(())
    }

    /// A page of history after a place tells exactly where something is missing between the two.
    pub(super) fn goes_on_from(
        &mut self,
        (now, client): (Now, Option<ClientId>),
        asked: &PendingCommand,
        body: &ReplyBody,
        (stores, policy): (&Stores, &Policy),
    ) -> Verdict {
        let (PendingCommand::History { since: Some(since), .. }, ReplyBody::History(history)) = (asked, body) else {
            return Ok(());
        };
        let Some(client) = client else { return Ok(()) };
        let History { channel, top, publications, more, gap, reset } = &**history;
        let is_foreign = since.epoch != top.epoch || since.offset > top.offset;
        if *gap && (*reset || is_foreign) {
            return Err(format!("{channel}: a gap is told after {since:?}, which is no place of it: {history:?}"));
        }
        if *reset || is_foreign {
            return Ok(());
        }
        if !gap {
            let end = if *more { publications.last().map_or(since.offset, |last| last.offset) } else { top.offset };
            let after = stores.ledger.between(channel, top.epoch, since.offset, end + 1);
            let is_listed = |kept: &&Kept| publications.iter().any(|it| it.offset == kept.publication.offset);
            let mut missed = after.iter().filter(|kept| is_for_outsider(&kept.publication, client) && !is_listed(kept));
            return match missed.next() {
                Some(kept) => {
                    Err(format!("{channel}: {client} reads on from {since:?}, no gap is told, and {kept:?} is missing"))
                }
                None => Ok(()),
            };
        }
        self.counts.history_gaps += 1;
        // Where a rule hides the past, the place may lie before the one at which the client joined.
        let is_all = policy.of(channel).is_some_and(|(_, row)| row.read == Past::All);
        match stores.kept(now, channel, policy.history(channel)) {
            Some((floor, at)) if is_all && at.epoch == top.epoch && floor <= since.offset => {
                Err(format!("{channel}: a gap is told after {since:?}, and all after {floor} is there: {history:?}"))
            }
            _ => Ok(()),
        }
    }

    pub(super) fn finish_attempts(&self, stores: &Stores) -> Verdict {
        let mut found: BTreeMap<(Vec<u8>, u64), u32> = BTreeMap::new();
        let mut anywhere: BTreeMap<Vec<u8>, u32> = BTreeMap::new();
        for (_, epoch, kept) in stores.ledger.all() {
            let data = plain(kept.publication.data.bytes());
            *found.entry((data.clone(), epoch.0)).or_default() += 1;
            *anywhere.entry(data).or_default() += 1;
        }
        let keys_hold = !stores.may_forget_keys();
        if let Some(((data, _), times)) = found.iter().find(|((data, _), times)| {
            let once = |keyed: bool| keyed && keys_hold;
            **times > self.attempts.get(data).map_or(0, |a| if once(a.keyed) { 1 } else { a.tries })
        }) {
            let all = stores.ledger.all().filter(|(.., kept)| plain(kept.publication.data.bytes()) == *data);
            let places = all.map(|(_, _, kept)| (kept.at_ms, kept.publication.offset, kept.publication.from.clone()));
            let (data, places) = (String::from_utf8_lossy(data), places.collect::<Vec<_>>());
            return Err(format!("promise 4: {data} stands {times} times, at (ms, offset, from) {places:?}"));
        }
        for (data, attempt) in &self.attempts {
            let times = anywhere.get(data.as_slice()).copied().unwrap_or(0);
            if attempt.acknowledged.is_empty() && attempt.unknown == 0 && times > 0 {
                let data = String::from_utf8_lossy(data);
                return Err(format!("promise 4: {data} was refused {} times and stands all the same", attempt.refused));
            }
        }
        Ok(())
    }
}
