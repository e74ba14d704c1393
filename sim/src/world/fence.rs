//! What keeps a dead process from touching the world: its destructors still run, and so does the
//! rest of the slice of time in which it died.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// One life of one process. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Fence(Arc<AtomicBool>);

impl Fence {
    /// Whether the process is dead: whatever it still asks for never answers.
    pub fn is_dead(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// The process is dead.
    pub fn kill(&self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
