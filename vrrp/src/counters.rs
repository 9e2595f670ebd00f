//! What is counted of one virtual router, and what is told of packets that are wrong.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident = $text:literal,)+) => {
        /// A thing that is counted.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) enum Counter {
            $($(#[$doc])* $name,)+
        }

        impl Counter {
            const ALL: &[(Self, &'static str)] = &[$((Self::$name, $text),)+];
        }
    };
}

counters! {
    /// Advertisements that were sent, to each peer one.
    AdvertsSent = "adverts_sent",
    /// Advertisements that were found right.
    AdvertsReceived = "adverts_received",
    /// Of those sent, with priority 0.
    PriorityZeroSent = "priority_zero_sent",
    /// Of those received, with priority 0.
    PriorityZeroReceived = "priority_zero_received",
    /// Changes to Active.
    BecameActive = "became_active",
    /// Changes from Active to anything.
    ReleasedActive = "released_active",
    /// Ignored: our own.
    FromSelf = "from_self",
    /// Ignored: shorter than version and count demand.
    Length = "bad_length",
    /// Ignored: TTL or hop limit is not 255.
    Ttl = "bad_ttl",
    /// Ignored: another version.
    Version = "bad_version",
    /// Ignored: another kind of authentication.
    AuthType = "bad_auth_type",
    /// Ignored: another password.
    Password = "bad_password",
    /// Ignored: another interval (version 2), or none.
    Interval = "bad_interval",
    /// Ignored: not an advertisement.
    Type = "bad_type",
    /// Ignored: wrong checksum.
    Checksum = "bad_checksum",
    /// Ignored: unicast where multicast is expected, or the other way round.
    Destination = "bad_destination",
    /// Other addresses; ignored or not as the configuration has it.
    Addresses = "other_addresses",
    /// Obeyed: the interval differs from ours (version 3).
    OtherInterval = "other_interval",
    /// Right, and of a priority below ours: discarded, or obeyed where preempting is off or delayed.
    LowerPriority = "lower_priority",
    /// Obeyed: another router claims to own the addresses too.
    TwoOwners = "two_owners",
}

const COUNT: usize = Counter::ALL.len();

/// The counters, and what was told of wrong packets.
#[derive(Clone, Debug)]
pub(crate) struct Counters {
    values: [u64; COUNT],
    told: [Option<(IpAddr, Instant)>; COUNT],
}

impl Counters {
    pub(crate) fn new() -> Self {
        Self {
            values: [0; COUNT],
            told: [None; COUNT],
        }
    }

    pub(crate) fn count(&mut self, counter: Counter) {
        self.values[counter as usize] += 1;
    }

    /// Whether this is to be told: the first time, and then for another source, but not before a minute has passed, so
    /// that no flood becomes a flood of messages.
    pub(crate) fn is_news(&mut self, counter: Counter, source: IpAddr, now: Instant) -> bool {
        let told = &mut self.told[counter as usize];
        let is_news = told.is_none_or(|(before, at)| {
            before != source && now.saturating_duration_since(at) >= MINUTE
        });
        if is_news {
            *told = Some((source, now));
        }
        is_news
    }

    /// The state has changed: what is wrong then is news again.
    pub(crate) fn forget_told(&mut self) {
        self.told = [None; COUNT];
    }

    pub(crate) fn by_name(&self) -> BTreeMap<&'static str, u64> {
        Counter::ALL
            .iter()
            .map(|&(counter, name)| (name, self.values[counter as usize]))
            .collect()
    }
}

const MINUTE: Duration = Duration::from_mins(1);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_is_told_once_and_again_for_another_source_after_a_minute() {
        let mut counters = Counters::new();
        let start = Instant::now();
        let [a, b]: [IpAddr; 2] = [[10, 0, 0, 1].into(), [10, 0, 0, 2].into()];
        assert!(counters.is_news(Counter::Ttl, a, start));
        assert!(!counters.is_news(Counter::Ttl, a, start + 2 * MINUTE));
        assert!(!counters.is_news(Counter::Ttl, b, start));
        assert!(counters.is_news(Counter::Length, b, start));
        assert!(counters.is_news(Counter::Ttl, b, start + MINUTE));
        counters.forget_told();
        assert!(counters.is_news(Counter::Ttl, b, start + MINUTE));
    }

    #[test]
    fn every_counter_has_its_own_name() {
        assert_eq!(Counters::new().by_name().len(), COUNT);
    }
}
