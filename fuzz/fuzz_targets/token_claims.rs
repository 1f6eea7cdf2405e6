//! Claims of tokens, and whole tokens that nobody has signed: see `fanfare::auth::fuzz`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fanfare::auth::fuzz(data));
