//! The Sluice dataplane.
