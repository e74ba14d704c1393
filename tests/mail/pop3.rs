//! Mail programs fetch mail: Python's poplib, curl, fetchmail.
//!
//! As for LMTP, dialogues are tried twice: against the door over a directory, and against a
//! cluster of three nodes, where mail comes in over LMTP and one of the nodes dies. In [`beside`] a
//! second client changes the mailbox meanwhile.

mod beside;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use bytes::Bytes;
use posthouse_client::ids::AccountName;
use posthouse_tests::binaries::{binary, repository};
use posthouse_tests::cluster::Cluster;
use posthouse_tests::ports;
use posthouse_tests::process::Process;
use posthouse_tests::samples::{self, Sample, is_clean};
use tempfile::TempDir;

const ANN: &str = "ann@example.org";
const PASSWORD: &str = "correct horse battery";

/// Speaks to the door as it is told: CERTIFICATE PORT, then commands. `tls` and `stls` connect;
/// lengths of lines are no matter, sizes are those announced.
const POPLIB: &str = r#"
import hashlib, os, poplib, ssl, sys, time
poplib._MAXLINE = 1 << 30
certificate, tls, plain = sys.argv[1:4]
context = ssl.create_default_context(cafile=certificate)
door = None
for word in sys.argv[4:]:
    verb, _, rest = word.partition(" ")
    if verb == "tls":
        door = poplib.POP3_SSL("127.0.0.1", int(tls), timeout=60, context=context)
    elif verb == "stls":
        door = poplib.POP3("127.0.0.1", int(plain), timeout=60)
        assert "STLS" in door.capa(), door.capa()
        door.stls(context)
        assert "STLS" not in door.capa(), door.capa()
    elif verb == "login":
        user, _, password = rest.partition(" ")
        door.user(user)
        try:
            door.pass_(password)
        except poplib.error_proto as error:
            print("refused", error)
    elif verb == "stat":
        print(*door.stat())
    elif verb == "list":
        print(*[line.decode() for line in door.list()[1]], sep="\n")
    elif verb == "uidl":
        print(*[line.decode() for line in door.uidl()[1]], sep="\n")
    elif verb == "top":
        number, lines = rest.split()
        print(b"\r\n".join(door.top(int(number), int(lines))[1]).decode("latin-1"))
    elif verb == "all":
        for number in range(1, door.stat()[0] + 1):
            lines = door.retr(number)[1]
            with open(os.path.join(rest, "%05d" % number), "wb") as file:
                file.write(b"".join(line + b"\r\n" for line in lines))
    elif verb == "get":
        number, _, file = rest.partition(" ")
        with open(file, "wb") as file:
            file.write(b"".join(line + b"\r\n" for line in door.retr(int(number))[1]))
    elif verb == "dele":
        door.dele(int(rest))
    elif verb == "rset":
        door.rset()
    elif verb == "drop":
        door.close()
    elif verb == "quit":
        door.quit()
    elif verb == "until":
        print("waiting", flush=True)
        while not os.path.exists(rest):
            time.sleep(0.01)
    elif verb == "wait":
        print("waiting", flush=True)
        sys.stdin.readline()
    else:
        sys.exit("what is " + word)
"#;

/// Where programs fetch mail.
struct Place {
    pop3: String,
    pop3s: String,
    certificate: PathBuf,
}

fn port(addr: &str) -> &str {
    addr.rsplit_once(':').unwrap().1
}

impl Place {
    fn of(cluster: &Cluster, i: usize) -> Place {
        Place {
            pop3: cluster.pop3(i).to_owned(),
            pop3s: cluster.pop3s(i).to_owned(),
            certificate: cluster.data(i).join("tls/certificate.pem"),
        }
    }

    fn poplib(&self, words: &[&str]) -> Command {
        let mut command = Command::new("python3");
        command.args(["-c", POPLIB]).arg(&self.certificate);
        command
            .args([port(&self.pop3s), port(&self.pop3)])
            .args(words);
        command
    }

    /// What it prints.
    fn say(&self, words: &[&str]) -> String {
        let output = run(&mut self.poplib(words));
        String::from_utf8(output.stdout).unwrap()
    }

    fn curl(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("curl");
        command
            .args(["-s", "-S", "--max-time", "60", "--cacert"])
            .arg(&self.certificate);
        command
            .args(["-u", &format!("{ANN}:{PASSWORD}")])
            .args(arguments);
        command
    }
}

fn login() -> String {
    format!("login {ANN} {PASSWORD}")
}

fn run(command: &mut Command) -> Output {
    let output = command
        .output()
        .unwrap_or_else(|e| panic!("{command:?}: {e}"));
    assert!(
        output.status.success(),
        "{command:?}: {}\n{}\n{}",
        output.status,
        String::from_utf8_lossy(&output.stderr),
        String::from_utf8_lossy(&output.stdout)
    );
    output
}

/// The message as POP3 can say it: lines that end with CRLF (RFC 1939, section 3).
fn canonical(octets: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(octets.len());
    for &c in octets {
        if c == b'\n' && out.last() != Some(&b'\r') {
            out.push(b'\r');
        }
        out.push(c);
    }
    if !out.is_empty() && out.last() != Some(&b'\n') {
        out.extend_from_slice(b"\r\n");
    }
    out
}

/// The door over a directory that holds these messages.
struct Door {
    _process: Process,
    place: Place,
    dir: TempDir,
}

impl Door {
    async fn start(mail: &[Bytes]) -> Door {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("mail")).unwrap();
        for (n, octets) in mail.iter().enumerate() {
            std::fs::write(dir.path().join(format!("mail/{n:05}.eml")), octets).unwrap();
        }
        let (pop3, pop3s) = (ports::free_addr(), ports::free_addr());
        let mut command = Command::new(binary("examples/pop3_fake").unwrap());
        command.arg(dir.path()).args([&pop3, &pop3s, ANN, PASSWORD]);
        let mut process = Process::start("door", &mut command, dir.path()).unwrap();
        process
            .line("ready ", Duration::from_secs(20))
            .await
            .unwrap();
        let certificate = dir.path().join("tls/certificate.pem");
        Door {
            _process: process,
            place: Place {
                pop3,
                pop3s,
                certificate,
            },
            dir,
        }
    }

    fn left(&self) -> usize {
        std::fs::read_dir(self.dir.path().join("mail"))
            .unwrap()
            .count()
    }
}

/// A cluster of which every node has the door, with these messages in Ann's INBOX.
async fn cluster(samples: &[Sample]) -> Cluster {
    let cluster = Cluster::start_with_doors(3).await.unwrap();
    cluster.create_accounts(&[ANN]).await.unwrap();
    let account = AccountName::new(ANN).unwrap();
    cluster
        .client()
        .set_password(&account, PASSWORD, None)
        .await
        .unwrap();
    let dir = tempfile::tempdir().unwrap();
    let mut command = Command::new("python3");
    command.arg(repository().join("deploy/lib/quickmail.py"));
    command.args(["deliver", "--lmtp", cluster.lmtp(0), "--to", ANN]);
    for (n, sample) in samples.iter().enumerate() {
        let path = dir.path().join(format!("{n:05}.eml"));
        std::fs::write(&path, &sample.octets).unwrap();
        command.arg(path);
    }
    run(&mut command);
    cluster
}

/// Everything, by both ways to TLS and by curl, octet by octet.
fn programs_read(place: &Place, mail: &[Bytes]) {
    for connect in ["tls", "stls"] {
        let dir = tempfile::tempdir().unwrap();
        let all = format!("all {}", dir.path().display());
        let said = place.say(&[connect, &login(), "stat", &all, "list", "quit"]);
        let mut lines = said.lines();
        let sum: usize = mail.iter().map(Bytes::len).sum();
        assert_eq!(lines.next(), Some(format!("{} {sum}", mail.len()).as_str()));
        for (n, octets) in mail.iter().enumerate() {
            let got = read(dir.path(), n + 1);
            assert!(got == canonical(octets), "message {} differs", n + 1);
            let line = format!("{} {}", n + 1, octets.len());
            assert_eq!(lines.next(), Some(line.as_str()));
            if is_clean(octets) {
                assert_eq!(got.len(), octets.len(), "the size is what RETR sends");
            }
        }
    }
    for (n, octets) in mail.iter().enumerate().step_by(7) {
        let by_tls = format!("pop3s://{}/{}", place.pop3s, n + 1);
        let by_stls = format!("pop3://{}/{}", place.pop3, n + 1);
        for arguments in [&[by_tls.as_str()][..], &["--ssl-reqd", &by_stls]] {
            let got = run(&mut place.curl(arguments)).stdout;
            assert!(
                got == canonical(octets),
                "message {} differs by curl",
                n + 1
            );
        }
    }
    let url = format!("pop3s://{}/", place.pop3s);
    let listed = run(&mut place.curl(&[&url])).stdout;
    assert_eq!(
        String::from_utf8(listed).unwrap().lines().count(),
        mail.len()
    );
    let refused = place.say(&["tls", &format!("login {ANN} wrong"), "quit"]);
    assert!(
        refused.contains("-ERR [AUTH] wrong name or password"),
        "{refused}"
    );
}

/// The ids of a listing, in its order.
fn ids(listing: &str) -> Vec<String> {
    let id = |line: &str| line.split_once(' ').unwrap().1.to_owned();
    listing.lines().map(id).collect()
}

fn read(dir: &Path, number: usize) -> Vec<u8> {
    std::fs::read(dir.join(format!("{number:05}"))).unwrap()
}

fn mail_of(samples: &[Sample]) -> Vec<Bytes> {
    samples.iter().map(|sample| sample.octets.clone()).collect()
}

/// What is marked goes at QUIT and in no other way; TOP shows a header and some lines.
fn programs_remove(place: &Place, count: usize) {
    let left = |place: &Place| place.say(&["tls", &login(), "uidl", "quit"]);
    let before = left(place);
    assert_eq!(before.lines().count(), count);
    place.say(&["tls", &login(), "dele 1", "dele 2", "drop"]);
    place.say(&["stls", &login(), "dele 1", "rset", "quit"]);
    assert_eq!(left(place), before);
    place.say(&["tls", &login(), "dele 1", "dele 3", "quit"]);
    let after = left(place);
    let mut expected = ids(&before);
    expected.remove(2);
    expected.remove(0);
    assert_eq!(ids(&after), expected, "ids of those that are left stay");
    let top = place.say(&["tls", &login(), "top 1 0", "quit"]);
    assert!(top.trim_end().lines().all(|line| !line.is_empty()), "{top}");
}

/// fetchmail by way of this place, for messages that it puts into `out`; its settings are in `dir`.
fn fetchmail(place: &Place, dir: &Path, out: &Path) -> Command {
    let settings = dir.join("fetchmailrc");
    let text = format!(
        "poll localhost service {} protocol POP3 uidl timeout 60 bad-header accept\n\
         user \"{ANN}\" password \"{PASSWORD}\" ssl sslcertck sslcertfile \"{}\" \
         fetchall no rewrite mda \"cat > $(mktemp -p {})\"\n",
        port(&place.pop3s),
        place.certificate.display(),
        out.display()
    );
    std::fs::write(&settings, text).unwrap();
    run(Command::new("chmod").arg("600").arg(&settings));
    // As root it would share one lock with every other fetchmail of the machine.
    let mut command = Command::new("fetchmail");
    command
        .env("FETCHMAILHOME", dir)
        .args(["--nodetach", "--nosyslog", "--invisible", "--pidfile"])
        .arg(dir.join("fetchmail.pid"))
        .arg("-f")
        .arg(&settings);
    command
}

/// fetchmail takes everything that is left and hands it to a program.
fn fetchmail_empties(place: &Place, count: usize) {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out");
    std::fs::create_dir(&out).unwrap();
    run(&mut fetchmail(place, dir.path(), &out));
    assert_eq!(std::fs::read_dir(&out).unwrap().count(), count);
    assert_eq!(place.say(&["tls", &login(), "stat", "quit"]), "0 0\n");
}

#[tokio::test]
async fn programs_fetch_from_the_door() {
    let mail = mail_of(&samples::all().unwrap());
    let door = Door::start(&mail).await;
    programs_read(&door.place, &mail);
    programs_remove(&door.place, mail.len());
    assert_eq!(door.left(), mail.len() - 2);
    // fetchmail mends what it takes for broken; it gets mail that is not.
    let mail: Vec<Bytes> = mail.into_iter().filter(|octets| is_clean(octets)).collect();
    let door = Door::start(&mail).await;
    fetchmail_empties(&door.place, mail.len());
    assert_eq!(door.left(), 0);
}

#[tokio::test]
async fn programs_fetch_from_a_cluster() {
    let samples = samples::all().unwrap();
    let cluster = cluster(&samples).await;
    // With the Return-Path line that LMTP has added, in the order of delivery.
    let mail = cluster.inbox(ANN).await.unwrap();
    assert_eq!(mail.len(), samples.len());
    for i in 0..cluster.size() {
        programs_read(&Place::of(&cluster, i), &mail);
    }
    programs_remove(&Place::of(&cluster, 1), mail.len());
    assert_eq!(cluster.inbox(ANN).await.unwrap().len(), mail.len() - 2);
}

#[tokio::test]
async fn fetchmail_empties_a_cluster() {
    let mut samples = samples::small().unwrap();
    samples.retain(|sample| is_clean(&sample.octets));
    let cluster = cluster(&samples).await;
    fetchmail_empties(&Place::of(&cluster, 2), samples.len());
    assert!(cluster.inbox(ANN).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_node_dies_in_the_middle_of_a_session() {
    let samples = samples::all().unwrap();
    let mut cluster = cluster(&samples).await;
    let mail = cluster.inbox(ANN).await.unwrap();
    let (_, leader) = cluster.leader_of(ANN).await.unwrap();
    let witness = Place::of(&cluster, (leader + 1) % cluster.size());
    let uidl = |place: &Place| place.say(&["tls", &login(), "uidl", "quit"]);
    let before = uidl(&Place::of(&cluster, leader));
    assert_eq!(before, uidl(&witness));
    // A session at another node has begun; the leader of its mail dies; it goes on, and what it
    // has marked is removed.
    let dir = tempfile::tempdir().unwrap();
    let all = format!("all {}", dir.path().display());
    let words = [
        "tls",
        &login(),
        "dele 2",
        "rset",
        "wait",
        &all,
        "dele 1",
        "quit",
    ];
    let mut session = witness.poplib(&words);
    session.stdin(std::process::Stdio::piped());
    session.stdout(std::process::Stdio::piped());
    let mut session = session.spawn().unwrap();
    let mut said = String::new();
    let mut out = std::io::BufReader::new(session.stdout.take().unwrap());
    std::io::BufRead::read_line(&mut out, &mut said).unwrap();
    assert_eq!(said, "waiting\n");
    cluster.kill(leader);
    drop(session.stdin.take());
    assert!(session.wait().unwrap().success());
    for (n, octets) in mail.iter().enumerate() {
        assert!(
            read(dir.path(), n + 1) == canonical(octets),
            "message {} differs",
            n + 1
        );
    }
    let (_, rest) = before.split_once('\n').unwrap();
    assert_eq!(ids(&uidl(&witness)), ids(rest));
    cluster.restart(leader).await.unwrap();
    assert_eq!(ids(&uidl(&Place::of(&cluster, leader))), ids(rest));
}
