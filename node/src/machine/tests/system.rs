//! The system shard.

use super::*;
use crate::machine::system::{SystemState, load};

fn node(addr: &str) -> NodeInfo {
    NodeInfo {
        id: NodeId(1),
        addr: addr.into(),
        lmtp_addr: String::new(),
        zone: "a".into(),
    }
}

fn formed(shards: u32) -> Bench {
    let mut b = Bench::new();
    assert_eq!(load(&*b.index, b.space).unwrap(), None);
    let reply = b.apply(Op::System(SystemOp::Init {
        cluster_id: [5; 16],
        node: node("one:1"),
        shards,
        replication: 3,
    }));
    assert_eq!(reply, Reply::Done);
    b
}

fn state(b: &Bench) -> SystemState {
    load(&*b.index, b.space).unwrap().unwrap()
}

fn join(b: &mut Bench, token: u8, join_id: u8) -> Reply {
    b.apply(Op::System(SystemOp::JoinNode {
        token_hash: [token; 32],
        join_id: [join_id; 16],
        node: node("two:2"),
    }))
}

#[test]
fn init_spreads_the_slots_evenly_and_once() {
    for shards in [1, 3, 8, 4096] {
        let b = formed(shards);
        let state = state(&b);
        assert_eq!((state.version, state.replication), (1, 3));
        assert!(state.shards[&ShardId::SYSTEM].slots.is_empty());
        let mut next = 0u32;
        for (id, row) in state.shards.iter().skip(1) {
            let [(first, last)] = row.slots[..] else {
                panic!("{row:?}")
            };
            assert_eq!(first.0 as u32, next);
            assert!(state.shard_of(first) == Some(*id) && state.shard_of(last) == Some(*id));
            next = last.0 as u32 + 1;
        }
        assert_eq!(next, SLOTS);
    }
    let mut b = formed(2);
    let again = SystemOp::Init {
        cluster_id: [6; 16],
        node: node("x:1"),
        shards: 1,
        replication: 1,
    };
    assert!(matches!(
        b.apply(Op::System(again)),
        Reply::Error(ApplyError::Refused(_))
    ));
    assert_eq!(state(&b).cluster_id, [5; 16]);
}

#[test]
fn a_token_lets_one_node_in_and_a_repeated_join_gets_the_same_number() {
    let mut b = formed(1);
    let add = |b: &mut Bench, token: u8| {
        let expires_ms = b.now_ms + 100;
        b.apply(Op::System(SystemOp::AddToken {
            hash: [token; 32],
            expires_ms,
        }))
    };
    assert_eq!(join(&mut b, 1, 1), Reply::Error(ApplyError::BadToken));
    add(&mut b, 1);
    assert_eq!(join(&mut b, 1, 1), Reply::Joined { node: NodeId(2) });
    assert_eq!(join(&mut b, 1, 1), Reply::Joined { node: NodeId(2) });
    assert_eq!(join(&mut b, 1, 2), Reply::Error(ApplyError::BadToken));
    let state_now = state(&b);
    assert_eq!((state_now.version, state_now.nodes.len()), (2, 2));
    assert_eq!(state_now.nodes[&NodeId(2)].addr, "two:2");
    assert!(b.events.contains(&Event::PlacementChanged { version: 2 }));
    add(&mut b, 3);
    b.now_ms += 100;
    assert_eq!(join(&mut b, 3, 3), Reply::Error(ApplyError::BadToken));
    add(&mut b, 4);
    assert_eq!(b.count(0x23), 1, "expired tokens are removed");

    let mut moved = state(&b).nodes[&NodeId(2)].clone();
    moved.addr = "two:22".into();
    for _ in 0..2 {
        b.apply(Op::System(SystemOp::SetNode(moved.clone())));
    }
    assert_eq!(state(&b).version, 3, "the same again is no change");
    moved.id = NodeId(77);
    assert!(matches!(
        b.apply(Op::System(SystemOp::SetNode(moved))),
        Reply::Error(ApplyError::Refused(_))
    ));
}

#[test]
fn a_token_from_a_clock_that_is_behind_works_as_long_as_any() {
    let mut b = formed(1);
    let time_ms = b.now_ms - 3 * 24 * 3600 * 1000;
    let (hash, expires_ms) = ([1; 32], time_ms + 100);
    let late = |op| Command {
        time_ms,
        op: Op::System(op),
    };
    b.batch(&[late(SystemOp::AddToken { hash, expires_ms })]);
    b.now_ms += 99;
    assert_eq!(join(&mut b, 1, 1), Reply::Joined { node: NodeId(2) });
    let hash = [2; 32];
    b.batch(&[late(SystemOp::AddToken { hash, expires_ms })]);
    b.now_ms += 100;
    assert_eq!(join(&mut b, 2, 2), Reply::Error(ApplyError::BadToken));
}

#[test]
fn generations_are_never_used_again() {
    let mut b = formed(1);
    let hash = [1; 32];
    let expires_ms = b.now_ms + 100;
    b.apply(Op::System(SystemOp::AddToken { hash, expires_ms }));
    join(&mut b, 1, 1);
    let shard = ShardId(1);
    let replica = |node, generation| ReplicaInfo {
        id: ReplicaId::new(NodeId(node), generation),
        voter: true,
    };
    let set = |b: &mut Bench, replicas: &[ReplicaInfo]| {
        b.apply(Op::System(SystemOp::SetReplicas {
            shard,
            replicas: replicas.to_vec(),
        }))
    };
    let refused = |reply| matches!(reply, Reply::Error(ApplyError::Refused(_)));
    assert_eq!(set(&mut b, &[replica(1, 0), replica(2, 0)]), Reply::Done);
    let damaged = ReplicaId::new(NodeId(2), 0);
    for _ in 0..2 {
        b.apply(Op::System(SystemOp::ReplicaDamaged {
            shard,
            replica: damaged,
        }));
    }
    let row = &state(&b).shards[&shard];
    assert_eq!(row.damaged, [damaged]);
    assert_eq!(
        row.replicas.len(),
        2,
        "the reconciler removes it, not the report"
    );
    assert_eq!(set(&mut b, &[replica(1, 0)]), Reply::Done);
    assert!(refused(set(&mut b, &[replica(1, 0), replica(2, 0)])));
    assert_eq!(set(&mut b, &[replica(1, 0), replica(2, 1)]), Reply::Done);
    let row = &state(&b).shards[&shard];
    assert_eq!((row.damaged.len(), row.next_generation(NodeId(2))), (0, 2));
    let known = |node, generation| row.knows(ReplicaId::new(NodeId(node), generation));
    assert!(known(2, 1) && known(2, 0), "also what it no longer has");
    assert!(!known(2, 2) && !known(3, 0));
    assert!(refused(set(&mut b, &[])));
    assert!(refused(set(&mut b, &[replica(1, 0), replica(1, 1)])));
    assert!(refused(set(&mut b, &[replica(1, 0), replica(9, 0)])));
    let version = state(&b).version;
    set(&mut b, &[replica(2, 1), replica(1, 0)]);
    assert_eq!(state(&b).version, version, "order does not matter");
}
