//! The keyed hash of a five-tuple.
//!
//! Two or three folded 64x64-bit multiplications over all bits of both endpoints, keyed by random
//! words drawn per table, so that a sender cannot choose tuples that fall into one bucket.

use crate::address::{Address, Family, FiveTuple};
use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;

/// The secret words of one table.
#[derive(Clone, Copy, Debug)]
pub(super) struct TupleHasher {
    key: [u64; 4],
}

impl TupleHasher {
    /// Draws new words.
    pub(super) fn random() -> Self {
        let state = RandomState::new();
        Self {
            // Odd words are never zero, so no factor is zero by construction.
            key: std::array::from_fn(|i| state.hash_one(i) | 1),
        }
    }

    #[inline]
    pub(super) fn hash<A: Address>(&self, tuple: &FiveTuple<A>) -> u64 {
        let [k0, k1, k2, k3] = self.key;
        let ports = u64::from(tuple.source.port)
            | u64::from(tuple.destination.port) << 16
            | u64::from(tuple.protocol.number()) << 32;
        let (source_high, source_low) = words(tuple.source.address);
        let (destination_high, destination_low) = words(tuple.destination.address);
        match A::FAMILY {
            Family::V4 => {
                let addresses = source_low | destination_low << 32;
                folded(folded(addresses ^ k0, ports ^ k1) ^ k2, k3)
            }
            Family::V6 => {
                let source = folded(source_high ^ k0, source_low ^ k1);
                let destination = folded(destination_high ^ k2, destination_low ^ k3);
                folded(source ^ ports ^ k2, destination ^ k0)
            }
        }
    }
}

/// High and low 64 bits of an address; an IPv4 address is all in the low word.
#[inline]
fn words<A: Address>(address: A) -> (u64, u64) {
    match address.into() {
        IpAddr::V4(address) => (0, u64::from(address.to_bits())),
        IpAddr::V6(address) => {
            let bits = address.to_bits();
            ((bits >> 64) as u64, bits as u64)
        }
    }
}

#[inline]
fn folded(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    product as u64 ^ (product >> 64) as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::address::{Endpoint, Protocol};
    use std::net::{Ipv4Addr, Ipv6Addr};

    /// Most crowded of 4096 cells after 16384 hashes, by the bits that choose a bucket.
    fn crowd(hashes: impl Iterator<Item = u64>) -> u32 {
        let mut cells = vec![0; 4096];
        for hash in hashes.take(16384) {
            cells[(hash >> 52) as usize] += 1;
        }
        cells.into_iter().max().unwrap()
    }

    #[test]
    fn neighbouring_clients_and_ports_spread_like_random_ones() {
        let hasher = TupleHasher::random();
        let v4 = (0..128u32).flat_map(|host| (0..128u16).map(move |port| (host, port)));
        let tuple = |(host, port)| FiveTuple {
            protocol: Protocol::Tcp,
            source: Endpoint::new(Ipv4Addr::from_bits(0x0a00_0100 + host), 1024 + port),
            destination: Endpoint::new(Ipv4Addr::new(10, 0, 1, 50), 80),
        };
        assert!(crowd(v4.map(|pair| hasher.hash(&tuple(pair)))) < 24);
        let v6 = (0..16384u128).map(|i| FiveTuple {
            protocol: Protocol::Udp,
            source: Endpoint::new(Ipv6Addr::from_bits(0x2001_0db8 << 96 | i << 60), 53),
            destination: Endpoint::new(Ipv6Addr::LOCALHOST, 53),
        });
        assert!(crowd(v6.map(|tuple| hasher.hash(&tuple))) < 24);
    }

    #[test]
    fn two_tables_have_different_keys() {
        assert_ne!(TupleHasher::random().key, TupleHasher::random().key);
    }
}
