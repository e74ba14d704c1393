//! Settings of the product: in one half of the seeds those that it is shipped with, in the other
//! half small and hasty ones, which make its rare branches common ("buggify": Zhou et al.,
//! "FoundationDB: A Distributed Unbundled Transactional Key Value Store", SIGMOD 2021, section 6.2).
//! All are ordinary settings, which an operator could choose.

use rand::RngExt;

use super::draw::{one_in, scaled, weighted};
use super::{Disk, Network, Settings};
use crate::stream::stream;

/// The settings that the product is shipped with, but for what a run of half a minute would never
/// see: segments, flushes and logs are so small that sealing, purging, snapshots and compaction
/// happen within it.
pub fn shipped() -> Settings {
    Settings {
        heartbeat_ms: 100,
        election_ms: (350, 600),
        segment_bytes: 2 << 20,
        flush_bytes: 1 << 20,
        flush_ms: 2000,
        keep_entries: 32,
        compress: true,
        raft_window_bytes: 32 << 20,
        replicate_window_bytes: 16 << 20,
        entry_cache_bytes: 8 << 20,
        scrub_every_ms: 7 * 24 * 3600 * 1000,
        compaction_every_ms: 5000,
        compaction_live_percent: 50,
        answer_ms: answer_ms(),
        lmtp_deadline_ms: lmtp_deadline_ms(),
        view_age_ms: view_age_ms(),
        watch_changes: watch_changes(),
        row_cache_bytes: row_cache_bytes(),
    }
}

/// `answer_ms` as shipped, and of plans that do not name it.
pub(super) fn answer_ms() -> u64 {
    20_000
}

/// `lmtp_deadline_ms` as shipped, and of plans that do not name it.
pub(super) fn lmtp_deadline_ms() -> u64 {
    30_000
}

/// `view_age_ms` as shipped, and of plans that do not name it.
pub(super) fn view_age_ms() -> u64 {
    30_000
}

/// `row_cache_bytes` as shipped, and of plans that do not name it.
pub(super) fn row_cache_bytes() -> u64 {
    64 << 20
}

/// `watch_changes` as shipped, and of plans that do not name it.
pub(super) fn watch_changes() -> u64 {
    1_000
}

/// Draws them; `like_shipped`: which half.
pub fn draw(seed: u64, like_shipped: Option<bool>, network: &Network, disk: &Disk) -> Settings {
    let drawn = one_in(&mut stream(seed, "settings", 0), 2);
    let rng = &mut stream(seed, "settings", 1);
    let patience = &mut stream(seed, "settings", 2);
    let readers = &mut stream(seed, "settings", 3);
    match like_shipped.unwrap_or(drawn) {
        true => Settings {
            segment_bytes: rng.random_range(1..=4) << 20,
            flush_bytes: scaled(rng, 256 << 10, 2 << 20),
            flush_ms: rng.random_range(15..=50) * 100,
            keep_entries: scaled(rng, 8, 64),
            // Rot that nobody reads is found by the scrubber alone: half of these seeds see it.
            scrub_every_ms: weighted(rng, &[(1, 5000), (1, shipped().scrub_every_ms)]),
            ..shipped()
        },
        false => {
            let (heartbeat_ms, election_ms) = hasty(rng, network, disk);
            Settings {
                heartbeat_ms,
                election_ms,
                segment_bytes: weighted(rng, &[(2, 64 << 10), (2, 256 << 10), (1, 1 << 20)]),
                flush_bytes: scaled(rng, 16 << 10, 256 << 10),
                flush_ms: weighted(rng, &[(2, 100), (1, 300), (1, 1000)]),
                keep_entries: scaled(rng, 1, 16),
                compress: !one_in(rng, 4),
                raft_window_bytes: scaled(rng, 4 << 10, 4 << 20),
                replicate_window_bytes: scaled(rng, 4 << 10, 4 << 20),
                entry_cache_bytes: weighted(rng, &[(1, 0), (1, 4 << 10), (1, 64 << 10)]),
                scrub_every_ms: weighted(rng, &[(3, 1000), (1, 4000)]),
                compaction_every_ms: weighted(rng, &[(2, 200), (1, 1000)]),
                compaction_live_percent: weighted(rng, &[(1, 50), (2, 95)]),
                // Shorter than what a run leaves a shard without a quorum, or a disk without a
                // sync: who waits for either hears that nothing is known, or of a full window.
                answer_ms: weighted(patience, &[(2, 1000), (2, 4000), (1, 20_000)]),
                lmtp_deadline_ms: match one_in(patience, 4) {
                    true => lmtp_deadline_ms(),
                    // Some end right after the wait for room in a window.
                    false => {
                        let range = weighted(patience, &[(1, 510..=600), (1, 500..=2500)]);
                        patience.random_range(range)
                    }
                },
                view_age_ms: weighted(readers, &[(2, 0), (1, 5), (1, view_age_ms())]),
                watch_changes: weighted(readers, &[(1, 1), (1, 3), (2, watch_changes())]),
                // Nothing, or room for a few small mailboxes.
                row_cache_bytes: weighted(readers, &[(1, 0), (2, 4 << 10), (3, row_cache_bytes())]),
            }
        }
    }
}

/// Elections as early as the network and the disks allow: with less, no leader would last.
fn hasty(rng: &mut crate::stream::Stream, network: &Network, disk: &Disk) -> (u64, (u64, u64)) {
    // As `world::link` draws it; and a packet that arrives within a slice, which is as long as the
    // shortest way between two hosts, is seen when the next one begins.
    let zone_jitter_ms = network.zone_delay_ms.div_ceil(2);
    let slice_ms = network.delay_ms.max(1);
    let one_way =
        network.delay_ms + network.jitter_ms + network.zone_delay_ms + zone_jitter_ms + slice_ms;
    let round = 2 * one_way + disk.sync_ms + disk.sync_jitter_ms;
    // A heartbeat counts as lost when its answer takes longer than three quarters of the time to the
    // next one (`RPCOption::soft_ttl` of openraft). A leader that gets no answer in time gives no
    // linearizable reads, and takes no writes once its lease is over.
    let least = (4 * round).div_ceil(30).max(2);
    let heartbeat_ms = rng.random_range(least..=least.max(10)) * 10;
    let least = (2 * heartbeat_ms + 10).max(3 * round);
    let first = least + rng.random_range(0..=10) * 10;
    let last = first + rng.random_range(5..=30) * 10;
    (heartbeat_ms, (first, last))
}
