//! Envelopes and structures that summaries cut short, or could not decode.

use futures::future::BoxFuture;

use super::*;
use crate::env::Env;
use crate::env::compute::{AtOnce, Compute};
use crate::mailbox::summary::Address;

/// Envelope and structure of all messages, in the order of their uids.
async fn told(ops: &Arc<Operations>) -> Vec<Cold> {
    let asked = FetchMessages {
        envelope: true,
        structure: true,
        ..request()
    };
    let got = fetch(ops, asked).await.unwrap();
    assert!(uids(&got).is_sorted());
    let cold = got.messages.into_iter().map(|m| *m.cold.unwrap());
    cold.collect()
}

fn address(name: &str, address: &str) -> Address {
    Address::Mailbox {
        name: name.to_owned(),
        address: address.to_owned(),
    }
}

#[tokio::test]
async fn all_addresses_are_told_and_the_messages_stay_in_their_order() {
    let friends: Vec<String> = (0..250).map(|n| format!("friend{n}@example.org")).collect();
    let all = friends.join(",\r\n ");
    let long = "wörd ".repeat(1000);
    let cut = format!(
        "From: ann@x\r\nTo: {all}\r\nCc: friends: {all};, bob@x\r\nSubject: {long}\r\n\r\ntext\r\n"
    );
    let plain = b"Subject: plain\r\n\r\ntext\r\n".as_slice();
    let cut = cut.as_bytes();
    let ops = with_mail(&[plain, cut, plain, cut, plain]).await;
    let cold = told(&ops).await;
    assert_eq!(cold.len(), 5);
    for (n, cold) in cold.iter().enumerate() {
        let e = cold.envelope.as_ref().unwrap();
        assert!(!cold.truncated && cold.structure.len() == 1);
        if n % 2 == 0 {
            assert_eq!(e.subject, "plain");
            continue;
        }
        assert_eq!(e.to.len(), 250);
        assert_eq!(e.to[249], address("", "friend249@example.org"));
        assert_eq!(e.cc.len(), 253);
        assert_eq!(e.cc[0], Address::GroupStart("friends".to_owned()));
        assert_eq!(e.cc[251..], [Address::GroupEnd, address("", "bob@x")]);
        assert_eq!(e.subject, long.trim());
        assert_eq!(e.from, [address("", "ann@x")]);
    }
    // Whoever asks for the preview alone waits for nothing.
    let asked = FetchMessages {
        preview: true,
        ..request()
    };
    let got = fetch(&ops, asked).await.unwrap();
    assert!(got.messages[1].cold.as_ref().unwrap().truncated);
}

#[tokio::test]
async fn octets_without_a_charset_are_read_in_that_of_the_text() {
    let mail = |charset: &str, raw: &[u8]| {
        [
            b"From: \"",
            raw,
            b"\" <ann@x>\r\nSubject: ",
            raw,
            b"\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\nContent-Type: text/plain",
            charset.as_bytes(),
            b"\r\n\r\ntext\r\n--b\r\nContent-Type: application/pdf\r\n\
              Content-Disposition: attachment; filename=\"",
            raw,
            b".pdf\"\r\n\r\npdf\r\n--b--\r\n",
        ]
        .concat()
    };
    let mails = [
        ("; charset=gbk", b"\xe6\xe4\xd5\xbe".as_slice(), "驿站"),
        ("; charset=koi8-r", b"\xd0\xcf\xde\xd4\xc1", "почта"),
        ("; charset=windows-1251", b"\xef\xee\xf7\xf2\xe0", "почта"),
        ("; charset=iso-2022-jp", b"\x1b$BF|K\\\x1b(B", "日本"),
        ("", b"caf\xe9", "café"),
        ("; charset=gbk", "驿站".as_bytes(), "驿站"),
    ];
    let octets: Vec<Vec<u8>> = mails.iter().map(|(c, raw, _)| mail(c, raw)).collect();
    let octets: Vec<&[u8]> = octets.iter().map(Vec::as_slice).collect();
    let ops = with_mail(&octets).await;
    for (cold, (charset, _, text)) in told(&ops).await.into_iter().zip(mails) {
        let e = cold.envelope.unwrap();
        assert_eq!(e.subject, text, "{charset}");
        assert_eq!(e.from, [address(text, "ann@x")], "{charset}");
        let [root, plain, pdf] = cold.structure.as_slice() else {
            panic!("{:?}", cold.structure);
        };
        let name = ("filename".to_owned(), format!("{text}.pdf"));
        assert_eq!(pdf.disposition_params, [name], "{charset}");
        assert!(root.is_multipart() && plain.sub_type == "plain" && pdf.size() == 3);
        assert!(!cold.truncated);
    }
}

#[tokio::test]
async fn envelopes_of_attached_messages_are_told_however_many_they_are() {
    let to: Vec<String> = (0..150).map(|n| format!("person{n}@example.org")).collect();
    let to = to.join(", ");
    let mut mail = "Content-Type: multipart/digest; boundary=b\r\n\r\n".to_owned();
    for n in 0..40 {
        mail += &format!("--b\r\n\r\nSubject: {n}\r\nTo: {to}\r\n\r\ntext {n}\r\n");
    }
    mail += "--b--\r\n";
    let ops = with_mail(&[mail.as_bytes()]).await;
    let cold = told(&ops).await.remove(0);
    assert!(!cold.truncated);
    let messages: Vec<_> = cold
        .structure
        .iter()
        .filter_map(|p| p.message.as_deref())
        .collect();
    assert_eq!(messages.len(), 40);
    for (n, message) in messages.into_iter().enumerate() {
        assert_eq!(
            (message.subject.clone(), message.to.len()),
            (n.to_string(), 150)
        );
    }
}

#[tokio::test]
async fn what_is_told_at_length_has_a_limit_too() {
    let many = "a@b,\r\n ".repeat(35_000);
    let lists = format!("To: {many}\r\nSubject: s\r\n\r\n");
    let one_line = format!("To: {}\r\n\r\n", "a@b, ".repeat(40_000));
    // A hundred parts whose headers take more than is read.
    let mut parts = "Content-Type: multipart/mixed; boundary=b\r\n\r\n".to_owned();
    for n in 0..100 {
        let long = "x".repeat(14_000);
        parts += &format!("--b\r\nContent-Type: text/x; name={n}-{long}\r\n\r\ntext\r\n");
    }
    parts += "--b--\r\n";
    let deep = "Content-Type: message/rfc822\r\n\r\n".repeat(60);
    let ops = with_mail(&[
        lists.as_bytes(),
        one_line.as_bytes(),
        parts.as_bytes(),
        deep.as_bytes(),
    ])
    .await;
    let cold = told(&ops).await;
    let to = |n: usize| cold[n].envelope.as_ref().unwrap().to.len();
    assert_eq!((to(0), cold[0].truncated), (10_000, true));
    assert_eq!((to(1), cold[1].truncated), (10_000, true));
    let named = |p: &&Part| p.params.iter().any(|(_, value)| value.len() > 14_000);
    let named = cold[2].structure.iter().filter(named).count();
    assert!(
        (70..80).contains(&named) && cold[2].structure.len() == 101,
        "{named}"
    );
    assert!(cold[2].truncated && cold[3].truncated);
}

#[tokio::test]
async fn octets_that_are_damaged_leave_what_the_summary_says() {
    let (node, ops) = node();
    ops.create_account(&id(1), ACCOUNT).await.unwrap();
    let all = "a@b, ".repeat(300);
    deliver(&ops, format!("To: {all}\r\n\r\n").as_bytes(), &[]).await;
    for shard in &node.shards {
        shard.rot();
    }
    let reads = || {
        let reads = node.shards.iter().map(|s| s.reads.load(Ordering::Relaxed));
        reads.sum::<usize>()
    };
    let before = reads();
    let cold = told(&ops).await.remove(0);
    assert_eq!(cold.envelope.unwrap().to.len(), 200);
    assert!(cold.truncated);
    assert_eq!(reads(), before + 1);
    // Nor do sections of which nothing is read ask for more.
    let size = Section {
        size_only: true,
        ..part(&[], Kind::All)
    };
    let asked = |section: Section| FetchMessages {
        envelope: true,
        ..sections(vec![section])
    };
    let got = fetch(&ops, asked(size)).await.unwrap();
    let cold = got.messages[0].cold.as_ref().unwrap();
    assert_eq!(cold.envelope.as_ref().unwrap().to.len(), 200);
    let (outcome, size, _) = &got.sections[0][0];
    assert_eq!((*outcome, *size), (Outcome::Data, 8 + 300 * 5));
    let damaged = fetch(&ops, asked(part(&[], Kind::All))).await.err();
    assert!(matches!(damaged, Some(MailboxError::Corrupt(_))));
}

#[tokio::test]
async fn characters_that_encoded_words_share_are_told_whole() {
    let words = "=?GB2312?B?5uTV?= =?GB2312?B?vg==?=";
    let mail = format!(
        "From: {words} <ann@x>\r\nTo: \"{words}\" <bob@x>, friends: {words} <c@x>;\r\n\
         Subject: Re: {}\r\nContent-Type: application/pdf; name=\"{words}\"\r\n\r\npdf\r\n",
        words.replace(' ', "\r\n ")
    );
    let ops = with_mail(&[mail.as_bytes()]).await;
    let cold = told(&ops).await.remove(0);
    let e = cold.envelope.unwrap();
    assert_eq!(e.subject, "Re: 驿站");
    assert_eq!(e.from, [address("驿站", "ann@x")]);
    assert_eq!(e.to[0], address("驿站", "bob@x"));
    assert_eq!(e.to[2], address("驿站", "c@x"));
    let name = ("name".to_owned(), "驿站".to_owned());
    assert_eq!(cold.structure[0].params, [name]);
    assert!(!cold.truncated);
}

/// Computes at once, and counts.
#[derive(Default)]
struct Counting(AtomicU64);

impl Compute for Counting {
    fn run(&self, work: crate::env::compute::Work) -> BoxFuture<'static, ()> {
        self.0.fetch_add(1, Ordering::Relaxed);
        AtOnce.run(work)
    }
}

#[tokio::test]
async fn large_blocks_are_read_off_the_threads_that_serve() {
    let counting = Arc::new(Counting::default());
    let env = Env {
        compute: Arc::clone(&counting) as _,
        ..Env::real()
    };
    let (_, ops) = node_in(env, Limits::default());
    ops.create_account(&id(1), ACCOUNT).await.unwrap();
    let to = |n: usize| format!("To: {}\r\n\r\ntext\r\n", "a@b, ".repeat(n));
    // Of these the summary cannot hold all, and the message is scanned: its octets, and what is left.
    let mut many = "Content-Type: multipart/mixed; boundary=b\r\n\r\n".to_owned();
    for n in 0..900 {
        let name = format!("{n}").repeat(60);
        many += &format!("--b\r\nContent-Type: a/x; name={name}\r\nContent-ID: <{name}>\r\n\r\n");
    }
    many += "--b--\r\n";
    let mut runs = Vec::new();
    for mail in [to(10), to(300), to(3000), many] {
        deliver(&ops, mail.as_bytes(), &[]).await;
        let before = counting.0.load(Ordering::Relaxed);
        let cold = told(&ops).await.pop().unwrap();
        assert!(!cold.truncated);
        runs.push(counting.0.load(Ordering::Relaxed) - before);
    }
    // The large one of before comes first.
    assert_eq!(runs, [0, 0, 1, 1 + 2]);
}
