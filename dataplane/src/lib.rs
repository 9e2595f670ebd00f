//! The Sluice dataplane.

pub mod buffer;
pub mod dpdk;
