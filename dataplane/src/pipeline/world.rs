//! A small world around a [`Pipeline`]: for tests, benchmarks and fuzzing, like the packet builder.
//!
//! ```text
//!   clients 10.0.1.100+ ──┐                       ┌── real servers 10.0.2.x   (NAT)
//!   real servers 10.0.1.x ┼─ port 0 [ pipeline ] ─┤   port 1
//!   (DR)  gateway .254 ───┘  10.0.1.1    10.0.2.1 └── fd00:2::x
//!         fd00:1::x                                       VIPs 10.0.1.50, fd00:1::50
//! ```
//!
//! Behind the gateway is 10.0.9.0/24 (fd00:9::/64); 203.0.113.0/24 is a blackhole and
//! 198.51.100.0/24 prohibited; nothing else has a route. A [`Plan`] says what is configured; [`World::edit`] is a reload. The world is
//! strict: a packet sent must be right in every length and checksum, one punted or waiting
//! untouched (a packet for a NAT server on this box: translated), and a test has to name every counter that moved ([`World::moved`]).

mod control;

pub use control::Control;
use control::Identities;

use super::{Outcome, Parts, Pass, Pipeline, Spare};
use crate::address::{Family, Protocol};
use crate::buffer::{Frame, PacketBuffer};
use crate::connection::{Millis, TableMemory, Timeouts};
use crate::counters::WorkerCounters;
use crate::epoch;
use crate::forwarding::{Forwarding, NeighbourState, NextHop, PortInfo, Route, VirtualAddresses};
use crate::job::{Action, ConnectionRow, Filter, Job};
use crate::packet::MacAddress;
use crate::packet::builder::{PacketBuilder, verify};
use crate::scheduler::{SchedulerFlags, SchedulerKind};
use crate::service::{
    Forward, IpvsSettings, MarkRule, NoServer, Orphans, Persistence, Serve, ServiceKey, Services,
    Transit,
};
use crate::verdict::{DropReason, Neighbour, PortId, Verdict, WorkerId};
use crossbeam_queue::ArrayQueue;
use crossbeam_utils::CachePadded;
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

/// One virtual service of a [`Plan`].
#[derive(Clone, Debug)]
pub struct ServicePlan {
    /// Transport protocol.
    pub protocol: Protocol,
    /// VIP and port; of a mark's service only the family counts.
    pub vip: SocketAddr,
    /// Instead of the VIP: the service of this mark, for all protocols.
    pub fwmark: Option<u32>,
    /// Scheduler.
    pub scheduler: SchedulerKind,
    /// Its flags.
    pub scheduler_flags: SchedulerFlags,
    /// Method of all its servers.
    pub forward: Forward,
    /// When it is served.
    pub serve: Serve,
    /// What clients get when nothing can serve.
    pub no_server: NoServer,
    /// How its clients stay on their servers.
    pub persistence: Option<Persistence>,
    /// Every datagram is scheduled for itself.
    pub one_packet: bool,
    /// Its servers in file order.
    pub reals: Vec<RealPlan>,
}

/// One real server of a [`ServicePlan`].
#[derive(Clone, Copy, Debug)]
pub struct RealPlan {
    /// Address and port.
    pub address: SocketAddr,
    /// Weight.
    pub weight: u32,
    /// Upper threshold; 0 = none.
    pub upper: u32,
    /// Lower threshold.
    pub lower: u32,
}

/// What is configured, and what the network is like.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Services.
    pub services: Vec<ServicePlan>,
    /// `[mark NAME]`, in order.
    pub marks: Vec<MarkRule>,
    /// `[ipvs]`.
    pub ipvs: IpvsSettings,
    /// `[timeouts]`.
    pub timeouts: Timeouts,
    /// `transit`.
    pub transit: Transit,
    /// What becomes of connections whose server has left the plan.
    pub orphans: Orphans,
    /// Whether the VIPs are addresses of this box.
    pub vips_local: bool,
    /// Addresses of virtual routers.
    pub virtual_addresses: VirtualAddresses,
    /// MAC addresses of virtual routers that are Active on the first port.
    pub virtual_macs: Vec<MacAddress>,
    /// MTU of the two ports.
    pub mtu: [u16; 2],
    /// Whether the ports are up.
    pub up: [bool; 2],
    /// Receive queues of each port.
    pub queues: u16,
    /// Whether the ports have a TAP.
    pub kernel_interface: bool,
    /// Neighbours whose MAC address is not known.
    pub unknown: Vec<IpAddr>,
    /// Neighbours that do not answer.
    pub failed: Vec<IpAddr>,
    /// Room in each connection table.
    pub connections: usize,
    /// Room in the IPv6 table, if another.
    pub connections_v6: Option<usize>,
}

impl Plan {
    /// These services on a healthy network.
    pub fn new(services: Vec<ServicePlan>) -> Self {
        Self {
            services,
            marks: Vec::new(),
            ipvs: IpvsSettings::default(),
            timeouts: Timeouts::default(),
            transit: Transit::Kernel,
            orphans: Orphans::Keep,
            vips_local: true,
            virtual_addresses: VirtualAddresses::default(),
            virtual_macs: Vec::new(),
            mtu: [1500; 2],
            up: [true; 2],
            queues: 1,
            kernel_interface: true,
            unknown: Vec::new(),
            failed: Vec::new(),
            connections: 1024,
            connections_v6: None,
        }
    }
}

impl ServicePlan {
    /// A round-robin service.
    pub fn new(protocol: Protocol, vip: &str, forward: Forward, reals: &[&str]) -> Self {
        Self {
            protocol,
            vip: endpoint(vip),
            fwmark: None,
            scheduler: SchedulerKind::Rr,
            scheduler_flags: SchedulerFlags::NONE,
            forward,
            serve: Serve::WhileLocal,
            no_server: NoServer::Unreachable,
            persistence: None,
            one_packet: false,
            reals: reals.iter().map(|real| RealPlan::new(real)).collect(),
        }
    }
}

impl ServicePlan {
    /// Its identity.
    pub fn key(&self) -> ServiceKey {
        let (address, port) = (self.vip.ip(), self.vip.port());
        match self.fwmark {
            None => ServiceKey::new(self.protocol, address, port),
            Some(mark) => ServiceKey::of_mark(Family::of(address), mark),
        }
    }
}

impl RealPlan {
    /// A server of weight 1.
    pub fn new(address: &str) -> Self {
        Self {
            address: endpoint(address),
            weight: 1,
            upper: 0,
            lower: 0,
        }
    }
}

/// Address and port from text.
///
/// # Panics
/// If it is none.
pub fn endpoint(text: &str) -> SocketAddr {
    text.parse().expect("an address and a port")
}

/// MAC address of port `port`.
pub fn port_mac(port: u8) -> MacAddress {
    MacAddress([2, 0, 0, 0, 0xff, port])
}

/// MAC address of the host at `address`.
pub fn host_mac(address: IpAddr) -> MacAddress {
    match address {
        IpAddr::V4(address) => {
            let [a, b, c, d] = address.octets();
            MacAddress([2, 4, a, b, c, d])
        }
        IpAddr::V6(address) => {
            let s = address.segments();
            MacAddress([2, 6, s[0] as u8, s[1] as u8, (s[7] >> 8) as u8, s[7] as u8])
        }
    }
}

/// A pipeline and everything around it.
#[derive(Debug)]
pub struct World {
    worker: WorkerId,
    workers: u8,
    /// The pipeline.
    pub pipeline: Pipeline,
    /// The clock, for the next call.
    pub now: Millis,
    /// Packets the pipeline made itself, and how many it may still make.
    pub tray: Tray,
    control: Control,
    counters: Arc<CachePadded<WorkerCounters>>,
    asks: Arc<ArrayQueue<Neighbour>>,
    seen: BTreeMap<String, u64>,
    /// Fragments that wait for the first of their datagram, by seat.
    held: Vec<Option<Frame>>,
}

/// Packets made by the pipeline: fragments.
#[derive(Debug)]
pub struct Tray {
    /// What was sent, in order.
    pub sent: Vec<(PortId, Frame)>,
    /// Buffers left.
    pub buffers: usize,
}

impl Spare<Frame> for Tray {
    fn allocate(&mut self) -> Option<Frame> {
        self.buffers = self.buffers.checked_sub(1)?;
        Some(Frame::with_tailroom(&[], 2048))
    }

    fn send(&mut self, port: PortId, packet: Frame) {
        self.sent.push((port, packet));
    }
}

impl World {
    /// Builds what `plan` says.
    pub fn new(plan: Plan) -> Self {
        Self::of_workers(plan, WorkerId(0), 1)
    }

    /// The world as worker `worker` of `workers` sees it.
    pub fn of_workers(plan: Plan, worker: WorkerId, workers: u8) -> Self {
        Self::sharing(plan, worker, workers, Identities::default())
    }

    /// Another worker of the same box: the same servers and services, tables of its own.
    pub fn beside(&self, worker: WorkerId) -> Self {
        let (plan, identities) = (self.control.plan.clone(), self.control.identities.clone());
        Self::sharing(plan, worker, self.workers, identities)
    }

    fn sharing(plan: Plan, worker: WorkerId, workers: u8, identities: Identities) -> Self {
        let (services, mut service_readers) = epoch::channel(Services::default(), 1);
        let (forwarding, mut forwarding_readers) = epoch::channel(Forwarding::default(), 1);
        let counters = Arc::<CachePadded<WorkerCounters>>::default();
        let asks = Arc::new(ArrayQueue::new(64));
        let pipeline = Pipeline::new(Parts {
            worker,
            workers,
            services: service_readers.remove(0),
            forwarding: forwarding_readers.remove(0),
            counters: Arc::clone(&counters),
            asks: Arc::clone(&asks),
            templates: Arc::clone(&identities.templates),
            connections_v4: plan.connections,
            connections_v6: plan.connections_v6.unwrap_or(plan.connections),
            table_memory: TableMemory::default(),
        });
        let mut world = Self {
            held: vec![None; pipeline.fragment_seats()],
            pipeline,
            worker,
            workers,
            now: Millis(1_000_000),
            tray: Tray {
                sent: Vec::new(),
                buffers: usize::MAX,
            },
            control: Control {
                workers: usize::from(workers),
                plan,
                services,
                forwarding,
                identities,
            },
            counters,
            asks,
            seen: BTreeMap::new(),
        };
        world.edit(|_| {});
        world
    }

    /// Changes the plan and publishes it: a reload, seen by the next burst.
    pub fn edit(&mut self, change: impl FnOnce(&mut Plan)) {
        self.control.edit(change);
        self.pipeline.refresh();
    }

    /// The services snapshot published last.
    pub fn services(&self) -> &Services {
        self.control.services()
    }

    /// Takes the world apart into its worker's and control's part, for two threads.
    pub fn apart(self) -> (Pipeline, Control) {
        (self.pipeline, self.control)
    }

    /// Gives the pipeline away, for a worker, with its counters and the queue of its questions.
    pub fn into_parts(
        self,
    ) -> (
        Pipeline,
        Arc<CachePadded<WorkerCounters>>,
        Arc<ArrayQueue<Neighbour>>,
    ) {
        (self.pipeline, self.counters, self.asks)
    }

    /// The pipeline's counters.
    pub fn counters(&self) -> &WorkerCounters {
        &self.counters
    }

    /// Takes one frame that arrived on `port` through the pipeline.
    ///
    /// # Panics
    /// If what comes out breaks the rules of the module documentation.
    pub fn receive(&mut self, port: u8, frame: &[u8]) -> (Verdict, Frame) {
        let mut packet = Frame::from_bytes(frame);
        packet.port = u16::from(port);
        let verdict = self.pass(&mut packet, Pass::First);
        (verdict, packet)
    }

    /// Takes a frame that another worker handed over through the pipeline.
    ///
    /// # Panics
    /// As [`Self::receive`].
    pub fn redirected(&mut self, port: u8, frame: &[u8]) -> (Verdict, Frame) {
        let mut packet = Frame::from_bytes(frame);
        packet.port = u16::from(port);
        let verdict = self.pass(&mut packet, Pass::Redirected);
        (verdict, packet)
    }

    /// Takes a frame through the pipeline, and then those that had waited for it.
    ///
    /// # Panics
    /// As [`Self::receive`].
    pub fn process(&mut self, mut packet: Frame, pass: Pass) -> Vec<(Verdict, Frame)> {
        let verdict = self.pass(&mut packet, pass);
        let mut all = vec![(verdict, packet)];
        while let Some(seat) = self.pipeline.next_released() {
            let held = self.held[usize::from(seat.0)].take();
            let mut packet = held.expect("a fragment in a seat that is named");
            let verdict = self.pass(&mut packet, Pass::Held);
            assert!(!matches!(verdict, Verdict::Hold(_)), "held twice");
            all.push((verdict, packet));
        }
        all
    }

    /// Takes a frame that has waited through the pipeline again.
    ///
    /// # Panics
    /// As [`Self::receive`].
    pub fn retry(&mut self, packet: &mut Frame, outcome: Outcome) -> Verdict {
        self.pass(packet, Pass::Retry(outcome))
    }

    /// Takes a packet through the pipeline as it is, marks of a worker included.
    ///
    /// # Panics
    /// As [`Self::receive`].
    pub fn process_marked(&mut self, packet: &mut Frame, pass: Pass) -> Verdict {
        self.pass(packet, pass)
    }

    /// The frame that leaves on `out` when `packet` arrives on `port`.
    ///
    /// # Panics
    /// If it is not sent there.
    pub fn sent(&mut self, port: u8, packet: &PacketBuilder, out: u8) -> Vec<u8> {
        let (verdict, frame) = self.receive(port, &packet.build());
        assert_eq!(verdict, Verdict::Tx(PortId(out)), "{packet:?}");
        frame.data().to_vec()
    }

    /// What becomes of `packet` when it arrives on `port`.
    pub fn verdict(&mut self, port: u8, packet: &PacketBuilder) -> Verdict {
        self.receive(port, &packet.build()).0
    }

    /// Asserts that `packet` is dropped for `reason`.
    ///
    /// # Panics
    /// If not.
    pub fn dropped(&mut self, port: u8, packet: &PacketBuilder, reason: DropReason) {
        assert_eq!(self.verdict(port, packet), Verdict::Drop(reason));
    }

    /// Lets time pass.
    pub fn sleep(&mut self, milliseconds: u64) {
        self.now.0 += milliseconds;
    }

    /// Runs the timers until nothing more is due.
    pub fn expire(&mut self) {
        for _ in 0..=self.pipeline.connections() {
            self.pipeline.maintain(self.now);
        }
        while let Some((seat, _)) = self.pipeline.next_discarded() {
            let held = self.held[usize::from(seat.0)].take();
            assert!(held.is_some(), "nothing in {seat:?}");
        }
    }

    /// Fragments that wait for the first of their datagram.
    pub fn held(&self) -> usize {
        self.held.iter().flatten().count()
    }

    /// Lists the connections, as a control task does.
    pub fn connections(&mut self) -> Vec<ConnectionRow> {
        self.run(Action::List, Filter::default()).0
    }

    /// Runs a job to its end; its rows and how many connections it handled.
    pub fn run(&mut self, action: Action, filter: Filter) -> (Vec<ConnectionRow>, u64) {
        let job = Job::new(action, filter, 16);
        let mut rows = Vec::new();
        self.pipeline.start(Arc::clone(&job));
        while !job.is_done() {
            self.pipeline.work(self.now);
            rows.extend(std::iter::from_fn(|| job.rows.pop()));
        }
        (rows, job.handled.load(Relaxed))
    }

    /// Neighbours the pipeline asked for since the last call.
    pub fn asked(&mut self) -> Vec<IpAddr> {
        std::iter::from_fn(|| self.asks.pop())
            .map(|neighbour| neighbour.address)
            .collect()
    }

    /// Asserts that since the last call exactly these counters moved by exactly so much.
    ///
    /// Each text is a list like `connection_hits 1, 11.in_packets 1`; amounts of one name add up.
    /// `11.` are the counters of the servers whose address ends in 11.
    ///
    /// # Panics
    /// If any other counter moved, or one by another amount; prints all that moved.
    pub fn moved(&mut self, expected: &[&str]) {
        let mut wanted = BTreeMap::<String, i64>::new();
        for entry in expected.iter().flat_map(|list| list.split(", ")) {
            if let Some((name, amount)) = entry.rsplit_once(' ') {
                let amount: i64 = amount.parse().expect("an amount");
                *wanted.entry(name.to_owned()).or_default() += amount;
            }
        }
        wanted.retain(|_, amount| *amount != 0);
        assert_eq!(self.movement(), wanted, "left: moved, right: stated");
    }

    /// What moved since the last call.
    pub fn movement(&mut self) -> BTreeMap<String, i64> {
        let now = self.totals();
        let before = std::mem::replace(&mut self.seen, now);
        let mut movement = BTreeMap::new();
        for (name, value) in &self.seen {
            let old = before.get(name).copied().unwrap_or(0);
            if *value != old {
                movement.insert(name.clone(), value.wrapping_sub(old).cast_signed());
            }
        }
        for (name, old) in before {
            if !self.seen.contains_key(&name) {
                movement.insert(name, old.wrapping_neg().cast_signed());
            }
        }
        movement
    }

    /// Every counter that is not zero.
    fn totals(&self) -> BTreeMap<String, u64> {
        let mut totals: BTreeMap<String, u64> = self.counters.moved().into_iter().collect();
        for (_, record) in &self.control.identities.reals {
            let cell = record.shared.cell(self.worker);
            let own = record.shared.counts(self.worker).own();
            for (field, value) in [
                ("active", own.active),
                ("inactive", own.inactive),
                ("templates", record.shared.templates().load(Relaxed)),
                ("connections", cell.connections.value()),
                ("in_packets", cell.in_packets.value()),
                ("in_bytes", cell.in_bytes.value()),
                ("out_packets", cell.out_packets.value()),
                ("out_bytes", cell.out_bytes.value()),
            ] {
                let total = totals
                    .entry(format!("{}.{field}", record.name))
                    .or_default();
                *total = total.wrapping_add(value);
            }
        }
        for known in &self.control.identities.known {
            *totals.entry("unserved".to_owned()).or_default() += known.shared.unserved_total();
        }
        totals.retain(|_, value| *value != 0);
        totals
    }

    /// Whether a server of the plan is an address of the box.
    fn has_local_server(&self) -> bool {
        let services = self.control.plan.services.iter();
        services.flat_map(|service| &service.reals).any(|real| {
            let forwarding = self.pipeline.forwarding();
            forwarding.is_local(real.address.ip())
        })
    }

    fn pass(&mut self, packet: &mut Frame, pass: Pass) -> Verdict {
        let before = packet.data().to_vec();
        let mut verdicts = [Verdict::Drop(DropReason::Stopping)];
        let packets = std::slice::from_mut(packet);
        self.pipeline
            .process(packets, &mut verdicts, self.now, pass, &mut self.tray);
        let [verdict] = verdicts;
        let after = packet.data();
        match verdict {
            // What Linux sends is its own business.
            Verdict::Tx(_) if after == before => {}
            Verdict::Tx(_) => assert_eq!(verify(after), Ok(()), "{after:02x?}"),
            // For a server on this box.
            Verdict::Punt(class) if after != before && self.has_local_server() => {
                assert_eq!(verify(after), Ok(()), "{after:02x?}");
                self.counters.punted(class).add(1);
            }
            Verdict::Punt(_) | Verdict::Wait(_) | Verdict::Hold(_) => {
                assert_eq!(after, &before[..after.len()], "untouched but for padding");
                if let Verdict::Hold(seat) = verdict {
                    self.held[usize::from(seat.0)] = Some(packet.clone());
                    return verdict;
                }
                if let Verdict::Punt(class) = verdict {
                    // As a worker does whose ring has room.
                    self.counters.punted(class).add(1);
                }
            }
            Verdict::Drop(_) | Verdict::Redirect(_) => {}
        }
        verdict
    }
}

fn build_forwarding(plan: &Plan) -> Forwarding {
    let address = |text: &str| -> IpAddr { text.parse().expect("an address") };
    let net = |text: &str| -> ipnet::IpNet { text.parse().expect("a prefix") };
    let port = |number: u8| PortInfo {
        name: if number == 0 { "outside" } else { "inside" }.to_owned(),
        mac: port_mac(number),
        mtu: plan.mtu[usize::from(number)],
        up: plan.up[usize::from(number)],
        kernel_interface: plan.kernel_interface,
        queues: plan.queues,
        virtual_macs: match number {
            0 => plan.virtual_macs.clone(),
            _ => Vec::new(),
        },
        addresses: vec![
            net(&format!("10.0.{}.1/24", number + 1)),
            net(&format!("fd00:{}::1/64", number + 1)),
        ],
    };
    let ports = vec![port(0), port(1)];
    let own = ports.iter().flat_map(|port| &port.addresses);
    let mut local: Vec<IpAddr> = own.map(ipnet::IpNet::addr).collect();
    if plan.vips_local {
        local.extend(plan.services.iter().map(|service| service.vip.ip()));
    }
    let via = |port, gateway: Option<&str>| {
        Route::Via(vec![NextHop {
            port: PortId(port),
            gateway: gateway.map(address),
            weight: 1,
        }])
    };
    let mut routes = vec![
        (net("10.0.1.0/24"), via(0, None)),
        (net("10.0.2.0/24"), via(1, None)),
        (net("fd00:1::/64"), via(0, None)),
        (net("fd00:2::/64"), via(1, None)),
        (net("10.0.9.0/24"), via(0, Some("10.0.1.254"))),
        (net("fd00:9::/64"), via(0, Some("fd00:1::254"))),
        (net("203.0.113.0/24"), Route::Blackhole),
        (net("198.51.100.0/24"), Route::Prohibited),
    ];
    routes.extend(
        local
            .iter()
            .map(|own| (ipnet::IpNet::from(*own), Route::Local)),
    );
    let mut neighbours = Vec::new();
    for number in 0..2_u8 {
        for host in 2..255_u16 {
            // The digits of the number, as in the addresses of the tests.
            let digits = host / 100 * 0x100 + host / 10 % 10 * 0x10 + host % 10;
            let net = u16::from(number + 1);
            for address in [
                IpAddr::V4(Ipv4Addr::new(10, 0, number + 1, host as u8)),
                IpAddr::V6(Ipv6Addr::new(0xfd00, net, 0, 0, 0, 0, 0, digits)),
            ] {
                let neighbour = Neighbour {
                    port: PortId(number),
                    address,
                };
                if plan.failed.contains(&address) {
                    neighbours.push((neighbour, NeighbourState::Failed));
                } else if !plan.unknown.contains(&address) {
                    neighbours.push((neighbour, NeighbourState::Reachable(host_mac(address))));
                }
            }
        }
    }
    Forwarding::new(ports, local, routes, neighbours)
        .with_virtual_addresses(Arc::new(plan.virtual_addresses.clone()))
}
