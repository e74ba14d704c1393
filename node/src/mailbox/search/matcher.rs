//! Questions put to the octets of a header and of a text part.

use super::super::summary::charset::decode;
use super::super::summary::fields::Fields;
use super::fulltext::{Asking, Place};
use super::text::{PartText, Window, fold};

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
