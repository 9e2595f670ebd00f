//! Placeholder

pub mod kernel;
