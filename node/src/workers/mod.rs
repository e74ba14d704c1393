//! The paced loops beside the flow of data, each visible with its state.
//!
//! Architecture invariant: a worker ends with its node; it holds no state that a restart must keep.

pub mod compaction;
pub mod leaders;
pub mod missing;
pub mod persist;
pub mod placement;
pub mod reap;
pub mod recall;
pub mod refs;
pub mod scrub;
pub mod space;
pub mod transfers;

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::env::clock::Clock;

/// What a worker is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WorkerState {
    /// Nothing to do until its next turn.
    Idle,
    /// At work.
    Busy,
    /// Its last turn failed; it tries again.
    Failed,
}

impl WorkerState {
    /// As the API says it.
    pub fn as_str(self) -> &'static str {
        match self {
            WorkerState::Idle => "idle",
            WorkerState::Busy => "busy",
            WorkerState::Failed => "failed",
        }
    }
}

/// What is known of a worker.
#[derive(Debug, Clone)]
pub struct WorkerInfo {
    /// What it does now.
    pub state: WorkerState,
    /// The outcome of its last turn that did something.
    pub detail: String,
    /// Turns taken.
    pub runs: u64,
    /// Wall clock of the last turn, ms.
    pub last_run_ms: u64,
    /// Why the last turn failed; empty when it did not.
    pub last_error: String,
}

/// All workers of a node.
#[derive(Clone)]
pub struct Workers {
    clock: Arc<dyn Clock>,
    stop: CancellationToken,
    infos: Arc<Mutex<BTreeMap<&'static str, WorkerInfo>>>,
    tasks: Arc<Mutex<JoinSet<()>>>,
}

impl Workers {
    /// None yet. All end when `stop` is cancelled.
    pub fn new(clock: Arc<dyn Clock>, stop: CancellationToken) -> Workers {
        Workers {
            clock,
            stop,
            infos: Arc::default(),
            tasks: Arc::default(),
        }
    }

    /// Runs `turn` every `pace`, the first time at once. It answers what it did, if anything.
    pub fn every<F, Fut>(&self, name: &'static str, pace: Duration, turn: F)
    where
        F: FnMut() -> Fut + Send + 'static,
        Fut: Future<Output = anyhow::Result<Option<String>>> + Send,
    {
        self.every_or_when(name, pace, Arc::default(), turn);
    }

    /// The same, and whenever `wake` is told.
    pub fn every_or_when<F, Fut>(
        &self,
        name: &'static str,
        pace: Duration,
        wake: Arc<Notify>,
        mut turn: F,
    ) where
        F: FnMut() -> Fut + Send + 'static,
        Fut: Future<Output = anyhow::Result<Option<String>>> + Send,
    {
        let this = self.clone();
        self.infos.lock().insert(
            name,
            WorkerInfo {
                state: WorkerState::Idle,
                detail: String::new(),
                runs: 0,
                last_run_ms: 0,
                last_error: String::new(),
            },
        );
        self.tasks.lock().spawn(async move {
            loop {
                this.note(name, |i| i.state = WorkerState::Busy);
                let outcome = tokio::select! {
                    () = this.stop.cancelled() => return,
                    outcome = turn() => outcome,
                };
                let now_ms = this.clock.now_ms();
                this.note(name, |i| {
                    i.runs += 1;
                    i.last_run_ms = now_ms;
                    match outcome {
                        Ok(did) => {
                            i.state = WorkerState::Idle;
                            i.last_error.clear();
                            if let Some(did) = did {
                                i.detail = did;
                            }
                        }
                        Err(e) => {
                            i.state = WorkerState::Failed;
                            let text = format!("{e:#}");
                            if i.last_error != text {
                                tracing::warn!(worker = name, "{text}");
                            }
                            i.last_error = text;
                        }
                    }
                });
                tokio::select! {
                    () = this.stop.cancelled() => return,
                    () = wake.notified() => {}
                    () = tokio::time::sleep(pace) => {}
                }
            }
        });
    }

    fn note(&self, name: &'static str, change: impl FnOnce(&mut WorkerInfo)) {
        if let Some(info) = self.infos.lock().get_mut(name) {
            change(info);
        }
    }

    /// What all of them are doing.
    pub fn list(&self) -> Vec<(&'static str, WorkerInfo)> {
        self.infos
            .lock()
            .iter()
            .map(|(name, info)| (*name, info.clone()))
            .collect()
    }

    /// Waits until all have ended; `stop` must have been cancelled.
    pub async fn join(&self) {
        let mut tasks = std::mem::take(&mut *self.tasks.lock());
        while tasks.join_next().await.is_some() {}
    }
}
