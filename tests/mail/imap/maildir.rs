//! Maildirs: a file a message, flags in its name, when it came in as the time of the file.
//!
//! Programs keep lines with bare LF in them and say CRLF to a server, so messages are compared in
//! that form here.

use std::fs::{self, File, FileTimes};
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

use super::date_s;

/// A message in a Maildir.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Local {
    /// Letters of its flags, in order: D(raft) F(lagged) R(eplied) S(een) T(rashed).
    pub flags: String,
    /// When it came in, in seconds since 1970.
    pub date_s: u64,
    /// As it lies there, without what programs have put in to find it again.
    pub octets: Vec<u8>,
}

/// The form in which Maildirs keep messages.
pub fn with_lf(octets: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(octets.len());
    for (n, &c) in octets.iter().enumerate() {
        if c != b'\r' || octets.get(n + 1) != Some(&b'\n') {
            out.push(c);
        }
    }
    out
}

/// The letters of flags as IMAP names them; keywords have none.
pub fn letters_of<'a>(flags: impl IntoIterator<Item = &'a String>) -> String {
    let letter = |flag: &String| match flag.as_str() {
        "\\Draft" => Some('D'),
        "\\Flagged" => Some('F'),
        "\\Answered" => Some('R'),
        "\\Seen" => Some('S'),
        "\\Deleted" => Some('T'),
        _ => None,
    };
    let mut letters: Vec<char> = flags.into_iter().filter_map(letter).collect();
    letters.sort_unstable();
    letters.into_iter().collect()
}

/// Flags that differ from message to message.
pub fn some_flags(n: usize) -> &'static str {
    ["", "S", "FS", "RS", "DS", "FRS"][n % 6]
}

/// An empty Maildir, or the one that is there.
pub fn create(dir: &Path) {
    for part in ["cur", "new", "tmp"] {
        fs::create_dir_all(dir.join(part)).unwrap();
    }
}

/// Adds a message; no other one may have this number.
pub fn add(dir: &Path, n: usize, flags: &str, octets: &[u8]) {
    let path = dir.join(format!("cur/{}.{n}.test:2,{flags}", date_s(n)));
    fs::write(&path, with_lf(octets)).unwrap();
    let time = UNIX_EPOCH + Duration::from_secs(date_s(n));
    let file = File::options().write(true).open(&path).unwrap();
    file.set_times(FileTimes::new().set_modified(time)).unwrap();
}

/// The files of all messages that hold one of these lines.
fn holding(dir: &Path, lines: &[String]) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for part in ["cur", "new"] {
        for entry in fs::read_dir(dir.join(part)).unwrap() {
            let path = entry.unwrap().path();
            let text = String::from_utf8_lossy(&fs::read(&path).unwrap()).into_owned();
            if text.lines().any(|line| lines.iter().any(|l| l == line)) {
                found.push(path);
            }
        }
    }
    found
}

/// Adds flags to all messages that hold one of these lines; gives their number.
pub fn mark(dir: &Path, lines: &[String], flags: &str) -> usize {
    let found = holding(dir, lines);
    for path in &found {
        let name = path.file_name().unwrap().to_str().unwrap();
        let (base, old) = name.split_once(":2,").unwrap_or((name, ""));
        let mut all: Vec<char> = old.chars().chain(flags.chars()).collect();
        all.sort_unstable();
        all.dedup();
        let all: String = all.into_iter().collect();
        fs::rename(path, dir.join(format!("cur/{base}:2,{all}"))).unwrap();
    }
    found.len()
}

/// Removes all messages that hold one of these lines; gives their number.
pub fn remove(dir: &Path, lines: &[String]) -> usize {
    let found = holding(dir, lines);
    for path in &found {
        fs::remove_file(path).unwrap();
    }
    found.len()
}

/// Number of messages.
pub fn count(dir: &Path) -> u64 {
    let count = |part| fs::read_dir(dir.join(part)).map_or(0, |entries| entries.count());
    (count("cur") + count("new")) as u64
}

/// All messages.
pub fn read(dir: &Path) -> Vec<Local> {
    let mut found = Vec::new();
    for part in ["cur", "new"] {
        for entry in fs::read_dir(dir.join(part)).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap();
            let flags = name.split_once(":2,").map_or("", |(_, flags)| flags);
            let time = fs::metadata(&path).unwrap().modified().unwrap();
            found.push(Local {
                flags: flags.to_owned(),
                date_s: time.duration_since(UNIX_EPOCH).unwrap().as_secs(),
                octets: without_marks(&fs::read(&path).unwrap()),
            });
        }
    }
    found
}

/// Without the lines that mbsync and offlineimap put into headers to find a message again after a
/// connection was lost.
pub fn without_marks(octets: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(octets.len());
    let mut rest = octets;
    let mut header = true;
    while header && !rest.is_empty() {
        let end = rest
            .iter()
            .position(|&c| c == b'\n')
            .map_or(rest.len(), |e| e + 1);
        let (line, more) = rest.split_at(end);
        header = !matches!(line, b"\n" | b"\r\n");
        if !line.starts_with(b"X-TUID: ") && !line.starts_with(b"X-OfflineIMAP: ") {
            out.extend_from_slice(line);
        }
        rest = more;
    }
    out.extend_from_slice(rest);
    out
}
