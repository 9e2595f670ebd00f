//! The Linux side of the control plane (DESIGN §6): what Linux does well stays with Linux.
//!
//! Every port has a TAP that carries its addresses, ARP/ND, routes and sockets. [`mirror`] follows
//! the kernel's tables and publishes them as a [`view::KernelView`]; [`forwarding_view`] turns one
//! into the snapshot workers read. [`addresses`], [`routes`], [`link`], [`sysctl`] and
//! [`neighbours`] ask the kernel for things; [`tap`] and [`slow_path`] carry the packets;
//! [`underlying`] and [`take_over`] keep the netdev beneath a
//! virtual device silent, [`left_behind`] remembers it over a kill.
//!
//! Invariant: everything acts on the network namespace of the process, and everything put into
//! the kernel carries [`PROTOCOL`], so that a later process recognises and removes what a killed
//! one left.

pub mod addresses;
pub mod forwarding_view;
pub mod ingress_drop;
pub mod left_behind;
pub mod link;
pub mod mirror;
pub mod neighbours;
pub mod netlink;
pub mod routes;
pub mod slow_path;
pub mod sysctl;
pub mod take_over;
pub mod tap;
pub mod underlying;
pub mod view;

mod decode;

/// Origin (`rtm_protocol`, `IFA_PROTO`) of the addresses and routes put by Sluice; `ip` shows it
/// as `proto 83` (`0x53`).
pub const PROTOCOL: u8 = 83;
