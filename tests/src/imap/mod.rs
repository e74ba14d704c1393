//! An IMAP client for tests (RFC 9051): it believes nothing, hides nothing, and refuses every
//! answer that is not what the grammar says.
//!
//! Commands are written by the test, as they go over the wire; literals are sent without waiting
//! (RFC 7888). Answers come back as they were told, in their order.

mod answer;
mod token;

use std::time::Duration;

use anyhow::{Context, bail, ensure};
use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

pub use answer::{Fetch, Search, Status, Untagged, members};
pub use token::{Token, tokens};

/// Time for one answer, however long the cluster takes to get a new leader.
const PATIENCE: Duration = Duration::from_secs(60);
/// Octets of one answer, more than any message of a test.
const ANSWER_BYTES: usize = 128 << 20;
/// Octets of a line without its literals.
const LINE_BYTES: usize = 64 << 20;

/// The connection is gone, or was never there: no fault of the answer.
#[derive(Debug)]
pub struct Broken(String);

impl std::fmt::Display for Broken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "the connection broke: {}", self.0)
    }
}

impl std::error::Error for Broken {}

fn broken(why: impl ToString) -> anyhow::Error {
    anyhow::Error::new(Broken(why.to_string()))
}

/// Whether this is about a connection that is gone.
pub fn is_broken(error: &anyhow::Error) -> bool {
    error.downcast_ref::<Broken>().is_some()
}

/// All that came in answer to one command.
#[derive(Debug, Clone, Default)]
pub struct Reply {
    /// Untagged answers, in their order.
    pub untagged: Vec<Untagged>,
    /// How it ended.
    pub status: Status,
}

impl Reply {
    /// Whether it ended with OK.
    pub fn is_ok(&self) -> bool {
        self.status.condition == "OK"
    }

    /// The FETCH answers.
    pub fn fetches(&self) -> impl Iterator<Item = &Fetch> {
        self.untagged.iter().filter_map(|answer| match answer {
            Untagged::Fetch(fetch) => Some(fetch),
            _ => None,
        })
    }

    /// The text behind this response code, wherever it stands.
    pub fn code(&self, name: &str) -> Option<&str> {
        let untagged = self.untagged.iter().filter_map(|answer| match answer {
            Untagged::Status(status) => status.code(name),
            _ => None,
        });
        self.status.code(name).into_iter().chain(untagged).next()
    }
}

/// A connection.
pub struct Imap {
    stream: TcpStream,
    input: BytesMut,
    tags: u32,
    /// What was said last, for errors.
    last: String,
}

impl Imap {
    /// Connects and takes the greeting.
    pub async fn connect(addr: &str) -> anyhow::Result<Imap> {
        let stream = TcpStream::connect(addr).await.map_err(broken)?;
        stream.set_nodelay(true).map_err(broken)?;
        let mut imap = Imap {
            stream,
            input: BytesMut::new(),
            tags: 0,
            last: "the greeting".to_owned(),
        };
        match imap.untagged().await? {
            Untagged::Status(status) if status.condition == "OK" => Ok(imap),
            other => bail!("the greeting is {other:?}"),
        }
    }

    /// Connects and logs in.
    pub async fn login(addr: &str, user: &str, password: &str) -> anyhow::Result<Imap> {
        let mut imap = Imap::connect(addr).await?;
        imap.ok(&format!("LOGIN {user} \"{password}\"")).await?;
        Ok(imap)
    }

    /// Says a command and takes all of its answer.
    pub async fn say(&mut self, command: &str) -> anyhow::Result<Reply> {
        self.say_with(command, &[]).await
    }

    /// As [`Imap::say`]; what does not end with OK is an error.
    pub async fn ok(&mut self, command: &str) -> anyhow::Result<Reply> {
        let reply = self.say(command).await?;
        ensure!(
            reply.is_ok(),
            "{command:.200} ended with {:?}",
            reply.status
        );
        Ok(reply)
    }

    /// A command with octets behind it, each as a literal with the words that follow it.
    pub async fn say_with(
        &mut self,
        command: &str,
        literals: &[(&[u8], &str)],
    ) -> anyhow::Result<Reply> {
        let tag = self.send(command, literals).await?;
        self.answer(&tag).await
    }

    /// Sends a command; its answer is to be taken with [`Imap::answer`]. Gives its tag.
    pub async fn send(
        &mut self,
        command: &str,
        literals: &[(&[u8], &str)],
    ) -> anyhow::Result<String> {
        self.tags += 1;
        let tag = format!("t{}", self.tags);
        let mut out = format!("{tag} {command}").into_bytes();
        for (octets, after) in literals {
            out.extend_from_slice(format!("{{{}+}}\r\n", octets.len()).as_bytes());
            out.extend_from_slice(octets);
            out.extend_from_slice(after.as_bytes());
        }
        out.extend_from_slice(b"\r\n");
        self.last = command.chars().take(200).collect();
        self.write(&out).await?;
        Ok(tag)
    }

    /// Sends octets as they are.
    pub async fn write(&mut self, octets: &[u8]) -> anyhow::Result<()> {
        let written = tokio::time::timeout(PATIENCE, self.stream.write_all(octets)).await;
        written
            .with_context(|| format!("{}: not taken in {PATIENCE:?}", self.last))?
            .map_err(broken)
    }

    /// Takes answers until the one with this tag.
    pub async fn answer(&mut self, tag: &str) -> anyhow::Result<Reply> {
        let mut reply = Reply::default();
        loop {
            let answer = self.response().await?;
            if let Some(Token::Atom(word)) = answer.first()
                && word == tag
            {
                reply.status = Status::of(&answer[1..]).context("tagged")?;
                return Ok(reply);
            }
            reply.untagged.push(self.typed(&answer)?);
        }
    }

    /// The next untagged answer.
    pub async fn untagged(&mut self) -> anyhow::Result<Untagged> {
        let answer = self.response().await?;
        self.typed(&answer)
    }

    /// The next untagged answer, if one comes in this time. Nothing is lost when none does.
    pub async fn untagged_within(&mut self, time: Duration) -> anyhow::Result<Option<Untagged>> {
        // Only reads wait, and what was read stays in the input.
        match tokio::time::timeout(time, self.untagged()).await {
            Ok(answer) => answer.map(Some),
            Err(_) => Ok(None),
        }
    }

    /// Begins IDLE, up to the continuation; gives the tag for [`Imap::done`], and what was told
    /// before (RFC 5465).
    pub async fn idle(&mut self) -> anyhow::Result<(String, Vec<Untagged>)> {
        let tag = self.send("IDLE", &[]).await?;
        let mut before = Vec::new();
        loop {
            let answer = self.response().await?;
            if matches!(answer.first(), Some(Token::Atom(word)) if word == "+") {
                return Ok((tag, before));
            }
            before.push(self.typed(&answer).context("instead of a continuation")?);
        }
    }

    /// Ends IDLE.
    pub async fn done(&mut self, tag: &str) -> anyhow::Result<Reply> {
        self.write(b"DONE\r\n").await?;
        self.answer(tag).await
    }

    fn typed(&self, answer: &[Token]) -> anyhow::Result<Untagged> {
        ensure!(
            matches!(answer.first(), Some(Token::Atom(word)) if word == "*"),
            "{}: neither tagged nor untagged: {answer:.300?}",
            self.last
        );
        let typed = Untagged::of(&answer[1..])
            .with_context(|| format!("{}: {:.300}", self.last, format!("{answer:?}")))?;
        if let Untagged::Status(status) = &typed
            && status.condition == "BYE"
        {
            return Err(broken(format!("BYE {}", status.text)));
        }
        Ok(typed)
    }

    /// One whole response as tokens; none of it is taken from the input before all is there.
    async fn response(&mut self) -> anyhow::Result<Vec<Token>> {
        let mut scanned = Scan::default();
        loop {
            if let Some(end) = scanned.go_on(&self.input)? {
                let whole = self.input.split_to(end).freeze();
                let shown =
                    || -> String { String::from_utf8_lossy(&whole).chars().take(300).collect() };
                return tokens(&whole).with_context(|| format!("{}: {:?}", self.last, shown()));
            }
            ensure!(self.input.len() < ANSWER_BYTES, "an answer without an end");
            self.input.reserve(64 << 10);
            let read = tokio::time::timeout(PATIENCE, self.stream.read_buf(&mut self.input)).await;
            let n = read.with_context(|| format!("{}: no answer in {PATIENCE:?}", self.last))?;
            if n.map_err(broken)? == 0 {
                return Err(broken("closed"));
            }
        }
    }
}

/// Where the end of a response is.
#[derive(Default)]
struct Scan {
    /// Up to here there is no end.
    at: usize,
    /// Where the current line begins.
    line: usize,
}

impl Scan {
    /// The length of the response, once all of it is there.
    fn go_on(&mut self, input: &[u8]) -> anyhow::Result<Option<usize>> {
        loop {
            let Some(found) = input
                .get(self.at..)
                .and_then(|rest| rest.iter().position(|&b| b == b'\n'))
            else {
                self.at = self.at.max(input.len());
                ensure!(
                    self.at.saturating_sub(self.line) < LINE_BYTES,
                    "a line without an end"
                );
                return Ok(None);
            };
            let end = self.at + found + 1;
            let line = &input[self.line..end];
            let Some(line) = line.strip_suffix(b"\r\n") else {
                bail!("a line that ends with LF alone");
            };
            match token::literal(line) {
                None => return Ok(Some(end)),
                Some(length) => {
                    ensure!(length < ANSWER_BYTES, "a literal of {length} octets");
                    self.line = end + length;
                    self.at = self.line;
                    if input.len() < self.line {
                        return Ok(None);
                    }
                }
            }
        }
    }
}

/// All octets of a message that a command has asked for with BODY.PEEK[].
pub fn body_of(reply: &Reply, uid: u32) -> Option<Bytes> {
    let mut fetches = reply.fetches().filter(|fetch| fetch.uid == Some(uid));
    fetches.find_map(|fetch| fetch.section("BODY[]").cloned())
}
