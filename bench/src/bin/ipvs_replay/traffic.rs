//! Flows: what clients and servers say, packet by packet, and what Sluice makes of it.

use crate::random::Random;
use crate::round::{Round, address};
use dataplane::address::{Family, Protocol};
use dataplane::buffer::PacketBuffer;
use dataplane::connection::Millis;
use dataplane::counters::Event;
use dataplane::job::ConnectionRow;
use dataplane::packet::builder::PacketBuilder;
use dataplane::packet::tcp::{ACK, FIN, PSH, RST, SYN};
use dataplane::packet::{Offloads, Parsed, parse};
use dataplane::pipeline::world::{World, host_mac, port_mac};
use dataplane::service::Forward;
use dataplane::verdict::Verdict;
use std::net::{IpAddr, SocketAddr};

/// Flows under way at once.
const AT_ONCE: usize = 24;
/// A connection that a SYN replaces leaves the kernel's table with the next tick of its timers,
/// and only then its server's counters: 4 ms, and the guest's clock is not exact.
const SETTLE: u64 = 20;

/// What happened in a round.
#[derive(Debug)]
pub(crate) struct Trace {
    /// Packets in, in order.
    pub(crate) steps: Vec<Step>,
    /// Flows begun.
    pub(crate) flows: usize,
    /// Services as they stand at the end.
    pub(crate) services: Vec<ServiceState>,
    /// Connections as they stand at the end.
    pub(crate) connections: Vec<ConnectionRow>,
}

/// One packet and what became of it.
#[derive(Debug)]
pub(crate) struct Step {
    pub(crate) at: Millis,
    pub(crate) frame: Vec<u8>,
    /// Of which service.
    pub(crate) service: usize,
    /// What was sent, and on which port; nothing if it was dropped.
    pub(crate) out: Vec<(u8, Vec<u8>)>,
}

/// A service and its servers in the order of the list, newest first.
#[derive(Debug)]
pub(crate) struct ServiceState {
    /// As its line begins.
    pub(crate) name: String,
    pub(crate) scheduler: &'static str,
    pub(crate) servers: Vec<ServerState>,
}

/// One line of a listing.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct ServerState {
    pub(crate) address: SocketAddr,
    pub(crate) method: String,
    pub(crate) weight: u32,
    pub(crate) active: u64,
    pub(crate) inactive: u64,
}

/// Who says what next: with these TCP flags, or an SCTP packet with this first chunk.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Move {
    /// The client.
    Client(u8),
    /// The server.
    Server(u8),
}
use Move::{Client, Server};

/// Ways a TCP connection goes; it may stop anywhere.
#[rustfmt::skip]
const TCP_WAYS: [&[Move]; 9] = [
    // The client closes first, then the server; and the other way round.
    &[Client(SYN), Server(SYN | ACK), Client(ACK), Client(PSH | ACK), Server(PSH | ACK), Client(FIN | ACK), Server(FIN | ACK), Client(ACK)],
    &[Client(SYN), Server(SYN | ACK), Client(ACK), Client(PSH | ACK), Server(FIN | ACK), Client(ACK), Client(FIN | ACK), Server(ACK)],
    &[Client(SYN), Server(SYN | ACK), Client(ACK), Server(ACK), Client(FIN | ACK), Server(ACK), Server(FIN | ACK), Client(ACK)],
    // Resets by either, at once or later.
    &[Client(SYN), Server(RST | ACK)],
    &[Client(SYN), Server(SYN | ACK), Client(RST)],
    &[Client(SYN), Server(SYN | ACK), Client(ACK), Client(PSH | ACK), Client(RST | ACK)],
    &[Client(SYN), Server(SYN | ACK), Client(ACK), Client(PSH | ACK), Server(RST)],
    // Repeated, and with flags nobody should send.
    &[Client(SYN), Client(SYN), Server(SYN | ACK), Server(SYN | ACK), Client(ACK), Client(SYN)],
    &[Client(SYN), Client(0), Client(ACK), Server(0), Client(FIN), Client(SYN | FIN)],
];

/// Ways an SCTP association goes; it may stop anywhere.
#[rustfmt::skip]
const SCTP_WAYS: [&[Move]; 6] = [
    // Set up, data, shut down by the client; by the server.
    &[Client(INIT), Server(INIT_ACK), Client(COOKIE_ECHO), Server(COOKIE_ACK), Client(DATA), Server(SACK), Client(SHUTDOWN), Server(SHUTDOWN_ACK), Client(SHUTDOWN_COMPLETE)],
    &[Client(INIT), Server(INIT_ACK), Client(COOKIE_ECHO), Server(COOKIE_ACK), Server(DATA), Server(SHUTDOWN), Client(SHUTDOWN_ACK), Server(SHUTDOWN_COMPLETE)],
    // Aborts and errors.
    &[Client(INIT), Server(ABORT)],
    &[Client(INIT), Server(INIT_ACK), Client(COOKIE_ECHO), Server(ERROR), Client(ABORT)],
    &[Client(INIT), Server(INIT_ACK), Client(COOKIE_ECHO), Server(COOKIE_ACK), Client(ABORT), Client(DATA)],
    // Repeated, and chunks out of place.
    &[Client(INIT), Client(INIT), Server(INIT), Client(INIT_ACK), Server(COOKIE_ECHO), Client(COOKIE_ACK), Client(INIT)],
];

// Chunk types (RFC 9260 3.2).
const DATA: u8 = 0;
const INIT: u8 = 1;
const INIT_ACK: u8 = 2;
const SACK: u8 = 3;
const ABORT: u8 = 6;
const SHUTDOWN: u8 = 7;
const SHUTDOWN_ACK: u8 = 8;
const ERROR: u8 = 9;
const COOKIE_ECHO: u8 = 10;
const COOKIE_ACK: u8 = 11;
const SHUTDOWN_COMPLETE: u8 = 14;

/// One flow.
#[derive(Clone, Debug)]
struct Flow {
    service: usize,
    client: SocketAddr,
    moves: Vec<Move>,
    /// Where the last packet of the client went, if the server's answers come past us.
    server: Option<(u8, SocketAddr)>,
    /// Its client has, or had, a connection to the same service.
    again: bool,
}

impl Trace {
    /// Runs `flows` flows of `round`.
    ///
    /// # Panics
    /// If a packet comes out wrong, or goes where the kernel's own stack would answer it: there
    /// is nothing to compare then.
    pub(crate) fn run(round: &Round, flows: usize, random: &mut Random) -> Self {
        let mut world = World::new(round.plan.clone());
        let mut trace = Self {
            steps: Vec::new(),
            flows: 0,
            services: Vec::new(),
            connections: Vec::new(),
        };
        let mut alive: Vec<Flow> = Vec::new();
        let mut past: Vec<Flow> = Vec::new();
        while trace.flows < flows || !alive.is_empty() {
            if trace.flows < flows && (alive.is_empty() || alive.len() < random.below(AT_ONCE)) {
                alive.push(next_flow(round, trace.flows, &mut past, random));
                trace.flows += 1;
            }
            let chosen = random.below(alive.len());
            trace.step(&mut world, round, &mut alive[chosen], random);
            if alive[chosen].moves.is_empty() {
                past.push(alive.swap_remove(chosen));
            }
        }
        trace.list(&mut world);
        trace
    }

    fn step(&mut self, world: &mut World, round: &Round, flow: &mut Flow, random: &mut Random) {
        let service = &round.plan.services[flow.service];
        let movement = flow.moves.remove(0);
        let (port, source, destination, mac, flags) = match movement {
            Client(flags) => {
                let mac = host_mac(first_hop(flow.client.ip()));
                (0, flow.client, service.vip, mac, flags)
            }
            Server(flags) => {
                // Its answers bypass us, or it got nothing to answer.
                let Some((port, server)) = flow.server else {
                    return;
                };
                (port, server, flow.client, host_mac(server.ip()), flags)
            }
        };
        let packet = match service.protocol {
            Protocol::Tcp => PacketBuilder::tcp(source, destination)
                .flags(flags)
                .sequence(random.next() as u32, random.next() as u32),
            Protocol::Udp => PacketBuilder::udp(source, destination),
            Protocol::Sctp => PacketBuilder::sctp(source, destination),
        };
        let mut payload = vec![0; random.of(&[0, 1, 18, 64, 300])];
        payload.fill_with(|| random.next() as u8);
        if service.protocol == Protocol::Sctp {
            // One chunk, padded.
            payload.resize(payload.len().next_multiple_of(4), 0);
            let length = (payload.len() as u16 + 4).to_be_bytes();
            payload.splice(0..0, [flags, 0, length[0], length[1]]);
        }
        let frame = dressed(packet.payload(payload), Family::of(source.ip()), random)
            .link(mac, port_mac(port))
            .build();
        world.sleep(1);
        world.pipeline.maintain(world.now);
        let created = |world: &World| world.counters().event(Event::ConnectionsCreated).value();
        let before = created(world);
        let (verdict, sent) = world.receive(port, &frame);
        let mut out: Vec<_> = std::mem::take(&mut world.tray.sent);
        match verdict {
            Verdict::Tx(port) => out.push((port, sent)),
            Verdict::Drop(_) => {}
            other => panic!("{other:?}: the kernel would answer {source} -> {destination}"),
        }
        let out: Vec<_> = out
            .into_iter()
            .map(|(port, frame)| (port.0, frame.data().to_vec()))
            .collect();
        let created = created(world) != before;
        if created {
            // Whoever served an older connection has nothing more to say.
            flow.server = None;
        }
        // Answers to what leaves no connection would go the kernel's own way.
        if let (Client(_), [(port, sent)], false) = (movement, &out[..], service.one_packet) {
            flow.learn(service.forward, *port, sent);
        }
        self.steps.push(Step {
            at: world.now,
            frame,
            service: flow.service,
            out,
        });
        if std::mem::replace(&mut flow.again, true) && created && !service.one_packet {
            world.sleep(SETTLE);
        }
    }

    fn list(&mut self, world: &mut World) {
        self.connections = world.connections();
        self.services = world
            .services()
            .services()
            .iter()
            .map(|service| ServiceState {
                name: service.key.to_string(),
                scheduler: service.scheduler.name(),
                servers: service
                    .list
                    .servers
                    .iter()
                    .map(|server| {
                        let (active, inactive) = server.shared.connections();
                        ServerState {
                            address: SocketAddr::new(server.address, server.port),
                            method: server.forward.ipvs_name().to_owned(),
                            weight: server.weight,
                            active,
                            inactive,
                        }
                    })
                    .collect(),
            })
            .collect();
    }
}

impl Flow {
    /// Sees what the client's packet became.
    fn learn(&mut self, forward: Forward, port: u8, sent: &[u8]) {
        let Ok(Parsed::Ip(headers)) = parse(sent, Offloads::default()) else {
            return;
        };
        if let Some((3 | 1, _)) = headers.icmp(sent) {
            // Nobody serves it, so there is no connection. What else the client said would go to
            // the kernel's own stack, which answers with a reset.
            self.moves.clear();
        } else if forward.sees_replies() && headers.icmp(sent).is_none() {
            let address = headers.destination_ip(sent).expect("an IP packet");
            self.server = Some((port, SocketAddr::new(address, headers.destination_port)));
        }
    }
}

fn next_flow(round: &Round, number: usize, past: &mut Vec<Flow>, random: &mut Random) -> Flow {
    // A client that comes again from the same port finds its old connection there.
    if !past.is_empty() && random.percent(8) {
        let old = past.swap_remove(random.below(past.len()));
        return Flow {
            moves: moves(round, old.service, random),
            again: true,
            ..old
        };
    }
    let service = random.below(round.plan.services.len());
    let family = Family::of(round.plan.services[service].vip.ip());
    let net = if random.percent(80) { 1 } else { 9 };
    let client = address(family, net, 100 + random.below(40) as u8);
    Flow {
        service,
        // No two flows of a round have the same: a real server knows them apart by it.
        client: SocketAddr::new(client, 20_000 + number as u16),
        moves: moves(round, service, random),
        server: None,
        again: false,
    }
}

fn moves(round: &Round, service: usize, random: &mut Random) -> Vec<Move> {
    let moves = match round.plan.services[service].protocol {
        Protocol::Tcp => random.of(&TCP_WAYS).to_vec(),
        Protocol::Sctp => random.of(&SCTP_WAYS).to_vec(),
        Protocol::Udp => {
            let further = (0..random.below(5)).map(|_| random.of(&[Client(0), Server(0)]));
            std::iter::once(Client(0)).chain(further).collect()
        }
    };
    let said = 1 + random.below(2 * moves.len());
    moves.into_iter().take(said).collect()
}

/// The packet with header fields as they come.
fn dressed(packet: PacketBuilder, family: Family, random: &mut Random) -> PacketBuilder {
    let mut packet = packet
        .tos(random.of(&[0, 0, 0, 2, 0x10, 0xb9]))
        .id(random.next() as u16)
        .ttl(random.of(&[64, 64, 64, 255, 33, 2, 1]));
    if random.percent(60) {
        packet = packet.dont_fragment();
    }
    // IPv6 has no such thing.
    if family == Family::V4 && random.percent(5) {
        packet = packet.no_checksum();
    }
    packet
}

/// Who sends a client's packets to us.
fn first_hop(client: IpAddr) -> IpAddr {
    match client {
        IpAddr::V4(v4) if v4.octets()[2] == 9 => address(Family::V4, 1, 254),
        IpAddr::V6(v6) if v6.segments()[1] == 9 => address(Family::V6, 1, 254),
        _ => client,
    }
}
