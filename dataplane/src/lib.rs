//! The Sluice dataplane.

pub mod address;
pub mod buffer;
pub mod packet;
pub mod verdict;
