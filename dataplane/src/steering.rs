//! Which worker owns a connection, computed from one endpoint alone (DESIGN §5).
//!
//! Both directions of a translated connection show the client's address and port, so hashing that
//! endpoint brings requests and replies to one worker without anything shared. The hash is the one
//! NICs compute (Toeplitz over address and port, as they follow each other in the input of a device
//! that is told to leave the other end out), and the worker is read from a redirection table as
//! theirs: a device that hashes sources on the clients' side and destinations on the servers', with
//! [`KEY`] and with [`slot_owner`] in its table, delivers every packet to its owner by itself.
//!
//! A key that repeats every 16 bits (as symmetric RSS uses) would not even depend on where a device
//! puts the fields, but it hashes an address and a port to their exclusive or: clients whose address
//! and port count up together would all have one owner.
//!
//! The hash has no secret: who floods one worker with chosen ports could as well flood the box.

mod errand;
mod toeplitz;

pub use errand::{Errand, stop_of_round};

use crate::address::{Address, Endpoint};
use crate::verdict::WorkerId;
use toeplitz::Toeplitz;

/// The key of the hash, for devices too: they take its first 40 to 52 bytes. It is no device's own, so
/// that one that shows it has taken it. (The beginning of the SHA-512 of "Sluice steering key".)
pub const KEY: [u8; 52] = [
    0xfc, 0x2b, 0xca, 0x06, 0x5a, 0xe3, 0xd8, 0xcf, 0x72, 0xc4, 0xb7, 0x62, 0xa1, 0x0f, 0x5e, 0xc4,
    0x36, 0xe9, 0x38, 0xd0, 0xb4, 0x24, 0x2e, 0xa4, 0xfd, 0x9f, 0x6d, 0x90, 0x30, 0x9a, 0xcb, 0x2a,
    0xac, 0x0b, 0x14, 0x31, 0x6f, 0xd6, 0x27, 0xf3, 0x2c, 0x6b, 0xc5, 0xc2, 0xdf, 0xf1, 0xa3, 0x8f,
    0xc2, 0x02, 0x1d, 0xe0,
];

/// Entries of the redirection table: as many as the large tables of NICs have. A power of two.
pub const SLOTS: u16 = 512;

/// An IPv6 address and a port.
static HASH: Toeplitz<18> = Toeplitz::new(&KEY);

/// The worker, of `workers`, that owns connections with this endpoint.
#[inline]
pub fn owner<A: Address>(endpoint: Endpoint<A>, workers: u8) -> WorkerId {
    slot_owner(hash(endpoint) as u16 & (SLOTS - 1), workers)
}

/// The worker, of `workers`, in entry `slot` of the redirection table.
#[inline]
pub fn slot_owner(slot: u16, workers: u8) -> WorkerId {
    WorkerId((slot % u16::from(workers.max(1))) as u8)
}

/// True if a device's redirection table of `size` entries can hold the same owner as ours for every
/// hash. A device looks at as many low bits of the hash as its table has entries for.
pub fn table_agrees(size: u16, workers: u8) -> bool {
    size.is_power_of_two()
        && (0..SLOTS.max(size)).all(|hash| {
            slot_owner(hash & (SLOTS - 1), workers)
                == slot_owner(hash & (size - 1) & (SLOTS - 1), workers)
        })
}

/// The worker, of `workers`, where the fragments of one datagram meet (DESIGN §5, rule 5).
#[inline]
pub fn fragment_owner<A: Address>(source: A, destination: A, id: u32, workers: u8) -> WorkerId {
    let mixed = (source.word() ^ destination.word().rotate_left(32) ^ u64::from(id))
        .wrapping_mul(0x9E37_79B9_7F4A_7C15);
    slot_owner((mixed >> 48) as u16 & (SLOTS - 1), workers)
}

#[inline]
fn hash<A: Address>(endpoint: Endpoint<A>) -> u32 {
    let [high, low] = endpoint.port.to_be_bytes();
    let port = HASH.of_byte(A::LEN, high) ^ HASH.of_byte(A::LEN + 1, low);
    (0..A::LEN).fold(port, |hash, index| {
        hash ^ HASH.of_byte(index, endpoint.address.octet(index))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{Ipv4Addr, Ipv6Addr};

    /// Asserts that no worker has a twentieth more or less than its share.
    fn assert_spread<A: Address>(clients: impl Fn(u16) -> Endpoint<A>, count: u16) {
        for workers in 1..=16 {
            let mut counts = vec![0_u32; usize::from(workers)];
            for index in 0..count {
                counts[usize::from(owner(clients(index), workers).0)] += 1;
            }
            let fair = u32::from(count) / u32::from(workers);
            for found in counts {
                assert!(
                    found.abs_diff(fair) < fair / 20 + 8,
                    "{workers} workers: {found} of {fair}"
                );
            }
        }
    }

    #[test]
    fn endpoints_spread_evenly_and_stay_in_range() {
        let v4 = |index| {
            let host = (index / 1000) as u8;
            Endpoint::new(Ipv4Addr::new(10, 0, 1, host), 32_768 + index % 1000)
        };
        assert_spread(v4, 40_000);
        let v6 = |index| {
            let address = Ipv6Addr::new(0x2001, 0xdb8, 0, 1, 0, 0, 0, index / 1000);
            Endpoint::new(address, 32_768 + index % 1000)
        };
        assert_spread(v6, 40_000);
    }

    #[test]
    fn ports_of_one_client_spread_also_if_only_even_ones_are_used() {
        // As Linux does for connect().
        assert_spread(
            |index| Endpoint::new(Ipv4Addr::new(192, 0, 2, 7), 32_768 + 2 * index),
            16_384,
        );
        assert_spread(
            |index| Endpoint::new(Ipv6Addr::LOCALHOST, 32_768 + 2 * index),
            16_384,
        );
    }

    #[test]
    fn clients_whose_address_and_port_count_up_together_spread() {
        let client = |index: u16| {
            let [high, low] = index.to_be_bytes();
            Endpoint::new(Ipv4Addr::new(10, 0, high, low), 1024 + index)
        };
        assert_spread(client, 16_384);
    }

    #[test]
    fn datagrams_of_one_pair_of_hosts_meet_at_all_workers() {
        let (source, destination) = (Ipv4Addr::new(10, 0, 1, 100), Ipv4Addr::new(10, 0, 1, 50));
        for workers in 1..=8 {
            let mut counts = vec![0; usize::from(workers)];
            for id in 0..8000 {
                let owner = fragment_owner(source, destination, id, workers);
                counts[usize::from(owner.0)] += 1;
            }
            let fair = 8000 / i32::from(workers);
            assert!(
                counts
                    .iter()
                    .all(|count: &i32| (count - fair).abs() < fair / 5),
                "{counts:?}"
            );
        }
    }

    #[test]
    fn an_endpoint_hashes_like_the_input_of_a_device_that_leaves_the_other_end_out() {
        let bytewise = |input: &[u8]| {
            let mut hash = 0;
            for bit in (0..input.len() * 8).filter(|bit| input[bit / 8] >> (7 - bit % 8) & 1 == 1) {
                for position in 0..32 {
                    let key = bit + position;
                    let set = u32::from(KEY[key / 8] >> (7 - key % 8) & 1);
                    hash ^= set << (31 - position);
                }
            }
            hash
        };
        let v4 = Endpoint::new(Ipv4Addr::new(66, 9, 149, 187), 2794);
        assert_eq!(hash(v4), bytewise(&[66, 9, 149, 187, 0x0a, 0xea]));
        let v6: Ipv6Addr = "3ffe:2501:200:1fff::7".parse().unwrap();
        let input = [&v6.octets()[..], &[0x0a, 0xea]].concat();
        assert_eq!(hash(Endpoint::new(v6, 2794)), bytewise(&input));
    }

    #[test]
    fn a_device_agrees_if_its_table_is_large_or_the_workers_divide_it() {
        for workers in 1..=16 {
            assert!(table_agrees(512, workers) && table_agrees(2048, workers));
            let divides = 128 % u16::from(workers) == 0;
            assert_eq!(table_agrees(128, workers), divides, "{workers} workers");
        }
        assert!(!table_agrees(0, 1) && !table_agrees(2, 4) && !table_agrees(384, 3));
    }
}
