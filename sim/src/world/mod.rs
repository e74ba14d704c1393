//! The simulated world: hosts, network, disks, clocks.

pub mod clock;
pub mod disk;
pub mod fence;
pub mod index;
pub mod rng;
