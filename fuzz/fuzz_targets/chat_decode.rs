//! For any bytes as a message or as a publication's data: no panic, and only valid JSON is written. `RUSTC_BOOTSTRAP=1
//! cargo fuzz run chat_decode`
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fanfare_wire::chat::fuzz::decode(data));
