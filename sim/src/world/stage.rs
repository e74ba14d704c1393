//! The stage: all hosts, and the step of the world.

use std::sync::Arc;

use posthouse_gateway::spool::{MemorySpool, Spool};
use posthouse_gateway::tls::{Source, Tls, TlsError};
use posthouse_node::env::Env;
use posthouse_node::env::certificates::Certificates;
use posthouse_node::env::compute::AtOnce;
use posthouse_node::env::rpc::{Http2, Rpc};
use posthouse_node::env::spool::Spools;

use super::HostId;
use super::bytes::Sockets;
use super::clock::SimClock;
use super::disk::SimDisk;
use super::host::Life;
use super::index::SimIndex;
use super::message::MessageRpc;
use super::net::Net;
use super::queue::Queue;
use super::rng::SimRng;
use super::turn::Turn;
use crate::plan::{Plan, Transport};
use crate::trace::Trace;

/// The wall clock at the beginning of every run: 2026-01-01T00:00:00Z.
pub const EPOCH_MS: u64 = 1_767_225_600_000;
/// How long others wait for a machine that is silent, µs.
const SILENCE_US: u64 = super::message::PATIENCE_US;

/// How a process dies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Death {
    /// Killed: the machine goes on, and its page cache with it.
    Kill,
    /// Its machine loses power.
    Power,
}

/// One machine.
pub struct Host {
    /// Which.
    pub id: HostId,
    /// Its disk.
    pub disk: SimDisk,
    /// The index in its data directory.
    pub index: SimIndex,
    /// Its wall clock.
    pub clock: SimClock,
    /// Its process, if one runs.
    pub life: Option<Life>,
    /// Lives so far.
    pub incarnation: u32,
    /// How much faster its time passes, parts per million.
    pub ppm: i32,
    /// Until when it stands still, µs.
    pub paused_until_us: u64,
    /// How it dies when its fence is raised in the middle of a slice.
    pub death: Death,
    polls_before: u64,
    time_us: u64,
}

/// The whole world.
pub struct Stage {
    seed: u64,
    transport: Transport,
    disk: crate::plan::Disk,
    trace: Trace,
    net: Net,
    slice_us: u64,
    now_us: u64,
    hosts: Vec<Host>,
}

impl Stage {
    /// A world with the clients' host and one for each node of the plan, all without power.
    pub fn new(plan: &Plan, trace: Trace) -> Stage {
        let queue = Queue::default();
        let net = Net::new(queue, trace.clone(), plan.seed, &plan.network);
        let mut stage = Stage {
            seed: plan.seed,
            transport: plan.transport,
            disk: plan.disk.clone(),
            trace,
            net,
            slice_us: plan.network.delay_ms.max(1) * 1000,
            now_us: 0,
            hosts: Vec::new(),
        };
        stage.add_host(0);
        for node in &plan.nodes {
            stage.add_host(node.zone);
        }
        stage
    }

    /// One more machine.
    pub fn add_host(&mut self, zone: u32) -> HostId {
        let id = HostId(self.hosts.len() as u32);
        self.net.links().place(id, zone);
        let clock = SimClock::new(EPOCH_MS);
        let number = u64::from(id.0);
        let disk = SimDisk::new(self.seed, number, &self.disk, clock.time().clone());
        self.hosts.push(Host {
            id,
            index: SimIndex::new(self.seed, number, &disk),
            disk,
            clock,
            life: None,
            incarnation: 0,
            ppm: 0,
            paused_until_us: 0,
            death: Death::Kill,
            polls_before: 0,
            time_us: self.now_us,
        });
        id
    }

    /// The network.
    pub fn net(&self) -> &Net {
        &self.net
    }

    /// The trace.
    pub fn trace(&self) -> &Trace {
        &self.trace
    }

    /// µs since the start of the run.
    pub fn now_us(&self) -> u64 {
        self.now_us
    }

    /// ms since the start of the run.
    pub fn now_ms(&self) -> u64 {
        self.now_us / 1000
    }

    /// Length of a slice, µs.
    pub fn slice_us(&self) -> u64 {
        self.slice_us
    }

    /// A host.
    pub fn host(&self, id: HostId) -> &Host {
        &self.hosts[id.0 as usize]
    }

    /// A host, to change it.
    pub fn host_mut(&mut self, id: HostId) -> &mut Host {
        &mut self.hosts[id.0 as usize]
    }

    /// Polls of tasks on all hosts so far.
    pub fn polls(&self) -> u64 {
        let live = |h: &Host| h.life.as_ref().map_or(0, Life::polls);
        self.hosts.iter().map(|h| h.polls_before + live(h)).sum()
    }

    /// Starts a machine and a process on it, which does nothing yet. Gives its world.
    pub fn boot(&mut self, id: HostId) -> Env {
        let (seed, transport, net) = (self.seed, self.transport, self.net.clone());
        let now_us = self.now_us;
        let host = &mut self.hosts[id.0 as usize];
        debug_assert!(host.life.is_none());
        host.incarnation += 1;
        let life = Life::new(seed, id, host.incarnation);
        let fence = life.fence().clone();
        host.life = Some(life);
        host.paused_until_us = 0;
        host.time_us = host.time_us.max(now_us);
        net.set_up(id, true);
        let sockets = Sockets::new(net.clone(), id, fence.clone());
        let sockets: Arc<dyn posthouse_node::env::net::Net> = Arc::new(sockets);
        let rpc: Arc<dyn Rpc> = match transport {
            Transport::Http2 => Arc::new(Http2::new(Arc::clone(&sockets))),
            Transport::Message => Arc::new(MessageRpc::new(net, id, fence.clone())),
        };
        let lives = u64::from(id.0) << 32 | u64::from(host.incarnation);
        Env {
            clock: host.clock.for_process(),
            disk: host.disk.process(fence.clone()),
            net: sockets,
            rpc,
            rng: Arc::new(SimRng::new(seed, "process", lives)),
            index: host.index.process(fence),
            spool: Arc::new(InMemory),
            compute: Arc::new(AtOnce),
            certificates: Arc::new(NoTls),
        }
    }

    /// A process dies now.
    pub fn kill(&mut self, id: HostId, death: Death) {
        let host = &mut self.hosts[id.0 as usize];
        if let Some(life) = &host.life {
            life.fence().kill();
            host.death = death;
            self.bury(id);
        }
    }

    /// The end of a process whose fence is raised.
    fn bury(&mut self, id: HostId) {
        let host = &mut self.hosts[id.0 as usize];
        let Some(life) = host.life.take() else { return };
        host.polls_before += life.polls();
        let power = host.death == Death::Power;
        match power {
            true => host.disk.power_failure(),
            false => host.disk.kill(),
        }
        host.index.crash(power);
        match power {
            true => {
                self.net.set_up(id, false);
                self.net.power_gone(id, SILENCE_US);
            }
            false => self.net.process_gone(id),
        }
        self.trace
            .note(&[self.now_us, u64::from(id.0), life.polls()]);
        let _turn = Turn::begin(id, host.time_us);
        drop(life);
    }

    /// One slice; gives the hosts whose process died in it.
    pub fn step(&mut self) -> Vec<HostId> {
        let now = self.now_us;
        self.net.queue().set_now_us(now);
        self.net.queue().run_due();
        let mut dead = Vec::new();
        for host in &mut self.hosts {
            let passed = self.slice_us as i64 * i64::from(host.ppm) / 1_000_000;
            host.time_us += (self.slice_us as i64 + passed) as u64;
            host.clock.time().set(host.time_us / 1000);
            let Some(life) = &mut host.life else { continue };
            if host.paused_until_us > now {
                continue;
            }
            let _turn = Turn::begin(host.id, host.time_us);
            life.run(now, self.slice_us, host.ppm);
            if life.fence().is_dead() {
                dead.push(host.id);
            }
        }
        self.now_us += self.slice_us;
        self.net.queue().set_now_us(self.now_us);
        for id in &dead {
            self.bury(*id);
        }
        dead
    }

    /// Notes how much every host has done, for the hash.
    pub fn note_polls(&self) {
        let done = self.net.queue().done();
        self.trace.note(&[self.now_us, self.polls(), done]);
        if self.trace.keeps_lines() {
            let live = |h: &Host| h.life.as_ref().map_or(0, Life::polls);
            let polls: Vec<u64> = self
                .hosts
                .iter()
                .map(|h| h.polls_before + live(h))
                .collect();
            self.trace.aside(
                self.now_us,
                format_args!("world polls {polls:?}, packets {done}"),
            );
        }
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        // Processes first: at their end they still send.
        self.hosts.clear();
        self.net.end();
    }
}

/// TLS cannot be simulated: doors here speak in the clear.
struct NoTls;

impl Certificates for NoTls {
    fn open(&self, _: Source) -> Result<Option<Tls>, TlsError> {
        Ok(None)
    }
}

struct InMemory;

impl Spools for InMemory {
    fn open(&self, _: &std::path::Path) -> Arc<dyn Spool> {
        Arc::new(MemorySpool)
    }
}
