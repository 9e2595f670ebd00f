//! A pipeline under test: a world, a ring of packets, a clock.
//!
//! Packets are written into the ring outside the timed part, one ring ([`RING`] packets) at a
//! time: like those a NIC has just delivered, they are in the second or third level of cache, not
//! in the first. Timed is what a worker does for them: per burst of 32, look for new snapshots,
//! process, look at the verdicts, run the timers.

use crate::clock::Clock;
use crate::figure::Failure;
use crate::packet::{FLOWS, Family, Packet, Template, Way};
use dataplane::address::Protocol;
use dataplane::connection::Millis;
use dataplane::dpdk::tsc;
use dataplane::packet::tcp;
use dataplane::pipeline::world::{Plan, RealPlan, ServicePlan, World};
use dataplane::pipeline::{BURST, Pass, Spare};
use dataplane::scheduler::SchedulerKind;
use dataplane::service::{Forward, Persistence};
use dataplane::verdict::{DropReason, PortId, Verdict, WorkerId};
use std::hint::black_box;
use std::net::SocketAddr;

/// Packets in flight between the one who writes them and the pipeline, as in a NIC's ring.
pub(crate) const RING: usize = 1024;
/// Client packets after which a flow is in its steady state (it is never evicted then).
const SETTLED: usize = 10;
/// The longest a packet takes unless something else has the CPU.
const LONGEST_NS: f64 = 1000.0;
/// Of more flows than this none gets so many packets during a measurement that the one that
/// settles it would be seen; a handshake will do.
const FEW: u32 = 300_000;

/// What a rig balances.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Site {
    pub(crate) family: Family,
    pub(crate) forward: Forward,
    pub(crate) scheduler: SchedulerKind,
    pub(crate) reals: u16,
    /// Of each server.
    pub(crate) weight: u32,
    /// Room in the connection table.
    pub(crate) connections: usize,
    /// Its clients are persistent.
    pub(crate) persistent: bool,
}

impl Site {
    /// Round robin over four servers.
    pub(crate) fn new(family: Family, forward: Forward, connections: usize) -> Self {
        Self {
            family,
            forward,
            scheduler: SchedulerKind::Rr,
            reals: 4,
            weight: 1,
            connections,
            persistent: false,
        }
    }

    fn vip(&self) -> SocketAddr {
        let vip = match self.family {
            Family::V4 => "10.0.1.50:80",
            Family::V6 => "[fd00:1::50]:80",
        };
        dataplane::pipeline::world::endpoint(vip)
    }

    /// Servers behind the first port for DR, behind the second for NAT.
    fn real(&self, number: u16) -> SocketAddr {
        let net = if self.forward.sees_replies() { 2 } else { 1 };
        let host = 101 + number;
        let real = match self.family {
            Family::V4 => format!("10.0.{net}.{host}:80"),
            Family::V6 => format!("[fd00:{net}::{host}]:80"),
        };
        dataplane::pipeline::world::endpoint(&real)
    }
}

/// Packets of a kind the pipeline makes itself do not occur here.
pub(super) struct Nothing;

impl Spare<Packet> for Nothing {
    fn allocate(&mut self) -> Option<Packet> {
        None
    }

    fn send(&mut self, _: PortId, _: Packet) {}
}

/// A pipeline under test.
pub(crate) struct Rig {
    pub(crate) world: World,
    pub(crate) site: Site,
    clock: Clock,
    ring: Vec<Packet>,
    /// Ticks measured so far: the pipeline's time goes on by them.
    ticks: u64,
    start: Millis,
    /// The server of flow `n` is `order[n % reals]`.
    order: Vec<u16>,
    counted: bool,
}

impl Rig {
    /// Builds the world of `site`.
    pub(crate) fn new(site: Site, clock: Clock) -> Self {
        Self::of_workers(site, clock, 1)
    }

    /// The same for the first of `workers` workers, behind a device that deals packets out to them
    /// as it likes.
    pub(crate) fn of_workers(site: Site, clock: Clock, workers: u8) -> Self {
        let vip = site.vip().to_string();
        let mut service = ServicePlan::new(Protocol::Tcp, &vip, site.forward, &[]);
        service.scheduler = site.scheduler;
        service.persistence = site.persistent.then(|| Persistence::new(300_000));
        service.reals = (0..site.reals)
            .map(|number| RealPlan {
                weight: site.weight,
                ..RealPlan::new(&site.real(number).to_string())
            })
            .collect();
        let mut plan = Plan::new(vec![service]);
        match site.family {
            Family::V4 => {
                plan.connections = site.connections;
                plan.connections_v6 = Some(16);
            }
            Family::V6 => {
                plan.connections = 16;
                plan.connections_v6 = Some(site.connections);
            }
        }
        let world = World::of_workers(plan, WorkerId(0), workers);
        Self {
            start: world.now,
            world,
            site,
            clock,
            ring: vec![Packet::EMPTY; RING],
            ticks: 0,
            order: Vec::new(),
            counted: false,
        }
    }

    /// From now on callgrind counts.
    pub(crate) fn count(&mut self) {
        self.counted = true;
    }

    /// Segments from clients to the VIP.
    pub(crate) fn request(&self, flags: u8, length: usize) -> Template {
        Template::new(self.site.vip(), Way::Request, flags, length)
    }

    /// Segments to clients, by the server they come from.
    pub(crate) fn replies(&self, length: usize) -> Vec<Template> {
        (0..self.site.reals)
            .map(|number| Template::new(self.site.real(number), Way::Reply, tcp::ACK, length))
            .collect()
    }

    /// The server of flow `n`, if [`Self::open`] made it, is the one at `n % servers().len()`.
    pub(crate) fn servers(&self) -> &[u16] {
        &self.order
    }

    /// Opens the flows `0..flows` and brings them into their steady state.
    pub(crate) fn establish(&mut self, flows: u32) -> Result<(), Failure> {
        self.open(flows)?;
        let ack = self.request(tcp::ACK, 64);
        let packets = if flows > FEW { 2 } else { SETTLED };
        for first in (0..flows).step_by(RING) {
            let some = RING.min((flows - first) as usize);
            for _ in 1..packets {
                self.send(some, |index, packet| {
                    ack.write(packet, first + index as u32);
                })?;
            }
        }
        Ok(())
    }

    /// Sends the SYN of the flows `0..flows` and learns which server each got.
    pub(crate) fn open(&mut self, flows: u32) -> Result<(), Failure> {
        assert!(flows <= FLOWS, "there are no more clients");
        let syn = self.request(tcp::SYN, 64);
        let reals = u32::from(self.site.reals);
        for first in (0..flows).step_by(RING) {
            let some = RING.min((flows - first) as usize);
            self.send(some, |index, packet| {
                syn.write(packet, first + index as u32);
            })?;
            if first == 0 {
                let packets = &self.ring[..reals.min(flows) as usize];
                self.order = packets.iter().map(|packet| self.chosen(packet)).collect();
            }
        }
        Ok(())
    }

    /// The server a packet that was sent goes to, by its MAC (of the host part of the address).
    fn chosen(&self, packet: &Packet) -> u16 {
        use dataplane::buffer::PacketBuffer;
        let mac = &packet.data()[..6];
        (0..self.site.reals)
            .find(|number| {
                let real = self.site.real(*number).ip();
                dataplane::pipeline::world::host_mac(real).0 == mac
            })
            .unwrap_or_default()
    }

    /// Writes `count` packets and takes them through; all must be sent.
    pub(crate) fn send(
        &mut self,
        count: usize,
        write: impl FnMut(usize, &mut Packet),
    ) -> Result<u64, Failure> {
        let (ticks, sent) = self.pass(count, write);
        self.all_sent(count, sent)?;
        Ok(ticks)
    }

    /// Writes a ring of packets and takes them through; all must be handed to other workers.
    pub(crate) fn send_redirected(
        &mut self,
        write: impl FnMut(usize, &mut Packet),
    ) -> Result<u64, Failure> {
        let (ticks, redirected) = self.timed(RING, write, redirecting_pass);
        if redirected < RING {
            return Err(format!("only {redirected} of {RING} packets were redirected").into());
        }
        Ok(ticks)
    }

    /// Fails unless as many were sent as were given.
    pub(crate) fn all_sent(&self, count: usize, sent: usize) -> Result<(), Failure> {
        if sent == count {
            return Ok(());
        }
        let counters = self.world.counters().moved();
        Err(format!("only {sent} of {count} packets were sent: {counters:?}").into())
    }

    /// Writes `count` packets and takes them through: ticks, and how many were sent.
    pub(crate) fn pass(
        &mut self,
        count: usize,
        write: impl FnMut(usize, &mut Packet),
    ) -> (u64, usize) {
        let work = if self.counted { counted_pass } else { pass };
        self.timed(count, write, work)
    }

    /// As `pass`, each packet a burst of its own.
    pub(crate) fn single_pass(
        &mut self,
        count: usize,
        write: impl FnMut(usize, &mut Packet),
    ) -> (u64, usize) {
        self.timed(count, write, single_pass)
    }

    fn timed(
        &mut self,
        count: usize,
        mut write: impl FnMut(usize, &mut Packet),
        work: fn(&mut World, &mut [Packet]) -> usize,
    ) -> (u64, usize) {
        let packets = &mut self.ring[..count];
        for (index, packet) in packets.iter_mut().enumerate() {
            write(index, packet);
        }
        self.world.now = Millis(self.start.0 + self.clock.milliseconds(self.ticks));
        let start = tsc();
        let passed = work(&mut self.world, packets);
        let ticks = tsc() - start;
        // Not the time this process was kept from running: connections would expire in it.
        let longest = self.clock.ticks(LONGEST_NS * count as f64);
        self.ticks += ticks.min(longest);
        (ticks, passed)
    }

    /// Lets so many seconds pass without packets; the timers run.
    pub(crate) fn wait(&mut self, seconds: u64) {
        self.start.0 += seconds * 1000;
        self.world.now.0 += seconds * 1000;
        let mut before = usize::MAX;
        // A round handles few timers; several without effect may only have armed some again.
        let mut idle = 0;
        while idle < 1_000_000 {
            let connections = self.world.pipeline.connections();
            idle = if connections < before { 0 } else { idle + 1 };
            before = connections;
            self.world.pipeline.maintain(self.world.now);
        }
    }

    /// Ends all connections.
    pub(crate) fn clear(&mut self) {
        use dataplane::job::{Action, Filter};
        self.world.run(Action::Delete, Filter::default());
    }
}

/// What callgrind counts: it looks for this name.
#[inline(never)]
fn counted_pass(world: &mut World, packets: &mut [Packet]) -> usize {
    // Not a tail call, in which this function would be left before its work is done.
    black_box(pass(world, packets))
}

/// What is timed; how many were sent.
#[inline(never)]
fn pass(world: &mut World, packets: &mut [Packet]) -> usize {
    turns(world, packets, BURST, |verdict| {
        matches!(verdict, Verdict::Tx(_))
    })
}

/// What is timed where each packet is a burst of its own; how many were sent.
#[inline(never)]
fn single_pass(world: &mut World, packets: &mut [Packet]) -> usize {
    turns(world, packets, 1, |verdict| {
        matches!(verdict, Verdict::Tx(_))
    })
}

/// What is timed; how many were handed to other workers.
#[inline(never)]
fn redirecting_pass(world: &mut World, packets: &mut [Packet]) -> usize {
    turns(world, packets, BURST, |verdict| {
        matches!(verdict, Verdict::Redirect(_))
    })
}

/// A worker's turns of so many packets; how many got a verdict that is `counted`.
#[inline(always)]
fn turns(
    world: &mut World,
    packets: &mut [Packet],
    burst: usize,
    counted: impl Fn(&Verdict) -> bool,
) -> usize {
    let now = world.now;
    let pipeline = &mut world.pipeline;
    let mut verdicts = [Verdict::Drop(DropReason::Frame); BURST];
    let mut passed = 0;
    for burst in packets.chunks_mut(burst) {
        pipeline.refresh();
        let count = burst.len();
        pipeline.process(
            burst,
            &mut verdicts[..count],
            now,
            Pass::First,
            &mut Nothing,
        );
        for verdict in &verdicts[..count] {
            passed += usize::from(counted(verdict));
        }
        pipeline.maintain(now);
    }
    passed
}
