//! `sluiced`: brings everything up in order, runs it, takes it down in order.
//!
//! ```text
//!   arguments, configuration ─► locks ─► command process ─► EAL, mempool, devices ─► TAPs
//!     ─► kernel mirror, addresses ─► tables ─► workers, slow path ─► VIPs ─► admin API ─► ready
//! ```
//! [`start`] builds that, [`run`] serves signals, kernel news and reloads until it is time to stop,
//! and [`start::Running::stop`] undoes it. [`Daemon`] is what the admin API sees.

mod arguments;
mod backend;
mod beneath;
mod defence;
mod devices;
pub(crate) mod ipvs;
mod linux;
mod plain;
mod rates;
mod redundancy;
mod reloading;
mod resources;
mod rings;
mod run;
mod sides;
mod start;
mod status;
mod template_memory;
mod translate;

use crate::admin::api;
use crate::command_process::{self, CommandProcess};
use crate::config::{self, LoadOptions, Loaded};
use crate::kernel::mirror::MirrorCounters;
use crate::kernel::slow_path::SlowPathCounters;
use crate::log_output;
use crate::mail::MailCounters;
use crate::tables;
use arguments::Arguments;
use clap::Parser;
use crossbeam_queue::ArrayQueue;
use crossbeam_utils::CachePadded;
use dataplane::counters::WorkerCounters;
use dataplane::dpdk::Mempool;
use dataplane::job::Job;
use dataplane::verdict::PuntClass;
use dataplane::worker::IdleSwitch;
use devices::OpenPort;
use ipvs::Objects;
use rates::RateWindow;
use redundancy::DriverSlot;
use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Instant, SystemTime};
use template_memory::TemplateMemory;
use tokio::sync::{mpsc, oneshot};
use vrrp::Standing;

/// Exit status for a configuration that was refused.
const BAD_CONFIGURATION: u8 = 2;

/// The running daemon, as the admin API and the status see it.
#[derive(Debug)]
pub(crate) struct Daemon {
    options: LoadOptions,
    started: Instant,
    started_at: SystemTime,
    tables: tables::Handle,
    /// What the tables are built from; see [`ipvs`].
    objects: Mutex<Objects>,
    template_memory: TemplateMemory,
    workers: Vec<WorkerHandle>,
    /// Of each worker's tables.
    capacity: resources::Capacity,
    idle: Arc<IdleSwitch>,
    hugepage_bytes: u64,
    /// DPDK's control calls for a port are not to be made from two threads at once.
    ports: Mutex<Vec<OpenPort>>,
    /// `None` = there is no port.
    mempool: Option<&'static Mempool>,
    slow_path: SlowPathStats,
    rates: Mutex<RateWindow>,
    state: Mutex<State>,
    reloads: mpsc::Sender<ReloadRequest>,
    commands: Arc<CommandProcess>,
    /// Empty until there are virtual routers.
    driver: DriverSlot,
    /// The operator has taken the box out.
    maintenance: AtomicBool,
    mail: Arc<MailCounters>,
}

/// A reload somebody asked for.
#[derive(Debug)]
struct ReloadRequest {
    /// Also forget what commands changed of the file's objects.
    discard: bool,
    reply: oneshot::Sender<api::ReloadReport>,
}

/// What changes while the daemon runs.
#[derive(Debug)]
struct State {
    loaded: Arc<Loaded>,
    config_epoch: u64,
    last_reload: Option<api::LastReload>,
    /// What an operator should look at, one sentence each.
    warnings: Vec<String>,
    /// By port: whether the link is up.
    links: Vec<bool>,
    /// By worker.
    heartbeats: Vec<status::Heartbeat>,
    /// Defences in effect by worker, as last told.
    defences: Vec<u64>,
    /// Since when some worker has not taken the newest tables.
    late_since: Option<Instant>,
    /// By virtual router: what it is.
    standings: BTreeMap<String, Standing>,
}

impl State {
    /// At the start, for so many ports and workers.
    fn new(loaded: Loaded, warnings: Vec<String>, ports: usize, workers: usize) -> Self {
        Self {
            config_epoch: 1,
            last_reload: None,
            warnings,
            links: vec![true; ports],
            heartbeats: vec![status::Heartbeat::default(); workers],
            defences: vec![0; workers],
            late_since: None,
            standings: BTreeMap::new(),
            loaded: Arc::new(loaded),
        }
    }
}

/// Control's hold on one worker.
#[derive(Debug)]
struct WorkerHandle {
    cpu: usize,
    counters: Arc<CachePadded<WorkerCounters>>,
    jobs: Arc<ArrayQueue<Arc<Job>>>,
}

/// The slow path's counters, by name.
#[derive(Debug)]
struct SlowPathStats(Arc<SlowPathCounters>, Arc<MirrorCounters>);

impl SlowPathStats {
    fn named(&self) -> BTreeMap<String, u64> {
        let counters = &self.0;
        let mut named = BTreeMap::new();
        for class in PuntClass::ALL {
            let of_class = counters.class(*class);
            let mut put = |what: &str, value: u64| named.insert(format!("{class}_{what}"), value);
            put("delivered", of_class.delivered.load(Ordering::Relaxed));
            put("failed", of_class.failed.load(Ordering::Relaxed));
            put(
                "no_interface",
                of_class.no_interface.load(Ordering::Relaxed),
            );
        }
        for (name, counter) in [
            ("injected", &counters.injected),
            ("inject_failures", &counters.inject_failures),
            ("oversize", &counters.oversize),
            ("read_failures", &counters.read_failures),
            ("reopened", &counters.reopened),
            ("mirror_views", &self.1.published),
            ("mirror_resyncs", &self.1.resyncs),
            ("mirror_overflows", &self.1.overflows),
        ] {
            named.insert(name.to_owned(), counter.load(Ordering::Relaxed));
        }
        named
    }
}

impl Daemon {
    fn state(&self) -> MutexGuard<'_, State> {
        // Whoever panicked with it in hand left plain values; the newest are good enough.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn ports(&self) -> MutexGuard<'_, Vec<OpenPort>> {
        self.ports.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has the main loop reload the configuration; `None` if the daemon is stopping.
    async fn request_reload(&self, discard: bool) -> Option<api::ReloadReport> {
        let (reply, report) = oneshot::channel();
        let request = ReloadRequest { discard, reply };
        self.reloads.send(request).await.ok()?;
        report.await.ok()
    }
}

/// The whole of `sluiced`.
pub fn main() -> ExitCode {
    command_process::run_if_child();
    let arguments = Arguments::parse();
    let mut options = LoadOptions::new(&arguments.config).with_process_environment();
    options.overrides.clone_from(&arguments.set);
    let loaded = match config::load(&options) {
        Ok(loaded) => loaded,
        Err(diagnostics) => {
            eprint!("{diagnostics}");
            return ExitCode::from(BAD_CONFIGURATION);
        }
    };
    for warning in &loaded.warnings {
        eprintln!("warning: {warning}");
    }
    if arguments.dump_config {
        print!("{}", loaded.dump());
        return ExitCode::SUCCESS;
    }
    if arguments.check {
        if arguments.hardware
            && !loaded.config.ports.is_empty()
            && let Err(error) = start::check_hardware(&loaded.config)
        {
            eprintln!("sluiced: {error}");
            return ExitCode::FAILURE;
        }
        println!("{}", config::summary(&arguments.config, &loaded.config));
        return ExitCode::SUCCESS;
    }
    let is_plain = loaded.config.ports.is_empty();
    if is_plain && loaded.config.vrrp.is_empty() {
        let path = arguments.config.display();
        eprintln!("{path}: no [port] section: there is nothing to forward; expected at least one");
        return ExitCode::from(BAD_CONFIGURATION);
    }
    log_output::set(&loaded.config.global.log);
    if !dataplane::dpdk::limit_heap_arenas() {
        log::warn!("cannot limit the heap's arenas: large reloads will leave more memory taken");
    }
    #[cfg(feature = "test-hooks")]
    crate::test_hooks::warn();
    let started = if is_plain {
        plain::start(options, loaded)
    } else {
        start::start(&arguments, options, loaded)
    };
    match started.and_then(start::Running::run) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            log::error!("{error}");
            ExitCode::FAILURE
        }
    }
}
