//! What a node serves over gRPC, and how its operations find their way.

use crate::api::cluster::ClusterService;
use crate::api::{Api, connection};
use crate::env::rpc::Services;
use crate::journal::JournalError;
use crate::machine::command::{Command, Reply};
use crate::machine::transfers::{Look, Looked};
use crate::mailbox::window::ByteWindow;
use crate::mailbox::{self, Operations, Routes};
use crate::placement::PlacementMap;
use crate::raft::ShardError;
use crate::raft::fault::{Fault, Faults};
use crate::transport::MAX_MESSAGE_BYTES;
use crate::transport::leaders::Leaders;
use crate::transport::proto::peer_server::PeerServer;
use crate::transport::service::PeerService;
use crate::types::*;
use async_trait::async_trait;
use bytes::Bytes;
use posthouse_client::proto;
use std::sync::Arc;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

impl Routes for PlacementRoutes {
    fn cluster_id(&self) -> Option<String> {
        Some(self.cluster_id.clone())
    }
    fn shard_of(&self, slot: Slot) -> Option<ShardId> {
        self.placement.shard_of(slot)
    }
    fn has_shard(&self, shard: ShardId) -> bool {
        shard != ShardId::SYSTEM && self.placement.with(|s| s.shards.contains_key(&shard))
    }
    fn leader_of(&self, _: ShardId) -> Option<NodeId> {
        None
    }
    fn leader_addr(&self, node: NodeId) -> Option<String> {
        self.placement.addrs().get(&node).cloned()
    }
    fn placement_version(&self) -> u64 {
        self.placement.version()
    }
}

/// The placement as operations route by it.
pub(super) struct PlacementRoutes {
    pub cluster_id: String,
    pub placement: Arc<PlacementMap>,
}

#[async_trait]
impl mailbox::Leaders for Leaders {
    async fn propose(
        &self,
        shard: ShardId,
        command: Command,
        stored: Bytes,
    ) -> Result<Reply, ShardError> {
        Leaders::propose(self, shard, command, stored).await
    }

    async fn look(&self, shard: ShardId, look: &Look) -> Result<Looked, ShardError> {
        Leaders::look(self, shard, look).await
    }
}

/// Reports when the journal can no longer be written.
pub(super) async fn watch_journal(
    mut poisoned: watch::Receiver<Option<Arc<JournalError>>>,
    faults: Faults,
    stop: CancellationToken,
) {
    tokio::select! {
        () = stop.cancelled() => {}
        failed = poisoned.wait_for(Option::is_some) => {
            if let Ok(Some(e)) = failed.as_deref() {
                faults.report(Fault::Journal(e.to_string()));
            }
        }
    }
}

/// The services of a node, for each connection.
pub(super) fn services(
    ops: Arc<Operations>,
    cluster: ClusterService,
    peers: PeerService,
) -> Services {
    let api = Api::new(Arc::clone(&ops));
    let peers = PeerServer::new(peers)
        .max_decoding_message_size(MAX_MESSAGE_BYTES)
        .max_encoding_message_size(MAX_MESSAGE_BYTES);
    let routes = tonic::service::Routes::new(api.accounts())
        .add_service(api.mailboxes())
        .add_service(api.credentials())
        .add_service(api.messages())
        .add_service(proto::cluster_server::ClusterServer::new(cluster))
        .add_service(peers)
        .prepare();
    Arc::new(move |peer| connection::service(routes.clone(), peer, ops.connection_window()))
}

/// What a node that waits to be told to form a cluster answers: `Init`, and nothing else.
pub(super) fn only_init(cluster: ClusterService) -> Services {
    let cluster = proto::cluster_server::ClusterServer::new(cluster);
    let routes = tonic::service::Routes::new(cluster).prepare();
    // Nothing that a window bounds can be called.
    Arc::new(move |peer| connection::service(routes.clone(), peer, ByteWindow::new(1)))
}
