//! `sluice`, the operator's tool. All of it is in [`controlplane::cli`].

use std::process::ExitCode;

fn main() -> ExitCode {
    controlplane::cli::main()
}
