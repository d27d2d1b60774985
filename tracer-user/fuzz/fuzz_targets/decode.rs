//! libFuzzer's way into [`lastbyte_fuzz::decode`].
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| lastbyte_fuzz::decode::run(input));
