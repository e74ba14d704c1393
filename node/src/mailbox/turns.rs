//! Computations that last long: off the threads that serve everybody, and a few at a time.
//!
//! The threads that they run on are those of the disk, too, so whoever asks for many of them must
//! not get all of those.

use std::sync::Arc;

use tokio::sync::{Semaphore, oneshot};

use super::error::{MailboxError, Result};
use crate::env::compute::Compute;

/// Octets that are read in about the time that it takes to hand them over to another thread and back;
/// those that are made to take long, in a millisecond.
const HERE_BYTES: usize = 2 << 10;

/// Lets computations of one kind run in the order in which they were asked for.
pub struct Turns {
    compute: Arc<dyn Compute>,
    /// A permit is held by each that runs.
    pub(super) free: Arc<Semaphore>,
}

impl Turns {
    /// So many at the same time.
    pub fn new(compute: &Arc<dyn Compute>, at_once: usize) -> Turns {
        Turns {
            compute: Arc::clone(compute),
            free: Arc::new(Semaphore::new(at_once)),
        }
    }

    /// Computes something when its turn has come.
    pub async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T> {
        let stopping = || MailboxError::Unavailable("this node is stopping".into());
        let turn = Arc::clone(&self.free).acquire_owned().await;
        let turn = turn.map_err(|_| stopping())?;
        let (done, result) = oneshot::channel();
        // The turn goes along: work that nobody waits for any more still takes its time.
        let work = Box::new(move || {
            let found = work();
            drop(turn);
            let _ = done.send(found);
        });
        self.compute.run(work).await;
        result.await.map_err(|_| stopping())
    }

    /// Reads so many octets: few of them here and now.
    pub async fn read<T: Send + 'static>(
        &self,
        bytes: usize,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T> {
        match bytes < HERE_BYTES {
            true => Ok(work()),
            false => self.run(work).await,
        }
    }
}
