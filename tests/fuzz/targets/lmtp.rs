//! Fuzzes the LMTP door: see `posthouse_fuzz::lmtp`.
#![no_main]

libfuzzer_sys::fuzz_target!(|octets: &[u8]| posthouse_fuzz::lmtp::fuzz(octets));
