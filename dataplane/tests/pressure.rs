//! Rings full, buffers exhausted, a device that takes nothing: each loss is counted under its name,
//! everything else goes on, and when the pressure ends so does the loss (DESIGN §9).

use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use dataplane::counters::Event;
use dataplane::dpdk::{Eal, Mbuf, Mempool, Ring};
use dataplane::packet::builder::PacketBuilder;
use dataplane::pipeline::world::{Plan, endpoint, host_mac, port_mac};
use dataplane::verdict::{DropReason, PuntClass};
use dataplane::worker::Peers;

use rig::{Bench, RING, WIRE, Wire, drain, eventually, ping, plan, send, syn, take};

mod dpdk_support;
mod rig;

#[test]
fn a_device_that_takes_nothing_costs_its_own_packets_only() {
    let (_turn, eal) = eal();
    let pool = shared_pool();
    let (in_wire, mut input, from_clients) = Wire::new(pool);
    let (out_wire, to_servers, mut servers) = Wire::new(pool);
    let (back_wire, to_clients, mut clients) = Wire::new(pool);
    let mut bench = Bench::new(eal, "stuck", plan(), 0, 1, pool)
        .receives(0, from_clients)
        .sends(0, to_clients)
        .sends(1, to_servers);
    bench.start(eal.lcores()[0]);

    // Nobody takes what goes to the servers. Every fifth packet is answered to its client.
    const SENT: u16 = 4000;
    let frames = (0..SENT).map(|n| match n % 5 {
        0 => syn(1024 + n).ttl(1).build(),
        _ => syn(1024 + n).build(),
    });
    send(&mut input, pool, frames);
    let mut answers = 0;
    eventually("every client with TTL 1 is answered", || {
        answers += take(&mut clients).len();
        answers == usize::from(SENT / 5)
    });
    let lost = u64::from(SENT / 5 * 4) - WIRE;
    eventually("what the device did not take is counted", || {
        bench.dropped(DropReason::TxFull) == lost
    });
    bench.turns(100);
    assert_eq!(
        bench.event(Event::TxPackets),
        WIRE + u64::from(SENT / 5),
        "what was refused was not sent"
    );

    // The peer wakes up.
    assert_eq!(take(&mut servers).len() as u64, WIRE);
    send(&mut input, pool, (0..100).map(|n| syn(10_000 + n).build()));
    let mut arrived = 0;
    eventually("the next packets arrive", || {
        arrived += take(&mut servers).len();
        arrived == 100
    });
    assert_eq!(bench.dropped(DropReason::TxFull), lost);
    bench.stop();
    drop((input, servers, clients));
    for wire in [in_wire, out_wire, back_wire] {
        wire.close();
    }
    assert!(pool.is_full());
}

#[test]
fn the_rings_of_a_worker_that_does_not_poll_fill_up_and_the_others_go_on() {
    let (_turn, eal) = eal();
    let pool = shared_pool();
    let (in_wire, mut input, from_clients) = Wire::new(pool);
    let (out_wire, to_servers, mut servers) = Wire::new(pool);
    let (back_wire, to_clients, clients) = Wire::new(pool);
    let ring = |name: &str| Ring::create(name, RING as u32).expect("ring");
    let (redirect_01, redirected_1) = ring("idle_redirect_0_1");
    let (redirect_10, redirected_0) = ring("idle_redirect_1_0");
    let (relay, relayed) = ring("idle_relay_0_1");
    // Only worker 1 has a queue towards the servers, only worker 0 one towards the clients.
    let mut first = Bench::new(eal, "idle", plan(), 0, 2, pool)
        .receives(0, from_clients)
        .sends(0, to_clients)
        .with(Peers {
            redirect_out: vec![None, Some(redirect_01)],
            redirect_in: vec![redirected_0],
            relay_out: vec![None, Some(relay)],
            relay_in: Vec::new(),
        });
    let mut second = Bench::new(eal, "idle", plan(), 1, 2, pool)
        .sends(1, to_servers)
        .with(Peers {
            redirect_out: vec![Some(redirect_10), None],
            redirect_in: vec![redirected_1],
            relay_out: vec![None, None],
            relay_in: vec![relayed],
        });
    first.start(eal.lcores()[0]);

    const SENT: u64 = 2000;
    send(
        &mut input,
        pool,
        (0..SENT).map(|n| syn(1024 + n as u16).build()),
    );
    let lost = SENT - 2 * RING;
    eventually("both rings are full", || {
        first.dropped(DropReason::RedirectFull) == lost
    });
    assert_eq!(first.event(Event::RedirectedOut), RING);
    let own = first.event(Event::ConnectionsCreated);
    assert!((SENT / 3..SENT * 2 / 3).contains(&own), "{own} of {SENT}");
    // What does not need the other worker works all the while.
    send(&mut input, pool, (0..RING).map(|_| ping().build()));
    let mut punted = 0;
    eventually("what the first worker does alone goes on", || {
        punted += drain(&mut first.punted[PuntClass::Icmp as usize]);
        punted == RING
    });
    first.turns(100);

    // The other worker comes back: what was in its rings is not lost, and nothing more is.
    second.start(eal.lcores()[1]);
    let mut arrived = 0;
    eventually("what the rings held arrives", || {
        arrived += take(&mut servers).len() as u64;
        arrived == 2 * RING
    });
    for round in 0..20 {
        let flows = (0..30).map(|n| syn(10_000 + round * 30 + n).build());
        send(&mut input, pool, flows);
        eventually("the next packets arrive", || {
            arrived += take(&mut servers).len() as u64;
            arrived == 2 * RING + (u64::from(round) + 1) * 30
        });
    }
    assert_eq!(first.dropped(DropReason::RedirectFull), lost);
    let redirected = first.event(Event::RedirectedOut);
    assert_eq!(second.event(Event::RedirectedIn), redirected);
    first.stop();
    second.stop();
    drop((input, servers, clients));
    for wire in [in_wire, out_wire, back_wire] {
        wire.close();
    }
    assert!(pool.is_full());
}

#[test]
fn a_full_punt_ring_loses_its_own_class_only() {
    let (_turn, eal) = eal();
    let pool = shared_pool();
    let (in_wire, mut input, from_clients) = Wire::new(pool);
    let (out_wire, to_servers, mut servers) = Wire::new(pool);
    let mut bench = Bench::new(eal, "punt", plan(), 0, 1, pool)
        .receives(0, from_clients)
        .sends(1, to_servers);
    bench.start(eal.lcores()[0]);

    const PINGS: u64 = 500;
    let mixed = (0..PINGS).flat_map(|n| [ping().build(), syn(1024 + n as u16).build()]);
    send(&mut input, pool, mixed);
    send(&mut input, pool, (0..20).map(|_| arp_request()));
    let mut served = 0;
    eventually("every packet of the service arrives", || {
        served += take(&mut servers).len() as u64;
        served == PINGS
    });
    eventually("the pings beyond the ring are counted", || {
        bench.dropped(DropReason::PuntFullIcmp) == PINGS - RING
    });
    eventually("ARP goes its own way", || {
        bench.counters.punted(PuntClass::Arp).value() == 20
    });
    bench.turns(100);
    assert_eq!(bench.dropped(DropReason::PuntFullIcmp), PINGS - RING);

    // The slow path wakes up.
    assert_eq!(drain(&mut bench.punted[PuntClass::Icmp as usize]), RING);
    assert_eq!(drain(&mut bench.punted[PuntClass::Arp as usize]), 20);
    send(&mut input, pool, (0..20).map(|_| ping().build()));
    let mut received = 0;
    eventually("the next pings get through", || {
        received += drain(&mut bench.punted[PuntClass::Icmp as usize]);
        received == 20
    });
    assert_eq!(bench.dropped(DropReason::PuntFullIcmp), PINGS - RING);
    bench.stop();
    drop((input, servers));
    for wire in [in_wire, out_wire] {
        wire.close();
    }
    assert!(pool.is_full());
}

#[test]
fn without_buffers_packets_of_our_own_are_counted_and_the_rest_is_forwarded() {
    let (_turn, eal) = eal();
    let pool = shared_pool();
    let own = dpdk_support::pool("own", 255);
    let (in_wire, mut input, from_clients) = Wire::new(pool);
    let (out_wire, to_servers, mut servers) = Wire::new(pool);
    let (back_wire, to_clients, mut clients) = Wire::new(pool);
    let plan = Plan {
        mtu: [1500, 600],
        ..plan()
    };
    let mut bench = Bench::new(eal, "own", plan, 0, 1, own)
        .receives(0, from_clients)
        .sends(0, to_clients)
        .sends(1, to_servers);
    bench.start(eal.lcores()[0]);
    let large = |n: u16| syn(1024 + n).payload(vec![7; 1200]).build();

    let held = exhaust(own);
    send(&mut input, pool, (0..50).map(large));
    eventually("what cannot be cut is counted", || {
        bench.dropped(DropReason::NoBuffer) == 50
    });
    assert_eq!(bench.event(Event::FragmentsSent), 0);
    // Neither packets that fit nor ICMP errors, made in the packet they answer, need a buffer.
    send(&mut input, pool, (0..50).map(|n| syn(2048 + n).build()));
    send(
        &mut input,
        pool,
        (0..50).map(|_| expired_in_transit().build()),
    );
    let (mut served, mut answered) = (0, 0);
    eventually("packets that fit and answers arrive", || {
        served += take(&mut servers).len();
        answered += take(&mut clients).len();
        (served, answered) == (50, 50)
    });

    drop(held);
    send(&mut input, pool, (0..50).map(large));
    let mut fragments = 0;
    eventually("they are cut again", || {
        fragments += take(&mut servers).len();
        fragments == 150
    });
    assert_eq!(bench.dropped(DropReason::NoBuffer), 50);
    bench.stop();
    drop((input, servers, clients));
    for wire in [in_wire, out_wire, back_wire] {
        wire.close();
    }
    assert!(own.is_full());
    assert!(pool.is_full());
}

#[test]
fn a_device_without_buffers_receives_nothing_and_goes_on_when_there_are_some() {
    let (_turn, eal) = eal();
    let pool = dpdk_support::pool("rx", 1023);
    // Receives empty frames for ever, each in a buffer of the pool.
    let (wire, to_nowhere, from_nowhere) = Wire::of("net_null0", pool);
    let mut bench = Bench::new(eal, "rx", plan(), 0, 1, pool)
        .receives(0, from_nowhere)
        .sends(0, to_nowhere);
    bench.start(eal.lcores()[0]);
    let received = |bench: &Bench| bench.event(Event::RxPackets);
    eventually("frames come in", || received(&bench) > 1000);

    // The worker frees what it drops, so it takes a while until the test has them all.
    let mut held = Vec::new();
    eventually("every buffer is taken", || {
        held.extend(exhaust(pool));
        held.len() == pool.capacity()
    });
    let stalled = received(&bench);
    bench.turns(1000);
    assert_eq!(received(&bench), stalled, "received without a buffer");

    drop(held);
    eventually("frames come in again", || received(&bench) > stalled + 1000);
    let dropped: u64 = DropReason::ALL
        .iter()
        .map(|reason| bench.dropped(*reason))
        .sum();
    assert!(dropped > stalled, "every empty frame is a counted drop");
    bench.stop();
    wire.close();
    assert!(pool.is_full());
}

/// EAL, for one test at a time: they share its lcores.
fn eal() -> (MutexGuard<'static, ()>, &'static Eal) {
    static TURN: Mutex<()> = Mutex::new(());
    // A test that failed leaves a worker on its lcore; the others then fail by themselves.
    let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let eal = dpdk_support::eal("pressure", &["--lcores", &rig::lcores()]);
    (turn, eal)
}

/// Buffers for the wires of all tests, more than all rings together hold.
fn shared_pool() -> &'static Mempool {
    static POOL: OnceLock<&'static Mempool> = OnceLock::new();
    POOL.get_or_init(|| dpdk_support::pool("wires", 8191))
}

/// Takes every buffer the pool has now.
fn exhaust(pool: &'static Mempool) -> Vec<Mbuf> {
    std::iter::from_fn(|| pool.alloc()).collect()
}

/// A packet whose hops are used up, so that its sender gets an answer.
fn expired_in_transit() -> PacketBuilder {
    syn(1000).ttl(1)
}

/// The class of a punt is told by the type alone.
fn arp_request() -> Vec<u8> {
    let client = host_mac(endpoint("10.0.1.100:0").ip());
    let mut frame = [&port_mac(0).0[..], &client.0, &[8, 6]].concat();
    frame.resize(60, 0);
    frame
}
