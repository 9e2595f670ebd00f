//! The command line of `sluiced`.

use crate::config::DEFAULT_PATH;
use clap::Parser;
use std::path::PathBuf;

/// A test build says so.
const VERSION: &str = if cfg!(feature = "test-hooks") {
    concat!(
        env!("CARGO_PKG_VERSION"),
        " (test build, not for production)"
    )
} else {
    env!("CARGO_PKG_VERSION")
};

/// Layer-4 load balancer: runs in the foreground, logs to standard error.
#[derive(Clone, Debug, Parser)]
#[command(name = "sluiced", version = VERSION, about, long_about = None)]
#[command(
    after_help = "Exit status: 0 clean stop, 2 bad configuration or usage, 1 other failure.\n\
    Signals: HUP reload, TERM and INT stop, USR1 write the state to the log."
)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a switch of the command line"
)]
pub(super) struct Arguments {
    /// The configuration file.
    #[arg(long, value_name = "FILE", default_value = DEFAULT_PATH)]
    pub(super) config: PathBuf,
    /// Override a key of the file: 'SECTION.KEY=VALUE', as in 'virtual_server web.scheduler=rr'.
    #[arg(long, value_name = "SECTION.KEY=VALUE")]
    pub(super) set: Vec<String>,
    /// Check the configuration, say what is wrong with it, and exit.
    #[arg(long)]
    pub(super) check: bool,
    /// With --check: look at CPUs, hugepages and devices too.
    #[arg(long, requires = "check")]
    pub(super) hardware: bool,
    /// Print every effective value and where it came from, and exit.
    #[arg(long)]
    pub(super) dump_config: bool,
    /// Move the addresses of a netdev beneath a port to the port's own interface.
    #[arg(long)]
    pub(super) take_over: bool,
}
