//! The journal alone against a raw loop of write + fdatasync with the same bytes a batch.
//!
//! `journal_bench [DIR] [MIB] [SIZE-FLIGHT…]` writes about MIB mebibytes (default 512) per row below
//! DIR (default: the current directory) and prints a table. Rows: record size × records kept in
//! flight, into fresh segments (`new`) and into recycled ones (`old`). The raw loop writes batches of
//! the size that the journal reached: into reserved space that was never written, and over blocks
//! that were. Both take turns in short slices, because the speed of a shared disk changes from one
//! second to the next; `share` is the journal's speed against the raw loop's over all slices.
#![allow(clippy::disallowed_methods)]

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use posthouse_node::env::Env;
use posthouse_node::env::disk::{Disk, OpenMode, RealDisk};
use posthouse_node::journal::{Append, Journal, Options, RecordHead, RecordKind};
use posthouse_node::types::{ReplicaId, ShardId};

/// Slices that a row is cut into.
const SLICES: u64 = 16;

#[derive(Default)]
struct Row {
    batch: u64,
    journal_bytes: u64,
    payload_bytes: u64,
    journal_s: f64,
    syncs: u64,
    raw_bytes: u64,
    raw_s: f64,
}

fn append(payload: &Bytes, index: u64) -> Append {
    Append {
        head: RecordHead {
            kind: RecordKind::Entry,
            shard: ShardId(1),
            replica: ReplicaId(1),
            index,
            term: 1,
            leader: 1,
            codec: 0,
        },
        payload: vec![payload.clone()],
    }
}

/// Lets the journal and the raw loop take turns.
async fn row(dir: &Path, total: u64, size: usize, flight: usize, old: bool) -> anyhow::Result<Row> {
    let options = Options {
        recycle_segments: 1000,
        ..Options::default()
    };
    let segment_bytes = options.segment_bytes;
    let (journal, _) = Journal::open(&Env::real(), dir, options).await?;
    let journal = Arc::new(journal);
    let raw_path = dir.with_extension("raw");
    let raw = RealDisk.open(&raw_path, OpenMode::CreateNew).await?;
    raw.allocate(total * 2).await?;
    if old {
        let filler = Bytes::from(vec![1; 4 << 20]);
        for i in 0..(total / segment_bytes + 2) * segment_bytes / filler.len() as u64 {
            journal.append(vec![append(&filler, i)]).await?;
        }
        journal.seal().await?;
        let segments = journal.segments();
        for segment in &segments[..segments.len() - 1] {
            journal.free(segment.number).await?;
        }
        // The segment that is active now is fresh: the next is recycled.
        journal.append(vec![append(&filler, 0)]).await?;
        journal.seal().await?;
        for at in (0..total * 2).step_by(filler.len()) {
            raw.write_at(at, vec![filler.clone()]).await?;
        }
    }
    raw.write_and_sync(0, vec![Bytes::from_static(&[0; 4096])])
        .await?;
    journal.append(vec![append(&Bytes::new(), 0)]).await?;
    assert!(
        !old || journal.stats().recycled > 0,
        "no segment was recycled"
    );

    let mut octets = vec![0; size.max(16 << 20)];
    rand::Rng::fill_bytes(&mut rand::rng(), &mut octets);
    let octets = Bytes::from(octets);
    let each = (total / SLICES / (size * flight) as u64).max(1);
    let mut row = Row::default();
    for _ in 0..SLICES {
        let before = journal.stats();
        let started = Instant::now();
        let writers = (0..flight).map(|w| {
            let (journal, payload) = (journal.clone(), octets.slice(..size));
            tokio::spawn(async move {
                for i in 0..each {
                    let index = w as u64 * each + i;
                    journal.append(vec![append(&payload, index)]).await?;
                }
                anyhow::Ok(())
            })
        });
        for writer in writers.collect::<Vec<_>>() {
            writer.await??;
        }
        row.journal_s += started.elapsed().as_secs_f64();
        let after = journal.stats();
        let bytes = after.bytes_written - before.bytes_written;
        let batches = after.batches - before.batches;
        row.journal_bytes += bytes;
        row.payload_bytes += after.payload_bytes - before.payload_bytes;
        row.syncs += after.syncs - before.syncs;
        row.batch = bytes / batches.max(1);
        let batch = (row.batch as usize).min(octets.len());
        let started = Instant::now();
        let end = row.raw_bytes + bytes;
        while row.raw_bytes < end {
            let parts = vec![octets.slice(..batch)];
            raw.write_and_sync(row.raw_bytes % (total * 2 - batch as u64), parts)
                .await?;
            row.raw_bytes += batch as u64;
        }
        row.raw_s += started.elapsed().as_secs_f64();
    }
    journal.close().await;
    fs::remove_file(&raw_path)?;
    fs::remove_dir_all(dir)?;
    Ok(row)
}

/// How fast the device is at all: large writes and one sync.
fn device(path: &Path, total: u64) -> anyhow::Result<f64> {
    let file = fs::File::create(path)?;
    let octets = vec![0x5a; 4 << 20];
    let started = Instant::now();
    let mut at = 0;
    while at < total {
        file.write_all_at(&octets, at)?;
        at += octets.len() as u64;
    }
    file.sync_data()?;
    let speed = at as f64 / 1e6 / started.elapsed().as_secs_f64();
    fs::remove_file(path)?;
    Ok(speed)
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let mut args = std::env::args().skip(1);
    let base = args
        .next()
        .map_or_else(|| PathBuf::from("."), PathBuf::from);
    let total = args.next().map_or(Ok(512), |m| m.parse::<u64>())? << 20;
    let only: Vec<String> = args.collect();
    let base = base.join(format!("journal-bench-{}", std::process::id()));
    fs::create_dir_all(&base)?;
    let speed = device(&base.join("device"), total)?;
    println!("device, 4 MiB writes, one sync: {speed:.0} MB/s");
    println!(
        "{:>8} {:>7} {:>5} {:>10} {:>9} {:>9} {:>9} {:>9} {:>7} {:>8}",
        "size", "flight", "file", "batch", "syncs/s", "rec/s", "MB/s", "raw MB/s", "share", "B/B"
    );
    for (size, flight) in [
        (4 << 10, 1),
        (4 << 10, 64),
        (32 << 10, 1),
        (32 << 10, 16),
        (32 << 10, 64),
        (1 << 20, 1),
        (1 << 20, 16),
    ] {
        if !only.is_empty() && !only.contains(&format!("{size}-{flight}")) {
            continue;
        }
        // A row with small batches is bound by the rate of syncs: less data says as much.
        let total = total.min((size * flight) as u64 * 2000);
        for (name, old) in [("new", false), ("old", true)] {
            let row = row(&base.join(name), total, size, flight, old).await?;
            let journal = row.journal_bytes as f64 / 1e6 / row.journal_s;
            let raw = row.raw_bytes as f64 / 1e6 / row.raw_s;
            println!(
                "{:>8} {:>7} {:>5} {:>10} {:>9.0} {:>9.0} {:>9.1} {:>9.1} {:>6.0}% {:>8.4}",
                size,
                flight,
                name,
                row.batch,
                row.syncs as f64 / row.journal_s,
                row.payload_bytes as f64 / size as f64 / row.journal_s,
                journal,
                raw,
                100.0 * journal / raw,
                row.journal_bytes as f64 / row.payload_bytes as f64,
            );
        }
    }
    fs::remove_dir_all(&base)?;
    Ok(())
}
