//! Any body of a stream: the same messages for any cut, no panic, bounded memory.
//! `RUSTC_BOOTSTRAP=1 cargo fuzz run stream_decode`
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fanfare_wire::stream::fuzz(data));
