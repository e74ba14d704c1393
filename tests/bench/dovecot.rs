//! A Dovecot of the benchmark's own: Debian's package, an own configuration on high ports of
//! loopback, everything below one directory that is removed at the end.
//!
//! What is set, and why: no TLS and plain passwords, since neither is measured; `mail_fsync` at
//! its default `optimized`, with which a delivery is on the disk before it is acknowledged, as it
//! is on Posthouse's; limits on processes and connections so high that none of them is in the way;
//! everything else is Dovecot's default.

use std::fs;
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use posthouse_tests::ports;
use posthouse_tests::process::Process;
use tempfile::TempDir;

use crate::side::{PASSWORD, Side, user};

/// Time to start.
const PATIENCE: Duration = Duration::from_secs(30);
/// Nobody's uid and gid on Debian: mail is kept by it when the benchmark runs as root, since
/// Dovecot refuses to keep root's.
const NOBODY: u32 = 65_534;

/// A running Dovecot; ended when dropped.
pub struct Dovecot {
    // Ends before its directory goes.
    process: Process,
    format: String,
    imap: String,
    lmtp: String,
    dir: TempDir,
}

/// What `dovecot --version` says.
pub fn version() -> String {
    let output = Command::new("dovecot").arg("--version").output();
    output.map_or_else(
        |e| e.to_string(),
        |o| String::from_utf8_lossy(&o.stdout).trim().to_owned(),
    )
}

impl Dovecot {
    /// Starts one that keeps mail in this format (`maildir`, `sdbox`, `mdbox`) for `accounts`
    /// accounts.
    pub async fn start(format: &str, accounts: usize) -> anyhow::Result<Dovecot> {
        ensure!(
            ["maildir", "sdbox", "mdbox"].contains(&format),
            "{format}: maildir, sdbox or mdbox"
        );
        let dir = tempfile::Builder::new()
            .prefix("posthouse-dovecot-")
            .tempdir()?;
        let path = dir.path();
        fs::set_permissions(path, fs::Permissions::from_mode(0o755))?;
        fs::create_dir(path.join("mail"))?;
        // SAFETY: both only read who this process is.
        let (uid, gid) = unsafe { (libc::geteuid(), libc::getegid()) };
        let (uid, gid) = match uid {
            0 => (NOBODY, NOBODY),
            uid => (uid, gid),
        };
        std::os::unix::fs::chown(path.join("mail"), Some(uid), Some(gid))?;
        let passwords: String = (0..accounts)
            .map(|i| format!("{}:{{PLAIN}}{PASSWORD}::::::\n", user(i)))
            .collect();
        fs::write(path.join("passwd"), passwords)?;
        let (imap, lmtp) = (ports::free(), ports::free());
        let file = path.join("dovecot.conf");
        fs::write(&file, configuration(path, format, (uid, gid), (imap, lmtp)))?;
        let mut command = Command::new("dovecot");
        command.arg("-F").arg("-c").arg(&file);
        let process = Process::start("dovecot", &mut command, path)?;
        let dovecot = Dovecot {
            process,
            format: format.to_owned(),
            imap: format!("127.0.0.1:{imap}"),
            lmtp: format!("127.0.0.1:{lmtp}"),
            dir,
        };
        dovecot.wait().await?;
        Ok(dovecot)
    }

    async fn wait(&self) -> anyhow::Result<()> {
        let begin = Instant::now();
        for addr in [&self.imap, &self.lmtp] {
            while let Err(error) = TcpStream::connect(addr) {
                let late = begin.elapsed() > PATIENCE;
                if late {
                    return Err(error).with_context(|| self.process.tail());
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
        Ok(())
    }

    /// How it is measured.
    pub fn side(&self) -> Side {
        Side {
            name: format!("Dovecot {}", self.format),
            imap: vec![self.imap.clone()],
            lmtp: vec![self.lmtp.clone()],
            pids: vec![self.process.pid()],
            dir: self.dir.path().to_owned(),
        }
    }
}

impl Drop for Dovecot {
    fn drop(&mut self) {
        // The master ends its children; killed, it would leave them.
        self.process.signal(libc::SIGTERM);
        let begin = Instant::now();
        while self.process.is_running() && begin.elapsed() < PATIENCE {
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

fn configuration(
    dir: &Path,
    format: &str,
    (uid, gid): (u32, u32),
    (imap, lmtp): (u16, u16),
) -> String {
    let dir = dir.display();
    let location = match format {
        "maildir" => "maildir:~/Maildir".to_owned(),
        other => format!("{other}:~/{other}"),
    };
    // As an ordinary user, Dovecot can neither change who its processes are nor lock them away.
    // SAFETY: only reads who this process is.
    let unprivileged = match unsafe { libc::geteuid() } {
        0 => String::new(),
        _ => {
            let me = std::env::var("USER").unwrap_or_default();
            let locked = ["anvil", "imap-login", "stats"];
            let free = locked
                .map(|s| format!("service {s} {{\n  chroot =\n}}\n"))
                .concat();
            format!("default_internal_user = {me}\ndefault_login_user = {me}\n{free}")
        }
    };
    format!(
        "base_dir = {dir}/run
log_path = {dir}/dovecot.log
protocols = imap lmtp
listen = 127.0.0.1
ssl = no
disable_plaintext_auth = no
mail_location = {location}
mail_fsync = optimized
mail_uid = {uid}
mail_gid = {gid}
first_valid_gid = 0
mail_max_userip_connections = 10000
default_client_limit = 10000
default_process_limit = 3000
passdb {{
  driver = passwd-file
  args = {dir}/passwd
}}
userdb {{
  driver = static
  args = home={dir}/mail/%u
}}
service imap-login {{
  inet_listener imap {{
    port = {imap}
  }}
  inet_listener imaps {{
    port = 0
  }}
}}
service lmtp {{
  inet_listener lmtp {{
    port = {lmtp}
  }}
}}
{unprivileged}"
    )
}
