//! For any text: no panic on either side, and a decoded message survives encoding and decoding. `RUSTC_BOOTSTRAP=1
//! cargo fuzz run native_decode`
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fanfare_wire::native::fuzz::decode(data));
