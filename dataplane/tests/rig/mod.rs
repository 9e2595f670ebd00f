//! Real workers between rings that stand for wires: the test holds the far end of each, and may
//! let any of them fill up.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use crossbeam_queue::ArrayQueue;
use crossbeam_utils::CachePadded;
use dataplane::address::Protocol;
use dataplane::buffer::PacketBuffer;
use dataplane::counters::{Event, WorkerCounters};
use dataplane::dpdk::{
    Burst, Consumer, Eal, LcoreId, Mempool, Port, PortConfig, QueuePair, Ring, Running, RxQueue,
    Started, TxQueue, launch,
};
use dataplane::packet::builder::PacketBuilder;
use dataplane::packet::tcp::SYN;
use dataplane::pipeline::world::{Plan, ServicePlan, World, endpoint, host_mac, port_mac};
use dataplane::service::Forward;
use dataplane::verdict::{DropReason, PortId, PuntClass, WorkerId};
use dataplane::worker::{Idle, IdleSwitch, Peers, Receive, Transmit, Worker};

/// Packets a `net_ring` device holds.
pub(crate) const WIRE: u64 = 1023;
/// Packets one of the rings between workers, or to the slow path, holds here.
pub(crate) const RING: u64 = 64;

/// Arguments that give EAL two lcores for workers on the CPUs there are.
pub(crate) fn lcores() -> String {
    let allowed = rustix::thread::sched_getaffinity(None).expect("our CPUs");
    let cpus: Vec<_> = (0..rustix::thread::CpuSet::MAX_CPU)
        .filter(|cpu| allowed.is_set(*cpu))
        .collect();
    format!("0@{0},1@{0},2@{1}", cpus[0], cpus[cpus.len() - 1])
}

/// A service of NAT behind 10.0.1.50:80 with one server.
pub(crate) fn plan() -> Plan {
    let service = ServicePlan::new(
        Protocol::Tcp,
        "10.0.1.50:80",
        Forward::Nat,
        &["10.0.2.11:8080"],
    );
    Plan {
        connections: 65_536,
        ..Plan::new(vec![service])
    }
}

/// The SYN of a client, on its port `flow`.
pub(crate) fn syn(flow: u16) -> PacketBuilder {
    let client = endpoint(&format!("10.0.1.100:{flow}"));
    PacketBuilder::tcp(client, endpoint("10.0.1.50:80"))
        .link(host_mac(client.ip()), port_mac(0))
        .flags(SYN)
}

/// A ping to the director itself.
pub(crate) fn ping() -> PacketBuilder {
    let client = endpoint("10.0.1.100:0").ip();
    PacketBuilder::icmp(client, endpoint("10.0.1.1:0").ip(), 8, 0)
        .link(host_mac(client), port_mac(0))
}

/// A device whose transmit queue is the other end of its receive queue.
pub(crate) struct Wire {
    port: Port<Started>,
}

impl Wire {
    /// Its two ends.
    pub(crate) fn new(pool: &'static Mempool) -> (Self, TxQueue, RxQueue) {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        Self::of(&format!("net_ring{number}"), pool)
    }

    /// Of this device, which may be of another kind.
    pub(crate) fn of(device: &str, pool: &'static Mempool) -> (Self, TxQueue, RxQueue) {
        let port = Port::open(device).expect("device");
        let (port, mut pairs) = port.start(&PortConfig::new(pool)).expect("starts");
        let QueuePair { rx, tx, .. } = pairs.remove(0);
        (Self { port }, tx.expect("a queue"), rx.expect("a queue"))
    }

    /// Frees what is on it; its ends must have been dropped.
    pub(crate) fn close(self) {
        self.port.stop().expect("stops").close().expect("closes");
    }
}

/// A worker, not running yet, and what the test shares with it.
pub(crate) struct Bench {
    worker: Option<Worker>,
    running: Option<Running>,
    stop: Arc<AtomicBool>,
    pub(crate) counters: Arc<CachePadded<WorkerCounters>>,
    /// The slow path's ends, by class.
    pub(crate) punted: Vec<Consumer>,
}

impl Bench {
    /// Worker `number` of `workers`, without queues.
    pub(crate) fn new(
        eal: &Eal,
        name: &str,
        plan: Plan,
        number: u8,
        workers: u8,
        pool: &'static Mempool,
    ) -> Self {
        let world = World::of_workers(plan, WorkerId(number), workers);
        let (pipeline, counters, asks) = world.into_parts();
        let (punt, punted): (Vec<_>, Vec<_>) = PuntClass::ALL
            .iter()
            .map(|class| {
                Ring::create(&format!("{name}_{number}_{class}"), RING as u32).expect("ring")
            })
            .unzip();
        let stop = Arc::new(AtomicBool::new(false));
        let worker = Worker {
            pipeline,
            receive: Vec::new(),
            transmit: Vec::new(),
            mempool: pool,
            punt,
            inject: None,
            peers: None,
            jobs: Arc::new(ArrayQueue::new(1)),
            asks,
            idle: Arc::new(IdleSwitch::new(Idle::Adaptive)),
            tsc_hz: eal.tsc_hz(),
            stop: Arc::clone(&stop),
            counters: Arc::clone(&counters),
        };
        Self {
            worker: Some(worker),
            running: None,
            stop,
            counters,
            punted,
        }
    }

    pub(crate) fn receives(mut self, port: u8, queue: RxQueue) -> Self {
        let port = PortId(port);
        self.parts().receive.push(Receive { port, queue });
        self
    }

    pub(crate) fn sends(mut self, port: u8, queue: TxQueue) -> Self {
        let port = PortId(port);
        self.parts().transmit.push(Transmit { port, queue });
        self
    }

    pub(crate) fn with(mut self, peers: Peers) -> Self {
        self.parts().peers = Some(peers);
        self
    }

    fn parts(&mut self) -> &mut Worker {
        self.worker.as_mut().expect("not started yet")
    }

    pub(crate) fn start(&mut self, lcore: LcoreId) {
        let worker = self.worker.take().expect("not started yet");
        self.running = Some(launch(lcore, move || worker.run()).expect("an idle lcore"));
    }

    /// Ends the worker; it frees what it has in hand.
    pub(crate) fn stop(self) {
        drop(self);
    }

    pub(crate) fn event(&self, event: Event) -> u64 {
        self.counters.event(event).value()
    }

    pub(crate) fn dropped(&self, reason: DropReason) -> u64 {
        self.counters.dropped(reason).value()
    }

    /// The worker's loop turns: `turns` times more, before long.
    pub(crate) fn turns(&self, turns: u64) {
        let from = self.counters.heartbeat.value();
        eventually("the worker's loop turns", || {
            self.counters.heartbeat.value() >= from + turns
        });
    }
}

/// Also of a test that fails, so that the others get the lcore.
impl Drop for Bench {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(running) = self.running.take() {
            running.join();
        }
    }
}

/// Puts frames on a wire, a burst at a time; waits while it is full.
pub(crate) fn send(
    wire: &mut TxQueue,
    pool: &'static Mempool,
    frames: impl Iterator<Item = Vec<u8>>,
) {
    let mut burst = Burst::<32>::new();
    let deadline = Instant::now() + PATIENCE;
    for frame in frames {
        let mut packet = pool.alloc().expect("the pool is larger than all rings");
        assert!(packet.fill(&frame));
        burst.push(packet).expect("an empty burst");
        while !burst.is_empty() {
            if wire.tx(&mut burst) == 0 {
                assert!(Instant::now() < deadline, "nobody takes from the wire");
                std::thread::yield_now();
            }
        }
    }
}

/// What is on a wire now.
pub(crate) fn take(wire: &mut RxQueue) -> Vec<Vec<u8>> {
    let mut burst = Burst::<32>::new();
    let mut frames = Vec::new();
    while wire.rx(&mut burst) > 0 {
        frames.extend(burst.drain().map(|packet| packet.data().to_vec()));
    }
    frames
}

/// Empties a ring; how many were in it.
pub(crate) fn drain(ring: &mut Consumer) -> u64 {
    let mut drained = 0;
    while ring.pop().is_some() {
        drained += 1;
    }
    drained
}

/// Waits for what other threads do; a busy machine may need long.
pub(crate) fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "waited in vain until {what}");
        std::thread::sleep(Duration::from_micros(200));
    }
}

const PATIENCE: Duration = Duration::from_secs(30);
