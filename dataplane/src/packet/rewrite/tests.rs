use super::*;
use crate::buffer::Frame;
use crate::packet::builder::{PacketBuilder, verify};
use crate::packet::headers::tests::frames;
use crate::packet::{Offloads, Parsed, parse};
use proptest::prelude::*;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

fn headers(frame: &[u8]) -> Headers {
    match parse(frame, Offloads::default()) {
        Ok(Parsed::Ip(headers)) => headers,
        other => panic!("{other:?}"),
    }
}

fn address(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

fn udp4() -> PacketBuilder {
    PacketBuilder::udp(address("10.0.1.100:1234"), address("10.0.1.50:53"))
}

fn real4() -> Endpoint<Ipv4Addr> {
    Endpoint::new(Ipv4Addr::new(10, 0, 2, 11), 8080)
}

fn real6() -> Endpoint<Ipv6Addr> {
    Endpoint::new("fd00::11".parse().unwrap(), 8080)
}

/// Translates with whichever of the endpoints is of the packet's family.
fn translate_any(
    frame: &mut [u8],
    headers: &Headers,
    side: Side,
    v4: Endpoint<Ipv4Addr>,
    v6: Endpoint<Ipv6Addr>,
) {
    match headers.family {
        Family::V4 => translate(frame, headers, side, v4),
        Family::V6 => translate(frame, headers, side, v6),
    }
    .unwrap();
}

#[test]
fn nat_turns_the_recorded_datagram_into_the_recorded_one() {
    // What the client sent and what the real server got, but for the payload.
    let build = |destination| {
        PacketBuilder::udp(address("10.0.1.100:57301"), address(destination))
            .id(53361)
            .dont_fragment()
            .payload("hello")
    };
    let mut frame = build("10.0.1.50:53").build();
    let headers = headers(&frame);
    translate_destination(
        &mut frame,
        &headers,
        Endpoint::new(Ipv4Addr::new(10, 0, 2, 11), 53),
    )
    .unwrap();
    decrement_ttl(&mut frame, &headers);
    assert_eq!(frame, build("10.0.2.11:53").ttl(63).build());
}

#[test]
fn the_link_addresses_are_set_and_nothing_else() {
    let mut frame = udp4().build();
    let (source, destination) = (
        MacAddress([2, 1, 1, 1, 1, 1]),
        MacAddress([2, 2, 2, 2, 2, 2]),
    );
    set_link(&mut frame, destination, source);
    assert_eq!(frame, udp4().link(source, destination).build());
    set_link(&mut [0; 11], destination, source);
}

#[test]
fn the_ttl_never_goes_below_zero() {
    for (source, destination) in [("10.0.0.1:1", "10.0.0.2:2"), ("[fd00::1]:1", "[fd00::2]:2")] {
        let build = |ttl| {
            PacketBuilder::udp(address(source), address(destination))
                .ttl(ttl)
                .build()
        };
        let mut frame = build(1);
        let headers = headers(&frame);
        decrement_ttl(&mut frame, &headers);
        assert_eq!(frame, build(0));
        decrement_ttl(&mut frame, &headers);
        assert_eq!(frame, build(0));
    }
}

#[test]
fn udp_without_a_checksum_stays_without() {
    let mut frame = udp4().no_checksum().payload("x").build();
    let headers = headers(&frame);
    translate_destination(&mut frame, &headers, real4()).unwrap();
    assert_eq!(frame[40..42], [0, 0]);
    assert_eq!(verify(&frame), Ok(()));
}

#[test]
fn a_checksum_that_comes_to_zero_is_sent_as_ffff() {
    // Choose the port that makes the checksum zero.
    let mut frame = udp4().build();
    let headers = headers(&frame);
    let checksum = u16::from_be_bytes([frame[40], frame[41]]);
    let port = (u32::from(checksum) + 53) % 0xffff;
    let same = Ipv4Addr::new(10, 0, 1, 50);
    translate_destination(&mut frame, &headers, Endpoint::new(same, port as u16)).unwrap();
    assert_eq!(frame[40..42], [0xff, 0xff]);
    assert_eq!(verify(&frame), Ok(()));
    translate_destination(&mut frame, &headers, Endpoint::new(same, 53)).unwrap();
    assert_eq!(frame, udp4().build());
}

#[test]
fn later_fragments_get_only_addresses() {
    let build = |destination| {
        PacketBuilder::udp(address("10.0.1.100:1"), address(destination))
            .payload([7; 64])
            .fragment(9, false)
            .build()
    };
    let mut frame = build("10.0.1.50:2");
    let headers = headers(&frame);
    translate_destination(&mut frame, &headers, real4()).unwrap();
    assert_eq!(frame, build("10.0.2.11:2"));
}

#[test]
fn a_fragmented_sctp_packet_keeps_its_port_or_is_refused() {
    let build = |destination| {
        PacketBuilder::sctp(address("10.0.1.100:1"), address(destination))
            .payload([7; 64])
            .fragment(0, true)
            .build()
    };
    let before = build("10.0.1.50:2905");
    let headers = headers(&before);
    let mut frame = before.clone();
    let refused = translate_destination(&mut frame, &headers, real4());
    assert_eq!(refused, Err(DropReason::Fragment));
    assert_eq!(frame, before);
    let same_port = Endpoint::new(real4().address, 2905);
    translate_destination(&mut frame, &headers, same_port).unwrap();
    assert_eq!(frame, build("10.0.2.11:2905"));
}

#[test]
fn headers_that_do_not_fit_change_nothing() {
    let frame = udp4().build();
    let good = headers(&frame);
    let bad = [
        Headers { l3: 60, ..good },
        Headers { end: 400, ..good },
        Headers { l4: 13, ..good },
        Headers { l4: 40, ..good },
        Headers {
            family: Family::V6,
            ..good
        },
        Headers {
            l3: u16::MAX,
            l4: u16::MAX,
            end: u16::MAX,
            ..good
        },
    ];
    for headers in bad {
        let mut copy = frame.clone();
        let refused = Err(DropReason::TransportHeader);
        assert_eq!(translate_destination(&mut copy, &headers, real4()), refused);
        assert_eq!(copy, frame);
    }
    let mut copy = frame.clone();
    let refused = translate_source(&mut copy, &good, real6());
    assert_eq!(refused, Err(DropReason::TransportHeader));
    assert_eq!(copy, frame);
}

#[test]
fn tags_are_pushed_and_stripped_in_order() {
    let plain = udp4().payload("x").build();
    let mut packet = Frame::from_bytes(&plain);
    let mut at = headers(&plain);
    assert!(push_vlan(&mut packet, &mut at, Tag::new(8)));
    assert_eq!(packet.data(), udp4().payload("x").vlan(8).build());
    assert_eq!(at, headers(packet.data()));
    let service = Tag {
        tpid: vlan::SERVICE,
        priority: 3,
        ..Tag::new(7)
    };
    assert!(push_vlan(&mut packet, &mut at, service));
    assert_eq!(at, headers(packet.data()));

    assert_eq!(strip_vlan(&mut packet, &mut at), Some(service));
    assert_eq!(at, headers(packet.data()));
    assert_eq!(strip_vlan(&mut packet, &mut at), Some(Tag::new(8)));
    assert_eq!(strip_vlan(&mut packet, &mut at), None);
    assert_eq!((packet.data(), at), (plain.as_slice(), headers(&plain)));
}

#[test]
fn a_tag_that_the_device_took_out_is_put_back() {
    let tagged = udp4().vlan(8).build();
    let mut packet = Frame::from_bytes(&tagged);
    packet.vlan = Some(0x6007);
    let stripped = Offloads {
        vlan: packet.vlan,
        ..Offloads::default()
    };
    let Ok(Parsed::Ip(before)) = parse(&tagged, stripped) else {
        panic!("must parse");
    };
    let mut at = before;
    assert!(push_vlan(&mut packet, &mut at, Tag::new(7)));
    assert_eq!(packet.vlan, None);
    assert_eq!(packet.data(), udp4().vlan(7).vlan(8).build());
    assert_eq!(at, headers(packet.data()));

    // Without the outer tag the inner one goes, and the outer id stays.
    let mut packet = Frame::from_bytes(&tagged);
    packet.vlan = Some(0x6007);
    let mut at = before;
    assert_eq!(strip_vlan(&mut packet, &mut at), Some(Tag::new(8)));
    assert_eq!((at.vlan, at.inner_vlan, at.l3), (Some(7), None, 14));
}

proptest! {
    #[test]
    fn a_translated_frame_still_verifies_and_translates_back(
        before in frames(),
        v4 in any::<u32>().prop_map(Ipv4Addr::from),
        v6 in any::<u128>().prop_map(Ipv6Addr::from),
        port in any::<u16>(),
        source in any::<bool>(),
    ) {
        let headers = headers(&before);
        let side = if source { Side::Source } else { Side::Destination };
        let right = verify(&before).is_ok();
        let mut frame = before.clone();
        let (v4, v6) = (Endpoint::new(v4, port), Endpoint::new(v6, port));
        translate_any(&mut frame, &headers, side, v4, v6);
        prop_assert_eq!(verify(&frame).is_ok(), right, "{:?}", verify(&frame));

        // And the way back, from the endpoint as it was.
        fn old<A: Address>(headers: &Headers, frame: &[u8], side: Side) -> Endpoint<A> {
            let (source, destination) = (headers.source(frame), headers.destination(frame));
            match side {
                Side::Source => (source, headers.source_port),
                Side::Destination => (destination, headers.destination_port),
            }
            .into_endpoint()
        }
        let (v4, v6) = (old(&headers, &before, side), old(&headers, &before, side));
        translate_any(&mut frame, &headers, side, v4, v6);
        prop_assert_eq!(frame, before);
    }

    #[test]
    fn a_wrong_checksum_stays_wrong_by_as_much(
        before in frames(),
        flip in (any::<prop::sample::Index>(), 1u8..=255),
        port in any::<u16>(),
    ) {
        let headers = headers(&before);
        prop_assume!(verify(&before).is_ok() && headers.protocol != 1);
        let data = headers.l4 + match headers.protocol { 6 => 20, 17 => 8, 132 => 12, _ => 8 };
        prop_assume!(data < headers.end);
        let at = usize::from(data) + flip.0.index(usize::from(headers.end - data));
        let mut damaged = before.clone();
        damaged[at] ^= flip.1;
        prop_assume!(verify(&damaged).is_err());
        let (v4, v6) = (Endpoint::new(real4().address, port), Endpoint::new(real6().address, port));
        translate_any(&mut damaged, &headers, Side::Destination, v4, v6);
        prop_assert!(verify(&damaged).is_err());
        // Repairing the data repairs the packet: nothing was computed over the damage.
        damaged[at] ^= flip.1;
        prop_assert_eq!(verify(&damaged), Ok(()));
    }

    #[test]
    fn a_decremented_ttl_still_verifies(mut frame in frames()) {
        let right = verify(&frame).is_ok();
        let headers = headers(&frame);
        decrement_ttl(&mut frame, &headers);
        prop_assert_eq!(verify(&frame).is_ok(), right);
    }

    #[test]
    fn no_headers_make_rewriting_panic(
        mut frame in prop::collection::vec(any::<u8>(), 0..120),
        offsets in prop::array::uniform3(0u16..130),
        protocol in prop::sample::select(vec![1u8, 6, 17, 58, 132]),
        v6 in any::<bool>(),
    ) {
        let headers = Headers {
            family: if v6 { Family::V6 } else { Family::V4 },
            l3: offsets[0],
            l4: offsets[1],
            end: offsets[2],
            protocol,
            ..headers(&udp4().build())
        };
        decrement_ttl(&mut frame, &headers);
        let _ = translate_source(&mut frame, &headers, real4());
        let _ = translate_destination(&mut frame, &headers, real6());
    }
}

trait IntoEndpoint<A> {
    fn into_endpoint(self) -> Endpoint<A>;
}

impl<A: Address> IntoEndpoint<A> for (Option<A>, u16) {
    fn into_endpoint(self) -> Endpoint<A> {
        Endpoint::new(self.0.unwrap_or(A::UNSPECIFIED), self.1)
    }
}
