//! Names of operations and faults, and what a person reads about them.

use posthouse_node::journal::READ_REPEATS;

use super::{
    CrashPoint, DiskCall, End, Fault, FaultKind, FirstLife, FlagMode, Given, ImapStep, Job,
    LmtpCut, Op, OpKind, Plan, RotPlace,
};

impl LmtpCut {
    /// All places, in the order of the dialogue.
    pub const ALL: [LmtpCut; 10] = [
        LmtpCut::Greeting,
        LmtpCut::Lhlo,
        LmtpCut::Line,
        LmtpCut::Mail,
        LmtpCut::Among,
        LmtpCut::Rcpt,
        LmtpCut::Data,
        LmtpCut::Body,
        LmtpCut::Dot,
        LmtpCut::Replies,
    ];
}

impl OpKind {
    /// All names, as they stand in plans.
    pub const NAMES: [&str; 40] = [
        "create_account",
        "delete_account",
        "create_mailbox",
        "deliver",
        "append",
        "set_flags",
        "expunge",
        "mailboxes",
        "list",
        "fetch",
        "lmtp",
        "make_mailbox",
        "delete_mailbox",
        "rename_mailbox",
        "subscribe",
        "special_use",
        "set_metadata",
        "metadata",
        "append_many",
        "replace",
        "carry",
        "flag_set",
        "expunge_set",
        "search",
        "sections",
        "follow",
        "set_password",
        "login",
        "imap",
        "set_state",
        "add_app_password",
        "remove_app_password",
        "list_app_passwords",
        "app_login",
        "sort",
        "thread",
        "pop3",
        "stay",
        "usage",
        "accounts",
    ];

    /// Its name, as it stands in plans.
    pub fn name(&self) -> &'static str {
        match self {
            OpKind::CreateAccount => "create_account",
            OpKind::DeleteAccount => "delete_account",
            OpKind::CreateMailbox { .. } => "create_mailbox",
            OpKind::Deliver { .. } => "deliver",
            OpKind::Append { .. } => "append",
            OpKind::SetFlags { .. } => "set_flags",
            OpKind::Expunge { .. } => "expunge",
            OpKind::Mailboxes => "mailboxes",
            OpKind::List { .. } => "list",
            OpKind::Fetch { .. } => "fetch",
            OpKind::Lmtp { .. } => "lmtp",
            OpKind::MakeMailbox { .. } => "make_mailbox",
            OpKind::DeleteMailbox { .. } => "delete_mailbox",
            OpKind::RenameMailbox { .. } => "rename_mailbox",
            OpKind::Subscribe { .. } => "subscribe",
            OpKind::SpecialUse { .. } => "special_use",
            OpKind::SetMetadata { .. } => "set_metadata",
            OpKind::Metadata { .. } => "metadata",
            OpKind::AppendMany { .. } => "append_many",
            OpKind::Replace { .. } => "replace",
            OpKind::Carry { .. } => "carry",
            OpKind::FlagSet { .. } => "flag_set",
            OpKind::ExpungeSet { .. } => "expunge_set",
            OpKind::Search { .. } => "search",
            OpKind::Sections { .. } => "sections",
            OpKind::Follow { .. } => "follow",
            OpKind::SetPassword { .. } => "set_password",
            OpKind::Login { .. } => "login",
            OpKind::Imap { .. } => "imap",
            OpKind::SetState { .. } => "set_state",
            OpKind::AddAppPassword { .. } => "add_app_password",
            OpKind::RemoveAppPassword { .. } => "remove_app_password",
            OpKind::ListAppPasswords => "list_app_passwords",
            OpKind::AppLogin { .. } => "app_login",
            OpKind::Sort { .. } => "sort",
            OpKind::Thread { .. } => "thread",
            OpKind::Pop3 { .. } => "pop3",
            OpKind::Stay { .. } => "stay",
            OpKind::Usage => "usage",
            OpKind::Accounts { .. } => "accounts",
        }
    }

    /// Octets that it sends, repeats included.
    pub fn octets(&self) -> u64 {
        match self {
            OpKind::Deliver { size, repeat, .. }
            | OpKind::Append { size, repeat, .. }
            | OpKind::Replace { size, repeat, .. } => size.saturating_mul(1 + u64::from(*repeat)),
            OpKind::AppendMany { sizes, repeat, .. } => {
                let sum = sizes.iter().fold(0u64, |sum, n| sum.saturating_add(*n));
                sum.saturating_mul(1 + u64::from(*repeat))
            }
            OpKind::Lmtp { size, .. } => *size,
            OpKind::Imap { size, also, .. } => {
                let sizes = also.iter().map(ImapStep::octets);
                sizes.fold(*size, u64::saturating_add)
            }
            _ => 0,
        }
    }

    /// How often the call is repeated, where it can be.
    pub fn repeat_mut(&mut self) -> Option<&mut u32> {
        match self {
            OpKind::Deliver { repeat, .. }
            | OpKind::Append { repeat, .. }
            | OpKind::MakeMailbox { repeat, .. }
            | OpKind::DeleteMailbox { repeat, .. }
            | OpKind::RenameMailbox { repeat, .. }
            | OpKind::AppendMany { repeat, .. }
            | OpKind::Replace { repeat, .. }
            | OpKind::Carry { repeat, .. }
            | OpKind::FlagSet { repeat, .. }
            | OpKind::ExpungeSet { repeat, .. }
            | OpKind::AddAppPassword { repeat, .. }
            | OpKind::RemoveAppPassword { repeat, .. } => Some(repeat),
            _ => None,
        }
    }

    /// What its messages are given beside their octets, where they can be.
    pub fn given_mut(&mut self) -> Option<&mut Given> {
        match self {
            OpKind::Deliver { given, .. }
            | OpKind::Append { given, .. }
            | OpKind::AppendMany { given, .. }
            | OpKind::Replace { given, .. } => Some(given),
            _ => None,
        }
    }

    /// How many messages it picks, where it picks several.
    fn picks(&self) -> Option<u32> {
        match self {
            OpKind::Carry { count, .. }
            | OpKind::FlagSet { count, .. }
            | OpKind::ExpungeSet { count, .. } => Some(*count),
            _ => None,
        }
    }

    /// The mailbox that it is about, where it is one.
    fn mailbox(&self) -> Option<u32> {
        match self {
            OpKind::CreateMailbox { mailbox }
            | OpKind::MakeMailbox { mailbox, .. }
            | OpKind::DeleteMailbox { mailbox, .. }
            | OpKind::RenameMailbox { mailbox, .. }
            | OpKind::Subscribe { mailbox, .. }
            | OpKind::SpecialUse { mailbox, .. }
            | OpKind::AppendMany { mailbox, .. }
            | OpKind::Replace { mailbox, .. }
            | OpKind::Carry { mailbox, .. }
            | OpKind::FlagSet { mailbox, .. }
            | OpKind::ExpungeSet { mailbox, .. }
            | OpKind::Search { mailbox, .. }
            | OpKind::Sort { mailbox, .. }
            | OpKind::Thread { mailbox, .. }
            | OpKind::Sections { mailbox, .. }
            | OpKind::Imap { mailbox, .. }
            | OpKind::Stay { mailbox, .. }
            | OpKind::Expunge { mailbox, .. }
            | OpKind::List { mailbox, .. }
            | OpKind::Fetch { mailbox, .. } => Some(*mailbox),
            OpKind::SetMetadata { mailbox, .. } | OpKind::Metadata { mailbox } => *mailbox,
            _ => None,
        }
    }
}

impl Op {
    /// In words, without the time.
    pub fn words(&self) -> String {
        let more = match &self.kind {
            OpKind::Deliver {
                also,
                size,
                repeat,
                into,
                given,
                ..
            } => {
                let into = into.map_or(String::new(), |m| format!(" to mailbox {m}"));
                let (also, again) = (others(also), again(*repeat));
                format!(" {size} octets{into}{}{also}{again}", given.words())
            }
            OpKind::Append {
                mailbox,
                size,
                repeat,
                given,
                ..
            } => {
                let (given, again) = (given.words(), again(*repeat));
                format!(" {size} octets to mailbox {mailbox}{given}{again}")
            }
            OpKind::SetFlags {
                mailbox,
                mode,
                flags,
                ..
            } => {
                let mode = match mode {
                    FlagMode::Add => '+',
                    FlagMode::Remove => '-',
                    FlagMode::Replace => '=',
                };
                format!(" {mode}({}) in mailbox {mailbox}", flags.join(" "))
            }
            OpKind::RenameMailbox { mailbox, to, .. } => format!(" mailbox {mailbox} to {to}"),
            OpKind::Subscribe { mailbox, on: false } => format!(" mailbox {mailbox}, no more"),
            OpKind::AppendMany {
                mailbox,
                sizes,
                repeat,
                ..
            } => {
                let n = sizes.len();
                format!(" {n} messages to mailbox {mailbox}{}", again(*repeat))
            }
            OpKind::Carry {
                mailbox,
                to,
                to_account,
                count,
                away,
                ..
            } => {
                let how = if *away { "move" } else { "copy" };
                let whose = to_account.map_or(String::new(), |a| format!(" of account {a}"));
                format!(" {how} {count} from mailbox {mailbox} to {to}{whose}")
            }
            OpKind::SetPassword { password } => format!(" password {password}"),
            OpKind::Login { password, times } => format!(" password {password}, {times} times"),
            OpKind::SetState { state } => format!(" {state:?}").to_lowercase(),
            OpKind::AddAppPassword { app, repeat } | OpKind::RemoveAppPassword { app, repeat } => {
                format!(" program {app}{}", again(*repeat))
            }
            OpKind::Sort {
                mailbox,
                by,
                reverse,
                ..
            } => {
                let by = format!("{by:?}").to_lowercase();
                let back = if *reverse { ", reversed" } else { "" };
                format!(" mailbox {mailbox} by {by}{back}")
            }
            OpKind::Pop3 { cut, .. } => {
                cut.map_or(String::new(), |n| format!(" cut after {n} commands"))
            }
            OpKind::Lmtp {
                node,
                also,
                size,
                cut,
                ..
            } => {
                let cut = cut.map_or(String::new(), |c| format!(", cut at {c:?}").to_lowercase());
                format!(" {size} octets through node {node}{}{cut}", others(also))
            }
            kind => match (kind.picks(), kind.mailbox()) {
                (Some(count), Some(mailbox)) => format!(" {count} in mailbox {mailbox}"),
                (_, Some(mailbox)) => format!(" mailbox {mailbox}"),
                _ => String::new(),
            },
        };
        let (client, account) = (self.client, self.account);
        format!(
            "client {client}: {} account {account}{more}",
            self.kind.name()
        )
    }
}

impl ImapStep {
    /// Octets that it sends.
    fn octets(&self) -> u64 {
        match self {
            ImapStep::AppendMany { sizes, .. } => {
                sizes.iter().fold(0, |sum, n| sum.saturating_add(*n))
            }
            ImapStep::Replace { size, .. } => *size,
            _ => 0,
        }
    }
}

impl Given {
    /// In words, to be put behind others; empty where there is nothing to tell.
    pub fn words(&self) -> String {
        let flags = match self.flags.as_slice() {
            [] => String::new(),
            flags => format!(" with ({})", flags.join(" ")),
        };
        match self.date_ms {
            0 => flags,
            date_ms => format!("{flags} of {date_ms} ms"),
        }
    }
}

fn others(also: &[u32]) -> String {
    match also.is_empty() {
        true => String::new(),
        false => format!(", also to {}", list(also)),
    }
}

fn again(repeat: u32) -> String {
    match repeat {
        0 => String::new(),
        times => format!(", {times} times again"),
    }
}

fn list(numbers: &[u32]) -> String {
    let numbers: Vec<String> = numbers.iter().map(u32::to_string).collect();
    numbers.join(",")
}

impl FaultKind {
    /// All names, as they stand in plans.
    pub const NAMES: [&str; 29] = [
        "crash",
        "restart_loop",
        "power_cut",
        "stop",
        "pause",
        "partition",
        "one_way",
        "clog",
        "slow_link",
        "resets",
        "disorder",
        "half_open",
        "disk_stall",
        "disk_slow",
        "disk_error",
        "disk_full",
        "rot",
        "misdirect",
        "disk_lost",
        "wiped",
        "old_image",
        "copied",
        "wrong_cluster",
        "clock_jump",
        "clock_drift",
        "clock_freeze",
        "add_node",
        "move_leaders",
        "inspect",
    ];

    /// Its name, as it stands in plans.
    pub fn name(&self) -> &'static str {
        match self {
            FaultKind::Crash { .. } => "crash",
            FaultKind::RestartLoop { .. } => "restart_loop",
            FaultKind::PowerCut { .. } => "power_cut",
            FaultKind::Stop { .. } => "stop",
            FaultKind::Pause { .. } => "pause",
            FaultKind::Partition { .. } => "partition",
            FaultKind::OneWay { .. } => "one_way",
            FaultKind::Clog { .. } => "clog",
            FaultKind::SlowLink { .. } => "slow_link",
            FaultKind::Resets { .. } => "resets",
            FaultKind::Disorder { .. } => "disorder",
            FaultKind::HalfOpen { .. } => "half_open",
            FaultKind::DiskStall { .. } => "disk_stall",
            FaultKind::DiskSlow { .. } => "disk_slow",
            FaultKind::DiskError { .. } => "disk_error",
            FaultKind::DiskFull { .. } => "disk_full",
            FaultKind::Rot { .. } => "rot",
            FaultKind::Misdirect { .. } => "misdirect",
            FaultKind::DiskLost { .. } => "disk_lost",
            FaultKind::Wiped { .. } => "wiped",
            FaultKind::OldImage { .. } => "old_image",
            FaultKind::Copied { .. } => "copied",
            FaultKind::WrongCluster { .. } => "wrong_cluster",
            FaultKind::ClockJump { .. } => "clock_jump",
            FaultKind::ClockDrift { .. } => "clock_drift",
            FaultKind::ClockFreeze { .. } => "clock_freeze",
            FaultKind::AddNode { .. } => "add_node",
            FaultKind::MoveLeaders { .. } => "move_leaders",
            FaultKind::Inspect { .. } => "inspect",
        }
    }

    /// Whether octets that were synced may be lost by it.
    pub fn is_destructive(&self) -> bool {
        if let FaultKind::DiskError {
            call, count, index, ..
        } = self
        {
            // What is refused so often counts as lost. The index ends its process instead.
            return *call == DiskCall::Read && *count > READ_REPEATS && !index;
        }
        matches!(
            self,
            FaultKind::Rot { .. }
                | FaultKind::Misdirect { .. }
                | FaultKind::DiskLost { .. }
                | FaultKind::Wiped { .. }
                | FaultKind::OldImage { .. }
                | FaultKind::Copied { .. }
                | FaultKind::WrongCluster { .. }
        )
    }

    /// The one node that it strikes, where it is one.
    pub fn aim(&self) -> Option<u32> {
        // Through a clone, so that there is one list of the kinds that strike one node.
        self.clone().aim_mut().copied()
    }

    /// Strikes another node instead; `false` where it does not strike exactly one.
    pub fn aim_at(&mut self, target: u32) -> bool {
        match self.aim_mut() {
            Some(node) => {
                *node = target;
                true
            }
            None => false,
        }
    }

    fn aim_mut(&mut self) -> Option<&mut u32> {
        match self {
            FaultKind::Crash { node, .. }
            | FaultKind::RestartLoop { node, .. }
            | FaultKind::Stop { node, .. }
            | FaultKind::Pause { node, .. }
            | FaultKind::HalfOpen { node }
            | FaultKind::DiskStall { node, .. }
            | FaultKind::DiskSlow { node, .. }
            | FaultKind::DiskError { node, .. }
            | FaultKind::DiskFull { node, .. }
            | FaultKind::Rot { node, .. }
            | FaultKind::Misdirect { node }
            | FaultKind::DiskLost { node, .. }
            | FaultKind::Wiped { node, .. }
            | FaultKind::OldImage { node, .. }
            | FaultKind::Copied { node }
            | FaultKind::WrongCluster { node, .. }
            | FaultKind::ClockJump { node, .. }
            | FaultKind::ClockDrift { node, .. }
            | FaultKind::ClockFreeze { node, .. }
            | FaultKind::MoveLeaders { node }
            | FaultKind::Inspect { node } => Some(node),
            FaultKind::PowerCut { .. }
            | FaultKind::Partition { .. }
            | FaultKind::OneWay { .. }
            | FaultKind::Clog { .. }
            | FaultKind::SlowLink { .. }
            | FaultKind::Resets { .. }
            | FaultKind::Disorder { .. }
            | FaultKind::AddNode { .. } => None,
        }
    }

    /// How long it lasts, ms, where it lasts.
    pub fn lasts_ms(&self) -> Option<u64> {
        let mut kind = self.clone();
        kind.lasts_mut().copied()
    }

    /// Its duration, where it has one.
    pub fn lasts_mut(&mut self) -> Option<&mut u64> {
        match self {
            FaultKind::Crash { down_ms: ms, .. }
            | FaultKind::PowerCut { down_ms: ms, .. }
            | FaultKind::Stop { down_ms: ms, .. }
            | FaultKind::DiskLost { down_ms: ms, .. }
            | FaultKind::Wiped { down_ms: ms, .. }
            | FaultKind::OldImage { down_ms: ms, .. }
            | FaultKind::Pause { ms, .. }
            | FaultKind::Partition { ms, .. }
            | FaultKind::OneWay { ms, .. }
            | FaultKind::SlowLink { ms, .. }
            | FaultKind::Resets { ms, .. }
            | FaultKind::Disorder { ms, .. }
            | FaultKind::DiskStall { ms, .. }
            | FaultKind::DiskSlow { ms, .. }
            | FaultKind::DiskFull { ms, .. }
            | FaultKind::WrongCluster { ms, .. }
            | FaultKind::ClockDrift { ms, .. }
            | FaultKind::ClockFreeze { ms, .. } => Some(ms),
            FaultKind::RestartLoop { .. }
            | FaultKind::Clog { .. }
            | FaultKind::HalfOpen { .. }
            | FaultKind::DiskError { .. }
            | FaultKind::Rot { .. }
            | FaultKind::Misdirect { .. }
            | FaultKind::Copied { .. }
            | FaultKind::ClockJump { .. }
            | FaultKind::AddNode { .. }
            | FaultKind::MoveLeaders { .. }
            | FaultKind::Inspect { .. } => None,
        }
    }

    /// In words, without the time.
    pub fn words(&self) -> String {
        let node = self.aim().map_or(String::new(), |n| format!("node {n} "));
        match self {
            FaultKind::Crash {
                point,
                power,
                down_ms,
                ..
            } => {
                let dies = if *power { "loses power" } else { "dies" };
                format!("{node}{dies} {}, down {down_ms} ms", point.words())
            }
            FaultKind::RestartLoop {
                times,
                polls,
                power,
                ..
            } => {
                let dies = if *power { "loses power" } else { "dies" };
                format!("{node}{dies} {times} times, each after {polls} polls")
            }
            FaultKind::PowerCut { nodes, down_ms } => {
                format!("nodes {} lose power, down {down_ms} ms", list(nodes))
            }
            FaultKind::Stop { down_ms, .. } => format!("{node}stops, down {down_ms} ms"),
            FaultKind::Pause { ms, .. } => format!("{node}stands still for {ms} ms"),
            FaultKind::Partition {
                groups,
                ms,
                late,
                clients,
            } => {
                let also = |g: usize, who: &str, of: &Option<u32>| match *of == Some(g as u32) {
                    true => format!(",{who}"),
                    false => String::new(),
                };
                let group = |(g, nodes): (usize, &Vec<u32>)| {
                    let late = also(g, "new nodes", late);
                    format!("{}{late}{}", list(nodes), also(g, "clients", clients))
                };
                let groups: Vec<String> = groups.iter().enumerate().map(group).collect();
                format!("partition {} for {ms} ms", groups.join(" | "))
            }
            FaultKind::OneWay {
                from,
                to,
                ms,
                clients,
            } => {
                let (from_too, to_too) = match clients {
                    Some(End::From) => (" and the clients", ""),
                    Some(End::To) => ("", " and the clients"),
                    None => ("", ""),
                };
                format!("nothing from node {from}{from_too} reaches node {to}{to_too} for {ms} ms")
            }
            FaultKind::Clog { nodes, each_ms } => {
                format!("nodes {} are clogged, {each_ms} ms apart", list(nodes))
            }
            FaultKind::SlowLink {
                from,
                to,
                by_ms,
                ms,
            } => format!("node {from} to {to} is {by_ms} ms slower for {ms} ms"),
            FaultKind::Resets { per_mille, ms } => {
                format!("{per_mille}/1000 packets reset their connection for {ms} ms")
            }
            FaultKind::Disorder { per_mille, ms } => {
                format!("{per_mille}/1000 messages come twice or late for {ms} ms")
            }
            FaultKind::HalfOpen { .. } => format!("{node}forgets its connections"),
            FaultKind::DiskStall { ms, .. } => format!("{node}disk stalls for {ms} ms"),
            FaultKind::DiskSlow {
                times,
                ms,
                reads_ms,
                ..
            } => match reads_ms {
                0 => format!("{node}disk is {times} times slower for {ms} ms"),
                each => format!(
                    "{node}disk is {times} times slower for {ms} ms, each read by {each} ms"
                ),
            },
            FaultKind::DiskError {
                call, count, index, ..
            } => {
                let call = format!("{call:?}").to_lowercase();
                let what = if *index { "index" } else { "disk" };
                format!("{node}{what}: the next {count} {call} calls fail")
            }
            FaultKind::DiskFull { ms, left, .. } => match left {
                0 => format!("{node}disk is full for {ms} ms"),
                left => format!("{node}disk has {} KiB left for {ms} ms", left >> 10),
            },
            FaultKind::Rot {
                sectors,
                index,
                place,
                ..
            } => match (index, place) {
                (true, _) => format!("{node}{sectors} sectors of its index rot"),
                (_, RotPlace::Files) => format!("{node}{sectors} sectors of its files rot"),
                (_, RotPlace::Seals) => format!("{node}up to {sectors} seals of segments rot"),
                (_, RotPlace::Segment) => format!("{node}a whole segment rots"),
                (_, RotPlace::Identity) => format!("{node}identity rots"),
                (_, RotPlace::Votes) => format!("{node}up to {sectors} votes rot"),
                (_, RotPlace::Unflushed) => {
                    format!("{node}up to {sectors} entries rot that its index lacks")
                }
            },
            FaultKind::Misdirect { .. } => format!("{node}next write goes astray"),
            FaultKind::DiskLost {
                down_ms,
                first_life,
                ..
            } => {
                let dies = first_life.map_or(String::new(), |life| life.words());
                format!("{node}loses its disk; a new node joins after {down_ms} ms{dies}")
            }
            FaultKind::Wiped {
                keep_identity,
                down_ms,
                ..
            } => {
                let but = if *keep_identity {
                    " but its identity"
                } else {
                    ""
                };
                format!("{node}is wiped{but}, down {down_ms} ms")
            }
            FaultKind::OldImage {
                age_ms,
                down_ms,
                alone_ms,
                ..
            } => {
                let alone = match alone_ms {
                    0 => String::new(),
                    ms => format!(", cut off for {ms} ms more"),
                };
                format!("{node}gets its disk of {age_ms} ms ago, down {down_ms} ms{alone}")
            }
            FaultKind::Copied { .. } => format!("{node}is started twice, from a copied directory"),
            FaultKind::WrongCluster { ms, .. } => {
                format!("{node}address answers for another cluster for {ms} ms")
            }
            FaultKind::ClockJump { by_ms, .. } => format!("{node}wall clock jumps by {by_ms} ms"),
            FaultKind::ClockDrift { ppm, ms, .. } => {
                format!("{node}clock drifts by {ppm} ppm for {ms} ms")
            }
            FaultKind::ClockFreeze { ms, .. } => {
                format!("{node}wall clock stands still for {ms} ms")
            }
            FaultKind::AddNode { zone, first_life } => {
                let dies = first_life.map_or(String::new(), |life| life.words());
                format!("a node is added in zone {zone}{dies}")
            }
            FaultKind::MoveLeaders { .. } => format!("{node}hands its leaderships over"),
            FaultKind::Inspect { .. } => format!("{node}is inspected by its operator"),
        }
    }
}

impl Fault {
    /// In words, with its time.
    pub fn words(&self) -> String {
        format!("{} ms: {}", self.at_ms, self.kind.words())
    }
}

impl FirstLife {
    fn words(&self) -> String {
        let dies = if self.power { "loses power" } else { "dies" };
        let (point, down_ms) = (self.point.words(), self.down_ms);
        format!(" and {dies} {point}, down {down_ms} ms")
    }
}

impl CrashPoint {
    fn words(&self) -> String {
        match self {
            CrashPoint::Now => "at once".into(),
            CrashPoint::Poll { n } => format!("before poll {n}"),
            CrashPoint::Write { n } => format!("within write {n}"),
            CrashPoint::Sync { n } => format!("before sync {n}"),
            CrashPoint::Flush { n } => format!("within flush {n} of its index"),
            CrashPoint::Send { n } => format!("when packet {n} has left"),
            CrashPoint::During { job, n } => format!("at step {n} of {}", job.words()),
        }
    }
}

impl Job {
    fn words(self) -> &'static str {
        match self {
            Job::Sending => "sending snapshots",
            Job::Snapshot => "receiving a snapshot",
            Job::Compaction => "compaction",
        }
    }
}

impl Plan {
    /// Octets that all operations send.
    pub fn octets(&self) -> u64 {
        self.ops
            .iter()
            .fold(0, |sum, op| sum.saturating_add(op.kind.octets()))
    }

    /// Zones of the nodes at the beginning.
    pub fn zones(&self) -> u32 {
        let mut zones: Vec<u32> = self.nodes.iter().map(|n| n.zone).collect();
        zones.sort_unstable();
        zones.dedup();
        zones.len() as u32
    }

    /// One line about its size.
    pub fn summary(&self) -> String {
        let count = |n: usize, what: &str| match n {
            1 => format!("1 {what}"),
            n => format!("{n} {what}s"),
        };
        format!(
            "{} in {}, {} × {}, {}, {} by {} on {}, {}, {:.1} s",
            count(self.nodes.len(), "node"),
            count(self.zones() as usize, "zone"),
            count(self.shards as usize, "shard"),
            self.replication,
            self.transport.name(),
            count(self.ops.len(), "operation"),
            count(self.clients as usize, "client"),
            count(self.accounts as usize, "account"),
            count(self.faults.len(), "fault"),
            self.duration_ms as f64 / 1000.0
        )
    }
}
