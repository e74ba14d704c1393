//! Fuzzes the IMAP door: see `posthouse_fuzz::imap::door`.
#![no_main]

libfuzzer_sys::fuzz_target!(|octets: &[u8]| posthouse_fuzz::imap::door::fuzz(octets));
