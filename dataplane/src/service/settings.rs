//! Settings of services and of the whole box that workers read.

use crate::defence::Defences;

/// When a service's VIP is served.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Serve {
    /// Only while the address is this box's, as IPVS does.
    WhileLocal,
    /// Always.
    Always,
}

/// What becomes of established connections whose real server is gone or down.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Orphans {
    /// Still forwarded.
    Keep,
    /// Dropped; the next SYN, or datagram, is scheduled afresh.
    Expire,
    /// The client gets a TCP reset and the connection ends; a datagram is scheduled afresh, SCTP
    /// treated as by `Expire`.
    Reset,
    /// `expire_nodest_conn = 0`: silently dropped until the timeout, SYNs included.
    Silent,
    /// `expire_nodest_conn = 1`: the connection ends at once, with its next packet, which is scheduled
    /// afresh, or when its worker comes by.
    Reschedule,
}

/// What a client gets when nothing can serve it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum NoServer {
    /// ICMP port unreachable from the VIP.
    Unreachable,
    /// Nothing.
    Drop,
}

/// Global settings of the `[ipvs]` section that workers read.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct IpvsSettings {
    /// `conn_reuse_mode` bits (spec 3.6).
    pub conn_reuse_mode: u8,
    /// `expire_nodest_conn`: also reschedules a SYN on a connection whose server has weight 0.
    pub expire_nodest_conn: bool,
    /// `expire_quiescent_template`: a template whose server has weight 0 is not used.
    pub expire_quiescent_template: bool,
    /// `sloppy_tcp`: schedule on any TCP packet.
    pub sloppy_tcp: bool,
    /// `sloppy_sctp`: schedule on any SCTP packet.
    pub sloppy_sctp: bool,
    /// `nat_icmp_send`: a packet of a NAT server that belongs to no connection is answered with ICMP
    /// port unreachable instead of being passed on.
    pub nat_icmp_send: bool,
    /// `schedule_icmp`: an ICMP error about a client's flow that has no connection makes one.
    pub schedule_icmp: bool,
    /// `cache_bypass`: what a mark brings to a service without a server goes to its destination.
    pub cache_bypass: bool,
    /// `drop_entry`, `drop_packet`, `secure_tcp`.
    pub defences: Defences,
    /// `pmtu_disc`: outer headers of tunnels take over DF.
    pub pmtu_disc: bool,
}

impl Default for IpvsSettings {
    fn default() -> Self {
        Self {
            conn_reuse_mode: 1,
            expire_nodest_conn: false,
            expire_quiescent_template: false,
            sloppy_tcp: false,
            sloppy_sctp: false,
            nat_icmp_send: false,
            schedule_icmp: false,
            cache_bypass: false,
            defences: Defences::default(),
            pmtu_disc: true,
        }
    }
}

/// What to do with unicast that is neither ours nor a service's.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Transit {
    /// Give it to the Linux stack.
    #[default]
    Kernel,
    /// Route it here.
    Fast,
    /// Drop it.
    Drop,
}
