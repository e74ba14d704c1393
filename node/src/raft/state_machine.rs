//! openraft's state machine: feeds committed entries to the pure machine, one index batch for all
//! entries that are committed together.
//!
//! Architecture invariant: the index never overtakes the journal. openraft may hand over an entry
//! that a quorum has flushed but this node has not; so every batch first waits until its last
//! entry is synced here, and only then takes the location of its octets.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use futures::{Stream, StreamExt};
use openraft::EntryPayload;
use openraft::entry::RaftEntry;
use openraft::storage::{EntryResponder, RaftSnapshotBuilder, RaftStateMachine};
use serde::{Deserialize, Serialize};
use tokio::sync::{Mutex, mpsc, watch};

use super::fault::Faults;
use super::log::Log;
use super::types::*;
use crate::index::keys::{Key, Space};
use crate::index::{Batch, Family, Index, IndexError, View};
use crate::machine::command::Reply;
use crate::machine::{self, Event, Txn};
use crate::types::*;

/// Entries and octets that become one index batch at the most.
const BATCH_ENTRIES: usize = 512;
const BATCH_BYTES: usize = 8 << 20;

/// What a space says of the replica that it belongs to: the value of [`Key::Applied`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Applied {
    /// The replica.
    pub replica: ReplicaId,
    /// Its last applied entry.
    pub log_id: Option<LogId>,
    /// The last applied membership.
    pub membership: StoredMembership,
}

impl Applied {
    /// Reads it from the rows of `space`.
    pub fn load(view: &dyn View, space: Space) -> Result<Option<Applied>, IndexError> {
        let Some(row) = view.get(Family::Local, &Key::Applied.encode(space))? else {
            return Ok(None);
        };
        let applied = postcard::from_bytes(&row).map_err(|e| {
            IndexError::Corrupt(format!("row of what space {} applied: {e}", space.0))
        })?;
        Ok(Some(applied))
    }

    /// Writes it along with `batch`.
    pub fn save(&self, batch: &mut Batch, space: Space) {
        let row = postcard::to_stdvec(self).expect("what is applied always encodes");
        batch.put(Family::Local, Key::Applied.encode(space), row);
    }
}

/// The space of a shard's replica on this node.
pub fn space_of(view: &dyn View, shard: ShardId) -> Result<Option<Space>, IndexError> {
    let row = view.get(Family::Local, &Key::ShardSpace(shard).encode(Space::NODE))?;
    row.map(|row| {
        let octets: [u8; 4] = row.as_ref().try_into().map_err(|_| {
            IndexError::Corrupt(format!(
                "row of shard {shard}'s space has {} octets",
                row.len()
            ))
        })?;
        Ok(Space(u32::from_be_bytes(octets)))
    })
    .transpose()
}

/// Removes all rows of a space that nothing points to any more; answers whether there were any.
pub fn purge_space(index: &dyn Index, space: Space) -> Result<bool, IndexError> {
    let mut any = false;
    while let Some(batch) = machine::rows::purge_step(index, space)? {
        index.write(batch)?;
        any = true;
    }
    Ok(any)
}

/// What other parts of the node see of a replica's state: shared with readers and workers.
pub struct Replicated {
    /// Which shard.
    pub shard: ShardId,
    /// The rows.
    pub index: Arc<dyn Index>,
    /// Held while rows of this replica change: by apply, by a snapshot's installation, and by
    /// whoever moves the location of a blob.
    pub apply_lock: Arc<Mutex<()>>,
    /// What is applied.
    pub applied: watch::Sender<Option<LogId>>,
    /// What is applied and durable.
    pub persisted: watch::Sender<Option<LogId>>,
    /// Whether the replica is gone, and its shard's row may be a successor's.
    gone: AtomicBool,
}

impl Replicated {
    /// What a replica starts with: `applied` is durable.
    pub fn new(shard: ShardId, index: Arc<dyn Index>, applied: Option<LogId>) -> Replicated {
        Replicated {
            shard,
            index,
            apply_lock: Arc::default(),
            applied: watch::Sender::new(applied),
            persisted: watch::Sender::new(applied),
            gone: AtomicBool::new(false),
        }
    }

    /// From here on the replica changes no row: its group has ended, but what that began last may
    /// still be waiting for the disk, or for its turn.
    pub async fn end(&self) {
        let _guard = self.apply_lock.lock().await;
        self.gone.store(true, Ordering::Relaxed);
    }

    /// Asked under the lock.
    fn still_there(&self) -> io::Result<()> {
        match self.gone.load(Ordering::Relaxed) {
            true => Err(io::Error::other(format!(
                "the replica of shard {} has been removed from this node",
                self.shard
            ))),
            false => Ok(()),
        }
    }
}

/// The state of one replica.
pub struct StateMachine {
    shared: Arc<Replicated>,
    log: Arc<Log>,
    space: Space,
    applied: Applied,
    events: mpsc::UnboundedSender<(ShardId, Vec<Event>)>,
    faults: Faults,
}

/// A snapshot on its way: out of this node, or into it.
pub enum SnapshotData {
    /// Rows of this node at one moment.
    Outgoing {
        /// The rows.
        view: Arc<dyn View>,
        /// Where they live.
        space: Space,
    },
    /// Rows received into a space of their own, complete and with all their blobs.
    Received {
        /// That space.
        space: Space,
    },
}

impl StateMachine {
    /// The state in `space`.
    pub fn new(
        shared: Arc<Replicated>,
        log: Arc<Log>,
        space: Space,
        applied: Applied,
        events: mpsc::UnboundedSender<(ShardId, Vec<Event>)>,
        faults: Faults,
    ) -> StateMachine {
        StateMachine {
            shared,
            log,
            space,
            applied,
            events,
            faults,
        }
    }

    fn index_error(&self, e: IndexError) -> io::Error {
        self.faults.index(&e);
        io::Error::other(e)
    }

    async fn apply_batch(&mut self, batch: Vec<EntryResponder<TypeConfig>>) -> io::Result<()> {
        let Some((last, _)) = batch.last() else {
            return Ok(());
        };
        self.log
            .wait_flushed(last.log_id().index())
            .await
            .map_err(io::Error::other)?;
        let lock = Arc::clone(&self.shared.apply_lock);
        let _guard = lock.lock().await;
        self.shared.still_there()?;

        let mut replies = Vec::with_capacity(batch.len());
        let view: &dyn View = &*self.shared.index;
        let mut txn = Txn::new(view, self.space, None);
        for (entry, responder) in batch {
            let log_id = entry.log_id();
            let reply = match entry.payload {
                EntryPayload::Blank => Reply::Done,
                EntryPayload::Membership(membership) => {
                    self.applied.membership = StoredMembership::new(Some(log_id), membership);
                    Reply::Done
                }
                EntryPayload::Normal(proposal) => {
                    let command = proposal.command().map_err(io::Error::other)?;
                    txn.set_stored_at(self.stored_at(log_id.index(), &proposal)?);
                    machine::apply(&mut txn, &command).map_err(|e| {
                        self.faults.index(&e);
                        io::Error::other(e)
                    })?
                }
            };
            self.applied.log_id = Some(log_id);
            if let Some(responder) = responder {
                replies.push((responder, reply));
            }
        }
        let (mut rows, events) = txn.finish();
        self.applied.save(&mut rows, self.space);
        self.shared
            .index
            .write(rows)
            .map_err(|e| self.index_error(e))?;
        self.shared.applied.send_replace(self.applied.log_id);
        if !events.is_empty() {
            let _ = self.events.send((self.shared.shard, events));
        }
        for (responder, reply) in replies {
            responder.send(reply);
        }
        Ok(())
    }

    fn stored_at(&self, index: u64, proposal: &Proposal) -> io::Result<Option<Location>> {
        if proposal.stored.is_empty() {
            // An empty chunk still needs a place; an empty part of its own entry is one.
            let place = self.log.place(index);
            return Ok(place.map(|p| p.part(stored_offset(proposal), 0)));
        }
        let place = self.log.place(index).ok_or_else(|| {
            io::Error::other(format!(
                "entry {index} is applied without a place in the journal"
            ))
        })?;
        Ok(Some(place.part(
            stored_offset(proposal),
            proposal.stored.len() as u32,
        )))
    }

    fn outgoing(
        &self,
    ) -> io::Result<
        openraft::storage::Snapshot<LeaderId, ReplicaId, openraft::EmptyNode, SnapshotData>,
    > {
        let view = self.shared.index.view();
        let applied = Applied::load(&*view, self.space).map_err(|e| self.index_error(e))?;
        let (log_id, membership) = match applied {
            Some(a) => (a.log_id, a.membership),
            None => (None, StoredMembership::default()),
        };
        Ok(openraft::storage::Snapshot {
            meta: SnapshotMeta {
                last_log_id: log_id,
                last_membership: membership,
            },
            snapshot: SnapshotData::Outgoing {
                view,
                space: self.space,
            },
        })
    }
}

impl RaftStateMachine<TypeConfig> for StateMachine {
    type SnapshotData = SnapshotData;
    type SnapshotBuilder = Builder;

    async fn applied_state(&mut self) -> io::Result<(Option<LogId>, StoredMembership)> {
        Ok((self.applied.log_id, self.applied.membership.clone()))
    }

    async fn apply<S>(&mut self, mut entries: S) -> io::Result<()>
    where
        S: Stream<Item = io::Result<EntryResponder<TypeConfig>>> + Unpin + Send,
    {
        let mut batch: Vec<EntryResponder<TypeConfig>> = Vec::new();
        let mut bytes = 0;
        while let Some(item) = entries.next().await {
            let item = item?;
            bytes += payload_len(&item.0);
            batch.push(item);
            if batch.len() >= BATCH_ENTRIES || bytes >= BATCH_BYTES {
                self.apply_batch(std::mem::take(&mut batch)).await?;
                bytes = 0;
            }
        }
        self.apply_batch(batch).await
    }

    async fn get_snapshot_builder(&mut self) -> Builder {
        Builder {
            shared: Arc::clone(&self.shared),
            space: self.space,
            faults: self.faults.clone(),
        }
    }

    async fn install_snapshot(
        &mut self,
        meta: &SnapshotMeta,
        snapshot: SnapshotData,
    ) -> io::Result<()> {
        let SnapshotData::Received { space } = snapshot else {
            // Restoring from the own current state: it is already there.
            return Ok(());
        };
        let lock = Arc::clone(&self.shared.apply_lock);
        let _guard = lock.lock().await;
        self.shared.still_there()?;
        let old = self.space;
        let applied = Applied {
            replica: self.applied.replica,
            log_id: meta.last_log_id,
            membership: meta.last_membership.clone(),
        };
        let mut batch = Batch::default();
        applied.save(&mut batch, space);
        let key = Key::ShardSpace(self.shared.shard).encode(Space::NODE);
        batch.put(
            Family::Local,
            key,
            Bytes::copy_from_slice(&space.0.to_be_bytes()),
        );
        self.shared
            .index
            .write(batch)
            .map_err(|e| self.index_error(e))?;
        self.shared
            .index
            .flush()
            .await
            .map_err(|e| self.index_error(e))?;
        self.space = space;
        self.applied = applied;
        self.shared.applied.send_replace(self.applied.log_id);
        self.shared.persisted.send_replace(self.applied.log_id);
        // A crash in between leaves rows that no shard points to; the next start removes them.
        purge_space(&*self.shared.index, old).map_err(|e| self.index_error(e))?;
        let _ = self.events.send((
            self.shared.shard,
            vec![Event::PlacementChanged { version: 0 }],
        ));
        Ok(())
    }

    async fn get_current_snapshot(
        &mut self,
    ) -> io::Result<
        Option<openraft::storage::Snapshot<LeaderId, ReplicaId, openraft::EmptyNode, SnapshotData>>,
    > {
        match self.applied.log_id {
            None => Ok(None),
            Some(_) => self.outgoing().map(Some),
        }
    }
}

/// Builds a snapshot: makes the index durable, and says up to where.
pub struct Builder {
    shared: Arc<Replicated>,
    space: Space,
    faults: Faults,
}

impl RaftSnapshotBuilder<TypeConfig> for Builder {
    type SnapshotData = SnapshotData;

    async fn build_snapshot(
        &mut self,
    ) -> io::Result<
        openraft::storage::Snapshot<LeaderId, ReplicaId, openraft::EmptyNode, SnapshotData>,
    > {
        let fail = |e: IndexError| {
            self.faults.index(&e);
            io::Error::other(e)
        };
        // The view is taken first: what it shows is durable once the flush returns. A flush that
        // another replica of the node has just made is reused.
        let view = self.shared.index.view();
        let space = space_of(&*view, self.shared.shard)
            .map_err(fail)?
            .unwrap_or(self.space);
        let applied = Applied::load(&*view, space).map_err(fail)?;
        let (log_id, membership) = match applied {
            Some(a) => (a.log_id, a.membership),
            None => (None, StoredMembership::default()),
        };
        if log_id > *self.shared.persisted.borrow() {
            self.shared.index.flush().await.map_err(fail)?;
            self.shared.persisted.send_if_modified(|p| {
                let newer = log_id > *p;
                *p = log_id.max(*p);
                newer
            });
        }
        Ok(openraft::storage::Snapshot {
            meta: SnapshotMeta {
                last_log_id: log_id,
                last_membership: membership,
            },
            snapshot: SnapshotData::Outgoing { view, space },
        })
    }
}
