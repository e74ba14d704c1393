//! `posthouse bench open`: does opening and paging a mailbox depend on its size?

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use clap::Args;
use futures::stream::{self, StreamExt, TryStreamExt};
use posthouse_client::ids::{AccountName, MailboxName};
use posthouse_client::{AppendOptions, Client, Error, ListOptions};
use serde::Serialize;
use serde_json::json;
use tokio::time::Instant;

use super::message::{Pool, Random};
use super::stats::Latencies;
use crate::args::Context;
use crate::exit::{Failure, Outcome, usage};
use crate::output::{Columns, octets, print_json, progress, say};

/// Octets of a message in the mailboxes.
const MESSAGE_BYTES: u64 = 512;
/// Messages of the page that is read from the middle.
const PAGE: u32 = 100;

#[derive(Args)]
pub struct OpenArgs {
    /// Messages in each mailbox
    #[arg(long, value_delimiter = ',', default_values_t = [1000, 100_000, 1_000_000])]
    messages: Vec<u64>,
    /// Appends on their way at the same time while a mailbox is filled
    #[arg(long, default_value_t = 256)]
    parallel: usize,
    /// Longest time to fill one mailbox, in seconds
    #[arg(long, default_value_t = 3600)]
    seconds: u64,
    /// How often each read is repeated
    #[arg(long, default_value_t = 50)]
    repeat: usize,
    /// Seed of the messages
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

/// One line of the result. A mailbox that is already there is measured as it is.
#[derive(Serialize)]
struct Line {
    messages: u64,
    /// Messages that had to be appended.
    filled: u64,
    fill_seconds: f64,
    open_first_ms: f64,
    open_p50_ms: f64,
    open_p99_ms: f64,
    middle_first_ms: f64,
    middle_p50_ms: f64,
    middle_p99_ms: f64,
}

pub async fn run(context: Context, args: OpenArgs) -> Outcome {
    let json = context.json()?;
    if args.messages.iter().any(|m| !(1..=100_000_000).contains(m)) {
        return Err(usage("--messages are 1 to 100000000"));
    }
    if !(1..=4096).contains(&args.parallel) || !(1..=100_000).contains(&args.repeat) {
        return Err(usage("--parallel is 1 to 4096, --repeat 1 to 100000"));
    }
    let (client, _) = context.client().await?;
    let counts: Vec<String> = args.messages.iter().map(u64::to_string).collect();
    let workload = format!(
        "posthouse bench open --messages {} --parallel {} --repeat {} --seed {}",
        counts.join(","),
        args.parallel,
        args.repeat,
        args.seed
    );
    if !json {
        say(&format!(
            "workload: {workload} ({} a message)",
            octets(MESSAGE_BYTES)
        ))?;
    }
    let pool = Pool::new(args.seed, MESSAGE_BYTES, false);
    let mut lines = Vec::new();
    for &count in &args.messages {
        let account = AccountName::new(&format!("open-{count}@bench.example.org"))?;
        match client.create_account(&account, None).await {
            Ok(_) | Err(Error::AlreadyExists { .. }) => {}
            Err(error) => return Err(error.into()),
        }
        let started = Instant::now();
        let filled = fill(&client, &account, count, &pool, &args).await?;
        let fill_seconds = started.elapsed().as_secs_f64();
        let first = |first, page| ListOptions {
            first,
            page,
            ..ListOptions::default()
        };
        let middle = (count / 2).max(1).try_into().unwrap_or(u32::MAX);
        let mut open = reads(&client, &account, first(1, 1), args.repeat).await?;
        let mut page = reads(&client, &account, first(middle, PAGE), args.repeat).await?;
        lines.push(Line {
            messages: count,
            filled,
            fill_seconds,
            open_first_ms: open.0,
            open_p50_ms: open.1.percentile_ms(50.0),
            open_p99_ms: open.1.percentile_ms(99.0),
            middle_first_ms: page.0,
            middle_p50_ms: page.1.percentile_ms(50.0),
            middle_p99_ms: page.1.percentile_ms(99.0),
        });
    }
    match json {
        true => print_json(&json!({ "workload": workload, "mailboxes": lines })),
        false => print_table(&lines),
    }
}

/// Appends until the mailbox has `count` messages; gives how many were appended.
async fn fill(
    client: &Client,
    account: &AccountName,
    count: u64,
    pool: &Pool,
    args: &OpenArgs,
) -> Result<u64, Failure> {
    let inbox = MailboxName::inbox();
    let mailboxes = client.list_mailboxes(account).await?;
    let there = mailboxes.iter().find(|m| m.name == "INBOX");
    let there = there.map_or(0, |m| m.messages);
    let missing = count.saturating_sub(there);
    let bar = progress(missing, "filling", false);
    let until = Instant::now() + Duration::from_secs(args.seconds);
    let filled = AtomicU64::new(0);
    let (inbox, filled_ref, bar_ref) = (&inbox, &filled, &bar);
    stream::iter(there..there + missing)
        .map(Ok::<u64, Failure>)
        .try_for_each_concurrent(args.parallel, |number| async move {
            if Instant::now() >= until {
                let why = format!("the mailbox was not filled within {} s", args.seconds);
                return Err(Failure::Other(1, why));
            }
            let message = pool.message(number, MESSAGE_BYTES, &mut Random(args.seed ^ number));
            let options = AppendOptions::default();
            client.append(account, inbox, &message, options).await?;
            filled_ref.fetch_add(1, Ordering::Relaxed);
            bar_ref.inc(1);
            Ok(())
        })
        .await?;
    bar.finish_and_clear();
    Ok(filled.load(Ordering::Relaxed))
}

/// The first read in milliseconds, and all of them.
async fn reads(
    client: &Client,
    account: &AccountName,
    options: ListOptions,
    repeat: usize,
) -> Result<(f64, Latencies), Failure> {
    let inbox = MailboxName::inbox();
    let mut all = Latencies::default();
    let mut first_ms = None;
    for _ in 0..repeat {
        let started = Instant::now();
        let page = client.list_page(account, &inbox, options).await?;
        let took = started.elapsed();
        if page.messages.is_empty() {
            return Err(Failure::Other(
                1,
                "the mailbox is shorter than it should be".into(),
            ));
        }
        first_ms.get_or_insert(took.as_secs_f64() * 1000.0);
        all.add(took);
    }
    Ok((first_ms.unwrap_or(0.0), all))
}

fn print_table(lines: &[Line]) -> Outcome {
    let mut table = Columns::new(&[
        "#Messages",
        "#Filled",
        "#in s",
        "#Open first ms",
        "#p50",
        "#p99",
        "#Page first ms",
        "#p50",
        "#p99",
    ]);
    for l in lines {
        table.row([
            l.messages.to_string(),
            l.filled.to_string(),
            format!("{:.1}", l.fill_seconds),
            format!("{:.2}", l.open_first_ms),
            format!("{:.2}", l.open_p50_ms),
            format!("{:.2}", l.open_p99_ms),
            format!("{:.2}", l.middle_first_ms),
            format!("{:.2}", l.middle_p50_ms),
            format!("{:.2}", l.middle_p99_ms),
        ]);
    }
    table.print("nothing was measured")
}
