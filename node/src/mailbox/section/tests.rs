//! Sections of messages whose octets are known, written down or put together independently.

use proptest::prelude::*;

use super::super::summary::summarize;
use super::*;

/// A section as IMAP writes it: "", "HEADER", "1.2.MIME", "1 decode", "HEADER.FIELDS to subject".
fn section(text: &str) -> Section {
    let mut words = text.split(' ');
    let spec = words.next().unwrap_or_default();
    let mut path = Vec::new();
    let mut rest = spec;
    while let Some((number, after)) = rest
        .split_once('.')
        .or(Some((rest, "")))
        .and_then(|(n, after)| n.parse().ok().map(|n: u32| (n, after)))
    {
        path.push(number);
        rest = after;
    }
    let fields: Vec<String> = words.map(str::to_owned).collect();
    let decode = fields == ["decode"];
    let kind = match rest {
        "" => Kind::All,
        "HEADER" => Kind::Header,
        "HEADER.FIELDS" => Kind::Fields(fields),
        "HEADER.FIELDS.NOT" => Kind::FieldsNot(fields),
        "TEXT" => Kind::Text,
        "MIME" => Kind::Mime,
        other => panic!("{other}"),
    };
    Section {
        path,
        kind,
        decode,
        ..Section::default()
    }
}

/// The octets of a spot, made in pieces.
fn octets(mail: &[u8], spot: Spot, piece: usize) -> Vec<u8> {
    let range = spot.range();
    let here = &mail[range.start as usize..range.end as usize];
    match spot {
        Spot::Octets(_) => here.to_vec(),
        Spot::Made(_, mut coder) => {
            let mut out = Vec::new();
            for piece in here.chunks(piece) {
                coder.push(piece, &mut out);
            }
            coder.finish(&mut out);
            out
        }
        Spot::UnknownEncoding => b"unknown encoding".to_vec(),
    }
}

fn get(mail: &[u8], spec: &str) -> Option<Vec<u8>> {
    let summary = summarize(mail);
    let parts = Parts {
        parts: &summary.parts,
        cut: summary.truncated,
        size: mail.len() as u64,
    };
    parts.find(&section(spec)).map(|spot| octets(mail, spot, 3))
}

/// Compares sections; `None`: there is no such part.
fn check(mail: &str, expected: &[(&str, Option<&str>)]) {
    for (spec, expected) in expected {
        let got = get(mail.as_bytes(), spec).map(|o| String::from_utf8(o).unwrap());
        assert_eq!(got.as_deref(), *expected, "[{spec}] of {mail:?}");
    }
}

const NESTED: &str = "Subject: outer\r\nContent-Type: multipart/mixed; boundary=a\r\n\r\npreamble\r\n\
--a\r\n\r\none\r\n\
--a\r\nContent-Type: message/rfc822\r\n\r\nSubject: inner\r\nTo: t\r\nContent-Type: multipart/alternative; boundary=b\r\n\r\n\
--b\r\nContent-Type: text/plain\r\n\r\ninner one\r\n\
--b\r\nContent-Type: text/html\r\n\r\n<p>\r\n--b--\r\n\
--a\r\nContent-Type: multipart/mixed; boundary=c\r\n\r\n\
--c\r\n\r\n\r\n\
--c\r\nContent-Type: message/rfc822\r\n\r\nSubject: plain\r\n\r\nbody\r\n--c--\r\n\
--a\r\nX-Empty: 1\r\n--a--\r\nepilogue\r\n";

#[test]
fn nested_parts_have_their_numbers() {
    let inner_body = "--b\r\nContent-Type: text/plain\r\n\r\ninner one\r\n--b\r\nContent-Type: text/html\r\n\r\n<p>\r\n--b--";
    let inner_header =
        "Subject: inner\r\nTo: t\r\nContent-Type: multipart/alternative; boundary=b\r\n\r\n";
    let inner = format!("{inner_header}{inner_body}");
    check(
        NESTED,
        &[
            ("", Some(NESTED)),
            (
                "HEADER",
                Some("Subject: outer\r\nContent-Type: multipart/mixed; boundary=a\r\n\r\n"),
            ),
            ("TEXT", NESTED.split_once("\r\n\r\n").map(|(_, text)| text)),
            ("1", Some("one")),
            ("1.MIME", Some("\r\n")),
            ("1.HEADER", None),
            ("1.1", None),
            ("2", Some(&inner)),
            ("2.MIME", Some("Content-Type: message/rfc822\r\n\r\n")),
            ("2.HEADER", Some(inner_header)),
            ("2.HEADER.FIELDS to", Some("To: t\r\n\r\n")),
            ("2.TEXT", Some(inner_body)),
            ("2.1", Some("inner one")),
            ("2.1.MIME", Some("Content-Type: text/plain\r\n\r\n")),
            ("2.2", Some("<p>")),
            ("2.3", None),
            ("2.1.1", None),
            (
                "3",
                Some(
                    "--c\r\n\r\n\r\n--c\r\nContent-Type: message/rfc822\r\n\r\nSubject: plain\r\n\r\nbody\r\n--c--",
                ),
            ),
            ("3.HEADER", None),
            ("3.TEXT", None),
            ("3.1", Some("")),
            ("3.1.MIME", Some("\r\n")),
            ("3.2.HEADER", Some("Subject: plain\r\n\r\n")),
            ("3.2.TEXT", Some("body")),
            ("3.2.1", Some("body")),
            ("3.2.1.MIME", Some("Subject: plain\r\n\r\n")),
            ("3.2.1.1", None),
            ("4", Some("")),
            ("4.MIME", Some("X-Empty: 1\r\n")),
            ("5", None),
            ("1.1.1.1.1.1", None),
        ],
    );
}

#[test]
fn a_message_without_parts_is_its_own_part_one() {
    check(
        "Subject: s\n\nbody\n",
        &[
            ("HEADER", Some("Subject: s\n\n")),
            ("TEXT", Some("body\n")),
            ("1", Some("body\n")),
            ("1.MIME", Some("Subject: s\n\n")),
            ("1.TEXT", None),
            ("2", None),
            ("1.1", None),
        ],
    );
    // No blank line, no header, nothing at all.
    check(
        "Subject: s\r\n",
        &[
            ("HEADER", Some("Subject: s\r\n")),
            ("HEADER.FIELDS subject", Some("Subject: s\r\n")),
            ("TEXT", Some("")),
            ("1", Some("")),
        ],
    );
    check(
        "\r\nbody",
        &[
            ("HEADER", Some("\r\n")),
            ("HEADER.FIELDS.NOT x", Some("\r\n")),
            ("TEXT", Some("body")),
        ],
    );
    check("", &[("", Some("")), ("HEADER", Some("")), ("1", Some(""))]);
    // A message that is nothing but an attached one.
    check(
        "Content-Type: message/rfc822\n\nSubject: in\n\nx",
        &[
            ("1", Some("Subject: in\n\nx")),
            ("1.HEADER", Some("Subject: in\n\n")),
            ("1.1", Some("x")),
            ("HEADER", Some("Content-Type: message/rfc822\n\n")),
        ],
    );
    // An encoded one is a body.
    check(
        "Content-Type: message/rfc822\nContent-Transfer-Encoding: base64\n\nU3ViamVjdDogaW4=",
        &[
            ("1.HEADER", None),
            ("1.1", None),
            ("1 decode", Some("Subject: in")),
        ],
    );
}

#[test]
fn multiparts_that_are_broken_keep_their_octets() {
    // No boundary, and one that never comes.
    for broken in [
        "Content-Type: multipart/mixed\n\n--a\n\nx\n--a--\n",
        "Content-Type: multipart/mixed; boundary=z\n\n--a\n\nx\n--a--\n",
    ] {
        check(
            broken,
            &[
                ("1", Some("--a\n\nx\n--a--\n")),
                ("1.MIME", broken.find("--a").map(|at| &broken[..at])),
                ("2", None),
            ],
        );
    }
    // The end never comes.
    check(
        "Content-Type: multipart/mixed; boundary=a\n\n--a\n\nx\n--a\n\ny\n",
        &[("1", Some("x")), ("2", Some("y\n")), ("3", None)],
    );
    check(
        "Content-Type: multipart/mixed; boundary=a\n\n--a",
        &[("1", Some(""))],
    );
}

#[test]
fn encodings_are_undone() {
    let mail = "Content-Type: multipart/mixed; boundary=a\n\
Content-Transfer-Encoding: base64\n\n\
--a\nContent-Transfer-Encoding: Base64\n\naGVs\nbG8=\n\
--a\nContent-Transfer-Encoding: quoted-printable\n\n=41 =\n\
--a\nContent-Transfer-Encoding: x-uue\n\nbegin\n\
--a\n\n=41\n--a--\n";
    check(
        mail,
        &[
            ("1", Some("aGVs\nbG8=")),
            ("1 decode", Some("hello")),
            ("2 decode", Some("A ")),
            ("3 decode", Some("unknown encoding")),
            ("3", Some("begin")),
            ("4 decode", Some("=41")),
            // What contains parts is never encoded, whatever it says.
            (" decode", Some(mail)),
        ],
    );
}

#[test]
fn fields_stand_as_they_stood() {
    let mail = "From junk\nReceived: a\r\n\tb\r\nTO : x,\n y\nno field\n folded\nSubject:s\r\nto:z\r\n\r\nTo: body";
    check(
        mail,
        &[
            ("HEADER.FIELDS to", Some("TO : x,\n y\nto:z\r\n\r\n")),
            (
                "HEADER.FIELDS Received subject absent",
                Some("Received: a\r\n\tb\r\nSubject:s\r\n\r\n"),
            ),
            (
                "HEADER.FIELDS.NOT to RECEIVED",
                Some("From junk\nno field\n folded\nSubject:s\r\n\r\n"),
            ),
            ("HEADER.FIELDS", Some("\r\n")),
        ],
    );
}

#[test]
fn ranges_are_clipped() {
    let of = |offset, length| Section {
        offset,
        length,
        ..Section::default()
    };
    assert_eq!(of(0, 0).clip(10), 0..10);
    assert_eq!(of(3, 4).clip(10), 3..7);
    assert_eq!(of(8, 9).clip(10), 8..10);
    assert_eq!(of(11, 1).clip(10), 10..10);
    assert_eq!(of(u64::MAX, u64::MAX).clip(u64::MAX), u64::MAX..u64::MAX);
    assert_eq!(of(1, u64::MAX).clip(10), 1..10);
}

#[test]
fn senseless_sections_are_refused() {
    let refused = |s: Section| s.check("sections[0]").is_err();
    assert!(refused(section("0")));
    assert!(refused(section("MIME")));
    assert!(refused(Section {
        decode: true,
        ..section("TEXT")
    }));
    assert!(refused(Section {
        path: vec![1; 201],
        ..Section::default()
    }));
    assert!(section("1.2.MIME").check("").is_ok());
}

/// With parts left out, what is not there is never taken for what is.
#[test]
fn parts_that_were_left_out_are_not_made_up() {
    let summary = summarize(NESTED.as_bytes());
    let size = NESTED.len() as u64;
    for keep in 0..summary.parts.len() {
        let cut = Parts {
            parts: &summary.parts[..keep],
            cut: true,
            size,
        };
        let whole = Parts {
            parts: &summary.parts,
            cut: false,
            size,
        };
        for spec in [
            "", "1", "2", "2.HEADER", "2.1", "3.2.1", "3.2.TEXT", "4", "1.1",
        ] {
            let of = |parts: &Parts<'_>| parts.find(&section(spec)).map(|spot| spot.range());
            let found = of(&cut);
            assert!(found.is_none() || found == of(&whole), "{spec} of {keep}");
        }
    }
}

#[derive(Debug, Clone)]
enum Tree {
    Leaf(Vec<u8>),
    Multi(Vec<Tree>),
    Message(Box<Tree>),
}

/// What is made of a tree, put together from within.
struct Made {
    header: Vec<u8>,
    body: Vec<u8>,
    multi: bool,
    within: Vec<Made>,
}

fn make(tree: &Tree, boundaries: &mut u32, eol: &str) -> Made {
    *boundaries += 1;
    let boundary = format!("=_{boundaries}_");
    match tree {
        Tree::Leaf(body) => Made {
            header: format!("X-Leaf: {boundary}{eol}{eol}").into(),
            body: body.clone(),
            multi: false,
            within: Vec::new(),
        },
        Tree::Multi(parts) => {
            let within: Vec<Made> = parts.iter().map(|p| make(p, boundaries, eol)).collect();
            let mut body = Vec::new();
            for part in &within {
                body.extend_from_slice(format!("--{boundary}{eol}").as_bytes());
                body.extend_from_slice(&part.header);
                body.extend_from_slice(&part.body);
                body.extend_from_slice(eol.as_bytes());
            }
            body.extend_from_slice(format!("--{boundary}--").as_bytes());
            Made {
                header: format!("Content-Type: multipart/mixed; boundary={boundary}{eol}{eol}")
                    .into(),
                body,
                multi: true,
                within,
            }
        }
        Tree::Message(inner) => {
            let inner = make(inner, boundaries, eol);
            Made {
                header: format!("Content-Type: message/rfc822{eol}{eol}").into(),
                body: [&inner.header[..], &inner.body].concat(),
                multi: false,
                within: vec![inner],
            }
        }
    }
}

type Expected = Vec<(Vec<u32>, Kind, Option<Vec<u8>>)>;

fn expect_part(made: &Made, path: &[u32], out: &mut Expected) {
    out.push((path.to_vec(), Kind::All, Some(made.body.clone())));
    out.push((path.to_vec(), Kind::Mime, Some(made.header.clone())));
    if made.multi {
        for (n, part) in (1..).zip(&made.within) {
            expect_part(part, &[path, &[n]].concat(), out);
        }
        let beyond = made.within.len() as u32 + 1;
        out.push(([path, &[beyond]].concat(), Kind::All, None));
    } else if let [inner] = made.within.as_slice() {
        expect_message(inner, path, out);
    } else {
        out.push(([path, &[1]].concat(), Kind::All, None));
        out.push((path.to_vec(), Kind::Header, None));
    }
}

fn expect_message(made: &Made, path: &[u32], out: &mut Expected) {
    out.push((path.to_vec(), Kind::Header, Some(made.header.clone())));
    out.push((path.to_vec(), Kind::Text, Some(made.body.clone())));
    match made.multi {
        true => {
            for (n, part) in (1..).zip(&made.within) {
                expect_part(part, &[path, &[n]].concat(), out);
            }
        }
        false => {
            expect_part(made, &[path, &[1]].concat(), out);
            out.push(([path, &[2]].concat(), Kind::All, None));
        }
    }
}

fn tree() -> impl Strategy<Value = Tree> {
    let line = prop_oneof![
        Just("text\n"),
        Just("\n"),
        Just("--\r\n"),
        Just("--x\n"),
        Just(" \r\n")
    ];
    let leaf = proptest::collection::vec(line, 0..4)
        .prop_map(|lines| Tree::Leaf(lines.concat().into_bytes()));
    leaf.prop_recursive(6, 40, 4, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 1..4).prop_map(Tree::Multi),
            inner.prop_map(|tree| Tree::Message(Box::new(tree))),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn sections_are_what_the_message_was_put_together_from(tree in tree(), crlf: bool) {
        let made = make(&tree, &mut 0, if crlf { "\r\n" } else { "\n" });
        let mail = [&made.header[..], &made.body].concat();
        let mut expected = vec![(Vec::new(), Kind::All, Some(mail.clone()))];
        expect_message(&made, &[], &mut expected);
        let summary = summarize(&mail);
        let parts = Parts { parts: &summary.parts, cut: false, size: mail.len() as u64 };
        for (path, kind, expected) in expected {
            let section = Section { path, kind, ..Section::default() };
            let got = parts.find(&section).map(|spot| octets(&mail, spot, 1000));
            prop_assert_eq!(got, expected, "{:?} of {}", section, mail.escape_ascii());
        }
    }

    /// Every line is kept by one of the two, in any pieces.
    #[test]
    fn a_field_is_named_or_not(
        lines in proptest::collection::vec(
            prop_oneof![
                Just("To: a\r\n"), Just("to : b\n"), Just(" fold\n"), Just("\tfold\r\n"), Just("x\n"),
                Just("Cc: c\r\n"), Just("Too: d\n"), Just(":\n"), Just("T\ro: \n"), Just("\r\r\n"),
            ], 0..20),
        end in prop_oneof![Just("\r\n"), Just("\n"), Just(""), Just("to"), Just("To:")],
        piece in 1usize..20,
    ) {
        let header = [lines.concat(), end.to_owned()].concat().into_bytes();
        let of = |named| {
            let filter = Filter::new(&["To".to_owned()], named);
            let range = 0..header.len() as u64;
            octets(&header, Spot::Made(range, Coder::Filter(filter)), piece)
        };
        let (named, others) = (of(true), of(false));
        let blank = if matches!(end, "\r\n" | "\n") { end.len() } else { 0 };
        prop_assert_eq!(named.len() + others.len(), header.len() + blank);
        prop_assert!(named.ends_with(&header[header.len() - blank..]));
        let mut rest = named.as_slice();
        let mut kept = false;
        for line in lines.iter() {
            if !line.starts_with([' ', '\t']) {
                kept = line.starts_with("To:") || line.starts_with("to :");
            }
            if kept {
                prop_assert!(rest.starts_with(line.as_bytes()));
                rest = &rest[line.len()..];
            }
        }
    }

    #[test]
    fn no_octets_and_no_section_lead_out_of_the_message(
        lines in proptest::collection::vec(prop_oneof![
            Just("--b"), Just("--b--"), Just("--c"), Just(""), Just("\0\0"), Just("x: y"),
            Just("Content-Type: multipart/mixed; boundary=b"), Just("Content-Type: message/rfc822"),
            Just("Content-Type: multipart/digest; boundary=c"),
            Just("Content-Transfer-Encoding: base64"),
        ], 0..60),
        path in proptest::collection::vec(1u32..5, 0..6),
        cut: bool, decode: bool, keep in 0usize..40,
    ) {
        let mail = lines.join("\n").into_bytes();
        let mut summary = summarize(&mail);
        summary.parts.truncate(keep);
        // A size that the rows do not agree with must not lead out of the message either.
        for size in [mail.len() as u64, mail.len() as u64 / 2] {
            let parts = Parts { parts: &summary.parts, cut, size };
            for kind in [
                Kind::All, Kind::Header, Kind::Text, Kind::Mime, Kind::Fields(vec!["x".into()]),
            ] {
                let section = Section { path: path.clone(), kind, decode, ..Section::default() };
                if let Some(spot) = parts.find(&section) {
                    let range = spot.range();
                    prop_assert!(range.start <= range.end && range.end <= size);
                    octets(&mail, spot, 5);
                }
            }
        }
    }
}

#[test]
fn nesting_of_thousands_is_followed_as_far_as_it_is_known() {
    let messages = "Content-Type: message/rfc822\n\n".repeat(5000);
    let multiparts: String = (0..5000)
        .map(|i| format!("Content-Type: multipart/mixed; boundary=b{i}\n\n--b{i}\n"))
        .collect();
    for mail in [messages, multiparts] {
        let summary = summarize(mail.as_bytes());
        assert!(summary.truncated);
        let parts = Parts {
            parts: &summary.parts,
            cut: false,
            size: mail.len() as u64,
        };
        for depth in 1..=MAX_PATH {
            let section = Section {
                path: vec![1; depth],
                ..Section::default()
            };
            let found = parts.find(&section);
            assert!(found.is_some() || depth > 45, "{depth}");
        }
    }
}
