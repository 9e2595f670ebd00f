//! TCP states, timeouts, active and inactive counts in the life of a connection (spec 3.2, 3.3,
//! 3.5), and what a new SYN on an old connection does (`conn_reuse_mode`).

use super::*;

/// What goes on, and what `ipvsadm -Lnc` shows afterwards.
enum Step {
    /// The client sends a segment with these flags.
    Client(u8, &'static str, u64),
    /// The server does.
    Server(u8, &'static str, u64),
}
use Step::{Client, Server};

/// Plays the steps over one connection to server 11; state, seconds left and counts must follow.
fn play(site: Site, steps: &[Step]) -> World {
    let mut world = site.world(&[11]);
    let mut active = false;
    for (number, step) in steps.iter().enumerate() {
        world.sleep(500);
        let (moved, name, seconds) = match step {
            Client(flags, name, seconds) => {
                world.sent(0, &site.request(5000).flags(*flags), site.inside());
                let moved = if number == 0 {
                    site.created(11)
                } else {
                    site.hit(11)
                };
                (moved, name, seconds)
            }
            Server(flags, name, seconds) => {
                world.sent(1, &site.reply(11, 5000).flags(*flags), 0);
                (site.answered(11), name, seconds)
            }
        };
        let connection = &world.connections()[0];
        assert_eq!(connection.state.name(), *name, "{site:?}, step {number}");
        assert_eq!(
            connection.expires_ms,
            seconds * 1000,
            "{site:?}, step {number}"
        );
        let is_active = connection.state.is_active();
        let change = match (number, active, is_active) {
            (0, ..) | (_, true, true) | (_, false, false) => "",
            (_, true, false) => "11.active -1, 11.inactive 1",
            (_, false, true) => "11.active 1, 11.inactive -1",
        };
        active = is_active;
        world.moved(&[&moved, change]);
    }
    world
}

#[test]
fn behind_nat_the_client_closes_first() {
    for site in [NAT, NAT6] {
        play(
            site,
            &[
                Client(SYN, "SYN_RECV", 60),
                Server(SYN | ACK, "SYN_RECV", 60),
                Client(ACK, "ESTABLISHED", 900),
                Server(ACK, "ESTABLISHED", 900),
                Client(FIN | ACK, "CLOSE_WAIT", 60),
                Server(ACK, "CLOSE_WAIT", 60),
                Server(FIN | ACK, "TIME_WAIT", 120),
                Client(ACK, "TIME_WAIT", 120),
            ],
        );
    }
}

#[test]
fn behind_nat_the_server_closes_first() {
    for site in [NAT, NAT6] {
        play(
            site,
            &[
                Client(SYN, "SYN_RECV", 60),
                Server(SYN | ACK, "SYN_RECV", 60),
                Client(ACK, "ESTABLISHED", 900),
                Server(FIN | ACK, "FIN_WAIT", 120),
                Client(ACK, "FIN_WAIT", 120),
                Client(FIN | ACK, "TIME_WAIT", 120),
                Server(ACK, "TIME_WAIT", 120),
            ],
        );
    }
}

#[test]
fn with_dr_only_the_clients_half_is_seen() {
    for site in [DR, DR6] {
        play(
            site,
            &[
                Client(SYN, "SYN_RECV", 60),
                Client(ACK, "ESTABLISHED", 900),
                Client(FIN | ACK, "FIN_WAIT", 120),
                Client(ACK, "FIN_WAIT", 120),
            ],
        );
    }
}

#[test]
fn a_reset_closes_and_after_ten_seconds_the_connection_is_gone() {
    for site in Site::ALL {
        let mut world = play(
            site,
            &[
                Client(SYN, "SYN_RECV", 60),
                Client(ACK, "ESTABLISHED", 900),
                Client(RST, "CLOSE", 10),
            ],
        );
        world.sleep(9_999);
        world.expire();
        world.moved(&[]);
        world.sleep(1 + TICK);
        world.expire();
        world.moved(&["connections_expired 1, 11.inactive -1"]);
        assert_eq!(world.connections(), []);
    }
    play(
        NAT,
        &[
            Client(SYN, "SYN_RECV", 60),
            Client(ACK, "ESTABLISHED", 900),
            Server(RST | ACK, "CLOSE", 10),
        ],
    );
}

#[test]
fn a_datagram_is_inactive_and_stays_five_minutes() {
    for site in Site::ALL.map(Site::udp) {
        let mut world = play(site, &[Client(0, "UDP", 300), Client(0, "UDP", 300)]);
        world.sleep(300_000 + TICK);
        world.expire();
        world.moved(&["connections_expired 1, 11.inactive -1"]);
    }
}

#[test]
fn timeouts_reach_a_connection_with_its_next_packet() {
    let mut world = DR.world(&[11]);
    establish(&mut world, DR, 5000);
    world.edit(|plan| assert!(plan.timeouts.set("tcp", 30_000)));
    assert_eq!(world.connections()[0].expires_ms, 900_000);
    world.sent(0, &DR.request(5000).flags(ACK), 0);
    assert_eq!(world.connections()[0].expires_ms, 30_000);
    world.moved(&[&DR.hit(11)]);
    world.sleep(30_000 + TICK);
    world.expire();
    world.moved(&["connections_expired 1, 11.active -1"]);
}

#[test]
fn a_connection_whose_time_is_up_is_over_even_before_the_timers_run() {
    for site in Site::ALL {
        let mut world = site.world(&[11, 12]);
        establish(&mut world, site, 5000);
        world.sleep(900_000);
        let verdict = world.verdict(0, &site.request(5000).flags(ACK));
        assert!(matches!(verdict, crate::verdict::Verdict::Punt(_)));
        world.moved(&["connections_expired 1, 12.active -1, connection_misses 1, punt.rest 1"]);
        establish(&mut world, site, 5000);
        world.sleep(900_000);
        world.sent(0, &site.request(5000), site.inside());
        world.moved(&["connections_expired 1, 11.active -1", &site.created(12)]);
    }
}

/// A connection that ended, then a SYN on its ports.
fn reopened(site: Site, mode: u8, end: &[Step]) -> (World, u8) {
    let mut world = site.world(&[11, 12]);
    world.edit(|plan| plan.ipvs.conn_reuse_mode = mode);
    establish(&mut world, site, 5000);
    for step in end {
        let (port, packet, out) = match step {
            Client(flags, ..) => (0, site.request(5000).flags(*flags), site.inside()),
            Server(flags, ..) => (1, site.reply(12, 5000).flags(*flags), 0),
        };
        world.sent(port, &packet, out);
    }
    world.movement();
    let server = server_of(&world.sent(0, &site.request(5000), site.inside()));
    (world, server)
}

#[test]
fn a_syn_on_a_connection_that_is_over_is_scheduled_afresh_unless_reuse_mode_is_0() {
    let time_wait = [Client(FIN | ACK, "", 0), Server(FIN | ACK, "", 0)];
    let close = [Client(RST, "", 0)];
    for end in [&time_wait[..], &close[..]] {
        for mode in 1..=3 {
            let (mut world, server) = reopened(NAT, mode, end);
            assert_eq!(server, 11, "mode {mode}");
            world.moved(&["12.inactive -1", &NAT.created(11)]);
        }

        let (mut world, server) = reopened(NAT, 0, end);
        assert_eq!(server, 12, "mode 0 stays with the old server");
        world.moved(&[&NAT.hit(12), "12.active 1, 12.inactive -1"]);
    }
}

#[test]
fn reuse_modes_2_and_3_give_up_half_closed_connections_whose_replies_are_not_seen() {
    let fin = [Client(FIN | ACK, "", 0)];
    for (mode, expected) in [(0, 12), (1, 12), (2, 11), (3, 11)] {
        let (mut world, server) = reopened(DR, mode, &fin);
        assert_eq!(server, expected, "mode {mode}");
        match expected {
            11 => world.moved(&["12.inactive -1", &DR.created(11)]),
            _ => world.moved(&[&DR.hit(12), "12.active 1, 12.inactive -1"]),
        }
    }
    // Behind NAT the server's FIN leaves FIN_WAIT, but replies are seen.
    let (mut world, server) = reopened(NAT, 3, &[Server(FIN | ACK, "", 0)]);
    assert_eq!(server, 12);
    world.moved(&[&NAT.hit(12), "12.active 1, 12.inactive -1"]);
}

#[test]
fn a_syn_on_a_living_connection_changes_nothing() {
    for site in Site::ALL {
        let (mut world, server) = reopened(site, 3, &[]);
        assert_eq!(server, 12);
        world.moved(&[&site.hit(12)]);
        assert_eq!(world.connections()[0].state.name(), "ESTABLISHED");
    }
}

#[test]
fn a_replaced_connection_counts_until_the_server_of_the_new_one_is_chosen() {
    // In the kernel the old one goes with the next tick of the timers. 12 has it, so of the two
    // idle servers 11 has less; without it the newest would win the tie.
    let mut plan = NAT.plan(&[11, 12]);
    plan.services[0].scheduler = SchedulerKind::Lc;
    let mut world = World::new(plan);
    establish(&mut world, NAT, 5000);
    world.sent(0, &NAT.request(5000).flags(RST), 1);
    let server = server_of(&world.sent(0, &NAT.request(5000), 1));
    assert_eq!(server, 11);
    let left: Vec<_> = world
        .connections()
        .iter()
        .map(|row| row.destination)
        .collect();
    assert_eq!(left, [NAT.real(11)]);
    world.movement();
}

#[test]
fn a_reply_whose_hops_are_used_up_changes_no_connection() {
    for site in [NAT, NAT6] {
        let mut world = site.world(&[11]);
        establish(&mut world, site, 5000);
        world.movement();
        let last = site.reply(11, 5000).flags(FIN | ACK).ttl(1);
        world.sent(site.inside(), &last, site.inside());
        world.moved(&["icmp_time_exceeded 1"]);
        assert_eq!(world.connections()[0].state.name(), "ESTABLISHED");
    }
}
