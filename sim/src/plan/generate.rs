//! From a number to a plan.
//!
//! Each seed is its own kind of test: it switches kinds of operations and families of faults on and
//! off instead of doing a little of everything each time, which finds more (Groce, Zhang, Eide,
//! Chen, Regehr: "Swarm Testing", ISSTA 2012). Topology, settings, workload and every family of
//! faults are drawn from streams of their own, so that a user who fixes one of them gets the others
//! of the same seed unchanged.

use super::{Plan, Transport, VERSION};
use super::{crossing, faults, given, mail, programs, rush, sessions, settings, stay};
use super::{topology, workload};

/// What a user has fixed; what is `None` is drawn.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Choice {
    /// Nodes at the beginning, 1 to 9.
    pub nodes: Option<u32>,
    /// Failure domains, 1 to the number of nodes.
    pub zones: Option<u32>,
    /// Data shards.
    pub shards: Option<u32>,
    /// Replicas that a shard should have.
    pub replication: Option<u32>,
    /// How gRPC travels.
    pub transport: Option<Transport>,
    /// Milliseconds of operations and faults.
    pub duration_ms: Option<u64>,
    /// Whether faults beyond what replication promises are held back; they are, by default.
    pub budget: Option<bool>,
    /// `false`: nothing goes wrong. `true`: something does, in every seed.
    pub faults: Option<bool>,
    /// Number of operations, about.
    pub ops: Option<u32>,
    /// Shipped settings of the product (`true`), or those that make rare branches common.
    pub shipped: Option<bool>,
    /// What the run is about, for people.
    pub title: Option<String>,
}

impl Choice {
    /// The options of the command line that say the same, each with a space before it.
    pub fn options(&self) -> String {
        let mut said = String::new();
        let mut number = |name: &str, value: Option<u64>| {
            if let Some(value) = value {
                said.push_str(&format!(" --{name} {value}"));
            }
        };
        number("nodes", self.nodes.map(u64::from));
        number("zones", self.zones.map(u64::from));
        number("shards", self.shards.map(u64::from));
        number("replication", self.replication.map(u64::from));
        number("duration-ms", self.duration_ms);
        number("ops", self.ops.map(u64::from));
        if let Some(transport) = self.transport {
            said.push_str(&format!(" --transport {}", transport.name()));
        }
        for (name, value) in [
            ("budget", self.budget),
            ("faults", self.faults),
            ("shipped", self.shipped),
        ] {
            if let Some(value) = value {
                said.push_str(&format!(" --{name} {}", if value { "on" } else { "off" }));
            }
        }
        said
    }
}

impl Transport {
    /// Its name on the command line and in plans.
    pub fn name(self) -> &'static str {
        match self {
            Transport::Message => "message",
            Transport::Http2 => "http2",
        }
    }
}

/// The plan of a seed.
pub fn generate(seed: u64, choice: &Choice) -> Plan {
    let shape = topology::draw(seed, choice);
    let mut plan = Plan {
        version: VERSION,
        seed,
        title: choice.title.clone().unwrap_or_default(),
        transport: shape.transport,
        shards: shape.shards,
        replication: shape.replication,
        accounts: 0,
        clients: 0,
        duration_ms: shape.duration_ms,
        budget: choice.budget.unwrap_or(true),
        settings: settings::draw(seed, choice.shipped, &shape.network, &shape.disk),
        network: shape.network,
        disk: shape.disk,
        nodes: shape.nodes,
        ops: Vec::new(),
        faults: Vec::new(),
    };
    workload::draw(&mut plan, choice.ops);
    mail::draw(&mut plan, choice.ops);
    crossing::draw(&mut plan, choice.ops);
    rush::draw(&mut plan, choice.ops);
    programs::draw(&mut plan, choice.ops);
    given::draw(&mut plan, choice.ops);
    stay::draw(&mut plan);
    sessions::draw(&mut plan, choice.ops);
    faults::draw(&mut plan, choice.faults);
    plan
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::{CrashPoint, Fault, FaultKind, OpKind, RotPlace};

    #[test]
    fn the_same_seed_gives_the_same_plan() {
        for seed in 0..50 {
            let choice = Choice::default();
            assert_eq!(generate(seed, &choice), generate(seed, &choice));
        }
        assert_ne!(
            generate(1, &Choice::default()),
            generate(2, &Choice::default())
        );
    }

    #[test]
    fn what_a_user_fixes_leaves_the_rest_as_it_was() {
        let free = generate(7, &Choice::default());
        let choice = Choice {
            faults: Some(false),
            ..Choice::default()
        };
        let calm = generate(7, &choice);
        assert!(calm.faults.is_empty());
        assert_eq!((&calm.ops, &calm.nodes), (&free.ops, &free.nodes));
        let choice = Choice {
            shipped: Some(free.settings.heartbeat_ms != 100),
            ..Choice::default()
        };
        let other = generate(7, &choice);
        assert_eq!((&other.ops, &other.faults), (&free.ops, &free.faults));
        let choice = Choice {
            nodes: Some(5),
            shards: Some(3),
            zones: Some(3),
            replication: Some(5),
            duration_ms: Some(4000),
            transport: Some(Transport::Http2),
            ops: Some(30),
            ..Choice::default()
        };
        let fixed = generate(7, &choice);
        assert_eq!((fixed.nodes.len(), fixed.shards), (5, 3));
        assert_eq!((fixed.replication, fixed.duration_ms), (5, 4000));
        assert_eq!(fixed.transport, Transport::Http2);
        assert!(fixed.nodes.iter().any(|n| n.zone == 2));
        assert!((30..90).contains(&fixed.ops.len()), "{}", fixed.ops.len());
    }

    #[test]
    fn a_thousand_seeds_are_within_bounds_and_of_all_kinds() {
        let plans: Vec<Plan> = (0..1000).map(|s| generate(s, &Choice::default())).collect();
        let share = |what: &dyn Fn(&Plan) -> bool| plans.iter().filter(|p| what(p)).count();
        for plan in &plans {
            plan.check()
                .unwrap_or_else(|e| panic!("seed {}: {e}", plan.seed));
        }
        let http2 = share(&|p| p.transport == Transport::Http2);
        assert!((200..300).contains(&http2), "{http2}");
        let calm = share(&|p| p.faults.is_empty());
        assert!((20..90).contains(&calm), "{calm}");
        let destructive = share(&|p| p.faults.iter().any(|f| f.kind.is_destructive()));
        assert!((250..430).contains(&destructive), "{destructive}");
        let large = share(&|p| p.octets() > 5 << 20);
        assert!((10..70).contains(&large), "{large}");
        assert!(share(&|p| p.octets() > 44 << 20) == 0);
        let usual = share(&|p| (3..=5).contains(&p.nodes.len()));
        assert!(usual > 700, "{usual}");
        for nodes in 1..=9 {
            assert!(share(&|p| p.nodes.len() == nodes) > 0, "{nodes} nodes");
        }
        let op = |name: &str| share(&|p| p.ops.iter().any(|o| o.kind.name() == name));
        for name in OpKind::NAMES {
            assert!(op(name) > 100, "{name}: {}", op(name));
        }
        let fault = |name: &str| share(&|p| p.faults.iter().any(|f| f.kind.name() == name));
        for name in FaultKind::NAMES {
            assert!(fault(name) > 15, "{name}: {}", fault(name));
        }
        let majority = share(&|p| {
            p.faults.iter().any(|f| match &f.kind {
                FaultKind::PowerCut { nodes, .. } => nodes.len() * 2 > p.nodes.len(),
                _ => false,
            })
        });
        assert!(majority > 10, "{majority}");
        type Is<'a> = &'a dyn Fn(&FaultKind) -> bool;
        let struck = |what: Is| share(&|p| p.faults.iter().any(|fault| what(&fault.kind)));
        use FaultKind::*;
        let places: [(&str, Is); 8] = [
            (
                "clients on a side",
                &|k| matches!(k, Partition { clients, .. } if clients.is_some()),
            ),
            (
                "clients at an end",
                &|k| matches!(k, OneWay { clients, .. } if clients.is_some()),
            ),
            (
                "new nodes on a side",
                &|k| matches!(k, Partition { late, .. } if late.is_some()),
            ),
            ("death of a new node", &|k| {
                matches!(
                    k,
                    AddNode {
                        first_life: Some(_),
                        ..
                    } | DiskLost {
                        first_life: Some(_),
                        ..
                    }
                )
            }),
            ("error of the index", &|k| {
                matches!(k, DiskError { index: true, .. })
            }),
            ("death in a flush", &|k| {
                matches!(
                    k,
                    Crash {
                        point: CrashPoint::Flush { .. },
                        ..
                    }
                )
            }),
            ("death in long work", &|k| {
                matches!(
                    k,
                    Crash {
                        point: CrashPoint::During { .. },
                        ..
                    }
                )
            }),
            ("rot of an identity", &|k| {
                matches!(
                    k,
                    Rot {
                        place: RotPlace::Identity,
                        ..
                    }
                )
            }),
        ];
        for (name, what) in places {
            assert!(struck(what) >= 5, "{name}: {}", struck(what));
        }
        let joined = |p: &Plan| {
            let joins = p.faults.iter().filter(|f| matches!(f.kind, AddNode { .. }));
            joins.count()
        };
        let together = share(&|p| joined(p) > 1);
        assert!(together >= 5, "{together} of {}", share(&|p| joined(p) > 0));
        let long = share(&|p| p.duration_ms >= 60_000);
        assert!((10..45).contains(&long), "{long}");
        let lasting = share(&|p| {
            let passes = |f: &Fault| match f.kind {
                Pause { ms, .. } | DiskStall { ms, .. } | ClockFreeze { ms, .. } => {
                    ms >= 20_000 && f.at_ms + ms < p.duration_ms
                }
                _ => false,
            };
            p.duration_ms >= 60_000 && p.faults.iter().any(passes)
        });
        assert!(lasting * 10 >= long * 8, "{lasting} of {long}");
    }
}
