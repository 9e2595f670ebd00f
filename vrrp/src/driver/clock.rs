//! When the thread wakes: an epoll(7) over everything that can happen, and a timer of nanosecond resolution.
//!
//! Invariant: the timer never fires before the moment it is set to; how much later is the scheduler's affair (epoll's
//! own timeout has milliseconds).

use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::event::{EventfdFlags, Timespec, eventfd};
use rustix::io::{Errno, read, write};
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, timerfd_create, timerfd_settime,
};
use std::io::Result;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::Instant;

/// Waits.
#[derive(Debug)]
pub(super) struct Clock {
    epoll: OwnedFd,
    timer: OwnedFd,
    set: Option<Instant>,
    bell: Bell,
}

/// Wakes the thread, from any other.
#[derive(Clone, Debug)]
pub(super) struct Bell(Arc<OwnedFd>);

impl Bell {
    pub(super) fn ring(&self) {
        // It can only be full of rings that are not heard yet.
        let _ = write(&*self.0, &1u64.to_ne_bytes());
    }
}

impl Clock {
    pub(super) fn new() -> Result<Self> {
        let flags = EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK;
        let bell = Bell(Arc::new(eventfd(0, flags)?));
        let flags = TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK;
        let clock = Self {
            epoll: epoll::create(CreateFlags::CLOEXEC)?,
            timer: timerfd_create(TimerfdClockId::Monotonic, flags)?,
            set: None,
            bell,
        };
        clock.listen(&clock.timer)?;
        clock.listen(&*clock.bell.0)?;
        Ok(clock)
    }

    /// What wakes it.
    pub(super) fn bell(&self) -> Bell {
        self.bell.clone()
    }

    /// Wakes when this can be read, too, until it is closed.
    pub(super) fn listen(&self, source: impl AsFd) -> Result<()> {
        epoll::add(&self.epoll, source, EventData::new_u64(0), EventFlags::IN)?;
        Ok(())
    }

    /// Sleeps until something can be read, the bell rings or the moment has come.
    pub(super) fn wait(&mut self, until: Option<Instant>) -> Result<()> {
        if until != self.set {
            self.arm(until)?;
            self.set = until;
        }
        let mut events = [const { std::mem::MaybeUninit::uninit() }; 16];
        match epoll::wait(&self.epoll, &mut events, None) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        let mut count = [0; 8];
        let _ = read(&*self.bell.0, &mut count);
        // A timer that fired stays set in name only.
        if read(&self.timer, &mut count).is_ok() {
            self.set = None;
        }
        Ok(())
    }

    fn arm(&self, until: Option<Instant>) -> Result<()> {
        const NEVER: Timespec = Timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        let value = until.map_or(NEVER, |until| {
            let left = until.saturating_duration_since(Instant::now());
            Timespec {
                tv_sec: left.as_secs().cast_signed(),
                // 0 would disarm it.
                tv_nsec: i64::from(left.subsec_nanos()).max(i64::from(left.is_zero())),
            }
        });
        let value = Itimerspec {
            it_interval: NEVER,
            it_value: value,
        };
        timerfd_settime(&self.timer, TimerfdTimerFlags::empty(), &value)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn the_timer_is_never_early() {
        let mut clock = Clock::new().unwrap();
        for microseconds in [0, 1, 500, 999, 1_000, 1_500, 10_001] {
            let until = Instant::now() + Duration::from_micros(microseconds);
            clock.wait(Some(until)).unwrap();
            assert!(Instant::now() >= until, "{microseconds} us");
        }
    }

    #[test]
    fn a_moment_that_has_passed_wakes_at_once_and_again() {
        let mut clock = Clock::new().unwrap();
        let past = Instant::now();
        clock.wait(Some(past)).unwrap();
        clock.wait(Some(past)).unwrap();
    }

    #[test]
    fn the_bell_wakes_without_any_moment() {
        let mut clock = Clock::new().unwrap();
        clock.bell().ring();
        clock.bell().ring();
        clock.wait(None).unwrap();
        let soon = Instant::now() + Duration::from_millis(2);
        clock.wait(Some(soon)).unwrap();
        assert!(Instant::now() >= soon, "both rings were heard at once");
    }
}
