//! What the driver counts: written by its thread alone, read by anyone.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};

/// Counters as they were at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DriverCounters {
    /// Packets of protocol 112 that were read.
    pub packets_received: u64,
    /// Of those, without a whole IP header or longer than any advertisement.
    pub packets_malformed: u64,
    /// Dropped by the kernel because they came faster than they were read.
    pub packets_overflowed: u64,
    /// Advertisements sent.
    pub adverts_sent: u64,
    /// Advertisements the kernel would not send.
    pub send_failures: u64,
    /// Gratuitous ARPs and neighbour advertisements sent.
    pub announcements_sent: u64,
    /// Those the kernel would not send.
    pub announce_failures: u64,
    /// Times all interfaces were read anew because events were lost.
    pub netlink_resyncs: u64,
    /// Changes of addresses, interfaces and filters, and reads, that the kernel refused.
    pub netlink_failures: u64,
    /// Events the host did not take in time.
    pub events_lost: u64,
    /// Times the thread woke.
    pub rounds: u64,
}

impl DriverCounters {
    /// The counters by name.
    pub fn by_name(self) -> BTreeMap<&'static str, u64> {
        BTreeMap::from([
            ("packets_received", self.packets_received),
            ("packets_malformed", self.packets_malformed),
            ("packets_overflowed", self.packets_overflowed),
            ("adverts_sent", self.adverts_sent),
            ("send_failures", self.send_failures),
            ("announcements_sent", self.announcements_sent),
            ("announce_failures", self.announce_failures),
            ("netlink_resyncs", self.netlink_resyncs),
            ("netlink_failures", self.netlink_failures),
            ("events_lost", self.events_lost),
            ("rounds", self.rounds),
        ])
    }
}

/// The live ones.
#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) packets_received: Counter,
    pub(super) packets_malformed: Counter,
    pub(super) packets_overflowed: Counter,
    pub(super) adverts_sent: Counter,
    pub(super) send_failures: Counter,
    pub(super) announcements_sent: Counter,
    pub(super) announce_failures: Counter,
    pub(super) netlink_resyncs: Counter,
    pub(super) netlink_failures: Counter,
    pub(super) events_lost: Counter,
    pub(super) rounds: Counter,
}

impl Counters {
    pub(super) fn read(&self) -> DriverCounters {
        DriverCounters {
            packets_received: self.packets_received.get(),
            packets_malformed: self.packets_malformed.get(),
            packets_overflowed: self.packets_overflowed.get(),
            adverts_sent: self.adverts_sent.get(),
            send_failures: self.send_failures.get(),
            announcements_sent: self.announcements_sent.get(),
            announce_failures: self.announce_failures.get(),
            netlink_resyncs: self.netlink_resyncs.get(),
            netlink_failures: self.netlink_failures.get(),
            events_lost: self.events_lost.get(),
            rounds: self.rounds.get(),
        }
    }
}

/// One counter.
#[derive(Debug, Default)]
pub(super) struct Counter(AtomicU64);

impl Counter {
    pub(super) fn add(&self, count: u64) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}
