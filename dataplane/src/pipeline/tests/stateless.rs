//! A full table and flows that can do without an entry (DESIGN §4).

use super::*;
use crate::buffer::PacketBuffer;
use crate::packet::sctp::ABORT;
use crate::pipeline::Outcome;
use crate::scheduler::SchedulerFlags;
use crate::service::{Persistence, Tunnel, TunnelKind};
use crate::verdict::{DropReason, PuntClass, Verdict};

/// The kind of a chunk.
const DATA: u8 = 0;
const HASHING: [SchedulerKind; 3] = [SchedulerKind::Dh, SchedulerKind::Sh, SchedulerKind::Mh];
const TUNNEL: Site = Site {
    forward: Forward::Tunnel(Tunnel {
        kind: TunnelKind::Ipip,
        checksum: false,
    }),
    ..DR
};
const ONE_WAY: [Site; 3] = [DR, DR6, TUNNEL];

/// Three servers by a scheduler that asks for ports, too, if it can.
fn plan(site: Site, scheduler: SchedulerKind) -> Plan {
    let mut plan = site.plan(&[11, 12, 13]);
    let service = &mut plan.services[0];
    service.scheduler = scheduler;
    service.scheduler_flags = SchedulerFlags::PORT;
    plan
}

/// A table of one entry, and that taken by a connection that is never evicted.
fn full(plan: Plan, site: Site) -> World {
    taken(plan, site, 1)
}

/// A table of so many entries, and one of them taken by a connection that is never evicted.
fn taken(mut plan: Plan, site: Site, connections: usize) -> World {
    plan.connections = connections;
    let mut world = World::new(plan);
    establish(&mut world, site, 1000);
    for _ in 0..9 {
        world.sent(0, &site.request(1000).flags(ACK), site.inside());
    }
    world.movement();
    world
}

/// What a packet forwarded without an entry moves.
fn passed(host: u8, bytes: usize) -> String {
    format!(
        "connection_misses 1, forwarded_stateless 1, {host}.in_packets 1, {host}.in_bytes {bytes}"
    )
}

#[test]
fn a_flow_of_a_hashing_scheduler_that_finds_no_room_goes_where_its_entry_would_send_it() {
    for site in ONE_WAY {
        for scheduler in HASHING {
            let mut roomy = taken(plan(site, scheduler), site, 100);
            let mut world = full(plan(site, scheduler), site);
            let before = world.connections();
            let mut hosts = Vec::new();
            for port in 2000..2020 {
                for flags in [SYN, ACK, ACK, FIN | ACK, RST] {
                    let packet = site.request(port).flags(flags);
                    let sent = world.sent(0, &packet, site.inside());
                    assert_eq!(sent, roomy.sent(0, &packet, site.inside()), "{site:?}");
                    hosts.push(server_of(&sent));
                    world.moved(&[&passed(server_of(&sent), site.bytes())]);
                }
            }
            assert!(
                hosts
                    .chunks(5)
                    .all(|flow| flow.iter().all(|host| *host == flow[0]))
            );
            hosts.sort_unstable();
            hosts.dedup();
            let many = scheduler != SchedulerKind::Dh;
            assert_eq!(hosts.len() > 1, many, "{scheduler}");
            roomy.movement();
            let after = world.connections();
            assert_eq!(after.len(), 1);
            assert_eq!(after[0].client, before[0].client);
        }
    }
}

#[test]
fn datagrams_and_associations_do_without_an_entry_as_well() {
    for scheduler in HASHING {
        for site in [DR.udp(), DR6.udp(), DR.sctp()] {
            let mut world = full(plan(DR, scheduler), DR);
            world.edit(|with| with.services.extend(plan(site, scheduler).services));
            if site.family == Family::V6 {
                // It has a table of its own: take that, too, by a datagram that is not the first.
                world.sent(0, &site.request(1000), 0);
                world.sent(0, &site.request(1000), 0);
                world.movement();
            }
            for _ in 0..2 {
                let sent = world.sent(0, &site.request(2000), 0);
                world.moved(&[&passed(server_of(&sent), site.bytes())]);
            }
        }
    }
}

#[test]
fn who_needs_an_entry_is_still_dropped_when_there_is_no_room_for_it() {
    let persistent = |site| {
        let mut plan = plan(site, SchedulerKind::Sh);
        plan.services[0].persistence = Some(Persistence::new(60_000));
        plan
    };
    let mut cases = vec![(DR, persistent(DR)), (TUNNEL, persistent(TUNNEL))];
    cases.extend(HASHING.map(|scheduler| (NAT, plan(NAT, scheduler))));
    for scheduler in SchedulerKind::ALL {
        if !HASHING.contains(&scheduler) && scheduler != SchedulerKind::None {
            cases.push((DR, plan(DR, scheduler)));
        }
    }
    for (site, plan) in cases {
        let mut world = full(plan, site);
        world.dropped(0, &site.request(2000), DropReason::TableFull);
        world.moved(&["connection_misses 1, drop.table_full 1"]);
        let verdict = world.verdict(0, &site.request(2000).flags(ACK));
        assert_eq!(verdict, Verdict::Punt(PuntClass::Rest));
        world.moved(&["connection_misses 1, punt.rest 1"]);
    }
}

#[test]
fn without_a_syn_nobody_is_evicted_and_a_table_with_room_is_as_ever() {
    for site in ONE_WAY {
        let mut with = plan(site, SchedulerKind::Sh);
        with.connections = 2;
        let mut world = World::new(with);
        world.sent(0, &site.request(1000), site.inside());
        world.movement();
        for flags in [ACK, RST, FIN | ACK] {
            let verdict = world.verdict(0, &site.request(2000).flags(flags));
            assert_eq!(verdict, Verdict::Punt(PuntClass::Rest));
            world.moved(&["connection_misses 1, punt.rest 1"]);
        }
        // Both are half open, so a SYN would have one of them out, and nobody has had to do without.
        world.sent(0, &site.request(1001), site.inside());
        world.movement();
        for flags in [ACK, RST, FIN | ACK] {
            let verdict = world.verdict(0, &site.request(2000).flags(flags));
            assert_eq!(verdict, Verdict::Punt(PuntClass::Rest));
            world.moved(&["connection_misses 1, punt.rest 1"]);
        }
        assert_eq!(world.connections().len(), 2);
        let sent = world.sent(0, &site.request(2000), site.inside());
        let host = server_of(&sent);
        let moved = world.movement();
        assert_eq!(moved["connections_evicted"], 1);
        assert_eq!(moved["connections_created"], 1);
        assert_eq!(moved[&format!("{host}.connections")], 1);
    }
}

#[test]
fn the_entry_is_made_as_soon_as_a_syn_or_a_sloppy_packet_finds_room() {
    for (sloppy, flags) in [(false, SYN), (true, ACK)] {
        let mut with = plan(DR, SchedulerKind::Mh);
        with.ipvs.sloppy_tcp = sloppy;
        let mut world = full(with, DR);
        let sent = world.sent(0, &DR.request(2000).flags(flags), 0);
        let host = server_of(&sent);
        world.moved(&[&passed(host, DR.bytes())]);
        world.sleep(900_000 + TICK);
        world.expire();
        world.movement();
        let sent = world.sent(0, &DR.request(2000).flags(flags), 0);
        assert_eq!(server_of(&sent), host);
        world.moved(&[&DR.created(host)]);
    }
}

/// Milliseconds.
const LEFT: u64 = 100_000;

/// A table of one entry that is free again. A flow that found no room may go on, but not after `LEFT`. The
/// server of one such flow.
fn free_again(plan: Plan, site: Site, opening: u16) -> (World, u8) {
    let mut world = full(plan, site);
    world.sleep(LEFT);
    let host = server_of(&world.sent(0, &site.request(opening), site.inside()));
    world.sleep(900_000 - LEFT + TICK);
    world.expire();
    world.movement();
    assert_eq!(world.connections(), []);
    (world, host)
}

#[test]
fn a_flow_that_began_without_an_entry_gets_one_by_its_next_packet_that_finds_room() {
    for site in ONE_WAY {
        for scheduler in HASHING {
            for (flags, count) in [(ACK, "active"), (FIN | ACK, "inactive")] {
                let (mut world, host) = free_again(plan(site, scheduler), site, 2000);
                let packet = site.request(2000).flags(flags);
                assert_eq!(server_of(&world.sent(0, &packet, site.inside())), host);
                world.moved(&[&site.created(host).replace("active", count)]);
                assert_eq!(world.connections().len(), 1);
                // The next such flow has to do without again, and nobody is evicted for it.
                let packet = site.request(2001).flags(ACK);
                let host = server_of(&world.sent(0, &packet, site.inside()));
                world.moved(&[&passed(host, site.bytes())]);
            }
        }
    }
}

#[test]
fn the_reset_of_a_flow_that_began_without_an_entry_reaches_its_server_and_makes_none() {
    for site in ONE_WAY {
        let (mut world, host) = free_again(plan(site, SchedulerKind::Sh), site, 2000);
        let packet = site.request(2000).flags(RST);
        assert_eq!(server_of(&world.sent(0, &packet, site.inside())), host);
        world.moved(&[&passed(host, site.bytes())]);
        assert_eq!(world.connections(), []);
    }
}

#[test]
fn an_association_that_began_without_an_entry_gets_one_too_but_not_by_its_end() {
    let site = DR.sctp();
    for (chunk, gets_one) in [(DATA, true), (ABORT, false)] {
        let mut with = plan(DR, SchedulerKind::Sh);
        with.services.extend(plan(site, SchedulerKind::Sh).services);
        let (mut world, _) = free_again(with, DR, 2000);
        world.sent(0, &DR.request(1000), 0);
        for _ in 0..9 {
            world.sent(0, &DR.request(1000).flags(ACK), 0);
        }
        world.sleep(LEFT);
        world.movement();
        let host = server_of(&world.sent(0, &site.request(2000), 0));
        world.moved(&[&passed(host, site.bytes())]);
        world.sleep(900_000 - LEFT + TICK);
        world.expire();
        world.movement();
        let packet = site.request(2000).payload([chunk, 0, 0, 4]);
        assert_eq!(server_of(&world.sent(0, &packet, 0)), host);
        assert_eq!(world.connections().len(), usize::from(gets_one), "{chunk}");
        world.movement();
    }
}

#[test]
fn only_packets_of_flows_that_find_no_room_let_others_be_taken_for_theirs() {
    let strays = |world: &mut World, site: Site| {
        for flags in [ACK, FIN | ACK, RST] {
            let verdict = world.verdict(0, &site.request(3000).flags(flags));
            assert_eq!(verdict, Verdict::Punt(PuntClass::Rest), "{site:?}");
            world.moved(&["connection_misses 1, punt.rest 1"]);
        }
    };
    // Datagrams need no such thing.
    let mut with = plan(DR, SchedulerKind::Sh);
    with.services
        .extend(plan(DR.udp(), SchedulerKind::Sh).services);
    let mut world = full(with, DR);
    world.sent(0, &DR.udp().request(2000), 0);
    world.movement();
    strays(&mut world, DR);
    // The other family has a table of its own.
    let mut with = plan(DR, SchedulerKind::Sh);
    with.services.extend(plan(DR6, SchedulerKind::Sh).services);
    let mut world = full(with, DR);
    world.sent(0, &DR.request(2000), 0);
    world.movement();
    strays(&mut world, DR6);
    // A reset is the last of its flow, and what finds room is none of them.
    let (mut world, _) = free_again(plan(DR, SchedulerKind::Sh), DR, 2000);
    world.sent(0, &DR.request(2000).flags(RST), 0);
    world.sent(0, &DR.request(2001).flags(ACK), 0);
    world.sent(0, &DR.request(2002).flags(RST), 0);
    world.sleep(LEFT);
    world.movement();
    strays(&mut world, DR);
    // One that still finds none goes on.
    let mut world = full(plan(DR, SchedulerKind::Sh), DR);
    world.sent(0, &DR.request(2000), 0);
    for _ in 0..3 {
        world.sleep(600_000);
        world.sent(0, &DR.request(1000).flags(ACK), 0);
        world.sent(0, &DR.request(2000).flags(ACK), 0);
    }
    world.movement();
    assert_eq!(world.connections().len(), 1);
}

#[test]
fn when_no_flow_that_began_without_an_entry_can_be_left_strays_go_to_the_stack_again() {
    let (mut world, _) = free_again(plan(DR, SchedulerKind::Mh), DR, 2000);
    world.sleep(LEFT);
    world.movement();
    for flags in [ACK, FIN | ACK, RST] {
        let verdict = world.verdict(0, &DR.request(2000).flags(flags));
        assert_eq!(verdict, Verdict::Punt(PuntClass::Rest));
        world.moved(&["connection_misses 1, punt.rest 1"]);
    }
}

#[test]
fn who_needs_an_entry_gets_none_by_a_stray_while_others_may() {
    let (mut world, _) = free_again(plan(DR, SchedulerKind::Sh), DR, 2000);
    world.edit(|plan| plan.services[0].forward = Forward::Nat);
    let verdict = world.verdict(0, &DR.request(2000).flags(ACK));
    assert_eq!(verdict, Verdict::Punt(PuntClass::Rest));
    world.moved(&["connection_misses 1, punt.rest 1"]);
    world.edit(|plan| {
        plan.services[0].forward = Forward::Dr;
        plan.services[0].scheduler = SchedulerKind::Rr;
        plan.services[0].scheduler_flags = SchedulerFlags::NONE;
    });
    let verdict = world.verdict(0, &DR.request(2000).flags(ACK));
    assert_eq!(verdict, Verdict::Punt(PuntClass::Rest));
    world.moved(&["connection_misses 1, punt.rest 1"]);
    assert_eq!(world.connections(), []);
}

#[test]
fn a_full_server_is_passed_over_and_packets_without_an_entry_fill_none() {
    for site in ONE_WAY {
        let mut with = plan(site, SchedulerKind::Sh);
        with.services[0].scheduler_flags = SchedulerFlags::FALLBACK;
        with.services[0].reals.truncate(2);
        let mut world = full(with, site);
        let holder = server_of(&world.sent(0, &site.request(1000).flags(ACK), site.inside()));
        // It has one connection already and may have one; the other has none.
        world.edit(|plan| {
            for real in &mut plan.services[0].reals {
                real.upper = 2;
            }
        });
        world.movement();
        for port in 2000..2010 {
            let sent = world.sent(0, &site.request(port), site.inside());
            assert_eq!(
                server_of(&sent),
                holder,
                "the hash of the client's address alone"
            );
            world.moved(&[&passed(holder, site.bytes())]);
        }
    }
}

#[test]
fn a_packet_without_an_entry_that_waits_is_counted_once_and_goes_to_the_server_it_waited_for() {
    for flags in [SYN, ACK] {
        let mut world = full(plan(DR, SchedulerKind::Sh), DR);
        world.sent(0, &DR.request(1999), 0);
        world.movement();
        let all = [11, 12, 13].map(|host| DR.real(host).ip());
        world.edit(|plan| plan.unknown = all.to_vec());
        let request = DR.request(2000).flags(flags);
        let (verdict, mut packet) = world.receive(0, &request.build());
        let Verdict::Wait(neighbour) = verdict else {
            panic!("{verdict:?}")
        };
        let host = [11, 12, 13]
            .into_iter()
            .find(|host| DR.real(*host).ip() == neighbour.address)
            .unwrap();
        world.moved(&[&passed(host, DR.bytes())]);
        assert_eq!(world.retry(&mut packet, Outcome::Resolved), verdict);
        world.moved(&[]);
        // There is room meanwhile, and the choice would be another.
        world.sleep(900_000 + TICK);
        world.expire();
        world.movement();
        world.edit(|plan| {
            plan.unknown.clear();
            for real in &mut plan.services[0].reals {
                real.weight = u32::from(real.address != DR.real(host));
            }
        });
        let verdict = world.retry(&mut packet, Outcome::Resolved);
        assert!(matches!(verdict, Verdict::Tx(_)), "{verdict:?}");
        assert_eq!(packet.data(), DR.delivered(host, 2000).flags(flags).build());
        world.moved(&[]);
        assert_eq!(world.connections(), []);
    }
}

#[test]
fn with_schedule_icmp_an_error_about_such_a_flow_reaches_its_server() {
    for site in ONE_WAY {
        let mut with = plan(site, SchedulerKind::Sh);
        with.ipvs.schedule_icmp = true;
        let mut world = full(with, site);
        let host = server_of(&world.sent(0, &site.request(5000), site.inside()));
        world.movement();
        let error = site.of_client(5000, 1000);
        let sent = world.sent(0, &error, site.inside());
        assert_eq!(server_of(&sent), host);
        let bytes = error.build().len() - 14;
        world.moved(&[&format!(
            "icmp_scheduled 1, forwarded_stateless 1, {host}.in_packets 1, {host}.in_bytes {bytes}"
        )]);
    }
}

#[test]
fn later_fragments_of_a_datagram_without_an_entry_follow_the_first() {
    let site = DR.udp();
    let mut with = plan(DR, SchedulerKind::Mh);
    with.services.extend(plan(site, SchedulerKind::Mh).services);
    let mut world = full(with, DR);
    let first = site.request(2000).payload([1; 16]).fragment(0, true);
    let later = site.request(2000).payload([2; 16]).fragment(3, false);
    let host = server_of(&world.sent(0, &first, 0));
    world.moved(&[&passed(host, 44)]);
    assert_eq!(server_of(&world.sent(0, &later, 0)), host);
    world.moved(&[&format!(
        "connection_hits 1, {host}.in_packets 1, {host}.in_bytes 36"
    )]);
    assert_eq!(world.connections().len(), 1);
}
