//! The FTP helper: what IPVS does by `ip_vs_ftp` (behaviour notes 6; RFC 959, 1123 4.1.2.12, 2428).
//!
//! A NAT service on port 21 serves FTP. The worker that owns a control connection reads both its
//! directions: a client that asks for active mode ([`command`]) or a server that answers a request
//! for passive mode ([`reply`]) announces a data connection, which is then expected
//! ([`crate::expected`]). A server's answer 227 names the server's own address; the client must
//! see the VIP there, and as the two rarely have the same number of digits, sequence numbers
//! shift from there on ([`shift`]).
//!
//! Invariants: nobody but the two ends of the control connection can become an end of a data
//! connection; a passive answer counts only if the client asked for one; a privileged port never
//! does. Everything is bounded: no line is remembered beyond [`command::LONGEST`] bytes. An answer
//! may be split over segments anywhere; bytes that come out of order are dropped and come again.

pub mod command;
pub mod control;
pub mod reply;
pub mod shift;

pub use control::{Announced, Control, Refused};

/// The port FTP servers listen on.
pub const CONTROL_PORT: u16 = 21;
/// The port a server opens data connections from in active mode.
pub const DATA_PORT: u16 = 20;
/// Ports below it are never a data connection's: FTP must not be a way to other services (RFC 2577).
pub const LOWEST_DATA_PORT: u16 = 1024;
