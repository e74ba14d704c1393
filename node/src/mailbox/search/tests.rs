//! Searches end to end: messages go in as mail does, and come out as uids.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use encoding_rs::Encoding;
use futures::{StreamExt, TryStreamExt};
use proptest::prelude::*;

use super::super::deliver::{DeliverHead, Recipient};
use super::super::expunge::Expunge;
use super::super::fake::{FakeNode, node, pieces};
use super::super::window::Windows;
use super::super::{Caller, Operations};
use super::key::{By, Span};
use super::*;

const ACCOUNT: &str = "ann@example.org";
/// 2024-02-29.
const DAY_MS: u64 = 1_709_164_800_000;
const ONE_DAY_MS: u64 = 86_400_000;

/// An account of one mailbox, filled message by message.
struct Inbox {
    node: Arc<FakeNode>,
    ops: Arc<Operations>,
    count: u32,
}

fn id_of(text: &str) -> Vec<u8> {
    blake3::hash(text.as_bytes()).as_bytes()[..16].to_vec()
}

impl Inbox {
    async fn new() -> Inbox {
        let (node, ops) = node();
        ops.create_account(&id_of("account"), ACCOUNT)
            .await
            .unwrap();
        Inbox {
            node,
            ops,
            count: 0,
        }
    }

    async fn put_with(&mut self, octets: &[u8], flags: &[&str], internal_date_ms: u64) -> Uid {
        self.count += 1;
        let head = DeliverHead {
            request_id: id_of(&format!("message {}", self.count)),
            recipients: vec![Recipient {
                account: ACCOUNT.to_owned(),
                flags: flags.iter().map(|f| f.to_string()).collect(),
                ..Recipient::default()
            }],
            internal_date_ms,
            ..DeliverHead::default()
        };
        let body = pieces(octets, 100_000);
        let done = self.ops.deliver(&Caller::default(), head, body).await;
        let uid = done.unwrap().results[0].outcome.clone().unwrap().uid;
        assert_eq!(uid, self.count);
        uid
    }

    async fn put(&mut self, octets: &[u8]) -> Uid {
        self.put_with(octets, &[], DAY_MS).await
    }

    fn request(&self, key: Option<Key>) -> Search {
        Search {
            account: ACCOUNT.to_owned(),
            mailbox: "INBOX".to_owned(),
            key,
            ..Search::default()
        }
    }

    async fn run(&self, request: Search) -> Result<(Vec<Piece>, Total)> {
        let stream = self.ops.search(request).await?;
        let pieces: Vec<Piece> = stream.try_collect().await?;
        let (last, before) = pieces.split_last().expect("a last piece");
        assert!(before.iter().all(|p| p.last.is_none()));
        assert!(pieces.is_sorted_by_key(|p| p.searched));
        let total = last.last.expect("the last piece says so");
        Ok((pieces, total))
    }

    /// The matches of a key.
    async fn find(&self, key: Key) -> Vec<Uid> {
        let (pieces, total) = self.run(self.request(Some(key))).await.unwrap();
        let uids = uids(&pieces);
        assert_eq!(total.count, uids.len() as u64);
        uids
    }

    fn all(&self) -> BTreeSet<Uid> {
        (1..=self.count).collect()
    }
}

fn uids(pieces: &[Piece]) -> Vec<Uid> {
    let ranges = pieces.iter().flat_map(|p| &p.uids);
    let uids: Vec<Uid> = ranges.flat_map(|&(first, last)| first..=last).collect();
    assert!(uids.is_sorted_by(|a, b| a < b));
    uids
}

fn span(from: u64, to: u64) -> Span {
    Span { from, to }
}

fn not(key: Key) -> Key {
    Key::Not(Box::new(key))
}

fn header(name: &str, text: &str) -> Key {
    Key::Header {
        name: name.to_owned(),
        text: text.to_owned(),
    }
}

fn flag(name: &str) -> Key {
    Key::Flag {
        name: name.to_owned(),
        off: false,
    }
}

const PLAIN: &[u8] = b"From: Ann Smith <ann@example.org>\r\nTo: bob@example.org\r\n\
    Subject: The Post\r\nMessage-ID: <1@x>\r\nDate: Thu, 29 Feb 2024 23:30:00 -0800\r\n\
    X-Mailer: Pigeon 2.0\r\n\r\nHello from the relay station.\r\n";
const MIXED: &[u8] =
    b"From: =?utf-8?B?6am/56uZ?= <yizhan@example.cn>\r\nCc: Ann <ann@example.org>\r\n\
    Bcc: hidden@example.org\r\nSubject: =?utf-8?Q?Gr=C3=BC=C3=9Fe?=\r\nIn-Reply-To: <1@x>\r\n\
    References: <0@x> <1@x>\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\npreamble\r\n\
    --b\r\nContent-Type: text/plain; charset=utf-8\r\n\
    Content-Transfer-Encoding: quoted-printable\r\n\r\nStra=\r\n=C3=9Fe\r\n\
    --b\r\nContent-Type: application/pdf; name=\"Invoice May.pdf\"\r\n\
    Content-Disposition: attachment\r\n\r\nrelay in the attachment\r\n--b--\r\n";
const NESTED: &[u8] = b"Subject: outer\r\nDate: nonsense\r\n\
    Content-Type: multipart/digest; boundary=b\r\n\r\n\
    --b\r\n\r\nSubject: Inner Letter\r\nContent-Transfer-Encoding: base64\r\n\r\n\
    cmVsYXkgaW4gYSBsZXR0ZXI=\r\n--b--\r\n";

async fn three() -> Inbox {
    let mut mailbox = Inbox::new().await;
    mailbox.put_with(PLAIN, &["\\Seen", "$Junk"], DAY_MS).await;
    mailbox
        .put_with(MIXED, &["\\Flagged"], DAY_MS + ONE_DAY_MS)
        .await;
    mailbox.put_with(NESTED, &[], DAY_MS + 2 * ONE_DAY_MS).await;
    mailbox
}

#[tokio::test]
async fn every_key_finds_what_it_is_about() {
    let mailbox = three().await;
    let sizes = [PLAIN.len() as u64, MIXED.len() as u64, NESTED.len() as u64];
    let table: Vec<(Key, &[Uid])> = vec![
        (Key::AllOf(vec![]), &[1, 2, 3]),
        (Key::AnyOf(vec![]), &[]),
        (Key::Uids(vec![(2, 0)]), &[2, 3]),
        (flag("\\Seen"), &[1]),
        (flag("$JUNK"), &[1]),
        (flag("never"), &[]),
        (Key::InternalDate(span(DAY_MS, DAY_MS + ONE_DAY_MS)), &[1]),
        // The day as written, though it was the next one in UTC.
        (Key::Sent(span(DAY_MS, DAY_MS + ONE_DAY_MS)), &[1]),
        (Key::Sent(span(DAY_MS + 1, 0)), &[]),
        (Key::SaveDate(span(1, 0)), &[1, 2, 3]),
        (
            Key::Size(span(0, sizes[0] + 1)),
            if sizes[2] <= sizes[0] { &[1, 3] } else { &[1] },
        ),
        (Key::Size(span(sizes[1], sizes[1] + 1)), &[2]),
        (Key::ModSeq(span(u64::MAX, 0)), &[]),
        (Key::From("ann".into()), &[1]),
        (Key::From("驿站".into()), &[2]),
        (Key::From("example".into()), &[1, 2]),
        (Key::To("BOB@".into()), &[1]),
        (Key::Cc("ann".into()), &[2]),
        (Key::Bcc("hidden".into()), &[2]),
        (Key::Subject("GRÜßE".into()), &[2]),
        (Key::Subject("post".into()), &[1]),
        (Key::Subject(String::new()), &[1, 2, 3]),
        (header("x-mailer", "pigeon"), &[1]),
        (header("X-MAILER", ""), &[1]),
        (header("x-mailer", "mailer"), &[]),
        (header("message-id", "<1@x>"), &[1]),
        (header("references", "0@X"), &[2]),
        (header("in-reply-to", ""), &[2]),
        (header("date", "nonsense"), &[3]),
        (header("from", "Smith <ann"), &[1]),
        (header("content-type", "digest"), &[3]),
        (Key::Body("relay".into()), &[1, 3]),
        (Key::Body("STRAßE".into()), &[2]),
        (Key::Body("inner letter".into()), &[]),
        (Key::Body("pigeon".into()), &[]),
        (Key::Body("preamble".into()), &[]),
        (Key::Body("x".repeat(900)), &[]),
        (Key::Text("relay".into()), &[1, 3]),
        (Key::Text("pigeon".into()), &[1]),
        (Key::Text("x-mailer: pigeon".into()), &[1]),
        (Key::Text("invoice may.pdf".into()), &[2]),
        (Key::Text("inner letter".into()), &[3]),
        (Key::Text("驿站".into()), &[2]),
        (
            Key::AllOf(vec![Key::Body("relay".into()), flag("\\Seen")]),
            &[1],
        ),
        (
            Key::AnyOf(vec![Key::Body("straße".into()), flag("\\Seen")]),
            &[1, 2],
        ),
        (
            Key::AllOf(vec![Key::Body("relay".into()), Key::Body("letter".into())]),
            &[3],
        ),
        (
            Key::AnyOf(vec![
                Key::Body("hello".into()),
                Key::Text("grüße".into()),
                header("x-none", ""),
            ]),
            &[1, 2],
        ),
    ];
    for (key, expected) in table {
        assert_eq!(mailbox.find(key.clone()).await, expected, "{key:?}");
        let others: Vec<Uid> = mailbox
            .all()
            .into_iter()
            .filter(|u| !expected.contains(u))
            .collect();
        assert_eq!(mailbox.find(not(key.clone())).await, others, "not {key:?}");
    }
}

#[tokio::test]
async fn emails_threads_and_modseqs_are_found_by_their_numbers() {
    let mailbox = three().await;
    let (_, total) = mailbox.run(mailbox.request(None)).await.unwrap();
    assert_eq!(total.count, 3);
    let highest = total.matched_modseq;
    assert_eq!(mailbox.find(Key::ModSeq(span(highest, 0))).await, [3]);
    let seen = mailbox.run(mailbox.request(Some(flag("\\Seen")))).await;
    assert!(seen.unwrap().1.matched_modseq < highest);
    let none = mailbox.run(mailbox.request(Some(flag("none")))).await;
    let none = none.unwrap().1;
    assert_eq!((none.count, none.matched_modseq), (0, 0));
    let page = mailbox.ops.list_messages(ACCOUNT, "INBOX", None, 0, false);
    let email = page.await.unwrap().messages[1].email;
    assert_eq!(mailbox.find(Key::Email(email.0)).await, [2]);
    assert!(mailbox.find(Key::Thread(u64::MAX)).await.is_empty());
}

/// The same words in every charset: in the header as encoded words and as they are, in the body
/// as base64, as quoted-printable and as they are.
#[tokio::test]
async fn words_are_found_in_every_charset() {
    let chinese: (&str, &[&str]) = ("驿站邮件", &["GB18030", "GBK", "GB2312", "UTF-8"]);
    let traditional: (&str, &[&str]) = ("驛站郵件", &["Big5", "GB18030", "UTF-8"]);
    let japanese: (&str, &[&str]) = (
        "日本語のメール",
        &["ISO-2022-JP", "Shift_JIS", "EUC-JP", "UTF-8"],
    );
    let korean: (&str, &[&str]) = ("한국어메일", &["EUC-KR", "UTF-8"]);
    let russian: (&str, &[&str]) = (
        "Почтовая станция",
        &["KOI8-R", "windows-1251", "ISO-8859-5", "UTF-8"],
    );
    let german: (&str, &[&str]) = ("Grüße", &["windows-1252", "ISO-8859-1", "windows-1250"]);
    let greek: (&str, &[&str]) = ("Ταχυδρομείο", &["windows-1253", "ISO-8859-7"]);
    for (word, charsets) in [
        chinese,
        traditional,
        japanese,
        korean,
        russian,
        german,
        greek,
    ] {
        for charset in charsets {
            let encoding = Encoding::for_label(charset.as_bytes()).unwrap();
            let (octets, _, lossy) = encoding.encode(word);
            assert!(!lossy, "{word} in {charset}");
            let base64 = to_base64(&octets);
            let quoted: String = octets.iter().map(|b| format!("={b:02X}")).collect();
            let mail = |subject: &[u8], transfer: &str, body: &[u8]| {
                let start = b"Subject: before ".to_vec();
                let middle = format!(
                    " after\r\nX-Other: x\r\nContent-Type: text/plain; charset={charset}\r\n\
                     Content-Transfer-Encoding: {transfer}\r\n\r\n"
                );
                [&start, subject, middle.as_bytes(), b"", body, b"\r\n"].concat()
            };
            let mut mailbox = Inbox::new().await;
            let word_b = format!("=?{charset}?B?{base64}?=");
            let word_q = format!("=?{charset}?Q?{quoted}?=");
            mailbox
                .put(&mail(word_b.as_bytes(), "8bit", b"nothing"))
                .await;
            mailbox
                .put(&mail(word_q.as_bytes(), "8bit", b"nothing"))
                .await;
            mailbox.put(&mail(&octets, "8bit", b"nothing")).await;
            let padded = [b"first line\r\n", &octets[..], b" last"].concat();
            mailbox.put(&mail(b"none", "8bit", &padded)).await;
            mailbox
                .put(&mail(b"none", "base64", base64.as_bytes()))
                .await;
            mailbox
                .put(&mail(b"none", "quoted-printable", quoted.as_bytes()))
                .await;
            for word in [
                word.to_owned(),
                word.to_lowercase(),
                word.chars().skip(1).collect(),
            ] {
                let subject = mailbox.find(Key::Subject(word.clone())).await;
                assert_eq!(subject, [1, 2, 3], "subject {word} in {charset}");
                let field = mailbox.find(header("Subject", &word)).await;
                assert_eq!(field, [1, 2, 3], "header {word} in {charset}");
                let body = mailbox.find(Key::Body(word.clone())).await;
                assert_eq!(body, [4, 5, 6], "body {word} in {charset}");
                let text = mailbox.find(Key::Text(word.clone())).await;
                assert_eq!(text, [1, 2, 3, 4, 5, 6], "text {word} in {charset}");
            }
            assert!(mailbox.find(Key::Text("没有".into())).await.is_empty());
        }
    }
}

fn to_base64(octets: &[u8]) -> String {
    let digits = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::new();
    for group in octets.chunks(3) {
        let mut bits = [0; 3];
        bits[..group.len()].copy_from_slice(group);
        let n = u32::from_be_bytes([0, bits[0], bits[1], bits[2]]);
        for i in 0..4 {
            match i <= group.len() {
                true => out.push(digits[(n >> (18 - 6 * i) & 63) as usize] as char),
                false => out.push('='),
            }
        }
    }
    out
}

#[tokio::test]
async fn texts_are_found_across_chunks_and_attachments_are_left_alone() {
    let mut mailbox = Inbox::new().await;
    let head = "Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\n";
    let chunk = 1 << 20;
    // The word begins before the end of the first chunk and ends in the second.
    let text = format!(
        "{head}{}needle{}",
        "x".repeat(chunk - head.len() - 3),
        "y".repeat(chunk)
    );
    mailbox.put(text.as_bytes()).await;
    let body = to_base64(format!("{}needle", "x".repeat(2 * chunk)).as_bytes());
    let encoded = format!("Content-Transfer-Encoding: base64\r\n\r\n{body}");
    mailbox.put(encoded.as_bytes()).await;
    let file = format!(
        "{head}text\r\n--b\r\nContent-Type: application/zip\r\n\r\n{}needle\r\n--b--\r\n",
        "x".repeat(3 * chunk)
    );
    mailbox.put(file.as_bytes()).await;
    assert_eq!(mailbox.find(Key::Body("needle".into())).await, [1, 2]);
    assert_eq!(mailbox.find(Key::Body("xxneedle".into())).await, [1, 2]);
    assert_eq!(mailbox.find(Key::Text("application/zip".into())).await, [3]);
    let window = &mailbox.ops.read_window;
    assert_eq!(
        window.free_bytes(),
        mailbox.ops.limits.node_read_window_bytes
    );
}

#[tokio::test]
async fn a_damaged_message_has_no_text_and_the_search_goes_on() {
    let mut mailbox = Inbox::new().await;
    let text = |word: &str| format!("Subject: {word}\r\n\r\n{}", format!("{word} ").repeat(100));
    mailbox.put(text("first").as_bytes()).await;
    mailbox.put(text("second").as_bytes()).await;
    for shard in &mailbox.node.shards {
        shard.rot();
    }
    // Other octets: the same ones would share what has rotted.
    mailbox.put(text("first again").as_bytes()).await;
    assert_eq!(mailbox.find(Key::Body("first".into())).await, [3]);
    assert_eq!(mailbox.find(not(Key::Body("first".into()))).await, [1, 2]);
    // What rows know is not lost.
    assert_eq!(mailbox.find(Key::Subject("first".into())).await, [1, 3]);
}

#[tokio::test]
async fn what_was_read_for_one_search_is_known_to_the_next() {
    let mut mailbox = Inbox::new().await;
    let text = |tag: &str, word: &str| format!("X-Tag: {tag}\r\n\r\n{}", word.repeat(100));
    for (tag, word) in [("red", "one"), ("blue", "two"), ("red", "two")] {
        mailbox.put(text(tag, word).as_bytes()).await;
    }
    let tag = |text: &str| Key::Header {
        name: "X-Tag".into(),
        text: text.into(),
    };
    let body = |text: &str| Key::Body(text.into());
    // The second message decides by its header alone: nobody has looked for the text in it.
    let both = || Key::AllOf(vec![tag("red"), body("two")]);
    assert_eq!(mailbox.find(both()).await, [3]);
    for shard in &mailbox.node.shards {
        shard.rot();
    }
    mailbox.put(text("Red", "two, too").as_bytes()).await;
    assert_eq!(mailbox.find(both()).await, [3, 4]);
    assert_eq!(mailbox.find(tag("RED")).await, [1, 3, 4]);
    assert_eq!(mailbox.find(not(tag("red"))).await, [2]);
    // What nobody has asked is not known; what nobody could read neither.
    assert!(mailbox.find(tag("blue")).await.is_empty());
    assert_eq!(mailbox.find(body("two")).await, [3, 4]);
}

#[tokio::test]
async fn a_message_that_vanishes_meanwhile_is_left_out() {
    let mut mailbox = Inbox::new().await;
    mailbox.put(b"\r\none").await;
    mailbox.put(b"\r\ntwo").await;
    let key = not(Key::Body("none".into()));
    let stream = mailbox
        .ops
        .search(mailbox.request(Some(key)))
        .await
        .unwrap();
    let gone = Expunge {
        request_id: id_of("expunge"),
        account: ACCOUNT.to_owned(),
        mailbox: "INBOX".into(),
        uids: vec![(1, 1)],
        force: true,
    };
    mailbox.ops.expunge(gone).await.unwrap();
    mailbox.put(b"\r\nthree").await;
    let pieces: Vec<Piece> = stream.try_collect().await.unwrap();
    // The third came after the moment of the search.
    assert_eq!(uids(&pieces), [2]);
}

#[tokio::test]
async fn parts_of_the_matches_are_told_and_all_are_counted() {
    let mut mailbox = Inbox::new().await;
    for _ in 0..10 {
        mailbox.put(b"\r\n").await;
    }
    let odd = Key::AnyOf(
        (0..5)
            .map(|n| Key::Uids(vec![(2 * n + 1, 2 * n + 1)]))
            .collect(),
    );
    for (partial, expected) in [
        ((1, 2), &[1, 3][..]),
        ((2, 1), &[1, 3]),
        ((4, 100), &[7, 9]),
        ((6, 7), &[]),
        ((-1, -2), &[7, 9]),
        ((-100, -4), &[1, 3]),
        ((2, -2), &[3, 5, 7]),
    ] {
        let request = Search {
            partial,
            ..mailbox.request(Some(odd.clone()))
        };
        let (pieces, total) = mailbox.run(request).await.unwrap();
        assert_eq!(
            (uids(&pieces).as_slice(), total.count),
            (expected, 5),
            "{partial:?}"
        );
    }
}

#[tokio::test]
async fn what_cannot_be_asked_is_refused_with_its_field() {
    let mailbox = three().await;
    let order = vec![key::SortKey {
        by: By::Date,
        reverse: false,
    }];
    let base = || mailbox.request(None);
    let partial = (1, 2);
    for (request, wrong) in [
        (
            Search {
                partial: (0, 2),
                ..base()
            },
            "partial_first",
        ),
        (
            Search {
                partial,
                thread: true,
                ..base()
            },
            "partial_first",
        ),
        (
            Search {
                partial,
                sort: order.clone(),
                ..base()
            },
            "partial_first",
        ),
        (
            Search {
                thread: true,
                sort: order.clone(),
                ..base()
            },
            "thread",
        ),
        (
            Search {
                sort: order.repeat(21),
                ..base()
            },
            "sort",
        ),
        (
            Search {
                mailbox: String::new(),
                ..base()
            },
            "mailbox",
        ),
        (
            Search {
                key: Some(Key::Body("x".repeat(1001))),
                ..base()
            },
            "key.body",
        ),
    ] {
        let refused = mailbox.run(request).await;
        assert!(
            matches!(&refused, Err(MailboxError::BadRequest { field, .. }) if field == wrong),
            "{wrong}: {refused:?}"
        );
    }
    let nowhere = Search {
        mailbox: "Nowhere".to_owned(),
        ..base()
    };
    let missing = Err(MailboxError::NotFound(What::Mailbox));
    assert_eq!(mailbox.run(nowhere).await, missing);
    let by_number = |mailbox_id, uidvalidity| Search {
        mailbox: String::new(),
        mailbox_id,
        uidvalidity,
        ..base()
    };
    assert_eq!(mailbox.run(by_number(1, 0)).await.unwrap().1.count, 3);
    assert_eq!(mailbox.run(by_number(1, 1)).await, missing);
}

#[tokio::test]
async fn a_hundred_levels_are_searched_and_one_more_is_refused() {
    let mailbox = three().await;
    let mut deep = Key::Body("relay".into());
    for _ in 1..100 {
        deep = Key::AllOf(vec![deep]);
    }
    assert_eq!(mailbox.find(deep.clone()).await, [1, 3]);
    let deeper = mailbox.request(Some(Key::AllOf(vec![deep])));
    assert!(mailbox.run(deeper).await.is_err());
}

#[tokio::test]
async fn matches_come_sorted_or_in_threads() {
    let mut mailbox = Inbox::new().await;
    for (n, head) in [
        "Subject: Re: post\r\nMessage-ID: <b@x>\r\nReferences: <a@x>\r\nFrom: zoe@x",
        "Subject: post\r\nMessage-ID: <a@x>\r\nFrom: ann@x",
        "Subject: other\r\nMessage-ID: <c@x>\r\nFrom: bob@x",
    ]
    .into_iter()
    .enumerate()
    {
        let mail = format!("{head}\r\nX-N: {n}\r\n\r\ntext");
        mailbox
            .put_with(mail.as_bytes(), &[], DAY_MS - n as u64)
            .await;
    }
    let sorted = |by, reverse| Search {
        sort: vec![key::SortKey { by, reverse }],
        ..mailbox.request(Some(Key::Body("text".into())))
    };
    for (by, reverse, expected) in [
        (By::From, false, [2, 3, 1]),
        (By::From, true, [1, 3, 2]),
        (By::Arrival, false, [3, 2, 1]),
        (By::Subject, false, [3, 1, 2]),
        (By::Date, false, [3, 2, 1]),
        (By::Cc, true, [1, 2, 3]),
    ] {
        let (pieces, total) = mailbox.run(sorted(by, reverse)).await.unwrap();
        let uids: Vec<Uid> = pieces.iter().flat_map(|p| p.sorted.clone()).collect();
        assert_eq!((uids.as_slice(), total.count), (&expected[..], 3), "{by:?}");
        assert!(pieces.iter().all(|p| p.uids.is_empty()));
    }
    let request = Search {
        thread: true,
        ..mailbox.request(None)
    };
    let (pieces, _) = mailbox.run(request).await.unwrap();
    let nodes: Vec<(Uid, u32)> = pieces
        .iter()
        .flat_map(|p| p.threads.iter().map(|n| (n.uid, n.depth)))
        .collect();
    assert_eq!(nodes, [(3, 0), (2, 0), (1, 1)]);
}

#[tokio::test(start_paused = true)]
async fn a_search_that_waits_says_so_and_ends_with_its_reader() {
    let mut mailbox = Inbox::new().await;
    mailbox.put(b"\r\nrelay").await;
    mailbox.put(b"\r\nstation").await;
    let ops = &mailbox.ops;
    let whole = ops.limits.node_read_window_bytes;
    let windows = Windows {
        node: Arc::clone(&ops.read_window),
        connection: None,
    };
    let held = windows.take(whole, &ops.limits).await.unwrap();
    let key = Key::AnyOf(vec![Key::Uids(vec![(1, 1)]), Key::Body("station".into())]);
    let stream = ops.search(mailbox.request(Some(key))).await.unwrap();
    let mut stream = Box::pin(stream);
    let start = tokio::time::Instant::now();
    for _ in 0..5 {
        let piece = stream.next().await.unwrap().unwrap();
        assert_eq!((piece.searched, piece.last), (1, None));
    }
    assert!(start.elapsed() >= Duration::from_secs(4));
    drop(held);
    let rest: Vec<Piece> = stream.try_collect().await.unwrap();
    assert_eq!(uids(&rest), [1, 2]);

    // One that nobody reads any more gives everything back.
    let stream = ops.search(mailbox.request(Some(Key::Body("none".into()))));
    drop(stream.await.unwrap());
    assert_eq!(ops.read_window.free_bytes(), whole);
}

fn leaf() -> impl Strategy<Value = Key> {
    prop_oneof![
        (1u32..5, 0u32..5).prop_map(|(a, b)| Key::Uids(vec![(a, if b < a { 0 } else { b })])),
        prop_oneof![Just("\\Seen"), Just("$Junk"), Just("none")].prop_map(flag),
        (0u64..2000).prop_map(|n| Key::Size(span(n, n + 300))),
        "[a-eRS@<. ]{0,2}".prop_map(Key::From),
        "[a-eRS]{0,2}".prop_map(Key::Subject),
        "[a-eRS]{0,2}".prop_map(Key::Body),
        "[a-eRS:]{0,2}".prop_map(Key::Text),
        ("(x-mailer|subject|cc|date)", "[a-e]{0,1}").prop_map(|(name, text)| header(&name, &text)),
        (0u64..3).prop_map(|n| Key::Sent(span(DAY_MS - n, DAY_MS + n))),
        (0u64..4).prop_map(Key::Thread),
        (0u64..4).prop_map(Key::Email),
    ]
}

fn tree() -> impl Strategy<Value = Key> {
    leaf().prop_recursive(6, 40, 4, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Key::AllOf),
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Key::AnyOf),
            inner.prop_map(not),
        ]
    })
}

/// The matches of a tree by the algebra of sets, from those of its leaves alone.
fn by_sets<'a>(mailbox: &'a Inbox, key: &'a Key) -> futures::future::BoxFuture<'a, BTreeSet<Uid>> {
    Box::pin(async move {
        match key {
            Key::AllOf(keys) => {
                let mut out = mailbox.all();
                for key in keys {
                    let one = by_sets(mailbox, key).await;
                    out.retain(|uid| one.contains(uid));
                }
                out
            }
            Key::AnyOf(keys) => {
                let mut out = BTreeSet::new();
                for key in keys {
                    out.extend(by_sets(mailbox, key).await);
                }
                out
            }
            Key::Not(key) => {
                let one = by_sets(mailbox, key).await;
                mailbox.all().difference(&one).copied().collect()
            }
            leaf => mailbox.find(leaf.clone()).await.into_iter().collect(),
        }
    })
}

#[test]
fn trees_of_conditions_are_sets() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let mailbox = runtime.block_on(three());
    let config = ProptestConfig::with_cases(400);
    let mut runner = proptest::test_runner::TestRunner::new(config);
    let checked = runner.run(&tree(), |key| {
        let found = runtime.block_on(mailbox.find(key.clone()));
        let expected = runtime.block_on(by_sets(&mailbox, &key));
        prop_assert!(found.into_iter().eq(expected));
        let not = runtime.block_on(mailbox.find(not(key.clone())));
        let yes = runtime.block_on(mailbox.find(key));
        prop_assert_eq!(yes.len() + not.len(), 3);
        Ok(())
    });
    checked.unwrap();
}
