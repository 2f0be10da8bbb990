//! See `relume_fuzz::env_file`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| relume_fuzz::env_file(data));
