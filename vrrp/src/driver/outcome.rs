//! What the host is told, and the bounded channel it is told by.
//!
//! Invariant: the driver never waits for the host. An event that finds the channel full is lost and counted. A claim or
//! its end is never lost: it is held back, the latest of each virtual router.

use super::counters::Counters;
use crate::action::VirtualInterface;
use crate::event::Event;
use crate::settings::Name;
use crossbeam_channel::{Sender, TrySendError};
use std::collections::VecDeque;
use std::net::IpAddr;
use std::time::{Instant, SystemTime};

/// Something for the host.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// Have the data plane forward for these addresses and answer [`Control::Claimed`](super::Control::Claimed).
    Claim {
        /// When it was decided.
        at: Moment,
        /// The router that became Active.
        router: Name,
        /// Its addresses.
        addresses: Vec<IpAddr>,
        /// The interface with the virtual MAC that it answers by, if it has one: until the claim ends, whatever is
        /// configured meanwhile.
        own: Option<VirtualInterface>,
    },
    /// The data plane need not forward for it any more.
    Disclaim {
        /// When it was decided.
        at: Moment,
        /// The router.
        router: Name,
    },
    /// Something for the log, scripts and mail.
    Event {
        /// When it happened.
        at: Moment,
        /// What.
        event: Event,
    },
}

/// A point in time, for computing and for showing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    /// By the clock that never goes back.
    pub instant: Instant,
    /// By the calendar.
    pub time: SystemTime,
}

impl Moment {
    pub(super) fn now() -> Self {
        Self {
            instant: Instant::now(),
            time: SystemTime::now(),
        }
    }
}

/// The driver's end of the channel.
#[derive(Debug)]
pub(super) struct Outbox {
    channel: Sender<Outcome>,
    held: VecDeque<Outcome>,
}

impl Outbox {
    pub(super) fn new(channel: Sender<Outcome>) -> Self {
        Self {
            channel,
            held: VecDeque::new(),
        }
    }

    pub(super) fn put(&mut self, outcome: Outcome, counters: &Counters) {
        let Some(router) = claimant(&outcome).cloned() else {
            // A host that has gone has no use for it.
            if let Err(TrySendError::Full(_)) = self.channel.try_send(outcome) {
                counters.events_lost.add(1);
            }
            return;
        };
        self.held.retain(|held| claimant(held) != Some(&router));
        self.held.push_back(outcome);
        self.flush();
    }

    /// Hands out what was held back; `true` if nothing is any more.
    pub(super) fn flush(&mut self) -> bool {
        while let Some(outcome) = self.held.pop_front() {
            if let Err(TrySendError::Full(outcome)) = self.channel.try_send(outcome) {
                self.held.push_front(outcome);
                return false;
            }
        }
        true
    }
}

fn claimant(outcome: &Outcome) -> Option<&Name> {
    match outcome {
        Outcome::Claim { router, .. } | Outcome::Disclaim { router, .. } => Some(router),
        Outcome::Event { .. } => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crossbeam_channel::bounded;

    #[test]
    fn events_are_lost_and_counted_but_no_claim_is() {
        let (sender, receiver) = bounded(1);
        let mut outbox = Outbox::new(sender);
        let counters = Counters::default();
        let at = Moment::now();
        let event = |what: &str| Outcome::Event {
            at,
            event: Event::Notice {
                router: "VI_1".into(),
                what: what.into(),
            },
        };
        let claim = Outcome::Claim {
            at,
            router: "VI_1".into(),
            addresses: Vec::new(),
            own: None,
        };
        let disclaim = Outcome::Disclaim {
            at,
            router: "VI_1".into(),
        };
        outbox.put(event("first"), &counters);
        outbox.put(event("second"), &counters);
        outbox.put(claim, &counters);
        outbox.put(disclaim.clone(), &counters);
        assert_eq!(counters.read().events_lost, 1);
        assert!(!outbox.flush());
        assert_eq!(receiver.try_recv().unwrap(), event("first"));
        assert!(outbox.flush());
        assert_eq!(receiver.try_recv().unwrap(), disclaim);
        assert!(receiver.is_empty());
    }
}
