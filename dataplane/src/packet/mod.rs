//! Packets as bytes: header codecs, the parser of the hot path, and everything that edits a frame.
//!
//! Each header has a file of its own with a `field` table of byte offsets to hold against the RFC's
//! figure. A header is taken out of the frame once, as `&[u8; N]`, so its bounds are checked once;
//! `Header::read` and `Header::write` are inverses. Nothing here allocates (except the test
//! [`builder`]), and no sequence of bytes makes anything here panic: functions that take a frame
//! together with [`Headers`] leave the frame alone if the two do not belong together.

pub mod arp;
pub mod builder;
mod bytes;
pub mod checksum;
pub mod classify;
pub mod ethernet;
pub mod fragment;
pub mod fragment6;
pub mod headers;
pub mod icmp_error;
pub mod icmpv4;
pub mod icmpv6;
pub mod ipv4;
pub mod ipv6;
pub mod piece;
pub mod plain;
pub mod quoted;
pub mod reset;
pub mod rewrite;
pub mod sctp;
pub mod segment;
pub mod sip;
pub mod tcp;
pub mod tunnel;
pub mod udp;
pub mod vlan;

pub use classify::punt_class;
pub use ethernet::MacAddress;
pub use headers::{Fragment, Headers, Offloads, Parsed, parse};
pub use plain::{Plain, Translation};
