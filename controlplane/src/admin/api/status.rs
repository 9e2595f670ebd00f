//! `GET /v1/status`: is the box well, and if not, which part of it.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The daemon as a whole.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(default)]
pub struct Status {
    /// Version of the daemon, as `sluiced --version` prints it.
    pub version: String,
    /// Its process id.
    pub pid: u32,
    /// `[global] router_id`.
    pub router_id: String,
    /// When it started, Unix seconds.
    pub started: u64,
    /// Seconds since then, by a clock that nobody sets.
    pub uptime_seconds: u64,
    /// The configuration file in use.
    pub config_file: String,
    /// 1 for the configuration at start, one more for each reload that was accepted.
    pub config_epoch: u64,
    /// The latest reload, accepted or not.
    pub last_reload: Option<LastReload>,
    /// `[global] idle`: `busy` or `adaptive`.
    pub idle: String,
    /// Hugepages in use, bytes; 0 when the memory is in ordinary pages.
    pub hugepage_bytes: u64,
    /// How packets find the worker that owns their connection.
    pub steering: Steering,
    /// All connection tables together.
    pub table: Table,
    /// Removed real servers kept because connections to them may still exist.
    pub tombstones: u64,
    /// The worker that keeps an old snapshot alive, if any.
    pub late_worker: Option<LateWorker>,
    /// Defences of `[ipvs]` in effect now.
    pub defences: Vec<Defence>,
    /// The operator has taken the box out (`sluice maintenance on`).
    pub maintenance: bool,
    /// Virtual routers by state, in keepalived's words.
    pub virtual_routers: BTreeMap<String, u64>,
    /// The workers, by id.
    pub workers: Vec<Worker>,
    /// The ports, in the order of the configuration.
    pub ports: Vec<Port>,
    /// The packet buffer pools.
    pub mempools: Vec<Mempool>,
    /// What an operator should look at, one sentence each.
    pub warnings: Vec<String>,
}

/// The latest reload.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(default)]
pub struct LastReload {
    /// When it ended, Unix seconds.
    pub at: u64,
    /// Whether the new configuration is in force.
    pub ok: bool,
    /// One sentence.
    pub message: String,
}

/// A defence in effect.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(default)]
pub struct Defence {
    /// Its key in `[ipvs]`.
    pub name: String,
    /// The workers for whose tables it is.
    pub workers: Vec<u32>,
}

/// How packets find the worker that owns their connection.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(default)]
pub struct Steering {
    /// By what: `rss_agrees` if all ports do, `rss` if some device's hash is used.
    pub way: SteeringWay,
    /// Packets handed from one worker to another.
    pub redirected: u64,
}

/// The ways of steering.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum SteeringWay {
    /// There is one worker: nothing to steer.
    #[default]
    SingleWorker,
    /// The device's hash brings both directions of a connection to its owner.
    RssAgrees,
    /// The device's hash spreads the packets, workers hand over what arrives at another than the
    /// owner.
    Rss,
    /// The device does not help: workers hand packets over.
    Software,
}

/// Connection tables: one, or several together.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(default)]
pub struct Occupancy {
    /// Connections now.
    pub connections: u64,
    /// The most that fit.
    pub capacity: u64,
}

/// Connection tables by family. Neither family can use the other's room.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(default)]
pub struct Table {
    /// IPv4.
    pub ipv4: Occupancy,
    /// IPv6.
    pub ipv6: Occupancy,
}

/// A worker that has not yet seen the newest snapshot.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(default)]
pub struct LateWorker {
    /// Its id.
    pub id: u32,
    /// How long a newer snapshot has been waiting for it, milliseconds.
    pub late_ms: u64,
}

/// One worker.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(default)]
pub struct Worker {
    /// Its id, from 0.
    pub id: u32,
    /// The CPU it is pinned to.
    pub cpu: u32,
    /// Whether it makes progress.
    pub state: WorkerState,
    /// Iterations of its loop.
    pub heartbeat: u64,
    /// Epoch of the services snapshot it has seen.
    pub services_epoch: u64,
    /// Epoch of the forwarding snapshot it has seen.
    pub forwarding_epoch: u64,
    /// Its connection tables.
    pub table: Table,
    /// Packets waiting for a neighbour.
    pub waiting: u64,
    /// Share of its polls that found packets over the last seconds, percent; absent until measured.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub busy_percent: Option<f64>,
    /// Packets taken from other workers.
    pub redirected_in: u64,
    /// Packets given to other workers.
    pub redirected_out: u64,
}

/// Whether a worker makes progress.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum WorkerState {
    /// Its loop turns and it has seen the newest snapshots.
    #[default]
    Running,
    /// Its loop turns, but it has not seen the newest snapshot yet.
    Late,
    /// Its loop has not turned for longer than `worker_stall`.
    Stalled,
}

/// One port.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(default)]
pub struct Port {
    /// Its name in the configuration.
    pub name: String,
    /// The DPDK devices that form it.
    pub devices: Vec<String>,
    /// DPDK's driver, such as `net_af_xdp`.
    pub driver: String,
    /// Its MAC address, `02:00:00:00:00:01`.
    pub mac: String,
    /// Largest IP packet, bytes.
    pub mtu: u32,
    /// Whether the link is up.
    pub link_up: bool,
    /// The Linux interface that stands for it, absent with `kernel_interface = none`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kernel_interface: Option<String>,
    /// Receive queues, over all its devices.
    pub rx_queues: u32,
    /// How what arrives here finds its worker. With fewer queues than workers it is redone in
    /// software, whatever the devices do.
    pub steering: SteeringWay,
    /// Frames received.
    pub rx_packets: u64,
    /// Bytes received.
    pub rx_bytes: u64,
    /// Frames sent.
    pub tx_packets: u64,
    /// Bytes sent.
    pub tx_bytes: u64,
    /// Frames the device dropped because its queue was full.
    pub rx_missed: u64,
    /// Broken frames received.
    pub rx_errors: u64,
    /// Frames the device failed to send.
    pub tx_errors: u64,
}

/// One pool of packet buffers.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(default)]
pub struct Mempool {
    /// Its name.
    pub name: String,
    /// Buffers in all.
    pub capacity: u64,
    /// Buffers not in use.
    pub available: u64,
}
