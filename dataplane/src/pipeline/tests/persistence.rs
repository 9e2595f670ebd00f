//! Persistent clients (spec 3.7; recorded in t3 section 9 and at the end of t4; scenarios S4, S5, S6).

use super::marks;
use super::*;
use crate::buffer::PacketBuffer;
use crate::job::{Action, Filter};
use crate::pipeline::world::World as Raw;
use crate::service::{Orphans, Persistence};
use crate::verdict::{Verdict, WorkerId};
use std::fmt::Write;

const MINUTE: u32 = 60_000;

/// A plan of these services, each persistent for a minute.
fn persistent(mut plan: Plan) -> Plan {
    for service in &mut plan.services {
        service.persistence = Some(Persistence::new(MINUTE));
    }
    plan
}

/// The lines of `ipvsadm -Lcn` without the connections' client ports, sorted.
fn listing(world: &mut Raw) -> Vec<String> {
    let rows = world.connections();
    let line = |row: &crate::job::ConnectionRow| {
        let seconds = row.expires_ms / 1000;
        let (protocol, state) = (row.protocol_name(), row.state_name());
        let mut client = row.client;
        if row.template.is_none() {
            client.set_port(1);
        }
        let mut line = format!(
            "{protocol} {:02}:{:02} {state} {client}",
            seconds / 60,
            seconds % 60
        );
        let _ = write!(line, " {} {}", row.virtual_address, row.destination);
        line
    };
    let mut lines: Vec<String> = rows.iter().map(line).collect();
    lines.sort();
    lines
}

fn plan_90() -> Plan {
    let service = ServicePlan::new(
        Protocol::Tcp,
        "10.0.1.50:90",
        Forward::Nat,
        &["10.0.2.11:8080", "10.0.2.12:8080"],
    );
    persistent(Plan::new(vec![service]))
}

fn ends(from: u16, to: &str, flags: u8) -> PacketBuilder {
    let client = endpoint(&format!("10.0.1.100:{from}"));
    PacketBuilder::tcp(client, endpoint(to))
        .link(host_mac(client.ip()), port_mac(0))
        .flags(flags)
}

/// A whole handshake as the director sees it; the server that got it.
fn connect(world: &mut Raw, from: u16, to: &str) -> u8 {
    let syn = world.sent(0, &ends(from, to, SYN), 1);
    world.sent(0, &ends(from, to, ACK), 1);
    server_of(&syn)
}

#[test]
fn the_recorded_listing_of_a_service_with_persistence_comes_out() {
    let mut world = Raw::new(plan_90());
    let servers: Vec<u8> = (1..4)
        .map(|port| connect(&mut world, port + 58_000, "10.0.1.50:90"))
        .collect();
    assert_eq!(servers, [12, 12, 12]);
    let connection = "TCP 15:00 ESTABLISHED 10.0.1.100:1 10.0.1.50:90 10.0.2.12:8080";
    assert_eq!(
        listing(&mut world),
        [
            "TCP 01:00 ASSURED 10.0.1.100:0 10.0.1.50:90 10.0.2.12:8080",
            connection,
            connection,
            connection
        ]
    );
    let movement = world.movement();
    assert_eq!(movement.get("12.templates"), Some(&1));
    assert_eq!(movement.get("12.active"), Some(&3));
    assert_eq!(movement.get("templates_created"), Some(&1));
    assert_eq!(
        movement.get("12.connections"),
        Some(&3),
        "templates are no connections"
    );
}

#[test]
fn all_ports_of_a_vip_stick_together_and_clients_are_grouped_by_the_mask() {
    let service = ServicePlan {
        persistence: Some(Persistence {
            netmask: Some(24),
            ..Persistence::new(MINUTE)
        }),
        ..ServicePlan::new(
            Protocol::Tcp,
            "10.0.1.51:0",
            Forward::Nat,
            &["10.0.2.11:0", "10.0.2.12:0"],
        )
    };
    let mut world = Raw::new(Plan::new(vec![service]));
    assert_eq!(connect(&mut world, 39_002, "10.0.1.51:80"), 12);
    assert_eq!(connect(&mut world, 35_892, "10.0.1.51:8080"), 12);
    assert_eq!(
        listing(&mut world),
        [
            "TCP 01:00 ASSURED 10.0.1.0:0 10.0.1.51:0 10.0.2.12:0",
            "TCP 15:00 ESTABLISHED 10.0.1.100:1 10.0.1.51:80 10.0.2.12:80",
            "TCP 15:00 ESTABLISHED 10.0.1.100:1 10.0.1.51:8080 10.0.2.12:8080",
        ]
    );
}

#[test]
fn each_port_has_a_template_of_its_own() {
    // S4: the two ports may differ, each sticks.
    let service = |vip| {
        ServicePlan::new(
            Protocol::Tcp,
            vip,
            Forward::Nat,
            &["10.0.2.11:80", "10.0.2.12:80"],
        )
    };
    let plan = Plan::new(vec![service("10.0.1.50:80"), service("10.0.1.50:22")]);
    let mut world = Raw::new(persistent(plan));
    let of = |world: &mut Raw, from, to: &str| connect(world, from, to);
    // Another client takes the first turn on port 80.
    let other = PacketBuilder::tcp(endpoint("10.0.1.101:999"), endpoint("10.0.1.50:80"));
    let other = other.link(host_mac(endpoint("10.0.1.101:999").ip()), port_mac(0));
    assert_eq!(server_of(&world.sent(0, &other.flags(SYN), 1)), 12);
    assert_eq!(of(&mut world, 5000, "10.0.1.50:80"), 11);
    assert_eq!(of(&mut world, 5000, "10.0.1.50:22"), 12);
    for from in 5001..5010 {
        assert_eq!(of(&mut world, from, "10.0.1.50:80"), 11);
        assert_eq!(of(&mut world, from, "10.0.1.50:22"), 12);
    }
}

#[test]
fn a_mark_sticks_over_ports_and_protocols() {
    let mut world = Raw::new(persistent(marks::plan(NAT)));
    let mut to = |site: Site, from, port| {
        let out = world.sent(0, &marks::request(site, from, port), 1);
        server_of(&out)
    };
    assert_eq!(
        [
            to(NAT, 5000, 80),
            to(NAT, 5001, 443),
            to(NAT.udp(), 5002, 443)
        ],
        [12; 3]
    );
    let template = "IP 01:00 NONE 10.0.1.100:0 0.0.0.1:0 10.0.2.12:0";
    assert_eq!(listing(&mut world)[0], template);
    // Only the mark's template is for all protocols.
    let filter = Filter {
        any_protocol: true,
        ..Filter::default()
    };
    assert_eq!(world.run(Action::Delete, filter).1, 1);
    assert_eq!(listing(&mut world).len(), 3);
    assert_eq!(world.movement().get("12.templates"), None);
}

#[test]
fn a_template_outlives_its_time_while_it_controls_connections() {
    let mut world = Raw::new(plan_90());
    connect(&mut world, 5000, "10.0.1.50:90");
    world.sleep(90_000);
    world.expire();
    let template = "TCP 00:30 ASSURED 10.0.1.100:0 10.0.1.50:90 10.0.2.12:8080";
    assert_eq!(listing(&mut world)[0], template);
    // The connection ends and the template starts its minute again.
    world.sleep(900_000);
    world.expire();
    let lines = listing(&mut world);
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert!(lines[0].starts_with("TCP 01:00 ASSURED"), "{lines:?}");
    world.sleep(59_000);
    assert_eq!(connect(&mut world, 5001, "10.0.1.50:90"), 12);
    world.sleep(1_100_000);
    world.expire();
    world.sleep(61_000);
    assert_eq!(listing(&mut world), <[String; 0]>::default());
    // Forgotten: it is the next server's turn.
    assert_eq!(connect(&mut world, 5002, "10.0.1.50:90"), 11);
}

#[test]
fn a_server_of_weight_0_keeps_its_persistent_clients_unless_templates_expire() {
    let mut world = Raw::new(plan_90());
    assert_eq!(connect(&mut world, 5000, "10.0.1.50:90"), 12);
    world.edit(|plan| plan.services[0].reals[1].weight = 0);
    assert_eq!(connect(&mut world, 5001, "10.0.1.50:90"), 12);
    world.edit(|plan| plan.ipvs.expire_quiescent_template = true);
    assert_eq!(connect(&mut world, 5002, "10.0.1.50:90"), 11);
    let lines = listing(&mut world);
    let templates: Vec<_> = lines
        .iter()
        .filter(|line| line.contains("ASSURED"))
        .collect();
    assert_eq!(
        templates,
        [
            "TCP 01:00 ASSURED 10.0.1.100:0 10.0.1.50:65535 10.0.2.12:65535",
            "TCP 01:00 ASSURED 10.0.1.100:0 10.0.1.50:90 10.0.2.11:8080",
        ]
    );
    // The old connections go on, and end under the template they began under.
    assert_eq!(
        server_of(&world.sent(0, &ends(5000, "10.0.1.50:90", ACK), 1)),
        12
    );
    world.sleep(1_000_000);
    world.expire();
    world.sleep(61_000);
    assert_eq!(listing(&mut world), <[String; 0]>::default());
}

#[test]
fn a_removed_server_loses_its_clients_and_an_overloaded_one_keeps_them() {
    let mut world = Raw::new(plan_90());
    assert_eq!(connect(&mut world, 5000, "10.0.1.50:90"), 12);
    world.edit(|plan| plan.services[0].reals[1].upper = 1);
    assert_eq!(connect(&mut world, 5001, "10.0.1.50:90"), 12);
    world.edit(|plan| {
        plan.services[0].reals.pop();
    });
    assert_eq!(connect(&mut world, 5002, "10.0.1.50:90"), 11);
    // Back again, it gets new clients; this one has moved.
    world.edit(|plan| {
        let real = world::RealPlan::new("10.0.2.12:8080");
        plan.services[0].reals.push(real);
    });
    assert_eq!(connect(&mut world, 5003, "10.0.1.50:90"), 11);
}

#[test]
fn connections_under_a_template_are_never_rescheduled_by_conn_reuse_mode() {
    let mut plan = plan_90();
    plan.ipvs.conn_reuse_mode = 3;
    plan.orphans = Orphans::Keep;
    let mut world = Raw::new(plan);
    assert_eq!(connect(&mut world, 5000, "10.0.1.50:90"), 12);
    world.sent(0, &ends(5000, "10.0.1.50:90", RST), 1);
    let filter = Filter {
        state: Some("ASSURED".to_owned()),
        ..Filter::default()
    };
    assert_eq!(world.run(Action::Delete, filter).1, 1);
    world.movement();
    // Without its template a new connection would be the other server's.
    assert_eq!(
        server_of(&world.sent(0, &ends(5000, "10.0.1.50:90", SYN), 1)),
        12
    );
    assert_eq!(world.movement().get("connections_created"), None);
}

#[test]
fn udp_templates_are_assured_by_the_first_reply_on_either_way() {
    let site = NAT.udp();
    for short_way in [true, false] {
        let mut world = Raw::new(persistent(site.plan(&[11, 12])));
        world.pipeline.state.short_way = short_way;
        world.sent(0, &site.request(5000), 1);
        let state = |world: &mut Raw| {
            let rows = world.connections();
            let row = rows.into_iter().find(|row| row.template.is_some());
            row.unwrap().state_name()
        };
        world.sent(0, &site.request(5000), 1);
        assert_eq!(state(&mut world), "NONE");
        world.sent(1, &site.reply(12, 5000), 0);
        assert_eq!(state(&mut world), "ASSURED");
    }
}

#[test]
fn settings_that_tell_clients_apart_otherwise_leave_no_template_behind_for_ever() {
    let mut world = Raw::new(plan_90());
    connect(&mut world, 5000, "10.0.1.50:90");
    world.edit(|plan| {
        plan.services[0].persistence = Some(Persistence {
            netmask: Some(24),
            generation: 2,
            ..Persistence::new(MINUTE)
        });
    });
    connect(&mut world, 5001, "10.0.1.50:90");
    let templates = |world: &mut Raw| {
        let lines = listing(world);
        lines.iter().filter(|line| line.contains("ASSURED")).count()
    };
    assert_eq!(templates(&mut world), 2);
    // The old one's connection lives, but finds it no more.
    world.sleep(61_000);
    assert_eq!(templates(&mut world), 1);
    world.sleep(900_000);
    world.expire();
    world.sleep(61_000);
    assert_eq!(listing(&mut world), <[String; 0]>::default());
    // Off: nothing is left either.
    connect(&mut world, 5002, "10.0.1.50:90");
    world.edit(|plan| plan.services[0].persistence = None);
    world.sleep(61_000);
    assert_eq!(templates(&mut world), 0);
}

/// Takes a packet to its owner; what it sent.
fn give(workers: &mut [Raw; 2], first: usize, packet: &PacketBuilder) -> Vec<u8> {
    let frame = packet.build();
    let (verdict, out) = workers[first].receive(0, &frame);
    let (verdict, out) = match verdict {
        Verdict::Redirect(to) => workers[usize::from(to.0)].redirected(0, &frame),
        verdict => (verdict, out),
    };
    assert!(matches!(verdict, Verdict::Tx(_)), "{verdict:?}");
    out.data().to_vec()
}

fn two(plan: Plan) -> [Raw; 2] {
    let first = Raw::of_workers(plan, WorkerId(0), 2);
    let second = first.beside(WorkerId(1));
    [first, second]
}

#[test]
fn two_workers_send_a_client_to_one_server() {
    // S4, S5, S6 as two workers see them: connections of one client fall to both.
    for plan in [plan_90(), persistent(marks::plan(NAT))] {
        let to = if plan.marks.is_empty() {
            "10.0.1.50:90"
        } else {
            "10.0.1.50:443"
        };
        let mut workers = two(plan);
        let servers: Vec<u8> = (5000..5040)
            .map(|from| {
                server_of(&give(
                    &mut workers,
                    usize::from(from % 2),
                    &ends(from, to, SYN),
                ))
            })
            .collect();
        assert!(
            servers.iter().all(|server| *server == servers[0]),
            "{servers:?}"
        );
        let connections = workers.each_mut().map(Raw::connections);
        let of = |worker: usize| {
            let rows = connections[worker].iter();
            rows.filter(|row| row.template.is_none()).count()
        };
        assert!(of(0) > 5 && of(1) > 5 && of(0) + of(1) == 40);
        // Each worker lists its share of the templates: together, each once.
        let all = connections.iter().flatten();
        let templates: Vec<_> = all.filter(|row| row.template.is_some()).collect();
        assert_eq!(templates.len(), 1);
        // And each ends its connections under the one template.
        for worker in &mut workers {
            worker.sleep(70_000);
            worker.expire();
        }
        let lines: Vec<_> = workers.iter_mut().flat_map(listing).collect();
        assert_eq!(lines.len(), 1, "{lines:?}");
        let (name, _) = lines[0].split_once(" 10.0.1.100").unwrap();
        assert!(name.ends_with("01:00 NONE"), "{lines:?}");
        for worker in &mut workers {
            worker.sleep(61_000);
            assert_eq!(listing(worker), <[String; 0]>::default());
        }
    }
}

#[test]
fn templates_do_not_count_towards_thresholds_and_editing_these_judges_anew() {
    let mut world = Raw::new(plan_90());
    assert_eq!(connect(&mut world, 5000, "10.0.1.50:90"), 12);
    let overloaded = |world: &mut Raw, upper, lower| {
        world.edit(|plan| {
            plan.services[0].reals[1].upper = upper;
            plan.services[0].reals[1].lower = lower;
        });
        let servers = &world.services().services()[0].list.servers;
        servers[0].shared.is_overloaded()
    };
    // One connection and its template.
    assert!(!overloaded(&mut world, 2, 0));
    assert!(overloaded(&mut world, 1, 1));
    // Between the two it stays as it was, below the lower one it ends.
    assert!(overloaded(&mut world, 5, 1));
    assert!(!overloaded(&mut world, 5, 2));
    assert!(!overloaded(&mut world, 0, 0));
    assert!(overloaded(&mut world, 1, 0));
    // Only the template is left, and the server takes clients again.
    world.sleep(910_000);
    world.expire();
    assert_eq!(world.connections().len(), 1);
    let servers = &world.services().services()[0].list.servers;
    assert!(!servers[0].shared.is_overloaded());
}
