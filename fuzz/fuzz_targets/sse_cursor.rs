//! Any id that a client sends: no panic, and the cursor that was read survives the way back.
//! `RUSTC_BOOTSTRAP=1 cargo fuzz run sse_cursor`
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fanfare_wire::sse::fuzz(data));
