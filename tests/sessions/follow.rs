//! The same account followed by the client library: changes since a modseq, in pages of any size
//! that are left and taken up again; and watch, from a token that is handed to another node.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::{Context, ensure};
use futures::TryStreamExt;
use posthouse_client::ids::{AccountName, MailboxId, MailboxName, MailboxRef};
use posthouse_client::proto::{MailboxChanges, UidRange};
use posthouse_client::{Client, Error, FetchEvent, FetchOptions, ListOptions};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha12Rng;

use super::ledger::{Row, Truth};

/// Mailboxes by their numbers.
pub type Mailboxes = BTreeMap<u32, BTreeMap<u32, Row>>;

/// Flags of the standard, by bit.
const BITS: [&str; 5] = ["\\SEEN", "\\ANSWERED", "\\FLAGGED", "\\DELETED", "\\DRAFT"];

/// A mailbox as the client library lists it.
pub async fn truth(client: &Client, account: &AccountName, name: &str) -> anyhow::Result<Truth> {
    let name = MailboxName::new(name)?;
    let mut truth = Truth::default();
    let options = ListOptions {
        page: 7,
        ..ListOptions::default()
    };
    let pages: Vec<_> = client
        .list_pages(account, &name, options)
        .try_collect()
        .await?;
    for page in pages {
        let mailbox = page.mailbox.context("no mailbox in the answer")?;
        truth.uidvalidity = mailbox.uidvalidity;
        truth.uidnext = mailbox.uidnext;
        for message in page.messages {
            let flags = message
                .flags
                .iter()
                .map(|f| f.to_ascii_uppercase())
                .collect();
            let modseq = message.modseq;
            truth.rows.insert(message.uid, Row { flags, modseq });
        }
    }
    Ok(truth)
}

/// All mailboxes as the client library lists them.
pub async fn truths(client: &Client, account: &AccountName) -> anyhow::Result<Mailboxes> {
    let mut all = Mailboxes::new();
    for mailbox in client.list_mailboxes(account).await? {
        let truth = truth(client, account, &mailbox.name).await?;
        ensure!(
            mailbox.messages as usize == truth.rows.len(),
            "{} counts {} messages and lists {}",
            mailbox.name,
            mailbox.messages,
            truth.rows.len()
        );
        let count = |flag: &str| {
            truth
                .rows
                .values()
                .filter(|r| r.flags.contains(flag))
                .count()
        };
        ensure!(
            mailbox.deleted as usize == count("\\DELETED"),
            "deleted of {}",
            mailbox.name
        );
        let seen = count("\\SEEN");
        ensure!(
            mailbox.unseen as usize == truth.rows.len() - seen,
            "unseen of {}",
            mailbox.name
        );
        all.insert(mailbox.mailbox_id, truth.rows);
    }
    Ok(all)
}

/// What is known, and brought up to date by changes.
struct State {
    client: Client,
    account: AccountName,
    mailboxes: Mailboxes,
}

impl State {
    async fn apply(&mut self, changes: &MailboxChanges) -> anyhow::Result<()> {
        let id = changes.mailbox_id;
        if changes.destroyed {
            self.mailboxes.remove(&id);
            return Ok(());
        }
        let rows = self.mailboxes.entry(id).or_default();
        for range in &changes.vanished {
            for uid in range.first..=range.last {
                rows.remove(&uid);
            }
        }
        for range in &changes.updated {
            for uid in range.first..=range.last {
                ensure!(
                    rows.contains_key(&uid),
                    "uid {uid} was updated and is not known"
                );
            }
        }
        let wanted: Vec<UidRange> = changes
            .created
            .iter()
            .chain(&changes.updated)
            .cloned()
            .collect();
        if wanted.is_empty() {
            return Ok(());
        }
        let asked: BTreeSet<u32> = wanted.iter().flat_map(|r| r.first..=r.last).collect();
        let found = match self.rows(id, wanted).await {
            Err(error) if is_gone(&error) => return Ok(()),
            found => found?,
        };
        let rows = self.mailboxes.entry(id).or_default();
        for uid in asked {
            match found.get(&uid) {
                Some(row) => rows.insert(uid, row.clone()),
                // Gone since, which a later answer will say; it is told to be there for now.
                None => rows.insert(
                    uid,
                    Row {
                        flags: BTreeSet::new(),
                        modseq: 0,
                    },
                ),
            };
        }
        Ok(())
    }

    async fn rows(&self, id: u32, uids: Vec<UidRange>) -> anyhow::Result<BTreeMap<u32, Row>> {
        let options = FetchOptions {
            uids,
            ..FetchOptions::default()
        };
        let mut stream = self
            .client
            .fetch_messages(&self.account, mailbox(id), options)
            .await?;
        let mut rows = BTreeMap::new();
        while let Some(event) = stream.next().await? {
            let FetchEvent::Message(message) = event else {
                continue;
            };
            let standard = (0..5).filter(|bit| message.flags & 1 << bit != 0);
            let mut flags: BTreeSet<String> =
                standard.map(|bit| BITS[bit as usize].to_owned()).collect();
            for keyword in &message.keywords {
                let name = stream
                    .keywords()
                    .get(keyword)
                    .context("a keyword without a name")?;
                flags.insert(name.to_ascii_uppercase());
            }
            let modseq = message.modseq;
            rows.insert(message.uid, Row { flags, modseq });
        }
        Ok(rows)
    }

    fn compare(&self, truth: &Mailboxes) -> anyhow::Result<()> {
        for (id, rows) in truth {
            let known = self
                .mailboxes
                .get(id)
                .with_context(|| format!("mailbox {id} is not known"))?;
            ensure!(
                known == rows,
                "mailbox {id}: known is\n{known:?}\nand there is\n{rows:?}"
            );
        }
        ensure!(
            self.mailboxes.len() == truth.len(),
            "a mailbox that is gone is known"
        );
        Ok(())
    }
}

fn mailbox(id: u32) -> MailboxRef {
    MailboxRef::Id {
        id: MailboxId(id),
        uidvalidity: 0,
    }
}

fn is_gone(error: &anyhow::Error) -> bool {
    matches!(error.downcast_ref(), Some(Error::NotFound { .. }))
}

/// Follows the whole account by changes since, a page at a time.
pub struct Follower {
    state: State,
    rng: ChaCha12Rng,
    since: u64,
}

impl Follower {
    /// Knows nothing yet.
    pub fn new(client: Client, account: AccountName, seed: u64) -> Follower {
        Follower {
            state: State {
                client,
                account,
                mailboxes: Mailboxes::new(),
            },
            rng: ChaCha12Rng::seed_from_u64(seed),
            since: 0,
        }
    }

    /// One page; whether there is more.
    pub async fn step(&mut self) -> anyhow::Result<bool> {
        let limit = self.rng.random_range(1..20);
        let state = &mut self.state;
        let changes = state
            .client
            .get_changes(&state.account, None, self.since, limit)
            .await?;
        ensure!(changes.up_to >= self.since, "changes went back");
        ensure!(
            !changes.more || changes.up_to > self.since,
            "more, and no further"
        );
        ensure!(
            changes.up_to - self.since <= u64::from(limit),
            "{} changes of {limit} at most",
            changes.up_to - self.since
        );
        for mailbox in &changes.mailboxes {
            state.apply(mailbox).await.with_context(|| {
                format!("changes {} to {}: {mailbox:?}", self.since, changes.up_to)
            })?;
        }
        self.since = changes.up_to;
        Ok(changes.more)
    }

    /// At rest, all pages to the end lead to what is.
    pub async fn compare(&mut self, truth: &Mailboxes) -> anyhow::Result<()> {
        while self.step().await? {}
        self.state.compare(truth).context("by changes since")
    }
}

/// Follows by watch: looks at a mailbox only when it is told of it.
pub struct Watcher {
    state: State,
    /// Clients that know one node each to begin with.
    doors: Vec<Client>,
    rng: ChaCha12Rng,
    /// Up to where each mailbox was looked at.
    since: BTreeMap<u32, u64>,
    /// The last modseq that was told: the token to resume from.
    seen: u64,
    /// Times that the token was handed to another node.
    pub resumed: u64,
}

impl Watcher {
    /// Knows nothing yet.
    pub fn new(client: Client, doors: Vec<Client>, account: AccountName, seed: u64) -> Watcher {
        Watcher {
            state: State {
                client,
                account,
                mailboxes: Mailboxes::new(),
            },
            doors,
            rng: ChaCha12Rng::seed_from_u64(seed),
            since: BTreeMap::new(),
            seen: 0,
            resumed: 0,
        }
    }

    /// Watches until `enough`, and it has heard of this modseq.
    pub async fn follow(&mut self, enough: impl Fn() -> Option<u64>) -> anyhow::Result<()> {
        let begin = tokio::time::Instant::now();
        loop {
            let door = &self.doors[self.rng.random_range(0..self.doors.len())];
            let watch = door.watch();
            let mut changes = watch.subscribe(self.state.account.clone(), self.seen);
            self.resumed += 1;
            let mut left = self.rng.random_range(1..30);
            while left > 0 {
                if enough().is_some_and(|modseq| self.seen >= modseq) {
                    return Ok(());
                }
                let patience = Duration::from_secs(120);
                ensure!(
                    begin.elapsed() < patience,
                    "watch says nothing after {}",
                    self.seen
                );
                let next = tokio::time::timeout(Duration::from_millis(50), changes.next());
                let Ok(change) = next.await else {
                    continue;
                };
                let change = change.context("the account is gone, says watch")?;
                ensure!(!change.gone, "the account is gone, says watch");
                ensure!(
                    change.modseq >= self.seen,
                    "watch went back to {}",
                    change.modseq
                );
                let mut ids: BTreeSet<u32> = change.mailboxes.iter().map(|id| id.0).collect();
                if change.resync {
                    ids.extend(self.since.keys());
                    let listed = self
                        .state
                        .client
                        .list_mailboxes(&self.state.account)
                        .await?;
                    ids.extend(listed.iter().map(|m| m.mailbox_id));
                }
                for id in ids {
                    self.look(id).await?;
                }
                self.seen = change.modseq;
                left -= 1;
            }
        }
    }

    async fn look(&mut self, id: u32) -> anyhow::Result<()> {
        loop {
            let since = self.since.get(&id).copied().unwrap_or(0);
            let state = &mut self.state;
            let asked = state
                .client
                .get_changes(&state.account, Some(mailbox(id)), since, 0);
            let changes = match asked.await {
                Err(Error::NotFound { .. }) => {
                    state.mailboxes.remove(&id);
                    self.since.remove(&id);
                    return Ok(());
                }
                changes => changes?,
            };
            for mailbox in &changes.mailboxes {
                ensure!(mailbox.mailbox_id == id, "changes of another mailbox");
                state.apply(mailbox).await?;
            }
            state.mailboxes.entry(id).or_default();
            self.since.insert(id, changes.up_to);
            if !changes.more {
                return Ok(());
            }
        }
    }

    /// At rest, what it was led to look at is all there is.
    pub fn compare(&self, truth: &Mailboxes) -> anyhow::Result<()> {
        self.state.compare(truth).context("by watch")
    }
}
