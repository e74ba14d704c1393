//! A node's process on this machine, as Linux accounts for it (proc(5)).

use std::collections::BTreeSet;
use std::fs;

/// Unit of the times in /proc/PID/stat; Linux shows 100 to user space on every architecture.
const TICKS_PER_SECOND: f64 = 100.0;

/// What the kernel has counted for a process.
#[derive(Debug, Clone, Copy, Default)]
pub struct Usage {
    /// Octets that the process has caused to be written to storage.
    pub write_bytes: u64,
    /// User and system time, in seconds.
    pub cpu_seconds: f64,
    /// Resident memory, in octets.
    pub rss_bytes: u64,
}

/// Reads a process' counters; `None` when it is gone or not ours to read.
pub fn usage(pid: u32) -> Option<Usage> {
    let io = fs::read_to_string(format!("/proc/{pid}/io")).ok()?;
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    Some(Usage {
        write_bytes: field(&io, "write_bytes:")?,
        cpu_seconds: cpu_seconds(&stat)?,
        rss_bytes: field(&status, "VmRSS:")? * 1024,
    })
}

/// The number after a name at the start of a line.
fn field(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|l| l.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

/// Fields 14 and 15. The second field, the name, may hold spaces and parentheses.
fn cpu_seconds(stat: &str) -> Option<f64> {
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_whitespace().skip(11);
    let user: f64 = fields.next()?.parse().ok()?;
    let system: f64 = fields.next()?.parse().ok()?;
    Some((user + system) / TICKS_PER_SECOND)
}

/// Processes of this machine with this name.
pub fn named(name: &str) -> Vec<u32> {
    let named = |pid: &u32| {
        let comm = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        comm.trim_end() == name
    };
    pids().filter(named).collect()
}

fn pids() -> impl Iterator<Item = u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|e| e.file_name().to_str()?.parse().ok())
}

/// Which of `pids` listens on a TCP port of this machine.
pub fn listener(port: u16, pids: &[u32]) -> Option<u32> {
    let mut inodes = BTreeSet::new();
    for table in ["/proc/net/tcp", "/proc/net/tcp6"] {
        let text = fs::read_to_string(table).unwrap_or_default();
        inodes.extend(text.lines().filter_map(|l| listening_inode(l, port)));
    }
    let holds = |pid: &u32| {
        let entries = fs::read_dir(format!("/proc/{pid}/fd"));
        let mut links = entries.into_iter().flatten().flatten();
        links.any(|e| {
            let target = fs::read_link(e.path()).unwrap_or_default();
            let inode = target.to_str().and_then(|t| {
                let inner = t.strip_prefix("socket:[")?.strip_suffix(']')?;
                inner.parse::<u64>().ok()
            });
            inode.is_some_and(|i| inodes.contains(&i))
        })
    };
    pids.iter().copied().find(holds)
}

/// The inode in a line of /proc/net/tcp that is a socket listening on `port`.
fn listening_inode(line: &str, port: u16) -> Option<u64> {
    const LISTEN: &str = "0A";
    let fields: Vec<&str> = line.split_whitespace().collect();
    let (_, local_port) = fields.get(1)?.rsplit_once(':')?;
    let same = u16::from_str_radix(local_port, 16).ok()? == port;
    (same && *fields.get(3)? == LISTEN).then(|| fields.get(9)?.parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_knows_itself() {
        let own = std::process::id();
        let before = usage(own).unwrap();
        assert!(before.rss_bytes > 0);
        let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = socket.local_addr().unwrap().port();
        assert_eq!(listener(port, &[own]), Some(own));
        drop(socket);
        assert_eq!(listener(port, &[own]), None);
        assert!(usage(u32::MAX).is_none());
    }

    #[test]
    fn names_with_parentheses_do_not_shift_the_fields() {
        let stat = "7 (a) b) S 1 2 3 4 5 6 7 8 9 10 250 150 0 0";
        assert_eq!(cpu_seconds(stat), Some(4.0));
        assert_eq!(cpu_seconds("nonsense"), None);
    }
}
