//! Plain packets: what nearly all packets of balanced connections are, read and rewritten at
//! constant offsets.
//!
//! Plain is an untagged frame with TCP or UDP right behind an IP header without options or
//! extension headers, not fragmented, everything of it there. [`Plain::read`] recognises just
//! these; every other frame, good or bad, is [`parse`](super::parse)'s to judge. Invariants, which
//! the tests hold against the general code: what is plain parses to [`Plain::headers`] unless its
//! addresses are refused, and [`Plain::rewrite`] changes a frame as `decrement_ttl`, `set_link` and
//! `translate_source` or `translate_destination` do one after the other.

use super::bytes::{load, load16, load32, store, store16};
use super::checksum::{Delta, Sum, after_hop};
use super::headers::{Fragment, Headers};
use super::{MacAddress, ethernet, ipv4, ipv6, tcp, udp};
use crate::address::{Address, Endpoint, Family, FiveTuple, Protocol};
use crate::verdict::DropReason;
use std::net::IpAddr;

/// A plain packet of family `A`, all that its way depends on.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Plain<A> {
    /// Protocol, addresses, ports.
    pub tuple: FiveTuple<A>,
    /// TCP flags, 0 if not TCP.
    pub tcp_flags: u8,
    /// TTL or hop limit as received.
    pub ttl: u8,
    /// IPv4 DF.
    pub dont_fragment: bool,
    /// Bytes of the IP datagram, header included.
    pub ip_length: u16,
}

/// Which end of the flow gets another address and port.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Translation<A> {
    /// None (direct routing).
    None,
    /// The sender: replies of a real server.
    Source(Endpoint<A>),
    /// The receiver: packets to a real server.
    Destination(Endpoint<A>),
}

impl<A: Address> Plain<A> {
    /// Reads a frame that lies in one buffer; `None` if it is not plain or not of this family.
    ///
    /// UDP with less than twelve bytes of data in a frame that is not padded is left to the general
    /// code: reading as many bytes of every frame makes one check of the length enough.
    #[inline(always)]
    pub fn read(frame: &[u8]) -> Option<Self> {
        match A::FAMILY {
            Family::V4 => Self::read_v4(frame),
            Family::V6 => Self::read_v6(frame),
        }
    }

    #[inline(always)]
    fn read_v4(frame: &[u8]) -> Option<Self> {
        const HEADERS: usize = L3 + ipv4::LEN + tcp::LEN;
        let head: &[u8; HEADERS] = frame.first_chunk()?;
        // EtherType, version and header length; the low byte is the TOS.
        if load32(head, L3 - 2) & 0xffff_ff00 != 0x0800_4500 {
            return None;
        }
        let ip: &[u8; ipv4::LEN] = head[L3..].first_chunk()?;
        let ip_length = load16(ip, ipv4::field::TOTAL_LENGTH);
        let fragment = load16(ip, ipv4::field::FRAGMENT);
        let whole = fragment & !ipv4::DONT_FRAGMENT == 0;
        if usize::from(ip_length) > frame.len() - L3 || !whole {
            return None;
        }
        // Fuzzers could never get past a checksum.
        if !Sum::of_words(ip).is_good() && !cfg!(fuzzing) {
            return None;
        }
        let transport: &[u8; tcp::LEN] = head[L3 + ipv4::LEN..].first_chunk()?;
        let length = usize::from(ip_length).checked_sub(ipv4::LEN)?;
        let (protocol, tcp_flags) = transport_header(ip[ipv4::field::PROTOCOL], transport, length)?;
        Some(Self {
            tuple: FiveTuple {
                protocol,
                source: Endpoint::new(
                    A::from_wire(&load::<_, 4>(ip, ipv4::field::SOURCE))?,
                    load16(transport, tcp::field::SOURCE_PORT),
                ),
                destination: Endpoint::new(
                    A::from_wire(&load::<_, 4>(ip, ipv4::field::DESTINATION))?,
                    load16(transport, tcp::field::DESTINATION_PORT),
                ),
            },
            tcp_flags,
            ttl: ip[ipv4::field::TTL],
            dont_fragment: fragment != 0,
            ip_length,
        })
    }

    #[inline(always)]
    fn read_v6(frame: &[u8]) -> Option<Self> {
        const HEADERS: usize = L3 + ipv6::LEN + tcp::LEN;
        let head: &[u8; HEADERS] = frame.first_chunk()?;
        // EtherType and version; traffic class and flow label follow.
        if load32(head, L3 - 2) & 0xffff_f000 != 0x86dd_6000 {
            return None;
        }
        let ip: &[u8; ipv6::LEN] = head[L3..].first_chunk()?;
        let length = usize::from(load16(ip, ipv6::field::PAYLOAD_LENGTH));
        if length > frame.len() - L3 - ipv6::LEN {
            return None;
        }
        let transport: &[u8; tcp::LEN] = head[L3 + ipv6::LEN..].first_chunk()?;
        let (protocol, tcp_flags) =
            transport_header(ip[ipv6::field::NEXT_HEADER], transport, length)?;
        Some(Self {
            tuple: FiveTuple {
                protocol,
                source: Endpoint::new(
                    A::from_wire(&load::<_, 16>(ip, ipv6::field::SOURCE))?,
                    load16(transport, tcp::field::SOURCE_PORT),
                ),
                destination: Endpoint::new(
                    A::from_wire(&load::<_, 16>(ip, ipv6::field::DESTINATION))?,
                    load16(transport, tcp::field::DESTINATION_PORT),
                ),
            },
            tcp_flags,
            ttl: ip[ipv6::field::HOP_LIMIT],
            dont_fragment: false,
            // Cannot overflow into a wrong length: the frame is longer.
            ip_length: u16::try_from(ipv6::LEN + length).ok()?,
        })
    }

    /// The packet as the general code sees it.
    ///
    /// # Errors
    /// The reason to drop it: its addresses are never on a wire.
    #[inline]
    pub fn headers(&self) -> Result<Headers, DropReason> {
        super::headers::refuse_martians(self.tuple.source.address, self.tuple.destination.address)?;
        let l4 = L3 + ip_header(A::FAMILY);
        Ok(Headers {
            family: A::FAMILY,
            fragment: Fragment::Whole,
            protocol: self.tuple.protocol.number(),
            tcp_flags: self.tcp_flags,
            ttl: self.ttl,
            dont_fragment: self.dont_fragment,
            l3: L3 as u16,
            l4: l4 as u16,
            end: self.end() as u16,
            vlan: None,
            inner_vlan: None,
            source_port: self.tuple.source.port,
            destination_port: self.tuple.destination.port,
        })
    }

    /// Offset one past the IP datagram in the frame.
    #[inline]
    pub fn end(&self) -> usize {
        L3 + usize::from(self.ip_length)
    }

    /// Takes a hop off (the TTL must be above zero), addresses the frame to the next, and gives one
    /// end another address and port. Does nothing to a frame shorter than the one read.
    #[inline(always)]
    pub fn rewrite(
        &self,
        frame: &mut [u8],
        destination: MacAddress,
        source: MacAddress,
        translation: Translation<A>,
    ) {
        match A::FAMILY {
            Family::V4 => self.rewrite_v4(frame, destination, source, translation),
            Family::V6 => self.rewrite_v6(frame, destination, source, translation),
        }
    }

    #[inline(always)]
    fn rewrite_v4(
        &self,
        frame: &mut [u8],
        destination: MacAddress,
        source: MacAddress,
        translation: Translation<A>,
    ) {
        const HEADERS: usize = L3 + ipv4::LEN + tcp::LEN;
        let Some(head) = frame.first_chunk_mut::<HEADERS>() else {
            return;
        };
        set_link(head, destination, source);
        let ttl = &mut head[L3 + ipv4::field::TTL];
        *ttl = ttl.wrapping_sub(1);
        let checksum = load16(head, L3 + ipv4::field::CHECKSUM);
        let mut checksum = after_hop(checksum);
        if let Some((address_at, port_at, to)) = translation.fields(
            L3 + ipv4::field::SOURCE,
            L3 + ipv4::field::DESTINATION,
            L3 + ipv4::LEN,
        ) && let IpAddr::V4(address) = to.address.into()
        {
            let old: [u8; 4] = load(head, address_at);
            let address = address.octets();
            let change = Delta::default().bytes(&old, &address);
            checksum = change.apply(checksum);
            store(head, address_at, address);
            self.set_port(head, L3 + ipv4::LEN, port_at, to.port, change);
        }
        store16(head, L3 + ipv4::field::CHECKSUM, checksum);
    }

    #[inline(always)]
    fn rewrite_v6(
        &self,
        frame: &mut [u8],
        destination: MacAddress,
        source: MacAddress,
        translation: Translation<A>,
    ) {
        const HEADERS: usize = L3 + ipv6::LEN + tcp::LEN;
        let Some(head) = frame.first_chunk_mut::<HEADERS>() else {
            return;
        };
        set_link(head, destination, source);
        let limit = &mut head[L3 + ipv6::field::HOP_LIMIT];
        *limit = limit.wrapping_sub(1);
        if let Some((address_at, port_at, to)) = translation.fields(
            L3 + ipv6::field::SOURCE,
            L3 + ipv6::field::DESTINATION,
            L3 + ipv6::LEN,
        ) && let IpAddr::V6(address) = to.address.into()
        {
            let old: [u8; 16] = load(head, address_at);
            let address = address.octets();
            store(head, address_at, address);
            let transport = Delta::default().bytes(&old, &address);
            self.set_port(head, L3 + ipv6::LEN, port_at, to.port, transport);
        }
    }

    /// Sets a port and corrects the checksum of the transport header at `l4` for it and for
    /// `address`.
    #[inline(always)]
    fn set_port<const N: usize>(
        &self,
        head: &mut [u8; N],
        l4: usize,
        port_at: usize,
        port: u16,
        address: Delta,
    ) {
        let delta = address.word(load16(head, port_at), port);
        store16(head, port_at, port);
        if self.tuple.protocol == Protocol::Tcp {
            let checksum = load16(head, l4 + tcp::field::CHECKSUM);
            store16(head, l4 + tcp::field::CHECKSUM, delta.apply(checksum));
        } else {
            let checksum = load16(head, l4 + udp::field::CHECKSUM);
            store16(head, l4 + udp::field::CHECKSUM, delta.apply_udp(checksum));
        }
    }
}

impl<A> Translation<A> {
    /// Offsets of the address and of the port that change, given those of the addresses and of the
    /// transport header, and what they become.
    #[inline(always)]
    fn fields(
        self,
        source: usize,
        destination: usize,
        transport: usize,
    ) -> Option<(usize, usize, Endpoint<A>)> {
        match self {
            Self::None => None,
            Self::Source(to) => Some((source, transport + tcp::field::SOURCE_PORT, to)),
            Self::Destination(to) => {
                Some((destination, transport + tcp::field::DESTINATION_PORT, to))
            }
        }
    }
}

/// Protocol and TCP flags of a good transport header, of which `length` bytes with all its data are
/// there.
#[inline(always)]
fn transport_header(
    protocol: u8,
    header: &[u8; tcp::LEN],
    length: usize,
) -> Option<(Protocol, u8)> {
    const TCP: u8 = Protocol::Tcp as u8;
    const UDP: u8 = Protocol::Udp as u8;
    match protocol {
        TCP => {
            let header_length = usize::from(header[tcp::field::DATA_OFFSET] >> 4) * 4;
            let good = header_length >= tcp::LEN && header_length <= length;
            good.then_some((Protocol::Tcp, header[tcp::field::FLAGS]))
        }
        UDP => {
            let datagram = usize::from(load16(header, udp::field::LENGTH));
            let good = datagram >= udp::LEN && datagram <= length;
            good.then_some((Protocol::Udp, 0))
        }
        _ => None,
    }
}

#[inline(always)]
fn set_link<const N: usize>(head: &mut [u8; N], destination: MacAddress, source: MacAddress) {
    store(head, 0, destination.octets());
    store(head, 6, source.octets());
}

const fn ip_header(family: Family) -> usize {
    match family {
        Family::V4 => ipv4::LEN,
        Family::V6 => ipv6::LEN,
    }
}

/// Offset of the IP header.
const L3: usize = ethernet::LEN;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packet::builder::PacketBuilder;
    use crate::packet::headers::{Offloads, Parsed, parse};
    use crate::packet::rewrite;
    use proptest::prelude::*;
    use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

    const HERE: MacAddress = MacAddress([2, 0, 0, 0, 0, 1]);
    const THERE: MacAddress = MacAddress([2, 0, 0, 0, 0, 2]);

    /// What both ways of reading make of a frame: the plain one may pass it on, but never differ.
    fn agree<A: Address>(frame: &[u8]) -> Result<bool, TestCaseError> {
        let Some(plain) = Plain::<A>::read(frame) else {
            return Ok(false);
        };
        let parsed = parse(frame, Offloads::default());
        prop_assert_eq!(plain.headers().map(Parsed::Ip), parsed);
        if let Ok(headers) = plain.headers() {
            prop_assert_eq!(headers.five_tuple::<A>(frame), Some(plain.tuple));
            prop_assert_eq!(headers.ip_length(), usize::from(plain.ip_length));
        }
        Ok(true)
    }

    fn rewritten_alike<A: Address>(
        frame: &[u8],
        translation: Translation<A>,
    ) -> Result<(), TestCaseError> {
        let Some(plain) = Plain::<A>::read(frame).filter(|plain| plain.ttl > 0) else {
            return Ok(());
        };
        let Ok(headers) = plain.headers() else {
            return Ok(());
        };
        let (mut short, mut long) = (frame.to_vec(), frame.to_vec());
        plain.rewrite(&mut short, THERE, HERE, translation);
        rewrite::decrement_ttl(&mut long, &headers);
        rewrite::set_link(&mut long, THERE, HERE);
        let translated = match translation {
            Translation::None => Ok(()),
            Translation::Source(to) => rewrite::translate_source(&mut long, &headers, to),
            Translation::Destination(to) => rewrite::translate_destination(&mut long, &headers, to),
        };
        prop_assert_eq!(translated, Ok(()));
        prop_assert_eq!(short, long);
        Ok(())
    }

    fn frame(tcp: bool, v6: bool, data: usize, padding: usize, flags: u8, ttl: u8) -> Vec<u8> {
        let end = |host: u8, port| -> SocketAddr {
            if v6 {
                (
                    Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, u16::from(host)),
                    port,
                )
                    .into()
            } else {
                (Ipv4Addr::new(10, 0, 1, host), port).into()
            }
        };
        let (source, destination) = (end(100, 1234), end(50, 80));
        let builder = if tcp {
            PacketBuilder::tcp(source, destination).flags(flags)
        } else {
            PacketBuilder::udp(source, destination)
        };
        let builder = builder.link(HERE, THERE).ttl(ttl).payload(vec![7; data]);
        builder.padding(padding).build()
    }

    #[test]
    fn usual_packets_are_plain() {
        for v6 in [false, true] {
            for tcp in [false, true] {
                let frame = frame(tcp, v6, 100, 0, 0x10, 64);
                let plain = if v6 {
                    agree::<Ipv6Addr>(&frame)
                } else {
                    agree::<Ipv4Addr>(&frame)
                };
                assert!(plain.unwrap(), "tcp {tcp}, IPv6 {v6}");
            }
        }
    }

    proptest! {
        #[test]
        fn what_is_plain_parses_to_the_same_headers(
            (tcp, v6) in any::<(bool, bool)>(),
            (data, padding) in (0_usize..40, 0_usize..8),
            damage in prop::collection::vec((0_usize..90, any::<u8>()), 0..3),
            (cut, mend) in (30_usize..160, any::<bool>()),
        ) {
            let mut frame = frame(tcp, v6, data, padding, 0x18, 64);
            for (at, value) in damage {
                if let Some(byte) = frame.get_mut(at) {
                    *byte = value;
                }
            }
            if mend && !v6 {
                ipv4::fill_checksum(&mut frame[14..34]);
            }
            frame.truncate(cut);
            agree::<Ipv4Addr>(&frame)?;
            agree::<Ipv6Addr>(&frame)?;
        }

        #[test]
        fn rewriting_equals_the_general_code(
            (tcp, v6) in any::<(bool, bool)>(),
            data in prop::collection::vec(any::<u8>(), 12..40),
            (address, port, ttl) in any::<(u128, u16, u8)>(),
            checksums in any::<[[u8; 2]; 2]>(),
            kind in 0_usize..3,
        ) {
            let mut frame = frame(tcp, v6, data.len(), 0, 0x10, ttl);
            // Wrong checksums must stay exactly as wrong, and zero in UDP stays none.
            let l4 = if v6 { 54 } else { 34 };
            let at = l4 + if tcp { 16 } else { 6 };
            let wrong = [checksums[0], [0, 0], [0xff, 0xff]][usize::from(checksums[1][0] % 3)];
            frame[at..at + 2].copy_from_slice(&wrong);
            if v6 {
                let to = Endpoint::new(Ipv6Addr::from_bits(address), port);
                let kinds = [Translation::None, Translation::Source(to), Translation::Destination(to)];
                rewritten_alike(&frame, kinds[kind])?;
            } else {
                let to = Endpoint::new(Ipv4Addr::from_bits(address as u32), port);
                let kinds = [Translation::None, Translation::Source(to), Translation::Destination(to)];
                rewritten_alike(&frame, kinds[kind])?;
            }
        }
    }
}
