//! `drop_entry`, `drop_packet`, `secure_tcp` and what switches them (spec 3.6).

use super::*;
use crate::defence::{Defences, Mode};
use crate::verdict::{DropReason, Verdict};

/// A world with these defences and room for `connections`.
fn guarded(site: Site, connections: usize, defences: Defences) -> World {
    let mut plan = site.plan(&[11]);
    plan.connections = connections;
    plan.ipvs.defences = defences;
    let mut world = World::new(plan);
    world.expire();
    world
}

/// Lets seconds pass, and the worker's loop turn in each of them as often as it likes.
fn pass(world: &mut World, seconds: u64) {
    for _ in 0..seconds {
        world.sleep(1000);
        for _ in 0..64 {
            let now = world.now;
            world.pipeline.maintain(now);
        }
    }
}

/// The same by small steps: the sweep of the templates takes one for each of their 128 shards.
fn pass_by_steps(world: &mut World, seconds: u64) {
    for _ in 0..seconds * 50 {
        world.sleep(20);
        let now = world.now;
        world.pipeline.maintain(now);
    }
}

/// The defences in effect, by bit.
fn in_effect(world: &World) -> u64 {
    world.counters().defence.value()
}

/// Opens a connection as far as a SYN.
fn knock(world: &mut World, site: Site, port: u16) {
    world.sent(0, &site.request(port), site.inside());
    world.movement();
}

const DROP_ENTRY: Defences = Defences {
    drop_entry: Mode::Always,
    drop_packet: Mode::Off,
    secure_tcp: Mode::Off,
    amemthresh: 1024,
    am_droprate: 10,
};

#[test]
fn drop_entry_deletes_every_half_open_connection_within_32_seconds_and_a_32nd_in_each() {
    for site in Site::ALL {
        let mut world = guarded(site, 4096, DROP_ENTRY);
        for port in 5000..5000 + 3200 {
            world.sent(0, &site.request(port), site.inside());
        }
        establish(&mut world, site, 4000);
        let mut gone = Vec::new();
        for _ in 0..32 {
            pass(&mut world, 1);
            let moved = world.movement();
            gone.push(moved.get("connections_dropped").copied().unwrap_or(0));
        }
        assert!(gone.iter().all(|gone| *gone <= 128), "{gone:?}");
        assert_eq!(gone.iter().sum::<i64>(), 3200);
        // The one that was established a minute ago is no flood's.
        let rows = world.connections();
        assert_eq!(rows.len(), 1);
        assert_eq!(rows[0].state.name(), "ESTABLISHED");
    }
}

#[test]
fn drop_entry_keeps_the_counts_right() {
    let mut world = guarded(DR, 64, DROP_ENTRY);
    knock(&mut world, DR, 5000);
    pass(&mut world, 33);
    world.moved(&["connections_dropped 1, 11.active -1"]);
    assert_eq!(world.connections(), []);
}

#[test]
fn drop_entry_takes_idle_ones_with_few_packets_and_never_busy_or_closing_ones() {
    let mut world = guarded(NAT, 256, DROP_ENTRY);
    // Two packets, eight, nine, a closed one.
    establish(&mut world, NAT, 5000);
    for (port, packets) in [(5001, 8), (5002, 9)] {
        establish(&mut world, NAT, port);
        for _ in 2..packets {
            world.sent(0, &NAT.request(port).flags(ACK), 1);
        }
    }
    establish(&mut world, NAT, 5003);
    world.sent(0, &NAT.request(5003).flags(FIN | ACK), 1);
    world.movement();
    pass(&mut world, 59);
    assert_eq!(world.connections().len(), 4);
    pass(&mut world, 33);
    let ports = |world: &mut World| -> Vec<u16> {
        let rows = world.connections();
        let mut ports: Vec<_> = rows.iter().map(|row| row.client.port()).collect();
        ports.sort_unstable();
        ports
    };
    // The first of each number goes; CLOSE_WAIT has timed out by itself.
    assert_eq!(ports(&mut world), [5002]);
    pass(&mut world, 200);
    assert_eq!(ports(&mut world), [5002]);
    world.movement();
}

#[test]
fn drop_entry_takes_handshakes_of_sctp_and_old_datagrams() {
    for site in [DR.sctp(), DR.udp()] {
        let mut world = guarded(site, 64, DROP_ENTRY);
        if site.protocol == Protocol::Sctp {
            world.edit(|plan| assert!(plan.timeouts.set("sctp_init1", 900_000)));
        }
        knock(&mut world, site, 5000);
        pass(&mut world, 33);
        let left = world.connections().len();
        assert_eq!(left, usize::from(site.protocol == Protocol::Udp));
        pass(&mut world, 33 + 30);
        assert_eq!(world.connections().len(), 0);
        world.moved(&["connections_dropped 1, 11.inactive -1"]);
    }
}

#[test]
fn the_walk_costs_a_loop_64_entries_however_large_the_table_is() {
    let mut world = guarded(DR, 65_536, DROP_ENTRY);
    for port in 1000..61_000 {
        world.sent(0, &DR.request(port), 0);
    }
    world.movement();
    world.sleep(1000);
    let mut total = 0;
    for _ in 0..40 {
        let now = world.now;
        world.pipeline.maintain(now);
        let moved = world.movement();
        let gone = moved.get("connections_dropped").copied().unwrap_or(0);
        assert!(gone <= 64, "{gone}");
        total += gone;
    }
    // 1/32 of 65536 slots.
    assert_eq!(total, 2048);
}

#[test]
fn automatic_modes_switch_on_when_room_runs_out_and_off_when_there_is_more() {
    let auto = Defences {
        drop_entry: Mode::Auto,
        drop_packet: Mode::Auto,
        secure_tcp: Mode::Auto,
        ..DROP_ENTRY
    };
    for site in [DR, DR6] {
        let mut world = guarded(site, 800, auto);
        for port in 5000..5700 {
            establish(&mut world, site, port);
        }
        // An eighth of 800 is free: enough.
        pass(&mut world, 1);
        assert_eq!(in_effect(&world), 0);
        establish(&mut world, site, 5700);
        pass(&mut world, 1);
        assert_eq!(in_effect(&world), 0b111);
        for port in 5690..5701 {
            world.sent(0, &site.request(port).flags(RST), 0);
        }
        world.sleep(11_000);
        world.expire();
        // 110 free: still, so that it does not flap.
        assert_eq!(in_effect(&world), 0b111);
        for port in 5680..5690 {
            world.sent(0, &site.request(port).flags(RST), 0);
        }
        world.sleep(11_000);
        world.expire();
        pass(&mut world, 1);
        assert_eq!(in_effect(&world), 0);
        world.movement();
    }
}

#[test]
fn a_reload_switches_defences_at_once() {
    let mut world = guarded(DR, 64, Defences::default());
    assert_eq!(in_effect(&world), 0);
    world.edit(|plan| plan.ipvs.defences = DROP_ENTRY);
    world.sleep(1);
    world.expire();
    assert_eq!(in_effect(&world), 1);
    world.edit(|plan| plan.ipvs.defences = Defences::default());
    world.sleep(1);
    world.expire();
    assert_eq!(in_effect(&world), 0);
}

#[test]
fn drop_packet_drops_every_tenth_packet_that_asks_for_a_connection_and_no_other() {
    let always = Defences {
        drop_entry: Mode::Off,
        drop_packet: Mode::Always,
        ..DROP_ENTRY
    };
    for site in Site::ALL
        .map(|site| [site, site.udp(), site.sctp()])
        .concat()
    {
        let mut world = guarded(site, 1024, always);
        let mut dropped = Vec::new();
        for n in 1..=40 {
            match world.verdict(0, &site.request(5000 + n)) {
                Verdict::Tx(_) => {}
                verdict => {
                    assert_eq!(verdict, Verdict::Drop(DropReason::DropPacket));
                    dropped.push(n);
                }
            }
        }
        assert_eq!(dropped, [10, 20, 30, 40]);
        let moved = world.movement();
        assert_eq!(moved["drop.drop_packet"], 4);
        assert_eq!(moved["11.connections"], 36);
        // Packets of connections are not counted, nor those that open none.
        for _ in 0..100 {
            world.sent(0, &site.request(5001), site.inside());
        }
        if site.protocol == Protocol::Tcp {
            for _ in 0..100 {
                let stray = site.request(6000).flags(ACK);
                assert!(matches!(world.verdict(0, &stray), Verdict::Punt(_)));
            }
        }
        assert!(!world.movement().contains_key("drop.drop_packet"));
    }
}

#[test]
fn in_a_full_table_drop_packet_spares_every_second_one_which_makes_its_own_room() {
    let auto = Defences {
        drop_entry: Mode::Off,
        drop_packet: Mode::Auto,
        ..DROP_ENTRY
    };
    let mut world = guarded(DR, 64, auto);
    for port in 5000..5064 {
        world.sent(0, &DR.request(port), 0);
    }
    pass(&mut world, 1);
    assert_eq!(in_effect(&world), 0b10);
    world.movement();
    for port in 6000..6010 {
        world.verdict(0, &DR.request(port));
    }
    let moved = world.movement();
    assert_eq!(moved["drop.drop_packet"], 5);
    assert_eq!(moved["connections_created"], 5);
}

#[test]
fn under_secure_tcp_a_client_alone_is_never_established_and_the_server_alone_says_so() {
    let secure = Defences {
        drop_entry: Mode::Off,
        secure_tcp: Mode::Always,
        ..DROP_ENTRY
    };
    for site in [NAT, NAT6] {
        let mut world = guarded(site, 64, secure);
        let state = |world: &mut World| world.connections()[0].state.name();
        world.sent(0, &site.request(5000), 1);
        for _ in 0..3 {
            world.sent(0, &site.request(5000).flags(ACK), 1);
            assert_eq!(state(&mut world), "SYN_RECV");
        }
        world.sent(1, &site.reply(11, 5000), 0);
        assert_eq!(state(&mut world), "SYNACK");
        world.sent(1, &site.reply(11, 5000).flags(ACK), 0);
        assert_eq!(state(&mut world), "ESTABLISHED");
        world.movement();
    }
    // Direct routing: the SYN leads to SYNACK, which the client's ACK leaves (INPUT_ONLY).
    let mut world = guarded(DR, 64, secure);
    world.sent(0, &DR.request(5000), 0);
    assert_eq!(world.connections()[0].state.name(), "SYNACK");
    world.sent(0, &DR.request(5000).flags(ACK), 0);
    assert_eq!(world.connections()[0].state.name(), "ESTABLISHED");
    world.movement();
}

#[test]
fn drop_entry_takes_templates_that_were_never_assured_and_control_nothing() {
    let hour = 3_600_000;
    for site in [DR, NAT6] {
        for one_packet in [false, true] {
            let site = if one_packet { site.udp() } else { site };
            let mut plan = site.plan(&[11]);
            plan.ipvs.defences = DROP_ENTRY;
            plan.services[0].persistence = Some(crate::service::Persistence::new(hour));
            plan.services[0].one_packet = one_packet;
            let mut world = World::new(plan);
            world.expire();
            if one_packet {
                // The kernel counts no packets for these templates, and so never takes one.
                world.sent(0, &site.request(5000), site.inside());
                pass_by_steps(&mut world, 200);
                assert_eq!(world.movement()["11.templates"], 1);
                continue;
            }
            // A handshake that is never finished goes within 32 seconds, its template in about 35 more.
            knock(&mut world, site, 5000);
            assert_eq!(world.connections().len(), 2);
            pass_by_steps(&mut world, 70);
            world.moved(&[
                "connections_dropped 1, 11.active -1, templates_dropped 1, 11.templates -1",
            ]);
            assert_eq!(world.connections(), []);
            // Once a client was there, its template stays.
            establish(&mut world, site, 5001);
            world.sent(0, &site.request(5001).flags(RST), site.inside());
            world.movement();
            pass_by_steps(&mut world, 200);
            let rows = world.connections();
            assert_eq!(rows.len(), 1);
            assert!(rows[0].template.is_some());
            assert!(!world.movement().contains_key("templates_dropped"));
        }
    }
}
