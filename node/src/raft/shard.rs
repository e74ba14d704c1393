//! One local replica of a shard: proposing, reading, and what its workers need.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use openraft::async_runtime::WatchReceiver;
use openraft::errors::{ClientWriteError, LinearizableReadError, RaftError};
use openraft::raft::VoteRequest;
use openraft::{Raft, ReadPolicy, ServerState};
use tokio::sync::{Semaphore, watch};

use super::log::Log;
use super::state_machine::{Replicated, StateMachine, space_of};
use super::types::*;
use crate::index::View;
use crate::index::keys::Space;
use crate::machine::command::{Arriving, Command, Op, Reply};
use crate::rare::{self, Rare};
use crate::types::*;
use crate::workers::space::SpaceState;

/// How long a proposal waits for room in the shard's window before it is refused as busy.
const WINDOW_WAIT: Duration = Duration::from_millis(500);
/// How long a successor may take to become leader.
const TRANSFER_WAIT: Duration = Duration::from_millis(1500);
/// What a refused caller is told to wait.
const RETRY_AFTER_MS: u64 = 100;

/// Why a shard did not answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ShardError {
    /// Another replica leads, or none does.
    #[error("this node does not lead the shard")]
    NotLeader {
        /// Who does, where that is known.
        leader: Option<NodeId>,
    },
    /// The byte window of the shard is full; nothing was proposed.
    #[error("the shard is busy")]
    Busy {
        /// When to come back.
        retry_after_ms: u64,
    },
    /// The disk is nearly full; nothing was proposed.
    #[error(
        "the disk of the leader is nearly full: no new mail is taken until there is space again"
    )]
    ReadOnly,
    /// No answer in time, or the leader changed meanwhile: the outcome is unknown.
    #[error("no quorum answered in time; the outcome is unknown")]
    Unknown,
    /// The node is stopping.
    #[error("the node is stopping")]
    Stopped,
}

/// Rows of a shard at one moment, at or after the read index.
pub struct ReadView {
    /// The rows.
    pub view: Arc<dyn View>,
    /// Where they live.
    pub space: Space,
}

/// One local replica of a shard.
pub struct Shard {
    /// Its Raft group.
    pub raft: Raft<TypeConfig, StateMachine>,
    /// Its log.
    pub log: Arc<Log>,
    /// Its rows.
    pub replicated: Arc<Replicated>,
    replica: ReplicaId,
    window: Arc<Semaphore>,
    window_bytes: usize,
    answer_wait: Duration,
    disk: watch::Receiver<SpaceState>,
}

impl Shard {
    /// The replica with these parts. `window_bytes`: octets of proposals that may be under way.
    /// `answer_wait`: how long a proposal or a read may take before its outcome is called unknown.
    pub fn new(
        raft: Raft<TypeConfig, StateMachine>,
        log: Arc<Log>,
        replicated: Arc<Replicated>,
        replica: ReplicaId,
        window_bytes: usize,
        answer_wait: Duration,
        disk: watch::Receiver<SpaceState>,
    ) -> Shard {
        let window = Arc::new(Semaphore::new(window_bytes));
        Shard {
            raft,
            log,
            replicated,
            replica,
            window,
            window_bytes,
            answer_wait,
            disk,
        }
    }

    /// Which.
    pub fn id(&self) -> ShardId {
        self.replicated.shard
    }

    /// Which replica of it.
    pub fn replica(&self) -> ReplicaId {
        self.replica
    }

    /// Octets of proposals that are under way.
    pub fn proposed_bytes(&self) -> usize {
        self.window_bytes - self.window.available_permits()
    }

    /// Proposes a command and waits until it is applied here. `stored` is the stored octets of the
    /// chunk that travels with a `Store` of one chunk or a `PutChunk`, else empty.
    pub async fn propose(&self, command: Command, stored: Bytes) -> Result<Reply, ShardError> {
        if grows(&command.op) && *self.disk.borrow() != SpaceState::Ok {
            rare::hit(Rare::ReadOnly);
            return Err(ShardError::ReadOnly);
        }
        if !self.is_leader() {
            return Err(self.not_leader());
        }
        // Every replica that applies the command relies on this.
        assert_eq!(
            stored.len() as u64,
            command.op.stored_len() as u64,
            "the octets that travel with a command are those that it names"
        );
        let proposal = Proposal::new(&command, stored);
        let room = proposal.size().min(self.window_bytes) as u32;
        let permit = tokio::time::timeout(
            WINDOW_WAIT,
            Arc::clone(&self.window).acquire_many_owned(room),
        );
        let _permit = match permit.await {
            Ok(Ok(permit)) => permit,
            Ok(Err(_)) => return Err(ShardError::Stopped),
            Err(_) => {
                rare::hit(Rare::WindowFull);
                return Err(ShardError::Busy {
                    retry_after_ms: RETRY_AFTER_MS,
                });
            }
        };
        match tokio::time::timeout(self.answer_wait, self.raft.client_write(proposal)).await {
            Err(_) => {
                rare::hit(Rare::OutcomeUnknown);
                Err(ShardError::Unknown)
            }
            Ok(Ok(response)) => Ok(response.data),
            Ok(Err(RaftError::APIError(ClientWriteError::ForwardToLeader(f)))) => {
                rare::hit(Rare::LeadershipLost);
                Err(ShardError::NotLeader {
                    leader: f.leader_id.map(ReplicaId::node),
                })
            }
            Ok(Err(RaftError::APIError(_))) => Err(ShardError::Unknown),
            Ok(Err(RaftError::Fatal(_))) => Err(ShardError::Unknown),
        }
    }

    /// A linearizable view through the read index; only the leader has it.
    pub async fn read(&self) -> Result<ReadView, ShardError> {
        if !self.is_leader() {
            return Err(self.not_leader());
        }
        let ready = async {
            let linearizer = self
                .raft
                .get_read_linearizer(ReadPolicy::ReadIndex)
                .await
                .map_err(|e| match e {
                    RaftError::APIError(LinearizableReadError::ForwardToLeader(f)) => {
                        rare::hit(Rare::ReadRefused);
                        ShardError::NotLeader {
                            leader: f.leader_id.map(ReplicaId::node),
                        }
                    }
                    RaftError::APIError(LinearizableReadError::QuorumNotEnough(_)) => {
                        rare::hit(Rare::ReadWithoutQuorum);
                        ShardError::Unknown
                    }
                    RaftError::Fatal(_) => ShardError::Stopped,
                })?;
            linearizer
                .await_ready(&self.raft)
                .await
                .map_err(|_| ShardError::Stopped)
        };
        match tokio::time::timeout(self.answer_wait, ready).await {
            Ok(ready) => ready.map(drop)?,
            Err(_) => {
                rare::hit(Rare::ReadTimedOut);
                return Err(ShardError::Unknown);
            }
        }
        self.local_view()
    }

    /// What this replica has applied, however old.
    pub fn local_view(&self) -> Result<ReadView, ShardError> {
        let view = self.replicated.index.view();
        let space = space_of(&*view, self.id())
            .ok()
            .flatten()
            .ok_or(ShardError::Stopped)?;
        Ok(ReadView { view, space })
    }

    /// Hands the shard over to another replica; true once that replica leads. When it does not take
    /// over in time, this replica stands for election itself: openraft's leader takes no more
    /// proposals once it has begun to hand over, whatever becomes of its successor. That holds for
    /// the term in which it was asked to. Another replica may have led since, and this one again:
    /// then nothing is left of the hand-over, and such a later leadership stays as it is.
    ///
    /// Seen through by a task of its own: a caller that goes away would leave a leader that takes
    /// nothing and stays.
    pub async fn transfer(self: &Arc<Self>, to: ReplicaId) -> bool {
        let shard = Arc::clone(self);
        let task = tokio::spawn(async move { shard.hand_over(to).await });
        task.await.unwrap_or(false)
    }

    async fn hand_over(&self, to: ReplicaId) -> bool {
        if self.raft.trigger().transfer_leader(to).await.is_err() {
            return false;
        }
        // Answered after the call above has been carried out, so that was not in a later term.
        let asked = self.raft.with_raft_state(|s| s.vote_ref().leader_id.term);
        let Ok(term) = asked.await else {
            return false;
        };
        let moved = async {
            loop {
                if self.leader() == Some(to.node()) {
                    return true;
                }
                if self.has_ended() {
                    return false;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        if let Ok(moved) = tokio::time::timeout(TRANSFER_WAIT, moved).await {
            return moved;
        }
        rare::hit(Rare::TransferTimedOut);
        let unrelieved = {
            let metrics = self.raft.metrics();
            let m = metrics.borrow_watched();
            m.state == ServerState::Leader && m.current_term <= term
        };
        if unrelieved {
            rare::hit(Rare::ElectedItself);
            self.step_down(to).await;
            let _ = self.raft.trigger().elect(false).await;
        }
        false
    }

    /// Ends the own leadership. openraft's leader does that only when it hears of a later term, and
    /// ignores a call to stand for election before; so it hears of the candidacy that it has asked
    /// its successor for. No vote is given away by that: nobody is sent the answer, and should the
    /// successor ask, its log is compared as ever.
    async fn step_down(&self, to: ReplicaId) {
        let term = self.raft.metrics().borrow_watched().current_term;
        let mut request = VoteRequest::new(Vote::new(term + 1, to), self.log.last());
        request.leadership_transfer = true;
        let _ = self.raft.vote(request).await;
    }

    fn not_leader(&self) -> ShardError {
        rare::hit(Rare::NotLeader);
        ShardError::NotLeader {
            leader: self.leader(),
        }
    }

    /// Whether its group has been stopped, or has failed.
    fn has_ended(&self) -> bool {
        self.raft.metrics().borrow_watched().running_state.is_err()
    }

    /// Whether this replica believes to lead.
    pub fn is_leader(&self) -> bool {
        self.raft.is_leader()
    }

    /// The node that leads, as far as this replica knows.
    pub fn leader(&self) -> Option<NodeId> {
        self.raft
            .metrics()
            .borrow_watched()
            .current_leader
            .map(ReplicaId::node)
    }
}

/// Whether a command makes the shard larger: refused while the disk is nearly full. Copies are
/// not: they are how some clients begin to delete, and bring no octets.
fn grows(op: &Op) -> bool {
    match op {
        Op::Store(_)
        | Op::AppendMany(_)
        | Op::PutChunk { .. }
        | Op::CreateAccount { .. }
        | Op::CreateMailbox { .. } => true,
        // That nothing comes can always be said.
        Op::Arrive(arrive) => matches!(arrive.what, Arriving::Messages { .. }),
        _ => false,
    }
}
