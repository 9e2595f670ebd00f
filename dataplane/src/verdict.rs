//! What becomes of a packet: verdicts, punt classes and drop reasons as values.
//!
//! Every stage returns one of these; nothing else decides. Each [`DropReason`] is a counter of
//! the worker (`stats` prints them by [`DropReason::name`]), so a lost packet that no counter
//! explains is a bug.

use crate::fragment_table::Seat;
use std::net::IpAddr;

/// Index of a port in configuration order (not DPDK's number: a port may have several devices).
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct PortId(pub u8);

/// Index of a worker, `0 .. W`.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct WorkerId(pub u8);

/// The decision on one packet.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Verdict {
    /// Send the (rewritten) packet on this port.
    Tx(PortId),
    /// Hand the untouched packet to the Linux stack through the TAP of the port it came from.
    Punt(PuntClass),
    /// Another worker owns the connection.
    Redirect(WorkerId),
    /// Hold the packet until this neighbour is resolved, then decide again.
    Wait(Neighbour),
    /// Keep the untouched packet in this seat, in place of what may still be there, until
    /// [`Pipeline::next_released`](crate::pipeline::Pipeline::next_released) or
    /// [`Pipeline::next_discarded`](crate::pipeline::Pipeline::next_discarded) names the seat.
    Hold(Seat),
    /// Free the packet and count why.
    Drop(DropReason),
}

/// A next hop whose link-layer address is needed.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct Neighbour {
    /// The port it is behind.
    pub port: PortId,
    /// Its address: a gateway, a real server or a client on the same link.
    pub address: IpAddr,
}

macro_rules! named {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident = $text:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
        #[repr(u8)]
        pub enum $name { $($(#[$vdoc])* $variant,)+ }

        impl $name {
            /// Every value, in declaration order; its position is its discriminant.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];
            /// How many there are.
            pub const COUNT: usize = Self::ALL.len();

            /// Stable snake-case name, as printed and exported.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $text,)+ }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.name())
            }
        }
    };
}
pub(crate) use named;

named! {
    /// Classes of punted packets, each with a ring and a rate of its own, most important first.
    PuntClass {
        /// VRRP adverts and BFD: losing them means failing over.
        Vrrp = "vrrp",
        /// ARP, neighbour and router discovery: losing them means losing the next hop.
        Arp = "arp",
        /// BGP, OSPF, RIP, SSH and connection sync.
        Routing = "routing",
        /// ICMP and ICMPv6 other than discovery.
        Icmp = "icmp",
        /// Everything else for the Linux stack.
        Rest = "rest",
    }
}

impl PuntClass {
    /// Why a packet of the class is dropped that comes faster than the class may.
    pub const fn policed(self) -> DropReason {
        match self {
            Self::Vrrp => DropReason::PolicedVrrp,
            Self::Arp => DropReason::PolicedArp,
            Self::Routing => DropReason::PolicedRouting,
            Self::Icmp => DropReason::PolicedIcmp,
            Self::Rest => DropReason::PolicedRest,
        }
    }

    /// Why a packet of the class is dropped when its ring is full.
    pub const fn full(self) -> DropReason {
        match self {
            Self::Vrrp => DropReason::PuntFullVrrp,
            Self::Arp => DropReason::PuntFullArp,
            Self::Routing => DropReason::PuntFullRouting,
            Self::Icmp => DropReason::PuntFullIcmp,
            Self::Rest => DropReason::PuntFullRest,
        }
    }
}

named! {
    /// Why a packet was dropped.
    DropReason {
        /// Shorter than an Ethernet header, or spread over several buffers.
        Frame = "frame",
        /// The frame is addressed to another station.
        ForeignMac = "foreign_mac",
        /// Multicast or broadcast nobody here listens to.
        Multicast = "multicast",
        /// An EtherType nobody here speaks, or more VLAN tags than two.
        EtherType = "ether_type",
        /// A VLAN that is not configured on the port.
        Vlan = "vlan",
        /// IPv4 header: wrong version, header length or bounds.
        Ipv4Header = "ipv4_header",
        /// IPv4 header checksum.
        Ipv4Checksum = "ipv4_checksum",
        /// IPv6 header: wrong version or bounds.
        Ipv6Header = "ipv6_header",
        /// IPv6 extension headers: out of bounds, out of order or too many.
        Ipv6Extension = "ipv6_extension",
        /// The IP length exceeds the frame.
        Truncated = "truncated",
        /// Transport header out of bounds or inconsistent.
        TransportHeader = "transport_header",
        /// TCP, UDP, SCTP or ICMP checksum, where it had to be verified.
        TransportChecksum = "transport_checksum",
        /// A source address that cannot be a sender's: multicast, broadcast, loopback, zero or our own.
        MartianSource = "martian_source",
        /// A destination address that cannot be on the wire: loopback or zero.
        MartianDestination = "martian_destination",
        /// A fragment that cannot be forwarded: a later one whose first got lost between workers; one
        /// of SCTP whose port would have to be translated (its checksum covers the whole datagram);
        /// one of an FTP control connection that has to be read; one that a server on this box answers
        /// with, through NAT.
        Fragment = "fragment",
        /// A fragment that can be part of no datagram, or a first one without the whole transport header.
        FragmentMalformed = "fragment_malformed",
        /// A fragment that overlaps another of its datagram; the rest of the datagram with it.
        FragmentOverlap = "fragment_overlap",
        /// A fragment all of which was seen before.
        FragmentDuplicate = "fragment_duplicate",
        /// A fragment that waited for the first of its datagram in vain.
        FragmentTimeout = "fragment_timeout",
        /// A fragment that came before the first of its datagram, and too many wait.
        FragmentTableFull = "fragment_table_full",
        /// Too many packets look for the worker that has their connection.
        SearchLimited = "search_limited",
        /// A configured virtual service that this box does not serve now.
        VipBackup = "vip_backup",
        /// TTL or hop limit used up, and no ICMP error may be sent for it.
        TtlExpired = "ttl_expired",
        /// Larger than the MTU of the way out, may not be fragmented, and no ICMP error may be sent.
        TooBig = "too_big",
        /// No server can take the connection and the client is not told (`no_server = drop`, or no ICMP error may be sent).
        NoServer = "no_server",
        /// The connection's server is gone and `on_real_removed`/`on_real_down` says to drop it.
        ServerGone = "server_gone",
        /// A packet of a real server that belongs to no connection (`nat_icmp_send`), and no ICMP error may be sent.
        NoConnection = "no_connection",
        /// No route to the next hop, and no ICMP error may be sent.
        NoRoute = "no_route",
        /// A blackhole or prohibit route.
        Blackhole = "blackhole",
        /// The next hop does not answer, and no ICMP error may be sent.
        NeighbourFailed = "neighbour_failed",
        /// Too many packets wait for this neighbour or for neighbours in all.
        WaitFull = "wait_full",
        /// The connection table has no room and nothing in it may be evicted.
        TableFull = "table_full",
        /// The defence `drop_packet`: one in so many of the packets that ask for a new connection.
        DropPacket = "drop_packet",
        /// Every server that could take the connection has its reply key in use.
        ReplyKeyInUse = "reply_key_in_use",
        /// A forwarding method, protocol or feature not built yet.
        NotSupported = "not_supported",
        /// A segment of an FTP control connection that came before the one it follows.
        FtpOutOfOrder = "ftp_out_of_order",
        /// ICMP errors are rate limited.
        IcmpLimited = "icmp_limited",
        /// An ICMP error about a packet in a tunnel that is of no use to its client.
        TunnelError = "tunnel_error",
        /// Transit traffic and `transit = drop`.
        Transit = "transit",
        /// The port has no Linux interface to punt to.
        NoKernelInterface = "no_kernel_interface",
        /// VRRP or BFD, faster than a worker may punt it.
        PolicedVrrp = "policed_vrrp",
        /// ARP and discovery, faster than a worker may punt it.
        PolicedArp = "policed_arp",
        /// Routing and SSH, faster than a worker may punt it.
        PolicedRouting = "policed_routing",
        /// ICMP, faster than a worker may punt it.
        PolicedIcmp = "policed_icmp",
        /// The rest, faster than a worker may punt it.
        PolicedRest = "policed_rest",
        /// VRRP or BFD: the ring to the slow path was full.
        PuntFullVrrp = "punt_full_vrrp",
        /// ARP and discovery: the ring to the slow path was full.
        PuntFullArp = "punt_full_arp",
        /// Routing and SSH: the ring to the slow path was full.
        PuntFullRouting = "punt_full_routing",
        /// ICMP: the ring to the slow path was full.
        PuntFullIcmp = "punt_full_icmp",
        /// The rest: the ring to the slow path was full.
        PuntFullRest = "punt_full_rest",
        /// The ring to another worker was full.
        RedirectFull = "redirect_full",
        /// The device did not take the packet.
        TxFull = "tx_full",
        /// The port is down.
        PortDown = "port_down",
        /// No packet buffer for a packet of our own (a fragment or an ICMP error).
        NoBuffer = "no_buffer",
        /// The worker is stopping.
        Stopping = "stopping",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn names_are_unique_and_positions_are_discriminants() {
        let names: HashSet<_> = DropReason::ALL.iter().map(|r| r.name()).collect();
        assert_eq!(names.len(), DropReason::COUNT);
        for (index, reason) in DropReason::ALL.iter().enumerate() {
            assert_eq!(*reason as usize, index);
        }
    }
}
