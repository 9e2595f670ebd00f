//! What happens to the virtual routers of a box.

use crate::settings::{Name, Settings, Tracked};
use ipnet::IpNet;
use std::net::IpAddr;

/// One thing that happened. [`Routers::handle`](crate::Routers::handle) takes it with the time it happened.
#[derive(Clone, Debug)]
pub enum Input<'a> {
    /// A packet of protocol 112.
    Packet(Packet<'a>),
    /// An interface as it is now. Until the first of these it is taken to be absent.
    Interface(Name, Interface),
    /// Something tracked is as told now. Until the first of these it is unknown: what depends on it waits.
    Tracked(Tracked, Report),
    /// Whether the kernel takes an address that an Active router wants; told when it has not for some time, and when it
    /// would again. Meanwhile the routers that have this address cannot take part.
    Placeable {
        /// Name of the interface.
        interface: Name,
        /// With prefix length, as in [`Action::AddAddress`](crate::Action::AddAddress).
        address: IpNet,
        /// It would.
        possible: bool,
    },
    /// The data plane forwards for this router, see [`Action::Claim`](crate::Action::Claim).
    Claimed(Name),
    /// The operator has this router yield to its peers for once, though its priority is higher.
    Release(Name),
    /// The operator takes this box out (`true`) or lets it take part again.
    Maintenance(bool),
    /// The configuration changed. Routers that only differ in what may change keep their state.
    Reconfigure(Settings),
    /// The daemon stops: every Active router says so and lets go.
    Stop,
}

/// A packet as it came from a raw socket, without its IP header.
#[derive(Clone, Copy, Debug)]
pub struct Packet<'a> {
    /// Name of the interface it came in by.
    pub interface: &'a str,
    /// Source address.
    pub source: IpAddr,
    /// Destination: the group's address or ours.
    pub destination: IpAddr,
    /// TTL or hop limit.
    pub hop_limit: u8,
    /// The VRRP message, with what may stand behind it.
    pub message: &'a [u8],
}

/// An interface of the kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    /// The kernel's number; 0 = there is no such interface.
    pub index: u32,
    /// Administratively up and with carrier.
    pub up: bool,
    /// Its MAC; `None` = it has none, so that nothing can be announced there.
    pub mac: Option<[u8; 6]>,
    /// Its addresses, the primary one of each family first.
    pub addresses: Vec<IpNet>,
}

/// What is known of something tracked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Report {
    /// It works.
    Up,
    /// It does not.
    Down,
    /// A file holds this number; it counts times the weight.
    Value(i32),
}
