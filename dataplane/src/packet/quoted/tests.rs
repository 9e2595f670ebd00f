//! Quotes of every length, with options and extension headers, and translations compared with the
//! packets they must come to.

use super::*;
use crate::packet::builder::{PacketBuilder, verify};
use crate::packet::{Offloads, Parsed, parse};
use proptest::prelude::*;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

fn address(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

fn headers(frame: &[u8]) -> Headers {
    match parse(frame, Offloads::default()) {
        Ok(Parsed::Ip(headers)) => headers,
        other => panic!("{other:?}"),
    }
}

/// An unreachable error that quotes `length` bytes of the packet from its IP header on.
fn error(from: &str, to: &str, packet: &PacketBuilder, length: usize) -> Vec<u8> {
    let (from, to): (IpAddr, IpAddr) = (from.parse().unwrap(), to.parse().unwrap());
    let mut quote = packet.build().split_off(14);
    quote.truncate(length);
    let kind = if from.is_ipv4() { 3 } else { 1 };
    PacketBuilder::icmp(from, to, kind, 3)
        .payload(quote)
        .build()
}

const CLIENT: &str = "10.0.1.100:59974";
const VIP: &str = "10.0.1.50:54";
const SERVER: &str = "10.0.2.11:5454";

fn datagram(from: &str, to: &str) -> PacketBuilder {
    PacketBuilder::udp(address(from), address(to))
        .id(55217)
        .ttl(63)
        .dont_fragment()
        .payload("x")
}

#[test]
fn the_recorded_error_of_a_server_becomes_the_recorded_error_of_the_vip() {
    let mut frame = error("10.0.2.11", "10.0.1.100", &datagram(CLIENT, SERVER), 100);
    let old = headers(&frame);
    let quoted = Quoted::<Ipv4Addr>::read(&frame, &old).unwrap();
    assert_eq!(
        quoted.tuple.to_string(),
        "UDP 10.0.1.100:59974 > 10.0.2.11:5454"
    );
    let vip = Endpoint::new(Ipv4Addr::new(10, 0, 1, 50), 54);
    translate(&mut frame, &old, &quoted, Direction::Output, vip).unwrap();
    let wanted = error("10.0.1.50", "10.0.1.100", &datagram(CLIENT, VIP), 100);
    assert_eq!(frame, wanted);
}

#[test]
fn an_error_of_the_client_about_a_reply_becomes_one_about_what_the_server_sent() {
    for length in [28, 29, 40] {
        let mut frame = error("10.0.1.100", "10.0.1.50", &datagram(VIP, CLIENT), length);
        let old = headers(&frame);
        let quoted = Quoted::<Ipv4Addr>::read(&frame, &old).unwrap();
        let server = Endpoint::new(Ipv4Addr::new(10, 0, 2, 11), 5454);
        translate(&mut frame, &old, &quoted, Direction::Input, server).unwrap();
        let wanted = error("10.0.1.100", "10.0.2.11", &datagram(SERVER, CLIENT), length);
        assert_eq!(frame, wanted, "{length}");
    }
}

#[test]
fn eight_bytes_of_tcp_are_enough_and_fewer_than_the_ports_are_not() {
    let packet = PacketBuilder::tcp(address(CLIENT), address(SERVER));
    for length in 0..=40 {
        let frame = error("10.0.2.11", "10.0.1.100", &packet, length);
        let old = headers(&frame);
        let quoted = Quoted::<Ipv4Addr>::read(&frame, &old);
        assert_eq!(quoted.is_some(), length >= 24, "{length}");
        let Some(quoted) = quoted else { continue };
        let mut frame = frame;
        let vip = Endpoint::new(Ipv4Addr::new(10, 0, 1, 50), 54);
        translate(&mut frame, &old, &quoted, Direction::Output, vip).unwrap();
        assert_eq!(verify(&frame), Ok(()), "{length}");
        if length != 37 {
            // Half a checksum stays as it is.
            let packet = PacketBuilder::tcp(address(CLIENT), address(VIP));
            let wanted = error("10.0.1.50", "10.0.1.100", &packet, length);
            assert_eq!(frame, wanted, "{length}");
        }
    }
}

#[test]
fn options_and_extension_headers_of_the_quote_are_walked() {
    let packet = datagram(CLIENT, SERVER).ipv4_options(&[7, 7, 4, 0, 0, 0, 0]);
    let frame = error("10.0.2.11", "10.0.1.100", &packet, 100);
    let quoted = Quoted::<Ipv4Addr>::read(&frame, &headers(&frame)).unwrap();
    assert_eq!(quoted.tuple.destination.port, 5454);

    let (client, server) = ("[fd00:1::100]:37027", "[fd00:2::11]:5353");
    let packet = PacketBuilder::udp(address(client), address(server))
        .extension(ipv6::DESTINATION_OPTIONS, &[1, 4, 0, 0, 0, 0])
        .payload("x");
    let mut frame = error("fd00:2::11", "fd00:1::100", &packet, 200);
    let old = headers(&frame);
    let quoted = Quoted::<Ipv6Addr>::read(&frame, &old).unwrap();
    let vip = Endpoint::new("fd00:1::50".parse().unwrap(), 53);
    translate(&mut frame, &old, &quoted, Direction::Output, vip).unwrap();
    let packet = PacketBuilder::udp(address(client), address("[fd00:1::50]:53"))
        .extension(ipv6::DESTINATION_OPTIONS, &[1, 4, 0, 0, 0, 0])
        .payload("x");
    assert_eq!(frame, error("fd00:1::50", "fd00:1::100", &packet, 200));
}

#[test]
fn later_fragments_other_protocols_and_other_families_are_not_quoted_flows() {
    let read = |packet: &PacketBuilder| {
        let frame = error("10.0.2.11", "10.0.1.100", packet, 100);
        Quoted::<Ipv4Addr>::read(&frame, &headers(&frame))
    };
    assert!(read(&datagram(CLIENT, SERVER).payload([0; 16]).fragment(0, true)).is_some());
    assert!(read(&datagram(CLIENT, SERVER).payload([0; 16]).fragment(7, false)).is_none());
    let (a, b) = ("10.0.1.100".parse().unwrap(), "10.0.2.11".parse().unwrap());
    assert!(read(&PacketBuilder::icmp(a, b, 8, 0)).is_none());
    let frame = error("10.0.2.11", "10.0.1.100", &datagram(CLIENT, SERVER), 100);
    assert!(Quoted::<Ipv6Addr>::read(&frame, &headers(&frame)).is_none());
}

#[test]
fn only_the_errors_that_lvs_matches_are_related() {
    let related = |from: &str, to: &str, kind| {
        let (from, to) = (from.parse().unwrap(), to.parse().unwrap());
        let frame = PacketBuilder::icmp(from, to, kind, 0).build();
        is_related(&frame, &headers(&frame))
    };
    let v4: Vec<u8> = (0..=255)
        .filter(|kind| related("10.0.0.1", "10.0.0.2", *kind))
        .collect();
    assert_eq!(v4, [3, 4, 11]);
    assert!((0..=255).all(|kind| related("fd00::1", "fd00::2", kind) == (kind < 128)));
}

#[test]
fn a_damaged_error_is_noticed() {
    for (from, to, packet) in [
        ("10.0.2.11", "10.0.1.100", datagram(CLIENT, SERVER)),
        (
            "fd00:2::11",
            "fd00:1::100",
            PacketBuilder::udp(address("[fd00:1::100]:1"), address("[fd00:2::11]:2")),
        ),
    ] {
        let mut frame = error(from, to, &packet, 100);
        let headers = headers(&frame);
        assert!(checksum_is_good(&frame, &headers));
        let last = frame.len() - 1;
        frame[last] ^= 1;
        assert!(!checksum_is_good(&frame, &headers));
    }
}

proptest! {
    #[test]
    fn no_bytes_make_reading_or_translating_a_quote_panic(
        frame in prop::collection::vec(any::<u8>(), 0..160),
        offsets in prop::array::uniform3(0u16..170),
        v6 in any::<bool>(),
        output in any::<bool>(),
    ) {
        let fixed = error("10.0.2.11", "10.0.1.100", &datagram(CLIENT, SERVER), 100);
        let headers = Headers {
            family: if v6 { Family::V6 } else { Family::V4 },
            protocol: if v6 { ipv6::ICMPV6 } else { ipv4::ICMP },
            l3: offsets[0],
            l4: offsets[1],
            end: offsets[2],
            ..headers(&fixed)
        };
        let direction = if output { Direction::Output } else { Direction::Input };
        let mut frame = frame;
        let _ = checksum_is_good(&frame, &headers);
        if let Some(quoted) = Quoted::<Ipv4Addr>::read(&frame, &headers) {
            let to = Endpoint::new(Ipv4Addr::LOCALHOST, 1);
            let _ = translate(&mut frame, &headers, &quoted, direction, to);
        }
        if let Some(quoted) = Quoted::<Ipv6Addr>::read(&frame, &headers) {
            let to = Endpoint::new(Ipv6Addr::LOCALHOST, 1);
            let _ = translate(&mut frame, &headers, &quoted, direction, to);
        }
    }
}
