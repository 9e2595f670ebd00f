//! FTP behind NAT: control connections read, data connections let in (behaviour notes 6).

use super::*;
use crate::job::{Action, ConnectionRow, Filter};
use crate::verdict::{DropReason, PortId, PuntClass, Verdict, WorkerId};

const CLIENT: &str = "10.0.1.100";
const VIP: &str = "10.0.1.150";
const REAL: &str = "10.0.2.11";

fn plan() -> Plan {
    let vip = format!("{VIP}:21");
    Plan::new(vec![ServicePlan::new(
        Protocol::Tcp,
        &vip,
        Forward::Nat,
        &["10.0.2.11:21"],
    )])
}

fn to_vip(from: u16, port: u16) -> PacketBuilder {
    let client = endpoint(&format!("{CLIENT}:{from}"));
    PacketBuilder::tcp(client, endpoint(&format!("{VIP}:{port}")))
        .link(host_mac(client.ip()), port_mac(0))
}

fn to_real(from: u16, port: u16) -> PacketBuilder {
    let real = endpoint(&format!("{REAL}:{port}"));
    PacketBuilder::tcp(endpoint(&format!("{CLIENT}:{from}")), real)
        .link(port_mac(1), host_mac(real.ip()))
        .ttl(63)
}

fn from_real(port: u16, to: u16) -> PacketBuilder {
    let real = endpoint(&format!("{REAL}:{port}"));
    PacketBuilder::tcp(real, endpoint(&format!("{CLIENT}:{to}")))
        .link(host_mac(real.ip()), port_mac(1))
}

fn from_vip(port: u16, to: u16) -> PacketBuilder {
    let client = endpoint(&format!("{CLIENT}:{to}"));
    PacketBuilder::tcp(endpoint(&format!("{VIP}:{port}")), client)
        .link(port_mac(0), host_mac(client.ip()))
        .ttl(63)
}

/// Opens the control connection from port 40000; the client's next byte is 101, the server's 201.
fn log_in(world: &mut World) {
    world.sent(0, &to_vip(40000, 21).flags(SYN).sequence(100, 0), 1);
    let answer = from_real(21, 40000).flags(SYN | ACK).sequence(200, 101);
    world.sent(1, &answer, 0);
    world.sent(0, &to_vip(40000, 21).sequence(101, 201), 1);
    world.movement();
}

#[test]
fn a_passive_answer_shows_the_vip_and_its_data_connection_is_let_in_once() {
    let mut world = World::new(plan());
    log_in(&mut world);
    world.sent(
        0,
        &to_vip(40000, 21).sequence(101, 201).payload("PASV\r\n"),
        1,
    );
    // The address is split over three segments.
    let line = "227 Entering Passive Mode (10,0,2,11,153,23).\r\n";
    let mut sent = 201;
    let mut received = 201;
    for (part, expected) in [
        (&line[..30], "227 Entering Passive Mode (10,0,1,150"),
        (&line[30..31], ""),
        (&line[31..], ",153,23).\r\n"),
    ] {
        let out = world.sent(
            1,
            &from_real(21, 40000).sequence(sent, 107).payload(part),
            0,
        );
        let shown = from_vip(21, 40000)
            .sequence(received, 107)
            .payload(expected);
        assert_eq!(out, shown.build(), "{part}");
        sent += part.len() as u32;
        received += expected.len() as u32;
        let ack = to_vip(40000, 21).sequence(107, received);
        let out = world.sent(0, &ack, 1);
        assert_eq!(out, to_real(40000, 21).sequence(107, sent).build());
    }
    // What comes later is shifted for good, in both directions.
    let out = world.sent(
        1,
        &from_real(21, 40000)
            .sequence(sent, 107)
            .payload("226 x\r\n"),
        0,
    );
    let shown = from_vip(21, 40000)
        .sequence(received, 107)
        .payload("226 x\r\n");
    assert_eq!(out, shown.build());
    assert_eq!((sent, received), (248, 249));
    let moved = world.movement();
    assert_eq!(moved.get("ftp_expected"), Some(&1), "{moved:?}");
    assert_eq!(moved.get("11.inactive"), Some(&1), "{moved:?}");

    // The data connection.
    let out = world.sent(0, &to_vip(50000, 39191).flags(SYN), 1);
    assert_eq!(out, to_real(50000, 39191).flags(SYN).build());
    let out = world.sent(1, &from_real(39191, 50000).flags(SYN | ACK), 0);
    assert_eq!(out, from_vip(39191, 50000).flags(SYN | ACK).build());
    let moved = world.movement();
    assert_eq!(moved.get("connections_created"), Some(&1), "{moved:?}");
    // A second one from another port finds nobody: the stack has the address.
    let again = world.verdict(0, &to_vip(50001, 39191).flags(SYN));
    assert_eq!(again, Verdict::Punt(PuntClass::Rest));
    world.moved(&["connection_misses 1, punt.rest 1"]);
}

#[test]
fn an_active_connection_comes_from_the_vip_below_its_port() {
    let mut world = World::new(plan());
    log_in(&mut world);
    let port = "PORT 10,0,1,100,19,136\r\n";
    world.sent(0, &to_vip(40000, 21).sequence(101, 201).payload(port), 1);
    let out = world.sent(1, &from_real(20, 5000).flags(SYN), 0);
    assert_eq!(out, from_vip(20, 5000).flags(SYN).build());
    let out = world.sent(0, &to_vip(5000, 20).flags(SYN | ACK), 1);
    assert_eq!(out, to_real(5000, 20).flags(SYN | ACK).build());
    let moved = world.movement();
    assert_eq!(moved.get("ftp_expected"), Some(&1), "{moved:?}");
    // To a port nobody announced nothing is translated.
    assert_ne!(
        world.verdict(1, &from_real(20, 5001).flags(SYN)),
        Verdict::Tx(PortId(0))
    );
    world.movement();
}

#[test]
fn third_parties_and_privileged_ports_are_refused() {
    let mut world = World::new(plan());
    log_in(&mut world);
    let mut next = 101;
    for line in ["PORT 10,0,1,101,19,136\r\n", "PORT 10,0,1,100,0,22\r\n"] {
        world.sent(0, &to_vip(40000, 21).sequence(next, 201).payload(line), 1);
        next += line.len() as u32;
    }
    let line = "227 (10,0,2,12,153,23)\r\n";
    let answer = from_real(21, 40000).sequence(201, next).payload(line);
    let out = world.sent(1, &answer, 0);
    let shown = from_vip(21, 40000).sequence(201, next).payload(line);
    assert_eq!(out, shown.build());
    let moved = world.movement();
    assert_eq!(moved.get("ftp_refused"), Some(&3), "{moved:?}");
    world.verdict(0, &to_vip(50000, 39191).flags(SYN));
    world.verdict(1, &from_real(20, 5000).flags(SYN));
    let moved = world.movement();
    assert_eq!(moved.get("connections_created"), None, "{moved:?}");
}

#[test]
fn a_segment_before_its_turn_is_dropped_and_counted() {
    let mut world = World::new(plan());
    log_in(&mut world);
    world.sent(
        0,
        &to_vip(40000, 21).sequence(101, 201).payload("NOOP\r\n"),
        1,
    );
    world.movement();
    let late = to_vip(40000, 21).sequence(108, 201).payload("ASV\r\n");
    assert_eq!(
        world.verdict(0, &late),
        Verdict::Drop(DropReason::FtpOutOfOrder)
    );
    let moved = world.movement();
    assert_eq!(moved.get("drop.ftp_out_of_order"), Some(&1), "{moved:?}");
}

#[test]
fn a_control_connection_lives_as_long_as_its_data_connection() {
    let mut world = World::new(plan());
    log_in(&mut world);
    let port = "PORT 10,0,1,100,19,136\r\n";
    world.sent(0, &to_vip(40000, 21).sequence(101, 201).payload(port), 1);
    world.sent(1, &from_real(20, 5000).flags(SYN), 0);
    world.sent(0, &to_vip(5000, 20).flags(SYN | ACK), 1);
    world.sent(1, &from_real(20, 5000), 0);
    // Data flows for an hour, nothing is said.
    for _ in 0..120 {
        world.sleep(30_000);
        world.expire();
        world.sent(1, &from_real(20, 5000).payload("data"), 0);
    }
    assert_eq!(world.pipeline.connections(), 2);
    let out = world.sent(
        1,
        &from_real(21, 40000)
            .sequence(201, 125)
            .payload("226 done\r\n"),
        0,
    );
    let shown = from_vip(21, 40000)
        .sequence(201, 125)
        .payload("226 done\r\n");
    assert_eq!(out, shown.build());
    // Then both run out, and nothing remains.
    for _ in 0..60 {
        world.sleep(30_000);
        world.expire();
    }
    assert_eq!(world.pipeline.connections(), 0);
    let real = world.services().reals().next().unwrap().1.clone();
    assert_eq!(real.shared.connections(), (0, 0));
    let expected = world.services().expected.clone().unwrap();
    assert!(expected.is_empty());
    world.movement();
}

#[test]
fn what_is_announced_is_listed_as_recorded_until_somebody_comes_and_can_be_given_up() {
    let mut world = World::new(plan());
    log_in(&mut world);
    let ask = to_vip(40000, 21).sequence(101, 201).payload("EPSV\r\n");
    world.sent(0, &ask, 1);
    let line = "229 (|||39191|)\r\n";
    world.sent(1, &from_real(21, 40000).sequence(201, 107).payload(line), 0);
    world.sleep(1000);
    let listening = |world: &mut World| {
        let rows = world.connections();
        let rows = rows.iter().filter(|row| row.state_name() == "LISTEN");
        let line = |row: &ConnectionRow| {
            let seconds = row.expires_ms / 1000;
            format!(
                "{} {:02}:{:02} {} {} {} {}",
                row.protocol_name(),
                seconds / 60,
                seconds % 60,
                row.state_name(),
                row.client,
                row.virtual_address,
                row.destination
            )
        };
        rows.map(line).collect::<Vec<_>>()
    };
    let recorded = "TCP 01:59 LISTEN 10.0.1.100:0 10.0.1.150:39191 10.0.2.11:39191";
    assert_eq!(listening(&mut world), [recorded]);
    let filter = Filter {
        virtual_address: Some((endpoint("10.0.1.150:0").ip(), Some(39_191))),
        ..Filter::default()
    };
    assert_eq!(world.run(Action::Delete, filter.clone()).1, 1);
    assert_eq!(listening(&mut world), <[String; 0]>::default());
    let real = world.services().reals().next().unwrap().1.clone();
    assert_eq!(real.shared.connections(), (1, 0));
    assert!(world.services().expected.clone().unwrap().is_empty());
    world.movement();

    // One that was claimed is a connection, listed once.
    let again = to_vip(40000, 21).sequence(107, 218).payload("EPSV\r\n");
    world.sent(0, &again, 1);
    world.sent(1, &from_real(21, 40000).sequence(218, 113).payload(line), 0);
    world.sent(0, &to_vip(50000, 39_191).flags(SYN), 1);
    assert_eq!(listening(&mut world), <[String; 0]>::default());
    assert_eq!(world.connections().len(), 2);
    assert_eq!(world.run(Action::Delete, filter).1, 1);
    assert!(world.services().expected.clone().unwrap().is_empty());
    world.movement();
}

#[test]
fn what_is_announced_and_never_comes_is_given_up() {
    let mut world = World::new(plan());
    log_in(&mut world);
    world.sent(
        0,
        &to_vip(40000, 21).sequence(101, 201).payload("EPSV\r\n"),
        1,
    );
    let line = "229 (|||38903|)\r\n";
    world.sent(1, &from_real(21, 40000).sequence(201, 107).payload(line), 0);
    let real = world.services().reals().next().unwrap().1.clone();
    assert_eq!(real.shared.connections(), (1, 1));
    world.sleep(120_000);
    for _ in 0..64 {
        world.sleep(1);
        world.expire();
    }
    assert_eq!(real.shared.connections(), (1, 0));
    assert!(world.services().expected.clone().unwrap().is_empty());
    world.verdict(0, &to_vip(50000, 38903).flags(SYN));
    assert_eq!(world.pipeline.connections(), 1);
    world.movement();
}

#[test]
fn with_several_workers_a_data_connection_belongs_to_whom_the_client_hashes_to() {
    for port in 50_000..50_016 {
        let mut zero = World(world::World::of_workers(plan(), WorkerId(0), 2));
        let mut one = World(zero.beside(WorkerId(1)));
        log_in_redirected(&mut zero);
        let client = to_vip(40000, 21).sequence(101, 201).payload("EPSV\r\n");
        zero.redirected(0, &client.build());
        let line = "229 (|||38903|)\r\n";
        let server = from_real(21, 40000).sequence(201, 107).payload(line);
        zero.redirected(1, &server.build());
        let syn = to_vip(port, 38903).flags(SYN);
        let (a, b) = (zero.verdict(0, &syn), one.verdict(0, &syn));
        let (owner, other, number) = match (a, b) {
            (Verdict::Tx(_), Verdict::Redirect(WorkerId(0))) => (&mut zero, &mut one, 0),
            (Verdict::Redirect(WorkerId(1)), Verdict::Tx(_)) => (&mut one, &mut zero, 1),
            both => panic!("{both:?}"),
        };
        let answer = from_real(38903, port).flags(SYN | ACK);
        assert_eq!(
            other.verdict(1, &answer),
            Verdict::Redirect(WorkerId(number))
        );
        assert_eq!(owner.verdict(1, &answer), Verdict::Tx(PortId(0)));
        // It counts once, whoever announced it and whoever has it.
        let real = zero.services().reals().next().unwrap().1.clone();
        assert_eq!(real.shared.connections(), (2, 0));
        for _ in 0..70 {
            for world in [&mut zero, &mut one] {
                world.sleep(30_000);
                world.expire();
            }
        }
        assert_eq!(real.shared.connections(), (0, 0));
        zero.movement();
        one.movement();
    }
}

fn log_in_redirected(world: &mut World) {
    for (port, packet) in [
        (0, to_vip(40000, 21).flags(SYN).sequence(100, 0)),
        (1, from_real(21, 40000).flags(SYN | ACK).sequence(200, 101)),
        (0, to_vip(40000, 21).sequence(101, 201)),
    ] {
        world.redirected(port, &packet.build());
    }
}

#[test]
fn a_control_connection_on_the_ports_of_an_old_one_is_helped_too() {
    let mut world = World::new(plan());
    log_in(&mut world);
    world.sent(
        0,
        &to_vip(40000, 21).sequence(101, 201).payload("NOOP\r\n"),
        1,
    );
    for _ in 0..3 {
        // The server resets it; the client comes again from the same port.
        world.sent(1, &from_real(21, 40000).flags(RST), 0);
        log_in(&mut world);
        world.sent(
            0,
            &to_vip(40000, 21).sequence(101, 201).payload("PASV\r\n"),
            1,
        );
        let line = "227 (10,0,2,11,153,23)\r\n";
        let out = world.sent(1, &from_real(21, 40000).sequence(201, 107).payload(line), 0);
        let shown = from_vip(21, 40000).sequence(201, 107);
        assert_eq!(out, shown.payload("227 (10,0,1,150,153,23)\r\n").build());
    }
    world.movement();
}

#[test]
fn a_data_connection_on_the_ports_of_an_old_one_reaches_the_same_server() {
    let mut world = World::new(plan());
    log_in(&mut world);
    for round in 0..3_u32 {
        let asked = 101 + round * 6;
        world.sent(
            0,
            &to_vip(40000, 21).sequence(asked, 201).payload("EPSV\r\n"),
            1,
        );
        let line = "229 (|||39191|)\r\n";
        let told = 201 + round * line.len() as u32;
        world.sent(
            1,
            &from_real(21, 40000).sequence(told, asked + 6).payload(line),
            0,
        );
        let out = world.sent(0, &to_vip(50000, 39191).flags(SYN), 1);
        assert_eq!(out, to_real(50000, 39191).flags(SYN).build());
        world.sent(1, &from_real(39191, 50000).flags(SYN | ACK), 0);
        world.sent(0, &to_vip(50000, 39191), 1);
        world.sent(1, &from_real(39191, 50000).flags(FIN | ACK), 0);
        world.sent(0, &to_vip(50000, 39191).flags(FIN | ACK), 1);
        assert_eq!(states(&mut world), ["ESTABLISHED", "TIME_WAIT"]);
    }
    world.movement();
}

#[test]
fn an_active_connection_on_the_ports_of_an_old_one_leaves_nothing_announced() {
    let mut world = World::new(plan());
    log_in(&mut world);
    for round in 0..3_u32 {
        let command = "EPRT |1|10.0.1.100|50000|\r\n";
        let asked = 101 + round * command.len() as u32;
        let ask = to_vip(40000, 21).sequence(asked, 201).payload(command);
        world.sent(0, &ask, 1);
        let out = world.sent(1, &from_real(20, 50000).flags(SYN), 0);
        assert_eq!(out, from_vip(20, 50000).flags(SYN).build());
        world.sent(0, &to_vip(50000, 20).flags(SYN | ACK), 1);
        world.sent(1, &from_real(20, 50000), 0);
        world.sent(1, &from_real(20, 50000).flags(FIN | ACK), 0);
        world.sent(0, &to_vip(50000, 20).flags(FIN | ACK), 1);
        assert_eq!(states(&mut world), ["ESTABLISHED", "TIME_WAIT"]);
    }
    world.movement();
}

/// Of all connections and announcements, in order of their names.
fn states(world: &mut World) -> Vec<&'static str> {
    let mut states: Vec<_> = (world.connections().iter())
        .map(ConnectionRow::state_name)
        .collect();
    states.sort_unstable();
    states
}

#[test]
fn half_open_control_connections_are_not_remembered() {
    let mut world = World::new(plan());
    for port in 0..600 {
        world.sent(0, &to_vip(10_000 + port, 21).flags(SYN), 1);
    }
    let moved = world.movement();
    assert_eq!(moved.get("ftp_unhelped"), None);
    log_in(&mut world);
    world.sent(
        0,
        &to_vip(40000, 21).sequence(101, 201).payload("EPSV\r\n"),
        1,
    );
    let line = "229 (|||39191|)\r\n";
    world.sent(1, &from_real(21, 40000).sequence(201, 107).payload(line), 0);
    assert_eq!(world.movement().get("ftp_expected"), Some(&1));
}

#[test]
fn drop_entry_spares_a_control_connection_while_it_has_data_connections() {
    let mut plan = plan();
    plan.ipvs.defences.drop_entry = crate::defence::Mode::Always;
    let mut world = World::new(plan);
    world.expire();
    log_in(&mut world);
    let port = "PORT 10,0,1,100,19,136\r\n";
    world.sent(0, &to_vip(40000, 21).sequence(101, 201).payload(port), 1);
    world.sent(1, &from_real(20, 5000).flags(SYN), 0);
    world.sent(0, &to_vip(5000, 20).flags(SYN | ACK), 1);
    world.sent(1, &from_real(20, 5000), 0);
    world.movement();
    let pass = |world: &mut World, busy: bool| {
        for _ in 0..100 {
            world.sleep(1000);
            for _ in 0..4 {
                let now = world.now;
                world.pipeline.maintain(now);
            }
            if busy {
                world.sent(1, &from_real(20, 5000), 0);
            }
        }
    };
    // Idle for long with few packets, as those that are taken are: but a transfer is going on.
    pass(&mut world, true);
    assert_eq!(world.connections().len(), 2);
    assert!(!world.movement().contains_key("connections_dropped"));
    // It ends, and nothing keeps the control connection.
    world.sent(1, &from_real(20, 5000).flags(RST), 0);
    world.movement();
    pass(&mut world, false);
    assert_eq!(world.connections(), []);
    assert_eq!(world.movement()["connections_dropped"], 1);
}

#[test]
fn a_server_on_this_very_box_is_helped_like_any_other() {
    use crate::buffer::{Frame, PacketBuffer};
    use crate::pipeline::{FROM_STACK, Pass};

    let own = "10.0.2.1";
    let mut plan = plan();
    plan.services[0].reals[0].address = endpoint(&format!("{own}:21"));
    let mut first = world::World::of_workers(plan.clone(), WorkerId(0), 2);
    let mut second = first.beside(WorkerId(1));
    let mut redirected = 0;
    // Through whichever worker owns it: to the stack, and from the stack.
    let mut pass = |from: u16, packet: &PacketBuilder| {
        let mut frame = Frame::with_tailroom(&packet.build(), 64);
        frame.port = from;
        let mut verdict = first.process_marked(&mut frame, Pass::First);
        if verdict == Verdict::Redirect(WorkerId(1)) {
            redirected += 1;
            verdict = second.process_marked(&mut frame, Pass::Redirected);
        }
        (verdict, frame.data().to_vec())
    };
    let stack = |port: u16, to: u16| {
        let client = endpoint(&format!("{CLIENT}:{to}"));
        PacketBuilder::tcp(endpoint(&format!("{own}:{port}")), client)
            .link(port_mac(0), host_mac(client.ip()))
    };
    let shown = |port: u16, to: u16| from_vip(port, to).ttl(64);
    let inward = |(verdict, frame): (Verdict, Vec<u8>)| {
        assert_eq!(verdict, Verdict::Punt(PuntClass::Rest));
        assert_eq!(frame[30..34], [10, 0, 2, 1]);
        frame
    };
    for client in 40_000..40_016_u16 {
        let data = client + 10_000;
        inward(pass(0, &to_vip(client, 21).flags(SYN).sequence(100, 0)));
        let (verdict, frame) = pass(
            FROM_STACK,
            &stack(21, client).flags(SYN | ACK).sequence(200, 101),
        );
        assert_eq!(verdict, Verdict::Tx(PortId(0)));
        assert_eq!(
            frame,
            shown(21, client)
                .flags(SYN | ACK)
                .sequence(200, 101)
                .build()
        );
        inward(pass(
            0,
            &to_vip(client, 21).sequence(101, 201).payload("PASV\r\n"),
        ));
        // Passive: the address is replaced by one that is longer.
        let (high, low) = (data / 256, data % 256);
        let line = |host: &str| format!("227 ok ({host},{high},{low}).\r\n");
        let told = line("10,0,2,1");
        let answer = stack(21, client).sequence(201, 107).payload(told.clone());
        let (verdict, frame) = pass(FROM_STACK, &answer);
        assert_eq!(verdict, Verdict::Tx(PortId(0)));
        let wanted = line("10,0,1,150");
        let shift = (wanted.len() - told.len()) as u32;
        assert_eq!(shift, 2);
        let answer = shown(21, client).sequence(201, 107).payload(wanted.clone());
        assert_eq!(frame, answer.build());
        inward(pass(0, &to_vip(data, data).flags(SYN)));
        let (verdict, frame) = pass(FROM_STACK, &stack(data, data).flags(SYN | ACK));
        assert_eq!(verdict, Verdict::Tx(PortId(0)));
        assert_eq!(frame, shown(data, data).flags(SYN | ACK).build());
        // Active: the stack begins; what the client acknowledges is put right for it.
        let port = format!("PORT 10,0,1,100,{},{}\r\n", data / 256, data % 256);
        let end = 201 + wanted.len() as u32;
        let command = to_vip(client, 21).sequence(107, end).payload(port);
        let frame = inward(pass(0, &command));
        assert_eq!(frame[42..46], (end - shift).to_be_bytes());
        let (verdict, frame) = pass(FROM_STACK, &stack(20, data).flags(SYN));
        assert_eq!(verdict, Verdict::Tx(PortId(0)));
        assert_eq!(frame, shown(20, data).flags(SYN).build());
        inward(pass(0, &to_vip(data, 20).flags(SYN | ACK)));
    }
    // A third party is not let in here either.
    inward(pass(0, &to_vip(41_000, 21).flags(SYN).sequence(100, 0)));
    let bounce = "PORT 10,0,1,77,0,22\r\n";
    inward(pass(
        0,
        &to_vip(41_000, 21).sequence(101, 201).payload(bounce),
    ));
    assert!(redirected > 0);
    let (first, second) = (first.movement(), second.movement());
    let sum = |name: &str| first.get(name).unwrap_or(&0) + second.get(name).unwrap_or(&0);
    assert_eq!((sum("ftp_expected"), sum("ftp_refused")), (32, 1));
    assert_eq!(sum("connections_created"), 3 * 16 + 1);
}
