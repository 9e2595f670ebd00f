//! What a router that is not Active any more still holds, so that a hand-over loses nothing (DESIGN section 6).
//!
//! Forwarding goes on until a peer's advertisement has been seen and one second more, at most five seconds: neighbours
//! keep our MAC in their caches until the peer has announced itself. One who leaves on purpose keeps the addresses too
//! until the peer speaks, because a Backup router that hears priority 0 still waits its Skew_Time (0.6 s for priority
//! 100) and somebody without a cache entry would find nobody. There are never two who answer: the first advertisement
//! of a peer takes the addresses away. Where none comes, they go after the longest Active_Down_Interval a peer can have
//! and one second (at most five): the single packet that says priority 0 may have been lost or overtaken by the
//! advertisement before it, and then a peer acts no sooner. A bound by the skew left gaps in the simulation.

use crate::settings::Version;
use crate::timers::active_down_interval;
use std::time::{Duration, Instant};

/// What is still held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Hold {
    /// Until then the addresses stay; `None` = they are gone.
    addresses_until: Option<Instant>,
    /// Until then the data plane forwards.
    forwarding_until: Instant,
}

/// Why a router is not Active any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Leaving {
    /// It left of its own will.
    OnPurpose,
    /// It left of its own will, and its addresses cannot stay: it begins anew with other settings.
    Changed,
    /// It cannot take part.
    Fault,
    /// Another router is Active.
    Superseded,
}

/// After a peer has spoken.
const AFTER_PEER: Duration = Duration::from_secs(1);
/// Without a peer.
const LONGEST: Duration = Duration::from_secs(5);

impl Hold {
    /// Something is left now.
    pub(crate) fn new(
        leaving: Leaving,
        version: Version,
        interval: Duration,
        down_timer_adverts: u8,
        now: Instant,
    ) -> Self {
        let longest_wait = active_down_interval(version, 0, interval, down_timer_adverts);
        let (addresses_until, forwarding_until) = match leaving {
            Leaving::OnPurpose => (
                Some(now + (longest_wait + AFTER_PEER).min(LONGEST)),
                now + LONGEST,
            ),
            Leaving::Changed | Leaving::Fault => (None, now + LONGEST),
            Leaving::Superseded => (None, now + AFTER_PEER),
        };
        Self {
            addresses_until,
            forwarding_until,
        }
    }

    /// A peer is Active: addresses go at once, forwarding a second later.
    pub(crate) fn peer_spoke(&mut self, now: Instant) {
        self.forwarding_until = self.forwarding_until.min(now + AFTER_PEER);
        self.addresses_until = self.addresses_until.map(|_| now);
    }

    /// The addresses must go now.
    pub(crate) fn let_addresses_go(&mut self, now: Instant) {
        self.addresses_until = self.addresses_until.map(|_| now);
    }

    pub(crate) fn deadline(&self) -> Instant {
        self.addresses_until.map_or(self.forwarding_until, |until| {
            until.min(self.forwarding_until)
        })
    }

    /// Whether the addresses are due to go; says so once.
    pub(crate) fn take_addresses(&mut self, now: Instant) -> bool {
        let is_due = self.addresses_until.is_some_and(|until| until <= now);
        if is_due {
            self.addresses_until = None;
        }
        is_due
    }

    /// Whether forwarding ends.
    pub(crate) fn is_over(&self, now: Instant) -> bool {
        self.forwarding_until <= now
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn without_a_peer_addresses_stay_as_long_as_one_may_wait_and_forwarding_five_seconds() {
        let start = Instant::now();
        let mut hold = Hold::new(Leaving::OnPurpose, Version::V3, SECOND / 10, 3, start);
        assert_eq!(hold.deadline(), start + SECOND * 14 / 10);
        assert!(hold.take_addresses(hold.deadline()));
        assert!(!hold.take_addresses(hold.deadline()));
        assert_eq!(hold.deadline(), start + 5 * SECOND);
    }

    #[test]
    fn a_peer_takes_the_addresses_at_once_and_forwarding_after_a_second() {
        let start = Instant::now();
        let mut hold = Hold::new(Leaving::OnPurpose, Version::V2, SECOND, 3, start);
        let heard = start + SECOND / 2;
        hold.peer_spoke(heard);
        hold.peer_spoke(heard + SECOND / 4);
        assert!(hold.take_addresses(heard + SECOND / 4));
        assert!(!hold.is_over(heard + SECOND * 9 / 10));
        assert!(hold.is_over(heard + SECOND));
    }

    #[test]
    fn nothing_is_held_longer_than_five_seconds() {
        let start = Instant::now();
        let hold = Hold::new(Leaving::OnPurpose, Version::V3, 40 * SECOND, 3, start);
        assert_eq!(hold.deadline(), start + 5 * SECOND);
    }
}
