//! Two real workers on two lcores: every packet of a connection reaches its owner by one ring and
//! leaves by one queue, so a million packets of 64 connections come out in the order they went in.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crossbeam_queue::ArrayQueue;
use dataplane::address::Protocol;
use dataplane::counters::Event;
use dataplane::dpdk::{Burst, Mempool, Port, PortConfig, QueuePair, Ring, launch};
use dataplane::packet::builder::PacketBuilder;
use dataplane::packet::tcp::{ACK, SYN};
use dataplane::pipeline::world::{Plan, ServicePlan, World, endpoint, host_mac, port_mac};
use dataplane::service::Forward;
use dataplane::verdict::{PortId, PuntClass, WorkerId};
use dataplane::worker::{Idle, IdleSwitch, Peers, Receive, Transmit, Worker};

use dpdk_support::{eal, pool};

mod dpdk_support;

const PACKETS: u64 = 1_000_000;
const FLOWS: u64 = 64;
/// Fewer than any ring on the way holds, so that nothing is dropped.
const IN_FLIGHT: u64 = 256;

#[test]
fn packets_of_a_connection_keep_their_order_over_redirects() {
    let allowed = rustix::thread::sched_getaffinity(None).expect("our CPUs");
    let cpus: Vec<_> = (0..rustix::thread::CpuSet::MAX_CPU)
        .filter(|cpu| allowed.is_set(*cpu))
        .collect();
    let lcores = format!("0@{0},1@{0},2@{1}", cpus[0], cpus[cpus.len() - 1]);
    let eal = eal("order", &["--lcores", &lcores]);
    let pool = pool("order", 4095);

    let (outside, outside_pair) = ring_port(0, pool);
    let (inside, inside_pair) = ring_port(1, pool);
    let mut input = outside_pair.tx.expect("the wire's end");
    let mut output = inside_pair.rx.expect("the wire's end");

    // Worker 0 receives everything; only worker 1 can send towards the servers.
    let (redirect_01, redirected_1) = Ring::create("redirect_0_1", 1024).expect("ring");
    let (redirect_10, redirected_0) = Ring::create("redirect_1_0", 1024).expect("ring");
    let (relay, relayed) = Ring::create("relay_0_1", 1024).expect("ring");
    let mut receive = outside_pair.rx;
    let mut transmit = inside_pair.tx;
    let mut peers = vec![
        Peers {
            redirect_out: vec![None, Some(redirect_01)],
            redirect_in: vec![redirected_0],
            relay_out: vec![None, Some(relay)],
            relay_in: Vec::new(),
        },
        Peers {
            redirect_out: vec![Some(redirect_10), None],
            redirect_in: vec![redirected_1],
            relay_out: vec![None, None],
            relay_in: vec![relayed],
        },
    ];
    let stop = Arc::new(AtomicBool::new(false));
    let mut running = Vec::new();
    let mut counters = Vec::new();
    let mut punted = Vec::new();
    for number in 0..2_u8 {
        let world = World::of_workers(plan(), WorkerId(number), 2);
        let (pipeline, worker_counters, asks) = world.into_parts();
        let (punt, consumers): (Vec<_>, Vec<_>) = PuntClass::ALL
            .iter()
            .map(|class| Ring::create(&format!("punt_{number}_{class}"), 64).expect("ring"))
            .unzip();
        punted.push(consumers);
        let worker = Worker {
            pipeline,
            receive: (number == 0)
                .then(|| receive.take())
                .flatten()
                .map(|queue| Receive {
                    port: PortId(0),
                    queue,
                })
                .into_iter()
                .collect(),
            transmit: (number == 1)
                .then(|| transmit.take())
                .flatten()
                .map(|queue| Transmit {
                    port: PortId(1),
                    queue,
                })
                .into_iter()
                .collect(),
            mempool: pool,
            punt,
            inject: None,
            peers: Some(peers.remove(0)),
            jobs: Arc::new(ArrayQueue::new(1)),
            asks,
            idle: Arc::new(IdleSwitch::new(Idle::Adaptive)),
            tsc_hz: eal.tsc_hz(),
            stop: Arc::clone(&stop),
            counters: Arc::clone(&worker_counters),
        };
        counters.push(worker_counters);
        let lcore = eal.lcores()[usize::from(number)];
        running.push(launch(lcore, move || worker.run()).expect("an idle lcore"));
    }

    let templates: Vec<[Vec<u8>; 2]> = (0..FLOWS)
        .map(|flow| [SYN, ACK].map(|flags| frame(flow, flags)))
        .collect();
    let mut next = vec![0_u64; FLOWS as usize];
    let (mut sent, mut received) = (0, 0);
    let mut burst = Burst::<32>::new();
    let deadline = Instant::now() + Duration::from_mins(2);
    while received < PACKETS {
        assert!(
            Instant::now() < deadline,
            "{received} of {sent} came out; {:?} {:?}",
            counters[0].moved(),
            counters[1].moved()
        );
        while sent < PACKETS && sent - received < IN_FLIGHT {
            let (flow, sequence) = (sent % FLOWS, sent / FLOWS);
            let template = &templates[flow as usize][usize::from(sequence > 0)];
            let mut packet = pool.alloc().expect("a buffer: few are in flight");
            assert!(packet.fill(template));
            stamp(
                dataplane::buffer::PacketBuffer::data_mut(&mut packet),
                sequence,
            );
            burst.push(packet).expect("an empty burst");
            while !burst.is_empty() {
                input.tx(&mut burst);
            }
            sent += 1;
        }
        if output.rx(&mut burst) == 0 {
            std::thread::yield_now();
            continue;
        }
        for packet in burst.drain() {
            let data = dataplane::buffer::PacketBuffer::data(&packet);
            let (flow, sequence) = read(data);
            assert_eq!(sequence, next[flow as usize], "flow {flow} was reordered");
            next[flow as usize] += 1;
            received += 1;
        }
    }
    stop.store(true, Ordering::Relaxed);
    for worker in running {
        worker.join();
    }
    let event = |worker: usize, event| counters[worker].event(event).value();
    for worker in 0..2 {
        let created = event(worker, Event::ConnectionsCreated);
        assert!(
            created > FLOWS / 5,
            "worker {worker} owned {created} of {FLOWS} connections"
        );
    }
    let redirected = event(0, Event::RedirectedOut);
    assert_eq!(redirected, event(1, Event::RedirectedIn));
    assert!(redirected > PACKETS / 5, "{redirected}");

    drop((input, output, punted));
    for port in [outside, inside] {
        port.stop().expect("stops").close().expect("closes");
    }
    assert!(pool.is_full());
}

type Started = Port<dataplane::dpdk::Started>;

/// A port whose transmit queue is the other end of its receive queue.
fn ring_port(number: u8, pool: &'static Mempool) -> (Started, QueuePair) {
    let port = Port::open(&format!("net_ring{number}")).expect("device");
    let (port, mut pairs) = port.start(&PortConfig::new(pool)).expect("starts");
    (port, pairs.remove(0))
}

fn plan() -> Plan {
    let reals = ["10.0.2.11:8080", "10.0.2.12:8080"];
    let service = ServicePlan::new(Protocol::Tcp, "10.0.1.50:80", Forward::Nat, &reals);
    Plan::new(vec![service])
}

/// A packet of a client on port 5000 + `flow`, with room for a stamp behind its headers.
fn frame(flow: u64, flags: u8) -> Vec<u8> {
    let client = endpoint(&format!("10.0.1.100:{}", 5000 + flow));
    PacketBuilder::tcp(client, endpoint("10.0.1.50:80"))
        .link(host_mac(client.ip()), port_mac(0))
        .flags(flags)
        .payload(flow.to_be_bytes().repeat(2))
        .build()
}

/// Writes the sequence number over the last eight bytes: nothing on the way looks at data.
fn stamp(frame: &mut [u8], sequence: u64) {
    let at = frame.len() - 8;
    frame[at..].copy_from_slice(&sequence.to_be_bytes());
}

/// Flow and sequence number of a stamped frame.
fn read(frame: &[u8]) -> (u64, u64) {
    let word = |at: usize| u64::from_be_bytes(frame[at..at + 8].try_into().expect("eight bytes"));
    (word(frame.len() - 16), word(frame.len() - 8))
}
