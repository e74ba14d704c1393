//! Hostile mail is stored and returned unchanged, answered or cleanly refused in bounded memory,
//! and the doors stay in step.

use std::time::Duration;

use anyhow::{Context, bail, ensure};
use bytes::Bytes;
use posthouse_client::Client;
use posthouse_client::ids::{AccountName, MailboxName};
use posthouse_tests::cluster::Cluster;
use posthouse_tests::imap::{Imap, body_of};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufStream};
use tokio::net::TcpStream;

use super::nasty::{self, Nasty};
use super::session::{PASSWORD, USER};

/// What a node may take more than before, whatever it is made to read. Its windows for mail under
/// way, caches and the index are in it.
const MORE_BYTES: u64 = 400 << 20;
/// Octets of one answer line.
const LINE_BYTES: u64 = 1 << 16;
/// Time for one exchange.
const PATIENCE: Duration = Duration::from_secs(60);

/// A dialogue in lines: LMTP, POP3.
struct Lines {
    stream: BufStream<TcpStream>,
}

impl Lines {
    async fn connect(addr: &str) -> anyhow::Result<Lines> {
        let stream = BufStream::new(TcpStream::connect(addr).await?);
        Ok(Lines { stream })
    }

    async fn line(&mut self) -> anyhow::Result<Vec<u8>> {
        let mut line = Vec::new();
        let read = (&mut self.stream)
            .take(1 << 28)
            .read_until(b'\n', &mut line)
            .await;
        ensure!(
            read? > 0 && line.ends_with(b"\r\n"),
            "no line: {:?}",
            line.len()
        );
        line.truncate(line.len() - 2);
        Ok(line)
    }

    /// Sends octets and takes an answer that begins with this.
    async fn say(&mut self, octets: &[u8], expected: &str) -> anyhow::Result<String> {
        let answer = tokio::time::timeout(PATIENCE, async {
            self.stream.write_all(octets).await?;
            self.stream.flush().await?;
            loop {
                let line = String::from_utf8(self.line().await?)?;
                ensure!((line.len() as u64) < LINE_BYTES, "a long answer");
                // LMTP goes on after `250-`.
                if line.as_bytes().get(3) != Some(&b'-') || expected == "+OK" {
                    return Ok(line);
                }
            }
        });
        let answer = answer.await.context("no answer")??;
        ensure!(
            answer.starts_with(expected),
            "{expected} was expected: {answer}"
        );
        Ok(answer)
    }

    /// Delivers by LMTP, octet by octet (RFC 2033, RFC 3030).
    async fn deliver(addr: &str, octets: &[u8]) -> anyhow::Result<()> {
        let mut lmtp = Lines::connect(addr).await?;
        lmtp.say(b"", "220").await?;
        lmtp.say(b"LHLO tests.example.org\r\n", "250").await?;
        lmtp.say(b"MAIL FROM:<s@example.net>\r\n", "250").await?;
        lmtp.say(format!("RCPT TO:<{USER}>\r\n").as_bytes(), "250")
            .await?;
        let head = format!("BDAT {} LAST\r\n", octets.len());
        lmtp.say(&[head.as_bytes(), octets].concat(), "250").await?;
        lmtp.say(b"QUIT\r\n", "221").await?;
        Ok(())
    }

    async fn pop3(addr: &str) -> anyhow::Result<Lines> {
        let mut pop3 = Lines::connect(addr).await?;
        pop3.say(b"", "+OK").await?;
        pop3.say(format!("USER {USER}\r\n").as_bytes(), "+OK")
            .await?;
        pop3.say(format!("PASS {PASSWORD}\r\n").as_bytes(), "+OK")
            .await?;
        Ok(pop3)
    }

    /// The octets of a message, as lines (RFC 1939, section 3).
    async fn retrieve(&mut self, n: usize) -> anyhow::Result<Vec<u8>> {
        self.say(format!("RETR {n}\r\n").as_bytes(), "+OK").await?;
        let mut out = Vec::new();
        let whole = tokio::time::timeout(PATIENCE, async {
            loop {
                let line = self.line().await?;
                match &line[..] {
                    b"." => return anyhow::Ok(()),
                    [b'.', rest @ ..] => out.extend_from_slice(rest),
                    line => out.extend_from_slice(line),
                }
                out.extend_from_slice(b"\r\n");
            }
        });
        whole.await.context("RETR has no end")??;
        Ok(out)
    }
}

/// A message as lines: every LF has its CR, and the last line its end.
fn lines(octets: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(octets.len() + 2);
    for &b in octets {
        if b == b'\n' && out.last() != Some(&b'\r') {
            out.push(b'\r');
        }
        out.push(b);
    }
    if !out.ends_with(b"\r\n") {
        out.extend_from_slice(b"\r\n");
    }
    out
}

/// The most memory that a process has had, octets.
fn peak(pid: u32) -> anyhow::Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib: u64 = line
        .context("no VmHWM")?
        .trim()
        .trim_end_matches(" kB")
        .parse()?;
    Ok(kib << 10)
}

fn peaks(cluster: &mut Cluster) -> anyhow::Result<Vec<u64>> {
    let pids = (0..cluster.size()).map(|i| cluster.process(i).map(|p| p.pid()));
    let pids: Option<Vec<u32>> = pids.collect();
    pids.context("a node is gone")?
        .into_iter()
        .map(peak)
        .collect()
}

/// What a reader asks of a message.
const QUESTIONS: [&str; 12] = [
    "ENVELOPE",
    "BODYSTRUCTURE",
    "BODY",
    "PREVIEW",
    "BODY.PEEK[HEADER]",
    "BODY.PEEK[HEADER.FIELDS (SUBJECT TO X-49999)]",
    "BODY.PEEK[1.1.1.1.1.1.1.1]<0.100>",
    "BODY.PEEK[1.MIME]",
    "BODY.PEEK[99999]",
    "BODY.PEEK[TEXT]<1000000.10>",
    "BINARY.PEEK[1]<0.1000>",
    "BINARY.SIZE[1]",
];

/// All questions about one message; each answer is an answer, and the next command works.
async fn ask(imap: &mut Imap, uid: u32, nasty: &Nasty) -> anyhow::Result<()> {
    for question in QUESTIONS {
        let reply = imap.say(&format!("UID FETCH {uid} ({question})")).await;
        let reply = reply.with_context(|| question.to_owned())?;
        let fair = reply.is_ok() || reply.status.condition == "NO";
        ensure!(fair, "{question} ended with {:?}", reply.status);
        ensure!(
            !reply.is_ok() || reply.fetches().any(|fetch| fetch.uid == Some(uid)),
            "{question} is answered with nothing"
        );
    }
    let reply = imap
        .ok(&format!("UID FETCH {uid} (RFC822.SIZE BODY.PEEK[])"))
        .await?;
    let octets = body_of(&reply, uid).context("no octets")?;
    ensure!(octets == nasty.octets, "IMAP returns other octets");
    Ok(())
}

async fn library(client: &Client, mailbox: &str, uid: u32) -> anyhow::Result<Bytes> {
    let (account, mailbox) = (AccountName::new(USER)?, MailboxName::new(mailbox)?);
    let fetched = client.fetch(&account, &mailbox, uid).await?;
    Ok(fetched.collect(100 << 20).await?.into())
}

async fn run() -> anyhow::Result<()> {
    let mut cluster = Cluster::start_with_doors(3).await?;
    cluster.create_accounts(&[USER]).await?;
    let account = AccountName::new(USER)?;
    let client = cluster.client().clone();
    client.set_password(&account, PASSWORD, None).await?;
    let mut imap = Imap::login(cluster.imap(1), USER, PASSWORD).await?;
    imap.ok("CREATE Appended").await?;
    let before = peaks(&mut cluster)?;
    let all = nasty::all();
    for (n, nasty) in all.iter().enumerate() {
        let uid = n as u32 + 1;
        let one = async {
            // By APPEND, and by LMTP through another node.
            let reply = imap
                .say_with("APPEND Appended ", &[(&nasty.octets, "")])
                .await?;
            ensure!(reply.is_ok(), "APPEND ended with {:?}", reply.status);
            Lines::deliver(cluster.lmtp(n % 3), &nasty.octets).await?;
            for (mailbox, delivered) in [("Appended", false), ("INBOX", true)] {
                imap.ok(&format!("SELECT {mailbox}")).await?;
                let octets = library(&client, mailbox, uid).await?;
                let mail = match delivered {
                    false => &octets[..],
                    true => posthouse_tests::samples::without_return_path(&octets)?,
                };
                ensure!(mail == nasty.octets, "the library returns other octets");
                let stored = Nasty {
                    what: nasty.what,
                    octets: octets.clone(),
                };
                ask(&mut imap, uid, &stored).await?;
            }
            anyhow::Ok(())
        };
        let begin = std::time::Instant::now();
        one.await.with_context(|| nasty.what)?;
        let now = peaks(&mut cluster)?;
        println!(
            "{:8} ms {:?} MiB  {}",
            begin.elapsed().as_millis(),
            mib(&now),
            nasty.what
        );
    }
    // All at once, in another session.
    let mut imap = Imap::login(cluster.imap(2), USER, PASSWORD).await?;
    imap.ok("SELECT INBOX").await?;
    for command in [
        "SEARCH TEXT \"no such text\"",
        "SEARCH BODY \"innermost\"",
        "SEARCH SUBJECT \"x\" HEADER X-49999 \"\"",
        "SEARCH OR FROM \"a@\" TO \"n 49999\"",
        "SORT (SUBJECT FROM DATE) UTF-8 ALL",
        "THREAD REFERENCES UTF-8 ALL",
        "FETCH 1:* (ENVELOPE PREVIEW)",
        "FETCH 1:* (BODYSTRUCTURE)",
        "FETCH 1:* FULL",
    ] {
        let reply = imap
            .say(command)
            .await
            .with_context(|| command.to_owned())?;
        let fair = reply.is_ok() || reply.status.condition == "NO";
        ensure!(fair, "{command} ended with {:?}", reply.status);
        println!(
            "{command}: {} {}",
            reply.status.condition, reply.status.text
        );
        imap.ok("NOOP").await?;
    }
    for (node, mailbox) in [(0, "INBOX"), (2, "INBOX")] {
        let mut pop3 = Lines::pop3(cluster.pop3(node)).await?;
        for (n, nasty) in all.iter().enumerate() {
            let octets = library(&client, mailbox, n as u32 + 1).await?;
            let got = pop3.retrieve(n + 1).await.with_context(|| nasty.what)?;
            ensure!(
                got == lines(&octets),
                "{}: POP3 returns other octets",
                nasty.what
            );
        }
        pop3.say(b"QUIT\r\n", "+OK").await?;
    }
    let after = peaks(&mut cluster)?;
    println!(
        "peaks of memory, MiB: {:?}, then {:?}",
        mib(&before),
        mib(&after)
    );
    for (before, after) in before.iter().zip(&after) {
        if after - before > MORE_BYTES {
            bail!("a node has taken {} MiB more", (after - before) >> 20);
        }
    }
    cluster.wait_same_state(Duration::from_secs(60)).await?;
    Ok(())
}

fn mib(peaks: &[u64]) -> Vec<u64> {
    peaks.iter().map(|peak| peak >> 20).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hostile_mail_is_returned_unchanged_and_breaks_nothing() {
    if let Err(error) = run().await {
        panic!("{error:#}");
    }
}
