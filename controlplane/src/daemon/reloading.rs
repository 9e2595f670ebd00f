//! Reloading the configuration beside the main loop.
//!
//! Reading and comparing a hundred thousand servers, building their table and waiting for a late
//! worker take up to seconds: a task does that, and the main loop only what is left, the kernel's
//! part. Invariant: all of a configuration or none of it.

use super::backend::unix_seconds;
use super::ipvs::NotBuilt;
use super::redundancy::Redundancy;
use super::start::Running;
use super::{Daemon, linux, translate};
use crate::admin::api;
use crate::config::{self, Loaded, reload};
use crate::log_output;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// How long a reload waits for the workers to take the new tables.
const TAKE_TIME: Duration = Duration::from_secs(2);
/// Lines of one kind a report has room for; it says how many more there are.
const LINES: usize = 200;

/// A reload under way.
pub(super) struct Reloading {
    work: JoinHandle<Prepared>,
    /// Who waits for it.
    pub(super) reply: Option<oneshot::Sender<api::ReloadReport>>,
}

/// What became of the part beside the main loop.
pub(super) type Prepared = Result<Accepted, Refused>;

/// A configuration whose services are in force.
pub(super) struct Accepted {
    loaded: Arc<Loaded>,
    changes: reload::Changes,
    problems: Vec<String>,
}

/// Why the running configuration stays.
#[derive(Debug, Default)]
pub(super) struct Refused {
    message: String,
    errors: Vec<String>,
    warnings: Vec<String>,
}

impl Reloading {
    /// The outcome of the reload under way, once; waits for ever if there is none.
    pub(super) async fn prepared(under_way: &mut Option<Self>) -> Prepared {
        match under_way {
            Some(reloading) => (&mut reloading.work).await.unwrap_or_else(|error| {
                Err(Refused {
                    message: format!("reading the configuration failed: {error}"),
                    ..Refused::default()
                })
            }),
            None => std::future::pending().await,
        }
    }
}

impl Running {
    /// Starts a reload; [`Self::finish_reload`] ends it.
    pub(super) fn begin_reload(
        &self,
        discard: bool,
        reply: Option<oneshot::Sender<api::ReloadReport>>,
    ) -> Reloading {
        self.readiness.reloading();
        let daemon = Arc::clone(&self.daemon);
        let work = tokio::task::spawn_blocking(move || prepare(&daemon, discard));
        Reloading { work, reply }
    }

    /// The kernel's part, and the report.
    pub(super) async fn finish_reload(
        &mut self,
        prepared: Prepared,
        redundancy: &mut Redundancy,
    ) -> api::ReloadReport {
        let report = match prepared {
            // What is being taken down must not be put up again.
            Ok(_) if redundancy.is_leaving() => api::ReloadReport {
                ok: false,
                message: "sluiced is stopping".to_owned(),
                config_epoch: self.daemon.state().config_epoch,
                ..api::ReloadReport::default()
            },
            Ok(accepted) => self.accept(accepted, redundancy).await,
            Err(refused) => api::ReloadReport {
                ok: false,
                message: refused.message,
                config_epoch: self.daemon.state().config_epoch,
                errors: shortened(refused.errors.into_iter()),
                warnings: shortened(refused.warnings.into_iter()),
                changes: Vec::new(),
            },
        };
        if !redundancy.is_leaving() {
            self.readiness.ready();
        }
        self.daemon.state().last_reload = Some(api::LastReload {
            at: unix_seconds(SystemTime::now()),
            ok: report.ok,
            message: report.message.clone(),
        });
        if report.ok {
            log::info!("reload: {}", report.message);
        } else {
            log::error!("reload refused: {}", report.message);
            for error in &report.errors {
                log::error!("{error}");
            }
        }
        for warning in &report.warnings {
            log::warn!("{warning}");
        }
        report
    }

    async fn accept(
        &mut self,
        accepted: Accepted,
        redundancy: &mut Redundancy,
    ) -> api::ReloadReport {
        let Accepted {
            loaded,
            changes,
            mut problems,
        } = accepted;
        problems.extend(self.linux.apply(&loaded.config).await);
        if let Err(error) = redundancy.apply(&loaded.config, &mut self.linux) {
            problems.push(error.to_string());
        }
        self.publish_forwarding();
        let mut message = match changes.list.len() {
            0 => "nothing changed".to_owned(),
            1 => "1 change applied".to_owned(),
            count => format!("{count} changes applied"),
        };
        if !problems.is_empty() {
            message.push_str(", but Linux refused something (see the warnings)");
        }
        problems.extend(linux::hints(&loaded.config));
        let of_file = shortened(loaded.warnings.iter().map(ToString::to_string));
        let warnings = [shortened(problems.iter().cloned()), of_file].concat();
        let shown = shortened(changes.list.iter().map(ToString::to_string));
        let (old, config_epoch) = {
            let mut state = self.daemon.state();
            state.warnings = problems;
            state.config_epoch += 1;
            let old = std::mem::replace(&mut state.loaded, loaded);
            (old, state.config_epoch)
        };
        // Freeing them takes long enough to be done elsewhere.
        drop(tokio::task::spawn_blocking(move || drop((old, changes))));
        api::ReloadReport {
            ok: true,
            message,
            config_epoch,
            errors: Vec::new(),
            warnings,
            changes: shown,
        }
    }
}

/// Reads, checks and compares, and puts the services into force.
fn prepare(daemon: &Daemon, discard: bool) -> Prepared {
    let texts =
        |list: &[config::Diagnostic]| -> Vec<_> { list.iter().map(ToString::to_string).collect() };
    let loaded = config::load(&daemon.options).map_err(|diagnostics| Refused {
        message: "the configuration has errors; the running one stays".to_owned(),
        errors: texts(&diagnostics.errors),
        warnings: texts(&diagnostics.warnings),
    })?;
    let running = Arc::clone(&daemon.state().loaded);
    let changes = reload::compare(&running, &loaded).map_err(|needs_restart| Refused {
        message: "it changes what needs a restart; the running configuration stays".to_owned(),
        errors: needs_restart.iter().map(ToString::to_string).collect(),
        warnings: Vec::new(),
    })?;
    let mut problems = Vec::new();
    let file = translate::desired(&loaded.config);
    match daemon.load_services(file, translate::orphans(&loaded.config), discard) {
        Ok(epoch) if !daemon.tables.wait_services(epoch, TAKE_TIME) => problems.push(format!(
            "not every worker has taken the new tables (epoch {epoch}) yet; see 'sluice status'"
        )),
        Ok(_) => {}
        Err(NotBuilt) => {
            return Err(Refused {
                message: "the tables could not be built (see the log); the running ones stay"
                    .to_owned(),
                errors: Vec::new(),
                warnings: Vec::new(),
            });
        }
    }
    log_output::set(&loaded.config.global.log);
    daemon.idle.set(translate::idle(loaded.config.global.idle));
    Ok(Accepted {
        loaded: Arc::new(loaded),
        changes,
        problems,
    })
}

/// The first lines of a list that may have a hundred thousand, and how many are left out.
pub(super) fn shortened(lines: impl ExactSizeIterator<Item = String>) -> Vec<String> {
    let more = lines.len().saturating_sub(LINES);
    let mut shown: Vec<_> = lines.take(LINES).collect();
    if more > 0 {
        shown.push(format!("... and {more} more"));
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_lists_are_shortened_and_say_so() {
        let lines = |count: usize| (0..count).map(|n| n.to_string());
        assert_eq!(shortened(lines(LINES)), lines(LINES).collect::<Vec<_>>());
        let cut = shortened(lines(LINES + 5));
        assert_eq!(cut.len(), LINES + 1);
        assert_eq!(cut[LINES], "... and 5 more");
    }
}
