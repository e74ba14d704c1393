//! A leader dies in the middle of a large message, and the door as a process of its own.

use std::process::Command;
use std::time::Duration;

use posthouse_tests::binaries::binary;
use posthouse_tests::cluster::Cluster;
use posthouse_tests::ports;
use posthouse_tests::process::Process;
use posthouse_tests::samples::without_return_path;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufStream};
use tokio::net::TcpStream;

const ANN: &str = "ann@example.org";

/// A dialogue, line by line.
struct Dialogue(BufStream<TcpStream>);

impl Dialogue {
    async fn open(lmtp: &str) -> Dialogue {
        let mut dialogue = Dialogue(BufStream::new(TcpStream::connect(lmtp).await.unwrap()));
        dialogue.expect("220").await;
        dialogue.say("LHLO test.example.org\r\n").await;
        for _ in 0..7 {
            dialogue.expect("250").await;
        }
        dialogue
    }

    async fn send(&mut self, octets: &[u8]) {
        self.0.write_all(octets).await.unwrap();
        self.0.flush().await.unwrap();
    }

    async fn say(&mut self, line: &str) {
        self.send(line.as_bytes()).await;
    }

    async fn expect(&mut self, start: &str) {
        let mut line = String::new();
        let read = self.0.read_line(&mut line);
        tokio::time::timeout(Duration::from_secs(60), read)
            .await
            .expect("no answer")
            .unwrap();
        assert!(
            line.starts_with(start),
            "{start} was expected, not {line:?}"
        );
    }

    async fn envelope(&mut self) {
        self.say(&format!("MAIL FROM:<s@example.net>\r\nRCPT TO:<{ANN}>\r\n"))
            .await;
        self.expect("250 2.1.0").await;
        self.expect("250 2.1.5").await;
    }
}

/// Octets that do not repeat, in lines.
fn message(len: usize) -> Vec<u8> {
    let mut out = b"Subject: large\r\n\r\n".to_vec();
    for n in 0u64.. {
        if out.len() >= len {
            return out;
        }
        let hash = blake3::hash(&n.to_le_bytes()).to_hex();
        out.extend_from_slice(hash.as_bytes());
        out.extend_from_slice(b"\r\n");
    }
    out
}

#[tokio::test]
async fn a_leader_dies_in_the_middle_of_a_large_message() {
    let mut cluster = Cluster::start(3).await.unwrap();
    cluster.create_accounts(&[ANN]).await.unwrap();
    let (_, leader) = cluster.leader_of(ANN).await.unwrap();
    let witness = (leader + 1) % cluster.size();
    let message = message(12 << 20);
    let mut dialogue = Dialogue::open(cluster.lmtp(witness)).await;
    dialogue.envelope().await;
    let (first, second) = message.split_at(message.len() / 2);
    dialogue.say(&format!("BDAT {}\r\n", first.len())).await;
    dialogue.send(first).await;
    dialogue.expect("250 2.0.0").await;
    // By now the leader has had the first octets; it will never see the last.
    tokio::time::sleep(Duration::from_millis(300)).await;
    cluster.kill(leader);
    dialogue
        .say(&format!("BDAT {} LAST\r\n", second.len()))
        .await;
    dialogue.send(second).await;
    dialogue.expect("250 2.1.5").await;
    let inbox = cluster.inbox(ANN).await.unwrap();
    assert_eq!(inbox.len(), 1);
    assert!(without_return_path(&inbox[0]).unwrap() == message);
    // What breaks off instead is not there at all.
    dialogue.envelope().await;
    dialogue.say(&format!("BDAT {}\r\n", first.len())).await;
    dialogue.send(first).await;
    dialogue.expect("250 2.0.0").await;
    drop(dialogue);
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(cluster.inbox(ANN).await.unwrap().len(), 1);
}

#[tokio::test]
async fn the_door_as_a_process_of_its_own() {
    let cluster = Cluster::start(1).await.unwrap();
    cluster.create_accounts(&[ANN]).await.unwrap();
    let lmtp = ports::free_addr();
    let mut command = Command::new(binary("posthouse-gateway").unwrap());
    command.args(["--node", cluster.addr(0), "--lmtp", &lmtp]);
    let mut gateway = Process::start("gateway", &mut command, cluster.dir()).unwrap();
    gateway
        .line("ready ", Duration::from_secs(20))
        .await
        .unwrap();
    let mut dialogue = Dialogue::open(&lmtp).await;
    for _ in 0..2 {
        dialogue.envelope().await;
        dialogue.say("DATA\r\n").await;
        dialogue.expect("354").await;
        dialogue.say("Subject: x\r\n\r\n..y\r\n.\r\n").await;
        dialogue.expect("250 2.1.5").await;
    }
    let inbox = cluster.inbox(ANN).await.unwrap();
    assert_eq!(inbox.len(), 1, "a repeated delivery is one message");
    assert_eq!(
        without_return_path(&inbox[0]).unwrap(),
        b"Subject: x\r\n\r\n.y\r\n"
    );
    // Asked to stop, it stops, and says so to who waits.
    gateway.signal(libc::SIGTERM);
    dialogue.expect("421 4.3.2").await;
    assert!(
        gateway
            .wait(Duration::from_secs(15))
            .await
            .unwrap()
            .success()
    );
}
