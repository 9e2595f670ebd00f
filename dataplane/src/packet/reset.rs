//! TCP resets, made of the segment they answer, in place (RFC 9293 3.10.7.1).
//!
//! Used when a client must learn that its connection is gone (`on_real_removed = reset`).

use super::bytes::{array, array_mut, load, store, store16};
use super::checksum::Sum;
use super::icmp_error::{NotSent, swap_macs};
use super::{Fragment, Headers, ipv4, ipv6, tcp};
use crate::address::{Family, Protocol};
use crate::buffer::PacketBuffer;

const TTL: u8 = 64;

/// Turns `packet`, a TCP segment, into the reset its sender would get from the connection's other
/// end, with MAC addresses swapped so that it goes back where the segment came from.
///
/// # Errors
/// [`NotSent::IcmpError`] if the segment is a reset itself, [`NotSent::LaterFragment`] if it is
/// fragmented, [`NotSent::Mismatch`] if it is not TCP or `headers` are not its. The packet is then
/// unchanged.
pub fn build<P: PacketBuffer>(packet: &mut P, headers: &Headers) -> Result<(), NotSent> {
    if headers.protocol != Protocol::Tcp.number() {
        return Err(NotSent::Mismatch);
    }
    if headers.fragment != Fragment::Whole {
        return Err(NotSent::LaterFragment);
    }
    if headers.tcp_flags & tcp::RST != 0 {
        return Err(NotSent::IcmpError);
    }
    let (l3, l4) = (usize::from(headers.l3), usize::from(headers.l4));
    let frame = packet.data();
    let segment = tcp::Header::read(array(frame, l4).ok_or(NotSent::Mismatch)?);
    let data = usize::from(headers.end)
        .checked_sub(l4 + usize::from(segment.header_length))
        .ok_or(NotSent::Mismatch)?;
    let reset = if segment.flags & tcp::ACK != 0 {
        tcp::Header {
            sequence: segment.acknowledgment,
            acknowledgment: 0,
            flags: tcp::RST,
            ..segment
        }
    } else {
        let in_sequence_space = u32::from(segment.flags & tcp::SYN != 0)
            + u32::from(segment.flags & tcp::FIN != 0)
            + data as u32;
        tcp::Header {
            sequence: 0,
            acknowledgment: segment.sequence.wrapping_add(in_sequence_space),
            flags: tcp::RST | tcp::ACK,
            ..segment
        }
    };
    let reset = tcp::Header {
        source_port: segment.destination_port,
        destination_port: segment.source_port,
        header_length: tcp::LEN as u8,
        window: 0,
        checksum: 0,
        urgent: 0,
        ..reset
    };
    let mut bytes = [0; tcp::LEN];
    reset.write(&mut bytes);
    let end = l4 + tcp::LEN;
    packet.truncate(end);
    let frame = packet.data_mut();
    match headers.family {
        Family::V4 => {
            let header: &mut [u8; ipv4::LEN] = array_mut(frame, l3).ok_or(NotSent::Mismatch)?;
            let mut addresses: [u8; 8] = load(header, ipv4::field::SOURCE);
            addresses.rotate_left(4);
            store(header, ipv4::field::SOURCE, addresses);
            store16(header, ipv4::field::TOTAL_LENGTH, (end - l3) as u16);
            header[ipv4::field::TTL] = TTL;
            let sum = Sum::pseudo_v4(&addresses, headers.protocol, tcp::LEN as u16).bytes(&bytes);
            store16(&mut bytes, tcp::field::CHECKSUM, sum.checksum());
            if let Some(header) = frame.get_mut(l3..l4) {
                ipv4::fill_checksum(header);
            }
        }
        Family::V6 => {
            let header: &mut [u8; ipv6::LEN] = array_mut(frame, l3).ok_or(NotSent::Mismatch)?;
            let mut addresses: [u8; 32] = load(header, ipv6::field::SOURCE);
            addresses.rotate_left(16);
            store(header, ipv6::field::SOURCE, addresses);
            let payload = (end - l3 - ipv6::LEN) as u16;
            store16(header, ipv6::field::PAYLOAD_LENGTH, payload);
            header[ipv6::field::HOP_LIMIT] = TTL;
            let sum = Sum::pseudo_v6(&addresses, headers.protocol, tcp::LEN as u32).bytes(&bytes);
            store16(&mut bytes, tcp::field::CHECKSUM, sum.checksum());
        }
    }
    if let Some(segment) = frame.get_mut(l4..end) {
        segment.copy_from_slice(&bytes);
    }
    swap_macs(frame);
    Ok(())
}


#[cfg(test)]
mod tests {
    use super::*;
    use crate::buffer::Frame;
    use crate::packet::builder::{PacketBuilder, verify};
    use crate::packet::{Offloads, Parsed, parse};
    use std::net::SocketAddr;

    fn answer(builder: &PacketBuilder) -> Result<tcp::Header, NotSent> {
        let bytes = builder.build();
        let Ok(Parsed::Ip(headers)) = parse(&bytes, Offloads::default()) else {
            panic!("the builder makes legal packets");
        };
        let mut frame = Frame::from_bytes(&bytes);
        build(&mut frame, &headers)?;
        verify(frame.data()).unwrap();
        let Ok(Parsed::Ip(headers)) = parse(frame.data(), Offloads::default()) else {
            panic!("the reset is legal");
        };
        let segment = array(frame.data(), usize::from(headers.l4)).unwrap();
        Ok(tcp::Header::read(segment))
    }

    fn segment(client: &str, vip: &str) -> PacketBuilder {
        let at = |text: &str| text.parse::<SocketAddr>().unwrap();
        PacketBuilder::tcp(at(client), at(vip)).sequence(1000, 77)
    }

    #[test]
    fn a_segment_with_ack_is_reset_at_the_number_it_acknowledges() {
        for (client, vip) in [
            ("10.0.1.100:4000", "10.0.1.50:80"),
            ("[fd00::1]:4000", "[fd00::50]:80"),
        ] {
            let reset = answer(&segment(client, vip).flags(tcp::ACK | tcp::PSH).payload(*b"hello"));
            let reset = reset.unwrap();
            assert_eq!((reset.flags, reset.sequence), (tcp::RST, 77));
            assert_eq!((reset.source_port, reset.destination_port), (80, 4000));
        }
    }

    #[test]
    fn a_segment_without_ack_is_acknowledged_in_full() {
        let syn = segment("10.0.1.100:4000", "10.0.1.50:80").flags(tcp::SYN);
        let reset = answer(&syn).unwrap();
        assert_eq!(reset.flags, tcp::RST | tcp::ACK);
        assert_eq!((reset.sequence, reset.acknowledgment), (0, 1001));
    }

    #[test]
    fn resets_and_datagrams_are_not_answered() {
        let reset = segment("10.0.1.100:4000", "10.0.1.50:80").flags(tcp::RST);
        assert_eq!(answer(&reset), Err(NotSent::IcmpError));
        let at = |text: &str| text.parse::<SocketAddr>().unwrap();
        let udp = PacketBuilder::udp(at("10.0.1.100:1"), at("10.0.1.50:2"));
        assert_eq!(answer(&udp), Err(NotSent::Mismatch));
    }
}
