//! Watching accounts: who follows a stream of this node hears of every change of the accounts that
//! it has named, at least once and in order for each account.
//!
//! ```text
//! apply ─▶ events ─▶ Hub ─▶ Inbox of each stream (one pending modseq an account)
//!                                     └─▶ Watching: reads the change rows since the last event
//! ```
//!
//! An apply never waits for a stream: the hub notes the newest modseq, and a stream that is slow
//! finds one note where there were many. What has changed is read when the event is sent, from the
//! change rows, so that nothing has to be kept for it. An account that nobody watches costs one
//! look into a map, and nothing while there are no streams at all.
//!
//! Only the leader of an account's shard serves. Whether it still leads is asked with each event
//! and every second; and what keeps a quiet stream alive is sent only after a read index, so that a
//! leader that has lost its quorum does not keep anybody waiting for ever.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures::FutureExt;
use futures::stream::{BoxStream, Stream, StreamExt, unfold};
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at, timeout};

use super::limits::MAX_WATCHED;
use super::{Led, MailboxError, Operations, Result, check};
use crate::index::Next;
use crate::index::keys::Key;
use crate::index::values::{self, AccountRow};
use crate::machine::{Event, changes, read};
use crate::raft::shard::{ReadView, ShardError};
use crate::rare::{self, Rare};
use crate::types::*;

/// How often a stream asks whether this node still leads.
const LEADS_EVERY: Duration = Duration::from_secs(1);
/// A stream that has said nothing for so long says that it lives.
const BEAT_EVERY: Duration = Duration::from_secs(10);
/// How long the quorum may take to confirm that.
const BEAT_WAIT: Duration = Duration::from_secs(5);
/// Accounts in one message of a stream.
const EVENTS: usize = 128;
/// Accounts waiting to be taken up, from which on no more are taken in.
const QUEUE: usize = 1_000;

/// A change of what a stream watches.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct WatchChange {
    /// Accounts, and what the caller has seen of them.
    pub add: Vec<(String, ModSeq)>,
    /// Accounts.
    pub remove: Vec<String>,
}

/// What a stream tells of one account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WatchEvent {
    /// Which.
    pub account: AccountName,
    /// Its newest change.
    pub modseq: ModSeq,
    /// Where something has changed since the event before.
    pub mailboxes: Vec<MailboxId>,
    /// Where, is not known any more.
    pub resync: bool,
    /// There is no such account, and it is watched no more.
    pub gone: bool,
}

/// What has happened to an account since its stream last looked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Note {
    Changed(ModSeq),
    Gone,
}

#[derive(Default)]
struct Notes {
    accounts: BTreeMap<AccountId, Note>,
    interrupted: bool,
}

/// Notes for one stream.
struct Inbox {
    number: u64,
    notes: Mutex<Notes>,
    wake: Notify,
}

#[derive(Default)]
struct Subscribers {
    accounts: BTreeMap<AccountId, Vec<Arc<Inbox>>>,
    inboxes: BTreeMap<u64, Arc<Inbox>>,
    next: u64,
}

/// Where applied changes meet those who watch.
#[derive(Default)]
pub struct Hub {
    subscribers: Mutex<Subscribers>,
    /// Accounts that anybody watches, to be asked without a lock.
    watched: AtomicUsize,
}

impl Hub {
    /// Notes what was applied.
    pub fn publish(&self, events: &[Event]) {
        if self.watched.load(Ordering::Acquire) == 0 {
            return;
        }
        let subscribers = self.subscribers.lock();
        for event in events {
            let (account, note) = match *event {
                Event::AccountChanged { account, modseq } => (account, Note::Changed(modseq)),
                Event::AccountGoing { account } => (account, Note::Gone),
                Event::PlacementChanged { .. } | Event::MailboxGoing { .. } => continue,
            };
            for inbox in subscribers.accounts.get(&account).into_iter().flatten() {
                let mut notes = inbox.notes.lock();
                let last = notes.accounts.insert(account, note);
                match last {
                    Some(Note::Gone) => drop(notes.accounts.insert(account, Note::Gone)),
                    Some(Note::Changed(_)) => rare::hit(Rare::WatcherBehind),
                    None => {}
                }
                drop(notes);
                inbox.wake.notify_one();
            }
        }
    }

    /// Ends all streams: rows have changed without events, because a snapshot took their place.
    pub fn interrupt(&self) {
        for inbox in self.subscribers.lock().inboxes.values() {
            inbox.notes.lock().interrupted = true;
            inbox.wake.notify_one();
        }
    }

    fn inbox(self: &Arc<Self>) -> Subscription {
        let mut subscribers = self.subscribers.lock();
        let inbox = Arc::new(Inbox {
            number: subscribers.next,
            notes: Mutex::default(),
            wake: Notify::new(),
        });
        subscribers.next += 1;
        subscribers.inboxes.insert(inbox.number, Arc::clone(&inbox));
        Subscription {
            hub: Arc::clone(self),
            inbox,
            accounts: BTreeSet::new(),
        }
    }
}

/// The accounts of one stream in the hub; dropped, they are watched no more.
struct Subscription {
    hub: Arc<Hub>,
    inbox: Arc<Inbox>,
    accounts: BTreeSet<AccountId>,
}

impl Subscription {
    fn add(&mut self, account: AccountId) {
        if !self.accounts.insert(account) {
            return;
        }
        let mut subscribers = self.hub.subscribers.lock();
        let of_account = subscribers.accounts.entry(account).or_default();
        of_account.push(Arc::clone(&self.inbox));
        self.hub
            .watched
            .store(subscribers.accounts.len(), Ordering::Release);
    }

    fn remove(&mut self, account: AccountId) {
        if self.accounts.remove(&account) {
            let mut subscribers = self.hub.subscribers.lock();
            self.take_out(&mut subscribers, account);
        }
        self.inbox.notes.lock().accounts.remove(&account);
    }

    fn has_notes(&self) -> bool {
        let notes = self.inbox.notes.lock();
        notes.interrupted || !notes.accounts.is_empty()
    }

    fn take_out(&self, subscribers: &mut Subscribers, account: AccountId) {
        if let Some(of_account) = subscribers.accounts.get_mut(&account) {
            of_account.retain(|inbox| inbox.number != self.inbox.number);
            if of_account.is_empty() {
                subscribers.accounts.remove(&account);
            }
        }
        self.hub
            .watched
            .store(subscribers.accounts.len(), Ordering::Release);
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        let mut subscribers = self.hub.subscribers.lock();
        for account in &self.accounts {
            self.take_out(&mut subscribers, *account);
        }
        subscribers.inboxes.remove(&self.inbox.number);
    }
}

/// An account that a stream watches.
struct Watched {
    name: AccountName,
    shard: ShardId,
    /// Up to where its changes have been told.
    told: ModSeq,
}

/// One stream.
struct Watching {
    ops: Arc<Operations>,
    requests: BoxStream<'static, Result<WatchChange>>,
    subscription: Subscription,
    accounts: BTreeMap<AccountId, Watched>,
    names: BTreeMap<AccountName, AccountId>,
    /// Replicas of the shards of these accounts.
    shards: BTreeMap<ShardId, Led>,
    /// Accounts that are not yet taken up.
    queue: VecDeque<(AccountName, ModSeq)>,
    tick: Interval,
    beat_at: Instant,
}

impl Operations {
    /// Tells of changes of the accounts that `requests` name, until those end. An empty list says
    /// that the stream lives; an error ends it.
    pub fn watch(
        self: &Arc<Self>,
        requests: BoxStream<'static, Result<WatchChange>>,
    ) -> impl Stream<Item = Result<Vec<WatchEvent>>> + Send + use<> {
        let now = Instant::now();
        let mut tick = interval_at(now + LEADS_EVERY, LEADS_EVERY);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let watching = Watching {
            ops: Arc::clone(self),
            requests,
            subscription: self.hub.inbox(),
            accounts: BTreeMap::new(),
            names: BTreeMap::new(),
            shards: BTreeMap::new(),
            queue: VecDeque::new(),
            tick,
            beat_at: now + BEAT_EVERY,
        };
        unfold(Some(watching), |watching| async move {
            let mut watching = watching?;
            match watching.next().await {
                Ok(Some(events)) => {
                    watching.beat_at = Instant::now() + BEAT_EVERY;
                    Some((Ok(events), Some(watching)))
                }
                Ok(None) => None,
                Err(e) => Some((Err(e), None)),
            }
        })
    }
}

impl Watching {
    /// What to say next; `None` when the requests have ended.
    async fn next(&mut self) -> Result<Option<Vec<WatchEvent>>> {
        loop {
            // Busy accounts must not keep requests out.
            while self.queue.len() < QUEUE {
                match self.requests.next().now_or_never() {
                    Some(Some(request)) => self.take_in(request?)?,
                    Some(None) => return Ok(None),
                    None => break,
                }
            }
            let mut events = self.take_up().await?;
            if events.is_empty() {
                events = self.tell()?;
            }
            if !events.is_empty() {
                return Ok(Some(events));
            }
            if !self.queue.is_empty() || self.subscription.has_notes() {
                tokio::task::yield_now().await;
                continue;
            }
            tokio::select! {
                biased;
                request = self.requests.next() => match request {
                    Some(request) => self.take_in(request?)?,
                    None => return Ok(None),
                },
                () = self.subscription.inbox.wake.notified() => {}
                now = self.tick.tick() => {
                    self.check_leads(self.shards.values())?;
                    if now >= self.beat_at {
                        let shards = self.shards.values().cloned().collect();
                        confirm(Arc::clone(&self.ops), shards).await?;
                        return Ok(Some(Vec::new()));
                    }
                }
            }
        }
    }

    fn check_leads<'a>(&self, shards: impl IntoIterator<Item = &'a Led>) -> Result<()> {
        for led in shards {
            if !led.replica.is_leader() {
                rare::hit(Rare::WatchLostLeader);
                return Err(self.ops.wrong_leader(led.replica.leader()));
            }
        }
        Ok(())
    }

    fn take_in(&mut self, request: WatchChange) -> Result<()> {
        for name in &request.remove {
            let name = check::account("remove", name)?;
            self.queue.retain(|(queued, _)| *queued != name);
            if let Some(id) = self.names.get(&name) {
                self.forget(*id);
            }
        }
        for (name, since) in &request.add {
            self.queue
                .push_back((check::account("add.account", name)?, *since));
        }
        if self.accounts.len() + self.queue.len() > MAX_WATCHED {
            return Err(MailboxError::Refused(format!(
                "a stream watches at most {MAX_WATCHED} accounts"
            )));
        }
        Ok(())
    }

    fn forget(&mut self, id: AccountId) {
        self.subscription.remove(id);
        if let Some(watched) = self.accounts.remove(&id) {
            self.names.remove(&watched.name);
            if self.accounts.is_empty() {
                self.shards.clear();
            }
        }
    }

    /// Begins to watch some of the accounts that wait for it; tells what happened to them since
    /// the caller looked.
    async fn take_up(&mut self) -> Result<Vec<WatchEvent>> {
        let some = self.queue.len().min(EVENTS);
        let added: Vec<_> = self.queue.drain(..some).collect();
        let mut views: BTreeMap<ShardId, ReadView> = BTreeMap::new();
        let mut found = Vec::with_capacity(added.len());
        let mut events = Vec::new();
        for (name, since) in added {
            let led = self.ops.replica_of(&name)?;
            let view = match views.entry(led.shard) {
                Entry::Occupied(view) => view.into_mut(),
                Entry::Vacant(place) => place.insert(self.ops.read(&led).await?),
            };
            let view = &*view;
            if let Some(old) = self.names.get(&name).copied() {
                // Named again: from where the caller says.
                self.forget(old);
            }
            match read::account(&*view.view, view.space, &name)? {
                Some((id, _)) => {
                    self.subscription.add(id);
                    found.push((id, name, led, since));
                }
                None => events.push(WatchEvent::gone(name)),
            }
        }
        // What is applied from here on is noted; what was applied before, this view shows.
        views.clear();
        for (id, name, led, since) in found {
            let shard = led.shard;
            self.shards.insert(shard, led);
            let view = self.view(&mut views, shard)?;
            let row = account(view, id)?;
            let Some(row) = row.filter(|row| !row.going) else {
                self.subscription.remove(id);
                events.push(WatchEvent::gone(name));
                continue;
            };
            let most = self.ops.limits.watch_changes;
            events.extend(event(view, id, &row, since, most)?);
            self.names.insert(name.clone(), id);
            let watched = Watched {
                name,
                shard,
                told: row.highest_modseq,
            };
            self.accounts.insert(id, watched);
        }
        Ok(events)
    }

    /// What was noted since the last time, for some of the accounts.
    fn tell(&mut self) -> Result<Vec<WatchEvent>> {
        let mut noted = Vec::new();
        {
            let mut notes = self.subscription.inbox.notes.lock();
            if notes.interrupted {
                rare::hit(Rare::WatchInterrupted);
                return Err(MailboxError::Unavailable(
                    "this node has received a snapshot; go on from the last event".into(),
                ));
            }
            while noted.len() < EVENTS
                && let Some(note) = notes.accounts.pop_first()
            {
                noted.push(note);
            }
        }
        let mut views = BTreeMap::new();
        let mut events = Vec::new();
        for (id, note) in noted {
            let Some(watched) = self.accounts.get(&id) else {
                continue;
            };
            let (shard, told) = (watched.shard, watched.told);
            self.check_leads(self.shards.get(&shard))?;
            if matches!(note, Note::Changed(modseq) if modseq <= told) {
                continue;
            }
            let view = self.view(&mut views, shard)?;
            let row = account(view, id)?.filter(|row| !row.going);
            match row {
                Some(row) => {
                    let most = self.ops.limits.watch_changes;
                    events.extend(event(view, id, &row, told, most)?);
                    if let Some(watched) = self.accounts.get_mut(&id) {
                        watched.told = row.highest_modseq;
                    }
                }
                None => {
                    let name = watched.name.clone();
                    self.forget(id);
                    events.push(WatchEvent::gone(name));
                }
            }
        }
        Ok(events)
    }

    /// What is applied to a shard by now.
    fn view<'a>(
        &self,
        views: &'a mut BTreeMap<ShardId, ReadView>,
        shard: ShardId,
    ) -> Result<&'a ReadView> {
        Ok(match views.entry(shard) {
            Entry::Occupied(view) => view.into_mut(),
            Entry::Vacant(place) => {
                let led = match self.shards.get(&shard) {
                    Some(led) => led.clone(),
                    None => self.ops.replica(shard)?,
                };
                place.insert(self.ops.local_view(&led)?)
            }
        })
    }
}

/// A quorum follows this node in these shards.
async fn confirm(ops: Arc<Operations>, shards: Vec<Led>) -> Result<()> {
    for led in shards {
        let read = timeout(BEAT_WAIT, led.replica.read()).await;
        match read.unwrap_or(Err(ShardError::Unknown)) {
            Ok(_) => {}
            Err(ShardError::Unknown) => {
                rare::hit(Rare::WatchWithoutQuorum);
                return Err(MailboxError::Unavailable(
                    "no quorum confirms that this node leads".into(),
                ));
            }
            Err(e) => return Err(ops.shard_error(e)),
        }
    }
    Ok(())
}

impl WatchEvent {
    fn gone(account: AccountName) -> WatchEvent {
        WatchEvent {
            account,
            modseq: 0,
            mailboxes: Vec::new(),
            resync: false,
            gone: true,
        }
    }
}

fn account(view: &ReadView, id: AccountId) -> Result<Option<AccountRow>> {
    Ok(values::get(&*view.view, view.space, &Key::Account(id))?)
}

/// What to tell somebody who has seen `since`; nothing where nothing has changed. With more than
/// `most` changes the caller reads anew.
fn event(
    view: &ReadView,
    id: AccountId,
    row: &AccountRow,
    since: ModSeq,
    most: u64,
) -> Result<Option<WatchEvent>> {
    if since == row.highest_modseq {
        return Ok(None);
    }
    let known = row.trimmed_modseq <= since && since < row.highest_modseq;
    let resync = !known || row.highest_modseq - since > most;
    let mut mailboxes = BTreeSet::new();
    if resync {
        rare::hit(Rare::WatcherReadsAnew);
    } else {
        let window = (since + 1, row.highest_modseq);
        changes::changes(&*view.view, view.space, id, window, &mut |_, change| {
            mailboxes.insert(change.mailbox);
            Next::Continue
        })?;
        // No mailbox: the account itself.
        mailboxes.remove(&MailboxId(0));
    }
    Ok(Some(WatchEvent {
        account: row.name.clone(),
        modseq: row.highest_modseq,
        mailboxes: mailboxes.into_iter().collect(),
        resync,
        gone: false,
    }))
}

#[cfg(test)]
mod tests;
