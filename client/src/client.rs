//! The client: one call, sent until the right node has answered or the deadline has passed.

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tonic::{Request, Response, Status};

use crate::connect::{Channel, Channels, Wiring};
use crate::error::{Error, never_sent};
use crate::ids::{AccountName, RequestId, Slot};
use crate::rare::{self, Rare};
use crate::retry::{Deadline, Hunt, Step};
use crate::route::{Placement, Router};

/// A call that has no answer after this looks whether the shard has got another leader meanwhile:
/// a stopped process keeps its connections open and says nothing.
const WATCH_AFTER: Duration = Duration::from_millis(700);
/// ... and again after each of these.
const WATCH_EVERY: Duration = Duration::from_millis(300);

/// How a [`Client`] behaves.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Longest time for one call, retries included. Sending a message gets one second more per
    /// MiB. A fetch begins by then; later it may be silent for as long, and is then taken up at
    /// another node as a call is.
    pub deadline: Duration,
    /// The cluster that is expected; `None`: the one that answers first.
    pub cluster_id: Option<String>,
    /// How gRPC travels, and randomness.
    pub wiring: Wiring,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            deadline: Duration::from_secs(30),
            cluster_id: None,
            wiring: Wiring::real(),
        }
    }
}

/// A cluster, as its users see it. Cheap to clone; all clones share connections and what is known
/// of the cluster.
#[derive(Clone)]
pub struct Client {
    router: Arc<Router>,
    deadline: Duration,
}

/// Whose shard a call is for.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Scope {
    /// The shard that holds this slot.
    Slot(Slot),
    /// This shard.
    Shard(u32),
}

impl From<&AccountName> for Scope {
    fn from(account: &AccountName) -> Scope {
        Scope::Slot(Slot::of(account))
    }
}

impl Scope {
    pub(crate) fn shard(self, placement: &Placement) -> Option<u32> {
        match self {
            Scope::Slot(slot) => placement.shard_of(slot),
            Scope::Shard(shard) => Some(shard),
        }
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Scope::Slot(slot) => write!(f, "slot {}", slot.0),
            Scope::Shard(shard) => write!(f, "shard {shard}"),
        }
    }
}

/// How a try failed: by the node's answer or on this side.
#[derive(Debug)]
pub(crate) enum Failure {
    Status(Status),
    Error(Error),
}

/// A try that came to nothing, as far as this side knows.
#[derive(Debug)]
pub(crate) struct Missed {
    pub(crate) error: Error,
    /// It may have taken effect, or may still: whatever another try says, the outcome is unknown.
    pub(crate) open: bool,
}

impl From<Error> for Missed {
    fn from(error: Error) -> Missed {
        let open = error.outcome_unknown();
        Missed { error, open }
    }
}

/// One try of a call at one node.
pub(crate) struct Try {
    router: Arc<Router>,
    /// The node's channel.
    pub(crate) channel: Channel,
    /// Until the call's deadline.
    pub(crate) timeout: Duration,
}

impl Try {
    /// The request around `message`.
    pub(crate) fn request<T>(&self, message: T) -> Request<T> {
        self.router.decorate(message, self.timeout)
    }
}

impl Client {
    /// A client of the cluster that the nodes at `addrs` (`host:port`) belong to. Nothing is
    /// connected yet.
    pub fn new<S: AsRef<str>>(addrs: &[S], settings: Settings) -> Result<Client, Error> {
        let seeds = addrs.iter().map(|a| a.as_ref().to_owned()).collect();
        let channels = Channels::new(settings.wiring);
        let router = Router::new(channels, seeds, settings.cluster_id.as_deref())?;
        Ok(Client {
            router: Arc::new(router),
            deadline: settings.deadline,
        })
    }

    /// The same client with another deadline for its calls.
    pub fn with_deadline(&self, deadline: Duration) -> Client {
        Client {
            router: self.router.clone(),
            deadline,
        }
    }

    /// A fresh request id. Whoever repeats a call by itself keeps the id and gives it again.
    pub fn request_id(&self) -> RequestId {
        self.wiring().request_id()
    }

    /// The cached placement map; fetched when there is none yet.
    pub async fn placement(&self) -> Result<Arc<Placement>, Error> {
        let deadline = Deadline::after(self.deadline);
        self.placement_by(&deadline).await
    }

    /// Fetches the placement map again.
    pub async fn refresh_placement(&self) -> Result<Arc<Placement>, Error> {
        self.router.refresh(0).await
    }

    /// The id as it travels.
    pub(crate) fn id_or_fresh(&self, id: Option<RequestId>) -> Bytes {
        let id = id.unwrap_or_else(|| self.request_id());
        Bytes::copy_from_slice(&id.0)
    }

    pub(crate) fn wiring(&self) -> &Wiring {
        self.router.channels().wiring()
    }

    pub(crate) fn router(&self) -> &Router {
        &self.router
    }

    pub(crate) fn deadline(&self) -> Duration {
        self.deadline
    }

    /// The deadline of a call that sends this many octets.
    pub(crate) fn deadline_for(&self, octets: Option<u64>) -> Deadline {
        let seconds = octets.unwrap_or(0) >> 20;
        Deadline::after(self.deadline + Duration::from_secs(seconds))
    }

    /// The map, asked for until a node gives it. Only silence is worth asking again: a node that
    /// answers with an error has said what is wrong.
    pub(crate) async fn placement_by(&self, deadline: &Deadline) -> Result<Arc<Placement>, Error> {
        let mut hunt = Hunt::default();
        loop {
            let answer = tokio::time::timeout_at(deadline.at(), self.router.placement()).await;
            let error = match answer {
                Ok(Ok(placement)) => return Ok(placement),
                Ok(Err(error @ Error::Transport { .. })) => error,
                Ok(Err(error)) => return Err(error),
                Err(_) => Error::Transport {
                    message: "no node answers".into(),
                },
            };
            match hunt.failed(self.wiring(), "", &[], &error) {
                Step::Wait(pause) => deadline.pause(pause, &error).await?,
                _ => deadline.pause(Duration::from_millis(10), &error).await?,
            }
        }
    }

    /// Asks the leader of a shard, with the client's deadline.
    pub(crate) async fn on_leader<R, F, Fut>(&self, scope: Scope, call: F) -> Result<R, Error>
    where
        F: Fn(Try) -> Fut,
        Fut: Future<Output = Result<Response<R>, Status>>,
    {
        self.on_leader_by(scope, Deadline::after(self.deadline), call)
            .await
    }

    /// Asks the leader of a shard.
    pub(crate) async fn on_leader_by<R, F, Fut>(
        &self,
        scope: Scope,
        deadline: Deadline,
        call: F,
    ) -> Result<R, Error>
    where
        F: Fn(Try) -> Fut,
        Fut: Future<Output = Result<Response<R>, Status>>,
    {
        let call = |t| {
            let answer = call(t);
            async { answer.await.map_err(Failure::Status) }
        };
        let asked = self.try_on_leader(scope, deadline, call).await;
        asked.map_err(|missed| missed.error)
    }

    /// Has the leader of a shard change something, with the client's deadline.
    pub(crate) async fn change_on_leader<R, F, Fut>(
        &self,
        scope: Scope,
        call: F,
    ) -> Result<R, Error>
    where
        F: Fn(Try) -> Fut,
        Fut: Future<Output = Result<Response<R>, Status>>,
    {
        let call = |t| {
            let answer = call(t);
            async { answer.await.map_err(Failure::Status) }
        };
        let deadline = Deadline::after(self.deadline);
        self.change_on_leader_by(scope, deadline, call).await
    }

    /// Has the leader of a shard change something.
    pub(crate) async fn change_on_leader_by<R, F, Fut>(
        &self,
        scope: Scope,
        deadline: Deadline,
        call: F,
    ) -> Result<R, Error>
    where
        F: Fn(Try) -> Fut,
        Fut: Future<Output = Result<Response<R>, Failure>>,
    {
        let changed = self.try_on_leader(scope, deadline, call).await;
        changed.map_err(|missed| missed.error.after_tries(missed.open))
    }

    /// Calls the leader of a shard: looks for it, follows hints, goes round the replicas when
    /// connections break, and waits for elections. [`Missed::open`] speaks for all tries.
    async fn try_on_leader<R, F, Fut>(
        &self,
        scope: Scope,
        deadline: Deadline,
        call: F,
    ) -> Result<R, Missed>
    where
        F: Fn(Try) -> Fut,
        Fut: Future<Output = Result<Response<R>, Failure>>,
    {
        let mut hunt = Hunt::default();
        let mut open = false;
        let ended = |error, open| Missed { error, open };
        let mut last = Error::Unavailable {
            message: "nothing was tried".into(),
        };
        while !deadline.left().is_zero() {
            let placement = self.placement_by(&deadline).await;
            let placement = placement.map_err(|e| ended(e, open))?;
            let shard = scope.shard(&placement);
            let replicas = shard.map_or(Vec::new(), |s| self.router.replicas(&placement, s));
            let (Some(shard), Some(addr)) = (shard, hunt.target(&replicas)) else {
                rare::hit(Rare::NobodyHasShard);
                last = Error::Unavailable {
                    message: format!("no node has {scope} in placement {}", placement.version),
                };
                let step = hunt.failed(self.wiring(), "", &[], &last);
                let stepped = self.step(step, &deadline, &last).await;
                stepped.map_err(|e| ended(e, open))?;
                continue;
            };
            let attempt = async { call(self.try_at(&addr, deadline.left())?).await };
            match self.attempt(&[shard], &addr, &deadline, attempt).await {
                Ok(answer) => {
                    self.router.note_leader(shard, &addr);
                    return Ok(answer);
                }
                Err(missed) => {
                    let error = missed.error;
                    open |= missed.open;
                    let step = hunt.failed(self.wiring(), &addr, &replicas, &error);
                    if step != Step::Fail && !matches!(error, Error::Busy { .. }) {
                        self.router.forget_leader(shard, &addr);
                    }
                    let stepped = self.step(step, &deadline, &error).await;
                    stepped.map_err(|e| ended(e, open))?;
                    last = error;
                }
            }
        }
        Err(ended(deadline.passed(&last), open))
    }

    /// One try at `addr`.
    pub(crate) fn try_at(&self, addr: &str, timeout: Duration) -> Result<Try, Failure> {
        let channel = self.router.channels().get(addr).map_err(Failure::Error)?;
        Ok(Try {
            router: self.router.clone(),
            channel,
            timeout,
        })
    }

    /// Sees one try at `addr` through: until its answer, the deadline, or the discovery that all
    /// of `shards` have other leaders by now.
    pub(crate) async fn attempt<R>(
        &self,
        shards: &[u32],
        addr: &str,
        deadline: &Deadline,
        answer: impl Future<Output = Result<Response<R>, Failure>>,
    ) -> Result<R, Missed> {
        tokio::select! {
            biased;
            answer = answer => match answer {
                Ok(response) => {
                    self.router.note_version(response.metadata());
                    Ok(response.into_inner())
                }
                Err(Failure::Status(status)) => {
                    self.router.note_version(status.metadata());
                    let never_sent = never_sent(&status);
                    let mut missed = Missed::from(Error::from(status));
                    missed.open &= !never_sent;
                    Err(missed)
                }
                Err(Failure::Error(error)) => Err(error.into()),
            },
            // It is silent, and may have done what it was asked to all the same.
            moved = self.moved(shards, addr) => Err(Missed { error: moved, open: true }),
            () = tokio::time::sleep_until(deadline.at()) => Err(Error::Deadline {
                message: format!("{addr} has not answered"),
            }
            .into()),
        }
    }

    /// Does what [`Hunt`] found to be the next step.
    pub(crate) async fn step(
        &self,
        step: Step,
        deadline: &Deadline,
        error: &Error,
    ) -> Result<(), Error> {
        match step {
            Step::Fail => return Err(error.clone()),
            Step::Now => {}
            Step::Refresh(version) => {
                self.refresh_by(version, deadline).await;
            }
            Step::Wait(pause) => {
                deadline.pause(pause, error).await?;
                if !matches!(error, Error::Busy { .. }) {
                    self.refresh_by(0, deadline).await;
                }
            }
        }
        Ok(())
    }

    /// Fetches the map again. One that cannot be had now is asked for again in the next round.
    pub(crate) async fn refresh_by(&self, version: u64, deadline: &Deadline) {
        tokio::time::timeout_at(deadline.at(), self.router.refresh(version))
            .await
            .ok();
    }

    /// Ends when, twice in a row, other nodes are said to lead all of `shards`.
    async fn moved(&self, shards: &[u32], addr: &str) -> Error {
        let mut seen = false;
        tokio::time::sleep(WATCH_AFTER).await;
        loop {
            if let Ok(placement) = self.router.refresh(0).await {
                let moved = placement.moved_from(addr, shards);
                if let (true, Some((node, new))) = (seen, &moved) {
                    rare::hit(Rare::NewLeaderWhileWaiting);
                    return Error::WrongLeader {
                        leader_node: *node,
                        leader_addr: new.clone(),
                        message: format!("{addr} is silent and leads no more"),
                    };
                }
                seen = moved.is_some();
            }
            tokio::time::sleep(WATCH_EVERY).await;
        }
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client")
            .field("addrs", &self.router.known_addrs())
            .finish_non_exhaustive()
    }
}
