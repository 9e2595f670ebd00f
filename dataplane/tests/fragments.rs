//! Fragments of balanced flows (DESIGN §5, rule 5): any order, all workers, one server, in order
//! from the first on, nothing lost that a counter does not explain.

use dataplane::address::{Family, Protocol};
use dataplane::packet::builder::PacketBuilder;
use dataplane::packet::tunnel::overhead;
use dataplane::pipeline::world::{Plan, ServicePlan, endpoint, host_mac, port_mac};
use dataplane::service::{Forward, Tunnel, TunnelKind};
use dataplane::verdict::DropReason;
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use workers::{Dice, Workers, cut, join, place};

mod workers;

/// A UDP service on port 53 of the VIP; NAT servers have port 5353 behind the other port, those of
/// tunnels are there too.
#[derive(Clone, Copy, Debug)]
struct Site {
    v6: bool,
    method: Method,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Method {
    Dr,
    Nat,
    /// To servers of this family.
    Tunnel(Tunnel, Family),
}

const fn site(v6: bool, method: Method) -> Site {
    Site { v6, method }
}

const fn tunnel(kind: TunnelKind, checksum: bool, outer: Family) -> Method {
    Method::Tunnel(Tunnel { kind, checksum }, outer)
}

/// Each method with both families, tunnels with each combination.
const SITES: [Site; 10] = [
    site(false, Method::Dr),
    site(false, Method::Nat),
    site(true, Method::Dr),
    site(true, Method::Nat),
    site(false, tunnel(TunnelKind::Ipip, false, Family::V4)),
    site(true, tunnel(TunnelKind::Ipip, false, Family::V6)),
    site(false, tunnel(TunnelKind::Gre, false, Family::V6)),
    site(true, tunnel(TunnelKind::Gre, true, Family::V4)),
    site(false, tunnel(TunnelKind::Gue(6080), true, Family::V4)),
    site(true, tunnel(TunnelKind::Gue(6080), false, Family::V6)),
];
const DR: Site = SITES[0];
const NAT: Site = SITES[1];
const HOSTS: [u8; 3] = [11, 12, 13];

impl Site {
    fn host(self, net: u8, host: u8, port: u16) -> SocketAddr {
        endpoint(&if self.v6 {
            format!("[fd00:{net}::{host}]:{port}")
        } else {
            format!("10.0.{net}.{host}:{port}")
        })
    }

    fn client(self, port: u16) -> SocketAddr {
        self.host(1, 100, port)
    }

    fn vip(self) -> SocketAddr {
        self.host(1, 50, 53)
    }

    fn real(self, host: u8) -> SocketAddr {
        match self.method {
            Method::Dr => self.host(1, host, 53),
            Method::Nat => self.host(2, host, 5353),
            Method::Tunnel(_, outer) => {
                let v6 = outer == Family::V6;
                Self { v6, ..self }.host(2, host, 53)
            }
        }
    }

    fn inside(self) -> u8 {
        u8::from(self.method != Method::Dr)
    }

    fn is_nat(self) -> bool {
        self.method == Method::Nat
    }

    fn is_tunnel(self) -> bool {
        matches!(self.method, Method::Tunnel(..))
    }

    fn plan(self, queues: u16) -> Plan {
        let forward = match self.method {
            Method::Dr => Forward::Dr,
            Method::Nat => Forward::Nat,
            Method::Tunnel(tunnel, _) => Forward::Tunnel(tunnel),
        };
        let reals = HOSTS.map(|host| self.real(host).to_string());
        let reals = reals.each_ref().map(String::as_str);
        let vip = self.vip().to_string();
        let mut plan = Plan::new(vec![ServicePlan::new(Protocol::Udp, &vip, forward, &reals)]);
        plan.queues = queues;
        if self.is_tunnel() {
            // Room for the fragments of a link of 1500 bytes and what the tunnel puts in front.
            plan.mtu[1] = 1600;
        }
        plan
    }

    fn workers(self, workers: u8) -> Workers {
        Workers::new(self.plan(workers.into()), workers)
    }

    /// A datagram of the client.
    fn request(self, port: u16, payload: &[u8]) -> PacketBuilder {
        let client = self.client(port);
        PacketBuilder::udp(client, self.vip())
            .link(host_mac(client.ip()), port_mac(0))
            .payload(payload)
    }

    /// The same as server `host` gets it.
    fn delivered(self, host: u8, port: u16, payload: &[u8]) -> PacketBuilder {
        let real = self.real(host);
        let to = if self.is_nat() { real } else { self.vip() };
        PacketBuilder::udp(self.client(port), to)
            .link(port_mac(self.inside()), host_mac(real.ip()))
            .ttl(63)
            .payload(payload)
    }

    /// What comes out at the other end of the tunnel, with the link addresses of this one.
    fn open(self, frame: &[u8]) -> Vec<u8> {
        let Method::Tunnel(tunnel, outer) = self.method else {
            return frame.to_vec();
        };
        let inner = &frame[14 + usize::from(overhead(tunnel, outer))..];
        let kind = if self.v6 { [0x86, 0xdd] } else { [8, 0] };
        [&frame[..12], &kind, inner].concat()
    }

    /// What the servers got, in order.
    fn arrived(self, sent: &[(u8, Vec<u8>)]) -> Vec<Vec<u8>> {
        sent.iter().map(|(_, frame)| self.open(frame)).collect()
    }

    /// The server whose link address a frame is sent to.
    fn server(self, frame: &[u8]) -> u8 {
        let host = HOSTS
            .into_iter()
            .find(|host| host_mac(self.real(*host).ip()).0 == frame[..6]);
        host.expect("a server")
    }
}

fn payload(length: usize, seed: u64) -> Vec<u8> {
    let mut dice = Dice(seed);
    (0..length).map(|_| dice.roll(256) as u8).collect()
}

/// 4000 bytes of UDP as they cross a link of 1500 bytes.
fn large(site: Site, port: u16, id: u16) -> Vec<Vec<u8>> {
    let frame = site
        .request(port, &payload(4000, port.into()))
        .id(id)
        .build();
    let room = if site.v6 { 1448 } else { 1480 };
    cut(&frame, &[room, 2 * room], id)
}

#[test]
fn the_recorded_datagram_of_4000_bytes_reaches_its_server_in_the_recorded_pieces() {
    for order in [[0, 1, 2], [2, 1, 0], [1, 2, 0], [2, 0, 1]] {
        for count in [1, 2] {
            let mut workers = NAT.workers(count);
            let pieces = large(NAT, 52751, 53363);
            for (index, piece) in order.into_iter().enumerate() {
                workers.receive(index % workers.count(), 0, &pieces[piece]);
            }
            let sent: Vec<_> = workers
                .sent
                .iter()
                .map(|(_, frame)| frame.clone())
                .collect();
            let seen = sent.iter().map(|frame| {
                (
                    u16::from_be_bytes([frame[16], frame[17]]),
                    frame[22],
                    place(frame),
                )
            });
            let mut seen: Vec<_> = seen.collect();
            // The first goes first whatever came first, and what waited goes in order.
            assert_eq!(seen[0].2.1, 0);
            if order[2] == 0 {
                assert!(seen.is_sorted_by_key(|piece| piece.2.1), "{seen:?}");
            }
            seen.sort_by_key(|piece| piece.2.1);
            let recorded = [
                (1500, 63, (53363, 0, true)),
                (1500, 63, (53363, 1480, true)),
                (1068, 63, (53363, 2960, false)),
            ];
            assert_eq!(seen, recorded);
            let host = NAT.server(&sent[0]);
            let whole = NAT.delivered(host, 52751, &payload(4000, 52751)).id(53363);
            assert_eq!(join(&sent), whole.build());
            assert_eq!(workers.held(), 0);
        }
    }
}

#[test]
fn by_every_method_a_datagram_arrives_whole_at_one_server_in_whatever_order_its_fragments_come() {
    let orders = [
        [0, 1, 2],
        [0, 2, 1],
        [1, 0, 2],
        [1, 2, 0],
        [2, 0, 1],
        [2, 1, 0],
    ];
    for site in SITES {
        for count in 1..=3 {
            let mut workers = site.workers(count);
            // Two datagrams of two clients at a time, interleaved.
            for (round, order) in (0_u16..).zip(orders) {
                let ports = [5000 + round, 6000 + round];
                let datagrams = ports.map(|port| large(site, port, port));
                let before = workers.sent.len();
                for (index, piece) in order.into_iter().enumerate() {
                    for (shift, pieces) in datagrams.iter().enumerate() {
                        let at = (index + shift) % workers.count();
                        workers.receive(at, 0, &pieces[piece]);
                    }
                }
                let arrived = site.arrived(&workers.sent[before..]);
                for port in ports {
                    let mine = arrived.iter().filter(|frame| place(frame).0 == port);
                    let mine: Vec<_> = mine.collect();
                    let host = site.server(mine[0]);
                    let wanted = site.delivered(host, port, &payload(4000, port.into()));
                    assert_eq!(join(mine), wanted.id(port).build(), "{site:?} {count}");
                }
            }
            assert_eq!((workers.held(), workers.sent.len()), (0, 36), "{site:?}");
            assert_eq!(workers.dropped, BTreeMap::new(), "{site:?}");
        }
    }
}

/// Where the tunnel has no room for the fragments of the link in front, and DF is clear, the outer
/// packets are fragmented in their turn: the server puts those together, opens them, and then joins
/// what it finds.
#[test]
fn fragments_too_large_for_their_tunnel_are_fragmented_outside_and_not_inside() {
    let outside_v4 = |site: &Site| matches!(site.method, Method::Tunnel(_, Family::V4));
    for site in SITES
        .into_iter()
        .filter(|site| !site.v6 && outside_v4(site))
    {
        for count in [1, 2] {
            let mut plan = site.plan(count.into());
            plan.mtu = [1500; 2];
            let mut workers = Workers::new(plan, count);
            for (index, piece) in large(site, 5000, 7).iter().rev().enumerate() {
                workers.receive(index % workers.count(), 0, piece);
            }
            let mut outer = BTreeMap::<u16, Vec<Vec<u8>>>::new();
            let mut last = None;
            for (_, frame) in &workers.sent {
                assert!(frame.len() <= 1514);
                let whole = place(frame).1 == 0 && !place(frame).2;
                // The last and shortest one fits; DF tells nothing of its identification.
                if whole {
                    assert_eq!(last.replace(site.open(frame)), None);
                } else {
                    outer.entry(place(frame).0).or_default().push(frame.clone());
                }
            }
            assert_eq!(outer.len(), 2, "{site:?} {count}");
            let mut pieces: Vec<_> = outer.values().map(|them| site.open(&join(them))).collect();
            pieces.extend(last);
            let host = site.server(&pieces[0]);
            let wanted = site.delivered(host, 5000, &payload(4000, 5000)).id(7);
            assert_eq!(join(&pieces), wanted.build(), "{site:?} {count}");
        }
    }
}

#[test]
fn fragmented_replies_are_translated_back() {
    for site in SITES.into_iter().filter(|site| site.is_nat()) {
        for count in 1..=3 {
            let mut workers = site.workers(count);
            let request = site.request(5000, b"hello").build();
            let host = site.server(&workers.receive(0, 0, &request)[0].1);
            let reply = PacketBuilder::udp(site.real(host), site.client(5000))
                .link(host_mac(site.real(host).ip()), port_mac(1))
                .payload(payload(3000, 1))
                .id(9)
                .build();
            let before = workers.sent.len();
            for (index, piece) in cut(&reply, &[1400, 2800], 9).iter().rev().enumerate() {
                workers.receive(index % usize::from(count), 1, piece);
            }
            let client = site.client(5000);
            let wanted = PacketBuilder::udp(site.vip(), client)
                .link(port_mac(0), host_mac(client.ip()))
                .ttl(63)
                .payload(payload(3000, 1))
                .id(9);
            let sent = workers.sent[before..].iter().map(|(port, frame)| {
                assert_eq!(*port, 0);
                frame
            });
            assert_eq!(join(sent), wanted.build(), "{site:?} {count}");
        }
    }
}

#[test]
fn fragments_of_a_flow_join_it_wherever_its_connection_was_made() {
    for site in SITES {
        for count in [2, 3, 4] {
            let mut workers = site.workers(count);
            // Whole packets first, at a worker that RSS might choose.
            let mut servers = Vec::new();
            for flow in 0..24_u16 {
                let home = usize::from(flow) % workers.count();
                let whole = site.request(5000 + flow, b"whole").build();
                servers.push(site.server(&workers.receive(home, 0, &whole)[0].1));
            }
            for (flow, server) in (0..24_u16).zip(servers) {
                let port = 5000 + flow;
                let home = usize::from(flow) % workers.count();
                let whole = site.request(port, b"whole").build();
                for (index, piece) in large(site, port, flow).iter().enumerate().rev() {
                    let at = (usize::from(flow) / 3 + index) % workers.count();
                    for (_, frame) in workers.receive(at, 0, piece) {
                        assert_eq!(site.server(&frame), server, "{site:?} {count} {flow}");
                    }
                }
                let again = workers.receive(home, 0, &whole);
                assert_eq!(site.server(&again[0].1), server);
            }
            assert_eq!(workers.counted("connections_created"), 24, "{site:?}");
            assert_eq!(workers.dropped, BTreeMap::new());
            assert_eq!(workers.sent.len(), 24 * 5);
            let searches = workers.counted("owner_searches");
            assert_eq!(
                searches > 0,
                !site.is_nat(),
                "{site:?}: {searches} searches"
            );
        }
    }
}

#[test]
fn whole_packets_join_a_flow_that_began_with_fragments() {
    for site in SITES {
        let mut workers = site.workers(4);
        for flow in 0..24_u16 {
            let port = 5000 + flow;
            let pieces = large(site, port, flow);
            for (index, piece) in pieces.iter().enumerate() {
                workers.receive((index + usize::from(flow)) % 4, 0, piece);
            }
            let server = site.server(&workers.sent.last().expect("it was sent").1);
            for home in 0..4 {
                let whole = site.request(port, b"whole").build();
                let sent = workers.receive(home, 0, &whole);
                assert_eq!(site.server(&sent[0].1), server, "{site:?} {flow}");
            }
        }
        assert_eq!(workers.counted("connections_created"), 24, "{site:?}");
        assert_eq!(workers.dropped, BTreeMap::new());
    }
}

#[test]
fn fragments_change_how_a_service_is_dealt_until_nobody_needs_it_and_that_of_tcp_never() {
    /// Packets handed over when each of 24 flows, from `port` on, begins at each worker.
    fn handed(workers: &mut Workers, packet: impl Fn(u16) -> PacketBuilder, port: u16) -> usize {
        let before = workers.redirects;
        for flow in 0..24 {
            workers.receive(usize::from(flow) % 4, 0, &packet(port + flow).build());
        }
        workers.redirects - before
    }
    const MINUTE: u64 = 60_000;
    let mut plan = DR.plan(4);
    let reals = HOSTS.map(|host| DR.real(host).to_string());
    let reals = reals.each_ref().map(String::as_str);
    let vip = DR.vip().to_string();
    let tcp = ServicePlan::new(Protocol::Tcp, &vip, Forward::Dr, &reals);
    plan.services.push(tcp);
    let mut workers = Workers::new(plan, 4);
    let datagram = |port| DR.request(port, b"whole");
    assert_eq!(handed(&mut workers, datagram, 5000), 0);
    let syn = |port| {
        let client = DR.client(port);
        PacketBuilder::tcp(client, DR.vip())
            .link(host_mac(client.ip()), port_mac(0))
            .flags(dataplane::packet::tcp::SYN)
    };
    for flow in 0..4 {
        for piece in cut(&syn(4000 + flow).payload([7; 64]).build(), &[40], flow) {
            workers.receive(0, 0, &piece);
        }
    }
    assert_eq!(handed(&mut workers, syn, 5000), 0, "TCP is dealt as before");
    for flow in 0..4 {
        for piece in large(DR, 6000 + flow, 100 + flow) {
            workers.receive(0, 0, &piece);
        }
    }
    assert!(handed(&mut workers, datagram, 6100) > 0);
    assert_eq!(handed(&mut workers, syn, 5100), 0, "TCP still");
    // Needed: the connections made meanwhile are with their owners.
    workers.sleep(4 * MINUTE);
    let server = |workers: &mut Workers, home| {
        let sent = workers.receive(home, 0, &datagram(6100).build());
        DR.server(&sent[0].1)
    };
    let first = server(&mut workers, 0);
    for home in 0..4 {
        assert_eq!(server(&mut workers, home), first);
    }
    workers.sleep(9 * MINUTE);
    assert!(
        handed(&mut workers, datagram, 6200) > 0,
        "nine minutes are too few"
    );
    workers.sleep(11 * MINUTE);
    assert_eq!(handed(&mut workers, datagram, 6300), 0, "nobody needed it");
}

#[test]
fn overlapping_fragments_end_their_datagram_and_duplicates_only_themselves() {
    for site in SITES {
        let mut workers = site.workers(1);
        let frame = site.request(5000, &payload(400, 1)).id(1).build();
        let pieces = cut(&frame, &[80, 160, 240], 1);
        // Covers the last 8 bytes of the second piece and the first of the third.
        let across = &cut(&frame, &[152, 168], 1)[1];
        workers.receive(0, 0, &pieces[2]);
        workers.receive(0, 0, &pieces[2]);
        assert_eq!(workers.dropped[&DropReason::FragmentDuplicate], 1);
        workers.receive(0, 0, &pieces[1]);
        workers.receive(0, 0, across);
        workers.receive(0, 0, &pieces[0]);
        workers.receive(0, 0, &pieces[3]);
        assert!(workers.sent.is_empty());
        // The offender and what came after it; what had waited is freed by the next loop.
        workers.sleep(1);
        assert_eq!(workers.counted("drop.fragment_duplicate"), 1);
        assert_eq!(workers.counted("drop.fragment_overlap"), 5);
        assert_eq!(workers.held(), 0);

        // Others are not touched by it.
        for piece in &cut(&frame, &[80, 160], 2) {
            assert_eq!(workers.receive(0, 0, piece).len(), 1);
        }
        // A datagram of which some was sent already.
        let pieces = cut(&frame, &[80, 160, 240], 3);
        workers.receive(0, 0, &pieces[0]);
        workers.receive(0, 0, &cut(&frame, &[72, 160], 3)[1]);
        assert!(workers.receive(0, 0, &pieces[2]).is_empty());
        assert_eq!(workers.counted("drop.fragment_overlap"), 7);
        // Two ends.
        let pieces = cut(&frame, &[80, 160], 4);
        workers.receive(0, 0, &pieces[2]);
        let short = &cut(&frame[..frame.len() - 200], &[80], 4)[1];
        workers.receive(0, 0, short);
        assert!(workers.receive(0, 0, &pieces[0]).is_empty());
    }
}

#[test]
fn a_first_fragment_without_its_transport_header_is_dropped() {
    let mut workers = DR.workers(1);
    let tcp = PacketBuilder::tcp(DR.client(5000), DR.vip())
        .link(host_mac(DR.client(0).ip()), port_mac(0))
        .payload([0; 40])
        .build();
    workers.receive(0, 0, &cut(&tcp, &[16], 1)[0]);
    // RFC 3128: the second fragment would overwrite the flags.
    workers.receive(0, 0, &cut(&tcp, &[8, 16], 1)[1]);
    // Not a multiple of eight, and not the last.
    let mut odd = cut(&DR.request(5000, &[0; 64]).build(), &[32], 2)[0].clone();
    odd.truncate(odd.len() - 3);
    odd[16..18].copy_from_slice(&(20 + 29_u16).to_be_bytes());
    dataplane::packet::ipv4::fill_checksum(&mut odd[14..34]);
    workers.receive(0, 0, &odd);
    assert_eq!(
        workers.dropped,
        BTreeMap::from([(DropReason::FragmentMalformed, 3)])
    );
}

#[test]
fn fragments_wait_for_the_first_a_second_at_most() {
    for site in SITES {
        let mut workers = site.workers(2);
        let pieces = large(site, 5000, 7);
        workers.receive(0, 0, &pieces[1]);
        workers.receive(1, 0, &pieces[2]);
        assert_eq!((workers.held(), workers.counted("fragments_held")), (2, 2));
        workers.sleep(999);
        assert_eq!(workers.held(), 2);
        workers.sleep(1);
        assert_eq!(workers.held(), 0);
        assert_eq!(workers.counted("drop.fragment_timeout"), 2);
        // The first goes on alone; the datagram is begun anew.
        assert_eq!(workers.receive(0, 0, &pieces[0]).len(), 1);
    }
}

#[test]
fn a_flood_of_early_fragments_is_bounded_and_disturbs_no_datagram_that_comes_in_order() {
    for site in [DR, NAT, SITES[3], SITES[7]] {
        for count in [1, 2] {
            let mut workers = site.workers(count);
            let seats = workers
                .worlds
                .iter()
                .map(|w| w.pipeline.fragment_seats())
                .sum();
            let mut dice = Dice(1);
            for round in 0..20_u16 {
                for id in 0..200 {
                    let piece = &large(site, dice.roll(60_000) as u16, id * 7 + round * 1400)[1];
                    workers.receive(dice.roll(count.into()), 0, piece);
                    assert!(workers.held() <= seats);
                }
                for world in &mut workers.worlds {
                    world.expire();
                }
                let pieces = large(site, 61_000 + round, 60_000 + round);
                for piece in &pieces {
                    let sent = workers.receive(dice.roll(count.into()), 0, piece);
                    assert_eq!(sent.len(), 1, "{site:?} {count}");
                }
            }
            assert!(workers.counted("drop.fragment_table_full") > 1000);
            workers.sleep(1000);
            for _ in 0..100 {
                workers.sleep(1);
            }
            assert_eq!(workers.held(), 0);
            let held = workers.counted("fragments_held");
            let lost = workers.counted("drop.fragment_table_full")
                + workers.counted("drop.fragment_timeout");
            assert_eq!(lost, 4000, "every one is explained; {held} were held");
        }
    }
}

#[test]
fn what_is_not_balanced_goes_to_the_linux_stack_at_once_as_before() {
    for site in SITES {
        let mut workers = site.workers(2);
        let (client, vip) = (site.client(0).ip(), site.vip().ip());
        let kind = if site.v6 { 128 } else { 8 };
        let echo = PacketBuilder::icmp(client, vip, kind, 0)
            .link(host_mac(client), port_mac(0))
            .payload([0; 3000])
            .build();
        for piece in cut(&echo, &[1400, 2800], 1).iter().rev() {
            workers.receive(0, 0, piece);
        }
        assert_eq!(workers.punted.len(), 3, "{site:?}: ping");
        // To an address of this box that is no VIP.
        let own = PacketBuilder::udp(site.client(9), site.host(1, 1, 53))
            .link(host_mac(client), port_mac(0))
            .payload([0; 3000])
            .build();
        workers.receive(0, 0, &cut(&own, &[1400, 2800], 1)[2]);
        assert_eq!(workers.punted.len(), 4, "{site:?}: local");
        // To a port of the VIP that is no service: known only with the first fragment.
        let other = PacketBuilder::udp(site.client(9), site.host(1, 50, 54))
            .link(host_mac(client), port_mac(0))
            .payload([0; 3000])
            .build();
        for piece in cut(&other, &[1400, 2800], 1).iter().rev() {
            workers.receive(1, 0, piece);
        }
        assert_eq!(workers.punted.len(), 7, "{site:?}: another port");
        assert_eq!(workers.dropped, BTreeMap::new());
    }
}

#[test]
fn what_becomes_of_the_first_becomes_of_all() {
    for site in SITES {
        let mut plan = site.plan(1);
        plan.services[0].reals.clear();
        let mut workers = Workers::new(plan, 1);
        for piece in large(site, 5000, 1).iter().rev() {
            workers.receive(0, 0, piece);
        }
        assert_eq!(workers.sent.len(), 1, "port unreachable, once");
        assert_eq!(workers.dropped, BTreeMap::from([(DropReason::NoServer, 2)]));
    }
}

#[test]
fn every_fragment_counts_for_its_server() {
    let mut workers = NAT.workers(1);
    let pieces = large(NAT, 5000, 1);
    for piece in &pieces {
        workers.receive(0, 0, piece);
    }
    let bytes: usize = pieces.iter().map(|piece| piece.len() - 14).sum();
    let host = NAT.server(&workers.sent[0].1);
    workers.worlds[0].moved(&[&format!(
        "connection_misses 1, connections_created 1, connection_hits 2, {host}.connections 1, \
         {host}.inactive 1, {host}.in_packets 3, {host}.in_bytes {bytes}"
    )]);
}

/// One datagram of the model.
#[derive(Clone, Debug)]
struct Sample {
    port: u16,
    length: usize,
    cuts: Vec<usize>,
    duplicate: Option<usize>,
    known: bool,
}

fn samples() -> impl Strategy<Value = Sample> {
    let cuts = prop::collection::btree_set(1_usize..400, 0..8);
    (
        0_u16..6,
        400_usize..3200,
        cuts,
        prop::option::of(0_usize..9),
        any::<bool>(),
    )
        .prop_map(|(port, length, cuts, duplicate, known)| Sample {
            port: 5000 + port,
            length,
            cuts: cuts.into_iter().map(|at| at * 8).collect(),
            duplicate,
            known,
        })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn datagrams_cut_and_shuffled_at_random_arrive_whole_at_the_server_of_their_flow(
        site in prop::sample::select(SITES.to_vec()),
        count in 1_u8..5,
        few_queues in any::<bool>(),
        samples in prop::collection::vec(samples(), 1..6),
        seed in any::<u64>(),
    ) {
        let mut dice = Dice(seed);
        let queues = if few_queues { 1 } else { count.into() };
        let mut plan = site.plan(queues);
        // Each piece is sent as it is.
        plan.mtu = [4000; 2];
        let mut workers = Workers::new(plan, count);
        let mut homes = BTreeMap::new();
        let mut servers: BTreeMap<u16, u8> = BTreeMap::new();
        // Flows that exist, made where RSS had brought them.
        for sample in samples.iter().filter(|sample| sample.known) {
            let home = *homes.entry(sample.port).or_insert_with(|| dice.roll(count.into()));
            let sent = workers.receive(home, 0, &site.request(sample.port, b"whole").build());
            servers.insert(sample.port, site.server(&sent[0].1));
        }
        workers.sent.clear();
        let mut arrivals = Vec::new();
        for (id, sample) in (1_u16..).zip(&samples) {
            let data = payload(sample.length, id.into());
            let frame = site.request(sample.port, &data).id(id).build();
            // Two pieces at least, so that it is one of fragments.
            let mut cuts = sample.cuts.clone();
            cuts.push(8 * (sample.length / 16));
            cuts.sort_unstable();
            cuts.dedup();
            let pieces = cut(&frame, &cuts, id);
            let duplicate = sample.duplicate.and_then(|index| pieces.get(index)).cloned();
            arrivals.extend(pieces);
            arrivals.extend(duplicate);
        }
        for index in (1..arrivals.len()).rev() {
            arrivals.swap(index, dice.roll(index + 1));
        }
        for frame in &arrivals {
            workers.arrive(dice.roll(count.into()), 0, frame);
        }
        workers.run(&mut dice);

        let arrived = site.arrived(&workers.sent);
        for (id, sample) in (1_u16..).zip(&samples) {
            let pieces: Vec<_> = arrived.iter().filter(|frame| place(frame).0 == id).collect();
            prop_assert!(!pieces.is_empty(), "{:?} {:?}", sample, workers.dropped);
            prop_assert_eq!(place(pieces[0]).1, 0, "the first goes first");
            let server = site.server(pieces[0]);
            let data = payload(sample.length, id.into());
            let wanted = site.delivered(server, sample.port, &data).id(id).build();
            prop_assert_eq!(join(pieces), wanted);
            prop_assert_eq!(*servers.entry(sample.port).or_insert(server), server);
        }
        // Whole packets of the flows meet the same servers.
        for (port, server) in servers {
            let home = homes.get(&port).copied().unwrap_or_else(|| dice.roll(count.into()));
            let sent = workers.receive(home, 0, &site.request(port, b"whole").build());
            prop_assert_eq!(site.server(&sent[0].1), server);
        }
        // What is left over is duplicates that came when their datagram was complete.
        workers.sleep(1000);
        prop_assert_eq!(workers.held(), 0);
        for reason in workers.dropped.keys() {
            prop_assert_eq!(*reason, DropReason::FragmentDuplicate);
        }
    }
}
