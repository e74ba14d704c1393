//! A disk that fills up: new mail is refused before anything finds the disk full, reads and
//! deletes go on, and mail is taken again by itself when there is room.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use bytes::Bytes;
use posthouse_client::ids::{AccountName, BlobId, MailboxName};
use posthouse_client::{Client, Delivery, Error, Identity, Recipient, Settings};
use posthouse_tests::binaries::binary;
use posthouse_tests::load::{contents, letter};
use posthouse_tests::ports;
use posthouse_tests::process::Process;
use rand::SeedableRng;
use rand_chacha::ChaCha12Rng;

const PATIENCE: Duration = Duration::from_secs(60);
const ANN: &str = "ann@example.org";
const SETTINGS: &str = "segment_bytes = 1048576\ndisk_reserve_bytes = 16777216\nshards = 1\n\
                        flush_ms = 500\nkeep_entries = 4\ncompress = false\n";

/// A small disk of its own, gone when dropped.
struct SmallDisk(PathBuf);

impl SmallDisk {
    /// `None` where this process may not mount.
    fn mount(at: &Path, mib: u32) -> Option<SmallDisk> {
        std::fs::create_dir_all(at).unwrap();
        let mut command = Command::new("mount");
        let size = format!("size={mib}m");
        command.args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(at);
        let mounted = command.output().is_ok_and(|o| o.status.success());
        mounted.then(|| SmallDisk(at.to_owned()))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

async fn send(client: &Client, octets: &Bytes) -> Result<u32, Error> {
    let delivery = Delivery {
        identity: Identity::Request(client.request_id()),
        recipients: vec![Recipient::inbox(AccountName::new(ANN).unwrap())],
        internal_date_ms: 0,
    };
    let mut delivered = client.deliver(&delivery, octets).await?;
    delivered.results.remove(0).map(|stored| stored.uid)
}

/// Sends until the node takes no more; gives what it took.
async fn fill(client: &Client, rng: &mut ChaCha12Rng) -> Vec<(u32, Bytes)> {
    let begin = Instant::now();
    let mut taken = Vec::new();
    loop {
        assert!(begin.elapsed() < PATIENCE, "the disk never fills up");
        let octets = letter(rng, 200_000);
        match send(client, &octets).await {
            Ok(uid) => taken.push((uid, octets)),
            Err(Error::ReadOnly { message }) => {
                println!("after {} messages: {message}", taken.len());
                return taken;
            }
            // An earlier try of the same message may have had no answer in time: it is there, or not.
            Err(Error::Unavailable { message }) if message.contains("read only") => {
                println!("after {} messages: {message}", taken.len());
                let last = (BlobId::of(&octets), octets.len() as u64);
                if contents(client, ANN).await.unwrap().last() == Some(&last) {
                    let before = taken.last().expect("some were taken before").0;
                    taken.push((before + 1, octets));
                }
                return taken;
            }
            Err(error) => panic!("{error:?}"),
        }
    }
}

/// Sends one message until it is taken.
async fn until_taken(client: &Client, octets: &Bytes) -> (u32, Duration) {
    let begin = Instant::now();
    loop {
        match send(client, octets).await {
            Ok(uid) => return (uid, begin.elapsed()),
            Err(error) => {
                assert!(matches!(error, Error::ReadOnly { .. }), "{error:?}");
                assert!(begin.elapsed() < PATIENCE, "no mail again: {error}");
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        }
    }
}

async fn check(client: &Client, kept: &[(u32, Bytes)]) {
    let found = contents(client, ANN).await.unwrap();
    let expected: Vec<_> = kept
        .iter()
        .map(|(_, octets)| (BlobId::of(octets), octets.len() as u64))
        .collect();
    assert!(found == expected, "{} messages", found.len());
}

#[tokio::test]
async fn a_disk_that_fills_up() {
    let dir = tempfile::tempdir().unwrap();
    let Some(disk) = SmallDisk::mount(&dir.path().join("disk"), 64) else {
        println!("NOTICE: not tested, this process may not mount a tmpfs");
        return;
    };
    let settings = dir.path().join("settings.toml");
    std::fs::write(&settings, SETTINGS).unwrap();
    let (addr, data) = (ports::free_addr(), disk.0.join("data"));
    let mut command = Command::new(binary("posthoused").unwrap());
    command
        .arg("--data")
        .arg(&data)
        .arg("--config")
        .arg(&settings);
    command.args(["--listen", &addr]);
    let mut process = Process::start("node", &mut command, dir.path()).unwrap();
    process.line("ready ", PATIENCE).await.unwrap();
    let client = Client::new(&[&addr], Settings::default()).unwrap();
    let ann = AccountName::new(ANN).unwrap();
    client.create_account(&ann, None).await.unwrap();
    let mut rng = ChaCha12Rng::seed_from_u64(1);

    // A stranger's file takes the room: what is there stays readable, and room is enough.
    let first = letter(&mut rng, 200_000);
    let mut kept = vec![(send(&client, &first).await.unwrap(), first)];
    let ballast = disk.0.join("ballast");
    std::fs::write(&ballast, vec![1; 34 << 20]).unwrap();
    kept.extend(fill(&client, &mut rng).await);
    check(&client, &kept).await;
    std::fs::remove_file(&ballast).unwrap();
    let next = letter(&mut rng, 200_000);
    let (uid, took) = until_taken(&client, &next).await;
    println!("mail again {} ms after there was room", took.as_millis());
    kept.push((uid, next));

    // Mail takes the room: deleting it is enough.
    kept.extend(fill(&client, &mut rng).await);
    assert!(kept.len() > 50, "{} messages", kept.len());
    check(&client, &kept).await;
    let gone = kept.split_off(10);
    let range = posthouse_client::proto::UidRange {
        first: gone[0].0,
        last: gone[gone.len() - 1].0,
    };
    let inbox = MailboxName::inbox();
    let expunged = client.expunge(&ann, &inbox, vec![range], true, None).await;
    assert!(!expunged.unwrap().vanished.is_empty());
    check(&client, &kept).await;
    let next = letter(&mut rng, 200_000);
    let (uid, took) = until_taken(&client, &next).await;
    println!("mail again {} ms after the expunge", took.as_millis());
    kept.push((uid, next));

    // It starts on a full disk, too, and nothing is lost. What a start gives back of half-filled files
    // must not be enough.
    kept.extend(fill(&client, &mut rng).await);
    std::fs::write(&ballast, vec![1; 8 << 20]).unwrap();
    process.kill();
    let mut process = Process::start("again", &mut command, dir.path()).unwrap();
    process.line("ready ", PATIENCE).await.unwrap();
    check(&client, &kept).await;
    let error = send(&client, &letter(&mut rng, 1000)).await.unwrap_err();
    assert!(matches!(error, Error::ReadOnly { .. }), "{error:?}");
    assert!(!process.log().contains("panicked"));
    process.kill();
}
