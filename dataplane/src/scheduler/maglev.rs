//! The lookup table of mh, slot for slot the kernel's (behaviour notes 1.8).
//!
//! Every server has a permutation of the slots, from two hashes of its address and port. Servers
//! take free slots by turns, each the next free ones of its permutation, until none is free: so a
//! server that leaves takes little else with it. Control fills the table; a worker only looks one
//! slot up. A slot holds an index into the list the table was filled for.
//!
//! The table depends on the servers in list order with their addresses, ports and last weights
//! above 0, nothing else. A weight of 0 leaves it as it is: the server's clients are refused, or
//! fall back, and find it again afterwards.

use crate::address::{Address, Family};
use crate::service::RealServer;
use hashbrown::HashMap;
use rustc_hash::FxBuildHasher;
use std::net::IpAddr;
use std::sync::{Arc, Weak};

/// Slots: the kernel's for `IP_VS_MH_TAB_INDEX` 12, its default. A prime.
pub const SLOTS: usize = 4093;

/// A key of the kernel's hash.
pub(super) type Key = (u64, u64);
/// For slots.
pub(super) const FIRST: Key = (2_654_435_761, 2_654_435_761);
/// For steps.
const SECOND: Key = (2_654_446_892, 2_654_446_892);
/// Weights count as if the largest had at most so many bits: half the table's index.
const WEIGHT_BITS: u32 = 6;

/// One table.
#[derive(Debug)]
pub(crate) struct Maglev(Box<[u16]>);

/// What of a server the table depends on.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
struct Member {
    /// [`fold`] plus port.
    word: u32,
    last_weight: u32,
}

impl Maglev {
    fn filled(members: &[Member]) -> Self {
        let mut slots = vec![NOBODY; SLOTS].into_boxed_slice();
        let mut queues = queues(members);
        let mut free = if queues.is_empty() { 0 } else { SLOTS };
        while free > 0 {
            for queue in &mut queues {
                for _ in 0..queue.turns.min(free) {
                    let slot = queue.next_free(&slots);
                    slots[slot] = queue.server;
                    free -= 1;
                }
            }
        }
        Self(slots)
    }

    /// The index of the server in a slot.
    #[inline]
    pub(super) fn server(&self, slot: usize) -> Option<usize> {
        let server = *self.0.get(slot)?;
        (server != NOBODY).then_some(usize::from(server))
    }
}

/// A server on its way through the slots.
struct Queue {
    server: u16,
    at: usize,
    step: usize,
    /// Slots it takes each time.
    turns: usize,
}

impl Queue {
    /// The next slot of its permutation that is free. There is one: every permutation visits all,
    /// because their number is prime.
    fn next_free(&mut self, slots: &[u16]) -> usize {
        while slots[self.at] != NOBODY {
            self.at += self.step;
            if self.at >= SLOTS {
                self.at -= SLOTS;
            }
        }
        self.at
    }
}

/// Those who take part.
fn queues(members: &[Member]) -> Vec<Queue> {
    let weights = || members.iter().map(|member| member.last_weight);
    let divisor = weights().fold(0, super::list::gcd).max(1);
    let largest = weights().max().unwrap_or(0) / divisor;
    let shift = (u32::BITS - largest.leading_zeros()).saturating_sub(WEIGHT_BITS);
    (0..)
        .zip(members)
        .filter(|(_, member)| member.last_weight > 0)
        .map(|(server, member)| Queue {
            server,
            at: hash(member.word, FIRST) as usize % SLOTS,
            step: hash(member.word, SECOND) as usize % (SLOTS - 1) + 1,
            turns: ((member.last_weight / divisor) >> shift).max(1) as usize,
        })
        .collect()
}

/// Tables in use, so that services with the same servers share one: the addresses of a range do,
/// and so does a service with itself before a change that does not matter.
#[derive(Clone, Debug, Default)]
pub struct MaglevTables(HashMap<Box<[Member]>, Weak<Maglev>, FxBuildHasher>);

impl MaglevTables {
    /// The table for these servers with their last weights above 0, in list order. Of more than
    /// [`SLOTS`] servers, which the kernel refuses, the others take no part.
    pub(super) fn table(
        &mut self,
        family: Family,
        servers: &[RealServer],
        last_weights: &[u32],
    ) -> Arc<Maglev> {
        let members = servers.iter().zip(last_weights).take(SLOTS);
        let members: Box<[Member]> = members
            .map(|(server, last_weight)| Member {
                word: fold(family, server.address).wrapping_add(u32::from(server.port)),
                last_weight: *last_weight,
            })
            .collect();
        if let Some(table) = self.0.get(&members).and_then(Weak::upgrade) {
            return table;
        }
        // Those nobody has any more go when there would be as many as those in use.
        if self.0.len() == self.0.capacity() {
            self.0.retain(|_, table| table.strong_count() > 0);
        }
        let table = Arc::new(Maglev::filled(&members));
        self.0.insert(members, Arc::downgrade(&table));
        table
    }
}

/// What of a server's address a service of `family` hashes. The kernel goes by the service's family:
/// of a tunnelled server's IPv6 address an IPv4 service sees the first word only, while the words
/// that an IPv4 address lacks are zero to an IPv6 service.
fn fold(family: Family, address: IpAddr) -> u32 {
    match (family, address) {
        (_, IpAddr::V4(address)) => address.fold(),
        (Family::V6, IpAddr::V6(address)) => address.fold(),
        (Family::V4, IpAddr::V6(address)) => (address.to_bits() >> 96) as u32,
    }
}

/// The kernel's `hsiphash` of one word: on 64-bit machines SipHash-1-3, cut to 32 bits.
#[inline]
pub(super) fn hash(word: u32, key: Key) -> u32 {
    let mut v = [
        key.0 ^ 0x736f_6d65_7073_6575,
        key.1 ^ 0x646f_7261_6e64_6f6d,
        key.0 ^ 0x6c79_6765_6e65_7261,
        key.1 ^ 0x7465_6462_7974_6573,
    ];
    // The only block: the length in bytes in the top byte, then the word.
    let block = 4 << 56 | u64::from(word);
    v[3] ^= block;
    round(&mut v);
    v[0] ^= block;
    v[2] ^= 0xff;
    for _ in 0..3 {
        round(&mut v);
    }
    (v[0] ^ v[1] ^ v[2] ^ v[3]) as u32
}

#[inline]
fn round(v: &mut [u64; 4]) {
    v[0] = v[0].wrapping_add(v[1]);
    v[1] = v[1].rotate_left(13) ^ v[0];
    v[0] = v[0].rotate_left(32);
    v[2] = v[2].wrapping_add(v[3]);
    v[3] = v[3].rotate_left(16) ^ v[2];
    v[0] = v[0].wrapping_add(v[3]);
    v[3] = v[3].rotate_left(21) ^ v[0];
    v[2] = v[2].wrapping_add(v[1]);
    v[1] = v[1].rotate_left(17) ^ v[2];
    v[2] = v[2].rotate_left(32);
}

const NOBODY: u16 = u16::MAX;
