//! For any head: either side judges it without a panic, and no value breaks out of a head that we write.
//! `RUSTC_BOOTSTRAP=1 cargo fuzz run websocket_handshake`
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fanfare_wire::websocket::fuzz::handshake(data));
