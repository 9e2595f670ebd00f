//! Bursts through real drivers: `net_ring` loops what it sends back to itself, `net_null` makes and swallows frames.
//! Every test ends by finding its pool full.

use std::sync::Barrier;
use std::time::Duration;

use dataplane::buffer::PacketBuffer;
use dataplane::dpdk::{
    Burst, HashInput, Mempool, Port, PortConfig, PortError, QueuePair, Rss, RssWay, RxQueue,
    Started, Stopped, TxQueue,
};

use dpdk_support::{drain, eal, frames, numbers, pool};

mod dpdk_support;

const DEVICES: &[&str] = &[
    "-l",
    "0",
    "--vdev=net_ring_kept",
    "--vdev=net_null_kept",
    "--vdev=net_null_slave",
];

/// Opens and starts a device with one queue pair.
fn started(device: &str, pool: &'static Mempool) -> (Port<Started>, RxQueue, TxQueue) {
    eal("port", DEVICES);
    let port = Port::<Stopped>::open(device).expect("a device");
    let (port, mut queues) = port.start(&PortConfig::new(pool)).expect("it starts");
    assert_eq!(queues.len(), 1);
    let QueuePair { rx, tx } = queues.remove(0);
    (
        port,
        rx.expect("a receive queue"),
        tx.expect("a transmit queue"),
    )
}

fn close(port: Port<Started>, rx: RxQueue, tx: TxQueue) {
    drop((rx, tx));
    port.stop()
        .expect("no queue is left")
        .close()
        .expect("it closes");
}

#[test]
fn frames_sent_to_a_ring_come_back_intact_and_in_order() {
    eal("port", DEVICES);
    let pool = pool("loop", 255);
    let (port, mut rx, mut tx) = started("net_ring_kept", pool);
    let mut burst: Burst = frames(pool, 8);
    assert_eq!(tx.tx(&mut burst), 8);
    assert!(burst.is_empty());
    assert_eq!(pool.available(), 255 - 8);
    assert_eq!(rx.rx(&mut burst), 8);
    assert_eq!(numbers(&burst), [0, 1, 2, 3, 4, 5, 6, 7]);
    assert!(
        burst
            .as_slice()
            .iter()
            .all(|mbuf| mbuf.len() == 60 && mbuf.is_contiguous())
    );
    assert_eq!(rx.rx(&mut burst), 0, "nothing else arrives");

    let stats = port.stats().expect("counters");
    assert_eq!((stats.tx_packets, stats.rx_packets), (8, 8));
    assert!(port.link().expect("link").up);
    drop(burst);
    close(port, rx, tx);
    assert!(pool.is_full());
}

#[test]
fn a_full_transmit_queue_leaves_the_unsent_in_the_burst() {
    eal("port", DEVICES);
    let pool = pool("full", 2047);
    let (port, mut rx, mut tx) = started("net_ring_full", pool);
    let mut sent = 0;
    let unsent = loop {
        let mut burst: Burst = frames(pool, 32);
        sent += tx.tx(&mut burst);
        if !burst.is_empty() {
            break burst;
        }
    };
    let missing = u8::try_from(unsent.len()).expect("at most 32");
    assert_eq!(
        numbers(&unsent),
        (32 - missing..32).collect::<Vec<_>>(),
        "the last ones, in order"
    );
    assert_eq!(pool.capacity() - pool.available(), sent + unsent.len());
    let mut unsent = unsent;
    assert_eq!(tx.tx(&mut unsent), 0);
    assert_eq!(unsent.len(), missing.into());
    assert_eq!(drain(&mut rx), sent);
    assert_eq!(tx.tx(&mut unsent), missing.into(), "room again");
    assert_eq!(drain(&mut rx), missing.into());
    close(port, rx, tx);
    assert!(pool.is_full());
}

#[test]
fn a_received_burst_dropped_half_way_leaks_nothing() {
    eal("port", DEVICES);
    let pool = pool("half", 255);
    let (port, mut rx, mut tx) = started("net_ring_half", pool);
    tx.tx(&mut frames::<32>(pool, 20));
    let mut burst: Burst = Burst::new();
    assert_eq!(rx.rx(&mut burst), 20);
    let kept: Vec<_> = burst.drain().take(7).collect();
    assert_eq!(pool.available(), 255 - 7);
    drop(kept);
    // A burst that fills up over several polls.
    tx.tx(&mut frames::<32>(pool, 20));
    let mut small: Burst<16> = frames(pool, 3);
    assert_eq!(rx.rx(&mut small), 13);
    assert_eq!(rx.rx(&mut small), 0, "no room");
    assert_eq!(drain(&mut rx), 7);
    drop(small);
    close(port, rx, tx);
    assert!(pool.is_full());
}

#[test]
fn a_null_device_fills_bursts_and_swallows_them() {
    eal("port", DEVICES);
    let pool = pool("null", 255);
    let (port, mut rx, mut tx) = started("net_null_kept", pool);
    let mut burst: Burst = Burst::new();
    for _ in 0..10 {
        assert_eq!(rx.rx(&mut burst), 32);
        assert_eq!(tx.tx(&mut burst), 32);
    }
    assert!(port.stats().expect("counters").tx_packets >= 320);
    close(port, rx, tx);
    assert!(pool.is_full());
}

#[test]
fn a_pool_fills_a_burst_as_far_as_it_can() {
    eal("port", DEVICES);
    let pool = pool("dry", 40);
    let mut first: Burst = Burst::new();
    assert_eq!(pool.alloc_into(&mut first), 32);
    assert!(
        first
            .as_slice()
            .iter()
            .all(|mbuf| mbuf.data().is_empty() && mbuf.headroom() == 128)
    );
    let mut second: Burst = Burst::new();
    assert_eq!(pool.alloc_into(&mut second), 8, "what is left");
    assert_eq!(pool.alloc_into(&mut second), 0);
    assert!(pool.alloc().is_none());
    let mut mbuf = second.pop().expect("eight");
    let room = usize::try_from(pool.frame_room()).expect("small");
    assert!(!mbuf.fill(&vec![1; room + 1]));
    assert!(mbuf.fill(&vec![1; room]));
    drop((first, second, mbuf));
    assert!(pool.is_full());
}

#[test]
fn a_port_stops_only_when_its_queues_are_gone() {
    eal("port", DEVICES);
    let pool = pool("stop", 255);
    let (port, rx, tx) = started("net_null_stop", pool);
    assert!(matches!(
        Port::by_name("net_null_stop"),
        Err(PortError::InUse(_))
    ));
    let error = port.stop().expect_err("two queues exist");
    assert!(matches!(
        error.cause,
        PortError::QueuesInUse { queues: 2, .. }
    ));
    let elsewhere = std::thread::spawn(move || drop(tx));
    elsewhere.join().expect("a queue may go to another thread");
    drop(rx);
    let stopped = error.port.stop().expect("none is left");
    // Stopped, it can be started again, and handed on by name.
    let (port, queues) = stopped.start(&PortConfig::new(pool)).expect("again");
    drop(queues);
    drop(port.stop().expect("stops"));
    let port = Port::by_name("net_null_stop").expect("free again");
    port.close().expect("closes");
    assert!(matches!(
        Port::by_name("net_null_stop"),
        Err(PortError::NotFound(_))
    ));
    Port::open("net_null_stop")
        .expect("attached again")
        .close()
        .expect("closes");
    assert!(pool.is_full());
}

#[test]
fn a_device_opened_while_another_closes_gets_its_number_unclaimed() {
    eal("port", DEVICES);
    let devices = ["net_null_turn0", "net_null_turn1", "net_null_turn2"];
    std::thread::scope(|scope| {
        for device in devices {
            scope.spawn(move || {
                for turn in 0..10000 {
                    let port = Port::open(device).unwrap_or_else(|e| panic!("turn {turn}: {e}"));
                    port.close().expect("closes");
                }
            });
        }
    });
}

#[test]
fn one_of_two_that_open_a_device_at_once_has_it_and_the_other_hears_it_is_in_use() {
    eal("port", DEVICES);
    for turn in 0..1000 {
        let device = format!("net_null_both{turn}");
        let both = Barrier::new(2);
        let open = || {
            both.wait();
            Port::open(&device)
        };
        let (one, other) = std::thread::scope(|scope| {
            let (one, other) = (scope.spawn(open), scope.spawn(open));
            (one.join().expect("returns"), other.join().expect("returns"))
        });
        let port = match (one, other) {
            (Ok(port), Err(PortError::InUse(name))) | (Err(PortError::InUse(name)), Ok(port)) => {
                assert_eq!(name, device);
                port
            }
            both => panic!("turn {turn}: {both:?}"),
        };
        port.close().expect("closes");
    }
}

#[test]
fn a_port_takes_as_many_queues_as_it_can() {
    eal("port", DEVICES);
    let pool = pool("queues", 1023);
    let port = Port::open("net_ring_many").expect("device");
    let info = port.info().expect("properties");
    assert_eq!(info.driver, "net_ring");
    let (most, more) = (info.max_rx_queues, info.max_rx_queues + 1);
    let config = PortConfig {
        rx_queues: more,
        tx_queues: more,
        rx_descriptors: 7,
        ..PortConfig::new(pool)
    };
    let (port, queues) = port.start(&config).expect("with those it has");
    assert_eq!(queues.len(), most.into());
    drop(queues);
    port.stop().expect("stops").close().expect("closes");

    let port = Port::open("net_null_many").expect("device");
    let config = PortConfig {
        rx_queues: 4,
        tx_queues: 2,
        ..PortConfig::new(pool)
    };
    let (port, queues) = port.start(&config).expect("with RSS if it offers any");
    let shape: Vec<_> = queues
        .iter()
        .map(|pair| (pair.rx.is_some(), pair.tx.is_some()))
        .collect();
    assert_eq!(
        shape,
        [(true, true), (true, true), (true, false), (true, false)]
    );
    let info = port.info().expect("properties");
    assert_eq!((info.rx_queues, info.tx_queues), (4, 2));
    drop(queues);
    port.stop().expect("stops").close().expect("closes");
    assert!(pool.is_full());
}

/// What a device of three queues for three workers confirms of its receive side scaling.
fn rss_of(device: &str, rx_queues: u16, hash_input: HashInput, pool: &'static Mempool) -> Rss {
    let port = Port::open(device).expect("device");
    let config = PortConfig {
        rx_queues,
        tx_queues: rx_queues,
        hash_input,
        workers: 3,
        ..PortConfig::new(pool)
    };
    let (port, queues) = port.start(&config).expect("with or without");
    let rss = port.rss();
    drop(queues);
    port.stop().expect("stops").close().expect("closes");
    rss
}

#[test]
fn a_device_that_hashes_keeps_our_key_and_table_and_says_so() {
    eal("port", DEVICES);
    let pool = pool("rss", 1023);
    // It offers no one-sided hash, but everything else can be written and read back.
    let rss = rss_of("net_null_rss", 3, HashInput::Source, pool);
    assert_eq!((rss.way, rss.key), (RssWay::Spread, true));
    assert!(rss.types != 0 && rss.table >= 64, "{rss:?}");
    assert_eq!(rss, rss_of("net_null_rss", 3, HashInput::Both, pool));
    assert!(pool.is_full());
}

#[test]
fn a_device_that_forgets_the_key_does_not_count_as_having_it() {
    eal("port", DEVICES);
    let pool = pool("forgets", 1023);
    let bond = "net_bonding_rss,mode=0,slave=net_null_slave";
    let rss = rss_of(bond, 3, HashInput::Source, pool);
    assert_eq!((rss.way, rss.key), (RssWay::Spread, false));
    assert!(rss.table >= 64, "{rss:?}");
    assert!(pool.is_full());
}

#[test]
fn a_device_with_one_queue_or_without_a_hash_starts_all_the_same() {
    eal("port", DEVICES);
    let pool = pool("no_rss", 1023);
    for (device, queues) in [("net_null_one", 1), ("net_ring_three", 3)] {
        let rss = rss_of(device, queues, HashInput::Destination, pool);
        assert_eq!(rss, Rss::default(), "{device}");
    }
    assert!(pool.is_full());
}

#[test]
fn a_missing_device_is_an_error_that_says_what_to_do() {
    eal("port", DEVICES);
    let error = Port::by_name("net_nothing0").expect_err("no such device");
    assert!(matches!(&error, PortError::NotFound(name) if name == "net_nothing0"));
    let text = error.to_string();
    assert!(
        text.contains("net_nothing0") && text.contains("vfio-pci") && text.contains("net_tap0"),
        "{text}"
    );
    for device in [
        "net_nothing0,x=1",
        "0000:ff:1f.7",
        "",
        "with\0nul",
        "net_pcap_bad,rx_pcap=/nonexistent",
    ] {
        assert!(Port::open(device).is_err(), "{device:?}");
    }
}

#[test]
fn an_mtu_the_device_cannot_have_is_refused_with_its_limits() {
    eal("port", DEVICES);
    let pool = pool("mtu", 255);
    let port = Port::open("net_null_mtu").expect("device");
    assert!(port.mac().is_ok());
    let config = PortConfig {
        mtu: Some(20),
        ..PortConfig::new(pool)
    };
    let smallest = port.info().expect("properties").min_mtu;
    let error = port.start(&config).expect_err("too small");
    assert!(matches!(error, PortError::Mtu { mtu: 20, min, .. } if min == smallest));
    let port = Port::by_name("net_null_mtu").expect("free again");
    let config = PortConfig {
        mtu: Some(9000),
        ..PortConfig::new(pool)
    };
    let (port, queues) = port.start(&config).expect("jumbo frames");
    assert_eq!(port.mtu().expect("MTU"), 9000);
    drop(queues);
    port.stop().expect("stops").close().expect("closes");
    // Give a driver that frees late the time to.
    std::thread::sleep(Duration::from_millis(1));
    assert!(pool.is_full());
}
