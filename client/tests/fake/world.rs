//! What the nodes of a pretended cluster share, and what a test switches in it.

use std::collections::BTreeMap;

use bytes::Bytes;
use posthouse_client::error::Error;
use posthouse_client::ids::{AccountName, Slot};
use posthouse_client::proto::*;

/// Everything that the nodes share.
#[derive(Default)]
pub struct World {
    pub cluster_id: String,
    pub version: u64,
    /// Node → address.
    pub nodes: BTreeMap<u64, String>,
    /// Shard → (first slot, last slot, leader).
    pub shards: BTreeMap<u32, (u32, u32, u64)>,
    /// Leaders as the placement map tells them, where that differs.
    pub told_leaders: BTreeMap<u32, u64>,
    /// Whether wrong-leader answers name the leader.
    pub hints: bool,
    /// Mail by account.
    pub mail: BTreeMap<String, Vec<Bytes>>,
    /// Results by request id and account.
    pub seen: BTreeMap<(Bytes, String), DeliverResult>,
    /// Node and name of every call.
    pub calls: Vec<(u64, &'static str)>,
    /// So many calls get "busy".
    pub busy: u32,
    /// So many mutations are stored and then answered with "unavailable".
    pub lost_answers: u32,
    /// After a lost answer all calls get "busy".
    pub then_busy: bool,
    /// Nodes that take calls and never answer.
    pub frozen: Vec<u64>,
    /// Fetch streams break off after so many octets, so many times.
    pub fetch_breaks: (usize, u32),
    /// With each break the next node becomes the leader.
    pub breaks_move_leader: bool,
    /// Searches break off after their first piece, so many times; with a new leader from then on.
    pub search_breaks: (u32, Option<u64>),
    /// Fetched octets are damaged.
    pub damage: bool,
    /// So many calls are answered with "stale placement".
    pub stale: u32,
    /// The mailboxes of each change of an account; the n-th made modseq n.
    pub changes: BTreeMap<String, Vec<u32>>,
    /// Told of every change of this world.
    pub news: tokio::sync::watch::Sender<u64>,
    /// Accounts that streams were asked to watch, and not to watch any more: node, name, since.
    pub watches: Vec<(u64, String, Option<u64>)>,
}

impl World {
    pub(super) fn shard_of(&self, account: &str) -> u32 {
        let slot = Slot::of(&AccountName::new(account).unwrap()).0 as u32;
        let mut shards = self.shards.iter();
        let found = shards.find(|(_, (first, last, _))| (*first..=*last).contains(&slot));
        *found.expect("every slot has a shard").0
    }

    pub(super) fn check_leader(&self, node: u64, shard: u32) -> Result<(), Error> {
        let leader = self.shards[&shard].2;
        if leader == node {
            return Ok(());
        }
        let hint = if self.hints { leader } else { 0 };
        Err(Error::WrongLeader {
            leader_node: hint,
            leader_addr: self.nodes.get(&hint).cloned().unwrap_or_default(),
            message: format!("shard {shard}"),
        })
    }
}
