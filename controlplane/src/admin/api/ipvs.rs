//! `GET /v1/ipvs` and `POST /v1/ipvs`: the tables in the words of `ipvsadm`, and commands on them.
//!
//! A request carries a batch of commands, which take effect together; each is refused or done by
//! itself, as the kernel would, and the answer has one outcome per command. What the file owns and
//! what commands own is listed with its owner.

use super::{Counters, Protocol};
use serde::{Deserialize, Serialize};
use std::fmt::{Display, Formatter};
use std::net::{IpAddr, Ipv4Addr};

/// What identifies a virtual service.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
pub struct IpvsKey {
    /// The mark, if the service is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fwmark: Option<u32>,
    /// The transport protocol; `ip` for a mark.
    pub protocol: Protocol,
    /// The virtual address; the unspecified one of its family for a mark.
    pub address: IpAddr,
    /// The virtual port, 0 for any.
    pub port: u16,
}

/// The settings of a virtual service. Those left out have the kernel's defaults.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(default)]
pub struct IpvsSettings {
    /// Name of the scheduler.
    pub scheduler: String,
    /// Scheduler flags: 1, 2 and 4 are `flag-1`, `flag-2` and `flag-3`.
    pub flags: u8,
    /// Seconds of persistence, 0 for none.
    pub persistence: u32,
    /// Which part of a client's address counts for persistence; all of it if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub netmask: Option<Netmask>,
    /// The persistence engine, such as `sip`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub engine: Option<String>,
    /// One-packet scheduling.
    pub one_packet: bool,
}

impl Default for IpvsSettings {
    fn default() -> Self {
        Self {
            scheduler: "wlc".to_owned(),
            flags: 0,
            persistence: 0,
            netmask: None,
            engine: None,
            one_packet: false,
        }
    }
}

/// A persistence mask: a v4 mask in full, of v6 the length of the prefix.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Netmask {
    /// Of an IPv4 service.
    V4(Ipv4Addr),
    /// Of an IPv6 service.
    V6(u8),
}

/// How packets reach a server.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum IpvsForward {
    /// Direct routing.
    #[default]
    Dr,
    /// Masquerading.
    Nat,
    /// Encapsulation.
    Tunnel,
    /// Both addresses are translated: only the file can ask for it.
    Fullnat,
    /// This box itself.
    Local,
}

/// The outer protocol of a tunnel.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum TunnelType {
    /// IP in IP.
    #[default]
    Ipip,
    /// Generic UDP encapsulation.
    Gue,
    /// GRE.
    Gre,
}

/// The checksum of a tunnel's outer header.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum TunnelChecksum {
    /// None.
    #[default]
    None,
    /// Computed.
    Full,
    /// Left to the receiver (GUE's remote checksum offload).
    Remote,
}

/// How a tunnelled server is reached.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(default)]
pub struct IpvsTunnel {
    /// Outer protocol.
    pub kind: TunnelType,
    /// UDP port of `gue`, else 0.
    pub port: u16,
    /// Outer checksum.
    pub checksum: TunnelChecksum,
}

/// The settings of a real server. Those left out have the tool's defaults.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(default)]
pub struct IpvsServerSettings {
    /// How packets reach it.
    pub forward: IpvsForward,
    /// The encapsulation, for `tunnel`.
    pub tunnel: IpvsTunnel,
    /// Weight; 0 takes no new connections.
    pub weight: u32,
    /// Upper connection threshold, 0 for none.
    pub upper_threshold: u32,
    /// Lower connection threshold.
    pub lower_threshold: u32,
}

impl Default for IpvsServerSettings {
    fn default() -> Self {
        Self {
            forward: IpvsForward::Dr,
            tunnel: IpvsTunnel::default(),
            weight: 1,
            upper_threshold: 0,
            lower_threshold: 0,
        }
    }
}

/// A real server's address and port.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
pub struct IpvsServerKey {
    /// Address.
    pub address: IpAddr,
    /// Port.
    pub port: u16,
}

/// One change of the tables.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(tag = "command", rename_all = "snake_case")]
pub enum IpvsCommand {
    /// `-A`.
    AddService {
        /// Which.
        service: IpvsKey,
        /// Its settings.
        settings: IpvsSettings,
    },
    /// `-E`: all settings are replaced.
    EditService {
        /// Which.
        service: IpvsKey,
        /// Its settings.
        settings: IpvsSettings,
    },
    /// `-D`.
    DeleteService {
        /// Which.
        service: IpvsKey,
    },
    /// `-C`.
    Clear,
    /// `-a`.
    AddServer {
        /// Of which service.
        service: IpvsKey,
        /// Which.
        server: IpvsServerKey,
        /// Its settings.
        settings: IpvsServerSettings,
    },
    /// `-e`: all settings are replaced.
    EditServer {
        /// Of which service.
        service: IpvsKey,
        /// Which.
        server: IpvsServerKey,
        /// Its settings.
        settings: IpvsServerSettings,
    },
    /// `-d`.
    DeleteServer {
        /// Of which service.
        service: IpvsKey,
        /// Which.
        server: IpvsServerKey,
    },
    /// `-Z`: counters of one service, or of all, are shown from 0 on.
    Zero {
        /// Which; all if absent.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        service: Option<IpvsKey>,
    },
    /// `--set`, seconds; 0 leaves a timeout as it is.
    SetTimeouts(IpvsTimeouts),
}

/// The timeouts of `--set`, in seconds.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(default)]
pub struct IpvsTimeouts {
    /// Established TCP.
    pub tcp: u32,
    /// TCP after a FIN.
    pub tcp_fin: u32,
    /// UDP.
    pub udp: u32,
}

/// Why a command is refused, in the kernel's terms. Displayed as `ipvsadm` says it.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(tag = "reason", content = "text", rename_all = "snake_case")]
pub enum IpvsRefusal {
    /// There is such a service.
    ServiceExists,
    /// There is no such scheduler or persistence engine.
    NoEngine,
    /// There is no such service to edit, delete, zero or list.
    NoSuchService,
    /// There is no such service to change a server of.
    ServiceNotDefined,
    /// There is such a server.
    ServerExists,
    /// There is no such server.
    NoSuchServer,
    /// The address is no server's, or the settings make no sense together.
    Invalid,
    /// A number is out of its range.
    OutOfRange,
    /// This release does not do it; the text says what.
    NotSupported(String),
}

impl Display for IpvsRefusal {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::ServiceExists => "Service already exists",
            Self::NoEngine => "Scheduler or persistence engine not found",
            Self::NoSuchService => "No such service",
            Self::ServiceNotDefined => "Service not defined",
            Self::ServerExists => "Destination already exists",
            Self::NoSuchServer => "No such destination",
            Self::Invalid => {
                "Invalid operation.  Possibly wrong module version, address not unicast, ..."
            }
            Self::OutOfRange => "Numerical result out of range",
            Self::NotSupported(text) => text,
        })
    }
}

/// What is asked of `POST /v1/ipvs`.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct IpvsBatch {
    /// In order.
    pub commands: Vec<IpvsCommand>,
}

/// The answer of `POST /v1/ipvs`.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(default)]
pub struct IpvsOutcomes {
    /// One per command: absent if it was done.
    pub refusals: Vec<Option<IpvsRefusal>>,
}

/// Who an object belongs to.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Owner {
    /// The configuration file.
    #[default]
    File,
    /// A command: a reload leaves it alone.
    Command,
}

/// Per second.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(default)]
pub struct IpvsRates {
    /// Connections.
    pub connections: u64,
    /// Packets from clients.
    pub in_packets: u64,
    /// Packets to clients.
    pub out_packets: u64,
    /// Bytes from clients.
    pub in_bytes: u64,
    /// Bytes to clients.
    pub out_bytes: u64,
}

/// What is asked of `GET /v1/ipvs`.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct IpvsQuery {
    /// Also rates, which takes a second.
    pub rates: bool,
}

/// The answer of `GET /v1/ipvs`.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(default)]
pub struct IpvsTables {
    /// Timeouts in force.
    pub timeouts: IpvsTimeouts,
    /// In the order they were added.
    pub services: Vec<IpvsService>,
}

/// A service as listed.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct IpvsService {
    /// Which.
    pub key: IpvsKey,
    /// Its settings.
    pub settings: IpvsSettings,
    /// Whose it is.
    #[serde(default)]
    pub owner: Owner,
    /// Since it was added or zeroed.
    #[serde(default)]
    pub counters: Counters,
    /// If asked for.
    #[serde(default)]
    pub rates: IpvsRates,
    /// Newest first, as the kernel's list is.
    #[serde(default)]
    pub servers: Vec<IpvsServer>,
}

/// A server as listed.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct IpvsServer {
    /// Which.
    pub key: IpvsServerKey,
    /// Its settings.
    pub settings: IpvsServerSettings,
    /// Whose it is.
    #[serde(default)]
    pub owner: Owner,
    /// Established connections.
    #[serde(default)]
    pub active: u64,
    /// Other connections.
    #[serde(default)]
    pub inactive: u64,
    /// Persistence templates.
    #[serde(default)]
    pub persistent: u64,
    /// Since it was added or zeroed.
    #[serde(default)]
    pub counters: Counters,
    /// If asked for.
    #[serde(default)]
    pub rates: IpvsRates,
}
