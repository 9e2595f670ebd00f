//! Tunnels to real servers: what is put before a client's packet (spec 2.4).
//!
//! ```text
//!  ipip  | IP (4 or 41) | the client's packet
//!  gre   | IP (47) | flags, protocol type | checksum, 0 | the client's packet      RFC 2784
//!  gue   | IP (17) | UDP | 0, protocol, 0 | the client's packet                    GUE version 0
//! ```
//!
//! Inner and outer family are independent of each other. The outer header takes after the inner one,
//! which has its hop taken off already: the same TTL, the same type of service except that a
//! congestion mark does not leave as one (RFC 3168 9.1.1, full functionality), DF if asked for. The
//! client's packet is not changed by a bit.

use super::bytes::{array, array_mut, load, store16};
use super::checksum::Sum;
use super::{Fragment, Headers, ethernet, ipv4, ipv6, udp};
use crate::address::{Family, Protocol};
use crate::buffer::PacketBuffer;
use crate::service::{Tunnel, TunnelKind};
use crate::verdict::DropReason;
use std::net::IpAddr;

/// Protocol number of IPv4 in IP.
pub const IPV4: u8 = 4;
/// Protocol number of IPv6 in IP.
pub const IPV6: u8 = 41;
/// Protocol number of GRE.
pub const GRE: u8 = 47;

/// The flag of a GRE header that has a checksum.
pub(crate) const GRE_CHECKSUM: u16 = 0x8000;
const GRE_LEN: usize = 4;
const GUE_LEN: usize = 4;

/// The first source port of GUE, and the first after the last: Linux's ephemeral range.
const SOURCE_PORTS: (u16, u16) = (32_768, 60_999);

/// What an outer header consists of besides what it takes over from the inner one.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Outer {
    /// The encapsulation.
    pub tunnel: Tunnel,
    /// This box.
    pub source: IpAddr,
    /// The real server, of the same family.
    pub destination: IpAddr,
    /// UDP source port (GUE), the same for all packets of a flow: [`source_port`].
    pub source_port: u16,
    /// DF is taken over from the inner header; else it is clear, so that routers may fragment.
    pub copy_dont_fragment: bool,
    /// IPv4 identification of a packet that may be fragmented; one with DF has 0.
    pub id: u16,
}

/// Bytes that the tunnel adds to each packet over an outer header of this family.
#[inline]
pub const fn overhead(tunnel: Tunnel, outer: Family) -> u16 {
    (ip_header(outer) + shim(tunnel)) as u16
}

/// The source port of a flow with this hash, in Linux's ephemeral range.
#[inline]
pub fn source_port(hash: u32) -> u16 {
    let (first, end) = SOURCE_PORTS;
    let room = u64::from(end - first);
    first + ((u64::from(hash) * room) >> 32) as u16
}

/// Puts the packet into a tunnel and returns the headers of the outer packet. The link header stays
/// as it is, except for the EtherType. The inner packet must have lost its hop before.
///
/// # Errors
/// Why the packet is to be dropped, unchanged: [`DropReason::NoBuffer`] without headroom,
/// [`DropReason::TooBig`] if no length field can say how long it would be,
/// [`DropReason::TransportHeader`] if `headers` are not this packet's.
#[inline]
pub fn encapsulate<P: PacketBuffer>(
    packet: &mut P,
    headers: &Headers,
    outer: &Outer,
) -> Result<Headers, DropReason> {
    const BAD: DropReason = DropReason::TransportHeader;
    let family = Family::of(outer.destination);
    let (l3, end) = (usize::from(headers.l3), usize::from(headers.end));
    let frame = packet.data();
    if l3 < ethernet::LEN || end != frame.len() || Family::of(outer.source) != family {
        return Err(BAD);
    }
    let inner = Inner::read(frame, headers).ok_or(BAD)?;
    let added = overhead(outer.tunnel, family);
    let new_end = headers.end.checked_add(added).ok_or(DropReason::TooBig)?;
    let dont_fragment = inner.dont_fragment && outer.copy_dont_fragment;
    let added = usize::from(added);
    if !packet.prepend(added) {
        return Err(DropReason::NoBuffer);
    }
    let frame = packet.data_mut();
    // The link header moves to the new front; what it leaves behind is room for the new headers.
    frame.copy_within(added..added + l3, 0);
    if let Some(ether_type) = array_mut::<2>(frame, l3 - 2) {
        store16(
            ether_type,
            0,
            match family {
                Family::V4 => ethernet::IPV4,
                Family::V6 => ethernet::IPV6,
            },
        );
    }
    let protocol = match outer.tunnel.kind {
        TunnelKind::Ipip => inner.protocol(),
        TunnelKind::Gre => GRE,
        TunnelKind::Gue(_) => Protocol::Udp.number(),
    };
    let datagram = frame.get_mut(l3..).ok_or(BAD)?;
    match (outer.source, outer.destination) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            let total_length = datagram.len() as u16;
            let (ip, payload) = datagram.split_first_chunk_mut().ok_or(BAD)?;
            ipv4::Header {
                version: 4,
                header_length: ipv4::LEN as u8,
                tos: inner.outer_tos(),
                total_length,
                id: if dont_fragment { 0 } else { outer.id },
                dont_fragment,
                more_fragments: false,
                fragment_offset: 0,
                ttl: inner.ttl,
                protocol,
                source,
                destination,
            }
            .write(ip);
            let addresses: [u8; 8] = load(ip, ipv4::field::SOURCE);
            let length = payload.len() as u16;
            write_shim(outer, inner.family, payload, || {
                Sum::pseudo_v4(&addresses, protocol, length)
            })
            .ok_or(BAD)?;
        }
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            let (ip, payload) = datagram.split_first_chunk_mut().ok_or(BAD)?;
            ipv6::Header {
                version: 6,
                traffic_class: inner.outer_tos(),
                flow_label: 0,
                payload_length: payload.len() as u16,
                next_header: protocol,
                hop_limit: inner.ttl,
                source,
                destination,
            }
            .write(ip);
            let addresses: [u8; 32] = load(ip, ipv6::field::SOURCE);
            let length = payload.len() as u32;
            write_shim(outer, inner.family, payload, || {
                Sum::pseudo_v6(&addresses, protocol, length)
            })
            .ok_or(BAD)?;
        }
        // Refused above.
        _ => return Err(BAD),
    }
    Ok(Headers {
        family,
        fragment: Fragment::Whole,
        protocol,
        tcp_flags: 0,
        ttl: inner.ttl,
        dont_fragment,
        l3: headers.l3,
        l4: headers.l3.saturating_add(ip_header(family) as u16),
        end: new_end,
        vlan: headers.vlan,
        inner_vlan: headers.inner_vlan,
        source_port: 0,
        destination_port: 0,
    })
}

/// What the outer header takes over.
struct Inner {
    family: Family,
    tos: u8,
    ttl: u8,
    dont_fragment: bool,
}

impl Inner {
    #[inline]
    fn read(frame: &[u8], headers: &Headers) -> Option<Self> {
        let l3 = usize::from(headers.l3);
        Some(match headers.family {
            Family::V4 => {
                let header: &[u8; ipv4::LEN] = array(frame, l3)?;
                Self {
                    family: Family::V4,
                    tos: header[ipv4::field::TOS],
                    ttl: header[ipv4::field::TTL],
                    dont_fragment: header[ipv4::field::FRAGMENT] & 0x40 != 0,
                }
            }
            Family::V6 => {
                let header: &[u8; ipv6::LEN] = array(frame, l3)?;
                Self {
                    family: Family::V6,
                    tos: header[0] << 4 | header[1] >> 4,
                    ttl: header[ipv6::field::HOP_LIMIT],
                    dont_fragment: false,
                }
            }
        })
    }

    fn protocol(&self) -> u8 {
        match self.family {
            Family::V4 => IPV4,
            Family::V6 => IPV6,
        }
    }

    /// Type of service or traffic class of the outer header.
    #[inline]
    fn outer_tos(&self) -> u8 {
        match self.tos & ECN {
            CONGESTION => self.tos & !ECN | CAPABLE,
            _ => self.tos,
        }
    }
}

/// The two bits of explicit congestion notification, two of their values (RFC 3168 5).
const ECN: u8 = 3;
const CONGESTION: u8 = 3;
const CAPABLE: u8 = 2;

const fn ip_header(family: Family) -> usize {
    match family {
        Family::V4 => ipv4::LEN,
        Family::V6 => ipv6::LEN,
    }
}

/// Length of what stands between the outer IP header and the inner one.
const fn shim(tunnel: Tunnel) -> usize {
    match tunnel.kind {
        TunnelKind::Ipip => 0,
        TunnelKind::Gre if tunnel.checksum => 2 * GRE_LEN,
        TunnelKind::Gre => GRE_LEN,
        TunnelKind::Gue(_) => udp::LEN + GUE_LEN,
    }
}

/// Writes what stands between the IP headers at the start of the outer `payload`.
#[inline]
fn write_shim(
    outer: &Outer,
    inner: Family,
    payload: &mut [u8],
    pseudo: impl FnOnce() -> Sum,
) -> Option<()> {
    match outer.tunnel.kind {
        TunnelKind::Ipip => {}
        TunnelKind::Gre => {
            let flags = if outer.tunnel.checksum {
                GRE_CHECKSUM
            } else {
                0
            };
            let header: &mut [u8; GRE_LEN] = payload.first_chunk_mut()?;
            store16(header, 0, flags);
            store16(
                header,
                2,
                match inner {
                    Family::V4 => ethernet::IPV4,
                    Family::V6 => ethernet::IPV6,
                },
            );
            if outer.tunnel.checksum {
                *array_mut(payload, GRE_LEN)? = [0; 4];
                // The kernel fills it in as any left to a device: zero becomes the other zero.
                let checksum = Sum::of(payload).udp_checksum();
                store16(array_mut::<2>(payload, GRE_LEN)?, 0, checksum);
            }
        }
        TunnelKind::Gue(port) => {
            udp::Header {
                source_port: outer.source_port,
                destination_port: port,
                length: payload.len() as u16,
                checksum: 0,
            }
            .write(payload.first_chunk_mut()?);
            let protocol = match inner {
                Family::V4 => IPV4,
                Family::V6 => IPV6,
            };
            // Version 0, no options, data and not control, no flags.
            *array_mut(payload, udp::LEN)? = [0, protocol, 0, 0];
            if outer.tunnel.checksum {
                let checksum = pseudo().bytes(payload).udp_checksum();
                let header: &mut [u8; udp::LEN] = payload.first_chunk_mut()?;
                store16(header, udp::field::CHECKSUM, checksum);
            }
        }
    }
    Some(())
}

#[cfg(test)]
mod tests;
