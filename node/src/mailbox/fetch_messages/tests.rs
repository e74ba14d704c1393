//! Fetching end to end, on a machine without Raft.

mod retell;

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures::{StreamExt, TryStreamExt};

use super::*;
use crate::machine::command::{CHUNK_BYTES, FlagMode, Op};
use crate::mailbox::deliver::{DeliverHead, Recipient};
use crate::mailbox::fake::{id, node, node_in, node_with, pieces};
use crate::mailbox::section::Kind;
use crate::mailbox::{Caller, Limits};

const ACCOUNT: &str = "a@x";

/// Delivers a message.
async fn deliver(ops: &Operations, octets: &[u8], flags: &[&str]) -> Uid {
    let recipient = Recipient {
        account: ACCOUNT.to_owned(),
        flags: flags.iter().map(|f| f.to_string()).collect(),
        ..Recipient::default()
    };
    static DELIVERIES: AtomicU64 = AtomicU64::new(1);
    let n = DELIVERIES.fetch_add(1, Ordering::Relaxed);
    let head = DeliverHead {
        request_id: [n.to_le_bytes(), [0; 8]].concat(),
        recipients: vec![recipient],
        ..DeliverHead::default()
    };
    let caller = Caller::default();
    let outcome = ops.deliver(&caller, head, pieces(octets, 100_000)).await;
    outcome.unwrap().results[0].outcome.clone().unwrap().uid
}

async fn with_limits(limits: Limits, mail: &[&[u8]]) -> Arc<Operations> {
    let (_, ops) = node_with(limits);
    ops.create_account(&id(1), ACCOUNT).await.unwrap();
    for octets in mail {
        deliver(&ops, octets, &[]).await;
    }
    ops
}

async fn with_mail(mail: &[&[u8]]) -> Arc<Operations> {
    with_limits(Limits::default(), mail).await
}

async fn propose(ops: &Operations, op: Op) {
    let led = ops.replica_of(&AccountName::new(ACCOUNT).unwrap()).unwrap();
    ops.propose(&led, op).await.unwrap();
}

async fn expunge(ops: &Operations, uids: Vec<(Uid, Uid)>) {
    let op = Op::Expunge {
        request_id: RequestId([uids[0].0 as u8; 16]),
        account: AccountName::new(ACCOUNT).unwrap(),
        mailbox: MailboxName::inbox().into(),
        uids,
        force: true,
    };
    propose(ops, op).await;
}

fn request() -> FetchMessages {
    FetchMessages {
        account: ACCOUNT.to_owned(),
        mailbox: "INBOX".to_owned(),
        ..FetchMessages::default()
    }
}

fn sections(sections: Vec<Section>) -> FetchMessages {
    FetchMessages {
        sections,
        ..request()
    }
}

fn part(path: &[u32], kind: Kind) -> Section {
    Section {
        path: path.to_vec(),
        kind,
        ..Section::default()
    }
}

/// Everything that a fetch gives, its pieces joined: for each message its sections.
struct Got {
    opening: Opening,
    messages: Vec<FetchedMessage>,
    sections: Vec<Vec<(Outcome, u64, Vec<u8>)>>,
    batches: usize,
}

async fn fetch(ops: &Arc<Operations>, request: FetchMessages) -> Result<Got> {
    let wanted = request.sections.len();
    let batches = ops.fetch_messages(request).await?;
    let batches: Vec<FetchBatch> = batches.try_collect().await?;
    let mut got = Got {
        opening: batches[0].opening.clone().expect("the first opens"),
        messages: Vec::new(),
        sections: Vec::new(),
        batches: batches.len(),
    };
    let mut over = true;
    for item in batches.into_iter().flat_map(|b| b.items) {
        match item {
            Item::Message(message) => {
                assert!(got.sections.last().is_none_or(|s| s.len() == wanted) && over);
                got.messages.push(message);
                got.sections.push(Vec::new());
            }
            Item::Section(piece) => {
                let all = got.sections.last_mut().expect("a message comes first");
                if over {
                    assert_eq!(piece.index as usize, all.len());
                    all.push((piece.outcome, piece.left, Vec::new()));
                }
                let (outcome, size, octets) = &mut all[piece.index as usize];
                assert_eq!(
                    (*outcome, *size),
                    (piece.outcome, octets.len() as u64 + piece.left)
                );
                octets.extend_from_slice(&piece.data);
                over = piece.last;
            }
        }
    }
    assert!(over);
    Ok(got)
}

/// The octets of the only message's sections.
async fn octets(ops: &Arc<Operations>, sections_: Vec<Section>) -> Vec<Vec<u8>> {
    let got = fetch(ops, sections(sections_)).await.unwrap();
    assert_eq!(got.sections.len(), 1);
    let data = |(outcome, size, octets): (Outcome, u64, Vec<u8>)| {
        assert_eq!(outcome, Outcome::Data);
        assert_eq!(size, octets.len() as u64);
        octets
    };
    let mut got = got.sections;
    got.remove(0).into_iter().map(data).collect()
}

fn uids(got: &Got) -> Vec<Uid> {
    got.messages.iter().map(|m| m.uid).collect()
}

#[tokio::test]
async fn rows_are_given_as_they_are_asked_for() {
    let mail = b"Subject: s\r\nContent-Type: text/plain\r\n\r\nA text.\r\n";
    let ops = with_mail(&[]).await;
    for n in 0..50 {
        deliver(
            &ops,
            mail,
            if n % 2 == 0 {
                &["\\Seen", "$Even"]
            } else {
                &[]
            },
        )
        .await;
    }
    expunge(&ops, vec![(10, 12)]).await;
    let all = fetch(&ops, request()).await.unwrap();
    assert_eq!(uids(&all), (1..10).chain(13..=50).collect::<Vec<_>>());
    assert_eq!(all.batches, 1);
    let (odd, even) = (&all.messages[0], &all.messages[1]);
    assert_eq!((odd.row.flags, odd.row.size), (1, mail.len() as u64));
    assert_eq!(all.opening.keywords[&odd.row.keywords[0]], "$Even");
    assert!(even.row.keywords.is_empty() && even.row.save_date_ms > 0 && odd.cold.is_none());

    let some = FetchMessages {
        uids: vec![(45, 0), (2, 3), (9, 14), (3, 3)],
        email: true,
        envelope: true,
        ..request()
    };
    let some = fetch(&ops, some).await.unwrap();
    assert_eq!(uids(&some), [2, 3, 9, 13, 14, 45, 46, 47, 48, 49, 50]);
    let cold = some.messages[0].cold.as_ref().unwrap();
    assert_eq!(cold.email.unwrap().0, BlobId::of(mail));
    assert_eq!(cold.envelope.as_ref().unwrap().subject, "s");
    assert!(cold.structure.is_empty() && cold.preview.is_empty());

    let rest = FetchMessages {
        structure: true,
        preview: true,
        uids: vec![(7, 7)],
        ..request()
    };
    let rest = fetch(&ops, rest).await.unwrap();
    let cold = rest.messages[0].cold.as_ref().unwrap();
    assert_eq!(
        (cold.structure[0].sub_type.as_str(), cold.preview.as_str()),
        ("plain", "A text.")
    );
    assert!(cold.envelope.is_none() && cold.email.is_none());
}

#[tokio::test]
async fn only_what_changed_since_is_given() {
    let ops = with_mail(&[b"1", b"2", b"3"]).await;
    let before = fetch(&ops, request()).await.unwrap().opening.highest_modseq;
    let set = Op::SetFlags {
        request_id: RequestId([9; 16]),
        account: AccountName::new(ACCOUNT).unwrap(),
        mailbox: MailboxName::inbox().into(),
        uids: vec![(2, 2)],
        mode: FlagMode::Add,
        flags: vec!["\\Flagged".to_owned()],
        unchanged_since: None,
    };
    let since = |changed_since| FetchMessages {
        changed_since,
        ..request()
    };
    assert!(uids(&fetch(&ops, since(before)).await.unwrap()).is_empty());
    propose(&ops, set).await;
    assert_eq!(uids(&fetch(&ops, since(before)).await.unwrap()), [2]);
    assert_eq!(uids(&fetch(&ops, since(before - 1)).await.unwrap()), [2, 3]);
}

#[tokio::test]
async fn a_mailbox_is_named_by_its_number_too() {
    let ops = with_mail(&[b"1"]).await;
    let by = |mailbox: &str, mailbox_id, uidvalidity| FetchMessages {
        mailbox: mailbox.to_owned(),
        mailbox_id,
        uidvalidity,
        ..request()
    };
    let page = ops.list_mailboxes(ACCOUNT).await.unwrap().mailboxes;
    let (number, validity) = (page[0].id.0, page[0].uidvalidity);
    for good in [
        by("", number, 0),
        by("ignored", number, validity),
        by("inbox", 0, validity),
    ] {
        assert_eq!(uids(&fetch(&ops, good).await.unwrap()), [1]);
    }
    let missing = |r: Result<Got>| r.err() == Some(MailboxError::NotFound(What::Mailbox));
    assert!(missing(fetch(&ops, by("", number, validity + 1)).await));
    assert!(missing(fetch(&ops, by("", 99, 0)).await));
    assert!(missing(fetch(&ops, by("INBOX", 0, validity + 1)).await));
    assert!(missing(fetch(&ops, by("other", 0, 0)).await));
    let bad = sections(vec![part(&[0], Kind::All)]);
    assert!(matches!(
        fetch(&ops, bad).await.err(),
        Some(MailboxError::BadRequest { field, .. }) if field == "sections[0].path"
    ));
}

fn noise(len: usize) -> Vec<u8> {
    let mut out = vec![0; len];
    blake3::Hasher::new().finalize_xof().fill(&mut out);
    out
}

fn base64(octets: &[u8]) -> Vec<u8> {
    let digits = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = Vec::new();
    for line in octets.chunks(57) {
        for three in line.chunks(3) {
            let mut group = [0; 4];
            group[1..=three.len()].copy_from_slice(three);
            let n = u32::from_be_bytes(group);
            for i in 0..4 {
                out.push(match i <= three.len() {
                    true => digits[(n >> (18 - 6 * i)) as usize & 63],
                    false => b'=',
                });
            }
        }
        out.extend_from_slice(b"\r\n");
    }
    out
}

/// A message of several chunks, its header, and the octets that its second part encodes.
fn large() -> (Vec<u8>, Vec<u8>, Vec<u8>) {
    let header = b"Subject: large\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n".to_vec();
    let attached = noise(2_000_000);
    let mail = [
        &header[..],
        b"--b\r\n\r\nA text.\r\n--b\r\nContent-Transfer-Encoding: base64\r\n\r\n",
        &base64(&attached),
        b"--b--\r\n",
    ]
    .concat();
    (mail, header, attached)
}

#[tokio::test]
async fn sections_of_several_chunks_are_slices_of_the_message() {
    let (mail, header, attached) = large();
    let encoded = base64(&attached);
    let encoded = &encoded[..encoded.len() - 2];
    let ops = with_mail(&[&mail]).await;
    let slice = |section: Section, offset, length| Section {
        offset,
        length,
        ..section
    };
    let decoded = Section {
        decode: true,
        ..part(&[2], Kind::All)
    };
    let chunk = u64::from(CHUNK_BYTES);
    let got = octets(
        &ops,
        vec![
            part(&[], Kind::All),
            part(&[], Kind::Header),
            part(&[1], Kind::All),
            part(&[2], Kind::All),
            decoded.clone(),
            slice(part(&[], Kind::All), chunk - 3, 7),
            slice(part(&[2], Kind::All), 2 * chunk, 0),
            slice(decoded.clone(), 1_500_000, 300_000),
            slice(decoded.clone(), 3, 10),
            slice(decoded.clone(), 1_999_990, 1000),
            slice(decoded.clone(), 5_000_000, 1),
            slice(part(&[], Kind::Fields(vec!["subject".into()])), 3, 7),
        ],
    )
    .await;
    let at = chunk as usize;
    let expected: [&[u8]; 12] = [
        &mail,
        &header,
        b"A text.",
        encoded,
        &attached,
        &mail[at - 3..at + 4],
        &encoded[2 * at..],
        &attached[1_500_000..1_800_000],
        &attached[3..13],
        &attached[1_999_990..],
        b"",
        b"ject: l",
    ];
    for (i, (got, expected)) in got.iter().zip(expected).enumerate() {
        assert!(got == expected, "section {i}");
    }
}

#[tokio::test]
async fn sizes_come_without_octets() {
    let (mail, ..) = large();
    let ops = with_mail(&[&mail]).await;
    let size = |section: Section| Section {
        size_only: true,
        ..section
    };
    let decoded = Section {
        decode: true,
        ..part(&[2], Kind::All)
    };
    let asked = vec![
        size(part(&[], Kind::All)),
        size(decoded),
        size(part(&[1], Kind::All)),
        size(part(&[7], Kind::All)),
    ];
    let got = fetch(&ops, sections(asked)).await.unwrap();
    let sizes: Vec<_> = got.sections[0]
        .iter()
        .map(|(o, size, _)| (*o, *size))
        .collect();
    assert_eq!(
        sizes,
        [
            (Outcome::Data, mail.len() as u64),
            (Outcome::Data, 2_000_000),
            (Outcome::Data, 7),
            (Outcome::NoSuchPart, 0),
        ]
    );
    assert!(
        got.sections[0]
            .iter()
            .all(|(_, _, octets)| octets.is_empty())
    );
}

#[tokio::test]
async fn small_bodies_follow_each_other_in_few_batches() {
    let bodies: Vec<Vec<u8>> = (0..200)
        .map(|n| [b"Subject: s\r\n\r\n", &noise(n * 37)[..]].concat())
        .collect();
    let bodies: Vec<&[u8]> = bodies.iter().map(|b| &b[..]).collect();
    // A window that holds three of them or so: a group is let in alone, and nobody starves.
    for limits in [
        Limits::default(),
        Limits {
            node_read_window_bytes: 20_000,
            ..Limits::default()
        },
    ] {
        let ops = with_limits(limits, &bodies).await;
        let asked = vec![part(&[], Kind::All), part(&[], Kind::Text)];
        let got = fetch(&ops, sections(asked)).await.unwrap();
        for (sections, body) in got.sections.iter().zip(&bodies) {
            assert!(sections[0].2 == *body && sections[1].2 == body[14..]);
        }
        assert_eq!(got.sections.len(), 200);
        let total: usize = bodies.iter().map(|b| 2 * b.len()).sum();
        assert!(got.batches <= 2 + total / 150_000, "{}", got.batches);
    }
}

#[tokio::test]
async fn what_is_expunged_meanwhile_is_left_out_and_what_comes_meanwhile_too() {
    let big = noise(400_000);
    let mail: Vec<Vec<u8>> = (0..20u8).map(|n| [&[n][..], &big].concat()).collect();
    let mail: Vec<&[u8]> = mail.iter().map(|m| &m[..]).collect();
    let ops = with_mail(&mail).await;
    let asked = sections(vec![part(&[], Kind::All)]);
    let mut batches = ops.fetch_messages(asked).await.unwrap().boxed();
    let mut seen = std::collections::BTreeMap::new();
    let mut uid = 0;
    let mut first = true;
    while let Some(batch) = batches.next().await {
        for item in batch.unwrap().items {
            match item {
                Item::Message(m) => uid = m.uid,
                Item::Section(s) => *seen.entry(uid).or_insert(0) += s.data.len(),
            }
        }
        if std::mem::take(&mut first) {
            expunge(&ops, vec![(9, 12), (20, 20)]).await;
            deliver(&ops, b"new", &[]).await;
        }
    }
    let uids: Vec<_> = seen.keys().copied().collect();
    assert_eq!(uids, (1..9).chain(13..20).collect::<Vec<_>>());
    assert!(seen.values().all(|n| *n == 400_001));
}

#[tokio::test]
async fn parts_beyond_the_summary_are_found_in_the_octets() {
    // The summary keeps 200 parts of these, or fewer.
    let mut mail = b"Content-Type: multipart/mixed; boundary=b\n\n".to_vec();
    for n in 0..900 {
        let name = format!("{n}").repeat(60);
        mail.extend_from_slice(
            format!(
                "--b\nContent-Type: application/x; name=\"{name}\"\nContent-Location: {name}\n\npart {n}\n"
            )
            .as_bytes(),
        );
    }
    mail.extend_from_slice(b"--b--\n");
    let ops = with_mail(&[&mail]).await;
    let got = octets(
        &ops,
        vec![
            part(&[3], Kind::All),
            part(&[850], Kind::All),
            part(&[899], Kind::All),
        ],
    )
    .await;
    assert_eq!(got, [&b"part 2"[..], b"part 849", b"part 898"]);
    let asked = FetchMessages {
        structure: true,
        ..sections(vec![part(&[901], Kind::All), part(&[2, 1], Kind::Mime)])
    };
    let got = fetch(&ops, asked).await.unwrap();
    let cold = got.messages[0].cold.as_ref().unwrap();
    assert_eq!((cold.truncated, cold.structure.len()), (false, 901));
    let name = ("name".to_owned(), "899".repeat(60));
    assert_eq!(cold.structure[900].params, [name]);
    assert!(got.sections[0].iter().all(|s| s.0 == Outcome::NoSuchPart));
}

#[tokio::test]
async fn hostile_messages_cost_no_more_than_their_octets() {
    let nested = "Content-Type: message/rfc822\n\n".repeat(20_000);
    let unclosed: String = (0..5000)
        .map(|i| format!("Content-Type: multipart/mixed; boundary=b{i}\n\n--b{i}\n"))
        .collect();
    let header = [b"X: ".repeat(700_000), vec![0; 100_000]].concat();
    let blank = b"\n".repeat(1_200_000);
    let equals = [
        &b"Content-Transfer-Encoding: quoted-printable\n\n"[..],
        &b"= ".repeat(600_000),
    ]
    .concat();
    let mail: [&[u8]; 6] = [
        nested.as_bytes(),
        unclosed.as_bytes(),
        &header,
        &blank,
        &equals,
        b"",
    ];
    let ops = with_mail(&mail).await;
    let decoded = Section {
        decode: true,
        ..part(&[1], Kind::All)
    };
    let asked = vec![
        part(&[], Kind::All),
        part(&[1; 60], Kind::All),
        part(&[], Kind::FieldsNot(vec!["y".into()])),
        part(&[], Kind::Text),
        decoded,
    ];
    let got = fetch(&ops, sections(asked)).await.unwrap();
    assert_eq!(got.sections.len(), 6);
    for (sections, mail) in got.sections.iter().zip(mail) {
        assert!(sections[0].2 == mail);
        assert_eq!(sections[2].2.len() + sections[3].2.len(), mail.len());
    }
}

#[tokio::test]
async fn damaged_octets_and_a_lost_lead_end_the_stream_with_an_error() {
    let (node, ops) = node();
    ops.create_account(&id(1), ACCOUNT).await.unwrap();
    deliver(&ops, &[b'a'; 10_000], &[]).await;
    let whole = sections(vec![part(&[], Kind::All)]);
    assert!(fetch(&ops, whole.clone()).await.is_ok());
    for shard in &node.shards {
        shard.rot();
    }
    let damaged = fetch(&ops, whole.clone()).await.err();
    assert!(matches!(damaged, Some(MailboxError::Corrupt(_))));
    for shard in &node.shards {
        shard
            .leads
            .store(false, std::sync::atomic::Ordering::Relaxed);
    }
    let elsewhere = fetch(&ops, whole).await.err();
    assert!(matches!(elsewhere, Some(MailboxError::WrongLeader { .. })));
}

#[tokio::test(start_paused = true)]
async fn a_long_fetch_goes_on_with_a_newer_view() {
    let big = noise(900_000);
    let mail: Vec<Vec<u8>> = (0..8u8).map(|n| [&[n][..], &big].concat()).collect();
    let mail: Vec<&[u8]> = mail.iter().map(|m| &m[..]).collect();
    let ops = with_mail(&mail).await;
    let asked = sections(vec![part(&[], Kind::All)]);
    let mut batches = ops.fetch_messages(asked).await.unwrap().boxed();
    let mut openings = Vec::new();
    let mut flagged = Vec::new();
    let mut n = 0u8;
    while let Some(batch) = batches.next().await {
        let batch = batch.unwrap();
        openings.extend(batch.opening);
        flagged.extend(batch.items.into_iter().filter_map(|item| match item {
            Item::Message(m) => Some((m.uid, m.row.keywords.len())),
            Item::Section(_) => None,
        }));
        n += 1;
        if n == 6 {
            let set = Op::SetFlags {
                request_id: RequestId([9; 16]),
                account: AccountName::new(ACCOUNT).unwrap(),
                mailbox: MailboxName::inbox().into(),
                uids: vec![(1, 8)],
                mode: FlagMode::Add,
                flags: vec!["$New".to_owned()],
                unchanged_since: None,
            };
            propose(&ops, set).await;
            tokio::time::advance(ops.limits.view_age).await;
        }
    }
    assert_eq!(openings.len(), 2);
    assert_eq!(openings[0].highest_modseq, openings[1].highest_modseq);
    assert_eq!(openings[1].keywords.len(), openings[0].keywords.len() + 1);
    assert_eq!(flagged.len(), 8);
    assert_eq!((flagged[0].1, flagged[7].1), (0, 1));
}

/// A view may be out of date as soon as it is taken: what is asked for is told all the same.
#[tokio::test]
async fn messages_larger_than_a_group_come_with_views_of_no_age() {
    let limits = Limits {
        view_age: Duration::ZERO,
        ..Limits::default()
    };
    let big = noise(2_500_000);
    let mail: Vec<Vec<u8>> = (0..3u8).map(|n| [&[n][..], &big].concat()).collect();
    let mail: Vec<&[u8]> = mail.iter().map(|m| &m[..]).collect();
    let ops = with_limits(limits, &mail).await;
    let asked = sections(vec![part(&[], Kind::All)]);
    let fetched = fetch(&ops, asked).await.unwrap();
    let uids: Vec<Uid> = fetched.messages.iter().map(|m| m.uid).collect();
    assert_eq!(uids, [1, 2, 3]);
}

#[test]
fn near_ranges_are_scanned_as_one() {
    let ranges = [(1, 1), (3, 9), (41, 41), (100, 100), (140, u32::MAX)];
    let spans = spans(&ranges);
    let spans: Vec<_> = spans.iter().map(|(span, of)| (*span, of.len())).collect();
    assert_eq!(spans, [((1, 41), 3), ((100, 100), 1), ((140, u32::MAX), 1)]);
}

/// Whoever does not need the latest state gets the same without a quorum's word; what is missing in
/// it is looked for in the latest one.
#[tokio::test]
async fn a_fetch_that_needs_no_quorum_finds_what_there_is() {
    let ops = with_mail(&[b"Subject: a\r\n\r\nx"]).await;
    let with = |unconfirmed, mailbox: &str| FetchMessages {
        unconfirmed,
        mailbox: mailbox.to_owned(),
        sections: vec![part(&[], Kind::Text)],
        ..request()
    };
    let confirmed = fetch(&ops, with(false, "INBOX")).await.unwrap();
    let unconfirmed = fetch(&ops, with(true, "INBOX")).await.unwrap();
    assert_eq!(unconfirmed.messages, confirmed.messages);
    assert_eq!(unconfirmed.sections, confirmed.sections);
    let missing = fetch(&ops, with(true, "Other")).await.err();
    assert_eq!(missing, Some(MailboxError::NotFound(What::Mailbox)));
}
