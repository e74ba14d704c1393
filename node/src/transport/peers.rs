//! Connections to the other nodes: one per node, made when first needed.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;
use tonic::metadata::{Ascii, MetadataMap, MetadataValue};
use tonic::service::interceptor::{InterceptedService, Interceptor};
use tonic::{Request, Status};

use super::MAX_MESSAGE_BYTES;
use super::control::Control;
use super::promises::{Promise, Promises};
use super::proto::peer_client::PeerClient;
use super::proto::{HelloRequest, HelloResponse, RememberRequest};
use crate::env::rpc::{self, Channel, Rpc};
use crate::rare::{self, Rare};
use crate::types::NodeId;

/// Who this process is, to its peers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// UUID of the cluster.
    pub cluster_id: [u8; 16],
    /// This node.
    pub node: NodeId,
    /// Random, drawn at each start of the process.
    pub boot_id: [u8; 16],
}

/// Why a peer cannot be talked to.
#[derive(Debug, Clone, thiserror::Error)]
pub enum PeerError {
    /// The placement does not say where it listens.
    #[error("node {0} has no known address")]
    Unknown(NodeId),
    /// No connection, or it broke.
    #[error("node {node} at {addr} is unreachable: {cause}")]
    Unreachable {
        /// Which.
        node: NodeId,
        /// Where.
        addr: String,
        /// Why.
        cause: String,
    },
    /// Something else answers at its address.
    #[error("{addr} is not node {node} of this cluster: {cause}")]
    Stranger {
        /// Which node was expected.
        node: NodeId,
        /// Where.
        addr: String,
        /// Who answered.
        cause: String,
    },
}

/// Where nodes listen.
pub trait AddressBook: Send + Sync {
    /// `host:port` of a node's gRPC.
    fn addr_of(&self, node: NodeId) -> Option<String>;
}

/// One connection.
#[derive(Clone)]
pub struct Peer {
    /// Which node.
    pub node: NodeId,
    /// Its address.
    pub addr: String,
    /// The connection itself, for its public services.
    pub channel: Channel,
    /// Its peer service.
    pub client: PeerStub,
    /// Small messages to it, over one stream.
    pub control: Control,
}

/// Connections to all nodes.
pub struct Peers {
    rpc: Arc<dyn Rpc>,
    book: Arc<dyn AddressBook>,
    /// Who we are.
    pub identity: Identity,
    /// What their replicas have promised to ours.
    pub promises: Arc<Promises>,
    map: Mutex<BTreeMap<NodeId, Peer>>,
    stop: CancellationToken,
}

/// A lazily connecting channel to `addr`.
pub fn channel(rpc: &dyn Rpc, addr: &str) -> Result<Channel, PeerError> {
    rpc.channel(addr, rpc::PEER)
        .map_err(|cause| PeerError::Unreachable {
            node: NodeId(0),
            addr: addr.to_owned(),
            cause,
        })
}

/// The peer service of another node; every call on it is stamped.
pub type PeerStub = PeerClient<InterceptedService<Channel, Stamp>>;

const CLUSTER: &str = "posthouse-cluster";
const NODE: &str = "posthouse-node";

/// Says with every call which cluster it comes from and which node it is meant for: an address may
/// have become another node's, or another cluster's with the very same numbers of shards and
/// replicas, between two calls on one connection.
#[derive(Debug, Clone)]
pub struct Stamp {
    cluster: MetadataValue<Ascii>,
    node: MetadataValue<Ascii>,
}

impl Stamp {
    fn new(cluster_id: &[u8; 16], node: NodeId) -> Stamp {
        let cluster = crate::identity::uuid_text(cluster_id);
        Stamp {
            cluster: cluster.parse().expect("a UUID is ASCII"),
            node: MetadataValue::from(node.0),
        }
    }
}

impl Interceptor for Stamp {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        let metadata = request.metadata_mut();
        metadata.insert(CLUSTER, self.cluster.clone());
        metadata.insert(NODE, self.node.clone());
        Ok(request)
    }
}

/// Refuses a call that is not stamped for this node of this cluster.
pub fn check_stamp(identity: &Identity, metadata: &MetadataMap) -> Result<(), Status> {
    let ours = Stamp::new(&identity.cluster_id, identity.node);
    if metadata.get(CLUSTER) != Some(&ours.cluster) {
        rare::hit(Rare::CallForAnother);
        return Err(Status::permission_denied(
            "this node belongs to another cluster",
        ));
    }
    if metadata.get(NODE) != Some(&ours.node) {
        rare::hit(Rare::CallForAnother);
        let why = format!("this is node {}, the call is for another", identity.node);
        return Err(Status::permission_denied(why));
    }
    Ok(())
}

/// The peer service of a node over a channel.
pub fn client(channel: Channel, identity: &Identity, node: NodeId) -> PeerStub {
    PeerClient::with_interceptor(channel, Stamp::new(&identity.cluster_id, node))
        .max_decoding_message_size(MAX_MESSAGE_BYTES)
        .max_encoding_message_size(MAX_MESSAGE_BYTES)
}

impl Peers {
    /// No connections yet. All of them end when `stop` is cancelled.
    pub fn new(
        rpc: Arc<dyn Rpc>,
        book: Arc<dyn AddressBook>,
        identity: Identity,
        stop: CancellationToken,
    ) -> Peers {
        Peers {
            rpc,
            book,
            identity,
            promises: Arc::default(),
            map: Mutex::default(),
            stop,
        }
    }

    /// Waits until the node stops.
    pub async fn stopped(&self) {
        self.stop.cancelled().await;
    }

    /// The connection to a node; made anew when its address has changed.
    pub fn get(&self, node: NodeId) -> Result<Peer, PeerError> {
        let addr = self.book.addr_of(node).ok_or(PeerError::Unknown(node))?;
        let mut map = self.map.lock();
        if let Some(peer) = map.get(&node)
            && peer.addr == addr
        {
            return Ok(peer.clone());
        }
        let channel = channel(&*self.rpc, &addr)?;
        let client = client(channel.clone(), &self.identity, node);
        let control = Control::start(
            node,
            addr.clone(),
            client.clone(),
            self.identity.clone(),
            self.stop.clone(),
        );
        let peer = Peer {
            node,
            addr,
            channel,
            client,
            control,
        };
        map.insert(node, peer.clone());
        Ok(peer)
    }

    /// Asks who listens at `addr`, whoever it is.
    pub async fn hello(
        rpc: &dyn Rpc,
        addr: &str,
        identity: &Identity,
        timeout: Duration,
    ) -> Result<HelloResponse, PeerError> {
        let unreachable = |cause: String| PeerError::Unreachable {
            node: NodeId(0),
            addr: addr.to_owned(),
            cause,
        };
        let mut client = client(channel(rpc, addr)?, identity, identity.node);
        let request = client.hello(hello_request(identity));
        match tokio::time::timeout(timeout, request).await {
            Ok(Ok(response)) => Ok(response.into_inner()),
            Ok(Err(status)) => Err(unreachable(status.message().to_owned())),
            Err(_) => Err(unreachable(format!("no answer in {timeout:?}"))),
        }
    }
}

/// Asks over `client` what our replicas have promised to its own.
pub async fn remembered_by(
    mut client: PeerStub,
    identity: &Identity,
    timeout: Duration,
) -> Option<Vec<Promise>> {
    let request = client.remember(RememberRequest {
        node_id: identity.node.0,
    });
    let answer = tokio::time::timeout(timeout, request).await.ok()?;
    postcard::from_bytes(&answer.ok()?.into_inner().promises).ok()
}

/// What we say of ourselves.
pub fn hello_request(identity: &Identity) -> HelloRequest {
    HelloRequest {
        cluster_id: identity.cluster_id.to_vec().into(),
        node_id: identity.node.0,
        boot_id: identity.boot_id.to_vec().into(),
    }
}

/// Checks that `hello` comes from `node` of our cluster.
pub fn check_hello(
    identity: &Identity,
    node: NodeId,
    addr: &str,
    hello: &HelloResponse,
) -> Result<(), PeerError> {
    let stranger = |cause: &str| {
        rare::hit(Rare::StrangerAnswered);
        Err(PeerError::Stranger {
            node,
            addr: addr.to_owned(),
            cause: cause.to_owned(),
        })
    };
    if hello.cluster_id != identity.cluster_id.as_slice() {
        return stranger("it belongs to another cluster");
    }
    if hello.node_id != node.0 {
        return stranger(&format!("it is node {}", hello.node_id));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_from_another_cluster_or_for_another_node_is_refused() {
        let us = |cluster: u8, node: u32| Identity {
            cluster_id: [cluster; 16],
            node: NodeId(node),
            boot_id: [0; 16],
        };
        let stamped = |cluster: u8, node: u32| {
            let mut stamp = Stamp::new(&[cluster; 16], NodeId(node));
            stamp.call(Request::new(())).unwrap()
        };
        assert!(check_stamp(&us(1, 2), stamped(1, 2).metadata()).is_ok());
        assert!(check_stamp(&us(1, 2), stamped(3, 2).metadata()).is_err());
        assert!(check_stamp(&us(1, 2), stamped(1, 3).metadata()).is_err());
        assert!(check_stamp(&us(1, 2), Request::new(()).metadata()).is_err());
    }
}
