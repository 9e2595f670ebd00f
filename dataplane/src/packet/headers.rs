//! The parser of the hot path: a frame to [`Headers`], or the reason to drop it.
//!
//! Follows RFC 791, RFC 8200, RFC 9293, RFC 768, RFC 9260 and the host requirements of RFC 1122 and
//! RFC 1812. Invariant: whatever bytes come in, nothing panics, and the offsets of the [`Headers`]
//! returned lie in the frame with `l3 < l4 <= end` and room for the transport header at `l4` (unless
//! it is a later fragment). What the addresses mean to this box is the caller's to decide; only
//! addresses that can never be on a wire are refused here.

use super::bytes::{array, load16};
use super::{ethernet, icmpv6, ipv4, ipv6, sctp, tcp, udp, vlan};
use crate::address::{Address, Endpoint, Family, FiveTuple, Protocol};
use crate::verdict::DropReason;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// What the device already did for the frame.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Offloads {
    /// The outermost VLAN tag, taken out of the frame (its tag control word or its id).
    pub vlan: Option<u16>,
    /// The IPv4 header checksum was found right.
    pub ipv4_checksum_good: bool,
}

/// What a frame carries.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Parsed {
    /// An IP packet.
    Ip(Headers),
    /// An ARP message, not looked into.
    Arp {
        /// Offset of the message in the frame.
        l3: u16,
        /// VLAN id.
        vlan: Option<u16>,
    },
    /// Another EtherType.
    Other {
        /// The EtherType behind the VLAN tags; below `0x600` it is the length of an 802.3 frame.
        ether_type: u16,
    },
}

/// Where a packet is in its IP datagram.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Fragment {
    /// Not fragmented.
    Whole,
    /// The first fragment, which holds the transport header.
    First,
    /// A later one, which holds only data.
    Later,
}

/// The headers of an IP packet, compact: offsets and what decides the packet's way.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Headers {
    /// IP family.
    pub family: Family,
    /// Where the packet is in its datagram.
    pub fragment: Fragment,
    /// Transport protocol number; the next header of the fragment header in later IPv6 fragments.
    pub protocol: u8,
    /// TCP flags, 0 if not TCP.
    pub tcp_flags: u8,
    /// TTL or hop limit as received.
    pub ttl: u8,
    /// IPv4 DF.
    pub dont_fragment: bool,
    /// Offset of the IP header in the frame.
    pub l3: u16,
    /// Offset of the transport header, behind IPv4 options and IPv6 extension headers.
    pub l4: u16,
    /// Offset one past the IP datagram; Ethernet padding behind it is the caller's to cut off.
    pub end: u16,
    /// Id of the outermost VLAN tag, in the frame or taken out by the device.
    pub vlan: Option<u16>,
    /// Id of the second VLAN tag.
    pub inner_vlan: Option<u16>,
    /// Source port; 0 if the protocol has none and in later fragments.
    pub source_port: u16,
    /// Destination port; 0 if the protocol has none and in later fragments.
    pub destination_port: u16,
}

/// Parses a frame that lies in one buffer.
///
/// # Errors
/// The reason to drop it.
#[inline]
pub fn parse(frame: &[u8], offloads: Offloads) -> Result<Parsed, DropReason> {
    let ethernet: &[u8; ethernet::LEN] = frame.first_chunk().ok_or(DropReason::Frame)?;
    let ether_type = ethernet::Header::read(ethernet).ether_type;
    // The usual frames at constant offsets; everything else is one call away.
    match (ether_type, offloads.vlan) {
        (ethernet::IPV4, None) => parse_ipv4(
            frame,
            ethernet::LEN,
            Vlans::default(),
            offloads.ipv4_checksum_good,
        )
        .map(Parsed::Ip),
        (ethernet::IPV6, None) => {
            parse_ipv6(frame, ethernet::LEN, Vlans::default()).map(Parsed::Ip)
        }
        _ => parse_tagged(frame, ether_type, offloads),
    }
}

impl Headers {
    /// Sender's address, if the packet is of family `A` and `frame` is the one parsed.
    #[inline]
    pub fn source<A: Address>(&self, frame: &[u8]) -> Option<A> {
        self.address(frame, 0)
    }

    /// Receiver's address, if the packet is of family `A` and `frame` is the one parsed.
    #[inline]
    pub fn destination<A: Address>(&self, frame: &[u8]) -> Option<A> {
        self.address(frame, A::LEN)
    }

    /// Sender's address, whatever the family, if `frame` is the one parsed.
    pub fn source_ip(&self, frame: &[u8]) -> Option<IpAddr> {
        match self.family {
            Family::V4 => self.source::<Ipv4Addr>(frame).map(IpAddr::V4),
            Family::V6 => self.source::<Ipv6Addr>(frame).map(IpAddr::V6),
        }
    }

    /// Receiver's address, whatever the family, if `frame` is the one parsed.
    pub fn destination_ip(&self, frame: &[u8]) -> Option<IpAddr> {
        match self.family {
            Family::V4 => self.destination::<Ipv4Addr>(frame).map(IpAddr::V4),
            Family::V6 => self.destination::<Ipv6Addr>(frame).map(IpAddr::V6),
        }
    }

    /// True if a router may cut the packet.
    #[inline]
    pub fn may_be_fragmented(&self) -> bool {
        self.family == Family::V4 && !self.dont_fragment
    }

    /// The five-tuple, if the packet is of family `A`, its protocol is one that services balance, and
    /// it holds the ports (is not a later fragment).
    #[inline]
    pub fn five_tuple<A: Address>(&self, frame: &[u8]) -> Option<FiveTuple<A>> {
        let protocol = Protocol::from_number(self.protocol)?;
        if self.fragment == Fragment::Later {
            return None;
        }
        Some(FiveTuple {
            protocol,
            source: Endpoint::new(self.source(frame)?, self.source_port),
            destination: Endpoint::new(self.destination(frame)?, self.destination_port),
        })
    }

    /// Bytes of the IP datagram, header included: what IPVS counts.
    #[inline]
    pub fn ip_length(&self) -> usize {
        usize::from(self.end.saturating_sub(self.l3))
    }

    /// The transport header and its data; empty if `frame` is too short to be the one parsed.
    #[inline]
    pub fn transport<'a>(&self, frame: &'a [u8]) -> &'a [u8] {
        frame
            .get(usize::from(self.l4)..usize::from(self.end))
            .unwrap_or_default()
    }

    /// ICMP type and code of either family, if it is ICMP and not a later fragment.
    #[inline]
    pub fn icmp(&self, frame: &[u8]) -> Option<(u8, u8)> {
        let ours = match self.family {
            Family::V4 => ipv4::ICMP,
            Family::V6 => ipv6::ICMPV6,
        };
        match self.transport(frame) {
            &[kind, code, ..] if self.protocol == ours && self.fragment != Fragment::Later => {
                Some((kind, code))
            }
            _ => None,
        }
    }

    #[inline]
    fn address<A: Address>(&self, frame: &[u8], skip: usize) -> Option<A> {
        if self.family != A::FAMILY {
            return None;
        }
        let at = usize::from(self.l3)
            + skip
            + match A::FAMILY {
                Family::V4 => ipv4::field::SOURCE,
                Family::V6 => ipv6::field::SOURCE,
            };
        A::from_wire(frame.get(at..at + A::LEN)?)
    }
}

/// Parses a frame with any number of VLAN tags and any EtherType.
#[inline(never)]
fn parse_tagged(
    frame: &[u8],
    mut ether_type: u16,
    offloads: Offloads,
) -> Result<Parsed, DropReason> {
    let mut l3 = ethernet::LEN;
    let mut vlans = Vlans::default();
    if let Some(control) = offloads.vlan {
        vlans.push(control & vlan::RESERVED)?;
    }
    while vlan::is_tag(ether_type) {
        // The EtherType at `l3 - 2` and the tag control word behind it are one tag; the next
        // EtherType follows.
        let tag: &[u8; vlan::LEN + 2] = array(frame, l3 - 2).ok_or(DropReason::Frame)?;
        vlans.push(load16(tag, 2) & vlan::RESERVED)?;
        ether_type = load16(tag, 4);
        l3 += vlan::LEN;
    }
    match ether_type {
        ethernet::IPV4 => parse_ipv4(frame, l3, vlans, offloads.ipv4_checksum_good).map(Parsed::Ip),
        ethernet::IPV6 => parse_ipv6(frame, l3, vlans).map(Parsed::Ip),
        ethernet::ARP => Ok(Parsed::Arp {
            l3: l3 as u16,
            vlan: vlans.outer,
        }),
        ether_type => Ok(Parsed::Other { ether_type }),
    }
}

/// The VLAN ids met so far.
#[derive(Clone, Copy, Default)]
struct Vlans {
    outer: Option<u16>,
    inner: Option<u16>,
    count: usize,
}

impl Vlans {
    #[inline]
    fn push(&mut self, id: u16) -> Result<(), DropReason> {
        self.count += 1;
        if self.count > vlan::MAX {
            return Err(DropReason::EtherType);
        }
        match id {
            // A priority tag names no VLAN.
            0 => {}
            vlan::RESERVED => return Err(DropReason::Vlan),
            id if self.outer.is_none() => self.outer = Some(id),
            id => self.inner = Some(id),
        }
        Ok(())
    }
}

#[inline(always)]
fn parse_ipv4(
    frame: &[u8],
    l3: usize,
    vlans: Vlans,
    checksum_good: bool,
) -> Result<Headers, DropReason> {
    let fixed: &[u8; ipv4::LEN] = array(frame, l3).ok_or(DropReason::Ipv4Header)?;
    let header = ipv4::Header::read(fixed);
    let header_length = usize::from(header.header_length);
    let total_length = usize::from(header.total_length);
    if header.version != 4 || header_length < ipv4::LEN || total_length < header_length {
        return Err(DropReason::Ipv4Header);
    }
    let end = l3 + total_length;
    let l4 = l3 + header_length;
    let payload = frame.get(l4..end).ok_or(DropReason::Truncated)?;
    // Fuzzers could never get past a checksum.
    if !checksum_good && !cfg!(fuzzing) {
        let good = if header_length == ipv4::LEN {
            // The usual case at a constant length, which the compiler unrolls.
            ipv4::verify(fixed)
        } else {
            ipv4::verify(frame.get(l3..l4).unwrap_or_default())
        };
        if !good {
            return Err(DropReason::Ipv4Checksum);
        }
    }
    refuse_ipv4_martians(header.source, header.destination)?;
    let fragment = fragment(
        header.fragment_offset,
        header.more_fragments,
        payload.len(),
        header.protocol,
    )
    .ok_or(DropReason::FragmentMalformed)?;
    let ports = Ports::read(header.protocol, payload, fragment, ipv4::ICMP)?;
    Ok(Headers {
        family: Family::V4,
        fragment,
        protocol: header.protocol,
        tcp_flags: ports.tcp_flags,
        ttl: header.ttl,
        dont_fragment: header.dont_fragment,
        l3: l3 as u16,
        l4: l4 as u16,
        end: u16::try_from(end).map_err(|_| DropReason::Truncated)?,
        vlan: vlans.outer,
        inner_vlan: vlans.inner,
        source_port: ports.source,
        destination_port: ports.destination,
    })
}

#[inline(always)]
fn parse_ipv6(frame: &[u8], l3: usize, vlans: Vlans) -> Result<Headers, DropReason> {
    let fixed: &[u8; ipv6::LEN] = array(frame, l3).ok_or(DropReason::Ipv6Header)?;
    let header = ipv6::Header::read(fixed);
    // A length of zero with hop-by-hop options is a jumbogram (RFC 2675), which no Ethernet carries.
    if header.version != 6 || header.payload_length == 0 && header.next_header == ipv6::HOP_BY_HOP {
        return Err(DropReason::Ipv6Header);
    }
    let start = l3 + ipv6::LEN;
    let end = start + usize::from(header.payload_length);
    let payload = frame.get(start..end).ok_or(DropReason::Truncated)?;
    let transport = ipv6::transport(header.next_header, payload)
        .map_err(|ipv6::BadExtension| DropReason::Ipv6Extension)?;
    let data = payload
        .get(transport.offset..)
        .ok_or(DropReason::Ipv6Extension)?;
    let fragment = match transport.fragment {
        None => Fragment::Whole,
        Some(header) => fragment(header.offset, header.more, data.len(), transport.protocol)
            .ok_or(DropReason::FragmentMalformed)?,
    };
    let ports = Ports::read(transport.protocol, data, fragment, ipv6::ICMPV6)?;
    let unspecified_allowed = transport.protocol == ipv6::ICMPV6
        && fragment == Fragment::Whole
        && data
            .first()
            .is_some_and(|kind| icmpv6::may_be_unspecified(*kind));
    refuse_ipv6_martians(header.source, header.destination, unspecified_allowed)?;
    Ok(Headers {
        family: Family::V6,
        fragment,
        protocol: transport.protocol,
        tcp_flags: ports.tcp_flags,
        ttl: header.hop_limit,
        dont_fragment: false,
        l3: l3 as u16,
        l4: (start + transport.offset) as u16,
        end: u16::try_from(end).map_err(|_| DropReason::Truncated)?,
        vlan: vlans.outer,
        inner_vlan: vlans.inner,
        source_port: ports.source,
        destination_port: ports.destination,
    })
}

/// Where a fragment is in its datagram; `None` if it cannot be part of one.
#[inline]
fn fragment(offset: u16, more: bool, length: usize, protocol: u8) -> Option<Fragment> {
    match (offset, more) {
        (0, false) => Some(Fragment::Whole),
        (0, true) => Some(Fragment::First),
        // A datagram that would be longer than 65535 bytes ("ping of death").
        (_, _) if usize::from(offset) * 8 + length > usize::from(u16::MAX) => None,
        // RFC 3128: it would overwrite the TCP flags of the first fragment.
        (1, _) if protocol == Protocol::Tcp.number() => None,
        (_, _) => Some(Fragment::Later),
    }
}

/// What the transport header decides by.
#[derive(Default)]
struct Ports {
    source: u16,
    destination: u16,
    tcp_flags: u8,
}

impl Ports {
    /// Reads and judges the transport header at the start of `payload`. A first fragment must hold
    /// all of its fixed part (RFC 1858, RFC 7112); lengths beyond the fragment are fine in it.
    #[inline]
    fn read(
        protocol: u8,
        payload: &[u8],
        fragment: Fragment,
        icmp: u8,
    ) -> Result<Self, DropReason> {
        const TCP: u8 = Protocol::Tcp as u8;
        const UDP: u8 = Protocol::Udp as u8;
        const SCTP: u8 = Protocol::Sctp as u8;
        if fragment == Fragment::Later {
            return Ok(Self::default());
        }
        let whole = fragment == Fragment::Whole;
        let bad = if whole {
            DropReason::TransportHeader
        } else {
            DropReason::FragmentMalformed
        };
        match protocol {
            TCP => {
                let header = tcp::Header::read(payload.first_chunk().ok_or(bad)?);
                let length = usize::from(header.header_length);
                if length < tcp::LEN || whole && length > payload.len() {
                    return Err(bad);
                }
                Ok(Self {
                    source: header.source_port,
                    destination: header.destination_port,
                    tcp_flags: header.flags,
                })
            }
            UDP => {
                let header = udp::Header::read(payload.first_chunk().ok_or(bad)?);
                let length = usize::from(header.length);
                if length < udp::LEN || whole && length > payload.len() {
                    return Err(bad);
                }
                Ok(Self {
                    source: header.source_port,
                    destination: header.destination_port,
                    tcp_flags: 0,
                })
            }
            SCTP => {
                let header = sctp::Header::read(payload.first_chunk().ok_or(bad)?);
                Ok(Self {
                    source: header.source_port,
                    destination: header.destination_port,
                    tcp_flags: 0,
                })
            }
            protocol if protocol == icmp && payload.len() < icmpv6::LEN => Err(bad),
            _ => Ok(Self::default()),
        }
    }
}

/// Refuses addresses that are never on a wire, of a packet with ports.
#[inline]
pub(super) fn refuse_martians<A: Address>(source: A, destination: A) -> Result<(), DropReason> {
    match (source.into(), destination.into()) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => refuse_ipv4_martians(source, destination),
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            refuse_ipv6_martians(source, destination, false)
        }
        _ => Err(DropReason::MartianSource),
    }
}

/// Refuses addresses that are never on a wire (RFC 1122 3.2.1.3). `0.0.0.0` may send to groups and to
/// everybody: hosts without an address do (DHCP, IGMP).
#[inline]
fn refuse_ipv4_martians(source: Ipv4Addr, destination: Ipv4Addr) -> Result<(), DropReason> {
    let starting =
        source.is_unspecified() && (destination.is_broadcast() || destination.is_multicast());
    if ipv4::never_a_host(source) && !starting {
        return Err(DropReason::MartianSource);
    }
    if destination.is_loopback() || destination.octets()[0] == 0 {
        return Err(DropReason::MartianDestination);
    }
    Ok(())
}

/// Refuses addresses that are never on a wire (RFC 4291 2.5, 2.7). `::` may send some ICMPv6.
#[inline]
fn refuse_ipv6_martians(
    source: Ipv6Addr,
    destination: Ipv6Addr,
    unspecified_allowed: bool,
) -> Result<(), DropReason> {
    if ipv6::never_a_host(source) && !(source.is_unspecified() && unspecified_allowed) {
        return Err(DropReason::MartianSource);
    }
    // Groups of scope 0 (reserved) and 1 (interface-local) stay inside a host.
    let inside = destination.is_multicast() && destination.octets()[1] & 0xf <= 1;
    if inside || destination.to_bits() <= 1 {
        return Err(DropReason::MartianDestination);
    }
    Ok(())
}

#[cfg(test)]
pub(super) mod tests;
