//! The measuring client of IMAP (RFC 9051): says a command, and counts what comes until its tagged
//! answer. It keeps no message and builds no reply, so that what is measured is the server.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use anyhow::{Context, bail, ensure};

/// Octets asked of the socket at a time, once much comes.
const READ_BYTES: usize = 256 * 1024;
/// No command of the benchmark takes this long, unless something is broken.
const PATIENCE: Duration = Duration::from_secs(600);

/// What came in answer to a command.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Answer {
    /// Octets, all in all.
    pub octets: u64,
    /// Octets of literals.
    pub literal: u64,
    /// Untagged FETCH responses.
    pub fetched: u64,
    /// Numbers in untagged SEARCH responses.
    pub found: u64,
}

/// One session.
pub struct Imap {
    stream: TcpStream,
    buffer: Vec<u8>,
    /// What is filled, and not looked at, of the buffer.
    from: usize,
    to: usize,
    /// The last read filled the buffer.
    full: bool,
    tags: u64,
}

impl Imap {
    /// Connects and takes the greeting.
    pub fn connect(addr: &str) -> anyhow::Result<Imap> {
        let stream = TcpStream::connect(addr).with_context(|| format!("connecting to {addr}"))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        let mut imap = Imap {
            stream,
            buffer: vec![0; 4096],
            from: 0,
            to: 0,
            full: false,
            tags: 0,
        };
        let greeting = imap.line()?;
        ensure!(
            greeting.starts_with(b"* OK"),
            "greeted with {}",
            text(&greeting)
        );
        Ok(imap)
    }

    /// Connects and logs in.
    pub fn login(addr: &str, user: &str, password: &str) -> anyhow::Result<Imap> {
        let mut imap = Imap::connect(addr)?;
        imap.run(&format!("LOGIN {user} {password}"))?;
        Ok(imap)
    }

    /// Says a command and takes its answer, which must be OK.
    pub fn run(&mut self, command: &str) -> anyhow::Result<Answer> {
        let tag = self.tag();
        self.write(format!("{tag} {command}\r\n").as_bytes())?;
        let short: String = command.chars().take(80).collect();
        self.answer(&tag).with_context(|| short)
    }

    /// IDLE, up to the server's word that it has begun.
    pub fn idle(&mut self) -> anyhow::Result<()> {
        let tag = self.tag();
        self.write(format!("{tag} IDLE\r\n").as_bytes())?;
        loop {
            let line = self.line()?;
            if line.starts_with(b"+") {
                return Ok(());
            }
            ensure!(line.starts_with(b"*"), "IDLE: {}", text(&line));
        }
    }

    /// A tag that was not used yet.
    pub fn tag(&mut self) -> String {
        self.tags += 1;
        format!("t{}", self.tags)
    }

    /// Sends octets as they are.
    pub fn write(&mut self, octets: &[u8]) -> anyhow::Result<()> {
        self.stream.write_all(octets).context("sending")
    }

    /// Takes what comes until the answer with this tag, which must be OK.
    pub fn answer(&mut self, tag: &str) -> anyhow::Result<Answer> {
        let mut answer = Answer::default();
        let mut fresh = true;
        loop {
            let end = self.line_end()?;
            let line = &self.buffer[self.from..end];
            answer.octets += line.len() as u64;
            if fresh && line.starts_with(tag.as_bytes()) {
                let rest = &line[tag.len()..];
                if !rest.starts_with(b" OK") {
                    bail!("{}", text(line));
                }
                self.from = end;
                return Ok(answer);
            }
            if fresh && line.starts_with(b"* ") {
                let word = line[2..].iter().position(|&b| b == b' ').unwrap_or(0) + 3;
                answer.fetched += u64::from(line[word.min(line.len())..].starts_with(b"FETCH "));
                if line.starts_with(b"* SEARCH") {
                    answer.found += line.iter().filter(|&&b| b == b' ').count() as u64 - 1;
                }
            }
            let literal = literal_of(line);
            self.from = end;
            fresh = literal.is_none();
            if let Some(octets) = literal {
                self.skip(octets)?;
                answer.octets += octets;
                answer.literal += octets;
            }
        }
    }

    /// The next line, with its end.
    fn line(&mut self) -> anyhow::Result<Vec<u8>> {
        let end = self.line_end()?;
        let line = self.buffer[self.from..end].to_vec();
        self.from = end;
        Ok(line)
    }

    /// Where the next line ends in the buffer; all of it is there.
    fn line_end(&mut self) -> anyhow::Result<usize> {
        let mut searched = self.from;
        loop {
            if let Some(n) = memchr::memchr(b'\n', &self.buffer[searched..self.to]) {
                return Ok(searched + n + 1);
            }
            let shifted = self.from;
            searched = self.to;
            self.more()?;
            if self.from != shifted {
                searched -= shifted;
            }
        }
    }

    fn skip(&mut self, mut octets: u64) -> anyhow::Result<()> {
        loop {
            let there = ((self.to - self.from) as u64).min(octets);
            self.from += there as usize;
            octets -= there;
            if octets == 0 {
                return Ok(());
            }
            self.more()?;
        }
    }

    /// Reads at least one octet behind those that are there, which may move to the front.
    fn more(&mut self) -> anyhow::Result<()> {
        if self.from > 0 {
            self.buffer.copy_within(self.from..self.to, 0);
            self.to -= self.from;
            self.from = 0;
        }
        // A session that is told little holds little.
        if self.to == self.buffer.len() || self.full && self.buffer.len() < READ_BYTES {
            self.buffer.resize(self.buffer.len() * 4, 0);
        }
        let n = self.stream.read(&mut self.buffer[self.to..])?;
        ensure!(n > 0, "the server closed the connection");
        self.to += n;
        self.full = self.to == self.buffer.len();
        Ok(())
    }
}

/// The length of the literal that follows this line.
fn literal_of(line: &[u8]) -> Option<u64> {
    let line = line.strip_suffix(b"}\r\n")?;
    let start = line.iter().rposition(|&b| b == b'{')? + 1;
    std::str::from_utf8(&line[start..]).ok()?.parse().ok()
}

fn text(octets: &[u8]) -> String {
    String::from_utf8_lossy(&octets[..octets.len().min(300)])
        .trim_end()
        .to_owned()
}
