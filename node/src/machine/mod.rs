//! The replicated state machine: pure and deterministic.
pub mod command;
