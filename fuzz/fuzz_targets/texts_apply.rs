//! For any JSON: no panic, and texts in fields are cleaned once and for all. `RUSTC_BOOTSTRAP=1 cargo fuzz run
//! texts_apply`
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fanfare_wire::texts::fuzz::apply(data));
