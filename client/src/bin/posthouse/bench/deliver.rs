//! `posthouse bench deliver`: messages a second, latency, and what they cost each replica.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use clap::Args;
use futures::stream::{self, StreamExt, TryStreamExt};
use posthouse_client::ids::AccountName;
use posthouse_client::{Client, Delivery, Error, Identity, Recipient};
use serde::Serialize;
use serde_json::json;
use tokio::time::Instant;

use super::message::{Pool, Random};
use super::nodes::{Cost, Pids, Watched};
use super::size;
use super::stats::Latencies;
use crate::args::Context;
use crate::exit::{Failure, Outcome, usage};
use crate::output::{Columns, octets, print_json, progress, say};

/// Clients that share connections.
const CLIENTS_PER_CONNECTION: usize = 16;
/// More messages in one cell would need too much memory for their latencies.
const MAX_MESSAGES: u64 = 10_000_000;

/// Room for the header, so that messages have exactly the size that is asked for.
const MIN_MESSAGE_BYTES: u64 = 512;

#[derive(Args)]
pub struct DeliverArgs {
    /// Sizes of messages: 512, 4K, 1M
    #[arg(long, value_delimiter = ',', value_parser = size, default_values = ["4K", "32K", "1M"])]
    size: Vec<u64>,
    /// Numbers of clients that deliver at the same time
    #[arg(long, value_delimiter = ',', default_values_t = [1, 16, 64])]
    clients: Vec<usize>,
    /// Messages for each size and number of clients [default: as many as fit in --seconds]
    #[arg(long)]
    messages: Option<u64>,
    /// Longest time for each size and number of clients [default: 10, with --messages 600]
    #[arg(long)]
    seconds: Option<u64>,
    /// Accounts that the messages go to, in turn
    #[arg(long, default_value_t = 64)]
    accounts: usize,
    /// Bodies of words instead of noise
    #[arg(long)]
    compressible: bool,
    /// Seed of the messages
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Processes of the nodes on this machine: auto, none, or 123,456,789
    #[arg(long, default_value = "auto")]
    pids: Pids,
}

/// One line of the result.
#[derive(Serialize)]
struct Cell {
    size: u64,
    clients: usize,
    messages: u64,
    errors: u64,
    seconds: f64,
    messages_per_second: f64,
    mb_per_second: f64,
    p50_ms: f64,
    p99_ms: f64,
    max_ms: f64,
    first_error: Option<String>,
    nodes: Vec<Cost>,
}

pub async fn run(context: Context, args: DeliverArgs) -> Outcome {
    let json = context.json()?;
    check(&args)?;
    let (client, addr) = context.client().await?;
    let accounts = Arc::new(create_accounts(&client, args.accounts).await?);
    let largest = args.size.iter().copied().max().unwrap_or(1);
    let pool = Arc::new(Pool::new(args.seed, largest, args.compressible));
    let watched = Watched::find(&client, &args.pids).await?;
    let busiest = args.clients.iter().copied().max().unwrap_or(1);
    let mut connections = vec![client.clone()];
    while connections.len() * CLIENTS_PER_CONNECTION < busiest {
        connections.push(context.client_of(std::slice::from_ref(&addr))?);
    }
    let workload = workload(&args);
    if !json {
        say(&format!("workload: {workload}"))?;
    }
    let stop = stop_on_interrupt();
    let mut cells = Vec::new();
    for &size in &args.size {
        for &clients in &args.clients {
            if stop.load(Ordering::Relaxed) {
                break;
            }
            let cell = Run {
                size,
                clients,
                pool: pool.clone(),
                accounts: accounts.clone(),
                seed: args.seed,
                limit: args.messages.unwrap_or(MAX_MESSAGES),
                time: time_limit(&args),
                stop: stop.clone(),
                given: AtomicU64::new(0),
            };
            let before = watched.read(&client).await;
            let (mut cell, took) = Arc::new(cell).measure(&connections, args.messages).await;
            let after = watched.read(&client).await;
            cell.nodes = watched.costs(&before, &after, size * cell.messages, took);
            cells.push(cell);
        }
    }
    let failed: u64 = cells.iter().map(|c| c.errors).sum();
    match json {
        true => print_json(&json!({ "workload": workload, "cells": cells }))?,
        false => print_tables(&cells)?,
    }
    match cells.iter().find_map(|c| c.first_error.as_ref()) {
        Some(first) => Err(Failure::Other(
            1,
            format!("{failed} deliveries failed: {first}"),
        )),
        None => Ok(()),
    }
}

fn check(args: &DeliverArgs) -> Outcome {
    if args.size.is_empty() || args.clients.is_empty() {
        return Err(usage("a size and a number of clients are needed"));
    }
    if args.size.iter().any(|s| *s < MIN_MESSAGE_BYTES) {
        return Err(usage(format!("--size is at least {MIN_MESSAGE_BYTES}")));
    }
    if args.clients.iter().any(|c| !(1..=1024).contains(c)) {
        return Err(usage("--clients are 1 to 1024"));
    }
    if !(1..=100_000).contains(&args.accounts) {
        return Err(usage("--accounts are 1 to 100000"));
    }
    if args
        .messages
        .is_some_and(|m| !(1..=MAX_MESSAGES).contains(&m))
    {
        return Err(usage(format!("--messages are 1 to {MAX_MESSAGES}")));
    }
    match args.seconds {
        Some(s) if !(1..=86_400).contains(&s) => Err(usage("--seconds are 1 to 86400")),
        _ => Ok(()),
    }
}

fn time_limit(args: &DeliverArgs) -> Duration {
    let default = if args.messages.is_some() { 600 } else { 10 };
    Duration::from_secs(args.seconds.unwrap_or(default))
}

/// The line that repeats the bench.
fn workload(args: &DeliverArgs) -> String {
    let list = |l: Vec<String>| l.join(",");
    let sizes = list(args.size.iter().map(u64::to_string).collect());
    let clients = list(args.clients.iter().map(usize::to_string).collect());
    let mut line = format!(
        "posthouse bench deliver --size {sizes} --clients {clients} --seconds {} --accounts {} \
         --seed {}",
        time_limit(args).as_secs(),
        args.accounts,
        args.seed
    );
    if let Some(messages) = args.messages {
        line.push_str(&format!(" --messages {messages}"));
    }
    if args.compressible {
        line.push_str(" --compressible");
    }
    line
}

async fn create_accounts(client: &Client, count: usize) -> Result<Vec<AccountName>, Failure> {
    let bar = progress(count as u64, "creating accounts", false);
    let names = stream::iter(0..count).map(|i| {
        let bar = bar.clone();
        async move {
            let name = AccountName::new(&format!("bench-{i}@bench.example.org"))?;
            match client.create_account(&name, None).await {
                Ok(_) | Err(Error::AlreadyExists { .. }) => {}
                Err(error) => return Err(Failure::from(error)),
            }
            bar.inc(1);
            Ok(name)
        }
    });
    let names = names.buffered(32).try_collect().await?;
    bar.finish_and_clear();
    Ok(names)
}

/// Ctrl-C ends the cell that runs and prints what was measured.
fn stop_on_interrupt() -> Arc<AtomicBool> {
    let stop = Arc::new(AtomicBool::new(false));
    let flag = stop.clone();
    tokio::spawn(async move {
        if tokio::signal::ctrl_c().await.is_ok() {
            flag.store(true, Ordering::Relaxed);
        }
        // A second one ends the program.
        if tokio::signal::ctrl_c().await.is_ok() {
            std::process::exit(130);
        }
    });
    stop
}

/// One size with one number of clients.
struct Run {
    size: u64,
    clients: usize,
    pool: Arc<Pool>,
    accounts: Arc<Vec<AccountName>>,
    seed: u64,
    limit: u64,
    time: Duration,
    stop: Arc<AtomicBool>,
    /// Messages that some client has taken on.
    given: AtomicU64,
}

#[derive(Default)]
struct Tally {
    latencies: Latencies,
    errors: u64,
    first_error: Option<String>,
}

impl Run {
    async fn measure(self: Arc<Self>, clients: &[Client], count: Option<u64>) -> (Cell, Duration) {
        let what = format!("{} × {}", octets(self.size), self.clients);
        let bar = progress(count.unwrap_or(0), &what, false);
        let started = Instant::now();
        let tasks: Vec<_> = (0..self.clients)
            .map(|i| {
                let client = clients[i % clients.len()].clone();
                let (run, bar) = (self.clone(), bar.clone());
                tokio::spawn(async move { run.one_client(i as u64, client, started, bar).await })
            })
            .collect();
        let mut all = Tally::default();
        for task in tasks {
            match task.await {
                Ok(tally) => {
                    all.latencies.merge(tally.latencies);
                    all.errors += tally.errors;
                    all.first_error = all.first_error.or(tally.first_error);
                }
                Err(e) => {
                    all.errors += 1;
                    all.first_error.get_or_insert(e.to_string());
                }
            }
        }
        let took = started.elapsed();
        bar.finish_and_clear();
        let messages = all.latencies.count() as u64;
        let rate = messages as f64 / took.as_secs_f64();
        let cell = Cell {
            size: self.size,
            clients: self.clients,
            messages,
            errors: all.errors,
            seconds: took.as_secs_f64(),
            messages_per_second: rate,
            mb_per_second: rate * self.size as f64 / 1e6,
            p50_ms: all.latencies.percentile_ms(50.0),
            p99_ms: all.latencies.percentile_ms(99.0),
            max_ms: all.latencies.percentile_ms(100.0),
            first_error: all.first_error,
            nodes: Vec::new(),
        };
        (cell, took)
    }

    async fn one_client(
        &self,
        index: u64,
        client: Client,
        started: Instant,
        bar: indicatif::ProgressBar,
    ) -> Tally {
        let mut random = Random(self.seed ^ (index + 1).wrapping_mul(0x2545_f491_4f6c_dd1d));
        let mut tally = Tally::default();
        while started.elapsed() < self.time && !self.stop.load(Ordering::Relaxed) {
            let number = self.given.fetch_add(1, Ordering::Relaxed);
            if number >= self.limit {
                break;
            }
            let account = &self.accounts[number as usize % self.accounts.len()];
            let message = self.pool.message(number, self.size, &mut random);
            let delivery = Delivery {
                identity: Identity::Request(client.request_id()),
                recipients: vec![Recipient::inbox(account.clone())],
                internal_date_ms: 0,
            };
            let sent = Instant::now();
            let answer = client.deliver(&delivery, &message).await;
            match answer.and_then(|mut a| a.results.remove(0)) {
                Ok(_) => tally.latencies.add(sent.elapsed()),
                Err(error) => {
                    tally.errors += 1;
                    tally.first_error.get_or_insert(error.to_string());
                }
            }
            bar.inc(1);
        }
        tally
    }
}

fn print_tables(cells: &[Cell]) -> Outcome {
    let mut table = Columns::new(&[
        "#Size",
        "#Clients",
        "#Messages",
        "#Errors",
        "#Messages/s",
        "#MB/s",
        "#p50 ms",
        "#p99 ms",
        "#Max ms",
    ]);
    for c in cells {
        table.row([
            octets(c.size),
            c.clients.to_string(),
            c.messages.to_string(),
            c.errors.to_string(),
            format!("{:.0}", c.messages_per_second),
            format!("{:.1}", c.mb_per_second),
            format!("{:.2}", c.p50_ms),
            format!("{:.2}", c.p99_ms),
            format!("{:.2}", c.max_ms),
        ]);
    }
    table.print("nothing was measured")?;
    say("\nper replica; octets written per octet of mail")?;
    let mut table = Columns::new(&[
        "#Size",
        "#Clients",
        "#Node",
        "#Journal",
        "#Index",
        "#Process",
        "#Syncs/s",
        "#CPU s/GB",
        "#RSS",
    ]);
    let number = |n: Option<f64>, digits: usize| match n {
        Some(n) => format!("{n:.digits$}"),
        None => "-".into(),
    };
    for c in cells {
        for n in &c.nodes {
            table.row([
                octets(c.size),
                c.clients.to_string(),
                n.node_id.to_string(),
                number(n.journal_bytes_per_byte, 3),
                number(n.index_bytes_per_byte, 3),
                number(n.disk_bytes_per_byte, 3),
                number(n.syncs_per_second, 0),
                number(n.cpu_seconds_per_gb, 1),
                n.rss_bytes.map_or("-".into(), octets),
            ]);
        }
    }
    table.print("no nodes")
}
