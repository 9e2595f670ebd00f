//! What the driver drives: [`Routers`], or a test's stand-in for them.

use crate::action::Action;
use crate::input::Input;
use crate::routers::Routers;
use crate::status::RouterStatus;
use std::collections::BTreeMap;
use std::time::Instant;

/// A sans-IO state machine of virtual routers, see [`Routers`].
pub trait Machine: Send + 'static {
    /// Something happened.
    fn handle(&mut self, input: Input<'_>, now: Instant);
    /// Does what is due.
    fn expire(&mut self, now: Instant);
    /// When something will be.
    fn next_deadline(&self) -> Option<Instant>;
    /// The next thing to do.
    fn next_action(&mut self) -> Option<Action>;
    /// What an operator sees.
    fn status(&self, now: Instant) -> Vec<RouterStatus>;
    /// Packets that are for none of the routers, by reason.
    fn counters(&self) -> BTreeMap<&'static str, u64>;
}

impl Machine for Routers {
    fn handle(&mut self, input: Input<'_>, now: Instant) {
        Self::handle(self, input, now);
    }

    fn expire(&mut self, now: Instant) {
        Self::expire(self, now);
    }

    fn next_deadline(&self) -> Option<Instant> {
        Self::next_deadline(self)
    }

    fn next_action(&mut self) -> Option<Action> {
        Self::next_action(self)
    }

    fn status(&self, now: Instant) -> Vec<RouterStatus> {
        Self::status(self, now)
    }

    fn counters(&self) -> BTreeMap<&'static str, u64> {
        Self::counters(self)
    }
}
