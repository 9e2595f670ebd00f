//! Sluice's control plane.

pub mod config;
