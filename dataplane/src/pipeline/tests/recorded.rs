//! Choices recorded from the kernel, packet by packet through the pipeline (spec 1); captured packets are in
//! [`super::captured`], with the list of what tests which recording.

use super::*;
use crate::buffer::PacketBuffer;
use crate::pipeline::world::RealPlan;
use crate::scheduler::SchedulerFlags;
use crate::verdict::{PortId, Verdict};
use std::collections::BTreeMap;

/// `scheduler weights vport client-port client>server...`; clients that are missing were refused.
const MAPS: &str = include_str!("../../../tests/fixtures/recorded_maps.txt");

/// A UDP service of the recordings: servers 11, 12, ... in order of addition.
fn service(scheduler: SchedulerKind, port: u16, weights: &[u32]) -> ServicePlan {
    let mut plan = ServicePlan::new(
        Protocol::Udp,
        &format!("10.0.1.50:{port}"),
        Forward::Nat,
        &[],
    );
    plan.scheduler = scheduler;
    plan.reals = (11..)
        .zip(weights)
        .map(|(host, weight)| RealPlan {
            weight: *weight,
            ..RealPlan::new(&format!("10.0.2.{host}:{port}"))
        })
        .collect();
    plan
}

/// The server of a datagram from `client` to the VIP's `port`; `None` if it is refused.
fn ask(world: &mut World, client: (u8, u16), port: u16) -> Option<u8> {
    let client = endpoint(&format!("10.0.1.{}:{}", client.0, client.1));
    let packet = PacketBuilder::udp(client, endpoint(&format!("10.0.1.50:{port}")))
        .link(host_mac(client.ip()), port_mac(0));
    let (verdict, frame) = world.receive(0, &packet.build());
    match verdict {
        Verdict::Tx(PortId(1)) => Some(server_of(frame.data())),
        // ICMP port unreachable, back to the client.
        Verdict::Tx(PortId(0)) => None,
        other => panic!("{client}: {other:?}"),
    }
}

/// The servers of `flows` datagrams, each from a new port.
fn sequence(world: &mut World, from: u16, flows: u16, port: u16) -> String {
    let servers = (from..from + flows).filter_map(|source| ask(world, (100, source), port));
    servers
        .map(|host| host.to_string())
        .collect::<Vec<_>>()
        .join(" ")
}

/// List order, with what each has, as `ipvsadm --nosort` shows it.
fn listing(world: &World) -> String {
    let servers = &world.services().services()[0].list.servers;
    let line = servers.iter().map(|server| {
        let (active, inactive) = server.shared.connections();
        let std::net::IpAddr::V4(address) = server.address else {
            unreachable!("the recordings are of IPv4");
        };
        let host = address.octets()[3];
        format!("{host} {} {active} {inactive}", server.weight)
    });
    line.collect::<Vec<_>>().join(", ")
}

#[test]
fn every_recorded_client_of_sh_and_mh_gets_its_server() {
    for line in MAPS.lines() {
        let (case, choices) = line.split_once(" cport=").unwrap();
        let (port, choices) = choices.split_once(' ').unwrap();
        let client_port: u16 = port.parse().unwrap();
        let (case, vport) = case.split_once(" vport=").unwrap();
        let vport: u16 = vport.parse().unwrap();
        let (name, weights) = case.split_once(" w").unwrap();
        let scheduler = name.split('-').next().unwrap().parse().unwrap();
        let weights: Vec<u32> = weights.split(',').map(|w| w.parse().unwrap()).collect();
        let mut plan = service(scheduler, vport, &weights);
        if name.contains('-') {
            plan.scheduler_flags = SchedulerFlags::named(name, scheduler).unwrap();
        }
        let recorded: BTreeMap<u8, u8> = choices
            .split(' ')
            .map(|choice| choice.split_once('>').unwrap())
            .map(|(client, server)| (client.parse().unwrap(), server.parse().unwrap()))
            .collect();
        let mut world = World::new(Plan::new(vec![plan]));
        for client in 101..=130 {
            let chosen = ask(&mut world, (client, client_port), vport);
            assert_eq!(chosen, recorded.get(&client).copied(), "{case}: {client}");
        }
        let moved = world.movement();
        let served = i64::try_from(recorded.len()).unwrap();
        assert_eq!(moved["connections_created"], served);
        assert_eq!(moved.get("unserved").copied().unwrap_or(0), 30 - served);
    }
}

#[test]
fn recorded_udp_flows_to_sed_nq_fo_ovf_and_dh_all_go_to_one_server() {
    use SchedulerKind::{Dh, Fo, Nq, Ovf, Sed};
    for (scheduler, weights, server) in [
        (Sed, &[1, 2, 3][..], "13"),
        (Nq, &[1, 2, 3], "13"),
        (Fo, &[1, 3, 2], "12"),
        (Fo, &[3, 3], "12"),
        (Ovf, &[1, 3, 2], "12"),
        (Dh, &[1, 1, 1], "11"),
    ] {
        let mut world = World::new(Plan::new(vec![service(scheduler, 5008, weights)]));
        assert_eq!(
            sequence(&mut world, 20000, 8, 5008),
            [server; 8].join(" "),
            "{scheduler}"
        );
        world.movement();
    }
}

#[test]
fn recorded_thresholds_divert_and_refuse_datagrams() {
    let mut plan = service(SchedulerKind::Rr, 5026, &[1, 1, 1]);
    plan.reals[0].upper = 3;
    plan.reals[1].upper = 3;
    plan.reals[1].lower = 1;
    let mut world = World::new(Plan::new(vec![plan]));
    let recorded = "13 12 11 13 12 11 13 12 11 13 13 13";
    assert_eq!(sequence(&mut world, 20000, 12, 5026), recorded);
    assert_eq!(listing(&world), "13 1 0 6, 12 1 0 3, 11 1 0 3");
    world.movement();

    let mut plan = service(SchedulerKind::Rr, 5027, &[1, 1]);
    plan.reals[0].upper = 2;
    plan.reals[1].upper = 2;
    let mut world = World::new(Plan::new(vec![plan]));
    assert_eq!(sequence(&mut world, 20000, 8, 5027), "12 11 12 11");
    assert_eq!(listing(&world), "12 1 0 2, 11 1 0 2");
    let moved = world.movement();
    assert_eq!((moved["unserved"], moved["icmp_port_unreachable"]), (4, 4));
}

#[test]
fn an_edited_server_keeps_its_place_and_one_added_again_its_counters_as_recorded() {
    let plan = service(SchedulerKind::Rr, 5001, &[1, 1, 1]);
    let eleven = plan.reals[0];
    let mut world = World::new(Plan::new(vec![plan]));
    let recorded = "13 12 11 13 12 11 13 12 11 13";
    assert_eq!(sequence(&mut world, 20000, 10, 5001), recorded);
    assert_eq!(listing(&world), "13 1 0 4, 12 1 0 3, 11 1 0 3");
    world.edit(|plan| plan.services[0].reals[0].weight = 5);
    assert_eq!(listing(&world), "13 1 0 4, 12 1 0 3, 11 5 0 3");
    world.edit(|plan| {
        plan.services[0].reals.remove(0);
    });
    assert_eq!(listing(&world), "13 1 0 4, 12 1 0 3");
    world.edit(|plan| plan.services[0].reals.push(eleven));
    assert_eq!(listing(&world), "11 1 0 3, 13 1 0 4, 12 1 0 3");
    world.movement();
}

#[test]
fn another_scheduler_starts_afresh_on_the_list_as_it_is_and_leaves_connections_alone() {
    let mut world = World::new(Plan::new(vec![service(
        SchedulerKind::Rr,
        5001,
        &[1, 1, 1],
    )]));
    assert_eq!(sequence(&mut world, 20000, 2, 5001), "13 12");
    // 11 comes to the head, where no file would put it.
    let eleven = RealPlan::new("10.0.2.11:5001");
    world.edit(|plan| {
        plan.services[0].reals.remove(0);
    });
    world.edit(|plan| plan.services[0].reals.insert(0, eleven));
    assert_eq!(listing(&world), "11 1 0 0, 13 1 0 1, 12 1 0 1");
    world.edit(|plan| plan.services[0].scheduler = SchedulerKind::Wrr);
    assert_eq!(listing(&world), "11 1 0 0, 13 1 0 1, 12 1 0 1");
    assert_eq!(sequence(&mut world, 21000, 4, 5001), "11 13 12 11");
    for (scheduler, server) in [(SchedulerKind::Dh, true), (SchedulerKind::None, false)] {
        world.edit(|plan| plan.services[0].scheduler = scheduler);
        assert_eq!(
            ask(&mut world, (100, 22000 + u16::from(server)), 5001).is_some(),
            server
        );
        // What is known stays where it is.
        assert_eq!(sequence(&mut world, 20000, 2, 5001), "13 12");
    }
    world.edit(|plan| plan.services[0].scheduler = SchedulerKind::Sh);
    let before = ask(&mut world, (101, 20780), 5001);
    world.edit(|plan| plan.services[0].scheduler_flags = SchedulerFlags::PORT);
    let spread = (0..20).map(|port| ask(&mut world, (101, 30_000 + port), 5001));
    assert!(
        spread
            .collect::<Vec<_>>()
            .iter()
            .any(|server| *server != before)
    );
    world.movement();
}

#[test]
fn every_scheduler_serves_tcp_over_either_family_and_method() {
    for site in Site::ALL {
        for scheduler in SchedulerKind::ALL {
            let mut plan = site.plan(&[11, 12, 13]);
            plan.services[0].scheduler = scheduler;
            let mut world = World::new(plan);
            for port in 5000..5020 {
                let verdict = world.verdict(0, &site.request(port));
                assert!(
                    matches!(verdict, Verdict::Tx(_)),
                    "{scheduler}: {verdict:?}"
                );
            }
            // ovf overflows at two active connections each.
            let served = match scheduler {
                SchedulerKind::None => 0,
                SchedulerKind::Ovf => 6,
                _ => 20,
            };
            let moved = world.movement();
            let created = moved.get("connections_created").copied().unwrap_or(0);
            assert_eq!(created, served, "{scheduler}");
            assert_eq!(moved.get("unserved").copied().unwrap_or(0), 20 - served);
        }
    }
}
