//! The table in the pipeline: eviction when it is full, listing, deleting, expiry (DESIGN §4).

use super::*;
use crate::buffer::Frame;
use crate::job::{Action, Filter};
use crate::pipeline::Pass;
use crate::verdict::{DropReason, PortId, PuntClass, Verdict};

fn small(site: Site, connections: usize) -> World {
    let mut plan = site.plan(&[11]);
    plan.connections = connections;
    World::new(plan)
}

/// A connection that must never be evicted: established, with more than eight client packets.
fn entrench(world: &mut World, site: Site, port: u16) {
    for _ in 0..9 {
        world.sent(0, &site.request(port).flags(ACK), site.inside());
    }
    world.movement();
}

#[test]
fn a_full_table_gives_up_the_least_valuable_connection_first() {
    for site in Site::ALL {
        let mut world = small(site, 3);
        establish(&mut world, site, 1001);
        world.sleep(55_000);
        establish(&mut world, site, 1002);
        world.sent(0, &site.request(1002).flags(RST), site.inside());
        world.sent(0, &site.request(1003), site.inside());
        world.sleep(6_000);
        world.movement();

        // Embryonic, then closing, then established but idle with few packets, then none.
        world.sent(0, &site.request(2001), site.inside());
        world.moved(&["connections_evicted 1, 11.active -1", &site.created(11)]);
        entrench(&mut world, site, 2001);
        world.sent(0, &site.request(2002), site.inside());
        world.moved(&["connections_evicted 1, 11.inactive -1", &site.created(11)]);
        entrench(&mut world, site, 2002);
        world.sent(0, &site.request(2003), site.inside());
        world.moved(&["connections_evicted 1, 11.active -1", &site.created(11)]);
        entrench(&mut world, site, 2003);
        world.dropped(0, &site.request(2004), DropReason::TableFull);
        world.moved(&["connection_misses 1, drop.table_full 1"]);

        let mut ports: Vec<_> = world
            .connections()
            .iter()
            .map(|row| row.client.port())
            .collect();
        ports.sort_unstable();
        assert_eq!(ports, [2001, 2002, 2003]);
    }
}

#[test]
fn an_expired_connection_makes_room_before_any_other_and_counts_as_expired() {
    let mut world = small(DR, 2);
    world.sent(0, &DR.request(1001), 0);
    establish(&mut world, DR, 1002);
    entrench(&mut world, DR, 1002);
    world.sleep(60_000 + TICK);
    world.sent(0, &DR.request(1003), 0);
    world.moved(&["connections_expired 1, 11.active -1", &DR.created(11)]);
}

#[test]
fn one_packet_datagrams_make_room_for_each_other() {
    let site = DR.udp();
    let mut world = small(site, 2);
    for port in 1..=3 {
        world.sent(0, &site.request(port), 0);
    }
    world.moved(&[
        &site.created(11),
        &site.created(11),
        &site.created(11),
        "connections_evicted 1, 11.inactive -1",
    ]);
}

#[test]
fn a_listing_shows_every_connection_once_with_both_families() {
    let mut plan = NAT.plan(&[11]);
    plan.services.extend(DR6.plan(&[12]).services);
    let mut world = World::new(plan);
    for port in 0..100 {
        world.sent(0, &NAT.request(1000 + port), 1);
        world.sent(0, &DR6.request(1000 + port), 0);
    }
    world.movement();
    world.sleep(1_000);
    let rows = world.connections();
    assert_eq!(rows.len(), 200);
    for site in [NAT, DR6] {
        for port in 0..100 {
            let client = site.client(1000 + port);
            let mut found = rows.iter().filter(|row| row.client == client);
            let row = found.next().unwrap();
            assert_eq!(found.next(), None);
            assert_eq!(row.virtual_address, site.vip());
            assert_eq!(row.forward, site.forward);
            assert_eq!((row.state.name(), row.expires_ms), ("SYN_RECV", 59_000));
            assert_eq!(row.packets, 1);
        }
    }
    let here = rows
        .iter()
        .find(|row| row.client == NAT.client(1000))
        .unwrap();
    assert_eq!(here.destination, NAT.real(11));
    world.moved(&[]);
}

#[test]
fn deleting_ends_the_matching_connections_only() {
    let mut world = NAT.world(&[11, 12]);
    for port in 0..100 {
        world.sent(0, &NAT.request(1000 + port), 1);
    }
    world.movement();
    let filter = Filter {
        destination: Some((NAT.real(12).ip(), None)),
        ..Filter::default()
    };
    let (rows, handled) = world.run(Action::Delete, filter);
    assert_eq!((rows.len(), handled), (0, 50));
    world.moved(&["12.active -50"]);
    assert_eq!(world.connections().len(), 50);
    // Both keys are gone: the reply has no connection any more, the client may start anew.
    assert!(matches!(
        world.verdict(1, &NAT.reply(12, 1000)),
        Verdict::Punt(_)
    ));
    world.moved(&["connection_misses 1, punt.rest 1"]);
    world.sent(0, &NAT.request(1000), 1);
    world.moved(&[&NAT.created(12)]);
}

#[test]
fn expiry_needs_no_traffic_and_handles_a_few_connections_per_loop() {
    let mut world = DR.world(&[11]);
    for port in 0..200 {
        world.sent(0, &DR.request(1000 + port), 0);
    }
    world.movement();
    world.sleep(60_000 + TICK);
    let now = world.now;
    world.pipeline.maintain(now);
    assert_eq!(world.pipeline.connections(), 136);
    world.moved(&["connections_expired 64, 11.active -64"]);
    world.expire();
    world.moved(&["connections_expired 136, 11.active -136"]);
}

#[test]
fn a_connection_that_keeps_talking_does_not_expire() {
    let mut world = NAT.world(&[11]);
    establish(&mut world, NAT, 5000);
    for _ in 0..10 {
        world.sleep(899_999);
        world.expire();
        world.sent(1, &NAT.reply(11, 5000).flags(ACK), 0);
        world.moved(&[&NAT.answered(11)]);
    }
}

#[test]
fn packets_of_one_connection_in_one_burst_find_what_the_first_of_them_made() {
    for site in Site::ALL {
        let mut world = small(site, 1);
        let mut burst: Vec<_> = [SYN, ACK, FIN | ACK]
            .map(|flags| Frame::from_bytes(&site.request(5000).flags(flags).build()))
            .into();
        // The table is full then, and the connection made room for another's before it is met again.
        burst.push(Frame::from_bytes(&site.request(6000).build()));
        burst.push(Frame::from_bytes(&site.request(5000).flags(ACK).build()));
        let mut verdicts = [Verdict::Drop(DropReason::Stopping); 5];
        let inner = &mut world.0;
        let tray = &mut inner.tray;
        inner
            .pipeline
            .process(&mut burst, &mut verdicts, inner.now, Pass::First, tray);
        let tx = Verdict::Tx(PortId(site.inside()));
        let stack = Verdict::Punt(PuntClass::Rest);
        assert_eq!(verdicts, [tx, tx, tx, tx, stack]);
        world.moved(&[
            &site.created(11),
            &site.hit(11),
            &site.hit(11),
            "connections_evicted 1, 11.active -1",
            &site.created(11),
            "connection_misses 1",
        ]);
    }
}
