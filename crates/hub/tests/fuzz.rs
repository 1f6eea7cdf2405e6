//! The machines under random inputs: the body of the fuzz target, fed from seeds. Every case that once failed is kept
//! by its seed.

use fanfare_hub::{Rng, fuzz};

/// Cases of a run; `FANFARE_FUZZ_CASES` sets more.
const CASES: u64 = 3_000;

#[test]
fn no_sequence_of_inputs_breaks_the_hub() {
    let cases = std::env::var("FANFARE_FUZZ_CASES").ok().and_then(|text| text.parse().ok()).unwrap_or(CASES);
    for seed in 0..cases {
        let mut rng = Rng::new(seed);
        let len = rng.below(if seed % 8 == 0 { 4_000 } else { 600 });
        let data: Vec<u8> = (0..len).map(|_| rng.next_u64() as u8).collect();
        if let Err(panic) = std::panic::catch_unwind(|| fuzz::inputs(&data)) {
            eprintln!("seed {seed} broke it");
            std::panic::resume_unwind(panic);
        }
    }
}
