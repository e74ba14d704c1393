//! The beginning of a message's text, for the preview (RFC 8970).
//!
//! While the scanner passes by, the first octets of the first plain and the first HTML text are
//! kept; at the end one of them is decoded.

use mail_parser::decoders::base64::base64_decode;
use mail_parser::decoders::charsets::map::charset_decoder;
use mail_parser::decoders::html::html_to_text;
use mail_parser::decoders::quoted_printable::quoted_printable_decode;

use super::Part;

/// Characters of a preview (RFC 8970, section 3.1).
pub const MAX_PREVIEW_CHARS: usize = 256;
/// Octets kept of a plain text.
const PLAIN_BYTES: usize = 8 << 10;
/// Octets kept of an HTML text, which may open with a long style sheet.
const HTML_BYTES: usize = 64 << 10;

/// The beginning of one text.
struct Text {
    part: usize,
    octets: Vec<u8>,
    limit: usize,
    /// Octets that passed by.
    passed: usize,
}

/// The beginnings of the texts that a preview may come from.
#[derive(Default)]
pub struct Texts {
    plain: Option<Text>,
    html: Option<Text>,
}

impl Texts {
    /// The body of this leaf begins.
    pub fn begin(&mut self, index: usize, part: &Part) {
        if part.main_type != "text" || part.disposition == "attachment" {
            return;
        }
        let (text, limit) = match part.sub_type.as_str() {
            "html" => (&mut self.html, HTML_BYTES),
            "plain" => (&mut self.plain, PLAIN_BYTES),
            _ => return,
        };
        text.get_or_insert(Text {
            part: index,
            octets: Vec::new(),
            limit,
            passed: 0,
        });
    }

    fn of(&mut self, index: usize) -> Option<&mut Text> {
        let texts = [&mut self.plain, &mut self.html];
        texts.into_iter().flatten().find(|t| t.part == index)
    }

    /// Octets of a leaf's body.
    pub fn push(&mut self, index: usize, octets: &[u8]) {
        if let Some(text) = self.of(index) {
            let room = text.limit.saturating_sub(text.passed).min(octets.len());
            text.octets.extend_from_slice(&octets[..room]);
            text.passed += octets.len();
        }
    }

    /// The last `octets` of the body were a boundary and belong to no part.
    pub fn cut(&mut self, index: usize, octets: u64) {
        if let Some(text) = self.of(index) {
            text.passed = text.passed.saturating_sub(octets as usize);
            text.octets.truncate(text.passed);
        }
    }

    /// The preview: of the plain text, or of the HTML text when that says nothing.
    pub fn preview(&self, parts: &[Part]) -> String {
        let read = |text: &Text, html: bool| {
            let part = parts.get(text.part)?;
            std::panic::catch_unwind(|| {
                let decoded = decode(part, &text.octets, text.passed <= text.limit);
                match html {
                    true => tidy(&html_to_text(&decoded), false),
                    false => tidy(&decoded, true),
                }
            })
            .ok()
            .filter(|preview| !preview.is_empty())
        };
        let plain = self.plain.as_ref().and_then(|t| read(t, false));
        plain
            .or_else(|| self.html.as_ref().and_then(|t| read(t, true)))
            .unwrap_or_default()
    }
}

/// The characters of a text's beginning. `whole`: nothing follows it.
fn decode(part: &Part, octets: &[u8], whole: bool) -> String {
    let decoded = match part.encoding.as_str() {
        "base64" => {
            let is_digit = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'/');
            let mut digits: Vec<u8> = octets.iter().copied().filter(is_digit).collect();
            if !whole {
                digits.truncate(digits.len() / 4 * 4);
            }
            base64_decode(&digits)
        }
        "quoted-printable" => {
            let end = match whole {
                true => octets.len(),
                // A cut line may end inside of an escape.
                false => octets
                    .iter()
                    .rposition(|&b| b == b'\n')
                    .map_or(0, |i| i + 1),
            };
            quoted_printable_decode(&octets[..end])
        }
        _ => None,
    };
    let octets = decoded.as_deref().unwrap_or(octets);
    let charset = part.params.iter().find(|(name, _)| name == "charset");
    match charset.and_then(|(_, charset)| charset_decoder(charset.as_bytes())) {
        Some(decode) => decode(octets),
        None => String::from_utf8_lossy(octets).into_owned(),
    }
}

/// One line of at most [`MAX_PREVIEW_CHARS`] characters; of plain text without quoted lines.
fn tidy(text: &str, plain: bool) -> String {
    let mut out = String::new();
    let mut chars = 0;
    for line in text.lines() {
        if plain && line.starts_with('>') {
            continue;
        }
        let mut space = !out.is_empty();
        for c in line.chars() {
            if c.is_whitespace() || c.is_control() {
                space = !out.is_empty();
                continue;
            }
            // Invisible: zero-width spaces and joiners, soft hyphen, byte order mark.
            if matches!(
                c,
                '\u{200b}'..='\u{200f}' | '\u{ad}' | '\u{feff}' | '\u{34f}'
            ) {
                continue;
            }
            if chars + usize::from(space) >= MAX_PREVIEW_CHARS {
                return out;
            }
            if space {
                out.push(' ');
                chars += 1;
                space = false;
            }
            out.push(c);
            chars += 1;
        }
    }
    // A character that was cut in the middle.
    out.trim_end_matches('\u{fffd}').to_owned()
}

#[cfg(test)]
mod tests {
    use super::super::summarize;
    use super::*;

    #[test]
    fn previews_come_from_the_text_in_any_encoding() {
        let of = |mail: &str| summarize(mail.as_bytes()).preview;
        assert_eq!(
            of("Subject: x\r\n\r\n  One\r\n> quoted\r\n\r\ntwo\t three \r\n"),
            "One two three"
        );
        assert_eq!(
            of("Content-Type: text/plain; charset=iso-8859-1\n\
                Content-Transfer-Encoding: quoted-printable\n\nGr=FC=\n=DFe\n"),
            "Grüße"
        );
        assert_eq!(
            of("Content-Type: text/plain; charset=utf-8\n\
                Content-Transfer-Encoding: base64\n\n6am/56uZIHBvc3Q=\n"),
            "驿站 post"
        );
        assert_eq!(
            of("Content-Type: text/html\n\n<html><head><title>no</title>\
                <style>p {}</style></head><p>Hello <b>post</b>"),
            "Hello post"
        );
        assert_eq!(of("Content-Type: image/png\n\nbinary"), "");
        let gbk = [
            b"Content-Type: text/plain; charset=GBK\n\n".as_slice(),
            &[0xe6, 0xe4, 0xd5, 0xbe],
        ];
        assert_eq!(summarize(&gbk.concat()).preview, "驿站");
        assert_eq!(
            summarize(b"Subject: =?gb2312?B?1tDOxA==?= =?big5?B?pKTlXA==?=\n\n")
                .envelope
                .subject,
            "中文中嫹"
        );
    }

    #[test]
    fn a_plain_part_wins_over_html_unless_it_is_blank() {
        let mail = |plain: &str| {
            format!(
                "Content-Type: multipart/alternative; boundary=b\n\n--b\n\n{plain}\n--b\n\
                 Content-Type: text/html\n\n<p>markup</p>\n--b--\n"
            )
        };
        assert_eq!(summarize(mail("plain").as_bytes()).preview, "plain");
        assert_eq!(summarize(mail("  ").as_bytes()).preview, "markup");
    }

    #[test]
    fn a_preview_has_a_limit_in_characters() {
        let mail = format!("\n{}", "驿站 ".repeat(1_000_000));
        let preview = summarize(mail.as_bytes()).preview;
        assert_eq!(preview.chars().count(), MAX_PREVIEW_CHARS);
        let long = format!(
            "Content-Transfer-Encoding: base64\n\n{}",
            "QUJD".repeat(1_000_000)
        );
        assert_eq!(summarize(long.as_bytes()).preview.len(), MAX_PREVIEW_CHARS);
    }
}
