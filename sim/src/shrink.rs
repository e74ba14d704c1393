//! Makes a failing plan small: the fewest faults and operations, the simplest world in which the
//! same invariant is still violated.
//!
//! Delta debugging (Zeller and Hildebrandt: "Simplifying and Isolating Failure-Inducing Input", IEEE
//! TSE 28(2), 2002): lists are cut into pieces and pieces are left out as long as the failure stays,
//! with finer pieces when no coarse one can go. It works because what a plan leaves open is drawn
//! from streams named after its place: a plan with one fault less is still the same world.
//!
//! Times are not moved, but the end is: a run that is over earlier is easier to read.

use std::collections::BTreeSet;

use crate::plan::{
    CrashPoint, FaultKind, Given, Network, NodePlan, Op, OpKind, Plan, Transport, settings,
};

/// How far shrinking has come.
pub struct Progress<'a> {
    /// Runs so far.
    pub runs: u32,
    /// The smallest plan that fails.
    pub best: &'a Plan,
    /// What is being tried.
    pub step: &'static str,
}

/// The smallest plan found within `most` runs that violates the invariant that `plan` violates.
/// `fails` runs a plan and names the invariant that was violated first. A plan that does not fail
/// comes back as it is.
pub fn shrink(
    plan: &Plan,
    most: u32,
    fails: &mut dyn FnMut(&Plan) -> Option<String>,
    progress: &mut dyn FnMut(Progress<'_>),
) -> Plan {
    let Some(invariant) = fails(plan) else {
        return plan.clone();
    };
    let mut search = Search {
        best: plan.clone(),
        invariant,
        runs: 1,
        most,
        fails,
        progress,
        step: "faults",
    };
    // What one step has made possible another may have refused before: until nothing gives way.
    loop {
        let before = search.best.clone();
        search.end_at_the_violation();
        search.list(
            "faults",
            |p| p.faults.len(),
            |p, keep| retain(&mut p.faults, keep),
        );
        search.list(
            "operations",
            |p| p.ops.len(),
            |p, keep| retain(&mut p.ops, keep),
        );
        search.world();
        search.nodes();
        search.faults_simpler();
        search.operations_simpler();
        if search.runs >= search.most {
            return search.best;
        }
        if search.best == before && !search.other_draws() {
            return search.best;
        }
    }
}

/// Operations and faults that are few enough to be understood.
const SMALL: usize = 8;
/// Other seeds that are tried for each piece.
const SEEDS: u64 = 3;

struct Search<'a> {
    best: Plan,
    invariant: String,
    runs: u32,
    most: u32,
    fails: &'a mut dyn FnMut(&Plan) -> Option<String>,
    progress: &'a mut dyn FnMut(Progress<'_>),
    step: &'static str,
}

fn retain<T>(list: &mut Vec<T>, keep: &[bool]) {
    let mut keep = keep.iter();
    list.retain(|_| keep.next().copied().unwrap_or(true));
}

impl Search<'_> {
    /// Takes the changed plan if it is another, can be run, and fails in the same way.
    fn attempt(&mut self, change: impl FnOnce(&mut Plan)) -> bool {
        if self.runs >= self.most {
            return false;
        }
        let mut candidate = self.best.clone();
        change(&mut candidate);
        if candidate == self.best || candidate.check().is_err() {
            return false;
        }
        self.runs += 1;
        (self.progress)(Progress {
            runs: self.runs,
            best: &self.best,
            step: self.step,
        });
        let same = (self.fails)(&candidate).as_deref() == Some(self.invariant.as_str());
        if same {
            self.best = candidate;
        }
        same
    }

    /// `ddmin`, by complements: leaves out piece after piece of a list, ever finer.
    fn list(
        &mut self,
        step: &'static str,
        len: impl Fn(&Plan) -> usize,
        keep: impl Fn(&mut Plan, &[bool]),
    ) {
        self.step = step;
        // Often none of them is needed.
        let n = len(&self.best);
        if n == 0 || self.attempt(|p| keep(p, &vec![false; n])) {
            return;
        }
        let mut pieces = 2;
        loop {
            let n = len(&self.best);
            let size = n.div_ceil(pieces).max(1);
            let mut from = 0;
            let mut gone = false;
            while from < len(&self.best) {
                let n = len(&self.best);
                let to = (from + size).min(n);
                let kept: Vec<bool> = (0..n).map(|i| !(from..to).contains(&i)).collect();
                if n > to - from && self.attempt(|p| keep(p, &kept)) {
                    // The next piece has moved to this place.
                    gone = true;
                } else {
                    from = to;
                }
                if self.runs >= self.most {
                    return;
                }
            }
            match (size, gone) {
                (1, false) => return,
                (1, true) => {}
                _ => pieces = n.div_ceil(size) * 2,
            }
        }
    }

    /// What is left may be there only because it lets a draw (which sector rots, which packet is
    /// late) hit the right place: other draws may hit it with much less. Leaves out large pieces
    /// under other seeds; `true` when one still fails.
    fn other_draws(&mut self) -> bool {
        self.step = "other draws";
        let (ops, faults) = (self.best.ops.len(), self.best.faults.len());
        if ops + faults <= SMALL {
            return false;
        }
        for pieces in [2, 4, 8].into_iter().filter(|n| *n <= ops) {
            for piece in 0..pieces {
                for turn in 1..=SEEDS {
                    let gone = |i: usize, n: usize| i * pieces / n == piece;
                    let change = |p: &mut Plan| {
                        p.seed = p.seed.wrapping_add(turn);
                        let keep: Vec<bool> = (0..ops).map(|i| !gone(i, ops)).collect();
                        retain(&mut p.ops, &keep);
                    };
                    if self.attempt(change) {
                        return true;
                    }
                }
            }
        }
        false
    }

    /// Cuts what comes after the violation: by halves, since its time is not known here.
    fn end_at_the_violation(&mut self) {
        self.step = "time";
        for _ in 0..8 {
            let end = self.best.duration_ms;
            let shorter = |share: u64| (end * share / 4).max(200);
            if end <= 200
                || !(self.attempt(|p| end_at(p, shorter(2)))
                    || self.attempt(|p| end_at(p, shorter(3))))
            {
                break;
            }
        }
        let last = |p: &Plan| {
            let ops = p.ops.iter().map(|o| o.at_ms);
            ops.chain(p.faults.iter().map(|f| f.at_ms)).max()
        };
        let last = last(&self.best).unwrap_or(0);
        self.attempt(|p| p.duration_ms = (last + 200).min(p.duration_ms));
    }

    /// A world that is simpler in one respect at a time.
    fn world(&mut self) {
        self.step = "settings";
        self.attempt(|p| p.settings = settings::shipped());
        self.step = "network";
        self.attempt(|p| p.transport = Transport::Message);
        self.attempt(|p| {
            p.network = Network {
                delay_ms: 2,
                jitter_ms: 0,
                zone_delay_ms: 0,
            }
        });
        self.attempt(|p| p.network.zone_delay_ms = 0);
        self.attempt(|p| p.network.jitter_ms = 0);
        self.step = "disks";
        self.attempt(|p| p.disk.sync_jitter_ms = 0);
        self.attempt(|p| p.disk.sync_ms = 2);
        self.attempt(|p| p.disk.sector = 4096);
        self.step = "shards";
        self.attempt(|p| p.shards = 1);
        self.attempt(|p| p.shards = p.shards.div_ceil(2));
        self.step = "clients";
        self.attempt(one_client);
        self.attempt(unused_accounts);
        self.step = "zones";
        self.attempt(|p| p.nodes.iter_mut().for_each(|n| *n = NodePlan { zone: 0 }));
    }

    /// Fewer nodes; what named one that is gone names another.
    fn nodes(&mut self) {
        self.step = "nodes";
        for nodes in [1, 2, 3, 4, 5, 6, 7, 8] {
            if nodes >= self.best.nodes.len() {
                break;
            }
            if self.attempt(|p| fewer_nodes(p, nodes)) {
                return;
            }
        }
    }

    fn faults_simpler(&mut self) {
        self.step = "simpler faults";
        for i in 0..self.best.faults.len() {
            for simpler in simpler_faults(&self.best.faults[i].kind) {
                self.attempt(|p| p.faults[i].kind = simpler);
            }
            for _ in 0..4 {
                let halve = |p: &mut Plan| {
                    if let Some(ms) = p.faults[i].kind.lasts_mut() {
                        *ms /= 2;
                    }
                };
                let worth = self.best.faults[i].kind.lasts_ms() > Some(100);
                if !worth || !self.attempt(halve) {
                    break;
                }
            }
        }
    }

    fn operations_simpler(&mut self) {
        self.step = "simpler operations";
        self.attempt(|p| p.ops.iter_mut().for_each(without_repeats));
        self.attempt(|p| p.ops.iter_mut().for_each(without_others));
        self.attempt(|p| p.ops.iter_mut().for_each(given_nothing));
        self.attempt(|p| p.ops.iter_mut().for_each(|op| smaller(op, 100)));
        self.attempt(|p| p.ops.iter_mut().for_each(|op| smaller(op, 5000)));
        for i in 0..self.best.ops.len() {
            self.attempt(|p| without_repeats(&mut p.ops[i]));
            self.attempt(|p| without_others(&mut p.ops[i]));
            self.attempt(|p| given_nothing(&mut p.ops[i]));
            if size_of(&self.best.ops[i]) > 5000 {
                self.attempt(|p| smaller(&mut p.ops[i], 100));
                self.attempt(|p| smaller(&mut p.ops[i], 5000));
            }
        }
    }
}

fn end_at(plan: &mut Plan, at_ms: u64) {
    plan.duration_ms = at_ms;
    plan.ops.retain(|op| op.at_ms <= at_ms);
    plan.faults.retain(|fault| fault.at_ms <= at_ms);
}

fn one_client(plan: &mut Plan) {
    plan.clients = 1;
    plan.ops.iter_mut().for_each(|op| op.client = 0);
}

/// Numbers the accounts anew, without those that nothing names. Accounts have other names then and
/// may be in other shards, which is tried, not assumed.
fn unused_accounts(plan: &mut Plan) {
    let mut used = BTreeSet::new();
    for op in &plan.ops {
        used.insert(op.account);
        used.extend(also_of(op).iter().copied());
    }
    let at_least_one = used.len().max(1) as u32;
    let number = |old: u32| used.range(..old).count() as u32;
    for op in &mut plan.ops {
        op.account = number(op.account);
        match &mut op.kind {
            OpKind::Deliver { also, .. } | OpKind::Lmtp { also, .. } => {
                also.iter_mut().for_each(|a| *a = number(*a));
            }
            OpKind::Carry {
                to_account: Some(a),
                ..
            } => *a = number(*a),
            _ => {}
        }
    }
    plan.accounts = at_least_one;
}

fn also_of(op: &Op) -> &[u32] {
    match &op.kind {
        OpKind::Deliver { also, .. } | OpKind::Lmtp { also, .. } => also,
        OpKind::Carry {
            to_account: Some(a),
            ..
        } => std::slice::from_ref(a),
        _ => &[],
    }
}

fn fewer_nodes(plan: &mut Plan, nodes: usize) {
    plan.nodes.truncate(nodes);
    let most = nodes as u32;
    for op in &mut plan.ops {
        if let OpKind::Lmtp { node, .. } = &mut op.kind {
            *node %= most;
        }
    }
    for fault in &mut plan.faults {
        if let Some(node) = fault.kind.aim() {
            fault.kind.aim_at(node % most);
        }
        match &mut fault.kind {
            FaultKind::PowerCut { nodes, .. } | FaultKind::Clog { nodes, .. } => {
                nodes.retain(|n| *n < most);
            }
            FaultKind::Partition {
                groups,
                late,
                clients,
                ..
            } => {
                groups.iter_mut().for_each(|g| g.retain(|n| *n < most));
                let moved = |old: u32| {
                    let (before, from) = groups.split_at(old as usize);
                    let left = before.iter().filter(|g| !g.is_empty()).count() as u32;
                    from.first().is_some_and(|g| !g.is_empty()).then_some(left)
                };
                (*late, *clients) = (late.and_then(moved), clients.and_then(moved));
                groups.retain(|g| !g.is_empty());
            }
            FaultKind::OneWay { from, to, .. } | FaultKind::SlowLink { from, to, .. } => {
                (*from, *to) = (*from % most, *to % most);
            }
            _ => {}
        }
    }
    // A fault that strikes nothing any more is no fault.
    plan.faults.retain(|fault| match &fault.kind {
        FaultKind::PowerCut { nodes, .. } | FaultKind::Clog { nodes, .. } => !nodes.is_empty(),
        FaultKind::Partition { groups, .. } => !groups.is_empty(),
        FaultKind::OneWay { from, to, .. } | FaultKind::SlowLink { from, to, .. } => from != to,
        _ => true,
    });
}

/// Faults of the same sort that are easier to think about, the easiest first.
fn simpler_faults(kind: &FaultKind) -> Vec<FaultKind> {
    let kind = kind.clone();
    match kind {
        FaultKind::Crash {
            node,
            point,
            power,
            down_ms,
        } => {
            let crash = |point, power| FaultKind::Crash {
                node,
                point,
                power,
                down_ms,
            };
            let mut simpler = vec![crash(CrashPoint::Now, false), crash(CrashPoint::Now, power)];
            if power {
                simpler.push(crash(point, false));
            }
            simpler
        }
        FaultKind::RestartLoop {
            node,
            times,
            polls,
            power,
        } => {
            let mut simpler = vec![FaultKind::Crash {
                node,
                point: CrashPoint::Now,
                power,
                down_ms: 100,
            }];
            if times > 2 {
                simpler.push(FaultKind::RestartLoop {
                    node,
                    times: 2,
                    polls,
                    power,
                });
            }
            simpler
        }
        FaultKind::PowerCut { nodes, down_ms } => {
            let one = |node: &u32| FaultKind::Crash {
                node: *node,
                point: CrashPoint::Now,
                power: true,
                down_ms,
            };
            let without = |i: usize| {
                let mut fewer = nodes.clone();
                fewer.remove(i);
                FaultKind::PowerCut {
                    nodes: fewer,
                    down_ms,
                }
            };
            let fewer = (0..nodes.len()).filter(|_| nodes.len() > 1).map(without);
            nodes.iter().map(one).chain(fewer).collect()
        }
        FaultKind::AddNode {
            zone,
            first_life: Some(_),
        } => vec![FaultKind::AddNode {
            zone,
            first_life: None,
        }],
        FaultKind::DiskLost {
            node,
            down_ms,
            first_life: Some(_),
        } => vec![FaultKind::DiskLost {
            node,
            down_ms,
            first_life: None,
        }],
        FaultKind::Partition {
            groups,
            ms,
            late,
            clients,
        } if late.is_some() || clients.is_some() => {
            let cut = |late, clients| FaultKind::Partition {
                groups: groups.clone(),
                ms,
                late,
                clients,
            };
            vec![cut(None, None), cut(late, None), cut(None, clients)]
        }
        FaultKind::OneWay {
            from,
            to,
            ms,
            clients: Some(_),
        } => vec![FaultKind::OneWay {
            from,
            to,
            ms,
            clients: None,
        }],
        FaultKind::Rot {
            node,
            sectors,
            index,
            place,
        } if sectors > 1 => vec![FaultKind::Rot {
            node,
            sectors: 1,
            index,
            place,
        }],
        _ => Vec::new(),
    }
}

fn without_repeats(op: &mut Op) {
    if let Some(repeat) = op.kind.repeat_mut() {
        *repeat = 0;
    }
}

fn without_others(op: &mut Op) {
    if let OpKind::Deliver { also, .. } | OpKind::Lmtp { also, .. } = &mut op.kind {
        also.clear();
    }
}

fn given_nothing(op: &mut Op) {
    if let Some(given) = op.kind.given_mut() {
        *given = Given::default();
    }
    match &mut op.kind {
        OpKind::Deliver { into, .. } => *into = None,
        OpKind::Imap {
            flags, carry, also, ..
        } => (*flags, *carry, *also) = (Vec::new(), None, Vec::new()),
        _ => {}
    }
}

fn size_of(op: &Op) -> u64 {
    match &op.kind {
        OpKind::Deliver { size, .. } | OpKind::Append { size, .. } | OpKind::Lmtp { size, .. } => {
            *size
        }
        _ => 0,
    }
}

fn smaller(op: &mut Op, most: u64) {
    if let OpKind::Deliver { size, .. } | OpKind::Append { size, .. } | OpKind::Lmtp { size, .. } =
        &mut op.kind
    {
        *size = (*size).min(most);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Fault;
    use crate::plan::generate::{Choice, generate};

    fn busy(seed: u64) -> Plan {
        let choice = Choice {
            nodes: Some(5),
            faults: Some(true),
            ops: Some(200),
            ..Choice::default()
        };
        generate(seed, &choice)
    }

    fn shrunk(plan: &Plan, most: u32, fails: &dyn Fn(&Plan) -> bool) -> (Plan, u32) {
        let mut runs = 0;
        let mut fails = |p: &Plan| {
            runs += 1;
            p.check().unwrap();
            fails(p).then(|| "acknowledged".to_owned())
        };
        let found = shrink(plan, most, &mut fails, &mut |_| {});
        (found, runs)
    }

    #[test]
    fn one_fault_and_two_operations_remain() {
        let mut plan = busy(4);
        let needed = |kind| Fault { at_ms: 3000, kind };
        plan.faults.push(needed(FaultKind::Copied { node: 4 }));
        plan.faults.push(needed(FaultKind::HalfOpen { node: 1 }));
        let has = |p: &Plan, name: &str| p.ops.iter().any(|o| o.kind.name() == name);
        let fails = |p: &Plan| {
            let copied = p.faults.iter().any(|f| f.kind.name() == "copied");
            copied && has(p, "create_account") && has(p, "deliver")
        };
        assert!(fails(&plan));
        let (found, runs) = shrunk(&plan, 500, &fails);
        assert!(fails(&found));
        assert_eq!(
            (found.faults.len(), found.ops.len()),
            (1, 2),
            "{}",
            found.to_toml()
        );
        assert_eq!((found.nodes.len(), found.shards, found.clients), (1, 1, 1));
        assert_eq!(found.settings, settings::shipped());
        assert!(runs < 200, "{runs} runs");
    }

    #[test]
    fn what_must_stay_together_stays() {
        let plan = busy(9);
        // Every third operation and all faults at an even time are needed.
        let marked: Vec<Op> = plan.ops.iter().step_by(40).cloned().collect();
        let fails = |p: &Plan| {
            marked
                .iter()
                .all(|m| p.ops.iter().any(|o| o.at_ms == m.at_ms))
        };
        let (found, _) = shrunk(&plan, 2000, &fails);
        let mut times: Vec<u64> = marked.iter().map(|o| o.at_ms).collect();
        times.dedup();
        assert_eq!(found.ops.len(), times.len());
        assert!(found.faults.is_empty());
    }

    #[test]
    fn other_draws_need_less() {
        // Under the seed of the plan forty operations are needed, under others one. Those of the
        // beginning have one time.
        let plan = busy(6);
        let times = plan.ops.iter().map(|o| o.at_ms).filter(|at| *at > 0);
        let marked: Vec<u64> = times.take(40).collect();
        let fails = |p: &Plan| {
            let needed = if p.seed == 6 {
                marked.as_slice()
            } else {
                &marked[..1]
            };
            needed.iter().all(|at| p.ops.iter().any(|o| o.at_ms == *at))
        };
        let (found, _) = shrunk(&plan, 2000, &fails);
        assert_eq!(found.ops.len(), 1);
        assert_ne!(found.seed, 6);
    }

    #[test]
    fn another_failure_is_not_the_same() {
        let plan = busy(1);
        let mut fails = |p: &Plan| {
            let name = if p.nodes.len() == 5 {
                "acknowledged"
            } else {
                "panic"
            };
            Some(name.to_owned())
        };
        let found = shrink(&plan, 300, &mut fails, &mut |_| {});
        assert_eq!(found.nodes.len(), 5);
        assert!(found.ops.is_empty() && found.faults.is_empty());
    }

    #[test]
    fn the_number_of_runs_is_bounded_and_a_plan_that_passes_stays() {
        let plan = busy(2);
        let (_, runs) = shrunk(&plan, 20, &|p| p.ops.len() > 100);
        assert!(runs <= 20, "{runs}");
        let (found, runs) = shrunk(&plan, 20, &|_| false);
        assert_eq!((found, runs), (plan, 1));
    }

    #[test]
    fn fewer_nodes_leave_a_plan_that_can_be_run() {
        for seed in 0..300 {
            let mut plan = generate(
                seed,
                &Choice {
                    nodes: Some(7),
                    ..Choice::default()
                },
            );
            fewer_nodes(&mut plan, 2);
            plan.check().unwrap_or_else(|e| panic!("seed {seed}: {e}"));
            unused_accounts(&mut plan);
            plan.check().unwrap_or_else(|e| panic!("seed {seed}: {e}"));
        }
    }
}
