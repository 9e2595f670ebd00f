//! Token buckets: how fast a worker sends ICMP errors and punts each class.
//!
//! The limits of punting are in front of the rings to the slow path, so that no flood can fill a ring
//! or the control core with one class at the cost of another (DESIGN §6).

use crate::connection::Millis;
use crate::packet::MacAddress;
use crate::verdict::PuntClass;
use std::hash::{BuildHasher, RandomState};

/// A token bucket refilled by the millisecond.
#[derive(Clone, Copy, Debug)]
pub(super) struct TokenBucket {
    per_second: u64,
    /// The most it holds, and what it holds: tokens times 1000, so that slow rates refill smoothly.
    depth: u64,
    level: u64,
    refilled: Millis,
}

impl TokenBucket {
    /// A full bucket of `per_second` tokens a second; its burst is a tenth of a second's.
    pub(super) const fn new(per_second: u64) -> Self {
        Self::with_depth(per_second, per_second / 10)
    }

    /// A full bucket that holds `depth` tokens, at least one.
    const fn with_depth(per_second: u64, depth: u64) -> Self {
        let depth = if depth == 0 { 1000 } else { depth * 1000 };
        Self {
            per_second,
            depth,
            level: depth,
            refilled: Millis(0),
        }
    }

    /// Takes a token if there is one.
    #[inline]
    pub(super) fn take(&mut self, now: Millis) -> bool {
        let elapsed = now.since(self.refilled);
        if elapsed > 0 {
            self.refilled = now;
            let gained = elapsed.saturating_mul(self.per_second);
            self.level = self.level.saturating_add(gained).min(self.depth);
        }
        if self.level < 1000 {
            return false;
        }
        self.level -= 1000;
        true
    }
}

/// ICMP errors (and TCP resets) a worker may send per second.
pub(super) const ICMP_ERRORS_PER_SECOND: u64 = 10_000;

/// Questions about neighbours that failed before, per second.
pub(super) const ASKS_PER_SECOND: u64 = 100;

/// Packets a worker may send to look for their connection, per second.
pub(super) const SEARCHES_PER_SECOND: u64 = 100_000;

/// How fast one worker punts, by class, in packets per second. Generous for what keeps the box alive
/// and operable, firm for what strangers can send; what is beyond is dropped as `policed_<class>`.
///
/// ```text
///  class    rate     of which one station
///  vrrp     20 000    5 000   by its MAC address: these come from the link, or they are not
///  arp      10 000      500   neighbours Linux knows, at the MAC address it knows
///              200       50   all others
///  routing 100 000
///  icmp     10 000
///  rest    100 000
/// ```
///
/// VRRP and ARP are what a station on the link can silence us with, so a storm of one station takes
/// no other's share, and storms of invented stations take none of the known ones'. Strangers get
/// little because each leaves an entry in Linux's neighbour table, which holds 1024 by default and
/// forgets none younger than five seconds. Every bucket holds a tenth of a second's tokens, the
/// strangers' a whole second's: after a cold start everybody is one.
#[derive(Debug)]
pub(super) struct PuntPolice {
    /// By class; ARP's is the share of known neighbours.
    classes: [TokenBucket; PuntClass::COUNT],
    strangers: TokenBucket,
    vrrp_stations: Stations,
    known_stations: Stations,
    strange_stations: Stations,
}

impl PuntPolice {
    /// Full buckets. Allocates.
    pub(super) fn new() -> Self {
        Self {
            classes: std::array::from_fn(|class| {
                TokenBucket::new(match PuntClass::ALL[class] {
                    PuntClass::Vrrp => 20_000,
                    PuntClass::Arp | PuntClass::Icmp => 10_000,
                    PuntClass::Routing | PuntClass::Rest => 100_000,
                })
            }),
            strangers: TokenBucket::with_depth(200, 200),
            vrrp_stations: Stations::new(TokenBucket::new(5_000)),
            known_stations: Stations::new(TokenBucket::new(500)),
            strange_stations: Stations::new(TokenBucket::with_depth(50, 50)),
        }
    }

    /// Whether a packet from `station` may be punted; `known`: it is a neighbour of ours.
    pub(super) fn admit(
        &mut self,
        class: PuntClass,
        station: MacAddress,
        known: bool,
        now: Millis,
    ) -> bool {
        let (stations, all) = match class {
            PuntClass::Vrrp => (&mut self.vrrp_stations, &mut self.classes[class as usize]),
            PuntClass::Arp if known => {
                (&mut self.known_stations, &mut self.classes[class as usize])
            }
            PuntClass::Arp => (&mut self.strange_stations, &mut self.strangers),
            // From beyond the link all come with the gateway's address: nothing to tell apart.
            PuntClass::Routing | PuntClass::Icmp | PuntClass::Rest => {
                return self.classes[class as usize].take(now);
            }
        };
        stations.bucket(station).take(now) && all.take(now)
    }
}

/// A bucket per station, or for the few that share one by a hash nobody can predict.
#[derive(Debug)]
struct Stations {
    buckets: Box<[TokenBucket]>,
    hasher: RandomState,
}

impl Stations {
    fn new(bucket: TokenBucket) -> Self {
        Self {
            buckets: vec![bucket; STATIONS].into(),
            hasher: RandomState::new(),
        }
    }

    fn bucket(&mut self, station: MacAddress) -> &mut TokenBucket {
        let index = self.hasher.hash_one(station.0) as usize % STATIONS;
        &mut self.buckets[index]
    }
}

const STATIONS: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_gives_its_rate_over_time_and_a_tenth_of_a_second_at_once() {
        let mut bucket = TokenBucket::new(1000);
        let burst = (0..1000).filter(|_| bucket.take(Millis(0))).count();
        assert_eq!(burst, 100);
        let mut taken = 0;
        for now in 1..=1000 {
            while bucket.take(Millis(now)) {
                taken += 1;
            }
        }
        assert_eq!(taken, 1000);
    }

    #[test]
    fn slow_rates_do_not_round_to_nothing() {
        let mut bucket = TokenBucket::new(2);
        assert!(bucket.take(Millis(0)));
        assert!(!bucket.take(Millis(400)));
        assert!(bucket.take(Millis(800)));
    }

    /// How many of `count` packets, each from the station that `station` names, are admitted at
    /// once.
    fn admitted(
        police: &mut PuntPolice,
        class: PuntClass,
        known: bool,
        count: u32,
        station: impl Fn(u32) -> MacAddress,
    ) -> u32 {
        let admit = |i: &u32| police.admit(class, station(*i), known, Millis(0));
        (0..count).filter(admit).count() as u32
    }

    const STORM: MacAddress = MacAddress([2, 0, 0, 0, 0, 0x66]);
    const OTHER: MacAddress = MacAddress([2, 0, 0, 0, 0, 0x77]);

    fn invented(i: u32) -> MacAddress {
        let mut station = [2, 0x66, 0, 0, 0, 0];
        station[2..].copy_from_slice(&i.to_be_bytes());
        MacAddress(station)
    }

    #[test]
    fn a_storm_of_one_station_takes_no_other_ones_share() {
        for (class, known, share) in [
            (PuntClass::Vrrp, false, 500),
            (PuntClass::Arp, true, 50),
            (PuntClass::Arp, false, 50),
        ] {
            // Two stations in 256 buckets may share one: with other secrets they do not.
            let served = (0..8).any(|_| {
                let mut police = PuntPolice::new();
                assert_eq!(
                    admitted(&mut police, class, known, 10_000, |_| STORM),
                    share
                );
                police.admit(class, OTHER, known, Millis(0))
            });
            assert!(served, "{class} {known}");
        }
    }

    #[test]
    fn storms_of_invented_stations_leave_known_neighbours_theirs() {
        let mut police = PuntPolice::new();
        let strangers = admitted(&mut police, PuntClass::Arp, false, 1_000_000, invented);
        assert_eq!(strangers, 200);
        assert_eq!(
            admitted(&mut police, PuntClass::Arp, true, 100, |_| OTHER),
            50
        );
    }

    #[test]
    fn no_class_takes_from_another() {
        for flooded in PuntClass::ALL {
            let mut police = PuntPolice::new();
            admitted(&mut police, *flooded, true, 1_000_000, invented);
            for class in PuntClass::ALL.iter().filter(|class| *class != flooded) {
                assert!(police.admit(*class, OTHER, true, Millis(0)), "{class}");
            }
        }
    }
}
