//! Answers to hooks, and the keys of an issuer of tokens: see `fanfare::fuzz`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fanfare::fuzz::application_answers(data));
