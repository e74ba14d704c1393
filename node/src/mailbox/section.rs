//! Sections of a message (RFC 9051, section 6.4.5.1; RFC 3516): from part numbers to octets.
//!
//! The summary holds where every part begins and ends, so a section is found without its octets:
//! a range of the message, and what is to be done with it on the way out. Part numbers follow from
//! the tree: the parts of a multipart count from 1, the body of a message that is no multipart is
//! its part 1, and below a message/rfc822 part the numbers are those of the message that it
//! contains. A multipart without any part (it had no usable boundary) is a body like any other.

use std::ops::Range;
use std::sync::Arc;

use super::decode::Decoder;
use super::error::{MailboxError, Result};
use super::summary::Part;

/// Sections of one request.
pub const MAX_SECTIONS: usize = 200;
/// Part numbers of one section: more than messages can be nested.
pub const MAX_PATH: usize = 200;
/// Names of fields of one section.
pub const MAX_FIELD_NAMES: usize = 1000;
/// Octets of one of them; a longer one is no field's (RFC 5322, section 2.1.1: a line has 998).
pub const MAX_FIELD_NAME_BYTES: usize = 998;

/// Which octets of a message.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Section {
    /// Part numbers, from 1; empty: the message itself.
    pub path: Vec<u32>,
    /// What of it.
    pub kind: Kind,
    /// Whether the Content-Transfer-Encoding is undone; only of [`Kind::All`].
    pub decode: bool,
    /// Of the section's octets, after decoding.
    pub offset: u64,
    /// 0: to the end.
    pub length: u64,
    /// Only how many octets there are.
    pub size_only: bool,
}

/// What of a message or part.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Kind {
    /// The message, or the body of the part.
    #[default]
    All,
    /// The header of the message, or of the message that the part contains.
    Header,
    /// Of that header, the fields of these names.
    Fields(Vec<String>),
    /// Of that header, all but the fields of these names.
    FieldsNot(Vec<String>),
    /// The body of the message, or of the message that the part contains.
    Text,
    /// The header of the part.
    Mime,
}

impl Section {
    /// Whether it can be asked for; `at` names it in errors.
    pub fn check(&self, at: &str) -> Result<()> {
        let bad = |field: &str, why: &str| Err(MailboxError::bad(format!("{at}.{field}"), why));
        if self.path.contains(&0) {
            return bad("path", "part numbers begin with 1");
        }
        if self.path.len() > MAX_PATH {
            return bad("path", "at most 200 part numbers are allowed");
        }
        match &self.kind {
            Kind::Mime if self.path.is_empty() => bad("kind", "MIME is of a part: give its path"),
            Kind::Fields(names) | Kind::FieldsNot(names) if names.len() > MAX_FIELD_NAMES => {
                bad("fields", "at most 1,000 names are allowed")
            }
            kind if self.decode && *kind != Kind::All => bad("decode", "only of ALL"),
            _ => Ok(()),
        }
    }

    /// Which of `len` octets are asked for.
    pub fn clip(&self, len: u64) -> Range<u64> {
        let start = self.offset.min(len);
        match self.length {
            0 => start..len,
            n => start..start.saturating_add(n).min(len),
        }
    }
}

/// Where a section is.
#[derive(Debug, Clone)]
pub enum Spot {
    /// These octets of the message, as they stand.
    Octets(Range<u64>),
    /// What comes of these octets.
    Made(Range<u64>, Coder),
    /// Its Content-Transfer-Encoding is not known.
    UnknownEncoding,
}

impl Spot {
    /// The octets of the message that are read for it.
    pub fn range(&self) -> Range<u64> {
        match self {
            Spot::Octets(range) | Spot::Made(range, _) => range.clone(),
            Spot::UnknownEncoding => 0..0,
        }
    }
}

/// Makes a section's octets of the message's, as they pass by.
#[derive(Debug, Clone)]
pub enum Coder {
    /// Undoes an encoding.
    Decode(Decoder),
    /// Leaves fields out.
    Filter(Filter),
}

impl Coder {
    /// Takes the next octets and appends what they give.
    pub fn push(&mut self, octets: &[u8], out: &mut Vec<u8>) {
        match self {
            Coder::Decode(decoder) => decoder.push(octets, out),
            Coder::Filter(filter) => filter.push(octets, out),
        }
    }

    /// No octets follow.
    pub fn finish(&mut self, out: &mut Vec<u8>) {
        match self {
            Coder::Decode(decoder) => decoder.finish(out),
            Coder::Filter(filter) => filter.finish(out),
        }
    }
}

/// The parts of a message, as far as they are known.
#[derive(Debug, Clone, Copy)]
pub struct Parts<'a> {
    /// In the order of their octets; the first is the message itself.
    pub parts: &'a [Part],
    /// Later ones may have been left out, so one that is not here may still exist.
    pub cut: bool,
    /// Octets of the message.
    pub size: u64,
}

impl Parts<'_> {
    /// Finds a section; `None`: there is no such part here.
    pub fn find(&self, section: &Section) -> Option<Spot> {
        let part = self.walk(&section.path)?;
        let whole = section.path.is_empty();
        if whole && section.kind == Kind::All {
            return Some(Spot::Octets(0..self.size));
        }
        let row = self.parts.get(part)?;
        match &section.kind {
            Kind::All if section.decode && !self.has_parts(part) => {
                Some(match Decoder::of(&row.encoding) {
                    None => Spot::UnknownEncoding,
                    Some(Decoder::Identity) => Spot::Octets(self.range(row.body, row.end)),
                    Some(decoder) => {
                        Spot::Made(self.range(row.body, row.end), Coder::Decode(decoder))
                    }
                })
            }
            Kind::All => Some(Spot::Octets(self.range(row.body, row.end))),
            Kind::Mime => Some(Spot::Octets(self.range(row.header, row.body))),
            kind => {
                let (message, end) = match whole {
                    true => (row, self.size),
                    false => (&self.parts[self.message_in(part)?], row.end),
                };
                let header = self.range(message.header, message.body);
                Some(match kind {
                    Kind::Fields(names) => {
                        Spot::Made(header, Coder::Filter(Filter::new(names, true)))
                    }
                    Kind::FieldsNot(names) => {
                        Spot::Made(header, Coder::Filter(Filter::new(names, false)))
                    }
                    Kind::Text => Spot::Octets(self.range(message.body, end)),
                    _ => Spot::Octets(header),
                })
            }
        }
    }

    /// A range that lies in the message, whatever the row says.
    fn range(&self, start: u64, end: u64) -> Range<u64> {
        let start = start.min(self.size);
        start..end.clamp(start, self.size)
    }

    /// The part that a path leads to.
    fn walk(&self, path: &[u32]) -> Option<usize> {
        let mut part = 0;
        for (depth, &number) in path.iter().enumerate() {
            part = self.step(part, depth == 0, number)?;
        }
        Some(part)
    }

    /// The part with this number in another one, which is meant as a whole message where
    /// `message` is set.
    fn step(&self, part: usize, mut message: bool, number: u32) -> Option<usize> {
        let mut holder = part;
        if !message && self.parts.get(part)?.main_type == "message" {
            holder = self.message_in(part)?;
            message = true;
        }
        if self.parts.get(holder)?.is_multipart() {
            if self.has_parts(holder) {
                return self.within(holder).nth(number as usize - 1);
            }
            if self.cut {
                return None;
            }
        }
        (message && number == 1).then_some(holder)
    }

    /// Indexes of the parts of a part.
    fn within(&self, holder: usize) -> impl Iterator<Item = usize> {
        (holder + 1..self.parts.len()).filter(move |&i| self.parts[i].parent as usize == holder)
    }

    fn has_parts(&self, part: usize) -> bool {
        self.within(part).next().is_some()
    }

    /// The message that a part contains: the part after it.
    fn message_in(&self, part: usize) -> Option<usize> {
        let inner = self.parts.get(part + 1)?;
        let contains = self.parts[part].main_type == "message" && inner.parent as usize == part;
        contains.then_some(part + 1)
    }
}

/// Leaves fields out of a header, line by line: what it keeps stands as it stood, folds and line
/// breaks included. The blank line after the header is kept. A line that is no field goes with the
/// field before it when it is folded, else it counts as a field of another name.
#[derive(Debug, Clone)]
pub struct Filter {
    /// Without case.
    names: Arc<[String]>,
    /// Whether these are kept, or all others.
    named: bool,
    /// The beginning of the line, while it is not known whether it is kept.
    begin: Vec<u8>,
    /// Whether the rest of the line is kept, once that is known.
    keep: Option<bool>,
    /// Whether the field before was kept.
    before: bool,
}

impl Filter {
    /// Keeps the fields of these names (`named`), or all others.
    pub fn new(names: &[String], named: bool) -> Filter {
        Filter {
            names: names.iter().map(|n| n.to_ascii_lowercase()).collect(),
            named,
            begin: Vec::new(),
            keep: None,
            before: !named,
        }
    }

    fn is_kept(&self, name: &[u8]) -> bool {
        let name = name.trim_ascii_end();
        let matches = |n: &String| n.as_bytes().eq_ignore_ascii_case(name);
        self.names.iter().any(matches) == self.named
    }

    fn push(&mut self, mut octets: &[u8], out: &mut Vec<u8>) {
        while let Some(&first) = octets.first() {
            if let Some(keep) = self.keep {
                let feed = octets.iter().position(|&b| b == b'\n');
                let (line, rest) = octets.split_at(feed.map_or(octets.len(), |i| i + 1));
                if keep {
                    out.extend_from_slice(line);
                }
                if feed.is_some() {
                    self.keep = None;
                }
                octets = rest;
                continue;
            }
            if self.begin.is_empty() && matches!(first, b' ' | b'\t') {
                self.keep = Some(self.before);
                continue;
            }
            self.begin.push(first);
            octets = &octets[1..];
            let keep = match first {
                // The blank line.
                b'\n' if matches!(self.begin.as_slice(), b"\n" | b"\r\n") => true,
                b':' => self.is_kept(&self.begin[..self.begin.len() - 1]),
                b'\n' => !self.named,
                _ if self.begin.len() > 2 * MAX_FIELD_NAME_BYTES => !self.named,
                _ => continue,
            };
            self.settle(keep, out);
            if first != b'\n' {
                self.keep = Some(keep);
            }
        }
    }

    fn settle(&mut self, keep: bool, out: &mut Vec<u8>) {
        if keep {
            out.extend_from_slice(&self.begin);
        }
        self.begin.clear();
        self.before = keep;
    }

    fn finish(&mut self, out: &mut Vec<u8>) {
        self.settle(!self.named, out);
    }
}

#[cfg(test)]
mod tests;
