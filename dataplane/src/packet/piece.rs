//! Which part of which datagram a fragment is (RFC 791 3.2, RFC 8200 4.5).
//!
//! What identifies the datagram is source, destination and identification, in IPv4 also the
//! protocol. Of IPv6 fragments only the first says what the datagram carries, behind extension
//! headers that belong to the datagram; [`Piece::carries`] is what every one says alike.

use super::bytes::array;
use super::{Headers, ipv4, ipv6};
use crate::address::{Address, Family, Protocol};

/// The datagram a fragment is part of.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct Datagram<A> {
    /// Sender.
    pub source: A,
    /// Receiver.
    pub destination: A,
    /// Identification.
    pub id: u32,
    /// Protocol number; 0 in IPv6.
    pub protocol: u8,
}

/// A fragment's place in its datagram.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Piece {
    /// First byte, counted from where the fragmented part of the datagram begins.
    pub start: u16,
    /// One past its last byte.
    pub end: u16,
    /// Others follow it.
    pub more: bool,
    /// What the datagram begins with: a transport protocol or, in IPv6, an extension header.
    pub carries: u8,
}

impl Piece {
    /// True unless it cannot be part of any datagram: it is empty, or not the last and no multiple of
    /// 8 bytes long.
    pub fn is_well_formed(&self) -> bool {
        let length = self.end - self.start;
        length > 0 && (!self.more || length.is_multiple_of(8))
    }

    /// True if the datagram may be of a protocol that services balance.
    pub fn may_have_ports(&self) -> bool {
        Protocol::from_number(self.carries).is_some()
            || matches!(
                self.carries,
                ipv6::DESTINATION_OPTIONS | ipv6::AUTHENTICATION | ipv6::ROUTING
            )
    }
}

/// Reads where the fragment that `headers` describe belongs; `None` if it is of another family than
/// `A`, is whole, or the headers are not this frame's.
pub fn read<A: Address>(frame: &[u8], headers: &Headers) -> Option<(Datagram<A>, Piece)> {
    let (l3, end) = (usize::from(headers.l3), usize::from(headers.end));
    if headers.family != A::FAMILY {
        return None;
    }
    // Where the fragmented part begins, and what the header in front of it says.
    let (begin, carries, offset, more, id, protocol) = match A::FAMILY {
        Family::V4 => {
            let header = ipv4::Header::read(array(frame, l3)?);
            let begin = l3 + usize::from(header.header_length);
            (
                begin,
                header.protocol,
                header.fragment_offset,
                header.more_fragments,
                u32::from(header.id),
                header.protocol,
            )
        }
        Family::V6 => {
            let header = ipv6::Header::read(array(frame, l3)?);
            let start = l3 + ipv6::LEN;
            let found = ipv6::fragment(header.next_header, frame.get(start..end)?)?;
            let ipv6::FragmentHeader { offset, more, id } = found.header;
            (start + found.offset, found.carries, offset, more, id, 0)
        }
    };
    if offset == 0 && !more {
        return None;
    }
    // Neither can overflow: the parser has refused datagrams of more than 65535 bytes.
    let start = u16::try_from(usize::from(offset) * 8).ok()?;
    let length = u16::try_from(end.checked_sub(begin)?).ok()?;
    let datagram = Datagram {
        source: headers.source(frame)?,
        destination: headers.destination(frame)?,
        id,
        protocol,
    };
    let piece = Piece {
        start,
        end: start.checked_add(length)?,
        more,
        carries,
    };
    Some((datagram, piece))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packet::builder::PacketBuilder;
    use crate::packet::{Offloads, Parsed, parse};
    use std::net::{Ipv4Addr, Ipv6Addr};

    fn piece<A: Address>(packet: &PacketBuilder) -> Option<(Datagram<A>, Piece)> {
        let frame = packet.build();
        match parse(&frame, Offloads::default()) {
            Ok(Parsed::Ip(headers)) => read(&frame, &headers),
            other => panic!("{other:?}"),
        }
    }

    fn udp(source: &str, destination: &str) -> PacketBuilder {
        PacketBuilder::udp(source.parse().unwrap(), destination.parse().unwrap()).id(7)
    }

    #[test]
    fn an_ipv4_fragment_names_its_datagram_by_protocol_too() {
        let packet = udp("10.0.1.100:1", "10.0.1.50:2").payload([0; 24]);
        assert_eq!(piece::<Ipv4Addr>(&packet), None);
        let options = packet.clone().ipv4_options(&[1, 1, 1, 1]).fragment(0, true);
        let (datagram, first) = piece::<Ipv4Addr>(&options).unwrap();
        assert_eq!((datagram.id, datagram.protocol), (7, 17));
        assert_eq!((first.start, first.end, first.more), (0, 32, true));
        let (same, last) = piece(&packet.fragment(4, false)).unwrap();
        assert_eq!(datagram, same);
        assert_eq!((last.start, last.end, last.more), (32, 56, false));
    }

    #[test]
    fn an_ipv6_fragment_counts_from_behind_the_fragment_header() {
        let packet = udp("[fd00:1::100]:1", "[fd00:1::50]:2")
            .payload([0; 24])
            .extension(ipv6::HOP_BY_HOP, &[1, 4, 0, 0, 0, 0]);
        let (datagram, first) = piece::<Ipv6Addr>(&packet.clone().fragment(0, true)).unwrap();
        assert_eq!((datagram.id, datagram.protocol, first.carries), (7, 0, 17));
        assert_eq!((first.start, first.end), (0, 32));
        let (same, last) = piece::<Ipv6Addr>(&packet.fragment(4, false)).unwrap();
        assert_eq!((datagram, last.start, last.end), (same, 32, 56));
    }

    #[test]
    fn pieces_that_leave_a_gap_for_ever_are_not_well_formed() {
        let piece = |end, more| Piece {
            start: 8,
            end,
            more,
            carries: 17,
        };
        assert!(piece(16, true).is_well_formed() && piece(11, false).is_well_formed());
        assert!(!piece(11, true).is_well_formed() && !piece(8, false).is_well_formed());
    }
}
