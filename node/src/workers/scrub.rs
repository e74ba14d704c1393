//! Verifies what is stored before anyone needs it, and mends it from the other replicas.
//!
//! Rot that is found when a message is read is found too late for those that nobody reads: by then
//! the other copies may have gone, too (Bairavasundaram et al., "An Analysis of Data Corruption in
//! the Storage Stack", FAST '08). So every sealed record is read at a steady pace, its CRC is
//! checked, and chunks that a row points to are fetched again where it fails, or where not even a
//! header says any more what the record was. The blocks of the index are verified with each round.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use posthouse_client::proto::{Damage, ScrubResponse};
use tokio::sync::Mutex;

use crate::blobs::{Blobs, DamageLog, Mended};
use crate::env::Env;
use crate::index::keys::Key;
use crate::index::{Index, IndexError};
use crate::journal::{Cause, DamagedRange, Journal, JournalError};
use crate::machine::read;
use crate::rare::{self, Rare};
use crate::types::*;

use super::refs;

/// Damaged chunks mended in one round at most.
const MENDS: usize = 10_000;
/// Octets between two pauses.
const STRIDE: u64 = 8 << 20;

/// What a scrub needs beside the replicas.
pub struct ScrubParts {
    /// The world.
    pub env: Env,
    /// Mends.
    pub blobs: Arc<Blobs>,
    /// Where findings go.
    pub damage: Arc<DamageLog>,
    /// Told when the index fails its checks: the node has to stop and rebuild it.
    pub on_index: Box<dyn Fn(&IndexError) + Send + Sync>,
    /// Octets read a second when nobody waits.
    pub bytes_per_s: u64,
    /// Time between the begins of two rounds.
    pub every: Duration,
}

/// The worker.
pub struct Scrub {
    parts: ScrubParts,
    journal: Arc<Journal>,
    index: Arc<dyn Index>,
    /// The round that is on its way: segments still to do, and when it began.
    round: Mutex<Round>,
}

#[derive(Default)]
struct Round {
    began_ms: u64,
    todo: Vec<u64>,
    total: ScrubResponse,
}

impl Scrub {
    /// Over these parts; the first round begins one interval from now.
    pub fn new(parts: ScrubParts) -> Scrub {
        let began_ms = parts.env.clock.now_ms();
        Scrub {
            journal: Arc::clone(parts.blobs.journal()),
            index: Arc::clone(parts.blobs.index()),
            parts,
            round: Mutex::new(Round {
                began_ms,
                ..Round::default()
            }),
        }
    }

    /// Does one segment of the round, slowly; begins a round when it is time.
    pub async fn turn(&self) -> anyhow::Result<Option<String>> {
        let mut round = self.round.lock().await;
        let now_ms = self.parts.env.clock.now_ms();
        if round.todo.is_empty() {
            if now_ms.saturating_sub(round.began_ms) < self.parts.every.as_millis() as u64 {
                return Ok(None);
            }
            *round = Round {
                began_ms: now_ms,
                todo: self.sealed(),
                ..Round::default()
            };
            round.todo.reverse();
            self.verify_index().await?;
        }
        let Some(segment) = round.todo.pop() else {
            return Ok(None);
        };
        let found = self.segments(&[segment], self.parts.bytes_per_s).await?;
        add(&mut round.total, &found);
        let total = &round.total;
        Ok(Some(format!(
            "{} MiB verified in this round, {} segments to go, {} damaged, {} repaired",
            total.bytes >> 20,
            round.todo.len(),
            total.damaged,
            total.repaired
        )))
    }

    /// Verifies everything now, as fast as the disk allows.
    pub async fn run(&self) -> anyhow::Result<ScrubResponse> {
        self.verify_index().await?;
        // What is in the active segment is sealed, so that all of it is looked at.
        self.journal.seal().await?;
        self.segments(&self.sealed(), u64::MAX).await
    }

    fn sealed(&self) -> Vec<u64> {
        let segments = self.journal.segments();
        segments
            .iter()
            .filter(|s| s.sealed)
            .map(|s| s.number)
            .collect()
    }

    async fn verify_index(&self) -> anyhow::Result<()> {
        let verified = self.index.verify().await;
        if let Err(e @ IndexError::Corrupt(_)) = &verified {
            (self.parts.on_index)(e);
        }
        Ok(verified?)
    }

    async fn segments(&self, segments: &[u64], bytes_per_s: u64) -> anyhow::Result<ScrubResponse> {
        let mut found = ScrubResponse::default();
        let mut bad: BTreeMap<(u64, u32), DamagedRange> = BTreeMap::new();
        for segment in segments {
            match self.one(*segment, bytes_per_s, &mut found, &mut bad).await {
                Ok(()) | Err(JournalError::Gone { .. }) => {}
                Err(e) => return Err(e.into()),
            }
        }
        if !bad.is_empty() {
            self.mend(bad, &mut found).await?;
        }
        Ok(found)
    }

    /// Reads every record of a segment.
    async fn one(
        &self,
        segment: u64,
        bytes_per_s: u64,
        found: &mut ScrubResponse,
        bad: &mut BTreeMap<(u64, u32), DamagedRange>,
    ) -> Result<(), JournalError> {
        let mut stride = 0;
        let survey = self.journal.survey(segment).await?;
        if survey.records.is_empty() && survey.gaps.is_empty() {
            // Every segment begins with a checkpoint: of this one nothing could be read, and it
            // lists nothing. What rows expect in it is fetched again.
            let listed = self.journal.segments();
            let bytes = listed.iter().find(|s| s.number == segment);
            let range = DamagedRange {
                file: self.journal.segment_file(segment),
                segment,
                offset: 0,
                len: bytes.map_or(0, |s| s.bytes),
                cause: Cause::SegmentHeader,
                record: None,
            };
            bad.insert((segment, 0), range);
        }
        // A header that is lost takes its record out of every list: a write that went astray, or rot in
        // a segment whose footer has rotted, too. Rows may still point there.
        for gap in survey.gaps {
            bad.insert((segment, gap.offset as u32), gap);
        }
        for (head, location) in survey.records {
            match self.journal.read(location).await {
                Ok(_) => {}
                Err(JournalError::Damaged(mut range)) => {
                    range.record.get_or_insert((head, location));
                    bad.insert((segment, location.offset), *range);
                }
                Err(e) => return Err(e),
            }
            found.blobs += u64::from(head.kind.is_bulk());
            found.bytes += location.len as u64;
            stride += location.len as u64;
            if stride >= STRIDE {
                if bytes_per_s < u64::MAX {
                    let pause = stride as f64 / bytes_per_s as f64;
                    tokio::time::sleep(Duration::from_secs_f64(pause)).await;
                }
                stride = 0;
            }
        }
        Ok(())
    }

    /// Mends the chunks whose rows point into damaged records.
    async fn mend(
        &self,
        bad: BTreeMap<(u64, u32), DamagedRange>,
        found: &mut ScrubResponse,
    ) -> anyhow::Result<()> {
        let record_of = |at: &Location| {
            let (key, range) = bad.range(..=(at.segment, at.offset)).next_back()?;
            let end = match &range.record {
                Some((_, record)) => record.offset as u64 + record.len as u64,
                None => range.offset + range.len,
            };
            let inside = at.segment == key.0 && (at.offset as u64) < end;
            inside.then_some(*key)
        };
        let view = self.index.view();
        let owned = refs::owned_spaces(&*view)?;
        let wanted = |at: &Location| at.len > 0 && record_of(at).is_some();
        let references = refs::references(&*view, MENDS, wanted).await?;
        let mut actions: BTreeMap<(u64, u32), String> = BTreeMap::new();
        let mut open: BTreeSet<(u64, u32)> = BTreeSet::new();
        for reference in references {
            let Some(place) = record_of(&reference.loc.location) else {
                continue;
            };
            let action = match (owned.get(&reference.space), Key::decode(&reference.key)) {
                (Some(shard), Some((space, Key::BlobLoc { blob, seq }))) => {
                    let row = read::blob(&*self.index, space, blob)?;
                    let Some(meta) = row.as_ref().and_then(|r| r.chunks.get(seq as usize)) else {
                        continue;
                    };
                    // Another scrub or a reader may mend it, too, or its message may go.
                    let place_of = || read::chunk_loc(&*self.index, space, blob, seq);
                    let old = Some(reference.loc);
                    let mended = match place_of()? == old {
                        true => {
                            let blobs = &self.parts.blobs;
                            blobs.mend(*shard, space, blob, seq, meta, old).await
                        }
                        false => Mended::Nowhere,
                    };
                    match (mended, place_of()?) {
                        (Mended::From(node, _), _) => format!("repaired from node {node}"),
                        (_, None) => continue,
                        (_, new) if new != old => "repaired by another reading".into(),
                        _ => {
                            open.insert(place);
                            "waiting for a peer that has it".into()
                        }
                    }
                }
                // Part of a message that is still arriving, or never will: nobody reads it. When it
                // has arrived, whoever reads it or the next scrub finds it damaged.
                _ => continue,
            };
            actions.insert(place, action);
        }
        for (place, range) in bad {
            let action = actions.remove(&place);
            rare::hit(match &action {
                Some(_) if open.contains(&place) => Rare::ScrubWaitsForPeer,
                Some(_) => Rare::ScrubRepaired,
                None => Rare::ScrubFoundDeadDamage,
            });
            // What nobody needs, be it because it was mended before, waits for its segment to be
            // compacted and is no damage to anyone.
            found.damaged += u64::from(action.is_some());
            found.repaired += u64::from(action.is_some() && !open.contains(&place));
            let file = range.file.display().to_string();
            if action.is_none() && self.parts.damage.knows(&file, range.offset) {
                // What was done about it says more.
                continue;
            }
            self.parts.damage.add(Damage {
                file,
                offset: range.offset,
                length: range.len,
                cause: range.to_string(),
                action: action.unwrap_or_else(|| "nothing live in it".into()),
                time_ms: self.parts.env.clock.now_ms(),
            });
        }
        Ok(())
    }
}

fn add(total: &mut ScrubResponse, more: &ScrubResponse) {
    total.blobs += more.blobs;
    total.bytes += more.bytes;
    total.damaged += more.damaged;
    total.repaired += more.repaired;
}
