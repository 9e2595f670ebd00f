//! The packet that an ICMP error quotes: whose it was, and how to translate it back.
//!
//! RFC 792 promises eight bytes behind the quoted IP header, enough for the ports; RFC 1812 4.3.2.3
//! and RFC 4443 2.4 (c) ask for more. A quote may end anywhere behind the ports, whatever its own
//! length fields say, and another part may follow it (RFC 4884). Nothing in a quote is believed but
//! its addresses and ports: routers on the way may have changed the rest.
//!
//! [`translate`] makes of the quote what its receiver had sent (RFC 5508 4.2): address, port, the
//! quoted IP header checksum and, if it is there, the quoted transport checksum, incrementally; then
//! the checksum of the error in full, so verify that before ([`checksum_is_good`]).

use super::bytes::{array, array_mut, load, load16, store, store16};
use super::checksum::{Delta, Sum};
use super::{Fragment, Headers, icmpv4, icmpv6, ipv4, ipv6, rewrite, tcp, udp};
use crate::address::{Address, Endpoint, Family, FiveTuple, Protocol};
use crate::connection::Direction;
use crate::verdict::DropReason;
use std::net::IpAddr;

/// A quoted packet of a protocol that services balance.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Quoted<A> {
    /// Protocol, addresses, ports as quoted.
    pub tuple: FiveTuple<A>,
    /// Offset of the quoted IP header in the frame.
    l3: u16,
    /// Offset of the quoted transport header in the frame.
    l4: u16,
    /// Offset one past the quote.
    end: u16,
}

/// Whether the packet is an ICMP error that may be about a connection: in IPv4 unreachable, source
/// quench and time exceeded, in IPv6 every error.
#[inline]
pub fn is_related(frame: &[u8], headers: &Headers) -> bool {
    headers.fragment == Fragment::Whole
        && headers
            .icmp(frame)
            .is_some_and(|(kind, _)| match headers.family {
                Family::V4 => matches!(
                    kind,
                    icmpv4::UNREACHABLE | icmpv4::SOURCE_QUENCH | icmpv4::TIME_EXCEEDED
                ),
                Family::V6 => icmpv6::is_error(kind),
            })
}

/// Whether the checksum of the ICMP message is right.
pub fn checksum_is_good(frame: &[u8], headers: &Headers) -> bool {
    // Fuzzers could never get past a checksum.
    cfg!(fuzzing) || sum(frame, headers).is_some_and(|sum| sum.checksum() == 0)
}

impl<A: Address> Quoted<A> {
    /// Reads what the ICMP error in `frame` quotes, if it is a packet of family `A` with ports, and
    /// they are there.
    pub fn read(frame: &[u8], headers: &Headers) -> Option<Self> {
        if headers.family != A::FAMILY {
            return None;
        }
        let l3 = usize::from(headers.l4) + icmpv4::LEN;
        let message_end = usize::from(headers.end);
        let (protocol, l4, length) = match A::FAMILY {
            Family::V4 => {
                let header = ipv4::Header::read(array(frame, l3)?);
                let header_length = usize::from(header.header_length);
                if header.version != 4
                    || header_length < ipv4::LEN
                    || usize::from(header.total_length) < header_length
                    || header.fragment_offset != 0
                {
                    return None;
                }
                let length = usize::from(header.total_length);
                (header.protocol, l3 + header_length, length)
            }
            Family::V6 => {
                let header = ipv6::Header::read(array(frame, l3)?);
                let start = l3 + ipv6::LEN;
                let payload = frame.get(start..message_end)?;
                let found = ipv6::transport(header.next_header, payload).ok()?;
                if header.version != 6 || found.fragment.is_some_and(|part| part.offset != 0) {
                    return None;
                }
                let length = ipv6::LEN + usize::from(header.payload_length);
                (found.protocol, start + found.offset, length)
            }
        };
        let end = message_end.min(l3 + length);
        let protocol = Protocol::from_number(protocol)?;
        let ports: &[u8; 4] = frame.get(l4..end)?.first_chunk()?;
        let address = |skip: usize| {
            let at = l3
                + skip
                + match A::FAMILY {
                    Family::V4 => ipv4::field::SOURCE,
                    Family::V6 => ipv6::field::SOURCE,
                };
            A::from_wire(frame.get(at..at + A::LEN)?)
        };
        Some(Self {
            tuple: FiveTuple {
                protocol,
                source: Endpoint::new(address(0)?, load16(ports, 0)),
                destination: Endpoint::new(address(A::LEN)?, load16(ports, 2)),
            },
            l3: u16::try_from(l3).ok()?,
            l4: u16::try_from(l4).ok()?,
            end: u16::try_from(end).ok()?,
        })
    }
}

/// Translates an ICMP error that travels in `direction`: towards the server (`Input`) the error and
/// the reply it quotes get the server's endpoint `to` for the VIP, towards the client (`Output`) the
/// error and the request it quotes the VIP's for the server.
///
/// # Errors
/// [`DropReason::TransportHeader`] if `headers` or `quoted` are not this frame's; of the frame only
/// the outer address may have changed then.
pub fn translate<A: Address>(
    frame: &mut [u8],
    headers: &Headers,
    quoted: &Quoted<A>,
    direction: Direction,
    to: Endpoint<A>,
) -> Result<(), DropReason> {
    const BAD: DropReason = DropReason::TransportHeader;
    // ICMP has no ports.
    let outer = Endpoint::new(to.address, 0);
    match direction {
        Direction::Input => rewrite::translate_destination(frame, headers, outer)?,
        Direction::Output => rewrite::translate_source(frame, headers, outer)?,
    }
    quoted.translate(frame, direction, to).ok_or(BAD)?;
    let at = usize::from(headers.l4);
    store16(
        array_mut::<{ icmpv4::LEN }>(frame, at).ok_or(BAD)?,
        icmpv4::field::CHECKSUM,
        0,
    );
    let checksum = sum(frame, headers).ok_or(BAD)?.checksum();
    store16(
        array_mut::<{ icmpv4::LEN }>(frame, at).ok_or(BAD)?,
        icmpv4::field::CHECKSUM,
        checksum,
    );
    Ok(())
}

impl<A: Address> Quoted<A> {
    fn translate(&self, frame: &mut [u8], direction: Direction, to: Endpoint<A>) -> Option<()> {
        let (l3, l4) = (usize::from(self.l3), usize::from(self.l4));
        // The sender of the quoted packet is who gets the error.
        let (v4, v6, port) = match direction {
            Direction::Input => (ipv4::field::SOURCE, ipv6::field::SOURCE, 0),
            Direction::Output => (ipv4::field::DESTINATION, ipv6::field::DESTINATION, 2),
        };
        let delta = match to.address.into() {
            IpAddr::V4(address) => {
                let header: &mut [u8; ipv4::LEN] = array_mut(frame, l3)?;
                let new = address.octets();
                let delta = Delta::default().bytes(&load(header, v4), &new);
                store(header, v4, new);
                let checksum = load16(header, ipv4::field::CHECKSUM);
                store16(header, ipv4::field::CHECKSUM, delta.apply(checksum));
                delta
            }
            IpAddr::V6(address) => {
                let header: &mut [u8; ipv6::LEN] = array_mut(frame, l3)?;
                let new = address.octets();
                let delta = Delta::default().bytes(&load(header, v6), &new);
                store(header, v6, new);
                delta
            }
        };
        let transport = frame.get_mut(l4..usize::from(self.end))?;
        let ports: &mut [u8; 4] = transport.first_chunk_mut()?;
        let delta = delta.word(load16(ports, port), to.port);
        store16(ports, port, to.port);
        match self.tuple.protocol {
            Protocol::Tcp => {
                if let Some(bytes) = array_mut::<2>(transport, tcp::field::CHECKSUM) {
                    let checksum = delta.apply(load16(bytes, 0));
                    store16(bytes, 0, checksum);
                }
            }
            Protocol::Udp => {
                if let Some(bytes) = array_mut::<2>(transport, udp::field::CHECKSUM) {
                    let checksum = delta.apply_udp(load16(bytes, 0));
                    store16(bytes, 0, checksum);
                }
            }
            // Covers the whole packet, of which only a part is here; nobody looks at it.
            Protocol::Sctp => {}
        }
        Some(())
    }
}

/// The sum that the ICMP checksum makes good.
fn sum(frame: &[u8], headers: &Headers) -> Option<Sum> {
    let message = headers.transport(frame);
    let sum = match headers.family {
        Family::V4 => Sum::default(),
        Family::V6 => {
            let at = usize::from(headers.l3) + ipv6::field::SOURCE;
            let addresses: &[u8; 32] = array(frame, at)?;
            Sum::pseudo_v6(addresses, ipv6::ICMPV6, message.len() as u32)
        }
    };
    (message.len() >= icmpv4::LEN).then(|| sum.bytes(message))
}

#[cfg(test)]
mod tests;
