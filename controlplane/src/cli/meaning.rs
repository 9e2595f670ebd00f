//! What each counter means, in one line an operator can act on. The names are the data plane's;
//! one that is not here is printed without a meaning.

/// A drop reason.
pub(super) fn of_drop(name: &str) -> &'static str {
    find(DROPS, name)
}

/// A class of packets for the Linux stack.
pub(super) fn of_punt(name: &str) -> &'static str {
    find(PUNTS, name)
}

/// An event.
pub(super) fn of_event(name: &str) -> &'static str {
    find(EVENTS, name)
}

fn find(meanings: &[(&str, &'static str)], name: &str) -> &'static str {
    meanings
        .iter()
        .find(|(known, _)| *known == name)
        .map_or("", |(_, meaning)| meaning)
}

const DROPS: &[(&str, &str)] = &[
    (
        "frame",
        "shorter than an Ethernet header, or in several buffers",
    ),
    ("foreign_mac", "addressed to another station"),
    ("multicast", "multicast or broadcast nobody here listens to"),
    ("ether_type", "neither IP nor ARP, or too many VLAN tags"),
    ("vlan", "a VLAN that is not configured on the port"),
    ("ipv4_header", "malformed IPv4 header"),
    ("ipv4_checksum", "wrong IPv4 header checksum"),
    ("ipv6_header", "malformed IPv6 header"),
    (
        "ipv6_extension",
        "malformed or too many IPv6 extension headers",
    ),
    ("truncated", "the IP length exceeds the frame"),
    (
        "transport_header",
        "malformed TCP, UDP, SCTP or ICMP header",
    ),
    (
        "transport_checksum",
        "wrong TCP, UDP, SCTP or ICMP checksum",
    ),
    ("martian_source", "the source address cannot be a sender's"),
    (
        "martian_destination",
        "the destination address cannot be on the wire",
    ),
    ("fragment", "a fragment of a balanced flow"),
    (
        "vip_backup",
        "a virtual address this box does not serve now",
    ),
    ("ttl_expired", "TTL used up, and no ICMP error may be sent"),
    (
        "too_big",
        "larger than the MTU, and no ICMP error may be sent",
    ),
    ("no_server", "no real server can take the connection"),
    (
        "server_gone",
        "the connection's real server is down or removed",
    ),
    ("no_route", "no route to the next hop"),
    ("blackhole", "a blackhole or prohibit route"),
    ("neighbour_failed", "the next hop does not answer ARP or ND"),
    ("wait_full", "too many packets wait for neighbours"),
    (
        "table_full",
        "the connection table is full; raise 'connections'",
    ),
    (
        "reply_key_in_use",
        "every server's reply address is taken by another connection",
    ),
    (
        "not_supported",
        "a method, protocol or feature not built yet",
    ),
    ("icmp_limited", "ICMP errors are rate limited"),
    ("transit", "transit traffic, and transit = drop"),
    (
        "no_kernel_interface",
        "for the Linux stack, but the port has no interface there",
    ),
    (
        "punt_policed",
        "for the Linux stack, faster than its class may",
    ),
    ("punt_full", "for the Linux stack, which is too slow"),
    ("redirect_full", "for another worker, which is too slow"),
    ("tx_full", "the device did not take it"),
    ("port_down", "the port to send on is down"),
    ("no_buffer", "no packet buffer for a packet of our own"),
    ("stopping", "the daemon is stopping"),
];

const PUNTS: &[(&str, &str)] = &[
    ("vrrp", "VRRP and BFD"),
    ("arp", "ARP and neighbour discovery"),
    ("routing", "BGP, OSPF, RIP, SSH and connection sync"),
    ("icmp", "ICMP other than discovery"),
    ("rest", "everything else for this box"),
];

const EVENTS: &[(&str, &str)] = &[
    ("rx_packets", "frames received"),
    ("rx_bytes", "bytes received"),
    ("tx_packets", "frames sent"),
    ("tx_bytes", "bytes sent"),
    ("connection_hits", "packets of a known connection"),
    ("connection_misses", "packets of no known connection"),
    ("connections_created", "connections created"),
    ("connections_expired", "connections timed out"),
    ("connections_evicted", "connections evicted to make room"),
    (
        "forwarded_stateless",
        "forwarded without an entry, the table being full",
    ),
    ("icmp_time_exceeded", "ICMP time exceeded sent"),
    (
        "icmp_too_big",
        "ICMP fragmentation needed or packet too big sent",
    ),
    ("icmp_port_unreachable", "ICMP port unreachable sent"),
    (
        "icmp_host_unreachable",
        "ICMP host or network unreachable sent",
    ),
    ("tcp_resets", "TCP resets sent"),
    ("fragments_sent", "IPv4 fragments sent"),
    ("waited", "packets that waited for a neighbour"),
    ("wait_resolved", "of those, sent when it answered"),
    ("injected", "packets sent for the Linux stack"),
    ("redirected_in", "packets taken from other workers"),
    ("redirected_out", "packets given to other workers"),
    (
        "transit_forwarded",
        "transit packets forwarded (transit = fast)",
    ),
    ("busy_polls", "polls that found packets"),
    ("empty_polls", "polls that found none"),
    ("sleeps", "sleeps (idle = adaptive)"),
];
