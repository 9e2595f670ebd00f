//! The JSON documents of the admin API, version 1.
//!
//! Names are snake case and stable: fields may be added under `/v1`, never renamed or given
//! another unit. Readers ignore fields they do not know and take defaults for those they miss,
//! so that the tool and the daemon may differ by a release. Durations say their unit in their
//! name, times are Unix seconds, counters run from the start of the process.
//!
//! | request | answer |
//! |---|---|
//! | `GET /v1/status` | [`Status`] |
//! | `GET /v1/services` | [`Services`] |
//! | `GET /v1/stats` | [`Stats`] |
//! | `GET /v1/connections?FILTER` | [`Connections`] |
//! | `POST /v1/connections/delete` with a [`ConnectionFilter`] | [`Deleted`] |
//! | `GET /v1/ipvs` | [`IpvsTables`] |
//! | `POST /v1/ipvs` with an [`IpvsBatch`] | [`IpvsOutcomes`] |
//! | `GET /v1/vrrp` | [`Vrrp`] |
//! | `POST /v1/vrrp/release` with a [`ReleaseRequest`] | [`Done`] |
//! | `POST /v1/maintenance` with a [`MaintenanceRequest`] | [`Done`] |
//! | `POST /v1/reload` with a [`ReloadRequest`] or nothing | [`ReloadReport`]; 409 when refused |
//!
//! Every other answer is an [`ErrorBody`] with a 4xx or 5xx status.

mod connections;
mod filter;
mod ipvs;
mod reload;
mod services;
mod stats;
mod status;
mod vrrp;

pub use connections::{Connection, Connections, Deleted};
pub use filter::{ConnectionFilter, Endpoint, FilterError, RealSelector};
pub use ipvs::{
    IpvsBatch, IpvsCommand, IpvsForward, IpvsKey, IpvsOutcomes, IpvsQuery, IpvsRates, IpvsRefusal,
    IpvsServer, IpvsServerKey, IpvsServerSettings, IpvsService, IpvsSettings, IpvsTables,
    IpvsTimeouts, IpvsTunnel, Netmask, Owner, TunnelChecksum, TunnelType,
};
pub use reload::{ReloadReport, ReloadRequest};
pub use services::{Counters, Forward, Protocol, RealServer, RealState, Service, Services};
pub use stats::{Rates, Stats, StatsSet, WorkerStats};
pub use status::Defence;
pub use status::{
    LastReload, LateWorker, Mempool, Occupancy, Port, Status, Steering, SteeringWay, Table, Worker,
    WorkerState,
};
pub use vrrp::{
    ActiveRouter, Done, LastTransition, Mail, MaintenanceRequest, ReleaseRequest, VirtualRouter,
    Vrrp,
};

use serde::{Deserialize, Serialize};

/// Where the API's version 1 begins.
pub const PREFIX: &str = "/v1";

/// The answer to a request that could not be done.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct ErrorBody {
    /// One sentence for a person, without a full stop.
    pub error: String,
}
