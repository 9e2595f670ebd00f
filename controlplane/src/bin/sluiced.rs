//! `sluiced`, the daemon. All of it is in [`controlplane::daemon`].

use std::process::ExitCode;

fn main() -> ExitCode {
    controlplane::daemon::main()
}
