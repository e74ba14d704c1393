//! What a run came to.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::plan::Plan;

/// Something that must not happen, and did.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Violation {
    /// Name of the invariant.
    pub invariant: String,
    /// When it was seen, ms of simulated time since the start of the run.
    pub at_ms: u64,
    /// What happened, with names and numbers.
    pub what: String,
    /// Node of the plan, where one is concerned.
    pub node: Option<u32>,
}

/// Something to draw on the timeline of a report.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// ms of simulated time since the start of the run.
    pub at_ms: u64,
    /// Which lane: a node of the plan; `None`: clients and the run itself.
    pub node: Option<u32>,
    /// What.
    pub kind: EventKind,
}

/// What can be on a timeline.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum EventKind {
    /// A phase of the run begins.
    Phase {
        /// `form`, `faults`, `majority`, `heal`, `check`.
        name: String,
    },
    /// A process started; `incarnation` counts its lives.
    Started {
        /// Which life.
        incarnation: u32,
    },
    /// It serves.
    Serving,
    /// It died, stopped or gave up.
    Ended {
        /// Why.
        why: String,
    },
    /// A replica's role in a shard changed.
    Role {
        /// Shard.
        shard: u32,
        /// `leader`, `follower`, `candidate`, `learner`.
        role: String,
        /// Term.
        term: u64,
    },
    /// A fault begins or was held back.
    Fault {
        /// Index in the plan.
        fault: u32,
        /// In words.
        what: String,
        /// When it ends, where it lasts.
        until_ms: Option<u64>,
        /// Why it was held back, when it was.
        held_back: Option<String>,
    },
    /// A call of a client came to its end.
    Call {
        /// Index of the operation in the plan, if it is one of the plan.
        op: Option<u32>,
        /// Client.
        client: u32,
        /// In words.
        what: String,
        /// When it began.
        called_ms: u64,
        /// `acknowledged`, `refused` or `unknown`.
        answer: String,
    },
    /// An invariant was violated.
    Violation {
        /// Which.
        invariant: String,
        /// How.
        what: String,
    },
}

/// Accounts by what a judge could say of them, by the judge's name: `judged`, or why not, or not of
/// all of it.
pub type Judged = BTreeMap<String, BTreeMap<String, u64>>;

/// Counts of a run.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Stats {
    /// Simulated ms.
    pub simulated_ms: u64,
    /// Operations by their answer: `acknowledged`, `refused`, `unknown`.
    pub answers: BTreeMap<String, u64>,
    /// Faults that took effect, by kind.
    pub faults: BTreeMap<String, u64>,
    /// Faults held back.
    pub held_back: u64,
    /// Packets or messages delivered.
    pub packets: u64,
    /// Polls of tasks.
    pub polls: u64,
    /// Rare situations of the product, by name.
    pub rare: BTreeMap<String, u64>,
    /// How long the run waited for what must happen in time, by what it waited for, ms.
    #[serde(default)]
    pub waited_ms: BTreeMap<String, u64>,
    /// The most that was seen of what is bounded.
    #[serde(default)]
    pub peaks: BTreeMap<String, u64>,
    /// Of how many accounts the judges that may have to be silent could say something.
    #[serde(default)]
    pub judged: Judged,
}

/// The result of one run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    /// What was run.
    pub plan: Plan,
    /// What went wrong, the first one first. Empty: the run passed.
    pub violations: Vec<Violation>,
    /// The timeline.
    pub events: Vec<Event>,
    /// Counts.
    pub stats: Stats,
    /// Hash over every event and every poll of a task, hexadecimal: equal runs have equal hashes.
    pub trace_hash: String,
}

impl Outcome {
    /// Whether nothing went wrong.
    pub fn passed(&self) -> bool {
        self.violations.is_empty()
    }
}
