//! Persistence templates: which server a client belongs to (spec 3.7), shared by all workers.
//!
//! Workers touch the table only when a connection under a template is made or ends, and when one
//! establishes; the shards' locks are held for a few lookups, never while anything is scheduled or
//! sent. Control never takes them while there are templates: sweeping, listing and deleting are jobs of the workers, each for
//! shards of its own. Two workers that make the first connections of one client at the same time
//! agree: insertion is insert-if-absent, and the loser takes the winner's server.
//!
//! A template has no timer. It lives until `expires`, which every connection made or ended under it
//! moves, and beyond that while it controls connections; the kernel re-arms it 60 s at a time then,
//! which is what listings show. What has ended is taken out by whoever comes by next.
//!
//! Memory: [`Templates::reserve`] takes all of it, for as many templates as the box may have
//! connections, and [`Templates::reserve_calls`] what workers need to remember calls. Control calls
//! them before it publishes the first service with persistence, or with an engine; a box without
//! such services pays nothing. Who makes a template without that (tests) takes the memory then.
//! What is left to allocate on the packet path is the copy of a call's name, one per call, and that
//! is made before the shard is locked.

mod calls;

use crate::address::Protocol;
use crate::connection::Millis;
use crate::ftp::CONTROL_PORT;
use crate::places::Places;
use crate::service::{
    Forward, Persistence, RealId, RealRecord, ServiceId, ServiceKey, Services, Standing,
    VirtualService,
};
pub use calls::{Calls, Ends};
use crossbeam_queue::SegQueue;
use crossbeam_utils::CachePadded;
use std::hash::{BuildHasher, Hash, Hasher, RandomState};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The kernel gives a template that must not be used any more this port.
pub const INVALID_PORT: u16 = 65_535;
/// What the kernel re-arms a template with that still controls connections, in milliseconds.
const REARM: u64 = 60_000;
const SHARDS: usize = 128;

/// What a template is found by.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct TemplateKey<'a> {
    /// `None` = all: of a mark.
    pub protocol: Option<Protocol>,
    /// The client without the bits the service's mask takes away. Not looked at beside a call.
    pub client: IpAddr,
    /// The VIP; a mark N as the address `0.0.0.N`.
    pub vip: IpAddr,
    /// The service's port; 0 if all ports stick together.
    pub port: u16,
    /// What the persistence engine found in the packet (SIP's Call-ID).
    pub call: Option<&'a [u8]>,
}

impl<'a> TemplateKey<'a> {
    /// The key of `client` for a packet to `vip` and `port` that is `service`'s; `None` if its
    /// clients are not persistent.
    pub fn of(
        service: &VirtualService,
        protocol: Protocol,
        client: IpAddr,
        vip: IpAddr,
        port: u16,
        call: Option<&'a [u8]>,
    ) -> Option<Self> {
        let client = service.persistence?.masked(client);
        Some(match service.key {
            ServiceKey::Mark { mark, .. } => Self {
                protocol: None,
                client,
                vip: mark_address(client, mark),
                port: 0,
                call,
            },
            ServiceKey::Address { port: own, .. } => Self {
                protocol: Some(protocol),
                client,
                vip,
                port: if own == port && own != CONTROL_PORT {
                    own
                } else {
                    0
                },
                call,
            },
        })
    }
}

/// Mark N as the address the kernel shows in its place.
fn mark_address(family_of: IpAddr, mark: u32) -> IpAddr {
    match family_of {
        IpAddr::V4(_) => Ipv4Addr::from(mark).into(),
        // The first word, in network order.
        IpAddr::V6(_) => Ipv6Addr::from(u128::from(mark) << 96).into(),
    }
}

/// A real server's identity, as a template remembers it: its number may be given to another.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Server {
    /// Number.
    pub real: RealId,
    /// The service it is of.
    pub service: ServiceId,
    /// Address.
    pub address: IpAddr,
    /// Port.
    pub port: u16,
    /// How packets get there.
    pub forward: Forward,
}

impl Server {
    /// The server with this record.
    pub fn of(real: RealId, record: &RealRecord) -> Self {
        Self {
            real,
            service: record.service,
            address: record.address,
            port: record.port,
            forward: record.forward,
        }
    }

    /// Its record, unless it is forgotten.
    pub fn record<'a>(&self, services: &'a Services) -> Option<&'a RealRecord> {
        let record = services.real(self.real)?;
        let same = record.service == self.service
            && record.address == self.address
            && record.port == self.port;
        same.then_some(record)
    }

    /// Its record if a template may lead to it: it is listed, however loaded, and has a weight or
    /// `expire_quiescent_template` is off.
    fn usable<'a>(&self, services: &'a Services) -> Option<&'a RealRecord> {
        self.record(services).filter(|record| {
            record.standing == Standing::Listed
                && (record.weight > 0 || !services.ipvs.expire_quiescent_template)
        })
    }
}

/// One template.
#[derive(Clone, Debug)]
pub struct Template {
    /// See [`TemplateKey`].
    pub protocol: Option<Protocol>,
    /// The client or its network; with a call whoever was first.
    pub client: IpAddr,
    /// The VIP, or the mark as an address.
    pub vip: IpAddr,
    /// Port of the service, or 0.
    pub port: u16,
    /// The call.
    pub call: Option<Arc<[u8]>>,
    /// Where the client belongs.
    pub server: Server,
    /// The service that made it.
    pub service: ServiceId,
    /// A connection of it has been established.
    pub assured: bool,
    /// Its server must not be used: kept for its connections only.
    pub invalid: bool,
    /// Connections it controls.
    pub connections: u32,
    /// See [`Persistence::generation`](crate::service::Persistence::generation).
    generation: u8,
    timeout: u32,
    expires: Millis,
}

impl Template {
    fn has(&self, key: &TemplateKey<'_>) -> bool {
        self.protocol == key.protocol
            && self.vip == key.vip
            && self.port == key.port
            && self.call.as_deref() == key.call
            && (key.call.is_some() || self.client == key.client)
    }

    /// True if it has expired and controls nothing. Connections made under settings its service has
    /// no more find it no more, so they do not keep it.
    fn is_over(&self, services: &Services, now: Millis) -> bool {
        let current = || {
            let service = services.service(self.service);
            let persistence = service.and_then(|service| service.persistence);
            persistence.is_some_and(|persistence| persistence.generation == self.generation)
        };
        now >= self.expires && (self.connections == 0 || !current())
    }

    /// Milliseconds until it expires, or is re-armed because it controls connections.
    pub fn expires_in(&self, now: Millis) -> u64 {
        match now.since(self.expires) {
            0 => self.expires.since(now),
            late => REARM - late % REARM,
        }
    }

    /// State as listings show it.
    pub fn state_name(&self) -> &'static str {
        if self.assured { "ASSURED" } else { "NONE" }
    }

    /// The port of the virtual address in listings.
    pub fn shown_port(&self) -> u16 {
        if self.invalid {
            INVALID_PORT
        } else {
            self.port
        }
    }

    /// The server's port in listings.
    pub fn shown_server_port(&self) -> u16 {
        match self.port {
            _ if self.invalid => INVALID_PORT,
            0 => 0,
            _ => self.server.port,
        }
    }
}

/// Names a template for as long as it lives.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct Handle {
    shard: u8,
    slot: u32,
    stamp: u32,
}

/// A client's server, by its template.
#[derive(Clone, Copy, Debug)]
pub struct Held {
    /// The server.
    pub server: Server,
    /// The template, for [`Templates::release`].
    pub handle: Handle,
}

/// What a look for a template takes besides its key.
#[derive(Clone, Copy, Debug)]
pub struct Terms<'a> {
    /// The service whose client it is.
    pub service: ServiceId,
    /// How its clients stay.
    pub persistence: Persistence,
    /// A connection is under the template from now on.
    pub control: bool,
    /// The servers there are.
    pub services: &'a Services,
    /// The time.
    pub now: Millis,
}

/// What became of a new template.
#[derive(Clone, Copy, Debug)]
pub enum Claim {
    /// It was made.
    Made(Held),
    /// Another worker was first: its server it is.
    Taken(Held),
    /// There is no room.
    Full,
}

type Shard = Places<Template>;

/// All templates of the box.
#[derive(Debug)]
pub struct Templates {
    hasher: RandomState,
    shards: Box<[CachePadded<Mutex<Shard>>]>,
    /// Slots of each shard at most.
    capacity: usize,
    len: AtomicUsize,
    /// Made by [`Self::reserve_calls`], until the workers have taken them.
    calls: SegQueue<Calls>,
    /// They were made.
    calls_reserved: AtomicBool,
}

impl Default for Templates {
    fn default() -> Self {
        Self::new(1 << 16)
    }
}

impl Templates {
    /// Room for about `capacity` templates, whose memory is not taken yet.
    pub fn new(capacity: usize) -> Self {
        Self {
            hasher: RandomState::new(),
            shards: (0..SHARDS).map(|_| CachePadded::default()).collect(),
            capacity: capacity.div_ceil(SHARDS).max(1),
            len: AtomicUsize::new(0),
            calls: SegQueue::new(),
            calls_reserved: AtomicBool::new(false),
        }
    }

    /// Bytes of memory that `capacity` templates take.
    pub const fn bytes_for(capacity: usize) -> usize {
        capacity.div_ceil(SHARDS) * SHARDS * Shard::BYTES_EACH
    }

    /// Takes the memory of all templates, if it was not taken before. For control: takes time, but
    /// no worker waits for it.
    pub fn reserve(&self) {
        for number in 0..SHARDS {
            if self.lock(number).capacity() > 0 {
                continue;
            }
            let fresh = Shard::new(self.capacity);
            let mut shard = self.lock(number);
            if shard.capacity() == 0 {
                *shard = fresh;
            }
        }
    }

    /// True if the memory was taken.
    pub fn is_reserved(&self) -> bool {
        (0..SHARDS).all(|number| self.lock(number).capacity() > 0)
    }

    /// Takes the memory in which each of `workers` workers remembers the calls of as many
    /// connections, if it was not taken before. For control.
    pub fn reserve_calls(&self, workers: usize, connections: usize) {
        if !self.calls_reserved.swap(true, Relaxed) {
            for _ in 0..workers {
                self.calls.push(Calls::new(connections));
            }
        }
    }

    /// What was reserved for a worker; `None` if nothing was.
    pub fn take_calls(&self) -> Option<Calls> {
        self.calls.pop()
    }

    /// Templates there are, some of which may be over.
    #[inline]
    pub fn len(&self) -> usize {
        self.len.load(Relaxed)
    }

    /// True if there are none: a sweep has nothing to do.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The server of `key`'s template, if there is one that may be used. Its time starts anew.
    ///
    /// One whose server is gone is invalidated: it stays for its connections only.
    pub fn hold(&self, key: &TemplateKey<'_>, terms: &Terms<'_>) -> Option<Held> {
        if self.is_empty() {
            return None;
        }
        let (number, hash, mut shard) = self.shard(key);
        self.held(&mut shard, number, hash, key, terms)
    }

    /// Makes `key`'s template, leading to `server`, unless there is one.
    pub fn claim(&self, key: &TemplateKey<'_>, server: Server, terms: &Terms<'_>) -> Claim {
        let Terms { services, now, .. } = *terms;
        let call = key.call.map(Arc::from);
        let (number, hash, mut shard) = self.shard(key);
        if let Some(held) = self.held(&mut shard, number, hash, key, terms) {
            return Claim::Taken(held);
        }
        if shard.capacity() == 0 {
            *shard = Shard::new(self.capacity);
        }
        if shard.is_full() {
            self.make_room(&mut shard, services, now);
        }
        let template = Template {
            protocol: key.protocol,
            client: key.client,
            vip: key.vip,
            port: key.port,
            call,
            server,
            service: terms.service,
            assured: false,
            invalid: false,
            connections: u32::from(terms.control),
            generation: terms.persistence.generation,
            timeout: terms.persistence.timeout,
            expires: Millis(now.0 + u64::from(terms.persistence.timeout)),
        };
        let Some((slot, stamp)) = shard.insert(hash, template) else {
            return Claim::Full;
        };
        self.len.fetch_add(1, Relaxed);
        if let Some(record) = server.record(services) {
            record.shared.templates().fetch_add(1, Relaxed);
        }
        let handle = Handle {
            shard: number as u8,
            slot,
            stamp,
        };
        Claim::Made(Held { server, handle })
    }

    /// A connection under the template has ended: its time starts again.
    pub fn release(&self, handle: Handle, now: Millis) {
        let mut shard = self.lock(usize::from(handle.shard));
        if let Some(template) = shard.named(handle.slot, handle.stamp) {
            template.connections = template.connections.saturating_sub(1);
            template.expires = Millis(now.0 + u64::from(template.timeout));
        }
    }

    /// The template of `key` that has led a connection to `real`, whether it still may or not.
    pub fn find(&self, key: &TemplateKey<'_>, real: RealId) -> Option<Handle> {
        if self.is_empty() {
            return None;
        }
        let (number, hash, shard) = self.shard(key);
        let (slot, stamp) = shard.find(hash, |template| {
            template.server.real == real && template.connections > 0 && template.has(key)
        })?;
        Some(Handle {
            shard: number as u8,
            slot,
            stamp,
        })
    }

    /// A connection under the template is established.
    pub fn assure(&self, handle: Handle) {
        let mut shard = self.lock(usize::from(handle.shard));
        if let Some(template) = shard.named(handle.slot, handle.stamp) {
            template.assured = true;
        }
    }

    /// Goes over up to `budget` places from `cursor` on (0 to begin with) of the shards of worker
    /// `worker` of `workers`, takes out what is over, and of the rest what `doomed` says yes to.
    /// Returns where to go on, `None` at the end, and how many were over.
    pub fn visit(
        &self,
        (worker, workers): (u8, u8),
        (cursor, budget): (u32, usize),
        services: &Services,
        now: Millis,
        mut doomed: impl FnMut(&Template) -> bool,
    ) -> (Option<u32>, u64) {
        let (number, from) = (cursor >> PLACE_BITS, cursor & PLACE_MASK);
        let number = match number {
            0 if cursor == 0 => usize::from(worker),
            number => number as usize,
        };
        if number >= SHARDS {
            return (None, 0);
        }
        let mut expired = 0;
        let mut shard = self.lock(number);
        let until = (from as usize + budget).min(shard.used());
        for slot in from..until as u32 {
            let Some(template) = shard.at(slot) else {
                continue;
            };
            let over = template.is_over(services, now);
            if over || doomed(template) {
                expired += u64::from(over);
                self.remove(&mut shard, slot, services);
            }
        }
        if until < shard.used() {
            let next = (number as u32) << PLACE_BITS | until as u32;
            return (Some(next), expired);
        }
        let next = number + usize::from(workers.max(1));
        let next = (next < SHARDS).then_some((next as u32) << PLACE_BITS);
        (next, expired)
    }

    fn held(
        &self,
        shard: &mut Shard,
        number: usize,
        hash: u64,
        key: &TemplateKey<'_>,
        terms: &Terms<'_>,
    ) -> Option<Held> {
        let Terms { services, now, .. } = *terms;
        let (slot, stamp) = shard.find(hash, |template| !template.invalid && template.has(key))?;
        let template = shard.named(slot, stamp)?;
        if template.is_over(services, now) {
            self.remove(shard, slot, services);
            return None;
        }
        if template.server.usable(services).is_none() {
            template.invalid = true;
            return None;
        }
        if template.generation != terms.persistence.generation {
            // Found by the key all the same: its older connections do not look for it any more.
            template.generation = terms.persistence.generation;
            template.connections = 0;
        }
        template.connections += u32::from(terms.control);
        template.timeout = terms.persistence.timeout;
        template.expires = Millis(now.0 + u64::from(template.timeout));
        Some(Held {
            server: template.server,
            handle: Handle {
                shard: number as u8,
                slot,
                stamp,
            },
        })
    }

    /// Takes out one that is over, or else one that controls nothing and was never assured, among a
    /// few places.
    fn make_room(&self, shard: &mut Shard, services: &Services, now: Millis) {
        let places = shard.look_around(TRIES);
        let mut unused = None;
        for slot in places {
            let Some(template) = shard.at(slot) else {
                continue;
            };
            if template.is_over(services, now) {
                self.remove(shard, slot, services);
                return;
            }
            if template.connections == 0 && !template.assured {
                unused.get_or_insert(slot);
            }
        }
        if let Some(slot) = unused {
            self.remove(shard, slot, services);
        }
    }

    fn remove(&self, shard: &mut Shard, slot: u32, services: &Services) {
        if let Some(template) = shard.remove(slot) {
            self.len.fetch_sub(1, Relaxed);
            if let Some(record) = template.server.record(services) {
                record.shared.templates().fetch_sub(1, Relaxed);
            }
        }
    }

    fn shard(&self, key: &TemplateKey<'_>) -> (usize, u64, MutexGuard<'_, Shard>) {
        let hash = self.hash(key);
        // The table below takes the other bits.
        let number = (hash >> 48) as usize % SHARDS;
        (number, hash, self.lock(number))
    }

    fn lock(&self, number: usize) -> MutexGuard<'_, Shard> {
        // A worker that panics ends the process; nothing is left half done in a shard.
        let shard = self.shards[number % SHARDS].lock();
        shard.unwrap_or_else(PoisonError::into_inner)
    }

    fn hash(&self, key: &TemplateKey<'_>) -> u64 {
        let mut hasher = self.hasher.build_hasher();
        (key.protocol, key.vip, key.port).hash(&mut hasher);
        match key.call {
            Some(call) => call.hash(&mut hasher),
            None => key.client.hash(&mut hasher),
        }
        hasher.finish()
    }
}

/// A cursor is a shard's number and a place in it.
const PLACE_BITS: u32 = 24;
const PLACE_MASK: u32 = (1 << PLACE_BITS) - 1;
/// Places looked at to make room.
const TRIES: usize = 32;

#[cfg(test)]
mod tests;
