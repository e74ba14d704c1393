//! fetchmail over IMAP: empties a mailbox into a program.
//!
//! It "mends" what it takes for broken, so that it gets letters alone. It removes a message when its
//! program has it, and flags what it has read: a run that broke off is followed by one that takes
//! the rest, at least once each. It counts what its EXPUNGE removes, and gives up when others have
//! removed something, too ("mail expunge mismatch"): beside it a second client only adds and flags.
//! Nor does it know the untagged FLAGS by which a session is told of a keyword that is new in the
//! mailbox ("Incorrect FETCH response"), and it gives up the run: the keyword is there before it.

use std::path::{Path, PathBuf};
use std::process::Command;

use posthouse_tests::cluster::Cluster;

use super::beside::{Beside, Letters, kill_under, run_until_good};
use super::maildir::with_lf;
use super::*;

const ANN: &str = "ann@example.org";
/// Its codes when it has taken everything, and when there was nothing.
const DONE: [i32; 2] = [0, 1];

/// fetchmail by way of this node, with `out` to put messages into.
fn fetchmail(dir: &Path, door: &Door, out: &Path) -> Command {
    let settings = dir.join("fetchmailrc");
    let text = format!(
        "poll localhost service {} protocol IMAP timeout 60 bad-header accept\n\
         user \"{ANN}\" password \"{PASSWORD}\" ssl sslcertck sslcertfile \"{}\" \
         fetchall expunge 10 no rewrite mda \"cat > $(mktemp -p {})\"\n",
        door.imaps,
        door.certificate(),
        out.display()
    );
    std::fs::write(&settings, text).unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    std::fs::set_permissions(&settings, mode).unwrap();
    // As root it would share one lock with every other fetchmail of the machine.
    let mut command = Command::new("fetchmail");
    command.env("FETCHMAILHOME", dir);
    command
        .args(["--nodetach", "--nosyslog", "--invisible", "--pidfile"])
        .arg(dir.join("fetchmail.pid"))
        .arg("-f")
        .arg(settings);
    command
}

/// The files that it has put its messages into.
pub fn taken(out: &Path) -> Vec<Vec<u8>> {
    let files = std::fs::read_dir(out).unwrap();
    files
        .map(|file| std::fs::read(file.unwrap().path()).unwrap())
        .collect()
}

fn count_of(out: &Path) -> u64 {
    std::fs::read_dir(out).unwrap().count() as u64
}

async fn cluster_with(letters: &[Bytes]) -> (Cluster, PathBuf) {
    let cluster = cluster().await;
    create(&cluster, ANN).await;
    append(&cluster, ANN, letters).await;
    let out = folder(&cluster, "taken");
    (cluster, out)
}

#[tokio::test]
async fn fetchmail_empties_a_mailbox_while_nodes_die() {
    let letters = letters(0..120);
    let third = letters.len() as u64 / 3;
    let (mut cluster, out) = cluster_with(&letters).await;
    let dir = cluster.dir().to_owned();
    let (leader, [witness, other]) = leader_and_others(&cluster, ANN).await;

    // The leader dies: it hardly notices.
    let door = Door::of(&cluster, witness);
    let all = start("all", &mut fetchmail(&dir, &door, &out), &dir);
    until_some("fetchmail", async || count_of(&out), third).await;
    cluster.kill(leader);
    finish("all", all, &dir).await;
    let expected: Vec<_> = letters.iter().map(|letter| with_lf(letter)).collect();
    assert_same("what was taken", taken(&out), expected.clone());
    assert_eq!(count(&cluster, ANN, "INBOX").await, 0);
    cluster.restart(leader).await.unwrap();
    cluster.wait_healthy(PATIENCE).await.unwrap();

    // The node that it talks to dies: run again with another one, it takes the rest.
    append(&cluster, ANN, &letters).await;
    for file in std::fs::read_dir(&out).unwrap() {
        std::fs::remove_file(file.unwrap().path()).unwrap();
    }
    let mut half = start("half", &mut fetchmail(&dir, &door, &out), &dir);
    until_some("fetchmail", async || count_of(&out), third).await;
    cluster.kill(witness);
    assert!(!half.wait(PATIENCE).await.unwrap().success());
    let door = Door::of(&cluster, other);
    run("rest", &mut fetchmail(&dir, &door, &out), &dir).await;
    // A file may have been cut off when the connection broke; it is taken again then.
    let taken = taken(&out);
    for letter in &expected {
        assert!(taken.contains(letter), "a letter is lost");
    }
    assert_eq!(count(&cluster, ANN, "INBOX").await, 0);
}

#[tokio::test]
async fn fetchmail_empties_a_mailbox_that_others_fill_while_nodes_die() {
    let cluster = cluster().await;
    empties_beside(cluster, Letters::Growing, |cluster, i, out| {
        fetchmail(cluster.dir(), &Door::of(cluster, i), out)
    })
    .await;
}

/// A fetchmail empties a mailbox that a second client changes meanwhile: the leader dies under it,
/// then the node that it talks to. `fetchmail` is by way of a node, with a directory to put messages
/// into.
pub async fn empties_beside(
    mut cluster: Cluster,
    kind: Letters,
    fetchmail: impl Fn(&Cluster, usize, &Path) -> Command,
) {
    let mail = letters(0..160);
    let (first, second) = mail.split_at(80);
    create(&cluster, ANN).await;
    append(&cluster, ANN, first).await;
    let dir = cluster.dir().to_owned();
    let [good, broken, after] = ["good", "broken", "after"].map(|name| folder(&cluster, name));
    let (leader, [near, far]) = leader_and_others(&cluster, ANN).await;
    let beside = Beside::start(&cluster, ANN, far, first.len(), kind).await;

    let mut all = start("all", &mut fetchmail(&cluster, near, &good), &dir);
    beside.middle(&mut all, async || count_of(&good), 25).await;
    println!("all: {}", kill_under(&mut cluster, leader, all).await);
    run_until_good("all", &DONE, || fetchmail(&cluster, near, &good), &dir).await;
    cluster.restart(leader).await.unwrap();
    cluster.wait_healthy(PATIENCE).await.unwrap();

    append(&cluster, ANN, second).await;
    let mut half = start("half", &mut fetchmail(&cluster, near, &broken), &dir);
    beside
        .middle(&mut half, async || count_of(&broken), 25)
        .await;
    assert!(!kill_under(&mut cluster, near, half).await.success());
    let rest = || fetchmail(&cluster, leader, &after);
    run_until_good("rest", &DONE, rest, &dir).await;
    let changes = beside.end().await;
    run_until_good("rest", &DONE, rest, &dir).await;
    assert_eq!(count(&cluster, ANN, "INBOX").await, 0);
    changes.check_taken(&mail, &good, &broken, &after);
}
