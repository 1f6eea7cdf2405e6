//! For any text as a packet, a payload or a query: no panic, and a payload that was read is written the same.
//! `RUSTC_BOOTSTRAP=1 cargo fuzz run engineio_decode`
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fanfare_wire::engineio::fuzz::decode(data));
