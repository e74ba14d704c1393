//! The LMTP door in the process of a node.

use super::StartError;
use super::start::Starting;
use crate::env::Env;
use crate::env::net::Listener;
use crate::raft::fault::Fault;
use posthouse_client::connect::{Terms, Wiring};
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;

impl Starting {
    /// Hosts the LMTP door in this process; it knows the cluster through the client library alone.
    pub(super) fn door(
        &self,
        listener: Arc<dyn Listener>,
        grpc_addr: &str,
        tasks: &mut JoinSet<()>,
    ) -> Result<(), StartError> {
        let refused = |cause: String| StartError::Fault(Fault::Refused(cause));
        let wiring = client_wiring(&self.env);
        let settings = posthouse_client::Settings {
            deadline: Duration::from_millis(self.config.lmtp_deadline_ms),
            wiring: wiring.clone(),
            ..Default::default()
        };
        let client = posthouse_client::Client::new(&[grpc_addr], settings)
            .map_err(|e| refused(e.to_string()))?;
        let lmtp_settings = posthouse_gateway::lmtp::settings::Settings {
            dedupe: self.config.lmtp_dedupe,
            message_bytes: self.config.max_message_bytes,
            ..Default::default()
        };
        let lmtp = posthouse_gateway::lmtp::Lmtp::new(
            lmtp_settings,
            Arc::new(client),
            self.env.spool.open(&self.config.data),
            Arc::new(move || wiring.request_id()),
        )
        .map_err(|why| refused(format!("the setting lmtp.{why}")))?;
        let stop = self.stop.clone();
        tasks.spawn(async move { lmtp.serve(&Door(listener), stop).await });
        Ok(())
    }
}

/// The client library on this node's world.
fn client_wiring(env: &Env) -> Wiring {
    let (rpc, rng) = (Arc::clone(&env.rpc), Arc::clone(&env.rng));
    Wiring {
        dial: Arc::new(move |addr: &str| {
            rpc.channel(addr, Terms::CLIENT)
                .map_err(|why| posthouse_client::Error::bad_request("addr", why))
        }),
        entropy: Arc::new(move |out: &mut [u8]| rng.fill(out)),
    }
}

/// The node's listener as the gateway's.
struct Door(Arc<dyn Listener>);

impl posthouse_gateway::listen::Listener for Door {
    fn accept(
        &self,
    ) -> futures::future::BoxFuture<
        '_,
        std::io::Result<(Box<dyn posthouse_gateway::listen::Stream>, String)>,
    > {
        Box::pin(async move {
            let (stream, peer) = self.0.accept().await?;
            Ok((
                Box::new(stream) as Box<dyn posthouse_gateway::listen::Stream>,
                peer,
            ))
        })
    }
}
