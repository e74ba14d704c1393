//! A Postfix of the test's own: real mail software, on a high port, with its configuration, queue
//! and log in a temporary directory. It takes mail by SMTP and hands mail for example.org on by
//! LMTP. Whatever Postfix the machine has besides is left alone.
//!
//! Postfix has to be started by root; a test run by someone else uses `sudo -n`.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use tempfile::TempDir;

use crate::ports;

const PATIENCE: Duration = Duration::from_secs(30);

/// A running Postfix.
pub struct Postfix {
    dir: TempDir,
    port: u16,
}

impl Postfix {
    /// Starts a Postfix that hands its mail on to the LMTP server at `lmtp`, `host:port`.
    pub async fn start(lmtp: &str) -> anyhow::Result<Postfix> {
        ensure!(
            Path::new("/usr/sbin/postfix").exists(),
            "Postfix is missing; deploy/lib/prerequisites.sh mail installs it"
        );
        let dir = tempfile::Builder::new()
            .prefix("posthouse-postfix-")
            .tempdir()?;
        // Its processes run as another user and have to get to their sockets.
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755))?;
        for name in ["conf", "queue", "data", "log"] {
            fs::create_dir(dir.path().join(name))?;
        }
        let port = ports::free();
        fs::write(dir.path().join("conf/main.cf"), main_cf(dir.path(), lmtp))?;
        fs::write(dir.path().join("conf/master.cf"), master_cf(port))?;
        let owned = |what: &str| as_root("chown", &["postfix", &path(&dir.path().join(what))]);
        success(owned("data")?)?;
        // Everything else must be root's, which it is not yet when a plain user runs the tests.
        for what in ["conf", "queue", "log", "conf/main.cf", "conf/master.cf"] {
            success(as_root("chown", &["root", &path(&dir.path().join(what))])?)?;
        }
        let postfix = Postfix { dir, port };
        success(postfix.control("start")?)?;
        postfix.wait_until_open().await?;
        Ok(postfix)
    }

    /// Where it takes mail, `host:port`.
    pub fn smtp(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// What it has logged.
    pub fn log(&self) -> String {
        let file = path(&self.dir.path().join("log/mail.log"));
        let log = as_root("cat", &[&file])
            .map(|out| out.stdout)
            .unwrap_or_default();
        String::from_utf8_lossy(&log).into_owned()
    }

    /// Tries all mail in the queue again, now.
    pub fn flush(&self) -> anyhow::Result<()> {
        success(self.control("flush")?)
    }

    /// Waits for a line of the log that holds all of `words`.
    pub async fn wait_for_log(&self, words: &[&str]) -> anyhow::Result<String> {
        let begin = Instant::now();
        while begin.elapsed() < PATIENCE {
            let log = self.log();
            if let Some(line) = log.lines().find(|l| words.iter().all(|w| l.contains(w))) {
                return Ok(line.to_owned());
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        bail!(
            "Postfix did not log {words:?} within {PATIENCE:?}:\n{}",
            self.log()
        )
    }

    fn control(&self, word: &str) -> anyhow::Result<Output> {
        as_root(
            "postfix",
            &["-c", &path(&self.dir.path().join("conf")), word],
        )
    }

    async fn wait_until_open(&self) -> anyhow::Result<()> {
        let begin = Instant::now();
        while tokio::net::TcpStream::connect(self.smtp()).await.is_err() {
            if begin.elapsed() > PATIENCE {
                bail!(
                    "Postfix does not listen on {}:\n{}",
                    self.smtp(),
                    self.log()
                );
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Ok(())
    }
}

impl Drop for Postfix {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- the log of Postfix:\n{}", self.log());
        }
        // Stops the master whose pid is in this queue directory, and no other.
        if let Err(error) = self.control("stop").and_then(success) {
            eprintln!("Postfix did not stop: {error:#}");
        }
        // Its queue belongs to another user.
        let queue = path(self.dir.path());
        let _ = as_root("find", &[&queue, "-mindepth", "1", "-delete"]);
    }
}

fn path(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

/// Runs a command of the system's administrator.
fn as_root(program: &str, arguments: &[&str]) -> anyhow::Result<Output> {
    // SAFETY: geteuid cannot fail and touches no memory.
    let root = unsafe { libc::geteuid() } == 0;
    // Not on every user's path.
    let program = match program {
        "postfix" => "/usr/sbin/postfix",
        other => other,
    };
    let mut command = match root {
        true => Command::new(program),
        false => Command::new("sudo"),
    };
    if !root {
        command.arg("-n").arg(program);
    }
    let output = command.args(arguments).output();
    output.with_context(|| format!("cannot run {program}"))
}

fn success(output: Output) -> anyhow::Result<()> {
    let words = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(
        output.status.success(),
        "{}: {words}(Postfix has to be started by root, or by a user whom sudo asks no password)",
        output.status
    );
    Ok(())
}

/// As plain as can be, and changing as little of a message as Postfix is able to.
fn main_cf(dir: &Path, lmtp: &str) -> String {
    let dir = dir.display();
    format!(
        "compatibility_level = 3.6
queue_directory = {dir}/queue
data_directory = {dir}/data
maillog_file = {dir}/log/mail.log
maillog_file_prefixes = {dir}
mail_owner = postfix
setgid_group = postdrop
command_directory = /usr/sbin
daemon_directory = /usr/lib/postfix/sbin
myhostname = mta.example.net
mydestination =
alias_maps =
inet_interfaces = loopback-only
inet_protocols = ipv4
mynetworks = 127.0.0.0/8
smtpd_relay_restrictions = permit_mynetworks, reject
smtputf8_enable = yes
message_size_limit = 150000000
relay_domains = example.org
transport_maps = inline:{{ {{ example.org = lmtp:inet:{lmtp} }}, {{ example.net = discard: }} }}
local_header_rewrite_clients =
message_drop_headers =
disable_mime_input_processing = yes
disable_mime_output_conversion = yes
line_length_limit = 20000
header_size_limit = 1000000
lmtp_line_length_limit = 0
minimal_backoff_time = 1s
maximal_backoff_time = 2s
queue_run_delay = 1s
"
    )
}

/// Postfix' own services, none of them in a chroot, and one SMTP port.
fn master_cf(port: u16) -> String {
    let mut out = format!("127.0.0.1:{port} inet n - n - - smtpd\n");
    for service in [
        "pickup unix n - n 60 1 pickup",
        "cleanup unix n - n - 0 cleanup",
        "qmgr unix n - n 1 1 qmgr",
        "tlsmgr unix - - n 1000? 1 tlsmgr",
        "rewrite unix - - n - - trivial-rewrite",
        "bounce unix - - n - 0 bounce",
        "defer unix - - n - 0 bounce",
        "trace unix - - n - 0 bounce",
        "verify unix - - n - 1 verify",
        "flush unix n - n 1000? 0 flush",
        "proxymap unix - - n - - proxymap",
        "proxywrite unix - - n - 1 proxymap",
        "smtp unix - - n - - smtp",
        "relay unix - - n - - smtp",
        "showq unix n - n - - showq",
        "error unix - - n - - error",
        "retry unix - - n - - error",
        "discard unix - - n - - discard",
        "lmtp unix - - n - - lmtp",
        "anvil unix - - n - 1 anvil",
        "scache unix - - n - 1 scache",
        "postlog unix-dgram n - n - 1 postlogd",
    ] {
        out.push_str(service);
        out.push('\n');
    }
    out
}
