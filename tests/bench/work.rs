//! What is measured, and how: each function fills or asks one side once and gives one number.

use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::ensure;

use crate::corpus::{self, Corpus};
use crate::memory::{self, Memory};
use crate::side::{PASSWORD, Side, user};
use crate::wire::{Answer, Imap};

/// Messages of one APPEND (RFC 3502).
const BATCH: usize = 50;
/// Sessions that fill a mailbox.
const FILLERS: usize = 16;
/// Sessions of the idle ones are spread over these accounts, the first after those that are
/// measured otherwise.
pub const IDLE_ACCOUNTS: usize = 16;
/// Messages in the mailbox that idle sessions have selected.
pub const IDLE_MESSAGES: usize = 200;
/// Logins at a time while idle sessions are made.
const LOGINS: usize = 8;
/// Time for a server to come to rest before its memory is looked at.
const REST: Duration = Duration::from_secs(3);

/// Appends messages to a mailbox of the `account`-th account, which is created unless it is INBOX.
/// Several sessions append batches at a time, so the order of these is not the same everywhere.
pub fn fill(
    side: &Side,
    account: usize,
    mailbox: &str,
    count: usize,
    message: impl Fn(usize) -> Vec<u8> + Sync,
) -> anyhow::Result<()> {
    let login = || Imap::login(&side.imap[0], &user(account), PASSWORD);
    if mailbox != "INBOX" {
        login()?.run(&format!("CREATE {mailbox}"))?;
    }
    let next = AtomicUsize::new(0);
    let append = || -> anyhow::Result<()> {
        let mut imap = login()?;
        loop {
            let from = next.fetch_add(BATCH, Ordering::Relaxed);
            if from >= count {
                return Ok(());
            }
            append(&mut imap, mailbox, from..count.min(from + BATCH), &message)?;
        }
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..FILLERS).map(|_| scope.spawn(append)).collect();
        threads.into_iter().try_for_each(|t| ended(t.join()))
    })
}

fn append(
    imap: &mut Imap,
    mailbox: &str,
    batch: Range<usize>,
    message: impl Fn(usize) -> Vec<u8>,
) -> anyhow::Result<()> {
    let tag = imap.tag();
    let mut command = format!("{tag} APPEND {mailbox}").into_bytes();
    for n in batch {
        let message = message(n);
        let head = format!(
            " ({}) \"{:2}-Mar-2025 10:00:00 +0000\" {{{}+}}\r\n",
            corpus::flags(n),
            n % 28 + 1,
            message.len()
        );
        command.extend_from_slice(head.as_bytes());
        command.extend_from_slice(&message);
    }
    command.extend_from_slice(b"\r\n");
    imap.write(&command)?;
    imap.answer(&tag).map(drop)
}

/// What a thread came to; one that panicked is an error.
pub fn ended<T>(joined: std::thread::Result<anyhow::Result<T>>) -> anyhow::Result<T> {
    joined.unwrap_or_else(|_| Err(anyhow::anyhow!("a thread panicked")))
}

/// Fills a mailbox with the corpus, as often as it takes.
pub fn fill_with(
    side: &Side,
    account: usize,
    mailbox: &str,
    count: usize,
    corpus: &Corpus,
) -> anyhow::Result<()> {
    fill(side, account, mailbox, count, |n| {
        corpus.message(n, n as u64)
    })
}

/// Milliseconds that a command takes in a session, and its answer.
pub fn timed(imap: &mut Imap, command: &str) -> anyhow::Result<(f64, Answer)> {
    let begin = Instant::now();
    let answer = imap.run(command)?;
    Ok((begin.elapsed().as_secs_f64() * 1000.0, answer))
}

/// Milliseconds of a SELECT in a fresh session: the median of a few.
pub fn select(side: &Side, mailbox: &str) -> anyhow::Result<f64> {
    let mut times = Vec::new();
    for _ in 0..5 {
        let mut imap = side.session()?;
        times.push(timed(&mut imap, &format!("SELECT {mailbox}"))?.0);
    }
    times.sort_by(f64::total_cmp);
    Ok(times[times.len() / 2])
}

/// A session with this mailbox selected.
pub fn opened(side: &Side, mailbox: &str) -> anyhow::Result<Imap> {
    let mut imap = side.session()?;
    imap.run(&format!("SELECT {mailbox}"))?;
    Ok(imap)
}

/// Milliseconds of a FETCH that must tell of `count` messages.
pub fn fetch(imap: &mut Imap, items: &str, count: usize) -> anyhow::Result<(f64, Answer)> {
    let (ms, answer) = timed(imap, &format!("FETCH 1:* ({items})"))?;
    ensure!(
        answer.fetched == count as u64,
        "{} of {count} messages were told",
        answer.fetched
    );
    Ok((ms, answer))
}

/// MB/s of whole messages, all in one command.
pub fn read_all(imap: &mut Imap, count: usize) -> anyhow::Result<f64> {
    let (ms, answer) = fetch(imap, "BODY.PEEK[]", count)?;
    Ok(answer.literal as f64 / 1e3 / ms)
}

/// MB/s of whole messages, a command for each.
pub fn read_each(imap: &mut Imap, count: usize) -> anyhow::Result<f64> {
    let (begin, mut octets) = (Instant::now(), 0);
    for n in 1..=count {
        let answer = imap.run(&format!("FETCH {n} (BODY.PEEK[])"))?;
        ensure!(answer.fetched == 1, "message {n} was not told");
        octets += answer.literal;
    }
    Ok(octets as f64 / 1e6 / begin.elapsed().as_secs_f64())
}

/// What idle sessions cost: memory before, and with them.
pub fn idle(side: &Side, sessions: usize) -> anyhow::Result<(Memory, Memory)> {
    // Everybody logs in once before, so that what is kept by account, and by having served
    // anybody at all, does not count.
    let some = make_idle(side, IDLE_ACCOUNTS * side.imap.len())?;
    drop(some);
    std::thread::sleep(REST);
    let before = memory::of_trees(&side.pids);
    let all = make_idle(side, sessions)?;
    std::thread::sleep(REST);
    let with = memory::of_trees(&side.pids);
    drop(all);
    Ok((before, with))
}

fn make_idle(side: &Side, sessions: usize) -> anyhow::Result<Vec<Imap>> {
    let made: Vec<anyhow::Result<Vec<Imap>>> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..LOGINS)
            .map(|first| {
                scope.spawn(move || {
                    let mine = (first..sessions).step_by(LOGINS);
                    mine.map(|i| idle_one(side, i)).collect()
                })
            })
            .collect();
        threads.into_iter().map(|t| ended(t.join())).collect()
    });
    let mut all = Vec::with_capacity(sessions);
    for some in made {
        all.extend(some?);
    }
    Ok(all)
}

fn idle_one(side: &Side, i: usize) -> anyhow::Result<Imap> {
    let addr = &side.imap[i / IDLE_ACCOUNTS % side.imap.len()];
    let mut imap = Imap::login(addr, &user(1 + i % IDLE_ACCOUNTS), PASSWORD)?;
    imap.run("SELECT INBOX")?;
    imap.idle()?;
    Ok(imap)
}
