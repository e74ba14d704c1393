//! Who a starting node is: as before, as a joining node, or as the first of a new cluster; and that
//! nobody else is it already.

use super::StartError;
use super::serve::only_init;
use super::start::Starting;
use crate::api::cluster::{ClusterService, InitCall};
use crate::env::net::Listener;
use crate::env::rpc::Rpc;
use crate::identity::{IdentityFile, JoinFile, new_uuid, parse_uuid, uuid_text};
use crate::rare::{self, Rare};
use crate::transport::peers::{Identity, Peers, remembered_by};
use crate::transport::promises::Promise;
use crate::types::*;
use posthouse_client::proto;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;

/// How long a starting node waits for one that may be its original, or may know where that is.
const PATIENCE_AT_START: Duration = Duration::from_secs(1);

/// How long one address is asked whether this node runs there: connections that break off must not
/// pass for a process that is gone. Only a node whose address has changed waits so long.
const LOOK_FOR: Duration = Duration::from_secs(3);
/// How long it waits between two looks.
const LOOK_PAUSE: Duration = Duration::from_millis(100);

/// Whether another process at this address is this node as well.
pub(super) async fn is_run_at(rpc: &dyn Rpc, addr: &str, own: &Identity) -> bool {
    let look = || Peers::hello(rpc, addr, own, PATIENCE_AT_START);
    let until = tokio::time::Instant::now() + LOOK_FOR;
    let mut hello = look().await;
    while hello.is_err() && tokio::time::Instant::now() < until {
        tokio::time::sleep(LOOK_PAUSE).await;
        hello = look().await;
    }
    hello.is_ok_and(|other| {
        other.cluster_id == own.cluster_id.as_slice()
            && other.node_id == own.node.0
            && other.boot_id != own.boot_id.as_slice()
    })
}

impl Starting {
    /// Who this node is: as before, as a joining node, or as the first of a new cluster. Also says
    /// how many shards and replicas a new cluster has.
    pub(super) async fn identity(
        &self,
        listener: &Arc<dyn Listener>,
        grpc_addr: &str,
        lmtp_addr: &str,
    ) -> Result<(IdentityFile, (u32, u32)), StartError> {
        let (disk, dir) = (&*self.env.disk, &*self.config.data);
        let mut shape = (self.config.shards, self.config.replication);
        if let Some(file) = IdentityFile::load(disk, dir).await? {
            if !file.replaced_at.is_empty() {
                return Err(StartError::Replaced {
                    node: file.node,
                    addr: file.replaced_at,
                });
            }
            JoinFile::end(disk, dir).await?;
            return Ok((file, shape));
        }
        // Mail without an identity is somebody's: a new node must not begin on top of it.
        let journal = dir.join("journal");
        if disk
            .list(&journal)
            .await
            .is_ok_and(|names| !names.is_empty())
        {
            return Err(StartError::Anonymous(dir.display().to_string()));
        }
        if !self.config.join.is_empty() {
            let JoinFile(id) = JoinFile::begin(disk, dir, self.env.rng.id16()).await?;
            let file = self.join(grpc_addr, lmtp_addr, id).await?;
            file.save(disk, dir).await?;
            JoinFile::end(disk, dir).await?;
            return Ok((file, shape));
        }
        let cluster_id = new_uuid(self.env.rng.id16());
        let file = IdentityFile::new(cluster_id, NodeId(1), true);
        if self.config.wait_for_init {
            shape = self.wait_for_init(listener, &file, shape).await?;
        }
        file.save(disk, dir).await?;
        Ok((file, shape))
    }

    /// Serves nothing but `Init`, until it is called.
    async fn wait_for_init(
        &self,
        listener: &Arc<dyn Listener>,
        file: &IdentityFile,
        default: (u32, u32),
    ) -> Result<(u32, u32), StartError> {
        let (tx, mut rx) = mpsc::channel::<InitCall>(1);
        let done = self.stop.child_token();
        let service = ClusterService::waiting(tx);
        let rpc = &self.env.rpc;
        let server = rpc.serve(Arc::clone(listener), only_init(service), done.clone());
        tracing::info!("waiting for `posthouse cluster init`");
        let asked = async {
            let call = rx.recv().await?;
            let or = |asked, default| if asked == 0 { default } else { asked };
            let shape = (
                or(call.request.shards, default.0),
                or(call.request.replication, default.1),
            );
            let _ = call.answer.send(file.cluster_id.clone());
            // Let the answer out before the server ends.
            tokio::time::sleep(Duration::from_millis(50)).await;
            Some(shape)
        };
        let (shape, _) = tokio::join!(
            async {
                let shape = tokio::select! {
                    shape = asked => shape,
                    () = self.stop.cancelled() => None,
                };
                done.cancel();
                shape
            },
            server
        );
        shape.ok_or(StartError::Stopped)
    }

    /// Asks a member to take this node in, as the join with this id.
    async fn join(
        &self,
        grpc_addr: &str,
        lmtp_addr: &str,
        join_id: [u8; 16],
    ) -> Result<IdentityFile, StartError> {
        let addr = self.config.join.clone();
        let refused = |cause: String| StartError::Join {
            addr: addr.clone(),
            cause,
        };
        let channel = crate::transport::peers::channel(&*self.env.rpc, &addr)
            .map_err(|e| refused(e.to_string()))?;
        let mut client = proto::cluster_client::ClusterClient::new(channel);
        // The same id for every try, so that a repeated call is the same join.
        let request = proto::JoinRequest {
            token: self.config.join_token.clone(),
            addr: grpc_addr.to_owned(),
            zone: self.config.zone.clone(),
            join_id: join_id.to_vec().into(),
            lmtp_addr: lmtp_addr.to_owned(),
        };
        let mut last = String::new();
        for _ in 0..20 {
            match client.join(request.clone()).await {
                Ok(answer) => {
                    let answer = answer.into_inner();
                    let cluster_id = parse_uuid(&answer.cluster_id)
                        .ok_or_else(|| refused("its cluster id is not a UUID".into()))?;
                    let node = NodeId(answer.node_id as u32);
                    let mut file = IdentityFile::new(cluster_id, node, false);
                    let known = answer.nodes.into_iter();
                    file.peers = known.map(|n| (NodeId(n.node_id as u32), n.addr)).collect();
                    return Ok(file);
                }
                Err(status) => {
                    let detail = posthouse_client::error::detail_of(&status);
                    let kind = detail.map(|d| d.kind());
                    use proto::ErrorKind::{BadRequest, NotInitialized, Refused};
                    if matches!(kind, Some(BadRequest | NotInitialized | Refused)) {
                        return Err(refused(status.message().to_owned()));
                    }
                    rare::hit(Rare::JoinRepeated);
                    last = status.message().to_owned();
                }
            }
            tokio::select! {
                () = self.stop.cancelled() => return Err(StartError::Stopped),
                () = tokio::time::sleep(Duration::from_millis(500)) => {}
            }
        }
        Err(refused(format!(
            "{last}; check the address and that the cluster has a majority"
        )))
    }

    /// A directory that is a copy must not become a second node of the same number. Where the node
    /// may be running is in its own file and, should it have moved since, known to its peers.
    pub(super) async fn refuse_copies(
        &self,
        file: &IdentityFile,
        identity: &Identity,
        grpc_addr: &str,
    ) -> Result<(), StartError> {
        let others = file.peers.iter().filter(|(id, _)| **id != identity.node);
        let registered = others.map(|(_, addr)| self.registered_at(addr, identity));
        let registered = futures::future::join_all(registered).await;
        let own = file.peers.get(&identity.node).cloned();
        let mut addrs: BTreeSet<String> = registered.into_iter().flatten().chain(own).collect();
        addrs.remove(grpc_addr);
        for addr in addrs {
            if is_run_at(&*self.env.rpc, &addr, identity).await {
                rare::hit(Rare::CopyRefused);
                return Err(StartError::Copied {
                    node: identity.node,
                    addr,
                });
            }
        }
        Ok(())
    }

    /// What the other members remember of this node's promises, of those that answer at once. A
    /// directory may be an older image of itself.
    pub(super) async fn remembered(
        &self,
        file: &IdentityFile,
        identity: &Identity,
    ) -> BTreeMap<NodeId, Vec<Promise>> {
        let others = file.peers.iter().filter(|(id, _)| **id != identity.node);
        let asked = others.map(|(id, addr)| async {
            let channel = crate::transport::peers::channel(&*self.env.rpc, addr).ok()?;
            let client = crate::transport::peers::client(channel, identity, *id);
            let promises = remembered_by(client, identity, PATIENCE_AT_START).await?;
            Some((*id, promises))
        });
        let answers = futures::future::join_all(asked).await;
        answers.into_iter().flatten().collect()
    }

    /// Where the member at `addr` believes this node to be.
    async fn registered_at(&self, addr: &str, identity: &Identity) -> Option<String> {
        let channel = crate::transport::peers::channel(&*self.env.rpc, addr).ok()?;
        let mut client = proto::cluster_client::ClusterClient::new(channel);
        let request = client.get_placement(proto::GetPlacementRequest { have_version: 0 });
        let answer = tokio::time::timeout(PATIENCE_AT_START, request).await;
        let placement = answer.ok()?.ok()?.into_inner();
        if placement.cluster_id != uuid_text(&identity.cluster_id) {
            return None;
        }
        let mut nodes = placement.nodes.into_iter();
        let known = nodes.find(|n| n.node_id == u64::from(identity.node.0))?;
        Some(known.addr)
    }
}
