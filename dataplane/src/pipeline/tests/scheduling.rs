//! New connections: who may have one, and which server takes it (spec 1, 2.2).

use super::*;
use crate::pipeline::world::RealPlan;
use crate::service::NoServer;
use crate::verdict::{DropReason, PuntClass, Verdict};

/// The servers of the next `flows` connections, as the recordings print them.
fn sequence(world: &mut World, site: Site, first: u16, flows: u16) -> String {
    let servers: Vec<_> = (first..first + flows)
        .map(|port| server_of(&world.sent(0, &site.request(port), site.inside())).to_string())
        .collect();
    servers.join(" ")
}

fn weighted(site: Site, scheduler: SchedulerKind, weights: [u32; 3]) -> World {
    let mut plan = site.plan(&[11, 12, 13]);
    plan.services[0].scheduler = scheduler;
    for (real, weight) in plan.services[0].reals.iter_mut().zip(weights) {
        real.weight = weight;
    }
    World::new(plan)
}

#[test]
fn recorded_sequences_come_out_of_the_pipeline() {
    use SchedulerKind::{Lc, Rr, Wlc, Wrr};
    for site in Site::ALL.map(Site::udp) {
        for (scheduler, weights, recorded) in [
            (Rr, [1, 1, 1], "13 12 11 13 12 11 13 12 11 13 12 11"),
            (Rr, [1, 0, 1], "13 11 13 11 13 11 13 11 13 11 13 11"),
            (Wrr, [4, 3, 2], "13 12 11 11 12 11 13 12 11 13 12 11"),
            (Wrr, [1, 2, 3], "13 12 11 13 13 12 13 12 11 13 13 12"),
            (Lc, [1, 1, 1], "13 12 11 13 12 11 13 12 11 13 12 11"),
            (Wlc, [1, 2, 3], "13 12 11 13 12 13 13 12 11 13 12 13"),
        ] {
            let mut world = weighted(site, scheduler, weights);
            assert_eq!(
                sequence(&mut world, site, 5000, 12),
                recorded,
                "{scheduler}"
            );
            let moved: Vec<_> = recorded
                .split(' ')
                .map(|host| site.created(host.parse().unwrap()))
                .collect();
            let moved: Vec<_> = moved.iter().map(String::as_str).collect();
            world.moved(&moved);
        }
    }
}

#[test]
fn a_server_of_weight_0_keeps_its_connections_and_gets_no_new_ones() {
    for site in Site::ALL {
        let mut world = site.world(&[11, 12]);
        establish(&mut world, site, 5000);
        world.edit(|plan| plan.services[0].reals[1].weight = 0);
        let out = world.sent(0, &site.request(5000).flags(ACK), site.inside());
        assert_eq!(
            server_of(&out),
            server_of(&site.delivered(12, 5000).build())
        );
        assert_eq!(sequence(&mut world, site, 5001, 2).len(), 5);
        world.moved(&[&site.hit(12), &site.created(11), &site.created(11)]);
    }
}

#[test]
fn an_overloaded_server_is_passed_over_until_connections_end() {
    for site in [DR, NAT] {
        let mut plan = site.plan(&[11, 12]);
        plan.services[0].reals[1].upper = 1;
        let mut world = World::new(plan);
        assert_eq!(sequence(&mut world, site, 5000, 3), "12 11 11");
        world.moved(&[&site.created(12), &site.created(11), &site.created(11)]);
        // The handshakes were never finished: SYN_RECV ends after a minute.
        world.sleep(60_000 + TICK);
        world.expire();
        world.moved(&["connections_expired 3, 11.active -2, 12.active -1"]);
        assert_eq!(sequence(&mut world, site, 6000, 1), "12");
        world.moved(&[&site.created(12)]);
    }
}

#[test]
fn when_every_server_is_overloaded_the_client_is_told() {
    let mut plan = DR.plan(&[11]);
    plan.services[0].reals[0].upper = 1;
    let mut world = World::new(plan);
    world.sent(0, &DR.request(5000), 0);
    world.sent(0, &DR.request(5001), 0);
    world.moved(&[
        &DR.created(11),
        "connection_misses 1, unserved 1, icmp_port_unreachable 1",
    ]);
}

#[test]
fn without_a_server_the_packet_is_dropped_if_the_service_says_so() {
    for site in Site::ALL {
        let mut plan = site.plan(&[]);
        plan.services[0].no_server = NoServer::Drop;
        let mut world = World::new(plan);
        world.dropped(0, &site.request(5000), DropReason::NoServer);
        world.moved(&["connection_misses 1, unserved 1, drop.no_server 1"]);
    }
}

#[test]
fn only_a_syn_opens_a_tcp_connection_unless_sloppy() {
    for site in Site::ALL {
        let mut world = site.world(&[11]);
        for flags in [ACK, FIN | ACK, RST, SYN | RST, 0] {
            let verdict = world.verdict(0, &site.request(5000).flags(flags));
            assert_eq!(verdict, Verdict::Punt(PuntClass::Rest), "{flags:#x}");
            world.moved(&["connection_misses 1, punt.rest 1"]);
        }
        world.edit(|plan| plan.ipvs.sloppy_tcp = true);
        let out = world.sent(0, &site.request(5000).flags(ACK), site.inside());
        assert_eq!(out, site.delivered(11, 5000).flags(ACK).build());
        world.moved(&[&site.created(11)]);
        assert_eq!(world.connections()[0].state.name(), "ESTABLISHED");
        let verdict = world.verdict(0, &site.request(5001).flags(RST));
        assert_eq!(verdict, Verdict::Punt(PuntClass::Rest));
        world.moved(&["connection_misses 1, punt.rest 1"]);
    }
}

#[test]
fn a_client_on_source_port_20_is_never_scheduled() {
    for site in Site::ALL.into_iter().chain([DR.udp(), NAT.udp()]) {
        let mut world = site.world(&[11]);
        let verdict = world.verdict(0, &site.request(20));
        assert_eq!(verdict, Verdict::Punt(PuntClass::Rest));
        world.moved(&["connection_misses 1, punt.rest 1"]);
    }
}

#[test]
fn a_taken_reply_key_makes_another_server_be_chosen_and_none_left_drops() {
    let mut plan = NAT.plan(&[11, 12]);
    for vip in ["10.0.1.51:80", "10.0.1.52:80"] {
        let mut service = plan.services[0].clone();
        service.vip = endpoint(vip);
        plan.services.push(service);
    }
    let mut world = World::new(plan);
    // One client port, three VIPs, two servers: a reply could not be told apart.
    let to = |vip: &str| {
        PacketBuilder::tcp(NAT.client(5000), endpoint(vip))
            .link(host_mac(NAT.client(0).ip()), port_mac(0))
            .flags(SYN)
    };
    assert_eq!(server_of(&world.sent(0, &to("10.0.1.50:80"), 1)), 12);
    assert_eq!(server_of(&world.sent(0, &to("10.0.1.51:80"), 1)), 11);
    world.moved(&[&NAT.created(12), &NAT.created(11)]);
    world.dropped(0, &to("10.0.1.52:80"), DropReason::ReplyKeyInUse);
    world.moved(&["connection_misses 1, drop.reply_key_in_use 1"]);

    // Each reply goes back as from the VIP its request went to.
    for (host, vip) in [(12, "10.0.1.50:80"), (11, "10.0.1.51:80")] {
        let expected = PacketBuilder::tcp(endpoint(vip), NAT.client(5000))
            .link(port_mac(0), host_mac(NAT.client(0).ip()))
            .ttl(63)
            .flags(SYN | ACK);
        assert_eq!(world.sent(1, &NAT.reply(host, 5000), 0), expected.build());
    }
    world.moved(&[&NAT.answered(12), &NAT.answered(11)]);
}

#[test]
fn an_expired_connection_gives_its_reply_key_up() {
    let mut plan = NAT.plan(&[11]);
    let mut service = plan.services[0].clone();
    service.vip = endpoint("10.0.1.51:80");
    plan.services.push(service);
    let mut world = World::new(plan);
    world.sent(0, &NAT.request(5000), 1);
    world.moved(&[&NAT.created(11)]);
    let other = PacketBuilder::tcp(NAT.client(5000), endpoint("10.0.1.51:80"))
        .link(host_mac(NAT.client(0).ip()), port_mac(0))
        .flags(SYN);
    world.dropped(0, &other, DropReason::ReplyKeyInUse);
    world.moved(&["connection_misses 1, drop.reply_key_in_use 1"]);
    world.sleep(60_000);
    world.sent(0, &other, 1);
    world.moved(&["connections_expired 1, 11.active -1", &NAT.created(11)]);
}

#[test]
fn a_reload_keeps_connections_and_goes_on_where_the_scheduler_was() {
    for site in [DR, NAT] {
        let mut world = site.world(&[11, 12, 13]);
        assert_eq!(sequence(&mut world, site, 5000, 1), "13");
        world.edit(|_| {});
        assert_eq!(sequence(&mut world, site, 5001, 1), "12");
        world.edit(|plan| {
            let real = site.real(14).to_string();
            plan.services[0].reals.push(RealPlan::new(&real));
        });
        assert_eq!(sequence(&mut world, site, 5002, 4), "11 14 13 12");
        let out = world.sent(0, &site.request(5000).flags(ACK), site.inside());
        assert_eq!(out, site.delivered(13, 5000).flags(ACK).build());
        world.moved(&[
            &site.created(13),
            &site.created(12),
            &site.created(11),
            &site.created(14),
            &site.created(13),
            &site.created(12),
            &site.hit(13),
        ]);
    }
}

#[test]
fn wrr_goes_on_within_its_period_over_a_reload() {
    let site = NAT.udp();
    let mut world = weighted(site, SchedulerKind::Wrr, [1, 2, 3]);
    assert_eq!(sequence(&mut world, site, 5000, 4), "13 12 11 13");
    world.edit(|plan| plan.ipvs.sloppy_tcp = true);
    assert_eq!(sequence(&mut world, site, 5004, 4), "13 12 13 12");
    world.movement();
}

#[test]
fn a_server_that_comes_back_brings_its_counters_along() {
    let mut world = NAT.world(&[11, 12]);
    establish(&mut world, NAT, 5000);
    let twelve = world.services().services()[0].list.servers[0].clone();
    world.edit(|plan| plan.services[0].reals.truncate(1));
    world.edit(|plan| {
        let real = NAT.real(12).to_string();
        plan.services[0].reals.push(RealPlan::new(&real));
    });
    let back = world.services().services()[0].list.servers[0].clone();
    assert_eq!(back.id, twelve.id);
    assert_eq!(back.shared.connections(), (1, 0));
    world.moved(&[]);
}
