//! Commands and questions for a shard's leader, wherever it is: for what one shard has to do with
//! another one.
//!
//! Asked are the own replica, whom it names, and the others that hold the shard, round after round
//! until one answers as its leader. What is proposed here may be proposed again: a node that is
//! silent may have done it.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::peers::{PeerStub, Peers};
use super::proto::{LookRequest, ProposeRequest, ProposeResponse};
use super::service::{BUSY, NOT_LEADER, READ_ONLY};
use crate::machine::command::{Command, Reply};
use crate::machine::transfers::{self, Look, Looked};
use crate::placement::PlacementMap;
use crate::raft::{Shard, ShardError, Shards};
use crate::types::*;

/// How long one node may take: a proposal that it has taken in it may answer late.
const CALL: Duration = Duration::from_secs(10);
/// After this no further round begins: an election is over by then.
const PATIENCE: Duration = Duration::from_secs(5);
/// Between two rounds.
const PAUSE: Duration = Duration::from_millis(100);

/// The way to the leaders of all shards.
pub struct Leaders {
    /// The own replicas.
    pub shards: Arc<Shards>,
    /// The other nodes.
    pub peers: Arc<Peers>,
    /// Who holds what.
    pub placement: Arc<PlacementMap>,
    /// Ends the search.
    pub stop: CancellationToken,
}

/// Whom a question goes to.
enum Holder {
    Own(Arc<Shard>),
    Peer(Box<PeerStub>),
}

type Asked<'a, T> = BoxFuture<'a, Result<T, ShardError>>;

impl Leaders {
    /// Proposes a command that may be repeated.
    pub async fn propose(
        &self,
        shard: ShardId,
        command: Command,
        stored: Bytes,
    ) -> Result<Reply, ShardError> {
        let encoded: Bytes = postcard::to_stdvec(&command)
            .expect("messages between nodes always encode")
            .into();
        self.hunt(shard, |holder| {
            let (command, stored) = (command.clone(), stored.clone());
            let encoded = encoded.clone();
            Box::pin(async move {
                let mut client = match holder {
                    Holder::Own(own) => return own.propose(command, stored).await,
                    Holder::Peer(client) => client,
                };
                let request = ProposeRequest {
                    shard: shard.0,
                    command: encoded,
                    stored,
                };
                let answer = client.propose(request).await;
                reply(answer.map_err(|_| ShardError::Unknown)?.into_inner())
            })
        })
        .await
    }

    /// Asks what holds now.
    pub async fn look(&self, shard: ShardId, look: &Look) -> Result<Looked, ShardError> {
        let encoded: Bytes = postcard::to_stdvec(look)
            .expect("messages between nodes always encode")
            .into();
        self.hunt(shard, |holder| {
            let encoded = encoded.clone();
            Box::pin(async move {
                let mut client = match holder {
                    Holder::Own(own) => {
                        let rows = own.read().await?;
                        let looked = transfers::look(&*rows.view, rows.space, look);
                        return looked.map_err(|_| ShardError::Unknown);
                    }
                    Holder::Peer(client) => client,
                };
                let request = LookRequest {
                    shard: shard.0,
                    look: encoded,
                };
                let answer = client.look(request).await;
                let answer = answer.map_err(|_| ShardError::Unknown)?.into_inner();
                match answer.error {
                    0 => postcard::from_bytes(&answer.looked).map_err(|_| ShardError::Unknown),
                    _ => Err(not_leader(answer.leader_node)),
                }
            })
        })
        .await
    }

    async fn hunt<'a, T>(
        &self,
        shard: ShardId,
        ask: impl Fn(Holder) -> Asked<'a, T>,
    ) -> Result<T, ShardError> {
        let begin = Instant::now();
        loop {
            if let Some(told) = self.round(shard, &ask).await {
                return told;
            }
            if begin.elapsed() >= PATIENCE {
                return Err(ShardError::Unknown);
            }
            tokio::select! {
                () = self.stop.cancelled() => return Err(ShardError::Stopped),
                () = tokio::time::sleep(PAUSE) => {}
            }
        }
    }

    /// Asks everybody once; `None` when nobody has answered as the leader.
    async fn round<'a, T>(
        &self,
        shard: ShardId,
        ask: &impl Fn(Holder) -> Asked<'a, T>,
    ) -> Option<Result<T, ShardError>> {
        let own = self.peers.identity.node;
        let replica = self.shards.get(shard);
        let mut queue: Vec<NodeId> = match &replica {
            Some(replica) => replica.leader().into_iter().collect(),
            None => Vec::new(),
        };
        queue.extend(self.placement.with(|state| {
            let row = state.shards.get(&shard);
            row.map_or_else(Vec::new, |row| {
                row.replicas.iter().map(|r| r.id.node()).collect()
            })
        }));
        let mut tried = BTreeSet::new();
        while !queue.is_empty() {
            let node = queue.remove(0);
            if !tried.insert(node) {
                continue;
            }
            let holder = match &replica {
                Some(replica) if node == own => Holder::Own(Arc::clone(replica)),
                _ => match self.peers.get(node) {
                    Ok(peer) if node != own => Holder::Peer(Box::new(peer.client)),
                    _ => continue,
                },
            };
            let told = tokio::select! {
                () = self.stop.cancelled() => return Some(Err(ShardError::Stopped)),
                told = tokio::time::timeout(CALL, ask(holder)) => told,
            };
            match told {
                Ok(Err(ShardError::NotLeader {
                    leader: Some(leader),
                })) => queue.insert(0, leader),
                Ok(Err(ShardError::NotLeader { leader: None } | ShardError::Unknown)) => {}
                Ok(told) => return Some(told),
                Err(_) => {}
            }
        }
        None
    }
}

fn not_leader(node: u32) -> ShardError {
    ShardError::NotLeader {
        leader: (node != 0).then_some(NodeId(node)),
    }
}

fn reply(answer: ProposeResponse) -> Result<Reply, ShardError> {
    match answer.error {
        0 => postcard::from_bytes(&answer.reply).map_err(|_| ShardError::Unknown),
        NOT_LEADER => Err(not_leader(answer.leader_node)),
        BUSY => Err(ShardError::Busy {
            retry_after_ms: answer.retry_after_ms,
        }),
        READ_ONLY => Err(ShardError::ReadOnly),
        _ => Err(ShardError::Unknown),
    }
}
