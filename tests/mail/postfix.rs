//! A real Postfix hands mail on to Posthouse by LMTP.

use std::process::Command;
use std::time::Duration;

use posthouse_tests::postfix::Postfix;
use posthouse_tests::samples::{self, Sample, is_clean, without_return_path};

use super::receiver::{Receiver, assert_received};

/// Sends files by SMTP: ADDR, recipients separated by commas, files.
const SMTPLIB: &str = r#"
import smtplib, sys
host, port = sys.argv[1].rsplit(":", 1)
with smtplib.SMTP(host, int(port)) as server:
    for name in sys.argv[3:]:
        with open(name, "rb") as file:
            octets = file.read()
        server.sendmail("s@example.net", sys.argv[2].split(","), octets, ["BODY=8BITMIME"])
"#;

fn send(postfix: &Postfix, to: &str, samples: &[Sample]) {
    let dir = tempfile::tempdir().unwrap();
    let mut command = Command::new("python3");
    command.args(["-c", SMTPLIB, &postfix.smtp(), to]);
    for sample in samples {
        let path = dir.path().join(&sample.name);
        std::fs::write(&path, &sample.octets).unwrap();
        command.arg(path);
    }
    let output = command.output().unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

/// What Postfix itself does not change, apart from the Received field that it has to add: lines
/// that are lines, a header, no line of the mbox format at the start.
fn samples_for_postfix() -> Vec<Sample> {
    let mut samples = samples::all().unwrap();
    samples.retain(|sample| {
        let octets = &sample.octets;
        let has_body = octets.windows(4).any(|w| w == b"\r\n\r\n");
        is_clean(octets)
            && has_body
            && !octets.starts_with(b"\r\n")
            && !octets.starts_with(b"From ")
    });
    assert!(samples.len() > 40);
    samples
}

/// The message as it was given to Postfix: without Return-Path and without its Received field.
fn original(octets: &[u8]) -> Vec<u8> {
    let mut rest = without_return_path(octets).unwrap();
    assert!(
        rest.starts_with(b"Received: from "),
        "{:?}",
        &rest[..40.min(rest.len())]
    );
    loop {
        let end = rest.windows(2).position(|w| w == b"\r\n").unwrap() + 2;
        rest = &rest[end..];
        if !rest.starts_with(b"\t") && !rest.starts_with(b" ") {
            return rest.to_vec();
        }
    }
}

async fn postfix_delivers(receiver: Receiver) {
    let postfix = Postfix::start(receiver.lmtp()).await.unwrap();
    let samples = samples_for_postfix();
    send(&postfix, "ann@example.org,ben@example.org", &samples);
    for account in ["ann@example.org", "ben@example.org"] {
        let inbox = receiver.wait_for(account, samples.len()).await;
        let received = inbox.iter().map(|octets| original(octets)).collect();
        assert_received(received, &samples);
    }
    // An account that is not there: the sender is told by a bounce, not by silence.
    send(&postfix, "nobody@example.org", &samples[..1]);
    let line = postfix
        .wait_for_log(&["to=<nobody@example.org>", "status="])
        .await
        .unwrap();
    assert!(
        line.contains("dsn=5.1.1") && line.contains("status=bounced"),
        "{line}"
    );
}

#[tokio::test]
async fn postfix_to_the_door() {
    postfix_delivers(Receiver::door().await).await;
}

#[tokio::test]
async fn postfix_to_a_cluster() {
    postfix_delivers(Receiver::cluster().await).await;
}

#[tokio::test]
async fn postfix_keeps_mail_while_the_door_is_shut() {
    let Receiver::Door(mut door) = Receiver::door().await else {
        unreachable!()
    };
    let postfix = Postfix::start(door.lmtp()).await.unwrap();
    door.down();
    let samples = &samples_for_postfix()[..3];
    send(&postfix, "ann@example.org", samples);
    postfix
        .wait_for_log(&["to=<ann@example.org>", "status=deferred"])
        .await
        .unwrap();
    door.up().await.unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    postfix.flush().unwrap();
    let inbox = Receiver::Door(door)
        .wait_for("ann@example.org", samples.len())
        .await;
    assert_received(
        inbox.iter().map(|octets| original(octets)).collect(),
        samples,
    );
}

#[tokio::test]
async fn postfix_delivers_once_across_the_death_of_a_leader() {
    let Receiver::Cluster(mut cluster) = Receiver::cluster().await else {
        unreachable!()
    };
    let (_, leader) = cluster.leader_of("ann@example.org").await.unwrap();
    let witness = (leader + 1) % cluster.size();
    let postfix = Postfix::start(cluster.lmtp(witness)).await.unwrap();
    let samples = samples_for_postfix();
    let (before, after) = samples.split_at(samples.len() / 2);
    send(&postfix, "ann@example.org", before);
    cluster.kill(leader);
    send(&postfix, "ann@example.org", after);
    postfix.flush().unwrap();
    let inbox = Receiver::Cluster(cluster)
        .wait_for("ann@example.org", samples.len())
        .await;
    assert_received(
        inbox.iter().map(|octets| original(octets)).collect(),
        &samples,
    );
}
