//! The command line of `sluice`.
//!
//! Every command of the contract is known by name; those this release does not do yet say so, so
//! that an operator can tell a missing feature from a slip of the finger.

use super::{Failure, not_supported};
use clap::{Parser, Subcommand, ValueEnum};
use std::ffi::OsString;
use std::path::PathBuf;

/// Asks the running sluiced and tells it what to do.
#[derive(Debug, Parser)]
#[command(
    name = "sluice",
    version,
    arg_required_else_help = true,
    after_help = "'sluice ipvsadm ...' is the kernel's tool of that name: see 'sluice ipvsadm -h'.\n\n\
                  Exit status: 0 done, 1 refused, 2 wrong usage, 3 no daemon."
)]
pub(super) struct Arguments {
    /// The daemon's admin socket; also SLUICE_SOCKET in the environment
    #[arg(
        long,
        global = true,
        value_name = "PATH",
        default_value_os_t = socket()
    )]
    pub(super) socket: PathBuf,
    /// Print the API's JSON
    #[arg(long, global = true)]
    pub(super) json: bool,
    #[command(subcommand)]
    pub(super) command: Command,
}

/// The admin socket when no option names one. Under the names of other programs there is no such
/// option, hence the variable.
pub(super) fn socket() -> PathBuf {
    std::env::var_os("SLUICE_SOCKET")
        .filter(|path| !path.is_empty())
        .map_or_else(|| "/run/sluice/admin.sock".into(), PathBuf::from)
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Is the box well: workers, ports, memory, last reload
    Status,
    /// Virtual services and real servers, as ipvsadm lists them
    Services,
    /// Counters: drops by reason first
    Stats,
    /// Connections, or `delete FILTER` to remove some
    #[command(after_help = FILTER_HELP)]
    Connections {
        /// `delete` to remove what the filter selects; then KEY=VALUE words that must all hold
        #[arg(value_name = "[delete] FILTER")]
        words: Vec<String>,
    },
    /// Load the configuration again: all of it, or nothing
    Reload {
        /// Also forget what ipvsadm changed of the file's services and servers
        #[arg(long)]
        discard_overrides: bool,
    },
    /// Virtual routers: state, timers, counters; or `release NAME` to have one yield to its peer
    Vrrp {
        /// What to do instead of showing them
        #[command(subcommand)]
        change: Option<VrrpChange>,
    },
    /// Take this box out: its virtual routers yield to their peers until it is switched off again
    Maintenance {
        /// on or off
        switch: Switch,
    },
    /// `ipvsadm` and what is none of ours.
    #[command(external_subcommand)]
    Other(Vec<OsString>),
}

#[derive(Debug, Subcommand)]
pub(super) enum VrrpChange {
    /// Have a virtual router yield to a peer once, though its priority is higher
    Release {
        /// Name of the [vrrp] section, or `all`
        name: String,
    },
}

/// A switch's two positions.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(super) enum Switch {
    On,
    Off,
}

const FILTER_HELP: &str = "\
FILTER:
  protocol=tcp            tcp, udp, sctp or ip
  client=10.0.1.100       IP, IP:PORT or [IPV6]:PORT
  vip=10.0.1.50:80        the same
  real=web/a              VS/NAME, */NAME, IP or IP:PORT
  state=ESTABLISHED       as listed
  service=web             the name of a virtual server
  limit=100               list at most this many (default 1000)";

/// Commands of the contract that this release does not do.
const NOT_YET: &[&str] = &[
    "top",
    "events",
    "restore",
    "drain",
    "undrain",
    "weight",
    "checks",
    "trace",
    "which-real",
    "capture",
    "log",
    "save",
    "config",
    "support-bundle",
    "convert",
    "genhash",
];

const COMMANDS: &[&str] = &[
    "status",
    "services",
    "stats",
    "connections",
    "reload",
    "vrrp",
    "maintenance",
    "ipvsadm",
    "help",
];

/// What to say to a command that is none of ours.
pub(super) fn other(words: &[OsString]) -> Failure {
    let name = words
        .first()
        .map(|word| word.to_string_lossy().into_owned())
        .unwrap_or_default();
    if NOT_YET.contains(&name.as_str()) {
        return not_supported(&name);
    }
    let near = COMMANDS
        .iter()
        .chain(NOT_YET)
        .map(|known| (strsim::damerau_levenshtein(&name, known), known))
        .filter(|(distance, _)| *distance <= 2)
        .min();
    let hint = match near {
        Some((_, known)) => format!("; did you mean '{known}'?"),
        None => String::new(),
    };
    Failure::Usage(format!(
        "unknown command '{name}'{hint}\n\
         Usage: sluice [--socket PATH] [--json] COMMAND\n\
         For more information, try 'sluice --help'."
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn options_may_stand_before_and_after_the_command() {
        for words in [
            ["sluice", "--json", "--socket", "/x", "status"],
            ["sluice", "status", "--socket", "/x", "--json"],
        ] {
            let arguments = Arguments::try_parse_from(words).unwrap();
            assert!(arguments.json);
            assert_eq!(arguments.socket, PathBuf::from("/x"));
        }
    }
}
