//! The messages that both sides are given, the same ones in the same order.

use std::path::Path;

use anyhow::{Context, ensure};
use posthouse_tests::samples;

/// A whole corpus is held in memory; a message over this many octets is left out.
const LARGEST_BYTES: u64 = 8 << 20;

/// Some messages, each of lines that end with CRLF.
pub struct Corpus {
    messages: Vec<Vec<u8>>,
}

impl Corpus {
    /// The sample messages of the repository, or the files under `dir` that end with `.eml`. Those
    /// that not every server takes (NULs, overlong lines) are left out: this measures speed.
    pub fn read(dir: Option<&Path>) -> anyhow::Result<Corpus> {
        let mut files = Vec::new();
        match dir {
            None => files.extend(samples::small()?.into_iter().map(|s| s.octets.to_vec())),
            Some(dir) => {
                let mut paths = Vec::new();
                walk(dir, &mut paths)?;
                paths.sort();
                for path in paths {
                    files.push(std::fs::read(path)?);
                }
            }
        }
        let messages = files.iter().map(|octets| with_crlf(octets));
        let messages: Vec<Vec<u8>> = messages.filter(|m| samples::is_clean(m)).collect();
        ensure!(!messages.is_empty(), "no message that every server takes");
        Ok(Corpus { messages })
    }

    /// Number of messages.
    pub fn len(&self) -> usize {
        self.messages.len()
    }

    /// Octets of all messages.
    pub fn octets(&self) -> u64 {
        self.messages.iter().map(|m| m.len() as u64).sum()
    }

    /// The `n`-th message, counted round and round, with a field that makes it differ from all
    /// others.
    pub fn message(&self, n: usize, stamp: u64) -> Vec<u8> {
        let message = &self.messages[n % self.messages.len()];
        [format!("X-Stamp: {stamp}\r\n").as_bytes(), message].concat()
    }
}

/// A small message of a large mailbox; every hundredth has a subject worth searching for.
pub fn small(n: usize) -> Vec<u8> {
    let subject = match n % 100 {
        42 => "The quarterly figures",
        _ => "A word about the meeting",
    };
    let (sender, second, minute, hour) = (n % 977, n % 60, n / 60 % 60, n / 3600 % 24);
    format!(
        "From: Sender {sender} <sender{sender}@example.org>\r\n\
         To: Ann Example <ann@example.org>\r\n\
         Subject: {subject} {n}\r\n\
         Date: Mon, 3 Mar 2025 {hour:02}:{minute:02}:{second:02} +0000\r\n\
         Message-ID: <{n}.bench@example.org>\r\n\
         X-Colour: {}\r\n\
         MIME-Version: 1.0\r\n\
         Content-Type: text/plain; charset=utf-8\r\n\
         \r\n\
         This is message {n} of a large mailbox. It has a few lines of text,\r\n\
         as most mail has, and nothing in it that is hard to read.\r\n",
        ["red", "green", "blue", "grey", "amber"][n / 3 % 5],
    )
    .into_bytes()
}

/// Flags of the `n`-th message of a mailbox.
pub fn flags(n: usize) -> &'static str {
    match n % 20 {
        0 => "",
        7 => "\\Seen \\Flagged",
        13 => "\\Seen \\Answered",
        17 => "\\Flagged",
        _ => "\\Seen",
    }
}

fn walk(dir: &Path, paths: &mut Vec<std::path::PathBuf>) -> anyhow::Result<()> {
    let entries = std::fs::read_dir(dir).with_context(|| dir.display().to_string())?;
    for entry in entries {
        let entry = entry?;
        let path = entry.path();
        // Links are not followed, so this ends.
        if entry.file_type()?.is_dir() {
            walk(&path, paths)?;
        } else if path.extension().is_some_and(|e| e == "eml")
            && entry.metadata()?.len() <= LARGEST_BYTES
        {
            paths.push(path);
        }
    }
    Ok(())
}

/// The same lines, each with CRLF at its end.
fn with_crlf(octets: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(octets.len() + octets.len() / 40 + 2);
    for line in octets.split_inclusive(|&b| b == b'\n') {
        let line = line.strip_suffix(b"\n").unwrap_or(line);
        out.extend_from_slice(line.strip_suffix(b"\r").unwrap_or(line));
        out.extend_from_slice(b"\r\n");
    }
    out
}
