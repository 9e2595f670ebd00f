//! When the link is told where the addresses are: gratuitous ARP and unsolicited neighbour advertisements
//! (behaviour notes 8.4), keepalived's batches.
//!
//! One batch at once, `repeat` times all addresses in turn (VIP1, VIP2, VIP1, ...); a second after `delay`; then, if
//! configured, each once per `refresh`.

use crate::action::Action;
use crate::settings::{Announcing, Name};
use std::collections::VecDeque;
use std::net::IpAddr;
use std::time::{Duration, Instant};

/// The announcements that an Active router still owes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Announcer {
    second: Option<Instant>,
    refresh: Option<Instant>,
    /// Out-of-turn batches are at least [`SPACING`] apart.
    last: Option<Instant>,
}

/// What is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Due {
    Batch,
    Once,
}

/// The least time between batches that others provoke.
const SPACING: Duration = Duration::from_secs(1);

impl Announcer {
    /// A batch goes out now.
    pub(crate) fn begin(&mut self, how: &Announcing, now: Instant) {
        self.last = Some(now);
        self.second = (!how.delay.is_zero()).then(|| now + how.delay);
        self.refresh = how.refresh.map(|every| now + every);
    }

    /// It is to be done in another way from now on.
    pub(crate) fn adapt(&mut self, how: &Announcing, now: Instant) {
        self.refresh = how.refresh.map(|every| now + every);
        if how.delay.is_zero() {
            self.second = None;
        }
    }

    /// Whether somebody who disputes the addresses is answered by a batch now; if so it has begun.
    pub(crate) fn provoke(&mut self, how: &Announcing, now: Instant) -> bool {
        let is_due = self
            .last
            .is_none_or(|last| now.saturating_duration_since(last) >= SPACING);
        if is_due {
            self.begin(how, now);
        }
        is_due
    }

    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.second.into_iter().chain(self.refresh).min()
    }

    /// What is due now. A long pause makes one refresh due, not all that were missed.
    pub(crate) fn due(&mut self, how: &Announcing, now: Instant) -> Option<Due> {
        if self.second.is_some_and(|second| second <= now) {
            self.second = None;
            self.last = Some(now);
            return Some(Due::Batch);
        }
        if self.refresh.is_some_and(|refresh| refresh <= now) {
            self.refresh = how.refresh.map(|every| now + every);
            return Some(Due::Once);
        }
        None
    }
}

/// All addresses in turn, `times` times.
pub(crate) fn announce<'a>(
    addresses: impl Iterator<Item = (&'a Name, IpAddr)> + Clone,
    times: u32,
    out: &mut VecDeque<Action>,
) {
    for _ in 0..times {
        out.extend(
            addresses
                .clone()
                .map(|(interface, address)| Action::Announce {
                    interface: interface.clone(),
                    address,
                }),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOW: Announcing = Announcing {
        delay: Duration::from_secs(5),
        repeat: 5,
        refresh: Some(Duration::from_mins(1)),
    };

    #[test]
    fn the_second_batch_comes_after_the_delay_and_then_each_refresh_once() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut announcer = Announcer::default();
        announcer.begin(&HOW, start);
        assert_eq!(announcer.deadline(), Some(at(5)));
        assert_eq!(announcer.due(&HOW, at(4)), None);
        assert_eq!(announcer.due(&HOW, at(5)), Some(Due::Batch));
        assert_eq!(announcer.deadline(), Some(at(60)));
        assert_eq!(announcer.due(&HOW, at(600)), Some(Due::Once));
        assert_eq!(announcer.due(&HOW, at(600)), None);
        assert_eq!(announcer.deadline(), Some(at(660)));
    }

    #[test]
    fn a_second_batch_that_is_off_and_no_refresh_leave_nothing_to_do() {
        let how = Announcing {
            delay: Duration::ZERO,
            refresh: None,
            ..HOW
        };
        let mut announcer = Announcer::default();
        announcer.begin(&how, Instant::now());
        assert_eq!(announcer.deadline(), None);
    }

    #[test]
    fn who_provokes_batches_gets_one_each_second() {
        let start = Instant::now();
        let mut announcer = Announcer::default();
        let batches = (0..3000)
            .filter(|&ms| announcer.provoke(&HOW, start + Duration::from_millis(ms)))
            .count();
        assert_eq!(batches, 3);
    }
}
