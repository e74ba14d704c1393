//! Huge uid sets in bounded steps, so that a retry still changes nothing twice.
//!
//! One command may touch at most [`BLOCK`] messages, or it would stall its shard. A larger set is
//! split at fixed uids (multiples of `BLOCK`), never at what happens to exist: a retry then meets
//! the same blocks, each under its own request_id derived from the request's, and every block
//! that was done answers what it answered before.
//!
//! A set within one block, or one that names no more uids than a block has, is one command under the
//! request's own id: all of it or nothing. A set without an upper bound ends at the uidnext of the moment; its last block stays open, so only messages that arrive in a *later*
//! block between a try and its retry can be seen by the retry alone.

use super::check::{UidRanges, normalize};
use super::{Led, Operations, Result};
use crate::types::*;

/// Uids of one step.
pub const BLOCK: u32 = 10_000;

/// One command's share of a uid set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// The identity of the command.
    pub request_id: RequestId,
    /// Its uids.
    pub uids: UidRanges,
}

/// The block that a uid is in.
fn block_of(uid: Uid) -> u32 {
    uid / BLOCK
}

/// Whether one command can do all of `uids`, whatever of them exists: so a retry is one, too.
pub fn one_command(uids: &UidRanges) -> bool {
    let named = || uids.iter().map(|(first, last)| u64::from(last - first) + 1);
    match (uids.first(), uids.last()) {
        (Some(first), Some(last)) if block_of(first.0) != block_of(last.1) => {
            named().sum::<u64>() <= u64::from(BLOCK)
        }
        _ => true,
    }
}

/// The steps of a set of uids in a mailbox whose next uid is `uidnext`.
pub fn steps(request_id: RequestId, uids: &UidRanges, uidnext: Uid) -> impl Iterator<Item = Step> {
    let newest = block_of(uidnext.saturating_sub(1));
    let blocks = move |range: &(Uid, Uid)| {
        let (first, last) = *range;
        let end = block_of(last).min(newest);
        // The last block keeps its open end, whatever uidnext is.
        (block_of(first)..=end).map(move |block| {
            let from = first.max(block.saturating_mul(BLOCK));
            let to = match block == newest {
                true => last,
                false => last.min(block * BLOCK + (BLOCK - 1)),
            };
            (block, (from, to))
        })
    };
    let mut shares = uids
        .clone()
        .into_iter()
        .flat_map(move |r| blocks(&r))
        .peekable();
    std::iter::from_fn(move || {
        let (block, share) = shares.next()?;
        let mut uids = vec![share];
        while let Some((_, more)) = shares.next_if(|(next, _)| *next == block) {
            uids.push(more);
        }
        Some(Step {
            request_id: derive(request_id, block),
            uids,
        })
    })
}

/// In the place of a block's number: the mailbox that all steps go into is made. No block has it.
pub(super) const TARGET: u32 = u32::MAX;

/// The identity of the step of one block.
pub(super) fn derive(request_id: RequestId, block: u32) -> RequestId {
    let mut hasher = blake3::Hasher::new();
    hasher.update(b"posthouse step of a request v1");
    hasher.update(&request_id.0);
    hasher.update(&block.to_le_bytes());
    let mut id = [0; 16];
    id.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
    RequestId(id)
}

/// Joins the uids that steps answered.
#[derive(Default)]
pub struct Union(Vec<(Uid, Uid)>);

impl Union {
    /// Adds uids.
    pub fn add(&mut self, uids: UidRanges) {
        self.0.extend(uids);
    }
    /// All of them, ascending and joined.
    pub fn ranges(self) -> UidRanges {
        normalize(self.0)
    }
}

impl Operations {
    /// The steps of a request; reads the mailbox's uidnext only where one command does not do.
    pub(super) async fn steps_of(
        &self,
        led: &Led,
        account: &AccountName,
        mailbox: impl Into<MailboxRef>,
        request_id: RequestId,
        uids: UidRanges,
    ) -> Result<Vec<Step>> {
        if one_command(&uids) {
            return Ok(vec![Step { request_id, uids }]);
        }
        let view = self.read(led).await?;
        let row = super::list_mailboxes::find(&view, account, mailbox)?.row;
        let steps: Vec<Step> = steps(request_id, &uids, row.uidnext).collect();
        // All of them above what the mailbox ever had: one command says so, with a modseq.
        match steps.is_empty() {
            true => Ok(vec![Step { request_id, uids }]),
            false => Ok(steps),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ID: RequestId = RequestId([7; 16]);

    fn all(uids: UidRanges, uidnext: Uid) -> Vec<Step> {
        steps(ID, &uids, uidnext).collect()
    }

    #[test]
    fn blocks_are_cut_at_fixed_uids() {
        let steps = all(vec![(1, 5), (9_999, 10_000), (30_000, u32::MAX)], 45_000);
        let uids: Vec<UidRanges> = steps.iter().map(|s| s.uids.clone()).collect();
        assert_eq!(
            uids,
            vec![
                vec![(1, 5), (9_999, 9_999)],
                vec![(10_000, 10_000)],
                vec![(30_000, 39_999)],
                vec![(40_000, u32::MAX)],
            ]
        );
        assert!(steps.iter().all(|s| s.request_id != ID));
        assert!(all(vec![(50_000, 60_000)], 45_000).is_empty());
        assert_eq!(all(vec![(1, u32::MAX)], 1).len(), 1);
    }

    #[test]
    fn a_set_that_names_few_uids_is_one_command_wherever_they_are() {
        for few in [
            vec![],
            vec![(1, 9_999)],
            vec![(9_999, 10_000)],
            vec![(5_000, 14_999)],
            vec![(1, 5_000), (4_000_000_000, 4_000_004_999)],
            vec![(u32::MAX / BLOCK * BLOCK, u32::MAX)],
        ] {
            assert!(one_command(&few), "{few:?}");
        }
        for many in [
            vec![(5_000, 15_000)],
            vec![(1, 5_000), (4_000_000_000, 4_000_005_000)],
            vec![(1, u32::MAX)],
        ] {
            assert!(!one_command(&many), "{many:?}");
        }
    }

    #[test]
    fn the_highest_uids_do_not_overflow() {
        let last = all(vec![(1, u32::MAX)], u32::MAX).pop().unwrap();
        assert_eq!(last.uids, vec![(u32::MAX / BLOCK * BLOCK, u32::MAX)]);
    }

    proptest! {
        #[test]
        fn a_retry_meets_the_same_steps(
            ranges in proptest::collection::vec((1u32..200_000, 0u32..50_000), 1..20),
            uidnext in 1u32..300_000,
            grown in 0u32..50_000,
        ) {
            let uids = normalize(ranges.into_iter().map(|(a, n)| (a, a + n)).collect());
            let before = all(uids.clone(), uidnext);
            let after = all(uids.clone(), uidnext + grown);
            prop_assert!(after.len() >= before.len());
            for (a, b) in before.iter().zip(&after) {
                prop_assert_eq!(a.request_id, b.request_id);
            }
            // Every uid below uidnext is in exactly one step.
            let mut seen = 0u64;
            for step in &before {
                seen += step.uids.iter().map(|(a, b)| (*b).min(uidnext - 1) as u64 + 1 - (*a).min(uidnext) as u64).sum::<u64>();
            }
            let wanted: u64 = uids.iter().map(|(a, b)| (*b).min(uidnext - 1) as u64 + 1 - (*a).min(uidnext) as u64).sum();
            prop_assert_eq!(seen, wanted);
        }
    }
}
