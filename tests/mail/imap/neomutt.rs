//! neomutt in a terminal: opens, reads, flags, moves, deletes, synchronises.

use std::path::Path;
use std::process::Command;

use posthouse_tests::cluster::Cluster;
use serde_json::{Value, json};

use super::beside::{Beside, Letters, with_flags};
use super::*;

const ANN: &str = "ann@example.org";

/// neomutt at this node, and what is done with it (see `terminal.py`).
fn neomutt(dir: &Path, door: &Door, steps: &[Value]) -> Command {
    let settings = dir.join("neomuttrc");
    let url = format!("imaps://localhost:{}/", door.imaps);
    let text = format!(
        "set folder=\"{url}\"\nset spoolfile=\"+INBOX\"\nset imap_user=\"{ANN}\"\n\
         set imap_pass=\"{PASSWORD}\"\nset certificate_file=\"{}\"\nset ssl_verify_host=no\n\
         set header_cache=\"\"\nset message_cachedir=\"\"\nset timeout=5\nset mail_check=1\n\
         set sleep_time=0\nset wait_key=no\nset delete=yes\nset move=no\nset mark_old=no\n\
         set confirm_append=no\nset beep=no\nset sort=mailbox-order\nunset help\n\
         set index_format=\"row %C %Z %s end\"\n\
         set status_format=\"in %f all %m new %n deleted %d flagged %F end\"\n",
        door.certificate(),
    );
    std::fs::write(&settings, text).unwrap();
    let mut command = python("terminal.py");
    command.arg(dir).arg(serde_json::to_string(steps).unwrap());
    command
        .args(["neomutt", "-n", "-d", "3", "-l"])
        .arg(dir.join("debug"))
        .arg("-F")
        .arg(settings)
        .env("HOME", dir);
    command
}

fn key(keys: &str, screen: &str) -> Value {
    json!(["type", keys, screen])
}

/// The pattern of a line of the index: its number, a letter, and one of its marks.
fn row(row: usize, mark: &str, letter: usize) -> String {
    format!("row {row} [^e]*{mark}[^e]*letter {letter} end")
}

/// Letters by number, with their flags.
async fn numbers(cluster: &Cluster, mailbox: &str) -> Vec<(usize, Vec<String>)> {
    let kept = kept(cluster, ANN, mailbox).await;
    let all = letters(0..20);
    let number = |m: Kept| {
        let n = all
            .iter()
            .position(|letter| *letter == m.octets)
            .expect("a stranger");
        (n, m.flags.into_iter().collect())
    };
    kept.into_iter().map(number).collect()
}

fn plain(numbers: &[(usize, Vec<String>)]) -> Vec<usize> {
    numbers.iter().map(|(n, _)| *n).collect()
}

#[tokio::test]
async fn neomutt_opens_flags_moves_and_deletes_while_nodes_die() {
    let mut cluster = cluster().await;
    create(&cluster, ANN).await;
    append(&cluster, ANN, &letters(0..12)).await;
    let dir = cluster.dir().to_owned();
    let (leader, [witness, other]) = leader_and_others(&cluster, ANN).await;

    // In peace. Its numbers count from one.
    let steps = [
        key("", "all 12 new 12"),
        key("1\n\n", "This is letter 0"),
        key("i", "all 12 new 11"),
        key("2\nF", "flagged 1"),
        key("3\nd", "deleted 1"),
        key("4\ns=Archive\n", "reate"),
        key("y", "deleted 2"),
        key("$", "all 10 new 9 deleted 0 flagged 1"),
        key("c=Archive\n", "Archive all 1 "),
        json!(["end", "q"]),
    ];
    let mut command = neomutt(&dir, &Door::of(&cluster, witness), &steps);
    run("peace", &mut command, &dir).await;
    let inbox = numbers(&cluster, "INBOX").await;
    assert_eq!(plain(&inbox), [0, 1, 4, 5, 6, 7, 8, 9, 10, 11]);
    assert_eq!(inbox[0].1, ["\\Seen"]);
    assert_eq!(inbox[1].1, ["\\Flagged"]);
    assert_eq!(plain(&numbers(&cluster, "Archive").await), [3]);

    // The leader dies while it is open; mail comes in through the node that is left.
    let steps = [
        key("", "all 10 new 9"),
        key("3\nF", "flagged 2"),
        key("4\nd", "deleted 1"),
        json!(["tell", "open"]),
        key("5\ns=Archive\n", "deleted 2"),
        key("$", "all 8 new 7 deleted 0 flagged 2"),
        json!(["tell", "more"]),
        key("\x0c", "all 10 new 9 deleted 0"),
        key("9\nd", "deleted 1"),
        key("$", "all 9 new 8 deleted 0 flagged 2"),
        json!(["end", "q"]),
    ];
    let mut command = neomutt(&dir, &Door::of(&cluster, witness), &steps);
    let mut session = start("death", &mut command, &dir);
    session.line("open", PATIENCE).await.unwrap();
    cluster.kill(leader);
    std::fs::write(dir.join("open"), "").unwrap();
    session.line("more", PATIENCE).await.unwrap();
    append(&cluster, ANN, &letters(12..14)).await;
    std::fs::write(dir.join("more"), "").unwrap();
    finish("death", session, &dir).await;
    let inbox = numbers(&cluster, "INBOX").await;
    assert_eq!(plain(&inbox), [0, 1, 4, 7, 8, 9, 10, 11, 13]);
    assert_eq!(inbox[2].1, ["\\Flagged"]);
    assert_eq!(plain(&numbers(&cluster, "Archive").await), [3, 6]);
    cluster.restart(leader).await.unwrap();
    cluster.wait_healthy(PATIENCE).await.unwrap();

    // The node that it talks to dies; opened again at another one, everything that it had
    // synchronised is there.
    let steps = [
        key("", "all 9 new 8"),
        key("1\nd", "deleted 1"),
        key("$", "all 8 new 8 deleted 0"),
        json!(["tell", "dying"]),
    ];
    let mut command = neomutt(&dir, &Door::of(&cluster, witness), &steps);
    let mut session = start("dying", &mut command, &dir);
    session.line("dying", PATIENCE).await.unwrap();
    cluster.kill(witness);
    std::fs::write(dir.join("dying"), "").unwrap();
    session.wait(PATIENCE).await.unwrap();
    let steps = [
        key("", "all 8 new 8 deleted 0 flagged 2"),
        json!(["end", "q"]),
    ];
    let mut command = neomutt(&dir, &Door::of(&cluster, other), &steps);
    run("again", &mut command, &dir).await;
    assert_eq!(
        plain(&numbers(&cluster, "INBOX").await),
        [1, 4, 7, 8, 9, 10, 11, 13]
    );
}

/// When others remove messages, neomutt 20220429 forgets what it has not synchronised ("Mailbox was
/// externally modified. Flags may be wrong."): after the EXPUNGE of another message a `$` stores
/// nothing. So the second client removes none of its letters here.
#[tokio::test]
async fn neomutt_works_in_a_mailbox_that_changes_elsewhere_while_nodes_die() {
    let mut cluster = cluster().await;
    create(&cluster, ANN).await;
    let letters = letters(0..12);
    append(&cluster, ANN, &letters).await;
    let dir = cluster.dir().to_owned();
    let (leader, [near, far]) = leader_and_others(&cluster, ANN).await;
    let beside = Beside::start(&cluster, ANN, far, letters.len(), Letters::Growing).await;

    // The leader dies while changes wait to be synchronised. What others add stands further down.
    let steps = [
        key("", &row(1, "", 0)),
        key("3\nF", &row(3, "!", 2)),
        key("4\nd", &row(4, "D", 3)),
        json!(["tell", "open"]),
        key("5\ns=Archive\n", &row(5, "D", 4)),
        key("$", &row(4, "", 5)),
        key("6\nF", &row(6, "!", 7)),
        json!(["end", "q"]),
    ];
    let door = Door::of(&cluster, near);
    let mut session = start("death", &mut neomutt(&dir, &door, &steps), &dir);
    session.line("open", PATIENCE).await.unwrap();
    beside.middle(&mut session, async || 1, 1).await;
    cluster.kill(leader);
    std::fs::write(dir.join("open"), "").unwrap();
    finish("death", session, &dir).await;
    cluster.restart(leader).await.unwrap();
    cluster.wait_healthy(PATIENCE).await.unwrap();

    // The node that it talks to dies: what was synchronised is there, what was not is as before.
    let steps = [
        key("", &row(1, "", 0)),
        key("2\nd", &row(2, "D", 1)),
        key("$", &row(2, "", 2)),
        key("1\nd", &row(1, "D", 0)),
        json!(["tell", "dying"]),
    ];
    let mut session = start("dying", &mut neomutt(&dir, &door, &steps), &dir);
    session.line("dying", PATIENCE).await.unwrap();
    beside.middle(&mut session, async || 1, 1).await;
    cluster.kill(near);
    std::fs::write(dir.join("dying"), "").unwrap();
    session.wait(PATIENCE).await.unwrap();
    let steps = [
        key("", &row(1, "", 0)),
        key("3\nF", &row(3, "!", 5)),
        key("4\nd", &row(4, "D", 6)),
        key("$", &row(4, "!", 7)),
        json!(["end", "q"]),
    ];
    let door = Door::of(&cluster, leader);
    run("again", &mut neomutt(&dir, &door, &steps), &dir).await;

    let changes = beside.end().await;
    let mut expected = with_flags(&letters, &[]);
    changes.answer(&mut expected);
    for flagged in [2, 5, 7] {
        expected[flagged].0.insert("\\Flagged".to_owned());
    }
    for gone in [6, 4, 3, 1] {
        expected.remove(gone);
    }
    changes.check(&cluster, ANN, expected, &letters[4..5]).await;
}

/// It loads a mailbox with a FETCH by numbers, and takes NO for a mailbox that cannot be opened.
#[tokio::test]
async fn neomutt_opens_a_mailbox_that_others_remove_from() {
    let cluster = cluster().await;
    create(&cluster, ANN).await;
    let letters = letters(0..12);
    append(&cluster, ANN, &letters).await;
    let (_, [near, far]) = leader_and_others(&cluster, ANN).await;
    let beside = Beside::start(&cluster, ANN, far, letters.len(), Letters::Alone).await;
    let door = Door::of(&cluster, near);
    for n in 0..8 {
        let dir = folder(&cluster, &format!("open-{n}"));
        let steps = [key("", &row(1, "", 0)), json!(["end", "q"])];
        run("open", &mut neomutt(&dir, &door, &steps), &dir).await;
    }
    let changes = beside.end().await;
    let mut expected = with_flags(&letters, &[]);
    changes.answer(&mut expected);
    changes.check(&cluster, ANN, expected, &[]).await;
}
