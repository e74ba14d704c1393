//! Carries the faults of a plan out, and takes back those that end.
//!
//! - [`join`]: nodes that are added in the run. [`image`]: old images, and what restoring one demands
//!   of the other nodes.

mod image;
mod join;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::{Path, PathBuf};
use std::time::Duration;

use self::join::{Newcomer, Token};
use super::budget::{Budget, destroys};
use super::cluster::Cluster;
use super::nodes::{DATA, NodeSlot};
use super::rot;
use crate::outcome::EventKind;
use crate::plan::{CrashPoint, End, Fault, FaultKind, FirstLife, Job, Plan, RotPlace};
use crate::stream::stream;
use crate::world::HostId;
use crate::world::disk::{Armed, Decay, Image as DiskImage};
use crate::world::index::IndexImage;
use crate::world::link::Rule;
use crate::world::stage::Death;

use posthouse_client::Target;
use posthouse_node::rare::Rare;
use rand::RngExt;

/// How long a process that dies at a point of its work may take to get there, ms.
const POINT_WAIT_MS: u64 = 5_000;
/// The same where the work may have to begin first, ms.
const JOB_WAIT_MS: u64 = 12_000;

/// Within this a node is reminded of what it has promised, once it reaches the others again, ms: an
/// attempt that is under way ends, then comes the next turn.
const REMINDED_MS: u64 = 6_000;

/// Something that happens later because of a fault.
enum Later {
    /// A rule of the network ends.
    Rule(u64),
    /// Another host is clogged.
    Clog(HostId, u64),
    /// The disk has space again.
    Space(HostId),
    /// The wall clock goes on.
    Thaw(HostId),
    /// Time passes as it should.
    Steady(HostId),
    /// Connections of a host that still stands still are given up by the others.
    GiveUp(HostId),
    /// A process that has not reached the point of its death dies anyway.
    Die(u32, Death, u64),
    /// An image of the directory is taken, for the fault with this number.
    Image(u32, usize),
    /// That image takes the place of the directory of a node that is about to start.
    Restore(u32, usize),
    /// A new node joins.
    Join(Newcomer),
    /// A process that does not belong there ends.
    EndExtra(usize),
}

/// The chaos of one run.
pub struct Chaos {
    due: VecDeque<(usize, Fault)>,
    later: BTreeMap<(u64, u64), Later>,
    count: u64,
    begin_ms: u64,
    budget: Budget,
    /// Images for the faults with these numbers, and when they were taken, ms.
    images: BTreeMap<usize, (u64, DiskImage, IndexImage)>,
    /// Nodes that start with an old image and ask the others what they have promised since.
    asking: BTreeSet<u32>,
    /// Copies of nodes that look for their originals: which of `extra`, and of which node.
    looking: Vec<(usize, u32)>,
    joining: Vec<(Newcomer, Token)>,
    /// Cuts, and in which group of each a node is that joins now.
    cuts: Vec<(u64, u32)>,
    /// Nodes that get another token.
    renewing: Vec<(usize, Token)>,
    /// Processes beside the nodes of the cluster.
    extra: Vec<NodeSlot>,
    draws: crate::stream::Stream,
    /// Whether nothing new is to happen.
    over: bool,
}

impl Chaos {
    /// The faults of a plan, from now on.
    pub fn new(plan: &Plan, begin_ms: u64) -> Chaos {
        let mut faults: Vec<(usize, Fault)> = plan.faults.iter().cloned().enumerate().collect();
        faults.sort_by_key(|(i, f)| (f.at_ms, *i));
        let mut chaos = Chaos {
            due: faults.into(),
            later: BTreeMap::new(),
            count: 0,
            begin_ms,
            budget: Budget::new(plan),
            images: BTreeMap::new(),
            asking: BTreeSet::new(),
            looking: Vec::new(),
            joining: Vec::new(),
            cuts: Vec::new(),
            renewing: Vec::new(),
            extra: Vec::new(),
            draws: stream(plan.seed, "chaos", 0),
            over: false,
        };
        for (i, fault) in plan.faults.iter().enumerate() {
            if let FaultKind::OldImage { node, age_ms, .. } = fault.kind {
                let at = begin_ms + fault.at_ms.saturating_sub(age_ms);
                chaos.later(at, Later::Image(node % plan.nodes.len() as u32, i));
            }
        }
        chaos
    }

    fn later(&mut self, at_ms: u64, what: Later) {
        self.count += 1;
        self.later.insert((at_ms, self.count), what);
    }

    /// What is due happens.
    pub fn turn(&mut self, cluster: &mut Cluster) {
        let now = cluster.now_ms();
        self.asking.retain(|n| {
            let node = &cluster.nodes[*n as usize];
            !node.serves() && node.retired.is_none()
        });
        let extra = &self.extra;
        self.looking.retain(|(i, _)| {
            let copy = &extra[*i];
            copy.is_up(&cluster.stage) && !copy.serves()
        });
        while let Some(first) = self.later.first_entry() {
            if first.key().0 > now {
                break;
            }
            let what = first.remove();
            self.happen(what, cluster);
        }
        while let Some((_, fault)) = self.due.front() {
            if self.over || self.begin_ms + fault.at_ms > now {
                break;
            }
            if let Some((number, fault)) = self.due.pop_front() {
                self.strike(number, fault.kind, cluster);
            }
        }
        self.admit(cluster);
        cluster.redirect();
        self.renew(cluster);
        for slot in &mut self.extra {
            slot.turn(&mut cluster.stage);
        }
    }

    /// Nothing new happens from now on; what lasts goes on.
    pub fn stop(&mut self) {
        self.over = true;
    }

    /// Whether operators still have something to do.
    pub fn is_busy(&self) -> bool {
        let joins = self.later.values().any(|l| matches!(l, Later::Join(_)));
        joins || !self.joining.is_empty()
    }

    /// Ends what lasts, on these nodes alone; rules of the network end everywhere.
    pub fn heal(&mut self, cluster: &mut Cluster, nodes: &[u32]) {
        let now = cluster.now_ms();
        cluster.stage.net().links().heal();
        cluster.stage.net().end_half_open();
        let hosts: Vec<HostId> = nodes
            .iter()
            .map(|n| cluster.nodes[*n as usize].host)
            .collect();
        let mut kept = BTreeMap::new();
        for (key, what) in std::mem::take(&mut self.later) {
            let done = match &what {
                Later::Rule(_) | Later::Clog(..) | Later::Image(..) => true,
                Later::Space(h) | Later::Thaw(h) | Later::Steady(h) | Later::GiveUp(h) => {
                    hosts.contains(h)
                }
                // A node that heals comes back with the directory that it has.
                Later::Die(n, ..) | Later::Restore(n, _) => nodes.contains(n),
                Later::Join(_) | Later::EndExtra(_) => false,
            };
            if !done {
                kept.insert(key, what);
            }
        }
        self.later = kept;
        for extra in 0..self.extra.len() {
            self.happen(Later::EndExtra(extra), cluster);
        }
        for (n, host) in nodes.iter().zip(hosts) {
            let h = cluster.stage.host_mut(host);
            h.paused_until_us = 0;
            h.ppm = 0;
            h.clock.freeze(false);
            h.disk.heal();
            h.disk.set_used(0);
            h.index.heal();
            let node = &mut cluster.nodes[*n as usize];
            node.short_lives = None;
            if let Some(life) = &cluster.stage.host(host).life {
                life.spare();
            }
            cluster.stage.net().disarm(host);
            if node.retired.is_none() {
                node.wanted = true;
                node.start_at_ms = node.start_at_ms.min(now);
            }
        }
    }

    fn happen(&mut self, what: Later, cluster: &mut Cluster) {
        let now = cluster.now_ms();
        match what {
            Later::Rule(rule) => cluster.stage.net().links().remove(rule),
            Later::Clog(host, until) => {
                let rule = cluster.stage.net().links().add(Rule::Clogged(host));
                self.later(until, Later::Rule(rule));
            }
            Later::Space(host) => {
                cluster.stage.host(host).disk.full(false);
                cluster.stage.host(host).disk.set_used(0);
            }
            Later::Thaw(host) => cluster.stage.host(host).clock.freeze(false),
            Later::Steady(host) => cluster.stage.host_mut(host).ppm = 0,
            Later::GiveUp(host) => {
                if cluster.stage.host(host).paused_until_us > cluster.stage.now_us() {
                    cluster.stage.net().give_up(host);
                }
            }
            Later::Die(n, death, back_ms) => {
                cluster.kill(n, death, back_ms, "killed");
            }
            Later::Image(n, fault) => {
                let host = cluster.stage.host(cluster.nodes[n as usize].host);
                let image = (now, host.disk.image(), host.index.image());
                self.images.insert(fault, image);
            }
            Later::Restore(n, fault) => self.restore(n, fault, cluster),
            Later::Join(newcomer) => {
                if let Some(token) = join::ask_for_token(cluster) {
                    self.joining.push((newcomer, token));
                }
            }
            Later::EndExtra(i) => {
                let host = self.extra[i].host;
                self.extra[i].wanted = false;
                cluster.stage.kill(host, Death::Kill);
                self.extra[i].died();
            }
        }
        let _ = now;
    }

    fn strike(&mut self, number: usize, kind: FaultKind, cluster: &mut Cluster) {
        let count = cluster.plan.nodes.len() as u32;
        let asked = self.asked(&kind, cluster);
        let destroyed = destroys(&kind).filter(|_| asked.is_none());
        let refused = destroyed.and_then(|node| {
            let n = node % count;
            if cluster.nodes[n as usize].retired.is_some() {
                return Some("the node is gone".to_owned());
            }
            let unseen = match kind {
                FaultKind::Copied { .. } => self.unseen(n, cluster),
                _ => None,
            };
            let forgotten = unseen.or_else(|| self.forgotten(number, n, cluster));
            forgotten.or_else(|| self.budget.take(n).err())
        });
        let refused = asked.or(refused);
        let (name, aim, what) = (kind.name().to_owned(), kind.aim(), kind.words());
        if let Some(why) = refused {
            cluster.stats.held_back += 1;
            let event = EventKind::Fault {
                fault: number as u32,
                what,
                until_ms: None,
                held_back: Some(why),
            };
            cluster.event(aim, event);
            return;
        }
        *cluster.stats.faults.entry(name).or_default() += 1;
        if let Some(node) = destroyed {
            cluster.nodes[(node % count) as usize].may_refuse = true;
        }
        let (node, until_ms) = self.apply(number, kind, cluster);
        let event = EventKind::Fault {
            fault: number as u32,
            what,
            until_ms,
            held_back: None,
        };
        cluster.event(node, event);
    }

    fn rule(&mut self, cluster: &Cluster, rule: Rule, until: u64) -> u64 {
        let number = cluster.stage.net().links().add(rule);
        self.later(until, Later::Rule(number));
        number
    }

    /// Carries one fault out; on which node, and until when it lasts.
    fn apply(
        &mut self,
        number: usize,
        kind: FaultKind,
        cluster: &mut Cluster,
    ) -> (Option<u32>, Option<u64>) {
        let now = cluster.now_ms();
        let count = cluster.plan.nodes.len() as u32;
        let host_of = |cluster: &Cluster, n: u32| cluster.nodes[(n % count) as usize].host;
        match kind {
            FaultKind::Crash {
                node,
                point,
                power,
                down_ms,
            } => {
                let n = node % count;
                self.crash(n, point, power, down_ms, cluster);
                (Some(n), Some(now + down_ms))
            }
            FaultKind::RestartLoop {
                node,
                times,
                polls,
                power,
            } => {
                let n = node % count;
                cluster.nodes[n as usize].short_lives =
                    (times > 0).then_some((times, polls, power));
                cluster.kill(n, death(power), now + 20, "killed, again and again");
                (Some(n), None)
            }
            FaultKind::PowerCut { nodes, down_ms } => {
                for n in nodes {
                    cluster.kill(n % count, Death::Power, now + down_ms, "power cut");
                }
                (None, Some(now + down_ms))
            }
            FaultKind::Stop { node, down_ms } => {
                let n = node % count;
                let slot = &mut cluster.nodes[n as usize];
                slot.start_at_ms = now + down_ms;
                slot.ask_to_stop();
                (Some(n), Some(now + down_ms))
            }
            FaultKind::Pause { node, ms } => {
                let host = host_of(cluster, node);
                let until = cluster.stage.now_us() + ms * 1000;
                let h = cluster.stage.host_mut(host);
                h.paused_until_us = h.paused_until_us.max(until);
                self.later(now + 6_000, Later::GiveUp(host));
                (Some(node % count), Some(now + ms))
            }
            FaultKind::Partition {
                groups,
                ms,
                late,
                clients,
            } => {
                let joined = cluster.nodes.iter().skip(count as usize);
                let joined = joined.filter_map(|node| Some((node.host, late?)));
                let mut group_of: BTreeMap<HostId, u32> = joined.collect();
                group_of.extend(clients.map(|group| (HostId::CLIENTS, group)));
                for (g, nodes) in groups.iter().enumerate() {
                    for n in nodes {
                        group_of.insert(host_of(cluster, *n), g as u32);
                    }
                }
                let rule = self.rule(cluster, Rule::Partition(group_of), now + ms);
                self.cuts.extend(late.map(|group| (rule, group)));
                (None, Some(now + ms))
            }
            FaultKind::OneWay {
                from,
                to,
                ms,
                clients,
            } => {
                let ends = (host_of(cluster, from), host_of(cluster, to));
                self.rule(cluster, Rule::OneWay(ends.0, ends.1), now + ms);
                let also = clients.map(|end| match end {
                    End::From => Rule::OneWay(HostId::CLIENTS, ends.1),
                    End::To => Rule::OneWay(ends.0, HostId::CLIENTS),
                });
                if let Some(rule) = also {
                    self.rule(cluster, rule, now + ms);
                }
                (Some(from % count), Some(now + ms))
            }
            FaultKind::Clog { nodes, each_ms } => {
                let n = nodes.len() as u64;
                // They are released in another order than they were clogged.
                let mut order: Vec<u64> = (0..n).collect();
                for i in (1..order.len()).rev() {
                    order.swap(i, self.draws.random_range(0..=i));
                }
                for (i, node) in nodes.iter().enumerate() {
                    let from = now + each_ms * i as u64;
                    let until = now + each_ms * (n + order[i]);
                    self.later(from, Later::Clog(host_of(cluster, *node), until));
                }
                (None, Some(now + 2 * n * each_ms))
            }
            FaultKind::SlowLink {
                from,
                to,
                by_ms,
                ms,
            } => {
                let rule = Rule::Slow(host_of(cluster, from), host_of(cluster, to), by_ms * 1000);
                self.rule(cluster, rule, now + ms);
                (Some(from % count), Some(now + ms))
            }
            FaultKind::Resets { per_mille, ms } => {
                self.rule(cluster, Rule::Resets(per_mille), now + ms);
                (None, Some(now + ms))
            }
            FaultKind::Disorder { per_mille, ms } => {
                self.rule(cluster, Rule::Disorder(per_mille), now + ms);
                (None, Some(now + ms))
            }
            FaultKind::HalfOpen { node } => {
                cluster.stage.net().half_open(host_of(cluster, node));
                (Some(node % count), None)
            }
            FaultKind::DiskStall { node, ms } => {
                cluster.stage.host(host_of(cluster, node)).disk.stall_ms(ms);
                (Some(node % count), Some(now + ms))
            }
            FaultKind::DiskSlow {
                node,
                times,
                ms,
                reads_ms,
            } => {
                let host = host_of(cluster, node);
                cluster.stage.host(host).disk.slow(times, ms);
                cluster.stage.host(host).disk.slow_reads(reads_ms, ms);
                (Some(node % count), Some(now + ms))
            }
            FaultKind::DiskError {
                node,
                call,
                count: calls,
                index,
            } => {
                let h = cluster.stage.host(host_of(cluster, node));
                match index {
                    true => h.index.fail_next(call, calls),
                    false => h.disk.fail_next(call, calls),
                }
                (Some(node % count), None)
            }
            FaultKind::DiskFull { node, ms, left } => {
                let host = host_of(cluster, node);
                match left {
                    0 => cluster.stage.host(host).disk.full(true),
                    left => cluster.stage.host(host).disk.leave(left),
                }
                self.later(now + ms, Later::Space(host));
                (Some(node % count), Some(now + ms))
            }
            FaultKind::Rot {
                node,
                sectors,
                index,
                place,
            } => {
                let host = host_of(cluster, node);
                let h = cluster.stage.host(host);
                let rotten = match (index, place) {
                    (true, _) => h.index.rot().into_iter().collect(),
                    (false, RotPlace::Files) => {
                        let identity = Path::new(DATA).join("identity.json");
                        let newest = newest_segment(&h.disk.files());
                        // The last batch of the stream has nothing after it that would say
                        // whether it was whole: rot there, followed by a crash, is a torn tail.
                        h.disk.rot(sectors, &|path| match path {
                            path if path == identity => Decay::Never,
                            path if Some(path) == newest.as_deref() => Decay::Settled,
                            _ => Decay::Synced,
                        })
                    }
                    (false, place) => {
                        let draws = &mut stream(cluster.plan.seed, "rot", number as u64);
                        rot::strike(node % count, place, sectors, cluster, draws)
                    }
                };
                for what in rotten {
                    let at = cluster.stage.now_us();
                    cluster
                        .stage
                        .trace()
                        .event(at, format_args!("{host} rot in {what}"));
                }
                (Some(node % count), None)
            }
            FaultKind::Misdirect { node } => {
                cluster
                    .stage
                    .host(host_of(cluster, node))
                    .disk
                    .misdirect_next();
                (Some(node % count), None)
            }
            FaultKind::DiskLost {
                node,
                down_ms,
                first_life,
            } => {
                let n = node % count;
                self.lose(n, cluster, &|_| false, "its disk is lost", down_ms);
                self.replace(n, cluster, down_ms, first_life);
                cluster.nodes[n as usize].wanted = false;
                cluster.nodes[n as usize].retired = Some("its disk is lost".into());
                (Some(n), Some(now + down_ms))
            }
            FaultKind::Wiped {
                node,
                keep_identity,
                down_ms,
            } => {
                let n = node % count;
                let identity = Path::new(DATA).join("identity.json");
                let keep = |path: &Path| keep_identity && path == identity;
                self.lose(n, cluster, &keep, "its directory is wiped", down_ms);
                self.replace(n, cluster, down_ms, None);
                let member = cluster.nodes[((n + 1) % count) as usize].addr();
                let slot = &mut cluster.nodes[n as usize];
                slot.start_at_ms = now + down_ms;
                if !keep_identity {
                    // An operator who starts it as before; its token is used up.
                    slot.config.join = member;
                    slot.wanted = false;
                    slot.retired = Some("its directory was wiped".into());
                }
                (Some(n), Some(now + down_ms))
            }
            FaultKind::OldImage {
                node,
                down_ms,
                alone_ms,
                ..
            } => {
                let n = node % count;
                // Not at once: who else ends until the node starts is known only then.
                let back = now + down_ms.max(1);
                cluster.kill(n, Death::Kill, back, "an old image is restored");
                self.later(back, Later::Restore(n, number));
                if alone_ms > 0 {
                    let until = back + alone_ms;
                    let others = cluster.nodes.iter().map(|node| (node.host, 0));
                    let mut group_of: BTreeMap<HostId, u32> = others.collect();
                    group_of.insert(host_of(cluster, n), 1);
                    self.rule(cluster, Rule::Partition(group_of), until);
                    cluster.nodes[n as usize].may_forget_until_ms = until + REMINDED_MS;
                }
                (Some(n), Some(back))
            }
            FaultKind::Copied { node } => {
                let n = node % count;
                let original = &cluster.nodes[n as usize];
                let (disk, index) = {
                    let host = cluster.stage.host(original.host);
                    (host.disk.image(), host.index.image())
                };
                let mut config = original.config.clone();
                let host = cluster.stage.add_host(cluster.plan.nodes[n as usize].zone);
                cluster.stage.host(host).disk.restore(&disk);
                cluster.stage.host(host).index.restore(&index);
                let mut slot = NodeSlot::new(&cluster.plan, host, 0);
                (config.listen, config.lmtp) = (slot.config.listen, slot.config.lmtp);
                slot.config = config;
                slot.start(&mut cluster.stage);
                self.looking.push((self.extra.len(), n));
                self.extra.push(slot);
                (Some(n), None)
            }
            FaultKind::WrongCluster { node, ms } => {
                let n = node % count;
                cluster.kill(
                    n,
                    Death::Kill,
                    now + ms + 50,
                    "another cluster's node takes its address",
                );
                let host = cluster.stage.add_host(0);
                let mut slot = NodeSlot::new(&cluster.plan, host, 0);
                // Not the address of its door: LMTP names no cluster, so a foreign door rightly
                // says of every account of this cluster that there is none, and a judge of the
                // history would take that for the word of the store.
                slot.config
                    .listen
                    .clone_from(&cluster.nodes[n as usize].config.listen);
                slot.start(&mut cluster.stage);
                self.extra.push(slot);
                self.later(now + ms, Later::EndExtra(self.extra.len() - 1));
                (Some(n), Some(now + ms))
            }
            FaultKind::ClockJump { node, by_ms } => {
                cluster.stage.host(host_of(cluster, node)).clock.jump(by_ms);
                (Some(node % count), None)
            }
            FaultKind::ClockDrift { node, ppm, ms } => {
                let host = host_of(cluster, node);
                cluster.stage.host_mut(host).ppm = ppm;
                self.later(now + ms, Later::Steady(host));
                (Some(node % count), Some(now + ms))
            }
            FaultKind::ClockFreeze { node, ms } => {
                let host = host_of(cluster, node);
                cluster.stage.host(host).clock.freeze(true);
                self.later(now + ms, Later::Thaw(host));
                (Some(node % count), Some(now + ms))
            }
            FaultKind::AddNode { zone, first_life } => {
                self.later(now, Later::Join(Newcomer { zone, first_life }));
                (None, None)
            }
            FaultKind::MoveLeaders { node } => {
                move_leaders(node % count, cluster);
                (Some(node % count), None)
            }
            FaultKind::Inspect { node } => {
                inspect(node % count, cluster);
                (Some(node % count), None)
            }
        }
    }

    fn crash(
        &mut self,
        n: u32,
        point: CrashPoint,
        power: bool,
        down_ms: u64,
        cluster: &mut Cluster,
    ) {
        let now = cluster.now_ms();
        let death = death(power);
        let back = now + down_ms;
        let host = cluster.nodes[n as usize].host;
        let h = cluster.stage.host_mut(host);
        h.death = death;
        let Some(life) = &h.life else {
            cluster.nodes[n as usize].start_at_ms = back;
            return;
        };
        let fence = life.fence().clone();
        match point {
            CrashPoint::Now => {
                cluster.kill(n, death, back, "killed");
                return;
            }
            CrashPoint::Poll { n } => life.die_at_poll(n),
            CrashPoint::Write { n } => {
                let call = crate::plan::DiskCall::Write;
                h.disk
                    .arm(Armed { call, n }, Box::new(move || fence.kill()));
            }
            CrashPoint::Sync { n } => {
                let call = crate::plan::DiskCall::Sync;
                h.disk
                    .arm(Armed { call, n }, Box::new(move || fence.kill()));
            }
            CrashPoint::Flush { n } => h.index.arm(n, fence),
            CrashPoint::Send { n } => cluster.stage.net().arm(host, n, fence),
            CrashPoint::During { job, n } => life.die_at_step(steps(job), n),
        }
        let wait = match point {
            CrashPoint::During { .. } => JOB_WAIT_MS,
            _ => POINT_WAIT_MS,
        };
        cluster.nodes[n as usize].start_at_ms = back;
        self.later(now + wait, Later::Die(n, death, now + wait + down_ms));
    }

    /// A node dies and loses its directory, but for what `keep` says.
    fn lose(
        &mut self,
        n: u32,
        cluster: &mut Cluster,
        keep: &dyn Fn(&Path) -> bool,
        why: &str,
        down_ms: u64,
    ) {
        let now = cluster.now_ms();
        let host = cluster.nodes[n as usize].host;
        cluster.kill(n, Death::Power, now + down_ms, why);
        let h = cluster.stage.host(host);
        h.disk.wipe(keep);
        h.index.wipe();
    }

    /// A new node joins in the zone of this one.
    fn replace(&mut self, n: u32, cluster: &Cluster, down_ms: u64, first_life: Option<FirstLife>) {
        let zone = cluster.plan.nodes[n as usize].zone;
        let at = cluster.now_ms() + down_ms;
        self.later(at, Later::Join(Newcomer { zone, first_life }));
    }
}

/// The marks that a node passes at this work.
fn steps(job: Job) -> &'static [Rare] {
    match job {
        Job::Sending => &[Rare::SnapshotBegun],
        Job::Snapshot => &[
            Rare::SnapshotChunkReused,
            Rare::SnapshotChunkFetched,
            Rare::SnapshotReceived,
        ],
        Job::Compaction => &[Rare::CompactionMoved, Rare::SegmentFreed],
    }
}

/// The segment that the journal writes.
fn newest_segment(files: &[(PathBuf, u64)]) -> Option<PathBuf> {
    let segments = files.iter().map(|(path, _)| path);
    segments
        .filter(|p| p.extension().is_some_and(|e| e == "seg"))
        .max()
        .cloned()
}

fn death(power: bool) -> Death {
    match power {
        true => Death::Power,
        false => Death::Kill,
    }
}

/// Every shard that the node leads is handed to another of its voters, as an operator would.
/// What an operator's calls have to do with the mail is that they must not disturb it: nothing is asked
/// of their answers, which a node that dies or stands still owes nobody.
fn inspect(n: u32, cluster: &mut Cluster) {
    let target = Target::Addr(cluster.nodes[n as usize].addr());
    let shards = cluster.plan.shards;
    let client = cluster.client().with_deadline(Duration::from_secs(5));
    let _ = cluster.spawn_on(HostId::CLIENTS, async move {
        let _ = client.status(&target).await;
        let _ = client.nodes(&target).await;
        let _ = client.shards(&target, true).await;
        let _ = client.workers(&target).await;
        let _ = client.flush(&target).await;
        for shard in 0..shards {
            let _ = client.hash_state(&target, shard).await;
        }
        let _ = client.scrub(&target).await;
    });
}

fn move_leaders(n: u32, cluster: &mut Cluster) {
    let mut moves = Vec::new();
    cluster.for_each_replica(|r, _| {
        if r.node == n && r.role == "leader" {
            let other = r.voters.iter().flatten().find(|id| **id != r.id);
            moves.extend(other.map(|id| (r.shard, posthouse_node::types::ReplicaId(*id).node())));
        }
    });
    for (shard, to) in moves {
        let client = cluster.client().with_deadline(Duration::from_secs(5));
        let _ = cluster.spawn_on(HostId::CLIENTS, async move {
            let _ = client.transfer_leader(shard, u64::from(to.0)).await;
        });
    }
}
