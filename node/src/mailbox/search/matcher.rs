//! Questions put to the octets of a header and of a text part.
//!
//! A field is decoded by RFC 2047. Octets that are no UTF-8 were not allowed there (RFC 6532), and
//! are there all the same: they are read in the charset of the message's text, which is the best
//! guess there is.

use std::borrow::Cow;

use encoding_rs::{ISO_2022_JP, UTF_8, WINDOWS_1252};
use mail_parser::HeaderValue;
use mail_parser::parsers::MessageStream;

use super::super::summary::fields::Fields;
use super::super::summary::{Part, Summary};
use super::fulltext::{Asking, Place};
use super::text::{PartText, Window, encoding, fold};

/// Octets of a value that are decoded at a time: the reader of encoded words may take more than
/// linear time on values made for it.
const VALUE_BYTES: usize = 16 << 10;

/// The charset that a message's text is in, as far as it says.
pub fn charset(summary: &Summary) -> &str {
    let texts = summary.parts.iter().filter(|p| p.main_type == "text");
    let mut given = texts.map(charset_of).filter(|charset| !charset.is_empty());
    given.next().unwrap_or_default()
}

/// The charset of a part, or nothing.
pub fn charset_of(part: &Part) -> &str {
    let charset = part.params.iter().find(|(name, _)| name == "charset");
    charset.map_or("", |(_, charset)| charset)
}

/// The octets of a value in UTF-8.
fn in_utf8<'a>(value: &'a [u8], charset: &str) -> Cow<'a, [u8]> {
    let encoding = match value {
        // ISO-2022 has no octets but those of ASCII; its escapes tell it.
        value if value.contains(&0x1b) => ISO_2022_JP,
        value if std::str::from_utf8(value).is_ok() => return Cow::Borrowed(value),
        _ => match encoding(charset) {
            Some(encoding) if encoding != UTF_8 => encoding,
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

/// Asks a header block. `of_message`: it is the message's own, and decides about fields.
pub fn ask_header(asking: &mut Asking<'_>, block: &[u8], charset: &str, of_message: bool) {
    for (name, value) in Fields(block) {
        let mut found = Vec::new();
        let mut folded: Option<String> = None;
        for (number, question) in asking.open() {
            let applies = match &question.place {
                Place::Field(wanted) => of_message && wanted.as_bytes().eq_ignore_ascii_case(name),
                Place::Anywhere => true,
                Place::Body => false,
            };
            if !applies {
                continue;
            }
            let folded = folded.get_or_insert_with(|| {
                let name = String::from_utf8_lossy(name);
                fold(&format!("{name}: {}", decode(value, charset)))
            });
            let text = match question.place {
                // A field contains no piece of its name.
                Place::Field(_) => folded.split_once(": ").map_or("", |(_, text)| text),
                _ => folded,
            };
            if question.needle.is_empty() || question.needle.is_in_folded(text) {
                found.push(number);
            }
        }
        for number in found {
            asking.answer(number, true);
            if asking.is_done() {
                return;
            }
        }
    }
    if of_message {
        let is_field = |(number, q): (usize, &super::fulltext::Question)| {
            matches!(q.place, Place::Field(_)).then_some(number)
        };
        let missing: Vec<usize> = asking.open().filter_map(is_field).collect();
        for number in missing {
            asking.answer(number, false);
        }
    }
}

/// Whether an open question could have its answer in a part of so many octets.
pub fn concerns(asking: &Asking<'_>, encoded_bytes: u64, header: bool) -> bool {
    asking.open().any(|(_, question)| {
        let place = match question.place {
            Place::Field(_) => false,
            Place::Body => !header,
            Place::Anywhere => true,
        };
        place && question.needle.fits(encoded_bytes)
    })
}

/// Asks the octets of one text part as they come.
pub struct PartMatcher {
    text: PartText,
    window: Window,
}

impl PartMatcher {
    /// For a part with this Content-Transfer-Encoding (lower case) and charset.
    pub fn new(asking: &Asking<'_>, transfer: &str, charset: &str) -> PartMatcher {
        let longest = asking.open().map(|(_, q)| q.needle.len()).max();
        PartMatcher {
            text: PartText::new(transfer, charset),
            window: Window::new(longest.unwrap_or(0)),
        }
    }

    /// Asks the next octets; with `last`, the part is over.
    pub fn push(&mut self, asking: &mut Asking<'_>, octets: &[u8], last: bool) {
        let window = &mut self.window;
        let mut each = |text: &str| {
            if asking.is_done() || text.is_empty() {
                return;
            }
            window.push(text);
            let is_found = |(number, q): (usize, &super::fulltext::Question)| {
                let here = matches!(q.place, Place::Body | Place::Anywhere);
                (here && q.needle.is_in_folded(window.folded())).then_some(number)
            };
            let found: Vec<usize> = asking.open().filter_map(is_found).collect();
            for number in found {
                asking.answer(number, true);
            }
        };
        self.text.push(octets, &mut each);
        if last {
            self.text.finish(&mut each);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::summary::summarize;
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
        assert_eq!(charset(&summarize(mail.as_bytes())), "Big5");
        assert_eq!(charset(&summarize(b"\n")), "");
    }
}
