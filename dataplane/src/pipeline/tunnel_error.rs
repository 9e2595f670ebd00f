//! ICMP errors about tunnel packets of ours: routers between this box and a real server quote the outer
//! header, which means nothing to the client (spec 2.5, RFC 2003 4).
//!
//! ```text
//!  IP router→us | ICMP | quoted: IP us→server | tunnel | IP client→VIP | ports …
//!                                                      └── what the client is told about
//! ```
//!
//! Believed only if the quote leads through a tunnel that this box speaks, to the server of a known
//! connection, which other workers are asked for too. Then the client gets the error from the VIP, about its own packet; an MTU is less the
//! tunnel's overhead, and remembered ([`PathMtus`](super::path_mtu::PathMtus)).

use super::search::Next;
use super::tunnel::{SMALLEST_V4, SMALLEST_V6, room};
use super::{Context, Pass};
use crate::address::{Address, Endpoint, Family, FiveTuple, Protocol};
use crate::buffer::PacketBuffer;
use crate::connection::{Direction, Table};
use crate::packet::icmp_error::IcmpError;
use crate::packet::tunnel::{GRE, GRE_CHECKSUM, IPV4, IPV6};
use crate::packet::{Fragment, Headers, checksum, ethernet, icmpv4, icmpv6, ipv4, ipv6, udp};
use crate::service::{Forward, TunnelKind};
use crate::steering::Errand;
use crate::verdict::{DropReason, Verdict};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// A router's MTU below this is not believed (Linux's `min_pmtu`): it would be an attack.
const SMALLEST_BELIEVED_V4: u16 = 552;

/// The outer packet that an error quotes.
#[derive(Clone, Copy)]
struct Quote {
    source: IpAddr,
    destination: IpAddr,
    kind: TunnelKind,
    /// Where the inner packet begins, from the outer header on, and its family.
    inner: usize,
    family: Family,
}

/// The inner packet, as much of it as is quoted.
struct Inner<A> {
    tuple: FiveTuple<A>,
    ttl: u8,
    dont_fragment: bool,
    /// Length of its IP header.
    header: usize,
    /// Length of the whole packet.
    length: usize,
}

impl Context<'_> {
    /// Handles an ICMP error about a packet this box put into a tunnel; `None` = it is none, or its
    /// connection is not known to this worker, and nothing is changed.
    pub(super) fn tunnel_error<P: PacketBuffer>(
        &mut self,
        v4: &mut Table<Ipv4Addr>,
        v6: &mut Table<Ipv6Addr>,
        packet: &mut P,
        headers: &Headers,
    ) -> Option<Verdict> {
        let frame = packet.data();
        let (kind, _) = headers.icmp(frame)?;
        let error = match headers.family {
            Family::V4 => matches!(
                kind,
                icmpv4::UNREACHABLE | icmpv4::SOURCE_QUENCH | icmpv4::TIME_EXCEEDED
            ),
            Family::V6 => icmpv6::is_error(kind),
        };
        if !error || headers.fragment != Fragment::Whole {
            return None;
        }
        let quoted = headers.transport(frame).get(icmpv4::LEN..)?;
        let quote = Quote::read(headers.family, quoted)?;
        let us = headers.destination_ip(frame)?;
        if quote.source != us || !self.forwarding.is_local(us) {
            return None;
        }
        match quote.family {
            Family::V4 => self.tunnel_error_of(v4, packet, headers, quote),
            Family::V6 => self.tunnel_error_of(v6, packet, headers, quote),
        }
    }

    fn tunnel_error_of<A: Address, P: PacketBuffer>(
        &mut self,
        table: &Table<A>,
        packet: &mut P,
        headers: &Headers,
        quote: Quote,
    ) -> Option<Verdict> {
        let frame = packet.data();
        let message = headers.transport(frame);
        let inner = Inner::<A>::read(message.get(icmpv4::LEN + quote.inner..)?)?;
        let Some((slot, Direction::Input)) = table.lookup(&inner.tuple) else {
            return self.search_for_tunnel(packet, headers, &inner.tuple);
        };
        let binding = *table.get(slot).binding();
        let Forward::Tunnel(tunnel) = binding.forward else {
            return None;
        };
        let services = self.services;
        let real = services.real(binding.real)?;
        if real.address != quote.destination || tunnel.kind != quote.kind {
            return None;
        }
        if !is_intact(headers, frame) {
            return Some(Verdict::Drop(DropReason::TransportChecksum));
        }
        let header = icmpv4::Header::read(message.first_chunk()?);
        let error = match meaning(headers.family, A::FAMILY, header) {
            Some(IcmpError::FragmentationNeeded { mtu }) => {
                // A router from before RFC 1191 says nothing, and there is nothing to say.
                if mtu == 0 {
                    return Some(Verdict::Drop(DropReason::TunnelError));
                }
                let mtu = mtu.max(match headers.family {
                    Family::V4 => SMALLEST_BELIEVED_V4,
                    Family::V6 => SMALLEST_V6,
                });
                self.state
                    .tunnels
                    .path_mtus
                    .learn(binding.real, mtu, self.now);
                let room = room(mtu, tunnel, real.address);
                let told = match A::FAMILY {
                    Family::V4 if inner.dont_fragment => Some(room.max(SMALLEST_V4)),
                    Family::V6 if inner.length > usize::from(SMALLEST_V6) => {
                        Some(room.max(SMALLEST_V6))
                    }
                    // From now on its packets are cut here.
                    Family::V4 | Family::V6 => None,
                };
                told.map(|mtu| IcmpError::FragmentationNeeded { mtu })
            }
            other => other,
        };
        let Some(error) = error else {
            return Some(Verdict::Drop(DropReason::TunnelError));
        };
        let Some(inner) = bare(packet, headers, &quote, &inner) else {
            return Some(Verdict::Drop(DropReason::TunnelError));
        };
        // Not counted for the server, which answers the client directly, and as the kernel does not.
        let vip = Some(binding.vip.address.into());
        Some(self.answer(packet, &inner, error, vip, DropReason::TunnelError))
    }
}

impl Context<'_> {
    /// The connection is not here: another worker may have it ([`super::search`]).
    fn search_for_tunnel<A: Address, P: PacketBuffer>(
        &mut self,
        packet: &P,
        headers: &Headers,
        tuple: &FiveTuple<A>,
    ) -> Option<Verdict> {
        if self.state.workers == 1 || matches!(self.pass, Pass::Retry(_)) {
            return None;
        }
        let whereabouts = self.whereabouts(tuple)?;
        if !is_intact(headers, packet.data()) {
            return Some(Verdict::Drop(DropReason::TransportChecksum));
        }
        let errand = self.errand_of(packet);
        match self.next(&whereabouts, errand) {
            Next::Ask(verdict) => Some(verdict),
            // On a round the owner was among the first to be asked.
            Next::Owner(owner) if !matches!(errand, Errand::Search { .. }) => {
                Some(self.hand_over(owner, Errand::Own))
            }
            Next::Owner(_) | Next::Here => None,
        }
    }
}

/// What an error about the outer packet means to the sender of the inner one; `None` = nothing.
fn meaning(outer: Family, inner: Family, header: icmpv4::Header) -> Option<IcmpError> {
    let (kind, code) = (header.kind, header.code);
    let [high, low, upper, lower] = header.rest;
    match (outer, kind) {
        (Family::V4, icmpv4::UNREACHABLE) if code == icmpv4::FRAGMENTATION_NEEDED => {
            let mtu = u16::from_be_bytes([upper, lower]);
            Some(IcmpError::FragmentationNeeded { mtu })
        }
        (Family::V6, icmpv6::TOO_BIG) => {
            let mtu = u32::from_be_bytes([high, low, upper, lower]);
            let mtu = u16::try_from(mtu).unwrap_or(u16::MAX);
            Some(IcmpError::FragmentationNeeded { mtu })
        }
        (Family::V4, icmpv4::TIME_EXCEEDED) | (Family::V6, icmpv6::TIME_EXCEEDED)
            if code == icmpv4::IN_TRANSIT =>
        {
            Some(IcmpError::TimeExceeded)
        }
        // In the same family as it is. Pointers of parameter problems would point at nothing.
        (Family::V4, _) if inner == outer => Some(IcmpError::Other { kind, code }),
        (Family::V6, icmpv6::UNREACHABLE) if inner == outer => {
            Some(IcmpError::Other { kind, code })
        }
        (Family::V4, icmpv4::UNREACHABLE)
        | (Family::V6, icmpv6::UNREACHABLE | icmpv6::PARAMETER_PROBLEM) => {
            Some(IcmpError::HostUnreachable)
        }
        _ => None,
    }
}

/// Takes everything in front of the quoted inner packet out of the frame, except a link header;
/// the headers of what is left.
fn bare<A: Address, P: PacketBuffer>(
    packet: &mut P,
    headers: &Headers,
    quote: &Quote,
    inner: &Inner<A>,
) -> Option<Headers> {
    let l3 = usize::from(headers.l3);
    let at = usize::from(headers.l4) + icmpv4::LEN + quote.inner;
    let front = at.checked_sub(l3)?;
    // Whatever pads the quote is not the client's packet.
    packet.truncate(usize::from(headers.end).min(at + inner.length));
    let frame = packet.data_mut();
    frame.get(..at)?;
    frame.copy_within(..l3, front);
    let ether_type = match A::FAMILY {
        Family::V4 => ethernet::IPV4,
        Family::V6 => ethernet::IPV6,
    };
    frame
        .get_mut(at - 2..at)?
        .copy_from_slice(&ether_type.to_be_bytes());
    packet.trim_front(front);
    Some(Headers {
        family: A::FAMILY,
        fragment: Fragment::Whole,
        protocol: inner.tuple.protocol.number(),
        tcp_flags: 0,
        ttl: inner.ttl,
        dont_fragment: inner.dont_fragment,
        l3: headers.l3,
        l4: headers.l3.checked_add(inner.header as u16)?,
        end: u16::try_from(packet.data().len()).ok()?,
        vlan: headers.vlan,
        inner_vlan: headers.inner_vlan,
        source_port: inner.tuple.source.port,
        destination_port: inner.tuple.destination.port,
    })
}

/// Whether the checksum of the ICMP message is right.
fn is_intact(headers: &Headers, frame: &[u8]) -> bool {
    let message = headers.transport(frame);
    let pseudo = match headers.family {
        Family::V4 => checksum::Sum::default(),
        Family::V6 => {
            let (Some(source), Some(destination)) = (
                headers.source::<Ipv6Addr>(frame),
                headers.destination::<Ipv6Addr>(frame),
            ) else {
                return false;
            };
            checksum::Sum::of(&source.octets())
                .bytes(&destination.octets())
                .word(message.len() as u16)
                .word(u16::from(ipv6::ICMPV6))
        }
    };
    pseudo.bytes(message).checksum() == 0 || cfg!(fuzzing)
}

impl Quote {
    /// Reads an outer packet of a tunnel, as much of it as there is.
    fn read(family: Family, packet: &[u8]) -> Option<Self> {
        let (source, destination, protocol, at) = match family {
            Family::V4 => {
                let header = ipv4::Header::read(packet.first_chunk()?);
                if header.version != 4 || header.fragment_offset != 0 {
                    return None;
                }
                let (source, destination) = (header.source.into(), header.destination.into());
                (
                    source,
                    destination,
                    header.protocol,
                    usize::from(header.header_length),
                )
            }
            Family::V6 => {
                let header = ipv6::Header::read(packet.first_chunk()?);
                let (source, destination) = (header.source.into(), header.destination.into());
                let rest = packet.get(ipv6::LEN..)?;
                match (header.next_header, rest) {
                    // The first of our own fragments.
                    (ipv6::FRAGMENT, [next, _, high, low, ..]) => {
                        if u16::from_be_bytes([*high, *low]) & !7 != 0 {
                            return None;
                        }
                        (source, destination, *next, ipv6::LEN + 8)
                    }
                    (next, _) => (source, destination, next, ipv6::LEN),
                }
            }
        };
        let shim = packet.get(at..)?;
        let (kind, family, length) = match protocol {
            IPV4 => (TunnelKind::Ipip, Family::V4, 0),
            IPV6 => (TunnelKind::Ipip, Family::V6, 0),
            GRE => {
                let &[flags, flags_low, high, low] = shim.first_chunk()?;
                let family = match u16::from_be_bytes([high, low]) {
                    ethernet::IPV4 => Family::V4,
                    ethernet::IPV6 => Family::V6,
                    _ => return None,
                };
                match u16::from_be_bytes([flags, flags_low]) {
                    0 => (TunnelKind::Gre, family, 4),
                    GRE_CHECKSUM => (TunnelKind::Gre, family, 8),
                    _ => return None,
                }
            }
            protocol if protocol == Protocol::Udp.number() => {
                let port = udp::Header::read(shim.first_chunk()?).destination_port;
                let family = match shim.get(udp::LEN..)?.first_chunk()? {
                    [0, IPV4, 0, 0] => Family::V4,
                    [0, IPV6, 0, 0] => Family::V6,
                    _ => return None,
                };
                (TunnelKind::Gue(port), family, udp::LEN + 4)
            }
            _ => return None,
        };
        Some(Self {
            source,
            destination,
            kind,
            inner: at + length,
            family,
        })
    }
}

impl<A: Address> Inner<A> {
    /// Reads a client's packet that may be cut off anywhere behind its ports.
    fn read(packet: &[u8]) -> Option<Self> {
        let (protocol, ttl, dont_fragment, header, length) = match A::FAMILY {
            Family::V4 => {
                let header = ipv4::Header::read(packet.first_chunk()?);
                let length = usize::from(header.header_length);
                if header.version != 4 || header.fragment_offset != 0 || length < ipv4::LEN {
                    return None;
                }
                (
                    header.protocol,
                    header.ttl,
                    header.dont_fragment,
                    length,
                    usize::from(header.total_length),
                )
            }
            Family::V6 => {
                let header = ipv6::Header::read(packet.first_chunk()?);
                let extensions = packet.get(ipv6::LEN..)?;
                let transport = ipv6::transport(header.next_header, extensions).ok()?;
                if header.version != 6 || transport.fragment.is_some_and(|f| f.offset != 0) {
                    return None;
                }
                (
                    transport.protocol,
                    header.hop_limit,
                    false,
                    ipv6::LEN + transport.offset,
                    ipv6::LEN + usize::from(header.payload_length),
                )
            }
        };
        let &[a, b, c, d] = packet.get(header..)?.first_chunk()?;
        let addresses = match A::FAMILY {
            Family::V4 => ipv4::LEN - 2 * A::LEN,
            Family::V6 => ipv6::LEN - 2 * A::LEN,
        };
        let address = |at: usize| A::from_wire(packet.get(at..at + A::LEN)?);
        Some(Self {
            tuple: FiveTuple {
                protocol: Protocol::from_number(protocol)?,
                source: Endpoint::new(address(addresses)?, u16::from_be_bytes([a, b])),
                destination: Endpoint::new(
                    address(addresses + A::LEN)?,
                    u16::from_be_bytes([c, d]),
                ),
            },
            ttl,
            dont_fragment,
            header,
            length,
        })
    }
}
