//! Sluice's control plane.

pub mod admin;
pub mod cli;
pub mod command_process;
pub mod instance;
pub mod readiness;
