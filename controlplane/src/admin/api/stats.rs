//! `GET /v1/stats`: every counter of the workers and the slow path, and rates.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Counters by name. Names are those of the data plane and are stable.
type Named = BTreeMap<String, u64>;

/// Every counter.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(default)]
pub struct Stats {
    /// When they were read, Unix seconds.
    pub at: u64,
    /// Rates over the last seconds.
    pub rates: Rates,
    /// All workers together.
    pub total: StatsSet,
    /// Each worker.
    pub workers: Vec<WorkerStats>,
    /// The slow path: packets to and from the Linux stack.
    pub slow_path: Named,
}

/// The counters of one worker or of all.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(default)]
pub struct StatsSet {
    /// What happened, by event.
    pub events: Named,
    /// Packets dropped, by reason.
    pub drops: Named,
    /// Packets given to the Linux stack, by class.
    pub punts: Named,
}

/// The counters of one worker.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(default)]
pub struct WorkerStats {
    /// Its id.
    pub id: u32,
    /// Its counters.
    #[serde(flatten)]
    pub counters: StatsSet,
}

/// Rates, computed by the daemon.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(default)]
pub struct Rates {
    /// Over how long, seconds; 0 when there is no measurement yet.
    pub interval_seconds: f64,
    /// Frames received per second.
    pub rx_pps: f64,
    /// Frames sent per second.
    pub tx_pps: f64,
    /// Bits received per second.
    pub rx_bps: f64,
    /// Bits sent per second.
    pub tx_bps: f64,
    /// Connections created per second.
    pub cps: f64,
    /// Packets dropped per second.
    pub drop_pps: f64,
}
