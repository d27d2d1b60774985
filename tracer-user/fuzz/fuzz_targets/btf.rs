//! libFuzzer's way into [`lastbyte_fuzz::btf`].
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| lastbyte_fuzz::btf::run(input));
