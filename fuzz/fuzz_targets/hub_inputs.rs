//! For any inputs to shards in any order: no panic, one answer to each command, and every account within its bounds.
//! `RUSTC_BOOTSTRAP=1 cargo fuzz run hub_inputs`
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fanfare_hub::fuzz::inputs(data));
