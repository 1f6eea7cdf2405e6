//! A reader: a page with an `EventSource`, or a script with curl. It keeps the last id, and shows it when it comes
//! back.
//!
//! While faults happen it also does what such programs do: it is loaded again with other channels, shows an id of long
//! ago or of another reader, or what is no id at all.

use super::place::places_of;
use crate::app::CLOSED;
use crate::application::WITH_INFO;
use crate::chances::pick_of;
use crate::plan::Plan;
use fanfare_hub::{ChannelName, Epoch, Rng, UserToken};
use fanfare_wire::events::EventsRequest;
use fanfare_wire::sse::Cursor;
use std::collections::BTreeSet;

/// Ids that a reader remembers.
const OLDER_MAX: usize = 12;

#[derive(Debug)]
pub(crate) struct Reader {
    pub(crate) pipe: Option<usize>,
    token: Option<UserToken>,
    asked: Option<Asked>,
    /// The last id, as a browser keeps it.
    pub(crate) id: Option<String>,
    older: Vec<String>,
    /// The publications that it has read since it last showed an id that did not say so.
    pub(crate) had: BTreeSet<(ChannelName, u64, u64)>,
    /// How long it waits before it comes back, and until when.
    pub(crate) wait_ms: u64,
    pub(crate) retry_ms: u64,
    pub(crate) heard_ms: u64,
}

/// The address of a stream.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    pub(crate) channels: Vec<ChannelName>,
    pub(crate) envelope: bool,
    pub(crate) recent: Option<u32>,
}

/// The id that a reader shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Shown {
    None,
    /// Its last one.
    Last(String),
    /// One that a server has given, to it or to another reader.
    Earlier(String),
    /// None of a server.
    Forged(String),
}

impl Shown {
    pub(crate) fn text(&self) -> Option<&str> {
        match self {
            Shown::None => None,
            Shown::Last(id) | Shown::Earlier(id) | Shown::Forged(id) => Some(id),
        }
    }

    /// What the reader has had of the channel comes no more. An id of a stream of other channels names no place in this
    /// one: it begins anew, and recent ones may come again.
    fn is_last_of(&self, channel: &ChannelName) -> bool {
        let Shown::Last(id) = self else { return false };
        !places_of(id, std::slice::from_ref(channel)).0.is_empty()
    }
}

impl Reader {
    pub(crate) fn new(number: usize, rng: &mut Rng, plan: &Plan) -> Self {
        let hooks = &plan.hooks;
        let has_token = rng.below(3) > 0 && hooks.hooks.connect;
        let with_info = if hooks.grant.is_some() && rng.below(2) == 0 { WITH_INFO } else { "" };
        Reader {
            pipe: None,
            token: has_token.then(|| format!("reader{}{with_info}", number % 2).as_str().into()),
            asked: None,
            id: None,
            older: Vec::new(),
            had: BTreeSet::new(),
            wait_ms: 0,
            retry_ms: 0,
            heard_ms: 0,
        }
    }

    /// It opens a stream. `other`: an id of another reader.
    pub(crate) fn asks(&mut self, rng: &mut Rng, plan: &Plan, is_calm: bool, other: Option<String>) -> (Asked, Shown) {
        let mut shown = self.id.clone().map_or(Shown::None, Shown::Last);
        if self.asked.is_none() || !is_calm && rng.below(5) == 0 {
            self.asked = Some(address(rng, plan));
            // A page that is loaded again knows no id. A script may.
            if rng.below(3) > 0 {
                (self.id, shown) = (None, Shown::None);
            }
        }
        let mut asked = self.asked.clone().unwrap_or_else(|| address(rng, plan));
        if !is_calm {
            match rng.below(24) {
                0 => shown = other.map_or(shown, Shown::Earlier),
                1 | 2 => shown = pick_of(rng, &self.older).cloned().map_or(shown, Shown::Earlier),
                3 => shown = Shown::Forged(forged(rng, self.id.as_deref(), &asked.channels)),
                4 => asked.channels.extend(ChannelName::new(CLOSED)),
                _ => {}
            }
        }
        self.had.retain(|(channel, ..)| shown.is_last_of(channel));
        (asked, shown)
    }

    pub(crate) fn request(&self, asked: &Asked, shown: &Shown) -> EventsRequest {
        let Asked { channels, envelope, recent } = asked.clone();
        let cursor = shown.text().map(Cursor::decode);
        EventsRequest { channels, envelope, recent, cursor, token: self.token.clone() }
    }

    pub(crate) fn opened(&mut self, pipe: usize, now_ms: u64) {
        (self.pipe, self.heard_ms, self.wait_ms) = (Some(pipe), now_ms, 300);
    }

    /// A block has an id.
    pub(crate) fn keeps(&mut self, id: &str, rng: &mut Rng) {
        if rng.below(6) == 0 {
            self.older.push(id.to_owned());
            if self.older.len() > OLDER_MAX {
                self.older.remove(0);
            }
        }
        self.id = Some(id.to_owned());
    }

    /// The stream has ended.
    pub(crate) fn closed(&mut self, now_ms: u64, rng: &mut Rng) {
        self.pipe = None;
        let away_max_ms = if rng.below(6) == 0 { 4_000 } else { 200 };
        self.retry_ms = now_ms + self.wait_ms + rng.below(away_max_ms);
    }
}

fn address(rng: &mut Rng, plan: &Plan) -> Asked {
    let mut channels: Vec<ChannelName> = plan.channels.iter().filter(|_| rng.below(2) == 0).cloned().collect();
    if channels.is_empty() || rng.below(3) == 0 {
        channels = pick_of(rng, &plan.channels).into_iter().cloned().collect();
    }
    let recent = (rng.below(3) == 0).then(|| rng.below(12) as u32);
    Asked { channels, envelope: rng.below(2) == 0, recent }
}

/// What a client may send as an id, and no server has written for it.
fn forged(rng: &mut Rng, id: Option<&str>, channels: &[ChannelName]) -> String {
    let id = id.unwrap_or("0");
    let ahead = || {
        let (places, _) = places_of(id, channels);
        let place = places.values().next().copied();
        let (epoch, offset) = place.map_or((Epoch(7), 9), |place| (place.epoch, place.offset + 1_000_000));
        id.split('.').next().map(|hash| format!("{hash}.{epoch}.{offset}"))
    };
    match rng.below(6) {
        0 => "garbage".to_owned(),
        1 => format!("{id}_"),
        2 => id[..id.len().div_ceil(2)].to_owned(),
        3 => "0".to_owned(),
        4 => id.replace(".0", ".x").replace(".1", ".e"),
        _ => ahead().unwrap_or_else(|| "1.2".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_read_comes_no_more_while_the_last_id_names_its_channel() {
        let [a, b] = ["a", "b"].map(|name| ChannelName::new(name).expect("a name"));
        let of_a = "af63dc4c8601ec8c.0000000000000001.7".to_owned();
        let last = Shown::Last(of_a.clone());
        assert!(last.is_last_of(&a) && !last.is_last_of(&b));
        for other in [Shown::None, Shown::Last("0".to_owned()), Shown::Earlier(of_a.clone()), Shown::Forged(of_a)] {
            assert!(!other.is_last_of(&a), "{other:?}");
        }
    }
}
