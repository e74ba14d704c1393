//! The cluster as operators see it: status, nodes, shards, and what they change.

use std::future::Future;
use std::time::Duration;

use futures::stream::{FuturesUnordered, StreamExt};
use tonic::{Response, Status};

use crate::client::{Client, Failure, Scope, Try};
use crate::error::Error;
use crate::proto::cluster_client::ClusterClient;
use crate::proto::{
    CreateJoinTokenRequest, CreateJoinTokenResponse, FlushRequest, GetPlacementRequest,
    GetPlacementResponse, GetStatusRequest, GetStatusResponse, HashStateRequest, HashStateResponse,
    InitRequest, JoinRequest, JoinResponse, ListNodesRequest, ListNodesResponse, ListShardsRequest,
    ListWorkersRequest, ScrubRequest, ScrubResponse, Shard, TransferLeaderRequest, Worker,
};
use crate::retry::{Advice, Deadline, advice};

/// Which node a call is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// Any node that answers.
    Any,
    /// The node with this id.
    Node(u64),
    /// The node at this address, `host:port`.
    Addr(String),
}

impl Client {
    /// Status of the cluster as the answering node sees it, and that node's own counters.
    pub async fn status(&self, target: &Target) -> Result<GetStatusResponse, Error> {
        self.at(target, |t| async move {
            let request = t.request(GetStatusRequest {});
            ClusterClient::new(t.channel).get_status(request).await
        })
        .await
    }

    /// The placement map as a node gives it.
    pub async fn placement_of(&self, target: &Target) -> Result<GetPlacementResponse, Error> {
        self.at(target, |t| async move {
            let request = t.request(GetPlacementRequest { have_version: 0 });
            ClusterClient::new(t.channel).get_placement(request).await
        })
        .await
    }

    /// All nodes.
    pub async fn nodes(&self, target: &Target) -> Result<ListNodesResponse, Error> {
        self.at(target, |t| async move {
            let request = t.request(ListNodesRequest {});
            ClusterClient::new(t.channel).list_nodes(request).await
        })
        .await
    }

    /// All shards; with `local` only the answering node's own replicas as it sees them.
    pub async fn shards(&self, target: &Target, local: bool) -> Result<Vec<Shard>, Error> {
        let answer = self.at(target, |t| async move {
            let request = t.request(ListShardsRequest { local });
            ClusterClient::new(t.channel).list_shards(request).await
        });
        Ok(answer.await?.shards)
    }

    /// The answering node's workers.
    pub async fn workers(&self, target: &Target) -> Result<Vec<Worker>, Error> {
        let answer = self.at(target, |t| async move {
            let request = t.request(ListWorkersRequest {});
            ClusterClient::new(t.channel).list_workers(request).await
        });
        Ok(answer.await?.workers)
    }

    /// Forms a new cluster of the node at `addr` and gives the cluster's id. Never repeated by
    /// itself.
    pub async fn init(&self, addr: &str, request: InitRequest) -> Result<String, Error> {
        let target = Target::Addr(addr.to_owned());
        let answer = self.at(&target, |t| {
            let request = t.request(request.clone());
            async move { ClusterClient::new(t.channel).init(request).await }
        });
        Ok(answer.await?.cluster_id)
    }

    /// A token that lets one node join; `ttl_ms` 0: one hour.
    pub async fn create_join_token(&self, ttl_ms: u64) -> Result<CreateJoinTokenResponse, Error> {
        self.on_leader(SYSTEM, |t| async move {
            let request = t.request(CreateJoinTokenRequest { ttl_ms });
            ClusterClient::new(t.channel)
                .create_join_token(request)
                .await
        })
        .await
    }

    /// Asks the cluster to take in a new node. Repeat with the same `join_id`.
    pub async fn join(&self, request: JoinRequest) -> Result<JoinResponse, Error> {
        self.on_leader(SYSTEM, |t| {
            let request = t.request(request.clone());
            async move { ClusterClient::new(t.channel).join(request).await }
        })
        .await
    }

    /// Hands a shard's leadership to a node.
    pub async fn transfer_leader(&self, shard: u32, to_node: u64) -> Result<(), Error> {
        let answer = self.on_leader(Scope::Shard(shard), |t| async move {
            let request = t.request(TransferLeaderRequest { shard, to_node });
            ClusterClient::new(t.channel).transfer_leader(request).await
        });
        answer.await?;
        if let Some(addr) = self.placement().await?.addr(to_node) {
            self.router().note_leader(shard, addr);
        }
        Ok(())
    }

    /// Makes a node's index durable up to what is applied.
    pub async fn flush(&self, target: &Target) -> Result<(), Error> {
        let answer = self.at(target, |t| async move {
            let request = t.request(FlushRequest {});
            ClusterClient::new(t.channel).flush(request).await
        });
        answer.await.map(drop)
    }

    /// Hash over the replicated rows of a shard's replica on a node.
    pub async fn hash_state(
        &self,
        target: &Target,
        shard: u32,
    ) -> Result<HashStateResponse, Error> {
        self.at(target, |t| async move {
            let request = t.request(HashStateRequest { shard });
            ClusterClient::new(t.channel).hash_state(request).await
        })
        .await
    }

    /// Reads and verifies every blob of a node.
    pub async fn scrub(&self, target: &Target) -> Result<ScrubResponse, Error> {
        self.at(target, |t| async move {
            let request = t.request(ScrubRequest {});
            ClusterClient::new(t.channel).scrub(request).await
        })
        .await
    }

    /// Calls one node, once; for [`Target::Any`] the first that answers. The next node is asked
    /// when one fails, and also when one is silent: a stopped process keeps its connections open.
    async fn at<R, F, Fut>(&self, target: &Target, call: F) -> Result<R, Error>
    where
        F: Fn(Try) -> Fut,
        Fut: Future<Output = Result<Response<R>, Status>>,
    {
        let addrs = match target {
            Target::Any => self.router().known_addrs(),
            Target::Addr(addr) => vec![addr.clone()],
            Target::Node(node) => {
                let placement = self.placement().await?;
                let missing = || {
                    let why = format!("the cluster has no node {node}");
                    Error::not_found("node", why)
                };
                vec![placement.addr(*node).ok_or_else(missing)?.to_owned()]
            }
        };
        let deadline = Deadline::after(self.deadline());
        let mut left = addrs.iter();
        let mut asked = FuturesUnordered::new();
        let mut last = Error::Transport {
            message: "no node is known".into(),
        };
        loop {
            if let Some(addr) = left.next() {
                asked.push(self.once(addr, &deadline, &call));
            } else if asked.is_empty() {
                return Err(last);
            }
            let more = left.len() > 0;
            tokio::select! {
                Some(answer) = asked.next() => match answer {
                    Ok(answer) => return Ok(answer),
                    Err(error) if advice(&error) == Advice::Elsewhere => last = error,
                    Err(error) => return Err(error),
                },
                () = tokio::time::sleep(SILENCE), if more => {}
            }
        }
    }

    /// One try at one node; connection failures name the node.
    async fn once<R, F, Fut>(&self, addr: &str, deadline: &Deadline, call: &F) -> Result<R, Error>
    where
        F: Fn(Try) -> Fut,
        Fut: Future<Output = Result<Response<R>, Status>>,
    {
        let answer = async {
            let answer = call(self.try_at(addr, deadline.left())?);
            answer.await.map_err(Failure::Status)
        };
        let answer = self.attempt(&[], addr, deadline, answer).await;
        answer.map_err(|missed| match missed.error {
            Error::Transport { message } => Error::Transport {
                message: format!("{addr}: {message}"),
            },
            other => other,
        })
    }
}

/// A node that has not answered for this long does not keep the others from being asked.
const SILENCE: Duration = Duration::from_secs(2);

/// The shard of nodes, shards and settings.
const SYSTEM: Scope = Scope::Shard(0);
