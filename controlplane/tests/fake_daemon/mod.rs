//! A daemon that answers the admin API with fixed values, for the tests of both ends.

use controlplane::admin::access::AccessGroups;
use controlplane::admin::api::{
    ActiveRouter, Connection, ConnectionFilter, Connections, Counters, Deleted, Done, Forward,
    IpvsBatch, IpvsCommand, IpvsKey, IpvsOutcomes, IpvsQuery, IpvsRates, IpvsRefusal, IpvsServer,
    IpvsServerKey, IpvsServerSettings, IpvsService, IpvsSettings, IpvsTables, IpvsTimeouts,
    LastReload, LastTransition, Mail, MaintenanceRequest, Mempool, Occupancy, Owner, Port,
    Protocol, Rates, RealServer, RealState, ReleaseRequest, ReloadReport, ReloadRequest, Service,
    Services, Stats, StatsSet, Status, Steering, SteeringWay, Table, VirtualRouter, Vrrp, Worker,
    WorkerStats,
};
use controlplane::admin::backend::{Backend, BackendError};
use controlplane::admin::server;
use controlplane::admin::socket::AdminSocket;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tempfile::TempDir;
use tokio::sync::oneshot;

/// What the fake answers and what it was asked.
#[derive(Debug, Default)]
pub(crate) struct Fake {
    pub(crate) refuse_reload: AtomicBool,
    pub(crate) panic_in_status: AtomicBool,
    pub(crate) unavailable: AtomicBool,
    pub(crate) slow_reload: AtomicBool,
    pub(crate) reloads: AtomicU64,
    pub(crate) deleted: Mutex<Vec<ConnectionFilter>>,
    pub(crate) discarded: AtomicBool,
    pub(crate) maintenance: AtomicBool,
    pub(crate) batches: Mutex<Vec<IpvsBatch>>,
}

impl Backend for Fake {
    async fn status(&self) -> Result<Status, BackendError> {
        assert!(!self.panic_in_status.load(SeqCst), "a bug in the daemon");
        Ok(status())
    }

    async fn services(&self) -> Result<Services, BackendError> {
        if self.unavailable.load(SeqCst) {
            return Err(BackendError::Unavailable("the daemon is starting".into()));
        }
        Ok(services())
    }

    async fn stats(&self) -> Result<Stats, BackendError> {
        Ok(stats())
    }

    async fn connections(&self, filter: ConnectionFilter) -> Result<Connections, BackendError> {
        Ok(Connections::select(connections(), &filter))
    }

    async fn delete_connections(&self, filter: ConnectionFilter) -> Result<Deleted, BackendError> {
        let deleted = Connections::select(connections(), &filter).total;
        self.deleted.lock().unwrap().push(filter);
        Ok(Deleted { deleted })
    }

    async fn ipvs(&self, _: IpvsQuery) -> Result<IpvsTables, BackendError> {
        Ok(tables())
    }

    async fn change_ipvs(&self, batch: IpvsBatch) -> Result<IpvsOutcomes, BackendError> {
        let refusals = batch.commands.iter().map(|command| match command {
            IpvsCommand::AddService { service, .. } => {
                (service.port == 80).then_some(IpvsRefusal::ServiceExists)
            }
            IpvsCommand::DeleteService { .. } => Some(IpvsRefusal::NoSuchService),
            _ => None,
        });
        let refusals = refusals.collect();
        self.batches.lock().unwrap().push(batch);
        Ok(IpvsOutcomes { refusals })
    }

    async fn vrrp(&self) -> Result<Vrrp, BackendError> {
        Ok(vrrp(self.maintenance.load(SeqCst)))
    }

    async fn release(&self, request: ReleaseRequest) -> Result<Done, BackendError> {
        match request.router.as_str() {
            "VI_1" => Ok(Done {
                message: "VI_1: yields to a peer".into(),
            }),
            "VI_6" => Err(BackendError::Refused("VI_6 is not MASTER but FAULT".into())),
            other => Err(BackendError::NotFound(format!(
                "there is no virtual router '{other}'; there are VI_1, VI_6"
            ))),
        }
    }

    async fn maintenance(&self, request: MaintenanceRequest) -> Result<Done, BackendError> {
        self.maintenance.store(request.on, SeqCst);
        Ok(Done {
            message: format!("maintenance is {}", if request.on { "on" } else { "off" }),
        })
    }

    async fn reload(&self, request: ReloadRequest) -> Result<ReloadReport, BackendError> {
        self.discarded.store(request.discard_overrides, SeqCst);
        if self.slow_reload.load(SeqCst) {
            tokio::time::sleep(Duration::from_millis(300)).await;
        }
        self.reloads.fetch_add(1, SeqCst);
        Ok(reload(!self.refuse_reload.load(SeqCst)))
    }
}

/// A served fake; dropping it stops it.
#[derive(Debug)]
pub(crate) struct Daemon {
    pub(crate) fake: Arc<Fake>,
    pub(crate) socket: PathBuf,
    pub(crate) directory: TempDir,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Daemon {
    pub(crate) fn start() -> Self {
        Self::start_with(AccessGroups::default())
    }

    pub(crate) fn start_with(groups: AccessGroups) -> Self {
        let directory = tempfile::tempdir().unwrap();
        // Other users must get as far as the socket's own permissions.
        let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(directory.path(), open).unwrap();
        let socket = directory.path().join("admin.sock");
        let fake = Arc::new(Fake::default());
        let bound = AdminSocket::bind(&socket, groups).unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let backend = Arc::clone(&fake);
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            let shutdown = async { drop(stopped.await) };
            runtime
                .block_on(server::serve(bound, groups, backend, shutdown))
                .unwrap();
        });
        Self {
            fake,
            socket,
            directory,
            stop: Some(stop),
            thread: Some(thread),
        }
    }

    /// Stops serving and waits for it.
    pub(crate) fn stop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.stop();
    }
}

pub(crate) fn status() -> Status {
    Status {
        version: "0.1.0".into(),
        pid: 4711,
        router_id: "lb1".into(),
        started: 1_700_000_000,
        uptime_seconds: 11_520,
        config_file: "/etc/sluice/sluice.ini".into(),
        config_epoch: 3,
        last_reload: Some(LastReload {
            at: 1_700_011_455,
            ok: true,
            message: "2 services changed".into(),
        }),
        idle: "adaptive".into(),
        hugepage_bytes: 2 << 30,
        steering: Steering {
            way: SteeringWay::Software,
            redirected: 12,
        },
        table: table(1_234_567, 4_000_000),
        workers: vec![
            Worker {
                id: 0,
                cpu: 2,
                heartbeat: 99,
                services_epoch: 5,
                forwarding_epoch: 17,
                table: table(617_000, 2_000_000),
                busy_percent: Some(43.2),
                redirected_out: 12,
                ..Worker::default()
            },
            Worker {
                id: 1,
                cpu: 3,
                services_epoch: 5,
                forwarding_epoch: 17,
                table: table(617_567, 2_000_000),
                busy_percent: Some(41.0),
                redirected_in: 12,
                ..Worker::default()
            },
        ],
        ports: vec![Port {
            name: "lan".into(),
            devices: vec!["net_af_xdp0,iface=eth1".into()],
            driver: "net_af_xdp".into(),
            mac: "02:00:00:00:00:01".into(),
            mtu: 1500,
            link_up: true,
            kernel_interface: Some("lan".into()),
            rx_queues: 1,
            steering: SteeringWay::Software,
            rx_packets: 1_000_000,
            rx_bytes: 64_000_000,
            tx_packets: 999_000,
            tx_bytes: 63_900_000,
            ..Port::default()
        }],
        mempools: vec![Mempool {
            name: "mbufs0".into(),
            capacity: 65_535,
            available: 65_000,
        }],
        warnings: vec!["no hugepages reserved on node 1".into()],
        ..Status::default()
    }
}

/// IPv4 connections, and room for a quarter as many of IPv6.
fn table(connections: u64, capacity: u64) -> Table {
    Table {
        ipv4: Occupancy {
            connections,
            capacity,
        },
        ipv6: Occupancy {
            connections: 0,
            capacity: capacity / 4,
        },
    }
}

pub(crate) fn services() -> Services {
    let real = |name: &str, address: &str, active, inactive| RealServer {
        name: name.into(),
        address: address.parse().unwrap(),
        port: 80,
        forward: Forward::Dr,
        weight: 1,
        configured_weight: 1,
        lower_threshold: 0,
        upper_threshold: 0,
        overloaded: false,
        persistent: 0,
        active,
        inactive,
        state: RealState::Up,
        counters: Counters::default(),
    };
    Services {
        services: vec![
            Service {
                name: "web".into(),
                protocol: Protocol::Tcp,
                address: "10.0.1.50".parse().unwrap(),
                port: 80,
                fwmark: None,
                scheduler: "rr".into(),
                flags: vec![],
                forward: Forward::Dr,
                served: true,
                why: String::new(),
                active: 0,
                inactive: 3,
                counters: Counters {
                    connections: 3,
                    in_packets: 15,
                    out_packets: 0,
                    in_bytes: 809,
                    out_bytes: 0,
                },
                unserved: 2,
                real_servers: vec![
                    real("a", "10.0.1.11", 0, 3),
                    RealServer {
                        state: RealState::Drained,
                        weight: 0,
                        ..real("b", "10.0.1.12", 0, 0)
                    },
                    RealServer {
                        weight: 5,
                        upper_threshold: 10,
                        overloaded: true,
                        persistent: 0,
                        forward: Forward::Nat,
                        ..real("c", "10.0.1.13", 10, 123_456)
                    },
                ],
            },
            Service {
                name: "dns6".into(),
                protocol: Protocol::Udp,
                address: "2001:db8::50".parse().unwrap(),
                port: 53,
                fwmark: None,
                scheduler: "wrr".into(),
                flags: vec![
                    "persistent".into(),
                    "300".into(),
                    "mask".into(),
                    "64".into(),
                ],
                forward: Forward::Nat,
                served: false,
                why: "the address is not on this box".into(),
                active: 0,
                inactive: 0,
                counters: Counters::default(),
                unserved: 0,
                real_servers: vec![],
            },
        ],
    }
}

/// One service with one server.
pub(crate) fn tables() -> IpvsTables {
    IpvsTables {
        timeouts: IpvsTimeouts {
            tcp: 900,
            tcp_fin: 120,
            udp: 300,
        },
        services: vec![IpvsService {
            key: IpvsKey {
                fwmark: None,
                protocol: Protocol::Tcp,
                address: "10.0.1.50".parse().unwrap(),
                port: 80,
            },
            settings: IpvsSettings {
                scheduler: "rr".into(),
                ..IpvsSettings::default()
            },
            owner: Owner::File,
            counters: Counters::default(),
            rates: IpvsRates::default(),
            servers: vec![IpvsServer {
                key: IpvsServerKey {
                    address: "10.0.1.11".parse().unwrap(),
                    port: 80,
                },
                settings: IpvsServerSettings::default(),
                owner: Owner::File,
                active: 2,
                inactive: 3,
                persistent: 0,
                counters: Counters::default(),
                rates: IpvsRates::default(),
            }],
        }],
    }
}

pub(crate) fn stats() -> Stats {
    let named = |pairs: &[(&str, u64)]| -> BTreeMap<String, u64> {
        pairs
            .iter()
            .map(|(name, value)| ((*name).to_owned(), *value))
            .collect()
    };
    Stats {
        at: 1_700_011_520,
        rates: Rates {
            interval_seconds: 1.0,
            rx_pps: 1_500_000.0,
            tx_pps: 1_499_000.0,
            rx_bps: 768e6,
            tx_bps: 767e6,
            cps: 12_300.0,
            drop_pps: 0.0,
        },
        total: StatsSet {
            events: named(&[("rx_packets", 1_000_000), ("sleeps", 0)]),
            drops: named(&[("no_server", 7), ("multicast", 120), ("frame", 0)]),
            punts: named(&[("arp", 4)]),
        },
        workers: vec![WorkerStats {
            id: 0,
            counters: StatsSet {
                drops: named(&[("no_server", 7)]),
                ..StatsSet::default()
            },
        }],
        slow_path: named(&[("tap_written", 4), ("tap_errors", 0)]),
    }
}

pub(crate) fn vrrp(maintenance: bool) -> Vrrp {
    let counters = [("adverts_sent", 1_234), ("bad_ttl", 2), ("bad_length", 0)];
    let one = VirtualRouter {
        name: "VI_1".into(),
        group: Some("both".into()),
        interface: "lan".into(),
        version: 2,
        virtual_router_id: 51,
        state: "MASTER".into(),
        priority: 101,
        effective_priority: 81,
        active: Some(ActiveRouter {
            address: "10.0.1.1".parse().unwrap(),
            priority: 81,
        }),
        advert_interval_ms: 1000,
        active_advert_interval_ms: 1000,
        skew_ms: 683,
        active_down_interval_ms: 3683,
        next_ms: Some(420),
        addresses: vec!["10.0.1.50".parse().unwrap(), "10.0.1.51".parse().unwrap()],
        last_transition: Some(LastTransition {
            to: "MASTER".into(),
            why: "no advertisement for 3.683 s".into(),
            ago_ms: 65_000,
        }),
        counters: counters
            .map(|(name, value)| (name.to_owned(), value))
            .into(),
        ..VirtualRouter::default()
    };
    let six = VirtualRouter {
        name: "VI_6".into(),
        interface: "lan".into(),
        version: 3,
        virtual_router_id: 51,
        state: "FAULT".into(),
        faults: vec!["interface lan is down".into()],
        priority: 100,
        effective_priority: 100,
        advert_interval_ms: 100,
        active_advert_interval_ms: 100,
        skew_ms: 60,
        active_down_interval_ms: 360,
        ..VirtualRouter::default()
    };
    Vrrp {
        at: 1_700_011_520,
        maintenance,
        restarts: 0,
        routers: vec![one, six],
        mail: Mail {
            sent: 3,
            ..Mail::default()
        },
        ..Vrrp::default()
    }
}

pub(crate) fn connections() -> Vec<Connection> {
    let connection = |client: &str, state: &str, real: &str, destination: &str| Connection {
        protocol: Protocol::Tcp,
        state: state.into(),
        expires_seconds: 899,
        client: client.parse().unwrap(),
        vip: "10.0.1.50:80".parse().unwrap(),
        destination: destination.parse().unwrap(),
        service: "web".into(),
        real: real.into(),
        worker: 0,
        packets: 7,
        template: false,
        pe_data: None,
        forward: Forward::Dr,
    };
    vec![
        connection("10.0.1.100:57886", "ESTABLISHED", "a", "10.0.1.11:80"),
        connection("10.0.1.100:57888", "FIN_WAIT", "b", "10.0.1.12:80"),
        connection("10.0.1.101:40000", "ESTABLISHED", "a", "10.0.1.11:80"),
    ]
}

pub(crate) fn reload(ok: bool) -> ReloadReport {
    if ok {
        ReloadReport {
            ok,
            message: "reloaded, epoch 4".into(),
            config_epoch: 4,
            errors: vec![],
            warnings: vec!["sluice.ini:9: [global] idle: busy on a shared CPU".into()],
            changes: vec!["virtual_server web: scheduler rr -> wrr".into()],
        }
    } else {
        ReloadReport {
            ok,
            message: "refused, nothing changed".into(),
            config_epoch: 3,
            errors: vec![
                "sluice.ini:12: [virtual_server web] scheduler: unknown 'rrr'; expected rr".into(),
            ],
            warnings: vec![],
            changes: vec![],
        }
    }
}
