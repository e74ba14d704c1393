//! From the task that makes batches to the stream that hands them out.
//!
//! The stream carries the task in itself: it runs only while the stream is read, is dropped with
//! it, and outlives nothing. One finished batch may wait, so that the next one is in the making
//! while it is sent.

use futures::channel::mpsc;
use futures::stream::{Stream, poll_fn};
use futures::{FutureExt, SinkExt, StreamExt};
use std::future::Future;
use std::task::Poll;

use super::{FetchBatch, Item, Opening};
use crate::index::values::MessageRow;
use crate::mailbox::{MailboxError, Result};
use crate::types::Uid;

/// Octets of a batch: a batch of this size is sent.
const BATCH_BYTES: usize = 192 << 10;
/// Octets of a batch that nothing more is added to when it would become larger.
const MAX_BATCH_BYTES: usize = 320 << 10;
/// What a row comes to with all columns.
const ROW_BYTES: usize = 40;
/// What an item that was left out of a size estimate costs.
const ITEM_BYTES: usize = 16;

/// Collects items into batches.
pub(super) struct Out {
    batches: mpsc::Sender<FetchBatch>,
    batch: FetchBatch,
    bytes: usize,
}

impl Out {
    /// Adds an item of about `bytes` octets; waits while nobody takes the batches.
    pub(super) async fn push(&mut self, item: Item, bytes: usize) -> Result<()> {
        if self.bytes > 0 && self.bytes + bytes > MAX_BATCH_BYTES {
            self.send().await?;
        }
        self.batch.items.push(item);
        self.bytes += bytes + ITEM_BYTES;
        if self.bytes >= BATCH_BYTES {
            self.send().await?;
        }
        Ok(())
    }

    /// Adds a row.
    pub(super) async fn row(&mut self, uid: Uid, row: MessageRow) -> Result<()> {
        self.bytes += ROW_BYTES + 3 * row.keywords.len();
        self.batch.rows.push((uid, row));
        if self.bytes >= BATCH_BYTES {
            self.send().await?;
        }
        Ok(())
    }

    /// Says what a reader needs to know before the following items.
    pub(super) async fn open(&mut self, opening: Opening) -> Result<()> {
        if !(self.batch.items.is_empty() && self.batch.rows.is_empty()) {
            self.send().await?;
        }
        self.batch.opening = Some(opening);
        Ok(())
    }

    /// Sends what is left.
    pub(super) async fn finish(mut self) -> Result<()> {
        match self.batch == FetchBatch::default() {
            true => Ok(()),
            false => self.send().await,
        }
    }

    async fn send(&mut self) -> Result<()> {
        let batch = std::mem::take(&mut self.batch);
        // The next batch is as large as this one, most likely.
        self.batch.items.reserve(batch.items.len());
        self.batch.rows.reserve(batch.rows.len());
        self.bytes = 0;
        // Not waiting until it is taken: what follows is read meanwhile.
        let sent = self.batches.feed(batch).await;
        sent.map_err(|_| MailboxError::Unavailable("nobody reads any more".to_owned()))
    }
}

/// A collector whose first batch begins with `opening`, and where its batches come out.
pub(super) fn channel(opening: Opening) -> (Out, mpsc::Receiver<FetchBatch>) {
    let (batches, ready) = mpsc::channel(0);
    let batch = FetchBatch {
        opening: Some(opening),
        ..FetchBatch::default()
    };
    let out = Out {
        batches,
        batch,
        bytes: 0,
    };
    (out, ready)
}

/// The batches that `work` makes, and its error after them.
pub(super) fn stream<F>(
    mut ready: mpsc::Receiver<FetchBatch>,
    work: F,
) -> impl Stream<Item = Result<FetchBatch>> + Send + use<F>
where
    F: Future<Output = Result<()>> + Send + 'static,
{
    let mut work = Some(work.boxed());
    let mut failed = None;
    poll_fn(move |cx| {
        if let Some(running) = &mut work
            && let Poll::Ready(result) = running.poll_unpin(cx)
        {
            work = None;
            failed = result.err();
        }
        match ready.poll_next_unpin(cx) {
            Poll::Ready(Some(batch)) => Poll::Ready(Some(Ok(batch))),
            // The work is over, and with it the sender.
            Poll::Ready(None) => Poll::Ready(failed.take().map(Err)),
            Poll::Pending => Poll::Pending,
        }
    })
}
