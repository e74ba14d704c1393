//! offlineimap: synchronises both ways.
//!
//! It takes every message apart and puts it together again, which changes those that Python's
//! `email` reads otherwise; so it gets letters, and the samples that it leaves as they are.

use std::path::Path;
use std::process::Command;

use posthouse_tests::samples::{self, is_clean};

use super::beside::{Beside, Letters, kill_under, plain, run_until_good, with_flags};
use super::maildir::{letters_of, some_flags, with_lf};
use super::*;

const ANN: &str = "ann@example.org";

/// Clean samples that it writes in another way than it has read them.
const CHANGES: [&str; 8] = [
    "27-read-receipt",
    "30-long-header",
    "34-header-only",
    "41-broken-boundary",
    "42-unclosed-multipart",
    "44-huge-references",
    "45-address-forms",
    "48-odd-fields",
];

/// offlineimap between this node and a directory.
fn offlineimap(dir: &Path, door: &Door) -> Command {
    let settings = dir.join("offlineimaprc");
    let text = format!(
        "[general]\naccounts = ann\nmetadata = {dir}/state\nui = basic\nsocktimeout = 60\n\
         fsync = false\n\n\
         [Account ann]\nlocalrepository = local\nremoterepository = remote\n\n\
         [Repository local]\ntype = Maildir\nlocalfolders = {dir}/mail\n\
         utime_from_header = no\n\n\
         [Repository remote]\ntype = IMAP\nremotehost = localhost\nremoteport = {}\n\
         remoteuser = {ANN}\nremotepass = {PASSWORD}\nssl = yes\nsslcacertfile = {}\n\
         maxconnections = 1\n",
        door.imaps,
        door.certificate(),
        dir = dir.display(),
    );
    std::fs::write(&settings, text).unwrap();
    let mut command = Command::new("offlineimap");
    command.arg("-o").arg("-c").arg(settings);
    command
}

/// Messages with their flags; offlineimap takes dates from elsewhere.
fn local(dir: &Path) -> Vec<(String, Vec<u8>)> {
    let mail = maildir::read(dir).into_iter();
    mail.map(|m| (m.flags, m.octets)).collect()
}

async fn stored(cluster: &Cluster, mailbox: &str) -> Vec<(String, Vec<u8>)> {
    let kept = kept(cluster, ANN, mailbox).await.into_iter();
    let plain = |m: Kept| {
        let octets = maildir::without_marks(&m.octets);
        (maildir::letters_of(&m.flags), with_lf(&octets))
    };
    kept.map(plain).collect()
}

#[tokio::test]
async fn offlineimap_synchronises_both_ways_while_nodes_die() {
    let mut cluster = cluster().await;
    create(&cluster, ANN).await;
    let dir = cluster.dir().to_owned();
    let (here, there) = (folder(&cluster, "here"), folder(&cluster, "there"));
    let mut mail: Vec<Bytes> = (samples::small().unwrap().into_iter())
        .filter(|s| is_clean(&s.octets) && !CHANGES.contains(&s.name.as_str()))
        .map(|s| s.octets)
        .collect();
    mail.extend(letters(0..100));
    let third = mail.len() as u64 / 3;
    maildir::create(&here.join("mail/INBOX"));
    for (n, message) in mail.iter().enumerate() {
        maildir::add(&here.join("mail/INBOX"), n, some_flags(n), message);
    }
    let expected: Vec<_> = (mail.iter().enumerate())
        .map(|(n, octets)| (some_flags(n).to_owned(), with_lf(octets)))
        .collect();

    // Up through one node, while the leader dies.
    let (leader, [witness, _]) = leader_and_others(&cluster, ANN).await;
    let up = start(
        "up",
        &mut offlineimap(&here, &Door::of(&cluster, witness)),
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
    assert_same(
        "after the push",
        stored(&cluster, "INBOX").await,
        expected.clone(),
    );
    cluster.restart(leader).await.unwrap();
    cluster.wait_healthy(PATIENCE).await.unwrap();

    // Down through another one; it dies on the way, and the rest comes from the third.
    let (leader, [witness, _]) = leader_and_others(&cluster, ANN).await;
    let mut down = start(
        "down",
        &mut offlineimap(&there, &Door::of(&cluster, leader)),
        &dir,
    );
    let inbox = there.join("mail/INBOX");
    until_some("the pull", async || maildir::count(&inbox), third).await;
    cluster.kill(leader);
    down.wait(PATIENCE).await.unwrap();
    assert!(
        maildir::count(&inbox) < mail.len() as u64,
        "it was too fast"
    );
    let door = Door::of(&cluster, witness);
    run("rest", &mut offlineimap(&there, &door), &dir).await;
    assert_same("after the pull", local(&inbox), expected);

    // Changes at both ends meet.
    let line = |n: usize| format!("This is letter {n}.");
    assert_eq!(maildir::mark(&inbox, &[line(0), line(6)], "FR"), 2);
    assert_eq!(maildir::remove(&inbox, &[line(1), line(2)]), 2);
    maildir::add(&inbox, 900, "S", &letters(900..901)[0]);
    let mine = here.join("mail/INBOX");
    maildir::add(&mine, 901, "", &letters(901..902)[0]);
    for (name, place) in [("there", &there), ("here", &here), ("there", &there)] {
        run(name, &mut offlineimap(place, &door), &dir).await;
    }
    assert_same("in the end", local(&inbox), local(&mine));
    assert_same("in the end", stored(&cluster, "INBOX").await, local(&mine));
    assert_eq!(local(&mine).len(), mail.len());
}

#[tokio::test]
async fn offlineimap_synchronises_a_mailbox_that_changes_elsewhere_while_nodes_die() {
    let mut cluster = cluster().await;
    create(&cluster, ANN).await;
    let dir = cluster.dir().to_owned();
    let (here, there) = (folder(&cluster, "here"), folder(&cluster, "there"));
    let (old, new) = (letters(0..60), letters(100..200));
    append(&cluster, ANN, &old).await;
    let mine = here.join("mail/INBOX");
    maildir::create(&mine);
    for (n, letter) in new.iter().enumerate() {
        maildir::add(&mine, n, "S", letter);
    }

    // The leader dies while letters go up.
    let (leader, [near, far]) = leader_and_others(&cluster, ANN).await;
    let beside = Beside::start(&cluster, ANN, far, old.len(), Letters::Alone).await;
    let door = Door::of(&cluster, near);
    let mut up = start("up", &mut offlineimap(&here, &door), &dir);
    let pushed = async || {
        let others = old.len() as u64 + beside.rounds() + 1;
        count(&cluster, ANN, "INBOX").await.saturating_sub(others)
    };
    beside.middle(&mut up, pushed, 30).await;
    println!("up: {}", kill_under(&mut cluster, leader, up).await);
    run_until_good("up", &[0], || offlineimap(&here, &door), &dir).await;
    cluster.restart(leader).await.unwrap();
    cluster.wait_healthy(PATIENCE).await.unwrap();

    // The node dies through which they come down; the rest comes through the one that was dead.
    let mut down = start("down", &mut offlineimap(&there, &door), &dir);
    let inbox = there.join("mail/INBOX");
    beside
        .middle(&mut down, async || maildir::count(&inbox), 50)
        .await;
    println!("down: {}", kill_under(&mut cluster, near, down).await);
    let door = Door::of(&cluster, leader);
    run_until_good("down", &[0], || offlineimap(&there, &door), &dir).await;
    let changes = beside.end().await;
    for (name, place) in [("down", &there), ("up", &here), ("down", &there)] {
        run_until_good(name, &[0], || offlineimap(place, &door), &dir).await;
    }
    let mut expected = with_flags(&old, &[]);
    changes.answer(&mut expected);
    expected.extend(with_flags(&new, &["\\Seen"]));
    changes.check(&cluster, ANN, expected.clone(), &[]).await;
    expected.extend(changes.inbox());
    let expected: Vec<_> = (expected.iter())
        .map(|(flags, octets)| (letters_of(flags), with_lf(octets)))
        .collect();
    for (name, place) in [("here", &here), ("there", &there)] {
        let found = local(&place.join("mail/INBOX")).into_iter();
        let found = found.map(|(flags, octets)| (flags, plain(&octets)));
        assert_same(name, found, expected.clone());
    }
}
