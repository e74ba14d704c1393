//! Every bound of a plan. A plan may come from a file that a person has edited: what cannot be run
//! is refused here with the place, the value and what it should be, so that nothing behind it has to
//! ask again.

use std::collections::BTreeSet;

use super::{CrashPoint, Fault, FaultKind, FirstLife, Given, ImapStep, Op, OpKind, Plan, VERSION};

/// Nodes of a plan at most.
pub const NODES: usize = 9;
/// Operations and faults of a plan at most.
pub const EVENTS: usize = 100_000;
/// Octets of one message at most: what the product takes.
pub const MESSAGE_BYTES: u64 = 150 << 20;
/// Octets of all messages together at most.
pub const TOTAL_BYTES: u64 = 1 << 30;
/// Longest time that can be asked for, ms: an hour.
pub const LONGEST_MS: u64 = 3_600_000;
/// Mailboxes of an account besides INBOX.
const MAILBOXES: u32 = 31;
/// The latest date that a message can be given, ms since 1970: in the year 2096.
const DATE_MS: u64 = 4_000_000_000_000;
/// A year, ms.
const YEAR_MS: i64 = 366 * 24 * 3600 * 1000;

/// A plan that cannot be read or run.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum PlanError {
    /// The text is not TOML, or a value has the wrong type.
    #[error("{path}: {cause}")]
    Text {
        /// Which file.
        path: String,
        /// What is wrong and where.
        cause: String,
    },
    /// Written for another version of the simulator.
    #[error(
        "{path}: plans of version {found} cannot be run, only those of version {VERSION}; write it anew with: posthouse-sim plan SEED -o FILE"
    )]
    Version {
        /// Which file.
        path: String,
        /// Its version.
        found: String,
    },
    /// A key that means nothing.
    #[error("{path}: {place}: the key `{key}` means nothing here; known are {known}")]
    Unknown {
        /// Which file.
        path: String,
        /// Where in the plan.
        place: String,
        /// The key.
        key: String,
        /// Keys that mean something there.
        known: String,
    },
    /// A value that cannot work.
    #[error("the plan's {place} cannot be {value}: {should}")]
    Value {
        /// Where in the plan.
        place: String,
        /// Its value.
        value: String,
        /// What it should be.
        should: String,
    },
}

/// One check: place, value, allowed range.
fn within(
    place: impl Into<String>,
    value: u64,
    range: std::ops::RangeInclusive<u64>,
) -> Result<(), PlanError> {
    match range.contains(&value) {
        true => Ok(()),
        false => Err(wrong(
            place,
            value,
            format!("{} to {}", range.start(), range.end()),
        )),
    }
}

fn wrong(place: impl Into<String>, value: impl ToString, should: impl Into<String>) -> PlanError {
    PlanError::Value {
        place: place.into(),
        value: value.to_string(),
        should: should.into(),
    }
}

/// Names in ASCII, none of them empty or long.
fn texts(place: &str, texts: &[String]) -> Result<(), PlanError> {
    let bad = |t: &&String| t.is_empty() || t.len() > 200 || !t.is_ascii();
    match texts.iter().find(bad) {
        Some(text) => Err(wrong(
            place,
            format!("{text:?}"),
            "names of 1 to 200 letters",
        )),
        None => within(
            format!("{place} (their number)"),
            texts.len() as u64,
            0..=50,
        ),
    }
}

impl Plan {
    /// Checks every value.
    pub fn check(&self) -> Result<(), PlanError> {
        if self.version != VERSION {
            return Err(PlanError::Version {
                path: "plan".into(),
                found: self.version.to_string(),
            });
        }
        within(
            "nodes (their number)",
            self.nodes.len() as u64,
            1..=NODES as u64,
        )?;
        for (i, node) in self.nodes.iter().enumerate() {
            within(
                format!("nodes[{i}].zone"),
                node.zone.into(),
                0..=NODES as u64 - 1,
            )?;
        }
        within("shards", self.shards.into(), 1..=128)?;
        within("replication", self.replication.into(), 1..=9)?;
        within("accounts", self.accounts.into(), 1..=1000)?;
        within("clients", self.clients.into(), 1..=100)?;
        within("duration_ms", self.duration_ms, 1..=LONGEST_MS)?;
        within("network.delay_ms", self.network.delay_ms, 1..=10_000)?;
        within("network.jitter_ms", self.network.jitter_ms, 0..=10_000)?;
        within(
            "network.zone_delay_ms",
            self.network.zone_delay_ms,
            0..=10_000,
        )?;
        within("disk.sync_ms", self.disk.sync_ms, 0..=10_000)?;
        within("disk.sync_jitter_ms", self.disk.sync_jitter_ms, 0..=10_000)?;
        if ![512, 4096].contains(&self.disk.sector) {
            return Err(wrong("disk.sector", self.disk.sector, "512 or 4096"));
        }
        within("disk.bytes", self.disk.bytes, 256 << 20..=1 << 42)?;
        self.check_settings()?;
        within(
            "ops (their number)",
            self.ops.len() as u64,
            0..=EVENTS as u64,
        )?;
        within(
            "faults (their number)",
            self.faults.len() as u64,
            0..=EVENTS as u64,
        )?;
        for (i, op) in self.ops.iter().enumerate() {
            self.check_op(&format!("ops[{i}]"), op)?;
        }
        within(
            "octets of all operations together",
            self.octets(),
            0..=TOTAL_BYTES,
        )?;
        for (i, fault) in self.faults.iter().enumerate() {
            self.check_fault(&format!("faults[{i}]"), fault)?;
        }
        Ok(())
    }

    fn check_settings(&self) -> Result<(), PlanError> {
        let s = &self.settings;
        let (min, max) = s.election_ms;
        within("settings.heartbeat_ms", s.heartbeat_ms, 1..=60_000)?;
        if s.heartbeat_ms * 2 >= min || min >= max || max > LONGEST_MS {
            let value = format!("[{min}, {max}]");
            let should = "a range that begins above two heartbeats and ends within an hour";
            return Err(wrong("settings.election_ms", value, should));
        }
        let gib = 1 << 30;
        within("settings.segment_bytes", s.segment_bytes, 64 << 10..=gib)?;
        within("settings.flush_bytes", s.flush_bytes, 1..=gib)?;
        for (name, value) in [
            ("raft_window_bytes", s.raft_window_bytes),
            ("replicate_window_bytes", s.replicate_window_bytes),
        ] {
            within(format!("settings.{name}"), value, 1 << 10..=gib)?;
        }
        within("settings.row_cache_bytes", s.row_cache_bytes, 0..=gib)?;
        within("settings.entry_cache_bytes", s.entry_cache_bytes, 0..=gib)?;
        within("settings.keep_entries", s.keep_entries, 0..=1 << 32)?;
        for (name, value, least) in [
            ("flush_ms", s.flush_ms, 1),
            ("scrub_every_ms", s.scrub_every_ms, 1000),
            ("compaction_every_ms", s.compaction_every_ms, 10),
        ] {
            within(format!("settings.{name}"), value, least..=YEAR_MS as u64)?;
        }
        within("settings.answer_ms", s.answer_ms, 500..=600_000)?;
        let ms = s.lmtp_deadline_ms;
        within("settings.lmtp_deadline_ms", ms, 500..=60_000)?;
        within("settings.view_age_ms", s.view_age_ms, 0..=600_000)?;
        within("settings.watch_changes", s.watch_changes, 1..=100_000)?;
        let percent = s.compaction_live_percent.into();
        within("settings.compaction_live_percent", percent, 0..=95)
    }

    fn check_op(&self, place: &str, op: &Op) -> Result<(), PlanError> {
        let at = |name: &str| format!("{place}.{name}");
        within(at("at_ms"), op.at_ms, 0..=self.duration_ms)?;
        within(
            at("client"),
            op.client.into(),
            0..=u64::from(self.clients) - 1,
        )?;
        within(
            at("account"),
            op.account.into(),
            0..=u64::from(self.accounts) - 1,
        )?;
        let mailbox = |mailbox: u32, least: u64| {
            within(at("mailbox"), mailbox.into(), least..=MAILBOXES.into())
        };
        let size = |size| within(at("size"), size, 0..=MESSAGE_BYTES);
        let body = |body| within(at("body"), body, 0..=i64::MAX as u64);
        let repeat = |times: u32| within(at("repeat"), times.into(), 0..=100);
        let given = |given: &Given| {
            texts(&at("given.flags"), &given.flags)?;
            within(at("given.date_ms"), given.date_ms, 0..=DATE_MS)
        };
        let also = |also: &[u32]| {
            let mut seen = BTreeSet::from([op.account]);
            for other in also {
                within(
                    at("also"),
                    (*other).into(),
                    0..=u64::from(self.accounts) - 1,
                )?;
                if !seen.insert(*other) {
                    let should = "other accounts than `account`, each once";
                    return Err(wrong(at("also"), format!("{also:?}"), should));
                }
            }
            Ok(())
        };
        match &op.kind {
            OpKind::CreateAccount
            | OpKind::DeleteAccount
            | OpKind::Mailboxes
            | OpKind::Usage
            | OpKind::ListAppPasswords
            | OpKind::AppLogin { .. }
            | OpKind::SetState { .. } => Ok(()),
            OpKind::AddAppPassword { app, repeat: times }
            | OpKind::RemoveAppPassword { app, repeat: times } => {
                // Fewer than an account may have, so that none is refused for being too many.
                within(at("app"), (*app).into(), 0..=50)?;
                repeat(*times)
            }
            OpKind::Pop3 { password, .. } => within(at("password"), (*password).into(), 0..=1000),
            OpKind::CreateMailbox { mailbox: m } => mailbox(*m, 1),
            OpKind::SetPassword { password: n } => within(at("password"), (*n).into(), 0..=1000),
            OpKind::Login { password, times } => {
                within(at("times"), (*times).into(), 1..=100)?;
                within(at("password"), (*password).into(), 0..=1000)
            }
            OpKind::Stay {
                mailbox: m,
                password,
                ..
            } => {
                mailbox(*m, 0)?;
                within(at("password"), (*password).into(), 0..=1000)
            }
            OpKind::Follow { page, .. } | OpKind::Accounts { page } => {
                within(at("page"), (*page).into(), 1..=10_000)
            }
            OpKind::MakeMailbox {
                mailbox: m,
                uses,
                repeat: times,
            } => {
                mailbox(*m, 1)?;
                texts(&at("uses"), uses)?;
                repeat(*times)
            }
            OpKind::DeleteMailbox {
                mailbox: m,
                repeat: times,
                ..
            } => {
                mailbox(*m, 0)?;
                repeat(*times)
            }
            OpKind::RenameMailbox {
                mailbox: m,
                to,
                repeat: times,
            } => {
                mailbox(*m, 0)?;
                mailbox(*to, 1)?;
                repeat(*times)
            }
            OpKind::Subscribe { mailbox: m, .. } | OpKind::Sections { mailbox: m, .. } => {
                mailbox(*m, 0)
            }
            OpKind::SpecialUse { mailbox: m, uses } => {
                mailbox(*m, 0)?;
                texts(&at("uses"), uses)
            }
            OpKind::SetMetadata {
                mailbox: m,
                entry,
                value,
            } => {
                mailbox(m.unwrap_or(0), 0)?;
                texts(&at("entry"), std::slice::from_ref(entry))?;
                within(at("value (its octets)"), value.len() as u64, 0..=1000)
            }
            OpKind::Metadata { mailbox: m } => mailbox(m.unwrap_or(0), 0),
            OpKind::AppendMany {
                mailbox: m,
                sizes,
                body: number,
                repeat: times,
                given: beside,
            } => {
                mailbox(*m, 0)?;
                given(beside)?;
                within(at("sizes (their number)"), sizes.len() as u64, 1..=100)?;
                sizes.iter().try_for_each(|octets| size(*octets))?;
                body(number.saturating_add(100))?;
                repeat(*times)
            }
            OpKind::Replace {
                mailbox: m,
                size: octets,
                body: number,
                repeat: times,
                given: beside,
                ..
            } => {
                mailbox(*m, 0)?;
                given(beside)?;
                size(*octets)?;
                body(*number)?;
                repeat(*times)
            }
            OpKind::Imap {
                mailbox: m,
                password,
                size: octets,
                body: number,
                flags,
                carry,
                also: steps,
                ..
            } => {
                mailbox(*m, 0)?;
                mailbox(carry.map_or(0, |carry| carry.to), 0)?;
                texts(&at("flags"), flags)?;
                within(at("password"), (*password).into(), 0..=1000)?;
                size(*octets)?;
                body(*number)?;
                within(at("also (their number)"), steps.len() as u64, 0..=100)?;
                steps.iter().try_for_each(|step| match step {
                    ImapStep::AppendMany { sizes, body: first } => {
                        within(at("sizes (their number)"), sizes.len() as u64, 1..=100)?;
                        sizes.iter().try_for_each(|octets| size(*octets))?;
                        body(first.saturating_add(100))
                    }
                    ImapStep::Replace {
                        size: octets,
                        body: number,
                        ..
                    } => {
                        size(*octets)?;
                        body(*number)
                    }
                    ImapStep::Status { mailbox: other } => mailbox(*other, 0),
                    ImapStep::Search { flag, .. } => texts(&at("flag"), std::slice::from_ref(flag)),
                    ImapStep::Pieces { cut } => within(at("cut"), (*cut).into(), 1..=MESSAGE_BYTES),
                    ImapStep::List { .. } => Ok(()),
                })
            }
            OpKind::Carry {
                mailbox: m,
                to,
                to_account,
                count,
                repeat: times,
                ..
            } => {
                mailbox(*m, 0)?;
                mailbox(*to, 0)?;
                if let Some(other) = to_account {
                    also(std::slice::from_ref(other))?;
                }
                within(at("count"), (*count).into(), 1..=1000)?;
                repeat(*times)
            }
            OpKind::FlagSet {
                mailbox: m,
                count,
                flags,
                repeat: times,
                ..
            } => {
                mailbox(*m, 0)?;
                within(at("count"), (*count).into(), 1..=1000)?;
                texts(&at("flags"), flags)?;
                repeat(*times)
            }
            OpKind::ExpungeSet {
                mailbox: m,
                count,
                repeat: times,
                ..
            } => {
                mailbox(*m, 0)?;
                within(at("count"), (*count).into(), 1..=1000)?;
                repeat(*times)
            }
            OpKind::Search {
                mailbox: m, flag, ..
            }
            | OpKind::Sort {
                mailbox: m, flag, ..
            }
            | OpKind::Thread {
                mailbox: m, flag, ..
            } => {
                mailbox(*m, 0)?;
                texts(&at("flag"), std::slice::from_ref(flag))
            }
            OpKind::Deliver {
                also: others,
                size: octets,
                body: number,
                repeat: times,
                into,
                given: beside,
            } => {
                also(others)?;
                mailbox(into.unwrap_or(0), 0)?;
                given(beside)?;
                size(*octets)?;
                body(*number)?;
                repeat(*times)
            }
            OpKind::Append {
                mailbox: m,
                size: octets,
                body: number,
                repeat: times,
                given: beside,
            } => {
                mailbox(*m, 0)?;
                given(beside)?;
                size(*octets)?;
                body(*number)?;
                repeat(*times)
            }
            OpKind::SetFlags {
                mailbox: m, flags, ..
            } => {
                mailbox(*m, 0)?;
                let bad = |f: &&String| f.is_empty() || f.len() > 200 || !f.is_ascii();
                match flags.iter().find(bad) {
                    Some(flag) => {
                        let should = "names of flags, as \\Seen or $Forwarded";
                        Err(wrong(at("flags"), format!("{flag:?}"), should))
                    }
                    None => within(at("flags (their number)"), flags.len() as u64, 0..=50),
                }
            }
            OpKind::Expunge { mailbox: m, .. } | OpKind::Fetch { mailbox: m, .. } => mailbox(*m, 0),
            OpKind::List { mailbox: m, page } => {
                mailbox(*m, 0)?;
                within(at("page"), (*page).into(), 1..=10_000)
            }
            OpKind::Lmtp {
                node,
                also: others,
                size: octets,
                body: number,
                ..
            } => {
                self.check_node(&at("node"), *node)?;
                also(others)?;
                size(*octets)?;
                body(*number)
            }
        }
    }

    fn check_node(&self, place: &str, node: u32) -> Result<(), PlanError> {
        within(place, node.into(), 0..=self.nodes.len() as u64 - 1)
    }

    /// Nodes that are named, each once.
    fn check_nodes(&self, place: &str, nodes: &[u32]) -> Result<(), PlanError> {
        let mut seen = BTreeSet::new();
        for node in nodes {
            self.check_node(place, *node)?;
            if !seen.insert(*node) {
                return Err(wrong(place, format!("{nodes:?}"), "different nodes"));
            }
        }
        match nodes.is_empty() {
            true => Err(wrong(place, "empty", "at least one node")),
            false => Ok(()),
        }
    }

    fn check_fault(&self, place: &str, fault: &Fault) -> Result<(), PlanError> {
        let at = |name: &str| format!("{place}.{name}");
        within(at("at_ms"), fault.at_ms, 0..=self.duration_ms)?;
        if let Some(node) = fault.kind.aim() {
            self.check_node(&at("node"), node)?;
        }
        if let Some(ms) = fault.kind.lasts_ms() {
            within(at("ms or down_ms"), ms, 0..=LONGEST_MS)?;
        }
        match &fault.kind {
            FaultKind::Crash { point, .. } => check_point(&at("n"), *point),
            FaultKind::RestartLoop { times, polls, .. } => {
                within(at("times"), (*times).into(), 1..=1000)?;
                within(at("polls"), *polls, 1..=1_000_000_000)
            }
            FaultKind::PowerCut { nodes, .. } => self.check_nodes(&at("nodes"), nodes),
            FaultKind::Clog { nodes, each_ms } => {
                self.check_nodes(&at("nodes"), nodes)?;
                within(at("each_ms"), *each_ms, 0..=LONGEST_MS)
            }
            FaultKind::Partition {
                groups,
                late,
                clients,
                ..
            } => {
                self.check_nodes(&at("groups"), &groups.concat())?;
                let last = groups.len() as u64 - 1;
                within(at("late"), late.unwrap_or(0).into(), 0..=last)?;
                within(at("clients"), clients.unwrap_or(0).into(), 0..=last)
            }
            FaultKind::OneWay { from, to, .. } => self.check_nodes(&at("from, to"), &[*from, *to]),
            FaultKind::SlowLink {
                from, to, by_ms, ..
            } => {
                self.check_nodes(&at("from, to"), &[*from, *to])?;
                within(at("by_ms"), *by_ms, 0..=LONGEST_MS)
            }
            FaultKind::Resets { per_mille, .. } | FaultKind::Disorder { per_mille, .. } => {
                within(at("per_mille"), (*per_mille).into(), 0..=1000)
            }
            FaultKind::DiskSlow {
                times, reads_ms, ..
            } => {
                within(at("times"), (*times).into(), 1..=10_000)?;
                within(at("reads_ms"), *reads_ms, 0..=10_000)
            }
            FaultKind::DiskFull { left, .. } => within(at("left"), *left, 0..=1 << 42),
            FaultKind::DiskError { count, .. } => within(at("count"), (*count).into(), 1..=10_000),
            FaultKind::Rot { sectors, .. } => {
                within(at("sectors"), (*sectors).into(), 1..=1_000_000)
            }
            FaultKind::OldImage {
                age_ms, alone_ms, ..
            } => {
                within(at("age_ms"), *age_ms, 0..=LONGEST_MS)?;
                within(at("alone_ms"), *alone_ms, 0..=LONGEST_MS)
            }
            FaultKind::ClockJump { by_ms, .. } => match (-YEAR_MS..=YEAR_MS).contains(by_ms) {
                true => Ok(()),
                false => Err(wrong(at("by_ms"), by_ms, "within a year")),
            },
            FaultKind::ClockDrift { ppm, .. } => match (-500_000..=500_000).contains(ppm) {
                true => Ok(()),
                false => Err(wrong(at("ppm"), ppm, "-500000 to 500000")),
            },
            FaultKind::AddNode { zone, first_life } => {
                within(at("zone"), (*zone).into(), 0..=NODES as u64 - 1)?;
                check_first_life(&at("first_life"), first_life)
            }
            FaultKind::DiskLost { first_life, .. } => {
                check_first_life(&at("first_life"), first_life)
            }
            FaultKind::Stop { .. }
            | FaultKind::Pause { .. }
            | FaultKind::HalfOpen { .. }
            | FaultKind::DiskStall { .. }
            | FaultKind::Misdirect { .. }
            | FaultKind::Wiped { .. }
            | FaultKind::Copied { .. }
            | FaultKind::WrongCluster { .. }
            | FaultKind::ClockFreeze { .. }
            | FaultKind::MoveLeaders { .. }
            | FaultKind::Inspect { .. } => Ok(()),
        }
    }
}

fn check_point(place: &str, point: CrashPoint) -> Result<(), PlanError> {
    use CrashPoint::*;
    let n = match point {
        Now => 1,
        Poll { n } | Write { n } | Sync { n } | Flush { n } | Send { n } | During { n, .. } => n,
    };
    within(place, n, 1..=1_000_000_000)
}

fn check_first_life(place: &str, life: &Option<FirstLife>) -> Result<(), PlanError> {
    let Some(life) = life else { return Ok(()) };
    check_point(&format!("{place}.n"), life.point)?;
    within(format!("{place}.down_ms"), life.down_ms, 0..=LONGEST_MS)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::generate::{Choice, generate};

    fn refused(change: impl FnOnce(&mut Plan)) -> String {
        let mut plan = generate(3, &Choice::default());
        plan.check().unwrap();
        change(&mut plan);
        plan.check().unwrap_err().to_string()
    }

    #[test]
    fn what_cannot_be_run_is_refused_with_its_place() {
        let fault = |kind| Fault { at_ms: 1, kind };
        assert!(refused(|p| p.nodes.clear()).contains("nodes"));
        assert!(refused(|p| p.shards = 0).contains("shards cannot be 0: 1 to 128"));
        assert!(refused(|p| p.network.delay_ms = 0).contains("network.delay_ms"));
        assert!(refused(|p| p.disk.sector = 1024).contains("512 or 4096"));
        assert!(refused(|p| p.settings.election_ms = (1, 2)).contains("two heartbeats"));
        assert!(refused(|p| p.ops[0].account = 99).contains("ops[0].account"));
        assert!(refused(|p| p.ops[0].at_ms = u64::MAX).contains("at_ms"));
        assert!(refused(|p| p.version = 9).contains("version 9"));
        let node = 77;
        let said = refused(|p| p.faults = vec![fault(FaultKind::Copied { node })]);
        assert!(said.contains("faults[0].node cannot be 77"), "{said}");
        let groups = vec![vec![0], vec![0]];
        let said = refused(|p| {
            p.faults = vec![fault(FaultKind::Partition {
                groups,
                ms: 1,
                late: None,
                clients: None,
            })]
        });
        assert!(said.contains("different nodes"), "{said}");
        let kind = FaultKind::ClockJump {
            node: 0,
            by_ms: i64::MIN,
        };
        assert!(refused(|p| p.faults = vec![fault(kind)]).contains("within a year"));
        let kind = OpKind::Deliver {
            also: vec![0],
            size: 1,
            body: 1,
            repeat: 0,
            into: None,
            given: Given::default(),
        };
        let twice = Op {
            at_ms: 0,
            client: 0,
            account: 0,
            kind,
        };
        assert!(refused(|p| p.ops = vec![twice]).contains("each once"));
    }
}
