//! Addresses that the kernel will not have: when that lasts, and when it has ended.
//!
//! An Active router whose address cannot be placed answers for nothing while it keeps its peers from it. After
//! [`TRIES`] the state machine is told, and gives way. Whether the kernel would have the address now cannot be tried
//! with the address itself, which a peer has meanwhile: another one that nobody uses stands in for it on the same
//! interface. Invariant: an address that is refused though its stand-in is not costs its peers less and less often.

use super::address;
use super::netlink::Netlink;
use crate::settings::Name;
use ipnet::IpNet;
use std::collections::{BTreeMap, BTreeSet};
use std::io::Result;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::{Duration, Instant};

/// An address and its interface.
pub(super) type Place = (Name, IpNet);

/// What fails at present.
#[derive(Debug, Default)]
pub(super) struct Failures(BTreeMap<Place, Failure>);

#[derive(Debug)]
struct Failure {
    tries: u32,
    /// The state machine was told; it is tried again then.
    refused_until: Option<Instant>,
    /// How long it is refused at least next time.
    pause: Duration,
}

impl Failures {
    /// It could not be placed; `true` = that lasts now.
    pub(super) fn failed(&mut self, place: Place, now: Instant) -> bool {
        let failure = self.0.entry(place).or_insert(Failure {
            tries: 0,
            refused_until: None,
            pause: FIRST_PAUSE,
        });
        failure.tries += 1;
        let lasts = failure.tries >= TRIES && failure.refused_until.is_none();
        if lasts {
            failure.refused_until = Some(now + failure.pause);
            failure.pause = (failure.pause * 2).min(LONGEST_PAUSE);
        }
        lasts
    }

    /// It was placed; `true` = it was told that it could not be.
    pub(super) fn placed(&mut self, place: &Place) -> bool {
        // The usual case, without a search.
        !self.0.is_empty()
            && self
                .0
                .remove(place)
                .is_some_and(|failure| failure.refused_until.is_some())
    }

    /// It is not wanted any more; what failed so far was in passing.
    pub(super) fn withdrawn(&mut self, place: &Place) {
        if let Some(failure) = self.0.get_mut(place) {
            failure.tries = 0;
        }
    }

    /// What is to be tried again by [`probe`].
    pub(super) fn due(&self, now: Instant) -> Vec<Place> {
        let due = self
            .0
            .iter()
            .filter(|(_, failure)| failure.refused_until.is_some_and(|until| until <= now));
        due.map(|(place, _)| place.clone()).collect()
    }

    /// It was tried: it may be placed, or is tried again later.
    pub(super) fn probed(&mut self, place: &Place, works: bool, now: Instant) {
        if let Some(failure) = self.0.get_mut(place) {
            failure.tries = 0;
            failure.refused_until = (!works).then(|| now + FIRST_PAUSE);
        }
    }

    /// When something is due.
    pub(super) fn next(&self) -> Option<Instant> {
        let refused = self.0.values();
        refused.filter_map(|failure| failure.refused_until).min()
    }

    /// Only these addresses are configured.
    pub(super) fn keep(&mut self, configured: &BTreeSet<IpAddr>) {
        self.0
            .retain(|(_, net), _| configured.contains(&net.addr()));
    }
}

/// Whether the interface of this index takes an address like this one.
pub(super) fn probe(netlink: &mut Netlink, index: u32, like: IpNet) -> Result<()> {
    let stand_in = match like {
        // The dummy address (RFC 7600), and one of the discard prefix (RFC 6666).
        IpNet::V4(_) => IpAddr::V4(Ipv4Addr::new(192, 0, 0, 8)),
        IpNet::V6(_) => IpAddr::V6(Ipv6Addr::new(0x100, 0, 0, 0, 0, 0, 0, 112)),
    };
    if address::add(netlink, index, stand_in.into())? {
        address::remove(netlink, index, stand_in.into())?;
    }
    Ok(())
}

/// Tries, a second apart, after which it is no passing trouble.
const TRIES: u32 = 3;
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_mins(5);

#[cfg(test)]
mod tests {
    use super::*;

    fn place() -> Place {
        ("eth0".into(), "10.0.1.60/32".parse().unwrap())
    }

    #[test]
    fn the_third_failure_lasts_and_is_told_once() {
        let mut failures = Failures::default();
        let now = Instant::now();
        let told = [0; 5].map(|_| failures.failed(place(), now));
        assert_eq!(told, [false, false, true, false, false]);
        let other = (Name::from("eth1"), place().1);
        assert!(!failures.failed(other.clone(), now) && !failures.failed(other.clone(), now));
        failures.withdrawn(&other);
        assert!(!failures.failed(other.clone(), now), "twice some time ago");
        failures.placed(&other);
        assert_eq!(failures.due(now), []);
        assert_eq!(failures.next(), Some(now + FIRST_PAUSE));
        assert_eq!(failures.due(now + FIRST_PAUSE), [place()]);
        assert!(failures.placed(&place()) && !failures.placed(&place()));
        assert_eq!(failures.next(), None);
    }

    #[test]
    fn one_whose_stand_in_works_is_tried_ever_less_often() {
        let mut failures = Failures::default();
        let mut now = Instant::now();
        let mut pauses = Vec::new();
        for _ in 0..12 {
            while !failures.failed(place(), now) {}
            let next = failures.next().unwrap();
            pauses.push(next - now);
            now = next;
            failures.probed(&place(), false, now);
            assert_eq!(failures.next(), Some(now + FIRST_PAUSE));
            failures.probed(&place(), true, now);
            assert_eq!(failures.next(), None);
        }
        assert_eq!(pauses[..3], [1, 2, 4].map(Duration::from_secs));
        assert_eq!(pauses[11], LONGEST_PAUSE);
        failures.keep(&BTreeSet::new());
        assert!(failures.0.is_empty());
    }
}
