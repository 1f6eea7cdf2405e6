//! For any bytes as the beginning of a connection of a proxy, cut anywhere: no panic, a bounded wait, the same outcome.
//! `RUSTC_BOOTSTRAP=1 cargo fuzz run proxy_protocol`
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fanfare_wire::proxy_protocol::fuzz::decode_any(data));
