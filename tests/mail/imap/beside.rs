//! A second client beside a program: it changes the same mailbox through another node, from before
//! the program begins until after a node has died, and keeps a model of what it was promised.
//!
//! Its own part is `beside.py`. A program is judged by the mailbox that is left: its own letters,
//! with the flags that both have given them, and those of the second client, each once.
//!
//! The second client stays at a node that lives, and fails when that one's sessions notice a death
//! as more than a pause. Programs are run again until they come to a good end: what is asked of a
//! single run in a mailbox that nobody else touches is in the files of the programs.

use std::collections::BTreeMap;
use std::process::ExitStatus;

use serde::Deserialize;

use super::python::case;
use super::*;

/// Rounds of the second client that must lie on either side of a death.
const SOME: u64 = 3;
/// So often a user runs a program again that did not come to a good end.
pub const ATTEMPTS: usize = 10;

/// Who else wants the letters that the second client puts into the mailbox.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Letters {
    /// Nobody: what it has not removed itself is there in the end.
    Alone,
    /// A program that empties the mailbox.
    Shared,
    /// A program that cannot bear that anybody else removes something.
    Growing,
}

/// The second client at its work.
pub struct Beside {
    process: Process,
    dir: PathBuf,
}

/// The flags and the octets of a letter, without what its way has added to it.
pub type Letter = (BTreeSet<String>, Vec<u8>);

/// What the second client has made of the mailboxes.
#[derive(Deserialize)]
pub struct Changes {
    /// So many of the letters that were there before it has flagged as answered, from the first on.
    pub answered: usize,
    /// Of its own letters the last one; they are numbered from `FIRST` on.
    last: usize,
    #[serde(rename = "INBOX")]
    inbox: BTreeMap<usize, BTreeSet<String>>,
    #[serde(rename = "Archive")]
    archive: BTreeMap<usize, BTreeSet<String>>,
    #[serde(skip)]
    dir: PathBuf,
}

/// Number of its first letter.
const FIRST: usize = 5000;

impl Beside {
    /// Begins to change the INBOX of an account, which holds `theirs` letters, through node `i`.
    pub async fn start(
        cluster: &Cluster,
        account: &str,
        i: usize,
        theirs: usize,
        letters: Letters,
    ) -> Beside {
        let dir = (0..)
            .map(|n| cluster.dir().join(format!("beside-{n}")))
            .find(|dir| !dir.exists())
            .unwrap();
        std::fs::create_dir(&dir).unwrap();
        let name = match letters {
            Letters::Alone => "alone",
            Letters::Shared => "shared",
            Letters::Growing => "growing",
        };
        let doors = [Door::of(cluster, i)];
        let mut command = case(&dir, "beside.py", name, account, &doors);
        command.arg(cluster.lmtp(i)).arg(theirs.to_string());
        let process = start("beside", &mut command, &dir);
        let mut beside = Beside { process, dir };
        // With these rounds its keyword is there, see `fetchmail.rs`.
        let some = format!("round {SOME}");
        beside.process.line(&some, PATIENCE).await.unwrap();
        beside
    }

    /// How many rounds it has done.
    pub fn rounds(&self) -> u64 {
        let said = std::fs::read_to_string(self.dir.join("beside.out")).unwrap();
        said.matches('\n').count() as u64
    }

    /// Waits until a program has come so far, and this one has changed something meanwhile; or until
    /// the program has ended.
    pub async fn middle(
        &self,
        program: &mut Process,
        mut so_far: impl AsyncFnMut() -> u64,
        enough: u64,
    ) {
        let before = self.rounds();
        let both = async || {
            if !program.is_running() {
                return enough;
            }
            match self.rounds() < before + SOME {
                true => 0,
                false => so_far().await,
            }
        };
        until_some("the program", both, enough).await;
    }

    /// Waits until it has changed something from here on, and ends it.
    pub async fn end(mut self) -> Changes {
        let enough = self.rounds() + SOME;
        until_some("the second client", async || self.rounds(), enough).await;
        std::fs::write(self.dir.join("enough"), "").unwrap();
        let model = self.process.line("model ", PATIENCE).await.unwrap();
        let printed = finish("beside", self.process, &self.dir).await;
        assert!(printed.ends_with("done\n"), "{printed}");
        let mut changes: Changes = serde_json::from_str(&model["model ".len()..]).unwrap();
        changes.dir = self.dir;
        changes
    }
}

impl Changes {
    fn octets(&self, number: usize) -> Vec<u8> {
        std::fs::read(self.dir.join(format!("{number}.eml"))).unwrap()
    }

    fn letters_of(&self, mailbox: &BTreeMap<usize, BTreeSet<String>>) -> Vec<Letter> {
        let letter = |(n, flags): (&usize, &BTreeSet<String>)| (flags.clone(), self.octets(*n));
        mailbox.iter().map(letter).collect()
    }

    /// What it has left in INBOX.
    pub fn inbox(&self) -> Vec<Letter> {
        self.letters_of(&self.inbox)
    }

    /// Its letters, by where they must be: such as it has left in INBOX, and such as it has moved
    /// or removed, which somebody may have read before.
    pub fn left_and_taken_away(&self) -> (Vec<Vec<u8>>, Vec<Vec<u8>>) {
        let (left, away): (Vec<_>, Vec<_>) =
            (FIRST..=self.last).partition(|n| self.inbox.contains_key(n));
        let octets = |numbers: Vec<usize>| numbers.into_iter().map(|n| self.octets(n)).collect();
        (octets(left), octets(away))
    }

    /// With the flag that it has put on the letters that were there before it: `mine`, in order.
    pub fn answer(&self, mine: &mut [Letter]) {
        for (flags, _) in mine.iter_mut().take(self.answered) {
            flags.insert("\\Answered".to_owned());
        }
    }

    /// The account holds `mine` and what the second client has made, and nothing else; in Archive
    /// also what a program has put there, with whatever flags it had at that moment.
    pub async fn check(
        &self,
        cluster: &Cluster,
        account: &str,
        mut mine: Vec<Letter>,
        archived: &[Bytes],
    ) {
        mine.extend(self.inbox());
        assert_same("INBOX", stored(cluster, account, "INBOX").await, mine);
        let archive = stored(cluster, account, "Archive").await;
        let (theirs, own): (Vec<_>, Vec<_>) = (archive.into_iter())
            .partition(|(_, octets)| archived.iter().any(|letter| letter == octets));
        assert_same("Archive", own, self.letters_of(&self.archive));
        let theirs = theirs.into_iter().map(|(_, octets)| octets);
        let archived = archived.iter().map(|letter| letter.to_vec());
        assert_same("Archive, by the program", theirs, archived);
    }

    /// Its own letters are as it has left them, each once, whatever else is there.
    pub async fn check_own(&self, cluster: &Cluster, account: &str) {
        for (mailbox, own) in [("INBOX", &self.inbox), ("Archive", &self.archive)] {
            let mut found = stored(cluster, account, mailbox).await;
            let sent: BTreeSet<_> = (FIRST..=self.last).map(|n| self.octets(n)).collect();
            found.retain(|(_, octets)| sent.contains(octets));
            assert_same(mailbox, found, self.letters_of(own));
        }
    }

    /// A program has emptied the mailbox: in runs that came to a good end, in one that broke off, and
    /// in those after it. Nothing is lost; what the one took that broke off may be taken once more,
    /// and its last message may be cut off.
    pub fn check_taken(&self, mine: &[Bytes], good: &Path, broken: &Path, after: &Path) {
        let [good, broken, after] = [good, broken, after].map(|dir| -> Vec<Vec<u8>> {
            let taken = fetchmail::taken(dir);
            taken.iter().map(|octets| plain(octets)).collect()
        });
        let (left, away) = self.left_and_taken_away();
        let whole = |octets: &Vec<u8>| maildir::with_lf(octets);
        let must: BTreeSet<Vec<u8>> = (mine.iter().map(|letter| letter.to_vec()))
            .chain(left)
            .map(|octets| whole(&octets))
            .collect();
        let may: BTreeSet<Vec<u8>> = away.iter().map(whole).collect();
        let known = |octets: &Vec<u8>| must.contains(octets) || may.contains(octets);
        let cut: Vec<_> = broken.iter().filter(|o| !known(o)).collect();
        assert!(cut.len() <= 1, "{} strangers", cut.len());
        assert!(
            cut.iter()
                .all(|cut| must.iter().chain(&may).any(|o| o.starts_with(cut)))
        );
        let broken: Vec<_> = broken.iter().filter(|o| known(o)).cloned().collect();
        for (what, again) in [("that broke off", &broken), ("after it", &after)] {
            let all = good.iter().chain(again);
            let each: BTreeSet<_> = all.clone().collect();
            assert!(each.iter().all(|o| known(o)), "a stranger, in runs {what}");
            assert_same(what, all, each);
        }
        let all: BTreeSet<_> = good.into_iter().chain(broken).chain(after).collect();
        let lost = must.iter().filter(|o| !all.contains(*o)).count();
        assert_eq!(lost, 0, "letters are lost");
    }
}

/// These letters, each with these flags.
pub fn with_flags(letters: &[Bytes], flags: &[&str]) -> Vec<Letter> {
    let flags: BTreeSet<String> = flags.iter().map(|flag| (*flag).to_owned()).collect();
    let letter = |octets: &Bytes| (flags.clone(), octets.to_vec());
    letters.iter().map(letter).collect()
}

/// What a mailbox holds.
pub async fn stored(cluster: &Cluster, account: &str, mailbox: &str) -> Vec<Letter> {
    let kept = kept(cluster, account, mailbox).await;
    let uids: BTreeSet<u32> = kept.iter().map(|m| m.uid).collect();
    assert_eq!(uids.len(), kept.len());
    let letter = |m: Kept| (m.flags, plain(&m.octets));
    kept.into_iter().map(letter).collect()
}

/// A message without what programs and LMTP put before it.
pub fn plain(octets: &[u8]) -> Vec<u8> {
    let octets = maildir::without_marks(octets);
    if !octets.starts_with(b"Return-Path: ") {
        return octets;
    }
    let end = octets.iter().position(|&c| c == b'\n').unwrap();
    octets[end + 1..].to_vec()
}

/// A node dies under a program that is at its work; how the program ends.
pub async fn kill_under(cluster: &mut Cluster, node: usize, mut program: Process) -> ExitStatus {
    let ended = !program.is_running();
    assert!(!ended, "it ended before its middle: {}", program.tail());
    cluster.kill(node);
    program.wait(PATIENCE).await.unwrap()
}

/// Runs a program until it ends with one of these codes, as its user or a clock would: messages may
/// vanish under its hands, which some take for a failure.
pub async fn run_until_good(
    name: &str,
    codes: &[i32],
    mut command: impl FnMut() -> Command,
    dir: &Path,
) {
    for _ in 0..ATTEMPTS {
        let mut process = start(name, &mut command(), dir);
        let status = process.wait(PATIENCE).await.unwrap();
        if status.code().is_some_and(|code| codes.contains(&code)) {
            return;
        }
        let said = std::fs::read_to_string(dir.join(format!("{name}.out"))).unwrap();
        let lines: Vec<&str> = said.lines().rev().take(10).collect();
        println!("{name}: {status}, again: {}{lines:#?}", process.tail());
    }
    panic!("{name} does not come to a good end");
}
