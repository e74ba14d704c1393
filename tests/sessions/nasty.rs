//! Mail that is made to break readers: of structure, of memory, of time.

use bytes::Bytes;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha12Rng;

/// A message, and what is nasty about it.
pub struct Nasty {
    /// What is nasty about it.
    pub what: &'static str,
    /// Its octets.
    pub octets: Bytes,
}

const TOP: &str = "From: a@example.net\r\nTo: ann@example.org\r\nMIME-Version: 1.0\r\n";

fn multipart(boundary: &str, body: &str) -> String {
    format!("{TOP}Content-Type: multipart/mixed; boundary=\"{boundary}\"\r\n\r\n{body}")
}

/// Multiparts in multiparts.
fn nested(levels: usize, closed: bool) -> String {
    let mut out = String::from(TOP);
    for n in 0..levels {
        out.push_str(&format!(
            "Content-Type: multipart/mixed; boundary=b{n}\r\n\r\n--b{n}\r\n"
        ));
    }
    out.push_str("\r\nthe innermost\r\n");
    for n in (0..levels).rev().filter(|_| closed) {
        out.push_str(&format!("--b{n}--\r\n"));
    }
    out
}

/// Messages in messages.
fn forwarded(levels: usize) -> String {
    let mut out = String::new();
    for n in 0..levels {
        out.push_str(&format!(
            "Subject: level {n}\r\nContent-Type: message/rfc822\r\n\r\n"
        ));
    }
    out + "Subject: last\r\n\r\nthe innermost\r\n"
}

/// All of them.
pub fn all() -> Vec<Nasty> {
    let mut rng = ChaCha12Rng::seed_from_u64(6);
    let mut random = vec![0; 1 << 20];
    rng.fill_bytes(&mut random);
    let mut all: Vec<(&'static str, Vec<u8>)> = Vec::new();
    let mut add = |what, octets: Vec<u8>| all.push((what, octets));
    let many = |n: usize, what: &dyn Fn(usize) -> String| (0..n).map(what).collect::<String>();

    add("multiparts that nobody closes", nested(3, false).into());
    add("multiparts in multiparts", nested(5_000, true).into());
    add(
        "multiparts in multiparts, unclosed",
        nested(20_000, false).into(),
    );
    add("messages in messages", forwarded(5_000).into());
    add("each line a boundary", {
        let line = "--b\r\n";
        multipart("b", &line.repeat((20 << 20) / line.len())).into()
    });
    add("a hundred thousand parts", {
        multipart("b", &many(100_000, &|n| format!("--b\r\n\r\n{n}\r\n"))).into()
    });
    add(
        "an empty boundary",
        multipart("", "--\r\n\r\nx\r\n----\r\n").into(),
    );
    add("a boundary of a hundred thousand octets", {
        let b = "b".repeat(100_000);
        multipart(&b, &format!("--{b}\r\n\r\nx\r\n--{b}--\r\n")).into()
    });
    add("boundaries that begin alike", {
        multipart(
            "b",
            "--bb\r\n\r\nx\r\n--b\r\n\r\ny\r\n--b-\r\n--b--x\r\n--b--\r\n",
        )
        .into()
    });
    add(
        "NULs",
        [TOP.as_bytes(), b"Subject: a\0b\r\n\r\nbody\0\0\r\n\0"].concat(),
    );
    add(
        "bare LF",
        TOP.replace("\r\n", "\n")
            .into_bytes()
            .into_iter()
            .chain(*b"\nbody\nend")
            .collect(),
    );
    add(
        "bare CR",
        b"Subject: a\rb\r\rbody\r.\r\r\n\r\nmore\r".to_vec(),
    );
    add(
        "a field of a megabyte",
        format!("Subject: {}\r\n\r\nx\r\n", "s".repeat(1 << 20)).into(),
    );
    add("a field of a megabyte in folds", {
        format!("{TOP}Subject: {}\r\n\r\nx\r\n", "word\r\n ".repeat(150_000)).into()
    });
    add("a header of fifty thousand fields", {
        format!("{}\r\nx\r\n", many(50_000, &|n| format!("X-{n}: {n}\r\n"))).into()
    });
    add(
        "a header without an end",
        "Subject: x\r\n".repeat(100_000).into(),
    );
    add(
        "a line of ten megabytes",
        [TOP.as_bytes(), b"\r\n", &b"x".repeat(10 << 20)].concat(),
    );
    add("encoded words without an end", {
        let word = "=?utf-8?b?0J/RgNC40LLQtdGC?=\r\n ";
        format!("{TOP}Subject: {}\r\n\r\nx\r\n", word.repeat(30_000)).into()
    });
    add("encoded words that are none", {
        let subject =
            "=?utf-8?q?=?= =?x?b?!!!?= =?utf-8?q?=C3?= =?utf-7?q?+AGE?= =?gb18030?b?/w==?=";
        format!("Subject: {subject}\r\nFrom: =?utf-8?q?=00=0D=0A?= <a@b>\r\n\r\nx\r\n").into()
    });
    add("charsets that lie", {
        let mut body = multipart("b", "").into_bytes();
        for (charset, octets) in [
            ("utf-8", &b"\xd6\xd0\xce\xc4 \xff\xfe"[..]),
            ("gb18030", b"\x81\x30\x81\xff\x84\x31\xa4\x37"),
            ("iso-2022-jp", b"\x1b$B$3\x1b\x1b(B\x1b$"),
            ("utf-16", b"\xff\xfe\x00\xd8\x00"),
            ("no-such-charset", b"\x80\x81"),
            ("\\\"", b"\x00"),
        ] {
            let head = format!("--b\r\nContent-Type: text/plain; charset=\"{charset}\"\r\n\r\n");
            body.extend_from_slice(head.as_bytes());
            body.extend_from_slice(octets);
            body.extend_from_slice(b"\r\n");
        }
        body
    });
    add("base64 that is none", {
        let mut octets = format!("{TOP}Content-Transfer-Encoding: base64\r\n\r\n").into_bytes();
        octets.extend(random.iter().flat_map(|b| [b'A' + b % 60, b'=']));
        octets
    });
    add("quoted-printable that is none", {
        let body = "=\r\n=ZZ=\r=\n= \t\r\n==3D=".repeat(20_000);
        format!("{TOP}Content-Transfer-Encoding: quoted-printable\r\n\r\n{body}").into()
    });
    add("an encoding that nobody knows", {
        format!("{TOP}Content-Transfer-Encoding: x-uuencode\r\n\r\nbegin\r\n").into()
    });
    add("a multipart in base64", {
        let top = multipart("b", "--b\r\n\r\nx\r\n--b--\r\n");
        top.replacen("MIME", "Content-Transfer-Encoding: base64\r\nMIME", 1)
            .into()
    });
    add("fifty thousand addresses", {
        format!(
            "To: {}b@c\r\n\r\nx\r\n",
            many(50_000, &|n| format!("\"n {n}\" <a{n}@b>, "))
        )
        .into()
    });
    add("groups in groups, comments in comments", {
        let (groups, comments) = ("g: ".repeat(20_000), "(".repeat(100_000));
        format!("To: {groups}a@b;\r\nCc: {comments}\r\nBcc: <<<<@@>>,;:\\\"\r\n\r\nx\r\n").into()
    });
    add("fifty thousand references", {
        let ids = many(50_000, &|n| format!("<r{n}@example.net>\r\n "));
        format!("{TOP}References: {ids}\r\n\r\nx\r\n").into()
    });
    add("parameters in ten thousand pieces", {
        let pieces = many(10_000, &|n| format!(";\r\n name*{n}*=utf-8''%C3%"));
        format!("{TOP}Content-Type: text/plain{pieces}\r\nContent-Disposition: a{pieces}\r\n\r\nx")
            .into()
    });
    add("dates that are none", {
        "Date: Mon, 99 Foo 99999999999999 25:61:61 +9999\r\nDate: \r\nSubject:\r\n\r\nx\r\n".into()
    });
    add("dots", ".\r\n..\r\n.\n\r\n.\r\n...x\r\n.".into());
    add("octets from nowhere", random);
    add("nothing but lines", "\r\n".repeat(100_000).into());
    add("one octet", "x".into());
    add("a colon", ":\r\n\r\n".into());
    let nasty = |(what, octets): (&'static str, Vec<u8>)| Nasty {
        what,
        octets: octets.into(),
    };
    all.into_iter().map(nasty).collect()
}
