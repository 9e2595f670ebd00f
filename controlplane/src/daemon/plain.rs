//! A daemon without any `[port]`: virtual routers on ordinary Linux interfaces, and nothing else.
//!
//! No EAL, no workers, no TAPs, no memory worth mentioning; it needs no more than the capabilities
//! of VRRP. The tables exist and stay empty, so that status, listings and reloads need not know.

use super::ipvs::Objects;
use super::linux::Linux;
use super::rates::RateWindow;
use super::redundancy::DriverSlot;
use super::resources::{self, Capacity};
use super::run::Signals;
use super::start::{Base, Error, Running, supervise};
use super::template_memory::TemplateMemory;
use super::{Daemon, SlowPathStats, translate};
use crate::config::{LoadOptions, Loaded};
use crate::readiness::Readiness;
use crate::tables::{Publisher, Start};
use crossbeam_queue::ArrayQueue;
use dataplane::forwarding::Forwarding;
use dataplane::template::Templates;
use dataplane::worker::IdleSwitch;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};
use std::time::{Instant, SystemTime};
use tokio::sync::mpsc;

/// Starts everything there is.
pub(super) fn start(options: LoadOptions, loaded: Loaded) -> Result<Running, Error> {
    let config = &loaded.config;
    let missing = resources::missing_capabilities_of_vrrp();
    if !missing.is_empty() {
        let missing = missing.join(", ");
        return Err(format!("sluiced lacks the capabilities {missing}: start it as root").into());
    }
    let base = Base::take(config)?;
    let signals = base.runtime.block_on(async { Signals::catch() })?;
    let linux = base
        .runtime
        .block_on(Linux::connect())
        .map_err(|error| format!("cannot read the kernel's tables by netlink: {error}"))?;
    let objects = Objects::new(translate::desired(config), translate::orphans(config));
    let Start {
        publisher, handle, ..
    } = Publisher::start(0, objects.desired(), Forwarding::default());
    let threads = vec![supervise("publisher", publisher, Publisher::run)?];
    let (reload_sender, reloads) = mpsc::channel(4);
    let idle = Arc::new(IdleSwitch::new(translate::idle(config.global.idle)));
    let daemon = Arc::new(Daemon {
        options,
        started: Instant::now(),
        started_at: SystemTime::now(),
        tables: handle,
        objects: Mutex::new(objects),
        template_memory: TemplateMemory {
            templates: Arc::new(Templates::new(1)),
            workers: 1,
            connections: 1,
        },
        capacity: Capacity { v4: 0, v6: 0 },
        idle,
        hugepage_bytes: 0,
        mempool: None,
        slow_path: SlowPathStats(Arc::default(), linux.mirror_counters()),
        rates: Mutex::new(RateWindow::default()),
        state: Mutex::new(super::State::new(loaded, Vec::new(), 0, 0)),
        ports: Mutex::new(Vec::new()),
        workers: Vec::new(),
        reloads: reload_sender,
        commands: base.commands,
        driver: DriverSlot::default(),
        maintenance: AtomicBool::new(false),
        mail: Arc::default(),
    });
    Ok(Running {
        daemon,
        linux,
        runtime: base.runtime,
        readiness: Readiness::from_environment(),
        asks: Arc::new(ArrayQueue::new(1)),
        reloads,
        socket: Some(base.socket),
        groups: base.groups,
        eal: None,
        prefix: base.prefix,
        workers: Vec::new(),
        stop_workers: Arc::default(),
        threads,
        stop_slow_path: Arc::default(),
        signals,
        beneath: None,
        _locks: base.locks,
    })
}
