//! The door over a store in memory: whole dialogues.

mod ahead;
mod changes;
mod client;
mod dialogue;
mod extensions;
mod fake;
mod notify;
mod random;
