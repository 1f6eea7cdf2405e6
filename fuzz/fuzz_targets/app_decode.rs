//! Bodies of the HTTP API: see `fanfare_wire::native::app::fuzz`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fanfare_wire::native::app::fuzz::decode(data));
