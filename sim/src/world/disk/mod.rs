//! A simulated disk: page cache and platter of one machine, byte-accurate.
//!
//! ```text
//!  process (one life, fenced) ── Disk, File ──▶ SimDisk: names, files, faults ◀── the world
//!                                                 │
//!        power: what a failure leaves of a file   ├─ inode: cache, layers of unsynced pages
//!        names: directories, durable or not ──────┘
//!        rest: images, wiping, rot
//! ```
//!
//! What it models is Linux: writes go to the page cache, fdatasync moves sectors to the platter, a
//! failed one leaves pages clean and unwritten, names wait for the sync of their directory. The
//! faults are those that were seen on real drives: lost, torn and misdirected writes, rot, errors,
//! stalls, a full disk (Bairavasundaram et al., "An Analysis of Data Corruption in the Storage
//! Stack", FAST '08; Pillai et al., OSDI '14; Rebello et al., ATC '20).
//!
//! A process reaches the disk through [`SimDisk::process`]. Once its fence is up, whatever it asked
//! for never answers and changes nothing more.

mod faults;
mod inode;
mod names;
mod power;
mod process;
mod rest;
#[cfg(test)]
mod tests;

pub use faults::Armed;
pub use rest::{Decay, Image};

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use parking_lot::Mutex;
use posthouse_node::env::disk::Disk;
use rand::RngExt;
use tokio::sync::Notify;

use self::faults::Faults;
use self::names::{Node, Tree};
pub(super) use self::process::Device;
use self::process::Process;
use super::clock::HostTime;
use super::fence::Fence;
use crate::plan;
use crate::stream::{Stream, stream};

/// What happened on a disk since it was made.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counters {
    /// Reads.
    pub reads: u64,
    /// Writes.
    pub writes: u64,
    /// Syncs of files and directories.
    pub syncs: u64,
    /// Octets of the reads.
    pub octets_read: u64,
    /// Octets of the writes.
    pub octets_written: u64,
    /// Power failures.
    pub power_failures: u64,
}

/// A disk. It outlives the processes that use it; clones share it.
#[derive(Clone)]
pub struct SimDisk(Arc<Shared>);

struct Shared {
    seed: u64,
    host: u64,
    settings: plan::Disk,
    time: HostTime,
    /// Space that files take up.
    used: Arc<AtomicU64>,
    /// Counts and mixes all effects.
    activity: AtomicU64,
    /// Calls that wait for the end of a stall go on when the disk heals before it.
    healed: Notify,
    state: Mutex<State>,
}

struct State {
    tree: Tree,
    /// Directories that a process holds, until it dies.
    locks: BTreeMap<PathBuf, (u64, Fence)>,
    /// Number of the next file or lock.
    next: u64,
    counters: Counters,
    faults: Faults,
    /// Draws how long syncs take.
    timing: Stream,
    /// The last moment for which an event was drawn, and how many.
    event: (u64, u64),
}

impl SimDisk {
    /// The empty disk of a host, and the host's time.
    pub fn new(seed: u64, host: u64, settings: &plan::Disk, time: HostTime) -> SimDisk {
        SimDisk(Arc::new(Shared {
            seed,
            host,
            settings: settings.clone(),
            time,
            used: Arc::default(),
            activity: AtomicU64::new(0),
            healed: Notify::new(),
            state: Mutex::new(State {
                tree: Tree::new(),
                locks: BTreeMap::new(),
                next: 0,
                counters: Counters::default(),
                faults: Faults::default(),
                timing: stream(seed, "disk.timing", host),
                event: (0, 0),
            }),
        }))
    }

    /// Is gone when nothing holds the disk any more.
    #[cfg(test)]
    pub fn left(&self) -> std::sync::Weak<dyn std::any::Any + Send + Sync> {
        let any: Arc<dyn std::any::Any + Send + Sync> = self.0.clone();
        Arc::downgrade(&any)
    }

    /// The disk as one life of a process sees it.
    pub fn process(&self, fence: Fence) -> Arc<dyn Disk> {
        Arc::new(Process::new(self.device(fence)))
    }

    /// The device below the files, for whoever keeps data beside them.
    pub(super) fn device(&self, fence: Fence) -> Device {
        Device::new(self.clone(), fence)
    }

    /// The machine loses power: what was not synced is kept, lost or torn. To be called after the
    /// fences of its processes were raised.
    pub fn power_failure(&self) {
        let mut rng = self.event_stream("disk.power");
        let mut state = self.0.state.lock();
        state.died();
        state.counters.power_failures += 1;
        state
            .tree
            .power_failure(&mut rng, |node, rng| node.with(|i| power::fail(i, rng)));
        state.faults.put_right(true);
        drop(state);
        self.note(1, 0, rng.random(), &[]);
    }

    /// The process dies and the kernel lives: the cache stays. To be called after its fence was
    /// raised.
    pub fn kill(&self) {
        let mut state = self.0.state.lock();
        state.died();
        state.faults.put_right(false);
    }

    /// What happened so far.
    pub fn counters(&self) -> Counters {
        self.0.state.lock().counters
    }

    /// A number that changes with every effect on the disk, and is the same in an equal run.
    pub fn activity(&self) -> u64 {
        self.0.activity.load(Ordering::Relaxed)
    }

    /// All files with their lengths, in the order of names.
    pub fn files(&self) -> Vec<(PathBuf, u64)> {
        let state = self.0.state.lock();
        let files = state.tree.files();
        files
            .map(|(path, node)| (path, node.with(|i| i.len)))
            .collect()
    }

    /// Content of a file as a process would read it.
    pub fn content(&self, path: &std::path::Path) -> Option<Bytes> {
        let node = self.0.state.lock().tree.file(path).ok().flatten()?;
        node.with(|i| i.read(0, i.len as usize))
    }

    /// Octets of a sector.
    fn sector(&self) -> usize {
        match self.0.settings.sector {
            4096 => 4096,
            _ => 512,
        }
    }

    /// Space that is neither taken nor declared to be.
    fn free(&self, state: &State) -> u64 {
        let used = self.0.used.load(Ordering::Relaxed);
        match state.faults.full {
            true => 0,
            false => (self.0.settings.bytes).saturating_sub(used + state.faults.other_used),
        }
    }

    /// Randomness for something that happens now. It depends on the moment and on what happens,
    /// not on what happened before, so that taking one fault out of a plan leaves the others.
    pub(super) fn event_stream(&self, name: &str) -> Stream {
        let now = self.0.time.now_ms();
        let mut state = self.0.state.lock();
        state.event = match state.event {
            (at, n) if at == now => (now, n + 1),
            _ => (now, 0),
        };
        let moment = (self.0.host << 48) ^ (now << 8) ^ state.event.1;
        stream(self.0.seed, name, moment)
    }

    /// Adds an effect to [`SimDisk::activity`].
    fn note(&self, what: u64, node: u64, place: u64, parts: &[Bytes]) {
        let mut hash = self.0.activity.load(Ordering::Relaxed);
        let mut mix = |word: u64| hash = (hash.rotate_left(5) ^ word).wrapping_mul(MIX);
        mix(what);
        mix(node);
        mix(place);
        for part in parts {
            let (words, rest) = part.as_chunks::<8>();
            words.iter().for_each(|w| mix(u64::from_le_bytes(*w)));
            rest.iter().for_each(|b| mix(u64::from(*b)));
        }
        self.0.activity.store(hash, Ordering::Relaxed);
    }

    /// A file that is about to get a name.
    fn new_node(&self, state: &mut State, inode: inode::Inode) -> Arc<Node> {
        state.next += 1;
        Node::new(state.next, inode, &self.0.used)
    }
}

/// An odd constant with its bits well spread (the golden ratio).
const MIX: u64 = 0x9e37_79b9_7f4a_7c15;

impl State {
    /// What goes with a process, whatever it died of.
    fn died(&mut self) {
        self.faults.disarm();
        self.locks.retain(|_, (_, fence)| !fence.is_dead());
    }
}
