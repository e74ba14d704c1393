//! Dovecot's `doveadm backup` through imapc: copies an account out, with flags, keywords and dates.
//!
//! Dovecot reads no mail as root, so that as root it works as `nobody`, in a directory of its own.

use std::os::unix::fs::{PermissionsExt, chown};
use std::path::Path;
use std::process::Command;

use posthouse_client::FlagChange;
use posthouse_client::proto::{FlagMode, UidRange};
use posthouse_tests::cluster::Cluster;
use posthouse_tests::process::Process;
use posthouse_tests::samples::{self, is_clean};
use tempfile::TempDir;

use super::beside::{ATTEMPTS, Beside, Letters, kill_under, run_until_good, with_flags};
use super::maildir::{Local, letters_of, with_lf};
use super::*;

const ANN: &str = "ann@example.org";
/// `nobody` of Debian.
const NOBODY: u32 = 65_534;
/// Its code when a mailbox has changed while it was copied, so that it should be run again.
const CHANGED: i32 = 2;

fn is_root() -> bool {
    // SAFETY: asks for a number.
    unsafe { libc::geteuid() == 0 }
}

fn place() -> TempDir {
    let dir = tempfile::Builder::new()
        .prefix("posthouse-copy-")
        .tempdir()
        .unwrap();
    std::fs::set_permissions(dir.path(), PermissionsExt::from_mode(0o755)).unwrap();
    if is_root() {
        chown(dir.path(), Some(NOBODY), Some(NOBODY)).unwrap();
    }
    dir
}

/// Copies everything that is at this node into `copy`.
fn backup(dir: &Path, door: &Door) -> Command {
    let (settings, certificate) = (dir.join("dovecot.conf"), dir.join("certificate.pem"));
    let _ = std::fs::remove_file(&certificate);
    std::fs::copy(&door.certificate, &certificate).unwrap();
    std::fs::set_permissions(&certificate, PermissionsExt::from_mode(0o644)).unwrap();
    let user = match is_root() {
        true => format!("mail_uid = {NOBODY}\nmail_gid = {NOBODY}\n"),
        false => String::new(),
    };
    let text = format!(
        "protocols =\nbase_dir = {dir}/run\nstate_dir = {dir}/run\nlog_path = /dev/stderr\n\
         ssl = yes\nssl_client_ca_file = {}\n{user}first_valid_uid = 1\nfirst_valid_gid = 1\n\
         mail_home = {dir}/home\nmail_location = imapc:{dir}/imapc\nmail_fsync = never\n\
         imapc_host = 127.0.0.1\nimapc_port = {}\nimapc_ssl = imaps\nimapc_user = {ANN}\n\
         imapc_password = {PASSWORD}\nimapc_connection_retry_count = 10\n\
         imapc_features = rfc822.size fetch-headers fetch-bodystructure\n\
         namespace inbox {{\n  inbox = yes\n  separator = /\n}}\n",
        certificate.display(),
        door.imaps,
        dir = dir.display(),
    );
    std::fs::write(&settings, text).unwrap();
    let mut command = Command::new("doveadm");
    command
        .arg("-c")
        .arg(settings)
        .env("USER", "ann")
        .current_dir("/");
    let to = format!("maildir:{}/copy:LAYOUT=fs", dir.display());
    command.args(["backup", &to]);
    command
}

/// A mailbox of the copy, with the names of its keywords.
fn copied(dir: &Path) -> Vec<(Local, Vec<String>)> {
    let names = std::fs::read_to_string(dir.join("dovecot-keywords")).unwrap_or_default();
    let names: Vec<&str> = names
        .lines()
        .filter_map(|l| l.split_once(' '))
        .map(|l| l.1)
        .collect();
    let mail = maildir::read(dir).into_iter().map(|mut message| {
        let letters = std::mem::take(&mut message.flags);
        let (keywords, flags) = letters
            .chars()
            .partition::<Vec<char>, _>(char::is_ascii_lowercase);
        message.flags = flags.into_iter().collect();
        let name = |letter: char| names[letter as usize - 'a' as usize].to_owned();
        (message, keywords.into_iter().map(name).collect())
    });
    mail.collect()
}

/// What the copy of a mailbox should be.
async fn original(cluster: &Cluster, mailbox: &str) -> Vec<(Local, Vec<String>)> {
    let kept = kept(cluster, ANN, mailbox).await;
    let mail = kept.into_iter().map(|message| {
        let keywords = message.flags.iter().filter(|f| !f.starts_with('\\'));
        let local = Local {
            flags: letters_of(&message.flags),
            date_s: message.date_ms / 1000,
            octets: with_lf(&message.octets),
        };
        (local, keywords.cloned().collect())
    });
    mail.collect()
}

/// Letters and clean samples with flags of all kinds.
async fn fill(cluster: &Cluster, letters: &[Bytes]) {
    create(cluster, ANN).await;
    let samples = samples::small().unwrap();
    let samples = samples.into_iter().map(|sample| sample.octets);
    let mail: Vec<Bytes> = samples
        .filter(|o| is_clean(o))
        .chain(letters.iter().cloned())
        .collect();
    append(cluster, ANN, &mail).await;
    let account = AccountName::new(ANN).unwrap();
    let all = [
        "\\Seen",
        "\\Flagged",
        "$Forwarded",
        "\\Answered",
        "blue",
        "\\Draft",
    ];
    for (n, flag) in all.iter().enumerate() {
        let step = n as u32 + 2;
        let uids = (1..=mail.len() as u32).filter(|uid| uid % step == 0);
        let change = FlagChange {
            uids: uids
                .map(|uid| UidRange {
                    first: uid,
                    last: uid,
                })
                .collect(),
            mode: FlagMode::Add,
            flags: vec![(*flag).to_owned()],
            unchanged_since: None,
        };
        let inbox = MailboxName::inbox();
        let client = cluster.client();
        client
            .set_flags(&account, &inbox, change, None)
            .await
            .unwrap();
    }
    let (inbox, work) = (MailboxName::inbox(), MailboxName::new("Work/2026").unwrap());
    let client = cluster.client();
    client
        .create_mailbox(&account, &work, Vec::new(), None)
        .await
        .unwrap();
    let some = vec![UidRange { first: 3, last: 12 }];
    client
        .copy(&account, &inbox, some, &work, None)
        .await
        .unwrap();
}

#[tokio::test]
async fn doveadm_copies_an_account_out_while_nodes_die() {
    let mut cluster = cluster().await;
    let letters = letters(0..400);
    fill(&cluster, &letters).await;
    let logs = cluster.dir().to_owned();
    let inbox = original(&cluster, "INBOX").await;
    let work = original(&cluster, "Work/2026").await;
    assert_eq!(work.len(), 10);
    let compare = |dir: &Path| {
        assert_same("INBOX", copied(&dir.join("copy")), inbox.clone());
        assert_same(
            "Work/2026",
            copied(&dir.join("copy/Work/2026")),
            work.clone(),
        );
    };

    // In peace.
    let peace = place();
    let door = Door::of(&cluster, 0);
    run("peace", &mut backup(peace.path(), &door), &logs).await;
    compare(peace.path());

    // The leader dies in the middle.
    let (leader, [witness, _]) = leader_and_others(&cluster, ANN).await;
    let death = place();
    let door = Door::of(&cluster, witness);
    let copying = start("death", &mut backup(death.path(), &door), &logs);
    let so_far = death.path().join("copy");
    let third = inbox.len() as u64 / 3;
    until_some("doveadm", async || under_way(&so_far), third).await;
    cluster.kill(leader);
    finish("death", copying, &logs).await;
    compare(death.path());
    cluster.restart(leader).await.unwrap();
    cluster.wait_healthy(PATIENCE).await.unwrap();

    // The node that it talks to dies; run again with another one, it completes the copy.
    let (leader, [witness, _]) = leader_and_others(&cluster, ANN).await;
    let again = place();
    let door = Door::of(&cluster, leader);
    let mut copying = start("half", &mut backup(again.path(), &door), &logs);
    let so_far = again.path().join("copy");
    until_some("doveadm", async || under_way(&so_far), third).await;
    cluster.kill(leader);
    assert!(!copying.wait(PATIENCE).await.unwrap().success());
    let door = Door::of(&cluster, witness);
    run("rest", &mut backup(again.path(), &door), &logs).await;
    compare(again.path());
}

/// Messages that have been read: dovecot has them in `tmp` until a mailbox is done.
fn under_way(dir: &Path) -> u64 {
    let part = |name| std::fs::read_dir(dir.join(name)).map_or(0, |entries| entries.count() as u64);
    part("cur") + part("new") + part("tmp")
}

/// A copy in whose middle something has changed. One that is done before anything has is begun anew,
/// somewhere else: it may be faster than who changes something.
async fn half_way(beside: &Beside, door: &Door, logs: &Path) -> (TempDir, Process) {
    for _ in 0..ATTEMPTS {
        let copy = place();
        let mut copying = start("copy", &mut backup(copy.path(), door), logs);
        let so_far = copy.path().join("copy");
        beside
            .middle(&mut copying, async || under_way(&so_far), 100)
            .await;
        if copying.is_running() {
            return (copy, copying);
        }
    }
    panic!("doveadm is always too fast");
}

#[tokio::test]
async fn doveadm_copies_a_mailbox_that_changes_elsewhere_while_nodes_die() {
    let mut cluster = cluster().await;
    create(&cluster, ANN).await;
    let letters = letters(0..300);
    append(&cluster, ANN, &letters).await;
    let logs = cluster.dir().to_owned();
    let (leader, [near, far]) = leader_and_others(&cluster, ANN).await;
    let beside = Beside::start(&cluster, ANN, far, letters.len(), Letters::Alone).await;
    let mut copies = Vec::new();

    // The leader dies under the first copy, and the node that it comes from under the second one.
    let door = Door::of(&cluster, near);
    for victim in [leader, near] {
        let (copy, copying) = half_way(&beside, &door, &logs).await;
        let status = kill_under(&mut cluster, victim, copying).await;
        copies.push(copy);
        println!("copy: {status}");
        if victim == leader {
            cluster.restart(leader).await.unwrap();
            cluster.wait_healthy(PATIENCE).await.unwrap();
        }
    }

    // Both are completed while the mailbox changes, and once more when it has come to rest.
    let door = Door::of(&cluster, leader);
    for copy in &copies {
        run_until_good("rest", &[0, CHANGED], || backup(copy.path(), &door), &logs).await;
    }
    let changes = beside.end().await;
    let mut expected = with_flags(&letters, &[]);
    changes.answer(&mut expected);
    changes.check(&cluster, ANN, expected, &[]).await;
    for copy in &copies {
        run_until_good("rest", &[0], || backup(copy.path(), &door), &logs).await;
        for (mailbox, folder) in [("INBOX", "copy"), ("Archive", "copy/Archive")] {
            let copied = copied(&copy.path().join(folder));
            assert_same(mailbox, copied, original(&cluster, mailbox).await);
        }
    }
}
