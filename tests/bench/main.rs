//! Posthouse beside Dovecot: the same messages, the same client, the same machine, one table.
//!
//! | module | what it is |
//! |---|---|
//! | [`posthouse`], [`dovecot`] | the servers, started for this and removed at the end |
//! | [`side`] | what measurements know of a server |
//! | [`corpus`] | what is stored |
//! | [`wire`], [`lmtp`] | the clients |
//! | [`work`], [`memory`] | what is measured |
//! | [`table`] | what is printed |
//!
//! `tests/bench/dovecot` builds it and sees to it that Dovecot is there. The servers take turns
//! within every repetition, so that what else the machine does meets all of them; the numbers are
//! medians. Posthouse keeps three replicas on the same machine that Dovecot has for itself.

mod corpus;
mod dovecot;
mod lmtp;
mod memory;
mod posthouse;
mod side;
mod table;
mod wire;
mod work;

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use clap::Parser;
use tokio::signal::unix::{SignalKind, signal};

use crate::corpus::Corpus;
use crate::dovecot::Dovecot;
use crate::posthouse::Posthouse;
use crate::side::{Side, Through, user};
use crate::table::{Lines, Unit};

/// Connections of the second LMTP line.
const MANY: usize = 16;
/// The account of the first LMTP line.
const LMTP_ONE: usize = 1 + work::IDLE_ACCOUNTS;
/// Those of the second one follow it.
const ACCOUNTS: usize = LMTP_ONE + 1 + MANY;

/// Measures Posthouse and Dovecot side by side.
#[derive(Parser)]
struct Arguments {
    /// Messages (*.eml) to store instead of the samples of the repository
    #[arg(long, value_name = "DIR")]
    corpus: Option<PathBuf>,
    /// Messages of the large mailbox
    #[arg(long, value_name = "N", default_value_t = 100_000)]
    large: usize,
    /// Messages of each mailbox that holds the corpus; there is one a repetition
    #[arg(long, value_name = "N", default_value_t = 2_000)]
    messages: usize,
    /// Repetitions
    #[arg(long, value_name = "N", default_value_t = 3)]
    runs: usize,
    /// Seconds of each LMTP measurement
    #[arg(long, value_name = "S", default_value_t = 5)]
    seconds: u64,
    /// Idle sessions; 0 leaves them out
    #[arg(long, value_name = "N", default_value_t = 1_000)]
    sessions: usize,
    /// Mailbox formats of Dovecot; each is one column
    #[arg(
        long,
        value_name = "FORMAT,...",
        value_delimiter = ',',
        default_value = "maildir,mdbox"
    )]
    formats: Vec<String>,
    /// Which node sessions go through
    #[arg(long, value_enum, default_value_t = Through::Leader)]
    through: Through,
    /// Small numbers: does everything work?
    #[arg(long)]
    smoke: bool,
    /// Only these: idle, lmtp, large, corpus
    #[arg(long, value_name = "PART,...", value_delimiter = ',')]
    only: Vec<String>,
}

impl Arguments {
    fn wants(&self, part: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|p| p == part)
    }
}

fn main() -> anyhow::Result<()> {
    let mut arguments = Arguments::parse();
    if arguments.smoke {
        arguments.large = arguments.large.min(2_000);
        arguments.messages = arguments.messages.min(200);
        arguments.runs = arguments.runs.min(1);
        arguments.seconds = arguments.seconds.min(1);
        arguments.sessions = arguments.sessions.min(50);
    }
    ensure!(
        arguments.runs > 0 && arguments.messages > 0,
        "at least one of each"
    );
    ensure!(
        (1..=1_000_000).contains(&arguments.large),
        "1 to 1000000 messages"
    );
    let corpus = Corpus::read(arguments.corpus.as_deref())?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()?;
    say_where(&arguments, &corpus);
    let mut posthouse = runtime.block_on(Posthouse::start(ACCOUNTS, arguments.through))?;
    let mut dovecots = Vec::new();
    for format in &arguments.formats {
        dovecots.push(runtime.block_on(Dovecot::start(format, ACCOUNTS))?);
    }
    let mut sides = vec![runtime.block_on(posthouse.side())?];
    sides.extend(dovecots.iter().map(Dovecot::side));
    let mut lines = Lines::new(sides.iter().map(|s| s.name.clone()).collect());
    let sides = Arc::new(sides);
    runtime.spawn(abandon_when_asked(Arc::clone(&sides)));
    let measured = measure(&arguments, &corpus, &sides, &mut lines);
    lines.print();
    measured
}

/// A run that is broken off leaves nothing behind.
async fn abandon_when_asked(sides: Arc<Vec<Side>>) -> anyhow::Result<()> {
    let (mut interrupt, mut terminate) = (
        signal(SignalKind::interrupt())?,
        signal(SignalKind::terminate())?,
    );
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    sides.iter().for_each(Side::abandon);
    std::process::exit(130);
}

fn measure(
    arguments: &Arguments,
    corpus: &Corpus,
    sides: &[Side],
    lines: &mut Lines,
) -> anyhow::Result<()> {
    if arguments.sessions > 0 && arguments.wants("idle") {
        idle(arguments, corpus, sides, lines).context("idle sessions")?;
    }
    prepare(arguments, corpus, sides)?;
    for run in 0..arguments.runs {
        eprintln!("Repetition {}", run + 1);
        if arguments.wants("lmtp") {
            deliveries(arguments, corpus, run, sides, lines).context("LMTP")?;
        }
        if arguments.wants("large") {
            large(arguments, run, sides, lines).context("the large mailbox")?;
        }
        if arguments.wants("corpus") {
            whole(arguments, run, sides, lines).context("the corpus")?;
        }
    }
    Ok(())
}

/// The sides with their places; in every repetition another one begins.
fn turns(run: usize, sides: &[Side]) -> impl Iterator<Item = (usize, &Side)> {
    let places = (0..sides.len()).map(move |i| (i + run) % sides.len());
    places.map(|i| (i, &sides[i]))
}

/// Fills the mailboxes that are read later.
fn prepare(arguments: &Arguments, corpus: &Corpus, sides: &[Side]) -> anyhow::Result<()> {
    for side in sides {
        let begin = Instant::now();
        if arguments.wants("large") {
            work::fill(side, 0, "large", arguments.large, corpus::small)?;
        }
        for run in (0..arguments.runs).filter(|_| arguments.wants("corpus")) {
            let mailbox = format!("corpus{run}");
            work::fill_with(side, 0, &mailbox, arguments.messages, corpus)?;
        }
        eprintln!(
            "{} is filled after {:.1} s",
            side.name,
            begin.elapsed().as_secs_f64()
        );
    }
    Ok(())
}

fn idle(
    arguments: &Arguments,
    corpus: &Corpus,
    sides: &[Side],
    lines: &mut Lines,
) -> anyhow::Result<()> {
    for (i, side) in sides.iter().enumerate() {
        for account in 0..work::IDLE_ACCOUNTS {
            work::fill_with(side, 1 + account, "INBOX", work::IDLE_MESSAGES, corpus)?;
        }
        let (before, with) = work::idle(side, arguments.sessions)?;
        let each = |with: u64, before: u64| {
            with.saturating_sub(before) as f64 / 1024.0 / arguments.sessions as f64
        };
        let n = arguments.sessions;
        let shared = each(with.shared_once, before.shared_once);
        let resident = each(with.resident, before.resident);
        eprintln!(
            "{}: {} processes with {} KiB before, {} with {} KiB",
            side.name,
            before.processes,
            before.shared_once / 1024,
            with.processes,
            with.shared_once / 1024
        );
        lines.add(
            &format!("memory of an idle session, of {n}, shared pages once"),
            Unit::Kib,
            i,
            shared,
        );
        lines.add(
            &format!("memory of an idle session, of {n}, resident"),
            Unit::Kib,
            i,
            resident,
        );
    }
    Ok(())
}

fn deliveries(
    arguments: &Arguments,
    corpus: &Corpus,
    run: usize,
    sides: &[Side],
    lines: &mut Lines,
) -> anyhow::Result<()> {
    let time = Duration::from_secs(arguments.seconds);
    for connections in [1, MANY] {
        let first = if connections == 1 {
            LMTP_ONE
        } else {
            LMTP_ONE + 1
        };
        let accounts: Vec<String> = (first..first + connections).map(user).collect();
        for (i, side) in turns(run, sides) {
            let rate = lmtp::deliver(&side.lmtp, &accounts, corpus, time)?;
            let what = format!("LMTP, connections: {connections}");
            lines.add(&what, Unit::MessagesPerSecond, i, rate);
        }
    }
    Ok(())
}

fn large(
    arguments: &Arguments,
    run: usize,
    sides: &[Side],
    lines: &mut Lines,
) -> anyhow::Result<()> {
    let n = arguments.large;
    for (i, side) in turns(run, sides) {
        let ms = work::select(side, "large")?;
        lines.add(
            &format!("SELECT of {n} messages"),
            Unit::Milliseconds,
            i,
            ms,
        );
    }
    for (i, side) in turns(run, sides) {
        let mut imap = work::opened(side, "large")?;
        let (ms, _) = work::fetch(&mut imap, "FLAGS", n)?;
        lines.add(
            &format!("FETCH 1:* (FLAGS) of {n}"),
            Unit::Milliseconds,
            i,
            ms,
        );
    }
    for (what, expected) in [
        ("SEARCH FLAGGED UNSEEN", n / 20 + usize::from(n % 20 > 17)),
        (
            "SEARCH SUBJECT quarterly",
            n / 100 + usize::from(n % 100 > 42),
        ),
        (
            "SEARCH HEADER X-Colour amber",
            (0..n).filter(|n| n / 3 % 5 == 4).count(),
        ),
    ] {
        for order in ["first", "second"] {
            for (i, side) in turns(run, sides) {
                let mut imap = work::opened(side, "large")?;
                let (ms, answer) = work::timed(&mut imap, what)?;
                ensure!(
                    answer.found == expected as u64,
                    "{}: {what} found {} of {expected}",
                    side.name,
                    answer.found
                );
                // The first repetition's is the only one that is the first.
                let again = lines.has(&format!("{what} of {n}, first"), i);
                match (order, again) {
                    ("first", true) => continue,
                    _ => lines.add(
                        &format!("{what} of {n}, {order}"),
                        Unit::Milliseconds,
                        i,
                        ms,
                    ),
                }
            }
        }
    }
    Ok(())
}

fn whole(
    arguments: &Arguments,
    run: usize,
    sides: &[Side],
    lines: &mut Lines,
) -> anyhow::Result<()> {
    let (n, mailbox) = (arguments.messages, format!("corpus{run}"));
    for order in ["first", "second"] {
        for (i, side) in turns(run, sides) {
            let mut imap = work::opened(side, &mailbox)?;
            let (ms, _) = work::fetch(&mut imap, "ENVELOPE BODYSTRUCTURE", n)?;
            let what = format!("FETCH 1:* (ENVELOPE BODYSTRUCTURE) of {n}, {order}");
            lines.add(&what, Unit::Milliseconds, i, ms);
        }
    }
    for (i, side) in turns(run, sides) {
        let mut imap = work::opened(side, &mailbox)?;
        let rate = work::read_all(&mut imap, n)?;
        lines.add("FETCH 1:* (BODY.PEEK[])", Unit::MegabytesPerSecond, i, rate);
    }
    for (i, side) in turns(run, sides) {
        let mut imap = work::opened(side, &mailbox)?;
        let rate = work::read_each(&mut imap, n)?;
        lines.add(
            "BODY.PEEK[], one after the other",
            Unit::MegabytesPerSecond,
            i,
            rate,
        );
    }
    Ok(())
}

fn say_where(arguments: &Arguments, corpus: &Corpus) {
    let read = |path: &str| {
        fs::read_to_string(path)
            .unwrap_or_default()
            .trim()
            .to_owned()
    };
    let cores = std::thread::available_parallelism().map_or(0, |n| n.get());
    let cpu = read("/proc/cpuinfo");
    let cpu = cpu.lines().find_map(|l| l.strip_prefix("model name"));
    let commit = Command::new("git")
        .args(["rev-parse", "--short", "HEAD"])
        .output();
    let commit = commit.map(|o| String::from_utf8_lossy(&o.stdout).trim().to_owned());
    println!(
        "Machine: {cores} cores ({}), Linux {}, Debian {}",
        cpu.unwrap_or("?").trim_start_matches([' ', '\t', ':']),
        read("/proc/sys/kernel/osrelease"),
        read("/etc/debian_version"),
    );
    println!(
        "Posthouse {} ({}), three nodes with three replicas, through {}; Dovecot {}, alone, {}, \
         mail_fsync = optimized",
        env!("CARGO_PKG_VERSION"),
        commit.unwrap_or_default(),
        match arguments.through {
            Through::Leader => "the node that leads the account's shard",
            Through::Other => "a node that does not lead the account's shard",
        },
        dovecot::version(),
        arguments.formats.join(" and "),
    );
    println!(
        "Messages: {} ({} octets on average); a mailbox of {} small ones; {} repetitions, {} s of \
         each LMTP line",
        corpus.len(),
        corpus.octets() / corpus.len() as u64,
        arguments.large,
        arguments.runs,
        arguments.seconds
    );
}
