//! In which order messages may be told: sorted, in threads (RFC 5256), or by POP3 (RFC 1939).
//!
//! Not all is known that an order goes by: who knows when a message came that was given no date and
//! that nobody has listed? So an order is right unless it contradicts what is known. Sizes are; and
//! all messages of a run that have a date in their header have the same one. What is equal goes by
//! uid, also where the order is reversed.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::spec::{Mailbox, Name, UNKNOWN_SIZE};
use crate::history::{Answer, Call, Octets, Record};
use crate::invariants::story::{INBOX, Stored, Story};
use crate::plan::SortBy;
use crate::workload::body;

/// An order that was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Order {
    /// By what.
    pub by: SortBy,
    /// The other way round.
    pub reverse: bool,
    /// Octets with the one date that there is.
    pub dated: Arc<BTreeSet<Name>>,
}

impl Order {
    /// Whether what was found, by uid, may be told so.
    pub fn may_be(&self, m: &Mailbox, found: &[u32], told: &[u32]) -> bool {
        let mut uids = told.to_vec();
        uids.sort_unstable();
        let known = told
            .iter()
            .filter_map(|uid| Some((self.key(m, *uid)?, *uid)));
        let known: Vec<(u64, u32)> = known.collect();
        let in_order = known
            .windows(2)
            .all(|pair| match pair[0].0.cmp(&pair[1].0) {
                std::cmp::Ordering::Equal => pair[0].1 < pair[1].1,
                std::cmp::Ordering::Less => !self.reverse,
                std::cmp::Ordering::Greater => self.reverse,
            });
        uids == found && in_order
    }

    /// What a message is sorted by, where that is known.
    fn key(&self, m: &Mailbox, uid: u32) -> Option<u64> {
        let message = m.messages.get(&uid)?;
        match self.by {
            // Where none was given, clocks of several nodes tell it.
            SortBy::Arrival => (message.date_ms != 0).then_some(message.date_ms),
            SortBy::Size => (message.size != UNKNOWN_SIZE).then_some(message.size),
            SortBy::Date => self.dated.contains(&message.blob).then_some(0),
        }
    }
}

/// Octets of the history that are known to have the one date; `name` gives their number.
pub fn dated(story: &Story, mut name: impl FnMut(&str) -> Name) -> BTreeSet<Name> {
    let mut dated = BTreeSet::new();
    let asked = |r: &Record| {
        matches!(
            r.call,
            Call::Sort {
                by: SortBy::Date,
                ..
            }
        )
    };
    if !story.history.iter().any(asked) {
        return dated;
    }
    let mut add = |octets: &Octets, by_lmtp: bool| {
        if !body::is_dated(*octets) {
            return;
        }
        let held = match by_lmtp {
            true => story.held_by_lmtp(*octets),
            false => story.held(*octets),
        };
        dated.insert(name(&held.blob));
    };
    for r in story.history {
        match &r.call {
            Call::Deliver {
                octets, request, ..
            } => add(octets, request.is_none()),
            Call::Append { octets, .. } | Call::Replace { octets, .. } => add(octets, false),
            Call::AppendMany { items, .. } => items.iter().for_each(|octets| add(octets, false)),
            _ => {}
        }
    }
    dated
}

/// Whether what was found, by uid and without depths, may be told in these threads: each message
/// once, below one that is one step higher; and what is not there holds something together.
pub fn are_threads(found: &[(u32, u32)], told: &[(u32, u32)]) -> bool {
    let mut uids: Vec<u32> = told.iter().map(|(uid, _)| *uid).collect();
    uids.retain(|uid| *uid != 0);
    uids.sort_unstable();
    let begins = told.first().is_none_or(|(_, depth)| *depth == 0);
    let ends = told.last().is_none_or(|(uid, _)| *uid != 0);
    let steps = told.windows(2).all(|pair| {
        let ((uid, depth), (_, next)) = (pair[0], pair[1]);
        let deepest = depth.saturating_add(1);
        next <= deepest && (uid != 0 || next == deepest)
    });
    let all = uids.iter().eq(found.iter().map(|(uid, _)| uid));
    all && begins && ends && steps
}

/// The last uid of INBOX that was told before call `record` was made; 0 where none is known.
pub fn floor(story: &Story, account: &str, record: usize) -> u32 {
    // INBOX is one mailbox for ever, in an account of one generation.
    if !story.one_generation(account) {
        return 0;
    }
    let called_ms = story.history[record].called_ms;
    let place = (account, INBOX);
    let over = |r: usize| {
        let r = &story.history[r];
        matches!(r.answer, Answer::Done(_)) && r.returned_ms < called_ms
    };
    let stored = story.tries.iter().filter_map(|t| match t.stored {
        Stored::At(at) if t.place == place && over(t.record) => Some(at.uid),
        _ => None,
    });
    let listed = story
        .sightings
        .iter()
        .filter(|s| s.place == place && over(s.record));
    let listed = listed.filter_map(|s| s.messages.last().map(|m| m.uid));
    stored.chain(listed).max().unwrap_or(0)
}

/// Whether a POP3 session may see INBOX so. The uids are read at one moment of the login, and the
/// sizes at a later one: what goes in between is not shown, nor is what comes. So all that is shown
/// is there, and all that is there but not shown came after the login was begun.
pub fn is_maildrop(
    m: &Mailbox,
    floor: u32,
    (count, bytes): (u64, u64),
    messages: &[(u32, u64)],
) -> bool {
    let last = messages.last().map_or(0, |(uid, _)| *uid).max(floor);
    let mut there = m.messages.range(..=last);
    let same = messages.iter().all(|(uid, size)| {
        let known = there.next();
        known.is_some_and(|(known, m)| known == uid && (m.size == *size || m.size == UNKNOWN_SIZE))
    });
    let sum = messages
        .iter()
        .fold(0u64, |sum, (_, size)| sum.saturating_add(*size));
    same && there.next().is_none() && (count, bytes) == (messages.len() as u64, sum)
}
