//! One stream to the leader of one shard, taken up again at the next one whenever it ends.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;

use super::{Shared, State};
use crate::client::{Client, Failure, Scope};
use crate::error::Error;
use crate::ids::AccountName;
use crate::proto::messages_client::MessagesClient;
use crate::proto::{WatchRequest, WatchResponse, watch_request};
use crate::rare::{self, Rare};
use crate::retry::{Hunt, Step};

/// How long a stream may take to open.
const OPEN: Duration = Duration::from_secs(2);
/// Nodes say that they live every 10 s; a stream that is silent for so long is given up.
const SILENCE: Duration = Duration::from_secs(25);
/// After so much silence, and again after each, the placement map is asked who leads.
const LOOK_EVERY: Duration = Duration::from_secs(3);
/// A stream that has lasted so long counts as one that worked.
const WORKED: Duration = Duration::from_secs(5);
/// What was refused is tried again after so long.
const REFUSED: Duration = Duration::from_secs(5);
/// A stream without accounts is kept for so long.
const LINGER: Duration = Duration::from_secs(30);
/// Accounts of one request.
const ADDS: usize = 500;
/// Names that a stream remembers to have removed.
const REMOVED: usize = 10_000;

/// Why a stream came to its end.
enum End {
    /// Nobody watches anything in this shard.
    Idle,
    /// Something is wrong with it.
    Broken(Error),
}

/// Keeps a stream of this shard open while there are accounts in it.
pub(super) async fn run(shared: Arc<Shared>, shard: u32) {
    let client = shared.client.clone();
    let mut hunt = Hunt::default();
    loop {
        let step = match once(&shared, shard, &mut hunt).await {
            (_, End::Idle) => {
                let mut state = shared.state.lock();
                if state
                    .shards
                    .get(&shard)
                    .is_none_or(|s| s.accounts.is_empty())
                {
                    state.shards.remove(&shard);
                    return;
                }
                continue;
            }
            (addr, End::Broken(error)) => {
                tracing::debug!(shard, %addr, "a stream of changes ended: {error}");
                rare::hit(Rare::WatchTakenUpAgain);
                client.router().forget_leader(shard, &addr);
                let placement = client.placement().await.ok();
                let replicas =
                    placement.map_or(Vec::new(), |p| client.router().replicas(&p, shard));
                hunt.failed(client.wiring(), &addr, &replicas, &error)
            }
        };
        pause(&client, step).await;
        rehome(&shared, shard).await;
    }
}

/// Does what a failure asks for. A stream is never given up: what is wrong now may be right later.
pub(super) async fn pause(client: &Client, step: Step) {
    match step {
        Step::Now => {}
        Step::Refresh(version) => drop(client.router().refresh(version).await),
        Step::Wait(pause) => {
            sleep(pause).await;
            drop(client.router().refresh(0).await);
        }
        Step::Fail => sleep(REFUSED).await,
    }
}

/// Accounts that the placement has in other shards by now go there.
async fn rehome(shared: &Arc<Shared>, shard: u32) {
    let Ok(placement) = shared.client.placement().await else {
        return;
    };
    let mut state = shared.state.lock();
    let accounts = state.shards.get(&shard).map(|s| s.accounts.clone());
    let mut moved = false;
    for account in accounts.into_iter().flatten() {
        if Scope::from(&account).shard(&placement) != Some(shard) {
            state.make_homeless(&account);
            moved = true;
        }
    }
    if moved {
        shared.wake.notify_one();
    }
}

/// One stream, from its beginning to its end; and where it was.
async fn once(shared: &Arc<Shared>, shard: u32, hunt: &mut Hunt) -> (String, End) {
    let client = &shared.client;
    let nobody = || Error::Unavailable {
        message: format!("no node has shard {shard}"),
    };
    let placement = match client.placement().await {
        Ok(placement) => placement,
        Err(error) => return (String::new(), End::Broken(error)),
    };
    let replicas = client.router().replicas(&placement, shard);
    let Some(addr) = hunt.target(&replicas) else {
        return (String::new(), End::Broken(nobody()));
    };
    let (tx, rx) = mpsc::channel(4);
    // What it learns of accounts while it opens comes later.
    let Some(pending) = first(&mut shared.state.lock(), shard) else {
        return (addr, End::Idle);
    };
    let opened = open(client, &addr, rx).await;
    let responses = match opened {
        Ok(responses) => responses,
        Err(error) => return (addr, End::Broken(error)),
    };
    let began = Instant::now();
    let stream = Stream {
        shared,
        shard,
        addr: &addr,
        pending,
        removed: BTreeSet::new(),
    };
    let end = stream.last(tx, responses).await;
    if began.elapsed() >= WORKED {
        *hunt = Hunt::default();
    }
    (addr, end)
}

async fn open(
    client: &Client,
    addr: &str,
    requests: mpsc::Receiver<WatchRequest>,
) -> Result<Streaming<WatchResponse>, Error> {
    let attempt = client.try_at(addr, OPEN).map_err(|failure| match failure {
        Failure::Status(status) => Error::from(status),
        Failure::Error(error) => error,
    })?;
    let request = attempt.request(ReceiverStream::new(requests));
    let mut messages = MessagesClient::new(attempt.channel);
    match timeout(OPEN, messages.watch(request)).await {
        Ok(Ok(response)) => {
            client.router().note_version(response.metadata());
            Ok(response.into_inner())
        }
        Ok(Err(status)) => Err(status.into()),
        Err(_) => Err(Error::Deadline {
            message: format!("{addr} does not open a stream"),
        }),
    }
}

fn add(state: &State, account: &AccountName) -> Option<watch_request::Add> {
    let entry = state.accounts.get(account)?;
    Some(watch_request::Add {
        account: account.as_str().to_owned(),
        since: entry.seen,
    })
}

/// All accounts of a shard, as a new stream names them; `None` when there are none.
fn first(state: &mut State, shard: u32) -> Option<VecDeque<WatchRequest>> {
    let unsubscribed: Vec<AccountName> = {
        let of_shard = state.shards.get(&shard)?;
        let accounts = of_shard.accounts.iter();
        let entry = |a: &&AccountName| state.accounts.get(*a);
        accounts
            .filter(|a| entry(a).is_none_or(|e| e.subscribers.is_empty()))
            .cloned()
            .collect()
    };
    for account in &unsubscribed {
        forget(state, shard, account);
    }
    let of_shard = state.shards.get_mut(&shard)?;
    of_shard.unsent.clear();
    let accounts: Vec<AccountName> = of_shard.accounts.iter().cloned().collect();
    for account in &accounts {
        // No stream before this one can say anything any more.
        if let Some(entry) = state.accounts.get_mut(account) {
            entry.suspect = false;
        }
    }
    let requests = accounts.chunks(ADDS).map(|some| WatchRequest {
        add: some.iter().filter_map(|a| add(state, a)).collect(),
        remove: Vec::new(),
    });
    let requests: VecDeque<_> = requests.collect();
    (!requests.is_empty()).then_some(requests)
}

fn forget(state: &mut State, shard: u32, account: &AccountName) {
    state.accounts.remove(account);
    if let Some(shard) = state.shards.get_mut(&shard) {
        shard.accounts.remove(account);
        shard.unsent.remove(account);
    }
}

struct Stream<'a> {
    shared: &'a Arc<Shared>,
    shard: u32,
    addr: &'a str,
    /// Requests that wait for room.
    pending: VecDeque<WatchRequest>,
    /// Accounts that were removed from this stream: events of before may still come.
    removed: BTreeSet<AccountName>,
}

impl Stream<'_> {
    /// Sends and receives until something is wrong.
    async fn last(
        mut self,
        requests: mpsc::Sender<WatchRequest>,
        mut responses: Streaming<WatchResponse>,
    ) -> End {
        let wake = match self.shared.state.lock().shards.get(&self.shard) {
            Some(shard) => Arc::clone(&shard.wake),
            None => return End::Idle,
        };
        let mut heard = Instant::now();
        let mut look_at = heard + LOOK_EVERY;
        let mut moved = false;
        let mut idle_since = None;
        loop {
            self.news();
            let (accounts, closed) = {
                let state = self.shared.state.lock();
                let of_shard = state.shards.get(&self.shard);
                (of_shard.map_or(0, |s| s.accounts.len()), state.closed)
            };
            if accounts == 0 {
                let since = *idle_since.get_or_insert_with(Instant::now);
                if closed || since.elapsed() >= LINGER {
                    return End::Idle;
                }
            } else {
                idle_since = None;
            }
            tokio::select! {
                biased;
                room = requests.reserve(), if !self.pending.is_empty() => match room {
                    Ok(room) => if let Some(request) = self.pending.pop_front() {
                        room.send(request);
                    },
                    // Its other half says why.
                    Err(_) => self.pending.clear(),
                },
                () = wake.notified() => {}
                response = responses.next() => match response {
                    Some(Ok(response)) => {
                        heard = Instant::now();
                        look_at = heard + LOOK_EVERY;
                        moved = false;
                        let router = self.shared.client.router();
                        router.note_leader(self.shard, self.addr);
                        let mut state = self.shared.state.lock();
                        for event in &response.events {
                            state.told(self.shard, event);
                        }
                    }
                    Some(Err(status)) => {
                        self.shared.client.router().note_version(status.metadata());
                        return End::Broken(status.into());
                    }
                    None => return End::Broken(Error::Transport {
                        message: format!("{} has ended the stream", self.addr),
                    }),
                },
                () = sleep_until(look_at) => {
                    if heard.elapsed() >= SILENCE {
                        return End::Broken(Error::Deadline {
                            message: format!("{} is silent", self.addr),
                        });
                    }
                    let elsewhere = self.leads_elsewhere().await;
                    if elsewhere && moved {
                        rare::hit(Rare::WatchMoved);
                        return End::Broken(Error::Unavailable {
                            message: format!("{} is silent and leads no more", self.addr),
                        });
                    }
                    moved = elsewhere;
                    look_at = Instant::now() + LOOK_EVERY;
                }
            }
        }
    }

    /// Whether another node is said to lead by now. A stopped process keeps its connections.
    async fn leads_elsewhere(&self) -> bool {
        match self.shared.client.router().refresh(0).await {
            Ok(placement) => placement.moved_from(self.addr, &[self.shard]).is_some(),
            Err(_) => false,
        }
    }

    /// Makes requests of what subscribers have changed.
    fn news(&mut self) {
        let mut guard = self.shared.state.lock();
        let state = &mut *guard;
        let Some(shard) = state.shards.get_mut(&self.shard) else {
            return;
        };
        let unsent = std::mem::take(&mut shard.unsent);
        if unsent.is_empty() {
            return;
        }
        let mut request = WatchRequest::default();
        for account in unsent {
            let Some(entry) = state.accounts.get_mut(&account) else {
                continue;
            };
            if entry.subscribers.is_empty() {
                request.remove.push(account.as_str().to_owned());
                forget(state, self.shard, &account);
                self.removed.insert(account);
            } else {
                entry.suspect |= self.removed.contains(&account) || self.removed.len() > REMOVED;
                request.add.extend(add(state, &account));
            }
            if request.add.len() + request.remove.len() >= ADDS {
                self.pending.push_back(std::mem::take(&mut request));
            }
        }
        if request != WatchRequest::default() {
            self.pending.push_back(request);
        }
    }
}
