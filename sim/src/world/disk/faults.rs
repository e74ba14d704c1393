//! What goes wrong on a disk while it works: errors, stalls, slowness, no space, writes to the
//! wrong place, and the moment at which its process is to die.

use std::sync::atomic::Ordering;

use rand::RngExt;

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

/// Faults that are in force.
#[derive(Default)]
pub(super) struct Faults {
    /// How many of the next reads, writes, syncs fail.
    failing: [u32; 3],
    armed: Vec<(Armed, Kill)>,
    misdirected: u32,
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
        *failing = failing.saturating_add(count);
    }

    /// No space is left, or what there was before.
    pub fn full(&self, full: bool) {
        self.0.state.lock().faults.full = full;
    }

    /// Whether somebody said that no space is left.
    pub fn is_full(&self) -> bool {
        self.0.state.lock().faults.full
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
    /// was, and the writer hears nothing of it.
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
            ..Faults::default()
        };
        drop(state);
        self.0.healed.notify_waiters();
    }
}
