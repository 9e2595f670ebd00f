//! The worker: one pinned lcore that polls its queues and runs every packet to completion.
//!
//! `rx burst → pipeline → move packets by verdict → tx burst`, with the clock read once per burst.
//! It never locks, allocates, logs or makes a system call per packet (what locks a new connection may
//! take, `pipeline` says); what it cannot decide goes
//! to the control core through rings, and everything it gives up is counted (DESIGN §2, §3).

use crate::buffer::PacketBuffer;
use crate::connection::Millis;
use crate::counters::{Event, WorkerCounters};
use crate::dpdk::{Burst, Consumer, Mbuf, Mempool, Producer, RxQueue, TxQueue, tsc};
use crate::forwarding::NeighbourState;
use crate::job::Job;
use crate::pipeline::{BURST, FROM_STACK, Outcome, Pass, Pipeline, Spare, WaitingRoom};
use crate::verdict::{DropReason, Neighbour, PortId, Verdict};
use arrayvec::ArrayVec;
use crossbeam_queue::ArrayQueue;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// What a worker does when its queues are empty.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Idle {
    /// Spins: lowest latency, needs a CPU of its own.
    Busy,
    /// Sleeps a little: at most 20 µs while any connection is alive, 100 µs otherwise.
    Adaptive,
}

/// The idling in force, changed by control at any time.
#[derive(Debug)]
pub struct IdleSwitch(AtomicBool);

impl IdleSwitch {
    /// Starts with `idle`.
    pub fn new(idle: Idle) -> Self {
        Self(AtomicBool::new(idle == Idle::Busy))
    }

    /// From the next loop on.
    pub fn set(&self, idle: Idle) {
        self.0.store(idle == Idle::Busy, Ordering::Relaxed);
    }

    fn current(&self) -> Idle {
        if self.0.load(Ordering::Relaxed) {
            Idle::Busy
        } else {
            Idle::Adaptive
        }
    }
}

/// Empty polls in a row before an adaptive worker sleeps.
const PATIENCE: u32 = 64;
const SLEEP_ALIVE: Duration = Duration::from_micros(20);
const SLEEP_EMPTY: Duration = Duration::from_micros(100);
/// Rounds and pause of [`Outbox::reap`], at stop only.
const REAP_ROUNDS: u32 = 10;
const REAP_PAUSE: Duration = Duration::from_millis(2);
/// How often the waiting room is looked at without news, in milliseconds.
const WAITING_INTERVAL_MS: u64 = 50;

/// A receive queue and the port it belongs to.
#[derive(Debug)]
pub struct Receive {
    /// Sluice's port, not DPDK's.
    pub port: PortId,
    /// The queue.
    pub queue: RxQueue,
}

/// A transmit queue and the port it belongs to.
#[derive(Debug)]
pub struct Transmit {
    /// Sluice's port, not DPDK's.
    pub port: PortId,
    /// The queue.
    pub queue: TxQueue,
}

/// A worker's ends of the rings between workers.
#[derive(Debug)]
pub struct Peers {
    /// By [`WorkerId`](crate::verdict::WorkerId): packets for their owner; `None` at its own place.
    pub redirect_out: Vec<Option<Producer>>,
    /// Packets this worker owns, from each of the others.
    pub redirect_in: Vec<Consumer>,
    /// By [`PortId`]: to the worker that sends for this one on a port where it has no queue.
    pub relay_out: Vec<Option<Producer>>,
    /// Packets to send for workers without a queue.
    pub relay_in: Vec<Consumer>,
}

/// What a worker is made of.
#[derive(Debug)]
pub struct Worker {
    /// Its pipeline.
    pub pipeline: Pipeline,
    /// Its receive queues.
    pub receive: Vec<Receive>,
    /// Its transmit queues; of several for one port the first is used.
    pub transmit: Vec<Transmit>,
    /// Where packets of its own making come from.
    pub mempool: &'static Mempool,
    /// To the slow path, one ring per class in the order of
    /// [`PuntClass::ALL`](crate::verdict::PuntClass::ALL).
    pub punt: Vec<Producer>,
    /// From the Linux stack; `None` for all workers but one.
    pub inject: Option<Consumer>,
    /// To and from the other workers; `None` if there are none.
    pub peers: Option<Peers>,
    /// Jobs from control.
    pub jobs: Arc<ArrayQueue<Arc<Job>>>,
    /// Neighbours control should have resolved.
    pub asks: Arc<ArrayQueue<Neighbour>>,
    /// What to do without packets.
    pub idle: Arc<IdleSwitch>,
    /// TSC ticks per second.
    pub tsc_hz: u64,
    /// Set to end [`Worker::run`].
    pub stop: Arc<AtomicBool>,
    /// Counters shared with control.
    pub counters: Arc<crossbeam_utils::CachePadded<WorkerCounters>>,
}

impl Worker {
    /// Polls until `stop` is set. Then every packet in hand is freed and the queues are dropped,
    /// so that their ports can be stopped.
    pub fn run(self) {
        let Self {
            mut pipeline,
            mut receive,
            transmit,
            mempool,
            punt,
            mut inject,
            peers,
            jobs,
            asks,
            idle,
            tsc_hz,
            stop,
            counters,
        } = self;
        let clock = Clock::new(tsc_hz);
        let (redirect_out, mut redirect_in, relay_out, mut relay_in) = match peers {
            Some(peers) => (
                peers.redirect_out,
                peers.redirect_in,
                peers.relay_out,
                peers.relay_in,
            ),
            None => Default::default(),
        };
        let mut outbox = Outbox::new(transmit, relay_out, mempool, Arc::clone(&counters));
        let mut rings = Rings {
            punt,
            redirect: redirect_out,
        };
        let mut desk = Desk {
            burst: Burst::new(),
            verdicts: [Verdict::Drop(DropReason::Frame); BURST],
            doomed: Burst::new(),
            turned_away: Burst::new(),
            waiting: WaitingRoom::default(),
            held: (0..pipeline.fragment_seats()).map(|_| None).collect(),
        };
        let mut empty_polls = 0;
        let mut next_look = Millis(0);
        // When the last turn began, if it found packets. It ends where the next begins: reading the clock is half
        // of what this function itself costs, so once in each turn has to do.
        let mut busy_since = None;
        precise_sleep();
        while !stop.load(Ordering::Relaxed) {
            #[cfg(feature = "test-hooks")]
            crate::stall::here(pipeline.worker());
            counters.heartbeat.add(1);
            let news = pipeline.refresh();
            let ticks = tsc();
            if let Some(since) = busy_since.take() {
                counters
                    .event(Event::BusyTicks)
                    .add(ticks.wrapping_sub(since));
            }
            let now = clock.at(ticks);
            let mut work = 0;
            for Receive { port, queue } in &mut receive {
                let received = queue.rx(&mut desk.burst);
                if received == 0 {
                    continue;
                }
                work += received;
                desk.receive(*port, &counters);
                desk.run(
                    &mut pipeline,
                    &mut outbox,
                    &mut rings,
                    &asks,
                    now,
                    Pass::First,
                );
            }
            for ring in &mut redirect_in {
                let received = ring.dequeue_burst(&mut desk.burst);
                if received == 0 {
                    continue;
                }
                work += received;
                counters.event(Event::RedirectedIn).add(received as u64);
                let pass = Pass::Redirected;
                desk.run(&mut pipeline, &mut outbox, &mut rings, &asks, now, pass);
            }
            for ring in &mut relay_in {
                work += desk.transmit(ring, &mut outbox);
            }
            if let Some(inject) = &mut inject {
                let injected = inject.dequeue_burst(&mut desk.burst);
                if injected > 0 {
                    counters.event(Event::Injected).add(injected as u64);
                    work += injected;
                    for packet in desk.burst.as_mut_slice() {
                        packet.set_port(packet.port() | FROM_STACK);
                    }
                    // Linux may be one of the servers: its replies leave as the VIP's.
                    let pass = Pass::First;
                    desk.run(&mut pipeline, &mut outbox, &mut rings, &asks, now, pass);
                }
            }
            if !desk.waiting.is_empty() && (news || now >= next_look) {
                next_look = Millis(now.0 + WAITING_INTERVAL_MS);
                desk.retry(&mut pipeline, &mut outbox, &mut rings, &asks, now);
            }
            outbox.flush_all();
            counters.waiting.set(desk.waiting.len() as u64);
            pipeline.maintain(now);
            while let Some((seat, _)) = pipeline.next_discarded() {
                desk.held[usize::from(seat.0)] = None;
            }
            // Popping from an empty queue is a full memory fence.
            if pipeline.is_idle()
                && !jobs.is_empty()
                && let Some(job) = jobs.pop()
            {
                pipeline.start(job);
            }
            pipeline.work(now);

            if work > 0 {
                counters.event(Event::BusyPolls).add(1);
                busy_since = Some(ticks);
                empty_polls = 0;
                continue;
            }
            counters.event(Event::EmptyPolls).add(1);
            match idle.current() {
                // Not even a pause: it would be half of what an empty poll takes.
                Idle::Busy => {}
                Idle::Adaptive if empty_polls < PATIENCE || !pipeline.is_idle() => empty_polls += 1,
                Idle::Adaptive => {
                    counters.event(Event::Sleeps).add(1);
                    std::thread::sleep(match pipeline.connections() {
                        0 => SLEEP_EMPTY,
                        _ => SLEEP_ALIVE,
                    });
                }
            }
        }
        outbox.flush_all();
        outbox.reap();
        counters
            .dropped(DropReason::Stopping)
            .add((desk.waiting.len() + desk.held.iter().flatten().count()) as u64);
        desk.waiting.clear();
        desk.held.fill_with(|| None);
        while let Some(job) = jobs.pop() {
            job.finish();
        }
        pipeline.abandon();
    }
}

/// Rings that verdicts lead into.
struct Rings {
    punt: Vec<Producer>,
    redirect: Vec<Option<Producer>>,
}

/// What lies on the worker's desk: the burst in hand and the packets put aside.
struct Desk {
    burst: Burst<BURST>,
    verdicts: [Verdict; BURST],
    doomed: Burst<BURST>,
    /// For neighbours that do not answer, and no seat is left.
    turned_away: Burst<BURST>,
    waiting: WaitingRoom<Mbuf>,
    /// Fragments that wait for the first of their datagram, by seat.
    held: Box<[Option<Mbuf>]>,
}

impl Desk {
    /// Stamps and counts a burst fresh from `port`.
    fn receive(&mut self, port: PortId, counters: &WorkerCounters) {
        let mut bytes = 0;
        for packet in self.burst.as_mut_slice() {
            bytes += packet.len() as u64;
            packet.set_port(u16::from(port.0));
        }
        counters
            .event(Event::RxPackets)
            .add(self.burst.len() as u64);
        counters.event(Event::RxBytes).add(bytes);
    }

    /// Runs the burst through the pipeline, and then the fragments that it had waited for.
    fn run(
        &mut self,
        pipeline: &mut Pipeline,
        outbox: &mut Outbox,
        rings: &mut Rings,
        asks: &ArrayQueue<Neighbour>,
        now: Millis,
        pass: Pass,
    ) {
        self.run_burst(pipeline, outbox, rings, asks, now, pass);
        while let Some(seat) = pipeline.next_released() {
            let packet = self.held[usize::from(seat.0)].take();
            if let Some(Err(packet)) = packet.map(|packet| self.burst.push(packet)) {
                // Cannot be: a full burst is run at once.
                drop(packet);
            }
            if self.burst.is_full() {
                self.run_burst(pipeline, outbox, rings, asks, now, Pass::Held);
            }
        }
        if !self.burst.is_empty() {
            self.run_burst(pipeline, outbox, rings, asks, now, Pass::Held);
        }
    }

    /// Runs the burst through the pipeline and moves each packet where its verdict says.
    fn run_burst(
        &mut self,
        pipeline: &mut Pipeline,
        outbox: &mut Outbox,
        rings: &mut Rings,
        asks: &ArrayQueue<Neighbour>,
        now: Millis,
        pass: Pass,
    ) {
        let packets = self.burst.len();
        pipeline.process(
            self.burst.as_mut_slice(),
            &mut self.verdicts[..packets],
            now,
            pass,
            outbox,
        );
        let counters = pipeline.counters();
        // By reference: the array has 576 bytes, however few packets there are.
        for (packet, verdict) in self.burst.drain().zip(&self.verdicts) {
            match *verdict {
                Verdict::Tx(port) => outbox.transmit(port, packet),
                Verdict::Punt(class) => {
                    // Counted here, once it is known which: a packet is punted or dropped, not both.
                    match rings.punt[class as usize].push(packet) {
                        Ok(()) => counters.punted(class).add(1),
                        Err(packet) => {
                            counters.dropped(class.full()).add(1);
                            drop(self.doomed.push(packet));
                        }
                    }
                }
                Verdict::Wait(neighbour) => {
                    let state = pipeline.forwarding().neighbour(neighbour);
                    let failed = state == Some(NeighbourState::Failed);
                    match self.waiting.enter(packet, neighbour, failed, now) {
                        Ok(ask) => {
                            counters.event(Event::Waited).add(1);
                            if ask {
                                // A full queue means many questions are under way; this one is
                                // repeated while the packet waits.
                                let _ = asks.push(neighbour);
                            }
                        }
                        Err(packet) if failed => drop(self.turned_away.push(packet)),
                        Err(packet) => {
                            counters.dropped(DropReason::WaitFull).add(1);
                            drop(self.doomed.push(packet));
                        }
                    }
                }
                Verdict::Redirect(owner) => {
                    let ring = rings.redirect.get_mut(usize::from(owner.0));
                    match ring.and_then(Option::as_mut).map(|ring| ring.push(packet)) {
                        Some(Ok(())) => counters.event(Event::RedirectedOut).add(1),
                        Some(Err(packet)) => {
                            counters.dropped(DropReason::RedirectFull).add(1);
                            drop(self.doomed.push(packet));
                        }
                        // Freed with the option: there is no such worker.
                        None => counters.dropped(DropReason::RedirectFull).add(1),
                    }
                }
                Verdict::Hold(seat) => self.held[usize::from(seat.0)] = Some(packet),
                Verdict::Drop(_) => drop(self.doomed.push(packet)),
            }
        }
        self.doomed.clear();
        outbox.send_late();
        if !self.turned_away.is_empty() {
            // The sender need not wait to be told; this pass lets nobody wait.
            std::mem::swap(&mut self.burst, &mut self.turned_away);
            let pass = Pass::Retry(Outcome::Failed);
            self.run_burst(pipeline, outbox, rings, asks, now, pass);
        }
    }

    /// Sends what workers without a queue made ready; returns how many packets.
    fn transmit(&mut self, ring: &mut Consumer, outbox: &mut Outbox) -> usize {
        let packets = ring.dequeue_burst(&mut self.burst);
        if packets > 0 {
            for packet in self.burst.drain() {
                let port = PortId(packet.port() as u8);
                outbox.transmit(port, packet);
            }
        }
        packets
    }

    /// Runs the packets whose wait is over.
    fn retry(
        &mut self,
        pipeline: &mut Pipeline,
        outbox: &mut Outbox,
        rings: &mut Rings,
        asks: &ArrayQueue<Neighbour>,
        now: Millis,
    ) {
        loop {
            let mut ready = ArrayVec::<(Mbuf, Outcome), BURST>::new();
            self.waiting.leave(
                pipeline.forwarding(),
                now,
                BURST,
                |packet, outcome| ready.push((packet, outcome)),
                |neighbour| {
                    // A full queue: asked again later.
                    let _ = asks.push(neighbour);
                },
            );
            let round = ready.len();
            for (packet, outcome) in ready {
                if outcome == Outcome::Resolved {
                    pipeline.counters().event(Event::WaitResolved).add(1);
                }
                // Cannot be full: the burst was just drained.
                drop(self.burst.push(packet));
                self.run(pipeline, outbox, rings, asks, now, Pass::Retry(outcome));
            }
            if round < BURST {
                return;
            }
        }
    }
}

/// Packets on their way out, a burst per port.
struct Outbox {
    queues: Vec<Transmit>,
    /// By [`PortId`]: the ring to whoever sends on a port where this worker has no queue.
    relay: Vec<Option<Producer>>,
    /// By [`PortId`]: the index in `queues`, and the burst being filled.
    ports: Vec<(Option<usize>, Burst<BURST>)>,
    /// Fragments made while a burst was processed; they follow it.
    late: Vec<(PortId, Mbuf)>,
    mempool: &'static Mempool,
    counters: Arc<crossbeam_utils::CachePadded<WorkerCounters>>,
}

/// Fragments of one burst that may wait to follow it.
const LATE: usize = BURST * 64;

impl Outbox {
    fn new(
        transmit: Vec<Transmit>,
        relay: Vec<Option<Producer>>,
        mempool: &'static Mempool,
        counters: Arc<crossbeam_utils::CachePadded<WorkerCounters>>,
    ) -> Self {
        let ports = transmit
            .iter()
            .map(|transmit| usize::from(transmit.port.0) + 1)
            .max()
            .unwrap_or(0)
            .max(relay.len());
        let ports = (0..ports)
            .map(|port| {
                let queue = transmit.iter().position(|t| usize::from(t.port.0) == port);
                (queue, Burst::new())
            })
            .collect();
        Self {
            queues: transmit,
            relay,
            ports,
            late: Vec::with_capacity(LATE),
            mempool,
            counters,
        }
    }

    fn send_late(&mut self) {
        let mut late = std::mem::take(&mut self.late);
        for (port, packet) in late.drain(..) {
            self.transmit(port, packet);
        }
        self.late = late;
    }

    /// Puts a packet into the burst of its port.
    fn transmit(&mut self, port: PortId, packet: Mbuf) {
        let index = usize::from(port.0);
        if let Some((Some(_), burst)) = self.ports.get_mut(index) {
            // Never full here: a full burst is flushed at once, and what is refused is dropped.
            drop(burst.push(packet));
            if burst.is_full() {
                self.flush(index);
            }
            return;
        }
        let Some(relay) = self.relay.get_mut(index).and_then(Option::as_mut) else {
            self.counters.dropped(DropReason::PortDown).add(1);
            return;
        };
        let mut packet = packet;
        packet.set_port(u16::from(port.0));
        if relay.push(packet).is_err() {
            self.counters.dropped(DropReason::RedirectFull).add(1);
        }
    }

    /// Gives the drivers the chance to free what they have sent: some do so only when asked to
    /// send, so the buffers of the last burst would never come back.
    fn reap(&mut self) {
        for _ in 0..REAP_ROUNDS {
            for transmit in &mut self.queues {
                transmit.queue.tx(&mut Burst::<1>::new());
            }
            std::thread::sleep(REAP_PAUSE);
        }
    }

    fn flush_all(&mut self) {
        for port in 0..self.ports.len() {
            if !self.ports[port].1.is_empty() {
                self.flush(port);
            }
        }
    }

    /// Gives a burst to the device: again while it takes some, then the rest is dropped and
    /// counted.
    fn flush(&mut self, port: usize) {
        let Some((Some(queue), burst)) = self.ports.get_mut(port) else {
            return;
        };
        if burst.is_empty() {
            return;
        }
        let packets = burst.len();
        let bytes: u64 = burst.as_slice().iter().map(|p| p.len() as u64).sum();
        while !burst.is_empty() && self.queues[*queue].queue.tx(burst) > 0 {}
        let refused = burst.len();
        let refused_bytes: u64 = burst.as_slice().iter().map(|p| p.len() as u64).sum();
        let counters = &self.counters;
        if refused > 0 {
            counters.dropped(DropReason::TxFull).add(refused as u64);
            burst.clear();
        }
        counters
            .event(Event::TxPackets)
            .add((packets - refused) as u64);
        counters.event(Event::TxBytes).add(bytes - refused_bytes);
    }
}

impl Spare<Mbuf> for Outbox {
    fn allocate(&mut self) -> Option<Mbuf> {
        self.mempool.alloc()
    }

    fn send(&mut self, port: PortId, packet: Mbuf) {
        if self.late.len() < LATE {
            self.late.push((port, packet));
        } else {
            self.counters.dropped(DropReason::NoBuffer).add(1);
        }
    }
}

/// Milliseconds since the worker started, from the TSC.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    start: u64,
    /// Milliseconds per tick, as a 64-bit fraction.
    scale: u64,
}

impl Clock {
    /// A clock that starts now.
    pub fn new(tsc_hz: u64) -> Self {
        Self {
            start: tsc(),
            scale: ((1000_u128 << 64) / u128::from(tsc_hz.max(1001))) as u64,
        }
    }

    /// Milliseconds since the start.
    #[inline]
    pub fn now(&self) -> Millis {
        self.at(tsc())
    }

    /// Milliseconds from the start to a reading of the time-stamp counter.
    #[inline]
    pub fn at(&self, ticks: u64) -> Millis {
        let ticks = ticks.wrapping_sub(self.start);
        Millis(((u128::from(ticks) * u128::from(self.scale)) >> 64) as u64)
    }
}

/// Lets short sleeps be short: the kernel's default slack of 50 µs would double them.
fn precise_sleep() {
    if let Err(error) = rustix::thread::set_current_timer_slack(std::num::NonZeroU64::new(1)) {
        log::warn!("cannot set the timer slack, idle latency will be higher: {error}");
    }
}
