//! Python's smtplib, swaks, and the quickstart's own deliverer.

use std::process::{Command, Output};

use posthouse_tests::binaries::repository;
use posthouse_tests::samples::{self, Sample, is_clean, without_return_path};

use super::receiver::{ACCOUNTS, Receiver, assert_received};

/// Sends files by LMTP: ADDR, recipients separated by commas, files.
const SMTPLIB: &str = r#"
import smtplib, sys
host, port = sys.argv[1].rsplit(":", 1)
with smtplib.LMTP(host, int(port)) as door:
    for name in sys.argv[3:]:
        with open(name, "rb") as file:
            refused = door.sendmail("s@example.net", sys.argv[2].split(","), file.read())
        print(sorted(refused.items()))
"#;

fn run(command: &mut Command) -> Output {
    let output = command
        .output()
        .unwrap_or_else(|e| panic!("{command:?}: {e}"));
    let words = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "{command:?}: {}\n{words}\n{}",
        output.status,
        String::from_utf8_lossy(&output.stdout)
    );
    output
}

/// Writes samples to files of a directory.
fn write(dir: &std::path::Path, samples: &[Sample]) -> Vec<std::path::PathBuf> {
    let write = |sample: &Sample| {
        let path = dir.join(&sample.name).with_extension("eml");
        std::fs::write(&path, &sample.octets).unwrap();
        path
    };
    samples.iter().map(write).collect()
}

async fn received(receiver: &Receiver, account: &str, count: usize) -> Vec<Vec<u8>> {
    let inbox = receiver.wait_for(account, count).await;
    inbox
        .iter()
        .map(|octets| without_return_path(octets).unwrap().to_vec())
        .collect()
}

async fn smtplib_delivers(receiver: Receiver) {
    let mut samples = samples::all().unwrap();
    samples.retain(|sample| is_clean(&sample.octets));
    assert!(samples.len() > 40);
    let dir = tempfile::tempdir().unwrap();
    // One account that is there: smtplib reads a single reply after the message, where LMTP has
    // one for each recipient (RFC 2033, section 4.2).
    let to = "nobody@example.org,carl+x@example.org";
    let output = run(Command::new("python3")
        .args(["-c", SMTPLIB, receiver.lmtp(), to])
        .args(write(dir.path(), &samples)));
    let answers = String::from_utf8(output.stdout).unwrap();
    assert_eq!(answers.lines().count(), samples.len());
    for answer in answers.lines() {
        assert_eq!(
            answer,
            "[('nobody@example.org', (550, b'5.1.1 <nobody@example.org> no such account'))]"
        );
    }
    let received = received(&receiver, "carl+x@example.org", samples.len()).await;
    assert_received(received, &samples);
}

async fn every_octet_comes_back(receiver: Receiver) {
    let samples = samples::all().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let mut command = Command::new("python3");
    command.arg(repository().join("deploy/lib/quickmail.py"));
    command.args(["deliver", "--lmtp", receiver.lmtp()]);
    for account in ACCOUNTS {
        command.args(["--to", account]);
    }
    command.args(write(dir.path(), &samples));
    // Twice: a mail server that repeats a delivery makes no second message.
    run(&mut command);
    run(&mut command);
    for account in ACCOUNTS {
        assert_received(received(&receiver, account, samples.len()).await, &samples);
    }
}

async fn swaks_delivers(receiver: Receiver) {
    let base = [
        "--protocol",
        "LMTP",
        "--server",
        receiver.lmtp(),
        "--from",
        "s@example.net",
    ];
    let message = "Subject: by swaks\n\nfirst line\n.a dot\nlast line\n";
    let output = run(Command::new("swaks").args(base).args([
        "--to",
        "ann@example.org,ben@example.org",
        "--data",
        message,
    ]));
    let talk = String::from_utf8_lossy(&output.stdout);
    for word in [
        "250-PIPELINING",
        "250-CHUNKING",
        "250 SIZE",
        "250 2.1.5 <ben@example.org> stored",
    ] {
        assert!(talk.contains(word), "{word}: {talk}");
    }
    for account in ["ann@example.org", "ben@example.org"] {
        let inbox = received(&receiver, account, 1).await;
        // swaks ends its data with an empty line.
        let octets = inbox[0].strip_suffix(b"\r\n").unwrap_or(&inbox[0]);
        assert_eq!(
            octets,
            b"Subject: by swaks\r\n\r\nfirst line\r\n.a dot\r\nlast line\r\n"
        );
    }
    let refused = Command::new("swaks")
        .args(base)
        .args(["--to", "nobody@example.org"])
        .output();
    let refused = refused.unwrap();
    assert!(!refused.status.success());
    let talk = String::from_utf8_lossy(&refused.stdout);
    assert!(talk.contains("550 5.1.1 <nobody@example.org>"), "{talk}");
    let pipelined =
        run(Command::new("swaks")
            .args(base)
            .args(["--pipeline", "--to", "carl+x@example.org"]));
    let talk = String::from_utf8_lossy(&pipelined.stdout);
    assert!(
        talk.contains("250 2.1.5 <carl+x@example.org> stored"),
        "{talk}"
    );
}

#[tokio::test]
async fn smtplib_to_the_door() {
    smtplib_delivers(Receiver::door().await).await;
}

#[tokio::test]
async fn smtplib_to_a_cluster() {
    smtplib_delivers(Receiver::cluster().await).await;
}

#[tokio::test]
async fn every_octet_through_the_door() {
    every_octet_comes_back(Receiver::door().await).await;
}

#[tokio::test]
async fn every_octet_through_a_cluster() {
    every_octet_comes_back(Receiver::cluster().await).await;
}

#[tokio::test]
async fn swaks_to_the_door() {
    swaks_delivers(Receiver::door().await).await;
}

#[tokio::test]
async fn swaks_to_a_cluster() {
    swaks_delivers(Receiver::cluster().await).await;
}
