//! The random numbers of a world: one stream for each name.
//!
//! Every client, connection, link, shard, store, fault and handler has a stream of its own, which follows from the
//! seed and its name. So a world without one of them gives all others the same chances as before: a failure that needs
//! a rare order of events is found again in a smaller world.

use fanfare_hub::Rng;

/// The streams of one seed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Chances(u64);

impl Chances {
    /// `history` 0 is the seed's own.
    pub(crate) fn new(seed: u64, history: u64) -> Self {
        Chances(mixed(mixed(0xFA4F, seed), history))
    }

    /// The stream of the part with this name and number.
    pub(crate) fn of(self, name: &str, number: u64) -> Rng {
        let named = name.bytes().fold(self.0, |state, byte| mixed(state, u64::from(byte)));
        Rng::new(mixed(named, number))
    }
}

/// Chooses one of some candidates, each with a key that stays the same when others are taken away. If the chosen one
/// is still there in a smaller world, it is chosen there too. Takes one number of the stream, also without candidates.
pub(crate) fn pick<T>(rng: &mut Rng, candidates: impl IntoIterator<Item = (u64, T)>) -> Option<T> {
    let draw = rng.next_u64();
    let lots = candidates.into_iter().map(|(key, candidate)| (mixed(draw, key), candidate));
    lots.min_by_key(|(lot, _)| *lot).map(|(_, candidate)| candidate)
}

/// Chooses one of a list, by its place in it.
pub(crate) fn pick_of<'a, T>(rng: &mut Rng, list: &'a [T]) -> Option<&'a T> {
    pick(rng, (0..).zip(list))
}

fn mixed(state: u64, with: u64) -> u64 {
    let mut rng = Rng::new(state ^ with.wrapping_mul(0x9E37_79B9_7F4A_7C15));
    rng.next_u64()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_name_and_number_has_a_stream_of_its_own_and_gets_it_again() {
        let chances = Chances::new(1, 0);
        let first = |name, number| chances.of(name, number).next_u64();
        assert_eq!(first("client", 1), first("client", 1));
        let others = [first("client", 2), first("clienu", 1), Chances::new(2, 0).of("client", 1).next_u64()];
        assert!(!others.contains(&first("client", 1)));
        assert_ne!(first("client", 1), Chances::new(1, 1).of("client", 1).next_u64());
    }

    #[test]
    fn a_choice_stays_when_another_candidate_is_taken_away() {
        for seed in 0..100 {
            let chosen = pick(&mut Rng::new(seed), (0..5).map(|key| (key, key))).expect("there are some");
            for away in (0..5).filter(|away| *away != chosen) {
                let rest = (0..5).filter(|key| *key != away).map(|key| (key, key));
                assert_eq!(pick(&mut Rng::new(seed), rest), Some(chosen), "{seed} without {away}");
            }
        }
    }
}
