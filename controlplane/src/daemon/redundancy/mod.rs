//! The daemon's side of VRRP: what the virtual routers want of tables, scripts and mail, and what
//! they are told of trackers, workers and operators.
//!
//! ```text
//!   VRRP thread ─► outcomes ─► [`Redundancy`] ─► claims ─► forwarding table, workers' epoch ─► Claimed
//!        ▲                          ├─► log, scripts, mail
//!        └── Control ◄── trackers, watchdog, reload, admin API
//! ```
//! Invariant: the VRRP thread never waits for anything here; what is slow here delays claims and
//! messages, never an advertisement.

mod claims;
mod scripts;
mod settings;
mod shown;
mod slot;
mod telling;

use super::Daemon;
use super::linux::Linux;
use super::start::Error;
use crate::admin::api;
use crate::admin::backend::BackendError;
use crate::config::Config;
use crate::mail::{Alert, Mailer};
use crate::track::{Surroundings, Trackers};
use claims::Claims;
use scripts::Scripts;
pub(super) use slot::DriverSlot;
use slot::Ends;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant, SystemTime};
use tokio::sync::mpsc;
use tokio::task::block_in_place;
use tokio::time::{Interval, MissedTickBehavior, interval};
use vrrp::driver::{Control, Driver, Moment, Options, Outcome};
use vrrp::{Event, Report, Standing, Tracked, Transition};

/// Outcomes taken out of the driver's channel and not yet looked at.
const OUTCOMES: usize = 256;
/// How often it is looked whether the workers have a claim's table.
const LOOK: Duration = Duration::from_millis(1);
/// How long the VRRP thread may take to say how it is.
const STATUS_TIME: Duration = Duration::from_secs(2);
/// How long the end may take, from priority 0 to the last claim.
pub(super) const LEAVE_TIME: Duration = Duration::from_secs(6);
/// How long the daemon's end waits for scripts and mails.
const LAST_WORDS: Duration = Duration::from_secs(5);

/// Removes the addresses and interfaces of virtual routers that a process left when it was killed,
/// of whatever configuration: a peer has them. Before anything here could answer for them.
pub(super) fn remove_leftovers(config: &Config) {
    let done = vrrp::driver::remove_leftovers(&settings::settings(config));
    for result in done.unwrap_or_else(|error| vec![Err(format!("cannot look for them: {error}"))]) {
        match result {
            Ok(what) => log::info!("virtual routers: {what}"),
            Err(what) => log::warn!("virtual routers of an earlier process: {what}"),
        }
    }
}

/// All of VRRP but the thread itself.
pub(super) struct Redundancy {
    daemon: Arc<Daemon>,
    claims: Claims,
    trackers: Trackers,
    scripts: Scripts,
    mailer: Mailer,
    /// `None` = the VRRP thread does not run.
    outcomes: Option<mpsc::Receiver<Outcome>>,
    looks: Interval,
    /// By how long a worker may stall; empty without workers.
    workers: BTreeMap<Duration, Report>,
    leaving: bool,
    ends: Ends,
    /// Until then the virtual routers may still take away what an earlier configuration gave them.
    settling: Option<Instant>,
}

/// Something to do.
#[derive(Debug)]
pub(super) enum News {
    /// The virtual routers want something.
    Outcome(Outcome),
    /// The VRRP thread has ended.
    Ended,
    /// A tracker has something to tell.
    Tracked(Tracked, Report),
    /// It is time to look at claims.
    Look,
}

impl Redundancy {
    /// Without any virtual router yet; [`Self::apply`] starts those of the configuration.
    pub(super) fn new(daemon: Arc<Daemon>, config: &Config) -> Self {
        let mut looks = interval(LOOK);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self {
            claims: Claims::default(),
            trackers: Trackers::default(),
            scripts: Scripts::new(Arc::clone(&daemon.commands)),
            mailer: Mailer::start(&config.global, Arc::clone(&daemon.mail)),
            daemon,
            outcomes: None,
            looks,
            workers: BTreeMap::new(),
            leaving: false,
            ends: Ends::default(),
            settling: None,
        }
    }

    /// Makes virtual routers and trackers what the configuration says. The next forwarding table
    /// has their addresses. Nothing is done any more once they let go.
    pub(super) fn apply(&mut self, config: &Config, linux: &mut Linux) -> Result<(), Error> {
        if self.leaving {
            return Ok(());
        }
        self.mailer.reconfigure(&config.global);
        let user = scripts::user(config);
        self.scripts.apply(config, user.clone());
        self.tell_linux(config, linux);
        self.note_standings(config);
        let settings = settings::settings(config);
        match self.daemon.driver.get() {
            Some(driver) => {
                driver.send(Control::Reconfigure(settings));
                self.settling = Some(Instant::now() + LEAVE_TIME);
            }
            None if config.vrrp.is_empty() => return Ok(()),
            None => self.start(settings, !config.ports.is_empty())?,
        }
        let surroundings = Surroundings {
            commands: Arc::clone(&self.daemon.commands),
            user,
            tables: self.daemon.tables.clone(),
        };
        // A router that tracks something since now has not heard of it.
        for (tracked, report) in self.trackers.apply(config, &surroundings) {
            self.send(Control::Tracked(tracked, report));
        }
        let stalls = settings::stalls(config).into_iter();
        self.workers = stalls
            .map(|stall| {
                let report = self.workers.get(&stall).copied();
                (stall, report.unwrap_or(Report::Up))
            })
            .collect();
        self.send_workers();
        Ok(())
    }

    fn send_workers(&self) {
        for (stall, report) in &self.workers {
            self.send(Control::Tracked(Tracked::Workers(*stall), *report));
        }
    }

    fn start(&mut self, settings: vrrp::Settings, claims: bool) -> Result<(), Error> {
        let options = Options {
            claims,
            pause: PAUSE,
            ..Options::default()
        };
        let driver = Driver::start(settings, options)
            .map_err(|error| format!("cannot start VRRP: {error}"))?;
        if let Err(why) = driver.realtime() {
            log::warn!("the VRRP thread: {why}; under load it may be late");
        }
        let from = driver.outcomes();
        let (to, outcomes) = mpsc::channel(OUTCOMES);
        std::thread::Builder::new()
            .name("vrrp-outcomes".to_owned())
            .spawn(move || {
                from.iter()
                    .try_for_each(|outcome| to.blocking_send(outcome))
            })?;
        self.outcomes = Some(outcomes);
        self.daemon.driver.put(driver);
        Ok(())
    }

    /// The VRRP thread has ended, though nobody wanted that: starts it again. It removes what the
    /// last one left on the interfaces.
    fn restart(&mut self, linux: &mut Linux) -> Result<(), Error> {
        block_in_place(|| self.daemon.driver.clear());
        self.claims = Claims::default();
        self.publish(linux);
        if !self.ends.note(Instant::now()) {
            let (most, period) = (slot::MOST, slot::PERIOD.as_secs());
            return Err(format!(
                "the VRRP thread has ended more than {most} times within {period} s"
            )
            .into());
        }
        log::error!("the VRRP thread has ended by itself, please report this; it is started again");
        let loaded = Arc::clone(&self.daemon.state().loaded);
        self.daemon.state().standings.clear();
        self.note_standings(&loaded.config);
        if !loaded.config.vrrp.is_empty() {
            let claims = !loaded.config.ports.is_empty();
            self.start(settings::settings(&loaded.config), claims)?;
        }
        self.daemon.driver.count_restart();
        for (tracked, report) in self.trackers.known() {
            self.send(Control::Tracked(tracked, report));
        }
        self.send_workers();
        if self.daemon.maintenance.load(Relaxed) {
            self.send(Control::Maintenance(true));
        }
        Ok(())
    }

    /// The next thing to do. Loses nothing if it is not waited for to its end.
    pub(super) async fn next(&mut self) -> News {
        tokio::select! {
            outcome = taken(&mut self.outcomes) => outcome.map_or(News::Ended, News::Outcome),
            (tracked, report) = self.trackers.next() => News::Tracked(tracked, report),
            _ = self.looks.tick(), if self.claims.is_waiting() => News::Look,
        }
    }

    /// Does it. Fails if there is no VRRP any more.
    pub(super) fn handle(&mut self, news: News, linux: &mut Linux) -> Result<(), Error> {
        match news {
            News::Outcome(Outcome::Claim {
                router,
                addresses,
                own,
                ..
            }) => {
                self.claims.hold(router.clone(), addresses, own.as_ref());
                let ticket = self.publish(linux);
                self.claims.wait(router, ticket);
            }
            News::Outcome(Outcome::Disclaim { router, .. }) => {
                self.claims.release(&router);
                self.publish(linux);
            }
            News::Outcome(Outcome::Event { at, event }) => self.tell(&event, at),
            News::Ended => {
                self.outcomes = None;
                if !self.leaving {
                    self.restart(linux)?;
                }
            }
            News::Tracked(tracked, report) => self.send(Control::Tracked(tracked, report)),
            News::Look => {
                for router in self.claims.granted(&self.daemon.tables) {
                    self.send(Control::Claimed(router));
                }
            }
        }
        Ok(())
    }

    /// How long some worker has stalled.
    pub(super) fn watch_workers(&mut self, stalled: Duration) {
        for (router, report) in changed(&mut self.workers, stalled) {
            self.send(Control::Tracked(router, report));
        }
    }

    /// True for a while after a reload: an address that was a virtual router's and now is a port's
    /// may go once more, after it has been put there.
    pub(super) fn is_settling(&self) -> bool {
        self.settling.is_some_and(|until| Instant::now() < until)
    }

    /// Has every router let go. [`Self::has_left`] says when that is done.
    pub(super) fn leave(&mut self) {
        self.leaving = true;
        self.send(Control::Stop);
    }

    /// True from [`Self::leave`] on.
    pub(super) fn is_leaving(&self) -> bool {
        self.leaving
    }

    /// True when no router holds anything any more.
    pub(super) fn has_left(&self) -> bool {
        self.outcomes.is_none()
    }

    /// Waits for the last scripts and mails.
    pub(super) async fn finish(mut self) {
        self.scripts.finish(LAST_WORDS).await;
        self.mailer.finish(LAST_WORDS).await;
    }

    fn send(&self, control: Control) {
        if let Some(driver) = self.daemon.driver.get() {
            driver.send(control);
        }
    }

    fn publish(&self, linux: &mut Linux) -> crate::tables::Ticket {
        let loaded = Arc::clone(&self.daemon.state().loaded);
        self.tell_linux(&loaded.config, linux);
        self.daemon.tables.publish_forwarding(linux.forwarding())
    }

    fn tell_linux(&self, config: &Config, linux: &mut Linux) {
        let addresses = self.claims.virtual_addresses(settings::addresses(config));
        let macs = self.claims.macs();
        linux.set_virtual(addresses, &macs);
    }

    fn tell(&mut self, event: &Event, at: Moment) {
        telling::log(event);
        let Event::Transition(transition) = event else {
            return;
        };
        self.note_standing(transition);
        let loaded = Arc::clone(&self.daemon.state().loaded);
        self.scripts.run(transition);
        let router_id = &loaded.config.global.router_id;
        if let Some(mail) = telling::mail(router_id, transition, at.time) {
            self.mailer.send(Alert::Vrrp, mail);
        }
    }

    fn note_standing(&self, transition: &Transition) {
        if transition.group {
            return;
        }
        let mut state = self.daemon.state();
        let name = transition.name.to_string();
        if transition.to == Standing::Deleted {
            state.standings.remove(&name);
        } else {
            state.standings.insert(name, transition.to);
        }
    }

    fn note_standings(&self, config: &Config) {
        let mut state = self.daemon.state();
        let mut old = std::mem::take(&mut state.standings);
        let routers = config.vrrp.iter();
        state.standings = routers
            .map(|router| {
                let known = old.remove(&router.name);
                (router.name.clone(), known.unwrap_or(Standing::Initialize))
            })
            .collect();
    }
}

/// What is to be told of the workers, by how long they may stall, when one has stalled for that long.
fn changed(workers: &mut BTreeMap<Duration, Report>, stalled: Duration) -> Vec<(Tracked, Report)> {
    let mut told = Vec::new();
    for (stall, report) in workers {
        let now = if stalled >= *stall {
            Report::Down
        } else {
            Report::Up
        };
        if std::mem::replace(report, now) != now {
            told.push((Tracked::Workers(*stall), now));
        }
    }
    told
}

/// The next outcome; `None` when there will be none. Waits for ever if nothing runs.
async fn taken(outcomes: &mut Option<mpsc::Receiver<Outcome>>) -> Option<Outcome> {
    match outcomes {
        Some(outcomes) => outcomes.recv().await,
        None => std::future::pending().await,
    }
}

#[cfg(feature = "test-hooks")]
const PAUSE: Option<fn()> = Some(crate::test_hooks::pause_vrrp);
#[cfg(not(feature = "test-hooks"))]
const PAUSE: Option<fn()> = None;

/// What operators ask.
impl Daemon {
    pub(super) fn describe_vrrp(&self) -> Result<api::Vrrp, BackendError> {
        let mail = &self.mail;
        Ok(api::Vrrp {
            at: super::backend::unix_seconds(SystemTime::now()),
            maintenance: self.maintenance.load(Relaxed),
            restarts: self.driver.restarts(),
            routers: self.routers()?,
            counters: self.counters_of_all_routers(),
            mail: api::Mail {
                sent: mail.sent.load(Relaxed),
                failed: mail.failed.load(Relaxed),
                dropped: mail.dropped.load(Relaxed),
            },
        })
    }

    /// Packets for none of the routers have no router to be counted at.
    fn counters_of_all_routers(&self) -> BTreeMap<String, u64> {
        let Some(driver) = self.driver.get() else {
            return BTreeMap::new();
        };
        let ignored = block_in_place(|| driver.ignored(STATUS_TIME)).unwrap_or_default();
        let counters = driver.counters().by_name().into_iter().chain(ignored);
        counters
            .map(|(name, value)| (name.to_owned(), value))
            .collect()
    }

    fn routers(&self) -> Result<Vec<api::VirtualRouter>, BackendError> {
        let Some(driver) = self.driver.get() else {
            return Ok(Vec::new());
        };
        let routers = block_in_place(|| driver.status(STATUS_TIME)).ok_or_else(|| {
            BackendError::Unavailable("the VRRP thread does not answer".to_owned())
        })?;
        let now = Instant::now();
        let routers = routers.into_iter();
        Ok(routers.map(|router| shown::router(router, now)).collect())
    }

    /// Has one router, or all that are MASTER, yield once.
    pub(super) fn release_router(&self, name: &str) -> Result<api::Done, BackendError> {
        let routers = self.routers()?;
        let names: Vec<_> = routers.iter().map(|router| router.name.as_str()).collect();
        let all = name == "all" && !names.contains(&"all");
        if !all && !names.contains(&name) {
            let there = if names.is_empty() {
                "there are none".to_owned()
            } else {
                format!("there are {}", names.join(", "))
            };
            let text = format!("there is no virtual router '{name}'; {there}");
            return Err(BackendError::NotFound(text));
        }
        let chosen = routers.iter().filter(|router| all || router.name == name);
        let (masters, others): (Vec<_>, Vec<_>) =
            chosen.partition(|router| router.state == "MASTER");
        if masters.is_empty() {
            let text = match others.first() {
                Some(router) if !all => format!("{name} is not MASTER but {}", router.state),
                _ => "no virtual router is MASTER here".to_owned(),
            };
            return Err(BackendError::Refused(text));
        }
        if let Some(driver) = self.driver.get() {
            for router in &masters {
                driver.send(Control::Release(router.name.as_str().into()));
            }
        }
        let names: Vec<_> = masters.iter().map(|router| router.name.as_str()).collect();
        let message = format!("{}: yields to a peer", names.join(", "));
        log::info!("{message} (asked by the operator)");
        Ok(api::Done { message })
    }

    /// Takes the box out, or in again.
    pub(super) fn set_maintenance(&self, on: bool) -> Result<api::Done, BackendError> {
        let Some(driver) = self.driver.get() else {
            let text = "there are no virtual routers, so nobody would take over";
            return Err(BackendError::Refused(text.to_owned()));
        };
        let before = self.maintenance.swap(on, Relaxed);
        driver.send(Control::Maintenance(on));
        let word = if on { "on" } else { "off" };
        let message = if before == on {
            format!("maintenance was {word} already")
        } else {
            format!("maintenance is {word}")
        };
        log::info!("{message} (asked by the operator)");
        Ok(api::Done { message })
    }

    /// Virtual routers by state.
    pub(super) fn standings(standings: &BTreeMap<String, Standing>) -> BTreeMap<String, u64> {
        let mut counted = BTreeMap::new();
        for standing in standings.values() {
            *counted.entry(standing.word().to_owned()).or_default() += 1;
        }
        counted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_router_minds_a_stall_of_its_own_length() {
        let seconds = Duration::from_secs;
        let mut workers = BTreeMap::from([1, 20].map(|stall| (seconds(stall), Report::Up)));
        let mut told = |stalled| changed(&mut workers, stalled);
        assert_eq!(told(Duration::from_millis(999)), []);
        assert_eq!(
            told(seconds(1)),
            [(Tracked::Workers(seconds(1)), Report::Down)]
        );
        assert_eq!(told(seconds(19)), []);
        assert_eq!(
            told(seconds(20)),
            [(Tracked::Workers(seconds(20)), Report::Down)]
        );
        assert_eq!(told(seconds(0)).len(), 2);
    }
}
