//! SCTP services (spec 2.2, 3.4): what opens an association, what its packets do to the state, how
//! they are rewritten, and what becomes of damaged ones.

use super::*;
use crate::buffer::PacketBuffer;
use crate::packet::sctp::{
    ABORT, CHUNK_LEN, COOKIE_ACK, COOKIE_ECHO, ERROR, INIT, INIT_ACK, LEN, SHUTDOWN, SHUTDOWN_ACK,
    SHUTDOWN_COMPLETE,
};
use crate::service::Orphans;
use crate::verdict::{DropReason, Verdict, WorkerId};
use proptest::prelude::*;

const SITES: [Site; 4] = [DR, NAT, DR6, NAT6];
const DATA: u8 = 0;
const HEARTBEAT: u8 = 4;

/// Chunks without values.
fn chunks(kinds: &[u8]) -> Vec<u8> {
    let chunks = kinds.iter().flat_map(|kind| [*kind, 0, 0, CHUNK_LEN as u8]);
    chunks.collect()
}

/// A packet of an association, and what `ipvsadm -Lnc` shows afterwards.
enum Step {
    Client(u8, &'static str, u64),
    Server(u8, &'static str, u64),
}
use Step::{Client, Server};

/// Plays the steps over one association with server 11; state, seconds left and counts must follow.
fn play(site: Site, steps: &[Step]) -> World {
    let site = site.sctp();
    let mut world = site.world(&[11]);
    let mut active = false;
    for (number, step) in steps.iter().enumerate() {
        world.sleep(500);
        let (moved, name, seconds) = match step {
            Client(kind, name, seconds) => {
                let chunk = chunks(&[*kind]);
                let request = site.request(5000).payload(chunk.clone());
                let out = world.sent(0, &request, site.inside());
                assert_eq!(out, site.delivered(11, 5000).payload(chunk).build());
                let moved = match number {
                    0 => site.created(11),
                    _ => site.hit(11),
                };
                (moved, name, seconds)
            }
            Server(kind, name, seconds) => {
                let chunk = chunks(&[*kind]);
                let reply = site.reply(11, 5000).payload(chunk.clone());
                let out = world.sent(1, &reply, 0);
                assert_eq!(out, site.returned(5000).payload(chunk).build());
                (site.answered(11), name, seconds)
            }
        };
        let connection = &world.connections()[0];
        assert_eq!(connection.state.name(), *name, "{site:?}, step {number}");
        assert_eq!(connection.expires_ms, seconds * 1000, "step {number}");
        let is_active = *name == "ESTABLISHED";
        let change = match (active, is_active) {
            (true, false) => "11.active -1, 11.inactive 1",
            (false, true) => "11.active 1, 11.inactive -1",
            _ => "",
        };
        active = is_active;
        world.moved(&[&moved, change]);
    }
    world
}

/// An established association of client port `port`.
fn associate(world: &mut World, site: Site, port: u16) {
    for kind in [INIT, COOKIE_ECHO, DATA] {
        let request = site.request(port).payload(chunks(&[kind]));
        world.sent(0, &request, site.inside());
        if site.forward == Forward::Nat {
            let answer = match kind {
                INIT => INIT_ACK,
                COOKIE_ECHO => COOKIE_ACK,
                _ => HEARTBEAT,
            };
            let server = world.connections().last().unwrap().destination;
            let reply = site
                .between(server, site.client(port))
                .link(host_mac(server.ip()), port_mac(1))
                .payload(chunks(&[answer]));
            world.sent(1, &reply, 0);
        }
    }
    world.movement();
}

#[test]
fn behind_nat_an_association_is_active_from_cookie_ack_to_shutdown() {
    for site in [NAT, NAT6] {
        let mut world = play(
            site,
            &[
                Client(INIT, "INIT1", 4),
                Server(INIT_ACK, "C-SENT", 61),
                Client(COOKIE_ECHO, "C-REPLIED", 61),
                Server(COOKIE_ACK, "ESTABLISHED", 900),
                Client(DATA, "ESTABLISHED", 900),
                Server(HEARTBEAT, "ESTABLISHED", 900),
                Client(SHUTDOWN, "S-RECEIVED", 61),
                Server(SHUTDOWN_ACK, "S-ACK-SENT", 61),
                Client(SHUTDOWN_COMPLETE, "CLOSED", 61),
            ],
        );
        world.sleep(61_000 + TICK);
        world.expire();
        world.moved(&["connections_expired 1, 11.inactive -1"]);
    }
}

#[test]
fn with_dr_the_clients_half_is_enough() {
    for site in [DR, DR6] {
        play(
            site,
            &[
                Client(INIT, "INIT1", 4),
                Client(INIT, "INIT", 61),
                Client(COOKIE_ECHO, "ESTABLISHED", 900),
                Client(DATA, "ESTABLISHED", 900),
                Client(ERROR, "ESTABLISHED", 900),
                Client(SHUTDOWN, "S-RECEIVED", 61),
                Client(SHUTDOWN_COMPLETE, "CLOSED", 61),
            ],
        );
    }
}

#[test]
fn an_abort_behind_a_cookie_closes() {
    for site in SITES.map(Site::sctp) {
        for cookie in [COOKIE_ECHO, COOKIE_ACK] {
            let mut world = site.world(&[11]);
            world.sent(0, &site.request(5000), site.inside());
            world.moved(&[&site.created(11)]);
            let bundle = site.request(5000).payload(chunks(&[cookie, ABORT]));
            world.sent(0, &bundle, site.inside());
            assert_eq!(world.connections()[0].state.name(), "CLOSED");
            world.moved(&[&site.hit(11), &format!("11.in_bytes {CHUNK_LEN}")]);
        }
    }
}

#[test]
fn only_an_init_opens_an_association_unless_sloppy() {
    for site in SITES.map(Site::sctp) {
        for kind in [DATA, COOKIE_ECHO, INIT_ACK, ABORT, SHUTDOWN] {
            let mut world = site.world(&[11]);
            let packet = site.request(5000).payload(chunks(&[kind]));
            assert!(matches!(world.verdict(0, &packet), Verdict::Punt(_)));
            world.moved(&["connection_misses 1, punt.rest 1"]);
            assert_eq!(world.connections(), []);
        }
        let mut world = site.world(&[11]);
        world.edit(|plan| plan.ipvs.sloppy_sctp = true);
        let packet = site.request(5000).payload(chunks(&[DATA]));
        world.sent(0, &packet, site.inside());
        assert_eq!(world.connections()[0].state.name(), "ESTABLISHED");
        // It counts as active from the first packet on.
        let created = site.created(11).replace("inactive", "active");
        world.moved(&[&created]);
    }
}

#[test]
fn an_init_on_a_closed_association_is_scheduled_afresh_unless_reuse_mode_is_0() {
    for site in SITES.map(Site::sctp) {
        for mode in 0..=3 {
            let mut world = site.world(&[11, 12]);
            world.edit(|plan| plan.ipvs.conn_reuse_mode = mode);
            associate(&mut world, site, 5000);
            // One that lives keeps its server, whatever comes.
            let server = server_of(&world.sent(0, &site.request(5000), site.inside()));
            assert_eq!(server, 12);
            let abort = site.request(5000).payload(chunks(&[ABORT]));
            world.sent(0, &abort, site.inside());
            world.moved(&[&site.hit(12), &site.hit(12), "12.active -1, 12.inactive 1"]);
            let server = server_of(&world.sent(0, &site.request(5000), site.inside()));
            if mode == 0 {
                assert_eq!(server, 12);
                world.moved(&[&site.hit(12)]);
            } else {
                assert_eq!(server, 11, "mode {mode}");
                world.moved(&["12.inactive -1", &site.created(11)]);
            }
        }
    }
}

#[test]
fn nat_changes_the_checksum_for_the_port_and_not_for_the_address() {
    for site in [NAT, NAT6].map(Site::sctp) {
        let data: Vec<u8> = (0..1401_u32).map(|byte| byte as u8).collect();
        let chunk = |kind| [&[kind, 3, 5, 125][..], &data].concat();
        let mut world = site.world(&[11]);
        let checksum = |frame: &[u8]| {
            let at = frame.len() - chunk(INIT).len() - LEN + 8;
            frame[at..at + 4].to_vec()
        };
        let init = site.request(5000).payload(chunk(INIT));
        let out = world.sent(0, &init, 1);
        assert_eq!(out, site.delivered(11, 5000).payload(chunk(INIT)).build());
        assert_ne!(checksum(&out), checksum(&init.build()));
        let reply = site.reply(11, 5000).payload(chunk(INIT_ACK));
        let out = world.sent(1, &reply, 0);
        assert_eq!(out, site.returned(5000).payload(chunk(INIT_ACK)).build());
        world.movement();

        // The same port on both sides.
        world.edit(|plan| plan.services[0].reals[0].address.set_port(80));
        let init = site.request(5001).payload(chunk(INIT));
        let out = world.sent(0, &init, 1);
        assert_eq!(checksum(&out), checksum(&init.build()));
        world.movement();
    }
}

#[test]
fn a_damaged_packet_neither_opens_nor_moves_an_association() {
    for site in SITES.map(Site::sctp) {
        let mut world = site.world(&[11]);
        let mut init = site.request(5000).build();
        *init.last_mut().unwrap() ^= 1;
        let (verdict, _) = world.receive(0, &init);
        assert_eq!(verdict, Verdict::Drop(DropReason::TransportChecksum));
        world.moved(&["connection_misses 1, drop.transport_checksum 1"]);

        associate(&mut world, site, 5000);
        let before = world.connections();
        // A bit that makes an ABORT of a DATA chunk's type.
        let mut abort = site.request(5000).payload(chunks(&[DATA])).build();
        let at = abort.len() - CHUNK_LEN;
        abort[at] = ABORT;
        let (verdict, _) = world.receive(0, &abort);
        assert_eq!(verdict, Verdict::Drop(DropReason::TransportChecksum));
        world.moved(&["drop.transport_checksum 1"]);
        assert_eq!(world.connections(), before);
    }
}

#[test]
fn truncated_and_empty_chunks_have_no_effect() {
    for site in SITES.map(Site::sctp) {
        let mut world = site.world(&[11]);
        associate(&mut world, site, 5000);
        let before = world.connections();
        for bad in [
            &[][..],
            &[ABORT],
            &[ABORT, 0, 0],
            &[ABORT, 0, 0, 0],
            &[ABORT, 0, 0, 3],
            &[ABORT, 0, 0, 9, 0, 0, 0, 0],
            &[ABORT, 0, 0xff, 0xff],
        ] {
            for port in [5000, 5001] {
                let packet = site.request(port).payload(bad);
                world.dropped(0, &packet, DropReason::TransportHeader);
            }
            world.moved(&["connection_misses 1, drop.transport_header 2"]);
        }
        assert_eq!(world.connections(), before);
    }
}

#[test]
fn both_directions_go_to_the_owner_as_those_of_tcp() {
    for site in SITES {
        for port in 5000..5032 {
            let verdicts = [site, site.sctp()].map(|site| {
                let plan = site.plan(&[11]);
                let mut world = World(world::World::of_workers(plan, WorkerId(0), 2));
                let mut request = world.verdict(0, &site.request(port));
                if !matches!(request, Verdict::Redirect(_)) {
                    request = Verdict::Redirect(WorkerId(0));
                }
                let reply = match site.forward {
                    Forward::Nat => Some(world.verdict(1, &site.reply(11, port))),
                    _ => None,
                };
                world.movement();
                (request, reply)
            });
            assert_eq!(verdicts[0], verdicts[1]);
        }
    }
}

#[test]
fn associations_of_a_removed_server_end_as_the_setting_says() {
    let site = NAT.sctp();
    for (orphans, data, init) in [
        (Orphans::Keep, true, 11),
        (Orphans::Expire, false, 12),
        (Orphans::Reset, false, 12),
        (Orphans::Silent, false, 0),
    ] {
        let mut world = site.world(&[12, 11]);
        associate(&mut world, site, 5000);
        world.edit(|plan| {
            plan.orphans = orphans;
            plan.services[0].reals.remove(1);
        });
        let packet = site.request(5000).payload(chunks(&[DATA]));
        let (verdict, _) = world.receive(0, &packet.build());
        assert_eq!(matches!(verdict, Verdict::Tx(_)), data, "{orphans:?}");
        let (verdict, frame) = world.receive(0, &site.request(5000).build());
        match init {
            0 => assert_eq!(verdict, Verdict::Drop(DropReason::ServerGone)),
            server => assert_eq!(server_of(frame.data()), server, "{orphans:?}"),
        }
        world.movement();
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    /// Whatever an attacker puts behind the ports of an association, with a right checksum or
    /// without: nothing panics, it is sent or counted, and nobody else's association changes.
    #[test]
    fn no_packet_disturbs_the_association_of_another(
        packets in prop::collection::vec(
            (prop::collection::vec(any::<u8>(), 0..64), any::<Option<u16>>()), 1..24),
        sites in 0..4usize,
    ) {
        let site = SITES[sites].sctp();
        let mut world = site.world(&[11]);
        associate(&mut world, site, 5000);
        let before = world.connections();
        for (payload, damage) in packets {
            let mut frame = site.request(6000).payload(payload).build();
            if let Some(damage) = damage {
                let l4 = frame.len() - (frame.len() % 97).min(20);
                frame[l4 - 1] ^= damage as u8;
            }
            let (verdict, _) = world.receive(0, &frame);
            let expected = match verdict {
                Verdict::Drop(reason) => format!("drop.{reason}"),
                Verdict::Punt(class) => format!("punt.{class}"),
                _ => "connection".to_owned(),
            };
            let moved = world.movement();
            prop_assert!(moved.keys().any(|name| name.starts_with(&expected)), "{:?}", moved);
        }
        let now = world.connections();
        prop_assert!(now.contains(&before[0]));
    }
}
