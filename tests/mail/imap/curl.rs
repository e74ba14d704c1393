//! curl: lists, fetches, searches, appends; one command, one connection.

use std::process::Command;
use std::time::Duration;

use posthouse_tests::cluster::Cluster;
use posthouse_tests::samples;

use super::beside::{Beside, Letters, kill_under, with_flags};
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

/// Commands to INBOX by curl at these doors, one after the other when one does not answer.
struct Curl<'a> {
    cluster: &'a Cluster,
    doors: &'a [Door],
}

impl Curl<'_> {
    /// What a command says that may be repeated.
    async fn say(&self, words: &str) -> String {
        for door in self.doors {
            let mut command = imaps(door, "INBOX", &["-X", words]);
            let mut process = start("curl", &mut command, self.cluster.dir());
            if process.wait(PATIENCE).await.unwrap().success() {
                return std::fs::read_to_string(self.cluster.dir().join("curl.out")).unwrap();
            }
        }
        panic!("no node answers to {words}");
    }

    /// The uid of a letter, if it is there.
    async fn find(&self, number: usize) -> Option<u32> {
        let words = format!("UID SEARCH HEADER Message-ID <letter-{number}@example.org>");
        let said = self.say(&words).await;
        let line = said.lines().find_map(|line| line.strip_prefix("* SEARCH"));
        let uids: Vec<u32> = (line.unwrap().split_whitespace())
            .map(|uid| uid.parse().unwrap())
            .collect();
        assert!(uids.len() <= 1, "letter {number} is there twice");
        uids.first().copied()
    }

    /// Appends a letter unless it is there, reads it, flags some and removes some.
    async fn round(&self, number: usize, letter: &[u8]) {
        let file = self.cluster.dir().join("letter");
        std::fs::write(&file, letter).unwrap();
        for door in self.doors {
            if self.find(number).await.is_none() {
                let upload = ["-T", file.to_str().unwrap()];
                let mut command = imaps(door, "INBOX", &upload);
                let mut process = start("upload", &mut command, self.cluster.dir());
                process.wait(PATIENCE).await.unwrap();
            }
        }
        let uid = self.find(number).await.unwrap();
        let last = self.doors.last().unwrap();
        let path = format!("INBOX;UID={uid}");
        assert!(fetched(&mut imaps(last, &path, &[]), self.cluster).await == letter);
        let flag = match number % 3 {
            0 => "\\Flagged",
            1 => "\\Deleted",
            _ => return,
        };
        self.say(&format!("UID STORE {uid} +FLAGS ({flag})")).await;
        if number % 3 == 1 {
            self.say(&format!("UID EXPUNGE {uid}")).await;
        }
    }
}

#[tokio::test]
async fn curl_changes_a_mailbox_that_changes_elsewhere_while_nodes_die() {
    let mut cluster = cluster().await;
    create(&cluster, ANN).await;
    let (old, mut new) = (letters(0..20), letters(20..44));
    append(&cluster, ANN, &old).await;
    let dir = cluster.dir().to_owned();
    let (leader, [near, far]) = leader_and_others(&cluster, ANN).await;
    let beside = Beside::start(&cluster, ANN, far, old.len(), Letters::Alone).await;
    let doors = [near, leader].map(|i| Door::of(&cluster, i));
    let file = dir.join("large");
    for (n, letter) in new.iter_mut().enumerate() {
        // The leader dies under a large letter, and then the node that takes one, which is sent
        // again by the next round.
        let victim = match n {
            9 => Some(leader),
            16 => Some(near),
            _ => None,
        };
        if let Some(victim) = victim {
            *letter = [&letter[..], &large(3 << 20)].concat().into();
            std::fs::write(&file, &letter[..]).unwrap();
            let upload = ["--limit-rate", "3M", "-T", file.to_str().unwrap()];
            let mut up = start("up", &mut imaps(&doors[0], "INBOX", &upload), &dir);
            beside.middle(&mut up, async || 1, 1).await;
            let status = kill_under(&mut cluster, victim, up).await;
            assert_eq!(status.success(), victim == leader);
        }
        let doors = if n < 16 { &doors[..1] } else { &doors[..] };
        let curl = Curl {
            cluster: &cluster,
            doors,
        };
        curl.round(20 + n, letter).await;
        if n == 9 {
            cluster.restart(leader).await.unwrap();
            cluster.wait_healthy(PATIENCE).await.unwrap();
        }
    }
    let changes = beside.end().await;
    let mut expected = with_flags(&old, &[]);
    changes.answer(&mut expected);
    for (n, letter) in (20..).zip(&new) {
        match n % 3 {
            0 => expected.extend(with_flags(
                std::slice::from_ref(letter),
                &["\\Seen", "\\Flagged"],
            )),
            1 => {}
            _ => expected.extend(with_flags(std::slice::from_ref(letter), &["\\Seen"])),
        }
    }
    changes.check(&cluster, ANN, expected, &[]).await;
}
