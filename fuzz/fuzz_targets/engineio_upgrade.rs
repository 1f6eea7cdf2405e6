//! For any session and any change to its id, and any messages on a new WebSocket: no panic, no id is guessed, and only
//! a `5` upgrades. `RUSTC_BOOTSTRAP=1 cargo fuzz run engineio_upgrade`
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fanfare_wire::engineio::fuzz::upgrade(data));
