//! `sluice status`: is the box well, and if not, which part of it.

use super::backend::unix_seconds;
use super::{Daemon, State};
use crate::admin::api;
use dataplane::counters::Event;
use std::time::{Duration, Instant};

/// A worker whose loop has not turned for this long is stalled.
pub(super) const STALL: Duration = Duration::from_millis(500);

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
                    connections: counters.connections.value(),
                    capacity: self.connections / self.workers.len().max(1) as u64,
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
                way: if self.workers.len() > 1 {
                    api::SteeringWay::Software
                } else {
                    api::SteeringWay::SingleWorker
                },
                redirected: workers.iter().map(|w| w.redirected_out).sum(),
            },
            table: api::Table {
                connections: workers.iter().map(|w| w.connections).sum(),
                capacity: self.connections,
            },
            tombstones: published.tombstones as u64,
            late_worker: late_worker(&state, &published.seen, newest),
            workers,
            ports,
            mempools: vec![api::Mempool {
                name: "packets".to_owned(),
                capacity: self.mempool.capacity() as u64,
                available: self.mempool.available() as u64,
            }],
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
        let mut warnings = state.warnings.clone();
        warnings.extend(state.loaded.warnings.iter().map(ToString::to_string));
        if !self.commands.is_alive() {
            warnings.push("the command process has died; restart sluiced".to_owned());
        }
        warnings
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
        let mut changed = Vec::new();
        for (id, worker) in self.workers.iter().enumerate() {
            let beat = worker.counters.heartbeat.value();
            let Some(last) = state.heartbeats.get_mut(id) else {
                continue;
            };
            let was_stalled = now - last.1 >= STALL;
            if beat != last.0 {
                if was_stalled {
                    changed.push((id, false));
                }
                *last = (beat, now);
            } else if was_stalled && now - last.1 < STALL + WATCH_INTERVAL {
                changed.push((id, true));
            }
        }
        changed
    }
}

/// How often [`Daemon::watch_workers`] is called.
pub(super) const WATCH_INTERVAL: Duration = Duration::from_millis(100);

fn worker_state(state: &State, id: usize, current: bool) -> api::WorkerState {
    let stalled = state
        .heartbeats
        .get(id)
        .is_some_and(|(_, moved)| moved.elapsed() >= STALL);
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
