//! Who holds what: the node's cached copy of the system shard's answer ([`map`]), and the pure
//! planning of what it should become ([`plan`]). Workers carry plans out.
//!
//! Architecture invariant: nothing here does I/O.

pub mod map;
pub mod plan;

pub use map::PlacementMap;
