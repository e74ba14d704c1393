//! A client that says lines and reads answers.

use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio_util::sync::CancellationToken;

use super::fake::Fake;
use crate::imap::connection::{self, Arrival};
use crate::imap::settings::Settings;
use crate::imap::wire::{Gone, Wire};
use crate::imap::{Imap, store::Store};
use crate::spool::MemorySpool;

pub struct Client {
    stream: DuplexStream,
    input: BytesMut,
    tag: u32,
    pub ended: tokio::task::JoinHandle<Gone>,
}

pub fn door(fake: &Fake, settings: Settings) -> Imap {
    let store: Arc<dyn Store> = Arc::new(fake.clone());
    Imap::new(settings, store, Arc::new(MemorySpool), None).unwrap()
}

impl Client {
    /// Connected, the greeting read.
    pub async fn connect(imap: &Imap) -> Client {
        let mut client = Client::begin(imap, true, CancellationToken::new());
        let greeting = client.line().await;
        assert!(
            greeting.starts_with("* OK [CAPABILITY IMAP4rev1 "),
            "{greeting}"
        );
        client
    }

    pub fn begin(imap: &Imap, loopback: bool, shutdown: CancellationToken) -> Client {
        let (ours, theirs) = tokio::io::duplex(4096);
        let wire = Wire::new(Box::new(theirs), shutdown);
        let arrival = Arrival {
            address: "192.0.2.1".into(),
            loopback,
            tls: false,
        };
        let door = imap.door.clone();
        Client {
            stream: ours,
            input: BytesMut::new(),
            tag: 0,
            ended: tokio::spawn(async move { connection::run(&door, wire, arrival).await }),
        }
    }

    /// Logged in with INBOX open.
    pub async fn inbox(fake: &Fake) -> Client {
        let mut client = Client::connect(&door(fake, Settings::default())).await;
        client.ok("LOGIN ann@example.org secret").await;
        client.ok("SELECT INBOX").await;
        client
    }

    pub async fn send(&mut self, octets: &str) {
        self.stream.write_all(octets.as_bytes()).await.unwrap();
    }

    /// The next line, with its literals.
    pub async fn line(&mut self) -> String {
        let mut from = 0;
        loop {
            if let Some(n) = self.input[from..].iter().position(|&b| b == b'\n') {
                let end = from + n + 1;
                let line = String::from_utf8_lossy(&self.input[..end]).into_owned();
                let literal = line
                    .trim_end()
                    .strip_suffix('}')
                    .and_then(|l| l.rsplit_once('{'));
                match literal.and_then(|(_, n)| n.parse::<usize>().ok()) {
                    Some(n) => {
                        while self.input.len() < end + n {
                            self.fill().await;
                        }
                        from = end + n;
                        continue;
                    }
                    None => {
                        let line = self.input.split_to(end);
                        let line = String::from_utf8_lossy(&line);
                        return line.trim_end_matches("\r\n").to_owned();
                    }
                }
            }
            if !self.fill().await {
                return String::new();
            }
        }
    }

    async fn fill(&mut self) -> bool {
        let read = self.stream.read_buf(&mut self.input);
        let read = tokio::time::timeout(Duration::from_secs(3600), read).await;
        read.expect("an answer").unwrap() > 0
    }

    /// Says a command; all lines of the answer, the last one without its tag.
    pub async fn say(&mut self, command: &str) -> Vec<String> {
        self.tag += 1;
        let tag = format!("t{} ", self.tag);
        self.send(&format!("{tag}{command}\r\n")).await;
        self.until(&tag).await
    }

    /// Lines up to the one that begins so.
    pub async fn until(&mut self, start: &str) -> Vec<String> {
        let mut out = Vec::new();
        loop {
            let line = self.line().await;
            assert!(!line.is_empty(), "the connection ended: {out:?}");
            match line.strip_prefix(start) {
                Some(rest) => {
                    out.push(rest.to_owned());
                    return out;
                }
                None => out.push(line),
            }
        }
    }

    /// Says a command that is answered OK; the untagged lines.
    pub async fn ok(&mut self, command: &str) -> Vec<String> {
        let mut lines = self.say(command).await;
        let last = lines.pop().unwrap();
        assert!(last.starts_with("OK"), "{command}: {lines:?} {last}");
        lines
    }

    /// Says a command; its last line.
    pub async fn end(&mut self, command: &str) -> String {
        self.say(command).await.pop().unwrap()
    }
}
