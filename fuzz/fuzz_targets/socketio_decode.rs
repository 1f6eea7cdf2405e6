//! For any series of messages: no panic, bounded memory, and a packet that was read is written the same.
//! `RUSTC_BOOTSTRAP=1 cargo fuzz run socketio_decode`
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fanfare_wire::socketio::fuzz::decode(data));
