//! Packets in, packets out: the whole pipeline over heap frames, no device, no clock.
//!
//! [`Site`] describes the service under test; the same test runs over IPv4 and IPv6, DR and NAT
//! wherever they do not differ. Each test states which counters moved.

mod admission;
mod bad_input;
mod captured;
mod defence;
mod errors;
mod ftp;
mod ftp_data;
mod lifetime;
mod local_node;
mod marks;
mod model;
mod one_packet;
mod persistence;
mod recorded;
mod related;
mod removal;
mod rewriting;
mod scheduling;
mod sctp;
mod short_way;
mod stateless;
mod steering;
mod stray;
mod table;
mod tunnel;
mod virtual_router;
mod waiting;

use super::world::{self, Plan, ServicePlan, endpoint, host_mac, port_mac};
use crate::address::{Family, Protocol};
use crate::packet::builder::PacketBuilder;
use crate::packet::tcp::{ACK, FIN, RST, SYN};
use crate::scheduler::SchedulerKind;
use crate::service::Forward;
use std::net::SocketAddr;
use std::ops::{Deref, DerefMut};

/// A world whose test may not forget to state a movement.
#[derive(Debug)]
struct World(world::World);

impl World {
    fn new(plan: Plan) -> Self {
        Self(world::World::new(plan))
    }
}

impl Deref for World {
    type Target = world::World;

    fn deref(&self) -> &world::World {
        &self.0
    }
}

impl DerefMut for World {
    fn deref_mut(&mut self) -> &mut world::World {
        &mut self.0
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.moved(&[]);
        }
    }
}

/// A service on port 80 of the VIP: DR servers on the clients' link, or NAT servers on port 8080
/// behind the other port.
#[derive(Clone, Copy, Debug)]
struct Site {
    family: Family,
    forward: Forward,
    protocol: Protocol,
}

const DR: Site = Site {
    family: Family::V4,
    forward: Forward::Dr,
    protocol: Protocol::Tcp,
};
const NAT: Site = Site {
    forward: Forward::Nat,
    ..DR
};
const DR6: Site = Site {
    family: Family::V6,
    ..DR
};
const NAT6: Site = Site {
    family: Family::V6,
    ..NAT
};

impl Site {
    const ALL: [Self; 4] = [DR, NAT, DR6, NAT6];

    fn udp(self) -> Self {
        Self {
            protocol: Protocol::Udp,
            ..self
        }
    }

    fn sctp(self) -> Self {
        Self {
            protocol: Protocol::Sctp,
            ..self
        }
    }

    /// Host `host` of net `net`, in the text of either family.
    fn host(self, net: u8, host: u8, port: u16) -> SocketAddr {
        endpoint(&match self.family {
            Family::V4 => format!("10.0.{net}.{host}:{port}"),
            Family::V6 => format!("[fd00:{net}::{host}]:{port}"),
        })
    }

    fn vip(self) -> SocketAddr {
        self.host(1, 50, 80)
    }

    fn client(self, port: u16) -> SocketAddr {
        self.host(1, 100, port)
    }

    fn real(self, host: u8) -> SocketAddr {
        match self.forward {
            Forward::Nat => self.host(2, host, 8080),
            _ => self.host(1, host, 80),
        }
    }

    /// The port the servers are behind.
    fn inside(self) -> u8 {
        u8::from(self.forward == Forward::Nat)
    }

    /// A round-robin service with these servers, in order of addition.
    fn plan(self, hosts: &[u8]) -> Plan {
        let reals: Vec<_> = hosts
            .iter()
            .map(|host| self.real(*host).to_string())
            .collect();
        let reals: Vec<_> = reals.iter().map(String::as_str).collect();
        let vip = self.vip().to_string();
        let service = ServicePlan::new(self.protocol, &vip, self.forward, &reals);
        Plan::new(vec![service])
    }

    fn world(self, hosts: &[u8]) -> World {
        World::new(self.plan(hosts))
    }

    fn between(self, source: SocketAddr, destination: SocketAddr) -> PacketBuilder {
        match self.protocol {
            Protocol::Udp => PacketBuilder::udp(source, destination),
            Protocol::Sctp => PacketBuilder::sctp(source, destination).payload([1, 0, 0, 4]),
            Protocol::Tcp => PacketBuilder::tcp(source, destination),
        }
    }

    /// What a client sends: a datagram, an INIT unless there is another payload, or a SYN unless other flags are set.
    fn request(self, port: u16) -> PacketBuilder {
        let client = self.client(port);
        self.between(client, self.vip())
            .link(host_mac(client.ip()), port_mac(0))
            .flags(SYN)
    }

    /// The same as server `host` gets it.
    fn delivered(self, host: u8, port: u16) -> PacketBuilder {
        let real = self.real(host);
        let to = match self.forward {
            Forward::Nat => real,
            _ => self.vip(),
        };
        self.between(self.client(port), to)
            .link(port_mac(self.inside()), host_mac(real.ip()))
            .ttl(63)
            .flags(SYN)
    }

    /// What server `host` answers.
    fn reply(self, host: u8, port: u16) -> PacketBuilder {
        let real = self.real(host);
        self.between(real, self.client(port))
            .link(host_mac(real.ip()), port_mac(self.inside()))
            .flags(SYN | ACK)
    }

    /// The same as the client gets it.
    fn returned(self, port: u16) -> PacketBuilder {
        let client = self.client(port);
        self.between(self.vip(), client)
            .link(port_mac(0), host_mac(client.ip()))
            .ttl(63)
            .flags(SYN | ACK)
    }

    /// IP length of a packet without payload.
    fn bytes(self) -> usize {
        let ip = match self.family {
            Family::V4 => 20,
            Family::V6 => 40,
        };
        match self.protocol {
            Protocol::Udp => ip + 8,
            Protocol::Sctp => ip + 16,
            Protocol::Tcp => ip + 20,
        }
    }

    /// What a new connection to `host` moves.
    fn created(self, host: u8) -> String {
        let count = match self.protocol {
            Protocol::Udp | Protocol::Sctp => "inactive",
            Protocol::Tcp => "active",
        };
        format!(
            "connection_misses 1, connections_created 1, {host}.connections 1, {host}.{count} 1, \
             {host}.in_packets 1, {host}.in_bytes {}",
            self.bytes()
        )
    }

    /// What a client's packet of a known connection moves.
    fn hit(self, host: u8) -> String {
        let bytes = self.bytes();
        format!("connection_hits 1, {host}.in_packets 1, {host}.in_bytes {bytes}")
    }

    /// What a server's packet of a known connection moves.
    fn answered(self, host: u8) -> String {
        let bytes = self.bytes();
        format!("connection_hits 1, {host}.out_packets 1, {host}.out_bytes {bytes}")
    }
}

/// Timers run out this late at most, in milliseconds: the tick of the timer wheel.
const TICK: u64 = 256;

/// Opens a connection from client port `port`, to ESTABLISHED, and forgets what moved.
fn establish(world: &mut World, site: Site, port: u16) {
    world.sent(0, &site.request(port), site.inside());
    world.sent(0, &site.request(port).flags(ACK), site.inside());
    world.movement();
}

/// The host part of the server that gets the frame.
fn server_of(frame: &[u8]) -> u8 {
    match frame[1] {
        // Addresses of IPv6 hosts are written with the digits of the number.
        6 => frame[5] / 16 * 10 + frame[5] % 16,
        _ => frame[5],
    }
}
