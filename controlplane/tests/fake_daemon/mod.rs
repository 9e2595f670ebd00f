//! A daemon that answers the admin API with fixed values, for the tests of both ends.

use controlplane::admin::access::AccessGroups;
use controlplane::admin::api::{
    Connection, ConnectionFilter, Connections, Counters, Deleted, Forward, LastReload, Mempool,
    Port, Protocol, Rates, RealServer, RealState, ReloadReport, Service, Services, Stats, StatsSet,
    Status, Steering, SteeringWay, Table, Worker, WorkerStats,
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

    async fn reload(&self) -> Result<ReloadReport, BackendError> {
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
        table: Table {
            connections: 1_234_567,
            capacity: 4_000_000,
        },
        workers: vec![
            Worker {
                id: 0,
                cpu: 2,
                heartbeat: 99,
                services_epoch: 5,
                forwarding_epoch: 17,
                connections: 617_000,
                capacity: 2_000_000,
                busy_percent: Some(43.2),
                redirected_out: 12,
                ..Worker::default()
            },
            Worker {
                id: 1,
                cpu: 3,
                services_epoch: 5,
                forwarding_epoch: 17,
                connections: 617_567,
                capacity: 2_000_000,
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
