//! The typed configuration. Everything in it has been checked; later code does not check again.
//!
//! Each object carries its [`Place`] for later diagnostics; places never make two configurations differ.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

pub use super::address::{InterfaceAddress, Route, VirtualAddress};
use super::location::Place;
use super::words::{
    ClientAddress, Established, Family, Forward, Idle, NoServer, Protocol, Scheduler, Serve,
    Transit,
};

/// The whole configuration.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// `[global]`.
    pub global: GlobalConfig,
    /// `[timeouts]`.
    pub timeouts: TimeoutsConfig,
    /// `[ipvs]`.
    pub ipvs: IpvsConfig,
    /// `[port NAME]`, in file order.
    pub ports: Vec<PortConfig>,
    /// `[neighbor ADDRESS]`, in file order.
    pub neighbors: Vec<NeighborConfig>,
    /// `[virtual_server NAME]`, in file order.
    pub virtual_servers: Vec<VirtualServerConfig>,
}

/// `[global]`.
#[derive(Clone, Debug, PartialEq)]
pub struct GlobalConfig {
    /// The director's name in events and metrics.
    pub router_id: String,
    /// CPU of the control core.
    pub control_core: u16,
    /// CPUs of the workers; `None` = every CPU but the control core's.
    pub worker_cores: Option<Vec<u16>>,
    /// What an idle worker does.
    pub idle: Idle,
    /// Whether to use hugepages; `None` = if there are any.
    pub hugepages: Option<bool>,
    /// EAL memory in bytes; `None` = what the tables need.
    pub memory: Option<u64>,
    /// Connection entries of the whole box.
    pub connections: u64,
    /// Extra EAL arguments.
    pub eal_args: Vec<String>,
    /// Unicast that is neither ours nor a service.
    pub transit: Transit,
    /// Path of the admin socket.
    pub admin_socket: PathBuf,
    /// Group that may change things.
    pub admin_group: String,
    /// Group that may read things.
    pub monitor_group: String,
    /// Metrics, health, dashboard; `None` = off.
    pub http_listen: Option<SocketAddr>,
    /// Log filter.
    pub log: String,
    /// Where the section begins.
    pub place: Place,
}

/// `[timeouts]`: how long a connection stays in each state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TimeoutsConfig {
    /// ESTABLISHED (`tcp`).
    pub tcp_established: Duration,
    /// FIN_WAIT (`tcp_fin`).
    pub tcp_fin_wait: Duration,
    /// UDP.
    pub udp: Duration,
    /// NONE.
    pub tcp_none: Duration,
    /// SYN_SENT.
    pub tcp_syn_sent: Duration,
    /// SYN_RECV.
    pub tcp_syn_recv: Duration,
    /// TIME_WAIT.
    pub tcp_time_wait: Duration,
    /// CLOSE.
    pub tcp_close: Duration,
    /// CLOSE_WAIT.
    pub tcp_close_wait: Duration,
    /// LAST_ACK.
    pub tcp_last_ack: Duration,
    /// LISTEN.
    pub tcp_listen: Duration,
    /// SYNACK.
    pub tcp_synack: Duration,
}

/// `[ipvs]`: the kernel's switches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IpvsConfig {
    /// Bit 0: a SYN on a connection in TIME_WAIT or CLOSE is rescheduled; bit 1: in FIN_WAIT too, without replies.
    pub conn_reuse_mode: u8,
    /// Given explicitly it wins over `on_real_removed`; `None` = not given.
    pub expire_nodest_conn: Option<bool>,
    /// Schedule on any TCP packet, not on SYN only.
    pub sloppy_tcp: bool,
    /// A template whose server has weight 0 is not used.
    pub expire_quiescent_template: bool,
    /// Defence mode 0 to 3.
    pub drop_entry: u8,
    /// Defence mode 0 to 3.
    pub drop_packet: u8,
    /// Defence mode 0 to 3.
    pub secure_tcp: u8,
    /// Pages of free memory below which the defences act.
    pub amemthresh: u32,
    /// Schedule on any SCTP packet.
    pub sloppy_sctp: bool,
    /// Copy DF to the outer header of a tunnel.
    pub pmtu_disc: bool,
    /// Answer replies without connection with ICMP.
    pub nat_icmp_send: bool,
    /// ICMP errors may create connections.
    pub schedule_icmp: bool,
    /// Do not balance while backup.
    pub backup_only: bool,
    /// Forward to the original destination if no cache server is left.
    pub cache_bypass: bool,
}

/// `[port NAME]`.
#[derive(Clone, Debug, PartialEq)]
pub struct PortConfig {
    /// Its name.
    pub name: String,
    /// PCI address or virtual devices, in order; several form one port, one queue each.
    pub devices: Vec<String>,
    /// Addresses of the kernel side.
    pub addresses: Vec<InterfaceAddress>,
    /// Default gateways, at most one per family.
    pub gateways: Vec<IpAddr>,
    /// Further routes.
    pub routes: Vec<Route>,
    /// Bytes of an IP packet.
    pub mtu: u16,
    /// The TAP's name; `None` = no kernel side.
    pub kernel_interface: Option<String>,
    /// Receive queues; `None` = one per worker if the device can.
    pub rx_queues: Option<u16>,
    /// Where the section begins.
    pub place: Place,
}

/// `[neighbor ADDRESS]`: a static entry.
#[derive(Clone, Debug, PartialEq)]
pub struct NeighborConfig {
    /// The neighbour.
    pub address: IpAddr,
    /// The port it is on, given or the one whose subnet contains the address.
    pub port: String,
    /// Its MAC.
    pub mac: [u8; 6],
    /// Where the section begins.
    pub place: Place,
}

/// `[virtual_server NAME]`: services that share settings and real servers.
#[derive(Clone, Debug, PartialEq)]
pub struct VirtualServerConfig {
    /// Its name.
    pub name: String,
    /// Each is one service; ranges and prefixes are expanded.
    pub addresses: Vec<SocketAddr>,
    /// Instead of addresses.
    pub fwmark: Option<u32>,
    /// Family of the firewall mark.
    pub family: Family,
    /// Transport protocol.
    pub protocol: Protocol,
    /// Scheduler.
    pub scheduler: Scheduler,
    /// `sh-fallback`, `sh-port`, `mh-fallback`, `mh-port`.
    pub scheduler_flags: Vec<String>,
    /// Forwarding method of its real servers unless they have their own.
    pub forward: Forward,
    /// A client stays on its server that long; `None` = off.
    pub persistence: Option<Duration>,
    /// Prefix length by which clients are grouped; `None` = the full address.
    pub persistence_netmask: Option<u8>,
    /// `sip`.
    pub persistence_engine: Option<String>,
    /// Every datagram is scheduled afresh.
    pub one_packet: bool,
    /// When the addresses are served.
    pub serve: Serve,
    /// Linux interface that carries the address while quorum holds.
    pub announce: Option<String>,
    /// Names of checks or shorthands.
    pub checks: Vec<String>,
    /// Weight needed to serve.
    pub quorum: u32,
    /// Around the quorum.
    pub hysteresis: u32,
    /// Takes over when the quorum is lost.
    pub sorry_server: Option<SocketAddr>,
    /// A real server that fails its checks stays with weight 0.
    pub inhibit_on_failure: bool,
    /// Established flows of a server that is down.
    pub on_real_down: Established,
    /// Established flows of a server that was removed.
    pub on_real_removed: Established,
    /// How a FullNAT server learns the client's address.
    pub client_address: ClientAddress,
    /// What a client gets when nothing can serve.
    pub no_server: NoServer,
    /// In file order: the last is the kernel's first.
    pub real_servers: Vec<RealServerConfig>,
    /// Where the section begins.
    pub place: Place,
}

/// `[real_server SERVICE/NAME]`.
#[derive(Clone, Debug, PartialEq)]
pub struct RealServerConfig {
    /// Its name within the service.
    pub name: String,
    /// Its address.
    pub address: IpAddr,
    /// Its port; `None` = the service's.
    pub port: Option<u16>,
    /// 0 to 65535; 0 takes no new connections.
    pub weight: u16,
    /// Its own forwarding method or the service's.
    pub forward: Forward,
    /// Connections below which an overloaded server is used again; 0 = three quarters of the upper one.
    pub lower_threshold: u32,
    /// Connections at which it is overloaded; 0 = never.
    pub upper_threshold: u32,
    /// Checks instead of the service's; `None` = the service's.
    pub checks: Option<Vec<String>>,
    /// Where the section begins.
    pub place: Place,
}

impl RealServerConfig {
    /// The server's socket address behind one of the service's. Direct routing and tunnels cannot change the port.
    pub fn endpoint(&self, service: SocketAddr) -> SocketAddr {
        let port = match self.forward {
            Forward::Nat | Forward::FullNat => self.port.unwrap_or(service.port()),
            Forward::Dr | Forward::Tunnel => service.port(),
        };
        SocketAddr::new(self.address, port)
    }
}
