//! The workers of a node, and how often each has its turn.

use super::announce::Announce;
use super::start::Starting;
use crate::api::cluster::Running;
use crate::identity::KeptIdentity;
use crate::machine::Event;
use crate::machine::command::NodeInfo;
use crate::mailbox::Operations;
use crate::types::*;
use crate::workers::compaction::Compaction;
use crate::workers::leaders::Leaders;
use crate::workers::missing::Missing;
use crate::workers::reap::Reap;
use crate::workers::recall::Recall;
use crate::workers::scrub::Scrub;
use crate::workers::space::SpaceWatch;
use crate::workers::transfers::Transfers;
use parking_lot::Mutex;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;
use tokio::sync::{Notify, mpsc};

/// The workers that look after what is stored.
pub(super) struct Storage {
    pub space: Arc<SpaceWatch>,
    /// Told when the journal has taken more of the disk.
    pub grown: Arc<Notify>,
    pub scrub: Arc<Scrub>,
    pub compaction: Arc<Compaction>,
    pub missing: Arc<Missing>,
}

impl Starting {
    /// Starts the workers.
    pub(super) fn work(
        &self,
        running: &Arc<Running>,
        (mut events, ops): (
            mpsc::UnboundedReceiver<(ShardId, Vec<Event>)>,
            Arc<Operations>,
        ),
        file: Arc<KeptIdentity>,
        info: NodeInfo,
        asked: BTreeSet<NodeId>,
        storage: Storage,
    ) {
        let workers = &running.workers;
        let ms = Duration::from_millis;
        let placer = Arc::clone(&running.placer);
        workers.every("placement", ms(500), move || {
            let placer = Arc::clone(&placer);
            async move { placer.hold().await }
        });
        let placer = Arc::clone(&running.placer);
        workers.every("members", ms(300), move || {
            let placer = Arc::clone(&placer);
            async move { placer.members().await }
        });
        let placer = Arc::clone(&running.placer);
        workers.every("planner", ms(1000), move || {
            let placer = Arc::clone(&placer);
            async move { placer.plan().await }
        });
        let leaders = Arc::new(Leaders::new(
            Arc::clone(running.groups.shards()),
            Arc::clone(&running.placement),
        ));
        workers.every("leaders", ms(1000), move || {
            let leaders = Arc::clone(&leaders);
            async move { leaders.turn().await }
        });
        let persist = Arc::clone(&running.persist);
        workers.every("persist", ms(250), move || {
            let persist = Arc::clone(&persist);
            async move { persist.turn().await }
        });
        let reap = Arc::new(Reap::new(
            Arc::clone(running.groups.shards()),
            Arc::clone(&self.env.clock),
        ));
        workers.every("reap", ms(1000), move || {
            let reap = Arc::clone(&reap);
            async move { reap.turn().await }
        });
        let hub = Arc::clone(ops.hub());
        let transfers = Arc::new(Transfers {
            shards: Arc::clone(running.groups.shards()),
            ops,
        });
        workers.every("transfers", ms(1000), move || {
            let transfers = Arc::clone(&transfers);
            async move { transfers.turn().await }
        });
        let recall = Arc::new(Recall {
            groups: Arc::clone(&running.groups),
            peers: Arc::clone(&running.peers),
            placement: Arc::clone(&running.placement),
            asked: Mutex::new(asked),
        });
        let announce = Arc::new(Announce {
            running: Arc::clone(running),
            info,
            file,
            recall: Arc::clone(&recall),
            faults: self.faults.clone(),
            turns: AtomicU64::new(0),
        });
        workers.every("announce", ms(1000), move || {
            let announce = Arc::clone(&announce);
            async move { announce.turn().await }
        });
        workers.every("recall", ms(1000), move || {
            let recall = Arc::clone(&recall);
            async move { recall.turn().await }
        });
        let Storage {
            space,
            grown,
            scrub,
            compaction,
            missing,
        } = storage;
        // Often, and with each file of the journal, because what is written between two looks goes
        // below the reserve.
        workers.every_or_when("disk", ms(100), grown, move || {
            let space = Arc::clone(&space);
            async move { space.turn().await }
        });
        workers.every("scrub", ms(1000), move || {
            let scrub = Arc::clone(&scrub);
            async move { scrub.turn().await }
        });
        workers.every("missing", ms(1000), move || {
            let missing = Arc::clone(&missing);
            async move { missing.turn().await }
        });
        let look = ms(self.config.compaction_every_ms);
        workers.every("compaction", look, move || {
            let compaction = Arc::clone(&compaction);
            async move { compaction.turn().await }
        });
        // A change of the placement takes effect at once, and watchers hear of accounts.
        let (placer, groups, stop) = (
            Arc::clone(&running.placer),
            Arc::clone(&running.groups),
            self.end.clone(),
        );
        tokio::spawn(async move {
            loop {
                let (shard, news) = tokio::select! {
                    () = stop.cancelled() => return,
                    event = events.recv() => match event {
                        Some(event) => event,
                        None => return,
                    },
                };
                if shard != ShardId::SYSTEM {
                    hub.publish(&news);
                    let placed = |e: &Event| matches!(e, Event::PlacementChanged { .. });
                    if news.iter().any(placed) {
                        // A snapshot was installed.
                        hub.interrupt();
                    }
                } else if let Some(system) = groups.shards().get(shard)
                    && let Err(e) = placer.load(&system)
                {
                    tracing::warn!("cannot read the placement: {e:#}");
                }
            }
        });
    }
}
