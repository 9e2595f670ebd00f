//! Connections that are expected: FTP data connections a control connection has announced.
//!
//! One table for all workers (DESIGN §4, "Shared"): who reads the announcement rarely is who gets
//! the data connection's first packet. Workers look into it only on a miss, and only while there
//! is anything in it; its locks are small, sharded by the client's address, and never taken by
//! control. A connection is claimed once. Its place is kept until it ends, so that every worker can
//! tell whose it is, and the control connection that announced it does not expire before it.
//!
//! Which addresses are concerned at all is told by counters that are read without a lock, so that
//! other misses pay for two loads. Memory is taken when the table is made. A full shard first gives
//! up connections that are closing; then, as for a control connection with too many announcements
//! nobody came for, nothing more is expected. Hashes are keyed: clients choose what is hashed.

use crate::address::{Address, Endpoint, FiveTuple};
use crate::connection::Millis;
use crate::service::{RealId, ServiceId};
use hashbrown::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// How long a connection is expected, in milliseconds (state LISTEN).
pub const EXPECTED_FOR: u32 = 120_000;
/// Data connections that one control connection may have announced without anybody coming.
const PER_CONTROL: u32 = 16;
const SHARDS: usize = 64;
/// Connections of one shard.
const PER_SHARD: usize = 1024;
/// Counters of pairs of addresses; a power of two.
const PAIRS: usize = 16_384;

/// The client's and the virtual end of a connection: what names it on the client's side.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct ClientKey {
    /// The client; port 0 = not known yet.
    pub client: SocketAddr,
    /// Whom the client talks to.
    pub vip: SocketAddr,
}

/// A connection that is expected, or was.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Expected {
    /// The control connection.
    pub control: ClientKey,
    /// The data connection; the client's port is 0 in passive mode.
    pub key: ClientKey,
    /// Its end at the real server.
    pub server: SocketAddr,
    /// The control connection's real server.
    pub real: RealId,
    /// The control connection's service.
    pub service: ServiceId,
}

/// What became of an announcement.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Expectation {
    /// The connection is expected from now on.
    New,
    /// It was already, and is for as long again: the client may have to ask twice.
    Again,
    /// There is no room for it, or it is expected for another server or under way.
    Refused,
}

/// What a packet of no known connection belongs to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Found {
    /// The client with its port: who owns the connection depends on it.
    pub client: SocketAddr,
    /// True if the packet comes from the real server.
    pub is_reply: bool,
}

/// The table.
#[derive(Debug)]
pub struct ExpectedConnections {
    shards: Box<[Mutex<Shard>]>,
    /// How many there are, claimed ones included.
    live: AtomicUsize,
    /// How many there are between two addresses whose hash is the index.
    pairs: Box<[AtomicU32]>,
    secret: RandomState,
}

#[derive(Debug)]
struct Shard {
    slots: Box<[Option<Slot>]>,
    free: Vec<u16>,
    by_client: HashMap<ClientKey, u16, RandomState>,
    by_server: HashMap<(SocketAddr, SocketAddr), u16, RandomState>,
    controls: HashMap<ClientKey, Children, RandomState>,
}

/// The data connections of a control connection.
#[derive(Clone, Copy, Debug, Default)]
struct Children {
    all: u32,
    /// Those nobody came for yet.
    expected: u32,
}

#[derive(Clone, Copy, Debug)]
struct Slot {
    expected: Expected,
    /// When it is given up; `None` = it has been claimed.
    until: Option<Millis>,
    /// It has been claimed and is over but for its timer.
    closing: bool,
}

impl Default for ExpectedConnections {
    fn default() -> Self {
        Self {
            shards: (0..SHARDS).map(|_| Mutex::new(Shard::new())).collect(),
            live: AtomicUsize::new(0),
            pairs: (0..PAIRS).map(|_| AtomicU32::new(0)).collect(),
            secret: RandomState::new(),
        }
    }
}

impl ExpectedConnections {
    /// Bytes of memory the table takes: places, and three indices 7 of 8 buckets of which are used.
    pub const BYTES: usize = SHARDS
        * (PER_SHARD * (size_of::<Option<Slot>>() + size_of::<u16>())
            + (PER_SHARD * 8 / 7).next_power_of_two()
                * (size_of::<(ClientKey, u16)>()
                    + size_of::<((SocketAddr, SocketAddr), u16)>()
                    + size_of::<(ClientKey, Children)>()
                    + 3));

    /// True if there is nothing to be found.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.live.load(Relaxed) == 0
    }

    /// Expects a connection from now on.
    ///
    /// The newest announcement counts: one that nobody came for gives way to one that needs its
    /// place, at the server or at the VIP. `replaced` sees those that do.
    pub fn expect(
        &self,
        expected: Expected,
        now: Millis,
        mut replaced: impl FnMut(&Expected),
    ) -> Expectation {
        let mut shard = self.shard(expected.key.client.ip());
        for index in shard.in_the_way(&expected).into_iter().flatten() {
            let Some(slot) = shard.slots[usize::from(index)] else {
                continue;
            };
            if slot.expected == expected && slot.until.is_some() {
                shard.slots[usize::from(index)] = Some(Slot {
                    until: Some(now + EXPECTED_FOR),
                    ..slot
                });
                return Expectation::Again;
            }
            if slot.until.is_none() && !slot.closing {
                return Expectation::Refused;
            }
            if slot.until.is_some() {
                replaced(&slot.expected);
            }
            self.remove(&mut shard, index);
        }
        let children = shard.controls.get(&expected.control);
        if children.is_some_and(|children| children.expected >= PER_CONTROL) {
            return Expectation::Refused;
        }
        if shard.free.is_empty() {
            let closing = (0..PER_SHARD as u16)
                .find(|index| shard.slots[usize::from(*index)].is_some_and(|slot| slot.closing));
            let Some(closing) = closing else {
                return Expectation::Refused;
            };
            self.remove(&mut shard, closing);
        }
        shard.add(expected, now + EXPECTED_FOR);
        self.count(&expected, true);
        Expectation::New
    }

    /// False if no connection can be between these addresses; true if one may be.
    #[inline]
    fn may_have(&self, client: IpAddr, peer: IpAddr) -> bool {
        self.pairs[self.pair(client, peer)].load(Relaxed) > 0
    }

    fn pair(&self, client: IpAddr, peer: IpAddr) -> usize {
        self.secret.hash_one((client, peer)) as usize % PAIRS
    }

    fn count(&self, expected: &Expected, more: bool) {
        let client = expected.key.client.ip();
        let change = if more { 1 } else { u32::MAX };
        for peer in [expected.key.vip.ip(), expected.server.ip()] {
            self.pairs[self.pair(client, peer)].fetch_add(change, Relaxed);
        }
        if more {
            self.live.fetch_add(1, Relaxed);
        } else {
            self.live.fetch_sub(1, Relaxed);
        }
    }

    fn remove(&self, shard: &mut Shard, index: u16) {
        if let Some(expected) = shard.remove(index) {
            self.count(&expected, false);
        }
    }

    /// What a packet of no known connection belongs to.
    pub fn find<A: Address>(&self, tuple: &FiveTuple<A>) -> Option<Found> {
        let (source, destination) = (socket(tuple.source), socket(tuple.destination));
        if self.may_have(source.ip(), destination.ip())
            && self
                .shard(source.ip())
                .client_side(source, destination)
                .is_some()
        {
            return Some(Found {
                client: source,
                is_reply: false,
            });
        }
        if !self.may_have(destination.ip(), source.ip()) {
            return None;
        }
        let shard = self.shard(destination.ip());
        shard.server_side(source, destination)?;
        Some(Found {
            client: destination,
            is_reply: true,
        })
    }

    /// Takes the connection a packet is the first of: its client is known from now on, and it is
    /// in the table until [`Self::release`]. `None` if it is not expected, or no longer.
    pub fn claim<A: Address>(
        &self,
        tuple: &FiveTuple<A>,
        now: Millis,
    ) -> Option<(Expected, Found)> {
        let found = self.find(tuple)?;
        let (source, destination) = (socket(tuple.source), socket(tuple.destination));
        let mut shard = self.shard(found.client.ip());
        let index = if found.is_reply {
            shard.server_side(source, destination)?
        } else {
            shard.client_side(source, destination)?
        };
        let slot = shard.slots[usize::from(index)]
            .filter(|slot| slot.until.is_some_and(|until| now < until))?;
        let mut expected = slot.expected;
        expected.key.client.set_port(found.client.port());
        shard.claim(index, expected);
        Some((expected, found))
    }

    /// True if a connection that would have this name is expected: another one has been announced since the one of
    /// this name was claimed.
    pub fn is_awaited(&self, key: &ClientKey) -> bool {
        let shard = self.shard(key.client.ip());
        [key.client, any_port(key.client)].iter().any(|client| {
            let key = ClientKey {
                client: *client,
                ..*key
            };
            let slot = shard
                .by_client
                .get(&key)
                .and_then(|index| shard.slots[usize::from(*index)]);
            slot.is_some_and(|slot| slot.until.is_some())
        })
    }

    /// A claimed connection is over but for its timer: it gives way to others from now on.
    pub fn close(&self, key: &ClientKey) {
        let mut shard = self.shard(key.client.ip());
        if let Some(slot) = shard.claimed(key).and_then(|index| shard.slot(index)) {
            slot.closing = true;
        }
    }

    /// A claimed connection has ended.
    pub fn release(&self, key: &ClientKey) {
        let mut shard = self.shard(key.client.ip());
        if let Some(index) = shard.claimed(key) {
            self.remove(&mut shard, index);
        }
    }

    /// True if a control connection has data connections, expected or established.
    pub fn has_children(&self, control: &ClientKey) -> bool {
        self.shard(control.client.ip())
            .controls
            .contains_key(control)
    }

    /// Gives up those of one shard nobody came for; `each` sees them. Every shard has its turn
    /// once in [`SHARDS`] calls with consecutive `turn`s.
    pub fn sweep(&self, turn: u64, now: Millis, mut each: impl FnMut(&Expected)) {
        let mut shard = lock(&self.shards[(turn % SHARDS as u64) as usize]);
        if shard.controls.is_empty() {
            return;
        }
        for index in 0..PER_SHARD {
            let over =
                shard.slots[index].filter(|slot| slot.until.is_some_and(|until| until <= now));
            if let Some(slot) = over {
                each(&slot.expected);
                self.remove(&mut shard, index as u16);
            }
        }
    }

    /// Goes over those nobody came for yet in the shards of one of several workers, `budget` places
    /// from `cursor` on (0 = its first); `doomed` sees each with the milliseconds it has left, and
    /// says whether it is given up. Returns the next cursor, `None` at the end.
    pub fn visit(
        &self,
        (worker, workers): (u8, u8),
        (cursor, budget): (u32, usize),
        now: Millis,
        mut doomed: impl FnMut(&Expected, u64) -> bool,
    ) -> Option<u32> {
        let (mut number, mut from) = match cursor as usize {
            0 => (usize::from(worker), 0),
            at => (at / PER_SHARD, at % PER_SHARD),
        };
        loop {
            let mut shard = lock(self.shards.get(number)?);
            if !shard.controls.is_empty() {
                let until = (from + budget.max(1)).min(PER_SHARD);
                for index in from..until {
                    let Some(slot) = shard.slots[index] else {
                        continue;
                    };
                    let left = slot.until.map(|until| until.since(now));
                    if left.is_some_and(|left| doomed(&slot.expected, left)) {
                        self.remove(&mut shard, index as u16);
                    }
                }
                if until < PER_SHARD {
                    return Some((number * PER_SHARD + until) as u32);
                }
                let next = number + usize::from(workers.max(1));
                return (next < SHARDS).then_some((next * PER_SHARD) as u32);
            }
            // Nearly all are empty.
            number += usize::from(workers.max(1));
            from = 0;
        }
    }

    fn shard(&self, client: IpAddr) -> MutexGuard<'_, Shard> {
        lock(&self.shards[self.secret.hash_one(client) as usize % SHARDS])
    }
}

/// What a worker was doing with a shard when it panicked is done or not begun.
fn lock(shard: &Mutex<Shard>) -> MutexGuard<'_, Shard> {
    shard.lock().unwrap_or_else(PoisonError::into_inner)
}

fn socket<A: Address>(endpoint: Endpoint<A>) -> SocketAddr {
    SocketAddr::new(endpoint.address.into(), endpoint.port)
}

fn any_port(mut address: SocketAddr) -> SocketAddr {
    address.set_port(0);
    address
}

impl Shard {
    fn new() -> Self {
        Self {
            slots: vec![None; PER_SHARD].into(),
            free: (0..PER_SHARD as u16).rev().collect(),
            by_client: HashMap::with_capacity_and_hasher(PER_SHARD, RandomState::new()),
            by_server: HashMap::with_capacity_and_hasher(PER_SHARD, RandomState::new()),
            controls: HashMap::with_capacity_and_hasher(PER_SHARD, RandomState::new()),
        }
    }

    fn slot(&mut self, index: u16) -> Option<&mut Slot> {
        self.slots[usize::from(index)].as_mut()
    }

    /// Those whose place a new one needs.
    fn in_the_way(&self, expected: &Expected) -> [Option<u16>; 2] {
        let server_side = (expected.server, expected.key.client);
        let at_vip = self.by_client.get(&expected.key).copied();
        let at_server = self.by_server.get(&server_side).copied();
        [at_vip, at_server.filter(|index| Some(*index) != at_vip)]
    }

    /// The claimed one of this name.
    fn claimed(&self, key: &ClientKey) -> Option<u16> {
        let index = *self.by_client.get(key)?;
        let slot = self.slots[usize::from(index)].as_ref()?;
        slot.until.is_none().then_some(index)
    }

    fn client_side(&self, client: SocketAddr, vip: SocketAddr) -> Option<u16> {
        let exact = ClientKey { client, vip };
        let client = any_port(client);
        (self.by_client.get(&exact))
            .or_else(|| self.by_client.get(&ClientKey { client, vip }))
            .copied()
    }

    fn server_side(&self, server: SocketAddr, client: SocketAddr) -> Option<u16> {
        (self.by_server.get(&(server, client)))
            .or_else(|| self.by_server.get(&(server, any_port(client))))
            .copied()
    }

    /// There must be a free place, and nothing in the way.
    fn add(&mut self, expected: Expected, until: Millis) {
        let Some(index) = self.free.pop() else {
            return;
        };
        let children = self.controls.entry(expected.control).or_default();
        children.all += 1;
        children.expected += 1;
        self.index(&expected, index);
        self.slots[usize::from(index)] = Some(Slot {
            expected,
            until: Some(until),
            closing: false,
        });
    }

    /// Somebody came for the one in place `index`, whose client is known now.
    fn claim(&mut self, index: u16, expected: Expected) {
        if let Some(slot) = self.slots[usize::from(index)] {
            self.unindex(&slot.expected);
        }
        self.index(&expected, index);
        self.slots[usize::from(index)] = Some(Slot {
            expected,
            until: None,
            closing: false,
        });
        if let Some(children) = self.controls.get_mut(&expected.control) {
            children.expected = children.expected.saturating_sub(1);
        }
    }

    fn remove(&mut self, index: u16) -> Option<Expected> {
        let slot = self.slots[usize::from(index)].take()?;
        self.unindex(&slot.expected);
        self.free.push(index);
        let control = slot.expected.control;
        if let Some(children) = self.controls.get_mut(&control) {
            children.all = children.all.saturating_sub(1);
            if slot.until.is_some() {
                children.expected = children.expected.saturating_sub(1);
            }
            if children.all == 0 {
                self.controls.remove(&control);
            }
        }
        Some(slot.expected)
    }

    fn index(&mut self, expected: &Expected, index: u16) {
        self.by_client.insert(expected.key, index);
        let server_side = (expected.server, expected.key.client);
        self.by_server.insert(server_side, index);
    }

    fn unindex(&mut self, expected: &Expected) {
        self.by_client.remove(&expected.key);
        self.by_server
            .remove(&(expected.server, expected.key.client));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::address::Protocol;
    use std::net::Ipv4Addr;

    fn address(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    fn passive() -> Expected {
        Expected {
            control: ClientKey {
                client: address("10.0.1.100:40000"),
                vip: address("10.0.1.50:21"),
            },
            key: ClientKey {
                client: address("10.0.1.100:0"),
                vip: address("10.0.1.50:39191"),
            },
            server: address("10.0.2.11:39191"),
            real: RealId(3),
            service: ServiceId(1),
        }
    }

    fn tuple(source: &str, destination: &str) -> FiveTuple<Ipv4Addr> {
        let endpoint = |text| match address(text) {
            SocketAddr::V4(a) => Endpoint::new(*a.ip(), a.port()),
            SocketAddr::V6(_) => unreachable!(),
        };
        FiveTuple {
            protocol: Protocol::Tcp,
            source: endpoint(source),
            destination: endpoint(destination),
        }
    }

    #[test]
    fn a_passive_connection_is_claimed_once_and_found_from_both_sides_until_it_ends() {
        let table = ExpectedConnections::default();
        assert!(table.is_empty());
        assert_eq!(table.expect(passive(), Millis(0), |_| {}), Expectation::New);
        assert!(table.has_children(&passive().control));
        let syn = tuple("10.0.1.100:50000", "10.0.1.50:39191");
        let found = table.find(&syn).unwrap();
        assert_eq!(found.client, address("10.0.1.100:50000"));
        assert_eq!(
            table.find(&tuple("10.0.1.101:50000", "10.0.1.50:39191")),
            None
        );
        let (claimed, _) = table.claim(&syn, Millis(5)).unwrap();
        assert_eq!(claimed.key.client, found.client);
        assert_eq!(table.claim(&syn, Millis(5)), None);
        // A second client port has nothing to find any more.
        assert_eq!(
            table.find(&tuple("10.0.1.100:50001", "10.0.1.50:39191")),
            None
        );
        let reply = table.find(&tuple("10.0.2.11:39191", "10.0.1.100:50000"));
        assert_eq!(reply.map(|found| found.is_reply), Some(true));
        // It does not expire while it lives.
        for turn in 0..64 {
            table.sweep(turn, Millis(1_000_000), |_| unreachable!());
        }
        table.release(&claimed.key);
        assert!(table.is_empty());
        assert!(!table.has_children(&passive().control));
        assert_eq!(table.find(&syn), None);
    }

    #[test]
    fn an_active_connection_is_claimed_by_the_servers_packet() {
        let table = ExpectedConnections::default();
        let mut active = passive();
        active.key.client = address("10.0.1.100:5000");
        active.key.vip = address("10.0.1.50:20");
        active.server = address("10.0.2.11:20");
        assert_eq!(table.expect(active, Millis(0), |_| {}), Expectation::New);
        let syn = tuple("10.0.2.11:20", "10.0.1.100:5000");
        let (claimed, found) = table.claim(&syn, Millis(0)).unwrap();
        assert!(found.is_reply);
        assert_eq!(claimed, active);
        assert_eq!(table.find(&tuple("10.0.2.11:20", "10.0.1.100:5001")), None);
    }

    #[test]
    fn what_nobody_comes_for_is_given_up() {
        let table = ExpectedConnections::default();
        assert_eq!(table.expect(passive(), Millis(0), |_| {}), Expectation::New);
        let late = Millis(u64::from(EXPECTED_FOR));
        let syn = tuple("10.0.1.100:50000", "10.0.1.50:39191");
        assert_eq!(table.claim(&syn, late), None);
        let mut given_up = Vec::new();
        for turn in 0..64 {
            table.sweep(turn, late, |expected| given_up.push(*expected));
        }
        assert_eq!(given_up, [passive()]);
        assert!(table.is_empty());
    }

    #[test]
    fn one_control_connection_and_one_client_get_only_so_many() {
        let table = ExpectedConnections::default();
        let announce = |control: u16, port: u16| {
            let mut expected = passive();
            expected.control.client.set_port(control);
            expected.key.vip.set_port(port);
            expected.server.set_port(port);
            table.expect(expected, Millis(0), |_| {})
        };
        let new = |expectation| expectation == Expectation::New;
        let accepted = (0..100)
            .filter(|port| new(announce(1, 2000 + port)))
            .count();
        assert_eq!(accepted, PER_CONTROL as usize);
        // Announced again is not one more.
        assert_eq!(announce(1, 2000), Expectation::Again);
        let accepted = (0..2000)
            .filter(|n| new(announce(100 + n, 3000 + n)))
            .count();
        assert_eq!(accepted, PER_SHARD - PER_CONTROL as usize);
        // Another client is not concerned, unless its address falls into the same shard.
        let others = (0..50_u8).filter(|host| {
            let mut expected = passive();
            let other = SocketAddr::new(Ipv4Addr::new(10, 0, 9, *host).into(), 0);
            expected.control.client = other;
            expected.key.client = other;
            new(table.expect(expected, Millis(0), |_| {}))
        });
        assert!(others.count() > 40);
    }

    #[test]
    fn listing_visits_each_shard_once_whatever_the_number_of_workers_and_can_give_up() {
        for workers in 1..=5 {
            let table = ExpectedConnections::default();
            for host in 0..200 {
                let mut expected = passive();
                let client = SocketAddr::new(Ipv4Addr::new(10, 0, 9, host).into(), 0);
                expected.control.client = client;
                expected.key.client = client;
                assert_eq!(table.expect(expected, Millis(0), |_| {}), Expectation::New);
            }
            let round = |doom: bool| {
                let mut seen = Vec::new();
                for worker in 0..workers {
                    let mut cursor = Some(0);
                    while let Some(at) = cursor {
                        let share = (worker, workers);
                        cursor = table.visit(share, (at, 64), Millis(1), |expected, left| {
                            assert_eq!(left, 119_999);
                            seen.push(expected.key.client);
                            doom
                        });
                    }
                }
                seen.sort();
                seen
            };
            let all = round(false);
            assert_eq!(all.len(), 200);
            assert!(all.windows(2).all(|pair| pair[0] != pair[1]));
            // Claimed ones are connections and are listed as such.
            let syn = tuple("10.0.9.7:50000", "10.0.1.50:39191");
            assert!(table.claim(&syn, Millis(1)).is_some());
            assert_eq!(round(true).len(), 199);
            assert_eq!(round(false).len(), 0);
            assert!(!table.is_empty());
            assert!(table.find(&syn).is_some());
        }
    }

    #[test]
    fn the_newest_announcement_takes_a_place_nobody_came_for_and_none_of_a_live_connection() {
        let table = ExpectedConnections::default();
        assert_eq!(table.expect(passive(), Millis(0), |_| {}), Expectation::New);
        let mut other = passive();
        other.control.client.set_port(40001);
        other.server = address("10.0.2.12:39191");
        let mut replaced = Vec::new();
        let expectation = table.expect(other, Millis(0), |old| replaced.push(*old));
        assert_eq!(expectation, Expectation::New);
        assert_eq!(replaced, [passive()]);
        assert!(!table.has_children(&passive().control));
        // Claimed in active mode, the very connection is named again.
        let mut active = passive();
        active.key.client = address("10.0.1.100:5000");
        active.key.vip = address("10.0.1.50:20");
        active.server = address("10.0.2.11:20");
        assert_eq!(table.expect(active, Millis(0), |_| {}), Expectation::New);
        let syn = tuple("10.0.2.11:20", "10.0.1.100:5000");
        let (claimed, _) = table.claim(&syn, Millis(0)).unwrap();
        assert_eq!(
            table.expect(active, Millis(0), |_| {}),
            Expectation::Refused
        );
        table.close(&claimed.key);
        assert_eq!(table.expect(active, Millis(0), |_| {}), Expectation::New);
        // What was released last was the closed one's; the new one is none of its business.
        table.release(&claimed.key);
        assert!(table.claim(&syn, Millis(0)).is_some());
    }

    #[test]
    fn a_client_may_fetch_any_number_of_files_over_one_control_connection() {
        let table = ExpectedConnections::default();
        for port in 0..5000 {
            let mut expected = passive();
            expected.key.vip.set_port(10_000 + port);
            expected.server.set_port(10_000 + port);
            let expectation = table.expect(expected, Millis(0), |_| {});
            assert_eq!(expectation, Expectation::New, "{port}");
            let syn = tuple("10.0.1.100:50000", &format!("10.0.1.50:{}", 10_000 + port));
            let (claimed, _) = table.claim(&syn, Millis(0)).unwrap();
            table.close(&claimed.key);
        }
        assert!(table.has_children(&passive().control));
        for port in 0..5000 {
            let mut key = passive().key;
            key.client = address("10.0.1.100:50000");
            key.vip.set_port(10_000 + port);
            table.release(&key);
        }
        assert!(table.is_empty());
        assert!(!table.has_children(&passive().control));
    }

    #[test]
    fn addresses_nothing_is_expected_between_are_told_without_a_lock() {
        let table = ExpectedConnections::default();
        assert_eq!(table.expect(passive(), Millis(0), |_| {}), Expectation::New);
        let held: Vec<_> = table.shards.iter().map(lock).collect();
        let strange = |last: u8| tuple(&format!("10.0.7.{last}:50000"), "10.0.1.50:39191");
        // One pair in 16 384 may share a counter by chance; ten of them do not.
        let (told, pairs) = (0..10_u8).fold((0, 0), |(told, pairs), last| {
            let (a, b) = (
                strange(last).source.address,
                strange(last).destination.address,
            );
            let clear = !table.may_have(a.into(), b.into()) && !table.may_have(b.into(), a.into());
            (
                told + usize::from(clear && table.find(&strange(last)).is_none()),
                pairs + 1,
            )
        });
        drop(held);
        assert!(told + 1 >= pairs, "{told} of {pairs}");
    }
}
