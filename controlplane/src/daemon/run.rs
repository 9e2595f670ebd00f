//! The life of the daemon: signals, news from the kernel, questions of the workers, reloads.

use super::start::{Error, Running};
use super::status::WATCH_INTERVAL;
use super::{Daemon, linux, translate};
use crate::admin::api;
use crate::admin::server;
use crate::config::{self, Loaded, reload};
use crate::kernel::neighbours::PROBE_INTERVAL;
use crate::log_output;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::oneshot;
use tokio::time::{MissedTickBehavior, interval};

/// How often the workers' questions are looked at.
const ASK_INTERVAL: Duration = Duration::from_millis(2);
/// How often links are looked at.
const LINK_INTERVAL: Duration = Duration::from_millis(500);
/// How often rates are sampled.
const SAMPLE_INTERVAL: Duration = Duration::from_secs(1);
/// How long a reload waits for the workers to take the new tables.
const TAKE_TIME: Duration = Duration::from_secs(2);

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
        let config = self.daemon.state().loaded.config.clone();
        self.become_ready(&config).await;
        let (stop_admin, admin_stopped) = oneshot::channel::<()>();
        let admin = self.start_admin(admin_stopped);
        self.readiness.ready();
        self.readiness.status("forwarding");
        log::info!(
            "ready: {} port(s), {} virtual service(s), {} worker(s)",
            config.ports.len(),
            self.daemon.tables.services().services().len(),
            self.daemon.workers.len()
        );

        let mut views = self.linux.views();
        let mut asks = every(ASK_INTERVAL);
        let mut links = every(LINK_INTERVAL);
        let mut watch = every(WATCH_INTERVAL);
        let mut samples = every(SAMPLE_INTERVAL);
        let mut probes = every(PROBE_INTERVAL);
        let mut alive = every(
            self.readiness
                .watchdog_interval()
                .unwrap_or(Duration::from_hours(1)),
        );
        loop {
            tokio::select! {
                _ = self.signals.terminate.recv() => break log::info!("TERM: stopping"),
                _ = self.signals.interrupt.recv() => break log::info!("INT: stopping"),
                _ = self.signals.hangup.recv() => {
                    self.reload().await;
                }
                Some(reply) = self.reloads.recv() => {
                    let report = self.reload().await;
                    // Who asked may have hung up.
                    let _ = reply.send(report);
                }
                _ = self.signals.user.recv() => dump(&self.daemon),
                Ok(()) = views.changed() => self.follow_kernel().await,
                _ = asks.tick() => {
                    while let Some(neighbour) = self.asks.pop() {
                        self.linux.resolve(neighbour).await;
                    }
                }
                _ = links.tick() => self.follow_links().await,
                _ = watch.tick() => {
                    for (worker, stalled) in self.daemon.watch_workers() {
                        if stalled {
                            log::error!("worker {worker} stalled: its loop does not turn");
                        } else {
                            log::warn!("worker {worker} goes on");
                        }
                    }
                }
                _ = samples.tick() => self.daemon.sample(),
                _ = probes.tick() => self.linux.maintain().await,
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
        Ok(())
    }

    /// Publish, wait until the workers have it, then put the addresses (DESIGN §6).
    async fn become_ready(&mut self, config: &config::Config) {
        let problems = self.linux.apply(config).await;
        let warnings = [problems, linux::hints(config)].concat();
        for warning in &warnings {
            log::warn!("{warning}");
        }
        self.daemon.state().warnings.extend(warnings);
        self.publish_forwarding().await;
    }

    fn start_admin(
        &mut self,
        stopped: oneshot::Receiver<()>,
    ) -> Option<tokio::task::JoinHandle<()>> {
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
            let config = self.daemon.state().loaded.config.clone();
            for problem in self.linux.apply(&config).await {
                log::warn!("{problem}");
            }
        }
        self.publish_forwarding().await;
    }

    async fn publish_forwarding(&mut self) {
        let forwarding = self.linux.forwarding();
        let services = self.daemon.tables.services();
        self.linux.keep_resolved(&forwarding, &services).await;
        self.daemon.tables.publish_forwarding(forwarding);
    }

    async fn follow_links(&mut self) {
        let links: Vec<_> = {
            let ports = self.daemon.ports();
            ports
                .iter()
                .map(|port| {
                    // A device that cannot say is taken to be up.
                    let mut devices = port.devices.iter();
                    (
                        port.name.clone(),
                        devices.any(|d| d.link().map_or(true, |link| link.up)),
                    )
                })
                .collect()
        };
        let mut changed = false;
        for (index, (name, up)) in links.iter().enumerate() {
            if self.linux.set_link(index, *up).await {
                log::warn!("port {name}: link {}", if *up { "up" } else { "down" });
                changed = true;
            }
        }
        self.daemon.state().links = links.into_iter().map(|(_, up)| up).collect();
        if changed {
            self.publish_forwarding().await;
        }
    }

    /// Loads the configuration again: all of it or none of it.
    async fn reload(&mut self) -> api::ReloadReport {
        self.readiness.reloading();
        let report = self.try_reload().await;
        self.readiness.ready();
        let mut state = self.daemon.state();
        state.last_reload = Some(api::LastReload {
            at: super::backend::unix_seconds(SystemTime::now()),
            ok: report.ok,
            message: report.message.clone(),
        });
        drop(state);
        if report.ok {
            log::info!("reload: {}", report.message);
        } else {
            log::error!("reload refused: {}", report.message);
            for error in &report.errors {
                log::error!("{error}");
            }
        }
        for warning in &report.warnings {
            log::warn!("{warning}");
        }
        report
    }

    async fn try_reload(&mut self) -> api::ReloadReport {
        let options = self.daemon.options.clone();
        let config_epoch = self.daemon.state().config_epoch;
        let refused =
            |message: &str, errors: Vec<String>, warnings: Vec<String>| api::ReloadReport {
                ok: false,
                message: message.to_owned(),
                config_epoch,
                errors,
                warnings,
                changes: Vec::new(),
            };
        let loaded = match tokio::task::spawn_blocking(move || config::load(&options)).await {
            Ok(Ok(loaded)) => loaded,
            Ok(Err(diagnostics)) => {
                let errors = diagnostics.errors.iter().map(ToString::to_string).collect();
                let warnings = diagnostics
                    .warnings
                    .iter()
                    .map(ToString::to_string)
                    .collect();
                return refused(
                    "the configuration has errors; the running one stays",
                    errors,
                    warnings,
                );
            }
            Err(error) => {
                let message = format!("reading the configuration failed: {error}");
                return refused(&message, Vec::new(), Vec::new());
            }
        };
        let comparison = reload::compare(&self.daemon.state().loaded, &loaded);
        let changes = match comparison {
            Ok(changes) => changes,
            Err(needs_restart) => {
                let errors = needs_restart.iter().map(ToString::to_string).collect();
                return refused(
                    "it changes what needs a restart; the running configuration stays",
                    errors,
                    Vec::new(),
                );
            }
        };
        let problems = self.apply(&loaded).await;
        let mut message = match changes.list.len() {
            0 => "nothing changed".to_owned(),
            1 => "1 change applied".to_owned(),
            count => format!("{count} changes applied"),
        };
        if !problems.is_empty() {
            message.push_str(", but Linux refused something (see the warnings)");
        }
        let problems = [problems, linux::hints(&loaded.config)].concat();
        let mut warnings = problems.clone();
        warnings.extend(loaded.warnings.iter().map(ToString::to_string));
        let mut state = self.daemon.state();
        state.loaded = loaded;
        state.warnings = problems;
        state.config_epoch += 1;
        api::ReloadReport {
            ok: true,
            message,
            config_epoch: state.config_epoch,
            errors: Vec::new(),
            warnings,
            changes: changes.list.iter().map(ToString::to_string).collect(),
        }
    }

    /// Puts a checked configuration into force: the tables first, then the addresses.
    async fn apply(&mut self, loaded: &Loaded) -> Vec<String> {
        log_output::set(&loaded.config.global.log);
        self.daemon
            .idle
            .set(translate::idle(loaded.config.global.idle));
        let mut problems = Vec::new();
        let tables = self.daemon.tables.clone();
        let desired = translate::desired(&loaded.config);
        let published = tokio::task::spawn_blocking(move || {
            let epoch = tables.publish_services(desired)?;
            Some((epoch, tables.wait_services(epoch, TAKE_TIME)))
        })
        .await;
        match published {
            Ok(Some((_, true))) => {}
            Ok(Some((epoch, false))) => problems.push(format!(
                "not every worker has taken the new tables (epoch {epoch}) yet; see 'sluice status'"
            )),
            Ok(None) | Err(_) => problems.push("the publisher does not answer".to_owned()),
        }
        problems.extend(self.linux.apply(&loaded.config).await);
        self.publish_forwarding().await;
        problems
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
