//! The life of the daemon: signals, news from the kernel, questions of the workers, reloads.
//!
//! Invariant: what takes long (reading a configuration, building tables, waiting for workers,
//! telling the kernel of ten thousand neighbours) is done elsewhere or in steps, so that the loop
//! comes round many times a second whatever goes on.

use super::redundancy::{LEAVE_TIME, Redundancy};
use super::reloading::Reloading;
use super::start::{Error, Running};
use super::status::watch_interval;
use super::{Daemon, linux};
use crate::admin::server;
use crate::config;
use crate::kernel::neighbours::PROBE_INTERVAL;
use crate::tables::Ticket;
use dataplane::forwarding::Forwarding;
use dataplane::verdict::Neighbour;
use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval};

/// How long it may take at the start until all addresses are served.
const SERVING_TIME: Duration = Duration::from_secs(2);
/// How often the workers are asked for it.
const TAKING_INTERVAL: Duration = Duration::from_millis(1);
/// How often the workers' questions are looked at.
const ASK_INTERVAL: Duration = Duration::from_millis(2);
/// How often links are looked at.
const LINK_INTERVAL: Duration = Duration::from_millis(500);
/// How often rates are sampled.
const SAMPLE_INTERVAL: Duration = Duration::from_secs(1);

/// The signals `sluiced` answers to, caught from the start on: one that comes earlier than the
/// main loop waits for it and does not end the process half built.
pub(super) struct Signals {
    hangup: Signal,
    terminate: Signal,
    interrupt: Signal,
    user: Signal,
}

impl Signals {
    /// Catches them. Needs a runtime.
    pub(super) fn catch() -> std::io::Result<Self> {
        Ok(Self {
            hangup: signal(SignalKind::hangup())?,
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            user: signal(SignalKind::user_defined1())?,
        })
    }
}

impl Running {
    /// Serves until TERM or INT, then takes everything down.
    pub(super) fn run(mut self) -> Result<(), Error> {
        let handle = self.runtime.handle().clone();
        let served = handle.block_on(self.serve());
        let stopped = self.stop();
        served.and(stopped)
    }

    async fn serve(&mut self) -> Result<(), Error> {
        let loaded = Arc::clone(&self.daemon.state().loaded);
        let config = &loaded.config;
        self.prepare_linux(config).await;
        let mut redundancy = Redundancy::new(Arc::clone(&self.daemon), config);
        redundancy.apply(config, &mut self.linux)?;
        self.serve_addresses(config).await;
        let (stop_admin, admin_stopped) = oneshot::channel::<()>();
        let admin = self.start_admin(admin_stopped);
        self.readiness.ready();
        self.readiness.status(if config.ports.is_empty() {
            "virtual routers at work, nothing forwarded"
        } else {
            "forwarding"
        });
        log::info!(
            "ready: {} port(s), {} virtual service(s), {} worker(s), {} virtual router(s)",
            config.ports.len(),
            self.daemon.tables.services().services().len(),
            self.daemon.workers.len(),
            config.vrrp.len()
        );
        let mut watch = every(watch_interval(config));
        drop(loaded);

        let mut reloading: Option<Reloading> = None;
        let mut ways = Ways::default();
        let mut tables = self.daemon.tables.changes();
        tables.mark_changed();
        let mut views = self.linux.views();
        let mut asks = every(ASK_INTERVAL);
        let mut links = every(LINK_INTERVAL);
        let mut leaving: Option<Instant> = None;
        let mut outcome = Ok(());
        let mut samples = every(SAMPLE_INTERVAL);
        let mut probes = every(PROBE_INTERVAL);
        let mut alive = every(
            self.readiness
                .watchdog_interval()
                .unwrap_or(Duration::from_hours(1)),
        );
        // The virtual routers let go while everything still works; who asks twice is in a hurry.
        while !(leaving.is_some() && redundancy.has_left()) {
            tokio::select! {
                name = told_to_stop(&mut self.signals.terminate, &mut self.signals.interrupt) => {
                    log::info!("{name}: stopping");
                    if leaving.is_some() || redundancy.has_left() {
                        break;
                    }
                    leaving = Some(Instant::now() + LEAVE_TIME);
                    self.readiness.stopping();
                    redundancy.leave();
                }
                () = until(leaving) => {
                    log::warn!("the virtual routers have not let go in time");
                    break;
                }
                news = redundancy.next() => {
                    outcome = redundancy.handle(news, &mut self.linux);
                    if outcome.is_err() {
                        break;
                    }
                }
                // One after the other: who asks meanwhile waits for a reload of their own.
                _ = self.signals.hangup.recv(), if reloading.is_none() && leaving.is_none() => {
                    reloading = Some(self.begin_reload(false, None));
                }
                Some(request) = self.reloads.recv(), if reloading.is_none() && leaving.is_none() => {
                    reloading = Some(self.begin_reload(request.discard, Some(request.reply)));
                }
                prepared = Reloading::prepared(&mut reloading) => {
                    let reply = reloading.take().and_then(|reloading| reloading.reply);
                    let report = self.finish_reload(prepared, &mut redundancy).await;
                    watch = every(watch_interval(&self.daemon.state().loaded.config));
                    if let Some(reply) = reply {
                        // Who asked may have hung up.
                        let _ = reply.send(report);
                    }
                }
                Ok(()) = tables.changed(), if ways.search.is_none() => ways.begin(&self.daemon),
                found = found(&mut ways.search) => {
                    ways.search = None;
                    if let Some(found) = found {
                        self.linux.keep_resolved(&found);
                    }
                }
                () = std::future::ready(()), if self.linux.has_pending() => {
                    self.linux.advance().await;
                }
                _ = self.signals.user.recv() => dump(&self.daemon),
                Ok(()) = views.changed() => {
                    self.follow_kernel().await;
                    if redundancy.is_settling() {
                        self.restore_addresses().await;
                    }
                }
                _ = asks.tick() => {
                    #[cfg(feature = "test-hooks")]
                    crate::test_hooks::pause(crate::test_hooks::MAIN_LOOP);
                    while let Some(neighbour) = self.asks.pop() {
                        self.linux.resolve(neighbour).await;
                    }
                }
                _ = links.tick() => self.follow_links().await,
                _ = watch.tick() => {
                    self.daemon.watch_defences();
                    for (worker, stalled) in self.daemon.watch_workers() {
                        if stalled {
                            log::error!("worker {worker} stalled: its loop does not turn");
                        } else {
                            log::warn!("worker {worker} goes on");
                        }
                    }
                    redundancy.watch_workers(self.daemon.longest_stall());
                }
                _ = samples.tick() => self.daemon.sample(),
                _ = probes.tick() => self.linux.maintain(),
                _ = alive.tick() => self.readiness.alive(),
            }
        }
        self.readiness.stopping();
        // Whoever waits for a reload gets an answer, and the socket goes.
        self.reloads.close();
        let _ = stop_admin.send(());
        if let Some(admin) = admin {
            let _ = admin.await;
        }
        redundancy.finish().await;
        outcome
    }

    /// Gives Linux its addresses and routes, and publishes what it has told by then.
    async fn prepare_linux(&mut self, config: &config::Config) {
        let problems = self.linux.apply(config).await;
        let warnings = [problems, linux::hints(config)].concat();
        for warning in &warnings {
            log::warn!("{warning}");
        }
        self.daemon.state().warnings.extend(warnings);
        self.publish_forwarding();
    }

    /// Publishes the addresses as soon as Linux has told of all it was given, and waits for the workers to have
    /// them: who says "ready" serves. Not for ever, as an address may have been refused.
    async fn serve_addresses(&self, config: &config::Config) {
        let mut views = self.linux.views();
        let served = async {
            while self.linux.lacks_addresses(config) && views.changed().await.is_ok() {}
            let ticket = self.publish_forwarding();
            while !self.daemon.tables.is_taken(ticket) {
                tokio::time::sleep(TAKING_INTERVAL).await;
            }
        };
        if tokio::time::timeout(SERVING_TIME, served).await.is_err() {
            log::warn!("not all addresses of the configuration are served yet");
            self.publish_forwarding();
        }
    }

    fn start_admin(&mut self, stopped: oneshot::Receiver<()>) -> Option<JoinHandle<()>> {
        let socket = self.socket.take()?;
        let daemon = Arc::clone(&self.daemon);
        let groups = self.groups;
        Some(tokio::spawn(async move {
            let shutdown = async {
                // Also when the sender is gone.
                let _ = stopped.await;
            };
            if let Err(error) = server::serve(socket, groups, daemon, shutdown).await {
                log::error!("admin API: {error}");
            }
        }))
    }

    /// The kernel's tables changed. An interface of ours that was removed and made again gets back
    /// what it had.
    async fn follow_kernel(&mut self) {
        if self.linux.rebind().await {
            let loaded = Arc::clone(&self.daemon.state().loaded);
            for problem in self.linux.apply(&loaded.config).await {
                log::warn!("{problem}");
            }
        }
        self.update_links().await;
        self.publish_forwarding();
    }

    pub(super) fn publish_forwarding(&self) -> Ticket {
        let tables = &self.daemon.tables;
        tables.publish_forwarding(self.linux.forwarding())
    }

    /// Puts addresses back that virtual routers took away which do not have them any more.
    async fn restore_addresses(&mut self) {
        let loaded = Arc::clone(&self.daemon.state().loaded);
        if self.linux.lacks_addresses(&loaded.config) {
            for problem in self.linux.apply(&loaded.config).await {
                log::debug!("{problem}");
            }
        }
    }

    /// Takes over the link state of the ports; forwarding is published if one changed.
    async fn follow_links(&mut self) {
        if self.update_links().await {
            self.publish_forwarding();
        }
    }

    async fn update_links(&mut self) -> bool {
        let view = self.linux.view();
        let links: Vec<_> = {
            let ports = self.daemon.ports();
            ports
                .iter()
                .map(|port| (port.name.clone(), port.has_link(&view)))
                .collect()
        };
        let mut changed = false;
        let mut came_up = false;
        for (index, (name, up)) in links.iter().enumerate() {
            if self.linux.set_link(index, *up).await {
                log::warn!("port {name}: link {}", if *up { "up" } else { "down" });
                changed = true;
                came_up |= *up;
            }
        }
        self.daemon.state().links = links.into_iter().map(|(_, up)| up).collect();
        if came_up {
            // Linux forgot the neighbours when the carrier went.
            self.linux.maintain();
        }
        changed
    }
}

/// The search for the neighbours that lead to real servers and gateways: over a hundred thousand
/// servers and routes it takes a while, and only other servers or routes change its outcome.
#[derive(Default)]
struct Ways {
    search: Option<JoinHandle<HashSet<Neighbour>>>,
    /// What the last search looked at.
    seen: Option<(u64, Arc<Forwarding>)>,
}

impl Ways {
    /// Searches, if it can lead to something new.
    fn begin(&mut self, daemon: &Daemon) {
        let ((epoch, _), _) = daemon.tables.epochs();
        let forwarding = daemon.tables.forwarding();
        let known = self
            .seen
            .as_ref()
            .is_some_and(|(seen, searched)| *seen == epoch && searched.shares_routes(&forwarding));
        if known {
            return;
        }
        let services = daemon.tables.services();
        self.seen = Some((epoch, Arc::clone(&forwarding)));
        self.search = Some(tokio::task::spawn_blocking(move || {
            linux::ways_to_servers(&forwarding, &services)
        }));
    }
}

/// The outcome of the search under way; waits for ever if there is none.
async fn found(search: &mut Option<JoinHandle<HashSet<Neighbour>>>) -> Option<HashSet<Neighbour>> {
    match search {
        // A panic in it has been reported; the neighbours stay as they are.
        Some(search) => search.await.ok(),
        None => std::future::pending().await,
    }
}

/// The name of the next signal to stop.
async fn told_to_stop(terminate: &mut Signal, interrupt: &mut Signal) -> &'static str {
    tokio::select! {
        _ = terminate.recv() => "TERM",
        _ = interrupt.recv() => "INT",
    }
}

/// Waits until then, or for ever.
async fn until(moment: Option<Instant>) {
    match moment {
        Some(moment) => tokio::time::sleep_until(moment.into()).await,
        None => std::future::pending().await,
    }
}

fn every(period: Duration) -> tokio::time::Interval {
    let mut interval = interval(period);
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    interval
}

/// USR1: the state, for who cannot reach the admin socket.
fn dump(daemon: &Daemon) {
    match serde_json::to_string(&daemon.describe()) {
        Ok(status) => log::info!("state: {status}"),
        Err(error) => log::error!("state: {error}"),
    }
}
