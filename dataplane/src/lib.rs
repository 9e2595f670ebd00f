//! The Sluice dataplane.

pub mod address;
pub mod connection;
pub mod counters;
pub mod scheduler;
pub mod service;
pub mod verdict;
