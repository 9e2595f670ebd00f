//! Benchmarks of the Sluice dataplane.
