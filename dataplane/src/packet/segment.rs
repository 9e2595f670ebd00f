//! Editing a TCP segment: its numbers, and the length of its payload (RFC 9293 3.1, RFC 2018).
//!
//! Numbers are changed by RFC 1624 like everything else that forwarding changes. A segment whose
//! payload changes gets its checksum computed anew, after the old one was found right: damage must
//! not be blessed. Nothing here panics, and nothing changes if the headers are not the frame's.

use super::bytes::{array_mut, load16, store16};
use super::checksum::{Delta, Sum};
use super::{Headers, ipv4, ipv6, tcp};
use crate::address::Family;
use crate::buffer::PacketBuffer;
use crate::verdict::DropReason;

/// Where the parts of a segment are, and its numbers.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Segment {
    /// Its header without options.
    pub header: tcp::Header,
    /// Offset of the payload in the frame.
    payload: usize,
    /// One past it.
    end: usize,
}

impl Segment {
    /// Reads a segment; `None` if the packet is none.
    pub fn read(frame: &[u8], headers: &Headers) -> Option<Self> {
        if headers.protocol != crate::address::Protocol::Tcp.number() {
            return None;
        }
        let transport = headers.transport(frame);
        let header = tcp::Header::read(transport.first_chunk()?);
        let length = usize::from(header.header_length);
        let payload = usize::from(headers.l4) + length;
        (length >= tcp::LEN && transport.len() >= length).then_some(Self {
            header,
            payload,
            end: usize::from(headers.end),
        })
    }

    /// The payload.
    pub fn payload<'a>(&self, frame: &'a [u8]) -> &'a [u8] {
        frame.get(self.payload..self.end).unwrap_or_default()
    }

    /// The number of the first byte of the payload.
    pub fn payload_sequence(&self) -> u32 {
        let syn = u32::from(self.header.flags & tcp::SYN != 0);
        self.header.sequence.wrapping_add(syn)
    }

    /// Changes the numbers: the sequence number to `sequence`, and acknowledgments, selective ones
    /// too, by `acknowledgment`.
    pub fn renumber(&self, frame: &mut [u8], sequence: u32, acknowledgment: impl Fn(u32) -> u32) {
        let start = self.payload - usize::from(self.header.header_length);
        let Some(bytes) = frame.get_mut(start..self.payload) else {
            return;
        };
        let mut old = [0; 60];
        let Some(old) = old.get_mut(..bytes.len()) else {
            return;
        };
        old.copy_from_slice(bytes);
        let Some(header) = bytes.first_chunk_mut::<{ tcp::LEN }>() else {
            return;
        };
        let mut fixed = tcp::Header::read(header);
        fixed.sequence = sequence;
        if fixed.flags & tcp::ACK != 0 {
            fixed.acknowledgment = acknowledgment(fixed.acknowledgment);
        }
        fixed.write(header);
        renumber_selective(
            bytes.get_mut(tcp::LEN..).unwrap_or_default(),
            acknowledgment,
        );
        let mut delta = Delta::default();
        for (old, new) in old.chunks_exact(2).zip(bytes.chunks_exact(2)) {
            if let (&[a, b], &[c, d]) = (old, new) {
                delta = delta.word(u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]));
            }
        }
        if let Some(header) = bytes.first_chunk_mut::<{ tcp::LEN }>() {
            let checksum = delta.apply(load16(header, tcp::field::CHECKSUM));
            store16(header, tcp::field::CHECKSUM, checksum);
        }
    }

    /// Replaces `remove` bytes at `offset` of the payload by `insert`, and cuts the payload to
    /// `keep` bytes of what it was before. What is cut off takes FIN with it.
    ///
    /// # Errors
    /// [`DropReason::TransportChecksum`] if the segment is damaged, [`DropReason::NoBuffer`] if the
    /// buffer has no room; [`DropReason::TransportHeader`] if there are no such bytes. The packet is
    /// then unchanged.
    pub fn splice<P: PacketBuffer>(
        &self,
        packet: &mut P,
        headers: &mut Headers,
        keep: usize,
        (offset, remove, insert): (usize, usize, &[u8]),
    ) -> Result<(), DropReason> {
        let length = self.end - self.payload;
        if keep > length || offset + remove > keep {
            return Err(DropReason::TransportHeader);
        }
        if !checksum_over(packet.data(), headers).is_some_and(Sum::is_good) {
            return Err(DropReason::TransportChecksum);
        }
        let end = self.payload + keep;
        let new_end = end - remove + insert.len();
        let grows = new_end.saturating_sub(packet.data().len());
        if grows > 0 && !packet.append(grows) {
            return Err(DropReason::NoBuffer);
        }
        let frame = packet.data_mut();
        let at = self.payload + offset;
        frame.copy_within(at + remove..end, at + insert.len());
        if let Some(place) = frame.get_mut(at..at + insert.len()) {
            place.copy_from_slice(insert);
        }
        packet.truncate(new_end);
        headers.end = new_end as u16;
        let frame = packet.data_mut();
        let l4 = usize::from(headers.l4);
        if keep < length
            && let Some(header) = array_mut::<{ tcp::LEN }>(frame, l4)
        {
            header[tcp::field::FLAGS] &= !(tcp::FIN | tcp::PSH);
            headers.tcp_flags &= !(tcp::FIN | tcp::PSH);
        }
        set_length(frame, headers);
        if let Some(header) = array_mut::<{ tcp::LEN }>(frame, l4) {
            store16(header, tcp::field::CHECKSUM, 0);
        }
        let checksum = checksum_over(frame, headers).map_or(0, Sum::checksum);
        if let Some(header) = array_mut::<{ tcp::LEN }>(frame, l4) {
            store16(header, tcp::field::CHECKSUM, checksum);
        }
        Ok(())
    }
}

/// Changes the edges of the blocks of a selective acknowledgment.
fn renumber_selective(mut options: &mut [u8], acknowledgment: impl Fn(u32) -> u32) {
    const END: u8 = 0;
    const NOTHING: u8 = 1;
    const SELECTIVE: u8 = 5;
    loop {
        let skip = match *options {
            [NOTHING, ..] => 1,
            [END, ..] | [] | [_] => return,
            [kind, length, ..] => {
                let length = usize::from(length);
                if length < 2 || length > options.len() {
                    return;
                }
                if kind == SELECTIVE {
                    let (edges, _) = options[2..length].as_chunks_mut::<4>();
                    for edge in edges {
                        *edge = acknowledgment(u32::from_be_bytes(*edge)).to_be_bytes();
                    }
                }
                length
            }
        };
        options = &mut options[skip..];
    }
}

/// The sum over pseudo header and segment.
fn checksum_over(frame: &[u8], headers: &Headers) -> Option<Sum> {
    let l3 = usize::from(headers.l3);
    let transport = headers.transport(frame);
    let header = frame.get(l3..)?;
    let protocol = headers.protocol;
    let pseudo = match headers.family {
        Family::V4 => {
            let addresses = header.get(ipv4::field::SOURCE..)?.first_chunk()?;
            Sum::pseudo_v4(addresses, protocol, transport.len() as u16)
        }
        Family::V6 => {
            let addresses = header.get(ipv6::field::SOURCE..)?.first_chunk()?;
            Sum::pseudo_v6(addresses, protocol, transport.len() as u32)
        }
    };
    Some(pseudo.bytes(transport))
}

/// Makes the IP header tell the length the packet has.
fn set_length(frame: &mut [u8], headers: &Headers) {
    let l3 = usize::from(headers.l3);
    match headers.family {
        Family::V4 => {
            if let Some(header) = array_mut::<{ ipv4::LEN }>(frame, l3) {
                let old = load16(header, ipv4::field::TOTAL_LENGTH);
                let new = headers.ip_length() as u16;
                let checksum = load16(header, ipv4::field::CHECKSUM);
                store16(header, ipv4::field::TOTAL_LENGTH, new);
                let checksum = Delta::default().word(old, new).apply(checksum);
                store16(header, ipv4::field::CHECKSUM, checksum);
            }
        }
        Family::V6 => {
            if let Some(header) = array_mut::<{ ipv6::LEN }>(frame, l3) {
                let length = headers.ip_length().saturating_sub(ipv6::LEN);
                store16(header, ipv6::field::PAYLOAD_LENGTH, length as u16);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::builder::{PacketBuilder, verify};
    use super::super::{Offloads, Parsed, parse};
    use super::*;
    use crate::buffer::Frame;
    use proptest::prelude::*;

    fn parsed(frame: &[u8]) -> Headers {
        match parse(frame, Offloads::default()) {
            Ok(Parsed::Ip(headers)) => headers,
            other => panic!("{other:?}"),
        }
    }

    fn builder(v6: bool) -> PacketBuilder {
        let (source, destination) = if v6 {
            ("[fd00::11]:21", "[fd00::100]:40000")
        } else {
            ("10.0.2.11:21", "10.0.1.100:40000")
        };
        PacketBuilder::tcp(source.parse().unwrap(), destination.parse().unwrap())
    }

    #[test]
    fn numbers_change_with_selective_acknowledgments_at_odd_places() {
        for v6 in [false, true] {
            let sack = |a: u32, b: u32| {
                let mut options = vec![1, 1, 1, 5, 10];
                options.extend_from_slice(&a.to_be_bytes());
                options.extend_from_slice(&b.to_be_bytes());
                options.resize(16, 0);
                options
            };
            let bytes = builder(v6)
                .tcp_options(&sack(5000, 6000))
                .sequence(100, 4000)
                .payload("x")
                .build();
            let mut frame = Frame::from_bytes(&bytes);
            let headers = parsed(&bytes);
            let segment = Segment::read(&bytes, &headers).unwrap();
            segment.renumber(frame.data_mut(), 109, |number| number - 9);
            let expected = builder(v6)
                .tcp_options(&sack(4991, 5991))
                .sequence(109, 3991)
                .payload("x")
                .build();
            assert_eq!(frame.data(), expected);
        }
    }

    #[test]
    fn what_is_cut_off_takes_fin_with_it() {
        let bytes = builder(false)
            .flags(tcp::ACK | tcp::PSH | tcp::FIN)
            .payload("226 done")
            .build();
        let mut frame = Frame::from_bytes(&bytes);
        let mut headers = parsed(&bytes);
        let segment = Segment::read(&bytes, &headers).unwrap();
        assert_eq!(
            segment.splice(&mut frame, &mut headers, 3, (0, 0, b"")),
            Ok(())
        );
        assert_eq!(frame.data(), builder(false).payload("226").build());
    }

    #[test]
    fn a_damaged_segment_is_not_mended() {
        let mut bytes = builder(false).payload("227 (10,0,2,11,1,1)").build();
        *bytes.last_mut().unwrap() ^= 1;
        let mut frame = Frame::from_bytes(&bytes);
        let mut headers = parsed(&bytes);
        let segment = Segment::read(&bytes, &headers).unwrap();
        assert_eq!(
            segment.splice(&mut frame, &mut headers, 19, (5, 9, b"1,1,1,1")),
            Err(DropReason::TransportChecksum)
        );
        assert_eq!(frame.data(), bytes);
    }

    proptest! {
        #[test]
        fn a_spliced_segment_is_the_one_that_would_have_been_built(
            v6: bool,
            payload in "[ -~]{0,60}",
            cut in 0_usize..60,
            offset in 0_usize..60,
            remove in 0_usize..60,
            insert in "[0-9,]{0,15}",
            tailroom in 0_usize..32,
        ) {
            let keep = cut.min(payload.len());
            let offset = offset.min(keep);
            let remove = remove.min(keep - offset);
            let bytes = builder(v6).payload(payload.as_str()).build();
            let mut frame = Frame::with_tailroom(&bytes, tailroom);
            let mut headers = parsed(&bytes);
            let segment = Segment::read(&bytes, &headers).unwrap();
            let result = segment.splice(
                &mut frame,
                &mut headers,
                keep,
                (offset, remove, insert.as_bytes()),
            );
            let mut expected = payload[..keep].to_owned();
            expected.replace_range(offset..offset + remove, &insert);
            let grows = expected.len().saturating_sub(payload.len());
            if grows > tailroom {
                prop_assert_eq!(result, Err(DropReason::NoBuffer));
                prop_assert_eq!(frame.data(), &bytes[..]);
            } else {
                prop_assert_eq!(result, Ok(()));
                prop_assert_eq!(frame.data(), &builder(v6).payload(expected.as_str()).build()[..]);
                prop_assert_eq!(verify(frame.data()), Ok(()));
                prop_assert_eq!(headers, parsed(frame.data()));
            }
        }

        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200), number: u32) {
            if let Ok(Parsed::Ip(mut headers)) = parse(&bytes, Offloads::default())
                && let Some(segment) = Segment::read(&bytes, &headers)
            {
                let mut frame = Frame::from_bytes(&bytes);
                segment.renumber(frame.data_mut(), number, |n| n ^ 1);
                let _ = segment.splice(&mut frame, &mut headers, 1, (0, 1, b"ab"));
            }
        }
    }
}
