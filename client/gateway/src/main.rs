//! `posthouse-gateway`: the front doors as a process of their own, any number of them, knowing
//! the cluster through the client library alone.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context;
use clap::Parser;
use posthouse_client::Client;
use posthouse_gateway::config::Config;
use posthouse_gateway::imap::Imap;
use posthouse_gateway::imap::cluster::Cluster;
use posthouse_gateway::listen::TcpDoor;
use posthouse_gateway::lmtp::Lmtp;
use posthouse_gateway::pop3::Pop3;
use posthouse_gateway::spool::TempSpool;
use posthouse_gateway::tls::Tls;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// The doors of a Posthouse cluster: takes mail in over LMTP, hands it out over IMAP and POP3.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// Settings (TOML)
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// A node of the cluster, host:port; may be given several times
    #[arg(long = "node", value_name = "ADDR")]
    nodes: Vec<String>,
    /// Where to listen for LMTP; '' for no LMTP door
    #[arg(long, value_name = "ADDR")]
    lmtp: Option<String>,
    /// Where to listen for IMAP
    #[arg(long, value_name = "ADDR")]
    imap: Option<String>,
    /// Where to listen for IMAP with TLS from the first octet
    #[arg(long, value_name = "ADDR")]
    imaps: Option<String>,
    /// Where to listen for POP3
    #[arg(long, value_name = "ADDR")]
    pop3: Option<String>,
    /// Where to listen for POP3 with TLS from the first octet
    #[arg(long, value_name = "ADDR")]
    pop3s: Option<String>,
    /// Keep a self-signed certificate in this directory, unless the settings name another one
    #[arg(long, value_name = "DIR")]
    tls_directory: Option<PathBuf>,
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
        if let Some(listen) = self.imap {
            config.imap.listen = listen;
        }
        if let Some(listen) = self.imaps {
            config.imap.listen_tls = listen;
        }
        if let Some(listen) = self.pop3 {
            config.pop3.listen = listen;
        }
        if let Some(listen) = self.pop3s {
            config.pop3.listen_tls = listen;
        }
        if self.tls_directory.is_some() {
            config.tls.directory = self.tls_directory;
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
    let source = config.tls.source().map_err(anyhow::Error::msg)?;
    let tls = source.map(Tls::open).transpose().context("no TLS")?;
    let spool = config.spool.map_or_else(TempSpool::default, TempSpool::new);
    let spool = Arc::new(spool);
    let lmtp = Lmtp::new(
        config.lmtp.clone(),
        Arc::new(client.clone()),
        spool.clone(),
        Arc::new(move || wiring.request_id()),
    )
    .map_err(|why| anyhow::anyhow!("the setting lmtp.{why}"))?;
    let server = tls.as_ref().map(Tls::config);
    let cluster = Cluster::new(client.clone(), Arc::new(now_ms));
    let imap = Imap::new(
        config.imap.clone(),
        Arc::new(cluster),
        spool,
        server.clone(),
    )
    .map_err(|why| anyhow::anyhow!("the setting imap.{why}"))?;
    let pop3 = Pop3::new(config.pop3.clone(), Arc::new(client), server)
        .map_err(|why| anyhow::anyhow!("the setting pop3.{why}"))?;

    // All addresses first: nothing is served unless everything can be.
    let mut ready = String::from("ready");
    let lmtp_door = bind(&config.lmtp.listen, "lmtp", "lmtp.listen", &mut ready).await?;
    let imap_door = bind(&config.imap.listen, "imap", "imap.listen", &mut ready).await?;
    let imaps_door = bind(
        &config.imap.listen_tls,
        "imaps",
        "imap.listen_tls",
        &mut ready,
    )
    .await?;
    let pop3_door = bind(&config.pop3.listen, "pop3", "pop3.listen", &mut ready).await?;
    let pop3s_door = bind(
        &config.pop3.listen_tls,
        "pop3s",
        "pop3.listen_tls",
        &mut ready,
    )
    .await?;
    let only_tls = [
        ("imap.listen_tls", &imaps_door),
        ("pop3.listen_tls", &pop3s_door),
    ];
    if let (None, Some((setting, _))) = (&tls, only_tls.iter().find(|(_, door)| door.is_some())) {
        anyhow::bail!(
            "{setting} needs a certificate: set tls.certificate and tls.key, or tls.directory"
        );
    }
    let all = [&lmtp_door, &imap_door, &imaps_door, &pop3_door, &pop3s_door];
    if all.iter().all(|door| door.is_none()) {
        anyhow::bail!("no door has an address");
    }
    println!("{ready}");

    let shutdown = CancellationToken::new();
    let mut doors = JoinSet::new();
    if let Some(door) = lmtp_door {
        let stop = shutdown.clone();
        doors.spawn(async move { lmtp.serve(&door, stop).await });
    }
    if let Some(door) = imap_door {
        let (imap, stop) = (imap.clone(), shutdown.clone());
        doors.spawn(async move { imap.serve(&door, stop).await });
    }
    if let Some(door) = imaps_door {
        let stop = shutdown.clone();
        doors.spawn(async move { imap.serve_tls(&door, stop).await });
    }
    if let Some(door) = pop3_door {
        let (pop3, stop) = (pop3.clone(), shutdown.clone());
        doors.spawn(async move { pop3.serve(&door, stop).await });
    }
    if let Some(door) = pop3s_door {
        let stop = shutdown.clone();
        doors.spawn(async move {
            pop3.serve_tls(&door, stop).await;
        });
    }
    if let Some(tls) = tls {
        let stop = shutdown.clone();
        doors.spawn(async move { tls.keep_fresh(stop).await });
    }
    let (mut term, mut int) = (
        signal(SignalKind::terminate())?,
        signal(SignalKind::interrupt())?,
    );
    tokio::spawn(async move {
        tokio::select! { _ = term.recv() => {}, _ = int.recv() => {} }
        tracing::info!("stopping: what is under way may finish");
        shutdown.cancel();
    });
    while let Some(ended) = doors.join_next().await {
        ended.context("a door has failed")?;
    }
    Ok(())
}

/// Milliseconds since 1970: searches by age count from it.
#[allow(clippy::disallowed_methods)]
fn now_ms() -> u64 {
    std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0, |since| since.as_millis() as u64)
}

/// Binds an address, unless it is empty, and adds it to what is told.
async fn bind(
    addr: &str,
    name: &str,
    setting: &str,
    ready: &mut String,
) -> anyhow::Result<Option<TcpDoor>> {
    if addr.is_empty() {
        return Ok(None);
    }
    let door = TcpDoor::bind(addr)
        .await
        .with_context(|| format!("cannot listen on {addr}; set another {setting}"))?;
    ready.push_str(&format!(" {name}={}", door.local_addr()?));
    Ok(Some(door))
}
