//! `posthoused`: the storage node as a process.

use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use clap::Parser;
use posthouse_node::config::{Config, ConfigError};
use posthouse_node::env::Env;
use posthouse_node::node::Node;
use posthouse_node::raft::fault::Fault;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// A Posthouse storage node. Without any settings it forms a cluster of one that can grow later.
#[derive(Parser)]
#[command(name = "posthoused", version)]
struct Arguments {
    /// Where data lives
    #[arg(long, value_name = "DIR", env = "POSTHOUSE_DATA")]
    data: Option<PathBuf>,
    /// Settings (TOML); the command line goes before them
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Where to listen for gRPC, host:port
    #[arg(long, value_name = "ADDR")]
    listen: Option<String>,
    /// What others are told to connect to, when that differs from --listen
    #[arg(long, value_name = "ADDR")]
    advertise: Option<String>,
    /// Where to take mail over LMTP, host:port
    #[arg(long, value_name = "ADDR")]
    lmtp: Option<String>,
    /// Where mail programs reach their mailboxes over IMAP, host:port; with STARTTLS
    #[arg(long, value_name = "ADDR")]
    imap: Option<String>,
    /// The same with TLS from the first octet
    #[arg(long, value_name = "ADDR")]
    imaps: Option<String>,
    /// Where mail programs fetch mail over POP3, host:port; with STLS
    #[arg(long, value_name = "ADDR")]
    pop3: Option<String>,
    /// The same with TLS from the first octet
    #[arg(long, value_name = "ADDR")]
    pop3s: Option<String>,
    /// Certificate chain for TLS (PEM); without one, a self-signed one is made
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    tls_certificate: Option<PathBuf>,
    /// The key of that certificate (PEM)
    #[arg(long, value_name = "FILE", requires = "tls_certificate")]
    tls_key: Option<PathBuf>,
    /// Join the cluster that this node is a member of, host:port
    #[arg(long, value_name = "ADDR", requires = "token_file")]
    join: Option<String>,
    /// File that holds the one-use join token
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// Failure domain of this node
    #[arg(long, value_name = "NAME")]
    zone: Option<String>,
    /// Data shards of a new cluster
    #[arg(long, value_name = "N")]
    shards: Option<u32>,
    /// Replicas of each shard of a new cluster
    #[arg(long, value_name = "N")]
    replication: Option<u32>,
    /// Do not form a cluster: wait for `posthouse cluster init`
    #[arg(long)]
    wait_for_init: bool,
    /// Log as JSON
    #[arg(long)]
    log_json: bool,
}

#[allow(clippy::disallowed_methods)]
fn read(path: &Path) -> std::io::Result<String> {
    std::fs::read_to_string(path)
}

impl Arguments {
    fn config(self) -> anyhow::Result<Config> {
        let mut config = match &self.config {
            None => Config::default(),
            Some(path) => {
                let text = read(path).map_err(|e| ConfigError::Unreadable {
                    path: path.display().to_string(),
                    cause: e.to_string(),
                })?;
                Config::parse(&text, path)?
            }
        };
        fn set<T>(to: &mut T, from: Option<T>) {
            if let Some(value) = from {
                *to = value;
            }
        }
        set(&mut config.data, self.data);
        set(&mut config.listen, self.listen);
        set(&mut config.advertise, self.advertise);
        set(&mut config.lmtp, self.lmtp);
        set(&mut config.imap, self.imap);
        set(&mut config.imaps, self.imaps);
        set(&mut config.pop3, self.pop3);
        set(&mut config.pop3s, self.pop3s);
        set(&mut config.tls_certificate, self.tls_certificate);
        set(&mut config.tls_key, self.tls_key);
        set(&mut config.join, self.join);
        set(&mut config.zone, self.zone);
        set(&mut config.shards, self.shards);
        set(&mut config.replication, self.replication);
        config.wait_for_init |= self.wait_for_init;
        if let Some(path) = &self.token_file {
            // A node that has joined needs the token no more, and it may be gone.
            let joined = config.data.join("identity.json").exists();
            let token = match read(path) {
                Err(_) if joined => String::new(),
                token => token
                    .with_context(|| format!("cannot read the join token in {}", path.display()))?,
            };
            config.join_token = token.trim().to_owned();
        }
        config.check()?;
        Ok(config)
    }
}

fn log(json: bool) {
    let filter = tracing_subscriber::EnvFilter::try_from_default_env().unwrap_or_else(|_| {
        tracing_subscriber::EnvFilter::new("info,openraft=error,h2=error,hyper=error")
    });
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr);
    match json {
        true => log.json().init(),
        false => log.init(),
    }
}

/// Has freed blocks of 4 MiB and more given back to the system, and small ones once there are 16 MiB
/// of them at the end of the heap (mallopt(3)). By itself glibc learns from the first large block that
/// is freed to keep all of its kind, in every thread's arena: checking passwords, at 19 MiB each
/// (RFC 9106), made a node of 70 MB one of 350.
#[cfg(target_env = "gnu")]
fn give_memory_back() {
    // SAFETY: it takes numbers, and no other thread is there yet.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, 4 << 20);
        libc::mallopt(libc::M_TRIM_THRESHOLD, 16 << 20);
    }
}

#[cfg(not(target_env = "gnu"))]
fn give_memory_back() {}

fn main() -> ExitCode {
    give_memory_back();
    let arguments = Arguments::parse();
    log(arguments.log_json);
    // A task that panics may leave its group half dead: end the process instead.
    let default = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        default(info);
        std::process::abort();
    }));
    let runtime = match tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(e) => {
            eprintln!("posthoused: cannot start the runtime: {e}");
            return ExitCode::FAILURE;
        }
    };
    match runtime.block_on(run(arguments)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("posthoused: {e:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(arguments: Arguments) -> anyhow::Result<()> {
    let config = arguments.config()?;
    let quit = CancellationToken::new();
    let (mut term, mut int) = (
        signal(SignalKind::terminate())?,
        signal(SignalKind::interrupt())?,
    );
    let asked = quit.clone();
    tokio::spawn(async move {
        tokio::select! {
            _ = term.recv() => {}
            _ = int.recv() => {}
        }
        asked.cancel();
    });
    let node = Node::start(config, Env::real(), quit.child_token()).await?;
    let doors = node
        .door_addrs
        .iter()
        .map(|(name, addr)| format!(" {name}={addr}"));
    println!(
        "ready node={} grpc={} lmtp={}{}",
        node.id,
        node.grpc_addr,
        node.lmtp_addr,
        doors.collect::<String>()
    );
    std::io::stdout().flush()?;
    match node.ended().await {
        None => {
            node.stop().await;
            Ok(())
        }
        Some(fault @ Fault::IndexDamaged(_)) => {
            tracing::error!("{fault}");
            node.stop().await;
            Err(again().into())
        }
        Some(fault) => {
            tracing::error!("{fault}");
            // Nothing is made durable after a failed sync: leave what is there to recovery.
            Err(fault.into())
        }
    }
}

/// Begins anew in the same process, with nothing left of the old node: connections of peers, and
/// what they hold, may outlive it, and the index can be opened only once. Returns only on failure.
fn again() -> std::io::Error {
    let mut arguments = std::env::args_os();
    let name = arguments.next().unwrap_or_else(|| "posthoused".into());
    std::process::Command::new("/proc/self/exe")
        .arg0(name)
        .args(arguments)
        .exec()
}
