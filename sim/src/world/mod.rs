//! The simulated world: hosts, network, disks, clocks.
//!
//! ```text
//!            ┌───────── queue: packets, time-outs, ends of faults, in order of time ─────────┐
//!  slice:    │ what is due happens ─▶ host 0 runs until the slice's end ─▶ host 1 ─▶ … ─▶ dead│
//!            └───────────────────────────────────────────────────────────── processes end ───┘
//! ```
//!
//! A slice is as long as the shortest way between two hosts, so that nothing that one host does in
//! it can reach another before the next (conservative simulation: Chandy and Misra 1979).

pub mod bytes;
pub mod clock;
pub mod disk;
pub mod fence;
pub mod host;
pub mod index;
pub mod link;
pub mod log;
pub mod message;
pub mod net;
pub mod pipe;
pub mod queue;
pub mod rng;
pub mod stage;
pub mod turn;

use std::fmt;

/// A host of the world.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HostId(pub u32);

impl HostId {
    /// Where the clients run.
    pub const CLIENTS: HostId = HostId(0);

    /// Where a node of the plan runs.
    pub fn node(number: u32) -> HostId {
        HostId(number + 1)
    }

    /// Which node runs there.
    pub fn as_node(self) -> Option<u32> {
        self.0.checked_sub(1)
    }

    /// The host's address.
    pub fn ip(self) -> String {
        format!("10.0.{}.{}", self.0 >> 8, self.0 & 255)
    }

    /// The host of an address, `ip:port`.
    pub fn of(addr: &str) -> Option<HostId> {
        let (ip, _) = addr.rsplit_once(':')?;
        let rest = ip.strip_prefix("10.0.")?;
        let (high, low) = rest.split_once('.')?;
        Some(HostId(
            high.parse::<u32>().ok()? << 8 | low.parse::<u32>().ok()?,
        ))
    }
}

impl fmt::Display for HostId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.as_node() {
            Some(node) => write!(f, "node{node}"),
            None => f.write_str("clients"),
        }
    }
}
