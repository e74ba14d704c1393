//! Threads of RFC 5256 and of mail that is meant to be misunderstood.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;
use crate::types::EmailId;

/// A message of a test: id, references, subject, minute it was sent at.
#[derive(Debug, Clone)]
struct Mail {
    id: String,
    references: Vec<String>,
    in_reply_to: Vec<String>,
    subject: String,
    sent: u32,
}

fn mail(id: &str, references: &str, subject: &str, sent: u32) -> Mail {
    Mail {
        id: id.to_owned(),
        references: references.split_whitespace().map(String::from).collect(),
        in_reply_to: Vec::new(),
        subject: subject.to_owned(),
        sent,
    }
}

fn threads(mails: &[Mail]) -> Vec<ThreadNode> {
    let mut threader = Threader::default();
    for (uid, mail) in (1..).zip(mails) {
        let mut summary = Summary::default();
        summary.envelope.message_id = mail.id.clone();
        summary.envelope.references = mail.references.clone();
        summary.envelope.in_reply_to = mail.in_reply_to.clone();
        summary.envelope.subject = mail.subject.clone();
        let row = MessageRow {
            flags: 0,
            keywords: vec![],
            modseq: 1,
            email: EmailId(1),
            size: 1,
            internal_date_ms: u64::from(mail.sent) * 60_000,
            save_date_ms: 0,
        };
        threader.add(uid, &row, &summary);
    }
    futures::executor::block_on(threader.finish()).collect()
}

/// Threads in the way of the RFC: a place is its uid, "-" where there is none, and its children
/// in brackets.
fn shown(mails: &[Mail]) -> String {
    let nodes = threads(mails);
    let mut out = String::new();
    let mut depth = 0;
    for (n, node) in nodes.iter().enumerate() {
        if n > 0 {
            match node.depth > depth {
                true => out.push('('),
                false => {
                    (node.depth..depth).for_each(|_| out.push(')'));
                    out.push(' ');
                }
            }
        }
        depth = node.depth;
        match node.uid {
            0 => out.push('-'),
            uid => out.push_str(&uid.to_string()),
        }
    }
    (0..depth).for_each(|_| out.push(')'));
    out
}

#[test]
fn references_make_a_tree() {
    let mails = [
        mail("a", "", "x", 1),
        mail("b", "a", "Re: x", 2),
        mail("c", "a b", "Re: x", 3),
        mail("d", "a", "Re: x", 4),
        mail("e", "", "y", 5),
    ];
    assert_eq!(shown(&mails), "1(2(3) 4) 5");
    // In whatever order they arrived.
    let backwards: Vec<Mail> = mails.iter().rev().cloned().collect();
    assert_eq!(shown(&backwards), "5(4(3) 2) 1");
}

#[test]
fn in_reply_to_counts_only_without_references_and_only_its_first_id() {
    let mut reply = mail("b", "", "other", 2);
    reply.in_reply_to = vec!["a".into(), "c".into()];
    let mails = [mail("a", "", "x", 1), reply.clone(), mail("c", "", "z", 3)];
    assert_eq!(shown(&mails), "1(2) 3");
    reply.references = vec!["c".into()];
    assert_eq!(
        shown(&[mail("a", "", "x", 1), reply, mail("c", "", "z", 3)]),
        "1 3(2)"
    );
}

#[test]
fn a_missing_parent_stands_for_several_children_and_vanishes_for_one() {
    let siblings = [mail("b", "a", "x", 1), mail("c", "a", "y", 2)];
    assert_eq!(shown(&siblings), "-(1 2)");
    assert_eq!(shown(&[mail("b", "a0 a", "x", 1)]), "1");
    // Below a message all missing ones vanish.
    let below = [
        mail("r", "", "x", 1),
        mail("s", "r gone1 gone2", "p", 3),
        mail("t", "r gone1", "q", 2),
    ];
    assert_eq!(shown(&below), "1(3 2)");
    // A chain of missing ones at the top is one missing one.
    let chain = [mail("u", "g1 g2 g3", "x", 1), mail("v", "g1 g2", "y", 2)];
    assert_eq!(shown(&chain), "-(1 2)");
}

#[test]
fn the_own_references_win_over_what_others_say() {
    // The second's references leave out its parent, the third's tell of another one.
    let mails = [
        mail("a", "", "x", 1),
        mail("c", "a b", "x", 3),
        mail("b", "z", "q", 2),
        mail("z", "", "zz", 4),
    ];
    assert_eq!(shown(&mails), "1 4(3(2))");
    // Without references, nobody makes it a child.
    let mails = [
        mail("c", "a b", "y", 3),
        mail("b", "", "q", 2),
        mail("a", "", "x", 1),
    ];
    assert_eq!(shown(&mails), "3 2(1)");
}

#[test]
fn circles_are_not_closed() {
    assert_eq!(shown(&[mail("a", "a", "x", 1)]), "1");
    let mails = [mail("a", "b", "x", 1), mail("b", "a", "y", 2)];
    assert_eq!(shown(&mails), "2(1)");
    let mails = [
        mail("a", "c", "x", 1),
        mail("b", "a", "y", 2),
        mail("c", "b", "z", 3),
    ];
    assert_eq!(shown(&mails), "3(1(2))");
    assert_eq!(shown(&[mail("a", "x y x y z x", "s", 1)]), "1");
}

#[test]
fn one_id_belongs_to_the_first_message_that_has_it() {
    let mails = [
        mail("a", "", "x", 1),
        mail("a", "", "y", 2),
        mail("b", "a", "z", 3),
        mail("", "a", "w", 4),
        mail("", "", "v", 5),
    ];
    assert_eq!(shown(&mails), "1(3 4) 2 5");
}

#[test]
fn one_subject_gathers_threads() {
    // A reply under its original.
    let of = |subjects: &[&str]| {
        let mails: Vec<Mail> = (1..)
            .zip(subjects)
            .map(|(n, subject)| mail(&format!("m{n}"), "", subject, n))
            .collect();
        shown(&mails)
    };
    assert_eq!(of(&["post", "Re: POST"]), "1(2)");
    assert_eq!(of(&["Re: post", "post"]), "2(1)");
    assert_eq!(of(&["post", "post"]), "-(1 2)");
    assert_eq!(of(&["Re: post", "Fwd: post"]), "-(1 2)");
    assert_eq!(of(&["post", "post", "post", "Re: post"]), "-(1 2 3 4)");
    assert_eq!(of(&["post", "Re: post", "post"]), "-(1(2) 3)");
    assert_eq!(of(&["", "", "Re:"]), "1 2 3");
    assert_eq!(
        of(&["[list] post", "Re: [list] post (fwd)", "other"]),
        "1(2) 3"
    );
}

#[test]
fn dummies_gather_by_the_subject_of_their_first_child() {
    let two = |gone: &str, subject: &str, sent: u32| {
        [
            mail(&format!("{gone}1"), gone, subject, sent),
            mail(&format!("{gone}2"), gone, "else", sent + 1),
        ]
    };
    let [a, b] = two("g", "post", 1);
    let [c, d] = two("h", "Re: post", 3);
    assert_eq!(shown(&[a.clone(), b.clone(), c, d]), "-(1 2 3 4)");
    let alone = mail("x", "", "post", 9);
    assert_eq!(shown(&[a.clone(), b.clone(), alone.clone()]), "-(1 2 3)");
    assert_eq!(shown(&[alone, a, b]), "-(2 3 1)");
}

#[test]
fn siblings_go_by_date_and_then_by_uid() {
    let mails = [
        mail("c", "a", "Re: x", 9),
        mail("b", "a", "Re: x", 5),
        mail("d", "a", "Re: x", 5),
        mail("a", "", "x", 7),
        mail("e", "", "y", 6),
    ];
    assert_eq!(shown(&mails), "5 4(2 3 1)");
}

/// What holds of all threads: every message once, depths without gaps, missing ones only where a
/// thread begins and with at least two below.
fn check_sound(nodes: &[ThreadNode], count: usize) {
    let uids: BTreeSet<Uid> = nodes.iter().map(|n| n.uid).filter(|u| *u != 0).collect();
    let messages = nodes.iter().filter(|n| n.uid != 0).count();
    assert_eq!((uids.len(), messages), (count, count));
    let mut depth = 0;
    for (n, node) in nodes.iter().enumerate() {
        assert!(node.depth <= depth, "{nodes:?}");
        depth = node.depth + 1;
        if node.uid == 0 {
            assert_eq!(node.depth, 0);
            let below = nodes[n + 1..].iter().take_while(|n| n.depth > 0);
            assert!(below.filter(|n| n.depth == 1).count() > 1, "{nodes:?}");
        }
    }
}

/// The same algorithm as the RFC tells it, step by step, without regard to cost.
fn by_the_book(mails: &[Mail]) -> BTreeMap<String, Option<String>> {
    let mut parent: BTreeMap<String, Option<String>> = BTreeMap::new();
    let mut taken = BTreeSet::new();
    let would_loop = |parents: &BTreeMap<String, Option<String>>, from: &str, to: &str| {
        let mut at = Some(from.to_owned());
        while let Some(id) = at {
            if id == to {
                return true;
            }
            at = parents.get(&id).cloned().flatten();
        }
        false
    };
    for (n, mail) in mails.iter().enumerate() {
        let own = match mail.id.is_empty() || !taken.insert(mail.id.clone()) {
            true => format!("unique {n}"),
            false => mail.id.clone(),
        };
        parent.entry(own.clone()).or_default();
        let mut last: Option<String> = None;
        for id in &mail.references {
            parent.entry(id.clone()).or_default();
            if let Some(last) = &last
                && parent[id].is_none()
                && !would_loop(&parent, last, id)
            {
                parent.insert(id.clone(), Some(last.clone()));
            }
            last = Some(id.clone());
        }
        if parent[&own] != last {
            parent.insert(own.clone(), None);
            if let Some(last) = last.filter(|last| !would_loop(&parent, last, &own)) {
                parent.insert(own, Some(last));
            }
        }
    }
    parent
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn any_references_make_sound_threads(
        mails in proptest::collection::vec(
            (0u8..12, proptest::collection::vec(0u8..12, 0..5), 0u8..6, any::<bool>(), 0u32..9), 0..14),
        subjects: bool,
    ) {
        let name = |n: u8| match n { 0 => String::new(), n => format!("id{n}") };
        let mails: Vec<Mail> = mails.into_iter().map(|(id, refs, subject, reply, sent)| Mail {
            id: name(id),
            references: refs.into_iter().filter(|n| *n > 0).map(name).collect(),
            in_reply_to: vec![],
            subject: match subjects {
                true => format!("{}{}", if reply { "Re: " } else { "" }, ["", "a", "b", "c", "d", "e"][subject as usize]),
                false => String::new(),
            },
            sent,
        }).collect();
        let nodes = threads(&mails);
        check_sound(&nodes, mails.len());
        if subjects { return Ok(()); }

        // Without subjects, the nearest message above is what links say.
        let parents = by_the_book(&mails);
        let mut taken = BTreeSet::new();
        let ids: Vec<String> = mails.iter().enumerate().map(|(n, mail)| {
            match mail.id.is_empty() || !taken.insert(mail.id.clone()) {
                true => format!("unique {n}"),
                false => mail.id.clone(),
            }
        }).collect();
        let mut stack: Vec<Uid> = Vec::new();
        for node in &nodes {
            stack.truncate(node.depth as usize);
            let above = stack.last().copied().unwrap_or(0);
            stack.push(node.uid);
            if node.uid == 0 { continue; }
            let mut at = parents[&ids[node.uid as usize - 1]].clone();
            let mut expected = 0;
            while let Some(id) = at {
                if let Some(n) = ids.iter().position(|own| *own == id) {
                    expected = n as Uid + 1;
                    break;
                }
                at = parents[&id].clone();
            }
            prop_assert_eq!(above, expected, "{:?} in {:?}", node, nodes);
        }
    }
}

#[test]
fn deep_and_hostile_references_cost_little() {
    let n: usize = 60_000;
    let id = |n: usize| format!("m{n}");
    let chain: Vec<Mail> = (0..n)
        .map(|i| {
            let references = (i.saturating_sub(3)..i)
                .map(id)
                .collect::<Vec<_>>()
                .join(" ");
            mail(&id(i), &references, "", i as u32)
        })
        .collect();
    let nodes = threads(&chain);
    assert_eq!(nodes.last().map(|n| n.depth), Some(n as u32 - 1));
    let backwards: Vec<Mail> = chain.iter().rev().cloned().collect();
    assert_eq!(
        threads(&backwards).last().map(|n| n.depth),
        Some(n as u32 - 1)
    );
    // Every message wants to close a circle through all of the chain.
    let circles: Vec<Mail> = (0..n)
        .map(|i| mail(&format!("c{i}"), &format!("{} m0", id(n - 1)), "", 1))
        .collect();
    let all = [chain, circles].concat();
    check_sound(&threads(&all), all.len());
    // One subject for all.
    let same: Vec<Mail> = (0..n).map(|i| mail(&id(i), "", "x", 1)).collect();
    assert_eq!(threads(&same).len(), n + 1);
}
