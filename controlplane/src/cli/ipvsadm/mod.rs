//! `ipvsadm`, `ipvsadm-save` and `ipvsadm-restore`: the kernel's tool, word for word.
//!
//! Same options, output, exit status and error texts (behaviour notes 4), so that scripts and
//! fingers need no change. [`popt`] takes words apart, [`syntax`] and [`rules`] make a request of
//! them, [`listing`] and [`connections`] write answers: all of that is pure. [`execute`] asks the
//! daemon, which answers with the kernel's refusals.
//!
//! Exit status: 0 done; 2 wrong usage, or no daemon; 255 the daemon refuses; 1 a listing of a
//! service that does not exist.

mod address;
mod connections;
mod execute;
mod flags;
mod listing;
mod names;
mod popt;
mod rules;
mod syntax;
#[cfg(test)]
mod tests;
mod text;
mod usage;

pub(super) use execute::{Program, run};

/// What is printed to standard error before the program ends, and its exit status.
#[derive(Clone, Debug, Eq, PartialEq)]
struct Misuse {
    text: String,
    status: u8,
}

impl Misuse {
    const USAGE: u8 = 2;
    const REFUSED: u8 = 255;

    /// Wrong usage.
    fn usage(text: impl Into<String>) -> Self {
        Self {
            text: text.into(),
            status: Self::USAGE,
        }
    }

    /// No command to begin with.
    fn try_help(program: &str) -> Self {
        Self {
            text: format!("Try `{program} -h' or '{program} --help' for more information."),
            status: Self::REFUSED,
        }
    }
}
