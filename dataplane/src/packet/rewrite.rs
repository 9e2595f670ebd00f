//! What forwarding changes in a packet, in place: MAC addresses, VLAN tags, TTL, addresses and ports.
//!
//! Checksums are updated by RFC 1624 and never computed again, so data damaged before it came here
//! still arrives with a wrong checksum. Functions that take [`Headers`] change nothing at all
//! if these do not fit the frame.

use super::bytes::{array_mut, load, load16, store, store16};
use super::checksum::Delta;
use super::sctp::Crc32c;
use super::vlan::{self, Tag};
use super::{Fragment, Headers, MacAddress, ethernet, icmpv6, ipv4, ipv6, sctp, tcp, udp};
use crate::address::{Address, Endpoint, Family, Protocol};
use crate::buffer::PacketBuffer;
use crate::verdict::DropReason;
use std::net::IpAddr;

/// Sets the MAC addresses.
#[inline]
pub fn set_link(frame: &mut [u8], destination: MacAddress, source: MacAddress) {
    if let Some(addresses) = frame.first_chunk_mut::<{ 2 * MAC }>() {
        store(addresses, 0, destination.0);
        store(addresses, MAC, source.0);
    }
}

/// Takes one off TTL or hop limit; zero stays zero. `headers.ttl` remains as received.
#[inline]
pub fn decrement_ttl(frame: &mut [u8], headers: &Headers) {
    let l3 = usize::from(headers.l3);
    match headers.family {
        Family::V4 => {
            if let Some(header) = array_mut::<{ ipv4::LEN }>(frame, l3)
                && header[ipv4::field::TTL] > 0
            {
                let old = load16(header, ipv4::field::TTL);
                let new = old - 0x100;
                let checksum = load16(header, ipv4::field::CHECKSUM);
                store16(header, ipv4::field::TTL, new);
                store16(
                    header,
                    ipv4::field::CHECKSUM,
                    Delta::default().word(old, new).apply(checksum),
                );
            }
        }
        Family::V6 => {
            if let Some(header) = array_mut::<{ ipv6::LEN }>(frame, l3) {
                let limit = &mut header[ipv6::field::HOP_LIMIT];
                *limit = limit.saturating_sub(1);
            }
        }
    }
}

/// Sets the destination address and, where the packet has ports, the destination port.
///
/// # Errors
/// [`DropReason::Fragment`] if the port of a fragmented SCTP packet would change, whose checksum
/// covers the missing fragments; [`DropReason::TransportHeader`] if `headers` are not this frame's or
/// of another family than `A`. The frame is then unchanged.
#[inline]
pub fn translate_destination<A: Address>(
    frame: &mut [u8],
    headers: &Headers,
    to: Endpoint<A>,
) -> Result<(), DropReason> {
    translate(frame, headers, Side::Destination, to)
}

/// Sets the source address and, where the packet has ports, the source port.
///
/// # Errors
/// As [`translate_destination`].
#[inline]
pub fn translate_source<A: Address>(
    frame: &mut [u8],
    headers: &Headers,
    to: Endpoint<A>,
) -> Result<(), DropReason> {
    translate(frame, headers, Side::Source, to)
}

/// Takes the outermost VLAN tag out of the frame and moves `headers` with it. `None` and nothing
/// changed if there is none in the frame.
pub fn strip_vlan<P: PacketBuffer>(packet: &mut P, headers: &mut Headers) -> Option<Tag> {
    let frame = packet.data_mut();
    let tag: [u8; vlan::LEN] = *frame.get(2 * MAC..)?.first_chunk()?;
    let tag = Tag::read(&tag);
    // The EtherType behind the tag must be there, too.
    if !vlan::is_tag(tag.tpid) || frame.len() < ethernet::LEN + vlan::LEN {
        return None;
    }
    frame.copy_within(..2 * MAC, vlan::LEN);
    packet.trim_front(vlan::LEN);
    for offset in [&mut headers.l3, &mut headers.l4, &mut headers.end] {
        *offset = offset.saturating_sub(vlan::LEN as u16);
    }
    let inner = headers.inner_vlan.take();
    if tag.id != 0 && !outside_frame(packet) {
        headers.vlan = inner;
    }
    Some(tag)
}

/// Puts a VLAN tag in front of what follows the MAC addresses and moves `headers` with it. A tag that
/// the device took out, and the buffer still remembers, is replaced by it: pushing the same one puts it
/// back. `false` and nothing changed if the buffer has no room for it.
#[must_use]
pub fn push_vlan<P: PacketBuffer>(packet: &mut P, headers: &mut Headers, tag: Tag) -> bool {
    if packet.data().len() < ethernet::LEN
        || headers.end.checked_add(vlan::LEN as u16).is_none()
        || !packet.prepend(vlan::LEN)
    {
        return false;
    }
    let frame = packet.data_mut();
    frame.copy_within(vlan::LEN..vlan::LEN + 2 * MAC, 0);
    if let Some(bytes) = array_mut(frame, 2 * MAC) {
        tag.write(bytes);
    }
    for offset in [&mut headers.l3, &mut headers.l4, &mut headers.end] {
        *offset = offset.saturating_add(vlan::LEN as u16);
    }
    if outside_frame(packet) {
        headers.vlan = headers.inner_vlan.take();
    }
    packet.clear_vlan();
    if tag.id != 0 {
        headers.inner_vlan = headers.vlan.replace(tag.id);
    }
    true
}

/// Whether the outermost VLAN of the packet is in a tag that the device took out.
fn outside_frame<P: PacketBuffer>(packet: &P) -> bool {
    packet
        .vlan()
        .is_some_and(|control| control & vlan::RESERVED != 0)
}

const MAC: usize = 6;

/// The end of the flow that is rewritten.
#[derive(Clone, Copy)]
enum Side {
    Source,
    Destination,
}

#[inline]
fn translate<A: Address>(
    frame: &mut [u8],
    headers: &Headers,
    side: Side,
    to: Endpoint<A>,
) -> Result<(), DropReason> {
    let (l3, l4, end) = (
        usize::from(headers.l3),
        usize::from(headers.l4),
        usize::from(headers.end),
    );
    let (ip, transport) = frame
        .get_mut(l3..end)
        .and_then(|datagram| datagram.split_at_mut_checked(l4.checked_sub(l3)?))
        .ok_or(DropReason::TransportHeader)?;
    // `A` is known, so one arm is left of this match.
    match (to.address.into(), headers.family) {
        (IpAddr::V4(address), Family::V4) => {
            let ip: &mut [u8; ipv4::LEN] =
                ip.first_chunk_mut().ok_or(DropReason::TransportHeader)?;
            let at = match side {
                Side::Source => ipv4::field::SOURCE,
                Side::Destination => ipv4::field::DESTINATION,
            };
            let new = address.octets();
            let address = Delta::default().bytes(&load(ip, at), &new);
            set_port(transport, headers, side, to.port, address)?;
            store(ip, at, new);
            let checksum = load16(ip, ipv4::field::CHECKSUM);
            store16(ip, ipv4::field::CHECKSUM, address.apply(checksum));
            Ok(())
        }
        (IpAddr::V6(address), Family::V6) => {
            let ip: &mut [u8; ipv6::LEN] =
                ip.first_chunk_mut().ok_or(DropReason::TransportHeader)?;
            let at = match side {
                Side::Source => ipv6::field::SOURCE,
                Side::Destination => ipv6::field::DESTINATION,
            };
            let new = address.octets();
            let address = Delta::default().bytes(&load(ip, at), &new);
            set_port(transport, headers, side, to.port, address)?;
            store(ip, at, new);
            Ok(())
        }
        _ => Err(DropReason::TransportHeader),
    }
}

impl Side {
    /// Picks the offset of this side's field.
    #[inline]
    fn of(self, source: usize, destination: usize) -> usize {
        match self {
            Self::Source => source,
            Self::Destination => destination,
        }
    }
}

/// Sets the port at the start of `transport` and corrects the checksum for it and for the address.
#[inline]
fn set_port(
    transport: &mut [u8],
    headers: &Headers,
    side: Side,
    port: u16,
    address: Delta,
) -> Result<(), DropReason> {
    const TCP: u8 = Protocol::Tcp as u8;
    const UDP: u8 = Protocol::Udp as u8;
    const SCTP: u8 = Protocol::Sctp as u8;
    const BAD: DropReason = DropReason::TransportHeader;

    if headers.fragment == Fragment::Later {
        return Ok(());
    }
    match headers.protocol {
        TCP => {
            let header: &mut [u8; tcp::LEN] = transport.first_chunk_mut().ok_or(BAD)?;
            let at = side.of(tcp::field::SOURCE_PORT, tcp::field::DESTINATION_PORT);
            let delta = address.word(load16(header, at), port);
            let checksum = delta.apply(load16(header, tcp::field::CHECKSUM));
            store16(header, at, port);
            store16(header, tcp::field::CHECKSUM, checksum);
        }
        UDP => {
            let header: &mut [u8; udp::LEN] = transport.first_chunk_mut().ok_or(BAD)?;
            let at = side.of(udp::field::SOURCE_PORT, udp::field::DESTINATION_PORT);
            let delta = address.word(load16(header, at), port);
            let checksum = delta.apply_udp(load16(header, udp::field::CHECKSUM));
            store16(header, at, port);
            store16(header, udp::field::CHECKSUM, checksum);
        }
        SCTP => {
            let length = transport.len();
            let header: &mut [u8; sctp::LEN] = transport.first_chunk_mut().ok_or(BAD)?;
            let at = side.of(sctp::field::SOURCE_PORT, sctp::field::DESTINATION_PORT);
            if load16(header, at) == port {
                // The checksum does not cover the addresses.
                return Ok(());
            }
            if headers.fragment != Fragment::Whole {
                return Err(DropReason::Fragment);
            }
            let old: [u8; 4] = load(header, sctp::field::SOURCE_PORT);
            store16(header, at, port);
            let new: [u8; 4] = load(header, sctp::field::SOURCE_PORT);
            let difference = std::array::from_fn(|byte| old[byte] ^ new[byte]);
            let change = Crc32c::shifted(difference, length - difference.len());
            let checksum = u32::from_le_bytes(load(header, sctp::field::CHECKSUM)) ^ change;
            store(header, sctp::field::CHECKSUM, checksum.to_le_bytes());
        }
        ipv6::ICMPV6 if headers.family == Family::V6 => {
            let header: &mut [u8; icmpv6::LEN] = transport.first_chunk_mut().ok_or(BAD)?;
            let checksum = address.apply(load16(header, icmpv6::field::CHECKSUM));
            store16(header, icmpv6::field::CHECKSUM, checksum);
        }
        _ => {}
    }
    Ok(())
}

#[cfg(test)]
mod tests;
