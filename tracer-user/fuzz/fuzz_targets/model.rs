//! libFuzzer's way into [`lastbyte_fuzz::model`].
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| lastbyte_fuzz::model::run(input));
