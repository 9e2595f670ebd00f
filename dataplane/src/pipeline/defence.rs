//! A worker's defences against floods at work: what is in effect for each of its tables
//! ([`crate::defence`]), the steady deletion of `drop_entry`, the packets of `drop_packet`.
//!
//! The kernel looks at 1/32 of its buckets a second, picked at random. Here the same share is walked in
//! order, [`PER_LOOP`] slots per loop, so each connection is looked at every 32 seconds, and a table of
//! any size costs a loop the same. Templates it looks at once in 32 seconds too, in a round of the sweep
//! that each worker makes through its share of them all the time.

use super::{PER_LOOP, WorkerState, helper};
use crate::address::{Address, Family};
use crate::connection::{DropEntry, Millis, Slot, Table, TcpTable};
use crate::counters::Event;
use crate::defence::Defences;
use crate::service::Services;
use arrayvec::ArrayVec;
use std::net::{Ipv4Addr, Ipv6Addr};

/// The defences of both tables.
#[derive(Debug, Default)]
pub(super) struct Defence {
    v4: Guard,
    v6: Guard,
    /// When the tables were last judged.
    judged: Option<Millis>,
    /// The settings they were judged by.
    settings: Defences,
    /// When `drop_entry` may look at the templates again.
    next_sweep: Millis,
}

/// What is in effect for one table.
#[derive(Debug, Default)]
struct Guard {
    judge: DropEntry,
    /// The table was short of room when it was last judged.
    short: bool,
    drop_entry: bool,
    /// One packet of so many that ask for a new connection is dropped; 0 = none.
    drop_rate: u32,
    /// How many more pass, the next one dropped included.
    drop_counter: u32,
    tcp_table: TcpTable,
    /// Where the walk through the table goes on, and how far it goes this second.
    cursor: u32,
    to_walk: usize,
}

impl Defence {
    /// The TCP transition table in force for connections of this family.
    #[inline]
    pub(super) fn tcp_table(&self, family: Family) -> TcpTable {
        self.guard(family).tcp_table
    }

    /// True if this packet, which asks for a new connection, is the one in so many to be dropped.
    #[inline]
    pub(super) fn drops_packet(&mut self, family: Family) -> bool {
        let guard = match family {
            Family::V4 => &mut self.v4,
            Family::V6 => &mut self.v6,
        };
        if guard.drop_rate == 0 {
            return false;
        }
        guard.drop_counter = guard.drop_counter.saturating_sub(1);
        if guard.drop_counter > 0 {
            return false;
        }
        guard.drop_counter = guard.drop_rate;
        true
    }

    /// Decides what is in effect, once a second and when the settings change. Returns what a reader
    /// of the counters sees, if it was decided anew.
    pub(super) fn judge(
        &mut self,
        settings: &Defences,
        v4: &Table<Ipv4Addr>,
        v6: &Table<Ipv6Addr>,
        workers: u8,
        now: Millis,
    ) -> Option<u64> {
        let due = self.judged.is_none_or(|judged| now.0 >= judged.0 + SECOND);
        if !due && self.settings == *settings {
            return None;
        }
        self.settings = *settings;
        if due {
            self.judged = Some(now);
        }
        self.v4.judge(settings, v4, workers, due);
        self.v6.judge(settings, v6, workers, due);
        Some(self.v4.in_effect() | self.v6.in_effect())
    }

    /// True while `drop_entry` is in effect for connections of this family.
    pub(super) fn drops_entries(&self, family: Family) -> bool {
        self.guard(family).drop_entry
    }

    /// A round of the sweep through a worker's share of the templates begins: true if `drop_entry`
    /// takes part in it, which it does as often as it comes past each connection.
    pub(super) fn joins_sweep(&mut self, now: Millis) -> bool {
        let due = now.0 >= self.next_sweep.0;
        let joins = due && (self.v4.drop_entry || self.v6.drop_entry);
        if joins {
            self.next_sweep = Millis(now.0 + SHARE as u64 * SECOND);
        }
        joins
    }

    /// True if `drop_entry` has something to walk through now.
    #[inline]
    pub(super) fn walks(&self) -> bool {
        self.v4.to_walk + self.v6.to_walk > 0
    }

    fn guard(&self, family: Family) -> &Guard {
        match family {
            Family::V4 => &self.v4,
            Family::V6 => &self.v6,
        }
    }
}

impl Guard {
    fn judge<A: Address>(
        &mut self,
        settings: &Defences,
        table: &Table<A>,
        workers: u8,
        walk: bool,
    ) {
        let capacity = table.capacity();
        let free = capacity - table.len();
        let threshold = settings.threshold(capacity, table.bytes(), workers);
        // What began ends only when there is clearly more room, so that it does not flap.
        let enough = threshold + if self.short { threshold / 8 } else { 0 };
        let short = free < enough;
        self.short = short;
        self.drop_entry = settings.drop_entry.in_effect(short);
        self.drop_rate = settings.drop_rate(short, free, threshold);
        self.drop_counter = self.drop_counter.min(self.drop_rate);
        if self.drop_rate > 0 && self.drop_counter == 0 {
            self.drop_counter = self.drop_rate;
        }
        self.tcp_table = if settings.secure_tcp.in_effect(short) {
            TcpTable::Secure
        } else {
            TcpTable::Normal
        };
        if !self.drop_entry || table.is_empty() {
            self.to_walk = 0;
        } else if walk {
            self.to_walk = capacity.div_ceil(SHARE);
        }
    }

    /// The bits of [`NAMES`](crate::defence::NAMES).
    fn in_effect(&self) -> u64 {
        let secure_tcp = self.tcp_table == TcpTable::Secure;
        [self.drop_entry, self.drop_rate > 0, secure_tcp]
            .into_iter()
            .enumerate()
            .map(|(bit, set)| u64::from(set) << bit)
            .sum()
    }

    /// Walks a little further through the table; the connections that must go.
    /// Those that others depend on are spared, as in the kernel.
    fn walk<A: Address>(
        &mut self,
        services: &Services,
        table: &Table<A>,
        now: Millis,
    ) -> ArrayVec<Slot, PER_LOOP> {
        let mut doomed = ArrayVec::new();
        let budget = self.to_walk.min(PER_LOOP);
        let judge = &mut self.judge;
        let next = table.scan(self.cursor, budget, |slot, connection| {
            if !helper::is_needed(services, connection) && judge.takes(connection, now) {
                doomed.push(slot);
            }
        });
        self.cursor = next.unwrap_or(0);
        self.to_walk -= budget;
        doomed
    }
}

impl WorkerState {
    /// Does a little of `drop_entry`.
    #[cold]
    pub(super) fn drop_entries(
        &mut self,
        services: &Services,
        v4: &mut Table<Ipv4Addr>,
        v6: &mut Table<Ipv6Addr>,
        now: Millis,
    ) {
        let doomed = self.defence.v4.walk(services, v4, now);
        self.drop_doomed(services, v4, &doomed);
        let doomed = self.defence.v6.walk(services, v6, now);
        self.drop_doomed(services, v6, &doomed);
    }

    fn drop_doomed<A: Address>(
        &mut self,
        services: &Services,
        table: &mut Table<A>,
        doomed: &[Slot],
    ) {
        for slot in doomed {
            let connection = table.remove(*slot);
            self.unbind(services, &connection);
        }
        if !doomed.is_empty() {
            let counter = self.counters.event(Event::ConnectionsDropped);
            counter.add(doomed.len() as u64);
        }
    }
}

/// One part of so many of a table is walked through in a second.
const SHARE: usize = 32;
const SECOND: u64 = 1000;
