//! A mailbox as a client knows it that believes what it is told (RFC 9051, sections 5.5 and 7.5.1;
//! RFC 7162, section 6). What it is told must make sense to it at every moment.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, bail, ensure};
use posthouse_tests::imap::{Fetch, Status, Untagged};

use super::ledger::{Ledger, Place, Truth};

/// What a client knows of a message.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Known {
    /// Its uid; 0: not told yet.
    pub uid: u32,
    /// Its flags, if told.
    pub flags: Option<BTreeSet<String>>,
    /// The highest modseq that was told.
    pub modseq: u64,
}

/// What may be told in answer to a command.
#[derive(Debug, Clone, Copy, Default)]
pub struct Manner {
    /// Messages may be told to be gone.
    pub expunges: bool,
    /// VANISHED (EARLIER) may come.
    pub earlier: bool,
    /// FETCH was asked for without UID, and may be without it (RFC 7162, section 3.2.4).
    pub bare: bool,
}

/// A mailbox in a client's memory.
#[derive(Debug, Clone, Default)]
pub struct Belief {
    /// Which.
    pub place: Place,
    /// Its era.
    pub uidvalidity: u32,
    /// From where on the client asks for changes (RFC 7162, section 6).
    pub modseq: u64,
    /// Messages by number - 1.
    pub messages: Vec<Known>,
    /// QRESYNC is on: uids vanish.
    pub qresync: bool,
    /// The highest modseq told since the last tagged answer.
    shown: u64,
    /// The last HIGHESTMODSEQ code since then.
    code: Option<u64>,
    /// VANISHED (EARLIER) of the command so far.
    pub earlier: BTreeSet<u32>,
}

impl Belief {
    /// Nothing known.
    pub fn new(place: Place, qresync: bool) -> Belief {
        Belief {
            place,
            qresync,
            ..Belief::default()
        }
    }

    /// Takes an answer.
    pub fn hear(
        &mut self,
        answer: &Untagged,
        manner: Manner,
        ledger: &Ledger,
    ) -> anyhow::Result<()> {
        match answer {
            Untagged::Exists(n) => {
                let n = *n as usize;
                ensure!(
                    n >= self.messages.len(),
                    "EXISTS fell from {} to {n}",
                    self.messages.len()
                );
                self.messages.resize(n, Known::default());
            }
            Untagged::Expunge(n) => {
                ensure!(manner.expunges, "EXPUNGE {n} where none may be");
                ensure!(!self.qresync, "EXPUNGE instead of VANISHED");
                let at = *n as usize;
                ensure!(
                    at <= self.messages.len(),
                    "EXPUNGE {n} of {}",
                    self.messages.len()
                );
                self.messages.remove(at - 1);
            }
            Untagged::Vanished {
                earlier: true,
                uids,
            } => {
                ensure!(manner.earlier, "VANISHED (EARLIER) without a question");
                ensure!(self.earlier.is_empty(), "VANISHED (EARLIER) twice");
                self.earlier = uids.iter().flat_map(|&(a, b)| a..=b).collect();
            }
            Untagged::Vanished {
                earlier: false,
                uids,
            } => {
                ensure!(manner.expunges, "VANISHED where none may be");
                ensure!(self.qresync, "VANISHED without QRESYNC");
                for uid in uids.iter().flat_map(|&(a, b)| a..=b) {
                    self.vanish(uid)?;
                }
            }
            Untagged::Fetch(fetch) => self.fetch(fetch, manner, ledger)?,
            Untagged::Status(status) => {
                ensure!(status.condition == "OK", "{status:?}");
                if let Some(code) = status.code("HIGHESTMODSEQ") {
                    self.code = Some(code.parse()?);
                }
            }
            Untagged::Flags(_) | Untagged::Search(_) | Untagged::Other(_) => {}
        }
        Ok(())
    }

    /// A message is gone that the client knows of, by its uid or as one more.
    fn vanish(&mut self, uid: u32) -> anyhow::Result<()> {
        let next = self.messages.iter().position(|m| m.uid >= uid);
        let at = match next {
            Some(at) if self.messages[at].uid == uid => at,
            // One of those between its neighbours whose uids were not told.
            next => {
                let at = next.unwrap_or(self.messages.len()).checked_sub(1);
                at.filter(|&at| self.messages[at].uid == 0)
                    .with_context(|| format!("VANISHED {uid}, which was not there"))?
            }
        };
        self.messages.remove(at);
        Ok(())
    }

    fn fetch(&mut self, fetch: &Fetch, manner: Manner, ledger: &Ledger) -> anyhow::Result<()> {
        let (number, count) = (fetch.number as usize, self.messages.len());
        ensure!(number <= count, "FETCH {number} of {count}");
        let mut known = std::mem::take(&mut self.messages[number - 1]);
        match fetch.uid {
            None => ensure!(
                !self.qresync || manner.bare,
                "FETCH {number} without UID under QRESYNC"
            ),
            Some(uid) => {
                ensure!(
                    known.uid == 0 || known.uid == uid,
                    "number {number} is uid {}, and now {uid}",
                    known.uid
                );
                let before = self.messages[..number - 1]
                    .iter()
                    .rev()
                    .find(|m| m.uid != 0);
                let after = self.messages[number..].iter().find(|m| m.uid != 0);
                ensure!(
                    before.is_none_or(|m| m.uid < uid) && after.is_none_or(|m| uid < m.uid),
                    "uid {uid} at number {number} is not between {before:?} and {after:?}"
                );
                known.uid = uid;
            }
        }
        if let Some(modseq) = fetch.modseq {
            ensure!(
                known.modseq <= modseq,
                "modseq of uid {} fell from {} to {modseq}",
                known.uid,
                known.modseq
            );
            known.modseq = modseq;
            self.shown = self.shown.max(modseq);
        }
        if let Some(flags) = &fetch.flags {
            known.flags = Some(flags.clone());
            if let (Some(modseq), 1..) = (fetch.modseq, known.uid) {
                ledger.seen(self.place, known.uid, modseq, flags)?;
            }
        }
        self.messages[number - 1] = known;
        Ok(())
    }

    /// The tagged answer came: how far the client may say that it knows everything.
    pub fn end(&mut self, status: &Status) -> anyhow::Result<()> {
        if let Some(code) = status.code("HIGHESTMODSEQ") {
            self.code = Some(code.parse()?);
        }
        let shown = std::mem::take(&mut self.shown);
        match self.code.take() {
            Some(code) => self.modseq = code,
            None => self.modseq = self.modseq.max(shown),
        }
        Ok(())
    }

    /// What a client keeps when it goes: messages up to the first whose uid it does not know. It
    /// will ask for those behind it.
    pub fn keep(mut self) -> Belief {
        let known = self.messages.iter().position(|m| m.uid == 0);
        self.messages.truncate(known.unwrap_or(self.messages.len()));
        (self.shown, self.code) = (0, None);
        self
    }

    /// Begins anew in a mailbox of which this is kept: what was told to have vanished earlier is
    /// gone, and now there are so many messages.
    pub fn resume(&mut self, exists: usize) -> anyhow::Result<()> {
        let earlier = std::mem::take(&mut self.earlier);
        self.messages.retain(|m| !earlier.contains(&m.uid));
        ensure!(
            self.messages.len() <= exists,
            "{} messages are left after VANISHED (EARLIER), and {exists} EXIST",
            self.messages.len()
        );
        self.messages.resize(exists, Known::default());
        Ok(())
    }

    /// Numbers (from 1) of messages whose uid is known.
    pub fn known(&self) -> impl Iterator<Item = (u32, &Known)> {
        let numbered = (1u32..).zip(&self.messages);
        numbered.filter(|(_, m)| m.uid != 0)
    }

    /// The highest uid that is known.
    pub fn highest_uid(&self) -> u32 {
        self.messages.iter().map(|m| m.uid).max().unwrap_or(0)
    }

    /// What was told must be what is: the number of messages, and of each what is known of it;
    /// `all`: everything is known.
    pub fn compare(&self, truth: &Truth, all: bool) -> anyhow::Result<()> {
        let uids: Vec<u32> = truth.rows.keys().copied().collect();
        let mine: Vec<u32> = self.messages.iter().map(|m| m.uid).collect();
        ensure!(
            uids.len() == mine.len(),
            "the client knows {} messages, there are {}: {mine:?} {uids:?}",
            mine.len(),
            uids.len()
        );
        for ((uid, row), known) in truth.rows.iter().zip(&self.messages) {
            let uid_fits = known.uid == *uid || known.uid == 0 && !all;
            ensure!(
                uid_fits,
                "the client knows uid {} for {uid}: {mine:?} {uids:?}",
                known.uid
            );
            match &known.flags {
                Some(flags) => ensure!(
                    *flags == row.flags,
                    "the client knows {flags:?} of uid {uid} (modseq {}), which has {:?} (modseq {})",
                    known.modseq,
                    row.flags,
                    row.modseq
                ),
                None if all => bail!("the flags of uid {uid} were not told"),
                None => {}
            }
        }
        Ok(())
    }
}

/// Numbers as a set, in the shortest form.
pub fn set(numbers: impl IntoIterator<Item = u32>) -> String {
    let sorted: BTreeSet<u32> = numbers.into_iter().collect();
    let mut ranges: Vec<(u32, u32)> = Vec::new();
    for n in sorted {
        match ranges.last_mut() {
            Some((_, last)) if *last + 1 == n => *last = n,
            _ => ranges.push((n, n)),
        }
    }
    let text = |(a, b): &(u32, u32)| match a == b {
        true => a.to_string(),
        false => format!("{a}:{b}"),
    };
    ranges.iter().map(text).collect::<Vec<_>>().join(",")
}

/// Sets of uids, one after the other, in pairs (COPYUID, RFC 4315).
pub fn pairs(from: &[(u32, u32)], to: &[(u32, u32)]) -> anyhow::Result<BTreeMap<u32, u32>> {
    let each =
        |ranges: &[(u32, u32)]| -> Vec<u32> { ranges.iter().flat_map(|&(a, b)| a..=b).collect() };
    let (from, to) = (each(from), each(to));
    ensure!(
        from.len() == to.len(),
        "COPYUID of {} and {}",
        from.len(),
        to.len()
    );
    ensure!(to.is_sorted(), "COPYUID to {to:?}");
    Ok(from.into_iter().zip(to).collect())
}
