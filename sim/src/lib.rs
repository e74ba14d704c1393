//! The simulator: whole Posthouse clusters in one process, in simulated time, under every fault.
//!
//! ```text
//!  seed ──▶ plan (data: topology, settings, operations, faults) ◀── scenario, file, shrink
//!             │
//!             ▼
//!  run ──▶ world (hosts on their own paused runtimes, network, disks, clocks, index)
//!    │        ▲ posthouse_node::Node::start, posthouse_client, the LMTP door: the shipped code
//!    ├──▶ chaos      carries the plan's faults out, within the budget
//!    ├──▶ workload   carries the plan's operations out, writes the history
//!    └──▶ invariants look at history and nodes ──▶ outcome ──▶ report, shrink, exit code
//! ```
//!
//! Architecture invariant: everything that a run does follows from its plan; nothing here reads an
//! operating system's clock or entropy, but for the speed of the simulator itself.
#![deny(missing_docs)]

pub mod cli;
pub mod history;
pub mod invariants;
pub mod outcome;
pub mod plan;
pub mod report;
pub mod run;
pub mod scenario;
pub mod shrink;
pub mod stream;
pub mod trace;
pub mod version;
pub mod workload;
pub mod world;
