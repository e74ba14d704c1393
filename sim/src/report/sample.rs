//! A made-up run for tests of the reports: a leader dies, another takes over, a message is gone.

use crate::outcome::{Event, EventKind, Outcome, Stats, Violation};
use crate::plan::generate::{Choice, generate};

/// The run.
pub fn sample() -> Outcome {
    let choice = Choice {
        nodes: Some(3),
        shards: Some(2),
        faults: Some(true),
        title: Some("a </script> title & more".into()),
        ..Choice::default()
    };
    let plan = generate(5, &choice);
    let mut events = Vec::new();
    let mut add = |at_ms, node, kind| events.push(Event { at_ms, node, kind });
    for (at_ms, name) in [
        (0, "form"),
        (2000, "faults"),
        (16_000, "majority"),
        (21_000, "heal"),
        (26_000, "check"),
    ] {
        add(at_ms, None, EventKind::Phase { name: name.into() });
    }
    let role = |shard, role: &str, term| EventKind::Role {
        shard,
        role: role.into(),
        term,
    };
    for node in 0..3u32 {
        add(
            u64::from(node) * 100,
            Some(node),
            EventKind::Started { incarnation: 1 },
        );
        add(500 + u64::from(node) * 100, Some(node), EventKind::Serving);
        for shard in 0..3 {
            let name = if shard == node { "leader" } else { "follower" };
            add(900, Some(node), role(shard, name, 1));
        }
    }
    add(
        5000,
        Some(1),
        EventKind::Ended {
            why: "power failure".into(),
        },
    );
    add(5600, Some(2), role(1, "candidate", 2));
    add(5900, Some(2), role(1, "leader", 2));
    add(8000, Some(1), EventKind::Started { incarnation: 2 });
    add(8300, Some(1), role(0, "follower", 1));
    add(8300, Some(1), role(1, "learner", 2));
    add(9300, Some(1), role(1, "follower", 2));
    add(8300, Some(1), role(2, "follower", 1));
    let fault = |fault, what: &str, until_ms, held: Option<&str>| EventKind::Fault {
        fault,
        what: what.into(),
        until_ms,
        held_back: held.map(str::to_owned),
    };
    add(
        5000,
        Some(1),
        fault(0, "node 1 loses power, down 3000 ms", Some(8000), None),
    );
    add(
        5200,
        None,
        fault(1, "partition 0 | 1,2 for 4000 ms", Some(9200), None),
    );
    add(
        11_000,
        Some(0),
        fault(2, "node 0 disk is 10 times slower", Some(15_000), None),
    );
    add(
        12_000,
        Some(0),
        fault(
            3,
            "node 0 loses its disk",
            None,
            Some("it holds the last copy of shard 1"),
        ),
    );
    add(
        13_000,
        Some(2),
        fault(4, "node 2 next write goes astray", None, None),
    );
    for i in 0..180u64 {
        let called_ms = 2100 + i * 75;
        let answer = match i {
            45..=55 => "unknown",
            60 | 61 | 100 => "refused",
            _ => "acknowledged",
        };
        let slow = if answer == "unknown" {
            900
        } else {
            20 + (i * 37) % 50
        };
        let kind = EventKind::Call {
            op: Some(i as u32),
            client: (i % 4) as u32,
            what: format!("deliver to account {}", i % 5),
            called_ms,
            answer: answer.into(),
        };
        add(called_ms + slow, None, kind);
    }
    let what =
        "ann@example.org: the message <1> of 300 octets, acknowledged at 4.950 s, is not there";
    add(
        27_300,
        Some(1),
        EventKind::Violation {
            invariant: "acknowledged".into(),
            what: what.into(),
        },
    );
    let violation = Violation {
        invariant: "acknowledged".into(),
        at_ms: 27_300,
        what: what.into(),
        node: Some(1),
    };
    Outcome {
        plan,
        violations: vec![violation],
        events,
        stats: Stats {
            simulated_ms: 28_000,
            answers: [
                ("acknowledged".into(), 166),
                ("unknown".into(), 11),
                ("refused".into(), 3),
            ]
            .into(),
            ..Stats::default()
        },
        trace_hash: "00ff".repeat(16),
    }
}
