//! See `relume_fuzz::notify`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| relume_fuzz::notify(data));
