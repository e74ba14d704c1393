//! Watches the disk, so that nothing ever finds it full.
//!
//! Below the reserve new mail is refused with a clear error, while reads, deletes, votes and
//! compaction go on; below a fraction of it the node says that it is full. The state comes back by
//! itself when there is space again, with a margin, so that it does not flap.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::watch;

use crate::env::Env;
use crate::env::disk::Space;
use crate::rare::{self, Rare};

/// How the disk is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum SpaceState {
    /// There is room.
    Ok,
    /// No new mail; everything else goes on.
    ReadOnly,
    /// What is left may not even do for votes and compaction: an operator has to act.
    Full,
}

/// Room that the journal needs to go on: two segments, and some for index and checkpoints.
pub fn default_reserve_bytes(segment_bytes: u64, total_bytes: u64) -> u64 {
    (2 * segment_bytes + (128 << 20)).max(total_bytes / 50)
}

/// The next state. Leaving a state for a better one takes an eighth more than the bound.
pub fn judge(now: SpaceState, free_bytes: u64, reserve_bytes: u64) -> SpaceState {
    let margin = reserve_bytes / 8;
    let full = reserve_bytes / 4;
    let at = |bound: u64, worse: SpaceState| match now >= worse {
        true => free_bytes < bound + margin,
        false => free_bytes < bound,
    };
    if at(full, SpaceState::Full) {
        SpaceState::Full
    } else if at(reserve_bytes, SpaceState::ReadOnly) {
        SpaceState::ReadOnly
    } else {
        SpaceState::Ok
    }
}

/// The worker.
pub struct SpaceWatch {
    env: Env,
    dir: PathBuf,
    segment_bytes: u64,
    /// 0: derived.
    reserve_bytes: u64,
    state: watch::Sender<SpaceState>,
    free: AtomicU64,
    total: AtomicU64,
}

impl SpaceWatch {
    /// Watches the disk of `dir`. `reserve_bytes` 0 derives the reserve from the segment's size and
    /// the disk's.
    pub fn new(env: Env, dir: PathBuf, segment_bytes: u64, reserve_bytes: u64) -> SpaceWatch {
        SpaceWatch {
            env,
            dir,
            segment_bytes,
            reserve_bytes,
            state: watch::Sender::new(SpaceState::Ok),
            free: AtomicU64::new(0),
            total: AtomicU64::new(0),
        }
    }

    /// The state, as it changes.
    pub fn state(&self) -> watch::Receiver<SpaceState> {
        self.state.subscribe()
    }

    /// Free and total bytes, as last measured.
    pub fn bytes(&self) -> (u64, u64) {
        (
            self.free.load(Ordering::Relaxed),
            self.total.load(Ordering::Relaxed),
        )
    }

    /// Measures.
    pub async fn turn(&self) -> anyhow::Result<Option<String>> {
        let Space {
            free_bytes,
            total_bytes,
        } = self.env.disk.space(&self.dir).await?;
        self.free.store(free_bytes, Ordering::Relaxed);
        self.total.store(total_bytes, Ordering::Relaxed);
        let reserve = match self.reserve_bytes {
            0 => default_reserve_bytes(self.segment_bytes, total_bytes),
            set => set,
        };
        let before = *self.state.borrow();
        let after = judge(before, free_bytes, reserve);
        if before == after {
            return Ok(None);
        }
        self.state.send_replace(after);
        rare::hit(match after {
            SpaceState::Ok => Rare::DiskHasRoom,
            SpaceState::ReadOnly => Rare::DiskNearlyFull,
            SpaceState::Full => Rare::DiskFull,
        });
        let mib = |bytes: u64| bytes >> 20;
        let said = match after {
            SpaceState::Ok => format!("{} MiB free: new mail is taken again", mib(free_bytes)),
            SpaceState::ReadOnly => format!(
                "{} MiB free, less than the reserve of {} MiB: no new mail is taken",
                mib(free_bytes),
                mib(reserve)
            ),
            SpaceState::Full => {
                format!("{} MiB free: the disk is full, make room", mib(free_bytes))
            }
        };
        match after {
            SpaceState::Ok => tracing::info!("{said}"),
            _ => tracing::error!("{said}"),
        }
        Ok(Some(said))
    }
}

#[cfg(test)]
mod tests {
    use super::SpaceState::{Full, Ok, ReadOnly};
    use super::*;

    #[test]
    fn states_follow_the_bounds_with_a_margin() {
        for (now, free, then) in [
            (Ok, 1000, Ok),
            (Ok, 999, ReadOnly),
            (ReadOnly, 1000, ReadOnly),
            (ReadOnly, 1124, ReadOnly),
            (ReadOnly, 1125, Ok),
            (ReadOnly, 250, ReadOnly),
            (ReadOnly, 249, Full),
            (Ok, 0, Full),
            (Full, 300, Full),
            (Full, 375, ReadOnly),
            (Full, 1100, ReadOnly),
            (Full, 5000, Ok),
        ] {
            assert_eq!(judge(now, free, 1000), then, "{now:?} with {free}");
        }
    }

    #[test]
    fn the_reserve_holds_two_segments_and_two_percent() {
        assert_eq!(default_reserve_bytes(256 << 20, 0), 640 << 20);
        assert_eq!(default_reserve_bytes(1 << 20, 1 << 40), (1u64 << 40) / 50);
    }
}
