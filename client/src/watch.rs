//! Changes of accounts as they happen.
//!
//! ```text
//! Subscription ─┐                        ┌─ stream to the leader of shard 1
//! Subscription ─┼─ accounts (one place ──┼─ stream to the leader of shard 2
//! Subscription ─┘   each, shared)        └─ …
//! ```
//!
//! A [`Watch`] has one stream for each shard that it has subscribers in, however many they are.
//! When a stream ends, because its node died or leads no more, the same accounts are named to the
//! new leader with the last modseq that was seen, so nothing is missed in between: whatever happened
//! comes as one event. So each subscriber hears of every change at least once, in order; several
//! may have become one. Nodes are not asked again for what they have said to another subscriber of
//! the same account: who joins with an older modseq than the one that was seen last is told to look
//! for itself ([`Change::resync`]).
//!
//! Tasks run as long as anybody is subscribed or the [`Watch`] is there.

mod stream;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::client::{Client, Scope};
use crate::error::Error;
use crate::ids::{AccountName, MailboxId, ModSeq};
use crate::proto::WatchEvent;
use crate::retry::Hunt;

/// Mailboxes that one change names; with more, its reader looks for itself.
const MAILBOXES: usize = 1_000;

/// Something has changed in an account.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Change {
    /// The account's modseq at the newest change.
    pub modseq: ModSeq,
    /// Where something has changed, ascending; none when only the account itself has.
    pub mailboxes: Vec<MailboxId>,
    /// Something has changed, and where is not known: look everywhere.
    pub resync: bool,
    /// The account is gone; nothing more will come.
    pub gone: bool,
}

/// Watches accounts. Cheap to clone; clones share their streams.
#[derive(Clone)]
pub struct Watch {
    owner: Arc<Owner>,
}

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Watch")
    }
}

/// Ends the tasks when nobody can subscribe any more and nobody is subscribed.
struct Owner {
    shared: Arc<Shared>,
}

impl Drop for Owner {
    fn drop(&mut self) {
        let mut state = self.shared.state.lock();
        state.closed = true;
        for shard in state.shards.values() {
            shard.wake.notify_one();
        }
        self.shared.wake.notify_one();
    }
}

/// What subscribers and tasks share.
struct Shared {
    client: Client,
    state: Mutex<State>,
    /// There are accounts whose shard is not known.
    wake: Notify,
}

#[derive(Default)]
struct State {
    accounts: BTreeMap<AccountName, Entry>,
    /// Accounts whose shard is to be found out.
    homeless: BTreeSet<AccountName>,
    /// Shards that have a task.
    shards: BTreeMap<u32, Shard>,
    next: u64,
    closed: bool,
    /// The task that finds shards out runs.
    finding: bool,
}

/// An account that somebody is subscribed to, or was a moment ago.
struct Entry {
    /// The last modseq that a node has told, or from where it was asked.
    seen: ModSeq,
    /// What was told before may still be on its way, and says nothing of what came before it.
    suspect: bool,
    /// ... and when it was said that it is gone, that was asked again.
    asked_again: bool,
    shard: Option<u32>,
    subscribers: BTreeMap<u64, Arc<Place>>,
}

#[derive(Default)]
struct Shard {
    accounts: BTreeSet<AccountName>,
    /// Accounts that the stream does not yet know to be wanted, or not to be.
    unsent: BTreeSet<AccountName>,
    wake: Arc<Notify>,
}

/// What waits for one subscriber.
#[derive(Default)]
struct Place {
    waiting: Mutex<Waiting>,
    wake: Notify,
}

#[derive(Default)]
struct Waiting {
    seen: ModSeq,
    change: Option<Change>,
    ended: bool,
}

/// Changes of one account, for one reader. Dropped, it is subscribed no more.
pub struct Subscription {
    owner: Arc<Owner>,
    account: AccountName,
    number: u64,
    place: Arc<Place>,
}

impl fmt::Debug for Subscription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Subscription({})", self.account)
    }
}

impl Client {
    /// Watches accounts, over streams of its own.
    pub fn watch(&self) -> Watch {
        let shared = Shared {
            client: self.clone(),
            state: Mutex::default(),
            wake: Notify::new(),
        };
        let owner = Owner {
            shared: Arc::new(shared),
        };
        Watch {
            owner: Arc::new(owner),
        }
    }
}

impl Watch {
    /// Subscribes to changes of an account after `since`, the modseq that the caller has seen it
    /// at. To be called inside a tokio runtime: the first call starts a task. What cannot be
    /// reached is tried again without an end.
    pub fn subscribe(&self, account: AccountName, since: ModSeq) -> Subscription {
        let shared = &self.owner.shared;
        let place = Arc::new(Place::default());
        place.waiting.lock().seen = since;
        let mut guard = shared.state.lock();
        let state = &mut *guard;
        let number = state.next;
        state.next += 1;
        let entry = state
            .accounts
            .entry(account.clone())
            .or_insert_with(|| Entry {
                seen: since,
                suspect: false,
                asked_again: false,
                shard: None,
                subscribers: BTreeMap::new(),
            });
        if since < entry.seen {
            // What happened in between was told to others.
            place.put(entry.seen, &[], true);
        }
        entry.subscribers.insert(number, Arc::clone(&place));
        if entry.shard.is_none() {
            state.homeless.insert(account.clone());
            if !state.finding {
                state.finding = true;
                tokio::spawn(find_shards(Arc::clone(shared)));
            }
            shared.wake.notify_one();
        }
        drop(guard);
        Subscription {
            owner: Arc::clone(&self.owner),
            account,
            number,
            place,
        }
    }
}

impl Subscription {
    /// The account.
    pub fn account(&self) -> &AccountName {
        &self.account
    }

    /// What has changed since the last answer, as soon as something has; `None` after the account
    /// is gone. Dropping the future loses nothing.
    pub async fn next(&mut self) -> Option<Change> {
        loop {
            {
                let mut waiting = self.place.waiting.lock();
                if let Some(change) = waiting.change.take() {
                    return Some(change);
                }
                if waiting.ended {
                    return None;
                }
            }
            self.place.wake.notified().await;
        }
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        let mut guard = self.owner.shared.state.lock();
        let state = &mut *guard;
        let Some(entry) = state.accounts.get_mut(&self.account) else {
            return;
        };
        entry.subscribers.remove(&self.number);
        if !entry.subscribers.is_empty() {
            return;
        }
        match entry.shard {
            // The stream forgets it first, and may be asked to go on until then.
            Some(shard) => {
                if let Some(shard) = state.shards.get_mut(&shard) {
                    shard.unsent.insert(self.account.clone());
                    shard.wake.notify_one();
                }
            }
            None => {
                state.accounts.remove(&self.account);
                state.homeless.remove(&self.account);
            }
        }
    }
}

impl Place {
    /// Adds to what waits: however slow the reader, it is one change.
    fn put(&self, modseq: ModSeq, mailboxes: &[MailboxId], resync: bool) {
        let mut waiting = self.waiting.lock();
        if waiting.ended {
            return;
        }
        waiting.seen = modseq;
        let change = waiting.change.get_or_insert_default();
        change.modseq = modseq;
        change.resync |= resync;
        for id in mailboxes {
            if let Err(at) = change.mailboxes.binary_search(id) {
                change.mailboxes.insert(at, *id);
            }
        }
        if change.mailboxes.len() > MAILBOXES {
            change.resync = true;
        }
        if change.resync {
            change.mailboxes.clear();
        }
        drop(waiting);
        self.wake.notify_one();
    }

    fn end(&self) {
        let mut waiting = self.waiting.lock();
        let change = waiting.change.get_or_insert_default();
        change.gone = true;
        waiting.ended = true;
        drop(waiting);
        self.wake.notify_one();
    }
}

impl State {
    /// Passes on what a node has told of an account of this shard.
    fn told(&mut self, shard: u32, event: &WatchEvent) {
        let Ok(name) = AccountName::new(&event.account) else {
            return;
        };
        let Some(entry) = self.accounts.get_mut(&name) else {
            return;
        };
        if entry.shard != Some(shard) {
            return;
        }
        if event.gone && entry.suspect && !entry.asked_again {
            // It may have been said of an account that was watched before this one.
            entry.asked_again = true;
            if let Some(shard) = self.shards.get_mut(&shard) {
                shard.unsent.insert(name);
                shard.wake.notify_one();
            }
            return;
        }
        if event.gone {
            for place in entry.subscribers.values() {
                place.end();
            }
            self.accounts.remove(&name);
            if let Some(shard) = self.shards.get_mut(&shard) {
                shard.accounts.remove(&name);
                shard.unsent.remove(&name);
            }
            return;
        }
        if event.modseq <= entry.seen && !event.resync {
            return;
        }
        let (before, suspect) = (entry.seen, entry.suspect);
        entry.seen = event.modseq;
        entry.suspect = false;
        let mailboxes: Vec<MailboxId> = event.mailboxes.iter().copied().map(MailboxId).collect();
        for place in entry.subscribers.values() {
            let seen = place.waiting.lock().seen;
            if event.resync || suspect || seen < before {
                place.put(event.modseq, &[], true);
            } else if seen < event.modseq {
                place.put(event.modseq, &mailboxes, false);
            }
        }
    }

    /// Takes an account away from its shard, to look for another one.
    fn make_homeless(&mut self, account: &AccountName) {
        if let Some(entry) = self.accounts.get_mut(account)
            && let Some(shard) = entry.shard.take()
        {
            self.homeless.insert(account.clone());
            if let Some(shard) = self.shards.get_mut(&shard) {
                shard.accounts.remove(account);
                shard.unsent.remove(account);
            }
        }
    }
}

/// Finds out which shards accounts are in, and starts the streams of those.
async fn find_shards(shared: Arc<Shared>) {
    let client = shared.client.clone();
    let mut hunt = Hunt::default();
    loop {
        let (nothing, closed) = {
            let state = shared.state.lock();
            (state.homeless.is_empty(), state.closed)
        };
        if nothing && closed {
            // Nobody can subscribe any more.
            return;
        }
        if nothing {
            hunt = Hunt::default();
            shared.wake.notified().await;
            continue;
        }
        let failed = match client.placement().await {
            Ok(placement) => {
                let mut guard = shared.state.lock();
                let state = &mut *guard;
                for account in std::mem::take(&mut state.homeless) {
                    let Some(number) = Scope::from(&account).shard(&placement) else {
                        state.homeless.insert(account);
                        continue;
                    };
                    let Some(entry) = state.accounts.get_mut(&account) else {
                        continue;
                    };
                    entry.shard = Some(number);
                    let shard = state.shards.entry(number).or_insert_with(|| {
                        tokio::spawn(stream::run(Arc::clone(&shared), number));
                        Shard::default()
                    });
                    shard.accounts.insert(account.clone());
                    shard.unsent.insert(account);
                    shard.wake.notify_one();
                }
                match state.homeless.is_empty() {
                    true => None,
                    false => Some(Error::Unavailable {
                        message: "no node has the shard of an account".into(),
                    }),
                }
            }
            Err(error) => Some(error),
        };
        if let Some(error) = failed {
            let step = hunt.failed(client.wiring(), "", &[], &error);
            stream::pause(&client, step).await;
        }
    }
}

#[cfg(test)]
mod tests;
