//! Opens, creates and removes the replicas of this node on its one journal and one index.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use openraft::async_runtime::WatchReceiver;
use openraft::{Config, EmptyNode, Raft, SnapshotPolicy};
use parking_lot::Mutex;
use tokio::sync::{Mutex as AsyncMutex, mpsc, watch};

use super::Shards;
use super::fault::{Fault, Faults};
use super::log::Log;
use super::log_store::LogStore;
use super::marks::{self, LogMarks, Recovered};
use super::recover::{RecoveredLogs, Verdict};
use super::shard::Shard;
use super::state_machine::{Applied, Replicated, StateMachine, purge_space, space_of};
use super::types::*;
use crate::env::rng::Rng;
use crate::env::runtime::with_rng;
use crate::identity::{IdentityError, KeptIdentity};
use crate::index::keys::{Key, KeyRange, Space};
use crate::index::{Batch, Family, Index, IndexError, Next};
use crate::journal::{Append, DamagedRange, Journal, JournalError};
use crate::machine::Event;
use crate::rare::{self, Rare};
use crate::transport::network::Factory;
use crate::transport::peers::Peers;
use crate::transport::promises::Promise;
use crate::transport::snapshot::ChunkReader;
use crate::types::*;
use crate::workers::space::SpaceState;

/// Timing and windows of the Raft groups.
#[derive(Debug, Clone)]
pub struct RaftSettings {
    /// How often a leader makes itself heard, ms.
    pub heartbeat_ms: u64,
    /// A follower that hears nothing for a random time in this range stands for election, ms.
    pub election_ms: (u64, u64),
    /// Octets of proposals under way in one shard.
    pub window_bytes: usize,
    /// A proposal or a read that is not answered after so long is called unknown, ms.
    pub answer_ms: u64,
    /// Octets of append requests under way to one replica.
    pub replicate_bytes: usize,
    /// Octets of the newest entries kept in memory, for each shard.
    pub cache_bytes: usize,
}

impl Default for RaftSettings {
    fn default() -> Self {
        RaftSettings {
            heartbeat_ms: 100,
            election_ms: (350, 600),
            window_bytes: 32 << 20,
            answer_ms: 20_000,
            replicate_bytes: 16 << 20,
            cache_bytes: 8 << 20,
        }
    }
}

/// A replica that may not go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct LostReplica {
    /// Which shard.
    pub shard: ShardId,
    /// Which replica.
    pub replica: ReplicaId,
}

/// The logs of this node's replicas.
type Logs = BTreeMap<(ShardId, ReplicaId), Arc<Log>>;

/// Everything that the replicas of a node share.
pub struct Groups {
    index: Arc<dyn Index>,
    journal: Arc<Journal>,
    identity: Arc<KeptIdentity>,
    peers: Arc<Peers>,
    chunks: Arc<dyn ChunkReader>,
    settings: RaftSettings,
    disk: watch::Receiver<SpaceState>,
    events: mpsc::UnboundedSender<(ShardId, Vec<Event>)>,
    faults: Faults,
    rng: Arc<dyn Rng>,
    shards: Arc<Shards>,
    logs: Arc<Mutex<Logs>>,
    lost: Arc<Mutex<BTreeSet<LostReplica>>>,
    receiving: Arc<Mutex<BTreeSet<ShardId>>>,
    /// Shards whose lost replica is about to end.
    ending: Mutex<BTreeSet<ShardId>>,
    spaces: AsyncMutex<()>,
}

/// The parts that a node hands over.
pub struct Parts {
    /// Rows.
    pub index: Arc<dyn Index>,
    /// Octets.
    pub journal: Arc<Journal>,
    /// Whose directory it is, and whether it has held a replica.
    pub identity: Arc<KeptIdentity>,
    /// Connections.
    pub peers: Arc<Peers>,
    /// Reads chunks for snapshots.
    pub chunks: Arc<dyn ChunkReader>,
    /// Timing and windows.
    pub settings: RaftSettings,
    /// The disk's state.
    pub disk: watch::Receiver<SpaceState>,
    /// What applied commands tell the node.
    pub events: mpsc::UnboundedSender<(ShardId, Vec<Event>)>,
    /// Where faults go.
    pub faults: Faults,
    /// Where the groups draw their time-outs from, whoever starts them.
    pub rng: Arc<dyn Rng>,
}

/// Held while a snapshot of one shard is being received.
pub struct Receiving {
    shard: ShardId,
    set: Arc<Mutex<BTreeSet<ShardId>>>,
}

impl Drop for Receiving {
    fn drop(&mut self) {
        self.set.lock().remove(&self.shard);
    }
}

impl Groups {
    /// No replicas yet. From here on the journal can open new segments.
    pub fn new(parts: Parts) -> Groups {
        let logs: Arc<Mutex<Logs>> = Arc::default();
        let lost: Arc<Mutex<BTreeSet<LostReplica>>> = Arc::default();
        let (all, gone) = (Arc::clone(&logs), Arc::clone(&lost));
        parts.journal.set_checkpoint(Box::new(move || {
            vec![checkpoint(&all.lock(), &gone.lock())]
        }));
        Groups {
            index: parts.index,
            journal: parts.journal,
            identity: parts.identity,
            peers: parts.peers,
            chunks: parts.chunks,
            settings: parts.settings,
            disk: parts.disk,
            events: parts.events,
            faults: parts.faults,
            rng: parts.rng,
            shards: Arc::default(),
            logs,
            lost,
            receiving: Arc::default(),
            ending: Mutex::default(),
            spaces: AsyncMutex::default(),
        }
    }

    /// The replicas that run.
    pub fn shards(&self) -> &Arc<Shards> {
        &self.shards
    }

    /// The node's index.
    pub fn index(&self) -> &Arc<dyn Index> {
        &self.index
    }

    /// The node's journal.
    pub fn journal(&self) -> &Arc<Journal> {
        &self.journal
    }

    /// Replicas of this node that lost acknowledged data and wait to be replaced.
    pub fn lost(&self) -> Vec<LostReplica> {
        self.lost.lock().iter().copied().collect()
    }

    /// Opens every replica that the index knows, as far as its log is whole; removes spaces that
    /// nothing points to. A replica that has forgotten one of the `promises` that others remember is
    /// lost, however whole it looks. Gives the damage that it found on the way.
    pub async fn open_all(
        &self,
        mut recovered: RecoveredLogs,
        promises: &[Promise],
    ) -> Result<Vec<DamagedRange>, Fault> {
        let fail = |e: IndexError| {
            self.faults.index(&e);
            self.faults.get().unwrap_or(Fault::Index(e))
        };
        let spaces = self.shard_spaces().map_err(fail)?;
        self.drop_unused_spaces(&spaces).map_err(fail)?;
        let noted = self.identity.get().await.lost;
        let (mut opened, mut found) = (Vec::new(), Vec::new());
        let mut applied_as = BTreeMap::new();
        // Whether only others knew of a loss: the directory shows no trace of it.
        let mut reminded = false;
        for (&shard, &space) in &spaces {
            let Some(applied) = Applied::load(&*self.index, space).map_err(fail)? else {
                continue;
            };
            let key = (shard, applied.replica);
            applied_as.insert(shard, applied.replica);
            let unapplied = recovered.unapplied(key, applied.log_id);
            if !unapplied.is_empty() {
                rare::hit(Rare::IndexBehindJournal);
            }
            let rotten = self.journal.verify(&unapplied).await;
            for damage in rotten.map_err(|e| Fault::Journal(e.to_string()))? {
                rare::hit(Rare::UnappliedEntryRotten);
                recovered.rotten(key, &damage);
                found.push(damage);
            }
            let of_shard = promises.iter().filter(|p| p.shard == shard);
            let verdict = match noted.contains(&key) {
                true => Verdict::Lost,
                false => recovered.judge(key, applied.log_id),
            };
            match verdict {
                Verdict::Lost => {
                    self.mark_lost(shard, applied.replica);
                    // The image of a loss is older than the replicas that came after it. They are
                    // gone with it, and must not begin anew under a name that has voted.
                    for p in of_shard.filter(|p| p.replica > applied.replica) {
                        self.forgot(p, p.replica);
                        reminded = true;
                    }
                }
                Verdict::Whole(log) => {
                    // What a snapshot brought is promised before the log begins anew behind it.
                    let last = log.last().max(applied.log_id);
                    let vote = log.vote.as_ref();
                    // Those who remember need not all have heard of the newest replica.
                    let forgotten = of_shard
                        .filter(|p| p.is_forgotten_by(applied.replica, vote, last))
                        .max_by_key(|p| p.replica);
                    match forgotten {
                        Some(promise) => {
                            self.forgot(promise, applied.replica);
                            reminded = true;
                        }
                        None => opened.push((shard, space, applied, log)),
                    }
                }
            }
        }
        // A replica that was lost, and of which the index never knew.
        for (shard, replica) in recovered.lost().chain(noted.iter().copied()) {
            if applied_as.get(&shard).is_some_and(|own| *own < replica) {
                self.mark_lost(shard, replica);
            }
        }
        // Replicas that only the journal knows: the index was lost.
        let mut orphans: BTreeMap<ShardId, ReplicaId> = BTreeMap::new();
        for (shard, replica) in recovered.known().chain(noted) {
            if !spaces.contains_key(&shard) {
                let newest = orphans.entry(shard).or_insert(replica);
                *newest = (*newest).max(replica);
            }
        }
        for (shard, replica) in orphans {
            rare::hit(Rare::OrphanReplica);
            self.mark_lost(shard, replica);
        }
        for promise in promises.iter().filter(|p| !spaces.contains_key(&p.shard)) {
            // Not counted: others also remember a replica that has rightly left this node.
            self.forgot(promise, promise.replica);
        }
        // The journal says it with its next segment, and a full disk may not let it have one. Those
        // who remember may be gone by the next start, so this one must not count as over before.
        if let Err(e) = self.note_lost().await
            && reminded
        {
            return Err(Fault::Refused(format!(
                "this data directory is older than what others have seen of this node, and that cannot be written down: {e}. Make room, and restart no other node before this one has served for some seconds"
            )));
        }
        // All logs are known before the first of them writes, because a checkpoint names them all.
        let logs: Vec<Arc<Log>> = opened
            .iter()
            .map(|(shard, _, applied, log)| self.add_log(*shard, applied.replica, log.clone()))
            .collect();
        for ((shard, space, applied, _), log) in opened.into_iter().zip(logs) {
            self.start(shard, space, applied, log).await?;
        }
        Ok(found)
    }

    /// A replica has forgotten a promise: it is lost, and so is the one that made it. By both names,
    /// because a later start finds the older one in the directory, and whole.
    fn forgot(&self, promise: &Promise, replica: ReplicaId) {
        rare::hit(Rare::PromiseForgotten);
        tracing::error!(
            "this data directory is older than what others have seen of this node: {promise}"
        );
        for lost in BTreeSet::from([replica, promise.replica]) {
            self.mark_lost(promise.shard, lost);
        }
    }

    /// Ends those of the replicas that run which have forgotten one of the `promises` that others
    /// remember. Says how many.
    pub async fn disown(&self, promises: &[Promise]) -> Result<usize, JournalError> {
        let mut ended = 0;
        for promise in promises {
            let Some(shard) = self.shards.get(promise.shard) else {
                // Lost already, and one that came after it as well: it must not begin anew.
                let older =
                    |l: &LostReplica| l.shard == promise.shard && l.replica < promise.replica;
                if self.lost().iter().any(older) {
                    self.forgot(promise, promise.replica);
                    self.note_lost().await.ok();
                }
                continue;
            };
            let (replica, marks) = (shard.replica(), shard.log.marks());
            // What a snapshot brought is promised before the log begins anew behind it.
            let last = marks.last.max(*shard.replicated.persisted.borrow());
            if !promise.is_forgotten_by(replica, marks.vote.as_ref(), last) {
                continue;
            }
            rare::hit(Rare::ReplicaDisowned);
            // Known to be lost before it is gone: otherwise it would be created anew.
            self.forgot(promise, replica);
            self.end_lost(&shard, &[replica, promise.replica]).await?;
            ended += 1;
        }
        Ok(ended)
    }

    /// Ends a replica that runs and cannot read the entry at `index` of its log, which it has not
    /// applied. Says whether it was still there.
    ///
    /// It may have been counted for that entry and can never apply it, so it must not vote any
    /// more. As a leader it could not give the entry to a follower either, nor take it back:
    /// nothing would be committed, and its heartbeats would keep those from leading that can read
    /// it, or never had it.
    pub async fn give_up(&self, shard: &Shard, index: u64) -> Result<bool, JournalError> {
        let (id, replica) = (shard.id(), shard.replica());
        // Removed or replaced meanwhile.
        if self.shards.get(id).is_none_or(|s| s.replica() != replica) {
            return Ok(false);
        }
        rare::hit(Rare::ReplicaGivenUp);
        tracing::error!(shard = %id, %replica, index, "an unapplied entry cannot be read");
        // Known to be lost before it is gone: otherwise it would be created anew.
        self.mark_lost(id, replica);
        self.end_lost(shard, &[replica]).await?;
        Ok(true)
    }

    /// Ends a replica that runs and is marked as lost; writes down that `lost` are, also for the
    /// next start, should the process die before the replica is replaced.
    async fn end_lost(&self, shard: &Shard, lost: &[ReplicaId]) -> Result<(), JournalError> {
        let id = shard.id();
        // First: it may fit where the journal has to wait for room.
        self.note_lost().await.ok();
        self.ending.lock().insert(id);
        self.shards.remove(id);
        end(shard).await;
        shard.replicated.end().await;
        self.ending.lock().remove(&id);
        self.logs.lock().remove(&(id, shard.replica()));
        let lost: Vec<LogMarks> = lost
            .iter()
            .map(|replica| LogMarks {
                lost: true,
                ..LogMarks::new(id, *replica)
            })
            .collect();
        let record = marks::record(marks::ONE, &lost);
        self.journal.append(vec![record]).await?;
        // After that: what a later start finds of the log must not look whole.
        shard.log.let_go();
        Ok(())
    }

    /// Writes down which replicas are lost. It is the second place beside the journal, and the first
    /// for a loss of which others have reminded a start: the journal says that only with its next
    /// segment. When it cannot be written, the next turn of the announcement tries again.
    async fn note_lost(&self) -> Result<(), IdentityError> {
        let noted = self.identity.change(|file| file.lost = self.lost_keys());
        let noted = noted.await;
        if let Err(e) = &noted {
            tracing::warn!("which replicas are lost could not be written down: {e}");
        }
        noted.map(drop)
    }

    /// The shards and replicas of those that are lost, as the identity file keeps them.
    pub fn lost_keys(&self) -> BTreeSet<(ShardId, ReplicaId)> {
        let lost = self.lost.lock();
        lost.iter().map(|l| (l.shard, l.replica)).collect()
    }

    fn mark_lost(&self, shard: ShardId, replica: ReplicaId) {
        rare::hit(Rare::ReplicaLost);
        tracing::error!(%shard, %replica, "the replica lost acknowledged data; it stops voting and is rebuilt from its peers");
        self.lost.lock().insert(LostReplica { shard, replica });
    }

    /// Forgets a lost replica, once another generation has taken its place. Its predecessors go with
    /// it: a peer that has not heard of the newest generation still reminds a start of an older one.
    pub fn forget_lost(&self, lost: LostReplica) {
        let after = |l: &LostReplica| l.shard != lost.shard || l.replica > lost.replica;
        self.lost.lock().retain(after);
    }

    /// Whether the index knows any replica of this node.
    pub fn knows_any(&self) -> Result<bool, IndexError> {
        Ok(!self.shard_spaces()?.is_empty())
    }

    fn shard_spaces(&self) -> Result<BTreeMap<ShardId, Space>, IndexError> {
        let range = KeyRange::tag(Space::NODE, 0x72);
        let mut shards = Vec::new();
        self.index
            .scan(Family::Local, &range.from, &range.to, &mut |key, _| {
                if let Some((_, Key::ShardSpace(shard))) = Key::decode(key) {
                    shards.push(shard);
                }
                Next::Continue
            })?;
        let mut spaces = BTreeMap::new();
        for shard in shards {
            if let Some(space) = space_of(&*self.index, shard)? {
                spaces.insert(shard, space);
            }
        }
        Ok(spaces)
    }

    fn drop_unused_spaces(&self, used: &BTreeMap<ShardId, Space>) -> Result<(), IndexError> {
        let next = self.next_space()?;
        let used: BTreeSet<Space> = used.values().copied().collect();
        for space in (Space::FIRST.0..next)
            .map(Space)
            .filter(|s| !used.contains(s))
        {
            if purge_space(&*self.index, space)? {
                rare::hit(Rare::SpaceDropped);
            }
        }
        Ok(())
    }

    fn next_space(&self) -> Result<u32, IndexError> {
        let row = self
            .index
            .get(Family::Local, &Key::NextSpace.encode(Space::NODE))?;
        Ok(row
            .and_then(|r| r.as_ref().try_into().ok())
            .map_or(Space::FIRST.0, u32::from_be_bytes))
    }

    /// Hands out a space that no replica ever had.
    pub async fn new_space(&self) -> Result<Space, IndexError> {
        let _one_at_a_time = self.spaces.lock().await;
        let space = Space(self.next_space()?);
        let mut batch = Batch::default();
        let next = Bytes::copy_from_slice(&(space.0 + 1).to_be_bytes());
        batch.put(Family::Local, Key::NextSpace.encode(Space::NODE), next);
        self.index.write(batch)?;
        Ok(space)
    }

    /// Removes all rows of a space that nothing points to.
    pub fn drop_space(&self, space: Space) -> Result<(), IndexError> {
        purge_space(&*self.index, space).map(drop)
    }

    /// Removes the rows of `space` unless it has become the shard's. Says whether it has.
    pub fn drop_unused_space(&self, shard: ShardId, space: Space) -> Result<bool, IndexError> {
        let used = space_of(&*self.index, shard)? == Some(space);
        match used {
            true => rare::hit(Rare::SnapshotReceived),
            false => {
                rare::hit(Rare::SnapshotStale);
                self.drop_space(space)?;
            }
        }
        Ok(used)
    }

    /// Takes the right to receive a snapshot of a shard; `None` while another one is on its way.
    pub fn try_receive(&self, shard: ShardId) -> Option<Receiving> {
        let set = Arc::clone(&self.receiving);
        let fresh = set.lock().insert(shard);
        fresh.then_some(Receiving { shard, set })
    }

    fn add_log(&self, shard: ShardId, replica: ReplicaId, recovered: Recovered) -> Arc<Log> {
        let log = Log::new(
            shard,
            replica,
            Arc::clone(&self.journal),
            self.settings.cache_bytes,
            recovered,
        );
        let log = Arc::new(log);
        self.logs.lock().insert((shard, replica), Arc::clone(&log));
        log
    }

    /// Creates an empty replica: its row is durable before it can vote or acknowledge.
    pub async fn create(&self, shard: ShardId, replica: ReplicaId) -> Result<Arc<Shard>, Fault> {
        let fail = |e: IndexError| Fault::Index(e);
        if self.ending.lock().contains(&shard) {
            // What it began last may still write.
            let why = format!("the lost replica of shard {shard} has not ended yet");
            return Err(Fault::Refused(why));
        }
        let space = self.new_space().await.map_err(fail)?;
        let applied = Applied {
            replica,
            log_id: None,
            membership: StoredMembership::default(),
        };
        let old = space_of(&*self.index, shard).map_err(fail)?;
        // The journal knows the replica before the index does: should the journal be lost, the
        // replica cannot be taken for one that never voted.
        let log = self.add_log(shard, replica, Recovered::default());
        log.begin()
            .await
            .map_err(|e| Fault::Journal(e.to_string()))?;
        // Before it can vote or acknowledge: should all but the identity be wiped, the replica would
        // begin anew under its name. And after the journal has a segment, or a crash in between
        // would look like that.
        if let Err(e) = self.identity.change(|file| file.held = true).await {
            // A full disk, perhaps. The next try begins a log of its own.
            self.logs.lock().remove(&(shard, replica));
            return Err(Fault::Refused(e.to_string()));
        }
        let mut batch = Batch::default();
        applied.save(&mut batch, space);
        let key = Key::ShardSpace(shard).encode(Space::NODE);
        batch.put(
            Family::Local,
            key,
            Bytes::copy_from_slice(&space.0.to_be_bytes()),
        );
        self.index.write(batch).map_err(fail)?;
        if let Some(old) = old {
            purge_space(&*self.index, old).map_err(fail)?;
        }
        self.index.flush().await.map_err(fail)?;
        self.start(shard, space, applied, log).await
    }

    async fn start(
        &self,
        shard: ShardId,
        space: Space,
        applied: Applied,
        log: Arc<Log>,
    ) -> Result<Arc<Shard>, Fault> {
        let replica = applied.replica;
        let persisted = applied.log_id;
        let replicated = Replicated::new(shard, Arc::clone(&self.index), applied.log_id);
        let replicated = Arc::new(replicated);
        let machine = StateMachine::new(
            Arc::clone(&replicated),
            Arc::clone(&log),
            space,
            applied,
            self.events.clone(),
            self.faults.clone(),
        );
        let network = Factory {
            shard,
            peers: Arc::clone(&self.peers),
            window_bytes: self.settings.replicate_bytes,
            log: Arc::clone(&log),
            chunks: Arc::clone(&self.chunks),
        };
        let ended = |cause: String| Fault::Shard {
            shard: shard.0,
            cause,
        };
        let config = Arc::new(
            self.config(shard)
                .validate()
                .map_err(|e| ended(e.to_string()))?,
        );
        let store = LogStore::new(Arc::clone(&log), persisted);
        let raft = Raft::new(replica, config, network, store, machine);
        let raft = with_rng(Arc::clone(&self.rng), raft)
            .await
            .map_err(|e| self.faults.get().unwrap_or_else(|| ended(e.to_string())))?;
        self.watch_fatal(shard, &raft);
        let shard_handle = Arc::new(Shard::new(
            raft,
            log,
            replicated,
            replica,
            self.settings.window_bytes,
            Duration::from_millis(self.settings.answer_ms),
            self.disk.clone(),
        ));
        self.shards.insert(shard, Arc::clone(&shard_handle));
        Ok(shard_handle)
    }

    /// One group that ends takes the node with it.
    fn watch_fatal(&self, shard: ShardId, raft: &Raft<TypeConfig, StateMachine>) {
        let mut all = raft.metrics();
        let faults = self.faults.clone();
        tokio::spawn(async move {
            let mut ended = false;
            loop {
                if let Err(fatal) = &all.borrow_watched().running_state {
                    if !matches!(fatal, openraft::errors::Fatal::Stopped) {
                        faults.report(Fault::Shard {
                            shard: shard.0,
                            cause: fatal.to_string(),
                        });
                    }
                    return;
                }
                if ended {
                    return;
                }
                // A group that has ended says nothing more, but its last words count.
                ended = all.changed().await.is_err();
            }
        });
    }

    fn config(&self, shard: ShardId) -> Config {
        let s = &self.settings;
        Config {
            cluster_name: format!("shard-{shard}"),
            heartbeat_interval: s.heartbeat_ms,
            election_timeout_min: s.election_ms.0,
            election_timeout_max: s.election_ms.1,
            enable_pre_vote: Some(true),
            // A restarted leader that resumes its term would reuse log ids of entries that it lost
            // with its unsynced tail, although others had acknowledged them.
            enable_leader_restore: Some(false),
            snapshot_policy: SnapshotPolicy::Never,
            // The purger decides what to keep; openraft purges nothing by itself.
            max_in_snapshot_log_to_keep: u64::MAX,
            replication_lag_threshold: u64::MAX,
            max_payload_entries: 1024,
            install_snapshot_timeout: Duration::from_secs(3600).as_millis() as u64,
            broadcast_submitted_on_append: Some(true),
            // openraft pauses before the first append to a replica that was away, also when that has
            // answered heartbeats for long, and a write that needs it for its quorum waits so long.
            // By default the pauses grow to a second.
            backoff: "100ms ...250ms".to_owned(),
            ..Config::default()
        }
    }

    /// Makes a replica that is alone in its shard its leader, once in its life.
    pub async fn initialize(&self, shard: &Shard) -> Result<(), Fault> {
        let members = BTreeMap::from([(shard.replica(), EmptyNode::default())]);
        let ended = |cause: String| Fault::Shard {
            shard: shard.id().0,
            cause,
        };
        match shard.raft.is_initialized().await {
            Ok(true) => Ok(()),
            Ok(false) => shard
                .raft
                .initialize(members)
                .await
                .map_err(|e| ended(e.to_string())),
            Err(e) => Err(ended(e.to_string())),
        }
    }

    /// Stops a replica that the placement no longer has, and removes its rows.
    pub async fn remove(&self, shard: ShardId) -> Result<(), IndexError> {
        let Some(replica) = self.shards.remove(shard) else {
            return Ok(());
        };
        end(&replica).await;
        replica.replicated.end().await;
        let mut batch = Batch::default();
        batch.delete(Family::Local, Key::ShardSpace(shard).encode(Space::NODE));
        let space = space_of(&*self.index, shard)?;
        self.index.write(batch)?;
        if let Some(space) = space {
            self.drop_space(space)?;
        }
        // Before the log ends: an index that still knows a replica whose log is gone calls it lost.
        self.index.flush().await?;
        if let Some(last) = replica.log.last() {
            let _ = replica.log.purge(last).await;
        }
        self.logs.lock().remove(&(shard, replica.replica()));
        Ok(())
    }

    /// Stops all groups, at the same time: one that waits for its disk keeps no other from it.
    pub async fn shutdown(&self) {
        let shards = self.shards.all();
        futures::future::join_all(shards.iter().map(|shard| end(shard))).await;
    }
}

/// Stops a group and waits for its end, in a task that goes on when nobody waits for it any more:
/// whoever is the first to join a group of openraft must see it through. Dropped before that, it
/// leaves a state in which all who ask the group for anything later panic.
async fn end(shard: &Shard) {
    let raft = shard.raft.clone();
    let ended = tokio::spawn(async move {
        let _ = raft.shutdown().await;
    });
    let _ = ended.await;
}

/// The record that opens a segment: every log of the node, and those that are lost, so that a loss
/// is not forgotten with the segments that showed it.
fn checkpoint(logs: &Logs, lost: &BTreeSet<LostReplica>) -> Append {
    let gone = lost.iter().map(|l| LogMarks {
        lost: true,
        ..LogMarks::new(l.shard, l.replica)
    });
    let marks: Vec<_> = logs.values().map(|log| log.marks()).chain(gone).collect();
    marks::record(marks::ALL, &marks)
}
