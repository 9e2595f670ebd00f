//! ICMP errors about connections of other workers (DESIGN §5, rule 6): handed to the owner at once
//! where it can be computed, else passed round until one worker has the connection.

use dataplane::address::Protocol;
use dataplane::packet::builder::PacketBuilder;
use dataplane::packet::ipv4;
use dataplane::pipeline::world::{Plan, ServicePlan, endpoint, host_mac, port_mac};
use dataplane::service::{Forward, Tunnel, TunnelKind};
use workers::Workers;

mod workers;

const CLIENT: &str = "10.0.1.100";

fn workers(forward: Forward, count: u8) -> Workers {
    let real = match forward {
        Forward::Nat => "10.0.2.11:5353",
        // The other family.
        Forward::Tunnel(Tunnel {
            kind: TunnelKind::Gre,
            ..
        }) => "[fd00:2::11]:53",
        Forward::Tunnel(_) => "10.0.2.11:53",
        _ => "10.0.1.11:53",
    };
    let service = ServicePlan::new(Protocol::Udp, "10.0.1.50:53", forward, &[real]);
    let mut plan = Plan::new(vec![service]);
    plan.queues = count.into();
    Workers::new(plan, count)
}

fn request(port: u16) -> Vec<u8> {
    let client = endpoint(&format!("{CLIENT}:{port}"));
    PacketBuilder::udp(client, endpoint("10.0.1.50:53"))
        .link(host_mac(client.ip()), port_mac(0))
        .payload("a question")
        .build()
}

/// An error of `from` to `to`, port unreachable, about a datagram.
fn error(from: &str, to: &str, quoted: (&str, &str), port: u8) -> Vec<u8> {
    let quote = PacketBuilder::udp(endpoint(quoted.0), endpoint(quoted.1)).payload("x");
    let from = from.parse().expect("an address");
    PacketBuilder::icmp(from, to.parse().expect("an address"), 3, 3)
        .payload(quote.build().split_off(14))
        .link(host_mac(from), port_mac(port))
        .build()
}

fn of_client(port: u16) -> Vec<u8> {
    let quoted = ("10.0.1.50:53", &*format!("{CLIENT}:{port}"));
    error(CLIENT, "10.0.1.50", quoted, 0)
}

#[test]
fn errors_of_both_sides_of_a_translated_connection_reach_it_by_one_hop_at_most() {
    for count in 1..=4 {
        let mut workers = workers(Forward::Nat, count);
        for port in 5000..5040 {
            workers.receive(usize::from(port) % workers.count(), 0, &request(port));
            let redirects = workers.redirects;
            for at in 0..workers.count() {
                assert_eq!(workers.receive(at, 0, &of_client(port)).len(), 1);
                let quoted = (&*format!("{CLIENT}:{port}"), "10.0.2.11:5353");
                let of_server = error("10.0.2.11", CLIENT, quoted, 1);
                assert_eq!(workers.receive(at, 1, &of_server).len(), 1);
            }
            let spent = workers.redirects - redirects;
            assert_eq!(spent, 2 * (workers.count() - 1));
        }
        assert_eq!(workers.counted("owner_searches"), 0);
        assert_eq!(workers.counted("icmp_related"), 80 * u64::from(count));
    }
}

/// Methods whose replies do not come back through this box.
fn one_way() -> impl Iterator<Item = Forward> {
    let tunnels = [TunnelKind::Ipip, TunnelKind::Gre, TunnelKind::Gue(6080)];
    let tunnels = tunnels.map(|kind| {
        Forward::Tunnel(Tunnel {
            kind,
            checksum: kind != TunnelKind::Ipip,
        })
    });
    std::iter::once(Forward::Dr).chain(tunnels)
}

#[test]
fn errors_about_direct_routing_and_tunnels_are_passed_round_until_one_worker_has_the_connection() {
    for (forward, count) in one_way().flat_map(|forward| (1..=4).map(move |it| (forward, it))) {
        let mut workers = workers(forward, count);
        for port in 5000..5040 {
            workers.receive(usize::from(port) % workers.count(), 0, &request(port));
        }
        for port in 5000..5040 {
            for at in 0..workers.count() {
                let sent = workers.receive(at, 0, &of_client(port));
                let [(out, frame)] = &*sent else {
                    panic!("{forward:?} {count} {at}: {sent:?}");
                };
                // As it is, behind whatever the tunnel puts in front.
                assert_eq!(*out, u8::from(forward != Forward::Dr));
                let mut arrived = of_client(port).split_off(14);
                arrived[8] -= 1;
                ipv4::fill_checksum(&mut arrived[..20]);
                assert!(frame.ends_with(&arrived), "{forward:?}");
            }
        }
        assert_eq!(workers.counted("icmp_related"), 40 * u64::from(count));
        assert_eq!(workers.counted("owner_searches") > 0, count > 1);
        // Nobody has it: everybody was asked once, and Linux gets it in the end.
        let (punted, searches) = (workers.punted.len(), workers.counted("owner_searches"));
        for at in 0..workers.count() {
            assert!(workers.receive(at, 0, &of_client(9)).is_empty());
        }
        assert_eq!(workers.punted.len() - punted, workers.count());
        let asked = workers.counted("owner_searches") - searches;
        assert_eq!(asked, u64::from(count) * u64::from(count - 1));
        assert_eq!(workers.counted("icmp_unrelated"), u64::from(count));
        assert!(workers.dropped.is_empty());
    }
}

#[test]
fn searches_are_limited_and_what_is_beyond_is_counted() {
    let mut workers = workers(Forward::Dr, 2);
    for port in 5000..5004 {
        workers.receive(usize::from(port) % 2, 0, &request(port));
    }
    let foreign = of_client(9);
    for _ in 0..30_000 {
        workers.receive(0, 0, &foreign);
    }
    let limited = workers.counted("drop.search_limited");
    let searches = workers.counted("owner_searches");
    // A tenth of a second's at once.
    assert_eq!((searches, limited), (10_000, 20_000));
}

/// A router's "fragmentation needed" about a tunnel packet this box sent.
fn complaint(frame: &[u8]) -> Vec<u8> {
    let router = "10.0.2.200".parse().expect("an address");
    PacketBuilder::icmp(router, "10.0.2.1".parse().expect("an address"), 3, 4)
        .icmp_rest([0, 0, 5, 0])
        .payload(&frame[14..142])
        .link(host_mac(router), port_mac(1))
        .build()
}

#[test]
fn routers_complaints_about_tunnels_reach_the_worker_that_has_the_connection() {
    for kind in [TunnelKind::Ipip, TunnelKind::Gre, TunnelKind::Gue(6080)] {
        for count in 1..=4 {
            let forward = Forward::Tunnel(Tunnel {
                kind,
                checksum: true,
            });
            let service =
                ServicePlan::new(Protocol::Udp, "10.0.1.50:53", forward, &["10.0.2.11:53"]);
            let mut plan = Plan::new(vec![service]);
            plan.queues = count.into();
            let mut workers = Workers::new(plan, count);
            let sent: Vec<_> = (5000..5020_u16)
                .map(|port| {
                    let client = endpoint(&format!("{CLIENT}:{port}"));
                    let packet = PacketBuilder::udp(client, endpoint("10.0.1.50:53"))
                        .link(host_mac(client.ip()), port_mac(0))
                        .dont_fragment()
                        .payload(vec![7; 1300]);
                    let at = usize::from(port) % workers.count();
                    workers.receive(at, 0, &packet.build()).remove(0).1
                })
                .collect();
            for frame in &sent {
                for at in 0..workers.count() {
                    let told = workers.receive(at, 1, &complaint(frame));
                    let [(0, told)] = &*told else {
                        panic!("{kind:?} {count} {at}: {told:?}");
                    };
                    // Fragmentation needed, from the VIP to the client.
                    assert_eq!(told[26..36], [10, 0, 1, 50, 10, 0, 1, 100, 3, 4]);
                }
            }
            assert_eq!(workers.counted("icmp_too_big"), 20 * u64::from(count));
            assert_eq!(workers.counted("owner_searches") > 0, count > 1);
            // About a connection that nobody has: every worker was asked once, then it is Linux's.
            let mut foreign = sent[0].clone();
            let inner = foreign.len() - 1300 - 28;
            foreign[inner + 20] ^= 1;
            for at in 0..workers.count() {
                assert!(workers.receive(at, 1, &complaint(&foreign)).is_empty());
            }
            assert_eq!(workers.punted.len(), workers.count());
            assert!(workers.dropped.is_empty(), "{:?}", workers.dropped);
        }
    }
}
