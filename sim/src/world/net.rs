//! The network: hosts that are up or not, listeners, connections, links.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, Waker};

use parking_lot::Mutex;

use super::HostId;
use super::fence::Fence;
use super::link::{Links, Passage};
use super::message;
use super::pipe::{Broken, Opening, Pipe, Side};
use super::queue::Queue;
use crate::plan;
use crate::trace::Trace;

/// The network of one world. Clones share it.
#[derive(Clone)]
pub struct Net(Arc<Inner>);

struct Inner {
    queue: Queue,
    trace: Trace,
    links: Mutex<Links>,
    up: Mutex<BTreeSet<HostId>>,
    listeners: Mutex<BTreeMap<String, Arc<Acceptor>>>,
    pipes: Mutex<Vec<Weak<Pipe>>>,
    ports: Mutex<u16>,
    /// Processes that die when they have sent so many more packets.
    armed: Mutex<BTreeMap<HostId, (u64, Fence)>>,
    /// Connections that are over on one side, and the side that has not heard of it.
    half_open: Mutex<Vec<(Weak<Pipe>, Side)>>,
}

/// A connection that waits to be accepted, and how it was opened.
pub type Arrival = (Arc<Pipe>, Opening);

/// A listening socket: connections that wait to be accepted.
pub struct Acceptor {
    process: (HostId, Fence),
    waiting: Mutex<(VecDeque<Arrival>, Option<Waker>)>,
}

impl Acceptor {
    /// A connection has arrived.
    pub fn push(&self, pipe: Arc<Pipe>, opening: Opening) {
        let mut waiting = self.waiting.lock();
        waiting.0.push_back((pipe, opening));
        let waker = waiting.1.take();
        drop(waiting);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// The next connection.
    pub fn poll_next(&self, cx: &mut Context<'_>) -> Poll<Arrival> {
        let mut waiting = self.waiting.lock();
        if self.process.1.is_dead() {
            return Poll::Pending;
        }
        match waiting.0.pop_front() {
            Some(next) => Poll::Ready(next),
            None => {
                waiting.1 = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }
}

impl Net {
    /// A network without hosts.
    pub fn new(queue: Queue, trace: Trace, seed: u64, settings: &plan::Network) -> Net {
        Net(Arc::new(Inner {
            queue,
            trace,
            links: Mutex::new(Links::new(seed, settings.clone())),
            up: Mutex::default(),
            listeners: Mutex::default(),
            pipes: Mutex::default(),
            ports: Mutex::new(0),
            armed: Mutex::default(),
            half_open: Mutex::default(),
        }))
    }

    /// The world ends: nothing travels any more, and nobody listens. Connections that wait to be
    /// accepted hold the network.
    pub(super) fn end(&self) {
        self.0.queue.end();
        let listeners = std::mem::take(&mut *self.0.listeners.lock());
        drop(listeners);
    }

    /// What will happen.
    pub fn queue(&self) -> &Queue {
        &self.0.queue
    }

    /// The links, to change their rules.
    pub fn links(&self) -> parking_lot::MutexGuard<'_, Links> {
        self.0.links.lock()
    }

    /// The machine runs (whatever runs on it), or has no power.
    pub fn set_up(&self, host: HostId, up: bool) {
        match up {
            true => self.0.up.lock().insert(host),
            false => self.0.up.lock().remove(&host),
        };
    }

    pub(super) fn is_up(&self, host: HostId) -> bool {
        self.0.up.lock().contains(&host)
    }

    pub(super) fn open(&self, from: HostId, to: HostId) -> bool {
        self.0.links.lock().open(from, to)
    }

    pub(super) fn passage(&self, from: HostId, to: HostId, orderless: bool) -> Passage {
        self.0.links.lock().passage(from, to, orderless)
    }

    pub(super) fn delivered(&self, from: HostId, to: HostId, size: usize) {
        let now = self.0.queue.now_us();
        let ends = u64::from(from.0) << 32 | u64::from(to.0);
        self.0.trace.note(&[now, ends, size as u64]);
    }

    /// Lets a process die when it has sent its `n`-th packet from now on.
    pub fn arm(&self, host: HostId, n: u64, fence: Fence) {
        self.0.armed.lock().insert(host, (n, fence));
    }

    /// The process dies of no packet any more.
    pub fn disarm(&self, host: HostId) {
        self.0.armed.lock().remove(&host);
    }

    pub(super) fn sent(&self, from: HostId) {
        let mut armed = self.0.armed.lock();
        if let Some((left, fence)) = armed.get_mut(&from) {
            *left = left.saturating_sub(1);
            if *left == 0 {
                fence.kill();
                armed.remove(&from);
            }
        }
    }

    pub(super) fn register(&self, pipe: &Arc<Pipe>) {
        let mut pipes = self.0.pipes.lock();
        if pipes.len() >= 64 && pipes.len().is_power_of_two() {
            pipes.retain(|p| p.strong_count() > 0);
        }
        pipes.push(Arc::downgrade(pipe));
    }

    fn pipes_of(&self, host: HostId) -> Vec<Arc<Pipe>> {
        let pipes = self.0.pipes.lock();
        let live = pipes.iter().filter_map(Weak::upgrade);
        live.filter(|p| p.ends_at(host)).collect()
    }

    /// A process on a machine that runs is gone: its kernel resets its connections.
    pub fn process_gone(&self, host: HostId) {
        self.0
            .listeners
            .lock()
            .retain(|_, l| l.process.0 != host || !l.process.1.is_dead());
        for pipe in self.pipes_of(host) {
            pipe.process_gone(host);
        }
    }

    /// A machine has lost power: nobody is told; who waits for it gives up after `patience_us`. A
    /// machine that runs again when keep-alive asks it knows nothing of the call, and says so.
    pub fn power_gone(&self, host: HostId, patience_us: u64) {
        self.0
            .listeners
            .lock()
            .retain(|_, l| l.process.0 != host || !l.process.1.is_dead());
        let now = self.0.queue.now_us();
        let at = now + patience_us;
        for pipe in self.pipes_of(host) {
            let (caller, callee) = pipe.hosts();
            let (own, side) = match caller == host {
                true => (Side::Caller, Side::Callee),
                false => (Side::Callee, Side::Caller),
            };
            // Byte streams ask by themselves, or do not.
            if pipe.patience_us() == message::PATIENCE_US {
                let (net, asked) = (self.clone(), Arc::clone(&pipe));
                let ask = Box::new(move || {
                    let there_and_back = net.open(caller, callee) && net.open(callee, caller);
                    if net.is_up(host) && there_and_back && asked.is_dead(own) {
                        asked.break_end(side, Broken::Reset);
                    }
                });
                self.0.queue.at(now + message::ASKS_US, ask);
            }
            let late = Box::new(move || pipe.break_end(side, Broken::TimedOut));
            self.0.queue.at(at, late);
        }
    }

    /// Ends all connections of a host on its own side. The others hear nothing of it: they find out
    /// when they have been met by silence for too long, or when the network has healed.
    pub fn half_open(&self, host: HostId) {
        let now = self.0.queue.now_us();
        for pipe in self.pipes_of(host) {
            let (caller, _) = pipe.hosts();
            let (own, other) = match caller == host {
                true => (Side::Caller, Side::Callee),
                false => (Side::Callee, Side::Caller),
            };
            pipe.break_end(own, Broken::TimedOut);
            let silent = Arc::downgrade(&pipe);
            self.0.half_open.lock().push((silent.clone(), other));
            let late = Box::new(move || {
                if let Some(pipe) = silent.upgrade() {
                    pipe.break_end(other, Broken::TimedOut);
                }
            });
            self.0.queue.at(now + pipe.patience_us(), late);
        }
    }

    /// Packets reach the ends that are over again, which answer with a reset.
    pub fn end_half_open(&self) {
        let silent = std::mem::take(&mut *self.0.half_open.lock());
        for (pipe, side) in silent {
            if let Some(pipe) = pipe.upgrade() {
                pipe.break_end(side, Broken::Reset);
            }
        }
    }

    /// Gives up every connection of a host that stands still.
    pub fn give_up(&self, host: HostId) {
        for pipe in self.pipes_of(host) {
            pipe.break_both(Broken::TimedOut);
        }
    }

    pub(super) fn accept(&self, addr: &str) -> Option<((HostId, Fence), Arc<Acceptor>)> {
        let listeners = self.0.listeners.lock();
        let listener = listeners.get(addr)?;
        if listener.process.1.is_dead() {
            return None;
        }
        Some((listener.process.clone(), Arc::clone(listener)))
    }

    /// Takes an address for a process.
    pub fn bind(&self, addr: &str, process: (HostId, Fence)) -> std::io::Result<Arc<Acceptor>> {
        let mut listeners = self.0.listeners.lock();
        if listeners.get(addr).is_some_and(|l| !l.process.1.is_dead()) {
            return Err(std::io::ErrorKind::AddrInUse.into());
        }
        let acceptor = Arc::new(Acceptor {
            process,
            waiting: Mutex::default(),
        });
        listeners.insert(addr.to_owned(), Arc::clone(&acceptor));
        Ok(acceptor)
    }

    /// Gives an address back.
    pub fn unbind(&self, addr: &str, acceptor: &Arc<Acceptor>) {
        let mut listeners = self.0.listeners.lock();
        if listeners
            .get(addr)
            .is_some_and(|l| Arc::ptr_eq(l, acceptor))
        {
            listeners.remove(addr);
        }
    }

    /// A port for an outgoing connection.
    pub(super) fn port(&self) -> u16 {
        let mut ports = self.0.ports.lock();
        *ports = (*ports + 1) % 20_000;
        40_000 + *ports
    }
}
