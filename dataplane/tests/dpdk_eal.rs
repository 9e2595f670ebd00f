//! Starting EAL, its lcores, and shutting it down. One test, because the order is the point.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use dataplane::buffer::PacketBuffer as _;
use dataplane::dpdk::{
    Eal, EalError, LaunchError, LcoreId, Mempool, Port, PortError, Ring, launch,
    remove_stale_runtime, tsc,
};

mod dpdk_support;

#[test]
fn eal_starts_once_runs_workers_and_stops_only_when_nothing_is_left() {
    assert!(matches!(
        Mempool::create("early", 63, 0, Mempool::DATA_ROOM, None),
        Err(dataplane::dpdk::MempoolError::Eal(EalError::NotInitialised))
    ));
    assert!(matches!(
        Port::by_name("net_null0"),
        Err(PortError::Eal(EalError::NotInitialised))
    ));

    // Two worker lcores that share the first CPU we may use: works on a machine with one.
    let cpus = rustix::thread::sched_getaffinity(None).expect("own CPU set");
    let first = (0..1024)
        .find(|&cpu| cpus.is_set(cpu))
        .expect("at least one CPU");
    let lcores = format!("(0-2)@{first}");
    let eal = dpdk_support::eal("eal", &["--lcores", &lcores]);

    let after = rustix::thread::sched_getaffinity(None).expect("own CPU set");
    assert_eq!(cpus, after, "EAL's pinning of its caller is undone");
    assert!(matches!(Eal::init(&[]), Err(EalError::AlreadyInitialised)));
    assert!(
        remove_stale_runtime("rte").is_err(),
        "never under a running EAL"
    );
    assert!(eal.version().starts_with("DPDK 22.11"));

    // A frequency that makes sense, and a clock that advances.
    assert!(eal.tsc_hz() > 100_000_000);
    let start = tsc();
    std::thread::sleep(std::time::Duration::from_millis(5));
    assert!(tsc() - start > eal.tsc_hz() / 1000);

    // Workers.
    let workers = eal.lcores();
    assert_eq!(
        workers
            .iter()
            .map(|lcore| lcore.number())
            .collect::<Vec<_>>(),
        [1, 2]
    );
    assert_eq!(eal.socket_id(workers[0]), 0);
    let pool = Mempool::create_packed("cached", 511, 64, Mempool::DATA_ROOM, None).expect("pool");

    // One buffer directly behind the other: net_af_xdp takes that for granted.
    let mut packets: Vec<_> = std::iter::from_fn(|| pool.alloc()).collect();
    assert_eq!(packets.len(), 511);
    packets.sort_by_key(|packet| packet.data().as_ptr().addr());
    let starts: Vec<_> = packets.iter().map(|p| p.data().as_ptr().addr()).collect();
    let size = starts[1] - starts[0];
    assert!(starts.windows(2).all(|pair| pair[1] - pair[0] == size));
    // The mbuf, DPDK's header and its padding; not a page of 4 KB for each.
    assert!(size < usize::from(Mempool::DATA_ROOM) + 512, "{size}");
    drop(packets);
    assert!(pool.is_full());

    let sum = Arc::new(AtomicU32::new(0));
    let running: Vec<_> = workers
        .iter()
        .map(|&lcore| {
            let sum = Arc::clone(&sum);
            launch(lcore, move || {
                let here = LcoreId::current().expect("on an lcore");
                sum.fetch_add(here.number(), Ordering::Relaxed);
                // Leaves buffers in this lcore's cache.
                drop(dpdk_support::frames::<32>(pool, 32));
            })
            .expect("an idle lcore")
        })
        .collect();
    running.into_iter().for_each(dataplane::dpdk::Running::join);
    assert_eq!(sum.load(Ordering::Relaxed), 3);
    assert!(pool.is_full(), "buffers in the caches count as free");

    let (wake, wait) = std::sync::mpsc::channel::<()>();
    let busy =
        launch(workers[0], move || while wait.recv().is_ok() {}).expect("free again after join");
    assert!(
        matches!(launch(workers[0], || ()), Err(LaunchError::Busy(lcore)) if lcore == workers[0])
    );
    assert!(!busy.is_finished());

    // Shutting down.
    let (producer, consumer) = Ring::create("left", 8).expect("ring");
    let mbuf = pool.alloc().expect("buffer");
    assert!(matches!(
        eal.cleanup(),
        Err(EalError::InUse {
            mbufs: 1,
            leases: 2
        })
    ));
    drop(mbuf);
    assert!(matches!(
        eal.cleanup(),
        Err(EalError::InUse {
            mbufs: 0,
            leases: 2
        })
    ));
    drop((producer, consumer));
    drop(wake);
    busy.join();
    assert!(pool.is_full());
    eal.cleanup().expect("nothing left");
    assert!(matches!(eal.cleanup(), Err(EalError::ShutDown)));
    assert!(pool.alloc().is_none());
    assert!(matches!(
        Ring::create("late", 8),
        Err(dataplane::dpdk::RingError::Eal(EalError::ShutDown))
    ));
}
