//! A node of one shard without Raft: the real operations and the real state machine over the index
//! in memory, stored octets in a list.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures::TryStreamExt;
use parking_lot::Mutex;
use posthouse_node::env::Env;
use posthouse_node::index::Index;
use posthouse_node::index::keys::Space;
use posthouse_node::index::memory::MemoryStore;
use posthouse_node::machine::command::{Command, Reply};
use posthouse_node::machine::transfers::{self, Look, Looked};
use posthouse_node::machine::{Txn, apply, read};
use posthouse_node::mailbox::deliver::{DeliverHead, Recipient};
use posthouse_node::mailbox::fetch_messages::{FetchMessages, Item, Outcome};
use posthouse_node::mailbox::section::Section;
use posthouse_node::mailbox::{
    BlobError, BlobReader, Caller, Leaders, Limits, Operations, Proposer, Replicas, Routes,
};
use posthouse_node::raft::ShardError;
use posthouse_node::raft::shard::ReadView;
use posthouse_node::types::*;

use crate::talk;

const ACCOUNT: &str = "a@x";
/// Octets that come at a time.
const PIECE: usize = 100_000;

/// Applies what is proposed, at once.
struct Shard {
    index: Arc<dyn Index>,
    stored: Mutex<Vec<Bytes>>,
}

#[async_trait]
impl Proposer for Shard {
    async fn propose(&self, command: Command, octets: Bytes) -> Result<Reply, ShardError> {
        let mut stored = self.stored.lock();
        let location = (!octets.is_empty()).then_some(Location {
            segment: stored.len() as u64,
            offset: 0,
            len: octets.len() as u32,
        });
        stored.push(octets);
        let mut txn = Txn::new(&*self.index, Space::FIRST, location);
        let reply = apply(&mut txn, &command).expect("a sound index");
        self.index.write(txn.finish().0).expect("a sound index");
        Ok(reply)
    }

    async fn read(&self) -> Result<ReadView, ShardError> {
        self.local_view()
    }

    fn local_view(&self) -> Result<ReadView, ShardError> {
        Ok(ReadView {
            view: self.index.view(),
            space: Space::FIRST,
        })
    }

    fn is_leader(&self) -> bool {
        true
    }

    fn leader(&self) -> Option<NodeId> {
        Some(NodeId(1))
    }
}

/// The one shard, as the operations see it.
struct Only(Arc<Shard>);

impl Replicas for Only {
    fn replica(&self, _: ShardId) -> Option<Arc<dyn Proposer>> {
        Some(Arc::clone(&self.0) as Arc<dyn Proposer>)
    }
}

impl Routes for Only {
    fn cluster_id(&self) -> Option<String> {
        Some("00000000-0000-4000-8000-000000000001".to_owned())
    }
    fn shard_of(&self, _: Slot) -> Option<ShardId> {
        Some(ShardId(1))
    }
    fn has_shard(&self, _: ShardId) -> bool {
        true
    }
    fn leader_of(&self, _: ShardId) -> Option<NodeId> {
        Some(NodeId(1))
    }
    fn leader_addr(&self, _: NodeId) -> Option<String> {
        None
    }
    fn placement_version(&self) -> u64 {
        1
    }
}

#[async_trait]
impl Leaders for Only {
    async fn propose(
        &self,
        _: ShardId,
        command: Command,
        stored: Bytes,
    ) -> Result<Reply, ShardError> {
        self.0.propose(command, stored).await
    }

    async fn look(&self, _: ShardId, look: &Look) -> Result<Looked, ShardError> {
        let at = self.0.read().await?;
        Ok(transfers::look(&*at.view, at.space, look).expect("a sound index"))
    }
}

#[async_trait]
impl BlobReader for Only {
    async fn read_chunk(&self, _: ShardId, blob: BlobId, seq: u32) -> Result<Bytes, BlobError> {
        let loc = read::chunk_loc(&*self.0.index, Space::FIRST, blob, seq)
            .map_err(|e| BlobError::Failed(e.to_string()))?
            .ok_or(BlobError::Missing)?;
        let stored = self.0.stored.lock();
        let octets = stored.get(loc.location.segment as usize);
        octets.cloned().ok_or(BlobError::Missing)
    }
}

/// What came of a section.
#[derive(Debug, PartialEq, Eq)]
pub enum Got {
    /// Its size, and its octets unless only the size was asked for.
    Data(u64, Vec<u8>),
    /// The message has no such part.
    NoSuchPart,
    /// Its encoding cannot be undone.
    UnknownEncoding,
}

/// An empty node.
pub struct Node {
    ops: Arc<Operations>,
}

impl Default for Node {
    fn default() -> Node {
        Node::new()
    }
}

impl Node {
    /// With one account.
    pub fn new() -> Node {
        let shard = Arc::new(Shard {
            index: MemoryStore::default().open(),
            stored: Mutex::default(),
        });
        let only = Arc::new(Only(shard));
        let env = Env::with_index(Arc::new(
            posthouse_node::index::memory::MemoryOpener::default(),
        ));
        let limits = Limits {
            // So that octets are read as they were stored.
            compress: false,
            ..Limits::default()
        };
        let ways = (only.clone() as _, only.clone() as _);
        let ops = Operations::new(only.clone(), ways, only, env, limits);
        Node { ops: Arc::new(ops) }
    }

    /// Takes a message in and fetches sections of it.
    pub fn deliver_and_fetch(&self, mail: &[u8], sections: &[Section]) -> Vec<Got> {
        talk::run(async {
            let created = self.ops.create_account(&[1; 16], ACCOUNT).await;
            created.expect("a new account");
            self.deliver(mail).await;
            self.fetch(sections).await
        })
    }

    async fn deliver(&self, mail: &[u8]) {
        let head = DeliverHead {
            request_id: vec![2; 16],
            recipients: vec![Recipient {
                account: ACCOUNT.to_owned(),
                ..Recipient::default()
            }],
            ..DeliverHead::default()
        };
        let pieces = mail.chunks(PIECE).map(|p| Ok(Bytes::copy_from_slice(p)));
        let pieces: Vec<_> = pieces.collect();
        let pieces = futures::stream::iter(pieces);
        let outcome = self.ops.deliver(&Caller::default(), head, pieces).await;
        let results = outcome.expect("a message is taken in").results;
        assert!(results[0].outcome.is_ok(), "{results:?}");
    }

    async fn fetch(&self, sections: &[Section]) -> Vec<Got> {
        let request = FetchMessages {
            account: ACCOUNT.to_owned(),
            mailbox: "INBOX".to_owned(),
            envelope: true,
            structure: true,
            preview: true,
            email: true,
            sections: sections.to_vec(),
            ..FetchMessages::default()
        };
        let batches = self
            .ops
            .fetch_messages(request)
            .await
            .expect("INBOX is there");
        let batches: Vec<_> = batches.try_collect().await.expect("all can be read");
        let (mut got, mut messages, mut open) = (Vec::new(), 0, false);
        for item in batches.into_iter().flat_map(|batch| batch.items) {
            let piece = match item {
                Item::Message(_) => {
                    messages += 1;
                    continue;
                }
                Item::Section(piece) => piece,
            };
            if !open {
                assert_eq!(piece.index as usize, got.len());
                got.push(match piece.outcome {
                    Outcome::Data => Got::Data(piece.left, Vec::new()),
                    Outcome::NoSuchPart => Got::NoSuchPart,
                    Outcome::UnknownEncoding => Got::UnknownEncoding,
                });
            }
            if let Some(Got::Data(size, octets)) = got.last_mut() {
                assert_eq!(*size, octets.len() as u64 + piece.left);
                octets.extend_from_slice(&piece.data);
            }
            open = !piece.last;
        }
        assert!(messages == 1 && !open);
        got
    }
}
