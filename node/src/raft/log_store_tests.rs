//! openraft's own tests of a log store, those that need no state machine of theirs.

use std::sync::Arc;

use openraft::StorageError;
use openraft::testing::log::{StoreBuilder, Suite};
use tokio::sync::mpsc;

use super::*;
use crate::env::Env;
use crate::index::Index;
use crate::index::keys::Space;
use crate::index::memory::MemoryStore;
use crate::journal::{Journal, Options};
use crate::raft::fault::Faults;
use crate::raft::marks::Recovered;
use crate::raft::state_machine::{Applied, Replicated, StateMachine};
use crate::types::*;

impl From<u64> for ReplicaId {
    fn from(n: u64) -> ReplicaId {
        ReplicaId(n)
    }
}

struct Builder;

impl StoreBuilder<TypeConfig, LogStore, StateMachine, tempfile::TempDir> for Builder {
    async fn build(
        &self,
    ) -> Result<(tempfile::TempDir, LogStore, StateMachine), StorageError<TypeConfig>> {
        let dir = tempfile::tempdir().unwrap();
        let env = Env::real();
        let opened = Journal::open(&env, dir.path(), Options::default()).await;
        let journal = Arc::new(opened.unwrap().0);
        journal.set_checkpoint(Box::new(Vec::new));
        let (shard, replica) = (ShardId(1), ReplicaId(1));
        // No cache: every entry that is synced is read from the journal.
        let log = Log::new(shard, replica, journal, 0, Recovered::default());
        let log = Arc::new(log);
        let index: Arc<dyn Index> = MemoryStore::default().open();
        let shared = Arc::new(Replicated::new(shard, index, None));
        let applied = Applied {
            replica,
            log_id: None,
            membership: StoredMembership::default(),
        };
        let machine = StateMachine::new(
            shared,
            Arc::clone(&log),
            Space::FIRST,
            applied,
            mpsc::unbounded_channel().0,
            Faults::default(),
        );
        Ok((dir, LogStore::new(log, None), machine))
    }
}

type Theirs = Suite<TypeConfig, LogStore, StateMachine, Builder, tempfile::TempDir>;

macro_rules! theirs {
    ($($name:ident),* $(,)?) => {
        $(#[tokio::test]
        async fn $name() {
            let (_dir, log, machine) = Builder.build().await.unwrap();
            Theirs::$name(log, machine).await.unwrap();
        })*
    };
}

theirs!(
    last_membership_in_log_initial,
    last_membership_in_log_multi_step,
    get_membership_initial,
    get_initial_state_without_init,
    save_vote,
    get_log_entries,
    limited_get_log_entries,
    leader_bounded_stream,
    entries_stream,
    try_get_log_entry,
    log_reader_reads_new_entries,
    initial_logs,
    get_log_state,
    get_log_id,
    purge_logs_upto_0,
    purge_logs_upto_5,
    purge_logs_upto_20,
    delete_logs_after_11,
    delete_logs_after_5,
    delete_logs_after_0,
    delete_logs_after_none,
    append_to_log,
);
