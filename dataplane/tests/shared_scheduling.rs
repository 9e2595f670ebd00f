//! Several workers schedule nearly as one would (DESIGN §4): the same 10 000 connections, dealt at
//! random as RSS deals them, onto 10 servers, once to one worker and once to W, while control tells
//! them every 50 ms of what the others have.
//!
//! Stated bounds, per server: least connections within the larger of 2 % and 2 W connections of
//! the run with one worker; round robin within W x weight / gcd; hashes and failover the same server
//! for every single connection. twos rolls dice, so no two runs are alike even with one worker: the
//! bound holds for what comes out, per server against its share by weight, in both runs.
//! `--nocapture` shows what came out.

use dataplane::address::Protocol;
use dataplane::connection::Millis;
use dataplane::connection_counts::{CountTable, SHARE_INTERVAL};
use dataplane::packet::MacAddress;
use dataplane::packet::builder::PacketBuilder;
use dataplane::packet::tcp::{ACK, SYN};
use dataplane::pipeline::world::{Plan, ServicePlan, World, host_mac, port_mac};
use dataplane::scheduler::{MaglevTables, Request, SchedulerFlags, SchedulerKind};
use dataplane::service::{
    Forward, NoServer, Persistence, RealId, RealServer, RealShared, Serve, ServerList, ServiceId,
    ServiceKey, ServiceShared, VirtualService,
};
use dataplane::verdict::{Verdict, WorkerId};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

const FLOWS: u64 = 10_000;
const SERVERS: usize = 10;
const EQUAL: [u32; SERVERS] = [1; SERVERS];
const MIXED: [u32; SERVERS] = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10];

/// A fixed sequence of random numbers (splitmix64).
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let word = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let word = (word ^ (word >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (word ^ (word >> 31)) % sides
    }
}

/// A service and its workers, reduced to choices and counts.
struct Sharing {
    service: VirtualService,
    workers: u8,
    dice: Dice,
    now: Duration,
    shared: Duration,
    /// When each connection ends, soonest first, with its server and worker.
    ends: BTreeMap<Duration, VecDeque<(usize, WorkerId)>>,
    /// Connections each server was given.
    given: [u64; SERVERS],
    /// The client and the destination of each connection are drawn from so many.
    clients: u64,
    destinations: u64,
    /// Draws them, the same for any number of workers.
    addresses: Dice,
    /// The server of every connection, in order.
    chosen: Vec<usize>,
}

impl Sharing {
    fn new(scheduler: SchedulerKind, weights: [u32; SERVERS], workers: u8, seed: u64) -> Self {
        let mut table = CountTable::new(usize::from(workers));
        table.reserve(SERVERS);
        let servers = (1..).zip(weights).map(|(id, weight)| RealServer {
            id: RealId(id),
            address: IpAddr::V4(Ipv4Addr::new(10, 0, 2, id as u8)),
            port: 80,
            weight,
            forward: Forward::Dr,
            upper_threshold: 0,
            lower_threshold: 0,
            shared: RealShared::with_counts(usize::from(workers), table.take()),
        });
        let tables = &mut MaglevTables::default();
        let service = VirtualService {
            id: ServiceId(0),
            key: ServiceKey::new(Protocol::Tcp, IpAddr::V4(Ipv4Addr::new(10, 0, 1, 50)), 80),
            name: "web".into(),
            scheduler,
            scheduler_flags: SchedulerFlags::NONE,
            list: ServerList::rebuilt_for(
                scheduler,
                dataplane::address::Family::V4,
                None,
                servers.collect(),
                tables,
            ),
            serve: Serve::Always,
            no_server: NoServer::Unreachable,
            persistence: None,
            one_packet: false,
            ever_translated: false,
            shared: ServiceShared::scheduled_by(scheduler, usize::from(workers), seed),
        };
        Self {
            service,
            workers,
            dice: Dice(seed),
            now: Duration::ZERO,
            shared: Duration::ZERO,
            ends: BTreeMap::new(),
            given: [0; SERVERS],
            clients: 1 << 24,
            destinations: 1,
            addresses: Dice(seed ^ 0xADD4),
            chosen: Vec::new(),
        }
    }

    /// The next connection comes after `pause` and stays for `lifetime`.
    fn flow(&mut self, pause: Duration, lifetime: Duration) {
        self.now += pause;
        while let Some(entry) = self.ends.first_entry().filter(|e| *e.key() <= self.now) {
            for (server, worker) in entry.remove() {
                self.counts(server, worker).unbind(true);
            }
        }
        if self.now >= self.shared + SHARE_INTERVAL {
            self.shared = self.now;
            self.service.share_counts();
        }
        let worker = WorkerId(self.dice.roll(u64::from(self.workers)) as u8);
        let client = 0x0a00_0000 + self.addresses.roll(self.clients) as u32;
        let port = self.addresses.roll(60_000) as u16;
        let destination = 0x0b00_0000 + self.addresses.roll(self.destinations) as u32;
        let request = Request {
            list: &self.service.list,
            cell: self.service.shared.scheduler(worker),
            worker,
            workers: self.workers,
            source: (client, port),
            destination: (destination, 80),
            excluded: &[],
            flags: self.service.scheduler_flags,
            address: Ipv4Addr::from_bits(destination).into(),
            localities: self.service.shared.localities(),
            now: Millis(self.now.as_millis() as u64),
        };
        let server = self.service.scheduler.pick(&request).expect("a server");
        self.counts(server, worker).bind(true);
        self.given[server] += 1;
        self.chosen.push(server);
        let end = self.ends.entry(self.now + lifetime).or_default();
        end.push_back((server, worker));
    }

    fn counts(
        &self,
        server: usize,
        worker: WorkerId,
    ) -> &dataplane::connection_counts::WorkerCounts {
        self.service.list.servers[server].shared.counts(worker)
    }

    /// Connections of each server now.
    fn live(&self) -> Vec<u64> {
        let servers = self.service.list.servers.iter();
        servers
            .map(|server| server.shared.connections().0)
            .collect()
    }
}

/// The largest difference, and by how much it misses the bound of the least-connection family.
#[track_caller]
fn assert_near(what: &str, one: &[u64], many: &[u64], workers: u8) -> u64 {
    let mut worst = 0;
    for (one, many) in one.iter().zip(many) {
        let deviation = one.abs_diff(*many);
        let bound = (one / 50).max(2 * u64::from(workers));
        assert!(deviation <= bound, "{what}: {many} instead of {one}");
        worst = worst.max(deviation);
    }
    worst
}

const FOREVER: Duration = Duration::from_secs(1 << 30);

#[test]
fn least_connections_of_many_workers_are_those_of_one() {
    // From a trickle to all flows within one interval.
    for per_second in [1_000, 20_000, 1_000_000] {
        let pause = Duration::from_secs(1) / per_second;
        for (kind, weights) in [(SchedulerKind::Lc, EQUAL), (SchedulerKind::Wlc, MIXED)] {
            for workers in 2..=4 {
                let mut worst = 0;
                for seed in 0..3 {
                    let run = |workers| {
                        let mut sharing = Sharing::new(kind, weights, workers, seed);
                        (0..FLOWS).for_each(|_| sharing.flow(pause, FOREVER));
                        sharing.given
                    };
                    let what = format!("{kind}, {workers} workers, {per_second}/s");
                    worst = worst.max(assert_near(&what, &run(1), &run(workers), workers));
                }
                println!("{kind}, {workers} workers, {per_second}/s: at most {worst} off");
            }
        }
    }
}

/// A scheduler of the family, the weights, and among how many destinations.
type Family = (SchedulerKind, [u32; SERVERS], u64);

const FAMILY: [Family; 8] = [
    (SchedulerKind::Sed, EQUAL, 1),
    (SchedulerKind::Sed, MIXED, 1),
    (SchedulerKind::Nq, EQUAL, 1),
    (SchedulerKind::Nq, MIXED, 1),
    // Capacities, of which 10 000 connections take nine tenths.
    (SchedulerKind::Ovf, MIXED_CAPACITY, 1),
    (SchedulerKind::Ovf, [1_100; SERVERS], 1),
    // As many connections for each of the cached addresses as there are servers.
    (SchedulerKind::Lblc, MIXED_CAPACITY, 1_000),
    (SchedulerKind::Lblcr, MIXED_CAPACITY, 1_000),
];
const MIXED_CAPACITY: [u32; SERVERS] = [200, 400, 600, 800, 1000, 1200, 1400, 1600, 1800, 2000];

#[test]
fn sed_nq_ovf_lblc_and_lblcr_of_many_workers_choose_nearly_as_one() {
    for per_second in [1_000, 20_000, 1_000_000] {
        let pause = Duration::from_secs(1) / per_second;
        for (kind, weights, destinations) in FAMILY {
            for workers in 2..=4 {
                let mut worst = 0;
                for seed in 0..3 {
                    let run = |workers| {
                        let mut sharing = Sharing::new(kind, weights, workers, seed);
                        sharing.destinations = destinations;
                        (0..FLOWS).for_each(|_| sharing.flow(pause, FOREVER));
                        sharing.given
                    };
                    let what = format!("{kind} {weights:?}, {workers} workers, {per_second}/s");
                    worst = worst.max(assert_near(&what, &run(1), &run(workers), workers));
                }
                println!("{kind}, {workers} workers, {per_second}/s: at most {worst} off");
            }
        }
    }
}

#[test]
fn twos_of_many_workers_keeps_servers_as_near_to_their_share_as_one_does() {
    for (weights, name) in [(EQUAL, "equal"), (MIXED, "mixed")] {
        let total: u32 = weights.iter().sum();
        for per_second in [1_000, 20_000, 1_000_000] {
            let pause = Duration::from_secs(1) / per_second;
            for workers in 1..=4 {
                let mut sharing = Sharing::new(SchedulerKind::Twos, weights, workers, 1);
                (0..FLOWS).for_each(|_| sharing.flow(pause, FOREVER));
                let worst = sharing.service.list.servers.iter().zip(sharing.given);
                let worst = worst.map(|(server, given)| {
                    let share = FLOWS * u64::from(server.weight) / u64::from(total);
                    (given.abs_diff(share), share)
                });
                let (worst, share) = worst.max().unwrap();
                println!("twos {name}, {workers} workers, {per_second}/s: {worst} of {share} off");
                let bound = (share / 50).max(2 * u64::from(workers));
                assert!(worst <= bound, "{:?}", sharing.given);
            }
        }
    }
}

#[test]
fn twos_of_many_workers_gives_each_server_nearly_what_one_worker_gives_it() {
    for (weights, name) in [(EQUAL, "equal"), (MIXED, "mixed")] {
        for per_second in [1_000, 20_000, 1_000_000] {
            let pause = Duration::from_secs(1) / per_second;
            for workers in 2..=4 {
                let mut worst = 0;
                for seed in 0..8 {
                    let run = |workers| {
                        let kind = SchedulerKind::Twos;
                        let mut sharing = Sharing::new(kind, weights, workers, seed);
                        (0..FLOWS).for_each(|_| sharing.flow(pause, FOREVER));
                        sharing.given
                    };
                    let what = format!("twos {name}, {workers} workers, {per_second}/s");
                    worst = worst.max(assert_near(&what, &run(1), &run(workers), workers));
                }
                println!("twos {name}, {workers} workers, {per_second}/s: at most {worst} off");
            }
        }
    }
}

#[test]
fn hashes_and_failover_choose_the_same_server_whoever_chooses() {
    let fallback = SchedulerFlags::FALLBACK;
    for (kind, flags, weights) in [
        (SchedulerKind::Dh, SchedulerFlags::NONE, EQUAL),
        (SchedulerKind::Sh, SchedulerFlags::NONE, MIXED),
        (
            SchedulerKind::Sh,
            fallback.union(SchedulerFlags::PORT),
            MIXED,
        ),
        (SchedulerKind::Mh, SchedulerFlags::NONE, MIXED),
        (
            SchedulerKind::Mh,
            fallback.union(SchedulerFlags::PORT),
            MIXED,
        ),
        (SchedulerKind::Fo, SchedulerFlags::NONE, MIXED),
    ] {
        let run = |workers| {
            let mut sharing = Sharing::new(kind, weights, workers, 5);
            sharing.service.scheduler_flags = flags;
            sharing.destinations = 1_000;
            (0..FLOWS).for_each(|_| sharing.flow(Duration::from_micros(50), FOREVER));
            sharing.chosen
        };
        let one = run(1);
        for workers in 2..=4 {
            assert!(run(workers) == one, "{kind}, {workers} workers");
        }
    }
}

#[test]
fn counts_stay_together_while_connections_of_random_length_end() {
    for per_second in [2_000, 200_000] {
        let pause = Duration::from_secs(1) / per_second;
        for (kind, weights) in [(SchedulerKind::Lc, EQUAL), (SchedulerKind::Wlc, MIXED)] {
            for workers in 2..=4 {
                let mut worst = 0;
                let run = |workers| {
                    let mut sharing = Sharing::new(kind, weights, workers, 7);
                    let mut lengths = Dice(99);
                    // 10 000 at a time on average, looked at twenty times over five life times.
                    let (mut seen, mean) = (Vec::new(), pause * FLOWS as u32);
                    for flow in 0..5 * FLOWS {
                        let length = mean * lengths.roll(2_000) as u32 / 1_000;
                        sharing.flow(pause, length);
                        if flow > FLOWS && flow % (FLOWS / 5) == 0 {
                            seen.push(sharing.live());
                        }
                    }
                    seen
                };
                for (one, many) in run(1).iter().zip(run(workers)) {
                    let what = format!("{kind}, {workers} workers, {per_second}/s, ending");
                    worst = worst.max(assert_near(&what, one, &many, workers));
                }
                println!("{kind}, {workers} workers, {per_second}/s, ending: at most {worst} off");
            }
        }
    }
}

#[test]
fn a_server_that_lags_behind_is_filled_once_and_not_by_every_worker() {
    for workers in 2..=4 {
        // One server is new, the others have 1000 each; 1000 flows come per interval.
        let mut sharing = Sharing::new(SchedulerKind::Lc, EQUAL, workers, 3);
        for server in 1..SERVERS {
            for connection in 0..1_000 {
                let worker = WorkerId((connection % u16::from(workers)) as u8);
                sharing.counts(server, worker).bind(true);
            }
        }
        sharing.service.share_counts();
        let mut highest = 0;
        for _ in 0..20 * 1_000 {
            sharing.flow(Duration::from_micros(50), FOREVER);
            let live = sharing.live();
            let others = live[1..].iter().sum::<u64>() / (SERVERS as u64 - 1);
            highest = highest.max(live[0].saturating_sub(others));
        }
        println!("{workers} workers: the new server is at most {highest} ahead");
        // RSS deals a worker more or less than its share of 1000; it fills the gap in that share.
        assert!(highest <= 100, "{workers} workers: {highest} ahead");
        let live = sharing.live();
        let (most, least) = (live.iter().max(), live.iter().min());
        assert!(
            most.unwrap() - least.unwrap() <= 2 * u64::from(workers),
            "{live:?}"
        );
    }
}

#[test]
fn round_robin_of_many_workers_is_off_by_less_than_a_period_each() {
    for (kind, weights) in [
        (SchedulerKind::Rr, EQUAL),
        (SchedulerKind::Wrr, EQUAL),
        (SchedulerKind::Wrr, MIXED),
        (SchedulerKind::Wrr, MIXED.map(|weight| 4 * weight)),
    ] {
        for workers in 2..=4 {
            let mut worst = 0;
            for seed in 0..3 {
                let run = |workers| {
                    let mut sharing = Sharing::new(kind, weights, workers, seed);
                    (0..FLOWS).for_each(|_| sharing.flow(Duration::from_micros(50), FOREVER));
                    sharing
                };
                let (one, many) = (run(1), run(workers));
                let list = &many.service.list;
                for (index, server) in list.servers.iter().enumerate() {
                    let deviation = one.given[index].abs_diff(many.given[index]);
                    let bound = workers as u32 * server.weight / list.gcd;
                    assert!(
                        deviation <= u64::from(bound),
                        "{kind}, {workers} workers: {:?} instead of {:?}",
                        many.given,
                        one.given
                    );
                    worst = worst.max(deviation);
                }
            }
            println!("{kind} {weights:?}, {workers} workers: at most {worst} off");
        }
    }
}

/// What the servers have after `FLOWS` handshakes, dealt to `workers` pipelines.
fn handshakes(scheduler: SchedulerKind, workers: u8) -> Vec<u64> {
    let vip: SocketAddr = "10.0.1.50:80".parse().unwrap();
    let reals: Vec<String> = (11..11 + SERVERS)
        .map(|host| format!("10.0.1.{host}:80"))
        .collect();
    let reals: Vec<&str> = reals.iter().map(String::as_str).collect();
    let mut service = ServicePlan::new(Protocol::Tcp, "10.0.1.50:80", Forward::Dr, &reals);
    service.scheduler = scheduler;
    if scheduler == SchedulerKind::Wlc {
        for (real, weight) in service.reals.iter_mut().zip(MIXED) {
            real.weight = weight;
        }
    }
    let mut plan = Plan::new(vec![service]);
    plan.connections = FLOWS as usize;
    plan.queues = u16::from(workers);
    let first = World::of_workers(plan, WorkerId(0), workers);
    let others: Vec<_> = (1..workers)
        .map(|worker| first.beside(WorkerId(worker)))
        .collect();
    let mut worlds: Vec<_> = std::iter::once(first).chain(others).collect();
    let mut dice = Dice(u64::from(workers));
    for flow in 0..FLOWS {
        // 20 000 a second: a thousand between two shares.
        if flow % 1_000 == 0 {
            worlds[0].services().share_counts();
        }
        let client = SocketAddr::from(([10, 0, 1, 100], 10_000 + flow as u16));
        let world = &mut worlds[dice.roll(u64::from(workers)) as usize];
        for flags in [SYN, ACK] {
            let packet = PacketBuilder::tcp(client, vip)
                .link(host_mac(client.ip()), port_mac(0))
                .flags(flags);
            let verdict = world.verdict(0, &packet);
            assert!(matches!(verdict, Verdict::Tx(_)), "{client}: {verdict:?}");
        }
    }
    let reals = worlds[0].services().reals();
    reals.map(|(_, real)| real.shared.connections().0).collect()
}

/// The servers of `CLIENTS` persistent clients with four connections each, dealt at random to the
/// pipelines of `workers` workers.
fn persistent(scheduler: SchedulerKind, weights: [u32; SERVERS], workers: u8) -> Vec<MacAddress> {
    const CLIENTS: usize = 800;
    let reals: Vec<String> = (11..11 + SERVERS)
        .map(|host| format!("10.0.1.{host}:80"))
        .collect();
    let reals: Vec<&str> = reals.iter().map(String::as_str).collect();
    let mut service = ServicePlan::new(Protocol::Tcp, "10.0.1.50:80", Forward::Dr, &reals);
    service.scheduler = scheduler;
    service.persistence = Some(Persistence::new(300_000));
    for (real, weight) in service.reals.iter_mut().zip(weights) {
        real.weight = weight;
    }
    let mut plan = Plan::new(vec![service]);
    plan.connections = 4 * CLIENTS;
    plan.queues = u16::from(workers);
    let first = World::of_workers(plan, WorkerId(0), workers);
    let others: Vec<_> = (1..workers)
        .map(|worker| first.beside(WorkerId(worker)))
        .collect();
    let mut worlds: Vec<_> = std::iter::once(first).chain(others).collect();
    let mut dice = Dice(u64::from(workers));
    let mut servers = vec![None; CLIENTS];
    let mut seen = vec![BTreeSet::new(); CLIENTS];
    for port in 10_000..10_004 {
        for (number, server) in servers.iter_mut().enumerate() {
            let [high, low] = (number as u16).to_be_bytes();
            let client = SocketAddr::from(([172, 16, high, low], port));
            let worker = dice.roll(u64::from(workers)) as usize;
            seen[number].insert(worker);
            let packet = PacketBuilder::tcp(client, "10.0.1.50:80".parse().unwrap())
                .link(host_mac(client.ip()), port_mac(0))
                .flags(SYN);
            let sent = worlds[worker].sent(0, &packet, 0);
            let chosen = MacAddress(sent[..6].try_into().unwrap());
            // One server for all its connections, whichever workers have them.
            let first = *server.get_or_insert(chosen);
            assert_eq!(first, chosen, "{scheduler}, {workers} workers, {client}");
        }
    }
    let at_several = seen.iter().filter(|workers| workers.len() > 1).count();
    assert!(workers == 1 || at_several > CLIENTS / 2, "{at_several}");
    servers.into_iter().flatten().collect()
}

#[test]
fn persistent_clients_of_hashes_and_failover_have_the_same_server_with_any_number_of_workers() {
    for (scheduler, weights) in [
        (SchedulerKind::Sh, MIXED),
        (SchedulerKind::Mh, MIXED),
        (SchedulerKind::Dh, EQUAL),
        (SchedulerKind::Fo, MIXED),
    ] {
        let one = persistent(scheduler, weights, 1);
        for workers in 2..=4 {
            let many = persistent(scheduler, weights, workers);
            assert!(one == many, "{scheduler}, {workers} workers");
        }
    }
}

/// Which one it is depends on the worker that its first packet reached.
#[test]
fn persistent_clients_of_round_robin_have_one_server_each_and_servers_their_share_of_them() {
    let share = |servers: &[MacAddress]| {
        let mut shares = BTreeMap::new();
        for server in servers {
            *shares.entry(server.0).or_insert(0_u64) += 1;
        }
        shares
    };
    let one = share(&persistent(SchedulerKind::Rr, EQUAL, 1));
    assert!(one.values().all(|clients| *clients == 80), "{one:?}");
    for workers in 2..=4 {
        let many = share(&persistent(SchedulerKind::Rr, EQUAL, workers));
        for clients in many.values() {
            let bound = u64::from(workers);
            assert!(clients.abs_diff(80) <= bound, "{workers}: {many:?}");
        }
    }
}

#[test]
fn pipelines_that_share_a_service_fill_its_servers_as_one_would() {
    for scheduler in [SchedulerKind::Lc, SchedulerKind::Wlc] {
        let one = handshakes(scheduler, 1);
        assert_eq!(one.iter().sum::<u64>(), FLOWS);
        for workers in 2..=4 {
            let many = handshakes(scheduler, workers);
            assert_eq!(many.iter().sum::<u64>(), FLOWS);
            let worst = assert_near(scheduler.name(), &one, &many, workers);
            println!("{scheduler}, {workers} pipelines: at most {worst} off");
        }
    }
}
