//! mbsync (isync): Maildirs pushed up through one node, pulled down through another.
//!
//! mbsync says CRLF to a server and keeps LF, drops any other CR on the way, and skips a message
//! whose header has no end.

use std::path::{Path, PathBuf};
use std::process::Command;

use bytes::Bytes;
use posthouse_tests::cluster::Cluster;
use posthouse_tests::samples::{self, is_clean};

use super::maildir::{self, Local, letters_of, some_flags, with_lf, without_marks};
use super::*;

const ANN: &str = "ann@example.org";

/// What mbsync is told: everything, both ways, between a node and a directory.
pub fn configure(dir: &Path, door: &Door, account: &str) -> PathBuf {
    let path = dir.join("mbsyncrc");
    let text = format!(
        "FSync no\n\nIMAPStore far\nHost 127.0.0.1\nPort {}\nUser {account}\nPass \"{PASSWORD}\"\n\
         SSLType IMAPS\nSystemCertificates no\nCertificateFile {}\nAuthMechs LOGIN\nTimeout 60\n\n\
         MaildirStore near\nPath {dir}/\nInbox {dir}/INBOX\nSubFolders Verbatim\n\n\
         Channel all\nFar :far:\nNear :near:\nPatterns *\nCreate Both\nRemove Both\n\
         Expunge Both\nSyncState *\nCopyArrivalDate yes\n",
        door.imaps,
        door.certificate(),
        dir = dir.display(),
    );
    std::fs::write(&path, text).unwrap();
    path
}

/// mbsync over a directory, by way of this node.
pub fn mbsync(dir: &Path, door: &Door, account: &str) -> Command {
    let mut command = Command::new("mbsync");
    command.arg("-c").arg(configure(dir, door, account));
    command.args(["-V", "-a"]);
    command
}

/// What mbsync leaves of a message when it pulls it.
fn bare(octets: &[u8]) -> Vec<u8> {
    octets.iter().copied().filter(|&c| c != b'\r').collect()
}

/// What a server is told of a message in a Maildir.
fn said(octets: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(octets.len());
    for c in bare(octets) {
        if c == b'\n' {
            out.push(b'\r');
        }
        out.push(c);
    }
    out
}

/// What the cluster holds, as it would lie in a Maildir apart from its line ends.
async fn stored(cluster: &Cluster, account: &str, mailbox: &str) -> Vec<Local> {
    let kept = kept(cluster, account, mailbox).await;
    let local = |m: Kept| Local {
        flags: letters_of(&m.flags),
        date_s: m.date_ms / 1000,
        octets: without_marks(&m.octets),
    };
    kept.into_iter().map(local).collect()
}

/// The messages alone, with the line ends of the wire.
async fn octets(cluster: &Cluster, account: &str, mailbox: &str) -> Vec<Vec<u8>> {
    let stored = stored(cluster, account, mailbox).await;
    stored.into_iter().map(|m| m.octets).collect()
}

fn local(n: usize, octets: Vec<u8>) -> Local {
    Local {
        flags: some_flags(n).to_owned(),
        date_s: date_s(n),
        octets,
    }
}

#[tokio::test]
async fn mbsync_carries_mail_up_through_one_node_and_down_through_another() {
    let cluster = cluster().await;
    create(&cluster, ANN).await;
    let (here, there) = (folder(&cluster, "here"), folder(&cluster, "there"));
    let mut samples = samples::all().unwrap();
    samples.retain(|sample| sample.name != "34-header-only");
    for (n, sample) in samples.iter().enumerate() {
        maildir::create(&here.join("INBOX"));
        maildir::add(&here.join("INBOX"), n, some_flags(n), &sample.octets);
    }
    let others = ["Work", "Work/2026", "&U,BTFw-"];
    for name in others {
        maildir::create(&here.join(name));
    }
    let letters = letters(0..30);
    for (n, letter) in letters.iter().enumerate() {
        maildir::add(&here.join(others[1 + n % 2]), n, some_flags(n), letter);
    }

    let up = Door::of(&cluster, 0);
    run("up", &mut mbsync(&here, &up, ANN), cluster.dir()).await;
    let expected: Vec<Local> = (samples.iter().enumerate())
        .map(|(n, sample)| local(n, said(&sample.octets)))
        .collect();
    for (sample, expected) in samples.iter().zip(&expected) {
        assert!(!is_clean(&sample.octets) || sample.octets == expected.octets);
    }
    assert_same("INBOX", stored(&cluster, ANN, "INBOX").await, expected);
    for (n, name) in ["Work/2026", "台北"].into_iter().enumerate() {
        let mine = letters.iter().enumerate().skip(n).step_by(2);
        let expected = mine.map(|(n, letter)| local(n, letter.to_vec()));
        assert_same(name, stored(&cluster, ANN, name).await, expected);
    }

    let down = Door::of(&cluster, 1);
    run("down", &mut mbsync(&there, &down, ANN), cluster.dir()).await;
    let expected = samples.iter().enumerate();
    let expected = expected.map(|(n, sample)| local(n, bare(&sample.octets)));
    assert_same("INBOX there", maildir::read(&there.join("INBOX")), expected);
    for name in others {
        let mine = maildir::read(&here.join(name));
        assert_same(name, maildir::read(&there.join(name)), mine);
    }

    // Changes at both ends meet.
    let line = |n: usize| format!("This is letter {n}.");
    let work = "Work/2026";
    assert_eq!(maildir::mark(&here.join(work), &[line(0), line(2)], "F"), 2);
    assert_eq!(
        maildir::mark(&there.join(work), &[line(2), line(4)], "R"),
        2
    );
    assert_eq!(
        maildir::mark(&there.join(work), &[line(6), line(8)], "T"),
        2
    );
    maildir::create(&there.join("New"));
    maildir::add(&there.join("New"), 99, "", &letters[1]);
    run("up", &mut mbsync(&here, &up, ANN), cluster.dir()).await;
    run("down", &mut mbsync(&there, &down, ANN), cluster.dir()).await;
    run("up", &mut mbsync(&here, &up, ANN), cluster.dir()).await;
    for name in [work, "New"] {
        let mine = maildir::read(&here.join(name));
        assert_same(name, maildir::read(&there.join(name)), mine);
    }
    assert_eq!(maildir::count(&here.join(work)), 13);
    assert_eq!(maildir::count(&here.join("New")), 1);
    let flags = |n: usize| {
        let found = maildir::read(&here.join(work));
        let one = found.into_iter().find(|m| m.octets == with_lf(&letters[n]));
        one.unwrap().flags
    };
    assert_eq!((flags(0).as_str(), flags(2).as_str()), ("F", "FRS"));
}

#[tokio::test]
async fn nodes_die_in_the_middle_of_mbsync() {
    let mut cluster = cluster().await;
    create(&cluster, ANN).await;
    let letters = letters(0..400);
    let third = letters.len() as u64 / 3;
    let (here, there) = (folder(&cluster, "here"), folder(&cluster, "there"));
    let dir = cluster.dir().to_owned();
    maildir::create(&here.join("INBOX"));
    for (n, letter) in letters.iter().enumerate() {
        maildir::add(&here.join("INBOX"), n, "S", letter);
    }
    let expected = |octets: &[Bytes]| octets.iter().map(|o| o.to_vec()).collect::<Vec<_>>();

    // The leader dies while mail goes up through another node.
    let (leader, [witness, _]) = leader_and_others(&cluster, ANN).await;
    let up = start(
        "up",
        &mut mbsync(&here, &Door::of(&cluster, witness), ANN),
        &dir,
    );
    until_some(
        "the push",
        async || count(&cluster, ANN, "INBOX").await,
        third,
    )
    .await;
    cluster.kill(leader);
    finish("up", up, &dir).await;
    let found = octets(&cluster, ANN, "INBOX").await;
    assert_same("after the push", found, expected(&letters));
    cluster.restart(leader).await.unwrap();
    cluster.wait_healthy(PATIENCE).await.unwrap();

    // And while it comes down.
    let (leader, [witness, _]) = leader_and_others(&cluster, ANN).await;
    let down = start(
        "down",
        &mut mbsync(&there, &Door::of(&cluster, witness), ANN),
        &dir,
    );
    let inbox = there.join("INBOX");
    until_some("the pull", async || maildir::count(&inbox), third).await;
    cluster.kill(leader);
    finish("down", down, &dir).await;
    assert_same(
        "after the pull",
        maildir::read(&inbox),
        maildir::read(&here.join("INBOX")),
    );
    cluster.restart(leader).await.unwrap();
    cluster.wait_healthy(PATIENCE).await.unwrap();

    // The node that it talks to dies, and leads on top. mbsync gives up; run again with another
    // node it finds by its own marks what had arrived.
    let (leader, [witness, _]) = leader_and_others(&cluster, ANN).await;
    maildir::create(&here.join("More"));
    for (n, letter) in letters.iter().enumerate() {
        maildir::add(&here.join("More"), n, "", letter);
    }
    let mut up = start(
        "up",
        &mut mbsync(&here, &Door::of(&cluster, leader), ANN),
        &dir,
    );
    until_some(
        "the second push",
        async || count(&cluster, ANN, "More").await,
        third,
    )
    .await;
    cluster.kill(leader);
    assert!(
        !up.wait(PATIENCE).await.unwrap().success(),
        "it was too fast"
    );
    run(
        "again",
        &mut mbsync(&here, &Door::of(&cluster, witness), ANN),
        &dir,
    )
    .await;
    let found = octets(&cluster, ANN, "More").await;
    assert_same("after the second push", found, expected(&letters));
}
