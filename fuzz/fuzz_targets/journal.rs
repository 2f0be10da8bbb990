//! See `relume_fuzz::journal`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| relume_fuzz::journal(data));
