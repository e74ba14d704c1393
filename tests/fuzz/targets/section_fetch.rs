//! Fuzzes sections of a message: see `posthouse_fuzz::section`.
#![no_main]

libfuzzer_sys::fuzz_target!(|octets: &[u8]| posthouse_fuzz::section::fuzz(octets));
