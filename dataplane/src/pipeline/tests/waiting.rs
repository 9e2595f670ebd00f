//! Packets whose next hop is not resolved yet, and those whose next hop never answers (spec 2.3).

use super::*;
use crate::buffer::PacketBuffer;
use crate::pipeline::Outcome;
use crate::verdict::{Neighbour, PortId, Verdict};

fn unknown_server(site: Site) -> World {
    let mut plan = site.plan(&[11]);
    plan.unknown = vec![site.real(11).ip()];
    World::new(plan)
}

fn neighbour(site: Site) -> Neighbour {
    Neighbour {
        port: PortId(site.inside()),
        address: site.real(11).ip(),
    }
}

#[test]
fn a_packet_that_waited_is_forwarded_and_counted_once() {
    for site in Site::ALL {
        let mut world = unknown_server(site);
        let (verdict, mut packet) = world.receive(0, &site.request(5000).padding(4).build());
        assert_eq!(verdict, Verdict::Wait(neighbour(site)));
        world.moved(&[&site.created(11)]);

        // Looked at too early it goes on waiting.
        let verdict = world.retry(&mut packet, Outcome::Resolved);
        assert_eq!(verdict, Verdict::Wait(neighbour(site)));
        world.moved(&[]);

        world.edit(|plan| plan.unknown.clear());
        let verdict = world.retry(&mut packet, Outcome::Resolved);
        assert_eq!(verdict, Verdict::Tx(PortId(site.inside())));
        assert_eq!(packet.data(), site.delivered(11, 5000).build());
        world.moved(&[]);
        assert!(
            world.asked().is_empty(),
            "asking is the waiting room's business"
        );
    }
}

#[test]
fn a_neighbour_that_did_not_answer_is_told_to_the_client_quoting_the_vip() {
    for site in Site::ALL {
        let mut world = unknown_server(site);
        let (_, mut packet) = world.receive(0, &site.request(5000).build());
        world.moved(&[&site.created(11)]);
        let verdict = world.retry(&mut packet, Outcome::Failed);
        assert_eq!(verdict, Verdict::Tx(PortId(0)));
        let quoted = site.request(5000).ttl(63).build();
        assert!(packet.data().ends_with(&quoted[14..]), "hop taken off");
        world.moved(&["icmp_host_unreachable 1"]);
        assert_eq!(world.asked(), [site.real(11).ip()]);
        let connection = &world.connections()[0];
        assert_eq!(connection.state.name(), "SYN_RECV");
        assert_eq!(connection.expires_ms, 60_000);
    }
}

#[test]
fn a_neighbour_known_to_have_failed_is_looked_for_again_before_the_client_is_told() {
    for site in Site::ALL {
        let mut plan = site.plan(&[11]);
        plan.failed = vec![site.real(11).ip()];
        let mut world = World::new(plan);
        let (verdict, mut packet) = world.receive(0, &site.request(5000).build());
        assert_eq!(verdict, Verdict::Wait(neighbour(site)));
        world.moved(&[&site.created(11)]);
        let verdict = world.retry(&mut packet, Outcome::Failed);
        assert_eq!(verdict, Verdict::Tx(PortId(0)));
        world.moved(&["icmp_host_unreachable 1"]);

        // It was only away.
        let (verdict, mut packet) = world.receive(0, &site.request(5001).build());
        assert_eq!(verdict, Verdict::Wait(neighbour(site)));
        world.edit(|plan| plan.failed.clear());
        let verdict = world.retry(&mut packet, Outcome::Resolved);
        assert_eq!(verdict, Verdict::Tx(PortId(site.inside())));
        assert_eq!(packet.data(), site.delivered(11, 5001).build());
        world.moved(&[&site.created(11)]);
    }
}

#[test]
fn questions_about_failed_neighbours_are_limited() {
    let site = DR.udp();
    let mut world = unknown_server(site);
    for _ in 0..50 {
        let (_, mut packet) = world.receive(0, &site.request(5000).build());
        world.retry(&mut packet, Outcome::Failed);
    }
    assert_eq!(world.asked().len(), 10);
    world.movement();
}

#[test]
fn a_waiting_packet_whose_connection_was_deleted_is_decided_afresh() {
    let mut world = unknown_server(NAT);
    let (_, mut syn) = world.receive(0, &NAT.request(5000).build());
    let (_, mut ack) = world.receive(0, &NAT.request(5000).flags(ACK).build());
    world.moved(&[&NAT.created(11), &NAT.hit(11)]);
    world.run(crate::job::Action::Delete, crate::job::Filter::default());
    world.edit(|plan| plan.unknown.clear());
    let verdict = world.retry(&mut ack, Outcome::Resolved);
    assert!(matches!(verdict, Verdict::Punt(_)), "{verdict:?}");
    let verdict = world.retry(&mut syn, Outcome::Resolved);
    assert_eq!(verdict, Verdict::Tx(PortId(1)));
    world.moved(&[
        "11.active -1, connection_misses 1, punt.rest 1",
        &NAT.created(11),
    ]);
}

#[test]
fn a_reply_waits_for_the_client_too() {
    for site in [NAT, NAT6] {
        let mut world = site.world(&[11]);
        establish(&mut world, site, 5000);
        world.edit(|plan| plan.unknown = vec![site.client(0).ip()]);
        let (verdict, mut packet) = world.receive(1, &site.reply(11, 5000).build());
        assert!(matches!(verdict, Verdict::Wait(to) if to.address == site.client(0).ip()));
        world.moved(&[&site.answered(11)]);
        world.edit(|plan| plan.unknown.clear());
        let verdict = world.retry(&mut packet, Outcome::Resolved);
        assert_eq!(verdict, Verdict::Tx(PortId(0)));
        world.moved(&[]);
    }
}
