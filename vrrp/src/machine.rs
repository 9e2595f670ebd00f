//! One virtual router's states and their transitions (RFC 9568 section 6.4), without any effect.
//!
//! ```text
//!                        +---------------+
//!             +--------->|               |<-------------+
//!             |          |  Initialize   |              |
//!             |   +------|  (and Fault)  |----------+   |
//!             |   |      |               |          |   |
//!             |   |      +---------------+          |   |
//!             |   |                                 |   |
//!             |   V                                 V   |
//!     +---------------+                       +---------------+
//!     |               |---------------------->|               |
//!     |    Active     |                       |    Backup     |
//!     |               |<----------------------|               |
//!     +---------------+                       +---------------+
//! ```
//!
//! States own their timers: one that is left takes its timer with it, so that no stale expiry can act. Unlike in the
//! RFC a Backup whose Active_Down_Timer fired is not Active at once: it *wants* to be ([`Wait::Over`]) until it is
//! promoted, because its sync group, maintenance or something tracked may hold it back. The owner goes the same way
//! with no wait. Fault is what keepalived calls an Initialize with a reason.

use crate::announcing::Announcer;
use crate::settings::Version;
use crate::timers::{active_down_interval, skew_time};
use std::net::IpAddr;
use std::time::{Duration, Instant};

/// What one virtual router is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// It is not known yet whether it can take part.
    Initialize,
    /// It cannot take part.
    Fault,
    /// It waits for the Active router to fall silent.
    Backup(Backup),
    /// It answers for the addresses.
    Active(Active),
    /// It has ended, with the daemon or its configuration.
    Ended,
}

/// What a Backup router knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Backup {
    /// `Active_Down_Timer`.
    pub(crate) wait: Wait,
    /// What it will say when it takes over.
    pub(crate) cause: Cause,
    /// `Active_Adver_Interval`: the own one until another is learnt (version 3).
    pub(crate) active_advert_interval: Duration,
    /// Who is Active and its priority.
    pub(crate) active: Option<(IpAddr, u8)>,
    /// From then on lower priorities are discarded (`preempt_delay`).
    pub(crate) preempt_from: Option<Instant>,
    /// It was released: lower priorities are obeyed until the router that took over goes away.
    pub(crate) yielding: bool,
}

/// The wait of a Backup router.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wait {
    /// `Active_Down_Timer` fires then.
    Until(Instant),
    /// It has fired; the router wants to be Active and is not allowed to.
    Over,
}

/// What an Active router has to do when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Active {
    /// `Adver_Timer`.
    pub(crate) advert_deadline: Instant,
    /// Before that no advertisement is sent out of turn: a flood must not make a flood.
    pub(crate) quiet_until: Instant,
    /// The data plane has been asked to forward; without an answer the addresses come then.
    pub(crate) claim_until: Option<Instant>,
    /// What the link is still to be told.
    pub(crate) announcer: Announcer,
}

/// Why a router is to be Active.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cause {
    /// It owns the addresses.
    Owner,
    /// Nobody was heard since it began to wait.
    Silence,
    /// The Active router was heard and fell silent.
    Lost(IpAddr),
    /// The Active router said that it leaves.
    Left(IpAddr),
    /// The Active router's priority is lower.
    Outranks(IpAddr, u8),
    /// Nobody took over after it was released.
    NobodyElse,
}

/// What happens to a machine.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Event {
    /// It can take part (Startup, or what failed works again).
    Startup,
    /// It cannot take part any more.
    Failure,
    /// A valid advertisement.
    Advertisement(Heard),
    /// `Active_Down_Timer` fired.
    ActiveDownTimer,
    /// `Adver_Timer` fired.
    AdverTimer,
    /// It may be Active now.
    Promote,
    /// It gives way without leaving: its group follows another member, or the box is taken out.
    Demote,
    /// The operator has it yield for once.
    Release,
    /// Its end.
    Shutdown,
}

/// A valid advertisement.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Heard {
    pub(crate) source: IpAddr,
    pub(crate) priority: u8,
    /// The sender's interval, as a duration.
    pub(crate) interval: Duration,
}

/// What the transitions depend on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Parameters {
    pub(crate) version: Version,
    /// The priority that is sent.
    pub(crate) priority: u8,
    /// Does not wait at the start.
    pub(crate) owner: bool,
    /// The own Advertisement_Interval.
    pub(crate) interval: Duration,
    pub(crate) down_timer_adverts: u8,
    pub(crate) preempt: bool,
    pub(crate) preempt_delay: Duration,
    /// The own address; settles equal priorities.
    pub(crate) source: Option<IpAddr>,
}

impl Parameters {
    /// `Active_Down_Interval` for this `Active_Adver_Interval`.
    pub(crate) fn active_down_interval(&self, active_advert_interval: Duration) -> Duration {
        active_down_interval(
            self.version,
            self.priority,
            active_advert_interval,
            self.down_timer_adverts,
        )
    }

    fn skew_time(&self, active_advert_interval: Duration) -> Duration {
        skew_time(self.version, self.priority, active_advert_interval)
    }

    /// Version 3 learns the interval of the Active router; in version 2 both have the same.
    fn learnt(&self, heard: &Heard) -> Duration {
        match self.version {
            Version::V2 => self.interval,
            Version::V3 => heard.interval,
        }
    }

    /// Whether an Active router that sends this is to be preferred to this one: equal priorities are settled by the
    /// sender's address.
    fn yields_to(&self, heard: &Heard) -> bool {
        heard.priority > self.priority
            || heard.priority == self.priority && self.source.is_some_and(|own| heard.source > own)
    }
}

/// What a transition asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reaction {
    /// Nothing.
    Nothing,
    /// It has begun to wait.
    Waits,
    /// It wants to be Active: to be answered by [`Event::Promote`] if it may.
    Wants,
    /// It is Active now.
    TookOver(Cause),
    /// An advertisement is due.
    Advertises,
    /// A router of lower priority speaks: an advertisement at once, and the link is told again where the addresses are.
    Insists(Speaker),
    /// It is not Active any more because this one speaks.
    Superseded(Speaker),
    /// It is not Active any more of its own will.
    Yields,
    /// It cannot take part; whether it was Active.
    Fails(bool),
    /// It has ended; whether it was Active.
    Ends(bool),
}

/// Who spoke and its priority, for what is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Speaker {
    pub(crate) source: IpAddr,
    pub(crate) priority: u8,
}

impl State {
    /// The state after the event, and what is to be done because of it.
    pub(crate) fn step(&mut self, event: Event, p: &Parameters, now: Instant) -> Reaction {
        let state = std::mem::replace(self, Self::Ended);
        let (state, reaction) = transition(state, event, p, now);
        *self = state;
        reaction
    }

    /// When the RFC's timer of this state fires.
    pub(crate) fn timer(&self) -> Option<Instant> {
        match self {
            Self::Initialize | Self::Fault | Self::Ended => None,
            Self::Backup(backup) => match backup.wait {
                Wait::Until(deadline) => Some(deadline),
                Wait::Over => None,
            },
            Self::Active(active) => Some(active.advert_deadline),
        }
    }

    /// The event of the timer that has fired, if one has.
    pub(crate) fn fired(&self, now: Instant) -> Option<Event> {
        let event = match self {
            Self::Initialize | Self::Fault | Self::Ended => return None,
            Self::Backup(_) => Event::ActiveDownTimer,
            Self::Active(_) => Event::AdverTimer,
        };
        self.timer()
            .is_some_and(|deadline| deadline <= now)
            .then_some(event)
    }

    pub(crate) fn is_active(&self) -> bool {
        matches!(self, Self::Active(_))
    }

    /// Wants to be Active and waits for leave.
    pub(crate) fn wants(&self) -> bool {
        matches!(
            self,
            Self::Backup(Backup {
                wait: Wait::Over,
                ..
            })
        )
    }
}

/// How long the addresses of a router that becomes Active wait for the data plane at most.
pub const CLAIM_BOUND: Duration = Duration::from_millis(200);

/// The least time between advertisements out of turn.
pub(crate) const QUIET: Duration = Duration::from_millis(10);

/// All of it. RFC 9568 section 6.4, in its order: (100) Initialize, (300) Backup, (600) Active.
fn transition(state: State, event: Event, p: &Parameters, now: Instant) -> (State, Reaction) {
    use Reaction::{Nothing, Waits};
    match (state, event) {
        // "If a Startup event is received: if the Priority = 255, ... transition to the Active state. Else set
        // Active_Adver_Interval to Advertisement_Interval, set the Active_Down_Timer to Active_Down_Interval,
        // transition to the Backup state."
        (State::Initialize, Event::Startup) if p.owner => {
            let backup = waiting(p, Wait::Over, Cause::Owner);
            (State::Backup(backup), Reaction::Wants)
        }
        (State::Initialize | State::Fault, Event::Startup) => {
            (State::Backup(wait_anew(p, now)), Waits)
        }
        (State::Initialize | State::Backup(_), Event::Failure) => {
            (State::Fault, Reaction::Fails(false))
        }
        (State::Active(_), Event::Failure) => (State::Fault, Reaction::Fails(true)),
        (state @ (State::Fault | State::Ended), Event::Failure) => (state, Nothing),

        // A router that does not take part hears nothing, and no timer of it runs.
        (
            state @ (State::Initialize | State::Fault),
            Event::Advertisement(_)
            | Event::ActiveDownTimer
            | Event::AdverTimer
            | Event::Promote
            | Event::Demote
            | Event::Release,
        ) => (state, Nothing),

        (State::Backup(backup), Event::Advertisement(heard)) => {
            (State::Backup(hear(backup, &heard, p, now)), Nothing)
        }
        // "If the Active_Down_Timer fires: send an ADVERTISEMENT ..., set the Adver_Timer to Advertisement_Interval,
        // transition to the Active state", in two steps.
        (State::Backup(backup), Event::ActiveDownTimer) => {
            let wait = Wait::Over;
            (State::Backup(Backup { wait, ..backup }), Reaction::Wants)
        }
        (State::Backup(backup), Event::Promote) => match backup.wait {
            Wait::Over => {
                let active = Active {
                    advert_deadline: now + p.interval,
                    quiet_until: now + QUIET,
                    claim_until: Some(now + CLAIM_BOUND),
                    announcer: Announcer::default(),
                };
                (State::Active(active), Reaction::TookOver(backup.cause))
            }
            Wait::Until(_) => (State::Backup(backup), Nothing),
        },
        (
            state @ State::Backup(_),
            Event::Startup | Event::AdverTimer | Event::Demote | Event::Release,
        ) => (state, Nothing),

        // "If the Adver_Timer fires: send an ADVERTISEMENT, reset the Adver_Timer to Advertisement_Interval." After a
        // pause of the whole box one is sent, not all that were missed.
        (State::Active(active), Event::AdverTimer) => {
            let next = active.advert_deadline + p.interval;
            let advert_deadline = if next > now { next } else { now + p.interval };
            let active = Active {
                advert_deadline,
                quiet_until: now + QUIET,
                ..active
            };
            (State::Active(active), Reaction::Advertises)
        }
        (State::Active(active), Event::Advertisement(heard)) => contest(active, &heard, p, now),
        (State::Active(_), Event::Demote) => (State::Backup(wait_anew(p, now)), Reaction::Yields),
        // Nobody taking over within two Active_Down_Intervals means that nobody will.
        (State::Active(_), Event::Release) => {
            let wait = Wait::Until(now + 2 * p.active_down_interval(p.interval));
            let backup = Backup {
                yielding: true,
                ..waiting(p, wait, Cause::NobodyElse)
            };
            (State::Backup(backup), Reaction::Yields)
        }
        (state @ State::Active(_), Event::Startup | Event::ActiveDownTimer | Event::Promote) => {
            (state, Nothing)
        }

        (State::Initialize | State::Fault | State::Backup(_), Event::Shutdown) => {
            (State::Ended, Reaction::Ends(false))
        }
        (State::Active(_), Event::Shutdown) => (State::Ended, Reaction::Ends(true)),
        (
            State::Ended,
            Event::Startup
            | Event::Advertisement(_)
            | Event::ActiveDownTimer
            | Event::AdverTimer
            | Event::Promote
            | Event::Demote
            | Event::Release
            | Event::Shutdown,
        ) => (State::Ended, Nothing),
    }
}

fn waiting(p: &Parameters, wait: Wait, cause: Cause) -> Backup {
    Backup {
        wait,
        cause,
        active_advert_interval: p.interval,
        active: None,
        preempt_from: None,
        yielding: false,
    }
}

fn wait_anew(p: &Parameters, now: Instant) -> Backup {
    let deadline = now + p.active_down_interval(p.interval);
    waiting(p, Wait::Until(deadline), Cause::Silence)
}

/// An advertisement in Backup. "If the Priority in the ADVERTISEMENT is 0, set the Active_Down_Timer to Skew_Time;
/// else if Preempt_Mode is False, or if the Priority in the ADVERTISEMENT is greater than or equal to the local
/// Priority, set Active_Adver_Interval, recompute Skew_Time and Active_Down_Interval, reset the Active_Down_Timer;
/// else discard the ADVERTISEMENT." keepalived's preempt_delay makes a lower priority be obeyed for some time.
fn hear(backup: Backup, heard: &Heard, p: &Parameters, now: Instant) -> Backup {
    if heard.priority == 0 {
        // What has fired already stays so: the group or the operator holds it back, not the wait.
        let wait = match backup.wait {
            Wait::Over => Wait::Over,
            Wait::Until(_) => Wait::Until(now + p.skew_time(backup.active_advert_interval)),
        };
        return Backup {
            wait,
            cause: Cause::Left(heard.source),
            active: None,
            ..backup
        };
    }
    let is_lower = heard.priority < p.priority;
    let preempt_from = if is_lower {
        backup
            .preempt_from
            .or_else(|| now.checked_add(p.preempt_delay))
    } else {
        None
    };
    let is_early = preempt_from.is_some_and(|from| now < from);
    if is_lower && p.preempt && !backup.yielding && !is_early {
        let cause = match backup.cause {
            Cause::Owner => Cause::Owner,
            Cause::Silence
            | Cause::Lost(_)
            | Cause::Left(_)
            | Cause::Outranks(..)
            | Cause::NobodyElse => Cause::Outranks(heard.source, heard.priority),
        };
        return Backup {
            cause,
            active: Some((heard.source, heard.priority)),
            preempt_from,
            ..backup
        };
    }
    let active_advert_interval = p.learnt(heard);
    Backup {
        wait: Wait::Until(now + p.active_down_interval(active_advert_interval)),
        cause: Cause::Lost(heard.source),
        active_advert_interval,
        active: Some((heard.source, heard.priority)),
        preempt_from,
        yielding: backup.yielding,
    }
}

/// An advertisement in Active. "If the Priority in the ADVERTISEMENT is 0, send an ADVERTISEMENT, reset the
/// Adver_Timer; else if the Priority in the ADVERTISEMENT is greater than the local Priority, or equal and the
/// primary address of the sender is greater than the local one, ... transition to the Backup state; else discard it"
/// and, as keepalived and RFC 9568, send an advertisement at once to assert the own state.
fn contest(active: Active, heard: &Heard, p: &Parameters, now: Instant) -> (State, Reaction) {
    let who = Speaker {
        source: heard.source,
        priority: heard.priority,
    };
    if heard.priority != 0 && p.yields_to(heard) {
        let active_advert_interval = p.learnt(heard);
        let backup = Backup {
            wait: Wait::Until(now + p.active_down_interval(active_advert_interval)),
            cause: Cause::Lost(heard.source),
            active_advert_interval,
            active: Some((heard.source, heard.priority)),
            preempt_from: None,
            yielding: false,
        };
        return (State::Backup(backup), Reaction::Superseded(who));
    }
    if now < active.quiet_until {
        return (State::Active(active), Reaction::Nothing);
    }
    let again = Active {
        advert_deadline: now + p.interval,
        quiet_until: now + QUIET,
        ..active
    };
    let reaction = if heard.priority == 0 {
        Reaction::Advertises
    } else {
        Reaction::Insists(who)
    };
    (State::Active(again), reaction)
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: [u8; 4] = [10, 0, 1, 5];
    const LOWER: [u8; 4] = [10, 0, 1, 4];
    const HIGHER: [u8; 4] = [10, 0, 1, 6];
    const SECOND: Duration = Duration::from_secs(1);

    fn parameters() -> Parameters {
        Parameters {
            version: Version::V3,
            priority: 100,
            owner: false,
            interval: SECOND,
            down_timer_adverts: 3,
            preempt: true,
            preempt_delay: Duration::ZERO,
            source: Some(OWN.into()),
        }
    }

    fn heard(source: [u8; 4], priority: u8) -> Event {
        Event::Advertisement(Heard {
            source: source.into(),
            priority,
            interval: SECOND,
        })
    }

    fn backup(now: Instant, wait: Wait) -> State {
        State::Backup(Backup {
            wait,
            ..wait_anew(&parameters(), now)
        })
    }

    fn active(now: Instant) -> State {
        State::Active(Active {
            advert_deadline: now,
            quiet_until: now,
            claim_until: None,
            announcer: Announcer::default(),
        })
    }

    /// A letter for each state, and one for what is to be done.
    fn cell(mut state: State, event: Event, now: Instant) -> String {
        let reaction = state.step(event, &parameters(), now);
        let to = match &state {
            State::Initialize => "I",
            State::Fault => "F",
            State::Backup(backup) if backup.wait == Wait::Over => "W",
            State::Backup(_) => "B",
            State::Active(_) => "A",
            State::Ended => "E",
        };
        let does = match reaction {
            Reaction::Nothing => "",
            Reaction::Waits => " waits",
            Reaction::Wants => " wants",
            Reaction::TookOver(_) => " takes over",
            Reaction::Advertises => " advertises",
            Reaction::Insists(_) => " insists",
            Reaction::Superseded(_) => " gives way",
            Reaction::Yields => " yields",
            Reaction::Fails(was_active) => [" fails", " fails as active"][usize::from(was_active)],
            Reaction::Ends(was_active) => [" ends", " ends as active"][usize::from(was_active)],
        };
        format!("{to}{does}")
    }

    #[test]
    fn every_state_answers_every_event_as_in_this_table() {
        let now = Instant::now();
        let until = Wait::Until(now + SECOND);
        // Initialize, Fault, Backup, Backup that wants, Active, Ended.
        let table: [(Event, [&str; 6]); 14] = [
            (Event::Startup, ["B waits", "B waits", "B", "W", "A", "E"]),
            (
                Event::Failure,
                [
                    "F fails",
                    "F",
                    "F fails",
                    "F fails",
                    "F fails as active",
                    "E",
                ],
            ),
            (heard(HIGHER, 0), ["I", "F", "B", "W", "A advertises", "E"]),
            (heard(HIGHER, 99), ["I", "F", "B", "W", "A insists", "E"]),
            (heard(LOWER, 100), ["I", "F", "B", "B", "A insists", "E"]),
            (heard(HIGHER, 100), ["I", "F", "B", "B", "B gives way", "E"]),
            (heard(LOWER, 101), ["I", "F", "B", "B", "B gives way", "E"]),
            (
                Event::ActiveDownTimer,
                ["I", "F", "W wants", "W wants", "A", "E"],
            ),
            (Event::AdverTimer, ["I", "F", "B", "W", "A advertises", "E"]),
            (Event::Promote, ["I", "F", "B", "A takes over", "A", "E"]),
            (Event::Demote, ["I", "F", "B", "W", "B yields", "E"]),
            (Event::Release, ["I", "F", "B", "W", "B yields", "E"]),
            (
                Event::Shutdown,
                [
                    "E ends",
                    "E ends",
                    "E ends",
                    "E ends",
                    "E ends as active",
                    "E",
                ],
            ),
            (heard(OWN, 100), ["I", "F", "B", "B", "A insists", "E"]),
        ];
        for (event, row) in table {
            let states = [
                State::Initialize,
                State::Fault,
                backup(now, until),
                backup(now, Wait::Over),
                active(now),
                State::Ended,
            ];
            for (state, expected) in states.into_iter().zip(row) {
                let shown = format!("{state:?} {event:?}");
                assert_eq!(cell(state, event, now), expected, "{shown}");
            }
        }
    }

    #[test]
    fn the_owner_wants_at_once_when_it_begins_and_waits_after_a_fault() {
        let now = Instant::now();
        let owner = Parameters {
            priority: 255,
            owner: true,
            ..parameters()
        };
        let mut state = State::Initialize;
        assert_eq!(state.step(Event::Startup, &owner, now), Reaction::Wants);
        let mut state = State::Fault;
        assert_eq!(state.step(Event::Startup, &owner, now), Reaction::Waits);
    }

    #[test]
    fn a_timer_is_left_with_its_state() {
        let now = Instant::now();
        let mut state = backup(now, Wait::Until(now));
        assert!(state.fired(now).is_some());
        state.step(Event::Failure, &parameters(), now);
        assert!(state.fired(now + 10 * SECOND).is_none());
        let mut state = active(now);
        state.step(heard(HIGHER, 200), &parameters(), now);
        assert!(matches!(
            state.fired(now + 4 * SECOND),
            Some(Event::ActiveDownTimer)
        ));
        assert!(state.fired(now + SECOND).is_none());
    }

    #[test]
    fn only_preempt_discards_lower_priorities() {
        let now = Instant::now();
        let hears = |p: Parameters, yielding| {
            let State::Backup(before) = backup(now, Wait::Until(now + SECOND)) else {
                unreachable!("made as such");
            };
            let mut state = State::Backup(Backup { yielding, ..before });
            state.step(heard(LOWER, 1), &p, now);
            state.timer() != Some(now + SECOND)
        };
        let nopreempt = Parameters {
            preempt: false,
            ..parameters()
        };
        let delayed = Parameters {
            preempt_delay: SECOND,
            ..parameters()
        };
        assert!(!hears(parameters(), false));
        assert!(hears(parameters(), true));
        assert!(hears(nopreempt, false));
        assert!(hears(delayed, false));
    }
}
