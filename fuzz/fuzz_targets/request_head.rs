//! Heads of HTTP requests, from bytes to a judged request: see `fanfare::fuzz`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fanfare::fuzz::request_head(data));
