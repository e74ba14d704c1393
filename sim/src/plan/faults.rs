//! What goes wrong: families of faults that this seed has chosen, each drawn from its own stream.
//!
//! One run in twenty is calm, a few meet everything at once. Some seeds strike several nodes in the
//! same moment, up to a majority and beyond: safety must hold there too.

use posthouse_node::journal::READ_REPEATS;
use rand::RngExt;

use super::draw::{one_in, scaled, shuffled, some, weighted};
use super::{
    CrashPoint, DiskCall, Fault, FaultKind, OpKind, Plan, RotPlace, Transport, aimed, bystanders,
    lasting, rush,
};
use crate::stream::{Stream, stream};

/// Faults of one sort.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Family {
    Process,
    Power,
    Partition,
    Link,
    DiskSpeed,
    DiskError,
    Clock,
    Operator,
    Rot,
    Loss,
}

impl Family {
    const ALL: [(u32, Family); 10] = [
        (10, Family::Process),
        (6, Family::Power),
        (8, Family::Partition),
        (6, Family::Link),
        (4, Family::DiskSpeed),
        (5, Family::DiskError),
        (4, Family::Clock),
        (5, Family::Operator),
        (5, Family::Rot),
        (6, Family::Loss),
    ];

    fn is_destructive(self) -> bool {
        matches!(self, Family::Rot | Family::Loss)
    }
}

/// What the faults of a run have to know of it.
struct Scene<'a> {
    plan: &'a Plan,
    nodes: u32,
}

/// Draws faults into the plan; `wanted`: whether there are any.
pub fn draw(plan: &mut Plan, wanted: Option<bool>) {
    let rng = &mut stream(plan.seed, "faults", 0);
    let calm = one_in(rng, 20);
    if !wanted.unwrap_or(!calm) {
        return;
    }
    let everything = one_in(rng, 25);
    let families = families(rng, everything);
    let count = match everything {
        true => rng.random_range(8..=16),
        false => rng.random_range(1..=8).max(families.len()),
    };
    let at = moments(rng, plan.duration_ms, count);
    let mut drawn: Vec<Fault> = Vec::new();
    let scene = Scene {
        plan,
        nodes: plan.nodes.len() as u32,
    };
    for (i, at_ms) in at.into_iter().enumerate() {
        // Each chosen family strikes at least once.
        let family = match families.get(i) {
            Some(family) => *family,
            None => families[rng.random_range(0..families.len())],
        };
        let name = format!("faults-{family:?}");
        let own = &mut stream(plan.seed, &name, i as u64);
        let struck = if family.is_destructive() {
            1
        } else {
            at_once(own, scene.nodes)
        };
        let mut first = scene.strike(own, family);
        let others = some(own, struck, scene.nodes);
        let aim = first.aim();
        // What was thought of later comes from a stream of its own: the rest stays as it was.
        let more = &mut stream(plan.seed, "faults-more", i as u64);
        scene.sharpen(more, &mut first);
        let company = scene.company(more, at_ms, &first);
        scene.index(&mut first, i as u64);
        scene.identity(&mut first, i as u64);
        drawn.push(Fault { at_ms, kind: first });
        drawn.extend(company);
        for node in others.into_iter().skip(1).filter(|n| Some(*n) != aim) {
            let mut kind = scene.strike(own, family);
            if kind.aim_at(node) {
                let at_ms = at_ms + weighted(own, &[(2, 0), (1, 5), (1, 200)]);
                drawn.push(Fault {
                    at_ms: at_ms.min(plan.duration_ms),
                    kind,
                });
            }
        }
    }
    drawn.extend(scene.around_large());
    drawn.extend(scene.around_crossings());
    drawn.extend(scene.around_rush());
    aimed::draw(plan, &mut drawn);
    bystanders::draw(plan.seed, &mut drawn);
    lasting::draw(plan, &mut drawn);
    drawn.sort_by_key(|f| f.at_ms);
    plan.faults = drawn;
}

/// One to four families, or all of them; a destructive one in about a third of the seeds.
fn families(rng: &mut Stream, everything: bool) -> Vec<Family> {
    let count = rng.random_range(1..=4);
    let destructive = rng.random_range(0..100) < 36;
    if everything {
        return Family::ALL.map(|(_, f)| f).into();
    }
    let mut chosen = Vec::new();
    while chosen.len() < count {
        let wants = destructive && chosen.is_empty();
        let left: Vec<(u32, Family)> = Family::ALL
            .into_iter()
            .filter(|(_, f)| f.is_destructive() == wants && !chosen.contains(f))
            .collect();
        chosen.push(weighted(rng, &left));
    }
    chosen
}

/// When: anywhere, or all within two seconds.
fn moments(rng: &mut Stream, duration_ms: u64, count: usize) -> Vec<u64> {
    let last = duration_ms * 9 / 10;
    let (from, to) = match one_in(rng, 3) {
        true => {
            let from = rng.random_range(0..=last);
            (from, (from + 2000).min(duration_ms))
        }
        false => (0, last),
    };
    (0..count).map(|_| rng.random_range(from..=to)).collect()
}

/// How many nodes meet it in the same moment.
fn at_once(rng: &mut Stream, nodes: u32) -> u32 {
    match one_in(rng, 6) {
        true => rng.random_range(1..=nodes),
        false => 1,
    }
}

impl Scene<'_> {
    fn strike(&self, rng: &mut Stream, family: Family) -> FaultKind {
        match family {
            Family::Process => self.process(rng),
            Family::Power => self.power(rng),
            Family::Partition => self.partition(rng),
            Family::Link => self.link(rng),
            Family::DiskSpeed => self.disk_speed(rng),
            Family::DiskError => self.disk_error(rng),
            Family::Clock => self.clock(rng),
            Family::Operator => self.operator(rng),
            Family::Rot => self.rot(rng),
            Family::Loss => self.loss(rng),
        }
    }

    fn node(&self, rng: &mut Stream) -> u32 {
        rng.random_range(0..self.nodes)
    }

    /// Mostly short, sometimes longer than the run.
    fn long(&self, rng: &mut Stream) -> u64 {
        match one_in(rng, 8) {
            true => scaled(rng, 5000, 60_000),
            false => scaled(rng, 100, 5000),
        }
    }

    fn down(&self, rng: &mut Stream) -> u64 {
        weighted(rng, &[(2, 0), (6, 1), (1, 5)]) * scaled(rng, 50, 3000)
    }

    fn point(&self, rng: &mut Stream) -> CrashPoint {
        let poll = scaled(rng, 1, 3000);
        let call = scaled(rng, 1, 30);
        weighted(
            rng,
            &[
                (2, CrashPoint::Now),
                (3, CrashPoint::Poll { n: poll }),
                (4, CrashPoint::Write { n: call }),
                (3, CrashPoint::Sync { n: call }),
                (
                    2,
                    CrashPoint::Send {
                        n: scaled_send(call),
                    },
                ),
            ],
        )
    }

    fn process(&self, rng: &mut Stream) -> FaultKind {
        let node = self.node(rng);
        match rng.random_range(0..10) {
            0..=3 => FaultKind::Crash {
                node,
                point: self.point(rng),
                power: false,
                down_ms: self.down(rng),
            },
            4..=5 => FaultKind::RestartLoop {
                node,
                times: rng.random_range(2..=6),
                polls: scaled(rng, 10, 3000),
                power: one_in(rng, 2),
            },
            6 => FaultKind::Stop {
                node,
                down_ms: self.down(rng),
            },
            _ => FaultKind::Pause {
                node,
                ms: self.long(rng),
            },
        }
    }

    fn power(&self, rng: &mut Stream) -> FaultKind {
        match one_in(rng, 3) {
            true => {
                let count = rng.random_range(1..=self.nodes);
                FaultKind::PowerCut {
                    nodes: some(rng, count, self.nodes),
                    down_ms: self.down(rng),
                }
            }
            false => FaultKind::Crash {
                node: self.node(rng),
                point: self.point(rng),
                power: true,
                down_ms: self.down(rng),
            },
        }
    }

    fn partition(&self, rng: &mut Stream) -> FaultKind {
        let ms = self.long(rng);
        if self.nodes > 1 && one_in(rng, 3) {
            let ends = some(rng, 2, self.nodes);
            return FaultKind::OneWay {
                from: ends[0],
                to: ends[1],
                ms,
                clients: None,
            };
        }
        let groups = match rng.random_range(0..6) {
            // One zone against the others.
            0 => self.zones(),
            // Three groups.
            1 => split(&shuffled(rng, self.nodes), 3),
            // Two groups with a bridge that reaches both, as in Jepsen's "bridge".
            2 if self.nodes > 2 => split(&shuffled(rng, self.nodes)[1..], 2),
            3 => {
                let alone = self.node(rng);
                let others = (0..self.nodes).filter(|n| *n != alone).collect();
                vec![vec![alone], others]
            }
            _ => split(&shuffled(rng, self.nodes), 2),
        };
        let groups = groups.into_iter().filter(|g| !g.is_empty()).collect();
        cut(groups, ms)
    }

    fn zones(&self) -> Vec<Vec<u32>> {
        let zones = self.plan.nodes.iter().map(|n| n.zone).max().unwrap_or(0) + 1;
        let of = |zone| {
            let nodes = self.plan.nodes.iter().zip(0..);
            nodes
                .filter(|(n, _)| n.zone == zone)
                .map(|(_, i)| i)
                .collect()
        };
        (0..zones).map(of).collect()
    }

    fn link(&self, rng: &mut Stream) -> FaultKind {
        let ms = self.long(rng);
        let pair = some(rng, 2, self.nodes);
        let disorder = self.plan.transport == Transport::Message;
        match rng.random_range(0..6) {
            0 => FaultKind::Clog {
                nodes: {
                    let count = rng.random_range(1..=self.nodes);
                    some(rng, count, self.nodes)
                },
                each_ms: scaled(rng, 50, 1000),
            },
            1 if pair.len() == 2 => FaultKind::SlowLink {
                from: pair[0],
                to: pair[1],
                by_ms: scaled(rng, 5, 2000),
                ms,
            },
            2 => FaultKind::HalfOpen {
                node: self.node(rng),
            },
            3 | 4 if disorder => FaultKind::Disorder {
                per_mille: scaled(rng, 1, 300) as u32,
                ms,
            },
            _ => FaultKind::Resets {
                per_mille: scaled(rng, 1, 100) as u32,
                ms,
            },
        }
    }

    fn disk_speed(&self, rng: &mut Stream) -> FaultKind {
        let node = self.node(rng);
        match one_in(rng, 2) {
            true => FaultKind::DiskStall {
                node,
                ms: weighted(rng, &[(3, 1000), (2, 5000), (1, 30_000)]),
            },
            false => FaultKind::DiskSlow {
                node,
                times: scaled(rng, 2, 20) as u32,
                ms: self.long(rng),
                reads_ms: 0,
            },
        }
    }

    fn disk_error(&self, rng: &mut Stream) -> FaultKind {
        let node = self.node(rng);
        match one_in(rng, 3) {
            true => FaultKind::DiskFull {
                node,
                ms: self.long(rng),
                left: 0,
            },
            false => FaultKind::DiskError {
                node,
                call: weighted(
                    rng,
                    &[
                        (1, DiskCall::Read),
                        (1, DiskCall::Write),
                        (1, DiskCall::Sync),
                    ],
                ),
                count: weighted(rng, &[(3, 1), (1, 3)]),
                index: false,
            },
        }
    }

    fn clock(&self, rng: &mut Stream) -> FaultKind {
        let node = self.node(rng);
        match rng.random_range(0..4) {
            0 => FaultKind::ClockFreeze {
                node,
                ms: self.long(rng),
            },
            1 => FaultKind::ClockDrift {
                node,
                ppm: rng.random_range(-20_000..=20_000),
                ms: scaled(rng, 1000, 60_000),
            },
            _ => {
                let by_ms = scaled(rng, 10, 100 * 24 * 3600 * 1000) as i64;
                FaultKind::ClockJump {
                    node,
                    by_ms: if one_in(rng, 2) { -by_ms } else { by_ms },
                }
            }
        }
    }

    fn operator(&self, rng: &mut Stream) -> FaultKind {
        let zones = self.zones().len() as u32;
        match rng.random_range(0..5) {
            0 => FaultKind::AddNode {
                zone: rng.random_range(0..=zones.min(2)),
                first_life: None,
            },
            1 => FaultKind::Stop {
                node: self.node(rng),
                down_ms: self.down(rng),
            },
            2 => FaultKind::Inspect {
                node: self.node(rng),
            },
            _ => FaultKind::MoveLeaders {
                node: self.node(rng),
            },
        }
    }

    fn rot(&self, rng: &mut Stream) -> FaultKind {
        let node = self.node(rng);
        match one_in(rng, 4) {
            true => FaultKind::Misdirect { node },
            false => FaultKind::Rot {
                node,
                sectors: scaled(rng, 1, 16) as u32,
                index: one_in(rng, 3),
                place: RotPlace::Files,
            },
        }
    }

    fn loss(&self, rng: &mut Stream) -> FaultKind {
        let node = self.node(rng);
        let down_ms = self.down(rng);
        match rng.random_range(0..6) {
            0 | 1 => FaultKind::DiskLost {
                node,
                down_ms,
                first_life: None,
            },
            2 => FaultKind::Wiped {
                node,
                keep_identity: one_in(rng, 2),
                down_ms,
            },
            3 => FaultKind::OldImage {
                node,
                age_ms: scaled(rng, 100, 8000),
                down_ms,
                alone_ms: 0,
            },
            4 => FaultKind::Copied { node },
            _ => FaultKind::WrongCluster {
                node,
                ms: self.long(rng),
            },
        }
    }
}

/// What a fault has at times beside its kind, and what comes with it: blows that are aimed at what
/// the same fault anywhere else hardly ever meets.
impl Scene<'_> {
    fn sharpen(&self, rng: &mut Stream, kind: &mut FaultKind) {
        match kind {
            FaultKind::DiskFull { ms, left, .. } => match rng.random_range(0..3) {
                // Between the reserve of a node and a quarter of it.
                0 => *left = rng.random_range(40..=120) << 20,
                // Until everything heals: a process that stops meanwhile finds no space either.
                1 => *ms = 30_000,
                _ => {}
            },
            FaultKind::DiskSlow {
                times,
                ms,
                reads_ms,
                ..
            } if one_in(rng, 2) => {
                (*times, *ms) = (1, (*ms).max(4000));
                *reads_ms = scaled(rng, 20, 300);
            }
            FaultKind::OldImage {
                age_ms, alone_ms, ..
            } if one_in(rng, 2) => {
                *age_ms = (*age_ms).max(1000);
                *alone_ms = rng.random_range(1500..=4000);
            }
            // A sector that the medium has given up, instead of one that was written elsewhere.
            FaultKind::Misdirect { node } if one_in(rng, 3) => {
                *kind = FaultKind::DiskError {
                    node: *node,
                    call: DiskCall::Read,
                    count: rng.random_range(READ_REPEATS + 1..=3 * READ_REPEATS),
                    index: false,
                };
            }
            FaultKind::Rot {
                sectors,
                index: false,
                place,
                ..
            } => {
                // Where two nodes may be hurt, both may lose the same.
                let twice = self.plan.replication >= 5 && self.nodes >= 5;
                *place = weighted(
                    rng,
                    &[
                        (if twice { 20 } else { 5 }, RotPlace::Files),
                        (1, RotPlace::Seals),
                        (1, RotPlace::Segment),
                        (2, RotPlace::Votes),
                        (2, RotPlace::Unflushed),
                    ],
                );
                if *place == RotPlace::Files && (one_in(rng, 2) || twice) {
                    // So much that a worker has to mend for a while, and meets others who do.
                    *sectors = scaled(rng, 50, 600) as u32;
                }
            }
            _ => {}
        }
    }

    /// Some blows at a disk meet the index, which has files of its own.
    fn index(&self, kind: &mut FaultKind, i: u64) {
        let rng = &mut stream(self.plan.seed, "faults-index", i);
        let destroys = kind.is_destructive();
        match kind {
            FaultKind::DiskError { index, .. } if !destroys => *index = one_in(rng, 2),
            // So little that a flush does not fit, and what the journal has allocated still does.
            FaultKind::DiskFull { left, .. } if *left > 0 && one_in(rng, 2) => {
                *left = scaled(rng, 1 << 10, 4 << 20);
            }
            FaultKind::Crash { point, .. }
                if matches!(point, CrashPoint::Write { .. } | CrashPoint::Sync { .. })
                    && one_in(rng, 4) =>
            {
                *point = CrashPoint::Flush {
                    n: rng.random_range(1..=3),
                };
            }
            _ => {}
        }
    }

    /// Rot that a start follows at once may be in what the start reads first.
    fn identity(&self, kind: &mut FaultKind, i: u64) {
        let rng = &mut stream(self.plan.seed, "faults-identity", i);
        match kind {
            FaultKind::Rot {
                index: false,
                place,
                ..
            } if *place != RotPlace::Files && one_in(rng, 4) => *place = RotPlace::Identity,
            _ => {}
        }
    }

    fn company(&self, rng: &mut Stream, at_ms: u64, kind: &FaultKind) -> Vec<Fault> {
        let last = self.plan.duration_ms;
        let at = |at_ms: u64, kind| Fault {
            at_ms: at_ms.min(last),
            kind,
        };
        let crash = |node, power, down_ms| FaultKind::Crash {
            node,
            point: CrashPoint::Now,
            power,
            down_ms,
        };
        match kind {
            FaultKind::Rot {
                node,
                sectors,
                index: false,
                place: RotPlace::Files,
            } => match rng.random_range(0..3) {
                // Nobody who has good octets can be asked.
                0 => {
                    let others = (0..self.nodes).filter(|n| n != node).collect();
                    let groups = vec![vec![*node], others];
                    let groups = groups.into_iter().filter(|g| !g.is_empty()).collect();
                    let ms = rng.random_range(3000..=8000);
                    vec![at(at_ms, cut(groups, ms))]
                }
                // As far as replication tolerates it, somebody else has lost the same.
                1 | 2 if self.plan.replication >= 5 && self.nodes >= 5 => {
                    let kind = FaultKind::Rot {
                        node: (node + 1 + rng.random_range(0..self.nodes - 1)) % self.nodes,
                        sectors: (*sectors).max(400),
                        index: false,
                        place: RotPlace::Files,
                    };
                    vec![at(at_ms, kind)]
                }
                _ => Vec::new(),
            },
            // A start finds it, before a newer segment says the same once more.
            FaultKind::Rot {
                node,
                index: false,
                place,
                ..
            } => {
                let (power, down_ms) = (one_in(rng, 2), scaled(rng, 50, 1000));
                let mut company = vec![at(at_ms + 1, crash(*node, power, down_ms))];
                if *place == RotPlace::Unflushed {
                    // A start seals what was there and applies it again: for a while no flush of
                    // the index has caught up with sealed segments.
                    let before = at_ms.saturating_sub(rng.random_range(800..=1600));
                    company.push(at(before, crash(*node, false, 50)));
                }
                company
            }
            // The journal of a new life needs a segment at once, and its node is asked to stop.
            FaultKind::DiskFull { node, ms, left: 0 } if *ms >= 10_000 => {
                let begin = at_ms + scaled(rng, 20, 500);
                let down_ms = self.down(rng);
                let node = *node;
                let stop = at(
                    begin + rng.random_range(1500..=4000),
                    FaultKind::Stop { node, down_ms },
                );
                vec![at(begin, crash(node, false, 50)), stop]
            }
            // The same image once more: it is older than the replicas that came after the first.
            FaultKind::OldImage {
                node,
                age_ms,
                alone_ms: 0,
                ..
            } => {
                let later = rng.random_range(3500..=5000);
                if at_ms + later > last {
                    return Vec::new();
                }
                let again = FaultKind::OldImage {
                    node: *node,
                    age_ms: age_ms + later,
                    down_ms: scaled(rng, 50, 500),
                    alone_ms: rng.random_range(1500..=3000),
                };
                vec![at(at_ms + later, again)]
            }
            // It is back long before the others: without its index it knows of no shard, and
            // nobody can tell it.
            FaultKind::Rot {
                node, index: true, ..
            } if self.nodes > 1 && one_in(rng, 2) => {
                let cut = FaultKind::PowerCut {
                    nodes: (0..self.nodes).filter(|n| n != node).collect(),
                    down_ms: rng.random_range(4000..=7000),
                };
                let own = crash(*node, true, 50);
                vec![at(at_ms + 1, cut), at(at_ms + 1, own)]
            }
            _ => Vec::new(),
        }
    }

    /// Large messages take long to come in and to be read: leaders move and connections break
    /// meanwhile.
    fn around_large(&self) -> Vec<Fault> {
        let rng = &mut stream(self.plan.seed, "faults-large", 0);
        let size = |kind: &OpKind| match kind {
            OpKind::Deliver { size, .. } | OpKind::Append { size, .. } => *size,
            OpKind::Lmtp { size, .. } => *size,
            _ => 0,
        };
        let large = self.plan.ops.iter().filter(|op| size(&op.kind) > 1 << 20);
        let large: Vec<u64> = large.map(|op| op.at_ms).collect();
        if large.is_empty() || !one_in(rng, 2) {
            return Vec::new();
        }
        let last = self.plan.duration_ms;
        let mut faults = Vec::new();
        for begin in large.into_iter().take(4) {
            let node = self.node(rng);
            let kind = match one_in(rng, 3) {
                true => FaultKind::Pause { node, ms: 1200 },
                false => FaultKind::MoveLeaders { node },
            };
            let at_ms = (begin + scaled(rng, 1, 300)).min(last);
            faults.push(Fault { at_ms, kind });
        }
        if one_in(rng, 2) {
            let per_mille = scaled(rng, 2, 30) as u32;
            let kind = FaultKind::Resets {
                per_mille,
                ms: last,
            };
            let at_ms = rng.random_range(0..=last / 2);
            faults.push(Fault { at_ms, kind });
        }
        faults
    }

    /// Messages are on their way to another account for milliseconds: somebody else leads their shard
    /// then, or whoever leads it stops in the middle and goes on when others have seen it through.
    fn around_crossings(&self) -> Vec<Fault> {
        let rng = &mut stream(self.plan.seed, "faults-crossing", 0);
        let crosses = |kind: &OpKind| {
            matches!(
                kind,
                OpKind::Carry {
                    to_account: Some(_),
                    ..
                }
            )
        };
        let all = self.plan.ops.iter().filter(|op| crosses(&op.kind));
        let all: Vec<u64> = all.map(|op| op.at_ms).collect();
        if all.is_empty() || one_in(rng, 3) {
            return Vec::new();
        }
        let mut faults = Vec::new();
        for _ in 0..rng.random_range(1..=6) {
            let node = self.node(rng);
            let begin = all[rng.random_range(0..all.len())];
            let kind = match rng.random_range(0..6) {
                0..=1 => FaultKind::MoveLeaders { node },
                2..=3 => FaultKind::Pause {
                    node,
                    ms: scaled(rng, 1200, 4000),
                },
                _ => FaultKind::Crash {
                    node,
                    point: CrashPoint::Now,
                    power: false,
                    down_ms: scaled(rng, 20, 3000),
                },
            };
            let at_ms = (begin + scaled(rng, 10, 300)).min(self.plan.duration_ms);
            faults.push(Fault { at_ms, kind });
        }
        faults
    }

    /// Everybody's disk stands still while a rush of mail comes: whoever leads goes on to lead,
    /// nothing is committed, and there is no more room for what comes.
    fn around_rush(&self) -> Vec<Fault> {
        let rng = &mut stream(self.plan.seed, "faults-rush", 0);
        let Some(begin_ms) = rush::begin(self.plan) else {
            return Vec::new();
        };
        if one_in(rng, 4) {
            return Vec::new();
        }
        let at_ms = (begin_ms + scaled(rng, 1, 100)).min(self.plan.duration_ms);
        let ms = weighted(rng, &[(1, 1000), (3, 5000)]);
        let stall = |node| Fault {
            at_ms,
            kind: FaultKind::DiskStall { node, ms },
        };
        (0..self.nodes).map(stall).collect()
    }
}

/// A node sends many packets for each write.
fn scaled_send(call: u64) -> u64 {
    call * 10
}

fn cut(groups: Vec<Vec<u32>>, ms: u64) -> FaultKind {
    FaultKind::Partition {
        groups,
        ms,
        late: None,
        clients: None,
    }
}

fn split(nodes: &[u32], groups: usize) -> Vec<Vec<u32>> {
    let mut parts = vec![Vec::new(); groups];
    for (i, node) in nodes.iter().enumerate() {
        parts[i % groups].push(*node);
    }
    parts
}
