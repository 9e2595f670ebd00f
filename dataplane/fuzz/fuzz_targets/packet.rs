//! Parses any bytes as a frame and does to it everything that forwarding does.
//!
//! The first byte chooses the VLAN tag the device took out, the second the MTU; the rest is the frame.

#![no_main]

use dataplane::address::{Address, Endpoint, Family};
use dataplane::buffer::{Frame, PacketBuffer};
use dataplane::connection::Direction;
use dataplane::packet::builder::verify;
use dataplane::packet::fragment::fragment_ipv4;
use dataplane::packet::icmp_error::{self, IcmpError};
use dataplane::packet::ipv6::ROUTING;
use dataplane::packet::piece;
use dataplane::packet::quoted::{self, Quoted};
use dataplane::packet::rewrite::{
    decrement_ttl, push_vlan, set_link, strip_vlan, translate_destination, translate_source,
};
use dataplane::packet::vlan::Tag;
use dataplane::packet::{Headers, MacAddress, Offloads, Parsed, parse, punt_class, sctp};
use libfuzzer_sys::fuzz_target;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

fuzz_target!(|input: &[u8]| {
    let &[tag, mtu, ref frame @ ..] = input else {
        return;
    };
    let offloads = Offloads {
        vlan: (tag != 0).then_some(u16::from(tag)),
        ipv4_checksum_good: false,
    };
    let Ok(parsed) = parse(frame, offloads) else {
        return;
    };
    let _ = punt_class(frame, &parsed);
    let Parsed::Ip(headers) = parsed else {
        return;
    };
    assert!(headers.l3 < headers.l4 && headers.l4 <= headers.end);
    assert!(usize::from(headers.end) <= frame.len());
    let _ = sctp::is_checksum_good(headers.transport(frame));
    for fragment in [false, true] {
        if let Some((first, _)) = sctp::first_chunks(headers.transport(frame), fragment) {
            assert!(usize::from(first.length) >= sctp::CHUNK_LEN);
        }
    }
    translate(frame, &headers);
    answer(frame, &headers);
    retag(frame, &headers);
    requote::<Ipv4Addr>(frame, &headers, Ipv4Addr::new(10, 0, 2, 11));
    requote::<Ipv6Addr>(frame, &headers, Ipv6Addr::LOCALHOST);
    let _ = piece::read::<Ipv4Addr>(frame, &headers);
    let _ = piece::read::<Ipv6Addr>(frame, &headers);
    let mut packet = Frame::from_bytes(frame);
    let buffer = || Some(Frame::with_tailroom(&[], usize::from(u16::MAX)));
    let _ = fragment_ipv4(
        &mut packet,
        &headers,
        u16::from(mtu) * 8,
        buffer,
        |fragment| {
            let _ = parse(fragment.data(), offloads);
        },
    );
});

/// A frame that verifies still does after translation, and translation leaves it parseable.
fn translate(frame: &[u8], headers: &Headers) {
    let right = verify(frame).is_ok();
    let mut frame = frame.to_vec();
    set_link(&mut frame, MacAddress::BROADCAST, MacAddress::ZERO);
    decrement_ttl(&mut frame, headers);
    let done = match headers.family {
        Family::V4 => {
            let to = Endpoint::new(Ipv4Addr::new(10, 0, 2, 11), 8080);
            translate_destination(&mut frame, headers, to)
                .and_then(|()| translate_source(&mut frame, headers, to))
        }
        Family::V6 => {
            let to = Endpoint::new(Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 11), 8080);
            translate_destination(&mut frame, headers, to)
                .and_then(|()| translate_source(&mut frame, headers, to))
        }
    };
    // Behind a routing header with stops left is a checksum that covers another address.
    if right && done.is_ok() && headers.protocol != ROUTING {
        assert_eq!(verify(&frame), Ok(()));
    }
}

/// An ICMP error about any packet is itself a right packet.
fn answer(frame: &[u8], headers: &Headers) {
    let source = match headers.family {
        Family::V4 => IpAddr::V4(Ipv4Addr::new(10, 0, 1, 50)),
        Family::V6 => IpAddr::V6(Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 50)),
    };
    let mut packet = Frame::from_bytes(frame);
    if icmp_error::build(&mut packet, headers, IcmpError::HostUnreachable, source, 1).is_ok() {
        assert_eq!(verify(packet.data()), Ok(()));
    }
}

/// An ICMP error that verifies still does after the packet it quotes was translated.
fn requote<A: Address>(frame: &[u8], headers: &Headers, address: A) {
    let Some(quoted) = Quoted::<A>::read(frame, headers) else {
        return;
    };
    if !quoted::is_related(frame, headers) {
        return;
    }
    let right = verify(frame).is_ok();
    for direction in [Direction::Input, Direction::Output] {
        let mut frame = frame.to_vec();
        let to = Endpoint::new(address, 8080);
        let done = quoted::translate(&mut frame, headers, &quoted, direction, to);
        if right && done.is_ok() {
            assert_eq!(verify(&frame), Ok(()));
        }
    }
}

/// A pushed tag comes off again and leaves the frame as it was.
fn retag(frame: &[u8], headers: &Headers) {
    let mut packet = Frame::from_bytes(frame);
    let mut moved = *headers;
    if push_vlan(&mut packet, &mut moved, Tag::new(100)) {
        assert_eq!(strip_vlan(&mut packet, &mut moved), Some(Tag::new(100)));
    }
    assert_eq!(packet.data(), frame);
}
