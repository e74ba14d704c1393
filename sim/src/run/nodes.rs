//! The nodes of a run: their processes, what starts them again, and which of them count.

use std::path::PathBuf;
use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use posthouse_node::api::cluster::Running;
use posthouse_node::config::Config;
use posthouse_node::identity::IdentityError;
use posthouse_node::node::{Node, StartError};
use posthouse_node::raft::fault::Fault;
use tokio_util::sync::CancellationToken;

use crate::outcome::EventKind;
use crate::plan::Plan;
use crate::world::HostId;
use crate::world::stage::{Death, Stage};

/// Where every node keeps its data, on its own disk.
pub const DATA: &str = "/data";
/// How long whatever supervises processes waits before it starts one that failed, ms.
const AGAIN_MS: u64 = 500;

/// How a process ended by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// It was asked to.
    Stopped,
    /// Its index was damaged: it begins anew at once.
    Again,
    /// Something failed; a start may help.
    Failed(String),
    /// It must not run: a copy, or a directory that has forgotten what it promised.
    Refused(String),
}

/// What a process says of itself.
#[derive(Default)]
struct State {
    running: Option<Weak<Running>>,
    /// It is on its way to its end: it takes no calls any more.
    leaves: bool,
    end: Option<End>,
}

/// One node.
pub struct NodeSlot {
    /// Where it runs.
    pub host: HostId,
    /// Its settings.
    pub config: Config,
    /// Whether it should run.
    pub wanted: bool,
    /// When it is started again, ms.
    pub start_at_ms: u64,
    /// Why it will never run again.
    pub retired: Option<String>,
    /// Whether a refusal to start is what should happen.
    pub may_refuse: bool,
    /// Until then it may run with less than it has promised: nobody could remind it, ms.
    pub may_forget_until_ms: u64,
    /// How many old images have been put in the place of its directory.
    pub images: u32,
    /// Lives that are left to die after so many polls each, and whether by power failure.
    pub short_lives: Option<(u32, u64, bool)>,
    /// Whether it has ever been a member.
    pub joined: bool,
    /// Whether it ended because no member took its token.
    pub token_refused: bool,
    stop: CancellationToken,
    state: Arc<Mutex<State>>,
    serving: bool,
}

impl NodeSlot {
    /// A node that does not run yet.
    pub fn new(plan: &Plan, host: HostId, zone: u32) -> NodeSlot {
        let s = &plan.settings;
        let ip = host.ip();
        let config = Config {
            data: PathBuf::from(DATA),
            listen: format!("{ip}:6600"),
            lmtp: format!("{ip}:2400"),
            zone: format!("zone{zone}"),
            shards: plan.shards,
            replication: plan.replication,
            compress: s.compress,
            segment_bytes: s.segment_bytes,
            flush_bytes: s.flush_bytes,
            flush_ms: s.flush_ms,
            keep_entries: s.keep_entries,
            heartbeat_ms: s.heartbeat_ms,
            election_ms: s.election_ms,
            // The least that Argon2 allows: its work is real also where time is not.
            password_memory_kib: 8,
            password_passes: 1,
            raft_window_bytes: s.raft_window_bytes,
            answer_ms: s.answer_ms,
            replicate_window_bytes: s.replicate_window_bytes,
            entry_cache_bytes: s.entry_cache_bytes,
            row_cache_bytes: s.row_cache_bytes,
            scrub_every_ms: s.scrub_every_ms,
            compaction_every_ms: s.compaction_every_ms,
            compaction_live_percent: s.compaction_live_percent.into(),
            lmtp_deadline_ms: s.lmtp_deadline_ms,
            view_age_ms: s.view_age_ms,
            watch_changes: s.watch_changes,
            ..Config::default()
        };
        NodeSlot {
            host,
            config,
            wanted: false,
            start_at_ms: 0,
            retired: None,
            may_refuse: false,
            may_forget_until_ms: 0,
            images: 0,
            short_lives: None,
            joined: false,
            token_refused: false,
            stop: CancellationToken::new(),
            state: Arc::default(),
            serving: false,
        }
    }

    /// Its address for gRPC.
    pub fn addr(&self) -> String {
        self.config.listen.clone()
    }

    /// The inside of the node, while it serves.
    pub fn running(&self) -> Option<Arc<Running>> {
        self.state.lock().running.as_ref().and_then(Weak::upgrade)
    }

    /// Whether its process serves, and was not asked to stop: one that stands still says so only
    /// when it goes on.
    pub fn serves(&self) -> bool {
        self.serving && !self.stop.is_cancelled()
    }

    /// Whether its process was asked to stop and has not ended yet.
    pub fn stops(&self, stage: &Stage) -> bool {
        self.stop.is_cancelled() && self.is_up(stage)
    }

    /// Whether a process runs, serving or not.
    pub fn is_up(&self, stage: &Stage) -> bool {
        stage.host(self.host).life.is_some()
    }

    /// Starts its process.
    pub fn start(&mut self, stage: &mut Stage) -> EventKind {
        let env = stage.boot(self.host);
        self.state = Arc::default();
        self.stop = CancellationToken::new();
        self.serving = false;
        let (config, stop) = (self.config.clone(), self.stop.clone());
        let state = Arc::clone(&self.state);
        let life = stage.host_mut(self.host).life.as_mut().expect("booted");
        life.set_main(process(config, env, stop, state));
        if let Some((left, polls, power)) = &mut self.short_lives {
            life.die_at_poll(*polls);
            let power = *power;
            *left -= 1;
            if *left == 0 {
                self.short_lives = None;
            }
            stage.host_mut(self.host).death = match power {
                true => Death::Power,
                false => Death::Kill,
            };
        }
        let incarnation = stage.host(self.host).incarnation;
        EventKind::Started { incarnation }
    }

    /// Asks its process to stop.
    pub fn ask_to_stop(&mut self) {
        self.stop.cancel();
    }

    /// Forgets the process: it is dead.
    pub fn died(&mut self) {
        self.state = Arc::default();
        self.serving = false;
    }

    /// Looks whether the process began to serve or ended since the last look.
    pub fn turn(&mut self, stage: &mut Stage) -> Option<EventKind> {
        let (serves, leaves, end) = {
            let state = self.state.lock();
            (state.running.is_some(), state.leaves, state.end.clone())
        };
        if let Some(end) = end {
            let now = stage.now_ms();
            stage.kill(self.host, Death::Kill);
            self.died();
            let why = format!("{end:?}");
            match end {
                End::Stopped => {}
                End::Again => self.start_at_ms = now,
                End::Failed(what) => {
                    self.start_at_ms = now + AGAIN_MS;
                    self.token_refused = what.contains("join token");
                }
                End::Refused(why) => {
                    self.wanted = false;
                    self.retired = Some(why);
                }
            }
            return Some(EventKind::Ended { why });
        }
        if leaves {
            self.serving = false;
        } else if serves && !self.serving {
            self.serving = true;
            self.joined = true;
            return Some(EventKind::Serving);
        }
        None
    }
}

/// What `posthoused` does around a node.
async fn process(
    config: Config,
    env: posthouse_node::env::Env,
    stop: CancellationToken,
    state: Arc<Mutex<State>>,
) {
    let end = match Node::start(config, env, stop).await {
        Ok(node) => {
            state.lock().running = Some(Arc::downgrade(node.running()));
            let fault = node.ended().await;
            state.lock().leaves = true;
            match fault {
                None => {
                    node.stop().await;
                    End::Stopped
                }
                Some(Fault::IndexDamaged(_)) => {
                    node.stop().await;
                    End::Again
                }
                Some(fault) => End::Failed(fault.to_string()),
            }
        }
        Err(e) => match e {
            StartError::Stopped => End::Stopped,
            StartError::Fault(Fault::IndexDamaged(_)) => End::Again,
            StartError::Copied { .. }
            | StartError::Replaced { .. }
            | StartError::Gone { .. }
            | StartError::Anonymous(_)
            | StartError::Identity(IdentityError::Invalid { .. }) => End::Refused(e.to_string()),
            _ => End::Failed(e.to_string()),
        },
    };
    state.lock().end = Some(end);
}
