//! Bringing the daemon up, and taking it down in the opposite order.

use super::arguments::Arguments;
use super::beneath::Beneath;
use super::devices::{self, OpenPort};
use super::linux::Linux;
use super::rates::RateWindow;
use super::resources::{
    self, Cpus, EalPlan, Hugepages, Memory, allowed_cpus, free_hugepages, hugetlbfs_mounted,
};
use super::rings::{self, Injector, Punts, WorkerEnds};
use super::run::Signals;
use super::{Daemon, SlowPathStats, State, WorkerHandle, translate};
use crate::admin::access::AccessGroups;
use crate::admin::socket::AdminSocket;
use crate::command_process::CommandProcess;
use crate::config::{self, Config, LoadOptions, Loaded, PortConfig};
use crate::instance::InstanceLocks;
use crate::kernel::forwarding_view::PortBinding;
use crate::kernel::slow_path::SlowPath;
use crate::kernel::sysctl;
use crate::kernel::tap::Tap;
use crate::kernel::underlying::{Underlying, Unusable};
use crate::readiness::Readiness;
use crate::tables::{Publisher, Start};
use crossbeam_queue::ArrayQueue;
use crossbeam_utils::CachePadded;
use dataplane::counters::WorkerCounters;
use dataplane::dpdk::{
    Eal, Mempool, Running as Lcore, launch, remove_own_runtime, remove_stale_runtime,
};
use dataplane::pipeline::{Parts, Pipeline};
use dataplane::verdict::{Neighbour, WorkerId};
use dataplane::worker::{IdleSwitch, Worker};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};
use tokio::runtime::Runtime;
use tokio::sync::{mpsc, oneshot};

/// Anything that ends the daemon; one sentence for the operator.
pub(super) type Error = Box<dyn std::error::Error + Send + Sync>;

/// Buffers an lcore keeps to itself.
const LCORE_CACHE: u32 = 256;
/// Listings and deletions that may be queued for a worker.
const JOBS: usize = 16;
/// Questions about neighbours under way from all workers.
const ASKS: usize = 256;

/// Everything that runs.
pub(super) struct Running {
    pub(super) daemon: Arc<Daemon>,
    pub(super) linux: Linux,
    pub(super) runtime: Runtime,
    pub(super) readiness: Readiness,
    pub(super) asks: Arc<ArrayQueue<Neighbour>>,
    pub(super) reloads: mpsc::Receiver<oneshot::Sender<crate::admin::api::ReloadReport>>,
    pub(super) socket: Option<AdminSocket>,
    pub(super) groups: AccessGroups,
    eal: &'static Eal,
    /// EAL's file prefix.
    prefix: String,
    workers: Vec<Lcore>,
    stop_workers: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
    stop_slow_path: Arc<AtomicBool>,
    pub(super) signals: Signals,
    beneath: Beneath,
    _locks: InstanceLocks,
}

/// `--check --hardware`: CPUs, hugepages and the interfaces beneath virtual devices, without
/// touching any device.
pub(super) fn check_hardware(config: &Config) -> Result<(), Error> {
    plan(config)?;
    for port in &config.ports {
        for device in &port.devices {
            if resources::is_pci(device) {
                let name = resources::device_name(device);
                if !std::path::Path::new("/sys/bus/pci/devices")
                    .join(&name)
                    .exists()
                {
                    return Err(format!(
                        "[port {}] device: there is no PCI device {name}",
                        port.name
                    )
                    .into());
                }
            } else if let Some(beneath) = Underlying::of(device)
                && !std::path::Path::new("/sys/class/net")
                    .join(&beneath.interface)
                    .exists()
            {
                return Err(Unusable::Absent {
                    interface: beneath.interface,
                }
                .into());
            }
        }
    }
    Ok(())
}

/// Starts everything. On failure whatever was started is taken down by the end of the process.
pub(super) fn start(
    arguments: &Arguments,
    options: LoadOptions,
    loaded: Loaded,
) -> Result<Running, Error> {
    let config = &loaded.config;
    let missing = resources::missing_capabilities();
    if !missing.is_empty() {
        let missing = missing.join(", ");
        return Err(format!("sluiced lacks the capabilities {missing}: start it as root").into());
    }
    let (cpus, memory) = plan(config)?;
    let global = &config.global;
    let prefix = resources::eal_prefix(&global.admin_socket, &global.eal_args);
    let locks = InstanceLocks::acquire(&global.admin_socket, &prefix)?;
    let groups = AccessGroups::resolve(&global.admin_group, &global.monitor_group);
    let socket = AdminSocket::bind(&global.admin_socket, groups)?;

    // Every thread of the control plane inherits this.
    core_affinity::set_for_current(core_affinity::CoreId { id: cpus.control });
    let commands = CommandProcess::start()
        .map_err(|error| format!("cannot start the command process: {error}"))?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .thread_name("control")
        .enable_all()
        .build()?;
    let signals = runtime.block_on(async { Signals::catch() })?;
    let mut linux = runtime
        .block_on(Linux::connect())
        .map_err(|error| format!("cannot read the kernel's tables by netlink: {error}"))?;
    let underlying = inspect_underlying(config, &linux, arguments.take_over)?;

    let eal = start_eal(config, &cpus, memory, &prefix)?;
    let mempool = Mempool::create("packets", memory.mbufs, LCORE_CACHE, memory.data_room, None)?;
    if let Err(error) = sysctl::make_room_for_neighbours(real_servers(config)) {
        log::warn!("the kernel's neighbour tables stay small: {error}");
    }
    let (ports, queues) = devices::open(&config.ports, cpus.workers.len(), mempool)?;
    let taps = open_taps(&config.ports, &ports)?;
    runtime.block_on(linux.take(bind(&ports, &taps), &taps));
    // From here on a failure must give the interfaces beneath the ports back.
    let mut beneath = Beneath::new(&linux, &runtime);
    if arguments.take_over {
        runtime.block_on(beneath.take_over(&linux, &underlying, &taps))?;
    }
    beneath.silence(&underlying)?;
    // Without the VIPs: they come when the workers know the services.
    let without_vips = Config {
        virtual_servers: Vec::new(),
        ..config.clone()
    };
    let warnings = runtime.block_on(linux.apply(&without_vips));

    let Start {
        publisher,
        handle,
        readers,
    } = Publisher::start(
        cpus.workers.len(),
        translate::desired(config),
        linux.forwarding(),
    );
    let (ends, punts, injector) = rings::create(&queues, ports.len(), mempool)?;
    let asks = Arc::new(ArrayQueue::new(ASKS));
    let stop_workers = Arc::new(AtomicBool::new(false));
    let stop_slow_path = Arc::new(AtomicBool::new(false));
    let idle = Arc::new(IdleSwitch::new(translate::idle(global.idle)));
    let per_worker = (global.connections / cpus.workers.len() as u64).max(1024);
    let mut handles = Vec::new();
    let mut lcores = Vec::new();
    let parts = readers.into_iter().zip(queues).zip(ends).enumerate();
    for (index, (((services, forwarding), queues), ends)) in parts {
        let WorkerEnds {
            peers,
            punt,
            inject,
        } = ends;
        let counters = Arc::new(CachePadded::new(WorkerCounters::default()));
        let jobs = Arc::new(ArrayQueue::new(JOBS));
        let pipeline = Pipeline::new(Parts {
            worker: WorkerId(index as u8),
            workers: cpus.workers.len() as u8,
            services,
            forwarding,
            counters: Arc::clone(&counters),
            asks: Arc::clone(&asks),
            connections_v4: per_worker as usize,
            connections_v6: (per_worker / resources::V6_SHARE) as usize,
        });
        let worker = Worker {
            pipeline,
            receive: queues.receive,
            transmit: queues.transmit,
            mempool,
            punt,
            inject,
            peers,
            jobs: Arc::clone(&jobs),
            asks: Arc::clone(&asks),
            idle: Arc::clone(&idle),
            tsc_hz: eal.tsc_hz(),
            stop: Arc::clone(&stop_workers),
            counters: Arc::clone(&counters),
        };
        handles.push(WorkerHandle {
            cpu: cpus.workers[index],
            counters,
            jobs,
        });
        lcores.push(worker);
    }
    lock_memory();
    let workers = lcores
        .into_iter()
        .zip(eal.lcores())
        .map(|(worker, lcore)| launch(lcore, move || worker.run()))
        .collect::<Result<Vec<_>, _>>()?;

    let mut threads = vec![supervise("publisher", publisher, Publisher::run)?];
    let slow_path = SlowPath::new(taps, punts, injector);
    let slow_path_counters = slow_path.counters();
    threads.push(start_slow_path(slow_path, &stop_slow_path)?);

    let (reload_sender, reloads) = mpsc::channel(4);
    let hugepage_bytes = if memory.hugepages {
        memory.megabytes << 20
    } else {
        0
    };
    let now = Instant::now();
    let daemon = Arc::new(Daemon {
        options,
        started: now,
        started_at: SystemTime::now(),
        tables: handle,
        connections: per_worker * cpus.workers.len() as u64,
        idle,
        hugepage_bytes,
        mempool,
        slow_path: SlowPathStats(slow_path_counters, linux.mirror_counters()),
        rates: Mutex::new(RateWindow::default()),
        state: Mutex::new(State {
            config_epoch: 1,
            last_reload: None,
            warnings,
            links: vec![true; ports.len()],
            heartbeats: vec![(0, now); handles.len()],
            late_since: None,
            loaded,
        }),
        ports: Mutex::new(ports),
        workers: handles,
        reloads: reload_sender,
        commands,
    });
    Ok(Running {
        daemon,
        linux,
        runtime,
        readiness: Readiness::from_environment(),
        asks,
        reloads,
        socket: Some(socket),
        groups,
        eal,
        prefix,
        workers,
        stop_workers,
        threads,
        stop_slow_path,
        signals,
        beneath,
        _locks: locks,
    })
}

impl Running {
    /// Takes everything down; fails if a packet buffer is missing afterwards.
    pub(super) fn stop(mut self) -> Result<(), Error> {
        self.runtime.block_on(self.linux.clear());
        self.stop_workers.store(true, Ordering::Relaxed);
        for worker in self.workers.drain(..) {
            worker.join();
        }
        self.stop_slow_path.store(true, Ordering::Relaxed);
        self.daemon.tables.stop();
        for thread in self.threads.drain(..) {
            // A panic in it was reported when it happened.
            let _ = thread.join();
        }
        let ports = std::mem::take(&mut *self.daemon.ports());
        let kept: usize = ports.iter().map(OpenPort::kept_by_driver).sum();
        devices::close(ports);
        drop(self.beneath);
        let mempool = self.daemon.mempool;
        let (available, capacity) = (mempool.available(), mempool.capacity());
        self.runtime.shutdown_timeout(Duration::from_secs(1));
        drop(self.socket.take());
        let missing = capacity - available;
        if missing != kept {
            return Err(format!(
                "mempool: {available} of {capacity} buffers are back, {missing} are missing and {kept} \
                 should be: a leak, please report this"
            )
            .into());
        }
        if missing == 0 {
            log::info!("mempool: {available} of {capacity} buffers are back");
        } else {
            log::info!(
                "mempool: {available} of {capacity} buffers are back, the other {missing} are the fill \
                 rings of net_af_xdp, which never returns them"
            );
        }
        if let Err(error) = self.eal.cleanup() {
            log::debug!("EAL: {error}");
            if let Err(error) = remove_own_runtime(&self.prefix) {
                log::warn!("DPDK's run-time files stay: {error}");
            }
        }
        Ok(())
    }
}

/// Real servers in all: each may be a neighbour.
fn real_servers(config: &Config) -> usize {
    config
        .virtual_servers
        .iter()
        .map(|service| service.real_servers.len())
        .sum()
}

/// CPUs and memory for this configuration on this machine.
fn plan(config: &Config) -> Result<(Cpus, Memory), Error> {
    let global = &config.global;
    let wanted: Option<Vec<usize>> = global
        .worker_cores
        .as_ref()
        .map(|cores| cores.iter().map(|core| usize::from(*core)).collect());
    let cpus = Cpus::resolve(
        usize::from(global.control_core),
        wanted.as_deref(),
        global.idle == config::Idle::Busy,
        &allowed_cpus(),
    )?;
    let mtu = config
        .ports
        .iter()
        .map(|port| port.mtu)
        .max()
        .unwrap_or(1500);
    let hugepages = match global.hugepages {
        Some(true) => Hugepages::Yes,
        Some(false) => Hugepages::No,
        None => Hugepages::Auto,
    };
    resources::check_connections(global.connections, resources::available_memory())?;
    let queues: u32 = config
        .ports
        .iter()
        .map(|port| {
            let each = port.rx_queues.unwrap_or(cpus.workers.len() as u16);
            port.devices.len() as u32 * u32::from(each)
        })
        .sum();
    let memory = Memory::plan(mtu, queues, global.memory, hugepages, free_hugepages())?;
    Ok((cpus, memory))
}

fn start_eal(
    config: &Config,
    cpus: &Cpus,
    memory: Memory,
    prefix: &str,
) -> Result<&'static Eal, Error> {
    for path in remove_stale_runtime(prefix)? {
        log::info!("removed {}, left by a process that died", path.display());
    }
    if !memory.hugepages && config.global.hugepages.is_none() {
        log::info!(
            "no hugepages: using ordinary memory, which is slower; 'scripts/hugepages' reserves some"
        );
    }
    let devices: Vec<String> = config
        .ports
        .iter()
        .flat_map(|port| port.devices.iter().cloned())
        .collect();
    let arguments = EalPlan {
        prefix,
        cpus,
        memory,
        hugetlbfs: hugetlbfs_mounted(),
        devices: &devices,
        extra: &config.global.eal_args,
    }
    .arguments();
    log::debug!("EAL: {}", arguments.join(" "));
    Eal::init(&arguments).map_err(|error| {
        format!(
            "DPDK does not start ({error}); check that each [port] device exists and can be used: {}",
            devices.join("; ")
        )
        .into()
    })
}

/// Refuses netdevs that would go on speaking for themselves; they are silenced once EAL is up.
/// Each comes with the index of its port.
fn inspect_underlying(
    config: &Config,
    linux: &Linux,
    take_over: bool,
) -> Result<Vec<(usize, Underlying)>, Error> {
    let view = linux.view();
    let mut found = Vec::new();
    for (index, port) in config.ports.iter().enumerate() {
        for beneath in port
            .devices
            .iter()
            .filter_map(|device| Underlying::of(device))
        {
            match beneath.inspect(&view, port.kernel_interface.as_deref()) {
                Ok(()) => {}
                Err(Unusable::HasAddresses { .. }) if take_over => {}
                Err(unusable) => {
                    return Err(format!("[port {}] device: {unusable}", port.name).into());
                }
            }
            found.push((index, beneath));
        }
    }
    Ok(found)
}

fn open_taps(config: &[PortConfig], ports: &[OpenPort]) -> Result<Vec<Option<Tap>>, Error> {
    let mut taps = Vec::new();
    for (config, port) in config.iter().zip(ports) {
        let Some(name) = &config.kernel_interface else {
            taps.push(None);
            continue;
        };
        let tap = Tap::open(name, port.mac, port.mtu)
            .map_err(|error| format!("[port {}] kernel_interface: {error}", port.name))?;
        if let Err(error) = sysctl::prepare_port(name) {
            log::warn!("port {}: {error}", port.name);
        }
        taps.push(Some(tap));
    }
    Ok(taps)
}

fn bind(ports: &[OpenPort], taps: &[Option<Tap>]) -> Vec<PortBinding> {
    ports
        .iter()
        .zip(taps)
        .map(|(port, tap)| PortBinding {
            port: port.id,
            name: port.name.clone(),
            interface: tap.as_ref().map(Tap::index),
            mac: port.mac,
            mtu: port.mtu,
            up: true,
            queues: port.rx_queues,
            virtual_macs: Vec::new(),
        })
        .collect()
}

fn start_slow_path(
    slow_path: SlowPath<Punts, Injector>,
    stop: &Arc<AtomicBool>,
) -> std::io::Result<JoinHandle<()>> {
    let stop = Arc::clone(stop);
    supervise("slow-path", slow_path, move |slow_path| {
        slow_path.run(&stop);
    })
}

/// Keeps tables and buffers in memory: a page fault on a worker would cost more than a thousand
/// packets. The tables were touched when they were built. (They need no `MADV_DONTFORK`: this
/// process never forks, the command process was started before they existed.)
fn lock_memory() {
    if let Err(error) = rustix::mm::mlockall(rustix::mm::MlockAllFlags::CURRENT) {
        log::warn!("cannot lock memory, a worker may be delayed by page faults: {error}");
    }
}

/// Runs `work` on a thread of its own; a panic in it is reported and the work goes on.
fn supervise<T: Send + 'static>(
    name: &'static str,
    mut state: T,
    work: impl Fn(&mut T) + Send + 'static,
) -> std::io::Result<JoinHandle<()>> {
    std::thread::Builder::new()
        .name(name.to_owned())
        .spawn(move || {
            // The state is left as the panic left it: tables and rings stay whole at every step.
            while catch_unwind(AssertUnwindSafe(|| work(&mut state))).is_err() {
                log::error!("the {name} thread panicked; it starts again");
                std::thread::sleep(Duration::from_millis(100));
            }
        })
}
