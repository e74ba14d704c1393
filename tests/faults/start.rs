//! What a node refuses to start with, and how it says so: one line that names the cause and what
//! to do, an exit code, and no panic. Nothing that runs is disturbed by it.

use std::fs;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use posthouse_client::ids::AccountName;
use posthouse_client::{Client, Error, Settings, Target};
use posthouse_tests::binaries::binary;
use posthouse_tests::cluster::Cluster;
use posthouse_tests::ports;
use posthouse_tests::process::Process;

const PATIENCE: Duration = Duration::from_secs(60);

fn node(name: &str, dir: &Path, arguments: &[&str]) -> Process {
    let mut command = Command::new(binary("posthoused").unwrap());
    Process::start(name, command.args(arguments), dir).unwrap()
}

/// Starts a node that must not start, and gives its last line.
async fn refused(dir: &Path, arguments: &[&str], words: &[&str]) {
    let name = format!("refused{}", ports::free());
    let mut process = node(&name, dir, arguments);
    let status = process.wait(PATIENCE).await.unwrap();
    let log = process.log();
    assert!(
        matches!(status.code(), Some(1 | 2)),
        "ended with {status} on {arguments:?}:\n{log}"
    );
    assert!(!log.contains("panicked"), "{log}");
    let line = log.trim_end();
    println!("{arguments:?}\n  {line}");
    for word in words {
        assert!(line.contains(word), "no {word:?} in {line:?}");
    }
}

fn write(path: &Path, text: &str) -> String {
    fs::OpenOptions::new()
        .create(true)
        .truncate(true)
        .write(true)
        .mode(0o600)
        .open(path)
        .and_then(|mut file| std::io::Write::write_all(&mut file, text.as_bytes()))
        .unwrap();
    path.to_str().unwrap().to_owned()
}

#[tokio::test]
async fn settings_that_cannot_be_used() {
    let dir = tempfile::tempdir().unwrap();
    let (dir, data) = (dir.path(), dir.path().join("data"));
    let data = data.to_str().unwrap();
    let settings = dir.join("settings.toml");
    let path = settings.to_str().unwrap();
    let listen = ports::free_addr();
    let with = |text: &str| write(&settings, text);
    let start = ["--data", data, "--listen", &listen, "--config"];
    let start = |path: &'static str| [&start[..], &[path]].concat();
    refused(
        dir,
        &start("/nowhere/x.toml"),
        &["/nowhere/x.toml", "check"],
    )
    .await;
    // A directory can be opened and not read.
    refused(dir, &start("/tmp"), &["cannot read the settings in /tmp"]).await;
    let mine: &'static str = Box::leak(path.to_owned().into_boxed_str());
    for (text, words) in [
        ("segmnt_bytes = 5\n", ["segmnt_bytes", "line 1"]),
        ("shards = \"many\"\n", ["shards", "line 1"]),
        ("shards = \n", ["settings.toml", "line 1"]),
        ("segment_bytes = 5\n", ["segment_bytes", "64 KiB"]),
        ("election_ms = [5, 5]\n", ["election_ms", "heartbeat"]),
        ("lmtp = \"here\"\n", ["lmtp", "host:port"]),
        ("shards = 0\n", ["shards", "1 to 4096"]),
    ] {
        with(text);
        refused(dir, &start(mine), &words).await;
    }
    fs::write(&settings, b"data = \"\xff\"\n").unwrap();
    refused(dir, &start(mine), &["settings.toml"]).await;
    assert!(!Path::new(data).exists(), "nothing was made");
}

#[tokio::test]
async fn directories_addresses_and_tokens_that_cannot_be_used() {
    let cluster = Cluster::start(2).await.unwrap();
    let dir = cluster.dir();
    let data = cluster.data(0).to_str().unwrap().to_owned();
    let other = ports::free_addr();
    // Two processes on one directory.
    let words = ["another process uses the data directory", "--data"];
    refused(dir, &["--data", &data, "--listen", &other], &words).await;
    let fresh = dir.join("fresh").to_str().unwrap().to_owned();
    // Two nodes on one address.
    let taken = cluster.addr(0).to_owned();
    let words = ["cannot listen on", &taken, "--listen"];
    refused(dir, &["--data", &fresh, "--listen", &taken], &words).await;
    // A file where the directory should be.
    let file = write(&dir.join("file"), "");
    let words = ["cannot use the data directory", &file];
    refused(dir, &["--data", &file, "--listen", &other], &words).await;

    let join = |addr: &str, token: &str| -> Vec<String> {
        let words = ["--data", &fresh, "--listen", &other, "--join", addr];
        let words = words.into_iter().chain(["--token-file", token]);
        words.map(str::to_owned).collect()
    };
    let bogus = write(&dir.join("bogus"), &"ab".repeat(32));
    let spent = dir.join("token1").to_str().unwrap().to_owned();
    let empty = write(&dir.join("empty"), "");
    let stranger = Cluster::start(1).await.unwrap();
    let token = stranger.client().create_join_token(0).await.unwrap().token;
    let foreign = write(&dir.join("foreign"), &token);
    for token in [&bogus, &spent, &empty, &foreign] {
        let arguments = join(cluster.addr(0), token);
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        refused(dir, &arguments, &["cannot join", "posthouse cluster token"]).await;
    }
    let missing = join(cluster.addr(0), "/nowhere/token");
    let missing: Vec<&str> = missing.iter().map(String::as_str).collect();
    refused(dir, &missing, &["/nowhere/token"]).await;
    // Nobody there.
    let nobody = ports::free_addr();
    let arguments = join(&nobody, &bogus);
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    refused(dir, &arguments, &[&nobody, "check the address"]).await;
    // None of it took effect: two nodes are members, and the right token still lets one in.
    let nodes = cluster.client().nodes(&Target::Any).await.unwrap().nodes;
    assert_eq!(nodes.len(), 2);
    cluster.wait_healthy(PATIENCE).await.unwrap();
}

#[tokio::test]
async fn an_identity_that_cannot_be_read() {
    let mut cluster = Cluster::start(1).await.unwrap();
    let account = "ann@example.org";
    cluster.create_accounts(&[account]).await.unwrap();
    cluster.terminate(0).await.unwrap();
    let data = cluster.data(0);
    let path = data.join("identity.json");
    let whole = fs::read(&path).unwrap();
    let data = data.to_str().unwrap().to_owned();
    let listen = cluster.addr(0).to_owned();
    for broken in [&b""[..], b"{", b"\xff\xfe", &whole[..whole.len() / 2]] {
        fs::write(&path, broken).unwrap();
        let words = ["identity.json", "restore it"];
        refused(
            cluster.dir(),
            &["--data", &data, "--listen", &listen],
            &words,
        )
        .await;
    }
    // One digit of it has rotted.
    let text = String::from_utf8(whole.clone()).unwrap();
    let rotten = text.replace("\"version\": 2", "\"version\": 3");
    assert_ne!(rotten, text);
    fs::write(&path, rotten).unwrap();
    refused(
        cluster.dir(),
        &["--data", &data, "--listen", &listen],
        &["checksum", "restore it"],
    )
    .await;
    // A directory of an earlier format, whose file had no checksum.
    let (unchecked, _) = text.split_once(",\n  \"crc32\"").unwrap();
    let old = format!("{unchecked}\n}}").replace("\"version\": 2", "\"version\": 1");
    fs::write(&path, old).unwrap();
    refused(
        cluster.dir(),
        &["--data", &data, "--listen", &listen],
        &["has format 1", "the version that wrote it"],
    )
    .await;
    fs::write(&path, &whole).unwrap();
    cluster.restart(0).await.unwrap();
    assert!(cluster.inbox(account).await.unwrap().is_empty());
}

fn copy(from: &Path, to: &Path) {
    let status = Command::new("cp").arg("-a").args([from, to]).status();
    assert!(status.unwrap().success());
}

#[tokio::test]
async fn a_copied_data_directory() {
    let mut cluster = Cluster::start(3).await.unwrap();
    let account = "ann@example.org";
    cluster.create_accounts(&[account]).await.unwrap();
    let copied: PathBuf = cluster.dir().join("copy");
    copy(&cluster.data(1), &copied);
    let (addr, copied) = (ports::free_addr(), copied.to_str().unwrap().to_owned());
    let arguments = ["--data", &copied, "--listen", &addr];
    // While the original runs, on another port.
    let words = ["already running at", cluster.addr(1), "empty --data"];
    refused(cluster.dir(), &arguments, &words).await;
    // Without the original, it is the node, at a new address. Then the original is the copy.
    cluster.kill(1);
    let mut moved = node("copy", cluster.dir(), &arguments);
    moved.line("ready ", PATIENCE).await.unwrap();
    registered(&cluster, &addr).await;
    let original = cluster.data(1).to_str().unwrap().to_owned();
    let at = cluster.addr(1).to_owned();
    let words = ["already running at", &addr, "empty --data"];
    refused(
        cluster.dir(),
        &["--data", &original, "--listen", &at],
        &words,
    )
    .await;
    assert!(moved.is_running());
    assert!(cluster.inbox(account).await.unwrap().is_empty());
}

/// Waits until the cluster has a node at this address.
async fn registered(cluster: &Cluster, addr: &str) {
    let begin = std::time::Instant::now();
    loop {
        let nodes = cluster.client().nodes(&Target::Any).await.unwrap().nodes;
        if nodes.iter().any(|n| n.addr == addr && n.reachable) {
            return;
        }
        assert!(begin.elapsed() < PATIENCE, "{nodes:?}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test]
async fn an_original_that_goes_on_beside_its_copy() {
    let mut cluster = Cluster::start(3).await.unwrap();
    let account = "ann@example.org";
    cluster.create_accounts(&[account]).await.unwrap();
    let copied: PathBuf = cluster.dir().join("copy");
    cluster.stop(1);
    copy(&cluster.data(1), &copied);
    let (addr, copied) = (ports::free_addr(), copied.to_str().unwrap().to_owned());
    let arguments = ["--data", &copied, "--listen", &addr];
    let mut moved = node("copy", cluster.dir(), &arguments);
    moved.line("ready ", PATIENCE).await.unwrap();
    registered(&cluster, &addr).await;
    // It was taken for a node that has moved: the one that the cluster does not look for any more
    // ends, and says why.
    cluster.cont(1);
    let original = cluster.process(1).unwrap();
    original.wait(PATIENCE).await.unwrap();
    let log = original.log();
    let words = ["runs at", &addr, "this process ends"];
    assert!(words.iter().all(|word| log.contains(word)), "{log}");
    // And not even without the other one does its directory stand for the node again.
    moved.kill();
    let original = cluster.data(1).to_str().unwrap().to_owned();
    let at = cluster.addr(1).to_owned();
    let words = ["was found running at", &addr, "empty --data"];
    refused(
        cluster.dir(),
        &["--data", &original, "--listen", &at],
        &words,
    )
    .await;
    let mut moved = node("copy", cluster.dir(), &arguments);
    moved.line("ready ", PATIENCE).await.unwrap();
    registered(&cluster, &addr).await;
    let nodes = cluster.client().nodes(&Target::Any).await.unwrap().nodes;
    assert!(nodes.iter().any(|n| n.addr == addr && n.reachable));
    assert!(cluster.inbox(account).await.unwrap().is_empty());
}

#[tokio::test]
async fn another_cluster_at_the_address_of_a_node() {
    let mut cluster = Cluster::start(3).await.unwrap();
    let account = "ann@example.org";
    cluster.create_accounts(&[account]).await.unwrap();
    let id = cluster.client().status(&Target::Any).await.unwrap();
    let at = cluster.addr(2).to_owned();
    cluster.kill(2);
    let data = cluster.dir().join("stranger").to_str().unwrap().to_owned();
    let mut stranger = node(
        "stranger",
        cluster.dir(),
        &["--data", &data, "--listen", &at],
    );
    stranger.line("ready ", PATIENCE).await.unwrap();
    tokio::time::sleep(Duration::from_secs(3)).await;
    // The members go on without it, do not take it for their node, and change nothing in it.
    let there = Target::Addr(cluster.addr(0).to_owned());
    let nodes = cluster.client().nodes(&there).await.unwrap().nodes;
    let third = nodes.iter().find(|n| n.addr == at).unwrap();
    assert!(!third.reachable, "{third:?}");
    let theirs = cluster.client().with_deadline(Duration::from_secs(5));
    let theirs = theirs.status(&Target::Addr(at.clone())).await;
    if let Ok(theirs) = theirs {
        assert_ne!(theirs.cluster_id, id.cluster_id);
    }
    // Who expects one cluster does not talk to another.
    let settings = Settings {
        cluster_id: Some(id.cluster_id),
        deadline: Duration::from_secs(5),
        ..Settings::default()
    };
    let client = Client::new(&[&at], settings).unwrap();
    let ann = AccountName::new(account).unwrap();
    let error = client.create_account(&ann, None).await.unwrap_err();
    assert!(matches!(error, Error::WrongCluster { .. }), "{error:?}");
    let error = client.create_join_token(0).await.unwrap_err();
    assert!(matches!(error, Error::WrongCluster { .. }), "{error:?}");
    let error = client.status(&Target::Any).await.unwrap_err();
    assert!(matches!(error, Error::WrongCluster { .. }), "{error:?}");
    assert!(stranger.is_running());
    assert!(cluster.inbox(account).await.unwrap().is_empty());
    stranger.kill();
    cluster.restart(2).await.unwrap();
    cluster.wait_healthy(PATIENCE).await.unwrap();
    cluster.wait_same_state(PATIENCE).await.unwrap();
}
