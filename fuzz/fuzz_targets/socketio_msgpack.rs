//! For any message: no panic, bounded memory, and a packet that was read is written so that it reads the same.
//! `RUSTC_BOOTSTRAP=1 cargo fuzz run socketio_msgpack`
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fanfare_wire::socketio::fuzz::msgpack(data));
