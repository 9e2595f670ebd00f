//! Bringing the daemon up, and taking it down in the opposite order.

use super::arguments::Arguments;
use super::beneath::{self, Beneath};
use super::devices::{self, OpenPort};
use super::ipvs::Objects;
use super::linux::Linux;
use super::rates::RateWindow;
use super::redundancy::{self, DriverSlot};
use super::resources::{
    self, Capacity, Cpus, EalPlan, Hugepages, Memory, allowed_cpus, free_hugepages,
    hugetlbfs_mounted,
};
use super::rings::{self, Injector, Punts, WorkerEnds};
use super::run::Signals;
use super::template_memory::TemplateMemory;
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
use dataplane::connection::TableMemory;
use dataplane::counters::WorkerCounters;
use dataplane::dpdk::{
    Eal, Mempool, Running as Lcore, launch, remove_own_runtime, remove_stale_runtime,
};
use dataplane::pipeline::{Parts, Pipeline};
use dataplane::template::Templates;
use dataplane::verdict::{Neighbour, WorkerId};
use dataplane::worker::{IdleSwitch, Worker};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};
use tokio::runtime::Runtime;
use tokio::sync::mpsc;

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
    pub(super) reloads: mpsc::Receiver<super::ReloadRequest>,
    pub(super) socket: Option<AdminSocket>,
    pub(super) groups: AccessGroups,
    /// `None` = there is no port.
    pub(super) eal: Option<&'static Eal>,
    /// EAL's file prefix.
    pub(super) prefix: String,
    pub(super) workers: Vec<Lcore>,
    pub(super) stop_workers: Arc<AtomicBool>,
    pub(super) threads: Vec<JoinHandle<()>>,
    pub(super) stop_slow_path: Arc<AtomicBool>,
    pub(super) signals: Signals,
    /// `None` = there is no port.
    pub(super) beneath: Option<Beneath>,
    pub(super) _locks: InstanceLocks,
}

/// What every daemon begins with: that it is the only one, who may ask it, a command process and a runtime.
pub(super) struct Base {
    pub(super) prefix: String,
    pub(super) locks: InstanceLocks,
    pub(super) groups: AccessGroups,
    pub(super) socket: AdminSocket,
    pub(super) commands: Arc<CommandProcess>,
    pub(super) runtime: Runtime,
}

impl Base {
    /// Its threads have the CPUs of the calling one.
    pub(super) fn take(config: &Config) -> Result<Self, Error> {
        let global = &config.global;
        let prefix = resources::eal_prefix(&global.admin_socket, &global.eal_args);
        let locks = InstanceLocks::acquire(&global.admin_socket, &prefix)?;
        let groups = AccessGroups::resolve(&global.admin_group, &global.monitor_group);
        let socket = AdminSocket::bind(&global.admin_socket, groups)?;
        redundancy::remove_leftovers(config);
        let commands = CommandProcess::start()
            .map_err(|error| format!("cannot start the command process: {error}"))?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .thread_name("control")
            .enable_all()
            .build()?;
        Ok(Self {
            prefix,
            locks,
            groups,
            socket,
            commands: Arc::new(commands),
            runtime,
        })
    }
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
    let (cpus, memory, capacity) = plan(config)?;
    let global = &config.global;
    // Every thread of the control plane inherits this.
    core_affinity::set_for_current(core_affinity::CoreId { id: cpus.control });
    let Base {
        prefix,
        locks,
        groups,
        socket,
        commands,
        runtime,
    } = Base::take(config)?;
    let signals = runtime.block_on(async { Signals::catch() })?;
    runtime.block_on(beneath::undo_left_behind(&prefix));
    let mut linux = runtime
        .block_on(Linux::connect())
        .map_err(|error| format!("cannot read the kernel's tables by netlink: {error}"))?;
    let underlying = inspect_underlying(config, &linux, arguments.take_over)?;

    let eal = start_eal(config, &cpus, memory, &prefix)?;
    let devices = config.ports.iter().flat_map(|port| &port.devices);
    let create = if devices.map(String::as_str).any(resources::is_pci) {
        Mempool::create
    } else {
        Mempool::create_packed
    };
    let mempool = create("packets", memory.mbufs, LCORE_CACHE, memory.data_room, None)?;
    if let Err(error) = sysctl::make_room_for_neighbours(real_servers(config)) {
        log::warn!("the kernel's neighbour tables stay small: {error}");
    }
    let (ports, queues) = devices::open(config, cpus.workers.len(), mempool)?;
    let taps = open_taps(&config.ports, &ports)?;
    runtime.block_on(linux.take(bind(&ports, &taps), &taps));
    // From here on a failure must give the interfaces beneath the ports back.
    let mut netdevs = Beneath::new(&linux, &runtime, &prefix);
    if arguments.take_over {
        runtime.block_on(netdevs.take_over(&linux, &underlying, &taps))?;
    }
    netdevs.silence(&underlying)?;
    // Without the VIPs: they come when the workers know the services.
    let without_vips = Config {
        virtual_servers: Vec::new(),
        ..config.clone()
    };
    let warnings = runtime.block_on(linux.apply(&without_vips));

    let objects = Objects::new(translate::desired(config), translate::orphans(config));
    let Start {
        publisher,
        handle,
        readers,
    } = Publisher::start(cpus.workers.len(), objects.desired(), linux.forwarding()());
    let (ends, punts, injector) = rings::create(&queues, ports.len(), mempool)?;
    let asks = Arc::new(ArrayQueue::new(ASKS));
    let stop_workers = Arc::new(AtomicBool::new(false));
    let stop_slow_path = Arc::new(AtomicBool::new(false));
    let idle = Arc::new(IdleSwitch::new(translate::idle(global.idle)));
    // A client with a template has, or has had, a connection.
    let templates = Arc::new(Templates::new(global.connections as usize));
    let template_memory = TemplateMemory {
        templates: Arc::clone(&templates),
        workers: cpus.workers.len(),
        connections: (capacity.v4 + capacity.v6) as usize,
    };
    template_memory.prepare(&objects.desired());
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
        let parts = Parts {
            worker: WorkerId(index as u8),
            workers: cpus.workers.len() as u8,
            services,
            forwarding,
            counters: Arc::clone(&counters),
            asks: Arc::clone(&asks),
            templates: Arc::clone(&templates),
            connections_v4: capacity.v4 as usize,
            connections_v6: capacity.v6 as usize,
            table_memory: if memory.hugepages {
                TableMemory::Reserved
            } else {
                TableMemory::Transparent
            },
        };
        let pipeline = on_cpu(cpus.workers[index], || Pipeline::new(parts));
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
        objects: Mutex::new(objects),
        template_memory,
        capacity,
        idle,
        hugepage_bytes,
        mempool: Some(mempool),
        slow_path: SlowPathStats(slow_path_counters, linux.mirror_counters()),
        rates: Mutex::new(RateWindow::default()),
        state: Mutex::new(State::new(loaded, warnings, ports.len(), handles.len())),
        ports: Mutex::new(ports),
        workers: handles,
        reloads: reload_sender,
        commands,
        driver: DriverSlot::default(),
        maintenance: AtomicBool::new(false),
        mail: Arc::default(),
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
        eal: Some(eal),
        prefix,
        workers,
        stop_workers,
        threads,
        stop_slow_path,
        signals,
        beneath: Some(netdevs),
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
        let counts = mempool.map(|mempool| (mempool.available(), mempool.capacity()));
        self.runtime.shutdown_timeout(Duration::from_secs(1));
        drop(self.socket.take());
        let (Some((available, capacity)), Some(eal)) = (counts, self.eal) else {
            return Ok(());
        };
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
        if let Err(error) = eal.cleanup() {
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

/// CPUs, packet memory and table sizes for this configuration on this machine.
fn plan(config: &Config) -> Result<(Cpus, Memory, Capacity), Error> {
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
    let workers = cpus.workers.len();
    let serves = |family| {
        let services = &config.virtual_servers;
        services.iter().any(|service| {
            let mut addresses = service.addresses.iter();
            (service.fwmark.is_some() && service.family == family)
                || addresses.any(|address| address.is_ipv4() == (family == config::Family::Ipv4))
        })
    };
    let capacity = Capacity::share(
        global.connections,
        workers,
        serves(config::Family::Ipv4),
        serves(config::Family::Ipv6),
    );
    let mut services = config.virtual_servers.iter();
    let persistence = services.any(|service| service.persistence.is_some());
    resources::check_connections(
        global.connections,
        workers,
        capacity,
        resources::besides_tables(global.connections, workers, persistence),
        resources::available_memory(),
    )?;
    let queues: u32 = config
        .ports
        .iter()
        .map(|port| {
            let wanted = port.rx_queues.unwrap_or(cpus.workers.len() as u16);
            let each = |device: &String| u32::from(resources::queues(device, wanted));
            port.devices.iter().map(each).sum::<u32>()
        })
        .sum();
    let memory = Memory::plan(mtu, queues, global.memory, hugepages, free_hugepages())?;
    Ok((cpus, memory, capacity))
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

/// Does `work` on `cpu`: memory it touches for the first time is then of that CPU's NUMA node.
fn on_cpu<T>(cpu: usize, work: impl FnOnce() -> T) -> T {
    let mut only = CpuSet::new();
    only.set(cpu);
    let before = sched_getaffinity(None);
    let moved = before.is_ok() && sched_setaffinity(None, &only).is_ok();
    let done = work();
    if let (Ok(before), true) = (before, moved)
        && let Err(error) = sched_setaffinity(None, &before)
    {
        log::warn!("the control core cannot leave CPU {cpu}: {error}");
    }
    done
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
pub(super) fn supervise<T: Send + 'static>(
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
