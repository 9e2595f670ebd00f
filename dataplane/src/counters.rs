//! Counters with one writer each and any number of readers.
//!
//! A worker is the only writer of its counters, so an increment is a plain load and store (no
//! locked instruction); readers on the control core sum over the workers with relaxed loads.
//! Every structure a worker writes is padded to cache lines of its own by its owner.

use crate::verdict::{DropReason, PuntClass, named};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// A monotonic 64-bit counter with a single writer.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds `n`. Only the one writer may call this: concurrent adds would be lost.
    #[inline]
    pub fn add(&self, n: u64) {
        self.0.store(self.0.load(Relaxed).wrapping_add(n), Relaxed);
    }

    /// Takes `n` back (gauges). Only the one writer may call this.
    #[inline]
    pub fn sub(&self, n: u64) {
        self.0.store(self.0.load(Relaxed).wrapping_sub(n), Relaxed);
    }

    /// Overwrites the value (gauges). Only the one writer may call this.
    #[inline]
    pub fn set(&self, n: u64) {
        self.0.store(n, Relaxed);
    }

    /// The value now.
    #[inline]
    pub fn value(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

named! {
    /// What a worker counts besides drops and punts.
    Event {
        /// Frames received.
        RxPackets = "rx_packets",
        /// Bytes received, Ethernet header included, FCS not.
        RxBytes = "rx_bytes",
        /// Frames given to a device.
        TxPackets = "tx_packets",
        /// Bytes given to a device.
        TxBytes = "tx_bytes",
        /// Packets of a known connection.
        ConnectionHits = "connection_hits",
        /// Packets of no known connection.
        ConnectionMisses = "connection_misses",
        /// Connections created.
        ConnectionsCreated = "connections_created",
        /// Connections whose timer ran out.
        ConnectionsExpired = "connections_expired",
        /// Connections evicted to make room.
        ConnectionsEvicted = "connections_evicted",
        /// Connections deleted by the defence `drop_entry`.
        ConnectionsDropped = "connections_dropped",
        /// Persistence templates made.
        TemplatesCreated = "templates_created",
        /// Persistence templates whose time ran out.
        TemplatesExpired = "templates_expired",
        /// Persistence templates deleted by the defence `drop_entry`.
        TemplatesDropped = "templates_dropped",
        /// New connections of persistent clients scheduled without a template: there was no room.
        TemplatesFull = "templates_full",
        /// Datagrams scheduled each for itself (`one_packet`).
        OnePacketScheduled = "one_packet_scheduled",
        /// Packets forwarded without an entry, of flows that found the table full.
        ForwardedStateless = "forwarded_stateless",
        /// ICMP time exceeded sent.
        IcmpTimeExceeded = "icmp_time_exceeded",
        /// ICMP fragmentation needed or packet too big sent.
        IcmpTooBig = "icmp_too_big",
        /// ICMP port unreachable sent.
        IcmpPortUnreachable = "icmp_port_unreachable",
        /// ICMP host or network unreachable sent.
        IcmpHostUnreachable = "icmp_host_unreachable",
        /// ICMP errors about packets in tunnels passed on to the client in words of its own.
        IcmpRelayed = "icmp_relayed",
        /// TCP resets sent (`on_real_removed = reset`).
        TcpResets = "tcp_resets",
        /// Data connections that FTP control connections announced.
        FtpExpected = "ftp_expected",
        /// Announcements of FTP control connections that were not followed: a third party's
        /// address, a privileged port, an answer to no question, nonsense, too many.
        FtpRefused = "ftp_refused",
        /// FTP control connections beyond those a worker can read.
        FtpUnhelped = "ftp_unhelped",
        /// Fragments sent.
        FragmentsSent = "fragments_sent",
        /// Fragments that had to wait for the first of their datagram.
        FragmentsHeld = "fragments_held",
        /// ICMP errors about connections, forwarded to the server or the client.
        IcmpRelated = "icmp_related",
        /// Connections that an ICMP error made (`schedule_icmp`), entries or not.
        IcmpScheduled = "icmp_scheduled",
        /// ICMP errors that quote a service's or a server's packet of no connection.
        IcmpUnrelated = "icmp_unrelated",
        /// Times that a packet was passed on to look for the worker that has its connection.
        OwnerSearches = "owner_searches",
        /// Packets that waited for a neighbour.
        Waited = "waited",
        /// Packets that left the waiting room because the neighbour answered.
        WaitResolved = "wait_resolved",
        /// Packets sent on behalf of the Linux stack.
        Injected = "injected",
        /// Packets received from other workers.
        RedirectedIn = "redirected_in",
        /// Packets sent to other workers.
        RedirectedOut = "redirected_out",
        /// Unicast forwarded that is neither ours nor a service's (`transit = fast`).
        TransitForwarded = "transit_forwarded",
        /// Packets forwarded around a mark's service without a server (`cache_bypass`).
        Bypassed = "bypassed",
        /// Polls that returned packets.
        BusyPolls = "busy_polls",
        /// Ticks of the time-stamp counter spent in loops that found packets.
        BusyTicks = "busy_ticks",
        /// Polls that returned none.
        EmptyPolls = "empty_polls",
        /// Sleeps of `idle = adaptive`.
        Sleeps = "sleeps",
    }
}

/// Everything one worker counts. Wrap it in `CachePadded` and share it by `Arc`.
#[derive(Debug)]
pub struct WorkerCounters {
    events: [Counter; Event::COUNT],
    drops: [Counter; DropReason::COUNT],
    punts: [Counter; PuntClass::COUNT],
    /// Connections in the IPv4 table now.
    pub connections_v4: Counter,
    /// Connections in the IPv6 table now.
    pub connections_v6: Counter,
    /// Packets in the waiting room now.
    pub waiting: Counter,
    /// Defences in effect now, a bit for each of [`NAMES`](crate::defence::NAMES).
    pub defence: Counter,
    /// Loop iterations: the watchdog sees a stalled worker by it.
    pub heartbeat: Counter,
}

impl Default for WorkerCounters {
    fn default() -> Self {
        Self {
            events: std::array::from_fn(|_| Counter::default()),
            drops: std::array::from_fn(|_| Counter::default()),
            punts: std::array::from_fn(|_| Counter::default()),
            connections_v4: Counter::default(),
            connections_v6: Counter::default(),
            waiting: Counter::default(),
            defence: Counter::default(),
            heartbeat: Counter::default(),
        }
    }
}

impl WorkerCounters {
    /// The counter of `event`.
    #[inline]
    pub fn event(&self, event: Event) -> &Counter {
        &self.events[event as usize]
    }

    /// The counter of packets dropped for `reason`.
    #[inline]
    pub fn dropped(&self, reason: DropReason) -> &Counter {
        &self.drops[reason as usize]
    }

    /// The counter of packets punted in `class`.
    #[inline]
    pub fn punted(&self, class: PuntClass) -> &Counter {
        &self.punts[class as usize]
    }

    /// Every counter that is not zero, by name: `drop.<reason>`, `punt.<class>`, `<event>`.
    pub fn moved(&self) -> Vec<(String, u64)> {
        let events = Event::ALL
            .iter()
            .map(|e| (e.name().to_owned(), self.event(*e).value()));
        let drops = DropReason::ALL
            .iter()
            .map(|r| (format!("drop.{r}"), self.dropped(*r).value()));
        let punts = PuntClass::ALL
            .iter()
            .map(|c| (format!("punt.{c}"), self.punted(*c).value()));
        events
            .chain(drops)
            .chain(punts)
            .filter(|(_, value)| *value != 0)
            .collect()
    }
}
