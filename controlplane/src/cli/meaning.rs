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

/// A counter of all virtual routers together.
pub(super) fn of_virtual_routers(name: &str) -> &'static str {
    find(ALL_VIRTUAL_ROUTERS, name)
}

/// A counter of a virtual router.
pub(super) fn of_virtual_router(name: &str) -> Option<&'static str> {
    let meaning = find(VIRTUAL_ROUTERS, name);
    (!meaning.is_empty()).then_some(meaning)
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
    (
        "fragment",
        "a fragment that cannot be forwarded: its first one got lost between workers, or translating \
         it needs the whole datagram (SCTP ports, FTP control, a server on this box)",
    ),
    (
        "fragment_malformed",
        "a fragment of no possible datagram, or a first one without the whole transport header",
    ),
    (
        "fragment_overlap",
        "fragments of one datagram overlap: the datagram is given up",
    ),
    ("fragment_duplicate", "a fragment that was seen before"),
    (
        "fragment_timeout",
        "a fragment that waited a second for the first of its datagram",
    ),
    (
        "fragment_table_full",
        "an early fragment, and too many wait for the first of their datagram",
    ),
    (
        "search_limited",
        "too many packets look for the worker that has their connection",
    ),
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
    (
        "no_connection",
        "from a real server, of no connection ([ipvs] nat_icmp_send)",
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
        "drop_packet",
        "new connections while the table is short of room ([ipvs] drop_packet)",
    ),
    (
        "reply_key_in_use",
        "every server's reply address is taken by another connection",
    ),
    (
        "not_supported",
        "a method, protocol or feature not built yet",
    ),
    (
        "ftp_out_of_order",
        "segments of FTP control connections before the one they follow; sent again",
    ),
    ("icmp_limited", "ICMP errors are rate limited"),
    (
        "tunnel_error",
        "an ICMP error about a packet in a tunnel that is of no use to its client",
    ),
    ("transit", "transit traffic, and transit = drop"),
    (
        "no_kernel_interface",
        "for the Linux stack, but the port has no interface there",
    ),
    (
        "policed_vrrp",
        "VRRP or BFD, faster than a worker may punt it",
    ),
    (
        "policed_arp",
        "ARP or neighbour discovery, faster than a worker may punt it",
    ),
    (
        "policed_routing",
        "BGP, OSPF, RIP, SSH or sync, faster than a worker may punt it",
    ),
    ("policed_icmp", "ICMP, faster than a worker may punt it"),
    (
        "policed_rest",
        "other packets for the Linux stack, faster than a worker may punt it",
    ),
    ("punt_full_vrrp", "VRRP or BFD, and the slow path is behind"),
    (
        "punt_full_arp",
        "ARP or neighbour discovery, and the slow path is behind",
    ),
    (
        "punt_full_routing",
        "BGP, OSPF, RIP, SSH or sync, and the slow path is behind",
    ),
    ("punt_full_icmp", "ICMP, and the slow path is behind"),
    (
        "punt_full_rest",
        "other packets for the Linux stack, and the slow path is behind",
    ),
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
    ("templates_created", "persistence templates made"),
    ("templates_expired", "persistence templates timed out"),
    (
        "templates_dropped",
        "persistence templates deleted by [ipvs] drop_entry",
    ),
    (
        "templates_full",
        "persistent clients scheduled without a template for lack of room; raise 'connections'",
    ),
    (
        "one_packet_scheduled",
        "datagrams scheduled each for itself (one_packet)",
    ),
    ("connections_evicted", "connections evicted to make room"),
    (
        "connections_dropped",
        "connections deleted by [ipvs] drop_entry",
    ),
    (
        "forwarded_stateless",
        "forwarded without an entry, of flows that found the table full",
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
    (
        "icmp_relayed",
        "ICMP errors about packets in tunnels passed on to the client",
    ),
    ("tcp_resets", "TCP resets sent"),
    ("ftp_expected", "FTP data connections announced"),
    (
        "ftp_refused",
        "FTP announcements not followed: third parties, privileged ports, nonsense",
    ),
    (
        "ftp_unhelped",
        "FTP control connections beyond those a worker can read",
    ),
    ("fragments_sent", "fragments sent"),
    (
        "fragments_held",
        "fragments that waited for the first of their datagram",
    ),
    (
        "icmp_related",
        "ICMP errors about connections, forwarded to the server or the client",
    ),
    (
        "icmp_scheduled",
        "connections made by an ICMP error ([ipvs] schedule_icmp)",
    ),
    (
        "icmp_unrelated",
        "ICMP errors that quote a service's or server's packet of no connection",
    ),
    (
        "owner_searches",
        "times a packet was passed on to look for the worker with its connection",
    ),
    ("waited", "packets that waited for a neighbour"),
    ("wait_resolved", "of those, sent when it answered"),
    ("injected", "packets sent for the Linux stack"),
    ("redirected_in", "packets taken from other workers"),
    ("redirected_out", "packets given to other workers"),
    (
        "transit_forwarded",
        "transit packets forwarded (transit = fast)",
    ),
    (
        "bypassed",
        "forwarded around a mark's service without a server ([ipvs] cache_bypass)",
    ),
    ("busy_polls", "polls that found packets"),
    ("busy_ticks", "TSC ticks spent in loops that found packets"),
    ("empty_polls", "polls that found none"),
    ("sleeps", "sleeps (idle = adaptive)"),
];

const VIRTUAL_ROUTERS: &[(&str, &str)] = &[
    ("adverts_sent", "advertisements sent, to each peer one"),
    ("adverts_received", "advertisements found right"),
    (
        "priority_zero_sent",
        "of those sent, with priority 0: it let go",
    ),
    (
        "priority_zero_received",
        "of those received, with priority 0: a peer let go",
    ),
    ("became_active", "changes to MASTER"),
    ("released_active", "changes from MASTER"),
    (
        "from_self",
        "ignored: from this box's own address; a loop, or an address used twice",
    ),
    ("bad_length", "ignored: too short for its addresses"),
    ("bad_ttl", "ignored: TTL not 255, so it came from afar"),
    ("bad_version", "ignored: another version of VRRP"),
    ("bad_auth_type", "ignored: another auth_type"),
    ("bad_password", "ignored: another password"),
    (
        "bad_interval",
        "ignored: another advert_interval (VRRPv2), or none (VRRPv3)",
    ),
    ("bad_type", "ignored: not an advertisement"),
    ("bad_checksum", "ignored: wrong checksum"),
    (
        "bad_destination",
        "ignored: unicast where multicast is expected, or the other way round",
    ),
    ("other_addresses", "with other addresses than ours"),
    (
        "other_interval",
        "with another interval than ours (VRRPv3); obeyed",
    ),
    (
        "lower_priority",
        "with a priority below ours; discarded if we preempt",
    ),
    (
        "two_owners",
        "from another router that claims priority 255 as we do",
    ),
];

/// Of all of them, and of their thread.
const ALL_VIRTUAL_ROUTERS: &[(&str, &str)] = &[
    ("packets_received", "VRRP packets read"),
    (
        "packets_malformed",
        "of those, without a whole IP header, or longer than any advertisement",
    ),
    (
        "packets_overflowed",
        "VRRP packets that came faster than they could be read",
    ),
    ("unknown_vrid", "for a VRID that is not configured there"),
    ("no_vrid", "too short to have a VRID"),
    ("adverts_sent", "advertisements sent"),
    (
        "send_failures",
        "advertisements Linux would not send; the log says why",
    ),
    (
        "announcements_sent",
        "gratuitous ARPs and neighbour advertisements sent",
    ),
    ("announce_failures", "those Linux would not send"),
    (
        "netlink_resyncs",
        "times all interfaces were read anew because news of them was lost",
    ),
    (
        "netlink_failures",
        "changes of addresses, routes and interfaces that Linux refused; the log says why",
    ),
    (
        "events_lost",
        "changes of state that were not logged or mailed in time",
    ),
    ("rounds", "times the VRRP thread woke"),
];

#[cfg(test)]
mod tests {
    use super::*;
    use dataplane::counters::Event;
    use dataplane::verdict::{DropReason, PuntClass};

    #[test]
    fn every_counter_of_the_data_plane_has_a_meaning() {
        for reason in DropReason::ALL {
            assert_ne!(of_drop(reason.name()), "", "{reason}");
        }
        for class in PuntClass::ALL {
            assert_ne!(of_punt(class.name()), "", "{class}");
        }
        for event in Event::ALL {
            assert_ne!(of_event(event.name()), "", "{event}");
        }
    }

    #[test]
    fn every_counter_of_all_virtual_routers_has_a_meaning() {
        let routers = vrrp::Routers::new(vrrp::Settings::default(), std::time::Instant::now());
        let driver = vrrp::driver::DriverCounters::default();
        let names: Vec<_> = routers
            .counters()
            .into_keys()
            .chain(driver.by_name().into_keys())
            .collect();
        assert_eq!(ALL_VIRTUAL_ROUTERS.len(), names.len());
        for name in names {
            assert_ne!(of_virtual_routers(name), "", "{name}");
        }
    }

    #[test]
    fn no_meaning_is_left_of_a_counter_that_is_gone() {
        assert_eq!(DROPS.len(), DropReason::COUNT);
        assert_eq!(PUNTS.len(), PuntClass::COUNT);
        assert_eq!(EVENTS.len(), Event::COUNT);
    }
}
