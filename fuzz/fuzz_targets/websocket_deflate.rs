//! Any compressed messages of a WebSocket peer: same events for any cut, no panic, bounded memory; and our own
//! compressed messages come out as they were.
//! `RUSTC_BOOTSTRAP=1 cargo fuzz run websocket_deflate` (the sanitizer needs unstable flags, the code does not).
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fanfare_wire::websocket::fuzz::deflate(data));
