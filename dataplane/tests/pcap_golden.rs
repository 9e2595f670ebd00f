//! The same packets through a real worker on an lcore (`net_pcap` in, `net_pcap` out, rings for
//! what is punted) and through the pure pipeline: both must give the golden captures, byte for
//! byte.
//!
//! `SLUICE_BLESS=1 cargo test -p dataplane --test pcap_golden` writes `tests/golden/` anew; look at
//! the difference with `tcpdump -r` before committing it.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crossbeam_queue::ArrayQueue;
use dataplane::address::Protocol;
use dataplane::buffer::{Frame, PacketBuffer};
use dataplane::counters::Event;
use dataplane::dpdk::{Port, PortConfig, Ring, launch};
use dataplane::packet::MacAddress;
use dataplane::packet::builder::PacketBuilder;
use dataplane::packet::tcp::{ACK, FIN, RST, SYN};
use dataplane::pipeline::world::{Plan, ServicePlan, World, endpoint, host_mac, port_mac};
use dataplane::pipeline::{BURST, Pass};
use dataplane::service::Forward;
use dataplane::verdict::{DropReason, PortId, PuntClass, Verdict};
use dataplane::worker::{Idle, IdleSwitch, Receive, Transmit, Worker};

use dpdk_support::{eal, pcap, pool};

mod dpdk_support;

#[test]
fn a_worker_and_the_pure_pipeline_both_give_the_golden_captures() {
    let input = [outside(), inside()];
    // One burst each, so that both ways see requests before replies.
    assert!(input.iter().all(|frames| frames.len() <= BURST));
    let (pure, moved) = through_pipeline(&input);
    check_golden(&pure);
    let (real, worker_moved) = through_worker(&input);
    for ((name, pure), (_, real)) in pure.iter().zip(&real) {
        assert_eq!(describe(real), describe(pure), "{name}");
    }
    for (name, value) in &moved {
        assert!(
            worker_moved.contains(&(name.clone(), *value)),
            "{name} {value} is not in {worker_moved:?}"
        );
    }
}

/// Captures by name: what left each port, and what was punted, in the order of the classes.
type Captures = [(&'static str, Vec<Vec<u8>>); 3];

fn plan() -> Plan {
    let mut plan = Plan::new(vec![
        ServicePlan::new(
            Protocol::Tcp,
            "10.0.1.50:80",
            Forward::Dr,
            &["10.0.1.11:80", "10.0.1.12:80"],
        ),
        ServicePlan::new(
            Protocol::Tcp,
            "10.0.1.51:80",
            Forward::Nat,
            &["10.0.2.11:8080", "10.0.2.12:8080"],
        ),
        ServicePlan::new(
            Protocol::Udp,
            "10.0.1.51:53",
            Forward::Nat,
            &["10.0.2.11:5353"],
        ),
        ServicePlan::new(
            Protocol::Tcp,
            "[fd00:1::51]:80",
            Forward::Nat,
            &["[fd00:2::11]:8080"],
        ),
        ServicePlan::new(Protocol::Udp, "10.0.1.52:53", Forward::Nat, &[]),
    ]);
    plan.mtu = [1500, 1000];
    plan
}

/// What clients send.
fn outside() -> Vec<Vec<u8>> {
    let tcp = |port: u16, vip: &str, flags| {
        let vip = endpoint(vip);
        let client = if vip.is_ipv4() {
            endpoint(&format!("10.0.1.100:{port}"))
        } else {
            endpoint(&format!("[fd00:1::100]:{port}"))
        };
        PacketBuilder::tcp(client, vip)
            .flags(flags)
            .link(host_mac(client.ip()), port_mac(0))
    };
    let udp = |vip: &str| {
        let client = endpoint("10.0.1.100:5300");
        PacketBuilder::udp(client, endpoint(vip)).link(host_mac(client.ip()), port_mac(0))
    };
    let echo = |vip: &str| {
        let client = endpoint("10.0.1.100:0").ip();
        PacketBuilder::icmp(client, vip.parse().unwrap(), 8, 0).link(host_mac(client), port_mac(0))
    };
    let (dr, nat, nat6) = ("10.0.1.50:80", "10.0.1.51:80", "[fd00:1::51]:80");
    let mut frames: Vec<_> = [
        tcp(5000, dr, SYN).tcp_options(&[2, 4, 5, 0xb4]),
        tcp(5000, dr, ACK),
        tcp(5000, dr, ACK)
            .payload("GET / HTTP/1.1\r\n\r\n")
            .tos(0xb9),
        tcp(5001, dr, SYN).padding(6),
        tcp(5001, dr, ACK).ttl(1),
        tcp(5000, dr, FIN | ACK),
        tcp(6000, nat, SYN).tcp_options(&[2, 4, 5, 0xb4]),
        tcp(6000, nat, ACK),
        tcp(6000, nat, ACK).payload("GET / HTTP/1.1\r\n\r\n").id(7),
        tcp(6001, nat, SYN),
        tcp(6001, nat, RST),
        tcp(6002, nat, ACK),
        tcp(6000, nat, ACK).payload([9; 1400]).dont_fragment(),
        tcp(7000, nat6, SYN),
        tcp(7000, nat6, ACK).payload("GET"),
        udp("10.0.1.51:53").payload("a question"),
        udp("10.0.1.51:53").no_checksum().payload("another"),
        udp("10.0.1.51:53").payload([7; 1400]).id(77),
        udp("10.0.1.51:53").payload([8; 64]).fragment(0, true),
        udp("10.0.1.52:53").payload("nobody there"),
        echo("10.0.1.50").payload("ping"),
        echo("10.0.1.1").payload("ping"),
        tcp(5002, dr, SYN).vlan(7),
        tcp(5002, dr, SYN).link(port_mac(1), port_mac(9)),
        PacketBuilder::raw(
            "10.0.1.2".parse().unwrap(),
            "224.0.0.18".parse().unwrap(),
            112,
        )
        .ttl(255)
        .link(port_mac(9), MacAddress([1, 0, 0x5e, 0, 0, 18]))
        .payload([0x31, 51, 100, 1, 0, 1, 0, 0, 10, 0, 1, 50]),
    ]
    .iter()
    .map(PacketBuilder::build)
    .collect();
    let mut arp = [
        &[0xff; 6][..],
        &port_mac(9).0,
        &[8, 6, 0, 1, 8, 0, 6, 4, 0, 1],
    ]
    .concat();
    arp.resize(60, 0);
    frames.push(arp);
    frames
}

/// What the NAT servers answer.
fn inside() -> Vec<Vec<u8>> {
    let reply = |packet: PacketBuilder, host: &str| {
        packet.link(host_mac(host.parse().unwrap()), port_mac(1))
    };
    let tcp = |host: &str, port: u16, flags| {
        let client = endpoint(&format!("10.0.1.100:{port}"));
        let real = endpoint(&format!("{host}:8080"));
        reply(PacketBuilder::tcp(real, client).flags(flags), host)
    };
    [
        tcp("10.0.2.12", 6000, SYN | ACK).tcp_options(&[2, 4, 5, 0xb4]),
        tcp("10.0.2.12", 6000, ACK).payload("HTTP/1.1 200 OK\r\n\r\n"),
        tcp("10.0.2.12", 6000, FIN | ACK).ttl(1),
        tcp("10.0.2.11", 9999, SYN | ACK),
        reply(
            PacketBuilder::tcp(
                endpoint("[fd00:2::11]:8080"),
                endpoint("[fd00:1::100]:7000"),
            )
            .flags(SYN | ACK),
            "fd00:2::11",
        ),
        reply(
            PacketBuilder::udp(endpoint("10.0.2.11:5353"), endpoint("10.0.1.100:5300"))
                .payload("an answer"),
            "10.0.2.11",
        ),
        reply(
            PacketBuilder::udp(endpoint("10.0.2.11:5353"), endpoint("10.0.1.100:5300"))
                .no_checksum(),
            "10.0.2.11",
        ),
    ]
    .iter()
    .map(PacketBuilder::build)
    .collect()
}

/// The captures and counters of the pipeline alone.
fn through_pipeline(input: &[Vec<Vec<u8>>; 2]) -> (Captures, Vec<(String, u64)>) {
    let mut world = World::new(plan());
    let mut out = [vec![], vec![]];
    let mut punted: [Vec<Vec<u8>>; PuntClass::COUNT] = Default::default();
    for (port, frames) in (0..).zip(input) {
        let mut frames: Vec<_> = frames
            .iter()
            .map(|bytes| Frame::from_bytes(bytes))
            .collect();
        for frame in &mut frames {
            frame.set_port(port);
        }
        let mut verdicts = vec![Verdict::Drop(DropReason::Stopping); frames.len()];
        world.pipeline.process(
            &mut frames,
            &mut verdicts,
            world.now,
            Pass::First,
            &mut world.tray,
        );
        for (frame, verdict) in frames.iter().zip(verdicts) {
            match verdict {
                Verdict::Tx(port) => out[usize::from(port.0)].push(frame.data().to_vec()),
                Verdict::Punt(class) => {
                    punted[class as usize].push(frame.data().to_vec());
                    world.counters().punted(class).add(1);
                }
                Verdict::Drop(_) => {}
                Verdict::Wait(_) | Verdict::Hold(_) | Verdict::Redirect(_) => panic!("{verdict:?}"),
            }
        }
        for (port, fragment) in world.tray.sent.drain(..) {
            out[usize::from(port.0)].push(fragment.data().to_vec());
        }
    }
    let [outside, inside] = out;
    let captures = [
        ("outside", outside),
        ("inside", inside),
        ("punted", punted.concat()),
    ];
    (captures, world.counters().moved())
}

/// The captures and counters of a worker on an lcore between two `net_pcap` devices.
fn through_worker(input: &[Vec<Vec<u8>>; 2]) -> (Captures, Vec<(String, u64)>) {
    let allowed = rustix::thread::sched_getaffinity(None).expect("our CPUs");
    let first = (0..rustix::thread::CpuSet::MAX_CPU)
        .find(|cpu| allowed.is_set(*cpu))
        .expect("a CPU");
    let eal = eal("golden", &["--lcores", &format!("(0-1)@{first}")]);
    let pool = pool("golden", 255);
    let directory = std::env::temp_dir().join(format!("sluice-golden-{}", std::process::id()));
    fs::create_dir_all(&directory).expect("temporary directory");

    let mut ports = Vec::new();
    let (mut receive, mut transmit) = (Vec::new(), Vec::new());
    for (number, frames) in (0..).zip(input) {
        let (rx, tx) = files(&directory, number);
        fs::write(&rx, pcap::capture(frames)).expect("input");
        let device = format!(
            "net_pcap{number},rx_pcap={},tx_pcap={}",
            rx.display(),
            tx.display()
        );
        let port = Port::open(&device).expect("device");
        let (port, mut queues) = port.start(&PortConfig::new(pool)).expect("starts");
        let pair = queues.remove(0);
        let id = PortId(number);
        receive.push(Receive {
            port: id,
            queue: pair.rx.expect("rx"),
        });
        transmit.push(Transmit {
            port: id,
            queue: pair.tx.expect("tx"),
        });
        ports.push(port);
    }
    let (punt, mut punted): (Vec<_>, Vec<_>) = PuntClass::ALL
        .iter()
        .map(|class| Ring::create(class.name(), 64).expect("ring"))
        .unzip();
    let (pipeline, counters, asks) = World::new(plan()).into_parts();
    let stop = Arc::new(AtomicBool::new(false));
    let worker = Worker {
        pipeline,
        receive,
        transmit,
        mempool: pool,
        punt,
        inject: None,
        peers: None,
        jobs: Arc::new(ArrayQueue::new(1)),
        asks,
        idle: Arc::new(IdleSwitch::new(Idle::Adaptive)),
        tsc_hz: eal.tsc_hz(),
        stop: Arc::clone(&stop),
        counters: Arc::clone(&counters),
    };
    let running = launch(eal.lcores()[0], move || worker.run()).expect("an idle lcore");
    let expected: usize = input.iter().map(Vec::len).sum();
    let deadline = Instant::now() + Duration::from_secs(10);
    while counters.event(Event::RxPackets).value() < expected as u64 {
        assert!(Instant::now() < deadline, "{:?}", counters.moved());
        std::thread::sleep(Duration::from_millis(1));
    }
    // What was received is sent in the same round of the loop.
    stop.store(true, Ordering::Relaxed);
    running.join();

    let frames_punted: Vec<_> = punted
        .iter_mut()
        .flat_map(|ring| std::iter::from_fn(|| ring.pop()))
        .map(|packet| packet.data().to_vec())
        .collect();
    drop(punted);
    for port in ports {
        port.stop().expect("stops").close().expect("closes");
    }
    let captures = [
        ("outside", pcap::read(&files(&directory, 0).1)),
        ("inside", pcap::read(&files(&directory, 1).1)),
        ("punted", frames_punted),
    ];
    fs::remove_dir_all(&directory).expect("cleaned up");
    let sent = captures[0].1.len() + captures[1].1.len();
    assert_eq!(counters.event(Event::TxPackets).value(), sent as u64);
    assert!(pool.is_full());
    (captures, counters.moved())
}

fn files(directory: &Path, port: u8) -> (PathBuf, PathBuf) {
    (
        directory.join(format!("in{port}.pcap")),
        directory.join(format!("out{port}.pcap")),
    )
}

/// Compares with the golden files, or writes them if so ordered.
fn check_golden(captures: &Captures) {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let bless = std::env::var_os("SLUICE_BLESS").is_some_and(|value| value == "1");
    for (name, frames) in captures {
        let path = golden.join(format!("{name}.pcap"));
        if bless {
            fs::create_dir_all(&golden).expect("a directory");
            fs::write(&path, pcap::capture(frames)).expect("a golden file");
        }
        assert_eq!(describe(frames), describe(&pcap::read(&path)), "{name}");
    }
}

/// A frame in hexadecimal, one line each: what differs is seen at a glance.
fn describe(frames: &[Vec<u8>]) -> Vec<String> {
    frames.iter().map(|frame| format!("{frame:02x?}")).collect()
}
