//! Where the doors in this process put large messages that are still on their way in.

use std::path::Path;
use std::sync::Arc;

use posthouse_gateway::spool::{Spool, TempSpool};

/// Gives spools.
pub trait Spools: Send + Sync {
    /// A spool beside the data in `dir`.
    fn open(&self, dir: &Path) -> Arc<dyn Spool>;
}

/// Anonymous files in the data directory.
pub struct TempSpools;

impl Spools for TempSpools {
    fn open(&self, dir: &Path) -> Arc<dyn Spool> {
        Arc::new(TempSpool::new(dir))
    }
}
