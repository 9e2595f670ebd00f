//! What virtual routers depend on besides interfaces: scripts, files, services, workers.
//!
//! Each tracker is a task of its own that tells every change, and its state once at the start.
//! Invariants: what is tracked by nobody does not run; a reload leaves a tracker alone whose
//! section did not change, with all it has found out; a script whose section changed in anything
//! but its command goes on from what was told last; nothing is told that a tracker of an earlier
//! configuration found.

mod file;
mod script;
mod service;

use crate::command_process::CommandProcess;
use crate::config::{Config, TrackFileConfig, TrackScriptConfig};
use crate::tables;
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use vrrp::{Report, Tracked};

/// Reports that may wait for the main loop; a tracker then waits for its turn.
const REPORTS: usize = 256;

/// Where a tracker tells what it found.
#[derive(Clone, Debug)]
struct Sink {
    reports: mpsc::Sender<Told>,
    /// Of this tracker alone.
    number: u64,
}

#[derive(Debug)]
struct Told {
    number: u64,
    tracked: Tracked,
    report: Report,
}

/// What a tracker needs of its surroundings.
#[derive(Clone)]
pub struct Surroundings {
    /// Runs scripts.
    pub commands: Arc<CommandProcess>,
    /// As whom a script runs whose section names nobody; `None` = the daemon's own user.
    pub user: Option<String>,
    /// Where services and their servers are looked up.
    pub tables: tables::Handle,
}

/// All trackers, and what they told last.
#[derive(Debug)]
pub struct Trackers {
    sink: Sink,
    reports: mpsc::Receiver<Told>,
    running: BTreeMap<Tracked, Tracker>,
    told: BTreeMap<Tracked, Report>,
}

#[derive(Debug)]
struct Tracker {
    task: JoinHandle<()>,
    what: What,
    number: u64,
}

impl Drop for Tracker {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// What a tracker does; it goes on over a reload that leaves this as it is.
#[derive(Clone, Debug, PartialEq)]
enum What {
    Script(TrackScriptConfig, Option<String>),
    File(TrackFileConfig),
    Service(service::Quorum),
}

impl What {
    /// What the successor of a script may take to be known of it, given what was told of the old one.
    fn inherits(&self, old: &Self, told: Option<Report>) -> Option<bool> {
        match (self, old) {
            (Self::Script(new, _), Self::Script(old, _)) if new.command == old.command => {
                told.map(|report| script::succeeds(old, report))
            }
            _ => None,
        }
    }
}

impl Default for Trackers {
    fn default() -> Self {
        let (sender, reports) = mpsc::channel(REPORTS);
        Self {
            sink: Sink {
                reports: sender,
                number: 0,
            },
            reports,
            running: BTreeMap::new(),
            told: BTreeMap::new(),
        }
    }
}

impl Trackers {
    /// Runs what this configuration tracks. Returns what is known already of what goes on.
    pub fn apply(
        &mut self,
        config: &Config,
        surroundings: &Surroundings,
    ) -> Vec<(Tracked, Report)> {
        let wanted = wanted(config, surroundings);
        self.running
            .retain(|tracked, _| wanted.contains_key(tracked));
        for (tracked, what) in wanted {
            let old = self.running.get(&tracked);
            if old.is_some_and(|old| old.what == what) {
                continue;
            }
            let told = self.told.get(&tracked).copied();
            let known = old.and_then(|old| what.inherits(&old.what, told));
            self.told.remove(&tracked);
            if let (Some(up), What::Script(section, _)) = (known, &what) {
                let report = script::report(section, up);
                self.told.insert(tracked.clone(), report);
            }
            self.sink.number += 1;
            let number = self.sink.number;
            let sink = self.sink.clone();
            let task = start(tracked.clone(), &what, known, surroundings, sink);
            self.running.insert(tracked, Tracker { task, what, number });
        }
        let running = &self.running;
        self.told.retain(|tracked, _| running.contains_key(tracked));
        self.known()
    }

    /// What is known of what runs.
    pub fn known(&self) -> Vec<(Tracked, Report)> {
        let told = self.told.iter();
        told.map(|(tracked, report)| (tracked.clone(), *report))
            .collect()
    }

    /// The next thing one of them tells. Loses nothing if it is not waited for to its end.
    pub async fn next(&mut self) -> (Tracked, Report) {
        loop {
            let told = self.reports.recv().await;
            let Some(Told {
                number,
                tracked,
                report,
            }) = told
            else {
                // It cannot close: the sink is here.
                return std::future::pending().await;
            };
            // One that was stopped meanwhile may have told something before.
            let running = self.running.get(&tracked);
            if running.is_some_and(|tracker| tracker.number == number) {
                self.told.insert(tracked.clone(), report);
                return (tracked, report);
            }
        }
    }
}

fn wanted(config: &Config, surroundings: &Surroundings) -> BTreeMap<Tracked, What> {
    let mut wanted = BTreeMap::new();
    for router in &config.vrrp {
        for (name, _) in &router.track_scripts {
            if let Some(section) = config.track_scripts.iter().find(|it| it.name == *name) {
                let what = What::Script(section.clone(), surroundings.user.clone());
                wanted.insert(Tracked::Script(name.as_str().into()), what);
            }
        }
        for (name, _) in &router.track_files {
            if let Some(section) = config.track_files.iter().find(|it| it.name == *name) {
                let what = What::File(section.clone());
                wanted.insert(Tracked::File(name.as_str().into()), what);
            }
        }
        for (name, _) in &router.track_services {
            if let Some(section) = config.virtual_servers.iter().find(|it| it.name == *name) {
                let what = What::Service(service::Quorum::of(section));
                wanted.insert(Tracked::Service(name.as_str().into()), what);
            }
        }
    }
    wanted
}

fn start(
    tracked: Tracked,
    what: &What,
    known: Option<bool>,
    surroundings: &Surroundings,
    sink: Sink,
) -> JoinHandle<()> {
    match what.clone() {
        What::Script(section, user) => {
            let commands = Arc::clone(&surroundings.commands);
            let user = section.user.clone().or(user);
            tokio::spawn(script::track(section, known, user, commands, tracked, sink))
        }
        What::File(section) => tokio::spawn(file::track(section, tracked, sink)),
        What::Service(quorum) => {
            let tables = surroundings.tables.clone();
            tokio::spawn(service::track(quorum, tables, tracked, sink))
        }
    }
}

/// Tells a report if it is another than the last one; false if nobody listens any more.
async fn tell(sink: &Sink, tracked: &Tracked, last: &mut Option<Report>, now: Report) -> bool {
    if *last == Some(now) {
        return true;
    }
    *last = Some(now);
    let told = Told {
        number: sink.number,
        tracked: tracked.clone(),
        report: now,
    };
    sink.reports.send(told).await.is_ok()
}
