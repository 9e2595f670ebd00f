//! `POST /v1/reload`: what became of an attempt to load the configuration again.

use serde::{Deserialize, Serialize};

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
