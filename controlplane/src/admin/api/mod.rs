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
//! | `POST /v1/reload` | [`ReloadReport`]; 409 when refused |
//!
//! Every other answer is an [`ErrorBody`] with a 4xx or 5xx status.

mod connections;
mod filter;
mod reload;
mod services;
mod stats;
mod status;

pub use connections::{Connection, Connections, Deleted};
pub use filter::{ConnectionFilter, Endpoint, FilterError, RealSelector};
pub use reload::ReloadReport;
pub use services::{Counters, Forward, Protocol, RealServer, RealState, Service, Services};
pub use stats::{Rates, Stats, StatsSet, WorkerStats};
pub use status::{
    LastReload, LateWorker, Mempool, Port, Status, Steering, SteeringWay, Table, Worker,
    WorkerState,
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
