//! The typed configuration. Everything in it has been checked; later code does not check again.
//!
//! Each object carries its [`Place`] for later diagnostics; places never make two configurations differ.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;

use super::address::{InterfaceAddress, Route};
use super::location::Place;
use super::monitoring::{BfdConfig, CheckConfig, TrackFileConfig, TrackScriptConfig};
use super::netmask::PersistenceNetmask;
use super::redundancy::{SyncConfig, VrrpConfig, VrrpGroupConfig};
use super::words::{
    ClientAddress, Established, Family, Forward, Idle, NoServer, Protocol, Scheduler, Serve,
    Transit,
};

/// The user of scripts unless another is named; the only one that need not exist.
pub const DEFAULT_SCRIPT_USER: &str = "sluice-script";

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
    /// `[vlan NAME]`, in file order.
    pub vlans: Vec<VlanConfig>,
    /// `[neighbor ADDRESS]`, in file order.
    pub neighbors: Vec<NeighborConfig>,
    /// `[mark NAME]`, tried in file order.
    pub marks: Vec<MarkConfig>,
    /// `[virtual_server NAME]`, in file order.
    pub virtual_servers: Vec<VirtualServerConfig>,
    /// `[check NAME]`.
    pub checks: Vec<CheckConfig>,
    /// `[bfd NAME]`.
    pub bfd: Vec<BfdConfig>,
    /// `[track_file NAME]`.
    pub track_files: Vec<TrackFileConfig>,
    /// `[track_script NAME]`.
    pub track_scripts: Vec<TrackScriptConfig>,
    /// `[vrrp NAME]`.
    pub vrrp: Vec<VrrpConfig>,
    /// `[vrrp_group NAME]`.
    pub vrrp_groups: Vec<VrrpGroupConfig>,
    /// `[sync]`; `None` = off.
    pub sync: Option<SyncConfig>,
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
    /// Token that opens the HTTP server off loopback.
    pub http_token_file: Option<PathBuf>,
    /// Certificate of the HTTP server.
    pub http_tls_cert: Option<PathBuf>,
    /// Its key.
    pub http_tls_key: Option<PathBuf>,
    /// Log filter.
    pub log: String,
    /// User of commands that name none.
    pub script_user: String,
    /// Whom mail goes to.
    pub notification_email: Vec<String>,
    /// Whom it comes from.
    pub notification_email_from: Option<String>,
    /// Mail server.
    pub smtp_server: Option<String>,
    /// How long it may take to answer.
    pub smtp_connect_timeout: Duration,
    /// What we call ourselves there.
    pub smtp_helo_name: Option<String>,
    /// What mail is about; `None` = everything.
    pub alerts: Option<Vec<String>>,
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
    /// SCTP NONE.
    pub sctp_none: Duration,
    /// SCTP INIT1.
    pub sctp_init1: Duration,
    /// SCTP INIT.
    pub sctp_init: Duration,
    /// SCTP C-SENT.
    pub sctp_cookie_sent: Duration,
    /// SCTP C-REPLIED.
    pub sctp_cookie_replied: Duration,
    /// SCTP C-WAIT.
    pub sctp_cookie_wait: Duration,
    /// SCTP COOKIE.
    pub sctp_cookie: Duration,
    /// SCTP C-ECHOED.
    pub sctp_cookie_echoed: Duration,
    /// SCTP ESTABLISHED.
    pub sctp_established: Duration,
    /// SCTP S-SENT.
    pub sctp_shutdown_sent: Duration,
    /// SCTP S-RECEIVED.
    pub sctp_shutdown_received: Duration,
    /// SCTP S-ACK-SENT.
    pub sctp_shutdown_ack_sent: Duration,
    /// SCTP REJECTED.
    pub sctp_rejected: Duration,
    /// SCTP CLOSED.
    pub sctp_closed: Duration,
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
    /// Pages of free room in the connection tables below which modes 1 and 2 act.
    pub amemthresh: u32,
    /// One packet of so many is dropped with `drop_packet = 3`.
    pub am_droprate: u32,
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
    /// FullNAT source addresses.
    pub local_addresses: Vec<IpAddr>,
    /// Where the section begins.
    pub place: Place,
}

/// `[vlan NAME]`.
#[derive(Clone, Debug, PartialEq)]
pub struct VlanConfig {
    /// Its name.
    pub name: String,
    /// The port it is on.
    pub port: String,
    /// VLAN id, 1 to 4094.
    pub id: u16,
    /// Addresses of the kernel side.
    pub addresses: Vec<InterfaceAddress>,
    /// Default gateways, at most one per family.
    pub gateways: Vec<IpAddr>,
    /// Further routes.
    pub routes: Vec<Route>,
    /// Bytes of an IP packet.
    pub mtu: u16,
    /// Where the section begins.
    pub place: Place,
}

/// `[mark NAME]`: what iptables MARK did for LVS.
#[derive(Clone, Debug, PartialEq)]
pub struct MarkConfig {
    /// Its name.
    pub name: String,
    /// The mark, above 0.
    pub mark: u32,
    /// Destination networks; empty = any.
    pub addresses: Vec<IpNet>,
    /// Destination ports, first and last; empty = any.
    pub ports: Vec<(u16, u16)>,
    /// `None` = any.
    pub protocol: Option<Protocol>,
    /// Source network; `None` = any.
    pub source: Option<IpNet>,
    /// `None` = that of the networks, else both.
    pub family: Option<Family>,
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
    /// By how much of their address clients are grouped.
    pub persistence_netmask: PersistenceNetmask,
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
    /// Run when quorum is gained.
    pub quorum_up: Option<String>,
    /// Run when it is lost.
    pub quorum_down: Option<String>,
    /// Takes over when the quorum is lost.
    pub sorry_server: Option<SocketAddr>,
    /// Its forwarding method; `None` = the service's.
    pub sorry_server_forward: Option<Forward>,
    /// Its real servers stay with weight 0 meanwhile.
    pub sorry_server_inhibit: bool,
    /// Real servers begin down.
    pub alpha: bool,
    /// Down commands are run at the end.
    pub omega: bool,
    /// Weight grows over that time; `None` = at once.
    pub slow_start: Option<Duration>,
    /// A flapping server is kept out that long; `None` = not.
    pub flap_hold: Option<Duration>,
    /// Learns from clients' connections that a server is down.
    pub passive: bool,
    /// Clients that may connect; empty = all.
    pub allow: Vec<IpNet>,
    /// Clients that may not.
    pub deny: Vec<IpNet>,
    /// Limit of connections.
    pub max_connections: Option<u32>,
    /// Limit of new connections.
    pub new_per_second: Option<u32>,
    /// Limit of new connections of one client.
    pub per_source_new_per_second: Option<u32>,
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
    /// In file order: the last is the kernel's first. Each is in the services it [serves](RealServerConfig::serves).
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
    /// `ipip`, `gre` or `gue`, and the port of the latter.
    pub tunnel: Option<(String, Option<u16>)>,
    /// `none`, `csum` or `remcsum`.
    pub tunnel_checksum: Option<String>,
    /// Checks instead of the service's; `None` = the service's.
    pub checks: Option<Vec<String>>,
    /// Checked instead of the address.
    pub check_address: Option<IpAddr>,
    /// Checked instead of the port.
    pub check_port: Option<u16>,
    /// Digest instead of the check's.
    pub check_digest: Option<String>,
    /// Stays with weight 0 when down; `None` = as the service says.
    pub inhibit_on_failure: Option<bool>,
    /// Run when it comes up.
    pub notify_up: Option<String>,
    /// Run when it goes down.
    pub notify_down: Option<String>,
    /// Where the section begins.
    pub place: Place,
}

impl Config {
    /// The single addresses at which a section is served, in file order: its own, or those of the marks that lead to
    /// it. A mark may cover prefixes and whole networks besides.
    pub fn vips(&self, section: &VirtualServerConfig) -> Vec<IpAddr> {
        let own = section.addresses.iter().map(SocketAddr::ip);
        let marks = self.marks.iter();
        let marks = marks.filter(|mark| section.fwmark == Some(mark.mark));
        let nets = marks.flat_map(|mark| &mark.addresses);
        let marked = nets
            .filter(|net| net.prefix_len() == net.max_prefix_len())
            .map(IpNet::addr)
            .filter(|ip| ip.is_ipv4() == (section.family == Family::Ipv4));
        let mut vips: Vec<IpAddr> = Vec::new();
        for vip in own.chain(marked) {
            if !vips.contains(&vip) {
                vips.push(vip);
            }
        }
        vips
    }
}

impl VirtualServerConfig {
    /// Where its services are: its addresses, or the unspecified one and port 0 for a mark, which has one service.
    pub fn endpoints(&self) -> Vec<SocketAddr> {
        match self.fwmark {
            None => self.addresses.clone(),
            Some(_) => vec![self.family.any()],
        }
    }
}

impl RealServerConfig {
    /// True if it takes part in the service on this address: in a list of both families a server serves its own.
    pub fn serves(&self, service: SocketAddr) -> bool {
        self.forward.reaches(self.address, service.ip())
    }

    /// The server's socket address behind one of the service's. Direct routing and tunnels cannot change the port.
    pub fn endpoint(&self, service: SocketAddr) -> SocketAddr {
        let port = match self.forward {
            Forward::Nat | Forward::FullNat => self.port.unwrap_or(service.port()),
            Forward::Dr | Forward::Tunnel => service.port(),
        };
        SocketAddr::new(self.address, port)
    }
}
