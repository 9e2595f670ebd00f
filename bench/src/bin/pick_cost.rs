//! What one wlc choice among 100 real servers costs, for three layouts of the connection counts.
//!
//! - *live*: a cache line per server and worker, all summed at each choice (what Sluice had);
//! - *line*: a cache line per server and worker, with what the others have beside the own count;
//! - *array*: [`dataplane::connection_counts`], 16 bytes per server side by side (what Sluice has).
//!
//! *warm*: one service, choice after choice. *cold*: 8 MiB of other memory is read before each
//! choice. The least of many short runs counts (of the cold choices the median), because other
//! programs only ever make it slower.
//! Last: what control needs to share the counts of 100 000 servers among 4 workers.

use dataplane::address::{Family, Protocol};
use dataplane::connection::Millis;
use dataplane::connection_counts::CountTable;
use dataplane::scheduler::{MaglevTables, Request, SchedulerFlags, SchedulerKind};
use dataplane::service::{
    Forward, NoServer, RealId, RealServer, RealShared, Serve, ServerList, ServiceId, ServiceKey,
    ServiceShared, VirtualService,
};
use dataplane::verdict::WorkerId;
use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

const SERVERS: usize = 100;
const WORKER: WorkerId = WorkerId(0);

fn main() {
    println!("wlc among {SERVERS} servers, ns per choice");
    println!(
        "{:<8} {:>7} {:>7} {:>7}",
        "layout", "workers", "warm", "cold"
    );
    for workers in [1, 4] {
        for (name, mut choose) in [
            ("live", cells(workers, Layout::Live)),
            ("line", cells(workers, Layout::Line)),
            ("array", array(workers)),
        ] {
            let warm = least_of(500, || warm(&mut choose));
            let cold = cold(&mut choose);
            println!("{name:<8} {workers:>7} {warm:>7.0} {cold:>7.0}");
        }
    }
    let services: Vec<_> = (0..1_000).map(|_| service(4)).collect();
    let share = || {
        let start = Instant::now();
        services.iter().for_each(VirtualService::share_counts);
        start.elapsed().as_secs_f64() * 1e3
    };
    let still = least_of(30, share);
    let moved = least_of(30, || {
        for service in &services {
            for server in &service.list.servers {
                server.shared.counts(WORKER).bind(true);
            }
        }
        share()
    });
    println!("sharing 100 000 servers among 4 workers: {still:.2} ms, all changed {moved:.2} ms");
}

fn least_of(runs: u32, mut run: impl FnMut() -> f64) -> f64 {
    (0..runs).map(|_| run()).fold(f64::MAX, f64::min)
}

type Choose = Box<dyn FnMut()>;

fn warm(choose: &mut Choose) -> f64 {
    const CHOICES: u32 = 500;
    let start = Instant::now();
    (0..CHOICES).for_each(|_| choose());
    start.elapsed().as_secs_f64() * 1e9 / f64::from(CHOICES)
}

fn cold(choose: &mut Choose) -> f64 {
    const CHOICES: u32 = 400;
    let other: Vec<AtomicU64> = (0..1 << 20).map(AtomicU64::new).collect();
    let mut clock = Duration::MAX;
    let mut spent = Vec::new();
    for _ in 0..CHOICES {
        let sum: u64 = other
            .iter()
            .step_by(8)
            .fold(0, |sum, word| sum ^ word.load(Relaxed));
        black_box(sum);
        let start = Instant::now();
        clock = clock.min(start.elapsed());
        let start = Instant::now();
        choose();
        spent.push(start.elapsed());
    }
    spent.sort_unstable();
    let median = spent[spent.len() / 2];
    median.saturating_sub(clock).as_secs_f64() * 1e9
}

fn service(workers: u8) -> VirtualService {
    let mut table = CountTable::new(usize::from(workers));
    table.reserve(SERVERS);
    let servers = (0..SERVERS as u32).map(|id| RealServer {
        id: RealId(id),
        address: IpAddr::V4(Ipv4Addr::from(0x0a00_0200 + id)),
        port: 80,
        weight: 1 + id % 7,
        forward: Forward::Dr,
        upper_threshold: 0,
        lower_threshold: 0,
        shared: RealShared::with_counts(usize::from(workers), table.take()),
    });
    let tables = &mut MaglevTables::default();
    VirtualService {
        id: ServiceId(0),
        key: ServiceKey::new(Protocol::Tcp, IpAddr::V4(Ipv4Addr::new(10, 0, 1, 50)), 80),
        name: "web".into(),
        scheduler: SchedulerKind::Wlc,
        scheduler_flags: SchedulerFlags::NONE,
        list: ServerList::rebuilt_for(
            SchedulerKind::Wlc,
            Family::V4,
            None,
            servers.collect(),
            tables,
        ),
        serve: Serve::Always,
        no_server: NoServer::Unreachable,
        persistence: None,
        one_packet: false,
        ever_translated: false,
        shared: ServiceShared::new(usize::from(workers)),
    }
}

fn array(workers: u8) -> Choose {
    let service = service(workers);
    Box::new(move || {
        let request = Request {
            list: &service.list,
            cell: service.shared.scheduler(WORKER),
            worker: WORKER,
            workers,
            source: (1, 2),
            destination: (3, 4),
            excluded: &[],
            flags: service.scheduler_flags,
            address: Ipv4Addr::new(10, 0, 1, 50).into(),
            localities: service.shared.localities(),
            now: Millis(0),
        };
        if let Some(index) = service.scheduler.pick(black_box(&request)) {
            service.list.servers[index].shared.counts(WORKER).bind(true);
        }
    })
}

#[derive(Clone, Copy)]
enum Layout {
    Live,
    Line,
}

/// Two lines, as `CachePadded` has it: the processor fetches lines in pairs.
#[derive(Default)]
#[repr(align(128))]
struct Cell {
    active: AtomicU64,
    inactive: AtomicU64,
    others: AtomicU64,
}

struct Shared {
    cells: Box<[Cell]>,
    overloaded: AtomicBool,
}

/// As large as a [`RealServer`].
struct Server {
    weight: u32,
    shared: Arc<Shared>,
    _rest: [u64; 6],
}

fn cells(workers: u8, layout: Layout) -> Choose {
    let servers: Vec<Server> = (0..SERVERS as u32)
        .map(|id| Server {
            weight: 1 + id % 7,
            shared: Arc::new(Shared {
                cells: (0..workers).map(|_| Cell::default()).collect(),
                overloaded: AtomicBool::new(false),
            }),
            _rest: [0; 6],
        })
        .collect();
    Box::new(move || {
        let (mut best, mut least, mut its_weight) = (None, 1, 0);
        for server in black_box(&servers) {
            let shared = &server.shared;
            if server.weight == 0 || shared.overloaded.load(Relaxed) {
                continue;
            }
            let (active, inactive) = match layout {
                Layout::Live => shared
                    .cells
                    .iter()
                    .fold((0, 0), |(active, inactive), cell| {
                        (
                            active + cell.active.load(Relaxed),
                            inactive + cell.inactive.load(Relaxed),
                        )
                    }),
                Layout::Line => {
                    let cell = &shared.cells[usize::from(WORKER.0)];
                    let active = cell.active.load(Relaxed) + cell.others.load(Relaxed);
                    (active, cell.inactive.load(Relaxed))
                }
            };
            let overhead = 257 * active + inactive;
            let weight = u64::from(server.weight);
            if least * weight > overhead * its_weight {
                (best, least, its_weight) = (Some(shared), overhead, weight);
            }
        }
        if let Some(shared) = best {
            let active = &shared.cells[usize::from(WORKER.0)].active;
            active.store(active.load(Relaxed) + 1, Relaxed);
        }
    })
}
