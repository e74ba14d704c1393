//! One client: it connects to any node, resynchronises from what it has kept (RFC 7162, section
//! 3.2.5), does something, and is cut off at any moment.

use std::collections::{BTreeSet, VecDeque};
use std::fmt::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use anyhow::{Context, bail, ensure};
use posthouse_tests::imap::{Imap, Reply, Search, Status, Token, Untagged, is_broken};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha12Rng;

use super::belief::{Belief, Manner, set};
use super::ledger::{Ledger, PLACES, Place, Truth};

/// Whose mailboxes.
pub const USER: &str = "ann@example.org";
/// Her password.
pub const PASSWORD: &str = "correct horse battery";

/// Where nodes are, and which have died.
pub struct Nodes {
    /// IMAP addresses.
    pub imap: Vec<String>,
    /// How often each has died.
    pub deaths: Vec<AtomicU64>,
    /// Who is down.
    pub down: Vec<AtomicBool>,
}

impl Nodes {
    /// All of them up.
    pub fn new(imap: Vec<String>) -> Nodes {
        Nodes {
            deaths: imap.iter().map(|_| AtomicU64::new(0)).collect(),
            down: imap.iter().map(|_| AtomicBool::new(false)).collect(),
            imap,
        }
    }

    /// A node is about to die.
    pub fn dies(&self, node: usize) {
        self.down[node].store(true, Ordering::SeqCst);
        self.deaths[node].fetch_add(1, Ordering::SeqCst);
    }
}

struct Connection {
    imap: Imap,
    node: usize,
    deaths: u64,
}

/// One client.
pub struct Session {
    pub(super) name: String,
    pub(super) rng: ChaCha12Rng,
    pub(super) ledger: Arc<Ledger>,
    nodes: Arc<Nodes>,
    /// It uses QRESYNC, or nothing.
    pub(super) qresync: bool,
    rev2: bool,
    connection: Option<Connection>,
    /// The selected mailbox.
    pub(super) belief: Option<Belief>,
    kept: [Option<Belief>; 2],
    trace: VecDeque<String>,
    /// Times that it went on from what it had kept.
    pub(super) resumed: u64,
    /// What it is told between its commands.
    pub(super) listens: Listens,
    /// Messages and next uid of a mailbox, as last told by STATUS since it was selected.
    counters: [Option<(usize, u32)>; 2],
    /// Times that counters were told until they were right.
    pub(super) counted: u64,
}

/// What a client is told between its commands (RFC 5465).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Listens {
    /// Nothing: it has not said NOTIFY.
    Never,
    /// Everything but that messages are gone.
    Delayed,
    /// Everything, so that a number may mean another message at any time.
    Always,
}

impl Session {
    /// A client that has not connected yet.
    pub fn new(n: u64, seed: u64, ledger: Arc<Ledger>, nodes: Arc<Nodes>) -> Session {
        Session {
            name: format!("session {n}"),
            rng: ChaCha12Rng::seed_from_u64(seed.wrapping_mul(1_000).wrapping_add(n)),
            ledger,
            nodes,
            qresync: n % 3 != 2,
            rev2: n % 4 == 3,
            connection: None,
            belief: None,
            kept: [None, None],
            trace: VecDeque::new(),
            resumed: 0,
            listens: Listens::Never,
            counters: [None, None],
            counted: 0,
        }
    }

    /// Does something; being cut off by a node that died is part of it.
    pub async fn step(&mut self) -> anyhow::Result<()> {
        let done = match self.ready().await {
            Ok(()) => self.deed().await,
            Err(error) => Err(error),
        };
        self.survive(done)
    }

    /// An error is none when the node of this client has died.
    fn survive(&mut self, done: anyhow::Result<()>) -> anyhow::Result<()> {
        let Err(error) = done else {
            return Ok(());
        };
        let died = self
            .connection
            .as_ref()
            .is_some_and(|c| self.nodes.deaths[c.node].load(Ordering::SeqCst) != c.deaths);
        if is_broken(&error) && died {
            self.note(&format!("-- cut off: {error:#}"));
            self.cut();
            return Ok(());
        }
        Err(self.failed(error))
    }

    /// With what came before.
    fn failed(&self, error: anyhow::Error) -> anyhow::Error {
        let mut text = format!("{} (QRESYNC {}):\n", self.name, self.qresync);
        for line in &self.trace {
            let _ = writeln!(text, "  {line}");
        }
        if let Some(belief) = &self.belief {
            let uids: Vec<u32> = belief.messages.iter().map(|m| m.uid).collect();
            let _ = writeln!(text, "  knows {uids:?}, modseq {}", belief.modseq);
        }
        error.context(text)
    }

    fn note(&mut self, line: &str) {
        self.trace.push_back(line.chars().take(240).collect());
        if self.trace.len() > 60 {
            self.trace.pop_front();
        }
    }

    /// The connection is gone, without a word.
    pub fn cut(&mut self) {
        self.connection = None;
        self.put_away();
    }

    /// What the client knows of the selected mailbox is kept for later.
    pub(super) fn put_away(&mut self) {
        if let Some(belief) = self.belief.take() {
            let place = belief.place;
            self.counters[place] = None;
            self.kept[place] = Some(belief.keep());
        }
    }

    /// Connected, logged in, a mailbox selected.
    async fn ready(&mut self) -> anyhow::Result<()> {
        if self.connection.is_none() {
            self.connect().await?;
        }
        if self.belief.is_none() {
            let place = usize::from(self.rng.random_bool(0.15));
            self.select(place).await?;
        }
        Ok(())
    }

    async fn connect(&mut self) -> anyhow::Result<()> {
        for _ in 0..100 {
            let node = self.rng.random_range(0..self.nodes.imap.len());
            if self.nodes.down[node].load(Ordering::SeqCst) {
                continue;
            }
            let deaths = self.nodes.deaths[node].load(Ordering::SeqCst);
            let addr = self.nodes.imap[node].clone();
            self.note(&format!("-- connects to node {node}"));
            let mut imap = match Imap::login(&addr, USER, PASSWORD).await {
                Ok(imap) => imap,
                Err(error) if is_broken(&error) && deaths != self.deaths(node) => continue,
                Err(error) => return Err(error),
            };
            let enabled = match (self.rev2, self.qresync) {
                (true, true) => Some("ENABLE IMAP4rev2 QRESYNC"),
                (true, false) => Some("ENABLE IMAP4rev2"),
                (false, true) => Some("ENABLE QRESYNC"),
                (false, false) => None,
            };
            if let Some(enable) = enabled {
                match imap.ok(enable).await {
                    Err(error) if is_broken(&error) && deaths != self.deaths(node) => continue,
                    other => other?,
                };
            }
            self.connection = Some(Connection { imap, node, deaths });
            return self.listen().await;
        }
        bail!("no node is there")
    }

    /// Half of the connections are told of both mailboxes unasked.
    async fn listen(&mut self) -> anyhow::Result<()> {
        self.counters = [None, None];
        let (listens, word) = match self.rng.random_range(0..4u32) {
            0 => (Listens::Always, "SELECTED"),
            1 => (Listens::Delayed, "SELECTED-DELAYED"),
            _ => {
                self.listens = Listens::Never;
                return Ok(());
            }
        };
        self.listens = listens;
        let items = if self.qresync {
            "FLAGS MODSEQ"
        } else {
            "FLAGS"
        };
        let command = format!(
            "NOTIFY SET STATUS ({word} (MessageNew ({items}) MessageExpunge FlagChange)) \
             (MAILBOXES ({} {}) (MessageNew MessageExpunge FlagChange))",
            PLACES[0], PLACES[1]
        );
        let reply = self.say(&command, &[], true).await?;
        ensure!(reply.is_ok(), "{:?}", reply.status);
        let told = self.counters.iter().all(Option::is_some);
        ensure!(told, "STATUS of {:?}", self.counters);
        Ok(())
    }

    fn deaths(&self, node: usize) -> u64 {
        self.nodes.deaths[node].load(Ordering::SeqCst)
    }

    pub(super) fn imap(&mut self) -> anyhow::Result<&mut Imap> {
        let connection = self.connection.as_mut().context("not connected")?;
        Ok(&mut connection.imap)
    }

    /// Says a command, and takes all that is told.
    pub(super) async fn say(
        &mut self,
        command: &str,
        literals: &[(&[u8], &str)],
        expunges: bool,
    ) -> anyhow::Result<Reply> {
        self.note(&format!("C: {command}"));
        let reply = self.imap()?.say_with(command, literals).await?;
        let manner = Manner {
            expunges: expunges || self.listens == Listens::Always,
            earlier: command.contains("VANISHED"),
            bare: command.starts_with("FETCH") && !command.contains("UID"),
        };
        self.take(&reply, manner)
            .with_context(|| command.to_owned())?;
        Ok(reply)
    }

    /// Takes what is told.
    pub(super) fn take(&mut self, reply: &Reply, manner: Manner) -> anyhow::Result<()> {
        for answer in &reply.untagged {
            self.hear(answer, manner)?;
        }
        self.note(&format!("S: {:?}", reply.status));
        if let Some(belief) = &mut self.belief {
            belief.end(&reply.status)?;
            belief.earlier.clear();
        }
        ensure!(reply.status.condition != "BAD", "{:?}", reply.status);
        Ok(())
    }

    /// Takes one untagged answer.
    pub(super) fn hear(&mut self, answer: &Untagged, manner: Manner) -> anyhow::Result<()> {
        self.note(&format!("S: {answer:?}"));
        if let Untagged::Other(tokens) = answer {
            self.count(tokens)?;
        }
        let Some(belief) = &mut self.belief else {
            return match answer {
                Untagged::Status(_) | Untagged::Other(_) => Ok(()),
                other => bail!("{other:?} without a mailbox"),
            };
        };
        belief.hear(answer, manner, &self.ledger)?;
        match answer {
            Untagged::Search(found) => self.sane(found),
            _ => Ok(()),
        }
    }

    /// Takes STATUS of a mailbox that is not selected.
    fn count(&mut self, tokens: &[Token]) -> anyhow::Result<()> {
        let word = |at: usize| tokens.get(at).and_then(Token::word);
        let name = word(1).unwrap_or_default();
        let named = PLACES.iter().position(|p| p.eq_ignore_ascii_case(&name));
        let (Some("STATUS"), Some(place)) = (word(0).as_deref(), named) else {
            return Ok(());
        };
        let value = |item: &str| -> anyhow::Result<Option<u32>> {
            let at = (3..tokens.len()).find(|at| word(*at).as_deref() == Some(item));
            let value = at.and_then(|at| tokens.get(at + 1)).map(Token::number);
            value.transpose()
        };
        if let (Some(messages), Some(next)) = (value("MESSAGES")?, value("UIDNEXT")?) {
            self.counters[place] = Some((messages as usize, next));
        }
        Ok(())
    }

    /// Matches are messages that the client knows of, in their order.
    fn sane(&self, found: &Search) -> anyhow::Result<()> {
        let Some(belief) = &self.belief else {
            return Ok(());
        };
        let numbers: Vec<u32> = found.all.iter().flat_map(|&(a, b)| a..=b).collect();
        let sorted = numbers.windows(2).all(|pair| pair[0] < pair[1]);
        ensure!(sorted, "matches are out of order");
        if let (Some(count), false) = (found.count, found.all.is_empty()) {
            ensure!(
                count as usize == numbers.len(),
                "COUNT {count} of {}",
                numbers.len()
            );
        }
        if found.tag.is_some() && !found.uid {
            let last = numbers.last().copied().max(found.max);
            ensure!(
                last.unwrap_or(0) as usize <= belief.messages.len(),
                "a match that is not there: {found:?}"
            );
        }
        Ok(())
    }

    /// Selects a mailbox, from what is kept of it if QRESYNC is on.
    pub(super) async fn select(&mut self, place: Place) -> anyhow::Result<()> {
        let mut belief = match self.kept[place].take() {
            Some(kept) if self.qresync => kept,
            _ => Belief::new(place, self.qresync),
        };
        let resync = self.qresync && belief.modseq > 0;
        let first = belief.highest_uid() + 1;
        let (mut command, mut known) = (format!("SELECT {}", PLACES[place]), None);
        if resync {
            self.resumed += 1;
            let _ = write!(
                command,
                " (QRESYNC ({} {}",
                belief.uidvalidity, belief.modseq
            );
            let uids: Vec<u32> = belief.messages.iter().map(|m| m.uid).collect();
            if self.rng.random_bool(0.5) && !uids.is_empty() {
                let _ = write!(command, " {}", set(uids.iter().copied()));
                known = Some(uids.iter().copied().collect::<BTreeSet<u32>>());
            }
            if self.rng.random_bool(0.5) && !uids.is_empty() {
                let mut sample: BTreeSet<usize> = BTreeSet::from([uids.len()]);
                for _ in 0..3 {
                    sample.insert(self.rng.random_range(1..=uids.len()));
                }
                let numbers = set(sample.iter().map(|&n| n as u32));
                let theirs = set(sample.iter().map(|&n| uids[n - 1]));
                let _ = write!(command, " ({numbers} {theirs})");
            }
            command.push_str("))");
        }
        self.note(&format!("C: {command}"));
        let reply = self.imap()?.say(&command).await;
        // Cut off in the middle, the client goes on from what it had.
        let reply = match reply {
            Ok(reply) => reply,
            Err(error) => {
                self.kept[place] = resync.then(|| belief.keep());
                return Err(error);
            }
        };
        // What comes before CLOSED is about the mailbox before.
        let closed = |answer: &Untagged| match answer {
            Untagged::Status(status) => status.code("CLOSED").is_some(),
            _ => false,
        };
        let before = reply.untagged.iter().position(closed).unwrap_or(0);
        let (before, after) = reply.untagged.split_at(before);
        let manner = Manner {
            expunges: self.listens == Listens::Always,
            ..Manner::default()
        };
        for answer in before {
            self.hear(answer, manner)?;
        }
        if let Some(before) = &mut self.belief {
            before.end(&Status::default())?;
        }
        self.put_away();
        for answer in after {
            self.note(&format!("S: {answer:?}"));
            if let Untagged::Other(tokens) = answer {
                self.count(tokens)?;
            }
        }
        self.note(&format!("S: {:?}", reply.status));
        ensure!(reply.is_ok(), "{:?}", reply.status);
        let uidvalidity: u32 = reply
            .code("UIDVALIDITY")
            .context("no UIDVALIDITY")?
            .parse()?;
        ensure!(
            !resync || uidvalidity == belief.uidvalidity,
            "UIDVALIDITY {uidvalidity}"
        );
        belief.uidvalidity = uidvalidity;
        let mut exists = None;
        let mut resumed = false;
        for answer in after {
            match answer {
                Untagged::Exists(n) => {
                    ensure!(exists.replace(*n as usize).is_none(), "EXISTS twice");
                    continue;
                }
                Untagged::Fetch(_) if !resumed => {
                    ensure!(resync, "FETCH without a question");
                    belief.resume(exists.context("FETCH before EXISTS")?)?;
                    resumed = true;
                }
                Untagged::Vanished { .. } => ensure!(resync && !resumed, "{answer:?}"),
                _ => {}
            }
            let manner = Manner {
                earlier: true,
                ..Manner::default()
            };
            belief.hear(answer, manner, &self.ledger)?;
            if let Some(known) = &known {
                let strange = belief.earlier.iter().find(|uid| !known.contains(uid));
                ensure!(strange.is_none(), "{strange:?} vanished, and was not known");
            }
        }
        let exists = exists.context("no EXISTS")?;
        if !resumed {
            belief.resume(exists)?;
        }
        belief.end(&reply.status)?;
        self.belief = Some(belief);
        self.counters[place] = None;
        // What is not kept, or everything.
        let reply = self
            .say(&format!("UID FETCH {first}:* (FLAGS)"), &[], true)
            .await?;
        ensure!(reply.is_ok(), "{:?}", reply.status);
        Ok(())
    }

    /// At rest: what was told so far, what a NOOP adds to it, and what a full read says are all
    /// what is.
    pub async fn compare(&mut self, truths: &[Truth]) -> anyhow::Result<()> {
        for _ in 0..5 {
            let done = match self.ready().await {
                Ok(()) => self.compare_once(truths).await,
                Err(error) => Err(error),
            };
            let before = self.connection.is_some();
            self.survive(done)?;
            if before && self.connection.is_some() {
                return Ok(());
            }
        }
        bail!("{} gets nowhere", self.name)
    }

    /// What is told of the mailbox that is not selected comes to be what is.
    async fn compare_counters(&mut self, place: Place, truth: &Truth) -> anyhow::Result<()> {
        if self.listens == Listens::Never || self.counters[place].is_none() {
            return Ok(());
        }
        let until = tokio::time::Instant::now() + std::time::Duration::from_secs(20);
        let is = |counters: &Option<(usize, u32)>| {
            counters.is_some_and(|(n, next)| n == truth.rows.len() && next == truth.uidnext)
        };
        let manner = Manner {
            expunges: self.listens == Listens::Always,
            ..Manner::default()
        };
        while !is(&self.counters[place]) {
            let left = until.saturating_duration_since(tokio::time::Instant::now());
            let told = self.imap()?.untagged_within(left).await?;
            let (counters, count) = (self.counters[place], truth.rows.len());
            let answer = told.with_context(|| {
                let next = truth.uidnext;
                format!(
                    "told {counters:?} of {}, not {count}, {next}",
                    PLACES[place]
                )
            })?;
            self.hear(&answer, manner)?;
        }
        self.counted += 1;
        Ok(())
    }

    async fn compare_once(&mut self, truths: &[Truth]) -> anyhow::Result<()> {
        let place = self.place()?;
        self.say("NOOP", &[], true).await?;
        self.compare_counters(1 - place, &truths[1 - place]).await?;
        let compared = self
            .belief
            .as_ref()
            .context("selected")?
            .compare(&truths[place], false);
        compared.context("after NOOP")?;
        // From what a client would have kept that was cut off now.
        for (place, truth) in truths.iter().enumerate() {
            self.cut();
            self.connect().await?;
            self.select(place).await?;
            let belief = self.belief.as_ref().context("selected")?;
            belief.compare(truth, true).context("resynchronised")?;
            ensure!(belief.uidvalidity == truth.uidvalidity, "UIDVALIDITY");
            let modseq = if self.qresync { " MODSEQ" } else { "" };
            self.say(&format!("UID FETCH 1:* (FLAGS{modseq})"), &[], true)
                .await?;
            let belief = self.belief.as_ref().context("selected")?;
            belief.compare(truth, true).context("read anew")?;
            for (_, known) in belief.known().filter(|_| self.qresync) {
                let row = truth.rows.get(&known.uid);
                ensure!(
                    row.is_some_and(|row| row.modseq == known.modseq),
                    "modseq of uid {} is {} to the client, {row:?}",
                    known.uid,
                    known.modseq
                );
            }
        }
        Ok(())
    }

    pub(super) fn place(&self) -> anyhow::Result<Place> {
        Ok(self
            .belief
            .as_ref()
            .context("no mailbox is selected")?
            .place)
    }
}
