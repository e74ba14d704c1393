//! What must always hold, one invariant a file, each with its source.
//!
//! An invariant sees the history as it grows ([`Invariant::record`]), the nodes every so often
//! ([`Invariant::look`]) and, once everything has healed and converged, the end
//! ([`Invariant::end`]). It reports what it finds to [`Findings`] and never stops the run itself.
//!
//! That the cluster lives (a healthy majority acknowledges in time, everything converges and ends) is no
//! property of what was seen so far, but of what happens next when something is asked: the phases of a
//! run ask for it (`run/majority.rs`, `run/phases.rs`, `run/rest.rs`).

pub mod acknowledged;
pub mod blobs;
pub mod bounds;
pub mod clients;
pub mod crossing;
pub mod deadlines;
pub mod followers;
pub mod linear;
pub mod once;
pub mod raft;
pub mod replicas;
pub mod resurrection;
pub mod sessions;
pub mod story;
pub mod uids;

use crate::history::Record;
use crate::outcome::{Judged, Violation};

/// Collects violations.
#[derive(Debug, Default)]
pub struct Findings {
    /// What was found so far.
    pub violations: Vec<Violation>,
    /// The present, ms of simulated time since the start of the run.
    pub now_ms: u64,
    /// What was judged, and what was not: who reads only violations takes silence for praise.
    pub judged: Judged,
}

impl Findings {
    /// Reports a violation of `invariant`.
    pub fn report(&mut self, invariant: &str, node: Option<u32>, what: impl Into<String>) {
        self.violations.push(Violation {
            invariant: invariant.to_owned(),
            at_ms: self.now_ms,
            what: what.into(),
            node,
        });
    }

    /// Counts an account of which `invariant` could say so much: [`JUDGED`], or why not.
    pub fn judged(&mut self, invariant: &str, said: &str) {
        let of = self.judged.entry(invariant.to_owned()).or_default();
        *of.entry(said.to_owned()).or_default() += 1;
    }
}

/// Of an account of which everything was judged.
pub const JUDGED: &str = "judged";
/// Of one that is not judged, since clocks may take the store past what it remembers.
pub const PAST_WINDOW: &str = "skipped (clocks beyond the window)";

/// Something that must always hold of what clients see.
pub trait Invariant {
    /// Its name in reports.
    fn name(&self) -> &'static str;

    /// A call of a client came to its end. Records come in the order in which calls end.
    fn record(&mut self, record: &Record, found: &mut Findings) {
        let _ = (record, found);
    }

    /// Everything has healed, and the final reading of all accounts is in the history:
    /// `history` is all of it.
    fn end(&mut self, history: &[Record], found: &mut Findings) {
        let _ = (history, found);
    }
}
