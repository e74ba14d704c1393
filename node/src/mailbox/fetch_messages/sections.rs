//! The sections of messages: which octets are read, and how they go out.
//!
//! Messages of one chunk are read in groups, side by side; a larger one is a group of its own and
//! read chunk by chunk. What is decoded or filtered is made twice when it is large, once to learn
//! its size, which goes out first, and once to send it: nothing is ever held whole.

use std::ops::Range;

use bytes::Bytes;
use futures::StreamExt;

use super::retell::Retelling;
use super::{FetchedMessage, Item, Outcome, SectionPiece, Work};
use crate::mailbox::limits::PIECE_BYTES;
use crate::mailbox::octets::Octets;
use crate::mailbox::section::{Coder, Parts, Section, Spot};
use crate::mailbox::summary::Part;
use crate::mailbox::window::Held;
use crate::mailbox::{MailboxError, Result, What};
use crate::rare::{self, Rare};

/// Octets of the messages of a group, rows included.
const GROUP_BYTES: u64 = 1 << 20;
/// Messages of a group.
const GROUP_MESSAGES: usize = 64;
/// Chunks of a group that are read side by side.
const READS: usize = 8;
/// Octets of a made section that are kept from its first pass.
const KEPT_BYTES: usize = 256 << 10;

/// A message that is about to go out.
pub(super) struct Job {
    pub(super) message: FetchedMessage,
    /// Where sections are asked for, or envelope or structure that the summary cuts short.
    pub(super) octets: Option<Octets>,
    /// For those.
    pub(super) retelling: Option<Retelling>,
    /// Where the sections are, as far as the summary knows.
    pub(super) spots: Vec<Option<Spot>>,
    /// The summary may have left parts out.
    pub(super) cut: bool,
    /// Octets of the message itself, about.
    pub(super) weight: usize,
}

impl Job {
    fn cost(&self) -> u64 {
        let octets = self.octets.as_ref().map_or(0, Octets::size);
        octets + self.weight as u64
    }

    /// Whether it can join a group.
    pub(super) fn fits(&self, group: &[Job]) -> bool {
        let cost: u64 = group.iter().map(Job::cost).sum();
        group.len() < GROUP_MESSAGES && cost + self.cost() <= GROUP_BYTES
    }

    /// Parts that the summary left out may be among those that are asked for.
    fn lacks_parts(&self) -> bool {
        self.cut && self.spots.iter().any(Option::is_none)
    }

    /// The first octets that will be read, if any.
    fn first_read(&self, sections: &[Section]) -> Option<Range<u64>> {
        if self.lacks_parts() {
            return Some(0..self.message.row.size).filter(|range| !range.is_empty());
        }
        let read = |(section, spot): (&Section, &Option<Spot>)| match spot.as_ref()? {
            Spot::Octets(_) if section.size_only => None,
            Spot::Octets(range) => {
                let wanted = section.clip(range.end - range.start);
                Some(range.start + wanted.start..range.start + wanted.end)
            }
            spot => Some(spot.range()),
        };
        let mut reads = sections.iter().zip(&self.spots).filter_map(read);
        reads.find(|range| !range.is_empty())
    }
}

/// Where the sections are, given the parts of a message.
pub(super) fn find(
    sections: &[Section],
    parts: &[Part],
    cut: bool,
    size: u64,
) -> Vec<Option<Spot>> {
    let parts = Parts { parts, cut, size };
    sections.iter().map(|section| parts.find(section)).collect()
}

impl Work {
    /// Sends the messages of a group with their sections; the group is empty afterwards.
    pub(super) async fn serve(&mut self, group: &mut Vec<Job>) -> Result<()> {
        let mut jobs = std::mem::take(group);
        let (_held, gone) = self.read_ahead(&mut jobs).await?;
        for (mut job, gone) in jobs.into_iter().zip(gone) {
            if gone {
                continue;
            }
            match self.prepare(&mut job).await {
                Ok(()) => (),
                // Expunged since the rows were read: nothing of it has gone out yet.
                Err(MailboxError::NotFound(What::Blob)) => continue,
                Err(e) => return Err(e),
            }
            let sections = std::mem::take(&mut self.request.sections);
            let sent = self.send(job, &sections).await;
            self.request.sections = sections;
            sent.map_err(|e| match e {
                MailboxError::NotFound(What::Blob) => MailboxError::NotFound(What::Message),
                e => e,
            })?;
        }
        tokio::task::yield_now().await;
        Ok(())
    }

    /// Reads the messages of one chunk that octets are needed of, side by side. Gives the room
    /// that they take, and which of them are gone.
    async fn read_ahead(&self, jobs: &mut [Job]) -> Result<(Held, Vec<bool>)> {
        let mut gone = vec![false; jobs.len()];
        let mut bytes = 0;
        let mut reads = Vec::new();
        for (i, job) in jobs.iter().enumerate() {
            let first_read = job.first_read(&self.request.sections);
            let needed = job.retelling.is_some() || first_read.is_some();
            if let Some(octets) = &job.octets
                && needed
                && octets.is_one_chunk()
            {
                bytes += octets.size() as usize;
                let read = octets.read_only();
                reads.push(async move { (i, first_read.is_some(), read.await) });
            }
        }
        let held = self
            .ops
            .read_windows()
            .take(bytes, &self.ops.limits)
            .await?;
        let mut reads = futures::stream::iter(reads).buffer_unordered(READS);
        while let Some((i, for_sections, chunk)) = reads.next().await {
            let job = &mut jobs[i];
            match (chunk, &mut job.octets) {
                (Ok(chunk), Some(octets)) => octets.set_only(chunk),
                (Err(MailboxError::NotFound(What::Blob)), _) => gone[i] = true,
                (Err(MailboxError::Corrupt(why)), _) if !for_sections => {
                    // A second try would ask all replicas once more.
                    job.retelling = None;
                    self.leave_short(job, &why);
                }
                (Err(e), _) => return Err(e),
                (Ok(_), None) => (),
            }
        }
        Ok((held, gone))
    }

    /// Finds parts that the summary had to leave out, tells at length what it cuts short, and reads
    /// the first octets: what can fail before the message goes out fails here.
    async fn prepare(&self, job: &mut Job) -> Result<()> {
        let sections = &self.request.sections;
        let mut found = None;
        if job.lacks_parts()
            && let Some(octets) = &mut job.octets
        {
            rare::hit(Rare::SummaryTooShort);
            let parts = octets.scan().await?;
            job.cut = false;
            job.spots = find(sections, &parts, false, octets.size());
            found = Some(parts);
        }
        if let Some(retelling) = job.retelling.take()
            && let Some(octets) = &mut job.octets
            && let Some(cold) = &mut job.message.cold
        {
            match retelling.tell(&self.request, cold, octets, found).await {
                Ok(bytes) => job.weight += bytes,
                Err(MailboxError::Corrupt(why)) => self.leave_short(job, &why),
                Err(e) => return Err(e),
            }
        }
        if let Some(range) = job.first_read(sections)
            && let Some(octets) = &mut job.octets
        {
            octets.read(range).await?;
        }
        Ok(())
    }

    /// Octets that no replica has whole are not what a reader of the others should wait for: what the
    /// summary says stands, and that it is not all.
    fn leave_short(&self, job: &Job, why: &str) {
        let (account, uid) = (self.account_name.as_str(), job.message.uid);
        tracing::warn!(account, uid, why, "the header of a message cannot be read");
    }

    async fn send(&mut self, job: Job, sections: &[Section]) -> Result<()> {
        let item = Item::Message(job.message);
        self.out.push(item, job.weight).await?;
        let Some(mut octets) = job.octets else {
            return Ok(());
        };
        for (index, (section, spot)) in (0..).zip(sections.iter().zip(job.spots)) {
            let outcome = match spot {
                Some(Spot::Octets(range)) => {
                    self.plain(index, section, range, &mut octets).await?;
                    continue;
                }
                Some(Spot::Made(range, coder)) => {
                    self.made(index, section, range, coder, &mut octets).await?;
                    continue;
                }
                None => Outcome::NoSuchPart,
                Some(Spot::UnknownEncoding) => Outcome::UnknownEncoding,
            };
            let item = Item::Section(SectionPiece {
                index,
                outcome,
                left: 0,
                data: Bytes::new(),
                last: true,
            });
            self.out.push(item, 0).await?;
        }
        Ok(())
    }

    /// A piece of a section of which `left` octets have not gone out yet.
    async fn piece(&mut self, index: u32, left: u64, data: Bytes, last: bool) -> Result<()> {
        let bytes = data.len();
        let piece = SectionPiece {
            index,
            outcome: Outcome::Data,
            left,
            data,
            last,
        };
        self.out.push(Item::Section(piece), bytes).await
    }

    /// Octets as they stand.
    async fn plain(
        &mut self,
        index: u32,
        section: &Section,
        range: Range<u64>,
        octets: &mut Octets,
    ) -> Result<()> {
        let wanted = section.clip(range.end - range.start);
        let (mut at, end) = (range.start + wanted.start, range.start + wanted.end);
        if section.size_only || at == end {
            return self.piece(index, end - at, Bytes::new(), true).await;
        }
        while at < end {
            let mut chunk = octets.read(at..end).await?;
            while !chunk.is_empty() {
                let data = chunk.split_to(chunk.len().min(PIECE_BYTES));
                let left = end - at;
                at += data.len() as u64;
                self.piece(index, left, data, at == end).await?;
            }
            if at < end {
                tokio::task::yield_now().await;
            }
        }
        Ok(())
    }

    /// Octets that are made of those of the message.
    async fn made(
        &mut self,
        index: u32,
        section: &Section,
        range: Range<u64>,
        coder: Coder,
        octets: &mut Octets,
    ) -> Result<()> {
        // How much there is, and what it is if that is little.
        let mut kept = Vec::new();
        let mut keeps = !section.size_only;
        let mut left = 0;
        let mut making = Making::new(section, range.clone(), coder.clone());
        while making.next(octets).await? {
            let made = making.wanted();
            left += made.len() as u64;
            keeps &= kept.len() + made.len() <= KEPT_BYTES;
            match keeps {
                true => kept.extend_from_slice(made),
                false => kept = Vec::new(),
            }
        }
        if keeps || section.size_only || left == 0 {
            return self.piece(index, left, kept.into(), true).await;
        }
        let mut making = Making::new(section, range, coder);
        while making.next(octets).await? {
            for data in making.wanted().chunks(PIECE_BYTES) {
                let before = left;
                left -= data.len() as u64;
                let data = Bytes::copy_from_slice(data);
                self.piece(index, before, data, left == 0).await?;
            }
        }
        Ok(())
    }
}

/// One pass over the octets that a section is made of.
struct Making {
    coder: Coder,
    /// Octets that were not read yet.
    rest: Range<u64>,
    /// What the last ones gave.
    made: Vec<u8>,
    /// Where that begins among all that is made.
    at: u64,
    /// What of all that is made is asked for.
    wanted: Range<u64>,
    over: bool,
}

impl Making {
    fn new(section: &Section, rest: Range<u64>, coder: Coder) -> Making {
        Making {
            coder,
            rest,
            made: Vec::new(),
            at: 0,
            wanted: section.clip(u64::MAX),
            over: false,
        }
    }

    /// Makes some more; false: nothing that is asked for follows.
    async fn next(&mut self, octets: &mut Octets) -> Result<bool> {
        self.at += self.made.len() as u64;
        self.made.clear();
        if self.over || self.at >= self.wanted.end {
            return Ok(false);
        }
        if self.rest.is_empty() {
            self.over = true;
            self.coder.finish(&mut self.made);
            return Ok(true);
        }
        let read = octets.read(self.rest.clone()).await?;
        self.rest.start += read.len() as u64;
        self.coder.push(&read, &mut self.made);
        tokio::task::yield_now().await;
        Ok(true)
    }

    /// What of the last octets is asked for.
    fn wanted(&self) -> &[u8] {
        let len = self.made.len() as u64;
        let place = |at: u64| at.saturating_sub(self.at).min(len) as usize;
        &self.made[place(self.wanted.start)..place(self.wanted.end)]
    }
}
