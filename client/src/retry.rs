//! When to try again, where, and how long to wait before.
//!
//! A leader's death must cost a client as little as the election takes. So a broken connection
//! sends the call to the next replica at once; only when a whole round over the replicas found no
//! leader is there a pause, which grows with jitter. Every try of a mutating call carries the same
//! request_id, which makes trying again safe.
//!
//! A node that is cut off costs a second of silence. Those that answer are asked again before the
//! next silent one: they may have found their leader meanwhile, and a call must not wait a second for
//! each node that is cut off.

use std::collections::BTreeSet;
use std::time::Duration;

use tokio::time::Instant;

use crate::connect::Wiring;
use crate::error::Error;
use crate::rare::{self, Rare};

/// First pause.
pub const BACKOFF_MIN: Duration = Duration::from_millis(10);
/// Longest pause of our own choice; a node's `retry_after` may ask for more.
pub const BACKOFF_MAX: Duration = Duration::from_millis(500);
/// Longest pause while a shard has no leader: elections take about a second, so a longer pause
/// would be felt on top of it.
const BACKOFF_ELECTION: Duration = Duration::from_millis(100);
/// A try that took longer makes what other nodes said before it old.
const OLD: Duration = Duration::from_millis(500);
/// A node cannot make a client wait longer than this in one go.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(5);

/// What an error asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Advice {
    /// Trying again cannot help, or must not be done.
    Fail,
    /// Go to this node.
    Follow {
        /// Node id.
        node: u64,
        /// Its address.
        addr: String,
    },
    /// Another replica may know better.
    Elsewhere,
    /// The placement map is older than this version.
    Refresh(u64),
    /// The same node, after a pause of at least this.
    Later(Duration),
}

/// The table: which errors are worth another try.
pub fn advice(error: &Error) -> Advice {
    match error {
        Error::WrongLeader {
            leader_node,
            leader_addr,
            ..
        } if !leader_addr.is_empty() => Advice::Follow {
            node: *leader_node,
            addr: leader_addr.clone(),
        },
        Error::WrongLeader { .. } => Advice::Elsewhere,
        Error::StalePlacement { version } => Advice::Refresh(*version),
        Error::Busy { retry_after, .. } => Advice::Later(*retry_after),
        // The outcome is unknown; the request_id makes a second try safe.
        Error::Unavailable { .. } | Error::Transport { .. } | Error::Deadline { .. } => {
            Advice::Elsewhere
        }
        // A new process on an old address; the shard's other replicas go on.
        Error::NotInitialized { .. } => Advice::Elsewhere,
        Error::NotFound { .. }
        | Error::AlreadyExists { .. }
        | Error::TooLarge { .. }
        | Error::ReadOnly { .. }
        | Error::BadRequest { .. }
        | Error::Corrupt { .. }
        | Error::WrongCluster { .. }
        | Error::Refused { .. }
        | Error::TooOld { .. }
        | Error::BadCredentials { .. }
        | Error::Source { .. } => Advice::Fail,
    }
}

/// The pauses of one call: doubling, each drawn between its half and its whole.
#[derive(Debug, Default)]
struct Backoff {
    rounds: u32,
}

impl Backoff {
    fn next(&mut self, wiring: &Wiring, max: Duration) -> Duration {
        let doubled = BACKOFF_MIN.saturating_mul(1 << self.rounds.min(10));
        self.rounds += 1;
        let full = doubled.min(max);
        let half_us = full.as_micros() as u64 / 2;
        Duration::from_micros(half_us + wiring.below(half_us + 1))
    }
}

/// The time that a call may take, and what went wrong last.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Deadline {
    at: Instant,
    allowed: Duration,
}

impl Deadline {
    pub(crate) fn after(allowed: Duration) -> Deadline {
        Deadline {
            at: Instant::now() + allowed,
            allowed,
        }
    }

    pub(crate) fn left(&self) -> Duration {
        self.at.saturating_duration_since(Instant::now())
    }

    pub(crate) fn at(&self) -> Instant {
        self.at
    }

    /// Waits, unless the deadline comes first: then the call's final error.
    pub(crate) async fn pause(&self, pause: Duration, last: &Error) -> Result<(), Error> {
        if pause >= self.left() {
            return Err(self.passed(last));
        }
        tokio::time::sleep(pause).await;
        Ok(())
    }

    /// The final error. A node that was busy until the end stays a busy node: nothing was
    /// stored, which the caller must be able to tell from an unknown outcome.
    pub(crate) fn passed(&self, last: &Error) -> Error {
        rare::hit(Rare::DeadlinePassed);
        match last {
            Error::Busy { .. } | Error::NotInitialized { .. } => last.clone(),
            _ => Error::Deadline {
                message: format!("no answer within {:?}; last: {last}", self.allowed),
            },
        }
    }
}

/// What to do after a failed try.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Step {
    /// Give up with the error.
    Fail,
    /// Try again now.
    Now,
    /// Fetch a placement map of at least this version, then try again now.
    Refresh(u64),
    /// Wait, fetch the placement map if it changed, then try again.
    Wait(Duration),
}

/// The search for the leader of one shard during one call.
#[derive(Debug, Default)]
pub(crate) struct Hunt {
    /// Asked in this round; what they said still holds.
    tried: BTreeSet<String>,
    /// Asked in this round, and took long: they are asked once a round.
    slow: BTreeSet<String>,
    /// When the try under way began.
    began: Option<Instant>,
    hint: Option<String>,
    backoff: Backoff,
    refreshed_for: u64,
}

impl Hunt {
    /// Where to try next, given the shard's replicas with the best guess first. `None` when there
    /// are none.
    pub(crate) fn target(&mut self, replicas: &[String]) -> Option<String> {
        self.began = Some(Instant::now());
        if let Some(hint) = &self.hint {
            return Some(hint.clone());
        }
        let fresh = replicas.iter().find(|r| self.is_fresh(r));
        fresh.or(replicas.first()).cloned()
    }

    /// Whether a node is still to be asked in this round.
    fn is_fresh(&self, addr: &str) -> bool {
        !self.tried.contains(addr) && !self.slow.contains(addr)
    }

    /// Takes note that a node was asked in this round.
    fn asked(&mut self, addr: &str, slow: bool) {
        let asked = match slow {
            true => &mut self.slow,
            false => &mut self.tried,
        };
        asked.insert(addr.to_owned());
    }

    /// Takes note of a failure at `addr` while the shard has these replicas.
    pub(crate) fn failed(
        &mut self,
        wiring: &Wiring,
        addr: &str,
        replicas: &[String],
        error: &Error,
    ) -> Step {
        self.hint = None;
        let slow = self.began.take().is_some_and(|at| at.elapsed() >= OLD);
        if slow {
            self.tried.clear();
        }
        match advice(error) {
            Advice::Fail => Step::Fail,
            Advice::Later(at_least) => {
                rare::hit(Rare::NodeBusy);
                let pause = self.backoff.next(wiring, BACKOFF_MAX);
                Step::Wait(pause.max(at_least.min(RETRY_AFTER_MAX)))
            }
            Advice::Refresh(version) => {
                rare::hit(Rare::MapTooOld);
                if version > self.refreshed_for {
                    self.refreshed_for = version;
                    return Step::Refresh(version);
                }
                // The new map did not help, or the node has none itself yet: the nodes do not
                // agree.
                Step::Wait(self.backoff.next(wiring, BACKOFF_MAX))
            }
            Advice::Follow { addr: hint, .. } if hint != addr && self.is_fresh(&hint) => {
                self.asked(addr, slow);
                self.hint = Some(hint);
                rare::hit(Rare::LeaderHintFollowed);
                Step::Now
            }
            Advice::Follow { .. } | Advice::Elsewhere => {
                self.asked(addr, slow);
                if replicas.iter().any(|r| self.is_fresh(r)) {
                    return Step::Now;
                }
                self.tried.clear();
                self.slow.clear();
                rare::hit(Rare::AllReplicasTried);
                Step::Wait(self.backoff.next(wiring, BACKOFF_ELECTION))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    fn wiring() -> Wiring {
        Wiring {
            entropy: Arc::new(|out: &mut [u8]| out.fill(0xff)),
            ..Wiring::real()
        }
    }

    fn message() -> String {
        String::new()
    }

    #[test]
    fn the_table_of_what_is_worth_another_try() {
        let follow = Advice::Follow {
            node: 2,
            addr: "b:1".into(),
        };
        let hinted = |addr: &str| Error::WrongLeader {
            leader_node: 2,
            leader_addr: addr.into(),
            message: message(),
        };
        let pause = Duration::from_millis(70);
        let busy = Error::Busy {
            retry_after: pause,
            message: message(),
        };
        let table = [
            (hinted("b:1"), follow),
            (hinted(""), Advice::Elsewhere),
            (Error::StalePlacement { version: 4 }, Advice::Refresh(4)),
            (busy, Advice::Later(pause)),
            (Error::Unavailable { message: message() }, Advice::Elsewhere),
            (Error::Transport { message: message() }, Advice::Elsewhere),
            (Error::Deadline { message: message() }, Advice::Elsewhere),
            (
                Error::NotInitialized { message: message() },
                Advice::Elsewhere,
            ),
            (Error::not_found("account", ""), Advice::Fail),
            (Error::bad_request("account", ""), Advice::Fail),
            (Error::ReadOnly { message: message() }, Advice::Fail),
            (Error::Corrupt { message: message() }, Advice::Fail),
            (Error::WrongCluster { message: message() }, Advice::Fail),
            (Error::Refused { message: message() }, Advice::Fail),
            (Error::Source { message: message() }, Advice::Fail),
        ];
        for (error, expected) in table {
            assert_eq!(advice(&error), expected, "{error:?}");
        }
    }

    #[test]
    fn a_dead_leader_sends_the_call_around_before_any_pause() {
        let replicas: Vec<String> = ["a:1", "b:1", "c:1"].map(String::from).to_vec();
        let gone = Error::Transport { message: message() };
        let lost = Error::WrongLeader {
            leader_node: 0,
            leader_addr: String::new(),
            message: message(),
        };
        let w = wiring();
        let mut hunt = Hunt::default();
        assert_eq!(hunt.target(&replicas).unwrap(), "a:1");
        assert_eq!(hunt.failed(&w, "a:1", &replicas, &gone), Step::Now);
        assert_eq!(hunt.target(&replicas).unwrap(), "b:1");
        assert_eq!(hunt.failed(&w, "b:1", &replicas, &lost), Step::Now);
        assert_eq!(hunt.target(&replicas).unwrap(), "c:1");
        let step = hunt.failed(&w, "c:1", &replicas, &lost);
        assert!(matches!(step, Step::Wait(p) if p <= BACKOFF_MIN));
        assert_eq!(hunt.target(&replicas).unwrap(), "a:1");
    }

    #[test]
    fn hints_are_followed_once_and_never_in_a_circle() {
        let replicas: Vec<String> = ["a:1", "b:1"].map(String::from).to_vec();
        let hint = |addr: &str| Error::WrongLeader {
            leader_node: 1,
            leader_addr: addr.into(),
            message: message(),
        };
        let w = wiring();
        let mut hunt = Hunt::default();
        // A node outside of the map that was just added.
        assert_eq!(hunt.failed(&w, "a:1", &replicas, &hint("n:1")), Step::Now);
        assert_eq!(hunt.target(&replicas).unwrap(), "n:1");
        assert_eq!(hunt.failed(&w, "n:1", &replicas, &hint("a:1")), Step::Now);
        assert_eq!(hunt.target(&replicas).unwrap(), "b:1");
        let step = hunt.failed(&w, "b:1", &replicas, &hint("n:1"));
        assert!(matches!(step, Step::Wait(_)));
    }

    #[tokio::test(start_paused = true)]
    async fn those_that_answer_are_asked_again_before_the_next_silent_node() {
        let replicas: Vec<String> = ["a:1", "b:1", "c:1", "d:1"].map(String::from).to_vec();
        let second = Duration::from_secs(1);
        let silent = Error::Transport { message: message() };
        let lost = |addr: &str| Error::WrongLeader {
            leader_node: 0,
            leader_addr: addr.into(),
            message: message(),
        };
        let w = wiring();
        let mut hunt = Hunt::default();
        let mut asked = Vec::new();
        loop {
            let addr = hunt.target(&replicas).unwrap();
            asked.push(addr.clone());
            let error = match addr.as_str() {
                "a:1" | "b:1" => lost(""),
                _ => {
                    tokio::time::sleep(second).await;
                    silent.clone()
                }
            };
            if let Step::Wait(_) = hunt.failed(&w, &addr, &replicas, &error) {
                break;
            }
        }
        let round = ["a:1", "b:1", "c:1", "a:1", "b:1", "d:1", "a:1", "b:1"];
        assert_eq!(asked, round);
        // The next round begins with the best guess again.
        assert_eq!(hunt.target(&replicas).unwrap(), "a:1");

        // Who is said to lead after a long silence is asked, though it has said no before it.
        let mut hunt = Hunt::default();
        assert_eq!(hunt.target(&replicas).unwrap(), "a:1");
        assert_eq!(hunt.failed(&w, "a:1", &replicas, &lost("")), Step::Now);
        assert_eq!(hunt.target(&replicas).unwrap(), "b:1");
        tokio::time::sleep(second).await;
        assert_eq!(hunt.failed(&w, "b:1", &replicas, &lost("a:1")), Step::Now);
        assert_eq!(hunt.target(&replicas).unwrap(), "a:1");
    }

    #[test]
    fn pauses_grow_to_their_bound_and_listen_to_the_node() {
        let w = wiring();
        let mut backoff = Backoff::default();
        let mut last = Duration::ZERO;
        for _ in 0..40 {
            let pause = backoff.next(&w, BACKOFF_MAX);
            assert!(pause >= BACKOFF_MIN / 2 && pause <= BACKOFF_MAX);
            last = last.max(pause);
        }
        assert!(last > BACKOFF_MAX / 2);

        let replicas = vec!["a:1".to_owned()];
        let mut hunt = Hunt::default();
        let busy = |ms| Error::Busy {
            retry_after: Duration::from_millis(ms),
            message: message(),
        };
        let step = hunt.failed(&w, "a:1", &replicas, &busy(900));
        assert_eq!(step, Step::Wait(Duration::from_millis(900)));
        assert_eq!(hunt.target(&replicas).unwrap(), "a:1");
        let step = hunt.failed(&w, "a:1", &replicas, &busy(u64::MAX));
        assert_eq!(step, Step::Wait(RETRY_AFTER_MAX));
    }

    #[test]
    fn a_map_is_fetched_once_for_one_version() {
        let w = wiring();
        let replicas = vec!["a:1".to_owned()];
        let mut hunt = Hunt::default();
        let stale = |version| Error::StalePlacement { version };
        assert_eq!(
            hunt.failed(&w, "a:1", &replicas, &stale(5)),
            Step::Refresh(5)
        );
        let step = hunt.failed(&w, "a:1", &replicas, &stale(5));
        assert!(matches!(step, Step::Wait(_)));
        assert_eq!(
            hunt.failed(&w, "a:1", &replicas, &stale(6)),
            Step::Refresh(6)
        );
    }
}
