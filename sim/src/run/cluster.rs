//! The cluster on its stage: steps the world, starts what should run, keeps the timeline.

use std::collections::BTreeMap;
use std::future::Future;
use std::path::Path;
use std::sync::Arc;

use futures::future::{BoxFuture, FutureExt};
use parking_lot::Mutex;
use posthouse_client::connect::{Terms, Wiring};
use posthouse_client::{Client, Settings};
use posthouse_node::env::Env;
use posthouse_node::identity::uuid_text;

use super::nodes::{DATA, NodeSlot};
use crate::history::Record;
use crate::invariants::Findings;
use crate::outcome::{Event, EventKind, Stats};
use crate::plan::Plan;
use crate::trace::Trace;
use crate::workload::{Access, Workload};
use crate::world::HostId;
use crate::world::stage::{Death, Stage};

/// Everything of a run that time changes.
pub struct Cluster {
    /// The plan.
    pub plan: Plan,
    /// The world.
    pub stage: Stage,
    /// The nodes, as the plan numbers them, then those that were added.
    pub nodes: Vec<NodeSlot>,
    /// What went wrong so far.
    pub found: Findings,
    /// The timeline.
    pub events: Vec<Event>,
    /// Counts.
    pub stats: Stats,
    clients: Env,
    /// The id of the cluster, once it has one.
    cluster_id: Option<String>,
    records: Arc<Mutex<Vec<Record>>>,
    /// The numbers that the cluster gave to the nodes, by those of the plan.
    pub node_ids: BTreeMap<u32, u32>,
}

impl Cluster {
    /// Nothing runs yet but the clients' host.
    pub fn new(plan: &Plan, trace: Trace) -> Cluster {
        let mut stage = Stage::new(plan, trace);
        let clients = stage.boot(HostId::CLIENTS);
        let slots = plan.nodes.iter().enumerate();
        let nodes = slots.map(|(n, node)| NodeSlot::new(plan, HostId::node(n as u32), node.zone));
        Cluster {
            plan: plan.clone(),
            nodes: nodes.collect(),
            stage,
            found: Findings::default(),
            events: Vec::new(),
            stats: Stats::default(),
            clients,
            cluster_id: None,
            records: Arc::default(),
            node_ids: BTreeMap::new(),
        }
    }

    /// ms since the start of the run.
    pub fn now_ms(&self) -> u64 {
        self.stage.now_ms()
    }

    /// Puts something on the timeline and into the trace.
    pub fn event(&mut self, node: Option<u32>, kind: EventKind) {
        let at_ms = self.now_ms();
        let who = node.map_or_else(|| "run".to_owned(), |n| format!("node{n}"));
        self.stage
            .trace()
            .event(self.stage.now_us(), format_args!("{who} {kind:?}"));
        self.events.push(Event { at_ms, node, kind });
    }

    /// Reports a violation, on the timeline too.
    pub fn violated(&mut self, invariant: &str, node: Option<u32>, what: String) {
        self.found.now_ms = self.now_ms();
        self.found.report(invariant, node, what);
    }

    /// The node that runs on a host.
    pub fn node_of(&self, host: HostId) -> Option<u32> {
        let n = self.nodes.iter().position(|n| n.host == host)?;
        Some(n as u32)
    }

    /// One slice of the world.
    pub fn step(&mut self) {
        let now = self.now_ms();
        for n in 0..self.nodes.len() {
            let node = &mut self.nodes[n];
            if node.wanted && node.start_at_ms <= now && !node.is_up(&self.stage) {
                let event = node.start(&mut self.stage);
                self.event(Some(n as u32), event);
            }
        }
        for host in self.stage.step() {
            if let Some(n) = self.node_of(host) {
                let again = self.now_ms() + 20;
                let node = &mut self.nodes[n as usize];
                node.died();
                node.start_at_ms = node.start_at_ms.max(again);
                self.event(Some(n), EventKind::Ended { why: "died".into() });
            }
        }
        for n in 0..self.nodes.len() {
            let was_gone = self.nodes[n].retired.is_some();
            if let Some(event) = self.nodes[n].turn(&mut self.stage) {
                if let Some(running) = self.nodes[n].running() {
                    self.node_ids.insert(n as u32, running.node.0);
                    // The first that ever serves is the one that forms the cluster.
                    let identity = &running.peers.identity;
                    if self.cluster_id.is_none() {
                        self.cluster_id = Some(uuid_text(&identity.cluster_id));
                    }
                }
                self.event(Some(n as u32), event);
                let node = &self.nodes[n];
                let refused = node.retired.clone().filter(|_| !was_gone);
                if let Some(why) = refused.filter(|_| !node.may_refuse) {
                    let what = format!("refuses to start for good, and nothing has hurt it: {why}");
                    self.violated("liveness", Some(n as u32), what);
                }
            }
        }
    }

    /// Kills a node's process, to be started again at a time.
    pub fn kill(&mut self, n: u32, death: Death, start_at_ms: u64, why: &str) {
        let node = &mut self.nodes[n as usize];
        node.start_at_ms = start_at_ms;
        if node.is_up(&self.stage) {
            self.stage.kill(node.host, death);
            node.died();
            self.event(Some(n), EventKind::Ended { why: why.into() });
        }
    }

    /// A node joins through one member, whose address it is given. Where that one is gone for good,
    /// the operator names another: the address of a machine that is never back leads nowhere, and the
    /// node tries it for a minute before it says so. One that has its identity asks no member again.
    pub fn redirect(&mut self) {
        for n in 0..self.nodes.len() {
            let node = &self.nodes[n];
            if node.joined || node.retired.is_some() {
                continue;
            }
            let identity = Path::new(DATA).join("identity.json");
            let named = |m: &NodeSlot| m.addr() == node.config.join;
            let mut gone = self.nodes.iter().filter(|m| m.retired.is_some());
            let other = self.nodes.iter().find(|m| m.serves());
            let taken_in = self.stage.host(node.host).disk.content(&identity).is_some();
            if !gone.any(named) || taken_in {
                continue;
            }
            if let Some(addr) = other.map(NodeSlot::addr) {
                self.nodes[n].config.join = addr;
                let now = self.now_ms();
                let why = "the member through which it joins is gone";
                self.kill(n as u32, Death::Kill, now, why);
            }
        }
    }

    /// Starts something on a host; where its result will be.
    pub fn spawn_on<T: Send + 'static>(
        &mut self,
        host: HostId,
        what: impl Future<Output = T> + Send + 'static,
    ) -> Option<Arc<Mutex<Option<T>>>> {
        let slot = Arc::new(Mutex::new(None));
        let out = Arc::clone(&slot);
        let life = self.stage.host(host).life.as_ref()?;
        life.runtime().spawn(async move {
            let result = what.await;
            *out.lock() = Some(result);
        });
        Some(slot)
    }

    fn wiring(&self) -> Wiring {
        let (rpc, rng) = (Arc::clone(&self.clients.rpc), Arc::clone(&self.clients.rng));
        Wiring {
            dial: Arc::new(move |addr: &str| {
                let channel = rpc.channel(addr, Terms::CLIENT);
                channel.map_err(|e| posthouse_client::Error::bad_request("addr", e))
            }),
            entropy: Arc::new(move |out: &mut [u8]| rng.fill(out)),
        }
    }

    /// A client of the cluster for an operator, on the clients' host. Operators know which cluster
    /// is theirs: each of these clients is new, and one that met a stranger at the address of a node
    /// first would take its cluster for this one, and let new nodes join there.
    pub fn client(&self) -> Client {
        self.client_factory(self.cluster_id.clone())(0)
    }

    fn client_factory(
        &self,
        cluster_id: Option<String>,
    ) -> Arc<dyn Fn(u32) -> Client + Send + Sync> {
        let addrs: Vec<String> = self
            .nodes
            .iter()
            .filter(|n| n.joined)
            .map(NodeSlot::addr)
            .collect();
        let wiring = self.wiring();
        let clients = self.stage.host(HostId::CLIENTS).life.as_ref();
        let runtime = clients
            .expect("the clients never die")
            .runtime()
            .handle()
            .clone();
        Arc::new(move |number| {
            // A channel of HTTP/2 has a task from the beginning on.
            let _inside = runtime.enter();
            // Each begins with another node.
            let mut addrs = addrs.clone();
            let n = addrs.len().max(1);
            addrs.rotate_left(number as usize % n);
            let settings = Settings {
                cluster_id: cluster_id.clone(),
                wiring: wiring.clone(),
                ..Settings::default()
            };
            Client::new(&addrs, settings).expect("addresses of this world are well-formed")
        })
    }

    /// The operations of the plan, ready to run on the clients' host.
    pub fn workload(&self) -> Workload {
        let addrs: Vec<String> = self.nodes.iter().map(|n| n.config.lmtp.clone()).collect();
        let net = Arc::clone(&self.clients.net);
        let queue = self.stage.net().queue().clone();
        let records = Arc::clone(&self.records);
        let connect = move |node: u32| -> BoxFuture<'static, _> {
            let addr = addrs[node as usize % addrs.len()].clone();
            let net = Arc::clone(&net);
            async move { net.connect(&addr).await }.boxed()
        };
        let access = Access {
            client: self.client_factory(None),
            connect: Arc::new(connect),
            now_ms: Arc::new(move || queue.now_us() / 1000),
            record: Arc::new(move |record| records.lock().push(record)),
        };
        Workload::new(&self.plan, access)
    }

    /// The records that came since the last call.
    pub fn take_records(&mut self) -> Vec<Record> {
        std::mem::take(&mut *self.records.lock())
    }
}
