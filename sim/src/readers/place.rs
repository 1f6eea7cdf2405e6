//! The ids of plain event streams, in the simulation's own reading: `HASH.EPOCH.OFFSET` for each channel, with `_`
//! between them. To a reader an id is opaque.

use crate::model::epoch_of;
use fanfare_hub::{ChannelName, Epoch, Position};
use std::collections::BTreeMap;

/// Where a reader is, by channel.
pub(crate) type Places = BTreeMap<ChannelName, Position>;

/// The most channels of one stream.
const CHANNELS_MAX: usize = 32;

/// The places that an id names, of these channels; and whether all that it names are of them. A text that is no id
/// names none.
pub(crate) fn places_of(id: &str, channels: &[ChannelName]) -> (Places, bool) {
    let entries: Option<Vec<(u64, Position)>> = id.split('_').map(entry).collect();
    let entries = entries.filter(|entries| entries.len() <= CHANNELS_MAX).unwrap_or_default();
    let place = |channel: &ChannelName| {
        let of = entries.iter().find(|(hash, _)| *hash == hash_of(channel))?;
        Some((channel.clone(), of.1))
    };
    let places: Places = channels.iter().filter_map(place).collect();
    let is_all = places.len() == entries.len();
    (places, is_all)
}

fn entry(text: &str) -> Option<(u64, Position)> {
    let parts: Vec<&str> = text.split('.').collect();
    let [hash, epoch, offset] = parts[..] else { return None };
    let is_number = |text: &str, hex: bool| {
        !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit() || hex && byte.is_ascii_hexdigit())
    };
    if !is_number(hash, true) || !is_number(offset, false) {
        return None;
    }
    let position = Position { epoch: Epoch(epoch_of(epoch)), offset: offset.parse().ok()? };
    Some((u64::from_str_radix(hash, 16).ok()?, position))
}

/// FNV-1a.
fn hash_of(channel: &str) -> u64 {
    let step = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3);
    channel.bytes().fold(0xcbf2_9ce4_8422_2325, step)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_names_places() {
        let channels = ["a", "b"].map(|name| ChannelName::new(name).expect("valid"));
        let at = |epoch, offset| Position { epoch: Epoch(epoch), offset };
        let (a, b) = ("af63dc4c8601ec8c.0000000000000001.7", "af63df4c8601f1a5.0000000000000002.8");
        let named = |id: &str| {
            let (places, is_all) = places_of(id, &channels);
            (channels.clone().map(|channel| places.get(&channel).copied()), is_all)
        };
        assert_eq!(named(a), ([Some(at(1, 7)), None], true));
        assert_eq!(named(&format!("{b}_{a}")), ([Some(at(1, 7)), Some(at(2, 8))], true));
        assert_eq!(named(&format!("{a}_1.0000000000000001.1")), ([Some(at(1, 7)), None], false), "of a third channel");
        for none in ["0", "", "x", "1.2", &format!("{a}_"), &format!("{a}.1"), &format!("{a}_x"), &format!("+{a}")] {
            assert_eq!(named(none).0, [None, None], "{none:?}");
        }
    }
}
