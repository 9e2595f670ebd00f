//! The ways to find a connection that are compared.

use super::{BURST, Failure};
use dataplane::address::{Endpoint, FiveTuple, Protocol};
use dataplane::connection::{
    Binding, Candidate, Connection, Index as Buckets, Millis, Reference, Slot, Table, TableMemory,
};
use dataplane::dpdk::{Eal, Hash, HashKey};
use dataplane::service::{Forward, RealId, ServiceId};
use hashbrown::{DefaultHashBuilder, HashMap, HashTable};
use std::hash::{BuildHasher, Hasher};
use std::net::Ipv4Addr;

/// A flow's key, both as the own table and as the others take it.
#[derive(Clone, Copy)]
pub(crate) struct Flow {
    tuple: FiveTuple<Ipv4Addr>,
    packed: Packed,
}

impl Flow {
    /// Flow `number`; all have different clients.
    pub(crate) fn new(number: u32) -> Self {
        let client = number.wrapping_mul(0x9e37_79b1);
        let port = 1024 + ((client >> 17) as u16 & 0x3fff);
        let vip = Ipv4Addr::new(10, 0, 1, 50);
        Self {
            tuple: FiveTuple {
                protocol: Protocol::Tcp,
                source: Endpoint::new(Ipv4Addr::from_bits(client), port),
                destination: Endpoint::new(vip, 80),
            },
            packed: Packed([
                client,
                vip.to_bits(),
                u32::from(port) << 16 | 0x50,
                u32::from(Protocol::Tcp.number()),
            ]),
        }
    }
}

/// Finds entries by keys.
pub(crate) trait Index: Sized {
    /// Where an entry is.
    type Handle: Copy;

    /// An empty one, made for so many flows.
    fn new(flows: u32) -> Result<Self, Failure>;

    /// Reads and writes a word of the entry of each; how many were found.
    fn look_up(&mut self, burst: &[Flow; BURST]) -> usize;

    /// Adds a flow that is not there.
    fn insert(&mut self, flow: &Flow) -> Result<Self::Handle, Failure>;

    /// Takes out the flow whose entry is there.
    fn remove(&mut self, handle: Self::Handle);
}

/// The connection table as the pipeline uses it, DR connections (one key each) in it. Inserting
/// and removing includes its timers and queues.
pub(crate) struct Own(Table<Ipv4Addr>);

const NOW: Millis = Millis(1);

impl Index for Own {
    type Handle = Slot;

    fn new(flows: u32) -> Result<Self, Failure> {
        Ok(Self(Table::new(flows as usize, TableMemory::Transparent)))
    }

    #[inline(always)]
    fn look_up(&mut self, burst: &[Flow; BURST]) -> usize {
        let table = &mut self.0;
        let hashes: [u64; BURST] = std::array::from_fn(|i| {
            let hash = table.hash(&burst[i].tuple);
            table.prefetch(hash);
            hash
        });
        let candidates: [Candidate; BURST] = hashes.map(|hash| table.candidate(hash));
        let mut found = 0;
        for ((flow, candidate), hash) in burst.iter().zip(candidates).zip(hashes) {
            let entry = table
                .confirm(candidate, &flow.tuple)
                .or_else(|| table.lookup_hashed(hash, &flow.tuple));
            if let Some((slot, _)) = entry {
                table.touch(slot, NOW);
                found += 1;
            }
        }
        found
    }

    #[inline(always)]
    fn insert(&mut self, flow: &Flow) -> Result<Slot, Failure> {
        let binding = Binding {
            protocol: flow.tuple.protocol,
            client: flow.tuple.source,
            vip: flow.tuple.destination,
            local: flow.tuple.source,
            destination: flow.tuple.destination,
            real: RealId(1),
            service: ServiceId(1),
            forward: Forward::Dr,
        };
        Ok(self.0.insert(Connection::new(binding, NOW), NOW)?)
    }

    #[inline(always)]
    fn remove(&mut self, slot: Slot) {
        self.0.remove(slot);
    }
}

/// A key of 16 bytes, hashed as one number.
#[derive(Clone, Copy, Eq, PartialEq)]
struct Packed(HashKey);

impl std::hash::Hash for Packed {
    #[inline]
    fn hash<H: Hasher>(&self, state: &mut H) {
        let [a, b, c, d] = self.0.map(u128::from);
        state.write_u128(a | b << 32 | c << 64 | d << 96);
    }
}

/// An entry of the candidates that have none of their own.
#[derive(Clone, Copy)]
#[repr(align(64))]
struct Entry {
    key: Packed,
    word: u64,
}

/// Entries, and which are free: the one freed last is taken first, as in the own table.
struct Array {
    entries: Vec<Entry>,
    unused: u32,
    freed: Vec<u32>,
}

impl Array {
    fn new(flows: u32) -> Self {
        let empty = Entry {
            key: Packed([0; 4]),
            word: 0,
        };
        Self {
            entries: vec![empty; flows as usize],
            unused: 0,
            freed: Vec::new(),
        }
    }

    #[inline(always)]
    fn touch(&mut self, slot: u32) {
        self.entries[slot as usize].word += 1;
    }

    #[inline(always)]
    fn take(&mut self, flow: &Flow) -> u32 {
        let slot = self.freed.pop().unwrap_or_else(|| {
            self.unused += 1;
            self.unused - 1
        });
        self.entries[slot as usize] = Entry {
            key: flow.packed,
            word: 0,
        };
        slot
    }

    #[inline(always)]
    fn free(&mut self, slot: u32) -> Packed {
        self.freed.push(slot);
        self.entries[slot as usize].key
    }
}

/// The own index without the table around it: inserting and removing is the same work as with the
/// others. Its buckets are asked for ahead, the entries (which have the keys) are not.
pub(crate) struct Alone {
    hasher: DefaultHashBuilder,
    buckets: Buckets,
    array: Array,
}

impl Index for Alone {
    type Handle = u32;

    fn new(flows: u32) -> Result<Self, Failure> {
        Ok(Self {
            hasher: DefaultHashBuilder::default(),
            buckets: Buckets::new(flows as usize, TableMemory::Transparent),
            array: Array::new(flows),
        })
    }

    #[inline(always)]
    fn look_up(&mut self, burst: &[Flow; BURST]) -> usize {
        let hashes = burst.each_ref().map(|flow| {
            let hash = self.hasher.hash_one(flow.packed);
            self.buckets.prefetch(hash);
            hash
        });
        let mut found = 0;
        for (flow, hash) in burst.iter().zip(hashes) {
            let entries = &self.array.entries;
            let is_it = |held: Reference| entries[held.slot as usize].key == flow.packed;
            if let Some(held) = self.buckets.find(hash, is_it) {
                self.array.touch(held.slot);
                found += 1;
            }
        }
        found
    }

    #[inline(always)]
    fn insert(&mut self, flow: &Flow) -> Result<u32, Failure> {
        let slot = self.array.take(flow);
        let hash = self.hasher.hash_one(flow.packed);
        self.buckets.insert(hash, Reference { slot, reply: false });
        Ok(slot)
    }

    #[inline(always)]
    fn remove(&mut self, slot: u32) {
        let hash = self.hasher.hash_one(self.array.free(slot));
        self.buckets.remove(hash, Reference { slot, reply: false });
    }
}

/// hashbrown with the key beside the slot.
pub(crate) struct Map {
    map: HashMap<Packed, u32>,
    array: Array,
}

impl Index for Map {
    type Handle = u32;

    fn new(flows: u32) -> Result<Self, Failure> {
        Ok(Self {
            map: HashMap::with_capacity(flows as usize),
            array: Array::new(flows),
        })
    }

    #[inline(always)]
    fn look_up(&mut self, burst: &[Flow; BURST]) -> usize {
        let mut found = 0;
        for flow in burst {
            if let Some(slot) = self.map.get(&flow.packed) {
                self.array.touch(*slot);
                found += 1;
            }
        }
        found
    }

    #[inline(always)]
    fn insert(&mut self, flow: &Flow) -> Result<u32, Failure> {
        let slot = self.array.take(flow);
        self.map.insert(flow.packed, slot);
        Ok(slot)
    }

    #[inline(always)]
    fn remove(&mut self, slot: u32) {
        self.map.remove(&self.array.free(slot));
    }
}

/// hashbrown with slots only, keys in the entries as the own table has them.
pub(crate) struct Entries {
    hasher: DefaultHashBuilder,
    table: HashTable<u32>,
    array: Array,
}

impl Index for Entries {
    type Handle = u32;

    fn new(flows: u32) -> Result<Self, Failure> {
        Ok(Self {
            hasher: DefaultHashBuilder::default(),
            table: HashTable::with_capacity(flows as usize),
            array: Array::new(flows),
        })
    }

    #[inline(always)]
    fn look_up(&mut self, burst: &[Flow; BURST]) -> usize {
        let mut found = 0;
        for flow in burst {
            let hash = self.hasher.hash_one(flow.packed);
            let entries = &self.array.entries;
            let is_it = |slot: &u32| entries[*slot as usize].key == flow.packed;
            if let Some(slot) = self.table.find(hash, is_it) {
                self.array.touch(*slot);
                found += 1;
            }
        }
        found
    }

    #[inline(always)]
    fn insert(&mut self, flow: &Flow) -> Result<u32, Failure> {
        let slot = self.array.take(flow);
        let hash = self.hasher.hash_one(flow.packed);
        let entries = &self.array.entries;
        let rehash = |slot: &u32| self.hasher.hash_one(entries[*slot as usize].key);
        self.table.insert_unique(hash, slot, rehash);
        Ok(slot)
    }

    #[inline(always)]
    fn remove(&mut self, slot: u32) {
        let hash = self.hasher.hash_one(self.array.free(slot));
        if let Ok(entry) = self.table.find_entry(hash, |held| *held == slot) {
            entry.remove();
        }
    }
}

/// DPDK's table. Its bulk look-up asks for its own lines in stages; the entries of a burst are
/// known at once after it, so that the processor fetches them side by side unasked.
pub(crate) struct Dpdk {
    hash: Hash,
    array: Array,
}

impl Index for Dpdk {
    type Handle = u32;

    fn new(flows: u32) -> Result<Self, Failure> {
        // Beyond nine tenths it may find no place for a key: the next power of two then.
        let room = flows.next_power_of_two();
        let crowded = u64::from(flows) * 10 > u64::from(room) * 9;
        Ok(Self {
            hash: Hash::create("index", if crowded { room + 1 } else { flows })?,
            array: Array::new(flows),
        })
    }

    #[inline(always)]
    fn look_up(&mut self, burst: &[Flow; BURST]) -> usize {
        let mut slots = [0; BURST];
        let keys = burst.each_ref().map(|flow| &flow.packed.0);
        let hits = self.hash.lookup(keys, &mut slots);
        for (i, slot) in slots.into_iter().enumerate() {
            if hits >> i & 1 == 1 {
                self.array.touch(slot as u32);
            }
        }
        hits.count_ones() as usize
    }

    #[inline(always)]
    fn insert(&mut self, flow: &Flow) -> Result<u32, Failure> {
        let slot = self.array.take(flow);
        let done = self.hash.insert(&flow.packed.0, slot as usize);
        done.map_err(|errno| errno.to_string())?;
        Ok(slot)
    }

    #[inline(always)]
    fn remove(&mut self, slot: u32) {
        self.hash.remove(&self.array.free(slot).0);
    }
}

/// EAL without devices and hugepages.
pub(crate) fn start_dpdk() -> Result<&'static Eal, Failure> {
    let prefix = format!("--file-prefix=sluice-index-{}", std::process::id());
    let arguments = [
        "--no-huge",
        "--no-shconf",
        "--no-pci",
        "--no-telemetry",
        "-m",
        "64",
        "--log-level=error",
        "-l",
        "0",
        &prefix,
    ];
    Ok(Eal::init(&arguments.map(str::to_owned))?)
}
