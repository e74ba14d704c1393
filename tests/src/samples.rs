//! The sample messages of `tests/samples`, and the large ones that its script makes.

use std::path::Path;
use std::process::Command;

use anyhow::ensure;
use bytes::Bytes;

use crate::binaries::repository;

/// A sample message.
#[derive(Debug, Clone)]
pub struct Sample {
    /// The file's name without its ending, e.g. `05-gb18030`.
    pub name: String,
    /// The exact octets of the message.
    pub octets: Bytes,
}

/// The messages in the repository, in the order of their names.
pub fn small() -> anyhow::Result<Vec<Sample>> {
    read(&repository().join("tests/samples"))
}

/// Those, and the large ones.
pub fn all() -> anyhow::Result<Vec<Sample>> {
    let dir = tempfile::tempdir()?;
    let script = repository().join("tests/samples/generate.py");
    let status = Command::new("python3")
        .arg(script)
        .arg(dir.path())
        .status()?;
    ensure!(status.success(), "generate.py ended with {status}");
    let mut samples = small()?;
    samples.extend(read(dir.path())?);
    Ok(samples)
}

fn read(dir: &Path) -> anyhow::Result<Vec<Sample>> {
    let mut samples = Vec::new();
    for entry in std::fs::read_dir(dir)? {
        let path = entry?.path();
        if path.extension().is_some_and(|e| e == "eml") {
            let name = path
                .file_stem()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned();
            samples.push(Sample {
                name,
                octets: std::fs::read(&path)?.into(),
            });
        }
    }
    samples.sort_by(|a, b| a.name.cmp(&b.name));
    ensure!(
        !samples.is_empty(),
        "no sample messages in {}",
        dir.display()
    );
    Ok(samples)
}

/// Whether a message can travel through software that knows lines alone: every CR and every LF is
/// part of a CRLF, the last line has its end, there is no NUL, and no line is over 998 octets
/// (RFC 5322, section 2.1.1).
pub fn is_clean(octets: &[u8]) -> bool {
    let mut rest = octets;
    while let Some(end) = rest.iter().position(|&b| b == b'\n') {
        let line = &rest[..end];
        let Some(line) = line.strip_suffix(b"\r") else {
            return false;
        };
        if line.len() > 998 || line.contains(&b'\r') || line.contains(&0) {
            return false;
        }
        rest = &rest[end + 1..];
    }
    rest.is_empty() && !octets.is_empty()
}

/// The octets after the Return-Path line, which the door has added.
pub fn without_return_path(octets: &[u8]) -> anyhow::Result<&[u8]> {
    ensure!(
        octets.starts_with(b"Return-Path: <"),
        "no Return-Path: {octets:.40?}"
    );
    let end = octets
        .windows(2)
        .position(|w| w == b"\r\n")
        .unwrap_or(octets.len() - 2);
    Ok(&octets[end + 2..])
}
