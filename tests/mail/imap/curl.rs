//! curl: lists, fetches, searches, appends; one command, one connection.

use std::process::Command;
use std::time::Duration;

use posthouse_tests::cluster::Cluster;
use posthouse_tests::samples;

use super::*;

const ANN: &str = "ann@example.org";

fn curl(door: &Door, url: String, arguments: &[&str]) -> Command {
    let mut command = Command::new("curl");
    command
        .args(["-s", "-S", "--max-time", "60"])
        .args(["--cacert", door.certificate()])
        .args(["-u", &format!("{ANN}:{PASSWORD}")])
        .args(arguments)
        .arg(url);
    command
}

/// With TLS from the start.
fn imaps(door: &Door, path: &str, arguments: &[&str]) -> Command {
    let url = format!("imaps://127.0.0.1:{}/{path}", door.imaps);
    curl(door, url, arguments)
}

/// With STARTTLS.
fn starttls(door: &Door, path: &str, arguments: &[&str]) -> Command {
    let url = format!("imap://127.0.0.1:{}/{path}", door.imap);
    let mut command = curl(door, url, arguments);
    command.arg("--ssl-reqd");
    command
}

async fn lines(command: &mut Command, cluster: &Cluster) -> Vec<String> {
    let text = run("curl", command, cluster.dir()).await;
    text.lines()
        .map(|line| line.trim_end().to_owned())
        .collect()
}

async fn fetched(command: &mut Command, cluster: &Cluster) -> Vec<u8> {
    run("curl", command, cluster.dir()).await;
    std::fs::read(cluster.dir().join("curl.out")).unwrap()
}

/// Lines that do not repeat.
fn large(len: usize) -> Vec<u8> {
    let mut out = b"Subject: large\r\n\r\n".to_vec();
    for n in 0u64.. {
        if out.len() >= len {
            break;
        }
        out.extend_from_slice(blake3::hash(&n.to_le_bytes()).to_hex().as_bytes());
        out.extend_from_slice(b"\r\n");
    }
    out
}

#[tokio::test]
async fn curl_lists_fetches_searches_and_appends() {
    let cluster = cluster().await;
    create(&cluster, ANN).await;
    let doors = [0, 1, 2].map(|i| Door::of(&cluster, i));
    let samples = samples::small().unwrap();
    let samples: Vec<_> = samples.into_iter().step_by(5).collect();
    let file = cluster.dir().join("message");
    let file = file.to_str().unwrap();
    for (n, sample) in samples.iter().enumerate() {
        std::fs::write(file, &sample.octets).unwrap();
        let door = &doors[n % 2];
        match n % 2 {
            0 => lines(&mut imaps(door, "INBOX", &["-T", file]), &cluster).await,
            _ => lines(&mut starttls(door, "INBOX", &["-T", file]), &cluster).await,
        };
    }
    let stored = kept(&cluster, ANN, "INBOX").await;
    let expected = samples.iter().map(|s| s.octets.clone());
    assert_same(
        "what was appended",
        stored.iter().map(|m| m.octets.clone()),
        expected,
    );
    assert!(
        stored.iter().all(|m| m.flags.contains("\\Seen")),
        "as curl asks"
    );
    for (n, sample) in samples.iter().enumerate() {
        let path = format!("INBOX;UID={}", n + 1);
        assert!(fetched(&mut imaps(&doors[2], &path, &[]), &cluster).await == sample.octets);
        let path = format!("INBOX;MAILINDEX={}", n + 1);
        assert!(fetched(&mut starttls(&doors[1], &path, &[]), &cluster).await == sample.octets);
    }
    let header = fetched(
        &mut imaps(&doors[0], "INBOX;UID=1;SECTION=HEADER", &[]),
        &cluster,
    )
    .await;
    assert!(header.ends_with(b"\r\n\r\n") && samples[0].octets.starts_with(&header));

    lines(
        &mut imaps(&doors[0], "", &["-X", "CREATE Work/2026"]),
        &cluster,
    )
    .await;
    let listed = lines(&mut starttls(&doors[1], "", &[]), &cluster).await;
    let names: Vec<_> = listed
        .iter()
        .filter_map(|l| l.rsplit_once(' '))
        .map(|l| l.1)
        .collect();
    assert_eq!(names, ["INBOX", "Work", "Work/2026"], "{listed:?}");
    let status = ["-X", "STATUS INBOX (MESSAGES UIDNEXT)"];
    let (all, next) = (samples.len(), samples.len() + 1);
    assert_eq!(
        lines(&mut imaps(&doors[2], "", &status), &cluster).await,
        [format!("* STATUS INBOX (MESSAGES {all} UIDNEXT {next})")]
    );
    let larger: Vec<String> = (samples.iter().enumerate())
        .filter(|(_, sample)| sample.octets.len() > 1000)
        .map(|(n, _)| (n + 1).to_string())
        .collect();
    assert!(!larger.is_empty() && larger.len() < samples.len());
    assert_eq!(
        lines(&mut imaps(&doors[1], "INBOX?LARGER%201000", &[]), &cluster).await,
        [format!("* SEARCH {}", larger.join(" "))]
    );
    let wrong = ["-u", &format!("{ANN}:wrong")];
    let mut refused = start("wrong", &mut imaps(&doors[0], "", &wrong), cluster.dir());
    assert_eq!(
        refused.wait(PATIENCE).await.unwrap().code(),
        Some(67),
        "login denied"
    );
}

#[tokio::test]
async fn nodes_die_in_the_middle_of_a_large_message() {
    let mut cluster = cluster().await;
    create(&cluster, ANN).await;
    let dir = cluster.dir().to_owned();
    let message = large(12 << 20);
    let file = dir.join("message");
    std::fs::write(&file, &message).unwrap();
    let upload = ["--limit-rate", "6M", "-T", file.to_str().unwrap()];
    let moment = Duration::from_millis(700);

    // On its way up, through another node than the one that dies.
    let (leader, [witness, _]) = leader_and_others(&cluster, ANN).await;
    let door = Door::of(&cluster, witness);
    let up = start("up", &mut imaps(&door, "INBOX", &upload), &dir);
    tokio::time::sleep(moment).await;
    cluster.kill(leader);
    finish("up", up, &dir).await;
    let stored = kept(&cluster, ANN, "INBOX").await;
    assert_eq!(stored.len(), 1);
    assert!(stored[0].octets == message);
    cluster.restart(leader).await.unwrap();
    cluster.wait_healthy(PATIENCE).await.unwrap();

    // On its way down.
    let (leader, [witness, other]) = leader_and_others(&cluster, ANN).await;
    let door = Door::of(&cluster, witness);
    let mut fetch = imaps(&door, "INBOX;UID=1", &["--limit-rate", "6M"]);
    let down = start("down", &mut fetch, &dir);
    let out = dir.join("down.out");
    until_some(
        "the download",
        async || out.metadata().map_or(0, |m| m.len()),
        2 << 20,
    )
    .await;
    cluster.kill(leader);
    finish("down", down, &dir).await;
    assert!(std::fs::read(&out).unwrap() == message);
    cluster.restart(leader).await.unwrap();
    cluster.wait_healthy(PATIENCE).await.unwrap();

    // The node that takes it dies: nothing is there, and once it is sent again, one.
    let door = Door::of(&cluster, other);
    let mut up = start("up", &mut imaps(&door, "INBOX", &upload), &dir);
    tokio::time::sleep(moment).await;
    cluster.kill(other);
    assert!(!up.wait(PATIENCE).await.unwrap().success());
    assert_eq!(count(&cluster, ANN, "INBOX").await, 1);
    let door = Door::of(&cluster, witness);
    run(
        "up",
        &mut imaps(&door, "INBOX", &["-T", file.to_str().unwrap()]),
        &dir,
    )
    .await;
    let stored = kept(&cluster, ANN, "INBOX").await;
    assert_eq!(stored.len(), 2);
    assert!(stored[1].octets == message);
}
