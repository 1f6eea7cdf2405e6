//! The judge's own idea of audiences, costs, rules and words: it asks no function of the hub whether the hub is right.
//!
//! The types are the hub's, because they are what the hub says. The consequences of their values are decided here, from
//! the documentation.

use crate::ledger::Kept;
use fanfare_hub::{ClientId, Disconnect, ErrorCode, Past, Publication, Retain, Rule, SenderShown, Slow};

/// True if a channel of this name has the shape of this pattern: `*` is one segment, `**` is one or more at the end.
pub(crate) fn matches(pattern: &str, name: &str) -> bool {
    let (mut parts, mut segments) = (pattern.split(':'), name.split(':'));
    loop {
        match (parts.next(), segments.next()) {
            (None, None) => return true,
            (Some("**"), Some(_)) => return true,
            (Some(part), Some(_)) if part == "*" || part.starts_with('{') => {}
            (Some(part), Some(segment)) if part == segment => {}
            _ => return false,
        }
    }
}

/// What the rules of a world say, as far as the judge needs it. A reload that shuts a channel changes none of this.
#[derive(Debug, Clone, Default)]
pub(crate) struct Policy(Vec<Row>);

/// A rule.
#[derive(Debug, Clone)]
pub(crate) struct Row {
    pattern: String,
    pub(crate) history: Retain,
    pub(crate) slow: Slow,
    /// Publications and signals of one session: so many in so many ms.
    pub(crate) rate: Option<(u32, u64)>,
    pub(crate) max_size: Option<usize>,
    pub(crate) max_subscribers: Option<u32>,
    pub(crate) from: SenderShown,
    pub(crate) read: Past,
    /// Its data goes through a sieve.
    pub(crate) is_sieved: bool,
}

impl Policy {
    pub(crate) fn new(rules: &[Rule]) -> Self {
        let row = |rule: &Rule| Row {
            pattern: rule.pattern.as_str().to_owned(),
            history: rule.history,
            slow: rule.slow,
            rate: rule.rate.as_ref().map(|rate| (rate.count_max, rate.window_ms)),
            max_size: rule.max_size,
            max_subscribers: rule.max_subscribers,
            from: rule.from,
            read: rule.read,
            is_sieved: rule.check.is_some(),
        };
        Policy(rules.iter().map(row).collect())
    }

    /// The first rule that matches, with its place.
    pub(crate) fn of(&self, channel: &str) -> Option<(usize, &Row)> {
        self.0.iter().enumerate().find(|(_, row)| matches(&row.pattern, channel))
    }

    pub(crate) fn history(&self, channel: &str) -> Retain {
        const NONE: Retain = Retain { count: 0, bytes: 0, ttl_ms: 0 };
        self.of(channel).map_or(NONE, |(_, row)| row.history)
    }

    pub(crate) fn slow(&self, channel: &str) -> Slow {
        self.of(channel).map_or(Slow::Pull, |(_, row)| row.slow)
    }
}

/// True if a subscriber may choose `choice` where its rule says `rule`: no dearer for the server than the rule.
pub(crate) fn may_choose(choice: Slow, rule: Slow) -> bool {
    let cheapness = |slow| match slow {
        Slow::Pull => 0,
        Slow::Latest => 1,
        Slow::Disconnect => 2,
    };
    cheapness(choice) >= cheapness(rule)
}

/// True if this client may read the publication, as far as its id says.
pub(crate) fn is_for(publication: &Publication, client: ClientId) -> bool {
    let Some(audience) = &publication.audience else { return true };
    let is_listed = audience.only.contains(&client);
    let is_excepted = audience.except.contains(&client);
    (audience.only.is_empty() || is_listed) && !is_excepted
}

/// True if this client may read the publication without being in a room.
pub(crate) fn is_for_outsider(publication: &Publication, client: ClientId) -> bool {
    is_for(publication, client) && publication.audience.as_ref().is_none_or(|audience| audience.rooms.is_empty())
}

/// True if rooms decide who may read the publication.
pub(crate) fn is_about_rooms(publication: &Publication) -> bool {
    let audience = publication.audience.as_ref();
    audience.is_some_and(|audience| !audience.rooms.is_empty() || !audience.except_rooms.is_empty())
}

/// True if some subscribers are not told of it: it is for some only, or its author wants no copy.
pub(crate) fn is_narrow(publication: &Publication) -> bool {
    publication.audience.is_some() || !publication.echo
}

/// True if this client is surely told of it when it happens: its own copies only if it wants them.
pub(crate) fn is_told(kept: &Kept, client: ClientId) -> bool {
    let publication = &kept.publication;
    is_for(publication, client) && !is_about_rooms(publication) && (publication.echo || kept.client() != Some(client))
}

/// The payload and the texts of a publication, in bytes.
pub(crate) fn bytes_of(publication: &Publication) -> usize {
    let texts = [publication.event.as_deref(), publication.idempotency_key.as_deref()];
    publication.data.bytes().len() + texts.into_iter().flatten().map(str::len).sum::<usize>()
}

/// More than a publication costs the server, with all overhead.
pub(crate) fn cost_max(publication: &Publication) -> usize {
    let audience = publication.audience.as_deref();
    let clients = audience.map_or(0, |audience| audience.only.len() + audience.except.len());
    let rooms = audience.into_iter().flat_map(|audience| audience.rooms.iter().chain(&audience.except_rooms));
    let rooms: usize = rooms.map(|room| 64 + room.as_str().len()).sum();
    bytes_of(publication) + 600 + 16 * clients + rooms
}

/// True if the client is to come back after a connection ended for this reason.
pub(crate) fn comes_back(reason: Disconnect) -> bool {
    (4000..4500).contains(&reason.code())
}

/// True if the same command will be refused again (docs/protocol.md, *Errors*).
pub(crate) fn is_lasting(code: ErrorCode) -> bool {
    let passing =
        ["out_of_order", "rate_limited", "too_many_connections", "internal", "timeout", "unknown", "unavailable"];
    !passing.contains(&&*code.to_string())
}

/// What a client sends as an epoch: 16 lower-case hex digits, else none that any server gave out.
pub(crate) fn epoch_of(text: &str) -> u64 {
    let is_lower_hex = text.len() == 16 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    is_lower_hex.then(|| u64::from_str_radix(text, 16).ok()).flatten().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_matches_by_segments() {
        let table = [
            ("chat:*", "chat:1", true),
            ("chat:*", "chat:1:2", false),
            ("chat:**", "chat:1:2", true),
            ("chat:**", "chat", false),
            ("chat:1", "chat:12", false),
            ("*", "chat", true),
        ];
        for (pattern, name, expected) in table {
            assert_eq!(matches(pattern, name), expected, "{pattern} {name}");
        }
    }
}
