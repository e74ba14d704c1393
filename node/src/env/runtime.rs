//! The asynchronous runtime that openraft sees: tokio, with the node's own randomness.
//!
//! openraft draws its election time-outs from `AsyncRuntime::thread_rng`, a static function. Tasks
//! of a node therefore carry their node's [`Rng`] in a task-local value that spawned tasks
//! inherit, so that several nodes in one process each draw from their own source.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use openraft_rt::{AsyncRuntime, OptionalSend};
use openraft_rt_tokio::{
    TokioInstant, TokioMpsc, TokioMutex, TokioOneshot, TokioRuntime, TokioWatch,
};

use super::rng::{OsRng, Rng};

tokio::task_local! {
    static NODE_RNG: Arc<dyn Rng>;
}

/// Runs `future` with `rng` as the source of all randomness that openraft draws in it and in the
/// tasks that it spawns.
pub async fn with_rng<F: Future>(rng: Arc<dyn Rng>, future: F) -> F::Output {
    NODE_RNG.scope(rng, future).await
}

/// Tokio, with node-scoped randomness.
#[derive(Debug)]
pub struct NodeRuntime(TokioRuntime);

/// Randomness of the node that the current task belongs to.
pub struct NodeRng(Arc<dyn Rng>);

impl rand::TryRng for NodeRng {
    type Error = std::convert::Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Self::Error> {
        Ok(self.0.u64() as u32)
    }
    fn try_next_u64(&mut self) -> Result<u64, Self::Error> {
        Ok(self.0.u64())
    }
    fn try_fill_bytes(&mut self, out: &mut [u8]) -> Result<(), Self::Error> {
        self.0.fill(out);
        Ok(())
    }
}

impl AsyncRuntime for NodeRuntime {
    type JoinError = tokio::task::JoinError;
    type JoinHandle<T: OptionalSend + 'static> = tokio::task::JoinHandle<T>;
    type Sleep = tokio::time::Sleep;
    type Instant = TokioInstant;
    type TimeoutError = tokio::time::error::Elapsed;
    type Timeout<R, T: Future<Output = R> + OptionalSend> = tokio::time::Timeout<T>;
    type ThreadLocalRng = NodeRng;
    type Mpsc = TokioMpsc;
    type Watch = TokioWatch;
    type Oneshot = TokioOneshot;
    type Mutex<T: OptionalSend + 'static> = TokioMutex<T>;

    fn spawn<T>(future: T) -> Self::JoinHandle<T::Output>
    where
        T: Future + OptionalSend + 'static,
        T::Output: OptionalSend + 'static,
    {
        match NODE_RNG.try_with(Arc::clone) {
            Ok(rng) => tokio::spawn(NODE_RNG.scope(rng, future)),
            Err(_) => tokio::spawn(future),
        }
    }

    fn sleep(duration: Duration) -> Self::Sleep {
        TokioRuntime::sleep(duration)
    }
    fn sleep_until(deadline: Self::Instant) -> Self::Sleep {
        TokioRuntime::sleep_until(deadline)
    }
    fn timeout<R, F: Future<Output = R> + OptionalSend>(
        duration: Duration,
        future: F,
    ) -> Self::Timeout<R, F> {
        TokioRuntime::timeout(duration, future)
    }
    fn timeout_at<R, F: Future<Output = R> + OptionalSend>(
        deadline: Self::Instant,
        future: F,
    ) -> Self::Timeout<R, F> {
        TokioRuntime::timeout_at(deadline, future)
    }
    fn is_panic(join_error: &Self::JoinError) -> bool {
        TokioRuntime::is_panic(join_error)
    }
    fn thread_rng() -> Self::ThreadLocalRng {
        NodeRng(
            NODE_RNG
                .try_with(Arc::clone)
                .unwrap_or_else(|_| Arc::new(OsRng)),
        )
    }

    fn new(threads: usize) -> Self {
        NodeRuntime(TokioRuntime::new(threads))
    }
    fn block_on<F, T>(&mut self, future: F) -> T
    where
        F: Future<Output = T>,
    {
        self.0.block_on(future)
    }
}
