//! Fuzzes IMAP's reader of commands: see `posthouse_fuzz::imap::reader`.
#![no_main]

libfuzzer_sys::fuzz_target!(|octets: &[u8]| posthouse_fuzz::imap::reader::fuzz(octets));
