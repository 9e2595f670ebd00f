//! VRRP (RFC 3768, RFC 9568) for Sluice.
//!
//! The state machine arrives with the failover work; this crate exists now so that the
//! dependency arrow of the workspace (`controlplane -> vrrp`, never the other way) is fixed.
#![forbid(unsafe_code)]
