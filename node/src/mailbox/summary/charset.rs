//! Which charset octets are in, and header fields in any of them.
//!
//! A field is decoded by RFC 2047. Octets that are no UTF-8 were not allowed there (RFC 6532), and
//! are there all the same: they are read in the charset of the message's text, which is the best
//! guess there is.

use std::borrow::Cow;

use encoding_rs::{Encoding, ISO_2022_JP, SHIFT_JIS, UTF_8, WINDOWS_1252};
use mail_parser::HeaderValue;
use mail_parser::parsers::MessageStream;

use super::Part;

/// Octets of a value that are decoded at a time: the reader of encoded words may take more than
/// linear time on values made for it.
const VALUE_BYTES: usize = 16 << 10;

/// The encoding of a charset's name, where it can be decoded as it comes.
pub fn encoding(name: &str) -> Option<&'static Encoding> {
    let name = name.trim().trim_matches(['"', '\'']);
    match name.to_ascii_lowercase().as_str() {
        // What says that it is ASCII and is not, is UTF-8 most often.
        "" | "us-ascii" | "ascii" | "ansi_x3.4-1968" | "unknown-8bit" | "x-unknown" => Some(UTF_8),
        "cp932" | "ms932" => Some(SHIFT_JIS),
        "cp936" | "ms936" => Encoding::for_label(b"gbk"),
        "cp949" | "ms949" | "uhc" => Encoding::for_label(b"euc-kr"),
        "cp950" | "ms950" => Encoding::for_label(b"big5"),
        name => Encoding::for_label_no_replacement(name.as_bytes()),
    }
}

/// The charset that a message's text is in, as far as it says.
pub fn of_message(parts: &[Part]) -> &str {
    let texts = parts.iter().filter(|p| p.main_type == "text");
    let mut given = texts.map(of).filter(|charset| !charset.is_empty());
    given.next().unwrap_or_default()
}

/// The charset of a part, or nothing.
pub fn of(part: &Part) -> &str {
    let charset = part.params.iter().find(|(name, _)| name == "charset");
    charset.map_or("", |(_, charset)| charset)
}

/// The octets of a value in UTF-8.
pub fn in_utf8<'a>(value: &'a [u8], charset: &str) -> Cow<'a, [u8]> {
    let encoding = match value {
        // ISO-2022 has no octets but those of ASCII; its escapes tell it.
        value if value.contains(&0x1b) && value.is_ascii() => ISO_2022_JP,
        value if std::str::from_utf8(value).is_ok() => return Cow::Borrowed(value),
        _ => match encoding(charset) {
            Some(encoding) if encoding != UTF_8 => encoding,
            // A character that was cut in two leaves the others what they are.
            _ if value.utf8_chunks().any(|c| !c.valid().is_ascii()) => UTF_8,
            _ => WINDOWS_1252,
        },
    };
    let (text, _) = encoding.decode_without_bom_handling(value);
    Cow::Owned(text.into_owned().into_bytes())
}

/// The text of a field's value, unfolded and decoded.
pub fn decode(value: &[u8], charset: &str) -> String {
    let value = in_utf8(value, charset);
    let mut rest = &*value;
    let mut out = String::new();
    while !rest.is_empty() {
        // Encoded words end with their line, so whole lines can be read apart.
        let mut end = rest.len().min(VALUE_BYTES);
        if end < rest.len()
            && let Some(feed) = rest[..end].iter().rposition(|&b| b == b'\n')
        {
            end = feed + 1;
        }
        let (lines, after) = rest.split_at(end);
        let mut lines = lines.to_vec();
        lines.push(b'\n');
        let text =
            std::panic::catch_unwind(|| match MessageStream::new(&lines).parse_unstructured() {
                HeaderValue::Text(text) => text.into_owned(),
                _ => String::new(),
            });
        if !out.is_empty() {
            out.push(' ');
        }
        out.push_str(text.as_deref().unwrap_or_default());
        rest = after;
    }
    out
}

/// Whether a text shows signs of octets in another charset than its field says: replaced
/// characters, or escapes of ISO-2022 whose first octet is gone.
pub fn is_undecoded(text: &str) -> bool {
    text.contains('\u{fffd}')
        || ["$B", "$@", "$("]
            .iter()
            .any(|escape| text.contains(escape))
}

#[cfg(test)]
mod tests {
    use super::super::summarize;
    use super::*;

    #[test]
    fn fields_are_decoded_whatever_they_are_written_in() {
        let of = |value: &[u8], charset| decode(value, charset);
        assert_eq!(of(b" a\r\n b\r\n", ""), "a b");
        assert_eq!(of(" 驿站\r\n".as_bytes(), "gbk"), "驿站");
        assert_eq!(
            of(b" =?gbk?B?5uTVvg==?=\r\n =?utf-8?Q?_post?=\r\n", ""),
            "驿站 post"
        );
        assert_eq!(of(b" \xe6\xe4\xd5\xbe\r\n", "gb2312"), "驿站");
        assert_eq!(of(b" \x1b$BF|K\\\x1b(B\r\n", "us-ascii"), "日本");
        assert_eq!(of(b" \xd0\xcf\xde\xd4\xc1\r\n", "koi8-r"), "почта");
        assert_eq!(of(b" caf\xe9\r\n", ""), "café");
        let cut = [" 驿站".as_bytes(), b"\xe9\xa9...\r\n"].concat();
        assert_eq!(of(&cut, "utf-8"), "驿站\u{fffd}...");
        assert_eq!(of(" 驿\u{1b}站\r\n".as_bytes(), "").chars().count(), 3);
    }

    #[test]
    fn a_long_value_is_read_to_its_end() {
        let lines: String = (0..5000)
            .map(|i| format!(" =?utf-8?Q?w{i}?=\r\n"))
            .collect();
        let text = decode(lines.as_bytes(), "");
        assert!(text.contains("w0w1w2") && text.ends_with("w4998w4999"));
        let one = format!(" {}end\r\n", "x".repeat(100_000));
        assert!(decode(one.as_bytes(), "").ends_with("end"));
        decode("=?".repeat(100_000).as_bytes(), "");
    }

    #[test]
    fn the_charset_of_a_message_is_that_of_its_first_text_that_says_it() {
        let mail = "Content-Type: multipart/mixed; boundary=b\n\n--b\n\nx\n--b\n\
            Content-Type: text/html; charset=\"Big5\"\n\ny\n--b--\n";
        assert_eq!(of_message(&summarize(mail.as_bytes()).parts), "Big5");
        assert_eq!(of_message(&summarize(b"\n").parts), "");
    }
}
