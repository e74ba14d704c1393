//! Text that is not ASCII, for clients that have not said that they read UTF-8.
//!
//! The store keeps header text decoded. A client without UTF8=ACCEPT (RFC 6855) expects it in the
//! form that mail travels in: encoded words (RFC 2047) and encoded parameters (RFC 2231). All of
//! them are written in UTF-8, whatever the message itself used.

use std::borrow::Cow;
use std::fmt::Write;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

/// Octets of text in one encoded word: RFC 2047, section 2, allows 75 characters in all.
const WORD_BYTES: usize = 45;

/// Unstructured text or a phrase as encoded words, where it needs them.
pub fn words(text: &str, utf8: bool) -> Cow<'_, str> {
    // What looks like an encoded word and is none must not be decoded by the client.
    let plain = text.is_ascii() && !text.contains("=?");
    if utf8 || plain {
        return Cow::Borrowed(text);
    }
    let mut out = String::new();
    let mut rest = text;
    while !rest.is_empty() {
        let mut n = rest.len().min(WORD_BYTES);
        while !rest.is_char_boundary(n) {
            n -= 1;
        }
        let (word, after) = rest.split_at(n);
        if !out.is_empty() {
            out.push(' ');
        }
        out.push_str("=?UTF-8?B?");
        STANDARD.encode_string(word, &mut out);
        out.push_str("?=");
        rest = after;
    }
    Cow::Owned(out)
}

/// A parameter: its name and value, perhaps in the extended form.
pub fn parameter<'a>(name: &'a str, value: &'a str, utf8: bool) -> (Cow<'a, str>, Cow<'a, str>) {
    if utf8 || value.is_ascii() {
        return (Cow::Borrowed(name), Cow::Borrowed(value));
    }
    let mut out = String::from("UTF-8''");
    for &b in value.as_bytes() {
        match b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_') {
            true => out.push(b as char),
            false => {
                let _ = write!(out, "%{b:02X}");
            }
        }
    }
    (Cow::Owned(format!("{name}*")), Cow::Owned(out))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn ascii_stays_and_the_rest_is_encoded() {
        assert_eq!(words("plain text", false), "plain text");
        assert_eq!(words("Grüße", false), "=?UTF-8?B?R3LDvMOfZQ==?=");
        assert_eq!(words("Grüße", true), "Grüße");
        assert_ne!(words("=?UTF-8?Q?x?=", false), "=?UTF-8?Q?x?=");
        let (name, value) = parameter("filename", "ü.txt", false);
        assert_eq!((&*name, &*value), ("filename*", "UTF-8''%C3%BC.txt"));
        assert_eq!(
            parameter("a", "b c", false),
            (Cow::Borrowed("a"), Cow::Borrowed("b c"))
        );
    }

    proptest! {
        #[test]
        fn words_are_short_and_hold_the_text(text in "\\PC{1,200}") {
            let encoded = words(&text, false);
            if *encoded != *text {
                let mut back = Vec::new();
                for word in encoded.split(' ') {
                    prop_assert!(word.len() <= 75);
                    let inner = word.strip_prefix("=?UTF-8?B?").and_then(|w| w.strip_suffix("?="));
                    let octets = STANDARD.decode(inner.unwrap()).unwrap();
                    // Each word is text by itself.
                    prop_assert!(std::str::from_utf8(&octets).is_ok());
                    back.extend(octets);
                }
                prop_assert_eq!(back, text.as_bytes());
            }
        }
    }
}
