//! The rings between a worker and the slow path: punted packets by class one way, the Linux
//! stack's packets the other.

use super::devices::WorkerQueues;
use crate::kernel::slow_path::{InjectSink, PuntSource};
use dataplane::buffer::PacketBuffer;
use dataplane::dpdk::{Burst, Consumer, Mempool, Producer, Ring, RingError};
use dataplane::verdict::{PortId, PuntClass};
use dataplane::worker::Peers;

/// Packets a punt ring holds, by class: what keeps the box alive gets room for bursts.
const fn depth(class: PuntClass) -> u32 {
    match class {
        PuntClass::Vrrp | PuntClass::Arp => 512,
        PuntClass::Routing | PuntClass::Rest => 1024,
        PuntClass::Icmp => 256,
    }
}

/// Packets the inject ring holds.
const INJECT_DEPTH: u32 = 1024;

/// Packets a ring between two workers holds.
const PEER_DEPTH: u32 = 1024;

/// The worker's ends of the rings.
#[derive(Debug)]
pub(super) struct WorkerEnds {
    /// The rings to and from the others, if there are others.
    pub(super) peers: Option<Peers>,
    /// One per class, in the order of [`PuntClass::ALL`].
    pub(super) punt: Vec<Producer>,
    /// Only worker 0 sends for the Linux stack.
    pub(super) inject: Option<Consumer>,
}

/// The slow path's end of every worker's punt rings.
#[derive(Debug)]
pub(super) struct Punts {
    /// By worker, then by class.
    rings: Vec<Vec<Consumer>>,
    /// By class: the worker to be asked first next time, so that a busy one cannot use up the whole
    /// budget at the cost of the others.
    first: [usize; PuntClass::COUNT],
    burst: Burst,
}

/// The slow path's end of the inject ring.
#[derive(Debug)]
pub(super) struct Injector {
    ring: Producer,
    mempool: &'static Mempool,
}

/// Creates the rings between the workers: redirects from each to each other, and for every port a
/// way to send for those that have no queue there. `queues[w]` are the queues of worker `w`.
fn connect(queues: &[WorkerQueues], ports: usize) -> Result<Vec<Option<Peers>>, RingError> {
    let workers = queues.len();
    if workers < 2 {
        return Ok(queues.iter().map(|_| None).collect());
    }
    let mut peers: Vec<_> = (0..workers)
        .map(|_| Peers {
            redirect_out: (0..workers).map(|_| None).collect(),
            redirect_in: Vec::new(),
            relay_out: (0..ports).map(|_| None).collect(),
            relay_in: Vec::new(),
        })
        .collect();
    for from in 0..workers {
        for to in (0..workers).filter(|to| *to != from) {
            let (producer, consumer) = Ring::create(&format!("redirect_{from}_{to}"), PEER_DEPTH)?;
            peers[from].redirect_out[to] = Some(producer);
            peers[to].redirect_in.push(consumer);
        }
    }
    for port in 0..ports {
        let sends = |worker: &usize| {
            let transmit = &queues[*worker].transmit;
            transmit.iter().any(|t| usize::from(t.port.0) == port)
        };
        let senders: Vec<_> = (0..workers).filter(sends).collect();
        for from in (0..workers).filter(|worker| !senders.contains(worker)) {
            // Every device has a queue to send on, so there is at least one.
            let to = senders[from % senders.len()];
            let (producer, consumer) = Ring::create(&format!("relay_{from}_{port}"), PEER_DEPTH)?;
            peers[from].relay_out[port] = Some(producer);
            peers[to].relay_in.push(consumer);
        }
    }
    Ok(peers.into_iter().map(Some).collect())
}

/// Creates the rings of all workers, `queues[w]` being the queues of worker `w`.
pub(super) fn create(
    queues: &[WorkerQueues],
    ports: usize,
    mempool: &'static Mempool,
) -> Result<(Vec<WorkerEnds>, Punts, Injector), RingError> {
    let mut peers = connect(queues, ports)?.into_iter();
    let workers = queues.len();
    let (inject, inject_consumer) = Ring::create("inject", INJECT_DEPTH)?;
    let mut inject_consumer = Some(inject_consumer);
    let mut ends = Vec::new();
    let mut rings = Vec::new();
    for worker in 0..workers {
        let mut punt = Vec::new();
        let mut consumers = Vec::new();
        for class in PuntClass::ALL {
            let (producer, consumer) =
                Ring::create(&format!("punt_{worker}_{class}"), depth(*class))?;
            punt.push(producer);
            consumers.push(consumer);
        }
        rings.push(consumers);
        ends.push(WorkerEnds {
            peers: peers.next().flatten(),
            punt,
            inject: inject_consumer.take(),
        });
    }
    let punts = Punts {
        rings,
        first: [0; PuntClass::COUNT],
        burst: Burst::new(),
    };
    let injector = Injector {
        ring: inject,
        mempool,
    };
    Ok((ends, punts, injector))
}

impl PuntSource for Punts {
    fn receive(
        &mut self,
        class: PuntClass,
        budget: usize,
        deliver: &mut dyn FnMut(PortId, &[u8]),
    ) -> usize {
        let workers = self.rings.len();
        let mut received = 0;
        // A burst of each in turn, until the budget is spent or all are empty.
        let mut empty = 0;
        while received < budget && empty < workers {
            let worker = &mut self.first[class as usize];
            let ring = &mut self.rings[*worker][class as usize];
            *worker = (*worker + 1) % workers;
            if ring.dequeue_burst(&mut self.burst) == 0 {
                empty += 1;
                continue;
            }
            empty = 0;
            received += self.burst.len();
            for packet in self.burst.as_slice() {
                deliver(PortId(packet.port() as u8), packet.data());
            }
            self.burst.clear();
        }
        received
    }
}

impl InjectSink for Injector {
    fn inject(&mut self, port: PortId, frame: &[u8]) -> bool {
        let Some(mut packet) = self.mempool.alloc() else {
            return false;
        };
        if !packet.fill(frame) {
            return false;
        }
        packet.set_port(u16::from(port.0));
        self.ring.push(packet).is_ok()
    }
}
