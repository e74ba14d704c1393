//! Delivery: one message for several recipients, one result for each.
//!
//! Recipients are grouped by the node that leads their shards, so that the octets travel once to
//! each leader; the groups are sent at the same time. What is unresolved afterwards (a leader has
//! moved, a node was busy or died) is grouped and sent again under the same identity, which the
//! nodes use to store nothing twice. No group waits for the answer to another one; they wait
//! together while a newer map of the shards is fetched.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures::future::FutureExt;
use futures::stream::{FuturesUnordered, StreamExt};
use tokio::time::Instant;
use tonic::Response;

use crate::body::Body;
use crate::client::{Client, Failure, Missed, Scope};
use crate::error::Error;
use crate::ids::{AccountName, BlobId, EmailId, MailboxName, RequestId};
use crate::messages::{Stored, blob_id};
use crate::proto;
use crate::proto::messages_client::MessagesClient;
use crate::proto::{DeliverHead, DeliverRequest, DeliverResponse, DeliverResult, deliver_request};
use crate::rare::{self, Rare};
use crate::retry::{Deadline, Hunt, Step};
use crate::upload::{Upload, check_sent};

/// How long a shard without a node to ask is left alone at least.
const ROUND: Duration = Duration::from_millis(10);

/// Recipients of one call; the contract allows no more.
pub const MAX_RECIPIENTS: usize = 1000;

/// One recipient of a delivery.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recipient {
    /// Whose mail it is.
    pub account: AccountName,
    /// Where it goes; `None`: INBOX.
    pub mailbox: Option<MailboxName>,
    /// Flags that the message gets, e.g. `\Flagged`.
    pub flags: Vec<String>,
}

impl Recipient {
    /// Into the account's INBOX, without flags.
    pub fn inbox(account: AccountName) -> Recipient {
        Recipient {
            account,
            mailbox: None,
            flags: Vec::new(),
        }
    }
}

/// By what a node knows that it has seen a delivery before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Identity {
    /// By this id.
    Request(RequestId),
    /// By the octets, the recipient and this sender (the reverse-path): for callers that repeat a
    /// delivery without an id of their own, as LMTP clients do.
    ByContent {
        /// The reverse-path, may be empty.
        sender: String,
    },
}

/// A message to deliver.
#[derive(Debug, Clone)]
pub struct Delivery {
    /// Its identity for retries.
    pub identity: Identity,
    /// 1 to [`MAX_RECIPIENTS`].
    pub recipients: Vec<Recipient>,
    /// Arrival time in milliseconds since 1970; 0: the node's clock.
    pub internal_date_ms: u64,
}

/// What became of a delivery.
#[derive(Debug, Clone)]
pub struct Delivered {
    /// Identity of the octets; `None` when no node has stored them.
    pub blob_id: Option<BlobId>,
    /// Their number, 0 when no node has stored them.
    pub size: u64,
    /// One result a recipient, in the order of the recipients.
    pub results: Vec<Result<Stored, Error>>,
}

/// The search for the leader of one shard, and when it goes on.
struct ShardHunt {
    hunt: Hunt,
    not_before: Instant,
}

/// Recipients that one node gets in one call.
#[derive(Default)]
struct Group {
    /// Positions in the delivery, with their shards.
    members: Vec<(usize, u32)>,
    shards: Vec<u32>,
}

impl Client {
    /// Delivers a message. Each recipient's result is final: stored on a quorum, refused, or (for
    /// [`Error::outcome_unknown`]) not known when the deadline passed. Fails as a whole only when
    /// nothing was sent.
    pub async fn deliver(&self, delivery: &Delivery, body: &dyn Body) -> Result<Delivered, Error> {
        let count = delivery.recipients.len();
        if count == 0 || count > MAX_RECIPIENTS {
            let why = format!("a delivery has 1 to {MAX_RECIPIENTS} recipients, not {count}");
            return Err(Error::bad_request("recipients", why));
        }
        let deadline = self.deadline_for(body.len());
        self.placement_by(&deadline).await?;
        let parcel = Parcel {
            client: self,
            delivery,
            body,
            deadline,
        };
        let mut run = Run {
            parcel,
            results: vec![None; count],
            last: vec![None; count],
            open: vec![false; count],
            hunts: BTreeMap::new(),
            on_the_way: BTreeSet::new(),
            stored: None,
        };
        run.settle_all().await;
        Ok(run.finish())
    }
}

/// What is sent, and by whom.
#[derive(Clone, Copy)]
struct Parcel<'a> {
    client: &'a Client,
    delivery: &'a Delivery,
    body: &'a dyn Body,
    deadline: Deadline,
}

impl Parcel<'_> {
    /// Sends the octets to one node for the recipients of `group`.
    async fn send(&self, addr: &str, group: &Group) -> Result<DeliverResponse, Missed> {
        let (request_id, by_content, sender) = match &self.delivery.identity {
            Identity::Request(id) => (id.0.to_vec().into(), false, String::new()),
            Identity::ByContent { sender } => (Default::default(), true, sender.clone()),
        };
        let recipient = |(i, _): &(usize, u32)| {
            let r = &self.delivery.recipients[*i];
            proto::Recipient {
                account: r.account.as_str().to_owned(),
                mailbox: r.mailbox.as_ref().map_or("", |m| m.as_str()).to_owned(),
                flags: r.flags.clone(),
            }
        };
        let head = DeliverHead {
            request_id,
            by_content,
            sender,
            recipients: group.members.iter().map(recipient).collect(),
            size_hint: self.body.len().unwrap_or(0),
            internal_date_ms: self.delivery.internal_date_ms,
        };
        let call = self.call(addr, head);
        self.client
            .attempt(&group.shards, addr, &self.deadline, call)
            .await
    }

    async fn call(
        &self,
        addr: &str,
        head: DeliverHead,
    ) -> Result<Response<DeliverResponse>, Failure> {
        let part = Some(deliver_request::Part::Head(head));
        let head = DeliverRequest { part };
        let opened = self.body.open().await;
        let pieces = opened.map_err(|e| Failure::Error(e.into()))?;
        let (upload, stream) = Upload::new(head, pieces, self.body.len());
        let t = self.client.try_at(addr, self.deadline.left())?;
        let mut client = MessagesClient::new(t.channel.clone());
        let call = upload.run(client.deliver(t.request(stream)).boxed());
        let (response, sent) = call.await?;
        let r = response.get_ref();
        let kept = r.results.iter().filter(|r| r.error.is_none());
        // Without one stored copy there is nothing that could be other than sent.
        if kept.clone().next().is_some() {
            let duplicate = kept.clone().all(|r| r.duplicate);
            check_sent(sent, &r.blob_id, r.size, duplicate).map_err(Failure::Error)?;
        }
        Ok(response)
    }
}

/// One delivery under way.
struct Run<'a> {
    parcel: Parcel<'a>,
    results: Vec<Option<Result<Stored, Error>>>,
    /// Why a recipient is still unresolved.
    last: Vec<Option<Error>>,
    /// Whether a try for the recipient may have taken effect.
    open: Vec<bool>,
    hunts: BTreeMap<u32, ShardHunt>,
    /// Shards that a group on its way is for.
    on_the_way: BTreeSet<u32>,
    stored: Option<(BlobId, u64)>,
}

impl Run<'_> {
    async fn settle_all(&mut self) {
        let parcel = self.parcel;
        let deadline = parcel.deadline;
        let mut sent = FuturesUnordered::new();
        while self.results.iter().any(Option::is_none) && !deadline.left().is_zero() {
            // Before the groups are made: a pause that ends meanwhile must not be slept over.
            let now = Instant::now();
            match self.groups().await {
                Ok(groups) => {
                    for (addr, group) in groups {
                        self.on_the_way.extend(&group.shards);
                        let send = async move {
                            let answer = parcel.send(&addr, &group).await;
                            (addr, group, answer)
                        };
                        sent.push(send.boxed());
                    }
                }
                Err(_) if !sent.is_empty() => {}
                Err(error) => {
                    for (i, _) in self.results.iter().enumerate().filter(|(_, r)| r.is_none()) {
                        self.last[i].get_or_insert_with(|| error.clone());
                    }
                    return;
                }
            }
            // Shards that have answered wait for nothing: to count them would be to spin.
            let waits = self.hunts.values().map(|h| h.not_before);
            let at = waits.filter(|at| *at > now).min();
            let at = at.map_or(deadline.at(), |at| at.min(deadline.at()));
            tokio::select! {
                biased;
                Some((addr, group, answer)) = sent.next() => self.take(&addr, &group, answer).await,
                () = tokio::time::sleep_until(at) => {}
            }
        }
        // Their time is over as well. Whether they may have taken effect counts.
        while self.results.iter().any(Option::is_none)
            && let Some((addr, group, answer)) = sent.next().await
        {
            self.take(&addr, &group, answer).await;
        }
    }

    /// The unresolved recipients whose shards may be tried now, by the node to send them to.
    async fn groups(&mut self) -> Result<BTreeMap<String, Group>, Error> {
        let Parcel {
            client, delivery, ..
        } = self.parcel;
        let placement = client.placement_by(&self.parcel.deadline).await?;
        let now = Instant::now();
        let mut groups: BTreeMap<String, Group> = BTreeMap::new();
        // One for each shard, also when the leader that is known changes in between.
        let mut targets: BTreeMap<u32, Option<String>> = BTreeMap::new();
        for i in 0..self.results.len() {
            if self.results[i].is_some() {
                continue;
            }
            let scope = Scope::from(&delivery.recipients[i].account);
            let shard = scope.shard(&placement);
            // Slots without a shard wait like a shard without a leader, under a key of their own.
            let key = shard.unwrap_or(u32::MAX);
            if self.on_the_way.contains(&key) {
                continue;
            }
            let hunt = self.hunts.entry(key).or_insert_with(|| ShardHunt {
                hunt: Hunt::default(),
                not_before: now,
            });
            if hunt.not_before > now {
                continue;
            }
            let target = targets.entry(key).or_insert_with(|| {
                let router = client.router();
                let replicas = shard.map_or(Vec::new(), |s| router.replicas(&placement, s));
                hunt.hunt.target(&replicas)
            });
            match target.clone() {
                Some(addr) => groups.entry(addr).or_default().add(i, key),
                None => {
                    rare::hit(Rare::NobodyHasShard);
                    let error = Error::Unavailable {
                        message: format!("no node has {scope}"),
                    };
                    self.after_failure(key, "", &error).await;
                    self.last[i] = Some(error);
                    // Also where a newer map knows of replicas meanwhile: this round is over.
                    if let Some(hunt) = self.hunts.get_mut(&key) {
                        hunt.not_before = hunt.not_before.max(now + ROUND);
                    }
                }
            }
        }
        Ok(groups)
    }

    /// Sorts one node's answer into results and what has to be tried again.
    async fn take(&mut self, addr: &str, group: &Group, answer: Result<DeliverResponse, Missed>) {
        self.on_the_way
            .retain(|shard| !group.shards.contains(shard));
        let outcomes: Vec<Result<Stored, Missed>> = match answer {
            Ok(r) if r.results.len() == group.members.len() => {
                if let (None, Ok(id)) = (self.stored, blob_id(&r.blob_id)) {
                    self.stored = Some((id, r.size));
                }
                let outcomes = r.results.into_iter().map(outcome);
                outcomes.map(|o| o.map_err(Missed::from)).collect()
            }
            Ok(r) => {
                let error = Error::Corrupt {
                    message: format!("{} results, not one a recipient", r.results.len()),
                };
                let missed = || Err(Missed::from(error.clone()));
                group.members.iter().map(|_| missed()).collect()
            }
            Err(missed) => {
                let again = || Missed {
                    error: missed.error.clone(),
                    open: missed.open,
                };
                group.members.iter().map(|_| Err(again())).collect()
            }
        };
        let mut failed: BTreeMap<u32, Error> = BTreeMap::new();
        for (&(i, shard), outcome) in group.members.iter().zip(outcomes) {
            match outcome {
                Ok(stored) => {
                    self.parcel.client.router().note_leader(shard, addr);
                    self.results[i] = Some(Ok(stored));
                }
                Err(Missed { error, open }) => {
                    self.open[i] |= open;
                    match crate::retry::advice(&error) {
                        crate::retry::Advice::Fail => {
                            self.results[i] = Some(Err(error.after_tries(self.open[i])));
                        }
                        _ => {
                            failed.entry(shard).or_insert_with(|| error.clone());
                            self.last[i] = Some(error);
                        }
                    }
                }
            }
        }
        if !failed.is_empty() {
            rare::hit(Rare::DeliverySentAgain);
        }
        for (shard, error) in failed {
            self.after_failure(shard, addr, &error).await;
        }
    }

    /// Lets the shard's search go on after a failure at `addr`.
    async fn after_failure(&mut self, shard: u32, addr: &str, error: &Error) {
        let Parcel {
            client, deadline, ..
        } = self.parcel;
        let replicas = match client.placement_by(&deadline).await {
            Ok(placement) => client.router().replicas(&placement, shard),
            Err(_) => Vec::new(),
        };
        if !matches!(error, Error::Busy { .. }) {
            client.router().forget_leader(shard, addr);
        }
        let Some(hunt) = self.hunts.get_mut(&shard) else {
            return;
        };
        match hunt.hunt.failed(client.wiring(), addr, &replicas, error) {
            Step::Fail | Step::Now => {}
            Step::Wait(pause) => {
                hunt.not_before = Instant::now() + pause;
                if !matches!(error, Error::Busy { .. }) {
                    client.refresh_by(0, &deadline).await;
                }
            }
            Step::Refresh(version) => client.refresh_by(version, &deadline).await,
        }
    }

    fn finish(self) -> Delivered {
        let unresolved = |(last, open): (Option<Error>, bool)| {
            let last = last.unwrap_or(Error::Unavailable {
                message: "nothing was tried".into(),
            });
            Err(self.parcel.deadline.passed(&last).after_tries(open))
        };
        let tried = self.last.into_iter().zip(self.open);
        let both = self.results.into_iter().zip(tried);
        Delivered {
            blob_id: self.stored.map(|(id, _)| id),
            size: self.stored.map_or(0, |(_, size)| size),
            results: both
                .map(|(result, last)| result.unwrap_or_else(|| unresolved(last)))
                .collect(),
        }
    }
}

impl Group {
    fn add(&mut self, member: usize, shard: u32) {
        self.members.push((member, shard));
        if !self.shards.contains(&shard) {
            self.shards.push(shard);
        }
    }
}

fn outcome(r: DeliverResult) -> Result<Stored, Error> {
    match r.error {
        Some(detail) => Err(Error::from(detail)),
        None => Ok(Stored {
            uidvalidity: r.uidvalidity,
            uid: r.uid,
            modseq: r.modseq,
            email_id: EmailId(r.email_id),
            duplicate: r.duplicate,
        }),
    }
}
