//! Answers questions by reading the message: header first, then text parts, chunk by chunk.
//!
//! Only chunks that hold a header or a text are read; an attachment of 150 MB costs nothing. At
//! most one chunk is in memory, within the node's read window; a full window is waited for, since
//! a search that began again from its start would only make the window fuller.

use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;

use super::super::limits::PIECE_BYTES;
use super::super::summary::{Summary, charset};
use super::super::window::{Held, Windows};
use super::super::{BlobError, MailboxError, Operations};
use super::fulltext::{Asking, FullText, Lost, Message};
use super::matcher::{self, PartMatcher};
use crate::machine::command::CHUNK_BYTES;
use crate::types::*;

/// Octets of the header of one part that are searched. (Of the message's own header, it is what
/// the first chunk holds.)
const MAX_HEADER_BYTES: u64 = 256 << 10;

/// Reads messages of one shard.
pub struct Scan {
    /// Reads octets.
    pub ops: Arc<Operations>,
    /// Whose.
    pub shard: ShardId,
}

/// Octets of a message that are looked through after its header.
enum Region {
    /// The header of a part.
    Header(Range<u64>),
    /// The body of a text part.
    Body {
        octets: Range<u64>,
        transfer: String,
        charset: String,
    },
}

impl Region {
    fn octets(&self) -> Range<u64> {
        match self {
            Region::Header(octets) | Region::Body { octets, .. } => octets.clone(),
        }
    }
}

/// What is looked through, in the order of the octets.
fn regions(summary: &Summary, body: u64, size: u64) -> Vec<Region> {
    if summary.parts.is_empty() {
        return vec![Region::Body {
            octets: body..size,
            transfer: String::new(),
            charset: String::new(),
        }];
    }
    let mut has_parts = vec![false; summary.parts.len()];
    for part in &summary.parts[1..] {
        if let Some(has) = has_parts.get_mut(part.parent as usize) {
            *has = true;
        }
    }
    let mut regions = Vec::new();
    for (n, part) in summary.parts.iter().enumerate() {
        if n > 0 && part.header < part.body {
            let end = part.body.min(part.header + MAX_HEADER_BYTES);
            regions.push(Region::Header(part.header..end));
        }
        // What could not be taken apart is text as it stands.
        let is_text = matches!(part.main_type.as_str(), "text" | "message" | "multipart");
        if is_text && !has_parts[n] && part.body < part.end {
            regions.push(Region::Body {
                octets: part.body..part.end,
                transfer: part.encoding.clone(),
                charset: charset::of(part).to_owned(),
            });
        }
    }
    regions
}

/// Where the body begins: after the first empty line.
fn after_empty_line(octets: &[u8]) -> u64 {
    let mut at = 0;
    for line in octets.split_inclusive(|&b| b == b'\n') {
        at += line.len();
        if matches!(line, b"\n" | b"\r\n") {
            break;
        }
    }
    at as u64
}

#[async_trait]
impl FullText for Scan {
    async fn ask(&self, message: &Message<'_>, asking: &mut Asking<'_>) -> Result<(), Lost> {
        let mut octets = Octets {
            scan: self,
            blob: message.blob,
            size: message.size,
            current: None,
        };
        if message.size == 0 {
            return Ok(());
        }
        let summary = message.summary;
        let charset = charset::of_message(&summary.parts);
        let first = octets.chunk(0).await?;
        let body = match summary.parts.first() {
            Some(part) => part.body,
            None => after_empty_line(&first),
        };
        let header = &first[..first.len().min(body as usize)];
        matcher::ask_header(asking, header, charset, true);
        drop(first);
        for region in regions(summary, body, message.size) {
            if asking.is_done() {
                return Ok(());
            }
            let Range { start, end } = region.octets();
            let in_header = matches!(region, Region::Header(_));
            if !matcher::concerns(asking, end - start, in_header) {
                continue;
            }
            match region {
                Region::Header(_) => {
                    let mut block = Vec::new();
                    let mut at = start;
                    while at < end {
                        let piece = octets.piece(at, end).await?;
                        block.extend_from_slice(&piece);
                        at += piece.len() as u64;
                    }
                    matcher::ask_header(asking, &block, charset, false);
                }
                Region::Body {
                    transfer, charset, ..
                } => {
                    let mut part = PartMatcher::new(asking, &transfer, &charset);
                    let mut at = start;
                    while at < end && !asking.is_done() {
                        let piece = octets.piece(at, end).await?;
                        at += piece.len() as u64;
                        part.push(asking, &piece, at == end);
                        tokio::task::yield_now().await;
                    }
                }
            }
        }
        Ok(())
    }
}

/// The octets of one message, one chunk at a time.
struct Octets<'a> {
    scan: &'a Scan,
    blob: BlobId,
    size: u64,
    current: Option<(u32, Bytes, Held)>,
}

impl Octets<'_> {
    /// Some octets from `at` on, before `end`.
    async fn piece(&mut self, at: u64, end: u64) -> Result<Bytes, Lost> {
        let chunk_bytes = u64::from(CHUNK_BYTES);
        let chunk = self.chunk((at / chunk_bytes) as u32).await?;
        let from = (at % chunk_bytes) as usize;
        let to = chunk.len().min(from + PIECE_BYTES);
        let to = to.min(from + (end - at).min(chunk_bytes) as usize);
        match from < to {
            true => Ok(chunk.slice(from..to)),
            false => Err(Lost::Octets(format!(
                "blob {}: its summary tells of octets beyond its end",
                self.blob
            ))),
        }
    }

    /// A whole chunk, verified by the reader of blobs.
    async fn chunk(&mut self, seq: u32) -> Result<Bytes, Lost> {
        if let Some((current, octets, _)) = &self.current
            && *current == seq
        {
            return Ok(octets.clone());
        }
        // The room of the chunk before is given back first.
        self.current = None;
        let start = u64::from(seq) * u64::from(CHUNK_BYTES);
        let len = self.size.saturating_sub(start).min(u64::from(CHUNK_BYTES));
        let ops = &self.scan.ops;
        let windows = Windows {
            node: Arc::clone(&ops.read_window),
            connection: None,
        };
        let held = loop {
            match windows.take(len as usize, &ops.limits).await {
                Ok(held) => break held,
                Err(MailboxError::Busy { .. }) => (),
                Err(e) => return Err(Lost::Failed(e)),
            }
        };
        let read = ops.blobs.read_chunk(self.scan.shard, self.blob, seq);
        let lost = |why: &dyn std::fmt::Display| {
            Lost::Octets(format!("blob {} chunk {seq}: {why}", self.blob))
        };
        let octets = match tokio::time::timeout(ops.limits.default_deadline, read).await {
            Ok(Ok(octets)) => octets,
            Ok(Err(e @ (BlobError::Missing | BlobError::Damaged(_)))) => return Err(lost(&e)),
            Ok(Err(BlobError::Failed(why))) => {
                return Err(Lost::Failed(MailboxError::Unavailable(why)));
            }
            Err(_) => {
                return Err(Lost::Failed(MailboxError::Unavailable(
                    "the disk did not answer in time".to_owned(),
                )));
            }
        };
        if octets.len() as u64 != len {
            return Err(lost(&format_args!(
                "{} octets instead of {len}",
                octets.len()
            )));
        }
        self.current = Some((seq, octets.clone(), held));
        Ok(octets)
    }
}
