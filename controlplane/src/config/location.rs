//! Where a setting came from: a line of a file, the environment, `--set`, or the built-in default.
//!
//! Invariant: two configurations never differ merely because their settings stand elsewhere, so a [`Place`] inside the
//! model compares equal to every other one.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The source of one setting.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Origin {
    /// Nobody set it; the schema's default applies.
    Default,
    /// A line (counted from 1) of a configuration file; line 0 means the file as a whole.
    File {
        /// The file, as it was named by the operator or found by `include`.
        path: Arc<Path>,
        /// Line number, from 1; 0 for the file as a whole.
        line: u32,
    },
    /// An environment variable, by name.
    Environment(String),
    /// A `--set` argument, in full.
    Set(String),
}

impl Origin {
    /// The origin for a line of a file.
    pub fn file(path: &Arc<Path>, line: u32) -> Self {
        Self::File {
            path: Arc::clone(path),
            line,
        }
    }

    /// The same file at another line; other origins have no lines and stay as they are.
    pub fn at_line(&self, line: u32) -> Self {
        match self {
            Self::File { path, .. } if line != 0 => Self::file(path, line),
            other => other.clone(),
        }
    }

    /// True if somebody set the value, wherever that was.
    pub fn is_explicit(&self) -> bool {
        *self != Self::Default
    }

    /// How `--dump-config` names the origin.
    pub fn comment(&self) -> String {
        match self {
            Self::Default => "default".to_owned(),
            Self::File { .. } => self.to_string(),
            Self::Environment(name) => format!("environment {name}"),
            Self::Set(_) => "--set".to_owned(),
        }
    }

    /// The file, if the origin is one.
    pub fn path(&self) -> Option<PathBuf> {
        match self {
            Self::File { path, .. } => Some(path.to_path_buf()),
            _ => None,
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File { path, line: 0 } => write!(f, "{}", path.display()),
            Self::File { path, line } => write!(f, "{}:{line}", path.display()),
            Self::Environment(name) => f.write_str(name),
            Self::Set(argument) => write!(f, "--set {argument}"),
        }
    }
}

/// An [`Origin`] carried by the model for later diagnostics. All places are equal, see the module's invariant.
#[derive(Clone, Debug)]
pub struct Place(pub Origin);

impl PartialEq for Place {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Place {}

impl Default for Place {
    fn default() -> Self {
        Self(Origin::Default)
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
