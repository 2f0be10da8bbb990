//! See `relume_fuzz::channel`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| relume_fuzz::channel(data));
