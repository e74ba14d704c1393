//! Byte windows: the bound on what is in flight.
//!
//! Queues bounded in entries are not bounded in memory when an entry may be a megabyte, so every
//! window here counts octets. Past the bound a caller waits shortly and then hears "busy": an
//! early, clear answer instead of a silent time-out.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::error::{MailboxError, Result};
use super::limits::Limits;

/// Octets that may be in flight at once.
pub struct ByteWindow {
    semaphore: Arc<Semaphore>,
    capacity: usize,
}

impl ByteWindow {
    /// A window of `capacity_bytes`.
    pub fn new(capacity_bytes: usize) -> Arc<ByteWindow> {
        let capacity = capacity_bytes.clamp(1, u32::MAX as usize);
        Arc::new(ByteWindow {
            semaphore: Arc::new(Semaphore::new(capacity)),
            capacity,
        })
    }

    /// Octets that are not in flight.
    pub fn free_bytes(&self) -> usize {
        self.semaphore.available_permits()
    }

    /// Octets that are in flight.
    pub fn used_bytes(&self) -> usize {
        self.capacity - self.free_bytes()
    }

    async fn take(&self, bytes: usize) -> OwnedSemaphorePermit {
        // More than the whole window waits for the whole window.
        let bytes = bytes.min(self.capacity) as u32;
        Arc::clone(&self.semaphore)
            .acquire_many_owned(bytes)
            .await
            .expect("a window's semaphore is never closed")
    }
}

/// The windows that one call's octets pass: its connection's, then the node's.
#[derive(Clone)]
pub struct Windows {
    /// Of the node.
    pub node: Arc<ByteWindow>,
    /// Of the connection, where the caller is one.
    pub connection: Option<Arc<ByteWindow>>,
}

/// Octets in flight; dropping it gives the room back.
#[derive(Default)]
pub struct Held {
    permits: Vec<OwnedSemaphorePermit>,
}

impl Held {
    /// Adds the room of `other`.
    pub fn merge(&mut self, other: Held) {
        if self.permits.len() != other.permits.len() {
            self.permits.extend(other.permits);
            return;
        }
        for (mine, theirs) in self.permits.iter_mut().zip(other.permits) {
            mine.merge(theirs);
        }
    }
}

impl Windows {
    /// Room for `bytes`, or busy after a short wait.
    pub async fn take(&self, bytes: usize, limits: &Limits) -> Result<Held> {
        if bytes == 0 {
            return Ok(Held::default());
        }
        let both = async {
            let mut permits = Vec::with_capacity(2);
            // The connection first: one greedy connection must not hold the node's window while
            // it waits for its own.
            if let Some(connection) = &self.connection {
                permits.push(connection.take(bytes).await);
            }
            permits.push(self.node.take(bytes).await);
            Held { permits }
        };
        tokio::time::timeout(limits.window_wait, both)
            .await
            .map_err(|_| MailboxError::Busy {
                retry_after_ms: limits.retry_after_ms,
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_full_window_answers_busy_and_a_freed_one_lets_in() {
        let limits = Limits {
            window_wait: std::time::Duration::from_millis(20),
            ..Limits::default()
        };
        let windows = Windows {
            node: ByteWindow::new(100),
            connection: Some(ByteWindow::new(60)),
        };
        let first = windows.take(50, &limits).await.unwrap();
        assert!(matches!(
            windows.take(20, &limits).await,
            Err(MailboxError::Busy { .. })
        ));
        // The failed attempt left nothing behind.
        assert_eq!(windows.node.free_bytes(), 50);
        drop(first);
        let mut held = windows.take(30, &limits).await.unwrap();
        held.merge(windows.take(30, &limits).await.unwrap());
        assert_eq!(windows.node.free_bytes(), 40);
        drop(held);
        // More than the window is let in alone, never starved for ever.
        let all = windows.take(1_000, &limits).await.unwrap();
        assert_eq!(windows.node.free_bytes(), 0);
        drop(all);
        assert_eq!(windows.node.free_bytes(), 100);
    }
}
