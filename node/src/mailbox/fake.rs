//! Shards without Raft, for the tests of this layer: the real machine on an index in memory, and
//! the stored octets in a map.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::{self, Stream};
use parking_lot::Mutex;

use super::watch::Hub;
use super::{
    BlobError, BlobReader, Leaders, Limits, Operations, Proposer, Replicas, Result, Routes, codec,
};
use crate::env::Env;
use crate::index::Index;
use crate::index::keys::Space;
use crate::index::memory::MemoryStore;
use crate::machine::command::{ChunkMeta, Command, Op, Reply};
use crate::machine::transfers::{self, Look, Looked};
use crate::machine::{Txn, apply, read};
use crate::raft::ShardError;
use crate::raft::shard::ReadView;
use crate::types::*;

/// One shard.
pub struct FakeShard {
    index: Arc<dyn Index>,
    /// By the segment of their made-up location.
    stored: Mutex<BTreeMap<u64, Bytes>>,
    /// Commands in the order of their proposal.
    pub log: Mutex<Vec<Op>>,
    pub leads: AtomicBool,
    /// Chunks that were asked for.
    pub reads: AtomicUsize,
    /// What the next proposals answer instead of being applied.
    pub failures: Mutex<Vec<ShardError>>,
    /// So many proposals are applied before that.
    pub successes_before_failures: AtomicUsize,
    /// So many proposals from now on one is applied, and its answer lost.
    pub answer_lost_after: Mutex<Option<usize>>,
    /// Whom applied commands are told to.
    hub: OnceLock<Arc<Hub>>,
}

impl FakeShard {
    fn new() -> Arc<FakeShard> {
        Arc::new(FakeShard {
            index: MemoryStore::default().open(),
            stored: Mutex::default(),
            log: Mutex::default(),
            leads: AtomicBool::new(true),
            reads: AtomicUsize::default(),
            failures: Mutex::default(),
            successes_before_failures: AtomicUsize::new(0),
            answer_lost_after: Mutex::default(),
            hub: OnceLock::new(),
        })
    }

    /// Turns a bit of every stored octet.
    pub fn rot(&self) {
        for octets in self.stored.lock().values_mut() {
            *octets = octets.iter().map(|b| b ^ 1).collect();
        }
    }
}

#[async_trait]
impl Proposer for FakeShard {
    async fn propose(&self, command: Command, stored: Bytes) -> Result<Reply, ShardError> {
        // As in the log: others get their turn before the answer.
        tokio::task::yield_now().await;
        if !self.is_leader() {
            return Err(ShardError::NotLeader {
                leader: self.leader(),
            });
        }
        let before = &self.successes_before_failures;
        let less = |n: usize| n.checked_sub(1);
        if before
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, less)
            .is_err()
            && let Some(failure) = self.failures.lock().pop()
        {
            return Err(failure);
        }
        let mut octets = self.stored.lock();
        let segment = octets.len() as u64 + 1;
        let location = (!stored.is_empty()).then_some(Location {
            segment,
            offset: 0,
            len: stored.len() as u32,
        });
        octets.insert(segment, stored);
        self.log.lock().push(command.op.clone());
        let mut txn = Txn::new(&*self.index, Space::FIRST, location);
        let reply = apply(&mut txn, &command).expect("a sound index");
        let (batch, events) = txn.finish();
        self.index.write(batch).expect("a sound index");
        if let Some(hub) = self.hub.get() {
            hub.publish(&events);
        }
        let mut lost = self.answer_lost_after.lock();
        match *lost {
            Some(0) => {
                *lost = None;
                return Err(ShardError::Unknown);
            }
            Some(n) => *lost = Some(n - 1),
            None => {}
        }
        Ok(reply)
    }

    async fn read(&self) -> Result<ReadView, ShardError> {
        match self.is_leader() {
            true => Ok(ReadView {
                view: self.index.view(),
                space: Space::FIRST,
            }),
            false => Err(ShardError::NotLeader {
                leader: self.leader(),
            }),
        }
    }

    fn local_view(&self) -> Result<ReadView, ShardError> {
        Ok(ReadView {
            view: self.index.view(),
            space: Space::FIRST,
        })
    }

    fn is_leader(&self) -> bool {
        self.leads.load(Ordering::Relaxed)
    }

    fn leader(&self) -> Option<NodeId> {
        Some(NodeId(if self.is_leader() { 1 } else { 2 }))
    }
}

/// A node with two data shards: even slots in shard 1, odd ones in shard 2.
pub struct FakeNode {
    pub shards: [Arc<FakeShard>; 2],
}

impl FakeNode {
    fn shard(&self, shard: ShardId) -> Option<&Arc<FakeShard>> {
        self.shards.get((shard.0 as usize).checked_sub(1)?)
    }
}

impl Replicas for FakeNode {
    fn replica(&self, shard: ShardId) -> Option<Arc<dyn Proposer>> {
        self.shard(shard)
            .map(|s| Arc::clone(s) as Arc<dyn Proposer>)
    }
}

impl Routes for FakeNode {
    fn cluster_id(&self) -> Option<String> {
        Some("00000000-0000-4000-8000-000000000001".to_owned())
    }
    fn shard_of(&self, slot: Slot) -> Option<ShardId> {
        Some(ShardId(1 + u32::from(slot.0 % 2)))
    }
    fn has_shard(&self, shard: ShardId) -> bool {
        self.shard(shard).is_some()
    }
    fn leader_of(&self, _: ShardId) -> Option<NodeId> {
        None
    }
    fn leader_addr(&self, node: NodeId) -> Option<String> {
        Some(format!("node{node}:6600"))
    }
    fn placement_version(&self) -> u64 {
        7
    }
}

#[async_trait]
impl Leaders for FakeNode {
    async fn propose(
        &self,
        shard: ShardId,
        command: Command,
        stored: Bytes,
    ) -> Result<Reply, ShardError> {
        let shard = self.shard(shard).ok_or(ShardError::Unknown)?;
        // Followed about in vain.
        let reply = shard.propose(command, stored).await;
        reply.map_err(|e| match e {
            ShardError::NotLeader { .. } => ShardError::Unknown,
            e => e,
        })
    }

    async fn look(&self, shard: ShardId, look: &Look) -> Result<Looked, ShardError> {
        let shard = self.shard(shard).ok_or(ShardError::Unknown)?;
        let at = shard.read().await.map_err(|_| ShardError::Unknown)?;
        Ok(transfers::look(&*at.view, at.space, look).expect("a sound index"))
    }
}

#[async_trait]
impl BlobReader for FakeNode {
    async fn read_chunk(&self, shard: ShardId, blob: BlobId, seq: u32) -> Result<Bytes, BlobError> {
        let shard = self.shard(shard).ok_or(BlobError::Missing)?;
        shard.reads.fetch_add(1, Ordering::Relaxed);
        let loc = read::chunk_loc(&*shard.index, Space::FIRST, blob, seq)
            .map_err(|e| BlobError::Failed(e.to_string()))?
            .ok_or(BlobError::Missing)?;
        let stored = shard.stored.lock().get(&loc.location.segment).cloned();
        let chunk = ChunkMeta {
            raw_len: loc.raw_len,
            stored_len: loc.location.len,
            codec: loc.codec,
            crc: loc.crc,
        };
        codec::decode(&chunk, stored.ok_or(BlobError::Missing)?)
            .ok_or_else(|| BlobError::Damaged("no frame".to_owned()))
    }
}

/// A node and its operations, with these limits.
pub fn node_with(limits: Limits) -> (Arc<FakeNode>, Arc<Operations>) {
    node_in(Env::real(), limits)
}

/// A node and its operations, in this world.
pub fn node_in(env: Env, limits: Limits) -> (Arc<FakeNode>, Arc<Operations>) {
    let node = Arc::new(FakeNode {
        shards: [FakeShard::new(), FakeShard::new()],
    });
    let ops = Operations::new(
        Arc::clone(&node) as Arc<dyn Replicas>,
        (Arc::clone(&node) as _, Arc::clone(&node) as _),
        Arc::clone(&node) as Arc<dyn BlobReader>,
        env,
        limits,
    );
    for shard in &node.shards {
        let _ = shard.hub.set(Arc::clone(ops.hub()));
    }
    (node, Arc::new(ops))
}

/// A node and its operations.
pub fn node() -> (Arc<FakeNode>, Arc<Operations>) {
    node_with(Limits::default())
}

/// Octets as a stream of pieces of this size.
pub fn pieces(octets: &[u8], size: usize) -> impl Stream<Item = Result<Bytes>> + Send + use<> {
    let pieces: Vec<_> = octets
        .chunks(size)
        .map(|piece| Ok(Bytes::copy_from_slice(piece)))
        .collect();
    stream::iter(pieces)
}

/// A request_id.
pub fn id(n: u8) -> Vec<u8> {
    vec![n; 16]
}
