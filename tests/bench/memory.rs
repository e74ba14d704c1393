//! How much memory the processes of a server hold, as the kernel counts (proc(5)).

use std::collections::BTreeMap;
use std::fs;

/// Memory of some processes, in octets.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Memory {
    /// Resident, where a page that several processes share counts once (proportional set size).
    pub shared_once: u64,
    /// Resident, where it counts in each of them.
    pub resident: u64,
    /// How many processes.
    pub processes: u64,
}

/// Memory of these processes and all their descendants.
pub fn of_trees(roots: &[u32]) -> Memory {
    let children = children();
    let mut memory = Memory::default();
    let mut waiting = roots.to_vec();
    while let Some(pid) = waiting.pop() {
        waiting.extend(children.get(&pid).into_iter().flatten());
        // A process may end while we look.
        let Ok(rollup) = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")) else {
            continue;
        };
        memory.shared_once += line(&rollup, "Pss:");
        memory.resident += line(&rollup, "Rss:");
        memory.processes += 1;
    }
    memory
}

fn line(rollup: &str, name: &str) -> u64 {
    let value = rollup.lines().find_map(|l| l.strip_prefix(name));
    let kib = value.and_then(|v| v.trim().strip_suffix(" kB"));
    kib.and_then(|n| n.trim().parse::<u64>().ok()).unwrap_or(0) * 1024
}

fn children() -> BTreeMap<u32, Vec<u32>> {
    let mut children: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = entry
            .file_name()
            .to_str()
            .and_then(|n| n.parse::<u32>().ok())
        else {
            continue;
        };
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        // Behind the name, which may hold anything: state, then parent.
        let parent = stat
            .rsplit_once(')')
            .and_then(|(_, rest)| rest.split_whitespace().nth(1));
        if let Some(parent) = parent.and_then(|p| p.parse().ok()) {
            children.entry(parent).or_default().push(pid);
        }
    }
    children
}
