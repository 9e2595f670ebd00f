//! `GET /v1/services`: virtual services and their real servers, as `ipvsadm -Ln` lists them.

use serde::{Deserialize, Serialize};
use std::fmt::{Display, Formatter};
use std::net::IpAddr;
use std::str::FromStr;

/// All virtual services.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(default)]
pub struct Services {
    /// In the order of the configuration.
    pub services: Vec<Service>,
}

/// One virtual service: one address of one `[virtual_server]` section, or a mark.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Service {
    /// The section's name; services of one section share it.
    pub name: String,
    /// The transport protocol; `ip` for a mark.
    pub protocol: Protocol,
    /// The virtual address; the unspecified one of its family for a mark.
    pub address: IpAddr,
    /// The virtual port, 0 for any.
    pub port: u16,
    /// The mark, if the service is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fwmark: Option<u32>,
    /// Name of the scheduler.
    pub scheduler: String,
    /// Flags as `ipvsadm` lists them: `persistent 300`, `ops`, `(sh-port)`; in its order.
    #[serde(default)]
    pub flags: Vec<String>,
    /// The default method for its real servers.
    pub forward: Forward,
    /// Whether clients are served here now.
    pub served: bool,
    /// Why not; empty when they are.
    #[serde(default)]
    pub why: String,
    /// Established connections.
    #[serde(default)]
    pub active: u64,
    /// Other connections.
    #[serde(default)]
    pub inactive: u64,
    /// What went through it.
    #[serde(default)]
    pub counters: Counters,
    /// Packets of new connections no real server could take.
    #[serde(default)]
    pub unserved: u64,
    /// In listing order.
    #[serde(default)]
    pub real_servers: Vec<RealServer>,
}

/// One real server of one service.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct RealServer {
    /// NAME of `[real_server VS/NAME]`.
    pub name: String,
    /// Its address.
    pub address: IpAddr,
    /// Its port.
    pub port: u16,
    /// How packets reach it.
    pub forward: Forward,
    /// The weight in force.
    pub weight: u32,
    /// The weight in the configuration.
    pub configured_weight: u32,
    /// Below this many connections an overloaded server takes new ones again; 0 for none.
    #[serde(default)]
    pub lower_threshold: u32,
    /// From this many connections on it takes no new ones; 0 for no limit.
    #[serde(default)]
    pub upper_threshold: u32,
    /// Whether the upper threshold keeps new connections away now.
    #[serde(default)]
    pub overloaded: bool,
    /// Persistence templates that lead to it.
    #[serde(default)]
    pub persistent: u64,
    /// Established connections.
    #[serde(default)]
    pub active: u64,
    /// Other connections.
    #[serde(default)]
    pub inactive: u64,
    /// Whether it may take new connections.
    #[serde(default)]
    pub state: RealState,
    /// What went through it.
    #[serde(default)]
    pub counters: Counters,
}

/// What went through a service or a real server.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(default)]
pub struct Counters {
    /// Connections created.
    pub connections: u64,
    /// Packets from clients.
    pub in_packets: u64,
    /// Packets to clients; stays 0 where replies do not pass here (dr, tunnel).
    pub out_packets: u64,
    /// IP bytes from clients.
    pub in_bytes: u64,
    /// IP bytes to clients.
    pub out_bytes: u64,
}

/// Whether a real server may take new connections.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum RealState {
    /// It may.
    #[default]
    Up,
    /// Its checks failed.
    Down,
    /// An operator keeps new connections away.
    Drained,
    /// Not configured any more; connections to it may live on.
    Removed,
}

/// How packets reach a real server.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Forward {
    /// Direct routing: only the MAC addresses change.
    #[default]
    Dr,
    /// Destination NAT; replies pass here.
    Nat,
    /// Both addresses are translated.
    Fullnat,
    /// Encapsulated.
    Tunnel,
    /// This box itself.
    Local,
}

impl Forward {
    /// The word `ipvsadm` lists.
    pub const fn lvs_name(self) -> &'static str {
        match self {
            Self::Dr => "Route",
            Self::Nat => "Masq",
            Self::Fullnat => "FullNat",
            Self::Tunnel => "Tunnel",
            Self::Local => "Local",
        }
    }
}

/// A transport protocol.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// SCTP.
    Sctp,
    /// Any: services that are marks, and their persistence templates.
    Ip,
}

impl Protocol {
    /// The word `ipvsadm` lists.
    pub const fn lvs_name(self) -> &'static str {
        match self {
            Self::Tcp => "TCP",
            Self::Udp => "UDP",
            Self::Sctp => "SCTP",
            Self::Ip => "IP",
        }
    }
}

impl Display for Protocol {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Sctp => "sctp",
            Self::Ip => "ip",
        })
    }
}

impl FromStr for Protocol {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        [Self::Tcp, Self::Udp, Self::Sctp, Self::Ip]
            .into_iter()
            .find(|protocol| text.eq_ignore_ascii_case(protocol.lvs_name()))
            .ok_or(())
    }
}
