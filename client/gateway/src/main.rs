//! `posthouse-gateway`: the front doors as a process of their own, any number of them, knowing
//! the cluster through the client library alone.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context;
use clap::Parser;
use posthouse_client::Client;
use posthouse_gateway::config::Config;
use posthouse_gateway::listen::TcpDoor;
use posthouse_gateway::lmtp::Lmtp;
use posthouse_gateway::spool::TempSpool;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// Takes mail in over LMTP and stores it in a Posthouse cluster.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// Settings (TOML)
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// A node of the cluster, host:port; may be given several times
    #[arg(long = "node", value_name = "ADDR")]
    nodes: Vec<String>,
    /// Where to listen for LMTP
    #[arg(long, value_name = "ADDR")]
    lmtp: Option<String>,
}

impl Arguments {
    fn config(self) -> anyhow::Result<Config> {
        let mut config = match &self.config {
            Some(path) => Config::load(path)?,
            None => Config::default(),
        };
        if !self.nodes.is_empty() {
            config.nodes = self.nodes;
        }
        if let Some(listen) = self.lmtp {
            config.lmtp.listen = listen;
        }
        Ok(config)
    }
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let filter = tracing_subscriber::EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .init();
    let config = Arguments::parse().config()?;

    let settings = posthouse_client::Settings::default();
    let wiring = settings.wiring.clone();
    let client = Client::new(&config.nodes, settings)?;
    let spool = config.spool.map_or_else(TempSpool::default, TempSpool::new);
    let lmtp = Lmtp::new(
        config.lmtp.clone(),
        Arc::new(client),
        Arc::new(spool),
        Arc::new(move || wiring.request_id()),
    )
    .map_err(|why| anyhow::anyhow!("the setting lmtp.{why}"))?;
    let listen = &config.lmtp.listen;
    let door = TcpDoor::bind(listen)
        .await
        .with_context(|| format!("cannot listen on {listen}; set another lmtp.listen"))?;
    println!("ready lmtp={}", door.local_addr()?);

    let shutdown = CancellationToken::new();
    let (mut term, mut int) = (
        signal(SignalKind::terminate())?,
        signal(SignalKind::interrupt())?,
    );
    let stop = shutdown.clone();
    tokio::spawn(async move {
        tokio::select! { _ = term.recv() => {}, _ = int.recv() => {} }
        tracing::info!("stopping: messages on their way in may finish");
        stop.cancel();
    });
    lmtp.serve(&door, shutdown).await;
    Ok(())
}
