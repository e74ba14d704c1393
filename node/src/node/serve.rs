//! The gRPC server: connections, services, and the end of both.

use crate::api::cluster::ClusterService;
use crate::api::{Api, Connection};
use crate::env::net::Listener;
use crate::journal::JournalError;
use crate::mailbox::{Operations, Routes};
use crate::placement::PlacementMap;
use crate::raft::fault::{Fault, Faults};
use crate::transport::MAX_MESSAGE_BYTES;
use crate::transport::proto::peer_server::PeerServer;
use crate::transport::service::PeerService;
use crate::types::*;
use posthouse_client::proto;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tonic::transport::Server;

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

/// Accepted connections as tonic takes them.
pub(super) fn incoming(
    listener: Arc<dyn Listener>,
    ops: Option<Arc<Operations>>,
    stop: CancellationToken,
    end: CancellationToken,
) -> impl futures::Stream<Item = std::io::Result<Connection>> {
    futures::stream::unfold((), move |()| {
        let (listener, ops) = (Arc::clone(&listener), ops.clone());
        let (stop, end) = (stop.clone(), end.clone());
        async move {
            loop {
                let accepted = tokio::select! {
                    () = stop.cancelled() => return None,
                    accepted = listener.accept() => accepted,
                };
                match accepted {
                    Ok((stream, peer)) => {
                        let connection =
                            Connection::new(stream, &peer, ops.as_deref(), end.clone());
                        return Some((Ok(connection), ()));
                    }
                    Err(e) => {
                        // Out of file descriptors, most often: wait for some.
                        tracing::warn!("cannot accept a connection: {e}");
                        tokio::time::sleep(Duration::from_millis(100)).await;
                    }
                }
            }
        }
    })
}

/// Serves until the node stops.
pub(super) async fn serve(
    listener: Arc<dyn Listener>,
    ops: Arc<Operations>,
    cluster: ClusterService,
    peers: PeerService,
    stop: CancellationToken,
) {
    let api = Api::new(Arc::clone(&ops));
    // Connections would outlive the server, and keep the index and its lock with them.
    let end = CancellationToken::new();
    let _end = end.clone().drop_guard();
    let incoming = incoming(listener, Some(ops), stop.clone(), end);
    let peers = PeerServer::new(peers)
        .max_decoding_message_size(MAX_MESSAGE_BYTES)
        .max_encoding_message_size(MAX_MESSAGE_BYTES);
    let served = Server::builder()
        .initial_stream_window_size(1 << 20)
        .initial_connection_window_size(8 << 20)
        .http2_keepalive_interval(Some(Duration::from_secs(10)))
        .http2_keepalive_timeout(Some(Duration::from_secs(10)))
        .add_service(api.accounts())
        .add_service(api.mailboxes())
        .add_service(api.messages())
        .add_service(proto::cluster_server::ClusterServer::new(cluster))
        .add_service(peers)
        .serve_with_incoming_shutdown(incoming, stop.clone().cancelled_owned());
    // Streams of peers last as long as they do: do not wait for them.
    let ended = async {
        stop.cancelled().await;
        tokio::time::sleep(Duration::from_millis(500)).await;
    };
    tokio::select! {
        served = served => if let Err(e) = served {
            tracing::error!("the gRPC server ended: {e}");
        },
        () = ended => {}
    }
}
