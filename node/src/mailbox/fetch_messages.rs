//! Messages of a mailbox with whatever is asked of them: flags, envelope, structure, sections.
//!
//! ```text
//! uids ─▶ pages of hot rows ─▶ cold rows, if asked for ─▶ groups of messages, if octets are
//!                                     │                   needed: read side by side
//!                                     └────────────────────┴──▶ out: batches of bounded size
//! ```
//!
//! One task makes the batches while the one before is being sent; it waits when nobody takes them,
//! and ends with the stream. Rows come in pages and go out as fast as memory gives them; the chunks
//! of small messages are read side by side, so that bodies follow each other without a pause.
//!
//! **What moment a fetch shows.** All rows come from one view, so that a fetch is consistent in
//! itself, but a view is held for `view_age` ([`super::Limits`]) at most: it keeps the index from dropping what was
//! written over, and a fetch of gigabytes takes minutes. A fetch that lasts longer goes on with a
//! newer view. It then shows no messages that came after it began, and leaves out those that were
//! expunged; a message that changed has a modseq above the one that the fetch began with, so a
//! client that asks for changes since that one misses nothing. Octets are not part of a view: a
//! message whose octets are gone when they are to be read was expunged, and is left out.

mod out;
mod retell;
mod sections;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use futures::{FutureExt, Stream};
use tokio::time::Instant;

use super::ahead::Ahead;
use super::check::UidRanges;
use super::octets::Octets;
use super::row_cache::{self, Place};
use super::section::{Kind, MAX_SECTIONS, Section};
use super::summary::{Envelope, Part, Summary};
use super::{Led, MailboxError, Operations, Result, What, check, list_accounts};
use crate::index::values::{EmailRow, MessageRow, Row};
use crate::machine::read;
use crate::raft::shard::ReadView;
use crate::rare::{self, Rare};
use crate::types::*;
use out::Out;
use retell::Retelling;
use sections::Job;

/// Hot rows that are read at once.
const PAGE_ROWS: usize = 4096;
/// Cold rows after which others of this thread have their turn.
const COLD_ROWS_AT_A_TIME: usize = 64;
/// Uid ranges that are no further apart than this are read as one: a row that is passed over costs
/// less than a new scan.
const SCAN_GAP: Uid = 32;

/// What to fetch.
#[derive(Debug, Clone, Default)]
pub struct FetchMessages {
    /// Whose.
    pub account: String,
    /// Where, unless there is a number.
    pub mailbox: String,
    /// 0: none.
    pub mailbox_id: u32,
    /// 0: no condition.
    pub uidvalidity: u32,
    /// Inclusive; a last uid of 0 is no upper bound. None: all messages.
    pub uids: Vec<(Uid, Uid)>,
    /// Only messages with a higher modseq.
    pub changed_since: ModSeq,
    /// With envelope.
    pub envelope: bool,
    /// With parts.
    pub structure: bool,
    /// With preview.
    pub preview: bool,
    /// With blob and thread.
    pub email: bool,
    /// Sections, in this order.
    pub sections: Vec<Section>,
    /// The rows as this leader has them, unconfirmed by a quorum, will do.
    pub unconfirmed: bool,
    /// Where nothing but rows is asked for, they are to come in [`FetchBatch::rows`].
    pub rows: bool,
}

impl FetchMessages {
    fn needs_summary(&self) -> bool {
        self.envelope || self.structure || self.preview || !self.sections.iter().all(is_whole)
    }

    fn needs_octets(&self) -> bool {
        !self.sections.is_empty()
    }

    fn is_of_rows(&self) -> bool {
        self.rows && !(self.needs_summary() || self.email || self.needs_octets())
    }
}

/// Whether it is the message itself, which is found without knowing its parts.
fn is_whole(section: &Section) -> bool {
    section.path.is_empty() && section.kind == Kind::All
}

/// Some of what was asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FetchBatch {
    /// In the first batch, and in a later one when there are more keywords by then.
    pub opening: Option<Opening>,
    /// In the order of the uids; after a message its sections.
    pub items: Vec<Item>,
    /// Instead of items, in the order of the uids.
    pub rows: Vec<(Uid, MessageRow)>,
}

/// What a reader of messages needs to know first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Opening {
    /// All of the mailbox.
    pub keywords: BTreeMap<u16, String>,
    /// Of the mailbox when the fetch began.
    pub highest_modseq: ModSeq,
    /// Of the account, then.
    pub account_modseq: ModSeq,
}

/// A message, or some of its octets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Item {
    /// A message; what follows are its sections.
    Message(FetchedMessage),
    /// Octets of a section of this message.
    Section(SectionPiece),
}

/// A message without octets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FetchedMessage {
    /// Its number in the mailbox.
    pub uid: Uid,
    /// Flags, dates, size.
    pub row: MessageRow,
    /// What else was asked for.
    pub cold: Option<Box<Cold>>,
}

/// What of a message is asked for more rarely.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Cold {
    /// Where asked for.
    pub email: Option<(BlobId, ThreadId)>,
    /// Where asked for.
    pub envelope: Option<Envelope>,
    /// Where asked for.
    pub structure: Vec<Part>,
    /// Where asked for.
    pub preview: String,
    /// Whether something had to be left out.
    pub truncated: bool,
}

/// Octets of a section.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SectionPiece {
    /// Of the section in the request.
    pub index: u32,
    /// What came of it.
    pub outcome: Outcome,
    /// Octets from here to the section's end, those of this piece included.
    pub left: u64,
    /// At most [`super::limits::PIECE_BYTES`].
    pub data: Bytes,
    /// No more of this section.
    pub last: bool,
}

/// What came of a section.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It is there.
    Data,
    /// The message has no such part.
    NoSuchPart,
    /// Its encoding cannot be undone.
    UnknownEncoding,
}

impl Operations {
    /// Finds the mailbox; the batches are made as they are taken.
    pub async fn fetch_messages(
        self: &Arc<Self>,
        request: FetchMessages,
    ) -> Result<impl Stream<Item = Result<FetchBatch>> + Send + use<>> {
        let account = check::account("account", &request.account)?;
        let mailbox = match request.mailbox_id {
            0 => MailboxRef::Name(check::mailbox("mailbox", &request.mailbox)?),
            id => MailboxRef::Id {
                id: MailboxId(id),
                uidvalidity: request.uidvalidity,
            },
        };
        let mut uids = match request.uids.is_empty() {
            true => vec![(1, Uid::MAX)],
            false => check::uids("uids", request.uids.iter().copied())?,
        };
        if request.sections.len() > MAX_SECTIONS {
            return Err(MailboxError::bad(
                "sections",
                "at most 200 sections are allowed",
            ));
        }
        for (i, section) in request.sections.iter().enumerate() {
            section.check(&format!("sections[{i}]"))?;
        }

        let led = self.replica_of(&account)?;
        let find = |view: &ReadView| -> Result<_> {
            let (id, of) = list_accounts::find(view, &account)?;
            let found = read::mailbox(&*view.view, view.space, id, &mailbox)?;
            let same = |uidvalidity| [0, uidvalidity].contains(&request.uidvalidity);
            let (mailbox, row) = found
                .filter(|(_, row)| same(row.uidvalidity))
                .ok_or(MailboxError::NotFound(What::Mailbox))?;
            Ok((id, of, mailbox, row))
        };
        let known = match request.unconfirmed {
            true => self.local_view(&led).and_then(|v| Ok((find(&v)?, v))).ok(),
            false => None,
        };
        // What is not there may be so new that only a quorum knows of it.
        let ((account_id, account_row, mailbox, row), view) = match known {
            Some(known) => known,
            None => {
                let view = self.read(&led).await?;
                (find(&view)?, view)
            }
        };
        // Messages that come while a long fetch lasts are not part of it.
        let last = row.uidnext.saturating_sub(1);
        uids.retain_mut(|(first, end)| {
            *end = (*end).min(last);
            first <= end
        });
        if row.highest_modseq <= request.changed_since {
            uids.clear();
        }
        let opening = Opening {
            keywords: read::keywords_of(&*view.view, view.space, account_id, (mailbox, &row))?,
            highest_modseq: row.highest_modseq,
            account_modseq: account_row.highest_modseq,
        };
        let at_hand = match request.is_of_rows() {
            true => {
                let place = Place {
                    shard: led.shard,
                    view: &view,
                    account: (account_id, &account_row),
                    mailbox: (mailbox, &row),
                };
                self.rows.rows(&place, &uids).await?
            }
            false => None,
        };
        let keywords = opening.keywords.len();
        let modseqs = (opening.highest_modseq, opening.account_modseq);
        let (out, batches) = out::channel(opening);
        let work = Work {
            ops: Arc::clone(self),
            led,
            account_name: account,
            account: account_id,
            mailbox,
            keywords,
            modseqs,
            request,
            view,
            taken: Instant::now(),
            emails: Ahead::emails(),
            summaries: Ahead::summaries(),
            out,
        };
        let run = match at_hand {
            Some(rows) => work.tell(rows, uids).left_future(),
            None => work.run(uids).right_future(),
        };
        Ok(out::stream(batches, run))
    }
}

/// A fetch under way.
struct Work {
    ops: Arc<Operations>,
    led: Led,
    account_name: AccountName,
    account: AccountId,
    mailbox: MailboxId,
    /// Keywords that the reader knows.
    keywords: usize,
    /// Of the mailbox and of the account when the fetch began.
    modseqs: (ModSeq, ModSeq),
    request: FetchMessages,
    view: ReadView,
    /// When the view was.
    taken: Instant,
    emails: Ahead,
    summaries: Ahead,
    out: Out,
}

impl Work {
    /// Tells of rows that are in memory. A reader that takes longer than a view is kept gets what is
    /// left after a page from a newer one.
    async fn tell(mut self, rows: row_cache::Rows, mut uids: UidRanges) -> Result<()> {
        let (mut left, mut pages) = (None, 0);
        'told: for (at, range) in uids.iter().enumerate() {
            for page in rows.within(*range).chunks(PAGE_ROWS) {
                if pages > 0 && self.taken.elapsed() >= self.ops.limits.view_age {
                    left = Some((at, page[0].0));
                    break 'told;
                }
                pages += 1;
                for (uid, row) in page {
                    if row.modseq > self.request.changed_since {
                        self.out.row(*uid, row.clone()).await?;
                    }
                }
                tokio::task::yield_now().await;
            }
        }
        drop(rows);
        match left {
            Some((at, first)) => {
                uids.drain(..at);
                uids[0].0 = first;
                self.run(uids).await
            }
            None => self.out.finish().await,
        }
    }

    async fn run(mut self, uids: UidRanges) -> Result<()> {
        let mut group = Vec::new();
        for (span, wanted) in spans(&uids) {
            let mut next = Some(span.0);
            while let Some(first) = next {
                self.renew().await?;
                let rows;
                (rows, next) = read::messages(
                    &*self.view.view,
                    self.view.space,
                    self.account,
                    self.mailbox,
                    (first, span.1),
                    PAGE_ROWS,
                )?;
                if let Some(again) = self.page(rows, wanted, &mut group).await? {
                    next = Some(again);
                }
                tokio::task::yield_now().await;
            }
        }
        self.serve(&mut group).await?;
        self.out.finish().await
    }

    /// A page of hot rows. There may be a newer view before its end: then the uid to go on from.
    async fn page(
        &mut self,
        rows: Vec<(Uid, MessageRow)>,
        wanted: &[(Uid, Uid)],
        group: &mut Vec<Job>,
    ) -> Result<Option<Uid>> {
        let mut wanted = wanted.iter().peekable();
        let mut cold_rows = 0;
        let of_rows = self.request.is_of_rows();
        for (uid, row) in rows {
            while wanted.next_if(|(_, last)| *last < uid).is_some() {}
            let asked = wanted.peek().is_some_and(|(first, _)| *first <= uid);
            if !asked || row.modseq <= self.request.changed_since {
                continue;
            }
            if of_rows {
                self.out.row(uid, row).await?;
                continue;
            }
            if self.request.needs_summary() || self.request.email {
                cold_rows += 1;
                if cold_rows % COLD_ROWS_AT_A_TIME == 0 {
                    tokio::task::yield_now().await;
                }
            }
            let job = self.look(uid, row)?;
            // What needs no octets waits only for those before it.
            if job.octets.is_none() && group.is_empty() {
                let weight = job.weight;
                self.out.push(Item::Message(job.message), weight).await?;
                continue;
            }
            if !job.fits(group) {
                // A newer view only after something was told by the old one, however short its age
                // may be: otherwise this message would be looked at for ever.
                let told = !group.is_empty();
                self.serve(group).await?;
                if told && self.renew().await? {
                    return Ok(Some(uid));
                }
            }
            group.push(job);
        }
        Ok(None)
    }

    /// What the rows say of a message.
    fn look(&mut self, uid: Uid, row: MessageRow) -> Result<Job> {
        let (view, space) = (&*self.view.view, self.view.space);
        let request = &self.request;
        let missing = || {
            MailboxError::Corrupt(format!(
                "email {} of account {} has no rows",
                row.email.0, self.account
            ))
        };
        let mut weight = 48 + 3 * row.keywords.len();
        let mut cold = None;
        let mut octets = None;
        let mut retelling = None;
        let spots;
        let mut truncated = false;
        if request.needs_summary() {
            let encoded = self.summaries.get(view, space, self.account, row.email)?;
            let encoded = encoded.ok_or_else(missing)?;
            // A summary of a later version is for readers of that version; what it tells is found by
            // reading the message.
            let summary = Summary::decode(&encoded).unwrap_or(Summary {
                truncated: true,
                ..Summary::default()
            });
            truncated = summary.truncated;
            retelling = Retelling::of(request, &summary, &encoded);
            weight += encoded.len();
            let cold = cold.get_or_insert_with(Box::<Cold>::default);
            cold.truncated = truncated;
            if request.envelope {
                cold.envelope = Some(summary.envelope);
            }
            if request.preview {
                cold.preview = summary.preview;
            }
            spots = sections::find(&request.sections, &summary.parts, truncated, row.size);
            if request.structure {
                cold.structure = summary.parts;
            }
        } else {
            spots = sections::find(&request.sections, &[], false, row.size);
        }
        let needs_octets = request.needs_octets() || retelling.is_some();
        if request.email || needs_octets {
            let found = self.emails.get(view, space, self.account, row.email)?;
            let email = found.and_then(|octets| EmailRow::decode(&octets));
            let email = email.ok_or_else(missing)?;
            if request.email {
                weight += 48;
                cold.get_or_insert_with(Box::<Cold>::default).email =
                    Some((email.blob, email.thread));
            }
            if needs_octets {
                let ops = Arc::clone(&self.ops);
                octets = Some(Octets::new(ops, self.led.shard, email.blob, row.size));
            }
        }
        let message = FetchedMessage { uid, row, cold };
        Ok(Job {
            message,
            octets,
            retelling,
            spots,
            cut: truncated,
            weight,
        })
    }

    /// Takes a newer view, when the one at hand has been held for long; true: it did. Another leader since then is an
    /// error, and the reader goes on there.
    async fn renew(&mut self) -> Result<bool> {
        if self.taken.elapsed() < self.ops.limits.view_age {
            return Ok(false);
        }
        rare::hit(Rare::ViewRenewed);
        let view = self.ops.read(&self.led).await?;
        let (account, _) = list_accounts::find(&view, &self.account_name)?;
        let mailbox = MailboxRef::Id {
            id: self.mailbox,
            uidvalidity: 0,
        };
        let found = read::mailbox(&*view.view, view.space, account, &mailbox)?;
        let found = found.filter(|_| account == self.account);
        let (mailbox, row) = found.ok_or(MailboxError::NotFound(What::Mailbox))?;
        // Keywords are never forgotten and keep their numbers: more of them is all that can be.
        let keywords = read::keywords_of(&*view.view, view.space, account, (mailbox, &row))?;
        if keywords.len() > self.keywords {
            self.keywords = keywords.len();
            let opening = Opening {
                keywords,
                highest_modseq: self.modseqs.0,
                account_modseq: self.modseqs.1,
            };
            self.out.open(opening).await?;
        }
        self.view = view;
        self.emails.clear();
        self.summaries.clear();
        self.taken = Instant::now();
        Ok(true)
    }
}

/// Uids, both inclusive.
type Range = (Uid, Uid);

/// Spans of uids to scan, each with the ranges that are wanted of it.
fn spans(uids: &[Range]) -> Vec<(Range, &[Range])> {
    uids.chunk_by(|(_, last), (first, _)| first.saturating_sub(*last) <= SCAN_GAP)
        .map(|ranges| ((ranges[0].0, ranges[ranges.len() - 1].1), ranges))
        .collect()
}
