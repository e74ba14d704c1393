//! Changes against pictures: whoever knows the account as it was, and applies them, knows it as it
//! is.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use proptest::prelude::*;

use super::super::fake::{FakeShard, node};
use super::super::{MailboxError, Operations, Proposer};
use super::*;
use crate::machine::command::*;

const DAY_MS: u64 = 24 * 3600 * 1000;
const BOXES: [&str; 3] = ["INBOX", "Work", "Work/Old"];

/// Mailboxes, their messages, and the modseq of each.
type Picture = BTreeMap<MailboxId, BTreeMap<Uid, ModSeq>>;

struct World {
    ops: Arc<Operations>,
    shard: Arc<FakeShard>,
    account: AccountName,
    time_ms: u64,
    requests: u64,
    /// As it was at each modseq at which it could be looked at.
    pictures: BTreeMap<ModSeq, Picture>,
    /// And the emails that were shown then.
    emails: BTreeMap<ModSeq, BTreeSet<EmailId>>,
}

impl World {
    async fn new() -> World {
        let (node, ops) = node();
        let account = AccountName::new("ann@example.org").unwrap();
        let shard = usize::from(Slot::of(&account).0 % 2);
        let mut world = World {
            ops,
            shard: Arc::clone(&node.shards[shard]),
            account,
            time_ms: 1_700_000_000_000,
            requests: 0,
            pictures: BTreeMap::new(),
            emails: BTreeMap::from([(0, BTreeSet::new())]),
        };
        world.pictures.insert(0, Picture::new());
        let (request_id, name) = (world.id(), world.account.clone());
        world.apply(Op::CreateAccount { request_id, name }).await;
        world
    }

    fn id(&mut self) -> RequestId {
        self.requests += 1;
        let mut id = [7; 16];
        id[8..].copy_from_slice(&self.requests.to_be_bytes());
        RequestId(id)
    }

    async fn apply(&mut self, op: Op) -> Reply {
        let stored = Bytes::from(vec![b'x'; op.stored_len()]);
        let time_ms = self.time_ms;
        let reply = self.shard.propose(Command { time_ms, op }, stored).await;
        let view = self.shard.local_view().unwrap();
        let (id, row) = find(&view, &self.account).unwrap();
        let (mut picture, mut emails) = (Picture::new(), BTreeSet::new());
        for (mailbox, _) in read::mailboxes(&*view.view, view.space, id).unwrap() {
            let all = (1, Uid::MAX);
            let rows = read::messages(&*view.view, view.space, id, mailbox, all, 10_000);
            let rows = rows.unwrap().0;
            emails.extend(rows.iter().map(|(_, row)| row.email));
            let rows = rows.into_iter();
            picture.insert(mailbox, rows.map(|(uid, row)| (uid, row.modseq)).collect());
        }
        self.pictures.insert(row.highest_modseq, picture);
        self.emails.insert(row.highest_modseq, emails);
        reply.unwrap()
    }

    async fn store(&mut self, mailbox: &str) {
        let octets = b"x";
        let target = Target {
            request_id: self.id(),
            account: self.account.clone(),
            mailbox: MailboxName::new(mailbox).unwrap().into(),
            flags: Vec::new(),
        };
        self.apply(Op::Store(Box::new(Store {
            targets: vec![target],
            internal_date_ms: 0,
            blob: BlobMeta {
                id: BlobId::of(octets),
                size: 1,
                chunks: vec![ChunkMeta {
                    raw_len: 1,
                    stored_len: 1,
                    codec: Codec::Raw,
                    crc: crc32fast::hash(octets),
                }],
                upload: None,
            },
            summary: Vec::new(),
            threads: Vec::new(),
        })))
        .await;
    }

    async fn step(&mut self, step: &Step) {
        let request_id = self.id();
        let account = self.account.clone();
        let name = |m: &usize| MailboxName::new(BOXES[*m]).unwrap();
        let op = match step {
            Step::Store(m, n) => {
                for _ in 0..*n {
                    self.store(BOXES[*m]).await;
                }
                return;
            }
            Step::Create(m) => Op::CreateMailbox {
                request_id,
                account,
                mailbox: name(m),
                special_use: 0,
            },
            Step::Delete(m) => Op::DeleteMailbox {
                request_id,
                account,
                mailbox: name(m).into(),
            },
            Step::Flag(m, uids, flag) => Op::SetFlags {
                request_id,
                account,
                mailbox: name(m).into(),
                uids: uids.clone(),
                mode: FlagMode::Replace,
                flags: vec![format!("k{flag}")],
                unchanged_since: None,
            },
            Step::Expunge(m, uids) => Op::Expunge {
                request_id,
                account,
                mailbox: name(m).into(),
                uids: uids.clone(),
                force: true,
            },
            Step::Move(m, uids, to) => Op::Move(CopyMessages {
                request_id,
                account,
                from: name(m).into(),
                uids: uids.clone(),
                to: name(to).into(),
            }),
            Step::Account => Op::SetPassword {
                request_id,
                account,
                hash: Some("hash".into()),
            },
        };
        self.apply(op).await;
    }

    async fn changes(&self, mailbox: u32, since: ModSeq, limit: u32) -> Result<Changes> {
        let request = GetChanges {
            account: self.account.to_string(),
            mailbox_id: mailbox,
            since,
            limit,
            ..GetChanges::default()
        };
        self.ops.get_changes(request).await
    }
}

#[derive(Debug, Clone)]
enum Step {
    Store(usize, usize),
    Create(usize),
    Delete(usize),
    Flag(usize, Vec<(Uid, Uid)>, u8),
    Expunge(usize, Vec<(Uid, Uid)>),
    Move(usize, Vec<(Uid, Uid)>, usize),
    Account,
}

fn step() -> impl Strategy<Value = Step> {
    let m = 0..BOXES.len();
    let range = (1u32..12, 0u32..4).prop_map(|(a, n)| (a, a + n));
    let uids = prop::collection::vec(range, 1..3);
    prop_oneof![
        4 => (m.clone(), 1usize..4).prop_map(|(m, n)| Step::Store(m, n)),
        2 => m.clone().prop_map(Step::Create),
        1 => m.clone().prop_map(Step::Delete),
        4 => (m.clone(), uids.clone(), 0u8..3).prop_map(|(m, u, f)| Step::Flag(m, u, f)),
        3 => (m.clone(), uids.clone()).prop_map(|(m, u)| Step::Expunge(m, u)),
        2 => (m.clone(), uids, m).prop_map(|(m, u, to)| Step::Move(m, u, to)),
        1 => Just(Step::Account),
    ]
}

/// Applies changes to a picture of uids; gives the messages whose rows are to be read again.
fn apply(picture: &mut Picture, changes: &Changes, fresh: &mut BTreeSet<(MailboxId, Uid)>) {
    let uids = |ranges: &UidRanges| -> Vec<Uid> {
        assert!(ranges.windows(2).all(|w| w[0].1 + 1 < w[1].0), "{ranges:?}");
        ranges.iter().flat_map(|(a, b)| *a..=*b).collect()
    };
    for (id, m) in &changes.mailboxes {
        if m.destroyed {
            picture.remove(id);
            fresh.retain(|(mailbox, _)| mailbox != id);
            continue;
        }
        assert_eq!(m.appeared, !picture.contains_key(id));
        if m.appeared {
            assert!(m.changed, "what came has changed");
            picture.insert(*id, BTreeMap::new());
        }
        let known = picture.get_mut(id).unwrap();
        for uid in uids(&m.created) {
            assert!(known.insert(uid, 0).is_none(), "created means new");
            fresh.insert((*id, uid));
        }
        for uid in uids(&m.updated) {
            assert!(known.contains_key(&uid), "updated means known");
            fresh.insert((*id, uid));
        }
        for uid in uids(&m.vanished) {
            known.remove(&uid);
            fresh.remove(&(*id, uid));
        }
    }
}

fn same(got: &Picture, want: &Picture, fresh: &BTreeSet<(MailboxId, Uid)>) {
    let uids = |p: &Picture| -> Vec<(MailboxId, Vec<Uid>)> {
        let boxes = p.iter();
        boxes
            .map(|(m, u)| (*m, u.keys().copied().collect()))
            .collect()
    };
    assert_eq!(uids(got), uids(want));
    for (mailbox, messages) in want {
        for (uid, modseq) in messages {
            if !fresh.contains(&(*mailbox, *uid)) {
                assert_eq!(got[mailbox][uid], *modseq, "changed and not told");
            }
        }
    }
}

fn run(steps: &[Step], since: prop::sample::Index, limit: u32) {
    let runtime = tokio::runtime::Builder::new_current_thread().build();
    runtime.unwrap().block_on(async {
        let mut world = World::new().await;
        for step in steps {
            world.step(step).await;
        }
        let points: Vec<ModSeq> = world.pictures.keys().copied().collect();
        let highest = *points.last().unwrap();
        let since = *since.get(&points);

        let mut picture = world.pictures[&since].clone();
        let mut fresh = BTreeSet::new();
        let mut at = since;
        loop {
            let changes = world.changes(0, at, limit).await.unwrap();
            assert!(changes.up_to <= highest && changes.up_to - at <= u64::from(limit));
            assert_eq!(changes.more, changes.up_to < highest);
            apply(&mut picture, &changes, &mut fresh);
            at = changes.up_to;
            if let Some(want) = world.pictures.get(&at) {
                same(&picture, want, &fresh);
            }
            if !changes.more {
                break;
            }
        }
        assert_eq!(at, highest);

        // What is shown no more is told, unless it went with its mailbox; what is shown is not.
        let all = world.changes(0, since, 0).await.unwrap();
        let destroyed: Vec<_> = all
            .mailboxes
            .values()
            .map(|m| &m.destroyed_emails)
            .collect();
        let told = |email: &EmailId| {
            let mut ranges = destroyed.iter().copied().flatten();
            ranges.any(|(first, last)| first <= email && email <= last)
        };
        let (before, now) = (&world.emails[&since], &world.emails[&highest]);
        assert!(!now.iter().any(told));
        let whole = all.mailboxes.values().all(|m| !m.destroyed);
        assert!(!whole || before.difference(now).all(told));

        // One mailbox says of itself what the account says of it.
        let nothing = MailboxChanges::default();
        for mailbox in world.pictures[&highest].keys() {
            let one = world.changes(mailbox.0, since, 0).await.unwrap();
            assert!(one.mailboxes.keys().all(|m| m == mailbox));
            assert_eq!(one.up_to, highest);
            let (got, want) = (one.mailboxes.get(mailbox), all.mailboxes.get(mailbox));
            assert_eq!(got.unwrap_or(&nothing), want.unwrap_or(&nothing));
        }
    });
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn an_old_picture_and_the_changes_give_the_new_one(
        steps in prop::collection::vec(step(), 1..40),
        since in any::<prop::sample::Index>(),
        limit in 1u32..20,
    ) {
        run(&steps, since, limit);
    }
}

#[tokio::test]
async fn what_came_and_went_is_among_the_vanished() {
    let mut world = World::new().await;
    world.store("INBOX").await;
    let since = *world.pictures.keys().last().unwrap();
    world.store("INBOX").await;
    world.store("INBOX").await;
    world.step(&Step::Flag(0, vec![(1, 3)], 1)).await;
    world.step(&Step::Expunge(0, vec![(2, 2)])).await;
    world.step(&Step::Account).await;
    let changes = world.changes(0, since, 0).await.unwrap();
    let inbox = MailboxChanges {
        created: vec![(3, 3)],
        updated: vec![(1, 1)],
        vanished: vec![(2, 2)],
        destroyed_emails: vec![(EmailId(2), EmailId(2))],
        ..MailboxChanges::default()
    };
    assert_eq!(changes.mailboxes, BTreeMap::from([(MailboxId(1), inbox)]));
    assert!(changes.account_changed && !changes.more);
    assert_eq!(changes.up_to, since + 5);
}

#[tokio::test]
async fn forgotten_changes_and_modseqs_of_others_are_too_old() {
    let mut world = World::new().await;
    for _ in 0..10 {
        world.store("INBOX").await;
    }
    world.step(&Step::Create(1)).await;
    let before = *world.pictures.keys().last().unwrap();
    world.time_ms += 31 * DAY_MS;
    for _ in 0..5 {
        world.store("Work").await;
    }
    let view = world.shard.local_view().unwrap();
    let (_, row) = find(&view, &world.account).unwrap();
    let trimmed = row.trimmed_modseq;
    assert!(trimmed >= before, "{trimmed}");
    for since in [0, trimmed - 1, row.highest_modseq + 1, ModSeq::MAX] {
        assert_eq!(
            world.changes(0, since, 0).await,
            Err(MailboxError::TooOld { since })
        );
    }
    assert!(world.changes(0, trimmed, 0).await.is_ok());
    let last = world.changes(0, row.highest_modseq, 0).await.unwrap();
    assert_eq!((last.up_to, last.more), (row.highest_modseq, false));
    // A mailbox that rests since then needs no history.
    let inbox = world.changes(1, before - 1, 0).await.unwrap();
    assert_eq!(
        (inbox.up_to, inbox.mailboxes.len()),
        (row.highest_modseq, 0)
    );
    assert!(world.changes(1, 3, 0).await.is_err());
    assert_eq!(
        world.changes(9, before, 0).await,
        Err(MailboxError::NotFound(What::Mailbox))
    );
}
