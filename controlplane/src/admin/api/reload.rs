//! `POST /v1/reload`: what became of an attempt to load the configuration again.

use serde::{Deserialize, Serialize};

/// What is asked of a reload; an empty body is the default.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct ReloadRequest {
    /// The file's services and servers are what it says, also where a command changed them and the
    /// file did not.
    pub discard_overrides: bool,
}

/// The result of a reload. When it is refused the running configuration stays untouched.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(default)]
pub struct ReloadReport {
    /// Whether the new configuration is in force.
    pub ok: bool,
    /// One sentence.
    pub message: String,
    /// `config_epoch` afterwards.
    pub config_epoch: u64,
    /// Every reason for a refusal: `file:line: [section] key: what is wrong; expected …`.
    pub errors: Vec<String>,
    /// Surprises, in the same form.
    pub warnings: Vec<String>,
    /// What changed, one phrase each; empty when nothing did.
    pub changes: Vec<String>,
}
