//! Whatever a WebSocket peer sends as compressed messages: same events for any cut, no panic, bounded memory; and what
//! we compress comes out as it was.
//! `RUSTC_BOOTSTRAP=1 cargo fuzz run websocket_deflate` (the sanitizer needs unstable flags, the code does not).
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fanfare_wire::websocket::fuzz::deflate(data));
