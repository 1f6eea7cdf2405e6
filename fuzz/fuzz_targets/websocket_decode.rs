//! For any bytes of a WebSocket peer, cut anywhere: same events, no panic, bounded memory. `RUSTC_BOOTSTRAP=1 cargo
//! fuzz run websocket_decode` (the sanitizer needs unstable flags, the code does not).
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fanfare_wire::websocket::fuzz::decode(data));
