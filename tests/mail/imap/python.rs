//! Python's imaplib and imapclient: one extension after the other, and long sessions while nodes
//! die. The programs are `extensions.py` and `churn.py`.

use std::process::Command;

use posthouse_tests::binaries::binary;
use posthouse_tests::cluster::Cluster;
use posthouse_tests::ports;
use posthouse_tests::process::Process;
use posthouse_tests::samples;
use serde_json::{Value, json};

use super::beside::{Beside, Letters};
use super::*;

/// A case of a program, for an account, with these doors.
pub fn case(dir: &Path, program: &str, name: &str, account: &str, doors: &[Door]) -> Command {
    let door = |door: &Door| {
        let port = |text: &str| -> Value { text.parse::<u16>().unwrap().into() };
        json!({
            "imap": port(&door.imap), "imaps": port(&door.imaps),
            "certificate": door.certificate(),
        })
    };
    let nodes: Vec<Value> = doors.iter().map(door).collect();
    let settings = json!({
        "account": account, "password": PASSWORD, "dir": dir, "nodes": nodes,
    });
    let mut command = python(program);
    command.arg(settings.to_string()).arg(name);
    command
}

#[tokio::test]
async fn imaplib_and_imapclient_use_every_extension() {
    let mut cluster = cluster().await;
    let dir = cluster.dir().to_owned();
    let files = folder(&cluster, "samples");
    for sample in samples::small().unwrap() {
        std::fs::write(files.join(&sample.name), &sample.octets).unwrap();
    }
    let cases = [
        "octets",
        "basics",
        "condstore",
        "qresync",
        "moves",
        "special",
        "sorting",
        "annotations",
    ];
    for name in cases {
        let account = format!("{name}@example.org");
        create(&cluster, &account).await;
        let doors = [0, 1, 2].map(|i| Door::of(&cluster, i));
        let mut command = case(&dir, "extensions.py", name, &account, &doors);
        run(name, &mut command, &dir).await;
    }

    // What is changed through one node is told to a client of another one, whoever leads.
    for (name, ready) in [("idle", "idling"), ("notify", "listening")] {
        let account = format!("{name}@example.org");
        create(&cluster, &account).await;
        let (leader, others) = leader_and_others(&cluster, &account).await;
        let doors = others.map(|i| Door::of(&cluster, i));
        let mut command = case(&dir, "extensions.py", name, &account, &doors);
        let mut told = start(name, &mut command, &dir);
        told.line(ready, PATIENCE).await.unwrap();
        cluster.kill(leader);
        std::fs::write(dir.join(ready), "").unwrap();
        finish(name, told, &dir).await;
        cluster.restart(leader).await.unwrap();
        cluster.wait_healthy(PATIENCE).await.unwrap();
    }
}

/// The doors as a process of their own, apart from the nodes.
async fn gateway(cluster: &Cluster) -> (Process, Door) {
    let (imap, imaps) = (ports::free_addr(), ports::free_addr());
    let tls = cluster.dir().join("gateway-tls");
    let mut command = Command::new(binary("posthouse-gateway").unwrap());
    command.args(["--lmtp", "", "--imap", &imap, "--imaps", &imaps]);
    command.arg("--tls-directory").arg(&tls);
    for i in 0..cluster.size() {
        command.args(["--node", cluster.addr(i)]);
    }
    let mut process = start("gateway", &mut command, cluster.dir());
    process.line("ready ", PATIENCE).await.unwrap();
    let certificate = tls.join("certificate.pem");
    (process, Door::at(&imap, &imaps, certificate))
}

/// A long session at the first of these doors, in whose middle the leader dies, or hangs; the last
/// one is asked what is there. A second client changes the same mailbox through `other`.
async fn session(
    cluster: &mut Cluster,
    name: &str,
    account: &str,
    doors: &[Door],
    other: usize,
    hangs: bool,
) {
    let beside = Beside::start(cluster, account, other, 0, Letters::Alone).await;
    let dir = cluster.dir().to_owned();
    let (_, leader) = cluster.leader_of(account).await.unwrap();
    let mut command = case(&dir, "churn.py", name, account, doors);
    let mut session = start(account, &mut command, &dir);
    session.line("middle", PATIENCE).await.unwrap();
    match hangs {
        true => cluster.stop(leader),
        false => cluster.kill(leader),
    }
    let printed = finish(account, session, &dir).await;
    let kept = printed.lines().find(|line| line.starts_with("kept "));
    let kept = kept.unwrap();
    println!("{account}: {kept}");
    let changes = beside.end().await;
    changes.check_own(cluster, account).await;
    assert_eq!(kept.contains(" lost 0 "), name == "pause", "{kept}");
    match hangs {
        true => cluster.cont(leader),
        false => cluster.restart(leader).await.unwrap(),
    }
    cluster.wait_healthy(PATIENCE).await.unwrap();
}

#[tokio::test]
async fn sessions_of_imaplib_outlive_nodes() {
    let mut cluster = cluster().await;
    let (_gateway, apart) = gateway(&cluster).await;
    for hangs in [false, true] {
        let account = if hangs {
            "hangs@example.org"
        } else {
            "dies@example.org"
        };
        create(&cluster, account).await;
        let (_, others) = leader_and_others(&cluster, account).await;
        let doors = others.map(|i| Door::of(&cluster, i));
        session(&mut cluster, "pause", account, &doors, others[1], hangs).await;
    }

    // Doors apart from the nodes see every death as a pause.
    let account = "apart@example.org";
    create(&cluster, account).await;
    let (_, [other, _]) = leader_and_others(&cluster, account).await;
    let doors = [apart, Door::of(&cluster, other)];
    session(&mut cluster, "pause", account, &doors, other, false).await;

    // The node that it talks to leads, and dies: it goes on with the next one.
    let account = "lost@example.org";
    create(&cluster, account).await;
    let (leader, [a, b]) = leader_and_others(&cluster, account).await;
    let doors = [leader, a, b].map(|i| Door::of(&cluster, i));
    session(&mut cluster, "lost", account, &doors, b, false).await;
    cluster.wait_same_state(PATIENCE).await.unwrap();
}
