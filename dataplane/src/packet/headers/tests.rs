use super::*;
use crate::packet::builder::{PacketBuilder, verify};
use proptest::prelude::*;
use std::net::SocketAddr;

const SYN: [u8; 62] = [
    2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 0x08, 0x00, // Ethernet
    0x45, 0, 0, 48, 0x12, 0x34, 0x40, 0, 64, 6, 0x11, 0xff, 10, 0, 1, 100, 10, 0, 1,
    50, // IPv4
    0xe9, 0x0e, 0, 80, 0, 0, 0, 1, 0, 0, 0, 0, 0x70, 0x02, 0xfa, 0xf0, 0, 0, 0, 0, // TCP
    2, 4, 5, 0xb4, 1, 1, 4, 2, // TCP options
];

fn plain(frame: &[u8]) -> Result<Parsed, DropReason> {
    parse(frame, Offloads::default())
}

fn ip(frame: &[u8]) -> Headers {
    match plain(frame) {
        Ok(Parsed::Ip(headers)) => headers,
        other => panic!("{other:?}"),
    }
}

fn address(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

fn tcp4() -> PacketBuilder {
    PacketBuilder::tcp(address("10.0.1.100:1234"), address("10.0.1.50:80"))
}

fn udp4() -> PacketBuilder {
    PacketBuilder::udp(address("10.0.1.100:1234"), address("10.0.1.50:53"))
}

fn tcp6() -> PacketBuilder {
    PacketBuilder::tcp(address("[2001:db8::1]:1234"), address("[2001:db8::2]:80"))
}

fn udp6() -> PacketBuilder {
    PacketBuilder::udp(address("[2001:db8::1]:1234"), address("[2001:db8::2]:53"))
}

/// Changes one byte of the IPv4 header and makes its checksum right again.
fn with_ipv4(mut frame: Vec<u8>, at: usize, value: u8) -> Vec<u8> {
    frame[14 + at] = value;
    let header_length = (usize::from(frame[14] & 15) * 4).max(20);
    let end = (14 + header_length).min(frame.len());
    ipv4::fill_checksum(&mut frame[14..end]);
    frame
}

#[test]
fn a_syn_parses_from_literal_bytes() {
    assert_eq!(
        plain(&SYN),
        Ok(Parsed::Ip(Headers {
            family: Family::V4,
            fragment: Fragment::Whole,
            protocol: 6,
            tcp_flags: tcp::SYN,
            ttl: 64,
            dont_fragment: true,
            l3: 14,
            l4: 34,
            end: 62,
            vlan: None,
            inner_vlan: None,
            source_port: 59662,
            destination_port: 80,
        }))
    );
    let headers = ip(&SYN);
    assert_eq!(headers.ip_length(), 48);
    let tuple = headers.five_tuple::<Ipv4Addr>(&SYN).unwrap();
    assert_eq!(tuple.to_string(), "TCP 10.0.1.100:59662 > 10.0.1.50:80");
    assert_eq!(headers.five_tuple::<Ipv6Addr>(&SYN), None);
    assert_eq!(headers.transport(&SYN).len(), 28);
}

#[test]
fn headers_stay_compact() {
    assert!(size_of::<Headers>() <= 24);
}

#[test]
fn ethernet_padding_lies_behind_the_end() {
    let frame = udp4().payload("x").padding(17).build();
    assert_eq!(frame.len(), 60);
    let headers = ip(&frame);
    assert_eq!((headers.end, headers.ip_length()), (43, 29));
}

#[test]
fn vlan_tags_are_read_from_the_frame_and_from_the_device() {
    let headers = ip(&udp4().vlan(100).build());
    assert_eq!((headers.vlan, headers.inner_vlan), (Some(100), None));
    assert_eq!((headers.l3, headers.l4), (18, 38));

    let service = vlan::Tag {
        tpid: vlan::SERVICE,
        ..vlan::Tag::new(7)
    };
    let headers = ip(&udp6().tag(service).vlan(8).build());
    assert_eq!((headers.vlan, headers.inner_vlan), (Some(7), Some(8)));
    assert_eq!(headers.l3, 22);

    // The device reports the whole tag control word; priority is not part of the id.
    let stripped = Offloads {
        vlan: Some(0xe005),
        ..Offloads::default()
    };
    let Ok(Parsed::Ip(headers)) = parse(&udp4().vlan(6).build(), stripped) else {
        panic!("must parse");
    };
    assert_eq!((headers.vlan, headers.inner_vlan), (Some(5), Some(6)));
    assert_eq!(headers.l3, 18);
    let three = udp4().vlan(1).vlan(2).build();
    assert_eq!(parse(&three, stripped), Err(DropReason::EtherType));
}

#[test]
fn a_priority_tag_names_no_vlan() {
    assert_eq!(ip(&udp4().vlan(0).build()).vlan, None);
    assert_eq!(ip(&udp4().vlan(0).vlan(9).build()).vlan, Some(9));
}

#[test]
fn three_tags_and_the_reserved_id_are_refused() {
    let three = udp4().vlan(1).vlan(2).vlan(3).build();
    assert_eq!(plain(&three), Err(DropReason::EtherType));
    assert_eq!(plain(&udp4().vlan(4095).build()), Err(DropReason::Vlan));
}

#[test]
fn arp_and_other_ether_types_are_told_apart() {
    let mut frame = vec![0xff; 14 + 4 + 28];
    frame[12..18].copy_from_slice(&[0x81, 0, 0, 5, 8, 6]);
    let arp = Parsed::Arp {
        l3: 18,
        vlan: Some(5),
    };
    assert_eq!(plain(&frame), Ok(arp));
    frame[12..14].copy_from_slice(&[0x88, 0xcc]);
    let lldp = Parsed::Other { ether_type: 0x88cc };
    assert_eq!(plain(&frame), Ok(lldp));
}

#[test]
fn frames_without_room_for_their_link_header_are_refused() {
    assert_eq!(plain(&[]), Err(DropReason::Frame));
    assert_eq!(plain(&SYN[..13]), Err(DropReason::Frame));
    assert_eq!(plain(&udp4().vlan(1).build()[..17]), Err(DropReason::Frame));
    assert_eq!(plain(&SYN[..14]), Err(DropReason::Ipv4Header));
}

#[test]
fn malformed_ipv4_headers_are_refused() {
    let frame = || tcp4().build();
    for (what, frame, reason) in [
        (
            "version 5",
            with_ipv4(frame(), 0, 0x55),
            DropReason::Ipv4Header,
        ),
        ("IHL 4", with_ipv4(frame(), 0, 0x44), DropReason::Ipv4Header),
        (
            "total below IHL",
            with_ipv4(frame(), 3, 19),
            DropReason::Ipv4Header,
        ),
        (
            "IHL beyond total",
            with_ipv4(frame(), 0, 0x4f),
            DropReason::Ipv4Header,
        ),
        (
            "total beyond frame",
            with_ipv4(frame(), 3, 41),
            DropReason::Truncated,
        ),
        (
            "half a header",
            frame()[..33].to_vec(),
            DropReason::Ipv4Header,
        ),
        ("cut", frame()[..50].to_vec(), DropReason::Truncated),
    ] {
        assert_eq!(plain(&frame), Err(reason), "{what}");
    }
}

#[test]
fn a_wrong_ipv4_checksum_is_refused_unless_the_device_vouches_for_it() {
    for options in [&[][..], &[0x94, 4, 0, 0]] {
        let mut frame = tcp4().ipv4_options(options).build();
        assert!(plain(&frame).is_ok());
        frame[14 + 4] ^= 1;
        assert_eq!(plain(&frame), Err(DropReason::Ipv4Checksum));
        let good = Offloads {
            ipv4_checksum_good: true,
            ..Offloads::default()
        };
        assert!(parse(&frame, good).is_ok());
    }
}

#[test]
fn ipv4_options_move_the_transport_header() {
    let headers = ip(&tcp4().ipv4_options(&[1; 40]).build());
    assert_eq!((headers.l4, headers.destination_port), (14 + 60, 80));
}

#[test]
fn martian_ipv4_addresses_are_refused() {
    let from_to = |source: &str, destination: &str| {
        let source = source.parse().unwrap();
        plain(&PacketBuilder::raw(source, destination.parse().unwrap(), 47).build()).map(|_| ())
    };
    let unicast = "10.0.0.1";
    for source in [
        "224.0.0.1",
        "255.255.255.255",
        "240.0.0.1",
        "127.0.0.1",
        "0.0.0.0",
        "0.1.2.3",
    ] {
        assert_eq!(
            from_to(source, unicast),
            Err(DropReason::MartianSource),
            "{source}"
        );
    }
    for destination in ["127.0.0.1", "0.0.0.0"] {
        let expected = Err(DropReason::MartianDestination);
        assert_eq!(from_to(unicast, destination), expected, "{destination}");
    }
    // DHCP and IGMP of hosts without an address.
    assert_eq!(from_to("0.0.0.0", "255.255.255.255"), Ok(()));
    assert_eq!(from_to("0.0.0.0", "224.0.0.22"), Ok(()));
    assert_eq!(
        from_to("127.0.0.1", "224.0.0.22"),
        Err(DropReason::MartianSource)
    );
}

#[test]
fn martian_ipv6_addresses_are_refused() {
    let from_to = |source: &str, destination: &str| {
        let source = source.parse().unwrap();
        plain(&PacketBuilder::raw(source, destination.parse().unwrap(), 47).build()).map(|_| ())
    };
    let unicast = "2001:db8::1";
    for source in ["::", "::1", "ff02::1", "::ffff:10.0.0.1"] {
        assert_eq!(
            from_to(source, unicast),
            Err(DropReason::MartianSource),
            "{source}"
        );
    }
    for destination in ["::", "::1", "ff00::1", "ff01::1"] {
        let expected = Err(DropReason::MartianDestination);
        assert_eq!(from_to(unicast, destination), expected, "{destination}");
    }
    assert_eq!(from_to(unicast, "ff02::12"), Ok(()));
}

#[test]
fn the_unspecified_address_may_send_discovery_but_no_echo() {
    let icmp = |kind| {
        let source = "::".parse().unwrap();
        plain(&PacketBuilder::icmp(source, "ff02::1:ff00:1".parse().unwrap(), kind, 0).build())
    };
    for kind in [133, 135, 143] {
        assert!(icmp(kind).is_ok(), "{kind}");
    }
    assert_eq!(icmp(128), Err(DropReason::MartianSource));
}

#[test]
fn malformed_transport_headers_are_refused() {
    const BAD: Result<Parsed, DropReason> = Err(DropReason::TransportHeader);
    let mut offset_4 = tcp4().build();
    offset_4[34 + 12] = 0x40;
    assert_eq!(plain(&offset_4), BAD);
    let mut offset_6 = tcp4().build();
    offset_6[34 + 12] = 0x60;
    assert_eq!(plain(&offset_6), BAD);
    for length in [0, 7, 13] {
        let mut frame = udp6().payload("abcd").build();
        frame[54 + 5] = length;
        assert_eq!(plain(&frame), BAD, "UDP length {length}");
    }
    // Data behind the UDP length is legal and not part of the datagram.
    let mut slack = udp4().payload("abcd").build();
    slack[34 + 5] = 10;
    assert!(plain(&slack).is_ok());
    let (v4, v6) = ("10.0.0.1".parse().unwrap(), "2001:db8::1".parse().unwrap());
    for (address, protocol, shortest) in [
        (v4, 6, 20),
        (v4, 17, 8),
        (v6, 132, 12),
        (v4, 1, 8),
        (v6, 58, 8),
    ] {
        let short = PacketBuilder::raw(address, address, protocol).payload(vec![0; shortest - 1]);
        assert_eq!(plain(&short.build()), BAD, "protocol {protocol}");
    }
    // Each family's ICMP is just data in the other.
    assert!(plain(&PacketBuilder::raw(v4, v4, 58).build()).is_ok());
    assert!(plain(&PacketBuilder::raw(v6, v6, 1).build()).is_ok());
}

#[test]
fn malformed_ipv6_headers_are_refused() {
    let mut version = tcp6().build();
    version[14] = 0x50;
    assert_eq!(plain(&version), Err(DropReason::Ipv6Header));
    let frame = tcp6().build();
    assert_eq!(plain(&frame[..53]), Err(DropReason::Ipv6Header));
    assert_eq!(plain(&frame[..frame.len() - 1]), Err(DropReason::Truncated));
    let mut jumbo = tcp6()
        .extension(ipv6::HOP_BY_HOP, &[0xc2, 4, 0, 1, 0, 0])
        .build();
    jumbo[18..20].copy_from_slice(&[0, 0]);
    assert_eq!(plain(&jumbo), Err(DropReason::Ipv6Header));
    let twice = tcp6().extension(60, &[]).extension(ipv6::HOP_BY_HOP, &[]);
    assert_eq!(plain(&twice.build()), Err(DropReason::Ipv6Extension));
}

#[test]
fn ipv6_extension_headers_move_the_transport_header() {
    let frame = tcp6()
        .extension(ipv6::HOP_BY_HOP, &[5, 2, 0, 0, 1, 0])
        .extension(ipv6::ROUTING, &[4, 0, 0, 0, 0, 0])
        .extension(ipv6::AUTHENTICATION, &[0; 10])
        .flags(tcp::SYN | tcp::ECE)
        .build();
    let headers = ip(&frame);
    assert_eq!((headers.protocol, headers.l4), (6, 14 + 40 + 8 + 8 + 12));
    assert_eq!(headers.tcp_flags, 0x42);
    let tuple = headers.five_tuple::<Ipv6Addr>(&frame).unwrap();
    assert_eq!(
        tuple.to_string(),
        "TCP [2001:db8::1]:1234 > [2001:db8::2]:80"
    );
}

#[test]
fn fragments_keep_ports_only_in_the_first() {
    let data = vec![1; 64];
    for (builder, l4, v4) in [(udp4(), 34, true), (udp6(), 62, false)] {
        let first = builder
            .clone()
            .payload(data.clone())
            .fragment(0, true)
            .build();
        let headers = ip(&first);
        assert_eq!(headers.fragment, Fragment::First);
        assert_eq!((headers.destination_port, headers.l4), (53, l4));
        assert_eq!(headers.five_tuple::<Ipv4Addr>(&first).is_some(), v4);

        let later = builder.payload(data.clone()).fragment(9, false).build();
        let headers = ip(&later);
        assert_eq!(headers.fragment, Fragment::Later);
        assert_eq!((headers.protocol, headers.destination_port), (17, 0));
        assert_eq!(headers.five_tuple::<Ipv4Addr>(&later), None);
        assert_eq!(headers.five_tuple::<Ipv6Addr>(&later), None);
    }
}

#[test]
fn the_length_of_a_fragmented_udp_datagram_exceeds_its_first_fragment() {
    let mut frame = udp4().payload(vec![1; 64]).fragment(0, true).build();
    frame[34 + 4..34 + 6].copy_from_slice(&4008u16.to_be_bytes());
    assert_eq!(ip(&frame).fragment, Fragment::First);
}

#[test]
fn an_atomic_ipv6_fragment_is_whole() {
    let headers = ip(&udp6().fragment(0, false).build());
    assert_eq!((headers.fragment, headers.l4), (Fragment::Whole, 62));
}

#[test]
fn fragments_that_only_attack_are_refused() {
    let death = udp4().payload(vec![0; 64]).fragment(8190, false).build();
    assert_eq!(plain(&death), Err(DropReason::FragmentMalformed));
    let death = udp6().payload(vec![0; 64]).fragment(8190, false).build();
    assert_eq!(plain(&death), Err(DropReason::FragmentMalformed));
    let overlap = tcp4().payload(vec![0; 64]).fragment(1, false).build();
    assert_eq!(plain(&overlap), Err(DropReason::FragmentMalformed));
    let (source, destination) = ("10.0.0.1".parse().unwrap(), "10.0.0.2".parse().unwrap());
    let tiny = PacketBuilder::raw(source, destination, 6).payload([0; 16]);
    let tiny = tiny.fragment(0, true).build();
    // The first fragment of a raw packet is its payload.
    assert_eq!(plain(&tiny), Err(DropReason::FragmentMalformed));
}

#[test]
fn icmp_type_and_code_are_found_behind_extension_headers() {
    let source = "fe80::1".parse().unwrap();
    let frame = PacketBuilder::icmp(source, "ff02::16".parse().unwrap(), 143, 0)
        .extension(ipv6::HOP_BY_HOP, &[5, 2, 0, 0, 1, 0])
        .build();
    assert_eq!(ip(&frame).icmp(&frame), Some((143, 0)));
    let frame = tcp4().build();
    assert_eq!(ip(&frame).icmp(&frame), None);
}

#[test]
fn headers_of_another_frame_find_nothing_in_a_short_one() {
    let headers = ip(&tcp6().build());
    assert_eq!(headers.five_tuple::<Ipv6Addr>(&[0; 40]), None);
    assert_eq!(headers.transport(&[0; 40]), &[] as &[u8]);
}

/// Valid frames of every kind.
pub(in crate::packet) fn frames() -> impl Strategy<Value = Vec<u8>> {
    let v4 = (1u32..0x7e00_0000, 1u32..0x7e00_0000)
        .prop_map(|(a, b)| {
            (
                Ipv4Addr::from(a | 0x0100_0000),
                Ipv4Addr::from(b | 0x0100_0000),
            )
        })
        .prop_map(|(a, b)| (a.into(), b.into()));
    let v6 = any::<(u64, u64)>().prop_map(|(a, b)| {
        let site = |low: u64| Ipv6Addr::from(0x2001_0db8 << 96 | u128::from(low));
        (site(a).into(), site(b).into())
    });
    (
        prop_oneof![v4, v6],
        any::<(u16, u16)>(),
        0..5,
        prop::collection::vec(any::<u8>(), 0..80),
        0..4usize,
        any::<(u8, u8, u16)>(),
        0..3u16,
    )
        .prop_map(
            |((source, destination), ports, kind, payload, options, (ttl, tos, id), tags)| {
                let source = SocketAddr::new(source, ports.0);
                let destination = SocketAddr::new(destination, ports.1);
                let mut builder = match kind {
                    0 => PacketBuilder::tcp(source, destination).tcp_options(&vec![1; options]),
                    1 => PacketBuilder::udp(source, destination),
                    2 => PacketBuilder::udp(source, destination).no_checksum(),
                    3 => PacketBuilder::sctp(source, destination),
                    _ => PacketBuilder::icmp(source.ip(), destination.ip(), 128, 0),
                };
                for tag in 0..tags {
                    builder = builder.vlan(tag);
                }
                for _ in 0..options {
                    builder = builder.extension(ipv6::DESTINATION_OPTIONS, &[1, 4, 0, 0, 0, 0]);
                }
                builder
                    .ipv4_options(&vec![1; options * 8])
                    .payload(payload)
                    .ttl(ttl)
                    .tos(tos)
                    .id(id)
                    .padding(options)
                    .build()
            },
        )
}

proptest! {
    #[test]
    fn no_bytes_make_the_parser_panic(
        bytes in prop::collection::vec(any::<u8>(), 0..200),
        vlan in any::<Option<u16>>(),
    ) {
        let _ = parse(&bytes, Offloads { vlan, ipv4_checksum_good: true });
    }

    #[test]
    fn no_mutation_makes_the_parser_panic_and_offsets_stay_in_the_frame(
        mut frame in frames(),
        changes in prop::collection::vec((0usize..120, any::<u8>()), 0..4),
        cut in 0usize..200,
    ) {
        for (at, value) in changes {
            if let Some(byte) = frame.get_mut(at) {
                *byte = value;
            }
        }
        frame.truncate(cut.max(10));
        let offloads = Offloads { vlan: None, ipv4_checksum_good: true };
        if let Ok(Parsed::Ip(headers)) = parse(&frame, offloads) {
            prop_assert!(headers.l3 < headers.l4 && headers.l4 <= headers.end);
            prop_assert!(usize::from(headers.end) <= frame.len());
            let _ = headers.five_tuple::<Ipv4Addr>(&frame);
            let _ = headers.five_tuple::<Ipv6Addr>(&frame);
            let _ = headers.icmp(&frame);
        }
    }

    #[test]
    fn valid_frames_parse_to_what_they_were_built_of(frame in frames()) {
        let headers = ip(&frame);
        let built_without_checksum = headers.family == Family::V6 && headers.protocol == 17;
        prop_assert!(built_without_checksum || verify(&frame).is_ok());
        prop_assert_eq!(headers.fragment, Fragment::Whole);
        let tuple = match headers.family {
            Family::V4 => headers.five_tuple::<Ipv4Addr>(&frame).is_some(),
            Family::V6 => headers.five_tuple::<Ipv6Addr>(&frame).is_some(),
        };
        prop_assert_eq!(tuple, matches!(headers.protocol, 6 | 17 | 132));
    }
}
