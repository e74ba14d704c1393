//! The journal alone against a raw loop of write + fdatasync with the same bytes a batch.
//!
//! `journal_bench [DIR] [MIB] [SIZE-FLIGHT…]` writes about MIB mebibytes (default 512) per row below DIR (default:
//! the current directory) and prints a table. Rows: record size × records kept in flight. The raw
//! loop writes batches of the size that the journal reached: by extending a file (`raw new`), into
//! reserved space (`raw res`), and over blocks that exist (`raw old`). `share` is the journal on
//! fresh segments against `raw new`, and on recycled segments against `raw old`.
#![allow(clippy::disallowed_methods)]

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use posthouse_node::env::Env;
use posthouse_node::env::disk::{Disk, OpenMode, RealDisk};
use posthouse_node::journal::{Append, Journal, Options, RecordHead, RecordKind, Stats};
use posthouse_node::types::{ReplicaId, ShardId};

struct Run {
    seconds: f64,
    stats: Stats,
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

/// Writes `total` bytes with `flight` records of `size` at a time, twice: into fresh segments, and
/// into recycled ones, whose blocks were all written before.
async fn journal(dir: &Path, total: u64, size: usize, flight: usize) -> anyhow::Result<[Run; 2]> {
    let new = run(&dir.join("new"), total, size, flight, false).await?;
    let old = run(&dir.join("old"), total, size, flight, true).await?;
    Ok([new, old])
}

async fn run(
    dir: &Path,
    total: u64,
    size: usize,
    flight: usize,
    recycled: bool,
) -> anyhow::Result<Run> {
    let options = Options {
        recycle_segments: 1000,
        ..Options::default()
    };
    let segment_bytes = options.segment_bytes;
    let (journal, _) = Journal::open(&Env::real(), dir, options).await?;
    let journal = Arc::new(journal);
    if recycled {
        let filler = Bytes::from(vec![1; 4 << 20]);
        let fill = (total / segment_bytes + 2) * segment_bytes;
        for i in 0..fill / filler.len() as u64 {
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
    }
    journal.append(vec![append(&Bytes::new(), 0)]).await?;
    let before = journal.stats();
    let started = Instant::now();
    let each = total / size as u64 / flight as u64;
    let writers = (0..flight).map(|w| {
        let journal = journal.clone();
        let mut octets = vec![0; size];
        rand::Rng::fill_bytes(&mut rand::rng(), &mut octets);
        let payload = Bytes::from(octets);
        tokio::spawn(async move {
            for i in 0..each {
                let index = w as u64 * each + i;
                journal.append(vec![append(&payload, index)]).await?;
            }
            anyhow::Ok(())
        })
    });
    let writers: Vec<_> = writers.collect();
    for writer in writers {
        writer.await??;
    }
    let seconds = started.elapsed().as_secs_f64();
    let after = journal.stats();
    assert!(!recycled || after.recycled > 0, "no segment was recycled");
    journal.close().await;
    Ok(Run {
        seconds,
        stats: Stats {
            bytes_written: after.bytes_written - before.bytes_written,
            payload_bytes: after.payload_bytes - before.payload_bytes,
            batches: after.batches - before.batches,
            syncs: after.syncs - before.syncs,
            ..after
        },
    })
}

/// The raw loop, through the same hop to a blocking thread. Returns MB/s for new, reserved
/// and old blocks.
async fn raw(path: &Path, total: u64, batch: usize) -> anyhow::Result<[f64; 3]> {
    let mut octets = vec![0; batch];
    rand::Rng::fill_bytes(&mut rand::rng(), &mut octets);
    let octets = Bytes::from(octets);
    let mut speeds = [0.0; 3];
    for (i, speed) in speeds.iter_mut().enumerate() {
        let file = match i {
            0 => RealDisk.open(path, OpenMode::CreateNew).await?,
            1 => {
                fs::remove_file(path)?;
                let file = RealDisk.open(path, OpenMode::CreateNew).await?;
                file.allocate(total + batch as u64).await?;
                file.write_and_sync(0, vec![Bytes::from_static(&[0; 4096])])
                    .await?;
                file
            }
            _ => RealDisk.open(path, OpenMode::ReadWrite).await?,
        };
        let started = Instant::now();
        let mut at = 0;
        while at < total {
            file.write_and_sync(at, vec![octets.clone()]).await?;
            at += batch as u64;
        }
        *speed = at as f64 / 1e6 / started.elapsed().as_secs_f64();
    }
    fs::remove_file(path)?;
    Ok(speeds)
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
    let base = base.join(format!("journal-bench-{}", std::process::id()));
    fs::create_dir_all(&base)?;
    println!(
        "device, 4 MiB writes, one sync: {:.0} MB/s",
        device(&base.join("d"), total)?
    );
    println!(
        "{:>8} {:>7} {:>10} {:>9} {:>9} {:>9} {:>9} {:>9} {:>7} {:>9} {:>9} {:>7} {:>8}",
        "size",
        "flight",
        "batch",
        "syncs/s",
        "rec/s",
        "new MB/s",
        "raw new",
        "raw res",
        "share",
        "old MB/s",
        "raw old",
        "share",
        "B/B"
    );
    let only: Vec<String> = args.collect();
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
        let dir = base.join(format!("{size}-{flight}"));
        let [new, old] = journal(&dir, total, size, flight).await?;
        let batch = new.stats.bytes_written / new.stats.batches.max(1);
        let [raw_new, raw_res, raw_old] = raw(&base.join("raw"), total, batch as usize).await?;
        let speed = |run: &Run| run.stats.bytes_written as f64 / 1e6 / run.seconds;
        let (new_speed, old_speed) = (speed(&new), speed(&old));
        println!(
            "{:>8} {:>7} {:>10} {:>9.0} {:>9.0} {:>9.1} {:>9.1} {:>9.1} {:>6.0}% {:>9.1} {:>9.1} {:>6.0}% {:>8.4}",
            size,
            flight,
            batch,
            new.stats.syncs as f64 / new.seconds,
            new.stats.payload_bytes as f64 / size as f64 / new.seconds,
            new_speed,
            raw_new,
            raw_res,
            100.0 * new_speed / raw_new,
            old_speed,
            raw_old,
            100.0 * old_speed / raw_old,
            new.stats.bytes_written as f64 / new.stats.payload_bytes as f64,
        );
        fs::remove_dir_all(&dir)?;
    }
    fs::remove_dir_all(&base)?;
    Ok(())
}
