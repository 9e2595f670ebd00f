//! Notify scripts: which run on a change of state, with which words, as whom.
//!
//! keepalived's rules (behaviour notes 7.7): the state's own script first, without arguments; then
//! `notify` with `INSTANCE|GROUP NAME STATE PRIORITY`. Invariant: nobody waits for a script but the
//! daemon's end, and that not for long; they start in the order of the changes, and run beside each
//! other.

use crate::command_process::{Command, CommandProcess};
use crate::config::{Config, DEFAULT_SCRIPT_USER, NotifyConfig};
use nix::unistd::User;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;
use vrrp::{Standing, Transition};

/// A script that runs longer is killed.
const TIME: Duration = Duration::from_mins(1);

/// Runs notify scripts.
#[derive(Debug)]
pub(super) struct Scripts {
    commands: Arc<CommandProcess>,
    user: Option<String>,
    /// By whether it is a group, and by name. One that is no longer configured is kept until it has
    /// been told to be deleted.
    notify: BTreeMap<(bool, String), NotifyConfig>,
    running: JoinSet<()>,
}

impl Scripts {
    pub(super) fn new(commands: Arc<CommandProcess>) -> Self {
        Self {
            commands,
            user: None,
            notify: BTreeMap::new(),
            running: JoinSet::new(),
        }
    }

    /// Runs what this configuration has from now on, as this user.
    pub(super) fn apply(&mut self, config: &Config, user: Option<String>) {
        self.user = user;
        let routers = config.vrrp.iter();
        let routers = routers.map(|it| ((false, it.name.clone()), it.notify.clone()));
        let groups = config.vrrp_groups.iter();
        let groups = groups.map(|it| ((true, it.name.clone()), it.notify.clone()));
        self.notify.extend(routers.chain(groups));
    }

    /// Starts what there is for this change of state.
    pub(super) fn run(&mut self, transition: &Transition) {
        let key = (transition.group, transition.name.to_string());
        let notify = if transition.to == Standing::Deleted {
            self.notify.remove(&key)
        } else {
            self.notify.get(&key).cloned()
        };
        let Some(notify) = notify else { return };
        for line in lines(&notify, transition) {
            let mut command = Command::shell(&line, TIME).in_order();
            command.user.clone_from(&self.user);
            let name = transition.name.to_string();
            // Handed over here, so that scripts start in the order of the transitions.
            let begun = match self.commands.begin(command) {
                Ok(begun) => begun,
                Err(error) => {
                    log::warn!("({name}) {line}: {error}");
                    continue;
                }
            };
            self.running.spawn(async move {
                match begun.outcome().await {
                    Ok(outcome) if outcome.is_success() => log::debug!("({name}) {line}: done"),
                    Ok(outcome) => log::warn!("({name}) {line}: {outcome}"),
                    Err(error) => log::warn!("({name}) {line}: {error}"),
                }
            });
        }
        while self.running.try_join_next().is_some() {}
    }

    /// Waits for what runs.
    pub(super) async fn finish(&mut self, within: Duration) {
        let all = async { while self.running.join_next().await.is_some() {} };
        if tokio::time::timeout(within, all).await.is_err() {
            log::warn!(
                "{} notify script(s) still run and are killed",
                self.running.len()
            );
        }
    }
}

/// As whom scripts run that name nobody: `script_user`. Only the default one need not exist; then
/// it is the daemon's own user, as in keepalived. A chosen one that has gone since it was checked
/// makes the scripts fail.
pub(super) fn user(config: &Config) -> Option<String> {
    let name = &config.global.script_user;
    if name != DEFAULT_SCRIPT_USER {
        return Some(name.clone());
    }
    let exists = matches!(User::from_name(name), Ok(Some(_)));
    let used = |notify: &NotifyConfig| *notify != NotifyConfig::default();
    let any = config.vrrp.iter().any(|section| used(&section.notify))
        || config
            .vrrp_groups
            .iter()
            .any(|section| used(&section.notify))
        || config
            .track_scripts
            .iter()
            .any(|script| script.user.is_none());
    if !exists && any {
        log::warn!(
            "[global] script_user: there is no user {name}; scripts that name none run as sluiced's own"
        );
    }
    exists.then(|| name.clone())
}

/// The command lines, in order. The names in them are letters, digits and `_.-`.
fn lines(notify: &NotifyConfig, transition: &Transition) -> Vec<String> {
    let own = match transition.to {
        Standing::Initialize => return Vec::new(),
        Standing::Active => notify.master.clone(),
        Standing::Backup => notify.backup.clone(),
        Standing::Fault => notify.fault.clone(),
        Standing::Stop => notify.stop.clone(),
        Standing::Deleted => None,
    };
    let kind = if transition.group {
        "GROUP"
    } else {
        "INSTANCE"
    };
    let any = notify.any.as_ref().map(|command| {
        let (name, word) = (&transition.name, transition.to.word());
        format!("{command} {kind} {name} {word} {}", transition.priority)
    });
    own.into_iter().chain(any).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chosen_user_is_never_replaced_by_the_daemon_s_own() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("t.ini");
        let port = "[port lan]\ndevice = net_tap0\n";
        std::fs::write(&path, format!("{port}[global]\nscript_user = nobody\n")).unwrap();
        let options = crate::config::LoadOptions::new(&path);
        let mut config = crate::config::load(&options).unwrap().config;
        assert_eq!(user(&config).as_deref(), Some("nobody"));
        "no-such-user".clone_into(&mut config.global.script_user);
        assert_eq!(user(&config).as_deref(), Some("no-such-user"));
    }

    #[test]
    fn the_states_own_script_comes_first_and_the_other_is_told_everything() {
        let notify = NotifyConfig {
            any: Some("/etc/notify.sh --log".into()),
            master: Some("/etc/master.sh".into()),
            stop: Some("/etc/stop.sh".into()),
            ..NotifyConfig::default()
        };
        let to = |group, to| Transition {
            group,
            name: "VI_1".into(),
            to,
            why: "so".into(),
            priority: 101,
        };
        assert_eq!(
            lines(&notify, &to(false, Standing::Active)),
            [
                "/etc/master.sh",
                "/etc/notify.sh --log INSTANCE VI_1 MASTER 101"
            ]
        );
        assert_eq!(
            lines(&notify, &to(true, Standing::Fault)),
            ["/etc/notify.sh --log GROUP VI_1 FAULT 101"]
        );
        assert_eq!(
            lines(&notify, &to(false, Standing::Stop)),
            [
                "/etc/stop.sh",
                "/etc/notify.sh --log INSTANCE VI_1 STOP 101"
            ]
        );
        assert_eq!(
            lines(&notify, &to(false, Standing::Deleted)),
            ["/etc/notify.sh --log INSTANCE VI_1 DELETED 101"]
        );
        assert_eq!(lines(&notify, &to(false, Standing::Initialize)), [""; 0]);
    }
}
