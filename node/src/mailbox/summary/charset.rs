//! Which charset octets are in, and header fields in any of them.
//!
//! A field is decoded by RFC 2047. Octets that are no UTF-8 were not allowed there (RFC 6532), and
//! are there all the same: they are read in the charset of the message's text, which is the best
//! guess there is. Nor may an encoded word end within a character (RFC 2047, section 5), and mailers
//! that cut the octets wherever a line was full have written many: such words are read as one.

use std::borrow::Cow;
use std::ops::Range;

use encoding_rs::{Encoding, ISO_2022_JP, UTF_8, WINDOWS_1252};
use mail_parser::HeaderValue;
use mail_parser::parsers::MessageStream;

use super::Part;

/// Octets of a value that are decoded at a time: the reader of encoded words may take more than
/// linear time on values made for it.
const VALUE_BYTES: usize = 16 << 10;
/// Encoded octets of one word that is made of many: lines that hold no end of one would have to be
/// cut within it.
const WORD_BYTES: usize = 8 << 10;
/// Octets of the name of a word's charset.
const MAX_NAME_BYTES: usize = 64;

/// The encoding of a charset's name, where it can be decoded as it comes.
pub fn encoding(name: &str) -> Option<&'static Encoding> {
    let name = name.trim().trim_matches(['"', '\'']).to_ascii_lowercase();
    match name.as_str() {
        // What says that it is ASCII and is not, is UTF-8 most often.
        "" | "us-ascii" | "ascii" | "ansi_x3.4-1968" | "unknown-8bit" | "x-unknown" => Some(UTF_8),
        name => {
            let label = label_of(name).unwrap_or(name);
            Encoding::for_label_no_replacement(label.as_bytes())
        }
    }
}

/// Whether what an octet means depends on those before it in more than its own character.
fn has_states(charset: &str) -> bool {
    let charset = charset.to_ascii_lowercase();
    let families = [
        "iso-2022-",
        "csiso2022",
        "utf-16",
        "utf-32",
        "utf-7",
        "hz-gb",
        "unicode",
    ];
    families.iter().any(|family| charset.starts_with(family))
}

/// The usual name of a charset that some programs give another, in lower case.
fn label_of(name: &str) -> Option<&'static str> {
    match name {
        "cp932" | "ms932" => Some("shift_jis"),
        "cp936" | "ms936" => Some("gbk"),
        "cp949" | "ms949" | "uhc" => Some("euc-kr"),
        "cp950" | "ms950" => Some("big5"),
        _ => None,
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

/// The octets of a field's value as its reader wants them: in UTF-8, with encoded words that hold
/// whole characters and say their charset by a name that is known.
pub fn readable<'a>(value: &'a [u8], charset: &str) -> Cow<'a, [u8]> {
    let value = in_utf8(value, charset);
    match mended(&value) {
        Some(mended) => Cow::Owned(mended),
        None => value,
    }
}

/// The octets of a value in UTF-8.
fn in_utf8<'a>(value: &'a [u8], charset: &str) -> Cow<'a, [u8]> {
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

/// An encoded word that is written as it should be (RFC 2047, section 2).
struct Word<'a> {
    charset: &'a str,
    /// `B` or `Q`.
    encoding: u8,
    /// Where its encoded text is.
    text: Range<usize>,
    /// Octets of that, and of the text before that it goes on from.
    bytes: usize,
}

impl<'a> Word<'a> {
    /// The word that begins at `start`, with `=?`. No octets of its text are looked at that another
    /// beginning could be in, so that the time is linear.
    fn read(value: &'a [u8], start: usize) -> Option<Word<'a>> {
        let name = start + 2;
        let rest = &value[name..value.len().min(name + MAX_NAME_BYTES)];
        let len = memchr::memchr(b'?', rest)?;
        let charset = std::str::from_utf8(&rest[..len]).ok()?;
        let &[_, encoding, b'?', ..] = &value[name + len..] else {
            return None;
        };
        let begin = name + len + 3;
        let len = memchr::memchr(b'?', &value[begin..])?;
        let text = &value[begin..begin + len];
        let encoding = encoding.to_ascii_uppercase();
        let sound = match encoding {
            b'B' => text
                .iter()
                .all(|b| b.is_ascii_alphanumeric() || b"+/=".contains(b)),
            b'Q' => {
                let mut escapes = text.split(|&b| b == b'=').skip(1);
                text.iter().all(|b| (b' '..=b'~').contains(b))
                    && escapes.all(|e| e.len() >= 2 && e[..2].iter().all(u8::is_ascii_hexdigit))
            }
            _ => false,
        };
        let ends = value.get(begin + len + 1) == Some(&b'=');
        (sound && ends && charset.bytes().all(|b| b.is_ascii_graphic())).then_some(Word {
            charset,
            encoding,
            text: begin..begin + len,
            bytes: len,
        })
    }

    fn end(&self) -> usize {
        self.text.end + 2
    }

    /// Whether the next word's octets follow on these. Not where a word ends and begins in a state of
    /// its own (RFC 1468; a byte order mark): two escapes in a row are an error to some decoders.
    fn goes_on_in(&self, next: &Word<'_>) -> bool {
        self.encoding == next.encoding
            && self.charset.eq_ignore_ascii_case(next.charset)
            && !has_states(self.charset)
            // Base64 of whole octets: what follows begins anew.
            && (self.encoding == b'Q' || self.text.len().is_multiple_of(4))
            && self.bytes + next.bytes <= WORD_BYTES
    }
}

/// A value in which encoded words are one that follow each other in one charset and one encoding, and
/// charsets have their usual names; `None`: it is so already.
fn mended(value: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    // What of the value is in there, or left out.
    let mut done = 0;
    let mut at = 0;
    let mut last: Option<Word<'_>> = None;
    while let Some(found) = memchr::memmem::find(&value[at..], b"=?") {
        let start = at + found;
        at = start + 2;
        // Within a word of plain text not every reader looks for one.
        let follows = last.as_ref().is_some_and(|last| last.end() == start);
        let begins = match value[..start].last() {
            None => true,
            Some(b) => follows || b.is_ascii_whitespace() || b"\"(,:;<>".contains(b),
        };
        let Some(mut word) = Word::read(value, start).filter(|_| begins) else {
            continue;
        };
        at = word.end();
        if let Some(last) = &last
            && value[last.end()..start].trim_ascii().is_empty()
            && last.goes_on_in(&word)
        {
            out.extend_from_slice(&value[done..last.text.end]);
            done = word.text.start;
            word.bytes += last.bytes;
        } else if let Some(label) = label_of(&word.charset.to_ascii_lowercase()) {
            let name = start + 2;
            out.extend_from_slice(&value[done..name]);
            out.extend_from_slice(label.as_bytes());
            done = name + word.charset.len();
        }
        last = Some(word);
    }
    (done > 0).then(|| {
        out.extend_from_slice(&value[done..]);
        out
    })
}

/// The text of a field's value, unfolded and decoded.
pub fn decode(value: &[u8], charset: &str) -> String {
    let value = readable(value, charset);
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
    fn words_that_share_a_character_are_read_as_one() {
        for (value, text) in [
            (" =?GB2312?B?5uTV?=\r\n =?gb2312?b?vg==?=\r\n", "驿站"),
            (" =?gbk?Q?a=E6=E4=D5?= =?gbk?Q?=BE_b?= c\r\n", "a驿站 b c"),
            (
                " =?utf-8?Q?=E9?==?utf-8?Q?=A9?=\n =?utf-8?Q?=BF!?=\n",
                "驿!",
            ),
            (
                " =?CP949?B?x9Gx?=\r\n =?cp949?B?2yA=?= =?ms932?B?k/o=?=\r\n",
                "한글 日",
            ),
            // Each of these ends in the state of ASCII.
            (
                " =?ISO-2022-JP?B?GyRCJCIbKEI=?=\r\n =?ISO-2022-JP?B?GyRCJCQbKEI=?=\r\n",
                "あい",
            ),
            // Padding in between ends what was before.
            (" =?gbk?B?5uTVvg==?=\n\t=?gbk?B?5uTVvg==?=\n", "驿站驿站"),
            (
                " =?big5?Q?=A4?= =?big5?Q?=A4?= and =?utf-8?Q?=E9=A9=BF?=\n",
                "中 and 驿",
            ),
        ] {
            assert_eq!(decode(value.as_bytes(), ""), text, "{value}");
        }
        let kept = [
            "=?gbk?B?5uTVvg==?=",
            "=?gbk?B?5uTVvg==?= =?utf-8?B?5uTVvg==?=",
            "=?gbk?B?5uTVvg==?= =?gbk?Q?x?=",
            "=?gbk?Q?x?= and =?gbk?Q?y?=",
            // What is not written as it should be goes its own way.
            "=?gbk?B?5uT?= =?gbk?B?vg==?=",
            "=?gbk?Q?=E?= =?gbk?Q?4?=",
            "=?gbk?Q?x?= =?gbk?Q?=4?=",
            "x=?gbk?Q?x?= =?gbk?Q?y?=",
            "=?gbk?B?5u TV?= =?gbk?B?vg==?=",
            "=?gbk?Q?x?= =?gbk?Q?y",
            "=?gbk?Q?x?= =?gbk?Q?y?",
            "=?gbk?Q?x?= =?gbk",
            "=?gbk?Q?x?= =?",
            "=?=?=?",
        ];
        for value in kept {
            assert_eq!(mended(value.as_bytes()), None, "{value}");
        }
    }

    #[test]
    fn words_are_joined_as_far_as_their_lines_can_be_read() {
        let text = "驿站".repeat(20_000);
        let words: String = text
            .as_bytes()
            .chunks(40)
            .map(|some| {
                let some: String = some.iter().map(|b| format!("={b:02X}")).collect();
                format!(" =?utf-8?Q?{some}?=\r\n")
            })
            .collect();
        let longer = mended(words.as_bytes()).unwrap();
        assert_eq!(mended(&longer), None);
        let mut lines = longer.split(|&b| b == b'\n');
        assert!(lines.all(|line| line.len() < WORD_BYTES + 100));
        // Only where a word is full a character may be in two.
        let read = decode(words.as_bytes(), "");
        let whole = read.chars().filter(|c| "驿站".contains(*c)).count();
        assert!(whole > 39_900, "{whole}");
        for hostile in ["=?", "=?aa?Q?", "=?aa?Q? ", "=?a?B?aaaa", "=?aa?Q?x?="] {
            let many = hostile.repeat(100_000);
            assert!(mended(many.as_bytes()).is_none_or(|j| j.len() < many.len()));
        }
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
