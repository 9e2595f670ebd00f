//! Connections as a kernel director lists them (t4): FTP, quiesced and removed servers.

use super::*;

#[test]
fn ftp_connections_are_listed_as_captured() {
    let plan = service(Protocol::Tcp, 21, Forward::Nat, "10.0.2.11:21");
    let mut world = World::new(Plan::new(vec![plan]));
    let to_vip = |from: u16, port: u16| {
        PacketBuilder::tcp(end(CLIENT, from), end(VIP, port))
            .link(host_mac(ip(CLIENT)), port_mac(0))
    };
    let from_server = |port: u16, to: u16| {
        PacketBuilder::tcp(end(SERVER, port), end(CLIENT, to))
            .link(host_mac(ip(SERVER)), port_mac(1))
    };
    world.sent(0, &to_vip(57412, 21).flags(SYN).sequence(100, 0), 1);
    world.sent(
        1,
        &from_server(21, 57412).flags(SYN | ACK).sequence(200, 101),
        0,
    );
    let control = to_vip(57412, 21).sequence(101, 201);
    world.sent(0, &control.clone().payload("PASV\r\n"), 1);
    let told = "227 Entering Passive Mode (10,0,2,11,153,23).\r\n";
    let answer = from_server(21, 57412).sequence(201, 107).payload(told);
    let sent = world.sent(1, &answer, 0);
    assert_eq!(
        sent[54..],
        b"227 Entering Passive Mode (10,0,1,50,153,23).\r\n"[..]
    );
    let known = "TCP 15:00 ESTABLISHED 10.0.1.100:57412 10.0.1.50:21 10.0.2.11:21";
    let listening = "TCP 02:00 LISTEN 10.0.1.100:0 10.0.1.50:39191 10.0.2.11:39191";
    assert_eq!(listing(&mut world), [listening, known]);
    // The transfer; the server ends it.
    world.sent(0, &to_vip(38854, 39191).flags(SYN), 1);
    world.sent(1, &from_server(39191, 38854).flags(SYN | ACK), 0);
    world.sent(0, &to_vip(38854, 39191), 1);
    world.sent(1, &from_server(39191, 38854).flags(FIN | ACK), 0);
    let ended = "TCP 02:00 FIN_WAIT 10.0.1.100:38854 10.0.1.50:39191 10.0.2.11:39191";
    assert_eq!(listing(&mut world), [ended, known]);
    world.sent(0, &to_vip(38854, 39191).flags(FIN | ACK), 1);
    let over = "TCP 02:00 TIME_WAIT 10.0.1.100:38854 10.0.1.50:39191 10.0.2.11:39191";
    assert_eq!(listing(&mut world), [over, known]);
    // EPSV: the port is kept.
    world.sent(
        0,
        &to_vip(57412, 21).sequence(107, 247).payload("EPSV\r\n"),
        1,
    );
    let told = "229 Entering Extended Passive Mode (|||38903|)\r\n";
    let sent = world.sent(
        1,
        &from_server(21, 57412).sequence(248, 113).payload(told),
        0,
    );
    assert_eq!(sent[54..], *told.as_bytes());
    let listening = "TCP 02:00 LISTEN 10.0.1.100:0 10.0.1.50:38903 10.0.2.11:38903";
    assert_eq!(listing(&mut world), [listening, over, known]);
    // Active: from port 20 of the VIP.
    let sequence = 248 + told.len() as u32 - 1;
    let port = "PORT 10,0,1,100,215,11\r\n";
    world.sent(
        0,
        &to_vip(57412, 21).sequence(113, sequence).payload(port),
        1,
    );
    let sent = world.sent(1, &from_server(20, 55051).flags(SYN), 0);
    assert_eq!(sent[26..36], [10, 0, 1, 50, 10, 0, 1, 100, 0, 20]);
    world.sent(0, &to_vip(55051, 20).flags(SYN | ACK), 1);
    world.sent(1, &from_server(20, 55051), 0);
    world.sent(1, &from_server(20, 55051).flags(FIN | ACK), 0);
    let active = "TCP 02:00 FIN_WAIT 10.0.1.100:55051 10.0.1.50:20 10.0.2.11:20";
    assert_eq!(listing(&mut world), [active, listening, over, known]);
    world.movement();
}

#[test]
fn a_persistent_client_of_a_quiesced_and_removed_server_sees_what_was_captured() {
    let mut plan = service(Protocol::Tcp, 80, Forward::Nat, "10.0.2.12:8080");
    // In the order that makes .11 the first choice, as in the recording.
    plan.reals.push(RealPlan::new("10.0.2.11:8080"));
    plan.persistence = Some(Persistence::new(60_000));
    let mut plan = Plan::new(vec![plan]);
    plan.orphans = Orphans::Silent;
    let mut world = World::new(plan);
    let packet = |from: u16, flags: u8| {
        PacketBuilder::tcp(end(CLIENT, from), end(VIP, 80))
            .link(host_mac(ip(CLIENT)), port_mac(0))
            .flags(flags)
    };
    let connect = |world: &mut World, from: u16| {
        let server = server_of(&world.sent(0, &packet(from, SYN), 1));
        world.sent(0, &packet(from, ACK), 1);
        server
    };
    assert_eq!(connect(&mut world, 35996), 11);
    world.edit(|plan| plan.services[0].reals[1].weight = 0);
    assert_eq!(connect(&mut world, 36002), 11);
    world.edit(|plan| plan.ipvs.expire_quiescent_template = true);
    assert_eq!(connect(&mut world, 36014), 12);
    let rest = [
        "TCP 01:00 ASSURED 10.0.1.100:0 10.0.1.50:65535 10.0.2.11:65535",
        "TCP 01:00 ASSURED 10.0.1.100:0 10.0.1.50:80 10.0.2.12:8080",
        "TCP 15:00 ESTABLISHED 10.0.1.100:35996 10.0.1.50:80 10.0.2.11:8080",
        "TCP 15:00 ESTABLISHED 10.0.1.100:36002 10.0.1.50:80 10.0.2.11:8080",
        "TCP 15:00 ESTABLISHED 10.0.1.100:36014 10.0.1.50:80 10.0.2.12:8080",
    ];
    assert_eq!(listing(&mut world), rest);
    // An existing connection to the server of weight 0 still works.
    let hello = packet(35996, PSH | ACK).payload("hello");
    assert_eq!(server_of(&world.sent(0, &hello, 1)), 11);
    world.movement();
    // It is deleted: silence.
    world.edit(|plan| {
        plan.services[0].reals.pop();
    });
    world.dropped(0, &hello, DropReason::ServerGone);
    assert_eq!(world.connections().len(), 5);
    world.moved(&["drop.server_gone 1"]);
    // With expire_nodest_conn the connection ends at once, and the stack resets it.
    world.edit(|plan| {
        plan.orphans = Orphans::Reschedule;
        plan.ipvs.expire_nodest_conn = true;
    });
    assert_eq!(world.verdict(0, &hello), Verdict::Punt(PuntClass::Rest));
    assert_eq!(world.connections().len(), 4);
    world.movement();
}
