//! Real mail software over IMAP, against clusters of three nodes.
//!
//! One file a program. Each shows what the program is used for, through different nodes, and then
//! the same with a node killed in its middle: the leader of the account's shard while the program
//! talks to another node, which it may notice as a pause alone, and the node that it talks to,
//! where the program or its user connects again. Nothing acknowledged may be lost or doubled.
//!
//! What the cluster holds is read through the client library, not from what a program says of it.
//!
//! | file | what it is |
//! |---|---|
//! | this one | doors, accounts, programs, and what the cluster holds |
//! | [`maildir`] | messages in folders, as most of the programs keep them |
//! | [`beside`] | a second client that changes the mailbox of a program through another node |
//! | `doors.py`, `extensions.py`, `churn.py`, `beside.py`, `terminal.py` | programs in Python |

pub mod beside;
mod curl;
mod doveadm;
pub mod fetchmail;
mod maildir;
mod mbsync;
mod neomutt;
mod offlineimap;
mod python;
mod together;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use bytes::Bytes;
use posthouse_client::ids::{AccountName, MailboxName};
use posthouse_client::{AppendOptions, ListOptions};
use posthouse_tests::binaries::repository;
use posthouse_tests::cluster::Cluster;
use posthouse_tests::process::Process;

pub const PASSWORD: &str = "correct horse battery";
/// Time for any program to end.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// Where mail programs reach a node.
pub struct Door {
    imap: String,
    imaps: String,
    certificate: PathBuf,
}

impl Door {
    pub fn of(cluster: &Cluster, i: usize) -> Door {
        Door::at(cluster.imap(i), cluster.imaps(i), cluster.certificate(i))
    }

    fn at(imap: &str, imaps: &str, certificate: PathBuf) -> Door {
        let port = |addr: &str| addr.rsplit_once(':').unwrap().1.to_owned();
        Door {
            imap: port(imap),
            imaps: port(imaps),
            certificate,
        }
    }

    fn certificate(&self) -> &str {
        self.certificate.to_str().unwrap()
    }
}

async fn cluster() -> Cluster {
    Cluster::start_with_doors(3).await.unwrap()
}

/// An account that programs can log in to.
pub async fn create(cluster: &Cluster, account: &str) {
    cluster.create_accounts(&[account]).await.unwrap();
    let account = AccountName::new(account).unwrap();
    let client = cluster.client();
    client.set_password(&account, PASSWORD, None).await.unwrap();
}

/// The leader of an account's shard, and the two other nodes.
pub async fn leader_and_others(cluster: &Cluster, account: &str) -> (usize, [usize; 2]) {
    let (_, leader) = cluster.leader_of(account).await.unwrap();
    let n = cluster.size();
    (leader, [(leader + 1) % n, (leader + 2) % n])
}

/// A directory of this test.
pub fn folder(cluster: &Cluster, name: &str) -> PathBuf {
    let dir = cluster.dir().join(name);
    std::fs::create_dir_all(&dir).unwrap();
    dir
}

/// A program with its standard output and error in files of `dir`.
pub fn start(name: &str, command: &mut Command, dir: &Path) -> Process {
    Process::start(name, command, dir).unwrap()
}

/// Waits for its good end; what it has printed.
pub async fn finish(name: &str, mut process: Process, dir: &Path) -> String {
    let status = process.wait(PATIENCE).await.unwrap();
    let printed = std::fs::read(dir.join(format!("{name}.out"))).unwrap();
    let printed = String::from_utf8_lossy(&printed).into_owned();
    let tail = process.tail();
    assert!(status.success(), "{name}: {status}\n{tail}\n{printed}");
    printed
}

/// Runs a program to its good end; what it has printed.
async fn run(name: &str, command: &mut Command, dir: &Path) -> String {
    let process = start(name, command, dir);
    finish(name, process, dir).await
}

/// A program of this folder in Python, which finds what `deploy/lib/prerequisites.sh` has installed.
fn python(script: &str) -> Command {
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let cache = cache.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache")));
    let mut command = Command::new("python3");
    command.arg(repository().join("tests/mail/imap").join(script));
    command.env("PYTHONDONTWRITEBYTECODE", "1");
    if let Some(cache) = cache {
        command.env("PYTHONPATH", cache.join("posthouse/python"));
    }
    command
}

/// A message as the cluster holds it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Kept {
    uid: u32,
    flags: BTreeSet<String>,
    date_ms: u64,
    octets: Bytes,
}

/// All messages of a mailbox, in the order of their uids.
async fn kept(cluster: &Cluster, account: &str, mailbox: &str) -> Vec<Kept> {
    let account = AccountName::new(account).unwrap();
    let mailbox = MailboxName::new(mailbox).unwrap();
    let client = cluster.client();
    let mut found = Vec::new();
    let mut first = 1;
    while first != 0 {
        let options = ListOptions {
            first,
            ..ListOptions::default()
        };
        let page = client.list_page(&account, &mailbox, options).await.unwrap();
        for message in page.messages {
            let fetched = client.fetch(&account, &mailbox, message.uid).await.unwrap();
            found.push(Kept {
                uid: message.uid,
                flags: message.flags.into_iter().collect(),
                date_ms: message.internal_date_ms,
                octets: fetched.collect(1 << 30).await.unwrap().into(),
            });
        }
        first = page.next_uid;
    }
    found
}

/// How many messages a mailbox holds.
pub async fn count(cluster: &Cluster, account: &str, mailbox: &str) -> u64 {
    let account = AccountName::new(account).unwrap();
    let mailboxes = cluster.client().list_mailboxes(&account).await.unwrap();
    let found = mailboxes.iter().find(|m| m.name == mailbox);
    found.map_or(0, |m| m.messages)
}

/// Puts messages into a mailbox, without a mail program.
pub async fn append(cluster: &Cluster, account: &str, messages: &[Bytes]) {
    let account = AccountName::new(account).unwrap();
    for (n, message) in messages.iter().enumerate() {
        let options = AppendOptions {
            internal_date_ms: date_s(n) * 1000,
            ..AppendOptions::default()
        };
        let inbox = MailboxName::inbox();
        let client = cluster.client();
        let appended = client.append(&account, &inbox, message, options).await;
        appended.unwrap();
    }
}

/// Waits until something has come so far that its middle is reached.
async fn until_some(what: &str, mut so_far: impl AsyncFnMut() -> u64, enough: u64) {
    let begin = Instant::now();
    while so_far().await < enough {
        assert!(begin.elapsed() < PATIENCE, "{what} does not get on");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// When the n-th message came in, in seconds since 1970; hours apart, years ago.
fn date_s(n: usize) -> u64 {
    1_600_000_000 + n as u64 * 3_600
}

/// Small messages of which no two are the same, in lines that end with CRLF.
pub fn letters(numbers: std::ops::Range<usize>) -> Vec<Bytes> {
    let letter = |n: usize| {
        let fill = format!("{n:06} and so on\r\n").repeat(n % 200);
        let text = format!(
            "From: Ann <ann@example.org>\r\nTo: Ben <ben@example.org>\r\n\
             Date: Mon, 01 Jan 2024 {:02}:{:02}:00 +0000\r\nSubject: letter {n}\r\n\
             Message-ID: <letter-{n}@example.org>\r\n\r\nThis is letter {n}.\r\n{fill}",
            n / 60 % 24,
            n % 60,
        );
        Bytes::from(text)
    };
    numbers.map(letter).collect()
}

/// Each exactly once, none else; whatever is compared of them.
fn assert_same<T: Ord + Debug>(
    what: &str,
    found: impl IntoIterator<Item = T>,
    expected: impl IntoIterator<Item = T>,
) {
    let mut sum: BTreeMap<T, (usize, usize)> = BTreeMap::new();
    for item in found {
        sum.entry(item).or_default().0 += 1;
    }
    for item in expected {
        sum.entry(item).or_default().1 += 1;
    }
    let wrong: Vec<String> = sum
        .iter()
        .filter(|(_, (found, expected))| found != expected)
        .map(|(item, (found, expected))| {
            let text: String = format!("{item:?}").chars().take(300).collect();
            format!("there {found} times, not {expected}: {text}")
        })
        .collect();
    let some = &wrong[..wrong.len().min(10)];
    assert!(
        wrong.is_empty(),
        "{what}: {} differ: {some:#?}",
        wrong.len()
    );
}
