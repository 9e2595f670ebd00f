//! The addresses and MAC addresses of virtual routers: what is claimed is served, what is not is a
//! backup's, and nothing of it goes back to the LAN (DESIGN §6).

use super::*;
use crate::buffer::PacketBuffer;
use crate::forwarding::VirtualAddresses;
use crate::packet::MacAddress;
use crate::verdict::{DropReason, PuntClass, Verdict};
use std::net::IpAddr;

const VRID_51: MacAddress = MacAddress([0, 0, 0x5e, 0, 1, 51]);

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// A packet of a neighbour on port 0 to this box.
fn addressed(packet: PacketBuilder) -> PacketBuilder {
    packet.link(host_mac(DR.client(0).ip()), port_mac(0))
}

fn echo(site: Site, to: IpAddr) -> PacketBuilder {
    let kind = match site.family {
        Family::V4 => 8,
        Family::V6 => 128,
    };
    addressed(PacketBuilder::icmp(site.client(0).ip(), to, kind, 0))
}

#[test]
fn a_claimed_vip_is_served_before_and_after_it_is_on_the_box() {
    for site in Site::ALL {
        let vip = site.vip().ip();
        let mut plan = site.plan(&[11]);
        plan.vips_local = false;
        plan.virtual_addresses = VirtualAddresses::new([vip], []);
        let mut world = World::new(plan);
        world.dropped(0, &site.request(5000), DropReason::VipBackup);
        world.moved(&["connection_misses 1, drop.vip_backup 1"]);

        world.edit(|plan| plan.virtual_addresses = VirtualAddresses::new([vip], [vip]));
        world.sent(0, &site.request(5000), site.inside());
        world.moved(&[&site.created(11)]);
        // What is for the stack waits for the address: it must not see a packet it would forward.
        world.dropped(0, &echo(site, vip), DropReason::VipBackup);
        world.moved(&["drop.vip_backup 1"]);
        let other = addressed(PacketBuilder::tcp(site.client(5000), (vip, 81).into()));
        world.dropped(0, &other, DropReason::VipBackup);
        world.moved(&["connection_misses 1, drop.vip_backup 1"]);

        world.edit(|plan| plan.vips_local = true);
        let verdict = world.verdict(0, &echo(site, vip));
        assert_eq!(verdict, Verdict::Punt(PuntClass::Icmp));
        world.moved(&["punt.icmp 1"]);
    }
}

#[test]
fn a_virtual_routers_address_without_a_service_is_a_backups_too() {
    let addresses = ["10.0.1.77", "10.0.9.77", "fd00:1::77"].map(ip);
    let mut plan = DR.plan(&[11]);
    // Neither Linux nor we may send it on.
    plan.transit = crate::service::Transit::Fast;
    plan.virtual_addresses = VirtualAddresses::new(addresses, []);
    let mut world = World::new(plan);
    for (address, site) in addresses.into_iter().zip([DR, DR, DR6]) {
        let packet = addressed(PacketBuilder::tcp(site.client(5000), (address, 22).into()));
        world.dropped(0, &packet, DropReason::VipBackup);
        world.moved(&["connection_misses 1, drop.vip_backup 1"]);
    }
    // A claim alone, of a router that is no longer configured, is enough.
    world.edit(|plan| plan.virtual_addresses = VirtualAddresses::new([], [addresses[0]]));
    world.dropped(0, &echo(DR, addresses[0]), DropReason::VipBackup);
    world.moved(&["drop.vip_backup 1"]);
}

#[test]
fn frames_to_a_virtual_mac_are_ours_while_its_router_is_active_on_that_port() {
    for site in Site::ALL {
        let packet = |port| {
            let from = host_mac(site.client(0).ip());
            (port, site.request(5000).link(from, VRID_51))
        };
        let mut world = site.world(&[11]);
        let (port, frame) = packet(0);
        world.dropped(port, &frame, DropReason::ForeignMac);
        world.moved(&["drop.foreign_mac 1"]);

        world.edit(|plan| plan.virtual_macs = vec![VRID_51]);
        let out = world.sent(0, &frame, site.inside());
        let source = &out[6..12];
        assert_eq!(source, port_mac(site.inside()).0, "sent as the port itself");
        world.moved(&[&site.created(11)]);
        // The connection's further packets take the short way.
        world.sent(0, &frame.clone().flags(ACK), site.inside());
        world.moved(&[&site.hit(11)]);
        let (port, frame) = packet(1);
        world.dropped(port, &frame, DropReason::ForeignMac);
        world.moved(&["drop.foreign_mac 1"]);
    }
}

#[test]
fn arp_and_adverts_reach_the_stack_by_a_virtual_mac() {
    let mut plan = DR.plan(&[11]);
    plan.virtual_macs = vec![VRID_51];
    let mut world = World::new(plan);
    let mut frame = [&VRID_51.0[..], &host_mac(DR.client(0).ip()).0, &[8, 6]].concat();
    frame.resize(60, 0);
    let (verdict, out) = world.receive(0, &frame);
    assert_eq!(verdict, Verdict::Punt(PuntClass::Arp));
    assert_eq!(out.data(), frame);
    world.moved(&["punt.arp 1"]);
}
