//! Characters: which octets stand for them, comparison without case, and looking for several texts
//! in one stream.
//!
//! Two texts are compared after [`fold`]: each character decomposed, compatibility forms included,
//! and in lower case. That is i;unicode-casemap (RFC 5051) with small letters in the place of
//! capitals: "ä" is the same text in one character and in two, which is how macOS writes it. Nothing
//! is reordered, so what a character becomes does not depend on its neighbours, and a stream is
//! looked through in pieces. They overlap by the longest text: no part of a message is ever held
//! whole.

use encoding_rs::{CoderResult, Decoder, UTF_8};
use mail_parser::decoders::charsets::DecoderFnc;
use mail_parser::decoders::charsets::map::charset_decoder;
use memchr::memmem::Finder;
use unicode_normalization::char::decompose_compatible;

use super::super::summary::charset::encoding;
use super::transfer::Transfer;

/// Octets that are decoded at a time.
const STEP_BYTES: usize = 16 << 10;
/// Octets without a line end after which a charset that is read by lines is read anyway.
const MAX_LINE_BYTES: usize = 16 << 10;
/// Octets that [`fold`] makes of one character at most: an Arabic ligature stands for 18 letters.
const MAX_FOLDED_BYTES: u64 = 33;

/// Adds the text, as it is compared.
pub fn fold_onto(text: &str, out: &mut String) {
    for chunk in text.split_inclusive(|c: char| !c.is_ascii()) {
        let (ascii, other) = match chunk.chars().next_back() {
            Some(c) if !c.is_ascii() => (&chunk[..chunk.len() - c.len_utf8()], Some(c)),
            _ => (chunk, None),
        };
        let at = out.len();
        out.push_str(ascii);
        out[at..].make_ascii_lowercase();
        if let Some(c) = other {
            decompose_compatible(c, |c| match c {
                // The small sigma at the end of a word is one all the same.
                'ς' => out.push('σ'),
                c => out.extend(c.to_lowercase()),
            });
        }
    }
}

/// The text as it is compared.
pub fn fold(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    fold_onto(text, &mut out);
    out
}

/// A text that is looked for. The empty text is in every text.
#[derive(Debug)]
pub struct Needle {
    finder: Finder<'static>,
}

impl Needle {
    /// The needle of a text as it was given.
    pub fn new(text: &str) -> Needle {
        Needle {
            finder: Finder::new(fold(text).as_bytes()).into_owned(),
        }
    }

    /// Whether it occurs in a text that was folded.
    pub fn is_in_folded(&self, haystack: &str) -> bool {
        self.finder.find(haystack.as_bytes()).is_some()
    }

    /// Whether it occurs in a text.
    pub fn is_in(&self, haystack: &str) -> bool {
        self.is_empty() || self.is_in_folded(&fold(haystack))
    }

    /// Whether it is the empty text.
    pub fn is_empty(&self) -> bool {
        self.finder.needle().is_empty()
    }

    /// The folded text: two needles with the same one are found in the same texts.
    pub fn folded(&self) -> &[u8] {
        self.finder.needle()
    }

    /// Whether any of these characters is in it. They must be ASCII and no capitals.
    pub fn has_any(&self, octets: &[u8]) -> bool {
        self.finder.needle().iter().any(|b| octets.contains(b))
    }

    /// Octets of the folded text.
    pub fn len(&self) -> usize {
        self.finder.needle().len()
    }

    /// Whether so many encoded octets can hold it at all: no charset has more characters than
    /// octets.
    pub fn fits(&self, encoded_bytes: u64) -> bool {
        encoded_bytes.saturating_mul(MAX_FOLDED_BYTES) >= self.len() as u64
    }
}

/// The characters of a stream that was looked at so far, as far as they are still needed.
#[derive(Debug, Default)]
pub struct Window {
    folded: String,
    /// Octets that the longest needle needs of what came before.
    overlap: usize,
}

impl Window {
    /// A window for needles of at most so many octets.
    pub fn new(longest: usize) -> Window {
        Window {
            folded: String::new(),
            overlap: longest.saturating_sub(1),
        }
    }

    /// Takes the next characters; then [`Window::folded`] holds every occurrence that ends in
    /// them.
    pub fn push(&mut self, text: &str) {
        let cut = self.folded.len().saturating_sub(self.overlap);
        let cut = self.folded.floor_char_boundary(cut);
        self.folded.drain(..cut);
        fold_onto(text, &mut self.folded);
    }

    /// What needles are looked for in.
    pub fn folded(&self) -> &str {
        &self.folded
    }
}

/// How the octets of a text stand for characters.
enum Charset {
    /// Decoded as it comes.
    Stream(Decoder),
    /// Charsets that only the library of whole texts knows: read line by line.
    Lines(DecoderFnc, Vec<u8>),
}

impl Charset {
    fn new(name: &str) -> Charset {
        if let Some(encoding) = encoding(name) {
            return Charset::Stream(encoding.new_decoder());
        }
        match charset_decoder(name.as_bytes()) {
            Some(decode) if !name.is_empty() => Charset::Lines(decode, Vec::new()),
            _ => Charset::Stream(UTF_8.new_decoder()),
        }
    }

    /// Takes octets and hands the characters that they end to `each`, in pieces.
    fn push(&mut self, octets: &[u8], last: bool, each: &mut dyn FnMut(&str)) {
        match self {
            Charset::Stream(decoder) => {
                let mut text = String::new();
                let mut rest = octets;
                loop {
                    let step = &rest[..rest.len().min(STEP_BYTES)];
                    let is_last = last && step.len() == rest.len();
                    text.clear();
                    let room = decoder.max_utf8_buffer_length(step.len());
                    text.reserve(room.unwrap_or(4 * STEP_BYTES));
                    let (result, read, _) = decoder.decode_to_string(step, &mut text, is_last);
                    each(&text);
                    rest = &rest[read..];
                    if rest.is_empty() && result == CoderResult::InputEmpty {
                        return;
                    }
                }
            }
            Charset::Lines(decode, held) => {
                held.extend_from_slice(octets);
                let end = match (last, held.iter().rposition(|&b| b == b'\n')) {
                    (false, Some(feed)) => feed + 1,
                    (false, None) if held.len() < MAX_LINE_BYTES => return,
                    _ => held.len(),
                };
                for step in held[..end].chunks(MAX_LINE_BYTES) {
                    let text = std::panic::catch_unwind(|| decode(step));
                    each(text.as_deref().unwrap_or_default());
                }
                held.drain(..end);
            }
        }
    }
}

/// Octets of one text part on their way to characters.
pub struct PartText {
    transfer: Transfer,
    charset: Charset,
    octets: Vec<u8>,
}

impl PartText {
    /// For a part with this Content-Transfer-Encoding (lower case) and charset.
    pub fn new(transfer: &str, charset: &str) -> PartText {
        PartText {
            transfer: Transfer::new(transfer),
            charset: Charset::new(charset),
            octets: Vec::new(),
        }
    }

    /// Takes the next octets of the part and hands the characters that they end to `each`.
    pub fn push(&mut self, octets: &[u8], each: &mut dyn FnMut(&str)) {
        match self.transfer {
            Transfer::Identity => self.charset.push(octets, false, each),
            _ => {
                for step in octets.chunks(STEP_BYTES) {
                    self.octets.clear();
                    self.transfer.push(step, &mut self.octets);
                    self.charset.push(&self.octets, false, each);
                }
            }
        }
    }

    /// The part is over.
    pub fn finish(&mut self, each: &mut dyn FnMut(&str)) {
        self.octets.clear();
        self.transfer.finish(&mut self.octets);
        self.charset.push(&self.octets, true, each);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn case_does_not_count_in_any_script() {
        for (a, b) in [
            ("Grüße", "GRÜßE"),
            ("привет", "ПРИВЕТ"),
            ("ΟΔΟΣ", "οδος"),
            ("Straße", "STRAßE"),
            ("驿站 POST", "驿站 post"),
        ] {
            assert_eq!(fold(a), fold(b));
            assert!(Needle::new(a).is_in(&format!("x {b} x")));
        }
        assert!(Needle::new("").is_in("") && !Needle::new("a").is_in(""));
        assert_eq!(fold("AbÄ\u{130}Z"), "aba\u{308}i\u{307}z");
    }

    #[test]
    fn a_character_is_the_same_however_it_is_written() {
        for (a, b) in [
            ("\u{c4}pfel", "a\u{308}PFEL"),
            ("Việt", "vie\u{323}\u{302}t"),
            ("\u{212b}", "\u{e5}"),
            ("ﬁn", "FIN"),
            ("ＰＯＳＴ", "post"),
            ("ｶﾞ", "ガ"),
            ("한", "\u{1112}\u{1161}\u{11ab}"),
            ("a\u{a0}b", "A B"),
        ] {
            assert_eq!(fold(a), fold(b), "{a}");
            assert!(Needle::new(a).is_in(&format!("x {b} x")));
        }
        assert!(!Needle::new("apfel").is_in("Äpfel"));
    }

    #[test]
    fn every_character_is_folded_once_and_for_all() {
        let mut longest = 0;
        for c in '\0'..=char::MAX {
            let folded = fold(c.encode_utf8(&mut [0; 4]));
            assert_eq!(fold(&folded), folded, "{c:?}");
            longest = longest.max(folded.len() as u64);
        }
        assert_eq!(longest, MAX_FOLDED_BYTES);
    }

    #[test]
    fn names_of_charsets_are_known_by_all_their_names() {
        for name in [
            "GB18030",
            "gb2312",
            "GBK",
            "cp936",
            "Big5",
            "ISO-2022-JP",
            "Shift_JIS",
            "x-sjis",
            "EUC-KR",
            "ks_c_5601-1987",
            "EUC-JP",
            "KOI8-R",
            "windows-1251",
            "cp1252",
            "utf-8",
            "UTF8",
            "us-ascii",
            "\"utf-8\"",
            "iso-8859-15",
            "utf-16",
        ] {
            assert!(encoding(name).is_some(), "{name}");
        }
        assert!(encoding("utf-7").is_none());
        let mut part = PartText::new("", "utf-7");
        let mut text = String::new();
        part.push(b"+mn962", &mut |t| text.push_str(t));
        part.push(b"Q-\n", &mut |t| text.push_str(t));
        part.finish(&mut |t| text.push_str(t));
        assert_eq!(text, "驿站\n");
    }

    proptest! {
        /// Wherever the stream is cut, what is in it is found, and nothing else.
        #[test]
        fn a_window_finds_what_the_whole_text_holds(
            text in "[abAB驿站é\u{301}e]{0,200}", needle in "[abB驿站É]{1,6}", cuts in proptest::collection::vec(1usize..30, 1..40),
        ) {
            let needle = Needle::new(&needle);
            let mut window = Window::new(needle.len());
            let mut found = false;
            let mut rest = text.as_str();
            for cut in cuts {
                let (piece, after) = rest.split_at(rest.floor_char_boundary(cut));
                window.push(piece);
                found |= needle.is_in_folded(window.folded());
                rest = after;
            }
            window.push(rest);
            found |= needle.is_in_folded(window.folded());
            prop_assert_eq!(found, needle.is_in(&text));
        }

        #[test]
        fn characters_do_not_depend_on_how_their_octets_are_cut(
            octets in proptest::collection::vec(any::<u8>(), 0..300), piece in 1usize..50,
            charset in prop_oneof![Just("gb18030"), Just("iso-2022-jp"), Just("big5"), Just("utf-8"), Just("utf-16"), Just("koi8-r")],
            transfer in prop_oneof![Just(""), Just("base64"), Just("quoted-printable")],
        ) {
            let read = |size: usize| {
                let mut part = PartText::new(transfer, charset);
                let mut text = String::new();
                octets.chunks(size).for_each(|o| part.push(o, &mut |t| text.push_str(t)));
                part.finish(&mut |t| text.push_str(t));
                text
            };
            prop_assert_eq!(read(piece), read(1000));
        }
    }
}
