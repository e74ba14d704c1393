//! What goes wrong on a disk while it works: errors, stalls, slowness, no space, writes to the
//! wrong place, and the moment at which its process is to die.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use rand::RngExt;

use super::names::Node;
use super::{SimDisk, State};
use crate::plan::DiskCall;

/// Reads or writes that a disk does in a millisecond. As long as it is as usual they take no time.
const CALLS_PER_MS: u64 = 10;

/// A point at which a process dies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Armed {
    /// Which calls are counted.
    pub call: DiskCall,
    /// The how manieth from now on it is; 0 counts as 1.
    pub n: u64,
}

type Kill = Box<dyn FnOnce() + Send>;

/// A write that went astray, and where it should be.
struct Astray {
    node: Arc<Node>,
    offset: u64,
    parts: Vec<Bytes>,
    since: Since,
}

/// What became of a file since a write of it went astray.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Since {
    /// Nothing yet: nobody relies on the write.
    Nothing,
    /// A sync has ended: the write counts as durable, and is the last one.
    Synced,
    /// Another write came, and is in the cache.
    Followed,
}

/// Faults that are in force.
#[derive(Default)]
pub(super) struct Faults {
    /// How many of the next reads, writes, syncs fail.
    failing: [u32; 3],
    armed: Vec<(Armed, Kill)>,
    misdirected: u32,
    /// Writes that went astray and that nothing durable has followed.
    astray: Vec<Astray>,
    /// No space left.
    pub full: bool,
    /// Space that something else on the disk takes up.
    pub other_used: u64,
    stalled_until_ms: u64,
    /// How many times everything takes longer, and until when.
    slow: (u32, u64),
    /// By how many ms each read takes longer, and until when.
    reads: (u64, u64),
}

/// What becomes of a call.
pub(super) enum Verdict {
    /// It is carried out.
    Go,
    /// EIO.
    Fail,
    /// The process dies in the middle of it.
    Die(Kill),
}

impl Faults {
    /// The points of a dead process mean nothing to the next one.
    pub fn disarm(&mut self) {
        self.armed.clear();
    }

    /// How long nothing moves, ms.
    pub fn stalled_ms(&self, now_ms: u64) -> u64 {
        self.stalled_until_ms.saturating_sub(now_ms)
    }

    /// How many times everything takes longer.
    pub fn slower(&self, now_ms: u64) -> u64 {
        match self.slow.1 > now_ms {
            true => u64::from(self.slow.0.max(1)),
            false => 1,
        }
    }

    /// How long a call takes that is immediate otherwise, ms.
    pub fn hesitation_ms(&self, now_ms: u64) -> u64 {
        match self.slower(now_ms) {
            1 => 0,
            times => times.div_ceil(CALLS_PER_MS),
        }
    }

    /// By how much a read takes longer, ms.
    pub fn read_ms(&self, now_ms: u64) -> u64 {
        match self.reads.1 > now_ms {
            true => self.reads.0,
            false => 0,
        }
    }

    /// Whether the next write goes astray; asking takes it.
    pub fn take_misdirected(&mut self) -> bool {
        let astray = self.misdirected > 0;
        self.misdirected = self.misdirected.saturating_sub(1);
        astray
    }

    /// The write found no other place to go to.
    pub fn put_back_misdirected(&mut self) {
        self.misdirected += 1;
    }

    /// A write of this file went astray that should be at `offset`.
    pub fn went_astray(&mut self, node: &Arc<Node>, offset: u64, parts: &[Bytes]) {
        self.astray.push(Astray {
            node: Arc::clone(node),
            offset,
            parts: parts.to_vec(),
            since: Since::Nothing,
        });
    }

    /// A write of this file is in the cache where it should be.
    pub fn wrote(&mut self, node: u64) {
        for astray in &mut self.astray {
            if astray.node.id == node && astray.since == Since::Synced {
                astray.since = Since::Followed;
            }
        }
    }

    /// A sync of this file has ended well.
    pub fn synced(&mut self, node: u64) {
        let vouched = |a: &Astray| a.node.id == node && a.since == Since::Followed;
        self.astray.retain(|astray| !vouched(astray));
        for astray in &mut self.astray {
            if astray.node.id == node {
                astray.since = Since::Synced;
            }
        }
    }

    /// The process dies, or its machine. The last write of a log that was synced and is not there
    /// cannot be told from one that never was: nothing behind it says that it counted, as with rot
    /// there. So the write is found where it belongs unless another followed it that survives.
    pub fn put_right(&mut self, power: bool) {
        for astray in std::mem::take(&mut self.astray) {
            match astray.since {
                Since::Nothing => {}
                Since::Followed if !power => self.astray.push(astray),
                Since::Synced | Since::Followed => astray.put_right(),
            }
        }
    }
}

impl Astray {
    fn put_right(&self) {
        self.node.with(|inode| {
            let mut at = self.offset;
            for part in &self.parts {
                inode.write(at, part);
                at += part.len() as u64;
            }
            let sync = inode.begin_sync();
            inode.end_sync(sync);
        });
    }
}

impl State {
    /// Counts a call and says what becomes of it.
    pub(super) fn admit(&mut self, call: DiskCall) -> Verdict {
        let counter = match call {
            DiskCall::Read => &mut self.counters.reads,
            DiskCall::Write => &mut self.counters.writes,
            DiskCall::Sync => &mut self.counters.syncs,
        };
        *counter += 1;
        let faults = &mut self.faults;
        for (armed, _) in &mut faults.armed {
            if armed.call == call {
                armed.n = armed.n.saturating_sub(1);
            }
        }
        let due = |(armed, _): &(Armed, Kill)| armed.call == call && armed.n == 0;
        if let Some(at) = faults.armed.iter().position(due) {
            return Verdict::Die(faults.armed.remove(at).1);
        }
        let failing = &mut faults.failing[call as usize];
        match *failing {
            0 => Verdict::Go,
            _ => {
                *failing -= 1;
                Verdict::Fail
            }
        }
    }

    /// How long a sync takes now, ms.
    pub(super) fn sync_ms(&mut self, settings: &crate::plan::Disk, now_ms: u64) -> u64 {
        let jitter = match settings.sync_jitter_ms {
            0 => 0,
            most => self.timing.random_range(0..=most),
        };
        (settings.sync_ms + jitter) * self.faults.slower(now_ms)
    }
}

impl SimDisk {
    /// Nothing moves for `ms` from now on: calls that have begun and calls to come answer later.
    pub fn stall_ms(&self, ms: u64) {
        let until = self.0.time.now_ms() + ms;
        let faults = &mut self.0.state.lock().faults;
        faults.stalled_until_ms = faults.stalled_until_ms.max(until);
    }

    /// Everything takes `times` as long for `ms` from now on.
    pub fn slow(&self, times: u32, ms: u64) {
        self.0.state.lock().faults.slow = (times, self.0.time.now_ms() + ms);
    }

    /// Each read takes `each_ms` longer for `ms` from now on, as with a drive that tries a weak
    /// sector again and again.
    pub fn slow_reads(&self, each_ms: u64, ms: u64) {
        self.0.state.lock().faults.reads = (each_ms, self.0.time.now_ms() + ms);
    }

    /// The next `count` calls of this kind fail with EIO. Of a failed write a part is in the cache;
    /// what a failed sync should have written stays in the cache, clean, and is not on the platter.
    pub fn fail_next(&self, call: DiskCall, count: u32) {
        let failing = &mut self.0.state.lock().faults.failing[call as usize];
        *failing = (*failing).max(count);
    }

    /// No space is left, or what there was before.
    pub fn full(&self, full: bool) {
        self.0.state.lock().faults.full = full;
    }

    /// Octets that are free.
    pub fn free_bytes(&self) -> u64 {
        self.free(&self.0.state.lock())
    }

    /// Something beside the files takes up so many octets.
    pub fn set_used(&self, bytes: u64) {
        self.0.state.lock().faults.other_used = bytes;
    }

    /// Something beside the files takes up all but so many of the octets that are free now.
    pub fn leave(&self, bytes: u64) {
        let taken = self.0.used.load(Ordering::Relaxed) + bytes;
        self.set_used(self.0.settings.bytes.saturating_sub(taken));
    }

    /// The next write that has another place in its file goes there; the right place stays as it
    /// was, and the writer hears nothing of it. A crash that comes before the file was written and
    /// synced again finds it in the right place, too.
    pub fn misdirect_next(&self) {
        self.0.state.lock().faults.misdirected += 1;
    }

    /// The process dies in the n-th call of a kind from now on: of a write some sectors are in the
    /// cache then, a sync has begun and not ended. `kill` has to raise the fence of the process; it
    /// is called from inside the process and never, should it die of something else before.
    pub fn arm(&self, at: Armed, kill: Box<dyn FnOnce() + Send>) {
        self.0.state.lock().faults.armed.push((at, kill));
    }

    /// The process dies at no point of its work any more.
    pub fn disarm(&self) {
        self.0.state.lock().faults.disarm();
    }

    /// Forgets faults that wait or last: everything heals, for calls that have begun too.
    pub fn heal(&self) {
        let mut state = self.0.state.lock();
        state.faults = Faults {
            other_used: state.faults.other_used,
            astray: std::mem::take(&mut state.faults.astray),
            ..Faults::default()
        };
        drop(state);
        self.0.healed.notify_waiters();
    }
}
