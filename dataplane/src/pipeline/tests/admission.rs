//! What is not for the dataplane: foreign frames, multicast, VLANs, the Linux stack's packets by
//! class, transit, malformed packets, fragments (DESIGN §3, §6).

use super::*;
use crate::buffer::{Frame, PacketBuffer};
use crate::packet::{MacAddress, arp};
use crate::service::{Serve, Transit};
use crate::verdict::{DropReason, PuntClass, Verdict};
use std::net::IpAddr;

/// A packet of a neighbour on port 0 to this box.
fn addressed(packet: PacketBuilder) -> PacketBuilder {
    packet.link(host_mac(DR.client(0).ip()), port_mac(0))
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn punted(world: &mut World, packet: &PacketBuilder, class: PuntClass) {
    assert_eq!(world.verdict(0, packet), Verdict::Punt(class), "{packet:?}");
}

#[test]
fn frames_for_other_stations_are_dropped() {
    let mut world = DR.world(&[11]);
    let other = MacAddress([2, 0, 0, 0, 0, 0x77]);
    let packet = DR.request(5000).link(other, other);
    world.dropped(0, &packet, DropReason::ForeignMac);
    // Port 1's address is not port 0's.
    let packet = DR.request(5000).link(other, port_mac(1));
    world.dropped(0, &packet, DropReason::ForeignMac);
    world.moved(&["drop.foreign_mac 2"]);
}

#[test]
fn multicast_is_punted_only_for_protocols_of_the_stack() {
    let mut world = DR.world(&[11]);
    let group = MacAddress([1, 0, 0x5e, 0, 0, 18]);
    let from = host_mac(DR.client(0).ip());
    let raw = |to, protocol| {
        PacketBuilder::raw(ip("10.0.1.2"), ip(to), protocol)
            .ttl(255)
            .link(from, group)
    };
    punted(&mut world, &raw("224.0.0.18", 112), PuntClass::Vrrp);
    punted(&mut world, &raw("224.0.0.5", 89), PuntClass::Routing);
    let discovery = PacketBuilder::icmp(ip("fe80::2"), ip("ff02::1"), 135, 0)
        .link(from, MacAddress([0x33, 0x33, 0, 0, 0, 1]))
        .ttl(255)
        .payload([0; 16]);
    punted(&mut world, &discovery, PuntClass::Arp);
    world.moved(&["punt.vrrp 1, punt.routing 1, punt.arp 1"]);

    // What a router forwarded is neither of these, and not for a group Linux is in.
    world.dropped(0, &raw("224.0.0.18", 112).ttl(254), DropReason::Multicast);
    world.dropped(0, &discovery.ttl(254), DropReason::Multicast);
    world.moved(&["drop.multicast 2"]);
    let mdns = PacketBuilder::udp(endpoint("10.0.1.2:5353"), endpoint("224.0.0.251:5353"));
    world.dropped(0, &mdns.link(from, group), DropReason::Multicast);
    // Unicast in a broadcast frame is nobody's service.
    let packet = DR.request(5000).link(from, MacAddress::BROADCAST);
    world.dropped(0, &packet, DropReason::Multicast);
    world.moved(&["drop.multicast 2"]);
}

#[test]
fn arp_goes_to_the_stack_whether_asked_or_answered() {
    let mut world = DR.world(&[11]);
    for destination in [MacAddress::BROADCAST, port_mac(0)] {
        let mut frame = [&destination.0[..], &host_mac(DR.client(0).ip()).0, &[8, 6]].concat();
        frame.resize(60, 0);
        let (verdict, out) = world.receive(0, &frame);
        assert_eq!(verdict, Verdict::Punt(PuntClass::Arp));
        assert_eq!(out.data(), frame);
    }
    world.moved(&["punt.arp 2"]);
}

#[test]
fn packets_for_this_box_are_punted_by_class() {
    let mut world = DR.world(&[11]);
    let director = ip("10.0.1.1");
    let tcp = |source: u16, port: u16| {
        addressed(PacketBuilder::tcp(
            ([10, 0, 1, 2], source).into(),
            (director, port).into(),
        ))
    };
    let udp = |port: u16| {
        addressed(PacketBuilder::udp(
            endpoint("10.0.1.2:49152"),
            (director, port).into(),
        ))
    };
    let echo = |to| addressed(PacketBuilder::icmp(ip("10.0.1.2"), to, 8, 0));
    for (packet, class, moved) in [
        (
            tcp(49152, 179),
            PuntClass::Routing,
            "connection_misses 1, punt.routing 1",
        ),
        (
            tcp(179, 49152),
            PuntClass::Routing,
            "connection_misses 1, punt.routing 1",
        ),
        (
            tcp(49152, 22),
            PuntClass::Routing,
            "connection_misses 1, punt.routing 1",
        ),
        (
            udp(3784).ttl(255),
            PuntClass::Vrrp,
            "connection_misses 1, punt.vrrp 1",
        ),
        (udp(53), PuntClass::Rest, "connection_misses 1, punt.rest 1"),
        (echo(director), PuntClass::Icmp, "punt.icmp 1"),
        (echo(DR.vip().ip()), PuntClass::Icmp, "punt.icmp 1"),
    ] {
        punted(&mut world, &packet, class);
        world.moved(&[moved]);
    }
    // Another port of the VIP is the stack's: it answers with a reset.
    let other = addressed(PacketBuilder::tcp(DR.client(5000), endpoint("10.0.1.50:81")).flags(SYN));
    punted(&mut world, &other, PuntClass::Rest);
    world.moved(&["connection_misses 1, punt.rest 1"]);
}

#[test]
fn tagged_frames_are_dropped_wherever_the_tag_is() {
    let mut world = DR.world(&[11]);
    world.dropped(0, &DR.request(5000).vlan(5), DropReason::Vlan);
    world.dropped(0, &DR.request(5000).vlan(5).vlan(6), DropReason::Vlan);
    let mut packets = [Frame::from_bytes(&DR.request(5000).build())];
    packets[0].vlan = Some(5);
    let mut verdicts = [Verdict::Drop(DropReason::Stopping)];
    let first = crate::pipeline::Pass::First;
    let inner = &mut world.0;
    let tray = &mut inner.tray;
    inner
        .pipeline
        .process(&mut packets, &mut verdicts, inner.now, first, tray);
    assert_eq!(verdicts, [Verdict::Drop(DropReason::Vlan)]);
    world.moved(&["drop.vlan 3"]);
    // A priority tag names no VLAN.
    let (verdict, _) = world.receive(0, &DR.request(5000).vlan(0).build());
    assert!(matches!(verdict, Verdict::Tx(_)));
    world.moved(&[&DR.created(11)]);
}

#[test]
fn punts_are_policed_by_class() {
    let mut world = DR.world(&[11]);
    let echo = addressed(PacketBuilder::icmp(DR.client(0).ip(), DR.vip().ip(), 8, 0));
    for _ in 0..1000 {
        punted(&mut world, &echo, PuntClass::Icmp);
    }
    world.dropped(0, &echo, DropReason::PolicedIcmp);
    world.moved(&["punt.icmp 1000, drop.policed_icmp 1"]);
    // Another class has a rate of its own, and time refills this one.
    punted(&mut world, &DR.request(20), PuntClass::Rest);
    world.sleep(1);
    punted(&mut world, &echo, PuntClass::Icmp);
    world.moved(&["connection_misses 1, punt.rest 1, punt.icmp 1"]);
}

#[test]
fn a_storm_of_strangers_asking_leaves_neighbours_their_arp_and_discovery() {
    for site in [DR, DR6] {
        let mut world = site.world(&[11]);
        let asks = |station: MacAddress, address| asking(site, station, address);
        for i in 0..10_000_u32 {
            let mut station = [2, 0x66, 0, 0, 0, 0];
            station[2..].copy_from_slice(&i.to_be_bytes());
            world.receive(0, &asks(MacAddress(station), site.client(0).ip()));
        }
        world.moved(&["punt.arp 200, drop.policed_arp 9800"]);
        // The client is a known neighbour, by address and MAC.
        let client = site.client(0).ip();
        let (verdict, _) = world.receive(0, &asks(host_mac(client), client));
        assert_eq!(verdict, Verdict::Punt(PuntClass::Arp));
        // Its address alone does not help.
        let (verdict, _) = world.receive(0, &asks(MacAddress([2, 0x66, 9, 9, 9, 9]), client));
        assert_eq!(verdict, Verdict::Drop(DropReason::PolicedArp));
        world.moved(&["punt.arp 1, drop.policed_arp 1"]);
    }
}

/// The station's question who has the VIP, asked for `address`.
fn asking(site: Site, station: MacAddress, address: IpAddr) -> Vec<u8> {
    let (IpAddr::V4(sender_ip), IpAddr::V4(target_ip)) = (address, site.vip().ip()) else {
        return PacketBuilder::icmp(address, site.vip().ip(), 135, 0)
            .ttl(255)
            .link(station, port_mac(0))
            .payload([0; 20])
            .build();
    };
    let mut frame = [&MacAddress::BROADCAST.0[..], &station.0, &[8, 6]].concat();
    let mut message = [0; arp::LEN];
    arp::Message {
        operation: arp::REQUEST,
        sender_mac: station,
        sender_ip,
        target_mac: MacAddress::ZERO,
        target_ip,
    }
    .write(&mut message);
    frame.extend(message);
    frame
}

#[test]
fn without_a_kernel_interface_nothing_is_punted() {
    let mut plan = DR.plan(&[11]);
    plan.kernel_interface = false;
    let mut world = World::new(plan);
    let echo = addressed(PacketBuilder::icmp(DR.client(0).ip(), DR.vip().ip(), 8, 0));
    world.dropped(0, &echo, DropReason::NoKernelInterface);
    world.moved(&["drop.no_kernel_interface 1"]);
}

#[test]
fn transit_goes_to_linux_or_out_or_nowhere() {
    let transit = |transit| {
        let mut plan = NAT.plan(&[11]);
        plan.transit = transit;
        World::new(plan)
    };
    let (from, to) = (endpoint("10.0.2.99:4000"), endpoint("10.0.9.9:53"));
    let packet = PacketBuilder::udp(from, to).link(host_mac(from.ip()), port_mac(1));

    let mut world = transit(Transit::Kernel);
    assert_eq!(world.verdict(1, &packet), Verdict::Punt(PuntClass::Rest));
    world.moved(&["connection_misses 1, punt.rest 1"]);

    let mut world = transit(Transit::Drop);
    world.dropped(1, &packet, DropReason::Transit);
    world.moved(&["connection_misses 1, drop.transit 1"]);

    let mut world = transit(Transit::Fast);
    let gateway = host_mac(ip("10.0.1.254"));
    let out = world.sent(1, &packet, 0);
    assert_eq!(
        out,
        packet.clone().link(port_mac(0), gateway).ttl(63).build()
    );
    world.moved(&["connection_misses 1, transit_forwarded 1"]);
    let out = world.sent(1, &packet.clone().ttl(1), 1);
    assert_eq!(out[34..36], [11, 0], "as a router answers");
    assert_eq!(out[26..30], [10, 0, 2, 1]);
    world.moved(&["connection_misses 1, icmp_time_exceeded 1"]);
    let blackhole =
        PacketBuilder::udp(from, endpoint("203.0.113.1:53")).link(host_mac(from.ip()), port_mac(1));
    world.dropped(1, &blackhole, DropReason::Blackhole);
    world.moved(&["connection_misses 1, drop.blackhole 1"]);
    let prohibited = PacketBuilder::udp(from, endpoint("198.51.100.1:53"))
        .link(host_mac(from.ip()), port_mac(1));
    let out = world.sent(1, &prohibited, 1);
    assert_eq!(out[34..36], [3, 13], "administratively prohibited");
    world.moved(&["connection_misses 1, icmp_host_unreachable 1"]);
}

#[test]
fn a_vip_not_held_by_this_box_is_a_backups() {
    for site in Site::ALL {
        let mut plan = site.plan(&[11]);
        plan.vips_local = false;
        let mut world = World::new(plan);
        world.dropped(0, &site.request(5000), DropReason::VipBackup);
        world.moved(&["connection_misses 1, drop.vip_backup 1"]);
        let vip = site.vip().ip();
        let kind = match site.family {
            Family::V4 => 8,
            Family::V6 => 128,
        };
        let echo = addressed(PacketBuilder::icmp(site.client(0).ip(), vip, kind, 0));
        world.dropped(0, &echo, DropReason::VipBackup);
        world.moved(&["drop.vip_backup 1"]);
        let other = addressed(PacketBuilder::tcp(site.client(5000), (vip, 81).into()));
        world.dropped(0, &other, DropReason::VipBackup);
        world.moved(&["connection_misses 1, drop.vip_backup 1"]);

        world.edit(|plan| plan.services[0].serve = Serve::Always);
        world.sent(0, &site.request(5000), site.inside());
        world.moved(&[&site.created(11)]);
    }
}

#[test]
fn what_was_established_goes_on_after_the_vip_has_left() {
    for site in Site::ALL {
        let mut world = site.world(&[11]);
        establish(&mut world, site, 5000);
        world.edit(|plan| plan.vips_local = false);
        world.sent(0, &site.request(5000).flags(ACK), site.inside());
        world.moved(&[&site.hit(11)]);
    }
}

#[test]
fn malformed_packets_are_dropped_with_a_reason() {
    let mut world = DR.world(&[11]);
    let good = DR.request(5000).build();
    let broken = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut frame = good.clone();
        change(&mut frame);
        frame
    };
    for (frame, reason) in [
        (broken(&|frame| frame.truncate(5)), DropReason::Frame),
        (broken(&|frame| frame.truncate(13)), DropReason::Frame),
        (broken(&|frame| frame.truncate(30)), DropReason::Ipv4Header),
        (broken(&|frame| frame.truncate(40)), DropReason::Truncated),
        (broken(&|frame| frame[14] = 0x65), DropReason::Ipv4Header),
        (broken(&|frame| frame[24] ^= 1), DropReason::Ipv4Checksum),
        (broken(&|frame| frame[12] = 0x88), DropReason::EtherType),
        (
            broken(&|frame| frame[46] = 0x40),
            DropReason::TransportHeader,
        ),
    ] {
        let (verdict, _) = world.receive(0, &frame);
        assert_eq!(verdict, Verdict::Drop(reason));
        world.moved(&[&format!("drop.{reason} 1")]);
    }
    let packet = PacketBuilder::tcp(endpoint("127.0.0.1:5000"), DR.vip()).flags(SYN);
    world.dropped(0, &addressed(packet), DropReason::MartianSource);
    world.moved(&["drop.martian_source 1"]);
}

#[test]
fn a_frame_on_a_port_nobody_knows_is_dropped() {
    let mut world = DR.world(&[11]);
    world.dropped(7, &DR.request(5000), DropReason::PortDown);
    world.moved(&["drop.port_down 1"]);
}

#[test]
fn a_source_that_is_our_own_address_makes_no_connection() {
    for site in Site::ALL {
        let mut world = site.world(&[11]);
        for own in [site.vip(), site.host(1, 1, 5000)] {
            let packet = addressed(site.between(own, site.vip()).flags(SYN));
            world.dropped(0, &packet, DropReason::MartianSource);
            world.moved(&["connection_misses 1, drop.martian_source 1"]);
        }
    }
}

#[test]
fn what_would_leave_by_a_port_that_is_down_is_dropped() {
    for site in [NAT, NAT6] {
        let mut world = site.world(&[11]);
        world.edit(|plan| plan.up = [true, false]);
        world.dropped(0, &site.request(5000), DropReason::PortDown);
        world.moved(&[&site.created(11), "drop.port_down 1"]);
        world.edit(|plan| plan.up = [true, true]);
        world.sent(0, &site.request(5000), 1);
        world.moved(&[&site.hit(11)]);
    }
}
