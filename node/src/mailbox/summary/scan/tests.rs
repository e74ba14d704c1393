//! The scanner against messages whose structure is known, against the MIME library on real mail,
//! and against mail made to hurt.

use std::time::{Duration, Instant};

use mail_parser::{MessageParser, MimeHeaders};
use proptest::prelude::*;

use super::super::{MAX_SUMMARY_BYTES, summarize};
use super::*;

/// A message to be made: a leaf with its body, a multipart, or an attached message.
#[derive(Debug, Clone)]
enum Tree {
    Leaf {
        name: String,
        body: Vec<u8>,
    },
    Multi {
        digest: bool,
        parts: Vec<Tree>,
        preamble: Vec<u8>,
        epilogue: Vec<u8>,
    },
    Message(Box<Tree>),
}

/// What is made of a tree: octets, and the parts that a reader must find.
struct Maker {
    out: Vec<u8>,
    parts: Vec<Part>,
    boundaries: usize,
    eol: &'static [u8],
}

impl Maker {
    fn line(&mut self, line: &[u8]) {
        self.out.extend_from_slice(line);
        self.out.extend_from_slice(self.eol);
    }

    fn make(&mut self, tree: &Tree, parent: usize) {
        let index = self.parts.len();
        let mut part = Part {
            parent: parent as u32,
            header: self.out.len() as u64,
            ..Part::default()
        };
        let (main_type, sub_type) = match tree {
            Tree::Leaf { .. } => ("text", "plain"),
            Tree::Multi { digest: true, .. } => ("multipart", "digest"),
            Tree::Multi { .. } => ("multipart", "mixed"),
            Tree::Message(_) => ("message", "rfc822"),
        };
        (part.main_type, part.sub_type) = (main_type.to_owned(), sub_type.to_owned());
        let mut boundary = String::new();
        let mut content_type = format!("Content-Type: {main_type}/{sub_type}");
        if let Tree::Multi { .. } = tree {
            // One boundary begins with another, which only whole lines tell apart.
            boundary = format!("=_b{}", "x".repeat(self.boundaries));
            self.boundaries += 1;
            content_type += &format!("; boundary=\"{boundary}\"");
        }
        if let Tree::Leaf { name, .. } = tree {
            content_type += &format!("; name=\"{name}\"");
        }
        self.line(content_type.as_bytes());
        self.line(b"");
        part.body = self.out.len() as u64;
        self.parts.push(part);
        match tree {
            Tree::Leaf { body, .. } => self.out.extend_from_slice(body),
            Tree::Message(inner) => self.make(inner, index),
            Tree::Multi {
                parts,
                preamble,
                epilogue,
                ..
            } => {
                self.line(preamble);
                for part in parts {
                    let open = format!("--{boundary}");
                    self.line(open.as_bytes());
                    self.make(part, index);
                    self.line(b"");
                }
                let close = format!("--{boundary}--");
                self.line(close.as_bytes());
                self.out.extend_from_slice(epilogue);
            }
        }
        let part = &mut self.parts[index];
        part.end = self.out.len() as u64;
        let body = &self.out[part.body as usize..];
        part.lines = body.iter().filter(|&&b| b == b'\n').count() as u64;
    }
}

fn body() -> impl Strategy<Value = Vec<u8>> {
    let line = prop_oneof![
        Just(b"-- \n".to_vec()),
        Just(b"--\r\n".to_vec()),
        Just(b"--=_other\n".to_vec()),
        Just(b"\r\n".to_vec()),
        Just(b"\r\r\n\n".to_vec()),
        Just(b"Content-Type: multipart/mixed; boundary=z\n\n--z\n".to_vec()),
        proptest::collection::vec(any::<u8>(), 0..200),
        Just(vec![b'A'; 5000]),
    ];
    proptest::collection::vec(line, 0..8).prop_map(|lines| {
        let mut body = lines.concat();
        // A return before the joining feed would be read as one line break with it.
        while body.last() == Some(&b'\r') {
            body.pop();
        }
        body
    })
}

fn tree() -> impl Strategy<Value = Tree> {
    let leaf = ("[a-z]{1,8}", body()).prop_map(|(name, body)| Tree::Leaf { name, body });
    leaf.prop_recursive(5, 40, 5, |inner| {
        prop_oneof![
            (
                any::<bool>(),
                proptest::collection::vec(inner.clone(), 1..5),
                body(),
                body()
            )
                .prop_map(|(digest, parts, preamble, epilogue)| Tree::Multi {
                    digest,
                    parts,
                    preamble,
                    epilogue
                }),
            inner.prop_map(|tree| Tree::Message(Box::new(tree))),
        ]
    })
}

fn shape(parts: &[Part]) -> Vec<(u32, String, u64, u64, u64, u64)> {
    let one = |p: &Part| {
        let kind = format!("{}/{}", p.main_type, p.sub_type);
        (p.parent, kind, p.header, p.body, p.end, p.lines)
    };
    parts.iter().map(one).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn made_messages_are_cut_where_they_were_joined(tree in tree(), crlf: bool) {
        let mut maker = Maker {
            out: Vec::new(),
            parts: Vec::new(),
            boundaries: 0,
            eol: if crlf { b"\r\n" } else { b"\n" },
        };
        maker.make(&tree, 0);
        let found = summarize(&maker.out);
        prop_assert_eq!(shape(&found.parts), shape(&maker.parts), "{}", maker.out.escape_ascii());
        prop_assert!(!found.truncated);
    }

    #[test]
    fn pieces_of_any_size_give_the_same_summary(tree in tree(), cuts in proptest::collection::vec(0usize..4000, 0..40)) {
        let mut maker = Maker { out: Vec::new(), parts: Vec::new(), boundaries: 0, eol: b"\r\n" };
        maker.make(&tree, 0);
        let mut scanner = Scanner::new();
        let mut rest = maker.out.as_slice();
        for cut in cuts {
            let (piece, after) = rest.split_at(cut.min(rest.len()));
            scanner.push(piece);
            rest = after;
        }
        for octet in rest.chunks(1) {
            scanner.push(octet);
        }
        prop_assert_eq!(scanner.finish(), summarize(&maker.out));
    }

    #[test]
    fn any_octets_have_a_summary(octets in proptest::collection::vec(any::<u8>(), 0..4000)) {
        let encoded = summarize(&octets).encode();
        prop_assert!(encoded.len() <= MAX_SUMMARY_BYTES);
        prop_assert!(Summary::decode(&encoded).is_ok());
    }

    #[test]
    fn mail_like_octets_have_a_sound_summary(
        lines in proptest::collection::vec(prop_oneof![
            Just("--b"), Just("--b--"), Just("--bc"), Just("--bc--"), Just(""), Just(" folded"),
            Just("Content-Type: multipart/mixed; boundary=b"), Just("Content-Type: message/rfc822"),
            Just("Content-Type: multipart/digest; boundary=bc"), Just("Subject: =?utf-8?B?w7w=?="),
            Just("Content-Type: text/html"), Just("Content-Transfer-Encoding: base64"), Just("text"),
        ], 0..60),
        lf: bool, whole: bool,
    ) {
        let eol = if lf { "\n" } else { "\r\n" };
        let mut mail = lines.join(eol);
        if whole { mail += eol; }
        let found = summarize(mail.as_bytes());
        check_sound(&found, mail.len() as u64);
    }
}

/// The line break before the outer boundary is all of the part within.
#[test]
fn lines_are_those_of_the_octets_up_to_the_end() {
    let mail = b"Content-Type: multipart/mixed; boundary=a\n\n--a\n\
        Content-Type: message/rfc822\n\nSubject: in\n\n--a\n\
        Content-Type: multipart/mixed; boundary=b\n\n--b\n\n--a--\n";
    let summary = summarize(mail);
    for part in &summary.parts {
        let octets = &mail[part.body as usize..part.end as usize];
        let feeds = octets.iter().filter(|&&b| b == b'\n').count();
        assert_eq!(part.lines, feeds as u64, "{part:?}");
    }
    assert_eq!(summary.parts[1].lines, 2);
}

/// What holds of every summary: parts lie inside of their parents, in order.
fn check_sound(summary: &Summary, len: u64) {
    assert!(!summary.parts.is_empty());
    for (i, part) in summary.parts.iter().enumerate() {
        assert!(
            part.header <= part.body && part.body <= part.end && part.end <= len,
            "{part:?}"
        );
        if i == 0 {
            assert_eq!((part.header, part.end), (0, len));
            continue;
        }
        let parent = &summary.parts[part.parent as usize];
        assert!((part.parent as usize) < i);
        assert!(
            parent.body <= part.header && part.end <= parent.end,
            "{part:?} in {parent:?}"
        );
        assert!(parent.is_multipart() || parent.main_type == "message");
        assert!(summary.parts[i - 1].header <= part.header);
    }
    assert!(summary.preview.chars().count() <= 256);
}

/// The time that a summary may take, on a slow and busy machine: linear in the octets.
fn patience(len: usize) -> Duration {
    Duration::from_millis(500) + Duration::from_micros(len as u64)
}

// What is measured is the real time that the octets take.
#[allow(clippy::disallowed_methods)]
fn check_hostile(name: &str, octets: &[u8]) {
    let start = Instant::now();
    let summary = summarize(octets);
    check_sound(&summary, octets.len() as u64);
    let encoded = summary.encode();
    assert!(
        encoded.len() <= MAX_SUMMARY_BYTES,
        "{name}: {}",
        encoded.len()
    );
    assert!(
        start.elapsed() < patience(octets.len()),
        "{name}: {:?}",
        start.elapsed()
    );
}

#[test]
fn hostile_mail_costs_no_more_than_its_octets() {
    let nested = |n: usize| {
        let level = |i: usize| format!("Content-Type: multipart/mixed; boundary=b{i}\n\n--b{i}\n");
        (0..n).map(level).collect::<String>()
    };
    check_hostile("nested", nested(10_000).as_bytes());
    check_hostile(
        "messages",
        "Content-Type: message/rfc822\n\n"
            .repeat(200_000)
            .as_bytes(),
    );
    let parts = "--b\nContent-Type: message/rfc822\n\nSubject: s\n\n".repeat(100_000);
    check_hostile(
        "parts",
        format!("Content-Type: multipart/mixed; boundary=b\n\n{parts}").as_bytes(),
    );
    check_hostile(
        "one header",
        format!("Subject: {}\n\n", "x ".repeat(5_000_000)).as_bytes(),
    );
    check_hostile(
        "a fold",
        format!("To: {}\n\n", "a@b,\n ".repeat(1_000_000)).as_bytes(),
    );
    check_hostile(
        "comments",
        format!("To: {}\n\n", "(".repeat(5_000_000)).as_bytes(),
    );
    check_hostile(
        "encoded words",
        format!("Subject: {}\n\n", "=?utf-8?Q?a?= ".repeat(500_000)).as_bytes(),
    );
    check_hostile(
        "half words",
        format!("Subject: {}\n\n", "=?".repeat(500_000)).as_bytes(),
    );
    let words = "=?aa?Q? ".repeat(8_000);
    let lists = ["From", "To", "Cc", "Bcc"].map(|name| format!("{name}: {words}\n"));
    check_hostile("words without an end", (lists.concat() + "\n").as_bytes());
    let params: String = (0..100_000).map(|i| format!(";a*{i}*=utf-8''b")).collect();
    check_hostile(
        "parameters",
        format!("Content-Type: text/plain{params}\n\n").as_bytes(),
    );
    check_hostile(
        "languages",
        format!(
            "Content-Type: text/plain{}\n\n",
            ";a*=a'b'c'd".repeat(100_000)
        )
        .as_bytes(),
    );
    check_hostile(
        "references",
        format!("References: {}\n\n", "<a@b> ".repeat(1_000_000)).as_bytes(),
    );
    check_hostile("headers", "A: b\n".repeat(2_000_000).as_bytes());
    check_hostile("NULs", &vec![0; 10 << 20]);
    check_hostile("feeds", &vec![b'\n'; 10 << 20]);
    check_hostile("returns", &vec![b'\r'; 10 << 20]);
    check_hostile(
        "dashes",
        format!("{}{}", nested(50), "--\n".repeat(1_000_000)).as_bytes(),
    );
    check_hostile(
        "near boundaries",
        format!("{}{}", nested(50), "--b499\n".repeat(200_000)).as_bytes(),
    );
    check_hostile(
        "html",
        format!("Content-Type: text/html\n\n{}", "<a<b&#;".repeat(1_000_000)).as_bytes(),
    );
    check_hostile(
        "long boundary",
        format!(
            "Content-Type: multipart/mixed; boundary={0}\n\n--{0}\n\nx\n--{0}--\n",
            "y".repeat(5000)
        )
        .as_bytes(),
    );
    check_hostile("nothing", b"");
}

/// Octets of every file of one folder of the corpus, if this machine has it.
fn corpus(folder: &str) -> Vec<(String, Vec<u8>)> {
    let Some(root) = std::env::var_os("POSTHOUSE_CORPUS") else {
        return Vec::new();
    };
    #[allow(clippy::disallowed_methods)]
    let Ok(files) = std::fs::read_dir(std::path::Path::new(&root).join(folder)) else {
        return Vec::new();
    };
    let mut out = Vec::new();
    for file in files.flatten() {
        #[allow(clippy::disallowed_methods)]
        if let Ok(octets) = std::fs::read(file.path()) {
            out.push((file.file_name().to_string_lossy().into_owned(), octets));
        }
    }
    out.sort();
    out
}

#[test]
fn every_message_of_the_corpus_has_a_sound_summary() {
    for folder in ["hostile", "fixtures", "real"] {
        for (name, octets) in corpus(folder) {
            check_hostile(&name, &octets);
        }
    }
}

#[test]
fn real_mail_is_read_as_the_library_reads_it() {
    let (mut same, mut all) = (0, 0);
    for (name, octets) in corpus("real") {
        let ours = summarize(&octets);
        let Some(theirs) = MessageParser::default().parse(&octets) else {
            continue;
        };
        all += 1;
        assert_eq!(
            ours.envelope.subject.is_empty(),
            theirs.subject().unwrap_or_default().is_empty(),
            "{name}"
        );
        let types = |m: &mail_parser::Message| -> Vec<String> {
            m.parts
                .iter()
                .map(|p| {
                    p.content_type()
                        .map_or("text".to_owned(), |t| t.ctype().to_owned())
                })
                .collect()
        };
        let our_types: Vec<String> = ours.parts.iter().map(|p| p.main_type.clone()).collect();
        same += usize::from(our_types == types(&theirs));
    }
    if all > 0 {
        println!("{same} of {all} messages have the same parts");
        assert!(
            same * 100 >= all * 95,
            "only {same} of {all} have the same parts"
        );
    }
}
