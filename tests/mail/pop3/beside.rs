//! Programs fetch over POP3 from a mailbox that a second client changes through another node by IMAP
//! and LMTP, while nodes die: the leader, and the node that they talk to.
//!
//! A POP3 session shows what was there at its login, and removes at its end alone: one that breaks
//! off has removed nothing, and what it has read is read once more.

use std::path::Path;

use crate::imap::beside::{Beside, Letters, kill_under};
use crate::imap::fetchmail::empties_beside;
use crate::imap::{PATIENCE, append, create, leader_and_others, letters, start};

use super::{ANN, Bytes, Cluster, Command, Place, canonical, fetchmail, ids, login, run};

async fn cluster_with(mail: &[Bytes]) -> Cluster {
    let cluster = Cluster::start_with_doors(3).await.unwrap();
    create(&cluster, ANN).await;
    append(&cluster, ANN, mail).await;
    cluster
}

#[tokio::test]
async fn fetchmail_empties_a_mailbox_that_others_fill_and_empty_while_nodes_die() {
    let cluster = Cluster::start_with_doors(3).await.unwrap();
    empties_beside(cluster, Letters::Shared, |cluster, i, out| {
        fetchmail(&Place::of(cluster, i), cluster.dir(), out)
    })
    .await;
}

/// Commands of curl about messages that are known by their ids.
struct Curl<'a> {
    place: &'a Place,
}

impl Curl<'_> {
    fn ids(&self) -> Vec<String> {
        let url = format!("pop3s://{}/", self.place.pop3s);
        let said = run(&mut self.place.curl(&["-X", "UIDL", &url])).stdout;
        ids(&String::from_utf8(said).unwrap())
    }

    /// Where a message stands. Those that come before it are nobody else's.
    fn url(&self, id: &str) -> String {
        let at = self.ids().iter().position(|i| i == id).unwrap();
        format!("pop3s://{}/{}", self.place.pop3s, at + 1)
    }

    fn read(&self, id: &str) -> Vec<u8> {
        run(&mut self.place.curl(&[&self.url(id)])).stdout
    }

    /// As slow as it has to be for a node to die under it.
    fn read_slowly(&self, id: &str) -> Command {
        self.place.curl(&["--limit-rate", "12M", &self.url(id)])
    }

    fn remove(&self, id: &str) {
        let url = self.url(id);
        let (host, number) = url.rsplit_once('/').unwrap();
        let dele = format!("DELE {number}");
        run(&mut self.place.curl(&["-I", "-X", &dele, &format!("{host}/")]));
        assert!(!self.ids().iter().any(|i| i == id));
    }
}

/// A session of poplib that says some words, and the others when the file `go` is there.
fn poplib(place: &Place, go: &Path, before: Vec<String>, after: Vec<String>) -> Command {
    let begin = vec!["tls".to_owned(), login()];
    let until = vec![format!("until {}", go.display())];
    let words = [begin, before, until, after].concat();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    place.poplib(&words)
}

#[tokio::test]
async fn poplib_and_curl_fetch_from_a_mailbox_that_others_fill_and_empty_while_nodes_die() {
    let mut mail = letters(0..40);
    // More than sockets hold between a node and a program that reads slowly.
    let fill = format!("{}\r\n", "a long line ".repeat(80)).repeat(25_000);
    for large in [0, 10] {
        mail[large] = [&mail[large][..], fill.as_bytes()].concat().into();
    }
    let mut cluster = cluster_with(&mail).await;
    let dir = cluster.dir().to_owned();
    let (leader, [near, far]) = leader_and_others(&cluster, ANN).await;
    let place = Place::of(&cluster, near);
    let uidl = |place: &Place| ids(&place.say(&["tls", &login(), "uidl", "quit"]));
    let all = uidl(&place);
    assert_eq!(all.len(), mail.len());
    let beside = Beside::start(&cluster, ANN, far, mail.len(), Letters::Alone).await;
    let file = |n: usize| dir.join(format!("letter-{n}"));
    let gets = |numbers: std::ops::Range<usize>, first: usize| -> Vec<String> {
        let get = |n: usize| format!("get {} {}", n - first + 1, file(n).display());
        numbers.map(get).collect()
    };
    let deles = |numbers: std::ops::Range<usize>| -> Vec<String> {
        numbers.map(|n| format!("dele {n}")).collect()
    };
    let go = dir.join("go");
    let quit = || vec!["quit".to_owned()];
    let out = dir.join("slow.out");
    let so_far = async || out.metadata().map_or(0, |m| m.len());

    // The leader dies under a session of poplib and a download of curl, which both go on.
    let after = [gets(0..40, 0), deles(2..11), quit()].concat();
    let mut session = start("session", &mut poplib(&place, &go, vec![], after), &dir);
    session.line("waiting", PATIENCE).await.unwrap();
    let curl = Curl { place: &place };
    let mut slow = start("slow", &mut curl.read_slowly(&all[0]), &dir);
    beside.middle(&mut slow, so_far, 1 << 20).await;
    assert!(kill_under(&mut cluster, leader, slow).await.success());
    assert!(std::fs::read(&out).unwrap() == canonical(&mail[0]));
    std::fs::write(&go, "").unwrap();
    assert!(session.wait(PATIENCE).await.unwrap().success());
    for (n, letter) in mail.iter().enumerate() {
        assert!(
            std::fs::read(file(n)).unwrap() == canonical(letter),
            "{n} differs"
        );
    }
    curl.remove(&all[0]);
    assert_eq!(uidl(&place)[..30], all[10..]);
    cluster.restart(leader).await.unwrap();
    cluster.wait_healthy(PATIENCE).await.unwrap();

    // The node that they talk to dies: what they have marked is still there.
    std::fs::remove_file(&go).unwrap();
    let before = deles(1..6);
    let mut session = start("session", &mut poplib(&place, &go, before, quit()), &dir);
    session.line("waiting", PATIENCE).await.unwrap();
    let mut slow = start("slow", &mut curl.read_slowly(&all[10]), &dir);
    beside.middle(&mut slow, so_far, 1 << 20).await;
    kill_under(&mut cluster, near, slow).await;
    // curl takes the lost connection for the end of the message, and says that all is well.
    let cut = std::fs::read(&out).unwrap();
    assert!(cut.len() < mail[10].len() && canonical(&mail[10]).starts_with(&cut));
    std::fs::write(&go, "").unwrap();
    assert!(!session.wait(PATIENCE).await.unwrap().success());
    let place = Place::of(&cluster, leader);
    let curl = Curl { place: &place };
    assert_eq!(uidl(&place)[..30], all[10..]);
    for n in 10..14 {
        assert!(curl.read(&all[n]) == canonical(&mail[n]), "{n} differs");
        curl.remove(&all[n]);
    }
    for n in 14..40 {
        std::fs::remove_file(file(n)).unwrap();
    }
    let words = [gets(14..40, 14), deles(1..26), quit()].concat();
    std::fs::write(&go, "").unwrap();
    let mut session = start("session", &mut poplib(&place, &go, vec![], words), &dir);
    assert!(session.wait(PATIENCE).await.unwrap().success());
    for (n, letter) in mail.iter().enumerate().skip(14) {
        assert!(
            std::fs::read(file(n)).unwrap() == canonical(letter),
            "{n} differs"
        );
    }

    // All but the last of the letters are gone, and nothing of the second client's.
    let changes = beside.end().await;
    let mut left = crate::imap::beside::with_flags(&mail, &[]);
    changes.answer(&mut left);
    changes.check(&cluster, ANN, left.split_off(39), &[]).await;
}
