//! IPv6 fragmentation by the sender (RFC 8200 4.5): of outer packets of tunnels, which this box
//! makes itself. What others send is never fragmented on its way.
//!
//! As with IPv4 ([`fragment`](super::fragment)) either all fragments are made or none, the first is the
//! packet itself cut short, and it goes out first.

use super::bytes::{array, array_mut, store16, store32};
use super::fragment::{MAX_FRAGMENTS, NotFragmented, fill};
use super::{Headers, ethernet, ipv6};
use crate::address::Family;
use crate::buffer::PacketBuffer;
use arrayvec::ArrayVec;

/// Length of the fragment header.
const LEN: usize = 8;
/// Its flag: more fragments follow.
const MORE: u16 = 1;

/// Cuts `packet`, which has no extension header yet, into fragments of at most `mtu` bytes (IP header
/// included) and returns how many: the packet itself becomes the first, the later ones are handed
/// to `emit` in order. `id` tells the fragments of this packet from those of others. A packet that
/// fits stays whole.
///
/// # Errors
/// [`NotFragmented`]; the packet is whole and nothing was emitted. [`NotFragmented::NotIpv4`] means
/// here: no IPv6 packet, or `headers` are not its.
pub fn fragment_ipv6<P: PacketBuffer>(
    packet: &mut P,
    headers: &Headers,
    mtu: u16,
    id: u32,
    mut alloc: impl FnMut() -> Option<P>,
    emit: impl FnMut(P),
) -> Result<usize, NotFragmented> {
    let (l3, end) = (usize::from(headers.l3), usize::from(headers.end));
    let frame = packet.data();
    let fixed: &[u8; ipv6::LEN] = array(frame, l3).ok_or(NotFragmented::NotIpv4)?;
    if headers.family != Family::V6 || l3 < ethernet::LEN || frame.len() != end {
        return Err(NotFragmented::NotIpv4);
    }
    let mtu = usize::from(mtu);
    if end - l3 <= mtu {
        return Ok(1);
    }
    let original = ipv6::Header::read(fixed);
    let (link_and_header, data) = frame.split_at(l3 + ipv6::LEN);
    let (link, _) = link_and_header.split_at(l3);
    // All fragments but the last hold a multiple of 8 bytes.
    let room = mtu.saturating_sub(ipv6::LEN + LEN) & !7;
    if room == 0 {
        return Err(NotFragmented::MtuTooSmall);
    }
    let mut fragments: ArrayVec<P, { MAX_FRAGMENTS - 1 }> = ArrayVec::new();
    let mut pieces = data.chunks(room).enumerate().skip(1).peekable();
    while let Some((number, piece)) = pieces.next() {
        let more = pieces.peek().is_some();
        let header = headers_of(original, id, number * room, piece.len(), more);
        if fragments.is_full() {
            return Err(NotFragmented::MtuTooSmall);
        }
        let mut fragment = alloc().ok_or(NotFragmented::NoBuffer)?;
        fill(&mut fragment, [link, &header, piece])?;
        fragment.set_port(packet.port());
        fragments.push(fragment);
    }
    // The first one gains a header: everything before the data moves to a new front.
    if !packet.prepend(LEN) {
        return Err(NotFragmented::NoBuffer);
    }
    packet.truncate(l3 + ipv6::LEN + LEN + room);
    let frame = packet.data_mut();
    frame.copy_within(LEN..LEN + l3, 0);
    if let Some(bytes) = array_mut(frame, l3) {
        *bytes = headers_of(original, id, 0, room, true);
    }
    let count = 1 + fragments.len();
    fragments.into_iter().for_each(emit);
    Ok(count)
}

/// IP header and fragment header of the fragment whose `length` bytes of data begin at `offset`.
fn headers_of(
    original: ipv6::Header,
    id: u32,
    offset: usize,
    length: usize,
    more: bool,
) -> [u8; ipv6::LEN + LEN] {
    let mut bytes = [0; ipv6::LEN + LEN];
    if let Some(fixed) = bytes.first_chunk_mut() {
        ipv6::Header {
            payload_length: (LEN + length) as u16,
            next_header: ipv6::FRAGMENT,
            ..original
        }
        .write(fixed);
    }
    if let Some(fragment) = array_mut::<LEN>(&mut bytes, ipv6::LEN) {
        fragment[0] = original.next_header;
        // The offset is in units of 8 bytes, in the upper 13 bits of its word.
        store16(fragment, 2, offset as u16 | if more { MORE } else { 0 });
        store32(fragment, 4, id);
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::buffer::Frame;
    use crate::packet::builder::{PacketBuilder, verify};
    use crate::packet::{Fragment, Offloads, Parsed, parse};

    fn parsed(frame: &[u8]) -> Headers {
        match parse(frame, Offloads::default()) {
            Ok(Parsed::Ip(headers)) => headers,
            other => panic!("{other:?}"),
        }
    }

    fn packet(length: usize) -> Vec<u8> {
        let payload: Vec<u8> = (0..length).map(|n| n as u8).collect();
        PacketBuilder::raw(
            "fd00:2::1".parse().unwrap(),
            "fd00:2::12".parse().unwrap(),
            41,
        )
        .tos(0xb9)
        .ttl(9)
        .payload(payload)
        .build()
    }

    fn cut(frame: &[u8], mtu: u16, buffers: usize) -> Result<Vec<Vec<u8>>, NotFragmented> {
        let mut packet = Frame::from_bytes(frame);
        let mut left = buffers;
        let mut later = Vec::new();
        let alloc = || {
            left = left.checked_sub(1)?;
            Some(Frame::with_tailroom(&[], 2048))
        };
        let headers = parsed(frame);
        let count = fragment_ipv6(&mut packet, &headers, mtu, 0x0102_0304, alloc, |fragment| {
            later.push(fragment.data().to_vec());
        });
        match count {
            Ok(count) => {
                assert_eq!(count, 1 + later.len());
                later.insert(0, packet.data().to_vec());
                Ok(later)
            }
            Err(reason) => {
                assert_eq!((packet.data(), later.len()), (frame, 0));
                Err(reason)
            }
        }
    }

    #[test]
    fn the_fragments_together_are_the_packet_and_none_exceeds_the_mtu() {
        for length in [1, 1232, 1233, 1240, 1241, 1460, 1461, 4000, 9000] {
            let whole = packet(length);
            let fragments = cut(&whole, 1280, 64).unwrap();
            if fragments.len() == 1 {
                assert_eq!(fragments[0], whole);
                continue;
            }
            let mut data = Vec::<u8>::new();
            for (number, fragment) in fragments.iter().enumerate() {
                assert!(fragment.len() <= 14 + 1280);
                assert_eq!(
                    fragment[..18],
                    whole[..18],
                    "link, traffic class, flow label"
                );
                assert_eq!(fragment[21..54], whole[21..54], "hop limit and addresses");
                assert_eq!(fragment[54], 41);
                assert_eq!(fragment[58..62], [1, 2, 3, 4]);
                let headers = parsed(fragment);
                let kind = if number == 0 {
                    Fragment::First
                } else {
                    Fragment::Later
                };
                assert_eq!((headers.fragment, headers.l4), (kind, 62));
                let offset = usize::from(u16::from_be_bytes([fragment[56], fragment[57]]));
                assert_eq!(offset & !7, data.len());
                assert_eq!(offset & 1 == 0, number + 1 == fragments.len());
                assert_eq!(verify(fragment), Ok(()));
                data.extend(&fragment[62..]);
            }
            assert_eq!(data, whole[54..]);
        }
    }

    #[test]
    fn what_cannot_be_cut_is_whole_and_nothing_is_sent() {
        assert_eq!(cut(&packet(4000), 1280, 2), Err(NotFragmented::NoBuffer));
        assert_eq!(cut(&packet(4000), 55, 64), Err(NotFragmented::MtuTooSmall));
        assert_eq!(cut(&packet(4000), 64, 64), Err(NotFragmented::MtuTooSmall));
        let client = "10.0.1.100:5".parse().unwrap();
        let v4 = PacketBuilder::udp(client, client).payload([0; 99]).build();
        assert_eq!(cut(&v4, 60, 64), Err(NotFragmented::NotIpv4));
    }
}
