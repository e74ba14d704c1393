//! Strings, flags and sets as IMAP writes them (RFC 9051, section 4).

use std::collections::BTreeMap;
use std::fmt::Write as _;

use bytes::BytesMut;
use posthouse_client::proto::UidRange;
use roaring::RoaringBitmap;

use crate::imap::parse::token::is_atom;
use crate::imap::view;

/// Longer strings are literals even where quotes would do.
const QUOTED_BYTES: usize = 2_000;

/// System flags by their bits.
const SYSTEM: [&str; 5] = ["\\Seen", "\\Answered", "\\Flagged", "\\Deleted", "\\Draft"];
/// The bit of `\Seen`.
pub const SEEN: u32 = 1;

/// Adds text.
pub fn put(out: &mut BytesMut, text: &str) {
    out.extend_from_slice(text.as_bytes());
}

/// Adds a number.
pub fn number(out: &mut BytesMut, n: u64) {
    // Not by `fmt`: rows of a large mailbox are mostly numbers.
    put(out, itoa::Buffer::new().format(n));
}

/// A string in quotes where that is allowed, else as a literal. `utf8`: the client reads UTF-8 in
/// quotes (RFC 6855, section 3).
pub fn string(out: &mut BytesMut, text: &[u8], utf8: bool) {
    let plain = |b: u8| b != 0 && b != b'\r' && b != b'\n' && (b < 0x80 || utf8);
    let quotes = text.len() <= QUOTED_BYTES && text.iter().all(|&b| plain(b));
    if !quotes || utf8 && std::str::from_utf8(text).is_err() {
        let _ = write!(out, "{{{}}}\r\n", text.len());
        out.extend_from_slice(text);
        return;
    }
    out.extend_from_slice(b"\"");
    let mut from = 0;
    for at in memchr::memchr2_iter(b'"', b'\\', text) {
        out.extend_from_slice(&text[from..at]);
        out.extend_from_slice(b"\\");
        from = at;
    }
    out.extend_from_slice(&text[from..]);
    out.extend_from_slice(b"\"");
}

/// A string, or NIL for an empty one.
pub fn nstring(out: &mut BytesMut, text: &str, utf8: bool) {
    match text {
        "" => put(out, "NIL"),
        text => string(out, text.as_bytes(), utf8),
    }
}

/// An atom where that is allowed, else a string.
pub fn astring(out: &mut BytesMut, text: &str, utf8: bool) {
    let atom = !text.is_empty() && text.bytes().all(is_atom) && !text.eq_ignore_ascii_case("NIL");
    match atom {
        true => put(out, text),
        false => string(out, text.as_bytes(), utf8),
    }
}

/// Flags in parentheses; keywords by their numbers.
pub fn flags(out: &mut BytesMut, bits: u32, keywords: &[u32], names: &BTreeMap<u32, String>) {
    put(out, "(");
    let mut first = true;
    let mut one = |out: &mut BytesMut, name: &str| {
        put(out, if std::mem::take(&mut first) { "" } else { " " });
        put(out, name);
    };
    for (i, name) in SYSTEM.iter().enumerate() {
        if bits & (1 << i) != 0 {
            one(out, name);
        }
    }
    for name in keywords.iter().filter_map(|id| names.get(id)) {
        one(out, name);
    }
    put(out, ")");
}

/// The flags that a mailbox knows, for FLAGS.
pub fn all_flags(out: &mut BytesMut, names: &BTreeMap<u32, String>) {
    put(out, "\\Answered \\Flagged \\Deleted \\Seen \\Draft");
    for name in names.values() {
        put(out, " ");
        put(out, name);
    }
}

/// Ranges in the form of a set.
pub fn ranges(out: &mut BytesMut, ranges: &[UidRange]) {
    for (i, range) in ranges.iter().enumerate() {
        put(out, if i > 0 { "," } else { "" });
        number(out, range.first.into());
        if range.last != range.first {
            put(out, ":");
            number(out, range.last.into());
        }
    }
}

/// A set that is not empty.
pub fn set(out: &mut BytesMut, numbers: &RoaringBitmap) {
    ranges(out, &view::ranges(numbers));
}

/// Text on one line, for people: nothing of it can be read as syntax.
pub fn one_line(text: &str) -> String {
    let clean = |c: char| if (' '..='~').contains(&c) { c } else { '?' };
    let text: String = text.chars().take(400).map(clean).collect();
    // A bracket at the start would begin a response code.
    match text.starts_with('[') {
        true => format!(" {text}"),
        false => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(f: impl FnOnce(&mut BytesMut)) -> String {
        let mut out = BytesMut::new();
        f(&mut out);
        String::from_utf8(out.to_vec()).unwrap()
    }

    #[test]
    fn strings_take_the_form_that_can_hold_them() {
        let of = |s: &str, utf8| written(|out| string(out, s.as_bytes(), utf8));
        assert_eq!(of("a \"b\\", false), "\"a \\\"b\\\\\"");
        assert_eq!(of("a\r\nb", false), "{4}\r\na\r\nb");
        assert_eq!(of("ü", false), "{2}\r\nü");
        assert_eq!(of("ü", true), "\"ü\"");
        assert!(of(&"x".repeat(3_000), false).starts_with("{3000}\r\n"));
        let a = |s: &str| written(|out| astring(out, s, false));
        assert_eq!(a("INBOX"), "INBOX");
        assert_eq!(a("nil"), "\"nil\"");
        assert_eq!(a("a b"), "\"a b\"");
        assert_eq!(a(""), "\"\"");
        assert_eq!(written(|out| nstring(out, "", false)), "NIL");
    }

    #[test]
    fn numbers_are_written_whole() {
        for n in [0, 7, 10, 99, 100, u64::from(u32::MAX), u64::MAX] {
            assert_eq!(written(|out| number(out, n)), n.to_string());
        }
    }

    #[test]
    fn sets_are_written_short() {
        let some: RoaringBitmap = [1, 2, 3, 7, 9, 10].into_iter().collect();
        assert_eq!(written(|out| set(out, &some)), "1:3,7,9:10");
        let names = BTreeMap::from([(4, "$Junk".to_owned())]);
        assert_eq!(
            written(|out| flags(out, 0b1001, &[4, 5], &names)),
            "(\\Seen \\Deleted $Junk)"
        );
        assert_eq!(written(|out| flags(out, 0, &[], &names)), "()");
    }
}
