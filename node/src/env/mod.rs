//! Everything that touches the world outside the process: wall clock, disk, network, randomness,
//! threads.
//!
//! The node reaches the world through [`Env`] alone, so that the simulator can run the very same
//! code on a simulated world. Timers are `tokio::time`, which the simulator pauses.
//!
//! Architecture invariant: outside this module (and RocksDB inside `index::rocks`) nothing in the
//! node reads a clock, opens a file or a socket, or draws a random number.

pub mod certificates;
pub mod clock;
pub mod compute;
pub mod disk;
pub mod net;
pub mod rng;
pub mod rpc;
pub mod runtime;
pub mod spool;

use std::sync::Arc;

use crate::index::IndexOpener;

/// The world as one node sees it.
#[derive(Clone)]
pub struct Env {
    /// Wall clock.
    pub clock: Arc<dyn clock::Clock>,
    /// Files of the data directory.
    pub disk: Arc<dyn disk::Disk>,
    /// Sockets.
    pub net: Arc<dyn net::Net>,
    /// How gRPC travels, over these sockets or otherwise.
    pub rpc: Arc<dyn rpc::Rpc>,
    /// Randomness.
    pub rng: Arc<dyn rng::Rng>,
    /// Opens the index of a data directory: RocksDB in production.
    pub index: Arc<dyn IndexOpener>,
    /// Room for messages on their way in through a door.
    pub spool: Arc<dyn spool::Spools>,
    /// Where long computations run.
    pub compute: Arc<dyn compute::Compute>,
    /// TLS of the doors.
    pub certificates: Arc<dyn certificates::Certificates>,
}

impl Env {
    /// The real world.
    #[cfg(feature = "rocksdb")]
    pub fn real() -> Env {
        Env::with_index(Arc::new(crate::index::rocks::RocksOpener))
    }

    /// The real world, except for where the index lives.
    pub fn with_index(index: Arc<dyn IndexOpener>) -> Env {
        let net: Arc<dyn net::Net> = Arc::new(net::TcpNet);
        Env {
            clock: Arc::new(clock::SystemClock),
            disk: Arc::new(disk::RealDisk),
            rpc: Arc::new(rpc::Http2::new(Arc::clone(&net))),
            net,
            rng: Arc::new(rng::OsRng),
            index,
            spool: Arc::new(spool::TempSpools),
            compute: Arc::new(compute::Threads),
            certificates: Arc::new(certificates::CertificateFiles),
        }
    }
}
