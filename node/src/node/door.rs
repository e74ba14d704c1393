//! The doors in the process of a node: LMTP, IMAP, POP3. They know the cluster through the client
//! library alone, as doors in a process of their own do; but what they ask of this very node goes
//! straight to its services, without a connection in between.

use super::StartError;
use super::start::Starting;
use crate::env::Env;
use crate::env::net::Listener;
use crate::env::rpc::{Channel, RpcService};
use crate::raft::fault::Fault;
use posthouse_client::Client;
use posthouse_client::connect::{Terms, Wiring};
use posthouse_gateway::imap::cluster::Cluster;
use posthouse_gateway::imap::{self, Imap};
use posthouse_gateway::lmtp::{self, Lmtp};
use posthouse_gateway::pop3::{self, Pop3};
use posthouse_gateway::tls::{Source, Tls};
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;
use tower::ServiceExt;

/// Where self-signed certificates are, in the data directory.
const TLS_DIR: &str = "tls";

/// What the doors listen on. All of it is there before the node takes part in anything.
#[derive(Default)]
pub(super) struct Sockets {
    pub lmtp: Option<Arc<dyn Listener>>,
    pub imap: Option<Arc<dyn Listener>>,
    pub imaps: Option<Arc<dyn Listener>>,
    pub pop3: Option<Arc<dyn Listener>>,
    pub pop3s: Option<Arc<dyn Listener>>,
    tls: Option<Tls>,
}

impl Sockets {
    /// The doors for mail programs, and where they are.
    pub(super) fn addrs(&self) -> Vec<(&'static str, String)> {
        let doors = [
            ("imap", &self.imap),
            ("imaps", &self.imaps),
            ("pop3", &self.pop3),
            ("pop3s", &self.pop3s),
        ];
        doors
            .into_iter()
            .filter_map(|(name, listener)| Some((name, listener.as_ref()?.local_addr())))
            .collect()
    }
}

impl Starting {
    /// Binds the doors' addresses and reads their certificate, or makes it.
    pub(super) async fn sockets(&self) -> Result<Sockets, StartError> {
        let config = &self.config;
        let sockets = Sockets {
            lmtp: self.door_at(&config.lmtp, "lmtp").await?,
            imap: self.door_at(&config.imap, "imap").await?,
            imaps: self.door_at(&config.imaps, "imaps").await?,
            pop3: self.door_at(&config.pop3, "pop3").await?,
            pop3s: self.door_at(&config.pop3s, "pop3s").await?,
            tls: None,
        };
        if sockets.addrs().is_empty() {
            return Ok(sockets);
        }
        let tls = self.env.certificates.open(self.certificate())?;
        if tls.is_none() && (sockets.imaps.is_some() || sockets.pop3s.is_some()) {
            return Err(refused(
                "this node has no TLS, so no imaps and no pop3s".to_owned(),
            ));
        }
        Ok(Sockets { tls, ..sockets })
    }

    async fn door_at(
        &self,
        addr: &str,
        option: &'static str,
    ) -> Result<Option<Arc<dyn Listener>>, StartError> {
        match addr {
            "" => Ok(None),
            addr => self.listen(addr, option).await.map(Some),
        }
    }

    fn certificate(&self) -> Source {
        let config = &self.config;
        let none = |path: &std::path::Path| path.as_os_str().is_empty();
        if !none(&config.tls_certificate) && !none(&config.tls_key) {
            return Source::Files {
                certificate: config.tls_certificate.clone(),
                key: config.tls_key.clone(),
            };
        }
        // Names under which clients on this machine, and those that are told of it, find it.
        let mut names = ["localhost", "127.0.0.1", "::1"]
            .map(str::to_owned)
            .to_vec();
        for addr in [
            &config.advertise,
            &config.listen,
            &config.imap,
            &config.imaps,
            &config.pop3,
            &config.pop3s,
        ] {
            let host = addr.rsplit_once(':').map_or("", |(host, _)| host);
            let host = host.trim_start_matches('[').trim_end_matches(']');
            let any = ["", "0.0.0.0", "::"].contains(&host);
            if !any && !names.iter().any(|name| name == host) {
                names.push(host.to_owned());
            }
        }
        Source::SelfSigned {
            dir: config.data.join(TLS_DIR),
            names,
        }
    }

    /// Hosts the doors in this process.
    pub(super) fn doors(
        &self,
        sockets: Sockets,
        own: Own,
        tasks: &mut JoinSet<()>,
    ) -> Result<(), StartError> {
        let addr = own.addr.clone();
        let wiring = client_wiring(&self.env, own);
        let settings = posthouse_client::Settings {
            wiring: wiring.clone(),
            ..Default::default()
        };
        let client = Client::new(&[addr], settings).map_err(|e| refused(e.to_string()))?;
        if let Some(listener) = sockets.lmtp {
            let deadline = Duration::from_millis(self.config.lmtp_deadline_ms);
            self.lmtp(listener, client.with_deadline(deadline), wiring, tasks)?;
        }
        let config = sockets.tls.as_ref().map(Tls::config);
        if let Some(tls) = sockets.tls {
            let stop = self.stop.clone();
            tasks.spawn(async move { tls.keep_fresh(stop).await });
        }
        let clock = Arc::clone(&self.env.clock);
        let imap = Imap::new(
            imap::settings::Settings {
                message_bytes: self.config.max_message_bytes,
                ..Default::default()
            },
            Arc::new(Cluster::new(
                client.clone(),
                Arc::new(move || clock.now_ms()),
            )),
            self.env.spool.open(&self.config.data),
            config.clone(),
        )
        .map_err(|why| refused(format!("the setting imap.{why}")))?;
        if let Some(listener) = sockets.imap {
            let (imap, stop) = (imap.clone(), self.stop.clone());
            tasks.spawn(async move { imap.serve(&Door(listener), stop).await });
        }
        if let Some(listener) = sockets.imaps {
            let stop = self.stop.clone();
            tasks.spawn(async move { imap.serve_tls(&Door(listener), stop).await });
        }
        let pop3 = Pop3::new(
            pop3::settings::Settings::default(),
            Arc::new(client),
            config,
        )
        .map_err(|why| refused(format!("the setting pop3.{why}")))?;
        if let Some(listener) = sockets.pop3 {
            let (pop3, stop) = (pop3.clone(), self.stop.clone());
            tasks.spawn(async move { pop3.serve(&Door(listener), stop).await });
        }
        if let Some(listener) = sockets.pop3s {
            let stop = self.stop.clone();
            tasks.spawn(async move {
                pop3.serve_tls(&Door(listener), stop).await;
            });
        }
        Ok(())
    }

    fn lmtp(
        &self,
        listener: Arc<dyn Listener>,
        client: Client,
        wiring: Wiring,
        tasks: &mut JoinSet<()>,
    ) -> Result<(), StartError> {
        let settings = lmtp::settings::Settings {
            dedupe: self.config.lmtp_dedupe,
            message_bytes: self.config.max_message_bytes,
            ..Default::default()
        };
        let lmtp = Lmtp::new(
            settings,
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

fn refused(why: String) -> StartError {
    StartError::Fault(Fault::Refused(why))
}

/// This node's own services, as the doors reach them.
pub(super) struct Own {
    /// The address under which the placement map knows them.
    pub addr: String,
    pub service: RpcService,
}

/// The client library on this node's world.
fn client_wiring(env: &Env, own: Own) -> Wiring {
    let (rpc, rng) = (Arc::clone(&env.rpc), Arc::clone(&env.rng));
    let here: Channel = Channel::new(own.service.map_err(|never| match never {}));
    Wiring {
        dial: Arc::new(move |addr: &str| {
            if addr == own.addr {
                return Ok(here.clone());
            }
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
