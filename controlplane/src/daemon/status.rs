//! `sluice status`: is the box well, and if not, which part of it.

use super::backend::unix_seconds;
use super::reloading::shortened;
use super::{Daemon, State, defence};
use crate::admin::api;
use crate::config::Config;
use dataplane::counters::Event;
use dataplane::dpdk::RssWay;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// A worker is accused only after so many looks in a row at which its loop has not turned: who looks
/// may have been held up as well, and a worker must not be accused of that.
const LOOKS: u32 = 5;
/// One look is at most so many intervals of looking long, however late it comes.
const LONGEST_LOOK: u32 = LOOKS - 1;

/// What is known of a worker's loop.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct Heartbeat {
    beat: u64,
    looked: Option<Instant>,
    /// Looks since it moved, and how long they took.
    looks: u32,
    still: Duration,
    /// As last told.
    is_stalled: bool,
}

impl Heartbeat {
    /// Looks again, `interval` after the last time if nothing was late; says whether the worker
    /// has been still for `stall` (`true`) or recovered since the last look.
    fn look(
        &mut self,
        beat: u64,
        now: Instant,
        interval: Duration,
        stall: Duration,
    ) -> Option<bool> {
        let since = self.looked.replace(now);
        if beat == self.beat {
            let passed = since.map_or(interval, |since| now.saturating_duration_since(since));
            self.still += passed.min(interval * LONGEST_LOOK);
            self.looks = self.looks.saturating_add(1);
        } else {
            self.beat = beat;
            self.looks = 0;
            self.still = Duration::ZERO;
        }
        let is_stalled = self.stalled_for() >= stall;
        let was_stalled = std::mem::replace(&mut self.is_stalled, is_stalled);
        (is_stalled != was_stalled).then_some(is_stalled)
    }

    /// How long it has been still, if that is sure.
    fn stalled_for(&self) -> Duration {
        if self.looks >= LOOKS {
            self.still
        } else {
            Duration::ZERO
        }
    }
}

impl Daemon {
    /// Everything `sluice status` shows.
    pub(super) fn describe(&self) -> api::Status {
        let published = self.tables.published();
        let ports = self.describe_ports();
        let state = self.state();
        let config = &state.loaded.config;
        let rates = self
            .rates
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        let newest = (published.services_epoch, published.forwarding_epoch);
        let workers: Vec<_> = self
            .workers
            .iter()
            .enumerate()
            .map(|(id, worker)| {
                let seen = published.seen.get(id).copied().unwrap_or_default();
                let counters = &worker.counters;
                api::Worker {
                    id: id as u32,
                    cpu: worker.cpu as u32,
                    state: worker_state(&state, id, seen == newest),
                    heartbeat: counters.heartbeat.value(),
                    services_epoch: seen.0,
                    forwarding_epoch: seen.1,
                    table: api::Table {
                        ipv4: api::Occupancy {
                            connections: counters.connections_v4.value(),
                            capacity: self.capacity.v4,
                        },
                        ipv6: api::Occupancy {
                            connections: counters.connections_v6.value(),
                            capacity: self.capacity.v6,
                        },
                    },
                    waiting: counters.waiting.value(),
                    busy_percent: rates.busy_percent(id),
                    redirected_in: counters.event(Event::RedirectedIn).value(),
                    redirected_out: counters.event(Event::RedirectedOut).value(),
                }
            })
            .collect();
        api::Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            router_id: config.global.router_id.clone(),
            started: unix_seconds(self.started_at),
            uptime_seconds: self.started.elapsed().as_secs(),
            config_file: self.options.path.display().to_string(),
            config_epoch: state.config_epoch,
            last_reload: state.last_reload.clone(),
            idle: config.global.idle.to_string(),
            hugepage_bytes: self.hugepage_bytes,
            steering: api::Steering {
                way: steering_of_all(ports.iter().map(|port| port.steering)),
                redirected: workers.iter().map(|w| w.redirected_out).sum(),
            },
            table: api::Table {
                ipv4: together(workers.iter().map(|w| w.table.ipv4)),
                ipv6: together(workers.iter().map(|w| w.table.ipv6)),
            },
            tombstones: published.tombstones as u64,
            late_worker: late_worker(&state, &published.seen, newest),
            defences: defence::in_effect(&self.defences()),
            maintenance: self.maintenance.load(Ordering::Relaxed),
            virtual_routers: Self::standings(&state.standings),
            workers,
            ports,
            mempools: self
                .mempool
                .map(|mempool| api::Mempool {
                    name: "packets".to_owned(),
                    capacity: mempool.capacity() as u64,
                    available: mempool.available() as u64,
                })
                .into_iter()
                .collect(),
            warnings: self.warnings(&state),
        }
    }

    fn describe_ports(&self) -> Vec<api::Port> {
        let links = self.state().links.clone();
        let kernel_interfaces: Vec<_> = {
            let state = self.state();
            let ports = state.loaded.config.ports.iter();
            ports.map(|port| port.kernel_interface.clone()).collect()
        };
        self.ports()
            .iter()
            .enumerate()
            .map(|(index, port)| {
                let mut described = api::Port {
                    name: port.name.clone(),
                    devices: port.device_strings.clone(),
                    driver: port.driver.clone(),
                    mac: port.mac.to_string(),
                    mtu: u32::from(port.mtu),
                    link_up: links.get(index).copied().unwrap_or(false),
                    kernel_interface: kernel_interfaces.get(index).cloned().flatten(),
                    rx_queues: u32::from(port.rx_queues),
                    steering: steering_of_port(self.workers.len(), port.rss),
                    ..api::Port::default()
                };
                for stats in port.devices.iter().filter_map(|device| device.stats().ok()) {
                    described.rx_packets += stats.rx_packets;
                    described.rx_bytes += stats.rx_bytes;
                    described.tx_packets += stats.tx_packets;
                    described.tx_bytes += stats.tx_bytes;
                    described.rx_missed += stats.rx_missed;
                    described.rx_errors += stats.rx_errors + stats.rx_no_mbuf;
                    described.tx_errors += stats.tx_errors;
                }
                described
            })
            .collect()
    }

    fn warnings(&self, state: &State) -> Vec<String> {
        let of_file = state.loaded.warnings.iter().map(ToString::to_string);
        let mut warnings = shortened(state.warnings.iter().cloned());
        warnings.extend(shortened(of_file));
        if !self.commands.is_alive() {
            warnings.push("the command process has died; restart sluiced".to_owned());
        }
        warnings
    }

    /// How long the worker has stalled that has longest; zero if all go on.
    pub(super) fn longest_stall(&self) -> Duration {
        let state = self.state();
        let heartbeats = state.heartbeats.iter();
        heartbeats
            .map(Heartbeat::stalled_for)
            .max()
            .unwrap_or_default()
    }

    /// Notes which workers move. Call a few times a second. Returns the workers that stalled or
    /// recovered since the last call.
    pub(super) fn watch_workers(&self) -> Vec<(usize, bool)> {
        let now = Instant::now();
        let (newest, seen) = self.tables.epochs();
        let mut state = self.state();
        let late = seen.iter().any(|seen| *seen != newest);
        state.late_since = match (late, state.late_since) {
            (false, _) => None,
            (true, since) => since.or(Some(now)),
        };
        let (interval, stall) = {
            let config = &state.loaded.config;
            (watch_interval(config), shortest_stall(config))
        };
        let mut changed = Vec::new();
        for (id, worker) in self.workers.iter().enumerate() {
            let beat = worker.counters.heartbeat.value();
            let heartbeat = state.heartbeats.get_mut(id);
            if let Some(stalled) =
                heartbeat.and_then(|heartbeat| heartbeat.look(beat, now, interval, stall))
            {
                changed.push((id, stalled));
            }
        }
        changed
    }
}

/// A worker that stalls that long is told, if no router minds.
const STALL: Duration = Duration::from_millis(500);

/// The shortest stall that is told: what the most sensitive router minds.
fn shortest_stall(config: &Config) -> Duration {
    let routers = config.vrrp.iter().filter(|router| router.track_workers);
    let shortest = routers.map(|router| router.worker_stall).min();
    shortest.unwrap_or(STALL)
}

/// How often [`Daemon::watch_workers`] is called for this configuration: that stall is [`LOOKS`]
/// looks long, and a long one is measured finely too.
pub(super) fn watch_interval(config: &Config) -> Duration {
    let interval = shortest_stall(config) / LOOKS;
    interval.clamp(Duration::from_millis(2), STALL / LOOKS)
}

fn steering_of_port(workers: usize, rss: RssWay) -> api::SteeringWay {
    match rss {
        _ if workers == 1 => api::SteeringWay::SingleWorker,
        RssWay::Owner => api::SteeringWay::RssAgrees,
        RssWay::Spread => api::SteeringWay::Rss,
        RssWay::Off => api::SteeringWay::Software,
    }
}

/// What holds for the box: as well as its worst port, but hardware that helps anywhere is said.
fn steering_of_all(ports: impl Iterator<Item = api::SteeringWay>) -> api::SteeringWay {
    ports
        .reduce(|one, other| match (one, other) {
            _ if one == other => one,
            _ => api::SteeringWay::Rss,
        })
        .unwrap_or_default()
}

fn together(tables: impl Iterator<Item = api::Occupancy>) -> api::Occupancy {
    tables.fold(api::Occupancy::default(), |sum, table| api::Occupancy {
        connections: sum.connections + table.connections,
        capacity: sum.capacity + table.capacity,
    })
}

fn worker_state(state: &State, id: usize, current: bool) -> api::WorkerState {
    let stalled = state
        .heartbeats
        .get(id)
        .is_some_and(|heartbeat| heartbeat.is_stalled);
    if stalled {
        api::WorkerState::Stalled
    } else if current {
        api::WorkerState::Running
    } else {
        api::WorkerState::Late
    }
}

fn late_worker(state: &State, seen: &[(u64, u64)], newest: (u64, u64)) -> Option<api::LateWorker> {
    let since = state.late_since?;
    let id = seen.iter().position(|seen| *seen != newest)?;
    Some(api::LateWorker {
        id: id as u32,
        late_ms: since.elapsed().as_millis() as u64,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::api::SteeringWay::{Rss, RssAgrees, SingleWorker, Software};

    #[test]
    fn both_directions_agree_only_if_they_do_on_every_port() {
        let of_all = |ports: &[_]| steering_of_all(ports.iter().copied());
        assert_eq!(of_all(&[RssAgrees, RssAgrees]), RssAgrees);
        assert_eq!(of_all(&[RssAgrees, Rss]), Rss);
        assert_eq!(of_all(&[Rss, Software]), Rss);
        assert_eq!(of_all(&[RssAgrees, Software]), Rss);
        assert_eq!(of_all(&[Software, Software]), Software);
        assert_eq!(of_all(&[SingleWorker, SingleWorker]), SingleWorker);
    }

    #[test]
    fn one_worker_needs_no_steering() {
        assert_eq!(steering_of_port(1, RssWay::Owner), SingleWorker);
        assert_eq!(steering_of_port(2, RssWay::Owner), RssAgrees);
        assert_eq!(steering_of_port(2, RssWay::Spread), Rss);
        assert_eq!(steering_of_port(2, RssWay::Off), Software);
    }

    #[test]
    fn the_shortest_stall_that_matters_decides_how_often_workers_are_looked_at() {
        let interval = |text: &str| {
            let directory = tempfile::tempdir().unwrap();
            let path = directory.path().join("t.ini");
            let port = "[port lan]\ndevice = net_tap0\n";
            std::fs::write(&path, format!("{port}{text}")).unwrap();
            let options = crate::config::LoadOptions::new(&path);
            let loaded = crate::config::load(&options).unwrap();
            watch_interval(&loaded.config).as_millis()
        };
        let router = |id: u8, more: &str| {
            format!(
                "[vrrp r{id}]\ninterface = lan\nvirtual_router_id = {id}\naddresses = 10.0.0.{id}\n{more}\n"
            )
        };
        assert_eq!(interval(""), 100);
        assert_eq!(interval(&router(1, "")), 100);
        let two = router(1, "worker_stall = 50ms") + &router(2, "worker_stall = 2s");
        assert_eq!(interval(&two), 10);
        assert_eq!(interval(&router(1, "worker_stall = 10ms")), 2);
        assert_eq!(interval(&router(1, "worker_stall = 60s")), 100);
        assert_eq!(
            interval(&router(1, "worker_stall = 50ms\ntrack_workers = no")),
            100
        );
    }

    #[test]
    fn a_worker_stalls_after_its_time_and_each_change_is_told_once() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let (interval, stall) = (Duration::from_millis(100), Duration::from_millis(700));
        let mut heartbeat = Heartbeat::default();
        let mut look = |beat, ms| {
            let told = heartbeat.look(beat, at(ms), interval, stall);
            (told, heartbeat.stalled_for().as_millis())
        };
        assert_eq!(look(1, 0), (None, 0));
        let told: Vec<_> = (1..=8).map(|turn| look(1, turn * 100)).collect();
        assert_eq!(told[3], (None, 0), "four looks are not enough");
        assert_eq!(told[4], (None, 500));
        assert_eq!(told[6], (Some(true), 700));
        assert_eq!(told[7], (None, 800));
        assert_eq!(look(2, 900), (Some(false), 0));
        // One look after a long pause of the looker accuses nobody.
        assert_eq!(look(2, 9_000), (None, 0));
        assert_eq!(look(3, 9_100), (None, 0));
    }
}
