//! The streaming scanner: cuts a message into parts as its octets pass by (RFC 2046, section 5.1).
//!
//! It looks at lines. A line that begins with "--" may be a boundary of a multipart that is open,
//! innermost first; an empty line ends a header block, which [`super::fields`] then reads; of
//! everything else only offsets and line feeds are counted. Memory: one header block, one line's
//! beginning, two beginnings of texts for the preview, the stack of open parts and the parts
//! found, each with a limit.

use super::fields::{self, Header};
use super::preview::Texts;
use super::{Part, Summary};

/// Parts that are told apart; later ones are part of nothing.
pub const MAX_PARTS: usize = 1000;
/// Levels of nesting that are followed; deeper parts are leaves.
pub const MAX_DEPTH: usize = 50;
/// Octets of one header block that are read.
pub const MAX_HEADER_BYTES: usize = 256 << 10;
/// Octets of all header blocks of one message that are read; beyond it parts have no fields.
pub const MAX_HEADERS_BYTES: usize = 4 << 20;
/// Octets of a line that are kept to recognise a boundary. RFC 2046 allows boundaries of 70.
const MAX_LINE_START: usize = 1024;
/// Longest boundary that is followed: it must fit a line's kept beginning, with its dashes.
const MAX_BOUNDARY: usize = MAX_LINE_START - 8;

/// What the octets at the current place belong to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// The header block of this part.
    Header(usize),
    /// The body of this leaf.
    Body(usize),
    /// Before, between or after the parts of a multipart, or a part beyond the limit.
    Between,
}

/// A part that can contain others and is not finished yet.
struct Open {
    part: usize,
    /// Empty for "message/rfc822", and for a multipart after its last boundary.
    boundary: Vec<u8>,
    /// Parts without a Content-Type are messages (RFC 2046, section 5.1.5).
    digest: bool,
}

/// Takes a message piece by piece and gives its summary.
pub struct Scanner {
    summary: Summary,
    texts: Texts,
    open: Vec<Open>,
    place: Place,
    /// The header block so far.
    header: Vec<u8>,
    /// What is left of [`MAX_HEADERS_BYTES`].
    headers_left: usize,
    /// The beginning of the current line.
    line: Vec<u8>,
    line_start: u64,
    /// Octets taken so far.
    offset: u64,
    /// Length of the line break that ended the previous line: 0, 1 or 2.
    last_break: u64,
    last_octet: u8,
    /// Line feeds so far.
    feeds: u64,
    /// `feeds` where the body of each part begins.
    feeds_at: Vec<u64>,
}

impl Default for Scanner {
    fn default() -> Self {
        Scanner::new()
    }
}

impl Scanner {
    /// A scanner before the first octet.
    pub fn new() -> Scanner {
        let mut scanner = Scanner {
            summary: Summary::default(),
            texts: Texts::default(),
            open: Vec::new(),
            place: Place::Between,
            header: Vec::new(),
            headers_left: MAX_HEADERS_BYTES,
            line: Vec::with_capacity(128),
            line_start: 0,
            offset: 0,
            last_break: 0,
            last_octet: 0,
            feeds: 0,
            feeds_at: Vec::new(),
        };
        scanner.begin_part(0);
        scanner
    }

    /// Takes the next octets.
    pub fn push(&mut self, mut octets: &[u8]) {
        while !octets.is_empty() {
            let feed = octets.iter().position(|&b| b == b'\n');
            let (line, rest) = octets.split_at(feed.map_or(octets.len(), |i| i + 1));
            self.take(line, feed.is_some());
            octets = rest;
        }
    }

    /// Takes octets of one line, with its line feed when `ends`.
    fn take(&mut self, octets: &[u8], ends: bool) {
        let room = MAX_LINE_START.saturating_sub(self.line.len());
        self.line
            .extend_from_slice(&octets[..octets.len().min(room)]);
        match self.place {
            // A header line may yet turn out to be a boundary; it is taken back then.
            Place::Header(_) => {
                let room = MAX_HEADER_BYTES
                    .min(self.headers_left)
                    .saturating_sub(self.header.len());
                self.summary.truncated |= octets.len() > room;
                self.header
                    .extend_from_slice(&octets[..octets.len().min(room)]);
            }
            Place::Body(part) => self.texts.push(part, octets),
            Place::Between => (),
        }
        self.offset += octets.len() as u64;
        if ends {
            let crlf = match octets.len() {
                1 => self.last_octet == b'\r',
                n => octets[n - 2] == b'\r',
            };
            let line_break = if crlf { 2 } else { 1 };
            self.feeds += 1;
            self.end_line(line_break);
        }
        self.last_octet = octets.last().copied().unwrap_or(self.last_octet);
    }

    /// A line is complete, its line feed included.
    fn end_line(&mut self, line_break: u64) {
        if !self.boundary() && matches!(self.place, Place::Header(_)) {
            let empty = self.offset - self.line_start == line_break;
            if empty {
                self.end_header();
            }
        }
        self.line.clear();
        self.line_start = self.offset;
        self.last_break = line_break;
        self.last_octet = 0;
    }

    /// Acts on the line if it is a boundary of an open multipart.
    fn boundary(&mut self) -> bool {
        let Some(rest) = self.line.strip_prefix(b"--") else {
            return false;
        };
        let rest = rest.trim_ascii_end();
        let matches = |exact: bool| {
            self.open.iter().rposition(|open| {
                !open.boundary.is_empty()
                    && match rest.strip_prefix(open.boundary.as_slice()) {
                        Some(after) => !exact || after.is_empty() || after == b"--",
                        None => false,
                    }
            })
        };
        // RFC 2046, section 5.1.1, is content with a line that begins with the boundary; but where
        // one multipart's boundary begins with another's, only the whole line tells them apart.
        let Some(found) = matches(true).or_else(|| matches(false)) else {
            return false;
        };
        let last = rest[self.open[found].boundary.len()..].starts_with(b"--");

        // The line break before the boundary belongs to the boundary.
        let end = self.line_start - self.last_break;
        let feeds = self.feeds - 1 - u64::from(self.last_break > 0);
        if let Place::Header(part) = self.place {
            // A header block without its empty line: the boundary line is none of its fields.
            let keep = self
                .header
                .len()
                .saturating_sub((self.offset - self.line_start) as usize);
            if self.header.len() < MAX_HEADER_BYTES.min(self.headers_left) {
                self.header.truncate(keep);
            }
            self.read_header(part, self.line_start, self.feeds - 1);
            // The part is over at this line, whatever it turned out to be.
            self.place = Place::Between;
        }
        if let Place::Body(part) = self.place {
            self.end_part(part, end, feeds);
            self.texts.cut(part, self.offset - end);
        }
        while self.open.len() > found + 1 {
            if let Some(open) = self.open.pop() {
                self.end_part(open.part, end, feeds);
            }
        }
        self.place = Place::Between;
        let parent = self.open[found].part;
        if last {
            self.open[found].boundary = Vec::new();
        } else if self.summary.parts.len() < MAX_PARTS {
            self.begin_part(parent);
        } else {
            self.summary.truncated = true;
        }
        true
    }

    /// A part begins after the octets taken so far: its header block is next.
    fn begin_part(&mut self, parent: usize) {
        let part = self.summary.parts.len();
        self.summary.parts.push(Part {
            parent: parent as u32,
            header: self.offset,
            body: self.offset,
            end: self.offset,
            ..Part::default()
        });
        self.feeds_at.push(self.feeds);
        self.header.clear();
        self.place = Place::Header(part);
    }

    /// The header block of the current part is complete: its body is next.
    fn end_header(&mut self) {
        let Place::Header(part) = self.place else {
            return;
        };
        let header = self.read_header(part, self.offset, self.feeds);
        let nested = self.open.len() < MAX_DEPTH && self.summary.parts.len() < MAX_PARTS;
        if !header.boundary.is_empty() && header.boundary.len() <= MAX_BOUNDARY && nested {
            self.open.push(Open {
                part,
                boundary: header.boundary,
                digest: self.summary.parts[part].sub_type == "digest",
            });
            self.place = Place::Between;
        } else if header.is_message && nested {
            self.open.push(Open {
                part,
                boundary: Vec::new(),
                digest: false,
            });
            self.begin_part(part);
        } else {
            self.summary.truncated |= !header.boundary.is_empty() || header.is_message;
            self.place = Place::Body(part);
            let message = self
                .open
                .iter()
                .any(|o| self.summary.parts[o.part].main_type == "message");
            if !message {
                self.texts.begin(part, &self.summary.parts[part]);
            }
        }
    }

    /// Reads the header block of a part whose body begins at `body`.
    fn read_header(&mut self, part: usize, body: u64, feeds: u64) -> Header {
        let block = std::mem::take(&mut self.header);
        self.headers_left -= block.len().min(self.headers_left);
        let parent = self.summary.parts[part].parent as usize;
        let of_message = part == 0 || self.summary.parts[parent].main_type == "message";
        let digest = self
            .open
            .last()
            .is_some_and(|o| o.digest && o.part == parent);
        let mut header = fields::read(&block, of_message, digest, &mut self.summary.parts[part]);
        self.summary.truncated |= header.truncated;
        match header.envelope.take() {
            Some(envelope) if part == 0 => self.summary.envelope = *envelope,
            Some(envelope) => self.summary.parts[parent].message = Some(envelope),
            None => (),
        }
        let row = &mut self.summary.parts[part];
        row.body = body;
        row.end = body;
        self.feeds_at[part] = feeds;
        self.header = block;
        self.header.clear();
        header
    }

    /// The body of a part ends at `end`, where `feeds` line feeds had passed.
    fn end_part(&mut self, part: usize, end: u64, feeds: u64) {
        // The line break before a boundary may be all that there is of a part within.
        let inner = self.summary.parts.last().map_or(0, |last| last.end);
        let row = &mut self.summary.parts[part];
        row.end = end.max(row.body).max(inner);
        // Then it is this part's, and so is its line feed.
        let feeds = feeds + u64::from(row.end > end);
        row.lines = feeds.saturating_sub(self.feeds_at[part]);
    }

    /// The message is over.
    pub fn finish(mut self) -> Summary {
        if self.offset > self.line_start {
            // A last line without a line feed.
            self.last_unfinished_line();
        }
        let (end, feeds) = (self.offset, self.feeds);
        match self.place {
            Place::Header(part) => {
                self.read_header(part, end, feeds);
            }
            Place::Body(part) => self.end_part(part, end, feeds),
            Place::Between => (),
        }
        while let Some(open) = self.open.pop() {
            self.end_part(open.part, end, feeds);
        }
        self.summary.preview = self.texts.preview(&self.summary.parts);
        self.summary.has_attachment = self.summary.parts.iter().any(Part::is_attachment);
        self.summary.base_subject = fields::base_subject(&self.summary.envelope.subject);
        self.summary
    }

    /// The last line may be a boundary, too: most often the final one.
    fn last_unfinished_line(&mut self) {
        // Counted as every other line, and taken back: there is no line feed.
        self.feeds += 1;
        self.boundary();
        self.feeds -= 1;
    }
}

#[cfg(test)]
mod tests;
