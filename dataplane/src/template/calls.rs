//! Which template a worker's connections are under where a persistence engine made the key: the call
//! is in no connection, so it cannot be found again by what the connection holds.
//!
//! The key is what tells connections of one worker apart: protocol and both ends. It comes from the
//! wire, so the hash is keyed by a secret.

use super::Handle;
use crate::address::Protocol;
use crate::places::Places;
use std::hash::{BuildHasher, RandomState};
use std::net::SocketAddr;

/// Protocol, client and VIP of a connection.
pub type Ends = (Protocol, SocketAddr, SocketAddr);

/// The templates of one worker's connections.
#[derive(Debug)]
pub struct Calls {
    hasher: RandomState,
    places: Places<(Ends, Handle)>,
}

impl Default for Calls {
    fn default() -> Self {
        Self::new(0)
    }
}

impl Calls {
    /// Room for `connections`; all memory is taken and touched here.
    pub fn new(connections: usize) -> Self {
        Self {
            hasher: RandomState::new(),
            places: Places::new(connections),
        }
    }

    /// How many there is room for.
    pub fn capacity(&self) -> usize {
        self.places.capacity()
    }

    /// True if no connection is known.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.places.len() == 0
    }

    /// Remembers the template of a connection. False if there is no room.
    #[must_use]
    pub fn insert(&mut self, ends: Ends, handle: Handle) -> bool {
        self.remove(&ends);
        let hash = self.hasher.hash_one(ends);
        self.places.insert(hash, (ends, handle)).is_some()
    }

    /// The template of a connection.
    pub fn get(&self, ends: &Ends) -> Option<Handle> {
        if self.is_empty() {
            return None;
        }
        let (place, _) = self.find(ends)?;
        self.places.at(place).map(|(_, handle)| *handle)
    }

    /// Forgets a connection; its template.
    pub fn remove(&mut self, ends: &Ends) -> Option<Handle> {
        if self.is_empty() {
            return None;
        }
        let (place, _) = self.find(ends)?;
        self.places.remove(place).map(|(_, handle)| handle)
    }

    fn find(&self, ends: &Ends) -> Option<(u32, u32)> {
        let hash = self.hasher.hash_one(ends);
        self.places.find(hash, |(known, _)| known == ends)
    }
}
