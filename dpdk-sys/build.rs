//! Generates the bindings (see `src/lib.rs`).
fn main() {}
