//! As whom scripts run: a user who was named must be there.
//!
//! Only the default one need not exist. A misspelt user must never mean that a script runs as the
//! daemon's own, which is root.

use super::super::effective::EffectiveTable;
use super::super::model::DEFAULT_SCRIPT_USER;
use super::super::report::Report;
use super::At;
use nix::unistd::User;

pub(super) fn check(table: &EffectiveTable, report: &mut Report) {
    let named = [("global", "script_user"), ("track_script", "user")];
    for (kind, key) in named {
        for section in table.of(kind) {
            let Some(name) = section.get::<String>(key) else {
                continue;
            };
            // As a dump of the configuration has it.
            let is_default = kind == "global" && name == DEFAULT_SCRIPT_USER;
            if !is_default && !matches!(User::from_name(&name), Ok(Some(_))) {
                let message = format!("there is no user `{name}`; expected one of this machine's");
                At::new(section).error(report, key, message);
            }
        }
    }
}
