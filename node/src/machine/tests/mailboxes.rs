//! Mailboxes: what each operation does beside what the model checks (`model`).

use super::*;
use crate::index::keys::tag;
use crate::index::values::{AccountRow, ChangeKind, ChangeRow, MailboxRow};
use crate::machine::{limits, read};

const ANN: &str = "ann@x";

fn name(name: &str) -> MailboxName {
    MailboxName::new(name).unwrap()
}

fn create(mailbox: &str) -> Op {
    Op::CreateMailbox {
        request_id: fresh(),
        account: account(ANN),
        mailbox: name(mailbox),
        special_use: 0,
    }
}

fn delete(mailbox: impl Into<MailboxRef>) -> Op {
    Op::DeleteMailbox {
        request_id: fresh(),
        account: account(ANN),
        mailbox: mailbox.into(),
    }
}

fn rename(from: &str, to: &str) -> Op {
    Op::RenameMailbox {
        request_id: fresh(),
        account: account(ANN),
        mailbox: name(from).into(),
        to: name(to),
    }
}

fn annotate(mailbox: Option<&str>, entries: &[(&str, Option<&[u8]>)]) -> Op {
    Op::SetMetadata {
        request_id: fresh(),
        account: account(ANN),
        mailbox: mailbox.map(|m| name(m).into()),
        entries: entries
            .iter()
            .map(|(entry, value)| (entry.to_string(), value.map(<[u8]>::to_vec)))
            .collect(),
    }
}

fn subscribe(mailbox: &str, on: bool) -> Op {
    Op::Subscribe {
        request_id: fresh(),
        account: account(ANN),
        mailbox: name(mailbox),
        on,
    }
}

impl Bench {
    fn mailbox(&self, id: AccountId, mailbox: &str) -> Option<(MailboxId, MailboxRow)> {
        let which = name(mailbox).into();
        read::mailbox(&*self.index, self.space, id, &which).unwrap()
    }

    fn mailbox_names(&self, id: AccountId) -> Vec<String> {
        let boxes = read::mailboxes(&*self.index, self.space, id).unwrap();
        let mut names: Vec<String> = boxes.iter().map(|(_, m)| m.name.to_string()).collect();
        names.sort();
        names
    }

    fn account_row(&self, id: AccountId) -> AccountRow {
        self.get(Key::Account(id)).unwrap()
    }

    /// The changes after a modseq.
    fn changes(&self, id: AccountId, since: ModSeq) -> Vec<(u32, ChangeKind)> {
        let top = self.account_row(id).highest_modseq;
        (since + 1..=top)
            .map(|modseq| {
                let change: ChangeRow = self
                    .get(Key::Change {
                        account: id,
                        modseq,
                    })
                    .unwrap();
                (change.mailbox.0, change.kind)
            })
            .collect()
    }

    fn fill(&mut self, mailbox: &str, messages: usize) {
        for n in 0..messages {
            let octets = format!("{mailbox} {n}");
            let to = vec![target(fresh(), ANN, mailbox, &["\\Deleted", "k"])];
            let reply = self.apply(store_targets(to, octets.as_bytes()));
            assert!(
                matches!(&reply, Reply::Stored(r) if matches!(r[..], [StoreResult::Stored { .. }]))
            );
        }
    }

    fn reap_mailboxes(&mut self, limit: u32) -> usize {
        let mut steps = 0;
        while let Some((account, mailbox)) =
            read::reapable_mailbox(&*self.index, self.space).unwrap()
        {
            let op = Op::ReapMailbox {
                account,
                mailbox,
                limit,
            };
            assert!(matches!(self.apply(op), Reply::Reaped { .. }));
            self.audit();
            steps += 1;
        }
        steps
    }
}

fn refused(reply: Reply) -> String {
    match reply {
        Reply::Error(ApplyError::Refused(why) | ApplyError::Limit(why)) => why,
        other => panic!("{other:?}"),
    }
}

#[test]
fn parents_are_made_with_their_child_and_have_no_special_use() {
    let mut b = Bench::new();
    let id = b.create(ANN);
    let op = Op::CreateMailbox {
        request_id: fresh(),
        account: account(ANN),
        mailbox: name("a/b/c"),
        special_use: 0b10_0001,
    };
    let first = b.apply(op.clone());
    let Reply::Mailbox {
        mailbox,
        uidvalidity,
        modseq,
    } = first
    else {
        panic!("{first:?}")
    };
    assert_eq!((mailbox, modseq), (MailboxId(4), 4));
    assert_eq!(b.mailbox_names(id), ["INBOX", "a", "a/b", "a/b/c"]);
    let made = ChangeKind::MailboxCreated;
    assert_eq!(b.changes(id, 1), [(2, made), (3, made), (4, made)]);
    let uses = ["a", "a/b", "a/b/c"].map(|m| b.mailbox(id, m).unwrap().1.special_use);
    assert_eq!(uses, [0, 0, 0b10_0001]);
    assert_eq!(b.mailbox(id, "a/b/c").unwrap().1.uidvalidity, uidvalidity);
    assert_eq!(b.apply(op), first);
    assert_eq!(b.apply(create("a/b")), Reply::Error(ApplyError::Exists));
    let op = Op::CreateMailbox {
        request_id: fresh(),
        account: account(ANN),
        mailbox: name("d"),
        special_use: 1 << 8,
    };
    refused(b.apply(op));
    b.audit();
}

#[test]
fn an_account_has_a_bounded_number_of_mailboxes() {
    let mut b = Bench::new();
    let id = b.create(ANN);
    let mut row = b.account_row(id);
    // As if there were so many: counting them would take long.
    row.mailboxes = limits::MAILBOXES_PER_ACCOUNT - 2;
    let mut batch = crate::index::Batch::default();
    let key = Key::Account(id);
    batch.put(key.family(), key.encode(b.space), row.encode());
    b.index.write(batch).unwrap();
    let before = b.hash();
    refused(b.apply(create("a/b/c")));
    assert_eq!(b.hash(), before, "a refused command left a trace");
    assert!(matches!(b.apply(create("a/b")), Reply::Mailbox { .. }));
    refused(b.apply(create("c")));
}

#[test]
fn a_deleted_mailbox_leaves_the_counters_at_once_and_its_rows_in_steps() {
    let mut b = Bench::new();
    let id = b.create(ANN);
    b.apply(create("Work/Old"));
    b.fill("Work", 6);
    b.fill("INBOX", 2);
    b.apply(annotate(
        Some("Work"),
        &[("/private/comment", Some(b"mine"))],
    ));
    b.apply(subscribe("Work", true));
    let (mailbox, row) = b.mailbox(id, "Work").unwrap();
    let op = delete(name("Work"));
    let first = b.apply(op.clone());
    let top = b.account_row(id).highest_modseq;
    assert_eq!(first, Reply::Changed { modseq: top });
    assert_eq!(
        b.changes(id, top - 1),
        [(mailbox.0, ChangeKind::MailboxDeleted)]
    );
    let going = Event::MailboxGoing {
        account: id,
        mailbox,
    };
    assert!(b.events.contains(&going));
    let now = b.account_row(id);
    assert_eq!((now.mailboxes, now.messages, now.deleted), (2, 2, 2));
    assert_eq!(b.mailbox_names(id), ["INBOX", "Work/Old"]);
    b.audit();
    assert_eq!(b.apply(op), first, "a retry");

    // The name is free: another number, a higher era, no message, and the subscription still there.
    let Reply::Mailbox {
        mailbox: second,
        uidvalidity,
        ..
    } = b.apply(create("Work"))
    else {
        panic!()
    };
    assert!(second > mailbox && uidvalidity > row.uidvalidity);
    let names = read::subscriptions(&*b.index, b.space, id).unwrap();
    assert_eq!(names, ["Work"]);
    b.fill("Work", 1);

    assert!(b.reap_mailboxes(2) > 3);
    assert_eq!(b.count(tag::MESSAGE), 3);
    assert_eq!(b.count(tag::EMAIL), 3);
    assert_eq!(b.count(tag::BLOB), 3);
    assert_eq!(b.count(tag::ANNOTATION), 0);
    assert_eq!(b.count(tag::GOING_MAILBOX), 0);
    let again = Op::ReapMailbox {
        account: id,
        mailbox: second,
        limit: 5,
    };
    assert_eq!(b.apply(again), Reply::Reaped { more: false });
    assert_eq!(b.mailbox(id, "Work").unwrap().1.messages, 1);
}

#[test]
fn an_account_goes_with_its_mailboxes_that_are_going() {
    let mut b = Bench::new();
    let id = b.create(ANN);
    b.apply(create("Work"));
    b.fill("Work", 5);
    b.apply(subscribe("Work", true));
    b.apply(annotate(None, &[("/shared/comment", Some(b"all"))]));
    b.apply(delete(name("Work")));
    let op = Op::DeleteAccount {
        request_id: fresh(),
        name: account(ANN),
    };
    b.apply(op);
    let mut turn = 0;
    while read::reapable(&*b.index, b.space).unwrap().is_some() {
        // The two reapers meet in it.
        let op = match turn % 2 {
            0 => Op::ReapAccount {
                account: id,
                limit: 2,
            },
            _ => Op::ReapMailbox {
                account: id,
                mailbox: MailboxId(2),
                limit: 2,
            },
        };
        b.apply(op);
        b.audit();
        turn += 1;
    }
    for tag in 0x03..=tag::CREDENTIAL {
        if ![tag::REQUEST, tag::REQUEST_AGE].contains(&tag) {
            assert_eq!(b.count(tag), 0, "rows of tag {tag:#x} are left");
        }
    }
}

#[test]
fn what_must_not_be_deleted_or_renamed_is_refused_without_a_trace() {
    let mut b = Bench::new();
    b.create(ANN);
    b.apply(create("a/b"));
    b.apply(create("c/b"));
    let long = format!("{}/x", "l".repeat(990));
    b.apply(create(&format!("d/{}", "m".repeat(500))));
    let before = b.hash();
    let inbox = MailboxRef::Id {
        id: MailboxId(1),
        uidvalidity: 0,
    };
    refused(b.apply(delete(inbox)));
    refused(b.apply(delete(name("inbox"))));
    refused(b.apply(rename("INBOX", "x")));
    refused(b.apply(rename("a", "a/b/c")));
    refused(b.apply(rename("d", &long)));
    for (from, to, error) in [
        ("a", "c", ApplyError::Exists),
        ("a", "a", ApplyError::Exists),
        ("a", "Inbox", ApplyError::Exists),
        ("x", "y", ApplyError::NoMailbox),
    ] {
        assert_eq!(b.apply(rename(from, to)), Reply::Error(error));
    }
    let other = MailboxRef::Id {
        id: MailboxId(2),
        uidvalidity: 1,
    };
    let gone = Reply::Error(ApplyError::NoMailbox);
    assert_eq!(b.apply(delete(other)), gone);
    assert_eq!(b.apply(delete(name("x"))), gone);
    assert_eq!(b.hash(), before, "a refused command left a trace");
    // "c" goes, its child stays: the child of "a" would get a name that is taken.
    b.apply(delete(name("c")));
    assert_eq!(b.apply(rename("a", "c")), Reply::Error(ApplyError::Exists));
    b.audit();
}

#[test]
fn a_mailbox_is_renamed_with_its_children_and_stays_what_it_is() {
    let mut b = Bench::new();
    let id = b.create(ANN);
    for mailbox in ["a/b/c", "ab", "a.b", "a0"] {
        b.apply(create(mailbox));
    }
    b.fill("a/b", 3);
    b.apply(subscribe("a/b", true));
    let before = ["a", "a/b", "a/b/c"].map(|m| b.mailbox(id, m).unwrap());
    let top = b.account_row(id).highest_modseq;
    let op = rename("a", "x/y/z");
    let first = b.apply(op.clone());
    assert_eq!(
        first,
        Reply::Mailbox {
            mailbox: before[0].0,
            uidvalidity: before[0].1.uidvalidity,
            modseq: top + 5,
        }
    );
    assert_eq!(b.apply(op), first, "a retry does not find the old name");
    let names = [
        "INBOX",
        "a.b",
        "a0",
        "ab",
        "x",
        "x/y",
        "x/y/z",
        "x/y/z/b",
        "x/y/z/b/c",
    ];
    assert_eq!(b.mailbox_names(id), names);
    let (made, changed) = (ChangeKind::MailboxCreated, ChangeKind::MailboxChanged);
    let kinds: Vec<ChangeKind> = b.changes(id, top).into_iter().map(|(_, k)| k).collect();
    assert_eq!(kinds, [made, made, changed, changed, changed]);
    let after = ["x/y/z", "x/y/z/b", "x/y/z/b/c"].map(|m| b.mailbox(id, m).unwrap());
    for ((old, before), (new, after)) in before.into_iter().zip(after) {
        assert_eq!(old, new);
        let want = MailboxRow {
            name: after.name.clone(),
            highest_modseq: after.highest_modseq,
            ..before
        };
        assert_eq!(after, want);
    }
    assert_eq!(
        read::subscriptions(&*b.index, b.space, id).unwrap(),
        ["a/b"]
    );
    b.audit();
    // Messages are found under the new name, and the old one begins anew.
    b.fill("x/y/z/b", 1);
    assert!(matches!(b.apply(create("a/b")), Reply::Mailbox { .. }));
    assert_eq!(b.mailbox(id, "a/b").unwrap().1.messages, 0);
    b.audit();
}

#[test]
fn names_may_pass_from_one_child_to_another() {
    let mut b = Bench::new();
    let id = b.create(ANN);
    b.apply(create("a/b/b/b"));
    let ids = ["a/b", "a/b/b", "a/b/b/b"].map(|m| b.mailbox(id, m).unwrap().0);
    b.apply(delete(name("a")));
    assert!(matches!(b.apply(rename("a/b", "a")), Reply::Mailbox { .. }));
    let now = ["a", "a/b", "a/b/b"].map(|m| b.mailbox(id, m).unwrap().0);
    assert_eq!(now, ids);
    assert_eq!(b.mailbox_names(id), ["INBOX", "a", "a/b", "a/b/b"]);
    b.audit();
}

#[test]
fn a_renaming_touches_a_bounded_number_of_mailboxes() {
    let mut b = Bench::new();
    let id = b.create(ANN);
    let time_ms = b.now_ms;
    let commands: Vec<Command> = (1..limits::MAILBOXES_PER_RENAME)
        .map(|n| create(&format!("a/{n}")))
        .map(|op| Command { time_ms, op })
        .collect();
    b.batch(&commands);
    assert!(matches!(b.apply(rename("a", "b")), Reply::Mailbox { .. }));
    b.apply(create("b/one more"));
    let before = b.hash();
    refused(b.apply(rename("b", "a")));
    assert_eq!(b.hash(), before);
    let n = limits::MAILBOXES_PER_RENAME as u64 + 2;
    assert_eq!(b.account_row(id).mailboxes, n);
    b.audit();
}

#[test]
fn subscriptions_are_to_names_and_counted_once() {
    let mut b = Bench::new();
    let id = b.create(ANN);
    b.apply(create("Work"));
    let on = |b: &mut Bench, name: &str, on| match b.apply(subscribe(name, on)) {
        Reply::Changed { modseq } => modseq,
        other => panic!("{other:?}"),
    };
    assert_eq!(on(&mut b, "Work", true), 3);
    assert_eq!(on(&mut b, "Nowhere", true), 4);
    assert_eq!(on(&mut b, "inbox", true), 5);
    assert_eq!(on(&mut b, "Work", true), 5, "it was subscribed already");
    let changed = ChangeKind::MailboxChanged;
    assert_eq!(b.changes(id, 2), [(2, changed), (0, changed), (1, changed)]);
    let names = read::subscriptions(&*b.index, b.space, id).unwrap();
    assert_eq!(names, ["INBOX", "Nowhere", "Work"]);
    assert_eq!(on(&mut b, "Nowhere", false), 6);
    assert_eq!(on(&mut b, "Nowhere", false), 6);
    assert_eq!(b.account_row(id).subscriptions, 2);
    b.audit();
}

#[test]
fn special_uses_are_set_and_an_equal_set_changes_nothing() {
    let mut b = Bench::new();
    let id = b.create(ANN);
    b.apply(create("Sent"));
    let set = |special_use| Op::SetSpecialUse {
        request_id: fresh(),
        account: account(ANN),
        mailbox: name("Sent").into(),
        special_use,
    };
    assert_eq!(b.apply(set(1 << 5)), Reply::Changed { modseq: 3 });
    assert_eq!(b.apply(set(1 << 5)), Reply::Changed { modseq: 3 });
    assert_eq!(b.mailbox(id, "Sent").unwrap().1.special_use, 1 << 5);
    assert_eq!(b.mailbox(id, "Sent").unwrap().1.highest_modseq, 3);
    refused(b.apply(set(0x8000)));
    assert_eq!(b.apply(set(0)), Reply::Changed { modseq: 4 });
    b.audit();
}

#[test]
fn annotations_are_set_all_or_none() {
    let mut b = Bench::new();
    let id = b.create(ANN);
    b.apply(create("Work"));
    let own = |b: &Bench| read::annotations(&*b.index, b.space, id, MailboxId(0)).unwrap();
    let (one, two) = ("/private/one", "/shared/two");
    let op = annotate(None, &[(one, Some(b"1")), (two, Some(b""))]);
    assert_eq!(b.apply(op), Reply::Changed { modseq: 3 });
    let op = annotate(None, &[(one, Some(b"1")), ("/private/none", None)]);
    assert_eq!(b.apply(op), Reply::Changed { modseq: 3 }, "nothing changed");
    let work = annotate(Some("Work"), &[(one, Some(b"work"))]);
    assert_eq!(b.apply(work), Reply::Changed { modseq: 4 });
    let (of_account, of_mailbox) = (ChangeKind::AccountChanged, ChangeKind::MailboxChanged);
    assert_eq!(b.changes(id, 2), [(0, of_account), (2, of_mailbox)]);
    assert_eq!(
        own(&b),
        [(one.into(), b"1".to_vec()), (two.into(), Vec::new())]
    );

    let before = b.hash();
    let large = vec![0; limits::ANNOTATION_BYTES + 1];
    refused(b.apply(annotate(None, &[(one, None), (two, Some(&large))])));
    let full = vec![0; limits::ANNOTATION_BYTES];
    let entries: Vec<String> = (0..17).map(|n| format!("/private/{n}")).collect();
    let all: Vec<(&str, Option<&[u8]>)> = entries
        .iter()
        .map(|e| (e.as_str(), Some(&full[..])))
        .collect();
    refused(b.apply(annotate(None, &all)));
    let entries: Vec<String> = (0..limits::ANNOTATIONS)
        .map(|n| format!("/shared/{n}"))
        .collect();
    let all: Vec<(&str, Option<&[u8]>)> = entries
        .iter()
        .map(|e| (e.as_str(), Some(&b"x"[..])))
        .collect();
    refused(b.apply(annotate(None, &all)));
    assert_eq!(b.hash(), before, "a refused command left a trace");
    b.apply(annotate(Some("Work"), &all[1..]));
    assert_eq!(b.count(tag::ANNOTATION), 2 + limits::ANNOTATIONS);

    assert_eq!(
        b.apply(annotate(Some("Nowhere"), &[(one, None)])),
        Reply::Error(ApplyError::NoMailbox)
    );
    b.apply(annotate(None, &[(one, None), (two, Some(b"2"))]));
    assert_eq!(own(&b), [(two.into(), b"2".to_vec())]);
    b.audit();
}
