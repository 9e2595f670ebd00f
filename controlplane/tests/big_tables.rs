//! A thousand services with a hundred servers each, replaced again and again under readers.
//!
//! `SLUICE_SWAPS` says how often (100 in an optimised build, 10 otherwise).

use controlplane::tables::{Desired, DesiredServer, DesiredService, Publisher, Start};
use dataplane::address::Protocol;
use dataplane::forwarding::Forwarding;
use dataplane::service::{Forward, ServiceKey, Services};
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

const SERVICES: u16 = 1000;
const SERVERS: u16 = 100;
const READERS: usize = 2;

fn key(service: u16) -> ServiceKey {
    let [high, low] = service.to_be_bytes();
    ServiceKey::new(Protocol::Tcp, IpAddr::from([10, 9, high, low]), 80)
}

/// Every server has weight `round`; every second round a tenth of them is missing.
fn desired(round: u32) -> Desired {
    let count = if round.is_multiple_of(2) {
        SERVERS
    } else {
        SERVERS - SERVERS / 10
    };
    let services = (0..SERVICES).map(|service| DesiredService {
        servers: (0..count)
            .map(|server| DesiredServer {
                name: format!("rs{server}").into(),
                address: IpAddr::from([10, 0, (service % 4) as u8, server as u8]),
                port: 80,
                weight: round,
                forward: Forward::Dr,
                upper_threshold: 0,
                lower_threshold: 0,
            })
            .collect(),
        ..DesiredService::new(key(service), &format!("s{service}"))
    });
    Desired {
        services: services.collect(),
        ..Desired::default()
    }
}

/// The round a table is of; panics if it is a mixture.
fn round(services: &Services, probe: u16) -> u32 {
    let of = |service: u16| {
        let service = services.with_key(&key(service));
        let list = &service.unwrap().list.servers;
        let weight = list[0].weight;
        assert!(list.iter().all(|server| server.weight == weight));
        weight
    };
    let first = of(0);
    assert_eq!(of(probe % SERVICES), first, "half of another table");
    first
}

/// Resident memory in bytes.
fn resident() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    statm.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4096
}

#[test]
fn a_hundred_thousand_servers_are_swapped_whole_in_bounded_time_and_memory() {
    let swaps = match std::env::var("SLUICE_SWAPS") {
        Ok(text) => text.parse().unwrap(),
        Err(_) if cfg!(debug_assertions) => 10,
        Err(_) => 100,
    };
    let Start {
        mut publisher,
        handle,
        readers,
    } = Publisher::start(READERS, desired(2), Forwarding::default());
    let publisher = std::thread::spawn(move || publisher.run());
    let stop = Arc::new(AtomicBool::new(false));
    let readers: Vec<_> = readers
        .into_iter()
        .map(|(mut services, _forwarding)| {
            let stop = Arc::clone(&stop);
            std::thread::spawn(move || {
                let mut last = 0;
                let mut probe = 0;
                let mut slowest = Duration::ZERO;
                while !stop.load(Ordering::Relaxed) {
                    let start = Instant::now();
                    services.refresh();
                    slowest = slowest.max(start.elapsed());
                    let seen = round(&services, probe);
                    assert!(seen >= last, "an older table came back");
                    last = seen;
                    probe = probe.wrapping_add(7);
                    std::thread::sleep(Duration::from_micros(50));
                }
                (last, slowest)
            })
        })
        .collect();

    let mut published = Vec::new();
    let mut slowest = Duration::ZERO;
    let mut longest_look = Duration::ZERO;
    let mut settled = 0;
    for swap in 0..swaps {
        let next = desired(3 + swap);
        let start = Instant::now();
        let epoch = handle.publish_services(next).unwrap();
        slowest = slowest.max(start.elapsed());
        published.push(Arc::downgrade(&handle.services()));
        assert!(handle.wait_services(epoch, Duration::from_secs(10)));
        let start = Instant::now();
        let _ = handle.epochs();
        longest_look = longest_look.max(start.elapsed());
        // The first few tables fill the allocator's lists.
        if swap == swaps / 4 {
            settled = resident();
        }
    }
    stop.store(true, Ordering::Relaxed);
    let mut refresh = Duration::ZERO;
    for reader in readers {
        let (last, slowest) = reader.join().unwrap();
        assert_eq!(last, 2 + swaps);
        refresh = refresh.max(slowest);
    }

    // The newest is in force; of the others at most two wait to be freed, and not for long.
    let deadline = Instant::now() + Duration::from_secs(5);
    while published
        .iter()
        .filter(|table| table.strong_count() > 0)
        .count()
        > 1
    {
        assert!(Instant::now() < deadline, "old tables are kept");
        std::thread::sleep(Duration::from_millis(10));
    }
    let grown = resident().saturating_sub(settled);
    println!(
        "{swaps} swaps: slowest publication {slowest:?}, slowest refresh {refresh:?}, slowest look at \
         the epochs {longest_look:?}, {} MB resident, {} MB more than after {} swaps",
        resident() >> 20,
        grown >> 20,
        swaps / 4
    );
    // One table more is what a different moment of looking makes; a leak would be many.
    assert!(grown < 100 << 20, "{} MB more", grown >> 20);
    assert!(slowest < Duration::from_secs(5), "{slowest:?}");
    handle.stop();
    publisher.join().unwrap();
}
