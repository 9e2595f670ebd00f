//! ICMP errors about a packet, made of that packet in place.
//!
//! Follows RFC 792, RFC 1122 3.2.2 and RFC 1812 4.3 (IPv4), RFC 4443 (ICMPv6). The shape is Linux's,
//! as recorded: the quote fills the error up to 576 bytes (IPv6: 1280), TTL 64, precedence
//! "internetwork control" (TOS `0xc0`), DF clear. The quoted packet is exactly what was in the frame:
//! call before or after decrementing the TTL, before or after translating, as the quote has to show.

use super::bytes::{load16, store16};
use super::checksum::Sum;
use super::{Fragment, Headers, MacAddress, ethernet, icmpv4, icmpv6, ipv4, ipv6};
use crate::address::Family;
use crate::buffer::PacketBuffer;
use crate::verdict::DropReason;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// What is wrong with the packet.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum IcmpError {
    /// TTL or hop limit used up in transit.
    TimeExceeded,
    /// Too big for the way out and not to be fragmented; in IPv6 "packet too big".
    FragmentationNeeded {
        /// MTU of the way out in bytes.
        mtu: u16,
    },
    /// Nobody serves the port.
    PortUnreachable,
    /// The host does not answer; in IPv6 "address unreachable".
    HostUnreachable,
    /// There is no route.
    NetworkUnreachable,
    /// Forbidden by configuration.
    AdministrativelyProhibited,
    /// Whatever somebody else said, in the packet's own family, without a value.
    Other {
        /// ICMP type.
        kind: u8,
        /// ICMP code.
        code: u8,
    },
}

/// Why no error may be sent, or could not be. The packet is unchanged then.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum NotSent {
    /// The packet is an ICMP error itself, or of an unknown ICMP type.
    IcmpError,
    /// The packet is a later fragment.
    LaterFragment,
    /// The packet's source is not one host.
    Source,
    /// The packet's destination, at the link or in IP, is a group.
    Destination,
    /// The sender of the error is of the other family, or `headers` are not this packet's.
    Mismatch,
    /// The buffer has no headroom for the new headers.
    NoRoom,
}

impl From<NotSent> for DropReason {
    /// Only the reasons that are about us; otherwise the caller's own reason says more.
    fn from(reason: NotSent) -> Self {
        match reason {
            NotSent::NoRoom => Self::NoBuffer,
            NotSent::LaterFragment => Self::Fragment,
            NotSent::Source => Self::MartianSource,
            NotSent::Destination => Self::Multicast,
            NotSent::IcmpError | NotSent::Mismatch => Self::TransportHeader,
        }
    }
}

/// Largest ICMPv4 error in bytes, IP header included (RFC 1812 4.3.2.3).
pub const MAX_V4: usize = 576;
/// Largest ICMPv6 error in bytes, IP header included (RFC 4443 2.4 (c)).
pub const MAX_V6: usize = 1280;

/// Turns `packet` into the ICMP error from `source` (the VIP) to the packet's sender and returns the
/// headers of the new packet.
///
/// `id` is the IPv4 identification of the error. The MAC addresses are swapped, so that the error
/// goes back where the packet came from; a caller that routes it overwrites them. VLAN tags stay.
///
/// # Errors
/// [`NotSent`]; the packet is then unchanged.
pub fn build<P: PacketBuffer>(
    packet: &mut P,
    headers: &Headers,
    error: IcmpError,
    source: IpAddr,
    id: u16,
) -> Result<Headers, NotSent> {
    let frame = packet.data();
    let (l3, end) = (usize::from(headers.l3), usize::from(headers.end));
    if l3 < ethernet::LEN || l3 >= end || end > frame.len() {
        return Err(NotSent::Mismatch);
    }
    refuse_unanswerable(frame, headers)?;
    let (sender, added, largest) = match (headers.family, source) {
        (Family::V4, IpAddr::V4(source)) => {
            let to: Ipv4Addr = headers.source(frame).ok_or(NotSent::Mismatch)?;
            let tos = frame.get(l3 + ipv4::field::TOS).copied();
            let tos = tos.ok_or(NotSent::Mismatch)?;
            (
                Sender::V4 { source, to, tos },
                ipv4::LEN + icmpv4::LEN,
                MAX_V4,
            )
        }
        (Family::V6, IpAddr::V6(source)) => {
            let to: Ipv6Addr = headers.source(frame).ok_or(NotSent::Mismatch)?;
            (Sender::V6 { source, to }, ipv6::LEN + icmpv6::LEN, MAX_V6)
        }
        _ => return Err(NotSent::Mismatch),
    };
    if !packet.prepend(added) {
        return Err(NotSent::NoRoom);
    }
    let length = (added + end - l3).min(largest);
    packet.truncate(l3 + length);
    let frame = packet.data_mut();
    // The link header moves to the new front; what it leaves behind is room for the new headers.
    frame.copy_within(added..added + l3, 0);
    swap_macs(frame);
    let (_, datagram) = frame.split_at_mut(l3.min(frame.len()));
    match sender {
        Sender::V4 { source, to, tos } => write_v4(datagram, error, source, to, tos, id),
        Sender::V6 { source, to } => write_v6(datagram, error, source, to),
    }
    .ok_or(NotSent::Mismatch)?;
    Ok(Headers {
        family: headers.family,
        fragment: Fragment::Whole,
        protocol: match headers.family {
            Family::V4 => ipv4::ICMP,
            Family::V6 => ipv6::ICMPV6,
        },
        tcp_flags: 0,
        ttl: TTL,
        dont_fragment: false,
        l3: headers.l3,
        l4: headers.l3.saturating_add((added - icmpv4::LEN) as u16),
        end: headers.l3.saturating_add(length as u16),
        vlan: headers.vlan,
        inner_vlan: headers.inner_vlan,
        source_port: 0,
        destination_port: 0,
    })
}

/// TTL and hop limit of errors.
const TTL: u8 = 64;
/// Precedence "internetwork control" (RFC 1812 4.3.2.5).
const PRECEDENCE: u8 = 0xc0;
/// The type-of-service bits that an error takes over from its packet (RFC 1812 4.3.2.5): not the
/// precedence, and not ECN, which the sender of the error does not speak.
const TOS: u8 = 0x1c;

enum Sender {
    V4 {
        source: Ipv4Addr,
        to: Ipv4Addr,
        tos: u8,
    },
    V6 {
        source: Ipv6Addr,
        to: Ipv6Addr,
    },
}

/// RFC 1122 3.2.2 and RFC 4443 2.4 (e).
fn refuse_unanswerable(frame: &[u8], headers: &Headers) -> Result<(), NotSent> {
    if headers.fragment == Fragment::Later {
        return Err(NotSent::LaterFragment);
    }
    let error = headers
        .icmp(frame)
        .is_some_and(|(kind, _)| match headers.family {
            Family::V4 => !icmpv4::is_query(kind),
            Family::V6 => icmpv6::is_error(kind) || kind == icmpv6::REDIRECT,
        });
    if error {
        return Err(NotSent::IcmpError);
    }
    let (bad_source, bad_destination) = match headers.family {
        Family::V4 => {
            let source = headers.source(frame).ok_or(NotSent::Mismatch)?;
            let destination: Ipv4Addr = headers.destination(frame).ok_or(NotSent::Mismatch)?;
            (
                ipv4::never_a_host(source),
                destination.is_multicast() || destination.is_broadcast(),
            )
        }
        Family::V6 => {
            let source = headers.source(frame).ok_or(NotSent::Mismatch)?;
            let destination: Ipv6Addr = headers.destination(frame).ok_or(NotSent::Mismatch)?;
            (ipv6::never_a_host(source), destination.is_multicast())
        }
    };
    if bad_source {
        return Err(NotSent::Source);
    }
    let to_group = frame
        .first_chunk()
        .is_some_and(|link| ethernet::Header::read(link).destination.is_multicast());
    if bad_destination || to_group {
        return Err(NotSent::Destination);
    }
    Ok(())
}

pub(super) fn swap_macs(frame: &mut [u8]) {
    if let Some(link) = frame.first_chunk_mut() {
        let header = ethernet::Header::read(link);
        let (source, destination): (MacAddress, MacAddress) = (header.destination, header.source);
        ethernet::Header {
            destination,
            source,
            ..header
        }
        .write(link);
    }
}

fn write_v4(
    datagram: &mut [u8],
    error: IcmpError,
    source: Ipv4Addr,
    destination: Ipv4Addr,
    tos: u8,
    id: u16,
) -> Option<()> {
    let total_length = u16::try_from(datagram.len()).ok()?;
    let (ip, message) = datagram.split_first_chunk_mut::<{ ipv4::LEN }>()?;
    ipv4::Header {
        version: 4,
        header_length: ipv4::LEN as u8,
        tos: tos & TOS | PRECEDENCE,
        total_length,
        id,
        dont_fragment: false,
        more_fragments: false,
        fragment_offset: 0,
        ttl: TTL,
        protocol: ipv4::ICMP,
        source,
        destination,
    }
    .write(ip);
    let (kind, code, mtu) = match error {
        IcmpError::TimeExceeded => (icmpv4::TIME_EXCEEDED, icmpv4::IN_TRANSIT, 0),
        IcmpError::FragmentationNeeded { mtu } => {
            (icmpv4::UNREACHABLE, icmpv4::FRAGMENTATION_NEEDED, mtu)
        }
        IcmpError::PortUnreachable => (icmpv4::UNREACHABLE, icmpv4::PORT, 0),
        IcmpError::HostUnreachable => (icmpv4::UNREACHABLE, icmpv4::HOST, 0),
        IcmpError::NetworkUnreachable => (icmpv4::UNREACHABLE, icmpv4::NETWORK, 0),
        IcmpError::AdministrativelyProhibited => (icmpv4::UNREACHABLE, icmpv4::PROHIBITED, 0),
        IcmpError::Other { kind, code } => (kind, code, 0),
    };
    write_message(message, kind, code, mtu, Sum::default())
}

fn write_v6(
    datagram: &mut [u8],
    error: IcmpError,
    source: Ipv6Addr,
    destination: Ipv6Addr,
) -> Option<()> {
    let (ip, message) = datagram.split_first_chunk_mut::<{ ipv6::LEN }>()?;
    let payload_length = u16::try_from(message.len()).ok()?;
    ipv6::Header {
        version: 6,
        traffic_class: 0,
        flow_label: 0,
        payload_length,
        next_header: ipv6::ICMPV6,
        hop_limit: TTL,
        source,
        destination,
    }
    .write(ip);
    let (kind, code, mtu) = match error {
        IcmpError::TimeExceeded => (icmpv6::TIME_EXCEEDED, 0, 0),
        IcmpError::FragmentationNeeded { mtu } => (icmpv6::TOO_BIG, 0, mtu),
        IcmpError::PortUnreachable => (icmpv6::UNREACHABLE, icmpv6::PORT, 0),
        IcmpError::HostUnreachable => (icmpv6::UNREACHABLE, icmpv6::ADDRESS, 0),
        IcmpError::NetworkUnreachable => (icmpv6::UNREACHABLE, icmpv6::NO_ROUTE, 0),
        IcmpError::AdministrativelyProhibited => (icmpv6::UNREACHABLE, icmpv6::PROHIBITED, 0),
        IcmpError::Other { kind, code } => (kind, code, 0),
    };
    let pseudo = Sum::of(&source.octets())
        .bytes(&destination.octets())
        .word(payload_length)
        .word(u16::from(ipv6::ICMPV6));
    write_message(message, kind, code, mtu, pseudo)
}

/// Writes the ICMP header in front of the quote. The MTU of IPv4 (RFC 1191 4) is 16 bits wide behind
/// two unused bytes, that of IPv6 32 bits, so both end up in the same place.
fn write_message(message: &mut [u8], kind: u8, code: u8, mtu: u16, pseudo: Sum) -> Option<()> {
    let [high, low] = mtu.to_be_bytes();
    icmpv4::Header {
        kind,
        code,
        checksum: 0,
        rest: [0, 0, high, low],
    }
    .write(message.first_chunk_mut()?);
    let checksum = pseudo.bytes(message).checksum();
    let header: &mut [u8; icmpv4::LEN] = message.first_chunk_mut()?;
    debug_assert_eq!(load16(header, icmpv4::field::CHECKSUM), 0);
    store16(header, icmpv4::field::CHECKSUM, checksum);
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::buffer::Frame;
    use crate::packet::builder::{PacketBuilder, verify};
    use crate::packet::headers::tests::frames;
    use crate::packet::{Offloads, Parsed, parse, tcp};
    use proptest::prelude::*;
    use std::net::SocketAddr;

    const ERRORS: [IcmpError; 6] = [
        IcmpError::TimeExceeded,
        IcmpError::FragmentationNeeded { mtu: 1400 },
        IcmpError::PortUnreachable,
        IcmpError::HostUnreachable,
        IcmpError::NetworkUnreachable,
        IcmpError::AdministrativelyProhibited,
    ];

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
        PacketBuilder::udp(address("10.0.1.100:40544"), address("10.0.1.50:53"))
    }

    fn udp6() -> PacketBuilder {
        PacketBuilder::udp(address("[fd00::100]:40544"), address("[fd00::50]:53"))
    }

    /// The error about this frame, sent by its destination.
    fn answer(frame: &[u8], error: IcmpError) -> Result<Vec<u8>, NotSent> {
        let mut packet = Frame::from_bytes(frame);
        let old = headers(frame);
        let source = match old.family {
            Family::V4 => old.destination::<Ipv4Addr>(frame).unwrap().into(),
            Family::V6 => old.destination::<Ipv6Addr>(frame).unwrap().into(),
        };
        match build(&mut packet, &old, error, source, 0x6a3d) {
            Ok(new) => {
                assert_eq!(new, headers(packet.data()));
                assert_eq!(verify(packet.data()), Ok(()));
                Ok(packet.data().to_vec())
            }
            Err(reason) => {
                assert_eq!(packet.data(), frame);
                Err(reason)
            }
        }
    }

    #[test]
    fn time_exceeded_is_the_recorded_packet() {
        // tos 0xc0, ttl 64, id 27197, length 57; quoting tos 0, ttl 1, id 56419, DF, length 29.
        let frame = udp4()
            .ttl(1)
            .id(56419)
            .dont_fragment()
            .payload("x")
            .padding(17)
            .build();
        let sent = answer(&frame, IcmpError::TimeExceeded).unwrap();
        let swapped = [&frame[6..12], &frame[0..6], &frame[12..14]].concat();
        assert_eq!(sent[..14], swapped);
        assert_eq!(
            sent[14..34],
            [
                0x45, 0xc0, 0, 57, 0x6a, 0x3d, 0, 0, 64, 1, 0xf9, 0x31, 10, 0, 1, 50, 10, 0, 1, 100
            ]
        );
        assert_eq!(sent[34..36], [11, 0]);
        assert_eq!(sent[42..], frame[14..43]);
    }

    #[test]
    fn a_syn_to_a_closed_port_is_quoted_whole() {
        let syn = PacketBuilder::tcp(address("10.0.1.100:59662"), address("10.0.1.50:81"))
            .flags(tcp::SYN)
            .tcp_options(&[1; 20])
            .build();
        let sent = answer(&syn, IcmpError::PortUnreachable).unwrap();
        assert_eq!(sent.len(), 14 + 88);
        assert_eq!(sent[34..36], [3, 3]);
    }

    #[test]
    fn fragmentation_needed_names_the_mtu_and_quotes_up_to_576_bytes() {
        let frame = udp4()
            .dont_fragment()
            .payload(vec![0x79; 1450])
            .vlan(9)
            .build();
        let sent = answer(&frame, IcmpError::FragmentationNeeded { mtu: 1400 }).unwrap();
        assert_eq!(sent.len(), 18 + 576);
        assert_eq!(sent[38..40], [3, 4]);
        assert_eq!(sent[42..46], [0, 0, 5, 0x78]);
        assert_eq!(sent[46..], frame[18..18 + 548]);
        assert_eq!(headers(&sent).vlan, Some(9));
    }

    #[test]
    fn packet_too_big_quotes_up_to_1280_bytes() {
        let frame = udp6().payload(vec![0x79; 1450]).build();
        let sent = answer(&frame, IcmpError::FragmentationNeeded { mtu: 1280 }).unwrap();
        assert_eq!(sent.len(), 14 + 1280);
        assert_eq!(sent[54..56], [2, 0]);
        assert_eq!(sent[58..62], [0, 0, 5, 0]);
        assert_eq!(sent[62..], frame[14..14 + 1232]);
    }

    #[test]
    fn every_error_has_its_type_and_code() {
        let types = |frame: &[u8], at: usize| {
            ERRORS.map(|error| {
                let sent = answer(frame, error).unwrap();
                (sent[at], sent[at + 1])
            })
        };
        let v4 = [(11, 0), (3, 4), (3, 3), (3, 1), (3, 0), (3, 13)];
        assert_eq!(types(&udp4().build(), 34), v4);
        let v6 = [(3, 0), (2, 0), (1, 4), (1, 3), (1, 0), (1, 1)];
        assert_eq!(types(&udp6().build(), 54), v6);
    }

    #[test]
    fn type_of_service_is_taken_over_without_precedence_and_ecn() {
        let sent = answer(&udp4().tos(0xb9).build(), IcmpError::TimeExceeded).unwrap();
        assert_eq!(sent[15], 0xd8);
    }

    #[test]
    fn no_error_is_sent_about_errors_but_about_queries() {
        let icmp = |source: &str, destination: &str, kind| {
            let source = source.parse().unwrap();
            let frame = PacketBuilder::icmp(source, destination.parse().unwrap(), kind, 0).build();
            answer(&frame, IcmpError::TimeExceeded).map(|_| ())
        };
        for kind in [3, 4, 5, 11, 12, 200] {
            let sent = icmp("10.0.0.1", "10.0.0.2", kind);
            assert_eq!(sent, Err(NotSent::IcmpError), "{kind}");
        }
        for kind in [1, 2, 3, 4, 100, 137] {
            let sent = icmp("fd00::1", "fd00::2", kind);
            assert_eq!(sent, Err(NotSent::IcmpError), "{kind}");
        }
        assert_eq!(icmp("10.0.0.1", "10.0.0.2", 8), Ok(()));
        assert_eq!(icmp("fd00::1", "fd00::2", 128), Ok(()));
    }

    #[test]
    fn no_error_is_sent_about_later_fragments_but_about_first_ones() {
        let fragment = |offset| {
            let frame = udp4().payload([0; 64]).fragment(offset, true).build();
            answer(&frame, IcmpError::TimeExceeded).map(|_| ())
        };
        assert_eq!(fragment(9), Err(NotSent::LaterFragment));
        assert_eq!(fragment(0), Ok(()));
    }

    #[test]
    fn no_error_is_sent_to_or_about_groups() {
        let raw = |source: &str, destination: &str| {
            PacketBuilder::raw(source.parse().unwrap(), destination.parse().unwrap(), 47)
        };
        let refused = |frame: Vec<u8>| answer(&frame, IcmpError::TimeExceeded).unwrap_err();
        assert_eq!(
            refused(raw("10.0.0.1", "224.0.0.1").build()),
            NotSent::Destination
        );
        assert_eq!(
            refused(raw("10.0.0.1", "255.255.255.255").build()),
            NotSent::Destination
        );
        assert_eq!(
            refused(raw("fd00::1", "ff02::1").build()),
            NotSent::Destination
        );
        assert_eq!(
            refused(raw("0.0.0.0", "255.255.255.255").build()),
            NotSent::Source
        );
        let link =
            raw("10.0.0.1", "10.0.0.2").link(MacAddress([2, 0, 0, 0, 0, 1]), MacAddress::BROADCAST);
        assert_eq!(refused(link.build()), NotSent::Destination);
    }

    #[test]
    fn a_sender_of_the_other_family_or_no_headroom_changes_nothing() {
        let frame = udp4().build();
        let mut packet = Frame::from_bytes(&frame);
        let old = headers(&frame);
        let v6 = IpAddr::V6(Ipv6Addr::LOCALHOST);
        let mut build = |source| build(&mut packet, &old, IcmpError::TimeExceeded, source, 1);
        assert_eq!(build(v6), Err(NotSent::Mismatch));
        let source = IpAddr::V4(Ipv4Addr::new(10, 0, 1, 50));
        // Each error takes 28 bytes more of the 128 bytes of headroom until it no longer fits.
        let mut full = Frame::from_bytes(&frame);
        assert!(full.prepend(Frame::HEADROOM - 27));
        full.data_mut().copy_within(Frame::HEADROOM - 27.., 0);
        full.truncate(frame.len());
        let sent = super::build(&mut full, &old, IcmpError::TimeExceeded, source, 1);
        assert_eq!(sent, Err(NotSent::NoRoom));
        assert_eq!(full.data(), frame);
    }

    proptest! {
        #[test]
        fn an_error_about_any_frame_is_valid_and_quotes_it(
            frame in frames(),
            error in prop::sample::select(ERRORS.to_vec()),
        ) {
            let old = headers(&frame);
            match answer(&frame, error) {
                Ok(sent) => {
                    let new = headers(&sent);
                    let quote = new.transport(&sent).len() - 8;
                    let at = usize::from(old.l3);
                    prop_assert_eq!(
                        &new.transport(&sent)[8..],
                        &frame[at..at + quote]
                    );
                }
                Err(reason) => prop_assert_eq!(reason, NotSent::IcmpError),
            }
        }

        #[test]
        fn no_frame_makes_building_an_error_panic(
            frame in prop::collection::vec(any::<u8>(), 0..120),
            offsets in prop::array::uniform3(0u16..130),
            v6 in any::<bool>(),
        ) {
            let headers = Headers {
                family: if v6 { Family::V6 } else { Family::V4 },
                l3: offsets[0],
                l4: offsets[1],
                end: offsets[2],
                ..headers(&udp4().build())
            };
            let source = if v6 {
                IpAddr::V6(Ipv6Addr::LOCALHOST)
            } else {
                IpAddr::V4(Ipv4Addr::LOCALHOST)
            };
            let mut packet = Frame::from_bytes(&frame);
            let _ = build(&mut packet, &headers, IcmpError::TimeExceeded, source, 1);
        }
    }
}
