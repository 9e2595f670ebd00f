//! What the EAL tests share. EAL starts once per process, so each test file is a process with its own file prefix.

#![allow(dead_code, reason = "each test file uses its own part")]

pub(crate) mod pcap;

use std::sync::OnceLock;

use dataplane::buffer::PacketBuffer;
use dataplane::dpdk::{Burst, Eal, Mempool, RxQueue};

/// EAL without hugepages, NICs and shared files, started by whichever test comes first.
pub(crate) fn eal(name: &str, extra: &[&str]) -> &'static Eal {
    static EAL: OnceLock<&'static Eal> = OnceLock::new();
    EAL.get_or_init(|| {
        let eal = Eal::init(&arguments(name, extra)).expect("EAL starts without hugepages");
        // Without shared files it stays empty; not every test gets to shut EAL down.
        std::fs::remove_dir(eal.runtime_directory()).expect("an empty directory");
        eal
    })
}

pub(crate) fn arguments(name: &str, extra: &[&str]) -> Vec<String> {
    let prefix = format!("--file-prefix=sluice-test-{name}-{}", std::process::id());
    let fixed = [
        "--no-huge",
        "--no-shconf",
        "--no-pci",
        "--no-telemetry",
        "-m",
        "64",
        "--log-level=error",
    ];
    fixed
        .into_iter()
        .chain([prefix.as_str()])
        .chain(extra.iter().copied())
        .map(str::to_owned)
        .collect()
}

pub(crate) fn pool(name: &str, mbufs: u32) -> &'static Mempool {
    Mempool::create(name, mbufs, 0, Mempool::DATA_ROOM, None).expect("a pool fits the memory")
}

/// A burst of `count` frames of 60 bytes; the first byte of each is its number.
pub(crate) fn frames<const N: usize>(pool: &'static Mempool, count: u8) -> Burst<N> {
    let mut burst = Burst::new();
    for number in 0..count {
        let mut mbuf = pool.alloc().expect("the pool has buffers");
        assert!(mbuf.fill(&[number; 60]));
        burst.push(mbuf).expect("the burst has room");
    }
    burst
}

/// First bytes of the frames.
pub(crate) fn numbers<const N: usize>(burst: &Burst<N>) -> Vec<u8> {
    burst.as_slice().iter().map(|mbuf| mbuf.data()[0]).collect()
}

/// Empties a queue and says how many frames were in it.
pub(crate) fn drain(rx: &mut RxQueue) -> usize {
    let mut burst: Burst = Burst::new();
    let mut total = 0;
    while rx.rx(&mut burst) > 0 {
        total += burst.len();
        burst.clear();
    }
    total
}
