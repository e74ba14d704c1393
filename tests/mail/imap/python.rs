//! Python's imaplib and imapclient: one extension after the other, and long sessions while nodes
//! die. The programs are `extensions.py` and `churn.py`.

use std::process::Command;

use posthouse_tests::cluster::Cluster;
use posthouse_tests::samples;
use serde_json::{Value, json};

use super::*;

/// A case of a program, for an account, with doors in the order of these nodes.
pub fn case(
    cluster: &Cluster,
    program: &str,
    name: &str,
    account: &str,
    nodes: &[usize],
) -> Command {
    let door = |&i: &usize| {
        let door = Door::of(cluster, i);
        let port = |text: &str| -> Value { text.parse::<u16>().unwrap().into() };
        json!({"imap": port(&door.imap), "imaps": port(&door.imaps), "certificate": door.certificate()})
    };
    let nodes: Vec<Value> = nodes.iter().map(door).collect();
    let settings = json!({
        "account": account, "password": PASSWORD, "dir": cluster.dir(), "nodes": nodes,
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
        let mut command = case(&cluster, "extensions.py", name, &account, &[0, 1, 2]);
        run(name, &mut command, &dir).await;
    }

    // What is changed through one node arrives at an IDLE at another, whoever leads.
    let account = "idle@example.org";
    create(&cluster, account).await;
    let (leader, others) = leader_and_others(&cluster, account).await;
    let mut command = case(&cluster, "extensions.py", "idle", account, &others);
    let mut idle = start("idle", &mut command, &dir);
    idle.line("idling", PATIENCE).await.unwrap();
    cluster.kill(leader);
    std::fs::write(dir.join("idling"), "").unwrap();
    finish("idle", idle, &dir).await;
}

#[tokio::test]
async fn sessions_of_imaplib_outlive_nodes() {
    let mut cluster = cluster().await;
    let dir = cluster.dir().to_owned();
    for name in ["pause", "lost"] {
        let account = format!("{name}@example.org");
        create(&cluster, &account).await;
        let (leader, [a, b]) = leader_and_others(&cluster, &account).await;
        // It talks to the first; another than the leader checks.
        let nodes = match name {
            "pause" => [a, leader, b],
            _ => [leader, a, b],
        };
        let mut command = case(&cluster, "churn.py", name, &account, &nodes);
        let mut session = start(name, &mut command, &dir);
        session.line("middle", PATIENCE).await.unwrap();
        cluster.kill(leader);
        let printed = finish(name, session, &dir).await;
        let kept = printed
            .lines()
            .find(|line| line.starts_with("kept "))
            .unwrap();
        println!("{name}: {kept}");
        assert_eq!(kept.contains(" lost 0 "), name == "pause", "{kept}");
        cluster.restart(leader).await.unwrap();
        cluster.wait_healthy(PATIENCE).await.unwrap();
    }
    cluster.wait_same_state(PATIENCE).await.unwrap();
}
