//! VRRP (RFC 3768, RFC 9568) that real keepalived cannot tell from its own. Knows nothing of DPDK.
//!
//! [`Routers`] holds all virtual routers of a box and their sync groups and is sans-IO: [`Input`]s with the time they
//! happened go in, [`Action`]s come out, [`Routers::next_deadline`] says when to come again. The driver is the thin
//! edge: raw sockets, netlink and a thread.
//!
//! ```text
//!   raw sockets ─► driver ─► Input ─► Routers ─► Action ─► driver ─► raw sockets, netlink, ARP/ND
//!   netlink    ─►                        ▲                        ─► events ─► scripts, mail, log
//!   operator, trackers, data plane ──────┘
//! ```
#![forbid(unsafe_code)]

mod action;
mod admission;
mod announcing;
mod claim;
mod counters;
pub mod driver;
mod event;
mod group;
mod input;
mod leaving;
mod machine;
mod packet;
mod placing;
mod router;
mod routers;
mod routing;
mod settings;
mod status;
mod timers;
mod tracking;

pub use action::{Action, Transmission, VirtualInterface};
pub use event::{Event, Standing, Transition};
pub use input::{Input, Interface, Packet, Report};
pub use machine::CLAIM_BOUND;
pub use routers::Routers;
pub use settings::{
    AddressCheck, Announcing, Centis, Checksum, Family, GroupSettings, Initial, Name, Password,
    RouterSettings, Settings, Tracked, Version, VirtualAddress, VirtualRoute,
};
pub use status::RouterStatus;
