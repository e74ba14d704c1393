//! `posthouse cluster`.

use std::time::Duration;

use clap::{Args, Subcommand};
use posthouse_client::proto::{GetStatusResponse, InitRequest, JournalStats};
use posthouse_client::{Client, Error, Target};
use serde_json::json;
use tokio::time::Instant;

use crate::args::Context;
use crate::exit::{Failure, Outcome, usage};
use crate::output::{self, Columns, octets, print_json, say, time};
use crate::shards;

/// Between two looks at a cluster that is waited for.
const WAIT_STEP: Duration = Duration::from_millis(200);
/// Longest time for one look: a node asks its peers, of which some may be gone.
const LOOK_TIMEOUT: Duration = Duration::from_secs(5);
/// Longest time for a scrub of one node.
const SCRUB_TIMEOUT: Duration = Duration::from_secs(24 * 3600);

#[derive(Subcommand)]
pub enum Command {
    /// Form a new cluster of one node
    Init {
        /// Data shards; 0: the node's default (8)
        #[arg(long, default_value_t = 0)]
        shards: u32,
        /// Replicas of a shard; 0: the node's default (3)
        #[arg(long, default_value_t = 0)]
        replication: u32,
        /// Failure domain of the node
        #[arg(long, default_value = "")]
        zone: String,
    },
    /// Show the health of the cluster and the counters of one node
    Status {
        #[command(flatten)]
        node: NodeArg,
        /// Wait so many seconds for the cluster to be healthy; exit 4 when it is not by then
        #[arg(long, value_name = "SECONDS")]
        wait_healthy: Option<u64>,
        /// With --wait-healthy: healthy with at least so many nodes
        #[arg(long, value_name = "N", default_value_t = 1)]
        nodes: u32,
    },
    /// List the nodes
    Nodes {
        #[command(flatten)]
        node: NodeArg,
    },
    /// List the shards with their leaders and the lag of every replica
    Shards {
        #[command(flatten)]
        node: NodeArg,
        /// Only what one node sees of its own replicas
        #[arg(long)]
        local: bool,
    },
    /// List the workers of one node
    Workers {
        #[command(flatten)]
        node: NodeArg,
    },
    /// Make a token that lets one node join
    Token {
        /// Seconds that it is good for
        #[arg(long, default_value_t = 3600)]
        ttl: u64,
    },
    /// Hand the leadership of a shard to a node
    Transfer {
        /// The shard
        shard: u32,
        /// The node
        to: u64,
    },
    /// Make the index of nodes durable, so that a restart replays nothing
    Flush {
        #[command(flatten)]
        node: NodeArg,
    },
    /// Compare the state of all replicas of all shards
    Hash {
        /// Only these shards
        shards: Vec<u32>,
        /// Wait so many seconds for replicas that lag
        #[arg(long, default_value_t = 10, value_name = "SECONDS")]
        wait: u64,
    },
    /// Read and verify every blob of nodes, and repair damaged ones
    Scrub {
        #[command(flatten)]
        node: NodeArg,
    },
    /// Show which slots and shards are where
    Placement {
        #[command(flatten)]
        node: NodeArg,
    },
}

#[derive(Args)]
pub struct NodeArg {
    /// Ask this node [default: any that answers; flush and scrub: all]
    #[arg(long, value_name = "ID")]
    node: Option<u64>,
}

impl NodeArg {
    fn target(&self) -> Target {
        self.node.map_or(Target::Any, Target::Node)
    }

    /// This node or all.
    async fn nodes(&self, client: &Client) -> Result<Vec<u64>, Failure> {
        match self.node {
            Some(node) => Ok(vec![node]),
            None => {
                let placement = client.placement().await?;
                Ok(placement.nodes().map(|(id, _)| id).collect())
            }
        }
    }
}

pub async fn run(context: Context, command: Command) -> Outcome {
    let json = context.json()?;
    if let Command::Status {
        node,
        wait_healthy: Some(seconds),
        nodes,
    } = command
    {
        return wait_healthy(&context, &node.target(), seconds, nodes).await;
    }
    let (client, addr) = context.client().await?;
    match command {
        Command::Init {
            shards,
            replication,
            zone,
        } => {
            let request = InitRequest {
                shards,
                replication,
                zone,
            };
            let id = client.init(&addr, request).await?;
            match json {
                true => print_json(&json!({ "cluster_id": id })),
                false => say(&format!("cluster {id} is formed of the node at {addr}")),
            }
        }
        Command::Status { node, .. } => {
            let status = client.status(&node.target()).await?;
            print_status(json, &status)
        }
        Command::Nodes { node } => nodes(json, &client, &node.target()).await,
        Command::Shards { node, local } => {
            if local && node.node.is_none() {
                return Err(usage("--local needs --node: whose view is meant"));
            }
            shards::list(json, &client, &node.target(), local).await
        }
        Command::Workers { node } => workers(json, &client, &node.target()).await,
        Command::Token { ttl } => {
            let token = client.create_join_token(ttl.saturating_mul(1000)).await?;
            match json {
                true => print_json(&token),
                // The token alone on its line, so that a shell can take it.
                false => say(&token.token),
            }
        }
        Command::Transfer { shard, to } => {
            client.transfer_leader(shard, to).await?;
            match json {
                true => print_json(&json!({ "shard": shard, "leader_node": to })),
                false => say(&format!("shard {shard} is led by node {to}")),
            }
        }
        Command::Flush { node } => {
            let nodes = node.nodes(&client).await?;
            for node in &nodes {
                client.flush(&Target::Node(*node)).await?;
            }
            match json {
                true => print_json(&json!({ "flushed": nodes })),
                false => say(&format!("flushed nodes {nodes:?}")),
            }
        }
        Command::Hash { shards, wait } => {
            shards::hash(json, &client, shards, Duration::from_secs(wait)).await
        }
        Command::Scrub { node } => scrub(json, &client, &node).await,
        Command::Placement { node } => {
            let placement = client.placement_of(&node.target()).await?;
            if json {
                return print_json(&placement);
            }
            shards::print_placement(&placement)
        }
    }
}

/// Looks until the cluster is healthy; also when no node answers yet.
async fn wait_healthy(context: &Context, target: &Target, seconds: u64, nodes: u32) -> Outcome {
    let until = Instant::now() + Duration::from_secs(seconds);
    let json = context.json()?;
    loop {
        let look = async {
            let (client, _) = context.client().await?;
            let client = client.with_deadline(LOOK_TIMEOUT);
            Ok::<_, Failure>(client.status(target).await?)
        };
        let seen = look.await;
        match &seen {
            Ok(status) if status.healthy && status.nodes >= nodes => {
                return print_status(json, status);
            }
            // Time does not make a wrong cluster right.
            Err(Failure::Call(Error::WrongCluster { .. } | Error::BadRequest { .. }))
            | Err(Failure::Other(2, _)) => return seen.map(drop),
            _ => {}
        }
        if Instant::now() + WAIT_STEP >= until {
            let status = seen?;
            print_status(json, &status)?;
            let why = format!("not healthy after {seconds} s with {} nodes", status.nodes);
            return Err(Failure::Other(4, why));
        }
        tokio::time::sleep(WAIT_STEP).await;
    }
}

fn print_status(json: bool, s: &GetStatusResponse) -> Outcome {
    if json {
        return print_json(s);
    }
    let health = if s.healthy { "healthy" } else { "not healthy" };
    say(&format!("cluster {}: {health}", s.cluster_id))?;
    let mut table = Columns::new(&["What", "Value"]);
    let mut line = |what: &str, value: String| table.row([what.to_owned(), value]);
    line(
        "nodes reachable",
        format!("{} of {}", s.nodes_reachable, s.nodes),
    );
    line(
        "shards with a leader",
        format!("{} of {}", s.shards_with_leader, s.shards),
    );
    line("placement version", s.placement_version.to_string());
    line("answered by node", format!("{} ({})", s.node_id, s.version));
    line("up for", format!("{} s", s.uptime_ms / 1000));
    if let Some(j) = &s.journal {
        journal_lines(j, &mut line);
    }
    table.print("")?;
    for problem in &s.problems {
        say(&format!("problem: {}", output::clean(problem)))?;
    }
    if s.damage.is_empty() {
        return Ok(());
    }
    let mut table = Columns::new(&[
        "Damaged file",
        "#Offset",
        "#Length",
        "Cause",
        "Action",
        "Time",
    ]);
    for d in &s.damage {
        table.row([
            d.file.clone(),
            d.offset.to_string(),
            d.length.to_string(),
            d.cause.clone(),
            d.action.clone(),
            time(d.time_ms),
        ]);
    }
    table.print("")
}

fn journal_lines(j: &JournalStats, line: &mut impl FnMut(&str, String)) {
    let share = |part: u64, whole: u64| match whole {
        0 => String::new(),
        _ => format!(" ({:.2} per octet of mail)", part as f64 / whole as f64),
    };
    line(
        "journal segments",
        format!("{}, {}", j.segments, octets(j.total_bytes)),
    );
    line("live in them", octets(j.live_bytes));
    line("mail taken in", octets(j.body_bytes));
    let written = octets(j.bytes_written);
    line(
        "written to the journal",
        written + &share(j.bytes_written, j.body_bytes),
    );
    let written = octets(j.index_bytes_written);
    line(
        "written to the index",
        written + &share(j.index_bytes_written, j.body_bytes),
    );
    line("syncs", format!("{} for {} records", j.syncs, j.records));
    line(
        "last start",
        format!(
            "{} ms, {} records replayed",
            j.startup_ms, j.startup_records
        ),
    );
}

async fn nodes(json: bool, client: &Client, target: &Target) -> Outcome {
    let answer = client.nodes(target).await?;
    if json {
        return print_json(&answer);
    }
    let mut table = Columns::new(&[
        "#Node",
        "Address",
        "Zone",
        "State",
        "Reachable",
        "Mail",
        "#Free",
        "#Disk",
        "LMTP",
        "Version",
    ]);
    for n in answer.nodes {
        let yes = |b| if b { "yes" } else { "no" }.to_owned();
        let mail = if n.read_only { "read only" } else { "taken" };
        table.row([
            n.node_id.to_string(),
            n.addr,
            n.zone,
            n.state,
            yes(n.reachable),
            mail.to_owned(),
            octets(n.disk_free_bytes),
            octets(n.disk_total_bytes),
            n.lmtp_addr,
            n.version,
        ]);
    }
    table.print("no nodes")
}

async fn workers(json: bool, client: &Client, target: &Target) -> Outcome {
    let workers = client.workers(target).await?;
    if json {
        return print_json(&json!({ "workers": workers }));
    }
    let mut table = Columns::new(&[
        "Worker",
        "State",
        "Detail",
        "#Runs",
        "Last run",
        "Last error",
    ]);
    for w in workers {
        table.row([
            w.name,
            w.state,
            w.detail,
            w.runs.to_string(),
            time(w.last_run_ms),
            w.last_error,
        ]);
    }
    table.print("no workers")
}

async fn scrub(json: bool, client: &Client, node: &NodeArg) -> Outcome {
    let client = client.with_deadline(SCRUB_TIMEOUT);
    let nodes = node.nodes(&client).await?;
    let bar = output::progress(nodes.len() as u64, "scrubbing", false);
    let mut table = Columns::new(&["#Node", "#Blobs", "#Size", "#Damaged", "#Repaired"]);
    let mut documents = Vec::new();
    let mut left = 0;
    for node in nodes {
        let r = client.scrub(&Target::Node(node)).await?;
        bar.inc(1);
        left += r.damaged.saturating_sub(r.repaired);
        table.row([
            node.to_string(),
            r.blobs.to_string(),
            octets(r.bytes),
            r.damaged.to_string(),
            r.repaired.to_string(),
        ]);
        documents.push(json!({
            "node_id": node,
            "blobs": r.blobs,
            "bytes": r.bytes,
            "damaged": r.damaged,
            "repaired": r.repaired,
        }));
    }
    bar.finish_and_clear();
    match json {
        true => print_json(&json!({ "nodes": documents }))?,
        false => table.print("")?,
    }
    match left {
        0 => Ok(()),
        n => Err(Failure::Other(
            1,
            format!("{n} damaged blobs could not be repaired"),
        )),
    }
}
