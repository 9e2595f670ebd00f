//! Sluice's control plane: the daemon `sluiced`, the operator's tool `sluice`, and what they share.
//!
//! ```text
//!   config ──► daemon ──► tables ──► dataplane (snapshots by epoch)
//!                │  └──► kernel (TAPs, netlink mirror, slow path)
//!                └──► admin ◄── cli
//! ```
//!
//! Nothing here is on the packet path; what blocks or panics here leaves forwarding untouched.

pub mod admin;
pub mod cli;
pub mod command_process;
pub mod config;
pub mod daemon;
pub mod instance;
pub mod kernel;
pub mod log_output;
pub mod mail;
pub mod readiness;
pub mod tables;
#[cfg(feature = "test-hooks")]
pub mod test_hooks;
pub mod track;
