//! Which worker owns a connection, computed from one endpoint alone (DESIGN §5).
//!
//! Both directions of a translated connection show the client's address and port, so hashing that
//! endpoint brings requests and replies to one worker without anything shared. The hash has no
//! secret: who floods one worker with chosen ports could as well flood the box.

use crate::address::{Address, Endpoint};
use crate::verdict::WorkerId;

/// The worker, of `workers`, that owns connections with this endpoint.
#[inline]
pub fn owner<A: Address>(endpoint: Endpoint<A>, workers: u8) -> WorkerId {
    let word = endpoint.address.word() ^ (u64::from(endpoint.port) << 40);
    // Fibonacci hashing twice: the high bits of the product depend on every bit of the word.
    let mixed = word.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    let mixed = (mixed ^ (mixed >> 32)).wrapping_mul(0xD6E8_FEB8_6659_FD93);
    WorkerId((((mixed >> 32) * u64::from(workers)) >> 32) as u8)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{Ipv4Addr, Ipv6Addr};

    #[test]
    fn endpoints_spread_evenly_and_stay_in_range() {
        for workers in 1..=7 {
            let mut counts = vec![0_u32; usize::from(workers)];
            for host in 0..40_u8 {
                for port in 32_768..33_768 {
                    let client = Endpoint::new(Ipv4Addr::new(10, 0, 1, host), port);
                    counts[usize::from(owner(client, workers).0)] += 1;
                }
            }
            let fair = 40_000 / u32::from(workers);
            for count in counts {
                assert!(
                    count.abs_diff(fair) < fair / 20,
                    "{workers} workers: {count} of {fair}"
                );
            }
        }
    }

    #[test]
    fn ports_of_one_client_and_neighbouring_clients_spread_too() {
        let first = (1024..1124)
            .filter(|port| owner(Endpoint::new(Ipv6Addr::LOCALHOST, *port), 2) == WorkerId(0))
            .count();
        assert!((30..70).contains(&first), "{first}");
    }
}
