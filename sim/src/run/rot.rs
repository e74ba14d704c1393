//! Rot that is aimed: at the few octets that a start, or a reader, depends on, and that rot anywhere
//! in the files hardly ever meets.
//!
//! What is struck was synced, and in the newest segment followed by another sync of it: what comes
//! last there cannot be told from a torn tail.

use std::ops::Range;
use std::path::{Path, PathBuf};

use futures::future::FutureExt;
use posthouse_node::journal::{Journal, RecordKind};
use posthouse_node::raft::Shard;
use posthouse_node::types::Location;
use rand::RngExt;

use super::cluster::Cluster;
use super::nodes::DATA;
use crate::plan::RotPlace;
use crate::stream::Stream;
use crate::world::disk::{Decay, SimDisk};

/// Where a segment has its seal, as node/FORMAT.md draws it.
const SEAL: Range<u64> = 2048..2080;

/// Strikes at most so many places of this sort on the disk of node `n`. Says what was struck.
pub fn strike(
    n: u32,
    place: RotPlace,
    most: u32,
    cluster: &Cluster,
    draws: &mut Stream,
) -> Vec<String> {
    let node = &cluster.nodes[n as usize];
    let disk = &cluster.stage.host(node.host).disk;
    let running = node.running();
    match place {
        RotPlace::Files => Vec::new(),
        RotPlace::Seals => {
            let sealed = pick(sealed(disk), most, draws).into_iter();
            let struck = sealed.map(|path| disk.rot_range(&path, SEAL, false, Decay::Synced));
            struck.flatten().collect()
        }
        RotPlace::Segment => {
            let sealed = pick(sealed(disk), 1, draws).into_iter();
            let struck = sealed.map(|path| disk.rot_range(&path, 0..u64::MAX, true, Decay::Synced));
            struck.flatten().collect()
        }
        RotPlace::Identity => {
            let path = Path::new(DATA).join("identity.json");
            let octets = disk
                .content(&path)
                .map_or(0, |content| content.len() as u64);
            let struck = disk.rot_range(&path, 0..octets, false, Decay::Synced);
            struck.into_iter().collect()
        }
        // Where votes and entries lie only a node that runs can tell.
        RotPlace::Votes => running.map_or_else(Vec::new, |running| {
            let journal = running.groups.journal();
            let votes = pick(votes(journal), most, draws);
            payloads(disk, journal, votes, Decay::Settled)
        }),
        RotPlace::Unflushed => running.map_or_else(Vec::new, |running| {
            let journal = running.groups.journal();
            let shards = running.groups.shards().all();
            let entries = shards.iter().flat_map(|shard| unflushed(shard, journal));
            let entries = pick(entries.collect(), most, draws);
            payloads(disk, journal, entries, Decay::Synced)
        }),
    }
}

/// At most so many of them.
fn pick<T>(mut all: Vec<T>, most: u32, draws: &mut Stream) -> Vec<T> {
    let mut picked = Vec::new();
    while !all.is_empty() && picked.len() < most as usize {
        picked.push(all.swap_remove(draws.random_range(0..all.len())));
    }
    picked
}

/// Segments that another one follows.
fn sealed(disk: &SimDisk) -> Vec<PathBuf> {
    let files = disk.files().into_iter().map(|(path, _)| path);
    let mut segments: Vec<PathBuf> = files
        .filter(|path| path.extension().is_some_and(|e| e == "seg"))
        .collect();
    segments.sort();
    segments.pop();
    segments
}

/// The votes in the segment that is being written.
fn votes(journal: &Journal) -> Vec<Location> {
    let segments = journal.segments();
    let Some(newest) = segments.last().filter(|s| !s.sealed) else {
        return Vec::new();
    };
    // Of this segment the headers are in memory: nothing is waited for.
    let records = journal.records(newest.number).now_or_never();
    let records = records.and_then(Result::ok).unwrap_or_default();
    let votes = records
        .into_iter()
        .filter(|(head, _)| head.kind == RecordKind::Vote);
    votes.map(|(_, location)| location).collect()
}

/// Entries in sealed segments that are not in the durable part of the index: the next start relies
/// on them, and no footer tells it whether they are whole.
fn unflushed(shard: &Shard, journal: &Journal) -> Vec<Location> {
    let sealed = |at: &Location| {
        let segments = journal.segments();
        segments.iter().any(|s| s.number == at.segment && s.sealed)
    };
    let persisted = *shard.replicated.persisted.borrow();
    let (first, next) = shard.log.range();
    let from = persisted.map_or(first, |p| first.max(p.index + 1));
    (from..next)
        .filter_map(|index| shard.log.place(index))
        .filter(|at| at.len > 0 && sealed(at))
        .collect()
}

fn payloads(disk: &SimDisk, journal: &Journal, at: Vec<Location>, decay: Decay) -> Vec<String> {
    let struck = at.into_iter().map(|at| {
        let begin = u64::from(at.offset);
        let path = journal.segment_file(at.segment);
        disk.rot_range(&path, begin..begin + u64::from(at.len), false, decay)
    });
    struck.flatten().collect()
}
