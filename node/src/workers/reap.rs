//! Removes, in steps, what was deleted as a whole: rows of deleted accounts and mailboxes, and the
//! chunks of arrivals that broke off when their leader died. Only the leader of a shard proposes;
//! what is left to do stands in the rows, so a new leader goes on where the last one ended.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::time::Instant;

use crate::env::clock::Clock;
use crate::machine::command::{Command, Op, Reply};
use crate::machine::read;
use crate::raft::{Shard, Shards};
use crate::types::ShardId;

/// Messages that one step removes at most.
const STEP: u32 = 500;
/// Steps that one turn takes at most, so that deletions never crowd out mail.
const STEPS_PER_TURN: usize = 20;
/// An arrival that is older than this will never be finished: no call lasts so long.
const UPLOAD_MS: u64 = 24 * 3600 * 1000;

/// How often a leader looks for such arrivals.
const UPLOADS_EVERY: Duration = Duration::from_secs(3600);

/// Removes what was deleted.
pub struct Reap {
    shards: Arc<Shards>,
    clock: Arc<dyn Clock>,
    uploads: Mutex<BTreeMap<ShardId, Instant>>,
}

impl Reap {
    /// Over these replicas.
    pub fn new(shards: Arc<Shards>, clock: Arc<dyn Clock>) -> Reap {
        Reap {
            shards,
            clock,
            uploads: Mutex::default(),
        }
    }

    /// One turn over all data shards that are led here.
    pub async fn turn(&self) -> anyhow::Result<Option<String>> {
        let mut steps = 0;
        for shard in self.shards.all() {
            if shard.id() != ShardId::SYSTEM && shard.is_leader() {
                self.uploads(&shard).await?;
                steps += self.accounts(&shard).await?;
                steps += self.mailboxes(&shard).await?;
            }
        }
        Ok((steps > 0).then(|| format!("{steps} steps")))
    }

    async fn propose(&self, shard: &Shard, op: Op) -> anyhow::Result<Reply> {
        let command = Command {
            time_ms: self.clock.now_ms(),
            op,
        };
        Ok(shard.propose(command, Bytes::new()).await?)
    }

    async fn uploads(&self, shard: &Shard) -> anyhow::Result<()> {
        let last = *self
            .uploads
            .lock()
            .entry(shard.id())
            .or_insert_with(Instant::now);
        if last.elapsed() < UPLOADS_EVERY {
            return Ok(());
        }
        let before_ms = self.clock.now_ms().saturating_sub(UPLOAD_MS);
        self.propose(shard, Op::DropUploadsBefore { before_ms })
            .await?;
        self.uploads.lock().insert(shard.id(), Instant::now());
        Ok(())
    }

    async fn accounts(&self, shard: &Shard) -> anyhow::Result<usize> {
        let mut steps = 0;
        while steps < STEPS_PER_TURN {
            let rows = shard.local_view()?;
            let Some(account) = read::reapable(&*rows.view, rows.space)? else {
                break;
            };
            self.propose(
                shard,
                Op::ReapAccount {
                    account,
                    limit: STEP,
                },
            )
            .await?;
            steps += 1;
        }
        Ok(steps)
    }

    async fn mailboxes(&self, shard: &Shard) -> anyhow::Result<usize> {
        let mut steps = 0;
        while steps < STEPS_PER_TURN {
            let rows = shard.local_view()?;
            let found = read::reapable_mailbox(&*rows.view, rows.space)?;
            let Some((account, mailbox)) = found else {
                break;
            };
            let op = Op::ReapMailbox {
                account,
                mailbox,
                limit: STEP,
            };
            self.propose(shard, op).await?;
            steps += 1;
        }
        Ok(steps)
    }
}
