//! The LMTP door over a store in memory, as a process: what mail software makes of the door,
//! apart from what the cluster makes of the mail.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::Context;
use bytes::Bytes;
use tempfile::TempDir;

use crate::binaries::binary;
use crate::ports;
use crate::process::Process;

/// A running door.
pub struct FakeDoor {
    process: Option<Process>,
    lmtp: String,
    accounts: Vec<String>,
    dir: TempDir,
}

impl FakeDoor {
    /// A door to a store that has these accounts.
    pub async fn start(accounts: &[&str]) -> anyhow::Result<FakeDoor> {
        let dir = tempfile::Builder::new()
            .prefix("posthouse-door-")
            .tempdir()?;
        let accounts = accounts.iter().map(|a| a.to_string()).collect();
        let mut door = FakeDoor {
            process: None,
            lmtp: ports::free_addr(),
            accounts,
            dir,
        };
        door.up().await?;
        Ok(door)
    }

    /// Opens the door, after [`FakeDoor::down`] with an empty store.
    pub async fn up(&mut self) -> anyhow::Result<()> {
        let mut command = Command::new(binary("examples/lmtp_fake")?);
        command
            .arg(self.dir.path())
            .arg(&self.lmtp)
            .args(&self.accounts);
        let mut process = Process::start("door", &mut command, self.dir.path())?;
        process.line("ready ", Duration::from_secs(20)).await?;
        self.process = Some(process);
        Ok(())
    }

    /// Closes the door: connections are refused.
    pub fn down(&mut self) {
        self.process = None;
    }

    /// Where it listens.
    pub fn lmtp(&self) -> &str {
        &self.lmtp
    }

    /// What an account has received, in order.
    pub fn inbox(&self, account: &str) -> anyhow::Result<Vec<Bytes>> {
        let mut files: Vec<_> = std::fs::read_dir(self.dir.path())?
            .filter_map(|entry| entry.ok().map(|entry| entry.path()))
            .filter(|path| path.extension().is_some_and(|e| e == "eml"))
            .collect();
        files.sort();
        let mine = |path: &&Path| {
            std::fs::read_to_string(path.with_extension("to")).is_ok_and(|to| to == account)
        };
        let files = files.iter().map(|path| path.as_path()).filter(mine);
        let read = |path: &Path| {
            let octets = std::fs::read(path).with_context(|| path.display().to_string())?;
            Ok(Bytes::from(octets))
        };
        files.map(read).collect()
    }
}
