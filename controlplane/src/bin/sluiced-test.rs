//! `sluiced` with test hooks, see [`controlplane::test_hooks`]; under a name of its own, so that no
//! release has it by mistake.

use std::process::ExitCode;

fn main() -> ExitCode {
    controlplane::daemon::main()
}
