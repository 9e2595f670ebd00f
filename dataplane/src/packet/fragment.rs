//! IPv4 fragmentation (RFC 791 3.2).
//!
//! Either all fragments are made or none: they are built before the first is handed on, so that a
//! shortage of buffers never sends half a datagram. The first fragment is the original packet cut
//! short; it goes out first, because whoever balances fragments needs the ports it holds.

use super::bytes::array;
use super::{Headers, ethernet, ipv4};
use crate::address::Family;
use crate::buffer::PacketBuffer;
use crate::verdict::DropReason;
use arrayvec::ArrayVec;

/// How many fragments one packet may be cut into: a datagram of 64 KiB at an MTU of 1080 bytes, a
/// jumbo frame at 164.
pub const MAX_FRAGMENTS: usize = 64;

/// Why a packet was not fragmented. Nothing was sent then.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum NotFragmented {
    /// DF is set.
    DontFragment,
    /// The packet is not IPv4 or `headers` are not its.
    NotIpv4,
    /// The MTU has no room for the header and 8 bytes of data, or there would be more than
    /// [`MAX_FRAGMENTS`].
    MtuTooSmall,
    /// No buffer for a fragment.
    NoBuffer,
}

impl From<NotFragmented> for DropReason {
    fn from(reason: NotFragmented) -> Self {
        match reason {
            NotFragmented::DontFragment | NotFragmented::MtuTooSmall => Self::TooBig,
            NotFragmented::NotIpv4 => Self::Ipv4Header,
            NotFragmented::NoBuffer => Self::NoBuffer,
        }
    }
}

/// Cuts `packet` into fragments of at most `mtu` bytes (IP header included) and returns how many:
/// the packet itself becomes the first, the later ones are handed to `emit` in order. A packet that
/// fits stays whole, without its Ethernet padding.
///
/// The link header, VLAN tags in the frame included, is copied to every fragment, and so is the port.
/// A tag that the device took out must have been pushed back or is forgotten: a fragment's buffer
/// could not hold it. Fragments are cut again correctly.
///
/// # Errors
/// [`NotFragmented`]; the packet is whole and nothing was emitted.
pub fn fragment_ipv4<P: PacketBuffer>(
    packet: &mut P,
    headers: &Headers,
    mtu: u16,
    mut alloc: impl FnMut() -> Option<P>,
    emit: impl FnMut(P),
) -> Result<usize, NotFragmented> {
    let (l3, end) = (usize::from(headers.l3), usize::from(headers.end));
    packet.truncate(end);
    packet.clear_vlan();
    let frame = packet.data();
    let fixed = array(frame, l3).ok_or(NotFragmented::NotIpv4)?;
    let original = ipv4::Header::read(fixed);
    let header_length = usize::from(original.header_length);
    if headers.family != Family::V4
        || original.version != 4
        || header_length < ipv4::LEN
        || l3 < ethernet::LEN
        || frame.len() != end
        || end < l3 + header_length
    {
        return Err(NotFragmented::NotIpv4);
    }
    let mtu = usize::from(mtu);
    if end - l3 <= mtu {
        return Ok(1);
    }
    if original.dont_fragment {
        return Err(NotFragmented::DontFragment);
    }
    let (link_and_header, data) = frame.split_at(l3 + header_length);
    let (link, header) = link_and_header.split_at(l3);
    let options = Options::copied(header.get(ipv4::LEN..).unwrap_or_default());
    let mut later_header = [0; ipv4::MAX_LEN];
    let later_header = later_header
        .get_mut(..ipv4::LEN + options.length)
        .ok_or(NotFragmented::NotIpv4)?;
    later_header[ipv4::LEN..].copy_from_slice(&options.bytes[..options.length]);

    // All fragments but the last hold a multiple of 8 bytes.
    let first_data = room(mtu, header_length)?;
    let later_data = room(mtu, later_header.len())?;
    let mut fragments: ArrayVec<P, { MAX_FRAGMENTS - 1 }> = ArrayVec::new();
    let mut at = first_data;
    while at < data.len() {
        let piece = data.get(at..).unwrap_or_default();
        let piece = piece.get(..later_data).unwrap_or(piece);
        let last = at + piece.len() == data.len();
        let header = ipv4::Header {
            header_length: later_header.len() as u8,
            total_length: (later_header.len() + piece.len()) as u16,
            more_fragments: original.more_fragments || !last,
            fragment_offset: original.fragment_offset + (at / 8) as u16,
            ..original
        };
        write_header(later_header, header);
        if fragments.is_full() {
            return Err(NotFragmented::MtuTooSmall);
        }
        let mut fragment = alloc().ok_or(NotFragmented::NoBuffer)?;
        fill(&mut fragment, [link, later_header, piece])?;
        fragment.set_port(packet.port());
        fragments.push(fragment);
        at += piece.len();
    }

    packet.truncate(l3 + header_length + first_data);
    let header = ipv4::Header {
        total_length: (header_length + first_data) as u16,
        more_fragments: true,
        ..original
    };
    if let Some(bytes) = packet.data_mut().get_mut(l3..l3 + header_length) {
        write_header(bytes, header);
    }
    let count = 1 + fragments.len();
    fragments.into_iter().for_each(emit);
    Ok(count)
}

/// The options that later fragments repeat: those with the copied flag (RFC 791 3.1).
struct Options {
    bytes: [u8; ipv4::MAX_LEN - ipv4::LEN],
    /// A multiple of 4, the rest filled with end-of-options.
    length: usize,
}

impl Options {
    const END: u8 = 0;
    const NO_OPERATION: u8 = 1;
    const COPIED: u8 = 0x80;

    fn copied(mut options: &[u8]) -> Self {
        let mut copied = Self {
            bytes: [Self::END; ipv4::MAX_LEN - ipv4::LEN],
            length: 0,
        };
        while let &[kind, ref rest @ ..] = options {
            let length = match (kind, rest) {
                (Self::END, _) => break,
                (Self::NO_OPERATION, _) => 1,
                (_, [length, ..]) => usize::from(*length),
                (_, []) => break,
            };
            // A length that leads nowhere ends the options; routers do not repair them.
            let Some((option, rest)) = options.split_at_checked(length) else {
                break;
            };
            if option.is_empty() {
                break;
            }
            if kind & Self::COPIED != 0
                && let Some(to) = copied
                    .bytes
                    .get_mut(copied.length..copied.length + option.len())
            {
                to.copy_from_slice(option);
                copied.length += option.len();
            }
            options = rest;
        }
        copied.length = copied.length.next_multiple_of(4);
        copied
    }
}

/// Bytes of data that fit behind a header, a multiple of 8.
fn room(mtu: usize, header_length: usize) -> Result<usize, NotFragmented> {
    match mtu.saturating_sub(header_length) & !7 {
        0 => Err(NotFragmented::MtuTooSmall),
        room => Ok(room),
    }
}

/// Writes the fixed part of a header whose options are there already.
fn write_header(bytes: &mut [u8], header: ipv4::Header) {
    if let Some(fixed) = bytes.first_chunk_mut() {
        header.write(fixed);
    }
    if bytes.len() > ipv4::LEN {
        ipv4::fill_checksum(bytes);
    }
}

/// Makes the frame of a new buffer, whatever it held, these pieces.
pub(super) fn fill<P: PacketBuffer>(
    buffer: &mut P,
    pieces: [&[u8]; 3],
) -> Result<(), NotFragmented> {
    let length = pieces.iter().map(|piece| piece.len()).sum::<usize>();
    buffer.truncate(0);
    buffer.clear_vlan();
    if !buffer.append(length) {
        return Err(NotFragmented::NoBuffer);
    }
    let mut rest = buffer.data_mut();
    for piece in pieces {
        let Some((to, behind)) = rest.split_at_mut_checked(piece.len()) else {
            return Err(NotFragmented::NoBuffer);
        };
        to.copy_from_slice(piece);
        rest = behind;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::buffer::Frame;
    use crate::packet::builder::{PacketBuilder, verify};
    use crate::packet::{Offloads, Parsed, parse};
    use proptest::prelude::*;

    fn headers(frame: &[u8]) -> Headers {
        match parse(frame, Offloads::default()) {
            Ok(Parsed::Ip(headers)) => headers,
            other => panic!("{other:?}"),
        }
    }

    fn udp() -> PacketBuilder {
        PacketBuilder::udp(
            "10.0.1.100:52751".parse().unwrap(),
            "10.0.2.11:53".parse().unwrap(),
        )
        .id(53363)
    }

    fn buffer() -> Frame {
        Frame::with_tailroom(&[0xee; 3], 2000)
    }

    fn cut_with(
        frame: &[u8],
        mtu: u16,
        alloc: impl FnMut() -> Option<Frame>,
    ) -> Result<Vec<Vec<u8>>, NotFragmented> {
        let mut sent = Vec::new();
        let mut packet = Frame::from_bytes(frame);
        packet.set_port(3);
        let result = fragment_ipv4(
            &mut packet,
            &headers(frame),
            mtu,
            alloc,
            |fragment: Frame| {
                assert_eq!(fragment.port(), 3);
                sent.push(fragment.data().to_vec());
            },
        );
        match result {
            Ok(count) => {
                sent.insert(0, packet.data().to_vec());
                assert_eq!(count, sent.len());
                Ok(sent)
            }
            Err(reason) => {
                assert!(sent.is_empty());
                Err(reason)
            }
        }
    }

    fn cut(frame: &[u8], mtu: u16) -> Result<Vec<Vec<u8>>, NotFragmented> {
        cut_with(frame, mtu, || Some(buffer()))
    }

    fn ip_header(frame: &[u8]) -> ipv4::Header {
        let at = usize::from(headers(frame).l3);
        ipv4::Header::read(array(frame, at).unwrap())
    }

    /// Offset in bytes, more fragments, length of the datagram.
    fn shape(frame: &[u8]) -> (u16, bool, u16) {
        let header = ip_header(frame);
        (
            header.fragment_offset * 8,
            header.more_fragments,
            header.total_length,
        )
    }

    /// Puts fragments together again.
    fn reassemble(fragments: &[Vec<u8>]) -> Vec<u8> {
        let mut data = Vec::new();
        for fragment in fragments {
            assert_eq!(verify(fragment), Ok(()));
            assert_eq!(usize::from(shape(fragment).0), data.len());
            data.extend(headers(fragment).transport(fragment));
        }
        data
    }

    #[test]
    fn a_datagram_of_4000_bytes_is_cut_as_recorded() {
        let frame = udp().ttl(63).payload(vec![0x7a; 4000]).build();
        let sent = cut(&frame, 1500).unwrap();
        let shapes: Vec<_> = sent.iter().map(|frame| shape(frame)).collect();
        let recorded = [(0, true, 1500), (1480, true, 1500), (2960, false, 1068)];
        assert_eq!(shapes, recorded);
        assert!(sent.iter().all(|frame| ip_header(frame).id == 53363));
        assert_eq!(reassemble(&sent), frame[34..]);
    }

    #[test]
    fn a_packet_that_fits_only_loses_its_padding() {
        let frame = udp().dont_fragment().padding(18).build();
        let sent = cut(&frame, 28).unwrap();
        assert_eq!(sent, [&frame[..42]]);
    }

    #[test]
    fn a_fragment_is_cut_again_with_offsets_and_more_flag_kept() {
        let frame = udp().payload(vec![1; 100]).fragment(185, true).build();
        let shapes: Vec<_> = cut(&frame, 68).unwrap().iter().map(|f| shape(f)).collect();
        let expected = [(1480, true, 68), (1528, true, 68), (1576, true, 24)];
        assert_eq!(shapes, expected);
    }

    #[test]
    fn only_options_with_the_copied_flag_are_repeated() {
        // Record route (not copied), no operation, loose source route (copied), router alert (copied).
        let options = [
            7, 7, 4, 0, 0, 0, 0, 1, 0x83, 7, 8, 10, 0, 0, 9, 0x94, 4, 0, 0,
        ];
        let frame = udp().ipv4_options(&options).payload(vec![1; 200]).build();
        let sent = cut(&frame, 128).unwrap();
        assert_eq!(ip_header(&sent[0]).header_length, 40);
        assert_eq!(sent[0][34..54], frame[34..54]);
        assert_eq!(ip_header(&sent[1]).header_length, 32);
        let copied = [0x83, 7, 8, 10, 0, 0, 9, 0x94, 4, 0, 0, 0];
        assert_eq!(sent[1][34..46], copied);
        let whole = &frame[54..];
        let data = [&sent[0][54..], &sent[1][46..], &sent[2][46..]].concat();
        assert_eq!(data, whole);
        assert!(sent.iter().all(|frame| verify(frame).is_ok()));
    }

    #[test]
    fn malformed_options_end_the_walk() {
        for options in [
            &[0x83, 0, 0, 0][..],
            &[0x83, 9, 0, 0],
            &[1, 1, 1, 0x83],
            &[0x83],
        ] {
            assert_eq!(Options::copied(options).length, 0, "{options:x?}");
        }
    }

    #[test]
    fn vlan_tags_and_macs_are_on_every_fragment() {
        let frame = udp().vlan(7).vlan(8).payload(vec![1; 300]).build();
        for fragment in cut(&frame, 100).unwrap() {
            assert_eq!(fragment[..22], frame[..22]);
        }
    }

    #[test]
    fn what_may_or_can_not_be_fragmented_is_refused_whole() {
        let frame = udp().payload(vec![1; 2000]);
        let refused = |frame: &[u8], mtu| cut(frame, mtu).unwrap_err();
        let df = frame.clone().dont_fragment().build();
        assert_eq!(refused(&df, 1500), NotFragmented::DontFragment);
        let frame = frame.build();
        assert_eq!(refused(&frame, 27), NotFragmented::MtuTooSmall);
        // 2008 bytes in pieces of 24 would be 84 fragments.
        assert_eq!(refused(&frame, 44), NotFragmented::MtuTooSmall);
        let v6 = PacketBuilder::udp(
            "[fd00::1]:1".parse().unwrap(),
            "[fd00::2]:2".parse().unwrap(),
        )
        .payload(vec![1; 2000])
        .build();
        assert_eq!(refused(&v6, 1500), NotFragmented::NotIpv4);
    }

    #[test]
    fn nothing_is_sent_when_a_buffer_is_missing_or_too_short() {
        let frame = udp().payload(vec![1; 4000]).build();
        let mut left = 1;
        let sent = cut_with(&frame, 1500, || {
            left -= 1;
            (left >= 0).then(buffer)
        });
        assert_eq!(sent, Err(NotFragmented::NoBuffer));
        let sent = cut_with(&frame, 1500, || Some(Frame::with_tailroom(&[], 100)));
        assert_eq!(sent, Err(NotFragmented::NoBuffer));
    }

    proptest! {
        #[test]
        fn fragments_fit_and_reassemble_to_the_datagram(
            payload in prop::collection::vec(any::<u8>(), 0..1500),
            options in 0usize..10,
            mtu in 68u16..1600,
        ) {
            let frame = udp().ipv4_options(&vec![1; options * 4]).payload(payload).build();
            let sent = cut(&frame, mtu).unwrap();
            prop_assert!(sent.iter().all(|frame| shape(frame).2 <= mtu));
            prop_assert_eq!(reassemble(&sent), headers(&frame).transport(&frame));
        }

        #[test]
        fn no_headers_make_fragmenting_panic(
            frame in prop::collection::vec(any::<u8>(), 0..300),
            offsets in prop::array::uniform3(0u16..320),
            mtu in 0u16..200,
        ) {
            let headers = Headers {
                l3: offsets[0],
                l4: offsets[1],
                end: offsets[2],
                ..headers(&udp().build())
            };
            let mut packet = Frame::from_bytes(&frame);
            let _ = fragment_ipv4(&mut packet, &headers, mtu, || Some(buffer()), drop);
        }

        #[test]
        fn no_header_bytes_make_fragmenting_panic(
            bytes in prop::collection::vec(any::<u8>(), 46..300),
            ihl in 5u8..16,
            mtu in 0u16..200,
        ) {
            let mut frame = bytes;
            frame[14] = 0x40 | ihl;
            let headers = Headers {
                end: frame.len() as u16,
                ..headers(&udp().build())
            };
            let mut packet = Frame::from_bytes(&frame);
            let _ = fragment_ipv4(&mut packet, &headers, mtu, || Some(buffer()), drop);
        }
    }
}
