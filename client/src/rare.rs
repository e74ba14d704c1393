//! Counters of rare situations: what hardly ever happens, and must go well when it does.
//!
//! A branch that no test and no day of operation has ever taken is where the next outage waits
//! (Yuan et al., "Simple Testing Can Prevent Most Critical Failures", OSDI '14). So the code says
//! where it stands in such a branch ([`hit`]), once, in one line. Operators see the counts, and a
//! simulator that has never reached a situation knows that it has proved nothing about it.
//!
//! Each crate lists its situations in an enum of its own, made by [`rare_situations!`].
//!
//! [`rare_situations!`]: crate::rare_situations

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};

/// A situation with its count, since the process started.
#[derive(Debug)]
pub struct Mark {
    name: &'static str,
    text: &'static str,
    hits: AtomicU64,
}

impl Mark {
    /// A mark that was never hit.
    pub const fn new(name: &'static str, text: &'static str) -> Mark {
        Mark {
            name,
            text,
            hits: AtomicU64::new(0),
        }
    }

    /// Its name; no other situation of any crate has it.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// What it means, in one line.
    pub fn text(&self) -> &'static str {
        self.text
    }

    /// How often this process has met it.
    pub fn count(&self) -> u64 {
        self.hits.load(Ordering::Relaxed)
    }
}

/// One of a crate's rare situations.
pub trait Situation: Copy {
    /// Its mark.
    fn mark(self) -> &'static Mark;
}

thread_local! {
    static OF_THREAD: RefCell<BTreeMap<&'static str, u64>> = const { RefCell::new(BTreeMap::new()) };
}

/// The process stands in this situation.
#[cold]
pub fn hit(situation: impl Situation) {
    let mark = situation.mark();
    mark.hits.fetch_add(1, Ordering::Relaxed);
    // A thread that is about to end has nobody left who would ask it.
    let _ = OF_THREAD.try_with(|counts| *counts.borrow_mut().entry(mark.name).or_default() += 1);
}

/// How often this thread has met a situation since [`take_thread`].
pub fn of_thread(situation: impl Situation) -> u64 {
    let name = situation.mark().name;
    OF_THREAD.with_borrow(|counts| counts.get(name).copied().unwrap_or(0))
}

/// What this thread has met since it was last asked, by name.
pub fn take_thread() -> BTreeMap<&'static str, u64> {
    OF_THREAD.take()
}

/// Makes the enum of a crate's rare situations: each with a name, and what it means in one line.
#[macro_export]
macro_rules! rare_situations {
    ($(#[$about:meta])* $vis:vis enum $name:ident { $($situation:ident = $text:literal,)+ }) => {
        $(#[$about])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        $vis enum $name {
            $(#[doc = $text] $situation,)+
        }

        impl $name {
            /// All of them, with their counts.
            $vis fn marks() -> &'static [$crate::rare::Mark] {
                const NAMES: &[&str] = &[$(stringify!($situation)),+];
                static MARKS: [$crate::rare::Mark; NAMES.len()] =
                    [$($crate::rare::Mark::new(stringify!($situation), $text),)+];
                &MARKS
            }
        }

        impl $crate::rare::Situation for $name {
            fn mark(self) -> &'static $crate::rare::Mark {
                &$name::marks()[self as usize]
            }
        }
    };
}

rare_situations! {
    /// Rare situations of a client.
    pub enum Rare {
        LeaderHintFollowed = "a node that does not lead the shard named one that does",
        AllReplicasTried = "a whole round over the replicas of a shard found no leader",
        NodeBusy = "a node asked to come back later",
        MapTooOld = "a node called the placement map too old",
        NewerMapMentioned = "an answer mentioned a newer placement map than the one at hand",
        OlderMapIgnored = "a node gave an older placement map than the one at hand",
        MapFetchShared = "a placement map that another call was fetching was waited for",
        NobodyHasShard = "no node has the shard that a call is for",
        NewLeaderWhileWaiting = "a silent node was given up, because its shard has another leader",
        DeadlinePassed = "the deadline of a call passed while it was being tried again",
        DeliverySentAgain = "recipients of a delivery were left over and sent to again",
        WatchTakenUpAgain = "a stream of changes ended and was taken up again",
        WatchMoved = "a silent stream of changes was given up, because its shard has another leader",
        FetchTakenUpAgain = "a message that broke off while it was read was taken up where it was",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    rare_situations! {
        enum Test {
            First = "the first",
            Second = "the second",
        }
    }

    #[test]
    fn hits_are_counted_for_the_process_and_for_the_thread() {
        let met = std::thread::scope(|s| {
            let other = s.spawn(|| {
                hit(Test::Second);
                hit(Test::Second);
                assert_eq!((of_thread(Test::Second), of_thread(Test::First)), (2, 0));
                let met = take_thread();
                hit(Test::First);
                assert_eq!(take_thread(), BTreeMap::from([("First", 1)]));
                met
            });
            other.join().unwrap()
        });
        assert_eq!(met, BTreeMap::from([("Second", 2)]));
        assert!(take_thread().is_empty(), "another thread's");
        let counts: Vec<_> = Test::marks()
            .iter()
            .map(|m| (m.name(), m.count()))
            .collect();
        assert_eq!(counts, [("First", 1), ("Second", 2)]);
        assert_eq!(Test::marks()[0].text(), "the first");
    }
}
