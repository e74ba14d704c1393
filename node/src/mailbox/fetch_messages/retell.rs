//! Envelopes and structures that a summary cuts short: read once more from the header blocks.
//!
//! A summary is stored with every message and keeps within 64 KiB: 200 addresses of a field, so many
//! octets of a value; and in it octets of no known charset are replaced, and so are the halves of a
//! character that two encoded words share. To a reader none of that may show (RFC 9051, section
//! 7.5.2, knows no such bounds), so of these messages, and of no others, the blocks are read again
//! when the answer is made. Where they are, the summary knows; the parts and their numbers stay
//! those that it says.
//!
//! What that costs is bounded: a megabyte of header blocks is read of one message, of a large one in
//! its chunks, one at a time; two megabytes of values are told, which fits into an answer of gRPC;
//! one message is told at a time, and large blocks are read where they are in nobody's way.

use std::ops::Range;
use std::sync::Arc;

use super::{Cold, FetchMessages};
use crate::mailbox::Result;
use crate::mailbox::octets::Octets;
use crate::mailbox::summary::charset::{self, is_undecoded};
use crate::mailbox::summary::scan::{MAX_DEPTH, MAX_HEADER_BYTES, MAX_PARTS};
use crate::mailbox::summary::{Address, Envelope, Part, Summary, fields, shrink};

/// Octets of all header blocks that are read of one message.
const MAX_BLOCKS_BYTES: usize = 1 << 20;
/// Octets of all values that are told of one message; gRPC's usual limit is 4 MiB with everything.
const MAX_TOLD_BYTES: usize = 2 << 20;

/// What must be left of them for another block.
const MIN_LEFT_BYTES: usize = 256 << 10;
/// What a part comes to beside its values.
const PART_BYTES: usize = 128;

/// What must be known of a message to be told at length.
pub(super) struct Retelling {
    /// The message's own header block.
    header: Range<u64>,
    /// Of octets that are no UTF-8.
    charset: String,
    /// The parts must be found first.
    scan: bool,
}

impl Retelling {
    /// Of a message whose summary says less of what is asked for than there is; else `None`.
    pub(super) fn of(
        request: &FetchMessages,
        summary: &Summary,
        encoded: &[u8],
    ) -> Option<Retelling> {
        if !request.envelope && !request.structure {
            return None;
        }
        // Signs are looked for in all of it first, which takes no time.
        let signs = || {
            memchr::memmem::find(encoded, "\u{fffd}".as_bytes()).is_some()
                || memchr::memchr(b'$', encoded).is_some()
        };
        let undecoded = || {
            request.envelope && is_envelope_undecoded(&summary.envelope)
                || request.structure && summary.parts.iter().any(is_part_undecoded)
        };
        let cut_short = summary.truncated || signs() && undecoded();
        if !cut_short {
            return None;
        }
        let parts = &summary.parts;
        Some(Retelling {
            header: parts.first().map_or(0..0, block),
            charset: charset::of_message(parts).to_owned(),
            scan: parts.is_empty()
                || request.structure && summary.truncated && shrink::may_lack_parts(parts),
        })
    }

    /// Tells what is asked for at length; gives the octets that it comes to, about. `found`: the
    /// parts, where they have been looked for already. After an error `cold` is as it was.
    pub(super) async fn tell(
        self,
        request: &FetchMessages,
        cold: &mut Cold,
        octets: &mut Octets,
        found: Option<Vec<Part>>,
    ) -> Result<usize> {
        let found = match found {
            None if self.scan => Some(octets.scan().await?),
            found => found,
        };
        let (mut parts, charset) = match found {
            Some(mut parts) => {
                let charset = charset::of_message(&parts).to_owned();
                // All values are read again; those of parts that there is no room for are many.
                parts.iter_mut().for_each(strip);
                (parts, charset)
            }
            None if request.structure => (cold.structure.clone(), self.charset),
            None => {
                let own = Part {
                    header: self.header.start,
                    body: self.header.end,
                    ..Part::default()
                };
                (vec![own], self.charset)
            }
        };
        if !request.structure {
            parts.truncate(1);
        }
        let charset: Arc<str> = charset.into();
        let mut envelope = None;
        let mut truncated = parts.len() >= MAX_PARTS || is_deep(&parts);
        let (mut blocks, mut left) = (MAX_BLOCKS_BYTES, MAX_TOLD_BYTES);
        for at in 0..parts.len() {
            let part = &parts[at];
            let Range { start, end } = block(part);
            let len = end.min(octets.size()).saturating_sub(start);
            let len = len.min(MAX_HEADER_BYTES as u64);
            truncated |= start + len < end;
            // Without room, parts stay as they are.
            if len as usize > blocks || left < MIN_LEFT_BYTES {
                truncated = true;
                break;
            }
            blocks -= len as usize;
            let block = read(octets, start..start + len).await?;
            let parent = part.parent as usize;
            let of_message = at == 0 || parts.get(parent).is_some_and(|p| p.main_type == "message");
            let charset = Arc::clone(&charset);
            let reading = move || {
                let (mut left, mut told) = (left, Part::default());
                let (message, cut) =
                    fields::read_at_length(&block, of_message, &charset, &mut left, &mut told);
                (message, cut, left, told)
            };
            let (message, cut, told);
            (message, cut, left, told) = octets.turns().read(len as usize, reading).await?;
            truncated |= cut;
            match message {
                Some(message) if at == 0 => envelope = Some(*message),
                Some(message) => parts[parent].message = Some(message),
                None => (),
            }
            let part = &mut parts[at];
            *part = Part {
                // What the structure hangs on stays as it was when the parts were told apart.
                main_type: std::mem::take(&mut part.main_type),
                sub_type: std::mem::take(&mut part.sub_type),
                encoding: std::mem::take(&mut part.encoding),
                message: part.message.take(),
                parent: part.parent,
                header: part.header,
                body: part.body,
                end: part.end,
                lines: part.lines,
                ..told
            };
            tokio::task::yield_now().await;
        }
        let bytes = MAX_TOLD_BYTES - left + PART_BYTES * parts.len();
        if request.envelope && envelope.is_some() {
            cold.envelope = envelope;
        }
        if request.structure {
            cold.structure = parts;
        }
        cold.truncated = truncated;
        Ok(bytes)
    }
}

/// The header block of a part.
fn block(part: &Part) -> Range<u64> {
    part.header..part.body.max(part.header)
}

async fn read(octets: &mut Octets, mut range: Range<u64>) -> Result<Vec<u8>> {
    let mut block = Vec::with_capacity((range.end - range.start) as usize);
    while !range.is_empty() {
        let piece = octets.read(range.clone()).await?;
        range.start += piece.len() as u64;
        block.extend_from_slice(&piece);
    }
    Ok(block)
}

/// Leaves what the structure hangs on.
fn strip(part: &mut Part) {
    *part = Part {
        params: Vec::new(),
        disposition_params: Vec::new(),
        id: String::new(),
        description: String::new(),
        md5: String::new(),
        language: Vec::new(),
        location: String::new(),
        message: None,
        ..std::mem::take(part)
    };
}

/// Whether parts may be nested deeper than they are told apart.
fn is_deep(parts: &[Part]) -> bool {
    let mut depths: Vec<usize> = Vec::with_capacity(parts.len());
    for part in parts {
        // The first part is its own parent.
        let depth = depths
            .get(part.parent as usize)
            .map_or(0, |depth| depth + 1);
        depths.push(depth);
        if depth >= MAX_DEPTH && (part.is_multipart() || part.main_type == "message") {
            return true;
        }
    }
    false
}

/// Whether octets of another charset show in an envelope. Ids may hold what escapes look like.
fn is_envelope_undecoded(e: &Envelope) -> bool {
    let lists = [&e.from, &e.sender, &e.reply_to, &e.to, &e.cc, &e.bcc];
    let address = |a: &Address| match a {
        Address::Mailbox { name, address } => is_undecoded(name) || is_replaced(address),
        Address::GroupStart(name) => is_undecoded(name),
        Address::GroupEnd => false,
    };
    is_undecoded(&e.subject)
        || lists.into_iter().flatten().any(address)
        || is_replaced(&e.date_text)
        || is_replaced(&e.message_id)
        || e.in_reply_to.iter().any(|id| is_replaced(id))
}

/// Whether octets of another charset show in what is said of a part.
fn is_part_undecoded(part: &Part) -> bool {
    let mut params = part.params.iter().chain(&part.disposition_params);
    params.any(|(_, value)| is_undecoded(value))
        || is_undecoded(&part.description)
        || is_replaced(&part.id)
        || is_replaced(&part.location)
        || part.message.as_deref().is_some_and(is_envelope_undecoded)
}

fn is_replaced(text: &str) -> bool {
    text.contains('\u{fffd}')
}
