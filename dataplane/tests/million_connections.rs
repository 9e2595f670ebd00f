//! One million connections at once, then all of them gone: none is refused or evicted on the way
//! in, none is left behind, and the servers' counts come back to zero.

use dataplane::address::Protocol;
use dataplane::connection::Timeouts;
use dataplane::counters::Event;
use dataplane::packet::builder::PacketBuilder;
use dataplane::packet::tcp::{ACK, SYN};
use dataplane::pipeline::world::{Plan, ServicePlan, World, host_mac, port_mac};
use dataplane::service::Forward;
use dataplane::verdict::Verdict;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

const CONNECTIONS: u32 = 1_000_000;
const PORTS: u32 = 60_000;
/// `[timeouts] tcp`, in milliseconds.
const TCP: u32 = 5_000;

#[test]
fn a_million_connections_are_held_and_expire_completely() {
    let reals = ["10.0.1.11:80", "10.0.1.12:80", "10.0.1.13:80"];
    let service = ServicePlan::new(Protocol::Tcp, "10.0.1.50:80", Forward::Dr, &reals);
    let mut plan = Plan::new(vec![service]);
    plan.connections = CONNECTIONS as usize;
    let mut timeouts = Timeouts::default();
    assert!(timeouts.set("tcp", TCP));
    plan.timeouts = timeouts;
    let mut world = World::new(plan);

    let vip: SocketAddr = "10.0.1.50:80".parse().unwrap();
    for index in 0..CONNECTIONS {
        let host = Ipv4Addr::new(10, 0, 1, (100 + index / PORTS) as u8);
        let client = SocketAddr::new(IpAddr::V4(host), (1024 + index % PORTS) as u16);
        for flags in [SYN, ACK] {
            let packet = PacketBuilder::tcp(client, vip)
                .link(host_mac(client.ip()), port_mac(0))
                .flags(flags);
            let verdict = world.verdict(0, &packet);
            assert!(matches!(verdict, Verdict::Tx(_)), "{client}: {verdict:?}");
        }
    }
    let counts = |world: &World| -> Vec<(u64, u64)> {
        let reals = world.services().reals();
        reals.map(|(_, real)| real.shared.connections()).collect()
    };
    let active: u64 = counts(&world).iter().map(|(active, _)| active).sum();
    assert_eq!(active, u64::from(CONNECTIONS));
    let event = |world: &World, event| world.counters().event(event).value();
    assert_eq!(event(&world, Event::ConnectionsEvicted), 0);

    // A second for the granularity of the timers.
    world.sleep(u64::from(TCP) + 1_000);
    world.expire();
    assert_eq!(counts(&world), [(0, 0); 3]);
    assert_eq!(
        event(&world, Event::ConnectionsExpired),
        u64::from(CONNECTIONS)
    );
    assert!(world.connections().is_empty());
}
