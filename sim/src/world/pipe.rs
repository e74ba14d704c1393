//! A connection between two processes: what is sent arrives in order, after a while, or the
//! connection breaks. Byte streams and message-level calls are both made of it.
//!
//! TCP's part of the bargain (RFC 9293): packets that do not get through are sent again until they
//! do or until the connection is given up; what is sent to a process that is gone is answered by a
//! reset if its machine runs, and by silence if not, until it runs again; a window bounds what is
//! under way.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use http::HeaderMap;
use parking_lot::Mutex;

use super::HostId;
use super::fence::Fence;
use super::link::Passage;
use super::message::{ASKS_US, PATIENCE_US};
use super::net::Net;

/// What travels.
#[derive(Clone)]
pub enum Item {
    /// The opening: where to, from where, and, for a call, its head.
    Open(Box<Opening>),
    /// Octets.
    Data(Bytes),
    /// The head of a response.
    Head(Box<http::response::Parts>),
    /// Trailers of a body.
    Trailers(HeaderMap),
    /// Nothing more comes.
    Fin,
}

/// How a connection is opened.
#[derive(Clone)]
pub struct Opening {
    /// Where to, `host:port`.
    pub addr: String,
    /// From where, as the other side sees it.
    pub peer: String,
    /// Head of a call; `None`: a byte stream.
    pub call: Option<http::request::Parts>,
}

impl Item {
    fn size(&self) -> usize {
        match self {
            Item::Data(octets) => octets.len().max(1),
            _ => 1,
        }
    }
}

/// How a connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Broken {
    /// Nobody listens there.
    Refused,
    /// The other side is gone.
    Reset,
    /// Nothing got through for too long.
    TimedOut,
}

impl Broken {
    /// As a socket reports it.
    pub fn io(self) -> std::io::Error {
        use std::io::ErrorKind::*;
        match self {
            Broken::Refused => ConnectionRefused.into(),
            Broken::Reset => ConnectionReset.into(),
            Broken::TimedOut => TimedOut.into(),
        }
    }
}

/// Which of the two ends: the one that opened the connection, or the one that accepted it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// Opened it.
    Caller = 0,
    /// Accepted it.
    Callee = 1,
}

impl Side {
    fn other(self) -> Side {
        match self {
            Side::Caller => Side::Callee,
            Side::Callee => Side::Caller,
        }
    }
}

#[derive(Default)]
struct End {
    /// Which process; the callee's is known once the opening has arrived.
    process: Option<(HostId, Fence)>,
    broken: Option<Broken>,
    gone: bool,
    reader: Option<Waker>,
    writer: Option<Waker>,
    arrived: VecDeque<Item>,
    /// Octets sent from here that the other side has not said to have read.
    in_flight: usize,
    /// Octets read here since that was last said.
    read: usize,
    /// When the last packet from here arrives.
    last_us: u64,
    /// Packets in order sent from here, and those of them that the other side has got.
    sent: u64,
    got: u64,
    /// Packets from here that have overtaken one that is sent again.
    early: BTreeMap<u64, Item>,
    /// The end of what is sent from here is on its way.
    finished: bool,
    /// The end of what the other side sends was read here.
    got_fin: bool,
}

impl End {
    /// Why nothing more can be sent from here.
    fn over(&self) -> Option<Broken> {
        self.broken.or(self.gone.then_some(Broken::Reset))
    }
}

/// Something on its way.
#[derive(Clone)]
struct Packet {
    /// From which end.
    side: Side,
    item: Item,
    /// Its place among those of this end; `None`: it may come in any order.
    number: Option<u64>,
    /// When it was sent first.
    since: u64,
    /// After how long it is sent once more.
    again: u64,
}

struct Inner {
    ends: [End; 2],
    established: bool,
}

/// One connection.
pub struct Pipe {
    net: Net,
    to: HostId,
    window: usize,
    /// Whether what the caller sends may come twice or in another order.
    orderless: bool,
    /// How long a packet is sent again and again.
    patience_us: u64,
    inner: Mutex<Inner>,
}

/// First pause before a packet is sent again; doubled each time up to the second.
const AGAIN_US: u64 = 200_000;
const AGAIN_MAX_US: u64 = 1_600_000;

impl Pipe {
    /// A connection from a process to a host; nothing is sent yet.
    pub fn new(
        net: &Net,
        from: (HostId, Fence),
        to: HostId,
        window: usize,
        patience_us: u64,
        orderless: bool,
    ) -> Arc<Pipe> {
        let mut ends = [End::default(), End::default()];
        ends[0].process = Some(from);
        let pipe = Arc::new(Pipe {
            net: net.clone(),
            to,
            window,
            orderless,
            patience_us,
            inner: Mutex::new(Inner {
                ends,
                established: false,
            }),
        });
        net.register(&pipe);
        pipe
    }

    /// How long an end bears silence before it gives the connection up.
    pub fn patience_us(&self) -> u64 {
        self.patience_us
    }

    /// The hosts between which its packets travel: the caller's and the one whose address is called.
    pub fn hosts(&self) -> (HostId, HostId) {
        let inner = self.inner.lock();
        let from = inner.ends[0].process.as_ref().map_or(self.to, |p| p.0);
        (from, self.to)
    }

    /// Whether one of its ends belongs to a process of this host. An address may have been taken by
    /// another host than its own: who listens there turns out when the opening arrives.
    pub fn ends_at(&self, host: HostId) -> bool {
        let inner = self.inner.lock();
        let of = |end: &End| end.process.as_ref().map_or(self.to, |p| p.0);
        inner.ends.iter().any(|end| of(end) == host)
    }

    fn host(&self, side: Side) -> HostId {
        let (caller, callee) = self.hosts();
        match side {
            Side::Caller => caller,
            Side::Callee => callee,
        }
    }

    /// Whether this side's process is dead, in which case nothing it does has an effect.
    fn dead(inner: &Inner, side: Side) -> bool {
        match &inner.ends[side as usize].process {
            Some((_, fence)) => fence.is_dead(),
            None => false,
        }
    }

    /// Whether the process that had this end is dead.
    pub fn is_dead(&self, side: Side) -> bool {
        Self::dead(&self.inner.lock(), side)
    }

    /// Waits for room to send.
    pub fn poll_room(&self, side: Side, cx: &mut Context<'_>) -> Poll<Result<(), Broken>> {
        let mut inner = self.inner.lock();
        if Self::dead(&inner, side) {
            return Poll::Pending;
        }
        let end = &mut inner.ends[side as usize];
        if let Some(broken) = end.over() {
            return Poll::Ready(Err(broken));
        }
        if end.in_flight >= self.window {
            end.writer = Some(cx.waker().clone());
            return Poll::Pending;
        }
        Poll::Ready(Ok(()))
    }

    /// Sends; what the process of a dead life sends goes nowhere.
    pub fn send(self: &Arc<Self>, side: Side, item: Item) {
        let now = self.net.queue().now_us();
        let (from, to) = (self.host(side), self.host(side.other()));
        let orderless = self.orderless && side == Side::Caller && matches!(item, Item::Data(_));
        let mut inner = self.inner.lock();
        if Self::dead(&inner, side) || inner.ends[side as usize].broken.is_some() {
            return;
        }
        if matches!(item, Item::Fin)
            && std::mem::replace(&mut inner.ends[side as usize].finished, true)
        {
            return;
        }
        let end = &mut inner.ends[side as usize];
        end.in_flight += item.size();
        let passage = self.net.passage(from, to, orderless);
        self.net.sent(from);
        let after = match passage {
            Passage::After(after) | Passage::Twice(after, _) => after,
            Passage::Reset => {
                drop(inner);
                self.break_both(Broken::Reset);
                return;
            }
        };
        let mut at = now + after;
        let mut number = None;
        if !orderless {
            at = at.max(end.last_us);
            end.last_us = at;
            number = Some(end.sent);
            end.sent += 1;
        }
        drop(inner);
        let packet = Packet {
            side,
            item,
            number,
            since: now,
            again: AGAIN_US,
        };
        if let Passage::Twice(_, again) = passage {
            self.arrive_at(now + again, packet.clone());
        }
        self.arrive_at(at, packet);
    }

    fn arrive_at(self: &Arc<Self>, at: u64, packet: Packet) {
        let pipe = Arc::clone(self);
        let action = Box::new(move || pipe.arrive(packet));
        self.net.queue().at(at, action);
    }

    /// A packet reaches the other host, or does not.
    fn arrive(self: Arc<Self>, packet: Packet) {
        let now = self.net.queue().now_us();
        let Packet { side, number, .. } = packet;
        let (from, to) = (self.host(side), self.host(side.other()));
        if self.inner.lock().ends[side.other() as usize]
            .broken
            .is_some()
        {
            return;
        }
        // What may come in any order waits for the opening all the same.
        let opened = number.is_some() || self.inner.lock().ends[1].process.is_some();
        // To a machine that is off, too: a sender whose window is full has nothing else to send, and
        // hears by this alone that the machine is back and knows nothing of the connection.
        if !self.net.open(from, to) || !self.net.is_up(to) || !opened {
            // A machine that is off sends nothing again.
            if !self.net.is_up(from) {
                return;
            }
            if now - packet.since > self.patience_us {
                self.break_both(Broken::TimedOut);
                return;
            }
            // What is sent later arrives later.
            let at = now + packet.again;
            let mut inner = self.inner.lock();
            let last = &mut inner.ends[side as usize].last_us;
            *last = (*last).max(at);
            drop(inner);
            let again = (packet.again * 2).min(AGAIN_MAX_US);
            self.arrive_at(at, Packet { again, ..packet });
            return;
        }
        self.net.delivered(from, to, packet.item.size());
        let Some(number) = number else {
            self.hand_over(side, packet.item, now);
            return;
        };
        let mut inner = self.inner.lock();
        let end = &inner.ends[side as usize];
        // Nobody waits for what is missing where the process is gone: any packet gets a reset.
        if number > end.got && !Self::dead(&inner, side.other()) {
            inner.ends[side as usize].early.insert(number, packet.item);
            return;
        }
        let mut next = Some(packet.item);
        while let Some(item) = next {
            inner.ends[side as usize].got += 1;
            drop(inner);
            self.hand_over(side, item, now);
            inner = self.inner.lock();
            let end = &mut inner.ends[side as usize];
            next = end.early.remove(&end.got);
        }
    }

    /// Gives what `side` has sent to the process at the other end, if there is one.
    fn hand_over(self: &Arc<Self>, side: Side, item: Item, now: u64) {
        if let Item::Open(opening) = item {
            match self.net.accept(&opening.addr) {
                Some((process, listener)) => {
                    self.inner.lock().ends[1].process = Some(process);
                    listener.push(Arc::clone(self), *opening);
                    let pipe = Arc::clone(self);
                    self.back(now, Box::new(move || pipe.establish()));
                }
                None => self.reset(now, Side::Caller, Broken::Refused),
            }
            return;
        }
        let mut inner = self.inner.lock();
        let end = &mut inner.ends[side.other() as usize];
        let dead = end
            .process
            .as_ref()
            .is_none_or(|(_, fence)| fence.is_dead());
        if dead || (end.gone && !matches!(item, Item::Fin)) {
            drop(inner);
            self.reset(now, side, Broken::Reset);
            return;
        }
        end.arrived.push_back(item);
        let reader = end.reader.take();
        drop(inner);
        if let Some(reader) = reader {
            reader.wake();
        }
    }

    /// Lets something happen at the caller's end after the way back.
    fn back(&self, now: u64, action: Box<dyn FnOnce() + Send>) {
        let (caller, callee) = self.hosts();
        let after = match self.net.passage(callee, caller, false) {
            Passage::After(after) | Passage::Twice(after, _) => after,
            Passage::Reset => 0,
        };
        self.net.queue().at(now + after, action);
    }

    fn establish(&self) {
        let mut inner = self.inner.lock();
        inner.established = true;
        let reader = inner.ends[0].reader.take();
        drop(inner);
        if let Some(reader) = reader {
            reader.wake();
        }
    }

    /// Tells one end that the other is gone, after the way there, if there is a way.
    fn reset(self: &Arc<Self>, now: u64, side: Side, broken: Broken) {
        let (from, to) = (self.host(side.other()), self.host(side));
        let after = match self.net.passage(from, to, false) {
            Passage::After(after) | Passage::Twice(after, _) => after,
            Passage::Reset => 0,
        };
        // Behind what was sent before.
        let behind = self.inner.lock().ends[side.other() as usize].last_us;
        let pipe = Arc::clone(self);
        let action = Box::new(move || match pipe.net.open(from, to) {
            true => pipe.break_end(side, broken),
            false => pipe.unheard(side),
        });
        self.net.queue().at((now + after).max(behind), action);
    }

    /// What this end was to be told has got lost: the other one is over. Byte streams ask by
    /// themselves, or do not; for a call keep-alive asks, and hears of it when there is a way again, or
    /// gives the silent peer up. Nobody else would: who only waits for an answer sends nothing.
    fn unheard(self: &Arc<Self>, side: Side) {
        if self.patience_us != PATIENCE_US {
            return;
        }
        let now = self.net.queue().now_us();
        let (from, to) = (self.host(side.other()), self.host(side));
        let asked = Arc::clone(self);
        let ask = Box::new(move || {
            let there_and_back = asked.net.open(to, from) && asked.net.open(from, to);
            if there_and_back && asked.net.is_up(from) {
                asked.break_end(side, Broken::Reset);
            }
        });
        self.net.queue().at(now + ASKS_US, ask);
        let late = Arc::clone(self);
        let late = Box::new(move || late.break_end(side, Broken::TimedOut));
        self.net.queue().at(now + PATIENCE_US, late);
    }

    /// The process of one end is gone and its machine says so to the other.
    pub fn process_gone(self: &Arc<Self>, host: HostId) {
        let now = self.net.queue().now_us();
        for side in [Side::Caller, Side::Callee] {
            let gone = {
                let inner = self.inner.lock();
                let end = &inner.ends[side as usize];
                end.process
                    .as_ref()
                    .is_some_and(|(h, f)| *h == host && f.is_dead())
            };
            if gone {
                self.reset(now, side.other(), Broken::Reset);
            }
        }
    }

    /// One end is told that the connection is over.
    pub fn break_end(&self, side: Side, broken: Broken) {
        let mut inner = self.inner.lock();
        let end = &mut inner.ends[side as usize];
        if end.gone {
            return;
        }
        end.broken.get_or_insert(broken);
        let wakers = [end.reader.take(), end.writer.take()];
        drop(inner);
        wakers.into_iter().flatten().for_each(Waker::wake);
    }

    /// Both ends are told, at once: for what both find out by themselves.
    pub fn break_both(&self, broken: Broken) {
        self.break_end(Side::Caller, broken);
        self.break_end(Side::Callee, broken);
    }

    /// The next thing that arrived at this end.
    pub fn poll_recv(
        self: &Arc<Self>,
        side: Side,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Item, Broken>> {
        let mut inner = self.inner.lock();
        if Self::dead(&inner, side) {
            return Poll::Pending;
        }
        let end = &mut inner.ends[side as usize];
        let Some(item) = end.arrived.pop_front() else {
            if let Some(broken) = end.broken {
                return Poll::Ready(Err(broken));
            }
            end.reader = Some(cx.waker().clone());
            return Poll::Pending;
        };
        end.read += item.size();
        end.got_fin |= matches!(item, Item::Fin);
        let credit = match end.read >= self.window / 2 {
            true => std::mem::take(&mut end.read),
            false => 0,
        };
        drop(inner);
        if credit > 0 {
            let now = self.net.queue().now_us();
            let (from, to) = (self.host(side), self.host(side.other()));
            let after = match self.net.passage(from, to, false) {
                Passage::After(after) | Passage::Twice(after, _) => after,
                Passage::Reset => 0,
            };
            let pipe = Arc::clone(self);
            let action = Box::new(move || pipe.credit(side.other(), credit));
            self.net.queue().at(now + after, action);
        }
        Poll::Ready(Ok(item))
    }

    fn credit(&self, side: Side, octets: usize) {
        let mut inner = self.inner.lock();
        let end = &mut inner.ends[side as usize];
        end.in_flight = end.in_flight.saturating_sub(octets);
        let writer = end.writer.take();
        drop(inner);
        if let Some(writer) = writer {
            writer.wake();
        }
    }

    /// Waits until the other side has taken the connection.
    pub fn poll_established(&self, cx: &mut Context<'_>) -> Poll<Result<(), Broken>> {
        let mut inner = self.inner.lock();
        if Self::dead(&inner, Side::Caller) {
            return Poll::Pending;
        }
        if let Some(broken) = inner.ends[0].broken {
            return Poll::Ready(Err(broken));
        }
        if inner.established {
            return Poll::Ready(Ok(()));
        }
        inner.ends[0].reader = Some(cx.waker().clone());
        Poll::Pending
    }

    /// Whether this end is over; wakes the reader when it is.
    pub fn poll_broken(&self, side: Side, cx: &mut Context<'_>) -> Poll<Broken> {
        let mut inner = self.inner.lock();
        if Self::dead(&inner, side) {
            return Poll::Pending;
        }
        let end = &mut inner.ends[side as usize];
        match end.over() {
            Some(broken) => Poll::Ready(broken),
            None => {
                end.writer = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }

    /// This end of a byte stream is closed by its process: what comes for it from now on is
    /// answered by a reset.
    pub fn leave(self: &Arc<Self>, side: Side) {
        let rest = {
            let mut inner = self.inner.lock();
            let end = &mut inner.ends[side as usize];
            if end.over().is_some() || Self::dead(&inner, side) {
                return;
            }
            let end = &mut inner.ends[side as usize];
            (
                end.reader.take(),
                end.writer.take(),
                std::mem::take(&mut end.arrived),
            )
        };
        drop(rest);
        self.send(side, Item::Fin);
        self.inner.lock().ends[side as usize].gone = true;
    }

    /// This end of a call is given up by its process. The other side hears of it unless all was
    /// said: a caller that has its whole answer, a callee that has given it.
    pub fn cancel(self: &Arc<Self>, side: Side) {
        let (said, writer) = {
            let mut inner = self.inner.lock();
            let end = &mut inner.ends[side as usize];
            let over = end.over().is_some();
            end.gone = true;
            let said = end.finished && (side == Side::Callee || end.got_fin);
            let writer = end.writer.take();
            if over || Self::dead(&inner, side) {
                return;
            }
            (said, writer)
        };
        if let Some(writer) = writer {
            writer.wake();
        }
        if !said {
            self.reset(self.net.queue().now_us(), side.other(), Broken::Reset);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan;
    use crate::trace::Trace;
    use crate::world::link::Rule;
    use crate::world::queue::Queue;

    #[test]
    fn octets_stay_in_order_when_some_of_them_are_sent_again() {
        let queue = Queue::default();
        let settings = plan::Network {
            delay_ms: 2,
            jitter_ms: 5,
            zone_delay_ms: 0,
        };
        let net = Net::new(queue.clone(), Trace::new(false), 1, &settings);
        let (from, to) = (HostId(0), HostId(1));
        net.set_up(from, true);
        net.set_up(to, true);
        let acceptor = net.bind("b:1", (to, Fence::default())).unwrap();
        let caller = (from, Fence::default());
        let pipe = Pipe::new(&net, caller, to, 1 << 20, 60_000_000, false);
        let opening = Opening {
            addr: "b:1".into(),
            peer: "a:1".into(),
            call: None,
        };
        pipe.send(Side::Caller, Item::Open(Box::new(opening)));
        let mut cx = Context::from_waker(Waker::noop());
        let (mut rule, mut got) = (0, Vec::new());
        for ms in 0..8000_u64 {
            queue.set_now_us(ms * 1000);
            queue.run_due();
            match ms % 47 {
                20 => rule = net.links().add(Rule::OneWay(from, to)),
                23 => net.links().remove(rule),
                _ => {}
            }
            if ms < 1000 {
                let octets = Bytes::copy_from_slice(&ms.to_be_bytes());
                pipe.send(Side::Caller, Item::Data(octets));
            }
            while let Poll::Ready(Ok(Item::Data(octets))) = pipe.poll_recv(Side::Callee, &mut cx) {
                got.push(octets);
            }
        }
        let sent: Vec<_> = (0..1000_u64).map(|n| n.to_be_bytes().to_vec()).collect();
        assert_eq!(got, sent);
        assert!(acceptor.poll_next(&mut cx).is_ready());
    }

    /// A network of two hosts, and an opening for the second.
    fn two_hosts() -> (Net, HostId, HostId, Item) {
        let settings = plan::Network {
            delay_ms: 2,
            jitter_ms: 0,
            zone_delay_ms: 0,
        };
        let net = Net::new(Queue::default(), Trace::new(false), 1, &settings);
        let (from, to) = (HostId(0), HostId(1));
        net.set_up(from, true);
        net.set_up(to, true);
        let opening = Opening {
            addr: "b:1".into(),
            peer: "a:1".into(),
            call: None,
        };
        (net, from, to, Item::Open(Box::new(opening)))
    }

    fn pass(net: &Net, ms: std::ops::Range<u64>) {
        for ms in ms {
            net.queue().set_now_us(ms * 1000);
            net.queue().run_due();
        }
    }

    #[test]
    fn a_full_window_learns_that_the_machine_is_back() {
        let (net, from, to, open) = two_hosts();
        let life = Fence::default();
        let _acceptor = net.bind("b:1", (to, life.clone())).unwrap();
        let caller = (from, Fence::default());
        let pipe = Pipe::new(&net, caller, to, 1000, 20_000_000, false);
        let mut cx = Context::from_waker(Waker::noop());
        pipe.send(Side::Caller, open);
        pass(&net, 0..10);
        life.kill();
        net.set_up(to, false);
        net.power_gone(to, 6_000_000);
        pipe.send(Side::Caller, Item::Data(vec![0_u8; 2000].into()));
        pass(&net, 10..150);
        assert!(pipe.poll_room(Side::Caller, &mut cx).is_pending());
        net.set_up(to, true);
        pass(&net, 150..1000);
        let room = pipe.poll_room(Side::Caller, &mut cx);
        assert_eq!(room, Poll::Ready(Err(Broken::Reset)));
    }

    #[test]
    fn a_machine_that_stays_off_is_given_up() {
        let (net, from, to, open) = two_hosts();
        net.set_up(to, false);
        let caller = (from, Fence::default());
        let pipe = Pipe::new(&net, caller, to, 1000, 4_000_000, false);
        let mut cx = Context::from_waker(Waker::noop());
        pipe.send(Side::Caller, open);
        pass(&net, 0..4000);
        assert!(pipe.poll_established(&mut cx).is_pending());
        pass(&net, 4000..6000);
        let taken = pipe.poll_established(&mut cx);
        assert_eq!(taken, Poll::Ready(Err(Broken::TimedOut)));
    }

    #[test]
    fn a_machine_that_comes_back_takes_what_was_opened_meanwhile() {
        let (net, from, to, open) = two_hosts();
        net.set_up(to, false);
        let caller = (from, Fence::default());
        let pipe = Pipe::new(&net, caller, to, 1000, 20_000_000, false);
        let mut cx = Context::from_waker(Waker::noop());
        pipe.send(Side::Caller, open);
        pipe.send(Side::Caller, Item::Data("first".into()));
        pass(&net, 0..300);
        let _acceptor = net.bind("b:1", (to, Fence::default())).unwrap();
        net.set_up(to, true);
        pipe.send(Side::Caller, Item::Data("second".into()));
        pass(&net, 300..2000);
        let taken = pipe.poll_established(&mut cx);
        assert_eq!(taken, Poll::Ready(Ok(())));
        for octets in ["first", "second"] {
            let got = pipe.poll_recv(Side::Callee, &mut cx);
            assert!(matches!(got, Poll::Ready(Ok(Item::Data(o))) if o == octets));
        }
    }

    #[test]
    fn a_process_that_is_gone_resets_its_connections_at_whatever_address_it_was() {
        for machine in [HostId(1), HostId(4)] {
            let (net, from, named, open) = two_hosts();
            net.set_up(machine, true);
            let callee = (machine, Fence::default());
            let _acceptor = net.bind("b:1", callee.clone()).unwrap();
            let caller = (from, Fence::default());
            let pipe = Pipe::new(&net, caller, named, 1 << 20, 60_000_000, false);
            pipe.send(Side::Caller, open);
            let mut cx = Context::from_waker(Waker::noop());
            pass(&net, 0..10);
            assert_eq!(pipe.poll_established(&mut cx), Poll::Ready(Ok(())));
            assert!(pipe.poll_broken(Side::Caller, &mut cx).is_pending());
            callee.1.kill();
            net.process_gone(machine);
            pass(&net, 10..20);
            let broken = pipe.poll_broken(Side::Caller, &mut cx);
            assert_eq!(broken, Poll::Ready(Broken::Reset), "{machine:?}");
        }
    }
}
