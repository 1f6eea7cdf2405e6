//! The readers of plain event streams in a world.

use super::Plan;
use fanfare_hub::Rng;

impl Plan {
    /// In some worlds there are readers.
    pub(super) fn draw_readers(&mut self, mut rng: Rng) {
        if rng.below(5) == 0 {
            self.readers = 1 + rng.below(3) as usize;
        }
    }
}
