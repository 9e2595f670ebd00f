//! Several workers: who keeps a packet, who hands it over, and to whom (DESIGN §5).

use super::{DR, NAT, NAT6, Site, host_mac, port_mac};
use crate::pipeline::world::World;
use crate::verdict::{Verdict, WorkerId};

/// Two workers of one box: same tables, connections of their own.
fn workers(site: Site, queues: u16) -> [World; 2] {
    [0, 1].map(|worker| {
        let mut plan = site.plan(&[11, 12]);
        plan.queues = queues;
        World::of_workers(plan, WorkerId(worker), 2)
    })
}

/// Gives the packet to both workers as received; the one that owns it, which the other must name.
fn owner(workers: &mut [World; 2], port: u8, frame: &[u8]) -> WorkerId {
    let verdicts = [0, 1].map(|worker| workers[worker].receive(port, frame).0);
    match verdicts {
        [Verdict::Tx(_), Verdict::Redirect(to)] if to == WorkerId(0) => to,
        [Verdict::Redirect(to), Verdict::Tx(_)] if to == WorkerId(1) => to,
        other => panic!("both or neither took it: {other:?}"),
    }
}

#[test]
fn requests_and_replies_of_a_translated_connection_have_one_owner() {
    for site in [NAT, NAT6] {
        let mut workers = workers(site, 2);
        let mut owned = [0, 0];
        for client in 5000..5100 {
            let request = owner(&mut workers, 0, &site.request(client).build());
            owned[usize::from(request.0)] += 1;
            // The reply is known to its owner; the other one learns from the real server's address.
            let taken = &mut workers[usize::from(request.0)];
            let server = taken
                .connections()
                .iter()
                .find_map(|row| (row.client.port() == client).then(|| row.destination.ip()));
            let host = [11, 12]
                .into_iter()
                .find(|host| Some(site.real(*host).ip()) == server);
            let reply = site.reply(host.unwrap(), client).build();
            assert_eq!(owner(&mut workers, 1, &reply), request);
        }
        assert!(owned[0] > 30 && owned[1] > 30, "{owned:?}");
    }
}

#[test]
fn direct_routing_stays_where_it_arrives_unless_the_port_has_too_few_queues() {
    let request = DR.request(5000).build();
    for worker in &mut workers(DR, 2) {
        assert!(matches!(worker.receive(0, &request).0, Verdict::Tx(_)));
    }
    let mut few = workers(DR, 1);
    let mut owned = [0, 0];
    for client in 5000..5100 {
        owned[usize::from(owner(&mut few, 0, &DR.request(client).build()).0)] += 1;
    }
    assert!(owned[0] > 30 && owned[1] > 30, "{owned:?}");
}

#[test]
fn a_packet_is_handed_over_at_most_once_and_then_accounted_like_any_other() {
    for client in 5000..5020 {
        let mut workers = workers(NAT, 2);
        let request = NAT.request(client).build();
        let Verdict::Redirect(to) = workers[0].receive(0, &request).0 else {
            continue;
        };
        let other = &mut workers[usize::from(to.0)];
        assert!(matches!(other.redirected(0, &request).0, Verdict::Tx(_)));
        assert_eq!(
            other.counters().connections_v4.value() + other.counters().connections_v6.value(),
            0,
            "a gauge, set by maintain"
        );
        assert_eq!(other.connections().len(), 1);
        // Handed to a worker that is not the owner (it cannot happen) it still ends there.
        assert!(matches!(
            workers[0].redirected(0, &request).0,
            Verdict::Tx(_)
        ));
    }
}

#[test]
fn what_belongs_to_no_service_and_no_real_server_stays_where_it_arrives() {
    let mut workers = workers(NAT, 1);
    let other = NAT.between(NAT.client(5000), NAT.host(1, 1, 22));
    let other = other.link(host_mac(NAT.client(5000).ip()), port_mac(0));
    let other = other.build();
    for worker in &mut workers {
        assert!(matches!(worker.receive(0, &other).0, Verdict::Punt(_)));
    }
}
