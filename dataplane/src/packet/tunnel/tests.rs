use super::*;
use crate::buffer::Frame;
use crate::packet::builder::{PacketBuilder, verify};
use crate::packet::headers::tests::frames;
use crate::packet::{Offloads, Parsed, parse};
use proptest::prelude::*;

fn headers(frame: &[u8]) -> Headers {
    match parse(frame, Offloads::default()) {
        Ok(Parsed::Ip(headers)) => headers,
        other => panic!("{other:?}"),
    }
}

fn bytes(hex: &str) -> Vec<u8> {
    let digits: Vec<u8> = hex.bytes().filter(u8::is_ascii_hexdigit).collect();
    let pairs = digits
        .chunks(2)
        .map(|pair| std::str::from_utf8(pair).unwrap());
    pairs
        .map(|pair| u8::from_str_radix(pair, 16).unwrap())
        .collect()
}

const IPIP: Tunnel = Tunnel {
    kind: TunnelKind::Ipip,
    checksum: false,
};
const GRE_PLAIN: Tunnel = Tunnel {
    kind: TunnelKind::Gre,
    checksum: false,
};
const GRE_SUM: Tunnel = Tunnel {
    kind: TunnelKind::Gre,
    checksum: true,
};
const GUE: Tunnel = Tunnel {
    kind: TunnelKind::Gue(6080),
    checksum: false,
};
const GUE_SUM: Tunnel = Tunnel {
    kind: TunnelKind::Gue(6080),
    checksum: true,
};
const ALL: [Tunnel; 5] = [IPIP, GRE_PLAIN, GRE_SUM, GUE, GUE_SUM];

fn outer(tunnel: Tunnel, family: Family) -> Outer {
    let (source, destination) = match family {
        Family::V4 => ("10.0.2.1", "10.0.2.12"),
        Family::V6 => ("fd00:2::1", "fd00:2::12"),
    };
    Outer {
        tunnel,
        source: source.parse().unwrap(),
        destination: destination.parse().unwrap(),
        source_port: 43002,
        copy_dont_fragment: true,
        id: 0x1234,
    }
}

fn wrapped(frame: &[u8], outer: &Outer) -> Vec<u8> {
    let mut packet = Frame::from_bytes(frame);
    let told = encapsulate(&mut packet, &headers(frame), outer).unwrap();
    assert_eq!(verify(packet.data()), Ok(()), "{outer:?}");
    let Headers {
        source_port: _,
        destination_port: _,
        ..
    } = told;
    let seen = headers(packet.data());
    let same = Headers {
        source_port: 0,
        destination_port: 0,
        ..seen
    };
    assert_eq!(told, same);
    packet.data().to_vec()
}

#[test]
fn a_checksum_of_zero_is_sent_as_the_kernel_sends_it() {
    // GRE of an inner IPv6 packet, met in the comparison with the kernel: 16 bits decide.
    let outer = outer(GRE_SUM, Family::V4);
    let mut frame = PacketBuilder::udp(
        "[fd00:1::100]:4000".parse().unwrap(),
        "[fd00:1::50]:99".parse().unwrap(),
    )
    .payload([0; 18])
    .build();
    let at = 14 + ipv4::LEN + GRE_LEN;
    let checksum: [u8; 2] = wrapped(&frame, &outer)[at..at + 2].try_into().unwrap();
    let last = frame.len() - 2;
    assert_eq!(frame[last..], [0, 0]);
    frame[last..].copy_from_slice(&checksum);
    // Its own transport checksum is wrong now, and nobody's concern here.
    let mut packet = Frame::from_bytes(&frame);
    encapsulate(&mut packet, &headers(&frame), &outer).unwrap();
    assert_eq!(packet.data()[at..at + 4], [0xff, 0xff, 0, 0]);
}

/// The five packets recorded of a kernel director, from the outer IP header on (spec 2.4), with the
/// source port it hashed.
#[test]
fn the_recorded_packets_of_a_kernel_come_out_byte_for_byte() {
    let recorded = [
        (
            IPIP,
            0,
            "45b9 003e 0000 4000 2004 41f7 0a00 0201 0a00 020c 45b9 002a d1be 4000 2011 71b6 \
             0a00 0164 0a00 0132 c8bb 0063 0016 7b00 7475 6e6e 656c 2d70 6179 6c6f 6164",
        ),
        (
            GUE,
            43002,
            "45b9 004a 0000 4000 2011 41de 0a00 0201 0a00 020c a7fa 17c0 0036 0000 0004 0000 \
             45b9 002a d3d6 4000 2011 6f9e 0a00 0164 0a00 0132 b6ca 0063 0016 8cf1 7475 6e6e \
             656c 2d70 6179 6c6f 6164",
        ),
        (
            GUE_SUM,
            40273,
            "45b9 004a 0000 4000 2011 41de 0a00 0201 0a00 020c 9d51 17c0 0036 491d 0004 0000 \
             45b9 002a d635 4000 2011 6d3f 0a00 0164 0a00 0132 c071 0063 0016 834a 7475 6e6e \
             656c 2d70 6179 6c6f 6164",
        ),
        (
            GRE_PLAIN,
            0,
            "45b9 0042 0000 4000 202f 41c8 0a00 0201 0a00 020c 0000 0800 45b9 002a d771 4000 \
             2011 6c03 0a00 0164 0a00 0132 b40d 0063 0016 8fae 7475 6e6e 656c 2d70 6179 6c6f 6164",
        ),
        (
            GRE_SUM,
            0,
            "45b9 0046 0000 4000 202f 41c4 0a00 0201 0a00 020c 8000 0800 8ebc 0000 45b9 002a \
             d9e7 4000 2011 698d 0a00 0164 0a00 0132 d8bb 0063 0016 6b00 7475 6e6e 656c 2d70 \
             6179 6c6f 6164",
        ),
    ];
    for (tunnel, source_port, packet) in recorded {
        let packet = bytes(packet);
        let added = usize::from(overhead(tunnel, Family::V4));
        let link = [2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 8, 0];
        let inner = [&link, &packet[added..]].concat();
        let outer = Outer {
            source_port,
            ..outer(tunnel, Family::V4)
        };
        assert_eq!(wrapped(&inner, &outer), [&link, &packet[..]].concat());
    }
}

#[test]
fn both_families_travel_in_both_and_the_overhead_is_what_is_said() {
    let v4 = PacketBuilder::udp(
        "10.0.1.100:4000".parse().unwrap(),
        "10.0.1.50:99".parse().unwrap(),
    );
    let v6 = PacketBuilder::udp(
        "[fd00:1::100]:4000".parse().unwrap(),
        "[fd00:1::50]:99".parse().unwrap(),
    );
    let lengths = [
        (Family::V4, [20, 24, 28, 32, 32]),
        (Family::V6, [40, 44, 48, 52, 52]),
    ];
    for (family, lengths) in lengths {
        for (tunnel, length) in ALL.into_iter().zip(lengths) {
            for (inner, protocol, ether_type) in [(&v4, 4, [8, 0]), (&v6, 41, [0x86, 0xdd])] {
                let frame = inner.clone().payload("some data").ttl(7).build();
                let sent = wrapped(&frame, &outer(tunnel, family));
                assert_eq!(overhead(tunnel, family), length);
                let length = usize::from(length);
                assert_eq!(sent[..12], frame[..12]);
                assert_eq!(
                    sent[14 + length..],
                    frame[14..],
                    "the inner packet as it was"
                );
                let at = match family {
                    Family::V4 => 34,
                    Family::V6 => 54,
                };
                let (next, ttl) = match family {
                    Family::V4 => (sent[23], sent[22]),
                    Family::V6 => (sent[20], sent[21]),
                };
                assert_eq!(ttl, 7);
                match tunnel.kind {
                    TunnelKind::Ipip => assert_eq!(next, protocol),
                    TunnelKind::Gre => {
                        assert_eq!((next, &sent[at + 2..at + 4]), (47, &ether_type[..]));
                    }
                    TunnelKind::Gue(_) => {
                        assert_eq!((next, &sent[at + 2..at + 4]), (17, &[0x17, 0xc0][..]));
                        assert_eq!(sent[at + 8..at + 12], [0, protocol, 0, 0]);
                        let summed = sent[at + 6..at + 8] != [0, 0];
                        assert_eq!(summed, tunnel.checksum);
                    }
                }
            }
        }
    }
}

#[test]
fn a_congestion_mark_leaves_as_capable_and_all_else_is_taken_over() {
    for family in [Family::V4, Family::V6] {
        for (tos, expected) in [(0, 0), (0xb9, 0xb9), (0x2e, 0x2e), (0xff, 0xfe), (3, 2)] {
            let client = "10.0.1.100:5".parse().unwrap();
            let frame = PacketBuilder::udp(client, client).tos(tos).build();
            let sent = wrapped(&frame, &outer(IPIP, family));
            let seen = match family {
                Family::V4 => sent[15],
                Family::V6 => sent[14] << 4 | sent[15] >> 4,
            };
            assert_eq!(seen, expected, "{tos:#x}");
            let client = "[fd00::1]:5".parse().unwrap();
            let frame = PacketBuilder::udp(client, client).tos(tos).build();
            let sent = wrapped(&frame, &outer(GRE_SUM, Family::V4));
            assert_eq!(sent[15], expected, "{tos:#x}");
        }
    }
}

#[test]
fn df_is_taken_over_only_if_asked_for_and_a_packet_without_it_has_an_id() {
    let client = "10.0.1.100:5".parse().unwrap();
    let v4 = |df| {
        let packet = PacketBuilder::udp(client, client);
        if df { packet.dont_fragment() } else { packet }.build()
    };
    let client = "[fd00::1]:5".parse().unwrap();
    let v6 = PacketBuilder::udp(client, client).build();
    let copied = outer(IPIP, Family::V4);
    let clear = Outer {
        copy_dont_fragment: false,
        ..copied
    };
    let with_id = [0x12, 0x34, 0, 0];
    assert_eq!(wrapped(&v4(true), &copied)[18..22], [0, 0, 0x40, 0]);
    assert_eq!(wrapped(&v4(true), &clear)[18..22], with_id);
    assert_eq!(wrapped(&v4(false), &copied)[18..22], with_id);
    assert_eq!(wrapped(&v6, &copied)[18..22], with_id);
}

#[test]
fn source_ports_are_ephemeral_and_spread() {
    assert_eq!(source_port(0), 32_768);
    assert_eq!(source_port(u32::MAX), 60_998);
    assert!((46_000..47_500).contains(&source_port(1 << 31)));
}

#[test]
fn vlan_tags_stay_in_front() {
    let client = "10.0.1.100:5".parse().unwrap();
    let frame = PacketBuilder::udp(client, client).vlan(9).build();
    let sent = wrapped(&frame, &outer(IPIP, Family::V6));
    assert_eq!(sent[..16], frame[..16]);
    assert_eq!(sent[16..18], [0x86, 0xdd]);
}

#[test]
fn what_does_not_fit_changes_nothing() {
    let client = "10.0.1.100:5".parse().unwrap();
    let frame = PacketBuilder::udp(client, client).build();
    let headers = headers(&frame);
    let mut full = Frame::from_bytes(&frame);
    assert!(full.prepend(Frame::HEADROOM - 19));
    full.data_mut().copy_within(Frame::HEADROOM - 19.., 0);
    full.truncate(frame.len());
    let outer = outer(IPIP, Family::V4);
    let result = encapsulate(&mut full, &headers, &outer);
    assert_eq!(
        (result, full.data()),
        (Err(DropReason::NoBuffer), &frame[..])
    );

    let mut packet = Frame::from_bytes(&frame);
    let mixed = Outer {
        source: "fd00::1".parse().unwrap(),
        ..outer
    };
    let result = encapsulate(&mut packet, &headers, &mixed);
    assert_eq!(
        (result, packet.data()),
        (Err(DropReason::TransportHeader), &frame[..])
    );
    let foreign = Headers { end: 20, ..headers };
    let result = encapsulate(&mut packet, &foreign, &outer);
    assert_eq!(
        (result, packet.data()),
        (Err(DropReason::TransportHeader), &frame[..])
    );
}

proptest! {
    #[test]
    fn any_packet_in_any_tunnel_is_right_and_whole(
        frame in frames(),
        tunnel in prop::sample::select(ALL.to_vec()),
        v6 in any::<bool>(),
    ) {
        let family = if v6 { Family::V6 } else { Family::V4 };
        let l3 = usize::from(headers(&frame).l3);
        let end = usize::from(headers(&frame).end);
        let sent = wrapped(&frame[..end], &outer(tunnel, family));
        let at = l3 + usize::from(overhead(tunnel, family));
        prop_assert_eq!(&sent[at..], &frame[l3..end]);
    }
}
