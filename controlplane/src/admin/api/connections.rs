//! `GET /v1/connections`: entries of the connection tables, as `ipvsadm -Lcn` lists them.

use super::{ConnectionFilter, Forward, Protocol};
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;

/// The connections a filter selected.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(default)]
pub struct Connections {
    /// At most as many as the filter's limit, in no particular order.
    pub connections: Vec<Connection>,
    /// How many the filter selects, also beyond the limit.
    pub total: u64,
    /// Whether the limit left some out.
    pub truncated: bool,
}

impl Connections {
    /// Keeps what `filter` selects of `all`, up to its limit.
    pub fn select(all: impl IntoIterator<Item = Connection>, filter: &ConnectionFilter) -> Self {
        let limit = filter.effective_limit();
        let mut selected = Self::default();
        for connection in all {
            if filter.selects(&connection) {
                selected.total += 1;
                if selected.connections.len() < limit {
                    selected.connections.push(connection);
                } else {
                    selected.truncated = true;
                }
            }
        }
        selected
    }
}

/// One connection.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Connection {
    /// Its transport protocol.
    pub protocol: Protocol,
    /// The kernel's name of its state, such as `ESTABLISHED`.
    pub state: String,
    /// Whether it is a persistence template, which leads its client's connections to their server.
    #[serde(default)]
    pub template: bool,
    /// What the persistence engine knows a template by: the Call-ID.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pe_data: Option<String>,
    /// Seconds until it expires if no packet comes.
    pub expires_seconds: u64,
    /// The client.
    pub client: SocketAddr,
    /// The virtual address and port the client speaks to.
    #[serde(rename = "virtual")]
    pub vip: SocketAddr,
    /// The real server's address and port.
    pub destination: SocketAddr,
    /// Name of the service.
    pub service: String,
    /// NAME of the real server within the service.
    pub real: String,
    /// The worker whose table holds it.
    pub worker: u32,
    /// Packets counted on it.
    pub packets: u64,
    /// How its packets reach the real server.
    pub forward: Forward,
}

/// The answer to a deletion.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(default)]
pub struct Deleted {
    /// Connections removed.
    pub deleted: u64,
}
