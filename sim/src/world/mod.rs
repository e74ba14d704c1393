//! The simulated world: hosts, network, disks, clocks.

pub mod fence;
