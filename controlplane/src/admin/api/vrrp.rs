//! `GET /v1/vrrp`: the virtual routers; `POST /v1/vrrp/release`, `POST /v1/maintenance`: having them yield.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::net::IpAddr;

/// All virtual routers of the box.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(default)]
pub struct Vrrp {
    /// When this was taken, Unix seconds.
    pub at: u64,
    /// The operator has taken the box out: every router yields to its peers.
    pub maintenance: bool,
    /// How often the VRRP thread ended by itself and was started again.
    pub restarts: u64,
    /// The routers, in the order of the configuration.
    pub routers: Vec<VirtualRouter>,
    /// What is counted of all of them together: packets, also those for no router, by reason; and what the thread
    /// that serves them did.
    pub counters: BTreeMap<String, u64>,
    /// Mails since the start.
    pub mail: Mail,
}

/// What became of mails.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(default)]
pub struct Mail {
    /// The server took them.
    pub sent: u64,
    /// The server refused them or could not be reached.
    pub failed: u64,
    /// Too many were waiting already.
    pub dropped: u64,
}

/// One virtual router.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(default)]
pub struct VirtualRouter {
    /// Name of its section.
    pub name: String,
    /// The group it is in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// The interface it speaks on.
    pub interface: String,
    /// Version of the protocol, 2 or 3.
    pub version: u8,
    /// Virtual router id.
    pub virtual_router_id: u8,
    /// `INIT`, `MASTER`, `BACKUP`, `FAULT` or `STOP`.
    pub state: String,
    /// Why it cannot take part, one sentence each.
    pub faults: Vec<String>,
    /// The configured priority.
    pub priority: u8,
    /// The priority it sends: trackers with weights change it.
    pub effective_priority: u8,
    /// The router that is Active, as far as known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub active: Option<ActiveRouter>,
    /// Between its own advertisements, milliseconds.
    pub advert_interval_ms: u64,
    /// Between those of the Active router, milliseconds.
    pub active_advert_interval_ms: u64,
    /// Skew time, milliseconds.
    pub skew_ms: u64,
    /// Time without advertisement after which it takes over, milliseconds.
    pub active_down_interval_ms: u64,
    /// To the next advertisement (MASTER) or the takeover (BACKUP), milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_ms: Option<u64>,
    /// Addresses it has put in place.
    pub addresses: Vec<IpAddr>,
    /// Routes it wants Linux to have at present, `PREFIX via GATEWAY`; the log tells of those that Linux refuses.
    pub routes: Vec<String>,
    /// The last change of state.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_transition: Option<LastTransition>,
    /// Its counters; every packet that was ignored is counted by reason.
    pub counters: BTreeMap<String, u64>,
}

/// Who is Active.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct ActiveRouter {
    /// Source of its advertisements.
    pub address: IpAddr,
    /// Their priority.
    pub priority: u8,
}

/// A change of state.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(default)]
pub struct LastTransition {
    /// The state it led to.
    pub to: String,
    /// Why, one sentence without a full stop.
    pub why: String,
    /// How long ago, milliseconds.
    pub ago_ms: u64,
}

/// Who is to yield once to a peer.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct ReleaseRequest {
    /// Name of a `[vrrp]` section, or `all`.
    pub router: String,
}

/// Whether the box takes part.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct MaintenanceRequest {
    /// True: out.
    pub on: bool,
}

/// What was done.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(default)]
pub struct Done {
    /// One sentence without a full stop.
    pub message: String,
}
