//! Fuzzes MIME structure and summary: see `posthouse_fuzz::summary`.
#![no_main]

libfuzzer_sys::fuzz_target!(|octets: &[u8]| posthouse_fuzz::summary::fuzz(octets));
